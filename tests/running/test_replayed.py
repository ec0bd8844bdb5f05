"""What is compiled and then replayed does what it does when torch.compile is asked at every call, or is asked at every call."""

import pytest
import torch

from torch_ppo.envs import make_task
from torch_ppo.learning.train_step import training_step
from torch_ppo.running import accelerate
from torch_ppo.running.accelerate import Replayed
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own, while it compiles


class Counted:
    """An object whose method is compiled; `asked` counts calls through torch.compile."""

    def __init__(self, monkeypatch):
        monkeypatch.setattr(accelerate, "BACKEND", "eager")
        self.total, self.factor, self.kept = torch.zeros(3), 2.0, torch.zeros(3)
        self.begins, self.asked = False, 0

    def asks(self):
        return self.begins

    def replayed(self, function):
        def compile_(function, **options):
            inner = accelerate.compiled(function, **options)

            def counted(*args):
                self.asked += 1
                return inner(*args)

            return counted

        return Replayed(function, self.asks, compile_)

    def add(self, x, y):
        self.total.add_(x * self.factor - y)
        return self.total + 1.0

    def only_write(self, x):
        self.total.add_(x)

    def add_to_attribute(self, x):
        self.total += x
        self.kept -= 2.0 * x

    def return_own(self, x):
        self.total.add_(x)
        return self.kept

    def replace(self, x):
        self.total = self.total + x
        return self.total * 1.0

    def leave_behind(self, x):
        self.kept = x * 3.0
        return x + 1.0


@pytest.fixture
def counted(monkeypatch):
    return Counted(monkeypatch)


def test_other_arguments_same_tensors(counted):
    add = counted.replayed(counted.add)
    total = torch.zeros(3)
    for i in range(6):
        x, y = torch.full((3,), float(i)), torch.arange(3.0)
        total += 2.0 * x - y
        assert torch.equal(add(x, y), total + 1.0) and torch.equal(counted.total, total)
    assert counted.asked == 2
    assert torch.equal(add(y, x), total + 2.0 * y - x + 1.0)


def test_one_that_only_writes(counted):
    write = counted.replayed(counted.only_write)
    for _ in range(5):
        assert write(torch.ones(3)) is None
    assert counted.total.tolist() == [5.0] * 3 and counted.asked == 2


def test_an_attribute_that_stays_where_it_is(counted):
    """`self.total += x` assigns what it already was."""
    add, names = counted.replayed(counted.add_to_attribute), counted.total
    for _ in range(5):
        assert add(torch.ones(3)) is None
    assert counted.total.tolist() == names.tolist() == [5.0] * 3 and counted.kept.tolist() == [-10.0] * 3
    assert counted.asked == 2


def test_what_changed_is_seen_where_it_asks(counted):
    add, zeros = counted.replayed(counted.add), torch.zeros(3)
    for _ in range(3):
        add(torch.ones(3), zeros)
    counted.factor, counted.begins = 100.0, True
    add(torch.ones(3), zeros)
    assert counted.total.tolist() == [106.0] * 3
    counted.begins = False
    for _ in range(3):
        add(torch.ones(3), zeros)
    assert counted.total.tolist() == [406.0] * 3 and counted.asked == 4


def test_another_tensor_is_seen_where_it_asks(counted):
    add, before = counted.replayed(counted.add), counted.total
    for _ in range(3):
        add(torch.ones(3), torch.zeros(3))
    counted.total, counted.begins = torch.zeros(3), True
    for _ in range(4):
        add(torch.ones(3), torch.zeros(3))
        counted.begins = False
    assert counted.total.tolist() == [8.0] * 3 and before.tolist() == [6.0] * 3


@pytest.mark.parametrize("name", ["replace", "leave_behind"])
def test_what_leaves_tensors_behind_is_asked_every_time(counted, name):
    function = counted.replayed(getattr(counted, name))
    for i in range(5):
        function(torch.full((3,), float(i)))
    assert counted.asked == 5
    assert (counted.total if name == "replace" else counted.kept / 1.2).tolist() == [10.0] * 3


def test_what_returns_a_tensor_of_its_object_is_asked_every_time(counted):
    function = counted.replayed(counted.return_own)
    assert all(function(torch.ones(3)) is counted.kept for _ in range(4))
    assert counted.total.tolist() == [4.0] * 3


def test_without_torch_compile(counted, monkeypatch):
    with torch.compiler.set_stance("force_eager"):
        add = counted.replayed(counted.add)
        for _ in range(4):
            add(torch.ones(3), torch.zeros(3))
    assert counted.total.tolist() == [8.0] * 3 and counted.asked == 4


def test_training_is_bit_for_bit_that_which_always_asks(monkeypatch, differences):
    """With episodes that end, a schedule, and blocks of which some are replayed from the second unroll on."""
    monkeypatch.setattr(accelerate, "BACKEND", "eager")
    batch = {"num_envs": 4, "batch_size": 4, "num_minibatches": 3, "num_updates_per_batch": 2, "unroll_length": 6}
    run = {"num_timesteps": 1000, "episode_length": 9, "run_evals": False, "learning_rate_schedule": "LINEAR"}
    config = Config(env="cartpole", compile=True, capture="none", **batch, **run)

    def trained():
        state = TrainingState(config, make_task("cartpole"))
        for _ in range(3):
            training_step(state.collector, state.learner)
        return state

    replayed = trained()
    learner, blocks = replayed.learner, replayed.collector.policy_steps
    for function in (blocks.compute, learner.minibatch_gradient, learner.finish_sgd_step):
        assert function._replay is not None
    monkeypatch.setattr(Replayed, "__call__", lambda self, *arguments: self._compiled(*arguments))
    assert differences(replayed.checkpoint(), trained().checkpoint()) == []
