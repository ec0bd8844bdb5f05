"""Brax's `params` and `make_policy`: the agent as plain values and as a function."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from torch_ppo.errors import UserError
from torch_ppo.formulas.noise import GeneratorNoise
from torch_ppo.learning.agent import Agent
from torch_ppo.simulation.task import Observation
from torch_ppo.simulation.views import shape_of

Params = tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]
Policy = Callable[..., tuple[Tensor, dict[str, Tensor]]]
MakePolicy = Callable[..., Policy]


def params_of(agent: Agent) -> Params:
    """Copies of (normalizer, policy, value) as state dicts, the `params` of Brax's callbacks."""
    return tuple(
        {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
        for module in (agent.normalizer, agent.policy, agent.value)
    )


def policy_maker(agent: Agent) -> MakePolicy:
    """Brax's `make_policy`: `make_policy(params, deterministic=False)` gives `policy(observation, generator=None)`.

    A policy maps an observation `(..., obs_dim)`, or a dict of them, to an action `(..., action_dim)` and extras
    (empty if deterministic).
    """

    def make_policy(params: Params, deterministic: bool = False) -> Policy:
        own = copy.deepcopy(agent)
        for module, values in zip((own.normalizer, own.policy, own.value), params, strict=True):
            module.load_state_dict(values)

        @torch.no_grad()
        def policy(
            observation: Tensor | Observation, generator: torch.Generator | None = None
        ) -> tuple[Tensor, dict[str, Tensor]]:
            if isinstance(observation, Tensor):
                observation = {own.policy_obs_keys[0]: observation}
            for key in own.policy_obs_keys:
                if key not in observation:
                    raise UserError(f"the policy sees {key}, which is not among {', '.join(observation)}")
                found, expected = tuple(observation[key].shape), shape_of(own.observation_sizes[key])
                if found[len(found) - len(expected) :] != expected:
                    sizes = ", ".join(map(str, expected))
                    raise UserError(f"the policy sees observations (..., {sizes}), not {found}")
            params, distribution = own.policy_params(observation), own.distribution
            if deterministic:
                return distribution.action(distribution.mode_raw(params)), {}
            first = params[0]
            noise = distribution.draw(GeneratorNoise(generator, first.device), *first.shape[:-1]).to(first.dtype)
            raw_action = distribution.sample_raw(params, noise)
            log_prob = distribution.log_prob(params, raw_action)
            extras = {"log_prob": log_prob, "raw_action": raw_action}
            return distribution.action(raw_action), extras | dict(zip(distribution.param_sizes, params, strict=True))

        return policy

    return make_policy
