"""Files that are written whole or not at all."""

import os
import tempfile
from pathlib import Path

from torch_ppo.errors import ConfigError


def write_atomically(path: Path, content: bytes) -> None:
    """Writes under a temporary name, syncs, then renames: a crash leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def check_folder(path: Path, setting: str) -> None:
    """ConfigError if a file is where the folder `path` of a setting, or one above it, should be."""
    for folder in (path, *path.parents):
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"{setting} {path}: {folder} is a file")
