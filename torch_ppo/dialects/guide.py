"""Brax's words in the sense in which a widely read guide explains them, which is not Brax's.

In that sense an update collects num_envs * unroll_length transitions, batch_size is their number, and num_minibatches
divides it: a minibatch has batch_size / num_minibatches transitions. In Brax, batch_size is the number of sequences in
one minibatch, and num_minibatches such minibatches are collected.
"""

from torch_ppo.dialects import brax
from torch_ppo.dialects.reading import Reading
from torch_ppo.dialects.rollout import require_divisor, sequences_per_minibatch, transitions_per_minibatch
from torch_ppo.dialects.writing import Writing, to_python
from torch_ppo.errors import ConfigError

ABOUT = "Brax's words where batch_size is the transitions of an update, before it is split into minibatches"

KEYS = brax.KEYS


def read(values: dict[str, object], where: str, reading: Reading, num_envs: int | None) -> None:
    """Our settings from Brax's words in the guide's sense."""
    brax.read_same_words(values, where, reading, num_envs)
    for name in brax.BATCH:
        if name not in reading.settings:
            raise ConfigError(f"{where} does not set {name}, without which the size of its updates is not known")
        if not isinstance(reading.settings[name], int) or reading.settings[name] < 1:
            raise ConfigError(f"{name} is {reading.settings[name]!r} in {where}, but must be an int greater than 0")
    envs, length, batch, number = (reading.settings[name] for name in brax.BATCH)
    if batch != envs * length:
        raise ConfigError(_readings(where, envs, length, batch, number))
    product = f"num_envs * unroll_length = {envs} * {length}"
    require_divisor("num_minibatches", number, batch, product, "minibatches would not be whole")
    says = f"batch_size = {batch} transitions in {number} minibatches"
    sequences = sequences_per_minibatch(envs, number)
    if sequences is not None:
        reading.set(f"{says} of {batch // number}", batch_size=sequences)
    else:
        size = transitions_per_minibatch(envs, length, number)
        reading.set(f"{says} of {size}", batch_size=size, minibatch_of="transitions", gae_per="batch")


def _readings(where: str, envs: int, length: int, batch: int, number: int) -> str:
    """What each reading of a batch_size that is not num_envs * unroll_length amounts to, in one line."""
    total = envs * length
    readings = [
        f"batch_size = {total} gives minibatches of {total / number:g} transitions",
        (
            f"--dialect brax gives minibatches of {batch} sequences = {batch * length} transitions, "
            f"{batch * length * number} per training step"
        ),
    ]
    if batch % envs == 0:
        readings.insert(1, f"unroll_length = {batch // envs} gives minibatches of {batch / number:g}")
    return (
        f"batch_size = {batch} in {where} contradicts num_envs * unroll_length = {envs} * {length} = {total}, the "
        f"transitions that an update collects in this sense; " + "; ".join(readings)
    )


def write(writing: Writing) -> str:
    """ppo_config = dict(...) in which batch_size is the transitions of an update."""
    config = writing.config
    text = brax.write(writing)
    steps = config.num_unrolls_per_env * config.unroll_length
    if config.num_unrolls_per_env > 1:
        writing.differs.append(
            f"unroll_length = {config.unroll_length}, {config.num_unrolls_per_env} unrolls: advantages are cut off every "
            f"{config.unroll_length} steps here, after {steps} there"
        )
    batch = {
        "num_envs": config.num_envs,
        "unroll_length": steps,
        "batch_size": config.num_envs * steps,
        "num_minibatches": config.num_minibatches,
    }
    lines = [line for line in text.splitlines(True) if line.strip().partition("=")[0] not in brax.BATCH]
    return "".join([lines[0], *to_python(batch, "").splitlines(True)[1:-1], *lines[1:]])
