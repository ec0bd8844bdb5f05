"""What a configuration leaves open, filled in: by the device, by the environment, and by its actions."""

import dataclasses

import torch

from torch_ppo.environments.contract import Environment
from torch_ppo.environments.finding import source_of
from torch_ppo.environments.sources import Source
from torch_ppo.errors import ConfigError
from torch_ppo.settings.config import Config
from torch_ppo.simulation.task import Task


def resolve_device(name: str) -> torch.device:
    """The torch device for a `device` setting; ConfigError if it is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device is {name!r}, but must be auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device is {name!r}, but must be auto, cpu, cuda or cuda:N")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise ConfigError(f"device is {name!r}, but there is no CUDA device here; cpu would work")
        if device.index is not None and device.index >= torch.cuda.device_count():
            raise ConfigError(f"device is {name!r}, but there are only {torch.cuda.device_count()} CUDA devices")
        # Warp wants to know which one.
        device = torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
    return device


def resolve_config(config: Config, source: Source | Task) -> Config:
    """The configuration with what was left open filled in: device, engine, capture level, episode length."""
    device, source = resolve_device(config.device), source_of(source)
    compiled = device.type == "cuda" if config.compile is None else config.compile
    episode_length = config.episode_length or source.episode_length
    config = dataclasses.replace(config, device=str(device), compile=compiled, episode_length=episode_length)
    return _with_engine(config, device) if source.simulated else _without_engine(config, source.name, device)


def _with_engine(config: Config, device: torch.device) -> Config:
    engine = config.physics
    if engine == "auto":  # C MuJoCo would need OpenGL to draw
        engine = "warp" if device.type == "cuda" or config.vision else "mujoco"
    if engine == "mujoco" and device.type != "cpu":
        raise ConfigError(f"physics = mujoco runs on the CPU, not on {config.device}; warp would work there")
    capture = config.capture
    if capture == "physics" and engine == "mujoco":
        raise ConfigError("capture = physics records MuJoCo Warp's kernels, C MuJoCo has none; none or auto would work")
    if capture == "unroll" and device.type != "cuda":
        raise ConfigError(f"capture = unroll records CUDA graphs, and the device is {device}; auto would work")
    if capture == "auto":
        capture = "none" if engine == "mujoco" else "unroll" if device.type == "cuda" else "physics"
    return dataclasses.replace(config, physics=engine, capture=capture)


# Settings of our own simulation and episodes, which others' environments have in their own ways.
OF_OURS = (
    "physics", "auto_reset", "random_episode_phase", "history", "history_obs_keys", "action_delay", "max_state",
    "view_size",
)  # fmt: skip

_AS_THEY_ARE = {"auto_reset": "fresh"}  # whose episodes begin anew say no more than that; it need not be taken out


def _without_engine(config: Config, name: str, device: torch.device) -> Config:
    defaults = {field.name: field.default for field in dataclasses.fields(Config)}
    for setting in OF_OURS:
        if getattr(config, setting) not in (defaults[setting], _AS_THEY_ARE.get(setting)):
            raise ConfigError(
                f"{setting} = {getattr(config, setting)!r} has no effect in {name}, which is not simulated here; leave it out"
            )
    capture = config.capture
    if capture == "auto":
        capture = "unroll" if device.type == "cuda" else "none"
    if capture == "physics" or (capture == "unroll" and device.type != "cuda"):
        raise ConfigError(f"capture = {capture} has nothing to record of {name} on {device}; auto or none would work")
    return dataclasses.replace(config, capture=capture)


def with_distribution(config: Config, env: Environment) -> Config:
    """The configuration with the distribution of the env's actions; ConfigError if one for others is asked for."""
    kind = config.distribution_type
    if env.choices is None and kind == "categorical":
        raise ConfigError(
            f"distribution_type = 'categorical' is of discrete actions, but {env.name} takes real numbers; 'tanh_normal' or "
            "'normal' would work"
        )
    if env.choices is None or kind == "categorical":
        return config
    if kind != Config.distribution_type:
        raise ConfigError(
            f"distribution_type = {kind!r} is of real numbers, but {env.name} takes discrete actions; leave it out"
        )
    return dataclasses.replace(config, distribution_type="categorical")
