"""Pictures of a task: its model made fit to be looked at, and two renderers of it.

MuJoCo Warp's ray tracer needs no OpenGL and runs anywhere; it draws geoms only, so sites become geoms, and tendons are
not seen. OpenGL draws all that MuJoCo can show, where there is OpenGL.
"""

from collections.abc import Sequence
from typing import Protocol

import mujoco
import numpy as np
from torch import Tensor

from torch_ppo.errors import UserError, did_you_mean
from torch_ppo.simulation.env import Env
from torch_ppo.simulation.opengl import gl_context
from torch_ppo.simulation.task import Task

SHOWN_GROUPS = (0, 1, 2)  # MuJoCo's own default
HIDDEN_GROUP = 5
MARKER_COLOUR = (0.3, 0.65, 0.35, 0.6)
SAME_SIZES = ("njnt", "nq", "nv", "nu", "nsite", "nmesh", "nhfield")  # of the model and of that of pictures
TRACKING = "track"  # name of the camera that is added
# Of the camera that is added: where it stands from what it looks at; how far, in extents of the model, but at least and at
# most so many radii of the robot; and its angle in degrees.
DIRECTION = np.array([0.35, -0.85, 0.4])
DISTANCE = 1.7
LEAST_RADII, MOST_RADII = 3.2, 6.0
FIELD_OF_VIEW = 45.0


class RenderError(UserError):
    """A picture that cannot be made."""


class Renderer(Protocol):
    """Draws one camera of a model.

    note: what is not seen in its pictures, in a line; empty if nothing is missing that matters
    """

    note: str

    def draw(self, data: mujoco.MjData) -> np.ndarray:
        """The picture of a state whose kinematics are up to date, uint8 `(height, width, 3)`."""

    def close(self) -> None:
        """Gives back what it holds; nothing can be drawn afterwards."""


def picture_model(task: Task, marker_radii: Sequence[float] = ()) -> mujoco.MjModel:
    """The task's model with light, sky and the camera "track" where it lacks them, and its sites as geoms.

    There is a ball for each of `marker_radii` in m, to be moved by `MjData.mocap_pos`, behind those the model may have.
    State and names are the same. A model that is not what the task's `make_spec` says is returned as it is.
    """
    model = task.make_model()
    if getattr(task, "mjcf", None) is None:
        return model
    spec = task.make_spec()
    _add_light_and_sky(spec)
    _add_tracking_camera(spec, model)
    _turn_sites_into_geoms(spec)
    for radius in marker_radii:
        ball = spec.worldbody.add_body(mocap=True).add_geom(size=[radius, 0, 0], rgba=MARKER_COLOUR)
        ball.type, ball.material, ball.group = mujoco.mjtGeom.mjGEOM_SPHERE, "", 0
        ball.mass, ball.contype, ball.conaffinity = 0.0, 0, 0
    picture = spec.compile()
    same = all(getattr(picture, size) == getattr(model, size) for size in SAME_SIZES)
    return picture if same else model


def model_of_pictures(env: Env) -> mujoco.MjModel:
    """The model to draw, with the task's markers."""
    markers = env.task.markers(env.physics, env.memory)
    return picture_model(env.task, () if markers is None else markers[0, :, 3].tolist())


def show_state(
    env: Env, model: mujoco.MjModel, data: mujoco.MjData, world: int = 0, final: Tensor | None = None
) -> None:
    """Puts the state of a world into `data`, and brings all that is drawn up to date.

    final:  a row of `Env.final_state` to show instead, where an episode has ended in that
    """
    markers = env.task.markers(env.physics, env.memory)
    if markers is not None and model.nmocap >= markers.shape[1]:
        data.mocap_pos[model.nmocap - markers.shape[1] :] = markers[world, :, :3].cpu().numpy()
    names = ("qpos", "qvel", "act", "ctrl")
    parts = [getattr(env.physics, name)[world] for name in names]
    if final is not None:
        parts = final.split([len(part) for part in parts])
    for name, part in zip(names, parts, strict=True):
        getattr(data, name)[:] = part.cpu().numpy()
    for name in ("mocap_pos", "mocap_quat"):
        poses = getattr(env.physics, name)[world].cpu().numpy()
        getattr(data, name)[: len(poses)] = poses
    data.time = env.physics.time[world].item()
    mujoco.mj_forward(model, data)


def _add_light_and_sky(spec: mujoco.MjSpec) -> None:
    if not spec.lights:
        directional = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
        spec.worldbody.add_light(type=directional, pos=[0, 0, 5], dir=[0.2, 0.4, -1], diffuse=[0.5, 0.5, 0.5])
    if not any(texture.type == mujoco.mjtTexture.mjTEXTURE_SKYBOX for texture in spec.textures):
        spec.add_texture(
            name="sky_of_picture",
            type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
            builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
            rgb1=[0.85, 0.9, 0.95],
            rgb2=[0.35, 0.45, 0.6],
            width=256,
            height=256,
        )
    headlight = spec.visual.headlight
    headlight.active = 1
    headlight.ambient = np.maximum(headlight.ambient, 0.4)
    headlight.specular = np.minimum(headlight.specular, 0.1)


def _add_tracking_camera(spec: mujoco.MjSpec, model: mujoco.MjModel) -> None:
    """Looks at the heaviest tree of bodies from one side, and goes with it if it can go away."""
    if model.nbody < 2 or any(camera.name == TRACKING for camera in spec.cameras):
        return
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    root = _heaviest(model)
    joints = model.jnt_type[model.body_jntadr[root] : model.body_jntadr[root] + model.body_jntnum[root]]
    moves = np.isin(joints, (mujoco.mjtJoint.mjJNT_FREE, mujoco.mjtJoint.mjJNT_SLIDE)).any()

    back = DIRECTION / np.linalg.norm(DIRECTION)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(back, right), back], axis=1)  # columns are the camera's x, y, z
    radius = _radius(model, data, root)
    distance = np.clip(DISTANCE * model.stat.extent, LEAST_RADII * radius, MOST_RADII * radius)
    position = data.subtree_com[root] + distance * back
    body = data.xmat[root].reshape(3, 3)
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, (body.T @ axes).ravel())
    modes = mujoco.mjtCamLight
    spec.bodies[root].add_camera(
        name=TRACKING,
        mode=modes.mjCAMLIGHT_TRACKCOM if moves else modes.mjCAMLIGHT_TRACK,
        fovy=FIELD_OF_VIEW,
        pos=body.T @ (position - data.xpos[root]),
        quat=quaternion,
    )


def _radius(model: mujoco.MjModel, data: mujoco.MjData, root: int) -> float:
    """Of a ball around the centre of mass of a tree of bodies that holds its geoms, in m."""
    tree = (model.body_rootid[model.geom_bodyid] == root) & (model.geom_rbound > 0)  # a plane has none
    if not tree.any():
        return model.stat.extent
    reach = np.linalg.norm(data.geom_xpos[tree] - data.subtree_com[root], axis=1) + model.geom_rbound[tree]
    return float(reach.max())


def radius_of_moving(model: mujoco.MjModel) -> float:
    """Of a ball that holds the heaviest tree of bodies as it stands in the model, in m."""
    if model.nbody < 2:
        return model.stat.extent
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return _radius(model, data, _heaviest(model))


def _heaviest(model: mujoco.MjModel) -> int:
    """The root of the heaviest tree of bodies."""
    roots = np.flatnonzero((model.body_parentid == 0) & (np.arange(model.nbody) > 0))
    return int(roots[np.argmax(model.body_subtreemass[roots])])


def _turn_sites_into_geoms(spec: mujoco.MjSpec) -> None:
    for body in spec.bodies:
        for site in body.sites:
            if site.group not in SHOWN_GROUPS:
                continue
            geom = body.add_geom(type=site.type, size=site.size, pos=site.pos, quat=site.quat, rgba=site.rgba)
            geom.fromto, geom.material, geom.group = site.fromto, site.material, site.group
            geom.mass, geom.contype, geom.conaffinity = 0.0, 0, 0
            site.group = HIDDEN_GROUP


def find_camera(model: mujoco.MjModel, name: str | None) -> int:
    """Number of a camera; if `name` is None, the model's first, or "track" if that one turns with the robot or after it.

    RenderError names those there are.
    """
    names = [model.camera(i).name for i in range(model.ncam)]
    if not names:
        raise RenderError("the model has no camera; add one to its MJCF")
    if name is None:
        return 0 if TRACKING not in names or _keeps_its_direction(model, 0) else names.index(TRACKING)
    if name not in names:
        raise RenderError(f"camera is {name!r}, but the model has no such camera{did_you_mean(name, names)}")
    return names.index(name)


def _keeps_its_direction(model: mujoco.MjModel, camera: int) -> bool:
    """Whether a camera stands still, or goes along without turning. Others are eyes, or look at something small."""
    mode, body, modes = int(model.cam_mode[camera]), int(model.cam_bodyid[camera]), mujoco.mjtCamLight
    if mode == modes.mjCAMLIGHT_FIXED:
        return int(model.body_weldid[body]) == 0
    return mode in (modes.mjCAMLIGHT_TRACK, modes.mjCAMLIGHT_TRACKCOM) and body > 0  # with the world: all that moves


class GLRenderer:
    """MuJoCo's own renderer. See `Renderer`; RenderError where there is no OpenGL."""

    note = ""

    def __init__(self, model: mujoco.MjModel, camera: int, width: int, height: int) -> None:
        self._context = self._mjr = None
        model.vis.global_.offwidth = max(width, model.vis.global_.offwidth)
        model.vis.global_.offheight = max(height, model.vis.global_.offheight)
        try:
            self._context = gl_context(width, height)
            self._context.make_current()
            self._mjr = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        # Whatever OpenGL's loaders and drivers raise where something is missing.
        except Exception as error:  # noqa: BLE001
            self.close()
            raise RenderError(f"OpenGL does not work here ({error}); renderer rays would") from None
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._mjr)
        self._model, self._options = model, mujoco.MjvOption()
        self._scene = mujoco.MjvScene(model, maxgeom=10_000)
        self._camera = mujoco.MjvCamera()
        self._camera.type, self._camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, camera
        self._viewport = mujoco.MjrRect(0, 0, width, height)
        self._pixels = np.empty((height, width, 3), dtype=np.uint8)

    def draw(self, data: mujoco.MjData) -> np.ndarray:
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self._model, data, self._options, None, self._camera, everything, self._scene)
        mujoco.mjr_render(self._viewport, self._scene, self._mjr)
        mujoco.mjr_readPixels(self._pixels, None, self._viewport, self._mjr)
        return self._pixels[::-1].copy()

    def close(self) -> None:
        if self._mjr is not None:
            self._mjr.free()
        if self._context is not None:
            self._context.free()
        self._mjr = self._context = None


def make_renderer(kind: str, model: mujoco.MjModel, camera: int, width: int, height: int) -> Renderer:
    """`kind` is "rays" or "gl"; `camera` is a number of the model's."""
    if kind == "gl":
        return GLRenderer(model, camera, width, height)
    # Imported here because Warp takes more than a second to start.
    from torch_ppo.showing.ray_tracer import RayRenderer

    return RayRenderer(model, camera, width, height)
