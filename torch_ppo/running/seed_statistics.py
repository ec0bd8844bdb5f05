"""Several seeds of a training: what is typical of them, how sure that is, and whether two sets of them differ at all.

A return of one seed says little; so does a mean over few, which one lucky seed moves. See docs/plot.md.
"""

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Curve = list[tuple[int, float]]  # env steps, eval/episode_reward

LEVEL = 0.05  # p-values below are called a difference
RESAMPLES = 2_000


@dataclass(frozen=True)
class Spread:
    """What several seeds came to.

    seeds:               how many have a finite number
    median:              of them
    interquartile_mean:  mean of what remains when a quarter, rounded down, is taken off at either end
    interval:            of the interquartile mean: the middle 95 % of it over bootstrap samples; None for one seed
    lowest, highest:     of them
    """

    seeds: int
    median: float
    interquartile_mean: float
    interval: tuple[float, float] | None
    lowest: float
    highest: float


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis `(..., n)` without the `n // 4` lowest and the `n // 4` highest. Agarwal et al. 2021."""
    cut = values.shape[-1] // 4
    return np.sort(values, axis=-1)[..., cut : values.shape[-1] - cut].mean(axis=-1)


def bootstrap_interval(values: Sequence[float]) -> tuple[float, float]:
    """The middle 95 % of the interquartile means of samples of the values, drawn with replacement by a fixed seed."""
    pool = np.asarray(values, dtype=float)
    drawn = np.random.default_rng(0).integers(len(pool), size=(RESAMPLES, len(pool)))
    low, high = np.percentile(interquartile_mean(pool[drawn]), [2.5, 97.5])
    return float(low), float(high)


def spread(values: Sequence[float]) -> Spread | None:
    """Of one number per seed; None if none is finite."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return None
    return Spread(
        seeds=len(finite),
        median=statistics.median(finite),
        interquartile_mean=float(interquartile_mean(np.array(finite))),
        interval=bootstrap_interval(finite) if len(finite) > 1 else None,
        lowest=min(finite),
        highest=max(finite),
    )


def spread_by_step(curves: Sequence[Curve]) -> dict[int, Spread]:
    """At each number of env steps, over the seeds that were evaluated there."""
    by_step: dict[int, list[float]] = {}
    for curve in curves:
        for step, reward in curve:
            by_step.setdefault(step, []).append(reward)
    return {step: found for step in sorted(by_step) if (found := spread(by_step[step])) is not None}


def permutation_p(ours: Sequence[float], theirs: Sequence[float], *, most: int = 20_000) -> float:
    """Two-sided p-value of the difference of means: the share of the ways to deal the pooled values to the two sides that
    give a difference at least as large. Of all ways if there are at most `most`, else of so many random ones.
    """
    pooled, n = np.array([*ours, *theirs]), len(ours)

    def difference(own: np.ndarray) -> np.ndarray:
        return np.abs(own / n - (pooled.sum() - own) / (len(pooled) - n))

    if math.comb(len(pooled), n) <= most:
        sums = np.array([pooled[list(deal)].sum() for deal in itertools.combinations(range(len(pooled)), n)])
    else:
        rng = np.random.default_rng(0)
        sums = np.array([rng.permutation(pooled)[:n].sum() for _ in range(most - 1)] + [pooled[:n].sum()])
    # Sums of the same values in another order differ in the last digit.
    return float((difference(sums) >= difference(pooled[:n].sum()) * (1 - 1e-9) - 1e-12).mean())


def least_p(ours: int, theirs: int) -> float:
    """The smallest p-value that so many seeds on either side can have: of equally many, two deals differ the most."""
    return (2 if ours == theirs else 1) / math.comb(ours + theirs, ours)


def seeds_needed(comparisons: int) -> int:
    """Seeds of each variant with which so many comparisons, corrected by `holm`, can show a difference at all."""
    return next(n for n in itertools.count(2) if least_p(n, n) * comparisons < LEVEL)


def holm(p_values: list[float]) -> list[float]:
    """p-values corrected for how many there are (Holm 1979), in their order."""
    corrected, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = running
    return corrected


@dataclass(frozen=True)
class Comparison:
    """Whether a variant does better or worse than the one it is compared with, or whether that is noise.

    difference:  of the means over seeds
    p:           of the permutation test, corrected for the number of comparisons
    seeds:       of the variant, and of the one it is compared with
    wanted:      seeds of each with which a difference could be shown; 0 where these could have shown one
    """

    difference: float
    p: float
    seeds: tuple[int, int]
    wanted: int

    @property
    def noise(self) -> bool:
        """Whether chance alone would give such a difference more often than once in twenty times."""
        return self.p >= LEVEL

    def __str__(self) -> str:
        verdict = "a difference"
        if self.noise:
            verdict = "not told from noise"
        if self.wanted:
            verdict = f"{min(self.seeds)} seeds cannot tell it from noise, {self.wanted} of each could"
        return f"{self.difference:+.1f}, p = {self.p:.2g}: {verdict}"


def compare_with(reference: Sequence[float], others: dict[str, Sequence[float]]) -> dict[str, Comparison]:
    """Each of `others`, one number per seed, compared with the reference by name. Without the empty ones."""
    reference = [value for value in reference if math.isfinite(value)]
    finite = {name: [value for value in values if math.isfinite(value)] for name, values in others.items()}
    finite = {name: values for name, values in finite.items() if values and reference}
    corrected = holm([permutation_p(values, reference) for values in finite.values()])
    return {
        name: Comparison(
            difference=statistics.mean(values) - statistics.mean(reference),
            p=p,
            seeds=(len(values), len(reference)),
            wanted=0
            if least_p(len(values), len(reference)) * len(finite) < LEVEL
            else max(seeds_needed(len(finite)), 1 + min(len(values), len(reference))),
        )
        for (name, values), p in zip(finite.items(), corrected, strict=True)
    }
