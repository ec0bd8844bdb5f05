"""Each rule is triggered by a real short training with something sabotaged, which without it triggers none."""

import math
from dataclasses import dataclass, field

import pytest
import torch

import torch_ppo
from tests.helpers.toy import ToyTask
from torch_ppo.diagnosis.course import Course
from torch_ppo.diagnosis.findings import diagnose
from torch_ppo.diagnosis.rules import RULES
from torch_ppo.running.loop import DivergedError
from torch_ppo.settings.config import Config

HEALTHY = {
    "num_timesteps": 64_000,
    "num_evals": 6,
    "num_eval_envs": 16,
    "episode_length": 40,
    "random_episode_phase": True,
    "normalize_observations": True,
    "num_envs": 64,
    "unroll_length": 10,
    "batch_size": 32,
    "num_minibatches": 4,
    "num_updates_per_batch": 4,
    "discounting": 0.9,
    "learning_rate": 3e-3,
    "entropy_cost": 1e-3,
    "policy_hidden_layer_sizes": (16,),
    "value_hidden_layer_sizes": (32,),
    "device": "cpu",
}


# Where x comes to rest under the action (-0.8, 0.6).
TARGET = (-0.9, 0.14, 0.87)


class Reach(ToyTask):
    """The toy told to bring x to a target; never ends early.

    observe_as:  what becomes of the observation (num_envs, 5), by the steps so far (num_envs,)
    reward_as:   what becomes of the reward (num_envs,), likewise
    """

    def __init__(self, observe_as=lambda x, tick: x, reward_as=lambda r, tick: r, **settings):
        super().__init__(**{"limit": None, **settings})
        self.observe_as, self.reward_as = observe_as, reward_as

    def observe(self, physics, memory):
        return self.observe_as(super().observe(physics, memory), memory["tick"])

    def reward(self, physics, memory, action):
        target = torch.tensor(TARGET, device=physics.qpos.device)
        reward = torch.exp(-3.0 * (physics.qpos - target).square().sum(1))
        return self.reward_as(reward, memory["tick"]), {}

    metric_names = ()
    reward_range = (0.0, 1.0)


@dataclass
class Sabotage:
    settings: dict = field(default_factory=dict)
    task: dict = field(default_factory=dict)


def late(start, value):
    """A replacement of x by `value(x)` from a number of steps on."""
    return lambda x, tick: torch.where((tick > start).view(-1, *[1] * (x.dim() - 1)), value(x), x)


def once(at, value):
    """A replacement of one number of one env's observation, after `at` steps."""

    def observe(x, tick):
        first = torch.arange(x.numel(), device=x.device).view_as(x) == 0
        return torch.where(first & (tick == at)[:, None], torch.full_like(x, value), x)

    return observe


SABOTAGE = {
    "not a number": Sabotage({"learning_rate": 1e30}),
    "observations jump": Sabotage(task={"observe_as": once(300, 1e6)}),
    "KL spike": Sabotage({"learning_rate": 3e-1}),
    "too much is clipped": Sabotage({"clipping_epsilon": 1e-3}),
    "exploding gradients": Sabotage(task={"reward_as": late(400, lambda r: 1e5 * r)}),
    "exploding value loss": Sabotage(task={"reward_as": late(400, lambda r: 1e4 * r)}),
    "value never fits": Sabotage({"learning_rate": 1e-6, "reward_scaling": 100.0}),
    "value loss does not move": Sabotage({"vf_loss_coefficient": 0.0}),
    "returns far from 1": Sabotage({"reward_scaling": 1e3}),
    "nothing is learned": Sabotage({"learning_rate": 1e-8, "normalize_observations": False}),
    "updates are skipped": Sabotage({"target_kl": 1e-6}),
    "exploration ended early": Sabotage(
        {
            "distribution_type": "normal",
            "noise_std_type": "log",
            "init_noise_std": 0.005,
            "mean_clip_scale": 1.0,
            "learning_rate": 1e-5,
        }
    ),
    "exploration never ends": Sabotage({"entropy_cost": 10.0}),
    "actions at their limits": Sabotage({"learning_rate": 3e-1}),
    "constant observations": Sabotage(task={"observe_as": lambda x, tick: torch.cat([x[:, :2], 0.0 * x[:, 2:]], 1)}),
    "observations far from 1": Sabotage({"normalize_observations": False}, {"observe_as": lambda x, tick: 1e3 * x}),
    "observations drift": Sabotage(task={"observe_as": lambda x, tick: x * (1.0 + 1.01 ** tick[:, None])}),
    "reward fell": Sabotage(task={"reward_as": late(400, lambda r: -r)}),
    "best was long ago": Sabotage({"num_evals": 11}, {"reward_as": late(300, lambda r: -r)}),
    "no better than at first": Sabotage({"learning_rate": 1e-8}),
    "stuck": Sabotage({"num_evals": 9, "learning_rate": 1e-8}),
    "reward is never found": Sabotage(task={"reward_as": lambda r, tick: 0.0 * r}),
    "episodes stay short": Sabotage({"episode_length": 400}, {"limit": 0.1}),
    "discount too short": Sabotage({"discounting": 0.3, "episode_length": 200}),
    "unusual batches": Sabotage({"num_envs": 8, "batch_size": 4, "num_minibatches": 2, "num_timesteps": 4000}),
    "worlds break": Sabotage(
        {"max_broken_fraction": 1.0}, {"reward_as": lambda r, tick: torch.where(tick == 300, r / 0.0, r)}
    ),
}


def reports(task, settings):
    """All reports of a training, with what follows where it ends with an error."""
    rows = []
    config = Config(**settings)
    try:
        torch_ppo.train(task, progress_fn=lambda step, metrics: rows.append({"step": step, **metrics}), **settings)
    except DivergedError:  # as the program notes it
        rows.append({"step": config.total_env_steps, "training/total_loss": math.nan})
    return Course(rows, config, task.reward_range[1] * config.episode_length)


def names(course):
    return [finding.rule.name for finding in diagnose(course)]


def test_without_sabotage_nothing_is_found():
    course = reports(Reach(), HEALTHY)
    assert names(course) == []
    assert course.rewards[-1].value > 1.5 * course.rewards[0].value


QUICK = (
    "not a number",
    "observations jump",
    "KL spike",
    "exploding gradients",
    "reward fell",
    "constant observations",
    "unusual batches",
)


@pytest.mark.filterwarnings("ignore:worlds broke")
@pytest.mark.filterwarnings("ignore:.*is inf or NaN in env")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in SABOTAGE]
)
def test_a_sabotaged_training_triggers_its_rule(name):
    sabotage = SABOTAGE[name]
    course = reports(Reach(**sabotage.task), {**HEALTHY, **sabotage.settings})
    assert name in names(course), course.rows[-1]


def test_a_single_huge_observation_is_named_before_what_it_does():
    course = reports(Reach(observe_as=once(300, 1e15)), HEALTHY)
    found = [name for name in names(course) if name != "not a number"]
    assert found[0] == "observations jump" and "exploding gradients" in found
    limited = reports(Reach(observe_as=once(300, 1e15)), {**HEALTHY, "normalizer_clip": 10.0})
    assert names(limited) == []


def test_a_normalizer_that_nobody_sees_by_is_not_judged():
    """Of a column that begins to change late, which shocks networks that see by its scale."""

    def wakes(x, tick):
        return torch.cat([x[:, :-1], torch.where(tick[:, None] > 300, x[:, -1:], 0.0)], 1)

    short = {**HEALTHY, "num_timesteps": 25_600, "num_evals": 3}
    assert "observations jump" in names(reports(Reach(observe_as=wakes), short))
    unseen = reports(Reach(observe_as=wakes), {**short, "normalize_observations": False})
    assert not {"observations jump", "observations drift"} & set(names(unseen))


def test_every_rule_has_a_sabotage():
    elsewhere = {"contacts are lost"}  # needs MuJoCo Warp: below
    assert set(SABOTAGE) | elsewhere == {rule.name for rule in RULES}
