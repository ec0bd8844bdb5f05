"""Our tasks by Gymnasium's ids: importing this registers them.

import gymnasium
import torch_ppo.gymnasium

env = gymnasium.make("torch_ppo/walker_walk")
envs = gymnasium.make_vec("torch_ppo/walker_walk", num_envs=64)

Without the import, Gymnasium imports it for an id of "torch_ppo.gymnasium:torch_ppo/walker_walk". It has no entry points
for that since 1.0.
"""

from torch_ppo.envs import ENVS
from torch_ppo.errors import ConfigError, install

try:
    import gymnasium
except ModuleNotFoundError:
    raise ConfigError(f"torch_ppo.gymnasium needs the package gymnasium: {install('gym')}") from None

NAMESPACE = "torch_ppo"


def register_envs() -> None:
    """Every task of ours as `torch_ppo/<name>`, with its own time limit. Those that are there already stay."""
    for name, make in ENVS.items():
        if f"{NAMESPACE}/{name}" not in gymnasium.registry:
            gymnasium.register(
                f"{NAMESPACE}/{name}",
                entry_point="torch_ppo.elsewhere.gymnasium_envs:TaskEnv",
                vector_entry_point="torch_ppo.elsewhere.gymnasium_envs:TaskVectorEnv",
                max_episode_steps=make().episode_length,
                kwargs={"environment": name},
            )


register_envs()
