"""Fixtures of all tests."""

from collections.abc import Callable, Iterator

import mujoco
import pytest
import torch
from torch import Tensor

from torch_ppo.simulation.cores import available_cores


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Of `-n auto`: a core each, but each takes a GB of memory."""
    return min(available_cores(), 8)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests that need a CUDA device are skipped without."""
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Tensors here are tiny: a second thread only makes the first wait, and long where cores are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _differences(a: object, b: object, path: str = "") -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return [found for name in a for found in _differences(a[name], b[name], f"{path}/{name}")]
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
        return [found for i, pair in enumerate(zip(a, b, strict=True)) for found in _differences(*pair, f"{path}/{i}")]
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        same = a.dtype == b.dtype and torch.equal(a, b)
    else:
        same = type(a) is type(b) and a == b
    return [] if same else [path]


@pytest.fixture(scope="session")
def differences() -> Callable[[object, object], list[str]]:
    """A function that lists the paths at which two nests of dicts, lists, tensors and values are not bit for bit equal."""
    return _differences


@pytest.fixture(scope="session")
def suite():
    """dm_control's suite, made to load beside a MuJoCo that is newer than it.

    dm_control 1.0.50 lists arrays of mjModel that MuJoCo 4 no longer has, for indexing by name; none matters here.
    """
    from dm_control import suite
    from dm_control.mujoco.wrapper.mjbindings import sizes

    for struct, cls in (("mjmodel", mujoco.MjModel), ("mjdata", mujoco.MjData)):
        for field in list(sizes.array_sizes[struct]):
            if not hasattr(cls, field):
                del sizes.array_sizes[struct][field]
    return suite
