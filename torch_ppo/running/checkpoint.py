"""Checkpoint files: written whole or not at all, read without running code."""

import hashlib
import io
import pickle
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from torch_ppo.errors import UserError
from torch_ppo.formulas.controls import Scaling
from torch_ppo.formulas.pixels import is_picture
from torch_ppo.formulas.running_statistics import mode_of
from torch_ppo.learning.agent import Agent, make_agent
from torch_ppo.running.disk import disk_errors, write_atomically
from torch_ppo.running.fit import actions_of, network_misfit, task_misfit
from torch_ppo.running.formats import FORMATS
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config

# What torch.load raises on bytes that are cut off or changed; LookupError and ValueError include their subclasses.
DAMAGED = (
    RuntimeError, EOFError, OSError, LookupError, ValueError, TypeError, AttributeError, AssertionError,
    pickle.UnpicklingError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged, or of something else."""


class DamagedError(CheckpointError):
    """A checkpoint that is not as it was written."""


# A checkpoint is a zip file; the hash of all before it is the zip's comment, which torch passes over.
_END_OF_ZIP = b"PK\x05\x06"
_HASH_NAME = b"sha256:"
_HASH_LENGTH = len(_HASH_NAME) + 2 * hashlib.sha256().digest_size


def to_bytes(checkpoint: dict[str, object]) -> bytes:
    """A checkpoint as the content of a file, its hash at the end."""
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    end = buffer.seek(-22, io.SEEK_END)
    assert buffer.read(4) == _END_OF_ZIP, "torch.save wrote a zip file without its usual end"
    buffer.seek(end + 20)
    buffer.write(struct.pack("<H", _HASH_LENGTH))
    digest = hashlib.sha256(buffer.getbuffer()).hexdigest()
    buffer.write(_HASH_NAME + digest.encode())
    return buffer.getvalue()


def _is_whole(content: bytes) -> bool:
    """Whether a file is as it was written: by its hash, or by the checksums of a zip without one (format 2)."""
    body, name, digest = content[:-_HASH_LENGTH], content[-_HASH_LENGTH:-64], content[-64:]
    if name == _HASH_NAME:
        return hashlib.sha256(body).hexdigest().encode() == digest
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return archive.testzip() is None
    except DAMAGED:
        return False


def save_checkpoint(checkpoint: dict[str, object], *paths: Path) -> None:
    """Writes the same checkpoint to all paths, in their order, and makes their folders. DiskError if one fails."""
    content = to_bytes(checkpoint)
    for path in paths:
        with disk_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)


def find_checkpoint(path: Path, preferred: str = "last") -> Path:
    """The checkpoint file that `path` means: itself, or `preferred` ("last", "best", or env steps) of a run folder."""
    if path.is_file():
        return path
    if not path.exists():
        raise CheckpointError(f"there is no run folder or checkpoint {path}")
    found = path / "checkpoints" / f"{preferred}.pt"
    if not found.is_file() and found.with_name("last.pt").is_file() and preferred != "best":
        others = sorted((other.stem for other in found.parent.glob("*.pt")), key=lambda name: (len(name), name))
        raise CheckpointError(f"{path} has no {preferred}.pt; there are {', '.join(_some(others))}")
    if not found.is_file() and found.with_name("last.pt").is_file():
        raise CheckpointError(
            f"{path} has no {preferred}.pt, as it stopped before its first evaluation; last would work"
        )
    if not found.is_file():
        raise CheckpointError(f"{path} is not a run folder: it has no checkpoints/{preferred}.pt")
    return found


def load_checkpoint(path: Path) -> dict[str, object]:
    """Reads a checkpoint onto the CPU; only tensors and plain values, so a file can never run code.

    DamagedError if it is not as it was written, CheckpointError if it is missing or of something else.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    checkpoint = _unpack(content)
    if checkpoint is None:
        if what := kind_of_file(path, content):
            raise DamagedError(
                f"{path} is {what}, not a checkpoint; a run folder, or a file in its checkpoints/, would work"
            )
        others = sorted(str(other.name) for other in path.parent.glob("*.pt") if other != path)
        hint = f"; beside it: {', '.join(_some(others))}" if others else ""
        raise DamagedError(f"{path} is not a whole checkpoint (cut off or damaged?){hint}")
    if not isinstance(checkpoint, dict) or not {"agent", "config", "format"} <= checkpoint.keys():
        raise CheckpointError(f"{path} is not a checkpoint of torch_ppo")
    if type(checkpoint["format"]) is not int or checkpoint["format"] not in FORMATS:
        raise CheckpointError(f"{path} has checkpoint format {checkpoint['format']}, this version reads {FORMATS}")
    if checkpoint["format"] > 2 and content[-_HASH_LENGTH:-64] != _HASH_NAME:
        raise DamagedError(f"{path} has lost its hash, so it is not as it was written")
    missing = {"observation_sizes", "action_dim", "env_steps"} - checkpoint.keys()
    if missing:
        raise CheckpointError(f"{path} lacks {', '.join(sorted(missing))}")
    for name, (is_one, what) in _ENTRIES.items():
        if name in checkpoint and not is_one(checkpoint[name]):
            raise CheckpointError(f"{path} is not a checkpoint of torch_ppo: its {name} is not {what}")
    if (checkpoint["config"].get("distribution_type") == "categorical") != bool(checkpoint.get("choices")):
        raise CheckpointError(
            f"{path} is not a checkpoint of torch_ppo: its distribution_type and choices do not agree"
        )
    return checkpoint


def _is_dict(value: object, kind: type) -> bool:
    return isinstance(value, dict) and all(type(key) is str and isinstance(each, kind) for key, each in value.items())


def _is_count(value: object, least: int = 0) -> bool:
    return type(value) is int and least <= value < 2**63


def _is_size(key: str, value: object) -> bool:
    """Whether it is the size of the observation `key`: of a vector, or of pixels height, width and channels."""
    if not is_picture(key):
        return _is_count(value, 1)
    return isinstance(value, tuple) and len(value) == 3 and all(_is_count(each, 1) for each in value)


# What entries of a checkpoint are, where something is done with them before they are compared with what is live.
_ENTRIES: dict[str, tuple[Callable[[object], bool], str]] = {
    "config": (lambda x: _is_dict(x, object), "settings by name"),
    "agent": (lambda x: bool(x) and _is_dict(x, Tensor), "tensors by name"),
    "observation_sizes": (
        lambda x: bool(x) and _is_dict(x, (int, tuple)) and all(map(_is_size, x, x.values())),
        "sizes by name",
    ),
    "action_dim": (lambda x: _is_count(x, 1), "a number of actions"),
    "choices": (
        lambda x: x is None or (isinstance(x, tuple) and bool(x) and all(_is_count(each, 1) for each in x)),
        "a number of choices for each action",
    ),
    "env_steps": (_is_count, "a count"),
    "training_steps": (_is_count, "a count"),
    "best": (
        lambda x: x is None or (_is_dict(x, (int, float)) and x.keys() == {"reward", "env_steps"}),
        "a reward and its env steps",
    ),
    "controls": (
        lambda x: x is None or (_is_dict(x, list) and {"actuators", *Scaling._fields} <= x.keys()),
        "what actuators get",
    ),
}


def kind_of_file(path: Path, content: bytes) -> str | None:
    """What a file that is no checkpoint is, in words; None where it could be a damaged one."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if any("/code/" in name for name in archive.namelist()):
                return "an exported policy (TorchScript)"
    except DAMAGED:
        pass
    if path.suffix == ".toml":
        return "a configuration"
    known = {".jsonl": "a history of metrics", ".json": "a JSON file", ".py": "a Python file", ".xml": "a model"}
    return known.get(path.suffix)


def load_part(path: Path, env_steps: int) -> dict[str, object] | None:
    """A device's own part of the checkpoint after so many env steps; None if it is missing, damaged or of another."""
    try:
        part = _unpack(path.read_bytes())
    except OSError:
        return None
    return part if isinstance(part, dict) and part.get("env_steps") == env_steps else None


def _unpack(content: bytes) -> object:
    """What torch.load makes of a file's content; None if it is damaged."""
    if not _is_whole(content):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, about files of another kind
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except DAMAGED:
        return None


def _some(names: list[str]) -> list[str]:
    return names if len(names) <= 6 else [*names[:2], f"... {len(names) - 4} more ...", *names[-2:]]


def config_of(checkpoint: dict[str, object]) -> Config:
    """The configuration of a checkpoint; CheckpointError if it is of another version."""
    unknown = checkpoint["config"].keys() - Config.__dataclass_fields__.keys()
    if unknown:
        raise CheckpointError(
            f"the checkpoint has settings that this version does not know: {', '.join(sorted(unknown))} "
            f"(it was written by torch_ppo {checkpoint.get('version', '?')})"
        )
    try:
        return Config(**checkpoint["config"])
    except TypeError:
        raise CheckpointError("the checkpoint's configuration has no num_timesteps") from None


def agent_from_checkpoint(checkpoint: dict[str, object]) -> Agent:
    """The agent alone, on the CPU, to act; needs no task or simulator.

    CheckpointError if it does not fit its configuration, or would act on numbers that are none.
    """
    config = config_of(checkpoint)
    try:
        agent = make_agent(
            config, checkpoint["observation_sizes"], checkpoint["action_dim"], choices=checkpoint.get("choices")
        )
    except (RuntimeError, MemoryError) as error:  # sizes that no memory holds
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"the checkpoint's networks cannot be made: {reason}") from None
    misfit = network_misfit(checkpoint["agent"], agent.state_dict(), "its configuration")
    if misfit:
        raise CheckpointError(f"the checkpoint's networks are not those of its configuration: {misfit}")
    agent.load_state_dict(checkpoint["agent"])
    for name, tensor in agent.state_dict().items():
        if name.startswith(("policy.", "normalizer.")) and not tensor.isfinite().all():
            raise CheckpointError(
                f"the checkpoint cannot act: its {name} has inf or NaN in it, as after a training that went astray; "
                "python -m torch_ppo.doctor RUN_FOLDER says why, and an earlier checkpoint may be sound"
            )
    return agent.eval()


def restore_networks(agent: Agent, saved_agent: dict[str, Tensor], *, restore_value: bool, task: str) -> None:
    """Normalizer and policy, and the value network if wanted, from a checkpoint's agent.

    Without the value network, statistics of what only it sees come along where they fit. ValueError if anything else is of
    other sizes than in the agent, which is for the task of that name.
    """
    live = agent.state_dict()
    if not restore_value:
        needed = ("policy.", *(f"normalizer.{key}." for key in agent.policy_obs_keys))
        fitting = tuple(
            f"normalizer.{key}."
            for key, statistics in agent.normalizer.items()
            if (mean := saved_agent.get(f"normalizer.{key}.mean")) is not None and mean.shape == statistics.mean.shape
        )
        saved_agent = {name: x for name, x in saved_agent.items() if name.startswith((*needed, *fitting))}
        live = {name: x for name, x in live.items() if name.startswith((*needed, *fitting))}
    misfit = network_misfit(saved_agent, live, task)
    if misfit:
        raise ValueError(misfit)
    if agent.shared_encoder and restore_value:
        for name, tensor in saved_agent.items():
            # What has diverged is NaN in both.
            if name.startswith("policy.encoder.") and not tensor.nan_to_num().equal(
                saved_agent[f"value.{name.removeprefix('policy.')}"].nan_to_num()
            ):
                raise ValueError("its networks have an encoder each, but shared_encoder is true; false would fit")
    agent.load_state_dict(saved_agent, strict=restore_value)
    for statistics in agent.normalizer.values():
        count = int(statistics.count)
        mode = mode_of(statistics.std, statistics.summed_variance, count, statistics.std_eps)
        if count and mode != statistics.mode:  # the run was in the other one; the next update would take it for its own
            statistics.summed_variance *= 1 / count if mode == "welford" else count


def restore(state: TrainingState, restore_params: tuple[dict[str, Tensor], ...] | None = None) -> None:
    """Networks and normalizer from `restore_params` or the configuration's `restore_checkpoint_path`, if any."""
    config, source, misfit = state.config, "restore_params", []
    if restore_params is not None:
        parts = zip(("normalizer", "policy", "value"), restore_params, strict=True)
        saved = {f"{part}.{name}": value for part, values in parts for name, value in values.items()}
        for name, value in saved.items():
            if not isinstance(value, Tensor):
                raise CheckpointError(f"restore_params has a {type(value).__name__} as {name}, but must have tensors")
    elif config.restore_checkpoint_path is not None:
        source = config.restore_checkpoint_path
        checkpoint = load_checkpoint(find_checkpoint(Path(source)))
        saved, ours = checkpoint["agent"], actions_of(state.env)
        theirs = checkpoint.get("choices") or checkpoint["action_dim"]
        # Of discrete actions networks of as many outputs may be of other choices.
        if not isinstance(theirs, int) or not isinstance(ours, int):
            misfit = task_misfit(({}, theirs), ({}, ours), state.task_name)
    else:
        return
    try:
        if misfit:
            raise ValueError("; ".join(misfit))
        restore_networks(state.agent, saved, restore_value=config.restore_value_fn, task=state.task_name)
    except ValueError as error:
        raise CheckpointError(f"{source} does not fit: {error}") from None
