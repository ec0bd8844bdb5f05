"""Our tasks of the DM Control suite against the suite's own, on both engines: steps, and start states.

What is said of a single domain stands in `tests/envs`.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import mujoco
import numpy as np
import pytest
import torch

from tests.helpers.suite_comparison import (
    Change,
    Episodes,
    compare_starts,
    compare_steps,
    load,
    make_env,
    play,
    unchanged,
)
from torch_ppo.envs import ENVS, OTHER_NAMES, canonical_name, make_task
from torch_ppo.envs.finger import HINGE, TIP_RADIUS

SUITE_NAMES = [other for others in OTHER_NAMES.values() for other in others if "/" in other]

# What an episode or each of its steps begins with instead, for joints to meet their limits and for rewards to vary.


def scaled(factor: float) -> Change:
    """Positions `factor` times as far from 0: closer to a target there, or beyond limits."""

    def change(physics, rng):
        physics.data.qpos[:] *= factor

    return change


def moving(axis: int, slowest: float, fastest: float) -> Change:
    """At a random speed along an axis, since random actions alone earn next to nothing."""

    def change(physics, rng):
        physics.data.qvel[axis] = rng.uniform(slowest, fastest)

    return change


def cart_anywhere(physics, rng):
    """Also beyond the rail's ends; often near upright, where the sparse reward changes."""
    near = 0.05 if rng.random() < 1 / 3 else 1.0
    physics.data.qpos[:] = near * rng.uniform(-2.0, 2.0), near * rng.normal() ** 3
    physics.data.qvel[:] = rng.normal(size=2)


def cart_anywhere_in_euler(physics, rng):
    """By our default integrator, which is not the suite's."""
    physics.model.opt.integrator = mujoco.mjtIntegrator.mjINT_EULER
    cart_anywhere(physics, rng)


def ball_in_cup(physics, rng):
    """Or in its wall."""
    qpos = physics.named.data.qpos
    qpos["ball_x"] *= 0.2
    qpos["ball_z"] = 0.35 + 0.2 * (qpos["ball_z"] - 0.35)


def ball_on_floor(physics, rng):
    """Or a few millimetres above or below it; the cup is low enough for the string."""
    qpos = physics.named.data.qpos
    qpos["cup_z"], qpos["ball_z"] = -0.3, -0.17 + 0.05 * (qpos["ball_z"] - 0.35)


def arm_at_target(physics, rng):
    """Almost straight, and the target at its tip."""
    physics.data.qpos[:] *= 0.1
    physics.named.model.geom_pos["target", :2] = 0.23, 0.01


def spinning(physics, rng):
    """The finger's body, at up to some turns in a second."""
    physics.data.qvel[HINGE] = rng.normal(0.0, 20.0)


def spinning_near_target(physics, rng):
    """Likewise, and the target is near its tip."""
    spinning(physics, rng)
    angle = rng.normal(-physics.data.qpos[HINGE], 0.5)
    hinge = physics.named.data.xpos["spinner", ["x", "z"]]
    target = hinge + TIP_RADIUS * np.array([np.sin(angle), np.cos(angle)])
    physics.named.model.site_pos["target", ["x", "z"]] = target


def anything(episodes: Episodes) -> bool:
    """Of no row that is about rewards."""
    return True


@dataclass(frozen=True)
class Row:
    """A task, episodes of it, and how closely ours has to follow them. Tolerances are absolute and relative alike."""

    name: str  # the suite's
    case: str = ""
    mujoco: float | None = 1e-5  # tolerance of the next state in C MuJoCo; None where it is not compared
    warp: float | None = 1e-4
    observation: float = 1e-5
    reward: float = 1e-5
    num_episodes: int = 4
    num_steps: int = 50
    start: Change = unchanged
    disturb: Change = unchanged
    options: dict[str, object] = field(default_factory=dict, hash=False)  # of our task
    shows: Callable[[Episodes], bool] = anything  # whether the episodes saw what they are for

    def __str__(self) -> str:
        return f"{self.name} {self.case}".strip()


# State is float32 between steps; our C MuJoCo starts the solver cold at every control step, the suite's warm; Warp
# solves contacts and limits in float32.
ROWS = (
    Row("acrobot/swingup", mujoco=2e-6, warp=1e-5),
    *(
        Row(
            f"acrobot/{name}", "near target", warp=1e-5, num_episodes=50, num_steps=4, start=scaled(0.1),
            shows=lambda seen: seen.reward.max() == 1 and seen.reward.std() > 0.1,
        )
        for name in ("swingup", "swingup_sparse")
    ),
    Row("ball_in_cup/catch", "pulling at the string", warp=1e-3, num_episodes=8),
    Row(
        "ball_in_cup/catch", "in cup", warp=1e-3, num_episodes=40, num_steps=8, start=ball_in_cup,
        shows=lambda seen: 0.1 < seen.reward.mean() < 0.9,
    ),
    Row("ball_in_cup/catch", "on floor", warp=1e-3, num_episodes=10, num_steps=8, start=ball_on_floor),
    *(
        Row(
            f"cartpole/{name}", integrator, mujoco=2e-6, observation=2e-6, num_episodes=60, num_steps=80, start=start,
            options={"integrator": integrator}, shows=lambda seen: seen.reward.std() > 0,
        )
        for name in ("balance", "balance_sparse", "swingup", "swingup_sparse")
        for integrator, start in (("rk4", cart_anywhere), ("euler", cart_anywhere_in_euler))
    ),
    Row(
        "cheetah/run", num_steps=100, disturb=moving(0, -2.0, 12.0),
        shows=lambda seen: seen.reward.std() > 0.2,
    ),
    *(
        Row(
            f"finger/{name}", observation=1e-4, num_episodes=16, disturb=disturb,
            shows=lambda seen: 0.1 < seen.reward.mean() < 0.9,
        )
        for name, disturb in (
            ("spin", spinning), ("turn_easy", spinning_near_target), ("turn_hard", spinning_near_target)
        )
    ),
    Row(
        "fish/swim", mujoco=2e-6, warp=2e-5, num_episodes=200, num_steps=2,
        shows=lambda seen: seen.reward.min() < 0.1 and seen.reward.max() > 0.3,  # upright: up to 0.125
    ),
    *(
        Row(f"hopper/{name}", disturb=moving(0, 0.0, 3.0), shows=lambda seen: seen.reward.std() > 0.1)
        for name in ("stand", "hop")
    ),
    *(
        Row(
            f"humanoid/{name}", "falling", mujoco=5e-5, warp=None,
            shows=lambda seen: seen.num_contacts.max() >= 6 and seen.reward.min() < 0.1 * seen.reward.max(),
        )
        for name in ("stand", "walk", "run")
    ),
    # A capsule that stands steeply on the floor gets other friction directions in Warp.
    *(
        Row(f"humanoid/{name}", "in the air", mujoco=None, num_episodes=2, num_steps=10)
        for name in ("stand", "walk", "run")
    ),
    Row("pendulum/swingup", mujoco=2e-6, warp=1e-5),
    Row(
        "pendulum/swingup", "near target", warp=1e-5, num_episodes=50, num_steps=4, start=scaled(0.1),
        shows=lambda seen: 0.2 < seen.reward.mean() < 0.8,
    ),
    Row("point_mass/easy", "beyond limits", mujoco=2e-6, num_episodes=20, num_steps=10, start=scaled(1.2)),
    Row(
        "point_mass/easy", "near target", num_episodes=50, num_steps=4, start=scaled(0.1),
        shows=lambda seen: seen.reward.max() > 0.8 and seen.reward.std() > 0.2,
    ),
    Row("reacher/easy", "beyond limits", mujoco=2e-6, num_episodes=20, num_steps=10, start=scaled(1.2)),
    *(
        Row(
            f"reacher/{name}", "near target", num_episodes=200, num_steps=4, start=arm_at_target,
            shows=lambda seen: 0.1 < seen.reward.mean() < 0.9,
        )
        for name in ("easy", "hard")
    ),
    Row(
        "swimmer/swimmer6", mujoco=2e-6, warp=1.5e-4, num_episodes=150, num_steps=3,
        shows=lambda seen: seen.reward.min() < 0.1 and seen.reward.max() > 0.9,  # far from the target and near it
    ),
    *(
        Row(
            f"walker/{name}", mujoco=3e-5, warp=1e-3, disturb=moving(1, -1.0, 10.0),
            shows=lambda seen: seen.reward.std() > 0.1,
        )
        for name in ("stand", "walk", "run")
    ),
)  # fmt: skip


CASES = [(row, engine) for row in ROWS for engine in ("mujoco", "warp") if getattr(row, engine) is not None]


@functools.lru_cache(maxsize=1)
def episodes_of(suite: object, row: Row) -> Episodes:
    """The same for both engines, one after the other."""
    return play(
        suite, row.name, num_episodes=row.num_episodes, num_steps=row.num_steps, start=row.start, disturb=row.disturb
    )


@pytest.mark.parametrize(("row", "engine"), CASES, ids=str)
def test_steps(suite, row, engine):
    task = ENVS[canonical_name(row.name)](**row.options)
    assert task.control_dt == load(suite, row.name).control_timestep()
    episodes = episodes_of(suite, row)
    assert row.shows(episodes)
    compare_steps(
        make_env(task, engine=engine, num_envs=row.num_episodes),
        episodes,
        state_tolerance=getattr(row, engine),
        observation_tolerance=row.observation,
        reward_tolerance=row.reward,
    )


@pytest.mark.parametrize("engine", ["mujoco", "warp"])
def test_no_task_is_left_out(engine):
    assert {row.name for row in ROWS if getattr(row, engine) is not None} == set(SUITE_NAMES)


# What of the state to compare. Few cheetahs are still moving where an episode begins, so the spread of velocities is
# that of a few; humanoids whose limbs penetrate each other are drawn again by the suite, and not by us.
COLUMNS = {"cheetah": slice(0, 9), "humanoid": slice(0, 7)}


@pytest.mark.parametrize("name", SUITE_NAMES)
def test_start_states_are_distributed_alike(suite, name):
    columns = COLUMNS.get(name.split("/")[0])
    num_starts = 2000 if columns is None else 1000  # these take the suite milliseconds each
    compare_starts(suite, name, make_env(make_task(name), num_envs=num_starts), columns=columns or slice(None))


def assert_uniform(draws, low, high):
    """All are within, a quarter of the range has about a quarter of them, and some are near its ends."""
    place = (draws - low) / (high - low)
    assert place.min() >= -1e-6 and place.max() <= 1 + 1e-6
    assert ((place.mean(0) - 0.5).abs() < 4 * (1 / 12 / len(place)) ** 0.5).all()
    for column in place.T:
        assert column.histc(4, 0.0, 1.0).min() > 0.2 * len(place)
        assert column.min() < 0.015 and column.max() > 0.985


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("acrobot/swingup", 0), ("hopper/hop", 2), ("humanoid/stand", 7), ("pendulum/swingup", 0),
        ("point_mass/easy", 0), ("reacher/easy", 0), ("swimmer/swimmer6", 2), ("walker/walk", 2),
    ],
)  # fmt: skip
def test_joints_start_anywhere(name, first):
    """From the `first` on: in their range, or where they have none, in a whole turn."""
    physics = make_env(make_task(name), num_envs=2000).physics
    joints = physics.model.jnt_qposadr >= first
    limited, ranges = physics.model.jnt_limited[joints, None], physics.model.jnt_range[joints]
    low, high = torch.as_tensor(np.where(limited, ranges, [-np.pi, np.pi]), dtype=torch.float32).T
    assert_uniform(physics.qpos[:, first:], low, high)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("finger/turn_hard", [-np.pi], [np.pi]), ("fish/swim", [-0.4, -0.4, 0.1], [0.4, 0.4, 0.3])],
    ids=["finger", "fish"],
)
def test_targets_are_anywhere(name, low, high):
    targets = make_env(make_task(name), num_envs=2000).memory["target"].reshape(2000, -1)
    assert_uniform(targets, torch.tensor(low), torch.tensor(high))


@pytest.mark.parametrize("name", ["ball_in_cup/catch", "finger/spin", "finger/turn_hard"])
def test_starts_touch_nothing(suite, name):
    physics = load(suite, name).physics
    for qpos in make_env(make_task(name), num_envs=2000).physics.qpos.numpy():
        with physics.reset_context():
            physics.data.qpos[:] = qpos
        assert physics.data.ncon == 0
