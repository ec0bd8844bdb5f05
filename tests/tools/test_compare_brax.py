"""What Brax is told of a configuration before it is compared. The comparisons need JAX and are run by hand."""

import dataclasses
import importlib
import inspect
import typing

import pytest

from tests.helpers.brax_arguments import BRAX_DEFAULTS
from tools.brax_worker import with_functions
from tools.compare_brax import OURS, brax_settings, ours_alone
from torch_ppo.formulas.networks import ACTIVATIONS, INITIALIZERS
from torch_ppo.settings.config import Config

# Where Brax runs, what it reports and keeps, and pixels, which are not compared.
NOT_TOLD = {
    "max_devices_per_host",
    "wrap_env",
    "vision",
    "augment_pixels",
    "log_training_metrics",
    "training_metrics_steps",
    "save_checkpoint_path",
    "restore_checkpoint_path",
    "restore_value_fn",
}


def test_brax_is_told_all_of_its_arguments_that_are_ours_too():
    train, _ = brax_settings(Config(env="cartpole", num_timesteps=1000))
    ours = {field.name for field in dataclasses.fields(Config)}
    assert set(train) == {name for name in BRAX_DEFAULTS if name in ours} - NOT_TOLD | {"num_timesteps"}


def test_what_is_not_the_default_arrives():
    config = Config(
        env="cartpole",
        num_timesteps=1000,
        clipping_epsilon_value=0.1,
        learning_rate_schedule="ADAPTIVE_KL",
        distribution_type="normal",
        noise_std_type="log",
        policy_network_kernel_init_fn="orthogonal",
        policy_network_kernel_init_scale=1.4,
    )
    train, networks = brax_settings(config)
    assert train["clipping_epsilon_value"] == 0.1 and train["learning_rate_schedule"] == "ADAPTIVE_KL"
    assert networks["distribution_type"] == "normal" and networks["noise_std_type"] == "log"
    assert networks["policy_network_kernel_init_kwargs"] == {"scale": 1.4}
    assert networks["value_network_kernel_init_kwargs"] is None


def test_what_brax_lacks_is_named():
    plain = Config(env="cartpole", num_timesteps=1000, compile=True, num_eval_envs=7)
    assert ours_alone(plain) == []
    assert ours_alone(dataclasses.replace(plain, history=3, target_kl=0.02)) == ["history", "target_kl"]


def test_a_value_that_brax_lacks_is_ours_alone():
    falling = Config(env="cartpole", num_timesteps=1000, learning_rate_schedule="LINEAR")
    assert ours_alone(falling) == ["learning_rate_schedule"]
    assert brax_settings(falling)[0]["learning_rate_schedule"] is None


def test_brax_takes_what_it_is_told():
    networks = pytest.importorskip("brax.training.agents.ppo.networks")
    from brax.training.agents.ppo import train

    told, options = brax_settings(Config(env="cartpole", num_timesteps=1000))
    assert set(told) <= set(inspect.signature(train.train).parameters)
    assert set(options) <= set(inspect.signature(networks.make_ppo_networks).parameters)
    networks.make_ppo_networks(4, 1, **with_functions(options))
    schedules = {each.value for each in importlib.import_module("brax.training.agents.ppo.optimizer").LRSchedule}
    ours = set(typing.get_args(typing.get_args(typing.get_type_hints(Config)["learning_rate_schedule"])[0]))
    assert ours - schedules == set(OURS["learning_rate_schedule"])
    for name in ACTIVATIONS:
        assert callable(with_functions({"activation": name})["activation"])
    for name in INITIALIZERS:
        assert callable(with_functions({"mean_kernel_init_fn": name})["mean_kernel_init_fn"]())
