"""Thousands of random configurations: each gives a plan whose sums add up, or a ConfigError that says why not."""

import dataclasses
import math
import typing
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from torch_ppo.errors import ConfigError
from torch_ppo.formulas.distribution import DISTRIBUTIONS
from torch_ppo.formulas.networks import ACTIVATIONS, INITIALIZERS
from torch_ppo.settings.config import Config
from torch_ppo.settings.files import read_config, to_toml
from torch_ppo.settings.plan import summary

HINTS = typing.get_type_hints(Config)
MANY = settings(max_examples=1500, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

# Sizes that often fit together, so that many configurations are good, and numbers of all kinds.
sizes = st.sampled_from([1, 2, 3, 4, 5, 8, 10, 12, 16, 20, 32, 100, 256, 1000, 1024])
wild_ints = st.one_of(sizes, st.integers(-3, 5), st.integers(-(2**70), 2**70))
wild_floats = st.floats(allow_nan=True, allow_infinity=True)
anything = st.one_of(
    st.none(), st.booleans(), wild_ints, wild_floats, st.text(max_size=8), st.lists(wild_ints, max_size=3)
)


def fitting(name):
    """Values that a field may have."""
    kind = HINTS[name]
    options = []
    for part in typing.get_args(kind) if type(None) in typing.get_args(kind) else (kind,):
        if typing.get_origin(part) is typing.Literal:
            options.append(st.sampled_from(typing.get_args(part)))
        elif part is bool:
            options.append(st.booleans())
        elif part is int:
            options.append(sizes)
        elif part is float:
            options.append(st.sampled_from([0.0, 1e-5, 1e-3, 0.1, 0.3, 0.95, 1.0]))
        elif part is type(None):
            options.append(st.none())
        elif typing.get_origin(part) is tuple:
            options.append(st.lists(sizes, min_size=1, max_size=3).map(tuple))
        elif name == "activation":
            options.append(st.sampled_from(sorted(ACTIVATIONS)))
        elif name == "distribution_type":
            options.append(st.sampled_from(sorted(DISTRIBUTIONS)))
        elif name.endswith("kernel_init_fn"):
            options.append(st.sampled_from(sorted(INITIALIZERS)))
        else:
            options.append(st.sampled_from(["", "state", "cpu"]))
    return st.one_of(options)


ARITHMETIC = (
    "num_timesteps num_envs batch_size num_minibatches unroll_length num_updates_per_batch action_repeat num_evals "
    "num_resets_per_eval"
).split()


OPTIONAL = {name: fitting(name) for name in HINTS if name != "num_timesteps"}


def few_of(strategies):
    """num_timesteps and at most six of the fields, drawn from `strategies`: most of all at once would never do."""
    names = st.lists(st.sampled_from(sorted(strategies)), max_size=6, unique=True)
    return names.flatmap(
        lambda names: st.fixed_dictionaries({"num_timesteps": sizes} | {name: strategies[name] for name in names})
    )


def consistent(config):
    """The plan adds up, in Brax's arithmetic worked out once more."""
    c = config
    transitions = c.env_step_per_training_step // c.action_repeat
    assert transitions * c.action_repeat == c.env_step_per_training_step
    assert transitions == c.num_envs * c.num_unrolls_per_env * c.unroll_length
    unit = 1 if c.minibatch_of == "transitions" else c.unroll_length
    assert transitions == c.batch_size * c.num_minibatches * unit
    assert transitions == c.transitions_per_minibatch * c.num_minibatches
    assert c.sgd_steps_per_training_step == c.num_minibatches * c.num_updates_per_batch
    assert c.num_training_steps == c.num_epochs * c.num_training_steps_per_epoch
    assert c.total_env_steps == c.num_training_steps * c.env_step_per_training_step >= c.num_timesteps
    one_less = c.num_epochs * (c.num_training_steps_per_epoch - 1) * c.env_step_per_training_step
    assert one_less < c.num_timesteps  # no more than are needed, interval by interval
    steps = c.eval_env_steps
    assert len(set(steps)) == len(steps) and list(steps) == sorted(steps)
    if steps:
        assert steps[-1] == c.total_env_steps
    if c.num_evals > 1 and c.run_evals:
        assert len(steps) == c.num_evals and steps[0] == 0
        assert len({b - a for a, b in pairwise(steps)}) == 1
    assert f"{c.total_env_steps:,}" in summary(c)


def plan_or_reason(values):
    """The configuration, if it is one; else its reason is a sentence that names something that was set."""
    try:
        config = Config(**values)
    except ConfigError as error:
        assert len(str(error)) > 20 and "\n" not in str(error)
        assert any(name in str(error) for name in Config.__dataclass_fields__)
        return None
    consistent(config)
    return config


@MANY
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(ARITHMETIC, sizes)))
def test_arithmetic(values):
    plan_or_reason({"num_timesteps": 1000, **values})


@MANY
@given(few_of(OPTIONAL))
def test_values_of_the_right_kind(values):
    plan_or_reason(values)


@MANY
@given(few_of(dict.fromkeys(OPTIONAL, anything)))
def test_values_of_any_kind(values):
    plan_or_reason(values)


@pytest.mark.parametrize(
    "strategy", [st.fixed_dictionaries(dict.fromkeys(ARITHMETIC, sizes)), few_of(OPTIONAL)], ids=["arithmetic", "all"]
)
def test_many_of_them_are_good(strategy):
    """Otherwise the tests above would only see refusals."""
    good = []

    @settings(max_examples=300, deadline=None, derandomize=True, database=None)
    @given(strategy)
    def count(values):
        good.append(plan_or_reason(values) is not None)

    count()
    assert 0.15 < sum(good) / len(good) < 0.95


@settings(MANY, max_examples=300)
@given(few_of(OPTIONAL))
def test_files_read_back_what_was_written(tmp_path_factory, values):
    try:
        config = Config(**values)
    except ConfigError:
        return
    file = tmp_path_factory.getbasetemp() / "config.toml"
    file.write_text(to_toml(config))
    assert Config(**read_config(str(file))) == config


@settings(MANY, max_examples=1000)
@given(
    st.one_of(st.text(max_size=80), st.builds("{} = {}".format, st.sampled_from(sorted(HINTS)), st.text(max_size=20)))
)
def test_files_of_any_text(tmp_path_factory, text):
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        values = read_config(str(file))
    except ConfigError as error:
        assert "\n" not in str(error)
        return
    assert values.keys() <= HINTS.keys()
    for value in values.values():
        assert not isinstance(value, float) or math.isfinite(value)


def test_every_field_is_checked():
    """A value of a kind that no field takes is refused by each of them, by name."""
    for field in dataclasses.fields(Config):
        values = {"num_timesteps": 1000, field.name: object()}
        with pytest.raises(ConfigError, match=field.name):
            Config(**values)
