"""Environments in JAX: `brax:ant`, `playground:CartpoleBalance`, objects of either; tested with brax 0.14.2, playground 0.2.0,
mujoco-mjx 3.17.0 and jax 0.9.2 on the CPU.

Their wrappers give episodes their rules, as under Brax's own trainer.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
from brax import envs as brax_envs

from torch_ppo.environments.contract import Environment, EnvironmentMisfit
from torch_ppo.environments.jax_steps import Jax, Stepping, jax_device
from torch_ppo.environments.sources import AS_USUAL, Wanted, Wrapping, checked
from torch_ppo.errors import did_you_mean


@dataclass(frozen=True)
class BraxSource:
    """Of one of Brax's own environments, by name; with Brax's choice of backend."""

    id: str
    wrapping: Wrapping = AS_USUAL
    made: dict[Any, Stepping] = field(default_factory=dict, compare=False, repr=False)
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
        kind = _Kind(functools.partial(brax_envs.get_environment, self.id), brax_envs.training.wrap, self.made)
        return _wrapped(kind, self.name, self.wrapping, wanted, wanted.config.episode_length)

    @staticmethod
    def of_object(env: object, wrapping: Wrapping) -> "JaxSource":
        """Of a `brax.envs.Env` or a Playground `MjxEnv`."""
        return JaxSource(env, wrapping)


@dataclass(frozen=True)
class PlaygroundSource:
    """Of one of MuJoCo Playground's environments, by name."""

    id: str
    wrapping: Wrapping = AS_USUAL
    made: dict[Any, Stepping] = field(default_factory=dict, compare=False, repr=False)
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
        load = functools.partial(registry.load, self.id, config_overrides=overrides)
        kind = _Kind(load, wrapper.wrap_for_brax_training, self.made)
        return _wrapped(kind, self.name, wrapping, wanted, wanted.config.episode_length)


@dataclass(frozen=True)
class JaxSource:
    """Of an environment that there is already; several can be made of it, as it has no state of its own."""

    env: Any
    wrapping: Wrapping = AS_USUAL
    made: dict[Any, Stepping] = field(default_factory=dict, compare=False, repr=False)
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
        return _wrapped(_Kind(lambda: self.env, default, self.made), self.name, self.wrapping, wanted, length)


@dataclass(frozen=True)
class _Kind:
    """What envs of a source have in common.

    load:  makes the environment without wrappers
    wrap:  its library's wrappers
    made:  what has been compiled, by what it depends on: training, evaluation and later trainings share it
    """

    load: Callable[[], Any]
    wrap: Callable[..., Any]
    made: dict[Any, Stepping]


def _wrapped(kind: _Kind, name: str, wrapping: Wrapping, wanted: Wanted, length: int) -> Environment:
    """Envs wrapped as Brax's trainer would."""
    device, repeat = jax_device(wanted.device, name), wanted.config.action_repeat
    randomization_fn = wrapping.randomization_fn if wanted.randomize else None
    key = (device, length, repeat)
    with jax.default_device(device):
        if wrapping.wrap_env_fn is None and randomization_fn is None and key in kind.made:
            return checked(Jax(kind.made[key], length, wanted), wanted)
        env = kind.load()
        if randomization_fn is not None:
            keys = jax.random.split(jax.random.PRNGKey(wanted.new_seed()), wanted.num_envs)
            randomization_fn = functools.partial(randomization_fn, rng=keys)
        if wrapping.wrap_env:
            rules = {"episode_length": length, "action_repeat": repeat, "randomization_fn": randomization_fn}
            env = (wrapping.wrap_env_fn or kind.wrap)(env, **rules)
        stepping = Stepping(env, name)
        if wrapping.wrap_env_fn is None and randomization_fn is None:
            kind.made[key] = stepping
        return checked(Jax(stepping, length, wanted), wanted)
