"""What a policy sees, as a picture for people."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers.ball import BallTask, column
from torch_ppo import UserError, make_env
from torch_ppo.showing.seen import check_pictures, seen_by_several, seen_picture


def seen(height=60, world=0, **view):
    env = make_env(BallTask(**view), 3, physics="warp", history=2)
    for _ in range(3):
        env.step(torch.ones(3, 1))
    return env, seen_picture(env.observation, env.task, world, height)


def test_the_newest_frame_is_enlarged():
    env, picture = seen(world=1)
    assert picture.shape == (60, 48, 3) and picture.dtype == np.uint8 and not picture[48:].any()
    newest = env.observation["pixels/front"][1, ..., -3:].numpy()
    assert np.array_equal(picture[:48:2, ::2], newest) and np.array_equal(picture[1:48:2, 1::2], newest)
    red = np.flatnonzero(picture[23, :, 0] > picture[23, :, 1] + 20)
    assert abs(red.mean() / 2 - column(env.physics.qpos[1, 0]).item()) < 1


def test_a_large_view_is_thinned_out():
    _, picture = seen(height=10)
    assert picture.shape == (10, 8, 3)


@pytest.mark.parametrize(("kind", "width"), [("gray", 48), ("depth", 48), ("rgbd", 96)])
def test_kinds_become_colours(kind, width):
    env, picture = seen(kind=kind, depth_range=(1.0, 6.0))
    assert picture.shape == (60, width, 3)
    newest = env.observation["pixels/front"][0, ..., -1].numpy()
    assert all(np.array_equal(picture[:48:2, width - 48 :: 2, i], newest) for i in range(3))
    if kind == "rgbd":
        assert np.array_equal(picture[:48:2, :48:2], env.observation["pixels/front"][0, ..., -4:-1].numpy())


def test_pictures_of_others_are_shown_by_their_channels():
    colours, numbers = torch.rand(2, 8, 8, 3), torch.rand(2, 8, 8, 2)
    picture = seen_picture({"pixels/a": colours, "pixels/b": numbers, "state": torch.zeros(2, 3)}, None, 0, 8)
    assert picture.shape == (8, 18, 3)
    assert np.array_equal(picture[:, :8], (255 * colours[0]).byte().numpy())
    assert np.array_equal(picture[:, 10:, 2], (255 * numbers[0, ..., 1]).byte().numpy())


def test_several_envs_are_one_png():
    env, _ = seen()
    with Image.open(io.BytesIO(seen_by_several(env.observation, env.task))) as picture:
        assert picture.format == "PNG" and picture.size == (2 * 120 + 2, 2 * 128 + 2)


def test_without_pictures_there_is_nothing_to_see():
    with pytest.raises(UserError, match=r"--view shows.*state"):
        check_pictures({"state": torch.zeros(2, 3)}, "--view")
