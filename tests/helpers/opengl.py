"""Whether C MuJoCo can draw what a policy sees, here."""

import functools

from tests.helpers.ball import BallTask
from torch_ppo.simulation.mujoco_views import MujocoViews
from torch_ppo.simulation.views import ViewError


@functools.cache
def has_opengl() -> bool:
    """Whether there is an OpenGL that draws without a window."""
    task = BallTask()
    try:
        MujocoViews(task.make_model(), task.views, 1)
    except ViewError:
        return False
    return True
