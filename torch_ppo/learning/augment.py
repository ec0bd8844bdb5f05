"""Augmenting pixels: in every pass each sequence's pictures are shifted by another amount, as `formulas.augmentation` does."""

import torch
from torch import Tensor

from torch_ppo.formulas.augmentation import NUM_OFFSETS, shifted
from torch_ppo.formulas.noise import Noise
from torch_ppo.learning.agent import Agent
from torch_ppo.learning.batch import Batch
from torch_ppo.settings.config import Config
from torch_ppo.simulation.task import Observation


class PixelShifts:
    """The shifts of one pass over a batch. All happens to tensors that stay where they are, so that it can be recorded.

    offsets: of each sequence and view, rows and columns, int64 (num_sequences, len(agent.pixel_keys), 2)
    """

    def __init__(self, config: Config, agent: Agent, batch: Batch) -> None:
        self.keys, self.of_sequences = agent.pixel_keys, config.minibatch_of == "sequences"
        num_sequences, device = batch.raw_action.shape[1], batch.raw_action.device
        self.offsets = torch.zeros(num_sequences, len(self.keys), 2, device=device, dtype=torch.int64)

    def draw(self, noise: Noise) -> None:
        """New offsets, for a new pass."""
        self.offsets.copy_(noise.integers(NUM_OFFSETS, *self.offsets.shape))

    def of(self, observation: Observation, bootstrap: Observation, members: Tensor) -> tuple[Observation, Observation]:
        """The observations of a minibatch, shifted: those of a sequence all alike, and what it bootstraps from as well.

        `members` are the minibatch's sequences, or its transitions, whose index is step * num_sequences + sequence.
        """
        offsets = self.offsets.index_select(0, members if self.of_sequences else members % len(self.offsets))
        observation, bootstrap = dict(observation), dict(bootstrap)
        for key, offset in zip(self.keys, offsets.unbind(1), strict=True):
            if self.of_sequences:
                observation[key] = shifted(observation[key], offset)
            else:  # single transitions, which have no axis of time
                observation[key] = shifted(observation[key][None], offset)[0]
            if key in bootstrap:
                bootstrap[key] = shifted(bootstrap[key][None], offset)[0]
        return observation, bootstrap
