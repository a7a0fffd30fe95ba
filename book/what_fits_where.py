# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # What fits where
#
# Will a chapter run on your laptop, or on the machine that Colab lends you? This page says what each one takes: minutes
# and memory. No chapter uses a GPU. A script ran the chapters and left files, and this page reads the files.
#
# {glue:text}`missing`

# %% tags=["hide-input"]
import sys
from pathlib import Path

from IPython.display import HTML

import sae_core
from sae_core import chapter, plots

places = (Path.cwd(), *Path.cwd().parents, Path(sae_core.__file__).parents[1])
sys.path.append(str(next(place / "benchmarks" for place in places if (place / "benchmarks" / "results.py").is_file())))
import results  # benchmarks/results.py: reads a file and refuses one that lacks a field

GIB = 2**30
LAPTOP = 12 * GIB  # what a notebook can have of a laptop with 16 GB

runs = [results.load(path.stem) for path in sorted(results.FOLDER.glob("chapters-*-cpu.json"))]


def table(run: results.Result) -> HTML:
    took = {(one.group, one.name): one.median for one in run.series}
    rows = []
    for page in dict.fromkeys(one.group for one in run.series):
        minutes, memory = (took[page, name] for name in ("time", "memory"))
        fits = "a laptop" if memory <= LAPTOP else "a larger machine"
        rows.append((run.settings["titles"][page], f"{minutes:.1f}", f"{memory / GIB:.1f} GiB", fits))
    machine = run.machine
    where = f"{machine['threads']} of {machine['cores']} cores, {machine['cpu']}"
    mode = run.settings["mode"].capitalize()
    caption = f"{mode} mode, {run.text} text, {where}; commit {run.commit}, {run.date[:10]}"
    head = ["chapter", "minutes", "peak memory", "fits"]
    return HTML(f"<p><b>{plots.escape(caption)}</b></p>{plots.table(head, rows).data}")


HTML("".join(table(run).data for run in runs))

# %% tags=["remove-cell"]
done = {run.settings["mode"] for run in runs}
missing = [f"the {mode} mode" for mode in ("quick", "full") if mode not in done]
chapter.number("missing", f"Not measured yet: {' and '.join(missing)}." if missing else "")
chapter.number("laptop", LAPTOP / GIB, ".0f")

# %% [markdown]
# A chapter without a row has not been measured. Commit and date are those of the row that was measured last.
#
# ## How to read it
#
# **Minutes** are from the start of the notebook to its end, on the machine that stands above the table. **Peak memory**
# is the most that the notebook's process held at a time. What takes at most {glue:text}`laptop` GiB **fits** a laptop;
# Colab's free machines are of this kind.
#
# ## Measure it yourself
#
# ```sh
# make fits                             # all chapters, in quick mode
# make fits ONLY=dictionary/density     # one of them; the other rows stay
# SAE_CORE_MODE=full make fits          # at full size
# ```
#
# {doc}`how_to_run` says how to run a chapter, and in which modes.
