# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Benchmarks
#
# How fast is `sae_core`, and what do you lose for it? This page puts it beside three libraries that you might use
# instead: SAELens, dictionary_learning and sparsify. No number here is typed. A script measured all of them and left
# files, and this page reads the files.
#
# {glue:text}`smoke`

# %% tags=["hide-input"]
import sys
from pathlib import Path

import plotly.graph_objects as go
from IPython.display import HTML

import sae_core
from sae_core import chapter, plots

places = (Path.cwd(), *Path.cwd().parents, Path(sae_core.__file__).parents[1])
sys.path.append(str(next(place / "benchmarks" for place in places if (place / "benchmarks" / "results.py").is_file())))
import results  # benchmarks/results.py: reads a file and refuses one that lacks a field

found = {name: results.load(name) for name in ("step", "end_to_end", "harvest", "memory", "quality")}
step, quality = found["step"], found["quality"]


FEW = 3  # rounds; no more than these are all shown


def spread(one: results.Ratio | results.Series, format: str = ".3g") -> str:
    """Median and quartiles over the rounds; few rounds one by one."""
    if len(one.values) <= FEW:
        return ", ".join(f"{value:{format}}" for value in one.values)
    low, high = one.quartiles
    return f"{one.median:{format}} ({low:{format}} to {high:{format}})"


floors = {one.name: one.median for one in step.series if one.name.startswith("floor")}
no_bf16 = floors["floor bf16"] < floors["floor fp32"]  # then ours stays in fp32, whatever it was asked for


def instead(result: results.Result, ratio: results.Ratio) -> bool:
    """Whether a row for bf16 holds fp32 once more."""
    return no_bf16 and result is step and ratio.name.startswith("sae_core bf16")


def shown(result: results.Result) -> list[results.Ratio]:
    """The ratios that mean something: not fp32 against the floor of the slower bf16."""
    return [one for one in result.ratios if not (instead(result, one) and one.name.endswith("floor bf16"))]


def verdict(ratio: results.Ratio) -> str:
    """Whether a target is met; with a word on it where the rounds disagree."""
    if ratio.met is None:
        return ""
    word = "met" if ratio.met else "missed"
    if len({value >= ratio.target for value in ratio.values}) == 1:
        return word
    return f"{word} by the median" if len(ratio.values) > FEW else "undecided"


def target(ratio: results.Ratio) -> str:
    return "" if ratio.target is None else f"{'at least' if ratio.at_least else 'at most'} {ratio.target:g}"


def where(result: results.Result) -> str:
    """The machine and the time of a measurement, which stand above its table."""
    machine = result.machine
    threads = "1 thread" if machine["threads"] == 1 else f"{machine['threads']} threads"
    return (
        f"{machine['cpu']}, {threads} on {machine['cores']} cores, {machine['memory_gb']:.0f} GB; {result.text} text; "
        f"{result.date[:10]}, commit {result.commit}"
    )


def misses(result: results.Result) -> str:
    """A sentence for each target that is missed."""
    missed = [one for one in shown(result) if verdict(one).startswith("missed") and not instead(result, one)]
    return " ".join(
        f"Missed: {one.group}, {one.name}, is {spread(one)}, where {target(one)} was asked for." for one in missed
    )


def ratio_table(result: results.Result) -> HTML:
    rows = []
    for one in shown(result):
        word = verdict(one) + (", in fp32" if one.target is not None and instead(result, one) else "")
        rows.append((one.group, one.name, spread(one), target(one), word))
    table = plots.table(["case", "ratio", "measured", "target", ""], rows)
    below = f"<p>{plots.escape(missed)}</p>" if (missed := misses(result)) else ""
    return HTML(f"<p>{plots.escape(where(result))}</p>{table.data}{below}")


def apart(result: results.Result, unit: str) -> float | None:
    """The largest ratio of two equal runs, in that unit; None where each ran once."""
    repeated = [one.values for one in result.series if one.unit == unit and len(one.values) > 1]
    return max((max(values) / min(values) for values in repeated), default=None)


# Quality has no threshold that was set beforehand.
judged = [
    verdict(one)
    for name, result in found.items()
    for one in result.ratios
    if name != "quality" and one.target is not None and not instead(result, one)
]
smoke = [name for name, result in found.items() if result.quick]
chapter.number("targets", len(judged))
chapter.number("met", sum(one.startswith("met") for one in judged))
missed, undecided = sum(one.startswith("missed") for one in judged), judged.count("undecided")
chapter.number("missed", f", {missed} missed" if missed else "")
whose = "its" if undecided == 1 else "their"
chapter.number("undecided", f", {undecided} undecided, as {whose} rounds disagree" if undecided else "")
chapter.number("text", step.text)
commits = ", ".join(dict.fromkeys(result.commit for result in found.values()))
processors = " and ".join(dict.fromkeys(f"{one.machine['cores']} × {one.machine['cpu']}" for one in found.values()))
chapter.number("provenance", f"{step.text} text · commits {commits} · {processors}")
kinds = sorted({result.machine["cpu"] for result in found.values()})
chapter.number(
    "kinds",
    f"There are {len(kinds)} kinds of processor among them, {' and '.join(kinds)}."
    if len(kinds) > 1
    else "All have the same kind of processor.",
)
chapter.number("run-activations", found["end_to_end"].settings["activations"], ",")
chapter.number("run-buffer", found["end_to_end"].settings["buffer_rows"], ",")
chapter.number("their-buffer", found["end_to_end"].settings["their_buffer_rows"], ",")
chapter.number("batch", step.settings["batch_size"], ",")
chapter.number("lambda", step.settings["lam"], "g")
chapter.number("origins", "; ".join(f"{size}: {origin}" for size, origin in step.settings["dictionaries"].items()))
chapter.number(
    "smoke",
    "Do not quote these numbers: those of " + ", ".join(smoke) + " come from a smoke run at toy sizes."
    if smoke
    else "All numbers are from full runs.",
)

# %% [markdown]
# We set targets of speed and memory before we measured. Of {glue:text}`targets`, {glue:text}`met` are
# met{glue:text}`missed`{glue:text}`undecided`. The tables below show every one, met or missed. The comparison of
# quality, at the end, is another matter: its rule was made anew after we had seen the first results.
#
# ## How it is measured
#
# - **Same input.** All libraries get the same activations, of language model A on *{glue:text}`text`*, in the same
#   batches of {glue:text}`batch`. They are divided by one number, so that their mean squared norm is the number of
#   neurons.
# - **Own code.** Every library runs its own training step, with its own optimiser and its own statistics, as its users
#   would run it. Each lives in an environment of its own, with the same version of PyTorch.
# - **In turns.** A step of A, a step of B, a step of C, and again, after a round that does not count. A slow minute of
#   the machine then hits all of them. We divide within each round. The tables give the median of the ratios, with their
#   quartiles in brackets; where there were few rounds, all of them.
# - **Each on one machine.** It stands above each table. {glue:text}`kinds`

# %% tags=["hide-input"]
plots.table(["", "version"], [(name, version) for name, version in step.versions.items()])

# %% [markdown]
# ## One training step
#
# In the **steady state** most features are silent on most tokens. Every library starts from the same trained
# dictionary ({glue:text}`origins`) and the same $\lambda$ of {glue:text}`lambda`. For a ReLU dictionary, the gradient
# of a silent feature is exactly zero. `sae_core` uses that: only the encoder's product stays dense. The others multiply
# all the zeros.
#
# At the **start** each library has a dictionary of its own making, and takes its first steps. Where most features fire
# there is nothing sparse to use. After these steps, these shares of the features are active on a token:
# {glue:text}`start-shares`. {glue:text}`silent`
#
# ```{admonition} Predict
# :class: tip
# A dense step needs six large products, one of them in the encoder's forward pass. If all but that one were free, how
# much faster could a step be? Where will the real number lie?
# ```
#
# The **floor** answers the first question. It is that one product by itself, so nobody can be faster in the same
# precision.

# %% tags=["hide-input"]
#| label: fig-benchmarks-step
#| caption: >-
#|   Activations per second of one training step. The floor is a single dense product. Whiskers reach from the lower
#|   to the upper quartile.
groups = list(dict.fromkeys(one.group for one in step.series if one.unit == "activations/s"))
figure = go.Figure()
for group in groups:
    rates = [one for one in step.series if one.group == group]
    figure.add_scatter(
        x=[one.median for one in rates],
        y=[one.name for one in rates],
        name=group,
        mode="markers",
        marker={"size": 10},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [one.quartiles[1] - one.median for one in rates],
            "arrayminus": [one.median - one.quartiles[0] for one in rates],
        },
        hovertemplate="%{y}: %{x:,.0f} activations/s",
    )
figure.update_yaxes(autorange="reversed")
figure.update_xaxes(title="activations/s", type="log", dtick=1)
plots.describe(
    figure,
    "Dots for the activations per second, by contender. "
    + " ".join(
        f"{group}: " + ", ".join(f"{one.name} {one.median:,.0f}" for one in step.series if one.group == group) + "."
        for group in groups
    ),
    height=620,
    legend={"xref": "container"},  # below the names, too: four entries need the room
)

# %% tags=["remove-cell"]
l0 = [one for one in step.series if one.group.endswith(", L0")]
shares: dict[str, dict[str, float]] = {}  # of the features that are active at the start, by size and library
for one in l0:
    if one.group.startswith("start") and one.name.endswith("fp32") and "TopK" not in one.name:  # that keeps a number
        size = one.group.removeprefix("start, ").removesuffix(", L0")
        shares.setdefault(size, {})[one.name.removesuffix(" fp32")] = one.median / int(size.replace(",", ""))
listed = [f"{', '.join(f'{name} {share:.1%}' for name, share in of.items())} of {size}" for size, of in shares.items()]
chapter.number("start-shares", "; ".join(listed))
quiet = [name for name in next(iter(shares.values())) if all(of[name] < 0.1 for of in shares.values())]
chapter.number(
    "silent",
    f"Almost all features of {' and '.join(quiet)} are silent by then, though its step multiplies the zeros all the "
    "same. A possible reason for the silence stands at the comparison of quality."
    if quiet
    else "",
)
chapter.number(
    "bf16-note",
    "On this processor a product in bf16 is slower than one in fp32, as the floors show. Then sae_core stays in fp32, "
    "whatever it was asked for, and its bf16 rows are its fp32 rows measured again. They do not count above. Beside "
    "the floor of bf16 they would say nothing, and that row is left out."
    if no_bf16
    else "On this processor a product in bf16 is faster than one in fp32, as the floors show.",
)

# %% [markdown]
# {glue:text}`bf16-note`

# %% tags=["hide-input"]
ratio_table(step)

# %% [markdown]
# Check that the steady state was one. These are the active features per token at the end of each round.

# %% tags=["hide-input"]
plots.table(["case", "library", "L0"], [(one.group.removesuffix(", L0"), one.name, spread(one, ".1f")) for one in l0])

# %% [markdown]
# ```{admonition} A trap: sparsify is not in this race
# :class: warning
# sparsify refuses L1. Its step keeps the 32 largest codes and has no penalty. We show it because you may choose it.
# It solves another problem, so there is no target for that ratio.
# ```
#
# <!-- numbers: 32 (k in benchmarks/workers/train_sparsify.py) -->
#
# ## From tokens to a dictionary
#
# A step is not a run. Here SAELens and `sae_core`, and only these two, load the model, compute activations, train on
# them and save the result. Both get the text as tokens and train on {glue:text}`run-activations` activations. Each has
# the shuffling buffer that its own documentation recommends: SAELens' holds {glue:text}`their-buffer` activations, ours
# {glue:text}`run-buffer`. {glue:text}`filled`

# %% tags=["hide-input"]
ratio_table(found["end_to_end"])

# %% tags=["hide-input"]
ends = [one for one in found["end_to_end"].series if one.group == "L0 at the end"]
longer = apart(found["end_to_end"], "seconds")
chapter.number("longer", f"Of equal runs one took up to {longer:.2f} times as long as another." if longer else "")
settings = found["end_to_end"].settings
chapter.number(
    "filled",
    "That is more than this short run needs, so ours computes all its activations before the first step."
    if settings["buffer_rows"] >= settings["activations"]
    else "It has to be filled before the first step, and this counts against us.",
)
chapter.number("ends", " and ".join(f"{one.median:.0f} ({one.name})" for one in ends if "bf16" not in one.name))
plots.table(
    ["", "library", "measured", "unit"],
    [(one.group, one.name, spread(one), one.unit) for one in found["end_to_end"].series],
)

# %% [markdown]
# {glue:text}`longer` The share of the model's forward passes says what even a perfect trainer could not save. The two
# do not end at the same dictionary: with the same $\lambda$, and each with its own start and schedule, they have
# {glue:text}`ends` active features at the end. So this table compares time, not results of the same quality.
#
# ## Reading activations
#
# `harvest` stops the forward pass once it has what it came for. The unembedding, which costs most in a model this
# small, never runs. TransformerLens' bridge offers much more: it keeps every activation of the model by name. With
# *one hook* it keeps one. It still runs to the end: its own way to stop early, `stop_at_layer`, stops between blocks,
# and this model has a single one. In *bridge, stopped* a hook of ours ends its pass, as in `harvest`. *Network* is the
# plain PyTorch model with a hook, *body* the same without its unembedding. All of them return the same numbers, and the
# script stops if they do not.

# %% tags=["hide-input"]
ratio_table(found["harvest"])

# %% [markdown]
# ## Memory
#
# The buffer says how large it will be. And a run that is ten times as long must not need more: neither one in which the
# language model is at work, nor a longer one that reads stored activations. {glue:text}`peaks`

# %% tags=["remove-cell"]
differ = apart(found["memory"], "bytes")
chapter.number(
    "peaks",
    f"The peaks of equal runs differ by up to {differ - 1:.1%}, so a growth of that size need not be one."
    if differ
    else "Each run was made once. Peaks of equal runs differ as well, by how much these numbers do not say.",
)

# %% tags=["hide-input"]
ratio_table(found["memory"])

# %% [markdown]
# ## Is the result as good?
#
# A fast step is worth nothing if it learns less. So all three train on the same batches, in the same order, for the
# same number of steps. Then our code measures all the dictionaries alike, on text that nobody trained on. Before that
# it checks that each gives the same codes and reconstructions as in its own library.
#
# **How $\lambda$ was converted.** It was not, and that needs a reason. All three add up the squared error over the
# neurons and average over the batch. All three add $\lambda$ times the sum of one token's codes. SAELens and
# our preset `april_2024` multiply each code by the norm of its decoder row, which they leave free. In
# dictionary_learning and our `paper_scaled` these rows have norm 1. So the same $\lambda$ asks for the same trade.
#
# **What else is alike.** The fall of the learning rate over the last fifth, and the warm-up of $\lambda$. Each peer ran
# at two learning rates, ours in two presets at one. Of a library, the best counts.
#
# **What is not.** dictionary_learning has no warm-up of its learning rate here; by default it has one of 1,000 steps.
# Nor does it resample dead features, which it only does when told to, and not together with a rate that falls.
#
# <!-- numbers: 1,000 (the default of warmup_steps in its StandardTrainer) -->

# %% tags=["remove-cell"]
chapter.number("steps", quality.settings["steps"], ",")
chapter.number("quality-batch", quality.settings["batch_size"], ",")
chapter.number("quality-activations", quality.settings["steps"] * quality.settings["batch_size"], ",")
chapter.number("quality-text", quality.settings["held_out_text"])
chapter.number("quality-tokens", quality.settings["held_out_tokens"], ",")

# %% [markdown]
# Each ran {glue:text}`steps` steps of {glue:text}`quality-batch`, {glue:text}`quality-activations` activations in all.
# Measured on {glue:text}`quality-tokens` held-out tokens of *{glue:text}`quality-text`*.

# %% tags=["hide-input"]
#| label: fig-benchmarks-quality
#| caption: >-
#|   Active features per token against loss recovered, for three values of $\lambda$ each. Up and to the left is better.
names = list(dict.fromkeys(one.name for one in quality.series))
value = {(one.group, one.name): one.median for one in quality.series}
lambdas = [f"λ = {lam:g}" for lam in quality.settings["lam"]]
fronts = {
    name: tuple([value[f"{lam}, {metric}", name] for lam in lambdas] for metric in ("l0_mean", "loss_recovered"))
    for name in names
}
figure = plots.curves(
    fronts,
    "active features per token (L0)",
    "loss recovered",
    "Curves of loss recovered against L0, by library. "
    + " ".join(
        f"{name}: " + ", ".join(f"L0 {x:.1f} and {y:.3f}" for x, y in zip(*points, strict=True)) + "."
        for name, points in fronts.items()
    ),
    height=420,
)
figure.update_traces(mode="lines+markers", text=lambdas, hovertemplate="%{text}: L0 %{x:.1f}, %{y:.3f}")
figure.update_xaxes(type="log", dtick="D2")

# %% tags=["hide-input"]
metrics = ("l0_mean", "loss_recovered", "explained_variance", "dead")
plots.table(
    ["λ", "library", "L0", "loss recovered", "explained variance", "dead"],
    [
        (lam.removeprefix("λ = "), name, *(f"{value[f'{lam}, {metric}', name]:.4g}" for metric in metrics))
        for lam in lambdas
        for name in names
    ],
)

# %% [markdown]
# Two dictionaries at different L0 cannot be ranked by loss recovered alone: whoever uses more features recovers more.
# So we draw straight lines between the points of each try, on the logarithm of L0, and compare at the points of the
# peers. Of a library, the best of its lines counts there, or a sparser dictionary that recovers more. A peer's point
# that the peer itself beats in this way is left out. Where it is sparser than all of ours, we compare at our sparsest.
#
# It is not the first rule that we tried. By the first results `sae_core` was behind, and two things changed: its recipe
# clips gradients now, and a bad try of a library no longer pulls down its good one. So take the table as a description.
# A difference below {glue:text}`noise` is called none. We chose that limit; one seed cannot show how large noise is.

# %% tags=["hide-input"]
NOISE = 0.01
chapter.number("noise", NOISE, "g")


def difference(gain: float) -> str:
    return "no difference" if abs(gain) < NOISE else "sae_core recovers more" if gain > 0 else "sae_core recovers less"


rows = [
    (one.group, one.name.rpartition(" - ")[2], f"{one.median:+.3f}", difference(one.median)) for one in quality.ratios
]
HTML(
    f"<p>{plots.escape(where(quality))}</p>"
    + plots.table(["at", "against", "loss recovered, difference", ""], rows).data
)

# %% [markdown]
# dictionary_learning's rows do not say much: {glue:text}`steps` steps are too few for it. At the higher of its two
# rates almost nothing is active at the end, at the lower one it has not come far. The missing warm-up and resampling
# may be the reason.

# %% [markdown]
# ## What the others do that ours does not
#
# Speed is one reason to choose a library. There are others, and they may matter more to you.
#
# - **SAELens** trains many kinds of dictionaries on almost any language model. It loads hundreds of published
#   dictionaries, links to Neuronpedia, can put the model and the dictionary on different GPUs, and can compile its
#   step. Its step keeps statistics that ours does not keep.
# - **dictionary_learning** has a short file for each paper, and trains several dictionaries at once on the same
#   activations. On a GPU it offers bf16. On a CPU it does not, so there is no such row.
# - **sparsify** is made for large models and for GPUs. Its fused kernels are the reason to use it, and they do not run
#   on a CPU. It also trains transcoders, and dictionaries from end to end.
# - **TransformerLens** names every activation inside the model. Ours knows one place at a time.
#
# ## Repeat it
#
# ```sh
# make bench                # all of it, several hours on two cores
# make bench ONLY=step      # one measurement: step, harvest, end_to_end, memory or quality
# make bench ROUNDS=10
# ```
#
# The first call installs each library into an environment below `benchmarks/.venvs`, a few gigabytes in all. A run that
# was stopped goes on where it was. Results are in `benchmarks/results`, one small file for each measurement. Leave the
# machine alone meanwhile.
#
# ## What these numbers cannot tell
#
# - **Few processors.** Another one has another ratio between memory and arithmetic. A sparse step gains less where
#   dense products are faster.
# - **A noisy machine.** The quartiles show how noisy. They cannot show what was wrong with all rounds alike.
# - **One size of model.** These activations are narrow. With a larger model, its forward passes cost more and the
#   trainer matters less.
# - **A CPU.** Nothing here was measured on a GPU. We expect that sparsity does not pay there, as dense products are so
#   fast.
# - **Very short runs in the quality table.** After {glue:text}`steps` steps nobody is done. Longer ones may rank the
#   libraries otherwise.
# - **L1 dictionaries.** Our other kinds of dictionaries do not have the sparse step's advantage unless their codes are
#   sparse in the same way.
# - **One seed in the quality table.** Small differences there mean nothing.
