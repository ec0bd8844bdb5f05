"""Dialects: published configurations of other libraries, with their numbers converted by hand; from ours and back."""

import math

import pytest

from tests.helpers.dialect_files import ANT, GO1, GUIDE, HALF_CHEETAH, PLAYGROUND
from torch_ppo.dialects import convert, write_dialect
from torch_ppo.dialects.parse import parse, parse_flags, parse_python
from torch_ppo.dialects.rollout import (
    minibatches_per_rollout,
    nearest_divisors,
    require_divisor,
    sequences_per_minibatch,
    transitions_per_minibatch,
)
from torch_ppo.errors import ConfigError
from torch_ppo.settings.config import Config
from torch_ppo.settings.files import load_config

TEXTBOOK = {"minibatch_of": "transitions", "gae": "textbook", "gae_per": "batch", "auto_reset": "fresh"}


def given(reading, **expected):
    """The settings that were read, of these names."""
    assert {name: reading.settings.get(name) for name in expected} == expected
    return reading


# ---- units ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_envs", "num_steps", "num_minibatches", "transitions", "sequences"),
    [
        (4096, 24, 4, 24_576, 1024),  # 98,304 transitions over 4; 4096 sequences over 4
        (4096, 24, 6, 16_384, None),  # 98,304 / 6 = 16,384; 4096 / 6 is not whole
        (1, 2048, 32, 64, None),  # CleanRL's and SB3's defaults: one env
        (2048, 10, 64, 320, 32),  # 20,480 / 64, 2048 / 64
        (4096, 16, 2, 32_768, 2048),  # RL Games' ant: 65,536 / 2
    ],
)
def test_units_by_hand(num_envs, num_steps, num_minibatches, transitions, sequences):
    assert transitions_per_minibatch(num_envs, num_steps, num_minibatches) == transitions
    assert minibatches_per_rollout(num_envs, num_steps, transitions) == num_minibatches
    assert sequences_per_minibatch(num_envs, num_minibatches) == sequences


def test_nearest_divisors():
    assert nearest_divisors(2048, 100) == [64, 128]
    assert nearest_divisors(12, 5) == [4, 6]
    assert nearest_divisors(7, 3) == [1, 7]
    assert nearest_divisors(7, 9) == [7]


def test_an_uneven_rollout_is_refused_with_sizes_that_work():
    with pytest.raises(ConfigError) as error:
        require_divisor("batch_size", 100, 2048, "n_envs * n_steps = 1 * 2048", "SB3 ends with a minibatch of {rest}")
    for words in ("batch_size = 100", "1 * 2048 = 2048", "minibatch of 48", "64 or 128"):  # 2048 = 20 * 100 + 48
        assert words in str(error.value)


# ---- Brax and the guide ---------------------------------------------------------------------------------------------


def test_a_pasted_brax_config_is_the_shipped_one():
    settings = convert(parse(GUIDE, "paste"), "brax").settings
    assert Config(env="cartpole", **settings) == load_config("cartpole")


def test_the_guides_example_contradicts_itself_and_the_error_says_what_each_reading_gives():
    with pytest.raises(ConfigError) as error:
        convert(parse(GUIDE, "paste"), "guide")
    message = str(error.value)
    assert "\n" not in message
    for words in (
        "batch_size = 1024",
        "1024 * 10 = 10240",
        "batch_size = 10240 gives minibatches of 320",  # 10,240 / 32
        "unroll_length = 1 gives minibatches of 32",  # 1024 / 32
        "1024 sequences = 10240 transitions, 327680 per training step",  # 1024 * 10 * 32
    ):
        assert words in message


def test_the_guide_as_it_tells_to_set_it():
    """batch_size = num_envs * unroll_length = 20,480 in 64 minibatches of 320, "nice"."""
    values = {**parse(GUIDE, "paste"), "num_envs": 2048, "batch_size": 20_480, "num_minibatches": 64}
    config = Config(**given(convert(values, "guide"), batch_size=32, num_minibatches=64).settings)
    assert config.batch_size * config.unroll_length == 320
    assert config.env_step_per_training_step == 20_480
    assert config.num_unrolls_per_env == 1
    as_brax = convert(values, "brax")
    assert Config(**as_brax.settings).env_step_per_training_step == 13_107_200  # 20,480 * 64 * 10: 640 times as many
    assert "minibatches of 320 instead of 204800" in as_brax.differs[0]


def test_the_guide_where_envs_do_not_split():
    """6 envs * 10 steps in 4 minibatches of 15 transitions: 6 sequences are not 4 equal parts."""
    values = {"num_timesteps": 600, "num_envs": 6, "unroll_length": 10, "batch_size": 60, "num_minibatches": 4}
    reading = given(convert(values, "guide"), batch_size=15, minibatch_of="transitions", gae_per="batch")
    assert Config(**reading.settings).env_step_per_training_step == 60


def test_playgrounds_go1_joystick():
    reading = given(
        convert(parse(PLAYGROUND, "paste"), "brax"),
        num_timesteps=200_000_000,
        policy_hidden_layer_sizes=(512, 256, 128),
        value_obs_key="privileged_state",
        episode_length=None,
    )
    config = Config(**reading.settings)
    assert config.env_step_per_training_step == 163_840  # 256 * 20 * 32
    assert config.total_env_steps == 206_438_400  # as Playground's run has
    assert any("env_config.episode_length" in line for line in reading.differs)


def test_code_in_a_brax_config():
    reading = convert(
        parse_python(
            "train_fn = functools.partial(ppo.train, num_timesteps=1_000_000, batch_size=2**8, num_envs=int(2e3) + 48,\n"
            "  network_factory=functools.partial(make_ppo_networks, activation=linen.swish, init_noise_std=0.5),\n"
            "  randomization_fn=domain_randomize, progress_fn=progress, use_pmap_on_reset=False)"
        ),
        "brax",
    )
    given(reading, batch_size=256, num_envs=2048, activation="swish", randomize=True)
    assert "init_noise_std" not in reading.settings  # Brax ignores it with tanh_normal
    assert any("init_noise_std" in line for line in reading.without)


# As `brax_vision_ppo_config` of Playground 0.2.0 has CartpoleBalance, what is Brax's default left out.
PLAYGROUND_VISION = """
rl_config = config_dict.create(
    num_timesteps=5_000_000, num_evals=5, episode_length=250, unroll_length=20, num_minibatches=8,
    num_updates_per_batch=8, discounting=0.99, learning_rate=1e-3, entropy_cost=0.02, num_envs=1024, num_eval_envs=32,
    batch_size=256, max_grad_norm=1.0, madrona_backend=True, augment_pixels=True,
    network_factory=config_dict.create(
        policy_hidden_layer_sizes=(128, 64), value_hidden_layer_sizes=(128, 64), cnn_output_channels=(16, 32),
        cnn_kernel_size=(5, 3), cnn_stride=(2, 2), cnn_padding="zeros", cnn_activation="elu", cnn_max_pool=True,
        cnn_global_pool="none", cnn_kernel_init_fn="orthogonal", cnn_kernel_init_kwargs={"scale": 1.41421356},
        output_kernel_init_fn="orthogonal", output_kernel_init_kwargs={"scale": 0.2},
    ),
)
"""
PIXELS_OF_PLAYGROUND = {
    "vision": True,
    "augment_pixels": True,
    "policy_hidden_layer_sizes": (128, 64),
    "cnn_output_channels": (16, 32),
    "cnn_stride": (2, 2),
    "cnn_max_pool": True,
    "cnn_global_pool": "none",
    "cnn_kernel_init_fn": "orthogonal",
    "cnn_kernel_init_scale": 1.41421356,
    "output_kernel_init_scale": 0.2,
}


def test_playgrounds_vision():
    reading = given(
        convert(parse(PLAYGROUND_VISION, "paste"), "brax"), **PIXELS_OF_PLAYGROUND, policy_obs_key="", value_obs_key=""
    )
    config = Config(**reading.settings)
    assert config.total_env_steps == 5_079_040  # as Playground's run has
    again = convert(parse_python(write_dialect(config, "brax")[0]), "brax")
    assert Config(**again.settings) == config


def test_the_vision_factory_has_defaults_of_its_own():
    reading = given(
        convert({"network_factory": {"cnn_max_pool": True}}, "brax"),
        vision=True,
        policy_hidden_layer_sizes=(256, 256),
        value_hidden_layer_sizes=(256, 256),
        policy_obs_key="",
        value_obs_key="",
    )
    assert any("make_ppo_networks_vision" in line for line in reading.converted)
    by_name = convert({"network_factory": "networks_vision.make_ppo_networks_vision"}, "brax")
    assert {**by_name.settings, "cnn_max_pool": True} == reading.settings
    plain = convert({"network_factory": {"policy_network_kernel_init_kwargs": {"column_axis": 0}}}, "brax")
    assert "vision" not in plain.settings and any("column_axis" in line for line in plain.without)


# ---- RSL-RL ---------------------------------------------------------------------------------------------------------


def test_playgrounds_rsl_rl_go1():
    reading = given(
        convert(parse(GO1, "paste"), "rsl_rl", num_envs=4096),
        num_envs=4096,
        unroll_length=24,
        batch_size=24_576,  # 4096 * 24 / 4
        num_minibatches=4,
        num_updates_per_batch=5,
        num_timesteps=98_304_000,  # 1000 iterations of 98,304
        vf_loss_coefficient=2.0,  # times the fixed 0.5 is RSL-RL's 1.0
        clipping_epsilon=0.2,
        clipping_epsilon_value=0.2,
        learning_rate=3e-4,
        discounting=0.99,
        gae_lambda=0.95,
        entropy_cost=0.001,
        max_grad_norm=1.0,
        policy_hidden_layer_sizes=(512, 256, 128),
        activation="elu",
        distribution_type="normal",
        normalize_observations=True,
        bootstrap_on_truncation=True,
        seed=1,
        **TEXTBOOK,
    )
    assert "learning_rate_schedule" not in reading.settings
    config = Config(**reading.settings)
    assert (config.num_training_steps, config.total_env_steps) == (1000, 98_304_000)
    assert config.sgd_steps_per_training_step == 20
    assert any("whole rollout" in line for line in reading.differs)


def test_rsl_rl_version_5_and_its_defaults():
    """Sections actor and critic, and what is left out as in PPO's and MLPModel's arguments of 5.5."""
    values = {
        "num_steps_per_env": 32,
        "max_iterations": 10,
        "actor": {
            "class_name": "MLPModel",
            "hidden_dims": [64, 32],
            "activation": "lrelu",
            "obs_normalization": False,
            "distribution_cfg": {"class_name": "GaussianDistribution", "init_std": 0.5, "std_type": "log"},
        },
        "critic": {"hidden_dims": [128], "activation": "lrelu"},
        "algorithm": {"class_name": "PPO"},
    }
    given(
        convert(values, "rsl_rl", num_envs=64),
        batch_size=512,  # 64 * 32 / 4
        num_updates_per_batch=5,
        learning_rate=1e-3,
        learning_rate_schedule="ADAPTIVE_KL",
        desired_kl=0.01,
        learning_rate_schedule_min_lr=1e-5,
        learning_rate_schedule_max_lr=1e-2,
        entropy_cost=0.01,
        policy_hidden_layer_sizes=(64, 32),
        value_hidden_layer_sizes=(128,),
        activation="leaky_relu",
        init_noise_std=0.5,
        noise_std_type="log",
        normalize_observations=False,
    )


def test_rsl_rl_version_4():
    """Noise beside the other settings of the actor."""
    actor = {"hidden_dims": [8], "stochastic": True, "init_noise_std": 0.3, "noise_std_type": "log"}
    values = {"num_steps_per_env": 8, "actor": {**actor, "state_dependent_std": True}, "critic": {"hidden_dims": [8]}}
    reading = convert(values, "rsl_rl", num_envs=8)
    given(reading, init_noise_std=0.3, noise_std_type="log", state_dependent_std=True, batch_size=16)


def test_isaac_labs_classes_are_read_without_being_run():
    text = """
@configclass
class AntPPORunnerCfg(RslRlOnPolicyRunnerCfg):
    num_steps_per_env = 32
    max_iterations = 1000
    empirical_normalization = False
    policy = RslRlPpoActorCriticCfg(init_noise_std=1.0, actor_hidden_dims=[400, 200, 100],
        critic_hidden_dims=[400, 200, 100], activation="elu")
    algorithm = RslRlPpoAlgorithmCfg(value_loss_coef=1.0, entropy_coef=0.0, learning_rate=5.0e-4, schedule="adaptive",
        num_learning_epochs=5, num_mini_batches=4, gamma=0.99, lam=0.95, desired_kl=0.01, max_grad_norm=1.0)
"""
    given(
        convert(parse(text, "ant.py"), "rsl_rl", num_envs=4096),
        batch_size=32_768,  # 4096 * 32 / 4
        learning_rate=5e-4,
        policy_hidden_layer_sizes=(400, 200, 100),
        entropy_cost=0.0,
    )


# ---- Stable-Baselines3 ----------------------------------------------------------------------------------------------


def test_rl_zoos_half_cheetah():
    reading = given(
        convert(HALF_CHEETAH, "sb3"),
        num_envs=1,
        unroll_length=512,
        batch_size=64,
        num_minibatches=8,  # 512 / 64
        num_updates_per_batch=20,
        num_timesteps=1_000_448,  # 1,953.125 rollouts of 512, and SB3 ends the last one: 1954
        vf_loss_coefficient=1.16192,
        clipping_epsilon=0.1,
        normalize_rewards=True,
        reward_clip=10.0,
        normalize_observations=True,
        normalize_observations_std_eps=1e-8,
        activation="relu",
        noise_std_type="log",
        policy_hidden_layer_sizes=(256, 256),
        bootstrap_on_truncation=True,
        **TEXTBOOK,
    )
    assert reading.settings["init_noise_std"] == pytest.approx(0.1353352832)  # exp(-2)
    assert Config(**reading.settings).num_training_steps == 1954


def test_sb3_defaults_and_calls():
    """A call as in SB3's documentation: what it leaves out is PPO's default."""
    text = """
from stable_baselines3 import PPO
policy_kwargs = dict(activation_fn=th.nn.ELU, net_arch=[32, 16])
model = PPO("MlpPolicy", vec_env, policy_kwargs=policy_kwargs, verbose=1)
model.learn(total_timesteps=25_000)
"""
    given(
        convert(parse(text, "paste"), "sb3", num_envs=4),
        unroll_length=2048,
        batch_size=64,
        num_minibatches=128,  # 4 * 2048 / 64
        num_updates_per_batch=10,
        num_timesteps=32_768,  # 25,000 / 8192, rounded up to 4 rollouts
        learning_rate=3e-4,
        discounting=0.99,
        gae_lambda=0.95,
        entropy_cost=0.0,
        vf_loss_coefficient=1.0,
        max_grad_norm=0.5,
        activation="elu",
        policy_hidden_layer_sizes=(32, 16),
        value_hidden_layer_sizes=(32, 16),
        policy_network_kernel_init_fn="orthogonal",
    )


def test_rl_zoos_linear_schedules_and_target_kl():
    values = {"learning_rate": "lin_0.001", "clip_range": "lin_0.2", "target_kl": 0.03, "n_timesteps": 4096}
    given(
        convert(values, "sb3"),
        learning_rate=1e-3,
        learning_rate_schedule="LINEAR",
        clipping_epsilon=0.2,
        clipping_epsilon_final=0.0,
        target_kl=0.03,
    )


def test_sb3_takes_a_short_rollout_at_once():
    """RL Zoo's InvertedDoublePendulum: batch_size 512, 128 steps of one env, of which SB3 makes one minibatch."""
    reading = given(convert({"batch_size": 512, "n_steps": 128}, "sb3"), batch_size=128, num_minibatches=1)
    assert any("batch_size = 512" in line for line in reading.differs)


def test_isaac_labs_n_minibatches():
    given(convert({"n_steps": 16, "n_minibatches": 4}, "sb3", num_envs=4096), batch_size=16_384, num_minibatches=4)
    with pytest.raises(ConfigError) as error:
        convert({"n_steps": 16, "n_minibatches": 4, "batch_size": 64}, "sb3", num_envs=4096)
    assert "1024 minibatches of 64" in str(error.value)  # 65,536 / 64
    assert "4 of 16384" in str(error.value)


def test_the_block_for_legged_robots():
    text = """
learning_rate: 3e-4
n_envs: 4096
n_steps_per_env: 24 # rollout length
n_epochs: 5 # PPO updates per rollout
batch_size: 16384
clip_range: 0.2
gae_lambda: 0.95
gamma: 0.99
ent_coef: 0.005
value_loss_coef: 1.0
max_grad_norm: 1.0
network: [256, 256, 128]
total_steps: 100_000_000 # ~30 minutes on RTX 4090 with MJX
"""
    pytest.importorskip("yaml")
    reading = given(
        convert(parse(text, "paste"), "practice"),
        num_envs=4096,
        unroll_length=24,
        batch_size=16_384,
        num_minibatches=6,  # 98,304 / 16,384
        num_updates_per_batch=5,
        vf_loss_coefficient=2.0,
        entropy_cost=0.005,
        learning_rate=3e-4,
        policy_hidden_layer_sizes=(256, 256, 128),
        value_hidden_layer_sizes=(256, 256, 128),
        num_timesteps=100_073_472,  # 1,017.3 rollouts of 98,304, the last one whole: 1018
    )
    assert Config(**reading.settings).sgd_steps_per_training_step == 30


# ---- CleanRL --------------------------------------------------------------------------------------------------------


def test_cleanrls_defaults():
    """ppo_continuous_action.py as it stands, with 8 envs."""
    values = parse_flags("python cleanrl/ppo_continuous_action.py --env-id Ant-v4 --num-envs 8 --no-cuda --track")
    reading = given(
        convert(values, "cleanrl"),
        num_envs=8,
        unroll_length=2048,
        batch_size=512,  # 8 * 2048 / 32
        num_minibatches=32,
        num_updates_per_batch=10,
        num_timesteps=999_424,  # 1,000,000 / 16,384 = 61.03 iterations, rounded down there
        learning_rate=3e-4,
        learning_rate_schedule="LINEAR",
        vf_loss_coefficient=0.5,  # CleanRL has the factor 0.5 too
        clipping_epsilon_value=0.2,
        normalize_rewards=True,
        reward_clip=10.0,
        activation="tanh",
        seed=1,
    )
    assert "bootstrap_on_truncation" not in reading.settings
    assert Config(**reading.settings).num_training_steps == 61


def test_cleanrls_switches_and_its_logged_config():
    values = {"num_envs": 2, "num_steps": 64, "num_minibatches": 4, "anneal_lr": False, "clip_vloss": False}
    values |= {"target_kl": 0.03, "norm_adv": False, "total_timesteps": 1280, "batch_size": 128, "minibatch_size": 32}
    reading = convert({**values, "num_iterations": 10}, "cleanrl")
    given(reading, batch_size=32, normalize_advantage=False, clipping_epsilon_value=None, num_timesteps=1280)
    assert reading.settings["target_kl"] == pytest.approx(0.02)  # ours stops at 1.5 times this
    assert "learning_rate_schedule" not in reading.settings
    with pytest.raises(ConfigError, match=r"minibatch_size = 64 contradicts .* = 32 transitions"):
        convert({**values, "minibatch_size": 64}, "cleanrl")


# ---- RL Games -------------------------------------------------------------------------------------------------------


def test_rl_games_ant():
    reading = given(
        convert(ANT, "rl_games", num_envs=4096),
        num_envs=4096,
        unroll_length=16,
        batch_size=32_768,
        num_minibatches=2,  # 65,536 / 32,768
        num_updates_per_batch=4,
        num_timesteps=32_768_000,  # 500 * 65,536
        vf_loss_coefficient=2.0,  # RL Games has the factor 0.5 too
        learning_rate_schedule="ADAPTIVE_KL",
        desired_kl=0.008,
        learning_rate_schedule_min_lr=1e-6,
        learning_rate_schedule_max_lr=1e-2,
        reward_scaling=0.6,
        clipping_epsilon_value=0.2,
        max_grad_norm=1.0,
        normalize_observations=True,
        normalize_observations_std_eps=1e-5,
        init_noise_std=1.0,
        noise_std_type="log",
        bootstrap_on_truncation=True,
        seed=42,
        **TEXTBOOK,
    )
    for key in ("normalize_value", "bounds_loss_coef", "mixed_precision", "score_to_win"):
        assert any(line.startswith(f"{key} = ") for line in reading.without)
    with pytest.raises(ConfigError, match=r"how many envs.*--num-envs 4096"):
        convert(ANT, "rl_games")


def test_rl_games_linear_schedule_and_values_filled_in_at_start():
    config = {
        **ANT["params"]["config"],
        "num_actors": "${....task.env.numEnvs}",
        "max_epochs": "${resolve_default:500,${....max_iterations}}",
        "lr_schedule": "linear",
        "schedule_entropy": True,
        "entropy_coef": 0.01,
        "truncate_grads": False,
        "reward_shaper": {"scale_value": 0.1, "min_val": -1, "max_val": 1},
    }
    given(
        convert({"params": {"config": config}}, "rl_games", num_envs=4096),
        num_timesteps=32_768_000,
        learning_rate_schedule="LINEAR",
        learning_rate_final_fraction=1e-6 / 3e-4,
        entropy_cost_final=1e-4,
        max_grad_norm=None,
        reward_clip=10.0,  # limited to 1 after the scale of 0.1
    )


def test_rl_games_two_minibatch_sizes():
    config = {**ANT["params"]["config"], "num_actors": 64, "minibatch_size": 256, "minibatch_size_per_env": 8}
    with pytest.raises(ConfigError, match=r"minibatch_size = 256 and minibatch_size_per_env = 8 .* 8 \* 64 = 512"):
        convert(config, "rl_games")


# ---- skrl -----------------------------------------------------------------------------------------------------------


def test_isaac_labs_skrl_ant():
    network = [{"name": "net", "input": "STATES", "layers": [256, 128, 64], "activations": "elu"}]
    values = {
        "seed": 42,
        "models": {
            "separate": False,
            "policy": {"class": "GaussianMixin", "initial_log_std": 0.0, "network": network, "output": "ACTIONS"},
            "value": {"class": "DeterministicMixin", "clip_actions": False, "network": network, "output": "ONE"},
        },
        "memory": {"class": "RandomMemory", "memory_size": -1},
        "agent": {
            "class": "PPO",
            "rollouts": 16,
            "learning_epochs": 4,
            "mini_batches": 2,
            "discount_factor": 0.99,
            "lambda": 0.95,
            "learning_rate": 3.0e-04,
            "learning_rate_scheduler": "KLAdaptiveLR",
            "learning_rate_scheduler_kwargs": {"kl_threshold": 0.008},
            "state_preprocessor": "RunningStandardScaler",
            "state_preprocessor_kwargs": None,
            "value_preprocessor": "RunningStandardScaler",
            "grad_norm_clip": 1.0,
            "ratio_clip": 0.2,
            "value_clip": 0.2,
            "clip_predicted_values": True,
            "entropy_loss_scale": 0.0,
            "value_loss_scale": 1.0,
            "kl_threshold": 0.0,
            "rewards_shaper_scale": 0.6,
            "time_limit_bootstrap": False,
            "experiment": {"directory": "ant"},
        },
        "trainer": {"class": "SequentialTrainer", "timesteps": 8000, "environment_info": "log"},
    }
    reading = given(
        convert(values, "skrl", num_envs=4096),
        unroll_length=16,
        batch_size=32_768,  # 4096 * 16 / 2
        num_minibatches=2,
        num_timesteps=32_768_000,  # 8000 steps of each of 4096 envs, 500 iterations
        vf_loss_coefficient=2.0,
        reward_scaling=0.6,
        learning_rate_schedule="ADAPTIVE_KL",
        desired_kl=0.008,
        clipping_epsilon_value=0.2,
        normalize_observations=True,
        policy_hidden_layer_sizes=(256, 128, 64),
        bootstrap_on_truncation=False,
        target_kl=None,
        **TEXTBOOK,
    )
    assert any("value_preprocessor" in line for line in reading.without)


def test_skrls_older_dictionary():
    text = """
cfg = PPO_DEFAULT_CONFIG.copy()
cfg["rollouts"] = 32
cfg["mini_batches"] = 8
cfg["lambda"] = 0.9
cfg["grad_norm_clip"] = 0
cfg["learning_rate_scheduler"] = KLAdaptiveRL
cfg["learning_rate_scheduler_kwargs"] = {"kl_threshold": 0.01}
cfg["clip_predicted_values"] = False
"""
    given(
        convert(parse(text, "paste"), "skrl", num_envs=64),
        batch_size=256,  # 64 * 32 / 8
        gae_lambda=0.9,
        max_grad_norm=None,
        clipping_epsilon_value=None,
        learning_rate_schedule="ADAPTIVE_KL",
        desired_kl=0.01,
        vf_loss_coefficient=5.0,  # twice the default of 2.5
        num_updates_per_batch=8,
    )


# ---- from ours and back ---------------------------------------------------------------------------------------------

COMMON = dict(  # what all but Brax can say
    num_timesteps=20 * 64 * 32,
    num_envs=64,
    unroll_length=32,
    batch_size=256,
    num_minibatches=8,
    num_updates_per_batch=3,
    **TEXTBOOK,
    discounting=0.985,
    gae_lambda=0.9,
    clipping_epsilon=0.15,
    entropy_cost=2e-5,
    vf_loss_coefficient=1.5,
    max_grad_norm=0.7,
    learning_rate=4e-5,
    policy_hidden_layer_sizes=(64, 64),
    value_hidden_layer_sizes=(64, 64),
    activation="tanh",
    distribution_type="normal",
    seed=7,
)
ORTHOGONAL = dict.fromkeys(("policy_network_kernel_init_fn", "value_network_kernel_init_fn"), "orthogonal")
ADAPTIVE = {"learning_rate_schedule": "ADAPTIVE_KL", "desired_kl": 0.02}
OWN = {
    "rsl_rl": dict(
        **ADAPTIVE,
        bootstrap_on_truncation=True,
        clipping_epsilon_value=0.15,
        value_hidden_layer_sizes=(32,),
        init_noise_std=0.5,
        normalize_observations=True,
        normalize_observations_std_eps=1e-4,
    ),
    "sb3": dict(
        **ORTHOGONAL,
        mean_kernel_init_fn="zeros",
        learning_rate_schedule="LINEAR",
        clipping_epsilon_final=0.0,
        bootstrap_on_truncation=True,
        normalize_rewards=True,
        reward_clip=5.0,
        noise_std_type="log",
        target_kl=0.01,
        normalize_advantage=False,
        value_hidden_layer_sizes=(32,),
        activation="swish",
    ),
    "cleanrl": dict(
        **ORTHOGONAL,
        mean_kernel_init_fn="zeros",
        learning_rate_schedule="LINEAR",
        clipping_epsilon_value=0.15,
        normalize_observations=True,
        normalize_observations_std_eps=1e-8,
        normalize_rewards=True,
        reward_clip=10.0,
        noise_std_type="log",
        target_kl=0.02,
    ),
    "rl_games": dict(
        **ADAPTIVE,
        learning_rate_schedule_min_lr=1e-6,
        bootstrap_on_truncation=True,
        clipping_epsilon_value=0.15,
        reward_scaling=0.5,
        reward_clip=20.0,
        noise_std_type="log",
        normalize_observations=True,
        normalize_observations_std_eps=1e-5,
    ),
    "skrl": dict(
        **ADAPTIVE,
        learning_rate_schedule_min_lr=1e-6,
        clipping_epsilon_value=0.3,
        reward_scaling=0.5,
        noise_std_type="log",
        value_hidden_layer_sizes=(32,),
        normalize_observations=True,
        target_kl=0.02,
    ),
    "practice": dict(**ORTHOGONAL, mean_kernel_init_fn="zeros", bootstrap_on_truncation=True, noise_std_type="log"),
}
BRAX = {
    "num_timesteps": 1_000_000,
    "num_evals": 5,
    "num_envs": 128,
    "batch_size": 16,
    "num_minibatches": 8,
    "unroll_length": 5,
    "reward_scaling": 0.1,
    "max_grad_norm": 1.0,
    "policy_hidden_layer_sizes": (64, 32),
    "value_obs_key": "privileged_state",
    "learning_rate_schedule": "ADAPTIVE_KL",
    "episode_length": 300,
}


def written_and_read(config, dialect):
    text, writing = write_dialect(config, dialect)
    ending = {"cleanrl": "sh", "brax": "py", "guide": "py"}.get(dialect, "yml")
    if ending == "yml":
        pytest.importorskip("yaml")
    values = parse(text, f"there.{ending}")
    return Config(**{"num_timesteps": 1, **convert(values, dialect).settings}), writing


@pytest.mark.parametrize("dialect", OWN)
def test_there_and_back(dialect):
    config = Config(**{**COMMON, **OWN[dialect]})
    again, writing = written_and_read(config, dialect)
    assert again == config
    assert writing.without == []


@pytest.mark.parametrize("dialect", ["brax", "guide"])
def test_there_and_back_in_braxs_words(dialect):
    config = Config(**BRAX)
    again, writing = written_and_read(config, dialect)
    assert again == config
    assert writing.without == writing.differs == []


def test_the_guides_number_for_a_brax_batch():
    """16 sequences of 5 in 8 minibatches are one unroll of 128 envs: 640 transitions to the guide."""
    text, _ = write_dialect(Config(**BRAX), "guide")
    assert parse_python(text)["batch_size"] == 640


def test_what_cannot_be_said_is_listed():
    config = Config(**BRAX, action_repeat=2, state_dependent_std=False, normalize_until_count=None, layer_norm=True)
    _, writing = written_and_read(config, "sb3")
    text = str(writing)
    for words in ("gae = brax here; as if textbook there", "action_repeat = 2 here", "tanh_normal here"):
        assert words in text
    assert {"layer_norm = True", "reward_scaling = 0.1", "episode_length = 300"} <= set(writing.without)
    assert not any("num_evals" in line for line in writing.without)


def test_several_unrolls_become_one_rollout():
    """Brax's cart-pole of the guide: 32 unrolls of 10 are 320 steps in each of 1024 envs."""
    text, writing = write_dialect(load_config("cartpole"), "cleanrl")
    values = parse_flags(text)
    assert (values["num_envs"], values["num_steps"], values["num_minibatches"]) == (1024, 320, 32)
    assert values["total_timesteps"] == 184 * 327_680  # 60,000,000 / 327,680 = 183.1
    assert any("320" in line for line in writing.differs)


def test_infinite_limits_are_none():
    given(convert({"max_grad_norm": math.inf}, "sb3"), max_grad_norm=None)
    config = Config(**{**COMMON, "max_grad_norm": None})
    assert "--max-grad-norm inf" in write_dialect(config, "cleanrl")[0]
