"""Options beside Brax's defaults: each against an oracle of its own. Run on the toy, whose physics is known by heart."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from tests.helpers.toy import ToyTask
from torch_ppo.errors import ConfigError
from torch_ppo.export import export_policy
from torch_ppo.formulas import losses, schedules
from torch_ppo.formulas.networks import Dense
from torch_ppo.learning.agent import make_agent
from torch_ppo.learning.batch import tensors_of
from torch_ppo.learning.train_step import training_step
from torch_ppo.learning.update import METRICS, per_parameter
from torch_ppo.running import accelerate
from torch_ppo.running.checkpoint import load_checkpoint, save_checkpoint
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config
from torch_ppo.settings.files import load_config, preset_names, read_config
from torch_ppo.settings.plan import summary

# Two unrolls of 5 steps per env and training step; episodes end by the task's limit or after 7 steps.
TINY = {
    "num_timesteps": 4 * 160,
    "num_envs": 16,
    "num_evals": 0,
    "episode_length": 7,
    "batch_size": 8,
    "num_minibatches": 4,
    "unroll_length": 5,
    "num_updates_per_batch": 3,
    "learning_rate": 1e-3,
    "device": "cpu",
    "compile": False,
    "policy_hidden_layer_sizes": (8,),
    "value_hidden_layer_sizes": (8,),
}
ONCE = {"gae_per": "batch"}
SINGLE = {"gae_per": "batch", "minibatch_of": "transitions", "batch_size": 40}
EVERYTHING = {
    **SINGLE,
    "gae": "textbook",
    "learning_rate_schedule": "COSINE",
    "learning_rate_warmup_timesteps": 200,
    "clipping_epsilon_final": 0.0,
    "entropy_cost_final": 0.0,
    "target_kl": 1e-3,
    "normalize_observations": True,
    "normalize_rewards": True,
    "reward_clip": 0.7,
    "bootstrap_on_truncation": True,
    "clipping_epsilon_value": 0.2,
    "layer_norm": True,
    "activation": "tanh",
    "policy_network_kernel_init_fn": "orthogonal",
}


def make_state(task=None, **settings):
    return TrainingState(Config(**{**TINY, **settings}), task or ToyTask())


def step(state):
    """One training step; its metrics by name, each `(SGD steps,)`."""
    metrics = training_step(state.collector, state.learner).clone()
    state.training_steps += 1
    return dict(zip(METRICS, metrics.unbind(1), strict=True))


def adam(learner):
    """Parameters and everything that Adam keeps."""
    return {"flat": learner.flat.detach(), **learner.optimizer.state[learner.flat]}


def cloned(tensors):
    return {name: tensor.clone() for name, tensor in tensors.items()}


# Schedules


def cosine_by_hand(k, peak, final, warmup, total):
    if k + 1 <= warmup:
        return peak * (k + 1) / warmup
    return final + (peak - final) * (1 + math.cos(math.pi * (k - warmup) / (total - warmup))) / 2


def linear_by_hand(k, peak, final, warmup, total):
    if k + 1 <= warmup:
        return peak * (k + 1) / warmup
    return peak + (final - peak) * (k - warmup) / (total - warmup)


@pytest.mark.parametrize(("shape", "by_hand"), [("COSINE", cosine_by_hand), ("LINEAR", linear_by_hand)])
@pytest.mark.parametrize("warmup", [0, 10])
def test_learning_rate_formulas(shape, by_hand, warmup):
    for k in (0, 1, 9, 10, 37, 99):
        found = schedules.learning_rate(
            torch.tensor(float(k)), peak=0.3, final=0.03, shape=shape, warmup=warmup, total=100
        )
        assert found.item() == pytest.approx(by_hand(k, 0.3, 0.03, warmup, 100), rel=1e-5)
    assert schedules.progress(torch.tensor(120.0), 0, 100).item() == 1.0


@pytest.mark.parametrize(("shape", "by_hand"), [("COSINE", cosine_by_hand), ("LINEAR", linear_by_hand)])
def test_learning_rate_follows_its_schedule(shape, by_hand):
    """By SGD step: 4 training steps of 12; the warm-up of 200 env steps is 15 of them."""
    state = make_state(
        learning_rate_schedule=shape, learning_rate_final_fraction=0.1, learning_rate_warmup_timesteps=200
    )
    assert state.config.num_sgd_steps == 48
    before = state.learner.flat.detach().clone()
    rates = torch.cat([step(state)["learning_rate"] for _ in range(4)])
    expected = [by_hand(k, 1e-3, 1e-4, 15, 48) for k in range(48)]
    np.testing.assert_allclose(rates.numpy(), expected, rtol=1e-5)
    # Adam's first step moves every parameter by the learning rate, so the sum bounds what was moved in all.
    moved = (state.learner.flat - before).abs().max().item()
    assert 1e-3 < moved < 1.5 * sum(expected)


def test_adam_takes_the_scheduled_step():
    """The first step of Adam moves each parameter by the step size; here that of a warm-up of 24 SGD steps."""
    state = make_state(learning_rate_warmup_timesteps=320)
    learner = state.learner
    state.collector()
    before = learner.flat.detach().clone()
    learner.begin_pass()
    learner.sgd_step()
    moved = (learner.flat.detach() - before).abs()
    assert moved.max().item() == pytest.approx(1e-3 / 24, rel=1e-2)


def test_clip_range_and_entropy_cost_are_annealed():
    state = make_state(clipping_epsilon=0.2, clipping_epsilon_final=0.0, entropy_cost=0.02, entropy_cost_final=0.01)
    costs, epsilons = [], []
    for _ in range(4):
        metrics = step(state)
        costs.append(-metrics["entropy_loss"] / metrics["entropy"])
        epsilons.append(state.learner.clipping_epsilon.item())
    np.testing.assert_allclose(torch.cat(costs), [0.02 - 0.01 * k / 48 for k in range(48)], rtol=1e-4)
    np.testing.assert_allclose(epsilons, [0.2 * (1 - k / 48) for k in (11, 23, 35, 47)], rtol=1e-5)


def test_the_annealed_clip_range_is_the_one_in_the_loss():
    """With a range of 0 every ratio but 1 is clipped."""
    state = make_state(clipping_epsilon=1e3, clipping_epsilon_final=0.0, learning_rate=1e-2)
    learner = state.learner
    state.collector()
    for done, fraction in ((0, 0.0), (48, 1.0)):
        learner.sgd_steps.fill_(done)
        metrics = learner.update()
        assert metrics[-1, METRICS.index("clip_fraction")].item() == fraction


# Early stop


def stopping_state(**settings):
    """Large steps, so that the KL leaves its target within a few of the 12 SGD steps."""
    return make_state(**{"learning_rate": 5e-3, "target_kl": 0.002, "normalize_observations": True, **settings})


def first_peak(kl):
    """The first SGD step from the third on whose KL is the largest so far, and that KL."""
    k = next(k for k in range(2, 11) if kl[k] > max(kl[:k]))
    return k, kl[k]


def test_target_kl_keeps_what_the_steps_before_it_made(differences):
    plain = stopping_state(target_kl=1e9)
    k, peak = first_peak(step(stopping_state(target_kl=1e9))["approx_kl"].tolist())
    assert step(stopping_state(target_kl=1.001 * peak / 1.5))["skipped_fraction"][k] == 0.0
    state = stopping_state(target_kl=0.999 * peak / 1.5)
    assert step(state)["skipped_fraction"].tolist() == [0.0] * k + [1.0] * (12 - k)
    # Another run makes the first k of these SGD steps and no more.
    plain.collector()
    for i in range(k):
        if i % 4 == 0:
            plain.learner.begin_pass()
        plain.learner.sgd_step()
    assert differences(adam(state.learner), adam(plain.learner)) == []
    assert state.learner.optimizer.state[state.learner.flat]["step"].item() == k
    # The next training step learns again.
    before = cloned(adam(state.learner))
    assert step(state)["skipped_fraction"][0] == 0.0
    assert len(differences(adam(state.learner), before)) == 4


def test_a_target_that_is_never_reached_changes_nothing(differences):
    state, plain = (stopping_state(target_kl=target, normalize_observations=False) for target in (1e9, None))
    for _ in range(2):
        assert differences(step(state), step(plain)) == []
    assert differences(adam(state.learner), adam(plain.learner)) == []


def test_adaptive_learning_rate_stays_where_the_steps_stopped():
    metrics = step(stopping_state(learning_rate_schedule="ADAPTIVE_KL", desired_kl=0.001))
    skipped, rate = metrics["skipped_fraction"].tolist(), metrics["learning_rate"].tolist()
    k = skipped.index(1.0)
    assert k < 10
    assert len(set(rate[k:])) == 1
    assert rate[k] == pytest.approx(rate[k - 1] / 1.5)  # the KL that stopped is above twice the desired one


# Rewards


def test_rewards_over_the_running_deviation_of_returns():
    """Against a loop over steps and envs: returns begin anew with each episode, and after a reset of all envs."""
    state = make_state(normalize_rewards=True, reward_clip=0.7, discounting=0.9)
    raw, done, clipped = [], [], []
    env_step = state.env.step

    def watched(action):
        env_step(action)
        raw.append(state.env.reward.clone())
        done.append(state.env.done.clone())

    state.env.step = watched
    returns, seen = np.zeros(16), []
    for training_step_index in range(3):
        if training_step_index == 2:
            state.env.reset()
            returns[:] = 0.0
        raw.clear(), done.clear()
        step(state)
        for reward, end in zip(raw, done, strict=True):
            returns = 0.9 * returns + reward.numpy()
            seen.append(returns.copy())
            returns = np.where(end.numpy() > 0, 0.0, returns)
        std = np.sqrt(np.var(seen) + 1e-8)
        statistics = state.learner.prepare_batch.return_statistics
        assert statistics.std.item() == pytest.approx(std, rel=1e-4)
        assert statistics.count.item() == len(seen) * 16
        # Of the batch, sequence unroll * 16 + env.
        expected = np.concatenate([np.stack([r.numpy() for r in raw[u : u + 5]]) for u in (0, 5)], axis=1) / std
        clipped.append(expected > 0.7)
        np.testing.assert_allclose(state.batch.reward, np.minimum(expected, 0.7), rtol=1e-4)
    assert 0 < np.mean(clipped) < 1 and any(end.any() for end in done)


def test_rewards_are_clipped_alone_too():
    state = make_state(reward_clip=0.95)
    state.collector()
    raw = state.batch.reward.clone()
    state.learner.prepare_batch()
    assert (raw > 0.95).any() and (raw < 0.95).any()
    assert torch.equal(state.batch.reward, torch.where(raw > 0.95, torch.tensor(0.95), raw))


def test_zero_rewards_stay_zero():
    class Nothing(ToyTask):
        def reward(self, physics, memory, action):
            reward, metrics = super().reward(physics, memory, action)
            return 0.0 * reward, metrics

    state = make_state(Nothing(), normalize_rewards=True)
    assert step(state)["total_loss"].isfinite().all()
    assert not state.batch.reward.any()


# Advantages


def gae_by_loop(rewards, values, next_values, terminations, truncations, discount, lambda_):
    """Schulman et al. 2016, eq. 16, step by step and backwards; a truncated step is left out, as in Brax."""
    advantages, following = np.zeros_like(rewards), np.zeros_like(rewards[0])
    for t in reversed(range(len(rewards))):
        delta = rewards[t] + discount * (1 - terminations[t]) * next_values[t] - values[t]
        following = delta + discount * lambda_ * (1 - terminations[t]) * following
        following = np.where(truncations[t] > 0, 0.0, following)
        advantages[t] = following
    return advantages


@pytest.mark.parametrize("length", [1, 2, 7, 24])
def test_textbook_gae(length):
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(2, length, 50))
    ends = rng.choice(3, size=(length, 50), p=[0.8, 0.1, 0.1])
    terminations, truncations = (ends == 1).astype(float), (ends == 2).astype(float)
    bootstrap = rng.normal(size=50)
    next_values = np.concatenate([values[1:], bootstrap[None]])
    expected = gae_by_loop(rewards, values, next_values, terminations, truncations, 0.9, 0.7)
    arguments = [torch.from_numpy(x) for x in (truncations, terminations, rewards, values, bootstrap)]
    targets, found = losses.compute_gae(*arguments, lambda_=0.7, discount=0.9, textbook=True)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_allclose(targets, values + expected, atol=1e-12)
    # Brax's has the same targets and, but for a lambda of 1 or a single step, other advantages.
    brax_targets, brax = losses.compute_gae(*arguments, lambda_=0.7, discount=0.9)
    assert torch.equal(brax_targets, targets)
    assert torch.allclose(brax, found) == (length == 1)


@pytest.mark.parametrize("gae", ["brax", "textbook"])
def test_advantages_once_per_batch(gae):
    """From the values of the network that acted, whatever becomes of it."""
    state = make_state(gae=gae, **ONCE, discounting=0.9, gae_lambda=0.7, reward_scaling=0.5)
    learner, batch = state.learner, state.batch
    state.collector()
    with torch.no_grad():
        values = state.agent.values(batch.observation)
        bootstrap = state.agent.values(batch.bootstrap_observation)
    learner.prepare_batch()
    if gae == "textbook":
        next_values = torch.cat([values[1:], bootstrap[None]])
        arrays = (0.5 * batch.reward, values, next_values, batch.termination, batch.truncation)
        expected = gae_by_loop(*(x.numpy() for x in arrays), 0.9, 0.7)
        np.testing.assert_allclose(batch.advantage, expected, atol=1e-5)
        np.testing.assert_allclose(batch.value_target, values.numpy() + expected, atol=1e-5)

    def policy_gradient():
        noise = torch.zeros(*state.config.minibatch_shape, 2)
        gradient, _ = learner.gradients(*learner.minibatch(torch.arange(8)), noise)
        return torch.cat([x.flatten() for x in per_parameter(gradient, learner.parameters)[:4]])

    before = policy_gradient()
    with torch.no_grad():
        for parameter in state.agent.value.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(policy_gradient(), before, rtol=0, atol=0)


@pytest.mark.parametrize("critic", [{}, {"use_distributional_critic": True, "clipping_epsilon_value": 1.0}])
def test_once_per_batch_is_the_same_until_the_first_update(critic):
    """And other than per minibatch from then on."""
    each, once = (step(make_state(**settings, **critic)) for settings in ({}, ONCE))
    for name in ("policy_loss", "v_loss", "grad_norm", "explained_variance"):
        torch.testing.assert_close(once[name][0], each[name][0], rtol=1e-4, atol=1e-6)
    assert not torch.allclose(once["v_loss"][-1], each["v_loss"][-1], rtol=1e-4)


def test_distributional_target_once_per_batch():
    """Advantage plus value, both of the network that acted, for a value network that has changed since."""
    state = make_state(**ONCE, use_distributional_critic=True, clipping_epsilon_value=0.3, num_quantiles=4)
    state.collector()
    state.learner.prepare_batch()
    with torch.no_grad():
        for parameter in state.agent.value.parameters():
            parameter.add_(0.3)
        members = torch.arange(8)
        observation, bootstrap, data = state.learner.minibatch(members)
        _, metrics = state.learner.minibatch_loss(observation, bootstrap, data, torch.zeros(5, 8, 2))
        quantiles = state.agent.quantiles(observation).numpy()
    target = (data.advantage + data.value).numpy()
    terms = []
    for j in range(4):
        error = target - quantiles[..., j]
        huber = np.where(np.abs(error) <= 0.3, error**2 / 2, 0.3 * (np.abs(error) - 0.15))
        terms.append(np.abs((j + 0.5) / 4 - (error < 0)) * huber)
    assert metrics[METRICS.index("v_loss")].item() == pytest.approx(0.5 * np.mean(terms), rel=1e-4)


# Truncations


def still_state(**settings):
    """Two-step episodes of the toy at (0.5, 0, 0) with action 0 and no drift, where the value is x0: 0.5, 0.45, 0.405."""
    task = ToyTask(limit=None, x0=torch.tensor([[0.5, 0.0, 0.0]]).repeat(4, 1), vector=torch.zeros(3))
    sizes = {"num_envs": 4, "batch_size": 2, "num_minibatches": 2, "unroll_length": 2, "episode_length": 2}
    numbers = {"discounting": 0.9, "gae_lambda": 0.5, "reward_scaling": 2.0}
    state = make_state(task, **{**sizes, **numbers, **ONCE, "gae": "textbook", **settings})
    for parameter in state.agent.policy.parameters():
        parameter.data.zero_()
    state.collector.noise = type("Still", (), {"normal": lambda self, *shape: torch.zeros(shape)})()
    state.agent.values = lambda observation: next(iter(observation.values()))[..., 0]
    return state


def test_truncation_bootstraps_from_the_state_that_was_reached():
    """
    rewards           1 - 0.1 * 0.45^2 = 0.97975           1 - 0.1 * 0.405^2 = 0.9835975
    the last step     2 * 0.9835975 + 0.9 * 0.405 - 0.45 = 1.881695
    the first         2 * 0.97975 + 0.9 * 0.45 - 0.5 = 1.8645, + 0.9 * 0.5 * 1.881695 = 2.71126275
    """
    state = still_state(bootstrap_on_truncation=True)
    state.collector()
    batch = state.batch
    assert batch.truncation.tolist() == [[0.0] * 4, [1.0] * 4]
    np.testing.assert_allclose(batch.reward[:, 0], [0.97975, 0.9835975], rtol=1e-6)
    # The env goes on from its start; what the next sequence begins with is not what this one ended with.
    assert (batch.bootstrap_observation["state"][:, 0] == 0.5).all()
    state.learner.prepare_batch()
    np.testing.assert_allclose(batch.advantage, np.tile([[2.71126275], [1.881695]], 4), rtol=1e-5)
    np.testing.assert_allclose(batch.value_target, np.tile([[3.21126275], [2.331695]], 4), rtol=1e-5)


def test_truncation_is_masked_without():
    """As in Brax: the last step counts nothing; the first one has its own reward and the value after it, 1.8645."""
    state = still_state()
    state.collector()
    state.learner.prepare_batch()
    np.testing.assert_allclose(state.batch.advantage, np.tile([[1.8645], [0.0]], 4), rtol=1e-5)


def test_truncations_bootstrap_after_normalisation_and_only_there():
    state = make_state(bootstrap_on_truncation=True, normalize_rewards=True, reward_clip=0.5, reward_scaling=4.0)
    batch = state.batch
    state.collector()
    truncated = batch.truncation.bool().clone()
    ended = (batch.truncation + batch.termination).clone()
    assert 0 < truncated.sum() < ended.sum()
    batch.final_value.copy_(torch.where(truncated, 10.0, math.nan))  # as where a simulation broke
    state.learner.prepare_batch()
    within = batch.reward.abs() <= 0.5
    assert within[~truncated].all()
    rewards = batch.reward - 0.9 * 10.0 / 4.0 * truncated
    assert (rewards.abs() <= 0.5 + 1e-6).all()
    assert torch.equal(batch.termination, ended) and not batch.truncation.any()


# Minibatches of transitions


def test_every_transition_once_per_pass():
    state = make_state(**SINGLE)
    learner, batch = state.learner, state.batch
    assert state.config.num_unrolls == 32 and state.config.env_step_per_training_step == 160
    step(state)
    assert learner.order.shape == (4, 40)
    assert learner.order.flatten().sort().values.tolist() == list(range(160))
    assert learner.order[0].tolist() != sorted(learner.order[0].tolist())
    observation, _, data = learner.minibatch(learner.order[1])
    for i, member in enumerate(learner.order[1].tolist()):
        t, sequence = divmod(member, 32)
        assert torch.equal(observation["state"][i], batch.observation["state"][t, sequence])
        assert data.reward[i] == batch.reward[t, sequence] and data.advantage[i] == batch.advantage[t, sequence]


def test_one_minibatch_of_all_is_the_same_either_way():
    """Every mean of the loss is over the same transitions, so only their order differs."""
    common = {"gae_per": "batch", "num_minibatches": 1, "distribution_type": "normal", "normalize_observations": True}
    sequences = step(make_state(batch_size=32, **common))
    transitions = step(make_state(batch_size=160, minibatch_of="transitions", **common))
    for name in METRICS:
        torch.testing.assert_close(transitions[name], sequences[name], rtol=1e-3, atol=1e-5)


def test_summary_of_transitions():
    text = summary(Config(**{**TINY, **SINGLE}))
    assert "40 transitions, drawn one by one" in text and "2 unrolls of 5 in each of 16 envs" in text


# Networks and value loss

ACTIVATIONS = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0.0),
    "elu": lambda x: np.where(x > 0, x, np.exp(np.minimum(x, 0.0)) - 1.0),
    "swish": lambda x: x / (1.0 + np.exp(-x)),
}


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_networks_by_numpy(activation, layer_norm, tmp_path):
    config = Config(**{**TINY, "value_hidden_layer_sizes": (8, 6)}, activation=activation, layer_norm=layer_norm)
    agent = make_agent(config, {"state": 5}, 2, generator=torch.Generator().manual_seed(0))
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
    layers = [layer for layer in agent.value.modules() if isinstance(layer, Dense)]
    expected = x.numpy()
    for i, layer in enumerate(layers):
        expected = expected @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        if i < 2:
            expected = ACTIVATIONS[activation](expected)
            if layer_norm:
                centred = expected - expected.mean(1, keepdims=True)
                expected = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(agent.values({"state": x}).detach(), expected[:, 0], rtol=1e-4, atol=1e-5)
    if activation == "elu":
        export_policy(agent.eval(), tmp_path / "policy.pt")  # compares with the live policy


def test_orthogonal_weights():
    config = Config(**TINY, policy_network_kernel_init_fn="orthogonal", value_network_kernel_init_fn="orthogonal")
    agent = make_agent(config, {"state": 5}, 2, generator=torch.Generator().manual_seed(0))
    for layer in (layer for layer in agent.modules() if isinstance(layer, Dense)):
        weight = layer.weight.detach()
        gram = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
        torch.testing.assert_close(gram, torch.eye(len(gram)), rtol=1e-5, atol=1e-5)


def test_value_clipping_by_hand():
    """Old values 0 and clip range 0.2: 1 counts as 0.2 where that is further from its target."""
    values, targets, old = torch.tensor([[1.0, 1.0]]), torch.tensor([[2.0, 0.5]]), torch.zeros(1, 2)
    free, clipped = (losses.squared_value_loss(values, targets, old, clip).mean().item() for clip in (None, 0.2))
    assert free == pytest.approx(0.5 * (1.0**2 + 0.5**2) / 2)
    assert clipped == pytest.approx(0.5 * (1.8**2 + 0.5**2) / 2)


# All of it: resuming, compiling, nothing stale


def checkpoint(state):
    saved = state.checkpoint()
    for name in ("walltime", "eval_walltime", "interval"):
        del saved[name]
    return saved


def test_resumed_equals_uninterrupted(tmp_path, differences):
    """Schedules, statistics of returns and returns under way go on where they were, bit for bit."""
    whole, first = make_state(**EVERYTHING), make_state(**EVERYTHING)
    expected = [step(whole) for _ in range(4)]
    assert 0 < sum(metrics["skipped_fraction"].sum().item() for metrics in expected) < 48
    found = [step(first) for _ in range(2)]
    save_checkpoint(first.checkpoint(), tmp_path / "last.pt")
    second = make_state(**EVERYTHING)
    step(second)
    second.load_checkpoint(load_checkpoint(tmp_path / "last.pt"))
    found += [step(second) for _ in range(2)]
    assert differences(found, expected) == []
    assert differences(checkpoint(second), checkpoint(whole)) == []
    returns = second.learner.prepare_batch.return_statistics
    assert returns.count == 4 * 160 and second.collector.discounted_return.any()
    assert 0.0 < (second.batch.reward == 0.7).float().mean() < 1.0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own, while it compiles
def test_options_compile_whole(monkeypatch):
    """Traced without a graph break and run as traced, without a compiler: the same numbers but for rounding."""
    torch._dynamo.reset()

    def traced(function, **options):
        return torch.compile(function, fullgraph=True, dynamic=False, backend="eager")

    monkeypatch.setattr(accelerate, "compiled", traced)
    for options in (EVERYTHING, {"learning_rate_schedule": "ADAPTIVE_KL", "target_kl": 1e-3}):
        plain, compiled = make_state(**options), make_state(**options)
        accelerate.compile_parts(compiled.collector, compiled.learner, few_launches=True)
        for _ in range(2):
            torch.testing.assert_close(step(compiled), step(plain), rtol=1e-5, atol=1e-6)
    torch._dynamo.reset()


def test_nothing_stale_is_read(differences):
    state, plain = make_state(**EVERYTHING), make_state(**EVERYTHING)
    for _ in range(2):
        written = [state.env.final_state, *state.env.final_observation.values(), state.learner.metrics]
        for batch in (state.batch, state.collector.record):
            for field in dataclasses.fields(batch):
                written += tensors_of(getattr(batch, field.name))
        for tensor in written:
            tensor.fill_(math.nan if tensor.is_floating_point() else 1)
        assert differences(step(state), step(plain)) == []


def test_more_passes_and_unrolls_than_a_training_step_has(differences):
    """As recording a graph does, to warm up; the training step after it is the same."""
    state, plain = make_state(), make_state()
    before = state.checkpoint()
    for _ in range(5):
        state.collector.unroll()
        state.learner.sgd_pass()
    state.load_checkpoint(before)
    assert differences(step(state), step(plain)) == []


# Configuration


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"minibatch_of": "transitions", "batch_size": 40}, ["minibatch_of", "transitions", 'gae_per = "batch"']),
        ({**SINGLE, "batch_size": 41}, ["164 transitions", "80", "batch_size 40 or 60", "would work"]),
        ({"learning_rate_final_fraction": 0.1}, ["learning_rate_final_fraction", "0.1", "LINEAR"]),
        ({"learning_rate_final_fraction": 1.1, "learning_rate_schedule": "LINEAR"}, ["between 0 and 1"]),
        ({"learning_rate_warmup_timesteps": 640}, ["learning_rate_warmup_timesteps", "640", "32 would work"]),
        (
            {"learning_rate_warmup_timesteps": 9, "learning_rate_schedule": "ADAPTIVE_KL"},
            ["learning_rate_warmup_timesteps", "ADAPTIVE_KL", "COSINE"],
        ),
        ({"learning_rate_schedule": "cosine"}, ["cosine", "COSINE"]),
        ({"clipping_epsilon_final": -0.1}, ["clipping_epsilon_final", "-0.1", "0 or greater"]),
        ({"entropy_cost_final": -0.1}, ["entropy_cost_final", "0 or greater"]),
        ({"target_kl": 0.0}, ["target_kl", "greater than 0"]),
        ({"reward_clip": -1.0}, ["reward_clip", "greater than 0"]),
        ({"gae": "Textbook"}, ["gae", "textbook"]),
    ],
)
def test_bad_values_name_the_value_and_the_rule(settings, words):
    with pytest.raises(ConfigError) as error:
        Config(**{**TINY, **settings})
    for word in words:
        assert word in str(error.value)


def test_proposed_sizes_work():
    for batch_size in (40, 60):
        assert Config(**{**TINY, **SINGLE, "batch_size": batch_size}).num_unrolls_per_env == batch_size // 20


# Presets


def test_quadruped_guide_is_verbatim():
    """The practice guide's numbers, in our units: see the comments of the file."""
    values = read_config("presets/quadruped_guide")
    expected = {
        "learning_rate": 3e-4,
        "num_envs": 4096,
        "unroll_length": 24,
        "num_updates_per_batch": 5,
        "batch_size": 16384,
        "clipping_epsilon": 0.2,
        "gae_lambda": 0.95,
        "discounting": 0.99,
        "entropy_cost": 0.005,
        "max_grad_norm": 1.0,
        "policy_hidden_layer_sizes": (256, 256, 128),
        "value_hidden_layer_sizes": (256, 256, 128),
        "num_timesteps": 100_000_000,
    }
    assert expected.items() <= values.items()
    # 1.0 * mean squared error there; 0.5 * vf_loss_coefficient * mean squared error here.
    assert 0.5 * values["vf_loss_coefficient"] == 1.0
    config = load_config("presets/quadruped_guide")
    assert config.env_step_per_training_step == 4096 * 24 == 98_304
    assert config.num_unrolls_per_env == 1
    assert config.sgd_steps_per_training_step == 5 * 98_304 // 16_384 == 30


@pytest.mark.parametrize("name", preset_names())
def test_presets_run(name):
    """On the toy, with fewer envs and so smaller minibatches."""
    given = read_config(name)
    small = {"num_envs": 8, "batch_size": given["batch_size"] // (given["num_envs"] // 8), "num_evals": 0}
    config = load_config(name, **small, device="cpu", episode_length=7, compile=False)
    state = TrainingState(config, ToyTask())
    before = state.learner.flat.detach().clone()
    assert all(metric.isfinite().all() for metric in step(state).values())
    assert not torch.equal(state.learner.flat, before)


@pytest.mark.parametrize("settings", [{}, {"normalize_observations": True, "value_obs_key": "privileged_state"}])
def test_the_bootstrap_value_in_the_same_pass_is_the_same(settings):
    """As CUDA has it, for fewer launches: one row more for the value network."""
    gradients = []
    for one_pass in (False, True):
        state = TrainingState(Config(**{**TINY, **settings}), ToyTask(asymmetric="value_obs_key" in settings))
        state.collector()
        state.learner.one_value_pass = one_pass
        state.learner.begin_pass()
        gradients.append(state.learner.minibatch_gradient().detach())
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)
