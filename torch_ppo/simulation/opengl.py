"""OpenGL without a window, where there is any."""

import os
import sys


def has_display() -> bool:
    """Whether a window can be expected to open."""
    return not sys.platform.startswith("linux") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def gl_context(width: int, height: int) -> object:
    """An OpenGL context: the one that MUJOCO_GL or the display asks for, EGL where there is neither."""
    if os.environ.get("MUJOCO_GL") or has_display():
        from mujoco.gl_context import GLContext
    else:
        from mujoco.egl import GLContext
    return GLContext(width, height)
