"""Recording, as far as it can be seen without CUDA: who is told what in which order, and what is said when it fails."""

import contextlib
import gc
import types

import mujoco
import pytest
import torch
import warp as wp

from torch_ppo.envs import make_task
from torch_ppo.simulation import capture, warp_engine
from torch_ppo.simulation.env import Env
from torch_ppo.simulation.warp_engine import WarpPhysics

CUDA_DEVICE = torch.device("cuda", 0)
CPU = torch.device("cpu")


class FakeCuda:
    """Stands in for what `capture` asks of torch and Warp, and writes down what it was asked."""

    def __init__(self, monkeypatch):
        self.log, self.warp_graph = [], object()
        self.ids = iter([7, 7])
        self.failing: set[str] = set()
        cuda = torch.cuda
        graph = types.SimpleNamespace(
            register_generator_state=lambda generator: self.says("generator"), replay=lambda: self.says("replay")
        )
        monkeypatch.setattr(cuda, "Stream", lambda device: types.SimpleNamespace(wait_stream=self.wait))
        monkeypatch.setattr(cuda, "CUDAGraph", lambda: graph)
        monkeypatch.setattr(cuda, "current_stream", lambda device: "the stream before")
        monkeypatch.setattr(cuda, "default_stream", lambda device: "the default stream")
        monkeypatch.setattr(cuda, "synchronize", lambda device: self.says("synchronize"))
        monkeypatch.setattr(cuda, "device", lambda device: self.scope(f"{device}"))
        monkeypatch.setattr(
            cuda, "stream", lambda stream: self.scope(stream if isinstance(stream, str) else "torch stream")
        )
        monkeypatch.setattr(cuda, "graph", lambda graph, stream, capture_error_mode: self.scope(capture_error_mode))
        monkeypatch.setattr(wp, "stream_from_torch", lambda stream: "Warp's stream")
        monkeypatch.setattr(wp, "ScopedStream", self.scope)
        monkeypatch.setattr(wp, "capture_begin", self.capture_begin)
        monkeypatch.setattr(wp, "capture_end", self.capture_end)
        monkeypatch.setattr(capture, "capture_id", lambda stream: next(self.ids))

    def says(self, text):
        self.log.append(text)
        if text in self.failing:
            raise RuntimeError(f"{text}: operation failed due to a previous error during capture")

    def wait(self, stream):
        self.says(f"waits for {stream}")

    @contextlib.contextmanager
    def scope(self, name):
        self.says(f"{name} begins")
        try:
            yield
        finally:
            self.says(f"{name} ends")

    def capture_begin(self, *, stream, external, force_module_load, capture_mode):
        assert external and not force_module_load
        self.says(f"capture on {stream} begins, {capture_mode.name}")

    def capture_end(self, *, stream):
        self.says(f"capture on {stream} ends")
        return self.warp_graph


@pytest.fixture
def fake(monkeypatch):
    return FakeCuda(monkeypatch)


def test_order_of_a_recording(fake):
    def work():
        assert capture.in_a_recording()
        fake.says("work" if gc.isenabled() else "work without garbage collection")

    generators = [types.SimpleNamespace(device=device) for device in (CPU, CUDA_DEVICE)]
    replay = capture.capture_cuda(work, CUDA_DEVICE, generators, with_warp=True)
    assert fake.log == [
        "generator",
        "waits for the stream before",
        "cuda:0 begins",
        "the stream before begins",
        "Warp's stream begins",
        "torch stream begins",
        *["work"] * capture.WARMUP_RUNS,
        "torch stream ends",
        "synchronize",
        "relaxed begins",
        "capture on Warp's stream begins, RELAXED",
        "work without garbage collection",
        "capture on Warp's stream ends",
        "relaxed ends",
        "Warp's stream ends",
        "the stream before ends",
        "cuda:0 ends",
        "synchronize",
    ]
    assert gc.isenabled() and not capture.in_a_recording()
    replay()
    assert fake.log[-1] == "replay"
    assert fake.warp_graph in replay.keeps, "the kernels that torch's graph launches could be unloaded"


def test_the_first_cause_of_a_failure_is_told(fake):
    """What ends a broken capture complains as well."""
    fake.failing = {"capture on Warp's stream ends", "relaxed ends"}
    runs = []

    def work():
        runs.append(None)
        if len(runs) > capture.WARMUP_RUNS:
            raise ValueError("the real reason")

    with pytest.raises(RuntimeError, match=r"work could not be captured on cuda:0: the real reason; with --capture"):
        capture.capture_cuda(work, CUDA_DEVICE, [], with_warp=True)
    assert "relaxed ends" in fake.log
    assert fake.log[-3:] == ["Warp's stream ends", "the stream before ends", "cuda:0 ends"]
    assert gc.isenabled() and not capture.in_a_recording()


def test_a_capture_that_became_another_is_an_error(fake):
    fake.ids = iter([7, 8])
    with pytest.raises(RuntimeError, match="could not be captured on cuda:0: Warp's loops have changed the capture's"):
        capture.capture_cuda(lambda: None, CUDA_DEVICE, [], with_warp=True)
    assert "capture on Warp's stream ends" in fake.log


def test_warp_has_the_call_for_the_id_of_a_capture():
    assert callable(wp._src.context.runtime.core.wp_cuda_stream_get_capture_id)


def test_a_failed_capture_of_warps_names_the_first_cause(monkeypatch):
    @contextlib.contextmanager
    def failing(device):
        try:
            yield
        finally:
            raise RuntimeError("CUDA graph capture failed")

    monkeypatch.setattr(wp, "ScopedCapture", failing)
    runs = []

    def work():
        runs.append(None)
        if len(runs) == 2:
            raise ValueError("the real reason")

    with pytest.raises(RuntimeError, match="work could not be captured on cpu: the real reason"):
        capture.capture_warp(work, wp.get_device("cpu"))


def test_warp_follows_a_stream_of_torchs(fake, monkeypatch):
    with capture.on_torch_stream(CUDA_DEVICE):
        assert fake.log == ["Warp's stream begins"]
    fake.log.clear()
    with capture.recording(), capture.on_torch_stream(CUDA_DEVICE):
        assert fake.log == []  # the one that Warp knows the capture by stays
    with capture.on_torch_stream(CPU):
        assert fake.log == []
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "the default stream")
    with capture.on_torch_stream(CUDA_DEVICE):
        assert fake.log == []


def physics_of(name, num_envs=2, **options):
    task = make_task(name)
    return WarpPhysics(task.make_model(), num_envs, device=CPU, nconmax=task.nconmax, njmax=task.njmax, **options)


@pytest.mark.parametrize("captured", [False, True])
def test_every_launch_of_physics_follows_torchs_stream(monkeypatch, captured):
    physics, entered = physics_of("cartpole", capture=captured), []

    @contextlib.contextmanager
    def scope(device):
        entered.append("in")
        yield
        entered.append("out")

    monkeypatch.setattr(warp_engine, "on_torch_stream", scope)
    monkeypatch.setattr(warp_engine.mjw, "step", lambda model, data: entered.append("launches"))
    monkeypatch.setattr(warp_engine.mjw, "forward", lambda model, data: entered.append("launches"))
    for _ in range(2):
        physics.step(1)
        physics.forward()
    text = " ".join(entered)
    assert "out launches" not in text and not text.startswith("launches") and text.count("in") == 4


def test_a_cuda_device_without_a_number_is_torchs_current_one(monkeypatch):
    asked = []

    def device_from_torch(device):
        asked.append(device)
        raise RuntimeError("far enough")

    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(wp, "is_cuda_available", lambda: True)
    monkeypatch.setattr(wp, "device_from_torch", device_from_torch)
    model = mujoco.MjModel.from_xml_string("<mujoco/>")
    for device in ("cuda", "cuda:1"):
        with pytest.raises(RuntimeError, match="far enough"):
            WarpPhysics(model, 1, device=torch.device(device))
    assert asked == [torch.device("cuda", 3), torch.device("cuda", 1)]


@pytest.fixture
def launches(monkeypatch):
    """Names of what Python has Warp do."""
    found = []
    for name in ("launch", "launch_tiled", "capture_while", "capture_if", "copy"):
        original = getattr(wp, name)

        def counted(*args, name=name, original=original, **kwargs):
            found.append(name)
            return original(*args, **kwargs)

        monkeypatch.setattr(wp, name, counted)
    return found


@pytest.mark.parametrize("name", ["cartpole", "cheetah_run"])
def test_a_reset_is_replayed(launches, name):
    """Cheetah settles for 200 timesteps in its start: 75 launches from Python for each would be a second on CUDA."""
    counts = {}
    for captured in (True, False):
        env = Env(
            make_task(name),
            2,
            episode_length=10,
            device=CPU,
            generator=torch.Generator().manual_seed(0),
            engine="warp",
            capture=captured,
        )
        launches.clear()
        env.reset()
        counts[captured] = len(launches)
    assert counts[True] == 0
    assert counts[False] > 40  # the counter counts


def test_within_another_recording_physics_launches_its_work_itself(launches, differences):
    recorded, plain = physics_of("cheetah_run"), physics_of("cheetah_run", capture=False)
    states = []
    for physics in (recorded, plain):
        physics.qpos[:, 1] += 0.1
        physics.step(2)
        physics.forward()
        launches.clear()
        with capture.recording():
            physics.step(2)
            physics.forward()
        assert len(launches) > 80
        launches.clear()
        physics.step(2)
        physics.forward()
        assert (not launches) == (physics is recorded)
        states.append({name: x.clone() for name, x in physics.state().items()})
    assert differences(*states) == []


def test_a_recording_of_one_thread_is_not_anothers():
    import threading

    seen = []
    with capture.recording():
        thread = threading.Thread(target=lambda: seen.append(capture.in_a_recording()))
        thread.start()
        thread.join()
        assert capture.in_a_recording()
    assert seen == [False]
