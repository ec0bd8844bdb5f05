"""Compiled and recorded training equals the plain one, and reads nothing that was left from the step before.

On a machine with CUDA the same tests run there at every level of capture.
"""

import shutil

import pytest
import torch
from torch import Tensor

from torch_ppo.envs import ENVS, make_task
from torch_ppo.learning.train_step import training_step
from torch_ppo.running import accelerate
from torch_ppo.running.checkpoint import agent_from_checkpoint
from torch_ppo.running.determinism import determinism_left_as_it_was
from torch_ppo.running.resolved import resolve_config
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config
from torch_ppo.simulation.env import Env

CUDA = pytest.mark.cuda
DEVICES = ["cpu", pytest.param("cuda", marks=CUDA)]
# Two unrolls per env and training step; episodes end within them.
SETTINGS = {
    "num_timesteps": 10**6,
    "num_envs": 16,
    "num_evals": 2,
    "num_eval_envs": 4,
    "episode_length": 25,
    "unroll_length": 10,
    "batch_size": 8,
    "num_minibatches": 4,
    "learning_rate": 1e-3,
    "entropy_cost": 1e-3,
    "normalize_observations": True,
    "physics": "warp",
    "policy_hidden_layer_sizes": (16, 16),
    "value_hidden_layer_sizes": (32,),
    "seed": 1,
}
VARIANTS = {
    "plain": {},
    "adaptive": {"learning_rate_schedule": "ADAPTIVE_KL", "max_grad_norm": 0.5},
    "all stored": {"log_training_metrics": True, "clipping_epsilon_value": 0.2, "auto_reset": "random"},
}
GARBAGE = {torch.float32: torch.nan, torch.int64: 0, torch.int32: 12345}


def make_state(device="cpu", capture="none", variant="plain", *, task="cartpole", **settings):
    settings = {**VARIANTS[variant], "device": device, "capture": capture, "compile": False, **settings}
    return TrainingState(Config(**{**SETTINGS, **settings}), make_task(task))


def generator(device):
    return torch.Generator(device).manual_seed(0)


def tensors(nest):
    """All tensors in nested dicts and objects of ours that are written anew in every training step."""
    if isinstance(nest, Tensor):
        yield nest
    elif isinstance(nest, dict):
        for value in nest.values():
            yield from tensors(value)
    elif hasattr(nest, "__dataclass_fields__"):
        for name in nest.__dataclass_fields__:
            yield from tensors(getattr(nest, name))


def poison(state):
    """Overwrites whatever a training step is meant to write before it reads it."""
    collector, learner, env = state.collector, state.learner, state.env
    stale = [collector.record, state.batch, learner.metrics, learner.order, env.reward, env.truncation]
    stale += [env.termination, env.metrics, env.physics.ctrl, derived(env.physics)]
    if learner.flat.grad is not None:
        stale.append(learner.flat.grad)
    with torch.no_grad():
        for tensor in (tensor for nest in stale for tensor in tensors(nest)):
            tensor.fill_(GARBAGE[tensor.dtype])


def derived(physics):
    """What MuJoCo Warp computes from the state in every step."""
    import warp as wp

    names = "xmat xipos ximat xanchor xaxis geom_xpos geom_xmat subtree_com cdof cinert cvel crb".split()
    names += "actuator_length actuator_velocity actuator_force qfrc_bias qfrc_passive qfrc_actuator".split()
    names += "qfrc_smooth qfrc_constraint qacc qacc_smooth sensordata".split()
    arrays = {name: wp.to_torch(getattr(physics._data, name)) for name in (*names, "xpos", "xquat")}
    # The world's own frame is set once and for all.
    return arrays | {name: arrays[name][:, 1:] for name in ("xpos", "xquat")}


def train(state, num_steps=3, before=lambda state: None):
    """Batches, parameters and metrics of every training step, cloned."""
    seen = []
    for _ in range(num_steps):
        before(state)
        metrics = training_step(state.collector, state.learner)
        written = {"batch": list(tensors(state.batch)), "metrics": metrics, "parameters": state.learner.flat}
        seen.append(
            {name: [x.clone() for x in value] if name == "batch" else value.detach().clone()}
            for name, value in written.items()
        )
        seen[-1] = {name: value for part in seen[-1] for name, value in part.items()}
    return seen


def levels(device):
    return ["physics", "unroll"] if device == "cuda" else ["physics"]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("device", DEVICES)
def test_every_level_of_capture_gives_the_same(device, variant, differences):
    """Bit for bit on the CPU and wherever the same kernels run; a CUDA graph may choose others for its products."""
    expected = train(make_state(device, "none", variant))
    assert sum(x.sum() for x in expected[-1]["batch"]).isfinite()
    for level in levels(device):
        found = train(make_state(device, level, variant))
        if level == "physics":
            assert differences(found, expected) == []
        else:
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("device", DEVICES)
def test_nothing_stale_is_read(device, differences):
    for level in ("none", *levels(device)):
        expected = train(make_state(device, level, "all stored"))
        assert differences(train(make_state(device, level, "all stored"), before=poison), expected) == []


@pytest.mark.parametrize("device", DEVICES)
def test_stale_evaluation_is_not_read(device):
    for level in ("none", *levels(device)):
        first, second = make_state(device, level), make_state(device, level)
        evaluator = second.evaluator
        for tensor in (*evaluator.sums.values(), evaluator.active, evaluator.lengths, *tensors(evaluator.env.metrics)):
            tensor.fill_(GARBAGE[tensor.dtype])
        expected, found = first.evaluator(), evaluator()
        assert found["eval/episode_reward"] == expected["eval/episode_reward"] > 0


def test_recording_leaves_no_trace(differences):
    """Compiling and recording try things out; the run begins where it would have begun without."""
    plain = make_state(variant="adaptive")
    trial = make_state(variant="adaptive")
    before = trial.checkpoint()
    trial.collector.unroll()
    trial.learner.sgd_pass()
    assert differences(trial.checkpoint()["agent"], before["agent"]) != []
    trial.load_checkpoint(before)
    assert differences(train(trial), train(plain)) == []


NEEDS_COMPILER = pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
COMPILED = {
    **{name: ("cartpole", settings) for name, settings in VARIANTS.items()},
    "C MuJoCo": ("cartpole", {"physics": "mujoco", "action_repeat": 2, "normalize_rewards": True}),
    "normal": (
        "cartpole",
        {
            "distribution_type": "normal",
            "noise_std_type": "log",
            "state_dependent_std": True,
            "mean_clip_scale": 2.0,
            "layer_norm": True,
            "activation": "elu",
            "normalize_observations_mode": "ema",
            "clipping_epsilon_value": 0.2,
        },
    ),
    "options": (
        "cartpole",
        {
            "gae": "textbook",
            "gae_per": "batch",
            "minibatch_of": "transitions",
            "batch_size": 80,
            "target_kl": 0.05,
            "normalize_rewards": True,
            "reward_clip": 5.0,
            "bootstrap_on_truncation": True,
            "learning_rate_schedule": "COSINE",
            "learning_rate_warmup_timesteps": 320,
            "clipping_epsilon_final": 0.1,
            "entropy_cost_final": 0.0,
        },
    ),
    "quantiles": (
        "cartpole",
        {"use_distributional_critic": True, "clipping_epsilon_value": 0.01, "bootstrap_on_timeout": True},
    ),
    "joystick": (
        "quadruped_joystick",
        {
            "physics": "auto",
            "value_obs_key": "privileged_state",
            "action_repeat": 2,
            "randomize": True,
            "deterministic": True,  # two simulations of contacts drift apart on CUDA
        },
    ),
}
QUICK = ("plain",)


@NEEDS_COMPILER
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own, while it compiles
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in COMPILED]
)
def test_compiled_training_is_the_same_but_for_rounding(device, name):
    """Three training steps, with settings that do not amplify what is rounded in another order.

    The cosine of a pole near upright would be divided by its deviation, which is as small as what rounding makes of it.
    Contacts amplify, too.
    """
    torch._dynamo.reset()
    task, settings = COMPILED[name]
    settings = {"normalize_observations_std_eps": 0.1, **settings}
    with determinism_left_as_it_was():
        expected, found = (train(make_state(device, "none", task=task, compile=x, **settings)) for x in (False, True))
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)


@pytest.mark.slow
@NEEDS_COMPILER
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("task", ENVS)
def test_every_task_can_be_compiled(device, task):
    """Rewards, observations and ends of 30 random steps, of which the last ten are past a restart."""
    torch._dynamo.reset()
    plain, compiled = (
        Env(
            make_task(task),
            4,
            episode_length=20,
            device=torch.device(device),
            generator=generator(device),
            engine="warp" if task.endswith("_vision") else "auto",  # which draws everywhere
            deterministic=True,  # two simulations of contacts drift apart on CUDA
        )
        for _ in range(2)
    )
    for name in compiled.compilable:
        setattr(compiled, name, accelerate.compiled(getattr(compiled, name)))
    actions = generator(device)
    for _ in range(30):
        action = torch.empty(4, plain.action_dim, device=device).uniform_(-1.0, 1.0, generator=actions)
        plain.step(action)
        compiled.step(action)
        for name in ("reward", "done", "observation"):
            torch.testing.assert_close(getattr(compiled, name), getattr(plain, name), rtol=1e-3, atol=1e-3)


def test_high_precision_is_the_highest_on_the_cpu(differences):
    """JAX computes in float32 there as well."""
    high, highest = (train(make_state(matmul_precision=name), 1) for name in ("high", "highest"))
    assert differences(high, highest) == []


@pytest.mark.parametrize("device", DEVICES)
def test_bfloat16_is_near_float32(device):
    """Products of the networks only: parameters stay float32, and so does what is exported."""
    state = make_state(device, bf16=True)
    found, expected = train(state, 1)[0], train(make_state(device), 1)[0]
    change, expected_change = (x["parameters"] - make_state(device).learner.flat for x in (found, expected))
    assert not torch.equal(change, expected_change)
    assert torch.cosine_similarity(change, expected_change, dim=0) > 0.95
    assert found["parameters"].dtype == torch.float32
    exported = agent_from_checkpoint(state.checkpoint())
    seen = exported.normalizer["state"]
    observation = {"state": seen.mean + seen.std * torch.randn(64, 5, generator=torch.Generator().manual_seed(0))}
    live = state.agent.mode({"state": observation["state"].to(device)}).cpu()
    assert 1e-6 < (exported.mode(observation) - live).abs().max().item() < 0.05


def test_unroll_capture_needs_cuda():
    config = Config(**SETTINGS, device="cpu", capture="unroll")
    with pytest.raises(ValueError, match="capture = unroll records CUDA graphs"):
        resolve_config(config, make_task("cartpole"))


@CUDA
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Synchronization debug mode")
@pytest.mark.parametrize("compile", [False, True], ids=["eager", "compiled"])
def test_a_training_step_never_waits_for_the_device(compile):
    torch._dynamo.reset()
    state = make_state("cuda", "unroll", compile=compile)
    training_step(state.collector, state.learner)
    torch.cuda.set_sync_debug_mode("error")
    try:
        training_step(state.collector, state.learner)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@CUDA
def test_resume_of_a_recorded_run(differences):
    """A checkpoint goes into the tensors that the graphs work on."""
    state = make_state("cuda", "unroll")
    train(state, 2)
    saved = state.checkpoint()
    expected = train(state, 2)
    resumed = make_state("cuda", "unroll")
    resumed.load_checkpoint(saved)
    torch.testing.assert_close(train(resumed, 2), expected, rtol=1e-3, atol=1e-3)


@CUDA
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_replay_uses_no_memory_but_its_own(variant):
    """After recording, whatever memory is free is filled with NaN; graphs that wrote or read there would show it.

    torch finds the memory of a graph under way by the capture's id, and Warp ends and resumes captures around loops.
    """
    expected = train(make_state("cuda", "none", variant))
    state = make_state("cuda", "unroll", variant)
    torch.cuda.synchronize()
    for size in [2**k for k in range(9, 27)]:
        blocks = [torch.full((size // 4,), torch.nan, device="cuda") for _ in range(64 if size < 2**22 else 8)]
        del blocks
    kept = [torch.full((2**18,), torch.nan, device="cuda") for _ in range(256)]
    torch.cuda.synchronize()
    found = train(state)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    assert all(x.isnan().all() for x in kept), "a graph wrote into memory that is not its own"
    del kept


@CUDA
def test_training_on_a_stream_of_the_callers(differences):
    """Warp's launches follow torch's current stream."""
    expected = train(make_state("cuda", "physics"))
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        found = train(make_state("cuda", "physics"))
    torch.cuda.synchronize()
    assert differences(found, expected) == []
