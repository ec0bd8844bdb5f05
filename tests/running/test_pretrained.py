"""The policies that come along: small, whole, of the tasks as they are, and as good as the page says."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from torch_ppo import evaluate, load_policy, rollout
from torch_ppo.envs import ENVS, make_task
from torch_ppo.exporting.errors import ExportError
from torch_ppo.running.pretrained import FOLDER, find_policy, pretrained_tasks
from torch_ppo.simulation.scaling import actuator_names
from torch_ppo.simulation.task import observation_parts

PAGE = (Path(__file__).parents[2] / "docs" / "pretrained.md").read_text()
# task: return and its standard deviation over episodes, as the page has them
RETURNS = {
    task: (float(mean.replace(",", "")), float(std.replace(",", "")))
    for task, mean, std in re.findall(r"^\| `(\w+)` \| ([\d,.]+) ± ([\d,.]+)", PAGE, re.MULTILINE)
}
each = pytest.mark.parametrize("task", pretrained_tasks())


def test_the_page_has_them_all():
    assert sorted(RETURNS) == pretrained_tasks() and len(RETURNS) >= 3
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 400_000
    assert {path.suffix for path in FOLDER.iterdir()} == {".safetensors"}


@each
def test_is_of_the_task_as_it_is(task):
    """Another observation or action needs another policy; a camera or a light in the model does not."""
    contract, live = load_policy(task).contract, make_task(task)
    assert task in ENVS and contract["task"]["name"] == task and contract["task"]["mjcf_sha256"]
    observation = contract["observation"]
    assert observation["parts"] == observation_parts(live, observation["key"], observation["size"])
    assert [x["name"] for x in contract["action"]["actuators"]] == list(actuator_names(live.make_model()))
    assert contract["origin"]["env_steps"] > 0
    assert contract["seconds_per_action"] == pytest.approx(make_task(task).control_dt * contract["action_repeat"])


@each
def test_does_what_the_page_says(task):
    """Eight whole episodes; four standard errors of their mean, and what the page's own mean is off by."""
    mean, std = RETURNS[task]
    result = evaluate(task, episodes=8, seed=7)
    assert result.env == task
    assert abs(result.mean - mean) < 4 * std * (1 / 8 + 1 / 100) ** 0.5 + 1e-3 * mean


def test_by_any_of_the_tasks_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_policy("WalkerWalk").path == load_policy("walker_walk").path == FOLDER / "walker_walk.safetensors"
    assert len(rollout("cartpole", steps=3).rewards) == 3
    with pytest.raises(ExportError, match=r"no policy of it comes along; those of .*walker_walk"):
        load_policy("cheetah_run")
    (tmp_path / "cartpole").mkdir()  # what is there comes first
    assert find_policy(Path("cartpole")) == Path("cartpole")


def test_settings_of_its_run_hold():
    """Actions last as long as they did there; the contract has it, and nothing else is known of the run."""
    policy = load_policy("walker_walk")
    assert policy.config.action_repeat == 2 and policy.config.env == "walker_walk"
    assert policy(torch.zeros(3, 24)).shape == (3, 6)


def test_arrays_of_float64_are_seen_as_tensors():
    """As Gymnasium's environments give them."""
    policy = load_policy("cartpole")
    assert torch.equal(policy(np.full((2, 5), 0.5)), policy(torch.full((2, 5), 0.5)))


@pytest.mark.parametrize(("name", "meant"), [("walker_wal", "walker_walk"), ("cartpol", "cartpole")])
def test_a_name_that_is_nearly_one_is_guessed(name, meant):
    with pytest.raises(ExportError, match=f"there is no run folder or checkpoint {name}, .*; did you mean '{meant}'"):
        find_policy(Path(name))
    assert find_policy(Path("runs/else")) == Path("runs/else")
