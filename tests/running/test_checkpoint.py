"""Checkpoint files: any change is noticed, older ones are read, and another one is taken for one that is damaged."""

import dataclasses
import io
import pickle
import random

import pytest
import torch

from tests.helpers.toy import ToyTask
from torch_ppo.running.checkpoint import (
    CheckpointError,
    DamagedError,
    agent_from_checkpoint,
    load_checkpoint,
    save_checkpoint,
    to_bytes,
)
from torch_ppo.running.folder import RunFolder
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config

CONFIG = Config(
    num_timesteps=1, policy_hidden_layer_sizes=(64,), value_hidden_layer_sizes=(64, 64), device="cpu", run_evals=False
)


@pytest.fixture(scope="module")
def saved():
    return TrainingState(CONFIG, ToyTask()).checkpoint()


def old(saved, **changes):
    """The content of a file of format 2, which has no hash."""
    buffer = io.BytesIO()
    torch.save({**saved, "format": 2, **changes}, buffer)
    return buffer.getvalue()


def test_what_is_written_is_read(saved, tmp_path, differences):
    save_checkpoint(saved, tmp_path / "a.pt", tmp_path / "below" / "b.pt")
    assert saved["format"] == 5
    for name in ("a.pt", "below/b.pt"):
        assert differences(load_checkpoint(tmp_path / name), saved) == []


@pytest.mark.parametrize("hashed", [True, False], ids=["format 5", "format 2"])
def test_every_flipped_bit_and_zeroed_page_is_refused(saved, tmp_path, hashed, differences):
    """With a hash wherever it is; without, a change of the zip's padding may pass, which changes no value."""
    content = to_bytes(saved) if hashed else old(saved)
    expected = saved if hashed else {**saved, "format": 2}
    numbers, path, passed = random.Random(0), tmp_path / "a.pt", 0
    places = [numbers.randrange(8 * len(content)) for _ in range(150)] + [
        8 * len(content) - 1 - i for i in range(0, 800, 7)
    ]
    damages = [(place // 8, bytes([content[place // 8] ^ 1 << place % 8])) for place in places]
    damages += [(start, bytes(4096)) for start in range(0, len(content) - 4096, 4096)]
    for start, changed in damages:
        path.write_bytes(content[:start] + changed + content[start + len(changed) :])
        if path.read_bytes() == content:
            continue
        try:
            found = load_checkpoint(path)
        except CheckpointError:
            continue
        passed += 1
        assert not hashed and differences(found, expected) == []
    assert passed < len(damages) / 4


def test_a_lost_hash_is_damage(saved, tmp_path):
    path = tmp_path / "a.pt"
    buffer = io.BytesIO()
    torch.save(saved, buffer)
    path.write_bytes(buffer.getvalue())
    with pytest.raises(DamagedError, match="has lost its hash"):
        load_checkpoint(path)


def test_format_2_is_read_and_others_are_not(saved, tmp_path, differences):
    path = tmp_path / "a.pt"
    path.write_bytes(old(saved))
    assert differences(load_checkpoint(path), {**saved, "format": 2}) == []
    path.write_bytes(old(saved, format=6))
    with pytest.raises(CheckpointError, match="format 6"):
        load_checkpoint(path)


class RunsCode:
    def __reduce__(self):
        return print, ("executed",)


def test_no_code_is_run(saved, tmp_path, capsys):
    save_checkpoint({**saved, "extra": RunsCode()}, tmp_path / "a.pt")
    with pytest.raises(DamagedError):
        load_checkpoint(tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(RunsCode()))
    with pytest.raises(DamagedError):
        load_checkpoint(tmp_path / "b.pt")
    assert capsys.readouterr().out == ""


def test_other_versions_are_named(saved, tmp_path):
    with pytest.raises(CheckpointError, match="does not know: colour"):
        agent_from_checkpoint({**saved, "config": {**saved["config"], "colour": "red"}})
    with pytest.raises(CheckpointError, match="not those of its configuration"):
        agent_from_checkpoint({**saved, "config": {**saved["config"], "policy_hidden_layer_sizes": (3,)}})
    with pytest.raises(CheckpointError, match="num_timesteps"):
        agent_from_checkpoint({**saved, "config": {}})
    save_checkpoint({name: saved[name] for name in ("agent", "config", "format")}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="lacks action_dim, env_steps, observation_sizes"):
        load_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"config": None}, "its config is not settings by name"),
        ({"config": []}, "its config is not settings by name"),
        ({"format": torch.zeros(3)}, "checkpoint format tensor"),
        ({"format": "4"}, "checkpoint format 4, this version reads"),
        ({"agent": None}, "its agent is not tensors by name"),
        ({"agent": {}}, "its agent is not tensors by name"),
        ({"agent": {"policy.x": "x"}}, "its agent is not tensors by name"),
        ({"observation_sizes": None}, "its observation_sizes is not sizes by name"),
        ({"observation_sizes": {"state": "x"}}, "its observation_sizes is not sizes by name"),
        ({"observation_sizes": {"state": -1}}, "its observation_sizes is not sizes by name"),
        ({"observation_sizes": {"state": True}}, "its observation_sizes is not sizes by name"),
        ({"observation_sizes": {"state": 10**12}}, "networks cannot be made"),
        ({"action_dim": "x"}, "its action_dim is not a number of actions"),
        ({"action_dim": -3}, "its action_dim is not a number of actions"),
        ({"env_steps": "x"}, "its env_steps is not a count"),
        ({"training_steps": 2.5}, "its training_steps is not a count"),
        ({"training_steps": 10**30}, "its training_steps is not a count"),
        ({"best": "x"}, "its best is not a reward and its env steps"),
        ({"best": {"reward": 1.0}}, "its best is not a reward and its env steps"),
        ({"controls": "x"}, "its controls is not what actuators get"),
        ({"controls": {"actuators": ["a"]}}, "its controls is not what actuators get"),
    ],
)
def test_a_whole_file_of_other_kinds_of_values_is_one_line(saved, tmp_path, changes, words):
    """Somebody's own, with a hash that is right."""
    save_checkpoint({**saved, **changes}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=words) as error:
        agent_from_checkpoint(load_checkpoint(tmp_path / "a.pt"))
    assert "\n" not in str(error.value)


def test_the_newest_whole_one_is_taken_and_named(saved, tmp_path):
    folder = RunFolder(tmp_path)
    for name, steps in {"last": 300, "300": 300, "best": 100, "200": 200, "100": 100}.items():
        save_checkpoint({**saved, "env_steps": steps}, folder.checkpoints / f"{name}.pt")
    assert folder.load_newest()[0].name == "last.pt" and folder.load_newest()[2] == []
    (folder.checkpoints / "last.pt").unlink()
    (folder.checkpoints / "300.pt").write_bytes(b"torn")
    path, found, notes = folder.load_newest()
    assert path.name == "200.pt" and found["env_steps"] == 200
    assert "there is no" in notes[0] and "300.pt is not a whole checkpoint; 200.pt, at 200 env steps" in notes[1]
    for name in ("200", "100", "best"):
        (folder.checkpoints / f"{name}.pt").write_bytes(b"torn")
    with pytest.raises(DamagedError, match=r"300\.pt"):
        folder.load_newest()
    assert RunFolder(tmp_path / "nothing").load_newest() is None


def test_the_best_one_is_put_back(saved, tmp_path, differences):
    """After a step back to an older checkpoint, or damage, best.pt is again the one that the checkpoint knows."""
    folder = RunFolder(tmp_path)
    for name, steps in {"best": 300, "200": 200}.items():
        save_checkpoint({**saved, "env_steps": steps}, folder.checkpoints / f"{name}.pt")
    known = {**saved, "best": {"reward": 1.0, "env_steps": 200}}
    for content in (None, b"torn"):
        if content:
            (folder.checkpoints / "best.pt").write_bytes(content)
        folder.mend_best(known)
        assert load_checkpoint(folder.checkpoints / "best.pt")["env_steps"] == 200


def test_the_newest_checkpoints_are_kept(tmp_path):
    folder = RunFolder(tmp_path)
    folder.checkpoints.mkdir()
    state = TrainingState(dataclasses.replace(CONFIG, keep_checkpoints=2), ToyTask())
    (folder.checkpoints / "99999.pt").touch()  # of a future that is being done again
    for step in range(1, 5):
        state.training_steps = step
        folder.save(state, named=True, best=step == 1)
    names = {path.stem for path in folder.checkpoints.iterdir()}
    each = CONFIG.env_step_per_training_step
    assert names == {"last", "best", f"{3 * each}", f"{4 * each}", "99999"}
    assert load_checkpoint(folder.checkpoints / "best.pt")["env_steps"] == each
