"""How fast pictures are drawn, in turns: MuJoCo Warp's rays, our OpenGL, and `mujoco.Renderer`.

    MUJOCO_GL=egl python -m tools.bench_views
    MUJOCO_GL=egl python -m tools.bench_views --task reacher_vision --size 24 --num-envs 256
    python -m tools.bench_views --device cuda --num-envs 1024        # rays alone

A picture is of one world. Each round asks every renderer for all worlds; what is told is the median of the rounds, by the
wall and by the process's seconds of all cores. `mujoco.Renderer` is asked twice: as it comes, with shadows, reflections and
samples, and with what the view has.
"""

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable

import mujoco
import torch

from torch_ppo.envs import make_task
from torch_ppo.errors import UserError, user_errors
from torch_ppo.settings.command_line import Count, read_command_line
from torch_ppo.simulation.env import Env
from torch_ppo.simulation.task import Task
from torch_ppo.simulation.views import View


@dataclasses.dataclass(frozen=True)
class BenchArguments:
    """Compare renderers."""

    task: str = "cartpole_balance_vision"
    """A task with views, of which the first is drawn."""
    size: Count = 64
    """Height and width."""
    num_envs: Count = 64
    """Worlds."""
    rounds: Count = 10
    """Of which the median is told."""
    device: str = "cpu"
    """Elsewhere than on the CPU only rays are drawn."""


def make_env(task: Task, engine: str, arguments: BenchArguments) -> Env:
    """Worlds at their starts."""
    device = torch.device(arguments.device)
    return Env(
        task,
        arguments.num_envs,
        episode_length=task.episode_length,
        device=device,
        generator=torch.Generator(device).manual_seed(0),
        engine=engine,
        view_size=arguments.size,
    )


def by_mujoco_renderer(env: Env, view: View, stack: contextlib.ExitStack, *, plain: bool) -> Callable[[], None]:
    """Draws all worlds with `mujoco.Renderer`, which `stack` closes; `plain`: without what the view has not."""
    model = env.task.make_model()
    if plain:
        model.vis.quality.offsamples = 0
        model.vis.global_.offwidth = model.vis.global_.offheight = view.width
    data = mujoco.MjData(model)
    renderer = stack.enter_context(mujoco.Renderer(model, view.height, view.width))
    options = mujoco.MjvOption()
    if plain:
        options.flags[mujoco.mjtVisFlag.mjVIS_TEXTURE] = view.textures

    def draw() -> None:
        for qpos in env.physics.qpos.numpy():
            data.qpos[:] = qpos
            mujoco.mj_kinematics(model, data)
            mujoco.mj_comPos(model, data)
            mujoco.mj_camlight(model, data)
            renderer.update_scene(data, view.camera, options)
            if plain:
                for flag in ("SHADOW", "REFLECTION", "SKYBOX", "HAZE"):
                    renderer.scene.flags[getattr(mujoco.mjtRndFlag, f"mjRND_{flag}")] = 0
            renderer.render()

    return draw


def renderers(arguments: BenchArguments, stack: contextlib.ExitStack) -> dict[str, Callable[[], None]]:
    """By name; each draws all worlds."""
    task = make_task(arguments.task)
    if not task.views:
        raise UserError(f"{arguments.task} has no views; those of cartpole_balance_vision can be drawn")
    view = dataclasses.replace(next(iter(task.views.values())), height=arguments.size, width=arguments.size)
    found = {"rays": make_env(task, "warp", arguments).physics.render}
    if arguments.device != "cpu":
        return found
    try:
        env = make_env(make_task(arguments.task), "mujoco", arguments)
    except UserError as error:
        print(f"without OpenGL: {error}")
        return found
    return {
        **found,
        "our OpenGL": env.physics.render,
        "mujoco.Renderer, same view": by_mujoco_renderer(env, view, stack, plain=True),
        "mujoco.Renderer": by_mujoco_renderer(env, view, stack, plain=False),
    }


@user_errors()
def main() -> None:
    """The program `python -m tools.bench_views`."""
    arguments = read_command_line(BenchArguments, "tools.bench_views")
    with contextlib.ExitStack() as stack:
        compare(renderers(arguments, stack), arguments)


def compare(drawing: dict[str, Callable[[], None]], arguments: BenchArguments) -> None:
    """Times them in turns, and prints a line on each."""
    walls, cores = ({name: [] for name in drawing} for _ in range(2))
    for draw in drawing.values():
        draw()
    for _ in range(arguments.rounds):
        for name, draw in drawing.items():
            wall, core = time.perf_counter(), time.process_time()
            draw()
            if arguments.device != "cpu":
                torch.cuda.synchronize()
            walls[name].append(time.perf_counter() - wall)
            cores[name].append(time.process_time() - core)
    n = arguments.num_envs
    print(f"{arguments.task}, {n} worlds of {arguments.size} x {arguments.size}, {arguments.device}")
    for name in drawing:
        rates = n / statistics.median(walls[name]), n / statistics.median(cores[name])
        shares = sorted(own / rays for own, rays in zip(walls[name], walls["rays"], strict=True))
        print(
            f"{name:>27}  {rates[0]:>9,.0f} pictures/s  {rates[1]:>9,.0f} per core and second  "
            f"{statistics.median(shares):.2f} of the time of rays"
        )


if __name__ == "__main__":
    main()
