"""Brax PPO on a MuJoCo Playground environment, in the interpreter that has them; started by tools/compare_brax.py.

    python brax_worker.py '{"env": "CartpoleBalance", "impl": "jax", "train": {"num_timesteps": 655360, ...}}'

Imports nothing of this project. Each evaluation or training interval prints one JSON line, as `metrics.jsonl` has them:
`step`, Brax's own metrics, `walltime`, the seconds since the process began its imports, and `cpu`, those of all cores. With "stepwise" it then waits
for a line on the standard input, so that another program can run in between. With "seeds" it trains once with each, and
the lines have "seed", too. With "networks_file" the initial networks are written there, SEED replaced by the seed: arrays
policy/hidden_0/kernel and so on, kernels (in, out) as in flax.
"""

import functools
import json
import os
import sys
import time

STARTED = time.perf_counter()


def save_networks(path: str, params: tuple[object, object, object]) -> None:
    """Writes policy and value parameters of Brax's (normalizer, policy, value) as an npz file."""
    import numpy as np

    arrays = {}
    for network, tree in zip(("policy", "value"), params[1:], strict=True):
        tree = tree["params"]
        for layer, leaves in tree.get("MLP_0", tree).items():
            arrays |= {f"{network}/{layer}/{name}": np.asarray(leaf) for name, leaf in leaves.items()}
    np.savez(path, **arrays)


def with_functions(networks: dict[str, object]) -> dict[str, object]:
    """Options of `make_ppo_networks` with functions instead of their names in JAX."""
    from jax import nn

    def function(name: str, value: object) -> object:
        if name == "activation":
            return getattr(nn, value)
        if name.endswith("_kernel_init_fn") and value is not None:
            # Others are called for an initialiser, zeros is one.
            return (lambda: nn.initializers.zeros) if value == "zeros" else getattr(nn.initializers, value)
        return value

    return {name: function(name, value) for name, value in networks.items()}


def give_back_what_brax_calls() -> None:
    """Brax 0.14.2 puts its state on its devices by a function that newer releases of JAX, such as 0.11.2, have no more."""
    import jax

    if not hasattr(jax, "device_put_replicated"):
        jax.device_put_replicated = lambda tree, devices: jax.tree.map(
            lambda x: jax.numpy.stack([x] * len(devices)), tree
        )


def main() -> None:
    """Run as the settings in the first argument say."""
    settings = json.loads(sys.argv[1])
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    give_back_what_brax_calls()
    import jax
    from brax.training.agents.ppo import networks, train
    from mujoco_playground import registry, wrapper

    def progress(seed: int, step: int, metrics: dict[str, object]) -> None:
        row = {"seed": seed, "step": int(step), "walltime": time.perf_counter() - STARTED, "cpu": time.process_time()}
        print(json.dumps(row | {key: float(value) for key, value in metrics.items()}), flush=True)
        if settings.get("stepwise") and not sys.stdin.readline():
            sys.exit(0)

    def policy_params(seed: int, step: int, make_policy: object, params: tuple[object, object, object]) -> None:
        if step == 0 and settings.get("networks_file"):
            save_networks(settings["networks_file"].replace("SEED", str(seed)), params)

    overrides = {"impl": settings["impl"]}
    print(json.dumps({"device": str(jax.devices()[0]), "jax": jax.__version__}), flush=True)
    for seed in settings.get("seeds", [settings["train"]["seed"]]):
        train.train(
            environment=registry.load(settings["env"], config_overrides=overrides),
            eval_env=registry.load(settings["env"], config_overrides=overrides),
            wrap_env_fn=wrapper.wrap_for_brax_training,
            network_factory=functools.partial(networks.make_ppo_networks, **with_functions(settings["networks"])),
            progress_fn=functools.partial(progress, seed),
            policy_params_fn=functools.partial(policy_params, seed),
            **{**settings["train"], "seed": seed},
        )


if __name__ == "__main__":
    main()
