"""Pictures of what happened, for a notebook or a file: the library call `torch_ppo.render(...)`."""

import base64
import contextlib
import tempfile
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Literal

import mujoco
import numpy as np

from torch_ppo.episodes import Rollout, rollout
from torch_ppo.errors import ConfigError
from torch_ppo.running.acting import RunOrPolicy
from torch_ppo.showing.render import find_camera, make_renderer, picture_model
from torch_ppo.showing.video import check_video, tiles, write_video
from torch_ppo.simulation.env import Env
from torch_ppo.simulation.task import Task

MOST_WORLDS = 36  # side by side


@dataclass(frozen=True, repr=False, eq=False)
class Frames:
    """Pictures in a row; as the last line of a notebook's cell they move. `numpy.asarray` gives the array.

    pictures:           uint8 (n, height, width, 3)
    seconds_per_frame:  of the simulation, so that it plays in real time
    note:               what is not seen in them, in a line; empty if nothing is missing that matters
    """

    pictures: np.ndarray
    seconds_per_frame: float
    note: str = ""

    def save(self, path: str | PathLike[str]) -> Path:
        """Writes a .gif, .webp, .png (animated) or, with the extra video, .mp4; UserError where that cannot be."""
        path = Path(path)
        check_video(path)
        write_video(path, list(self.pictures), self.seconds_per_frame)
        return path

    @cached_property
    def _webp(self) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            return self.save(Path(folder) / "frames.webp").read_bytes()

    def _repr_html_(self) -> str:
        data = base64.b64encode(self._webp).decode()
        return f'<img src="data:image/webp;base64,{data}" alt="{self!r}">'

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.pictures, dtype=dtype, copy=copy)

    def __len__(self) -> int:
        return len(self.pictures)

    def __repr__(self) -> str:
        n, height, width, _ = self.pictures.shape
        note = f"; {self.note}" if self.note else ""
        return f"{n} frames of {width}x{height}, {n * self.seconds_per_frame:.1f} s{note}"


def render(
    run_or_rollout: RunOrPolicy | Rollout,
    env: Env | Task | str | None = None,
    *,
    steps: int | None = None,
    seed: int = 0,
    world: int | None = None,
    width: int = 320,
    height: int = 240,
    camera: str | None = None,
    renderer: Literal["rays", "gl"] = "rays",
    frames_per_second: float = 25.0,
) -> Frames:
    """Draws a rollout, or what a policy does.

    run_or_rollout:     a `Rollout`, or all that `rollout` takes, to be played with `env`, `steps` and `seed`
    env, steps, seed:   see `rollout`; only for what is to be played
    world:              which env of the rollout is drawn; by default all, side by side
    width, height:      of a world's picture, in pixels
    camera:             name of a camera of the model, or track for one that follows the robot; by default the first,
                        unless it turns
    renderer:           rays, which needs no OpenGL, or gl, which draws tendons too
    frames_per_second:  about; frames are whole steps apart

    Raises UserError for what cannot be drawn. The first picture of a model takes seconds, in which rays compiles.
    """
    for name, value in (("width", width), ("height", height)):
        if not 16 <= value <= 4096:
            raise ConfigError(f"{name} is {value}, but must be from 16 to 4096")
    if not isinstance(run_or_rollout, Rollout):
        shown = rollout(run_or_rollout, env, steps=steps, seed=seed)
    elif (env, steps, seed) == (None, None, 0):
        shown = run_or_rollout
    else:
        raise ConfigError("env, steps and seed are for what is to be played, and a Rollout has been; leave them out")
    if not frames_per_second > 0:
        raise ConfigError(f"frames_per_second is {frames_per_second}, but must be greater than 0; 25 would work")
    worlds = _worlds(shown, world)
    stride = max(1, round(1 / (frames_per_second * shown.seconds_per_step)))
    markers = shown.markers
    model = picture_model(shown.task, () if markers is None else markers[0, 0, :, 3].tolist())
    data = mujoco.MjData(model)
    drawing = make_renderer(renderer, model, find_camera(model, camera), width, height)

    def draw(row: int, world: int) -> np.ndarray:
        _put(shown, row, world, model, data)
        return drawing.draw(data)

    with contextlib.closing(drawing):
        pictures = [tiles([draw(row, world) for world in worlds]) for row in range(0, len(shown.qpos), stride)]
    return Frames(np.stack(pictures), stride * shown.seconds_per_step, drawing.note)


def _worlds(shown: Rollout, world: int | None) -> list[int]:
    """Which envs of a rollout are drawn; ConfigError if they are not there, or too many."""
    there = shown.qpos.shape[1]
    if world is None:
        if there > MOST_WORLDS:
            raise ConfigError(
                f"the rollout has {there} worlds, of which {MOST_WORLDS} can be drawn; world=0 would work"
            )
        return [*range(there)]
    if not 0 <= world < there:
        raise ConfigError(f"world is {world}, but the rollout has {there}, from 0 to {there - 1}")
    return [world]


def _put(shown: Rollout, row: int, world: int, model: mujoco.MjModel, data: mujoco.MjData) -> None:
    """Puts a state of a rollout into `data`, and all positions that follow from it."""
    for name in ("qpos", "qvel"):
        getattr(data, name)[:] = getattr(shown, name)[row, world].numpy()
    data.time = shown.time[row, world].item()
    mocap = shown.mocap_pos[row, world].numpy()
    data.mocap_pos[: len(mocap)], data.mocap_quat[: len(mocap)] = mocap, shown.mocap_quat[row, world].numpy()
    if shown.markers is not None:
        balls = shown.markers[row, world, :, :3].numpy()
        if model.nmocap >= len(balls):
            data.mocap_pos[model.nmocap - len(balls) :] = balls
    mujoco.mj_fwdPosition(model, data)
