"""What the doctor says of discrete actions: of entropy, and nothing of standard deviations."""

import pytest

from torch_ppo.diagnosis.course import Course
from torch_ppo.diagnosis.findings import diagnose
from torch_ppo.settings.config import Config

STEPS = range(0, 100_001, 10_000)


def course_of(entropy, reward, kind="categorical", **more):
    """Reports at each tenth of a run, by functions of its share."""
    config = Config(
        num_timesteps=100_000, num_envs=10, batch_size=100, unroll_length=10, episode_length=100, discounting=0.97,
        distribution_type=kind, num_eval_envs=100,
    )  # fmt: skip
    rows = [
        {
            "step": step,
            "eval/episode_reward": reward(step / 1e5),
            "eval/episode_reward_std": 1.0,
            **({"training/entropy": entropy(step / 1e5)} if step else {}),
            **{name: f(step / 1e5) for name, f in more.items()},
        }
        for step in STEPS
    ]
    return Course(rows, config, 100.0)


def names(course):
    return {finding.rule.name for finding in diagnose(course)}


def sure(share):
    return 0.69 * 0.001 ** (4 * share)


@pytest.mark.parametrize(
    ("entropy", "reward", "expected"),
    [
        (sure, lambda x: 10.0, "exploration ended early"),
        (lambda x: 0.69, lambda x: 10.0, "exploration never ends"),
        (sure, lambda x: 10.0 + 90.0 * min(1.0, 4 * x), None),  # a good policy is sure, too
        (lambda x: 0.69 - 0.3 * x, lambda x: 10.0 + 50.0 * x, None),
    ],
)
def test_of_entropy(entropy, reward, expected):
    found = {name for name in names(course_of(entropy, reward)) if "exploration" in name}
    assert found == ({expected} if expected else set())
    real = names(course_of(entropy, reward, kind="tanh_normal"))
    assert not [name for name in real if "exploration" in name]  # whose entropy is no measure of it


def test_what_is_to_be_tried_goes_with_discrete_actions():
    short = {"eval/avg_episode_length": lambda x: 5.0}
    for kind, discrete in (("categorical", True), ("normal", False)):
        course = course_of(lambda x: 0.6 - 0.1 * x, lambda x: 0.0, kind, **short)
        found = {finding.rule.name: finding.change() for finding in diagnose(course)}
        for name in ("reward is never found", "episodes stay short"):
            assert ("init_noise_std" in found[name]) != discrete


@pytest.mark.parametrize(("last", "fires"), [(0.01, False), (0.5, True)])
def test_a_value_that_is_the_same_everywhere_need_not_be_predicted(last, fires):
    """As in CartPole, once all poles stand: targets that differ by a hundredth of what they did, and no variance explained."""
    told = {
        "training/explained_variance": lambda x: -3.0,
        "training/value_target_std": lambda x: 0.8 if x <= 0.2 else last,
    }
    course = course_of(lambda x: 0.6 - 0.3 * x, lambda x: 100.0 * x, **told)
    assert ("value never fits" in names(course)) == fires
