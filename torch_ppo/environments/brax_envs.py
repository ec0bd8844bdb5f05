"""Environments in JAX: `brax:ant`, `playground:CartpoleBalance`, objects of either; tested with brax 0.14.2, playground 0.2.0,
mujoco-mjx 3.17.0 and jax 0.9.2 on the CPU.

Their wrappers give episodes their rules, as under Brax's own trainer; tensors and arrays are the same memory (DLPack).
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import torch
from brax import envs as brax_envs
from torch import Tensor

from torch_ppo.environments.contract import Environment, EnvironmentMisfit
from torch_ppo.environments.sources import AS_USUAL, Wanted, Wrapping, checked
from torch_ppo.errors import did_you_mean


@dataclass(frozen=True)
class BraxSource:
    """Of one of Brax's own environments, by name; with Brax's choice of backend."""

    id: str
    wrapping: Wrapping = AS_USUAL
    simulated, repeats, task, code, packages, episode_length = False, True, None, None, ("brax", "jax"), 1000
    already = None

    def __post_init__(self) -> None:
        if self.id not in brax_envs._envs:
            raise EnvironmentMisfit(
                f"env is {self.name!r}, but Brax has no such{did_you_mean(self.id, brax_envs._envs)}"
            )

    @property
    def name(self) -> str:
        """As it is asked for."""
        return f"brax:{self.id}"

    def make(self, wanted: Wanted) -> Environment:
        """Envs with Brax's wrappers."""
        env = brax_envs.get_environment(self.id)
        return _wrapped(env, self.name, self.wrapping, brax_envs.training.wrap, wanted, wanted.config.episode_length)

    @staticmethod
    def of_object(env: object, wrapping: Wrapping) -> "JaxSource":
        """Of a `brax.envs.Env` or a Playground `MjxEnv`."""
        return JaxSource(env, wrapping)


@dataclass(frozen=True)
class PlaygroundSource:
    """Of one of MuJoCo Playground's environments, by name."""

    id: str
    wrapping: Wrapping = AS_USUAL
    simulated, repeats, task, code, packages = False, True, None, None, ("playground", "mujoco-mjx", "brax", "jax")
    already = None

    def __post_init__(self) -> None:
        from mujoco_playground import registry

        if self.id not in registry.ALL_ENVS:
            hint = did_you_mean(self.id, registry.ALL_ENVS)
            raise EnvironmentMisfit(f"env is {self.name!r}, but Playground has no such{hint}")

    @property
    def name(self) -> str:
        """As it is asked for."""
        return f"playground:{self.id}"

    @property
    def episode_length(self) -> int:
        """Of its default configuration."""
        from mujoco_playground import registry

        return registry.get_default_config(self.id).episode_length

    def settings(self, num_envs: int | None = None) -> dict[str, object]:
        """The settings that Playground trains it with under Brax PPO, by our names, which are Brax's.

        num_envs:  is left to the caller; nothing else depends on it
        """
        from mujoco_playground import registry
        from mujoco_playground.config import dm_control_suite_params, locomotion_params, manipulation_params

        families = (
            (registry.dm_control_suite, dm_control_suite_params),
            (registry.locomotion, locomotion_params),
            (registry.manipulation, manipulation_params),
        )
        params = next(params for family, params in families if self.id in family.ALL_ENVS)
        given = params.brax_ppo_config(self.id).to_dict()
        given |= given.pop("network_factory", {})
        return {name: value for name, value in given.items() if value is not None}

    def make(self, wanted: Wanted) -> Environment:
        """Envs with Playground's wrappers."""
        from mujoco_playground import registry, wrapper

        wrapping = self.wrapping
        if wanted.config.randomize and wanted.randomize and wrapping.randomization_fn is None:
            randomizer = registry.get_domain_randomizer(self.id)
            if randomizer is None:
                raise EnvironmentMisfit(
                    f"randomize is true, but {self.name} has no domain randomizer; false would work"
                )
            wrapping = Wrapping(wrapping.wrap_env, wrapping.wrap_env_fn, randomizer)
        # MuJoCo Warp in JAX needs CUDA.
        overrides = {"impl": "jax"} if wanted.device.type == "cpu" else {}
        env = registry.load(self.id, config_overrides=overrides)
        return _wrapped(env, self.name, wrapping, wrapper.wrap_for_brax_training, wanted, wanted.config.episode_length)


@dataclass(frozen=True)
class JaxSource:
    """Of an environment that there is already; several can be made of it, as it has no state of its own."""

    env: Any
    wrapping: Wrapping = AS_USUAL
    simulated, repeats, task, code, packages, episode_length = False, True, None, None, ("brax", "jax"), None
    already = None

    @property
    def name(self) -> str:
        """Its class."""
        return type(self.env.unwrapped).__name__

    def make(self, wanted: Wanted) -> Environment:
        """Envs with the wrappers of the library that it is of."""
        length = wanted.config.episode_length
        if length is None:
            raise EnvironmentMisfit(
                f"{self.name} does not say how long an episode is; episode_length = 1000, say, would"
            )
        default = brax_envs.training.wrap
        if hasattr(self.env, "mjx_model"):  # Playground's has other fields than Brax's
            from mujoco_playground import wrapper

            default = wrapper.wrap_for_brax_training
        return _wrapped(self.env, self.name, self.wrapping, default, wanted, length)


def _wrapped(
    env: Any, name: str, wrapping: Wrapping, default: Callable[..., Any], wanted: Wanted, length: int
) -> Environment:
    """Envs wrapped as Brax's trainer would."""
    with jax.default_device(_device(wanted.device, name)):
        randomization_fn = wrapping.randomization_fn if wanted.randomize else None
        if randomization_fn is not None:
            keys = jax.random.split(jax.random.PRNGKey(wanted.new_seed()), wanted.num_envs)
            randomization_fn = functools.partial(randomization_fn, rng=keys)
        if wrapping.wrap_env:
            env = (wrapping.wrap_env_fn or default)(
                env,
                episode_length=length,
                action_repeat=wanted.config.action_repeat,
                randomization_fn=randomization_fn,
            )
        steps = Jax(env, name, length, wanted)
        return checked(steps, wanted)


def _device(device: torch.device, name: str) -> jax.Device:
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


class Jax:
    """A wrapped environment in JAX with its state, see `contract.Steps`."""

    def __init__(self, env: Any, name: str, episode_length: int, wanted: Wanted) -> None:
        self.env, self.name, self.num_envs = env, name, wanted.num_envs
        self.action_dim, self.episode_length = int(env.action_size), episode_length
        self.action_repeat, self.device = wanted.config.action_repeat, wanted.device
        self._jax_device, self._new_seed = _device(wanted.device, name), wanted.new_seed
        self._names: tuple[str, ...] = ()
        self._has_time_out = False
        self._start, self._advance = jax.jit(self._reset), jax.jit(self._step)
        self._state: Any = None

    def _outcome(self, state: Any) -> tuple[Any, Any, jax.Array]:
        """State, observation, and in one array what there is one of per env: reward, done, truncation, time-out, metrics."""
        missing = [key for key in ("truncation",) if key not in state.info]
        if missing:
            raise EnvironmentMisfit(
                f"{self.name}: state.info lacks {', '.join(missing)}, which Brax's EpisodeWrapper writes; "
                "wrap_env = True would work"
            )
        self._names, self._has_time_out = tuple(state.metrics), "time_out" in state.info
        rows = [state.reward, state.done, state.info["truncation"]]
        if self._has_time_out:
            rows.append(state.info["time_out"])
        rows += [state.metrics[name] for name in self._names]
        return state, state.obs, jax.numpy.stack([row.astype(jax.numpy.float32) for row in rows])

    def _reset(self, key: jax.Array) -> tuple[Any, Any, jax.Array]:
        return self._outcome(self.env.reset(jax.random.split(key, self.num_envs)))

    def _step(self, state: Any, action: jax.Array) -> tuple[Any, Any, jax.Array]:
        return self._outcome(self.env.step(state, action))

    def _take(self, outcome: tuple[Any, Any, jax.Array]) -> None:
        self._state, observation, rows = outcome
        self.observation = jax.tree.map(to_torch, observation)
        reward, done, truncation, *others = to_torch(rows)
        self.reward, self.truncation, self.termination = reward, truncation, done * (1.0 - truncation)
        if self._has_time_out:
            self.time_out, *others = others
        self.metrics = dict(zip(self._names, others, strict=True))

    def reset(self) -> None:
        """Starts a new episode in every env, with keys from a new seed."""
        with jax.default_device(self._jax_device):
            self._take(self._start(jax.random.PRNGKey(self._new_seed())))

    def step(self, action: Tensor) -> None:
        """One step with `action` `(num_envs, action_dim)`."""
        self._take(self._advance(self._state, jax.dlpack.from_dlpack(action.contiguous())))

    def state(self) -> dict[str, Tensor]:
        """All arrays of the environment's state, by their places in it."""
        return {f"{i:03}": _to_saved(leaf) for i, leaf in enumerate(jax.tree.leaves(self._state))}

    def load_state(self, saved: dict[str, Tensor]) -> None:
        """Goes on from a saved `state`. ValueError if it does not fit."""
        leaves, structure = jax.tree.flatten(self._state)
        if len(saved) != len(leaves):
            raise ValueError(
                f"the state of {self.name} has {len(saved)} arrays in the checkpoint, but {len(leaves)} here"
            )
        with jax.default_device(self._jax_device):
            found = [_from_saved(x, leaf, self.name) for x, leaf in zip(saved.values(), leaves, strict=True)]
        self._state = jax.tree.unflatten(structure, found)


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
