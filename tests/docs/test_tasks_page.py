"""The page on tasks is run as it stands: its files are written, its commands and its Python are executed, in order."""

import inspect
import re
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.pages import DOCS, blocks, run_command
from torch_ppo.simulation.physics import Physics
from torch_ppo.simulation.task import Task

PAGE = DOCS / "tasks.md"
# In place of the model that the page names, which is not here: a free body with two actuated legs, at home.
STAND_IN = """
<mujoco>
  <worldbody>
    <geom type="plane" size="5 5 1"/>
    <body name="trunk" pos="0 0 0.5">
      <freejoint/>
      <geom type="box" size="0.2 0.1 0.05"/>
      <body pos="0.2 0 0"><joint name="front" axis="0 1 0"/><geom type="capsule" size="0.03" fromto="0 0 0 0 0 -0.3"/></body>
      <body pos="-0.2 0 0"><joint name="rear" axis="0 1 0"/><geom type="capsule" size="0.03" fromto="0 0 0 0 0 -0.3"/></body>
    </body>
  </worldbody>
  <actuator><position joint="front"/><position joint="rear"/></actuator>
  <keyframe><key name="home" qpos="0 0 0.35 1 0 0 0 0.1 -0.1"/></keyframe>
</mujoco>
"""


@pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated")  # as the page has it
def test_the_page_as_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "menagerie" / "unitree_go1").mkdir(parents=True)
    (tmp_path / "menagerie" / "unitree_go1" / "scene.xml").write_text(STAND_IN)
    monkeypatch.setenv("MUJOCO_MENAGERIE_PATH", str(tmp_path / "menagerie"))
    modules = set(sys.modules)
    seen, namespaces = [], []
    for file, language, code in blocks(PAGE):
        seen.append(file or language)
        if file is not None:
            assert (language, file.rpartition(".")[2]) in {("xml", "xml"), ("python", "py"), ("toml", "toml")}
            Path(file).write_text(code)
        elif language == "sh":
            for line in code.splitlines():
                run_command(monkeypatch, line)
        else:
            assert language == "python"
            namespaces.append({})
            exec(compile(code, "docs/tasks.md", "exec"), namespaces[-1])  # noqa: S102
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]

    expected = "arm.xml arm.py arm.toml sh python python shaky_arm.py sh python sprung_arm.py sh "
    expected += "sure_arm.py sh upright.py sh sh sh"
    assert seen == expected.split()
    output = capsys.readouterr().out
    rewards = [float(reward) for reward in re.findall(r"steps .*reward (\S+) ±", output)][:4]
    assert rewards[0] < 10 and max(rewards) > 40, rewards
    # The policies from the exported file, from the library call, and from load_policy.
    assert [namespace["action"].shape for namespace in namespaces if "action" in namespace] == [(1, 2)] * 3
    for name, size in {"arm.gif": (240, 180), "random.webp": (160, 120), "arm.png": (160, 120)}.items():
        with Image.open(name) as video:
            assert video.size == size and video.n_frames >= 25
    returns = [float(total) for total in re.findall(r"return (\S+) in 100 env steps", output)]
    assert len(returns) == 4 and sum(returns[:3]) / 3 > 40  # three episodes of arm.gif, one of arm.png
    assert re.search(r"reward \S+ ± \S+  length 100  success \d+%", output)
    assert re.search(r"sure_arm\.py:SureArm: return .* length 100, success \d+%, 50 episodes", output, re.MULTILINE)
    # Measured by random actions, twice, and by the policy: no contacts, and no more rows than limits of joints.
    sizes = re.findall(r"^arm\.py:Arm +(random|arm) +0 +0.0 +0 +0 +ok +[012] ", output, re.MULTILINE)
    assert sizes == ["random", "random", "arm"]
    assert re.search(r"^upright\.py:Upright +15 +2 ", output, re.MULTILINE)


def tables():
    """First cells of all rows of the page's tables, names in backquotes."""
    for line in PAGE.read_text().splitlines():
        if line.startswith("| `"):
            yield from re.findall(r"`(\w+)(?:\(\w+\))?`", line.split("|")[1])


def test_the_tables_are_the_contract():
    """Every attribute and method of Task is in a table, and nothing else but what there is."""
    declared = {*inspect.get_annotations(Task), *(name for name in vars(Task) if not name.startswith("_"))}
    physics = {*inspect.get_annotations(Physics), *(name for name in vars(Physics) if not name.startswith("_"))}
    found = set(tables())
    assert declared - {"make_physics"} <= found
    assert found - declared <= physics
