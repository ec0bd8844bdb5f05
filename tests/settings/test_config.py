"""Configuration: the guide's arithmetic, worked out by hand, and what is refused."""

import dataclasses
import tomllib
from pathlib import Path

import pytest

from torch_ppo.dialects import read_dialect
from torch_ppo.envs import ENVS
from torch_ppo.errors import ConfigError
from torch_ppo.settings.config import Config
from torch_ppo.settings.files import config_names, load_config, read_config, to_toml
from torch_ppo.settings.plan import summary


def test_guide_settings_give_the_known_arithmetic():
    config = load_config("cartpole")
    assert config.env_step_per_training_step == 327_680  # 1024 sequences * 32 minibatches * 10 steps
    assert config.num_unrolls_per_env == 32  # 32,768 sequences over 1024 envs
    assert config.batch_size * config.unroll_length == 10_240
    assert config.sgd_steps_per_training_step == 256  # 32 minibatches * 8 passes
    assert config.num_epochs == 9
    assert config.num_training_steps_per_epoch == 21  # ceil(60e6 / (9 * 327,680)) = ceil(20.35)
    assert config.total_env_steps == 61_931_520
    assert config.eval_env_steps == tuple(6_881_280 * i for i in range(10))
    text = summary(config)
    for number in ("327,680", "32 unrolls", "1,024 sequences", "10,240", "256 steps", "9 epochs", "21", "61,931,520"):
        assert number in text


def test_guide_settings_are_verbatim():
    """reference values of the guide, typed from it."""
    assert read_config("cartpole") == {
        "env": "cartpole",
        "num_timesteps": 60_000_000,
        "num_evals": 10,
        "reward_scaling": 0.1,
        "episode_length": 150,
        "normalize_observations": True,
        "unroll_length": 10,
        "num_minibatches": 32,
        "num_updates_per_batch": 8,
        "discounting": 0.97,
        "learning_rate": 1e-3,
        "clipping_epsilon": 0.2,
        "entropy_cost": 1e-3,
        "num_envs": 1024,
        "batch_size": 1024,
        "seed": 0,
    }


def test_playground_suite_arithmetic():
    """DM Control settings of MuJoCo Playground: 88,473,600 env steps in 90 training steps."""
    config = Config(
        num_timesteps=60_000_000,
        num_evals=10,
        unroll_length=30,
        num_minibatches=32,
        num_updates_per_batch=16,
        num_envs=2048,
        batch_size=1024,
        num_resets_per_eval=10,
    )
    assert config.env_step_per_training_step == 983_040
    assert config.num_unrolls_per_env == 16
    assert config.num_training_steps == 90
    assert config.total_env_steps == 88_473_600
    assert config.num_training_steps * config.sgd_steps_per_training_step == 46_080


def test_every_task_has_a_config_and_every_config_a_task():
    assert {name.removesuffix("_cpu") for name in config_names()} == set(ENVS)
    for name in config_names():
        assert load_config(name).env == name.removesuffix("_cpu")


def test_what_a_file_names_is_beside_it_or_in_the_current_folder(tmp_path, monkeypatch):
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        (folder / "both.py").touch()
    (here / "only_here.py").touch()
    (there / "cartpole").mkdir()  # no task
    (there / "old").mkdir()
    monkeypatch.chdir(here)
    file = there / "a.toml"
    for name in (file, "../there/a.toml"):
        beside = Path(name).parent
        for written, read in {
            "both.py:A": f"{beside}/both.py:A",
            "only_here.py:A": "only_here.py:A",
            "nowhere.py:A": "nowhere.py:A",
            f"{here}/both.py:A": f"{here}/both.py:A",
            "both:A": "both:A",
            "cartpole": "cartpole",
            "x" * 5000 + ".py:A": "x" * 5000 + ".py:A",
        }.items():
            file.write_text(f'env = "{written}"\nrestore_checkpoint_path = "old"\nsave_checkpoint_path = "old"\n')
            values = read_config(str(name))
            assert values["env"] == read
            assert values["restore_checkpoint_path"] == f"{beside}/old"
            assert values["save_checkpoint_path"] == "old"  # what is written goes where one works, as runs do


def test_toml_round_trip():
    config = load_config("cartpole", max_grad_norm=1.0, policy_hidden_layer_sizes=(64, 32), learning_rate=1e-5)
    assert Config(**tomllib.loads(to_toml(config))) == config


def test_num_evals_edge_cases():
    def at(**settings):
        return Config(num_timesteps=1000, batch_size=4, num_minibatches=4, unroll_length=5, **settings)

    assert at(num_evals=0).eval_env_steps == ()
    assert at(num_evals=1).eval_env_steps == (1040,)  # 13 training steps of 80
    assert at(num_evals=3, num_resets_per_eval=2).eval_env_steps == (0, 640, 1280)
    assert at(num_evals=3, run_evals=False).eval_env_steps == (560, 1120)  # 7 training steps each


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_envs": 0}, ["num_envs", "0", "greater than 0"]),
        ({"unroll_length": -3}, ["unroll_length", "-3"]),
        ({"num_timesteps": 0}, ["num_timesteps"]),
        ({"learning_rate": float("nan")}, ["learning_rate", "nan", "finite"]),
        ({"reward_scaling": float("inf")}, ["reward_scaling", "inf"]),
        ({"discounting": 1.5}, ["discounting", "1.5", "between 0 and 1"]),
        ({"num_envs": 2.5}, ["num_envs", "2.5", "an int"]),
        ({"normalize_observations": "yes"}, ["normalize_observations", "yes"]),
        ({"activation": "swich"}, ["swich", "swish"]),
        ({"auto_reset": "never"}, ["auto_reset", "cached", "random"]),
        ({"history": 0}, ["history", "0", "greater than 0"]),
        ({"history_obs_keys": ("state",)}, ["history_obs_keys", "no effect", "history = 1"]),
        ({"action_delay": -1}, ["action_delay", "-1", "0 or greater"]),
        ({"action_delay": (3, 1)}, ["action_delay", "(3, 1)", "the least and the greatest, such as 0 3"]),
        ({"action_delay": (2,)}, ["action_delay", "(2,)", "0 3"]),
        ({"action_delay": 1.5}, ["action_delay", "1.5", "an int or a list of int"]),
        ({"policy_hidden_layer_sizes": ()}, ["policy_hidden_layer_sizes"]),
        ({"value_hidden_layer_sizes": (64, 0)}, ["value_hidden_layer_sizes"]),
        ({"batch_size": 33}, ["1056", "num_envs = 1024", "batch_size 32 or 64", "num_envs 528"]),
        ({"use_distributional_critic": True}, ["clipping_epsilon_value"]),
        ({"init_noise_std": 0.5}, ["init_noise_std", "no effect", "normal"]),
        ({"normalize_until_count": 10}, ["normalize_until_count", "ema"]),
        ({"episode_length": 1, "action_repeat": 2}, ["episode_length", "action_repeat"]),
    ],
)
def test_bad_values_name_the_value_and_the_rule(settings, words):
    with pytest.raises(ConfigError) as error:
        load_config("cartpole", **settings)
    for word in words:
        assert word in str(error.value)


def test_divisible_proposals_do_work():
    """The sizes that the message proposes are accepted."""
    for settings in ({"batch_size": 32}, {"batch_size": 64}, {"batch_size": 33, "num_envs": 528}):
        assert load_config("cartpole", **settings).num_unrolls_per_env >= 1


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_files_of_windows(encoding, tmp_path):
    """Its editors write a mark at the beginning, or UTF-16, and lines that end otherwise."""
    path = tmp_path / "mine.toml"
    path.write_bytes("# größer\r\nnum_timesteps = 10\r\nseed = 7\r\n".encode(encoding))
    assert load_config(str(path)).seed == 7
    foreign = tmp_path / "theirs.yml"
    foreign.write_bytes("Ant-v4:\r\n  n_envs: 8\r\n  n_steps: 128\r\n  gamma: 0.9\r\n".encode(encoding))
    assert read_dialect(f"{foreign}:Ant-v4", "sb3").settings["discounting"] == 0.9


@pytest.mark.parametrize("suffix", ["toml", "yml"])
@pytest.mark.parametrize("content", ["# größer\n".encode("latin-1"), b"\xff\xfea", b"a = 1\n\x80"])
def test_files_that_are_no_text(content, suffix, tmp_path):
    path = tmp_path / f"mine.{suffix}"
    path.write_bytes(content)
    with pytest.raises(
        ConfigError, match=r"mine.\w+ is not text in UTF-8 from byte \d+ on; saved in UTF-8 it would work"
    ):
        load_config(str(path)) if suffix == "toml" else read_dialect(str(path), "sb3")


def test_files(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("num_timesteps = 10\nlearning_rte = 1e-3\n")
    with pytest.raises(ConfigError, match=r"learning_rte.*learning_rate"):
        load_config(str(path))
    path.write_text("num_timesteps = \n")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_config(str(path))
    path.write_text("seed = 1\n")
    with pytest.raises(ConfigError, match="num_timesteps"):
        load_config(str(path))
    with pytest.raises(ConfigError, match="cartpole"):
        load_config("cartpol")


def test_every_field_is_documented():
    """The command line shows the string under each field; none may be missing."""
    import ast
    import inspect

    import torch_ppo.settings.config

    (cls,) = (
        node
        for node in ast.walk(ast.parse(inspect.getsource(torch_ppo.settings.config)))
        if isinstance(node, ast.ClassDef) and node.name == "Config"
    )
    documented = {
        field.target.id
        for field, text in zip(cls.body, cls.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr)
    }
    assert documented == {field.name for field in dataclasses.fields(Config)}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"learning_rate": 1e-300}, "learning_rate is 1e-300, but float32 holds sizes from"),
        ({"max_grad_norm": 1e-300}, "max_grad_norm is 1e-300, but float32 holds"),
        ({"reward_clip": 1e39}, "reward_clip is 1e[+]39, but float32 holds"),
        ({"clipping_epsilon_value": 10**400}, "clipping_epsilon_value is an int of more than 20 digits"),
        ({"entropy_cost": -1e300}, "entropy_cost is -1e[+]300, but float32 holds"),
        ({"torch_threads": 1025}, "torch_threads is 1025, but 1024 are the most"),
        ({"torch_threads": 2**31}, "torch_threads is 2147483648, but 1024 are the most"),
        ({"episode_length": 2**31}, r"episode_length is 2147483648, but must be less than 2\*\*31"),
        ({"policy_hidden_layer_sizes": (2**40,)}, r"policy_hidden_layer_sizes is .*, but must be less than 2\*\*31"),
        ({"seed": 2**63}, r"seed is .*, but must be less than 2\*\*63"),
        ({"num_evals": 10**9}, "100,000 evaluations are the most"),
        ({"save_checkpoint_path": ""}, "save_checkpoint_path is '', but must be a path"),
    ],
)
def test_numbers_that_nothing_can_hold(settings, words):
    with pytest.raises(ConfigError, match=words) as error:
        Config(**{"num_timesteps": 1000, **settings})
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_long_counts_are_long():
    assert Config(num_timesteps=2**40, normalize_until_count=None, seed=2**62).num_timesteps == 2**40
