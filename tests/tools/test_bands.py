"""The test by which learning curves of two trainers are compared."""

import numpy as np
import pytest
from scipy import stats

from tools.bands import compare, draw, holm, permutation_p


@pytest.mark.parametrize("shift", [0.0, 0.7, 3.0])
def test_permutation_test_is_that_of_scipy(shift):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=5), rng.normal(size=5) + shift
    expected = stats.permutation_test((a, b), lambda x, y: abs(x.mean() - y.mean()), alternative="greater")
    assert permutation_p(list(a), list(b)) == pytest.approx(expected.pvalue)


def test_extremes():
    assert permutation_p([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) == 1.0
    assert permutation_p([0.0] * 5, [1.0] * 5) == pytest.approx(2 / 252)


def test_many_seeds_are_dealt_at_random():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=15), rng.normal(size=15) + 0.8
    expected = stats.permutation_test((a, b), lambda x, y: abs(x.mean() - y.mean()), alternative="greater", rng=3)
    assert 0.005 < expected.pvalue < 0.2
    assert permutation_p(list(a), list(b)) == pytest.approx(expected.pvalue, rel=0.25)


def test_holm():
    """The example by hand: 0.01 * 3, 0.02 * 2, then no smaller than the one before."""
    assert holm([0.02, 0.01, 0.03]) == pytest.approx([0.04, 0.03, 0.04])


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
    draw({"ours": shorter, "brax": curves(1)}, tmp_path / "bands.png", "")
    assert (tmp_path / "bands.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="in common"):
        compare({0: [(1, 0.0)]}, {0: [(2, 0.0)]})
