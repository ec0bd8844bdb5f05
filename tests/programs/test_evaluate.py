"""The call and the program `evaluate`: whole episodes, as many as asked for, the same as the trainer's own."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import torch_ppo
from tests.helpers.toy import ToyTask
from torch_ppo import evaluate as program
from torch_ppo.evaluate import _row
from torch_ppo.export import export_policy
from torch_ppo.running.checkpoint import agent_from_checkpoint, load_checkpoint, save_checkpoint
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config
from torch_ppo.settings.files import to_toml
from torch_ppo.simulation.env import Env

EPISODES = 24


def still(observation):
    """Does nothing."""
    return torch.zeros(len(observation), 2)


@pytest.fixture(scope="module", params=[True, False], ids=["mode", "samples"])
def trained(request, tmp_path_factory):
    """The only checkpoint of a short run of cart-pole, the metrics of its only evaluation, and whether that sampled."""
    folder = tmp_path_factory.mktemp("run")
    make_policy, params, metrics = torch_ppo.train(
        "cartpole",
        2_000,
        num_envs=16,
        unroll_length=10,
        batch_size=16,
        num_minibatches=2,
        learning_rate=1e-3,
        action_repeat=2,
        episode_length=80,
        num_eval_envs=EPISODES,
        deterministic_eval=request.param,
        seed=3,
        device="cpu",
        save_checkpoint_path=str(folder),
    )
    (checkpoint,) = folder.glob("*.pt")
    return checkpoint, make_policy(params, deterministic=True), metrics, request.param


def test_the_same_seed_gives_the_trainers_own_evaluation(trained):
    checkpoint, _, metrics, deterministic = trained
    result = torch_ppo.evaluate(checkpoint, episodes=EPISODES, seed=3, deterministic=deterministic)
    assert result.env == "cartpole" and result.lengths.tolist() == [80] * EPISODES
    assert result.mean == pytest.approx(metrics["eval/episode_reward"], rel=1e-5)
    assert result.std == pytest.approx(metrics["eval/episode_reward_std"], rel=1e-4)


@pytest.mark.parametrize("settings", [{}, {"randomize": True}, {"randomize": True, "randomize_eval": False}])
def test_models_of_their_own_where_the_run_evaluated_with_them(settings, tmp_path):
    _, _, metrics = torch_ppo.train(
        "quadruped_joystick",
        20,
        num_envs=2,
        unroll_length=5,
        batch_size=2,
        num_minibatches=1,
        episode_length=10,
        num_eval_envs=3,
        deterministic_eval=True,
        save_checkpoint_path=str(tmp_path),
        device="cpu",
        **settings,
    )
    result = torch_ppo.evaluate(max(tmp_path.glob("*.pt")), episodes=3)
    assert result.mean == pytest.approx(metrics["eval/episode_reward"], rel=1e-5)


def test_another_seed_agrees_within_two_standard_errors(trained):
    checkpoint, _, metrics, deterministic = trained
    result = torch_ppo.evaluate(checkpoint, episodes=100, seed=11, deterministic=deterministic)
    of_trainer = metrics["eval/episode_reward_std"] / np.sqrt(EPISODES - 1)
    difference = abs(result.mean - metrics["eval/episode_reward"])
    assert 0.0 < difference < 2 * np.hypot(result.standard_error, of_trainer)


def test_what_a_policy_may_be(trained, tmp_path):
    """Checkpoint, run folder, exported file, policy of load_policy, policy of make_policy, function: the same returns."""
    checkpoint, made, _, _ = trained
    folder = tmp_path / "run"
    saved = load_checkpoint(checkpoint)
    save_checkpoint(saved, folder / "checkpoints" / "best.pt")
    (folder / "config.toml").write_text(to_toml(Config(**saved["config"])))
    agent = agent_from_checkpoint(saved)
    export_policy(agent, folder / "policy.pt")
    expected = torch_ppo.evaluate(str(checkpoint), episodes=5)
    exported = folder / "policy.pt"
    for policy in (folder, exported, torch_ppo.load_policy(checkpoint), torch_ppo.load_policy(exported)):
        result = torch_ppo.evaluate(policy, episodes=5)
        torch.testing.assert_close(result.returns, expected.returns, rtol=1e-4, atol=1e-4)

    env = torch_ppo.make_env("cartpole", 5, action_repeat=2, episode_length=80)
    result = torch_ppo.evaluate(torch_ppo.load_policy(checkpoint), env, episodes=5)
    for function in (made, lambda observation: made(observation)[0].numpy()):
        env = torch_ppo.make_env("cartpole", 5, action_repeat=2, episode_length=80)
        torch.testing.assert_close(torch_ppo.evaluate(function, env, episodes=5).returns, result.returns)
    assert not torch.equal(result.returns, expected.returns)  # an Env has its own start states


@pytest.mark.parametrize("num_envs", [3, 7, 20])
def test_only_first_episodes_count(num_envs):
    """Against a plain loop: the toy's episodes end early, some of them much earlier than others."""

    def make_env():
        return Env(
            ToyTask(limit=0.35),
            num_envs,
            episode_length=30,
            device=torch.device("cpu"),
            generator=torch.Generator().manual_seed(5),
            auto_reset="random",
        )

    result = torch_ppo.evaluate(still, make_env(), episodes=10)
    env, first = make_env(), [None] * num_envs
    env.reset()
    while None in first:
        env.step(torch.zeros(num_envs, 2))
        for i in range(num_envs):
            if env.done[i] and first[i] is None:
                first[i] = {name: total[i].item() for name, total in env.episode_metrics.items()}
    first = first[:10]  # of the first round
    assert len({episode["length"] for episode in first}) > 1
    for i, episode in enumerate(first):
        assert result.returns[i].item() == pytest.approx(episode["sum_reward"], rel=1e-5)
        assert result.metrics["cost"][i].item() == pytest.approx(episode["cost"], rel=1e-4, abs=1e-6)
        assert result.lengths[i].item() == episode["length"]
    assert len(result.returns) == len(result.lengths) == len(result.metrics["cost"]) == 10


def test_short_episodes_are_not_counted_more_often():
    """Half of the envs end after one step, again and again; they are half of the episodes."""

    class Halves(ToyTask):
        def terminated(self, physics, memory):
            return torch.arange(physics.num_envs) % 2 == 0

    result = torch_ppo.evaluate(still, Halves(), episodes=40, num_envs=8, episode_length=50)
    assert result.lengths.unique(return_counts=True)[1].tolist() == [20, 20]


def test_rounds_have_start_states_of_their_own():
    result = torch_ppo.evaluate(still, ToyTask(limit=None), episodes=12, num_envs=4, episode_length=5)
    assert len(result.returns.unique()) == 12


def test_metrics():
    """A "...per_step" is a mean, all others are sums, as in a run's evaluations."""

    def push(observation):
        return torch.full((len(observation), 2), 0.5)

    result = torch_ppo.evaluate(push, ToyTask(limit=None), episodes=3, episode_length=7)
    torch.testing.assert_close(result.metrics["effort_per_step"], torch.full((3,), 0.5))
    assert result.metrics.keys() == {"cost", "effort_per_step"} and (result.metrics["cost"] > 0).all()


def test_line_and_numbers():
    returns = torch.tensor([10.0, 20.0, 60.0])
    result = torch_ppo.Evaluation("walk", returns, torch.tensor([100, 200, 300], dtype=torch.int32), {})
    assert result.mean == 30.0 and result.std == pytest.approx(np.std(returns.numpy()))
    assert result.standard_error == pytest.approx(np.std(returns.numpy(), ddof=1) / np.sqrt(3))
    assert str(result) == "walk: return 30.0 ± 21.6 (standard error 15), length 200, 3 episodes"
    one = torch_ppo.Evaluation("walk", returns[:1] / 100, torch.tensor([7]), {})
    assert str(one) == "walk: return 0.100 ± 0.000 (standard error -), length 7, 1 episode"
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.returns = returns


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((still,), {}, "the task is not known"),
        ((still, "cartpol"), {}, "did you mean 'cartpole'"),
        ((still, ToyTask), {}, r"must be a task: ToyTask\(\) would work"),
        ((still, "cartpole"), {}, r"the policy does not fit cartpole: its actions are \(2, 2\), but must be \(2, 1\)"),
        ((3, "cartpole"), {}, "the policy is int, but must be a run folder"),
        ((still, ToyTask()), {"episodes": 10**20}, "episodes is 1.*0, but must be 1,000,000 at most; 100 would work"),
        ((still, ToyTask()), {"episodes": 0}, "episodes is 0, but must be an int greater than 0"),
        ((still, ToyTask()), {"num_envs": 0}, "num_envs is 0, but must be greater than 0"),
        ((still, ToyTask()), {"seed": -1}, "seed is -1"),
        ((still, ToyTask()), {"physics": "bullet"}, "physics is 'bullet', but must be one of 'auto'"),
        ((still, ToyTask()), {"deterministic": False}, "for a run folder or a checkpoint"),
        (("nowhere",), {}, "there is no run folder or checkpoint nowhere"),
    ],
)
def test_what_cannot_be(arguments, options, message):
    with pytest.raises(torch_ppo.UserError, match=message):
        torch_ppo.evaluate(*arguments, **{"episodes": 2, **options})


def test_an_env_has_settings_of_its_own():
    env = torch_ppo.make_env(ToyTask(), 2)
    with pytest.raises(torch_ppo.UserError, match="episode_length is 9, but env is an environment"):
        torch_ppo.evaluate(still, env, episode_length=9)


def test_policy_of_another_task(tmp_path):
    config = Config(env="toy", num_timesteps=1, run_evals=False, device="cpu")
    state = TrainingState(config, ToyTask())
    save_checkpoint(state.checkpoint(), tmp_path / "toy.pt")
    export_policy(state.agent, tmp_path / "policy.pt")
    with pytest.raises(
        torch_ppo.UserError, match="it observes state 5, but pendulum_swingup gives state 3; it has 2 actions"
    ):
        torch_ppo.evaluate(tmp_path / "toy.pt", "pendulum_swingup", episodes=2)
    with pytest.raises(torch_ppo.UserError, match=r"policy\.pt does not fit: it observes state 5, but pend"):
        torch_ppo.evaluate(tmp_path / "policy.pt", "pendulum_swingup", episodes=2)
    assert torch_ppo.evaluate(tmp_path / "toy.pt", ToyTask(), episodes=2).env == "ToyTask"


def test_program(trained, monkeypatch, capsys):
    checkpoint, _, _, deterministic = trained
    expected = torch_ppo.evaluate(checkpoint, episodes=4, seed=2, deterministic=deterministic)
    options = ["--episodes", "4", "--seed", "2", *([] if deterministic else ["--stochastic"])]
    monkeypatch.setattr(sys, "argv", ["torch_ppo.evaluate", str(checkpoint), *options])
    program.main()
    assert capsys.readouterr().out == f"{expected}\n"
    monkeypatch.setattr(sys, "argv", ["torch_ppo.evaluate", "nowhere"])
    with pytest.raises(SystemExit, match="2"):
        program.main()
    said = capsys.readouterr().err
    assert (
        said.startswith("error: there is no run folder or checkpoint nowhere, and no task")
        and "ant, biped_joystick, cartpole" in said
    )


def test_a_table_of_perturbations(monkeypatch, capsys):
    """Errors as the program's line has them: none of one episode, and no exponent in a large one."""
    lengths = torch.tensor([7, 7])
    for returns, error in (([1.0, 2.0], "0.5"), ([100.0, 400.0], "150"), ([3.0], "-")):
        result = torch_ppo.Evaluation("walk", torch.tensor(returns), lengths[: len(returns)], {})
        monkeypatch.setattr(program, "sim_to_sim", lambda *_, result=result, **__: result)
        program.print_robustness(program.EvaluateArguments(Path("run")), "mass=1..1")
        assert capsys.readouterr().out.splitlines()[1].split()[-3] == error


def test_program_prints_metrics(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(program, "find_acting", lambda *arguments, **options: _acting())
    monkeypatch.setattr(sys, "argv", ["torch_ppo.evaluate", "run", "--episodes", "2"])
    program.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["toy:", "cost", "effort_per_step"]
    assert lines[2] == "  effort_per_step  0 ± 0"


def test_a_long_name_goes_on_below_its_numbers():
    name = "mass 0.8, delay 0, noise 0.05"
    assert _row(name, "1  2", 40) == f"{name:40}  1  2"
    assert _row(name, "1  2", 18) == "mass 0.8, delay 0,  1  2\nnoise 0.05"
    assert _row(name, "1  2", 13) == "mass 0.8,      1  2\ndelay 0,\nnoise 0.05"


def _acting():
    from torch_ppo.running.acting import Acting

    env = torch_ppo.make_env(ToyTask(), 2, episode_length=4)
    return Acting("toy", env, lambda observation: torch.zeros(2, 2))
