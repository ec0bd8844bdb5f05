"""How many CPU cores a process may use: those that it may run on, and no more than its container has the time of."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

GROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")  # Linux's control groups


def available_cores() -> int:
    """CPU cores that this process may use, at least one.

    A container of two CPUs (`docker --cpus=2`, a limit of Kubernetes) sees all cores of its machine, but what runs on more
    of them than two is stopped for most of the time.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *(math.ceil(quota) for quota in _quotas())]))


def _quotas() -> Iterator[float]:
    """The limits in CPUs of this process's control group and of those above it, of version 2 and 1."""
    try:
        lines = OWN.read_text().splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = GROUPS / "cpu" if controllers else GROUPS
        folder = root / path.strip("/")
        # Within a container its own group is mounted as the root, whatever the path says.
        for group in (folder, *(above for above in folder.parents if above.is_relative_to(root))):
            limit = _limit_v1(group) if controllers else _limit_v2(group)
            if limit is not None:
                yield limit


def _limit_v2(group: Path) -> float | None:
    try:
        quota, period = (group / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _limit_v1(group: Path) -> float | None:
    try:
        quota, period = (int((group / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return None if quota < 0 else quota / period
    except (OSError, ValueError, ZeroDivisionError):
        return None
