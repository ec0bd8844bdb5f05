"""`torch_ppo.tasks --new`: what it writes for a robot trains as it stands, and means what it says."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import torch_ppo
from torch_ppo import tasks
from torch_ppo.formulas.controls import controls_of, within_range
from torch_ppo.settings.files import read_config
from torch_ppo.starting.files import write_starter
from torch_ppo.starting.robot import look_at

LEG = """
<body name="{name}" pos="{x} {y} 0">
  <joint name="{name} hip" axis="0 1 0" range="-60 60"/>
  <geom type="capsule" size=".02" fromto="0 0 0 0 0 -.15"/>
  <body pos="0 0 -.15"><joint name="{name} knee" axis="0 1 0" range="-90 0"/>
    <geom type="capsule" size=".02" fromto="0 0 0 0 0 -.15"/></body>
</body>
"""
LEGS = "".join(
    LEG.format(name=name, x=x, y=y)
    for name, x, y in (("fr", 0.2, -0.1), ("fl", 0.2, 0.1), ("br", -0.2, -0.1), ("bl", -0.2, 0.1))
)
SERVOS = "".join(
    f'<position name="{leg} {joint}" joint="{leg} {joint}" kp="40" kv=".5"/>'
    for leg in ("fr", "fl", "br", "bl")
    for joint in ("hip", "knee")
)
FLOOR = '<geom name="floor" type="plane" size="5 5 .1"/>'
QUADRUPED = """
<mujoco model="quadruped">
  <option timestep="0.004"/>
  <default><position inheritrange="1"/><joint armature=".01" damping=".2"/></default>
  <worldbody>{floor}<body name="trunk" pos="0 0 {height}"><freejoint/><geom type="box" size=".25 .1 .05" mass="5"/>{legs}</body>
  </worldbody>
  <actuator>{servos}</actuator>
  {more}
</mujoco>
"""
HOME = '<keyframe><key name="lying" qpos="{0}"/><key name="home" qpos="0 0 .305 1 0 0 0{1}" ctrl="{1}"/></keyframe>'.format(
    "0 0 .1 1 0 0 0" + 4 * " 0 0", 4 * " 0.1 -0.2"
)
ROBOTS = {
    "Müller's arm 2.xml": """
<mujoco>
  <worldbody><body><joint name="a" axis="0 1 0" range="-150 150"/><geom type="capsule" size=".03" fromto="0 0 0 .3 0 0"/>
    <body pos=".3 0 0"><joint name="b" axis="0 1 0"/><geom type="capsule" size=".03" fromto="0 0 0 .3 0 0"/></body>
  </body></worldbody>
  <actuator><motor name="say &quot;a&quot;" joint="a" ctrlrange="-5 5" ctrllimited="true"/>
    <motor joint="b" ctrlrange="0 3" ctrllimited="true"/></actuator>
</mujoco>
""",
    "cart-pole.xml": """
<mujoco>
  <option timestep="0.01"/>
  <worldbody><body name="cart"><joint name="slider" type="slide" axis="1 0 0" range="-2 2" limited="true"/>
    <geom type="box" size=".1 .1 .05" mass="1"/><body><joint name="hinge" axis="0 1 0"/>
    <geom type="capsule" size=".03" fromto="0 0 0 0 0 .6" mass=".1"/></body></body></worldbody>
  <actuator><motor joint="slider" ctrlrange="-1 1" ctrllimited="true"/></actuator>
</mujoco>
""",
    "quadruped.xml": QUADRUPED.format(floor=FLOOR, height=1, legs=LEGS, servos=SERVOS, more=""),
    "quadruped_home.xml": QUADRUPED.format(floor=FLOOR, height=1, legs=LEGS, servos=SERVOS, more=HOME),
    "quadruped_alone.xml": QUADRUPED.format(floor="", height=1, legs=LEGS, servos=SERVOS, more=HOME),
    "random.xml": """
<mujoco>
  <option><flag gravity="disable"/></option>
  <worldbody>
    <body name="thing" pos="1 0 0"><freejoint/><geom size=".1"/></body>
    <body name="swimmer"><freejoint/><geom size=".1"/><geom size=".1" pos=".2 0 0"/>
      <body pos=".2 0 0"><joint name="ball" type="ball"/><geom size=".1" pos=".2 0 0"/>
        <body pos=".2 0 0"><joint name="fin"/><geom size=".1" pos=".2 0 0"/></body></body></body>
  </worldbody>
  <tendon><fixed name="t"><joint joint="fin" coef="1"/></fixed></tendon>
  <actuator><muscle tendon="t" lengthrange="-1 1"/></actuator>
  <keyframe><key name="side" qpos="1 0 0 1 0 0 0 0 0 0 .707 .707 0 0 1 0 0 0 0"/></keyframe>
</mujoco>
""",
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """For each robot, in one folder, the files that were written and the class."""
    folder = tmp_path_factory.mktemp("robots")
    for name, text in ROBOTS.items():
        (folder / name).write_text(text)
    return {name: write_starter(folder / name, None) for name in ROBOTS}


def env_of(written, name, **settings):
    (task, _, _), cls = written[name]
    path, modules = list(sys.path), set(sys.modules)
    try:
        return torch_ppo.make_env(f"{task}:{cls}", **settings)
    finally:
        sys.path[:] = path
        for module in set(sys.modules) - modules:
            if str(getattr(sys.modules[module], "__file__", "")).startswith(str(task.parent)):
                del sys.modules[module]


def test_names(written):
    """Those of Python, and of nothing that is imported."""
    found = {name: (files[0].name, files[2].name, cls) for name, (files, cls) in written.items()}
    assert found["Müller's arm 2.xml"] == ("Müller_s_arm_2.py", "test_Müller_s_arm_2.py", "MüllerSArm2")
    assert found["cart-pole.xml"] == ("cart_pole.py", "test_cart_pole.py", "CartPole")
    assert found["random.xml"] == ("random_task.py", "test_random_task.py", "Random")


def test_generated_tests_pass(written):
    """All of them: each trains two steps. As a user runs them, with warnings as errors."""
    folder = written["cart-pole.xml"][0][0].parent
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "."]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and f"{3 * len(ROBOTS)} passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("name", ROBOTS)
def test_generated_code_is_clean(written, name):
    """By this project's own rules, names with umlauts included; the configuration is one."""
    files, _ = written[name]
    for command in (["check", "--no-cache"], ["format", "--no-cache", "--check"]):
        rules = ["--line-length", "120", *(["--select", "E,F,B,UP,N999"] if command[0] == "check" else [])]
        python = [str(path) for path in files if path.suffix == ".py"]
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *rules, "--isolated", *python], capture_output=True, check=False
        )
        assert done.returncode == 0, done.stdout.decode()
    assert read_config(str(files[1]))["random_episode_phase"] is True


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("Müller's arm 2.xml", (4, 2)),
        ("cart-pole.xml", (4, 1)),
        ("quadruped.xml", (13 + 14, 8)),
        ("quadruped_home.xml", (13 + 14, 8)),
        ("random.xml", (7 + 5 + 5 + 16 + 1, 1)),
    ],
)
def test_sizes(written, name, sizes):
    """All of qpos but the base's x and y, qvel, activations."""
    env = env_of(written, name)
    assert (env.observation_sizes["state"], env.action_dim) == sizes


def test_actions_reach_the_range_and_no_further(written):
    """It is declared, so that exported policies know it; MuJoCo keeps controls to their range."""
    env = env_of(written, "Müller's arm 2.xml", num_envs=4)
    action = torch.tensor([[-1.0, -1.0], [0.0, 0.0], [1.0, 1.0], [7.0, -7.0]])
    env.step(action)
    assert env.physics.ctrl[:3].tolist() == [[-5.0, 0.0], [0.0, 1.5], [5.0, 3.0]]
    scaling = env.scaling()
    assert torch.equal(controls_of(action, scaling), env.physics.ctrl)
    assert within_range(env.physics.ctrl, scaling)[3].tolist() == [5.0, 0.0]


def test_servos_hold_the_home_pose_at_zero(written):
    env = env_of(written, "quadruped_home.xml")
    env.step(torch.zeros(1, 8))
    torch.testing.assert_close(env.physics.ctrl[0], torch.tensor(4 * [0.1, -0.2]))
    env.step(torch.ones(1, 8))
    torch.testing.assert_close(
        env.physics.ctrl[0], torch.tensor(4 * [0.1, -0.2]) + torch.pi * torch.tensor(4 * [1 / 6, 1 / 8])
    )
    assert look_at(Path(written["quadruped.xml"][0][0]).with_suffix(".xml")).keyframe is None


@pytest.mark.parametrize("name", ["quadruped.xml", "quadruped_home.xml", "quadruped_alone.xml"])
def test_a_robot_that_stands_and_one_that_lies(written, name):
    """It stands for a second with action 0, upright: about half of the reward, as it does not go forward."""
    env = env_of(written, name, num_envs=2)
    assert 0.28 < env.physics.qpos[0, 2] < 0.34  # also where the model has it in the air
    for _ in range(50):
        _, reward, done = env.step(torch.zeros(2, 8))
        assert not done.any()
    assert (reward > 0.45).all() and (reward < 0.6).all()
    env.physics.qpos[0, 2] = 0.1
    assert env.task.terminated(env.physics, env.memory).tolist() == [True, False]


def test_forward_is_better_and_upside_down_is_worst(written):
    env = env_of(written, "quadruped_home.xml", num_envs=3)
    env.physics.qpos[:, 3:7] = torch.tensor([[1.0, 0, 0, 0], [1.0, 0, 0, 0], [0, 1.0, 0, 0]])
    env.physics.qvel[:, 0] = torch.tensor([0.0, 9.0, 9.0])
    reward, _ = env.task.reward(env.physics, env.memory, None)
    torch.testing.assert_close(reward, torch.tensor([0.5, 1.0, 0.0]))


def test_tipping_over_ends_an_episode_at_any_height(written):
    """A robot on wheels has its base at the axle, which is as high when it lies."""
    env = env_of(written, "quadruped_home.xml", num_envs=3)
    lean = torch.deg2rad(torch.tensor([0.0, 70.0, 75.0])) / 2
    env.physics.qpos[:, 3:7] = torch.stack([lean.cos(), 0 * lean, lean.sin(), 0 * lean], dim=1)
    assert env.task.terminated(env.physics, env.memory).tolist() == [False, False, True]


def test_a_base_that_lies_on_its_side_at_home(written):
    """Upright is as the home pose has it: here the base's own z axis is level."""
    env = env_of(written, "random.xml")
    env.physics.qpos.copy_(env.physics.keyframe("side")["qpos"])
    torch.testing.assert_close(env.task.uprightness(env.physics), torch.ones(1), atol=1e-3, rtol=0)
    env.physics.qpos[:, 10:14] = torch.tensor([0.7071, -0.7071, 0.0, 0.0])  # the other side
    torch.testing.assert_close(env.task.uprightness(env.physics), -torch.ones(1), atol=1e-3, rtol=0)
    assert env.task.terminated(env.physics, env.memory) is None  # nothing falls without gravity


def test_staying_at_the_pose_is_best(written):
    env = env_of(written, "cart-pole.xml", num_envs=2)
    env.physics.qpos.copy_(torch.tensor([[0.0, 0.0], [0.3, 0.3]]))
    reward, metrics = env.task.reward(env.physics, env.memory, None)
    torch.testing.assert_close(reward, torch.tensor([1.0, 0.3679]), atol=1e-4, rtol=0)
    torch.testing.assert_close(metrics["error_per_step"], torch.tensor([0.0, 0.3]))
    env.physics.qpos[0, 1] = 1.5  # of two, so 1.06
    assert env.task.terminated(env.physics, env.memory).tolist() == [True, False]


def program(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["tasks", *map(str, words)])
    try:
        tasks.main()
    except SystemExit as stopped:
        return stopped.code
    return 0


def test_into_another_folder(tmp_path, monkeypatch, capsys):
    """The task finds its MJCF from there; nothing is written a second time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "their robots").mkdir()
    mjcf = tmp_path / "their robots" / "scene.xml"
    mjcf.write_text(ROBOTS["cart-pole.xml"])
    assert program(monkeypatch, "--new", mjcf, "--output", "mine/tasks") == 0
    printed = capsys.readouterr().out
    assert [path.name for path in sorted(mjcf.parent.iterdir())] == ["scene.xml"]
    assert "mine/tasks/their_robots.py\n" in printed and "--env mine/tasks/their_robots.py:TheirRobots" in printed
    assert torch_ppo.make_env("mine/tasks/their_robots.py:TheirRobots").action_dim == 1
    before = Path("mine/tasks/their_robots.py").read_bytes()
    assert program(monkeypatch, "--new", mjcf, "--output", "mine/tasks") == 2
    assert "their_robots.py" in capsys.readouterr().err and Path("mine/tasks/their_robots.py").read_bytes() == before
    sys.modules.pop("their_robots", None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--new nowhere.xml", "there is no model file nowhere.xml"),
        ("--new still.xml", "still.xml has no actuators"),
        ("--new broken.xml", "broken.xml does not compile"),
        ("--new good.xml --output good.xml", "--output good.xml is a file"),
        ("--new good.xml --output good.xml/below", "cannot be written"),
        ("--output elsewhere", "--new my_robot.xml --output tasks"),
        ("--new good.xml cartpole", "--new my_robot.xml --output tasks"),
    ],
)
def test_what_is_refused(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    Path("good.xml").write_text(ROBOTS["cart-pole.xml"])
    Path("still.xml").write_text('<mujoco><worldbody><body><freejoint/><geom size="1"/></body></worldbody></mujoco>')
    Path("broken.xml").write_text("<mujoco><no/></mujoco>")
    before = sorted(tmp_path.iterdir())
    assert program(monkeypatch, *words.split()) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before
