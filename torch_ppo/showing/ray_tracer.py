"""MuJoCo Warp's ray tracer on the CPU: pictures without OpenGL. The first one of a model takes seconds of compiling."""

import contextlib
import copy

import mujoco
import mujoco_warp as mjw
import numpy as np
import warp as wp

from torch_ppo.errors import UserError
from torch_ppo.simulation.kernels import compiling_is_said, start_warp

start_warp()

# Where everything is; C MuJoCo has computed it.
POSES = ("geom_xpos", "geom_xmat", "cam_xpos", "cam_xmat", "light_xpos", "light_xdir")
SHOWN_GROUPS = (0, 1, 2)  # of geoms; MuJoCo's own default
LEAST_FRICTION = 1e-5


class RayRenderer:
    """See `torch_ppo.showing.render.Renderer`. Draws geoms with their textures, and shadows; no sites, tendons or skins.

    Of a body that is seen by its skin alone, the geoms are drawn that MuJoCo hides under it.
    """

    def __init__(self, model: mujoco.MjModel, camera: int, width: int, height: int) -> None:
        self._shape = (height, width, 4)
        model = _without_physics(model)
        bare = _bare_groups(model)
        if not np.isin(model.geom_group, [*SHOWN_GROUPS, *bare]).any():  # Warp would crash
            raise UserError("no geom of the model is in a group that is drawn: 0, 1 and 2; renderer gl may show it")
        self.note = ""
        if model.nskin:
            instead = f"; geoms of group {', '.join(map(str, bare))} are, instead" if bare else ""
            self.note = f"skins are not drawn by renderer rays{instead} (renderer gl draws skins)"
        self._first_time = compiling_is_said("ray tracer", "some seconds")
        with wp.ScopedDevice("cpu"):
            try:
                self._model = mjw.put_model(model)
            except NotImplementedError as error:
                raise UserError(f"MuJoCo Warp cannot draw this model ({error}); renderer gl may") from None
            self._data = mjw.make_data(model, nworld=1)
            self._context = mjw.create_render_context(
                model,
                enabled_geom_groups=[*SHOWN_GROUPS, *bare],
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
            with self._first_time:
                mjw.refit_bvh(self._model, self._data, self._context)
                mjw.render(self._model, self._data, self._context)
            self._first_time = contextlib.nullcontext()
            pixels = self._context.rgb_data.numpy().view(np.uint8).reshape(self._shape)  # blue, green, red, alpha
        return np.ascontiguousarray(pixels[:, :, 2::-1])

    def close(self) -> None:
        """There is nothing to give back."""


def _without_physics(model: mujoco.MjModel) -> mujoco.MjModel:
    """A copy without what MuJoCo Warp cannot simulate, or would warn of, and a picture does not need."""
    model = copy.copy(model)
    model.opt.solver, model.opt.integrator = mujoco.mjtSolver.mjSOL_NEWTON, mujoco.mjtIntegrator.mjINT_EULER
    model.opt.jacobian = mujoco.mjtJacobian.mjJAC_SPARSE
    model.opt.noslip_iterations = 0
    model.geom_friction[:] = np.maximum(model.geom_friction, LEAST_FRICTION)
    return model


def _bare_groups(model: mujoco.MjModel) -> list[int]:
    """The first hidden group of geoms of the bodies that have a skin and nothing else to be seen."""
    shown = np.isin(model.geom_group, SHOWN_GROUPS)
    bare = set(model.skin_bonebodyid.tolist()) - set(model.geom_bodyid[shown].tolist())
    groups = model.geom_group[~shown & np.isin(model.geom_bodyid, sorted(bare))]
    return [int(groups.min())] if len(groups) else []
