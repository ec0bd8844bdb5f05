"""Play: a policy in its task, in a window or as a video.

    python -m torch_ppo.play walker_walk            # a policy that comes with the package
    python -m torch_ppo.play runs/cartpole-...
    python -m torch_ppo.play policy.pt --env cartpole --video cartpole.gif
    python -m torch_ppo.play --env walker_walk --policy random
    python -m torch_ppo.play --follow runs/cartpole-... --web

Where there is a display, MuJoCo's viewer shows one world in real time until it is closed. Where there is none, or with
`--video` or several `--worlds`, a file is written; its pictures need no OpenGL.
"""

import contextlib

from torch_ppo.command import print_notes, reader_may_leave
from torch_ppo.errors import ConfigError, user_errors
from torch_ppo.settings.command_line import read_command_line, refuse_idle
from torch_ppo.showing.video import check_video, default_video
from torch_ppo.simulation.opengl import has_display
from torch_ppo.watching.arguments import PlayArguments
from torch_ppo.watching.following import wait_for_first
from torch_ppo.watching.gymnasium_recording import policy_in_gymnasium, record_in_gymnasium
from torch_ppo.watching.player import find_played, make_player
from torch_ppo.watching.recording import record, record_case, record_following
from torch_ppo.watching.window import watch


def check_idle(arguments: PlayArguments, *, in_window: bool) -> None:
    """ConfigError for an argument that would have no effect."""
    if arguments.broken is not None:
        if arguments.run is not None:
            raise ConfigError(f"what is {arguments.run}? --broken {arguments.broken} is played alone")
        alone = "policy checkpoint follow web host port stochastic steps seconds seed physics view worlds"
        refuse_idle(arguments, alone, "with --broken, which shows steps that were kept")
    if arguments.env is not None:
        refuse_idle(arguments, "trust", "with --env, which names the task")
    if arguments.run is None:
        refuse_idle(arguments, "checkpoint trust", "without a run")
    elif not arguments.follow and find_played(arguments.run).is_file():
        refuse_idle(arguments, "checkpoint", f"of {arguments.run}, which is no run folder but one policy")
    if arguments.web:
        refuse_idle(arguments, "width height renderer", "with --web, where the browser draws")
    else:
        refuse_idle(arguments, "host port", "without --web")
    if in_window:
        refuse_idle(arguments, "width height renderer", "in a window; --video FILE would write a file")


def show(arguments: PlayArguments) -> None:
    """Does what is asked for; UserError where that cannot be done."""
    if arguments.view and arguments.web:
        raise ConfigError("--view is of a video, and --web shows it in a browser; give one of them")
    if arguments.video is not None:
        if arguments.web:
            raise ConfigError("--web shows it in a browser, --video writes a file; give one of them")
        check_video(arguments.video)
    to_file = arguments.video is not None or arguments.worlds != 1 or arguments.view or not has_display()
    check_idle(arguments, in_window=not (to_file or arguments.web or arguments.broken))
    if arguments.broken is not None:
        record_case(arguments)
        return
    elsewhere = policy_in_gymnasium(arguments)
    if elsewhere is not None:
        record_in_gymnasium(*elsewhere, arguments)
        return
    if arguments.web:
        from torch_ppo.watching.web import check_web, serve  # it needs the extra web

        check_web(arguments)
    # Ctrl-C is how one leaves what has no end of its own; a video that it cuts off is none.
    endless = arguments.web or arguments.follow or not to_file
    with contextlib.suppress(KeyboardInterrupt) if endless else contextlib.nullcontext():
        if arguments.follow and arguments.run is not None:
            wait_for_first(arguments.run)
        played = make_player(arguments)
        if arguments.web:
            serve(played, arguments)
        elif not to_file:
            watch(played, arguments)
        else:
            write = record_following if arguments.follow else record
            write(played, arguments, arguments.video or default_video(played.name.rpartition(":")[2]))


def main() -> None:
    """The program `python -m torch_ppo.play`."""
    print_notes()
    with reader_may_leave(), user_errors():
        show(read_command_line(PlayArguments, "play"))


if __name__ == "__main__":
    main()
