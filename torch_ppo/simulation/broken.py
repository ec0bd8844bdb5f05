"""Worlds that went bad: found in every step, by cause, without reading from the device."""

from collections.abc import Iterable

import torch
from torch import Tensor

from torch_ppo.simulation.host import host_can_ask
from torch_ppo.simulation.task import Observation


class BrokenWorlds:
    """Tells which worlds have a state beyond `max_state`, or an observation, reward or metric that is inf or NaN.

    causes:   what can be bad, in the order in which it is blamed
    given:    reward and metrics of the last step, in their order,
              which the env writes                                   (1 + num_metrics, num_envs)
    reward:   row of `given`                                         (num_envs,)
    metrics:  rows of `given`                                        (num_envs,) per name
    cause:    of the last step: 0 where a world is sound, else 1 +
              the place of its first cause in `causes`               (num_envs,)
    counts:   of broken worlds so far, by cause                      (num_causes,) int64
    """

    def __init__(
        self,
        num_envs: int,
        observations: Iterable[str],
        metric_names: Iterable[str],
        *,
        device: torch.device,
        max_state: float,
    ) -> None:
        observations, metric_names = tuple(observations), tuple(metric_names)
        self.causes = (
            "state",
            *(f'observation "{key}"' for key in observations),
            "reward",
            *(f'metric "{name}"' for name in metric_names),
        )
        n, self._seen = len(self.causes), observations
        self.given = torch.zeros(1 + len(metric_names), num_envs, device=device)
        self.reward = self.given[0]
        self.metrics = dict(zip(metric_names, self.given[1:], strict=True))
        self.cause = torch.zeros(num_envs, device=device)  # not int: copied along with what else comes of a step
        self.counts = torch.zeros(n, device=device, dtype=torch.int64)
        self._none = torch.zeros(num_envs, device=device, dtype=torch.bool)
        largest = torch.full((n, 1), torch.finfo(torch.float32).max, device=device)
        largest[0] = max_state
        self._largest = largest
        # Blamed is the first cause: the codes n, n - 1, ..., 1, of which the greatest counts.
        self._codes = torch.arange(n, 0, -1, device=device, dtype=torch.int32)[:, None]

    @property
    def total(self) -> Tensor:
        """Broken worlds so far, int64 `()`."""
        return self.counts.sum()

    def metrics_by_cause(self, prefix: str, counts: Tensor | None = None) -> dict[str, float]:
        """`prefix`/broken_envs and one entry for each cause that there was, by `counts`. Reads from the device."""
        numbers = (self.counts if counts is None else counts).tolist()
        found = {f"{prefix}/broken_envs/{cause}": float(n) for cause, n in zip(self.causes, numbers, strict=True) if n}
        return {f"{prefix}/broken_envs": float(sum(numbers)), **found}

    def find(self, state: Iterable[Tensor], observed: Observation, acted_on: Observation) -> Tensor:
        """Where a world is broken after a step, bool `(num_envs,)`; counts them, and zeroes their reward and metrics.

        state:     parts of it, of any number of columns; none where it is not known
        observed:  before any restart
        acted_on:  what was observed before the step: the first of an episode is no `observed`
        """
        # Numbers of each world whose size tells, a row per cause; in one tensor, as rows of it would be launches of their own.
        parts = [x for x in state if x.shape[1]]
        state_size = torch.cat(parts, 1).abs().amax(1) if parts else torch.zeros_like(self.reward)  # NaN if any is
        sums = [  # inf or NaN if any of them is
            torch.cat([x[key].flatten(1) for x in (observed, acted_on)], 1).sum(1) for key in self._seen
        ]
        values = torch.cat([torch.stack([state_size, *sums]), self.given])
        sound = values.abs() <= self._largest  # false for NaN
        if host_can_ask(sound) and sound.all():
            self.cause.zero_()
            return self._none
        code = (self._codes * ~sound).amax(0)
        self.counts += (code == self._codes).sum(1)
        broken = code > 0
        self.cause.copy_((len(self.causes) + 1 - code) * broken)
        self.given.masked_fill_(broken, 0.0)
        return broken
