"""The agent: observation normalizer, policy and value network in one module."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from torch_ppo.errors import ConfigError, did_you_mean
from torch_ppo.formulas import distribution
from torch_ppo.formulas.networks import INITIALIZERS, make_ppo_networks
from torch_ppo.formulas.running_statistics import RunningStatistics
from torch_ppo.learning.devices import ALONE, Devices
from torch_ppo.settings.config import Config
from torch_ppo.simulation.frames import frames_by_key
from torch_ppo.simulation.task import Observation

NetworkFactory = Callable[[int, int, int], tuple[nn.Module, nn.Module]]


class Agent(nn.Module):
    """Maps observations, a dict of `(..., obs_dim)` tensors, to actions and values.

    normalizer:  statistics of each observation that a network sees; always kept, used if
                 `normalize_observations`
    policy:      observation -> loc, scale                  (..., action_dim)
    value:       observation -> quantiles                   (..., Q), Q = 1 unless distributional
    """

    def __init__(
        self, policy: nn.Module, value: nn.Module, normalizer: nn.ModuleDict, config: Config, obs_keys: tuple[str, str]
    ) -> None:
        super().__init__()
        self.policy, self.value, self.normalizer = policy, value, normalizer
        self.policy_obs_key, self.value_obs_key = obs_keys
        self.normalize_observations = config.normalize_observations
        self.bijector = distribution.DISTRIBUTIONS[config.distribution_type]

    @property
    def value_obs_keys(self) -> tuple[str, ...]:
        """The observations that the value network sees."""
        return (self.value_obs_key,)

    @property
    def obs_keys(self) -> tuple[str, ...]:
        """The observations that any network sees, in order: what a batch has to have."""
        return tuple(sorted({self.policy_obs_key, *self.value_obs_keys}))

    def preprocess(self, observation: Observation, key: str) -> Tensor:
        """The observation `key` as its network sees it, `(..., obs_dim)`."""
        x = observation[key]
        return self.normalizer[key].normalize(x) if self.normalize_observations else x

    def policy_params(self, observation: Observation) -> tuple[Tensor, Tensor]:
        """loc and scale of the raw action, each `(..., action_dim)`."""
        return self.policy(self.preprocess(observation, self.policy_obs_key))

    def quantiles(self, observation: Observation) -> Tensor:
        """Outputs of the value network, `(..., Q)`."""
        return self.value(self.preprocess(observation, self.value_obs_key))

    def values(self, observation: Observation) -> Tensor:
        """Value, `(...,)`: the mean of the quantiles."""
        return self.quantiles(observation).mean(-1)

    def mode(self, observation: Observation) -> Tensor:
        """Deterministic action, `(..., action_dim)`."""
        return self.bijector.forward(self.policy_params(observation)[0])

    def sample(self, observation: Observation, noise: Tensor) -> Tensor:
        """Action `(..., action_dim)` from standard normal noise of the same shape."""
        return self.bijector.forward(distribution.sample_raw(*self.policy_params(observation), noise))

    def update_normalizer(self, observation: Observation, devices: Devices = ALONE) -> None:
        """Takes all observations `(..., obs_dim)` of a batch, and of the other devices' batches, into the statistics."""
        for key, statistics in self.normalizer.items():
            devices.update(statistics, observation[key])


def obs_keys(config: Config, observation_sizes: Mapping[str, int]) -> tuple[str, str]:
    """The observations that policy and value network see. A task with only one has no choice, as in Brax."""
    if len(observation_sizes) == 1:
        (only,) = observation_sizes
        for field in ("policy_obs_key", "value_obs_key"):
            if getattr(config, field) not in (only, getattr(Config, field)):
                raise ConfigError(
                    f"{field} = {getattr(config, field)!r} has no effect: the task has one observation, {only!r}; leave "
                    f"{field} out"
                )
        return only, only
    for field in ("policy_obs_key", "value_obs_key"):
        key = getattr(config, field)
        if key not in observation_sizes:
            raise ConfigError(
                f"{field} is {key!r}, which the task does not observe{did_you_mean(key, observation_sizes)}"
            )
    return config.policy_obs_key, config.value_obs_key


def network_factory_from_config(config: Config, generator: torch.Generator | None) -> NetworkFactory:
    """Brax's network factory with the options of the configuration."""

    def factory(policy_obs_dim: int, value_obs_dim: int, action_dim: int) -> tuple[nn.Module, nn.Module]:
        mean_init = config.mean_kernel_init_fn
        return make_ppo_networks(
            policy_obs_dim,
            value_obs_dim,
            action_dim,
            policy_hidden_layer_sizes=config.policy_hidden_layer_sizes,
            value_hidden_layer_sizes=config.value_hidden_layer_sizes,
            activation=config.activation,
            layer_norm=config.layer_norm,
            distribution_type=config.distribution_type,
            noise_std_type=config.noise_std_type,
            init_noise_std=config.init_noise_std,
            state_dependent_std=config.state_dependent_std,
            policy_network_kernel_init=INITIALIZERS[config.policy_network_kernel_init_fn](),
            value_network_kernel_init=INITIALIZERS[config.value_network_kernel_init_fn](),
            mean_clip_scale=config.mean_clip_scale,
            mean_kernel_init=INITIALIZERS[mean_init]() if mean_init else None,
            use_distributional_critic=config.use_distributional_critic,
            num_quantiles=config.num_quantiles,
            generator=generator,
        )

    return factory


def make_agent(
    config: Config,
    observation_sizes: Mapping[str, int],
    action_dim: int,
    *,
    generator: torch.Generator | None = None,
    network_factory: NetworkFactory | None = None,
) -> Agent:
    """A freshly initialised agent on the CPU for observations of these sizes, `history` included.

    `generator` decides its weights, also those of a `network_factory`.
    """
    policy_key, value_key = obs_keys(config, observation_sizes)
    frames = frames_by_key(config.history, config.history_obs_keys, observation_sizes)
    sizes = (observation_sizes[policy_key], observation_sizes[value_key], action_dim)
    if network_factory is None:
        policy, value = network_factory_from_config(config, generator)(*sizes)
    else:
        with torch.random.fork_rng(devices=[]):  # a factory draws from torch's own generator
            if generator is not None:
                torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            policy, value = network_factory(*sizes)
    normalizer = nn.ModuleDict(
        {
            key: RunningStatistics(
                observation_sizes[key] // frames[key],
                mode=config.normalize_observations_mode,
                std_eps=config.normalize_observations_std_eps,
                until_count=config.normalize_until_count,
                clip=config.normalizer_clip,
                frames=frames[key],
            )
            for key in sorted({policy_key, value_key})
        }
    )
    return Agent(policy, value, normalizer, config, (policy_key, value_key))
