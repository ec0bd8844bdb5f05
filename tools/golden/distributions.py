"""The action distributions and the bijector between them: `dist_tanh`, `dist_normal`, `bijector`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from brax.training import distribution

from tools.golden.noise import injected_noise, normal
from tools.golden.store import Cases, Store
from tools.golden.trees import Tree

ROWS, ACTIONS = 12, 3
TANH_CASES = {
    "default": {"min_std": 0.001, "var_scale": 1.0},
    "custom": {"min_std": 0.1, "var_scale": 0.5},
    "extreme": {"min_std": 0.001, "var_scale": 1.0},
}


def tanh_inputs() -> Cases:
    """Random parameters for each case; in `extreme`, saturated ones and their neighbours."""
    random = np.random.RandomState(1)
    cases = {
        name: {
            "cfg": settings,
            "parameters": normal(random, ROWS, 2 * ACTIONS),
            "old_parameters": normal(random, ROWS, 2 * ACTIONS),
            "noise": normal(random, ROWS, ACTIONS),
        }
        for name, settings in TANH_CASES.items()
    }
    extreme = cases["extreme"]
    parameters = extreme["parameters"] * 4
    parameters[0] = 30
    parameters[1] = -30
    parameters[2] = np.repeat([20, -20], ACTIONS)
    parameters[3] = np.repeat([-20, 20], ACTIONS)
    extreme.update(parameters=parameters, old_parameters=parameters + extreme["old_parameters"] * 0.1)
    return cases


def normal_inputs() -> Cases:
    """Random parameters; in `same`, two equal normals."""
    random = np.random.RandomState(2)

    def scale() -> np.ndarray:
        return np.exp(0.5 * random.randn(ROWS, ACTIONS)).astype(np.float32)

    def case() -> dict[str, np.ndarray]:
        return {
            "loc": normal(random, ROWS, ACTIONS),
            "scale": scale(),
            "old_loc": normal(random, ROWS, ACTIONS),
            "old_scale": scale(),
            "noise": normal(random, ROWS, ACTIONS),
        }

    default, same = case(), case()
    loc, std = (np.full((ROWS, ACTIONS), value, np.float32) for value in (0.3, 0.7))
    return {"default": default, "same": same | {"loc": loc, "scale": std, "old_loc": loc, "old_scale": std}}


def outputs(
    family: distribution.ParametricDistribution, parameters: Tree, old: Tree, noise: jax.Array
) -> tuple[dict[str, Any], Tree, Tree]:
    """All that a distribution computes, and the gradients of its summed entropy and log-probability.

    noise:  of the sample, and of the entropy's; both samples are held fixed in the gradients
    """
    current = family.create_dist(parameters)
    with injected_noise():
        raw = family.sample_no_postprocessing(parameters, noise)
        action = family.sample(parameters, noise)
        entropy = family.entropy(parameters, noise)
        entropy_gradient = jax.grad(lambda values: family.entropy(values, noise).sum())(parameters)
    values = {
        "loc": current.loc,
        "scale": jnp.broadcast_to(current.scale, current.loc.shape),
        "raw_action": raw,
        "action": action,
        "log_prob": family.log_prob(parameters, raw),
        "entropy": entropy,
        "mode": family.mode(parameters),
        "log_det": family._postprocessor.forward_log_det_jacobian(raw),
        "kl_old_new": current.kl_divergence(family.create_dist(old)),
    }
    log_prob_gradient = jax.grad(lambda values: family.log_prob(values, raw).sum())(parameters)
    return values, entropy_gradient, log_prob_gradient


def record_tanh(store: Store) -> None:
    """Normals squashed by tanh: the group `dist_tanh`."""
    for name, case in store.group("dist_tanh", tanh_inputs).items():
        family = distribution.NormalTanhDistribution(ACTIONS, **case["cfg"])
        values, entropy, log_prob = outputs(family, case["parameters"], case["old_parameters"], case["noise"])
        store.put_outputs(f"dist_tanh/{name}", values | {"grad_entropy": entropy, "grad_log_prob": log_prob})


def record_normal(store: Store) -> None:
    """Plain normals: the group `dist_normal`."""
    for name, case in store.group("dist_normal", normal_inputs).items():
        family = distribution.NormalDistribution(ACTIONS)
        parameters, old = (case["loc"], case["scale"]), (case["old_loc"], case["old_scale"])
        values, entropy, log_prob = outputs(family, parameters, old, case["noise"])
        gradients = {
            "grad_entropy_loc": entropy[0],
            "grad_entropy_scale": entropy[1],
            "grad_log_prob_loc": log_prob[0],
            "grad_log_prob_scale": log_prob[1],
        }
        store.put_outputs(f"dist_normal/{name}", values | gradients)


def bijector_inputs() -> Cases:
    """Values from saturation to saturation."""
    grid = np.concatenate([np.linspace(-100, 100, 41), np.linspace(-3, 3, 25)])
    return {"grid": {"x": grid.astype(np.float32)}}


def record_bijector(store: Store) -> None:
    """tanh, its log-derivative and its inverse: the group `bijector`."""
    tanh = distribution.TanhBijector()
    for name, case in store.group("bijector", bijector_inputs).items():
        x = case["x"]
        values = {
            "forward": tanh.forward(x),
            "log_det": tanh.forward_log_det_jacobian(x),
            "inverse_of_forward_half": tanh.inverse(tanh.forward(0.5 * jnp.tanh(x))),
        }
        store.put_outputs(f"bijector/{name}", values)
