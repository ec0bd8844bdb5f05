"""Biped: walk on two legs as a joystick commands, in step with a gait phase.

A torso and two legs of six joints, in the proportions of Berkeley Humanoid (Liao et al. 2024, arXiv:2407.21781: 16 kg,
0.85 m). From that robot's model in MuJoCo Menagerie are, rounded: masses, lengths of thigh and shank (0.22 and 0.18 m)
and of the sole (0.16 m), joint ranges (not the ankle pitch's), armatures and torque limits (not the ankle roll's). Ours
are: primitive shapes and so inertias, hip axes that are vertical, forward and sideways and meet the leg's line, 0.16 m
between the legs, default pose, gains, and friction losses. Only the soles touch the floor, and nothing touches anything
else.

The task follows BerkeleyHumanoidJoystickFlatTerrain of MuJoCo Playground (Zakka et al. 2025, arXiv:2502.08844) in noise
(the hips' for all joints), commands, most terms of the reward and their scales. Ours are: feet that stay down for half
of the gait's cycle and while standing, costs of height, of vertical speed, of standing still and of feet that come too
near, weaker pushes, and an end of the episode before the torso lies down. The policy is not told its velocity.

qpos is the torso's position (3) and quaternion (4), then for the left and the right leg the angles of hip yaw, hip
roll, hip pitch, knee, ankle pitch, ankle roll; qvel is their 18 derivatives. An action moves the targets of the joints'
position actuators away from the default pose.
"""

import functools
from pathlib import Path

import torch
from torch import Tensor

from torch_ppo import Memory, Physics, Task, load_model

from . import joystick

MJCF = Path(__file__).with_name("assets") / "biped.xml"
SIDES = ("left", "right")
LEG = ("hip_yaw", "hip_roll", "hip_pitch", "knee", "ankle_pitch", "ankle_roll")
JOINTS = tuple(f"{side}_{joint}" for side in SIDES for joint in LEG)
FIRST_JOINT, FIRST_JOINT_DOF = 7, 6
DEFAULT_POSE = 2 * (0.0, 0.0, -0.4, 0.8, -0.4, 0.0)  # rad
STAND_HEIGHT = 0.538  # m, of the torso in the default pose
ACTION_SCALE = 2 * (0.3, 0.3, 0.6, 0.8, 0.5, 0.3)  # rad, as far as steps need

COMMAND_LIMITS = (1.0, 1.0, 1.0)  # m/s forward, m/s left, rad/s
COMMAND_SECONDS = 10.0
STAND_PROBABILITY = 0.1
PUSH_SECONDS = (5.0, 10.0)
GAIT_FREQUENCIES = (1.25, 1.5)  # Hz

START_OFFSET, START_YAW, START_ANGLE, START_VELOCITY = 0.5, torch.pi, 0.1, 0.5  # m, rad, rad, m/s and rad/s
START_CLEARANCE = 0.03  # m; no start pose reaches lower than the default pose by more
LEAST_UPRIGHT, LEAST_HEIGHT = 0.5, 0.3  # cosine of the torso's lean, and m

NOISE = {"gyro": 0.2, "vertical": 0.05, "angles": 0.03, "velocities": 1.5}  # rad/s, 1, rad, rad/s
NUM_RANDOM = {"gyro": 3, "vertical": 3, "angles": 12, "velocities": 12, "command": 4, "push": 2, "push_steps": 1}
RANDOM = joystick.column_slices(NUM_RANDOM)

RANDOMIZED = "geom_friction body_mass body_inertia body_ipos dof_armature dof_frictionloss qpos0".split()
RANDOMIZED += ["actuator_gainprm", "actuator_biasprm"]

SWING_HEIGHT = 0.06  # m, of the middle of a sole
SWING_VARIANCE = 0.001  # m2
SWING_SECONDS = (0.2, 0.5)
FEET_DISTANCE = 0.1  # m, sideways
TRACKING_SIGMA = 0.5  # m2/s2, rad2/s2
SOFT_LIMITS = 0.95
SCALES = {
    "tracking_lin_vel": 1.0,
    "tracking_ang_vel": 0.5,
    "feet_phase": 1.0,
    "feet_air_time": 2.0,
    "alive": 0.25,
    "lin_vel_z": -0.2,
    "ang_vel_xy": -0.05,
    "orientation": -1.0,
    "base_height": -10.0,
    "torques": -2.5e-5,
    "action_rate": -0.01,
    "feet_slip": -0.25,
    "feet_distance": -2.0,
    "stand_still": -0.2,
    "joint_deviation": -0.25,
    "dof_pos_limits": -1.0,
    "termination": -1.0,
}

OBSERVATION_NAMES = {
    "state": (
        ("angular velocity of the torso, in its frame", 3, "rad/s"),
        ("vertical, in the torso's frame", 3, "1"),
        ("joint angles from the default pose, in the order of the actions", 12, "rad"),
        ("joint velocities", 12, "rad/s"),
        ("command: forward, left, turning left", 3, "m/s, m/s, rad/s"),
        ("the action before", 12, "1"),
        ("cosines of the phases of left and right leg", 2, "1"),
        ("sines of them", 2, "1"),
    )
}


@functools.cache  # never made anew: a recorded graph knows them by address
def constants(device: torch.device) -> dict[str, Tensor]:
    """What a device needs as tensors: of each joint, and the greatest command."""
    ranges = torch.as_tensor(load_model(MJCF).jnt_range[1:], dtype=torch.float32)
    lower, upper = joystick.soft_limits(ranges, SOFT_LIMITS)
    values = {"pose": DEFAULT_POSE, "action": ACTION_SCALE, "lower": lower, "upper": upper, "command": COMMAND_LIMITS}
    return {name: torch.as_tensor(value, device=device) for name, value in values.items()}


class Biped(Task):
    """Rewards velocities as commanded and feet that step in the rhythm of the phase, less costs.

    noise_level:  scales the noise of the observation "state"; 0 for none
    max_push:     greatest speed in m/s of pushes, which come every five to ten seconds; 0 for none
    """

    mjcf = MJCF
    control_dt = 0.02
    observation_names = OBSERVATION_NAMES
    episode_length = 1000
    nconmax = 8  # four spheres of each sole: all that there can be
    njmax = 56  # 4 rows for each contact, 12 limits and 12 friction losses
    metric_names = ("tracking_lin_vel", "tracking_ang_vel", "feet_phase", "velocity_error_per_step")
    reward_range = (0.0, 0.1)
    commands = joystick.commands(COMMAND_LIMITS)
    num_random = sum(NUM_RANDOM.values())

    def __init__(self, *, noise_level: float = 1.0, max_push: float = 1.0) -> None:
        self.noise_level, self.max_push = noise_level, max_push

    def make_memory(self, num_envs: int, device: torch.device) -> Memory:
        self.constants = constants(device)
        sizes = {"command": 3, "phase": 1, "phase_step": 1, "push": 2, "action": 12, "last_action": 12}
        sizes |= {"contact": 2, "touchdown": 2, "air_time": 2, "peak": 2, "command_steps": 1, "push_steps": 1}
        sizes |= {"way_off": 1}
        return {name: torch.zeros(num_envs, size, device=device) for name, size in sizes.items()}

    def start(self, physics: Physics, memory: Memory, generator: torch.Generator) -> None:
        def uniform(tensor: Tensor, limit: float) -> Tensor:
            return tensor.uniform_(-limit, limit, generator=generator)

        uniform(physics.qpos[:, :2], START_OFFSET)
        physics.qpos[:, 2] = STAND_HEIGHT + START_CLEARANCE
        half_yaw = uniform(torch.empty_like(physics.time), START_YAW / 2)
        physics.qpos[:, 3], physics.qpos[:, 6] = half_yaw.cos(), half_yaw.sin()
        uniform(physics.qpos[:, FIRST_JOINT:], START_ANGLE)
        physics.qpos[:, FIRST_JOINT:] += self.constants["pose"]
        uniform(physics.qvel[:, :FIRST_JOINT_DOF], START_VELOCITY)
        physics.ctrl.copy_(self.constants["pose"].expand_as(physics.ctrl))

    def each_episode(self, memory: Memory, generator: torch.Generator) -> None:
        memory["phase"].uniform_(-torch.pi, torch.pi, generator=generator)
        memory["phase_step"].uniform_(*GAIT_FREQUENCIES, generator=generator).mul_(2 * torch.pi * self.control_dt)
        random = torch.empty_like(memory["random"]).uniform_(generator=generator)
        memory["command"].copy_(sampled_command(random[:, RANDOM["command"]], self.constants["command"]))
        memory["command_steps"].fill_(round(COMMAND_SECONDS / self.control_dt))
        memory["push_steps"].copy_(self._next_push(random))

    def apply(self, physics: Physics, memory: Memory, action: Tensor) -> None:
        memory["phase"].copy_(wrapped(memory["phase"] + memory["phase_step"]))
        physics.ctrl.copy_(self.constants["pose"] + self.constants["action"] * action)
        if self.max_push > 0:
            self._push(physics, memory)

    def _push(self, physics: Physics, memory: Memory) -> None:
        random = memory["random"]
        memory["push_steps"] -= 1
        due = memory["push_steps"] <= 0  # (num_envs, 1)
        memory["push"].copy_(due * joystick.push(random[:, RANDOM["push"]], (0.0, self.max_push)))
        physics.qvel[:, :2] += memory["push"]
        memory["push_steps"].copy_(torch.where(due, self._next_push(random), memory["push_steps"]))

    def _next_push(self, random: Tensor) -> Tensor:
        return joystick.uniform_steps(random[:, RANDOM["push_steps"]], PUSH_SECONDS, self.control_dt)

    def after_step(self, physics: Physics, memory: Memory, action: Tensor) -> None:
        memory["last_action"].copy_(memory["action"])
        memory["action"].copy_(action)
        contact = _contact(physics)
        swing = joystick.advance_swing(
            was_contact=memory["contact"],
            contact=contact,
            air_time=memory["air_time"],
            peak=memory["peak"],
            height=_feet(physics, "position")[:, :, 2],
            control_dt=self.control_dt,
        )
        for name, value in swing._asdict().items():
            memory[name].copy_(value)
        memory["contact"].copy_(contact)

        memory["command_steps"] -= 1
        due = memory["command_steps"] <= 0  # (num_envs, 1)
        command = sampled_command(memory["random"][:, RANDOM["command"]], self.constants["command"])
        memory["command"].copy_(torch.where(due, command, memory["command"]))
        memory["command_steps"].masked_fill_(due, round(COMMAND_SECONDS / self.control_dt))
        off = joystick.velocity_error(memory["command"], physics.sensor("velocity"))
        memory["way_off"].add_(off[:, None], alpha=self.control_dt)

    def observe(self, physics: Physics, memory: Memory) -> dict[str, Tensor]:
        measured = {
            "gyro": physics.sensor("gyro"),  # 3
            "vertical": physics.sensor("vertical"),  # 3
            "angles": physics.qpos[:, FIRST_JOINT:] - self.constants["pose"],  # 12
            "velocities": physics.qvel[:, FIRST_JOINT_DOF:],  # 12
        }
        random, phases = memory["random"], both_phases(memory["phase"])
        scales = {key: self.noise_level * NOISE[key] for key in measured}
        state = [
            *(joystick.with_noise(x, random[:, RANDOM[key]], scales[key]) for key, x in measured.items()),  # 30
            memory["command"],  # 3
            memory["action"],  # 12
            phases.cos(),  # 2
            phases.sin(),  # 2
        ]
        privileged = [
            *state,  # 49
            *measured.values(),  # 30
            physics.sensor("velocity"),  # 3
            physics.qpos[:, 2:3],  # 1
            _torque(physics),  # 12
            memory["contact"],  # 2
            _feet(physics, "position")[:, :, 2],  # 2
            _feet(physics, "velocity").flatten(1),  # 6
            memory["air_time"],  # 2
            memory["push"],  # 2
        ]
        return {"state": torch.cat(state, dim=1), "privileged_state": torch.cat(privileged, dim=1)}

    def reward(self, physics: Physics, memory: Memory, action: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        terms = self.reward_terms(physics, memory)
        metrics = {name: terms[name] for name in ("tracking_lin_vel", "tracking_ang_vel", "feet_phase")}
        metrics["velocity_error_per_step"] = joystick.velocity_error(memory["command"], physics.sensor("velocity"))
        return joystick.clipped_reward(terms, SCALES, self.control_dt), metrics

    def reward_terms(self, physics: Physics, memory: Memory) -> dict[str, Tensor]:
        """Terms of the reward, by the names of `SCALES`, without their scales, `(num_envs,)` each."""
        joints, command = physics.qpos[:, FIRST_JOINT:], memory["command"]
        position, velocity = _feet(physics, "position"), _feet(physics, "velocity")
        moving = joystick.is_moving(command).float()
        swing = joystick.Swing(*(memory[name] for name in joystick.Swing._fields))
        return {
            "tracking_lin_vel": joystick.tracking_lin_vel(command, physics.sensor("velocity"), TRACKING_SIGMA),
            "tracking_ang_vel": joystick.tracking_ang_vel(command, physics.sensor("gyro"), TRACKING_SIGMA),
            "feet_phase": feet_phase(position[:, :, 2], swing_height(both_phases(memory["phase"])) * moving[:, None]),
            "feet_air_time": joystick.feet_air_time(swing, *SWING_SECONDS) * moving,
            "alive": torch.ones_like(moving),
            "lin_vel_z": joystick.lin_vel_z(physics.qvel),
            "ang_vel_xy": joystick.ang_vel_xy(physics.sensor("angular_velocity")),
            "orientation": joystick.orientation(physics.sensor("vertical")),
            "base_height": (physics.qpos[:, 2] - STAND_HEIGHT).square(),
            "torques": joystick.torques(_torque(physics)),
            "action_rate": joystick.action_rate(memory["action"], memory["last_action"]),
            "feet_slip": joystick.feet_slip(velocity, memory["contact"]),
            "feet_distance": feet_distance(position, physics.qpos[:, 3:7]),
            "stand_still": joystick.stand_still(command, joints, self.constants["pose"]),
            "joint_deviation": hip_deviation(joints - self.constants["pose"]),
            "dof_pos_limits": joystick.dof_pos_limits(joints, self.constants["lower"], self.constants["upper"]),
            "termination": self.terminated(physics, memory).float(),
        }

    def terminated(self, physics: Physics, memory: Memory) -> Tensor:
        return (physics.sensor("vertical")[:, 2] < LEAST_UPRIGHT) | (physics.qpos[:, 2] < LEAST_HEIGHT)

    def success(self, physics: Physics, memory: Memory) -> Tensor:
        return joystick.has_followed(memory["way_off"], physics.time) & ~self.terminated(physics, memory)

    def randomize(self, physics: Physics, generator: torch.Generator) -> dict[str, Tensor]:
        model, num_envs, device = physics.model, physics.num_envs, physics.device

        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return torch.empty(num_envs, *shape, device=device).uniform_(low, high, generator=generator)

        nominal = {name: torch.as_tensor(getattr(model, name), device=device).float() for name in RANDOMIZED}
        fields = {name: value.expand(num_envs, *value.shape).clone() for name, value in nominal.items()}
        torso, floor = model.body("torso").id, model.geom("floor").id
        fields["geom_friction"][:, floor, 0] = uniform(0.4, 1.0)
        heavier = uniform(0.9, 1.1, model.nbody)
        heavier[:, torso] += uniform(-1.0, 1.0) / model.body_mass[torso]  # a load of up to 1 kg
        fields["body_mass"] *= heavier
        fields["body_inertia"] *= heavier[:, :, None]
        fields["body_ipos"][:, torso] += uniform(-0.02, 0.02, 3)
        gain = uniform(0.9, 1.1, model.nu, 1)
        fields["actuator_gainprm"] *= gain
        fields["actuator_biasprm"] *= gain
        fields["dof_armature"] *= uniform(1.0, 1.05, model.nv)
        fields["dof_frictionloss"] *= uniform(0.5, 1.5, model.nv)
        fields["qpos0"][:, FIRST_JOINT:] += uniform(-0.05, 0.05, model.nu)
        return fields


def sampled_command(random: Tensor, limits: Tensor) -> Tensor:
    """Each component uniform in [-limit, limit), or the command to stand; random `(num_envs, 4)`, limits `(3,)`."""
    return (2 * random[:, :3] - 1) * limits * (random[:, 3:] >= STAND_PROBABILITY)


def wrapped(angle: Tensor) -> Tensor:
    """The same angle in [-pi, pi)."""
    return torch.remainder(angle + torch.pi, 2 * torch.pi) - torch.pi


def both_phases(phase: Tensor) -> Tensor:
    """Phases of the left and the right foot, half a cycle apart, `(num_envs, 2)`; phase of the left `(num_envs, 1)`."""
    return torch.cat([phase, wrapped(phase + torch.pi)], dim=1)


def swing_height(phase: Tensor) -> Tensor:
    """Height in m that a foot should have: a swing while the phase is negative, the floor while it is positive."""
    return SWING_HEIGHT * (-phase.sin()).clamp(min=0.0).square()


def hip_deviation(offset: Tensor) -> Tensor:
    """Cost of yaw and roll of the hips, in rad, from offsets of all joints to the default pose `(num_envs, 12)`."""
    return offset.unflatten(1, (2, 6))[:, :, :2].abs().sum((1, 2))


def feet_phase(height: Tensor, wanted: Tensor) -> Tensor:
    """1 for feet `(num_envs, 2)` as high as wanted, falling to 0."""
    return torch.exp(-(height - wanted).square().sum(1) / SWING_VARIANCE)


def feet_distance(position: Tensor, quaternion: Tensor) -> Tensor:
    """Cost of legs that cross: m by which the left foot is less than FEET_DISTANCE to the torso's left of the right.

    Of position `(num_envs, 2, 3)` of both feet and quaternion `(num_envs, 4)` of the torso.
    """
    w, x, y, z = quaternion.unbind(1)
    left = torch.stack([2 * (x * y - w * z), 1 - 2 * (x * x + z * z)], dim=1)
    left = left / torch.linalg.vector_norm(left, dim=1, keepdim=True).clamp(min=1e-6)
    distance = ((position[:, 0, :2] - position[:, 1, :2]) * left).sum(1)
    return (FEET_DISTANCE - distance).clamp(min=0.0)


def _feet(physics: Physics, what: str) -> Tensor:
    """Position or velocity of the middles of the soles in the world's frame, `(num_envs, 2, 3)`."""
    return torch.stack([physics.sensor(f"{side}_foot_{what}") for side in SIDES], dim=1)


def _contact(physics: Physics) -> Tensor:
    """1 where a foot touches the floor, `(num_envs, 2)`."""
    return (torch.cat([physics.sensor(f"{side}_foot_contact") for side in SIDES], dim=1) > 0).float()


def _torque(physics: Physics) -> Tensor:
    """Of the actuators, in Nm, `(num_envs, 12)`."""
    return torch.cat([physics.sensor(f"{joint}_torque") for joint in JOINTS], dim=1)
