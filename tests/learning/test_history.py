"""Stacks of observations on their way through an agent: statistics per frame, and every way to have a policy act."""

import sys

import pytest
import torch

import torch_ppo
from tests.helpers.toy import ToyTask
from torch_ppo.errors import UserError
from torch_ppo.learning.agent import make_agent
from torch_ppo.running.checkpoint import agent_from_checkpoint, load_checkpoint
from torch_ppo.settings.config import Config
from torch_ppo.settings.files import load_config, to_toml
from torch_ppo.watching import player

SMALL = {"policy_hidden_layer_sizes": (8,), "value_hidden_layer_sizes": (8,), "normalize_observations": True}
LATE = {"history": 3, "action_delay": (1, 2)}
SIZES = {"state": 5, "privileged_state": 8}


def agent_of(frames, mode="welford", **settings):
    sizes = {key: size * (frames if key == "state" else 1) for key, size in SIZES.items()}
    keys = {"history": frames, "history_obs_keys": ("state",)} if frames > 1 else {}
    settings = {"value_obs_key": "privileged_state", "normalize_observations_mode": mode, **SMALL, **settings}
    return make_agent(Config(num_timesteps=1, **keys, **settings), sizes, 2, generator=torch.Generator())


@pytest.mark.parametrize("settings", [{}, {"mode": "ema"}, {"normalizer_clip": 1.5}])
def test_statistics_are_those_of_the_frames(settings):
    """Bit for bit what they are without history, though old frames come again; each frame is normalised by them."""
    plain, stacked = agent_of(1, **settings), agent_of(3, **settings)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        frames = 2 + 3 * torch.randn(4, 7, 3, 5, generator=generator)
        other = torch.randn(4, 7, 8, generator=generator)
        plain.update_normalizer({"state": frames[:, :, -1], "privileged_state": other})
        stacked.update_normalizer({"state": frames.flatten(-2), "privileged_state": other})
    for key, statistics in plain.normalizer.items():
        for name, value in statistics.state_dict().items():
            assert torch.equal(stacked.normalizer[key].state_dict()[name], value)
    seen = stacked.preprocess({"state": frames.flatten(-2)}, "state").unflatten(-1, (3, 5))
    for i in range(3):
        assert torch.equal(seen[:, :, i], plain.preprocess({"state": frames[:, :, i]}, "state"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Checkpoint, `make_policy`, `params` and metrics of a short run of cart-pole with history and delay."""
    folder = tmp_path_factory.mktemp("run")
    make_policy, params, metrics = torch_ppo.train(
        "cartpole", 400, num_envs=4, unroll_length=5, batch_size=4, num_minibatches=2, episode_length=20, num_eval_envs=6,
        deterministic_eval=True, device="cpu", seed=3, save_checkpoint_path=str(folder), **SMALL, **LATE,
    )  # fmt: skip
    (checkpoint,) = folder.glob("*.pt")
    return checkpoint, make_policy, params, metrics


def test_evaluate_has_the_history_and_the_delay_of_the_run(trained):
    checkpoint, make_policy, params, metrics = trained
    expected = pytest.approx(metrics["eval/episode_reward"], rel=1e-5)
    assert torch_ppo.evaluate(checkpoint, episodes=6, seed=3, episode_length=20).mean == expected
    assert torch_ppo.evaluate(checkpoint, "cartpole", episodes=6, seed=3, episode_length=20).mean == expected
    env = torch_ppo.make_env("cartpole", 6, seed=3, episode_length=20, **LATE)
    policy = make_policy(params, deterministic=True)
    assert torch_ppo.evaluate(policy, env, episodes=6).returns.isfinite().all()
    with pytest.raises(UserError, match=r"the policy sees observations \(\.\.\., 15\), not \(1, 5\)"):
        policy(torch.zeros(1, 5))


def test_rollout_shows_the_stacks_that_the_policy_saw(trained):
    shown = torch_ppo.rollout(trained[0], steps=8, num_envs=2)
    frames = shown.observations.unflatten(-1, (3, 5))  # (steps, num_envs, 3, 5)
    assert torch.equal(frames[1:, :, :2], frames[:-1, :, 1:])
    assert torch.equal(frames[0, :, 0], frames[0, :, 2]) and not torch.equal(frames[3, :, 0], frames[3, :, 2])


def test_play_has_them_too(trained, monkeypatch, tmp_path, capsys):
    played = player.make_player(player.PlayArguments(run=trained[0], env="cartpole", steps=5))
    assert played.env.observation["state"].shape[1] == 3 * 5 and (played.env.delay.low, played.env.delay.high) == (1, 2)
    for _ in player.play(played, 5):
        pass
    assert "return" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated")
def test_an_exported_policy_takes_the_stack(trained, tmp_path):
    from torch_ppo.export import export_policy

    agent = agent_from_checkpoint(load_checkpoint(trained[0]))
    export_policy(agent, tmp_path / "policy.pt")
    exported, stack = torch.jit.load(str(tmp_path / "policy.pt")), torch_ppo.FrameStack(3)
    env = torch_ppo.make_env("cartpole", **LATE)
    plain = torch_ppo.make_env("cartpole", action_delay=LATE["action_delay"])
    for _ in range(6):
        expected = agent.mode(env.observation)
        found = exported(stack(plain.observation["state"]))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
        env.step(expected)
        plain.step(expected)


@pytest.mark.parametrize("value", [2, (0, 3)])
def test_a_delay_in_files(value, tmp_path):
    config = Config(env="cartpole", num_timesteps=100, batch_size=4, num_minibatches=1, history=2, action_delay=value)
    (tmp_path / "config.toml").write_text(to_toml(config))
    assert load_config(str(tmp_path / "config.toml")) == config


@pytest.mark.parametrize(("given", "value"), [(["2"], 2), (["0", "3"], (0, 3))], ids=["a number", "least and greatest"])
def test_a_delay_on_the_command_line(given, value, monkeypatch, tmp_path):
    from torch_ppo.train import main

    monkeypatch.chdir(tmp_path)
    options = "--env cartpole --num-timesteps 20 --num-envs 2 --batch-size 2 --num-minibatches 1 --no-run-evals".split()
    options += ["--unroll-length", "5", "--run-dir", "run", "--history", "2", "--action-delay", *given]
    monkeypatch.setattr(sys, "argv", ["train", *options])
    main()
    assert load_config("run/config.toml").action_delay == value


def test_networks_of_another_history_are_refused(tmp_path):
    small = {
        "num_envs": 2,
        "batch_size": 2,
        "num_minibatches": 1,
        "unroll_length": 5,
        "num_eval_envs": 2,
        "device": "cpu",
    }
    _, params, _ = torch_ppo.train(ToyTask(), 10, history=2, episode_length=10, **small, **SMALL)
    with pytest.raises(UserError, match="does not fit"):
        torch_ppo.train(ToyTask(), 10, history=3, episode_length=10, restore_params=params, **small, **SMALL)
