"""The words in which all but Brax speak: a rollout of num_steps in every env, cut into minibatches of transitions.

The conversions of units are pure functions of counts.
"""

import math
from typing import NamedTuple

from torch_ppo.dialects.reading import Reading, Source, shown
from torch_ppo.dialects.writing import Writing
from torch_ppo.errors import ConfigError

MAX_TRANSITIONS = 2**40  # of a rollout: beyond, nobody waits for its divisors


def nearest_divisors(total: int, number: int) -> list[int]:
    """The largest divisor of `total` below `number` and the smallest above it, as far as there are any."""
    small = [n for n in range(1, math.isqrt(total) + 1) if total % n == 0]
    divisors = sorted({*small, *(total // n for n in small)})
    return [n for n in divisors if n < number][-1:] + [n for n in divisors if n > number][:1]


def require_divisor(name: str, number: int, total: int, product: str, otherwise: str) -> None:
    """ConfigError unless `number` divides `total` transitions; `otherwise` says what their library would do."""
    if number < 1 or total < 1:
        raise ConfigError(f"{name} is {number} of {total} transitions ({product}), but both must be greater than 0")
    if total % number:
        if total > MAX_TRANSITIONS:
            raise ConfigError(f"{product} = {shown(total)} transitions are more than any machine holds")
        fits = " or ".join(map(str, nearest_divisors(total, number)))
        raise ConfigError(
            f"{name} = {number} does not divide {product} = {total} transitions: "
            f"{otherwise.format(rest=total % number)}; {name} {fits} would work"
        )


def transitions_per_minibatch(num_envs: int, num_steps: int, num_minibatches: int) -> int:
    """Transitions in one minibatch of a rollout that splits evenly."""
    return num_envs * num_steps // num_minibatches


def minibatches_per_rollout(num_envs: int, num_steps: int, minibatch: int) -> int:
    """Minibatches of `minibatch` transitions in a rollout that splits evenly."""
    return num_envs * num_steps // minibatch


def sequences_per_minibatch(num_envs: int, num_minibatches: int) -> int | None:
    """Whole sequences of a rollout, one per env, in one minibatch; None if they do not split evenly."""
    return None if num_envs % num_minibatches else num_envs // num_minibatches


def take_num_envs(source: Source, key: str, override: int | None, where_it_is: str) -> int:
    """The number of envs: the command line's, else the file's."""
    value = override if override is not None else source.take(key, int, 0)
    if value <= 0:
        raise ConfigError(f"{source.where} does not say how many envs ({where_it_is}); --num-envs 4096 would do")
    return value


def set_rollout(reading: Reading, says: str, *, num_envs: int, num_steps: int, num_minibatches: int) -> None:
    """The rollout in our units: unroll_length is the whole rollout, minibatches are single transitions."""
    batch_size = transitions_per_minibatch(num_envs, num_steps, num_minibatches)
    reading.set(
        says,
        num_envs=num_envs,
        unroll_length=num_steps,
        batch_size=batch_size,
        num_minibatches=num_minibatches,
        minibatch_of="transitions",
    )
    reading.set("advantages of the PPO paper, once per rollout", gae="textbook", gae_per="batch")
    reading.set("a finished env starts anew", auto_reset="fresh")


def set_steps(reading: Reading, says: str, *, iterations: int, per_iteration: int) -> None:
    """A run of whole iterations in env steps."""
    if iterations < 1:
        raise ConfigError(f"{says} is not one iteration of {shown(per_iteration)} env steps; {per_iteration} would be")
    reading.set(
        f"{says}, {shown(iterations)} iterations of {shown(per_iteration)}", num_timesteps=iterations * per_iteration
    )


def set_gaussian(reading: Reading, says: str, init_std: float, kind: str) -> None:
    """A normal distribution with a standard deviation of its own, `kind` scalar or log."""
    reading.set(says, distribution_type="normal", noise_std_type=kind, init_noise_std=init_std)


def set_orthogonal(reading: Reading, says: str) -> None:
    """Orthogonal weights with gains sqrt(2) inside, 0.01 for the mean and 1 for the value, as near as we come."""
    reading.set(
        says,
        policy_network_kernel_init_fn="orthogonal",
        value_network_kernel_init_fn="orthogonal",
        mean_kernel_init_fn="zeros",
    )
    reading.differs.append(
        "orthogonal weights have gain sqrt(2) in hidden layers and 0.01 in the mean's there; 1 and 0 here"
    )


def set_seed(reading: Reading, source: Source, default: int | None) -> None:
    """The seed; none or a negative one is drawn anew there, and 0 here."""
    seed = source.take("seed", int, default)
    if seed is None or seed < 0:
        reading.differs.append(f"{source.says('seed', seed)}: drawn anew there; seed = 0 here")
    else:
        reading.set(source.says("seed", seed), seed=seed)


def activation_of(source: Source, key: str, default: str, names: dict[str, str]) -> tuple[str, str]:
    """Theirs as it is written and ours, of an activation."""
    theirs = source.take(key, str, default)
    word = theirs.rpartition(".")[2]
    if word not in names:
        raise ConfigError(f"{key} is {theirs!r} in {source.where}, but must be one of {', '.join(names)}")
    return source.says(key, theirs), names[word]


def activation_word(writing: Writing, names: dict[str, str]) -> str:
    """Their word for our activation."""
    ours = writing.take("activation")
    words = {name: word for word, name in names.items()}
    words["silu"] = words.get("swish")
    if words.get(ours) is None:
        raise ConfigError(f"activation is {ours!r}, for which they have no word; {', '.join(names.values())} have one")
    return words[ours]


TORCH_INIT = (
    "weights and biases start uniform within 1 / sqrt(inputs) there (PyTorch's default); lecun_uniform here is "
    "sqrt(3) times as wide, biases start at 0"
)
FIXED_MINIBATCHES = "every pass uses the same minibatches there; passes are shuffled anew here"
BATCH_ADVANTAGE = "advantages are standardised over the whole rollout there; within each minibatch here"
CURRENT_VALUE = (
    "at the time limit the value of the observation before the last step is added there, of the one after it here"
)
UNCLIPPED_MAXIMUM = (
    "the value loss is that of the clipped value there; the larger one of clipped and unclipped (as in Brax) here"
)


FALL = "what falls is constant within an iteration there, and falls with every SGD step here"
REWARD_SCALE = "rewards are divided by the deviation at each step there, by that of the whole batch at its end here"
AFTER_PASSES = "after the SGD passes"


def say_when_normalized(reading: Reading, there: str) -> None:
    """When the normalizer is updated, if not at the same time; after the schedules have been read."""
    follows_kl = reading.settings.get("learning_rate_schedule") == "ADAPTIVE_KL" or "target_kl" in reading.settings
    here = AFTER_PASSES if follows_kl else "before the SGD passes"
    if here != there:
        reading.differs.append(f"the normalizer is updated {there} there, {here} of each training step here")


class Rollout(NamedTuple):
    """Our batch in their units."""

    num_envs: int
    num_steps: int
    minibatch: int
    num_minibatches: int
    num_passes: int

    @property
    def transitions(self) -> int:
        """Transitions in a rollout."""
        return self.num_envs * self.num_steps


def rollout_of(writing: Writing) -> Rollout:
    """Our batch as a rollout; a training step of several unrolls per env becomes one rollout of all their steps."""
    num_envs, unroll_length = writing.take("num_envs"), writing.take("unroll_length")
    batch_size, num_minibatches = writing.take("batch_size"), writing.take("num_minibatches")
    unrolls = writing.config.num_unrolls_per_env
    minibatch = batch_size * (unroll_length if writing.take("minibatch_of") == "sequences" else 1)
    num_steps = unrolls * unroll_length
    if unrolls > 1:
        writing.differs.append(
            f"unroll_length = {unroll_length}: advantages are cut off every {unroll_length} steps here, "
            f"after the whole rollout of {num_steps} there"
        )
    writing.expect(gae="textbook", gae_per="batch", auto_reset="fresh", action_repeat=1)
    if writing.config.minibatch_of == "sequences":
        writing.differs.append("minibatches are sequences here, single transitions there")
    writing.converted.append(
        f"{num_envs} envs * {num_steps} steps in {num_minibatches} minibatches of {minibatch} transitions"
    )
    return Rollout(num_envs, num_steps, minibatch, num_minibatches, writing.take("num_updates_per_batch"))


def iterations_of(writing: Writing, rollout: Rollout) -> int:
    """Iterations of `rollout` in the run, at least as many env steps as asked for."""
    return -(-writing.take("num_timesteps") // rollout.transitions)


def falls_to_zero(writing: Writing) -> dict[str, bool]:
    """Which of learning_rate and clipping_epsilon fall linearly to 0; any other schedule is an entry of `differs`."""
    config = writing.config
    for name in ("learning_rate", "learning_rate_schedule", "learning_rate_final_fraction"):
        writing.take(name)
    for name in ("clipping_epsilon", "clipping_epsilon_final"):
        writing.take(name)
    rate = config.learning_rate_schedule == "LINEAR" and config.learning_rate_final_fraction == 0
    if config.learning_rate_schedule not in (None, "NONE") and not rate:
        writing.differs.append(f"learning_rate_schedule = {config.learning_rate_schedule}: constant there")
    clip = config.clipping_epsilon_final == 0
    if config.clipping_epsilon_final is not None and not clip:
        writing.differs.append(f"clipping_epsilon_final = {config.clipping_epsilon_final:g}: constant there")
    return {"learning_rate": rate, "clipping_epsilon": clip}


def initial_std(writing: Writing, *kinds: str) -> float:
    """The initial standard deviation; `kinds` are the parametrisations that they have, the first the default."""
    writing.expect(distribution_type="normal", state_dependent_std=False)
    if writing.take("noise_std_type") not in kinds:
        writing.differs.append(f"noise_std_type = {writing.config.noise_std_type} here, {kinds[0]} there")
    return writing.take("init_noise_std")


def is_orthogonal(writing: Writing) -> bool:
    """Whether both networks start from orthogonal weights."""
    names = "policy_network_kernel_init_fn value_network_kernel_init_fn mean_kernel_init_fn".split()
    policy, value, _ = (writing.take(name) for name in names)
    writing.differs.append("initial weights: see the page on dialects")
    return policy == value == "orthogonal"
