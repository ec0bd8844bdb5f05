"""Settings of the training steps that are recorded."""

from tools.golden.networks import Settings

TRAIN_DEFAULT: Settings = {  # arguments of ppo.train
    "seed": 11,
    "num_envs": 16,
    "batch_size": 8,
    "num_minibatches": 4,
    "unroll_length": 5,
    "num_updates_per_batch": 2,
    "episode_length": 7,
    "action_repeat": 1,
    "learning_rate": 3e-3,
    "entropy_cost": 1e-2,
    "discounting": 0.97,
    "reward_scaling": 0.5,
    "clipping_epsilon": 0.2,
    "clipping_epsilon_value": None,
    "gae_lambda": 0.95,
    "max_grad_norm": None,
    "normalize_advantage": True,
    "vf_loss_coefficient": 0.5,
    "bootstrap_on_timeout": False,
    "use_distributional_critic": False,
    "learning_rate_schedule": None,
    "desired_kl": 0.01,
    "learning_rate_schedule_min_lr": 1e-5,
    "learning_rate_schedule_max_lr": 1e-2,
    "normalize_observations_mode": "welford",
    "normalize_observations_std_eps": 0.0,
    "normalize_until_count": None,
}
TRAIN_CASES: dict[str, tuple[Settings, Settings, Settings]] = {  # what differs of environment, network and training
    "base": ({"limit": 0.4}, {}, {}),
    "clip_all": (
        {"limit": 0.4},
        {},
        {
            "max_grad_norm": 0.3,
            "clipping_epsilon_value": 0.2,
            "vf_loss_coefficient": 1.0,
            "normalize_advantage": False,
            "clipping_epsilon": 0.3,
            "seed": 12,
        },
    ),
    "adaptive_kl": (
        {"limit": 0.4},
        {"distribution_type": "normal", "noise_std_type": "log", "activation": "elu", "init_noise_std": 0.8},
        {
            "learning_rate_schedule": "ADAPTIVE_KL",
            "learning_rate": 1e-3,
            "max_grad_norm": 1.0,
            "normalize_observations_mode": "ema",
            "normalize_observations_std_eps": 1e-4,
            "vf_loss_coefficient": 1.0,
            "seed": 13,
        },
    ),
    "timeout": (
        {"limit": 0.4, "timeout": 4},
        {
            "distribution_type": "normal",
            "noise_std_type": "scalar",
            "activation": "tanh",
            "init_noise_std": 0.5,
            "normalize_observations": False,
        },
        {"bootstrap_on_timeout": True, "reward_scaling": 2.0, "episode_length": 50, "seed": 14},
    ),
    "distributional": (
        {"limit": 0.4},
        {"use_distributional_critic": True},
        {"use_distributional_critic": True, "clipping_epsilon_value": 1.0, "seed": 15},
    ),
    "asymmetric": (
        {"limit": 0.4, "asymmetric": True},
        {
            "asymmetric": True,
            "distribution_type": "normal",
            "noise_std_type": "log",
            "state_dependent_std": True,
            "mean_clip_scale": 2.0,
        },
        {"seed": 16, "action_repeat": 2, "episode_length": 9},
    ),
}
