"""Mutated files and command lines: each is read as something valid, or refused with one line. Never a traceback."""

import contextlib
import io
import random
import string

import pytest
import torch

import torch_ppo
from tests.helpers import dialect_files
from torch_ppo.dialects import DIALECTS, read_dialect
from torch_ppo.errors import UserError
from torch_ppo.export import export_policy
from torch_ppo.running.checkpoint import load_checkpoint, save_checkpoint
from torch_ppo.running.history import read_curve
from torch_ppo.running.program import parse_arguments
from torch_ppo.running.saved_policy import load_policy
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config
from torch_ppo.settings.files import load_config, read_config, to_toml

# Cases of each kind: 2,000 in all within two minutes; by hand with -m slow, 50,000.
FEW = {"config": 700, "dialect": 700, "command": 150, "checkpoint": 350, "metrics": 100, "policy": 40}
MANY = {name: 25 * number for name, number in FEW.items()}
amounts = pytest.mark.parametrize("amount", [FEW, pytest.param(MANY, marks=pytest.mark.slow)], ids=["few", "many"])

ODD_VALUES = (
    *("nan inf -inf 1e400 1e-400 -0.0 0 -1 1e39 2147483648 true false None null [] {} '' \"\" \"😀\" \"\\u0000\"".split()),
    "9" * 400, "0x10", "1_000", "[1, [2]]", "{a = 1}", "1979-05-27", '"' + "x" * 5000 + '"', "9999**63", "os.system('x')",
)  # fmt: skip
ODD_WORDS = (
    "--",
    "=",
    "\n",
    "[",
    "]",
    "{",
    "}",
    "#",
    "'",
    '"',
    "\x00",
    "é",
    "😀",
    "\ud800",
    "..",
    "/",
    "~",
    "--no-",
    "\\",
)


def mutated(text: str, dice: random.Random) -> str:
    """The text with one to three changes: of values, lines, characters, or odd words put in."""
    for _ in range(dice.randint(1, 3)):
        lines = text.split("\n")
        place = dice.randrange(len(lines))
        at = dice.randrange(len(text) + 1)
        match dice.randrange(7):
            case 0 if "=" in lines[place] or ":" in lines[place]:
                separator = "=" if "=" in lines[place] else ":"
                lines[place] = lines[place].split(separator)[0] + f"{separator} " + dice.choice(ODD_VALUES)
                text = "\n".join(lines)
            case 1:
                text = "\n".join(lines[:place] + lines[place + 1 :])
            case 2:
                text = "\n".join([*lines[:place], lines[place], *lines[place:]])
            case 3:
                text = text[:at]
            case 4:
                text = text[:at] + dice.choice(ODD_WORDS) + text[at:]
            case 5:
                text = text[:at] + dice.choice(string.printable) + text[at + 1 :]
            case _:
                text = text[:at] + text[at + dice.randint(1, 20) :]
    return text


@contextlib.contextmanager
def one_line_or_nothing(case: object):
    """What is inside may be refused, in one line."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    except UserError as error:
        assert str(error) and "\n" not in str(error) and len(str(error)) < 20_000, (case, error)
    except Exception as error:
        raise AssertionError(f"{type(error).__name__}: {error} for {case!r}"[:4000]) from error


@amounts
def test_configuration_files(amount, tmp_path):
    dice, file = random.Random(0), tmp_path / "c.toml"
    texts = [to_toml(load_config(name)) for name in ("cartpole_cpu", "ant_cpu", "quadruped_joystick")]
    for _ in range(amount["config"]):
        text = mutated(dice.choice(texts), dice)
        file.write_bytes(text.encode(errors="surrogatepass"))
        with one_line_or_nothing(text):
            read_config(str(file))
            load_config(str(file))


@amounts
def test_dialect_files(amount, tmp_path):
    dice = random.Random(1)
    texts = {
        "a.py": str(dialect_files.PLAYGROUND), "b.yml": str(dialect_files.HALF_CHEETAH), "c.yaml": str(dialect_files.ANT),
        "d.py": str(dialect_files.GO1), "e.toml": str(dialect_files.GUIDE),
    }  # fmt: skip
    for _ in range(amount["dialect"]):
        name = dice.choice(list(texts))
        text = mutated(texts[name], dice)
        (tmp_path / name).write_bytes(text.encode(errors="surrogatepass"))
        with one_line_or_nothing(text):
            read_dialect(str(tmp_path / name), dice.choice(list(DIALECTS)), num_envs=dice.choice([None, 16, 0]))


@amounts
def test_command_lines(amount, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dice = random.Random(2)
    words = "--env cartpole --num-timesteps 1000 --num-envs 16 --learning-rate 1e-3 --policy-hidden-layer-sizes 8 8 --compile"
    for _ in range(amount["command"]):
        line = words.split()
        for _ in range(dice.randint(1, 3)):
            place = dice.randrange(len(line))
            match dice.randrange(4):
                case 0:
                    line[place] = dice.choice(ODD_VALUES)
                case 1:
                    line.insert(place, dice.choice(ODD_WORDS))
                case 2:
                    del line[place]
                case _:
                    line[place] = mutated(line[place], dice)
        with one_line_or_nothing(line), contextlib.suppress(SystemExit):  # usage messages
            arguments, _ = parse_arguments(line)
            arguments.settings.checked()


@amounts
def test_checkpoints(amount, tmp_path):
    """Bytes flipped, zeroed, cut off or put in: refused, whatever they are. Reading runs no code."""
    dice = random.Random(3)
    config = Config(
        env="cartpole", num_timesteps=1, num_envs=2, batch_size=2, num_minibatches=1, unroll_length=2, run_evals=False,
        device="cpu", policy_hidden_layer_sizes=(4,), value_hidden_layer_sizes=(4,),
    )  # fmt: skip
    whole, file = tmp_path / "whole.pt", tmp_path / "last.pt"
    save_checkpoint(TrainingState(config, torch_ppo.make_task("cartpole")).checkpoint(), whole)
    content = whole.read_bytes()
    expected = load_checkpoint(whole)["agent"]
    for number in range(amount["checkpoint"]):
        data = bytearray(content)
        at = dice.randrange(len(data))
        match number % 4:
            case 0:
                data[at] ^= 1 << dice.randrange(8)
            case 1:
                data[at : at + 4096] = bytes(len(data[at : at + 4096]))
            case 2:
                del data[at:]
            case _:
                data[at:at] = dice.randbytes(dice.randint(1, 64))
        file.write_bytes(data)
        with one_line_or_nothing((number, at)):
            found = load_checkpoint(file)["agent"]
            # What is read after all is what was written: the change was in what nobody reads.
            assert all(torch.equal(found[name], expected[name]) for name in expected)


@amounts
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's, about torch.jit
def test_exported_policies(amount, tmp_path):
    """Bytes changed in policy.pt: refused in one line, or the actions are those of the whole file."""
    dice = random.Random(5)
    config = Config(
        env="cartpole", num_timesteps=1, num_envs=2, batch_size=2, num_minibatches=1, unroll_length=2, run_evals=False,
        device="cpu", policy_hidden_layer_sizes=(4,), value_hidden_layer_sizes=(4,),
    )  # fmt: skip
    whole, file = tmp_path / "whole.pt", tmp_path / "policy.pt"
    export_policy(TrainingState(config, torch_ppo.make_task("cartpole")).agent, whole)
    content, observation = whole.read_bytes(), torch.ones(3, 5)
    expected = load_policy(whole)(observation)
    for number in range(amount["policy"]):
        data = bytearray(content)
        at = dice.randrange(len(data))
        match number % 4:
            case 0:
                data[at] ^= 1 << dice.randrange(8)
            case 1:
                data[at : at + 4096] = bytes(len(data[at : at + 4096]))
            case 2:
                del data[at:]
            case _:
                data[at] = dice.randrange(256)
        file.write_bytes(data)
        with one_line_or_nothing((number, at)):
            assert torch.equal(load_policy(file)(observation), expected)


def test_values_of_other_kinds_in_a_history(tmp_path):
    """What the 50,000 found: somebody's edits that are JSON, but no numbers."""
    lines = ('{"step": 1.0, "r": 2}', '{"step": 2, "r": 3}', '{"step": 3, "r": null}', '{"step": 4, "r": "5"}')
    lines += (
        '{"step": 5, "r": [1]}',
        '{"step": 1e400, "r": 1}',
        '{"step": 6, "r": true}',
        f'{{"step": 7, "r": {"9" * 400}}}',
    )
    (tmp_path / "m.jsonl").write_text("\n".join(lines).replace('"r"', '"eval/episode_reward"'))
    curve = read_curve(tmp_path / "m.jsonl")
    assert curve == [(1, 2.0), (2, 3.0)] and all(type(step) is int and type(x) is float for step, x in curve)


def test_a_first_word_longer_than_any_name():
    with pytest.raises(UserError, match="what is xxxx"):
        parse_arguments(["x" * 5000])


@amounts
def test_metrics_files(amount, tmp_path):
    """What is left of a history is read, whatever else stands in it."""
    dice, file = random.Random(4), tmp_path / "metrics.jsonl"
    whole = "".join(
        f'{{"step": {100 * i}, "eval/episode_reward": {i}.5, "not_finite": {{"x": "NaN"}}}}\n' for i in range(20)
    )
    for _ in range(amount["metrics"]):
        text = mutated(whole, dice)
        data = bytearray(text.encode(errors="surrogatepass"))
        if data and dice.random() < 0.5:
            data[dice.randrange(len(data))] = dice.randrange(256)
        file.write_bytes(data)
        with one_line_or_nothing(text):
            assert all(isinstance(step, int) and isinstance(reward, float) for step, reward in read_curve(file))
