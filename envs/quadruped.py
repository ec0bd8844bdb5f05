"""Quadruped: a dog with twelve joints, to walk as commanded, on a flat floor or on rough ground.

Size, masses and inertias are those published for Unitree's Go1. Commands, observations, noise, reward terms and their
scales are those of MuJoCo Playground's Go1 joystick tasks (Zakka et al. 2025, arXiv:2502.08844). Differences:

- The last action in the observation is the one just taken; Playground shows the one before it. Every episode has a
  command of its own; in Playground that of the episode before goes on.
- Soft limits of a joint shrink about the middle of its range; Playground multiplies them, which widens one of the knee's.
- Heights of feet are above the ground below them. Rough ground is another, without end; episodes start anywhere on it.
- A start has the soles at the floor; Playground's are 16 mm inside. Pushes, off in both, change the velocity at once.

qpos is the trunk's position (3) and quaternion (4) and the angles of abduction, hip and knee of the front right, front
left, back right and back left leg, qvel their 18 derivatives.
"""

import functools
import math
from pathlib import Path

import mujoco
import torch
from torch import Tensor

from torch_ppo import Memory, Physics, Task

from . import joystick as terms
from . import terrain
from .joystick import Swing, column_slices, with_noise

LEGS = ("front_right", "front_left", "back_right", "back_left")
JOINTS = tuple(f"{leg}_{joint}" for leg in LEGS for joint in ("abduction", "hip", "knee"))
FIRST_JOINT, FIRST_JOINT_VELOCITY = 7, 6
NUM_JOINTS, NUM_FEET = len(JOINTS), len(LEGS)

DEFAULT_POSE = (0.1, 0.9, -1.8, -0.1, 0.9, -1.8) * 2  # rad
POSE_WEIGHT = (1.0, 1.0, 0.1) * NUM_FEET
JOINT_LIMITS = ((-0.863, 0.863), (-0.686, 4.501), (-2.818, -0.888)) * NUM_FEET  # rad
SOFT_LIMIT_FACTOR = 0.95
ACTION_SCALE = 0.5  # rad

START_HEIGHT = 0.2945  # m, of the trunk: in the default pose, soles touch the floor
START_CLEARANCE = 0.01  # m, more than that on rough ground
START_OFFSET = 0.5  # m, on the flat floor
START_SPEED = 0.5  # m/s and rad/s
FEET = ((0.1881, -0.0999), (0.1881, 0.0999), (-0.1881, -0.0999), (-0.1881, 0.0999))  # m, in the default pose

COMMAND_LIMITS = (1.5, 0.8, 1.2)  # m/s, m/s, rad/s
COMMAND_NONZERO = (0.9, 0.25, 0.5)
COMMAND_SECONDS = 5.0  # mean time between two changes
PUSH_SECONDS = (1.0, 3.0)

NOISE = {"velocity": 0.1, "gyro": 0.2, "gravity": 0.05, "joints": 0.03, "joint_velocity": 1.5}
NUM_RANDOM = dict.fromkeys(("velocity", "gyro", "gravity"), 3) | dict.fromkeys(("joints", "joint_velocity"), NUM_JOINTS)
NUM_RANDOM |= {"command": 9, "command_steps": 1, "push": 2, "push_steps": 1}
RANDOM_COLUMNS = column_slices(NUM_RANDOM)

TRACKING_SIGMA = 0.25  # m2/s2 and rad2/s2
FOOT_HEIGHT = 0.1  # m, wanted of a foot's centre
LEAST_AIR_TIME = 0.1  # s
SCALES = {
    "tracking_lin_vel": 1.0,
    "tracking_ang_vel": 0.5,
    "lin_vel_z": -0.5,
    "ang_vel_xy": -0.05,
    "orientation": -5.0,
    "dof_pos_limits": -1.0,
    "pose": 0.5,
    "termination": -1.0,
    "stand_still": -1.0,
    "torques": -0.0002,
    "action_rate": -0.01,
    "energy": -0.001,
    "feet_clearance": -2.0,
    "feet_height": -0.2,
    "feet_slip": -0.1,
    "feet_air_time": 0.1,
}
ROUGH_FRICTION = 1.0

RANDOMIZED = ("geom_friction", "body_mass", "body_ipos", "qpos0", "dof_frictionloss", "dof_armature")
RANDOMIZED += ("actuator_gainprm", "actuator_biasprm")

OBSERVATION_NAMES = {
    "state": (
        ("velocity of the trunk, in its frame", 3, "m/s"),
        ("angular velocity of the trunk, in its frame", 3, "rad/s"),
        ("direction of gravity, in the trunk's frame", 3, "1"),
        ("joint angles from the default pose, in the order of the actions", 12, "rad"),
        ("joint velocities", 12, "rad/s"),
        ("the action before", 12, "1"),
        ("command: forward, left, turning left", 3, "m/s, m/s, rad/s"),
    )
}


@functools.cache  # never made anew: a recorded graph knows them by address
def constants(device: torch.device) -> dict[str, Tensor]:
    """What a device needs as tensors: of joints, commands, feet, and the rough ground."""
    lower, upper = terms.soft_limits(torch.tensor(JOINT_LIMITS), SOFT_LIMIT_FACTOR)
    values = {"pose": DEFAULT_POSE, "pose_weight": POSE_WEIGHT, "lower": lower, "upper": upper}
    values |= {"command": COMMAND_LIMITS, "command_nonzero": COMMAND_NONZERO}
    values |= {"feet": FEET, "ground": terrain.tile_heights()}
    return {name: torch.as_tensor(value, dtype=torch.float32, device=device) for name, value in values.items()}


class Quadruped(Task):
    """Rewards moving with the commanded velocity, upright, with little effort, and with feet that swing; ends on its side.

    rough:        on bumps of up to 5 cm instead of a flat floor
    noise_level:  scales the noise of the observation "state"; 0 for none
    max_push:     greatest speed in m/s of pushes, which come every one to three seconds; 0 for none
    """

    mjcf = Path(__file__).with_name("assets") / "quadruped.xml"
    control_dt = 0.02
    observation_names = OBSERVATION_NAMES
    episode_length = 1000
    metric_names = ("tracking_lin_vel", "tracking_ang_vel", "velocity_error_per_step", "yaw_rate_error_per_step")
    reward_range = (0.0, math.inf)
    commands = terms.commands(COMMAND_LIMITS)
    num_random = sum(NUM_RANDOM.values())

    def __init__(self, *, rough: bool = False, noise_level: float = 1.0, max_push: float = 0.0) -> None:
        self.rough, self.noise_level, self.max_push = rough, noise_level, max_push
        # A foot touches a plane once; of the contacts with a height field, MuJoCo Warp keeps four for each foot.
        self.nconmax = 4 * NUM_FEET if rough else NUM_FEET
        # 4 rows for each contact, 12 of friction in the joints, 12 of their limits
        self.njmax = 4 * self.nconmax + 2 * NUM_JOINTS

    def make_spec(self) -> mujoco.MjSpec:
        spec = super().make_spec()
        if self.rough:
            terrain.add_terrain(spec, terrain.tile_heights(), friction=ROUGH_FRICTION)
        return spec

    def make_memory(self, num_envs: int, device: torch.device) -> Memory:
        self.constants = constants(device)
        sizes = {"command": 3, "command_steps": 1, "push": 2, "push_steps": 1}  # steps until the next
        sizes |= {"action": NUM_JOINTS, "last_action": NUM_JOINTS, "way_off": 1}
        sizes |= {name: NUM_FEET for name in ("contact", *Swing._fields)}
        return {name: torch.zeros(num_envs, size, device=device) for name, size in sizes.items()}

    def start(self, physics: Physics, memory: Memory, generator: torch.Generator) -> None:
        position, yaw = physics.qpos[:, :2], torch.empty_like(physics.time)
        yaw.uniform_(-math.pi, math.pi, generator=generator)
        offset = terrain.TILE / 2 if self.rough else START_OFFSET
        position.uniform_(-offset, offset, generator=generator)
        physics.qpos[:, 2].fill_(START_HEIGHT)
        if self.rough:
            highest = terrain.highest_under(self.constants["ground"], position, yaw, self.constants["feet"])
            physics.qpos[:, 2] += highest + START_CLEARANCE
        physics.qpos[:, 3], physics.qpos[:, 6] = (yaw / 2).cos(), (yaw / 2).sin()
        physics.qpos[:, FIRST_JOINT:] = self.constants["pose"]
        physics.ctrl.copy_(self.constants["pose"].expand_as(physics.ctrl))
        physics.qvel[:, :FIRST_JOINT_VELOCITY].uniform_(-START_SPEED, START_SPEED, generator=generator)

    def each_episode(self, memory: Memory, generator: torch.Generator) -> None:
        memory["command"].uniform_(-1.0, 1.0, generator=generator).mul_(self.constants["command"])
        random = torch.empty_like(memory["command_steps"])
        memory["command_steps"].copy_(self._command_steps(random.uniform_(generator=generator)))
        memory["push_steps"].copy_(self._push_steps(random.uniform_(generator=generator)))

    def apply(self, physics: Physics, memory: Memory, action: Tensor) -> None:
        physics.ctrl.copy_(self.constants["pose"] + ACTION_SCALE * action)
        if self.max_push > 0:
            self._push(physics, memory)
        if self.rough:
            physics.qpos[:, :2] = terrain.into_tile(physics.qpos[:, :2])

    def _push(self, physics: Physics, memory: Memory) -> None:
        random = _random(memory)
        memory["push_steps"] -= 1
        due = memory["push_steps"] <= 0  # (num_envs, 1)
        memory["push"].copy_(due * terms.push(random["push"], (0.0, self.max_push)))
        physics.qvel[:, :2] += memory["push"]
        memory["push_steps"].copy_(torch.where(due, self._push_steps(random["push_steps"]), memory["push_steps"]))

    def after_step(self, physics: Physics, memory: Memory, action: Tensor) -> None:
        memory["last_action"].copy_(memory["action"])
        memory["action"].copy_(action)
        contact = _feet(physics, "contact").squeeze(2).clamp(max=1.0)
        swing = terms.advance_swing(
            was_contact=memory["contact"],
            contact=contact,
            air_time=memory["air_time"],
            peak=memory["peak"],
            height=self._foot_height(physics),
            control_dt=self.control_dt,
        )
        memory["contact"].copy_(contact)
        for name, value in swing._asdict().items():
            memory[name].copy_(value)

        random = _random(memory)
        memory["command_steps"] -= 1
        due = memory["command_steps"] <= 0  # (num_envs, 1)
        changed = terms.changed_command(
            memory["command"], random["command"], self.constants["command"], self.constants["command_nonzero"]
        )
        memory["command"].copy_(torch.where(due, changed, memory["command"]))
        steps = self._command_steps(random["command_steps"])
        memory["command_steps"].copy_(torch.where(due, steps, memory["command_steps"]))
        off = terms.velocity_error(memory["command"], physics.sensor("velocity"))
        memory["way_off"].add_(off[:, None], alpha=self.control_dt)

    def observe(self, physics: Physics, memory: Memory) -> dict[str, Tensor]:
        seen = {
            "velocity": physics.sensor("velocity"),  # 3
            "gyro": physics.sensor("gyro"),  # 3
            "gravity": -physics.sensor("vertical"),  # 3
            "joints": physics.qpos[:, FIRST_JOINT:] - self.constants["pose"],  # 12
            "joint_velocity": physics.qvel[:, FIRST_JOINT_VELOCITY:],  # 12
        }
        random = _random(memory)
        noisy = [with_noise(x, random[name], self.noise_level * NOISE[name]) for name, x in seen.items()]
        state = torch.cat([*noisy, memory["action"], memory["command"]], dim=1)  # 33 + 12 + 3
        privileged = [
            state,  # 48
            *seen.values(),  # 33
            physics.sensor("accelerometer"),  # 3
            physics.sensor("world_angular_velocity"),  # 3
            _torque(physics),  # 12
            memory["contact"],  # 4
            _feet(physics, "velocity").flatten(1),  # 12
            memory["air_time"],  # 4
            memory["push"],  # 2
        ]
        return {"state": state, "privileged_state": torch.cat(privileged, dim=1)}

    def reward(self, physics: Physics, memory: Memory, action: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        values = self.reward_terms(physics, memory)
        metrics = {
            **{name: values[name] for name in ("tracking_lin_vel", "tracking_ang_vel")},
            "velocity_error_per_step": terms.velocity_error(memory["command"], physics.sensor("velocity")),
            "yaw_rate_error_per_step": (physics.sensor("gyro")[:, 2] - memory["command"][:, 2]).abs(),
        }
        return terms.clipped_reward(values, SCALES, self.control_dt), metrics

    def reward_terms(self, physics: Physics, memory: Memory) -> dict[str, Tensor]:
        """Terms of the reward, without their `SCALES`, each `(num_envs,)`."""
        command, contact = memory["command"], memory["contact"]
        swing = Swing(*(memory[name] for name in Swing._fields))
        joints, joint_velocity = physics.qpos[:, FIRST_JOINT:], physics.qvel[:, FIRST_JOINT_VELOCITY:]
        torque, foot_velocity = _torque(physics), _feet(physics, "velocity")
        moving = terms.is_moving(command)
        return {
            "tracking_lin_vel": terms.tracking_lin_vel(command, physics.sensor("velocity"), TRACKING_SIGMA),
            "tracking_ang_vel": terms.tracking_ang_vel(command, physics.sensor("gyro"), TRACKING_SIGMA),
            "lin_vel_z": terms.lin_vel_z(physics.sensor("world_velocity")),
            "ang_vel_xy": terms.ang_vel_xy(physics.sensor("world_angular_velocity")),
            "orientation": terms.orientation(physics.sensor("vertical")),
            "dof_pos_limits": terms.dof_pos_limits(joints, self.constants["lower"], self.constants["upper"]),
            "pose": terms.pose(joints, self.constants["pose"], self.constants["pose_weight"]),
            "termination": self.terminated(physics, memory).float(),
            "stand_still": terms.stand_still(command, joints, self.constants["pose"]),
            "torques": terms.torques(torque),
            "action_rate": terms.action_rate(memory["action"], memory["last_action"]),
            "energy": terms.energy(joint_velocity, torque),
            "feet_clearance": terms.feet_clearance(foot_velocity, self._foot_height(physics), FOOT_HEIGHT),
            "feet_height": moving * terms.feet_height(swing, FOOT_HEIGHT),
            "feet_slip": moving * terms.feet_slip(foot_velocity, contact),
            "feet_air_time": moving * terms.feet_air_time(swing, LEAST_AIR_TIME),
        }

    def terminated(self, physics: Physics, memory: Memory) -> Tensor:
        return physics.sensor("vertical")[:, 2] < 0.0

    def success(self, physics: Physics, memory: Memory) -> Tensor:
        return terms.has_followed(memory["way_off"], physics.time) & ~self.terminated(physics, memory)

    def randomize(self, physics: Physics, generator: torch.Generator) -> dict[str, Tensor]:
        """Ranges are Playground's, and gains of the actuators between 0.9 and 1.1 of theirs."""
        model, num_envs, device = physics.model, physics.num_envs, physics.device

        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return torch.empty(num_envs, *shape, device=device).uniform_(low, high, generator=generator)

        nominal = {name: torch.as_tensor(getattr(model, name), device=device).float() for name in RANDOMIZED}
        fields = {name: value.expand(num_envs, *value.shape).clone() for name, value in nominal.items()}
        trunk = model.body("trunk").id
        fields["geom_friction"][:, model.geom("floor").id, 0] = uniform(0.4, 1.0)
        fields["body_ipos"][:, trunk] += uniform(-0.05, 0.05, 3)  # m
        fields["body_mass"] *= uniform(0.9, 1.1, model.nbody)
        fields["body_mass"][:, trunk] += uniform(-1.0, 1.0)  # kg
        fields["qpos0"][:, FIRST_JOINT:] += uniform(-0.05, 0.05, NUM_JOINTS)  # rad, of each joint's zero
        fields["dof_frictionloss"][:, FIRST_JOINT_VELOCITY:] *= uniform(0.9, 1.1, NUM_JOINTS)
        fields["dof_armature"][:, FIRST_JOINT_VELOCITY:] *= uniform(1.0, 1.05, NUM_JOINTS)
        gain = uniform(0.9, 1.1, NUM_JOINTS)
        fields["actuator_gainprm"][:, :, 0] *= gain
        fields["actuator_biasprm"][:, :, 1] *= gain
        return fields

    def _command_steps(self, random: Tensor) -> Tensor:
        return terms.exponential_steps(random, COMMAND_SECONDS, self.control_dt)

    def _push_steps(self, random: Tensor) -> Tensor:
        return terms.uniform_steps(random, PUSH_SECONDS, self.control_dt)

    def _foot_height(self, physics: Physics) -> Tensor:
        """Of the centres of the feet above the ground in m, `(num_envs, 4)`."""
        position = _feet(physics, "position")
        ground = terrain.height_at(self.constants["ground"], position[:, :, :2]) if self.rough else 0.0
        return position[:, :, 2] - ground


def _random(memory: Memory) -> dict[str, Tensor]:
    """This step's random numbers by what they are for, `(num_envs, NUM_RANDOM[name])` each."""
    return {name: memory["random"][:, columns] for name, columns in RANDOM_COLUMNS.items()}


def _torque(physics: Physics) -> Tensor:
    """Of the actuators in Nm, `(num_envs, 12)`."""
    return torch.cat([physics.sensor(f"{joint}_torque") for joint in JOINTS], dim=1)


def _feet(physics: Physics, what: str) -> Tensor:
    """A sensor of each foot, `(num_envs, 4, dim)`; position in m and velocity in m/s are in the world's frame."""
    return torch.stack([physics.sensor(f"{leg}_foot_{what}") for leg in LEGS], dim=1)
