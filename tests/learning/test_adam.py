"""Adam as plain operations against torch's own."""

import pytest
import torch

from torch_ppo.learning.adam import adam_step


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_adam_of_torch(dtype):
    """Over gradients of very different sizes, with a learning rate that changes."""
    generator = torch.Generator().manual_seed(0)
    theirs = torch.nn.Parameter(torch.randn(50, generator=generator, dtype=dtype))
    optimizer = torch.optim.Adam([theirs], lr=1e-3)
    ours, mean, square = theirs.detach().clone(), torch.zeros(50, dtype=dtype), torch.zeros(50, dtype=dtype)
    step = torch.zeros((), dtype=torch.float32)
    for i in range(200):
        gradient = torch.randn(50, generator=generator, dtype=dtype) * 10.0 ** (i % 7 - 4)
        optimizer.param_groups[0]["lr"] = rate = 1e-3 * (1 + i % 3)
        theirs.grad = gradient
        optimizer.step()
        adam_step(
            ours, gradient, exp_avg=mean, exp_avg_sq=square, step=step, learning_rate=torch.tensor(rate, dtype=dtype)
        )
    # The bias corrections are in float32, as the step count is.
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-5, atol=1e-6)
    state = optimizer.state[theirs]
    torch.testing.assert_close(mean, state["exp_avg"], rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(square, state["exp_avg_sq"], rtol=1e-5, atol=1e-9)
    assert step.item() == 200.0


def test_the_first_step_moves_every_parameter_by_the_learning_rate():
    """By hand: both moments are bias-corrected to the gradient and its square."""
    parameters, gradient = torch.zeros(3), torch.tensor([1e-3, -2.0, 50.0])
    moments = {"exp_avg": torch.zeros(3), "exp_avg_sq": torch.zeros(3), "step": torch.zeros(())}
    adam_step(parameters, gradient, **moments, learning_rate=torch.tensor(0.25))
    torch.testing.assert_close(parameters, torch.tensor([-0.25, 0.25, -0.25]), rtol=1e-4, atol=0)


def test_a_skipped_step_changes_nothing():
    generator = torch.Generator().manual_seed(1)
    tensors = [torch.rand(4, generator=generator) for _ in range(3)]
    before, step = [x.clone() for x in tensors], torch.tensor(7.0)
    adam_step(
        tensors[0],
        torch.ones(4),
        exp_avg=tensors[1],
        exp_avg_sq=tensors[2],
        step=step,
        learning_rate=torch.tensor(0.1),
        skip=torch.tensor(1.0),
    )
    assert all(torch.equal(x, y) for x, y in zip(tensors, before, strict=True)) and step.item() == 7.0
