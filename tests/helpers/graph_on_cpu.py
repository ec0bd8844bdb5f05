"""A CUDA graph, played on the CPU: what torch does in a function is written down, with its tensors, and done again.

As with the real one, a replay knows nothing of Python: it repeats the operations, with the numbers that they had, on the
memory that they had. What a real capture refuses is refused: reading a number on the host, sizes that depend on numbers,
tensors made from Python numbers. Physics steps are single operations here.

`TrainingState` makes such graphs where it would make CUDA graphs, within `graphs_on_cpu`.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from torch_ppo.running import training_state
from torch_ppo.simulation import capture
from torch_ppo.simulation.host import as_on_cuda
from torch_ppo.simulation.warp_engine import WarpPhysics

aten = torch.ops.aten
# Makes a tensor of numbers that Python has: on a device a copy from the host, of memory that is gone at a replay.
FROM_HOST = {aten.lift_fresh.default, aten.lift_fresh_copy.default}
INDEXING = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default}


class NotRecordable(RuntimeError):
    """A function does what no CUDA graph can hold."""


class Recorder(TorchDispatchMode):
    """Writes down torch's operations, in order, as functions without arguments that do them again."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Callable[[], None]] = []
        self._within_physics = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if self._within_physics:
            return func(*args, **kwargs)
        refuse_what_reads(func, args)
        made = func(*args, **kwargs)
        schema = func._schema
        if schema.is_mutable:
            self.steps.append(lambda: func(*args, **kwargs))
        elif not any(result.alias_info for result in schema.returns):  # a view stays what it is
            self.steps.append(lambda: put(made, func(*args, **kwargs)))
        return made

    def physics(self, work: Callable[[], None]) -> None:
        """Does `work` as one operation."""
        self._within_physics = True
        try:
            work()
        finally:
            self._within_physics = False
        self.steps.append(work)


def refuse_what_reads(func: torch._ops.OpOverload, args: tuple) -> None:
    if func in INDEXING:
        if any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]):
            raise NotRecordable(f"{func} by a mask reads from the device how many there are")
    elif torch.Tag.data_dependent_output in func.tags or torch.Tag.dynamic_output_shape in func.tags:
        raise NotRecordable(f"{func} reads from the device")
    if func in FROM_HOST:
        raise NotRecordable(f"{func} copies from the host")


def put(made: object, again: object) -> None:
    """The new results of an operation into the memory of the recorded ones."""
    for old, new in zip(tree_leaves(made), tree_leaves(again), strict=True):
        if isinstance(old, Tensor) and old.numel():
            old.detach().copy_(new.detach())


def record_on_cpu(
    function: Callable[[], None], device: torch.device, generators: Iterable[torch.Generator], *, with_warp: bool
) -> Callable[[], None]:
    """Stands in for `capture.capture_cuda`."""
    recorder = Recorder()

    def as_one(method: Callable[..., None]) -> Callable[..., None]:
        def inner(self: WarpPhysics, *args: int) -> None:
            assert with_warp, "Warp was not told of the capture"
            recorder.physics(lambda: method(self, *args))

        return inner

    with capture.recording(), as_on_cuda():
        function()
        with (
            mock.patch.object(WarpPhysics, "step", as_one(WarpPhysics.step)),
            mock.patch.object(WarpPhysics, "forward", as_one(WarpPhysics.forward)),
            mock.patch.object(WarpPhysics, "render", as_one(WarpPhysics.render)),
            mock.patch.object(WarpPhysics, "compute_constants", as_one(WarpPhysics.compute_constants)),
            recorder,
        ):
            function()

    def replay() -> None:
        with torch.no_grad():
            for step in recorder.steps:
                step()

    replay.num_steps = len(recorder.steps)
    return replay


@contextlib.contextmanager
def graphs_on_cpu() -> Iterator[None]:
    """Inside, `capture = "physics"` of a `TrainingState` on the CPU is "unroll", with graphs of this kind."""
    resolve = training_state.resolve_config

    def resolved(config, task):
        return dataclasses.replace(resolve(config, task), capture="unroll")

    with (
        mock.patch.object(training_state, "resolve_config", resolved),
        mock.patch.object(capture, "capture_cuda", record_on_cpu),
    ):
        yield


class Trace(TorchDispatchMode):
    """Writes down every operation, its numbers, and the addresses of the tensors that are not made meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[tuple] = []
        self._made: dict[int, Tensor] = {}  # kept, so that no other gets its address

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = tree_leaves((args, kwargs))
        self.entries.append((str(func), *(entry for x in given if (entry := self._entry(x)) is not None)))
        made = func(*args, **(kwargs or {}))
        known = {x.untyped_storage()._cdata for x in given if isinstance(x, Tensor)}
        for x in tree_leaves(made):
            if isinstance(x, Tensor) and x.untyped_storage()._cdata not in known:
                self._made[x.untyped_storage()._cdata] = x
        return made

    def _entry(self, x: object) -> object:
        if isinstance(x, Tensor):
            storage = x.untyped_storage()
            address = "new" if storage._cdata in self._made else storage.data_ptr()
            return (address, tuple(x.shape), x.stride(), x.storage_offset(), x.dtype)
        return x if isinstance(x, (bool, int, float, str, torch.dtype, torch.device)) else None


def trace(function: Callable[[], None]) -> list[tuple]:
    """What a CUDA graph of `function` would freeze: operations, numbers and addresses."""
    with capture.recording(), as_on_cuda(), Trace() as found:
        function()
    return found.entries
