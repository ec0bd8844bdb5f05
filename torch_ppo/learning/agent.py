"""The agent: observation normalizer, policy and value network in one module."""

import functools
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from torch_ppo.errors import ConfigError, did_you_mean
from torch_ppo.formulas.categorical import Categorical
from torch_ppo.formulas.distribution import DISTRIBUTIONS, Distribution, Normal, PolicyParams, as_params
from torch_ppo.formulas.networks import INITIALIZERS, Initializer, make_ppo_networks
from torch_ppo.formulas.pixels import is_picture, make_ppo_networks_vision
from torch_ppo.formulas.running_statistics import RunningStatistics
from torch_ppo.learning.devices import ALONE, Devices
from torch_ppo.learning.factory import NetworkFactory, networks_of
from torch_ppo.settings.config import Config
from torch_ppo.simulation.frames import frames_by_key
from torch_ppo.simulation.task import Observation

# Of a vector its size, of pixels (height, width, channels).
ObservationSizes = Mapping[str, int | tuple[int, ...]]


class Agent(nn.Module):
    """Maps observations, a dict of `(..., obs_dim)` tensors, to actions and values.

    Observations of pixels are `(..., height, width, channels)`, uint8 or floating-point, and have no normalizer. Where there
    are some that the networks see, these take a dict: all pixels, and the one vector of their key, if it has a name.

    normalizer:  statistics of each vector that a network sees; always kept, used if `normalize_observations`
    policy:      observation -> loc, scale                  (..., action_dim)
                 or logits, of discrete actions             (..., num_logits)
    value:       observation -> quantiles                   (..., Q), Q = 1 unless distributional
    distribution: of actions, by what the policy gives
    observation_sizes: of all that the networks see: of a vector its size, of pixels (height, width, channels)
    pixel_keys:  of the pixels among them, sorted
    shared_encoder: whether both networks have the same encoder of pixels
    """

    def __init__(
        self,
        policy: nn.Module,
        value: nn.Module,
        normalizer: nn.ModuleDict,
        distribution: Distribution,
        config: Config,
        obs_keys: tuple[str, str],
        observation_sizes: ObservationSizes,
    ) -> None:
        super().__init__()
        self.policy, self.value, self.normalizer = policy, value, normalizer
        self.policy_obs_key, self.value_obs_key = obs_keys
        self.pixel_keys = pixel_keys(config, observation_sizes)
        self.observation_sizes = {key: observation_sizes[key] for key in self.obs_keys}
        self.normalize_observations = config.normalize_observations
        self.distribution = distribution
        encoder = getattr(policy, "encoder", None)
        self.shared_encoder = encoder is not None and encoder is getattr(value, "encoder", None)

    @property
    def policy_obs_keys(self) -> tuple[str, ...]:
        """All observations that the policy sees: pixels, and its vector."""
        return (*self.pixel_keys, *filter(None, (self.policy_obs_key,)))

    @property
    def value_obs_keys(self) -> tuple[str, ...]:
        """All observations that the value network sees: pixels, and its vector."""
        return (*self.pixel_keys, *filter(None, (self.value_obs_key,)))

    @property
    def obs_keys(self) -> tuple[str, ...]:
        """All observations that a network sees, sorted: what a batch has to have."""
        return tuple(sorted({*self.policy_obs_keys, *self.value_obs_keys}))

    def preprocess(self, observation: Observation, key: str) -> Tensor | Observation:
        """What the network of the vector `key` sees: that, normalised, `(..., obs_dim)`; with pixels a dict of both."""
        seen = {name: observation[name] for name in self.pixel_keys}
        if key:
            x = observation[key]
            seen[key] = self.normalizer[key].normalize(x) if self.normalize_observations else x
        return seen if self.pixel_keys else seen[key]

    def policy_params(self, observation: Observation) -> PolicyParams:
        """What the policy gives: loc and scale of the raw action, each `(..., action_dim)`, or its logits alone."""
        return as_params(self.policy(self.preprocess(observation, self.policy_obs_key)))

    def quantiles(self, observation: Observation) -> Tensor:
        """Outputs of the value network, `(..., Q)`."""
        return self.value(self.preprocess(observation, self.value_obs_key))

    def policy_and_quantiles(self, observation: Observation) -> tuple[PolicyParams, Tensor]:
        """`policy_params` and `quantiles` of the same observation; an encoder that both share is asked once."""
        if not self.shared_encoder:
            return self.policy_params(observation), self.quantiles(observation)
        policy_sees, value_sees = (
            self.preprocess(observation, key) for key in (self.policy_obs_key, self.value_obs_key)
        )
        features = self.policy.encoder(policy_sees)
        return as_params(self.policy(policy_sees, features)), self.value(value_sees, features)

    def values(self, observation: Observation) -> Tensor:
        """Value, `(...,)`: the mean of the quantiles."""
        return self.quantiles(observation).mean(-1)

    def mode(self, observation: Observation) -> Tensor:
        """Deterministic action, `(..., action_dim)`."""
        return self.distribution.action(self.distribution.mode_raw(self.policy_params(observation)))

    def sample(self, observation: Observation, noise: Tensor) -> Tensor:
        """Action `(..., action_dim)` from noise of its distribution, `(..., noise_dim)`."""
        return self.distribution.action(self.distribution.sample_raw(self.policy_params(observation), noise))

    def update_normalizer(self, observation: Observation, devices: Devices = ALONE) -> None:
        """Takes all observations `(..., obs_dim)` of a batch, and of the other devices' batches, into the statistics."""
        for key, statistics in self.normalizer.items():
            devices.update(statistics, observation[key])


def distribution_of(config: Config, action_dim: int, choices: tuple[int, ...] | None) -> Distribution:
    """The distribution of actions that a configuration means.

    choices:  how many each action has, for `distribution_type = "categorical"`
    """
    if config.distribution_type == "categorical":
        return Categorical(tuple(choices))
    return Normal(action_dim, DISTRIBUTIONS[config.distribution_type])


def pixel_keys(config: Config, observation_sizes: ObservationSizes) -> tuple[str, ...]:
    """The observations of pixels that both networks see, sorted; none without `vision`."""
    keys = tuple(sorted(filter(is_picture, observation_sizes))) if config.vision else ()
    if config.vision and not keys:
        raise ConfigError(
            f"vision = True has no effect: the task observes {', '.join(observation_sizes)}, and no pixels/...; leave "
            "vision out"
        )
    return keys


def obs_keys(config: Config, observation_sizes: ObservationSizes) -> tuple[str, str]:
    """The vectors that policy and value network see; "" for none beside pixels.

    A task with only one, and no pixels, has no choice, as in Brax.
    """
    vectors = [key for key in observation_sizes if not is_picture(key)]
    if not vectors and not config.vision:
        raise ConfigError("the task observes pixels alone, which networks see with vision = true")
    if len(vectors) == 1 and not config.vision:
        (only,) = vectors
        for field in ("policy_obs_key", "value_obs_key"):
            if getattr(config, field) not in (only, getattr(Config, field)):
                raise ConfigError(
                    f"{field} = {getattr(config, field)!r} has no effect: the task has one observation, {only!r}; leave "
                    f"{field} out"
                )
        return only, only
    found = []
    for field in ("policy_obs_key", "value_obs_key"):
        key = getattr(config, field)
        if config.vision and not vectors and key == getattr(Config, field):
            key = ""
        if key not in vectors and not (config.vision and key == ""):
            alone = ', or "" for pixels alone' if config.vision else ""
            raise ConfigError(f"{field} is {key!r}, which the task does not observe{did_you_mean(key, vectors)}{alone}")
        found.append(key)
    return found[0], found[1]


def _initializer(config: Config, name: str) -> Initializer | None:
    """The initialiser of the fields `<name>_kernel_init_fn` and `..._scale`; None where they leave it open."""
    function, scale = (getattr(config, f"{name}_kernel_init_{part}") for part in ("fn", "scale"))
    return INITIALIZERS[function](*filter(None, (scale,))) if function else None


def network_factory_from_config(config: Config, generator: torch.Generator | None) -> NetworkFactory:
    """Brax's network factory, that of `vision` where it is asked for, with the options of the configuration."""
    options = {
        "policy_hidden_layer_sizes": config.policy_hidden_layer_sizes,
        "value_hidden_layer_sizes": config.value_hidden_layer_sizes,
        "activation": config.activation,
        "layer_norm": config.layer_norm,
        "distribution_type": config.distribution_type,
        "noise_std_type": config.noise_std_type,
        "init_noise_std": config.init_noise_std,
        "state_dependent_std": config.state_dependent_std,
        "policy_network_kernel_init": _initializer(config, "policy_network"),
        "value_network_kernel_init": _initializer(config, "value_network"),
        "mean_clip_scale": config.mean_clip_scale,
        "mean_kernel_init": _initializer(config, "mean"),
        "output_kernel_init": _initializer(config, "output"),
        "use_distributional_critic": config.use_distributional_critic,
        "num_quantiles": config.num_quantiles,
        "generator": generator,
    }
    if not config.vision:
        return functools.partial(make_ppo_networks, **options)
    return functools.partial(
        make_ppo_networks_vision,
        **options,
        normalise_channels=config.normalise_channels,
        pixel_encoder=config.pixel_encoder,
        shared_encoder=config.shared_encoder,
        cnn_output_channels=config.cnn_output_channels,
        cnn_kernel_size=config.cnn_kernel_size,
        cnn_stride=config.cnn_stride,
        cnn_padding=config.cnn_padding,
        cnn_activation=config.cnn_activation,
        cnn_max_pool=config.cnn_max_pool,
        cnn_global_pool=config.cnn_global_pool,
        cnn_kernel_init=_initializer(config, "cnn"),
    )


def make_agent(
    config: Config,
    observation_sizes: ObservationSizes,
    action_dim: int,
    *,
    choices: tuple[int, ...] | None = None,
    generator: torch.Generator | None = None,
    network_factory: NetworkFactory | None = None,
) -> Agent:
    """A freshly initialised agent on the CPU for observations of these sizes, `history` included.

    `choices` says how many each action has, where they are discrete.
    `generator` decides its weights, also those of a `network_factory`.
    """
    keys = obs_keys(config, observation_sizes)
    distribution = distribution_of(config, action_dim, choices)
    outputs = next(iter(distribution.param_sizes.values()))
    vectors = {key: observation_sizes[key] for key in sorted({*keys} - {""})}
    frames = frames_by_key(config.history, config.history_obs_keys, observation_sizes)
    if config.vision:
        seen = vectors | {key: observation_sizes[key] for key in pixel_keys(config, observation_sizes)}
        sizes = (seen, outputs)
    else:
        sizes = (*(observation_sizes[key] for key in keys), outputs)
    if network_factory is None:
        policy, value = _own_networks(config, generator, sizes, keys)
    else:
        with torch.random.fork_rng(devices=[]):  # a factory draws from torch's own generator
            if generator is not None:
                torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            policy, value = networks_of(network_factory, sizes, outputs, distribution)
    normalizer = nn.ModuleDict(
        {
            key: RunningStatistics(
                size // frames[key],
                mode=config.normalize_observations_mode,
                std_eps=config.normalize_observations_std_eps,
                until_count=config.normalize_until_count,
                clip=config.normalizer_clip,
                frames=frames[key],
            )
            for key, size in vectors.items()
        }
    )
    return Agent(policy, value, normalizer, distribution, config, keys, observation_sizes)


def _own_networks(
    config: Config, generator: torch.Generator | None, sizes: tuple[object, ...], keys: tuple[str, str]
) -> tuple[nn.Module, nn.Module]:
    factory = network_factory_from_config(config, generator)
    if not config.vision:
        return factory(*sizes)
    try:
        return factory(*sizes, policy_obs_key=keys[0], value_obs_key=keys[1])
    except ValueError as error:
        raise ConfigError(f"{error}; smaller cnn_kernel_size, or cnn_padding = zeros, would work") from None
