"""Without the packages of the other trainers: one line that says what to install, and the face can still be looked at."""

import sys

import pytest

import torch_ppo


def without(monkeypatch, package, *ours):
    """As if a package were not installed; what of ours imports it is imported anew."""
    for name in ours:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, package, None)


def test_gymnasium(monkeypatch):
    without(monkeypatch, "gymnasium", "torch_ppo.elsewhere.gymnasium_envs", "torch_ppo.gymnasium")
    with pytest.raises(torch_ppo.UserError, match=r"make_vec needs the package gymnasium: pip install '\.\[gym\]'"):
        torch_ppo.make_vec("cartpole")
    with pytest.raises(torch_ppo.UserError, match=r"torch_ppo\.gymnasium needs the package gymnasium"):
        __import__("torch_ppo.gymnasium")


def test_rsl_rl(monkeypatch):
    monkeypatch.setattr("torch_ppo.elsewhere.rsl_rl.VecEnv", None)
    with pytest.raises(torch_ppo.UserError, match="RslRlEnv needs RSL-RL: pip install rsl-rl-lib"):
        torch_ppo.RslRlEnv(torch_ppo.make_env("cartpole"))
