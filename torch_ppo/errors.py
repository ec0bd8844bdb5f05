"""Errors that a user can mend: the programs print their one line and exit with status 2, without a traceback."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Names the value, the rule it breaks, and where possible a value that would work."""


class ConfigError(UserError):
    """A value that cannot work; the message names it, the rule, and a value that would."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """ " (did you mean ...?)" for the nearest known name, else the list of all."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
