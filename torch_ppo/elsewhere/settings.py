"""The settings of envs for other trainers, in one place: those of episodes, of pictures, and of what is given."""

from typing import Any, TypedDict

from torch_ppo.running.acting import EnvSettings


class PictureSettings(TypedDict, total=False):
    """What `render` draws; `make_vec` says what each is."""

    render_mode: str | None
    width: int
    height: int
    camera: str | None
    renderer: str


class SingleSettings(EnvSettings, PictureSettings, total=False):
    """Of one env: those of `make_env`, and of pictures."""


class VectorSettings(SingleSettings, total=False):
    """Of many: also whether tensors are given."""

    tensors: bool


def divided(settings: SingleSettings) -> tuple[PictureSettings, dict[str, Any]]:
    """The settings of pictures, and all others."""
    pictures = {name: value for name, value in settings.items() if name in PictureSettings.__annotations__}
    return pictures, {name: value for name, value in settings.items() if name not in pictures}
