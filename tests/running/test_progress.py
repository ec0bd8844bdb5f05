"""What a run shows while it goes on: one line on a terminal that fits it, a few in a file, nothing when it is quiet."""

import io
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import torch_ppo.train
from torch_ppo.running import progress as module
from torch_ppo.running import terminal
from torch_ppo.running.progress import ASCII_BLOCKS, BLOCKS, Progress, fitted, short_number, short_time, sparkline

ROOT = Path(__file__).parents[2]
TINY = (
    "--config cartpole --num-timesteps 4000 --num-envs 8 --batch-size 8 --num-minibatches 2 --unroll-length 10 "
    "--num-updates-per-batch 1 --episode-length 50 --num-eval-envs 4 --num-evals 3 --policy-hidden-layer-sizes 8 8 "
    "--value-hidden-layer-sizes 8 8 --log-training-metrics --device cpu"
).split()
EVALUATION = {"eval/episode_reward_std": 1.5, "eval/avg_episode_length": 1000.0, "training/sps": 5000.0}


class Screen:
    """What a terminal of some columns shows of what was written: rows of text, the cursor, erasing below."""

    def __init__(self, columns):
        self.columns, self.rows, self.row, self.column = columns, [""], 0, 0

    def feed(self, text):
        for code, number, letter, character in re.findall(r"(\x1b\[(\d*)([A-Za-z]))|(.)", text, re.DOTALL):
            if code:
                if letter == "A":
                    self.row = max(0, self.row - int(number or 1))
                elif letter == "J":
                    self.rows[self.row :] = [self.rows[self.row][: self.column]]
                else:
                    assert letter == "m", code
            elif character == "\n":
                self.row += 1
                self.column = 0
                if self.row == len(self.rows):
                    self.rows.append("")
            elif character == "\r":
                self.column = 0
            else:
                if self.column == self.columns:
                    self.feed("\n")
                self.rows[self.row] = self.rows[self.row][: self.column].ljust(self.column) + character
                self.column += 1

    def resize(self, columns):
        """As terminals do that lay long rows out anew; the cursor stays behind what is before it."""
        assert self.row == len(self.rows) - 1
        old, before = self.rows.pop(), self.rows
        parts = [old[i : i + columns] for i in range(0, max(len(old), 1), columns)]
        self.columns, self.rows = columns, before + parts
        self.row, self.column = len(self.rows) - 1, len(parts[-1])


class Terminal(io.StringIO):
    """A stream that is one."""

    encoding = "utf-8"

    def __init__(self, columns, monkeypatch):
        super().__init__()
        self.screen = Screen(columns)
        monkeypatch.setattr(terminal, "columns", lambda stream: self.screen.columns)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.delenv("NO_COLOR", raising=False)

    def isatty(self):
        return True

    def write(self, text):
        self.screen.feed(text)
        return super().write(text)


class Clock:
    """Instead of time.perf_counter."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(module.time, "perf_counter", lambda: self.now)


def evaluation(reward):
    return {"eval/episode_reward": reward, **EVALUATION}


# Parts of lines


def test_sparkline():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == BLOCKS
    assert sparkline([-1.0, float("nan"), 1.0], 8, ASCII_BLOCKS) == "_ #"
    assert sparkline([5.0, 5.0], 8) == "▁▁" and sparkline([], 8) == "" and sparkline([float("inf")], 8) == " "


@pytest.mark.parametrize("count", [11, 20, 999])
def test_sparkline_of_many(count):
    """Means of equal parts, each to the nearest of eight levels."""
    values = np.random.default_rng(0).normal(size=count)
    shown = sparkline(values.tolist(), 10)
    means = [np.mean(values[count * i // 10 : count * (i + 1) // 10]) for i in range(10)]
    levels = 7 * (means - np.min(means)) / np.ptp(means)
    assert np.abs(levels - [BLOCKS.index(block) for block in shown]).max() <= 0.5


def test_numbers_and_times():
    assert [short_number(x) for x in (984.13, -3.0, 0.01234, 0.0)] == ["984.1", "-3.0", "0.0123", "0.0"]
    assert [short_time(x) for x in (12.2, 185, 7630, 273600)] == ["12s", "3m05s", "2h07m", "3d04h"]


def test_the_least_important_is_left_out():
    parts = [(9, "50.0%"), (1, "many steps"), (5, "3s left")]
    assert fitted(parts, 80) == "50.0%  many steps  3s left"
    assert fitted(parts, 25) == "50.0%  3s left" and fitted(parts, 8) == "50.0%" and fitted(parts, 2) == "50"


# On a terminal


@pytest.mark.parametrize("columns", [10, 40, 80, 200])
def test_one_line_below_all_that_is_said(columns, monkeypatch):
    stream, clock = Terminal(columns, monkeypatch), Clock(monkeypatch)
    progress = Progress(10_000, 0, stream=stream)
    monkeypatch.setattr(sys, "stdout", stream)
    with progress.shown():
        progress.report(0, evaluation(3.0))
        for step in range(100, 10_001, 100):
            clock.now += 0.5
            progress.update(step, step / 200)
            if step == 3000:
                progress.message("warning: one")
                print("of", "a task", end="")
                print()
            if step % 1000 == 0:
                progress.report(step, evaluation(3.0 + step))
            above, below = stream.screen.rows[:-1], stream.screen.rows[-1]
            assert len(below) < columns and f"{step / 100:.1f}%"[: columns - 1].strip() in below
            assert "".join(above).replace(" ", "") == ("warning:oneofatask" if step >= 3000 else "")
    assert stream.screen.rows[-1] == "" and "100.0%" in stream.screen.rows[-2]
    if columns >= 40:
        assert "reward 10003.0" in stream.screen.rows[-2] and re.search("[▁▂▃▄▅▆▇█]{5}", stream.screen.rows[-2])
    if columns >= 80:
        assert "10,000 steps" in stream.screen.rows[-2] and "200 steps/s" in stream.screen.rows[-2]


def test_what_is_said_is_folded_between_words(monkeypatch):
    stream, words = Terminal(30, monkeypatch), "warning: the run is longer than was asked for"
    progress = Progress(1000, 0, stream=stream)
    progress.message(words)
    assert stream.screen.rows[:2] == ["warning: the run is longer", "  than was asked for"]
    file = io.StringIO()
    Progress(1000, 0, stream=file).message(words)
    assert file.getvalue() == f"{words}\n"


def test_a_line_that_changes_is_gone_at_the_end(monkeypatch):
    """As `play` has it while it draws: what is printed stays, what was going on does not."""
    stream = Terminal(60, monkeypatch)
    monkeypatch.setattr(sys, "stdout", stream)
    with terminal.changing_line() as show:
        show("drawing a.gif: step 0 of 10")
        print("return 1.00 in 10 env steps")
        assert stream.screen.rows == ["return 1.00 in 10 env steps", "drawing a.gif: step 0 of 10"]
    print("a.gif: 11 frames")
    assert stream.screen.rows == ["return 1.00 in 10 env steps", "a.gif: 11 frames", ""]
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    with terminal.changing_line() as show:
        show("drawing a.gif: step 0 of 10")
    assert stream.getvalue() == ""


def test_a_narrower_terminal_has_no_remains(monkeypatch):
    stream, clock = Terminal(80, monkeypatch), Clock(monkeypatch)
    progress = Progress(10_000, 0, stream=stream)
    progress.message("kept")
    for step, columns in ((100, 80), (200, 30), (300, 17), (400, 80)):
        stream.screen.resize(columns)
        clock.now += 1
        progress.update(step, step / 100)
        progress.report(step, evaluation(1.0))
        assert stream.screen.rows[0] == "kept" and len(stream.screen.rows) == 2


def test_time_left_counts_from_the_first_training_step(monkeypatch):
    """What compiling took, say, is not to come again; evaluations are."""
    stream, clock = Terminal(120, monkeypatch), Clock(monkeypatch)
    progress = Progress(1000, 0, stream=stream)
    clock.now += 60
    progress.update(100, 60.0)
    assert "left" not in stream.screen.rows[-1]
    for step in (200, 300):
        clock.now += 10
        progress.update(step, 60.0 + (step - 100) / 50)
    assert "1m10s left" in stream.screen.rows[-1] and "  50 steps/s" in stream.screen.rows[-1]


def test_what_it_does_meanwhile_is_said(monkeypatch):
    stream, clock = Terminal(80, monkeypatch), Clock(monkeypatch)
    progress = Progress(1000, 0, stream=stream)
    clock.now += 1
    progress.evaluating()
    assert stream.screen.rows[-1].endswith("evaluating")
    progress.report(0, evaluation(1.0))
    assert stream.screen.rows[-1].endswith("first training step")
    clock.now += 1
    progress.update(100, 1.0)
    assert not stream.screen.rows[-1].endswith("step")


@pytest.mark.parametrize(("setting", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colours(monkeypatch, setting, coloured):
    stream = Terminal(80, monkeypatch)
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    progress = Progress(1000, 0, stream=stream)
    progress.message("warning: look here")
    progress.report(0, evaluation(1.0))
    progress.report(500, evaluation(2.0))
    assert ("\x1b[33mwarning:\x1b[0m look here" in stream.getvalue()) == coloured
    assert bool(re.search(r"\x1b\[\d+m", stream.getvalue())) == coloured
    assert ("\x1b" in stream.getvalue()) == (setting.get("TERM") != "dumb")


def test_ascii(monkeypatch):
    stream = Terminal(80, monkeypatch)
    stream.encoding = "ascii"
    progress = Progress(1000, 0, stream=stream)
    for step in (0, 500, 600):
        progress.report(step, evaluation(step))
    assert stream.getvalue().isascii() and "_*#" in stream.screen.rows[-1]
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    Progress(1000, 0, stream=file).report(500, evaluation(1.0))
    assert b"1.0 +- 1.5" in file.buffer.getvalue()


# In a file


def test_a_file_gets_few_lines(monkeypatch):
    """With a report after every training step, of a run of ten hours; and with very many evaluations."""
    clock, stream = Clock(monkeypatch), io.StringIO()
    progress = Progress(36_000, 0, num_reports=11, stream=stream)
    for step in range(1, 36_001):
        clock.now += 1
        progress.update(step, float(step))
        progress.report(step, {"episode/sum_reward": 1.0})
        if step % 3600 == 0:
            progress.report(step, evaluation(step))
    lines = stream.getvalue().splitlines()
    assert 100 < len(lines) < 200 and sum("± 1.5" in line and "(" not in line for line in lines) == 10
    assert lines[-1].startswith("36,000 steps 100.0%") and "reward 36000.0 ± 1.5  length 1000" in lines[-1]

    stream = io.StringIO()
    progress = Progress(100_000, 0, num_reports=100_001, stream=stream)
    for step in range(100_001):
        progress.report(step, evaluation(1.0))
    lines = stream.getvalue().splitlines()
    assert len(lines) <= 2001 and lines[0].startswith("      0 steps") and lines[-1].startswith("100,000 steps 100.0%")


def test_an_old_reward_is_not_shown_as_if_it_were_new(monkeypatch):
    clock, stream = Clock(monkeypatch), io.StringIO()
    progress = Progress(1000, 0, stream=stream)
    progress.report(100, evaluation(7.0))
    clock.now += 31
    progress.update(200, 1.0)
    assert stream.getvalue().splitlines()[-1].endswith("(reward 7.0 ± 1.5  length 1000 at 100)")


# The program


@pytest.fixture
def program(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["train", *arguments])
        torch_ppo.train.main()
        return capsys.readouterr()

    return run


@pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated")
def test_quiet(program, tmp_path):
    printed = program(*TINY, "--run-dir", "run", "--quiet", "--num-evals", "2")
    first, *others = printed.out.splitlines()
    assert first.startswith("warning: unusual batches") and all(line.startswith("  ") for line in others)
    assert printed.err == "" and (tmp_path / "run" / "policy.pt").is_file()
    # What the plan warns of is said all the same.
    printed = program(*TINY, "--run-dir", "long", "--quiet", "--num-timesteps", "170", "--num-evals", "0")
    assert printed.out.startswith("warning: the run is") and printed.out.count("\n") == 1


def test_the_first_line_comes_before_libraries(tmp_path):
    """Where torch cannot even be imported."""
    (tmp_path / "torch.py").write_text("raise SystemExit(7)")
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    for words in (["torch_ppo.train"], ["torch_ppo", "train"]):
        ended = subprocess.run(
            [sys.executable, "-m", *words, *TINY], env=env, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 7
        assert ended.stdout == f"torch_ppo {torch_ppo.__version__}: loading PyTorch and MuJoCo\n"
        for silent in (["--quiet"], ["--help"]):
            ended = subprocess.run(
                [sys.executable, "-m", *words, *silent], env=env, capture_output=True, text=True, check=False
            )
            assert ended.stdout == ""


def test_on_a_real_terminal(tmp_path):
    """A run in a pseudo-terminal of 60 columns: all that was said above, and in the end one line of progress."""
    master, slave = pty.openpty()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TERM": "xterm", "COLUMNS": "200"}
    env.pop("NO_COLOR", None)
    code = "import fcntl, struct, sys, termios; fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 60, 0, 0)); "
    code += f"import torch_ppo.train; sys.argv = ['train', *{TINY!r}, '--run-dir', 'run']; torch_ppo.train.main()"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=env, stdout=slave, stderr=slave)
    os.close(slave)
    screen, deadline, read = Screen(60), time.monotonic() + 120, b""
    while time.monotonic() < deadline and select.select([master], [], [], 120)[0]:
        try:
            piece = os.read(master, 65536)
        except OSError:  # closed
            break
        read += piece
    os.close(master)
    assert process.wait() == 0, read.decode()
    screen.feed(read.decode().replace("\r\n", "\n"))
    shown = [row for row in screen.rows if re.match(r" *[\d.]+%", row)]
    assert len(shown) == 1 and shown[0].startswith("100.0%") and "reward" in shown[0] and len(shown[0]) < 60
    assert screen.rows[-2].startswith("run/policy.pt") or "run/policy.pt" in "".join(screen.rows[-4:])
    assert b"\x1b[36m" in read  # the sparkline
