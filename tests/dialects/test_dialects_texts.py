"""Dialects: the texts that are read, mistakes in them, and the programs."""

import inspect
import json
import math
import re
import sys
from dataclasses import fields

import pytest

import torch_ppo
from tests.helpers.dialect_files import ANT, GO1, GUIDE, HALF_CHEETAH, PLAYGROUND
from torch_ppo.dialects import DIALECTS, convert, read_dialect
from torch_ppo.dialects.__main__ import main
from torch_ppo.dialects.parse import parse, parse_python
from torch_ppo.errors import ConfigError
from torch_ppo.running.program import parse_arguments
from torch_ppo.settings.config import Config
from torch_ppo.settings.files import load_config

# ---- texts ----------------------------------------------------------------------------------------------------------

SAME_SETTINGS = {
    "flat.toml": "n_steps = 128\nlearning_rate = 1e-3\nnormalize_advantage = false\n",
    "flat.json": '{"n_steps": 128, "learning_rate": 1e-3, "normalize_advantage": false}',
    "flat.py": "n_steps = 128; learning_rate = 1e-3; normalize_advantage = False",
    "flat.sh": "--n-steps 128 --learning_rate=1e-3 --no-normalize-advantage",
    "toml": "n_steps = 128\nlearning_rate = 1e-3\nnormalize_advantage = false\n",
    "json": '{"n_steps": 128, "learning_rate": 1e-3, "normalize_advantage": false}',
    "python": "dict(n_steps=128, learning_rate=1e-3, normalize_advantage=False)",
    "flags": "python train.py --n-steps 128 --learning-rate 1e-3 --no-normalize-advantage",
    "flat.yml": "n_steps: 128\nlearning_rate: 1e-3\nnormalize_advantage: False\n",
    "yaml": "n_steps: 128\nlearning_rate: 1e-3\nnormalize_advantage: False\n",
}


@pytest.mark.parametrize("name", SAME_SETTINGS)
def test_formats(name):
    if name in ("flat.yml", "yaml"):
        pytest.importorskip("yaml")
    assert parse(SAME_SETTINGS[name], name) == {"n_steps": 128, "learning_rate": 1e-3, "normalize_advantage": False}


def test_python_is_not_executed(tmp_path):
    mark = tmp_path / "executed"
    harmful = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    with pytest.raises(ConfigError, match=r"gamma is .*must be a number"):
        convert(parse_python(f"dict(gamma={harmful})"), "sb3")
    with pytest.raises(ConfigError, match="code"):
        parse(f"if True:\n    {harmful}", "paste.py")
    assert parse_python("x = dict(n=9**9**9)")["n"] == "9 ** 9 ** 9"  # would not end
    assert not mark.exists()


def test_yaml_says_which_extra_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ConfigError, match=r"pip install .\.\[dialects\]."):
        parse("a:\n  b: 1\n", "x.yml")


def test_yaml_as_it_is_written_by_others():
    """Numbers that YAML 1.1 takes for words, tuples of Isaac Lab's dumps, anchors of RL Zoo's; nothing that runs code."""
    pytest.importorskip("yaml")
    text = (
        "a: &base\n  rate: 3e-4\n  steps: !!float 1e6\n  none: None\nb:\n  <<: *base\n  dims: !!python/tuple [8, 4]\n"
    )
    assert parse(text, "x.yml")["b"] == {"rate": 3e-4, "steps": 1e6, "none": None, "dims": [8, 4]}
    for broken in ("a: [1", "a: !!python/object/apply:os.system ['true']"):
        with pytest.raises(ConfigError, match="not valid YAML") as error:
            parse(broken, "x.yml")
        assert "\n" not in str(error.value)


def test_one_section_of_a_file_with_several(tmp_path):
    path = tmp_path / "zoo.json"
    path.write_text(json.dumps({"Ant-v4": {"gamma": 0.9}, "Hopper-v4": HALF_CHEETAH}))
    assert read_dialect(f"{path}:Ant-v4", "sb3").settings["discounting"] == 0.9
    with pytest.raises(ConfigError, match=r"2 envs; name one of them, such as .*zoo.json:Ant-v4"):
        read_dialect(str(path), "sb3")
    with pytest.raises(ConfigError, match="no section 'Ant-v5'; did you mean 'Ant-v4'"):
        read_dialect(f"{path}:Ant-v5", "sb3")


# ---- mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dialect", "values", "words"),
    [
        ("brax", {"num_timestep": 1}, ["num_timestep", "did you mean 'num_timesteps'"]),
        ("brax", {"network_factory": {"policy_layers": (1,)}}, ["policy_layers", "network_factory of x"]),
        ("brax", {"vision": 3}, ["vision is 3", "a bool"]),
        ("brax", {"madrona_backend": 3}, ["madrona_backend", "3", "True or False"]),
        ("brax", {"num_envs": 3}, ["x, read as brax", "num_envs = 3"]),
        ("guide", {"num_envs": 8}, ["unroll_length"]),
        ("rsl_rl", {"num_steps_per_env": 24, "algorithm": {"clip": 1}}, ["'clip'", "algorithm of x"]),
        ("rsl_rl", {"num_envs": 4}, ["num_steps_per_env"]),
        ("rsl_rl", {"num_steps_per_env": 5, "num_envs": 5}, ["num_mini_batches = 4", "5 * 5 = 25", "1 or 5"]),
        ("rsl_rl", {"num_steps_per_env": 4, "num_envs": 4, "policy": {}, "actor": {}}, ["policy and actor"]),
        ("sb3", {"n_step": 1}, ["n_step", "did you mean 'n_steps'"]),
        ("sb3", {"n_steps": "many"}, ["n_steps", "'many'", "an int"]),
        ("sb3", {"n_steps": 2.5}, ["n_steps", "2.5", "an int"]),
        ("sb3", {"n_steps": 0}, ["batch_size", "greater than 0"]),
        ("sb3", {"policy": "CnnPolicy"}, ["CnnPolicy", "MlpPolicy"]),
        ("sb3", {"batch_size": 100}, ["100", "64 or 128"]),
        ("sb3", {"n_timesteps": 1, "total_timesteps": 2}, ["n_timesteps and total_timesteps"]),
        ("sb3", {"num_steps_per_env": 24, "algorithm": {}}, ["unknown key", "--dialect rsl_rl"]),
        ("sb3", {"policy_kwargs": {"activation_fn": "nn.Tanhh"}}, ["Tanhh", "Tanh"]),
        ("cleanrl", {"num_minibatches": 3}, ["num_minibatches = 3", "2 or 4"]),
        ("rl_games", {"horizon_length": 16, "num_actors": 4, "minibatch_size": 60}, ["60", "RL Games refuses"]),
        ("rl_games", {"horizon_length": 16, "num_actors": 4}, ["minibatch_size", "32"]),
        ("skrl", {"rollout": 16}, ["rollout", "did you mean 'rollouts'"]),
        ("skrl", {"lambda": 0.9, "gae_lambda": 0.8, "num_envs": 2}, ["two spellings"]),
        ("practice", {"n_steps": 24}, ["n_steps", "n_steps_per_env"]),
        ("sb4", {}, ["sb4", "did you mean 'sb3'"]),
    ],
)
def test_mistakes_are_one_clear_line(dialect, values, words):
    with pytest.raises(ConfigError) as error:
        convert(values, dialect, where="x")
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


SKRL = {
    "rollouts": 16,
    "learning_rate": 1e-3,
    "learning_rate_scheduler": "KLAdaptiveLR",
    "num_envs": 4,
    "value_clip": 0.1,
}
NETWORK = [{"layers": [8], "activations": ["elu", "elu"]}]
WHOLE = {
    "brax": parse(PLAYGROUND, "go1.py"),
    "guide": {**parse(GUIDE, "guide.py"), "batch_size": 10_240},
    "rsl_rl": {**parse(GO1, "go1.py"), "num_envs": 4},
    "sb3": HALF_CHEETAH
    | {"learning_rate": "lin_1e-3", "normalize": {"norm_obs": True}, "policy_kwargs": {"net_arch": [8]}},
    "cleanrl": {"num_envs": 4, "num_steps": 64, "target_kl": 0.1, "total_timesteps": 1000, "minibatch_size": 8},
    "rl_games": {"params": ANT["params"] | {"config": ANT["params"]["config"] | {"num_actors": 4096}}},
    "skrl": {
        "agent": SKRL | {"learning_rate_scheduler_kwargs": {"kl_threshold": 0.1}},
        "models": {"policy": {"network": NETWORK, "initial_log_std": 0.1}, "value": {"network": NETWORK}},
        "trainer": {"timesteps": 160},
    },
    "practice": {"n_envs": 4, "n_steps_per_env": 16, "batch_size": 16, "network": [8], "total_steps": 100},
}
ODD = (None, "", "lin_x", "dict(", -1, 0, 3, math.inf, math.nan, 1e300, True, [], [None], ["x"], [{}], {}, {"a": 1})


def with_odd_values(values):
    """The settings with each value, however deep, replaced by each odd one."""
    for key, value in values.items():
        for odd in ODD:
            yield {**values, key: odd}
        if isinstance(value, dict):
            yield from ({**values, key: inner} for inner in with_odd_values(value))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_whatever_stands_in_a_file_the_answer_is_settings_or_one_line(dialect):
    convert(WHOLE[dialect], dialect)
    refused = 0
    for values in with_odd_values(WHOLE[dialect]):
        try:
            str(convert(values, dialect))
        except ConfigError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 20


@pytest.mark.parametrize("dialect", DIALECTS)
def test_unknown_keys_everywhere(dialect):
    with pytest.raises(ConfigError, match="unknown key 'nonsense' in x"):
        convert({"nonsense": 1}, dialect, where="x")


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ("", "empty.yml", "empty.yml is empty"),
        ("[1, 2]", "list.json", "no settings"),
        ("{", "broken.json", "not valid JSON"),
        ("a = = 1", "broken.toml", "not valid TOML"),
        ("dict(a=1", "broken.py", "not valid PY"),
        ("for i in x: pass", "loop.py", "line 1: .* is code"),
        ("dict(a=1)\nprint(env)", "print.py", r"line 2: 'print\(env\)' is code"),
        ("dict(a=1/0)", "zero.py", "division by zero"),
        ("dict(a=1/0)", "zero", "zero"),
        ("dict(a=int([1]))", "list.py", "not valid PY"),
        ("c.a = 1", "loose.py", "c.a is set before it is made"),
        ("dict(1, a=2)", "position.py", "without a keyword"),
        ("--a 1 2", "two.sh", "--a is followed by 1 2"),
    ],
)
def test_broken_texts_are_one_clear_line(text, name, words):
    with pytest.raises(ConfigError, match=words) as error:
        parse(text, name)
    assert "\n" not in str(error.value)


# ---- programs -------------------------------------------------------------------------------------------------------


def test_train_takes_a_dialect(tmp_path, capsys):
    """--num-envs counts before the conversion: 8 * 2048 transitions in 256 minibatches of 64, not 32."""
    path = tmp_path / "ppo.json"
    path.write_text(json.dumps({"batch_size": 64, "n_timesteps": 16_384}))
    arguments, source = parse_arguments(
        f"--env cartpole --config {path} --dialect sb3 --num-envs 8 --learning-rate 0.01".split()
    )
    assert arguments.settings.num_minibatches == 256
    assert arguments.settings.learning_rate == 0.01
    assert arguments.settings.checked().num_training_steps == 1
    assert source == "ppo (--config)"
    assert "vf_coef = 0.5 (its default) of the squared error -> vf_loss_coefficient = 1" in capsys.readouterr().out
    for options in ("--env cartpole --dialect sb3", f"--config {path} --dialect sb3 --num-envs many"):
        with pytest.raises(ConfigError):
            parse_arguments(options.split())


def test_the_program_prints_settings_and_account(tmp_path, capsys, monkeypatch):
    path = tmp_path / "go1.py"
    path.write_text(GO1)
    ours = tmp_path / "go1.toml"

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["dialects", *map(str, arguments)])
        main()
        return capsys.readouterr()

    output = run(path, "--from", "rsl_rl", "--num-envs", 4096)
    assert "differs in meaning" in output.err
    ours.write_text(output.out)
    assert load_config(str(ours)) == Config(**convert(parse(GO1, "go1.py"), "rsl_rl", num_envs=4096).settings)
    output = run(ours, "--to", "cleanrl")
    assert "--num-steps 24" in output.out
    assert "activation = elu here; as if tanh there" in output.err
    output = run(ours)
    assert "24,576 transitions" in output.out
    monkeypatch.setattr(sys, "argv", ["dialects", str(path), "--from", "sb3"])
    with pytest.raises(SystemExit) as status:
        main()
    assert status.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


ELSEWHERE_HERE = {
    "brax": {"wrap_env": False, "wrap_env_fn": "wrap", "eval_env": "other", "restore_params": "params"},
    "sb3": {"env_wrapper": "some.Wrapper", "vec_env_wrapper": "some.Wrapper", "frame_stack": 4},
}


@pytest.mark.parametrize("dialect", ELSEWHERE_HERE)
def test_what_no_file_has_is_said_with_what_takes_it_here(dialect):
    """An argument that is named so is one of `train`, or a setting."""
    told = "\n".join(convert(ELSEWHERE_HERE[dialect], dialect).without)
    for key in ELSEWHERE_HERE[dialect]:
        assert f"{key} = " in told
    named = re.findall(r"train\((\w+)=|\b(restore_checkpoint_path|history)\b", told)
    assert len(named) >= len(ELSEWHERE_HERE[dialect])
    parameters = inspect.signature(torch_ppo.train).parameters
    assert {one or other for one, other in named} <= {*parameters, *(field.name for field in fields(Config))}
