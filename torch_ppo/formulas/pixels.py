"""Networks that see pictures: Brax's convolutions per view, their poolings, and policy and value behind them.

An observation of pixels has a key that begins with `pixels/`; it is `(..., height, width, channels)`, uint8 from 0 to 255 or
floating-point as it is. Source: brax/training/networks.py (VisionMLP) and brax/training/agents/ppo/networks_vision.py.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from torch_ppo.formulas.convolution import Conv
from torch_ppo.formulas.networks import ACTIVATIONS, INITIALIZERS, Initializer, make_ppo_networks
from torch_ppo.formulas.resnet import ResNet18

PREFIX = "pixels/"  # of observations that are pictures, as in Brax
CHANNEL_EPS = 1e-6  # added to the variance of a channel


def is_picture(key: str) -> bool:
    """Whether an observation of this name is pictures, `(..., height, width, channels)`."""
    return key.startswith(PREFIX)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after an axis, so that a convolution gives ceil(size / stride); the smaller half before."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def standardized_channels(images: Tensor) -> Tensor:
    """Each channel of each image `(n, channels, height, width)` with mean 0 and variance 1 over its positions."""
    variance, mean = torch.var_mean(images, (-2, -1), correction=0, keepdim=True)
    return (images - mean) * torch.rsqrt(variance + CHANNEL_EPS)


def spatial_softmax(maps: Tensor) -> Tensor:
    """Where the maps `(n, channels, height, width)` are large: `(n, 2 * channels)`, all rows, then all columns.

    The expected coordinates, in [-1, 1], under a softmax over the positions of each channel. Source: Finn et al. 2016
    (arXiv:1509.06113).
    """
    height, width = maps.shape[-2:]
    weight = maps.flatten(-2).softmax(-1).unflatten(-1, (height, width))
    rows, columns = (torch.linspace(-1.0, 1.0, n, device=maps.device, dtype=maps.dtype) for n in (height, width))
    return torch.cat([(weight.sum(-1) * rows).sum(-1), (weight.sum(-2) * columns).sum(-1)], -1)


def flat_maps(maps: Tensor) -> Tensor:
    """Maps `(n, channels, height, width)` as `(n, height * width * channels)`, in the order of flax."""
    return maps.permute(0, 2, 3, 1).flatten(1)


GLOBAL_POOLS = {
    "avg": lambda maps: maps.mean((-2, -1)),
    "max": lambda maps: maps.amax((-2, -1)),
    "none": flat_maps,
    "spatial_softmax": spatial_softmax,
}


class CNN(nn.Module):
    """Convolution -> activation -> optional 2 x 2 max-pool, for each layer, then one pooling over all positions.

    `(n, channels, height, width)` -> `(n, features)`. Sizes are those of one camera, so all padding is known beforehand.
    ValueError where nothing is left of an image.
    """

    def __init__(
        self,
        image: tuple[int, int, int],
        *,
        output_channels: Sequence[int] = (32, 64, 64),
        kernel_size: Sequence[int] = (8, 4, 3),
        stride: Sequence[int] = (4, 2, 1),
        padding: str = "zeros",
        activation: str = "relu",
        max_pool: bool = False,
        global_pool: str = "avg",
        kernel_init: Initializer | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        height, width, channels = image
        layers: list[nn.Module] = []
        for out, kernel, step in zip(output_channels, kernel_size, stride, strict=True):
            pads = [(0, 0), (0, 0)]
            if padding == "zeros":
                pads = [same_padding(size, kernel, step) for size in (height, width)]
            height, width = ((n + sum(pad) - kernel) // step + 1 for n, pad in zip((height, width), pads, strict=True))
            if min(height, width) < 1:
                raise ValueError(f"a kernel of {kernel} is larger than what is left of an image of {image[:2]}")
            (top, bottom), (left, right) = pads
            symmetric = (top, left) == (bottom, right)
            if not symmetric:
                layers.append(nn.ZeroPad2d((left, right, top, bottom)))
            conv = Conv(channels, out, kernel, step, (top, left) if symmetric else 0)
            (kernel_init or INITIALIZERS["lecun_normal"]())(conv.weight, generator=generator)
            nn.init.zeros_(conv.bias)
            layers += [conv, ACTIVATIONS[activation]()]
            if max_pool:
                layers.append(nn.MaxPool2d(2, ceil_mode=True))
                height, width = -(-height // 2), -(-width // 2)
            channels = out
        self.layers = nn.Sequential(*layers)
        self.pool = GLOBAL_POOLS[global_pool]

    def forward(self, images: Tensor) -> Tensor:
        return self.pool(self.layers(images))


class PixelEncoder(nn.Module):
    """Features `(..., features)` of all views of an observation, side by side in the order of their keys.

    Each view has a network of its own, from `(n, channels, height, width)` to `(n, features)`.

    keys: of the views, sorted
    """

    def __init__(self, views: Mapping[str, nn.Module], *, normalise_channels: bool = False) -> None:
        super().__init__()
        self.keys = tuple(sorted(views))
        self.views = nn.ModuleList(views[key] for key in self.keys)
        self.normalise_channels = normalise_channels

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        features = []
        for key, view in zip(self.keys, self.views, strict=True):
            pixels = observation[key]
            found = view(self.images(pixels.reshape(-1, *pixels.shape[-3:])))
            features.append(found.reshape(*pixels.shape[:-3], found.shape[-1]))
        return torch.cat(features, -1)

    def images(self, pixels: Tensor) -> Tensor:
        """What a view's network sees of `(n, height, width, channels)`: strides stay, so convolutions are channels-last."""
        parameter = next(self.parameters())
        images = pixels.to(parameter.dtype).permute(0, 3, 1, 2)
        if pixels.dtype == torch.uint8:
            images = images / 255.0
        return standardized_channels(images) if self.normalise_channels else images


class VisionNetwork(nn.Module):
    """A policy or value network of vectors behind an encoder of pixels: `head` of the features and a vector beside them.

    Takes a dict of observations, or their features too where these are known already.

    obs_key: of the vector; "" for none
    """

    def __init__(self, encoder: PixelEncoder, head: nn.Module, obs_key: str) -> None:
        super().__init__()
        self.encoder, self.head, self.obs_key = encoder, head, obs_key

    def forward(
        self, observation: Mapping[str, Tensor], features: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        seen = [self.encoder(observation) if features is None else features]
        if self.obs_key:
            seen.append(observation[self.obs_key])
        return self.head(torch.cat(seen, -1))


def make_ppo_networks_vision(
    observation_size: Mapping[str, int | tuple[int, ...]],
    action_size: int,
    *,
    policy_obs_key: str = "",
    value_obs_key: str = "",
    policy_hidden_layer_sizes: Sequence[int] = (256, 256),
    value_hidden_layer_sizes: Sequence[int] = (256, 256),
    normalise_channels: bool = False,
    cnn_output_channels: Sequence[int] = (32, 64, 64),
    cnn_kernel_size: Sequence[int] = (8, 4, 3),
    cnn_stride: Sequence[int] = (4, 2, 1),
    cnn_padding: str = "zeros",
    cnn_activation: str = "relu",
    cnn_max_pool: bool = False,
    cnn_global_pool: str = "avg",
    cnn_kernel_init: Initializer | None = None,
    pixel_encoder: str = "cnn",
    shared_encoder: bool = False,
    generator: torch.Generator | None = None,
    **head: object,
) -> tuple[VisionNetwork, VisionNetwork]:
    """Policy (observation -> loc, scale or logits) and value network (observation -> quantiles) for observations with pixels.

    Names, defaults and meaning are those of Brax's factory. Policy and value network each see all views, and the vector of
    their key, if there is one; `head` are options of `make_ppo_networks`, which builds what follows the encoders. Beyond
    Brax: with `pixel_encoder="resnet18"` each view has a `ResNet18`, and with `shared_encoder` both networks have the same
    encoder, which learns from both.

    observation_size:  (height, width, channels) of each `pixels/...`, the size of each vector
    """
    views = {key: tuple(size) for key, size in observation_size.items() if is_picture(key)}

    def encoder() -> PixelEncoder:
        if pixel_encoder == "resnet18":
            networks = {key: ResNet18(views[key][-1], generator=generator) for key in sorted(views)}
        else:
            networks = {
                key: CNN(
                    views[key],
                    output_channels=cnn_output_channels,
                    kernel_size=cnn_kernel_size,
                    stride=cnn_stride,
                    padding=cnn_padding,
                    activation=cnn_activation,
                    max_pool=cnn_max_pool,
                    global_pool=cnn_global_pool,
                    kernel_init=cnn_kernel_init,
                    generator=generator,
                )
                for key in sorted(views)
            }
        return PixelEncoder(networks, normalise_channels=normalise_channels)

    policy_encoder = encoder()
    value_encoder = policy_encoder if shared_encoder else encoder()
    sizes = []
    for key, network in ((policy_obs_key, policy_encoder), (value_obs_key, value_encoder)):
        vector = observation_size[key] if key else 0
        sizes.append(_num_features(network, views) + (vector if isinstance(vector, int) else vector[0]))
    policy, value = make_ppo_networks(
        *sizes,
        action_size,
        policy_hidden_layer_sizes=policy_hidden_layer_sizes,
        value_hidden_layer_sizes=value_hidden_layer_sizes,
        generator=generator,
        **head,
    )
    return (
        VisionNetwork(policy_encoder, policy, policy_obs_key),
        VisionNetwork(value_encoder, value, value_obs_key),
    )


@torch.no_grad()
def _num_features(encoder: PixelEncoder, views: Mapping[str, tuple[int, ...]]) -> int:
    return encoder({key: torch.zeros(1, *size) for key, size in views.items()}).shape[-1]
