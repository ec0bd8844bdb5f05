"""Policies that see pixels, from checkpoints, files and callbacks: the same actions, and mistakes in a line."""

import pytest
import torch

import torch_ppo
from tests.helpers.ball import BallTask
from torch_ppo.errors import UserError
from torch_ppo.export import ExportArguments, export_from, export_policy
from torch_ppo.exporting.contract import Known
from torch_ppo.learning.policy import params_of, policy_maker
from torch_ppo.learning.train_step import training_step
from torch_ppo.running.checkpoint import CheckpointError, load_checkpoint, restore, save_checkpoint
from torch_ppo.running.saved_policy import PolicyError
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config
from torch_ppo.settings.files import to_toml

SETTINGS = {
    "env": "tests.helpers.ball:BallTask",
    "num_timesteps": 1,
    "num_envs": 4,
    "num_eval_envs": 2,
    "batch_size": 4,
    "num_minibatches": 1,
    "unroll_length": 3,
    "episode_length": 20,
    "device": "cpu",
    "physics": "warp",
    "compile": False,
    "vision": True,
    "policy_hidden_layer_sizes": (8,),
    "value_hidden_layer_sizes": (8,),
    "cnn_output_channels": (4, 4),
    "cnn_kernel_size": (5, 3),
    "cnn_stride": (2, 2),
}


def make_state(task, **settings):
    return TrainingState(Config(**{**SETTINGS, **settings}), task)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """By whether there is a vector beside the pictures: a folder with a checkpoint and an exported policy, and the agent."""
    made = {}
    for with_state in (True, False):
        folder = tmp_path_factory.mktemp("run")
        state = make_state(BallTask(with_state=with_state))
        save_checkpoint(state.checkpoint(), folder / "checkpoints" / "best.pt")
        (folder / "config.toml").write_text(to_toml(state.config))
        export_policy(state.agent, folder / "policy.pt")
        made[with_state] = folder, state.agent
    return made


def observation_of(agent, *leading):
    pictures = torch.randint(256, (*leading, 24, 24, 3), dtype=torch.uint8)
    return {"pixels/front": pictures, **({"state": torch.randn(*leading, 1)} if agent.policy_obs_key else {})}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("with_state", [True, False])
@pytest.mark.parametrize("file", ["", "checkpoints/best.pt", "policy.pt"])
def test_most_likely_actions(runs, with_state, file):
    folder, agent = runs[with_state]
    policy = torch_ppo.load_policy(folder / file)
    for leading in ((3,), (2, 3), ()):
        observation = observation_of(agent, *leading)
        with torch.no_grad():
            expected = agent.mode(observation)
        torch.testing.assert_close(policy({**observation, "unseen": torch.zeros(1)}), expected, atol=1e-6, rtol=0)
        if not with_state:
            torch.testing.assert_close(policy(observation["pixels/front"]), expected, atol=1e-6, rtol=0)


def test_samples_are_those_of_the_agent(runs):
    folder, agent = runs[True]
    policy = torch_ppo.load_policy(folder, deterministic=False)
    observation = observation_of(agent, 5)
    noise = torch.randn(5, 1, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = agent.sample(observation, noise)
    assert torch.equal(policy(observation, torch.Generator().manual_seed(3)), expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("file", ["", "policy.pt"])
def test_mistakes_in_a_line(runs, file):
    folder, agent = runs[True]
    policy = torch_ppo.load_policy(folder / file)
    right = observation_of(agent, 2)
    for wrong, words in (
        (right["pixels/front"], "pixels/front, state: a dict of them would work"),
        ({"state": right["state"]}, "'pixels/front', which is not among state"),
        (
            {**right, "pixels/front": torch.zeros(2, 3, 24, 24)},
            r"pixels/front \(..., 24, 24, 3\), not \(2, 3, 24, 24\)",
        ),
        ({**right, "state": torch.zeros(3, 1)}, "as many of each observation"),
    ):
        with pytest.raises(PolicyError, match=words):
            policy(wrong)


def test_policies_of_callbacks(runs):
    _, agent = runs[True]
    make_policy = policy_maker(agent)
    observation = observation_of(agent, 3)
    action, extras = make_policy(params_of(agent), deterministic=True)(observation)
    assert extras == {} and torch.equal(action, agent.mode(observation))
    _, extras = make_policy(params_of(agent))(observation)
    assert extras["log_prob"].shape == (3,)
    with pytest.raises(UserError, match=r"24, 24, 3\), not \(3, 1\)"):
        make_policy(params_of(agent))({"pixels/front": torch.zeros(3, 1), "state": torch.zeros(3, 1)})


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("file", ["", "policy.pt"])
def test_episodes_of_the_task(runs, file):
    folder, _ = runs[True]
    result = torch_ppo.evaluate(folder / file, BallTask(), episodes=3, physics="warp")
    assert result.returns.shape == (3,) and result.returns.isfinite().all()
    with pytest.raises(PolicyError, match=r"front 24 x 24 x 3, state 1, but BallTask gives pixels/front 20 x 24 x 3"):
        torch_ppo.evaluate(folder / file, BallTask(height=20), episodes=3, physics="warp")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "seen", [{"history": 2}, {"history": 3, "history_obs_keys": ("state",)}, {"history": 2, "view_size": 16}]
)
def test_a_file_says_what_its_policy_sees(seen, tmp_path):
    """Frames and sizes are those of its run, also where there is no run's folder beside it."""
    state = make_state(BallTask(with_state=True), **seen)
    export_policy(state.agent, tmp_path / "alone.pt", Known(state.config))
    config = torch_ppo.load_policy(tmp_path / "alone.pt").config
    assert {name: getattr(config, name) for name in seen} == seen
    assert torch_ppo.evaluate(tmp_path / "alone.pt", BallTask(with_state=True), episodes=2).returns.isfinite().all()


@pytest.mark.parametrize("shared_encoder", [False, True])
def test_a_checkpoint_goes_on_exactly(shared_encoder):
    def course(state, steps):
        return [training_step(state.collector, state.learner).clone() for _ in range(steps)]

    settings = {"shared_encoder": shared_encoder, "augment_pixels": True, "num_timesteps": 10**6}
    whole, first = (make_state(BallTask(), **settings) for _ in range(2))
    expected = course(whole, 3)
    course(first, 1)
    second = make_state(BallTask(), **settings)
    second.load_checkpoint(first.checkpoint())
    for found, wanted in zip(course(second, 2), expected[1:], strict=True):
        assert torch.equal(found, wanted)
    assert torch.equal(second.learner.flat, whole.learner.flat)


def test_networks_without_their_value_and_encoders_that_differ(tmp_path):
    apart, together = make_state(BallTask(), seed=1), make_state(BallTask(), shared_encoder=True, seed=2)
    for name, state in (("apart", apart), ("together", together)):
        save_checkpoint(state.checkpoint(), tmp_path / f"{name}.pt")
    path = {"restore_checkpoint_path": str(tmp_path / "apart.pt")}
    policy_alone = make_state(BallTask(), shared_encoder=True, restore_value_fn=False, **path)
    restore(policy_alone)
    assert torch.equal(next(policy_alone.agent.value.encoder.parameters()), next(apart.agent.policy.parameters()))
    with pytest.raises(CheckpointError, match="an encoder each, but shared_encoder is true; false would fit"):
        restore(make_state(BallTask(), shared_encoder=True, **path))
    taken_apart = make_state(BallTask(), restore_checkpoint_path=str(tmp_path / "together.pt"))
    restore(taken_apart)
    for network in (taken_apart.agent.policy, taken_apart.agent.value):
        assert torch.equal(next(network.parameters()), next(together.agent.policy.parameters()))


def test_training_from_pixels_alone(tmp_path):
    """Nothing has a normalizer; the run's folder gets its policy, and a run goes on with it."""
    settings = {**SETTINGS, "num_timesteps": 24, "num_evals": 2, "augment_pixels": True, "normalize_observations": True}
    settings = {name: value for name, value in settings.items() if name not in ("env", "compile")}
    _, (normalizer, _, _), metrics = torch_ppo.train(BallTask(with_state=False), **settings)
    assert normalizer == {} and metrics["eval/episode_reward"] < 0
    assert "training/observation_max" not in metrics and "training/grad_norm" in metrics


@pytest.mark.parametrize("size", [(24, 24), (24, 24, 3, 1), (24, 0, 3), 7, (24.0, 24, 3)])
def test_a_checkpoint_with_another_kind_of_size_is_refused(runs, size, tmp_path):
    folder, _ = runs[True]
    saved = load_checkpoint(folder / "checkpoints" / "best.pt")
    path = tmp_path / "changed.pt"
    save_checkpoint({**saved, "observation_sizes": {"state": 1, "pixels/front": size}}, path)
    with pytest.raises(CheckpointError, match="its observation_sizes is not sizes by name"):
        load_checkpoint(path)


def test_all_formats_are_those_that_can(runs, tmp_path, capsys):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="ONNX is an optional extra")
    folder, _ = runs[True]
    export_from(ExportArguments(run=folder, format="all", output=tmp_path / "policy.pt"))
    assert {path.name for path in tmp_path.iterdir()} == {"policy.pt", "policy.pt2", "policy.onnx"}
    assert "no .safetensors" in capsys.readouterr().err
