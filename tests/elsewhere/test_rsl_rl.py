"""Tasks as RSL-RL's `VecEnv`: what its runner is given, and that it trains."""

import pytest
import torch

import torch_ppo

pytest.importorskip("rsl_rl")

from rsl_rl.env import VecEnv
from rsl_rl.runners import OnPolicyRunner

from tests.helpers.toy import ToyTask

SETTINGS = {
    "num_steps_per_env": 16,
    "save_interval": 1000,
    "obs_groups": {"actor": ["policy"], "critic": ["policy"]},
    "algorithm": {
        "class_name": "PPO",
        "num_learning_epochs": 4,
        "num_mini_batches": 4,
        "learning_rate": 1e-3,
        "schedule": "adaptive",
        "desired_kl": 0.01,
        "gamma": 0.99,
        "lam": 0.95,
        "entropy_coef": 0.005,
        "rnd_cfg": None,
        "symmetry_cfg": None,
    },
    "actor": {
        "class_name": "MLPModel",
        "hidden_dims": [64, 64],
        "activation": "elu",
        "obs_normalization": True,
        "distribution_cfg": {"class_name": "GaussianDistribution", "init_std": 1.0},
    },
    "critic": {"class_name": "MLPModel", "hidden_dims": [64, 64], "activation": "elu", "obs_normalization": True},
}


def made(num_envs=4, **settings):
    return torch_ppo.RslRlEnv(torch_ppo.make_env("cartpole", num_envs, **settings))


class Ends(ToyTask):
    """Ends where the first control is above 0.5; by a time limit of its own where the second is, too."""

    def terminated(self, physics, memory):
        return physics.ctrl[:, 0] > 0.5

    def time_out(self, physics, memory):
        return physics.ctrl[:, 1] > 0.5

    def observe(self, physics, memory):
        return {"state": physics.qpos.clone(), "privileged_state": 2 * physics.qpos}


def test_it_is_a_vec_env():
    env = made(episode_length=7, action_repeat=2)
    assert isinstance(env, VecEnv) and not VecEnv.__abstractmethods__ & set(dir(object))
    assert (env.num_envs, env.num_actions, env.max_episode_length) == (4, 1, 4)
    observations = env.get_observations()
    assert observations.batch_size == (4,) and observations["policy"].shape == (4, 5)
    assert env.episode_length_buf.dtype == torch.int64 and not env.episode_length_buf.any()


def test_steps():
    env = made(episode_length=3)
    for step in (1, 2):
        observations, rewards, dones, extras = env.step(torch.zeros(4, 1))
        assert env.episode_length_buf.tolist() == [step] * 4 and not dones.any() and "log" not in extras
    kept = observations["policy"].clone()
    _, rewards, dones, extras = env.step(torch.zeros(4, 1))
    assert torch.equal(observations["policy"], kept)  # the step has not written into it
    assert dones.dtype == torch.int64 and dones.all() and extras["time_outs"].all() and rewards.shape == (4,)
    assert not env.episode_length_buf.any()
    env.step(torch.zeros(4, 1))
    assert env.episode_length_buf.tolist() == [1] * 4


def test_ends_and_time_outs():
    env = torch_ppo.RslRlEnv(torch_ppo.make_env(Ends(), 3))
    assert set(env.get_observations().keys()) == {"state", "privileged_state"}
    _, _, dones, extras = env.step(torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]))
    assert dones.tolist() == [0, 1, 1] and extras["time_outs"].tolist() == [False, False, True]


def test_log_has_means_of_the_ended():
    env = torch_ppo.RslRlEnv(torch_ppo.make_env("reacher_easy", 2, episode_length=2))
    env.step(torch.zeros(2, 2))
    log = env.step(torch.zeros(2, 2))[3]["log"]
    metrics = env.env.episode_metrics
    assert log.keys() == {f"Episode/{name}" for name in metrics} - {"Episode/sum_reward", "Episode/length"}
    assert log["Episode/success_rate"] == metrics["success_rate"].mean()


def test_episodes_that_begin_within():
    env = made(episode_length=6, action_repeat=2)
    env.episode_length_buf = torch.tensor([0, 1, 2, 0])
    assert env.episode_length_buf.tolist() == [0, 1, 2, 0]
    assert env.step(torch.zeros(4, 1))[2].tolist() == [0, 0, 1, 0]


def test_actions_are_clipped_only_if_asked_for():
    ends = []
    for limit in (None, 0.25):
        env = torch_ppo.RslRlEnv(torch_ppo.make_env(ToyTask(), 2), clip_actions=limit)
        env.step(torch.full((2, 2), 0.5))
        ends.append(env.env.physics.ctrl.max().item())
    assert ends == [0.5, 0.25]


def test_inference_mode_leaves_envs_that_can_be_stepped_outside():
    env = torch_ppo.RslRlEnv(
        torch_ppo.make_env("cartpole", 2, episode_length=2, auto_reset="fresh", action_delay=(0, 2))
    )
    with torch.inference_mode():
        for _ in range(3):
            env.step(torch.zeros(2, 1))
    env.step(torch.zeros(2, 1))
    env.reset()


@pytest.mark.parametrize(
    ("env", "options", "message"),
    [("cartpole", {}, "env is 'cartpole', but must be envs"), (None, {"clip_actions": 0.0}, "clip_actions is 0.0")],
)
def test_mistakes(env, options, message):
    with pytest.raises(torch_ppo.UserError, match=message):
        torch_ppo.RslRlEnv(env or torch_ppo.make_env("cartpole"), **options)


def mean_return(runner, env):
    """Of the first episode of each env, with the most likely actions."""
    act, total = runner.get_inference_policy(), torch.zeros(env.num_envs)
    observations, _ = env.reset()
    with torch.inference_mode():
        for _ in range(env.max_episode_length):
            observations, rewards, *_ = env.step(act(observations))
            total += rewards
    return total.mean().item()


@pytest.mark.slow
def test_its_runner_trains_cartpole():
    torch.manual_seed(1)
    env = made(128)
    runner = OnPolicyRunner(env, SETTINGS, log_dir=None, device="cpu")
    before = mean_return(runner, env)
    runner.learn(300, init_at_random_ep_len=True)
    after = mean_return(runner, env)
    print(f"RSL-RL on cartpole: return {before:.1f} -> {after:.1f} of at most 1000")
    assert after > 900.0
