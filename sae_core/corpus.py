"""Text: where documents come from, and which of them are held out.

A corpus is an iterable of documents, each with the name of the slice it belongs to (`prose`, `arabic`, `code`, …).
Five sources stand behind the one interface:

======================  ==============================================================================================
``pocket``              assembled from files that the installed packages already brought (`sae_core.pocket`)
``installed-code``      source code among those files, more of it than in the pocket (`sae_core.installed_code`)
``mini-pile``           the folder named by ``$SAE_CORE_CORPUS``: xz-compressed JSON lines and a MANIFEST.json
a folder                one in the form of ``mini-pile`` if it holds a MANIFEST.json, otherwise its ``*.txt`` files
``hf:owner/dataset``    a Hugging Face dataset, streamed
======================  ==============================================================================================

Every document belongs to the training or the validation split by a hash of its text, so the split needs no list and
does not change when documents are added, reordered or sampled.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from .errors import SaeCoreError
from .files import cache_folder, write_atomically

VALIDATION_SHARE = 0.05
SPLITS = ("all", "train", "validation")


class Document(NamedTuple):
    text: str
    slice: str


def _uniform(text: str, salt: bytes) -> float:
    """A number in [0, 1) that depends on the text alone."""
    digest = hashlib.blake2b(text.encode(), digest_size=8, salt=salt).digest()
    return int.from_bytes(digest, "big") / 2**64


def is_validation(text: str) -> bool:
    """Whether a document is held out: 5 % of all texts, decided by the text's hash."""
    return _uniform(text, b"validation") < VALIDATION_SHARE


@dataclass(frozen=True)
class Corpus:
    """Documents of one source. `identity` changes whenever the text may have changed; caches use it as a key."""

    name: str
    description: str
    identity: str
    read: Callable[[], Iterator[Document]]
    manifest: Path | None = None  # the file that lists its sources and their licences, where there is one

    def documents(self, split: str = "all", weights: Mapping[str, float] | None = None) -> Iterator[Document]:
        """The documents of a split, in a fixed order.

        weights: the share of each slice's documents to keep, between 0 and 1; slices that are not named are left out.
            Which documents stay is decided by their hash, so a larger share contains the smaller one.
        """
        if split not in SPLITS:
            raise SaeCoreError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
        unused = set(weights or ())
        for document in self.read():
            unused.discard(document.slice)
            if split != "all" and is_validation(document.text) != (split == "validation"):
                continue
            if weights is None or _uniform(document.text, b"weights") < weights.get(document.slice, 0.0):
                yield document
        if unused:
            raise SaeCoreError(f"{self.name} has no slice {', '.join(sorted(unused))}: correct the mixture's weights")


def open_corpus(name: str = "") -> Corpus:
    """Open a source of text by name (see the top of this file). "" means mini-pile where it is there, else pocket.

    Raises SaeCoreError, at the latest when the documents are read, with the file and the line that cannot be used.
    """
    folder = os.environ.get("SAE_CORE_CORPUS", "")
    from . import installed_code

    name = str(name) or ("mini-pile" if folder else "pocket")
    if name == "pocket":
        return _pocket()
    if name == "installed-code":
        description = "source code that the installed Python packages brought along"
        return Corpus(name, description, installed_code.identity(), installed_code.documents)
    if name == "mini-pile":
        if not folder:
            raise SaeCoreError("mini-pile: set SAE_CORE_CORPUS to the folder with its MANIFEST.json, or use pocket")
        return _folder(Path(folder))
    if name.startswith("hf:"):
        return _hugging_face(name)
    if Path(name).is_dir():
        return _folder(Path(name))
    raise SaeCoreError(f"no corpus {name!r}: use pocket, installed-code, mini-pile, a folder, or hf:owner/dataset")


def full_name(name: str) -> str:
    """A source's name that means the same in every working directory: of a folder, its absolute path."""
    return str(Path(name).resolve()) if not name.startswith("hf:") and Path(name).is_dir() else name


# --- pocket ---------------------------------------------------------------------------------------------------------


def _pocket() -> Corpus:
    from . import pocket

    identity = pocket.identity()

    def read() -> Iterator[Document]:
        path = cache_folder() / f"pocket-{identity[:16]}.jsonl"
        if not path.exists():
            lines = (json.dumps(document._asdict(), ensure_ascii=False) + "\n" for document in pocket.documents())
            write_atomically(path, lambda file: file.writelines(line.encode() for line in lines))
        with path.open("rb") as file:
            yield from _parse_lines(file, path, slice_name=None)

    description = "the pocket text, assembled from files that the installed Python packages brought along"
    return Corpus("pocket", description, identity, read)


# --- folders --------------------------------------------------------------------------------------------------------


def _folder(folder: Path) -> Corpus:
    if not folder.is_dir():
        raise SaeCoreError(f"{folder}: no such folder of text")
    manifest = folder / "MANIFEST.json"
    if manifest.exists():
        return _manifest_folder(folder, manifest)
    if list(folder.glob("*.jsonl.xz")):
        raise SaeCoreError(f"{manifest}: missing; it must list the slices and files of this folder")
    return _text_folder(folder)


def _manifest_folder(folder: Path, manifest: Path) -> Corpus:
    try:
        slices = [(entry["slice"], folder / entry["file"]) for entry in json.loads(manifest.read_bytes())["slices"]]
    except (ValueError, KeyError, TypeError) as error:
        raise SaeCoreError(f"{manifest}: not a manifest with a list `slices` of slice and file ({error})") from None
    if not slices:
        raise SaeCoreError(f"{manifest}: lists no slices")
    for slice_name, path in slices:
        if not path.is_file():
            raise SaeCoreError(f"{path}: missing, though {manifest.name} lists it as slice {slice_name!r}")
    sizes = [path.stat().st_size for _, path in slices]
    identity = hashlib.sha256(manifest.read_bytes() + repr(sizes).encode()).hexdigest()

    def read() -> Iterator[Document]:
        for slice_name, path in slices:
            empty = True
            with lzma.open(path) as file:
                for document in _parse_lines(file, path, slice_name):
                    empty = False
                    yield document
            if empty:
                raise SaeCoreError(f"{path}: holds no document")

    # The folder's own name says nothing to a reader; the form of the folder does.
    description = f"mini-pile, an openly licensed stand-in for the Pile in {len(slices)} slices"
    return Corpus("mini-pile", description, identity, read, manifest)


def _parse_lines(file: Iterable[bytes], path: Path, slice_name: str | None) -> Iterator[Document]:
    """JSON lines with a `text`; the slice is the file's, or each line's own where slice_name is None."""
    number = 0
    try:
        for line in file:
            number += 1
            record = json.loads(line.decode())
            text = record["text"]
            if not isinstance(text, str):
                raise TypeError("`text` is not a string")
            text.encode()  # JSON can spell half of a surrogate pair, which is no text
            if text:
                yield Document(text, slice_name or record["slice"])
    except UnicodeError:
        raise SaeCoreError(f"{path}, line {number}: not UTF-8") from None
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise SaeCoreError(f"{path}, line {number}: not a JSON object with a `text` ({error})") from None
    except (lzma.LZMAError, EOFError) as error:
        raise SaeCoreError(f"{path}, after line {number}: damaged or truncated xz ({error}); copy it again") from None


def _text_folder(folder: Path) -> Corpus:
    paths = sorted(folder.rglob("*.txt"))
    if not paths:
        raise SaeCoreError(f"{folder}: holds neither a MANIFEST.json nor a *.txt file")
    stamps = [(str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]

    def read() -> Iterator[Document]:
        for path in paths:
            try:
                text = path.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                line = path.read_bytes()[: error.start].count(b"\n") + 1
                raise SaeCoreError(f"{path}, line {line}: not UTF-8; convert it or move it away") from None
            if not text.strip():
                raise SaeCoreError(f"{path}: empty; remove it, or put text into it")
            parent = path.relative_to(folder).parent
            yield Document(text, parent.parts[0] if parent.parts else folder.name)

    identity = hashlib.sha256(repr(stamps).encode()).hexdigest()
    return Corpus(folder.name, f"{len(paths)} text files of the folder {folder.name}", identity, read)


# --- Hugging Face ---------------------------------------------------------------------------------------------------


def _hugging_face(name: str) -> Corpus:
    path, _, config = name.removeprefix("hf:").partition("#")

    def read() -> Iterator[Document]:
        try:
            from datasets import load_dataset
        except ImportError:
            raise SaeCoreError('hf: needs the datasets library: pip install "sae-core[datasets]"') from None
        try:
            rows = load_dataset(path, config or None, split="train", streaming=True)
        except Exception as error:  # the library raises its own, the hub's and the network's exceptions
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise SaeCoreError(f"{name}: cannot be opened ({reason[0]})") from None
        for row in rows:
            if not isinstance(row.get("text"), str):
                raise SaeCoreError(f"{name}: its rows have no `text`, only {', '.join(row)}")
            if row["text"]:
                meta = row.get("meta")
                yield Document(row["text"], (meta or {}).get("pile_set_name", path) if isinstance(meta, dict) else path)

    identity = hashlib.sha256(name.encode()).hexdigest()
    return Corpus(name, f"the Hugging Face dataset {path}", identity, read)
