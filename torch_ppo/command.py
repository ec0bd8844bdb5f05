"""How a program of ours is called, what it prints while it is busy, and how its output ends.

Imports nothing that takes time: `torch-ppo` alone answers at once.
"""

import contextlib
import importlib
import logging
import os
import re
import shutil
import signal
import sys
import textwrap
from collections.abc import Iterator
from typing import TextIO

FRONTS = ("torch-ppo", "python -m torch_ppo")  # what stands before the program's name, see __main__


def called(program: str) -> str:
    """A program's name in the way that this process was called: `torch-ppo play`, or `python -m torch_ppo.play`.

    Those of a checkout are modules alone: `tools.bench`.
    """
    if program.startswith("tools."):
        return f"python -m {program}"
    for front in FRONTS:
        if sys.argv[0].startswith(f"{front} "):
            return f"{front} {program}"
    return f"python -m torch_ppo.{program}"


@contextlib.contextmanager
def reader_may_leave() -> Iterator[None]:
    """Output that nobody reads to its end, as `head` does, ends the program without a word.

    Output that is closed gets nothing, and one that lacks a character gets a question mark for it.
    Not around training: a run outlives the terminal that it reports to.
    """
    if sys.stdout is None:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            yield
        return
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    try:
        try:
            yield
        finally:
            sys.stdout.flush()  # here, where it can be caught
    except BrokenPipeError:
        with open(os.devnull, "w") as nowhere:  # Python flushes once more at its end
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)


def columns(stream: TextIO) -> int:
    """How many characters a line of the terminal has now."""
    try:
        found = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError, AttributeError):
        found = 0
    return found or shutil.get_terminal_size().columns  # a terminal may not know, and say 0


_FIRST_COLUMN = re.compile(r"\s*\S.*?\s{2,}(?=\S)")  # a name and what lies between it and its text


# What a command begins with: a program of ours, installed or a module, in a checkout also of `tools`, or another's.
_COPIED = (FRONTS[0], "python -m ", "tensorboard ", "pip install ")


def folded(text: str, width: int) -> str:
    """Lines of at most `width` characters, broken between words, the rest below its own column.

    A line with a command is left to the terminal, from which it is copied as one line.
    """
    lines = []
    for line in text.split("\n"):
        if any(command in line for command in _COPIED):
            lines.append(line)
            continue
        first = _FIRST_COLUMN.match(line)
        indent = first.end() if first and first.end() <= width // 2 else 2
        lines += (
            textwrap.wrap(line, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)
            if len(line) > width
            else [line]
        )
    return "\n".join(lines)


def fitting(text: str) -> str:
    """What is printed, folded where that is on a terminal."""
    return folded(text, columns(sys.stdout)) if sys.stdout.isatty() else text


YELLOW, PLAIN = "\x1b[33m", "\x1b[0m"


def may_colour(stream: TextIO) -> bool:
    """Whether colours are wanted: on a terminal that has them, unless NO_COLOR is set (no-color.org)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def highlighted(text: str) -> str:
    """Lines with their first word coloured, where that is `warning:`."""
    mark = "warning:"
    lines = text.split("\n")
    return "\n".join(f"{YELLOW}{mark}{PLAIN}{line[len(mark) :]}" if line.startswith(mark) else line for line in lines)


def check_opengl() -> None:
    """Ends the program with a line where MUJOCO_GL names what MuJoCo cannot be imported with."""
    chosen = os.environ.get("MUJOCO_GL")
    if not chosen:
        return
    try:
        importlib.import_module("mujoco")
    except Exception as error:  # noqa: BLE001 - of whatever a loader of OpenGL stumbles over
        reason = str(error).strip().partition("\n")[0]
        print(
            f"error: MUJOCO_GL is {chosen!r}, with which MuJoCo cannot be imported ({reason}); egl may work, and without "
            "MUJOCO_GL what there is is taken",
            file=sys.stderr,
        )
        sys.exit(2)


def say_loading(version: str) -> None:
    """What a program prints first, before it imports libraries that take seconds; of several devices' processes one."""
    words = {*sys.argv, *sys.orig_argv}
    silent = {"--quiet", "-h", "--help"} & words or "torch" in sys.modules or os.environ.get("RANK", "0") != "0"
    if not silent:
        with contextlib.suppress(OSError, ValueError):
            print(f"torch_ppo {version}: loading PyTorch and MuJoCo", flush=True)


class _Printed(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage(), flush=True)


def print_notes(*, quiet: bool = False) -> None:
    """Prints what the library otherwise notes in silence, such as what a minute of compiling is for; quiet, warnings only."""
    logger = logging.getLogger("torch_ppo")
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    if not any(isinstance(handler, _Printed) for handler in logger.handlers):
        logger.addHandler(_Printed())
