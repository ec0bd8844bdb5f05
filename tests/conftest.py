"""Fixtures of all tests."""

import mujoco
import pytest


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
