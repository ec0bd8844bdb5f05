"""The contract: what is asked of any environment, and an object that has only the least of it."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

import torch_ppo
from tests.helpers.toy import ToyTask
from torch_ppo.environments.completed import completed
from torch_ppo.environments.contract import WHOLE, lacking
from torch_ppo.environments.finding import simulated_task, source_of
from torch_ppo.errors import ConfigError
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config

SMALL = {
    "num_timesteps": 80, "num_envs": 4, "num_eval_envs": 4, "batch_size": 4, "num_minibatches": 2, "unroll_length": 5,
    "policy_hidden_layer_sizes": (8,), "value_hidden_layer_sizes": (8,),
}  # fmt: skip


class Counting:
    """An env that counts: env i ends by itself after i + 1 steps if i is even, else is cut off after 3."""

    action_dim, episode_length = 1, 4

    def __init__(self, num_envs=4, seed=0):
        self.num_envs, self.seed = num_envs, seed
        self.ends = torch.arange(num_envs) + 1

    def reset(self):
        self.count = torch.zeros(self.num_envs, dtype=torch.float64)
        self._tell(torch.zeros(self.num_envs))
        self.final_observation = self.observation

    def _tell(self, reward):
        self.reward, self.observation = reward, torch.stack([self.count, -self.count], 1).numpy()
        self.metrics = {"count": self.count.clone()}

    def step(self, action):
        self.count += 1
        even = torch.arange(self.num_envs) % 2 == 0
        self.termination = even & (self.count >= self.ends)
        self.truncation = ~even & (self.count >= 3)
        reward, self.final_observation = self.count + action[:, 0], torch.stack([self.count, -self.count], 1)
        told = self.count.clone()
        self.count *= ~(self.termination | self.truncation)
        self._tell(reward)
        self.metrics = {"count": told}


class Halves(Counting):
    """It says neither that an episode has ended nor that it has not."""

    def step(self, action):
        super().step(action)
        self.truncation = self.truncation.float() / 2


class Numbers(Counting):
    def step(self, action):
        super().step(action)
        self.termination, self.truncation = self.termination.float(), self.truncation.int().numpy()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own, while it compiles
def test_what_follows_a_step_can_be_compiled_whole():
    env, same = (completed(Counting(), device=torch.device("cpu"), keep_final=True) for _ in range(2))
    assert env.compilable == ("after_step",)
    env.after_step = torch.compile(env.after_step, fullgraph=True, dynamic=False, backend="eager")
    for step in range(6):
        action = torch.full((4, 1), float("nan") if step == 3 else 1.0)
        for a, b in zip(env.step(action)[1:], same.step(action)[1:], strict=True):
            assert torch.equal(a, b)
        for name in ("observation", "final_observation", "episode_metrics"):
            for key, x in getattr(same, name).items():
                assert torch.equal(getattr(env, name)[key], x)
        assert torch.equal(env.termination, same.termination) and torch.equal(env.steps, same.steps)
    assert env.broken.total == same.broken.total > 0


def test_where_an_episode_ends_is_said_in_bools_or_0_and_1():
    env, same = (completed(kind(), device=torch.device("cpu")) for kind in (Numbers, Counting))
    for _ in range(5):
        assert torch.equal(env.step(torch.zeros(4, 1))[2], same.step(torch.zeros(4, 1))[2])
    env = completed(Halves(), device=torch.device("cpu"))
    with pytest.raises(ConfigError, match=r"Halves.truncation has 0.5 in it, but must be bool, or 0 and 1"):
        for _ in range(5):
            env.step(torch.zeros(4, 1))


class Stateful(Counting):
    def state(self):
        return {"count": self.count}

    def load_state(self, saved):
        self.count.copy_(saved["count"])


def make_env(num_envs, seed):
    return Counting(num_envs, seed)


def test_env_meets_it():
    env = torch_ppo.make_env(ToyTask(), num_envs=2)
    assert lacking(env, WHOLE) == []
    assert completed(env, device=torch.device("cpu")) is env


def test_what_is_completed():
    """Against a loop over single episodes."""
    env = completed(Counting(), device=torch.device("cpu"), keep_final=True)
    assert lacking(env, WHOLE) == []
    count, total, length = [0] * 4, [0.0] * 4, [0] * 4
    kept = env.observation["state"]
    done = [False] * 4
    for t in range(9):
        seen, reward, _ = env.step(torch.full((4, 1), float(t)))
        assert seen is kept and kept.dtype == torch.float32
        for i in range(4):
            if done[i]:
                total[i], length[i] = 0.0, 0
            count[i] += 1
            total[i], length[i] = total[i] + count[i] + t, length[i] + 1
            ended = count[i] >= (i + 1 if i % 2 == 0 else 3)
            assert reward[i] == count[i] + t and env.final_observation["state"][i].tolist() == [count[i], -count[i]]
            assert [bool(x[i]) for x in (env.done, env.termination, env.truncation)] == [
                ended, ended and i % 2 == 0, ended and i % 2 == 1,
            ]  # fmt: skip
            assert env.steps[i] == length[i] == env.episode_metrics["length"][i]
            assert env.episode_metrics["sum_reward"][i] == total[i] and env.metrics["count"][i] == count[i]
            done[i], count[i] = ended, 0 if ended else count[i]
            assert kept[i].tolist() == [count[i], -count[i]]


def test_broken_numbers_end_an_episode():
    inner = Counting()
    env = completed(inner, device=torch.device("cpu"))
    inner.step = lambda action: (Counting.step(inner, action), inner.reward.__setitem__(3, torch.nan))
    env.step(torch.zeros(4, 1))
    assert env.termination[3] and env.done[3] and env.reward[3] == 0.0
    assert env.broken.total == 1 and env.broken.causes[int(env.broken.cause[3]) - 1] == "reward"


@pytest.mark.parametrize("given", [make_env, "tests/environments/test_contract.py:make_env"])
def test_trains_what_a_function_makes(given):
    reports = []
    torch_ppo.train(
        given, num_evals=2, progress_fn=lambda step, metrics: reports.append(metrics), **{**SMALL, "num_timesteps": 160}
    )
    assert reports[0]["eval/avg_episode_length"] == (1 + 3 + 3 + 3) / 4
    assert reports[1]["eval/episode_count"] == (1 + 6 + 6 + 6) / 4


def test_trains_objects():
    torch_ppo.train(Counting(), eval_env=Counting(), **SMALL)
    torch_ppo.train(torch_ppo.make_env(ToyTask(), num_envs=4, episode_length=6), run_evals=False, **SMALL)
    _, _, metrics = torch_ppo.train(Counting(), wrap_env=False, run_evals=False, **SMALL)
    assert "training/sps" in metrics


def test_what_is_checkpointed(tmp_path):
    """An env with a state of its own goes on exactly; one without begins its episodes anew."""
    for kind, goes_on in ((Stateful, True), (Counting, False)):
        config = Config(**{**SMALL, "run_evals": False})

        def new(kind=kind, config=config):
            return TrainingState(config, source_of(lambda num_envs: kind(num_envs)))

        state = new()
        state.collector()
        saved, after = state.checkpoint(), []
        for each in (state, new()):
            if each is not state:
                assert each.load_checkpoint(saved) == goes_on
            each.collector()
            after.append(each.batch.observation["state"].clone())
        assert torch.equal(*after) == goes_on


class Shaped:
    """A wrapper as users write them: rewards of another size."""

    def __init__(self, env):
        self.env = env

    def __getattr__(self, name):
        return getattr(self.env, name)

    def step(self, action):
        seen, reward, done = self.env.step(action)
        reward.mul_(2.0)
        return seen, reward, done


def test_wrap_env_fn():
    """For training and for evaluation, with Brax's arguments."""
    calls, rewards = [], []

    def wrap(env, episode_length, action_repeat, randomization_fn):
        calls.append((env.num_envs, episode_length, action_repeat, randomization_fn))
        return Shaped(env.wrap(episode_length=episode_length, action_repeat=action_repeat))

    settings = {**SMALL, "num_envs": 2, "episode_length": 6, "action_repeat": 2, "seed": 3, "deterministic_eval": True}
    for given in (wrap, None):
        _, _, metrics = torch_ppo.train(ToyTask(), wrap_env_fn=given, **settings)
        rewards.append(metrics)
    assert calls == [(2, 6, 2, None), (4, 6, 2, None)]
    state = TrainingState(Config(**settings), source_of(ToyTask()))
    assert state.env.episode_length == 6
    assert rewards[0]["eval/avg_episode_length"] == rewards[1]["eval/avg_episode_length"]
    assert rewards[0]["training/v_loss"] != rewards[1]["training/v_loss"]


@pytest.mark.parametrize(
    ("attribute", "value", "words"),
    [
        ("observation", None, "lacks"),
        ("num_envs", 3, "Wrong has 3 envs, but 4 are asked for; num_envs .* = 3 would work"),
        ("action_dim", 1.5, "Wrong.action_dim is 1.5, but must be an int, 1 or greater"),
        ("episode_length", 0, "episode_length is 0, but must be greater than 0"),
        ("reward", torch.zeros(4, 1), r"Wrong.reward is float32 \(4, 1\), but numbers \(4,\) are expected"),
        ("reward", "much", r"Wrong.reward is str, but numbers \(4,\)"),
        ("termination", None, r"Wrong.termination is NoneType"),
        ("observation", torch.zeros(5, 2), r"Wrong.observation\['state'\] is float32 \(5, 2\), but numbers \(4, n\)"),
        ("observation", {"other": torch.zeros(4, 2)}, "Wrong.observation has other, but had state at first"),
        ("observation", torch.zeros(4, 7), r"Wrong.observation\['state'\] is \(4, 7\), but was \(4, 2\) at first"),
        ("metrics", {"count": 3.0}, r"Wrong.metrics\['count'\] is float32 \(\), but numbers \(4,\)"),
        ("metrics", {"new": torch.ones(4)}, "Wrong.metrics has new, but had count after its first reset"),
        ("metrics", None, "Wrong.metrics has none, but had count after its first reset"),
        ("metrics", [3.0], "Wrong.metrics is list, but must be a dict of numbers by name"),
        (
            "observation",
            torch.ones(4, 2, device="meta"),
            r"Wrong.observation\['state'\] is float32 \(4, 2\) on meta, but",
        ),
        ("observation", torch.ones(4, 2).to_sparse(), r"is float32 \(4, 2\) of another layout, but numbers"),
        ("observation", np.array([["a", "b"]] * 4), r"is <U1 array \(4, 2\), but numbers \(4, n\)"),
        ("observation", {1: torch.ones(4, 2)}, "Wrong.observation has one named 1, but names are str"),
        ("success", torch.ones(4), "Wrong.success is there after a step, but was not after the first reset"),
    ],
)
def test_what_an_object_gets_wrong_is_one_line(attribute, value, words):
    class Wrong(Counting):
        def step(self, action):
            super().step(action)
            if attribute not in ("num_envs", "action_dim", "episode_length"):
                setattr(self, attribute, value)

    env = Wrong()
    if attribute in ("num_envs", "action_dim", "episode_length"):
        setattr(env, attribute, value)
    if value is None and attribute == "observation":
        env = type("Nothing", (), {name: getattr(Counting, name) for name in ("reset", "step", "action_dim")})()
        words = "environment is a Nothing, which lacks num_envs, episode_length"
    with pytest.raises(ConfigError, match=words) as error:
        torch_ppo.train(env, run_evals=False, **SMALL)
    assert "\n" not in str(error.value)


def needs_more(envs):
    return Counting(envs)


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        (
            needs_more,
            {},
            r"needs_more\(envs\) does not take num_envs; def needs_more\(num_envs, device, seed\) would work",
        ),
        (Counting(), {}, "eval_env is None, but the environment Counting cannot also be the one that is evaluated in"),
        (make_env, {"episode_length": 7}, "episode_length is 7, but Counting has 4 of its own; leave it out"),
        (make_env, {"physics": "warp"}, "physics = 'warp' has no effect in make_env, which is not simulated here"),
        (make_env, {"history": 2}, "history = 2 has no effect in make_env"),
        (make_env, {"capture": "physics"}, "capture = physics has nothing to record of make_env"),
        ("gym:Pendulum-v1", {"wrap_env": 1}, "wrap_env is 1, but must be True or False"),
    ],
)
def test_what_cannot_be(given, options, words):
    with pytest.raises(ConfigError, match=words):
        torch_ppo.train(given, **{**SMALL, **options})


def test_only_a_checkpoint_of_the_same_kind_is_gone_on_with():
    config = Config(**{**SMALL, "run_evals": False})
    saved = TrainingState(config, source_of(lambda num_envs: Stateful(num_envs))).checkpoint()
    with pytest.raises(ValueError):
        TrainingState(
            dataclasses.replace(config, num_envs=2), source_of(lambda num_envs: Stateful(num_envs))
        ).load_checkpoint(saved)


class KeepsNumbers(Stateful):
    def state(self):
        return {"counts": {"now": self.count.tolist()}}


def test_a_state_that_no_checkpoint_can_hold_is_refused():
    env = completed(KeepsNumbers(), device=torch.device("cpu"))
    with pytest.raises(
        ConfigError, match=r"KeepsNumbers\.state\(\)\['counts'\]\['now'\] is list, but must be a tensor"
    ):
        env.state()


def needs_more(num_envs, level):
    raise AssertionError("is not called")


def makes_nothing(num_envs):
    pass


def makes_half(num_envs):
    return torch.nn.Identity


def makes_a_task(num_envs):
    return ToyTask()


class OfNumpy(Counting):
    """Its arrays are not as torch has them: read-only, backwards, of the other order of bytes, longer than float64."""

    def _tell(self, reward):
        super()._tell(reward)
        self.observation = np.broadcast_to(self.observation[:, ::-1], (4, 2)).astype(">f8")
        self.observation.setflags(write=False)
        self.reward = reward.numpy()[::-1][::-1].astype(np.longdouble)
        self.metrics = {"count": np.flip(self.count.flip(0).numpy())}


def test_arrays_that_torch_does_not_take():
    env, same = (completed(kind(), device=torch.device("cpu"), keep_final=True) for kind in (OfNumpy, Counting))
    for _ in range(4):
        for each in (env, same):
            each.step(torch.ones(4, 1))
        assert torch.equal(env.observation["state"], same.observation["state"].flip(1))
        assert torch.equal(env.reward, same.reward) and torch.equal(env.metrics["count"], same.metrics["count"])


def attributes(**given):
    return type("Wrong", (Counting,), given)


class AtFirst(Counting):
    """Has something from its first reset on."""

    def __init__(self, **given):
        super().__init__()
        self.given = given

    def reset(self):
        super().reset()
        for name, value in self.given.items():
            setattr(self, name, value)


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (attributes(action_repeat=0)(), "Wrong.action_repeat is 0, but must be an int, 1 or greater"),
        (attributes(action_repeat=2.0)(), "Wrong.action_repeat is 2.0, but must be an int"),
        (attributes(reward_range=(1.0, -1.0))(), r"Wrong.reward_range is \(1.0, -1.0\), but must be two numbers"),
        (attributes(reward_range="high")(), "Wrong.reward_range is 'high', but must be two numbers"),
        (attributes(device="cuda")(), "Wrong.device is 'cuda', but device is cpu"),
        (attributes(device="gpu0")(), "Wrong.device is 'gpu0', but device is cpu"),
        (attributes(reset=lambda self, seed: None)(), r"Wrong.reset is called as reset\(\), but missing .* 'seed'"),
        (attributes(step=lambda self: None)(), r"Wrong.step is called as step\(action\), but too many"),
        (
            AtFirst(metrics={"length": torch.zeros(4)}),
            "has a metric 'length', but that is what lengths of episodes are",
        ),
        (AtFirst(metrics={"reward": torch.zeros(4)}), "has a metric 'reward', but that is what rewards are"),
        (
            AtFirst(metrics={"success_rate": torch.zeros(4)}, success=torch.zeros(4)),
            "has a metric 'success_rate', but that is what success is reported as",
        ),
        (
            AtFirst(metrics={1: torch.zeros(4)}),
            "AtFirst.metrics is a dict with 1, but must be a dict of numbers by name",
        ),
        (AtFirst(observation={}), "AtFirst.observation has none in it"),
        (AtFirst(observation=torch.zeros(4, 0)), r"AtFirst.observation\['state'\] has no numbers in it"),
        (AtFirst(observation=torch.full((4, 2), torch.nan)), r"observation\['state'\] is inf or NaN after its reset"),
    ],
)
def test_what_an_object_says_of_itself_is_one_line(env, words):
    with pytest.raises(ConfigError, match=words) as error:
        torch_ppo.train(env, run_evals=False, **SMALL)
    assert "\n" not in str(error.value)


def test_what_an_object_may_leave_open():
    plain = completed(AtFirst(metrics=None, name=None, reward_range=None, device=None), device=torch.device("cpu"))
    assert plain.metrics == {} and plain.name == "AtFirst" and plain.reward_range == (-float("inf"), float("inf"))
    env = completed(attributes(episode_length=np.int64(4), name="count")(), device=torch.device("cpu"))
    assert type(env.episode_length) is int and env.name == "count"


def test_a_repeat_of_its_own_is_said():
    """Env steps are counted by it."""
    twice = attributes(action_repeat=2, episode_length=8)
    with pytest.raises(
        ConfigError, match="action_repeat is 1, but Wrong has 2 of its own; action_repeat = 2 would work"
    ):
        torch_ppo.train(lambda num_envs: twice(num_envs), **SMALL)
    _, _, metrics = torch_ppo.train(lambda num_envs: twice(num_envs), action_repeat=2, **SMALL)
    assert metrics["eval/avg_episode_length"] == 2 * (1 + 3 + 3 + 3) / 4


@pytest.mark.parametrize(("length", "said"), [(2, True), (3, False)])
def test_an_episode_longer_than_is_said(length, said, caplog):
    env = completed(attributes(episode_length=length, name=f"of {length}")(), device=torch.device("cpu"))
    for _ in range(6):
        env.step(torch.zeros(4, 1))
    asked = f"of {length}.episode_length is {length}, but an episode goes on after so many env steps"
    assert any(asked in record.getMessage() for record in caplog.records) == said


class NaNAtRestart(Counting):
    """What env 1 sees of its second episode's beginning is NaN, and of nothing else."""

    restarts = 0

    def step(self, action):
        super().step(action)
        self.restarts += bool(self.truncation[1])
        if self.truncation[1] and self.restarts == 1:
            self.observation = torch.tensor(self.observation)
            self.observation[1] = torch.nan


@pytest.mark.parametrize("keep_final", [True, False])
def test_the_first_observation_of_a_later_episode_breaks_a_world(keep_final):
    env = completed(NaNAtRestart(), device=torch.device("cpu"), keep_final=keep_final)
    causes = []
    for _ in range(7):
        env.step(torch.zeros(4, 1))
        causes.append(env.broken.cause[1].item() - env.broken.causes.index('observation "state"'))
        assert env.broken.cause.count_nonzero() == (causes[-1] == 1)
    # Without the observation before a restart the step that led to it is already one that cannot be told from it.
    assert [cause == 1 for cause in causes] == [False, False, not keep_final, True, False, False, False]


ONE = Counting()


def makes_the_same(num_envs):
    return ONE


def needs_more_to_wrap(env):
    raise AssertionError("is not called")


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (needs_more, r"needs_more\(num_envs, level\) needs level, but is called with num_envs, device, seed"),
        (makes_nothing, "makes_nothing returns None"),
        (makes_half, "what makes_half returns is <class"),
        (makes_a_task, "makes_a_task returns .*, a task of which Env makes envs; give the task itself"),
        (makes_the_same, "makes_the_same returns the same Counting again"),
    ],
)
def test_a_function_that_makes_no_envs(function, words):
    with pytest.raises(ConfigError, match=words):
        torch_ppo.train(function, **SMALL)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Pendulum-v1", "there is no env 'Pendulum-v1'; gym:Pendulum-v1 would be gymnasium's"),
        ("gymnasium:Pendulum-v1", "gym:Pendulum-v1 would be gymnasium's"),
        ("mujoco_playground:CartpoleBalance", "playground:CartpoleBalance would be"),
    ],
)
def test_names_of_other_libraries_without_our_prefix(name, words):
    with pytest.raises(ConfigError, match=words):
        source_of(name)


@pytest.mark.parametrize("name", ["gym:Pendulum-v1", "gymnasium:Pendulum-v1", "Pendulum-v1"])
def test_make_task_says_what_makes_envs_of_others(name):
    with pytest.raises(
        ConfigError, match=f"{name} is no task, .* of gymnasium, .*make_env..gym:Pendulum-v1., num_envs"
    ):
        torch_ppo.make_task(name)


def test_our_own_task_by_somebody_elses_name():
    """Which docs/task_list.md gives."""
    assert type(torch_ppo.make_task("Ant-v5")).__name__ == source_of("Ant-v5").name == "Ant"


def test_what_needs_our_own_simulation_says_so():
    with pytest.raises(ConfigError, match="gym:Pendulum-v1 is not simulated here"):
        simulated_task("gym:Pendulum-v1")


def test_how_wrap_env_fn_is_called():
    with pytest.raises(ConfigError, match=r"is called as wrap_env_fn\(env, episode_length=.*unexpected keyword"):
        torch_ppo.train(ToyTask(), wrap_env_fn=needs_more_to_wrap, **SMALL)


def test_the_same_object_is_not_evaluated_in():
    with pytest.raises(ConfigError, match="eval_env is the same object"):
        torch_ppo.train(ONE, eval_env=ONE, **SMALL)


@pytest.mark.slow
def test_the_page_s_own_environment_is_learned(tmp_path):
    """`file.py:make_env`, with the code of docs/environments.md."""
    page = (Path(__file__).parents[2] / "docs" / "environments.md").read_text()
    file = tmp_path / "my_envs.py"
    file.write_text(page.split("```python\n")[1].split("```")[0])
    rewards = []
    torch_ppo.train(
        f"{file}:make_env", 40_000, num_envs=64, batch_size=64, num_minibatches=8, unroll_length=10,
        num_updates_per_batch=8, learning_rate=1e-3, discounting=0.9, num_evals=2, num_eval_envs=64,
        deterministic_eval=True, policy_hidden_layer_sizes=(32, 32), value_hidden_layer_sizes=(32, 32), torch_threads=1,
        progress_fn=lambda step, metrics: rewards.append(metrics["eval/episode_reward"]),
    )  # fmt: skip
    assert rewards[0] < 46.0 and rewards[-1] > 48.5  # of 50; an episode begins 0.25 away
