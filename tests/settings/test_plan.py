"""What is said before a run starts."""

import dataclasses

import pytest

from torch_ppo.settings.config import Config
from torch_ppo.settings.files import load_config
from torch_ppo.settings.plan import doubts, hours_and_minutes, summary, time_needed

# 20 training steps of 640 env steps, 80 of each env.
PLAIN = Config(
    num_timesteps=12_800,
    num_evals=3,
    num_envs=8,
    batch_size=16,
    num_minibatches=4,
    unroll_length=10,
    episode_length=200,
)


def test_nothing_to_doubt():
    assert doubts(PLAIN) == []
    assert "warning" not in summary(PLAIN) and "resets" not in summary(PLAIN)


def test_one_of_a_kind():
    """1 epoch, not 1 epochs."""
    one = dataclasses.replace(
        PLAIN, num_envs=1, batch_size=1, num_minibatches=1, num_updates_per_batch=1, num_timesteps=10, num_evals=1
    )
    assert [line.strip() for line in summary(one).splitlines()[:4]] == [
        "training step  10 env steps: 1 unroll of 10 in each of 1 env",
        "minibatch  1 sequence of 10 = 10 transitions",
        "SGD  1 step per training step: 1 pass over 1 minibatch",
        "run  1 epoch of 1 training step = 10 env steps (10 asked for)",
    ]


@pytest.mark.parametrize(("action_repeat", "timesteps", "phase"), [(1, 12_800, False), (2, 25_600, True)])
def test_states_beyond_a_reset(action_repeat, timesteps, phase):
    """5 resets per evaluation are 10 epochs of two training steps."""
    config = dataclasses.replace(
        PLAIN,
        num_resets_per_eval=5,
        action_repeat=action_repeat,
        num_timesteps=timesteps,
        random_episode_phase=phase,
        episode_length=1_000,
    )
    between = 160 * action_repeat
    assert doubts(config) == [
        f"all envs start anew after every {between} of their 1,000 steps: later states are never trained on"
    ]
    lines = summary(config).splitlines()
    assert f"        resets  all envs start anew after every {between} of their 1,000 steps" in lines
    assert lines[-1].startswith("warning: all envs start anew")
    whole = dataclasses.replace(config, episode_length=between)
    assert doubts(whole) == []
    assert f"all envs start anew after every {between} steps; an episode has {between}" in summary(whole)
    # The task's time limit is not known yet.
    unresolved = dataclasses.replace(config, episode_length=None)
    assert doubts(unresolved) == [] and f"after every {between} steps" in summary(unresolved)


@pytest.mark.parametrize(
    ("timesteps", "words"),
    [
        (11_000, "the run is 16% longer than asked for"),  # 17.2 training steps become 20
        (1_000, "the run is 12.8 times as long as asked for"),
        (11_700, None),  # 9.4 %
    ],
)
def test_overshoot(timesteps, words):
    config = dataclasses.replace(PLAIN, num_timesteps=timesteps, num_evals=11, num_resets_per_eval=2, episode_length=80)
    found = doubts(config)
    if words is None:
        assert found == []
        return
    assert found[0].startswith(words) and "training steps of 640 env steps in each of 20 epochs" in found[0]
    assert found[0].endswith("num_timesteps 12800 would fit")
    assert doubts(dataclasses.replace(config, num_timesteps=12_800)) == []


def test_what_is_said_to_fit_does():
    config = dataclasses.replace(load_config("acrobot_swingup"), episode_length=None)
    (found,) = doubts(config)
    assert "77% longer" in found and "num_timesteps 88473600 or 176947200 would fit" in found
    for steps in (88_473_600, 176_947_200):
        assert dataclasses.replace(config, num_timesteps=steps).total_env_steps == steps


def test_time_needed():
    assert time_needed(PLAIN, 2, 180.0) == []  # 18 more at 90 s are 27 minutes
    assert time_needed(PLAIN, 1, 120.0) == ["at this rate 0 h 38 m to 12,800 env steps, evaluations not counted"]
    assert hours_and_minutes(9.98 * 3600) == "9 h 59 m" and hours_and_minutes(76.2 * 3600) == "3 d 4 h"
