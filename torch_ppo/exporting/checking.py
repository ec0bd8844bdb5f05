"""Whether an exported file does what the live policy does, asked in the file's own runtime."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from torch_ppo.exporting.errors import ExportError
from torch_ppo.learning.agent import Agent

NUM_PICTURES = 32  # where there is no vector beside them
TOLERANCE = 1e-5  # of actions, absolute; relative to those that are larger than 1

Act = Callable[..., Tensor]


def observations_to_try(agent: Agent, seen: tuple[Tensor, ...] | None, *, seed: int = 0) -> tuple[Tensor, ...]:
    """Observations for each input of a policy, n of each: those that were seen, random ones, and edge values.

    Random vectors are around what the normalizer knows; pictures are random, black and white.

    seen: observations of real episodes, m for each input, or None
    """
    generator, tried = torch.Generator().manual_seed(seed), {}
    if agent.policy_obs_key:
        statistics = agent.normalizer[agent.policy_obs_key]
        mean, std = (x.detach().cpu().repeat(statistics.frames) for x in (statistics.mean, statistics.std))
        noise = torch.randn(256, statistics.obs_dim, generator=generator)
        tried[agent.policy_obs_key] = torch.cat([mean + 3.0 * std * noise, edge_values(mean, std)])
    number = len(tried[agent.policy_obs_key]) if tried else NUM_PICTURES
    for key in agent.pixel_keys:
        pictures = torch.randint(256, (number, *agent.observation_sizes[key]), generator=generator, dtype=torch.uint8)
        pictures[0], pictures[1] = 0, 255
        tried[key] = pictures
    inputs = tuple(tried[key] for key in agent.policy_obs_keys)
    if seen is not None and len(seen[0]):
        inputs = tuple(torch.cat([real.cpu(), x]) for real, x in zip(seen, inputs, strict=True))
    return inputs


def edge_values(mean: Tensor, std: Tensor) -> Tensor:
    """Rows of what is rare: nothing, the mean, far away in all numbers and in one, tiny, and NaN in all and in one."""
    size = len(mean)
    one = torch.eye(size)[torch.tensor([0, size // 2, size - 1]).unique()]
    whole = [torch.zeros(size), mean, mean + 20 * std, mean - 20 * std, torch.full((size,), 1e-30)]
    with_nan = torch.where(one.bool(), torch.nan, mean)
    return torch.cat([torch.stack(whole), mean + 100 * std * one, with_nan, torch.full((1, size), torch.nan)])


def largest_difference(found: Tensor, live: Tensor, unit: Tensor | float = 1.0) -> float:
    """Of actions, relative to those that are larger than `unit` `(action_dim,)`; inf if only one of them is NaN."""
    if found.shape != live.shape:
        raise ExportError(f"actions have shape {tuple(found.shape)}, expected {tuple(live.shape)}")
    if not torch.equal(found.isnan(), live.isnan()):
        return torch.inf
    difference = ((found - live).abs() / torch.maximum(live.abs(), torch.as_tensor(unit))).nan_to_num(
        0.0, posinf=torch.inf
    )
    return difference.max().item() if difference.numel() else 0.0


def largest_regret(found: Tensor, scores: Tensor, choices: tuple[int, ...]) -> float:
    """By how much what was chosen scores less than the best choice, relative to scores larger than 1; inf if it is none.

    found:   indices                                                        (..., len(choices)) int64
    scores:  of all choices, of which those that are NaN tell nothing       (..., len(choices), max(choices))

    Indices themselves jump where two choices score the same but for rounding.
    """
    if found.shape != scores.shape[:-1]:
        raise ExportError(f"actions have shape {tuple(found.shape)}, expected {tuple(scores.shape[:-1])}")
    if found.dtype != torch.int64:
        raise ExportError(f"actions are {str(found.dtype).removeprefix('torch.')}, expected int64")
    if ((found < 0) | (found >= torch.tensor(choices))).any():
        return torch.inf
    best = scores.amax(-1)
    regret = (best - scores.gather(-1, found.unsqueeze(-1)).squeeze(-1)) / best.abs().clamp(min=1.0)
    known = regret[~scores.isnan().any(-1)]
    return known.max().item() if known.numel() else 0.0


@torch.no_grad()
def check(
    act: Act,
    live: Act,
    observations: tuple[Tensor, ...],
    noise: Tensor | None,
    *,
    leading_axes: bool,
    unit: Tensor | float = 1.0,
    choices: tuple[int, ...] | None = None,
    tolerance: float = TOLERANCE,
) -> float:
    """Largest difference between the policy of a file and the live one; ExportError if it is above `tolerance`.

    Both are asked for all `observations` `(n, obs_dim)`, for each input, at once and for some alone; with `leading_axes`
    also as `(2, n / 2, obs_dim)` and `(obs_dim,)`. `noise` `(n, action_dim)` is for a stochastic policy; `unit`
    `(action_dim,)` is what an action of 1 becomes, where that is more than 1. With `choices` the file gives indices, and the
    live policy scores, see `largest_regret`.
    """
    inputs = observations if noise is None else (*observations, noise)
    n = len(observations[0])
    batches = [inputs, *(tuple(x[i : i + 1] for x in inputs) for i in (0, n // 2, n - 1))]
    if leading_axes:
        batches += [tuple(x[: n // 2 * 2].unflatten(0, (2, -1)) for x in inputs), tuple(x[0] for x in inputs)]
    expected = live(*inputs)
    finite = torch.stack([x.isfinite().flatten(1).all(1) for x in observations]).all(0)
    if not expected[finite].isfinite().all():
        raise ExportError("actions of the live policy are inf or nan")
    compare = partial(largest_difference, unit=unit) if choices is None else partial(largest_regret, choices=choices)
    largest = max(compare(act(*batch), live(*batch)) for batch in batches)
    if largest > tolerance:
        raise ExportError(f"actions differ from the live policy by {largest:.3g}, more than {tolerance:.3g}")
    return largest
