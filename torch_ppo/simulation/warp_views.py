"""Pictures of all worlds by MuJoCo Warp's ray tracer, which needs no OpenGL: on CUDA, and on the CPU."""

from collections.abc import Collection, Mapping

import mujoco
import mujoco_warp as mjw
import torch
import warp as wp
from torch import Tensor

from torch_ppo.simulation.views import View, ViewError

# What changes a camera's rays: where worlds have their own, rays are made anew for every picture.
RAY_FIELD = "cam_fovy"


@wp.kernel(enable_backward=False)
def _write_pixels(
    packed_colour: wp.array2d[wp.uint32],
    depth: wp.array2d[float],
    width: int,
    colours: int,
    has_depth: bool,
    nearest: float,
    per_metre: float,
    out: wp.array4d[wp.uint8],
):
    """From the ray tracer's packed colours and metres, 0 m where there is nothing, to the bytes of a picture."""
    world, pixel = wp.tid()
    row, column = pixel // width, pixel % width
    if colours > 0:
        packed = packed_colour[world, pixel]
        red = int((packed >> wp.uint32(16)) & wp.uint32(255))
        green = int((packed >> wp.uint32(8)) & wp.uint32(255))
        blue = int(packed & wp.uint32(255))
        if colours == 1:
            out[world, row, column, 0] = wp.uint8((red + green + blue) // 3)
        else:
            out[world, row, column, 0] = wp.uint8(red)
            out[world, row, column, 1] = wp.uint8(green)
            out[world, row, column, 2] = wp.uint8(blue)
    if has_depth:
        metres = depth[world, pixel]
        level = wp.where(metres > 0.0, wp.clamp((metres - nearest) * per_metre, 0.0, 255.0), 255.0)
        out[world, row, column, colours] = wp.uint8(wp.round(level))


class WarpViews:
    """Draws `views`; everything in `launch` is Warp's work on arrays that stay where they are, to be recorded.

    pictures:  uint8 (num_envs, height, width, channels) by name
    """

    def __init__(self, model: mujoco.MjModel, views: Mapping[str, View], num_envs: int, device: torch.device) -> None:
        self._nominal, self._views, self._num_envs = model, dict(views), num_envs
        self.pictures: dict[str, Tensor] = {
            name: torch.zeros(num_envs, view.height, view.width, view.channels, dtype=torch.uint8, device=device)
            for name, view in views.items()
        }
        self._out = {name: wp.from_torch(picture, dtype=wp.uint8) for name, picture in self.pictures.items()}
        self._contexts: dict[str, object] = {}

    def prepare(self, own_fields: Collection[str]) -> None:
        """Makes what the ray tracer needs, before `launch`; worlds have `own_fields` of the model."""
        own_rays = RAY_FIELD in own_fields
        for name, view in self._views.items():
            if own_rays and view.samples > 1:
                raise ViewError(
                    f"view {name!r} has samples = {view.samples}, which MuJoCo Warp cannot do where worlds differ in "
                    f"{RAY_FIELD}; samples = 1 would work"
                )
            self._contexts[name] = self._context(view, own_rays)

    def _context(self, view: View, own_rays: bool) -> object:
        """The ray tracer's, with its own picture and its own tree of geoms, as groups may differ."""
        return mjw.create_render_context(
            self._nominal,
            nworld=self._num_envs,
            cam_res=(view.width, view.height),
            cam_active=[view.camera],
            render_rgb=view.has_colour,
            render_depth=view.has_depth,
            render_seg=False,
            use_textures=view.textures,
            use_shadows=view.shadows,
            enabled_geom_groups=list(view.groups),
            use_precomputed_rays=not own_rays,
            render_skybox=view.sky,
            samples_per_pixel=view.samples if view.has_colour else 1,
        )

    def launch(self, model: mjw.Model, data: mjw.Data) -> None:
        """Draws the present state of all worlds into `pictures`."""
        mjw.fwd_kinematics(model, data)  # after a step, poses are those of its last timestep's beginning
        for name, view in self._views.items():
            context = self._contexts[name]
            mjw.refit_bvh(model, data, context)
            mjw.render(model, data, context)
            nearest, farthest = view.depth_range
            wp.launch(
                _write_pixels,
                dim=(self._num_envs, view.height * view.width),
                inputs=[
                    context.rgb_data,
                    context.depth_data,
                    view.width,
                    {"depth": 0, "gray": 1}.get(view.kind, 3),
                    view.has_depth,
                    float(nearest),
                    255.0 / (farthest - nearest),
                ],
                outputs=[self._out[name]],
            )
