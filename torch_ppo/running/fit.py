"""Whether saved networks fit a task and a configuration, and in words what does not."""

from collections.abc import Mapping

from torch import Tensor

from torch_ppo.environments.contract import Environment
from torch_ppo.simulation.views import Size, shape_of

Weights = Mapping[str, Tensor]
VISION_HEAD = "head."  # what of a network follows its encoder of pixels


def sizes_in_words(observation_sizes: Mapping[str, Size]) -> str:
    """Observations by key: `state 5, pixels/front 64 x 64 x 3`."""
    each = [f"{key} {' x '.join(map(str, shape_of(size)))}" for key, size in observation_sizes.items()]
    return ", ".join(each) or "no vector"  # of networks that see pixels, whose normalizer has none


# How many numbers an action has; of discrete ones, how many choices each.
Actions = int | tuple[int, ...]


def actions_of(env: Environment) -> Actions:
    """The actions that an env takes."""
    return env.choices or env.action_dim


def actions_in_words(actions: Actions) -> str:
    """`1 action`, `2 actions`, `2 discrete actions (3, 2 choices)`."""
    if isinstance(actions, int):
        return f"{actions} action{'s' * (actions != 1)}"
    shown = [str(n) for n in actions[:8]] + ["..."] * (len(actions) > 8)
    return f"{len(actions)} discrete action{'s' * (len(actions) != 1)} ({', '.join(shown)} choices)"


def task_misfit(
    saved: tuple[Mapping[str, Size], Actions | None], live: tuple[Mapping[str, Size], Actions | None], task: str
) -> list[str]:
    """What of the observations' sizes, by key, and of the number of actions is another in the task than it was."""
    (saved_sizes, saved_actions), (sizes, actions) = saved, live
    found = []
    if dict(saved_sizes) != dict(sizes):
        found.append(f"it observes {sizes_in_words(saved_sizes)}, but {task} gives {sizes_in_words(sizes)}")
    if None not in (saved_actions, actions) and saved_actions != actions:
        both_real = isinstance(saved_actions, int) and isinstance(actions, int)
        takes = actions if both_real else actions_in_words(actions)
        found.append(f"it has {actions_in_words(saved_actions)}, but {task} takes {takes}")
    return found


def network_misfit(saved: Weights, live: Weights, task: str) -> str | None:
    """Why an agent's saved weights, or some of them, do not fit those of another; None if they do."""
    if {name: x.shape for name, x in saved.items()} == {name: x.shape for name, x in live.items()}:
        return None
    same_task = task_misfit((_observations(saved), _actions(saved)), (_observations(live), _actions(live)), task)
    networks = {name.partition(".")[0] for name in (*saved, *live)} - {"normalizer"}
    found = [*same_task, *(words for network in sorted(networks) if (words := _layers_misfit(saved, live, network)))]
    return "; ".join(found) or _first_difference(saved, live)


def _observations(weights: Weights) -> dict[str, int]:
    """Sizes of what the networks see, by key: each has a normalizer, used or not."""
    names = (name for name in weights if name.startswith("normalizer.") and name.endswith(".mean"))
    return {name.removeprefix("normalizer.").removesuffix(".mean"): len(weights[name]) for name in names}


def _layers(weights: Weights, network: str) -> list[int]:
    """Outputs of each layer of a network of `make_ppo_networks`, the last linear one included; empty for another's."""
    begin = tuple(f"{network}.{head}trunk.layers." for head in ("", VISION_HEAD))
    names = [name for name in weights if name.startswith(begin) and name.endswith(".weight")]
    return [len(weights[name]) for name in names if weights[name].dim() == 2]


def _hidden(weights: Weights, network: str) -> list[int]:
    layers = _layers(weights, network)
    heads = ("mean_head", "logits_head")
    return layers if any(_head(weights, network, name) is not None for name in heads) else layers[:-1]


def _head(weights: Weights, network: str, name: str) -> Tensor | None:
    return weights.get(f"{network}.{name}.weight", weights.get(f"{network}.{VISION_HEAD}{name}.weight"))


def _actions(weights: Weights) -> int | None:
    """None where the network is not one of `make_ppo_networks`, or its actions are discrete."""
    head, layers = _head(weights, "policy", "mean_head"), _layers(weights, "policy")
    if head is not None:
        return len(head)
    if _head(weights, "policy", "logits_head") is not None:
        return None
    return layers[-1] // 2 if layers else None  # of TanhNormalPolicy: location and scale


def _layers_misfit(saved: Weights, live: Weights, network: str) -> str | None:
    there, here = _hidden(saved, network), _hidden(live, network)
    if there == here:
        return None
    name = {"policy": "policy", "value": "value network"}[network]
    if not (_layers(saved, network) and _layers(live, network)):
        return f"its {name} is not one of the same network_factory"
    remedy = ", or restore_value_fn = false would leave it out" if network == "value" else ""
    field = f"{network}_hidden_layer_sizes"
    return f"its {name} has the layers {there}, but {field} is {here}; {field} = {there} would fit{remedy}"


def _first_difference(saved: Weights, live: Weights) -> str:
    """Networks of the same layers and another kind: of another distribution, say, or with another number of quantiles."""
    for name in {**live, **saved}:
        there, here = (tuple(w[name].shape) if name in w else "missing" for w in (saved, live))
        if there != here:
            break
    return (
        f"its networks are made otherwise: {name} is {there} in it and {here} here; distribution_type, noise_std_type, "
        "state_dependent_std, layer_norm, num_quantiles, vision, view_size, the encoder of pixels and the network_factory have to be the "
        "same"
    )
