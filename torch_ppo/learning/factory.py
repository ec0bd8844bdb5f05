"""Somebody's own `network_factory`: what it is called with, and whether what it makes can be trained."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from torch_ppo.errors import ConfigError
from torch_ppo.formulas.distribution import Distribution, as_params

# (policy_obs_dim, value_obs_dim, action_dim), or with `vision` (observation_sizes, action_dim). In place of action_dim it is
# the number of logits where actions are discrete, of which the policy then gives a tensor.
NetworkFactory = Callable[..., tuple[nn.Module, nn.Module]]


def networks_of(
    network_factory: NetworkFactory, sizes: tuple[object, ...], outputs: int, distribution: Distribution
) -> tuple[nn.Module, nn.Module]:
    """What somebody's own factory makes. ConfigError if that is no pair of networks that can be trained.

    outputs:  numbers in each tensor that a policy gives
    """
    made = network_factory(*sizes)
    if not isinstance(made, (tuple, list)) or len(made) != 2 or not all(isinstance(x, nn.Module) for x in made):
        raise ConfigError(
            f"network_factory returns {_kinds(made)}, but must return two modules, policy and value network"
        )
    policy, value = made
    for name, module in (("policy", policy), ("value network", value)):
        other = [x for x in module.parameters() if x.dtype != torch.float32 or x.device.type != "cpu"]
        if other:
            kind = str(other[0].dtype).removeprefix("torch.")
            raise ConfigError(
                f"network_factory returns a {name} of {kind} on {other[0].device}, but float32 on cpu is needed"
            )
        if not any(x.requires_grad for x in module.parameters()):
            raise ConfigError(f"network_factory returns a {name} without parameters that require a gradient")
    *seen, _ = sizes
    if not all(isinstance(size, int) for size in seen):  # with pixels; Brax's call, which has its own checks
        return policy, value
    num_tensors = len(distribution.param_sizes)
    with torch.no_grad():
        given = [module(torch.zeros(3, 2, size)) for module, size in zip(made, seen, strict=True)]
    params = as_params(given[0])
    fits = isinstance(params, (tuple, list)) and len(params) == num_tensors
    if not fits or any(not isinstance(x, Tensor) or x.shape != (3, 2, outputs) for x in params):
        wanted = "a tensor" if num_tensors == 1 else "loc and scale, each"
        raise ConfigError(
            f"network_factory returns a policy that gives {_kinds(given[0])} for observations (3, 2, {seen[0]}), but must give "
            f"{wanted} (3, 2, {outputs})"
        )
    if not isinstance(given[1], Tensor) or given[1].dim() != 3 or given[1].shape[:2] != (3, 2):
        raise ConfigError(
            f"network_factory returns a value network that gives {_kinds(given[1])} for observations (3, 2, {seen[1]}), but "
            "must give (3, 2, 1)"
        )
    return policy, value


def _kinds(given: object) -> str:
    """Types, and shapes of tensors, of what was returned."""
    if isinstance(given, (tuple, list)):
        return f"({', '.join(map(_kinds, given))})"
    return f"{tuple(given.shape)}" if isinstance(given, Tensor) else type(given).__name__
