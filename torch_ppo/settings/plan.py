"""What a configuration amounts to, printed before a run starts, and what in it is seldom meant."""

from collections.abc import Mapping
from types import MappingProxyType

from torch_ppo.settings.config import Config

MAX_OVERSHOOT = 0.10  # share of num_timesteps by which a run may be longer without a warning
LONG_RUN = 1800.0  # seconds


def summary(config: Config, pixel_bytes: Mapping[str, int] = MappingProxyType({})) -> str:
    """What the batch arithmetic amounts to, in a few lines; batch_size is misread by nearly everyone.

    pixel_bytes:  of one transition, by observation of pixels
    """
    c = config
    evals = [f"{steps:,}" for steps in c.eval_env_steps]
    shown = ", ".join(evals) if len(evals) <= 4 else ", ".join([*evals[:3], "...", evals[-1]])
    minibatch = (
        f"{_counted(c.batch_size, 'sequence')} of {c.unroll_length} = {c.batch_size * c.unroll_length:,} transitions"
    )
    if c.minibatch_of == "transitions":
        minibatch = f"{c.batch_size:,} transitions, drawn one by one"
    repeated = f", action repeated {c.action_repeat} times" if c.action_repeat > 1 else ""
    step = (
        f"{c.env_step_per_training_step:,} env steps: {_counted(c.num_unrolls_per_env, 'unroll')} of {c.unroll_length} "
        f"in each of {_counted(c.num_envs, 'env')}{repeated}"
    )
    sgd = (
        f"{_counted(c.sgd_steps_per_training_step, 'step')} per training step: "
        f"{_counted(c.num_updates_per_batch, 'pass', 'passes')} over {_counted(c.num_minibatches, 'minibatch', 'minibatches')}"
    )
    run = (
        f"{_counted(c.num_epochs, 'epoch')} of {_counted(c.num_training_steps_per_epoch, 'training step')} = "
        f"{c.total_env_steps:,} env steps ({c.num_timesteps:,} asked for)"
    )
    evaluations = f"{len(evals)} at {shown}" if evals and c.run_evals else "none"
    rows = {"training step": step, "minibatch": minibatch, "SGD": sgd, "run": run}
    if pixel_bytes:
        transitions = c.num_unrolls * c.unroll_length
        each = ", ".join(f"{key} {size:,}" for key, size in pixel_bytes.items())
        rows["pixels"] = (
            f"{each} bytes in each of {transitions:,} transitions of a training step = "
            f"{sum(pixel_bytes.values()) * transitions / 1e6:,.0f} MB"
        )
    if c.num_resets_per_eval:
        between, length = steps_between_resets(c), c.episode_length
        of_episode = f" of their {length:,} steps" if length and between < length else " steps"
        whole = f"; an episode has {length:,}" if length and between >= length else ""
        rows["resets"] = f"all envs start anew after every {between:,}{of_episode}{whole}"
    rows["evaluations"] = evaluations
    lines = [f"{name:>14}  {text}" for name, text in rows.items()]
    return "\n".join([*lines, *(f"warning: {text}" for text in doubts(c))])


def _counted(number: int, one: str, several: str = "") -> str:
    """1 epoch, 2 epochs."""
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"


def steps_between_resets(config: Config) -> int:
    """Env steps of each env in one epoch, after which all are reset if num_resets_per_eval says so."""
    each = config.env_step_per_training_step // config.num_envs
    return each * config.num_training_steps_per_epoch


def doubts(config: Config) -> list[str]:
    """What works, but is seldom meant; a line on each."""
    c, found = config, []
    between = steps_between_resets(c)
    # random_episode_phase changes nothing here: it moves the time limit, and the start states are the same.
    if c.num_resets_per_eval and c.episode_length and between < c.episode_length:
        found.append(
            f"all envs start anew after every {between:,} of their {c.episode_length:,} steps: later states are never "
            "trained on"
        )
    if c.total_env_steps > (1 + MAX_OVERSHOOT) * c.num_timesteps:
        unit = c.num_epochs * c.env_step_per_training_step  # the run is a multiple of this
        ratio = c.total_env_steps / c.num_timesteps
        longer = f"{ratio - 1:.0%} longer than" if ratio < 2 else f"{ratio:.1f} times as long as"
        each = f" in each of {c.num_epochs:,} epochs" if c.num_epochs > 1 else ""
        fitting = " or ".join(f"{steps}" for steps in (c.total_env_steps - unit, c.total_env_steps) if steps)
        found.append(
            f"the run is {longer} asked for, as it has whole training steps of {c.env_step_per_training_step:,} env "
            f"steps{each}; num_timesteps {fitting} would fit"
        )
    return found


def time_needed(config: Config, training_steps: int, seconds: float) -> list[str]:
    """What to say of a run whose first training steps took so many seconds: nothing, unless it is a long one."""
    left = seconds / training_steps * (config.num_training_steps - training_steps)
    if left < LONG_RUN:
        return []
    return [f"at this rate {hours_and_minutes(left)} to {config.total_env_steps:,} env steps, evaluations not counted"]


def hours_and_minutes(seconds: float) -> str:
    """9 h 59 m, or 3 d 4 h."""
    minutes = round(seconds / 60)
    hours, days = minutes // 60, minutes // 1440
    return f"{days} d {hours % 24} h" if days else f"{hours} h {minutes % 60} m"
