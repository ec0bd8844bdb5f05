"""docs/api.md: it lists the public face, and its examples run as they stand."""

import re
from pathlib import Path

import pytest
import torch

import torch_ppo

PAGE = Path(__file__).parents[2] / "docs" / "api.md"


def test_the_page_lists_the_face():
    text = PAGE.read_text()
    listed = {name for row in re.findall(r"^\| \[(.+?)\]", text, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    headings = {name for row in re.findall(r"^## (.+)$", text, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert listed == headings == set(torch_ppo.FACE)


@pytest.mark.parametrize("name", torch_ppo.FACE)
def test_names_are_there(name):
    assert name in dir(torch_ppo) and getattr(torch_ppo, name) is not None


def test_the_page_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MUJOCO_MENAGERIE_PATH", str(tmp_path))
    namespace = {}
    for code in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        exec(compile(code, "docs/api.md", "exec"), namespace)  # noqa: S102
    assert isinstance(namespace["saved"](torch.zeros(2, 5)), torch.Tensor)
