"""What surrounds an episode: wrappers, evaluator and logger; in float32 only: `toy`, `wrap`, `evaluator`, `eplog`."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from brax import envs
from brax.envs.wrappers import training as wrappers
from brax.training import acting, logger
from brax.training.agents.ppo import networks as ppo_networks

from tools.golden.networks import ACTIONS, NETWORK_DEFAULT, OBSERVATIONS, build, init, jitter, normalizer
from tools.golden.noise import normal
from tools.golden.store import Store
from tools.golden.toy import TOY_MATRIX, TOY_VECTOR, ToyEnv
from tools.golden.trees import flatten

WRAP_STEPS, WRAP_ENVS = 20, 4
WRAP_CASES: dict[str, dict[str, Any]] = {
    "repeat1": {"episode_length": 6, "action_repeat": 1, "limit": 0.5, "evaluate": False},
    "repeat2": {"episode_length": 7, "action_repeat": 2, "limit": 0.5, "evaluate": False},
    "eval": {"episode_length": 6, "action_repeat": 1, "limit": 0.5, "evaluate": True},
    "repeat2_missed_done": {"episode_length": 11, "action_repeat": 2, "limit": 0.3, "evaluate": False, "push": True},
    "env_timeout": {"episode_length": 9, "action_repeat": 1, "limit": 0.5, "timeout": 4, "evaluate": False},
}


def record_toy(store: Store) -> None:
    """The constants of the toy environment: `toy`."""
    store.put_all("toy", {"matrix_M": TOY_MATRIX, "vector_c": TOY_VECTOR})


def wrap_actions(*, push: bool) -> np.ndarray:
    """Actions `(S, N, A)`: random ones with a drift; with `push`, to and fro over the limit in one repeated action."""
    random = np.random.RandomState(300)
    uniform = random.uniform(-1, 1, (WRAP_STEPS, WRAP_ENVS, ACTIONS)).astype(np.float32)
    actions = uniform + np.array([0.7, 0.0], np.float32) * random.choice([-1, 1], (1, WRAP_ENVS, 1))
    if push:
        direction = np.where(np.arange(WRAP_STEPS) % 6 < 3, 1, -1)[:, None, None]
        actions = actions * 0 + np.array([-1.0, 0.0], np.float32) * direction  # zeros keep the signs that they had
    return actions.astype(np.float32)


def wrapped_step_arrays(state: envs.State) -> dict[str, np.ndarray]:
    """All that a wrapped environment's state shows, by name; of an evaluation, also its counters and sums."""
    info = state.info
    arrays = {"obs": state.obs, "reward": state.reward, "done": state.done}
    arrays |= {name: info[name] for name in ("truncation", "steps", "episode_done", "tick", "time_out")}
    arrays |= {f"episode_metrics/{name}": value for name, value in info["episode_metrics"].items()}
    if "eval_metrics" in info:
        evaluation = info["eval_metrics"]
        arrays |= {"eval_active": evaluation.active_episodes, "eval_steps": evaluation.episode_steps}
        arrays |= {f"eval_metrics/{name}": value for name, value in evaluation.episode_metrics.items()}
    return {name: np.array(array) for name, array in arrays.items()}


def record_wrappers(store: Store) -> None:
    """Wrapped environments stepped with given actions: `wrap`."""
    for name, settings in WRAP_CASES.items():
        toy = ToyEnv(settings["limit"], settings.get("timeout"))
        env = wrappers.wrap(toy, settings["episode_length"], settings["action_repeat"])
        env = wrappers.EvalWrapper(env) if settings["evaluate"] else env
        actions = wrap_actions(push=settings.get("push", False))
        state = jax.jit(env.reset)(jax.random.split(jax.random.PRNGKey(31), WRAP_ENVS))
        store.put(f"wrap/{name}/cfg", settings)
        store.put_all(f"wrap/{name}/in", {"actions": actions, "x0": state.pipeline_state["x"], "obs0": state.obs})
        step, rows = jax.jit(env.step), []
        for action in actions:
            state = step(state, jnp.asarray(action))
            rows.append(wrapped_step_arrays(state))
        store.put_outputs(f"wrap/{name}", {key: np.stack([row[key] for row in rows]) for key in rows[0]})


EVALUATOR_ENVS = 6
EVALUATOR_CASES: dict[str, dict[str, Any]] = {
    "repeat1": {"episode_length": 9, "action_repeat": 1, "limit": 0.4},
    "repeat2": {"episode_length": 9, "action_repeat": 2, "limit": 0.4},
}
EVALUATOR_TIMES = ("eval/walltime", "eval/sps", "eval/epoch_eval_time")


def record_evaluator(store: Store) -> None:
    """Metrics of Brax's evaluator with a deterministic policy: `evaluator`."""
    network = NETWORK_DEFAULT | {"hidden": [12, 7]}
    nets, random = build(network), np.random.RandomState(310)
    parameters = jitter(init(nets, 3), random, 0.3)
    mean, std = 0.1 * normal(random, OBSERVATIONS), np.exp(0.1 * random.randn(OBSERVATIONS)).astype(np.float32)
    make_policy = functools.partial(ppo_networks.make_inference_fn(nets), deterministic=True)
    for name, settings in EVALUATOR_CASES.items():
        length, repeat = settings["episode_length"], settings["action_repeat"]
        env, key = wrappers.wrap(ToyEnv(settings["limit"]), length, repeat), jax.random.PRNGKey(77)
        evaluator = acting.Evaluator(
            env, make_policy, num_eval_envs=EVALUATOR_ENVS, episode_length=length, action_repeat=repeat, key=key
        )
        policy_parameters = (normalizer(mean, std), parameters.policy, parameters.value)
        metrics = evaluator.run_evaluation(policy_parameters, training_metrics={"training/x": 1.0})
        unroll_key = jax.random.split(key)[1]
        start = env.reset(jax.random.split(unroll_key, EVALUATOR_ENVS)).pipeline_state["x"]
        case = f"evaluator/{name}"
        store.put(f"{case}/cfg", settings | {"net": network, "deterministic": True})
        store.put_all(f"{case}/in", {"policy": flatten(parameters.policy), "mean": mean, "std": std, "x0": start})
        store.put_spec(case, policy=parameters.policy)
        values = {
            metric.removeprefix("eval/"): value
            for metric, value in metrics.items()
            if metric.startswith("eval/") and metric not in EVALUATOR_TIMES
        }
        store.put_outputs(case, values | {"metric_names": np.array(sorted(metrics))})


LOGGER_SETTINGS = {"buffer_size": 10, "steps_between_logging": 100}
LOGGER_UPDATES, LOGGER_SHAPE, LOGGER_LOSSES = 7, (8, 5), (2, 3)
LOGGER_QUIET = 1  # the update in which no episode ends


def record_episode_logger(store: Store) -> None:
    """Brax's logger of episode metrics, fed one training step after the other: `eplog`."""
    random, logged = np.random.RandomState(320), []
    episodes = logger.EpisodeMetricsLogger(
        **LOGGER_SETTINGS, progress_fn=lambda step, metrics: logged.append((step, metrics))
    )
    store.put("eplog/case/cfg", LOGGER_SETTINGS)
    for i in range(LOGGER_UPDATES):
        dones = (random.rand(*LOGGER_SHAPE) < (0.0 if i == LOGGER_QUIET else 0.15)).astype(np.float32)
        metrics = {
            "sum_reward": normal(random, *LOGGER_SHAPE),
            "length": random.randint(1, 30, LOGGER_SHAPE).astype(np.float32),
            "effort_per_step": random.rand(*LOGGER_SHAPE).astype(np.float32) * 10,
        }
        training = {"total_loss": normal(random, *LOGGER_LOSSES)}
        before = len(logged)
        episodes.update_episode_metrics(
            jax.tree_util.tree_map(jnp.asarray, metrics),
            jnp.asarray(dones),
            jax.tree_util.tree_map(jnp.asarray, training),
        )
        store.put_all(f"eplog/case/in/update{i}", {"dones": dones} | metrics | training)
        outputs = {"logged": np.int64(len(logged) - before)}
        if len(logged) > before:
            step, means = logged[-1]
            outputs["num_steps"] = np.int64(step)
            outputs |= {key.replace("episode/", "mean_"): mean for key, mean in means.items() if key != "episode/sps"}
        store.put_all(f"eplog/case/out/update{i}", outputs)
