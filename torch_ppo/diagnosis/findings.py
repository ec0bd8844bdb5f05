"""Applying the rules: to a whole course, or report by report while it goes on."""

from collections.abc import Mapping
from typing import NamedTuple

from torch_ppo.diagnosis.course import Course, Row
from torch_ppo.diagnosis.rules import RULES, Rule
from torch_ppo.settings.config import Config

FINDINGS = "doctor"  # of a report in metrics.jsonl: what was seen, by rule


class Finding(NamedTuple):
    """A rule that holds, and what it saw."""

    rule: Rule
    seen: str

    def line(self) -> str:
        """For the terminal, in one line."""
        return f"{self.rule.name}: {self.seen}; try {self.change()}"

    def change(self, names: Mapping[str, str] | None = None) -> str:
        """What to change, with a trainer's own `names` of the options; ours where it has none."""
        return self.rule.change.format_map(_Names(names or {}))


class _Names(dict):
    def __missing__(self, option: str) -> str:
        return option


def diagnose(course: Course) -> list[Finding]:
    """All rules that hold for a course, in the order of the table."""
    if not course.rows:
        return []
    seen = ((rule, rule.condition(course)) for rule in RULES)
    return [Finding(_of_actions(rule, course), text) for rule, text in seen if text]


def _of_actions(rule: Rule, course: Course) -> Rule:
    """The rule with what is to be changed for actions of the run's kind."""
    return rule._replace(change=rule.discrete) if course.discrete and rule.discrete else rule


class Watch:
    """Looks at each report of a run, and says every finding once.

    history:  reports of before, of a run that is resumed; what was found in them has been said
    """

    def __init__(self, history: list[Row], config: Config, max_reward: float) -> None:
        self._rows = list(history)
        self._course = Course(self._rows, config, max_reward)
        self._said = {name for row in history for name in row.get(FINDINGS, {})}
        self._introduced = bool(self._said)

    def look(self, step: int, metrics: Row) -> list[Finding]:
        """What is newly found with this report; nothing for one of training episodes between reports."""
        if not any(name.startswith(("training/", "eval/")) for name in metrics):
            return []
        self._rows.append({"step": step, **metrics})
        new = [finding for finding in diagnose(self._course) if finding.rule.name not in self._said]
        self._said |= {finding.rule.name for finding in new}
        return new

    def lines(self, findings: list[Finding], doctor: str) -> list[str]:
        """What the terminal is told of findings; the first time also how to call the `doctor`."""
        lines = [f"warning: {finding.line()}" for finding in findings if not finding.rule.told_elsewhere]
        if lines and not self._introduced:
            self._introduced = True
            lines.append(f"  {doctor} explains")
        return lines
