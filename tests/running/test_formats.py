"""Checkpoints of an older format go on as they would have."""

import torch

import torch_ppo
from torch_ppo.running.checkpoint import load_checkpoint
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config
from torch_ppo.train import run


def make_state(num_timesteps):
    config = Config(
        env="cartpole", num_timesteps=num_timesteps, num_envs=4, batch_size=4, num_minibatches=2, unroll_length=5,
        episode_length=12, run_evals=False, normalize_observations=True, device="cpu", policy_hidden_layer_sizes=(4,),
        value_hidden_layer_sizes=(4,),
    )  # fmt: skip
    return TrainingState(config, torch_ppo.make_task("cartpole"))


def test_format_2_goes_on_exactly(tmp_path, differences):
    whole, first, second = make_state(160), make_state(80), make_state(160)
    run(whole)
    run(first)
    old = first.checkpoint()
    # As it was: no hash, broken worlds in one number, start states of positions and velocities.
    old["format"] = 2
    old["env"]["counters"]["broken"] = torch.tensor(3)
    old["env"]["pool"] = {name: old["env"]["pool"][name] for name in ("qpos", "qvel")}
    torch.save(old, tmp_path / "last.pt")
    second.load_checkpoint(load_checkpoint(tmp_path / "last.pt"))
    assert second.env.broken.counts.tolist() == [3, 0, 0]
    run(second)
    second.env.broken.counts.zero_()
    changed = differences(whole.checkpoint(), second.checkpoint())
    assert [path for path in changed if "time" not in path] == []


def test_a_task_that_has_come_to_remember_more():
    """It begins at 0."""
    config = Config(
        env="quadruped_joystick", num_timesteps=1, num_envs=2, batch_size=2, num_minibatches=1, unroll_length=2,
        episode_length=12, run_evals=False, device="cpu", policy_hidden_layer_sizes=(4,), value_hidden_layer_sizes=(4,),
    )  # fmt: skip
    state, resumed = (TrainingState(config, torch_ppo.make_task("quadruped_joystick")) for _ in range(2))
    for each in (state, resumed):
        each.collector()
    assert resumed.env.memory["way_off"].min() > 0
    old = state.checkpoint()
    old["format"] = 3
    for name in ("memory", "pool_memory"):
        del old["env"][name]["way_off"]
    resumed.load_checkpoint(old)
    assert resumed.env.memory["way_off"].eq(0).all()
    assert torch.equal(resumed.env.memory["command"], state.env.memory["command"])
