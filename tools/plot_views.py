"""What a person sees first: the default view of every task, or of model files, in one picture.

    python -m tools.plot_views --output views.png
    python -m tools.plot_views cartpole some_robot/scene.xml --camera track --output views.png

Tasks are shown at a start state, models at their first keyframe or as they are made.
"""

import contextlib
import dataclasses
from pathlib import Path
from typing import Annotated

import mujoco
import numpy as np
import torch
import tyro
from PIL import Image, ImageDraw

from torch_ppo.envs import ENVS, make_task
from torch_ppo.errors import user_errors
from torch_ppo.settings.command_line import Count, read_command_line
from torch_ppo.showing.render import find_camera, make_renderer, model_of_pictures, picture_model, show_state
from torch_ppo.simulation.env import Env
from torch_ppo.simulation.task import Task

COLUMNS = 6


@dataclasses.dataclass(frozen=True)
class PlotViewsArguments:
    """Draw the default view of tasks and models."""

    shown: Annotated[tuple[str, ...], tyro.conf.Positional] = tuple(ENVS)
    """Names of tasks, or MJCF files."""
    output: Path = Path("views.png")
    """Picture to write."""
    camera: str | None = None
    """Camera of all; by default what torch_ppo.play would take."""
    width: Count = 320
    """Width of a view in pixels."""
    height: Count = 240
    """Height of a view in pixels."""


class Still(Task):
    """A model file as a task, so that it can be looked at."""

    def __init__(self, mjcf: str) -> None:
        self.mjcf = mjcf


def scene(name: str) -> tuple[mujoco.MjModel, mujoco.MjData]:
    """The model to draw of a task or model file, and a state of it."""
    if name.endswith(".xml"):
        model = picture_model(Still(name))
        data = mujoco.MjData(model)
        if model.nkey:
            mujoco.mj_resetDataKeyframe(model, data, 0)
        mujoco.mj_forward(model, data)
        return model, data
    task = make_task(name)
    generator = torch.Generator().manual_seed(0)
    env = Env(task, 1, episode_length=2, device=torch.device("cpu"), generator=generator)
    model = model_of_pictures(env)
    data = mujoco.MjData(model)
    show_state(env, model, data)
    return model, data


def view(name: str, arguments: PlotViewsArguments) -> Image.Image:
    """One view, with its name and camera on it."""
    model, data = scene(name)
    camera = find_camera(model, arguments.camera)
    with contextlib.closing(make_renderer("rays", model, camera, arguments.width, arguments.height)) as renderer:
        picture = Image.fromarray(renderer.draw(data))
    label = f"{Path(name).stem}: {model.camera(camera).name}"
    print(label, flush=True)
    ImageDraw.Draw(picture).text((4, 2), label, fill="white", stroke_fill="black", stroke_width=1)
    return picture


@user_errors()
def main() -> None:
    """The program `python -m tools.plot_views`."""
    arguments = read_command_line(PlotViewsArguments, "tools.plot_views")
    views = [np.asarray(view(name, arguments)) for name in arguments.shown]
    columns = min(COLUMNS, len(views))
    views += [np.zeros_like(views[0])] * (-len(views) % columns)
    rows = [np.concatenate(views[i : i + columns], axis=1) for i in range(0, len(views), columns)]
    Image.fromarray(np.concatenate(rows)).save(arguments.output)


if __name__ == "__main__":
    main()
