"""Policy and value networks with Brax's architecture, initialisers and options.

Source: brax/training/networks.py and brax/training/agents/ppo/networks.py. An initialiser fills a torch
weight `(out, in)`; its fan-in is `in`, as for a flax kernel `(in, out)`. That of a convolution is `(out, in, height,
width)`, and its fan-in is `in * height * width`.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torch_ppo.formulas.distribution import tanh_normal_params

Initializer = Callable[..., None]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "swish": nn.SiLU,
    "silu": nn.SiLU,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "gelu": lambda: nn.GELU(approximate="tanh"),  # jax.nn.gelu's default
    "leaky_relu": lambda: nn.LeakyReLU(0.01),
    "selu": nn.SELU,
    "mish": nn.Mish,
    "sigmoid": nn.Sigmoid,
}


def _fans(weight: Tensor) -> dict[str, float]:
    positions = weight[0, 0].numel()  # of a kernel; 1 of a dense layer
    fan_out, fan_in = (size * positions for size in weight.shape[:2])
    return {"fan_in": fan_in, "fan_avg": (fan_in + fan_out) / 2}


def variance_scaling(scale: float, mode: str, shape: str) -> Initializer:
    """jax.nn.initializers.variance_scaling: variance scale / fan; `shape` is "uniform" or "normal"."""

    def fill(weight: Tensor, generator: torch.Generator | None = None) -> None:
        std = math.sqrt(scale / _fans(weight)[mode])
        if shape == "uniform":
            nn.init.uniform_(weight, -math.sqrt(3) * std, math.sqrt(3) * std, generator=generator)
        else:
            # A normal cut at two sigma; the constant restores its standard deviation.
            std /= 0.87962566103423978
            nn.init.trunc_normal_(weight, 0.0, std, -2 * std, 2 * std, generator=generator)

    return fill


def orthogonal(scale: float = 1.0) -> Initializer:
    """Rows or columns orthonormal, times `scale`."""

    def fill(weight: Tensor, generator: torch.Generator | None = None) -> None:
        nn.init.orthogonal_(weight, gain=scale, generator=generator)

    return fill


def zeros() -> Initializer:
    """All zero."""

    def fill(weight: Tensor, generator: torch.Generator | None = None) -> None:
        nn.init.zeros_(weight)

    return fill


INITIALIZERS: dict[str, Callable[..., Initializer]] = {
    "lecun_uniform": lambda: variance_scaling(1.0, "fan_in", "uniform"),
    "lecun_normal": lambda: variance_scaling(1.0, "fan_in", "normal"),
    "glorot_uniform": lambda: variance_scaling(1.0, "fan_avg", "uniform"),
    "glorot_normal": lambda: variance_scaling(1.0, "fan_avg", "normal"),
    "he_uniform": lambda: variance_scaling(2.0, "fan_in", "uniform"),
    "he_normal": lambda: variance_scaling(2.0, "fan_in", "normal"),
    "orthogonal": orthogonal,
    "zeros": zeros,
}


@torch.library.custom_op("torch_ppo::onednn_linear", mutates_args=())
def onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """F.linear by oneDNN; an operator of its own, so that torch.compile takes it as it is."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


@onednn_linear.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])


# Multiply-adds above which oneDNN pays; below, its call costs more than it saves.
ONEDNN_MIN_WORK = 1 << 24
HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _for_onednn(x: Tensor, weight: Tensor) -> bool:
    return HAS_ONEDNN and x.numel() * len(weight) >= ONEDNN_MIN_WORK


class _CPULinear(torch.autograd.Function):
    """F.linear for training on the CPU in float32, each of its three products in the fastest way.

    On AMD processors MKL's float32 product reaches 90 to 120 GFLOP/s on two cores where oneDNN's reaches 150 to 180,
    and torch offers no switch. The weight gradient is as fast in MKL, if its longer side lies in rows: that of a layer of 5
    inputs and 64 outputs takes a fifth of the time that autograd's own form of it takes.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return onednn_linear(x, weight, bias) if _for_onednn(x, weight) else F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous()
        grad_x = None
        if ctx.needs_input_grad[0]:
            onednn = _for_onednn(x, weight)
            grad_x = onednn_linear(grad, weight.t().contiguous(), None) if onednn else grad @ weight
        grads, inputs = grad.flatten(0, -2), x.flatten(0, -2)
        lopsided = weight.shape[1] < weight.shape[0]
        return grad_x, (inputs.t() @ grads).t() if lopsided else grads.t() @ inputs, grads.sum(0)


class _OneProductLinear(torch.autograd.Function):
    """F.linear whose bias has its gradient from the weight's product, by columns of ones beside the input.

    A sum over the rows is two launches more, and reads the whole gradient again. Rows are then multiples of 16 bytes.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        size = x.shape[-1]
        joined = F.pad(x, (0, 4 - size % 4), value=1.0)
        ctx.save_for_backward(joined, weight)
        return F.linear(joined[..., :size], weight, bias)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        joined, weight = ctx.saved_tensors
        size = weight.shape[1]
        both = grad.flatten(0, -2).t() @ joined.flatten(0, -2)
        return grad @ weight, both[:, :size], both[:, size]


class Dense(nn.Linear):
    """nn.Linear, by the fastest way that there is.

    in_bfloat16:  multiply in bfloat16; parameters, sums and results stay as they are
    one_product:  the bias has its gradient from the weight's product: fewer launches, more arithmetic
    """

    in_bfloat16, one_product = False, False

    # Multiply-adds above which it pays to choose the products of a layer with many more outputs than inputs.
    LOPSIDED_MIN_WORK = 1 << 17

    def forward(self, x: Tensor) -> Tensor:
        if self.in_bfloat16:
            return F.linear(x.bfloat16(), self.weight.bfloat16()).to(x.dtype) + self.bias
        if self.one_product and torch.is_grad_enabled():
            return _OneProductLinear.apply(x, self.weight, self.bias)
        if x.device.type == "cpu" and x.dtype == torch.float32 and torch.is_grad_enabled():
            lopsided = 2 * self.in_features <= self.out_features
            if _for_onednn(x, self.weight) or (lopsided and x.numel() * self.out_features >= self.LOPSIDED_MIN_WORK):
                return _CPULinear.apply(x, self.weight, self.bias)
        return F.linear(x, self.weight, self.bias)


def dense(in_dim: int, out_dim: int, kernel_init: Initializer, generator: torch.Generator | None) -> Dense:
    """A linear layer with zero bias and an initialised weight."""
    layer = Dense(in_dim, out_dim)
    kernel_init(layer.weight, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


class MLP(nn.Module):
    """Dense -> activation -> optional LayerNorm, for each layer size; `(..., in_dim)` -> `(..., sizes[-1])`.

    The last layer is linear unless `activate_final`.
    """

    def __init__(
        self,
        in_dim: int,
        layer_sizes: Sequence[int],
        *,
        activation: str = "swish",
        kernel_init: Initializer | None = None,
        output_kernel_init: Initializer | None = None,
        activate_final: bool = False,
        layer_norm: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        kernel_init = kernel_init or INITIALIZERS["lecun_uniform"]()
        layers: list[nn.Module] = []
        for i, size in enumerate(layer_sizes):
            last = i == len(layer_sizes) - 1
            layers.append(
                dense(in_dim, size, output_kernel_init if last and output_kernel_init else kernel_init, generator)
            )
            if not last or activate_final:
                layers.append(ACTIVATIONS[activation]())
                if layer_norm:
                    layers.append(nn.LayerNorm(size, eps=1e-6))
            in_dim = size
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class TanhNormalPolicy(nn.Module):
    """One MLP with `2 * action_dim` outputs; `(..., obs_dim)` -> loc, scale `(..., action_dim)`."""

    def __init__(self, trunk: MLP) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        return tanh_normal_params(self.trunk(observation))


class NormalPolicy(nn.Module):
    """An MLP trunk, a linear mean head, and a standard deviation that is a parameter or a second head.

    `(..., obs_dim)` -> loc, scale `(..., action_dim)`. With `noise_std_type="scalar"` the scale is used as it
    is and may become negative, as in Brax; "log" exponentiates.
    """

    def __init__(
        self,
        trunk: MLP,
        mean_head: nn.Linear,
        std_head: nn.Linear | None,
        *,
        noise_std_type: str = "scalar",
        init_noise_std: float = 1.0,
        mean_clip_scale: float | None = None,
    ) -> None:
        super().__init__()
        self.trunk, self.mean_head, self.std_head = trunk, mean_head, std_head
        self.log_std = noise_std_type == "log"
        self.mean_clip_scale = mean_clip_scale
        initial = math.log(init_noise_std) if self.log_std else init_noise_std
        self.std = None if std_head else nn.Parameter(torch.full((mean_head.out_features,), initial))

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(observation)
        loc = self.mean_head(features)
        if self.mean_clip_scale is not None:
            loc = self.mean_clip_scale * loc / (1.0 + loc.abs())
        std = self.std.expand_as(loc) if self.std_head is None else self.std_head(features)
        return loc, std.exp() if self.log_std else std


class CategoricalPolicy(nn.Module):
    """An MLP trunk and a linear head of logits, for discrete actions: `(..., obs_dim)` -> `(..., num_logits)`."""

    def __init__(self, trunk: MLP, logits_head: nn.Linear) -> None:
        super().__init__()
        self.trunk, self.logits_head = trunk, logits_head

    def forward(self, observation: Tensor) -> Tensor:
        return self.logits_head(self.trunk(observation))


class ValueNetwork(nn.Module):
    """`(..., obs_dim)` -> quantiles `(..., Q)`; the value is their mean. Q = 1 is the ordinary critic."""

    def __init__(self, trunk: MLP) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, observation: Tensor) -> Tensor:
        return self.trunk(observation)


def make_ppo_networks(
    policy_obs_dim: int,
    value_obs_dim: int,
    action_dim: int,
    *,
    policy_hidden_layer_sizes: Sequence[int] = (32,) * 4,
    value_hidden_layer_sizes: Sequence[int] = (256,) * 5,
    activation: str = "swish",
    distribution_type: str = "tanh_normal",
    noise_std_type: str = "scalar",
    init_noise_std: float = 1.0,
    state_dependent_std: bool = False,
    policy_network_kernel_init: Initializer | None = None,
    value_network_kernel_init: Initializer | None = None,
    mean_clip_scale: float | None = None,
    mean_kernel_init: Initializer | None = None,
    output_kernel_init: Initializer | None = None,
    use_distributional_critic: bool = False,
    num_quantiles: int = 32,
    layer_norm: bool = False,
    generator: torch.Generator | None = None,
) -> tuple[nn.Module, nn.Module]:
    """Policy (observation -> loc, scale; of "categorical" logits) and value network (observation -> quantiles).

    Names, defaults and meaning are those of Brax's factory. With `tanh_normal` the options
    `noise_std_type`, `init_noise_std`, `state_dependent_std`, `mean_clip_scale` and `mean_kernel_init` have no
    effect, as in Brax; `Config` refuses such combinations. `output_kernel_init` is of the last layer of a `tanh_normal`
    policy alone, as in Brax's vision networks, and of a `categorical` one, which Brax has not; of that `action_dim` is the
    number of logits.
    """
    policy_init = policy_network_kernel_init or INITIALIZERS["lecun_uniform"]()
    common = {"activation": activation, "layer_norm": layer_norm, "generator": generator}
    hidden = tuple(policy_hidden_layer_sizes)
    if distribution_type == "tanh_normal":
        sizes = (*hidden, 2 * action_dim)
        trunk = MLP(policy_obs_dim, sizes, kernel_init=policy_init, output_kernel_init=output_kernel_init, **common)
        policy = TanhNormalPolicy(trunk)
    elif distribution_type == "categorical":
        trunk = MLP(policy_obs_dim, hidden, kernel_init=policy_init, activate_final=True, **common)
        policy = CategoricalPolicy(trunk, dense(hidden[-1], action_dim, output_kernel_init or policy_init, generator))
    else:
        trunk = MLP(policy_obs_dim, hidden, kernel_init=policy_init, activate_final=True, **common)
        mean_head = dense(hidden[-1], action_dim, mean_kernel_init or policy_init, generator)
        std_head = dense(hidden[-1], action_dim, policy_init, generator) if state_dependent_std else None
        policy = NormalPolicy(
            trunk,
            mean_head,
            std_head,
            noise_std_type=noise_std_type,
            init_noise_std=init_noise_std,
            mean_clip_scale=mean_clip_scale,
        )
    value = ValueNetwork(
        MLP(
            value_obs_dim,
            (*value_hidden_layer_sizes, num_quantiles if use_distributional_critic else 1),
            kernel_init=value_network_kernel_init,
            **common,
        )
    )
    return policy, value
