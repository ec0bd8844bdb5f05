"""The page in a browser: what its controls do, what it is sent, and what cannot be served."""

import sys
import time
import urllib.request

import numpy as np
import pytest
import torch

from torch_ppo import play
from torch_ppo.errors import UserError
from torch_ppo.watching import web
from torch_ppo.watching.arguments import PlayArguments
from torch_ppo.watching.player import make_player
from torch_ppo.watching.web import Page, check_web, places


def test_places():
    """In rows and columns, all apart, the first in the middle."""
    for count in (1, 2, 4, 5, 9, 16, 36):
        found = places(count, 2.0)
        assert found.shape == (count, 3) and (found[0] == 0).all() and (found[:, 2] == 0).all()
        distances = np.linalg.norm(found[:, None] - found, axis=2)
        assert (distances[~np.eye(count, dtype=bool)] >= 2.0).all()
        assert np.abs(found).max() <= 2.0 * np.ceil(np.sqrt(count) / 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"steps": 5}, "--steps has no effect with --web"),
        ({"seconds": 5.0}, "--seconds has no effect with --web"),
        ({"camera": "side"}, "--camera has no effect with --web"),
        ({"port": 0}, "--port is 0, but must be from 1 to 65535"),
        ({"host": "256.1.1.1"}, "--host 256.1.1.1"),
        ({"host": "nowhere..x"}, "--host nowhere..x: .*; 127.0.0.1 would work"),
        ({"host": "192.0.2.1"}, "--host 192.0.2.1"),
    ],
)
def test_what_cannot_be_served(arguments, words, monkeypatch):
    monkeypatch.setattr("torch_ppo.watching.web.is_installed", lambda name: True)
    with pytest.raises(UserError, match=words):
        check_web(PlayArguments(**arguments))


def test_a_package_that_is_missing_is_named(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["play", "--env", "cartpole", "--policy", "zero", "--web"])
    with pytest.raises(SystemExit) as end:
        play.main()
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        "error: --web needs viser, of the extra web: pip install '.[web]'; --video play.gif would work\n"
    )


@pytest.fixture
def page(request):
    """The page of a task, served; its arguments come from the test's `page` mark."""
    pytest.importorskip("viser")
    pytest.importorskip("mjviser")
    arguments = PlayArguments(policy="random", port=8477, **request.param)
    page = Page(make_player(arguments), arguments)
    yield page
    page.server.stop()


@pytest.mark.parametrize("page", [{"env": "quadruped_joystick", "worlds": 3}], indirect=True)
@pytest.mark.filterwarnings("ignore")
def test_commands_by_hand(page):
    """The policy is told what the sliders say, in every world, as long as the box is checked."""
    before = page.env.memory["command"].clone()
    page.command()
    assert torch.equal(page.env.memory["command"], before)
    assert [slider.max for slider in page.commands] == [1.5, 0.8, 1.2]
    page.by_hand.value = True
    for slider, value in zip(page.commands, (1.0, -0.4, 0.6), strict=True):
        slider.value = value
    told = []
    act = page.played.act

    def listening(observation):
        of_others = ~page.env.done.bool()  # a new episode begins with a command that was drawn
        told.append(observation["state"][of_others, -3:].clone())
        return act(observation)

    page.played.act = listening
    run_for(page, 0.5)
    assert len(told) > 3
    for commands in told[1:]:
        torch.testing.assert_close(commands, torch.tensor([[1.0, -0.4, 0.6]]).expand_as(commands))


def run_for(page, seconds, between=lambda: None):
    """The page's loop for a while."""
    until, sleep = time.monotonic() + seconds, time.sleep

    def nap(duration):
        between()
        if time.monotonic() > until:
            raise KeyboardInterrupt
        sleep(min(duration, 1.0))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(web.time, "sleep", nap)
        with pytest.raises(KeyboardInterrupt):
            page.run()


@pytest.mark.parametrize("page", [{"env": "cartpole", "worlds": 2}], indirect=True)
@pytest.mark.filterwarnings("ignore")
def test_pause_step_and_new_episodes(page):
    page.set_paused(True)
    run_for(page, 0.2)
    assert page.env.physics.time.max() == 0 and page.pause_button.label == "Go on"
    page.one_step = True
    run_for(page, 0.2)
    assert torch.allclose(page.env.physics.time[:], torch.tensor(page.env.task.control_dt))
    page.set_paused(False)
    page.speed.value = 0.05
    started, before = time.monotonic(), page.env.physics.time[0].item()
    run_for(page, 1.0)
    slow = page.env.physics.time[0].item() - before
    assert 0 < slow <= 0.06 * (time.monotonic() - started) + 2 * page.env.task.control_dt
    page.restart = True
    page.set_paused(True)
    run_for(page, 0.1)
    assert page.env.physics.time.max() == 0


@pytest.mark.parametrize("page", [{"env": "cartpole", "worlds": 4}], indirect=True)
@pytest.mark.filterwarnings("ignore")
def test_what_is_drawn(page):
    """Every world where it stands, with rails of its own; the page itself is there, on this machine alone."""
    sent = []
    page.scene.update_from_arrays = lambda *arrays: sent.append(arrays)
    page.env.step(page.played.act(page.env.observation))
    page.draw()
    positions, rotations, mocap, _ = sent[0]
    cart = page.model.body("cart").id
    expected = page.env.physics.qpos[:, 0].numpy() + page._places[:, 0]
    np.testing.assert_allclose(positions[:, cart, 0], expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(rotations.reshape(-1, 3, 3)), 1.0, atol=1e-6)
    assert mocap.shape == (4, page.model.nmocap, 3)
    names = list(page.server.scene._handle_from_node_name)
    for world in (1, 2, 3):
        assert any(f"of_world_{world}/" in name for name in names)
    address = f"http://127.0.0.1:{page.server.get_port()}"
    assert b"<html" in urllib.request.urlopen(address).read().lower()
    assert page.server.get_host() == "127.0.0.1"
