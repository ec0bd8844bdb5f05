"""From and to Brax: a PPO checkpoint of Brax as a run of ours, and a run's policy as a checkpoint that Brax loads.

    python -m torch_ppo.brax import checkpoints/000050000000 runs/theirs --env cartpole
    python -m torch_ppo.brax export runs/cartpole-... checkpoints

Both need Orbax, the extra brax: pip install '.[brax]'. docs/import.md has more.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from torch_ppo.command import called, reader_may_leave
from torch_ppo.errors import ConfigError, user_errors
from torch_ppo.import_policy import ImportArguments, import_policy
from torch_ppo.importing import orbax_folder, to_brax
from torch_ppo.importing.imported import ForeignError
from torch_ppo.running.checkpoint import agent_from_checkpoint, config_of, find_checkpoint, load_checkpoint
from torch_ppo.running.disk import check_folder
from torch_ppo.settings.command_line import refuse_idle, spelled
from torch_ppo.settings.spellings import HELP


@dataclass(frozen=True)
class ExportArguments:
    """Write a run's networks and normalizer as a checkpoint of Brax's PPO."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder, or a checkpoint file."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Folder of checkpoints; the new one in it is named by its env steps, as Brax's are."""
    checkpoint: str | None = None
    """Which checkpoint of the run folder: best (by default), last, or the env steps of one."""


def export_to_brax(run: Path, out: Path, *, checkpoint: str = "best") -> Path:
    """Writes the checkpoint's folder, and returns it. ForeignError for what Brax lacks, or a folder that is there."""
    saved = load_checkpoint(find_checkpoint(run, checkpoint))
    config, agent = config_of(saved), agent_from_checkpoint(saved)
    params, network = to_brax.write(agent, config, saved["observation_sizes"], saved["action_dim"])
    path = out / f"{saved['env_steps']:012d}"
    check_folder(out, "OUT")
    if path.exists():
        raise ForeignError(f"{path} is there already; a new folder would work")
    orbax_folder.write(path, params, network)
    return path


WAYS = {"import": ImportArguments, "export": ExportArguments}
Arguments = (
    Annotated[ImportArguments, tyro.conf.subcommand("import")]
    | Annotated[ExportArguments, tyro.conf.subcommand("export")]
)  # fmt: skip


def _words(words: list[str]) -> list[str]:
    """The command line as tyro reads it without an error; ConfigError for what it cannot be."""
    if words and words[0] in WAYS:
        return [words[0], *spelled(WAYS[words[0]], f"brax {words[0]}", words[1:])]
    if set(HELP) & set(words):
        return words
    raise ConfigError(f"say which way: {called('brax')} import CHECKPOINT OUT, or {called('brax')} export RUN OUT")


def main() -> None:
    """The program `python -m torch_ppo.brax`."""
    with reader_may_leave(), user_errors():
        arguments = tyro.cli(Arguments, args=_words(sys.argv[1:]), prog=called("brax"), description=__doc__)
        if isinstance(arguments, ExportArguments):
            if not arguments.run.is_dir():
                refuse_idle(arguments, "checkpoint", f"of {arguments.run}, which is one checkpoint")
            path = export_to_brax(arguments.run, arguments.out, checkpoint=arguments.checkpoint or "best")
            print(f"{path}: a checkpoint that brax.training.agents.ppo.checkpoint.load_policy reads")
            return
        if arguments.trainer not in (None, "brax"):
            raise ForeignError(f"--from {arguments.trainer} is for {called('import_policy')}")
        import_policy(arguments, trainer="brax")


if __name__ == "__main__":
    main()
