"""What tasks of walking by command share: terms of the reward against loops, draws against their distributions."""

import math

import numpy as np
import pytest
import torch

from torch_ppo.envs import joystick
from torch_ppo.envs.joystick import Swing

NUM_ENVS, NUM_JOINTS, NUM_FEET = 7, 12, 4
DRAWS = 200_000


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def tensors(*arrays):
    return tuple(torch.as_tensor(array) for array in arrays)


def each_env(function):
    """`function` of the index of an env, for all."""
    return np.array([function(i) for i in range(NUM_ENVS)])


def test_tracking(rng):
    command, velocity = rng.normal(size=(2, NUM_ENVS, 3))
    c, v = tensors(command, velocity)

    def linear(i):
        return math.exp(-((command[i, 0] - velocity[i, 0]) ** 2 + (command[i, 1] - velocity[i, 1]) ** 2) / 0.25)

    def yaw(i):
        return math.exp(-((command[i, 2] - velocity[i, 2]) ** 2) / 0.4)

    np.testing.assert_allclose(joystick.tracking_lin_vel(c, v, 0.25), each_env(linear))
    np.testing.assert_allclose(joystick.tracking_ang_vel(c, v, 0.4), each_env(yaw))


def test_trunk_costs(rng):
    x = rng.normal(size=(NUM_ENVS, 3))
    np.testing.assert_allclose(joystick.lin_vel_z(*tensors(x)), each_env(lambda i: x[i, 2] ** 2))
    np.testing.assert_allclose(joystick.ang_vel_xy(*tensors(x)), each_env(lambda i: x[i, 0] ** 2 + x[i, 1] ** 2))
    # Leaning by 30 degrees in any direction costs sin(30)^2 = 1/4.
    for heading in (0.0, 1.0, 4.0):
        vertical = torch.tensor([[0.5 * math.cos(heading), 0.5 * math.sin(heading), math.sqrt(0.75)]])
        assert joystick.orientation(vertical).item() == pytest.approx(0.25)


def test_joint_costs(rng):
    joints, velocity, torque, default, weight = rng.normal(size=(5, NUM_ENVS, NUM_JOINTS))
    default, weight = default[0], np.abs(weight[0])
    q, v, t, d, w = tensors(joints, velocity, torque, default, weight)
    each_joint = range(NUM_JOINTS)

    def torques(i):
        return math.sqrt(sum(torque[i, j] ** 2 for j in each_joint)) + sum(abs(torque[i, j]) for j in each_joint)

    def energy(i):
        return sum(abs(velocity[i, j]) * abs(torque[i, j]) for j in each_joint)

    def pose(i):
        return math.exp(-sum(weight[j] * (joints[i, j] - default[j]) ** 2 for j in each_joint))

    def action_rate(i):
        return sum((joints[i, j] - velocity[i, j]) ** 2 for j in each_joint)

    np.testing.assert_allclose(joystick.torques(t), each_env(torques))
    np.testing.assert_allclose(joystick.energy(v, t), each_env(energy))
    np.testing.assert_allclose(joystick.pose(q, d, w), each_env(pose))
    np.testing.assert_allclose(joystick.action_rate(q, v), each_env(action_rate))


def test_stand_still():
    # Three joints are 0.1, -0.2 and 0.3 off: 0.6, counted only while the command is to stand.
    command = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 0.5], [0.005, 0.0, 0.0], [0.3, 0.0, 0.0]])
    default = torch.tensor([1.0, 2.0, 3.0])
    cost = joystick.stand_still(command, (default + torch.tensor([0.1, -0.2, 0.3])).expand(4, 3), default)
    torch.testing.assert_close(cost, torch.tensor([0.6, 0.0, 0.6, 0.0]))


def test_soft_limits():
    # Half as wide about the middle: [-1, 3] becomes [0, 2], [2, 4] becomes [2.5, 3.5].
    lower, upper = joystick.soft_limits(torch.tensor([[-1.0, 3.0], [2.0, 4.0]]), 0.5)
    assert lower.tolist() == [0.0, 2.5] and upper.tolist() == [2.0, 3.5]
    # 0.25 below the first and 0.75 above the second; within both; on the edges.
    joints = torch.tensor([[-0.25, 4.25], [1.0, 3.0], [2.0, 2.5]])
    assert joystick.dof_pos_limits(joints, lower, upper).tolist() == [1.0, 0.0, 0.0]


def test_foot_costs(rng):
    velocity = rng.normal(size=(NUM_ENVS, NUM_FEET, 3))
    height = rng.uniform(0, 0.2, size=(NUM_ENVS, NUM_FEET))
    contact = rng.integers(0, 2, size=(NUM_ENVS, NUM_FEET)).astype(float)

    def slip(i):
        return sum(velocity[i, f, 0] ** 2 + velocity[i, f, 1] ** 2 for f in range(NUM_FEET) if contact[i, f])

    def clearance(i):
        return sum(
            abs(height[i, f] - 0.1) * math.sqrt(math.hypot(velocity[i, f, 0], velocity[i, f, 1]))
            for f in range(NUM_FEET)
        )

    v, h, c = tensors(velocity, height, contact)
    np.testing.assert_allclose(joystick.feet_slip(v, c), each_env(slip))
    np.testing.assert_allclose(joystick.feet_clearance(v, h, 0.1), each_env(clearance))


def test_swing_costs():
    # Of four feet the first two touch down, after 0.3 s and 0.05 s, having been 0.1 m and 0.15 m high.
    swing = Swing(
        touchdown=torch.tensor([[1.0, 1.0, 0.0, 0.0]]),
        air_time=torch.tensor([[0.3, 0.05, 5.0, 0.02]]),
        peak=torch.tensor([[0.1, 0.15, 0.9, 0.0]]),
    )
    torch.testing.assert_close(joystick.feet_height(swing, 0.1), torch.tensor([0.5**2]))
    torch.testing.assert_close(joystick.feet_air_time(swing, 0.1), torch.tensor([0.2 - 0.05]))
    torch.testing.assert_close(joystick.feet_air_time(swing, 0.1, 0.2), torch.tensor([0.1 - 0.05]))


def test_swing():
    """A foot in the air for three steps after one on the floor: 0.06 s at the last, touchdown in the fourth."""
    contacts, heights = [1, 0, 0, 0, 1, 1, 0, 1], [0.02, 0.05, 0.09, 0.06, 0.02, 0.02, 0.04, 0.02]
    touchdowns, air_times = [0, 0, 0, 0, 1, 0, 0, 1], [1, 1, 2, 3, 4, 1, 1, 2]
    peaks = [0.02, 0.05, 0.09, 0.09, 0.09, 0.02, 0.04, 0.04]
    was_contact = air_time = peak = torch.zeros(1, 1)
    for contact, height, *expected in zip(contacts, heights, touchdowns, air_times, peaks, strict=True):
        swing = joystick.advance_swing(
            was_contact=was_contact,
            contact=torch.tensor([[float(contact)]]),
            air_time=air_time,
            peak=peak,
            height=torch.tensor([[height]]),
            control_dt=0.02,
        )
        assert swing.touchdown.item() == expected[0]
        assert swing.air_time.item() == pytest.approx(0.02 * expected[1])
        assert swing.peak.item() == pytest.approx(expected[2])
        was_contact, air_time, peak = torch.tensor([[float(contact)]]), swing.air_time, swing.peak


def test_clipped_reward():
    # 0.02 s * (2 * 1.5 - 0.5 * 4) = 0.02; the second env's sum is negative.
    terms = {"good": torch.tensor([1.5, 0.1]), "bad": torch.tensor([4.0, 4.0])}
    reward = joystick.clipped_reward(terms, {"bad": -0.5, "good": 2.0}, 0.02)
    torch.testing.assert_close(reward, torch.tensor([0.02, 0.0]))
    with pytest.raises(KeyError, match="ugly"):
        joystick.clipped_reward(terms, {"bad": -0.5, "good": 2.0, "ugly": 1.0}, 0.02)


def draws(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_changed_command():
    """Half of all components stay; of the others, a share of 0.9, 0.25, 0.5 is uniform and the rest 0."""
    before = torch.full((DRAWS, 3), 9.0)
    limits, nonzero = torch.tensor([1.5, 0.8, 1.2]), torch.tensor([0.9, 0.25, 0.5])
    after = joystick.changed_command(before, draws(DRAWS, 9).float(), limits, nonzero)
    for i, (limit, share) in enumerate(zip(limits.tolist(), nonzero.tolist(), strict=True)):
        x = after[:, i]
        drawn = x[(x != 9.0) & (x != 0.0)]
        assert (x == 9.0).double().mean().item() == pytest.approx(0.5, abs=0.01)
        assert (x == 0.0).double().mean().item() == pytest.approx(0.5 * (1 - share), abs=0.01)
        assert drawn.abs().max() <= limit and drawn.mean().item() == pytest.approx(0.0, abs=0.02)
        assert drawn.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.02)
    stays = after == 9.0
    both = (stays[:, 0] & stays[:, 1]).double().mean().item()
    assert both == pytest.approx(0.25, abs=0.01)  # each for itself


def test_waiting_times():
    steps = joystick.exponential_steps(draws(DRAWS, 1), 5.0, 0.02)
    assert steps.mean().item() == pytest.approx(250, rel=0.01)
    assert (steps > 250).double().mean().item() == pytest.approx(math.exp(-1), abs=0.01)
    assert torch.equal(steps, steps.round()) and steps.isfinite().all()
    steps = joystick.uniform_steps(draws(DRAWS, 1), (1.0, 3.0), 0.02)
    assert (steps.min(), steps.max()) == (50, 150) and steps.mean().item() == pytest.approx(100, rel=0.01)


def test_push():
    kick = joystick.push(draws(DRAWS, 2), (0.5, 2.0))
    speed, direction = torch.linalg.vector_norm(kick, dim=1), torch.atan2(kick[:, 1], kick[:, 0])
    assert speed.min() >= 0.5 and speed.max() <= 2.0 and speed.mean().item() == pytest.approx(1.25, rel=0.01)
    shares = torch.histc(direction, bins=8, min=-math.pi, max=math.pi) / DRAWS
    assert shares.sub(1 / 8).abs().max() < 0.005


def test_noise_and_columns():
    x = torch.tensor([1.0, 1.0, 1.0, 1.0])
    noisy = joystick.with_noise(x, torch.tensor([0.0, 0.25, 0.5, 0.75]), 0.2)
    torch.testing.assert_close(noisy, torch.tensor([0.8, 0.9, 1.0, 1.1]))
    assert joystick.column_slices({"a": 2, "b": 1}) == {"a": slice(0, 2), "b": slice(2, 3)}
