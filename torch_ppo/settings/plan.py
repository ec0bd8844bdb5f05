"""What a configuration amounts to, printed before a run starts."""

from torch_ppo.settings.config import Config


def summary(config: Config) -> str:
    """What the batch arithmetic amounts to, in a few lines; batch_size is misread by nearly everyone."""
    c = config
    evals = [f"{steps:,}" for steps in c.eval_env_steps]
    shown = ", ".join(evals) if len(evals) <= 4 else ", ".join([*evals[:3], "...", evals[-1]])
    minibatch = f"{c.batch_size:,} sequences of {c.unroll_length} = {c.batch_size * c.unroll_length:,} transitions"
    if c.minibatch_of == "transitions":
        minibatch = f"{c.batch_size:,} transitions, drawn one by one"
    repeated = f", action repeated {c.action_repeat} times" if c.action_repeat > 1 else ""
    step = (
        f"{c.env_step_per_training_step:,} env steps: {c.num_unrolls_per_env:,} unrolls of {c.unroll_length} "
        f"in each of {c.num_envs:,} envs{repeated}"
    )
    sgd = (
        f"{c.sgd_steps_per_training_step:,} steps per training step: {c.num_updates_per_batch} passes "
        f"over {c.num_minibatches} minibatches"
    )
    run = (
        f"{c.num_epochs:,} epochs of {c.num_training_steps_per_epoch:,} training steps = "
        f"{c.total_env_steps:,} env steps ({c.num_timesteps:,} asked for)"
    )
    evaluations = f"{len(evals)} at {shown}" if evals and c.run_evals else "none"
    rows = {"training step": step, "minibatch": minibatch, "SGD": sgd, "run": run, "evaluations": evaluations}
    return "\n".join(f"{name:>14}  {text}" for name, text in rows.items())
