"""What is said of exported files."""

import importlib
import zipfile
import zlib
from pathlib import Path
from types import ModuleType

from torch_ppo.command import called
from torch_ppo.errors import UserError, install


class ExportError(UserError):
    """A policy that cannot be exported or read as asked, or does not do what the live one does."""


def damaged(path: Path) -> ExportError:
    """What is raised for an exported policy that is not as it was written."""
    return ExportError(
        f"{path} is not a whole exported policy (cut off or damaged?); {called('export')} makes it again"
    )


def check_zip(path: Path) -> None:
    """ExportError if a part of a zip file is not as it was written, which torch does not look at."""
    try:
        with zipfile.ZipFile(path) as archive:
            whole = archive.testzip() is None
    except (
        OSError,
        ValueError,
        LookupError,
        RuntimeError,
        NotImplementedError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
    ):
        whole = False
    if not whole:
        raise damaged(path)


def optional_package(name: str, purpose: str, *, extra: str = "onnx") -> ModuleType:
    """An optional package; ExportError with the line that installs it, as one of our extras."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ExportError(f"{purpose} needs the package {error.name}: {install(extra)}") from None
    except ImportError as error:
        raise ExportError(
            f"{purpose} needs the package {name}, which is installed but cannot be imported: {error}; installing it again, "
            "or another version, may help"
        ) from None
