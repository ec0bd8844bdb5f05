"""A program's module that is its library call as well: `torch_ppo.train(...)` beside `python -m torch_ppo.train`."""

import inspect
import sys
import types


class _CallableModule(types.ModuleType):
    """Calling the module calls the function in it that has the module's name."""

    @property
    def _call(self) -> types.FunctionType:
        return getattr(self, self.__spec__.name.rpartition(".")[2])

    def __call__(self, *args: object, **kwargs: object) -> object:
        return self._call(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._call)


def make_callable(name: str) -> None:
    """Makes the module `name`, the caller's `__name__`, that function too, whichever way it is imported."""
    sys.modules[name].__class__ = _CallableModule
