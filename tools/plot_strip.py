"""Trained policies at work, side by side in one animation: docs/images/tasks.webp.

    python -m torch_ppo.train --env quadruped_joystick --compile --run-dir runs/quadruped_joystick
    python -m torch_ppo.train --env walker_walk --compile --run-dir runs/walker_walk
    python -m torch_ppo.train --env cheetah_run --compile --run-dir runs/cheetah_run
    python -m torch_ppo.train --env cartpole_swingup --compile --run-dir runs/cartpole_swingup
    python -m tools.plot_strip runs/quadruped_joystick runs/walker_walk runs/cheetah_run runs/cartpole_swingup

Every tile is one world in real time from the start of an episode; pictures are MuJoCo Warp's, ray-traced.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import mujoco
import numpy as np
import torch
import tyro
from PIL import Image, ImageDraw, ImageFont

from torch_ppo.errors import user_errors
from torch_ppo.play import PlayArguments, make_player
from torch_ppo.settings.command_line import Count, Duration, Least, Seed, read_command_line
from torch_ppo.showing.render import find_camera, make_renderer, model_of_pictures, show_state
from torch_ppo.showing.video import tiles, write_video

LABEL_SIZE = 13  # pixels


@dataclasses.dataclass(frozen=True)
class PlotStripArguments:
    """Play several runs side by side into an animation."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run folders."""
    output: Path = Path("docs/images/tasks.webp")
    """File to write: .webp, .gif, .png or .mp4."""
    seconds: Duration = 6.0
    """How long."""
    fps: Count = 20
    """Frames per second."""
    width: Count = 240
    """Width of a tile in pixels."""
    height: Count = 190
    """Height of a tile in pixels."""
    columns: Annotated[int | None, Least(1)] = None
    """Tiles in a row; by default all."""
    seed: Seed = 0
    """Seed of the start states."""


@torch.no_grad()
def film(run: Path, arguments: PlotStripArguments) -> Iterator[np.ndarray]:
    """Frames of one run's policy with the task's name on them, `fps` per second of the simulation."""
    played = make_player(PlayArguments(run=run, seed=arguments.seed))
    env = played.env
    model = model_of_pictures(env)
    data = mujoco.MjData(model)
    camera = find_camera(model, None)
    step_seconds, now = env.task.control_dt * env.action_repeat, 0.0
    with contextlib.closing(make_renderer("rays", model, camera, arguments.width, arguments.height)) as renderer:
        for frame in range(round(arguments.seconds * arguments.fps)):
            while now + step_seconds / 2 < frame / arguments.fps:
                env.step(played.act(env.observation))
                now += step_seconds
            show_state(env, model, data)
            yield labelled(renderer.draw(data), played.name)


def labelled(picture: np.ndarray, text: str) -> np.ndarray:
    """The picture with a text in its upper left corner."""
    image = Image.fromarray(picture)
    ImageDraw.Draw(image).text((6, 4), text, fill="black", font=ImageFont.load_default(LABEL_SIZE))
    return np.asarray(image)


@user_errors()
def main() -> None:
    """The program `python -m tools.plot_strip`."""
    arguments = read_command_line(PlotStripArguments, "tools.plot_strip")
    films = [film(run, arguments) for run in arguments.runs]
    frames = [tiles(pictures, arguments.columns or len(films)) for pictures in zip(*films, strict=True)]
    write_video(arguments.output, frames, 1 / arguments.fps)
    print(f"{arguments.output}: {len(frames)} frames, {arguments.output.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
