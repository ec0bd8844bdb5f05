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
from torch_ppo.settings.command_line import read_command_line
from torch_ppo.showing.video import check_video, default_video
from torch_ppo.simulation.opengl import has_display
from torch_ppo.watching.arguments import PlayArguments
from torch_ppo.watching.following import wait_for_first
from torch_ppo.watching.player import make_player
from torch_ppo.watching.recording import record, record_case, record_following
from torch_ppo.watching.window import watch


def show(arguments: PlayArguments) -> None:
    """Does what is asked for; UserError where that cannot be done."""
    if arguments.view and arguments.web:
        raise ConfigError("--view is of a video, and --web shows it in a browser; give one of them")
    if arguments.video is not None:
        if arguments.web:
            raise ConfigError("--web shows it in a browser, --video writes a file; give one of them")
        check_video(arguments.video)
    if arguments.broken is not None:
        record_case(arguments)
        return
    if arguments.web:
        from torch_ppo.watching.web import check_web, serve  # it needs the extra web

        check_web(arguments)
    if arguments.follow and arguments.run is not None:
        wait_for_first(arguments.run)
    played = make_player(arguments)
    if arguments.web:
        serve(played, arguments)
    elif arguments.video is None and arguments.worlds == 1 and not arguments.view and has_display():
        watch(played, arguments)
    else:
        to_file = record_following if arguments.follow else record
        to_file(played, arguments, arguments.video or default_video(played.name.rpartition(":")[2]))


def main() -> None:
    """The program `python -m torch_ppo.play`."""
    print_notes()
    with reader_may_leave(), user_errors(), contextlib.suppress(KeyboardInterrupt):
        show(read_command_line(PlayArguments, "play"))


if __name__ == "__main__":
    main()
