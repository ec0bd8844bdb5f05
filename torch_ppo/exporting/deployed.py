"""What an exported file computes: one module, from an observation to an action, with nothing of the trainer in it."""

import copy

import torch
from torch import Tensor, nn

from torch_ppo.exporting.errors import ExportError
from torch_ppo.formulas.controls import Scaling
from torch_ppo.learning.agent import Agent


class Controls(nn.Module):
    """What the actuators get for an action: `formulas.controls`, within each actuator's range.

    offset, scale, lower, upper: (action_dim,)
    """

    def __init__(self, scaling: Scaling) -> None:
        super().__init__()
        for name, value in scaling._asdict().items():
            self.register_buffer(name, value.to(torch.float32))

    def forward(self, action: Tensor) -> Tensor:
        # Not torch.clamp: one that is given tensors becomes operations of which some runtimes lose a NaN.
        controls = self.offset + self.scale * action
        controls = torch.where(controls < self.lower, self.lower, controls)
        return torch.where(controls > self.upper, self.upper, controls)


class DeployedPolicy(nn.Module):
    """The policy as it is exported: `(..., obs_dim)` -> action or controls `(..., action_dim)`.

    A stochastic one takes standard normal `noise` `(..., action_dim)` as its second input, so that whoever uses it decides
    where random numbers come from, and what it does can be repeated.

    scaling: from actions to controls, for a file whose output they are; else None
    """

    def __init__(self, agent: Agent, *, stochastic: bool = False, scaling: Scaling | None = None) -> None:
        super().__init__()
        statistics = agent.normalizer[agent.policy_obs_key]
        self.obs_dim = statistics.obs_dim
        self.stochastic, self.controls = stochastic, None if scaling is None else Controls(scaling)
        self.normalized, self.clip = agent.normalize_observations, statistics.clip
        self.squash = agent.bijector.forward
        # A stack's frames share their statistics; here each number has its own.
        self.register_buffer("mean", statistics.mean.detach().clone().repeat(statistics.frames))
        self.register_buffer("std", statistics.std.detach().clone().repeat(statistics.frames))
        self.policy = plain(agent.policy).requires_grad_(False)
        self.eval()

    def forward(self, observation: Tensor, noise: Tensor | None = None) -> Tensor:
        if self.normalized:
            observation = (observation - self.mean) / self.std
            if self.clip is not None:
                observation = observation.clamp(-self.clip, self.clip)
        loc, scale = self.policy(observation)
        raw = loc if noise is None else loc + scale * noise
        action = self.squash(raw)
        return action if self.controls is None else self.controls(action)

    def example(self, rows: int = 2) -> tuple[Tensor, ...]:
        """Inputs of the right sizes, zero."""
        observation = torch.zeros(rows, self.obs_dim)
        return (observation, torch.zeros(rows, self.action_dim)) if self.stochastic else (observation,)

    @property
    def action_dim(self) -> int:
        """Size of an action."""
        with torch.no_grad():
            return self.policy(torch.zeros(1, self.obs_dim))[0].shape[-1]

    @property
    def input_names(self) -> tuple[str, ...]:
        return ("observation", "noise") if self.stochastic else ("observation",)

    @property
    def output_name(self) -> str:
        return "action" if self.controls is None else "controls"


def plain(network: nn.Module) -> nn.Module:
    """A copy on the CPU whose linear layers are torch's own: ours choose between libraries, which no exporter can."""
    copied = copy.deepcopy(network).cpu()
    for parent in list(copied.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear) and type(child) is not nn.Linear:
                linear = nn.Linear(child.in_features, child.out_features, bias=child.bias is not None)
                linear.load_state_dict(child.state_dict())
                setattr(parent, name, linear)
    for module in copied.modules():
        if any(parameter.dtype != torch.float32 for parameter in module.parameters(recurse=False)):
            raise ExportError("only networks of float32 can be exported")
    return copied
