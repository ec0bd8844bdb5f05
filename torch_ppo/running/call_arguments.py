"""What the library call is given: Brax's arguments that are refused, and mistakes that are one line."""

import functools
from collections.abc import Mapping

from torch_ppo.envs import make_task
from torch_ppo.errors import ConfigError, did_you_mean
from torch_ppo.formulas.networks import make_ppo_networks
from torch_ppo.formulas.pixels import make_ppo_networks_vision
from torch_ppo.learning.agent import NetworkFactory
from torch_ppo.settings.brax_options import VISION_DEFAULTS, own_options
from torch_ppo.settings.config import Config
from torch_ppo.simulation.task import Task

# Fields that only our own network factory reads.
NETWORK_SETTINGS = {
    "policy_hidden_layer_sizes", "value_hidden_layer_sizes", "activation", "layer_norm", "noise_std_type",
    "init_noise_std", "state_dependent_std", "policy_network_kernel_init_fn", "value_network_kernel_init_fn",
    "mean_clip_scale", "mean_kernel_init_fn", "output_kernel_init_fn", "cnn_kernel_init_fn",
    "policy_network_kernel_init_scale", "value_network_kernel_init_scale", "mean_kernel_init_scale",
    "output_kernel_init_scale", "cnn_kernel_init_scale", "pixel_encoder", "shared_encoder", "normalise_channels",
    "cnn_output_channels", "cnn_kernel_size", "cnn_stride", "cnn_padding", "cnn_activation", "cnn_max_pool",
    "cnn_global_pool",
}  # fmt: skip

# Brax arguments without a meaning here: the only value that may be given, and why.
UNSUPPORTED = {
    "wrap_env": ((True,), "the rules of an episode are part of Env"),
    "wrap_env_fn": ((None,), "the rules of an episode are part of Env"),
    "use_pmap_on_reset": ((True,), "there is no pmap in PyTorch"),
}


def checked_arguments(
    environment: Task | str,
    num_timesteps: int,
    eval_env: Task | str | None,
    network_factory: NetworkFactory | Mapping[str, object] | None,
    restore_params: object,
    settings: dict[str, object],
) -> tuple[Task, Task | None, NetworkFactory | None]:
    """The tasks and the network factory that are meant; completes `settings` in place. ConfigError for what cannot be."""
    for name, (allowed, reason) in UNSUPPORTED.items():
        if name in settings and not any(settings[name] is each for each in allowed):
            raise ConfigError(f"{name} is not supported: {reason}")
        settings.pop(name, None)
    if "madrona_backend" in settings:  # the name of `vision` before Brax 0.14
        settings["vision"] = settings.pop("madrona_backend") or settings.get("vision", False)
    if (
        network_factory is make_ppo_networks_vision
        or getattr(network_factory, "func", None) is make_ppo_networks_vision
    ):
        network_factory = _vision_options(network_factory, settings)
    if isinstance(network_factory, functools.partial) and network_factory.func is make_ppo_networks:
        # As Playground's notebooks have it: there the keys of the observations are the factory's.
        keywords = dict(network_factory.keywords)
        settings |= {key: keywords.pop(key) for key in ("policy_obs_key", "value_obs_key") if key in keywords}
        network_factory = functools.partial(make_ppo_networks, *network_factory.args, **keywords)
    if isinstance(network_factory, Mapping):
        settings |= own_options(network_factory)
        network_factory = None
    elif network_factory is not None and not callable(network_factory):
        raise ConfigError(f"network_factory is {network_factory!r}, but must be a function, or a dict of options")
    known = Config.__dataclass_fields__
    for name in settings:
        if name not in known:
            raise ConfigError(f"unknown argument {name!r}{did_you_mean(name, known)}")
    if not isinstance(num_timesteps, int) or num_timesteps < 0:
        raise ConfigError(f"num_timesteps is {num_timesteps!r}, but must be an int, 0 or greater")
    if isinstance(environment, str) and settings.setdefault("env", environment) != environment:
        raise ConfigError(
            f"env = {settings['env']!r} has no effect beside the environment {environment!r}; leave it out"
        )
    idle = sorted(NETWORK_SETTINGS & settings.keys()) if network_factory is not None else []
    if idle:
        raise ConfigError(f"{idle[0]} has no effect beside a network_factory function; leave it out, or the function")
    if restore_params is not None and not (
        isinstance(restore_params, tuple)
        and len(restore_params) == 3
        and all(isinstance(x, Mapping) for x in restore_params)
    ):
        raise ConfigError("restore_params is not (normalizer, policy, value), as train returns and hands to callbacks")
    return (
        task_of(environment, "environment"),
        None if eval_env is None else task_of(eval_env, "eval_env"),
        network_factory,
    )


def _vision_options(factory: object, settings: dict[str, object]) -> NetworkFactory | Mapping[str, object]:
    """What Brax's vision factory, alone or in a partial, is given: options by name, if all have one, else a function.

    It decides that there is vision, and which vectors the networks see; `settings` takes that in.
    """
    given = getattr(factory, "keywords", {})
    options = {**VISION_DEFAULTS, **own_options(given)}
    settings |= {name: options.pop(name) for name in ("vision", "policy_obs_key", "value_obs_key")}
    return options if options.keys() <= Config.__dataclass_fields__.keys() else factory


def check_functions(**given: object) -> None:
    """ConfigError for an argument that is not the function that it must be."""
    for name, value in given.items():
        if not callable(value):
            raise ConfigError(f"{name} is {value!r}, but must be a function; left out, nothing is called")


def task_of(given: object, parameter: str) -> Task:
    """The task that an argument of the call means; ConfigError if it means none."""
    if isinstance(given, str):
        return make_task(given)
    if isinstance(given, type) and issubclass(given, Task):
        raise ConfigError(
            f"{parameter} is the class {given.__name__}, but must be a task: {given.__name__}() would work"
        )
    if not isinstance(given, Task):
        raise ConfigError(f"{parameter} is {given!r}, but must be a torch_ppo.Task, or the name of one")
    return given
