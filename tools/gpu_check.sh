#!/usr/bin/env bash
# All CUDA tests and benchmarks in under eight minutes, with a summary at the end.
#
#     tools/gpu_check.sh FOLDER        writes logs and JSON there
#
# Run in a checkout, with torch for CUDA, the project's packages and pytest installed. Nothing stops at a failure.
# Every option and every task compiled (six minutes on two CPU cores; not timed on CUDA) wants a call of its own:
#     python3 -m pytest -q -m slow tests/running/test_accelerate.py
set -u
out=${1:?folder for logs and JSON}
mkdir -p "$out"
export PYTHONPATH=.${PYTHONPATH:+:$PYTHONPATH}
summary=$out/summary.txt
: >"$summary"

step() { # name, limit in seconds, command...
    local name=$1 limit=$2 started=$SECONDS
    shift 2
    timeout "$limit" "$@" >"$out/$name.log" 2>&1
    echo "$name: status $?, $((SECONDS - started)) s" | tee -a "$summary"
}

nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm --format=csv >"$out/device.csv" 2>&1
step tests 130 python3 -m pytest -q tests/running/test_accelerate.py tests/simulation/test_env.py tests/envs/test_cartpole.py -p no:cacheprovider
step train 60 python3 -m torch_ppo.train --env cartpole --num-timesteps 5000000 --num-evals 3 --run-dir "$out/run"
step bench_levels 60 python3 -m tools.bench --config cartpole --windows 3 --set 'capture="physics"' compile=false --json "$out/bench_physics.json"
step bench_eager_graphs 45 python3 -m tools.bench --config cartpole --windows 5 --set compile=false --json "$out/bench_unroll_eager.json"
# Utilisation while training at the highest level.
nvidia-smi --query-gpu=utilization.gpu,power.draw --format=csv -l 1 >"$out/utilisation.csv" 2>&1 &
sampler=$!
step bench 60 python3 -m tools.bench --config cartpole --windows 7 --json "$out/bench.json" --profile "$out/traces"
kill $sampler
step bench_sizes 95 python3 -m tools.bench --config cartpole ant quadruped_joystick --num-envs 8192 --windows 3 --json "$out/bench_sizes.json"
step bench_bf16 30 python3 -m tools.bench --config cartpole --windows 3 --set bf16=true --json "$out/bench_bf16.json"

grep -hE "passed|failed|error" "$out/tests.log" | tail -n 3 | tee -a "$summary"
for log in bench_levels bench_eager_graphs bench bench_sizes bench_bf16 train; do
    echo "--- $log" | tee -a "$summary"
    tail -n 12 "$out/$log.log" | cut -c -160 | tee -a "$summary"
done
