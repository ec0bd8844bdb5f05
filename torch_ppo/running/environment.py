"""What a run was made with: versions, command, git, and the task's files, kept in its folder.

environment.json has it; `task/` has copies of the files, and `git.diff` what differed from the commit.
"""

import contextlib
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from pathlib import Path

import torch_ppo
from torch_ppo.environments.finding import runs_own_code
from torch_ppo.environments.sources import Source
from torch_ppo.errors import ConfigError
from torch_ppo.running.disk import disk_errors, write_atomically
from torch_ppo.running.task_files import TaskFiles, changed, files_of, where_to_load

PACKAGES = ("torch", "mujoco", "mujoco-warp", "warp-lang", "numpy")
LARGEST_DIFF = 1_000_000  # bytes; of more, the beginning
GIT_SECONDS = 20

Record = dict[str, object]


class UntrustedError(ConfigError):
    """A task of its own that only a file names: loading it would run code that nobody has asked for."""

    def __init__(self, name: str, source: str, remedy: str) -> None:
        self.name, self.source = name, source
        shown = shlex.quote(name) if remedy.startswith("--") else name
        super().__init__(
            f"{source} names a task of its own, {name}, whose code would run; {remedy.format(name=shown)} allows it"
        )

    def said_with(self, remedy: str) -> "UntrustedError":
        """The same in the words of another caller, whose `remedy` allows it."""
        return UntrustedError(self.name, self.source, remedy)


def _read(folder: Path) -> Record:
    """environment.json; empty if there is none, or none that can be read (an older run, or somebody's edit)."""
    file = folder / "environment.json"
    try:
        record = json.loads(file.read_bytes()) if file.is_file() else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def locate_task(folder: Path, env: str, *, trusted: bool, remedy: str = "--trust") -> tuple[str, list[str]]:
    """The name by which to load the task of a run, which is a copy if it is gone from where it was; lines to say so.

    UntrustedError if that would run code that only a file names, unless it is `trusted`; `remedy` allows it.
    """
    task = _read(folder).get("task")
    known = isinstance(task, dict) and all(isinstance(task.get(place), str) for place in ("root", "base"))
    name, note = where_to_load(env, task if known else {}, folder / "task")
    check_trusted(name, str(folder), trusted=trusted, remedy=remedy)
    return name, [note] if note else []


def check_trusted(name: str, source: str, *, trusted: bool, remedy: str = "--trust") -> None:
    """UntrustedError if loading the task `name`, of which `source` tells, would run code that nobody has asked for."""
    if runs_own_code(name) and not trusted:
        raise UntrustedError(name, source, remedy)


def remember(folder: Path, env: str, source: Source) -> list[str]:
    """Notes a start of the run; at the first, also what its task is made of. Lines about what has changed since.

    DiskError if the folder cannot be written. Files of the task that cannot be read do not matter.
    """
    record = _read(folder)
    start = _start(source.packages)
    notes = _differences(record, source, start["versions"])
    files = None if "task" in record else _files_of(source)
    if files is not None:
        record["git"] = _git(folder, files)
        with disk_errors(folder / "task"):
            left_out = files.copy(folder / "task")
        places = {"env": env, "root": str(files.root), "base": str(files.base)}
        record["task"] = {**places, "files": files.hashes(), "not_copied": left_out}
    starts = record.get("starts")
    record["starts"] = [*(starts if isinstance(starts, list) else []), start]
    write_atomically(folder / "environment.json", json.dumps(record, indent=1).encode() + b"\n")
    return notes


def _files_of(source: Source) -> TaskFiles | None:
    """None for a task without files, such as one typed into an interpreter, or with some that cannot be read."""
    if source.code is None:
        return None
    try:
        return files_of(source.code)
    except (OSError, KeyError, AttributeError, TypeError, ValueError, SyntaxError):
        return None


def what_changed(folder: Path, source: Source) -> list[str]:
    """A line if the task's files are not those that the run began with."""
    return _differences(_read(folder), source, {})


def _differences(record: Record, source: Source, versions: dict[str, str]) -> list[str]:
    notes = []
    files = _files_of(source)
    with contextlib.suppress(OSError, LookupError, AttributeError, TypeError):
        names = changed(record["task"]["files"], files.hashes())
        if names:
            notes.append(f"note: {', '.join(names)} changed since the run began; task/ has what it began with")
    with contextlib.suppress(LookupError, AttributeError, TypeError):
        before = record["starts"][-1]["versions"]
        others = [f"{name} {before.get(name)} -> {now}" for name, now in versions.items() if before.get(name) != now]
        if others:
            notes.append(f"note: other versions than at the last start: {', '.join(others)}")
    return notes


def _start(packages: tuple[str, ...]) -> Record:
    """When and how this process was started, and with what; versions of more `packages` than ours."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.orig_argv,
        "folder": os.getcwd(),
        "versions": {
            "python": platform.python_version(),
            "torch_ppo": torch_ppo.__version__,
            **{name: _version(name) for name in (*PACKAGES, *packages)},
        },
        "system": platform.platform(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(folder: Path, files: TaskFiles) -> Record | None:
    """Commit of the repository that the task is in; git.diff has what differs from it. None without git."""
    if "site-packages" in files.source.parts:  # installed: a repository above it is not the task's
        return None

    def git(*arguments: str) -> bytes:
        command = ["git", "--no-optional-locks", "-C", str(files.source.parent), *arguments]
        return subprocess.run(command, capture_output=True, check=True, timeout=GIT_SECONDS).stdout

    try:
        commit = git("rev-parse", "HEAD").decode().strip()
        diff = git("diff", "--no-ext-diff", "--no-textconv", "--binary", "HEAD")
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    if diff:
        write_atomically(folder / "git.diff", diff[:LARGEST_DIFF])
    return {"commit": commit, "changed": bool(diff), "diff_is_cut": len(diff) > LARGEST_DIFF}
