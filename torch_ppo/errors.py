"""Errors that a user can mend: the programs print their one line and exit with status 2, without a traceback."""

import contextlib
import difflib
import sys
from collections.abc import Iterable, Iterator


class UserError(ValueError):
    """Names the value, the rule it breaks, and where possible a value that would work."""


class ConfigError(UserError):
    """A value that cannot work; the message names it, the rule, and a value that would."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """ " (did you mean ...?)" for the nearest known name, else the list of all."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """A UserError inside ends the program with its one line and exit status 2."""
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
