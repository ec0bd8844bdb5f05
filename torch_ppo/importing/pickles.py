"""Pickles without their code: arrays are rebuilt, everything else becomes an inert record of what it was.

A pickle is a program, which may call anything that is importable. This reader lets it call NumPy's and JAX's own
functions that put arrays together, and nothing else; so a class need not be installed to be read either.
"""

import codecs
import collections
import io
import pickle
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy._core import multiarray

from torch_ppo.importing.imported import ForeignError


class Inert:
    """Stands for an object of a class or a function that was not called.

    name:   module and class
    args:   what it was called with
    state:  what was put into it: attributes by name, mostly
    """

    name = ""

    def __new__(cls, *args: object, **kwargs: object) -> Self:
        made = super().__new__(cls)  # a pickle may leave out __init__
        made.__dict__.update(args=args, state=kwargs, items={})
        return made

    def __init__(self, *args: object, **kwargs: object) -> None:
        """Nothing is done with what it is called with."""

    def __setstate__(self, state: object) -> None:
        self.state = state

    def __setitem__(self, key: object, value: object) -> None:
        self.items[key] = value

    def append(self, value: object) -> None:
        self.items[len(self.items)] = value

    def extend(self, values: list) -> None:
        for value in values:
            self.append(value)

    def add(self, value: object) -> None:
        self.append(value)

    def __getattr__(self, name: str) -> Any:
        state = self.__dict__.get("state")
        if isinstance(state, dict) and name in state:
            return state[name]
        raise AttributeError(name)

    def __call__(self, *args: object, **kwargs: object) -> "Inert":
        return Inert(*args, **kwargs)


def _jax_array(function: Any, args: tuple, array_state: tuple, aval_state: object) -> np.ndarray:
    """What `jax._src.array._reconstruct_array` makes, as NumPy's."""
    array = function(*args)
    array.__setstate__(array_state)
    return array


def _array_scalar(dtype: np.dtype, content: bytes = b"") -> np.generic:
    return multiarray.scalar(_plain_dtype(dtype), content)


def _from_buffer(
    buffer: bytes, dtype: np.dtype, shape: tuple, order: str = "C", axis_order: object = None
) -> np.ndarray:
    return np.frombuffer(buffer, _plain_dtype(dtype)).reshape(shape, order=order).copy()


def _plain_dtype(dtype: object) -> np.dtype:
    if not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise pickle.UnpicklingError(f"an array of {dtype}")
    return dtype


def _encode(text: str, encoding: str = "utf-8") -> bytes:
    return codecs.encode(text, encoding)  # protocol 2's bytes


_KNOWN = {
    **{f"{module}.{name}": made for module in ("numpy._core.multiarray", "numpy.core.multiarray")
       for name, made in (("_reconstruct", multiarray._reconstruct), ("scalar", _array_scalar))},
    **{f"{module}._frombuffer": _from_buffer for module in ("numpy._core.numeric", "numpy.core.numeric")},
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    "jax._src.array._reconstruct_array": _jax_array,
    "jax._src.device_array.reconstruct_device_array": _jax_array,  # before 0.4
    "collections.OrderedDict": collections.OrderedDict,
    "_codecs.encode": _encode,
}  # fmt: skip


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        known = _KNOWN.get(f"{module}.{name}")
        return known or type(name.rpartition(".")[2] or "Inert", (Inert,), {"name": f"{module}.{name}"})

    def persistent_load(self, pid: object) -> Inert:
        return Inert(pid)


def read_pickle(path: Path, *, trusted: bool) -> object:
    """What is in a pickle. ForeignError if it is none, is damaged, or is not trusted."""
    if not trusted:
        raise ForeignError(
            f"{path} is a pickle, which may have code in it; if its source is to be trusted, add --trust"
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ForeignError(f"{path} cannot be read: {error.strerror}") from None
    try:
        return _Reader(io.BytesIO(content)).load()
    except Exception as error:  # noqa: BLE001 - whatever a stream of wrong bytes makes of the reader
        reason = str(error).partition("\n")[0]
        raise ForeignError(f"{path} is not a whole pickle of arrays: {reason or type(error).__name__}") from None
