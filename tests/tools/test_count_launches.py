"""Upper limits of what a training step launches, and that the counting counts."""

import pytest
import torch

from tools.count_launches import Operators, count, kernels, lines, totals
from torch_ppo.running.accelerate import compiled


def test_operators_are_counted_but_not_views_nor_what_is_opaque():
    x = torch.ones(4, 3)
    hidden = Operators.opaque(lambda: x.exp())
    with Operators() as operators:
        x.T[0].unsqueeze(0).mul_(2.0)
        hidden()
        torch.cat([x, x])
    assert operators.counts == {"mul_": 1, "cat": 1}


@pytest.mark.slow
def test_kernels_are_counted():
    """One product, and what precedes and what follows it."""
    found = kernels(
        lambda: compiled(lambda x, w: ((x.sin() * 2) @ w).relu() + 1)(torch.ones(64, 64), torch.ones(64, 64))
    )
    assert found == {"fused": 2, "product": 1, "other": 0}


# Of a policy step: work of Warp (launches, fills, copies); operators of torch left eager in an unroll and a pass.
@pytest.mark.parametrize(
    ("name", "physics", "unroll_per_step", "sgd_pass"),
    [
        ("cartpole", 79, 1.2, 6),
        pytest.param("quadruped_joystick", 500, 2.1, 6, marks=pytest.mark.slow),
        pytest.param("ant", 1600, 1.5, 6, marks=pytest.mark.slow),
    ],
)
def test_what_is_left_eager(name, physics, unroll_per_step, sgd_pass):
    counts = count(name, generate=None)
    assert 0 < totals(counts)["policy_step_physics"] <= physics
    assert sum(counts["eager_in_unroll"].values()) / counts["policy_steps"] <= unroll_per_step
    assert sum(counts["eager_in_sgd_pass"].values()) <= sgd_pass
    assert any(line.startswith("  graphs") for line in lines(counts))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "policy_step", "sgd_step"), [("cartpole", 14.5, 65), ("quadruped_joystick", 25, 80)])
def test_what_is_compiled(name, policy_step, sgd_step):
    total = totals(count(name))
    assert total["policy_step_torch"] <= policy_step
    assert total["sgd_step"] <= sgd_step
