"""`make fits`: run the exported chapters, and write what each takes in minutes and memory.

Every chapter runs as its notebook, in a kernel of its own, in the mode of SAE_CORE_MODE. There is one file for each
mode, results/chapters-<mode>-cpu.json. After each chapter its rows are replaced there and the others kept, so that a
stop loses one chapter only. Date and commit of the file are those of the last chapter. Machine, text and versions are
the same for all: where they have changed, some chapters are refused, and all chapters begin the file anew. The book's
page *What fits where* shows the files.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import results
import torch
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell
from results import ROOT, Result, Series

from sae_core.cards import commit
from sae_core.chapter import mode
from sae_core.corpus import open_corpus
from sae_core.errors import SaeCoreError

sys.path.append(str(ROOT / "book" / "_tools"))
import labels  # noqa: E402
import notebooks  # noqa: E402

PROBE = """\
import json, resource, sys
unit = 1 if sys.platform == "darwin" else 1024
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit))
"""


def run(book: labels.Book, page: str) -> list[Series]:
    """Minutes and peak bytes of one chapter. Raises SaeCoreError where it fails."""
    notebook = notebooks.export(book, page)
    notebook.cells.append(new_code_cell(PROBE))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SAE_CORE_CLAIMS"] = folder  # what is measured here is no claim
        client = NotebookClient(notebook, timeout=None, kernel_name="python3", resources={"metadata": {"path": folder}})
        start = time.perf_counter()
        try:
            client.execute()
        except CellExecutionError as error:
            raise SaeCoreError(f"{page}: {str(error).strip().splitlines()[-1]}") from None
        minutes = (time.perf_counter() - start) / 60
    memory = json.loads(notebook.cells[-1].outputs[-1].text)
    found = [("time", "minutes", minutes), ("memory", "bytes", memory)]
    return [Series.of(page, name, unit, [value]) for name, unit, value in found]


def merged(old: list[Series], new: list[Series], pages: list[str]) -> list[Series]:
    """The rows of `old` with those of the pages in `new` replaced, in the book's order; pages it no longer has go."""
    measured = {one.group for one in new}
    rows = [one for one in old if one.group not in measured and one.group in pages] + new
    return sorted(rows, key=lambda one: pages.index(one.group))


def to_keep(result: Result, out: Path, only: list[str] | None) -> list[Series]:
    """The rows of the file that `result` goes to. Raises SaeCoreError where some new ones would not belong to them."""
    path = out / f"{result.measurement}.json"
    if not path.exists():
        return []
    there = results.load(result.measurement, out)
    differs = [name for name in ("machine", "text", "versions") if getattr(there, name) != getattr(result, name)]
    if not differs:
        return there.series
    if only:
        raise SaeCoreError(f"{path}: of other {' and '.join(differs)}; measure all chapters, or write elsewhere (OUT=)")
    return []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="PAGE", help="some chapters, such as dictionary/density")
    parser.add_argument("--out", type=Path, default=results.FOLDER, help="(default: benchmarks/results)")
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    try:
        measure(labels.load(), options.only, options.out)
    except (SaeCoreError, labels.ExportError) as error:
        print(f"fits: {error}", file=sys.stderr)
        return 2
    return 0


def measure(book: labels.Book, only: list[str] | None, out: Path) -> None:
    unknown = sorted(set(only or []) - {page.removeprefix("book/") for page in book.exported})
    if unknown:
        raise SaeCoreError(f"no chapter {unknown[0]!r}; there is {', '.join(book.exported)}")
    result = Result(
        measurement=f"chapters-{mode()}-cpu",
        quick=False,
        date=results.now(),
        commit=commit(),
        machine=results.machine(torch.get_num_threads()),
        versions={"python": sys.version.split()[0], "torch": metadata.version("torch")},
        text=open_corpus().name,
        settings={"mode": mode(), "titles": {page: book.titles[page] for page in book.exported}},
        series=[],
    )
    series = to_keep(result, out, only)
    for page in book.exported:
        if only and page.removeprefix("book/") not in only:
            continue
        new = run(book, page)
        minutes, memory = (one.values[0] for one in new)
        print(f"   {page:40} {minutes:6.1f} min {memory / 2**30:6.1f} GiB", flush=True)
        series = merged(series, new, book.exported)
        results.write(replace(result, date=results.now(), commit=commit(), series=series), out)


if __name__ == "__main__":
    sys.exit(main())
