"""Rough ground without an end: a tile of random bumps that repeats, as a height field of MuJoCo's and as a tensor.

The tile is TILE on each side, around the origin. The model's height field has BORDER more on each side, so that a robot
that has left the tile can be put back to the same place of it, `into_tile`, and nothing else changes.
"""

import mujoco
import numpy as np
import torch
from torch import Tensor

CELL = 0.1  # m
TILE = 20.0  # m
BORDER = 1.0  # m
HIGHEST = 0.05  # m
BUMP = 0.15  # m, standard deviation of the Gaussian by which white noise is smoothed
CLIP = 2.5  # standard deviations of the height, beyond which it is cut off


def tile_heights(seed: int = 0) -> np.ndarray:
    """Heights in m at the grid points, 0 to `HIGHEST`, `(rows along y, columns along x)`, from -TILE / 2 on; periodic."""
    num_cells = round(TILE / CELL)
    noise = np.random.default_rng(seed).standard_normal((num_cells, num_cells))
    frequency = 2 * np.pi * np.fft.fftfreq(num_cells, CELL)  # rad/m
    smoothing = np.exp(-0.5 * (BUMP * frequency) ** 2)
    smooth = np.fft.ifft2(np.fft.fft2(noise) * np.outer(smoothing, smoothing)).real
    smooth = (smooth - smooth.mean()) / smooth.std()
    return HIGHEST * (smooth.clip(-CLIP, CLIP) + CLIP) / (2 * CLIP)


def add_terrain(spec: mujoco.MjSpec, heights: np.ndarray, *, friction: float) -> None:
    """Makes the geom "floor" of a model a height field with the tile `heights`, repeated over the border."""
    border = round(BORDER / CELL)
    heights = np.pad(heights, (border, border + 1), mode="wrap")
    half = TILE / 2 + BORDER
    rows, columns = heights.shape
    spec.add_hfield(
        name="terrain",
        nrow=rows,
        ncol=columns,
        size=[half, half, HIGHEST, 1.0],
        userdata=(heights / HIGHEST).ravel(),
    )
    floor = spec.geom("floor")
    floor.type = mujoco.mjtGeom.mjGEOM_HFIELD
    floor.hfieldname = "terrain"
    floor.friction[0] = friction


def into_tile(position: Tensor) -> Tensor:
    """The place of the tile that is like `position` `(..., 2)`: whole tiles away."""
    return position - TILE * torch.floor(position / TILE + 0.5)


def height_at(heights: Tensor, position: Tensor) -> Tensor:
    """Height of the ground in m at `position` `(..., 2)`, as MuJoCo has it: two triangles in each cell.

    `heights` are those of `tile_heights`.
    """
    num_rows, num_columns = heights.shape
    cells = position / CELL + TILE / CELL / 2
    corner = cells.floor()
    u, v = (cells - corner).unbind(-1)
    column, row = corner.long().unbind(-1)

    def corner_height(right: int, up: int) -> Tensor:
        return heights[(row + up) % num_rows, (column + right) % num_columns]

    h00, h10, h01, h11 = (corner_height(right, up) for up in (0, 1) for right in (0, 1))
    # The cell's diagonal goes from h00 to h11.
    right = h00 + u * (h10 - h00) + v * (h11 - h10)
    left = h00 + v * (h01 - h00) + u * (h11 - h01)
    return torch.where(u >= v, right, left)


def highest_under(heights: Tensor, position: Tensor, yaw: Tensor, points: Tensor) -> Tensor:
    """Height of the highest ground in m, `(num_envs,)`, below points of a robot.

    position: where the robot is      (num_envs, 2)
    yaw:      angle that it is turned (num_envs,)
    points:   in the robot's frame    (num_points, 2)
    """
    cos, sin = yaw.cos()[:, None], yaw.sin()[:, None]
    x, y = points.unbind(1)
    turned = torch.stack([cos * x - sin * y, sin * x + cos * y], dim=2)  # (num_envs, num_points, 2)
    return height_at(heights, position[:, None] + turned).amax(1)
