"""Brax's ppo.train(...): our own words, with what Playground nests in network_factory, and code where we have names."""

import dataclasses

from torch_ppo.dialects.parse import Symbol
from torch_ppo.dialects.reading import Reading, Source, shown
from torch_ppo.dialects.writing import Writing, to_python
from torch_ppo.errors import ConfigError
from torch_ppo.settings.brax_options import KERNELS, VISION_DEFAULTS
from torch_ppo.settings.config import Config

ABOUT = "Brax and MuJoCo Playground"

TRAIN = tuple(
    "num_timesteps num_evals reward_scaling episode_length normalize_observations action_repeat unroll_length "
    "num_minibatches num_updates_per_batch discounting learning_rate entropy_cost num_envs batch_size max_grad_norm "
    "clipping_epsilon num_resets_per_eval gae_lambda normalize_advantage vf_loss_coefficient clipping_epsilon_value "
    "bootstrap_on_timeout use_distributional_critic desired_kl learning_rate_schedule learning_rate_schedule_min_lr "
    "learning_rate_schedule_max_lr normalize_observations_std_eps normalize_observations_mode normalize_until_count seed "
    "num_eval_envs deterministic_eval log_training_metrics training_metrics_steps save_checkpoint_path "
    "restore_checkpoint_path restore_value_fn run_evals max_devices_per_host vision augment_pixels".split()
)
NETWORK = tuple(
    "policy_hidden_layer_sizes value_hidden_layer_sizes activation policy_obs_key value_obs_key distribution_type "
    "noise_std_type init_noise_std state_dependent_std mean_clip_scale policy_network_kernel_init_fn "
    "value_network_kernel_init_fn mean_kernel_init_fn output_kernel_init_fn num_quantiles".split()
)
# Of Brax's vision factory alone.
VISION_NETWORK = tuple(
    "normalise_channels cnn_output_channels cnn_kernel_size cnn_stride cnn_padding cnn_activation cnn_max_pool "
    "cnn_global_pool cnn_kernel_init_fn".split()
)
ONLY_NORMAL = "noise_std_type init_noise_std state_dependent_std mean_clip_scale mean_kernel_init_fn".split()
NEUTRAL = {
    "wrap_env": (True, "torch_ppo.train(wrap_env=...) takes it, and no file does"),
    "wrap_env_fn": (None, "torch_ppo.train(wrap_env_fn=...) takes one, and no file does"),
    "eval_env": (None, "torch_ppo.train(eval_env=...) takes another one, and no file does"),
    "restore_params": (None, "torch_ppo.train(restore_params=...) takes them, and of a file restore_checkpoint_path"),
}
KWARGS = {f"{kernel}_kernel_init_kwargs": f"{kernel}_kernel_init_scale" for kernel in KERNELS}
BATCH = ("num_envs", "unroll_length", "batch_size", "num_minibatches")
SILENT = ("environment", "use_pmap_on_reset", "progress_fn", "policy_params_fn")
KEYS = {*TRAIN, *NEUTRAL, *SILENT, "madrona_backend", "network_factory", "randomization_fn"}
NETWORK_KEYS = {*NETWORK, *VISION_NETWORK, *KWARGS, "use_distributional_critic", "preprocess_observations_fn"}


def read(values: dict[str, object], where: str, reading: Reading, num_envs: int | None) -> None:
    """Our settings from Brax's; says so if the batch is as the guide tells to set it."""
    read_same_words(values, where, reading, num_envs)
    counts = [reading.settings.get(name) for name in BATCH]
    if all(isinstance(count, int) for count in counts):
        envs, length, batch, number = counts
        if number > 1 and batch == envs * length:
            reading.differs.append(
                f"batch_size = {batch} is num_envs * unroll_length: if that was to be the transitions of an update, "
                f"--dialect guide makes minibatches of {batch / number:g} instead of {batch * length} of them"
            )


def read_same_words(values: dict[str, object], where: str, reading: Reading, num_envs: int | None) -> None:
    """Our settings from Brax's: the same, with the networks' beside the others."""
    named = values.get("network_factory")
    if isinstance(named, str):  # a function by name: its defaults are ours
        values = {key: value for key, value in values.items() if key != "network_factory"}
    source = Source(values, where, KEYS)
    network = source.section("network_factory", NETWORK_KEYS)
    if source.take("madrona_backend", bool, False):
        reading.set("madrona_backend = True", vision=True)
    for key in TRAIN:
        if key in source:
            _take(reading, key, source.values[key], source.where)
    if num_envs is not None:
        reading.set(f"--num-envs {num_envs}", num_envs=num_envs)
    normal = network.values.get("distribution_type", "tanh_normal") == "normal"
    for key in (*NETWORK, *VISION_NETWORK):
        if key in network and (normal or key not in ONLY_NORMAL):
            _take(reading, key, network.values[key], network.where)
        elif key in network:
            reading.without.append(f"{key} = {shown(network.values[key])}: Brax ignores it with tanh_normal")
    _take_scales(reading, network, normal)
    by_name = isinstance(named, str) and named.endswith("make_ppo_networks_vision")
    if reading.settings.get("vision") or by_name or any(key in network for key in VISION_NETWORK):
        missing = {name: value for name, value in VISION_DEFAULTS.items() if not reading.settings.get(name)}
        reading.set("the defaults of make_ppo_networks_vision", **missing)
    reading.converted.insert(0, f"{len(reading.settings)} settings have the same name, unit and meaning")
    if source.values.get("randomization_fn") is not None:
        reading.set("randomization_fn", randomize=True)
        reading.differs.append("randomization_fn: what is randomised, and how far, is the task's here")
    reading.neutral(source, NEUTRAL)


def _take_scales(reading: Reading, network: Source, normal: bool) -> None:
    """Arguments of the initialisers: their scale, which is a setting here; others have no counterpart."""
    for key, name in KWARGS.items():
        given = network.take(key, dict, None) or {}
        if given.keys() == {"scale"} and (normal or not key.startswith("mean")):
            _take(reading, name, given["scale"], network.where)
        elif given:
            reading.without.append(f"{key} = {shown(given)}: options of the initialiser")


def _take(reading: Reading, key: str, value: object, where: str) -> None:
    """One setting of the same name; of code such as linen.swish or LRSchedule.ADAPTIVE_KL its last word."""
    if isinstance(value, Symbol):
        if key in ("episode_length", "save_checkpoint_path", "restore_checkpoint_path"):
            reading.differs.append(f"{key} = {value}: not in the text; the default here")
            return
        if not key.endswith(("activation", "learning_rate_schedule", "_fn")):
            raise ConfigError(f"{key} is {value} in {where}, of which the value is not in the text; write the number")
        value = str(value).rpartition(".")[2]
    if isinstance(value, float) and key in COUNTS and value.is_integer():
        value = int(value)
    reading.settings[key] = tuple(value) if isinstance(value, list) else value


COUNTS = {field.name for field in dataclasses.fields(Config) if field.type in (int, int | None)}


def write(writing: Writing) -> str:
    """ppo_config = dict(...) of what differs from Brax's defaults."""
    config = writing.config
    changed = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if getattr(config, field.name) != field.default
    }
    writing.used.update((*TRAIN, *NETWORK, *VISION_NETWORK, *KWARGS.values()))
    values = {name: changed[name] for name in TRAIN if name in changed}
    if writing.take("randomize"):
        writing.differs.append("randomize = True: give Brax the randomization_fn of its task")
    network = {name: changed[name] for name in (*NETWORK, *VISION_NETWORK) if name in changed}
    network |= {kwargs: {"scale": changed[name]} for kwargs, name in KWARGS.items() if name in changed}
    if config.vision:  # whose factory has other defaults
        network |= {name: getattr(config, name) for name in VISION_DEFAULTS if name != "vision"}
        writing.expect(pixel_encoder="cnn", shared_encoder=False)
    writing.expect(gae="brax", gae_per="minibatch", minibatch_of="sequences", auto_reset="cached")
    if config.learning_rate_schedule in ("LINEAR", "COSINE"):
        writing.differs.append(f"learning_rate_schedule = {values.pop('learning_rate_schedule')}: constant there")
    return to_python({**values, **({"network_factory": network} if network else {})}, "ppo_config")
