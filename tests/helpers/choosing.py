"""Envs of discrete actions: each step shows what is to be chosen; the reward is the share of choices that were right."""

import torch
from torch.nn import functional as F


class Choosing:
    """See `contract.Steps`. A guess is right in half of the cases on average, for choices of three and two in 5 of 12."""

    def __init__(self, num_envs=1, seed=0, choices=(3, 2), length=8):
        self.num_envs, self.choices, self.action_dim, self.episode_length = num_envs, choices, len(choices), length
        self.generator = torch.Generator().manual_seed(seed)
        self.given = []

    def _show(self):
        self.wanted = torch.stack(
            [torch.randint(n, (self.num_envs,), generator=self.generator) for n in self.choices], 1
        )
        self.observation = torch.cat(
            [F.one_hot(x, n) for x, n in zip(self.wanted.unbind(1), self.choices, strict=True)], 1
        ).float()

    def reset(self):
        self.steps = torch.zeros(self.num_envs, dtype=torch.int64)
        self._show()
        self.final_observation = self.observation

    def step(self, action):
        self.given.append(action.clone())
        assert action.dtype == torch.int64 and action.shape == self.wanted.shape
        assert (action >= 0).all() and (action < torch.tensor(self.choices)).all()
        self.reward = action.eq(self.wanted).float().mean(1)
        self.steps += 1
        self.truncation = self.steps.ge(self.episode_length)
        self.termination = torch.zeros(self.num_envs)
        self.steps[self.truncation] = 0
        self._show()
        self.final_observation = self.observation

    def state(self):
        return {"steps": self.steps, "wanted": self.wanted, "generator": self.generator.get_state()}

    def load_state(self, saved):
        self._show()
        self.steps, self.wanted = saved["steps"].clone(), saved["wanted"].clone()
        self.generator.set_state(saved["generator"])


def make_env(num_envs, seed):
    return Choosing(num_envs, seed)
