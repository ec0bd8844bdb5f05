"""skrl 2.0: the cfg of its PPO agent, or Isaac Lab's YAML with models, agent and trainer; older spellings as well.

mini_batches splits the rollout of `rollouts` steps in each env; timesteps count steps of one env.
"""

import math

from torch_ppo.dialects import rollout
from torch_ppo.dialects.reading import Reading, Source
from torch_ppo.dialects.rollout import require_divisor
from torch_ppo.dialects.writing import Writing, to_yaml
from torch_ppo.errors import ConfigError

ABOUT = "skrl 2.0 and before, Isaac Lab's skrl_ppo_cfg.yaml"

SAME = {
    "learning_epochs": ("num_updates_per_batch", int, 8),
    "discount_factor": ("discounting", float, 0.99),
    "gae_lambda": ("gae_lambda", float, 0.95),
    "ratio_clip": ("clipping_epsilon", float, 0.2),
    "entropy_loss_scale": ("entropy_cost", float, 0.0),
    "time_limit_bootstrap": ("bootstrap_on_truncation", bool, False),
}
OLDER = {"lambda": "gae_lambda", "lambda_": "gae_lambda", "policy_learning_rate": "learning_rate"}
NEUTRAL = {
    "value_preprocessor": (None, "value targets in units of their running standard deviation"),
    "rewards_shaper": (None, "code that changes rewards"),
    "random_timesteps": (0, "random actions at the start"),
    "learning_starts": (0, "a start without learning"),
    "mixed_precision": (False, "--bf16 is ours, and left to you"),
    "value_learning_rate": (None, "a learning rate of its own for the value network"),
}
SILENT = {"class", "experiment", "value_preprocessor_kwargs", "state_preprocessor_kwargs", "num_envs"} | {
    "observation_preprocessor_kwargs"
}
AGENT_KEYS = {*SAME, *OLDER, *NEUTRAL, *SILENT} | set(
    "rollouts mini_batches learning_rate learning_rate_scheduler learning_rate_scheduler_kwargs grad_norm_clip "
    "value_clip clip_predicted_values value_loss_scale kl_threshold state_preprocessor observation_preprocessor "
    "rewards_shaper_scale".split()
)
TOP_KEYS = set("seed num_envs models memory agent trainer".split())
KEYS = TOP_KEYS | AGENT_KEYS
MODEL_KEYS = set(
    "class clip_actions clip_mean_actions clip_log_std min_log_std max_log_std initial_log_std network output reduction "
    "fixed_log_std input_shape hiddens hidden_activation output_shape output_activation output_scale".split()
)
TRAINER_KEYS = set(
    "class timesteps environment_info headless disable_progressbar close_environment_at_exit stochastic_evaluation "
    "render_interval".split()
)
ADAPTIVE_KEYS = set("kl_threshold min_lr max_lr kl_factor lr_factor".split())
ACTIVATIONS = {
    "elu": "elu",
    "relu": "relu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "leaky_relu": "leaky_relu",
    "selu": "selu",
    "silu": "swish",
    "mish": "mish",
    "gelu": "gelu",
}


def read(values: dict[str, object], where: str, reading: Reading, num_envs: int | None) -> None:
    """Our settings from skrl's."""
    whole = "agent" in values
    top = Source(values if whole else {}, where, TOP_KEYS)
    agent = top.section("agent", AGENT_KEYS) if whole else Source(values, where, AGENT_KEYS)
    source = Source({OLDER.get(key, key): value for key, value in agent.values.items()}, agent.where, AGENT_KEYS)
    if len(source.values) < len(agent.values):
        raise ConfigError(f"{where} sets the same thing under two spellings; leave one out of {', '.join(OLDER)}")
    _read_rollout(top, source, reading, num_envs)
    reading.same(source, SAME)
    _read_learning_rate(source, reading)
    scale = source.take("value_loss_scale", float, 2.5)
    reading.set(source.says("value_loss_scale", scale) + " of the squared error", vf_loss_coefficient=2 * scale)
    clip = source.take("value_clip", float, 0.2) if source.take("clip_predicted_values", bool, True) else 0.0
    reading.set(source.says("value_clip", clip), clipping_epsilon_value=clip if clip > 0 else None)
    if clip > 0:
        reading.differs.append(rollout.UNCLIPPED_MAXIMUM)
    limit = source.take("grad_norm_clip", float, 0.5)
    reading.set(source.says("grad_norm_clip", limit), max_grad_norm=limit if limit > 0 else None)
    if (target := source.take("kl_threshold", float, 0.0)) > 0:
        reading.set(f"kl_threshold = {target:g}, exceeded at 1.5 times ours", target_kl=target / 1.5)
        reading.differs.append("kl_threshold ends one pass there; the remaining ones too here")
    if (shaped := source.take("rewards_shaper_scale", float, None)) is not None:
        reading.set(f"rewards_shaper_scale = {shaped:g}", reward_scaling=shaped)
    if any(source.values.get(f"{name}_preprocessor") for name in ("observation", "state")):
        reading.set("RunningStandardScaler of observations", normalize_observations=True)
        reading.without.append("normalised observations are limited to 5 there")
        rollout.say_when_normalized(reading, "during the first pass")
    rollout.set_seed(reading, top, None)
    _read_models(top.section("models", {"separate", "policy", "value"}), reading)
    reading.neutral(source, NEUTRAL)
    reading.differs += [
        rollout.BATCH_ADVANTAGE,
        "minibatches are consecutive there, the same in every pass; random here",
    ]
    reading.differs.append(
        rollout.CURRENT_VALUE
        if reading.settings["bootstrap_on_truncation"]
        else "advantages run on across a time limit there; the step is masked here"
    )


def _read_rollout(top: Source, source: Source, reading: Reading, num_envs: int | None) -> None:
    holder = top if "num_envs" in top else source
    num_envs = rollout.take_num_envs(holder, "num_envs", num_envs, "skrl asks the environment")
    num_steps, number = source.take("rollouts", int, 16), source.take("mini_batches", int, 2)
    total, product = num_envs * num_steps, f"num_envs * rollouts = {num_envs} * {num_steps}"
    require_divisor("mini_batches", number, total, product, "skrl leaves {rest} out of each pass")
    says = f"{product}, {source.says('mini_batches', number)}"
    rollout.set_rollout(reading, says, num_envs=num_envs, num_steps=num_steps, num_minibatches=number)
    trainer = top.section("trainer", TRAINER_KEYS)
    if "timesteps" in trainer:
        steps = trainer.take("timesteps", int)
        says = f"timesteps = {steps} of each env"
        rollout.set_steps(reading, says, iterations=steps // num_steps, per_iteration=total)


def _read_learning_rate(source: Source, reading: Reading) -> None:
    rate = source.values.get("learning_rate", 1e-3)
    if isinstance(rate, (list, tuple)) and rate:
        if len(set(map(str, rate))) > 1:
            reading.without.append(f"learning_rate = {list(rate)}: one for both networks, the first, here")
        source.values["learning_rate"] = rate[0]
    rate = source.take("learning_rate", float, 1e-3)
    reading.set(source.says("learning_rate", rate), learning_rate=rate)
    scheduler = source.values.get("learning_rate_scheduler")
    if scheduler is None:
        return
    if str(scheduler).rpartition(".")[2] not in ("KLAdaptiveLR", "KLAdaptiveRL"):
        reading.without.append(f"learning_rate_scheduler = {scheduler}: constant here")
        return
    options = source.section("learning_rate_scheduler_kwargs", ADAPTIVE_KEYS)
    kl = options.take("kl_threshold", float, 0.008)
    reading.set(
        f"KLAdaptiveLR, {options.says('kl_threshold', kl)}",
        learning_rate_schedule="ADAPTIVE_KL",
        desired_kl=kl,
        learning_rate_schedule_min_lr=options.take("min_lr", float, 1e-6),
        learning_rate_schedule_max_lr=options.take("max_lr", float, 1e-2),
    )
    reading.neutral(options, {"kl_factor": (2, "other limits of the KL"), "lr_factor": (1.5, "other steps")})
    reading.differs.append("the learning rate follows the mean KL of a pass there, that of every minibatch here")


def _read_models(models: Source, reading: Reading) -> None:
    if not models.values:
        reading.differs.append("networks are code there: ours keep their defaults, with a normal distribution")
        rollout.set_gaussian(reading, "a Gaussian", 1.0, "log")
        return
    if not models.take("separate", bool, False):
        reading.differs.append("separate = False: policy and value share the hidden layers there; here they never do")
    for role in ("policy", "value"):
        model = models.section(role, MODEL_KEYS)
        network = model.take("network", list, [])
        if len(network) != 1 or not isinstance(network[0], dict):
            raise ConfigError(f"{model.where} must have one network of layers, such as layers: [256, 128, 64]")
        part = Source(network[0], f"network of {model.where}", {"name", "input", "layers", "activations"})
        layers = tuple(part.take("layers", list))
        reading.set(f"layers = {list(layers)} of the {role}", **{f"{role}_hidden_layer_sizes": layers})
        activations = part.values.get("activations", "elu")
        names = {activations} if isinstance(activations, str) else set(map(str, activations or ()))
        if len(names) != 1:
            raise ConfigError(f"activations are {activations} in {part.where}, but must be one for all layers")
        part.values["activations"] = names.pop()
        says, activation = rollout.activation_of(part, "activations", "elu", ACTIVATIONS)
        if reading.settings.setdefault("activation", activation) == activation:
            reading.set(f"{says} of the {role}", activation=activation)
        else:
            reading.without.append(f"{says} of the {role}: both networks have {reading.settings['activation']}")
        if role == "policy":
            says = model.says("initial_log_std", model.values.get("initial_log_std", 0.0))
            rollout.set_gaussian(reading, says, model.std("initial_log_std"), "log")
    reading.differs.append(rollout.TORCH_INIT)


def write(writing: Writing) -> str:
    """Isaac Lab's YAML of our settings."""
    config, batch = writing.config, rollout.rollout_of(writing)
    limit, clip = writing.take("max_grad_norm"), writing.take("clipping_epsilon_value")
    agent = {
        "class": "PPO",
        "rollouts": batch.num_steps,
        "mini_batches": batch.num_minibatches,
        **writing.rename({theirs: ours for theirs, (ours, _, _) in SAME.items()}),
        "learning_rate": writing.take("learning_rate"),
        "grad_norm_clip": 0.0 if limit is None else limit,
        "value_clip": 0.0 if clip is None else clip,
        "value_loss_scale": writing.take("vf_loss_coefficient") / 2,
        "rewards_shaper_scale": writing.take("reward_scaling"),
    }
    if (target := writing.take("target_kl")) is not None:
        agent["kl_threshold"] = round(1.5 * target, 12)
    if config.adaptive_kl:
        agent["learning_rate_scheduler"] = "KLAdaptiveLR"
        agent["learning_rate_scheduler_kwargs"] = {
            "kl_threshold": writing.take("desired_kl"),
            "min_lr": writing.take("learning_rate_schedule_min_lr"),
            "max_lr": writing.take("learning_rate_schedule_max_lr"),
        }
        writing.take("learning_rate_schedule")
    else:
        writing.expect(learning_rate_schedule=config.learning_rate_schedule and "NONE")
    if writing.take("normalize_observations"):
        agent["observation_preprocessor"] = "RunningStandardScaler"
    writing.take("normalize_observations_std_eps")
    writing.expect(normalize_advantage=True)
    activation = rollout.activation_word(writing, ACTIVATIONS)
    models: dict[str, object] = {"separate": True}
    rollout.is_orthogonal(writing)
    log_std = math.log(rollout.initial_std(writing, "log"))
    for role, kind in (("policy", "GaussianMixin"), ("value", "DeterministicMixin")):
        layers = list(writing.take(f"{role}_hidden_layer_sizes"))
        models[role] = {"class": kind, **({"initial_log_std": log_std} if role == "policy" else {})}
        models[role]["network"] = [{"name": "net", "input": "STATES", "layers": layers, "activations": activation}]
    steps = rollout.iterations_of(writing, batch) * batch.num_steps
    return to_yaml(
        {
            "seed": writing.take("seed"),
            "num_envs": batch.num_envs,
            "models": models,
            "agent": agent,
            "trainer": {"class": "SequentialTrainer", "timesteps": steps},
        }
    )
