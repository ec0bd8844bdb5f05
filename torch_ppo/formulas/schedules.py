"""How coefficients change over a run: pure functions of an SGD step, a tensor `()`, so that they are computed on the device.

Steps count from 0; the first SGD step of a run takes the first value, the last one is one step short of the final value.
"""

import math

import torch
from torch import Tensor


def progress(step: Tensor, first: float, total: float) -> Tensor:
    """How far `step` is on the way from step `first` to step `total`: `()`, within [0, 1]."""
    return ((step - first) / (total - first)).clamp(0.0, 1.0)


def linear(start: float, final: float, done: Tensor) -> Tensor:
    """From `start` at `done` = 0 to `final` at 1, in a straight line."""
    return start + (final - start) * done


def cosine(start: float, final: float, done: Tensor) -> Tensor:
    """From `start` at `done` = 0 to `final` at 1, as half a period of a cosine. Source: Loshchilov and Hutter 2017."""
    return final + (start - final) * 0.5 * (1.0 + torch.cos(math.pi * done))


def learning_rate(step: Tensor, *, peak: float, final: float, shape: str | None, warmup: float, total: float) -> Tensor:
    """Step size `()` of SGD step `step`: up to `peak` over `warmup` steps, then to `final` at `total`.

    shape:  "LINEAR" or "COSINE" for the way down; anything else stays at `peak`

    The first step of a warm-up has 1 / warmup of the peak, not 0: a step of size 0 would be wasted.
    """
    rate = torch.full_like(step, peak)
    if shape in DECAYS:
        rate = DECAYS[shape](peak, final, progress(step, warmup, total))
    if warmup:
        rate = rate * ((step + 1.0) / warmup).clamp(max=1.0)
    return rate


DECAYS = {"LINEAR": linear, "COSINE": cosine}
