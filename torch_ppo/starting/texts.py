"""The texts of a first task for a robot, from what `robot` has found of it."""

from torch_ppo.starting.robot import Robot


def task_text(robot: Robot, name: str, mjcf: str) -> str:
    """The task's module; `mjcf` is the path from its folder to the model file."""
    scaled = any((center, reach) != (0.0, 1.0) for _, center, reach in robot.controls)
    parts = [_head(robot, name, mjcf), _constants(robot, scaled), _class(robot, name, mjcf, scaled)]
    if robot.needs_floor:
        parts.append(FLOOR)
    parts += [_memory(robot), _start(robot)]
    parts += [_observe(robot), FLOATING if robot.base else FIXED]
    text = "\n".join(part for part in parts if part)
    if robot.base:
        text = text.replace("LEAN", _lean(robot)).replace("SPEED_X", f"physics.qvel[:, {robot.base.qvel}]")
        if robot.base.fallen is not None:
            text += FALLEN.replace("HEIGHT", f"physics.qpos[:, {robot.base.qpos + 2}]")
    return text


def _head(robot: Robot, name: str, mjcf: str) -> str:
    if robot.base:
        end = "; falling ends the episode" if robot.base.fallen is not None else ""
        what = f"Rewarded are an upright trunk and a speed forward, along the world's x axis{end}."
    else:
        pose = f'the keyframe "{robot.keyframe}"' if robot.keyframe else "the pose that the MJCF has its bodies in"
        what = f"Rewarded is to stay at a pose: {pose}.\nLosing it ends the episode."
    imports = [
        "from pathlib import Path",
        "",
        *(["import mujoco"] if robot.needs_floor else []),
        "import torch",
        "from torch import Tensor",
        "",
        "from torch_ppo import Memory, Physics, Task",
    ]
    title = f"{name}: a first task for {mjcf.rpartition('/')[2]}, written by `torch_ppo.tasks --new`, to be changed."
    title = title.replace("\\", "\\\\").replace('"""', "'''")
    return "\n".join([f'"""{title}', "", what, '"""', "", *imports, ""])


def _constants(robot: Robot, scaled: bool) -> str:
    lines = ["START_NOISE = 0.05  # rad and m, half the width of the joints' start positions"] if robot.joints else []
    lines.append("START_SPEED = 0.05  # rad/s and m/s, standard deviation")
    if robot.base:
        lines.append("TARGET_SPEED = 0.5  # m/s; faster is not better")
        if robot.base.is_lowered:
            lines.append(f"START_HEIGHT = {robot.base.height!r}  # m, of the base: the robot just touches the floor")
        if robot.base.fallen is not None:
            lines.append(f"FALLEN = {robot.base.fallen!r}  # m, height of the base below which it has fallen")
            lines.append("TIPPED = 0.3  # cosine of the base's lean below which it has fallen, too: at 73 degrees")
    else:
        lines.append("TOLERANCE = 0.3  # rad or m, error of the pose at which the reward is still 0.37")
        lines.append("LOST = 1.0  # rad or m, error of the pose at which the episode ends")
    if scaled:
        lines += [
            "",
            "# Of each actuator: the control at action 0, and how far from it an action of 1 goes. MuJoCo ends at its range.",
            "CONTROLS = {",
        ]
        lines += [f"    {_quoted(name)}: ({center!r}, {reach!r})," for name, center, reach in robot.controls]
        lines.append("}")
    return "\n".join([*lines, "", ""])


def _quoted(text: str) -> str:
    """As a string of Python, in double quotes unless it has some."""
    text = repr(text)
    return text if '"' in text or "\\'" in text else f'"{text[1:-1]}"'


SCALING = (
    "    action_offset = tuple(offset for offset, _ in CONTROLS.values())",
    "    action_scale = tuple(reach for _, reach in CONTROLS.values())",
)


def _class(robot: Robot, name: str, mjcf: str, scaled: bool) -> str:
    path = f"with_name({_quoted(mjcf)})" if "/" not in mjcf else f"parent / {_quoted(mjcf)}"
    steps = f"{robot.substeps} timestep{'s' * (robot.substeps != 1)} of the MJCF"
    lines = [
        f"class {name}(Task):",
        f"    mjcf = Path(__file__).{path}",
        f"    control_dt = {robot.control_dt!r}  # s, {steps}",
        f"    episode_length = {robot.episode_length}  # env steps, {robot.episode_length * robot.control_dt:.3g} s",
        "    reward_range = (0.0, 1.0)",
        *(SCALING if scaled else ()),
        "",
    ]
    return "\n".join(lines)


FLOOR = """    def make_spec(self) -> mujoco.MjSpec:
        spec = super().make_spec()  # the robot as it is in its file; the MJCF has nothing to stand on
        spec.worldbody.add_geom(name="floor of the task", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 1])
        return spec
"""


def _memory(robot: Robot) -> str:
    if robot.base:
        return ""
    return f"""    def make_memory(self, num_envs: int, device: torch.device) -> Memory:
        return {{"pose": torch.zeros(num_envs, {robot.model.nq}, device=device)}}
"""


def _start(robot: Robot) -> str:
    model = robot.model
    lines = ["    def start(self, physics: Physics, memory: Memory, generator: torch.Generator) -> None:"]
    if robot.keyframe is not None:
        lines.append(f"        home = physics.keyframe({_quoted(robot.keyframe)})")
        parts = {
            "qpos": model.nq,
            "act": model.na,
            "ctrl": model.nu,
            "mocap_pos": model.nmocap,
            "mocap_quat": model.nmocap,
        }
        lines += [f'        physics.{part}.copy_(home["{part}"])' for part, size in parts.items() if size]
    if robot.base and robot.base.is_lowered:
        lines.append(f"        physics.qpos[:, {robot.base.qpos + 2}] = START_HEIGHT")
    if not robot.base:
        lines.append('        memory["pose"].copy_(physics.qpos)')
    parts = ["physics.qpos" + _columns(low, high, model.nq) for low, high in robot.joints]
    noise = "joints.add_(torch.empty_like(joints).uniform_(-START_NOISE, START_NOISE, generator=generator))"
    if len(parts) == 1:
        lines += [f"        joints = {parts[0]}  # a view: what is added is added there", f"        {noise}"]
    elif parts:
        lines += [f"        for joints in ({', '.join(parts)}):", f"            {noise}"]
    lines.append("        physics.qvel.normal_(0.0, START_SPEED, generator=generator)")
    return "\n".join([*lines, ""])


def _columns(low: int, high: int, size: int) -> str:
    if (low, high) == (0, size):
        return ""
    return f"[:, {low or ''}:{'' if high == size else high}]"


def _observe(robot: Robot) -> str:
    model = robot.model
    rows = []
    for low, high in robot.observed:
        base = robot.base is not None and low == robot.base.qpos + 2
        what = "height and quaternion of the base, joints" if base else "joints" if robot.base else "positions"
        rows.append((f"physics.qpos{_columns(low, high, model.nq)}", f"{high - low}, {what}"))
    rows.append(("physics.qvel", f"{model.nv}, velocities"))
    if model.na:
        rows.append(("physics.act", f"{model.na}, activations of actuators"))
    body = "\n".join(f"                {code},  # {note}" for code, note in rows)
    comment = "        # Where it is on the floor does not matter: x and y are left out.\n" if robot.base else ""
    return f"""    def observe(self, physics: Physics, memory: Memory) -> Tensor:
{comment}        return torch.cat(
            [
{body}
            ],
            dim=1,
        )
"""


FIXED = '''    def error(self, physics: Physics, memory: Memory) -> Tensor:
        """How far it is from the pose, root mean square over qpos in rad or m, `(num_envs,)`."""
        return (physics.qpos - memory["pose"]).square().mean(1).sqrt()

    def reward(self, physics: Physics, memory: Memory, action: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        error = self.error(physics, memory)
        return torch.exp(-(error / TOLERANCE).square()), {"error_per_step": error}

    def terminated(self, physics: Physics, memory: Memory) -> Tensor:
        return self.error(physics, memory) > LOST
'''

FLOATING = '''    def uprightness(self, physics: Physics) -> Tensor:
        """Cosine of how far the base leans: 1 upright, 0 on its side, -1 on its head; `(num_envs,)`."""
LEAN

    def reward(self, physics: Physics, memory: Memory, action: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        upright = (1 + self.uprightness(physics)) / 2
        speed = SPEED_X
        forward = (speed / TARGET_SPEED).clamp(0, 1)
        return upright * (1 + forward) / 2, {"upright_per_step": upright, "speed_per_step": speed}
'''

FALLEN = """
    def terminated(self, physics: Physics, memory: Memory) -> Tensor:
        return (HEIGHT < FALLEN) | (self.uprightness(physics) < TIPPED)
"""


def _lean(robot: Robot) -> str:
    """The third row of the base's rotation times the axis that is up at home."""
    first = robot.base.qpos + 3
    rows = ("2 * (x * z - w * y)", "2 * (y * z + w * x)", "1 - 2 * (x * x + y * y)")
    if robot.base.up == (0.0, 0.0, 1.0):
        names, value = f"_, x, y, _ = physics.qpos[:, {first}:{first + 4}].unbind(1)", rows[2]
    else:
        names = f"w, x, y, z = physics.qpos[:, {first}:{first + 4}].unbind(1)"
        terms = [f"{up!r} * ({row})" for up, row in zip(robot.base.up, rows, strict=True) if up]
        value = "(\n            " + "\n            + ".join(terms) + "\n        )" if len(terms) > 1 else terms[0]
    return f"        {names}\n        return {value}"


def configuration_text(robot: Robot, name: str, module: str) -> str:
    """The TOML file: settings for a CPU, in the words of docs/parameters.md."""
    steps = 4_096_000 if robot.base else 1_024_000
    size = 128 if robot.base else 64
    return f"""# {name}: settings for a CPU to begin with.
# python -m torch_ppo.train --env {module}.py:{name} --config {module}.toml
num_timesteps = {steps:_}
num_evals = 11
num_eval_envs = 32
random_episode_phase = true
normalize_observations = true
num_envs = 128
unroll_length = 20
batch_size = 64
num_minibatches = 8
num_updates_per_batch = 8
discounting = 0.97
learning_rate = 1e-3
entropy_cost = 5e-3
max_grad_norm = 1.0
clipping_epsilon = 0.2
# Small actions at first, around 0.
distribution_type = "normal"
noise_std_type = "log"
init_noise_std = 0.5
mean_kernel_init_fn = "zeros"
policy_hidden_layer_sizes = [{size}, {size}]
value_hidden_layer_sizes = [{size}, {size}]
torch_threads = 1
seed = 0
"""


def test_text(name: str, module: str) -> str:
    """The test's module, for pytest."""
    return f'''"""{name}: its episodes begin well, and it trains. `python -m pytest {"test_" + module}.py`"""

import math
from pathlib import Path

import torch

import torch_ppo

TASK = f"{{Path(__file__).with_name('{module}.py')}}:{name}"


def test_an_episode():
    """Numbers are finite, rewards in their range, and nobody starts where an episode ends."""
    env = torch_ppo.make_env(TASK, num_envs=8)
    low, high = env.task.reward_range
    for step in range(50):
        _, reward, done = env.step(torch.zeros(8, env.action_dim))
        assert env.broken.counts.sum() == 0
        assert reward.isfinite().all() and (reward >= low - 1e-5).all() and (reward <= high + 1e-5).all()
        assert step > 0 or not done.any()


def test_starts_differ():
    env = torch_ppo.make_env(TASK, num_envs=2)
    observation = env.observation["state"]
    assert not torch.equal(observation[0], observation[1])


def test_it_trains():
    """Two training steps."""
    reports = []
    torch_ppo.train(
        TASK,
        num_timesteps=320,
        num_evals=2,
        num_envs=8,
        num_eval_envs=2,
        episode_length=20,
        unroll_length=10,
        batch_size=8,
        num_minibatches=2,
        device="cpu",
        progress_fn=lambda step, metrics: reports.append((step, metrics["eval/episode_reward"])),
    )
    assert reports[-1][0] == 320 and all(math.isfinite(reward) for _, reward in reports)
'''
