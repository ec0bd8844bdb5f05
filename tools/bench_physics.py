"""What C MuJoCo's steps cost through `MujocoPhysics`, beside `mujoco.rollout` called for nothing else, and in an `Env`.

    python -m tools.bench_physics --env cartpole humanoid_run --json physics.json

Three ways of playing the same random actions, one per control step, from the same states, in turns:

    bare      `Rollout.rollout` between float64 arrays that stay: controls in, last state out and in again
    physics   `MujocoPhysics.step`, with controls and states in float32 tensors
    env       `Env.step` around it: reward, rules of the episode, restart, observation

All in as many threads as `MujocoPhysics` takes by itself. Ratios are medians over neighbours, because a shared machine's speed
changes; those of the processor time of all threads together also leave out what other programs took.
"""

import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import mujoco
import numpy as np
import torch
from mujoco import rollout

from tools.bench import machine
from torch_ppo.envs import ENVS, make_task
from torch_ppo.errors import user_errors
from torch_ppo.running.accelerate import keep_freed_memory
from torch_ppo.settings.command_line import Count, Duration, read_command_line
from torch_ppo.simulation.env import Env
from torch_ppo.simulation.mujoco_engine import MujocoPhysics

NUM_ACTIONS = 16  # drawn before, and played again and again
SETTLE_STEPS = 25  # control steps before the first window, in which most bodies fall


@dataclasses.dataclass(frozen=True)
class BenchPhysicsArguments:
    """Compare physics steps with those of mujoco.rollout alone."""

    env: tuple[str, ...] = tuple(ENVS)
    """Tasks, by name; all by default."""
    num_envs: Count = 256
    """Worlds of each."""
    rounds: Count = 9
    """Windows of each way, in turns; one of each goes before and is not counted."""
    seconds: Duration = 0.2
    """About how long a window is."""
    json: Path | None = None
    """File for the numbers."""


class BareRollout:
    """`mujoco.rollout` with the models, the number of threads and the state of `physics`."""

    def __init__(self, physics: MujocoPhysics, num_threads: int, num_substeps: int) -> None:
        model, n = physics.model, physics.num_envs
        self.num_substeps = num_substeps
        self.models = [model] * n
        self.datas = [mujoco.MjData(model) for _ in range(num_threads)]
        self.pool = rollout.Rollout(nthread=num_threads if num_threads > 1 else 0)
        num_state = mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS)
        self.state = np.zeros((n, num_state))
        self.ctrl = np.zeros((n, num_substeps, model.nu))
        self.states = np.zeros((n, num_substeps, num_state))
        self.sensors = np.zeros((n, num_substeps, model.nsensordata))

    def step(self, ctrl: np.ndarray) -> None:
        """A control step with `ctrl` `(num_envs, nu)`."""
        self.ctrl[:] = ctrl[:, None]
        self.pool.rollout(
            self.models,
            self.datas,
            self.state,
            self.ctrl,
            nstep=self.num_substeps,
            state=self.states,
            sensordata=self.sensors,
            skip_checks=True,
        )
        self.state[:] = self.states[:, -1]


def window(step: Callable[[int], None], num_steps: int) -> tuple[float, float]:
    """Seconds, and seconds of processor time, per call of `step(i)`."""
    started, cpu_started = time.perf_counter(), time.process_time()
    for i in range(num_steps):
        step(i)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    return seconds / num_steps, cpu_seconds / num_steps


def ways_of_stepping(env: Env, bare: BareRollout) -> dict[str, Callable[[int], None]]:
    """Functions that take control step `i`."""
    physics = env.physics
    generator = torch.Generator().manual_seed(0)
    actions, ctrls = [], []
    for _ in range(NUM_ACTIONS):
        actions.append(2 * torch.rand(env.num_envs, env.action_dim, generator=generator) - 1)
        env.task.apply(physics, env.memory, actions[-1])
        ctrls.append(physics.ctrl.clone())
    arrays = [ctrl.double().numpy() for ctrl in ctrls]

    def physics_step(i: int) -> None:
        physics.ctrl.copy_(ctrls[i % NUM_ACTIONS])
        physics.step(env.num_substeps)

    return {
        "bare": lambda i: bare.step(arrays[i % NUM_ACTIONS]),
        "physics": physics_step,
        "env": lambda i: env.step(actions[i % NUM_ACTIONS]),
    }


def measure_task(name: str, arguments: BenchPhysicsArguments) -> dict[str, object]:
    """Control steps per second of a task in the three ways, and their ratios."""
    generator, device = torch.Generator().manual_seed(0), torch.device("cpu")
    env = Env(make_task(name), arguments.num_envs, episode_length=10**6, device=device, generator=generator)
    physics = env.physics
    physics.step(env.num_substeps)  # takes its threads
    bare = BareRollout(physics, physics.num_threads, env.num_substeps)
    step = ways_of_stepping(env, bare)
    num_steps = max(5, round(arguments.seconds / window(step["env"], SETTLE_STEPS)[0]))
    windows = {way: [] for way in step}
    for number in range(arguments.rounds + 1):
        start = {key: tensor.clone() for key, tensor in physics.state().items()}
        bare.state[:] = start["state"].double().numpy()
        for way in list(step)[:: 1 if number % 2 else -1]:
            for key, tensor in physics.state().items():
                tensor.copy_(start[key])
            windows[way].append(window(step[way], num_steps))
    seconds, cpu_seconds = ({way: [x[kind] for x in values[1:]] for way, values in windows.items()} for kind in (0, 1))
    return {
        "num_envs": env.num_envs,
        "threads": physics.num_threads,
        "substeps": env.num_substeps,
        "env_steps_per_second": {way: spread([env.num_envs / x for x in values]) for way, values in seconds.items()},
        "physics_of_bare": ratio(seconds["bare"], seconds["physics"]),
        "physics_of_bare_cpu": ratio(cpu_seconds["bare"], cpu_seconds["physics"]),
        "env_of_bare": ratio(seconds["bare"], seconds["env"]),
        "broken_envs": int(env.broken.total),
    }


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratio(bare: list[float], ours: list[float]) -> dict[str, float]:
    """Speed of ours in that of its neighbour."""
    return spread([a / b for a, b in zip(bare, ours, strict=True)])


def line(name: str, result: dict[str, object]) -> str:
    """A row of a Markdown table."""
    speed = [f"{result['env_steps_per_second'][way]['median']:,.0f}" for way in ("bare", "physics", "env")]
    ratios = [result[key] for key in ("physics_of_bare", "physics_of_bare_cpu", "env_of_bare")]
    share = [f"{r['median']:.2f} ({r['min']:.2f} .. {r['max']:.2f})" for r in ratios]
    return "| " + " | ".join([f"`{name}`", str(result["threads"]), str(result["substeps"]), *speed, *share]) + " |"


@user_errors()
def main() -> None:
    """The program `python -m tools.bench_physics`."""
    arguments = read_command_line(BenchPhysicsArguments, "tools.bench_physics")
    keep_freed_memory()
    torch.set_num_threads(1)
    results = {"machine": machine(), "results": {}}
    print(f"{arguments.num_envs} worlds, env steps per second; ratios: median (lowest .. highest)")
    print(
        "| task | threads | substeps | bare | physics | env | physics / bare | of processor time | env / bare |\n|"
        + "---|" * 9
    )
    for name in arguments.env:
        results["results"][name] = measure_task(name, arguments)
        print(line(name, results["results"][name]), flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
