"""What a policy's contract must have for those who read it, and as what."""

import math
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any


def _whole(least: int) -> Callable[[object], bool]:
    return lambda x: type(x) is int and x >= least


def _is_number(x: object) -> bool:
    return type(x) in (int, float) and math.isfinite(x)


def _or_none(fits: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda x: x is None or fits(x)


def _list_of(fits: Callable[[Any], bool]) -> Callable[[object], bool]:
    return lambda x: isinstance(x, (list, tuple)) and all(map(fits, x))  # JSON has lists


def _is_actuator(x: object) -> bool:
    """With a scaling, or without where that was not known."""
    if not isinstance(x, dict) or not isinstance(x.get("name"), str):
        return False
    if x.get("scale") is None:
        return True
    ends = x.get("control_range", ())
    limited = _list_of(_or_none(_is_number))(ends) and len(ends) == 2
    return all(_is_number(x.get(name)) for name in ("scale", "offset")) and (ends is None or limited)


def _is_picture(x: object) -> bool:
    sizes = ("height", "width", "channels")
    return isinstance(x, dict) and isinstance(x.get("key"), str) and all(_whole(1)(x.get(name)) for name in sizes)


def _is_delay(x: object) -> bool:
    return _whole(0)(x) or (_list_of(_whole(0))(x) and len(x) == 2 and x[0] <= x[1])


# What readers ask for, and its types or what it has to be; what is not known is there as None.
NEEDED = {
    "output": {"name": str},
    "observation": {"size": _whole(0), "key": str | None, "history": _whole(1), "std": _list_of(_is_number)},
    "pixels": _list_of(_is_picture),
    "action": {
        "size": _whole(1),
        "deterministic": bool,
        "actuators": _or_none(_list_of(_is_actuator)),
        "discrete": {"choices": _list_of(_whole(1))},
    },
    "action_repeat": _whole(1),
    "control_dt": _or_none(lambda x: _is_number(x) and x > 0),
    "trained_with_action_delay": _is_delay,
    "task": {"name": str | None, "episode_length": _or_none(_whole(1))},
    "origin": {"env_steps": _whole(0)},
}
OPTIONAL = ("pixels", "action.discrete", "origin.env_steps")  # older files, or those of other kinds, do not have them


def lacking(found: dict[str, Any], kinds: dict[str, Any] = NEEDED, where: str = "") -> Iterator[str]:
    """What readers need and a contract does not have, or as something else: "origin", or "action.size"."""
    for name, kind in kinds.items():
        nested = isinstance(kind, dict)
        if where + name in OPTIONAL and found.get(name) is None:
            continue
        if name not in found or not _fits(found[name], kind):
            yield where + name
        elif nested:
            yield from lacking(found[name], kind, f"{where}{name}.")


def contradicting(contract: dict[str, Any]) -> Iterator[str]:
    """What of a contract that has all parts is of another number than the sizes it names."""
    seen, action = contract["observation"], contract["action"]
    if seen["size"] % seen["history"]:
        yield "observation.history"
    if len(seen["std"]) != seen["size"]:
        yield "observation.std"
    actuators = action["actuators"]
    if actuators:
        scaled = [actuator.get("scale") is not None for actuator in actuators]
        if len(actuators) != action["size"] or len(set(scaled)) > 1:
            yield "action.actuators"
    if action.get("discrete") and len(action["discrete"]["choices"]) != action["size"]:
        yield "action.discrete.choices"


def _fits(value: object, kind: Any) -> bool:
    """Whether a value is of a type, a dict where its parts are asked for, or as a function of ours says."""
    if isinstance(kind, FunctionType):
        return kind(value)
    return isinstance(value, dict if isinstance(kind, dict) else kind)
