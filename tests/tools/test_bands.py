"""Learning curves of two trainers, compared. The test itself is in tests/running/test_seed_statistics.py."""

import numpy as np
import pytest

from tools.bands import compare, draw


def test_compare(tmp_path):
    rng = np.random.default_rng(1)

    def curves(level):
        return {seed: [(step, level * step + rng.normal()) for step in range(4)] for seed in range(5)}

    same, other = compare(curves(1), curves(1)), compare(curves(1), curves(5))
    assert same["area"] > 0.05 and min(same["steps"].values()) > 0.05
    assert other["area"] == pytest.approx(2 / 252)
    assert other["steps"][0] > 0.05 > other["steps"][3]  # they start alike
    shorter = {seed: curve[:2] for seed, curve in curves(1).items()}
    assert compare(shorter, curves(1))["env_steps"] == [0, 1]
    draw({"": {"ours": shorter, "brax": curves(1)}}, tmp_path / "bands.png")
    assert (tmp_path / "bands.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="in common"):
        compare({0: [(1, 0.0)]}, {0: [(2, 0.0)]})
