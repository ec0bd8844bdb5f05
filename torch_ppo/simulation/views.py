"""What a policy sees of a simulation: a task's `views` are pictures, and each is an observation `pixels/<name>`."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import mujoco
import numpy as np
from torch import Tensor

from torch_ppo.errors import UserError, did_you_mean

# Channels of each kind of picture.
KINDS = {"rgb": 3, "gray": 1, "depth": 1, "rgbd": 4}
LARGEST = 4096  # pixels along an edge
MOST_SAMPLES = 8

Size = int | tuple[int, ...]


class ViewError(UserError):
    """A view that cannot be drawn."""


@dataclass(frozen=True)
class View:
    """A camera's picture of each world, uint8 `(num_envs, height, width, channels)`, first row on top.

    camera:       name of a camera of the model
    height:       pixels
    width:        pixels
    kind:         "rgb"; "gray", the mean of the three; "depth"; or "rgbd", red, green, blue and depth
    depth_range:  metres along the camera's axis that are 0 and 255; what is nearer, or farther, or nothing, likewise
    groups:       of the geoms that are drawn; sites, tendons and skins are not
    textures:     whether materials have theirs, or are of one colour
    shadows:      whether lights cast them
    sky:          whether the background is the model's skybox, or black
    samples:      along either axis of a pixel, whose mean it is; takes samples * samples as long
    """

    camera: str
    height: int = 64
    width: int = 64
    kind: str = "rgb"
    depth_range: tuple[float, float] = (0.0, 10.0)
    groups: tuple[int, ...] = (0, 1, 2)
    textures: bool = True
    shadows: bool = False
    sky: bool = False
    samples: int = 1

    @property
    def channels(self) -> int:
        """Bytes of a pixel."""
        return KINDS[self.kind]

    @property
    def has_colour(self) -> bool:
        """Whether there is more to it than depth."""
        return self.kind != "depth"

    @property
    def has_depth(self) -> bool:
        """Whether its last channel is depth."""
        return self.kind in ("depth", "rgbd")


NO_VIEWS: Mapping[str, View] = MappingProxyType({})


def seen_views(views: Mapping[str, View], *, vision: bool, view_size: int | None) -> Mapping[str, View]:
    """A task's views as they are drawn: none without `vision`, all of one height and width where that is set."""
    if not vision or not isinstance(views, Mapping) or view_size is None:
        return views if vision else NO_VIEWS
    return {
        name: dataclasses.replace(view, height=view_size, width=view_size) if isinstance(view, View) else view
        for name, view in views.items()
    }


def shape_of(size: Size) -> tuple[int, ...]:
    """The shape of an observation of one env: `(obs_dim,)`, or that of a picture."""
    return size if isinstance(size, tuple) else (size,)


def size_of(observation: Tensor) -> Size:
    """What `shape_of` gives the shape of, from an observation of all envs: obs_dim, or height, width and channels."""
    shape = tuple(observation.shape[1:])
    return shape[0] if len(shape) == 1 else shape


def check_views(views: Mapping[str, View], model: mujoco.MjModel) -> None:
    """ViewError says what of a task's views cannot be drawn, and what would work."""
    if not isinstance(views, Mapping):
        raise ViewError(f'views is {views!r}, but must be a dict of views by name, {{"front": View(camera="front")}}')
    for name, view in views.items():
        if not isinstance(name, str) or not name or not isinstance(view, View):
            raise ViewError(
                f'views has {name!r}: {view!r}, but must have a View by name, {{"front": View(camera="front")}}'
            )
        wrong = _mistake(view, model)
        if wrong is not None:
            raise ViewError(f"view {name!r} has {wrong}")


def _mistake(view: View, model: mujoco.MjModel) -> str | None:
    """What is wrong with a view, to follow "view 'front' has "."""
    cameras = [model.camera(i).name for i in range(model.ncam)]
    if view.camera not in cameras:
        there = did_you_mean(str(view.camera), cameras) if cameras else ", nor any other; add one to its MJCF"
        return f"camera = {view.camera!r}, but the model has no such camera{there}"
    for field in ("height", "width"):
        pixels = getattr(view, field)
        if type(pixels) is not int or not 1 <= pixels <= LARGEST:
            return f"{field} = {pixels!r}, but it must be an int from 1 to {LARGEST}; 64 would work"
    if view.kind not in KINDS:
        return f"kind = {view.kind!r}, but it must be one of {', '.join(KINDS)}"
    if type(view.samples) is not int or not 1 <= view.samples <= MOST_SAMPLES:
        return f"samples = {view.samples!r}, but it must be an int from 1 to {MOST_SAMPLES}; 2 would work"
    try:
        nearest, farthest = map(float, view.depth_range)
        sound = 0 <= nearest < farthest < float("inf")
    except (TypeError, ValueError):
        sound = False
    if not sound:
        return f"depth_range = {view.depth_range!r}, but it must be two numbers of metres, 0 <= nearest < farthest"
    groups = view.groups
    if not isinstance(groups, tuple) or not all(
        type(group) is int and 0 <= group < mujoco.mjNGROUP for group in groups
    ):
        return f"groups = {groups!r}, but it must be a tuple of ints from 0 to {mujoco.mjNGROUP - 1}"
    there = sorted({int(group) for group in model.geom_group})
    if not np.isin(model.geom_group, groups).any():
        return f"groups = {groups!r}, in which the model has no geom; it has geoms of the groups {there}"
    return None
