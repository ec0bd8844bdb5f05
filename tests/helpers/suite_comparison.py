"""Holding a task of ours against the same task of the DM Control suite: next state, observation, reward, start states.

The suite plays random episodes; then our env, with a world for each, takes the same steps. Before every one, each world
is put into its episode's state; after it, both must be in the same next state, and from the suite's next state ours
must observe and reward the same. For the latter our sensors are brought up to date first: after a step they lag one
timestep behind the state, by the contract of `torch_ppo.simulation.physics`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy import ndarray
from torch import Tensor

from tests.helpers.opengl import has_opengl
from torch_ppo.simulation.env import Env
from torch_ppo.simulation.task import Task

CPU = torch.device("cpu")
STATE = ("qpos", "qvel", "act", "ctrl")

Change = Callable[[object, np.random.Generator], None]  # of dm_control's physics, in place


def make_env(
    task: Task,
    *,
    engine: str = "mujoco",
    num_envs: int = 1,
    seed: int = 0,
    episode_length: int = 10_000,
    randomize: bool = False,
) -> Env:
    """An env of ours on the CPU; episodes are long, so that none ends meanwhile. Skips what needs OpenGL where there is none."""
    if task.views and engine == "mujoco" and not has_opengl():
        pytest.skip("C MuJoCo draws by OpenGL, and there is none here")
    return Env(
        task,
        num_envs,
        episode_length=episode_length,
        device=CPU,
        generator=torch.Generator().manual_seed(seed),
        engine=engine,
        randomization_fn=task.randomize if randomize else None,
    )


def load(suite: object, name: str, *, seed: int = 0) -> object:
    """The suite's environment of that name, such as "cartpole/balance"."""
    domain, task = name.split("/")
    return suite.load(domain, task, task_kwargs={"random": seed})


def no_target(physics: object) -> ndarray:
    """Of a task that has none."""
    return np.empty(0)


def target_in_plane(physics: object) -> ndarray:
    """x and y."""
    return physics.named.model.geom_pos["target", :2]


def target_in_space(physics: object) -> ndarray:
    """x, y and z."""
    return physics.named.model.geom_pos["target"]


def target_about_hinge(physics: object) -> ndarray:
    """The finger's, as an angle from the top, clockwise."""
    hinge = physics.named.data.xpos["spinner", ["x", "z"]]
    return np.arctan2(*(physics.named.model.site_pos["target", ["x", "z"]] - hinge))


# The suite keeps a target in the model, ours in memory.
TARGETS = {
    "finger/turn_easy": target_about_hinge,
    "finger/turn_hard": target_about_hinge,
    "fish/swim": target_in_space,
    "reacher/easy": target_in_plane,
    "reacher/hard": target_in_plane,
    "swimmer/swimmer6": target_in_plane,
}


def unchanged(physics: object, rng: np.random.Generator) -> None:
    """Leaves the suite as it is."""


@dataclass(frozen=True)
class Episodes:
    """The suite's steps, `(num_steps, num_episodes, ...)`. A state is qpos, qvel, act and ctrl as one vector."""

    before: ndarray
    action: ndarray
    after: ndarray
    target: ndarray  # of size 0 where there is none
    observation: ndarray
    reward: ndarray
    num_contacts: ndarray


def play(
    suite: object,
    name: str,
    *,
    num_episodes: int,
    num_steps: int,
    start: Change = unchanged,
    disturb: Change = unchanged,
    seed: int = 0,
) -> Episodes:
    """Random episodes of the suite; `start` changes what an episode begins with, `disturb` what each step does."""
    rng = np.random.default_rng(seed)
    reference, target = load(suite, name, seed=seed), TARGETS.get(name, no_target)
    physics, task, spec = reference.physics, reference.task, reference.action_spec()

    def state() -> ndarray:
        physics.forward()  # the suite's touch sensors lag, else
        return np.concatenate([getattr(physics.data, part) for part in STATE])

    def step() -> tuple[object, ...]:
        disturb(physics, rng)
        before, action = state(), rng.uniform(spec.minimum, spec.maximum)
        reference.step(action)
        after = state()
        observation = np.concatenate([np.ravel(part) for part in task.get_observation(physics).values()])
        reward, where = task.get_reward(physics), np.array(target(physics))
        return before, action, after, where, observation, reward, physics.data.ncon

    steps = []
    for _ in range(num_episodes):
        reference.reset()
        start(physics, rng)
        steps += [step() for _ in range(num_steps)]
    fields = [np.array(field) for field in zip(*steps, strict=True)]
    return Episodes(*(x.reshape(num_episodes, num_steps, *x.shape[1:]).swapaxes(0, 1) for x in fields))


def put_state(env: Env, state: ndarray, target: ndarray) -> None:
    """Puts our worlds into states of the suite, `(num_envs, ...)`, and a target into memory."""
    parts = [getattr(env.physics, name) for name in STATE]
    for part, value in zip(parts, torch.as_tensor(state).split([part.shape[1] for part in parts], dim=1), strict=True):
        part.copy_(value)
    if target.size:
        env.memory["target"].copy_(torch.as_tensor(target))


def compare_steps(
    env: Env, episodes: Episodes, *, state_tolerance: float, observation_tolerance: float, reward_tolerance: float
) -> None:
    """Asserts that `env`, which has a world per episode, does in each step what the suite did.

    Tolerances are absolute and relative alike.
    """
    task, physics, memory = env.task, env.physics, env.memory

    def assert_close(ours: Tensor, theirs: ndarray, tolerance: float, what: str) -> None:
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=tolerance, atol=tolerance, err_msg=f"{what}, step {step}")

    for step, target in enumerate(episodes.target):
        action = torch.as_tensor(episodes.action[step], dtype=torch.float32)
        put_state(env, episodes.before[step], target)
        env.step(action)
        state = torch.cat([getattr(physics, name) for name in STATE], dim=1)
        assert_close(state, episodes.after[step], state_tolerance, f"state ({', '.join(STATE)})")
        assert torch.equal(env.observation["state"], task.observe(physics, memory))
        assert torch.equal(env.reward, task.reward(physics, memory, action)[0])

        put_state(env, episodes.after[step], target)
        physics.forward()
        observation, (reward, _) = task.observe(physics, memory), task.reward(physics, memory, action)
        assert_close(observation, episodes.observation[step], observation_tolerance, "observation")
        assert_close(reward, episodes.reward[step], reward_tolerance, "reward")


def compare_starts(suite: object, name: str, env: Env, *, columns: slice = slice(None)) -> None:
    """Asserts that start states (qpos, qvel) and targets are distributed alike; `columns` selects some of the state's.

    As many of the suite's as there are envs are compared in mean and variance, within 4 standard errors, and in
    cumulative distribution, by a Kolmogorov-Smirnov test that equal ones fail once in 1500 times.
    A target's length and largest coordinate are compared too, for what its coordinates have to do with each other.
    """
    num_starts = env.num_envs
    reference, target = load(suite, name, seed=1), TARGETS.get(name, no_target)
    theirs = []
    for _ in range(num_starts):
        reference.reset()
        data = reference.physics.data
        theirs.append(_start(data.qpos, data.qvel, np.ravel(target(reference.physics)), columns))
    theirs = np.array(theirs)
    targets = env.memory.get("target", torch.zeros(num_starts, 0)).reshape(num_starts, -1)
    states = zip(env.physics.qpos.numpy(), env.physics.qvel.numpy(), targets.numpy(), strict=True)
    ours = np.array([_start(*state, columns) for state in states])
    assert not env.physics.time.any()
    centre = (ours.mean(0) + theirs.mean(0)) / 2
    for power in (1, 2):
        x, y = (ours - centre) ** power, (theirs - centre) ** power
        error = np.sqrt((x.var(0) + y.var(0)) / num_starts)
        np.testing.assert_array_less(np.abs(x.mean(0) - y.mean(0)), 4 * error + 1e-6, err_msg=f"moment {power}")
    for column in np.flatnonzero(theirs.std(0) > 1e-6):
        both = np.concatenate([ours[:, column], theirs[:, column]])
        shares = [np.searchsorted(np.sort(x[:, column]), both, side="right") / num_starts for x in (ours, theirs)]
        assert np.abs(shares[0] - shares[1]).max() < 2 * np.sqrt(2 / num_starts), f"distribution of column {column}"


def _start(qpos: ndarray, qvel: ndarray, target: ndarray, columns: slice) -> ndarray:
    state = np.concatenate([qpos, qvel], dtype=np.float64)[columns]
    return np.concatenate([state, target, [np.linalg.norm(target), np.abs(target).max(initial=0.0)]])
