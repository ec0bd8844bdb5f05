"""Published configurations of several libraries, typed from their sources, for the tests of dialects.

MuJoCo Playground 0.2 (brax_ppo_config and rsl_rl_config of Go1), RL Zoo's ppo.yml (HalfCheetah-v4), Isaac Lab's files for
the ant, and two texts on PPO's parameters.
"""

GUIDE = """
ppo_config = dict(
    num_timesteps=60_000_000,      # total training timesteps
    num_evals=10,
    reward_scaling=0.1,
    episode_length=150,
    normalize_observations=True,
    unroll_length=10,
    num_minibatches=32,
    num_updates_per_batch=8,
    discounting=0.97,
    learning_rate=1e-3,
    clipping_epsilon=0.2,
    entropy_cost=1e-3,
    num_envs=1024,
    batch_size=1024,
    seed=0,
)
"""

PLAYGROUND = """
from ml_collections import config_dict

rl_config = config_dict.create(
    num_timesteps=100_000_000,
    num_evals=10,
    reward_scaling=1.0,
    episode_length=env_config.episode_length,
    normalize_observations=True,
    action_repeat=1,
    unroll_length=20,
    num_minibatches=32,
    num_updates_per_batch=4,
    discounting=0.97,
    learning_rate=3e-4,
    entropy_cost=1e-2,
    num_envs=8192,
    batch_size=256,
    max_grad_norm=1.0,
    network_factory=config_dict.create(
        policy_hidden_layer_sizes=(128, 128, 128, 128),
        value_hidden_layer_sizes=(256, 256, 256, 256, 256),
        policy_obs_key="state",
        value_obs_key="state",
    ),
    num_resets_per_eval=10,
)
rl_config.num_timesteps = 200_000_000
rl_config.network_factory = config_dict.create(
    policy_hidden_layer_sizes=(512, 256, 128),
    value_hidden_layer_sizes=(512, 256, 128),
    policy_obs_key="state",
    value_obs_key="privileged_state",
)
"""

GO1 = """
config_dict.create(
    seed=1,
    runner_class_name="OnPolicyRunner",
    policy=config_dict.create(
        init_noise_std=1.0,
        actor_hidden_dims=[512, 256, 128],
        critic_hidden_dims=[512, 256, 128],
        activation="elu",
        class_name="ActorCritic",
    ),
    algorithm=config_dict.create(
        class_name="PPO", value_loss_coef=1.0, use_clipped_value_loss=True, clip_param=0.2, entropy_coef=0.001,
        num_learning_epochs=5, num_mini_batches=4, learning_rate=3.0e-4, schedule="fixed", gamma=0.99, lam=0.95,
        desired_kl=0.01, max_grad_norm=1.0,
    ),
    num_steps_per_env=24,
    max_iterations=1000,
    empirical_normalization=True,
    save_interval=50, experiment_name="test", run_name="", resume=False, load_run="-1", checkpoint=-1, resume_path=None,
)
"""

HALF_CHEETAH = {
    "normalize": True,
    "n_envs": 1,
    "policy": "MlpPolicy",
    "n_timesteps": 1e6,
    "batch_size": 64,
    "n_steps": 512,
    "gamma": 0.98,
    "learning_rate": 2.0633e-05,
    "ent_coef": 0.000401762,
    "clip_range": 0.1,
    "n_epochs": 20,
    "gae_lambda": 0.92,
    "max_grad_norm": 0.8,
    "vf_coef": 0.58096,
    "policy_kwargs": "dict(log_std_init=-2, ortho_init=False, activation_fn=nn.ReLU, "
    "net_arch=dict(pi=[256, 256], vf=[256, 256]))",
}

ANT = {
    "params": {
        "seed": 42,
        "env": {"clip_actions": 1.0},
        "algo": {"name": "a2c_continuous"},
        "model": {"name": "continuous_a2c_logstd"},
        "network": {
            "name": "actor_critic",
            "separate": False,
            "space": {
                "continuous": {
                    "mu_activation": "None",
                    "mu_init": {"name": "default"},
                    "sigma_init": {"name": "const_initializer", "val": 0},
                    "fixed_sigma": True,
                }
            },
            "mlp": {
                "units": [256, 128, 64],
                "activation": "elu",
                "d2rl": False,
                "initializer": {"name": "default"},
                "regularizer": {"name": None},
            },
        },
        "load_checkpoint": False,
        "load_path": "",
        "config": {
            "name": "ant",
            "env_name": "rlgpu",
            "device": "cuda:0",
            "ppo": True,
            "mixed_precision": True,
            "normalize_input": True,
            "normalize_value": True,
            "value_bootstrap": True,
            "num_actors": -1,
            "reward_shaper": {"scale_value": 0.6},
            "normalize_advantage": True,
            "gamma": 0.99,
            "tau": 0.95,
            "learning_rate": 3e-4,
            "lr_schedule": "adaptive",
            "schedule_type": "legacy",
            "kl_threshold": 0.008,
            "score_to_win": 20000,
            "max_epochs": 500,
            "save_best_after": 100,
            "grad_norm": 1.0,
            "entropy_coef": 0.0,
            "truncate_grads": True,
            "e_clip": 0.2,
            "horizon_length": 16,
            "minibatch_size": 32768,
            "mini_epochs": 4,
            "critic_coef": 2,
            "clip_value": True,
            "seq_length": 4,
            "bounds_loss_coef": 0.0001,
        },
    }
}
