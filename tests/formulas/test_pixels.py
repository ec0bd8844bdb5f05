"""Networks that see pictures, against loops in NumPy, and what the golden fixtures are too small to reach."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from torch_ppo.formulas.convolution import Conv
from torch_ppo.formulas.networks import INITIALIZERS, Dense
from torch_ppo.formulas.pixels import (
    CNN,
    make_ppo_networks_vision,
    spatial_softmax,
    standardized_channels,
)
from torch_ppo.formulas.resnet import ResNet18

VIEWS = {"pixels/front": (24, 20, 3), "pixels/wrist": (16, 16, 1), "state": 4}


def looped_convolution(image, kernel, bias, stride, padding):
    """`(height, width, in)` by `(side, side, in, out)`, as the sum that it is."""
    side = len(kernel)
    sizes = [math.ceil(n / stride) if padding == "zeros" else (n - side) // stride + 1 for n in image.shape[:2]]
    first = [0, 0]
    if padding == "zeros":
        first = [-(max((m - 1) * stride + side - n, 0) // 2) for m, n in zip(sizes, image.shape[:2], strict=True)]
    out = np.zeros((*sizes, kernel.shape[-1]))
    for i, j in np.ndindex(*sizes):
        out[i, j] = bias
        for a, b in np.ndindex(side, side):
            row, column = first[0] + i * stride + a, first[1] + j * stride + b
            if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
                out[i, j] += image[row, column] @ kernel[a, b]
    return out


def looped_max_pool(maps):
    """The largest of each 2 x 2, or of what is left of one at the end."""
    sizes = [math.ceil(n / 2) for n in maps.shape[:2]]
    return np.array(
        [[maps[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max((0, 1)) for j in range(sizes[1])] for i in range(sizes[0])]
    )


def looped_pool(maps, kind):
    if kind == "avg":
        return maps.mean((0, 1))
    if kind == "max":
        return maps.max((0, 1))
    if kind == "none":
        return maps.reshape(-1)
    rows, columns = [], []
    for channel in range(maps.shape[-1]):
        weight = np.exp(maps[..., channel] - maps[..., channel].max())
        weight /= weight.sum()
        height, width = weight.shape
        rows.append(sum(weight[i].sum() * (2 * i / (height - 1) - 1) for i in range(height)))
        columns.append(sum(weight[:, j].sum() * (2 * j / (width - 1) - 1) for j in range(width)))
    return np.array([*rows, *columns])


@pytest.mark.parametrize("pool", ["avg", "max", "none", "spatial_softmax"])
@pytest.mark.parametrize(
    ("padding", "max_pool", "kernels", "strides"),
    [
        ("zeros", False, (8, 4, 3), (4, 2, 1)),
        ("zeros", True, (5, 2), (2, 1)),
        ("zeros", True, (3,), (3,)),
        ("valid", False, (7, 3), (3, 2)),
        ("valid", True, (4, 3), (1, 1)),
    ],
)
def test_convolutions_are_the_sums_that_they_stand_for(pool, padding, max_pool, kernels, strides):
    random = np.random.RandomState(0)
    channels = (2, 3, 2)[: len(kernels)]
    cnn = CNN(
        (33, 30, 3),
        output_channels=channels,
        kernel_size=kernels,
        stride=strides,
        padding=padding,
        activation="elu",
        max_pool=max_pool,
        global_pool=pool,
    ).double()
    image = random.rand(33, 30, 3)
    maps = image
    for conv, stride in zip((x for x in cnn.layers if isinstance(x, Conv)), strides, strict=True):
        nn.init.normal_(conv.bias)
        kernel = conv.weight.detach().permute(2, 3, 1, 0).numpy()
        maps = looped_convolution(maps, kernel, conv.bias.detach().numpy(), stride, padding)
        maps = np.where(maps > 0, maps, np.expm1(maps))
        maps = looped_max_pool(maps) if max_pool else maps
    found = cnn(torch.from_numpy(image)[None].permute(0, 3, 1, 2))
    np.testing.assert_allclose(found[0].detach().numpy(), looped_pool(maps, pool), rtol=0, atol=1e-12)


def test_spatial_softmax_tells_where_a_spot_is():
    maps = torch.zeros(1, 2, 5, 9)
    maps[0, 0, 4, 0] = maps[0, 1, 1, 6] = 100.0
    torch.testing.assert_close(spatial_softmax(maps)[0], torch.tensor([1.0, -0.5, -1.0, 0.5]))


def test_an_image_without_contrast_stays_finite():
    images = torch.full((2, 3, 5, 4), 0.7)
    images[1] = torch.rand(3, 5, 4)
    found = standardized_channels(images)
    assert found[0].abs().max() < 1e-3
    torch.testing.assert_close(found[1].mean((1, 2)), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(found[1].std((1, 2), correction=0), torch.ones(3), rtol=0, atol=1e-4)


def random_observation(*leading, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        key: torch.randint(256, (*leading, *size), dtype=torch.uint8, generator=generator)
        if isinstance(size, tuple)
        else torch.randn(*leading, size, generator=generator)
        for key, size in VIEWS.items()
    }


def test_bytes_are_numbers_from_0_to_1():
    policy, value = make_ppo_networks_vision(VIEWS, 2, policy_obs_key="state")
    observation = random_observation(3)
    floats = {key: x / 255 if x.dtype == torch.uint8 else x for key, x in observation.items()}
    for network in (policy.encoder, value):
        torch.testing.assert_close(network(observation), network(floats), rtol=1e-6, atol=1e-6)
    assert not torch.allclose(policy.encoder(observation), policy.encoder({key: x * 0.5 for key, x in floats.items()}))


@pytest.mark.parametrize("leading", [(), (6,), (2, 3), (0,)])
def test_any_leading_axes(leading):
    policy, value = make_ppo_networks_vision(VIEWS, 2, policy_obs_key="state", cnn_global_pool="none")
    observation = random_observation(*leading)
    flat = {key: x.reshape(-1, *np.atleast_1d(VIEWS[key])) for key, x in observation.items()}
    for found, expected in zip((*policy(observation), value(observation)), (*policy(flat), value(flat)), strict=True):
        assert found.shape == (*leading, expected.shape[-1])
        torch.testing.assert_close(found.reshape(expected.shape), expected)


def test_default_networks_are_brax_defaults():
    policy, value = make_ppo_networks_vision({"pixels/view_0": (64, 64, 3), "state": 4}, 2)
    for network, outputs in ((policy, 4), (value, 1)):
        convolutions = [tuple(layer.weight.shape) for layer in network.modules() if isinstance(layer, Conv)]
        assert convolutions == [(32, 3, 8, 8), (64, 32, 4, 4), (64, 64, 3, 3)]
        dense = [tuple(layer.weight.shape) for layer in network.modules() if isinstance(layer, Dense)]
        assert dense == [(256, 64), (256, 256), (outputs, 256)]  # no vector is seen
        assert not any(layer.bias.any() for layer in network.modules() if isinstance(layer, Conv))
    assert not {id(x) for x in policy.parameters()} & {id(x) for x in value.parameters()}


def test_convolutions_of_views_are_in_the_order_of_their_keys():
    policy, _ = make_ppo_networks_vision(dict(reversed(VIEWS.items())), 2)
    assert policy.encoder.keys == ("pixels/front", "pixels/wrist")
    assert [next(view.parameters()).shape[1] for view in policy.encoder.views] == [3, 1]


def test_fans_of_a_convolution_count_its_kernel():
    """fan_in 50 * 3 * 3; orthogonal makes all outputs orthonormal over inputs and kernel."""
    weight = torch.empty(40, 50, 3, 3)
    INITIALIZERS["lecun_normal"]()(weight, generator=torch.Generator().manual_seed(0))
    assert weight.var().item() == pytest.approx(1 / 450, rel=0.03)
    INITIALIZERS["orthogonal"](1.5)(weight, generator=torch.Generator().manual_seed(0))
    rows = weight.flatten(1)
    torch.testing.assert_close(rows @ rows.T, 2.25 * torch.eye(40), rtol=1e-5, atol=1e-5)


def test_last_layer_has_an_initialiser_of_its_own():
    policy, value = make_ppo_networks_vision(VIEWS, 2, output_kernel_init=INITIALIZERS["zeros"]())
    dense = [layer for layer in policy.modules() if isinstance(layer, Dense)]
    assert [bool(layer.weight.any()) for layer in dense] == [True, True, False]
    assert all(layer.weight.any() for layer in value.modules() if isinstance(layer, Dense))


def encoder_gradients(outputs, policy, value):
    parameters = list(dict.fromkeys([*policy.encoder.parameters(), *value.encoder.parameters()]))
    return torch.autograd.grad(outputs, parameters, materialize_grads=True)


def test_separate_encoders_learn_from_their_own_network():
    policy, value = make_ppo_networks_vision(VIEWS, 2)
    observation = random_observation(3)
    gradients = encoder_gradients(policy(observation)[0].sum(), policy, value)
    half = len(gradients) // 2
    assert all(x.any() for x in gradients[:half:2]) and not any(x.any() for x in gradients[half:])
    gradients = encoder_gradients(value(observation).sum(), policy, value)
    assert not any(x.any() for x in gradients[:half]) and all(x.any() for x in gradients[half::2])


def test_a_shared_encoder_learns_from_both():
    policy, value = make_ppo_networks_vision(VIEWS, 2, shared_encoder=True, policy_obs_key="state")
    assert policy.encoder is value.encoder and policy.head.trunk is not value.head.trunk
    policy, value = policy.double(), value.double()
    observation = random_observation(3) | {"state": torch.randn(3, 4, dtype=torch.float64)}
    features = policy.encoder(observation)
    together = policy(observation, features)[0].sum() + value(observation, features).sum()
    apart = [policy(observation)[0].sum(), value(observation).sum()]
    found = encoder_gradients(together, policy, value)
    sums = [a + b for a, b in zip(*(encoder_gradients(x, policy, value) for x in apart), strict=True)]
    for ours, expected in zip(found, sums, strict=True):
        torch.testing.assert_close(ours, expected)


def test_a_kernel_larger_than_the_image_is_refused():
    with pytest.raises(ValueError, match=r"kernel of 4 is larger than what is left of an image of \(8, 8\)"):
        CNN((8, 8, 3), padding="valid")


def test_convolutions_in_bfloat16_are_rounded():
    conv = Conv(3, 8, 3)
    images = torch.rand(2, 3, 9, 9)
    exact = conv(images)
    conv.in_bfloat16 = True
    rounded = conv(images)
    assert rounded.dtype == torch.float32 and not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0.02)


# ResNet18


def test_resnet18_has_the_size_of_the_original_without_its_last_layer():
    assert sum(x.numel() for x in ResNet18().parameters()) == 11_689_512 - 513_000


@torch.no_grad()
def test_resnet18_knows_nothing_of_the_other_images():
    encoder = ResNet18(1, generator=torch.Generator().manual_seed(0))
    images = torch.rand(3, 1, 40, 33)
    together = encoder(images)
    assert together.shape == (3, 512) and together.isfinite().all() and together.std(0).mean() > 0.05
    torch.testing.assert_close(together[1:2], encoder(images[1:2]), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_resnet18_is_that_of_torchvision():
    models = pytest.importorskip("torchvision.models")
    theirs = models.resnet18(norm_layer=lambda channels: nn.GroupNorm(channels // 16, channels))
    theirs.fc = nn.Identity()
    ours = ResNet18()
    ours.load_state_dict(theirs.state_dict())
    images = torch.rand(2, 3, 64, 48)
    torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)
