"""A task as Gymnasium's environments: many episodes as a `VectorEnv`, one as an `Env`; tested with gymnasium 1.4.0."""

from typing import Any, ClassVar, Unpack

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from torch_ppo.elsewhere.drawing import MODES, drawing_of, frames_per_second
from torch_ppo.elsewhere.episodes import Episodes, no_options
from torch_ppo.elsewhere.settings import SingleSettings, VectorSettings, divided
from torch_ppo.environments.contract import Environment
from torch_ppo.simulation.task import Observation, Task

NO_LIMIT = 10**9  # env steps; the limit of a single env is Gymnasium's own


def observation_space(episodes: Episodes) -> spaces.Space:
    """Of one env: unlimited float32 numbers, uint8 pictures `(height, width, channels)`; a Dict where there are several."""

    def box(x: Tensor) -> spaces.Box:
        low, high, dtype = (-np.inf, np.inf, np.float32) if x.is_floating_point() else (0, 255, np.uint8)
        return spaces.Box(low, high, tuple(x.shape[1:]), dtype)

    parts = {key: box(x) for key, x in episodes.env.observation.items()}
    return parts.popitem()[1] if episodes.single else spaces.Dict(parts)


def action_space(env: Environment) -> spaces.Box:
    """Of one env: what policies here give."""
    return spaces.Box(-1.0, 1.0, (env.action_dim,), np.float32)


def array(x: Tensor) -> np.ndarray:
    """A copy, which the next step does not change."""
    return x.to("cpu", copy=True).numpy()


class TaskVectorEnv(VectorEnv):
    """See `torch_ppo.make_vec`."""

    def __init__(
        self,
        environment: Task | str,
        num_envs: int = 1,
        *,
        max_episode_steps: int | None = None,
        **settings: Unpack[VectorSettings],
    ) -> None:
        """Gymnasium gives `max_episode_steps`, a time limit in steps of its own: the `episode_length` of make_env."""
        if max_episode_steps is not None:
            settings.setdefault("episode_length", max_episode_steps * settings.get("action_repeat", 1))
        tensors = settings.pop("tensors", False)
        pictures, of_env = divided(settings)
        self._episodes = Episodes(environment, num_envs, of_env)
        self._env, self.num_envs, self.render_mode = self._episodes.env, num_envs, pictures.get("render_mode")
        self._drawing = drawing_of(self._env, pictures)
        self.metadata = {
            "autoreset_mode": AutoresetMode.SAME_STEP,
            "render_modes": list(MODES),
            "render_fps": frames_per_second(self._env),
        }
        self.single_observation_space = observation_space(self._episodes)
        self.single_action_space = action_space(self._env)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._given = torch.clone if tensors else array
        self._infos = self._tensor_infos if tensors else self._array_infos

    @property
    def episode_length(self) -> int:
        """Steps of the longest episode, each of `action_repeat` env steps; what it is trained in with."""
        return -(-self._env.episode_length // self._env.action_repeat)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts a new episode in every env; with `seed` the same ones, and the same after them, each time."""
        super().reset(seed=seed)
        no_options(options)
        self._episodes.reset(seed)
        return self._observed(self._env.observation), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """One step of each env with `actions` `(num_envs, action_dim)`, array or tensor."""
        env, given = self._env, self._given
        env.step(self._episodes.action(actions, self.action_space.shape))
        return (
            self._observed(env.observation),
            given(env.reward),
            given(env.termination.bool()),
            given(env.truncation.bool()),
            self._infos(env.done.bool()),
        )

    def _observed(self, observation: Observation) -> Any:
        given = {key: self._given(x) for key, x in observation.items()}
        return given.popitem()[1] if self._episodes.single else given

    def _metrics(self) -> dict[str, Tensor]:
        success = self._env.success
        return self._env.metrics | ({} if success is None else {"is_success": success.bool()})

    def _array_infos(self, done: Tensor) -> dict[str, Any]:
        """As Gymnasium has it: what an ended episode says is in `final_obs` and `final_info` alone."""
        ended = array(done)
        infos: dict[str, Any] = {}
        if not ended.all():
            for name, x in self._env.metrics.items():
                infos |= {name: np.where(ended, 0, array(x)), f"_{name}": ~ended}
        if ended.any():
            final, rows = self._observed(self._env.final_observation), np.full(self.num_envs, None, dtype=object)
            for i in ended.nonzero()[0]:
                rows[i] = final[i] if self._episodes.single else {key: x[i] for key, x in final.items()}
            of_ended: dict[str, Any] = {}
            for name, x in self._metrics().items():
                of_ended |= {name: np.where(ended, array(x), False), f"_{name}": ended.copy()}
            infos |= {"final_obs": rows, "final_info": of_ended}
            infos |= {"_final_obs": ended.copy(), "_final_info": ended.copy()}
        return infos

    def _tensor_infos(self, done: Tensor) -> dict[str, Any]:
        """Of all envs in every step, so that the host need not ask the device whether an episode has ended."""
        running = {}
        for name, x in self._env.metrics.items():
            running |= {name: x.clone(), f"_{name}": ~done}
        final = {}
        for name, x in self._metrics().items():
            final |= {name: x.clone(), f"_{name}": done}
        observed = self._observed(self._env.final_observation)
        return {**running, "final_obs": observed, "_final_obs": done, "final_info": final, "_final_info": done}

    def render(self) -> tuple[np.ndarray, ...] | None:
        """A picture of each env, uint8 `(height, width, 3)`; None without `render_mode`."""
        if self._drawing is None:
            return None
        return tuple(self._drawing.draw(i) for i in range(self.num_envs))

    def close_extras(self, **_: Any) -> None:
        """Gives back what drawing holds."""
        if self._drawing is not None:
            self._drawing.close()


class TaskEnv(gymnasium.Env):
    """One episode of a task at a time, without a time limit: `gymnasium.make` gives it one.

    Many in one simulation are faster than many of these; see `torch_ppo.make_vec`, also for the arguments.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": list(MODES)}  # Gymnasium reads it before there is an env

    def __init__(
        self,
        environment: Task | str,
        **settings: Unpack[SingleSettings],
    ) -> None:
        pictures, of_env = divided(settings)
        self._episodes = Episodes(environment, 1, {"episode_length": NO_LIMIT, **of_env})
        self._env, self.render_mode = self._episodes.env, pictures.get("render_mode")
        self._drawing = drawing_of(self._env, pictures)
        self.metadata = {"render_modes": list(MODES), "render_fps": frames_per_second(self._env)}
        self.observation_space, self.action_space = observation_space(self._episodes), action_space(self._env)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts a new episode; with `seed` the same one, and the same after it, each time."""
        super().reset(seed=seed)
        no_options(options)
        self._episodes.reset(seed)
        return self._observed(self._env.observation), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step with `action` `(action_dim,)`."""
        env = self._env
        env.step(self._episodes.action(action, self.action_space.shape))
        info = {name: x.item() for name, x in env.metrics.items()}
        terminated, truncated = bool(env.termination), bool(env.truncation)
        now = env.success_now() if env.success is not None else None
        if now is not None:
            info["is_success"] = bool(env.success if terminated or truncated else now)
        return self._observed(env.final_observation), env.reward.item(), terminated, truncated, info

    def _observed(self, observation: Observation) -> Any:
        given = {key: array(x[0]) for key, x in observation.items()}
        return given.popitem()[1] if self._episodes.single else given

    def render(self) -> np.ndarray | None:
        """A picture, uint8 `(height, width, 3)`, of an ended episode its last; None without `render_mode`."""
        return None if self._drawing is None else self._drawing.draw(0, at_end=bool(self._env.done))

    def close(self) -> None:
        """Gives back what drawing holds."""
        if self._drawing is not None:
            self._drawing.close()
