"""Outputs of the networks that see pictures: `vision`."""

from typing import Any

import numpy as np
from brax.training.acme import running_statistics
from brax.training.agents.ppo import networks_vision
from brax.training.agents.ppo.networks import PPONetworks

from tools.golden.networks import ACTIONS, init, jitter, normalizer
from tools.golden.store import Cases, Store
from tools.golden.trees import flatten, read_named, unflatten

ROWS, STATE = 2, 4
# Height and width differ and are not all even, so that SAME padding matters.
PIXELS = {"pixels/view_0": (13, 12, 3), "pixels/view_1": (13, 12, 3)}
VISION_CASES: dict[str, dict[str, Any]] = {
    "avg": {"pool": "avg", "padding": "zeros", "max_pool": True, "normalise_channels": False},
    "max": {"pool": "max", "padding": "valid", "max_pool": False, "normalise_channels": False},
    "none": {"pool": "none", "padding": "zeros", "max_pool": True, "normalise_channels": False},
    "spatial_softmax": {"pool": "spatial_softmax", "padding": "zeros", "max_pool": False, "normalise_channels": False},
    "normalise": {"pool": "avg", "padding": "zeros", "max_pool": False, "normalise_channels": True},
    # Kernels, strides and activation of Brax's defaults, and pixels alone.
    "deep": {
        "pool": "avg",
        "padding": "zeros",
        "max_pool": False,
        "normalise_channels": False,
        "cnn_output_channels": (3, 4, 5),
        "cnn_kernel_size": (8, 4, 3),
        "cnn_stride": (4, 2, 1),
        "cnn_activation": "relu",
        "policy_obs_key": "",
        "value_obs_key": "",
    },
}
# What a case has that does not say.
NETWORK = {
    "policy_obs_key": "state",
    "value_obs_key": "state",
    "cnn_output_channels": (3, 4),
    "cnn_kernel_size": (5, 3),
    "cnn_stride": (2, 2),
    "cnn_activation": "elu",
}


def build_vision(settings: dict[str, Any]) -> PPONetworks:
    """Policy and value network for two views and a state."""
    return networks_vision.make_ppo_networks_vision(
        PIXELS | {"state": (STATE,)},
        ACTIONS,
        preprocess_observations_fn=running_statistics.normalize,
        policy_hidden_layer_sizes=(9,),
        value_hidden_layer_sizes=(9,),
        normalise_channels=settings["normalise_channels"],
        cnn_padding=settings["padding"],
        cnn_max_pool=settings["max_pool"],
        cnn_global_pool=settings["pool"],
        **{name: settings.get(name, value) for name, value in NETWORK.items()},
    )


def vision_inputs() -> Cases:
    """Parameters, views, states and statistics of the normalizer for each case."""
    cases = {}
    for i, (name, settings) in enumerate(VISION_CASES.items()):
        random = np.random.RandomState(140 + i)
        parameters = jitter(init(build_vision(settings), i), random, 0.02)
        case = {"cfg": settings, "policy": flatten(parameters.policy), "value": flatten(parameters.value)}
        case["mean"], case["std"] = random.randn(STATE), np.exp(0.3 * random.randn(STATE))
        for view, shape in PIXELS.items():
            case[f"obs/{view}"] = random.rand(ROWS, *shape)
        case["obs/state"] = random.randn(ROWS, STATE)
        cases[name] = case
    return cases


def record_vision(store: Store) -> None:
    """Logits and values: the group `vision`."""
    for name, case in store.group("vision", vision_inputs).items():
        nets = build_vision(case["cfg"])
        template = init(nets, 0)
        store.put_spec(f"vision/{name}", policy=template.policy, value=template.value)
        policy, value = unflatten(case["policy"], template.policy), unflatten(case["value"], template.value)
        statistics = normalizer({"state": case["mean"]}, {"state": case["std"]})
        observation = read_named(case, "obs")
        outputs = {
            "logits": nets.policy_network.apply(statistics, policy, observation),
            "value": nets.value_network.apply(statistics, value, observation),
        }
        store.put_outputs(f"vision/{name}", outputs)
