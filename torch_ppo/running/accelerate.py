"""Making a run fast: which of its functions are compiled and which are recorded as graphs. The one place for both.

The functions themselves know nothing of it: they work on tensors that stay where they are.
"""

import contextlib
import ctypes
import functools
import logging
import types
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, _inductor

from torch_ppo.formulas.convolution import Conv
from torch_ppo.formulas.networks import Dense
from torch_ppo.learning.agent import Agent
from torch_ppo.learning.blocks import Blocks, steps_of_block
from torch_ppo.learning.collect import Collector
from torch_ppo.learning.update import Learner
from torch_ppo.running.determinism import determinism_left_as_it_was
from torch_ppo.running.evaluate import Evaluator
from torch_ppo.running.traced_autograd import traced_autograd

log = logging.getLogger(__name__)

BACKEND = "inductor"  # of torch.compile


def keep_freed_memory() -> None:
    """Makes malloc keep large blocks that torch frees, where it is glibc's.

    It would return each to the system and get it back page by page: a tenth of an SGD step with large activations.
    """
    m_trim_threshold, m_mmap_threshold, largest = -1, -3, 1 << 25  # glibc takes no more for the second
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(m_mmap_threshold, largest)
        libc.mallopt(m_trim_threshold, 2**31 - 1)


def set_precision(agent: Agent, matmul_precision: str, bf16: bool) -> None:
    """Precision of matrix products and convolutions, for all of torch (`matmul_precision`) and in the networks (`bf16`)."""
    torch.set_float32_matmul_precision(matmul_precision)
    torch.backends.cudnn.allow_tf32 = matmul_precision != "highest"
    for module in agent.modules():
        if isinstance(module, (Dense, Conv)):
            module.in_bfloat16 = bf16


@contextlib.contextmanager
def torch_left_as_it_was() -> Iterator[None]:
    """Leaves the caller's random numbers, threads, precision, determinism and current CUDA device as they were.

    Inside, gradients are on, as learning needs, and tensors without a type or device are float32 on the CPU.
    """
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    cuda_device = torch.cuda.current_device() if torch.cuda.is_initialized() else 0
    dtype, cudnn = torch.get_default_dtype(), (torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
    convolutions = [operator.fp32_precision for operator in cudnn]
    with (
        torch.device("cpu") if torch.get_default_device().type != "cpu" else contextlib.nullcontext(),
        determinism_left_as_it_was(),
        torch.random.fork_rng(devices=[]),
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        try:
            torch.set_default_dtype(torch.float32)
            yield
        finally:
            torch.set_default_dtype(dtype)
            torch.set_float32_matmul_precision(precision)
            for operator, before in zip(cudnn, convolutions, strict=True):
                operator.fp32_precision = before
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)
            if torch.cuda.is_initialized():
                torch.cuda.set_device(cuda_device)


def own_copy(function: Callable) -> Callable:
    """`function`, or a method bound to its object, with code that no other function shares.

    torch.compile keeps what it made of a function with its code. Of code that many trainings share it would look
    through what all of them made at each call, refuse the ninth, and keep everything for ever.
    """
    if isinstance(function, types.MethodType):
        return types.MethodType(own_copy(function.__func__), function.__self__)
    if not isinstance(function, types.FunctionType):
        return function
    copy = types.FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return functools.update_wrapper(copy, function)


def compiled(function: Callable, backend: Callable | None = None, **options: object) -> Callable:
    """`function` by torch.compile, whole: a graph break is an error that names its cause; `options` are Inductor's."""

    def whole(*args: object, **kwargs: object) -> object:
        return function(*args, **kwargs)

    # A function of ours around one that may be decorated: torch puts code that all share around a function of its own,
    # and what `torch.no_grad()` returns is one.
    whole.__name__, whole.__qualname__ = function.__name__, function.__qualname__
    backend = backend or BACKEND
    return torch.compile(own_copy(whole), fullgraph=True, dynamic=False, backend=backend, options=options or None)


def compiled_with_autograd(function: Callable, **options: object) -> Callable:
    """`compiled`, of a function that calls `torch.autograd.grad`: forward and backward become one graph."""
    inner = compiled(function, **options)

    @functools.wraps(function)
    def outer(*args: object) -> object:
        with traced_autograd:  # it may be compiled at any call
            return inner(*args)

    return outer


def is_same_memory(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors that both are there are two names of one, as those before and after `x += 1` are."""
    return a.data_ptr() == b.data_ptr() and (a.shape, a.stride(), a.dtype) == (b.shape, b.stride(), b.dtype)


class Replay(NamedTuple):
    """A call of what the compiler made: its tensors, without those that are arguments; where which of these go; which of
    its results the function returns, if any.
    """

    made: Callable
    tensors: list[Tensor | None]
    places: list[tuple[int, int]]
    result: int | None

    def is_like(self, other: "Replay | None") -> bool:
        """Whether both call the same with the same."""
        if other is None or (self.made, self.places, self.result) != (other.made, other.places, other.result):
            return False
        return all(a is b or is_same_memory(a, b) for a, b in zip(self.tensors, other.tensors, strict=True))


class Replayed:
    """A compiled function of tensors that is called with what it had before, without being asked whether that still holds.

    torch.compile looks at each call whether everything is as it was when it compiled, and gathers what the function
    reads from its objects: a fifth of an SGD step of small networks. This does so only where `asks()`. What changes in
    between, other than numbers in tensors, is not seen, as in a CUDA graph. Where two such calls in a row had other
    tensors, or one leaves new ones behind, all calls are asked.
    """

    def __init__(self, function: Callable, asks: Callable[[], bool], compile_: Callable = compiled) -> None:
        self._compiled, self._asks = compile_(function, backend=self._backend), asks
        self._called: tuple[Callable, tuple[Tensor, ...], tuple[Tensor, ...]] | None = None
        self._last: Replay | None = None
        self._replay: Replay | None = None

    def _backend(self, graph: torch.fx.GraphModule, inputs: list[Tensor], **options: object) -> Callable:
        made = torch._dynamo.lookup_backend(BACKEND)(graph, inputs, **options)

        def call(*tensors: Tensor) -> tuple[Tensor, ...]:
            results = made(*tensors)
            self._called = made, tensors, results
            return results

        return call

    def __call__(self, *arguments: Tensor) -> Tensor | None:
        replay = self._replay
        if replay is None or self._asks():
            return self._ask(arguments)
        tensors = replay.tensors.copy()
        for place, argument in replay.places:
            tensors[place] = arguments[argument]
        results = replay.made(*tensors)
        return None if replay.result is None else results[replay.result]

    def _ask(self, arguments: tuple[Tensor, ...]) -> Tensor | None:
        """The function by torch.compile, and whether the next call can do without."""
        self._called = self._replay = None
        result = self._compiled(*arguments)
        if self._called is None:  # torch.compile has been told to do nothing
            return result
        made, tensors, results = self._called
        where = {id(argument): i for i, argument in enumerate(arguments)}
        places = [(i, where[id(tensor)]) for i, tensor in enumerate(tensors) if id(tensor) in where]
        returned = next((i for i, x in enumerate(results) if x is result), None)
        now = Replay(made, [None if id(tensor) in where else tensor for tensor in tensors], places, returned)
        if now.is_like(self._last) and (returned is None) == (result is None):
            kept = [tensor for tensor in now.tensors if tensor is not None]
            if all(x is result or any(is_same_memory(x, y) for y in kept) for x in results):
                self._replay = now
        self._last, self._called = now, None
        return result


def compile_parts(collector: Collector, learner: Learner, *, few_launches: bool) -> None:
    """Compiles, when they are first called, the functions between which physics and random numbers remain.

    With `few_launches` they are chosen for a device whose time is spent on launches, not on arithmetic.
    Evaluation stays as it is: it is rare, and compiling it takes as long as compiling training.
    """
    log.info("torch.compile: compiling what is not physics; about half a minute, less where it is cached")
    # What is concatenated is written by one kernel, not by one for each part, such as each layer's gradient.
    joining = {"force_pointwise_cat": True} if few_launches and hasattr(_inductor.config, "force_pointwise_cat") else {}
    env = collector.env
    if "step" in env.compilable:
        env.physics.step(env.num_substeps)  # at the first it chooses its threads
        blocks = Blocks(collector, steps_of_block(len(collector.rows), env.action_repeat))
        blocks.compute = Replayed(blocks.compute, asks=lambda: not collector.place.item())
        collector.policy_steps = blocks
    else:
        collector.act = compiled(collector.act, **joining)
        for name in (*env.compilable, *(env.compilable_on_gpu if few_launches else ())):
            setattr(env, name, compiled(getattr(env, name), **joining))
    if few_launches:
        collector.finish_unroll = compiled(collector.finish_unroll, **joining)
        learner.one_value_pass = True
        for module in learner.agent.modules():
            if isinstance(module, Dense):
                module.one_product = True

    def of_sgd_step(function: Callable, compile_: Callable = compiled) -> Callable:
        if few_launches:
            return compile_(function, **joining)
        return Replayed(function, asks=lambda: not learner.row.item(), compile_=compile_)

    if hasattr(torch._dynamo.config, "trace_autograd_ops"):
        # A fifth faster on the CPU than two graphs that autograd joins.
        learner.minibatch_gradient = of_sgd_step(learner.minibatch_gradient, compiled_with_autograd)
    else:
        learner.minibatch_loss = compiled(learner.minibatch_loss, **joining)
    learner.fused_adam = False
    learner.finish_sgd_step = of_sgd_step(learner.finish_sgd_step)


def record_graphs(
    collector: Collector,
    learner: Learner,
    evaluator: Evaluator | None,
    generators: dict[str, torch.Generator],
    device: torch.device,
) -> None:
    """Records an unroll, a pass of SGD steps and a piece of an evaluation as one CUDA graph each."""
    from torch_ppo.simulation.capture import capture_cuda  # Warp takes more than a second to import

    log.info("recording CUDA graphs of unrolls, SGD passes and evaluations: each runs some times first")

    def record(function: Callable[[], None], *, with_warp: bool) -> Callable[[], None]:
        return capture_cuda(function, device, generators.values(), with_warp=with_warp)

    if collector.env.recordable:
        collector.unroll = record(collector.unroll, with_warp=True)
    if learner.devices.alone:
        learner.sgd_pass = record(learner.sgd_pass, with_warp=False)
    else:
        try:
            learner.sgd_pass = record(learner.sgd_pass, with_warp=False)
        except RuntimeError as error:  # whether NCCL can be recorded depends on its version and the driver's
            log.warning("SGD steps are launched one by one, as their exchange cannot be recorded: %s", error)
    if evaluator is not None and evaluator.env.recordable:
        evaluator.advance = record(evaluator.advance, with_warp=True)
