"""Writes docs/task_list.md: what each task observes, does, rewards and ends on, and how far it was trained.

    python -m tools.task_table

Sizes, actuators, limits and configurations come from the tasks; what a number means is said here, and the generator refuses
to write observations whose sizes do not add up to the task's. A test holds the page against this.
"""

import textwrap
from pathlib import Path
from typing import NamedTuple

import mujoco
import torch

from torch_ppo.envs import ENVS, OTHER_NAMES, make_task
from torch_ppo.simulation.env import Env
from torch_ppo.simulation.task import Task
from torch_ppo.tasks import configurations, trained

PAGE = Path(__file__).parents[1] / "docs" / "task_list.md"

Parts = tuple[tuple[str, int], ...]


class Words(NamedTuple):
    """What cannot be read from a task: the parts of each observation with their sizes, the reward, and what ends it."""

    observations: dict[str, Parts]
    reward: str
    ends: str = "time limit only"


def alone(*parts: tuple[str, int]) -> dict[str, Parts]:
    """The only observation of a task."""
    return {"state": parts}


CARTPOLE = alone(("position of the cart", 1), ("cosine, sine of the pole's angle", 2), ("velocities", 2))
ACROBOT = alone(("sines of both links' angles from upright", 2), ("cosines", 2), ("velocities", 2))
FINGER: Parts = (
    ("angles of the links", 2),
    ("tip of the body", 2),
    ("velocities", 3),
    ("logarithm of touch, top", 1),
    ("and bottom", 1),
)
FINGER_TURN = {"state": (*FINGER, ("target", 2), ("distance of the tip to its edge", 1))}
HOPPER = alone(("height, pitch, joints", 6), ("velocities", 7), ("logarithm of touch, toe", 1), ("and heel", 1))
HUMANOID = alone(
    ("joints", 21),
    ("height of the head", 1),
    ("hands and feet in the torso's frame", 12),
    ("the vertical, seen from the torso", 3),
    ("velocity of the centre of mass", 3),
    ("velocities", 27),
)
REACHER = alone(("joints", 2), ("finger to target", 2), ("velocities", 2))
WALKER = alone(("cosines and sines of the pitch of torso and links", 14), ("height", 1), ("velocities", 9))
QUADRUPED_STATE: Parts = (
    ("velocity of the trunk", 3),
    ("gyro", 3),
    ("gravity, seen from the trunk", 3),
    ("joints from the default pose", 12),
    ("joint velocities", 12),
    ("last action", 12),
    ("command", 3),
)
QUADRUPED = {
    "state": QUADRUPED_STATE,
    "privileged_state": (
        ("`state`, with its noise", 48),
        ("what is measured, without", 33),
        ("accelerometer", 3),
        ("angular velocity in the world", 3),
        ("torques", 12),
        ("contacts of the feet", 4),
        ("velocities of the feet", 12),
        ("their time in the air", 4),
        ("push", 2),
    ),
}
BIPED = {
    "state": (
        ("gyro", 3),
        ("the vertical, seen from the torso", 3),
        ("joints from the default pose", 12),
        ("joint velocities", 12),
        ("command", 3),
        ("last action", 12),
        ("cosines, sines of the gait's phases", 4),
    ),
    "privileged_state": (
        ("`state`, with its noise", 49),
        ("what is measured, without", 30),
        ("velocity of the torso", 3),
        ("height", 1),
        ("torques", 12),
        ("contacts of the feet", 2),
        ("their heights", 2),
        ("their velocities", 6),
        ("their time in the air", 2),
        ("push", 2),
    ),
}
UPRIGHT_POLE = "upright pole, centred cart, small force, slow pole: a product"
IN_PLACE = "1 while the cart is within 0.25 m of the middle and the pole within 5.7° of upright, else 0"
FOLLOWED = "velocity as commanded, less costs of posture, effort and gait"

WORDS = {
    "acrobot_swingup": Words(ACROBOT, "1 while the tip is in the target at the top, less with its distance"),
    "acrobot_swingup_sparse": Words(ACROBOT, "1 while the tip is in the target at the top, else 0"),
    "ant": Words(
        alone(("height, quaternion of the torso, joints", 13), ("velocities", 14), ("contact forces, clipped", 78)),
        "forward velocity in m/s and 1 for health, less costs of control and contact",
        "torso lower than 0.2 m or higher than 1 m",
    ),
    "ant_stand": Words(
        alone(("height", 1), ("the torso's vertical", 3), ("joints", 8), ("velocities", 14)),
        "an upright torso no lower than an ant at rest, from any orientation",
    ),
    "ball_in_cup_catch": Words(
        alone(("cup and ball, x and z", 4), ("velocities", 4)), "1 while the ball is in the cup, else 0"
    ),
    "biped_joystick": Words(BIPED, FOLLOWED + ", in step with a phase", "torso leans too far or is too low"),
    "cartpole": Words(CARTPOLE, UPRIGHT_POLE),
    "cartpole_balance_vision": Words(
        {},
        "0.1, less with the pole's angle, the cart's position, both velocities and the action",
        "the pole has fallen by a right angle, or the cart is 3 m away",
    ),
    "cartpole_sparse": Words(CARTPOLE, IN_PLACE),
    "cartpole_swingup": Words(CARTPOLE, UPRIGHT_POLE + "; the pole hangs at first"),
    "cartpole_swingup_sparse": Words(CARTPOLE, IN_PLACE + "; the pole hangs at first"),
    "cheetah_run": Words(alone(("height, pitch, joints", 8), ("velocities", 9)), "forward speed over 10 m/s, up to 1"),
    "finger_spin": Words({"state": FINGER}, "1 while the body spins fast enough, else 0"),
    "finger_turn_easy": Words(FINGER_TURN, "1 while the tip is in the target, else 0"),
    "finger_turn_hard": Words(FINGER_TURN, "1 while the tip is in the smaller target, else 0"),
    "fish_swim": Words(
        alone(("joints", 7), ("how upright", 1), ("mouth to target", 3), ("velocities", 13)),
        "mouth in or near the target, and a little for being upright",
    ),
    "hopper_hop": Words(HOPPER, "standing times forward speed"),
    "hopper_stand": Words(HOPPER, "standing, with small controls"),
    "humanoid_run": Words(HUMANOID, "standing upright, small controls, and moving with 10 m/s or more"),
    "humanoid_stand": Words(HUMANOID, "standing upright and still, with small controls"),
    "humanoid_walk": Words(HUMANOID, "standing upright, small controls, and moving with 1 m/s or more"),
    "pendulum_swingup": Words(
        alone(("cosine of the angle", 1), ("sine", 1), ("velocity", 1)), "1 while the pole is upright, else 0"
    ),
    "point_mass_easy": Words(alone(("position", 2), ("velocity", 2)), "ball in or near the target, with a small force"),
    "quadruped_joystick": Words(QUADRUPED, FOLLOWED, "the trunk is past its side"),
    "quadruped_joystick_rough": Words(QUADRUPED, FOLLOWED + "; on bumps of up to 5 cm", "the trunk is past its side"),
    "reacher_easy": Words(REACHER, "1 while finger and target overlap, else 0"),
    "reacher_hard": Words(REACHER, "1 while finger and a smaller target overlap, else 0"),
    "reacher_vision": Words(
        alone(("joints", 2), ("velocities", 2)), "1 while finger and target, a disc in the picture, overlap, else 0"
    ),
    "swimmer_swimmer6": Words(
        alone(("joints", 5), ("nose to target", 2), ("velocity and turning of each link", 18)),
        "nose in or near the target",
    ),
    "walker_run": Words(WALKER, "standing upright, and speed up to 8 m/s"),
    "walker_stand": Words(WALKER, "standing high and upright"),
    "walker_walk": Words(WALKER, "standing upright, and speed up to 1 m/s"),
}

HEAD = """# Tasks: what each observes and does

*Made by `python -m tools.task_table` from the tasks; do not edit.*

Observations are given part by part, in their order, with sizes; actions by the names of the
actuators, in theirs. Steps are env steps. How far a task was trained is what its configuration
for the CPU says ([how](results/learning.md)); no configuration for the GPU has been run to its end.
`python -m torch_ppo.tasks` prints the short form, [tasks.md](tasks.md) says how one is written.
"""


def page() -> str:
    """The whole page."""
    text = "".join([HEAD, *(section(name) for name in sorted(ENVS))])
    return "".join(wrapped(line) + "\n" for line in text.splitlines())


def wrapped(line: str) -> str:
    """A line of at most 100 characters, or several."""
    return textwrap.fill(
        line, 100, subsequent_indent="  " * line.startswith("* "), break_long_words=False, break_on_hyphens=False
    )


def section(name: str) -> str:
    """What there is to say of a task. ValueError if sizes do not add up."""
    task, words = make_task(name), WORDS[name]
    model, sizes = task.make_model(), observed(name, task)
    seconds = task.episode_length * task.control_dt
    rows = [f"\n## {name}\n\n"]
    if name in OTHER_NAMES:
        rows.append("Also called " + ", ".join(f"`{other}`" for other in OTHER_NAMES[name]) + ".\n\n")
    for key, parts in words.observations.items():
        which = f" `{key}`" if len(sizes) > 1 or task.views else ""
        rows.append(f"* observes{which} {sizes[key]}: {', '.join(f'{part} ({size})' for part, size in parts)}\n")
    for key, view in task.views.items():
        rows.append(f"* sees `pixels/{key}` {view.height} x {view.width}, {view.kind}, by the camera `{view.camera}`\n")
    rows += [
        f"* acts on {model.nu}: {', '.join(actuators(model))}\n",
        f"* rewards {words.reward}{reward_range(task)}\n",
        f"* ends: {words.ends}\n"
        if task.terminated.__func__ is not Task.terminated
        else "* ends by its time limit only\n",
        f"* episode: {task.episode_length:,} steps of {task.control_dt:g} s, {seconds:g} s\n",
        f"* configurations: {settings(name)}\n",
    ]
    return "".join(rows)


def observed(name: str, task: Task) -> dict[str, int]:
    """Sizes of what it observes beside pictures. ValueError if those of the parts do not add up."""
    words = WORDS[name]
    sizes = {key: sum(size for _, size in parts) for key, parts in words.observations.items()}
    env = Env(
        task,
        1,
        episode_length=task.episode_length,
        device=torch.device("cpu"),
        generator=torch.Generator().manual_seed(0),
        engine="mujoco",
        vision=False,
    )
    if sizes != env.observation_sizes:
        raise ValueError(f"{name} observes {env.observation_sizes}, but the parts named here have {sizes}")
    return sizes


def actuators(model: mujoco.MjModel) -> list[str]:
    """Their names; of one without, that of what it moves."""
    return [f"`{model.actuator(i).name or model.joint(model.actuator_trnid[i, 0]).name}`" for i in range(model.nu)]


def reward_range(task: Task) -> str:
    """Of one step, where there are limits."""
    low, high = task.reward_range
    if high == float("inf"):
        return "; never negative" if low == 0 else ""
    return f"; {low:g} to {high:g} per step"


def settings(name: str) -> str:
    """Which there are, and how far that for the CPU was seen to come."""
    far = trained(name)
    return configurations(name).replace("gpu", f"`{name}` (GPU)").replace("cpu", f"`{name}_cpu`") + (
        f", trained to {far} env steps"
        if far
        else "; none for the CPU that learns ([what was tried](results/tried.md#other-tasks))"
    )


def main() -> None:
    """The program `python -m tools.task_table`."""
    PAGE.write_text(page())
    print(PAGE)


if __name__ == "__main__":
    main()
