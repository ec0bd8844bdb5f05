"""The program `python -m torch_ppo.train` as its user meets it: files, resuming, signals, output, and mistakes."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import torch_ppo.train
from torch_ppo.errors import ConfigError
from torch_ppo.running.checkpoint import agent_from_checkpoint, load_checkpoint
from torch_ppo.running.program import parse_arguments
from torch_ppo.settings.config import Config
from torch_ppo.settings.files import load_config, read_config

# 26 training steps of 160 env steps, evaluations at 0, 2080 and 4160.
TINY = (
    "--config cartpole --num-timesteps 4000 --num-envs 8 --batch-size 8 --num-minibatches 2 --unroll-length 10 "
    "--num-updates-per-batch 1 --episode-length 50 --num-eval-envs 4 --num-evals 3 --policy-hidden-layer-sizes 8 8 "
    "--value-hidden-layer-sizes 8 8 --log-training-metrics --device cpu"
).split()
EVALUATIONS = [0, 2080, 4160]
COMMAND = [sys.executable, "-m", "torch_ppo.train"]
ROOT = Path(__file__).parents[2]
# One thread, as the tests in this process have: sums are in the same order then.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated")


@dataclass
class Run:
    """A run folder and what the program printed."""

    folder: Path
    output: str

    def metrics(self):
        """The lines of metrics.jsonl, less the times in them."""
        times = ("sps", "walltime", "_time")
        lines = [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]
        return [{name: value for name, value in line.items() if not name.endswith(times)} for line in lines]

    def checkpoint(self, name="last"):
        """A checkpoint less the times in it."""
        checkpoint = load_checkpoint(self.folder / "checkpoints" / f"{name}.pt")
        del checkpoint["walltime"], checkpoint["eval_walltime"], checkpoint["interval"]["time"]
        return checkpoint


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole run in a process of its own, its output in a file. Tests must not change it."""
    place = tmp_path_factory.mktemp("finished")
    with (place / "output").open("w") as output:
        subprocess.run(
            [*COMMAND, *TINY, "--run-dir", "run"],
            cwd=place,
            env=ENVIRONMENT,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=True,
        )
    return Run(place / "run", (place / "output").read_text())


@pytest.fixture
def program(monkeypatch, capsys, tmp_path):
    """A function that runs the program in this process and an empty folder: exit status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["train", *map(str, arguments)])
        status = 0
        try:
            torch_ppo.train.main()
        except SystemExit as end:
            status = end.code
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


# A run's folder


def test_run_folder(finished):
    entries = {path.name for path in finished.folder.iterdir()}
    (events,) = {name for name in entries if name.startswith("events.out.tfevents.")}
    assert entries >= {"config.toml", "metrics.jsonl", "checkpoints", "policy.pt", "environment.json", "task"}
    assert entries <= {*entries, "git.diff", events} and not [name for name in entries if name.startswith(".")]
    checkpoints = {path.name for path in (finished.folder / "checkpoints").iterdir()}
    assert checkpoints == {"last.pt", "best.pt", "2080.pt", "4160.pt"}


def test_config_file_has_what_was_asked_for(finished):
    config = load_config(str(finished.folder / "config.toml"))
    assert (config.env, config.num_timesteps, config.num_envs, config.batch_size) == ("cartpole", 4000, 8, 8)
    assert config.policy_hidden_layer_sizes == (8, 8) and config.log_training_metrics
    assert (config.reward_scaling, config.discounting) == (0.1, 0.97)  # the configuration file's
    assert (config.gae_lambda, config.seed) == (0.95, 0)  # defaults
    assert (config.physics, config.capture) == ("mujoco", "none")  # what "auto" came to


def test_metrics_files(finished):
    """metrics.jsonl has every report at its step, and TensorBoard the same numbers."""
    metrics = finished.metrics()
    evaluations = [line for line in metrics if "eval/episode_reward" in line]
    assert [line["step"] for line in evaluations] == EVALUATIONS
    assert not any(name.startswith("training/") for name in evaluations[0])
    for line in evaluations[1:]:
        assert {"training/total_loss", "training/approx_kl", "training/grad_norm", "eval/avg_episode_length"} <= set(
            line
        )
        assert 0.0 < line["eval/episode_reward"] <= line["eval/avg_episode_length"] == 50.0
    assert [line["step"] for line in metrics if "episode/sum_reward" in line] == list(range(480, 4161, 160))

    events = EventAccumulator(str(finished.folder))
    events.Reload()
    for name in ("eval/episode_reward", "training/total_loss"):
        found = [(event.step, event.value) for event in events.Scalars(name)]
        assert found == [(line["step"], pytest.approx(line[name])) for line in evaluations if name in line]


def test_checkpoints_are_of_their_steps(finished, differences):
    rewards = {
        line["step"]: line["eval/episode_reward"] for line in finished.metrics() if "eval/episode_reward" in line
    }
    for steps in EVALUATIONS[1:]:
        assert finished.checkpoint(str(steps))["env_steps"] == steps
    best = max(EVALUATIONS[1:], key=rewards.get)
    assert finished.checkpoint("best")["best"] == {"reward": rewards[best], "env_steps": best}
    assert differences(finished.checkpoint("best"), finished.checkpoint(str(best))) == []
    assert differences(finished.checkpoint("last"), finished.checkpoint("4160")) == []


@torch.no_grad()
def test_policy_is_that_of_the_best_checkpoint(finished):
    observation = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    agent = agent_from_checkpoint(load_checkpoint(finished.folder / "checkpoints" / "best.pt"))
    action = torch.jit.load(finished.folder / "policy.pt")(observation)
    torch.testing.assert_close(action, agent.mode({"state": observation}), rtol=0.0, atol=1e-6)


def test_output_in_a_file_is_plain_text(finished):
    assert "\x1b" not in finished.output and "\r" not in finished.output
    lines = finished.output.splitlines()
    assert lines[0] == f"torch_ppo {torch_ppo.__version__}: loading PyTorch and MuJoCo"
    assert lines[1].startswith("cartpole: cartpole (--config, meant for a GPU), seed 0, C MuJoCo and PyTorch on cpu")
    assert any(
        "26 training steps" in line or "2 epochs of 13 training steps = 4,160 env steps" in line for line in lines
    )
    assert any(line.startswith("4,160 steps 100.0%") and "reward" in line for line in lines)
    assert "policy.pt" in lines[-1] and "checked" in lines[-1]
    assert max(len(line) for line in lines if not line.startswith("warning: ")) < 160  # a finding is one line


def test_config_file_repeats_the_run(finished, program, tmp_path, differences):
    status, _, errors = program("--config", finished.folder / "config.toml", "--run-dir", "again")
    assert (status, errors) == (0, "")
    again = Run(tmp_path / "again", "")
    assert differences(again.metrics(), finished.metrics()) == []
    for name in ("last", "best", "2080", "4160"):
        assert differences(again.checkpoint(name), finished.checkpoint(name)) == [], name
    assert (again.folder / "config.toml").read_text() == (finished.folder / "config.toml").read_text()


def test_run_without_evaluations(program, tmp_path):
    status, out, errors = program(*TINY, "--num-evals", 0, "--num-timesteps", 160, "--run-dir", "run")
    assert (status, errors) == (0, "")
    assert "last.pt" in out and (tmp_path / "run" / "policy.pt").is_file()


def test_default_run_folder(program, tmp_path):
    assert program(*TINY, "--num-timesteps", 160, "--num-evals", 0, "--seed", 3)[0] == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("cartpole-2") and folder.name.endswith("-s3")


# Stopping and resuming


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
    ],
)
def test_signal_saves_and_resuming_ends_the_same(finished, program, tmp_path, differences, number, status):
    """Stopped by a signal after the first training steps, between two evaluations; then resumed to the end."""
    process = subprocess.Popen(
        [*COMMAND, *TINY, "--run-dir", "run"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    history = tmp_path / "run" / "metrics.jsonl"
    # The first episodes have ended, and are logged.
    while not (history.exists() and '"step": 640' in history.read_text()) and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(number)
    output, _ = process.communicate()
    assert process.returncode == status, output
    assert f"{number.name}: stopping after this training step" in output
    assert "go on with\n  python -m torch_ppo.train --resume run" in output
    run = Run(tmp_path / "run", output)
    assert 640 <= run.checkpoint()["env_steps"] < 4160
    assert not run.folder.joinpath("policy.pt").exists()

    status, out, errors = program("--resume", "run")
    assert (status, errors) == (0, "")
    assert "resumed run" in out.splitlines()[0]
    assert differences(run.checkpoint(), finished.checkpoint()) == []
    assert differences(run.metrics(), finished.metrics()) == []
    assert (run.folder / "policy.pt").is_file()
    events = EventAccumulator(str(run.folder))
    events.Reload()
    assert [event.step for event in events.Scalars("eval/episode_reward")] == EVALUATIONS


def test_complete_run_goes_on_with_more_timesteps(finished, program, tmp_path):
    shutil.copytree(finished.folder, "run")
    status, _, errors = program("--resume", "run", "--num-timesteps", 4300)  # 28 training steps
    assert (status, errors) == (0, "")
    run = Run(tmp_path / "run", "")
    assert run.checkpoint()["env_steps"] == run.metrics()[-1]["step"] == 4480
    assert read_config("run/config.toml")["num_timesteps"] == 4300


def test_resuming_drops_what_was_logged_after_the_checkpoint(finished, program, tmp_path, differences):
    """A crash leaves lines that the checkpoint does not know, the last one cut off."""
    shutil.copytree(finished.folder, "run")
    shutil.copy(finished.folder / "checkpoints" / "2080.pt", "run/checkpoints/last.pt")
    with open("run/metrics.jsonl", "a") as file:
        file.write('{"step": 43')
    assert program("--resume", "run")[0] == 0
    run = Run(tmp_path / "run", "")
    assert differences(run.metrics(), finished.metrics()) == []
    assert differences(run.checkpoint(), finished.checkpoint()) == []


def test_divergence_ends_with_one_line(program):
    status, _, errors = program(*TINY, "--learning-rate", 1e30, "--run-dir", "run")
    assert status == 2
    assert errors.startswith("error: the loss became") and errors.count("\n") == 1


# Settings


def test_help_shows_every_setting(program, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    status, out, _ = program("--help")
    assert status == 0
    for name in [*(field.name for field in fields(Config)), "config", "resume", "run_dir"]:
        assert f"--{name.replace('_', '-')} " in out or f"--{name.replace('_', '-')}," in out, name


def test_command_line_over_file_over_default(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('env = "cartpole"\nnum_timesteps = 10\nnum_envs = 16\nseed = 5\n')
    arguments, source = parse_arguments(["--config", str(path), "--num-envs", "32", "--env", "cartpole_swingup"])
    settings = arguments.settings
    assert (settings.num_envs, settings.seed, settings.batch_size) == (32, 5, 32)
    assert settings.env == "cartpole_swingup"
    assert source == "mine (--config)"


@pytest.mark.skipif(torch.cuda.is_available(), reason="the configuration for the CPU is taken without CUDA")
def test_without_cuda_the_cpu_configuration_is_taken_and_named():
    arguments, source = parse_arguments(["--env", "cartpole"])
    assert arguments.settings.num_envs == read_config("cartpole_cpu")["num_envs"]
    assert source == "cartpole_cpu (no CUDA device; --config cartpole for the GPU settings)"
    arguments, source = parse_arguments(["--env", "humanoid_run"])
    assert source == "humanoid_run (the task's own, meant for a GPU)"
    arguments, source = parse_arguments(["--config", "presets/cartpole_small"])
    assert source == "cartpole_small (--config)"


# Mistakes

FILES = {
    "unknown_key.toml": b"num_timesteps = 10\nlearning_rte = 1e-3\n",
    "their_word.toml": b"num_timesteps = 10\nlr = 1e-3\n",
    "unknown_env.toml": b'env = "cartpol"\nnum_timesteps = 10\n',
    "no_env.toml": b"num_timesteps = 10\n",
    "no_steps.toml": b'env = "cartpole"\n',
    "invalid.toml": b"num_timesteps = \n",
    "wrong_type.toml": b'env = "cartpole"\nnum_timesteps = "many"\n',
    "wrong_choice.toml": b'env = "cartpole"\nnum_timesteps = 10\nauto_reset = "never"\n',
    "nan.toml": b'env = "cartpole"\nnum_timesteps = 10\nlearning_rate = nan\n',
    "latin1.toml": 'env = "cartpole" # für\nnum_timesteps = 10\n'.encode("latin1"),
    "a_file": b"text",
    "full/a_file": b"text",
}


class RunsCode:
    """Unpickled, it makes a folder."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


@pytest.fixture
def place(tmp_path, finished):
    """A folder with everything that the mistakes below name."""
    for name, content in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "empty").mkdir()
    whole = (finished.folder / "checkpoints" / "last.pt").read_bytes()
    damaged = {"cut": whole[: len(whole) // 2], "pickle": pickle.dumps({"agent": RunsCode(), "config": {}})}
    for name in ("run", "cut", "pickle", "torch_pickle", "foreign"):
        shutil.copytree(finished.folder, tmp_path / name)
    for name in ("cut", "pickle", "torch_pickle", "foreign"):
        for path in (tmp_path / name / "checkpoints").iterdir():
            path.unlink()
    for name, content in damaged.items():
        (tmp_path / name / "checkpoints" / "last.pt").write_bytes(content)
    torch.save({"agent": RunsCode(), "config": {}}, tmp_path / "torch_pickle" / "checkpoints" / "last.pt")
    torch.save({"agent": {}, "config": {}}, tmp_path / "foreign" / "checkpoints" / "last.pt")
    return tmp_path


def contents(place):
    """Every file's content by its path, None for folders."""
    return {path: path.read_bytes() if path.is_file() else None for path in place.rglob("*")}


NEW = f"{' '.join(TINY)} --run-dir new "
MISTAKES = [
    # what to train
    ("", "say what to train: --env cartpole"),
    ("--env cartpol --run-dir new", "'cartpol'; did you mean 'cartpole'?"),
    ("--config unknown_env.toml --run-dir new", "'cartpol'; did you mean 'cartpole'?"),
    ("--config no_env.toml --run-dir new", "env is not set; known: acrobot_swingup"),
    ("--config no_steps.toml --run-dir new", "num_timesteps"),
    # files
    ("--config nowhere.toml --run-dir new", "nowhere.toml"),
    ("--config cartpol --run-dir new", "'cartpol'; did you mean 'cartpole'?"),
    ("--config empty --run-dir new", "empty"),
    ("--config invalid.toml --run-dir new", "invalid.toml is not valid TOML"),
    ("--config latin1.toml --run-dir new", "latin1.toml"),
    ("--config unknown_key.toml --run-dir new", "'learning_rte' in unknown_key.toml; did you mean 'learning_rate'?"),
    ("--config their_word.toml --run-dir new", "'lr' in their_word.toml; it is learning_rate here"),
    ("--config wrong_type.toml --run-dir new", "num_timesteps is 'many', but must be an int"),
    ("--config wrong_choice.toml --run-dir new", "auto_reset is 'never', but must be one of 'cached', 'random'"),
    ("--config nan.toml --run-dir new", "learning_rate is nan, but must be a finite number"),
    # values
    (NEW + "--batch-size 9", "18 sequences is not divisible by num_envs = 8 (nearest: 16 or 24); batch_size 8 or 12"),
    (NEW + "--num-envs -3", "num_envs is -3, but must be greater than 0"),
    (NEW + "--num-envs 0", "num_envs is 0, but must be greater than 0"),
    (NEW + "--unroll-length 0", "unroll_length is 0"),
    (NEW + "--num-timesteps -1", "num_timesteps is -1"),
    (NEW + "--num-eval-envs 0", "num_eval_envs is 0"),
    (NEW + "--policy-hidden-layer-sizes 8 0", "policy_hidden_layer_sizes is (8, 0)"),
    (NEW + "--seed -1", "seed is -1, but must be 0 or greater"),
    (NEW + "--learning-rate nan", "learning_rate is nan, but must be a finite number"),
    (NEW + "--reward-scaling inf", "reward_scaling is inf, but must be a finite number"),
    (NEW + "--discounting nan", "discounting is nan"),
    (NEW + "--activation swich", "'swich', which is unknown; did you mean 'swish'?"),
    (NEW + "--device tpu", "device is 'tpu', but must be auto, cpu, cuda or cuda:N"),
    # the run's folder
    (" ".join(TINY) + " --run-dir a_file", "--run-dir a_file is a file"),
    (" ".join(TINY) + " --run-dir a_file/below", "a_file is a file"),
    (" ".join(TINY) + " --run-dir full", "--run-dir full is not empty; a new folder would work"),
    (NEW + "--save-checkpoint-path a_file", "a_file"),
    # resuming
    ("--resume nowhere", "there is no run folder or checkpoint nowhere"),
    ("--resume empty", "empty is not a run folder"),
    ("--resume a_file", "a_file is not a run folder"),
    ("--resume cut", "cut/checkpoints/last.pt is not a whole checkpoint"),
    ("--resume pickle", "pickle/checkpoints/last.pt is not a whole checkpoint"),
    ("--resume torch_pickle", "torch_pickle/checkpoints/last.pt is not a whole checkpoint"),
    ("--resume foreign", "foreign/checkpoints/last.pt"),
    ("--resume run", "run is complete at 4,160 env steps; --num-timesteps"),
    (
        "--resume run --num-envs 16",
        "--num-envs cannot change in a resumed run (it has 8), because episodes are under way",
    ),
    (
        "--resume run --discounting 0.5",
        "--discounting cannot change in a resumed run (it has 0.97), because what the value",
    ),
    (
        "--resume run --activation elu",
        "because the networks were made with it; start a new run with --restore-checkpoint",
    ),
    ("--resume run --restore-checkpoint-path run", "because it is read when a run begins"),
    ("--resume run --seed 3", "because episodes and random numbers are under way"),
    ("--resume run --torch-threads 2", "bit for bit"),
    ("--resume run --learning-rate -1", "learning_rate is -1"),
    ("--resume run --num-timesteps 8000 --save-checkpoint-path a_file", "a_file"),
    ("--resume run --env cartpole", "--resume goes on with a run as it was; leave out --env"),
    ("--resume run --run-dir new", "leave out --env, --config and --run-dir"),
    # starting from another run
    (NEW + "--restore-checkpoint-path nowhere", "there is no run folder or checkpoint nowhere"),
    (NEW + "--restore-checkpoint-path empty", "empty is not a run folder"),
    (NEW + "--restore-checkpoint-path cut", "cut/checkpoints/last.pt is not a whole checkpoint"),
    (NEW + "--restore-checkpoint-path pickle", "pickle/checkpoints/last.pt is not a whole checkpoint"),
    (
        NEW + "--restore-checkpoint-path run/policy.pt",
        "run/policy.pt is an exported policy (TorchScript), not a checkpoint",
    ),
    (
        NEW + "--restore-checkpoint-path run --policy-hidden-layer-sizes 9",
        "run does not fit: its policy has the layers [8, 8], but",
    ),
]


@pytest.mark.parametrize(
    ("arguments", "words"), MISTAKES, ids=[arguments.removeprefix(NEW) for arguments, _ in MISTAKES]
)
def test_mistake_ends_with_one_line(program, place, arguments, words):
    """Status 2, one line that names the value, no traceback, and nothing written, changed or executed."""
    before = contents(place)
    status, _, errors = program(*arguments.split())
    assert status == 2
    assert errors.startswith("error: ") and errors.count("\n") == 1, errors
    assert words in errors
    assert contents(place) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_no_cuda(program, place, device):
    before = contents(place)
    status, _, errors = program(*NEW.split(), "--device", device)
    assert status == 2 and contents(place) == before
    assert errors == f"error: device is {device!r}, but there is no CUDA device here; cpu would work\n"


@pytest.mark.parametrize(
    ("arguments", "name"),
    [("--num-envz 4", "--num-envz"), ("--num-envs eight", "eight"), ("--learning-rate", "--learning-rate")],
)
def test_what_cannot_be_parsed_is_named(program, place, arguments, name):
    before = contents(place)
    status, out, errors = program(*NEW.split(), *arguments.split())
    assert status == 2
    assert name in out + errors and "Traceback" not in out + errors
    assert contents(place) == before


def test_mistake_in_a_process_of_its_own(tmp_path):
    """The same through the shell: nothing else, such as a warning, comes between the first line and that of the mistake."""
    result = subprocess.run(
        [*COMMAND, "--env", "cartpol"], check=False, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert result.returncode == 2
    assert result.stdout == f"torch_ppo {torch_ppo.__version__}: loading PyTorch and MuJoCo\n"
    assert result.stderr == "error: there is no env 'cartpol'; did you mean 'cartpole'?\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("flag", "compile"), [("--compile", True), ("--no-compile", False)])
def test_compile_flags(flag, compile):
    arguments, _ = parse_arguments(["--env", "cartpole", flag])
    assert arguments.settings.checked().compile is compile
    arguments, _ = parse_arguments(["--env", "cartpole"])
    assert arguments.settings.checked().compile is torch.cuda.is_available()


def test_what_an_option_leaves_idle_of_a_configuration_is_left_out(caplog):
    """As a line says; what the command line has itself is refused, and so is what lies idle in the file alone."""
    caplog.set_level("INFO", "torch_ppo")
    arguments, _ = parse_arguments("cartpole --config cartpole_cpu --distribution-type tanh_normal".split())
    assert arguments.settings.checked().noise_std_type == Config.noise_std_type
    (record,) = caplog.records
    left = "noise_std_type, init_noise_std, mean_kernel_init_fn"
    assert record.getMessage() == f"note: {left} of cartpole_cpu would have no effect with the options given; left out"
    config = "--config cartpole_balance_vision_cpu "
    assert parse_arguments(f"{config} --no-vision".split())[0].settings.checked().view_size is None
    assert parse_arguments(f"{config} --pixel-encoder resnet18".split())[0].settings.checked().view_size == 32
    for words in (f"{config} --no-vision --view-size 8", "--config cartpole_cpu --view-size 8"):
        with pytest.raises(ConfigError, match="view_size = 8 has no effect with vision = False"):
            parse_arguments(words.split())[0].settings.checked()


def test_what_lies_idle_in_a_file_is_refused_whatever_the_options(tmp_path):
    (tmp_path / "a.toml").write_text('env = "cartpole"\nnum_timesteps = 1\nview_size = 8\n')
    with pytest.raises(ConfigError, match="view_size = 8 has no effect with vision = False"):
        parse_arguments(["--config", str(tmp_path / "a.toml"), "--seed", "1"])[0].settings.checked()


@pytest.mark.parametrize("env", ["gym:Pendulum-v1", "torch_ppo.envs.ant:Ant"])
def test_no_configuration_is_proposed_that_is_of_another_task(env):
    if env.startswith("gym:"):
        pytest.importorskip("gymnasium")
    with pytest.raises(ConfigError, match=r"needs --config with its settings: a TOML file with num_timesteps") as error:
        parse_arguments(["--env", env])
    assert "cartpole" not in str(error.value)


def test_a_configuration_beside_a_task_is_named(tmp_path):
    (tmp_path / "arm.py").write_text("from torch_ppo.envs.ant import Ant as Arm\n")
    (tmp_path / "arm.toml").touch()
    with pytest.raises(ConfigError) as error:
        parse_arguments(["--env", f"{tmp_path}/arm.py:Arm"])
    assert str(error.value).endswith(f"needs --config with its settings; beside it lies {tmp_path}/arm.toml")
