"""Action distributions: a diagonal normal, optionally squashed by tanh.

Networks give `loc` and `scale` of the normal. What follows it is a `Bijector`: tanh for Brax's
`tanh_normal`, nothing for `normal`. All functions are elementwise over leading axes `(...,)` and
reduce the last axis, the action.

The *raw* action is the sample before the bijector. Log-probabilities take raw actions, so tanh is
never inverted. Source: brax/training/distribution.py.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

MIN_STD = 0.001
LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
SOFTPLUS_THRESHOLD = 40.0  # linear above; torch's default of 20 is visible in float64


class Bijector(NamedTuple):
    """An elementwise map of raw actions to actions, with the log of its derivative."""

    forward: Callable[[Tensor], Tensor]
    log_det: Callable[[Tensor], Tensor]


def tanh_log_det(x: Tensor) -> Tensor:
    """log(1 - tanh(x)^2), elementwise, stable for any x."""
    return 2.0 * (math.log(2.0) - x - F.softplus(-2.0 * x, threshold=SOFTPLUS_THRESHOLD))


DISTRIBUTIONS = {
    "tanh_normal": Bijector(torch.tanh, tanh_log_det),
    "normal": Bijector(lambda x: x, torch.zeros_like),
}


def tanh_normal_params(logits: Tensor, min_std: float = MIN_STD, var_scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """Splits network outputs `(..., 2 * action_dim)` into loc and scale, each `(..., action_dim)`."""
    loc, raw_scale = logits.chunk(2, dim=-1)
    scale = F.softplus(raw_scale, threshold=SOFTPLUS_THRESHOLD) + min_std
    return loc, scale if var_scale == 1.0 else scale * var_scale


def sample_raw(loc: Tensor, scale: Tensor, noise: Tensor) -> Tensor:
    """Raw action `(..., action_dim)` from standard normal noise of the same shape."""
    return torch.addcmul(loc, scale, noise)


def log_prob(loc: Tensor, scale: Tensor, raw_action: Tensor, bijector: Bijector) -> Tensor:
    """Log-density of the action `bijector(raw_action)`: `(..., action_dim)` -> `(...,)`."""
    normal = -0.5 * (raw_action / scale - loc / scale).square() - LOG_SQRT_2PI - scale.log()
    return (normal - bijector.log_det(raw_action)).sum(-1)


def entropy(loc: Tensor, scale: Tensor, noise: Tensor, bijector: Bijector) -> Tensor:
    """Entropy of the action, `(...,)`.

    Exact for the normal part. The log-det part is estimated from the one sample `loc + scale * noise`,
    through which gradients flow; it may make the estimate negative.
    """
    normal = 0.5 + LOG_SQRT_2PI + scale.log()
    return (normal + bijector.log_det(sample_raw(loc, scale, noise))).sum(-1)


def kl_divergence(old_loc: Tensor, old_scale: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """KL(old || new) of the normals before the bijector, `(...,)`.

    Brax adds 1e-5 inside the logarithm, so equal distributions give action_dim * 1e-5.
    """
    variance = scale.square()
    per_dim = (
        torch.log(scale / old_scale + 1e-5) + (old_scale.square() + (old_loc - loc).square()) / (2.0 * variance) - 0.5
    )
    return per_dim.sum(-1)
