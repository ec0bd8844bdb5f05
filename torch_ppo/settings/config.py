"""The configuration: one flat frozen dataclass with Brax's parameter names and defaults.

Values derived from it are properties, never fields. The meaning of every training parameter is that of
`brax...ppo.train`. `checks` has the rules, `files` the TOML files, `plan` what the numbers amount to.
Long, because it is one list of fields with a line of help each.
"""

from dataclasses import dataclass
from typing import Literal

from torch_ppo.settings.checks import check


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides what a run computes. Sizes are counts, lengths are env steps."""

    env: str = ""
    """Task to train, for example cartpole."""
    num_timesteps: int
    """Env steps to train for, at least; whole training steps are run, so a run ends a little later."""
    seed: int = 0
    """Seed of network initialisation, start states, actions and minibatches."""

    # Envs and episodes
    num_envs: int = 1
    """Envs stepped in parallel."""
    episode_length: int | None = None
    """Time limit of an episode, in env steps; None takes the task's own."""
    action_repeat: int = 1
    """Env steps per policy step, with the same action; rewards are summed."""
    num_resets_per_eval: int = 0
    """Full resets of all envs, to new start states, between two evaluations."""
    random_episode_phase: bool = False
    """After every full reset each training env begins at a random point of its time limit, so that episodes do not all
    end at once. Evaluation runs whole episodes."""
    auto_reset: Literal["cached", "random", "fresh"] = "cached"
    """A finished env restarts from its own first state (cached, Brax), from that of a random env (random), or from one
    that is drawn anew (fresh), which costs a forward pass."""
    history: int = 1
    """Observations that the networks see at once, the last ones, oldest first; 1 is the newest alone."""
    history_obs_keys: tuple[str, ...] = ()
    """The observations that have a history, for tasks with several; by default all."""
    action_delay: int | tuple[int, ...] = 0
    """Env steps by which actions arrive late, or the least and the greatest, between which each episode draws its own."""
    max_state: float = 1e10
    """A world with a larger |qpos| or |qvel| is broken: it restarts and nothing is learned from it. As in MuJoCo."""
    max_broken_fraction: float = 0.01
    """End the run when more than this share of a training step's policy steps broke a world; 1 never does."""
    randomize: bool = False
    """Domain randomisation: each env, or each episode, has a model of its own, drawn as the task says."""
    randomize_eval: bool = True
    """With randomize, the eval envs have models of their own too (Brax); else they have the nominal one."""

    # Collecting and minibatches
    unroll_length: int = 10
    """Policy steps per sequence; advantages are computed within a sequence."""
    batch_size: int = 32
    """Sequences (not transitions!) per minibatch, each unroll_length long; see minibatch_of."""
    num_minibatches: int = 16
    """Minibatches per pass; a training step collects batch_size * num_minibatches sequences."""
    num_updates_per_batch: int = 2
    """Passes over the collected sequences, each in a new random order."""
    minibatch_of: Literal["sequences", "transitions"] = "sequences"
    """What batch_size counts and passes shuffle: sequences (Brax), or single transitions, which needs gae_per = batch."""

    # Loss
    discounting: float = 0.9
    """Discount per policy step (gamma)."""
    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation."""
    gae: Literal["brax", "textbook"] = "brax"
    """Advantage with the first lambda missing, as in V-trace (brax), or lambda-return - value (textbook)."""
    gae_per: Literal["minibatch", "batch"] = "minibatch"
    """Advantages and value targets from the current network in every minibatch (Brax), or once per training step (batch)
    from the one that acted."""
    reward_scaling: float = 1.0
    """Factor on rewards inside the loss; reported rewards are not scaled."""
    normalize_rewards: bool = False
    """Divide rewards by the running standard deviation of the discounted return, before reward_scaling."""
    reward_clip: float | None = None
    """Limit rewards to plus or minus this, after normalize_rewards and before reward_scaling; None for no limit."""
    clipping_epsilon: float = 0.3
    """Clip range of the probability ratio; the first one if there is a clipping_epsilon_final."""
    clipping_epsilon_final: float | None = None
    """Clip range at the end of the run, approached linearly by SGD step; None keeps it constant."""
    clipping_epsilon_value: float | None = None
    """Clip range of the value around its old value; with the distributional critic, the Huber threshold."""
    entropy_cost: float = 1e-4
    """Weight of the entropy bonus; the first one if there is an entropy_cost_final."""
    entropy_cost_final: float | None = None
    """Weight of the entropy bonus at the end of the run, approached linearly by SGD step; None keeps it constant."""
    vf_loss_coefficient: float = 0.5
    """Weight of the value loss; a further factor 0.5 is fixed (not with the distributional critic)."""
    normalize_advantage: bool = True
    """Standardise advantages within each minibatch."""
    bootstrap_on_timeout: bool = False
    """Add discounting * value to the reward where the task itself reports a time-out."""
    bootstrap_on_truncation: bool = False
    """At the time limit, add discounting * value of the observation before the restart; Brax masks the step instead."""
    use_distributional_critic: bool = False
    """Value network predicts quantiles; needs clipping_epsilon_value."""

    # Optimizer
    learning_rate: float = 1e-4
    """Adam's step size; the first one if the schedule is ADAPTIVE_KL, the highest with the other schedules."""
    max_grad_norm: float | None = None
    """Limit on the global gradient norm of both networks together; None for no limit."""
    learning_rate_schedule: Literal["NONE", "ADAPTIVE_KL", "LINEAR", "COSINE"] | None = None
    """ADAPTIVE_KL changes the step size in every SGD step to keep the KL near desired_kl; LINEAR and COSINE lower it
    from learning_rate to learning_rate_final_fraction of it by the end of the run."""
    learning_rate_final_fraction: float = 0.0
    """Where LINEAR and COSINE end, as a fraction of learning_rate."""
    learning_rate_warmup_timesteps: int = 0
    """Env steps over which the step size first rises linearly to learning_rate (not with ADAPTIVE_KL)."""
    target_kl: float | None = None
    """Skip an SGD step and the rest of its training step if the minibatch's approx_kl exceeds 1.5 times this."""
    desired_kl: float = 0.01
    """Target of ADAPTIVE_KL."""
    learning_rate_schedule_min_lr: float = 1e-5
    """Lower limit of ADAPTIVE_KL."""
    learning_rate_schedule_max_lr: float = 1e-2
    """Upper limit of ADAPTIVE_KL."""

    # Observation normalizer
    normalize_observations: bool = False
    """Networks see (observation - mean) / std with running statistics."""
    normalize_observations_mode: Literal["welford", "ema"] = "welford"
    """How the statistics are updated; they agree on one device, but only ema obeys normalize_until_count."""
    normalize_observations_std_eps: float = 0.0
    """Added to the variance inside the square root."""
    normalize_until_count: int | None = None
    """Freeze the statistics once more observations than this were seen (ema only)."""

    normalizer_clip: float | None = None
    """Observations further than this many standard deviations from the mean count as that far, in the statistics and
    for the networks; None for no limit (Brax)."""

    # Networks
    policy_hidden_layer_sizes: tuple[int, ...] = (32, 32, 32, 32)
    """Hidden layers of the policy."""
    value_hidden_layer_sizes: tuple[int, ...] = (256, 256, 256, 256, 256)
    """Hidden layers of the value network."""
    activation: str = "swish"
    """Activation of both networks."""
    layer_norm: bool = False
    """Layer normalisation after each activation of both networks."""
    policy_obs_key: str = "state"
    """Observation that the policy sees, for tasks with several."""
    value_obs_key: str = "state"
    """Observation that the value network sees, for tasks with several."""
    distribution_type: str = "tanh_normal"
    """tanh_normal keeps actions in (-1, 1); normal leaves them unbounded. Of discrete actions it is categorical, whatever the
    default says."""
    noise_std_type: Literal["scalar", "log"] = "scalar"
    """How the standard deviation is parametrised (normal only)."""
    init_noise_std: float = 1.0
    """Initial standard deviation (normal only)."""
    state_dependent_std: bool = False
    """Standard deviation from a second head instead of a parameter (normal only)."""
    mean_clip_scale: float | None = None
    """Softly limit the mean to this size (normal only)."""
    policy_network_kernel_init_fn: str = "lecun_uniform"
    """Initialiser of the policy's weights."""
    value_network_kernel_init_fn: str = "lecun_uniform"
    """Initialiser of the value network's weights."""
    mean_kernel_init_fn: str | None = None
    """Initialiser of the mean head's weights, if not the policy's (normal only)."""
    policy_network_kernel_init_scale: float | None = None
    """Scale of the policy's initialiser, if that is orthogonal; None is 1."""
    value_network_kernel_init_scale: float | None = None
    """Scale of the value network's initialiser, if that is orthogonal; None is 1."""
    mean_kernel_init_scale: float | None = None
    """Scale of the mean head's initialiser, if that is orthogonal; None is 1."""
    output_kernel_init_fn: str | None = None
    """Initialiser of the policy's last layer, if not the policy's (not with normal)."""
    output_kernel_init_scale: float | None = None
    """Scale of the last layer's initialiser, if that is orthogonal; None is 1."""
    num_quantiles: int = 32
    """Outputs of the distributional critic."""

    # Pixels
    vision: bool = False
    """Networks see the task's pixels/..., each view through an encoder, beside the vectors of their keys."""
    view_size: int | None = None
    """Height and width of the task's views, in pixels, instead of the task's own."""
    augment_pixels: bool = False
    """Every pass sees the pixels of each sequence shifted by up to 4, another amount in each pass."""
    pixel_encoder: Literal["cnn", "resnet18"] = "cnn"
    """What a view goes through: Brax's convolutions, or a ResNet18 with group normalisation."""
    shared_encoder: bool = False
    """Policy and value network have the same encoder, which learns from both; Brax's are separate."""
    normalise_channels: bool = False
    """Standardise each channel of each image; pixels have no running statistics."""
    cnn_output_channels: tuple[int, ...] = (32, 64, 64)
    """Channels of each convolution."""
    cnn_kernel_size: tuple[int, ...] = (8, 4, 3)
    """Side of each convolution's kernel, in pixels."""
    cnn_stride: tuple[int, ...] = (4, 2, 1)
    """Pixels by which each convolution's kernel moves on."""
    cnn_padding: Literal["zeros", "valid"] = "zeros"
    """Zeros around an image so that a convolution gives size / stride, or none, so that it shrinks by the kernel too."""
    cnn_activation: str = "relu"
    """Activation after each convolution."""
    cnn_max_pool: bool = False
    """Halve the maps after each convolution, by the largest of 2 x 2."""
    cnn_global_pool: Literal["avg", "max", "none", "spatial_softmax"] = "avg"
    """What becomes of the last maps: their mean, their largest values, all of them, or where they are large."""
    cnn_kernel_init_fn: str = "lecun_normal"
    """Initialiser of the convolutions."""
    cnn_kernel_init_scale: float | None = None
    """Scale of the convolutions' initialiser, if that is orthogonal; None is 1."""

    # Evaluation, logging, checkpoints
    num_evals: int = 1
    """Evaluations in the run, the one at step 0 included; 1 means only at the end."""
    num_eval_envs: int = 128
    """Envs per evaluation; one episode counts in each."""
    deterministic_eval: bool = False
    """Evaluate the mode of the policy instead of samples."""
    run_evals: bool = True
    """False reports training metrics only."""
    log_training_metrics: bool = False
    """Also log the means over the last 100 finished training episodes (episode/...)."""
    training_metrics_steps: int | None = None
    """Env steps between two such logs; None for every training step."""
    save_checkpoint_path: str | None = None
    """Extra folder for a checkpoint per evaluation, named by env steps."""
    keep_checkpoints: int | None = None
    """Checkpoints named by env steps that a run's folder keeps, the newest; None keeps all. best and last stay anyway."""
    restore_checkpoint_path: str | None = None
    """Start from the networks and normalizer of this checkpoint or run folder (optimizer and steps start anew)."""
    restore_value_fn: bool = True
    """Restore the value network too."""

    # Machine
    device: str = "auto"
    """cuda, cuda:1, cpu; auto takes CUDA where there is one."""
    max_devices_per_host: int | None = None
    """Of the processes that torchrun starts on a host, one for each device, how many take part; None for all."""
    physics: Literal["auto", "warp", "mujoco"] = "auto"
    """MuJoCo Warp or C MuJoCo; auto takes Warp on CUDA and with vision, else C MuJoCo."""
    capture: Literal["auto", "none", "physics", "unroll"] = "auto"
    """What is recorded as a graph and replayed: nothing, the physics step, or whole unrolls and SGD passes (CUDA).
    auto takes the most there is."""
    compile: bool | None = None
    """torch.compile what is not physics. By default on CUDA only: on the CPU it takes half a minute before training."""
    matmul_precision: Literal["highest", "high", "medium"] = "high"
    """Matrix products and convolutions of float32: highest is float32 itself, high TF32 on CUDA, which is also JAX's
    default there."""
    bf16: bool = False
    """Matrix products and convolutions of the networks in bfloat16 while training; exported policies compute in float32."""
    deterministic: bool = False
    """The same seed gives the same bits on the same machine, on CUDA as well (not run yet), where it is slower. What that
    means for the task is said at the start."""
    torch_threads: int | None = None
    """CPU threads of PyTorch. None takes one for every 2 GFLOP of an SGD step, so 1 for small networks, and at most as many as
    PyTorch has and this process has cores; with pixels all of those."""
    on_disk_error: Literal["stop", "continue"] = "stop"
    """A file of the run that cannot be written (disk full, folder gone) ends the run, or is said once and tried again at
    the next report."""

    def __post_init__(self) -> None:
        check(self)

    @property
    def env_step_per_training_step(self) -> int:
        """Env steps (action repeats included) that one training step collects."""
        return self.num_unrolls * self.unroll_length * self.action_repeat

    @property
    def num_unrolls(self) -> int:
        """Sequences in one batch."""
        transitions_each = self.unroll_length if self.minibatch_of == "transitions" else 1
        return self.batch_size * self.num_minibatches // transitions_each

    @property
    def transitions_per_minibatch(self) -> int:
        """Policy steps in one minibatch."""
        return self.num_unrolls * self.unroll_length // self.num_minibatches

    @property
    def minibatch_shape(self) -> tuple[int, ...]:
        """Leading axes of a minibatch: (unroll_length, batch_size) of sequences, (batch_size,) of transitions."""
        return (self.batch_size,) if self.minibatch_of == "transitions" else (self.unroll_length, self.batch_size)

    @property
    def num_unrolls_per_env(self) -> int:
        """Consecutive unrolls of each env in one training step."""
        return self.num_unrolls // self.num_envs

    @property
    def sgd_steps_per_training_step(self) -> int:
        """Minibatch updates in one training step."""
        return self.num_minibatches * self.num_updates_per_batch

    @property
    def num_eval_intervals(self) -> int:
        """Intervals between evaluations ("evals after init")."""
        return max(self.num_evals - 1, 1)

    @property
    def num_epochs(self) -> int:
        """Stretches of training steps after each of which envs may be reset: intervals * resets."""
        return self.num_eval_intervals * max(self.num_resets_per_eval, 1)

    @property
    def num_training_steps_per_epoch(self) -> int:
        """Training steps in one epoch, rounded up so that the run reaches num_timesteps."""
        return -(-self.num_timesteps // (self.num_epochs * self.env_step_per_training_step))

    @property
    def num_training_steps(self) -> int:
        """Training steps in the run."""
        return self.num_epochs * self.num_training_steps_per_epoch

    @property
    def total_env_steps(self) -> int:
        """Env steps in the run, at least num_timesteps."""
        return self.num_training_steps * self.env_step_per_training_step

    @property
    def eval_env_steps(self) -> tuple[int, ...]:
        """Env steps at which evaluations take place."""
        if self.num_evals == 0:
            return ()
        interval = self.total_env_steps // self.num_eval_intervals
        first = 0 if self.num_evals > 1 and self.run_evals else 1
        return tuple(interval * i for i in range(first, self.num_eval_intervals + 1))

    @property
    def adaptive_kl(self) -> bool:
        """Whether the learning rate follows the KL."""
        return self.learning_rate_schedule == "ADAPTIVE_KL"

    @property
    def decaying(self) -> bool:
        """Whether the learning rate falls by a formula."""
        return self.learning_rate_schedule in ("LINEAR", "COSINE")

    @property
    def num_sgd_steps(self) -> int:
        """Minibatch updates in the run."""
        return self.num_training_steps * self.sgd_steps_per_training_step

    @property
    def num_warmup_sgd_steps(self) -> float:
        """Minibatch updates in learning_rate_warmup_timesteps; not a whole number in general."""
        return self.learning_rate_warmup_timesteps * self.sgd_steps_per_training_step / self.env_step_per_training_step

    @property
    def normalizer_last(self) -> bool:
        """Whether the normalizer is updated after the SGD passes, for the sake of the KL, instead of before them."""
        return self.adaptive_kl or self.target_kl is not None

    @property
    def stores_value(self) -> bool:
        """Whether collecting records the value of each observation."""
        return self.bootstrap_on_timeout or self.clipping_epsilon_value is not None or self.gae_per == "batch"
