"""How many contacts and constraint rows the tasks need, for their nconmax and njmax.

    python -m tools.size_buffers --env walker_walk humanoid_run
    python -m tools.size_buffers --run runs/walker_walk-...          # with the trained policy; do this too
    python -m tools.size_buffers --env file.py:MyRobot --engine warp

MuJoCo Warp allocates both, and drops what does not fit. Its contacts are a pool of nconmax * num_envs that all worlds
share; its rows are njmax in each world. So the greatest number of rows in a world counts, and of the contacts the
greatest mean over the worlds; a recommended nconmax also holds the contacts of the worst world alone, for one env.
Counted after every timestep of the physics, with actions uniform in [-1, 1] or those of a run's policy, sampled.

Random actions do not lead everywhere: what has learned to jump meets other limits, what falls down more contacts. So
"wasteful" is said late, and a run should be measured too. `training/overflowed_envs` watches all of training.
"""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import mujoco
import torch
from torch import Tensor

from torch_ppo.envs import ENVS, make_task
from torch_ppo.errors import user_errors
from torch_ppo.running.checkpoint import agent_from_checkpoint, find_checkpoint, load_checkpoint
from torch_ppo.settings.command_line import Count, Least, Seed, read_command_line
from torch_ppo.simulation.env import Env
from torch_ppo.simulation.physics import Physics
from torch_ppo.simulation.task import Observation, Task

ROOMY = 512  # contacts and rows per world while Warp is counting
ROWS_PADDED_TO = 16  # rows that MuJoCo Warp stores at least, and in multiples of
WASTEFUL = 4.0  # times what would be recommended; not less, because random actions do not show everything


@dataclasses.dataclass(frozen=True)
class SizeArguments:
    """Measure contacts and constraint rows of tasks, and compare with what they declare."""

    env: tuple[str, ...] = ()
    """Tasks; all if neither these nor runs are given."""
    run: tuple[Path, ...] = ()
    """Run folders or checkpoints, to measure their policy in their task."""
    num_envs: Count = 32
    """Worlds."""
    steps: Count = 250
    """Policy steps in each."""
    margin: Annotated[float, Least(1)] = 1.25
    """Recommended is so many times what was seen."""
    seed: Seed = 0
    """Seed of start states and actions."""
    engine: Literal["mujoco", "warp"] = "mujoco"
    """Engine that counts. C MuJoCo is faster on the CPU; Warp's contacts include geoms that are only near each other."""


@dataclasses.dataclass
class Demand:
    """What was seen: contacts and rows in one world at most, contacts per world at most."""

    most_contacts: int = 0
    mean_contacts: float = 0.0
    most_rows: int = 0

    def add(self, contacts: Tensor, rows: Tensor) -> None:
        """Takes in the contacts and rows of each world at one time, `(num_envs,)`."""
        self.most_contacts = max(self.most_contacts, int(contacts.max()))
        self.mean_contacts = max(self.mean_contacts, contacts.double().mean().item())
        self.most_rows = max(self.most_rows, int(rows.max()))


def recommend(demand: Demand, margin: float, *, can_touch: bool) -> tuple[int, int]:
    """nconmax and njmax for a demand. Contacts that were not seen but are possible get a few."""
    nconmax = max(demand.most_contacts, math.ceil(margin * demand.mean_contacts))
    if can_touch:
        nconmax = max(nconmax, 4)
    return nconmax, math.ceil(margin * demand.most_rows)


def judge(declared: int | None, needed: float, recommended: int, grain: int) -> str:
    """What to say about a declared size; `grain` is the unit of allocation."""
    if declared is None:
        return "not declared"
    if declared < needed:
        return "TOO SMALL"
    if declared < recommended:
        return "tight"
    grains, enough = math.ceil(declared / grain), math.ceil(recommended / grain)
    return "wasteful" if grains > WASTEFUL * max(enough, 1) else "ok"


def can_touch(model: mujoco.MjModel) -> bool:
    """Whether the model allows any contact."""
    flags = mujoco.mjtDisableBit
    if model.opt.disableflags & (flags.mjDSBL_CONTACT | flags.mjDSBL_CONSTRAINT):
        return False
    return bool(model.npair or (model.geom_contype.any() and model.geom_conaffinity.any()))


def counter(physics: Physics, engine: str) -> Callable[[], tuple[Tensor, Tensor]]:
    """A function that gives the contacts and rows of each world now."""
    if engine == "warp":
        import warp as wp

        data = physics._data  # its counters are not part of the contract; they show the demand, not what fitted
        nacon, world, nefc = (wp.to_torch(array) for array in (data.nacon, data.contact.worldid, data.nefc))

        def count() -> tuple[Tensor, Tensor]:
            return torch.bincount(world[: int(nacon[0])], minlength=physics.num_envs), nefc

        return count
    model, data = physics.model, mujoco.MjData(physics.model)

    def count() -> tuple[Tensor, Tensor]:
        numbers = []
        for qpos in physics.qpos.double().numpy():
            data.qpos[:] = qpos
            mujoco.mj_fwdPosition(model, data)
            numbers.append((data.ncon, data.nefc))
        return torch.tensor(numbers).unbind(1)

    return count


@torch.no_grad()
def measure(env: Env, act: Callable[[Observation], Tensor], steps: int, engine: str) -> Demand:
    """Demand of `steps` policy steps, counted after each timestep of the physics."""
    demand, count, step = Demand(), counter(env.physics, engine), env.physics.step

    def step_and_count(num_substeps: int) -> None:
        for _ in range(num_substeps):
            step(1)
            demand.add(*count())

    env.physics.step = step_and_count
    if engine == "mujoco":  # Warp's counters are those of its last step
        demand.add(*count())
    for _ in range(steps):
        env.step(act(env.observation))
    return demand


def make_env(task: Task, arguments: SizeArguments, generator: torch.Generator, **rules: object) -> Env:
    """Worlds of a task with room for all that happens."""
    task.nconmax = task.njmax = ROOMY
    return Env(
        task,
        arguments.num_envs,
        device=torch.device("cpu"),
        generator=generator,
        engine=arguments.engine,
        **{"episode_length": task.episode_length, **rules},
    )


def measure_random(name: str, arguments: SizeArguments) -> tuple[Demand, mujoco.MjModel]:
    """Demand of random actions, and the model."""
    generator = torch.Generator().manual_seed(arguments.seed)
    env = make_env(make_task(name), arguments, generator)

    def act(observation: Observation) -> Tensor:
        return 2 * torch.rand(env.num_envs, env.action_dim, generator=generator) - 1

    return measure(env, act, arguments.steps, arguments.engine), env.physics.model


def measure_run(checkpoint: dict[str, object], arguments: SizeArguments) -> tuple[Demand, mujoco.MjModel]:
    """Demand of a run's policy, sampled as in training, and the model."""
    generator = torch.Generator().manual_seed(arguments.seed)
    config = checkpoint["config"]
    names = ("episode_length", "action_repeat", "history", "history_obs_keys", "action_delay")
    rules = {name: config[name] for name in names if name in config}
    env = make_env(make_task(config["env"]), arguments, generator, **rules)
    agent = agent_from_checkpoint(checkpoint)

    def act(observation: Observation) -> Tensor:
        return agent.sample(observation, torch.randn(env.num_envs, env.action_dim, generator=generator))

    return measure(env, act, arguments.steps, arguments.engine), env.physics.model


def row(name: str, policy: str, measured: tuple[Demand, mujoco.MjModel], margin: float) -> tuple[str, ...]:
    """The columns of a measurement."""
    demand, model = measured
    task = make_task(name)
    nconmax, njmax = recommend(demand, margin, can_touch=can_touch(model))
    contacts = judge(task.nconmax, demand.mean_contacts, nconmax, 1)
    rows = judge(task.njmax, demand.most_rows, njmax, ROWS_PADDED_TO)
    return (
        *(
            Path(name).name,
            policy,
            f"{demand.most_contacts}",
            f"{demand.mean_contacts:.1f}",
            f"{nconmax}",
            f"{task.nconmax}",
        ),
        *(contacts, f"{demand.most_rows}", f"{njmax}", f"{task.njmax}", rows),
    )


HEADER = (
    *("task", "actions", "contacts", "mean", "nconmax", "declared", ""),
    *("rows", "njmax", "declared", ""),
)


@user_errors()
def main() -> None:
    """The program `python -m tools.size_buffers`."""
    arguments = read_command_line(SizeArguments, "tools.size_buffers")
    names = arguments.env or (() if arguments.run else tuple(sorted(ENVS)))
    table = [HEADER, *(row(name, "random", measure_random(name, arguments), arguments.margin) for name in names)]
    for run in arguments.run:
        checkpoint = load_checkpoint(find_checkpoint(run))
        name = checkpoint["config"]["env"]
        table.append(row(name, "random", measure_random(name, arguments), arguments.margin))
        table.append(row(name, run.name, measure_run(checkpoint, arguments), arguments.margin))
    widths = [max(len(cells[i]) for cells in table) for i in range(len(HEADER))]
    for cells in table:
        print("  ".join(text.ljust(width) for text, width in zip(cells, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
