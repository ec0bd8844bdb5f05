"""Worlds that went bad: found in every step, by cause, without reading from the device."""

from collections.abc import Iterable

import torch
from torch import Tensor

from torch_ppo.simulation.host import host_can_ask
from torch_ppo.simulation.task import Observation


class BrokenWorlds:
    """Tells which worlds have a state beyond `max_state`, or an observation, reward or metric that is inf or NaN.

    causes:   what can be bad, in the order in which it is blamed
    values:   for each cause a number per world whose size tells     (num_causes, num_envs)
    reward:   row of `values`, written by the env                    (num_envs,)
    metrics:  rows of `values`, likewise                             (num_envs,) per name
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
        n, first_given = len(self.causes), 1 + len(observations)
        self.values = torch.zeros(n, num_envs, device=device)
        self._state_size = self.values[0]
        self.given = self.values[first_given:]  # reward and metrics: what the task hands over in each step
        self.reward = self.given[0]
        self.metrics = dict(zip(metric_names, self.given[1:], strict=True))
        self._seen = dict(zip(observations, self.values[1:first_given], strict=True))
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
        first, *others = [x for x in state if x.shape[1]] or [None]
        if first is not None:
            torch.amax(first.abs(), 1, out=self._state_size)  # NaN if any is
        for x in others:
            torch.maximum(self._state_size, x.abs().amax(1), out=self._state_size)
        for key, row in self._seen.items():
            torch.sum(observed[key].flatten(1), 1, out=row)  # inf or NaN if any of them is
            row.add_(acted_on[key].flatten(1).sum(1))
        sound = self.values.abs() <= self._largest  # false for NaN
        if host_can_ask(sound) and sound.all():
            self.cause.zero_()
            return self._none
        code = (self._codes * ~sound).amax(0)
        self.counts += (code == self._codes).sum(1)
        broken = code > 0
        self.cause.copy_((len(self.causes) + 1 - code) * broken)
        self.given.masked_fill_(broken, 0.0)
        return broken
