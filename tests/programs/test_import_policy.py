"""An imported policy is a run: it is played, evaluated, exported and trained on; what does not fit is refused in a line."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from torch_ppo import brax, evaluate, export, import_policy, load_policy, train
from torch_ppo.envs.cartpole import Cartpole
from torch_ppo.errors import UserError
from torch_ppo.export import export_policy
from torch_ppo.exporting.contract import Known
from torch_ppo.running.program import default_config
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config
from torch_ppo.settings.files import read_config

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated")
TINY = "--num-timesteps 320 --num-envs 8 --batch-size 8 --num-minibatches 2 --episode-length 20 --num-eval-envs 4"


def run(monkeypatch, module, line):
    monkeypatch.setattr(sys, "argv", ["program", *line.split()])
    module.main()


def refusal(monkeypatch, capsys, module, line):
    """What the program says, one line, as it ends with status 2."""
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, module, line)
    assert ended.value.code == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("error: ")
    return said


class Agent(nn.Module):
    """CleanRL's, for cart-pole: 5 numbers, 1 action."""

    def __init__(self, observations=5):
        super().__init__()
        torch.manual_seed(0)
        self.critic = nn.Sequential(nn.Linear(observations, 6), nn.Tanh(), nn.Linear(6, 1))
        self.actor_mean = nn.Sequential(nn.Linear(observations, 6), nn.Tanh(), nn.Linear(6, 1))
        self.actor_logstd = nn.Parameter(torch.full((1, 1), -0.5))


@pytest.fixture
def cleanrl(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    agent = Agent()
    torch.save(agent.state_dict(), "agent.pt")
    return agent


def test_a_run_to_go_on_with(cleanrl, monkeypatch, capsys):
    run(monkeypatch, import_policy, "agent.pt theirs --env cartpole")
    printed = capsys.readouterr()
    assert "policy of cleanrl, state 5 -> 1, checked" in printed.out and "--activation" in printed.err
    assert "note: its settings to train on are those of cartpole" in printed.err
    observation = torch.randn(20, 5, generator=torch.Generator().manual_seed(1))
    policy = load_policy("theirs")
    own = read_config(default_config("cartpole")[0])
    assert policy.config.num_envs == own["num_envs"] and policy.config.policy_hidden_layer_sizes == (6,)
    torch.testing.assert_close(policy(observation), cleanrl.actor_mean(observation).detach(), atol=1e-6, rtol=1e-5)
    assert policy.actuators == ("slide",)
    before = evaluate("theirs", episodes=4, episode_length=30)
    run(monkeypatch, export, "theirs")
    after = evaluate("theirs/policy.pt", "cartpole", episodes=4, episode_length=30)
    torch.testing.assert_close(after.returns, before.returns, rtol=1e-4, atol=1e-4)
    line = (
        f"--config theirs --restore-checkpoint-path theirs --env cartpole {TINY} --run-dir mine --learning-rate 1e-12"
    )
    run(monkeypatch, train, line)
    torch.testing.assert_close(load_policy("mine")(observation), policy(observation), rtol=0.0, atol=1e-6)


def test_twice_into_the_same_folder(cleanrl, monkeypatch, capsys):
    """In the words of this program, which has no --run-dir; a file in the way, too."""
    run(monkeypatch, import_policy, "agent.pt theirs --env cartpole")
    capsys.readouterr()
    said = refusal(monkeypatch, capsys, import_policy, "agent.pt theirs --env cartpole")
    assert said.startswith(
        "error: OUT theirs has a run already; a new folder would work, and python -m torch_ppo.train "
    )
    said = refusal(monkeypatch, capsys, import_policy, "agent.pt agent.pt --env cartpole")
    assert said == "error: OUT agent.pt is a file; a new folder would work"


def test_not_resumed(cleanrl, monkeypatch, capsys):
    run(monkeypatch, import_policy, "agent.pt theirs --env cartpole")
    capsys.readouterr()
    assert "--restore-checkpoint-path theirs" in refusal(monkeypatch, capsys, train, "--resume theirs")


def test_settings_move_in_with_it(cleanrl, monkeypatch, tmp_path):
    """Those of the trainer's own configuration; where it and the checkpoint differ, the networks are the checkpoint's."""
    (tmp_path / "args.txt").write_text("--gamma 0.9 --num_envs 4 --num_steps 64 --num_minibatches 4")
    run(monkeypatch, import_policy, "agent.pt theirs --config args.txt --dialect cleanrl")
    config = load_policy("theirs").config
    assert (config.discounting, config.num_envs) == (0.9, 4)
    assert (config.policy_hidden_layer_sizes, config.distribution_type, config.activation) == ((6,), "normal", "tanh")
    run(monkeypatch, import_policy, "agent.pt others --config cartpole_cpu --activation elu")
    config = load_policy("others").config
    assert (config.entropy_cost, config.activation, config.env) == (2e-2, "elu", "cartpole")


def test_settings_of_other_networks_do_not_matter(cleanrl, monkeypatch, tmp_path):
    """A configuration may be of networks that the checkpoint's are not: they are left out, not mixed."""
    (tmp_path / "theirs.toml").write_text(
        "history = 3\nnormalize_observations = true\nnormalizer_clip = 5.0\nuse_distributional_critic = true\n"
        "clipping_epsilon_value = 0.2\nlayer_norm = true\nmean_clip_scale = 0.1\ndistribution_type = 'normal'\n"
    )
    run(monkeypatch, import_policy, "agent.pt theirs --config theirs.toml --env cartpole")
    observation = 100 * torch.randn(20, 5, generator=torch.Generator().manual_seed(1))
    policy = load_policy("theirs")
    torch.testing.assert_close(policy(observation), cleanrl.actor_mean(observation).detach(), atol=1e-6, rtol=1e-5)
    assert (policy.config.history, policy.config.normalizer_clip, policy.config.clipping_epsilon_value) == (
        1,
        None,
        0.2,
    )


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("agent.pt theirs --env reacher_easy", "it observes"),
        (
            "walker_walk theirs --env cartpole_balance_vision",
            "it does not fit: it observes state 24, but cartpole_balance_vision gives no vector",
        ),
        ("nowhere.pt theirs", "there is no checkpoint nowhere.pt"),
        ("agent.pt theirs --from sb3", "whole model of Stable-Baselines3"),
        ("agent.pt theirs --from rsl_rl", "no checkpoint of rsl_rl"),
        ("agent.pt theirs --activation relu6", "relu6"),
        ("agent.pt theirs --dialect cleanrl", "--config"),
        ("agent.pt agent.pt", "is a file"),
        ("agent.pt theirs --normalizer nowhere.npz", "nowhere.npz"),
        ("agent.pt theirs --env no_task", "no_task"),
    ],
)
def test_refused(cleanrl, monkeypatch, capsys, tmp_path, line, says):
    assert says in refusal(monkeypatch, capsys, import_policy, line)
    assert not (tmp_path / "theirs").exists()


def test_a_checkpoint_of_ours(cleanrl, monkeypatch, capsys):
    run(monkeypatch, import_policy, "agent.pt theirs")
    capsys.readouterr()
    assert "already" in refusal(monkeypatch, capsys, import_policy, "theirs/checkpoints/best.pt others")
    assert "has a run already" in refusal(monkeypatch, capsys, import_policy, "agent.pt theirs")


def test_brax_without_orbax(cleanrl, monkeypatch, capsys, tmp_path):
    """Both ways say what to install, and leave nothing."""
    for name in ("orbax", "orbax.checkpoint"):
        monkeypatch.setitem(sys.modules, name, None)
    run(monkeypatch, import_policy, "agent.pt theirs")
    capsys.readouterr()
    assert "[brax]'" in refusal(monkeypatch, capsys, brax, "export theirs written")
    assert not (tmp_path / "written").exists()
    (tmp_path / "1000").mkdir()
    (tmp_path / "1000" / "_METADATA").touch()
    assert "[brax]'" in refusal(monkeypatch, capsys, brax, "import 1000 others")
    assert "import_policy" in refusal(monkeypatch, capsys, brax, "import 1000 others --from sb3")


@pytest.mark.filterwarnings("ignore")
def test_to_brax_and_back(cleanrl, monkeypatch, capsys):
    pytest.importorskip("orbax.checkpoint", reason="Brax's checkpoints are an optional extra")
    run(monkeypatch, train, f"--env cartpole {TINY} --run-dir ours")
    run(monkeypatch, brax, "export ours written")
    run(monkeypatch, brax, "import written back --env cartpole")
    observation = torch.randn(20, 5, generator=torch.Generator().manual_seed(1))
    ours, back = load_policy("ours"), load_policy("back")
    torch.testing.assert_close(back(observation), ours(observation), rtol=0.0, atol=1e-6)
    assert back.env_steps == ours.env_steps
    with pytest.raises(UserError, match="there already"):
        brax.export_to_brax(__import__("pathlib").Path("ours"), __import__("pathlib").Path("written"))


def test_into_an_environment_of_gymnasiums(tmp_path, monkeypatch, capsys):
    """Whose actions reach it as they are; where they would be rescaled, the policy would do something else."""
    gymnasium = pytest.importorskip("gymnasium")
    monkeypatch.chdir(tmp_path)
    agent = Agent(3)
    torch.save(agent.state_dict(), "agent.pt")
    says = refusal(monkeypatch, capsys, import_policy, "agent.pt theirs --env gym:Pendulum-v1")
    assert "from [-2.0] to [2.0], but policies here act there from -1 to 1" in says

    pendulum = gymnasium.envs.classic_control.PendulumEnv
    gymnasium.register(
        "test/Unit-v0",
        lambda: gymnasium.wrappers.RescaleAction(pendulum(), -1.0, 1.0),
        max_episode_steps=20,
    )
    try:
        run(monkeypatch, import_policy, "agent.pt theirs --env gym:test/Unit-v0")
        played = evaluate("theirs", episodes=2)
    finally:
        del gymnasium.registry["test/Unit-v0"]
    assert (played.lengths == 20).all()


def test_a_policy_that_comes_along_is_trained_on_with_another_critic(tmp_path, monkeypatch, capsys):
    """Which sees more than the actor: the policy has no value network, nor statistics of what that sees."""
    monkeypatch.chdir(tmp_path)
    run(monkeypatch, import_policy, "quadruped_joystick flat --env quadruped_joystick_rough")
    assert "no value network" in capsys.readouterr().err
    observation = torch.randn(20, 48, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(load_policy("flat")(observation), load_policy("quadruped_joystick")(observation))
    settings = "--config quadruped_joystick_cpu --env quadruped_joystick_rough --restore-checkpoint-path flat"
    line = f"{settings} --policy-hidden-layer-sizes 64 64 {TINY} --unroll-length 5 --quiet"
    assert "privileged_state 121" in refusal(monkeypatch, capsys, train, f"{line} --run-dir rough")
    run(monkeypatch, train, f"{line} --run-dir rough --no-restore-value-fn")


def test_a_configuration_of_another_task_does_not_bring_its_time_limit(cleanrl, monkeypatch, capsys):
    """As in training: an episode stays as long as its task has it, and a line says so."""
    run(monkeypatch, import_policy, "agent.pt theirs --env cartpole --config cartpole_balance_vision_cpu")
    assert (
        "note: episode_length is 1,000, the task's own; cartpole_balance_vision_cpu has 250" in capsys.readouterr().out
    )
    assert load_policy("theirs").config.episode_length is None
    run(monkeypatch, import_policy, "agent.pt ours --env cartpole --config cartpole_cpu")
    assert load_policy("ours").config.episode_length == read_config("cartpole_cpu").get("episode_length")


def test_a_policy_of_stacks_fits_its_task(cleanrl, monkeypatch):
    """What an exported policy sees is counted in whole stacks, as its run's env gives them."""
    stacked = {**read_config("cartpole_cpu"), "history": 3, "num_envs": 4, "batch_size": 4, "num_minibatches": 1}
    state = TrainingState(Config(**{**stacked, "run_evals": False}), Cartpole())
    export_policy(state.agent, Path("p.safetensors"), known=Known(state.config))
    run(monkeypatch, import_policy, "p.safetensors theirs --env cartpole")
    assert load_policy("theirs").config.history == 3
    found, expected = (evaluate(x, "cartpole", episodes=4, episode_length=30) for x in ("theirs", "p.safetensors"))
    torch.testing.assert_close(found.returns, expected.returns, rtol=1e-4, atol=1e-4)
