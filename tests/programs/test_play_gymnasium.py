"""Playing a run in an environment of Gymnasium's: the environment draws, a video is written."""

from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from PIL import Image

import torch_ppo
from torch_ppo.errors import UserError
from torch_ppo.play import show
from torch_ppo.watching.arguments import PlayArguments

gymnasium = pytest.importorskip("gymnasium")
from gymnasium import spaces

SMALL = {
    "num_timesteps": 64, "num_envs": 4, "batch_size": 4, "num_minibatches": 2, "unroll_length": 8, "run_evals": False,
    "policy_hidden_layer_sizes": (8,), "value_hidden_layer_sizes": (8,),
}  # fmt: skip


class Drawn(gymnasium.Env):
    """Ends after five steps; its picture is as bright as steps were made, and tells the last action."""

    metadata = MappingProxyType({"render_modes": ["rgb_array"], "render_fps": 10})
    observation_space = spaces.Box(-1, 1, (2,))

    def __init__(self, action_space, render_mode=None):
        self.action_space, self.render_mode = action_space, render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.steps += 1
        return np.zeros(2, np.float32), 2.0, self.steps == 5, False, {}

    def render(self):
        return np.full((24, 32, 3), 40 * self.steps, np.uint8)


class Undrawn(Drawn):
    metadata = MappingProxyType({"render_modes": []})


@pytest.fixture(autouse=True)
def registered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, kind, space in (
        ("test/Choice-v0", Drawn, spaces.Discrete(3, start=-1)),
        ("test/Real-v0", Drawn, spaces.Box(-2, 2, (1,))),
        ("test/Undrawn-v0", Undrawn, spaces.Discrete(3)),
    ):
        gymnasium.register(name, entry_point=partial(kind, space), max_episode_steps=7)
    yield
    for name in ("Choice", "Real", "Undrawn"):
        del gymnasium.registry[f"test/{name}-v0"]


def trained(name):
    torch_ppo.train(f"gym:test/{name}-v0", save_checkpoint_path=f"{name}", **SMALL)
    return max(Path(name).rglob("*.pt"))


@pytest.mark.parametrize("name", ["Choice", "Real"])
def test_an_episode_becomes_a_video(capsys, name):
    run = trained(name)
    show(PlayArguments(run))
    assert "6 frames of 32x24, 0.6 s, reward 10" in capsys.readouterr().out
    (video,) = Path().glob(f"{name}-v0.*")
    if video.suffix == ".gif":
        with Image.open(video) as pictures:
            assert pictures.n_frames == 6
    show(PlayArguments(run, video=Path("two.gif"), steps=8, stochastic=True))
    with Image.open("two.gif") as pictures:
        assert pictures.n_frames == 9 and pictures.info["duration"] == 100
        pictures.seek(6)  # of the second episode
        assert np.asarray(pictures.convert("RGB")).mean() == pytest.approx(40, abs=8)


def test_what_cannot_be_played_is_one_line():
    run = trained("Choice")
    for options, words in (
        ({"web": True}, "--web is of our own simulation, and gym:test/Choice-v0 draws itself; leave it out"),
        ({"worlds": 4}, "--worlds is of our own simulation"),
        ({"env": "gym:test/Real-v0"}, r"it has 1 discrete action \(3 choices\), but gym:test/Real-v0 takes 1 action"),
        ({"env": "gym:test/Undrawn-v0"}, "gym:test/Undrawn-v0 has no render_mode rgb_array, so it cannot be drawn"),
        (
            {"env": "cartpole"},
            r"does not fit: it observes state 2, .*it has 1 discrete action \(3 choices\), but cartpole",
        ),
    ):
        if "web" in options:
            pytest.importorskip("viser")
        with pytest.raises(UserError, match=words) as error:
            show(PlayArguments(run, **options))
        assert "\n" not in str(error.value)
