"""MuJoCo's profiler, which its Python package always has on: two looks at the clock around each part of each step.

For a cart-pole that is a third of a step, for a number that nobody reads here (`MjData.timer`).
"""

import ctypes

from mujoco import _callbacks


def _clock_of_profiler() -> ctypes.c_void_p:
    """MuJoCo's `mjcb_time`; without one nothing is timed. Its Python package has no way of saying that."""
    try:
        return ctypes.c_void_p.in_dll(ctypes.CDLL(_callbacks.__file__), "mjcb_time")
    except (OSError, ValueError, AttributeError):  # not found through the module on this system: it stays on
        return ctypes.c_void_p()


class _Unprofiled:
    """While it is entered MuJoCo times nothing; afterwards it has the clock that it had. Results are the same."""

    def __init__(self) -> None:
        self._slot, self._clock = _clock_of_profiler(), None

    def __enter__(self) -> None:
        if self._slot.value is not None:  # another thread may be inside, and leave first: then that one is timed again
            self._clock, self._slot.value = self._slot.value, None

    def __exit__(self, *error: object) -> None:
        self._slot.value = self._clock


unprofiled = _Unprofiled()
