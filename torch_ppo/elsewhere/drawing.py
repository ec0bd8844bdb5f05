"""Pictures of envs as they are now, one per world."""

import mujoco
import numpy as np

from torch_ppo.elsewhere.settings import PictureSettings
from torch_ppo.environments.contract import Environment, EnvironmentMisfit
from torch_ppo.errors import ConfigError, did_you_mean
from torch_ppo.showing.render import find_camera, make_renderer, model_of_pictures, show_state

MODES = ("rgb_array",)
RENDERERS = ("rays", "gl")


def drawing_of(env: Environment, settings: PictureSettings) -> "Drawing | None":
    """What draws `env` as is asked for; None without a `render_mode`. ConfigError for what then has no effect."""
    given = dict(settings)
    mode = given.pop("render_mode", None)
    if mode is None:
        for name, value in given.items():
            raise ConfigError(f'{name} = {value!r} has no effect without render_mode; "rgb_array" would draw')
        return None
    return Drawing(env, mode, **given)


class Drawing:
    """Draws worlds of `env`. UserError for what cannot be drawn. The first picture of a model takes seconds.

    frames_per_second:  at which its steps are real time
    """

    def __init__(
        self,
        env: Environment,
        mode: str,
        *,
        width: int = 320,
        height: int = 240,
        camera: str | None = None,
        renderer: str = "rays",
    ) -> None:
        if mode not in MODES:
            raise ConfigError(f"render_mode is {mode!r}, but must be {MODES[0]} or None{did_you_mean(mode, MODES)}")
        if renderer not in RENDERERS:
            raise ConfigError(f"renderer is {renderer!r}, but must be {' or '.join(RENDERERS)}")
        for name, value in (("width", width), ("height", height)):
            if not 16 <= value <= 4096:
                raise ConfigError(f"{name} is {value}, but must be from 16 to 4096")
        if env.task is None:
            raise EnvironmentMisfit(f"render_mode is {mode!r}, but {env.name} is no task of our kind; None would work")
        self._env, self._model = env, model_of_pictures(env)
        self._data = mujoco.MjData(self._model)
        self._renderer = make_renderer(renderer, self._model, find_camera(self._model, camera), width, height)

    def draw(self, world: int, *, at_end: bool = False) -> np.ndarray:
        """A world now, or, `at_end`, as its episode ended in this step; uint8 `(height, width, 3)`."""
        final = self._env.final_state[world] if at_end else None
        show_state(self._env, self._model, self._data, world, final)
        return self._renderer.draw(self._data)

    def close(self) -> None:
        """Gives back what it holds."""
        self._renderer.close()


def frames_per_second(env: Environment) -> int:
    """Policy steps in a second of the simulation, rounded; 1 where that is not known."""
    seconds = getattr(env.task, "control_dt", 1.0) * env.action_repeat
    return max(1, round(1 / seconds))
