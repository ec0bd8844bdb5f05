"""Stable-Baselines3 2.9: the arguments of PPO(...), with the keys that RL Zoo and Isaac Lab put beside them.

batch_size counts transitions of one minibatch; the rollout is n_steps in each of n_envs.
"""

import math

from torch_ppo.dialects import rollout
from torch_ppo.dialects.parse import parse_python, scalar
from torch_ppo.dialects.reading import Reading, Source
from torch_ppo.dialects.rollout import minibatches_per_rollout, require_divisor, transitions_per_minibatch
from torch_ppo.dialects.writing import Writing, to_yaml
from torch_ppo.errors import ConfigError

ABOUT = "Stable-Baselines3 2.9, RL Zoo, Isaac Lab's sb3_ppo_cfg.yaml"

SAME = {
    "n_epochs": ("num_updates_per_batch", int, 10),
    "gamma": ("discounting", float, 0.99),
    "gae_lambda": ("gae_lambda", float, 0.95),
    "ent_coef": ("entropy_cost", float, 0.0),
    "normalize_advantage": ("normalize_advantage", bool, True),
    "max_grad_norm": ("max_grad_norm", float, 0.5),
    "target_kl": ("target_kl", float, None),
}
NEUTRAL = {
    "use_sde": (False, "state-dependent exploration noise"),
    "rollout_buffer_class": (None, "another way to keep rollouts"),
    "frame_stack": (1, "history stacks observations here, and is left to you"),
    "env_wrapper": (None, "torch_ppo.train(wrap_env_fn=...) takes one, and no file does"),
    "vec_env_wrapper": (None, "torch_ppo.train(wrap_env_fn=...) takes one, and no file does"),
    "env_kwargs": (None, "options of the task"),
    "callback": (None, "what callbacks do"),
}
NEUTRAL_POLICY = {
    "squash_output": (False, "tanh of the action, which goes with use_sde there"),
    "use_expln": (False, "another form of the standard deviation"),
    "features_extractor_class": (None, "a network in front of the policy"),
    "optimizer_class": (None, "another optimizer"),
    "optimizer_kwargs": (None, "options of the optimizer"),
}
SILENT = set(
    "env verbose tensorboard_log stats_window_size device _init_setup_model sde_sample_freq rollout_buffer_kwargs "
    "monitor_kwargs progress_bar log_interval reset_num_timesteps tb_log_name clip_obs".split()
)
KEYS = (
    {*SAME, *NEUTRAL, *SILENT, "policy", "policy_kwargs", "learning_rate", "clip_range", "clip_range_vf", "vf_coef"}
    | {"n_envs", "n_steps", "batch_size", "n_minibatches", "n_timesteps", "total_timesteps", "seed", "normalize"}
    | {"normalize_input", "normalize_value"}
)
POLICY_KEYS = {
    *NEUTRAL_POLICY,
    *"net_arch activation_fn ortho_init log_std_init full_std features_extractor_kwargs".split(),
    *"share_features_extractor normalize_images".split(),
}
ACTIVATIONS = {
    "Tanh": "tanh",
    "ReLU": "relu",
    "ELU": "elu",
    "SiLU": "swish",
    "GELU": "gelu",
    "LeakyReLU": "leaky_relu",
    "SELU": "selu",
    "Mish": "mish",
    "Sigmoid": "sigmoid",
}


def read(values: dict[str, object], where: str, reading: Reading, num_envs: int | None) -> None:
    """Our settings from SB3's."""
    source = Source(values, where, KEYS)
    if (policy := source.take("policy", str, "MlpPolicy")) not in ("MlpPolicy", "ActorCriticPolicy"):
        raise ConfigError(f"policy is {policy!r} in {where}, but only MlpPolicy has a counterpart")
    _read_rollout(source, reading, num_envs)
    reading.same(source, SAME)
    _read_schedules(source, reading)
    coefficient = source.take("vf_coef", float, 0.5)
    reading.set(source.says("vf_coef", coefficient) + " of the squared error", vf_loss_coefficient=2 * coefficient)
    reading.set("a time limit is bootstrapped", bootstrap_on_truncation=True)
    rollout.set_seed(reading, source, None)
    _read_normalization(source, reading)
    source.values["policy_kwargs"] = _evaluated(source, "policy_kwargs")
    _read_policy(source.section("policy_kwargs", POLICY_KEYS), reading)
    reading.neutral(source, NEUTRAL)
    reading.differs.append("Adam's epsilon is 1e-5 there, 1e-8 here")


def _read_rollout(source: Source, reading: Reading, num_envs: int | None) -> None:
    num_envs = num_envs if num_envs is not None else source.take("n_envs", int, 1)
    num_steps = source.take("n_steps", int, 2048)
    total, product = num_envs * num_steps, f"n_envs * n_steps = {num_envs} * {num_steps}"
    minibatch, count = source.take("batch_size", int, 64), source.take("n_minibatches", int, None)
    if count is not None:
        require_divisor("n_minibatches", count, total, product, "minibatches would not be whole")
        other = transitions_per_minibatch(num_envs, num_steps, count)
        if "batch_size" in source and minibatch != other:
            raise ConfigError(
                f"batch_size = {minibatch} and n_minibatches = {count} contradict each other in {source.where}: of "
                f"{product} = {total} transitions the first makes {total / minibatch:g} minibatches of {minibatch}, "
                f"the second {count} of {other}; leave one out"
            )
        minibatch = other
    if minibatch > total:
        reading.differs.append(f"batch_size = {minibatch} is more than the rollout: its {total} transitions at once")
        minibatch = total
    require_divisor("batch_size", minibatch, total, product, "SB3 ends each pass with a minibatch of {rest}")
    says = f"{product}, " + source.says("batch_size", minibatch) + " transitions"
    number = minibatches_per_rollout(num_envs, num_steps, minibatch)
    rollout.set_rollout(reading, says, num_envs=num_envs, num_steps=num_steps, num_minibatches=number)
    if "n_timesteps" in source and "total_timesteps" in source:
        raise ConfigError(f"{source.where} sets both n_timesteps and total_timesteps; leave one out")
    key = "total_timesteps" if "total_timesteps" in source else "n_timesteps"
    if key in source:
        steps = source.take(key, int)
        rollout.set_steps(reading, source.says(key, steps), iterations=-(-steps // total), per_iteration=total)


def _evaluated(source: Source, key: str) -> object:
    """A value that RL Zoo has as Python in a string."""
    value = source.values.get(key)
    if not isinstance(value, str):
        return value
    try:
        return parse_python(value)
    except SyntaxError:
        raise ConfigError(f"{key} is {value!r} in {source.where}, which is not Python such as dict(a=1)") from None


def _scheduled(source: Source, key: str, default: float | None) -> tuple[float | None, bool]:
    """A value and whether it falls linearly to 0, which RL Zoo writes as lin_3e-4."""
    value = source.values.get(key, default)
    if isinstance(value, str) and value.startswith("lin_"):
        number = scalar(value.removeprefix("lin_"))
        return Source({key: number}, source.where, None).take(key, float), True
    return source.take(key, float, default), False


def _read_schedules(source: Source, reading: Reading) -> None:
    value, falls = _scheduled(source, "learning_rate", 3e-4)
    ours = {"learning_rate": value} | ({"learning_rate_schedule": "LINEAR"} if falls else {})
    reading.set(source.says("learning_rate", source.values.get("learning_rate", value)), **ours)
    value, falls = _scheduled(source, "clip_range", 0.2)
    ours = {"clipping_epsilon": value} | ({"clipping_epsilon_final": 0.0} if falls else {})
    reading.set(source.says("clip_range", source.values.get("clip_range", value)), **ours)
    if {"learning_rate_schedule", "clipping_epsilon_final"} & reading.settings.keys():
        reading.differs.append(rollout.FALL)
    value, falls = _scheduled(source, "clip_range_vf", None)
    if value is not None and value > 0:
        reading.set(source.says("clip_range_vf", value), clipping_epsilon_value=value)
        reading.differs.append(rollout.UNCLIPPED_MAXIMUM)
    if falls:
        reading.without.append(f"clip_range_vf = lin_{value:g}: its fall to 0")


def _read_normalization(source: Source, reading: Reading) -> None:
    """VecNormalize: RL Zoo's `normalize`, or Isaac Lab's normalize_input and normalize_value."""
    options = _evaluated(source, "normalize")
    on = bool(options)
    options = Source(
        options if isinstance(options, dict) else {},
        f"normalize of {source.where}",
        set("norm_obs norm_reward clip_obs clip_reward gamma epsilon training norm_obs_keys".split()),
    )
    if options.take("norm_obs", bool, on) or source.take("normalize_input", bool, False):
        epsilon = options.take("epsilon", float, 1e-8)
        reading.set("VecNormalize of observations", normalize_observations=True, normalize_observations_std_eps=epsilon)
        clip = options.take("clip_obs", float, source.take("clip_obs", float, 10.0))
        rollout.say_when_normalized(reading, "in every env step")
        reading.without.append(f"clip_obs = {clip:g}: normalised observations are not limited")
    if options.take("norm_reward", bool, on) or source.take("normalize_value", bool, False):
        clip = options.take("clip_reward", float, 10.0)
        reading.set("VecNormalize of rewards", normalize_rewards=True, reward_clip=None if clip == math.inf else clip)
        reading.differs.append(rollout.REWARD_SCALE)


def _read_policy(source: Source, reading: Reading) -> None:
    shape = source.values.get("net_arch", {"pi": [64, 64], "vf": [64, 64]})
    if isinstance(shape, list) and len(shape) == 1 and isinstance(shape[0], dict):
        shape = shape[0]
    if isinstance(shape, list):
        shape = {"pi": shape, "vf": shape}
    if not isinstance(shape, dict) or shape.keys() != {"pi", "vf"}:
        raise ConfigError(
            f"net_arch is {shape!r} in {source.where}; [64, 64] or dict(pi=[64, 64], vf=[64, 64]) would do"
        )
    sizes = {name: tuple(value) for name, value in shape.items() if isinstance(value, (list, tuple))}
    reading.set(
        source.says("net_arch", list(sizes.values())),
        policy_hidden_layer_sizes=sizes.get("pi", ()),
        value_hidden_layer_sizes=sizes.get("vf", ()),
    )
    says, activation = rollout.activation_of(source, "activation_fn", "Tanh", ACTIVATIONS)
    reading.set(says, activation=activation)
    says = source.says("log_std_init", source.values.get("log_std_init", 0.0))
    rollout.set_gaussian(reading, says, source.std("log_std_init"), "log")
    if source.take("ortho_init", bool, True):
        rollout.set_orthogonal(reading, source.says("ortho_init", True))
    else:
        reading.differs.append(rollout.TORCH_INIT)
    reading.neutral(source, NEUTRAL_POLICY)


def write(writing: Writing) -> str:
    """RL Zoo's YAML of our settings."""
    config, batch = writing.config, rollout.rollout_of(writing)
    values = {
        "n_envs": batch.num_envs,
        "n_timesteps": writing.take("num_timesteps"),
        "policy": "MlpPolicy",
        "n_steps": batch.num_steps,
        "batch_size": batch.minibatch,
        **writing.rename({theirs: ours for theirs, (ours, _, _) in SAME.items()}),
        "vf_coef": writing.take("vf_loss_coefficient") / 2,
        "seed": writing.take("seed"),
    }
    if values["max_grad_norm"] is None:
        values["max_grad_norm"] = float("inf")
    falls = rollout.falls_to_zero(writing)
    values["learning_rate"] = f"lin_{config.learning_rate:g}" if falls["learning_rate"] else config.learning_rate
    clip = config.clipping_epsilon
    values["clip_range"] = f"lin_{clip:g}" if falls["clipping_epsilon"] else clip
    if (clip := writing.take("clipping_epsilon_value")) is not None:
        values["clip_range_vf"] = clip
        writing.differs.append("clipping_epsilon_value: the larger of both value losses here, the clipped one's there")
    writing.expect(bootstrap_on_truncation=True)
    rewards, clip = writing.take("normalize_rewards"), writing.take("reward_clip")
    observations, epsilon = writing.take("normalize_observations"), writing.take("normalize_observations_std_eps")
    if rewards or observations:
        values["normalize"] = {"norm_obs": observations, "norm_reward": rewards, "epsilon": epsilon}
        if rewards:
            values["normalize"]["clip_reward"] = clip if clip is not None else float("inf")
    values["policy_kwargs"] = _write_policy(writing)
    return to_yaml(values)


def _write_policy(writing: Writing) -> str:
    """policy_kwargs as the Python text that RL Zoo evaluates."""
    sizes = list(writing.take("policy_hidden_layer_sizes")), list(writing.take("value_hidden_layer_sizes"))
    activation = rollout.activation_word(writing, ACTIVATIONS)
    log_std = math.log(rollout.initial_std(writing, "log"))
    orthogonal = rollout.is_orthogonal(writing)
    return (
        f"dict(log_std_init={log_std:.6g}, ortho_init={orthogonal}, activation_fn=nn.{activation}, "
        f"net_arch=dict(pi={sizes[0]}, vf={sizes[1]}))"
    )
