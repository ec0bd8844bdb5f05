"""Copies of state: nests of dicts with tensors, as envs and agents keep them."""

from torch import Tensor


def copy_into(live: object, saved: object, path: str = "") -> None:
    """Copies saved tensors into live ones of the same structure, in place; ValueError names a mismatch."""
    if isinstance(live, Tensor):
        if not isinstance(saved, Tensor) or live.shape != saved.shape:
            found = tuple(saved.shape) if isinstance(saved, Tensor) else saved
            raise ValueError(f"{path} is {found} in the checkpoint, but {tuple(live.shape)} here")
        live.copy_(saved)
        return
    if not isinstance(saved, dict) or live.keys() != saved.keys():
        raise ValueError(f"{path or 'the state'} has other entries in the checkpoint")
    for name, value in live.items():
        copy_into(value, saved[name], f"{path}.{name}" if path else name)


def clone(live: object) -> object:
    """A copy of a nested dict of tensors."""
    if isinstance(live, Tensor):
        return live.detach().clone()
    return {name: clone(value) for name, value in live.items()}
