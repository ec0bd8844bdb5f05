"""Other trainers' TensorBoard tags and options, in our words.

Tags from: rsl_rl/utils/logger.py and runners/on_policy_runner.py (rsl_rl 1 to 5), stable_baselines3/ppo/ppo.py and
common/callbacks.py (2.x), cleanrl/ppo_continuous_action.py, rl_games/common/a2c_common.py; Brax's own are ours.
"""

import math
from collections.abc import Collection, Mapping
from typing import NamedTuple

from torch_ppo.diagnosis.course import Point, Row

MAX_REPORTS = 50  # of another trainer's run, by which time it is cut into equal parts
PEAKS = ("approx_kl", "grad_norm", "v_loss")
# Entropy of a normal distribution of standard deviation 1, per action.
UNIT_ENTROPY = 0.5 * math.log(2 * math.pi * math.e)


class Trainer(NamedTuple):
    """tags: our metric for each of theirs; options: their name for each of ours; unit: what their steps are."""

    name: str
    tags: dict[str, str]
    options: dict[str, str]
    unit: str = "env steps"


TRAINERS = (
    Trainer(
        "rsl_rl",
        {
            "Train/mean_reward": "training/episode_reward",
            "Train/mean_episode_length": "training/episode_length",
            "Loss/value": "training/v_loss",
            "Loss/value_function": "training/v_loss",
            "Loss/surrogate": "training/policy_loss",
            "Loss/entropy": "training/entropy",
            "Loss/learning_rate": "training/learning_rate",
            "Policy/mean_std": "training/policy_dist_mean_std",
            "Policy/mean_noise_std": "training/policy_dist_mean_std",
            "Perf/total_fps": "training/sps",
        },
        {
            "discounting": "gamma",
            "entropy_cost": "entropy_coef",
            "vf_loss_coefficient": "value_loss_coef",
            "num_updates_per_batch": "num_learning_epochs",
            "target_kl": "schedule = adaptive with desired_kl",
            "learning_rate_schedule": "schedule",
            "init_noise_std": "init_std",
            "normalize_observations": "obs_normalization",
        },
        "iterations",
    ),
    Trainer(
        "Stable-Baselines3",
        {
            "eval/mean_reward": "eval/episode_reward",
            "eval/mean_ep_length": "eval/avg_episode_length",
            "rollout/ep_rew_mean": "training/episode_reward",
            "rollout/ep_len_mean": "training/episode_length",
            "train/approx_kl": "training/approx_kl",
            "train/clip_fraction": "training/clip_fraction",
            "train/explained_variance": "training/explained_variance",
            "train/value_loss": "training/v_loss",
            "train/policy_gradient_loss": "training/policy_loss",
            "train/loss": "training/total_loss",
            "train/std": "training/policy_dist_mean_std",
            "train/learning_rate": "training/learning_rate",
            "time/fps": "training/sps",
        },
        {
            "discounting": "gamma",
            "entropy_cost": "ent_coef",
            "vf_loss_coefficient": "vf_coef",
            "num_updates_per_batch": "n_epochs",
            "normalize_observations": "VecNormalize(norm_obs)",
            "normalize_rewards": "VecNormalize(norm_reward)",
            "init_noise_std": "exp(log_std_init)",
        },
    ),
    Trainer(
        "CleanRL",
        {
            "charts/episodic_return": "training/episode_reward",
            "charts/episodic_length": "training/episode_length",
            "losses/value_loss": "training/v_loss",
            "losses/policy_loss": "training/policy_loss",
            "losses/entropy": "training/entropy",
            "losses/approx_kl": "training/approx_kl",
            "losses/clipfrac": "training/clip_fraction",
            "losses/explained_variance": "training/explained_variance",
            "charts/learning_rate": "training/learning_rate",
            "charts/SPS": "training/sps",
        },
        {
            "discounting": "--gamma",
            "learning_rate": "--learning-rate",
            "entropy_cost": "--ent-coef",
            "vf_loss_coefficient": "--vf-coef",
            "num_updates_per_batch": "--update-epochs",
            "max_grad_norm": "--max-grad-norm",
            "target_kl": "--target-kl",
            "learning_rate_schedule": "--anneal-lr",
        },
    ),
    Trainer(
        "rl_games",
        {
            "rewards/step": "training/episode_reward",
            "episode_lengths/step": "training/episode_length",
            "losses/a_loss": "training/policy_loss",
            "losses/c_loss": "training/v_loss",
            "losses/entropy": "training/entropy",
            "info/kl": "training/approx_kl",
            "info/last_lr": "training/learning_rate",
        },
        {
            "discounting": "gamma",
            "entropy_cost": "entropy_coef",
            "vf_loss_coefficient": "critic_coef",
            "num_updates_per_batch": "mini_epochs",
            "max_grad_norm": "grad_norm",
            "target_kl": "lr_schedule = adaptive with kl_threshold",
            "normalize_observations": "normalize_input",
            "normalize_rewards": "normalize_value",
        },
    ),
)
OURS = Trainer("torch_ppo or Brax", {}, {})


def recognised(tags: Collection[str]) -> Trainer | None:
    """Whose tags these are: the trainer that most of them belong to; None if they are nobody's."""
    if any(tag.startswith("training/") for tag in tags) or "eval/episode_reward" in tags:
        return OURS
    best = max(TRAINERS, key=lambda trainer: len(trainer.tags.keys() & set(tags)))
    return best if best.tags.keys() & set(tags) else None


def course_of(series: Mapping[str, list[Point]], trainer: Trainer) -> list[Row]:
    """Reports with our names, made of a trainer's series. One of more than `MAX_REPORTS` is averaged in equal parts.

    Peaks are kept beside the means. Where only the entropy of a normal distribution is known, its standard deviation
    follows from it, with 1 at first, as these trainers begin.
    """
    named: dict[str, list[Point]] = {}
    for tag, points in series.items():
        name = trainer.tags.get(tag) if trainer is not OURS else tag
        if name:
            named.setdefault(name, []).extend(points)
    std, entropy = "training/policy_dist_mean_std", named.get("training/entropy")
    if trainer is not OURS and entropy and std not in named and entropy[0].value > 0:
        actions = max(1, round(entropy[0].value / UNIT_ENTROPY))
        named[std] = [Point(p.step, math.exp(p.value / actions - UNIT_ENTROPY)) for p in entropy]
    last = max((p.step for points in named.values() for p in points), default=0)
    rows: dict[int, Row] = {}
    for name, points in named.items():
        parts = {p.step: [p.value] for p in points} if trainer is OURS else in_parts(points, last)
        for step, values in parts.items():
            row = rows.setdefault(step, {"step": step})
            row[name] = math.fsum(values) / len(values) if all(map(math.isfinite, values)) else math.nan
            short = name.removeprefix("training/")
            if trainer is not OURS and short in PEAKS:
                row[f"{name}_max"] = max(values)
    return [rows[step] for step in sorted(rows)]


def in_parts(points: list[Point], last: int) -> dict[int, list[float]]:
    """Values by the end of the part of the run that they are in; each at its own step where there are few."""
    if len(points) <= MAX_REPORTS:
        return {p.step: [p.value] for p in points}
    parts: dict[int, list[float]] = {}
    for p in points:
        part = min(MAX_REPORTS - 1, p.step * MAX_REPORTS // max(last, 1))
        parts.setdefault((part + 1) * last // MAX_REPORTS, []).append(p.value)
    return parts
