"""Sizes that no memory holds are refused before anything is made of them: the system would end the process instead."""

import itertools
import os

import torch

from torch_ppo.errors import ConfigError
from torch_ppo.settings.config import Config

# Floats of 4 bytes at least, whatever the task: state, start states, observations and the rules of an episode of an
# env; what is kept of a transition; for each parameter its gradient and Adam's two moments; metrics of an SGD step.
PER_ENV, PER_TRANSITION, PER_PARAMETER, PER_SGD_STEP = 32, 8, 4, 8


def floats_needed(config: Config) -> dict[str, int]:
    """Lower bounds of the floats that settings ask for, each as it would be written."""

    def parameters(sizes: tuple[int, ...]) -> int:
        return PER_PARAMETER * sum(a * b for a, b in itertools.pairwise((1, *sizes, 1)))

    c = config
    delay = max(c.action_delay) if isinstance(c.action_delay, tuple) else c.action_delay
    transitions = c.batch_size * c.num_minibatches * c.unroll_length
    sgd_steps = c.num_updates_per_batch * c.num_minibatches
    needed = {
        f"num_updates_per_batch * num_minibatches = {sgd_steps}": PER_SGD_STEP * sgd_steps,
        f"num_envs = {c.num_envs}": PER_ENV * c.num_envs,
        f"history = {c.history}": c.history * c.num_envs,
        f"action_delay = {c.action_delay}": delay * c.num_envs,
        f"batch_size * num_minibatches * unroll_length = {transitions}": PER_TRANSITION * transitions,
        f"policy_hidden_layer_sizes = {c.policy_hidden_layer_sizes}": parameters(c.policy_hidden_layer_sizes),
        f"value_hidden_layer_sizes = {c.value_hidden_layer_sizes}": parameters(c.value_hidden_layer_sizes),
    }
    if c.run_evals and c.num_evals:
        needed[f"num_eval_envs = {c.num_eval_envs}"] = PER_ENV * c.num_eval_envs
    return needed


def memory_of(device: torch.device) -> int:
    """Bytes that there are, used or not: of the machine, or of a CUDA device."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_memory(config: Config, device: torch.device) -> None:
    """ConfigError if a setting alone asks for more than there is. What passes may still be too much."""
    name, floats = max(floats_needed(config).items(), key=lambda each: each[1])
    there = memory_of(device)
    if 4 * floats > there:
        raise ConfigError(
            f"{name} needs {4 * floats / 1e9:,.0f} GB of memory at least, and {device} has {there / 1e9:,.0f} GB"
        )
