"""Stepping an environment in JAX from torch: tensors and arrays are the same memory (DLPack), a step is one compiled call."""

from typing import Any

import jax
import numpy as np
import torch
from torch import Tensor

from torch_ppo.environments.contract import EnvironmentMisfit
from torch_ppo.environments.sources import Wanted


def jax_device(device: torch.device, name: str) -> jax.Device:
    """JAX's device for one of torch's; EnvironmentMisfit if JAX does not have it."""
    platform = "cpu" if device.type == "cpu" else "gpu"
    try:
        return jax.devices(platform)[device.index or 0]
    except (RuntimeError, IndexError):
        raise EnvironmentMisfit(
            f"{name} is in JAX, which has no {device} here, only {', '.join(map(str, jax.devices()))}; "
            "pip install 'jax[cuda13]' has CUDA, device = cpu would work"
        ) from None


def to_torch(x: jax.Array) -> Tensor:
    """The same memory as a tensor."""
    return torch.from_dlpack(x)


class Stepping:
    """Reset and step of a wrapped environment, compiled: of the state's arrays in a list, whose tree JAX would walk in
    Python at every step, and with what is told of a step, see `_told`. The state that a step is given is gone after it.
    """

    def __init__(self, env: Any, name: str) -> None:
        self.env, self.name = env, name
        self.metrics: tuple[str, ...] = ()
        self.has_time_out = False
        self._structure: Any = None
        self.reset, self.step = jax.jit(self._reset), jax.jit(self._step, donate_argnums=0)

    def _told(self, state: Any) -> tuple[Any, jax.Array]:
        """Observation, and in one array what there is one of per env: reward, done, truncation, time-out, metrics."""
        if "truncation" not in state.info:
            raise EnvironmentMisfit(
                f"{self.name}: state.info lacks truncation, which Brax's EpisodeWrapper writes; wrap_env = True would work"
            )
        self.metrics, self.has_time_out = tuple(state.metrics), "time_out" in state.info
        rows = [state.reward, state.done, state.info["truncation"]]
        if self.has_time_out:
            rows.append(state.info["time_out"])
        rows += [state.metrics[name] for name in self.metrics]
        return state.obs, jax.numpy.stack([row.astype(jax.numpy.float32) for row in rows])

    def _reset(self, keys: jax.Array) -> tuple[list[Any], Any, jax.Array]:
        state = self.env.reset(keys)
        leaves, self._structure = jax.tree.flatten(state)
        return _of_their_types(leaves), *self._told(state)

    def _step(self, leaves: list[Any], action: jax.Array) -> tuple[list[Any], Any, jax.Array]:
        state = self.env.step(jax.tree.unflatten(self._structure, leaves), action)
        leaves, structure = jax.tree.flatten(state)
        if structure != self._structure:
            raise EnvironmentMisfit(f"the state of {self.name} has other parts after a step than after a reset")
        return _of_their_types(leaves), *self._told(state)


def _of_their_types(leaves: list[Any]) -> list[Any]:
    """The same, none of them of a weak type, as what comes of Python's numbers is: after a reset there are others than after
    a step, for which the step would be compiled once more.
    """
    return [x if _is_key(x) else jax.lax.convert_element_type(x, x.dtype) for x in map(jax.numpy.asarray, leaves)]


class Jax:
    """A wrapped environment in JAX with its state, see `contract.Steps`."""

    def __init__(self, stepping: Stepping, episode_length: int, wanted: Wanted) -> None:
        self.name, self.num_envs = stepping.name, wanted.num_envs
        self.action_dim, self.episode_length = int(stepping.env.action_size), episode_length
        self.action_repeat, self.device = wanted.config.action_repeat, wanted.device
        self._jax_device, self._new_seed = jax_device(wanted.device, stepping.name), wanted.new_seed
        self._stepping = stepping
        self._state: list[Any] = []

    def _take(self, outcome: tuple[list[Any], Any, jax.Array]) -> None:
        self._state, observation, rows = outcome
        self.observation = jax.tree.map(to_torch, observation)
        reward, done, truncation, *others = to_torch(rows)
        self.reward, self.truncation, self.termination = reward, truncation, done * (1.0 - truncation)
        if self._stepping.has_time_out:
            self.time_out, *others = others
        self.metrics = dict(zip(self._stepping.metrics, others, strict=True))

    def reset(self) -> None:
        """Starts a new episode in every env, with keys from a new seed."""
        with jax.default_device(self._jax_device):
            key = jax.random.PRNGKey(self._new_seed())
            # Put there, not only made there: else the step would be compiled for either.
            keys = jax.device_put(jax.random.split(key, self.num_envs), self._jax_device)
            self._take(self._stepping.reset(keys))

    def step(self, action: Tensor) -> None:
        """One step with `action` `(num_envs, action_dim)`."""
        self._take(self._stepping.step(self._state, jax.dlpack.from_dlpack(action.contiguous())))

    def state(self) -> dict[str, Tensor]:
        """All arrays of the environment's state, by their places in it."""
        return {f"{i:03}": _to_saved(leaf) for i, leaf in enumerate(self._state)}

    def load_state(self, saved: dict[str, Tensor]) -> None:
        """Goes on from a saved `state`. ValueError if it does not fit."""
        if len(saved) != len(self._state):
            raise ValueError(
                f"the state of {self.name} has {len(saved)} arrays in the checkpoint, but {len(self._state)} here"
            )
        with jax.default_device(self._jax_device):
            pairs = zip(saved.values(), self._state, strict=True)
            found = [_from_saved(x, leaf, self.name) for x, leaf in pairs]
        self._state = [jax.device_put(x, self._jax_device) for x in found]


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _to_saved(leaf: Any) -> Tensor:
    """A copy of an array on the CPU; unsigned numbers as signed ones of the same bits, which every torch can save."""
    x = np.array(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
    return torch.from_numpy(x.view(np.int32) if x.dtype == np.uint32 else x)


def _from_saved(saved: Tensor, leaf: Any, name: str) -> Any:
    like = jax.random.key_data(leaf) if _is_key(leaf) else leaf
    x = saved.cpu().numpy()
    x = x.view(np.uint32) if like.dtype == np.uint32 else x
    if x.shape != like.shape or x.dtype != like.dtype:
        raise ValueError(f"the state of {name} has an array {x.shape} in the checkpoint, but {like.shape} here")
    return jax.random.wrap_key_data(x, impl=jax.random.key_impl(leaf)) if _is_key(leaf) else jax.numpy.asarray(x)
