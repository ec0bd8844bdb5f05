#!/usr/bin/env bash
# What a machine with a CUDA device has to tell, in three commands of less than ten minutes:
#
#     tools/gpu_check.sh FOLDER first      does it run, is it right, and the guide's cart-pole
#     tools/gpu_check.sh FOLDER second     how fast is it
#     tools/gpu_check.sh FOLDER third      would it be faster compiled otherwise; Brax beside it, where it is installed
#
# FOLDER/gpu_check.json has everything. `--device cpu` rehearses it. tools/gpu_check.py says what is done, and in which order.
# Packages that are not installed may lie in a folder on PYTHONPATH, with their .dist-info.
set -eu
cd "$(dirname "$0")/.."
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
exec "${PYTHON:-python3}" -m tools.gpu_check "$@"
