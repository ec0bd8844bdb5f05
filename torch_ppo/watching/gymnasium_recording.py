"""A policy in an environment of Gymnasium's, as a video: the environment draws its pictures."""

import contextlib
import dataclasses
from pathlib import Path

import torch

from torch_ppo.environments.finding import library_of, source_of
from torch_ppo.running.acting import same_task
from torch_ppo.running.environment import locate_task
from torch_ppo.running.fit import task_misfit
from torch_ppo.running.saved_policy import SavedPolicy, load_policy
from torch_ppo.running.terminal import changing_line
from torch_ppo.showing.video import check_video, default_video, write_video
from torch_ppo.watching.arguments import PlayArguments, num_steps
from torch_ppo.watching.player import PlayError, find_played

# What shows our own simulation.
OF_OURS = ("web", "view", "worlds", "physics", "camera", "renderer", "width", "height")
MOST_FRAMES = 10_000


def policy_in_gymnasium(arguments: PlayArguments) -> tuple[SavedPolicy, str] | None:
    """The policy that is to be played in an environment of Gymnasium's, and its name; None if it is in none."""
    if arguments.run is None or arguments.policy is not None or arguments.follow:
        return None
    if arguments.env is not None and library_of(arguments.env) != "gym":
        return None
    run, checkpoint = find_played(arguments.run), arguments.checkpoint or "best"
    policy = load_policy(run, checkpoint=checkpoint)
    name = arguments.env or (policy.config.env if policy.config else "")
    if library_of(name) != "gym":
        return None
    if arguments.stochastic:
        policy = load_policy(run, checkpoint=checkpoint, deterministic=False)
    if arguments.env is None:
        name, notes = locate_task(policy.run_folder, name, trusted=arguments.trust)
        for note in notes:
            print(note)
    return policy, name


def record_in_gymnasium(policy: SavedPolicy, name: str, arguments: PlayArguments) -> None:
    """Plays one episode, or so many steps, into a video file. UserError where that cannot be done."""
    defaults = {field.name: field.default for field in dataclasses.fields(PlayArguments)}
    for option in OF_OURS:
        if getattr(arguments, option) != defaults[option]:
            raise PlayError(f"--{option} is of our own simulation, and {name} draws itself; leave it out")
    if not 0 <= arguments.seed < 2**31:
        raise PlayError(f"--seed is {arguments.seed}, but must be from 0 to 2**31 - 1")
    path = arguments.video or default_video(Path(name.rpartition(":")[2]).name)
    check_video(path)
    config = policy.config
    if config is not None and not same_task(name, config.env):  # another has its own time limit
        config = dataclasses.replace(config, episode_length=None)
    env = source_of(name).pictured(config)
    with contextlib.closing(env), changing_line() as show:
        steps, generator = num_steps(arguments, env.seconds), torch.Generator().manual_seed(arguments.seed)
        env.reset(seed=arguments.seed)
        _check_fit(policy, name, env)
        frames, rewards = [env.picture()], []
        for _ in range(min(steps or MOST_FRAMES, MOST_FRAMES)):
            reward, ended = env.step(policy(env.observation, generator))
            frames.append(env.picture())
            show(f"drawing {path}: {len(frames):,} frames")
            rewards.append(reward)
            if ended and steps is None:
                break
            if ended:
                env.reset()
        show(f"writing {path}")
        write_video(path, frames, env.seconds)
    height, width = frames[0].shape[:2]
    print(
        f"{path}: {len(frames)} frames of {width}x{height}, {len(frames) * env.seconds:.1f} s, reward {sum(rewards):g}"
    )


def _check_fit(policy: SavedPolicy, name: str, env: object) -> None:
    if policy.observation_sizes is not None:
        (seen,) = policy.observation_sizes if len(policy.observation_sizes) == 1 else (policy.obs_key,)
        live = ({seen: env.observation.shape[1]}, env.choices or env.action_dim)
        misfit = task_misfit((policy.observation_sizes, policy.actions), live, name)
        if misfit:
            raise PlayError(f"{policy.path} does not fit: {'; '.join(misfit)}")
