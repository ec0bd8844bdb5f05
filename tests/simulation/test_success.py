"""Success: what a task tells of its present state counts after the last step of an episode, wherever it is reported."""

import pytest
import torch

import torch_ppo
from tests.helpers.toy import ToyTask
from torch_ppo.envs import make_task
from torch_ppo.running.evaluate import Evaluator
from torch_ppo.running.loop import run
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config
from torch_ppo.simulation.env import Env
from torch_ppo.simulation.task import TaskError

CPU = torch.device("cpu")


class Flickers(ToyTask):
    """Ends early in some envs; succeeds at every third step, at another one in each env."""

    def __init__(self, **options):
        super().__init__(**{"limit": 0.4, **options})

    def success(self, physics, memory):
        return (memory["t"] + torch.arange(physics.num_envs, device=physics.device)) % 3 == 0


class Breaks(Flickers):
    def success(self, physics, memory):
        return torch.ones_like(physics.time, dtype=torch.bool)

    def reward(self, physics, memory, action):
        reward, metrics = super().reward(physics, memory, action)
        return torch.where(memory["t"] == 4, torch.nan, reward), metrics


def make_env(task=None, num_envs=12, **options):
    generator = torch.Generator().manual_seed(5)
    return Env(task or Flickers(), num_envs, device=CPU, generator=generator, **{"episode_length": 10, **options})


def still(observation):
    return torch.zeros(observation.shape[0], 2)


def first_episodes(env):
    """By a plain loop: length and success of the first episode of each env, from what the rule says of its last step."""
    lengths = {}
    env.reset()
    for step in range(1, env.episode_length + 1):
        env.step(torch.zeros(env.num_envs, 2))
        for i in range(env.num_envs):
            if env.done[i] and i not in lengths:
                lengths[i] = step
    return [(lengths[i], (lengths[i] + i) % 3 == 0) for i in range(env.num_envs)]


def test_an_episode_succeeds_by_its_last_step():
    """In the env at ends and between, in evaluations of both kinds, and in a rollout."""
    expected = first_episodes(make_env())
    successes = [success for _, success in expected]
    assert 0 < sum(successes) < 12 and len({length for length, _ in expected}) > 1

    env, ended = make_env(), {}
    env.reset()
    for step in range(1, 11):
        env.step(torch.zeros(12, 2))
        assert env.episode_metrics["success_rate"] is env.success
        for i in range(12):
            if i not in ended:
                assert env.success[i] == float(env.done[i] and (step + i) % 3 == 0)
            if env.done[i]:
                ended.setdefault(i, bool(env.success[i]))
    assert [ended[i] for i in range(12)] == successes

    metrics = Evaluator(make_env(), lambda observation: torch.zeros(12, 2))()
    assert metrics["eval/success_rate"] == pytest.approx(sum(successes) / 12)
    assert not any("success_rate_std" in name or "episode_success" in name for name in metrics)
    result = torch_ppo.evaluate(still, make_env(), episodes=12)
    assert result.success.tolist() == successes and result.lengths.tolist() == [length for length, _ in expected]
    assert result.success_rate == pytest.approx(sum(successes) / 12)
    assert f"success {sum(successes) / 12:.0%}, 12 episodes" in str(result)
    taken = torch_ppo.rollout(still, make_env())
    last = taken.first_episode.sum(0) - 1
    assert taken.success[last, torch.arange(12)].tolist() == successes


def test_more_episodes_than_envs():
    env = make_env(num_envs=5)
    result = torch_ppo.evaluate(still, env, episodes=12)
    assert result.success.shape == (12,) and result.success.dtype == torch.bool
    assert result.success.tolist() == [(n + i % 5) % 3 == 0 for i, n in enumerate(result.lengths.tolist())]


def test_repeated_actions_count_by_the_last_repeat():
    metrics = Evaluator(
        make_env(Flickers(limit=None), action_repeat=3, episode_length=12), lambda _: torch.zeros(12, 2)
    )()
    assert metrics["eval/success_rate"] == pytest.approx(4 / 12)  # of step 12: envs 0, 3, 6 and 9
    # An episode of 11 steps has two of four each, and is not over then.
    evaluator = Evaluator(
        make_env(Flickers(limit=None), action_repeat=4, episode_length=11), lambda _: torch.zeros(12, 2)
    )
    evaluator()
    assert evaluator.active.all() and evaluator.success.tolist() == [float((8 + i) % 3 == 0) for i in range(12)]


def test_a_broken_world_is_no_success():
    for length, succeeds in ((3, 1.0), (4, 0.0)):
        env = make_env(Breaks(limit=None), episode_length=length)
        for _ in range(length):
            env.step(torch.zeros(12, 2))
        assert env.done.all() and env.success.eq(succeeds).all()
        assert env.broken.total == (0 if succeeds else 12)


def test_who_does_not_tell_reports_nothing():
    env = make_env(ToyTask())
    assert env.success is None and "success_rate" not in env.episode_metrics
    assert "eval/success_rate" not in Evaluator(env, lambda _: torch.zeros(12, 2))()
    result = torch_ppo.evaluate(still, make_env(ToyTask()), episodes=3)
    assert result.success is None and result.success_rate is None and "success" not in str(result)
    assert torch_ppo.rollout(still, make_env(ToyTask())).success is None


def test_mistakes():
    class Wrong(Flickers):
        def success(self, physics, memory):
            return physics.qpos > 0

    class Twice(Flickers):
        def reward(self, physics, memory, action):
            reward, metrics = super().reward(physics, memory, action)
            return reward, {**metrics, "success_rate": reward}

    with pytest.raises(TaskError, match=r"Wrong.success returns bool \(12, 3\), but bool \(12,\) is expected"):
        make_env(Wrong())
    with pytest.raises(TaskError, match=r"Twice.reward returns a metric 'success_rate', but that is what success is"):
        make_env(Twice())


def config(**settings):
    return Config(
        **{
            "num_timesteps": 1_000, "num_envs": 8, "batch_size": 8, "num_minibatches": 2, "unroll_length": 5,
            "episode_length": 10, "num_evals": 3, "num_eval_envs": 12, "log_training_metrics": True, "device": "cpu",
            "policy_hidden_layer_sizes": (4,), "value_hidden_layer_sizes": (4,), **settings,
        }
    )  # fmt: skip


def test_a_run_reports_training_episodes_and_evaluations():
    """Against a plain loop over what the batches hold."""
    state, seen, rates = TrainingState(config(), Flickers()), [], []
    collect = state.collector.__class__.__call__

    class Watched(state.collector.__class__):
        def __call__(self):
            collect(self)
            batch = state.batch
            for sequence in range(batch.reward.shape[1]):
                for t in range(batch.reward.shape[0]):
                    if batch.episode_done[t, sequence]:
                        length = int(batch.episode_metrics["length"][t, sequence])
                        seen.append((length + sequence % 8) % 3 == 0)
            rates.append(sum(seen[-100:]) / len(seen[-100:]))

    state.collector.__class__ = Watched
    metrics = []
    run(state, progress_fn=lambda step, values: metrics.append(values))
    reported = [values["episode/success_rate"] for values in metrics if "episode/success_rate" in values]
    assert reported and {round(rate, 9) for rate in reported} <= {round(rate, 9) for rate in rates}
    assert all(0 < values["eval/success_rate"] < 1 for values in metrics if "eval/episode_reward" in values)


def test_resumed_it_goes_on(differences):
    whole, first, second = (
        TrainingState(config(num_timesteps=n, run_evals=False), Flickers()) for n in (960, 480, 960)
    )
    run(whole)
    run(first)
    second.load_checkpoint(first.checkpoint())
    assert second.episode_metrics.values["success_rate"] == first.episode_metrics.values["success_rate"]
    run(second)
    assert [path for path in differences(whole.checkpoint(), second.checkpoint()) if "time" not in path] == []


def test_checkpoints_from_before_a_task_told():
    """Of a task whose reward and memory are the same."""
    old, new = TrainingState(config(), ToyTask(limit=0.4)), TrainingState(config(), Flickers())
    new.load_checkpoint(old.checkpoint())
    new.collector()
    assert new.batch.episode_metrics["success_rate"].unique().tolist() == [0.0, 1.0]


def placed(name, position, **memory):
    """What the task says of positions, one env each."""
    env = make_env(make_task(name), num_envs=len(position))
    env.physics.qpos.copy_(torch.tensor(position))
    for key, value in memory.items():
        env.memory[key].copy_(torch.tensor(value))
    return env.task.success(env.physics, env.memory).tolist()


def test_goals_reached():
    assert placed("point_mass_easy", [[0.0, 0.014], [0.012, 0.012], [0.2, 0.0]]) == [True, False, False]
    # The arm along x reaches 0.24 m; finger and target together are 0.06 m thick, or 0.025.
    targets = {"target": [[0.24, 0.02], [0.24, 0.05], [0.0, 0.2]]}
    assert placed("reacher_easy", [[0.0, 0.0]] * 3, **targets) == [True, True, False]
    assert placed("reacher_hard", [[0.0, 0.0]] * 3, **targets) == [True, False, False]
    # The rim is 0.4 m above the ball's place, the target's centre 0.05 m below it.
    balls = [[0.0, 0.0, 0.0, 0.35], [0.1, 0.1, 0.12, 0.45], [0.0, 0.0, 0.03, 0.35], [0.0, 0.0, 0.0, 0.0]]
    assert placed("ball_in_cup_catch", balls) == [True, True, False, False]


@pytest.mark.parametrize("name", ["quadruped_joystick", "biped_joystick"])
def test_commands_followed(name):
    """By the metric that they report: a mean velocity error of at most 0.25 m/s, and no fall; also of a next episode."""
    env = make_env(make_task(name), num_envs=16, episode_length=7)
    total, seen = torch.zeros(16), []
    env.memory["command"][:8] = 0.0  # who keeps its pose follows that
    env.memory["command_steps"].fill_(1000)
    env.physics.qvel[:8] = 0.0
    for step in range(1, 15):
        env.step(torch.zeros(16, 12))
        total += env.metrics["velocity_error_per_step"]
        done, error = env.done.bool(), total / env.episode_metrics["length"]
        expected = done & ~env.termination.bool() & (error <= 0.25)
        clear = (error - 0.25).abs() > 1e-3
        assert torch.equal(env.success.bool()[clear], expected[clear])
        seen.append(expected.sum().item())
        total.masked_fill_(done, 0.0)
        assert done.all() == (step % 7 == 0)
    assert 0 < seen[6] < 16
