"""Trainings from pixels, end to end: what is stored, resumed, evaluated and saved. Small enough for seconds."""

import shutil

import pytest
import torch

import torch_ppo
from tests.helpers.ball import SIZE, BallTask
from torch_ppo.learning.train_step import training_step
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config
from torch_ppo.settings.plan import summary

KEY = "pixels/front"
SETTINGS = {
    "num_timesteps": 160,
    "vision": True,
    "physics": "warp",
    "device": "cpu",
    "num_envs": 4,
    "episode_length": 7,
    "unroll_length": 5,
    "batch_size": 4,
    "num_minibatches": 2,
    "num_updates_per_batch": 2,
    "num_evals": 2,
    "num_eval_envs": 2,
    "policy_hidden_layer_sizes": (8,),
    "value_hidden_layer_sizes": (8,),
    "cnn_output_channels": (4,),
    "cnn_kernel_size": (5,),
    "cnn_stride": (3,),
    "compile": False,
}


def make_state(task=None, **settings):
    return TrainingState(Config(**{**SETTINGS, **settings}), task or BallTask())


def test_pictures_are_stored_as_bytes_and_told_in_the_plan():
    state = make_state()
    state.collector()
    stored = state.batch.observation[KEY]
    assert stored.dtype == torch.uint8 and stored.shape == (5, 8, SIZE, SIZE, 3)
    assert state.batch.bootstrap_observation[KEY].dtype == torch.uint8
    assert state.batch.pixel_bytes == {KEY: 3 * SIZE**2} and stored.nbytes == 40 * 3 * SIZE**2
    (line,) = [line for line in summary(state.config, state.batch.pixel_bytes).splitlines() if "pixels" in line]
    assert f"{KEY} 1,728 bytes in each of 40 transitions" in line and line.endswith("= 0 MB")
    large = Config(num_timesteps=1, num_envs=1024, batch_size=256, num_minibatches=8, unroll_length=20)
    assert "40,960 transitions of a training step = 503 MB" in summary(large, {KEY: 64 * 64 * 3})
    assert "pixels" not in summary(state.config)


def test_pictures_are_not_normalized():
    state = make_state(normalize_observations=True)
    training_step(state.collector, state.learner)
    assert list(state.agent.normalizer) == ["state"]


def test_a_batch_has_what_was_seen():
    """Step by step the pictures of an env that goes the same way; afterwards what follows the last step."""
    state, twin = make_state(), make_state()
    state.collector.unroll()
    record = state.collector.record
    for t in range(5):
        assert torch.equal(record.observation[KEY][t], twin.env.observation[KEY])
        twin.env.step(state.agent.distribution.action(record.raw_action[t]))
    assert torch.equal(record.bootstrap_observation[KEY], twin.env.observation[KEY])


@pytest.mark.parametrize("settings", [{}, {"auto_reset": "fresh", "history": 2}], ids=["plain", "history"])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(settings, differences):
    def after(state, steps):
        for _ in range(steps):
            training_step(state.collector, state.learner)
        return state.checkpoint()

    whole, first, second = (make_state(**settings) for _ in range(3))
    expected = after(whole, 3)
    second.load_checkpoint(after(first, 1))
    found = after(second, 2)
    for name in ("agent", "optimizer", "env", "collector", "generators"):
        assert differences(found[name], expected[name]) == [], name


def test_seeds_decide(differences):
    """The same gives the same, another other networks."""

    def trained(seed):
        return torch_ppo.train(BallTask(), **{**SETTINGS, "seed": seed})[1]

    first, again, other = trained(0), trained(0), trained(1)
    assert differences(list(first), list(again)) == [] and differences(list(first), list(other)) != []


def test_view_size_is_what_policies_see():
    state = make_state(view_size=11)
    assert state.env.observation_sizes[KEY] == state.evaluator.env.observation_sizes[KEY] == (11, 11, 3)
    with pytest.raises(torch_ppo.UserError, match="view_size"):
        make_state(view_size=0)
    with pytest.raises(torch_ppo.UserError, match="view_size"):
        make_state(vision=False, view_size=11)


def test_without_vision_nothing_is_drawn(monkeypatch):
    monkeypatch.setattr("torch_ppo.simulation.warp_engine.WarpPhysics.render", lambda self: 1 / 0)
    convolutions = {name: getattr(Config, name) for name in SETTINGS if name.startswith("cnn_")}
    state = make_state(vision=False, **convolutions)
    training_step(state.collector, state.learner)
    assert state.env.observation_sizes == {"state": 1}
    with pytest.raises(torch_ppo.UserError, match="vision = true"):
        make_state(BallTask(with_state=False), vision=False, **convolutions)


def test_truncations_are_bootstrapped_with_the_picture_before_the_restart():
    """Values are those of the final pictures."""
    state = make_state(bootstrap_on_truncation=True, action_delay=0)
    state.collector.unroll()
    record = state.collector.record
    assert record.final_observation[KEY].dtype == torch.uint8
    torch.testing.assert_close(record.final_value, state.agent.values(record.final_observation))
    ended = record.truncation[:-1].bool()
    if ended.any():
        assert not torch.equal(record.final_observation[KEY][:-1][ended], record.observation[KEY][1:][ended])
    assert KEY not in make_state().collector.record.final_observation


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own, while it compiles
def test_a_compiled_training_is_the_same_but_for_rounding():
    plain, compiled = make_state(), make_state(compile=True)
    for state in (plain, compiled):
        training_step(state.collector, state.learner)
    assert torch.equal(plain.batch.observation[KEY][0], compiled.batch.observation[KEY][0])
    for name, x in plain.agent.state_dict().items():
        torch.testing.assert_close(compiled.agent.state_dict()[name], x, rtol=1e-3, atol=1e-4)


def test_a_saved_run_acts_where_it_was_trained(tmp_path):
    """Evaluated anew, it draws the size of picture that it was trained with."""
    task = BallTask()
    make_policy, params, _ = torch_ppo.train(task, **{**SETTINGS, "view_size": 13})
    env = torch_ppo.make_env(task, 3, physics="warp", view_size=13)
    action, _ = make_policy(params, deterministic=True)(env.observation, None)
    assert action.shape == (3, 1) and action.isfinite().all()
