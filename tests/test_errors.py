"""What is said to a user."""

import json
import subprocess
from types import SimpleNamespace

import pytest

from torch_ppo import errors


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder that pip has installed from, the package itself being elsewhere."""
    folder = tmp_path / "a clone"
    folder.mkdir()
    (folder / "pyproject.toml").touch()
    said = json.dumps({"url": folder.as_uri(), "dir_info": {}})
    monkeypatch.setattr(errors, "__file__", str(tmp_path / "site-packages" / "torch_ppo" / "errors.py"))
    monkeypatch.setattr("importlib.metadata.distribution", lambda name: SimpleNamespace(read_text=lambda file: said))
    return folder


def test_an_extra_is_installed_from_any_folder(checkout, tmp_path, monkeypatch):
    """`pip install '.[gym]'` is right in the checkout only; a shell gives pip the whole path in one piece."""
    monkeypatch.chdir(checkout)
    assert errors.install("gym") == "pip install '.[gym]'"
    monkeypatch.chdir(tmp_path)
    words = errors.install("gym")
    shown = subprocess.run(
        ["sh", "-c", words.replace("pip install", "printf '%s\\n'")], capture_output=True, text=True, check=True
    )
    assert shown.stdout == f"{checkout}[gym]\n"
    (checkout / "pyproject.toml").unlink()
    assert errors.install("gym") == "pip install '.[gym]' in a checkout of torch_ppo"
