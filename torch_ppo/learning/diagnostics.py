"""What training looks like inside: episodes, actions, observations and peaks, summed on the device between two reports."""

import math

import torch
from torch import Tensor

from torch_ppo.environments.contract import Environment
from torch_ppo.formulas.losses import metric_names
from torch_ppo.learning.agent import Agent
from torch_ppo.learning.batch import Batch
from torch_ppo.learning.update import OF_STEP
from torch_ppo.settings.config import Config
from torch_ppo.simulation.host import host_can_ask

# A squashed action beyond this share of its limit hardly changes when the network does.
SATURATED = 0.99
NUM_BINS = 50
# Of which the largest value in an SGD step is told beside the mean.
PEAKS = ("approx_kl", "grad_norm", "v_loss")


def bin_edges(low: float, high: float) -> list[float]:
    """Inner edges of `NUM_BINS` bins: equal ones from `low` to `high`, or where those are not finite by magnitude."""
    if math.isfinite(low) and math.isfinite(high):
        return [low + (high - low) * i / NUM_BINS for i in range(1, NUM_BINS)]
    half = NUM_BINS // 2  # 1e-3 to 1e6 on either side of 0
    positive = [10 ** (-3 + 9 * i / (half - 2)) for i in range(half - 1)]
    return [*(-x for x in reversed(positive)), 0.0, *positive]


class Diagnostics:
    """Of all unrolls since `clear`. Everything in `look` happens to tensors that stay where they are, to be recorded.

    names:            of the totals of an episode, as `Env.episode_totals` has them
    counts:           whole episodes, terminations, truncations, saturated actions, looked-at actions   (5,) int64
    episode_sums:     over whole episodes, of each total; means per step of a "..._per_step"            (n,) float64
    lowest, highest:  of length and sum_reward of whole episodes                                        (2,)
    bins:             whole episodes by length and by sum_reward                                        (2, NUM_BINS) int64
    ranges:           of each observation that a network sees, least and greatest value                 (2, obs_dim)
    peaks:            largest values of `PEAKS` in an SGD step                                          (len(PEAKS),)
    normalizer_was:   mean and std of each observation when `clear` was called last                     (2, dim)
    """

    def __init__(self, config: Config, env: Environment, agent: Agent, record: Batch) -> None:
        self.env, self.agent, self.record = env, agent, record
        device = env.device
        others = (name for name in env.episode_metrics if name not in ("length", "sum_reward"))
        self.names = ("length", "sum_reward", *others)
        n = len(self.names)
        self.counts = torch.zeros(5, dtype=torch.int64, device=device)
        self.episode_sums = torch.zeros(n, dtype=torch.float64, device=device)
        self.lowest, self.highest = (torch.zeros(2, device=device) for _ in range(2))
        self.bins = torch.zeros(2, NUM_BINS, dtype=torch.int64, device=device)
        low, high = (limit * env.episode_length for limit in env.reward_range)
        self.edges = [bin_edges(0.0, env.episode_length), bin_edges(low, high)]
        self._edges = torch.tensor(self.edges, device=device)
        self._per_step = torch.tensor([[name.endswith("per_step")] for name in self.names], device=device)
        sizes = env.observation_sizes
        self.ranges = {key: torch.zeros(2, sizes[key], device=device) for key in agent.normalizer}
        # Statistics are of one frame where an observation is a stack of them.
        self.normalizer_was = {key: torch.zeros(2, len(x.mean), device=device) for key, x in agent.normalizer.items()}
        self.peaks = torch.zeros(len(PEAKS), device=device)
        columns = (*metric_names(agent.distribution), *OF_STEP)
        self._peak_columns = [columns.index(name) for name in PEAKS]
        # tanh leaves actions within 1; a normal distribution has no such limit, and what counts is the control's range.
        self._limit = SATURATED * agent.distribution.limit
        self._control_range = env.control_range  # (2, nu)
        self.clear()

    def state(self) -> dict[str, object]:
        """The live tensors that, copied back, continue the interval exactly."""
        return {
            "counts": self.counts,
            "episode_sums": self.episode_sums,
            "lowest": self.lowest,
            "highest": self.highest,
            "bins": self.bins,
            "ranges": self.ranges,
            "peaks": self.peaks,
            "normalizer_was": self.normalizer_was,
        }

    @torch.no_grad()
    def clear(self) -> None:
        """Begins a new interval."""
        for tensor in (self.counts, self.episode_sums, self.bins):
            tensor.zero_()
        self.lowest.fill_(math.inf)
        for tensor in (self.highest, self.peaks):
            tensor.fill_(-math.inf)
        for low, high in self.ranges.values():
            low.fill_(math.inf)
            high.fill_(-math.inf)
        for key, was in self.normalizer_was.items():
            was.copy_(self._normalizer(key))

    def _normalizer(self, key: str) -> Tensor:
        statistics = self.agent.normalizer[key]
        return torch.stack([statistics.mean, statistics.std])

    @torch.no_grad()
    def look(self) -> None:
        """Takes in the unroll that was just recorded; reads nothing from the device unless that is the CPU."""
        record = self.record
        for key, (low, high) in self.ranges.items():
            rows = record.observation[key].flatten(0, 1)
            torch.minimum(low, rows.amin(0), out=low)
            torch.maximum(high, rows.amax(0), out=high)
        saturated = self._saturated()
        done = record.episode_done.bool()  # (T, num_envs)
        ends = (done, record.termination, record.truncation, saturated)
        counts = [x.sum().to(torch.int64) for x in ends]
        self.counts += torch.stack([*counts, torch.full_like(counts[0], saturated.numel())])
        if host_can_ask(done) and not done.any():
            return
        totals = record.episode_totals  # (T, n, num_envs)
        values = torch.where(self._per_step, totals / totals[:, :1].clamp(min=1.0), totals)
        whole = done[:, None]
        self.episode_sums += torch.where(whole, values, 0.0).to(torch.float64).sum((0, 2))
        shown = values[:, :2]
        torch.minimum(self.lowest, torch.where(whole, shown, math.inf).amin((0, 2)), out=self.lowest)
        torch.maximum(self.highest, torch.where(whole, shown, -math.inf).amax((0, 2)), out=self.highest)
        ones = done.flatten().to(torch.int64)
        for row, edges, x in zip(self.bins, self._edges, shown.unbind(1), strict=True):
            row.index_add_(0, torch.bucketize(x.flatten().contiguous(), edges), ones)

    def _saturated(self) -> Tensor:
        """Where an action has come to its limit, bool, of any shape."""
        record = self.record
        if math.isfinite(self._limit):
            return self.agent.distribution.action(record.raw_action).abs() > self._limit
        if record.final_state is None:
            return torch.zeros_like(record.reward, dtype=torch.bool)
        low, high = self._control_range
        controls = record.final_state[..., record.final_state.shape[-1] - len(low) :]
        return (controls <= low) | (controls >= high)

    @torch.no_grad()
    def look_at_updates(self, metrics: Tensor) -> None:
        """Takes in `Learner.metrics` of a training step."""
        torch.maximum(self.peaks, metrics[:, self._peak_columns].amax(0), out=self.peaks)

    @torch.no_grad()
    def _observations(self) -> Tensor:
        """Of all vectors: largest size as the networks see it, share of columns without change, drift of the
        normalizer `(3,)`; NaN where the networks see pixels alone.

        Drift is the largest change of a mean in standard deviations, or of the logarithm of one.
        """
        if not self.ranges:
            return torch.full((3,), math.nan, device=self.counts.device)
        sizes, constant, drifts = [], [], []
        for key, range_ in self.ranges.items():
            statistics, (mean, std) = self.agent.normalizer[key], self.normalizer_was[key]
            seen = statistics.normalize(range_) if self.agent.normalize_observations else range_
            sizes.append(seen.abs().amax())
            newest = range_[:, -len(statistics.mean) :]
            constant.append(newest[0] == newest[1])
            shift = ((statistics.mean - mean) / std).abs().amax()
            drifts.append(torch.maximum(shift, (statistics.std / std).log().abs().amax()))
        return torch.stack(
            [torch.stack(sizes).amax(), torch.cat(constant).to(torch.float32).mean(), torch.stack(drifts).amax()]
        )

    def read(self) -> tuple[dict[str, float], dict[str, tuple[list[float], list[int]]]]:
        """Numbers of the interval by name, and histograms: inner edges and counts. One read from the device.

        What there was none of, such as whole episodes, is not there.
        """
        parts = {
            "counts": self.counts,
            "sums": self.episode_sums,
            "lowest": self.lowest,
            "highest": self.highest,
            "peaks": self.peaks,
            "observations": self._observations(),
            "bins": self.bins.flatten(),
        }
        numbers = torch.cat([x.to(torch.float64) for x in parts.values()]).tolist()
        at, values = 0, {}
        for name, x in parts.items():
            values[name], at = numbers[at : at + len(x)], at + len(x)
        episodes, terminations, truncations, saturated, actions = values["counts"]
        of_vectors = dict(
            zip(("observation_max", "constant_observations", "normalizer_drift"), values["observations"], strict=True)
        )
        if not self.agent.normalize_observations:
            del of_vectors["normalizer_drift"]  # of statistics by which nobody sees
        found = {
            "whole_episodes": episodes,
            "terminations": terminations,
            "truncations": truncations,
            **({} if self.agent.distribution.choices else {"saturated_actions": saturated / max(actions, 1.0)}),
            **(of_vectors if self.ranges else {}),
            **{f"{name}_max": x for name, x in zip(PEAKS, values["peaks"], strict=True)},
        }
        if not episodes:
            return found, {}
        for name, total in zip(self.names, values["sums"], strict=True):
            shown = name if name == "success_rate" else f"episode_{'reward' if name == 'sum_reward' else name}"
            found[shown] = total / episodes
        for i, name in enumerate(("episode_length", "episode_reward")):
            found |= {f"{name}_min": values["lowest"][i], f"{name}_max": values["highest"][i]}
        by_length, by_reward = values["bins"][:NUM_BINS], values["bins"][NUM_BINS:]
        histograms = {"episode_length": by_length, "episode_reward": by_reward}
        return found, {
            name: (edges, [int(n) for n in counts])
            for (name, counts), edges in zip(histograms.items(), self.edges, strict=True)
        }
