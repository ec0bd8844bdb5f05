"""The wheel: what is in it, and that it trains where there is no checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from torch_ppo import __version__

ROOT = Path(__file__).parents[1]


def run(*command, **options):
    """A command's standard output; its standard error in the exception if it fails."""
    result = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, **options)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy of what git knows or would add, as a fresh clone has it."""
    place = tmp_path_factory.mktemp("wheel")
    files = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", cwd=ROOT).split("\0")
    for name in filter(None, files):
        if (ROOT / name).is_file():  # git also lists what was deleted and not yet committed
            (place / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, place / "clone" / name)
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check")
    run(*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", place, place / "clone")
    (built,) = place.glob("*.whl")
    return built


def test_contents(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert wheel.name == f"torch_ppo-{__version__}-py3-none-any.whl"
    assert {name.split("/")[0] for name in names} == {"torch_ppo", f"torch_ppo-{__version__}.dist-info"}
    rooms = [path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "torch_ppo").glob("**/__init__.py")]
    assert len(rooms) > 10
    for folder, packaged, pattern in [
        *((room, room, "*") for room in rooms),
        ("envs", "torch_ppo/envs", "*"),
        ("envs/assets", "torch_ppo/envs/assets", "*.xml"),
        ("torch_ppo/pretrained", "torch_ppo/pretrained", "*.safetensors"),
        ("configs", "torch_ppo/configs", "*.toml"),
        ("configs/presets", "torch_ppo/configs/presets", "*.toml"),
    ]:
        ours = {path.name for path in (ROOT / folder).glob(pattern) if path.is_file()}
        theirs = {Path(name).name for name in names if Path(name).parent == Path(packaged)}
        assert ours and theirs == ours, folder
    assert {"torch_ppo/py.typed", "torch_ppo/envs/assets/cartpole.xml", "torch_ppo/configs/cartpole.toml"} <= set(names)


def test_installed_wheel_trains(wheel, tmp_path):
    """In an empty folder, by the installed command, with a shipped task and its configuration."""
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, "--no-deps", "--no-index", "--target", tmp_path / "site", wheel)
    assert (tmp_path / "site" / "bin" / "torch-ppo").is_file()
    (tmp_path / "empty").mkdir()
    # Without the finder of an editable install, which would find in the checkout what the wheel lacks.
    program = "import sys; sys.meta_path[:] = [x for x in sys.meta_path if 'ditable' not in repr(x)]; "
    program += "import torch_ppo.train; print(torch_ppo.train.__file__); torch_ppo.train.main()"
    settings = "--config cartpole --device cpu --num-timesteps 320 --num-envs 8 --batch-size 8 --num-minibatches 2"
    settings += " --episode-length 20 --num-eval-envs 4 --num-evals 2 --run-dir run"
    output = run(
        *(sys.executable, "-c", program, *settings.split()),
        cwd=tmp_path / "empty",
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site"), "OMP_NUM_THREADS": "1"},
    )
    assert output.splitlines()[0] == str(tmp_path / "site" / "torch_ppo" / "train.py")
    assert {"config.toml", "metrics.jsonl", "policy.pt"} <= {path.name for path in (tmp_path / "empty/run").iterdir()}
