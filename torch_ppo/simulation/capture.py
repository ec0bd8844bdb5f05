"""Recording work as a graph that is replayed: how it is done with Warp's launches alone, and with torch's as well.

On the CPU, Warp's own recording is replayed in C++, bit-identical to eager launches. On CUDA both give CUDA graphs.
"""

import contextlib
import gc
import threading
from collections.abc import Callable, Iterable, Iterator

import torch
import warp as wp

# How strict CUDA is about other work during a capture: the one that allows most, for Warp opens and closes captures of
# its own around loops whose length the device decides. Isaac Lab records MuJoCo Warp in the same mode.
CAPTURE_MODE = "relaxed"
# Runs before recording: they compile kernels, fill caches, and settle the allocators.
WARMUP_RUNS = 3


class _Thread(threading.local):
    recordings = 0


_thread = _Thread()


def in_a_recording() -> bool:
    """Whether this thread is recording a function as a CUDA graph, or warming it up for that.

    What has a graph of its own then launches its work one by one, for there is no graph inside another.
    """
    return _thread.recordings > 0


@contextlib.contextmanager
def recording() -> Iterator[None]:
    """Inside, `in_a_recording` is true in this thread."""
    _thread.recordings += 1
    try:
        yield
    finally:
        _thread.recordings -= 1


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """An array or graph that dies during a capture can break it."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def first_cause(error: BaseException) -> BaseException:
    """What went wrong first: whatever ends a capture that has failed raises in turn, and says only that it has."""
    while error.__context__ is not None:
        error = error.__context__
    return error


def on_torch_stream(device: torch.device) -> contextlib.AbstractContextManager:
    """Inside, Warp launches on the stream that is torch's current one on `device`.

    Warp has a stream of its own, which CUDA keeps in order with the legacy default stream, and that is torch's default
    one: there, nothing is to be done. All other streams of torch's would race with Warp's. Nor is anything to be done
    in a recording, which has put both on one stream.
    """
    if device.type != "cuda" or in_a_recording():
        return contextlib.nullcontext()
    stream = torch.cuda.current_stream(device)
    if stream == torch.cuda.default_stream(device):
        return contextlib.nullcontext()
    return wp.ScopedStream(wp.stream_from_torch(stream))


def capture_warp(function: Callable[[], None], device: wp.Device) -> Callable[[], None]:
    """A function that replays the Warp launches of `function`, which must work on fixed arrays only.

    `function` runs once before recording, to compile and load its kernels: it changes state, restore it after.
    Raises RuntimeError, naming the function, if it cannot be captured.
    """
    with wp.ScopedDevice(device):
        function()
        wp.synchronize_device(device)
        try:
            with no_garbage_collection(), wp.ScopedCapture(device=device) as recorded:
                function()
        except Exception as error:
            raise RuntimeError(
                f"{function.__qualname__} could not be captured on {device}: {first_cause(error)}"
            ) from error

    def replay() -> None:
        with wp.ScopedDevice(device):
            wp.capture_launch(recorded.graph)

    return replay


def capture_cuda(
    function: Callable[[], None], device: torch.device, generators: Iterable[torch.Generator], *, with_warp: bool
) -> Callable[[], None]:
    """A function that replays all that `function` does on the device as one CUDA graph: torch's work, and Warp's too.

    `function` must work on fixed tensors only. It runs a few times before recording: restore the state after.
    Random numbers are drawn anew at each replay if they come from `generators`.
    Raises RuntimeError, naming the function, if it cannot be captured.
    """
    stream = torch.cuda.Stream(device)
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        if generator.device.type == "cuda":
            graph.register_generator_state(generator)
    before = torch.cuda.current_stream(device)
    stream.wait_stream(before)
    warp_graphs: list[wp.Graph] = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(recording())
        stack.enter_context(torch.cuda.device(device))
        # A capture that fails leaves torch on its stream.
        stack.enter_context(torch.cuda.stream(before))
        if with_warp:
            # Warp finds a running capture by this very object. Entered before any capture, for it waits for an event.
            warp_stream = wp.stream_from_torch(stream)
            stack.enter_context(wp.ScopedStream(warp_stream))
        with torch.cuda.stream(stream):
            for _ in range(WARMUP_RUNS):
                function()
        torch.cuda.synchronize(device)
        gc.collect()  # frees what the warm-up left in cycles
        stack.enter_context(no_garbage_collection())
        try:
            with torch.cuda.graph(graph, stream=stream, capture_error_mode=CAPTURE_MODE):
                if with_warp:
                    with warp_joins_capture(warp_stream, warp_graphs):
                        function()
                else:
                    function()
        except Exception as error:
            raise RuntimeError(
                f"{function.__qualname__} could not be captured on {device}: {first_cause(error)}; "
                "with --capture physics only the physics is"
            ) from error
    torch.cuda.synchronize(device)

    def replay() -> None:
        graph.replay()

    # Warp's object keeps its kernels, and buffers of deterministic ones, where torch's graph expects them.
    replay.keeps = (*warp_graphs, stream)
    return replay


@contextlib.contextmanager
def warp_joins_capture(stream: wp.Stream, graphs: list[wp.Graph]) -> Iterator[None]:
    """Tells Warp that torch is capturing on `stream`: without that its while-loops would try to synchronise.

    What Warp made of it is added to `graphs`. Raises RuntimeError if another capture is under way at the end: torch
    tells its graph's memory and random numbers from others by the capture's id, and Warp ends and resumes captures
    around loops.
    """
    mode = getattr(wp.CaptureMode, CAPTURE_MODE.upper())
    wp.capture_begin(stream=stream, external=True, force_module_load=False, capture_mode=mode)
    id_at_first = capture_id(stream)
    try:
        yield
        if capture_id(stream) != id_at_first:
            raise RuntimeError("Warp's loops have changed the capture's id, so torch's memory would not belong to it")
    except BaseException:
        with contextlib.suppress(Exception):  # it only says that the capture has failed
            wp.capture_end(stream=stream)
        raise
    graphs.append(wp.capture_end(stream=stream))


def capture_id(stream: wp.Stream) -> int:
    """CUDA's number of the capture that is under way on `stream`; 0 if there is none."""
    return wp._src.context.runtime.core.wp_cuda_stream_get_capture_id(stream.cuda_stream)
