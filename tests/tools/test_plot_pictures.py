"""The tools that make the README's pictures, and the one that shows what a person sees first, write them."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tools import plot_bands, plot_strip, plot_views
from torch_ppo.play import PlayArguments, make_player

RESULTS = Path(__file__).parents[2] / "docs/results"


def program(monkeypatch, module, *arguments):
    monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, arguments)])
    module.main()


def test_bands(tmp_path, monkeypatch):
    program(monkeypatch, plot_bands, RESULTS / "bands_balance", "--output", tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        colours = {tuple(pixel) for pixel in np.asarray(picture.convert("RGB")).reshape(-1, 3).tolist()}
    assert {(0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)} <= colours  # both medians


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_views(tmp_path, monkeypatch, capsys):
    (tmp_path / "box.xml").write_text('<mujoco><worldbody><body><geom size="1"/></body></worldbody></mujoco>')
    arguments = ("cartpole", tmp_path / "box.xml", "--width", 64, "--height", 48, "--output", tmp_path / "a.png")
    program(monkeypatch, plot_views, *arguments)
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("compiling")]
    assert lines == ["cartpole: side", "box: track"]
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (128, 48)


def test_strip(tmp_path, monkeypatch):
    """Two films beside one another; the second frame is later than the first."""

    def player(arguments):
        return make_player(PlayArguments(env=str(arguments.run), policy="random", seed=arguments.seed))

    monkeypatch.setattr(plot_strip, "make_player", player)
    small = ("--width", 64, "--height", 48, "--seconds", 0.2, "--fps", 10, "--output", tmp_path / "a.png")
    program(monkeypatch, plot_strip, "cartpole", "pendulum_swingup", *small)
    with Image.open(tmp_path / "a.png") as video:
        assert video.n_frames == 2 and video.size == (130, 48)
        first = np.asarray(video.convert("RGB"))
        video.seek(1)
        assert (np.asarray(video.convert("RGB")) != first).any()
