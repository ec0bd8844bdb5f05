"""Checkpoints that RSL-RL, SB3 and CleanRL's script saved, with what they acted (tools/foreign_checkpoints.py)."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from torch_ppo.importing.imported import ForeignError, agent_of, check_agent
from torch_ppo.importing.reading import Given, read
from torch_ppo.settings.config import Config

FOLDER = Path(__file__).parent / "others"
FILES = {
    "sb3": ("sb3.zip", Given({}, normalizer=FOLDER / "sb3_vecnormalize.pkl", trusted=True)),
    "rsl_rl": ("rsl_rl.pt", Given({})),
    "cleanrl": ("cleanrl.cleanrl_model", Given({}, normalizer=FOLDER / "cleanrl_normalizer.npz")),
}
SETTINGS = {
    "sb3": {"activation": "elu", "normalizer_clip": 10.0, "policy_hidden_layer_sizes": (8, 6)},
    "rsl_rl": {"activation": "elu", "value_obs_key": "privileged_state", "noise_std_type": "log"},
    "cleanrl": {"activation": "tanh", "policy_hidden_layer_sizes": (8, 8), "noise_std_type": "log"},
}
each = pytest.mark.parametrize("name", FILES)


def imported_agent(path, given=Given({}), trainer=None):  # noqa: B008 - it is frozen
    found, imported = read(path, trainer, given)
    return found, imported, agent_of(imported, Config(**{"num_timesteps": 1, **given.settings, **imported.settings}))


def answers(name):
    """Observations by key, actions and values of the library."""
    with np.load(FOLDER / f"{name}.npz") as arrays:
        found = {key: torch.from_numpy(x) for key, x in arrays.items()}
    return found, found.pop("action"), found.pop("value")


@each
def test_acts_as_the_library(name):
    file, given = FILES[name]
    trainer, imported, agent = imported_agent(FOLDER / file, given)
    observation, action, value = answers(name)
    with torch.no_grad():
        torch.testing.assert_close(agent.mode(observation), action, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(agent.values(observation), value, rtol=1e-5, atol=1e-5)
    assert trainer == name and check_agent(agent, imported) <= 1e-5
    assert SETTINGS[name].items() <= imported.settings.items()
    assert imported.settings["normalize_observations"] and imported.settings["distribution_type"] == "normal"


def test_standard_deviations():
    """As the files have them, so that exploration goes on where it was."""
    state = torch.load(FOLDER / "rsl_rl.pt", weights_only=True)["actor_state_dict"]
    _, _, agent = imported_agent(FOLDER / "rsl_rl.pt")
    seen = {"state": torch.zeros(1, 5)}
    torch.testing.assert_close(agent.policy_params(seen)[1][0], state["distribution.log_std_param"].exp())


def test_env_steps():
    assert read(FOLDER / "sb3.zip", None, Given({}))[1].env_steps == 128


def older_rsl_rl(tmp_path, *, beside):
    """What versions 1 and 2 (normalizers beside the model) and 3 and 4 (in it) save, of the same numbers."""
    new = torch.load(FOLDER / "rsl_rl.pt", weights_only=True)
    model, others = {"std": torch.full((2,), 0.5)}, {}
    for network in ("actor", "critic"):
        for name, x in new[f"{network}_state_dict"].items():
            kind, _, rest = name.partition(".")
            if kind == "mlp":
                model[f"{network}.{rest}"] = x
            elif kind == "obs_normalizer" and not beside:
                model[f"{network}_obs_normalizer.{rest}"] = x
            elif kind == "obs_normalizer":
                key = "obs_norm_state_dict" if network == "actor" else "privileged_obs_norm_state_dict"
                others.setdefault(key, {})[rest] = x
    torch.save({"model_state_dict": model, "optimizer_state_dict": {}, "iter": 3, **others}, tmp_path / "model_3.pt")
    return tmp_path / "model_3.pt"


@pytest.mark.parametrize("beside", [True, False])
def test_older_rsl_rl(beside, tmp_path):
    _, imported, agent = imported_agent(older_rsl_rl(tmp_path, beside=beside))
    observation, action, value = answers("rsl_rl")
    with torch.no_grad():
        torch.testing.assert_close(agent.mode(observation), action, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(agent.values(observation), value, rtol=1e-5, atol=1e-5)
    assert imported.settings["noise_std_type"] == "scalar"
    assert agent.policy_params(observation)[1].eq(0.5).all()


@pytest.mark.parametrize("name", ["rsl_rl", "cleanrl"])
def test_files_of_torch_before_1_6(name, tmp_path):
    """Which are no zip files."""
    content = torch.load(FOLDER / FILES[name][0], weights_only=True)
    torch.save(content, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert read(tmp_path / "old.pt", None, FILES[name][1])[0] == name


def changed(tmp_path, name, change):
    """A checkpoint with something else in it."""
    file, given = FILES[name]
    path = tmp_path / file
    if name == "sb3":
        with zipfile.ZipFile(FOLDER / file) as archive:
            parts = {part: archive.read(part) for part in archive.namelist()}
        weights, data = torch.load(io.BytesIO(parts["policy.pth"]), weights_only=True), json.loads(parts["data"])
        change(weights, data)
        buffer = io.BytesIO()
        torch.save(weights, buffer)
        parts |= {"policy.pth": buffer.getvalue(), "data": json.dumps(data).encode()}
        with zipfile.ZipFile(path, "w") as archive:
            for part, content in parts.items():
                archive.writestr(part, content)
    else:
        content = torch.load(FOLDER / file, weights_only=True)
        change(content)
        torch.save(content, path)
    return path, given


@pytest.mark.parametrize(
    ("name", "change", "match"),
    [
        ("sb3", lambda weights, data: data.update(use_sde=True), "use_sde"),
        ("sb3", lambda weights, data: weights.pop("log_std"), "continuous"),
        ("sb3", lambda weights, data: weights.pop("action_net.weight"), "action_net"),
        ("sb3", lambda weights, data: weights.update({"features_extractor.cnn.0.weight": torch.ones(1)}), "flat"),
        ("sb3", lambda weights, data: data["policy_kwargs"].update(activation_fn="<class 'torch.nn.GELU'>"), "GELU"),
        ("sb3", lambda weights, data: weights.update({"action_net.weight": torch.ones(2, 9)}), "do not fit"),
        ("rsl_rl", lambda x: x["actor_state_dict"].update({"rnn.weight_ih_l0": torch.ones(1)}), "recurrent"),
        ("rsl_rl", lambda x: x["actor_state_dict"].pop("distribution.log_std_param"), "standard deviation"),
        ("rsl_rl", lambda x: x.pop("critic_state_dict"), "critic_state_dict"),
        ("rsl_rl", lambda x: x["critic_state_dict"].pop("obs_normalizer._mean"), "only one of actor and critic"),
        ("rsl_rl", lambda x: x["actor_state_dict"].update({"mlp.2.weight": torch.ones(8)}), "no linear layer"),
        ("rsl_rl", lambda x: x["actor_state_dict"]["mlp.0.weight"].fill_(torch.nan), "not all finite"),
        ("cleanrl", lambda x: x.pop("actor_logstd"), "actor_logstd"),
        ("cleanrl", lambda x: x.update({"actor_mean.4.weight": torch.ones(2, 7)}), "do not fit"),
        ("cleanrl", lambda x: x.update({"network.0.weight": torch.ones(1)}), "network.0.weight"),
        ("cleanrl", lambda x: x.update({"critic.5.weight_g": torch.ones(1)}), "no layer"),
    ],
)
def test_refused_in_one_line(name, change, match, tmp_path):
    path, given = changed(tmp_path, name, change)
    with pytest.raises(ForeignError, match=match):
        imported_agent(path, given, name)


class Config2:
    """Any class of somebody's."""


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (lambda path: torch.save({"model": Config2(), "model_state_dict": {}}, path), "tensors and plain values"),
        (lambda path: torch.save({"weights": torch.ones(1)}, path), "no checkpoint that is known"),
        (lambda path: path.write_bytes((FOLDER / "rsl_rl.pt").read_bytes()[:2000]), "not a whole file"),
        (lambda path: path.write_bytes(b""), "no checkpoint that is known"),
        (lambda path: path.write_text("hello"), "no checkpoint that is known"),
        (lambda path: path.write_bytes(pickle.dumps([1, 2])), "--trust"),
        (lambda path: path.write_bytes((FOLDER / "sb3.zip").read_bytes()[:-900]), "not a whole file"),
        (lambda path: None, "there is no"),
    ],
)
def test_foreign_files(content, match, tmp_path):
    content(tmp_path / "file")
    with pytest.raises(ForeignError, match=match):
        read(tmp_path / "file", None, Given({}))


@pytest.mark.parametrize("trainer", ["rsl_rl", "cleanrl"])
def test_of_another_trainer(trainer):
    other = "cleanrl.cleanrl_model" if trainer == "rsl_rl" else "rsl_rl.pt"
    with pytest.raises(ForeignError, match=f"no checkpoint of {trainer}"):
        read(FOLDER / other, trainer, Given({}))


def test_a_folder(tmp_path):
    with pytest.raises(ForeignError, match="is a folder"):
        read(tmp_path, "sb3", Given({}))


def test_activation_that_the_file_contradicts():
    with pytest.raises(ForeignError, match="says elu"):
        read(FOLDER / "sb3.zip", None, Given({}, activation="relu"))
    with pytest.raises(ForeignError, match="no exact counterpart"):
        read(FOLDER / "rsl_rl.pt", None, Given({}, activation="gelu"))


def test_normalizers(tmp_path):
    pickled = FOLDER / "sb3_vecnormalize.pkl"
    with pytest.raises(ForeignError, match="--trust"):
        read(FOLDER / "sb3.zip", None, Given({}, normalizer=pickled))
    with pytest.raises(ForeignError, match="has its own"):
        read(FOLDER / "rsl_rl.pt", None, Given({}, normalizer=pickled))
    for arrays, match in (
        ({"mean": np.zeros(5)}, "no var"),
        ({"mean": np.zeros(4), "var": np.ones(4)}, "of 4 numbers"),
        ({"mean": np.zeros(5), "var": -np.ones(5)}, "not negative"),
        ({"mean": np.zeros((5, 5)), "var": np.ones(5)}, "no vector"),
        ({"mean": np.zeros(5), "var": np.ones(5), "clip": np.ones(3)}, "must be numbers"),
    ):
        np.savez(tmp_path / "n.npz", **arrays)
        with pytest.raises(ForeignError, match=match):
            read(FOLDER / "sb3.zip", None, Given({}, normalizer=tmp_path / "n.npz"))
    (tmp_path / "n.npz").write_bytes(b"PK")
    with pytest.raises(ForeignError, match="cannot be read"):
        read(FOLDER / "sb3.zip", None, Given({}, normalizer=tmp_path / "n.npz"))
    (tmp_path / "n.pkl").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ForeignError, match="no VecNormalize"):
        read(FOLDER / "sb3.zip", None, Given({}, normalizer=tmp_path / "n.pkl", trusted=True))
