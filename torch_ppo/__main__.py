"""All programs under one name: `torch-ppo train --env cartpole`, or `python -m torch_ppo train --env cartpole`.

Each is also a module of its own, `python -m torch_ppo.train`; only the one that is asked for is imported.
"""

import importlib
import platform
import sys
from importlib import metadata
from pathlib import Path

from torch_ppo import __version__
from torch_ppo.command import FRONTS, fitting, reader_may_leave, say_loading
from torch_ppo.errors import UserError, did_you_mean, interrupts_end_imports, interrupts_raise_again, user_errors

# name: (module with a main(), what it does)
PROGRAMS = {
    "train": ("torch_ppo.train", "train a task: train --env cartpole"),
    "play": ("torch_ppo.play", "watch a policy, in a window or as a video: play RUN_FOLDER"),
    "evaluate": ("torch_ppo.evaluate", "how well a policy does over many whole episodes: evaluate RUN_FOLDER"),
    "doctor": ("torch_ppo.doctor", "why a run fails, and what to change: doctor RUN_FOLDER"),
    "plot": ("torch_ppo.plot", "a run on one page, or several compared, as pictures: plot RUN_FOLDER ..."),
    "seeds": ("torch_ppo.seeds", "train with several seeds and settings; one table, one picture"),
    "tasks": ("torch_ppo.tasks", "list the tasks: sizes, time limits, configurations"),
    "export": ("torch_ppo.export", "write a run's policy as TorchScript, ONNX or others, checked: export RUN_FOLDER"),
    "import_policy": ("torch_ppo.import_policy", "make a run of another trainer's policy: import_policy FILE OUT"),
    "brax": ("torch_ppo.brax", "from and to checkpoints of Brax: brax import FOLDER OUT, brax export RUN OUT"),
    "dialects": ("torch_ppo.dialects.__main__", "translate settings from and to other libraries' words"),
    "completion": ("torch_ppo.completion", "print a script for the shell, so that Tab completes: completion bash"),
}
LIBRARIES = ("torch", "mujoco", "mujoco-warp", "warp-lang", "numpy")


class ProgramError(UserError):
    """A program that there is not."""


def overview(front: str) -> str:
    """The programs, a line on each."""
    width = max(map(len, PROGRAMS))
    lines = [f"  {name:{width}}  {about}" for name, (_, about) in PROGRAMS.items()]
    end = f"{front} PROGRAM --help has a program's options, {front} --version the versions."
    return "\n".join([f"usage: {front} PROGRAM ...", "", *lines, "", end])


def versions() -> str:
    """Ours, Python's, and those of what decides a run, without importing any of it."""
    lines = [f"torch_ppo {__version__}", f"python {platform.python_version()}"]
    for name in LIBRARIES:
        try:
            lines.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            lines.append(f"{name} is not installed")
    return "\n".join(lines)


def find_program(words: list[str], front: str) -> str:
    """The module of the program that is named first; ProgramError if there is none."""
    name = words[0]
    if name.startswith("-"):
        raise ProgramError(f"a program comes first: {front} train {' '.join(words)}")
    if name not in PROGRAMS:
        raise ProgramError(f"there is no program {name!r}{did_you_mean(name, PROGRAMS)}")
    return PROGRAMS[name][0]


def main() -> None:
    """The program `torch-ppo`, or `python -m torch_ppo`."""
    front = FRONTS[1] if Path(sys.argv[0]).name == "__main__.py" else FRONTS[0]
    words = sys.argv[1:]
    if words and words[0] not in ("-h", "--help", "--version"):
        with user_errors():
            module = find_program(words, front)
        given = sys.argv
        interrupts_end_imports()
        try:
            sys.argv = [f"{front} {words[0]}", *words[1:]]  # what usage lines name
            if words[0] == "train":
                say_loading(__version__)
            importlib.import_module(module).main()
        finally:  # a program of somebody else's may have called this
            interrupts_raise_again()
            sys.argv = given
        return
    with reader_may_leave():
        print(fitting(versions() if words == ["--version"] else overview(front)))


if __name__ == "__main__":
    main()
