"""Brax's options of networks that have another form here: what initialisers are called with, and the vision factory."""

from collections.abc import Mapping

from torch_ppo.errors import ConfigError

KERNELS = ("policy_network", "value_network", "mean", "output", "cnn")
# What Brax's vision factory has where `make_ppo_networks`, whose defaults are those of Config, has something else.
VISION_DEFAULTS = {
    "vision": True,
    "policy_hidden_layer_sizes": (256, 256),
    "value_hidden_layer_sizes": (256, 256),
    "policy_obs_key": "",
    "value_obs_key": "",
}


def own_options(options: Mapping[str, object]) -> dict[str, object]:
    """Options of networks as fields of Config: for `..._kernel_init_kwargs`, a dict or None, `..._kernel_init_scale`.

    ConfigError for another argument of an initialiser than its scale.
    """
    options = dict(options)
    for kernel in KERNELS:
        name = f"{kernel}_kernel_init_kwargs"
        given = options.pop(name, None)
        if given is None:
            continue
        if not isinstance(given, Mapping) or given.keys() - {"scale"}:
            raise ConfigError(f"{name} is {given!r}, but may have a scale only, such as {{'scale': 1.41}}")
        if "scale" in given:
            options[f"{kernel}_kernel_init_scale"] = given["scale"]
    return options
