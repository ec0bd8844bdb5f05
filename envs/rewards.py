"""Soft indicators for rewards, batched. Source: dm_control/utils/rewards.py."""

import math

from torch import Tensor


def _gaussian(x: Tensor, value_at_1: float) -> Tensor:
    return (x.square() * math.log(value_at_1)).exp()


def _quadratic(x: Tensor, value_at_1: float) -> Tensor:
    return (1.0 - x.square() * (1.0 - value_at_1)).clamp(min=0.0)


def _linear(x: Tensor, value_at_1: float) -> Tensor:
    return (1.0 - x * (1.0 - value_at_1)).clamp(min=0.0)


def _long_tail(x: Tensor, value_at_1: float) -> Tensor:
    return 1.0 / (x.square() * (1.0 / value_at_1 - 1.0) + 1.0)


SIGMOIDS = {"gaussian": _gaussian, "quadratic": _quadratic, "linear": _linear, "long_tail": _long_tail}


def tolerance(
    x: Tensor,
    bounds: tuple[float, float] = (0.0, 0.0),
    margin: float = 0.0,
    *,
    sigmoid: str = "gaussian",
    value_at_margin: float = 0.1,
) -> Tensor:
    """1 where `x` `(...,)` is within `bounds`, falling to `value_at_margin` at `margin` beyond them.

    With `margin` 0 it is a hard indicator. "gaussian" and "long_tail" need 0 < value_at_margin < 1; the others allow 0.
    """
    lower, upper = bounds
    if margin == 0:
        return ((x >= lower) & (x <= upper)).to(x.dtype)
    below, above = lower - x, x - upper
    outside = above.abs() if lower == upper else below.clamp(min=0.0) + above.clamp(min=0.0)
    return SIGMOIDS[sigmoid](outside / margin, value_at_margin)
