"""MuJoCo Warp's ray tracer on the CPU: pictures without OpenGL. The first one of a model takes seconds of compiling."""

import mujoco
import mujoco_warp as mjw
import numpy as np
import warp as wp

from torch_ppo.errors import UserError

wp.config.log_level = wp.LOG_WARNING

# Where everything is; C MuJoCo has computed it.
POSES = ("geom_xpos", "geom_xmat", "cam_xpos", "cam_xmat", "light_xpos", "light_xdir")


class RayRenderer:
    """See `torch_ppo.showing.render.Renderer`. Draws geoms with their textures, and shadows; no sites, tendons or skins."""

    def __init__(self, model: mujoco.MjModel, camera: int, width: int, height: int) -> None:
        self._shape = (height, width, 4)
        with wp.ScopedDevice("cpu"):
            try:
                self._model = mjw.put_model(model)
            except NotImplementedError as error:
                raise UserError(f"MuJoCo Warp cannot draw this model ({error}); --renderer gl may") from None
            self._data = mjw.make_data(model, nworld=1)
            self._context = mjw.create_render_context(
                model,
                cam_res=(width, height),
                cam_active=[camera],
                render_rgb=True,
                render_depth=False,
                render_seg=False,
                use_shadows=True,
                render_skybox=True,
                samples_per_pixel=2,
            )

    def draw(self, data: mujoco.MjData) -> np.ndarray:
        with wp.ScopedDevice("cpu"):
            for name in POSES:
                array = getattr(self._data, name)
                array.assign(getattr(data, name).reshape(array.numpy().shape))
            mjw.refit_bvh(self._model, self._data, self._context)
            mjw.render(self._model, self._data, self._context)
            pixels = self._context.rgb_data.numpy().view(np.uint8).reshape(self._shape)  # blue, green, red, alpha
        return np.ascontiguousarray(pixels[:, :, 2::-1])

    def close(self) -> None:
        """There is nothing to give back."""
