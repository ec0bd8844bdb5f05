"""A task as RSL-RL's `VecEnv`; tested with rsl-rl-lib 5.5.1."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_ppo.environments.contract import Environment, lacking
from torch_ppo.errors import ConfigError
from torch_ppo.formulas.pixels import is_picture

try:
    from rsl_rl.env import VecEnv
    from tensordict import TensorDict
except ModuleNotFoundError:  # said where one is made, so that the class can be looked at without them
    VecEnv = TensorDict = None
if TYPE_CHECKING:
    Base = Any
else:
    Base = object if VecEnv is None else VecEnv


class RslRlEnv(Base):
    """Envs of `torch_ppo.make_env` for RSL-RL's runners. All tensors stay on the device.

    env:           those envs
    clip_actions:  limit actions to [-clip_actions, clip_actions] first, as Isaac Lab's wrapper does; None for not

    Observations are a TensorDict of groups: one alone is "policy", which the runner uses for actor and critic if `obs_groups`
    says nothing else; several have their own names. Pictures are float32 in [0, 1], `(num_envs, channels, height, width)`.

    num_envs, num_actions, device, cfg:  as RSL-RL has them
    max_episode_length:  policy steps of the longest episode
    episode_length_buf:  policy steps of each episode so far, int64 `(num_envs,)`; the runner's `init_at_random_ep_len` sets it
    """

    def __init__(self, env: Environment, *, clip_actions: float | None = None) -> None:
        if VecEnv is None:
            raise ConfigError("RslRlEnv needs RSL-RL: pip install rsl-rl-lib")
        if lacking(env, ("step", "seen", "episode_metrics")):
            raise ConfigError(
                f"env is {env!r}, but must be envs; RslRlEnv(torch_ppo.make_env('cartpole', 64)), say, would work"
            )
        if clip_actions is not None and not clip_actions > 0:
            raise ConfigError(f"clip_actions is {clip_actions}, but must be greater than 0, or None")
        self.env, self.clip_actions = env, clip_actions
        self.num_envs, self.num_actions, self.device = env.num_envs, env.action_dim, env.device
        self.max_episode_length = -(-env.episode_length // env.action_repeat)
        self.cfg = {"env": env.name, "num_envs": env.num_envs, "episode_length": env.episode_length}
        self._groups = {key: key for key in env.observation} if isinstance(env.seen, dict) else {"policy": "state"}

    @property
    def unwrapped(self) -> Environment:
        """The envs."""
        return self.env

    @property
    def episode_length_buf(self) -> Tensor:
        """See the class."""
        return (self.env.steps // self.env.action_repeat).masked_fill(self.env.done.bool(), 0).long()

    @episode_length_buf.setter
    def episode_length_buf(self, steps: Tensor) -> None:
        # An episode that began by a restart counts from 0 again at the next step; at a runner's start there are none.
        if self.env.task is None:
            raise ConfigError(
                f"{self.env.name} has a time limit of its own, which cannot be moved; init_at_random_ep_len = False would "
                "work"
            )
        self.env.steps.copy_(steps * self.env.action_repeat)

    def get_observations(self) -> "TensorDict":
        """The present observations, `(num_envs, ...)` each."""
        given = {name: _as_seen(key, self.env.observation[key]) for name, key in self._groups.items()}
        return TensorDict(given, batch_size=[self.num_envs], device=self.device)

    def reset(self) -> tuple["TensorDict", dict[str, Any]]:
        """Starts a new episode in every env."""
        self.env.reset()
        return self.get_observations(), {}

    def step(self, actions: Tensor) -> tuple["TensorDict", Tensor, Tensor, dict[str, Any]]:
        """One step with `actions` `(num_envs, num_actions)`; returns observations, rewards, dones and extras.

        extras:  "time_outs" where a time limit ended an episode, whose rewards RSL-RL completes; "log", when episodes have
                 ended, the means of their metrics, per env step
        """
        env = self.env
        # A runner steps in inference mode; tensors that are made in it could never be written outside again.
        with torch.inference_mode(False), torch.no_grad():
            action = actions.to(env.device, torch.float32)
            env.step(action if self.clip_actions is None else action.clamp(-self.clip_actions, self.clip_actions))
            done = env.done.bool()
            extras: dict[str, Any] = {"time_outs": env.truncation.bool() | (env.time_out.bool() & done)}
            if done.any():
                extras["log"] = self._log(done)
            return self.get_observations(), env.reward.clone(), done.long(), extras

    def _log(self, done: Tensor) -> dict[str, Tensor]:
        totals = self.env.episode_metrics
        length = totals["length"][done]
        means = {
            f"Episode/{name}": (total[done] / length).mean()
            for name, total in totals.items()
            if name not in ("sum_reward", "length", "success_rate")
        }
        if "success_rate" in totals:
            means["Episode/success_rate"] = totals["success_rate"][done].mean()
        return means


def _as_seen(key: str, x: Tensor) -> Tensor:
    """A copy as RSL-RL's models take it."""
    return x.permute(0, 3, 1, 2).float() / 255.0 if is_picture(key) and x.dtype == torch.uint8 else x.clone()
