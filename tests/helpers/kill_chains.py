"""Runs that are killed at file events and gone on with, in processes forked from one that has imported everything.

    python -m tests.helpers.kill_chains FOLDER NUM_CHAINS SEED

Makes FOLDER/undisturbed, and FOLDER/chain0 and so on, each after one to three SIGKILLs at random events; prints a line of
what each chain went through. An event is the moment before or after a system call that changes files, or the middle of
a write.
"""

import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import torch_ppo.export
import torch_ppo.running.logger
import torch_ppo.running.progress
import torch_ppo.train
from torch_ppo.running import environment

TINY = (
    "--config cartpole --num-timesteps 2500 --num-envs 8 --batch-size 8 --num-minibatches 2 --unroll-length 10 "
    "--num-updates-per-batch 1 --episode-length 20 --num-eval-envs 2 --num-evals 4 --policy-hidden-layer-sizes 8 "
    "--value-hidden-layer-sizes 8 --log-training-metrics --device cpu --torch-threads 1 --keep-checkpoints 2"
).split()
CALLS = ("open", "fsync", "replace", "unlink", "mkdir", "truncate", "ftruncate")


class Killer:
    """Counts the events of this process, and kills it at event `at`."""

    def __init__(self, at: int | None) -> None:
        self.at, self.count = at, 0

    def tick(self) -> None:
        self.count += 1
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, call: Callable) -> Callable:
        def called(*args: object, **kwargs: object) -> object:
            self.tick()
            result = call(*args, **kwargs)
            self.tick()
            return result

        return called

    def install(self) -> None:
        for name in CALLS:
            setattr(os, name, self.around(getattr(os, name)))
        write = os.write

        def write_halves(handle: int, content: bytes) -> int:
            half = len(content) // 2
            write(handle, content[:half])
            self.tick()
            return half + write(handle, content[half:])

        os.write = self.around(write_halves)


def train(arguments: list[str], log: Path, kill_at: int | None) -> tuple[int, int]:
    """Runs the program in a fork; its exit status (negative: the signal) and how many events it had, if it ended."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        killer, status = Killer(kill_at), 1
        sys.argv = ["torch_ppo.train", *arguments]
        try:
            killer.install()
            torch_ppo.train.main()
            status = 0
        except SystemExit as end:
            status = end.code
        finally:
            os.write(writer, str(killer.count).encode())
            sys.stdout.flush()
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as file:
        count = file.read()
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), int(count or 0)


def chain(folder: Path, events: int, numbers: random.Random) -> list[str]:
    """Kills and goes on one to three times, then lets the run end; what happened."""
    story = []
    kills = numbers.choice((1, 1, 2, 3))
    while len(story) < 100:
        begun = (folder / "config.toml").exists()
        arguments = ["--resume", str(folder)] if begun else [*TINY, "--run-dir", str(folder)]
        # Early and late events count: there is where a run is begun, and where it is finished.
        kill_at = numbers.choice((numbers.randint(1, events), numbers.randint(1, 40))) if kills else None
        kills -= kills > 0
        status, _ = train(arguments, folder.with_suffix(".log"), kill_at)
        story.append(
            f"{'--resume' if begun else 'new'}: {f'killed at {kill_at}' if status < 0 else f'status {status}'}"
        )
        if status == 2 and "is complete" in folder.with_suffix(".log").read_text().splitlines()[-1]:
            story[-1] += ", nothing was left to do"
        if status >= 0:
            return story
    return story


def main() -> None:
    folder, num_chains, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    environment.GIT_SECONDS = 0  # git is slow where many run at once, and not what is looked at
    folder.mkdir(parents=True, exist_ok=True)
    status, events = train([*TINY, "--run-dir", str(folder / "undisturbed")], folder / "undisturbed.log", None)
    print(f"undisturbed: status {status}, {events} events", flush=True)
    for number in range(num_chains):
        story = chain(folder / f"chain{number}", events, random.Random(f"{seed} {number}"))
        print(f"chain{number}: {'; '.join(story)}", flush=True)


if __name__ == "__main__":
    main()
