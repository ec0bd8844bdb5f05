"""One bad world poisons nothing: it is found by cause, kept out of what is learned, kept as evidence, and reported."""

import contextlib
import json
import math
import re
from unittest.mock import Mock

import pytest
import torch

import torch_ppo
from torch_ppo.envs.cartpole import Cartpole
from torch_ppo.learning.batch import tensors_of
from torch_ppo.learning.prepare import LEARNED_FROM, replace_broken_sequences
from torch_ppo.running.broken_cases import keep_cases, too_many_broken
from torch_ppo.running.loop import BrokenWorldsError, DivergedError, run
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config
from torch_ppo.simulation.env import Env

NOT_FINITE = [float("nan"), float("inf"), -float("inf")]
SMALL = {
    "num_timesteps": 640,
    "num_envs": 16,
    "num_eval_envs": 4,
    "episode_length": 20,
    "batch_size": 16,
    "num_minibatches": 2,
    "unroll_length": 5,
    "normalize_observations": True,
    "policy_hidden_layer_sizes": (8,),
    "value_hidden_layer_sizes": (8,),
    "device": "cpu",
}


class Bad(Cartpole):
    """World 3 has a bad value of some kind in the fourth step of each of its episodes."""

    metric_names = ("cost", "other")

    def __init__(self, kind=None, value=0.0):
        super().__init__()
        self.kind, self.value = kind, value

    def make_memory(self, num_envs, device):
        return {"t": torch.zeros(num_envs, device=device)}

    def spoiled(self, memory, x, kind):
        """`x` with the value in world 3, in its last column, at the time."""
        if kind != self.kind:
            return x
        bad = torch.zeros_like(x, dtype=torch.bool)
        bad[3:4] = (memory["t"][3:4] == 4.0).view(-1, *[1] * (x.dim() - 1))
        if x.dim() == 2:
            bad[:, :-1] = False
        return torch.where(bad, self.value, x)

    def after_step(self, physics, memory, action):
        memory["t"] += 1.0
        physics.qpos.copy_(self.spoiled(memory, physics.qpos, "qpos"))
        physics.qvel.copy_(self.spoiled(memory, physics.qvel, "qvel"))

    def observe(self, physics, memory):
        return self.spoiled(memory, super().observe(physics, memory), "observation")

    def reward(self, physics, memory, action):
        reward, _ = super().reward(physics, memory, action)
        other = self.spoiled(memory, torch.ones_like(reward), "metric")
        return self.spoiled(memory, reward, "reward"), {"cost": -reward, "other": other}


CASES = [
    *((kind, value) for kind in ("qpos", "qvel", "observation", "reward", "metric") for value in NOT_FINITE),
    ("qpos", 2e10),
    ("qvel", -3e12),
]


def make_state(task, **settings):
    return TrainingState(Config(env="cartpole", **{**SMALL, **settings}), task)


def cause_of(kind):
    return {"qpos": "state", "qvel": "state", "observation": 'observation "state"', "metric": 'metric "other"'}.get(
        kind, kind
    )


@pytest.mark.parametrize(("kind", "value"), CASES)
def test_a_bad_world_ends_and_is_counted_by_cause(kind, value):
    generator = torch.Generator().manual_seed(0)
    env = Env(Bad(kind, value), 8, episode_length=100, device=torch.device("cpu"), generator=generator)
    for step in range(1, 9):
        env.step(torch.zeros(8, env.action_dim))
        broke = [world for world in range(8) if env.broken.cause[world]]
        assert broke == ([3] if step % 4 == 0 else []) and env.termination.nonzero().flatten().tolist() == broke
        for tensor in (*env.observation.values(), env.reward, *env.metrics.values(), *env.episode_metrics.values()):
            assert tensor.isfinite().all()
        assert env.physics.qpos.abs().max() < 1e10
    counts = dict(zip(env.broken.causes, env.broken.counts.tolist(), strict=True))
    assert counts == {name: 2 * (name == cause_of(kind)) for name in env.broken.causes}
    assert env.broken.metrics_by_cause("x") == {"x/broken_envs": 2.0, f"x/broken_envs/{cause_of(kind)}": 2.0}


class BadStart(Cartpole):
    """World 3 sees NaN at the start of every episode that begins by a restart, and never else."""

    resets = 0

    def start(self, physics, memory, generator):
        super().start(physics, memory, generator)
        self.resets += 1

    def observe(self, physics, memory):
        seen = super().observe(physics, memory)
        bad = (physics.time == 0.0) & (torch.arange(physics.num_envs) == 3) & (self.resets > 2)
        return torch.where(bad[:, None], torch.nan, seen)


def test_a_first_observation_that_is_bad():
    """It was acted on before anything else could be wrong. The run ended, and was told to learn more slowly."""
    state = make_state(BadStart(), auto_reset="fresh", episode_length=5, max_broken_fraction=1.0, run_evals=False)
    run(state, warn=lambda text: None)
    causes = dict(zip(state.env.broken.causes, state.env.broken.counts.tolist(), strict=True))
    assert causes.pop('observation "state"') > 5 and not any(causes.values())
    assert all(x.isfinite().all() for x in state.agent.state_dict().values())
    with pytest.raises(BrokenWorldsError, match=r'observation "state", column 0, is nan in env 3'):
        run(make_state(BadStart(), auto_reset="fresh", episode_length=5, run_evals=False))


def test_a_smaller_limit_of_the_state():
    env = Env(
        Bad("qpos", 50.0),
        8,
        episode_length=100,
        device=torch.device("cpu"),
        generator=torch.Generator(),
        max_state=40.0,
    )
    for _ in range(4):
        env.step(torch.zeros(8, env.action_dim))
    assert env.broken.total == 1 and env.broken.causes[int(env.broken.cause[3]) - 1] == "state"


def test_broken_sequences_are_replaced_by_sound_ones():
    state = make_state(Bad("reward", math.nan), bootstrap_on_truncation=True, clipping_epsilon_value=0.2)
    state.collector()
    batch = state.batch
    broken = batch.broken.ne(0).any(0)
    assert broken.nonzero().flatten().tolist() == [3, 19]  # both unrolls of world 3
    before = {name: [x.clone() for x in tensors_of(getattr(batch, name))] for name in LEARNED_FROM}
    assert len(before["policy_params"]) == 2 and len(before["final_value"]) == 1
    replace_broken_sequences(batch)
    sound = [s for s in range(32) if s not in (3, 19)]
    for name, parts in before.items():
        axis = 0 if name == "bootstrap_observation" else 1
        for x, now in zip(parts, tensors_of(getattr(batch, name)), strict=True):
            index = torch.tensor(sound)
            assert torch.equal(now.index_select(axis, index), x.index_select(axis, index)), name
            # Another env's, the same ones for every tensor: the first two that are sound.
            for broke, other in ((3, 0), (19, 1)):
                assert torch.equal(now.select(axis, broke), x.select(axis, other)), name


@pytest.mark.parametrize("broken", [[], [0], [4, 5, 6], [0, 1, 2, 3, 4, 5, 7]])
def test_replacements_without_asking_the_device(broken, monkeypatch):
    """As on CUDA, where nothing may be read: by a loop, the j-th broken sequence gets the j-th sound one."""
    state = make_state(Bad(), num_envs=8, batch_size=8, num_minibatches=1)
    state.collector()
    batch = state.batch
    batch.broken.zero_()
    batch.broken[2, broken] = 1
    batch.reward.copy_(torch.arange(8.0).expand(5, 8))
    monkeypatch.setattr(
        torch.Tensor, "any", lambda self, *dims: torch.amax(self.float(), dims).bool() if dims else True
    )
    replace_broken_sequences(batch)
    sound = [s for s in range(8) if s not in broken]
    expected = [float(sound[broken.index(s) % len(sound)]) if s in broken else float(s) for s in range(8)]
    assert batch.reward.tolist() == [expected] * 5


@pytest.mark.parametrize(("kind", "value"), CASES)
@pytest.mark.filterwarnings("ignore:worlds broke", "ignore:.* env steps before")
def test_training_goes_on_as_without_the_bad_world(kind, value):
    """Networks and normalizer stay near those of a run in which nothing broke; nothing is inf or NaN."""
    healthy = make_state(Bad(), max_broken_fraction=1.0)
    state = make_state(Bad(kind, value), max_broken_fraction=1.0)
    for each in (healthy, state):
        run(each)
    assert state.env.broken.total > 5 and healthy.env.broken.total == 0
    for name, tensor in state.agent.state_dict().items():
        assert tensor.isfinite().all(), name
    mine, theirs = (each.agent.normalizer["state"] for each in (state, healthy))
    torch.testing.assert_close(mine.mean, theirs.mean, atol=0.3, rtol=0)
    torch.testing.assert_close(mine.std, theirs.std, atol=0.3, rtol=0)
    assert mine.count == theirs.count


def test_evidence(tmp_path):
    """The last steps of the world that broke, in a file, with what broke by name."""
    state = make_state(Bad("qvel", math.inf), max_broken_fraction=1.0)
    state.broken_folder = tmp_path
    worlds = []
    env_step = state.env.step

    def watched(action):
        seen = {key: x[3].clone() for key, x in state.env.observation.items()}
        env_step(action)
        worlds.append((seen, action[3].clone(), state.env.final_state[3].clone()))

    state.env.step = watched
    state.collector()
    state.training_steps = 1
    line, _ = keep_cases(state, state.env_steps)  # of the two unrolls
    file = tmp_path / "0.pt"
    assert re.search(r"qvel of joint .* is inf in env 3, at most 80 env steps before 80", line) and str(file) in line
    case = torch.load(file, weights_only=True)
    assert (case["world"], case["seed"], case["env"], case["env_steps"]) == (3, 0, "cartpole", 80)
    assert state.env.broken.causes[case["cause"] - 1] == "state" and len(case["state"]) == 4
    for t, (seen, action, after) in enumerate(worlds[:4]):
        assert torch.equal(case["observation"]["state"][t], seen["state"])
        assert torch.equal(case["action"][t], action)
        assert torch.equal(case["state"][t].nan_to_num(), after.nan_to_num())
    assert keep_cases(state, state.env_steps) == []


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("qpos", "mostly its state; for example, qpos of joint"),
        ("observation", r'mostly its observation "state"; for example, observation "state", column \d+, is nan'),
        ("reward", "mostly its reward; for example, reward is inf or NaN .* look at what the task's reward divides by"),
        ("metric", 'mostly its metric "other"'),
    ],
)
def test_too_many_end_the_run(kind, words):
    with pytest.raises(BrokenWorldsError, match=r"^\d.\d% of the policy steps .* max_broken_fraction = 0.01: " + words):
        run(make_state(Bad(kind, math.nan)))
    run(make_state(Bad(), max_broken_fraction=0.0))


def test_what_broke_on_another_device_is_said_too():
    state = make_state(Bad())
    state.devices = Mock(sum_=lambda counts: counts + torch.eye(len(counts), dtype=torch.int64)[2])
    assert "mostly its reward; look at" in too_many_broken(state, 0.5, 0)


def test_the_end_of_the_run_says_when(tmp_path):
    """Also where it is noticed in the middle of a training step, which has collected more than is counted yet."""
    state = make_state(Bad("reward", math.nan))
    state.broken_folder = tmp_path
    with pytest.raises(BrokenWorldsError, match="in env 3, at most 80 env steps before 80"):
        run(state)
    assert [torch.load(file, weights_only=True)["env_steps"] for file in sorted(tmp_path.iterdir())][:2] == [80, 160]


def test_what_is_said_and_reported():
    told = []
    state = make_state(Bad("observation", math.nan), max_broken_fraction=1.0, num_evals=3)
    metrics = run(state, warn=told.append)
    assert 'times because its observation "state" was inf or NaN' in told[0]
    assert metrics['training/broken_envs/observation "state"'] == metrics["training/broken_envs"] > 0
    assert metrics["eval/broken_envs"] == 5.0 and math.isfinite(metrics["eval/episode_reward"])
    json.dumps(metrics, allow_nan=False)


def test_the_library_call_warns():
    with pytest.warns(UserWarning) as told:
        torch_ppo.train(Bad("reward", math.nan), **{**SMALL, "max_broken_fraction": 1.0, "run_evals": False})
    texts = [str(warning.message) for warning in told]
    assert {warning.filename for warning in told} == {__file__}  # where the user is, not somewhere in ours
    assert any("times because its reward was inf or NaN" in text for text in texts)


# Huge but finite values


def test_normalizer_clip_limits_what_one_value_does():
    clipped = make_state(Bad("observation", 1e8), normalizer_clip=5.0)
    run(clipped)
    statistics = clipped.agent.normalizer["state"]
    assert statistics.mean.abs().max() < 10 and statistics.std.max() < 10
    assert statistics.normalize(torch.full_like(statistics.mean, 1e8)).max() == 5.0
    free = make_state(Bad("observation", 1e8))
    with contextlib.suppress(DivergedError):
        run(free)
    assert free.agent.normalizer["state"].std.max() > 1e5


def test_the_end_of_the_run_names_the_observation():
    with pytest.raises(DivergedError, match=r'column 4 of observation "state" is to blame: .*normalizer_clip = 10'):
        run(make_state(Bad("observation", 1e8), num_timesteps=6400, learning_rate=1e30))


def test_the_end_of_the_run_names_the_reward():
    with pytest.raises(DivergedError, match="a reward of 1e\\+25 is to blame"):
        run(make_state(Bad("reward", 1e25), num_timesteps=6400))
