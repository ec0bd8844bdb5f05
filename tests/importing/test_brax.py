"""Checkpoints of Brax: arrays, actions and values that Brax made (tools/brax_checkpoints.py), and Brax itself where it is."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.agents import AGENTS, make_trained_agent
from torch_ppo.importing import brax, orbax_folder, to_brax
from torch_ppo.importing.imported import ForeignError, agent_of, check_agent
from torch_ppo.importing.pickles import read_pickle
from torch_ppo.settings.config import Config

FOLDER = Path(__file__).parent / "brax"
CASES = sorted(path.stem for path in FOLDER.glob("*.npz"))
SETTINGS = {
    "tanh_normal": {"activation": "swish", "distribution_type": "tanh_normal", "normalize_observations": True},
    "not_normalized": {"activation": "relu", "normalize_observations": False},
    "asymmetric": {"activation": "elu", "value_obs_key": "privileged_state", "normalize_observations_std_eps": 0.01},
    "log_std": {"distribution_type": "normal", "noise_std_type": "log", "init_noise_std": 0.5},
    "scalar_std": {"noise_std_type": "scalar", "activation": "gelu", "normalize_observations_mode": "ema"},
    "state_dependent_std": {"state_dependent_std": True, "mean_clip_scale": 2.0, "layer_norm": False},
    "distributional": {"use_distributional_critic": True, "num_quantiles": 4},
}


def case(name):
    """Brax's parameters, its network configuration, observations, actions and values."""
    with np.load(FOLDER / f"{name}.npz") as arrays:
        found = dict(arrays)
    params, observation = [{}, {}, {}], {}
    for path, array in found.items():
        kind, _, rest = path.partition("/")
        if kind == "observation":
            observation[rest] = torch.from_numpy(array)
        elif kind == "params":
            number, *names = rest.split("/")
            place = params[int(number)]
            for part in names[:-1]:
                place = place.setdefault(part, {})
            place[names[-1]] = array
    network = json.loads((FOLDER / f"{name}.json").read_text())
    return params, network, observation, torch.from_numpy(found["action"]), torch.from_numpy(found["value"])


def imported_agent(params, network, given=None):
    imported = brax.read(params, network, given or {})
    agent = agent_of(imported, Config(**{"num_timesteps": 1, **(given or {}), **imported.settings}))
    return imported, agent


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_acts_and_values_as_brax(name):
    params, network, observation, action, value = case(name)
    imported, agent = imported_agent(params, network)
    with torch.no_grad():
        close(agent.mode(observation), action)
        close(agent.values(observation), value)
    assert check_agent(agent, imported) <= 1e-5
    assert SETTINGS[name].items() <= imported.settings.items()
    assert imported.settings["policy_hidden_layer_sizes"] == (8, 6)
    assert imported.settings["value_hidden_layer_sizes"] == (7,)


def test_there_are_all_cases():
    assert sorted(SETTINGS) == CASES


@pytest.mark.parametrize("name", CASES)
def test_back_to_brax(name):
    """What is written of it has Brax's arrays, bit for bit, and a configuration that makes the same networks."""
    params, network, *_ = case(name)
    imported, agent = imported_agent(params, network)
    config = Config(**{"num_timesteps": 1, **imported.settings})
    written, again = to_brax.write(agent, config, imported.observation_sizes, imported.action_dim)
    for theirs, ours in zip(params, written, strict=True):
        theirs, ours = (dict(brax._leaves(tree)) for tree in (theirs, ours))
        assert theirs.keys() == ours.keys()
        for path, array in theirs.items():
            if path[-1:] == ("summed_variance",) and name == "scalar_std":  # Brax reads it as welford's
                array = array * int(params[0]["count"]["lo"])
            np.testing.assert_allclose(ours[path], array, rtol=1e-6, err_msg="/".join(path))
            assert np.asarray(ours[path]).shape == array.shape
    theirs, ours = (dict(x["network_factory_kwargs"]) for x in (network, again))
    theirs["activation"] = theirs["activation"].replace("silu", "swish")  # one and the same
    assert {key: theirs[key] for key in ours} == ours
    assert again["observation_size"] == network["observation_size"]
    assert again["action_size"] == network["action_size"]
    assert again["normalize_observations"] == network["normalize_observations"]


@pytest.mark.parametrize("name", ["asymmetric", "tanh_normal"])
def test_pickle_needs_trust_and_no_jax(name, monkeypatch):
    path = FOLDER / f"{name}.pickle"
    with pytest.raises(ForeignError, match="--trust"):
        read_pickle(path, trusted=False)
    monkeypatch.setitem(__import__("sys").modules, "jax", None)
    _, network, observation, action, value = case(name)
    given = {"activation": network["network_factory_kwargs"]["activation"]}
    if name == "asymmetric":
        given["value_obs_key"] = "privileged_state"
    imported, agent = imported_agent(read_pickle(path, trusted=True), None, given)
    with torch.no_grad():
        close(agent.mode(observation), action)
        close(agent.values(observation), value)
    assert imported.settings["normalize_observations"] and "normalised" in imported.notes[0]


def test_without_a_value_network():
    """As older versions of Brax return and save them."""
    params, network, observation, action, _ = case("tanh_normal")
    imported, agent = imported_agent(tuple(params[:2]), network)
    with torch.no_grad():
        close(agent.mode(observation), action)
    assert "--no-restore-value-fn" in imported.notes[-1] and check_agent(agent, imported) <= 1e-5
    assert not [name for name in imported.weights if name.startswith("value.")]


def test_initialisers_move_in_too():
    """They matter to new networks only; what has no counterpart is a note."""
    params, network, *_ = case("tanh_normal")
    network["network_factory_kwargs"] |= {
        "policy_network_kernel_init_fn": "orthogonal",
        "policy_network_kernel_init_kwargs": {"scale": 0.5},
        "value_network_kernel_init_fn": "truncated_normal",
    }
    imported, agent = imported_agent(params, network)
    assert imported.settings["policy_network_kernel_init_fn"] == "orthogonal"
    assert imported.settings["policy_network_kernel_init_scale"] == 0.5
    assert "value_network_kernel_init_fn" not in imported.settings and "truncated_normal" in imported.notes[0]
    written = to_brax.write(agent, Config(num_timesteps=1, **imported.settings), imported.observation_sizes, 3)[1]
    assert written["network_factory_kwargs"]["policy_network_kernel_init_kwargs"] == {"scale": 0.5}


class Frozen:
    """Pickles as flax's FrozenDict does."""

    def __init__(self, content):
        self.content = content

    def __reduce__(self):
        return (type(self), (self.content,))


def test_frozen_dictionaries(tmp_path):
    params, network, observation, action, _ = case("tanh_normal")
    Frozen.__qualname__ = Frozen.__name__ = "FrozenDict"
    globals()["FrozenDict"] = Frozen
    content = pickle.dumps((params[0], *(Frozen({"params": Frozen(x["params"])}) for x in params[1:])))
    (tmp_path / "p").write_bytes(content)
    _, agent = imported_agent(read_pickle(tmp_path / "p", trusted=True), network)
    with torch.no_grad():
        close(agent.mode(observation), action)


class Bomb:
    def __reduce__(self):
        return (open, ("bomb", "w"))


def test_a_pickle_runs_nothing(tmp_path, monkeypatch):
    """Whatever it names; even what looks like parameters has no effect beyond arrays."""
    monkeypatch.chdir(tmp_path)
    Path("evil.pickle").write_bytes(pickle.dumps([Bomb(), {"a": np.arange(3)}]))
    bomb, rest = read_pickle(Path("evil.pickle"), trusted=True)
    assert not Path("bomb").exists() and bomb.args == ("bomb", "w")
    assert rest["a"].tolist() == [0, 1, 2]


def change(params, path, value):
    *names, last = path.split("/")
    place = params[int(names[0])]
    for name in names[1:]:
        place = place[name]
    place[last] = value


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        ("1/params/CNN_0", {"Conv_0": {"kernel": np.zeros((3, 3))}}, "CNN_0.*no counterpart"),
        ("1/params/hidden_1/kernel", np.zeros((9, 6), np.float32), "do not fit"),
        ("1/params/hidden_0/kernel", np.full((5, 8), np.nan, np.float32), "not all finite"),
        ("1/params", {}, "no layers"),
        ("2/params", {"Dense_0": {}}, "value network has Dense_0"),
        ("0/mean", np.zeros((2, 2), np.float32), "no vector"),
        ("1/params/hidden_1", {"kernel": np.zeros((8, 6))}, "hidden_1"),
        ("1/params/LayerNorm_0", {"scale": np.ones(8), "bias": np.zeros(8)}, "layer norm"),
    ],
)
def test_refused_in_one_line(path, value, match):
    params, network, *_ = case("tanh_normal")
    change(params, path, value)
    with pytest.raises(ForeignError, match=match):
        imported_agent(params, network)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"network_factory_kwargs": {"normalise_channels": True}}, "normalise_channels"),
        ({"network_factory_kwargs": None}, "network_factory_kwargs"),
        ({"network_factory_kwargs": {"distribution_type": "normal"}}, "distribution_type"),
        ({"observation_size": {"pixels/view_0": [8, 8, 3], "state": [5]}}, "pixels"),
    ],
)
def test_network_configuration_refused(changes, match):
    params, network, *_ = case("tanh_normal")
    with pytest.raises(ForeignError, match=match):
        imported_agent(params, {**network, **changes})


@pytest.mark.parametrize(
    "wrong", [None, 3, [], [{}], [{}, {}], [{}, {}, {}], [{"mean": 1}, {"params": {}}, {"params": {}}]]
)
def test_not_parameters(wrong):
    with pytest.raises(ForeignError):
        brax.read(wrong, None, {})


def test_unknown_activation():
    params, network, *_ = case("tanh_normal")
    network["network_factory_kwargs"]["activation"] = "relu6"
    with pytest.raises(ValueError, match="relu6"):
        imported_agent(params, network)


def test_layer_norm_in_both():
    """Of a factory of one's own: flax's layer norm after the activation, checked against NumPy's."""
    params, network, *_ = case("tanh_normal")
    numbers = np.random.default_rng(0)
    for number, sizes in ((1, (8, 6)), (2, (7,))):
        for i, size in enumerate(sizes):
            scale, bias = numbers.standard_normal((2, size)).astype(np.float32)
            params[number]["params"][f"LayerNorm_{i}"] = {"scale": scale, "bias": bias}
    imported, agent = imported_agent(params, network)
    assert imported.settings["layer_norm"] and check_agent(agent, imported) <= 1e-5
    with pytest.raises(ForeignError, match="layer_norm"):
        to_brax.write(agent, Config(num_timesteps=1, layer_norm=True), imported.observation_sizes, 3)


def test_what_brax_lacks():
    agent = make_trained_agent("tanh_normal")
    with pytest.raises(ForeignError, match="normalizer_clip"):
        to_brax.write(agent, Config(num_timesteps=1, normalize_observations=True, normalizer_clip=5.0), {"state": 5}, 2)
    with pytest.raises(ForeignError, match="vision"):
        to_brax.write(agent, Config(num_timesteps=1, vision=True), {"state": 5}, 2)
    agent.policy = torch.nn.Linear(5, 2)
    with pytest.raises(ForeignError, match="make_ppo_networks"):
        to_brax.write(agent, Config(num_timesteps=1), {"state": 5}, 2)


def test_folders(tmp_path):
    with pytest.raises(ForeignError, match="there is no"):
        orbax_folder.find_checkpoint(tmp_path / "nowhere")
    with pytest.raises(ForeignError, match="no checkpoint of Orbax"):
        orbax_folder.find_checkpoint(tmp_path)
    (tmp_path / "sac_network_config.json").write_text("{}")
    with pytest.raises(ForeignError, match="only checkpoints of PPO"):
        orbax_folder.read_network(tmp_path)
    for steps in ("000000000900", "000000001000"):
        (tmp_path / steps).mkdir()
        (tmp_path / steps / "_METADATA").touch()
    assert orbax_folder.env_steps_of(orbax_folder.find_checkpoint(tmp_path)) == 1000


# From here on with Brax itself.


@pytest.fixture
def generator(recwarn):
    pytest.importorskip("orbax.checkpoint", reason="Brax's checkpoints are an optional extra")
    pytest.importorskip("brax", reason="Brax is not installed")
    from tools import brax_checkpoints

    return brax_checkpoints


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_reads_what_brax_saves(name, generator, tmp_path):
    folder = generator.save_brax(tmp_path, name)
    found = orbax_folder.find_checkpoint(tmp_path)
    assert found == folder and orbax_folder.env_steps_of(found) == generator.STEPS
    _, agent = imported_agent(orbax_folder.read_params(found), orbax_folder.read_network(found))
    seen, action, value = generator.answers(name)
    seen = {key: torch.from_numpy(x) for key, x in seen.items()}
    with torch.no_grad():
        close(agent.mode(seen), torch.tensor(action))
        close(agent.values(seen), torch.tensor(value))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in AGENTS if name != "layer_norm"])
def test_brax_loads_what_is_written(name, generator, tmp_path):
    """By Brax's own `load_policy`: actions; by its networks: values."""
    import jax
    from brax.training.acme import running_statistics
    from brax.training.agents.ppo import checkpoint, networks

    agent, (sizes, settings) = make_trained_agent(name), AGENTS[name]
    config = Config(num_timesteps=1, policy_hidden_layer_sizes=(16, 16), value_hidden_layer_sizes=(8,), **settings)
    orbax_folder.write(tmp_path / "000000000010", *to_brax.write(agent, config, sizes, 2))
    seen = {key: 3.0 * torch.rand(16, size, generator=torch.Generator().manual_seed(2)) for key, size in sizes.items()}
    given = {key: x.numpy() for key, x in seen.items()} if len(sizes) > 1 else seen["state"].numpy()
    policy = checkpoint.load_policy(tmp_path / "000000000010")
    action, _ = policy(given, jax.random.PRNGKey(0))
    params = checkpoint.load(tmp_path / "000000000010")
    options = checkpoint.load_config(tmp_path / "000000000010")
    normalize = {"preprocess_observations_fn": running_statistics.normalize} if config.normalize_observations else {}
    made = networks.make_ppo_networks(
        options.to_dict()["observation_size"], 2, **normalize, **options.network_factory_kwargs
    )
    value = made.value_network.apply(params[0], params[2], given)
    with torch.no_grad():
        close(agent.mode(seen), torch.tensor(np.asarray(action)))
        close(agent.values(seen), torch.tensor(np.asarray(value)))
