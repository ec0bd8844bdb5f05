"""Checkpoints of an older format go on as they would have."""

import pytest
import torch

import torch_ppo
from torch_ppo.running.checkpoint import load_checkpoint
from torch_ppo.running.formats import upgraded_env
from torch_ppo.running.loop import run
from torch_ppo.running.training_state import TrainingState, clone, copy_into
from torch_ppo.settings.config import Config
from torch_ppo.simulation.env import Env


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


def test_format_3_of_a_task_with_new_episodes_goes_on(tmp_path):
    """It had observations of start states, and no sensors of them."""

    def make_env(seed):
        generator = torch.Generator().manual_seed(seed)
        task = torch_ppo.make_task("quadruped_joystick")
        return Env(task, 3, episode_length=5, device=torch.device("cpu"), generator=generator, engine="mujoco")

    env, live = make_env(0), make_env(1).state()
    old = clone(env.state())
    del old["pool"]["sensordata"]
    old["pool_observation"] = clone(env.observation)
    sensors = live["pool"]["sensordata"].clone()
    copy_into(live, upgraded_env(old, live, 3, num_substeps=env.num_substeps))
    assert torch.equal(live["pool"]["sensordata"], sensors) and sensors.any()
    assert torch.equal(live["pool"]["qpos"], env.state()["pool"]["qpos"])
    assert torch.equal(live["counters"]["broken"], old["counters"]["broken"])


@pytest.mark.parametrize("engine", ["mujoco", "warp"])
def test_format_4_has_no_count_of_timesteps(engine):
    """It is found from the length of the episodes, which go on as they would have."""

    def make_env():
        generator = torch.Generator().manual_seed(0)
        task = torch_ppo.make_task("cartpole")
        return Env(task, 3, episode_length=5, device=torch.device("cpu"), generator=generator, engine=engine)

    env, resumed = make_env(), make_env()
    env.steps[1], env.steps[2] = 2, 3  # the third has just restarted
    for _ in range(2):
        env.step(torch.zeros(3, 1))
    old, live = clone(env.state()), resumed.state()
    counts = old["physics"].pop("timesteps")
    assert counts.tolist() == [2 * env.num_substeps, 2 * env.num_substeps, 0]
    copy_into(live, upgraded_env(old, live, 4, num_substeps=env.num_substeps))
    assert torch.equal(live["physics"]["timesteps"], counts)
    for each in (env, resumed):
        each.step(torch.ones(3, 1))
    for name, tensor in env.state()["physics"].items():
        assert torch.equal(tensor, live["physics"][name]), name
