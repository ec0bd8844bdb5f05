"""Contacts and constraint rows are counted right, and too small buffers are noticed, by the tool and in training."""

import sys

import mujoco
import pytest
import torch

from tools import size_buffers
from tools.size_buffers import Demand, SizeArguments, judge, recommend
from torch_ppo import evaluate
from torch_ppo.envs import make_task
from torch_ppo.in_folder import warnings_in
from torch_ppo.running.checkpoint import save_checkpoint
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config
from torch_ppo.simulation.task import Task
from torch_ppo.train import train

# At rest on the floor: a sphere with one contact and a box with four, each with two friction axes of two rows. One row
# more for the hinge, which is at its limit.
MJCF = """
<mujoco>
  <option cone="pyramidal"/>
  <worldbody>
    <geom type="plane" size="5 5 1"/>
    <body pos="0 0 0.0999"><joint type="slide" axis="0 0 1"/><geom type="sphere" size="0.1"/></body>
    <body pos="1 0 0.0999"><joint type="slide" axis="0 0 1"/><geom type="box" size="0.1 0.1 0.1"/></body>
    <body pos="2 0 3">
      <joint name="hinge" type="hinge" axis="0 1 0" limited="true" range="-90 90" ref="95"/>
      <geom size="0.1" contype="0" conaffinity="0"/>
    </body>
  </worldbody>
  <actuator><motor joint="hinge" gear="0.001"/></actuator>
</mujoco>
"""
CONTACTS, ROWS = 1 + 4, (1 + 4) * 4 + 1


class Still(Task):
    """In every other env the box is held up, too high to come down."""

    control_dt = 0.01
    nconmax, njmax = 3, 16

    def make_model(self):
        return mujoco.MjModel.from_xml_string(MJCF)

    def start(self, physics, memory, generator):
        physics.qpos[::2, 1] = 1e3
        physics.qpos[:, 2] += 0.1

    def observe(self, physics, memory):
        return physics.qpos

    def reward(self, physics, memory, action):
        return physics.qpos[:, 0], {}


NAME = f"{__name__}:Still"


@pytest.mark.parametrize("engine", ["mujoco", "warp"])
def test_counts(monkeypatch, engine):
    """By hand: all have the sphere's contact, half of them the box's four as well."""
    monkeypatch.setattr(size_buffers, "ROOMY", 32)  # for which other tests compile too
    arguments = SizeArguments(num_envs=6, steps=3, engine=engine)
    demand, model = size_buffers.measure_random(NAME, arguments)
    assert demand == Demand(most_contacts=CONTACTS, mean_contacts=3.0, most_rows=ROWS)
    assert size_buffers.can_touch(model)
    row = size_buffers.row(NAME, "random", (demand, model), 1.25)
    # Declared are 3 contacts on average, which fit, and 16 rows, which do not.
    assert row == (NAME, "random", "5", "3.0", "5", "3", "tight", "21", "27", "16", "TOO SMALL")


def test_demand_is_the_greatest_at_one_time():
    demand = Demand()
    demand.add(torch.tensor([1, 5]), torch.tensor([4, 9]))
    demand.add(torch.tensor([4, 3]), torch.tensor([11, 0]))
    assert demand == Demand(most_contacts=5, mean_contacts=3.5, most_rows=11)


def test_recommendations():
    """The pool holds the mean with a margin, and the worst world alone; each world its rows with a margin."""
    assert recommend(Demand(9, 4.0, 30), 1.25, can_touch=True) == (9, 38)
    assert recommend(Demand(9, 8.0, 30), 1.25, can_touch=True) == (10, 38)
    assert recommend(Demand(0, 0.0, 0), 1.25, can_touch=True) == (4, 0)
    assert recommend(Demand(0, 0.0, 2), 1.25, can_touch=False) == (0, 3)


@pytest.mark.parametrize(
    ("declared", "needed", "recommended", "grain", "verdict"),
    [
        (None, 3, 4, 1, "not declared"),
        (2, 3, 4, 1, "TOO SMALL"),
        (3, 3, 4, 1, "tight"),
        (4, 3, 4, 1, "ok"),
        (16, 3, 4, 1, "ok"),
        (17, 3, 4, 1, "wasteful"),
        (0, 0, 0, 1, "ok"),
        (5, 0, 0, 1, "wasteful"),
        (16, 1, 2, 16, "ok"),  # 16 are allocated in any case
        (128, 10, 17, 16, "ok"),
        (129, 10, 17, 16, "wasteful"),
    ],
)
def test_verdicts(declared, needed, recommended, grain, verdict):
    assert judge(declared, needed, recommended, grain) == verdict


def test_program(tmp_path, monkeypatch, capsys):
    """A task without contacts, and a run's policy."""
    config = Config(env="cartpole", num_timesteps=1, run_evals=False, device="cpu", policy_hidden_layer_sizes=(4,))
    checkpoint = TrainingState(config, make_task("cartpole")).checkpoint()
    save_checkpoint(checkpoint, tmp_path / "run" / "checkpoints" / "last.pt")
    options = f"--env finger_spin --run {tmp_path}/run --num-envs 4 --steps 20"
    monkeypatch.setattr(sys, "argv", ["tools.size_buffers", *options.split()])
    size_buffers.main()
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:2] for line in lines] == [
        ["task", "actions"],
        ["finger_spin", "random"],
        ["cartpole", "random"],
        ["cartpole", "run"],
    ]
    assert lines[2][2:7] == ["0", "0.0", "0", "0", "ok"]


# What happens to a task with too small buffers

SETTINGS = {
    "num_timesteps": 64,
    "num_envs": 4,
    "unroll_length": 2,
    "batch_size": 2,
    "num_minibatches": 2,
    "num_updates_per_batch": 1,
    "run_evals": False,
    "policy_hidden_layer_sizes": (4,),
    "value_hidden_layer_sizes": (4,),
    "device": "cpu",
    "physics": "warp",
}


@pytest.mark.parametrize(
    ("sizes", "overflowed"),
    [
        ({"nconmax": 8, "njmax": 32}, 0),
        ({"nconmax": 8, "njmax": 16}, 2),  # only where the box lies do rows not fit
        ({"nconmax": 2, "njmax": 32}, None),  # of the pool; who is left out is not specified
    ],
)
def test_training_reports_overflow(monkeypatch, sizes, overflowed):
    for name, size in sizes.items():
        monkeypatch.setattr(Still, name, size)
    reports = []
    train(Still(), **{**SETTINGS, "num_evals": 2}, progress_fn=lambda step, metrics: reports.append(metrics))
    found = reports[-1]["training/overflowed_envs"]
    assert found == overflowed if overflowed is not None else 0 < found <= 4
    warnings = warnings_in(reports[-1])
    assert len(warnings) == (found > 0)
    assert not found or f"{found:.0f} envs have exceeded a buffer of MuJoCo Warp" in warnings[0]


def test_evaluation_reports_overflow():
    """The eval envs have buffers of their own."""
    reports = []
    settings = {**SETTINGS, "num_evals": 2, "run_evals": True, "num_eval_envs": 6, "episode_length": 3}
    task = Still()
    task.njmax = 32
    short = Still()  # njmax 16: rows do not fit where the box lies
    short.nconmax = 8
    _, _, metrics = train(
        task, eval_env=short, **settings, progress_fn=lambda step, metrics: reports.append(warnings_in(metrics))
    )
    assert metrics["eval/overflowed_envs"] == 3
    assert len(reports) == 2
    for warnings in reports:
        assert "3 eval envs have exceeded a buffer of MuJoCo Warp" in warnings[-1]
    with pytest.warns(UserWarning, match="3 envs have exceeded a buffer of MuJoCo Warp"):
        evaluate(lambda seen: torch.zeros(6, 1), short, episodes=6, physics="warp", episode_length=3)
