"""docs/task_list.md is what tools.task_table makes of the tasks there are."""

import pytest

from tools import task_table
from torch_ppo.envs import ENVS


def test_the_page_is_that_of_the_tasks():
    assert task_table.PAGE.read_text() == task_table.page(), "python -m tools.task_table writes it anew"


def test_every_task_has_words():
    assert task_table.WORDS.keys() == ENVS.keys()


def test_sizes_that_do_not_add_up_are_refused(monkeypatch):
    words = task_table.WORDS["cartpole"]
    wrong = words._replace(observations=task_table.alone(("position", 1), ("velocity", 1)))
    monkeypatch.setitem(task_table.WORDS, "cartpole", wrong)
    with pytest.raises(
        ValueError, match=r"cartpole observes \{'state': 5\}, but the parts named here have \{'state': 2\}"
    ):
        task_table.section("cartpole")


def test_what_ends_a_task_is_said_of_those_that_end():
    """And of no other: a task that begins to terminate needs words."""
    for name, make in ENVS.items():
        has_end = task_table.WORDS[name].ends != "time limit only"
        assert has_end == (type(make()).terminated is not task_table.Task.terminated), name
