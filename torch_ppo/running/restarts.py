"""A training that `torchrun` starts again: what it goes on with, and how its processes find each other.

`torchrun --max-restarts` runs the same command again. Which run an attempt before had begun is kept in the launcher's own
store: it is there for as long as the launcher is, and no file can be left over from another job. Its count of restarts
is of no use, because it is of one host: the others start again without counting.
"""

import logging
import os
import secrets
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist

log = logging.getLogger(__name__)

RUN = "torch_ppo/run"


def launcher_store() -> dist.Store | None:
    """The store in `torchrun`, which outlives the processes that it starts; None without it."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return dist.TCPStore(address, port, is_master=False, timeout=timedelta(minutes=1))


def note_run(folder: Path) -> None:
    """Has a restart go on with the run in this folder."""
    if (store := launcher_store()) is not None:
        store.set(RUN, os.fsencode(folder.resolve()))


def words_after_restarts(words: Sequence[str]) -> Sequence[str]:
    """The program's words, or those that go on with the run which an attempt before this one had begun.

    No process of an attempt can see what that attempt itself notes: it notes once all have joined.
    """
    store = launcher_store()
    if store is None or not store.check([RUN]):
        return words
    folder = os.fsdecode(store.get(RUN))
    log.info(f"note: started again by torchrun; goes on with {folder}")
    # The task was trusted when the run was begun.
    return ["--resume", folder, "--trust", *(word for word in words if word == "--quiet")]


def store_of_this_attempt(store: dist.Store, rank: int, count: int, patience: timedelta) -> dist.Store:
    """A part of the launcher's store that is fresh, and the same for all processes of this attempt.

    torch has them meet under the same names in every attempt (2.13), where they find what the one before has left, and
    wait for ever. The first process makes up a name. Another one cannot know whether the name that it reads is of this
    attempt, until the first has answered it.
    """
    own = secrets.token_hex(8)
    if rank == 0:
        store.set("torch_ppo/first", own)
        for other in range(1, count):
            store.wait([f"{own}/here/{other}"], patience)
            store.set(f"{own}/welcome/{other}", store.get(f"{own}/here/{other}"))
        return dist.PrefixStore(own, store)
    deadline = time.monotonic() + patience.total_seconds()
    while time.monotonic() < deadline:
        store.wait(["torch_ppo/first"], patience)
        name = store.get("torch_ppo/first").decode()
        store.set(f"{name}/here/{rank}", own)
        welcome = f"{name}/welcome/{rank}"
        if store.check([welcome]) and store.get(welcome).decode() == own:
            return dist.PrefixStore(name, store)
        time.sleep(0.05)
    raise TimeoutError
