"""Numbers in TensorBoard's files."""

from collections.abc import Iterable
from pathlib import Path

from torch_ppo.diagnosis.course import Point

PATTERN = "events.out.tfevents*"


def event_files(folder: Path) -> list[Path]:
    """Of a run, in the order in which they were begun; those of a folder below as well."""
    return sorted(folder.rglob(PATTERN), key=lambda path: (path.parent, path.name))


def read_events(files: Iterable[Path]) -> dict[str, list[Point]]:
    """All numbers by tag, by step. Where a file says that it starts anew from a step, older ones end before it."""
    # It takes a second to import, and only other trainers' runs need it.
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.compat.proto.event_pb2 import SessionLog
    from tensorboard.util.tensor_util import make_ndarray

    series: dict[str, list[Point]] = {}
    for file in files:
        for event in EventFileLoader(str(file)).Load():
            if event.session_log.status == SessionLog.START:
                series = {tag: [p for p in points if p.step < event.step] for tag, points in series.items()}
            for value in event.summary.value:
                # The loader turns old-style numbers into tensors of one.
                numbers = make_ndarray(value.tensor) if value.HasField("tensor") else None
                if numbers is not None and numbers.size == 1 and numbers.dtype.kind in "fiu":
                    series.setdefault(value.tag, []).append(Point(event.step, float(numbers.reshape(())[()])))
    return {tag: sorted(points) for tag, points in series.items() if points}
