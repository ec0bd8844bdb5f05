"""Makes tests/importing/brax: small policies that Brax made and acted with, for tests that have no JAX.

    pip install '.[brax]' brax && python -m tools.brax_checkpoints

Of each case an .npz with Brax's parameters by their paths, observations, and Brax's own actions and values; and the
ppo_network_config.json that Brax wrote, as CASE.json. `save_brax` also serves tests where JAX is installed.
"""

import functools
import shutil
import tempfile
from pathlib import Path

import jax
import numpy as np
from brax.io import model
from brax.training.acme import running_statistics
from brax.training.agents.ppo import checkpoint, networks
from flax import linen

FOLDER = Path(__file__).parents[1] / "tests" / "importing" / "brax"
BOTH = {"state": 5, "privileged_state": 7}
SMALL = {"policy_hidden_layer_sizes": (8, 6), "value_hidden_layer_sizes": (7,)}
ASYMMETRIC = {"policy_obs_key": "state", "value_obs_key": "privileged_state"}
NORMAL = {"distribution_type": "normal"}
# name: (size of the observation, arguments of make_ppo_networks, arguments of the normalizer, whether it is used)
CASES = {
    "tanh_normal": (5, {}, {}, True),
    "not_normalized": (5, {"activation": linen.relu}, {}, False),
    "asymmetric": (BOTH, {**ASYMMETRIC, "activation": linen.elu}, {"std_eps": 1e-2}, True),
    "log_std": (BOTH, {**ASYMMETRIC, **NORMAL, "noise_std_type": "log", "init_noise_std": 0.5}, {}, True),
    "scalar_std": (5, {**NORMAL, "activation": linen.gelu}, {"mode": "ema"}, True),
    "state_dependent_std": (5, {**NORMAL, "state_dependent_std": True, "mean_clip_scale": 2.0}, {}, True),
    "distributional": (5, {"use_distributional_critic": True, "num_quantiles": 4}, {}, True),
}
ACTIONS, ROWS, STEPS = 3, 16, 4096


def shapes(observation_size):
    """What Brax calls the observation's size: a tuple, or one by key."""
    return (
        {key: (size,) for key, size in observation_size.items()}
        if isinstance(observation_size, dict)
        else (observation_size,)
    )


def make(name):
    """Parameters with some noise on them, the factory, and the observation's size of a case."""
    size, network, statistics, normalized = CASES[name]
    factory = functools.partial(networks.make_ppo_networks, **SMALL, **network)
    made = factory(shapes(size), ACTIONS, preprocess_observations_fn=running_statistics.normalize)
    numbers = np.random.default_rng(3)
    keys = jax.random.split(jax.random.PRNGKey(0))
    policy, value = (net.init(key) for net, key in zip((made.policy_network, made.value_network), keys, strict=True))
    jitter = functools.partial(jax.tree.map, lambda x: x + 0.3 * numbers.standard_normal(x.shape).astype(np.float32))
    nest = jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, np.float32), shapes(size), is_leaf=lambda x: isinstance(x, tuple)
    )
    normalizer = running_statistics.init_state(nest, **statistics)
    for _ in range(2):
        batch = jax.tree.map(lambda x: (3 + 2 * numbers.standard_normal((32, *x.shape))).astype(np.float32), nest)
        normalizer = running_statistics.update(normalizer, batch)
    return (normalizer, jitter(policy), jitter(value)), factory, size, normalized


def save_brax(folder, name):
    """Writes a checkpoint as `ppo.train(save_checkpoint_path=folder)` does, and returns its folder."""
    params, factory, size, normalized = make(name)
    config = checkpoint.network_config(shapes(size), ACTIONS, normalized, factory)
    checkpoint.save(folder, STEPS, params, config)
    return Path(folder) / f"{STEPS:012d}"


def answers(name):
    """Observations by key, and what Brax makes of them: actions (its modes) and values."""
    params, factory, size, normalized = make(name)
    preprocess = {"preprocess_observations_fn": running_statistics.normalize} if normalized else {}
    made = factory(shapes(size), ACTIONS, **preprocess)
    numbers = np.random.default_rng(5)
    sizes = size if isinstance(size, dict) else {"state": size}
    seen = {key: (3 + 4 * numbers.standard_normal((ROWS, n))).astype(np.float32) for key, n in sizes.items()}
    given = seen if isinstance(size, dict) else seen["state"]
    policy = networks.make_inference_fn(made)(params, deterministic=True)
    action, _ = policy(given, jax.random.PRNGKey(0))
    value = made.value_network.apply(params[0], params[2], given)
    value = value[0] if isinstance(value, tuple) else value
    return seen, np.asarray(action), np.asarray(value)


def arrays(params):
    """By path, such as 1/params/hidden_0/kernel."""
    names = {
        "/".join(
            str(getattr(part, "key", getattr(part, "idx", getattr(part, "name", None)))) for part in path
        ): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]
    }
    return names


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in CASES:
        seen, action, value = answers(name)
        params = make(name)[0]
        np.savez_compressed(
            FOLDER / f"{name}.npz",
            **{f"params/{path}": array for path, array in arrays(params).items()},
            **{f"observation/{key}": x for key, x in seen.items()},
            action=action,
            value=value,
        )
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(save_brax(folder, name) / "ppo_network_config.json", FOLDER / f"{name}.json")
    for name in ("asymmetric", "tanh_normal"):
        model.save_params(FOLDER / f"{name}.pickle", make(name)[0])


if __name__ == "__main__":
    main()
