"""Made by `python -m tools.train_stub` from train.py and the fields of Config; do not edit."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

from torch_ppo.environments.contract import Environment
from torch_ppo.errors import UserError
from torch_ppo.learning.factory import NetworkFactory
from torch_ppo.learning.policy import MakePolicy, Params
from torch_ppo.simulation.env import RandomizationFn
from torch_ppo.simulation.task import Task

Metrics: TypeAlias = dict[str, float]

class DivergedError(UserError): ...

def main() -> None: ...
def __getattr__(name: str) -> Any: ...
def train(
    environment: Task | Environment | Callable[..., object] | str,
    num_timesteps: int,
    *,
    eval_env: Task | Environment | Callable[..., object] | str | None = None,
    network_factory: NetworkFactory | Mapping[str, object] | None = None,
    randomization_fn: RandomizationFn | None = None,
    wrap_env: bool = True,
    wrap_env_fn: Callable[..., object] | None = None,
    progress_fn: Callable[[int, Metrics], object] = ...,
    policy_params_fn: Callable[[int, MakePolicy, Params], object] = ...,
    restore_params: Params | None = None,
    env: str = "",
    seed: int = 0,
    num_envs: int = 1,
    episode_length: int | None = None,
    action_repeat: int = 1,
    num_resets_per_eval: int = 0,
    random_episode_phase: bool = False,
    auto_reset: Literal["cached", "random", "fresh"] = "cached",
    history: int = 1,
    history_obs_keys: tuple[str, ...] = (),
    action_delay: int | tuple[int, ...] = 0,
    max_state: float = 10000000000.0,
    max_broken_fraction: float = 0.01,
    randomize: bool = False,
    randomize_eval: bool = True,
    unroll_length: int = 10,
    batch_size: int = 32,
    num_minibatches: int = 16,
    num_updates_per_batch: int = 2,
    minibatch_of: Literal["sequences", "transitions"] = "sequences",
    discounting: float = 0.9,
    gae_lambda: float = 0.95,
    gae: Literal["brax", "textbook"] = "brax",
    gae_per: Literal["minibatch", "batch"] = "minibatch",
    reward_scaling: float = 1.0,
    normalize_rewards: bool = False,
    reward_clip: float | None = None,
    clipping_epsilon: float = 0.3,
    clipping_epsilon_final: float | None = None,
    clipping_epsilon_value: float | None = None,
    entropy_cost: float = 0.0001,
    entropy_cost_final: float | None = None,
    vf_loss_coefficient: float = 0.5,
    normalize_advantage: bool = True,
    bootstrap_on_timeout: bool = False,
    bootstrap_on_truncation: bool = False,
    use_distributional_critic: bool = False,
    learning_rate: float = 0.0001,
    max_grad_norm: float | None = None,
    learning_rate_schedule: Literal["NONE", "ADAPTIVE_KL", "LINEAR", "COSINE"] | None = None,
    learning_rate_final_fraction: float = 0.0,
    learning_rate_warmup_timesteps: int = 0,
    target_kl: float | None = None,
    desired_kl: float = 0.01,
    learning_rate_schedule_min_lr: float = 1e-05,
    learning_rate_schedule_max_lr: float = 0.01,
    normalize_observations: bool = False,
    normalize_observations_mode: Literal["welford", "ema"] = "welford",
    normalize_observations_std_eps: float = 0.0,
    normalize_until_count: int | None = None,
    normalizer_clip: float | None = None,
    policy_hidden_layer_sizes: tuple[int, ...] = (32, 32, 32, 32),
    value_hidden_layer_sizes: tuple[int, ...] = (256, 256, 256, 256, 256),
    activation: str = "swish",
    layer_norm: bool = False,
    policy_obs_key: str = "state",
    value_obs_key: str = "state",
    distribution_type: str = "tanh_normal",
    noise_std_type: Literal["scalar", "log"] = "scalar",
    init_noise_std: float = 1.0,
    state_dependent_std: bool = False,
    mean_clip_scale: float | None = None,
    policy_network_kernel_init_fn: str = "lecun_uniform",
    value_network_kernel_init_fn: str = "lecun_uniform",
    mean_kernel_init_fn: str | None = None,
    policy_network_kernel_init_scale: float | None = None,
    value_network_kernel_init_scale: float | None = None,
    mean_kernel_init_scale: float | None = None,
    output_kernel_init_fn: str | None = None,
    output_kernel_init_scale: float | None = None,
    num_quantiles: int = 32,
    vision: bool = False,
    view_size: int | None = None,
    augment_pixels: bool = False,
    pixel_encoder: Literal["cnn", "resnet18"] = "cnn",
    shared_encoder: bool = False,
    normalise_channels: bool = False,
    cnn_output_channels: tuple[int, ...] = (32, 64, 64),
    cnn_kernel_size: tuple[int, ...] = (8, 4, 3),
    cnn_stride: tuple[int, ...] = (4, 2, 1),
    cnn_padding: Literal["zeros", "valid"] = "zeros",
    cnn_activation: str = "relu",
    cnn_max_pool: bool = False,
    cnn_global_pool: Literal["avg", "max", "none", "spatial_softmax"] = "avg",
    cnn_kernel_init_fn: str = "lecun_normal",
    cnn_kernel_init_scale: float | None = None,
    num_evals: int = 1,
    num_eval_envs: int = 128,
    deterministic_eval: bool = False,
    run_evals: bool = True,
    log_training_metrics: bool = False,
    training_metrics_steps: int | None = None,
    save_checkpoint_path: str | None = None,
    keep_checkpoints: int | None = None,
    restore_checkpoint_path: str | None = None,
    restore_value_fn: bool = True,
    device: str = "auto",
    max_devices_per_host: int | None = None,
    physics: Literal["auto", "warp", "mujoco"] = "auto",
    capture: Literal["auto", "none", "physics", "unroll"] = "auto",
    compile: bool | None = None,
    matmul_precision: Literal["highest", "high", "medium"] = "high",
    bf16: bool = False,
    deterministic: bool = False,
    torch_threads: int | None = None,
    on_disk_error: Literal["stop", "continue"] = "stop",
) -> tuple[MakePolicy, Params, Metrics]:
    """Trains `environment` and returns `(make_policy, params, metrics)`; the counterpart of `brax...ppo.train`.

    environment:       a task, envs, a function that makes envs, or a name: ours, gym:Ant-v5, file.py:make_env
                       (docs/environments.md)
    num_timesteps:     env steps to train for, at least; 0 only initialises (and restores)
    eval_env:          another one for evaluation
    network_factory:   a dict of Brax's factory options, or a function (policy_obs_dim, value_obs_dim,
                       action_dim) -> (policy, value) of modules as in `torch_ppo.formulas.networks`; with `vision`
                       (sizes of observations by key, action_dim), as in `torch_ppo.formulas.pixels`
    randomization_fn:  (physics, generator) -> values of model fields for each env, as `Task.randomize`; of training
                       and, unless `randomize_eval` is false, of evaluation
    wrap_env:          False uses envs as they are: they restart their own episodes
    wrap_env_fn:       (env, episode_length=, action_repeat=, randomization_fn=) -> envs with rules of episodes, for
                       training and evaluation; a task's `env` has `env.wrap(...)`
    progress_fn:       called with (env steps, metrics) at every report
    policy_params_fn:  called with (env steps, make_policy, params) at step 0 and before every report
    restore_params:    (normalizer, policy, value) to start from; comes before `restore_checkpoint_path`
    settings:          every field of `Config`, with Brax's names and defaults

    Raises ConfigError for a value that cannot work and DivergedError if the loss becomes NaN.
    """
