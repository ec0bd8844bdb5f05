"""Training: resuming, learning, and the library call."""

import copy
import functools
import inspect
import signal
import subprocess
import sys

import pytest
import torch
from torch import distributions, nn

import torch_ppo
from tests.helpers.brax_arguments import BRAX_DEFAULTS
from tests.helpers.toy import ToyTask
from torch_ppo.envs import make_task
from torch_ppo.envs.cartpole import Cartpole
from torch_ppo.errors import ConfigError
from torch_ppo.formulas.networks import make_ppo_networks
from torch_ppo.running.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from torch_ppo.running.late_numbers import LateNumbers
from torch_ppo.running.loop import DivergedError, run
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config

SMALL = {"policy_hidden_layer_sizes": (8,), "value_hidden_layer_sizes": (8,)}
# 40 env steps per training step, 10 in each env; 6 training steps, an evaluation after each 3.
TINY = {
    "num_timesteps": 240,
    "num_evals": 3,
    "num_envs": 4,
    "num_eval_envs": 2,
    "episode_length": 17,
    "batch_size": 4,
    "num_minibatches": 2,
    "unroll_length": 5,
    "learning_rate": 1e-3,
    "normalize_observations": True,
    "device": "cpu",
}


def train(task=None, **settings):
    """The library call with tiny settings, on the toy by default."""
    settings.setdefault("network_factory", SMALL)
    return torch_ppo.train(task or ToyTask(), **{**TINY, **settings})


def without_times(metrics):
    """Metrics that a second run repeats."""
    return {name: value for name, value in metrics.items() if not name.endswith(("sps", "walltime", "_time"))}


# Resuming

RESUMED = {
    "plain": {},
    "adaptive": {"learning_rate_schedule": "ADAPTIVE_KL", "max_grad_norm": 1.0},
    "phase": {"random_episode_phase": True, "num_resets_per_eval": 2, "normalize_rewards": True},
    "random": {"auto_reset": "random", "num_resets_per_eval": 3, "bootstrap_on_timeout": True},
    "normal": {"distribution_type": "normal", "normalize_observations_mode": "ema", "clipping_epsilon_value": 0.2},
}


class Recorder:
    """The callbacks of a run, and what they were called with."""

    def __init__(self) -> None:
        self.calls = []

    def progress(self, step, metrics):
        self.calls.append((step, without_times(metrics)))

    def run(self, state, **options):
        """Trains, and returns the checkpoint less the times in it."""
        run(state, progress_fn=self.progress, **options)
        checkpoint = copy.deepcopy(state.checkpoint())
        del checkpoint["walltime"], checkpoint["eval_walltime"], checkpoint["interval"]["time"]
        return checkpoint


@functools.cache
def uninterrupted(task_name, settings_name):
    """Configuration, final checkpoint and reports of a whole run."""
    config = Config(env=task_name, **TINY, **SMALL, **RESUMED[settings_name], log_training_metrics=True)
    recorder = Recorder()
    return config, recorder.run(TrainingState(config, resumed_task(task_name))), recorder.calls


class DriftingToy(ToyTask):
    """Time-outs after 3 to 7 steps: memory that start states have too, and episodes of different lengths."""

    def __init__(self) -> None:
        super().__init__(timeout=7.0)

    def start(self, physics, memory, generator):
        super().start(physics, memory, generator)
        memory["t"].uniform_(0.0, 4.0, generator=generator)


def resumed_task(name):
    return DriftingToy() if name == "toy" else make_task(name)


@pytest.mark.parametrize("stop_after", [2, 3, 4], ids=["mid-interval", "after-evaluation", "mid-second-interval"])
@pytest.mark.parametrize("settings_name", RESUMED)
@pytest.mark.parametrize("task_name", ["cartpole", "toy"])
def test_resumed_equals_uninterrupted(task_name, settings_name, stop_after, tmp_path, differences):
    """Bit for bit: networks, optimizer, normalizer, worlds, episodes, random state, counters, and all reports."""
    config, expected, reports = uninterrupted(task_name, settings_name)
    first, second = Recorder(), Recorder()
    state = TrainingState(config, resumed_task(task_name))
    first.run(state, should_stop=lambda state: state.training_steps == stop_after)
    save_checkpoint(state.checkpoint(), tmp_path / "last.pt")

    saved = load_checkpoint(tmp_path / "last.pt")
    assert saved["training_steps"] == stop_after and saved["env_steps"] == 40 * stop_after
    state = TrainingState(Config(**saved["config"]), resumed_task(task_name))
    state.env.reset()  # to start states that are not the run's
    state.load_checkpoint(saved)
    assert differences(second.run(state), expected) == []
    assert differences(first.calls + second.calls, reports) == []


def test_checkpoint_is_a_copy(differences):
    """Training on does not change a checkpoint taken before, nor one that was resumed from."""
    config = Config(**TINY, **SMALL)
    state = TrainingState(config, ToyTask())
    run(state, should_stop=lambda state: state.training_steps == 2)
    taken = state.checkpoint()
    kept = copy.deepcopy(taken)
    run(state)
    assert differences(taken, kept) == []
    state = TrainingState(config, ToyTask())
    state.load_checkpoint(taken)
    run(state)
    assert differences(taken, kept) == []


def test_checkpoint_of_another_shape_is_refused():
    saved = TrainingState(Config(**TINY, **SMALL), ToyTask()).checkpoint()
    state = TrainingState(Config(**{**TINY, "num_envs": 8}, **SMALL), ToyTask())
    with pytest.raises(ValueError, match=r"is \(4, .*\) in the checkpoint, but \(8, .*\) here"):
        state.load_checkpoint(saved)


# Learning


class FallingCartpole(Cartpole):
    """Ends when the pole leans by more than 0.2 rad, so that an untrained policy falls soon."""

    def terminated(self, physics, memory):
        return physics.qpos[:, 1].abs() > 0.2


def test_learns_to_balance():
    """300 steps of reward up to 1. Ten seeds gave 35 to 72 untrained and 286 to 299 after these 82 thousand steps."""
    rewards = {}
    torch_ppo.train(
        FallingCartpole(),
        num_timesteps=80_000,
        num_evals=2,
        num_eval_envs=32,
        episode_length=300,
        num_envs=64,
        batch_size=32,
        num_minibatches=4,
        unroll_length=20,
        num_updates_per_batch=4,
        learning_rate=3e-3,
        discounting=0.97,
        reward_scaling=0.1,
        entropy_cost=1e-3,
        normalize_observations=True,
        device="cpu",
        network_factory={"policy_hidden_layer_sizes": (32, 32), "value_hidden_layer_sizes": (32, 32)},
        progress_fn=lambda step, metrics: rewards.update({step: metrics["eval/episode_reward"]}),
    )
    untrained, trained = rewards.values()
    assert untrained < 120.0
    assert trained > 250.0


# The library call


def test_brax_arguments_and_defaults():
    torch_ppo.train(ToyTask(), 0, **BRAX_DEFAULTS)
    ours = {name: field.default for name, field in Config.__dataclass_fields__.items()}
    ours |= {name: parameter.default for name, parameter in inspect.signature(torch_ppo.train).parameters.items()}
    for name, default in BRAX_DEFAULTS.items():
        if name in ours:
            assert ours[name] == default, name


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ({"use_pmap_on_reset": False}, "pmap"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_brax_has_and_we_have_not_is_refused_with_a_reason(argument, reason):
    (name,) = argument
    with pytest.raises(ConfigError, match=f"{name} is not supported: .*{reason}"):
        train(**argument)


def test_unknown_argument_suggests_the_nearest():
    with pytest.raises(ConfigError, match=r"'num_env'.*did you mean 'num_envs'"):
        train(num_env=4)
    with pytest.raises(ConfigError, match=r"'policy_hidden_layer_size'.*'policy_hidden_layer_sizes'"):
        train(network_factory={"policy_hidden_layer_size": (4,)})


@pytest.mark.parametrize("statement", ["import torch_ppo", "import torch_ppo.train"])
def test_train_is_callable_however_it_is_imported(statement):
    code = f"{statement}\ntry:\n    torch_ppo.train()\nexcept TypeError as error:\n    print(error)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "environment" in result.stdout and "num_timesteps" in result.stdout


def test_callbacks_come_in_the_order_of_brax():
    calls, seen = [], []

    def progress(step, metrics):
        calls.append(("progress", step))
        seen.append(metrics)

    def policy_params(step, make_policy, params):
        calls.append(("policy_params", step))
        action, _ = make_policy(params, deterministic=True)(torch.zeros(5))
        assert action.shape == (2,)

    _, _, metrics = train(progress_fn=progress, policy_params_fn=policy_params)
    assert calls == [
        ("progress", 0),
        ("policy_params", 0),
        ("policy_params", 120),
        ("progress", 120),
        ("policy_params", 240),
        ("progress", 240),
    ]
    assert metrics == seen[-1]
    assert all(name.startswith("eval/") for name in seen[0])
    for after_training in seen[1:]:
        assert {"eval/episode_reward", "training/total_loss", "training/sps"} <= after_training.keys()
        assert after_training["training/learning_rate"] == pytest.approx(1e-3)


def test_training_metrics_come_between():
    """After every training step, or after as many env steps as asked for; none has eval/*."""
    calls = {}
    for interval in (None, 80):
        calls[interval] = []
        train(
            log_training_metrics=True,
            training_metrics_steps=interval,
            progress_fn=lambda step, metrics, seen=calls[interval]: seen.append((step, min(metrics).split("/")[0])),
        )
    assert [step for step, kind in calls[None] if kind == "episode"] == [40, 80, 120, 160, 200, 240]
    assert [step for step, kind in calls[80] if kind == "episode"] == [80, 160, 240]
    assert [step for step, kind in calls[80] if kind == "eval"] == [0, 120, 240]


def test_no_evaluations():
    seen = []
    _, _, metrics = train(run_evals=False, progress_fn=lambda step, metrics: seen.append((step, metrics)))
    assert [step for step, _ in seen] == [120, 240]
    assert metrics == seen[-1][1]
    assert metrics and all(name.startswith("training/") for name in metrics)

    seen.clear()
    _, _, metrics = train(num_evals=0, progress_fn=lambda step, metrics: seen.append(step))
    assert metrics == {} and seen == []


def test_no_timesteps_only_initialises(differences):
    calls, initial = [], []
    make_policy, params, metrics = train(
        num_timesteps=0,
        progress_fn=lambda *call: calls.append(call),
        policy_params_fn=lambda *call: calls.append(call),
    )
    assert metrics == {} and calls == []
    assert make_policy(params)(torch.zeros(3, 5))[0].shape == (3, 2)
    _, trained, _ = train(policy_params_fn=lambda step, make_policy, params: initial.append(params))
    assert differences(params, initial[0]) == []
    assert differences(params, trained) != []


def test_policies():
    make_policy, params, _ = train()
    observation = 0.1 * torch.randn(6, 4, 5, generator=torch.Generator().manual_seed(0))
    sampled, extras = make_policy(params)(observation, torch.Generator().manual_seed(1))
    again, _ = make_policy(params)(observation, torch.Generator().manual_seed(1))
    other, _ = make_policy(params)(observation, torch.Generator().manual_seed(2))
    assert torch.equal(sampled, again) and not torch.equal(sampled, other)
    loc, scale, raw_action = (extras[name].double() for name in ("loc", "scale", "raw_action"))
    tanh = distributions.TanhTransform(cache_size=1)  # so that it need not invert tanh
    oracle = distributions.TransformedDistribution(distributions.Normal(loc, scale), tanh)
    action = tanh(raw_action)
    torch.testing.assert_close(sampled.double(), action)
    torch.testing.assert_close(extras["log_prob"].double(), oracle.log_prob(action).sum(-1), rtol=1e-5, atol=1e-4)

    action, extras_of_mode = make_policy(params, deterministic=True)(observation)
    assert extras_of_mode == {}
    torch.testing.assert_close(action, extras["loc"].tanh())
    torch.testing.assert_close(make_policy(params, deterministic=True)(observation[0, 0])[0], action[0, 0])


def test_policy_keeps_its_parameters():
    """A policy made during training is that of then, and `make_policy` takes any run's params."""
    policies = []
    make_policy, params, _ = train(
        policy_params_fn=lambda step, make_policy, params: policies.append(make_policy(params, deterministic=True))
    )
    final = make_policy(params, deterministic=True)
    observation = torch.ones(5)
    assert torch.equal(policies[-1](observation)[0], final(observation)[0])
    assert not torch.equal(policies[0](observation)[0], final(observation)[0])

    other_make_policy, _, _ = train(num_timesteps=0, seed=1)
    assert torch.equal(other_make_policy(params, deterministic=True)(observation)[0], final(observation)[0])


def test_several_observations():
    """The policy takes a dict of observations; each network has its own."""
    make_policy, params, metrics = train(
        ToyTask(asymmetric=True), network_factory={**SMALL, "value_obs_key": "privileged_state"}
    )
    normalizer, policy, value = params
    assert policy["trunk.layers.0.weight"].shape == (8, 5) and value["trunk.layers.0.weight"].shape == (8, 8)
    assert normalizer["state.mean"].shape == (5,) and normalizer["privileged_state.mean"].shape == (8,)
    action, _ = make_policy(params)({"state": torch.zeros(7, 5), "privileged_state": torch.zeros(7, 8)})
    assert action.shape == (7, 2)
    assert metrics["eval/episode_reward"] != 0.0
    with pytest.raises(ConfigError, match=r"policy_obs_key.*'stat'.*'state'"):
        train(ToyTask(asymmetric=True), network_factory={"policy_obs_key": "stat"})
    for key in ("policy_obs_key", "value_obs_key"):
        with pytest.raises(ConfigError, match=f"{key} = 'x' has no effect: the task has one observation, 'state'"):
            train(ToyTask(), network_factory={key: "x"})


def test_network_factory_is_covered_by_the_seed():
    """As in Brax; and the caller's own random numbers go on as if nothing had been."""

    def factory(*sizes):
        return torch_ppo.make_ppo_networks(*sizes, policy_hidden_layer_sizes=(8,), value_hidden_layer_sizes=(8,))

    outcomes = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(outcomes))
        expected = torch.rand(3)
        torch.manual_seed(len(outcomes))
        _, (_, policy, _), _ = train(network_factory=factory, seed=seed, num_timesteps=0)
        assert torch.equal(torch.rand(3), expected)
        outcomes.append(torch.cat([tensor.flatten() for tensor in policy.values()]))
    assert torch.equal(outcomes[0], outcomes[1]) and not torch.equal(outcomes[0], outcomes[2])


def test_network_factory():
    sizes = []

    def factory(policy_obs_dim: int, value_obs_dim: int, action_dim: int) -> tuple[nn.Module, nn.Module]:
        sizes.append((policy_obs_dim, value_obs_dim, action_dim))
        return make_ppo_networks(
            policy_obs_dim,
            value_obs_dim,
            action_dim,
            policy_hidden_layer_sizes=(7,),
            value_hidden_layer_sizes=(6,),
            layer_norm=True,
        )

    _, (_, policy, value), _ = train(network_factory=factory)
    assert sizes == [(5, 5, 2)]
    assert policy["trunk.layers.0.weight"].shape == (7, 5) and value["trunk.layers.0.weight"].shape == (6, 5)
    assert policy["trunk.layers.2.weight"].shape == (7,)  # the layer norm, which no option of Config gives

    _, (_, policy, value), _ = train(network_factory={"policy_hidden_layer_sizes": (3, 2), "activation": "tanh"})
    assert policy["trunk.layers.0.weight"].shape == (3, 5) and policy["trunk.layers.2.weight"].shape == (2, 3)
    assert value["trunk.layers.0.weight"].shape == (256, 5)


def test_evaluation_task():
    """Training ends where the toy's limit is, evaluation lasts the whole episode."""
    _, _, metrics = train(ToyTask(limit=0.1), eval_env=ToyTask(limit=None))
    assert metrics["eval/avg_episode_length"] == 17.0
    _, _, metrics = train(ToyTask(limit=0.1))
    assert metrics["eval/avg_episode_length"] < 17.0


def test_seed_decides_the_run(differences):
    run_of_seed = {seed: train(seed=seed)[1:] for seed in (0, 1)}
    params, metrics = train(seed=0)[1:]
    assert differences(params, run_of_seed[0][0]) == []
    assert without_times(metrics) == without_times(run_of_seed[0][1])
    assert differences(params, run_of_seed[1][0]) != []


def test_evaluations_do_not_change_training(differences):
    """With as many training steps per interval, the networks end the same with and without evaluations."""
    assert differences(train()[1], train(run_evals=False)[1]) == []
    assert differences(train()[1], train(num_eval_envs=3, deterministic_eval=True)[1]) == []


# Starting from another run


def test_restore_params(differences):
    _, donor, _ = train(seed=5)
    _, restored, _ = train(num_timesteps=0, restore_params=donor)
    assert differences(restored, donor) == []
    _, fresh, _ = train(num_timesteps=0)
    _, restored, _ = train(num_timesteps=0, restore_params=donor, restore_value_fn=False)
    assert differences(restored[:2], donor[:2]) == []
    assert differences(restored[2], fresh[2]) == []
    assert differences(restored[2], donor[2]) != []


def test_save_and_restore_checkpoint_path(tmp_path, differences):
    _, params, _ = train(save_checkpoint_path=str(tmp_path / "saved"))
    files = sorted(path.name for path in (tmp_path / "saved").iterdir())
    assert files == ["000000000120.pt", "000000000240.pt"]
    path = str(tmp_path / "saved" / files[-1])
    _, restored, _ = train(num_timesteps=0, seed=1, restore_checkpoint_path=path)
    assert differences(restored, params) == []

    # Only networks and normalizer: it trains anew for as many steps, and restore_params comes first.
    steps = []
    train(restore_checkpoint_path=path, progress_fn=lambda step, metrics: steps.append(step))
    assert steps == [0, 120, 240]
    _, donor, _ = train(num_timesteps=0, seed=2)
    _, restored, _ = train(num_timesteps=0, restore_checkpoint_path=path, restore_params=donor)
    assert differences(restored, donor) == []


class Enough(Exception):
    """What a progress_fn may raise to stop."""


@pytest.mark.parametrize("stop", [Enough, KeyboardInterrupt])
def test_raising_from_progress_fn_leaves_the_reports_checkpoint(tmp_path, stop, differences):
    """The networks that the evaluation was of: those handed to policy_params_fn before it."""
    reached = {}

    def progress(step, metrics):
        if step == 120:
            raise stop

    with pytest.raises(stop):
        train(
            save_checkpoint_path=str(tmp_path),
            progress_fn=progress,
            policy_params_fn=lambda step, make_policy, params: reached.update({step: params}),
        )
    assert [path.name for path in tmp_path.iterdir()] == ["000000000120.pt"]
    _, restored, _ = train(num_timesteps=0, seed=1, restore_checkpoint_path=str(tmp_path / "000000000120.pt"))
    assert differences(restored, reached[120]) == []


def test_ctrl_c_in_a_notebook_leaves_the_last_reports_checkpoint(tmp_path):
    """A signal in the middle of the second interval; nothing half-written remains."""

    class Interrupted(ToyTask):
        def after_step(self, physics, memory, action):
            super().after_step(physics, memory, action)
            if memory["tick"][0] == 45 and physics.num_envs == TINY["num_envs"]:  # 30 steps of training per interval
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(Interrupted(), save_checkpoint_path=str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["000000000120.pt"]
    assert load_checkpoint(tmp_path / "000000000120.pt")["env_steps"] == 120


def test_saving_follows_the_report_even_if_that_raises():
    """The order that a run's folder relies on: a log is never behind the checkpoint."""
    calls = []

    def progress(step, metrics):
        calls.append(("report", step))
        if step == 240:
            raise Enough

    config = Config(**TINY, **SMALL)
    with pytest.raises(Enough):
        run(
            TrainingState(config, ToyTask()),
            progress_fn=progress,
            save=lambda state, best: calls.append(("save", state.env_steps)),
        )
    assert calls == [("report", 0), ("report", 120), ("save", 120), ("report", 240), ("save", 240)]


def test_restored_normalizer_goes_on_counting():
    _, donor, _ = train()
    _, (normalizer, _, _), _ = train(restore_params=donor)
    assert donor[0]["state.count"] == 240 and normalizer["state.count"] == 480


def test_what_does_not_fit_is_refused(tmp_path):
    _, donor, _ = train(num_timesteps=0, network_factory={"policy_hidden_layer_sizes": (9,)})
    with pytest.raises(CheckpointError, match=r"restore_params does not fit: its policy has the layers \[9\]"):
        train(restore_params=donor)
    with pytest.raises(CheckpointError, match="nowhere"):
        train(restore_checkpoint_path=str(tmp_path / "nowhere"))


def test_divergence_is_an_error_not_a_nan():
    with pytest.raises(DivergedError, match=r"the loss became (nan|inf|-inf) at \d+ env steps.*learning_rate"):
        train(learning_rate=1e30)


def test_divergence_is_noticed_one_training_step_late():
    """And not only at the report, here after six: a run may take minutes from one to the next."""
    with pytest.raises(DivergedError, match=r"at 40 env steps"):
        train(learning_rate=1e30, num_evals=1, num_updates_per_batch=8)


def test_late_numbers_are_those_of_the_turn_before():
    numbers = LateNumbers(2, torch.device("cpu"))
    on_device = torch.zeros(2)
    seen = []
    for _ in range(3):
        on_device += torch.tensor([1.5, 1.0])  # the turn's work is queued,
        seen.append(numbers.read())  # then the numbers of the one before are read,
        numbers.write(on_device)  # then the turn's own are queued.
    assert seen == [[0.0, 0.0], [1.5, 1.0], [3.0, 2.0]] and numbers.read() == [4.5, 3.0]


def test_capture_without_anything_to_capture_is_refused():
    with pytest.raises(ConfigError, match="capture = physics"):
        torch_ppo.train("cartpole", 1000, device="cpu", physics="mujoco", capture="physics")
