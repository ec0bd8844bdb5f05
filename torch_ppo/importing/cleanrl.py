"""CleanRL's ppo_continuous_action.py: the state dict of its Agent, as torch.save(agent.state_dict()) leaves it."""

from collections.abc import Mapping

from torch import Tensor

from torch_ppo.importing.gaussian import Gaussian, Normalizer, layers_of, to_imported, vector
from torch_ppo.importing.imported import ForeignError, Imported

DEFAULT_ACTIVATION = "tanh"


def is_one(content: object) -> bool:
    """Whether a file's content looks like CleanRL's."""
    return isinstance(content, Mapping) and any(str(name).startswith(("actor_mean.", "actor.")) for name in content)


def read(weights: Mapping[str, object], activation: str, where: str, normalizer: Normalizer | None) -> Imported:
    """A policy of CleanRL in our terms."""
    if not all(isinstance(x, Tensor) for x in weights.values()):
        raise ForeignError(f"{where} is no state dict of tensors")
    if "actor_logstd" not in weights:
        raise ForeignError(f"{where} has no actor_logstd: only ppo_continuous_action.py's Agent has a counterpart")
    if more := [name for name in weights if not name.startswith(("actor_mean.", "critic.", "actor_logstd"))]:
        raise ForeignError(f"{where} has {more[0]}, which ppo_continuous_action.py's Agent does not have")
    gaussian = Gaussian(
        layers_of(weights, "actor_mean", where),
        layers_of(weights, "critic", where),
        vector(weights["actor_logstd"], f"{where}: actor_logstd"),
        True,
        activation,
        normalizer,
        normalizer,
    )
    notes = ["env_steps is 0, as the file does not say"]
    if normalizer is None:
        notes.append(
            "Gymnasium's NormalizeObservation is not in the file: --normalizer FILE.npz with its obs_rms mean, var and "
            "count brings it along"
        )
    return to_imported(gaussian, notes=notes)
