"""Policies from files: the same actions from a run folder, a checkpoint and an exported file."""

import pytest
import torch

import torch_ppo
from tests.helpers.toy import ToyTask
from torch_ppo.export import export_policy
from torch_ppo.running.checkpoint import load_checkpoint, save_checkpoint
from torch_ppo.running.saved_policy import PolicyError
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config
from torch_ppo.settings.files import to_toml


@pytest.fixture
def run(tmp_path):
    """A run folder with two checkpoints that differ, and the policy of the best one; the agents by name."""
    agents = {}
    for name, seed in {"last": 0, "best": 1}.items():
        config = Config(env="toy", num_timesteps=1, seed=seed, run_evals=False, device="cpu")
        state = TrainingState(config, ToyTask())
        save_checkpoint(state.checkpoint(), tmp_path / "checkpoints" / f"{name}.pt")
        agents[name] = state.agent
    (tmp_path / "config.toml").write_text(to_toml(state.config))
    export_policy(state.agent, tmp_path / "policy.pt")
    return tmp_path, agents


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("file", "checkpoint", "agent"),
    [
        ("", "best", "best"),
        ("", "last", "last"),
        ("checkpoints/last.pt", "best", "last"),  # a file is what it is
        ("policy.pt", "best", "best"),
    ],
)
def test_most_likely_actions(run, file, checkpoint, agent):
    folder, agents = run
    policy = torch_ppo.load_policy(folder / file, checkpoint=checkpoint)
    agent = agents[agent]
    observation = torch.randn(3, 2, agent.normalizer[agent.policy_obs_key].mean.shape[0])
    with torch.no_grad():
        expected = agent.mode({agent.policy_obs_key: observation})
    for given in (observation, {agent.policy_obs_key: observation}):
        torch.testing.assert_close(policy(given), expected, atol=1e-6, rtol=0)
    assert policy.config.env == "toy" and not policy(observation).requires_grad


def test_samples_are_those_of_the_agent(run):
    folder, agents = run
    policy = torch_ppo.load_policy(str(folder), deterministic=False)
    observation = torch.randn(5, policy.observation_sizes[policy.obs_key])
    noise = torch.randn(5, policy.action_dim, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = agents["best"].sample({policy.obs_key: observation}, noise)
    assert torch.equal(policy(observation, torch.Generator().manual_seed(3)), expected)


def test_what_cannot_be(run, tmp_path):
    folder, _ = run
    with pytest.raises(PolicyError, match="a checkpoint can sample"):
        torch_ppo.load_policy(folder / "policy.pt", deterministic=False)
    with pytest.raises(torch_ppo.UserError, match="there is no run folder or checkpoint"):
        torch_ppo.load_policy(tmp_path / "nothing")
    policy = torch_ppo.load_policy(folder)
    with pytest.raises(PolicyError, match=r"sees observations \(\.\.\., 5\), not \(4, 1\)"):
        policy(torch.zeros(4, 1))
    with pytest.raises(PolicyError, match="which is not among camera, map"):
        policy({"camera": torch.zeros(1, 5), "map": torch.zeros(1, 5)})


@pytest.mark.parametrize(("part", "number"), [("policy.", float("nan")), ("normalizer.", float("inf"))])
def test_what_would_act_on_no_numbers_is_refused(run, part, number):
    """MuJoCo takes such an action for 0, and episodes would look sound."""
    folder, _ = run
    file = folder / "checkpoints" / "best.pt"
    saved = load_checkpoint(file)
    found = next(name for name, x in saved["agent"].items() if name.startswith(part) and x.is_floating_point())
    saved["agent"][found].view(-1)[0] = number
    save_checkpoint(saved, file)
    with pytest.raises(torch_ppo.UserError, match=f"its {found} has inf or NaN in it"):
        torch_ppo.load_policy(folder)


def test_the_value_network_may_have_gone_astray(run):
    """It does not act."""
    folder, _ = run
    file = folder / "checkpoints" / "best.pt"
    saved = load_checkpoint(file)
    for name, x in saved["agent"].items():
        if name.startswith("value."):
            x.fill_(float("nan"))
    save_checkpoint(saved, file)
    assert torch_ppo.load_policy(folder)(torch.zeros(1, 5)).isfinite().all()
