"""Stable-Baselines3's PPO: a zip with policy.pth, a state dict, and data, JSON that says what it was made with.

Code that is serialised in data is not run: of it, only the words that SB3 writes beside it are read.
"""

import json
import math
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from torch_ppo.importing.gaussian import Gaussian, Normalizer, layers_of, read_torch, to_imported, vector
from torch_ppo.importing.imported import ForeignError, Imported
from torch_ppo.importing.pickles import Inert, read_pickle

WORDS = {
    "Tanh": "tanh",
    "ReLU": "relu",
    "ELU": "elu",
    "SiLU": "swish",
    "SELU": "selu",
    "Mish": "mish",
    "Sigmoid": "sigmoid",
    "LeakyReLU": "leaky_relu",
}
DEFAULT_ACTIVATION = "tanh"
MAX_BYTES = 1 << 30  # of a member, so that a small zip cannot fill the memory


def is_one(path: Path) -> bool:
    """Whether a file looks like a model of SB3."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {"policy.pth", "data"} <= set(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False


def read(path: Path, activation: str | None, normalizer: Normalizer | None) -> Imported:
    """A policy of SB3 in our terms.

    activation:  what its user says it is, or None; the file says it, too
    normalizer:  of its VecNormalize, which is a file of its own
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if max(info.file_size for info in archive.infolist()) > MAX_BYTES:
                raise ForeignError(f"{path} has parts of more than {MAX_BYTES >> 30} GiB")
            data, policy = json.loads(archive.read("data")), archive.read("policy.pth")
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, OSError, EOFError, NotImplementedError) as error:
        if isinstance(error, ForeignError):
            raise
        raise ForeignError(f"{path} is not a whole model of Stable-Baselines3 (cut off or damaged?)") from None
    if not isinstance(data, dict):
        raise ForeignError(f"{path} is not a model of Stable-Baselines3: its data is no JSON object")
    weights = read_torch(policy, path)
    if not isinstance(weights, Mapping) or not all(isinstance(x, Tensor) for x in weights.values()):
        raise ForeignError(f"{path}: its policy.pth is no state dict of tensors")
    if data.get("use_sde"):
        raise ForeignError(f"{path} has use_sde = true: state-dependent exploration has no counterpart")
    heads = {}
    for name in ("action_net", "value_net"):
        if f"{name}.weight" not in weights:
            raise ForeignError(f"{path} has no {name}: only an ActorCriticPolicy of PPO has a counterpart")
        heads[name] = tuple(weights[f"{name}.{part}"].float().numpy() for part in ("weight", "bias"))
    if "log_std" not in weights:
        raise ForeignError(f"{path} has no log_std: only continuous actions have a counterpart")
    known = ("log_std", "action_net.", "value_net.", "mlp_extractor.policy_net.", "mlp_extractor.value_net.")
    if more := [name for name in weights if not name.startswith(known)]:
        raise ForeignError(f"{path} has {more[0]}: only an MLP behind a flat observation has a counterpart")
    own = _activation(data, path)
    if activation not in (None, own):
        raise ForeignError(f"--activation {activation} has no effect: {path} says {own}")
    trunks = [_hidden(weights, name, path) for name in ("policy_net", "value_net")]
    gaussian = Gaussian(
        [*trunks[0], heads["action_net"]],
        [*trunks[1], heads["value_net"]],
        vector(weights["log_std"], f"{path}: log_std"),
        True,
        own,
        normalizer,
        normalizer,
    )
    steps = data.get("num_timesteps")
    notes = ["SB3 clips actions to the range of its action space; here the task and its actuators limit them"]
    if normalizer is None:
        notes.append("without --normalizer observations are taken as they are; VecNormalize is a file of its own")
    return to_imported(gaussian, env_steps=steps if isinstance(steps, int) and 0 <= steps < 2**62 else 0, notes=notes)


def _hidden(weights: Mapping[str, Tensor], name: str, path: Path) -> list:
    """A hidden stack, of which one layer is enough here, as a head follows."""
    prefix = f"mlp_extractor.{name}"
    numbers = sorted({int(x[1]) for key in weights if (x := re.fullmatch(rf"{re.escape(prefix)}\.(\d+)\.weight", key))})
    if not numbers:
        raise ForeignError(f"{path} has no hidden layers {prefix}.0, {prefix}.2, ...")
    if len(numbers) > 1:
        return layers_of(weights, prefix, str(path))
    return [tuple(weights[f"{prefix}.{numbers[0]}.{part}"].float().numpy() for part in ("weight", "bias"))]


def _activation(data: dict, path: Path) -> str:
    """Of the policy's keyword arguments, in words such as "<class 'torch.nn.modules.activation.ReLU'>"."""
    options = data.get("policy_kwargs")
    text = options.get("activation_fn") if isinstance(options, dict) else None
    if text is None:
        return DEFAULT_ACTIVATION
    word = re.sub(r"\W+$", "", str(text)).rpartition(".")[2]
    if word not in WORDS:
        raise ForeignError(
            f"{path} has the activation {word!r}, which has no exact counterpart; known: {', '.join(WORDS)}"
        )
    return WORDS[word]


def read_normalizer(path: Path, *, trusted: bool) -> Normalizer:
    """VecNormalize's pickle, or an .npz with mean, var and count, eps and clip where they are not SB3's and Gymnasium's."""
    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as arrays:
                found = {name: arrays[name] for name in arrays.files}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is no .npz of arrays"
            raise ForeignError(f"{path} cannot be read: {reason}") from None
    else:
        found = _of_pickle(path, trusted=trusted)
    for name in ("mean", "var"):
        if name not in found:
            raise ForeignError(
                f"{path} has no {name}; it must have mean and var of the observation, and may have count"
            )
    mean, variance = (vector(found[name], f"{path}: {name}") for name in ("mean", "var"))
    try:
        eps, clip = float(found.get("eps", 1e-8)), float(found.get("clip", 10.0))
        count = int(found.get("count", 1))
    except (TypeError, ValueError, OverflowError):
        raise ForeignError(f"{path}: count, eps and clip must be numbers") from None
    if not (
        np.isfinite(mean).all() and np.isfinite(variance).all() and (variance >= 0).all() and eps >= 0 and clip > 0
    ):
        raise ForeignError(f"{path}: mean and var must be finite, var, eps and clip not negative")
    limit = None if math.isinf(clip) else clip
    return Normalizer(mean, variance, np.sqrt(variance + eps), max(count, 1), eps, limit)


def _of_pickle(path: Path, *, trusted: bool) -> dict[str, object]:
    record = read_pickle(path, trusted=trusted)
    statistics = getattr(record, "obs_rms", None)
    if not isinstance(record, Inert) or statistics is None:
        raise ForeignError(f"{path} is no VecNormalize: it has no obs_rms")
    if not getattr(record, "norm_obs", True):
        raise ForeignError(f"{path} has norm_obs = False: it normalises no observations; leave out --normalizer")
    if not isinstance(statistics, Inert):
        raise ForeignError(f"{path} normalises several observations, which a single MLP does not see")
    found = {name: getattr(statistics, name, None) for name in ("mean", "var", "count")}
    found |= {"eps": getattr(record, "epsilon", 1e-8), "clip": getattr(record, "clip_obs", 10.0)}
    return {name: value for name, value in found.items() if value is not None}
