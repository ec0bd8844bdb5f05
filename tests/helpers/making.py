"""Other libraries' environments, made as training makes them."""

import torch

from torch_ppo.environments.contract import Environment
from torch_ppo.environments.finding import source_of
from torch_ppo.environments.sources import Wanted
from torch_ppo.settings.config import Config


def make(given: object, num_envs: int, seed: int = 0, **settings: object) -> Environment:
    """Envs of what `train(environment=...)` takes, with the settings of a `Config` that keep the end of an episode."""
    config = Config(num_timesteps=1, num_envs=num_envs, batch_size=num_envs, **settings)
    source = source_of(given)
    config = Config(**{**vars(config), "episode_length": config.episode_length or source.episode_length})
    return source.make(Wanted(config, num_envs, torch.Generator().manual_seed(seed), keep_final=True))
