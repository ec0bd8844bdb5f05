"""The training loop: training steps, reports and when they come; what is printed and kept is its callers' affair."""

import math
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from torch_ppo.errors import UserError
from torch_ppo.learning.policy import MakePolicy, Params, params_of, policy_maker
from torch_ppo.learning.train_step import training_step
from torch_ppo.learning.update import METRICS
from torch_ppo.running.broken_cases import broken_lines, too_many_broken, why_not_a_number
from torch_ppo.running.checkpoint import save_checkpoint
from torch_ppo.running.evaluate import EvaluationStopped
from torch_ppo.running.training_state import TrainingState

Metrics = dict[str, float]
TOTAL_LOSS = METRICS.index("total_loss")


class DivergedError(UserError):
    """The loss is no longer a number."""


class BrokenWorldsError(UserError):
    """More worlds broke than `max_broken_fraction` allows."""


def warn_once_here(text: str) -> None:
    """What the library call does with a warning about the run: a Python warning, at the caller's line."""
    frame, level = sys._getframe(1), 2
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "torch_ppo":
        frame, level = frame.f_back, level + 1
    warnings.warn(text, stacklevel=level)


def run(
    state: TrainingState,
    *,
    progress_fn: Callable[[int, Metrics], object] = lambda step, metrics: None,
    policy_params_fn: Callable[[int, MakePolicy, Params], object] = lambda step, make_policy, params: None,
    save: Callable[[TrainingState, bool], None] = lambda state, best: None,
    should_stop: Callable[[TrainingState], bool] = lambda state: False,
    warn: Callable[[str], None] = warn_once_here,
) -> Metrics:
    """Trains until the end, or until `should_stop` after a training step. Returns the last reported metrics.

    The callbacks come where Brax has them. `save(state, best)` follows each report, also where `progress_fn` raises.
    Raises EvaluationStopped if the evaluator's `should_stop` said so; a resumed run makes that evaluation again.
    """
    config, metrics = state.config, {}
    make_policy = policy_maker(state.agent)
    if state.training_steps == 0:
        if state.evaluator and config.num_evals > 1:
            metrics = evaluated(state)
            progress_fn(0, metrics)
        policy_params_fn(0, make_policy, params_of(state.agent))

    while state.training_steps < config.num_training_steps or state.report_is_due:
        if not state.report_is_due:  # else the run was stopped in an evaluation, which is made again
            take_training_step(state, progress_fn)
            if config.num_resets_per_eval and state.training_steps % config.num_training_steps_per_epoch == 0:
                state.env.reset()
        if state.report_is_due:
            policy_params_fn(state.env_steps, make_policy, params_of(state.agent))
            metrics, best = report(state, warn)
            try:
                if config.num_evals > 0:
                    progress_fn(state.env_steps, metrics)
            finally:  # raising is a way to stop: what was reached is kept. A log comes before the checkpoint it leads to.
                save(state, best)
        if state.devices.any(should_stop(state)):
            break
    return metrics if config.num_evals > 0 else {}


def take_training_step(state: TrainingState, progress_fn: Callable[[int, Metrics], object]) -> None:
    """One training step and its bookkeeping. On CUDA it only queues work, and waits for the step before."""
    started = time.perf_counter()
    metrics = training_step(state.collector, state.learner, state.clock.mark)
    means = metrics.mean(0)
    state.interval_sums += means
    state.collector.diagnostics.look_at_updates(metrics)
    check_last_step(state, collected=state.env_steps + state.config.env_step_per_training_step)
    state.clock.settle(still_running=1)
    batch = state.batch
    watched = torch.stack([means[TOTAL_LOSS], batch.broken.ne(0).float().mean(), batch.reward.abs().max()])
    state.last_step.write(state.devices.mean_(watched))
    state.training_steps += 1
    state.interval_steps += 1
    episode = None
    if state.config.log_training_metrics:
        losses = dict(zip(state.learner.metric_names, metrics.unbind(1), strict=True))
        # Time is the first axis of the batch; episodes are counted sequence by sequence, as in Brax.
        gathered = state.devices.gathered
        totals = {name: gathered(total.T) for name, total in state.batch.episode_metrics.items()}
        episode = state.episode_metrics.update(gathered(state.batch.episode_done.T), totals, losses)
    seconds = time.perf_counter() - started
    state.add_time(seconds)
    if episode:
        episode["episode/sps"] = state.config.env_step_per_training_step / seconds
        progress_fn(state.env_steps, episode)


def check_last_step(state: TrainingState, *, collected: int) -> None:
    """DivergedError if the loss of the last training step is inf or NaN, BrokenWorldsError if it broke too many worlds."""
    loss, broken, peak_reward = state.last_step.read()
    if not math.isfinite(loss):
        raise DivergedError(
            f"the loss became {loss} at {state.env_steps:,} env steps; {why_not_a_number(state, peak_reward)}"
        )
    if broken > state.config.max_broken_fraction:
        raise BrokenWorldsError(too_many_broken(state, broken, collected))


def report(state: TrainingState, warn: Callable[[str], None] = warn_once_here) -> tuple[Metrics, bool]:
    """Evaluates, and averages the loss metrics since the last report; also whether this is the best evaluation.

    Brax averages the last epoch only and overstates sps with several resets per evaluation; this is the whole interval.
    """
    started = time.perf_counter()
    sums = state.interval_sums.tolist()  # here the host waits for the device
    state.add_time(time.perf_counter() - started)
    check_last_step(state, collected=state.env_steps)
    for line in broken_lines(state):
        warn(line)
    n = state.interval_steps
    metrics = {f"training/{name}": total / n for name, total in zip(state.learner.metric_names, sums, strict=True)}
    metrics |= interior(state)
    metrics["training/sps"] = n * state.config.env_step_per_training_step / state.interval_time
    metrics["training/walltime"] = state.walltime
    devices, broken = state.devices, state.env.broken
    metrics |= broken.metrics_by_cause("training", devices.sum_(broken.counts.clone()))
    metrics["training/overflowed_envs"] = float(devices.total(int(state.env.overflowed)))
    evaluation = evaluated(state) if state.evaluator else {}
    state.interval_sums.zero_()
    state.interval_steps, state.interval_time = 0, 0.0
    state.collector.diagnostics.clear()
    state.clock.clear()
    best = False
    if evaluation:
        metrics = {**evaluation, **metrics}
        reward = metrics["eval/episode_reward"]
        # NaN is never the best, and has to be none where it once became it.
        best = math.isfinite(reward) and (state.best is None or not reward <= state.best["reward"])
        if best:
            state.best = {"reward": reward, "env_steps": state.env_steps}
    return metrics, best


def interior(state: TrainingState) -> Metrics:
    """What else is known of the training since the last report; also leaves `state.histograms`."""
    found, histograms = state.collector.diagnostics.read()
    state.histograms = {f"training/{name}": histogram for name, histogram in histograms.items()}
    state.clock.settle(still_running=0)
    found |= state.clock.metrics(state.config.env_step_per_training_step)
    if state.device.type == "cuda":
        free, total = torch.cuda.mem_get_info(state.device)
        found["device_memory_gib"] = (total - free) / 2**30
    return {f"training/{name}": value for name, value in found.items()}


def evaluated(state: TrainingState) -> Metrics:
    """An evaluation. One that is given up leaves the random state as it was, so that it can be made again."""
    before = {name: state.generators[name].get_state() for name in ("eval", "eval_env")}
    try:
        return state.evaluator()
    except EvaluationStopped:
        for name, numbers in before.items():
            state.generators[name].set_state(numbers)
        raise


def save_extra(state: TrainingState, best: bool) -> None:
    """A checkpoint in `save_checkpoint_path`, named by env steps, if the configuration sets one. DiskError if not."""
    if state.config.save_checkpoint_path is not None and not state.devices.rank:
        save_checkpoint(state.checkpoint(), Path(state.config.save_checkpoint_path) / f"{state.env_steps:012d}.pt")
