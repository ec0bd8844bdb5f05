"""An argument that would have no effect is refused in one line, in every program, before anything is done."""

import sys

import pytest

from tests.helpers.toy import ToyTask
from torch_ppo import __main__
from torch_ppo.errors import UserError
from torch_ppo.running.checkpoint import save_checkpoint
from torch_ppo.running.saved_policy import load_policy
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config

REFUSED = [
    (
        "play cartpole --checkpoint last",
        "--checkpoint has no effect of cartpole, which is no run folder but one policy",
    ),
    ("play best.pt --checkpoint best", "--checkpoint has no effect of best.pt, which is no run folder but one policy"),
    ("play --env cartpole --policy zero --checkpoint last", "--checkpoint has no effect without a run"),
    ("play --env cartpole --policy zero --trust", "--trust has no effect with --env"),
    ("play cartpole --port 8081", "--port has no effect without --web"),
    ("play cartpole --host 0.0.0.0", "--host has no effect without --web"),
    ("play cartpole --web --width 400", "--width has no effect with --web"),
    ("play cartpole --web --renderer gl", "--renderer has no effect with --web"),
    ("play cartpole --broken a.pt", "what is cartpole? --broken a.pt is played alone"),
    ("play --broken a.pt --steps 3", "--steps has no effect with --broken"),
    ("play --broken a.pt --policy zero", "--policy has no effect with --broken"),
    ("play --broken a.pt --seed 3", "--seed has no effect with --broken"),
    ("evaluate cartpole --checkpoint last", "--checkpoint has no effect of cartpole, which is no run folder"),
    ("evaluate best.pt --checkpoint best", "--checkpoint has no effect of best.pt, which is no run folder"),
    ("evaluate best.pt --env cartpole --trust", "--trust has no effect with --env"),
    ("evaluate best.pt --env cartpole --perturb friction=1 --num-envs 3", "--perturb plays in one world"),
    ("export best.pt --checkpoint last", "--checkpoint has no effect of best.pt, which is one checkpoint"),
    ("export best.pt --env cartpole --trust", "--trust has no effect with --env"),
    ("export run --show policy.pt", "what is run? --show policy.pt shows one file, and writes none"),
    ("export --show policy.pt --format onnx", "--format has no effect with --show"),
    ("export --show policy.pt --controls", "--controls has no effect with --show"),
    ("brax export best.pt out --checkpoint last", "--checkpoint has no effect of best.pt, which is one checkpoint"),
    ("plot run run2 --trust", "--trust has no effect on curves"),
    ("plot run --curves --no-frame", "--no-frame has no effect on curves"),
    ("plot run --no-frame --trust", "--trust has no effect with --no-frame"),
    ("plot run --metrics training/sps", "--metrics is for curves"),
    ("dialects run/config.toml --num-envs 3", "--num-envs is for a file in another dialect"),
    ("tasks cartpole --output x", "--new and --output write a first task"),
    ("import_policy a b --num-envs 3", "--num-envs is for a --config in another --dialect"),
    ("seeds cartpole --submitit slurm_partition=gpu", "--submitit has parameters for --launcher submitit"),
]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A checkpoint of cart-pole, and what is left of two runs."""
    monkeypatch.chdir(tmp_path)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for run in ("run", "run2"):
        (tmp_path / run).mkdir()
        (tmp_path / run / "metrics.jsonl").write_text('{"step": 0, "eval/episode_reward": 1.0, "training/sps": 1}\n')
        (tmp_path / run / "config.toml").write_text('env = "cartpole"\nnum_timesteps = 1\n')
    config = Config(num_timesteps=1, env="toy", run_evals=False, device="cpu", policy_hidden_layer_sizes=(4,))
    save_checkpoint(TrainingState(config, ToyTask()).checkpoint(), tmp_path / "best.pt")


@pytest.mark.parametrize(("words", "message"), REFUSED, ids=[words for words, _ in REFUSED])
def test_refused(words, message, files, tmp_path, monkeypatch, capsys):
    if words.startswith("plot"):
        pytest.importorskip("matplotlib")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(sys, "argv", ["torch-ppo", *words.split()])
    if "--web" in words:
        monkeypatch.setattr("torch_ppo.watching.web.is_installed", lambda name: True)
    with pytest.raises(SystemExit) as end:
        __main__.main()
    errors = capsys.readouterr().err
    assert end.value.code == 2 and errors.startswith(f"error: {message}") and errors.count("\n") == 1, errors
    assert sorted(tmp_path.rglob("*")) == before


def test_in_a_window(files, monkeypatch, capsys):
    monkeypatch.setenv("DISPLAY", ":7")
    monkeypatch.setattr(sys, "argv", ["torch-ppo", "play", "cartpole", "--width", "400"])
    with pytest.raises(SystemExit, match="2"):
        __main__.main()
    assert capsys.readouterr().err.startswith(
        "error: --width has no effect in a window; --video FILE would write a file"
    )


def test_load_policy(files):
    with pytest.raises(UserError, match=r"checkpoint = 'last' is for a run folder, and best\.pt is one policy"):
        load_policy("best.pt", checkpoint="last")
