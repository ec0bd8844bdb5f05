"""The check of a GPU machine: steps within limits, whatever they do; one JSON that has what they told."""

import dataclasses
import json
import os
import stat
import sys
import tomllib

import pytest
import tyro

from tests.running import test_accelerate, test_determinism
from tools import gpu_check
from tools.bench import BenchArguments, sized_config
from tools.bench_choices import CHOICES, ChoiceArguments
from tools.compare_brax import CompareArguments
from tools.gpu_check import PARTS, SECONDS, Step, differences_told, last_json, results_of_tests, run_step
from tools.gpu_check_steps import StepArguments
from torch_ppo.running.program import parse_arguments
from torch_ppo.settings.files import load_config


def step_of(code, limit=20, read=last_json):
    return Step("some step", limit, [sys.executable, "-c", code], read)


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("part", PARTS)
def test_a_part_fits_its_command(tmp_path, part, device):
    steps = PARTS[part](tmp_path, device)
    assert sum(step.limit for step in steps) <= SECONDS
    names = [step.name for other in PARTS.values() for step in other(tmp_path, device)]
    assert len(set(names)) == len(names)
    assert PARTS["first"](tmp_path, device)[0].name == "environment"
    assert PARTS["second"](tmp_path, device)[-1].name == "profile"


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_every_command_can_be_read(tmp_path, device):
    """What is asked of our programs are configurations that work, on a machine that is not here as well."""
    read = []
    for part in PARTS.values():
        for step in part(tmp_path, device):
            module, arguments = step.command[2], step.command[3:]
            if module == "tools.bench":
                given = tyro.cli(BenchArguments, args=arguments)
                settings = tomllib.loads("\n".join(given.set))
                for name in given.config:
                    for num_envs in given.num_envs or (None,):
                        config = sized_config(name, num_envs, settings)
                        read.append((config.device, config.num_envs))
            elif module == "tools.bench_choices":
                given = tyro.cli(ChoiceArguments, args=arguments)
                config = sized_config(given.config, given.num_envs, tomllib.loads("\n".join(given.set)))
                read.append((config.device, config.num_envs))
            elif module == "tools.compare_brax":
                given = tyro.cli(CompareArguments, args=arguments)
                config = load_config(given.config, **tomllib.loads("\n".join(given.set)))
                read.append((config.device, config.num_envs))
            elif module == "torch_ppo.train":
                config = parse_arguments(arguments)[0].settings.checked()
                read.append((config.device, config.num_envs))
            elif module == "tools.gpu_check_steps":
                tyro.cli(StepArguments, args=arguments)
            else:
                assert module == "pytest" and all(os.path.exists(word) for word in arguments if word.endswith(".py"))
    sizes = {8192, 1024} if device == "cuda" else {16}
    assert {size for _, size in read} == sizes and {name for name, _ in read} == {device}


def test_what_has_failed_is_left_out(tmp_path):
    """One level of capture that does not work, or a compiler that is missing, does not cost all measurements."""

    def words(part, failed):
        return {step.name: " ".join(step.command) for step in PARTS[part](tmp_path, "cuda", failed)}

    assert "--capture unroll" in words("first", [])["guide"] and "--no-compile" not in words("first", [])["guide"]
    assert "--capture physics" in words("first", ["unroll"])["guide"]
    assert "--capture physics --compile" in words("first", ["unroll"])["compiled"]
    assert "--no-compile" in words("first", ["compiled"])["guide"]
    assert 'capture="unroll"' in words("second", [])["bench cartpole"]
    assert 'capture="physics" compile=false' in words("second", ["unroll", "compiled"])["bench cartpole"]
    assert words("second", [])["bench physics"].count("capture") == 1
    assert {f"choice {name}" for name in CHOICES} < set(words("third", []))
    assert set(words("third", ["compiled"])) == {"choice kept", "brax"}
    assert "compile=false" in words("third", ["compiled"])["brax"]


def test_a_part_goes_on_without_what_failed(tmp_path, monkeypatch):
    asked = []

    def part(folder, device, failed):
        asked.append(tuple(failed))
        return [dataclasses.replace(step_of("raise SystemExit(1)"), name="unroll"), step_of("print('{}')")]

    for name in ("WARP_CACHE_PATH", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setitem(PARTS, "first", part)
    monkeypatch.setattr(sys, "argv", ["gpu_check", str(tmp_path), "first"])
    gpu_check.main()
    assert asked[-1] == ("unroll",)


def test_what_a_step_tells(tmp_path):
    found = run_step(step_of("print('words'); print('{\"a\": 1}'); print('more')"), tmp_path, 1.0, 100.0)
    assert found["ended"] == "well" and found["told"] == {"a": 1} and "output" not in found
    assert (tmp_path / "some_step.log").read_text().startswith("words")


def test_a_step_that_fails_keeps_its_words(tmp_path):
    found = run_step(step_of("raise SystemExit('the reason')"), tmp_path, 1.0, 100.0)
    assert found["ended"] == "with status 1" and "the reason" in found["output"] and found["told"] is None
    found = run_step(step_of("print('{not json')"), tmp_path, 1.0, 100.0)
    assert found["ended"] == "well" and found["told"].startswith("JSONDecodeError")


def test_a_step_ends_at_its_limit(tmp_path, monkeypatch):
    """Also one that does not obey, and one for which less time is left; what it said until then is read."""
    monkeypatch.setattr(gpu_check, "KILL_AFTER", 1)
    monkeypatch.setattr(gpu_check, "LEAST", 1)

    def shell(limit, before=""):
        return Step("some step", limit, ["sh", "-c", f"{before} echo '{{\"a\": 2}}'; sleep 60"], last_json)

    found = run_step(shell(30), tmp_path, 1.0, 2.0)
    assert found["ended"] == "at its limit" and found["seconds"] < 20 and found["told"] == {"a": 2}
    assert run_step(shell(2, "trap '' ABRT;"), tmp_path, 1.0, 100.0)["ended"] == "killed at its limit"
    assert run_step(shell(30), tmp_path, 1.0, 0.5)["ended"] == "left out: no time"


def test_a_step_may_take_what_others_left(tmp_path):
    step = step_of("print('{}')")
    limits = [
        run_step(step, tmp_path, 1.0, left, spare)["limit"] for left, spare in ((90, 7), (90, 60), (30, 60), (90, -5))
    ]
    assert limits == [27, 40, 30, 20]


def test_a_step_that_hangs_says_where_and_what_it_knew(tmp_path):
    code = "import time\ndef stuck(): time.sleep(60)\nprint('{\"losses\": [1.0]}')\nstuck()"
    found = run_step(step_of(code, limit=5), tmp_path, 1.0, 100.0)
    assert found["ended"] == "at its limit" and found["told"] == {"losses": [1.0]}
    assert "most recent call first" in found["output"] and "in stuck" in found["output"]


def test_tests_that_need_a_gpu_are_those_that_are_asked_for(tmp_path):
    """By a marker; by the word cuda in their names half of them were not."""
    (step,) = [step for step in PARTS["first"](tmp_path, "cuda") if step.name == "tests"]
    assert "cuda and not slow" in step.command
    for test in (test_accelerate.test_a_replay_uses_no_memory_but_its_own, test_determinism.test_the_same_bits_on_cuda):
        assert "cuda" in {mark.name for mark in test.pytestmark}


def test_tests_are_counted_where_pytest_was_killed():
    output = (
        "tests/a.py::test_one[cuda] PASSED     [ 10%]\n"
        "tests/a.py::test_two[a b-cuda] FAILED [ 20%]\n"
        "tests/a.py::test_three SKIPPED (no CUDA device) [ 30%]\n"
        "tests/a.py::test_four"
    )
    assert results_of_tests(output, None) == {
        "passed": 1,
        "failed": 1,
        "skipped": 1,
        "failures": ["tests/a.py::test_two[a b-cuda]"],
    }


def test_what_steps_tell_together():
    steps = {
        "eager": {"told": {"losses": [1.0, 2.0]}},
        "unroll": {"told": "no JSON"},
        "pixels": {"told": {"losses": [3.0]}},
        "deterministic": {"told": {"parameters_sum": 0.5}},
        "deterministic again": {"told": {"parameters_sum": 0.5}},
    }
    found = differences_told(steps)
    assert found["losses_by_level"] == {"eager": [1.0, 2.0], "physics": None, "unroll": None, "compiled": None}
    assert found["deterministic_repeats"] is True
    assert found["losses_of_pixels_by_level"] == {"pixels": [3.0], "pixels unroll": None}
    steps["deterministic again"]["told"]["parameters_sum"] = 0.6
    assert differences_told(steps)["deterministic_repeats"] is False
    del steps["deterministic"]
    assert differences_told(steps)["deterministic_repeats"] is None


def test_facts_of_a_machine(tmp_path, monkeypatch):
    """With a stand-in for nvidia-smi; one part is continued by another in the same file."""
    smi = tmp_path / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    smi.write_text("#!/bin/sh\necho 'Some GPU, 580.1, 81920 MiB, 1980 MHz'\n")
    smi.chmod(smi.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{smi.parent}{os.pathsep}{os.environ['PATH']}")
    for name in ("WARP_CACHE_PATH", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    folder = tmp_path / "out"
    for part, only in (("first", "environment"), ("second", "deterministic")):
        argv = ["gpu_check", str(folder), part, "--device", "cpu", "--only", only, "--patience", "5"]
        monkeypatch.setattr(sys, "argv", argv)
        if part == "second":
            monkeypatch.setitem(PARTS, "second", lambda *_: [step_of("print('{}')")])
            argv[5 + 1] = "some step"
        gpu_check.main()
    report = json.loads((folder / "gpu_check.json").read_text())
    told = report["steps"]["environment"]["told"]
    assert told["nvidia_smi"] == "Some GPU, 580.1, 81920 MiB, 1980 MHz"
    assert (
        told["packages"]["mujoco"].startswith("4.") and "python_h" in told and told["warp"]["cuda_devices"] is not None
    )
    assert report["steps"]["some step"]["told"] == {}
    assert set(report["together"]) == {"losses_by_level", "losses_of_pixels_by_level", "deterministic_repeats"}
