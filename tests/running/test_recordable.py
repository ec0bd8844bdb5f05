"""What CUDA graphs are made of can be recorded, and stays true: seen on the CPU, by graphs that are played there.

Three ways to look, each of which finds what others do not: graphs that are replayed, bit for bit; operations, numbers and
addresses now and after all that happens to a run; and torch's meta device, which has no numbers to read.
The last tests plant defects, and expect to find them.
"""

import pytest
import torch
import warp as wp

from tests.helpers.graph_on_cpu import NotRecordable, graphs_on_cpu, trace
from tests.helpers.on_meta import OnlyMeta, meta_parts
from tests.test_parameters import CHANGED
from torch_ppo.envs import ENVS, make_task
from torch_ppo.learning.collect import Collector
from torch_ppo.learning.train_step import training_step
from torch_ppo.learning.update import Learner
from torch_ppo.running.checkpoint import restore_networks
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config
from torch_ppo.simulation import capture

SETTINGS = {
    "num_timesteps": 10**6,
    "num_envs": 4,
    "num_evals": 2,
    "num_eval_envs": 3,
    "episode_length": 7,
    "batch_size": 4,
    "num_minibatches": 2,
    "unroll_length": 5,
    "learning_rate": 1e-2,
    "normalize_observations": True,
    "policy_hidden_layer_sizes": (8,),
    "value_hidden_layer_sizes": (8,),
    "device": "cpu",
    "physics": "warp",
    "capture": "physics",
    "compile": False,
}
# What adds code to a step, gathered so that few runs have it all.
OPTIONS = {
    "plain": {},
    "stored": {
        "gae": "textbook",
        "gae_per": "batch",
        "minibatch_of": "transitions",
        "batch_size": 20,
        "target_kl": 1e-3,
        "normalize_rewards": True,
        "reward_clip": 5.0,
        "bootstrap_on_truncation": True,
        "learning_rate_schedule": "COSINE",
        "learning_rate_warmup_timesteps": 160,
        "clipping_epsilon_final": 0.1,
        "entropy_cost_final": 0.0,
        "random_episode_phase": True,
    },
    "quantiles": {
        "use_distributional_critic": True,
        "clipping_epsilon_value": 0.01,
        "bootstrap_on_timeout": True,
        "log_training_metrics": True,
        "auto_reset": "random",
        "learning_rate_schedule": "ADAPTIVE_KL",
        "max_grad_norm": 0.5,
        "action_repeat": 2,
        "bf16": True,
        "deterministic_eval": True,
    },
    "normal": {
        "distribution_type": "normal",
        "noise_std_type": "log",
        "state_dependent_std": True,
        "mean_clip_scale": 2.0,
        "layer_norm": True,
        "normalize_observations_mode": "ema",
        "normalize_until_count": 100,
        "normalizer_clip": 3.0,
        "max_state": 4.0,  # worlds break
    },
    "late": {"auto_reset": "fresh", "history": 3, "action_delay": (0, 2), "action_repeat": 2},
}
JOYSTICK = {"value_obs_key": "privileged_state", "randomize": True}
VISION = {
    "vision": True,
    "view_size": 8,
    "history": 2,
    "augment_pixels": True,
    "shared_encoder": True,
    "cnn_output_channels": (4,),
    "cnn_kernel_size": (3,),
    "cnn_stride": (2,),
}
NEEDS_JOYSTICK = ("randomize", "randomize_eval", "policy_obs_key", "value_obs_key", "history_obs_keys")
QUICK = (
    "cartpole-stored",
    "cartpole-quantiles",
    "cartpole-normal",
    "quadruped_joystick-plain",
    "cartpole_balance_vision-plain",
    "reacher_vision-late",
)


def needed_by(task):
    """Settings without which a task does not show what it has."""
    if task.endswith("_vision"):
        return VISION
    return JOYSTICK if task.endswith(("joystick", "rough")) else {}


def cases():
    """(task, settings): all options together, all tasks, and each parameter by itself."""
    found = {f"cartpole-{name}": ("cartpole", settings) for name, settings in OPTIONS.items()}
    for task in ENVS:
        found[f"{task}-plain"] = (task, needed_by(task))
    found["reacher_vision-late"] = (
        "reacher_vision",
        {**VISION, "auto_reset": "fresh", "bootstrap_on_truncation": True, "shared_encoder": False},
    )
    found["quadruped_joystick-late"] = ("quadruped_joystick", {**JOYSTICK, **OPTIONS["late"]})
    for name, (value, others) in CHANGED.items():
        joystick = name in NEEDS_JOYSTICK
        found[name] = ("quadruped_joystick" if joystick else "cartpole", {**others, name: value})
    return [
        pytest.param(*case, id=name, marks=[] if name in QUICK else pytest.mark.slow) for name, case in found.items()
    ]


def make_state(task, settings):
    return TrainingState(Config(env=task, **{**SETTINGS, **settings}), make_task(task))


def timeless(metrics):
    return {name: x for name, x in metrics.items() if not name.endswith(("sps", "walltime", "_time"))}


def course(state):
    """All that a few training steps with a reset, and evaluations where there are any, come to."""
    seen = []
    for i in range(3):
        metrics = training_step(state.collector, state.learner).clone()
        seen.append([metrics.nan_to_num(), state.batch.broken.clone(), state.batch.reward.clone()])
        if i == 0:
            state.env.reset()
        if state.evaluator:
            seen.append({name: str(x) for name, x in timeless(state.evaluator()).items()})
    saved = state.checkpoint()
    kept = {name: saved[name] for name in ("agent", "optimizer", "env", "collector", "learner", "generators")}
    counts = kept["env"]["physics"]
    kept["env"]["physics"] = {name: x.nan_to_num() for name, x in counts.items()}
    return [seen, kept]


@pytest.mark.parametrize(("task", "settings"), cases())
def test_replayed_training_is_the_same_bit_for_bit(task, settings, differences):
    expected = course(make_state(task, {**settings, "capture": "none"}))
    with graphs_on_cpu():
        state = make_state(task, settings)
    assert state.collector.unroll.num_steps > 50 and state.learner.sgd_pass.num_steps > 100
    assert differences(course(state), expected) == []


def test_physics_alone_is_replayed_beside_recorded_unrolls(monkeypatch):
    """What lies outside the graph of an unroll, resets and the physics that `tools.bench` measures, is recorded too."""
    with graphs_on_cpu():
        state = make_state("cartpole", {})
    state.evaluator()
    launched, launch = [], wp.launch
    monkeypatch.setattr(wp, "launch", lambda *args, **kwargs: launched.append(None) or launch(*args, **kwargs))
    state.env.reset()
    state.env.physics.step(state.env.num_substeps)
    state.evaluator()
    assert state.config.capture == "unroll" and launched == []
    with capture.recording():
        state.env.reset()
    assert len(launched) > 20  # the counter counts


def recorded_functions(state):
    found = {"unroll": state.collector.unroll, "sgd_pass": state.learner.sgd_pass}
    return found | ({"advance": state.evaluator.advance} if state.evaluator else {})


def what_changes(state):
    """The functions whose graphs would no longer be true after training, a reset, an evaluation and a checkpoint."""
    functions, stale = recorded_functions(state), set()
    for function in functions.values():
        function()
    recorded = {name: trace(function) for name, function in functions.items()}
    saved = state.checkpoint()

    def look():
        stale.update(name for name, function in functions.items() if trace(function) != recorded[name])

    for _ in range(2):
        training_step(state.collector, state.learner)
    state.env.reset()
    if state.evaluator:
        state.evaluator()
    look()
    state.load_checkpoint(saved)
    restore_networks(state.agent, saved["agent"], restore_value=True, task="the task")
    look()
    return stale


@pytest.mark.parametrize(("task", "settings"), cases())
def test_nothing_that_is_recorded_changes(task, settings):
    assert what_changes(make_state(task, settings)) == set()


@pytest.mark.parametrize(("task", "settings"), cases())
def test_nothing_that_is_recorded_reads_or_leaves_the_device(task, settings, monkeypatch):
    run_on_meta(task, settings, monkeypatch)


def run_on_meta(task, settings, monkeypatch):
    """Everything that is recorded or queued in a training step, and a piece of an evaluation."""
    parts = meta_parts(make_task(task), Config(env=task, **{**SETTINGS, **settings}), monkeypatch)
    with OnlyMeta():
        parts.collector.unroll()
        parts.learner.prepare_batch()
        parts.agent.update_normalizer(parts.learner.batch.observation)
        parts.learner.sgd_pass()
        parts.evaluator.advance()


def with_extra(method, extra):
    """`method`, with `extra(self)` before."""

    def changed(self):
        extra(self)
        method(self)

    return changed


def reads_a_number(collector):
    if collector.env.reward.sum().item() > 1e9:
        raise AssertionError


def reads_a_list(collector):
    collector.env.done.tolist()


def asks_how_many(collector):
    collector.env.reward[collector.env.done.bool()].sum()


def makes_a_tensor(collector):
    collector.env.reward.add_(torch.tensor(1.0, device=collector.env.device))


def counts_in_python(collector):
    collector.count = getattr(collector, "count", 0) + 1
    collector.env.reward.add_(0.0 * collector.count)
    collector.batch.reward.add_(collector.count)


def uses_another_device(collector):
    collector.env.reward.add_(torch.ones(collector.env.num_envs))


@pytest.mark.parametrize("defect", [reads_a_number, asks_how_many, makes_a_tensor])
def test_a_recording_refuses_what_a_cuda_graph_cannot_hold(monkeypatch, defect):
    monkeypatch.setattr(Collector, "unroll", with_extra(Collector.unroll, defect))
    with graphs_on_cpu(), pytest.raises(NotRecordable, match=r"from the (device|host)"):
        make_state("cartpole", {})


@pytest.mark.parametrize("defect", [reads_a_number, reads_a_list, asks_how_many, uses_another_device])
def test_the_meta_device_refuses_them_too(monkeypatch, defect):
    monkeypatch.setattr(Collector, "unroll", with_extra(Collector.unroll, defect))
    with pytest.raises((RuntimeError, NotImplementedError, AssertionError)):
        run_on_meta("cartpole", {}, monkeypatch)


def test_a_counter_in_python_is_found(monkeypatch, differences):
    monkeypatch.setattr(Collector, "unroll", with_extra(Collector.unroll, counts_in_python))
    assert what_changes(make_state("cartpole", {})) == {"unroll"}
    expected = course(make_state("cartpole", {"capture": "none"}))
    with graphs_on_cpu():
        state = make_state("cartpole", {})
    assert differences(course(state), expected) != []


def replaces_the_learning_rate(learner, saved):
    learner.optimizer.load_state_dict(saved)
    learner.learning_rate = learner.optimizer.param_groups[0]["lr"]


def test_a_replaced_tensor_is_found(monkeypatch, differences):
    monkeypatch.setattr(Learner, "load_optimizer", replaces_the_learning_rate)
    assert what_changes(make_state("cartpole", {})) == {"sgd_pass"}
    expected = course(make_state("cartpole", {"capture": "none"}))
    with graphs_on_cpu():
        state = make_state("cartpole", {})  # which loads a checkpoint after recording
    assert differences(course(state), expected) != []


def replaces_the_truncation(env):
    env.truncation = env.truncation.clone()


def test_a_tensor_that_a_reset_replaces_is_found(monkeypatch):
    from torch_ppo.simulation.env import Env

    monkeypatch.setattr(Env, "reset", with_extra(Env.reset, replaces_the_truncation))
    assert "unroll" in what_changes(make_state("cartpole", {}))


def test_graphs_of_options_are_not_empty_words():
    """The options act here: their graphs differ."""
    with graphs_on_cpu():
        sizes = {
            name: (state.collector.unroll.num_steps, state.learner.sgd_pass.num_steps)
            for name, settings in OPTIONS.items()
            for state in [make_state("cartpole", settings)]
        }
    assert len(set(sizes.values())) == len(OPTIONS)


@pytest.mark.parametrize(
    "task", [task if task == "ant" else pytest.param(task, marks=pytest.mark.slow) for task in ENVS]
)
def test_every_start_can_be_recorded(task, monkeypatch):
    """With fresh starts they are drawn in every step; not an operation of theirs may leave the device."""
    run_on_meta(task, {**needed_by(task), "auto_reset": "fresh"}, monkeypatch)
