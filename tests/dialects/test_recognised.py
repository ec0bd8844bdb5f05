"""Files in other libraries' words that are given as ours."""

import pytest

from torch_ppo.dialects import DIALECTS, propose_dialect, write_dialect
from torch_ppo.errors import ConfigError
from torch_ppo.running.program import parse_arguments
from torch_ppo.settings.config import Config

SPEAKS = Config(num_timesteps=10_000, num_envs=8, unroll_length=10, batch_size=4, num_minibatches=2, num_evals=0)
FORMATS = {"brax": "py", "guide": "py", "cleanrl": "sh"}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_we_write_is_recognised(dialect, tmp_path):
    path = tmp_path / f"a.{FORMATS.get(dialect, 'yaml')}"
    path.write_text(write_dialect(SPEAKS, dialect)[0])
    proposal = propose_dialect(str(path))
    like = proposal.partition(" looks like ")[2].partition(";")[0].split(" or ")
    assert like == (["brax", "guide"] if dialect in ("brax", "guide") else [dialect])


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.yml", "algorithm: {clip_param: 0.2}\nnum_steps_per_env: 24\n", "looks like rsl_rl; add --dialect rsl_rl"),
        ("zoo.yml", "Ant-v4:\n  n_timesteps: 1e6\n  policy: MlpPolicy\n  n_steps: 512\n", "add --dialect sb3"),
        ("a.json", '{"params": {"config": {}}}', "looks like rl_games"),
        ("a.toml", "n_steps = 512\nvf_coef = 0.5\n", "looks like sb3"),
        ("a.yml", "one: 1\ntwo: 2\n", "no dialect knows most of its keys (one, two)"),
        ("a.json", '{"torch_threads": 1, "gae": "brax"}', "is in our words, but not in TOML"),
        ("a.yml", "", "a.yml is empty"),
    ],
)
def test_one_line_says_what_it_looks_like(name, text, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError) as error:
        parse_arguments(["--env", "cartpole", "--config", name])
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["num_timesteps = 10\nlearning_rte = 1\n", "num_timesteps = \n", ""])
def test_what_may_be_ours_is_left_to_its_reader(text, tmp_path):
    (tmp_path / "a.toml").write_text(text)
    assert propose_dialect(str(tmp_path / "a.toml")) is None
    assert propose_dialect("cartpole") is None
