"""mjlab's environments, in an environment of their own (it pins mujoco 3.11): `pip install mjlab`, and this checkout on the path."""

import pytest
import torch

import torch_ppo
from tests.helpers.making import make
from torch_ppo.settings.files import read_config

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
    """With the settings of our own cart-pole on a CPU: 10.8 untrained, 27 after 204,800 env steps, a minute and a half."""
    ours = read_config("cartpole_cpu")
    alone = "env num_timesteps episode_length auto_reset random_episode_phase num_resets_per_eval action_repeat".split()
    settings = {name: value for name, value in ours.items() if name not in alone}
    settings |= {name: SMALL[name] for name in ("device", "policy_obs_key", "value_obs_key")}
    rewards = []
    progress = lambda step, metrics: rewards.append(metrics["eval/episode_reward"])
    torch_ppo.train(TASK, 204_800, progress_fn=progress, **{**settings, "num_eval_envs": 16, "num_evals": 2})
    assert rewards[-1] > 2 * rewards[0]
