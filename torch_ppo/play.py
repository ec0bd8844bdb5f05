"""Play: a policy in its task, in a window or as a video.

    python -m torch_ppo.play runs/cartpole-...
    python -m torch_ppo.play policy.pt --env cartpole --video cartpole.gif
    python -m torch_ppo.play --env walker_walk --policy random

Where there is a display, MuJoCo's viewer shows one world in real time until it is closed. Where there is none, or with
`--video` or several `--worlds`, a file is written; its pictures need no OpenGL.
"""

import contextlib
import dataclasses
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal

import mujoco
import numpy as np
import torch
import tyro
from torch import Tensor

from torch_ppo.command import called, print_notes, reader_may_leave
from torch_ppo.environments.sources import seen_and_done
from torch_ppo.envs import ENVS, canonical_name, make_task
from torch_ppo.errors import ConfigError, UserError, user_errors
from torch_ppo.exporting.reading import format_of
from torch_ppo.running.broken_cases import load_case
from torch_ppo.running.environment import check_trusted, locate_task, what_changed
from torch_ppo.running.fit import actions_in_words, task_misfit
from torch_ppo.running.saved_policy import SavedPolicy, load_policy
from torch_ppo.running.spellings import rename
from torch_ppo.settings.config import Config
from torch_ppo.showing import broken_world
from torch_ppo.showing.render import find_camera, make_renderer, model_of_pictures, show_state
from torch_ppo.showing.video import check_video, default_video, tiles, write_video
from torch_ppo.simulation.env import Env
from torch_ppo.simulation.opengl import has_display
from torch_ppo.simulation.task import Observation

BROKEN_SECONDS_PER_FRAME = 0.2  # of a broken world, however long a step is
FRAMES_PER_SECOND = 25  # of a video, about: frames are whole steps apart
MOST_WORLDS = 36

Act = Callable[[Observation], Tensor]


class PlayError(UserError):
    """A policy that cannot be played."""


@dataclasses.dataclass(frozen=True)
class PlayArguments:
    """Show a policy in its task, in a window or as a video file."""

    run: Annotated[Path | None, tyro.conf.Positional] = None
    """Run folder, checkpoint, or exported policy; none with --policy."""
    env: str | None = None
    """Task; by default the run's."""
    trust: bool = False
    """Run the code of a task of its own that the run's folder names, without --env."""
    policy: Literal["random", "zero"] | None = None
    """Actions where there is no run: uniform in [-1, 1], or 0."""
    checkpoint: str = "best"
    """Which checkpoint of a run folder: best or last."""
    stochastic: bool = False
    """Sample actions, as in training, instead of taking the most likely ones."""
    steps: int | None = None
    """Policy steps to play; by default until the first episode ends, in a window until it is closed."""
    seconds: float | None = None
    """The same in seconds of the simulation."""
    seed: int = 0
    """Seed of start states and of random or sampled actions."""
    physics: Literal["auto", "warp", "mujoco"] = "auto"
    """Physics engine, on the CPU; auto takes C MuJoCo."""
    video: Path | None = None
    """File to write: .gif, .webp, .png, or .mp4 with the extra video. Where there is no display ENV.mp4, or ENV.gif."""
    broken: Path | None = None
    """Instead of a policy: the last steps of a world that broke, from a run's folder broken."""
    worlds: int = 1
    """Episodes to play at once, side by side in a video."""
    width: int = 320
    """Width of a world's picture in pixels."""
    height: int = 240
    """Height of a world's picture in pixels."""
    camera: str | None = None
    """Camera of the model, or track for one that follows the robot; by default the model's first, unless it turns."""
    renderer: Literal["rays", "gl"] = "rays"
    """Of a video: rays runs anywhere; gl needs OpenGL, and draws tendons and skins too."""


@dataclasses.dataclass(frozen=True)
class Played:
    """What is played: a task, what acts in it, and the settings of a run that matter here."""

    name: str
    act: Act
    env: Env


def make_player(arguments: PlayArguments) -> Played:
    """The task and policy that the arguments name; UserError where they do not fit."""
    if not 0 <= arguments.seed < 2**63:
        raise PlayError(f"--seed is {arguments.seed}, but must be 0 or greater, and less than 2**63")
    generator = torch.Generator().manual_seed(arguments.seed)
    if arguments.run is not None and canonical_name(str(arguments.run)) in ENVS and not arguments.run.exists():
        raise PlayError(f"{arguments.run} is a task; --env {arguments.run} --policy random would play it")
    if (arguments.run is None) == (arguments.policy is None):
        raise PlayError("say what to play: a run folder, checkpoint or policy.pt, or --env cartpole --policy random")
    if arguments.stochastic and (arguments.run is None or format_of(arguments.run) is not None):
        raise PlayError(
            "--stochastic needs a run folder or a checkpoint; an exported policy has the most likely actions"
        )
    policy = config = None
    if arguments.run is not None:
        policy = load_policy(arguments.run, checkpoint=arguments.checkpoint, deterministic=not arguments.stochastic)
        config = policy.config
    name = canonical_name(arguments.env or (config.env if config else ""))
    if not name:
        raise PlayError("the task is not known; --env cartpole, say, would name it")
    place, notes = name, []
    if arguments.env is None:
        place, notes = locate_task(policy.run_folder, name, trusted=arguments.trust)
    env = make_env(place, config, generator, arguments.physics, arguments.worlds)
    if arguments.env is None:
        notes += what_changed(policy.run_folder, env.task)
    for note in notes:
        print(note)
    if policy is None:
        return Played(name, simple_policy(arguments.policy, env.action_dim, generator), env)
    check_fit(policy, name, env)
    return Played(name, lambda observation: policy(observation, generator), env)


def check_fit(policy: SavedPolicy, name: str, env: Env) -> None:
    """PlayError if the policy was not made for observations and actions as in `env`."""
    if policy.observation_sizes is not None:
        saved, sizes = (policy.observation_sizes, policy.action_dim), env.observation_sizes
        if policy.contract is not None and policy.pixel_keys:  # a file knows nothing of what the value network saw
            sizes = {key: sizes[key] for key in policy.keys_in(env.observation)}
        misfit = task_misfit(saved, (sizes, env.action_dim), Path(name).name)
        if misfit:
            raise PlayError(f"{policy.path} does not fit: {'; '.join(misfit)}")
        return
    try:  # an exported policy does not say; it shows
        shape = tuple(policy(env.observation).shape)
    except RuntimeError:
        shape = None
    if shape != (env.num_envs, env.action_dim):
        raise PlayError(
            f"{policy.path} does not fit: {Path(name).name} has an observation of "
            f"{env.observation_sizes[policy.key_in(env.observation)]} and takes {actions_in_words(env.action_dim)}"
        )


def make_env(name: str, config: Config | None, generator: torch.Generator, engine: str, worlds: int = 1) -> Env:
    """Envs of a task, with the episodes of a run's configuration if there is one."""
    if not 1 <= worlds <= MOST_WORLDS:
        raise ConfigError(f"--worlds is {worlds}, but must be from 1 to {MOST_WORLDS}")
    task = make_task(name)
    return Env(
        task,
        worlds,
        episode_length=(config.episode_length if config else None) or task.episode_length,
        device=torch.device("cpu"),
        generator=generator,
        action_repeat=config.action_repeat if config else 1,
        auto_reset="random" if worlds > 1 else "cached",
        engine=engine,
        randomize_episode=config is not None and config.randomize and config.randomize_eval,
        **(seen_and_done(config) if config else {}),
    )


def simple_policy(kind: str, action_dim: int, generator: torch.Generator) -> Act:
    """Actions `(worlds, action_dim)` that are uniform in [-1, 1] ("random") or 0 ("zero")."""

    def act(observation: Observation) -> Tensor:
        worlds = len(next(iter(observation.values())))
        if kind == "zero":
            return torch.zeros(worlds, action_dim)
        return 2 * torch.rand(worlds, action_dim, generator=generator) - 1

    return act


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


@torch.no_grad()
def play(played: Played, steps: int | None) -> Iterator[list[bool]]:
    """Plays, and prints the return and length of each episode that ends; yields once per step, where one ended.

    `steps` None is without end.
    """
    env, taken = played.env, 0
    while steps is None or taken < steps:
        env.step(played.act(env.observation))
        taken += 1
        ended = env.done.bool().tolist()
        for world in itertools.compress(range(env.num_envs), ended):
            print_episode(env, world, why_ended(env, world))
        if all(ended):
            env.reset()  # to other starts; by itself it would go back to those that there were
        yield ended
    for world in range(env.num_envs):
        if not ended[world]:
            print_episode(env, world, "not ended")


def why_ended(env: Env, world: int) -> str:
    """Of an episode that has just ended."""
    cause = int(env.broken.cause[world])
    if cause:
        return f"ended because its {env.broken.causes[cause - 1]} went bad"
    return "ended by the task" if env.termination[world] else "ended by the time limit"


def print_episode(env: Env, world: int, how: str) -> None:
    """One line about the episode under way or just ended."""
    total, length = env.episode_metrics["sum_reward"][world].item(), env.episode_metrics["length"][world].item()
    which = f"world {world}: " if env.num_envs > 1 else ""
    if env.success is not None and env.done[world]:
        how += ", success" if env.success[world] else ", no success"
    print(f"{which}return {total:.2f} in {length:.0f} env steps ({how})", flush=True)


def record(played: Played, arguments: PlayArguments, path: Path) -> None:
    """Plays into a video file; without a number of steps, one episode of each world."""
    env = played.env
    seconds = env.task.control_dt * env.action_repeat
    steps = num_steps(arguments, seconds)
    stride = max(1, round(1 / (FRAMES_PER_SECOND * seconds)))
    for name in ("width", "height"):
        if not 16 <= getattr(arguments, name) <= 4096:
            raise ConfigError(f"--{name} is {getattr(arguments, name)}, but must be from 16 to 4096")
    model = model_of_pictures(env)
    data = mujoco.MjData(model)
    camera = find_camera(model, arguments.camera)
    renderer = make_renderer(arguments.renderer, model, camera, arguments.width, arguments.height)
    if renderer.note:
        print(renderer.note)

    def draw(world: int) -> np.ndarray:
        show_state(env, model, data, world)
        return renderer.draw(data)

    with contextlib.closing(renderer):
        pictures = [draw(world) for world in range(env.num_envs)]
        frames = [tiles(pictures)]
        over = [False] * env.num_envs
        for step, ended in enumerate(play(played, steps), start=1):
            if steps is None:  # what would be drawn of those that have ended is a next start
                over = list(map(max, over, ended))
                if all(over):
                    break
            if step % stride == 0:
                pictures = [
                    old if still else draw(i) for i, (old, still) in enumerate(zip(pictures, over, strict=True))
                ]
                frames.append(tiles(pictures))
    write_video(path, frames, seconds * stride)
    height, width = frames[0].shape[:2]
    print(f"{path}: {len(frames)} frames of {width}x{height}, {len(frames) * seconds * stride:.1f} s")


def record_case(arguments: PlayArguments) -> None:
    """Prints and draws the last steps of a world that broke, from a file in a run's folder `broken`."""
    case = load_case(arguments.broken)
    name = canonical_name(arguments.env or case["env"])
    check_trusted(name, str(arguments.broken), trusted=arguments.trust or arguments.env is not None)
    env = make_env(name, None, torch.Generator().manual_seed(0), "mujoco")
    sizes = list(case["state_sizes"].values())
    if sizes != [x.shape[1] for x in (env.physics.qpos, env.physics.qvel, env.physics.act, env.physics.ctrl)]:
        raise PlayError(f"{arguments.broken} is of another model than that of {name}; --env would name its own")
    print(f"{name}, seed {case['seed']}, env {case['world']}, before {case['env_steps']:,} env steps: {case['what']}")
    print(*broken_world.numbers(case), sep="\n")
    model = model_of_pictures(env)
    renderer = make_renderer(
        arguments.renderer, model, find_camera(model, arguments.camera), arguments.width, arguments.height
    )
    with contextlib.closing(renderer):
        frames = list(broken_world.pictures(case, env, model, renderer.draw))
    if not frames:
        print("no picture: its positions are inf, NaN or far away in all of these steps")
        return
    path = arguments.video or default_video("broken")
    write_video(path, frames, BROKEN_SECONDS_PER_FRAME)
    print(f"{path}: {len(frames)} of {len(case['state'])} steps, slowed down")


def watch(played: Played, arguments: PlayArguments) -> None:
    """Plays in MuJoCo's viewer in real time, until the window is closed or the steps are done."""
    import mujoco.viewer

    env = played.env
    seconds = env.task.control_dt * env.action_repeat
    steps = num_steps(arguments, seconds)
    model = model_of_pictures(env)
    data = mujoco.MjData(model)
    show_state(env, model, data)
    if not mujoco.viewer.glfw.init():  # the viewer itself would wait for ever
        raise PlayError("no window can be opened here; --video play.gif would write a video")
    try:
        viewer = mujoco.viewer.launch_passive(model, data, show_left_ui=False, show_right_ui=False)
    except RuntimeError as error:  # on macOS, without mjpython
        raise PlayError(f"{error}; --video play.gif would write a video") from None
    with viewer:
        if arguments.camera is not None:
            viewer.cam.type = mujoco.mjtCamera.mjCAMERA_FIXED
            viewer.cam.fixedcamid = find_camera(model, arguments.camera)
        due = time.monotonic()
        for _ in play(played, steps):
            if not viewer.is_running():
                break
            with viewer.lock():
                show_state(env, model, data)
            viewer.sync()
            due = max(due + seconds, time.monotonic() - 1.0)  # after a pause, no rush to catch up
            time.sleep(max(0.0, due - time.monotonic()))


def main() -> None:
    """The program `python -m torch_ppo.play`."""
    print_notes()
    with reader_may_leave(), user_errors(), contextlib.suppress(KeyboardInterrupt):
        arguments = tyro.cli(PlayArguments, args=rename(sys.argv[1:]), prog=called("play"))
        if arguments.video is not None:
            check_video(arguments.video)
        if arguments.broken is not None:
            record_case(arguments)
            return
        played = make_player(arguments)
        if arguments.video is None and arguments.worlds == 1 and has_display():
            watch(played, arguments)
        else:
            record(played, arguments, arguments.video or default_video(played.name.rpartition(":")[2]))


if __name__ == "__main__":
    main()
