"""Letting torch.compile take `torch.autograd.grad` into a graph, for as long as a training needs it."""

import contextvars
import threading

import torch


class _OfAllThreads:
    """A setting that is one for all threads: how many are inside, and what it was before the first."""

    lock, inside, before = threading.Lock(), 0, False


class _TracedAutograd(threading.local):
    """Inside, torch.compile takes `torch.autograd.grad` into a graph.

    torch's settings are each thread's own, as context variables. In 2.11 they are one for all: the last to leave puts it
    back, or another training that is compiling could no longer.
    """

    def __init__(self) -> None:
        self._inside, self._before, self._own = 0, False, True

    def __enter__(self) -> None:
        config, everyone = torch._dynamo.config, _OfAllThreads
        if not self._inside:
            with everyone.lock:
                self._before = config.trace_autograd_ops
                config.trace_autograd_ops = True
                self._own = not contextvars.Context().run(lambda: config.trace_autograd_ops)
                if not self._own:
                    everyone.before = everyone.before if everyone.inside else self._before
                    everyone.inside += 1
        self._inside += 1

    def __exit__(self, *error: object) -> None:
        config, everyone = torch._dynamo.config, _OfAllThreads
        self._inside -= 1
        if self._inside:
            return
        with everyone.lock:
            if self._own:
                config.trace_autograd_ops = self._before
                return
            everyone.inside -= 1
            if not everyone.inside:
                config.trace_autograd_ops = everyone.before


traced_autograd = _TracedAutograd()
