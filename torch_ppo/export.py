"""Export: a checkpoint's policy as TorchScript, normalizer inside, checked against the live policy.

    python -m torch_ppo.export runs/cartpole-...

The file needs only torch: `torch.jit.load("policy.pt")(observation)` maps float32 observations `(..., obs_dim)` to
deterministic actions `(..., action_dim)`. With `history` n, an observation is the last n of the task's, oldest first,
`(..., n * frame_dim)`; at the start of an episode all are the first. The normalizer is inside for them, too.
"""

import contextlib
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from torch import Tensor, nn

from torch_ppo.command import called, reader_may_leave
from torch_ppo.errors import UserError, user_errors
from torch_ppo.learning.agent import Agent
from torch_ppo.running.checkpoint import agent_from_checkpoint, find_checkpoint, load_checkpoint
from torch_ppo.running.disk import DiskError, write_atomically
from torch_ppo.running.saved_policy import CONTROLS_FILE

TOLERANCE = 1e-6  # of actions, absolute; TorchScript may fuse operations


class DeterministicPolicy(nn.Module):
    """The policy's mode as one module: observation `(..., obs_dim)` -> action `(..., action_dim)`."""

    def __init__(self, agent: Agent) -> None:
        super().__init__()
        self.agent = agent
        self.obs_dim = agent.normalizer[agent.policy_obs_key].obs_dim

    def forward(self, observation: Tensor) -> Tensor:
        # Changes nothing, but refuses another size in words; one of 1 would be broadcast by the normalizer.
        observation = observation.unflatten(-1, (self.obs_dim,))
        return self.agent.mode({self.agent.policy_obs_key: observation})


@contextlib.contextmanager
def quiet_torchscript() -> Iterator[None]:
    """Without torch's warnings about torch.jit, which is deprecated, and asked for."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        yield


class ExportError(UserError):
    """The exported policy does not do what the live one does."""


def check_export(path: Path, agent: Agent, *, num_observations: int = 256, seed: int = 0) -> float:
    """Largest action difference between the file and the live policy; ExportError above `TOLERANCE`.

    Random observations, around what the normalizer has seen, in three batch shapes.
    """
    try:
        with quiet_torchscript():
            exported = torch.jit.load(str(path))
    except RuntimeError:
        raise ExportError(f"{path} is not a whole TorchScript file") from None
    statistics = agent.normalizer[agent.policy_obs_key]
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(num_observations, statistics.frames, len(statistics.mean), generator=generator)
    observation = (statistics.mean + 3.0 * statistics.std * noise).flatten(1)
    differences = []
    with torch.no_grad():
        for batch in (observation, observation.view(4, -1, observation.shape[-1]), observation[0]):
            live = agent.mode({agent.policy_obs_key: batch})
            found = exported(batch)
            if found.shape != live.shape:
                raise ExportError(f"{path}: actions have shape {tuple(found.shape)}, expected {tuple(live.shape)}")
            differences.append((found - live).abs().max())
    largest = torch.stack(differences).max().item()  # unlike Python's max, NaN if any is
    if not largest <= TOLERANCE:  # also NaN
        raise ExportError(f"{path}: actions differ from the live policy by {largest:.3g}, more than {TOLERANCE:.3g}")
    return largest


def export_policy(agent: Agent, path: Path, controls: dict[str, list] | None = None) -> float:
    """Writes `agent`'s deterministic policy and checks it; returns the largest difference found.

    controls:  what becomes of its actions, a checkpoint's "controls"; written into the file as it is
    """
    module = DeterministicPolicy(agent).eval()
    dim = module.obs_dim
    with quiet_torchscript(), torch.no_grad():
        scripted = torch.jit.freeze(torch.jit.trace(module, torch.zeros(2, dim), check_trace=False))
        content = scripted.save_to_buffer({} if controls is None else {CONTROLS_FILE: json.dumps(controls)})
    unchecked = path.with_name(".policy.unchecked.tmp")
    try:
        write_atomically(unchecked, content)
        largest = check_export(unchecked, agent)
        unchecked.replace(path)
    except (OSError, DiskError) as error:
        reason = f": {error.strerror}" if isinstance(error, OSError) else f" ({error})"
        raise ExportError(f"{path} cannot be written{reason}") from None
    finally:
        with contextlib.suppress(OSError):
            unchecked.unlink()
    return largest


def is_exported(path: Path, checkpoint: Path) -> bool:
    """Whether a file is the whole policy of a checkpoint."""
    try:
        check_export(path, agent_from_checkpoint(load_checkpoint(checkpoint)))
    except (UserError, ValueError):
        return False
    return True


def check_output(path: Path, source: Path) -> None:
    """ExportError if a policy written there would replace the checkpoint `source`, or something that is no file."""
    if path.exists() and path.samefile(source):
        raise ExportError(f"--output {path} is the checkpoint itself; policy.pt would work")
    if path.exists() and not path.is_file():
        raise ExportError(f"--output {path} is not a file; policy.pt would work")


@dataclass(frozen=True)
class ExportArguments:
    """Write a run's policy as TorchScript and check it against the live policy."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder, or a checkpoint file."""
    checkpoint: str = "best"
    """Which checkpoint of the run folder: best or last."""
    output: Path | None = None
    """File to write; policy.pt in the run folder by default."""


def main() -> None:
    """The program `python -m torch_ppo.export`."""
    with reader_may_leave(), user_errors():
        arguments = tyro.cli(ExportArguments, prog=called("export"))
        source = find_checkpoint(arguments.run, arguments.checkpoint)
        checkpoint = load_checkpoint(source)
        folder = arguments.run if arguments.run.is_dir() else arguments.run.parent
        output = arguments.output or folder / "policy.pt"
        check_output(output, source)
        largest = export_policy(agent_from_checkpoint(checkpoint), output, checkpoint.get("controls"))
        print(f"{output}: policy of {source.name} at {checkpoint['env_steps']:,} env steps, checked: ", end="")
        print(f"largest action difference {largest:.1g} on random observations")


if __name__ == "__main__":
    main()
