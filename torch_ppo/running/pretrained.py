"""Policies that come with the package: one exported file per task, named by it; docs/pretrained.md has their numbers."""

from pathlib import Path

import torch_ppo
from torch_ppo.environments.finding import runs_own_code
from torch_ppo.envs import ENVS, canonical_name
from torch_ppo.errors import did_you_mean
from torch_ppo.exporting import safetensors_file
from torch_ppo.exporting.errors import ExportError

FOLDER = Path(torch_ppo.__file__).parent / "pretrained"


def pretrained_tasks() -> list[str]:
    """The tasks that a policy comes along for."""
    return sorted(path.stem for path in FOLDER.glob(f"*{safetensors_file.SUFFIX}"))


def find_policy(path: Path) -> Path:
    """What a path means: itself, or for the name of a task, where no file is called so, the policy that comes along.

    ExportError for a task that there is none for, and for a name that is neither a task nor there as a file.
    """
    name = canonical_name(str(path))
    if runs_own_code(name) and not path.exists():
        raise ExportError(f"{path} is a task, not a run folder or checkpoint; train --env {path} makes a run of it")
    if not path.exists() and name not in ENVS and name.isidentifier():  # else a path
        hint = did_you_mean(name, pretrained_tasks())
        raise ExportError(
            f"there is no run folder or checkpoint {path}, and no task that a policy comes along for{hint}"
        )
    if name not in ENVS or path.exists():
        return path
    if name not in pretrained_tasks():
        raise ExportError(
            f"{path} is a task, and no policy of it comes along; those of {', '.join(pretrained_tasks())} do, and a run "
            "folder or a file would work"
        )
    return FOLDER / f"{name}{safetensors_file.SUFFIX}"
