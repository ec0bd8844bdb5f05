"""The fields of `Config` as parameters of a call that takes them as `**settings`."""

import dataclasses
import inspect
from collections.abc import Callable
from inspect import Parameter
from typing import TypeVar

from torch_ppo.settings.config import Config

Call = TypeVar("Call", bound=Callable)


def with_settings(call: Call) -> Call:
    """Has `help` and notebooks show every field of `Config` in place of `**settings`. What the call does is the same.

    Editors and type checkers read the stub beside the module, for they do not run this.
    """
    signature = inspect.signature(call)
    own = [parameter for parameter in signature.parameters.values() if parameter.kind is not Parameter.VAR_KEYWORD]
    fields = [
        Parameter(field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type)
        for field in dataclasses.fields(Config)
        if field.name not in signature.parameters
    ]
    call.__signature__ = signature.replace(parameters=[*own, *fields])
    return call
