"""Discrete actions: one of n choices, or several such choices at once, by logits.

`choices` says how many each action has. A network gives the logits of all of them side by side, `(..., sum(choices))`; an
action is the index of what is chosen for each, from 0, int64 `(..., len(choices))`. Beyond Brax, whose actions are real
numbers.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from torch_ppo.formulas.distribution import Columns, PolicyParams
from torch_ppo.formulas.noise import Noise

# Logit of what an action has not to choose from, where others have more: never chosen, and finite, so that 0 times it is 0.
NO_CHOICE = -1e30
LEAST_NOISE = 1e-30  # log(0) would be below NO_CHOICE


def per_action(logits: Tensor, choices: tuple[int, ...]) -> Tensor:
    """Logits `(..., sum(choices))` as `(..., len(choices), max(choices))`, `NO_CHOICE` where an action has fewer."""
    most = max(choices)
    if min(choices) == most:
        return logits.unflatten(-1, (len(choices), most))
    parts = zip(logits.split(choices, -1), choices, strict=True)
    return torch.stack([F.pad(part, (0, most - n), value=NO_CHOICE) for part, n in parts], -2)


def log_probs(logits: Tensor, choices: tuple[int, ...]) -> Tensor:
    """Log-probability of each choice, `(..., len(choices), max(choices))`."""
    return per_action(logits, choices).log_softmax(-1)


def scores(logits: Tensor, noise: Tensor, choices: tuple[int, ...]) -> Tensor:
    """Logits with noise, `(..., len(choices), max(choices))`, the largest of which is a sample.

    noise:  uniform in [0, 1), one number for each choice    (..., sum(choices))

    A uniform number becomes one of Gumbel's distribution (Maddison et al. 2014, arXiv:1411.0030): no sum of probabilities
    is rounded, so what has none is not chosen, and a graph can hold it.
    """
    return per_action(logits - (-noise.clamp(min=LEAST_NOISE).log()).log(), choices)


def log_prob(logits: Tensor, action: Tensor, choices: tuple[int, ...]) -> Tensor:
    """Log-probability of an action `(..., len(choices))`, its choices independent of each other: `(...,)`."""
    return log_probs(logits, choices).gather(-1, action.unsqueeze(-1)).squeeze(-1).sum(-1)


def entropy(logits: Tensor, choices: tuple[int, ...]) -> Tensor:
    """Entropy of the action, `(...,)`, exact: at most the sum of log(choices)."""
    each = log_probs(logits, choices)
    return -(each.exp() * each).sum((-2, -1))


def kl_divergence(old_logits: Tensor, logits: Tensor, choices: tuple[int, ...]) -> Tensor:
    """KL(old || new), `(...,)`, exact."""
    old, new = log_probs(old_logits, choices), log_probs(logits, choices)
    return (old.exp() * (old - new)).sum((-2, -1))


@dataclass(frozen=True)
class Categorical:
    """A `Distribution` of discrete actions, whose noise is uniform; `(logits,)` is what the network gives."""

    choices: tuple[int, ...]
    raw_dtype, limit, entropy_noise_dim, metrics = torch.int64, float("inf"), 0, ()

    @property
    def action_dim(self) -> int:
        return len(self.choices)

    @property
    def param_sizes(self) -> dict[str, int]:
        return {"logits": sum(self.choices)}

    @property
    def noise_dim(self) -> int:
        return sum(self.choices)

    def draw(self, noise: Noise, *leading: int) -> Tensor:
        return noise.uniform(*leading, self.noise_dim)

    def sample_raw(self, params: PolicyParams, noise: Tensor) -> Tensor:
        return scores(params[0], noise, self.choices).argmax(-1)

    def mode_raw(self, params: PolicyParams) -> Tensor:
        return per_action(params[0], self.choices).argmax(-1)

    def action(self, raw_action: Tensor) -> Tensor:
        return raw_action

    def log_prob(self, params: PolicyParams, raw_action: Tensor) -> Tensor:
        return log_prob(params[0], raw_action, self.choices)

    def entropy(self, params: PolicyParams, noise: Tensor) -> Tensor:
        return entropy(params[0], self.choices)

    def kl_divergence(self, old: PolicyParams, new: PolicyParams) -> Tensor:
        return kl_divergence(old[0], new[0], self.choices)

    def columns(self, params: PolicyParams) -> Columns:
        return Columns({}, {}, {})
