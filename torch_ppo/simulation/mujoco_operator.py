"""C MuJoCo's rollout as one torch operator: a compiler leaves it closed, and compiles what stands on both sides of it."""

import itertools
import weakref
from collections.abc import Callable

import torch
from torch import Tensor

# Takes state (n, size of state) and held inputs (n, substeps, size of inputs); writes states and sensors of each substep.
Simulate = Callable[[Tensor, Tensor, Tensor, Tensor], None]

_worlds: weakref.WeakValueDictionary[int, object] = weakref.WeakValueDictionary()
_numbers = itertools.count()

# A few microseconds a call, a third of what torch.library.custom_op takes.
_library = torch.library.Library("torch_ppo", "FRAGMENT")
_library.define("rollout(int worlds, int num_sensors, Tensor state, Tensor held) -> (Tensor, Tensor)")


def number_of(worlds: object) -> int:
    """A number by which `rollout` finds `worlds`, which has a method `simulate` (`Simulate`), as long as it lives."""
    number = next(_numbers)
    _worlds[number] = worlds
    return number


def rollout(worlds: int, num_sensors: int, state: Tensor, held: Tensor) -> tuple[Tensor, Tensor]:
    """States `(n, substeps, size of state)` and sensors `(n, substeps, num_sensors)`, float64, of each substep.

    A function of its arguments: the solver starts cold, and worlds keep nothing.
    """
    return torch.ops.torch_ppo.rollout(worlds, num_sensors, state, held)


def _empty(worlds: int, num_sensors: int, state: Tensor, held: Tensor) -> tuple[Tensor, Tensor]:
    (n, size), substeps = state.shape, held.shape[1]
    return state.new_empty(n, substeps, size), state.new_empty(n, substeps, num_sensors)


def _rollout(worlds: int, num_sensors: int, state: Tensor, held: Tensor) -> tuple[Tensor, Tensor]:
    states, sensors = _empty(worlds, num_sensors, state, held)
    _worlds[worlds].simulate(*(x.numpy() for x in (state, held, states, sensors)))
    return states, sensors


_library.impl("rollout", _rollout, "CPU")
torch.library.register_fake("torch_ppo::rollout", _empty, lib=_library)
