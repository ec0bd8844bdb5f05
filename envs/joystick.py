"""What tasks of walking by command have in common: noise, commands, pushes, swings of feet, and terms of the reward.

A command is the velocity wanted, `(num_envs, 3)`: forward and left in m/s in the robot's frame, and yaw rate in rad/s.
Terms have the names and formulas of MuJoCo Playground's joystick tasks (Zakka et al. 2025, arXiv:2502.08844), which
took most of them from legged_gym (Rudin et al. 2021, arXiv:2109.11978). Each is `(num_envs,)`, without its scale, and
a cost wants a negative one. Arguments called `random` are uniform in [0, 1).
"""

import itertools
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

STILL_COMMAND = 0.01  # norm of a command below which the robot should stand
SUCCESS_ERROR = 0.25  # m/s, mean over an episode


def column_slices(sizes: Mapping[str, int]) -> dict[str, slice]:
    """Columns of each named part of a tensor whose last axis has `sizes` in this order."""
    ends = list(itertools.accumulate(sizes.values(), initial=0))
    return {name: slice(*ends[i : i + 2]) for i, name in enumerate(sizes)}


def between(random: Tensor, low: float, high: float) -> Tensor:
    """Uniform in [low, high)."""
    return low + (high - low) * random


def with_noise(x: Tensor, random: Tensor, scale: float) -> Tensor:
    """`x` and noise that is uniform in [-scale, scale)."""
    return x + between(random, -scale, scale)


def exponential_steps(random: Tensor, mean_seconds: float, control_dt: float) -> Tensor:
    """A waiting time whose distribution is exponential, in whole env steps, of the shape of `random`."""
    return (-torch.log1p(-random) * (mean_seconds / control_dt)).round()


def uniform_steps(random: Tensor, seconds: tuple[float, float], control_dt: float) -> Tensor:
    """A waiting time that is uniform between two times, in whole env steps, of the shape of `random`."""
    return (between(random, *seconds) / control_dt).round()


def commands(limits: tuple[float, float, float]) -> tuple[tuple[str, float, float, str], ...]:
    """`Task.commands` of a velocity up to plus or minus `limits`."""
    names = (("forward", "m/s"), ("left", "m/s"), ("turning left", "rad/s"))
    return tuple((name, -limit, limit, unit) for (name, unit), limit in zip(names, limits, strict=True))


def changed_command(command: Tensor, random: Tensor, limits: Tensor, nonzero: Tensor) -> Tensor:
    """The next command: each component stays with probability 1/2, or is 0, or uniform in [-limit, limit).

    random:   for the value, for whether it is 0, and for whether it stays   (num_envs, 9)
    limits:   greatest absolute value of each component                      (3,)
    nonzero:  probability that a component that changes is not 0             (3,)
    """
    value, kept, change = random.split(3, dim=1)
    fresh = (2 * value - 1) * limits * (kept < nonzero)
    return torch.where(change < 0.5, fresh, command)


def push(random: Tensor, speeds: tuple[float, float]) -> Tensor:
    """A horizontal change of velocity in m/s, `(num_envs, 2)`, of any direction and a speed between two; random `(num_envs, 2)`."""
    direction, speed = (2 * torch.pi * random[:, :1]), between(random[:, 1:], *speeds)
    return speed * torch.cat([direction.cos(), direction.sin()], dim=1)


def is_moving(command: Tensor) -> Tensor:
    """Whether the command is to move, bool `(num_envs,)`."""
    return torch.linalg.vector_norm(command, dim=1) > STILL_COMMAND


class Swing(NamedTuple):
    """Where each foot is in its swing, `(num_envs, num_feet)` each.

    touchdown:  1 where the foot has met the floor in this step
    air_time:   seconds since it left the floor, this step included; at touchdown, of the whole swing
    peak:       greatest height in m since then
    """

    touchdown: Tensor
    air_time: Tensor
    peak: Tensor


def advance_swing(
    *, was_contact: Tensor, contact: Tensor, air_time: Tensor, peak: Tensor, height: Tensor, control_dt: float
) -> Swing:
    """The swings after a step, from contacts before and after it (1 or 0), and from what was there before it."""
    was_air = 1.0 - was_contact
    air_time, peak = air_time * was_air, peak * was_air
    return Swing(contact * (air_time > 0), air_time + control_dt, torch.maximum(peak, height))


def soft_limits(limits: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """Lower and upper bounds of ranges that are `factor` times as wide, about the same middle; limits `(num_joints, 2)`."""
    lower, upper = limits.unbind(1)
    middle, half = (lower + upper) / 2, factor * (upper - lower) / 2
    return middle - half, middle + half


def velocity_error(command: Tensor, velocity: Tensor) -> Tensor:
    """By how much a horizontal velocity `(num_envs, 3)` in the robot's frame is not as commanded, in m/s."""
    return torch.linalg.vector_norm(velocity[:, :2] - command[:, :2], dim=1)


def has_followed(way_off: Tensor, seconds: Tensor) -> Tensor:
    """Whether the velocity was as commanded on average over the episode, bool `(num_envs,)`.

    way_off:  velocity error summed over time, in m   (num_envs, 1)
    seconds:  of the episode                          (num_envs,)
    """
    return way_off.squeeze(1) <= SUCCESS_ERROR * seconds


def tracking_lin_vel(command: Tensor, velocity: Tensor, sigma: float) -> Tensor:
    """1 for a horizontal velocity `(num_envs, 3)` in the robot's frame as commanded, falling to 0; sigma in m2/s2."""
    return torch.exp(-(command[:, :2] - velocity[:, :2]).square().sum(1) / sigma)


def tracking_ang_vel(command: Tensor, angular_velocity: Tensor, sigma: float) -> Tensor:
    """1 for a yaw rate as commanded, falling to 0; angular velocity `(num_envs, 3)` in the robot's frame."""
    return torch.exp(-(command[:, 2] - angular_velocity[:, 2]).square() / sigma)


def lin_vel_z(velocity: Tensor) -> Tensor:
    """Cost of going up and down; velocity `(num_envs, 3)` in the world's frame."""
    return velocity[:, 2].square()


def ang_vel_xy(angular_velocity: Tensor) -> Tensor:
    """Cost of rolling and pitching; angular velocity `(num_envs, 3)` in the world's frame."""
    return angular_velocity[:, :2].square().sum(1)


def orientation(vertical: Tensor) -> Tensor:
    """Cost of leaning: squared sine of the lean; the world's vertical in the robot's frame, `(num_envs, 3)`."""
    return vertical[:, :2].square().sum(1)


def torques(torque: Tensor) -> Tensor:
    """Cost of torque `(num_envs, num_joints)`: the 2-norm and the 1-norm."""
    return torch.linalg.vector_norm(torque, dim=1) + torque.abs().sum(1)


def energy(joint_velocity: Tensor, torque: Tensor) -> Tensor:
    """Cost of mechanical power in W, accelerating or braking; both `(num_envs, num_joints)`."""
    return (joint_velocity * torque).abs().sum(1)


def action_rate(action: Tensor, last_action: Tensor) -> Tensor:
    """Cost of changing the action `(num_envs, action_dim)`."""
    return (action - last_action).square().sum(1)


def pose(joints: Tensor, default_pose: Tensor, weight: Tensor) -> Tensor:
    """1 for joints `(num_envs, num_joints)` in the default pose, falling to 0; a weight for each joint."""
    return torch.exp(-((joints - default_pose).square() * weight).sum(1))


def stand_still(command: Tensor, joints: Tensor, default_pose: Tensor) -> Tensor:
    """Cost of joints `(num_envs, num_joints)` away from the default pose when the command is to stand."""
    return (joints - default_pose).abs().sum(1) * ~is_moving(command)


def dof_pos_limits(joints: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Cost of joints `(num_envs, num_joints)` beyond bounds `(num_joints,)`: by how much, in rad."""
    return ((lower - joints).clamp(min=0.0) + (joints - upper).clamp(min=0.0)).sum(1)


def feet_slip(foot_velocity: Tensor, contact: Tensor) -> Tensor:
    """Cost of feet that move while they touch the floor; velocity `(num_envs, num_feet, 3)` in the world's frame."""
    return (foot_velocity[:, :, :2].square().sum(2) * contact).sum(1)


def feet_clearance(foot_velocity: Tensor, foot_height: Tensor, wanted_height: float) -> Tensor:
    """Cost of feet that move along the floor at another height than wanted: |error| times the root of their speed."""
    speed = torch.linalg.vector_norm(foot_velocity[:, :, :2], dim=2)
    return ((foot_height - wanted_height).abs() * speed.sqrt()).sum(1)


def feet_height(swing: Swing, wanted_height: float) -> Tensor:
    """Cost, at touchdown, of swings whose peak was not at the height wanted: the squared relative error."""
    return ((swing.peak / wanted_height - 1.0).square() * swing.touchdown).sum(1)


def feet_air_time(swing: Swing, least_seconds: float, most_seconds: float = torch.inf) -> Tensor:
    """At touchdown, seconds that a swing took beyond the least, and no more than that of the most."""
    beyond = (swing.air_time - least_seconds).clamp(max=most_seconds - least_seconds)
    return (beyond * swing.touchdown).sum(1)


def clipped_reward(terms: Mapping[str, Tensor], scales: Mapping[str, float], control_dt: float) -> Tensor:
    """Sum of scaled terms per second, times the seconds of a step, and not below 0; the two have the same names."""
    if terms.keys() != scales.keys():
        raise KeyError(f"reward terms and scales differ: {sorted(terms.keys() ^ scales.keys())}")
    return (control_dt * sum(scales[name] * term for name, term in terms.items())).clamp(min=0.0)
