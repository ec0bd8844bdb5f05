"""TensorBoard's records. Written here and not by its writer, whose thread dies of a full disk without a word."""

import dataclasses
import io
import struct
import time
from collections.abc import Mapping, Sequence

from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from torch.utils.tensorboard.summary import custom_scalars, hparams, text

from torch_ppo.diagnosis.findings import Finding
from torch_ppo.settings.config import Config
from torch_ppo.settings.files import to_toml

Histogram = tuple[list[float], list[int]]  # inner edges, counts

# The page "Custom scalars": charts of several metrics, by the beginning of their names.
LAYOUT = {
    "reward": {
        "evaluation": ["Multiline", ["^eval/episode_reward"]],
        "training episodes": ["Multiline", ["^training/episode_reward", "^episode/sum_reward"]],
        "success": ["Multiline", ["^eval/success_rate", "^training/success_rate", "^episode/success_rate"]],
        "episode length": ["Multiline", ["^eval/avg_episode_length", "^training/episode_length", "^episode/length"]],
    },
    "health": {
        "KL": ["Multiline", ["^training/approx_kl$", "^training/kl_mean"]],
        "clipped, skipped": ["Multiline", ["^training/clip_fraction", "^training/skipped_fraction"]],
        "explained variance": ["Multiline", ["^training/explained_variance"]],
        "gradient norm": ["Multiline", ["^training/grad_norm$"]],
        "standard deviation": ["Multiline", ["^training/policy_dist_mean_std"]],
        "actions at their limits": ["Multiline", ["^training/saturated_actions"]],
        "observations": ["Multiline", ["^training/observation_max", "^training/normalizer_drift"]],
        "returns, advantages": ["Multiline", ["^training/value_target_std", "^training/advantage_std"]],
        "broken envs": ["Multiline", ["^training/broken", "^(training|eval)/overflowed_envs"]],
    },
    "speed": {"env steps per second": ["Multiline", ["^training/(collect_|update_)?sps", "^eval/sps"]]},
}


def constant_metrics(config: Config, *, never_ends: bool) -> frozenset[str]:
    """Metrics that cannot change with this configuration; `never_ends`: only the time limit ends an episode."""
    c = config
    constant = {
        "eval/avg_episode_length": never_ends,
        "eval/std_episode_length": never_ends,
        "episode/length": never_ends,
        **{f"training/episode_length{which}": never_ends for which in ("", "_min", "_max")},
        "training/terminations": never_ends,
        "training/overflowed_envs": c.physics == "mujoco",  # only MuJoCo Warp has buffers
        "training/skipped_fraction": c.target_kl is None,
        "training/learning_rate": not (c.adaptive_kl or c.decaying or c.learning_rate_warmup_timesteps),
    }
    return frozenset(name for name, holds in constant.items() if holds)


def scalars(step: int, metrics: dict[str, float]) -> bytes:
    """The numbers of one report."""
    values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
    return _record(Event(summary=Summary(value=values)), step)


def histogram_events(step: int, histograms: Mapping[str, Histogram]) -> list[bytes]:
    """Histograms of one report, each with inner edges and one count more than those; TensorBoard has equal bins of them."""
    events = []
    for name, (edges, counts) in histograms.items():
        first, last = 2 * edges[0] - edges[1], 2 * edges[-1] - edges[-2]  # the outer bins have no end
        limits, total = [*edges, last], sum(counts)
        middles = [(low + high) / 2 for low, high in zip([first, *edges], limits, strict=True)]
        proto = HistogramProto(
            min=first,
            max=last,
            num=total,
            sum=sum(n * x for n, x in zip(counts, middles, strict=True)),
            sum_squares=sum(n * x * x for n, x in zip(counts, middles, strict=True)),
            bucket_limit=limits,
            bucket=counts,
        )
        events.append(_record(Event(summary=Summary(value=[Summary.Value(tag=name, histo=proto)])), step))
    return events


def finding_events(step: int, findings: Sequence[Finding]) -> list[bytes]:
    """What the doctor found with one report, as text."""
    return [
        _record(
            Event(summary=text(f"doctor/{f.rule.name}", f"**{f.seen}**\n\n{f.rule.means}\n\nTry {f.change()}.")), step
        )
        for f in findings
    ]


def picture_event(step: int, name: str, content: bytes) -> bytes:
    """A picture, which may be an animated GIF, by the content of its file."""
    with Image.open(io.BytesIO(content)) as picture:
        width, height = picture.size
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=content)
    return _record(Event(summary=Summary(value=[Summary.Value(tag=name, image=image)])), step)


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
