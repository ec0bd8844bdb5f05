"""Adam as tensor operations, which a compiler fuses; torch's fused kernel is one block per 65,536 parameters on CUDA."""

import torch
from torch import Tensor


def adam_step(
    parameters: Tensor,
    gradient: Tensor,
    *,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    step: Tensor,
    learning_rate: Tensor,
    skip: Tensor | None = None,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
) -> None:
    """One step of Adam, in place. Where `skip` `()` is 1, nothing changes.

    parameters, gradient, exp_avg, exp_avg_sq:  (num_parameters,)
    step:                                       steps so far          ()
    learning_rate:                                                    ()

    Source: Kingma and Ba 2015 (arXiv:1412.6980), algorithm 1, as in optax and torch.
    """
    count = step + 1.0
    mean = torch.lerp(exp_avg, gradient, 1.0 - beta1)
    square = exp_avg_sq * beta2 + (1.0 - beta2) * gradient.square()
    # Powers of a number by a tensor: exp and log would lose digits of 1 - beta2**count.
    correction1, correction2 = (1.0 - torch.pow(beta, count) for beta in (beta1, beta2))
    denominator = square.sqrt() / correction2.sqrt() + eps
    moved = parameters - learning_rate / correction1 * (mean / denominator)
    for target, new in ((parameters, moved), (exp_avg, mean), (exp_avg_sq, square), (step, count)):
        target.copy_(new if skip is None else torch.where(skip > 0, target, new))
