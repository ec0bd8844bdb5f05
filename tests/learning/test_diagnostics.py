"""Diagnostics against slow loops over everything that was recorded."""

import math

import numpy as np
import pytest
import torch

from tests.helpers.toy import ToyTask
from torch_ppo.envs.cartpole import Cartpole
from torch_ppo.learning.diagnostics import NUM_BINS, PEAKS, bin_edges
from torch_ppo.learning.train_step import training_step
from torch_ppo.learning.update import METRICS
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config
from torch_ppo.simulation.host import as_on_cuda

SETTINGS = {
    "num_timesteps": 10**6,
    "num_envs": 8,
    "episode_length": 7,
    "batch_size": 8,
    "num_minibatches": 2,
    "unroll_length": 5,
    "learning_rate": 1e-2,
    "normalize_observations": True,
    "run_evals": False,
    "policy_hidden_layer_sizes": (8,),
    "value_hidden_layer_sizes": (8,),
    "device": "cpu",
}


class Recorded:
    """What `steps` training steps record, as numpy; whole episodes as rows of totals."""

    def __init__(self, state, steps):
        self.raw, self.observations, self.states, self.metrics = [], [], [], []
        self.ended, self.terminated, self.truncated = [], 0, 0
        record, look = state.collector.record, state.collector.diagnostics.look

        def look_and_keep():
            look()
            self.raw.append(record.raw_action.numpy().copy())
            self.observations.append(record.observation["state"].numpy().copy())
            self.states.append(record.final_state.numpy().copy())

        state.collector.diagnostics.look = look_and_keep
        step = state.env.step

        def step_and_keep(action):
            found = step(action)
            env = state.env
            for i in range(env.num_envs):
                if env.done[i]:
                    self.terminated += bool(env.termination[i])
                    self.truncated += bool(env.truncation[i])
                    if env.steps[i] == env.episode_metrics["length"][i]:
                        self.ended.append({name: x[i].item() for name, x in env.episode_metrics.items()})
            return found

        state.env.step = step_and_keep
        for _ in range(steps):
            metrics = training_step(state.collector, state.learner)
            state.collector.diagnostics.look_at_updates(metrics)
            self.metrics.append(metrics.numpy().copy())


def make_state(task=None, **settings):
    return TrainingState(Config(**{**SETTINGS, **settings}), task or ToyTask(limit=0.45))


@pytest.mark.parametrize("phase", [False, True])
@pytest.mark.parametrize("device_like", [False, True], ids=["as on the CPU", "as on CUDA"])
def test_numbers_are_those_of_a_slow_loop(phase, device_like):
    state = make_state(random_episode_phase=phase)
    before = state.agent.normalizer["state"]
    mean_was, std_was = before.mean.numpy().copy(), before.std.numpy().copy()
    if device_like:
        with as_on_cuda():
            seen = Recorded(state, 3)
    else:
        seen = Recorded(state, 3)
    found, histograms = state.collector.diagnostics.read()

    lengths = [e["length"] for e in seen.ended]
    returns = [e["sum_reward"] for e in seen.ended]
    assert found["whole_episodes"] == len(seen.ended) > 10
    assert (found["terminations"], found["truncations"]) == (seen.terminated, seen.truncated)
    assert seen.terminated and seen.truncated
    expected = {
        "episode_length": np.mean(lengths),
        "episode_reward": np.mean(returns),
        "episode_cost": np.mean([e["cost"] for e in seen.ended]),
        "episode_effort_per_step": np.mean([e["effort_per_step"] / e["length"] for e in seen.ended]),
        "episode_length_min": min(lengths),
        "episode_length_max": max(lengths),
        "episode_reward_min": min(returns),
        "episode_reward_max": max(returns),
        "saturated_actions": np.mean(np.abs(np.tanh(np.concatenate(seen.raw))) > 0.99),
        **{f"{name}_max": np.concatenate(seen.metrics)[:, METRICS.index(name)].max() for name in PEAKS},
    }
    statistics = state.agent.normalizer["state"]
    mean, std = statistics.mean.numpy(), statistics.std.numpy()
    expected["observation_max"] = np.abs((np.concatenate(seen.observations) - mean) / std).max()
    shift, stretch = np.abs((mean - mean_was) / std_was).max(), np.abs(np.log(std / std_was)).max()
    expected["normalizer_drift"] = max(shift, stretch)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-5), name
    assert found["constant_observations"] == 0

    for name, values in (("episode_length", lengths), ("episode_reward", returns)):
        edges, counts = histograms[name]
        by_hand = [0] * NUM_BINS
        for value in values:
            by_hand[sum(np.float32(edge) < np.float32(value) for edge in edges)] += 1
        assert counts == by_hand


def test_an_interval_begins_anew():
    state = make_state()
    Recorded(state, 1)
    state.collector.diagnostics.clear()
    found, histograms = state.collector.diagnostics.read()
    assert found["whole_episodes"] == found["terminations"] == found["saturated_actions"] == 0
    assert histograms == {} and "episode_reward" not in found


def test_one_env_is_counted_without_a_warning():
    """Its columns are not contiguous, of which torch warns (once per program)."""
    state = make_state(num_envs=1)
    Recorded(state, 2)
    found, histograms = state.collector.diagnostics.read()
    assert found["whole_episodes"] > 0
    assert sum(histograms["episode_reward"][1]) == found["whole_episodes"]


def test_actions_of_a_normal_distribution_saturate_at_the_controls_range():
    """Cart-pole's control is within ±1, and a standard deviation of 1 leaves it in a third of all steps."""
    state = make_state(Cartpole(), distribution_type="normal", init_noise_std=1.0, mean_kernel_init_fn="zeros")
    seen = Recorded(state, 1)
    found, _ = state.collector.diagnostics.read()
    controls = np.concatenate(seen.states)[..., -1]
    assert found["saturated_actions"] == pytest.approx(np.mean(np.abs(controls) >= 1.0))
    assert 0.2 < found["saturated_actions"] < 0.45


class Unchanging(ToyTask):
    """One of what it observes is always 3."""

    def observe(self, physics, memory):
        observed = super().observe(physics, memory)
        observed[:, 1] = 3.0
        return observed


def test_constant_observations_are_counted():
    state = make_state(Unchanging())
    Recorded(state, 2)
    assert state.collector.diagnostics.read()[0]["constant_observations"] == pytest.approx(0.2)


def test_a_checkpoint_goes_on_in_the_interval(differences):
    """Also in one that was made before there were diagnostics: then they begin anew."""
    first, second, third = make_state(), make_state(), make_state()
    Recorded(first, 1)
    saved = first.checkpoint()
    second.load_checkpoint(saved)
    Recorded(first, 1)
    Recorded(second, 1)
    assert differences(first.collector.diagnostics.read(), second.collector.diagnostics.read()) == []
    del saved["diagnostics"]
    third.load_checkpoint(saved)
    assert third.collector.diagnostics.read()[0]["whole_episodes"] == 0


@pytest.mark.parametrize(("low", "high"), [(0.0, 1000.0), (-math.inf, math.inf), (0.0, math.inf)])
def test_bins(low, high):
    edges = bin_edges(low, high)
    assert len(edges) == NUM_BINS - 1 and edges == sorted(set(edges)) and all(map(math.isfinite, edges))


def test_advantages_and_targets_are_told():
    """Before advantages are normalised; against the loss's own GAE by hand in numpy is tests/test_brax_parity."""
    state = make_state(normalize_advantage=False, gae_per="batch")
    Recorded(state, 1)
    state.collector.diagnostics.clear()
    training_step(state.collector, state.learner)
    batch, metrics = state.batch, state.learner.metrics[: state.config.num_minibatches]
    mean = metrics[:, METRICS.index("advantage_mean")].mean()
    torch.testing.assert_close(mean, batch.advantage.mean(), rtol=1e-4, atol=1e-6)
    second = metrics[:, METRICS.index("advantage_std")].square() + metrics[:, METRICS.index("advantage_mean")].square()
    torch.testing.assert_close(second.mean(), batch.advantage.square().mean(), rtol=1e-4, atol=1e-6)
    assert (metrics[:, METRICS.index("value_target_std")] > 0).all()
