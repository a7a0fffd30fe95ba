"""Activations on disk: harvested once, then read by every run of a sweep and by every machine of a cluster.

A cache is a folder of shards and a `manifest.json`. The shards, `activations-00000.safetensors` and so on, hold one
tensor each, `activations` [rows, d_in] in bf16: the chunks of a `HarvestedChunks`, in their order. That is all that the
buffer keeps of an activation, so training from the cache gives the same weights as training from the model, bit for
bit. The manifest says what the activations are of, and holds the SHA-256 of every shard.

The folder may be copied to shared or object storage and be read there: `s3://bucket/folder`, or whatever else fsspec
opens.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from .activations import Chunks, check_finite
from .bundle import read_sha256
from .checkpoint import only_process
from .errors import SaeCoreError
from .files import cache_folder, write_atomically, write_text_atomically

FORMAT = "sae_core activations, version 1"
SHARD_BYTES = 1 << 28  # about: a shard holds whole chunks


def write_activations(
    chunks: Chunks,
    folder: Path,
    source: Mapping[str, Any],
    n_chunks: int | None = None,
    about: Mapping[str, Any] | None = None,
    command: str = "write_activations with the same arguments",
) -> None:
    """Write the first n_chunks chunks, by default all, to a folder. Called again it continues where it was stopped.

    Shards that are there and intact are left alone; those that are missing or damaged are written, each under another
    name first, so nothing is lost when the disk is full or the process is killed.

    source: what the activations depend on, `HarvestedChunks.source` for example; a cache holds those of one source.
    about: anything else that readers should know, as JSON has it. command: what writes the cache, for error messages.
    Raises SaeCoreError for a folder with another source, a value that is not a number, or a full disk.
    """
    from tqdm.auto import tqdm

    n_chunks = len(chunks) if n_chunks is None else n_chunks
    if not 0 < n_chunks <= len(chunks):
        there = f"the text has {len(chunks) * chunks.rows:,} activations"
        raise SaeCoreError(f"{folder}: {n_chunks * chunks.rows:,} activations were asked for, {there}: use more text")
    first = chunks[0]
    layout = {"format": FORMAT, "dtype": "bfloat16", "d_in": first.shape[1], "rows_per_chunk": chunks.rows}
    with only_process(folder), tqdm(total=n_chunks * chunks.rows, desc="harvest", unit=" activations") as bar:
        manifest = _manifest_to_continue(folder, layout, dict(source))
        per_shard = manifest.setdefault("chunks_per_shard", max(1, SHARD_BYTES // (2 * first.numel())))
        manifest |= {"chunks": n_chunks, "about": dict(about or {}), "command": command}
        for number, start in enumerate(range(0, n_chunks, per_shard)):
            indices = range(start, min(start + per_shard, n_chunks))
            path = folder / _shard_name(number)
            entry = manifest["shards"].get(path.name)
            if entry is None or entry["chunks"] < len(indices) or _sha256(path) != entry["sha256"]:
                data = save({"activations": _rows(chunks, indices)})
                write_atomically(path, lambda file, data=data: file.write(data))
                manifest["shards"][path.name] = {"chunks": len(indices), "sha256": hashlib.sha256(data).hexdigest()}
                write_text_atomically(folder / "manifest.json", json.dumps(manifest, indent=1) + "\n")
            bar.update(len(indices) * chunks.rows)
        write_text_atomically(folder / "manifest.json", json.dumps(manifest, indent=1) + "\n")


def _manifest_to_continue(folder: Path, layout: dict[str, Any], source: dict[str, Any]) -> dict[str, Any]:
    """The manifest of the folder, or a new one. Raises SaeCoreError where other activations are there."""
    new = {**layout, "source": source, "shards": {}}
    path = folder / "manifest.json"
    if not path.exists():
        return new
    manifest = _parse(path.read_bytes(), str(path))
    for there, here in ((manifest, layout), (manifest["source"], source)):
        for key, value in here.items():
            if there.get(key) != value:
                difference = f"another {key}, {there.get(key)!r}, now {value!r}"
                raise SaeCoreError(f"{folder}: holds activations of {difference}; use another folder")
    return manifest


def _rows(chunks: Chunks, indices: range) -> Tensor:
    """The chunks of those numbers, one after the other: [rows, d_in] in bf16, in memory once."""
    rows = None
    for position, index in enumerate(indices):
        chunk = chunks[index]
        check_finite(chunk, index)
        if rows is None:
            rows = torch.empty(len(indices) * len(chunk), chunk.shape[1], dtype=torch.bfloat16)
        rows[position * len(chunk) : (position + 1) * len(chunk)] = chunk
    return rows


def _shard_name(number: int) -> str:
    return f"activations-{number:05d}.safetensors"


def _sha256(path: Path) -> str | None:
    """Of a file, as hex digits. None where there is no file."""
    return read_sha256(path) if path.exists() else None


def _parse(manifest: bytes, name: str) -> dict[str, Any]:
    try:
        values = json.loads(manifest)
        if values["format"] != FORMAT:
            raise SaeCoreError(f"{name}: written in the form {values['format']!r}, not {FORMAT!r}")
        return values
    except (ValueError, KeyError, TypeError) as error:
        raise SaeCoreError(f"{name}: not the manifest of an activation cache ({error})") from None


class CachedChunks:
    """The chunks of a cache, in place of `HarvestedChunks`.

    One shard at a time is memory-mapped, so memory does not grow with the cache; each is checked against its SHA-256
    when it is first opened. From a URL, a shard is first fetched into the cache folder (`files.cache_folder`), where
    it stays for the runs that follow.
    """

    def __init__(self, folder: str | Path, device: str | torch.device = "cpu"):
        """folder: or URL. Raises SaeCoreError where there is no complete cache."""
        self.folder, self.device = str(folder), device
        self.remote = "://" in self.folder
        self.local = Path(folder)
        try:
            if self.remote:
                self.local = cache_folder() / f"activations-{hashlib.sha256(self.folder.encode()).hexdigest()[:16]}"
                self._fetch("manifest.json")
            manifest = (self.local / "manifest.json").read_bytes()
        except FileNotFoundError:
            raise SaeCoreError(f"{folder}: no activation cache, for it has no manifest.json") from None
        self.manifest = _parse(manifest, f"{folder}/manifest.json")
        self.rows: int = self.manifest["rows_per_chunk"]
        self.checked: set[int] = set()  # numbers of shards
        self.mapped: tuple[int, Any] = (-1, None)  # number of a shard, and its rows
        per_shard = self.manifest["chunks_per_shard"]
        for number, start in enumerate(range(0, len(self), per_shard)):
            entry = self.manifest["shards"].get(_shard_name(number), {"chunks": 0})
            there = self.remote or (self.local / _shard_name(number)).exists()
            if not there or entry["chunks"] < min(per_shard, len(self) - start):
                raise self._unusable(number, "missing")

    @property
    def source(self) -> dict[str, Any]:
        """What the activations depend on, as it was given to `write_activations`."""
        return self.manifest["source"]

    @property
    def about(self) -> dict[str, Any]:
        """What else was said about them."""
        return self.manifest["about"]

    def __len__(self) -> int:
        return self.manifest["chunks"]

    def __getitem__(self, index: int) -> Tensor:
        if not 0 <= index < len(self):
            raise IndexError(f"chunk {index} of {len(self)}")
        number, position = divmod(index, self.manifest["chunks_per_shard"])
        if self.mapped[0] != number:
            self.mapped = number, self._map(number)
        return self.mapped[1][position * self.rows : (position + 1) * self.rows].to(self.device)

    def _map(self, number: int) -> Any:
        """The rows of a shard, to be sliced; the file is mapped as long as they, or a slice, are in use."""
        path = self.local / _shard_name(number)
        expected = self.manifest["shards"][path.name]["sha256"]
        if number not in self.checked:
            found = _sha256(path)
            if self.remote and found != expected:
                with suppress(FileNotFoundError):
                    self._fetch(path.name)
                found = _sha256(path)
            if not self.remote and found != expected:  # a cache that grows has its last shard written again
                newer = _parse((self.local / "manifest.json").read_bytes(), f"{self.folder}/manifest.json")
                expected = newer["shards"][path.name]["sha256"]
            if found != expected:
                raise self._unusable(number, "damaged: its SHA-256 is not the manifest's" if found else "missing")
            self.checked.add(number)
        return safe_open(path, framework="pt").get_slice("activations")

    def _fetch(self, name: str) -> None:
        """Copy a file of a remote cache to the local folder."""
        try:
            import fsspec

            with fsspec.open(f"{self.folder}/{name}", "rb") as file:
                write_atomically(self.local / name, lambda copy: shutil.copyfileobj(file, copy, 1 << 22))
        except (FileNotFoundError, SaeCoreError):
            raise
        except ImportError as error:  # of fsspec, or of what it needs for this kind of storage
            raise SaeCoreError(f"{self.folder}: {error}: pip install fsspec, for s3:// s3fs, for gs:// gcsfs") from None
        except Exception as error:  # every kind of storage raises its own
            raise SaeCoreError(f"{self.folder}/{name}: cannot be fetched ({error})") from None

    def _unusable(self, number: int, how: str) -> SaeCoreError:
        return SaeCoreError(
            f"{self.folder}: shard {_shard_name(number)} is {how}; what writes it again: {self.manifest['command']}"
        )
