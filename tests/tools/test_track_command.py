"""A command is held, seen by the policy, and compared with what the robot does."""

import sys

import mujoco
import pytest
import torch

from tools import track_command
from tools.track_command import TrackArguments, track
from torch_ppo.envs import make_task
from torch_ppo.running.checkpoint import save_checkpoint
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config
from torch_ppo.simulation.task import Task

MJCF = """
<mujoco>
  <option timestep="0.05" gravity="0 0 0"/>
  <worldbody>
    <body name="puck"><freejoint/><geom size="0.1" mass="1"/><site name="puck"/></body>
  </worldbody>
  <actuator><motor name="idle" site="puck" gear="0 0 0 0 0 0"/></actuator>
  <sensor><velocimeter name="velocity" site="puck"/><gyro name="gyro" site="puck"/></sensor>
</mujoco>
"""
SLOW = [0.0] * 10 + [1.0] * 5 + [0.8] * 5  # times the commanded velocity, by step
EPISODE = 7  # steps after which it falls


class Puck(Task):
    """Moves at once with the velocity of its action, forward, and turns a little; its command changes in every step."""

    control_dt = 0.1
    episode_length = 1000
    nconmax = njmax = 1

    def make_model(self):
        return mujoco.MjModel.from_xml_string(MJCF)

    def make_memory(self, num_envs, device):
        return {name: torch.zeros(num_envs, size, device=device) for name, size in SIZES.items()}

    def start(self, physics, memory, generator):
        memory["command"].uniform_(generator=generator)

    def apply(self, physics, memory, action):
        # Facing forward again: it turns by a hundredth of a radian before it is measured.
        physics.qpos[:, 3:] = torch.tensor([1.0, 0.0, 0.0, 0.0])
        physics.qvel.zero_()
        physics.qvel[:, 0] = action[:, 0]
        physics.qvel[:, 5] = 0.25

    def after_step(self, physics, memory, action):
        memory["age"] += 1
        memory["command_steps"] -= 1
        memory["command"] += (memory["command_steps"] <= 0).float()

    def observe(self, physics, memory):
        return memory["command"].clone()

    def reward(self, physics, memory, action):
        return torch.zeros_like(physics.time), {}

    def terminated(self, physics, memory):
        return memory["age"][:, 0] >= EPISODE


SIZES = {"command": 3, "command_steps": 1, "age": 1}


class SlowAgent:
    """Stands, goes as fast as it is told, then slower."""

    def __init__(self):
        self.factors = iter(SLOW)

    def mode(self, observation):
        return next(self.factors) * observation["state"][:, :1]


def test_what_is_measured():
    """Over two seconds, of which one counts: velocities by hand, and a fall of each world every seven steps."""
    arguments = TrackArguments(run=None, seconds=2.0, settle=1.0, num_envs=3)
    config = {"env": "tests.tools.test_track_command:Puck", "action_repeat": 1}
    found = track(SlowAgent(), config, torch.tensor([0.5, 0.2, -0.5]), arguments)
    torch.testing.assert_close(found.velocity, torch.tensor([0.45, 0.0, 0.25]), rtol=0, atol=0.01)
    torch.testing.assert_close(found.error, torch.tensor([0.05, 0.2, 0.75]), rtol=0, atol=0.01)
    assert found.falls == 3 * (20 // EPISODE)


@pytest.mark.parametrize(
    ("env", "options", "expected"),
    [
        ("quadruped_joystick", "--forward 0.5", "+0.50   +0.00   +0.00"),
        ("cartpole", "", "error: Cartpole has no velocity command to follow"),
        ("quadruped_joystick", "--settle 9", "error: nothing is left of 0.5 s after 9.0 s of settling"),
    ],
)
def test_program(tmp_path, monkeypatch, capsys, env, options, expected):
    config = Config(
        env=env, num_timesteps=1, run_evals=False, device="cpu", num_envs=4, batch_size=4, num_minibatches=1
    )
    save_checkpoint(TrainingState(config, make_task(env)).checkpoint(), tmp_path / "checkpoints" / "last.pt")
    command = f"track_command {tmp_path}/checkpoints/last.pt --num-envs 2 --seconds 0.5 --settle 0.1 {options}"
    monkeypatch.setattr(sys, "argv", command.split())
    try:
        track_command.main()
    except SystemExit as stop:
        assert stop.code == 2
    output = capsys.readouterr()
    assert expected in output.out + output.err
