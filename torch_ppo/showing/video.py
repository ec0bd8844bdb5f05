"""Video files: animated GIF, WebP or PNG by Pillow, and MP4 where imageio-ffmpeg is installed."""

import errno
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from torch_ppo.errors import UserError, install, is_installed

ANIMATIONS = (".gif", ".webp", ".png")
GAP = 2  # pixels between tiles
PALETTE_FRAMES = 16  # frames whose colours a GIF's palette is made of


class VideoError(UserError):
    """A video file that cannot be written."""


def has_mp4() -> bool:
    """Whether the extra that writes MP4 is installed."""
    return is_installed("imageio_ffmpeg")


def default_video(name: str) -> Path:
    """The file that is written where none is asked for."""
    return Path(f"{name}.mp4" if has_mp4() else f"{name}.gif")


def tiles(pictures: Sequence[np.ndarray], columns: int | None = None) -> np.ndarray:
    """Pictures of one size as one, row by row, in about as many rows as columns; one alone stays what it is."""
    columns = columns or math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    height, width, depth = pictures[0].shape
    grid = np.full((rows, height + GAP, columns, width + GAP, depth), 255, dtype=np.uint8)
    for i, picture in enumerate(pictures):
        grid[i // columns, :height, i % columns, :width] = picture
    return grid.reshape(rows * (height + GAP), columns * (width + GAP), depth)[:-GAP, :-GAP]


def check_video(path: Path) -> None:
    """VideoError if no video can be written to `path`; nothing is written."""
    if path.suffix not in (*ANIMATIONS, ".mp4"):
        raise VideoError(f"{path} has to end in .gif, .webp, .png or .mp4")
    if path.suffix == ".mp4" and not has_mp4():
        raise VideoError(f"{path} needs imageio-ffmpeg, the extra video: {install('video')}; .gif would work")
    if path.is_dir() or not path.parent.is_dir():
        raise VideoError(
            f"{path} {'is a folder' if path.is_dir() else f'cannot be written: there is no folder {path.parent}'}"
        )
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise VideoError(f"{path} cannot be written: {os.strerror(errno.EACCES)}")


def write_video(path: Path, frames: Sequence[np.ndarray], seconds_per_frame: float) -> None:
    """Writes `frames`, uint8 `(height, width, 3)` each, as what the name of `path` ends in."""
    try:
        if path.suffix == ".mp4":
            _write_mp4(path, frames, seconds_per_frame)
        else:
            _write_animation(path, frames, seconds_per_frame)
    except OSError as error:
        raise VideoError(f"{path} cannot be written: {error.strerror or error}") from None


def _write_animation(path: Path, frames: Sequence[np.ndarray], seconds_per_frame: float) -> None:
    pictures = [Image.fromarray(frame) for frame in frames]
    if path.suffix == ".gif":
        # One palette for all: cheaper, and colours do not flicker from frame to frame.
        some = frames[:: -(-len(frames) // PALETTE_FRAMES)]
        palette = Image.fromarray(np.concatenate(some)).quantize(256, method=Image.Quantize.MEDIANCUT)
        pictures = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    options = {"quality": 80, "method": 2} if path.suffix == ".webp" else {}
    milliseconds = max(round(1000 * seconds_per_frame), 1)
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0, **options)


def _write_mp4(path: Path, frames: Sequence[np.ndarray], seconds_per_frame: float) -> None:
    import imageio_ffmpeg

    height, width = (size - size % 2 for size in frames[0].shape[:2])  # the format has even sizes only
    writer = imageio_ffmpeg.write_frames(
        str(path), (width, height), fps=1 / seconds_per_frame, macro_block_size=2, ffmpeg_log_level="error"
    )
    writer.send(None)
    for frame in frames:
        writer.send(np.ascontiguousarray(frame[:height, :width]))
    writer.close()
