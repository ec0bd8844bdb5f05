"""Generalised advantage estimation and the PPO loss, exactly as Brax computes them.

Pure functions of tensors and numbers. Time is the first axis: `(unroll_length, batch_size)`, written
`(T, B)` below; once advantages are given, the loss takes transitions without an order, `(n,)`, as well.
Source: brax/training/agents/ppo/losses.py.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from torch_ppo.formulas.distribution import Columns, Distribution, Normal, PolicyParams


class LossInputs(NamedTuple):
    """One minibatch as recorded while collecting. All float but discrete actions.

    raw_action:    what was drawn                                     (T, B, action_dim)
    policy_params: what the policy that acted gave: loc and scale     (T, B, action_dim),
                   or logits                                          (T, B, num_logits)
    log_prob:      of raw_action under that policy                    (T, B)
    reward:        unscaled, with the time-out bootstrap if any       (T, B)
    truncation:    1 where the time limit ended the episode           (T, B)
    termination:   1 where the task ended the episode                 (T, B)
    value:         of the observation under the policy that acted,
                   for value clipping and with advantage              (T, B) or None
    advantage, value_target: computed once for the whole batch        (T, B) or None
    """

    raw_action: Tensor
    policy_params: PolicyParams
    log_prob: Tensor
    reward: Tensor
    truncation: Tensor
    termination: Tensor
    value: Tensor | None
    advantage: Tensor | None = None
    value_target: Tensor | None = None


# In the order of their columns. Those of `Normal` are reported of no other distribution.
METRICS = (
    "total_loss",
    "policy_loss",
    "v_loss",
    "entropy_loss",
    "kl_mean",
    "policy_dist_mean_std",
    "policy_dist_max_std",
    "policy_dist_min_std",
    "policy_dist_mean_loc",
    "policy_dist_max_loc",
    "policy_dist_min_loc",
    "entropy",
    "approx_kl",
    "clip_fraction",
    "explained_variance",
    "advantage_mean",
    "advantage_std",
    "value_target_std",
)


def metric_names(distribution: Distribution) -> tuple[str, ...]:
    """The metrics of a loss with that distribution."""
    return tuple(name for name in METRICS if name not in Normal.metrics or name in distribution.metrics)


def reverse_scan(x: Tensor, decay: Tensor) -> Tensor:
    """y with y[t] = x[t] + decay[t] * y[t + 1] over the first axis of `(T, B)` tensors, y[T] = 0.

    In ceil(log2(T)) rounds of whole-tensor operations (Hillis and Steele 1986): after a round, y[t] and decay[t]
    stand for twice as many steps as before. T operations on `(B,)` would be launched one by one.
    """
    steps = 1
    while steps < x.shape[0]:
        x = torch.cat([torch.addcmul(x[:-steps], decay[:-steps], x[steps:]), x[-steps:]])
        # The last rows reach the end already; their decay is not used again.
        decay = torch.cat([decay[:-steps] * decay[steps:], decay[-steps:]])
        steps *= 2
    return x


def compute_gae(
    truncation: Tensor,
    termination: Tensor,
    rewards: Tensor,
    values: Tensor,
    bootstrap_value: Tensor,
    *,
    lambda_: float,
    discount: float,
    textbook: bool = False,
) -> tuple[Tensor, Tensor]:
    """Value targets and advantages, each `(T, B)`, from `(T, B)` inputs and `bootstrap_value` `(B,)`.

    The advantage is r + discount * vs[t+1] - V[t] with vs the lambda-return: relative to textbook GAE the
    first lambda is missing, as in V-trace. `textbook` takes vs[t] - V[t] (Schulman et al. 2016, eq. 16). Targets
    are the same for both. A truncated step gets advantage 0 and target V[t]: its reward is not used and
    nothing is bootstrapped from it.
    """
    keep = 1.0 - truncation
    discounts = discount * (1.0 - termination)
    next_values = torch.cat([values[1:], bootstrap_value[None]])  # (T, B)
    deltas = keep * (rewards + discounts * next_values - values)
    lambda_advantages = reverse_scan(deltas, discounts * keep * lambda_)
    vs = values + lambda_advantages
    if textbook:
        return vs, lambda_advantages
    next_vs = torch.cat([vs[1:], bootstrap_value[None]])  # (T, B)
    advantages = keep * (rewards + discounts * next_vs - values)
    return vs, advantages


def quantile_huber_loss(quantiles: Tensor, targets: Tensor, kappa: float) -> Tensor:
    """Mean quantile-regression Huber loss `(...,)` of `quantiles` `(..., Q)` against `targets` `(...,)`.

    Not divided by kappa. Source: Dabney et al. 2017 (QR-DQN), as in Brax.
    """
    num_quantiles = quantiles.shape[-1]
    # float32 whatever the rest is, as in Brax
    tau = (torch.arange(num_quantiles, dtype=torch.float32, device=quantiles.device) + 0.5) / num_quantiles
    error = targets[..., None] - quantiles
    size = error.abs()
    huber = torch.where(size <= kappa, 0.5 * error.square(), kappa * (size - 0.5 * kappa))
    return ((tau - (error < 0).to(tau.dtype)).abs() * huber).mean(-1)


def squared_value_loss(values: Tensor, targets: Tensor, old_values: Tensor | None, clip: float | None) -> Tensor:
    """0.5 * squared error `(T, B)`, optionally clipped around `old_values`."""
    error = (targets - values).square()
    if clip is not None:
        clipped = old_values + (values - old_values).clamp(-clip, clip)
        error = torch.maximum(error, (targets - clipped).square())
    return 0.5 * error


def clipped_surrogate_loss(ratio: Tensor, advantages: Tensor, epsilon: Tensor) -> Tensor:
    """PPO's clipped policy objective, negated: `(T, B)`. Source: Schulman et al. 2017, eq. 7."""
    return -torch.minimum(ratio * advantages, ratio.clamp(1.0 - epsilon, 1.0 + epsilon) * advantages)


def over_all(reduce: Callable[..., Tensor], *columns: Tensor) -> tuple[Tensor, ...]:
    """`reduce` of each of `columns`, `(T, B)` or `(n,)`, over all axes; together, as each would be launches of its own."""
    return reduce(torch.stack(columns).flatten(1), dim=1).unbind()


def extremes(columns: Columns) -> dict[str, Tensor]:
    """The largest and the least values of a distribution's columns, `()` by name."""
    names = (*columns.largest, *columns.least)
    if not names:
        return {}
    found = over_all(torch.amax, *columns.largest.values(), *(-x for x in columns.least.values()))
    return {name: -x if name in columns.least else x for name, x in zip(names, found, strict=True)}


def compute_ppo_loss(
    data: LossInputs,
    *,
    policy_params: PolicyParams,
    quantiles: Tensor,
    bootstrap_value: Tensor | None,
    entropy_noise: Tensor,
    distribution: Distribution,
    discounting: float,
    gae_lambda: float,
    textbook_gae: bool,
    reward_scaling: float,
    clipping_epsilon: Tensor,
    clipping_epsilon_value: float | None,
    entropy_cost: Tensor,
    vf_loss_coefficient: float,
    normalize_advantage: bool,
    use_distributional_critic: bool,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of one minibatch and its metrics (`metric_names`), all `()`.

    policy_params:    current policy, as in `LossInputs`
    quantiles:        current value network; Q = 1 unless distributional   (T, B, Q)
    bootstrap_value:  of the observation after the last step, no gradient  (B,), or None if data has advantages
    entropy_noise:    standard normal, one fresh sample per state          (T, B, entropy_noise_dim)
    clipping_epsilon, entropy_cost: tensors, so that a recorded graph sees them change   ()
    """
    values = quantiles.mean(-1)  # (T, B)
    with torch.no_grad():
        if data.advantage is None:
            vs, advantages = compute_gae(
                data.truncation,
                data.termination,
                data.reward * reward_scaling,
                values,
                bootstrap_value,
                lambda_=gae_lambda,
                discount=discounting,
                textbook=textbook_gae,
            )
            baseline = values
        else:
            vs, advantages, baseline = data.value_target, data.advantage, data.value
        # The distributional target is the unnormalized advantage, so it comes before the next lines.
        quantile_targets = advantages + baseline
        spread = torch.stack([advantages, vs, vs - values]).flatten(1)  # together, as in `over_all`
        variances, means = torch.var_mean(spread, dim=1, correction=0)
        mean, std = means[0], variances[0].sqrt()
        if normalize_advantage:
            advantages = (advantages - mean) / (std + 1e-8)

    log_ratio = distribution.log_prob(policy_params, data.raw_action) - data.log_prob
    ratio = log_ratio.exp()
    if use_distributional_critic:
        value_error = quantile_huber_loss(quantiles, quantile_targets, clipping_epsilon_value)
    else:
        value_error = squared_value_loss(values, vs, data.value, clipping_epsilon_value)
    with torch.no_grad():
        kl = distribution.kl_divergence(data.policy_params, policy_params)
        # Schulman's low-variance estimate of KL(old || new), joschu.net/blog/kl-approx.html
        approx_kl = ratio - 1.0 - log_ratio
        clipped = ((ratio - 1.0).abs() > clipping_epsilon).to(ratio.dtype)
        columns = distribution.columns(policy_params)
    policy_loss, value_loss, entropy, kl_mean, kl_estimate, clip_fraction, *of_columns = over_all(
        torch.mean,
        clipped_surrogate_loss(ratio, advantages, clipping_epsilon),
        value_error,
        distribution.entropy(policy_params, entropy_noise),
        *(kl, approx_kl, clipped, *columns.mean.values()),  # of these no gradient
    )
    v_loss = vf_loss_coefficient * value_loss
    entropy_loss = -entropy_cost * entropy
    total_loss = policy_loss + v_loss + entropy_loss

    with torch.no_grad():
        shape = dict(zip(columns.mean, of_columns, strict=True)) | extremes(columns)
        _, target_variance, error_variance = variances
        metrics = {
            "total_loss": total_loss,
            "policy_loss": policy_loss,
            "v_loss": v_loss,
            "entropy_loss": entropy_loss,
            "kl_mean": kl_mean,
            **shape,
            "entropy": entropy,
            "approx_kl": kl_estimate,
            "clip_fraction": clip_fraction,
            "explained_variance": 1.0 - error_variance / target_variance.clamp(min=1e-12),
            "advantage_mean": mean,  # before it is normalised
            "advantage_std": std,
            "value_target_std": target_variance.sqrt(),
        }
        metrics = {name: value.detach() for name, value in metrics.items()}
    return total_loss, metrics
