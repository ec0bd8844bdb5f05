"""Holding a task of ours against the same task of the DM Control suite: next state, observation, reward.

The suite plays random episodes. Before each of its steps our one env is put into its state; after the step both must be
in the same next state, and from the suite's next state ours must observe and reward the same. For the latter our sensors are
brought up to date first: after a step they lag one timestep behind the state, by the contract of `torch_ppo.simulation.physics`.
"""

from collections.abc import Callable

import numpy as np
import torch

from torch_ppo.simulation.env import Env
from torch_ppo.simulation.task import Task

CPU = torch.device("cpu")


def make_env(
    task: Task,
    *,
    engine: str = "mujoco",
    num_envs: int = 1,
    seed: int = 0,
    episode_length: int = 10_000,
    randomize: bool = False,
) -> Env:
    """An env of ours on the CPU; episodes are long, so that none ends meanwhile."""
    return Env(
        task,
        num_envs,
        episode_length=episode_length,
        device=CPU,
        generator=torch.Generator().manual_seed(seed),
        engine=engine,
        randomization_fn=task.randomize if randomize else None,
    )


def put_state(env: Env, physics: object) -> None:
    """Puts our only world into the state of dm_control's physics."""
    for name in ("qpos", "qvel", "act", "ctrl"):
        getattr(env.physics, name).copy_(torch.as_tensor(getattr(physics.data, name))[None])


def flat(observation: dict[str, object]) -> np.ndarray:
    """dm_control's observation as one vector, in its order."""
    return np.concatenate([np.ravel(value) for value in observation.values()])


def compare_with_suite(
    suite: object,
    task: Task,
    domain: str,
    name: str,
    *,
    engine: str = "mujoco",
    num_episodes: int = 4,
    num_steps: int = 50,
    state_tolerance: float = 1e-5,
    observation_tolerance: float = 1e-4,
    reward_tolerance: float = 1e-4,
    prepare: Callable[[object, Env], None] = lambda physics, env: None,
    observe: Callable[[object], np.ndarray] | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Asserts that `task` is `suite`'s `domain`, `name`; returns the rewards seen, `(num_episodes * num_steps,)`.

    prepare:  called with dm_control's physics and our env whenever their states were made equal: copies what the suite
              keeps elsewhere than in the state, such as a target in the model, into `env.memory`
    observe:  the suite's observation as one vector, from its physics, where order or content of ours differ on purpose
    Tolerances are absolute and relative alike.
    """
    rng = np.random.default_rng(seed)
    reference = suite.load(domain, name, task_kwargs={"random": seed})
    env = make_env(task, engine=engine)
    assert task.control_dt == reference.control_timestep()
    physics, their_task = reference.physics, reference.task
    low, high = reference.action_spec().minimum, reference.action_spec().maximum
    rewards = []
    for _ in range(num_episodes):
        reference.reset()
        for _ in range(num_steps):
            put_state(env, physics)
            prepare(physics, env)
            action = rng.uniform(low, high)
            reference.step(action)
            env.step(torch.as_tensor(action, dtype=torch.float32)[None])
            for state in ("qpos", "qvel", "act"):
                ours, theirs = getattr(env.physics, state)[0].numpy(), getattr(physics.data, state)
                np.testing.assert_allclose(ours, theirs, rtol=state_tolerance, atol=state_tolerance, err_msg=state)

            put_state(env, physics)
            prepare(physics, env)
            env.physics.forward()
            theirs = flat(their_task.get_observation(physics)) if observe is None else observe(physics)
            ours = env.task.observe(env.physics, env.memory)[0].numpy()
            tolerances = {"rtol": observation_tolerance, "atol": observation_tolerance}
            np.testing.assert_allclose(ours, theirs, **tolerances, err_msg="observation")
            action = torch.as_tensor(action, dtype=torch.float32)[None]
            ours = env.task.reward(env.physics, env.memory, action)[0].item()
            theirs = their_task.get_reward(physics)
            np.testing.assert_allclose(ours, theirs, rtol=reward_tolerance, atol=reward_tolerance, err_msg="reward")
            rewards.append(theirs)
    return np.array(rewards)


def compare_starts(
    suite: object, task: Task, domain: str, name: str, *, samples: int = 500, columns: slice = slice(None)
) -> None:
    """Asserts that start states (qpos, qvel) agree in mean and spread; `columns` selects some of them.

    Means within 4 standard errors, standard deviations within 15 %.
    """
    reference = suite.load(domain, name, task_kwargs={"random": 1})
    theirs = []
    for _ in range(samples):
        reference.reset()
        theirs.append(np.concatenate([reference.physics.data.qpos, reference.physics.data.qvel]))
    theirs = np.array(theirs)[:, columns]
    env = make_env(task, num_envs=samples)
    ours = torch.cat([env.physics.qpos, env.physics.qvel], dim=1).numpy()[:, columns]
    error = np.sqrt((theirs.var(0) + ours.var(0)) / samples)
    np.testing.assert_array_less(np.abs(ours.mean(0) - theirs.mean(0)), 4 * error + 1e-6)
    np.testing.assert_allclose(ours.std(0), theirs.std(0), rtol=0.15, atol=1e-6)
