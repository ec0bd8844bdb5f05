"""Statistics that come along into a run of the other mode mean there what they meant before."""

import pytest
import torch

from tests.helpers.agents import AGENTS
from torch_ppo.formulas.running_statistics import RunningStatistics, mode_of
from torch_ppo.learning.agent import make_agent
from torch_ppo.running.checkpoint import restore_networks
from torch_ppo.settings.config import Config

MODES = ("welford", "ema")


def observations(seed, scale=3.0):
    numbers = torch.Generator().manual_seed(seed)
    return {"state": scale * torch.randn(200, 5, generator=numbers) * torch.arange(5) + 2}  # the first is constant


def agent_in(mode, **settings):
    sizes, options = AGENTS["tanh_normal"]
    return make_agent(Config(num_timesteps=1, **options, normalize_observations_mode=mode, **settings), sizes, 2)


@pytest.mark.parametrize("saved", MODES)
@pytest.mark.parametrize("live", MODES)
def test_goes_on_as_if_it_had_been_in_this_mode(saved, live):
    before, never_left, after = agent_in(saved), agent_in(live), agent_in(live)
    for agent in (before, never_left):
        agent.update_normalizer(observations(0))
        agent.update_normalizer(observations(1))
    restore_networks(after, before.state_dict(), restore_value=True, task="the task")
    for agent in (never_left, after):
        agent.update_normalizer(observations(2, scale=5.0))
    for name in ("mean", "std", "summed_variance", "count"):
        ours, expected = (getattr(agent.normalizer["state"], name) for agent in (after, never_left))
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("saved", MODES)
def test_frozen(saved):
    """As docs/fine_tune.md has it."""
    before, after = agent_in(saved), agent_in("ema", normalize_until_count=1)
    before.update_normalizer(observations(0))
    restore_networks(after, before.state_dict(), restore_value=True, task="the task")
    after.update_normalizer(observations(1, scale=50.0))
    for name in ("mean", "std"):
        ours, expected = (getattr(agent.normalizer["state"], name) for agent in (after, before))
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("eps", [0.0, 1e-2])
def test_mode_is_found(mode, eps):
    statistics = RunningStatistics(5, mode=mode, std_eps=eps)
    statistics.update(observations(0)["state"])
    assert mode_of(statistics.std, statistics.summed_variance, int(statistics.count), eps) == mode


def test_without_the_value_network_only_what_the_policy_sees_has_to_fit():
    """Statistics of another critic's observations stay as they are; those that fit come along."""
    settings = {"num_timesteps": 1, "policy_hidden_layer_sizes": (4,), "value_hidden_layer_sizes": (3,)}
    config = Config(policy_obs_key="state", value_obs_key="all", **settings)

    def agent(**sizes):
        return make_agent(config, sizes, 2, generator=torch.Generator().manual_seed(len(sizes)))

    donor, same, other, misfit = (
        agent(state=5, all=7),
        agent(state=5, all=7),
        agent(state=5, all=9),
        agent(state=6, all=7),
    )
    donor.update_normalizer({"state": torch.randn(20, 5), "all": torch.randn(20, 7)})
    saved = donor.state_dict()
    for restored in (same, other):
        value = {name: x.clone() for name, x in restored.value.state_dict().items()}
        restore_networks(restored, saved, restore_value=False, task="the task")
        for name, x in donor.policy.state_dict().items():
            assert torch.equal(restored.policy.state_dict()[name], x)
        assert torch.equal(restored.normalizer["state"].std, donor.normalizer["state"].std)
        assert all(torch.equal(restored.value.state_dict()[name], x) for name, x in value.items())
    assert torch.equal(same.normalizer["all"].std, donor.normalizer["all"].std)
    assert other.normalizer["all"].count == 0 and other.normalizer["all"].std.eq(1.0).all()
    with pytest.raises(ValueError, match="state 5, but the task gives all 7, state 6"):
        restore_networks(misfit, saved, restore_value=False, task="the task")
