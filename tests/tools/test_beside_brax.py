"""The comparison over tasks: what is made of curves that are there. Training both needs JAX and is done by hand."""

import json
import sys

import numpy as np
import pytest

pytest.importorskip("mujoco_playground")

from tools import beside_brax

pytestmark = pytest.mark.filterwarnings("ignore")  # of JAX


def test_report_of_what_is_there(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    for task, levels in (("CartpoleBalance", (100, 100)), ("PointMass", (100, 200))):
        (tmp_path / "runs" / task).mkdir(parents=True)
        for who, level in zip(("ours", "brax_jax"), levels, strict=True):
            for seed in range(5):
                rows = [{"step": 10 * i, "eval/episode_reward": level + rng.normal()} for i in range(3)]
                path = tmp_path / "runs" / task / f"{who}_seed{seed}.jsonl"
                path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "runs" / "PointMass" / "ours_seed7.jsonl").write_text("")  # Brax has none of that seed
    monkeypatch.setattr(sys, "argv", ["beside_brax", str(tmp_path / "runs"), "--report"])
    beside_brax.main()
    found = json.loads((tmp_path / "runs.json").read_text())["tasks"]
    assert list(found) == ["CartpoleBalance", "PointMass"]
    assert found["CartpoleBalance"]["area"] > 0.05 and found["PointMass"]["area"] == pytest.approx(2 / 252)
    assert found["PointMass"]["seeds"] == {"ours": 5, "brax": 5}
    said = capsys.readouterr().out
    assert "| PointMass | 20 | 5 | 101 ± 1 | 201 ± 1 | 100 ± 0 | 200 ± 1 | 0.01 | 0.02 |" in said
    assert "BallInCup: 0 seeds are too few" in said
    assert (tmp_path / "runs.png").stat().st_size > 5000
