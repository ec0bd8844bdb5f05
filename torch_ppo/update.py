"""Updating: gradients of one minibatch, an SGD step, and the passes over a batch."""

import copy
import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from torch_ppo import losses
from torch_ppo.agent import Agent, Observation
from torch_ppo.collect import Batch
from torch_ppo.config import Config
from torch_ppo.losses import LossInputs
from torch_ppo.noise import Noise

METRICS = (*losses.METRICS, "grad_norm", "learning_rate")


def loss_from_config(config: Config, agent: Agent) -> Callable[..., tuple[Tensor, dict[str, Tensor]]]:
    """`compute_ppo_loss` with the coefficients of the configuration."""
    return functools.partial(
        losses.compute_ppo_loss,
        bijector=agent.bijector,
        discounting=config.discounting,
        gae_lambda=config.gae_lambda,
        reward_scaling=config.reward_scaling,
        clipping_epsilon=config.clipping_epsilon,
        clipping_epsilon_value=config.clipping_epsilon_value,
        entropy_cost=config.entropy_cost,
        vf_loss_coefficient=config.vf_loss_coefficient,
        normalize_advantage=config.normalize_advantage,
        use_distributional_critic=config.use_distributional_critic,
    )


def global_norm_factor(norm: Tensor, max_norm: float) -> Tensor:
    """What gradients of global norm `norm` `()` are multiplied by: 1 below `max_norm`, exactly max_norm / norm above.

    torch's `clip_grad_norm_` has 1e-6 in the denominator; optax, and so Brax, has not.
    """
    return torch.where(norm < max_norm, torch.ones_like(norm), max_norm / norm)


def adaptive_learning_rate(
    learning_rate: Tensor, kl: Tensor, *, desired_kl: float, min_lr: float, max_lr: float
) -> Tensor:
    """The next learning rate `()`: down by 1.5 above twice the desired KL, up by 1.5 below half of it.

    Comparisons are strict; a KL that is zero, negative or NaN changes nothing. Source: rsl_rl, through Brax.
    """
    lower = (learning_rate / 1.5).clamp(min=min_lr)
    higher = (learning_rate * 1.5).clamp(max=max_lr)
    too_large = kl > desired_kl * 2.0
    too_small = (kl > 0.0) & (kl < desired_kl / 2.0)
    return torch.where(too_large, lower, torch.where(too_small, higher, learning_rate))


def flatten_parameters(parameters: list[nn.Parameter]) -> nn.Parameter:
    """One vector of all parameters, of which they become views.

    Clipping, Adam and a gradient all-reduce are then one operation each instead of one per layer, which is what an SGD
    step of small networks spends much of its time on.
    """
    flat = nn.Parameter(torch.cat([parameter.detach().flatten() for parameter in parameters]))
    for parameter, part in zip(parameters, per_parameter(flat.detach(), parameters), strict=True):
        parameter.data = part
    return flat


def per_parameter(vector: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    """Views of `vector` `(num_parameters,)`, a flat parameter vector or gradient, in the parameters' shapes."""
    parts = vector.split([parameter.numel() for parameter in parameters])
    return [part.view_as(parameter) for part, parameter in zip(parts, parameters, strict=True)]


class Learner:
    """The agent with its optimizer and loss. The agent must be on its device already.

    flat:     all parameters of policy and value network, in this order     (num_parameters,)
    metrics:  of every minibatch of the last `update`, columns `METRICS`   (updates * minibatches, len(METRICS))
    """

    def __init__(self, agent: Agent, config: Config) -> None:
        self.agent, self.config = agent, config
        self.loss = loss_from_config(config, agent)
        self.parameters = [*agent.policy.parameters(), *agent.value.parameters()]
        self.flat = flatten_parameters(self.parameters)
        device, dtype = self.flat.device, self.flat.dtype
        # A tensor, so that schedules change it in place on the device.
        self.learning_rate = torch.tensor(config.learning_rate, device=device, dtype=dtype)
        self.optimizer = torch.optim.Adam(
            [self.flat], lr=self.learning_rate, fused=True, capturable=device.type == "cuda"
        )
        self.metrics = torch.zeros(config.sgd_steps_per_training_step, len(METRICS), device=device, dtype=dtype)

    def load_optimizer(self, saved: dict[str, object]) -> None:
        """Adam's moments, step count and learning rate from its `state_dict`."""
        self.optimizer.load_state_dict(copy.deepcopy(saved))  # it would go on in the same tensors
        # Loading replaces the learning rate by a copy; the tensor that schedules write to must stay the optimizer's.
        group = self.optimizer.param_groups[0]
        self.learning_rate.copy_(group["lr"])
        group["lr"] = self.learning_rate

    def gradients(
        self, observation: Observation, bootstrap_observation: Observation, data: LossInputs, entropy_noise: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Gradient `(num_parameters,)` of the minibatch's loss, not yet clipped, and the loss metrics.

        Values, the bootstrap value and GAE are computed here, from the current value network, as in Brax.
        """
        agent = self.agent
        with torch.no_grad():
            bootstrap_value = agent.values(bootstrap_observation)
        loc, scale = agent.policy_params(observation)
        total_loss, metrics = self.loss(
            data,
            loc=loc,
            scale=scale,
            quantiles=agent.quantiles(observation),
            bootstrap_value=bootstrap_value,
            entropy_noise=entropy_noise,
        )
        gradients = torch.autograd.grad(total_loss, self.parameters)
        return torch.cat([gradient.flatten() for gradient in gradients]), metrics

    def sgd_step(
        self, observation: Observation, bootstrap_observation: Observation, data: LossInputs, entropy_noise: Tensor
    ) -> Tensor:
        """One minibatch: loss, gradients, adaptive learning rate, clipping, Adam. Returns `(len(METRICS),)`."""
        config = self.config
        gradient, metrics = self.gradients(observation, bootstrap_observation, data, entropy_noise)
        with torch.no_grad():
            if config.adaptive_kl:
                new = adaptive_learning_rate(
                    self.learning_rate,
                    metrics["kl_mean"],
                    desired_kl=config.desired_kl,
                    min_lr=config.learning_rate_schedule_min_lr,
                    max_lr=config.learning_rate_schedule_max_lr,
                )
                self.learning_rate.copy_(new)
            norm = gradient.norm()
            if config.max_grad_norm is not None:
                gradient *= global_norm_factor(norm, config.max_grad_norm)
            self.flat.grad = gradient
            self.optimizer.step()
            return torch.stack([*(metrics[name] for name in losses.METRICS), norm, self.learning_rate])

    def update(self, batch: Batch, noise: Noise) -> Tensor:
        """All passes over the batch, each in a new random order of its sequences. Returns `metrics`."""
        config = self.config
        row = 0
        for _ in range(config.num_updates_per_batch):
            order = noise.permutation(config.num_unrolls)
            for sequences in order.split(config.batch_size):
                entropy_noise = noise.normal(config.unroll_length, config.batch_size, batch.raw_action.shape[-1])
                self.metrics[row] = self.sgd_step(*batch.minibatch(sequences), entropy_noise)
                row += 1
        return self.metrics
