"""What the loss tells of advantages and value targets; the loss itself is held against Brax in test_brax_parity."""

import numpy as np
import pytest
import torch

from torch_ppo.formulas.distribution import DISTRIBUTIONS, Normal
from torch_ppo.formulas.losses import LossInputs, compute_ppo_loss


@pytest.mark.parametrize(("dtype", "offset", "rtol"), [(torch.float64, 0.0, 1e-9), (torch.float32, 1e4, 1e-3)])
@pytest.mark.parametrize("shape", [(7, 30), (210,)])
def test_spread_of_advantages_and_targets(dtype, offset, rtol, shape):
    """By numpy in float64, and in float32 far from 0, where the difference of two means of squares has no digit left."""
    rng = np.random.default_rng(0)
    advantage, target, value = (scale * rng.normal(size=shape) for scale in (2.0, 3.0, 1.0))
    target, value = target + offset, value + offset
    advantage, target, value = (
        x.astype(np.float32 if dtype == torch.float32 else float) for x in (advantage, target, value)
    )
    advantages, targets, values = (torch.from_numpy(x) for x in (advantage, target, value))
    zeros, ones = torch.zeros(*shape, 2, dtype=dtype), torch.ones(*shape, 2, dtype=dtype)
    plain = zeros[..., 0]
    data = LossInputs(zeros, (zeros, ones), plain, plain, plain, plain, values, advantages, targets)
    _, metrics = compute_ppo_loss(
        data, policy_params=(zeros, ones), quantiles=values[..., None].requires_grad_(), bootstrap_value=None,
        entropy_noise=zeros, distribution=Normal(2, DISTRIBUTIONS["normal"]), discounting=0.9, gae_lambda=0.8,
        textbook_gae=True, reward_scaling=1.0, clipping_epsilon=torch.tensor(0.2), clipping_epsilon_value=None,
        entropy_cost=torch.tensor(0.0), vf_loss_coefficient=0.5, normalize_advantage=True,
        use_distributional_critic=False,
    )  # fmt: skip
    advantage, target, value = (x.astype(float) for x in (advantage, target, value))
    expected = {
        "advantage_mean": advantage.mean(),
        "advantage_std": advantage.std(),
        "value_target_std": target.std(),
        "explained_variance": 1.0 - (target - value).var() / target.var(),
    }
    found = {name: metrics[name].item() for name in expected}
    assert found == pytest.approx(expected, rel=rtol, abs=1e-6)
