"""Checkpoint files: written whole or not at all, read without running code."""

import io
import pickle
import warnings
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from torch_ppo.errors import UserError
from torch_ppo.learning.agent import Agent, make_agent
from torch_ppo.running.disk import write_atomically
from torch_ppo.running.training_state import FORMAT, TrainingState
from torch_ppo.settings.config import Config

# What torch.load raises on bytes that are cut off or changed; LookupError and ValueError include their subclasses.
DAMAGED = (
    RuntimeError, EOFError, OSError, LookupError, ValueError, TypeError, AttributeError, AssertionError,
    pickle.UnpicklingError, zipfile.BadZipFile,
)  # fmt: skip


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged, or of something else."""


def save_checkpoint(checkpoint: dict[str, object], *paths: Path) -> None:
    """Writes the same checkpoint to all paths."""
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    for path in paths:
        write_atomically(path, buffer.getvalue())


def find_checkpoint(path: Path, preferred: str = "last") -> Path:
    """The checkpoint file that `path` means: itself, or `preferred` ("last" or "best") of a run folder."""
    if path.is_file():
        return path
    if not path.exists():
        raise CheckpointError(f"there is no run folder or checkpoint {path}")
    found = path / "checkpoints" / f"{preferred}.pt"
    if not found.is_file() and found.with_name("last.pt").is_file():
        raise CheckpointError(
            f"{path} has no {preferred}.pt, as it stopped before its first evaluation; last would work"
        )
    if not found.is_file():
        raise CheckpointError(f"{path} is not a run folder: it has no checkpoints/{preferred}.pt")
    return found


def load_checkpoint(path: Path) -> dict[str, object]:
    """Reads a checkpoint onto the CPU; only tensors and plain values, so a file can never run code."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, about files of another kind
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGED:
        others = sorted(str(other.name) for other in path.parent.glob("*.pt") if other != path)
        hint = f"; beside it: {', '.join(others)}" if others else ""
        raise CheckpointError(f"{path} is not a whole checkpoint (cut off or damaged?){hint}") from None
    if (
        not isinstance(checkpoint, dict)
        or "agent" not in checkpoint
        or "config" not in checkpoint
        or "format" not in checkpoint
    ):
        raise CheckpointError(f"{path} is not a checkpoint of torch_ppo")
    if checkpoint["format"] != FORMAT:
        raise CheckpointError(f"{path} has checkpoint format {checkpoint['format']}, this version reads {FORMAT}")
    return checkpoint


def agent_from_checkpoint(checkpoint: dict[str, object]) -> Agent:
    """The agent alone, on the CPU; needs no task or simulator."""
    config = Config(**checkpoint["config"])
    agent = make_agent(config, checkpoint["observation_sizes"], checkpoint["action_dim"])
    agent.load_state_dict(checkpoint["agent"])
    return agent.eval()


def restore_networks(agent: Agent, saved_agent: dict[str, Tensor], *, restore_value: bool) -> None:
    """Normalizer and policy, and the value network if wanted, from a checkpoint's agent. ValueError if they differ."""
    wanted = {name: tensor for name, tensor in saved_agent.items() if restore_value or not name.startswith("value.")}
    try:
        missing, unexpected = agent.load_state_dict(wanted, strict=False)
    except RuntimeError as error:
        raise ValueError(f"the networks differ: {str(error).splitlines()[-1].strip()}") from None
    missing = [name for name in missing if restore_value or not name.startswith("value.")]
    if missing or unexpected:
        raise ValueError(f"the networks differ in {', '.join([*missing, *unexpected][:4])}")


def restore(state: TrainingState, restore_params: tuple[dict[str, Tensor], ...] | None = None) -> None:
    """Networks and normalizer from `restore_params` or the configuration's `restore_checkpoint_path`, if any."""
    config = state.config
    if restore_params is not None:
        parts = zip(("normalizer", "policy", "value"), restore_params, strict=True)
        saved = {f"{part}.{name}": value for part, values in parts for name, value in values.items()}
    elif config.restore_checkpoint_path is not None:
        saved = load_checkpoint(find_checkpoint(Path(config.restore_checkpoint_path)))["agent"]
    else:
        return
    try:
        restore_networks(state.agent, saved, restore_value=config.restore_value_fn)
    except ValueError as error:
        raise CheckpointError(f"{config.restore_checkpoint_path or 'restore_params'} does not fit: {error}") from None
