"""A policy in a browser: viser serves the page, mjviser draws MuJoCo's models in it. Both are the extra `web`."""

import contextlib
import io
import math
import socket
import time
from collections import deque

import mujoco
import numpy as np
import torch

from torch_ppo.errors import ConfigError, install, is_installed
from torch_ppo.running.checkpoint import CheckpointError
from torch_ppo.running.saved_policy import SavedPolicy
from torch_ppo.showing.render import SHOWN_GROUPS, model_of_pictures, radius_of_moving, show_state
from torch_ppo.watching.arguments import PlayArguments
from torch_ppo.watching.following import Following, checkpoint_names
from torch_ppo.watching.player import Played, PlayError, play

FRAMES_PER_SECOND = 30
SPEEDS = (0.05, 2.0)  # slowest and fastest, in times real time
LOOK_EVERY = 2.0  # seconds, for the names of checkpoints
SAID = 4  # of the last episodes
NEWEST = "newest"  # what follows a run has as its choice of checkpoint


def check_web(arguments: PlayArguments) -> None:
    """UserError where the page cannot be served as asked, before anything is loaded."""
    for package in ("viser", "mjviser"):
        if not is_installed(package):
            raise PlayError(f"--web needs {package}, of the extra web: {install('web')}; --video play.gif would work")
    for option in ("steps", "seconds", "camera"):
        if getattr(arguments, option) is not None:
            raise ConfigError(f"--{option} has no effect with --web, which has controls of its own; leave it out")
    if not 1 <= arguments.port <= 65535:
        raise ConfigError(f"--port is {arguments.port}, but must be from 1 to 65535; 8080 would work")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(arguments.host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
    except (OSError, UnicodeError) as error:  # UnicodeError: of a name that cannot be one
        reason = getattr(error, "strerror", error)
        raise ConfigError(f"--host {arguments.host}: {reason}; 127.0.0.1 would work") from None


class Page:
    """The page of one task and policy. Callbacks of its controls come in threads, and only leave a wish.

    played:     what is shown
    following:  newer checkpoints, for a run that is being trained
    """

    def __init__(self, played: Played, arguments: PlayArguments) -> None:
        import viser
        from mjviser import ViserMujocoScene

        self.played, self.env = played, played.env
        self.folder = arguments.run if arguments.run is not None and arguments.run.is_dir() else None
        self.following = Following(self.folder, played.load) if arguments.follow else None
        self.model = model_of_pictures(self.env)
        self._data = mujoco.MjData(self.model)
        apart = 0.0 if self.model.nhfield else 2.5 * radius_of_moving(self.model)  # rough ground is one for all
        self._places = places(self.env.num_envs, apart)
        with contextlib.redirect_stdout(io.StringIO()):  # it prints where it is, as `serve` does
            self.server = viser.ViserServer(arguments.host, arguments.port, label=played.name, verbose=False)
        self.server.gui.configure_theme(show_logo=False, show_share_button=False, control_width="medium")
        self._said: deque[str] = deque(maxlen=SAID)
        self.paused, self.one_step, self.restart = False, False, False
        self.wanted: str | None = None  # a checkpoint
        self._looked = -math.inf
        self._add_controls()
        self.scene = ViserMujocoScene(self.server, self.model, num_envs=self.env.num_envs)
        self._repeat_what_is_fixed()
        distance = 3.2 * radius_of_moving(self.model) * (0.5 + 0.75 * math.sqrt(self.env.num_envs))
        self.scene.create_scene_gui(camera_distance=distance)

    def _repeat_what_is_fixed(self) -> None:
        """Gives every world what is fixed in the first, which mjviser draws once: rails and walls, not the ground."""
        from mjviser.conversions import group_geoms_by_visual_compat, is_fixed_body, merge_geoms

        model, data = self.model, self._data
        mujoco.mj_kinematics(model, data)
        types = mujoco.mjtGeom
        for body in range(model.nbody):
            if not is_fixed_body(model, body):
                continue
            geoms = range(model.body_geomadr[body], model.body_geomadr[body] + model.body_geomnum[body])
            drawn = [
                geom
                for geom in geoms
                if model.geom_type[geom] not in (types.mjGEOM_PLANE, types.mjGEOM_HFIELD)
                and model.geom_group[geom] in SHOWN_GROUPS
                and model.geom_rgba[geom, 3] > 0
            ]
            for number, alike in enumerate(group_geoms_by_visual_compat(model, drawn)):
                mesh = merge_geoms(model, alike)
                for world, place in enumerate(self._places[1:], start=1):
                    self.server.scene.add_mesh_trimesh(
                        f"/fixed_bodies/of_world_{world}/{body}_{number}",
                        mesh,
                        position=data.xpos[body] + place,
                        wxyz=data.xquat[body],
                        cast_shadow=False,
                    )

    def _add_controls(self) -> None:
        gui = self.server.gui
        self.status = gui.add_markdown("")
        self.pause_button = gui.add_button("Pause")
        step_button, restart_button = gui.add_button("One step"), gui.add_button("New episodes")
        self.speed = gui.add_slider("Speed", *SPEEDS, step=0.05, initial_value=1.0, hint="Times real time")

        @self.pause_button.on_click
        def _(event: object) -> None:
            self.set_paused(not self.paused)

        @step_button.on_click
        def _(event: object) -> None:
            self.set_paused(True)
            self.one_step = True

        @restart_button.on_click
        def _(event: object) -> None:
            self.restart = True

        self.checkpoint = None
        if self.folder is not None:
            choices = self.choices()
            now = NEWEST if self.following else self.played.policy.path.stem
            self.checkpoint = gui.add_dropdown("Checkpoint", choices, initial_value=now)

            @self.checkpoint.on_update
            def _(event: object) -> None:
                self.wanted = self.checkpoint.value

        self.by_hand, self.commands = None, []
        if self.env.task.commands:
            with gui.add_folder("Command"):
                self.by_hand = gui.add_checkbox("By hand", initial_value=False, hint="Else as in training")
                for name, low, high, unit in self.env.task.commands:
                    slider = gui.add_slider(f"{name} ({unit})", low, high, step=(high - low) / 40, initial_value=0.0)
                    self.commands.append(slider)

    def choices(self) -> list[str]:
        """Checkpoints to choose from."""
        return [NEWEST] * (self.following is not None) + checkpoint_names(self.folder)

    def set_paused(self, paused: bool) -> None:
        self.paused = paused
        self.pause_button.label = "Go on" if paused else "Pause"

    def say(self, text: str) -> None:
        """An episode that ended; on the page without why."""
        print(text, flush=True)
        self._said.append(text.partition(" (")[0])

    def draw(self) -> None:
        """All worlds as they are now."""
        shape = (self.env.num_envs, self.model.nbody)
        positions, rotations = np.empty((*shape, 3)), np.empty((*shape, 3, 3))
        mocap = np.empty((shape[0], self.model.nmocap, 3)), np.empty((shape[0], self.model.nmocap, 4))
        for world, place in enumerate(self._places):
            show_state(self.env, self.model, self._data, world)
            positions[world], rotations[world] = self._data.xpos + place, self._data.xmat.reshape(-1, 3, 3)
            mocap[0][world], mocap[1][world] = self._data.mocap_pos + place, self._data.mocap_quat
        self.scene.update_from_arrays(positions, rotations, *mocap)

    def show_status(self) -> None:
        """What is played, and how it went lately."""
        policy = self.played.policy
        steps = "" if policy is None or policy.env_steps is None else f" at {policy.env_steps:,} env steps"
        which = "" if policy is None else f"{policy.path.name}{steps}  \n"
        episodes = "  \n".join(self._said)
        self.status.content = f"**{self.played.name}**  \n{which}{self.env.physics.time[0].item():.2f} s\n\n{episodes}"

    def change_policy(self) -> bool:
        """Takes the checkpoint that was chosen, or a newer one that is followed; whether there was one."""
        now = time.monotonic()
        if self.checkpoint is not None and now - self._looked > LOOK_EVERY:
            self._looked, choices = now, self.choices()
            if list(self.checkpoint.options) != choices and self.checkpoint.value in choices:
                self.checkpoint.options = choices
        wanted, self.wanted = self.wanted, None
        try:
            policy = self._chosen(wanted)
            if policy is not None:
                self.played.take(policy)
        except (CheckpointError, PlayError) as error:  # it was removed, say
            self.say(str(error))
            return False
        if policy is not None and policy.env_steps is not None:
            self.say(f"checkpoint at {policy.env_steps:,} env steps")
        return policy is not None

    def _chosen(self, wanted: str | None) -> SavedPolicy | None:
        if wanted is not None:
            return self.played.load(self.folder, checkpoint="last" if wanted == NEWEST else wanted)
        if self.following is not None and self.checkpoint.value == NEWEST:
            return self.following.newer()
        return None

    def command(self) -> None:
        """Has the policy be told what the sliders say; in the first step of an episode it is what was drawn."""
        if self.by_hand is not None and self.by_hand.value:
            values = [slider.value for slider in self.commands]
            self.env.memory["command"][:] = torch.tensor(values)
            if "command_steps" in self.env.memory:
                self.env.memory["command_steps"].clamp_(min=2)

    def run(self) -> None:
        """Plays in real time, or slower, until the process is told to end."""
        seconds = self.env.task.control_dt * self.env.action_repeat
        steps = play(self.played, None, self.say)
        due = drawn = time.monotonic()
        while True:
            if self.change_policy() or self.restart:
                self.restart = False
                self.env.reset()
            now = time.monotonic()
            if self.one_step or not self.paused:
                self.one_step = False
                self.command()
                next(steps)
                due = max(due + seconds / self.speed.value, now - 0.2)  # after a pause, no rush to catch up
            else:
                due = now + 1 / FRAMES_PER_SECOND
            if now - drawn >= 1 / FRAMES_PER_SECOND or self.paused:
                drawn = now
                self.draw()
                self.show_status()
            time.sleep(max(0.0, due - time.monotonic()))


def places(count: int, apart: float) -> np.ndarray:
    """Where worlds stand, `(count, 3)` in m: in rows and columns, the first in their middle, where the camera looks."""
    side = math.ceil(math.sqrt(count))
    grid = np.stack([*np.divmod(np.arange(side * side), side), np.zeros(side * side)], axis=1)
    nearest = np.argsort(np.linalg.norm(grid - (side - 1) / 2 * np.array([1.0, 1.0, 0.0]), axis=1), kind="stable")
    return apart * (grid - grid[nearest[0]])[nearest[:count]]


def serve(played: Played, arguments: PlayArguments) -> None:
    """Serves the page and plays until the process is told to end."""
    page = Page(played, arguments)
    try:
        page.draw()
        shown = "127.0.0.1" if arguments.host in ("0.0.0.0", "::") else arguments.host
        print(f"http://{shown}:{page.server.get_port()}  (Ctrl-C ends)", flush=True)
        page.run()
    finally:
        page.server.stop()
