"""Video files hold the frames that they were given."""

import gc
import importlib.util
import os

import numpy as np
import pytest
from PIL import Image

from torch_ppo.showing.video import ANIMATIONS, GAP, VideoError, check_video, default_video, tiles, write_video

WIDTH, HEIGHT = 64, 48


def moving_square(num_frames=5):
    frames = np.full((num_frames, HEIGHT, WIDTH, 3), 200, dtype=np.uint8)
    for i, frame in enumerate(frames):
        frame[8:24, 8 * i : 8 * i + 16] = (220, 30, 30)
    return list(frames)


@pytest.mark.parametrize("suffix", ANIMATIONS)
def test_animation(tmp_path, suffix):
    frames = moving_square()
    write_video(tmp_path / f"a{suffix}", frames, 0.04)
    with Image.open(tmp_path / f"a{suffix}") as video:
        assert video.n_frames == len(frames) and video.size == (WIDTH, HEIGHT)
        for i, frame in enumerate(frames):
            video.seek(i)
            found = np.asarray(video.convert("RGB")).astype(int)
            assert video.info["duration"] == 40 and video.info["loop"] == 0
            assert np.abs(found - frame).mean() < 6


def test_gif_has_colours_of_all_frames(tmp_path):
    """Each frame has a colour of its own."""
    colours = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 40)]
    frames = [np.full((HEIGHT, WIDTH, 3), colour, dtype=np.uint8) for colour in colours]
    write_video(tmp_path / "a.gif", frames, 0.04)
    with Image.open(tmp_path / "a.gif") as video:
        for i, colour in enumerate(colours):
            video.seek(i)
            assert np.abs(np.asarray(video.convert("RGB"))[0, 0].astype(int) - colour).max() < 10


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of imageio-ffmpeg's unclosed pipes
def test_mp4(tmp_path):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    frames = [
        np.pad(frame, ((0, 1), (0, 1), (0, 0))) for frame in moving_square(25)
    ]  # odd sizes lose a row and a column
    write_video(tmp_path / "a.mp4", frames, 0.04)
    reader = imageio_ffmpeg.read_frames(str(tmp_path / "a.mp4"))
    assert next(reader)["source_size"] == (WIDTH, HEIGHT)
    found = [np.frombuffer(frame, dtype=np.uint8).reshape(HEIGHT, WIDTH, 3).astype(int) for frame in reader]
    assert len(found) == len(frames)
    assert np.abs(np.array(found) - np.array(frames)[:, :HEIGHT, :WIDTH]).mean() < 10
    gc.collect()


@pytest.mark.parametrize(("number", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (3, 2, 2), (4, 2, 2), (5, 3, 2)])
def test_tiles(number, columns, rows):
    """Row by row, with white between them and where there is none."""
    pictures = [np.full((HEIGHT, WIDTH, 3), 10 * i, dtype=np.uint8) for i in range(number)]
    grid = tiles(pictures)
    assert grid.shape == (rows * (HEIGHT + GAP) - GAP, columns * (WIDTH + GAP) - GAP, 3)
    for i in range(rows * columns):
        top, left = i // columns * (HEIGHT + GAP), i % columns * (WIDTH + GAP)
        assert (grid[top : top + HEIGHT, left : left + WIDTH] == (10 * i if i < number else 255)).all()
    assert (grid == 255).sum() == grid.size - number * HEIGHT * WIDTH * 3
    assert tiles(pictures, columns=number).shape[0] == HEIGHT


@pytest.mark.parametrize(("there", "name"), [(True, "ant.mp4"), (False, "ant.gif")])
def test_video_by_default(monkeypatch, there, name):
    monkeypatch.setattr("torch_ppo.showing.video.has_mp4", lambda: there)
    assert str(default_video("ant")) == name


@pytest.mark.parametrize(
    ("name", "words"),
    [("a.avi", "has to end in .gif"), ("no/a.gif", "there is no folder no"), ("folder.gif", "is a folder")],
)
def test_no_video(tmp_path, monkeypatch, name, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.gif").mkdir()
    with pytest.raises(VideoError, match=words):
        check_video(tmp_path.relative_to(tmp_path) / name)


def test_a_video_that_may_not_be_written(tmp_path, monkeypatch):
    """Said before minutes of drawing. Whoever runs the tests may be allowed everything, so the system's answer is given."""
    asked = []
    monkeypatch.setattr("os.access", lambda path, mode: asked.append((path, mode)))
    there = tmp_path / "there.gif"
    there.touch()
    for path in (tmp_path / "new.gif", there):
        with pytest.raises(VideoError, match="cannot be written: Permission denied"):
            check_video(path)
    assert asked == [(tmp_path, os.W_OK), (there, os.W_OK)]


def test_mp4_without_the_extra(tmp_path, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "imageio_ffmpeg" else find_spec(name))
    with pytest.raises(VideoError, match=r"needs imageio-ffmpeg, the extra video: pip install '\.\[video\]'"):
        check_video(tmp_path / "a.mp4")
