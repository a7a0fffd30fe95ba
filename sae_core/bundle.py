"""The bundled weights: where they are, what there is, and proof that they are intact.

The folder is the name: `pretrained/A/` holds model A, `pretrained/A/1/` the dictionary A/1. `$SAE_CORE_HOME` names a
folder of one's own in the same form, which is searched first. `SHA256SUMS` at the root of such a folder lists its
files; what it lists is checked before it is opened.
"""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path

from .errors import SaeCoreError

PACKAGED = Path(__file__).parent / "pretrained"
CHECKSUMS = "SHA256SUMS"


def roots() -> list[Path]:
    """The folders that are searched for weights, in order."""
    own = os.environ.get("SAE_CORE_HOME")
    if own and not Path(own).is_dir():
        raise SaeCoreError(f"SAE_CORE_HOME = {own}: no such folder")
    return [Path(own), PACKAGED] if own else [PACKAGED]


def available(config_name: str) -> dict[str, Path]:
    """What is there, the folder of each by its name: models for "config.json", dictionaries for "cfg.json"."""
    found = {}
    for root in reversed(roots()):  # what is found first counts
        found |= {path.parent.relative_to(root).as_posix(): path.parent for path in root.rglob(config_name)}
    return dict(sorted(found.items()))


def find(name: str, config_name: str) -> Path:
    """The folder of a bundled name or the folder of that path, checked against its root's checksums.

    Raises SaeCoreError that lists what there is for an unknown name, or names the file that was changed.
    """
    for root in roots():
        if (root / name / config_name).is_file():
            _verify(root, name)
            return root / name
    if (Path(name) / config_name).is_file():
        return Path(name)
    kind = "dictionary" if config_name == "cfg.json" else "model"
    known = ", ".join(available(config_name)) or "none"
    raise SaeCoreError(f"no {kind} {name!r}: neither bundled (there is {known}) nor a folder with a {config_name}")


def _verify(root: Path, name: str) -> None:
    sums = root / CHECKSUMS
    if not sums.exists():
        return
    for line in sums.read_text().splitlines():
        digest, path = line.split(maxsplit=1)
        if Path(path).parent == Path(name) and sha256(root / path) != digest:
            raise SaeCoreError(f"{root / path}: its SHA-256 is not the one in {CHECKSUMS}; install the package again")


def sha256(path: Path) -> str:
    """SHA-256 of a file as hex digits; a file is read again only when its size or time has changed."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        raise SaeCoreError(f"{path}: missing, though {CHECKSUMS} lists it; install the package again") from None
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


@lru_cache
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    return read_sha256(path)


def read_sha256(path: Path) -> str:
    """SHA-256 of a file as hex digits, read in pieces: it may be large."""
    value, piece = hashlib.sha256(), bytearray(1 << 20)
    with path.open("rb", buffering=0) as file:
        while n_bytes := file.readinto(piece):
            value.update(memoryview(piece)[:n_bytes])
    return value.hexdigest()


def write_checksums(root: Path = PACKAGED) -> None:
    """Record the SHA-256 of every weight, configuration and tokeniser file in the folders under `root`."""
    files = sorted(path for pattern in ("*.safetensors", "*.json") for path in root.glob(f"*/**/{pattern}"))
    lines = [f"{sha256(path)}  {path.relative_to(root).as_posix()}\n" for path in files]
    (root / CHECKSUMS).write_text("".join(lines))


def download(repository: str) -> Path:
    """Fetch a Hugging Face repository's safetensors and JSON files (nothing that could execute) into its cache."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise SaeCoreError('hf: needs the huggingface_hub library: pip install "sae-core[text]"') from None
    try:
        return Path(snapshot_download(repository, allow_patterns=["*.json", "*.safetensors"]))
    except Exception as error:  # the library raises its own and the network's exceptions
        raise SaeCoreError(f"hf:{repository}: cannot be fetched ({str(error).strip().splitlines()[0]})") from None
