"""RSL-RL 5.5: the runner's configuration, with the `policy` section of versions before 5 as well.

num_mini_batches splits the rollout of num_steps_per_env in each env; the number of envs is the environment's.
"""

from torch_ppo.dialects import rollout
from torch_ppo.dialects.reading import Reading, Source
from torch_ppo.dialects.rollout import require_divisor
from torch_ppo.dialects.writing import Writing, to_yaml
from torch_ppo.errors import ConfigError

ABOUT = "RSL-RL 5.5 and before: Playground's rsl_rl_config, Isaac Lab, mjlab"

SAME = {
    "num_learning_epochs": ("num_updates_per_batch", int, 5),
    "clip_param": ("clipping_epsilon", float, 0.2),
    "gamma": ("discounting", float, 0.99),
    "lam": ("gae_lambda", float, 0.95),
    "entropy_coef": ("entropy_cost", float, 0.01),
    "learning_rate": ("learning_rate", float, 1e-3),
    "max_grad_norm": ("max_grad_norm", float, 1.0),
}
NEUTRAL = {
    "rnd_cfg": (None, "curiosity rewards"),
    "symmetry_cfg": (None, "symmetric copies of transitions"),
    "optimizer": ("adam", "another optimizer than Adam"),
    "use_mixed_precision": (False, "--bf16 is ours, and left to you"),
    "share_cnn_encoders": (None, "shared_encoder has networks that see pixels share theirs here"),
}
NEUTRAL_RUNNER = {
    "clip_actions": (None, "the model's control range limits actions here"),
    "obs_groups": (None, "which observations a network sees: policy_obs_key and value_obs_key"),
}
SILENT = set(
    "class_name runner_class_name save_interval experiment_name run_name logger neptune_project wandb_project "
    "wandb_entity wandb_tags upload_model resume load_run load_checkpoint checkpoint resume_path device check_for_nan "
    "torch_compile_mode multi_gpu grad_reduce_bucket_mb log_interval".split()
)
ALGORITHM_KEYS = {*SAME, *NEUTRAL, *SILENT, "num_mini_batches", "value_loss_coef", "use_clipped_value_loss"} | {
    "schedule",
    "desired_kl",
    "normalize_advantage_per_mini_batch",
}
KEYS = {*NEUTRAL_RUNNER, *SILENT} | set(
    "seed num_envs num_steps_per_env max_iterations empirical_normalization policy actor critic algorithm".split()
)
POLICY_KEYS = set(
    "class_name init_noise_std noise_std_type actor_hidden_dims critic_hidden_dims activation actor_obs_normalization "
    "critic_obs_normalization state_dependent_std".split()
)
MODEL_KEYS = set(
    "class_name hidden_dims activation obs_normalization distribution_cfg cnn_cfg rnn_type rnn_hidden_dim rnn_num_layers "
    "stochastic init_noise_std noise_std_type state_dependent_std".split()
)
DISTRIBUTION_KEYS = set("class_name init_std std_type std_range learn_std".split())
ACTIVATIONS = {
    "elu": "elu",
    "relu": "relu",
    "selu": "selu",
    "lrelu": "leaky_relu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "gelu": "gelu",
    "swish": "swish",
    "mish": "mish",
}
# Written where ours differs by more than rounding: sqrt(variance + 1e-4) here, sqrt(variance) + 1e-2 there.
NORMALIZER_EPS = 1e-4


def read(values: dict[str, object], where: str, reading: Reading, num_envs: int | None) -> None:
    """Our settings from RSL-RL's."""
    runner = Source(values, where, KEYS)
    algorithm = runner.section("algorithm", ALGORITHM_KEYS)
    _read_rollout(runner, algorithm, reading, num_envs)
    reading.same(algorithm, SAME)
    coefficient = algorithm.take("value_loss_coef", float, 1.0)
    says = algorithm.says("value_loss_coef", coefficient)
    reading.set(f"{says} of the squared error", vf_loss_coefficient=2 * coefficient)
    clips = algorithm.take("use_clipped_value_loss", bool, True)
    value_clip = reading.settings["clipping_epsilon"] if clips else None
    reading.set(algorithm.says("use_clipped_value_loss", clips), clipping_epsilon_value=value_clip)
    adaptive = algorithm.one_of("schedule", ("adaptive", "fixed"), "adaptive") == "adaptive"
    kl = algorithm.take("desired_kl", float, 0.01)
    if adaptive:
        reading.set(
            f"{algorithm.says('schedule', 'adaptive')}, {algorithm.says('desired_kl', kl)}, between 1e-5 and 1e-2",
            learning_rate_schedule="ADAPTIVE_KL",
            desired_kl=kl,
            learning_rate_schedule_min_lr=1e-5,
            learning_rate_schedule_max_lr=1e-2,
        )
        reading.differs.append("the KL sets the learning rate before the minibatch's own step there, after it here")
    if not algorithm.take("normalize_advantage_per_mini_batch", bool, False):
        reading.differs.append(rollout.BATCH_ADVANTAGE)
    reading.set("time_outs are bootstrapped", bootstrap_on_truncation=True)
    rollout.set_seed(reading, runner, 0)
    _read_networks(runner, reading)
    reading.neutral(algorithm, NEUTRAL)
    reading.neutral(runner, NEUTRAL_RUNNER)
    reading.differs += [
        rollout.CURRENT_VALUE,
        rollout.FIXED_MINIBATCHES,
        rollout.TORCH_INIT,
        "max_grad_norm limits the gradients of policy and value network apart there, together here",
    ]


def _read_rollout(runner: Source, algorithm: Source, reading: Reading, num_envs: int | None) -> None:
    num_envs = rollout.take_num_envs(runner, "num_envs", num_envs, "RSL-RL asks the environment")
    num_steps, number = runner.take("num_steps_per_env", int), algorithm.take("num_mini_batches", int, 4)
    total, product = num_envs * num_steps, f"num_envs * num_steps_per_env = {num_envs} * {num_steps}"
    require_divisor("num_mini_batches", number, total, product, "RSL-RL leaves {rest} out of each pass")
    says = f"{product}, {algorithm.says('num_mini_batches', number)}"
    rollout.set_rollout(reading, says, num_envs=num_envs, num_steps=num_steps, num_minibatches=number)
    if "max_iterations" in runner:
        iterations = runner.take("max_iterations", int)
        rollout.set_steps(reading, f"max_iterations = {iterations}", iterations=iterations, per_iteration=total)


def _read_networks(runner: Source, reading: Reading) -> None:
    if "policy" in runner and ("actor" in runner or "critic" in runner):
        raise ConfigError(f"{runner.where} has both policy and actor or critic; RSL-RL 5 reads actor and critic alone")
    if "actor" in runner or "critic" in runner:
        _read_models(runner, reading)
        return
    policy = runner.section("policy", POLICY_KEYS)
    if "Recurrent" in (name := policy.take("class_name", str, "ActorCritic")):
        raise ConfigError(f"class_name is {name!r} in {policy.where}, but recurrent networks have no counterpart")
    _set_sizes(
        reading,
        policy.take("actor_hidden_dims", list, [256, 256, 256]),
        policy.take("critic_hidden_dims", list, [256, 256, 256]),
    )
    says, activation = rollout.activation_of(policy, "activation", "elu", ACTIVATIONS)
    reading.set(says, activation=activation)
    std, kind = policy.take("init_noise_std", float, 1.0), policy.one_of("noise_std_type", ("scalar", "log"), "scalar")
    rollout.set_gaussian(reading, f"init_noise_std = {std:g}, {policy.says('noise_std_type', kind)}", std, kind)
    if policy.take("state_dependent_std", bool, False):
        reading.set("state_dependent_std = True", state_dependent_std=True)
    everywhere = runner.take("empirical_normalization", bool, None) or False
    actor, critic = (policy.take(f"{name}_obs_normalization", bool, everywhere) for name in ("actor", "critic"))
    _set_normalizer(reading, "empirical_normalization", actor, critic)


def _read_models(runner: Source, reading: Reading) -> None:
    """The actor and critic sections of version 5."""
    actor, critic = (runner.section(name, MODEL_KEYS) for name in ("actor", "critic"))
    for model in (actor, critic):
        if (name := model.take("class_name", str, "MLPModel")).rpartition(".")[2].rpartition(":")[2] != "MLPModel":
            raise ConfigError(f"class_name is {name!r} in {model.where}, but only MLPModel has a counterpart")
    _set_sizes(reading, *(model.take("hidden_dims", list, [256, 256, 256]) for model in (actor, critic)))
    says, activation = rollout.activation_of(actor, "activation", "elu", ACTIVATIONS)
    reading.set(says, activation=activation)
    if (other := critic.take("activation", str, "elu")) != actor.take("activation", str, "elu"):
        reading.without.append(f"activation = {other} of the critic: both networks have the actor's")
    if "distribution_cfg" not in actor:  # version 4 has its settings beside the others
        older = {"init_noise_std": "init_std", "noise_std_type": "std_type"}
        actor.values["distribution_cfg"] = {new: actor.values[old] for old, new in older.items() if old in actor}
        if actor.take("state_dependent_std", bool, False):
            actor.values["distribution_cfg"]["class_name"] = "HeteroscedasticGaussianDistribution"
    noise = actor.section("distribution_cfg", DISTRIBUTION_KEYS)
    std, kind = noise.take("init_std", float, 1.0), noise.one_of("std_type", ("scalar", "log"), "scalar")
    rollout.set_gaussian(reading, f"{noise.says('init_std', std)}, {noise.says('std_type', kind)}", std, kind)
    reading.neutral(noise, {"learn_std": (True, "a fixed standard deviation"), "std_range": (None, "its limits")})
    name = noise.take("class_name", str, "GaussianDistribution").rpartition(".")[2].rpartition(":")[2]
    if name not in ("GaussianDistribution", "HeteroscedasticGaussianDistribution"):
        raise ConfigError(f"class_name is {name!r} in {noise.where}, but must be GaussianDistribution")
    if name.startswith("Hetero"):
        reading.set("a standard deviation that depends on the observation", state_dependent_std=True)
    _set_normalizer(reading, "obs_normalization", *(m.take("obs_normalization", bool, False) for m in (actor, critic)))


def _set_sizes(reading: Reading, actor: list, critic: list) -> None:
    reading.set(
        "hidden layers of actor and critic",
        policy_hidden_layer_sizes=tuple(actor),
        value_hidden_layer_sizes=tuple(critic),
    )


def _set_normalizer(reading: Reading, key: str, actor: bool, critic: bool) -> None:
    if actor != critic:
        reading.differs.append(f"{key} is {actor} for the actor, {critic} for the critic; here it is one for both")
    reading.set(f"{key} = {actor}", normalize_observations=actor)
    if actor:
        reading.set("0.01 beside the standard deviation", normalize_observations_std_eps=NORMALIZER_EPS)
        reading.differs.append("0.01 is added to the standard deviation there, 1e-4 to the variance here")
        rollout.say_when_normalized(reading, rollout.AFTER_PASSES)


def write(writing: Writing) -> str:
    """The runner's YAML, with the sections of version 5, of our settings."""
    config, batch = writing.config, rollout.rollout_of(writing)
    algorithm = {
        "class_name": "PPO",
        "num_mini_batches": batch.num_minibatches,
        **writing.rename({theirs: ours for theirs, (ours, _, _) in SAME.items()}),
        "value_loss_coef": writing.take("vf_loss_coefficient") / 2,
        "use_clipped_value_loss": writing.take("clipping_epsilon_value") is not None,
        "schedule": "adaptive" if config.adaptive_kl else "fixed",
        "normalize_advantage_per_mini_batch": writing.take("normalize_advantage"),
    }
    if algorithm["max_grad_norm"] is None:
        algorithm["max_grad_norm"] = float("inf")
    if config.clipping_epsilon_value not in (None, config.clipping_epsilon):
        writing.differs.append(f"clipping_epsilon_value = {config.clipping_epsilon_value:g} here, clip_param there")
    if config.adaptive_kl:
        algorithm["desired_kl"] = writing.take("desired_kl")
        writing.expect(learning_rate_schedule_min_lr=1e-5, learning_rate_schedule_max_lr=1e-2)
        writing.take("learning_rate_schedule")
    else:
        writing.expect(learning_rate_schedule=config.learning_rate_schedule and "NONE")
    if not config.normalize_advantage:
        writing.differs.append("normalize_advantage = False: RSL-RL always standardises, over the rollout")
    std = rollout.initial_std(writing, "scalar", "log")
    normalize = writing.take("normalize_observations")
    writing.expect(bootstrap_on_truncation=True, **({"normalize_observations_std_eps": 1e-4} if normalize else {}))
    rollout.is_orthogonal(writing)
    activation = rollout.activation_word(writing, ACTIVATIONS)
    model = {"class_name": "MLPModel", "activation": activation, "obs_normalization": normalize}
    actor = {"hidden_dims": writing.take("policy_hidden_layer_sizes"), **model}
    noise = {"class_name": "GaussianDistribution", "init_std": std, "std_type": config.noise_std_type}
    values = {
        "num_envs": batch.num_envs,
        "seed": writing.take("seed"),
        "num_steps_per_env": batch.num_steps,
        "max_iterations": rollout.iterations_of(writing, batch),
        "actor": {**actor, "distribution_cfg": noise},
        "critic": {"hidden_dims": writing.take("value_hidden_layer_sizes"), **model},
        "algorithm": algorithm,
    }
    return to_yaml(values)
