"""Files that survive an interruption, and the folder for what can be made again."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError

from .errors import SaeCoreError


def cache_folder() -> Path:
    """Where assembled text, tokens and evidence are kept: ``$SAE_CORE_CACHE``, by default ``~/.cache/sae_core``."""
    folder = Path(os.environ.get("SAE_CORE_CACHE") or Path.home() / ".cache" / "sae_core")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_atomically(path: Path, write: Callable) -> None:
    """Call write(file) on a temporary neighbour of `path` and rename it, so that a reader never sees half a file.

    It is on the disk before it gets its name, with the mode of any new file, also where `write` puts another file in
    the place of `file`, as safetensors does with file.name.
    Raises SaeCoreError where the disk does not take the file, with what was there before untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            write(file)
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)  # what the umask allows
        temporary.chmod(mode)  # safetensors' file is for its owner alone
        with temporary.open("r+b") as file:  # by its name: it may be another file than the one above
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise SaeCoreError(f"{path}: cannot be written ({error})") from None
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_text_atomically(path: Path, text: str) -> None:
    """`write_atomically` for a text."""
    write_atomically(path, lambda file: file.write(text.encode()))
