"""What a rule looks for in the course of a run. Each function makes a condition, which says in words what it found, or None.

Numbers that a run did not report are not judged.
"""

import bisect
import math
from collections.abc import Callable

from torch_ppo.diagnosis.course import Course, Point

Condition = Callable[[Course], str | None]


def short(name: str) -> str:
    """A metric's name without where it comes from."""
    return name.removeprefix("training/").removeprefix("eval/")


def number(value: float) -> str:
    """A number for reading: 0.0123, 4.1, 25,760."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "inf"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def said(course: Course, name: str, point: Point) -> str:
    return f"{short(name)} is {number(point.value)} {course.at(point.step)}"


def not_finite(*names: str) -> Condition:
    """A number is inf or NaN."""

    def condition(course: Course) -> str | None:
        bad = [(p.step, name, p) for name in names for p in course.series(name) if not math.isfinite(p.value)]
        return said(course, *min(bad)[1:]) if bad else None

    return condition


def above(name: str, limit: float, *, skip: int = 0, times: int = 1) -> Condition:
    """More than `limit` in `times` reports or more, of which the largest is told; the first `skip` do not count."""

    def condition(course: Course) -> str | None:
        high = [p for p in course.series(name)[skip:] if p.value > limit]
        return said(course, name, max(high, key=lambda p: p.value)) if len(high) >= times else None

    return condition


def below(name: str, limit: float) -> Condition:
    """Less than `limit` in a report, of which the first is told."""

    def condition(course: Course) -> str | None:
        return next((said(course, name, p) for p in course.series(name) if p.value < limit), None)

    return condition


def usually_above(name: str, limit: float, *, reports: int = 3) -> Condition:
    """More than `limit` in more than half of all reports, if there are that many."""

    def condition(course: Course) -> str | None:
        points = course.series(name)
        high = [p for p in points if p.value > limit]
        if len(points) < reports or 2 * len(high) <= len(points):
            return None
        return f"{said(course, name, high[-1])}, and above {number(limit)} in {len(high)} of {len(points)} reports"

    return condition


def always_below(
    name: str, limit: float, *, after: float = 0.0, done: float = 0.0, reports: int = 2, skip: int = 0
) -> Condition:
    """Less than `limit` in all reports after the share `after` of the run and the first `skip`, once `done` is done."""

    def condition(course: Course) -> str | None:
        points = course.series(name, since=after)[skip:]
        if len(points) < reports or course.done < done or not all(p.value < limit for p in points):
            return None
        return f"{short(name)} has been below {number(limit)} in all {len(points)} reports, last {number(points[-1].value)}"

    return condition


def jumps(name: str, *, factor: float, at_least: float) -> Condition:
    """More than `factor` times the median of all reports before, and than `at_least`."""

    def condition(course: Course) -> str | None:
        before: list[float] = []  # in order, so that long runs have their median at once
        for point in course.series(name):
            usual = before[len(before) // 2] if before else at_least / factor
            if point.value > max(at_least, factor * usual):
                return f"{said(course, name, point)}, {number(usual)} before" if before else said(course, name, point)
            if not math.isnan(point.value):
                bisect.insort(before, point.value)
        return None

    return condition


def flat(name: str, *, reports: int = 4, ratio: float = 1.03) -> Condition:
    """The same in all reports, but for a few per cent."""

    def condition(course: Course) -> str | None:
        values = [p.value for p in course.series(name)]
        low, high = min(values, default=math.nan), max(values, default=math.nan)
        if len(values) < reports or course.done < 0.5 or not 0.0 <= high <= ratio * low:
            return None
        return f"{short(name)} stayed at {number(values[-1])} in all {len(values)} reports"

    return condition


def all_of(*conditions: Condition) -> Condition:
    """All of them; what each found."""

    def condition(course: Course) -> str | None:
        found = [each(course) for each in conditions]
        return "; ".join(found) if all(found) else None

    return condition


def any_of(*conditions: Condition) -> Condition:
    """The first that is found."""

    def condition(course: Course) -> str | None:
        return next((found for each in conditions if (found := each(course))), None)

    return condition


def unless(condition: Condition, other: Condition) -> Condition:
    """The first, where the other does not hold."""
    return lambda course: None if other(course) else condition(course)


def shrinks(name: str, *, to: float) -> Condition:
    """Has come to less than the share `to` of its largest value."""

    def condition(course: Course) -> str | None:
        points = course.series(name)
        if not points or points[-1].value >= to * max(p.value for p in points):
            return None
        return said(course, name, points[-1])

    return condition


def of_discrete_actions(condition: Condition) -> Condition:
    """The condition, where actions are known to be discrete."""
    return lambda course: condition(course) if course.discrete else None


# Of the standard deviation of actions, or of the entropy of discrete ones


def shrinks_early(name: str, *, to: float, within: float) -> Condition:
    """Falls to a share `to` of its first value in the first `within` of the run."""

    def condition(course: Course) -> str | None:
        points = [p for p in course.series(name) if p.step <= within * course.total_steps]
        for point in points[1:]:
            if point.value < to * points[0].value:
                return f"{said(course, name, point)}, {number(points[0].value)} at first"
        return None

    return condition


def never_shrinks(name: str, *, share: float, done: float, reports: int = 3) -> Condition:
    """Has stayed above `share` of its first value in all reports, after the share `done` of the run."""

    def condition(course: Course) -> str | None:
        points = course.series(name)
        if len(points) < reports or course.done < done or min(p.value for p in points[1:]) < share * points[0].value:
            return None
        return f"{said(course, name, points[-1])}, {number(points[0].value)} at first"

    return condition


# Of the reward


def fell(*, share: float) -> Condition:
    """The last reward keeps less than `share` of what the best had gained over the first, beyond noise."""

    def condition(course: Course) -> str | None:
        rewards = course.rewards
        if len(rewards) < 3:
            return None
        first, last, best = rewards[0], rewards[-1], max(rewards, key=lambda p: p.value)
        noise = 3 * math.hypot(course.reward_error(best.step), course.reward_error(last.step))
        gain, lost = best.value - first.value, best.value - last.value
        if lost <= noise or gain < 0.1 * abs(best.value) or lost <= (1 - share) * gain:
            return None
        return f"the reward fell from {number(best.value)} {course.at(best.step)} to {number(last.value)}"

    return condition


def best_long_ago(*, evaluations: int, share: float) -> Condition:
    """The best reward is that many evaluations old, and the last three keep less than `share` of its gain."""

    def condition(course: Course) -> str | None:
        rewards = course.rewards
        if len(rewards) < evaluations + 2:
            return None
        best = max(range(len(rewards)), key=lambda i: rewards[i].value)
        first, top = rewards[0].value, rewards[best].value
        recent = sum(p.value for p in rewards[-3:]) / 3
        noise = 3 * course.reward_error(rewards[best].step)
        if (
            best == 0
            or len(rewards) - 1 - best < evaluations
            or top - recent <= max(noise, (1 - share) * (top - first))
        ):
            return None
        return (
            f"the best reward, {number(top)}, was {len(rewards) - 1 - best} evaluations ago, "
            f"{course.at(rewards[best].step)}; the last three average {number(recent)}"
        )

    return condition


def no_better(*, done: float, evaluations: int = 4) -> Condition:
    """No evaluation was better than the first, beyond noise, after the share `done` of the run."""

    def condition(course: Course) -> str | None:
        rewards = course.rewards
        if len(rewards) < evaluations or course.done < done:
            return None
        first, best = rewards[0], max(rewards[1:], key=lambda p: p.value)
        error = math.hypot(course.reward_error(first.step), course.reward_error(best.step))
        usual = sum(p.value for p in rewards[1:]) / len(rewards[1:])
        slack = 0.05 * abs(first.value)
        if best.value > first.value + max(3 * error, slack) or usual > first.value + max(error, slack):
            return None
        return f"the reward was {number(first.value)} at first and {number(best.value)} at best since"

    return condition


def plateau(*, below: float, done: float, evaluations: int = 6) -> Condition:
    """Less than `below` of the greatest reward there can be, and the second half no better than the first."""

    def condition(course: Course) -> str | None:
        rewards = course.rewards
        if len(rewards) < evaluations or course.done < done or not math.isfinite(course.max_reward):
            return None
        half = len(rewards) // 2
        early, late = (max(part, key=lambda p: p.value) for part in (rewards[:half], rewards[half:]))
        risen = late.value - early.value > max(0.02 * abs(early.value), course.reward_error(late.step))
        if risen or max(early.value, late.value) > below * course.max_reward:
            return None
        return (
            f"the reward has not risen since {course.at(early.step)[3:]}: {number(early.value)} then, "
            f"{number(late.value)} at best since, {number(course.max_reward)} is the most there can be"
        )

    return condition


def always_zero(*, done: float, evaluations: int = 3) -> Condition:
    """The reward is 0 in all evaluations."""

    def condition(course: Course) -> str | None:
        rewards = course.rewards
        if len(rewards) < evaluations or course.done < done or any(p.value for p in rewards):
            return None
        return f"the reward is 0 in all {len(rewards)} evaluations"

    return condition


def stays_short(*, share: float, growth: float, done: float) -> Condition:
    """Episodes are shorter than `share` of their limit and have not grown by `growth`."""

    def condition(course: Course) -> str | None:
        if course.config is None or not course.config.episode_length or course.done < done:
            return None
        points = course.series("eval/avg_episode_length") or course.series("training/episode_length")
        longest = max((p.value for p in points[1:]), default=math.inf)
        if len(points) < 3 or longest > min(share * course.config.episode_length, growth * points[0].value):
            return None
        return (
            f"episodes last {number(points[-1].value)} of {course.config.episode_length:,} steps, "
            f"{number(points[0].value)} at first"
        )

    return condition


# Of the configuration


def short_sight(*, episodes: float) -> Condition:
    """An episode is more than `episodes` times as long as the time that the discount looks ahead."""

    def condition(course: Course) -> str | None:
        c = course.config
        if c is None or not c.episode_length or c.discounting >= 1.0:
            return None
        ahead = c.action_repeat / (1 - c.discounting)
        if c.episode_length <= episodes * ahead:
            return None
        return (
            f"discounting {c.discounting:g} looks {number(ahead)} steps ahead, and an episode has {c.episode_length:,}"
        )

    return condition


def outside(**limits: tuple[float, float]) -> Condition:
    """A setting, or what follows from several, is below or above what anybody has published."""

    def condition(course: Course) -> str | None:
        if course.config is None:
            return None
        for name, (low, high) in limits.items():
            value = getattr(course.config, name)
            if not low <= value <= high:
                return f"{name} is {number(value)}; published ones are {number(low)} to {number(high)}"
        return None

    return condition
