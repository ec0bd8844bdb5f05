"""Discrete actions: against torch.distributions, a slow loop of NumPy, and what is known of extremes."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import distributions

from torch_ppo.formulas import categorical, losses
from torch_ppo.formulas.categorical import Categorical
from torch_ppo.formulas.losses import LossInputs, compute_ppo_loss

CHOICES = [(2,), (1,), (7,), (3, 3), (3, 2, 5), (1, 4, 1)]


def random_logits(choices, *leading, seed=0, size=2.0):
    generator = torch.Generator().manual_seed(seed)
    return size * torch.randn(*leading, sum(choices), generator=generator, dtype=torch.float64)


def oracles(logits, choices):
    return [distributions.Categorical(logits=part) for part in logits.split(choices, -1)]


@pytest.mark.parametrize("choices", CHOICES)
def test_as_torch_distributions(choices):
    """Log-probability, entropy, KL, mode, and their gradients."""
    logits, old = (random_logits(choices, 4, 6, seed=seed).requires_grad_() for seed in (0, 1))
    parts, old_parts = oracles(logits, choices), oracles(old, choices)
    generator = torch.Generator().manual_seed(2)
    action = torch.stack([torch.randint(n, (4, 6), generator=generator) for n in choices], -1)
    found = {
        "log_prob": categorical.log_prob(logits, action, choices),
        "entropy": categorical.entropy(logits, choices),
        "kl": categorical.kl_divergence(old, logits, choices),
    }
    expected = {
        "log_prob": sum(part.log_prob(a) for part, a in zip(parts, action.unbind(-1), strict=True)),
        "entropy": sum(part.entropy() for part in parts),
        "kl": sum(distributions.kl_divergence(a, b) for a, b in zip(old_parts, parts, strict=True)),
    }
    for name, x in found.items():
        assert x.shape == (4, 6), name
        torch.testing.assert_close(x, expected[name], rtol=1e-12, atol=1e-12, msg=name)
        ours, theirs = (torch.autograd.grad(y.sum(), logits, retain_graph=True)[0] for y in (x, expected[name]))
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12, msg=name)
    mode = Categorical(choices).mode_raw((logits,))
    assert mode.dtype == torch.int64
    assert torch.equal(mode, torch.stack([part.probs.argmax(-1) for part in parts], -1))


def slow_sample(logits, noise, choices):
    """One state: the largest of logit - log(-log(u)), one choice after the other."""
    action, at = [], 0
    for n in choices:
        best, chosen = -math.inf, None
        for i in range(n):
            score = logits[at + i] - math.log(-math.log(noise[at + i]))
            if score > best:
                best, chosen = score, i
        action.append(chosen)
        at += n
    return action


@pytest.mark.parametrize("choices", CHOICES)
def test_samples_as_a_slow_loop(choices):
    logits = random_logits(choices, 50)
    noise = torch.rand(50, sum(choices), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = Categorical(choices).sample_raw((logits,), noise)
    expected = [slow_sample(x, u, choices) for x, u in zip(logits.tolist(), noise.tolist(), strict=True)]
    assert found.tolist() == expected


@pytest.mark.parametrize("choices", [(5,), (3, 2, 4)])
def test_samples_are_as_frequent_as_they_are_likely(choices):
    """All combinations, by a chi-square statistic of 4e5 samples in float32."""
    number = 400_000
    logits = random_logits(choices, 1).float().expand(number, -1)
    noise = torch.rand(number, sum(choices), generator=torch.Generator().manual_seed(4))
    action = Categorical(choices).sample_raw((logits,), noise).numpy()
    parts = [part.probs[0].numpy() for part in oracles(logits[:1], choices)]
    statistic, cells = 0.0, 0
    for combination in itertools.product(*map(range, choices)):
        expected = number * np.prod([p[i] for p, i in zip(parts, combination, strict=True)])
        statistic += ((action == combination).all(1).sum() - expected) ** 2 / expected
        cells += 1
    freedom = cells - 1
    assert statistic < freedom + 4 * math.sqrt(2 * freedom)  # four standard deviations


def test_extremes():
    """Logits of 1e4 apart: sure, never another choice, and every number finite; so too with noise at its ends."""
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, -1e4, 1e4], [1e4, 1e4, -1e4]]).requires_grad_()
    kind = Categorical((3,))
    entropy = kind.entropy((logits,), torch.zeros(3, 0))
    torch.testing.assert_close(entropy, torch.tensor([0.0, 0.0, math.log(2)]))
    log_prob = kind.log_prob((logits,), torch.tensor([[0], [0], [1]]))
    torch.testing.assert_close(log_prob, torch.tensor([0.0, -2e4, -math.log(2)]))
    kl = kind.kl_divergence((logits[:1].detach(),), (logits[1:2],))
    torch.testing.assert_close(kl, torch.tensor([2e4]))
    for x in (entropy.sum(), log_prob.sum(), kl.sum()):
        assert torch.autograd.grad(x, logits, retain_graph=True)[0].isfinite().all()
    for u in (torch.zeros(3, 3), torch.full((3, 3), 1 - 2**-24), torch.rand(3, 3)):
        assert kind.sample_raw((logits.detach(),), u)[:2].tolist() == [[0], [2]]


def test_one_choice_is_no_choice():
    kind, logits = Categorical((1,)), torch.randn(8, 1, requires_grad=True)
    action = kind.sample_raw((logits,), torch.zeros(8, 1))
    assert action.eq(0).all() and kind.mode_raw((logits,)).eq(0).all()
    for x in (
        kind.log_prob((logits,), action),
        kind.entropy((logits,), None),
        kind.kl_divergence((logits,), (logits,)),
    ):
        assert x.eq(0).all() and torch.autograd.grad(x.sum(), logits)[0].eq(0).all()


def test_what_an_action_has_not_is_never_chosen():
    """Beside an action of five choices one of a single one, whose number of the noise says that it shall not be."""
    kind = Categorical((1, 5))
    logits = torch.tensor([[-1e6, 0.0, 0.0, 0.0, 0.0, 0.0]]).expand(1000, -1)
    noise = torch.rand(1000, 6, generator=torch.Generator().manual_seed(5))
    noise[:, 0] = 0.0
    action = kind.sample_raw((logits,), noise)
    assert action[:, 0].eq(0).all() and action[:, 1].unique().tolist() == [0, 1, 2, 3, 4]
    torch.testing.assert_close(kind.entropy((logits,), None), torch.full((1000,), math.log(5)))


@pytest.mark.parametrize("choices", [(3,), (3, 2, 5)])
def test_the_gradient_of_the_loss(choices):
    """Against a loss of torch.distributions and loops, all in float64; with respect to logits and values."""
    steps, sequences = 5, 4
    generator = torch.Generator().manual_seed(6)

    def normal(*trailing):
        return torch.randn(steps, sequences, *trailing, generator=generator, dtype=torch.float64)

    kind, logits = Categorical(choices), random_logits(choices, steps, sequences).requires_grad_()
    old_logits = logits.detach() + 0.3 * normal(sum(choices))
    uniform = torch.rand(steps, sequences, sum(choices), generator=generator, dtype=torch.float64)
    action = kind.sample_raw((old_logits,), uniform)
    values, rewards, bootstrap = normal(1).requires_grad_(), normal(), normal()[0]
    truncation, termination = (
        torch.rand(steps, sequences, generator=generator).double().lt(0.15).double() for _ in "ab"
    )
    truncation *= 1 - termination
    old_log_prob = kind.log_prob((old_logits,), action)
    data = LossInputs(action, (old_logits,), old_log_prob, rewards, truncation, termination, None)
    total, metrics = compute_ppo_loss(
        data, policy_params=(logits,), quantiles=values, bootstrap_value=bootstrap,
        entropy_noise=torch.zeros(steps, sequences, 0), distribution=kind, discounting=0.9, gae_lambda=0.8,
        textbook_gae=True, reward_scaling=0.7, clipping_epsilon=torch.tensor(0.2), clipping_epsilon_value=None,
        entropy_cost=torch.tensor(0.03), vf_loss_coefficient=0.5, normalize_advantage=True,
        use_distributional_critic=False,
    )  # fmt: skip
    assert tuple(metrics) == losses.metric_names(kind) and "policy_dist_mean_std" not in metrics

    plain = values.detach()[..., 0]
    following = torch.cat([plain[1:], bootstrap[None]])
    advantages = torch.zeros(steps, sequences, dtype=torch.float64)
    for b in range(sequences):
        later = 0.0
        for t in reversed(range(steps)):
            keep, goes_on = 1 - truncation[t, b], 1 - termination[t, b]
            delta = keep * (0.7 * rewards[t, b] + 0.9 * goes_on * following[t, b] - plain[t, b])
            later = delta + 0.9 * 0.8 * keep * goes_on * later
            advantages[t, b] = later
    targets = plain + advantages
    advantages = (advantages - advantages.mean()) / (advantages.std(correction=0) + 1e-8)
    parts = oracles(logits, choices)
    log_probs = sum(part.log_prob(a) for part, a in zip(parts, action.unbind(-1), strict=True))
    entropies = sum(part.entropy() for part in parts)
    expected = 0.0
    for t, b in itertools.product(range(steps), range(sequences)):
        ratio = (log_probs[t, b] - old_log_prob[t, b]).exp()
        surrogate = torch.minimum(ratio * advantages[t, b], ratio.clamp(0.8, 1.2) * advantages[t, b])
        value_loss = 0.5 * 0.5 * (values[t, b, 0] - targets[t, b]) ** 2
        expected = expected + (-surrogate + value_loss - 0.03 * entropies[t, b]) / (steps * sequences)
    torch.testing.assert_close(total, expected, rtol=1e-6, atol=1e-9)
    for ours, theirs in zip(*(torch.autograd.grad(x, (logits, values)) for x in (total, expected)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)
