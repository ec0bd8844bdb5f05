"""A policy as a video file; a broken world, too."""

import contextlib
import math
from pathlib import Path

import mujoco
import numpy as np
import torch

from torch_ppo.envs import canonical_name
from torch_ppo.errors import ConfigError
from torch_ppo.running.broken_cases import load_case
from torch_ppo.running.environment import check_trusted
from torch_ppo.running.terminal import changing_line
from torch_ppo.showing import broken_world
from torch_ppo.showing.render import find_camera, make_renderer, model_of_pictures, show_state
from torch_ppo.showing.seen import check_pictures, seen_picture
from torch_ppo.showing.video import check_video, default_video, tiles, write_video
from torch_ppo.watching.arguments import PlayArguments, num_steps
from torch_ppo.watching.following import Following
from torch_ppo.watching.player import Played, PlayError, make_env, play

BROKEN_SECONDS_PER_FRAME = 0.2  # of a broken world, however long a step is
FRAMES_PER_SECOND = 25  # of a video, about: frames are whole steps apart


def record(
    played: Played, arguments: PlayArguments, path: Path, *, frames_per_second: float = FRAMES_PER_SECOND
) -> None:
    """Plays into a video file; without a number of steps, one episode of each world."""
    check_video(path)
    env = played.env
    seconds = env.task.control_dt * env.action_repeat
    steps = num_steps(arguments, seconds)
    stride = max(1, round(1 / (frames_per_second * seconds)))
    for name in ("width", "height"):
        if not 16 <= getattr(arguments, name) <= 4096:
            raise ConfigError(f"--{name} is {getattr(arguments, name)}, but must be from 16 to 4096")
    if arguments.view:
        check_pictures(env.observation, "--view")
    model = model_of_pictures(env)
    data = mujoco.MjData(model)
    camera = find_camera(model, arguments.camera)
    renderer = make_renderer(arguments.renderer, model, camera, arguments.width, arguments.height)
    if renderer.note:
        print(renderer.note)

    def draw(world: int) -> np.ndarray:
        show_state(env, model, data, world)
        picture = renderer.draw(data)
        if not arguments.view:
            return picture
        return np.concatenate([picture, seen_picture(env.observation, env.task, world, len(picture))], 1)

    most = steps or math.ceil(env.episode_length / env.action_repeat)
    of_most = f"of {'at most ' if steps is None else ''}{most:,} steps"
    with contextlib.closing(renderer), changing_line() as show:
        show(f"drawing {path}: step 0 {of_most}")
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
                show(f"drawing {path}: step {step:,} {of_most}")
        show(f"writing {path}")
        write_video(path, frames, seconds * stride)
    height, width = frames[0].shape[:2]
    print(f"{path}: {len(frames)} frames of {width}x{height}, {len(frames) * seconds * stride:.1f} s")


def record_following(played: Played, arguments: PlayArguments, path: Path) -> None:
    """Plays into the file, and again with each new checkpoint, until the training has ended."""
    following = Following(arguments.run, played.load)
    record(played, arguments, path)
    for policy in following.policies():
        print(f"checkpoint at {policy.env_steps:,} env steps", flush=True)
        played.take(policy)
        played.env.reset()
        record(played, arguments, path)
    print(f"{arguments.run} is not being trained any more")


def record_case(arguments: PlayArguments) -> None:
    """Prints and draws the last steps of a world that broke, from a file in a run's folder `broken`."""
    case = load_case(arguments.broken)
    name = canonical_name(arguments.env or case["env"])
    check_trusted(name, str(arguments.broken), trusted=arguments.trust or arguments.env is not None)
    env = make_env(name, None, torch.Generator().manual_seed(0), "mujoco")
    sizes = list(case["state_sizes"].values())
    if sizes != [x.shape[1] for x in (env.physics.qpos, env.physics.qvel, env.physics.act, env.physics.ctrl)]:
        raise PlayError(f"{arguments.broken} is of another model than that of {name}; --env would name its own")
    path = arguments.video or default_video("broken")
    check_video(path)
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
    write_video(path, frames, BROKEN_SECONDS_PER_FRAME)
    print(f"{path}: {len(frames)} of {len(case['state'])} steps, slowed down")
