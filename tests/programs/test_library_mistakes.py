"""What the library call is given by mistake is one line, and what it does stays inside."""

import functools

import pytest
import torch

import torch_ppo
from tests.helpers.ball import BallTask
from tests.helpers.toy import ToyTask
from torch_ppo.envs.cartpole import Cartpole
from torch_ppo.errors import ConfigError
from torch_ppo.formulas.networks import INITIALIZERS
from torch_ppo.running import memory_needed

SMALL = {
    "num_timesteps": 80, "num_envs": 4, "num_eval_envs": 2, "episode_length": 10, "batch_size": 4, "num_minibatches": 2,
    "unroll_length": 5, "device": "cpu",
}  # fmt: skip
NETWORKS = {"policy_hidden_layer_sizes": (8,), "value_hidden_layer_sizes": (8,)}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"environment": Cartpole}, r"environment is the class Cartpole, but must be a task: Cartpole\(\) would work"),
        (
            {"environment": None},
            "environment is None, but must be a torch_ppo.Task, an environment, or the name of one",
        ),
        ({"environment": object()}, "environment is <object .* but must be a torch_ppo.Task"),
        ({"eval_env": Cartpole}, "eval_env is the class Cartpole"),
        ({"eval_env": ToyTask()}, r"eval_env gives state 5 and takes 2 actions, but the environment gives"),
        ({"env": "ant"}, "env = 'ant' has no effect beside the environment 'cartpole'"),
        ({"restore_params": ({}, {})}, r"restore_params is not \(normalizer, policy, value\)"),
        ({"restore_params": ({}, {}, None)}, r"restore_params is not \(normalizer, policy, value\)"),
        (
            {"network_factory": lambda *sizes: None, "policy_hidden_layer_sizes": (8,)},
            "policy_hidden_layer_sizes has no effect beside a network_factory function",
        ),
        ({"wrap_env": torch.ones(2)}, "wrap_env is tensor.*, but must be True or False"),
        (
            {"wrap_env": False},
            "wrap_env = False uses an environment that restarts its own episodes, but Cartpole is a task",
        ),
        ({"wrap_env": False, "wrap_env_fn": print}, "wrap_env_fn has no effect with wrap_env = False"),
        ({"wrap_env_fn": 3}, "wrap_env_fn is 3, but must be a function, or None"),
        ({"wrap_env_fn": lambda env, **rules: None}, "wrap_env_fn returns None"),
        ({"randomization_fn": 3}, "randomization_fn is 3, but must be a function, or None"),
        ({"num_eval_envs": 10**9}, "num_eval_envs = 1000000000 needs 128 GB of memory at least, and cpu has"),
        ({"num_updates_per_batch": 10**9}, r"num_updates_per_batch \* num_minibatches = 2000000000 needs 64 GB of"),
        ({"history": 10**9}, "history = 1000000000 needs 16 GB of memory at least"),
        ({"policy_hidden_layer_sizes": (8, 10**9)}, r"policy_hidden_layer_sizes = \(8, 1000000000\) needs 1.. GB of"),
        ({"progress_fn": None}, "progress_fn is None, but must be a function"),
        ({"policy_params_fn": 3}, "policy_params_fn is 3, but must be a function"),
        ({"network_factory": 3}, "network_factory is 3, but must be a function, or a dict of options"),
        ({"num_timesteps": 1e6}, "num_timesteps is 1000000.0, but must be an int"),
    ],
)
def test_one_line(arguments, words, monkeypatch):
    monkeypatch.setattr(memory_needed, "memory_of", lambda device: 15 * 10**9)
    with pytest.raises(ConfigError, match=words) as error:
        torch_ppo.train(**{"environment": "cartpole", **SMALL, **arguments})
    assert "\n" not in str(error.value)


def pair(policy=None, value=None):
    """A factory of these modules, made of (inputs, outputs); else of what fits."""

    def factory(policy_obs, value_obs, actions):
        own_policy, own_value = torch_ppo.make_ppo_networks(policy_obs, value_obs, actions, **NETWORKS)
        return policy(policy_obs, actions) if policy else own_policy, value(value_obs, 1) if value else own_value

    return factory


def linear(inputs, outputs, **options):
    return torch.nn.Linear(inputs, outputs, **options)


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        (lambda *sizes: None, "network_factory returns NoneType, but must return two modules"),
        (lambda *sizes: (torch.nn.Linear(1, 1), 3), r"returns \(Linear, int\), but must return two modules"),
        (pair(policy=linear), r"a policy that gives \(3, 2, 1\) for .* must give loc and scale, each \(3, 2, 1\)"),
        (
            pair(value=lambda *sizes: torch.nn.Sequential(linear(*sizes), torch.nn.Flatten(0, 1))),
            r"a value network that gives \(6, 1\) for observations \(3, 2, 5\), but must give \(3, 2, 1\)",
        ),
        (pair(value=lambda *sizes: linear(*sizes).double()), "returns a value network of float64 on cpu, but float32"),
        (pair(policy=lambda *sizes: linear(*sizes, device="meta")), "returns a policy of float32 on meta, but"),
        (
            pair(value=lambda *sizes: linear(*sizes).requires_grad_(False)),
            "returns a value network without parameters that require a gradient",
        ),
    ],
)
def test_networks_that_cannot_be_trained_are_one_line(factory, words):
    with pytest.raises(ConfigError, match=words) as error:
        torch_ppo.train("cartpole", network_factory=factory, **SMALL)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["progress_fn", "policy_params_fn"])
def test_how_callbacks_are_called_is_said_before_training(name):
    with pytest.raises(ConfigError, match=rf"{name} is called as {name}\(.*\), but missing a required .*'more'"):
        torch_ppo.train("cartpole", **SMALL, **{name: lambda *given, more: None})


def test_playgrounds_partial():
    """Its notebooks hand the keys of the observations to the network factory."""

    def rewards(**arguments):
        return torch_ppo.train(ToyTask(asymmetric=True), **SMALL, **arguments)[2]["eval/episode_reward"]

    keys = {"policy_obs_key": "state", "value_obs_key": "privileged_state"}
    factory = functools.partial(torch_ppo.make_ppo_networks, **NETWORKS, **keys)
    _, (normalizer, _, _), _ = torch_ppo.train(ToyTask(asymmetric=True), network_factory=factory, **SMALL)
    assert {name.split(".")[0] for name in normalizer} == {"state", "privileged_state"}
    assert rewards(network_factory=factory) == rewards(network_factory={**NETWORKS, **keys})


def test_networks_of_a_partial_are_those_of_the_checkpoint(tmp_path):
    """So that it is read again; what has no name in a configuration stays a function."""
    factory = functools.partial(torch_ppo.make_ppo_networks, **NETWORKS)
    torch_ppo.train("cartpole", network_factory=factory, save_checkpoint_path=str(tmp_path), **SMALL)
    (*_, checkpoint) = sorted(tmp_path.glob("*.pt"))
    saved = torch_ppo.load_policy(checkpoint)
    assert saved.config.policy_hidden_layer_sizes == NETWORKS["policy_hidden_layer_sizes"]
    initial = INITIALIZERS["zeros"]()
    factory = functools.partial(torch_ppo.make_ppo_networks, policy_network_kernel_init=initial)
    _, (_, policy, _), _ = torch_ppo.train("cartpole", network_factory=factory, **{**SMALL, "num_timesteps": 0})
    assert all(not x.any() for name, x in policy.items() if x.dim() == 2)


CONVOLUTIONS = {
    "cnn_output_channels": (4, 4),
    "cnn_kernel_size": (5, 3),
    "cnn_stride": (2, 2),
    "cnn_kernel_init_fn": "orthogonal",
    "cnn_kernel_init_kwargs": {"scale": 1.41421356},
    "output_kernel_init_kwargs": None,
}


def test_the_vision_factory_as_brax_has_it():
    """Alone, in a partial and as a dict: it decides that there is vision, and its keys and sizes are its own."""

    def found(**arguments):
        settings = {**SMALL, "action_repeat": 1, "physics": "warp", **arguments}
        return torch_ppo.train(BallTask(), **settings)[1]

    vision = torch_ppo.make_ppo_networks_vision
    by_partial = found(network_factory=functools.partial(vision, **NETWORKS, **CONVOLUTIONS))
    assert by_partial[0] == {}  # as Brax's default sees no vector
    keys = {"policy_obs_key": "", "value_obs_key": ""}
    for name in ("vision", "madrona_backend"):
        by_dict = found(network_factory={**NETWORKS, **CONVOLUTIONS, **keys}, **{name: True})
        assert all(torch.equal(x, by_dict[1][name]) for name, x in by_partial[1].items())
    alone = found(network_factory=vision)
    widths = [len(x) for name, x in alone[1].items() if "trunk" in name and x.dim() == 2]
    assert widths == [256, 256, 2]  # Brax's two hidden layers; Config has other defaults
    initial = INITIALIZERS["zeros"]()  # has no name in Config
    by_function = found(network_factory=functools.partial(vision, output_kernel_init=initial, policy_obs_key="state"))
    assert {name.split(".")[0] for name in by_function[0]} == {"state"}


def test_a_vision_factory_of_ones_own():
    """Called as Brax's is, with the sizes of what is seen by key, and the number of actions."""
    given = []

    def factory(sizes, action_size):
        given.append((sizes, action_size))
        return torch_ppo.make_ppo_networks_vision(sizes, action_size, policy_hidden_layer_sizes=(8,))

    torch_ppo.train(
        BallTask(), **{**SMALL, "action_repeat": 1, "physics": "warp"}, vision=True, network_factory=factory
    )
    assert given == [({"state": 1, "pixels/front": (24, 24, 3)}, 1)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"vision": True}, "vision = True has no effect: the task observes state, and no pixels/"),
        ({"madrona_backend": True}, "vision = True has no effect"),
        ({"augment_pixels": True}, "augment_pixels = True has no effect with vision = False; set vision = True"),
        ({"network_factory": torch_ppo.make_ppo_networks_vision}, "vision = True has no effect"),
        (
            {"network_factory": {"cnn_kernel_init_kwargs": {"column_axis": 0}}},
            "cnn_kernel_init_kwargs is .*, but may have a scale only",
        ),
    ],
)
def test_mistakes_about_pixels(arguments, words):
    with pytest.raises(ConfigError, match=words):
        torch_ppo.train("cartpole", **{**SMALL, "action_repeat": 1, **arguments})


@pytest.mark.parametrize(
    "mode", [torch.no_grad, torch.inference_mode, functools.partial(torch.set_grad_enabled, False)]
)
def test_gradients_are_on_where_they_are_needed(mode):
    def parameters():
        return torch_ppo.train("cartpole", **SMALL, network_factory=NETWORKS)[1][1]

    expected = parameters()
    with mode():
        found = parameters()
        assert not torch.is_grad_enabled()
    assert all(torch.equal(found[name].clone(), expected[name]) for name in expected)


@pytest.mark.parametrize("default", [{"dtype": torch.float64}, {"device": "meta"}], ids=str)
def test_the_callers_defaults_do_not_matter(default):
    def parameters():
        return torch_ppo.train("cartpole", **SMALL, network_factory=NETWORKS)[1][1]

    expected = parameters()
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(default.get("dtype", dtype))
    try:
        with torch.device(default.get("device", "cpu")):
            found = parameters()
            assert torch.get_default_dtype() == default.get("dtype", dtype)
            assert torch.zeros(()).device.type == default.get("device", "cpu")
    finally:
        torch.set_default_dtype(dtype)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_callers_torch_stays_as_it_was():
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    torch_ppo.train("cartpole", **SMALL, network_factory=NETWORKS, torch_threads=threads + 1, matmul_precision="medium")
    assert torch.equal(torch.rand(3), expected)
    assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == (threads, precision)
