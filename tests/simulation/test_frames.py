"""Stacks of observations and actions that arrive late: against slow loops in Python, across ends of episodes."""

import pytest
import torch

import torch_ppo
from tests.helpers.toy import ToyTask
from torch_ppo.errors import ConfigError, UserError
from torch_ppo.running.training_state import clone, copy_into
from torch_ppo.simulation.env import Env

CPU = torch.device("cpu")
NUM_ENVS = 16


def make_env(*, seed=0, num_envs=NUM_ENVS, asymmetric=True, **options):
    task = ToyTask(asymmetric=asymmetric, limit=0.4)
    generator = torch.Generator().manual_seed(seed)
    options = {"episode_length": 12, "keep_final": True, **options}
    return Env(task, num_envs, device=CPU, generator=generator, **options)


def actions(env, count, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(count, env.num_envs, env.action_dim, generator=generator) - 1


# History


@pytest.mark.parametrize("auto_reset", ["cached", "random", "fresh"])
@pytest.mark.parametrize("keys", [(), ("state",)])
def test_stacks_are_the_last_observations_of_the_episode(auto_reset, keys):
    """Against the frames of the same env without history, kept in lists."""
    plain, env = make_env(auto_reset=auto_reset), make_env(auto_reset=auto_reset, history=3, history_obs_keys=keys)
    lists = [{key: [x[i].clone()] * 3 for key, x in plain.observation.items()} for i in range(NUM_ENVS)]
    ended = 0
    for action in [None, *actions(env, 40)]:
        if action is not None:
            plain.step(action)
            env.step(action)
            assert torch.equal(env.reward, plain.reward) and torch.equal(env.done, plain.done)
            ended += int(env.done.sum())
        for i, kept in enumerate(lists):
            for key, frames in kept.items():
                stacked = key in keys or not keys
                if action is not None:
                    final = [*frames[1:], plain.final_observation[key][i].clone()]
                    expected = torch.cat(final if stacked else final[-1:])
                    assert torch.equal(env.final_observation[key][i], expected)
                    kept[key] = [plain.observation[key][i].clone()] * 3 if plain.done[i] else final
                expected = torch.cat(kept[key] if stacked else kept[key][-1:])
                assert torch.equal(env.observation[key][i], expected)
    assert ended > 2 * NUM_ENVS
    assert env.observation_sizes == {"state": 15, "privileged_state": 8 if keys else 24}


def test_a_reset_fills_the_stacks():
    env = make_env(history=2)
    for action in actions(env, 3):
        env.step(action)
    env.reset()
    older, newest = env.observation["state"].split(5, dim=1)
    assert torch.equal(older, newest)


def test_a_single_observation_stays_a_tensor():
    env = make_env(asymmetric=False, history=4)
    assert env.reset() is env.observation["state"] and env.seen.shape == (NUM_ENVS, 20)


def test_with_action_repeat_a_frame_is_a_policy_step():
    plain, env = make_env(action_repeat=2), make_env(action_repeat=2, history=2)
    for action in actions(env, 5):
        before = plain.observation["state"].clone()
        plain.step(action)
        env.step(action)
        both = torch.cat([before, plain.observation["state"]], 1)
        going = ~env.done.bool()
        assert torch.equal(env.observation["state"][going], both[going])


def test_off_is_the_very_same():
    """No entry more in what is saved, and no operation more: the tensors are those of the task."""
    env, same = make_env(), make_env(history=1, action_delay=(0, 0))
    assert same.delay is None and clone(env.state()).keys() == same.state().keys()
    for action in actions(env, 20):
        env.step(action)
        same.step(action)
        assert torch.equal(env.observation["state"], same.observation["state"])


def test_unknown_keys_are_named():
    with pytest.raises(ConfigError, match=r"history_obs_keys names 'stat', which the task does not observe; .*state"):
        make_env(history=2, history_obs_keys=("stat",))


def test_frame_stack_is_what_the_env_shows():
    plain, env, stack = make_env(num_envs=1), make_env(num_envs=1, history=3), torch_ppo.FrameStack(3)
    assert torch.equal(stack(plain.observation["state"][0]), env.observation["state"][0])
    for action in actions(env, 30):
        plain.step(action)
        env.step(action)
        if env.done:
            stack.reset()
        assert torch.equal(stack(plain.observation["state"][0]), env.observation["state"][0])
    assert stack(torch.zeros(5)).shape == (15,)
    with pytest.raises(UserError, match=r"the observation is \(1, 5\), but those before it were \(5,\); reset\(\)"):
        stack(torch.zeros(1, 5))
    with pytest.raises(UserError, match="history is 0, but must be an int greater than 0; 3 would work"):
        torch_ppo.FrameStack(0)


# Actions that arrive late


class Told(ToyTask):
    """Notes the actions it is given, in memory."""

    def make_memory(self, num_envs, device):
        memory = super().make_memory(num_envs, device)
        return memory | {name: torch.zeros(num_envs, 2, device=device) for name in ("applied", "after", "rewarded")}

    def apply(self, physics, memory, action):
        super().apply(physics, memory, action)
        memory["applied"].copy_(action)

    def after_step(self, physics, memory, action):
        super().after_step(physics, memory, action)
        memory["after"].copy_(action)

    def reward(self, physics, memory, action):
        return action[:, 0], {}

    metric_names = ()


@pytest.mark.parametrize("action_repeat", [1, 3])
@pytest.mark.parametrize("delay", [1, (4, 4), (0, 3)])
@pytest.mark.parametrize("auto_reset", ["cached", "random", "fresh"])
def test_actions_arrive_late(delay, action_repeat, auto_reset):
    """Against lists of what was sent, in env steps, from the beginning of each episode; before, 0 arrives.

    Memory and reward are told what was sent, which a robot knows; physics gets what arrives.
    """
    generator = torch.Generator().manual_seed(0)
    env = Env(
        Told(limit=0.4),
        NUM_ENVS,
        episode_length=12,
        device=CPU,
        generator=generator,
        action_delay=delay,
        action_repeat=action_repeat,
        auto_reset=auto_reset,
    )
    low, high = delay if isinstance(delay, tuple) else (delay, delay)
    sent = [[] for _ in range(NUM_ENVS)]
    delays, seen = env.delay.delay.tolist(), []
    for action in actions(env, 40):
        env.step(action)
        for i in range(NUM_ENVS):
            total = 0.0
            for _ in range(action_repeat):
                sent[i].append(action[i])
                arrives = sent[i][-1 - delays[i]] if len(sent[i]) > delays[i] else torch.zeros(2)
                total = total + action[i, 0]
            assert env.reward[i] == total
            if env.done[i]:
                sent[i], delays[i] = [], int(env.delay.delay[i])
                seen.append(delays[i])
            else:
                assert torch.equal(env.memory["applied"][i], arrives)
                assert torch.equal(env.memory["after"][i], action[i])
        assert env.delay.delay.tolist() == delays  # the same throughout an episode
    assert len(seen) > 2 * NUM_ENVS and set(seen) == set(range(low, high + 1))


def test_delays_are_equally_likely():
    env = make_env(num_envs=3000, action_delay=(1, 3), episode_length=1)
    for drawn in (env.delay.delay.clone(), env.step(torch.zeros(3000, 2)) and env.delay.delay.clone()):
        counts = drawn.bincount(minlength=4)[1:]
        assert (counts - 1000).abs().max() < 4 * (3000 * 2 / 9) ** 0.5


def test_history_and_delay_go_on_bit_for_bit():
    options = {"history": 3, "action_delay": (0, 3), "auto_reset": "fresh"}
    env, other = make_env(**options), make_env(seed=7, **options)
    sequence = actions(env, 30)
    for action in sequence[:11]:
        env.step(action)
    copy_into(other.state(), clone(env.state()))
    other.generator.set_state(env.generator.get_state())
    for action in sequence[11:]:
        env.step(action)
        other.step(action)
        for key, x in env.observation.items():
            assert torch.equal(other.observation[key], x)
        assert torch.equal(env.reward, other.reward)
