"""Options as people write them, and as other libraries' scripts have them."""

import pytest

from torch_ppo.errors import ConfigError
from torch_ppo.running.options import kinds
from torch_ppo.running.program import parse_arguments
from torch_ppo.settings.spellings import rename, respell

SAME = [
    ("cartpole --seed 3", "--env cartpole --seed 3"),
    ("--env_name=cartpole", "--env cartpole"),
    ("--num-timesteps 1e6", "--num-timesteps 1000000"),
    ("--num_timesteps=60_000_000", "--num-timesteps 60000000"),
    ("--num-timesteps 1,000,000", "--num-timesteps 1000000"),
    ("--normalize_observations=true", "--normalize-observations"),
    ("--normalize-observations false", "--no-normalize-observations"),
    ("--nonormalize_observations", "--no-normalize-observations"),
    ("--no-compile --compile", "--no-compile --compile"),
    ("--policy_hidden_layer_sizes=64,64", "--policy-hidden-layer-sizes 64 64"),
    ("--policy-hidden-layer-sizes [64, 64]", "--policy-hidden-layer-sizes 64 64"),
    ("--task cartpole", "--env cartpole"),
    ("--impl warp", "--physics warp"),
    ("--engine=mujoco", "--physics mujoco"),
    ("--domain_randomization", "--randomize"),
    ("--nodomain_randomization", "--no-randomize"),
    ("--load_checkpoint_path runs/a", "--restore-checkpoint-path runs/a"),
    ("--learning-rate-schedule linear", "--learning-rate-schedule LINEAR"),
    ("--max-grad-norm none", "--max-grad-norm None"),
    ("--learning-rate 3e-4", "--learning-rate 0.0003"),
    ("--init-noise-std -1", "--init-noise-std -1.0"),
    ("--num-envs -3", "--num-envs -3"),
    ("-h", "-h"),
]


@pytest.mark.parametrize(("given", "read"), SAME, ids=[given for given, _ in SAME])
def test_same(given, read):
    assert respell(given.split(), kinds()) == read.split()


REFUSED = [
    ("--num-envs 2.5", "num_envs is '2.5', but must be an int"),
    ("--num-envs 1k", "num_envs is '1k', but must be an int; 1000 would work"),
    ("--num-timesteps 1.5M", "num_timesteps is '1.5M', but must be an int; 1500000 would work"),
    ("--num-timesteps 1e6,", "num_timesteps is '1e6,', but must be an int; 1e6 would work"),
    ("--batch-size 64,64", "batch_size is '64,64', but must be an int"),
    ("--learning-rate 0,5", "learning_rate is '0,5', but must be a float; 0.5 would work"),
    ("--learning-rate 3e-4,", "learning_rate is '3e-4,', but must be a float; 3e-4 would work"),
    ("--max-grad-norm 1,", "max_grad_norm is '1,', but must be a float or None; 1 would work"),
    ("--learning-rate small", "learning_rate is 'small', but must be a float"),
    ("--num-envs", "--num-envs needs a value"),
    ("--num-envs 4 8", "--num-envs takes one value, not 4 8"),
    ("--normalize-rewards maybe", "--normalize-rewards alone says yes, --no-normalize-rewards says no"),
    ("--impl jax", "physics is 'jax', but must be one of 'auto', 'warp', 'mujoco'"),
    ("--lr 3e-4", "there is no option --lr; it is --learning-rate here"),
    ("--total_timesteps 4", "there is no option --total-timesteps; it is --num-timesteps here"),
    ("--n-epochs=4", "there is no option --n-epochs; it is --num-updates-per-batch here"),
    ("--num-env 4", "there is no option --num-env; did you mean '--num-envs'?"),
    ("--output x", "there is no option --output; python"),  # it is like --trust only in its dashes
    ("--max_iterations 5", "of each iteration they are num_envs * unroll_length"),
    ("--headless", "leave it out"),
    ("--wandb", "--tracker wandb does that"),
    ("--play_only", "torch_ppo.play RUN_FOLDER plays what was trained"),
    ("--use_wandb=false", "leave it out"),
    ("cartpole 3", "what is 3? Options begin with --"),
    ("cartpole_cpu", "cartpole_cpu is a configuration, not a task; --config cartpole_cpu would work"),
    ("tests", "tests is a folder; --resume tests goes on with its run, --config tests repeats it"),
    ("cartpol", "there is no env 'cartpol'; did you mean 'cartpole'?"),
]


@pytest.mark.parametrize(
    "given", ["--num-envs 2.5", "--batch-size 64,64", "--learning-rate small", "--learning-rate 1m", "--num-envs infk"]
)
def test_nothing_is_proposed_for_what_is_no_number(given):
    with pytest.raises(ConfigError, match=r"must be an? (int|float)$"):
        respell(given.split(), kinds())


@pytest.mark.parametrize(("given", "words"), REFUSED, ids=[given for given, _ in REFUSED])
def test_refused(given, words, monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)
    with pytest.raises(ConfigError) as error:
        parse_arguments(given.split())
    assert words in str(error.value)


def test_playgrounds_command_line():
    """As its train_jax_ppo.py is called."""
    words = "--env_name CartpoleBalance --impl warp --domain_randomization=false --num_timesteps 1e5 --seed 2".split()
    settings = parse_arguments(words)[0].settings
    assert (settings.env, settings.physics, settings.randomize) == ("cartpole", "warp", False)
    assert (settings.num_timesteps, settings.seed) == (100_000, 2)


def test_other_programs_only_rename():
    assert rename(["run", "--engine=warp", "--video", "a.gif"]) == ["run", "--physics=warp", "--video", "a.gif"]
