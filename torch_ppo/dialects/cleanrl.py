"""CleanRL's ppo_continuous_action.py: its command line, its Args, or the config that it logs.

num_minibatches splits the rollout of num_steps in each of num_envs; the network, the wrappers that normalise, and
their limits are fixed in the script.
"""

import math

from torch_ppo.dialects import rollout
from torch_ppo.dialects.reading import Reading, Source
from torch_ppo.dialects.rollout import require_divisor, transitions_per_minibatch
from torch_ppo.dialects.writing import Writing, to_flags
from torch_ppo.errors import ConfigError

ABOUT = "CleanRL's ppo_continuous_action.py"

SAME = {
    "update_epochs": ("num_updates_per_batch", int, 10),
    "gamma": ("discounting", float, 0.99),
    "gae_lambda": ("gae_lambda", float, 0.95),
    "norm_adv": ("normalize_advantage", bool, True),
    "clip_coef": ("clipping_epsilon", float, 0.2),
    "ent_coef": ("entropy_cost", float, 0.0),
    "vf_coef": ("vf_loss_coefficient", float, 0.5),
    "max_grad_norm": ("max_grad_norm", float, 0.5),
    "seed": ("seed", int, 1),
}
SILENT = set(
    "exp_name torch_deterministic cuda track wandb_project_name wandb_entity capture_video save_model upload_model "
    "hf_entity env_id".split()
)
KEYS = {*SAME, *SILENT} | set(
    "total_timesteps learning_rate num_envs num_steps anneal_lr num_minibatches clip_vloss target_kl batch_size "
    "minibatch_size num_iterations".split()
)
# What the script has no option for: networks of two layers, VecNormalize-like wrappers, their limits.
FIXED = {
    "policy_hidden_layer_sizes": (64, 64),
    "value_hidden_layer_sizes": (64, 64),
    "activation": "tanh",
    "normalize_observations": True,
    "normalize_observations_std_eps": 1e-8,
    "normalize_rewards": True,
    "reward_clip": 10.0,
}


def read(values: dict[str, object], where: str, reading: Reading, num_envs: int | None) -> None:
    """Our settings from CleanRL's."""
    source = Source(values, where, KEYS)
    _read_rollout(source, reading, num_envs)
    reading.same(source, SAME)
    rate, anneal = source.take("learning_rate", float, 3e-4), source.take("anneal_lr", bool, True)
    says = f"{source.says('learning_rate', rate)}, {source.says('anneal_lr', anneal)}"
    reading.set(says, learning_rate=rate, **({"learning_rate_schedule": "LINEAR"} if anneal else {}))
    clip_values = source.take("clip_vloss", bool, True)
    clip = reading.settings["clipping_epsilon"] if clip_values else None
    reading.set(source.says("clip_vloss", clip_values), clipping_epsilon_value=clip)
    if (target := source.take("target_kl", float, None)) is not None:
        reading.set(f"target_kl = {target:g}, exceeded at 1.5 times ours", target_kl=target / 1.5)
        reading.differs.append("target_kl ends the passes after a whole one there, in the middle of one here")
    reading.set("what the script fixes", **FIXED)
    rollout.set_gaussian(reading, "log standard deviation 0", 1.0, "log")
    rollout.set_orthogonal(reading, "orthogonal weights")
    reading.differs += [
        rollout.REWARD_SCALE,
        "Adam's epsilon is 1e-5 there, 1e-8 here",
        (
            "a time limit counts as an end of value 0 there; the step is masked here (bootstrap_on_truncation = true would "
            "use it)"
        ),
    ]
    if anneal:
        reading.differs.append(rollout.FALL)
    rollout.say_when_normalized(reading, "in every env step, for each env apart,")
    reading.without.append("normalised observations are limited to 10 there")


def _read_rollout(source: Source, reading: Reading, num_envs: int | None) -> None:
    num_envs = num_envs if num_envs is not None else source.take("num_envs", int, 1)
    num_steps, number = source.take("num_steps", int, 2048), source.take("num_minibatches", int, 32)
    total, product = num_envs * num_steps, f"num_envs * num_steps = {num_envs} * {num_steps}"
    require_divisor("num_minibatches", number, total, product, "CleanRL ends each pass with a shorter minibatch")
    minibatch = transitions_per_minibatch(num_envs, num_steps, number)
    # The script computes these two; a logged config has them, and then they must agree.
    for key, there, how in (
        ("batch_size", total, product),
        ("minibatch_size", minibatch, f"{product} over num_minibatches = {number}"),
    ):
        value = source.take(key, int, 0)
        if value not in (0, there):
            raise ConfigError(
                f"{key} = {value} contradicts {how} = {there} transitions in {source.where}; CleanRL computes {key} "
                "itself, so leave it out or change the others"
            )
    rollout.set_rollout(
        reading, f"{product}, {source.says('num_minibatches', number)}", num_envs=num_envs, num_steps=num_steps,
        num_minibatches=number,
    )  # fmt: skip
    steps = source.take("total_timesteps", int, 1_000_000)
    says = source.says("total_timesteps", steps)
    rollout.set_steps(reading, says, iterations=steps // total, per_iteration=total)


def write(writing: Writing) -> str:
    """CleanRL's command line for our settings."""
    batch = rollout.rollout_of(writing)
    values = {
        "total_timesteps": rollout.iterations_of(writing, batch) * batch.transitions,
        "num_envs": batch.num_envs,
        "num_steps": batch.num_steps,
        "num_minibatches": batch.num_minibatches,
        **writing.rename({theirs: ours for theirs, (ours, _, _) in SAME.items()}),
        "learning_rate": writing.config.learning_rate,
    }
    if values["max_grad_norm"] is None:
        values["max_grad_norm"] = math.inf
    falls = rollout.falls_to_zero(writing)
    values["anneal_lr"] = falls["learning_rate"]
    if falls["clipping_epsilon"]:
        writing.differs.append("clipping_epsilon_final = 0: constant there")
    clip = writing.take("clipping_epsilon_value")
    values["clip_vloss"] = clip is not None
    if clip not in (None, values["clip_coef"]):
        writing.differs.append(f"clipping_epsilon_value = {clip:g} here, clip_coef = {values['clip_coef']:g} there")
    if (target := writing.take("target_kl")) is not None:
        values["target_kl"] = round(1.5 * target, 12)
    writing.expect(**FIXED, bootstrap_on_truncation=False)
    if rollout.initial_std(writing, "log") != 1.0:
        writing.differs.append(f"init_noise_std = {writing.config.init_noise_std:g} here, 1 there")
    rollout.is_orthogonal(writing)
    return to_flags(values)
