"""Writes docs/parameters.md: every parameter, from the field docs in torch_ppo/settings/config.py and from what is below.

    python -m tools.parameters_table

A test holds the page against this, and looks whether the tests named there exist.
"""

import dataclasses
import inspect
import re
from pathlib import Path

from torch_ppo.running.call_arguments import UNSUPPORTED
from torch_ppo.settings.config import Config
from torch_ppo.settings.sections import sections
from torch_ppo.train import train

PAGE = Path(__file__).parents[1] / "docs" / "parameters.md"

# What a parameter goes together with, where its own line does not say it.
INTERACTIONS = {
    "num_timesteps": "rounded up to whole training steps in every interval between evaluations",
    "num_envs": "must divide batch_size * num_minibatches",
    "episode_length": "counts env steps, so action_repeat policy steps fewer; an episode cut by it is a truncation",
    "action_repeat": "multiplies the env steps of a training step; an end before the last repeat goes unseen (Brax)",
    "num_resets_per_eval": "splits each interval into that many epochs; the number of training steps is rounded up in each",
    "random_episode_phase": "keeps to its place until the next full reset, which draws anew",
    "auto_reset": "with cached, num_resets_per_eval or none decides how often start states are new; a task's each_episode "
    "is new in any case",
    "max_broken_fraction": "a training step is batch_size * num_minibatches * unroll_length policy steps",
    "normalizer_clip": "acts with normalize_observations; 10 is common; a change for good is followed in a few updates",
    "randomize": "needs a task with `randomize` or `randomize_episode`; the library call takes a `randomization_fn` instead",
    "unroll_length": "a training step is batch_size * num_minibatches * unroll_length * action_repeat env steps",
    "batch_size": "batch_size * num_minibatches must be a multiple of num_envs",
    "num_minibatches": "with num_updates_per_batch: the SGD steps of a training step",
    "num_updates_per_batch": "more passes take larger steps away from the policy that acted: see clipping_epsilon, target_kl",
    "discounting": "per policy step: with action_repeat it spans as many env steps",
    "reward_scaling": "acts after normalize_rewards and reward_clip; entropy_cost weighs against scaled rewards",
    "clipping_epsilon_value": "makes collecting store values; the distributional critic needs it",
    "entropy_cost": "of the distribution before tanh plus its log-derivative, estimated from one sample (tanh_normal)",
    "vf_loss_coefficient": "what others call a coefficient of the squared error is twice ours",
    "bootstrap_on_timeout": "needs a task with `time_out`",
    "max_grad_norm": "on the norm of policy and value gradients together",
    "learning_rate_schedule": "ADAPTIVE_KL also moves the normalizer's update behind the SGD steps (Brax)",
    "normalize_observations_mode": "acts with normalize_observations; see normalize_until_count",
    "normalize_observations_std_eps": "acts with normalize_observations",
    "normalize_until_count": "acts with normalize_observations; refused unless the mode is ema",
    "learning_rate_final_fraction": "refused without LINEAR or COSINE",
    "learning_rate_warmup_timesteps": "refused with ADAPTIVE_KL",
    "desired_kl": "acts with ADAPTIVE_KL",
    "learning_rate_schedule_min_lr": "acts with ADAPTIVE_KL",
    "learning_rate_schedule_max_lr": "acts with ADAPTIVE_KL",
    "num_quantiles": "acts with use_distributional_critic",
    "randomize_eval": "acts with randomize, or with a randomization_fn",
    "gae_per": "batch makes collecting store values",
    "minibatch_of": "transitions is refused without gae_per = batch",
    "target_kl": "the normalizer is then updated after the SGD passes, as with ADAPTIVE_KL",
    "bootstrap_on_truncation": "the added value is not scaled by reward_scaling",
    "normalize_rewards": "its statistics use discounting",
    "policy_obs_key": "the normalizer has statistics of both keys",
    "distribution_type": "noise_std_type to mean_kernel_init_fn act with normal only, and are refused otherwise",
    "output_kernel_init_fn": "in Brax an option of the vision networks alone",
    "vision": "refused with action_repeat other than 1 (Brax), and without pixels/... in the task; `madrona_backend` is its "
    "old name; Brax's vision networks have two hidden layers of 256 each",
    "augment_pixels": "one shift for all steps of a sequence and view, at the edges the last pixels are repeated",
    "pixel_encoder": "resnet18 has 11 million parameters for each view and network; cnn_... are then refused",
    "num_evals": "with num_timesteps: the env steps at which evaluations lie are printed at the start",
    "deterministic_eval": "exported policies are deterministic anyway",
    "run_evals": "no evaluation, so no best checkpoint: policy.pt is then the last",
    "training_metrics_steps": "needs log_training_metrics",
    "restore_checkpoint_path": "`--resume` goes on with a run exactly; this starts a new one",
    "capture": "physics and unroll need MuJoCo Warp; unroll needs CUDA",
    "compile": "first training step later by half a minute, half of it when the kernels are cached",
    "bf16": "rounds to 3 digits; see docs/performance.md",
}

# Arguments of the library call alone.
CALL_ARGUMENTS = {
    "environment": "a task, envs, a function that makes envs, or a name; see [environments.md](environments.md)",
    "eval_env": "likewise for evaluation, if another one",
    "network_factory": "dict of the fields under Networks and Pixels, by Brax's names, or a function that makes the modules",
    "randomization_fn": "function (physics, generator) -> model fields of every env, instead of the task's `randomize`",
    "wrap_env": "false uses envs as they are: they restart their own episodes",
    "wrap_env_fn": "function (env, episode_length, action_repeat, randomization_fn) -> envs with rules of episodes",
    "progress_fn": "called with env steps and metrics at every report; with `log_training_metrics` also between evaluations, with `episode/...` alone",
    "policy_params_fn": "called with env steps, make_policy and params before every report",
    "restore_params": "(normalizer, policy, value) to start from; comes before restore_checkpoint_path",
}

HEAD = """# Parameters

*Made by `python -m tools.parameters_table` from the code; do not edit.*

Every field of `Config`: an option of the command line (`--num-envs`), a key of a TOML file
(`num_envs`) and a keyword of `torch_ppo.train(...)`. Names, meanings and defaults are those of
Brax's `ppo.train()` and its network factory; fields marked with + are ours, and by default do
nothing. What acts only together with something else says so.
[semantics.md](semantics.md) says what is easily misread.
`python -m torch_ppo.dialects` translates from other libraries' words ([dialects.md](dialects.md)).
Each is shown to act by `tests/test_parameters.py`.
"""


def shown(value: object) -> str:
    """A default as it stands in the table."""
    if value is dataclasses.MISSING:
        return "required"
    if isinstance(value, tuple):
        return f"`{list(value)}`"
    return f"`{value!r}`".replace("'", '"')


def choices(kind: str) -> str:
    """What a field may be, where its default does not show it."""
    literal = re.search(r"Literal\[(.+?)\]", kind)
    if literal is None:
        return ""
    return "One of " + literal[1].replace("'", "`") + (" or none. " if "None" in kind else ". ")


def page(brax_arguments: set[str]) -> str:
    """The whole page. `brax_arguments` are the names that Brax has."""
    parts = [HEAD]
    defaults = {field.name: field.default for field in dataclasses.fields(Config)}
    for title, fields in sections():
        parts.append(f"\n## {title}\n\n| parameter | default | effect |\n|---|---|---|\n")
        for name, kind, doc in fields:
            own = "" if name in brax_arguments else " +"
            together = f" *{INTERACTIONS[name]}*" if name in INTERACTIONS else ""
            parts.append(f"| `{name}`{own} | {shown(defaults[name])} | {choices(kind)}{doc}{together} |\n")
    parts.append("\n## Arguments of the library call only\n\n| argument | meaning |\n|---|---|\n")
    for name, meaning in CALL_ARGUMENTS.items():
        parts.append(f"| `{name}` | {meaning} |\n")
    parts.append("\n## Arguments of Brax that are refused\n\n| argument | accepted | why no other |\n|---|---|---|\n")
    for name, (allowed, reason) in UNSUPPORTED.items():
        parts.append(f"| `{name}` | {', '.join(f'`{value!r}`' for value in allowed)} | {reason} |\n")
    return "".join(parts)


def train_arguments() -> set[str]:
    """Arguments of `torch_ppo.train` that are no fields of `Config`."""
    names = set(inspect.signature(train).parameters)
    return names - {"settings"} - set(Config.__dataclass_fields__)


def main() -> None:
    """The program `python -m tools.parameters_table`."""
    from tests.helpers.brax_arguments import BRAX

    PAGE.write_text(page(BRAX))
    print(PAGE)


if __name__ == "__main__":
    main()
