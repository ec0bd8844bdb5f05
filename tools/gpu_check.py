"""What a machine with a CUDA device has to tell, in three commands of less than ten minutes; `tools/gpu_check.sh` calls it.

    tools/gpu_check.sh FOLDER first      does it run, is it right, and the guide's cart-pole
    tools/gpu_check.sh FOLDER second     how fast is it
    tools/gpu_check.sh FOLDER third      would it be faster compiled otherwise; Brax beside it, where it is installed

Run in a checkout, with Python 3.11 or 3.12, torch for CUDA, the project's packages and pytest; nothing else is needed, and
nothing is downloaded. Steps come in the order of what their failure would tell; none stops the others; each ends at its
limit, and all in time. Where recording unrolls or compiling fails, what follows does without. What a step leaves of its
time is for those after it, which take up to twice their limits. One that hangs says in its log where.
FOLDER/gpu_check.json has everything, and is complete after every step; logs lie beside it.

`--device cpu` rehearses all of it, with few envs, where there is no such device.
"""

import dataclasses
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Literal

import tyro

SECONDS = 570  # of one command
KILL_AFTER = 5  # seconds after the limit, for what does not end when it is asked to
AT_LIMIT = "ABRT"  # at this signal Python says where every thread is, with PYTHONFAULTHANDLER, and ends
STRETCH = 2  # times its limit that a step may take of what others have left
# What a rehearsal on the CPU trains and measures instead.
SMALL_RUN = {"num-timesteps": 4000, "num-envs": 16, "batch-size": 16, "num-minibatches": 2, "num-eval-envs": 4}
SMALL_BATCH = ("num_envs=16", "batch_size=16", "num_minibatches=2", "unroll_length=2", "num_updates_per_batch=1")
LEAST = 5  # seconds that are worth beginning a step for
TAIL = 4000  # characters of a step's output that the JSON keeps


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Check a machine with a CUDA device."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Folder for JSON and logs."""
    part: Annotated[Literal["first", "second", "third"], tyro.conf.Positional]
    """Which command."""
    device: str = "cuda"
    """cpu rehearses, with few envs."""
    only: tuple[str, ...] = ()
    """Steps to run instead of all of the command."""
    patience: float = 1.0
    """Factor on all limits, for a slow machine."""


@dataclasses.dataclass(frozen=True)
class Step:
    """A command with its limit in seconds, and what is read from its output (and the folder) into the JSON."""

    name: str
    limit: int
    command: list[str]
    read: Callable[[str, Path], object] = lambda output, folder: None


def last_json(output: str, folder: Path) -> object:
    """The JSON in the last line that has some."""
    for line in reversed(output.splitlines()):
        if line.startswith(("{", "[")):
            return json.loads(line)
    return None


def results_of_tests(output: str, folder: Path) -> dict[str, object]:
    """How the tests ended that did, from `pytest -v`, which may have been killed."""
    found = re.findall(r"^(\S+::.+?) (PASSED|FAILED|ERROR|SKIPPED|XFAIL)\b", output, re.MULTILINE)
    counts = {kind.lower(): sum(result == kind for _, result in found) for kind in dict.fromkeys(x for _, x in found)}
    return {**counts, "failures": [name for name, result in found if result in ("FAILED", "ERROR")]}


def run_reports(output: str, folder: Path) -> list[dict[str, float]]:
    """The reports of the run in FOLDER/run, without the metrics of the loss."""
    file = folder / "run" / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.is_file() else []
    wanted = re.compile(
        r"step$|eval/(episode_reward|avg_episode_length|sps|epoch_eval_time)|training/(sps|walltime|broken)"
    )
    return [{name: x for name, x in json.loads(line).items() if wanted.match(name)} for line in lines]


def bench_results(name: str, key: str = "results") -> Callable[[str, Path], object]:
    def read(output: str, folder: Path) -> object:
        file = folder / f"{name}.json"
        return json.loads(file.read_text())[key] if file.is_file() else None

    return read


def highest_level(device: str, failed: Collection[str]) -> str:
    """As far as is recorded: whole unrolls, unless the step that tries it has failed."""
    return "physics" if device == "cpu" or "unroll" in failed else "unroll"


def first_part(folder: Path, device: str, failed: Collection[str] = ()) -> list[Step]:
    """Does it run, is it right; and the guide's cart-pole. What has `failed` is left out of those that follow."""
    on_cuda = device != "cpu"
    top = highest_level(device, failed)
    size = {"num-timesteps": 60_000_000} if on_cuda else SMALL_RUN
    own = [sys.executable, "-m", "tools.gpu_check_steps"]

    def few(name: str, limit: int, *options: str) -> Step:
        return Step(name, limit, [*own, "few", "--device", device, *options], last_json)

    tests = ["tests/running/test_accelerate.py", "tests/running/test_determinism.py"]
    # A test that compiles takes a minute of them all, and a step of its own has compiled.
    pytest = [sys.executable, "-m", "pytest", "-v", "--tb=short", "-p", "no:cacheprovider", "-m", "cuda and not slow"]
    pytest += ["-k", "not compiled"]
    train = [sys.executable, "-m", "torch_ppo.train", "--config", "cartpole", "--device", device, "--physics", "warp"]
    train += [word for name, value in size.items() for word in (f"--{name}", str(value))]
    train += ["--capture", top, *(["--no-compile"] if "compiled" in failed else [])]
    return [
        Step("environment", 45, [*own, "facts", "--device", device], last_json),
        few("eager", 75, "--capture", "none"),
        few("physics", 45, "--capture", "physics"),
        *([few("unroll", 45, "--capture", "unroll")] if on_cuda else []),
        few("pixels", 50, "--capture", "none", "--vision"),
        *([few("pixels unroll", 25, "--capture", "unroll", "--vision")] if on_cuda else []),
        few("compiled", 75, "--capture", top, "--compile"),
        Step("tests", 110, [*pytest, *tests], results_of_tests),
        Step("guide", 100, [*train, "--run-dir", str(folder / "run")], run_reports),
    ]


def second_part(folder: Path, device: str, failed: Collection[str] = ()) -> list[Step]:
    """Whether runs repeat, and how fast everything is; without what has `failed`."""
    on_cuda = device != "cpu"
    top = highest_level(device, failed)
    own = [sys.executable, "-m", "tools.gpu_check_steps"]

    def bench(
        name: str, limit: int, config: str, num_envs: int, *settings: str, windows: int = 3, more: tuple = ()
    ) -> Step:
        sizes, small = ("--num-envs", str(num_envs), "--windows", str(windows)), ()
        if not on_cuda:
            sizes, small = ("--windows", "1", "--seconds", "0.05"), SMALL_BATCH
        command = [sys.executable, "-m", "tools.bench", "--config", *config.split(), *sizes, *more]
        command += ["--json", str(folder / f"{name}.json")]
        level = () if any(setting.startswith("capture") for setting in settings) else (f'capture="{top}"',)
        command += ["--set", f'device="{device}"', 'physics="warp"', *level, *settings, *small]
        return Step(name, limit, command, bench_results(name))

    def repeats(name: str, limit: int) -> Step:
        return Step(name, limit, [*own, "few", "--device", device, "--capture", top, "--deterministic"], last_json)

    contacts, plain = "ant quadruped_joystick", "compile=false"
    # A minute for each on the CPU; the first part has compiled.
    compiled = () if on_cuda and "compiled" not in failed else (plain,)
    return [
        repeats("deterministic", 45),
        repeats("deterministic again", 30),
        bench("bench cartpole", 90, "cartpole", 1024, *compiled, windows=5),
        bench("bench contacts", 110, contacts, 8192, plain),
        bench("bench contacts compiled", 90, contacts, 8192, *compiled),
        bench("bench physics", 40, "cartpole", 1024, plain, 'capture="physics"'),
        bench("bench eager graphs", 40, "cartpole", 1024, plain),
        bench("bench deterministic", 60, contacts, 8192, plain, "deterministic=true", windows=2),
        bench("bench bf16", 30, "cartpole", 1024, plain, "bf16=true"),
        # Tracing graphs with loops is what is most likely to hang or crash.
        bench("profile", 35, "cartpole", 1024, plain, windows=1, more=("--profile", str(folder / "traces"))),
    ]


def third_part(folder: Path, device: str, failed: Collection[str] = ()) -> list[Step]:
    """What could be compiled otherwise, and Brax on MuJoCo Warp beside it."""
    on_cuda, compiles = device != "cpu", "compiled" not in failed
    level = [f'device="{device}"', 'physics="warp"', f'capture="{highest_level(device, failed)}"']
    level += [f"compile={str(on_cuda and compiles).lower()}"]

    def choice(name: str, limit: int) -> Step:
        command = [sys.executable, "-m", "tools.bench_choices", "--choices", name]
        command += ["--num-envs", "1024"] if on_cuda else ["--windows", "1", "--seconds", "0.05"]
        command += ["--json", str(folder / f"choice_{name}.json"), "--set", *level, *(() if on_cuda else SMALL_BATCH)]
        return Step(f"choice {name}", limit, command, bench_results(f"choice_{name}"))

    brax = [sys.executable, "-m", "tools.compare_brax", "--brax-python", sys.executable, "--config", "cartpole"]
    impl = "warp" if on_cuda else "jax"
    brax += ["--impl", impl, "--rounds", "5" if on_cuda else "1", "--json", str(folder / "brax.json")]
    brax += ["--set", *level, *(() if on_cuda else SMALL_BATCH)]
    return [
        choice("kept", 60),
        *([choice("combo-kernels", 70), choice("bias-sums", 70), choice("two-value-passes", 70)] if compiles else []),
        Step("brax", 180, brax, bench_results("brax", impl)),
        *([choice("autotuned-products", 120)] if compiles else []),  # measuring may take minutes
    ]


PARTS = {"first": first_part, "second": second_part, "third": third_part}


def run_step(step: Step, folder: Path, patience: float, seconds_left: float, spare: float = 0.0) -> dict[str, object]:
    """Runs a step within its limit, the time left, and what others left; how it ended, how long it took, what it told."""
    own = patience * step.limit
    limit = int(min(own + max(spare, 0.0), STRETCH * own, seconds_left))
    if limit < LEAST:
        return {"ended": "left out: no time", "limit": limit}
    log = folder / f"{step.name.replace(' ', '_')}.log"
    started = time.perf_counter()
    with log.open("wb") as file:
        status = subprocess.run(
            ["timeout", "-s", AT_LIMIT, "-k", str(KILL_AFTER), str(limit), *step.command],
            check=False,
            env={**os.environ, "PYTHONFAULTHANDLER": "1", "PYTHONUNBUFFERED": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
        ).returncode
    output = log.read_text(errors="replace")
    try:
        told = step.read(output, folder)
    except (ValueError, KeyError, OSError) as error:
        told = f"{type(error).__name__}: {error}"
    ended = {0: "well", 124: "at its limit", 137: "killed at its limit", -9: "killed at its limit"}.get(
        status, f"with status {status}"
    )
    found = {"ended": ended, "seconds": round(time.perf_counter() - started, 1), "limit": limit, "told": told}
    return found if status == 0 else {**found, "output": output[-TAIL:]}


def differences_told(steps: dict[str, dict[str, object]]) -> dict[str, object]:
    """What two steps tell together: whether levels agree, and whether runs repeat."""

    def told(name: str, key: str) -> object:
        found = steps.get(name, {}).get("told")
        return found.get(key) if isinstance(found, dict) else None

    levels = {name: told(name, "losses") for name in ("eager", "physics", "unroll", "compiled")}
    of_pixels = {name: told(name, "losses") for name in ("pixels", "pixels unroll")}
    first, second = (told(name, "parameters_sum") for name in ("deterministic", "deterministic again"))
    return {
        "losses_by_level": levels,
        "losses_of_pixels_by_level": of_pixels,
        "deterministic_repeats": None if first is None or second is None else first == second,
    }


def main() -> None:
    """The program."""
    arguments = tyro.cli(Arguments, prog="tools/gpu_check.sh")
    folder, started = arguments.folder.resolve(), time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "gpu_check.json"
    report = json.loads(file.read_text()) if file.is_file() else {"device": arguments.device, "steps": {}}
    # Kernels of other versions are warnings, which are errors in tests; and the next command finds those of this one.
    for name in ("WARP_CACHE_PATH", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        os.environ.setdefault(name, str(folder / "kernels" / name.split("_")[0].lower()))
        Path(os.environ[name]).mkdir(parents=True, exist_ok=True)
    seconds = SECONDS * arguments.patience

    def steps() -> list[Step]:
        failed = [name for name, result in report["steps"].items() if result["ended"] != "well"]
        part = PARTS[arguments.part](folder, arguments.device, failed)
        return [step for step in part if not arguments.only or step.name in arguments.only]

    for i in range(len(steps())):
        step, *later = steps()[i:]
        left = seconds - (time.perf_counter() - started)
        spare = left - arguments.patience * sum(other.limit for other in (step, *later))
        result = run_step(step, folder, arguments.patience, left, spare)
        report["steps"][step.name] = result
        report["together"] = differences_told(report["steps"])
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(report, indent=1) + "\n")
        partial.replace(file)
        print(f"{step.name}: ended {result['ended']}, {result.get('seconds', 0)} s of {result['limit']}", flush=True)
    print(f"{file} has everything")


if __name__ == "__main__":
    main()
