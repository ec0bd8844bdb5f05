"""Groups of one function each: advantages, running statistics, the adaptive learning rate, the quantile loss."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from brax.training.acme import running_statistics
from brax.training.agents.ppo import losses, optimizer

from tools.golden.noise import normal
from tools.golden.store import Cases, Store


@dataclass(frozen=True)
class GaeCase:
    """Sequences of a length, and where they end: with a probability in every step, or at given (step, sequence)."""

    shape: tuple[int, int] = (5, 8)
    truncation: float | tuple[tuple[int, int], ...] = 0.0
    termination: float | tuple[tuple[int, int], ...] = 0.0
    lambda_: float = 0.95
    discount: float = 0.97


GAE_CASES = {
    "plain": GaeCase(),
    "termination": GaeCase(termination=0.3),
    "truncation": GaeCase(truncation=0.3),
    "mixed": GaeCase((20, 16), truncation=0.15, termination=0.15, lambda_=0.9, discount=0.99),
    "lambda0": GaeCase(truncation=0.2, lambda_=0.0),
    "lambda1": GaeCase(termination=0.2, lambda_=1.0),
    "one_step": GaeCase((1, 6), truncation=((0, 1), (0, 4)), termination=((0, 2), (0, 5))),
    "ends_first_last": GaeCase((5, 4), truncation=((4, 0),), termination=((0, 1),)),
    # The trainer never produces it.
    "both_flags": GaeCase((4, 3), truncation=((1, 0), (3, 2)), termination=((1, 0), (3, 2)), discount=0.9),
}


def ends(random: np.random.RandomState, case: GaeCase) -> tuple[np.ndarray, np.ndarray]:
    """Flags of truncation and termination; where both are random, never both in one step."""
    flags = []
    for where in (case.truncation, case.termination):
        flag = np.zeros(case.shape, np.float32)
        if isinstance(where, tuple):
            flag[tuple(zip(*where, strict=True))] = 1
        elif where:
            flag[random.rand(*case.shape) < where] = 1
            flag *= 1 - sum(flags)
        flags.append(flag)
    return flags[0], flags[1]


def gae_inputs() -> Cases:
    """Random rewards and values for each case."""
    random, cases = np.random.RandomState(0), {}
    for name, case in GAE_CASES.items():
        truncation, termination = ends(random, case)
        cases[name] = {
            "cfg": {"lambda_": case.lambda_, "discount": case.discount},
            "truncation": truncation,
            "termination": termination,
            "rewards": normal(random, *case.shape),
            "values": normal(random, *case.shape),
            "bootstrap_value": normal(random, case.shape[1]),
        }
    return cases


def record_gae(store: Store) -> None:
    """Generalized advantage estimation: the group `gae`."""
    for name, case in store.group("gae", gae_inputs).items():
        settings = case.pop("cfg")
        targets, advantages = losses.compute_gae(**case, **settings)
        store.put_outputs(f"gae/{name}", {"vs": targets, "advantages": advantages})


STATISTICS_BATCHES = ((8, 5), (8, 5), (16, 3), (4, 7))
FEATURE_MEAN = np.array([0.0, 3.0, -20.0, 0.5])
FEATURE_STD = np.array([1.0, 0.2, 5.0, 30.0])
STATISTICS_CASES = {  # settings, and whether feature 0 is constant
    "welford": ({"mode": "welford", "std_eps": 0.0, "until_count": None}, False),
    "welford_eps": ({"mode": "welford", "std_eps": 0.01, "until_count": None}, False),
    "welford_until": ({"mode": "welford", "std_eps": 0.0, "until_count": 60}, False),
    "welford_constant": ({"mode": "welford", "std_eps": 0.0, "until_count": None}, True),
    "ema": ({"mode": "ema", "std_eps": 0.0, "until_count": None}, False),
    "ema_eps": ({"mode": "ema", "std_eps": 0.01, "until_count": None}, False),
    "ema_until": ({"mode": "ema", "std_eps": 0.0, "until_count": 100}, False),
}


def statistics_inputs() -> Cases:
    """Batches of observations whose mean and spread grow."""
    random, cases = np.random.RandomState(3), {}
    for name, (settings, constant) in STATISTICS_CASES.items():
        cases[name] = {"cfg": settings}
        for i, shape in enumerate(STATISTICS_BATCHES):
            noise = random.randn(*shape, len(FEATURE_MEAN))
            batch = (FEATURE_MEAN + 0.3 * i + FEATURE_STD * (1 + 0.2 * i) * noise).astype(np.float32)
            if constant:
                batch[..., 0] = 3.0
            cases[name][f"batch{i}"] = batch
    return cases


def record_running_statistics(store: Store) -> None:
    """The observation normalizer, fed batch after batch: the group `rstats`."""
    for name, case in store.group("rstats", statistics_inputs).items():
        settings = case["cfg"]
        state = running_statistics.init_state(
            jnp.zeros(FEATURE_MEAN.shape), std_eps=settings["std_eps"], mode=settings["mode"]
        )
        outputs: dict[str, Any] = {}
        for i in range(len(STATISTICS_BATCHES)):
            batch = case[f"batch{i}"]
            state = running_statistics.update(state, batch, until_count=settings["until_count"])
            outputs[f"mean{i}"] = state.mean
            outputs[f"std{i}"] = state.std
            outputs[f"summed_variance{i}"] = state.summed_variance
            outputs[f"count{i}"] = np.int64(int(state.count))
            outputs[f"normalized{i}"] = running_statistics.normalize(batch, state)
        store.put_outputs(f"rstats/{name}", outputs)


# Zero, negative, and exactly half and twice the desired KL; then up to the highest rate, and down to the lowest.
KL_SEQUENCE = np.array(
    [0.0, 1e-5, 0.004, 0.005, 0.0051, 0.01, 0.02, 0.0201, 0.5, 0.5, -0.1, *[0.001] * 10, 3.0, *[1.0] * 20], np.float32
)
LEARNING_RATE_CASES = {
    "default": {"lr0": 3e-4, "desired_kl": 0.01, "min_lr": 1e-5, "max_lr": 1e-2},
    "start_above_max": {"lr0": 2e-2, "desired_kl": 0.01, "min_lr": 1e-5, "max_lr": 1e-2},
    "start_below_min": {"lr0": 1e-6, "desired_kl": 0.01, "min_lr": 1e-5, "max_lr": 1e-2},
    "narrow": {"lr0": 1e-3, "desired_kl": 0.002, "min_lr": 5e-4, "max_lr": 2e-3},
}


def learning_rate_inputs() -> Cases:
    """The same sequence of KLs for each case."""
    return {name: {"cfg": settings, "kl": KL_SEQUENCE} for name, settings in LEARNING_RATE_CASES.items()}


def record_adaptive_lr(store: Store) -> None:
    """The learning rate that follows the KL: the group `adaptive_lr`. Its comparisons are float32, so only there."""
    for name, case in store.group("adaptive_lr", learning_rate_inputs).items():
        settings, rates = case["cfg"], []
        adam = optax.inject_hyperparams(optax.adam)(learning_rate=settings["lr0"])
        state = adam.init(jnp.zeros((1,)))
        for kl in case["kl"]:
            state, rate = optimizer.adaptive_kl_learning_rate(
                state,
                kl,
                settings["desired_kl"],
                min_learning_rate=settings["min_lr"],
                max_learning_rate=settings["max_lr"],
            )
            rates.append(float(rate))
        store.put_outputs(f"adaptive_lr/{name}", {"lr": np.array(rates)})


QUANTILE_CASES = {"kappa1": {"kappa": 1.0}, "kappa0p2": {"kappa": 0.2}}


def quantile_inputs() -> Cases:
    """Quantiles `(5, 6, 8)` and targets `(5, 6)` for each case."""
    random = np.random.RandomState(4)
    return {
        name: {"cfg": settings, "quantiles": normal(random, 5, 6, 8), "targets": normal(random, 5, 6)}
        for name, settings in QUANTILE_CASES.items()
    }


def record_quantile_huber(store: Store) -> None:
    """The loss of a distributional critic and its gradient: the group `quantile_huber`."""
    for name, case in store.group("quantile_huber", quantile_inputs).items():
        loss, gradient = jax.value_and_grad(losses.quantile_huber_loss)(
            case["quantiles"], case["targets"], kappa=case["cfg"]["kappa"]
        )
        store.put_outputs(f"quantile_huber/{name}", {"loss": loss, "grad": gradient})
