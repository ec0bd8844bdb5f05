"""Networks: what the golden fixtures are too small to reach, and the initialisers' distributions."""

import math

import pytest
import torch
from torch.nn import functional as F

from torch_ppo.formulas.networks import HAS_ONEDNN, INITIALIZERS, Dense, dense, make_ppo_networks


@pytest.mark.parametrize(
    ("shape", "chosen"),
    [
        ((2048, 256), True),  # oneDNN
        ((10, 1024, 256), True),
        ((10, 1024, 5), True),  # many more outputs than inputs
        ((20, 64, 5), True),
        ((64, 256), False),
        ((16, 5), False),
    ],
)
@pytest.mark.parametrize("input_needs_grad", [True, False])
def test_products_chosen_on_the_cpu_equal_plain_linear_layers(shape, chosen, input_needs_grad):
    """Values and all gradients against F.linear in float64."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator).requires_grad_(input_needs_grad)
    layer = Dense(shape[-1], 256)
    weights = torch.randn(*shape[:-1], 256, generator=generator)
    assert ("CPULinear" in type(layer(x).grad_fn).__name__) == chosen or not HAS_ONEDNN
    inputs = [layer.weight, layer.bias] + [x] * input_needs_grad
    found = torch.autograd.grad((layer(x) * weights).sum(), inputs)

    exact = [tensor.detach().double().requires_grad_() for tensor in (layer.weight, layer.bias, x)]
    out = F.linear(exact[2], exact[0], exact[1])
    expected = torch.autograd.grad((out * weights.double()).sum(), exact)
    torch.testing.assert_close(layer(x).detach(), out.detach().float(), rtol=1e-4, atol=1e-4)
    for ours, theirs in zip(found, expected, strict=False):
        scale = theirs.abs().max().item()
        torch.testing.assert_close(ours, theirs.float(), rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("lecun_uniform", 1 / 300),
        ("lecun_normal", 1 / 300),
        ("glorot_uniform", 2 / 500),
        ("glorot_normal", 2 / 500),
        ("he_uniform", 2 / 300),
        ("he_normal", 2 / 300),
    ],
)
def test_initialisers_have_the_variance_of_jax(name, variance):
    """fan_in 300, fan_out 200; within 2 %."""
    weight = torch.empty(200, 300)
    INITIALIZERS[name]()(weight, generator=torch.Generator().manual_seed(0))
    assert weight.mean().abs() < 1e-3
    assert weight.var().item() == pytest.approx(variance, rel=0.02)
    if name.endswith("uniform"):
        assert weight.abs().max().item() == pytest.approx(math.sqrt(3 * variance), rel=1e-3)
    else:
        assert weight.abs().max() < 2 * math.sqrt(variance) / 0.8796 + 1e-6


def test_orthogonal_and_zeros():
    weight = torch.empty(20, 50)
    INITIALIZERS["orthogonal"](2.0)(weight, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(weight @ weight.T, 4 * torch.eye(20), rtol=1e-5, atol=1e-5)
    INITIALIZERS["zeros"]()(weight)
    assert not weight.any()


def test_default_networks_are_brax_defaults():
    policy, value = make_ppo_networks(5, 7, 2)
    sizes = [layer.weight.shape for layer in policy.modules() if isinstance(layer, Dense)]
    assert [tuple(size) for size in sizes] == [(32, 5), (32, 32), (32, 32), (32, 32), (4, 32)]
    sizes = [layer.weight.shape for layer in value.modules() if isinstance(layer, Dense)]
    assert [tuple(size) for size in sizes] == [(256, 7)] + [(256, 256)] * 4 + [(1, 256)]
    loc, scale = policy(torch.zeros(3, 5))
    torch.testing.assert_close(scale, torch.full((3, 2), 0.6931 + 0.001), rtol=1e-3, atol=1e-3)  # softplus(0) + min_std
    assert loc.shape == (3, 2)


@pytest.mark.parametrize("sizes", [(5, 7), (8, 3), (32, 1)])
def test_gradient_of_weight_and_bias_in_one_product(sizes):
    generator = torch.Generator().manual_seed(0)
    layer = dense(*sizes, INITIALIZERS["lecun_uniform"](), generator).double()
    x = torch.randn(6, 11, sizes[0], generator=generator, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(6, 11, sizes[1], generator=generator, dtype=torch.float64)

    def outputs():
        y = layer(x)
        return y, *torch.autograd.grad((y.sin() * weights).sum(), [x, layer.weight, layer.bias])

    plain = outputs()
    layer.one_product = True
    torch.testing.assert_close(outputs(), plain, rtol=1e-12, atol=1e-12)
    assert "OneProduct" in type(layer(x).grad_fn).__name__
    with torch.no_grad():
        torch.testing.assert_close(layer(x), plain[0], rtol=1e-12, atol=1e-12)
