"""Saying so when MuJoCo Warp compiles its kernels: half a minute to three, the first time for a kind of model."""

import contextlib
import logging
import os
import threading
from collections.abc import Iterator

import warp as wp

log = logging.getLogger(__name__)
LOOK_EVERY = 0.2  # seconds

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
