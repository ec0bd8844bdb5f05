"""Policies from files: a run's folder, a checkpoint, or an exported policy."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from torch_ppo.errors import UserError
from torch_ppo.exporting.contract import Contract, check_contract, scaling_in
from torch_ppo.exporting.reading import format_of, read
from torch_ppo.formulas.controls import Scaling, controls_of, within_range
from torch_ppo.learning.agent import Agent
from torch_ppo.running.checkpoint import agent_from_checkpoint, config_of, find_checkpoint, load_checkpoint
from torch_ppo.settings.config import Config
from torch_ppo.settings.files import load_config
from torch_ppo.simulation.scaling import from_plain
from torch_ppo.simulation.task import Observation


class PolicyError(UserError):
    """A policy that cannot be loaded as asked, or that is given an observation of another size."""


@dataclass(frozen=True)
class SavedPolicy:
    """A policy from a file: `policy(observation)` gives the action `(..., action_dim)`.

    path:               the file that was read
    act:                what computes it, from the one observation that the policy sees `(..., obs_dim)` and a generator
    obs_key:            which of a task's observations that is; None where the file does not say
    config:             the run's configuration, if it is known
    observation_sizes:  size of each of the task's observations; None where the file does not say (an exported policy)
    action_dim:         size of an action; None likewise
    env_steps:          how far training was; None likewise
    actuators:          names of what is controlled, in the order of the action's parts; None where it is not that simple
    scaling:            what the task's `apply` makes of actions; None likewise, and where the file does not say
    """

    path: Path
    act: Callable[[Tensor, torch.Generator | None], Tensor]
    obs_key: str | None = None
    config: Config | None = None
    observation_sizes: dict[str, int] | None = None
    action_dim: int | None = None
    env_steps: int | None = None
    actuators: tuple[str, ...] | None = None
    scaling: Scaling | None = None
    contract: Contract | None = None

    @property
    def run_folder(self) -> Path:
        """The folder of the run that the file is part of, if it is part of one."""
        return self.path.parent.parent if self.path.parent.name == "checkpoints" else self.path.parent

    def __call__(self, observation: Tensor | Observation, generator: torch.Generator | None = None) -> Tensor:
        """The action for an observation `(..., obs_dim)`, or for a dict of a task's observations.

        `generator` is used only by a policy that samples. PolicyError for an observation of another size.
        """
        if isinstance(observation, dict):
            observation = observation[self.key_in(observation)]
        if self.observation_sizes is not None and observation.shape[-1:] != (self.observation_sizes[self.obs_key],):
            raise PolicyError(
                f"{self.path} sees observations (..., {self.observation_sizes[self.obs_key]}), "
                f"not {tuple(observation.shape)}"
            )
        with torch.no_grad():
            return self.act(observation, generator)

    def controls(self, action: Tensor) -> Tensor:
        """What the actuators get for an action `(..., action_dim)`: scale, offset, and the limits of their ranges.

        `(..., nu)`, in the order of `actuators` and their units (rad for a position servo of a hinge). PolicyError where
        the file does not say, or where the task's `apply` depends on more than the action.
        """
        if self.scaling is None:
            raise PolicyError(
                f"{self.path} does not say what becomes of its actions: it is older, or the task's apply is not a scale and "
                "an offset; what the apply does has to be done"
            )
        scaling = Scaling(*(part.to(action.device) for part in self.scaling))
        return within_range(controls_of(action, scaling), scaling)

    def key_in(self, observation: Observation) -> str:
        """Which of several observations the policy sees; of one there is no choice, as in Brax."""
        if len(observation) == 1:
            return next(iter(observation))
        if self.obs_key not in observation:
            raise PolicyError(f"{self.path} sees {self.obs_key!r}, which is not among {', '.join(observation)}")
        return self.obs_key


def load_policy(
    path: Path | str, *, checkpoint: str = "best", deterministic: bool = True, device: torch.device | str = "cpu"
) -> SavedPolicy:
    """The policy of a run folder, a checkpoint file, or an exported TorchScript file.

    checkpoint:     which one of a run folder: best or last
    deterministic:  most likely actions; False samples, as in training, which an exported policy cannot
    device:         where it computes, for observations and a generator that are there too

    Raises UserError where there is no such policy. Reading runs no code of the file, unless it is TorchScript.
    """
    path = Path(path)
    if format_of(path) is not None:
        if not deterministic:
            raise PolicyError(
                f"{path} is an exported policy, which has the most likely actions; a checkpoint can sample"
            )
        return _exported(path, device)
    path = find_checkpoint(path, checkpoint)
    saved = load_checkpoint(path)
    agent = agent_from_checkpoint(saved).to(device)
    return SavedPolicy(
        path,
        _mode(agent) if deterministic else _sample(agent, saved["action_dim"]),
        agent.policy_obs_key,
        config_of(saved),
        saved["observation_sizes"],
        saved["action_dim"],
        saved["env_steps"],
        **_scaled(saved.get("controls")),
    )


def _exported(path: Path, device: torch.device | str) -> SavedPolicy:
    """From a file of any format; what it does not say of itself (an older one) config.toml beside it may."""
    act, contract = read(path, device)
    beside = path.with_name("config.toml")
    config = load_config(str(beside)) if beside.is_file() else None

    def deterministic(observation: Tensor, generator: torch.Generator | None) -> Tensor:
        # Some formats have one leading axis.
        rows = observation.reshape(-1, observation.shape[-1])
        return act(rows).reshape(*observation.shape[:-1], -1)

    if contract is None:
        key = config.policy_obs_key if config else Config.policy_obs_key
        return SavedPolicy(path, deterministic, key, config)
    contract = check_contract(contract, path)
    if not contract["action"]["deterministic"]:
        raise PolicyError(f"{path} takes noise as its second input; export without --stochastic has none")
    if contract["output"]["name"] != "action":
        raise PolicyError(
            f"{path} gives controls, but a task's episodes need actions; export without --controls has them"
        )
    key, scaling = contract["observation"]["key"], scaling_in(contract)
    return SavedPolicy(
        path,
        deterministic,
        key,
        config,
        {key: contract["observation"]["size"]},
        contract["action"]["size"],
        contract["origin"].get("env_steps"),
        None if scaling is None else tuple(actuator["name"] for actuator in contract["action"]["actuators"]),
        scaling,
        contract,
    )


def _scaled(controls: dict[str, list] | None) -> dict[str, object]:
    """Actuators and scaling of a policy, from what a file says."""
    if controls is None:
        return {}
    return {"actuators": tuple(controls["actuators"]), "scaling": from_plain(controls)}


def _mode(agent: Agent) -> Callable[[Tensor, torch.Generator | None], Tensor]:
    return lambda observation, generator: agent.mode({agent.policy_obs_key: observation})


def _sample(agent: Agent, action_dim: int) -> Callable[[Tensor, torch.Generator | None], Tensor]:
    def act(observation: Tensor, generator: torch.Generator | None) -> Tensor:
        noise = torch.randn(*observation.shape[:-1], action_dim, generator=generator, device=observation.device)
        return agent.sample({agent.policy_obs_key: observation}, noise)

    return act
