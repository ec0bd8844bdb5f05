"""Many trainings in one process, one after the other and at the same time: none costs another anything."""

import gc
import shutil
import threading
import time
import weakref

import pytest
import torch

import torch_ppo
from tests.helpers.toy import ToyTask
from torch_ppo.learning.train_step import training_step
from torch_ppo.learning.update import Learner
from torch_ppo.running import accelerate
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config

SETTINGS = {
    "num_timesteps": 10**6,
    "num_minibatches": 2,
    "unroll_length": 4,
    "episode_length": 9,
    "run_evals": False,
    "policy_hidden_layer_sizes": (8,),
    "value_hidden_layer_sizes": (8,),
    "device": "cpu",
    "compile": True,
}


class Accumulator:
    """Something with a size and a state, as a collector has them."""

    def __init__(self, size):
        self.total = torch.zeros(size)

    def add(self, x, *, twice=False):
        self.total.add_(x).mul_(2.0 if twice else 1.0)
        return self.total.sum()

    @torch.no_grad()
    def scale(self, x):
        self.total.mul_(x)


def doubled(x):
    return 2.0 * x


@pytest.fixture
def quick_compiler(monkeypatch):
    """torch.compile without making code of what it found: what goes wrong with many goes wrong before that."""
    monkeypatch.setattr(accelerate, "BACKEND", "eager")


def test_a_copy_of_a_function_is_the_function_with_code_of_its_own():
    accumulator = Accumulator(3)
    copy = accelerate.own_copy(accumulator.add)
    assert copy(torch.ones(3), twice=True).item() == 6.0 and accumulator.total.tolist() == [2.0] * 3
    assert copy.__self__ is accumulator and copy.__func__.__code__ is not Accumulator.add.__code__
    assert copy.__qualname__ == "Accumulator.add"
    three = 3.0

    def with_closure(x, factor=2.0):
        return x * factor * three

    assert accelerate.own_copy(with_closure)(1.0) == 6.0
    assert accelerate.own_copy(torch.sin) is torch.sin  # nothing of Python's to copy


def test_twelve_sizes_are_compiled_and_forgotten(quick_compiler):
    """torch refuses the ninth of one piece of code; sound ones go on working beside the others."""
    kept = []
    for size in range(1, 13):
        accumulator = Accumulator(size)
        functions = (accumulator.add, accumulator.scale, doubled)
        kept.append((*map(accelerate.compiled, functions), accumulator))
        for add, scale, double, own in kept:  # all that there are, in turn
            x = torch.ones_like(own.total)
            add(x)
            scale(x)
            assert double(x).shape == x.shape
    assert [own.total[0].item() for *_, own in kept] == list(range(12, 0, -1))
    dead = [weakref.ref(own) for *_, own in kept]
    del kept, add, scale, own, functions, accumulator
    gc.collect()
    assert not any(ref() for ref in dead)


def make_state(i, **settings):
    size = 4 * (1 + i)
    return TrainingState(Config(**{**SETTINGS, "num_envs": size, "batch_size": size, "seed": i, **settings}), ToyTask())


def learned(state, steps=2):
    for _ in range(steps):
        metrics = training_step(state.collector, state.learner)
    return metrics.clone(), state.learner.flat.detach().clone()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own, while it compiles
def test_two_trainings_at_the_same_time(quick_compiler):
    """In turn, of other sizes; each ends where it ends alone, but for the rounding of another Adam."""
    alone = [learned(make_state(i, compile=False), 3) for i in range(2)]
    states = [make_state(i) for i in range(2)]
    for _ in range(3):
        together = [learned(state, 1) for state in states]
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def settings_of_torch():
    return {
        "dynamo": torch._dynamo.config.get_config_copy(),
        "inductor": torch._inductor.config.get_config_copy(),
        "functorch": torch._functorch.config.get_config_copy(),
        "precision": torch.get_float32_matmul_precision(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "fill": torch.utils.deterministic.fill_uninitialized_memory,
        "grad": torch.is_grad_enabled(),
        "dtype": torch.get_default_dtype(),
        "random": torch.get_rng_state(),
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torch_is_left_as_it_was(quick_compiler, differences):

    before, inside = settings_of_torch(), []

    def look(step, metrics):
        inside.append(settings_of_torch()["precision"])

    settings = {**SETTINGS, "num_envs": 4, "batch_size": 4, "matmul_precision": "medium", "torch_threads": 2}
    del settings["num_timesteps"]
    torch_ppo.train(ToyTask(), 64, progress_fn=look, **settings)
    assert inside == ["medium"]
    assert differences(settings_of_torch(), before) == []


def test_the_current_cuda_device_is_left_as_it_was(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    with accelerate.torch_left_as_it_was():
        pass
    assert chosen == []  # CUDA is not woken
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    with accelerate.torch_left_as_it_was():
        torch.cuda.set_device(0)
    assert chosen == [0, 2]


def test_autograd_is_traced_within():
    """Of a training, in all threads that have one, whichever ends first."""
    config, traced, found = torch._dynamo.config, accelerate.traced_autograd, []
    assert not config.trace_autograd_ops
    within, ends = threading.Event(), threading.Event()

    def another_training():
        with traced:
            found.append(config.trace_autograd_ops)
            within.set()
            ends.wait(20)

    thread = threading.Thread(target=another_training)
    thread.start()
    within.wait(20)
    with traced:
        with traced:
            assert config.trace_autograd_ops
        assert config.trace_autograd_ops
        ends.set()
        thread.join()
        assert config.trace_autograd_ops
    assert found == [True] and not config.trace_autograd_ops
    with traced:
        thread = threading.Thread(target=another_training)
        thread.start()
        thread.join()
        assert config.trace_autograd_ops
    assert found == [True, True] and not config.trace_autograd_ops
    with pytest.raises(ValueError, match="within"), traced:
        raise ValueError("within")
    assert not config.trace_autograd_ops


def test_what_is_compiled_is_compiled_apart(monkeypatch):
    """None of the four functions has code that another training, or the class, has."""
    given = []
    monkeypatch.setattr(torch, "compile", lambda function, **options: given.append(function) or function)
    states = [make_state(i) for i in range(2)]
    names = {function.__name__ for function in given}
    assert names == {"act", "after_physics", "minibatch_gradient", "finish_sgd_step"}
    found = {id(getattr(function, "__func__", function).__code__) for function in given}
    assert len(found) == 8 == len(given) and len(states) == 2
    assert id(Learner.minibatch_gradient.__code__) not in found


def resident_megabytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_twelve_compiled_trainings_in_one_process():
    """The last is as fast as it is alone, and what the others had is gone.

    torch keeps the guards of what it once compiled, a few megabytes for a training.
    """

    def milliseconds(state):
        times = []
        for _ in range(100):
            started = time.perf_counter()
            training_step(state.collector, state.learner)
            times.append(time.perf_counter() - started)
        return 1e3 * min(times)

    alone = milliseconds(make_state(11))
    dead, sizes = [], []
    for i in range(12):
        state = make_state(i)
        last = milliseconds(state)
        dead += [weakref.ref(state), weakref.ref(state.env), weakref.ref(state.learner.flat)]
        del state
        gc.collect()
        sizes.append(resident_megabytes())
    assert not any(ref() for ref in dead)
    assert last < 1.3 * alone
    assert sizes[-1] - sizes[2] < 10 * 9, sizes


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_two_compiled_trainings_in_threads(differences):
    alone = [learned(make_state(i), 3) for i in range(2)]
    together = {}

    def work(i):
        together[i] = learned(make_state(i), 3)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(together) == 2
    assert differences([together[i] for i in range(2)], alone) == []
