"""What a policy sees of a world, as a picture for people: its views side by side, enlarged, the newest of stacked frames."""

import io
from collections.abc import Mapping

import numpy as np
from PIL import Image
from torch import Tensor

from torch_ppo.errors import UserError
from torch_ppo.formulas.pixels import PREFIX, is_picture
from torch_ppo.showing.video import tiles
from torch_ppo.simulation.task import Observation, Task
from torch_ppo.simulation.views import NO_VIEWS, View

GAP = 2  # pixels between views
MOST_ENVS, HEIGHT = 16, 128  # of the picture in TensorBoard; each env's is so many pixels high


def check_pictures(observation: Observation, asked_by: str) -> None:
    """UserError, about what asked for them, if there are no pictures to see."""
    if not any(map(is_picture, observation)):
        raise UserError(
            f"{asked_by} shows the pictures that the policy sees, but it sees {', '.join(observation)}, and no pixels/...; "
            f"without {asked_by} it would be shown"
        )


def seen_picture(observation: Observation, task: Task | None, world: int, height: int) -> np.ndarray:
    """The views of a world, uint8 `(height, width, 3)`; they are enlarged, or thinned out, by whole factors."""
    views = task.views if task is not None else NO_VIEWS
    parts = []
    for key in filter(is_picture, sorted(observation)):
        view = _in_colour(observation[key][world], views, key.removeprefix(PREFIX))
        factor, every = max(1, height // len(view)), -(-len(view) // height)
        shown = view[::every, ::every].repeat(factor, 0).repeat(factor, 1)
        parts.append(np.pad(shown, ((0, height - len(shown)), (0, GAP), (0, 0))))
    return np.concatenate(parts, 1)[:, :-GAP]


def seen_by_several(observation: Observation, task: Task | None) -> bytes:
    """A PNG of what the first envs see now, side by side."""
    envs = min(MOST_ENVS, len(next(iter(observation.values()))))
    picture = tiles([seen_picture(observation, task, env, HEIGHT) for env in range(envs)])
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "PNG")
    return content.getvalue()


def _in_colour(stack: Tensor, views: Mapping[str, View], name: str) -> np.ndarray:
    """The newest frame of a stack `(height, width, frames * channels)`; its depth stands beside its colours."""
    kind = views[name].kind if name in views else "rgb" if stack.shape[-1] % 3 == 0 else "gray"
    pixels = stack.detach().cpu()
    if pixels.is_floating_point():
        pixels = (255 * pixels.clamp(0.0, 1.0)).byte()
    pixels = pixels.numpy()
    if kind == "rgb":
        return pixels[..., -3:]
    last = pixels[..., -1:].repeat(3, -1)
    return np.concatenate([pixels[..., -4:-1], last], 1) if kind == "rgbd" else last
