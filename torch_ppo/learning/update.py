"""Updating: gradients of one minibatch, an SGD step, and the passes over a batch."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from torch_ppo.formulas import losses, schedules
from torch_ppo.formulas.losses import LossInputs
from torch_ppo.formulas.noise import Noise
from torch_ppo.learning.adam import adam_step
from torch_ppo.learning.agent import Agent
from torch_ppo.learning.augment import PixelShifts
from torch_ppo.learning.batch import Batch
from torch_ppo.learning.devices import ALONE, Devices
from torch_ppo.learning.prepare import Preparation
from torch_ppo.settings.config import Config
from torch_ppo.simulation.task import Observation

OF_STEP = ("grad_norm", "learning_rate", "skipped_fraction")  # of an SGD step, beside those of its loss
METRICS = (*losses.METRICS, *OF_STEP)
# What target_kl is multiplied by; the factor of Spinning Up and Stable-Baselines3.
KL_TOLERANCE = 1.5


def loss_from_config(
    config: Config, agent: Agent, clipping_epsilon: Tensor, entropy_cost: Tensor
) -> Callable[..., tuple[Tensor, dict[str, Tensor]]]:
    """`compute_ppo_loss` with the coefficients of the configuration; those that are tensors may change meanwhile."""
    return functools.partial(
        losses.compute_ppo_loss,
        distribution=agent.distribution,
        discounting=config.discounting,
        gae_lambda=config.gae_lambda,
        textbook_gae=config.gae == "textbook",
        reward_scaling=config.reward_scaling,
        clipping_epsilon=clipping_epsilon,
        clipping_epsilon_value=config.clipping_epsilon_value,
        entropy_cost=entropy_cost,
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
    """The agent with its optimizer, its loss and the batch that it learns from. The agent must be on its device already.

    Everything in `sgd_pass` happens to tensors that stay where they are, so that it can be recorded and replayed.

    flat:          all parameters of policy and value network, in this order     (num_parameters,)
    order:         sequences of each minibatch of the pass under way, int64,
                   or transitions, whose index is step * num_unrolls + sequence  (num_minibatches, batch_size)
    entropy_noise: of the same pass                              (num_minibatches, *minibatch_shape, entropy_noise_dim)
    pixel_shifts:  of the same pass, if pixels are augmented
    row:           SGD steps since the training step began, int64                (1,)
    sgd_steps:     SGD steps of the run before this training step, int64         (1,)
    stopped:       1 once the KL has exceeded its target in this training step   ()
    loss_metrics, metric_names: of the loss, and with those of an SGD step: `METRICS` that this distribution has
    metrics:       of every SGD step of the training step, columns `metric_names`   (updates * minibatches, n)
    learning_rate, clipping_epsilon, entropy_cost: tensors, which schedules change on the device
    prepare_batch: what happens before the passes
    fused_adam:    by torch's kernel; else by `adam_step`, which is faster where it is compiled
    one_value_pass: whether the bootstrap value comes with the others: fewer launches, a row more to go back through
    """

    def __init__(self, agent: Agent, config: Config, batch: Batch, noise: Noise, devices: Devices = ALONE) -> None:
        self.agent, self.config, self.batch, self.noise, self.devices = agent, config, batch, noise, devices
        share = devices.share(config)
        # Each once: policy and value network may share an encoder.
        self.parameters = list(dict.fromkeys([*agent.policy.parameters(), *agent.value.parameters()]))
        self.flat = flatten_parameters(self.parameters)
        device, dtype = self.flat.device, self.flat.dtype
        self.learning_rate, self.clipping_epsilon, self.entropy_cost = (
            torch.tensor(value, device=device, dtype=dtype)
            for value in (config.learning_rate, config.clipping_epsilon, config.entropy_cost)
        )
        self.loss = loss_from_config(config, agent, self.clipping_epsilon, self.entropy_cost)
        self.scheduled = bool(
            config.decaying
            or config.learning_rate_warmup_timesteps
            or config.clipping_epsilon_final is not None
            or config.entropy_cost_final is not None
        )
        self.minibatch = batch.minibatch_of_transitions if config.minibatch_of == "transitions" else batch.minibatch
        self.optimizer = torch.optim.Adam(
            [self.flat], lr=self.learning_rate, fused=True, capturable=device.type == "cuda"
        )
        # Adam makes these at its first step; a graph needs them to be there before.
        self.optimizer.state[self.flat] = {
            "step": torch.zeros((), device=device, dtype=torch.float32),
            "exp_avg": torch.zeros_like(self.flat),
            "exp_avg_sq": torch.zeros_like(self.flat),
        }
        self.order = torch.zeros(config.num_minibatches, share.batch_size, device=device, dtype=torch.int64)
        self.entropy_noise = torch.zeros(
            config.num_minibatches,
            *share.minibatch_shape,
            agent.distribution.entropy_noise_dim,
            device=device,
            dtype=dtype,
        )
        self.pixel_shifts = PixelShifts(config, agent, batch) if config.augment_pixels else None
        self.fused_adam, self.one_value_pass = True, False
        self.row, self.sgd_steps = (torch.zeros(1, device=device, dtype=torch.int64) for _ in range(2))
        self.stopped = torch.zeros((), device=device, dtype=torch.float32)
        if config.target_kl is not None:
            # Fused Adam leaves parameters, moments and step count as they are where this is 1, without a host read.
            self.optimizer.found_inf = self.stopped
        self.loss_metrics = losses.metric_names(agent.distribution)
        self.metric_names = (*self.loss_metrics, *OF_STEP)
        self.metrics = torch.zeros(
            config.sgd_steps_per_training_step, len(self.metric_names), device=device, dtype=dtype
        )
        self.prepare_batch = Preparation(config, agent, batch, devices)

    def load_optimizer(self, saved: dict[str, object]) -> None:
        """Adam's moments, step count and learning rate from its `state_dict`, into the tensors that it works on."""
        (saved_state,) = saved["state"].values()
        with torch.no_grad():
            for name, tensor in self.optimizer.state[self.flat].items():
                tensor.copy_(saved_state[name])
            self.learning_rate.copy_(saved["param_groups"][0]["lr"])

    def state(self) -> dict[str, object]:
        """The live tensors, beside those of agent and optimizer, that continue learning exactly when copied back."""
        statistics = self.prepare_batch.return_statistics
        return {"sgd_steps": self.sgd_steps, "returns": statistics.state_dict() if statistics else {}}

    @torch.no_grad()
    def follow_schedules(self) -> None:
        """Learning rate, clip range and entropy cost of the SGD step that comes next."""
        config = self.config
        step = (self.sgd_steps + self.row)[0].to(self.learning_rate.dtype)
        if config.decaying or config.learning_rate_warmup_timesteps:
            rate = schedules.learning_rate(
                step,
                peak=config.learning_rate,
                final=config.learning_rate * config.learning_rate_final_fraction,
                shape=config.learning_rate_schedule,
                warmup=config.num_warmup_sgd_steps,
                total=config.num_sgd_steps,
            )
            self.learning_rate.copy_(rate)
        done = schedules.progress(step, 0, config.num_sgd_steps)
        if config.clipping_epsilon_final is not None:
            self.clipping_epsilon.copy_(schedules.linear(config.clipping_epsilon, config.clipping_epsilon_final, done))
        if config.entropy_cost_final is not None:
            self.entropy_cost.copy_(schedules.linear(config.entropy_cost, config.entropy_cost_final, done))

    def _follow_kl(self, metrics: Tensor) -> None:
        """Changes the adaptive learning rate, if there is one, and stops at `target_kl`, if there is one."""
        config = self.config
        if config.adaptive_kl:
            new = adaptive_learning_rate(
                self.learning_rate,
                metrics[self.loss_metrics.index("kl_mean")],
                desired_kl=config.desired_kl,
                min_lr=config.learning_rate_schedule_min_lr,
                max_lr=config.learning_rate_schedule_max_lr,
            )
            if config.target_kl is not None:
                # Not once it has stopped: the KL stays, and would change the rate in every step that is skipped.
                new = torch.where(self.stopped > 0, self.learning_rate, new)
            self.learning_rate.copy_(new)
        if config.target_kl is not None:
            too_far = metrics[self.loss_metrics.index("approx_kl")] > KL_TOLERANCE * config.target_kl
            self.stopped.copy_(torch.maximum(self.stopped, too_far.to(self.stopped.dtype)))

    def minibatch_loss(
        self, observation: Observation, bootstrap_observation: Observation, data: LossInputs, entropy_noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Loss `()` of a minibatch and its metrics `(len(loss_metrics),)`.

        Values, the bootstrap value and GAE are computed here, from the current value network, as in Brax, unless
        advantages were computed before.
        """
        agent = self.agent
        bootstrap_value = None
        if data.advantage is None and self.one_value_pass and not agent.shared_encoder:
            params = agent.policy_params(observation)
            quantiles, bootstrap_value = self._values_in_one_pass(observation, bootstrap_observation)
        else:
            params, quantiles = agent.policy_and_quantiles(observation)
            if data.advantage is None:
                with torch.no_grad():
                    bootstrap_value = agent.values(bootstrap_observation)
        total_loss, metrics = self.loss(
            data,
            policy_params=params,
            quantiles=quantiles,
            bootstrap_value=bootstrap_value,
            entropy_noise=entropy_noise,
        )
        return total_loss, torch.stack([metrics[name] for name in self.loss_metrics])

    def _values_in_one_pass(self, observation: Observation, bootstrap: Observation) -> tuple[Tensor, Tensor]:
        """Quantiles `(T, B, Q)`, and the value of the bootstrap observation `(B,)`, without gradient."""
        keys = self.agent.value_obs_keys
        steps = {key: torch.cat([observation[key], bootstrap[key][None]]) for key in keys}  # (T + 1, B, ...)
        quantiles = self.agent.quantiles(steps)
        return quantiles[:-1], quantiles[-1].mean(-1).detach()

    def gradients(
        self, observation: Observation, bootstrap_observation: Observation, data: LossInputs, entropy_noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Gradient `(num_parameters,)` of the minibatch's loss, not yet clipped, and the loss metrics."""
        return self._parts(self._joined_gradient(observation, bootstrap_observation, data, entropy_noise))

    def _joined_gradient(
        self, observation: Observation, bootstrap_observation: Observation, data: LossInputs, entropy_noise: Tensor
    ) -> Tensor:
        total_loss, metrics = self.minibatch_loss(observation, bootstrap_observation, data, entropy_noise)
        gradients = torch.autograd.grad(total_loss, self.parameters)
        return torch.cat([*(gradient.flatten() for gradient in gradients), metrics])

    def _parts(self, joined: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient and loss metrics, which lie in one vector so that devices exchange it at once."""
        return joined.split([self.flat.numel(), len(self.loss_metrics)])

    def minibatch_gradient(self) -> Tensor:
        """Of the minibatch whose turn it is: gradient, not yet clipped, and loss metrics, one behind the other.

        `(num_parameters + len(loss_metrics),)`. Sets what follows a schedule. Nothing but torch operations, so that it
        can be compiled.
        """
        if self.scheduled:
            self.follow_schedules()
        minibatch = self.row % self.config.num_minibatches
        members, entropy_noise = (x.index_select(0, minibatch)[0] for x in (self.order, self.entropy_noise))
        observation, bootstrap_observation, data = self.minibatch(members)
        if self.pixel_shifts is not None:
            observation, bootstrap_observation = self.pixel_shifts.of(observation, bootstrap_observation, members)
        return self._joined_gradient(observation, bootstrap_observation, data, entropy_noise)

    @torch.no_grad()
    def finish_sgd_step(self, joined: Tensor) -> None:
        """Follows the KL, clips the gradient, takes Adam's step, and goes on to the next minibatch. Can be compiled."""
        gradient, metrics = self._parts(joined)
        self._follow_kl(metrics)
        norm = gradient.norm()
        if self.config.max_grad_norm is not None:
            gradient = gradient * global_norm_factor(norm, self.config.max_grad_norm)
        rest = torch.stack([norm, self.learning_rate, self.stopped.to(norm.dtype)])
        if self.fused_adam:
            self.flat.grad = gradient
            self.optimizer.step()
        else:
            skip = None if self.config.target_kl is None else self.stopped
            moments = self.optimizer.state[self.flat]
            adam_step(self.flat, gradient, **moments, learning_rate=self.learning_rate, skip=skip)
        self.metrics.index_copy_(0, self.row, torch.cat([metrics, rest])[None])
        self.row.add_(1).remainder_(len(self.metrics))  # what records a graph makes more passes than a training step

    def sgd_step(self) -> None:
        """One minibatch: gradient, averaged over devices, and Adam."""
        self.finish_sgd_step(self.devices.mean_(self.minibatch_gradient()))

    def begin_pass(self) -> None:
        """Draws a new random order of the batch's sequences or transitions, and the noise and offsets of the pass."""
        self.order.copy_(self.noise.permutation(self.order.numel()).view_as(self.order))
        self.entropy_noise.copy_(self.noise.normal(*self.entropy_noise.shape))
        if self.pixel_shifts is not None:
            self.pixel_shifts.draw(self.noise)

    def sgd_pass(self) -> None:
        """One pass over the batch."""
        self.begin_pass()
        for _ in range(self.config.num_minibatches):
            self.sgd_step()

    def update(self) -> Tensor:
        """All passes over the batch. Returns `metrics`."""
        self.row.zero_()
        self.stopped.zero_()
        for _ in range(self.config.num_updates_per_batch):
            self.sgd_pass()
        self.sgd_steps += len(self.metrics)
        return self.metrics
