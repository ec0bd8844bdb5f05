"""Errors that a user can mend: the programs print their one line and exit with status 2, without a traceback."""


class UserError(ValueError):
    """Names the value, the rule it breaks, and where possible a value that would work."""
