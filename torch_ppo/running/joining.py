"""Joining the processes that `torchrun` has started, one for each device."""

import contextlib
import datetime
import os
import sys
import time
import traceback
from collections.abc import Iterator

import torch
import torch.distributed as dist

from torch_ppo.errors import ConfigError, UserError, user_errors
from torch_ppo.learning.devices import ALONE, DeviceLost, Devices
from torch_ppo.running.restarts import launcher_store, store_of_this_attempt
from torch_ppo.running.signals import StopRequest
from torch_ppo.settings.config import Config

# How long a device waits for the others. Between two exchanges there is a training step, a piece of an evaluation, or
# the writing of a checkpoint.
PATIENCE = datetime.timedelta(seconds=50)
# They meet after starting, compiling and recording, which may take minutes on one and not on the other.
PATIENCE_AT_START = datetime.timedelta(minutes=20)
# Most mistakes are all devices'. So long the others leave it to the first to say one, seconds.
FIRST_SPEAKS_WITHIN = 5.0


class NotNeeded(UserError):
    """This process is beyond `max_devices_per_host`, and has no part in the training."""


def launched_together() -> bool:
    """Whether `torchrun`, or something like it, has started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


@contextlib.contextmanager
def only_the_first_speaks() -> Iterator[None]:
    """Keeps what the other devices' processes print to themselves: the first says the same."""
    if not launched_together() or os.environ["RANK"] == "0":
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield


@contextlib.contextmanager
def errors_in_turn(stop: StopRequest) -> Iterator[None]:
    """Of several processes, one that fails says why before the others notice that it is gone: they end then, and the
    launcher ends it with them. Others than the first wait with it, for a mistake of all is said by the first.
    """
    try:
        yield
    except (DeviceLost, NotNeeded):
        raise
    except Exception as error:
        if not launched_together():
            raise
        rank = os.environ["RANK"]
        if rank != "0":
            _wait_for_the_first(stop)
        with contextlib.redirect_stderr(sys.__stderr__):
            if rank != "0":
                print(f"device {rank}:", file=sys.stderr)
            try:
                with user_errors():
                    raise
            except type(error):
                traceback.print_exception(error)
        sys.exit(1)


def _wait_for_the_first(stop: StopRequest) -> None:
    """Ends this process where the launcher asks for it, as it does when the first has ended."""
    until = time.monotonic() + FIRST_SPEAKS_WITHIN
    while time.monotonic() < until:
        if stop.signal is not None:
            sys.exit(1)
        time.sleep(0.05)


@contextlib.contextmanager
def joined(config: Config) -> Iterator[tuple[Devices, str]]:
    """The devices that learn together, and the name of this process's own.

    Of the configuration `device`, where with several processes "cuda" and "auto" mean one for each on a host, and
    `max_devices_per_host` count. Raises NotNeeded in a process beyond those. Without `torchrun` there is one device, and
    nothing is joined.
    """
    device, max_devices_per_host = config.device, config.max_devices_per_host
    if not launched_together():
        yield ALONE, device
        return
    own_device, rank, count = _own_part(device, max_devices_per_host)
    if count == 1:
        yield ALONE, own_device
        return
    on_cuda = own_device.startswith("cuda")
    if on_cuda:
        torch.cuda.set_device(torch.device(own_device))
    before = dist.is_initialized()
    if before:
        raise ConfigError("torch.distributed is initialised already; torch_ppo joins its processes itself")
    store = launcher_store()
    if store is not None:
        try:
            store = store_of_this_attempt(store, rank, count, PATIENCE_AT_START)
        except (RuntimeError, TimeoutError):
            waited = f"{PATIENCE_AT_START.total_seconds() / 60:.0f} minutes"
            raise DeviceLost(f"device {rank} of {count} stops: not all of the others came within {waited}") from None
    dist.init_process_group("gloo", store=store, rank=rank, world_size=count, timeout=PATIENCE_AT_START)
    try:
        host = dist.new_group(backend="gloo", timeout=PATIENCE)
        learning = dist.new_group(backend="nccl", timeout=PATIENCE) if on_cuda else host
        yield Devices(rank, count, learning, host), own_device
    finally:
        with contextlib.suppress(RuntimeError):
            dist.destroy_process_group()


def _own_part(device: str, max_devices_per_host: int | None) -> tuple[str, int, int]:
    """This process's device, its rank among those that take part, and their number."""
    try:
        local, per_host, count, rank = (
            int(os.environ[name]) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "WORLD_SIZE", "RANK")
        )
    except (KeyError, ValueError) as error:
        raise ConfigError(f"WORLD_SIZE is set, as torchrun does, but {error} is not; start with torchrun") from None
    used = min(per_host, max_devices_per_host or per_host)
    if local >= used:
        raise NotNeeded(f"process {local} of this host has no part: max_devices_per_host is {used}")
    host, hosts = rank // per_host, count // per_host
    wants_cuda = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if wants_cuda and device not in ("auto", "cuda", "cuda:0"):  # the last is in the config.toml of such a run
        raise ConfigError(f"device is {device!r}, but {used} processes share this host; cuda would give each its own")
    if wants_cuda and torch.cuda.device_count() < used:
        raise ConfigError(
            f"{used} processes share this host, but it has {torch.cuda.device_count()} CUDA devices; "
            f"--nproc-per-node {max(torch.cuda.device_count(), 1)} would work"
        )
    if not wants_cuda:
        _share_cores(local, used)
    return (f"cuda:{local}" if wants_cuda else device), host * used + local, hosts * used


def _share_cores(local: int, processes: int) -> None:
    """Keeps this process to its part of the host's cores, where there is one each and the system can."""
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) >= processes:
        os.sched_setaffinity(0, cores[local::processes])
        torch.set_num_threads(len(cores[local::processes]))
