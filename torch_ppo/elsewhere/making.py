"""The library call `torch_ppo.make_vec(...)`; gymnasium is imported when it is called."""

from typing import TYPE_CHECKING, Any, Unpack

from torch_ppo.elsewhere.settings import VectorSettings
from torch_ppo.errors import ConfigError, install
from torch_ppo.simulation.task import Task

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv


def make_vec(
    environment: Task | str,
    num_envs: int = 1,
    **settings: Unpack[VectorSettings],
) -> "VectorEnv[Any, Any, Any]":
    """`num_envs` episodes of a task as a `gymnasium.vector.VectorEnv`.

    environment:  a task, or the name of one
    tensors:      give tensors on the device where Gymnasium has arrays
    render_mode:  rgb_array lets `render` draw each env; by default it draws nothing
    width, height, camera, renderer:  of those pictures, as of `torch_ppo.render`: 320, 240, the model's own, "rays"
    settings:     all of `make_env`

    An episode that ends restarts in the same step (`AutoresetMode.SAME_STEP`). What was observed at its end is in
    `infos["final_obs"]`: with arrays one observation per ended env and None for others, with tensors of all envs;
    `infos["_final_obs"]` says which ended. Actions are meant for [-1, 1].

    Raises UserError for a value that cannot work.
    """
    try:
        from torch_ppo.elsewhere.gymnasium_envs import TaskVectorEnv
    except ModuleNotFoundError as error:
        if error.name != "gymnasium":
            raise
        raise ConfigError(f"make_vec needs the package gymnasium: {install('gym')}") from None
    return TaskVectorEnv(environment, num_envs, **settings)
