"""Step arithmetic, read off the callbacks of `ppo.train`; in float32 only: `schedule`."""

from typing import Any

import numpy as np
from brax.training.agents.ppo import train as ppo_train

from tools.golden.networks import factory
from tools.golden.store import Store
from tools.golden.toy import ToyEnv

SIZES = {"num_envs": 8, "batch_size": 4, "num_minibatches": 4, "unroll_length": 5}
SCHEDULE_CASES: tuple[dict[str, Any], ...] = (
    {"num_timesteps": 1000, "num_evals": 3, "num_resets_per_eval": 2, "action_repeat": 1, "run_evals": True},
    {"num_timesteps": 100, "num_evals": 1, "num_resets_per_eval": 0, "action_repeat": 1, "run_evals": True},
    {"num_timesteps": 500, "num_evals": 4, "num_resets_per_eval": 0, "action_repeat": 2, "run_evals": False},
    {"num_timesteps": 161, "num_evals": 0, "num_resets_per_eval": 0, "action_repeat": 1, "run_evals": True},
)


def callback_steps(settings: dict[str, Any]) -> dict[str, np.ndarray]:
    """Step numbers that a tiny training passes to its two callbacks."""
    progress, policies = [], []
    ppo_train.train(
        ToyEnv(),
        episode_length=8,
        num_updates_per_batch=1,
        num_eval_envs=2,
        network_factory=factory({"hidden": [4]}),
        progress_fn=lambda step, metrics: progress.append(step),
        policy_params_fn=lambda step, *_: policies.append(step),
        **settings,
    )
    return {
        "progress_steps": np.array(progress, np.int64),
        "policy_params_steps": np.array(policies, np.int64),
    }


def record_schedule(store: Store) -> None:
    """The steps at which `ppo.train` reports: the group `schedule`."""
    for i, settings in enumerate(SCHEDULE_CASES):
        store.put(f"schedule/case{i}/cfg", settings | SIZES)
        store.put_outputs(f"schedule/case{i}", callback_steps(settings | SIZES))
