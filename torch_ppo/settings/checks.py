"""What a configuration may be: types, ranges, and combinations that work. Every refusal says which value would do."""

import dataclasses
import math
import types
import typing
from collections.abc import Collection, Iterable, Mapping
from typing import Literal

from torch_ppo.errors import ConfigError, did_you_mean
from torch_ppo.formulas.distribution import DISTRIBUTIONS
from torch_ppo.formulas.networks import ACTIVATIONS, INITIALIZERS

Config = typing.Any  # torch_ppo.settings.config.Config, which calls `check` and so cannot be imported here


def check(config: Config) -> None:
    """ConfigError for the first value that cannot work. Lists become tuples, since a frozen config holds tuples."""
    _check_types(config)
    _check_ranges(config)
    _check_combinations(config)


def _fits(value: object, annotation: object) -> bool:
    """Whether `value` is of the annotated type; ints pass as floats, bools only as bools."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, arg) for arg in args)
    if origin is Literal:
        return value in args
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(item, args[0]) for item in value)
    if annotation is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, annotation)


def _describe(annotation: object) -> str:
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_describe(arg) for arg in args)
    if origin is Literal:
        return "one of " + ", ".join(repr(arg) for arg in args)
    if origin is tuple:
        return f"a list of {args[0].__name__}"
    if annotation is types.NoneType:
        return "None"
    return f"{'an' if annotation is int else 'a'} {annotation.__name__}"


def check_type(name: str, value: object, annotation: object) -> None:
    if not _fits(value, annotation):
        raise ConfigError(f"{name} is {value!r}, but must be {_describe(annotation)}")
    for number in value if isinstance(value, tuple) else (value,):
        _check_size(name, number)
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:  # a path of bytes that are not UTF-8: no configuration file could hold it
            raise ConfigError(f"{name} is {value!r}, but must be UTF-8") from None
    if isinstance(value, str) and "\0" in value:
        raise ConfigError(f"{name} is {value!r}, but must be without NUL characters")


# Numbers go into float32 and int32 tensors; counts of env steps and observations are kept in 64 bits.
_LARGEST_FLOAT, _LEAST_FLOAT = 3.4e38, 1.2e-38
_MOST_THREADS = 1024
_LONG = ("num_timesteps", "seed", "learning_rate_warmup_timesteps", "normalize_until_count", "training_metrics_steps")


def _check_size(name: str, number: object) -> None:
    """ConfigError for a number that the tensors it goes into do not hold."""
    if isinstance(number, float) and not math.isfinite(number):
        raise ConfigError(f"{name} is {number}, but must be a finite number")
    if isinstance(number, float) and not _LEAST_FLOAT <= abs(number) <= _LARGEST_FLOAT and number != 0.0:
        raise ConfigError(f"{name} is {number}, but float32 holds sizes from {_LEAST_FLOAT} to {_LARGEST_FLOAT} only")
    if name == "torch_threads" and isinstance(number, int) and number > _MOST_THREADS:
        raise ConfigError(f"{name} is {number}, but {_MOST_THREADS} are the most that torch can be relied on to start")
    bits = 63 if name in _LONG else 31
    if isinstance(number, int) and abs(number) >= 2**bits:
        shown = str(number) if abs(number) < 10**20 else "an int of more than 20 digits"
        raise ConfigError(f"{name} is {shown}, but must be less than 2**{bits}")


def _check_types(config: Config) -> None:
    for name, annotation in typing.get_type_hints(type(config)).items():
        value = getattr(config, name)
        if isinstance(value, list):  # a frozen config holds tuples
            value = tuple(value)
            object.__setattr__(config, name, value)
        check_type(name, value, annotation)


_POSITIVE = (
    "num_timesteps num_envs episode_length action_repeat unroll_length batch_size num_minibatches "
    "num_updates_per_batch learning_rate max_grad_norm clipping_epsilon clipping_epsilon_value desired_kl "
    "learning_rate_schedule_min_lr learning_rate_schedule_max_lr normalize_until_count init_noise_std "
    "mean_clip_scale num_quantiles num_eval_envs training_metrics_steps reward_scaling torch_threads reward_clip target_kl "
    "max_state normalizer_clip keep_checkpoints history view_size max_devices_per_host policy_network_kernel_init_scale "
    "value_network_kernel_init_scale mean_kernel_init_scale output_kernel_init_scale cnn_kernel_init_scale"
).split()
_NOT_NEGATIVE = (
    "seed num_evals num_resets_per_eval entropy_cost vf_loss_coefficient normalize_observations_std_eps "
    "clipping_epsilon_final entropy_cost_final learning_rate_warmup_timesteps"
).split()
_FRACTION = ("discounting", "gae_lambda", "learning_rate_final_fraction", "max_broken_fraction")
_NAMES = {
    "activation": ACTIVATIONS,
    "distribution_type": (*DISTRIBUTIONS, "categorical"),
    "policy_network_kernel_init_fn": INITIALIZERS,
    "value_network_kernel_init_fn": INITIALIZERS,
    "mean_kernel_init_fn": INITIALIZERS,
    "output_kernel_init_fn": INITIALIZERS,
    "cnn_kernel_init_fn": INITIALIZERS,
    "cnn_activation": ACTIVATIONS,
}
_LAYERS = (
    "policy_hidden_layer_sizes",
    "value_hidden_layer_sizes",
    "cnn_output_channels",
    "cnn_kernel_size",
    "cnn_stride",
)


def _check_ranges(config: Config) -> None:
    def require(holds: bool, name: str, rule: str) -> None:
        if not holds:
            raise ConfigError(f"{name} is {getattr(config, name)!r}, but must be {rule}")

    for name in _POSITIVE:
        value = getattr(config, name)
        require(value is None or value > 0, name, "greater than 0")
    for name in _NOT_NEGATIVE:
        value = getattr(config, name)
        require(value is None or value >= 0, name, "0 or greater")
    for name in _FRACTION:
        require(0 <= getattr(config, name) <= 1, name, "between 0 and 1")
    for name in _LAYERS:
        sizes = getattr(config, name)
        require(len(sizes) > 0 and min(sizes) > 0, name, "one or more sizes greater than 0, such as 32 32")
    delay = config.action_delay
    delays = delay if isinstance(delay, tuple) else (delay, delay)
    holds = len(delays) == 2 and 0 <= delays[0] <= delays[1]
    require(holds, "action_delay", "0 or greater, or the least and the greatest, such as 0 3")
    for name, known in _NAMES.items():
        value = getattr(config, name)
        if value is not None and value not in known:
            raise ConfigError(f"{name} is {value!r}, which is unknown{did_you_mean(value, known)}")


def _check_divisible(c: Config) -> None:
    """The batch must be whole unrolls of every env; else names sizes that work."""
    total = c.batch_size * c.num_minibatches
    each = c.unroll_length if c.minibatch_of == "transitions" else 1
    unit = c.num_envs * each
    if total % unit == 0:
        return
    below = total - total % unit
    fits = [n for n in (below, below + unit) if n]
    # Keep num_minibatches and name the nearest batch sizes that divide; else change num_envs.
    step = unit // math.gcd(unit, c.num_minibatches)
    lower = c.batch_size // step * step
    proposals = "batch_size " + " or ".join(str(n) for n in (lower, lower + step) if n)
    envs = [n for n in range(1, min(c.num_envs, total) + 1) if total % (n * each) == 0]
    if envs:
        proposals += f", or num_envs {max(envs)}"
    divisor = f"num_envs = {c.num_envs}"
    if each > 1:
        divisor = f"num_envs * unroll_length = {c.num_envs} * {each} = {unit}"
    raise ConfigError(
        f"batch_size * num_minibatches = {c.batch_size} * {c.num_minibatches} = {total} {c.minibatch_of} is not "
        f"divisible by {divisor} (nearest: {' or '.join(map(str, fits))}); {proposals}, would work"
    )


def _check_schedule(c: Config) -> None:
    if c.learning_rate_schedule_min_lr > c.learning_rate_schedule_max_lr:
        raise ConfigError(
            f"learning_rate_schedule_min_lr = {c.learning_rate_schedule_min_lr} is above "
            f"learning_rate_schedule_max_lr = {c.learning_rate_schedule_max_lr}"
        )
    if c.learning_rate_warmup_timesteps and c.adaptive_kl:
        raise ConfigError(
            f"learning_rate_warmup_timesteps = {c.learning_rate_warmup_timesteps} has no effect with "
            'learning_rate_schedule = "ADAPTIVE_KL"; "NONE", "LINEAR" or "COSINE" would work'
        )
    if c.learning_rate_warmup_timesteps >= c.total_env_steps:
        raise ConfigError(
            f"learning_rate_warmup_timesteps = {c.learning_rate_warmup_timesteps} is not shorter than the run of "
            f"{c.total_env_steps} env steps; {c.total_env_steps // 20} would work"
        )


def _check_combinations(config: Config) -> None:
    c = config
    _check_divisible(c)
    _check_schedule(c)
    if c.minibatch_of == "transitions" and c.gae_per == "minibatch":
        raise ConfigError(
            'minibatch_of = "transitions" has no sequences to compute advantages from in a minibatch; '
            'gae_per = "batch" would work'
        )
    if c.use_distributional_critic and c.clipping_epsilon_value is None:
        raise ConfigError("use_distributional_critic needs clipping_epsilon_value, its Huber threshold; 1.0 would work")
    if c.episode_length is not None and c.episode_length < c.action_repeat:
        raise ConfigError(
            f"episode_length = {c.episode_length} is shorter than one policy step of action_repeat = {c.action_repeat}"
        )
    for name in ("save_checkpoint_path", "restore_checkpoint_path"):
        if getattr(c, name) is not None and not getattr(c, name).strip("\0 "):
            raise ConfigError(f"{name} is {getattr(c, name)!r}, but must be a path; leave it out for none")
    if c.history_obs_keys and c.history == 1:
        raise ConfigError(
            f"history_obs_keys = {c.history_obs_keys} has no effect with history = 1; set history = 3, say, or leave "
            "history_obs_keys out"
        )
    if c.num_evals > MAX_EVALS:
        raise ConfigError(f"num_evals is {c.num_evals}, but {MAX_EVALS:,} evaluations are the most that can be kept")
    _check_vision(c)
    _check_idle(c)


def _check_vision(c: Config) -> None:
    if c.vision and c.action_repeat != 1:
        raise ConfigError(f"action_repeat is {c.action_repeat}, but must be 1 with vision = True, as in Brax")
    lengths = {name: len(getattr(c, name)) for name in ("cnn_output_channels", "cnn_kernel_size", "cnn_stride")}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ConfigError(f"{told}, but all must have one number for each convolution, such as 16 32, 5 3 and 2 2")


MAX_EVALS = 100_000  # each has a line in metrics.jsonl and a checkpoint

# Settings that act only where another one has a certain value, and that one sets only to have that effect: elsewhere they
# are refused rather than ignored. Others that lie idle, such as desired_kl without its schedule, stand in complete lists of
# Brax's arguments, and are let pass.
_ACTS_WITH = {
    "learning_rate_final_fraction": ("learning_rate_schedule", ("LINEAR", "COSINE")),
    "normalize_until_count": ("normalize_observations_mode", ("ema",)),
    "normalizer_clip": ("normalize_observations", (True,)),
    "noise_std_type": ("distribution_type", ("normal",)),
    "init_noise_std": ("distribution_type", ("normal",)),
    "state_dependent_std": ("distribution_type", ("normal",)),
    "mean_clip_scale": ("distribution_type", ("normal",)),
    "mean_kernel_init_fn": ("distribution_type", ("normal",)),
    "output_kernel_init_fn": ("distribution_type", ("tanh_normal", "categorical")),
    "view_size": ("vision", (True,)),
    "augment_pixels": ("vision", (True,)),
    "pixel_encoder": ("vision", (True,)),
    "shared_encoder": ("vision", (True,)),
    "normalise_channels": ("vision", (True,)),
    **{
        name: ("vision", (True,))
        for name in (
            "cnn_output_channels cnn_kernel_size cnn_stride cnn_padding cnn_activation cnn_max_pool cnn_global_pool "
            "cnn_kernel_init_fn"
        ).split()
    },
    **{
        f"{name}_kernel_init_scale": (f"{name}_kernel_init_fn", ("orthogonal",))
        for name in ("policy_network", "value_network", "mean", "output", "cnn")
    },
}


def _conditions(names: Iterable[str]) -> list[tuple[str, str, tuple[object, ...]]]:
    """Each setting that may lie idle, the one that it acts with, and the values of that."""
    convolutions = [(name, "pixel_encoder", ("cnn",)) for name in names if name.startswith("cnn_")]
    return [*((name, other, values) for name, (other, values) in _ACTS_WITH.items()), *convolutions]


def without_idle(
    values: Mapping[str, object], defaults: Mapping[str, object], keep: Collection[str] = ()
) -> dict[str, object]:
    """Settings by name, with their defaults for those that would be refused because they lie idle.

    defaults:  of all settings
    keep:      those that stay as they are
    """
    found = {**defaults, **values}
    for _ in range(2):  # one may lie idle because of another that did
        for name, other, wanted in _conditions(defaults):
            if found[other] not in wanted and name not in keep:
                found[name] = defaults[name]
    return found


def _check_idle(c: Config) -> None:
    defaults = {field.name: field.default for field in dataclasses.fields(c)}
    for name, other, values in _conditions(defaults):
        value, found = getattr(c, name), getattr(c, other)
        if value != defaults[name] and found not in values:
            alternatives = " or ".join(repr(value) for value in values)
            if (other, values) == ("distribution_type", ("normal",)):  # which discrete actions cannot have
                alternatives += " where actions are real numbers"
            raise ConfigError(
                f"{name} = {value!r} has no effect with {other} = {found!r}; set {other} = {alternatives}, or leave "
                f"{name} out"
            )
