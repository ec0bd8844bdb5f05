"""The flat block of numbers for legged robots that a text on PPO in practice gives, with its words.

n_envs * n_steps_per_env transitions per rollout, n_epochs passes over minibatches of batch_size transitions; the weight
of the value loss is RSL-RL's, whose word value_loss_coef it is: that of the plain squared error. What the block leaves
out is as in Stable-Baselines3, of which it has the other words.
"""

from torch_ppo.dialects import rollout, sb3
from torch_ppo.dialects.reading import Reading
from torch_ppo.dialects.writing import Writing
from torch_ppo.errors import ConfigError

ABOUT = "the block of numbers for legged robots with n_steps_per_env, value_loss_coef, total_steps"

WORDS = {
    "n_steps_per_env": "n_steps",
    "value_loss_coef": "vf_coef",
    "total_steps": "total_timesteps",
    "network": "policy_kwargs",
}
KEYS = {*WORDS} | set(
    "learning_rate n_envs n_epochs batch_size clip_range gae_lambda gamma ent_coef max_grad_norm seed".split()
)


def read(values: dict[str, object], where: str, reading: Reading, num_envs: int | None) -> None:
    """Our settings from the block's."""
    for key in values:
        if key not in KEYS:
            raise ConfigError(f"unknown key {key!r} in {where}; known: {', '.join(sorted(KEYS))}")
    theirs = {WORDS.get(key, key): value for key, value in values.items()}
    if "policy_kwargs" in theirs:
        theirs["policy_kwargs"] = {"net_arch": theirs["policy_kwargs"]}
    sb3.read(theirs, where, reading, num_envs)
    reading.differs.append(
        "what the block leaves out is Stable-Baselines3's: tanh, a normal distribution, no normalizer"
    )


def write(writing: Writing) -> str:
    """The block of our settings."""
    batch = rollout.rollout_of(writing)
    sizes, other = writing.take("policy_hidden_layer_sizes"), writing.take("value_hidden_layer_sizes")
    if sizes != other:
        writing.differs.append(f"value_hidden_layer_sizes = {list(other)}: there both networks have the policy's")
    names = {
        "learning_rate": "learning_rate",
        "clip_range": "clipping_epsilon",
        "gae_lambda": "gae_lambda",
        "gamma": "discounting",
        "ent_coef": "entropy_cost",
        "max_grad_norm": "max_grad_norm",
        "seed": "seed",
    }
    values = {
        "n_envs": batch.num_envs,
        "n_steps_per_env": batch.num_steps,
        "n_epochs": batch.num_passes,
        "batch_size": batch.minibatch,
        **writing.rename(names),
        "value_loss_coef": writing.take("vf_loss_coefficient") / 2,
        "network": list(sizes),
        "total_steps": writing.take("num_timesteps"),
    }
    if values["max_grad_norm"] is None:
        values["max_grad_norm"] = float("inf")
    writing.expect(activation="tanh", bootstrap_on_truncation=True)
    rollout.initial_std(writing, "log")
    rollout.is_orthogonal(writing)
    return sb3.to_yaml(values)
