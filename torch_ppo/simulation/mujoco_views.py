"""Pictures of one world after another by MuJoCo's own renderer, which needs OpenGL. For C MuJoCo: tests, and small tasks."""

import copy
from collections.abc import Mapping

import mujoco
import numpy as np
import torch
from torch import Tensor

from torch_ppo.simulation.opengl import gl_context
from torch_ppo.simulation.views import View, ViewError

MAX_GEOMS = 10_000
# What MuJoCo draws besides geoms, and MuJoCo Warp does not.
LEFT_OUT = ("mjVIS_SKIN", "mjVIS_TENDON", "mjVIS_ACTUATOR", "mjVIS_RANGEFINDER", "mjVIS_CONSTRAINT")


class MujocoViews:
    """Draws `views` of a world into its row of `pictures`.

    pictures:  uint8 (num_envs, height, width, channels) by name

    ViewError where there is no OpenGL.
    """

    def __init__(self, model: mujoco.MjModel, views: Mapping[str, View], num_envs: int) -> None:
        self._views = dict(views)
        self.pictures: dict[str, Tensor] = {
            name: torch.zeros(num_envs, view.height, view.width, view.channels, dtype=torch.uint8)
            for name, view in views.items()
        }
        self._context = self._mjr = None
        self._drawn = {name: self._one(model, view) for name, view in views.items()}
        width, height = (max(getattr(view, edge) for view in views.values()) for edge in ("width", "height"))
        samples = max(view.samples for view in views.values())
        try:
            self._context = gl_context(width, height)
            self._context.make_current()
            self._mjr = mujoco.MjrContext(_sized(model, width, height, samples), mujoco.mjtFontScale.mjFONTSCALE_50)
        # Whatever OpenGL's loaders and drivers raise where something is missing.
        except Exception as error:  # noqa: BLE001
            raise ViewError(
                f"the task has views, which C MuJoCo draws by OpenGL, and that does not work here ({error}); physics = "
                "warp draws without, and on Debian or Ubuntu apt install libegl1 (or libosmesa6 and MUJOCO_GL=osmesa) "
                "would bring it"
            ) from None
        self._mjr.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR  # finer where it matters
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._mjr)

    def _one(self, model: mujoco.MjModel, view: View) -> tuple[object, ...]:
        """Options, camera, scene and viewport of a view, and its arrays that OpenGL writes: colours, depth."""
        options, camera = mujoco.MjvOption(), mujoco.MjvCamera()
        options.geomgroup[:] = [group in view.groups for group in range(mujoco.mjNGROUP)]
        for groups in (options.sitegroup, options.tendongroup, options.skingroup, options.flexgroup):
            groups[:] = 0
        options.flexgroup[:] = 1
        for flag in LEFT_OUT:
            options.flags[getattr(mujoco.mjtVisFlag, flag)] = 0
        options.flags[mujoco.mjtVisFlag.mjVIS_TEXTURE] = view.textures
        camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, model.camera(view.camera).id
        scene = mujoco.MjvScene(model, maxgeom=MAX_GEOMS)
        scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = view.shadows
        scene.flags[mujoco.mjtRndFlag.mjRND_SKYBOX] = view.sky
        scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        scene.flags[mujoco.mjtRndFlag.mjRND_HAZE] = 0
        viewport = mujoco.MjrRect(0, 0, view.width, view.height)
        colours = np.zeros((view.height, view.width, 3), np.uint8) if view.has_colour else None
        depth = np.zeros((view.height, view.width), np.float32) if view.has_depth else None
        return options, camera, scene, viewport, colours, depth

    def begin(self) -> None:
        """Before worlds are drawn: another env's context may be the current one."""
        self._context.make_current()

    def draw(self, model: mujoco.MjModel, data: mujoco.MjData, world: int) -> None:
        """Draws a state whose kinematics are up to date."""
        everything = mujoco.mjtCatBit.mjCAT_ALL
        for name, view in self._views.items():
            options, camera, scene, viewport, colours, depth = self._drawn[name]
            mujoco.mjv_updateScene(model, data, options, None, camera, everything, scene)
            mujoco.mjr_render(viewport, scene, self._mjr)
            mujoco.mjr_readPixels(colours, depth, viewport, self._mjr)
            channels = []
            if view.kind == "gray":
                channels = [colours.astype(np.uint16).sum(-1, keepdims=True) // 3]
            elif view.has_colour:
                channels = [colours]
            if view.has_depth:
                channels.append(_depth_bytes(model, view, depth)[..., None])
            picture = np.concatenate(channels, -1)[::-1]  # OpenGL's first row is the lowest
            self.pictures[name][world] = torch.from_numpy(picture.astype(np.uint8))

    def __del__(self) -> None:
        if self._context is not None and self._mjr is not None:
            self._context.make_current()  # else it would free what another context has under the same numbers
            self._mjr.free()
            self._context.free()


def _sized(model: mujoco.MjModel, width: int, height: int, samples: int) -> mujoco.MjModel:
    """A copy whose off-screen buffer fits; OpenGL's several samples of a pixel are MuJoCo Warp's, or nearly."""
    model = copy.copy(model)
    model.vis.global_.offwidth, model.vis.global_.offheight = width, height
    model.vis.quality.offsamples = samples * samples if samples > 1 else 0
    return model


def _depth_bytes(model: mujoco.MjModel, view: View, depth: np.ndarray) -> np.ndarray:
    """OpenGL's depth buffer, which is reversed: 1 at the nearest plane and 0 at the farthest, in the bytes of a view."""
    near, far = model.vis.map.znear * model.stat.extent, model.vis.map.zfar * model.stat.extent
    metres = near * far / (depth.astype(np.float64) * (far - near) + near)
    nearest, farthest = view.depth_range
    level = np.clip((metres - nearest) * 255.0 / (farthest - nearest), 0.0, 255.0)
    return np.where(depth == 0.0, 255.0, level).round()
