"""Starting Warp; and saying so when it compiles MuJoCo Warp's kernels: half a minute to three, for a new kind of model."""

import contextlib
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterator

import torch
import warp as wp

from torch_ppo.errors import ConfigError

log = logging.getLogger(__name__)
LOOK_EVERY = 0.2  # seconds

NO_CUDA = b"Warp CUDA "  # how lines begin that its library in C writes where CUDA does not work


def start_warp() -> None:
    """Starts Warp with its warnings and errors alone, and where torch has no CUDA either without those about CUDA.

    Those are written in C to the process's errors, for which Warp has no setting, at every start on a CPU.
    """
    wp.config.log_level = wp.LOG_WARNING
    try:
        with contextlib.nullcontext() if torch.cuda.is_available() else _errors_without(NO_CUDA):
            wp.init()
    except OSError as error:  # a home that cannot be written, say
        if error.filename is None:
            raise
        raise ConfigError(
            f"MuJoCo Warp has no folder for the kernels that it compiles: {error.filename}: {error.strerror}; "
            "WARP_CACHE_PATH=FOLDER in the environment names another"
        ) from None


@contextlib.contextmanager
def _errors_without(beginning: bytes) -> Iterator[None]:
    """Lines that begin so are left out of what is written to the process's errors inside, from C too."""
    try:
        before = os.dup(2)
    except OSError:  # closed
        yield
        return
    with tempfile.TemporaryFile() as written:
        sys.stderr.flush()
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)
            written.seek(0)
            for line in written:
                if not line.startswith(beginning):
                    os.write(2, line)


_said: set[str] = set()  # once in a process is enough


@contextlib.contextmanager
def compiling_is_said(what: str = "kernels", duration: str = "half a minute to three") -> Iterator[None]:
    """Notes it in the log as soon as kernels are compiled inside, not if they are found in Warp's cache.

    Warp has no call for that. Each module that it compiles gets a folder in its cache, and that is seen from a thread.
    """
    if what in _said or not os.path.isdir(wp.config.kernel_cache_dir):
        yield
        return
    ended = threading.Event()
    before = os.stat(wp.config.kernel_cache_dir).st_mtime_ns

    def watch() -> None:
        while not ended.wait(LOOK_EVERY):
            if os.stat(wp.config.kernel_cache_dir).st_mtime_ns != before:
                _said.add(what)
                log.info(f"compiling MuJoCo Warp's {what} for this kind of model, once; {duration}")
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
