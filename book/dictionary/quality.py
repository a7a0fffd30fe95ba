# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # How good is the dictionary?
#
# No single number says that a dictionary is good. This chapter puts the usual numbers side by side, over many
# dictionaries: three sizes, four values of λ, and one run after another with a rule of the recipe left out. You will
# see which numbers move together, which rules earn their place, and what none of the numbers can tell.
#
# ```{admonition} Before you start
# **You will be able to**
# - read the trade-off between sparsity and loss, and compare two dictionaries that differ in both;
# - say what each rule of the recipe is worth in a short run, and whether a few seeds are enough to say so;
# - measure how short reconstructions come out, and how much of that is the penalty's fault;
# - name the metrics that a network with shuffled weights passes.
#
# **You need** the chapters {doc}`training` and {doc}`density`.
#
# **Time**: 35 minutes to read, less than a minute to run.
# ```

# %% tags=["hide-input"]
import itertools
import json
import textwrap

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots

from sae_core import bundle, chapter, plots
from sae_core.activations import ActivationBuffer
from sae_core.autoencoder import dictionary_metadata
from sae_core.exercises import check

# %% [markdown]
# The runs behind this page take too long to repeat them at every visit. A script made them
# (`book/_experiments/quality.py`) and kept a record of each: its configuration, its curves, its metrics. The page reads
# these records, and for the bundled dictionaries the metrics on their cards.

# %%
runs = json.loads((bundle.PACKAGED / "quality.json").read_text())["runs"]
grid = {(run["config"]["d_sae"], run["config"]["lam"]): run for run in runs if run["arm"] == "grid"}
arms: dict[str, dict[int, dict]] = {}  # a comparison's name -> seed -> its record
for run in runs:
    if run["arm"] != "grid":
        arms.setdefault(run["arm"], {})[run["config"]["seed"]] = run
cards = {name: dictionary_metadata(name) for name in bundle.available("cfg.json")}
cards = {name: card for name, card in cards.items() if "metrics" in card}

# %% tags=["remove-cell"]
RESAMPLING = ("resampling", "no resampling", "Kaiming")
REPLACED = {  # a rule, and the arm that goes without it
    "gradient projected": "renormalise only",
    "pre-encoder bias tied": "no tied bias",
    "decoder not tied": "tied decoder",
    "more steps": "half as long",
    "lower learning rate": "higher rate",
    "lower learning rate and more steps": "higher rate, half as long",
    "encoder starts small": "Kaiming start",
}
SEEDS = 3
text = cards["A/1"]["text"][0][0]
sizes, lambdas = sorted({size for size, _ in grid}), sorted({lam for _, lam in grid})
planned = len(sizes) * len(lambdas)
complete = len(grid) == planned
expected = [*RESAMPLING, "recipe", *REPLACED.values()]
lacking = [arm for arm in expected if len(arms.get(arm, {})) < SEEDS]
one = runs[0]
commits = [run["provenance"]["commit"][:7] for run in runs]
devices = dict.fromkeys(f"{run['provenance']['threads']} × {run['provenance']['device']}" for run in runs)
chapter.number("text", text)
chapter.number(
    "provenance",
    f"{text} text · recorded runs, of commits {', '.join(dict.fromkeys(commits))} · {', '.join(devices)}",
)
chapter.number("runs", len(runs))
chapter.number("seeds", SEEDS)
chapter.number("run-steps", one["config"]["steps"], ",")
chapter.number("run-activations", one["activations"] / 1e6, ".1f")
chapter.number("run-share", cards["A/1"]["activations"] / one["activations"], ".0f")
chapter.number("run-tokens", one["metrics"]["tokens"], ",")
chapter.number("dead-after", one["config"]["dead_after"])
chapter.number("hours", sum(run["seconds"] for run in runs) / 3600, ".1f")
chapter.number("sizes", ", ".join(f"{size:,}" for size in sizes))
chapter.number("lambdas", ", ".join(f"{lam:g}" for lam in lambdas))
short_of = ", ".join(f"“{arm}” ({len(arms.get(arm, {}))})" for arm in lacking)
chapter.number(
    "missing",
    "All runs of the plan are there."
    if complete and not lacking
    else ("The grid is complete." if complete else f"Of the grid, {len(grid)} of {planned} runs are there.")
    + (f" These comparisons have fewer than {SEEDS} seeds: {short_of}." if lacking else "")
    + " What follows uses the runs that are there.",
)

# %% [markdown]
# There are {glue:text}`runs` records, {glue:text}`hours` hours of training in all. Each run is short:
# {glue:text}`run-steps` steps, {glue:text}`run-activations` million activations, where `A/1` had
# {glue:text}`run-share` times as many. All were measured on the same {glue:text}`run-tokens` tokens of
# *{glue:text}`text`* that the model was not trained on. {glue:text}`missing`
#
# ## Sparse, or close?
#
# A dictionary should use few features for each token, and it should keep what the model needs. Count the first as
# {term}`L0`. Measure the second by the loss: put the reconstruction in the place of the activations, let the model
# predict, and see how much the loss rises. Both should be small, and λ is the exchange rate between them.
#
# ```{admonition} Predict
# :class: tip
# Take one size, and four runs that differ in λ alone. Plot L0 against the loss that the reconstruction adds. What
# shape do the four points have? Now do the same with twice as many features. Do the points move left, right, up or
# down?
# ```


# %% tags=["hide-input"]
#| label: fig-quality-front
#| caption: >-
#|   Sparsity against loss. Each line is one size, each of its points one λ, written beside those of the largest.
#|   Diamonds: the bundled dictionaries of model A, which were trained for longer. Down and to the left is better.
def added(metrics: dict) -> float:
    """Nats per token that the reconstruction adds to the model's loss."""
    return metrics["loss_reconstructed"] - metrics["loss_original"]


def of_size(size: int) -> list[dict]:
    """The grid's runs of a size, by λ."""
    return [grid[size, lam] for lam in lambdas if (size, lam) in grid]


figure = go.Figure()
for size in sizes:
    line = of_size(size)
    figure.add_scatter(
        x=[run["metrics"]["l0_mean"] for run in line],
        y=[added(run["metrics"]) for run in line],
        name=f"{size:,} features",
        mode="lines+markers+text" if size == sizes[-1] else "lines+markers",
        text=[f"λ {run['config']['lam']:g}" for run in line],
        textposition="bottom left",
        marker_size=8,
        hovertemplate="%{text}: L0 %{x:.1f}, %{y:.3f} nats",
    )
stars = {name: card for name, card in cards.items() if name.startswith("A/")}
figure.add_scatter(
    x=[card["metrics"]["l0_mean"] for card in stars.values()],
    y=[added(card["metrics"]) for card in stars.values()],
    text=list(stars),
    name="bundled",
    mode="markers+text",
    textposition="middle right",
    marker={"size": 11, "symbol": "diamond", "color": plots.PALETTE[3]},
    hovertemplate="%{text}: L0 %{x:.1f}, %{y:.3f} nats",
)
ticks = [5, 10, 20, 50, 100]
figure.update_xaxes(title="mean L0", type="log", tickvals=ticks, range=np.log10([5, 130]).tolist())
figure.update_yaxes(title="loss added, nats per token", rangemode="tozero")
told = "; ".join(
    f"{size:,} features: "
    + ", ".join(f"{run['metrics']['l0_mean']:.0f} and {added(run['metrics']):.2f}" for run in of_size(size))
    for size in sizes
)
plots.describe(
    figure,
    f"Mean L0 on a logarithmic axis against the loss added in nats, one line for each size. From small to large λ, "
    f"{told}. Bundled: "
    + ", ".join(
        f"{name} {card['metrics']['l0_mean']:.0f} and {added(card['metrics']):.2f}" for name, card in stars.items()
    )
    + ".",
    height=480,
)


# %% tags=["remove-cell"]
def steps(of: dict, along: int, value) -> list[float]:
    """Changes of a metric from one size (along 0) or λ (along 1) to the next, the other being equal."""
    axis = (sizes, lambdas)[along]
    other = (lambdas, sizes)[along]
    found = []
    for fixed in other:
        for low, high in itertools.pairwise(axis):
            keys = [(key, fixed) if along == 0 else (fixed, key) for key in (low, high)]
            if all(key in of for key in keys):
                found.append(value(of[keys[1]]) - value(of[keys[0]]))
    return found


def metric(name: str):
    return lambda run: run["metrics"][name]


l0_by_lam, loss_by_lam = steps(grid, 1, metric("l0_mean")), steps(grid, 1, metric("loss_reconstructed"))
l0_by_size, recovered_by_size = steps(grid, 0, metric("l0_mean")), steps(grid, 0, metric("loss_recovered"))
recovered_by_lam = steps(grid, 1, metric("loss_recovered"))
if l0_by_lam:
    chapter.claim(
        "A13",
        where="dictionary/quality#fig-quality-front",
        text=text,
        largest_l0_step=max(l0_by_lam),
        smallest_loss_step=min(loss_by_lam),
        runs=len(grid),
    )
if recovered_by_size and recovered_by_lam:
    chapter.claim(
        "A12",
        where="dictionary/quality#fig-quality-front",
        text=text,
        smallest_step_with_size=min(recovered_by_size),
        largest_step_with_l1=max(recovered_by_lam),
    )
traded = max(l0_by_lam, default=1) < 0 < min(loss_by_lam, default=-1)
grows = min(recovered_by_size, default=-1) > 0
chapter.number(
    "trade-sentence",
    "At every size, a larger λ gives a smaller L0 and a larger loss, without exception."
    if traded
    else "Not every step of λ lowers L0 and raises the loss; look at the figure for the exceptions.",
)
chapter.number("trade-words", "at each of our sizes, without exception" if traded else "with exceptions")
chapter.number(
    "size-sentence",
    "At each λ, the larger dictionary recovers more of the loss."
    if grows
    else "A larger dictionary does not always recover more of the loss at the same λ.",
)
chapter.number("size-words", "at each λ" if grows else "not at each λ")
chapter.number(
    "l0-with-size",
    "At each λ it also has the larger L0."
    if min(l0_by_size, default=-1) > 0
    else "Its L0 is not always larger, so look at both.",
)
line = sorted(of_size(cards["A/1"]["recipe"]["d_sae"]), key=metric("l0_mean"))
l0, on_card = cards["A/1"]["metrics"]["l0_mean"], added(cards["A/1"]["metrics"])
if line and line[0]["metrics"]["l0_mean"] <= l0 <= line[-1]["metrics"]["l0_mean"]:
    logs, losses = np.log([run["metrics"]["l0_mean"] for run in line]), [added(run["metrics"]) for run in line]
    short = float(np.interp(np.log(l0), logs, losses))
    chapter.number(
        "longer",
        f"The diamond of A/1 stands at {on_card:.2f} nats, and the line of its size passes its L0 at {short:.2f}. "
        "That is what a longer run is worth, together with another mixture of the text.",
    )
else:
    chapter.number("longer", "The diamonds had more steps, so they are no part of the comparison.")
lam = lambdas[len(lambdas) // 2]
small, large = grid.get((sizes[0], lam)), grid.get((sizes[-1], lam))
if small and large:
    pair = " and ".join(
        f"{run['config']['d_sae']:,} features have an L0 of {run['metrics']['l0_mean']:.1f} and recover "
        f"{run['metrics']['loss_recovered']:.1%}"
        for run in (small, large)
    )
    chapter.number("same-lam", f"At λ = {lam:g}, {pair}.")
else:
    chapter.number("same-lam", "(The runs to show it with are missing.)")

# %% [markdown]
# {glue:text}`trade-sentence` {glue:text}`size-sentence` {glue:text}`longer`
#
# ```{admonition} A trap: the same λ is not the same sparsity
# :class: warning
# {glue:text}`same-lam` Is the second better? {glue:text}`l0-with-size` Part of what it wins in loss, it pays in L0. So
# compare at equal L0, along a line of the figure. The first exercise does.
# ```
#
# A dictionary that is beaten in both numbers by another is out. Those that are not beaten form the **front**. Where on
# the front to be is a matter of taste. The paper's taste is an L0 below 10 to 20, far fewer than the neurons that are
# active on a token.
#
# ## All dictionaries of this book, side by side
#
# The cards of the bundled dictionaries hold the same metrics, on a million tokens of the same kind.
#
# ```{admonition} Predict
# :class: tip
# `random/1` was trained on a model whose weights were shuffled, a network that predicts nothing. Which of these
# numbers will give it away: L0, explained variance, norm ratio, dead features, loss?
# ```

# %% tags=["hide-input"]
plots.table(
    ["", "features", "L0", "explained", "norm ratio", "loss added", "recovered", "dead, ultralow"],
    [
        (
            name,
            f"{card['recipe']['d_sae']:,}",
            f"{metrics['l0_mean']:.1f}",
            f"{metrics['explained_variance']:.1%}",
            f"{metrics['norm_ratio']:.2f}",
            f"{added(metrics):.3f}",
            f"{metrics['loss_recovered']:.1%}",
            f"{metrics['dead']:,}, {metrics['ultralow']:,}",
        )
        for name, card in cards.items()
        for metrics in [card["metrics"]]
    ],
)

# %% tags=["remove-cell"]
real, control = cards["A/1"]["metrics"], cards["random/1"]["metrics"]
for name, metrics in (("real", real), ("control", control)):
    chapter.number(f"{name}-l0", metrics["l0_mean"], ".1f")
    chapter.number(f"{name}-ev", metrics["explained_variance"], ".0%")
    chapter.number(f"{name}-norm", metrics["norm_ratio"], ".2f")
    chapter.number(f"{name}-dead", metrics["dead"] + metrics["ultralow"], ",")
    chapter.number(f"{name}-recovered", metrics["loss_recovered"], ".0%")
    chapter.number(f"{name}-original", metrics["loss_original"], ".2f")
chapter.number(
    "zero-helps",
    f"The shuffled model's loss is {control['loss_original']:.2f} nats per token, and setting its MLP to zero "
    + (
        f"lowers it, to {control['loss_zero_ablated']:.2f}. A share of a loss that is not there means nothing, and "
        f"so the card can say {control['loss_recovered']:.0%}."
        if control["loss_zero_ablated"] < control["loss_original"]
        else f"raises it to {control['loss_zero_ablated']:.2f}. Of that difference the dictionary wins back "
        f"{control['loss_recovered']:.0%}."
    ),
)
chapter.number("trained-on", ", ".join(f"{name} {card['activations'] / 1e6:.0f}" for name, card in cards.items()))
series = [cards[name] for name in ("A/0", "A/1", "A/2") if name in cards]
rises = all(b["metrics"]["loss_recovered"] > a["metrics"]["loss_recovered"] for a, b in itertools.pairwise(series))
chapter.number(
    "series-sentence",
    "Among the dictionaries of model A, "
    + ", ".join(
        f"{card['recipe']['d_sae']:,} features recover {card['metrics']['loss_recovered']:.1%}" for card in series
    )
    + (", so more features recover more" if rises else ", so size alone does not decide")
    + ", at an L0 from "
    + " to ".join(f"{level(card['metrics']['l0_mean'] for card in series):.1f}" for level in (min, max))
    + ".",
)
twin_gap = abs(cards["B/1"]["metrics"]["loss_recovered"] - real["loss_recovered"])
chapter.number("twin-gap", 100 * twin_gap, ".1f")

# %% [markdown]
# {glue:text}`series-sentence` They also saw different numbers of activations (in millions: {glue:text}`trained-on`),
# and not all have the same λ. So this is no clean comparison of sizes; the grid above is. `B/1` is the twin of `A/1` on
# a model from another seed. The two differ by {glue:text}`twin-gap` percentage points in loss recovered.
#
# **The control.** The dictionary of the shuffled model has an L0 of {glue:text}`control-l0` and explains
# {glue:text}`control-ev` of the variance, with {glue:text}`control-dead` dead or ultralow features. `A/1` has
# {glue:text}`real-l0`, {glue:text}`real-ev` and {glue:text}`real-dead`. The norm ratios are {glue:text}`control-norm`
# and {glue:text}`real-norm`. Nothing in these numbers says that one of the two models has learned a language.
#
# How can that be? A shuffled model still turns tokens into activations, and one token gives similar activations
# wherever it stands. A dictionary can list them. Sparse and close is what we *asked* for. It is no evidence that the
# features mean anything about text.
#
# ```{admonition} A trap: a percentage without its two ends
# :class: warning
# {glue:text}`zero-helps` Look at the losses themselves before you quote a percentage of them.
# ```
#
# ## Too short
#
# The L1 penalty taxes every active code, so the best code is a little smaller than the right one. Reconstructions
# come out too short. The **norm ratio** measures it: the mean of $\lVert\hat{\mathbf{x}}\rVert /
# \lVert\mathbf{x}\rVert$.
#
# But not all of that is the penalty's fault. Suppose that a dictionary cannot know a part of $\mathbf{x}$. The best it
# can do is to leave that part out, and then $\hat{\mathbf{x}}$ is shorter than $\mathbf{x}$ for an honest reason.
# Least squares gives the size of it. The error of the best guess is at a right angle to the guess, so Pythagoras holds:
#
# $$
# \lVert\mathbf{x}\rVert^2 = \lVert\hat{\mathbf{x}}\rVert^2 + \lVert\mathbf{x} - \hat{\mathbf{x}}\rVert^2
# $$
#
# on average. A guess that explains the share $R$ of the variance then has a norm ratio of about $\sqrt{R}$, or a bit
# more, as the mean of all $\mathbf{x}$ is known for nothing. What is missing below $\sqrt{R}$ is **shrinkage**.
#
# ```{admonition} Predict
# :class: tip
# Does shrinkage grow or fall with λ? Does a larger dictionary shrink more, or less?
# ```

# %% tags=["hide-input"]
#| label: fig-quality-norm
#| caption: >-
#|   How long reconstructions are. Solid: the measured norm ratio. Dotted, in the same colour: the root of the explained
#|   variance, the least that an honest guess of that quality would have.
figure = go.Figure()
for size, color in zip(sizes, plots.PALETTE, strict=False):
    line = of_size(size)
    x = [run["config"]["lam"] for run in line]
    for name, values, dash in (
        (f"{size:,} features", [run["metrics"]["norm_ratio"] for run in line], "solid"),
        ("honest", [run["metrics"]["explained_variance"] ** 0.5 for run in line], "dot"),
    ):
        figure.add_scatter(
            x=x,
            y=values,
            name=name,
            legendgroup=str(size),
            showlegend=dash == "solid",
            mode="lines+markers",
            line={"dash": dash, "color": color},
            hovertemplate="λ %{x:g}: %{y:.3f}",
        )
figure.update_xaxes(title="λ", type="log", tickvals=lambdas, ticktext=[f"{lam:g}" for lam in lambdas])
figure.update_yaxes(title="norm ratio", range=[0.5, 1])
gaps = {key: run["metrics"]["explained_variance"] ** 0.5 - run["metrics"]["norm_ratio"] for key, run in grid.items()}
plots.describe(
    figure,
    "Norm ratio against λ, one line for each size. "
    + "; ".join(
        f"{size:,} features: " + ", ".join(f"{run['metrics']['norm_ratio']:.2f}" for run in of_size(size))
        for size in sizes
    )
    + f". The dotted lines lie {min(gaps.values()):.2f} to {max(gaps.values()):.2f} above the solid ones.",
)

# %% tags=["remove-cell"]
by_ratio = sorted(grid.values(), key=metric("norm_ratio"))
norm_by_lam, norm_by_size = steps(grid, 1, metric("norm_ratio")), steps(grid, 0, metric("norm_ratio"))
chapter.number("norm-low", by_ratio[0]["metrics"]["norm_ratio"], ".2f")
chapter.number("norm-high", by_ratio[-1]["metrics"]["norm_ratio"], ".2f")
chapter.number("norm-lowest-lam", by_ratio[0]["config"]["lam"], "g")
chapter.number("norm-highest-lam", by_ratio[-1]["config"]["lam"], "g")
chapter.number("gap-low", min(gaps.values()), ".2f")
chapter.number("gap-high", max(gaps.values()), ".2f")
chapter.number(
    "norm-sentence",
    ("It falls with λ at every size" if max(norm_by_lam, default=1) < 0 else "It does not fall with every step of λ")
    + (
        ", and it rises with the size at every λ."
        if min(norm_by_size, default=-1) > 0
        else ", and it does not always rise with the size."
    ),
)
worse = [
    run for run in grid.values() if run["metrics"]["explained_variance_rescaled"] < run["metrics"]["explained_variance"]
]
chapter.number("rescaled-worse", len(worse))
chapter.number("grid-runs", len(grid))

# %% [markdown]
# The norm ratio runs from {glue:text}`norm-low` at λ = {glue:text}`norm-lowest-lam` to {glue:text}`norm-high` at
# λ = {glue:text}`norm-highest-lam`. {glue:text}`norm-sentence` Between {glue:text}`gap-low` and {glue:text}`gap-high`
# of it are missing even by the honest measure.
#
# Could you simply stretch $\hat{\mathbf{x}}$ to the length of $\mathbf{x}$? Some reports do, before they compute the
# explained variance. In {glue:text}`rescaled-worse` of the {glue:text}`grid-runs` runs of the grid that makes the
# explained variance *worse*. It undoes the shrinkage, and the honest part with it.
#
# ## More features, rarer features
#
# What does a larger dictionary do with its features? One answer lies in how often they fire.
#
# ```{admonition} Predict
# :class: tip
# Double the number of features, and leave λ as it is. Does the histogram of densities keep its place and become
# higher, or does it move?
# ```

# %% tags=["hide-input"]
#| label: fig-quality-density
#| caption: >-
#|   Features by density, for each size. Move the slider to another λ. Counted on {glue:text}`run-tokens` tokens; silent
#|   features are left out.
edges = np.array(runs[0]["density"]["log10_edges"])
centers = (edges[:-1] + edges[1:]) / 2


def traces(lam: float) -> list[go.Scatter]:
    return [
        go.Scatter(
            x=centers,
            y=grid[size, lam]["density"]["counts"] if (size, lam) in grid else [],
            name=f"{size:,} features",
            line={"shape": "hvh", "color": color},
            hovertemplate="10^%{x:.2f}: %{y}",
        )
        for size, color in zip(sizes, plots.PALETTE, strict=False)
    ]


figure = go.Figure(traces(lambdas[0]), frames=[go.Frame(name=f"{lam:g}", data=traces(lam)) for lam in lambdas])
now = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
slider = {
    "currentvalue": {"prefix": "λ = "},
    "pad": {"t": 70},
    "len": 0.94,
    "steps": [{"label": frame.name, "method": "animate", "args": [[frame.name], now]} for frame in figure.frames],
}
seen = [place for run in grid.values() for place in np.flatnonzero(run["density"]["counts"])]
lowest = float(np.floor(edges[min(seen)]))
decades = list(range(int(lowest), 1))
figure.update_xaxes(
    title="feature density",
    range=[lowest, 0],
    tickvals=decades,
    ticktext=[f"10<sup>{decade}</sup>" for decade in decades],
)
figure.update_yaxes(title="features", range=[0, 1.05 * max(max(run["density"]["counts"]) for run in grid.values())])


def median_density(run: dict) -> float:
    """log10 of the median density of the features that fired, to a tenth."""
    counts = np.cumsum(run["density"]["counts"])
    return float(centers[np.searchsorted(counts, counts[-1] / 2)])


plots.describe(
    figure,
    "Histograms of the densities on a logarithmic axis, one for each size, with a slider for λ. Medians, as powers of "
    "ten, from small to large λ: "
    + "; ".join(
        f"{size:,} features: " + ", ".join(f"{median_density(run):.1f}" for run in of_size(size)) for size in sizes
    )
    + ".",
    height=480,
    sliders=[slider],
)

# %% tags=["remove-cell"]
RARE = runs[0]["rare"]["density_below"]


def alive(run: dict) -> int:
    """Features of the high-density cluster: all that are not silent or nearly so."""
    return run["config"]["d_sae"] - run["rare"]["features"]


def least_density(run: dict) -> float:
    """log10 of the least density in that cluster, to a tenth."""
    return float(edges[:-1][(np.array(run["density"]["counts"]) > 0) & (edges[:-1] > np.log10(RARE) - 0.01)].min())


count_steps, least_steps = steps(grid, 0, alive), steps(grid, 0, least_density)
if count_steps:
    chapter.claim(
        "A14",
        where="dictionary/quality#fig-quality-density",
        text=text,
        sizes=len(sizes),
        smallest_count_step=min(count_steps),
        largest_density_step=max(least_steps),
    )
moved = steps(grid, 0, median_density)
slower = max(steps(grid, 0, lambda run: run["metrics"]["l0_mean"] / run["config"]["d_sae"]), default=1) < 0
chapter.number(
    "split-sentence",
    "That had to come. L0 grows more slowly than the number of features, so the mean density, which is L0 divided by "
    "that number, has to fall."
    if slower
    else "The mean density is L0 divided by the number of features, and it does not fall at every step.",
)
chapter.number("rare-below", f"one token in {1 / RARE:,.0f}")
chapter.number("median-moved", -float(np.mean(moved)) if moved else 0.0, ".1f")
most_unused = max(grid.values(), key=lambda run: run["rare"]["features"])
few = sum(run["rare"]["features"] < 0.01 * run["config"]["d_sae"] for run in grid.values())
chapter.number("few-unused", few)
chapter.number("unused", most_unused["rare"]["features"], ",")
chapter.number("unused-of", f"{most_unused['config']['d_sae']:,} features at λ = {most_unused['config']['lam']:g}")
rarer = max(least_steps, default=1) < 0
chapter.number(
    "rarer-sentence",
    "and at each λ the rarest feature in use is rarer in the larger dictionary."
    if rarer
    else "but the rarest feature in use is not rarer at every step.",
)
chapter.number("rarer-words", "and rarer ones at each step" if rarer else "but not rarer ones at each step")
chapter.number(
    "count-words", "more features at each step" if min(count_steps, default=0) > 0 else "not always more features"
)

# %% [markdown]
# The histogram moves to the left. From one size to the next, the median density falls by {glue:text}`median-moved`
# decades on average. {glue:text}`split-sentence` Whether the rarer features stand for new things or for shares of old
# ones, the histogram cannot say. The chapter {doc}`/book/structure/splitting` looks at that.
#
# How many features are in use? Call a feature *in use* if it fires on at least {glue:text}`rare-below`. In
# {glue:text}`few-unused` of the {glue:text}`grid-runs` runs of the grid, less than 1 % are not. Most are unused with
# {glue:text}`unused-of`: {glue:text}`unused` of them. The count of features in use grows with the size,
# {glue:text}`rarer-sentence`
#
# ```{admonition} How much does that say?
# :class: note
# Less than it seems. A dictionary of 512 features cannot find 600. That the count grows with the size only shows that
# the larger dictionaries did not run out of features to find. The paper saw it grow up to 131,072
# {cite}`bricken2023monosemanticity`. Our largest in the grid is far below that.
# ```
#
# <!-- numbers: 512 (the smallest size of the grid); 600 (any number above it) -->
#
# ## Dead features, and three ways to treat them
#
# Resampling needs dead features, and at a moderate λ the scaled recipe has hardly any. Its encoder starts as a small
# copy of the decoder, its λ rises slowly, and its learning rate is moderate. To see what resampling is worth, we take
# these precautions away: the encoder starts from random weights, λ is full from the first step, and the learning rate
# is three times as high. Then features die early, and we compare
#
# - **the paper's rule**: a dead feature gets the direction of an example that is badly reconstructed, a small encoder,
#   and a fresh state of the optimiser;
# - **nothing**;
# - **fresh {term}`Kaiming weights`**: a dead feature starts again as all features started.
#
# ```{admonition} Predict
# :class: tip
# Which of the three ends with the lowest loss? Which with the most features in use? And what does the loss do in the
# steps after a resampling?
# ```

# %% tags=["hide-input"]
#| label: fig-quality-resampling
#| caption: >-
#|   The same run three times, differing in what happens to dead features; one seed. Above: training loss. Below:
#|   features that were silent for the last {glue:text}`dead-after` steps. Resampling is at the four dotted lines. The
#|   first steps lie above the upper panel.
figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06)
shown = {arm: arms[arm][min(arms[arm])] for arm in RESAMPLING if arm in arms}
LINES = {"resampling": "the paper's rule", "no resampling": "nothing", "Kaiming": "Kaiming weights"}
for (arm, run), color in zip(shown.items(), plots.PALETTE, strict=False):
    curve = np.array(run["curve"]["rows"])
    points = [(step, loss) for step, loss in curve[:, :2]]
    for each in run["resampled"]:  # the curve has every tenth step; a spike is shorter
        points += [(each["step"] - 2, each["loss_before"]), (each["step"] + 3, each["loss_after"])]
    x, y = np.array(sorted(points)).T
    common = {"name": LINES[arm], "legendgroup": arm, "line": {"color": color}, "mode": "lines"}
    figure.add_scatter(x=x, y=y, **common, hovertemplate="step %{x}: %{y:.0f}", row=1, col=1)
    figure.add_scatter(
        x=curve[:, 0], y=curve[:, 3], **common, showlegend=False, hovertemplate="step %{x}: %{y}", row=2, col=1
    )
for run in list(shown.values())[:1]:
    for step in run["config"]["resample_at"]:
        figure.add_vline(step, line={"dash": "dot", "width": 1, "color": plots.PALETTE[7]})
lowest_shown = min((run["final_loss"] for run in shown.values()), default=0.0)
figure.update_yaxes(title="loss", range=[0.95 * lowest_shown, 1.5 * lowest_shown], row=1, col=1)
figure.update_yaxes(title="silent features", rangemode="tozero", row=2, col=1)
figure.update_xaxes(title="step", row=2, col=1)
plots.describe(
    figure,
    "Two panels of curves over the steps of training, one seed each: "
    + "; ".join(
        f"with {LINES[arm]} the loss ends at {run['final_loss']:.1f}, and {run['curve']['rows'][-1][3]:,} of "
        f"{run['config']['d_sae']:,} features were silent for the last {run['config']['dead_after']} steps"
        for arm, run in shown.items()
    )
    + ".",
    height=560,
)


# %% tags=["remove-cell"]
def common_seeds(*names: str) -> list[int]:
    """Seeds that all these arms have."""
    return sorted(set.intersection(*(set(arms.get(name, {})) for name in names)))


def finals(arm: str, seeds: list[int]) -> np.ndarray:
    return np.array([arms[arm][seed]["final_loss"] for seed in seeds])


def standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / len(values) ** 0.5)


seeds = common_seeds(*RESAMPLING)
if seeds:
    loss = {arm: finals(arm, seeds).mean() for arm in RESAMPLING}
    used = {arm: float(np.mean([alive(arms[arm][seed]) for seed in seeds])) for arm in RESAMPLING}
    jumps = [
        each["loss_after"] / each["loss_before"] for seed in seeds for each in arms["resampling"][seed]["resampled"]
    ]
    dead_before = [each["features"] for seed in seeds for each in arms["resampling"][seed]["resampled"][:1]]
    chapter.claim(
        "A4",
        where="dictionary/quality#fig-quality-resampling",
        text=text,
        seeds=len(seeds),
        loss=loss["resampling"],
        loss_without=loss["no resampling"],
        loss_kaiming=loss["Kaiming"],
        alive=used["resampling"],
        alive_without=used["no resampling"],
        alive_kaiming=used["Kaiming"],
        **({"jump": float(np.mean(jumps))} if jumps else {}),
    )
    lowest_loss, most_used = min(loss, key=loss.get), max(used, key=used.get)
    d_sae = arms["resampling"][seeds[0]]["config"]["d_sae"]
    change = finals("resampling", seeds) - finals("no resampling", seeds)
    spread = f" ± {standard_error(change):.2f}" if len(seeds) > 1 else ""
    chapter.number(
        "resampling-result",
        f"The table has means over {len(seeds)} seeds, of {d_sae:,} features. The lowest loss is that of "
        f"“{LINES[lowest_loss]}”, and the most features in use are those of “{LINES[most_used]}”. Seed by seed, the "
        f"paper's rule changes the final loss by {change.mean():+.2f}{spread} compared with nothing; less is better.",
    )
    both = lowest_loss == most_used == "resampling"
    chapter.number(
        "resampling-words",
        "best in both" if both else f"lowest loss: {LINES[lowest_loss]}; most in use: {LINES[most_used]}",
    )
    chapter.number(
        "jump",
        f"At a resampling by the paper's rule the loss goes to {np.mean(jumps):.2f} times what it was, on average over "
        f"{len(jumps)} of them."
        if jumps
        else "No feature was dead when it was time to resample.",
    )
    chapter.number("jump-words", f"× {np.mean(jumps):.2f} on average" if jumps else "nothing was resampled")
    share = 1 - used["no resampling"] / d_sae
    chapter.number(
        "resampling-why",
        f"Without resampling {share:.1%} of the features are out of use at the end"
        + (", so there is little to win. " if share < 0.1 else ". ")
        + "What is revived must learn in the steps that are left; the paper resampled within the first tenth of a long "
        "run.",
    )
else:
    chapter.number("resampling-why", "")
    chapter.number("resampling-result", "These runs are not there yet.")
    chapter.number("resampling-words", "not run")
    chapter.number("jump", "")
    chapter.number("jump-words", "not run")


# %% tags=["hide-input"]
def mean_of(arm: str, value) -> float:
    return float(np.mean([value(run) for run in arms[arm].values()]))


def compared(names: dict[str, str]):
    """A table of means over the seeds, a row for each arm that is there, under its name."""
    return plots.table(
        ["", "loss", "L0", "recovered", "norm ratio", "not in use", "never fire"],
        [
            (
                name,
                f"{mean_of(arm, lambda run: run['final_loss']):.1f}",
                f"{mean_of(arm, metric('l0_mean')):.1f}",
                f"{mean_of(arm, metric('loss_recovered')):.1%}",
                f"{mean_of(arm, metric('norm_ratio')):.2f}",
                f"{mean_of(arm, lambda run: run['rare']['features']):,.0f}",
                f"{mean_of(arm, metric('dead')):,.0f}",
            )
            for arm, name in names.items()
            if arm in arms
        ],
    )


compared(LINES)

# %% [markdown]
# {glue:text}`resampling-result`
#
# {glue:text}`jump` Features that did nothing now write a direction into the sum, and the others were not trained to
# live with them. A spike at a resampling is no sign of a broken run. A spike elsewhere may be.
#
# {glue:text}`resampling-why`
#
# ## One rule at a time
#
# The paper gives advice about the rest of the recipe, without numbers. We take the scaled recipe and replace one rule
# at a time, with everything else as it is: the same activations, the same λ, the same seeds. {glue:text}`pairs`
#
# | the rule | what stands in its place |
# |---|---|
# | gradient projected | decoder rows are only brought back to norm 1 after the step |
# | pre-encoder bias tied | nothing is subtracted before the encoder |
# | decoder not tied | the encoder is the decoder transposed |
# | more steps | half as many |
# | lower learning rate | three times the rate |
# | lower learning rate and more steps | three times the rate, half as many steps |
# | encoder starts small (ours) | it starts from {term}`Kaiming weights` |
#
# ```{admonition} Predict
# :class: tip
# Put them in order, from the rule that you would miss most to the one that you would not miss. Is there one that does
# harm?
# ```

# %% tags=["hide-input"]
#| label: fig-quality-rules
#| caption: >-
#|   What the loss gains by each rule: final training loss without the rule minus with it, in percent of the latter. A
#|   dot for each seed, a line at their mean; a triangle stands for a mean beyond the axis. Right of zero, the rule
#|   helps.
gains = {}
for rule, arm in REPLACED.items():
    pairs = common_seeds(arm, "recipe")
    if pairs:
        gains[rule] = 100 * (finals(arm, pairs) / finals("recipe", pairs) - 1)
figure = go.Figure()
order = sorted(gains, key=lambda rule: gains[rule].mean())
# One rule that is worth much more than the others would hide the differences between these.
top = sorted(gains[rule].max() for rule in order)[-2:]
in_lines = {rule: "<br>".join(textwrap.wrap(rule, 19, break_on_hyphens=False)) for rule in order}
limit = 1.4 * top[0] if len(top) == 2 and top[1] > 3 * top[0] > 0 else np.inf
for rule in order:
    mean, off = gains[rule].mean(), gains[rule].mean() > limit
    figure.add_scatter(
        x=[limit] if off else gains[rule],
        y=[in_lines[rule]] * (1 if off else len(gains[rule])),
        mode="markers+text",
        text=[f"{mean:.0f} %"] if off else None,
        textposition="middle left",
        marker={"size": 9, "color": plots.PALETTE[0], "opacity": 0.7, "symbol": "triangle-right" if off else "circle"},
        hovertemplate=f"mean {mean:.1f} %<extra></extra>" if off else "%{x:.2f} %<extra></extra>",
    )
    if not off:
        figure.add_scatter(
            x=[mean],
            y=[in_lines[rule]],
            mode="markers",
            marker={"size": 22, "symbol": "line-ns-open", "color": plots.PALETTE[1], "line": {"width": 3}},
            hovertemplate="mean %{x:.2f} %<extra></extra>",
        )
figure.add_vline(0, line={"dash": "dot", "color": plots.PALETTE[7]})
figure.update_xaxes(title="gain, %")
plots.describe(
    figure,
    "Gain in final loss by rule, mean over the seeds: "
    + (", ".join(f"{rule} {gains[rule].mean():+.2f} %" for rule in reversed(order)) or "none was run")
    + ".",
    height=150 + 45 * len(gains),
    showlegend=False,
)


# %% tags=["remove-cell"]
def gain(rule: str) -> np.ndarray:
    """Final loss without the rule minus with it, for each seed that has both."""
    pairs = common_seeds(REPLACED[rule], "recipe")
    return finals(REPLACED[rule], pairs) - finals("recipe", pairs)


if "gradient projected" in gains and len(gain("gradient projected")) > 1:
    projected = gain("gradient projected")
    chapter.claim(
        "A5",
        where="dictionary/quality#fig-quality-rules",
        text=text,
        gain=projected.mean(),
        standard_error=standard_error(projected),
        seeds=len(projected),
    )
advice = {
    "tied_bias_gain": "pre-encoder bias tied",
    "untied_decoder_gain": "decoder not tied",
    "lower_rate_gain": "lower learning rate and more steps",
    "more_steps_gain": "more steps",
}
if measured := {name: gain(rule).mean() for name, rule in advice.items() if rule in gains}:
    chapter.claim("A6", where="dictionary/quality#fig-quality-rules", text=text, **measured)


def verdict(rule: str) -> str:
    if rule not in gains:
        return "not run"
    values = gains[rule]
    if len(values) < 2:
        return f"{values.mean():+.2f} % (n = 1): undecided"
    error = standard_error(values)
    word = "helps" if values.mean() > 2 * error else "harms" if values.mean() < -2 * error else "undecided"
    return f"{values.mean():+.2f} ± {error:.2f} % (n = {len(values)}): {word}"


short, long = (gains.get(rule) for rule in ("lower learning rate", "lower learning rate and more steps"))
if short is None or long is None:
    rate_sentence = "These runs are not there yet."
elif short.mean() > 0:
    rate_sentence = "Here the lower rate wins even with as many steps."
else:
    rate_sentence = "With as many steps the lower rate loses: in runs as short as these it has not arrived yet. "
    rate_sentence += "With twice as many it wins." if long.mean() > 0 else "With twice as many it still loses."
chapter.number("rate-sentence", rate_sentence)
for rule in REPLACED:
    chapter.number("verdict-" + rule.replace(" ", "-"), verdict(rule))


def false_alarm(n: int) -> float:
    """How often the mean of n numbers that are noise lies beyond twice its standard error, by Student's t."""
    angle = (np.arange(1000) + 0.5) / 1000 * np.pi / 2
    weight = np.cos(angle) ** (n - 2)
    return float(weight[np.tan(angle) * (n - 1) ** 0.5 > 2].sum() / weight.sum())


n_pairs = sorted({len(each) for each in gains.values()})
if not n_pairs:
    pairs_sentence = "These runs are not there yet."
else:
    several = " to ".join(map(str, dict.fromkeys((n_pairs[0], n_pairs[-1]))))
    pairs_sentence = f"Each comparison has n = {several} seeds, with the rule and without."
chapter.number("pairs", pairs_sentence)
chapter.number(
    "alarms",
    " and to ".join(f"{false_alarm(n):.0%} of them at n = {n}" for n in n_pairs if n > 1) or "many of them",
)
signs = {rule: verdict(rule).rpartition(" ")[2] for rule in REPLACED}
listed = {word: [rule for rule, sign in signs.items() if sign == word] for word in ("helps", "harms", "undecided")}
chapter.number(
    "rules-sentence",
    " ".join(
        f"{start}: {', '.join(f'“{rule}”' for rule in listed[word])}."
        for word, start in (
            ("helps", "By that measure these help"),
            ("harms", "These harm"),
            ("undecided", "These cannot be told from chance"),
        )
        if listed[word]
    )
    or "There is nothing to compare yet.",
)


# %% tags=["hide-input"]
compared({arm: arm for arm in ("recipe", *REPLACED.values())})

# %% [markdown]
# The table has the mean over the seeds of each row. We say that a rule helps or harms if its mean gain differs from
# zero by more than twice its standard error. {glue:text}`rules-sentence`
#
# ```{admonition} A trap: few seeds
# :class: warning
# A standard error from so few numbers is itself a guess. Take rules that do nothing. "More than twice" happens by
# chance to {glue:text}`alarms` (an exercise asks you to find out). And a rule that is undecided here may matter in a
# long run. The paper trained for a million steps, and dead features and a high learning rate have more time to do harm
# there.
# ```
#
# The paper advises a lower learning rate *with more steps*. That is why the rate is there twice.
# {glue:text}`rate-sentence`
#
# Read the columns together, too. The loss is what was minimised, so it is the fair judge of a rule. But a lower loss
# can come as a smaller L0 or as a better reconstruction, and the table shows which.
#
# ## The ultralow cluster
#
# Neel Nanda found that more than half of the features of a dictionary were very rare, that they shared *one* encoder
# direction, that dictionaries from other seeds had the same direction, and that their decoders looked random
# {cite}`nanda2023replication`. Do ours?
#
# We call a feature of a run *rare* if it fires on fewer than {glue:text}`rare-below`, silent ones included, for on
# {glue:text}`run-tokens` tokens the two can hardly be told apart. The cosine of each one's direction with the mean of
# all of them says whether they share it. Compare that with as many random directions: each is a part of the mean, so
# it has a cosine with it even by chance.
#
# ```{admonition} Predict
# :class: tip
# A feature that never fires gets no gradient. So a shared direction must have come before it fell silent. What could
# push the encoders of many features the same way, while they still fire?
# ```

# %% tags=["hide-input"]
#| label: fig-quality-cluster
#| caption: >-
#|   Do rare features share a direction? Median cosine of their encoders, of their decoders and of as many random
#|   directions with their mean; a mark for each run.
D_IN, ENOUGH = len(runs[0]["rare"]["encoder_mean"]), 20


def at_random(n: int, draws: int = 100) -> float:
    """97.5th percentile, over draws, of the median cosine of n random directions with their mean."""
    generator = torch.Generator().manual_seed(n)
    medians = []
    for _ in range(draws):
        directions = torch.nn.functional.normalize(torch.randn(n, D_IN, generator=generator), dim=1)
        mean = torch.nn.functional.normalize(directions.sum(0), dim=0)
        medians.append((directions @ mean).median().item())
    return float(np.quantile(medians, 0.975))


def name_of(run: dict) -> str:
    config = run["config"]
    return f"{config['d_sae']:,} features, λ {config['lam']:g}" if run["arm"] == "grid" else run["arm"]


clusters: dict[str, list[dict]] = {}
for run in runs:
    if run["rare"]["features"] >= ENOUGH:
        clusters.setdefault(name_of(run), []).append(run)
figure = go.Figure()
KINDS = {
    "encoders": (lambda run: run["rare"]["encoder_cosine"], "circle", plots.PALETTE[0]),
    "decoders": (lambda run: run["rare"]["decoder_cosine"], "diamond", plots.PALETTE[1]),
    "as many random directions": (lambda run: at_random(run["rare"]["features"]), "line-ns-open", plots.PALETTE[7]),
}
rows = [run for several in clusters.values() for run in several]
for kind, (value, symbol, color) in KINDS.items():
    figure.add_scatter(
        x=[value(run) for run in rows],
        y=[name_of(run) for run in rows],
        name=kind,
        mode="markers",
        marker={"size": 11, "symbol": symbol, "color": color, "line": {"width": 2, "color": color}},
        hovertemplate="%{y}: %{x:.2f}",
    )
figure.update_xaxes(title="cosine", range=[0, 1.03])
figure.update_yaxes(autorange="reversed")
told = "; ".join(
    f"{name_of(run)}, seed {run['config']['seed']}: encoders {run['rare']['encoder_cosine']:.2f}, "
    f"decoders {run['rare']['decoder_cosine']:.2f}"
    for run in rows
)
plots.describe(
    figure,
    "Median cosines of the rare features' directions with their mean, a row for each kind of run. "
    + (told or "No run has enough of them")
    + ".",
    height=200 + 40 * len(clusters),
)


# %% tags=["remove-cell"]
def mean_cosine(run: dict, other: dict) -> float:
    """Cosine between the mean encoder directions of two runs' rare features."""
    a, b = (np.array(each["rare"]["encoder_mean"]) for each in (run, other))
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def mean_value(several: list[dict], value) -> float:
    return float(np.mean([value(run) for run in several]))


chapter.number("enough", ENOUGH)
bundled = {name: card["metrics"]["dead"] + card["metrics"]["ultralow"] for name, card in cards.items()}
most = max(bundled, key=bundled.get)
chapter.number("bundled-rare", sum(bundled.values()), ",")
share = "all" if bundled[most] == sum(bundled.values()) else f"{bundled[most]:,}"
chapter.number("bundled-most", f"{share} of them in {most}")
if clusters:
    # Of the kinds of run with most seeds, the one with most rare features, as Nanda's had.
    kind = max(clusters, key=lambda kind: (len(clusters[kind]), mean_value(clusters[kind], lambda run: -alive(run))))
    several = clusters[kind]
    shared, written, random = (mean_value(several, value) for value, *_ in KINDS.values())
    at_once = [share for run in several if (share := run["rare"].get("share_on_one_token")) is not None]
    pairs = [mean_cosine(a, b) for a, b in itertools.combinations(several, 2)]
    variants = [run for arm in RESAMPLING for run in clusters.get(arm, [])]
    same_seed = [
        mean_cosine(a, b) for a, b in itertools.combinations(variants, 2) if a["config"]["seed"] == b["config"]["seed"]
    ]
    chapter.claim(
        "A9",
        where="dictionary/quality#fig-quality-cluster",
        text=text,
        rare_encoder_cosine=shared,
        rare_decoder_cosine=written,
        random_decoder_cosine=random,
        **({"share_on_one_token": float(np.mean(at_once))} if at_once else {}),
        **({"cross_seed_cosine": float(np.mean(pairs))} if pairs else {}),
    )
    chapter.number(
        "cluster-sentence",
        (f"In the {len(several)} runs" if len(several) > 1 else "In the run")
        + f" called “{kind}”, {mean_value(several, lambda run: run['rare']['features']):,.0f} features are rare"
        + (" on average" if len(several) > 1 else "")
        + f"; {mean_value(several, lambda run: run['metrics']['dead']):,.0f} never fired. "
        f"The encoders of the rare ones have a median cosine of {shared:.2f} with their mean. "
        + (
            "So they do share a direction, as Nanda's did."
            if shared >= 0.9
            else f"Random directions have {random:.2f}, so they share much of a direction, but less than Nanda's, most "
            "of which had over 0.95."
            if shared > 0.5
            else f"Random directions have {random:.2f}. That is not one shared direction."
        )
        + f" Their decoders have {written:.2f}, "
        + (
            "as random ones do."
            if abs(written) <= random
            else f"and random ones {random:.2f}: they are not quite random."
        ),
    )
    if not pairs:
        across = "With one seed, nothing can be said across seeds."
    elif np.mean(pairs) > 0.5:
        across = (
            f"Between two seeds, the mean encoder directions have a cosine of {np.mean(pairs):.2f}. So the direction "
            "belongs to the activations and not to the seed, as Nanda saw, and as the explanation below would have it."
        )
    else:
        across = (
            f"But between two seeds, the mean encoder directions have a cosine of {np.mean(pairs):.2f}: each seed has "
            "a direction of its own, and Nanda's was the same."
        )
        if same_seed and np.mean(same_seed) > 0.5:
            across += (
                " The variants of one seed, which differ in what is done to dead features, agree "
                f"({np.mean(same_seed):.2f}). So the direction comes from what the seed decides, the start or the "
                "order of the batches. Then the explanation below is not the whole story, for the neurons that are "
                "active everywhere are the same in every run."
            )
    chapter.number("across", across)
    rare_share = mean_value(several, lambda run: run["rare"]["features"] / run["config"]["d_sae"])
    counted = "in the one run where we counted" if len(at_once) == 1 else f"in the {len(at_once)} runs where we counted"
    chapter.number(
        "ours-are",
        f"Ours are {rare_share:.0%} of the dictionary"
        + (f", and {counted}, at most {max(at_once):.0%} of them fired on one token." if at_once else "."),
    )
    chapter.number(
        "cluster-words",
        f"encoders {shared:.2f}, decoders {written:.2f} (random {random:.2f}), for “{kind}”"
        + (f"; across seeds {np.mean(pairs):.2f}" if pairs else ""),
    )
else:
    chapter.number("cluster-sentence", "No run of ours has as many rare features, so there is no cluster to look at.")
    chapter.number("across", "")
    chapter.number("ours-are", "")
    chapter.number("cluster-words", "no run has enough rare features")

# %% [markdown]
# The figure has the runs in which at least {glue:text}`enough` features are rare. {glue:text}`cluster-sentence`
# {glue:text}`across`
#
# Anthropic's explanation for such features {cite}`anthropic2024february` is this. The penalty pulls an encoder towards
# zero, except on neurons that are weakly active almost everywhere. There a weight of the right sign acts as one more
# negative bias. A feature that finds nothing of its own to write keeps only this, and shares it with all its kind.
#
# Nanda's rare features were more than half of the dictionary, and up to 95 % of them fired on one token
# {cite}`nanda2023replication`. {glue:text}`ours-are` The bundled dictionaries have {glue:text}`bundled-rare` dead or
# ultralow features together, {glue:text}`bundled-most`. An exercise of the chapter {doc}`density` looks at their
# encoders.
#
# ## Two things that no curve shows
#
# The recipe asks that no activation is used twice, and that a batch mixes many contexts. A run that breaks these rules
# looks healthy. So check them apart from the curves. The first is on the card of `A/1`. For the second, we let the
# buffer of its recipe serve all batches of the run, with numbers of contexts in the place of activations, and count.


# %%
class Owners:
    """Chunks as a run sees them, whose rows say which context they are from: three digits, as bf16 is exact to 256."""

    def __init__(self, contexts: int, each: int, chunk_contexts: int = 32):
        self.each, self.chunk_contexts = each, chunk_contexts
        self.rows = each * chunk_contexts
        self.contexts = contexts

    def __len__(self) -> int:
        return self.contexts // self.chunk_contexts

    def __getitem__(self, index: int) -> torch.Tensor:
        owner = (index * self.chunk_contexts + torch.arange(self.chunk_contexts)).repeat_interleave(self.each)
        return torch.stack([owner % 256, owner // 256 % 256, owner // 65_536], 1).bfloat16()


recipe, per_context = cards["A/1"]["recipe"], 255
batch, n_steps = recipe["batch_size"], recipe["steps"]
n_contexts = -(-(batch * n_steps + recipe["buffer_rows"]) // per_context)
buffer = ActivationBuffer(Owners(n_contexts + 32, per_context), recipe["buffer_rows"], recipe["seed"])
digits = torch.tensor([1.0, 256.0, 65_536.0])
every = chapter.size(quick=20, full=1)  # of the batches, those to count
distinct = []
for step in range(n_steps):
    served = buffer.next_batch(batch)
    if step % every == 0:
        distinct.append(len(torch.unique(served @ digits)))
same_context = float(np.mean([batch / found for found in distinct]))
available = n_contexts * per_context
ideal = batch / (n_contexts * (1 - (1 - batch / available) ** per_context))

# %% tags=["remove-cell"]
chapter.claim(
    "A3",
    where="dictionary/quality#fig-quality-mixing",
    text=text,
    vectors_used=cards["A/1"]["activations"],
    vectors_available=cards["A/1"]["distinct_activations"],
    same_context_vectors=same_context,
    ideal_same_context_vectors=ideal,
)

# %% tags=["hide-input"]
#| label: fig-quality-mixing
#| caption: >-
#|   Different contexts in a batch of `A/1`'s run, over the run. Dashed: what a uniform shuffle of everything would
#|   give.
ideal_contexts = batch / ideal
parts = np.array_split(np.array(distinct), 100)
figure = plots.curves(
    {"buffer": (np.linspace(0, n_steps, len(parts)), [part.mean() for part in parts])},
    "step",
    "contexts in a batch",
    f"Number of different contexts among the {batch:,} activations of a batch, over {n_steps:,} steps. The mean is "
    f"{np.mean(distinct):,.0f}; a uniform shuffle would give {ideal_contexts:,.0f}.",
    height=320,
)
figure.add_hline(ideal_contexts, line={"dash": "dash", "color": plots.PALETTE[1]})
figure.update_yaxes(range=[0, batch])

# %% tags=["remove-cell"]
excess = same_context / ideal - 1
chapter.number("a1-used", cards["A/1"]["activations"], ",")
chapter.number("a1-distinct", cards["A/1"]["distinct_activations"], ",")
chapter.number("batch", batch, ",")
chapter.number("same-context", same_context, ".2f")
chapter.number("ideal-same", ideal, ".2f")
chapter.number("excess", excess, ".0%")
once = cards["A/1"]["activations"] <= cards["A/1"]["distinct_activations"]
chapter.number("once-sentence", "None was used twice." if once else "Some were used more than once.")
chapter.number("once-words", "yes" if once else "no")
chapter.number("buffer-rows", recipe["buffer_rows"], ",")
chapter.number(
    "mixing-sentence",
    "Our bar allows a tenth more than the ideal, "
    + (
        "and the buffer keeps to it."
        if excess <= 0.1
        else "and the buffer misses it. A larger buffer would mix better and take more memory."
    ),
)

# %% [markdown]
# `A/1` used {glue:text}`a1-used` activations, and {glue:text}`a1-distinct` different ones were there.
# {glue:text}`once-sentence`
#
# A context that is in a batch at all has {glue:text}`same-context` of its activations there, on average. If all
# activations of the run were shuffled together, it would be {glue:text}`ideal-same`. Ours is {glue:text}`excess` more
# than ideal. The paper shuffled everything; we have a buffer of {glue:text}`buffer-rows` activations.
# {glue:text}`mixing-sentence`
#
# ## What the paper found, what we found
#
# | | the paper | here, on *{glue:text}`text`* |
# |---|---|---|
# | larger λ: smaller L0, larger loss | in a figure | {glue:text}`trade-words` |
# | more features recover more of the loss | 79 % with 4,096, 94.5 % with 131,072 | {glue:text}`size-words` |
# | larger dictionaries find more features | up to 131,072 | {glue:text}`count-words`, {glue:text}`rarer-words` |
# | resampling beats nothing and Kaiming weights | yes; no numbers | {glue:text}`resampling-words` |
# | the loss jumps at a resampling | yes | {glue:text}`jump-words` |
# | projection of the gradient | "small but real" gain | {glue:text}`verdict-gradient-projected` |
# | tied pre-encoder bias | helps | {glue:text}`verdict-pre-encoder-bias-tied` |
# | decoder not tied to the encoder | helps | {glue:text}`verdict-decoder-not-tied` |
# | more steps | helps | {glue:text}`verdict-more-steps` |
# | lower learning rate and more steps | helps | {glue:text}`verdict-lower-learning-rate-and-more-steps` |
# | lower learning rate, as many steps | no advice | {glue:text}`verdict-lower-learning-rate` |
# | encoder starts small | not in the paper | {glue:text}`verdict-encoder-starts-small` |
# | no activation twice | yes | {glue:text}`once-words` |
# | activations of a context in a batch | as few as chance has it | {glue:text}`excess` more |
#
# And Nanda's replication {cite}`nanda2023replication`: encoders of rare features within 0.95 of their mean, decoders as
# random ones. Ours: {glue:text}`cluster-words`.
#
# **How our set-up differs.** The paper trained for a million steps on 8 billion activations. A run of this page has
# {glue:text}`run-activations` million. Rules that keep a long run healthy can look useless in a short one, and a high
# learning rate can look good. The runs with many dead features were made to have them. The loss compared is the
# training loss of the last twentieth of each run, on activations that were not used before, so nothing is memorised.
# {doc}`/book/differences` has the rest.
#
# ```{admonition} Takeaways
# :class: note
# - L0 and loss trade off along λ. Compare dictionaries at equal L0, never at equal λ.
# - Reconstructions are too short. Part of that is shrinkage, and part is what an honest guess has to leave out.
# - With more features the typical one fires more rarely. A density does not say whether it stands for something new.
#   At a moderate λ and our sizes, hardly a feature stays unused.
# - A rule is worth what a paired comparison over seeds shows, in runs like yours. A few seeds show large effects only.
# - A dictionary of a shuffled network has good metrics. Metrics say how well the dictionary describes activations, not
#   whether the activations are worth describing.
# ```
#
# ## Exercises
#
# ```{exercise-start} At equal L0
# :label: ex-quality-equal-l0
# ```
# *Difficulty 2/5 · importance 5/5 · 15 minutes.* Two lines of {numref}`fig-quality-front` have no point at the same L0.
# Write `at_l0(l0s, values, l0)`: the value of a metric at `l0`, by linear interpolation along the *logarithm* of L0,
# and `None` outside the range of `l0s`, which come in no order. What does the smallest size add to the loss at an L0 of
# 15, and what the largest? Why `None` and not the last value?
#
# ````{admonition} Hint 1
# :class: dropdown
# `np.interp(x, xs, ys)` interpolates, but it wants `xs` to rise, and beyond the ends it repeats the last value.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# Sort both by L0 with `np.argsort`. Give `np.log` of the L0s to `np.interp`. Compare with the smallest and the largest
# first.
# ````
# ```{exercise-end}
# ```


# %% tags=["stub"]
def at_l0(l0s, values, l0):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-quality-equal-l0")
def check_at_l0(at_l0):
    l0s, values = [10.0, 40.0, 20.0], [3.0, 1.0, 2.5]
    for l0, value in zip(l0s, values, strict=True):
        found = at_l0(l0s, values, l0)
        assert found is not None and np.isclose(found, value), (
            f"at a point of the line, the value is that point's: {value}"
        )
    between = at_l0(l0s, values, 200**0.5)
    assert between is not None and np.isclose(between, 2.75), (
        "on a logarithmic axis, half way between two L0s is their geometric mean"
    )
    assert np.isclose(at_l0(l0s, values, 800**0.5), 1.75), "the points come in no order: sort them"
    for outside in (5.0, 50.0):
        assert at_l0(l0s, values, outside) is None, f"{outside:g} lies outside of the line: nothing was measured there"


check_at_l0(at_l0)

# %% [markdown]
# ````{solution-start} ex-quality-equal-l0
# :class: dropdown
# ````


# %%
def at_l0(l0s, values, l0):
    if not min(l0s) <= l0 <= max(l0s):
        return None
    order = np.argsort(l0s)
    return float(np.interp(np.log(l0), np.log(np.array(l0s)[order]), np.array(values)[order]))


for size in sizes:
    line = [run["metrics"] for run in of_size(size)]
    found = at_l0([metrics["l0_mean"] for metrics in line], [added(metrics) for metrics in line], 15)
    print(f"{size:,} features: " + ("not measured" if found is None else f"{found:.3f} nats at L0 15"))
check_at_l0(at_l0)

# %% [markdown]
# At equal L0 the sizes are closer together than at equal λ. Beyond the ends a line may go anywhere. A repeated last
# value would make a dictionary look better than it is, just where nobody has looked.
#
# ````{solution-end}
# ````


# %% tags=["remove-cell", "wrong-answers"]
def unsorted(l0s, values, l0):
    return float(np.interp(np.log(l0), np.log(l0s), values)) if min(l0s) <= l0 <= max(l0s) else None


def on_l0(l0s, values, l0):
    order = np.argsort(l0s)
    return float(np.interp(l0, np.array(l0s)[order], np.array(values)[order])) if min(l0s) <= l0 <= max(l0s) else None


def repeated(l0s, values, l0):
    order = np.argsort(l0s)
    return float(np.interp(np.log(l0), np.log(np.array(l0s)[order]), np.array(values)[order]))


check_at_l0.refuses(unsorted, because="at a point of the line")
check_at_l0.refuses(on_l0, because="geometric mean")
check_at_l0.refuses(repeated, because="nothing was measured there")

# %% [markdown]
# ```{exercise-start} Who is on the front?
# :label: ex-quality-front
# ```
# *Difficulty 2/5 · importance 4/5 · 15 minutes.* A run is *beaten* if another is at least as good in both L0 and loss
# and better in one; both should be small. Write `front(l0, loss)`, which takes two arrays and returns the places of the
# runs that nobody beats, in rising order. Which sizes are on the front of our grid? Is the largest size always there?
#
# ````{admonition} Hint 1
# :class: dropdown
# For run i, ask of all runs at once: `(l0 <= l0[i]) & (loss <= loss[i])`. Run i itself is among them.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# Run i is beaten if one of these also has `(l0 < l0[i]) | (loss < loss[i])`. Two equal runs do not beat each other.
# ````
# ```{exercise-end}
# ```


# %% tags=["stub"]
def front(l0, loss):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-quality-front")
def check_front(front):
    found = list(front(np.array([1.0, 2.0, 3.0, 2.5]), np.array([3.0, 2.0, 1.0, 2.5])))
    assert 3 not in found, "the last of these is worse in both than the second: it is beaten"
    assert found == [0, 1, 2], "a run that is best in neither is on the front, too, if no single run beats it in both"
    assert list(front(np.array([1.0, 1.0]), np.array([2.0, 1.0]))) == [1], (
        "equal in one and worse in the other is beaten"
    )
    assert list(front(np.array([1.0, 1.0]), np.array([2.0, 2.0]))) == [0, 1], "two equal runs do not beat each other"
    random = np.random.default_rng(0).random((2, 60)).round(1)
    for i in range(60):
        better = (random <= random[:, i : i + 1]).all(0) & (random < random[:, i : i + 1]).any(0)
        assert (i in list(front(*random))) == (not better.any()), "on 60 random runs the front is another"


check_front(front)

# %% [markdown]
# ````{solution-start} ex-quality-front
# :class: dropdown
# ````


# %%
def front(l0, loss):
    l0, loss = np.asarray(l0), np.asarray(loss)
    return [
        i for i in range(len(l0)) if not ((l0 <= l0[i]) & (loss <= loss[i]) & ((l0 < l0[i]) | (loss < loss[i]))).any()
    ]


keys = list(grid)
for i in front([grid[key]["metrics"]["l0_mean"] for key in keys], [added(grid[key]["metrics"]) for key in keys]):
    print(f"{keys[i][0]:,} features, λ {keys[i][1]:g}")
check_front(front)

# %% [markdown]
# A run can be on the front because nothing else was tried near it: a grid with more values of λ may beat it. So "on the
# front" is a statement about the runs that were compared. It also says nothing about cost, and the largest dictionary
# took the longest.
#
# ````{solution-end}
# ````


# %% tags=["remove-cell", "wrong-answers"]
def best_of_one(l0, loss):
    return sorted({int(np.argmin(l0)), int(np.argmin(loss))})


def strictly(l0, loss):
    return [i for i in range(len(l0)) if not ((l0 < l0[i]) & (loss < loss[i])).any()]


def loosely(l0, loss):
    return [i for i in range(len(l0)) if ((l0 <= l0[i]) & (loss <= loss[i])).sum() == 1]


check_front.refuses(best_of_one, because="best in neither")
check_front.refuses(strictly, because="equal in one")
check_front.refuses(loosely, because="do not beat each other")

# %% [markdown]
# ```{exercise-start} How often do three seeds deceive?
# :label: ex-quality-seeds
# ```
# *Difficulty 3/5 · importance 4/5 · 20 minutes.* Suppose that a rule does nothing, so that the gains of its seeds are
# noise: independent, normal, with mean 0. Write `false_alarms(n_seeds)`: how often such a rule has a mean gain further
# from zero than twice its standard error. Simulate it. How many seeds do you need for less than 10 %, and for 5 %?
#
# ````{admonition} Hint 1
# :class: dropdown
# Draw many rules at once, an array of rules × seeds, with `np.random.default_rng(0).normal(size=(100_000, n_seeds))`.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# The standard error is `values.std(axis=1, ddof=1) / np.sqrt(n_seeds)`. With `ddof=0` it is too small, and
# the answer too large.
# ````
# ```{exercise-end}
# ```


# %% tags=["stub"]
def false_alarms(n_seeds):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-quality-seeds")
def check_false_alarms(false_alarms):
    angle = (np.arange(100_000) + 0.5) / 100_000 * np.pi / 2
    for n_seeds in (2, 3, 5, 20):
        weight = np.cos(angle) ** (n_seeds - 2)  # Student's t is √(n - 1) tan(angle)
        right = weight[np.tan(angle) * (n_seeds - 1) ** 0.5 > 2].sum() / weight.sum()
        found = false_alarms(n_seeds)
        assert 0 <= found <= 1, f"a share lies between 0 and 1, not at {found}"
        assert abs(found - right / 2) > 0.01 or n_seeds > 10, "count gains far below zero as well: they alarm, too"
        assert abs(found - right) < 0.01, f"with {n_seeds} seeds it is not {found:.3f}: is the standard error right?"


check_false_alarms(false_alarms)

# %% [markdown]
# ````{solution-start} ex-quality-seeds
# :class: dropdown
# ````


# %%
def false_alarms(n_seeds):
    values = np.random.default_rng(0).normal(size=(100_000, n_seeds))
    errors = values.std(axis=1, ddof=1) / np.sqrt(n_seeds)
    return float((np.abs(values.mean(axis=1)) > 2 * errors).mean())


for n_seeds in (2, 3, 5, 7, 10, 30):
    print(f"{n_seeds} seeds: {false_alarms(n_seeds):.1%}")
check_false_alarms(false_alarms)

# %% [markdown]
# The 5 % that people remember belong to a standard error that is known. From a few numbers you can underestimate it
# badly, and then anything looks significant. Six rules that do nothing would give about one false alarm at three seeds.
#
# ````{solution-end}
# ````


# %% tags=["remove-cell", "wrong-answers"]
def simulated(n_seeds, ddof, both_sides=True):
    values = np.random.default_rng(1).normal(size=(100_000, n_seeds))
    means = values.mean(axis=1)
    return float(((np.abs(means) if both_sides else means) > 2 * values.std(axis=1, ddof=ddof) / n_seeds**0.5).mean())


check_false_alarms.refuses(lambda n_seeds: 0.0455, because="is the standard error right")
check_false_alarms.refuses(lambda n_seeds: simulated(n_seeds, 0), because="is the standard error right")
check_false_alarms.refuses(lambda n_seeds: simulated(n_seeds, 1, False), because="far below zero")

# %% [markdown]
# ```{exercise-start} A fair mean
# :label: ex-quality-mean
# ```
# *Difficulty 3/5 · importance 3/5 · 15 minutes.* A direction has a cosine with the mean of a group because it is part
# of it. That is why random directions did not get 0 above. Write `with_the_others(directions)`: for each row its cosine
# with the mean of all *other* rows, after all rows are brought to length 1. It takes and returns a tensor. What do
# random directions get now?
#
# ````{admonition} Hint 1
# :class: dropdown
# The sum of the others is the sum of all, minus the row itself. No loop is needed.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# `unit = torch.nn.functional.normalize(directions, dim=1)`, then the cosine of `unit` with `unit.sum(0) - unit`, row by
# row: `torch.nn.functional.cosine_similarity` does that.
# ````
# ```{exercise-end}
# ```


# %% tags=["stub"]
def with_the_others(directions):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-quality-mean")
def check_with_the_others(with_the_others):
    generator = torch.Generator().manual_seed(0)
    for n in (5, 60):
        rows = torch.randn(n, 30, generator=generator) * torch.rand(n, 1, generator=generator).add(0.1)
        found = with_the_others(rows)
        assert found.shape == (n,), f"{n} rows have {n} cosines, not a tensor of shape {tuple(found.shape)}"
        unit = rows / rows.norm(dim=1, keepdim=True)
        for i in range(n):
            others = torch.cat([unit[:i], unit[i + 1 :]]).mean(0)
            right = float(unit[i] @ others / others.norm())
            own = unit.mean(0)
            assert abs(found[i] - unit[i] @ own / own.norm()) > 1e-4, "the row itself is still a part of the mean"
            assert abs(found[i] - right) < 1e-4, (
                f"row {i} of {n}: {found[i]:.3f}, not {right:.3f}; are all rows of length 1?"
            )


check_with_the_others(with_the_others)

# %% [markdown]
# ````{solution-start} ex-quality-mean
# :class: dropdown
# ````


# %%
def with_the_others(directions):
    unit = torch.nn.functional.normalize(directions, dim=1)
    return torch.nn.functional.cosine_similarity(unit, unit.sum(0) - unit, dim=1)


for n in (20, 100, 500):
    rows = torch.randn(n, D_IN, generator=torch.Generator().manual_seed(n))
    print(f"{n} random directions: {with_the_others(rows).median():+.3f}, with themselves {at_random(n, 1):+.3f}")
check_with_the_others(with_the_others)

# %% [markdown]
# Now random directions get about 0, however many there are. With the row itself in the mean they get about one over the
# root of their number, so a small group looks shared by construction. A single feature even agrees with itself
# perfectly.
#
# ````{solution-end}
# ````


# %% tags=["remove-cell", "wrong-answers"]
def with_itself(directions):
    unit = torch.nn.functional.normalize(directions, dim=1)
    return torch.nn.functional.cosine_similarity(unit, unit.sum(0, keepdim=True), dim=1)


def not_unit(directions):
    return torch.nn.functional.cosine_similarity(directions, directions.sum(0) - directions, dim=1)


check_with_the_others.refuses(with_itself, because="still a part of the mean")
check_with_the_others.refuses(not_unit, because="of length 1")
check_with_the_others.refuses(lambda rows: with_the_others(rows).median(), because="cosines")

# %% [markdown]
# ```{exercise-start} A score of your own
# :label: ex-quality-score
# ```
# *Difficulty 4/5 · importance 4/5 · 30 minutes.* This one is open. People want one number. Write `score(metrics)`. It
# takes the metrics of a card (`l0_mean`, `explained_variance`, `norm_ratio`, `loss_original`, `loss_reconstructed`,
# `loss_zero_ablated`, `loss_recovered`, `dead` and so on, see `cards["A/1"]["metrics"]`) and returns a number that is
# larger for a better dictionary. It must not be fooled: not by the identity (every neuron is a feature, nothing is
# lost), not by an empty dictionary, not by the shuffled model. And whoever is better in L0 *and* in loss, all else
# equal, must score higher. Then use it on `cards` and on the grid. Which λ does it like best, and is that your taste
# or a fact?
#
# ````{admonition} Hint 1
# :class: dropdown
# Two things have to be bought with one currency. What is a unit of L0 worth in nats? That rate is your taste; write it
# down.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# "Nats that the reconstruction wins back from zero-ablation, minus a price times L0" passes three of the tests. On the
# shuffled model, what is there to win back? The identity has an L0 of about 90; what price makes it lose to `A/1`?
# ````
# ```{exercise-end}
# ```


# %% tags=["stub"]
def score(metrics):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-quality-score")
def check_score(score):
    zero, original = real["loss_zero_ablated"], real["loss_original"]
    dense = dict(real, l0_mean=90.0, explained_variance=1.0, explained_variance_rescaled=1.0, norm_ratio=1.0)
    dense |= {
        "loss_reconstructed": original,
        "loss_recovered": 1.0,
        "loss_recovered_from_mean": 1.0,
        "dead": 0,
        "ultralow": 0,
    }
    empty = dict(real, l0_mean=0.0, explained_variance=0.0, explained_variance_rescaled=0.0, norm_ratio=0.5, dead=4096)
    empty |= {"loss_reconstructed": zero, "loss_recovered": 0.0, "loss_recovered_from_mean": 0.5, "l0_median": 0.0}
    mine = score(dict(real))
    assert np.ndim(mine) == 0 and np.isfinite(mine), "a score is one finite number"
    assert mine > score(dense), (
        "the identity, with all 90 active neurons of a token, scores as high as A/1: L0 has to cost"
    )
    assert mine > score(empty), "a dictionary of zeros scores as high as A/1: sparse alone is not good"
    assert mine > score(dict(control)), "the dictionary of the shuffled model scores as high as A/1: look at its losses"
    for l0_factor, loss_share in ((0.9, 0.9), (0.5, 0.99), (0.99, 0.5)):
        loss = original + loss_share * (real["loss_reconstructed"] - original)
        better = dict(real, l0_mean=l0_factor * real["l0_mean"], loss_reconstructed=loss)
        better |= {"l0_median": l0_factor * real["l0_median"], "loss_recovered": (zero - loss) / (zero - original)}
        assert score(better) > mine, "a dictionary with less L0 and less loss, all else equal, has to score higher"


check_score(score)

# %% [markdown]
# ````{solution-start} ex-quality-score
# :class: dropdown
# ````

# %%
PRICE = 0.01  # nats that we give for one active feature less: a taste, written down


def score(metrics):
    return metrics["loss_zero_ablated"] - metrics["loss_reconstructed"] - PRICE * metrics["l0_mean"]


for name, card in cards.items():
    print(f"{name}: {score(card['metrics']):.2f}")
best_size, best_lam = max(grid, key=lambda key: score(grid[key]["metrics"]))
print(f"of the grid, {best_size:,} features at λ {best_lam:g}")
check_score(score)

# %% [markdown]
# Change the price and another λ wins. So the best λ follows from the price, and no metric names the price. What does?
# What the features are *for*. If people are to read them, then what counts is whether they can, and that is the
# question of the chapters on features. This score compares dictionaries of one model only: another model has other
# nats to win.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
check_score.refuses(lambda metrics: metrics["loss_recovered"], because="L0 has to cost")
check_score.refuses(lambda metrics: -metrics["l0_mean"], because="sparse alone")
check_score.refuses(lambda metrics: metrics["loss_recovered"] - 0.01 * metrics["l0_mean"], because="shuffled model")


def with_a_favourite(metrics):
    return metrics["loss_zero_ablated"] - metrics["loss_original"] - abs(metrics["l0_mean"] - 15)


check_score.refuses(with_a_favourite, because="less L0 and less loss")
