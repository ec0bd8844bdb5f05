"""Healthy runs trigger no rule: runs that are kept, and (slow) shipped configurations anew."""

import json
import math
from pathlib import Path

import pytest

from torch_ppo.diagnosis.course import Course
from torch_ppo.diagnosis.findings import Watch, diagnose
from torch_ppo.doctor import greatest_return, open_course
from torch_ppo.running.history import read_history
from torch_ppo.settings.config import Config
from torch_ppo.settings.files import load_config

ROOT = Path(__file__).parents[2]
KEPT = sorted((Path(__file__).parent / "healthy").glob("*.jsonl"))
# Measurements of this project, from before there was a doctor, with the numbers that there were.
MEASURED = sorted(
    path
    for folder in ("cartpole_cpu", "tasks_cpu", "joystick_cpu")
    for path in (ROOT / "docs/results" / folder).iterdir()
)
# What is known to have gone wrong in some of them.
WRONG = {
    "cartpole_swingup_sparse_seed0": {"reward fell"},  # found, and lost again
    "cartpole_swingup_sparse_seed1": {"reward fell"},
    "point_mass_easy_seed0": {"KL spike"},  # 210 in an interval, without harm that time
}


def found(course):
    """Rules that hold at the end, and those that a run would have told meanwhile."""
    watch = Watch([], course.config, course.max_reward)
    told = [f for row in course.rows for f in watch.look(row["step"], {k: v for k, v in row.items() if k != "step"})]
    return {finding.rule.name for finding in [*diagnose(course), *told]}


def kept_course(path):
    head, *rows = (json.loads(line) for line in path.read_text().splitlines())
    config = load_config(head["config"], **head["settings"])
    return Course(rows, config, greatest_return(config))


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_kept_runs(path):
    course = kept_course(path)
    assert course.rewards[-1].value > course.rewards[0].value
    assert found(course) == set()


@pytest.mark.parametrize("path", MEASURED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_measured_runs(path):
    task = "cartpole" if path.parent.name == "cartpole_cpu" else path.stem.rpartition("_seed")[0]
    rows = read_history(path)
    config = load_config(f"{task}_cpu", num_timesteps=rows[-1]["step"])
    assert config.env == task
    assert found(Course(rows, config, greatest_return(config))) == WRONG.get(path.stem, set())


def test_there_are_thirty():
    assert len(KEPT) + len(MEASURED) - len(WRONG) >= 30


def test_a_known_greatest_return():
    assert greatest_return(Config(env="cartpole", num_timesteps=1, episode_length=500)) == 500.0
    assert greatest_return(Config(env="ant", num_timesteps=1, episode_length=500)) == math.inf


SHIPPED = sorted(path.stem for path in (ROOT / "configs").glob("*_cpu.toml") if "swingup_sparse" not in path.stem)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configurations(name, tmp_path, monkeypatch):
    """A fifth of each, which takes minutes."""
    from torch_ppo import train

    steps = load_config(name).num_timesteps // 5
    arguments = ["--env", load_config(name).env, "--config", name, "--num-timesteps", str(steps)]
    monkeypatch.setattr("sys.argv", ["train", *arguments, "--run-dir", str(tmp_path / "run")])
    train.main()
    assert found(open_course(tmp_path / "run")[0]) == set()
