"""Action distributions: what all have, and a diagonal normal, optionally squashed by tanh.

Networks give `loc` and `scale` of the normal. What follows it is a `Bijector`: tanh for Brax's
`tanh_normal`, nothing for `normal`. All functions are elementwise over leading axes `(...,)` and
reduce the last axis, the action. `categorical` has discrete actions.

The *raw* action is the sample before the bijector. Log-probabilities take raw actions, so tanh is
never inverted. Source: brax/training/distribution.py.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from torch_ppo.formulas.noise import Noise

# What a policy network gives for a state: loc and scale, or logits; each `(..., size)`.
PolicyParams = tuple[Tensor, ...]

MIN_STD = 0.001
LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
SOFTPLUS_THRESHOLD = 40.0  # linear above; torch's default of 20 is visible in float64


def as_params(given: Tensor | PolicyParams) -> PolicyParams:
    """What a policy network gives, as a tuple: one of discrete actions gives a tensor."""
    return (given,) if isinstance(given, Tensor) else given


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


class Columns(NamedTuple):
    """Numbers of each state `(...,)` by the names of their metrics, which are their means, largest and least values."""

    mean: dict[str, Tensor]
    largest: dict[str, Tensor]
    least: dict[str, Tensor]


class Distribution(Protocol):
    """Of actions, by what a policy network gives for a state.

    What is drawn, stored, and asked for its probability is the *raw action*; the env gets what `action` makes of it.

    action_dim:    numbers in an action
    choices:       how many each of them chooses from, if actions are discrete; else None
    param_sizes:   of what the network gives, by name
    raw_dtype:     of raw actions; None is torch's default
    limit:         size that no action reaches; inf where there is none
    noise_dim, entropy_noise_dim:  random numbers that a sample takes, and an entropy
    metrics:       names of `columns`
    """

    action_dim: int
    choices: tuple[int, ...] | None
    param_sizes: dict[str, int]
    raw_dtype: torch.dtype | None
    limit: float
    noise_dim: int
    entropy_noise_dim: int
    metrics: tuple[str, ...]

    def draw(self, noise: Noise, *leading: int) -> Tensor:
        """What `sample_raw` takes, `(*leading, noise_dim)`."""

    def sample_raw(self, params: PolicyParams, noise: Tensor) -> Tensor:
        """Raw action `(..., action_dim)`."""

    def mode_raw(self, params: PolicyParams) -> Tensor:
        """The raw action of `mode`, `(..., action_dim)`."""

    def action(self, raw_action: Tensor) -> Tensor:
        """What the env gets, `(..., action_dim)`."""

    def log_prob(self, params: PolicyParams, raw_action: Tensor) -> Tensor:
        """Of the action, `(...,)`."""

    def entropy(self, params: PolicyParams, noise: Tensor) -> Tensor:
        """`(...,)`, from standard normal noise `(..., entropy_noise_dim)`."""

    def kl_divergence(self, old: PolicyParams, new: PolicyParams) -> Tensor:
        """KL(old || new), `(...,)`."""

    def columns(self, params: PolicyParams) -> Columns:
        """What is reported of it."""


@dataclass(frozen=True)
class Normal:
    """A diagonal normal and its bijector; a `Distribution` whose noise is standard normal."""

    action_dim: int
    bijector: Bijector
    choices = raw_dtype = None
    metrics = tuple(f"policy_dist_{part}" for part in "mean_std max_std min_std mean_loc max_loc min_loc".split())

    @property
    def param_sizes(self) -> dict[str, int]:
        return {"loc": self.action_dim, "scale": self.action_dim}

    @property
    def noise_dim(self) -> int:
        return self.action_dim

    @property
    def entropy_noise_dim(self) -> int:
        return self.action_dim

    @property
    def limit(self) -> float:
        return self.bijector.forward(torch.tensor(math.inf)).item()

    def draw(self, noise: Noise, *leading: int) -> Tensor:
        return noise.normal(*leading, self.action_dim)

    def sample_raw(self, params: PolicyParams, noise: Tensor) -> Tensor:
        return sample_raw(*params, noise)

    def mode_raw(self, params: PolicyParams) -> Tensor:
        return params[0]

    def action(self, raw_action: Tensor) -> Tensor:
        return self.bijector.forward(raw_action)

    def log_prob(self, params: PolicyParams, raw_action: Tensor) -> Tensor:
        return log_prob(*params, raw_action, self.bijector)

    def entropy(self, params: PolicyParams, noise: Tensor) -> Tensor:
        return entropy(*params, noise, self.bijector)

    def kl_divergence(self, old: PolicyParams, new: PolicyParams) -> Tensor:
        return kl_divergence(*old, *new)

    def columns(self, params: PolicyParams) -> Columns:
        loc, scale = (x.detach() for x in params)
        return Columns(
            mean={"policy_dist_mean_std": scale.mean(-1), "policy_dist_mean_loc": loc.mean(-1)},
            largest={"policy_dist_max_std": scale.amax(-1), "policy_dist_max_loc": loc.amax(-1)},
            least={"policy_dist_min_std": scale.amin(-1), "policy_dist_min_loc": loc.amin(-1)},
        )
