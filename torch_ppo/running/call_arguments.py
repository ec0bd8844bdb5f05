"""What the library call is given: Brax's arguments that are refused, and mistakes that are one line."""

import functools
import inspect
from collections.abc import Mapping

from torch_ppo.environments.finding import source_of
from torch_ppo.environments.sources import Source, Wrapping
from torch_ppo.errors import ConfigError, did_you_mean
from torch_ppo.formulas.networks import make_ppo_networks
from torch_ppo.formulas.pixels import make_ppo_networks_vision
from torch_ppo.learning.factory import NetworkFactory
from torch_ppo.settings.brax_options import VISION_DEFAULTS, own_options
from torch_ppo.settings.config import Config

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
    "use_pmap_on_reset": ((True,), "there is no pmap in PyTorch"),
}


def checked_arguments(
    environment: object,
    num_timesteps: int,
    eval_env: object | None,
    wrapping: Wrapping,
    network_factory: NetworkFactory | Mapping[str, object] | None,
    restore_params: object,
    settings: dict[str, object],
) -> tuple[Source, Source | None, NetworkFactory | None]:
    """The sources of envs and the network factory that are meant; completes `settings` in place. ConfigError for what cannot be."""
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
    if network_factory is make_ppo_networks or getattr(network_factory, "func", None) is make_ppo_networks:
        network_factory = _own_networks(network_factory, settings)
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
    _check_wrapping(wrapping)
    source = source_of(environment, "environment", wrapping)
    eval_source = None if eval_env is None else source_of(eval_env, "eval_env", wrapping)
    same = eval_source is None or eval_source.already is source.already
    if source.already is not None and same and settings.get("run_evals", True):
        given = "None" if eval_source is None else "the same object"
        raise ConfigError(
            f"eval_env is {given}, but the environment {source.name} cannot also be the one that is evaluated in; eval_env = "
            "another one, or run_evals = False, would work"
        )
    return source, eval_source, network_factory


def _check_wrapping(wrapping: Wrapping) -> None:
    """ConfigError for arguments about wrapping that cannot be."""
    if not isinstance(wrapping.wrap_env, bool):
        raise ConfigError(f"wrap_env is {wrapping.wrap_env!r}, but must be True or False")
    for name in ("wrap_env_fn", "randomization_fn"):
        given = getattr(wrapping, name)
        if given is not None and not callable(given):
            raise ConfigError(f"{name} is {given!r}, but must be a function, or None")
    if wrapping.wrap_env_fn is not None and not wrapping.wrap_env:
        raise ConfigError("wrap_env_fn has no effect with wrap_env = False; leave one of them out")


def _own_networks(factory: object, settings: dict[str, object]) -> NetworkFactory | Mapping[str, object]:
    """What our factory, alone or in a partial, is given: options by name, if all have one, else a function.

    As options they are the configuration's, from which a checkpoint's networks are made again. As in Playground's
    notebooks the keys of the observations may be among them; `settings` takes those in.
    """
    args, keywords = getattr(factory, "args", ()), dict(getattr(factory, "keywords", {}))
    settings |= {key: keywords.pop(key) for key in ("policy_obs_key", "value_obs_key") if key in keywords}
    if not args and own_options(keywords).keys() <= Config.__dataclass_fields__.keys():
        return keywords
    return functools.partial(make_ppo_networks, *args, **keywords)


def _vision_options(factory: object, settings: dict[str, object]) -> NetworkFactory | Mapping[str, object]:
    """What Brax's vision factory, alone or in a partial, is given: options by name, if all have one, else a function.

    It decides that there is vision, and which vectors the networks see; `settings` takes that in.
    """
    given = getattr(factory, "keywords", {})
    options = {**VISION_DEFAULTS, **own_options(given)}
    settings |= {name: options.pop(name) for name in ("vision", "policy_obs_key", "value_obs_key")}
    return options if options.keys() <= Config.__dataclass_fields__.keys() else factory


# What Brax's callbacks are called with.
CALLED_WITH = {"progress_fn": ("step", "metrics"), "policy_params_fn": ("step", "make_policy", "params")}


def check_functions(**given: object) -> None:
    """ConfigError for an argument that is not the function that it must be."""
    for name, value in given.items():
        if not callable(value):
            raise ConfigError(f"{name} is {value!r}, but must be a function; left out, nothing is called")
        try:
            inspect.signature(value).bind(*CALLED_WITH[name])
        except TypeError as error:
            called = f"{name}({', '.join(CALLED_WITH[name])})"
            raise ConfigError(f"{name} is called as {called}, but {error}") from None
        except ValueError:  # of a function that does not tell
            pass
