"""What every chapter of the book does the same way: choose sizes, put a number into prose, record a claim.

A chapter starts with ``from sae_core import chapter``. In the book's build a number or a claim leaves nothing
on the page but what the prose asks for; anywhere else (Colab, a laptop, a script) each prints one short line.
"""

from __future__ import annotations

import itertools
import json
import math
import numbers
import os
import platform
import re
import subprocess
from datetime import datetime, timezone
from functools import cache
from importlib import metadata
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

from .cards import processor
from .errors import SaeCoreError
from .files import cache_folder

T = TypeVar("T")

in_book = False  # True in the kernels of the book's build, where book/_tools/figures.py sets it
_numbers: dict[str, str] = {}  # those given to the prose so far
_claims_so_far = itertools.count()  # myst-nb wants every glued key of a page once


def mode() -> str:
    """"quick" (two CPU cores, about a minute a chapter; the default) or "full", from ``SAE_CORE_MODE``.

    Raises SaeCoreError for any other value.
    """
    mode = os.environ.get("SAE_CORE_MODE") or "quick"
    if mode not in ("quick", "full"):
        raise SaeCoreError(f"SAE_CORE_MODE is {mode!r}; set it to 'quick' or 'full', or unset it for 'quick'")
    return mode


def quick() -> bool:
    """True in the quick mode, see `mode`."""
    return mode() == "quick"


def size(*, quick: T, full: T) -> T:
    """The one of two values (numbers of steps, tokens, seeds, ...) that belongs to the mode."""
    return quick if mode() == "quick" else full


def number(name: str, value: Any, format: str = "") -> None:
    """Give ``value``, written with ``format`` ('.1%', ',', ...), to the prose as ``{glue:text}`name```.

    Raises SaeCoreError if the value is not finite or the format does not fit it.
    """
    if isinstance(value, numbers.Real):
        _finite(f"number {name!r}", value)
    try:
        written = f"{value:{format}}"
    except (TypeError, ValueError) as error:
        raise SaeCoreError(f"number {name!r}: {value!r} cannot be written as {format!r} ({error})") from None
    _numbers[name] = written
    if not _glue(name, written):
        print(f"{name}: {written}")


def provenance() -> None:
    """Give the prose `provenance`: text, mode, commit and hardware, which stands below the caption of each figure.

    The text is the chapter's number "text"; a chapter without one computes from formulas. The book calls this at the
    end of a chapter. A chapter whose figures come from elsewhere gives its own number "provenance" before that.
    """
    if "provenance" in _numbers:
        return
    text = f"{_numbers['text']} text" if "text" in _numbers else "no text"
    number("provenance", " · ".join([text, f"{mode()} mode", f"commit {_commit() or 'unknown'}", _hardware()]))


def claim(id: str, *, where: str, text: str, **measured: float) -> None:
    """Record in ``claims_folder()/<id>.json`` what a chapter measured for one row of claims.yml.

    id: the row, such as "A12".
    where: page and label of the figure that shows it, such as "dictionary/density#loss-recovered": the page's
        path below book/ without its suffix, and a MyST target ``(loss-recovered)=`` on it.
    text: the name of the text measured on ("pocket", "mini-pile"), or "synthetic" for data from a formula.
    measured: the numbers, under the names that the row's comments in claims.yml explain.

    Several calls for one id add up; a name that is recorded twice has the value written last. Numbers from
    different texts or modes are never put together: the table shows those of the latest call's text and mode.
    The file is replaced in one step; chapters run one after another.

    Raises SaeCoreError, and writes nothing, for a malformed id or place or a value that is no finite number.
    """
    if not re.fullmatch(r"[A-Z][1-9][0-9]*", id):
        raise SaeCoreError(f"claim {id!r} is not the id of a row; ids look like 'A12'")
    if not re.fullmatch(r"[\w/-]+#[\w-]+", where):
        raise SaeCoreError(f"claim {id}: where is {where!r}; give page#label, say 'dictionary/density#l0'")
    if not text:
        raise SaeCoreError(f"claim {id}: text is empty; name the text that it was measured on")
    if not measured:
        raise SaeCoreError(f"claim {id}: nothing measured; pass the numbers by name")
    values = {name: _finite(f"claim {id}: {name}", value) for name, value in measured.items()}
    record = {
        "id": id,
        "where": where,
        "measured": values,
        "text": text,
        "mode": mode(),
        "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        "commit": _commit(),
        "versions": _versions(),
    }
    _add(claims_folder() / f"{id}.json", record)
    # Glued, the record travels with the page's output: a page served from the cache brings its numbers along.
    if not _glue(f"claim:{next(_claims_so_far)}", json.dumps(record)):
        print(f"{id}: " + ", ".join(f"{name} {value:.4g}" for name, value in values.items()))


def claims_folder() -> Path:
    """Where records go: $SAE_CORE_CLAIMS, else _build/claims of the checkout we are in, else the cache."""
    if os.environ.get("SAE_CORE_CLAIMS"):
        return Path(os.environ["SAE_CORE_CLAIMS"])
    checkout = _checkout()
    if checkout:
        return checkout / "_build" / "claims"
    return cache_folder() / "claims"


def _add(file: Path, record: dict[str, Any]) -> None:
    """Put a record at the end of the file's list, together with what was recorded at the same place before."""
    place = itemgetter("where", "text", "mode")
    records = {place(r): r for r in json.loads(file.read_bytes())} if file.exists() else {}
    before = records.pop(place(record), {"measured": {}})
    records[place(record)] = {**record, "measured": {**before["measured"], **record["measured"]}}
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(list(records.values()), indent=1) + "\n", encoding="utf-8")
    os.replace(part, file)  # a reader sees the old file or the new one, never half of one


def _finite(what: str, value: Any) -> float | int:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise SaeCoreError(f"{what} is {value!r}, not a number; pass an int or a float (a tensor's .item())")
    if not math.isfinite(value):
        raise SaeCoreError(f"{what} is {value}; a measurement must be finite")
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def _glue(key: str, value: str) -> bool:
    """Glue a string into the cell's output; False outside the book's build."""
    if in_book:
        from myst_nb import glue

        glue(key, value, display=False)
    return in_book


def _checkout() -> Path | None:
    """The repository, if the working folder lies in it or the package is installed from it in place."""
    for folder in (Path.cwd(), *Path.cwd().parents, Path(__file__).resolve().parents[1]):
        if (folder / "claims.yml").is_file() and (folder / "sae_core").is_dir():
            return folder
    return None


@cache
def _commit() -> str | None:
    checkout = _checkout()
    if checkout is None:
        return None
    describe = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.check_output(describe, stderr=subprocess.DEVNULL, text=True, timeout=10).strip()
    except (OSError, subprocess.SubprocessError):
        return None  # no git, or not a clone: a record without a commit is still a record


def _hardware() -> str:
    """The processor, and the GPU if the chapter has used one."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    used = [torch.cuda.get_device_name()] if torch.cuda.is_initialized() else []
    return ", ".join([f"{cores} × {processor()}", *used])


@cache
def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("sae-core", "torch"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            pass  # used from its folder, without having been installed
    return versions
