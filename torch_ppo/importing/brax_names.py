"""Where Brax has what an agent has: names of parameters, and of the network's options.

Source: brax/training/networks.py and brax/training/agents/ppo/networks.py, 0.14.2.
"""

from collections.abc import Iterator

from torch import nn

from torch_ppo.formulas.networks import MLP, NormalPolicy, TanhNormalPolicy, ValueNetwork
from torch_ppo.importing.imported import ForeignError
from torch_ppo.learning.agent import Agent

Path = tuple[str, ...]

# Of the network's configuration, what both have by the same name.
SAME = "activation policy_obs_key value_obs_key mean_clip_scale init_noise_std noise_std_type num_quantiles".split()
INITIAL = "policy_network_kernel_init_fn value_network_kernel_init_fn mean_kernel_init_fn".split()
INITIAL_OPTIONS = [name.replace("_fn", "_kwargs") for name in INITIAL]


def places(agent: Agent) -> Iterator[tuple[str, int, Path, bool]]:
    """Where Brax has each parameter of an agent: our name, which network of its params, the path, whether transposed."""
    policy, value = agent.policy, agent.value
    if not isinstance(policy, (TanhNormalPolicy, NormalPolicy)) or not isinstance(value, ValueNetwork):
        raise ForeignError(
            "only networks of make_ppo_networks have a counterpart in Brax, not those of another factory"
        )
    distributional = list(value.state_dict().values())[-1].shape[0] > 1
    trunks = (
        ("policy", 1, policy.trunk, ("params", "MLP_0") if isinstance(policy, NormalPolicy) else ("params",)),
        ("value", 2, value.trunk, ("params", "MLP_0") if distributional else ("params",)),
    )
    for name, number, trunk, path in trunks:
        yield from _of_trunk(f"{name}.trunk.layers", number, trunk, path)
    if isinstance(policy, NormalPolicy):
        for ours, theirs in (("mean_head", "Dense_0"), ("std_head", "Dense_1")):
            if getattr(policy, ours) is not None:
                yield f"policy.{ours}.weight", 1, ("params", theirs, "kernel"), True
                yield f"policy.{ours}.bias", 1, ("params", theirs, "bias"), False
        if policy.std is not None:
            last = ("std_logparam", "log_value") if policy.log_std else ("std_param", "value")
            yield "policy.std", 1, ("params", *last), False


def _of_trunk(name: str, number: int, trunk: MLP, path: Path) -> Iterator[tuple[str, int, Path, bool]]:
    dense = norm = 0
    for i, layer in enumerate(trunk.layers):
        if isinstance(layer, nn.Linear):
            yield f"{name}.{i}.weight", number, (*path, f"hidden_{dense}", "kernel"), True
            yield f"{name}.{i}.bias", number, (*path, f"hidden_{dense}", "bias"), False
            dense += 1
        elif isinstance(layer, nn.LayerNorm):
            yield f"{name}.{i}.weight", number, (*path, f"LayerNorm_{norm}", "scale"), False
            yield f"{name}.{i}.bias", number, (*path, f"LayerNorm_{norm}", "bias"), False
            norm += 1
