"""Agents whose networks and normalizer are not those of the start, one of each kind."""

import torch

from torch_ppo.learning.agent import make_agent
from torch_ppo.settings.config import Config

SIZES = {"state": 5, "privileged_state": 8}
AGENTS = {
    "tanh_normal": ({"state": 5}, {"normalize_observations": True}),
    "not_normalized": ({"state": 5}, {"normalize_observations": False}),
    "asymmetric": (SIZES, {"normalize_observations": True, "value_obs_key": "privileged_state"}),
    "policy_sees_privileged": (SIZES, {"normalize_observations": True, "policy_obs_key": "privileged_state"}),
    "history": (
        {"state": 15, "privileged_state": 8},
        {
            "normalize_observations": True,
            "value_obs_key": "privileged_state",
            "history": 3,
            "history_obs_keys": ("state",),
        },
    ),
    "layer_norm": ({"state": 5}, {"normalize_observations": True, "layer_norm": True}),
    "state_dependent_std": (
        {"state": 5},
        {
            "normalize_observations": True,
            "distribution_type": "normal",
            "state_dependent_std": True,
            "mean_clip_scale": 2.0,
            "activation": "elu",
        },
    ),
    "log_std": (
        {"state": 5},
        {"normalize_observations": True, "distribution_type": "normal", "noise_std_type": "log"},
    ),
}


VISION = {
    "vision": True,
    "normalize_observations": True,
    "cnn_output_channels": (4, 6),
    "cnn_kernel_size": (5, 3),
    "cnn_stride": (2, 2),
}
VIEWS = {"pixels/front": (14, 12, 3), "pixels/wrist": (11, 10, 1)}
# Of policies that see pixels.
VISION_AGENTS = {
    "views_and_state": ({**VIEWS, **SIZES}, {**VISION, "value_obs_key": "privileged_state", "shared_encoder": True}),
    "one_view": ({"pixels/front": (14, 12, 3)}, {**VISION, "cnn_max_pool": True, "normalise_channels": True}),
    "spatial_softmax": (
        {"pixels/front": (14, 12, 3)},
        {**VISION, "cnn_global_pool": "spatial_softmax", "distribution_type": "normal", "state_dependent_std": True},
    ),
    "flat_maps": (VIEWS, {**VISION, "cnn_global_pool": "none", "cnn_max_pool": True}),
    "largest": (VIEWS, {**VISION, "cnn_global_pool": "max", "cnn_padding": "valid", "cnn_activation": "gelu"}),
    "resnet18": ({"pixels/front": (14, 12, 3)}, {"vision": True, "pixel_encoder": "resnet18"}),
}


def make_trained_agent(name, seed=0):
    """An agent whose networks and normalizer are not those of the start."""
    sizes, settings = (AGENTS | VISION_AGENTS)[name]
    config = Config(num_timesteps=1, policy_hidden_layer_sizes=(16, 16), value_hidden_layer_sizes=(8,), **settings)
    generator = torch.Generator().manual_seed(seed)
    agent = make_agent(config, sizes, 2, generator=generator)
    with torch.no_grad():
        for parameter in agent.policy.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    for _ in range(2):
        vectors = {key: size for key, size in sizes.items() if isinstance(size, int)}
        agent.update_normalizer({key: 3.0 * torch.rand(50, size, generator=generator) for key, size in vectors.items()})
    return agent
