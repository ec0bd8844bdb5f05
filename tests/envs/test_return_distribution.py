"""A random policy earns the same in our tasks as in the DM Control suite's, over many episodes from their own starts.

The other tests compare step by step from equal states; this one also sees start states, what is carried from step to
step, and lags. Minutes long, so by hand; RETURNS_JSON names a file for the numbers:

    RETURNS_JSON=docs/results/return_distribution.json python -m pytest -m slow tests/envs/test_return_distribution.py

Of 25 tasks one is expected beyond 2 standard errors by chance. So the rule, fixed before the first run: 1000 episodes, and
where they differ by 2 standard errors or more, 4000 fresh ones decide alone. A task that is equal then fails with a
probability of 0.2 %, and one whose mean is off by 0.1 standard deviations with one of 60 %, by 0.15 of 91 %.

Where fewer than 30 episodes of either earn anything the mean return says little. There the mean speed, the norm of qvel
over the steps, has to agree as well; the step-by-step tests compare the rewards themselves.

Cart-poles are compared with the suite's integrator. With their own, Euler, the rule told `cartpole_sparse` apart (2.0, then
2.4 standard errors): with the same starts and actions Euler earns 0.028 standard deviations less there than RK4. It also
told `cheetah_run` apart while that started in the air (10 standard errors); now it falls first, as the suite's does.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.suite_comparison import make_env
from torch_ppo.envs import ENVS, OTHER_NAMES
from torch_ppo.envs.cartpole import Cartpole

NUM_STEPS = 60
NUM_EPISODES = (1000, 4000)  # of the first sample, and of the one that decides where that one differs
FEW_REWARDED = 30
LARGEST_Z = 2.0
SUITE_NAMES = {name: other for name, others in OTHER_NAMES.items() for other in others[:1] if "/" in other}


def make_task(name):
    """A task as the suite has it: cart-poles with its integrator."""
    make = ENVS[name]
    return make(integrator="rk4") if getattr(make, "func", make) is Cartpole else make()


def write(name, samples):
    """Into the file that RETURNS_JSON names, beside what it holds of other tasks."""
    if "RETURNS_JSON" not in os.environ:
        return
    file = Path(os.environ["RETURNS_JSON"])
    known = json.loads(file.read_text())["tasks"] if file.exists() else {}
    known[name] = samples
    tasks = {key: known[key] for key in sorted(known)}
    file.write_text(json.dumps({"num_steps": NUM_STEPS, "tasks": tasks}, indent=1) + "\n")


def play_suite(suite, domain, name, num_episodes, seed):
    """Return and mean speed of each episode, `(2, num_episodes)`; nobody needs the observations, so none are made."""
    rng = np.random.default_rng(seed)
    environment = suite.load(domain, name, task_kwargs={"random": seed})
    physics, task = environment.physics, environment.task
    num_substeps = round(environment.control_timestep() / physics.timestep())
    low, high = environment.action_spec().minimum, environment.action_spec().maximum
    sums = np.zeros((2, num_episodes))
    for episode in range(num_episodes):
        environment.reset()
        for _ in range(NUM_STEPS):
            task.before_step(rng.uniform(low, high), physics)
            physics.step(num_substeps)
            task.after_step(physics)
            sums[0, episode] += task.get_reward(physics)
            sums[1, episode] += np.linalg.norm(physics.data.qvel)
    return sums / [[1], [NUM_STEPS]]


def play_ours(task, num_episodes, seed, low, high):
    """The same of ours, one env per episode; actions are uniform between `low` and `high` `(action_dim,)`."""
    env = make_env(task, num_envs=num_episodes, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    low, high = (torch.tensor(bound, dtype=torch.float32) for bound in (low, high))
    sums = torch.zeros(2, num_episodes, dtype=torch.float64)
    for _ in range(NUM_STEPS):
        env.step(low + (high - low) * torch.rand(num_episodes, env.action_dim, generator=generator))
        assert not env.done.any()
        sums[0] += env.reward
        sums[1] += torch.linalg.vector_norm(env.physics.qvel, dim=1)
    return sums.numpy() / [[1], [NUM_STEPS]]


def difference(ours, theirs):
    """Difference of the means of two samples in its standard errors; 0 where nothing varies and all is equal."""
    error = np.sqrt(ours.var(ddof=1) / len(ours) + theirs.var(ddof=1) / len(theirs))
    gap = ours.mean() - theirs.mean()
    return float(gap / error) if error > 0 else float(np.copysign(np.inf, gap)) if gap else 0.0


def compare(suite, name, num_episodes, seed):
    """What JSON keeps of one sample of both; `z` has the statistics that have to agree."""
    domain, task = SUITE_NAMES[name].split("/")
    actions = suite.load(domain, task).action_spec()
    ours = play_ours(make_task(name), num_episodes, seed, actions.minimum, actions.maximum)
    theirs = play_suite(suite, domain, task, num_episodes, seed)
    row = {"num_episodes": num_episodes, "seed": seed, "rewarded": [int((x[0] > 0).sum()) for x in (ours, theirs)]}
    for i, statistic in enumerate(("return", "speed")):
        row[statistic] = {
            "ours": ours[i].mean(),
            "suite": theirs[i].mean(),
            "deviations": [ours[i].std(ddof=1), theirs[i].std(ddof=1)],
            "z": difference(ours[i], theirs[i]),
        }
    asserted = ["return"] if min(row["rewarded"]) >= FEW_REWARDED else ["return", "speed"]
    row["largest_z"] = max(abs(row[statistic]["z"]) for statistic in asserted)
    row["asserted"] = asserted
    return row


@pytest.mark.slow
@pytest.mark.parametrize("name", SUITE_NAMES)
def test_random_returns_as_in_dm_control(suite, name):
    samples = []
    for seed, num_episodes in enumerate(NUM_EPISODES):
        samples.append(compare(suite, name, num_episodes, seed))
        if samples[-1]["largest_z"] < LARGEST_Z:
            break
    write(name, samples)
    assert samples[-1]["largest_z"] < LARGEST_Z, samples


def test_difference_is_that_of_welch():
    """(2 - 5) / sqrt(1 / 3 + 4 / 3), by hand."""
    assert difference(np.array([1.0, 2.0, 3.0]), np.array([3.0, 5.0, 7.0])) == pytest.approx(-3 / (5 / 3) ** 0.5)
    assert difference(np.zeros(3), np.zeros(3)) == 0.0 and difference(np.ones(3), np.zeros(3)) == np.inf
