"""The call `render`: the states that happened, in pictures that move in a notebook and can be saved."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

import torch_ppo
from torch_ppo import pictures

WIDTH, HEIGHT = 64, 48


class Drawn:
    """Instead of a renderer: keeps the states it was asked to draw, and draws how many there were."""

    note = ""

    def __init__(self):
        self.states, self.balls, self.closed = [], [], False

    def draw(self, data):
        self.states.append(torch.tensor(data.qpos, dtype=torch.float32))
        self.balls.append(torch.tensor(data.mocap_pos, dtype=torch.float32))
        return np.full((HEIGHT, WIDTH, 3), 10 * len(self.states), dtype=np.uint8)

    def close(self):
        self.closed = True


@pytest.fixture
def drawn(monkeypatch):
    found = Drawn()
    monkeypatch.setattr(pictures, "make_renderer", lambda *arguments: found)
    return found


def still(observation):
    return torch.zeros(len(observation), 2)


@pytest.fixture(scope="module")
def steps():
    """The reacher, which has a marker; a step is 0.02 s."""
    return torch_ppo.rollout(lambda o: torch.ones(len(o), 2), "reacher_easy", num_envs=2, steps=9)


def test_states_that_are_drawn(drawn, steps):
    frames = torch_ppo.render(steps, world=1, width=WIDTH, height=HEIGHT)
    assert torch.equal(torch.stack(drawn.states), steps.qpos[::2, 1]) and drawn.closed
    assert torch.equal(drawn.balls[0][-1], steps.markers[0, 1, -1, :3])
    assert frames.seconds_per_frame == pytest.approx(0.04) and len(frames) == 5
    array = np.asarray(frames)
    assert array.shape == (5, HEIGHT, WIDTH, 3) and array.dtype == np.uint8
    assert array[:, 0, 0, 0].tolist() == [10, 20, 30, 40, 50]
    assert repr(frames) == "5 frames of 64x48, 0.2 s"


def test_by_default_all_worlds_side_by_side(drawn, steps):
    drawn.note = "skins are not drawn"
    frames = torch_ppo.render(steps, frames_per_second=50)
    assert torch.equal(torch.stack(drawn.states), steps.qpos.flatten(0, 1))
    pictures = np.asarray(frames)
    assert pictures.shape[1] == HEIGHT and pictures.shape[2] > 2 * WIDTH
    assert pictures[0, 0, 0, 0] == 10 and pictures[0, 0, -1, 0] == 20
    assert repr(frames).endswith("0.2 s; skins are not drawn")
    many = torch_ppo.rollout(still, "reacher_easy", num_envs=37, steps=1)
    with pytest.raises(torch_ppo.UserError, match="has 37 worlds, of which 36 can be drawn"):
        torch_ppo.render(many)
    assert len(torch_ppo.render(many, world=36)) == 1


def test_frames_per_second(drawn, steps):
    assert len(torch_ppo.render(steps, world=0, frames_per_second=50)) == 9
    assert len(torch_ppo.render(steps, world=0, frames_per_second=5)) == 1


def test_playing_is_a_rollout(drawn):
    torch_ppo.render(still, "reacher_easy", steps=5, seed=3, frames_per_second=100)
    steps = torch_ppo.rollout(still, "reacher_easy", steps=5, seed=3)
    assert torch.equal(torch.stack(drawn.states), steps.qpos[:, 0])


def test_a_notebook_shows_them_moving(drawn, steps):
    frames = torch_ppo.render(steps, world=0)
    kind, data = re.fullmatch(
        r'<img src="data:image/(\w+);base64,([\w+/=]+)" alt="5 frames of 64x48, 0.2 s">', frames._repr_html_()
    ).groups()
    with Image.open(io.BytesIO(base64.b64decode(data))) as video:
        video.load()
        assert video.format.lower() == kind == "webp" and video.n_frames == 5 and video.info["duration"] == 40


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_saving(drawn, steps, tmp_path, suffix):
    path = torch_ppo.render(steps, world=0).save(str(tmp_path / f"a{suffix}"))
    with Image.open(path) as video:
        assert video.n_frames == 5 and video.size == (WIDTH, HEIGHT)


def test_one_picture_of_the_ray_tracer(tmp_path):
    """Not all of one colour, and another one after a while."""
    steps = torch_ppo.rollout(lambda o: torch.ones(len(o), 1), "cartpole", steps=40)
    array = np.asarray(torch_ppo.render(steps, width=WIDTH, height=HEIGHT, frames_per_second=4))
    assert array.shape == (2, HEIGHT, WIDTH, 3) and array[0].std() > 5
    assert np.abs(array[0].astype(int) - array[1]).max() > 50


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 8}, "width is 8, but must be from 16 to 4096"),
        ({"world": 2}, "world is 2, but the rollout has 2, from 0 to 1"),
        ({"frames_per_second": 0}, "frames_per_second is 0"),
        ({"camera": "nose"}, "'nose'"),
        ({"seed": 1}, "leave them out"),
    ],
)
def test_what_cannot_be(drawn, steps, options, message):
    with pytest.raises(torch_ppo.UserError, match=message):
        torch_ppo.render(steps, **options)
    with pytest.raises(torch_ppo.UserError, match=r"has to end in"):
        torch_ppo.render(steps).save("a.jpg")
