"""mjlab's environments, in an environment of their own (it pins mujoco 3.11): `pip install mjlab`, and this checkout on the path."""

import pytest
import torch

import torch_ppo
from tests.helpers.making import make

pytest.importorskip("mjlab")
pytestmark = pytest.mark.filterwarnings("default")

TASK = "mjlab:Mjlab-Cartpole-Balance"
SMALL = {
    "num_envs": 8, "num_eval_envs": 4, "batch_size": 8, "num_minibatches": 2, "unroll_length": 4, "episode_length": 12,
    "policy_hidden_layer_sizes": (8,), "value_hidden_layer_sizes": (8,), "device": "cpu",
    "policy_obs_key": "actor", "value_obs_key": "critic",
}  # fmt: skip


def test_episodes_are_those_of_mjlab():
    """Rewards and ends are its own, and a time limit of ours counts in its control steps."""
    env = make(TASK, 3, episode_length=5, device="cpu", policy_obs_key="actor", value_obs_key="critic")
    env.reset()
    ends = []
    for _ in range(10):
        env.step(torch.zeros(3, env.action_dim))
        ends.append(env.done.bool().tolist())
    assert ends == [[False] * 3] * 4 + [[True] * 3] + [[False] * 3] * 4 + [[True] * 3]
    assert env.observation.keys() >= {"actor", "critic"} and env.reward.shape == (3,)


def test_a_short_training():
    reports = []
    torch_ppo.train(TASK, 320, progress_fn=lambda step, metrics: reports.append((step, metrics)), num_evals=2, **SMALL)
    assert reports[-1][0] == 320 and reports[-1][1]["eval/episode_reward"] > 0


@pytest.mark.slow
def test_it_is_learned():
    """With mjlab's own settings for rsl_rl, but fewer envs."""
    reports = []
    settings = torch_ppo.environments.finding.source_of(TASK).settings(128)
    settings |= {"num_eval_envs": 16, "num_evals": 2, "device": "cpu", "torch_threads": 1}
    torch_ppo.train(TASK, 400_000, progress_fn=lambda step, m: reports.append(m["eval/episode_reward"]), **settings)
    assert reports[-1] > 2 * reports[0]
