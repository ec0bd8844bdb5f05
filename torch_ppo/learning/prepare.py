"""What happens to a batch between collecting and the SGD passes: broken worlds, rewards, episode ends, advantages."""

import torch

from torch_ppo.formulas import losses
from torch_ppo.formulas.running_statistics import RunningStatistics
from torch_ppo.learning.agent import Agent
from torch_ppo.learning.batch import Batch, tensors_of
from torch_ppo.learning.devices import ALONE, Devices
from torch_ppo.settings.config import Config
from torch_ppo.simulation.host import host_can_ask

# Added to the variance of returns, so that rewards that are always 0 stay 0.
RETURN_STD_EPS = 1e-8


# What the SGD passes, the normalizer and the statistics of returns read of a batch.
LEARNED_FROM = (
    "observation",
    "bootstrap_observation",
    "raw_action",
    "policy_params",
    "log_prob",
    "reward",
    "truncation",
    "termination",
    "value",
    "time_out",
    "discounted_return",
    "final_value",
)


def replace_broken_sequences(batch: Batch) -> None:
    """Puts a sound sequence in the place of each in which a world broke, so that nothing is learned from those.

    A copy of whole sequences leaves every formula of the loss as it is. If all sequences are broken they stay; their
    rewards are 0 where they broke.
    """
    if batch.broken is None:
        return
    broken = batch.broken.ne(0).any(0)
    for x in batch.bootstrap_observation.values():  # acted on only in the next batch, where it will have broken a world
        broken |= ~x.flatten(1).sum(1).isfinite()
    if host_can_ask(broken) and not broken.any():
        return  # only there does asking cost nothing
    order = broken.to(torch.int8).argsort(stable=True)  # sound ones first
    place = torch.arange(len(order), device=order.device)
    num_sound = (~broken).sum()
    source = torch.empty_like(order)
    source[order] = torch.where(place < num_sound, order, order[place % num_sound.clamp(min=1)])
    for name in LEARNED_FROM:
        axis = 0 if name == "bootstrap_observation" else 1
        for tensor in tensors_of(getattr(batch, name)):
            tensor.copy_(tensor.index_select(axis, source))


class Preparation:
    """Prepares `batch` in place. Without options, as in Brax, and without broken worlds there is nothing to prepare.

    return_statistics:  of the discounted return of every step so far, if rewards are normalised
    """

    def __init__(self, config: Config, agent: Agent, batch: Batch, devices: Devices = ALONE) -> None:
        self.config, self.agent, self.batch, self.devices = config, agent, batch, devices
        self.return_statistics = None
        if config.normalize_rewards:
            statistics = RunningStatistics(1, std_eps=RETURN_STD_EPS)
            self.return_statistics = statistics.to(device=batch.reward.device, dtype=batch.reward.dtype)

    @torch.no_grad()
    def __call__(self) -> None:
        """All that the configuration asks for, by the networks and the normalizer that acted.

        First of all, sequences in which a world broke are replaced. Then, in this order: rewards over the running standard deviation of returns, this batch's included; clipping; what a
        time-out or a truncation bootstraps; advantages. `reward_scaling` acts on the result of the first three.
        """
        config, batch = self.config, self.batch
        replace_broken_sequences(batch)
        if self.return_statistics is not None:
            self.devices.update(self.return_statistics, batch.discounted_return[..., None])
            batch.reward.div_(self.return_statistics.std)
        if config.reward_clip is not None:
            batch.reward.clamp_(-config.reward_clip, config.reward_clip)
        if config.bootstrap_on_timeout:
            batch.reward.addcmul_(batch.time_out, batch.value, value=config.discounting)
        if config.bootstrap_on_truncation:
            self._bootstrap_truncations()
        if config.gae_per == "batch":
            self._compute_advantages()

    def _bootstrap_truncations(self) -> None:
        """A truncation becomes a termination whose reward has the value of what would have followed."""
        config, batch = self.config, self.batch
        # Values are of scaled rewards. Chosen, not multiplied by 0: the value of a broken simulation may be NaN.
        added = batch.final_value * (config.discounting / config.reward_scaling)
        batch.reward.add_(torch.where(batch.truncation.bool(), added, 0.0))
        batch.termination.add_(batch.truncation)
        batch.truncation.zero_()

    def _compute_advantages(self) -> None:
        """Advantages and value targets of the whole batch."""
        config, batch = self.config, self.batch
        targets, advantages = losses.compute_gae(
            batch.truncation,
            batch.termination,
            batch.reward * config.reward_scaling,
            batch.value,
            self.agent.values(batch.bootstrap_observation),
            lambda_=config.gae_lambda,
            discount=config.discounting,
            textbook=config.gae == "textbook",
        )
        batch.value_target.copy_(targets)
        batch.advantage.copy_(advantages)
