"""What an exported file computes: one module, from an observation to an action, with nothing of the trainer in it."""

import copy

import torch
from torch import Tensor, nn

from torch_ppo.exporting.errors import ExportError
from torch_ppo.formulas.controls import Scaling
from torch_ppo.formulas.convolution import Conv
from torch_ppo.formulas.distribution import PolicyParams, as_params
from torch_ppo.formulas.pixels import is_picture
from torch_ppo.learning.agent import Agent
from torch_ppo.simulation.views import shape_of


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

    A stochastic one takes `noise` `(..., noise_dim)` as its second input, so that whoever uses it decides where random
    numbers come from, and what it does can be repeated: standard normal numbers, or uniform ones for discrete actions.

    scaling: from actions to controls, for a file whose output they are; else None
    keys:    of the observations that are its inputs, in order
    """

    def __init__(self, agent: Agent, *, stochastic: bool = False, scaling: Scaling | None = None) -> None:
        super().__init__()
        self.keys = agent.policy_obs_keys
        self.shapes = [shape_of(agent.observation_sizes[key]) for key in self.keys]
        self.stochastic, self.controls = stochastic, None if scaling is None else Controls(scaling)
        self.distribution = agent.distribution
        self.action_dim, self.noise_dim = agent.distribution.action_dim, agent.distribution.noise_dim
        self.normalized = agent.normalize_observations and bool(agent.policy_obs_key)
        statistics = agent.normalizer[agent.policy_obs_key] if agent.policy_obs_key else None
        self.obs_dim, self.clip = (statistics.obs_dim, statistics.clip) if statistics else (0, None)
        for name in ("mean", "std"):
            # A stack's frames share their statistics; here each number has its own.
            numbers = getattr(statistics, name).detach().clone().repeat(statistics.frames) if statistics else None
            self.register_buffer(name, numbers)
        self.policy = plain(agent.policy).requires_grad_(False)
        self.eval()

    def policy_params(self, observation: Tensor) -> PolicyParams:
        """Of the raw action: loc and scale, or logits."""
        return as_params(self.policy(self.normalize(observation)))

    def normalize(self, observation: Tensor) -> Tensor:
        """A vector as the network sees it."""
        if self.normalized:
            observation = (observation - self.mean) / self.std
            if self.clip is not None:
                observation = observation.clamp(-self.clip, self.clip)
        return observation

    def forward(self, observation: Tensor, noise: Tensor | None = None) -> Tensor:
        return self.action(self.policy_params(observation), noise)

    def action(self, params: PolicyParams, noise: Tensor | None) -> Tensor:
        """The file's output."""
        drawn = self.distribution
        raw = drawn.mode_raw(params) if noise is None else drawn.sample_raw(params, noise)
        action = drawn.action(raw)
        if self.controls is None:
            return action
        return self.controls(action) if drawn.choices is None else action + self.controls.offset.to(action.dtype)

    def _zeros(self, rows: int) -> tuple[Tensor, ...]:
        return tuple(
            torch.zeros(rows, *shape, dtype=torch.uint8 if is_picture(key) else torch.float32)
            for key, shape in zip(self.keys, self.shapes, strict=True)
        )

    def example(self, rows: int = 2) -> tuple[Tensor, ...]:
        """Inputs of the right sizes."""
        noise = (torch.full((rows, self.noise_dim), 0.5),) if self.stochastic else ()
        return (*self._zeros(rows), *noise)

    def dynamic_shapes(self, batch: object) -> dict[str, object]:
        """What `torch.export` is told: that the first axis of each input is `batch`."""
        return {name: {0: batch} for name in self.input_names}

    @property
    def input_names(self) -> tuple[str, ...]:
        return ("observation", "noise") if self.stochastic else ("observation",)

    @property
    def output_name(self) -> str:
        return "action" if self.controls is None else "controls"


class DeployedPixelPolicy(DeployedPolicy):
    """The same of a policy that sees pixels: an input for each view, uint8 `(batch, height, width, channels)`, and after
    them the vector `(batch, obs_dim)`, where it sees one, and noise.
    """

    def policy_params(self, *observations: Tensor) -> PolicyParams:
        seen = dict(zip(self.keys, observations, strict=True))
        return as_params(self.policy({key: x if is_picture(key) else self.normalize(x) for key, x in seen.items()}))

    def forward(self, *inputs: Tensor) -> Tensor:
        number = len(self.keys)
        noise = inputs[number] if len(inputs) > number else None
        return self.action(self.policy_params(*inputs[:number]), noise)

    def dynamic_shapes(self, batch: object) -> dict[str, object]:
        return {"inputs": tuple({0: batch} for _ in self.input_names)}

    @property
    def input_names(self) -> tuple[str, ...]:
        return (*(key.replace("/", "_") for key in self.keys), *(("noise",) if self.stochastic else ()))


def deployed(agent: Agent, *, stochastic: bool = False, scaling: Scaling | None = None) -> DeployedPolicy:
    """The module of an agent's policy, by what that sees."""
    kind = DeployedPixelPolicy if agent.pixel_keys else DeployedPolicy
    return kind(agent, stochastic=stochastic, scaling=scaling)


def plain(network: nn.Module) -> nn.Module:
    """A copy on the CPU whose layers are torch's own: ours choose between libraries and types, which no exporter can."""
    copied = copy.deepcopy(network).cpu()
    for parent in list(copied.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear) and type(child) is not nn.Linear:
                linear = nn.Linear(child.in_features, child.out_features, bias=child.bias is not None)
                linear.load_state_dict(child.state_dict())
                setattr(parent, name, linear)
            elif isinstance(child, Conv):
                child.in_bfloat16 = False
    for module in copied.modules():
        if any(parameter.dtype != torch.float32 for parameter in module.parameters(recurse=False)):
            raise ExportError("only networks of float32 can be exported")
    return copied
