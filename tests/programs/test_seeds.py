"""Several seeds and variants: what is run, what is said of it, and mistakes."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from torch_ppo import seeds as seeds_module
from torch_ppo.errors import ConfigError
from torch_ppo.running.program import parse_arguments
from torch_ppo.running.seed_statistics import spread_by_step
from torch_ppo.seeds import SeedsArguments, draw, plan, summarise, table, variant_options, without_nan
from torch_ppo.settings.command_line import read_command_line
from torch_ppo.settings.files import to_toml

TINY = (
    "--config cartpole_cpu --num-timesteps 2000 --num-evals 2 --num-envs 8 --batch-size 8 --num-minibatches 2".split()
)
TINY += "--num-eval-envs 2 --episode-length 20 --device cpu --torch-threads 1".split()


def seeds(*arguments, cwd):
    command = [sys.executable, "-m", "torch_ppo.seeds", *TINY, *arguments]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(command, check=False, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_two_variants_one_of_which_fails(tmp_path):
    arguments = ("--seeds", "0", "--vary", "learning_rate=1e30", "--out", str(tmp_path / "out"))
    first = seeds(*arguments, cwd=tmp_path)
    assert first.returncode == 2, first.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["default"]["last"]["median"] > 0 and not summary["default"]["failures"]
    assert "loss became" in summary["learning_rate=1e30"]["failures"]["0"]
    assert "learning_rate=1e30  " in first.stdout and "loss became" in first.stdout
    assert (tmp_path / "out" / "default" / "seed0" / "policy.pt").exists()

    # What is finished is not run again.
    log = tmp_path / "out" / "default" / "seed0.log"
    before = log.read_text()
    again = seeds("--seeds", "0", "--out", str(tmp_path / "out"), cwd=tmp_path)
    assert again.returncode == 0 and log.read_text() == before

    # Under other settings its results would be somebody else's.
    for other, words in (
        (("--env", "pendulum_swingup"), "env is 'cartpole' there, not 'pendulum_swingup'"),
        (("--learning-rate", "0.5"), "learning_rate is 0.002 there, not 0.5"),
    ):
        refused = seeds("--seeds", "0", "--out", str(tmp_path / "out"), *other, cwd=tmp_path)
        assert refused.returncode == 2 and words in refused.stderr and "--out names another" in refused.stderr


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (("0", "1", "0"), "0 is there twice; --seeds 0 1 would work"),
        (("0", "-1"), "seeds is -1, but must be 0 or more"),
    ],
)
def test_seeds_that_cannot_be(given, what):
    with pytest.raises(ConfigError, match=what):
        read_command_line(SeedsArguments, "seeds", ("--seeds", *given))


@pytest.mark.slow
def test_a_kill_at_either_end_is_gone_over(tmp_path):
    """Before the first checkpoint, even before config.toml, or with a torn history: the same command finishes."""
    out = tmp_path / "out" / "default"
    (out / "seed0").mkdir(parents=True)
    (out / "seed0" / ".0123456789ab.tmp").touch()
    arguments = ("--seeds", "0", "--out", str(tmp_path / "out"))
    assert seeds(*arguments, cwd=tmp_path).returncode == 0
    (out / "seed0" / "policy.pt").unlink()
    for checkpoint in (out / "seed0" / "checkpoints").iterdir():
        checkpoint.unlink()
    with (out / "seed0" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 43')
    again = seeds(*arguments, cwd=tmp_path)
    assert again.returncode == 0, again.stdout
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert len(summary["default"]["curves"]["0"]) == 2 and not summary["default"]["failures"]


# Where runs are placed

ANYWHERE = [word for word in TINY if word not in ("--device", "cpu")]
LOCAL = ("--launcher", "submitit", "--devices", "cpu", "--submitit", "cluster=local", "timeout_min=10")


def start(*arguments, cwd, options=ANYWHERE, **environment):
    command = [sys.executable, "-m", "torch_ppo.seeds", *options, "--out", str(cwd / "out"), *arguments]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), **environment}
    return subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def said(process):
    try:
        return process.communicate(timeout=300)[0]
    finally:
        process.kill()


def test_asked_to_stop_every_run_saves_and_no_other_begins(tmp_path):
    """The signal goes to this program alone, as `kill` and a closed terminal send it."""
    long = [*ANYWHERE, "--num-timesteps", "100000000"]
    process = start("--seeds", "0", "1", "2", "--devices", "cpu,cpu", cwd=tmp_path, options=long)
    logs = [tmp_path / "out" / "default" / f"seed{seed}.log" for seed in range(3)]
    deadline = time.monotonic() + 120
    while not all(log.exists() and "steps" in log.read_text() for log in logs[:2]) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    output = said(process)
    assert process.returncode == 128 + signal.SIGTERM and "stopped; the same command goes on" in output
    for log in logs[:2]:
        assert "go on with" in log.read_text()
        assert (log.with_suffix("") / "checkpoints" / "last.pt").exists()
    assert not logs[2].exists()


@pytest.mark.slow
def test_through_submitit_on_this_machine(tmp_path):
    process = start("--seeds", "0", "--vary", "learning_rate=1e30", *LOCAL, cwd=tmp_path)
    output = said(process)
    assert process.returncode == 2, output
    assert "learning_rate=1e30  " in output and "loss became" in output
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["default"]["last"]["median"] > 0 and not summary["default"]["failures"]
    jobs = sorted((tmp_path / "out" / "submitit").iterdir())
    again = start("--seeds", "0", *LOCAL, cwd=tmp_path)
    assert "1/1" in said(again) and again.returncode == 0
    assert sorted((tmp_path / "out" / "submitit").iterdir()) == jobs  # nothing was submitted


# What submitit calls of SLURM. The tasks of an array run one after another, once it is submitted.
SBATCH = """#!{python}
import os, pathlib, re, subprocess, sys
script = pathlib.Path(sys.argv[1]).read_text()
if len(sys.argv) == 2:
    pathlib.Path("sbatch.txt").write_text(script)
    subprocess.Popen([*sys.argv, "now"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    sys.exit(print("Submitted batch job 77"))
for task in range(int(re.search(r"--array=0-(\\d+)", script)[1]) + 1):
    ids = {{"SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": str(task), "SLURM_JOB_ID": str(77 + task)}}
    ids |= {{"SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_NODELIST": "here", "SLURM_PROCID": "0"}}
    ids |= {{"SLURM_NODEID": "0", "SLURM_LOCALID": "0", "SUBMITIT_EXECUTOR": "slurm"}}
    command = [line for line in script.splitlines() if line.startswith("srun")][0]
    subprocess.run(command[command.index(sys.executable) :], shell=True, env=os.environ | ids, check=False)
"""


@pytest.mark.slow
def test_through_submitit_as_an_array_of_slurm(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sbatch").write_text(SBATCH.format(python=sys.executable))
    for name in ("srun", "scancel", "sacct"):
        (tmp_path / "bin" / name).write_text("#!/bin/sh\n")
    for file in (tmp_path / "bin").iterdir():
        file.chmod(0o755)
    parameters = (
        "slurm_partition=small",
        "timeout_min=90",
        "cpus_per_task=2",
        'slurm_additional_parameters={"nice":5}',
    )
    arguments = ("--launcher", "submitit", "--devices", "cpu", "--jobs", "4", "--submitit", *parameters)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    process = start("--seeds", "0", "1", *arguments, cwd=tmp_path, PATH=path)
    output = said(process)
    assert process.returncode == 0, output
    script = (tmp_path / "sbatch.txt").read_text()
    for flag in ("array=0-1%2", "partition=small", "time=90", "cpus-per-task=2", "nice=5", "signal=USR2@90"):
        assert f"#SBATCH --{flag}\n" in script, script
    assert "gpus-per-node" not in script
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["default"]["curves"].keys() == {"0", "1"}


def test_settings_are_those_of_where_a_run_is_placed():
    """Not those that the machine suggests on which the study is begun; a login node has no GPU."""
    options = ["--env", "cartpole"]
    (cpu,) = plan(SeedsArguments(seeds=(0,), devices=("cpu,cpu",)), options)
    (gpu,) = plan(SeedsArguments(seeds=(0,), launcher="submitit"), options)
    for run, device, config in ((cpu, "cpu", "cartpole_cpu"), (gpu, "cuda", "cartpole")):
        settings = parse_arguments([*run.options])[0].settings
        assert settings.device == device
        assert settings.num_envs == parse_arguments(["--config", config])[0].settings.num_envs


def test_another_gpu_goes_on_with_a_run(tmp_path):
    arguments = SeedsArguments(seeds=(0,), devices=("3",), out=tmp_path)
    (run,) = plan(arguments, ["--env", "cartpole"])
    settings = dataclasses.replace(parse_arguments([*run.options])[0].settings, device="cuda:0", compile=True)
    run.folder.mkdir(parents=True)
    (run.folder / "config.toml").write_text(to_toml(settings))
    assert plan(arguments, ["--env", "cartpole"]) == [run]
    with pytest.raises(ConfigError, match="device is 'cuda:0' there, not 'cpu'"):
        plan(dataclasses.replace(arguments, devices=("cpu",)), ["--config", "cartpole", "--env", "cartpole"])


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ({"devices": ("0,cpu",)}, [], "0,1,2 or cpu,cpu would work"),
        ({"devices": ("cuda:1",)}, [], "0,1,2 or cpu,cpu would work"),
        ({"devices": ("0,1",), "jobs": 2}, [], "name a device twice"),
        ({"devices": ("0",)}, ["--device", "cuda"], "--device is set for each run"),
        ({"devices": ("0",), "vary": ("device=cpu",)}, [], "--device is set for each run"),
        ({"launcher": "submitit", "devices": ("0,1",)}, [], "leave out --devices"),
        ({"submitit": ("timeout_min=3",)}, [], "for --launcher submitit, which is not given"),
        ({"jobs": 0}, [], "--jobs is 1 or more"),
    ],
)
def test_mistakes_of_placing(arguments, options, words):
    with pytest.raises(ConfigError, match=words):
        plan(SeedsArguments(**arguments), [*ANYWHERE, *options])


def test_options_of_a_variant():
    assert variant_options("learning_rate=1e-2") == ("--learning-rate", "1e-2")
    assert variant_options("normalize-observations=false,gae=textbook") == (
        "--no-normalize-observations",
        "--gae",
        "textbook",
    )
    assert variant_options("policy_hidden_layer_sizes=64 64") == ("--policy-hidden-layer-sizes", "64", "64")


@pytest.mark.parametrize(
    ("vary", "words"),
    [
        ("learning_rat=1", "did you mean 'learning_rate'"),
        ("history=2,3", "--vary history=2,3 is not name=value; history=2 history=3 would work"),
        ("history", "--vary history is not name=value; learning_rate=1e-3 would work"),
        ("learning_rate", "is not name=value"),
        ("seed=3", "--seeds"),
        ("num_minibatches=7,num_envs=1000", "not divisible"),
    ],
)
def test_mistakes_are_found_before_the_first_run(vary, words):
    with pytest.raises(ConfigError, match=words):
        plan(SeedsArguments(vary=(vary,)), TINY)


def test_a_folder_that_cannot_be_is_one_line(monkeypatch, capsys):
    words = ["seeds", "--config", "cartpole_cpu", "--seeds", "0", "--out", "/proc/nowhere"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit, match="2"):
        seeds_module.main()
    assert capsys.readouterr().err == "error: --out /proc/nowhere cannot be written: No such file or directory\n"


def test_options_of_its_own_are_refused():
    with pytest.raises(ConfigError, match="--run-dir is set for each run"):
        plan(SeedsArguments(), [*TINY, "--run-dir", "x"])


def test_paths_are_compared_by_where_they_are(tmp_path, monkeypatch):
    """A run's config.toml has whole paths; the command may have been given from another folder, or through a link."""
    (tmp_path / "real" / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "of_seeds.py").write_text(
        "from torch_ppo.envs.cartpole import Cartpole\nclass Mine(Cartpole):\n    pass\nclass Other(Cartpole):\n    pass\n"
    )
    (tmp_path / "real" / "old.pt").touch()
    arguments = SeedsArguments(seeds=(0,), out=tmp_path / "out")

    def planned(folder, env, checkpoint):
        monkeypatch.chdir(tmp_path / folder)
        (run,) = plan(arguments, [*TINY, "--env", env, "--restore-checkpoint-path", checkpoint])
        return run

    run = planned("real", "of_seeds.py:Mine", "old.pt")
    settings = parse_arguments([*run.options])[0].settings
    run.folder.mkdir(parents=True)
    paths = {"restore_checkpoint_path": str(tmp_path / "real" / "old.pt")}
    (run.folder / "config.toml").write_text(to_toml(dataclasses.replace(settings, **paths)))
    for folder, before in (("real", ""), ("real/sub", "../"), (".", "real/"), (".", "link/"), ("link", "")):
        planned(folder, f"{before}of_seeds.py:Mine", f"{before}old.pt")
    with pytest.raises(ConfigError, match="is of other settings: env is"):
        planned("real", "of_seeds.py:Other", "old.pt")
    with pytest.raises(ConfigError, match="is of other settings: restore_checkpoint_path is"):
        planned("real/sub", "../of_seeds.py:Mine", "old.pt")


def test_summary(tmp_path):
    """Median, lowest and highest of hand-made curves."""
    runs = plan(SeedsArguments(seeds=(0, 1, 2), vary=("discounting=0.5",), out=tmp_path), TINY)
    assert [(run.seed, run.variant) for run in runs[:3]] == [(0, "default"), (0, "discounting=0.5"), (1, "default")]
    for run in runs:
        if run.variant == "default":
            run.folder.mkdir(parents=True)
            rows = [{"step": 0, "eval/episode_reward": 1.0}, {"step": 9, "eval/episode_reward": 10.0 * run.seed**2}]
            (run.folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    summary = summarise(runs, {runs[1]: "error: it broke"})
    last = summary["default"]["last"]
    assert (last.median, last.lowest, last.highest) == (10.0, 0.0, 40.0)
    assert last.interquartile_mean == pytest.approx(50 / 3)
    assert {step: at.median for step, at in summary["default"]["evaluations"].items()} == {0: 1.0, 9: 10.0}
    assert summary["discounting=0.5"]["last"] is None and summary["discounting=0.5"]["against default"] is None
    head, first, second, failed = table(summary).splitlines()
    assert head.split() == "last eval/episode_reward: median IQM [95 %] min .. max best: median seeds".split()
    assert first.split()[:3] == ["default", "10.0", "16.7"] and first.endswith("0.0 .. 40.0  10.0          3")
    assert second.split() == ["discounting=0.5", *["none"] * 5, "0"]
    assert failed == "discounting=0.5, seed 0: error: it broke"


def test_noise_is_called_noise(tmp_path):
    """Of three seeds each no difference can be shown, and the table says how many could."""
    runs = plan(SeedsArguments(seeds=(0, 1, 2), vary=("discounting=0.5",), out=tmp_path), TINY)
    for run in runs:
        run.folder.mkdir(parents=True)
        row = {"step": 9, "eval/episode_reward": (500.0 if run.variant == "default" else 100.0) + run.seed}
        (run.folder / "metrics.jsonl").write_text(json.dumps(row))
    summary = summarise(runs, {})
    said = "discounting=0.5 against default, last: -400.0, p = 0.1: 3 seeds cannot tell it from noise, 4 of each could"
    assert table(summary).splitlines()[-1] == said
    assert without_nan(summary)["discounting=0.5"]["against default"]["p"] == pytest.approx(0.1)


def test_picture():
    """What is drawn: the interquartile mean in its interval, and each seed behind it."""
    curves = {seed: [(0, float(seed)), (1_000_000, 10.0 * seed)] for seed in range(4)}
    summary = {"a": {"curves": curves, "failures": {}, "evaluations": spread_by_step(list(curves.values()))}}
    (axes,) = draw(summary, "").axes
    *seeds, mean = axes.lines
    assert [line.get_ydata().tolist() for line in seeds] == [[seed, 10 * seed] for seed in range(4)]
    assert mean.get_ydata().tolist() == [1.5, 15.0] and mean.get_xdata().tolist() == [0.0, 1.0]
    assert axes.get_xlabel() == "env steps (millions)"
