"""Recording physics as a graph that is replayed: the one place where it is decided.

On CUDA this is a CUDA graph recorded by Warp; on the CPU it is Warp's own recording, replayed in C++, which is
bit-identical to eager launches. Torch code cannot be recorded this way; a graph of a whole unroll is another level.
"""

import gc
from collections.abc import Callable

import warp as wp


def capture_warp(function: Callable[[], None], device: wp.Device) -> Callable[[], None]:
    """A function that replays the Warp launches of `function`, which must work on fixed arrays only.

    `function` runs once before recording, to compile and load its kernels: it changes state, restore it after.
    Raises RuntimeError, naming the function, if it cannot be captured.
    """
    with wp.ScopedDevice(device):
        function()
        wp.synchronize_device(device)
        # An array or graph that dies during a capture can break it.
        gc.collect()
        gc.disable()
        try:
            with wp.ScopedCapture(device=device) as recorded:
                function()
        except Exception as error:
            raise RuntimeError(f"{function.__qualname__} could not be captured on {device}: {error}") from error
        finally:
            gc.enable()

    def replay() -> None:
        with wp.ScopedDevice(device):
            wp.capture_launch(recorded.graph)

    return replay
