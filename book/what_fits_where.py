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
# Will a chapter run on your laptop, or on the machine that Colab lends you? This page says what each one takes:
# minutes, memory, and memory of a GPU where it uses one. A script ran the chapters and left files, and this page reads
# the files.
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
LAPTOP, T4 = 12 * GIB, 14 * GIB  # what a notebook can have of a laptop with 16 GB, and of a T4 with 16 GB

runs = [results.load(path.stem) for path in sorted(results.FOLDER.glob("chapters-*.json"))]


def fits(memory: float, gpu_memory: float) -> str:
    if gpu_memory == 0:
        return "CPU" if memory <= LAPTOP else "larger"
    return "T4-class" if gpu_memory <= T4 and memory <= LAPTOP else "larger"


def table(run: results.Result) -> HTML:
    took = {(one.group, one.name): one.median for one in run.series}
    rows = []
    for page in dict.fromkeys(one.group for one in run.series):
        minutes, memory, gpu_memory = (took[page, name] for name in ("time", "memory", "GPU memory"))
        on_gpu = f"{gpu_memory / GIB:.1f} GiB" if gpu_memory else "not used"
        title = run.settings["titles"][page]
        rows.append((title, f"{minutes:.1f}", f"{memory / GIB:.1f} GiB", on_gpu, fits(memory, gpu_memory)))
    machine = run.machine
    where = f"{run.settings['gpu'] or 'no GPU'}, {machine['threads']} of {machine['cores']} cores, {machine['cpu']}"
    mode = run.settings["mode"].capitalize()
    caption = f"{mode} mode, {run.text} text, {where}; commit {run.commit}, {run.date[:10]}"
    head = ["chapter", "minutes", "peak memory", "of the GPU", "fits"]
    return HTML(f"<p><b>{plots.escape(caption)}</b></p>{plots.table(head, rows).data}")


HTML("".join(table(run).data for run in runs))

# %% tags=["remove-cell"]
wanted = [("quick", "cpu", "the quick mode on a CPU"), ("full", "gpu", "the full mode on a GPU")]
done = {run.measurement for run in runs}
missing = [words for mode, kind, words in wanted if f"chapters-{mode}-{kind}" not in done]
chapter.number("missing", f"Not measured yet: {' and '.join(missing)}." if missing else "")
chapter.number("laptop", LAPTOP / GIB, ".0f")
chapter.number("t4", T4 / GIB, ".0f")

# %% [markdown]
# A chapter without a row has not been measured.
#
# ## How to read it
#
# **Minutes** are from the start of the notebook to its end, on the machine that stands above the table. **Peak memory**
# is the most that the notebook's process held at a time. **Of the GPU** is the most that PyTorch reserved there; a
# chapter that never touches a GPU says so, also when it runs beside one.
#
# **Fits** names the smallest of three classes of machine:
#
# - **CPU**: no GPU, and at most {glue:text}`laptop` GiB of memory. Laptops and Colab's free machines are of this kind.
# - **T4-class**: a GPU of which {glue:text}`t4` GiB are enough, a T4 among them.
# - **Larger**: anything beyond that.
#
# ## Measure it yourself
#
# ```sh
# make fits                             # all chapters, in quick mode
# make fits ONLY=dictionary/density     # one of them
# SAE_CORE_MODE=full make fits          # at full size
# ```
#
# On a machine with a GPU that PyTorch sees, the numbers go to a file of their own. {doc}`how_to_run` says how to run a
# chapter, and in which modes.
