"""What a training step launches on a CUDA device, counted without one.

    python -m tools.count_launches cartpole quadruped_joystick ant
    python -m tools.count_launches cartpole --triton --json launches.json

A launch-bound program is as fast as its launches are few. For a configuration this counts, on the CPU with MuJoCo Warp,

    policy step   Warp's launches and fills in its physics, torch's operators left eager, kernels in compiled functions
    SGD step      kernels and matrix products in compiled functions, operators left eager
    graphs        nodes of a recorded unroll and of a recorded SGD pass, less memory nodes

Kernels of compiled functions are those of Inductor: with `--triton` of its code for an H100 (see `tools.triton_code`), which
is what a GPU would be asked for. Without, of its code for the CPU, which has all between two products in one function:
a lower bound. Loops of Warp that the device ends count once.
"""

import collections
import contextlib
import dataclasses
import json
import math
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import torch
import tyro
from torch._inductor.graph import GraphLowering
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from torch_ppo.envs import make_task
from torch_ppo.errors import user_errors
from torch_ppo.formulas import losses
from torch_ppo.running.accelerate import compile_parts
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.command_line import read_command_line
from torch_ppo.settings.files import load_config
from torch_ppo.simulation.host import as_on_cuda

NUM_ENVS = 8  # launches do not depend on it, and a batch of the real size is collected by few envs in more unrolls

# How a line of Inductor's wrapper calls a kernel that it generated, a matrix product, and what else others wrote.
FUSED = re.compile(r"^\s+(?:cpp_fused\w*|triton_\w+\.run)\(", re.MULTILINE)
PRODUCT = re.compile(r"^\s+(?:\w+ = )?(?:extern_kernels\.\w*mm|torch\.ops\.\S*linear\S*)\(", re.MULTILINE)
OTHER = re.compile(r"^\s+(?:\w+ = )?(?:extern_kernels\.(?!\w*mm)|torch\.ops\.(?!\S*linear))\S*\(", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class CountArguments:
    """Count what a training step launches."""

    config: tyro.conf.Positional[tuple[str, ...]] = ("cartpole",)
    """Configurations, by name or file."""
    kernels: bool = True
    """Also compile, and count the kernels; half a minute for each configuration."""
    triton: bool = False
    """Count those of the code for an H100; needs the package triton, and a minute."""
    json: Path | None = None
    """File for the numbers."""


class Operators(TorchDispatchMode):
    """Counts the operators that run a kernel, by name, but for those inside `opaque` functions."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = collections.Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if not function.is_view and function is not torch.ops.aten.detach.default:
            self.counts[str(function.overloadpacket).removeprefix("aten.")] += 1
        return function(*args, **(kwargs or {}))

    @staticmethod
    def opaque(function: Callable) -> Callable:
        """`function`, with nothing counted that it does."""

        def quiet(*args: object, **kwargs: object) -> object:
            with _disable_current_modes():
                return function(*args, **kwargs)

        return quiet


@contextlib.contextmanager
def warp_work() -> Iterator[collections.Counter]:
    """Counts what Warp is asked for inside: launch, fill, copy, loop. Empty launches are none."""
    import warp as wp  # takes more than a second

    counts = collections.Counter()

    def counted(name: str, kind: Callable[..., str | None]) -> Callable:
        original = getattr(wp, name)

        def function(*args: object, **kwargs: object) -> object:
            result = original(*args, **kwargs)
            what = kind(result, *args, **kwargs)
            counts.update([what] if what else [])
            return result

        return function

    def launch(_: object, kernel: object, dim: object = None, *args: object, **kwargs: object) -> str | None:
        size = dim if isinstance(dim, (tuple, list)) else (dim,)
        return "launch" if math.prod(int(x) for x in size) else None

    def filled(result: object, *args: object, **kwargs: object) -> str | None:
        return "fill" if result.size else None

    kinds = {
        "launch": launch,
        **dict.fromkeys(("zeros", "full", "clone", "zeros_like"), filled),
        "copy": lambda *_, **__: "copy",
        "capture_while": lambda *_, **__: "loop",
    }
    before = {name: getattr(wp, name) for name in kinds}
    zero = wp.array.zero_

    def zero_(array: object) -> object:
        counts["fill"] += 1
        return zero(array)

    for name, kind in kinds.items():
        setattr(wp, name, counted(name, kind))
    wp.array.zero_ = zero_
    try:
        yield counts
    finally:
        for name, function in before.items():
            setattr(wp, name, function)
        wp.array.zero_ = zero


def physics_launches(state: TrainingState) -> dict[str, int]:
    """Warp's work in the physics of one policy step, as it is recorded: bodies of loops once."""
    import mujoco_warp as mjw
    import warp as wp

    physics, repeats = state.env.physics, state.env.num_substeps * state.config.action_repeat
    mjw.step(physics._model, physics._data)  # loads the kernels
    with warp_work() as counts, wp.ScopedCapture(device="cpu"):
        mjw.step(physics._model, physics._data)
    return {name: counts[name] * repeats for name in ("launch", "fill", "copy", "loop")}


def eager_operators(work: Callable[[], None]) -> collections.Counter:
    """Operators that `work` runs, by name, as on CUDA."""
    with as_on_cuda(), Operators() as operators:
        work()
    return operators.counts


def cpu_code(function: Callable[[], object]) -> list[str]:
    """Inductor's code for the CPU of what `function` compiles when it is called."""
    code, original = [], GraphLowering.codegen

    def codegen(graph: GraphLowering) -> object:
        result = original(graph)
        code.append(result[0].value)
        return result

    with mock.patch.object(GraphLowering, "codegen", codegen):
        function()
    return code


def kernels(function: Callable[[], object], generate: Callable[..., list[str]] = cpu_code) -> dict[str, int]:
    """Kernels that Inductor makes of what `function` compiles when it is called, and what they call beside."""
    with torch._inductor.config.patch(force_disable_caches=True), as_on_cuda(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="dynamo_pgo force disabled")
        code = [text.partition("def call(")[2] for text in generate(function)]
    found = {"fused": FUSED, "product": PRODUCT, "other": OTHER}
    return {name: sum(len(pattern.findall(text)) for text in code) for name, pattern in found.items()}


def make_state(name: str) -> TrainingState:
    """The configuration's training, on few envs of MuJoCo Warp, with nothing compiled or recorded yet."""
    config = load_config(name, run_evals=False, physics="warp", device="cpu", capture="none", compile=False)
    return TrainingState(dataclasses.replace(config, num_envs=NUM_ENVS), make_task(config.env))


def count(name: str, *, generate: Callable[..., list[str]] | None = cpu_code) -> dict[str, object]:
    """All counts of a configuration; kernels of compiled functions as in the code that `generate` has of them, if any."""
    state = make_state(name)
    config, collector, learner, env = state.config, state.collector, state.learner, state.env
    result: dict[str, object] = {
        "config": name,
        "policy_steps": config.unroll_length,
        "policy_repeats": config.action_repeat,
        "sgd_steps": config.num_minibatches,
        "physics": physics_launches(state),
    }
    collector.unroll()  # what is made once is there
    learner.begin_pass()
    action = torch.zeros(env.num_envs, env.action_dim)
    compiled_functions = {
        (collector, "act"): lambda: collector.act(state.agent, env.observation, action.clone(), collector.rows[0]),
        (env, "before_physics"): lambda: env.before_physics(action),
        (env, "after_physics"): lambda: env.after_physics(action, True, True),
        (collector, "finish_unroll"): lambda: collector.finish_unroll(),
        (learner, "minibatch_gradient"): lambda: learner.minibatch_gradient(),
        (learner, "finish_sgd_step"): lambda: learner.finish_sgd_step(
            torch.zeros(learner.flat.numel() + len(losses.METRICS))
        ),
    }
    plain = {key: getattr(*key) for key in (*compiled_functions, (env.physics, "step"))}
    for key, function in plain.items():
        setattr(*key, Operators.opaque(function))
    per_unroll, per_pass = eager_operators(collector.unroll), eager_operators(learner.sgd_pass)
    for key, function in plain.items():
        setattr(*key, function)
    result["eager_in_unroll"], result["eager_in_sgd_pass"] = dict(per_unroll), dict(per_pass)
    if generate is not None:
        compile_parts(collector, learner, few_launches=True)
        collecting = {key: torch.no_grad()(call) for key, call in compiled_functions.items() if key[0] is not learner}
        calls = compiled_functions | collecting
        result["compiled"] = {key[1]: kernels(call, generate) for key, call in calls.items()}
    return result


def totals(counts: dict[str, object]) -> dict[str, float]:
    """What a policy step and an SGD step come to, and the nodes of the two graphs."""
    physics = sum(counts["physics"][name] for name in ("launch", "fill", "copy"))
    made = {name: sum(parts.values()) for name, parts in counts.get("compiled", {}).items()}
    torch_step = (sum(counts["eager_in_unroll"].values()) + made.get("finish_unroll", 0)) / counts["policy_steps"]
    torch_step += made.get("act", 0)
    torch_step += counts["policy_repeats"] * (made.get("before_physics", 0) + made.get("after_physics", 0))
    sgd_step = sum(counts["eager_in_sgd_pass"].values()) / counts["sgd_steps"]
    sgd_step += made.get("minibatch_gradient", 0) + made.get("finish_sgd_step", 0)
    return {
        "policy_step_physics": physics,
        "policy_step_torch": torch_step,
        "sgd_step": sgd_step,
        "unroll_nodes": (physics + torch_step) * counts["policy_steps"],
        "sgd_pass_nodes": sgd_step * counts["sgd_steps"],
    }


def lines(counts: dict[str, object]) -> Iterator[str]:
    """The counts of a configuration, to read."""
    total, physics = totals(counts), counts["physics"]
    yield f"{counts['config']}"
    yield (
        f"  policy step  {total['policy_step_physics']:5.0f} of physics: {physics['launch']} launches, "
        f"{physics['fill'] + physics['copy']} fills and copies, {physics['loop']} loops"
    )
    yield f"               {total['policy_step_torch']:5.1f} of torch"
    yield f"  SGD step     {total['sgd_step']:5.1f}"
    for name, parts in counts.get("compiled", {}).items():
        yield f"    {name:16} {parts['fused']} fused, {parts['product']} products, {parts['other']} others"
    for what, per, name in (("unroll", "policy_steps", "policy step"), ("sgd_pass", "sgd_steps", "SGD step")):
        eager = ", ".join(f"{n / counts[per]:.2g} {op}" for op, n in counts[f"eager_in_{what}"].items())
        yield f"    eager in each {name}: {eager}"
    yield f"  graphs       unroll {total['unroll_nodes']:.0f} nodes, SGD pass {total['sgd_pass_nodes']:.0f}"


@user_errors()
def main() -> None:
    """Counts each configuration, prints, and writes JSON."""
    arguments = read_command_line(CountArguments, "tools.count_launches")
    results, generate = [], cpu_code if arguments.kernels else None
    if arguments.triton:
        from tools.triton_code import triton_code

        generate = triton_code
    for name in arguments.config:
        counts = count(name, generate=generate) | {"kernels_of": generate.__name__ if generate else None}
        print(*lines(counts), sep="\n", flush=True)
        results.append(counts | {"totals": totals(counts)})
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
