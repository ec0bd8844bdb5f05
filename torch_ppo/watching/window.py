"""A policy in MuJoCo's viewer."""

import time

from torch_ppo.showing.render import find_camera, model_of_pictures, show_state
from torch_ppo.watching.arguments import PlayArguments, num_steps
from torch_ppo.watching.following import Following
from torch_ppo.watching.player import Played, PlayError, play


def watch(played: Played, arguments: PlayArguments) -> None:
    """Plays in MuJoCo's viewer in real time, until the window is closed or the steps are done."""
    import mujoco.viewer

    env = played.env
    seconds = env.task.control_dt * env.action_repeat
    steps = num_steps(arguments, seconds)
    model = model_of_pictures(env)
    data = mujoco.MjData(model)
    show_state(env, model, data)
    if not mujoco.viewer.glfw.init():  # the viewer itself would wait for ever
        raise PlayError("no window can be opened here; --video play.gif would write a video")
    try:
        viewer = mujoco.viewer.launch_passive(model, data, show_left_ui=False, show_right_ui=False)
    except RuntimeError as error:  # on macOS, without mjpython
        raise PlayError(f"{error}; --video play.gif would write a video") from None
    with viewer:
        if arguments.camera is not None:
            viewer.cam.type = mujoco.mjtCamera.mjCAMERA_FIXED
            viewer.cam.fixedcamid = find_camera(model, arguments.camera)
        due = time.monotonic()
        following = Following(arguments.run, played.load) if arguments.follow else None
        for _ in play(played, steps):
            if not viewer.is_running():
                break
            if following is not None and (policy := following.newer()) is not None:
                print(f"checkpoint at {policy.env_steps:,} env steps", flush=True)
                played.take(policy)
                env.reset()
            with viewer.lock():
                show_state(env, model, data)
            viewer.sync()
            due = max(due + seconds, time.monotonic() - 1.0)  # after a pause, no rush to catch up
            time.sleep(max(0.0, due - time.monotonic()))
