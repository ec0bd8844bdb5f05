"""What is said of several seeds: against scipy, and by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from torch_ppo.running.seed_statistics import (
    bootstrap_interval,
    compare_with,
    holm,
    interquartile_mean,
    least_p,
    permutation_p,
    seeds_needed,
    spread,
    spread_by_step,
)


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


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 8, 15])
def test_interquartile_mean_is_the_trimmed_mean_of_scipy(n):
    values = np.random.default_rng(n).normal(size=(3, n))
    np.testing.assert_allclose(interquartile_mean(values), stats.trim_mean(values, 0.25, axis=-1))


def test_bootstrap_interval_is_that_of_scipy():
    """Percentiles over resamples; both draw at random."""
    values = np.random.default_rng(4).normal(loc=500, scale=100, size=10)
    theirs = stats.bootstrap((values,), lambda x, axis: stats.trim_mean(x, 0.25, axis=axis), method="percentile", rng=5)
    assert bootstrap_interval(values) == pytest.approx(tuple(theirs.confidence_interval), abs=8)


def test_spread():
    """By hand: of five, one is taken off at either end."""
    found = spread([0.0, 10.0, 20.0, 60.0, 1000.0, math.nan])
    assert (found.seeds, found.median, found.interquartile_mean) == (5, 20.0, 30.0)
    assert (found.lowest, found.highest) == (0.0, 1000.0)
    assert 0 <= found.interval[0] < 30 < found.interval[1] <= 1000
    assert spread([3.0]).interval is None and spread([math.nan]) is None


def test_spread_by_step():
    """A seed that ended early counts as far as it came."""
    found = spread_by_step([[(0, 1.0), (10, 2.0)], [(0, 3.0)], [(0, 5.0), (10, math.inf)]])
    assert {step: (at.seeds, at.median) for step, at in found.items()} == {0: (3, 3.0), 10: (1, 2.0)}


@pytest.mark.parametrize(("ours", "theirs"), [(2, 2), (3, 3), (3, 5), (6, 4)])
def test_least_p_is_that_of_the_clearest_difference(ours, theirs):
    clearest = permutation_p([0.0] * ours, [1.0] * theirs)
    assert least_p(ours, theirs) == pytest.approx(clearest)


def test_seeds_needed():
    """2 / C(8, 4) = 0.0286 is below 0.05, 2 / C(6, 3) = 0.1 is not; and with two comparisons only half of it is allowed."""
    assert [seeds_needed(comparisons) for comparisons in (1, 2, 6, 7)] == [4, 5, 5, 6]


def test_compare_with():
    rng = np.random.default_rng(6)
    reference = rng.normal(size=6) + 100
    found = compare_with(reference, {"same": rng.normal(size=6) + 100, "worse": rng.normal(size=6) + 50, "failed": []})
    assert list(found) == ["same", "worse"] and found["same"].noise and not found["worse"].noise
    assert found["worse"].p == pytest.approx(2 * 2 / 924) and found["worse"].difference == pytest.approx(-50, abs=2)
    assert str(found["worse"]).endswith(": a difference") and str(found["same"]).endswith("not told from noise")


def test_too_few_seeds_are_said_to_be_too_few():
    """However large the difference: of three and three the permutation test's p is 0.1 or more."""
    found = compare_with([0.0, 1.0, 2.0], {"much": [900.0, 901.0, 902.0]})["much"]
    assert found.noise and found.p == pytest.approx(0.1)
    assert str(found) == "+900.0, p = 0.1: 3 seeds cannot tell it from noise, 4 of each could"
    assert compare_with([1.0], {"one": [5.0]})["one"].p == 1.0
