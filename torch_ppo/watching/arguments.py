"""What `torch_ppo.play` is asked for."""

import dataclasses
import math
from pathlib import Path
from typing import Annotated, Literal

import tyro

from torch_ppo.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class PlayArguments:
    """Show a policy in its task, in a window or as a video file."""

    run: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[RUN]")] = None
    """Run folder, checkpoint, exported policy, or a task that a policy comes along for; none with --policy."""
    env: str | None = None
    """Task; by default the run's."""
    trust: bool = False
    """Run the code of a task of its own that the run's folder names, without --env."""
    policy: Literal["random", "zero"] | None = None
    """Actions where there is no run: uniform in [-1, 1], or 0."""
    checkpoint: str | None = None
    """Which checkpoint of a run folder: best, last, or the env steps of one; by default best, with --follow last."""
    follow: bool = False
    """Go on with each new checkpoint while a run is being trained; a video file is written anew for each."""
    web: bool = False
    """Show it in a browser, with controls: needs the extra web."""
    host: str = "127.0.0.1"
    """With --web: the address to serve on; 0.0.0.0 lets other machines in."""
    port: int = 8080
    """With --web: the port to serve on, or the next that is free."""
    stochastic: bool = False
    """Sample actions, as in training, instead of taking the most likely ones."""
    steps: int | None = None
    """Policy steps to play; by default until the first episode ends, in a window until it is closed."""
    seconds: float | None = None
    """The same in seconds of the simulation."""
    seed: int = 0
    """Seed of start states and of random or sampled actions."""
    physics: Literal["auto", "warp", "mujoco"] = "auto"
    """Physics engine, on the CPU; auto takes C MuJoCo, or MuJoCo Warp for a policy that sees pictures."""
    video: Path | None = None
    """File to write: .gif, .webp, .png, or .mp4 with the extra video. Where there is no display ENV.mp4, or ENV.gif."""
    broken: Path | None = None
    """Instead of a policy: the last steps of a world that broke, from a run's folder broken."""
    view: bool = False
    """Show beside each world of a video the pictures that the policy sees."""
    worlds: int = 1
    """Episodes to play at once, side by side in a video or browser."""
    width: int = 320
    """Width of a world's picture in pixels."""
    height: int = 240
    """Height of a world's picture in pixels."""
    camera: str | None = None
    """Camera of the model, or track for one that follows the robot; by default the model's first, unless it turns."""
    renderer: Literal["rays", "gl"] = "rays"
    """Of a video: rays runs anywhere; gl needs OpenGL, and draws tendons and skins too."""


def num_steps(arguments: PlayArguments, seconds_per_step: float) -> int | None:
    """Policy steps to play; None if nothing says so."""
    if arguments.steps is not None and arguments.seconds is not None:
        raise ConfigError("--steps and --seconds say the same; give one of them")
    if arguments.seconds is not None and not math.isfinite(arguments.seconds):
        raise ConfigError(f"--seconds is {arguments.seconds}, but must be a finite number; --seconds 5 would work")
    steps = arguments.steps
    if arguments.seconds is not None:
        steps = round(arguments.seconds / seconds_per_step)
    if steps is not None and steps < 1:
        raise ConfigError(f"nothing would be played in {steps} steps; --steps 100 would work")
    return steps
