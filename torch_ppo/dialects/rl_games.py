"""RL Games: the params of a YAML file, or its params.config alone.

minibatch_size counts transitions of one minibatch; the rollout is horizon_length in each of num_actors. Values like
${...} and -1, which Isaac Gym and Isaac Lab fill in when they start, count as not set.
"""

import math
import re

from torch_ppo.dialects import rollout
from torch_ppo.dialects.reading import Reading, Source
from torch_ppo.dialects.rollout import minibatches_per_rollout, require_divisor
from torch_ppo.dialects.writing import Writing, to_yaml
from torch_ppo.errors import ConfigError

ABOUT = "RL Games, Isaac Gym's and Isaac Lab's rl_games_ppo_cfg.yaml"

SAME = {
    "mini_epochs": ("num_updates_per_batch", int, 4),
    "e_clip": ("clipping_epsilon", float, 0.2),
    "gamma": ("discounting", float, 0.99),
    "tau": ("gae_lambda", float, 0.95),
    "entropy_coef": ("entropy_cost", float, 0.0),
    "critic_coef": ("vf_loss_coefficient", float, 1.0),
    "normalize_advantage": ("normalize_advantage", bool, True),
}
NEUTRAL = {
    "normalize_value": (False, "value targets in units of their running standard deviation"),
    "bounds_loss_coef": (0, "a penalty on means beyond 1.1"),
    "mixed_precision": (False, "--bf16 is ours, and left to you"),
    "central_value_config": (None, "a value network of its own: value_obs_key and value_hidden_layer_sizes"),
    "use_smooth_clamp": (False, "a smooth form of the ratio's clip"),
    "weight_decay": (0, "decay of the weights"),
    "normalize_rms_advantage": (False, "advantages in units of a running deviation"),
    "score_to_win": (None, "the run does not end at a score"),
    "epochs_between_resets": (0, "resets of all envs: num_resets_per_eval"),
    "freeze_critic": (False, "a value network that does not learn"),
    "permute": (False, "minibatches in random order are what there is here"),
}
SILENT = set(
    "name full_experiment_name env_name env_config device device_name multi_gpu ppo max_steps save_best_after "
    "save_frequency seq_length seq_len bptt_length zero_rnn_on_done games_to_track print_stats player use_diagnostics "
    "clip_actions bound_loss_type train_dir network_path log_path features stop_fn multi_gpu_sync_stats "
    "multi_gpu_sync_stats_mode capability_manifest vecenv_type algo_observer vec_env env_info self_play is_train torch_compile score".split()
)
CONFIG_KEYS = {*SAME, *NEUTRAL, *SILENT} | set(
    "num_actors horizon_length minibatch_size minibatch_size_per_env max_epochs max_frames learning_rate lr_schedule "
    "schedule_type kl_threshold min_lr max_lr lr_multiplier schedule_entropy truncate_grads grad_norm clip_value "
    "value_bootstrap reward_shaper normalize_input seed".split()
)
PARAMS_KEYS = set("seed env algo model network config load_checkpoint load_path torch_threads".split())
KEYS = {"params", *PARAMS_KEYS, *CONFIG_KEYS}
NETWORK_KEYS = set("name separate space mlp rnn cnn normalization value_activation".split())
MLP_KEYS = set("units activation d2rl initializer regularizer norm_only_first_layer".split())
SHAPER_KEYS = set("scale_value shift_value min_val max_val log_val is_torch".split())
ACTIVATIONS = {
    "elu": "elu",
    "relu": "relu",
    "selu": "selu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "swish": "swish",
    "gelu": "gelu",
}


def _filled_in(value: object) -> object:
    """Without the values that are only filled in at start; ${resolve_default:500,...} is 500."""
    if isinstance(value, dict):
        items = {key: _filled_in(item) for key, item in value.items()}
        return {key: item for key, item in items.items() if item is not NOT_SET}
    if isinstance(value, str) and value.startswith("${"):
        default = re.match(r"\$\{resolve_default:([-+.\deE]+),", value)
        return float(default[1]) if default else NOT_SET
    return value


NOT_SET = object()


def read(values: dict[str, object], where: str, reading: Reading, num_envs: int | None) -> None:
    """Our settings from RL Games'."""
    if "params" in values:
        values = Source(values, where, {"params"}).take("params", dict)
    values = _filled_in(values)
    whole = "config" in values
    params = Source(values if whole else {}, where, PARAMS_KEYS)
    source = params.section("config", CONFIG_KEYS) if whole else Source(values, where, CONFIG_KEYS)
    _read_rollout(source, reading, num_envs)
    reading.same(source, SAME)
    _read_learning_rate(source, reading)
    clips = source.take("clip_value", bool, True)
    reading.set(
        source.says("clip_value", clips),
        clipping_epsilon_value=reading.settings["clipping_epsilon"] if clips else None,
    )
    limit = source.take("grad_norm", float, 1.0) if source.take("truncate_grads", bool, False) else None
    reading.set(
        f"truncate_grads = {limit is not None}, {source.says('grad_norm', source.values.get('grad_norm', 1.0))}",
        max_grad_norm=limit,
    )
    _read_rewards(source, reading)
    if source.take("normalize_input", bool, False):
        reading.set("normalize_input = True", normalize_observations=True, normalize_observations_std_eps=1e-5)
        reading.without.append("normalised observations are limited to 5 there")
        rollout.say_when_normalized(reading, "during the first pass")
    rollout.set_seed(reading, params if "seed" in params else source, 0)
    _read_network(params.section("network", NETWORK_KEYS), reading)
    reading.neutral(source, NEUTRAL)
    reading.differs += [
        rollout.BATCH_ADVANTAGE,
        "minibatches are consecutive there, the same in every pass; random here",
    ]


def _read_rollout(source: Source, reading: Reading, num_envs: int | None) -> None:
    num_envs = rollout.take_num_envs(source, "num_actors", num_envs, "num_actors is filled in at start")
    num_steps = source.take("horizon_length", int)
    total, product = num_envs * num_steps, f"num_actors * horizon_length = {num_envs} * {num_steps}"
    each, minibatch = source.take("minibatch_size_per_env", int, 0), source.take("minibatch_size", int, 0)
    if each and minibatch and each * num_envs != minibatch:
        raise ConfigError(
            f"minibatch_size = {minibatch} and minibatch_size_per_env = {each} contradict each other in {source.where}: "
            f"the second makes {each} * {num_envs} = {each * num_envs}; RL Games takes the first, so leave one out"
        )
    minibatch = minibatch or each * num_envs
    if not minibatch:
        raise ConfigError(f"{source.where} does not set minibatch_size, in transitions; {total // 2 or 1} would do")
    require_divisor("minibatch_size", minibatch, total, product, "RL Games refuses it")
    number = minibatches_per_rollout(num_envs, num_steps, minibatch)
    says = f"{product}, minibatch_size = {minibatch} transitions"
    rollout.set_rollout(reading, says, num_envs=num_envs, num_steps=num_steps, num_minibatches=number)
    epochs, frames = source.take("max_epochs", int, -1), source.take("max_frames", int, -1)
    limits = [("max_epochs", epochs)] * (epochs > 0) + [("max_frames", -(-frames // total))] * (frames > 0)
    if limits:
        key, iterations = min(limits, key=lambda limit: limit[1])
        says = source.says(key, source.take(key, int))
        rollout.set_steps(reading, says, iterations=iterations, per_iteration=total)


def _read_learning_rate(source: Source, reading: Reading) -> None:
    rate = source.take("learning_rate", float, 3e-4)
    words = ("adaptive", "linear", "identity", "constant", "None", "none")
    schedule = source.one_of("lr_schedule", words, "None") if source.values.get("lr_schedule") else "None"
    lowest, highest = source.take("min_lr", float, 1e-6), source.take("max_lr", float, 1e-2)
    if not rate > 0:
        raise ConfigError(f"learning_rate is {rate} in {source.where}, but must be greater than 0")
    reading.set(source.says("learning_rate", rate), learning_rate=rate)
    if schedule == "adaptive":
        kl = source.take("kl_threshold", float, 0.008)
        reading.set(
            f"lr_schedule = adaptive, {source.says('kl_threshold', kl)}, between {lowest:g} and {highest:g}",
            learning_rate_schedule="ADAPTIVE_KL",
            desired_kl=kl,
            learning_rate_schedule_min_lr=lowest,
            learning_rate_schedule_max_lr=highest,
        )
        if (kind := source.take("schedule_type", str, "per_minibatch")) not in ("per_minibatch", "legacy"):
            reading.differs.append(f"schedule_type = {kind}: the learning rate follows every minibatch here")
        reading.neutral(source, {"lr_multiplier": (1.5, "steps of the learning rate other than 1.5")})
    elif schedule == "linear":
        reading.set(
            f"lr_schedule = linear, down to {lowest:g}",
            learning_rate_schedule="LINEAR",
            learning_rate_final_fraction=min(lowest / rate, 1.0),
        )
        reading.differs.append(rollout.FALL)
        if source.take("schedule_entropy", bool, False):
            reading.set("schedule_entropy = True, down to 1e-4", entropy_cost_final=1e-4)


def _read_rewards(source: Source, reading: Reading) -> None:
    bootstrap = source.take("value_bootstrap", bool, True)
    reading.set(source.says("value_bootstrap", bootstrap), bootstrap_on_truncation=bootstrap)
    reading.differs.append(
        rollout.CURRENT_VALUE
        if bootstrap
        else "a time limit counts as an end of value 0 there; the step is masked here"
    )
    shaper = source.section("reward_shaper", SHAPER_KEYS)
    scale = shaper.take("scale_value", float, 1.0)
    reading.set(shaper.says("scale_value", scale), reward_scaling=scale)
    low, high = shaper.take("min_val", float, -math.inf), shaper.take("max_val", float, math.inf)
    if scale and low == -high and high != math.inf:
        reading.set(f"min_val = {low:g}, max_val = {high:g}, after scale_value", reward_clip=high / scale)
    else:
        reading.neutral(shaper, {key: (None, "limits that are not symmetric") for key in ("min_val", "max_val")})
    reading.neutral(shaper, {"shift_value": (0, "a constant added to rewards"), "log_val": (False, "their logarithm")})


def _read_network(network: Source, reading: Reading) -> None:
    for key in ("rnn", "cnn"):
        if network.values.get(key):
            raise ConfigError(f"{network.where} has {key}, which has no counterpart; only mlp has")
    if not network.values:
        reading.differs.append("no network in the file: ours keeps its defaults")
        return
    mlp = network.section("mlp", MLP_KEYS)
    units = tuple(mlp.take("units", list))
    reading.set(
        mlp.says("units", list(units)),
        policy_hidden_layer_sizes=units,
        value_hidden_layer_sizes=units,
    )
    says, activation = rollout.activation_of(mlp, "activation", "elu", ACTIVATIONS)
    reading.set(says, activation=activation)
    if not network.take("separate", bool, False):
        reading.differs.append("separate = False: policy and value share the hidden layers there; here they never do")
    reading.neutral(mlp, {"d2rl": (False, "layers that see the input again")})
    reading.neutral(network, {"normalization": (None, "normalisation in the layers: layer_norm")})
    # From here on only a few words of a deep tree matter.
    continuous = network.section("space", None).section("continuous", None)
    sigma = continuous.section("sigma_init", None)
    rollout.set_gaussian(reading, sigma.says("val", sigma.values.get("val", 0)), sigma.std("val"), "log")
    if continuous.values.get("fixed_sigma") is False:
        reading.set("fixed_sigma = False", state_dependent_std=True)
    reading.differs.append(rollout.TORCH_INIT)


def write(writing: Writing) -> str:
    """The params of an RL Games YAML file for our settings."""
    config, batch = writing.config, rollout.rollout_of(writing)
    limit = writing.take("max_grad_norm")
    normalize, clip = writing.take("normalize_observations"), writing.take("clipping_epsilon_value")
    values = {
        "num_actors": batch.num_envs,
        "horizon_length": batch.num_steps,
        "minibatch_size": batch.minibatch,
        "max_epochs": rollout.iterations_of(writing, batch),
        **writing.rename({theirs: ours for theirs, (ours, _, _) in SAME.items()}),
        "learning_rate": writing.take("learning_rate"),
        "lr_schedule": {"ADAPTIVE_KL": "adaptive", "LINEAR": "linear"}.get(writing.take("learning_rate_schedule")),
        "truncate_grads": limit is not None,
        "grad_norm": 1.0 if limit is None else limit,
        "clip_value": clip is not None,
        "value_bootstrap": writing.take("bootstrap_on_truncation"),
        "normalize_input": normalize,
        "normalize_value": False,
        "reward_shaper": {"scale_value": writing.take("reward_scaling")},
    }
    if config.adaptive_kl:
        values["kl_threshold"] = writing.take("desired_kl")
        values["min_lr"] = writing.take("learning_rate_schedule_min_lr")
        values["max_lr"] = writing.take("learning_rate_schedule_max_lr")
    elif config.learning_rate_schedule == "LINEAR":
        values["min_lr"] = writing.take("learning_rate_final_fraction") * config.learning_rate
    elif config.learning_rate_schedule == "COSINE":
        writing.differs.append("learning_rate_schedule = COSINE: constant there")
    if clip not in (None, config.clipping_epsilon):
        writing.differs.append(f"clipping_epsilon_value = {clip:g} here, e_clip = {config.clipping_epsilon:g} there")
    if normalize:
        writing.expect(normalize_observations_std_eps=1e-5)
    if (reward_clip := writing.take("reward_clip")) is not None:
        reward_clip *= config.reward_scaling
        values["reward_shaper"] |= {"min_val": -reward_clip, "max_val": reward_clip}
    return to_yaml({"params": {"seed": writing.take("seed"), **_write_network(writing), "config": values}})


def _write_network(writing: Writing) -> dict[str, object]:
    policy, value = writing.take("policy_hidden_layer_sizes"), writing.take("value_hidden_layer_sizes")
    if policy != value:
        writing.differs.append(f"value_hidden_layer_sizes = {list(value)}: there both networks have the policy's")
    activation = rollout.activation_word(writing, ACTIVATIONS)
    rollout.is_orthogonal(writing)
    noise = {"name": "const_initializer", "val": math.log(rollout.initial_std(writing, "log"))}
    continuous = {
        "mu_activation": "None",
        "sigma_activation": "None",
        "mu_init": {"name": "default"},
        "sigma_init": noise,
        "fixed_sigma": True,
    }
    layers = {
        "units": policy,
        "activation": activation,
        "initializer": {"name": "default"},
    }
    return {
        "algo": {"name": "a2c_continuous"},
        "model": {"name": "continuous_a2c_logstd"},
        "network": {
            "name": "actor_critic",
            "separate": True,
            "space": {"continuous": continuous},
            "mlp": layers,
        },
    }
