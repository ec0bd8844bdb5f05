"""Disks that fail: one line with path and reason, the last checkpoint whole, and training that may go on."""

import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from torch_ppo.running.checkpoint import load_checkpoint
from torch_ppo.running.disk import AppendedFile, DiskError, DiskWrites, remove_temporaries, write_atomically
from torch_ppo.running.history import read_curve

ROOT = Path(__file__).parents[2]
TINY = (
    "--config cartpole --num-envs 8 --batch-size 8 --num-minibatches 2 --unroll-length 10 --num-updates-per-batch 1 "
    "--episode-length 20 --num-eval-envs 2 --policy-hidden-layer-sizes 8 --value-hidden-layer-sizes 8 --device cpu "
    "--torch-threads 1"
).split()

# Without git: a run's folder has what differs from the last commit, and disks are small here.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GIT_DIR": "nowhere"}


def train(*arguments, cwd, preexec_fn=None):
    """The program in a process of its own: exit status, output, the error line."""
    command = [sys.executable, "-m", "torch_ppo.train", *map(str, arguments)]
    result = subprocess.run(
        command, check=False, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, preexec_fn=preexec_fn
    )
    return result.returncode, result.stdout, result.stderr


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 400 KB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk], check=False, capture_output=True
    ).returncode:
        pytest.skip("mounting a small file system needs to be root, and allowed to")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.slow
def test_a_run_on_a_full_disk_ends_with_one_line_and_goes_on_where_there_is_space(small_disk, tmp_path):
    status, _, errors = train(*TINY, "--num-timesteps", 6400, "--num-evals", 21, "--run-dir", "disk/run", cwd=tmp_path)
    assert status == 2 and errors.count("\n") == 1, errors
    assert re.match(
        r"error: disk/run/\S+ cannot be written: No space left on device; disk/run/checkpoints/last.pt", errors
    )
    steps = load_checkpoint(small_disk / "run" / "checkpoints" / "last.pt")["env_steps"]
    assert 0 < steps < 6400 and f"at {steps:,} env steps is whole, and --resume disk/run goes on" in errors
    assert not list(small_disk.rglob(".*"))  # nor did anything half-written take space

    # Where it is still full, resuming says so; elsewhere it goes on to the end.
    (small_disk / "filler").write_bytes(bytes(shutil.disk_usage(small_disk).free))
    status, _, errors = train("--resume", "disk/run", cwd=tmp_path)
    assert status == 2 and errors.count("\n") == 1 and "No space left on device" in errors
    assert load_checkpoint(small_disk / "run" / "checkpoints" / "last.pt")["env_steps"] == steps
    shutil.copytree(small_disk / "run", tmp_path / "moved")
    status, _, errors = train("--resume", "moved", cwd=tmp_path)
    assert (status, errors) == (0, "") and (tmp_path / "moved" / "policy.pt").exists()


def test_a_run_goes_on_when_there_is_space_again(small_disk, tmp_path):
    """on_disk_error = "continue": said once, and what could not be logged comes later."""
    arguments = [*TINY, "--num-timesteps", 32_000, "--num-evals", 21, "--keep-checkpoints", 1, "--run-dir", "disk/run"]
    filler = small_disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - 100_000))
    command = [sys.executable, "-u", "-m", "torch_ppo.train", *map(str, arguments), "--on-disk-error", "continue"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "training goes on" in line:  # the disk's warning, not the doctor's
                filler.unlink(missing_ok=True)
    output = "".join(lines)
    assert process.returncode == 0, output
    assert output.count("training goes on, and the next report tries again") == 1
    assert output.count("files are written again") == 1
    rows = read_curve(small_disk / "run" / "metrics.jsonl")
    assert [steps for steps, _ in rows] == list(range(0, 32_001, 1600))
    assert {path.name for path in (small_disk / "run" / "checkpoints").iterdir()} == {"last.pt", "best.pt", "32000.pt"}


def test_a_limit_on_the_size_of_files(tmp_path):
    """No file may be as large as a checkpoint: nothing is saved, and that is what is said."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    arguments = (*TINY, "--num-timesteps", 640, "--num-evals", 3, "--run-dir", "run")
    status, _, errors = train(*arguments, cwd=tmp_path, preexec_fn=limit)
    assert status == 2 and errors.count("\n") == 1, errors
    assert errors.startswith(
        "error: run/checkpoints/320.pt cannot be written: File too large; no checkpoint was written"
    )


def test_a_deleted_folder_ends_the_run(tmp_path):
    arguments = [*TINY, "--num-timesteps", 400_000, "--num-evals", 1001, "--run-dir", "run"]
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "torch_ppo.train", *map(str, arguments)],
        cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        for line in process.stdout:
            if line.lstrip().startswith("1,"):
                (tmp_path / "run").rename(tmp_path / "elsewhere")
                break
        process.stdout.read()
        errors = process.stderr.read()
    assert process.returncode == 2 and errors.count("\n") == 1, errors
    assert re.match(r"error: run/\S+ cannot be written: No such file or directory; no checkpoint", errors)
    assert not (tmp_path / "run").exists()


def test_what_was_there_stays(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def fails(*arguments):
        raise OSError(5, "Input/output error")

    for call in ("write", "fsync", "replace", "open"):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, fails)
            with pytest.raises(DiskError, match=r"file cannot be written: Input/output error"):
                write_atomically(path, b"new")
        assert path.read_bytes() == b"old" and [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_the_folder_is_synced_after_the_rename(tmp_path, monkeypatch):
    calls = []
    for name in ("replace", "fsync"):
        call = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, call=call: (calls.append((name, args)), call(*args)))
    write_atomically(tmp_path / "file", b"new")
    assert [name for name, _ in calls] == ["fsync", "replace", "fsync"]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_umask_is_obeyed(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_atomically(tmp_path / "file", b"")
        AppendedFile(tmp_path / "log").close()
    finally:
        os.umask(before)
    for name in ("file", "log"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o666 & ~mask


def test_appended_pieces_are_whole_and_come_later(tmp_path, monkeypatch):
    file = AppendedFile(tmp_path / "log")
    file.append(b"one\n")
    write = os.write

    def half(handle, content):
        write(handle, content[:2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", half)
    for piece in (b"two\n", b"three\n"):
        with pytest.raises(DiskError, match="No space left"):
            file.append(piece)
        assert (tmp_path / "log").read_bytes() == b"one\n"
    monkeypatch.undo()
    file.append(b"four\n")
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\nthree\nfour\n"
    (tmp_path / "log").unlink()
    with pytest.raises(DiskError, match="No such file"):
        file.append(b"five\n")
    file.close()


def test_stop_and_continue():
    def fails():
        raise DiskError("x cannot be written: full")

    said = []
    stopping, going_on = DiskWrites("stop", said.append), DiskWrites("continue", said.append)
    assert stopping(lambda: None) and not stopping(fails) and stopping.stopped_by is not None and said == []
    for _ in range(3):
        assert not going_on(fails, fails)
    assert going_on.stopped_by is None
    going_on.recovered()
    going_on.recovered()
    assert said == [
        "warning: x cannot be written: full; training goes on, and the next report tries again",
        "files are written again",
    ]


def test_temporaries_of_killed_processes_are_removed(tmp_path):
    names = [".0123456789ab.tmp", ".11520.pt.73c0p2hs", ".config.toml.abcdefgh", ".policy.pt.unchecked"]
    for name in (*names, "last.pt", ".notes"):
        (tmp_path / name).touch()
    remove_temporaries(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"last.pt", ".notes"}
