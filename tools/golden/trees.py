"""Trees of arrays, as Brax has them, and what is recorded of them: flat vectors, and arrays by name."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Tree = Any  # nested dicts and dataclasses with arrays as leaves
WORKING_PRECISION = jnp.float64 if jax.config.jax_enable_x64 else jnp.float32


def device(values: np.ndarray) -> jax.Array:
    """A device array in the working precision; of integers, as they are."""
    values = np.asarray(values)
    return jnp.asarray(values, WORKING_PRECISION) if values.dtype.kind == "f" else jnp.asarray(values)


def spec(parameters: Tree) -> np.ndarray:
    """Order of the flat vector of `parameters`: strings "name:dim,dim"."""
    entries = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(parameters)[0]:
        name = "/".join(str(getattr(step, "key", getattr(step, "name", step))) for step in path)
        entries.append(f"{re.sub(r'^params/', '', name)}:{','.join(map(str, leaf.shape))}")
    return np.array(entries)


def flatten(parameters: Tree) -> np.ndarray:
    """All leaves as one vector, each in C order."""
    return np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree_util.tree_leaves(parameters)])


def unflatten(vector: np.ndarray, template: Tree) -> Tree:
    """The inverse of `flatten`: a tree like `template`, in the working precision."""
    leaves, structure = jax.tree_util.tree_flatten(template)
    sizes = [int(np.prod(leaf.shape)) for leaf in leaves]
    assert sum(sizes) == len(vector)
    pieces = np.split(np.asarray(vector), np.cumsum(sizes)[:-1])
    reshaped = [device(piece.reshape(leaf.shape)) for piece, leaf in zip(pieces, leaves, strict=True)]
    return jax.tree_util.tree_unflatten(structure, reshaped)


def named(name: str, tree: Tree) -> dict[str, Any]:
    """An array as {name: array}; a dict of arrays, such as asymmetric observations, as {name/key: array}."""
    return {f"{name}/{key}": leaf for key, leaf in tree.items()} if isinstance(tree, dict) else {name: tree}


def read_named(arrays: Mapping[str, Any], name: str) -> Tree:
    """The inverse of `named`; None if there is nothing of that name."""
    if name in arrays:
        return arrays[name]
    start = f"{name}/"
    return {key.removeprefix(start): array for key, array in arrays.items() if key.startswith(start)} or None
