"""Recording work as a graph that is replayed: how it is done with Warp's launches alone, and with torch's as well.

On the CPU, Warp's own recording is replayed in C++, bit-identical to eager launches. On CUDA both give CUDA graphs.
"""

import contextlib
import gc
from collections.abc import Callable, Iterable, Iterator

import torch
import warp as wp

# How strict CUDA is about other work during a capture: the one that allows most, for Warp opens and closes captures of
# its own around loops whose length the device decides. Isaac Lab records MuJoCo Warp in the same mode.
CAPTURE_MODE = "relaxed"
# Runs before recording: they compile kernels, fill caches, and settle the allocators.
WARMUP_RUNS = 3


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """An array or graph that dies during a capture can break it."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


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
            raise RuntimeError(f"{function.__qualname__} could not be captured on {device}: {error}") from error

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
    stream.wait_stream(torch.cuda.current_stream(device))
    with contextlib.ExitStack() as stack:
        if with_warp:
            # Warp finds a running capture by this very object. Entered before any capture, for it waits for an event.
            warp_stream = wp.stream_from_torch(stream)
            stack.enter_context(wp.ScopedStream(warp_stream))
        with torch.cuda.stream(stream):
            for _ in range(WARMUP_RUNS):
                function()
        torch.cuda.synchronize(device)
        stack.enter_context(no_garbage_collection())
        try:
            with torch.cuda.graph(graph, stream=stream, capture_error_mode=CAPTURE_MODE):
                if with_warp:
                    with warp_joins_capture(warp_stream):
                        function()
                else:
                    function()
        except Exception as error:
            raise RuntimeError(
                f"{function.__qualname__} could not be captured on {device}: {error}; "
                "with --capture physics only the physics is"
            ) from error
    torch.cuda.synchronize(device)
    return graph.replay


@contextlib.contextmanager
def warp_joins_capture(stream: wp.Stream) -> Iterator[None]:
    """Tells Warp that torch is capturing on `stream`: without that its while-loops would try to synchronise."""
    mode = getattr(wp.CaptureMode, CAPTURE_MODE.upper())
    wp.capture_begin(stream=stream, external=True, force_module_load=False, capture_mode=mode)
    try:
        yield
    finally:
        wp.capture_end(stream=stream)
