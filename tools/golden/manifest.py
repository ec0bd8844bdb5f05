"""The manifest beside the arrays: shape, dtype, meaning, tolerance and float32 error of every key."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from tools.golden.descriptions import DESCRIPTIONS

ARRAYS, MANIFEST = "brax_golden.npz", "brax_golden_manifest.json"


def describe(key: str) -> dict[str, str]:
    """Description and tolerance of a key."""
    for pattern, description, tolerance in DESCRIPTIONS:
        if re.fullmatch(pattern, key):
            return {"description": description, "tolerance": tolerance}
    raise AssertionError(f"undescribed key {key}")


def float32_twin(key: str) -> str:
    """The key of the float32 output beside a float64 one; an empty string for any other key."""
    return key.replace("/out64/", "/out/", 1) if "/out64/" in key else ""


def make_manifest(arrays: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """An entry for every key. Where there is a float64 twin, with the float32 error and the twin's largest entry."""
    manifest = {}
    for key, array in arrays.items():
        if array.dtype.kind == "f":
            assert np.isfinite(array).all(), key
        manifest[key] = dict(shape=list(array.shape), dtype=str(array.dtype), **describe(key))
    for key, array in arrays.items():
        if twin := float32_twin(key):
            error = np.abs(arrays[twin].astype(np.float64) - array).max()
            manifest[twin].update(max_abs_diff_to_float64=float(error), max_abs=float(np.abs(array).max()))
    return manifest


def print_errors(manifest: dict[str, dict[str, Any]]) -> None:
    """The largest float32 error of each output of each group, and how large it is relative to the array's entries."""
    worst: dict[str, tuple[float, float]] = {}
    for key, entry in manifest.items():
        if "max_abs_diff_to_float64" in entry:
            output = f"{key.split('/')[0]}:{re.sub(r'[0-9]+', '#', key.partition('/out/')[2])}"
            error = entry["max_abs_diff_to_float64"]
            relative = error / max(entry["max_abs"], 1e-12)
            worst[output] = max(worst.get(output, (0.0, 0.0)), (error, relative))
    for output, (error, relative) in sorted(worst.items()):
        print(f"  {output:45s} max abs float32-float64 {error:.2e}  relative to largest {relative:.2e}")


def write_manifest(folder: Path) -> None:
    """Reads the arrays in a folder with plain numpy, checks that they are finite, and writes the manifest."""
    path = folder / ARRAYS
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    manifest = make_manifest(arrays)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=0, sort_keys=True))
    print(f"{len(arrays)} arrays, {path.stat().st_size / 1e6:.2f} MB")
    print_errors(manifest)
