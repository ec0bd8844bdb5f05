"""mjlab's environments, torch on MuJoCo Warp: `mjlab:Mjlab-Cartpole-Balance`; tested with mjlab 1.6.0, which pins mujoco 3.11.

It restarts its episodes in the step in which they end, so the observation before a restart is not known; its domain
randomisation is part of its configuration. Observations are by mjlab's groups, such as actor and critic.
"""

import dataclasses
import json
import tempfile
from dataclasses import dataclass
from typing import Any

import mjlab.tasks  # noqa: F401  registers them
import torch
from mjlab.envs import ManagerBasedRlEnv
from mjlab.tasks.registry import list_tasks, load_env_cfg, load_rl_cfg
from torch import Tensor

from torch_ppo.dialects import read_dialect
from torch_ppo.environments.contract import Environment, EnvironmentMisfit
from torch_ppo.environments.sources import AS_USUAL, Wanted, Wrapping, checked
from torch_ppo.errors import did_you_mean

DEFAULT_NUM_ENVS = 4096
POLICY_GROUP, VALUE_GROUP = "actor", "critic"  # of its observations


@dataclass(frozen=True)
class MjlabSource:
    """Of one of mjlab's tasks, by name."""

    id: str
    wrapping: Wrapping = AS_USUAL
    simulated, repeats, task, code, packages = False, False, None, None, ("mjlab", "rsl-rl-lib")
    already = None
    episode_length = None  # its configuration has seconds, which the env turns into steps

    def __post_init__(self) -> None:
        if self.id not in list_tasks():
            raise EnvironmentMisfit(f"env is {self.name!r}, but mjlab has no such{did_you_mean(self.id, list_tasks())}")
        for name in ("wrap_env_fn", "randomization_fn"):
            if getattr(self.wrapping, name) is not None:
                raise EnvironmentMisfit(
                    f"{name} has no effect on {self.name}, whose configuration has its episodes and randomisation"
                )

    @property
    def name(self) -> str:
        """As it is asked for."""
        return f"mjlab:{self.id}"

    def settings(self, num_envs: int | None = None) -> dict[str, object]:
        """Those of mjlab's own configuration for rsl_rl, read as the dialect rsl_rl; by default for 4096 envs."""
        config = load_rl_cfg(self.id)
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(dataclasses.asdict(config), file)
            file.flush()
            settings = read_dialect(file.name, "rsl_rl", num_envs=num_envs or DEFAULT_NUM_ENVS).settings
        # A value of the observation before the restart is not to be had; rsl_rl takes that before the step.
        settings |= {"bootstrap_on_truncation": False, "bootstrap_on_timeout": True}
        settings |= {"policy_obs_key": POLICY_GROUP, "value_obs_key": VALUE_GROUP}
        return {name: value for name, value in settings.items() if name not in ("auto_reset", "random_episode_phase")}

    def make(self, wanted: Wanted) -> Environment:
        """Envs as mjlab makes them."""
        config = load_env_cfg(self.id)
        config.scene.num_envs, config.seed = wanted.num_envs, wanted.new_seed()
        if wanted.config.episode_length is not None:
            config.episode_length_s = wanted.config.episode_length * config.sim.mujoco.timestep * config.decimation
        return checked(Mjlab(ManagerBasedRlEnv(config, device=str(wanted.device)), self.name, wanted), wanted)


class Mjlab:
    """A `ManagerBasedRlEnv`, see `contract.Steps`."""

    action_repeat = 1

    def __init__(self, env: ManagerBasedRlEnv, name: str, wanted: Wanted) -> None:
        self.env, self.name, self.device = env, name, wanted.device
        self.num_envs, self.episode_length = env.num_envs, int(env.max_episode_length)
        self.action_dim = int(env.action_manager.total_action_dim)
        # As rsl_rl and Brax have it: an end of the environment's own with time_out, which is not a truncation.
        self._ends_by_itself = wanted.config.bootstrap_on_timeout

    def reset(self) -> None:
        """Starts a new episode in every env."""
        self._see(self.env.reset()[0])
        self.time_out = torch.zeros(self.num_envs, device=self.device)

    def _see(self, observation: dict[str, Any]) -> None:
        groups = {key: value for key, value in observation.items() if isinstance(value, Tensor)}
        if len(groups) < len(observation):
            raise EnvironmentMisfit(f"{self.name} has groups of observations that are not concatenated")
        self.observation = groups

    def step(self, action: Tensor) -> None:
        """One step with `action` `(num_envs, action_dim)`."""
        observation, self.reward, terminated, truncated, _ = self.env.step(action)
        self._see(observation)
        self.time_out = truncated & ~terminated
        self.termination = terminated | truncated if self._ends_by_itself else terminated
        self.truncation = truncated & ~self.termination
