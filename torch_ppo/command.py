"""How a program of ours is called, what it prints while it is busy, and how its output ends.

Imports nothing that takes time: `torch-ppo` alone answers at once.
"""

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator

FRONTS = ("torch-ppo", "python -m torch_ppo")  # what stands before the program's name, see __main__


def called(program: str) -> str:
    """A program's name in the way that this process was called: `torch-ppo play`, or `python -m torch_ppo.play`."""
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


class _Printed(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage(), flush=True)


def print_notes() -> None:
    """Prints what the library otherwise notes in silence, such as what a minute of compiling is for."""
    logger = logging.getLogger("torch_ppo")
    logger.setLevel(logging.INFO)
    if not any(isinstance(handler, _Printed) for handler in logger.handlers):
        logger.addHandler(_Printed())
