"""Brax PPO on a MuJoCo Playground environment, in the interpreter that has them; started by tools/compare_brax.py.

    python brax_worker.py '{"env": "CartpoleBalance", "impl": "jax", "train": {"num_timesteps": 655360, ...}}'

Imports nothing of this project. Each evaluation or training interval prints one JSON line, as `metrics.jsonl` has them:
`step`, Brax's own metrics and `walltime`, the seconds since the process started its imports. With `"stepwise": true` it then
waits for a line on the standard input, so that another program can run in between.
"""

import functools
import json
import os
import sys
import time

STARTED = time.perf_counter()


def main() -> None:
    """Run as the settings in the first argument say."""
    settings = json.loads(sys.argv[1])
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax
    from brax.training.agents.ppo import networks, train
    from mujoco_playground import registry, wrapper

    stepwise = settings.get("stepwise", False)

    def progress(step: int, metrics: dict[str, object]) -> None:
        row = {"step": int(step), "walltime": time.perf_counter() - STARTED}
        print(json.dumps(row | {key: float(value) for key, value in metrics.items()}), flush=True)
        if stepwise and not sys.stdin.readline():
            sys.exit(0)

    overrides = {"impl": settings["impl"]}
    environment = registry.load(settings["env"], config_overrides=overrides)
    evaluation = registry.load(settings["env"], config_overrides=overrides)
    print(json.dumps({"device": str(jax.devices()[0]), "jax": jax.__version__}), flush=True)
    train.train(
        environment=environment,
        eval_env=evaluation,
        wrap_env_fn=wrapper.wrap_for_brax_training,
        network_factory=functools.partial(networks.make_ppo_networks, **settings.get("networks", {})),
        progress_fn=progress,
        **settings["train"],
    )


if __name__ == "__main__":
    main()
