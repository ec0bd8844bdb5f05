"""From actions to controls: what stands between a policy and the actuators of a robot."""

from typing import NamedTuple

import torch
from torch import Tensor


class Scaling(NamedTuple):
    """What becomes of an action, for each actuator; controls are in the actuator's unit (Nm, rad, ...).

    offset:  control of an action of 0                      (nu,)
    scale:   control per action                             (nu,)
    lower:   least control that has an effect, else -inf    (nu,)
    upper:   greatest, else inf                             (nu,)
    """

    offset: Tensor
    scale: Tensor
    lower: Tensor
    upper: Tensor


def controls_of(action: Tensor, scaling: Scaling) -> Tensor:
    """offset + scale * action, `(..., nu)`; beyond the range where the action is."""
    return scaling.offset + scaling.scale * action


def within_range(controls: Tensor, scaling: Scaling) -> Tensor:
    """Controls `(..., nu)` as MuJoCo takes them: no further than the actuator's range."""
    return torch.clamp(controls, scaling.lower, scaling.upper)
