"""TensorBoard's records. Written here and not by its writer, whose thread dies of a full disk without a word."""

import dataclasses
import struct
import time

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from torch.utils.tensorboard.summary import custom_scalars, hparams, text

from torch_ppo.settings.config import Config
from torch_ppo.settings.files import to_toml
from torch_ppo.simulation.task import Task

# The page "Custom scalars": charts of several metrics, by the beginning of their names.
LAYOUT = {
    "reward": {
        "evaluation": ["Multiline", ["^eval/episode_reward"]],
        "training episodes": ["Multiline", ["^episode/sum_reward"]],
        "success": ["Multiline", ["^eval/success_rate", "^episode/success_rate"]],
        "episode length": ["Multiline", ["^eval/avg_episode_length", "^episode/length"]],
    },
    "health": {
        "KL": ["Multiline", ["^training/approx_kl", "^training/kl_mean"]],
        "clipped, skipped": ["Multiline", ["^training/clip_fraction", "^training/skipped_fraction"]],
        "explained variance": ["Multiline", ["^training/explained_variance"]],
        "gradient norm": ["Multiline", ["^training/grad_norm"]],
        "standard deviation": ["Multiline", ["^training/policy_dist_mean_std"]],
        "broken envs": ["Multiline", ["^training/broken", "^(training|eval)/overflowed_envs"]],
    },
    "speed": {"env steps per second": ["Multiline", ["^training/sps", "^eval/sps"]]},
}


def constant_metrics(config: Config, task: Task) -> frozenset[str]:
    """Metrics that cannot change with this configuration and task."""
    c = config
    never_ends = type(task).terminated is Task.terminated
    constant = {
        "eval/avg_episode_length": never_ends,
        "eval/std_episode_length": never_ends,
        "episode/length": never_ends,
        "training/overflowed_envs": c.physics == "mujoco",  # only MuJoCo Warp has buffers
        "training/skipped_fraction": c.target_kl is None,
        "training/learning_rate": not (c.adaptive_kl or c.decaying or c.learning_rate_warmup_timesteps),
    }
    return frozenset(name for name, holds in constant.items() if holds)


def scalars(step: int, metrics: dict[str, float]) -> bytes:
    """The numbers of one report."""
    values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
    return _record(Event(summary=Summary(value=values)), step)


def first_events(config: Config, step: int) -> list[bytes]:
    """What a file begins with: from `step` on it replaces older ones; the configuration, and how to arrange charts."""
    settings = {
        name: value if isinstance(value, (bool, int, float, str)) else repr(value)
        for name, value in dataclasses.asdict(config).items()
        if value is not None
    }
    toml = "".join(f"    {line}\n" for line in to_toml(config).splitlines())  # in Markdown, text as it stands
    summaries = [text("config", toml), custom_scalars(LAYOUT), *hparams(settings, {"eval/episode_reward": 0.0})]
    events = [
        Event(file_version="brain.Event:2"),
        Event(session_log=SessionLog(status=SessionLog.START)),
        *(Event(summary=summary) for summary in summaries),
    ]
    return [_record(event, step) for event in events]


def _record(event: Event, step: int) -> bytes:
    """An event as it stands in a file: length, content, and a checksum of each."""
    event.step, event.wall_time = step, time.time()
    content = event.SerializeToString()
    length = struct.pack("<Q", len(content))
    checksums = (struct.pack("<I", masked_crc32c(part)) for part in (length, content))
    return length + next(checksums) + content + next(checksums)
