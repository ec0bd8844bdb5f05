"""A process that makes one clip: `python -m torch_ppo.watching.clip CHECKPOINT FILE.gif [--trust]`. Of no use by itself.

`Clips` starts it beside a training. It ends with the process that started it, whose end of its standard input it holds.
"""

import os
import sys
import tempfile
import threading
from pathlib import Path

from torch_ppo.errors import user_errors
from torch_ppo.running.disk import write_atomically
from torch_ppo.watching.arguments import PlayArguments
from torch_ppo.watching.player import make_player
from torch_ppo.watching.recording import record

SECONDS, FRAMES_PER_SECOND, SIZE = 5.0, 12.5, (256, 192)


def _end_with_parent() -> None:
    while os.read(0, 1):  # not by sys.stdin, whose lock would be in the way when this process ends
        pass
    os._exit(1)


def make_clip(checkpoint: Path, file: Path, *, trust: bool) -> None:
    """The beginning of an episode with a checkpoint's policy, as an animation of some seconds."""
    arguments = PlayArguments(run=checkpoint, trust=trust, seconds=SECONDS, width=SIZE[0], height=SIZE[1])
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / file.name
        record(make_player(arguments), arguments, made, frames_per_second=FRAMES_PER_SECOND)
        write_atomically(file, made.read_bytes())


def main() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with user_errors():
        make_clip(Path(sys.argv[1]), Path(sys.argv[2]), trust="--trust" in sys.argv)


if __name__ == "__main__":
    main()
