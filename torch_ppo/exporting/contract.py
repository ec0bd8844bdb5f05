"""The contract: what goes into an exported policy, what comes out, how often, and where it is from.

Plain values, so that it is JSON in every format. What is not known (a task that was not loaded) is None.
"""

import hashlib
import json
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import mujoco
from torch import Tensor

from torch_ppo.exporting.contract_parts import contradicting, lacking
from torch_ppo.exporting.deployed import DeployedPolicy
from torch_ppo.exporting.errors import ExportError
from torch_ppo.formulas.controls import Scaling
from torch_ppo.learning.agent import Agent
from torch_ppo.settings.config import Config
from torch_ppo.simulation.scaling import JOINTS, actuator_names, from_plain, is_position_servo
from torch_ppo.simulation.task import Task, observation_parts

Contract = dict[str, Any]
Plain = dict[str, list]

KIND = "torch_ppo policy"
ORIGIN = ("run", "checkpoint", "env_steps", "evaluation_reward")
FORMAT = 1
CONTRACT_FILE = "contract.json"  # in TorchScript and .pt2 files
CONTRACT_KEY = "torch_ppo.contract"  # in the metadata of ONNX and safetensors files
PACKAGES = ("torch_ppo", "torch", "mujoco", "numpy")

CONVENTIONS = {
    "units": "SI; angles in radians",
    "quaternions": "w, x, y, z; unit length",
    "free joint": "qpos: position in the world frame, then orientation; qvel: linear velocity in the world frame, then angular "
    "velocity in the body's own frame, as in MuJoCo",
    "frames": "right-handed; the world's z axis points up",
    "history": "of n: the last n observations one after another, oldest first; as an episode begins, n times its first",
}


def _actuators(controls: Plain | None, model: mujoco.MjModel | None) -> list[dict[str, Any]] | None:
    """Each actuator in the order of the actions: name, range, scale and offset; of a known model joint and kind, too."""
    if controls is None:
        return None if model is None else [_of_model(model, i) for i in range(model.nu)]
    found = []
    for i, name in enumerate(controls["actuators"]):
        lower, upper = controls["lower"][i], controls["upper"][i]
        entry = {
            "name": name,
            "control_range": None if lower is None and upper is None else [lower, upper],
            "scale": _number(controls["scale"][i]),
            "offset": _number(controls["offset"][i]),
        }
        if model is not None:
            entry |= _of_model(model, i)
            # For a position servo the offset is where it holds its joint while the action is 0.
            entry["default_pose"] = entry["offset"] if entry["kind"] == "position" else None
        found.append(entry)
    return found


def _of_model(model: mujoco.MjModel, i: int) -> dict[str, Any]:
    """What a model knows of an actuator."""
    on_joint = int(model.actuator_trntype[i]) in JOINTS
    return {
        "name": actuator_names(model)[i],
        "joint": model.joint(int(model.actuator_trnid[i, 0])).name if on_joint else None,
        "kind": "position" if is_position_servo(model, i) else "other",
        "force_range": model.actuator_forcerange[i].tolist() if model.actuator_forcelimited[i] else None,
    }


def scaling_in(contract: Contract) -> Scaling | None:
    """From actions to controls, as a contract has it; None where it does not."""
    actuators = contract["action"]["actuators"]
    if not actuators or actuators[0].get("scale") is None:
        return None
    ends = [actuator["control_range"] or [None, None] for actuator in actuators]
    parts = {name: [actuator[name] for actuator in actuators] for name in ("offset", "scale")}
    return from_plain({**parts, "lower": [end[0] for end in ends], "upper": [end[1] for end in ends]})


def _joints(model: mujoco.MjModel) -> list[dict[str, Any]]:
    """Name and kind of each joint, and where its position and velocity begin in qpos and qvel."""
    joints = [model.joint(i) for i in range(model.njnt)]
    kinds = [mujoco.mjtJoint(int(kind)).name.removeprefix("mjJNT_").lower() for kind in model.jnt_type]
    return [
        {"name": joint.name, "kind": kind, "qpos": int(joint.qposadr[0]), "qvel": int(joint.dofadr[0])}
        for joint, kind in zip(joints, kinds, strict=True)
    ]


def mjcf_hash(task: Task) -> str | None:
    """SHA-256 of the task's model file; None for a task without one. Other files that it includes are not in it."""
    path = getattr(task, "mjcf", None)
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if path and Path(path).is_file() else None


@dataclass(frozen=True)
class Known:
    """What is known of a policy besides its numbers.

    config:        of its run
    origin:        of those in `ORIGIN` what is known
    task, model:   what it acts in; None where that was not loaded
    controls:      what the task makes of an action, as `simulation.scaling.to_plain` has it; None where that is not that
                   simple, or not known
    observations:  of real episodes, for each of the policy's inputs (n, obs_dim) or (n, height, width, channels), or None
    """

    config: Config = field(default_factory=lambda: Config(num_timesteps=1))
    origin: dict[str, object] = field(default_factory=dict)
    task: Task | None = None
    model: mujoco.MjModel | None = None
    controls: Plain | None = None
    observations: tuple[Tensor, ...] | None = None


def make_contract(agent: Agent, policy: DeployedPolicy, known: Known) -> Contract:
    """The contract of a policy."""
    config, task, model, controls = known.config, known.task, known.model, known.controls
    action_dim = policy.action_dim
    choices, limit = policy.distribution.choices, policy.distribution.limit
    between = "unbounded" if limit == float("inf") else [-limit, limit]
    loaded = task is not None and model is not None
    one = (lambda value: value) if loaded else (lambda value: None)
    actuators = _actuators(controls, model if loaded and model.nu == action_dim else None)
    return {
        "kind": KIND,
        "format": FORMAT,
        "inputs": {
            name: {"shape": ["batch", *x.shape[1:]], "type": str(x.dtype).removeprefix("torch.")}
            for name, x in zip(policy.input_names, policy.example(), strict=True)
        },
        "output": {
            "name": policy.output_name,
            "shape": ["batch", action_dim],
            "type": "int64" if choices else "float32",
        },
        "observation": _vector(agent, policy, task if loaded else None),
        **({"pixels": _pixels(agent, policy, config)} if agent.pixel_keys else {}),
        "action": {
            "size": action_dim,
            "output_is": "what the actuators get" if policy.controls is not None else "the policy's action",
            "deterministic": not policy.stochastic,
            "range": "indices, from 0" if choices else between,
            "discrete": _discrete(choices, controls),
            "noise": None if not policy.stochastic else "uniform in [0, 1)" if choices else "standard normal",
            "to_controls": None
            if controls is None
            else "start + action"
            if choices
            else "clip(offset + scale * action, control_range)",
            "actuators": actuators,
        },
        "joints": one(model and _joints(model)),
        "seconds_per_action": one(task and task.control_dt * config.action_repeat),
        "control_dt": one(task and task.control_dt),
        "action_repeat": config.action_repeat,
        "trained_with_action_delay": config.action_delay,
        "physics_timestep": one(model and float(model.opt.timestep)),
        "conventions": CONVENTIONS,
        "task": {
            "name": _without_folders(config.env) or None,
            "episode_length": config.episode_length,
            "mjcf": one(task and _mjcf_name(task)),
            "mjcf_sha256": one(task and mjcf_hash(task)),
        },
        "origin": dict.fromkeys(ORIGIN) | known.origin,
        "versions": {name: _version(name) for name in PACKAGES},
    }


def _discrete(choices: tuple[int, ...] | None, controls: Plain | None) -> dict[str, list[int] | None] | None:
    """How many choices each action has, and what the env calls the first of them, if that is known."""
    if choices is None:
        return None
    start = None if controls is None else [int(x) for x in controls["offset"]]
    return {"choices": list(choices), "start": start}


def _vector(agent: Agent, policy: DeployedPolicy, task: Task | None) -> dict[str, Any]:
    """The vector that a policy sees; of size 0 where it sees pixels alone."""
    key = agent.policy_obs_key
    statistics = agent.normalizer[key] if key else None
    return {
        "size": policy.obs_dim,
        "key": key,
        "history": statistics.frames if key else 1,
        "parts": observation_parts(task, key, len(statistics.mean)) if task and key else None,
        "normalizer": "inside" if policy.normalized else "none",
        "mean": _numbers(policy.mean) if key else [],
        "std": _numbers(policy.std) if key else [],
    }


def _pixels(agent: Agent, policy: DeployedPolicy, config: Config) -> list[dict[str, Any]]:
    """The pictures that a policy sees, in the order of its inputs."""
    return [
        {
            "key": key,
            "input": name,
            **dict(zip(("height", "width", "channels"), agent.observation_sizes[key], strict=True)),
            "view_size": config.view_size,  # None where that is the task's own
            "history": config.history if key in (config.history_obs_keys or agent.pixel_keys) else 1,
            "values": "0 to 255, first row on top; of a stack the frames one after another in the channels, oldest first",
        }
        for key, name in zip(agent.pixel_keys, policy.input_names, strict=False)
    ]


def _number(x: float) -> float:
    """Without what float32 has made of its last digits."""
    return float(f"{x:.7g}")


def _numbers(tensor: Tensor) -> list[float]:
    return [_number(x) for x in tensor.tolist()]


def _without_folders(env: str) -> str:
    """A task's name without where the trainer has it: a user's own is "file.py:Task"."""
    place, colon, attribute = env.rpartition(":")
    return f"{Path(place).name}:{attribute}" if colon else env


def _mjcf_name(task: Task) -> str | None:
    path = getattr(task, "mjcf", None)
    return Path(path).name if path else None


def _version(name: str) -> str | None:
    if name == "torch_ppo":
        import torch_ppo

        return torch_ppo.__version__
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def check_contract(contract: Contract | None, path: Path) -> Contract:
    """The contract if there is one that this version understands, else ExportError."""
    if contract is None:
        raise ExportError(
            f"{path} has no contract: an older version of torch_ppo wrote it, or another program; export its run again"
        )
    if not isinstance(contract, dict) or contract.get("kind") != KIND:
        raise ExportError(f"{path} is no policy of torch_ppo")
    if contract.get("format") != FORMAT:
        raise ExportError(f"{path} has contract format {contract.get('format')}, this version reads {FORMAT}")
    if missing := list(lacking(contract)):
        raise ExportError(f"{path} has a contract without {', '.join(missing)}: it is damaged; export its run again")
    if wrong := list(contradicting(contract)):
        raise ExportError(
            f"{path} has a contract whose {', '.join(wrong)} does not go with its sizes: it is damaged; export its run again"
        )
    return contract


def contract_text(contract: Contract) -> str:
    """The contract as JSON that is easily read: what has no further parts takes one line."""

    def text(value: object, indent: str) -> str:
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
        if not any(isinstance(part, (dict, list)) for part in parts):
            return json.dumps(value, ensure_ascii=False)
        inner = indent + " "
        if isinstance(value, dict):
            lines = [f"{inner}{json.dumps(name)}: {text(part, inner)}" for name, part in value.items()]
            return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
        return "[\n" + ",\n".join(inner + text(part, inner) for part in value) + f"\n{indent}]"

    return text(contract, "")
