"""Policies from files: a run's folder, a checkpoint, or an exported policy."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from torch_ppo.environments.finding import library_of, runs_own_code
from torch_ppo.errors import UserError
from torch_ppo.exporting.contract import Contract, scaling_in
from torch_ppo.exporting.reading import check_acting, format_of, read
from torch_ppo.formulas.controls import Scaling, controls_of, within_range
from torch_ppo.formulas.noise import GeneratorNoise
from torch_ppo.learning.agent import Agent
from torch_ppo.running.checkpoint import agent_from_checkpoint, config_of, find_checkpoint, load_checkpoint
from torch_ppo.running.fit import Actions
from torch_ppo.running.pretrained import find_policy
from torch_ppo.settings.config import Config
from torch_ppo.settings.files import load_config
from torch_ppo.simulation.scaling import from_plain
from torch_ppo.simulation.task import Observation
from torch_ppo.simulation.views import Size, shape_of


class PolicyError(UserError):
    """A policy that cannot be loaded as asked, or that is given an observation of another size."""


@dataclass(frozen=True)
class SavedPolicy:
    """A policy from a file: `policy(observation)` gives the action `(..., action_dim)`.

    path:               the file that was read
    act:                what computes it, from the one observation that the policy sees `(..., obs_dim)`, or from a dict of
                        all where it sees pixels, and a generator
    obs_key:            which of a task's observations that is, beside pixels "" for none; None where the file does not say
    config:             the run's configuration, if it is known
    observation_sizes:  size of each of the task's observations, of pixels (height, width, channels); None where the file
                        does not say (an exported policy)
    action_dim:         size of an action; None likewise
    choices:            of discrete actions, how many each has; None where they are real numbers, or likewise
    env_steps:          how far training was; None likewise
    actuators:          names of what is controlled, in the order of the action's parts; None where it is not that simple
    scaling:            what the task's `apply` makes of actions; None likewise, and where the file does not say
    """

    path: Path
    act: Callable[[Tensor | Observation, torch.Generator | None], Tensor]
    obs_key: str | None = None
    config: Config | None = None
    observation_sizes: dict[str, Size] | None = None
    action_dim: int | None = None
    env_steps: int | None = None
    actuators: tuple[str, ...] | None = None
    scaling: Scaling | None = None
    contract: Contract | None = None
    pixel_keys: tuple[str, ...] = ()
    choices: tuple[int, ...] | None = None

    @property
    def actions(self) -> Actions | None:
        """The actions that it has, as `fit.task_misfit` compares them."""
        return self.choices or self.action_dim

    @property
    def run_folder(self) -> Path:
        """The folder of the run that the file is part of, if it is part of one."""
        return self.path.parent.parent if self.path.parent.name == "checkpoints" else self.path.parent

    def __call__(self, observation: Tensor | Observation, generator: torch.Generator | None = None) -> Tensor:
        """The action for an observation `(..., obs_dim)`, or for a dict of a task's observations.

        `generator` is used only by a policy that samples. PolicyError for an observation of another size.
        """
        if self.pixel_keys:
            with torch.no_grad():
                return self.act(self._seen_with_pixels(observation), generator)
        if isinstance(observation, dict):
            observation = observation[self.key_in(observation)]
        observation = torch.as_tensor(observation, dtype=torch.float32)  # arrays, too
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

    @property
    def obs_keys(self) -> tuple[str | None, ...]:
        """All observations that the policy sees: pixels, and its vector."""
        return (*self.pixel_keys, self.obs_key) if self.obs_key or not self.pixel_keys else self.pixel_keys

    def keys_in(self, observation: Observation) -> dict[str, str]:
        """Which of a task's observations are those that the policy sees, by what they were called in its own task."""
        if not self.pixel_keys:
            return {self.obs_key: self.key_in(observation)}
        missing = [key for key in self.obs_keys if key not in observation]
        if missing:
            raise PolicyError(f"{self.path} sees {missing[0]!r}, which is not among {', '.join(observation)}")
        return {key: key for key in self.obs_keys}

    def _seen_with_pixels(self, observation: Tensor | Observation) -> Observation:
        """What a policy that sees pixels is shown; PolicyError for other sizes, or leading axes that differ."""
        if not isinstance(observation, dict):
            if len(self.obs_keys) > 1:
                raise PolicyError(f"{self.path} sees {', '.join(self.obs_keys)}: a dict of them would work")
            observation = {self.obs_keys[0]: observation}
        seen = {key: observation[key] for key in self.keys_in(observation)}
        leading = set()
        for key, x in seen.items():
            shape = shape_of(self.observation_sizes[key])
            if x.shape[x.dim() - len(shape) :] != shape:
                raise PolicyError(f"{self.path} sees {key} (..., {', '.join(map(str, shape))}), not {tuple(x.shape)}")
            leading.add(x.shape[: x.dim() - len(shape)])
        if len(leading) > 1:
            raise PolicyError(
                f"{self.path} sees as many of each observation, not {', '.join(map(str, map(tuple, leading)))}"
            )
        return seen


def load_policy(
    path: Path | str, *, checkpoint: str = "best", deterministic: bool = True, device: torch.device | str = "cpu"
) -> SavedPolicy:
    """The policy of a run folder, a checkpoint file, an exported file, or of a task that one comes with the package for.

    checkpoint:     which one of a run folder: best or last
    deterministic:  most likely actions; False samples, as in training, which an exported policy cannot
    device:         where it computes, for observations and a generator that are there too

    Raises UserError where there is no such policy. Reading runs no code of the file, unless it is TorchScript.
    """
    path = find_policy(Path(path))
    if checkpoint != "best" and path.is_file():
        raise PolicyError(f"checkpoint = {checkpoint!r} is for a run folder, and {path} is one policy; leave it out")
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
        _mode(agent) if deterministic else _sample(agent),
        agent.policy_obs_key,
        config_of(saved),
        saved["observation_sizes"],
        saved["action_dim"],
        saved["env_steps"],
        pixel_keys=agent.pixel_keys,
        choices=saved.get("choices"),
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
    contract = check_acting(act, contract, path, device)
    if not contract["action"]["deterministic"]:
        raise PolicyError(f"{path} takes noise as its second input; export without --stochastic has none")
    if contract["output"]["name"] != "action":
        raise PolicyError(
            f"{path} gives controls, but a task's episodes need actions; export without --controls has them"
        )
    key, scaling = contract["observation"]["key"], scaling_in(contract)
    config = config or _config_in(contract)
    views = {view["key"]: (view["height"], view["width"], view["channels"]) for view in contract.get("pixels", ())}
    vector = {key: contract["observation"]["size"]} if key or not views else {}

    def deterministic_of_pixels(observation: Observation, generator: torch.Generator | None) -> Tensor:
        rows = [x.reshape(-1, *shape_of(size)) for x, size in zip(observation.values(), sizes.values(), strict=True)]
        first = next(iter(observation.values()))
        return act(*rows).reshape(*first.shape[:-3], -1)

    sizes = views | vector
    return SavedPolicy(
        path,
        deterministic_of_pixels if views else deterministic,
        key,
        config,
        sizes,
        contract["action"]["size"],
        contract["origin"].get("env_steps"),
        None if scaling is None else tuple(actuator["name"] for actuator in contract["action"]["actuators"]),
        scaling,
        contract,
        tuple(views),
        choices=_choices_in(contract),
    )


def _choices_in(contract: Contract) -> tuple[int, ...] | None:
    """How many choices each action has, where they are discrete; older contracts know nothing of such."""
    discrete = contract["action"].get("discrete")
    return None if discrete is None else tuple(discrete["choices"])


def _config_in(contract: Contract) -> Config:
    """What of a run's configuration its contract has: how the episodes are. A task of a user's own is not among it."""
    name, delay = contract["task"]["name"], contract["trained_with_action_delay"]
    pixels = contract.get("pixels", [])
    frames = {x["key"]: x.get("history", 1) for x in pixels} | {
        x["key"]: x["history"] for x in [contract["observation"]] if x["size"]
    }
    history = max(frames.values(), default=1)
    return Config(
        num_timesteps=1,
        env=name if name and (":" not in name or (library_of(name) and not runs_own_code(name))) else "",
        episode_length=contract["task"]["episode_length"],
        action_repeat=contract["action_repeat"],
        history=history,
        history_obs_keys=()
        if min(frames.values(), default=1) == history
        else tuple(k for k in frames if frames[k] > 1),
        action_delay=delay if isinstance(delay, int) else tuple(delay),
        vision=bool(pixels),
        view_size=pixels[0].get("view_size") if pixels else None,
    )


def _scaled(controls: dict[str, list] | None) -> dict[str, object]:
    """Actuators and scaling of a policy, from what a file says."""
    if controls is None:
        return {}
    return {"actuators": tuple(controls["actuators"]), "scaling": from_plain(controls)}


def _shown(agent: Agent, observation: Tensor | Observation) -> Observation:
    """What `SavedPolicy.act` is given, as the agent wants it."""
    return observation if isinstance(observation, dict) else {agent.policy_obs_key: observation}


def _mode(agent: Agent) -> Callable[[Tensor | Observation, torch.Generator | None], Tensor]:
    return lambda observation, generator: agent.mode(_shown(agent, observation))


def _sample(agent: Agent) -> Callable[[Tensor | Observation, torch.Generator | None], Tensor]:
    def act(observation: Tensor | Observation, generator: torch.Generator | None) -> Tensor:
        seen = _shown(agent, observation)
        key = agent.policy_obs_keys[0]
        leading = seen[key].shape[: seen[key].dim() - len(shape_of(agent.observation_sizes[key]))]
        noise = agent.distribution.draw(GeneratorNoise(generator, seen[key].device), *leading)
        return agent.sample(seen, noise)

    return act
