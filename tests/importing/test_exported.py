"""Policies that were exported as safetensors, brought in again: against the agents that they were of."""

import pytest
import torch

from torch_ppo.errors import UserError
from torch_ppo.exporting import safetensors_file
from torch_ppo.exporting.contract import Known, make_contract
from torch_ppo.exporting.deployed import deployed
from torch_ppo.importing.imported import ForeignError, agent_of, check_agent
from torch_ppo.importing.reading import Given, read
from torch_ppo.learning.agent import make_agent
from torch_ppo.running.saved_policy import load_policy
from torch_ppo.settings.config import Config

SIZE, ACTIONS = 6, 2
KINDS = {
    "brax": {},
    "log": {"distribution_type": "normal", "noise_std_type": "log", "activation": "elu"},
    "head": {"distribution_type": "normal", "state_dependent_std": True, "layer_norm": True, "mean_clip_scale": 2.0},
    "raw": {"normalize_observations": False, "policy_hidden_layer_sizes": (7,)},
    "clip": {"normalize_observations": True, "normalizer_clip": 3.0, "action_repeat": 4, "action_delay": (0, 2)},
    "stack": {"normalize_observations": True, "history": 3},
    "key": {"normalize_observations": True, "policy_obs_key": "proprio", "value_obs_key": "all"},
}


def trained(kind):
    """An agent with weights and statistics of its own, and its configuration."""
    settings = {"normalize_observations": True, "policy_hidden_layer_sizes": (5, 4), **KINDS[kind]}
    config = Config(env="cartpole", num_timesteps=1, value_hidden_layer_sizes=(3,), **settings)
    generator = torch.Generator().manual_seed(7)
    sizes = {"proprio": SIZE, "all": 9} if kind == "key" else {"state": SIZE * config.history}
    agent = make_agent(config, sizes, ACTIONS, generator=generator)
    with torch.no_grad():
        for x in agent.policy.parameters():
            x += 0.3 * torch.randn(x.shape, generator=generator)
    agent.update_normalizer({key: 3 + 2 * torch.randn(50, n, generator=generator) for key, n in sizes.items()})
    return agent.eval(), config


def exported(path, agent, config, **kinds):
    policy = deployed(agent, **kinds)
    origin = {"run": "r", "checkpoint": "best.pt", "env_steps": 1234, "evaluation_reward": None}
    path.write_bytes(safetensors_file.to_bytes(policy, make_contract(agent, policy, Known(config, origin))))
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_it_acts_and_explores_as_the_agent_that_was_exported(kind, tmp_path):
    agent, config = trained(kind)
    trainer, imported = read(exported(tmp_path / "p.safetensors", agent, config), None, Given({}))
    settings = {"env": "cartpole", "num_timesteps": 1, "value_hidden_layer_sizes": (3,), **imported.settings}
    again = agent_of(imported, Config(**settings))
    assert trainer == "torch_ppo" and imported.env_steps == 1234 and check_agent(again, imported) < 1e-5
    (key,) = imported.observation_sizes
    seen = {key: 3 + 4 * torch.randn(40, imported.observation_sizes[key], generator=torch.Generator().manual_seed(1))}
    for ours, theirs in zip(again.policy_params(seen), agent.policy_params(seen), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    for field in ("action_repeat", "action_delay", "history", "distribution_type", "normalizer_clip"):
        assert getattr(Config(**settings), field) == getattr(config, field)
    if not config.normalize_observations:
        return
    statistics = again.normalizer[key]
    before = statistics.std.clone()
    statistics.update(torch.zeros(1, SIZE))  # as one more of many: what it has learned is not forgotten
    torch.testing.assert_close(statistics.std, before, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("origin", [{}, {"run": "r"}])
def test_what_does_not_know_its_run(origin, tmp_path):
    """As `export_policy(agent, path)` writes them, and as it did before the contract said None."""
    agent, config = trained("brax")
    contract = make_contract(agent, deployed(agent), Known(config, origin))
    assert (
        contract["origin"] == {"run": None, "checkpoint": None, "env_steps": None, "evaluation_reward": None} | origin
    )
    for written in (contract, {**contract, "origin": origin}):
        (tmp_path / "p.safetensors").write_bytes(safetensors_file.to_bytes(deployed(agent), written))
        _, imported = read(tmp_path / "p.safetensors", None, Given({}))
        assert imported.env_steps == 0 and load_policy(tmp_path / "p.safetensors").env_steps is None
        assert (
            check_agent(agent_of(imported, Config(env="cartpole", num_timesteps=1, **imported.settings)), imported)
            < 1e-5
        )


def test_what_cannot_be_brought_in(tmp_path):
    agent, config = trained("brax")
    path = exported(tmp_path / "p.safetensors", agent, config)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ForeignError, match="not a whole safetensors file"):
        read(path, None, Given({}))
    path.write_bytes(whole.replace(b"tanh_normal", b"other_thing"))
    with pytest.raises(ForeignError, match="other_thing policy"):
        read(path, None, Given({}))


@pytest.mark.parametrize("trainer", ["brax", "rsl_rl", "sb3", "cleanrl"])
def test_it_is_said_that_no_other_trainer_wrote_it(tmp_path, trainer):
    agent, config = trained("brax")
    path = exported(tmp_path / "p.safetensors", agent, config)
    with pytest.raises(
        ForeignError, match=f"is safetensors, as policies exported here are, not of {trainer}; leave --from out"
    ):
        read(path, trainer, Given({}))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b'"origin"', b'"orogin"', "has a contract without origin"),
        (b'"action_repeat"', b'"action_repaet"', "has a contract without action_repeat"),
        (b'"task"', b'"tusk"', "has a contract without task"),
        (b'"episode_length"', b'"episode_lenght"', "has a contract without task.episode_length"),
        (b'"actuators"', b'"actauters"', "has a contract without action.actuators"),
        (b'"history"', b'"histroy"', "has a contract without observation.history"),
        (b'"observation"', b'"observatoin"', "has a torch_ppo policy that is not whole"),
        (b'"std": {', b'"stf": {', "has a tanh_normal policy that is not whole"),
        (b'{\\"kind\\"', b'[\\"kind\\"', "has a torch_ppo policy that is not whole"),
    ],
)
def test_what_lacks_a_part(tmp_path, old, new, words):
    agent, config = trained("brax")
    path = exported(tmp_path / "p.safetensors", agent, config)
    whole = path.read_bytes()
    quoted = old if old in whole else old.replace(b'"', b'\\"')
    assert quoted in whole
    path.write_bytes(whole.replace(quoted, new if old == quoted else new.replace(b'"', b'\\"')))
    with pytest.raises(ForeignError, match=words):
        read(path, None, Given({}))
    with pytest.raises(UserError, match=words if "contract" in words else "is not a whole exported policy"):
        load_policy(path)


def test_other_things_of_ours_are_called_what_they_are(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.toml").write_text("")
    (tmp_path / "policy.onnx").write_bytes(b"any")
    for path, words in (
        (tmp_path, "is a run of torch_ppo already"),
        (tmp_path / "policy.onnx", r"policy \(onnx\); only saf"),
    ):
        with pytest.raises(ForeignError, match=words):
            read(path, None, Given({}))


def test_of_a_stochastic_export_the_action_without_noise_is_compared(tmp_path):
    agent, config = trained("head")
    path = exported(tmp_path / "p.safetensors", agent, config, stochastic=True)
    _, imported = read(path, None, Given({}))
    again = agent_of(imported, Config(env="cartpole", num_timesteps=1, **imported.settings))
    assert check_agent(again, imported) < 1e-5


def damaged(contract):
    """Contracts in which one part, or a part of a part, is missing or of another kind."""
    for name, value in contract.items():
        for other in (None, [], {}, "x", 3.5):
            yield f"{name} = {other!r}", {**contract, name: other}
        for part in value if isinstance(value, dict) else ():
            yield f"without {name}.{part}", {**contract, name: {key: x for key, x in value.items() if key != part}}
            for other in (None, [], {}, "x", 3.5):
                yield f"{name}.{part} = {other!r}", {**contract, name: {**value, part: other}}


def test_whatever_part_is_damaged_it_is_read_or_refused_in_words(tmp_path):
    agent, config = trained("clip")
    path, surprises, refused = tmp_path / "p.safetensors", [], 0
    policy = deployed(agent)
    for what, contract in damaged(make_contract(agent, policy, Known(config))):
        path.write_bytes(safetensors_file.to_bytes(policy, contract))
        for reader in (load_policy, lambda path: read(path, None, Given({}))):
            try:
                reader(path)
            except UserError as error:
                refused += "\n" not in str(error)
            except (LookupError, TypeError, AttributeError, ValueError) as error:
                surprises.append(f"{what}: {type(error).__name__}: {error}")
    assert not surprises and refused > 100, "\n".join(surprises)
