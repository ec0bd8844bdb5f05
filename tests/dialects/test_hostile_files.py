"""Files that nobody means well with, and files that leave something out: one line, at once."""

import time

import pytest

from torch_ppo.dialects import convert, read_dialect
from torch_ppo.dialects.parse import parse_python
from torch_ppo.errors import ConfigError
from torch_ppo.settings.files import read_config

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)
)
GYM = "import gymnasium\nfrom consts import GAMMA\nenv = gymnasium.make('Ant-v5')\nlogger = Logger(env)\nn_steps = 64\nn_envs = 8\nbatch_size = 64\n"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("bomb.yml", BOMB, "more than 100,000 values"),
        ("self.yml", "a: &a [*a]\n", "not valid YML"),
        ("power.py", "n_envs = 8\nn_steps = 9999**63\nbatch_size = 64\n", "is beyond 1e[+]38"),
        ("large.py", "n_envs = 8\nn_steps = 10**15\nbatch_size = 7\n", "more than any machine holds"),
        ("minus.py", "gamma = " + "-" * 50_000 + "1\n", "is not valid PY"),
        ("stamp.yml", "gamma: !!timestamp x\n", "is not valid YML"),
        ("truth.yml", "gamma: !!bool x\n", "is not valid YML"),
        ("octal.yml", "gamma: 0o" + "7" * 5000 + "\n", "gamma is '0o7"),
        ("deep.json", "[" * 100_000, "is not valid JSON"),
        ("digits.toml", "gamma = " + "1" * 5000, "is not valid TOML"),
        ("name.py", GYM + "gamma = GAMMA\n", "gamma is GAMMA in .*, but must be a number"),
        ("call.py", GYM + "gamma = int(os.system('true'))\n", "gamma is int.* must be a number"),
    ],
)
def test_one_line_at_once(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    started = time.perf_counter()
    with pytest.raises(ConfigError, match=words) as error:
        read_dialect(str(tmp_path / name), "sb3")
    assert "\n" not in str(error.value) and len(str(error.value)) < 10_000
    assert time.perf_counter() - started < 5


def test_code_that_is_no_setting_is_left_out():
    reading = convert(parse_python(GYM + "gamma = 0.9\n"), "sb3")
    assert reading.settings["discounting"] == 0.9 and reading.settings["num_envs"] == 8


@pytest.mark.parametrize("text", ["a = " + "[" * 3000 + "]" * 3000, "num_envs = " + "1" * 5000, "\0"])
def test_toml_that_cannot_be(tmp_path, text):
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(ConfigError, match="is not valid TOML") as error:
        read_config(str(tmp_path / "c.toml"))
    assert "\n" not in str(error.value)
