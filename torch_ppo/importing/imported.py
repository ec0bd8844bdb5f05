"""What an import amounts to: an agent of ours with somebody else's numbers, and whether it does what theirs did."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

import torch_ppo
from torch_ppo.errors import UserError
from torch_ppo.exporting.numpy_policy import ACTIVATIONS
from torch_ppo.learning.agent import Agent, make_agent
from torch_ppo.running.formats import FORMATS
from torch_ppo.settings.config import Config

TOLERANCE = 1e-5  # of actions and values, absolute; relative to those that are larger than 1
Arrays = Mapping[str, np.ndarray]
Layer = tuple[np.ndarray, np.ndarray]  # weight (out, in), bias (out,)
# From observations by key (n, size) to actions (n, action_dim) and values (n,), or None where there is no value network.
Original = Callable[[Arrays], tuple[np.ndarray, np.ndarray | None]]


# Of a configuration that is given beside a checkpoint, what none of these checkpoints has.
PLAIN: dict[str, object] = {"vision": False, "history": 1, "history_obs_keys": (), "normalizer_clip": None}


class ForeignError(UserError):
    """A checkpoint of another trainer that cannot be read, or has no counterpart here."""


@dataclass(frozen=True)
class Imported:
    """A policy of another trainer in our terms.

    settings:           fields of `Config` that its networks and its normalizer decide
    observation_sizes:  by key
    weights:            of an `Agent`, by name; those of the value network may be missing
    original:           what its own layers compute, by NumPy in float64
    env_steps:          how far it was trained; 0 where the file does not say
    notes:              what its user is to know
    """

    settings: dict[str, object]
    observation_sizes: dict[str, int]
    action_dim: int
    weights: dict[str, Tensor]
    original: Original
    env_steps: int = 0
    notes: list[str] = field(default_factory=list)


def agent_of(imported: Imported, config: Config) -> Agent:
    """The agent, on the CPU. ForeignError where its parts are of other sizes than its settings say."""
    agent = make_agent(
        config, imported.observation_sizes, imported.action_dim, generator=torch.Generator().manual_seed(config.seed)
    )
    live = agent.state_dict()
    without_value = not any(name.startswith("value.") for name in imported.weights)
    for name, tensor in live.items():
        if without_value and name.startswith("value."):
            continue
        given = imported.weights.get(name)
        if given is None or given.shape != tensor.shape:
            what = "is missing" if given is None else f"is {tuple(given.shape)}, not {tuple(tensor.shape)}"
            raise ForeignError(f"its layers do not fit one another: what is {name} here {what}")
        if not given.isfinite().all():
            raise ForeignError(f"its numbers are not all finite: {name} here has inf or NaN")
    if unknown := imported.weights.keys() - live.keys():
        raise ForeignError(f"it has more parts than networks of make_ppo_networks: {', '.join(sorted(unknown))}")
    agent.load_state_dict({**live, **imported.weights})
    return agent.eval()


@torch.no_grad()
def check_agent(agent: Agent, imported: Imported, *, rows: int = 256, seed: int = 0) -> float:
    """Largest difference between the agent's actions and values and the original layers'; ForeignError above `TOLERANCE`.

    On random observations around what the normalizer knows.
    """
    numbers = np.random.default_rng(seed)
    observations = {}
    for key, size in imported.observation_sizes.items():
        x = 2.0 * numbers.standard_normal((rows, size))
        if key in agent.normalizer:
            statistics = agent.normalizer[key]
            mean, std = (part.repeat(statistics.frames).double().numpy() for part in (statistics.mean, statistics.std))
            x = mean + np.minimum(std, 1e3) * x
        observations[key] = x.astype(np.float32)
    seen = {key: torch.from_numpy(x) for key, x in observations.items()}
    action, value = imported.original({key: x.astype(np.float64) for key, x in observations.items()})
    pairs = [(agent.mode(seen), action)] + ([] if value is None else [(agent.values(seen), value)])
    differences = [np.abs(ours.double().numpy() - theirs) / np.maximum(1, np.abs(theirs)) for ours, theirs in pairs]
    largest = max(float(difference.max()) for difference in differences)
    if not largest <= TOLERANCE:
        raise ForeignError(
            f"what was made of it differs from its own layers by {largest:.2g}, and {TOLERANCE:g} is allowed"
        )
    return largest


def checkpoint_of(imported: Imported, config: Config, agent: Agent) -> dict[str, object]:
    """A checkpoint for everything but --resume: there is no optimizer, and no episode under way."""
    return {
        "format": FORMATS[-1],
        "version": torch_ppo.__version__,
        "config": {name: getattr(config, name) for name in Config.__dataclass_fields__},
        "observation_sizes": dict(imported.observation_sizes),
        "action_dim": imported.action_dim,
        "agent": {name: tensor.clone() for name, tensor in agent.state_dict().items()},
        "env_steps": imported.env_steps,
        "best": None,
    }


def mlp(
    x: np.ndarray,
    layers: list[Layer],
    activation: str,
    *,
    norms: list[Layer] | None = None,
    activate_final: bool = False,
) -> np.ndarray:
    """What a stack of layers computes, `(n, in)` -> `(n, out)`, with layer norms after the activations where there are."""
    for i, (weight, bias) in enumerate(layers):
        x = x @ weight.T.astype(np.float64) + bias
        if i < len(layers) - 1 or activate_final:
            x = ACTIVATIONS["swish" if activation == "silu" else activation](x)
            if norms:
                scale, shift = norms[i]
                x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * scale + shift
    return x


def as_tensor(array: object) -> Tensor:
    """A copy as float32, on the CPU."""
    return torch.from_numpy(np.array(array, dtype=np.float32, copy=True))
