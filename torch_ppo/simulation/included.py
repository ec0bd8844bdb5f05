"""Assets of included MJCF files that MuJoCo does not find.

A model has one `meshdir` and one `texturedir`, the last that is read. So a robot of another folder that a scene includes
loses its meshes, unless the scene repeats where they are. Here a file that is not where MuJoCo would look is sought where
the MJCF that names it says.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import mujoco


class Folders(NamedTuple):
    """Where an MJCF file lies, and where it says that its meshes (height fields, skins) and textures are."""

    of_file: Path
    of_meshes: Path
    of_textures: Path


def find_assets(spec: mujoco.MjSpec, mjcf: Path) -> list[Path]:
    """Gives lost assets of `spec` their whole paths, in place, and returns these; what MuJoCo finds stays as it is.

    mjcf:  the file that `spec` was read from, a whole path
    """
    named = [*spec.meshes, *spec.textures, *spec.hfields, *spec.skins]
    lost = [asset for asset in named if asset.file and not _where_mujoco_looks(asset, spec, mjcf).is_file()]
    folders = list(_folders(mjcf)) if lost else []
    found = []
    for asset in lost:
        path = _seek(Path(asset.file), isinstance(asset, mujoco.MjsTexture), folders)
        if path is not None:
            asset.file = str(path)
            found.append(path)
    return found


def _where_mujoco_looks(asset: object, spec: mujoco.MjSpec, mjcf: Path) -> Path:
    folder = spec.texturedir if isinstance(asset, mujoco.MjsTexture) else spec.meshdir
    return mjcf.parent / folder / asset.file


def _seek(file: Path, is_texture: bool, folders: list[Folders]) -> Path | None:
    """The file, under the folder that one of the MJCFs gives; None if it is nowhere."""
    for folder in folders:
        # MuJoCo has put the included MJCF's own folder before what is written there.
        written = file.relative_to(folder.of_file) if file.is_relative_to(folder.of_file) else file
        path = (folder.of_textures if is_texture else folder.of_meshes) / written
        if path.is_file():
            return path.resolve()
    return None


def _folders(mjcf: Path) -> Iterator[Folders]:
    """Of an MJCF and all that it includes. A file that cannot be read is passed over: MuJoCo has more to say about it."""
    waiting, seen = [mjcf], set()
    while waiting:
        path = waiting.pop(0)
        if path in seen:
            continue
        seen.add(path)
        try:
            root = ElementTree.parse(path).getroot()
        except (OSError, ElementTree.ParseError):
            continue
        compiler: dict[str, str] = {}
        for element in root.iter("compiler"):
            compiler |= element.attrib
        both = compiler.get("assetdir", "")
        meshes, textures = (path.parent / compiler.get(name, both) for name in ("meshdir", "texturedir"))
        yield Folders(path.parent, meshes, textures)
        for element in root.iter("include"):
            name = element.get("file", "")
            # Of an include within an included file, relative to either.
            waiting += [Path(os.path.normpath(folder / name)) for folder in (path.parent, mjcf.parent)]
