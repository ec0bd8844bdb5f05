"""The parts of a training on torch's meta device, which has shapes and no numbers: whatever would read one raises."""

from collections.abc import Mapping
from dataclasses import dataclass

import mujoco
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from torch_ppo.environments.sources import seen_and_done
from torch_ppo.learning.agent import Agent, make_agent
from torch_ppo.learning.batch import allocate_batch
from torch_ppo.learning.collect import Collector
from torch_ppo.learning.update import Learner
from torch_ppo.running.accelerate import set_precision
from torch_ppo.running.evaluate import Evaluator, act_of
from torch_ppo.settings.config import Config
from torch_ppo.simulation import env as env_module
from torch_ppo.simulation.dry_step import Found, as_observation, as_reward
from torch_ppo.simulation.env import Env
from torch_ppo.simulation.physics import keyframe, masked_write, sensor_slice, sensor_slices
from torch_ppo.simulation.task import Task
from torch_ppo.simulation.views import View

META = torch.device("meta")


class MetaPhysics:
    """See `torch_ppo.simulation.physics` for the contract; steps do nothing."""

    can_be_compiled = False

    def __init__(self, model: mujoco.MjModel, num_envs: int) -> None:
        self.model, self.num_envs, self.device = model, num_envs, META

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(num_envs, *shape, device=META, dtype=dtype)

        self.qpos, self.qvel, self.act, self.ctrl = map(zeros, (model.nq, model.nv, model.na, model.nu))
        self.sensordata, self.time = zeros(model.nsensordata), zeros()
        self.mocap_pos, self.mocap_quat = zeros(model.nmocap, 3), zeros(model.nmocap, 4)
        self.qfrc_applied, self.xfrc_applied = zeros(model.nv), zeros(model.nbody, 6)
        self.overflow = zeros(dtype=torch.int32)
        self._sensors = sensor_slices(model)

    def set_views(self, views: Mapping[str, View]) -> None:
        self.pictures = {
            name: torch.zeros(self.num_envs, view.height, view.width, view.channels, device=META, dtype=torch.uint8)
            for name, view in views.items()
        }

    def render(self) -> None: ...

    def step(self, num_substeps: int) -> None: ...

    def forward(self, where: Tensor | None = None) -> None: ...

    def start_parts(self) -> dict[str, Tensor]:
        names = ("qpos", "qvel", "act", "ctrl", "mocap_pos", "mocap_quat", "qfrc_applied", "xfrc_applied")
        return {name: getattr(self, name) for name in names}

    def reset(self, mask: Tensor, start: Mapping[str, Tensor]) -> None:
        for name, tensor in self.start_parts().items():
            if tensor.numel():
                masked_write(mask, start[name], tensor)
        masked_write(mask, 0.0, self.time)

    def set_model_fields(self, fields: Mapping[str, Tensor]) -> None:
        assert all(value.device == META for value in fields.values())

    def sensor(self, name: str) -> Tensor:
        return self.sensordata[:, sensor_slice(self._sensors, name)]

    def keyframe(self, name: str) -> dict[str, Tensor]:
        return keyframe(self.model, name, META)

    def state(self) -> dict[str, Tensor]:
        return self.start_parts()


class MetaNoise:
    """See `torch_ppo.formulas.noise`."""

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, device=META)

    def integers(self, high: int, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.int64, device=META).random_(high)

    def permutation(self, n: int) -> Tensor:
        return torch.empty(n, dtype=torch.int64, device=META).random_().argsort()


class OnlyMeta(TorchDispatchMode):
    """Refuses operations with a tensor elsewhere, those with one number included: a graph would freeze them."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves((args, kwargs, out)):
            assert not isinstance(x, Tensor) or x.device == META, f"{func} on {x.device}"
        return out


def shapes_of(
    task: Task,
    physics: MetaPhysics,
    memory: dict[str, Tensor],
    action_dim: int,
    generator: None,
    pictures: object,
) -> Found:
    """Stands in for `dry_step`, which reads numbers to check them, once, when an env is made."""
    observed = task.observe(physics, memory)
    metrics = as_reward(task.reward(physics, memory, torch.zeros(physics.num_envs, action_dim, device=META)))[1]
    names = dict.fromkeys((*task.metric_names, *metrics))
    has_success = task.success(physics, memory) is not None
    return Found(as_observation(observed), isinstance(observed, Tensor), tuple(names), has_success)


@dataclass(frozen=True)
class Parts:
    agent: Agent
    collector: Collector
    learner: Learner
    evaluator: Evaluator


def meta_parts(task: Task, config: Config, monkeypatch: pytest.MonkeyPatch) -> Parts:
    """Collector, learner and evaluator of `config` on the meta device; `reset` is not called there, `start` is not run."""
    monkeypatch.setattr(env_module, "dry_step", shapes_of)
    monkeypatch.setattr(Env, "reset", lambda self: None)
    monkeypatch.setattr(type(task), "make_physics", lambda self, n, **_: MetaPhysics(self.make_model(), n))
    adam = torch.optim.Adam  # fused Adam knows no meta device
    monkeypatch.setattr(torch.optim, "Adam", lambda parameters, lr, **_: adam(parameters, lr=1e-3))
    monkeypatch.setattr(adam, "step", lambda self: None)

    def env(num_envs: int, **options: object) -> Env:
        return Env(
            task,
            num_envs,
            episode_length=config.episode_length,
            device=META,
            generator=None,
            action_repeat=config.action_repeat,
            **seen_and_done(config),
            max_state=config.max_state,
            **options,
        )

    trained = env(config.num_envs, auto_reset=config.auto_reset, keep_final=True)
    agent = make_agent(config, trained.observation_sizes, trained.action_dim).to(META)
    set_precision(agent, config.matmul_precision, config.bf16)
    for statistics in agent.normalizer.values():
        statistics._begun = True  # with normalizer_clip its first update reads, that one only
    batch, noise = allocate_batch(config, trained, agent), MetaNoise()
    evaluated = env(config.num_eval_envs)
    act = act_of(agent, evaluated, noise, deterministic=config.deterministic_eval)
    return Parts(
        agent,
        Collector(config, trained, agent, batch, noise),
        Learner(agent, config, batch, noise),
        Evaluator(evaluated, act),
    )
