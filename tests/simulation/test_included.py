"""Somebody else's robot in one's own scene: included, attached, in folders with spaces and umlauts; what is missing is said."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from torch_ppo.envs import make_task
from torch_ppo.running.task_files import files_of
from torch_ppo.simulation.physics import PhysicsError, load_model

TETRAHEDRON = "v 0 0 0\nv {0} 0 0\nv 0 {0} 0\nv 0 0 {0}\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"
ROBOT = """
<mujoco model="{name}">
  {compiler}
  <asset><mesh name="{name}" file="body.obj"/>{more}</asset>
  <worldbody><body name="{name}"><geom type="mesh" mesh="{name}"/></body></worldbody>
</mujoco>
"""
SCENE = '<mujoco model="scene">{}<worldbody><geom type="plane" size="2 2 .1"/></worldbody></mujoco>'
INCLUDE = '<include file="../{}/robot.xml"/>'


@pytest.fixture
def place(tmp_path):
    """A folder with two robots, which have a mesh of the same name in folders of their own, and room for a scene."""
    place = tmp_path / "é mine"
    for name, folder, size in (("größe", "assets", 0.1), ("other", "meshes/fine", 0.2)):
        robot = place / name
        (robot / folder).mkdir(parents=True)
        (robot / folder / "body.obj").write_text(TETRAHEDRON.format(size))
        (robot / "robot.xml").write_text(ROBOT.format(name=name, compiler=f'<compiler meshdir="{folder}"/>', more=""))
    (place / "task").mkdir()
    return place


def scene(place: Path, text: str) -> Path:
    path = place / "task" / "my scene.xml"
    path.write_text(SCENE.format(text))
    return path


def sizes(path: Path | str) -> list[float]:
    """The longest edge of each mesh over the root of 2, by which they are told apart."""
    model = load_model(path)
    meshes = (model.mesh_vert[i : i + n] for i, n in zip(model.mesh_vertadr, model.mesh_vertnum, strict=True))
    longest = (np.linalg.norm(mesh[:, None] - mesh, axis=-1).max() for mesh in meshes)
    return [round(float(edge) / 2**0.5, 3) for edge in longest]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (INCLUDE.format("größe"), [0.1]),
        (INCLUDE.format("other"), [0.2]),
        (INCLUDE.format("größe") + INCLUDE.format("other"), [0.1, 0.2]),
        (INCLUDE.format("größe") + '<compiler meshdir="../größe/assets"/>', [0.1]),
        ('<compiler meshdir="nowhere"/>' + INCLUDE.format("größe"), [0.1]),
        (
            (
                '<asset><model name="r" file="../other/robot.xml"/></asset>'
                '<worldbody><attach model="r" body="other" prefix="r/"/></worldbody>'
            ),
            [0.2],
        ),
    ],
)
def test_a_robot_of_another_folder(place, text, expected):
    assert sizes(scene(place, text)) == expected


def test_from_the_folder_where_one_is(place, monkeypatch):
    scene(place, INCLUDE.format("größe"))
    monkeypatch.chdir(place / "task")
    assert sizes("my scene.xml") == [0.1]


def test_an_include_within_an_include(place):
    (place / "größe" / "with floor.xml").write_text('<mujoco><include file="robot.xml"/></mujoco>')
    assert sizes(scene(place, '<include file="../größe/with floor.xml"/>')) == [0.1]


def test_a_file_that_mujoco_finds_stays_that(place):
    """Even where the included MJCF means another one."""
    (place / "own").mkdir()
    (place / "own" / "body.obj").write_text(TETRAHEDRON.format(0.3))
    assert sizes(scene(place, INCLUDE.format("größe") + '<compiler meshdir="../own"/>')) == [0.3]


def test_textures(place):
    (place / "größe" / "pictures").mkdir()
    Image.new("RGB", (4, 2), "red").save(place / "größe" / "pictures" / "skin.png")
    compiler = '<compiler assetdir="assets" texturedir="pictures"/>'
    more = '<texture name="skin" type="2d" file="skin.png"/>'
    (place / "größe" / "robot.xml").write_text(ROBOT.format(name="größe", compiler=compiler, more=more))
    model = load_model(scene(place, INCLUDE.format("größe")))
    assert (model.tex_width[0], model.tex_height[0]) == (4, 2) and model.nmesh == 1


def test_what_is_nowhere_is_said_with_what_to_do(place):
    (place / "größe" / "assets" / "body.obj").unlink()
    with pytest.raises(PhysicsError) as said:
        load_model(scene(place, INCLUDE.format("größe")))
    message = str(said.value)
    assert "\n" not in message and "body.obj" in message and "my scene.xml" in message
    assert '<compiler meshdir="../robot/assets"/>' in message and "<attach " in message


@pytest.fixture
def task(place, monkeypatch):
    """A task in a file, with a name that needs quoting."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    scene(place, INCLUDE.format("größe") + INCLUDE.format("other"))
    path = place / "task" / "my task.py"
    path.write_text(
        "from pathlib import Path\nfrom torch_ppo import Task\n\n\n"
        'class Mine(Task):\n    mjcf = Path(__file__).with_name("my scene.xml")\n'
    )
    yield make_task(f"{path}:Mine")
    sys.modules.pop("my task", None)


def test_a_runs_folder_keeps_what_was_found(task, place, tmp_path):
    """The copies are whole: the scene compiles from them."""
    files_of(task).copy(tmp_path / "copies")
    place.rename(tmp_path / "elsewhere")
    (copy,) = (tmp_path / "copies").rglob("my scene.xml")
    assert sizes(copy) == [0.1, 0.2]
