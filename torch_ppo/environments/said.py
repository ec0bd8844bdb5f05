"""What an environment of others says of itself, read and checked: EnvironmentMisfit for what cannot be."""

import inspect
import math
import operator
from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import numpy as np
import torch
from torch import Tensor

from torch_ppo.environments.contract import MOST_CHOICES, EnvironmentMisfit, Steps


def check_calls(env: Steps, name: str) -> None:
    """EnvironmentMisfit for a reset or step that cannot be called as it will be."""
    for method, given in (("reset", ()), ("step", ("action",))):
        try:
            inspect.signature(getattr(env, method)).bind(*given)
        except TypeError as error:
            raise EnvironmentMisfit(f"{name}.{method} is called as {method}({', '.join(given)}), but {error}") from None
        except ValueError:  # of a function that does not tell
            pass


def whole_number(env: Steps, what: str, name: str) -> int:
    """The int, 1 or greater, that it says; also one of NumPy's."""
    value = getattr(env, what, 1)
    try:
        found = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        found = 0
    if found < 1:
        raise EnvironmentMisfit(f"{name}.{what} is {value!r}, but must be an int, 1 or greater")
    return found


def range_of(env: Steps, name: str) -> tuple[float, float]:
    """Least and greatest reward of an env step, endless where it does not say."""
    given = getattr(env, "reward_range", None)
    if given is None:
        return -math.inf, math.inf
    try:
        low, high = map(float, given)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not low <= high:
        raise EnvironmentMisfit(f"{name}.reward_range is {given!r}, but must be two numbers, such as (0.0, 1.0)")
    return low, high


def check_device(env: Steps, device: torch.device, name: str) -> None:
    """EnvironmentMisfit if its tensors are elsewhere, as it says."""
    given = getattr(env, "device", None)
    try:
        kind = device.type if given is None else torch.device(given).type
    except (TypeError, ValueError, RuntimeError):
        kind = None
    if kind != device.type:
        raise EnvironmentMisfit(f"{name}.device is {given!r}, but device is {device}")


def as_tensor(value: object, device: torch.device) -> Tensor | None:
    """Numbers as a tensor on the device; None if it is something else."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        # torch takes no array that is read-only, runs backwards, or has the other order of bytes or more of them.
        kind = np.float64 if value.dtype.kind == "f" and value.dtype.itemsize > 8 else value.dtype.newbyteorder("=")
        value = np.require(value, kind, ("C", "W"))
    try:
        x = torch.as_tensor(value, device=device)
    except (TypeError, ValueError, RuntimeError):
        return None
    return None if x.is_complex() or x.layout != torch.strided else x


def described(value: object) -> str:
    """Its type, and of tensors and arrays of what they are, and how many."""
    if not isinstance(value, Tensor | np.ndarray):
        return type(value).__name__
    kind = "" if isinstance(value, Tensor) else "array "
    where = ""
    if isinstance(value, Tensor):
        where = " on meta" if value.is_meta else " of another layout" if value.layout != torch.strided else ""
    return f"{str(value.dtype).removeprefix('torch.')} {kind}{tuple(value.shape)}{where}"


def choices_of(env: Steps, name: str) -> tuple[int, ...] | None:
    """How many choices each action has, or None; EnvironmentMisfit if that cannot be."""
    found = getattr(env, "choices", None)
    if found is None:
        return None
    try:
        given = () if isinstance(found, Mapping | AbstractSet) else tuple(found)  # which have no order of their own
        choices = () if any(isinstance(n, bool) for n in given) else tuple(map(operator.index, given))
    except TypeError:
        choices = ()
    if len(choices) != env.action_dim or min(choices, default=0) < 1:
        raise EnvironmentMisfit(
            f"{name}.choices is {found!r}, but must be as many ints, 1 or greater, as action_dim = {env.action_dim}, such as "
            f"{(2,) * min(env.action_dim, 4)}"
        )
    if sum(choices) > MOST_CHOICES:
        raise EnvironmentMisfit(
            f"{name}.choices has {sum(choices):,} choices, but {MOST_CHOICES:,} at most can be had, as each is an output of the "
            "policy; several actions of fewer choices each could say the same"
        )
    return choices
