"""What runs in each of several processes that learn together, for tests/running/test_devices.py."""

import os
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist

from tests.helpers.golden_data import RecordedNoise
from tests.helpers.toy import ToyTask
from torch_ppo.environments.finding import source_of
from torch_ppo.formulas.running_statistics import RunningStatistics
from torch_ppo.learning.devices import ALONE, Devices
from torch_ppo.learning.train_step import training_step
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config

# Two unrolls of 5 steps per env and training step.
TINY = {
    "num_timesteps": 4 * 160,
    "num_envs": 16,
    "num_evals": 0,
    "num_eval_envs": 8,
    "episode_length": 7,
    "batch_size": 8,
    "num_minibatches": 4,
    "unroll_length": 5,
    "num_updates_per_batch": 3,
    "learning_rate": 1e-2,
    "normalize_observations": True,
    "device": "cpu",
    "compile": False,
    "policy_hidden_layer_sizes": (8,),
    "value_hidden_layer_sizes": (8,),
}


def make_state(devices: Devices = ALONE, environment: str | None = None, **settings: object) -> TrainingState:
    """A tiny training of an environment, by default the toy."""
    source = ToyTask() if environment is None else source_of(environment)
    return TrainingState(Config(**{**TINY, **settings}), source, devices=devices)


def in_process(rank: int, count: int, folder: Path, work: Callable[[Devices], object], arguments: dict) -> None:
    """Joins the others and writes what `work` returns to `folder`/`rank`.pt."""
    os.environ.pop("LOCAL_RANK", None)
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=count)
    try:
        devices = Devices(rank, count, dist.group.WORLD, dist.group.WORLD)
        torch.save(work(devices, **arguments), folder / f"{rank}.pt")
        dist.barrier()  # nobody leaves while another still talks to it
    finally:
        dist.destroy_process_group()


def together(folder: Path, count: int, work: Callable[..., object], **arguments: object) -> list[object]:
    """What `work(devices, **arguments)` returned in each of `count` processes."""
    torch.multiprocessing.spawn(in_process, (count, folder, work, arguments), nprocs=count)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(count)]


def train_some(devices: Devices, training_steps: int, **settings: object) -> list[dict[str, torch.Tensor]]:
    """Networks, normalizer, learning rate, metrics and the batch's rewards after each training step."""
    state, seen = make_state(devices, **settings), []
    for _ in range(training_steps):
        metrics = training_step(state.collector, state.learner)
        agent = {name: x.clone() for name, x in state.agent.state_dict().items()}
        rest = {"learning_rate": state.learner.learning_rate, "metrics": metrics, "reward": state.batch.reward}
        seen.append({"agent": agent, **{name: x.detach().clone() for name, x in rest.items()}})
    return seen


def learn_share(devices: Devices, batch: object, noise: dict, **settings: object) -> dict[str, torch.Tensor]:
    """Learns from this device's part of a recorded batch, whose sequences lie device by device."""
    state = make_state(devices, **settings)
    share = len(state.batch.reward[0])
    own = slice(devices.rank * share, (devices.rank + 1) * share)
    for name in ("raw_action", "log_prob", "reward", "truncation", "termination"):
        getattr(state.batch, name).copy_(batch[name][:, own])
    for param, name in zip(state.batch.policy_params, ("loc", "scale"), strict=True):
        param.copy_(batch[name][:, own])
    state.batch.observation["state"].copy_(batch["observation"][:, own])
    state.batch.bootstrap_observation["state"].copy_(batch["bootstrap_observation"][own])
    state.learner.noise = RecordedNoise(noise["normals"][devices.rank], noise["permutations"][devices.rank])
    state.agent.update_normalizer(state.batch.observation, devices)
    metrics = state.learner.update()
    state.learner.noise.assert_spent()
    return {"flat": state.learner.flat.detach(), "metrics": metrics, **state.agent.normalizer["state"].state_dict()}


def statistics_of(devices: Devices, batches: list[torch.Tensor], mode: str) -> dict[str, torch.Tensor]:
    """Statistics after this device's part of every batch `(devices * n, dim)`."""
    statistics = RunningStatistics(batches[0].shape[1], mode=mode, std_eps=1e-6)
    for batch in batches:
        devices.update(statistics, batch.chunk(devices.count)[devices.rank])
    return statistics.state_dict()


def exchange(devices: Devices) -> dict[str, object]:
    """Every kind of exchange."""
    x = torch.tensor([1.0, 10.0]) * (devices.rank + 1)
    return {
        "sum": devices.sum_(x.clone()),
        "mean": devices.mean_(x.clone()),
        "gathered": devices.gathered(x[None]),
        "any": [devices.any(devices.rank == 1), devices.any(False)],
        "total": devices.total(devices.rank + 5),
        "text": devices.from_first("runs/größe" if devices.rank == 0 else ""),
        "no_text": devices.from_first(),
    }
