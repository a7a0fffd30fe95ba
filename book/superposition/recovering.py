# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Can a dictionary recover the features?
#
# A sparse autoencoder is trained on a language model and returns directions. Are they the right ones? Nobody can say,
# for nobody knows the true features of a language model. So we plant features ourselves. Then every question has an
# answer: which of them were found, which directions are made up, and what the settings have to do with it.
#
# ```{admonition} Before you start
# **You will be able to**
# - measure how much of a known dictionary was recovered, in both directions, and say what chance would give;
# - recognise a λ that is too low or too high, and a dictionary that is too small or too large;
# - derive by how much the L1 norm shrinks a code, and check it;
# - say what an encoder gives up against an iterative method, and where no method can succeed.
#
# **You need** the chapter {doc}`why`. {doc}`/book/dictionary/training` explains the recipe that is used here; you can
# also read it afterwards.
#
# **Time**: 45 minutes to read, one to two minutes to run.
# ```

# %% tags=["hide-input"]
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from scipy.stats import norm
from sklearn.decomposition import sparse_encode
from torch import Tensor

from sae_core import chapter, plots, toy
from sae_core.activations import ActivationBuffer
from sae_core.exercises import check
from sae_core.objective import loss_per_example
from sae_core.recipe import paper_scaled
from sae_core.training import Trainer

# %% [markdown]
# ## A world with known features
#
# The world has 64 features in 32 dimensions. Each has a random direction of length 1. A few are on at a time, three on
# average, and each with a strength between 0.5 and 1.5. Some are frequent and some are rare, as in a text.

# %%
N_FEATURES, N_DIMENSIONS, MEAN_ON = 64, 32, 3
WEAKEST, STRONGEST = 0.5, 1.5

start = torch.Generator().manual_seed(0)
DIRECTIONS = torch.nn.functional.normalize(torch.randn(N_FEATURES, N_DIMENSIONS, generator=start), dim=1)
DENSITY = torch.arange(1, N_FEATURES + 1) ** -0.5
DENSITY *= MEAN_ON / DENSITY.sum()


def planted_codes(density: Tensor, rows: int, generator: torch.Generator) -> Tensor:
    """Strengths [rows, features], zero where a feature is off."""
    on = torch.rand(rows, len(density), generator=generator) < density
    return on * (WEAKEST + (STRONGEST - WEAKEST) * torch.rand(rows, len(density), generator=generator))


def planted(generator: torch.Generator) -> Tensor:
    """A chunk of activations: what a dictionary gets to see."""
    return planted_codes(DENSITY, 4096, generator) @ DIRECTIONS


TRUTH = planted_codes(DENSITY, 8192, torch.Generator().manual_seed(10**6))  # for tests, never trained on
X = TRUTH @ DIRECTIONS


# %% [markdown]
# A dictionary is trained with the package's own loop and the paper's recipe {cite}`bricken2023monosemanticity`, scaled
# to a short run. λ is in the units of the package: it belongs to the summed squared error, and inputs are scaled so
# that the mean of $\lVert x \rVert^2$ is the number of dimensions.

# %%
STEPS = chapter.size(quick=1500, full=6000)


def learn(draw: Callable[[torch.Generator], Tensor], d_sae: int, lam: float, steps: int = STEPS, **changes) -> Trainer:
    """Train a dictionary on chunks that `draw` makes, and return the finished run."""
    recipe = {"batch_size": 1024, "lr": 1e-2, "buffer_rows": 16_384, "resample_inputs": 8192, "bf16": False}
    config = paper_scaled(steps, d_sae=d_sae, lam=lam, **recipe | changes)
    trainer = Trainer(config, ActivationBuffer(toy.DrawnChunks(draw, n_chunks=10**6), config.buffer_rows))
    for _ in trainer.run():
        pass
    return trainer


# %% [markdown]
# ## Two questions, not one
#
# Compare each true direction with all rows of the dictionary, and keep the largest cosine. The mean over the true
# features is the **mean max cosine** {cite}`cunningham2023sparse`. It asks: *was everything found?* Now turn it around.
# Compare each row of the dictionary with all true directions. This asks: *is what was found genuine?* The package has
# `toy.best_cosines(these, others)` for both.
#
# ```{admonition} Predict
# :class: tip
# Draw 64 *random* directions in 32 dimensions instead of a trained dictionary. What is the mean max cosine then: 0.1,
# 0.4 or 0.7?
# ```

# %%
GENUINE = 0.9  # from this cosine on we call two directions the same


class Recovery(NamedTuple):
    """How a dictionary compares to the truth, on test inputs."""

    cosines: Tensor  # [N_FEATURES], of each true feature with the best row of the dictionary
    found: float  # share of the true features that have a row
    genuine: float  # share of the rows that fire at all that have a true feature
    l0: float
    dead: int  # rows that never fire
    explained: float  # variance


@torch.no_grad()
def recovery(trainer: Trainer) -> Recovery:
    sae = trainer.result()
    reconstruction, codes = sae(X)
    cosines = toy.best_cosines(DIRECTIONS, sae.W_dec)
    alive = (codes > 0).any(0)
    own = toy.best_cosines(sae.W_dec[alive], DIRECTIONS)
    error = (reconstruction - X).square().sum() / (X - X.mean(0)).square().sum()
    return Recovery(
        cosines,
        (cosines > GENUINE).double().mean().item(),
        (own > GENUINE).double().mean().item() if alive.any() else 0.0,
        (codes > 0).sum(1).double().mean().item(),
        int((~alive).sum()),
        1 - error.item(),
    )


LAM = 1.0
base = learn(planted, N_FEATURES, LAM)
result = recovery(base)
chance = toy.best_cosines(DIRECTIONS, torch.randn(N_FEATURES, N_DIMENSIONS, generator=start))

# %% tags=["hide-input"]
#| label: fig-recovering-cosines
#| caption: The best cosine of each planted feature with a row of the trained dictionary, by how often the feature is
#|   on. Below, the same with random directions.
figure = go.Figure()
for name, values in (("trained dictionary", result.cosines), ("random directions", chance)):
    figure.add_scatter(x=DENSITY.tolist(), y=values.tolist(), mode="markers", name=name)
figure.add_hline(GENUINE, line={"dash": "dot", "color": plots.PALETTE[7]})
figure.update_xaxes(title="how often the feature is on", tickformat=".0%")
figure.update_yaxes(title="best cosine", range=[0, 1.03])
plots.describe(
    figure,
    f"Scatter plot of {N_FEATURES} features. The trained dictionary has a mean best cosine of "
    f"{result.cosines.mean():.2f}, and {result.found:.0%} of the features lie above {GENUINE}. Random directions have "
    f"{chance.mean():.2f}, and none of them lies above {chance.max():.2f}.",
)

# %% tags=["remove-cell"]
chapter.number("mean-cosine", result.cosines.mean().item(), ".3f")
chapter.number("chance", chance.mean().item(), ".2f")
chapter.number("found", result.found, ".0%")
chapter.number("genuine", result.genuine, ".0%")
chapter.number("l0", result.l0, ".1f")
chapter.number("true-l0", (TRUTH > 0).sum(1).double().mean().item(), ".1f")
chapter.number("explained", result.explained, ".1%")

# %% [markdown]
# The trained dictionary has a mean max cosine of {glue:text}`mean-cosine`, random directions have {glue:text}`chance`.
# So never read such a score without what chance gives in as many dimensions. {glue:text}`found` of the features were
# found, and {glue:text}`genuine` of the rows are genuine. Nobody told the dictionary a single direction. It saw sums.
#
# But {glue:text}`l0` rows fire on an input, and {glue:text}`true-l0` features are on in truth. The directions are
# right, and the encoder fires too often. We come back to that.
#
# ## Watch it happen
#
# In two dimensions you can see everything. We take a toy model from {doc}`why`, five features in two dimensions, and
# train a dictionary with eight rows on its hidden activations. To show what **dead** rows do, six of the eight start
# with a bias so low that they never fire. What never fires gets no gradient, so it never moves. From the middle of the
# run on, resampling gives dead rows the direction of an input that the dictionary reconstructs badly.
#
# ```{admonition} Predict
# :class: tip
# Two live rows, five features in a pentagon. Where do the two rows go at first? Where do the new ones appear?
# ```

# %%
ROWS, SMALL_STEPS, SMALL_LAM = 8, 1000, 1.2
RESAMPLE_AT = tuple(SMALL_STEPS * tenth // 10 for tenth in (4, 5, 6))
SILENCED = torch.arange(ROWS) >= 2
probability = torch.full((1, 5), 0.1)
instances = toy.ToyModel(instances=8, n_features=5, n_hidden=2)
history = toy.train(
    instances, lambda generator: toy.sparse_features(probability, 512, generator), steps=1500, lr=5e-3,
    schedule=toy.linear,
)  # fmt: skip
PENTAGON = instances.W[history.losses[-1].argmin()].detach()  # [5, 2], of the best instance


def hidden(generator: torch.Generator) -> Tensor:
    return toy.sparse_features(probability, 2048, generator)[0] @ PENTAGON


config = paper_scaled(
    SMALL_STEPS, d_sae=ROWS, lam=SMALL_LAM, lr=1e-2, batch_size=512, buffer_rows=8192, resample_inputs=4096,
    bf16=False, resample_at=RESAMPLE_AT, dead_after=50,
)  # fmt: skip
small = Trainer(config, ActivationBuffer(toy.DrawnChunks(hidden, 10**6), config.buffer_rows))
with torch.no_grad():
    small.sae.b_enc[SILENCED] = -10.0
seen = [(0, small.sae.W_dec.detach().clone(), SILENCED, 0)]  # step, rows, which of them are dead, how many resampled
for now in small.run():
    if now.step % 25 == 0:
        dead = small.silent >= min(config.dead_after, now.step)  # in the first steps: silent since the start
        seen.append((now.step, small.sae.W_dec.detach().clone(), dead, now.resampled))
small_cosines = [toy.best_cosines(PENTAGON, rows[~dead]).mean().item() for _, rows, dead, _ in seen]  # of live rows

# %% tags=["hide-input"]
#| label: fig-recovering-animation
#| caption: A dictionary of eight rows finds a pentagon. Press play, or move the slider. Above, thin lines are the true
#|   directions, thick ones the rows; dead rows are dashed. Below, the mean max cosine of the live rows.


def rays(rows: Tensor) -> dict[str, list]:
    """Lines from the origin to each row."""
    x, y = ([v for value in rows[:, axis].tolist() for v in (0, round(value, 3), None)] for axis in (0, 1))
    return {"x": x, "y": y}


def moving(index: int) -> list[go.Scatter]:
    step, rows, dead, _ = seen[index]
    return [
        go.Scatter(**rays(rows[~dead])),
        go.Scatter(**rays(rows[dead])),
        go.Scatter(x=[step], y=[small_cosines[index]]),
    ]


figure = make_subplots(rows=2, row_heights=[0.75, 0.25], vertical_spacing=0.12)
truth = torch.nn.functional.normalize(PENTAGON, dim=1) * 1.15
gray = plots.PALETTE[7]
figure.add_scatter(**rays(truth), mode="lines", name="true features", line={"color": gray, "width": 1}, row=1, col=1)
styles = [
    {"mode": "lines+markers", "name": "rows", "line": {"color": plots.PALETTE[0], "width": 5}},
    {"mode": "lines", "name": "dead rows", "line": {"color": plots.PALETTE[1], "width": 3, "dash": "dash"}},
    {"mode": "markers", "showlegend": False, "marker": {"color": plots.PALETTE[0], "size": 12}},
]
for trace, style, row in zip(moving(0), styles, (1, 1, 2), strict=True):
    figure.add_trace(trace.update(style), row=row, col=1)
figure.add_scatter(
    x=[step for step, *_ in seen], y=small_cosines, mode="lines", showlegend=False, line={"color": gray}, row=2, col=1
)
figure.frames = [
    go.Frame(name=str(seen[index][0]), data=moving(index), traces=[1, 2, 3]) for index in range(len(seen))
]
still = {"mode": "immediate", "frame": {"duration": 0, "redraw": False}, "transition": {"duration": 0}}
play = {"fromcurrent": True, "frame": {"duration": 150, "redraw": False}, "transition": {"duration": 0}}
figure.update_xaxes(range=[-1.6, 1.6], showticklabels=False, ticks="", showgrid=False, row=1, col=1)
figure.update_yaxes(range=[-1.25, 1.25], showticklabels=False, ticks="", showgrid=False, row=1, col=1)
figure.update_yaxes(scaleanchor="x", row=1, col=1)
figure.update_xaxes(title="step", row=2, col=1)
figure.update_yaxes(title="mean max cosine", range=[min(small_cosines) - 0.05, 1.05], row=2, col=1)
before = small_cosines[[step for step, *_ in seen].index(RESAMPLE_AT[0]) - 1]
plots.describe(
    figure,
    f"Animation of {len(seen)} pictures with a slider. Five true directions form a star. Of eight rows, six are dead "
    f"until step {RESAMPLE_AT[0]}, just before which the mean max cosine is {before:.2f}. Then rows are resampled, and "
    f"at the end it is {small_cosines[-1]:.2f}.",
    height=640,
    sliders=[{
        "currentvalue": {"prefix": "step "},
        "pad": {"t": 60},
        "len": 0.94,
        "steps": [{"label": f.name, "method": "animate", "args": [[f.name], still]} for f in figure.frames],
    }],
    updatemenus=[{
        "type": "buttons", "direction": "right", "x": 0, "y": 1.08, "xanchor": "left",
        "buttons": [
            {"label": "play", "method": "animate", "args": [None, play]},
            {"label": "pause", "method": "animate", "args": [[None], still]},
        ],
    }],
)  # fmt: skip

# %% tags=["remove-cell"]
final = toy.best_cosines(PENTAGON, small.sae.W_dec.detach())
chapter.number("small-before", before, ".2f")
chapter.number("small-after", small_cosines[-1], ".2f")
chapter.number("small-found", int((final > GENUINE).sum()))
chapter.number("small-resampled", seen[[step for step, *_ in seen].index(RESAMPLE_AT[0])][3])
chapter.number("small-all", sum(n for *_, n in seen))
chapter.number("small-half", RESAMPLE_AT[0])

# %% [markdown]
# Just before resampling the mean max cosine of the live rows is {glue:text}`small-before`. At step
# {glue:text}`small-half`, {glue:text}`small-resampled` rows are resampled; {glue:text}`small-all` resamplings happen in
# all. At the end it is {glue:text}`small-after`, and {glue:text}`small-found` of the five features are found.
#
# The live rows first settle *between* features, as one row has to serve several. When help comes, they can move apart.
# And the new rows appear where the loss is largest, so where a feature is missing: that is why resampling draws inputs
# by their loss. With more rows than features, some features get two.
#
# ## By how much does L1 shrink a code?
#
# Let one feature alone be on, with strength $a$, and let the dictionary have its direction. The best code minimises
# $(a - f)^2 + \lambda f$, so
#
# $$f = \max\left(0,\; a - \frac{\lambda}{2}\right).$$
#
# Every code is too small by the same $\lambda/2$, weak or strong. To test this we need a world in which features do not
# disturb each other: 32 features in 32 dimensions, at right angles.

# %%
ORTHOGONAL = torch.linalg.qr(torch.randn(N_DIMENSIONS, N_DIMENSIONS, generator=start)).Q
EQUAL = torch.full((N_DIMENSIONS,), MEAN_ON / N_DIMENSIONS)
SHRINKING = 2.0
tidy = learn(lambda generator: planted_codes(EQUAL, 4096, generator) @ ORTHOGONAL, N_DIMENSIONS, SHRINKING)
crowded = learn(planted, N_FEATURES, SHRINKING)


@torch.no_grad()
def strengths_and_codes(trainer: Trainer, directions: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """True strengths and codes, one entry where a found feature is on, both in the units of training."""
    sae = trainer.result()
    cosines = toy.cosines(torch.cat([directions, sae.W_dec]))[: len(directions), len(directions) :]
    best, match = cosines.max(1)
    codes = sae.encode(truth @ directions)[:, match]
    chosen = (truth > 0) & (best > GENUINE)
    return truth[chosen] * trainer.scale, codes[chosen] * trainer.scale


tidy_truth = planted_codes(EQUAL, 8192, torch.Generator().manual_seed(10**6))
pairs = {
    "features at right angles": strengths_and_codes(tidy, ORTHOGONAL, tidy_truth),
    "features in superposition": strengths_and_codes(crowded, DIRECTIONS, TRUTH),
}
lines = {name: np.polyfit(a[f > 0], f[f > 0], 1) for name, (a, f) in pairs.items()}

# %% tags=["hide-input"]
#| label: fig-recovering-shrinkage
#| caption: Codes against true strengths, in the units of training, in two worlds with the same λ. The solid line is the
#|   closed form, the dotted one a code without shrinkage.
figure = go.Figure()
ends = [0, max(float(a.max()) for a, _ in pairs.values())]
figure.add_scatter(x=ends, y=ends, mode="lines", name="no shrinkage", line={"color": gray, "dash": "dot"})
figure.add_scatter(
    x=[SHRINKING / 2, ends[1]], y=[0, ends[1] - SHRINKING / 2], mode="lines", name="a − λ/2", line={"color": gray}
)
for index, (name, (a, f)) in enumerate(reversed(pairs.items())):
    figure.add_scatter(
        x=a[:500].tolist(), y=f[:500].tolist(), mode="markers", name=name,
        marker={"size": 4, "color": plots.PALETTE[1 - index], "opacity": 0.7},
    )  # fmt: skip
figure.update_xaxes(title="true strength")
figure.update_yaxes(title="code")
told = "; ".join(f"{name}: slope {line[0]:.2f}, offset {line[1]:+.2f}" for name, line in lines.items())
plots.describe(figure, f"Scatter plot of codes against true strengths with λ = {SHRINKING:g}. Lines fitted: {told}.")

# %% tags=["remove-cell"]
for key, line in zip(("tidy", "crowded"), lines.values(), strict=True):
    chapter.number(f"{key}-slope", line[0], ".2f")
    chapter.number(f"{key}-offset", line[1], "+.2f")
mean_ratio = {name: (f.mean() / a.mean()).item() for name, (a, f) in pairs.items()}
chapter.number("tidy-ratio", mean_ratio["features at right angles"], ".0%")
chapter.number("crowded-ratio", mean_ratio["features in superposition"], ".0%")
chapter.number("half-lam", SHRINKING / 2, "g")
carried = tidy.sae.b_dec.detach() @ ORTHOGONAL.T  # how much of each feature the bias holds, in the units of training
chapter.number("carried", carried.mean().item(), ".2f")

# %% [markdown]
# At right angles the codes follow the formula: slope {glue:text}`tidy-slope` and offset {glue:text}`tidy-offset`, where
# $-\lambda/2$ is −{glue:text}`half-lam`. The rest of the offset has a cause that the formula leaves out: the bias
# $b_{dec}$ holds {glue:text}`carried` of each feature, on every input, and nobody charges for it.
#
# In superposition the fit has slope {glue:text}`crowded-slope` and offset {glue:text}`crowded-offset`. There the other
# features of an input leak into the code, with either sign, which scatters the points. Codes are
# {glue:text}`tidy-ratio` and {glue:text}`crowded-ratio` of the true strength on average.
#
# ```{admonition} A trap: shrinkage is not only an offset
# :class: warning
# If an encoder must tell a feature from its neighbours, it raises its threshold. That costs strength as well. Undoing
# $\lambda/2$ does not undo this part.
# ```
#
# ## Too little λ, too much λ
#
# ```{admonition} Predict
# :class: tip
# Make λ much smaller. Are more features found, or fewer? And much larger?
# ```

# %%
LAMBDAS = [0.25, 0.5, LAM, SHRINKING, 4.0, 8.0]
known = {LAM: base, SHRINKING: crowded}
by_lambda = [recovery(known.get(lam) or learn(planted, N_FEATURES, lam)) for lam in LAMBDAS]

# %% tags=["hide-input"]
#| label: fig-recovering-lambda
#| caption: What λ does to a dictionary of the right size. The table below has L0 and dead rows.


def shares(x: list[float], results: list[Recovery], x_title: str, told: str) -> go.Figure:
    names = {"features found": "found", "rows that are genuine": "genuine", "explained variance": "explained"}
    series = {title: (x, [getattr(result, field) for result in results]) for title, field in names.items()}
    figure = plots.curves(series, x_title, "share", told)
    figure.update_traces(mode="lines+markers")
    figure.update_xaxes(type="log", tickvals=x, ticktext=[f"{value:g}" for value in x])
    figure.update_yaxes(tickformat=".0%", range=[-0.02, 1.03])
    return figure


told = "; ".join(
    f"λ {lam:g}: {r.found:.0%} found, {r.genuine:.0%} genuine, {r.explained:.0%} of the variance"
    for lam, r in zip(LAMBDAS, by_lambda, strict=True)
)
shares(LAMBDAS, by_lambda, "λ", f"Three curves over λ. {told}.")

# %% tags=["hide-input"]
rows = [
    (f"{lam:g}", f"{r.l0:.1f}", r.dead, f"{r.cosines.mean():.2f}") for lam, r in zip(LAMBDAS, by_lambda, strict=True)
]
plots.table(["λ", "L0", "dead rows", "mean max cosine"], rows)

# %% tags=["remove-cell"]
best_lam = max(zip(LAMBDAS, by_lambda, strict=True), key=lambda pair: pair[1].cosines.mean())
chapter.number("best-lam", best_lam[0], "g")
chapter.number("lam-low-l0", by_lambda[0].l0, ".1f")
chapter.number("lam-low-explained", by_lambda[0].explained, ".0%")
chapter.number("lam-low-found", by_lambda[0].found, ".0%")
chapter.number("lam-high-found", by_lambda[-1].found, ".0%")
chapter.number("lam-high-dead", by_lambda[-1].dead)
high = (by_lambda[-1].cosines > GENUINE).double()
chapter.number("lam-high-common", high[:16].mean().item(), ".0%")
chapter.number("lam-high-rare", high[-16:].mean().item(), ".0%")
chapter.number("best-found", best_lam[1].found, ".0%")
chapter.number("best-explained", best_lam[1].explained, ".0%")

# %% [markdown]
# **Too low.** Reconstruction is almost free, so nothing asks for the true directions. {glue:text}`lam-low-l0` rows fire
# on an input, {glue:text}`lam-low-explained` of the variance is explained, and {glue:text}`lam-low-found` of the
# features are found.
#
# **Too high.** A code costs more than it wins. {glue:text}`lam-high-dead` rows are dead, and
# {glue:text}`lam-high-found` of the features are found: {glue:text}`lam-high-common` of the 16 most frequent ones and
# {glue:text}`lam-high-rare` of the 16 rarest.
#
# **In between**, at λ = {glue:text}`best-lam`, the directions are best: {glue:text}`best-found` found. Its explained
# variance is {glue:text}`best-explained`.
#
# ```{admonition} A trap: choosing λ by explained variance
# :class: warning
# The explained variance always prefers the smallest λ. With real activations you cannot see the other two curves. Ask
# for sparsity and for features that make sense, and distrust a dictionary that reconstructs too well.
# ```
#
# ## Too few rows, too many rows
#
# ```{admonition} Predict
# :class: tip
# There are 64 features. A dictionary of 16 rows: which features does it find? One of 256 rows: what do the other 192
# rows do?
# ```

# %%
SIZES = [16, 32, N_FEATURES, 128, 256]
by_size_runs = {size: base if size == N_FEATURES else learn(planted, size, LAM) for size in SIZES}
by_size = [recovery(run) for run in by_size_runs.values()]


@torch.no_grad()
def copies(trainer: Trainer) -> float:
    """How many live rows belong to each feature that was found."""
    sae = trainer.result()
    alive = sae.W_dec[(sae.encode(X) > 0).any(0)]
    same = (torch.nn.functional.normalize(alive, dim=1) @ DIRECTIONS.T > GENUINE).sum(0)
    return same[same > 0].double().mean().item() if (same > 0).any() else 0.0


# %% tags=["hide-input"]
#| label: fig-recovering-size
#| caption: What the number of rows does, at one λ. There are 64 true features.
told = "; ".join(
    f"{size} rows: {r.found:.0%} found, {r.genuine:.0%} genuine, {r.explained:.0%} of the variance"
    for size, r in zip(SIZES, by_size, strict=True)
)
shares(SIZES, by_size, "rows of the dictionary", f"Three curves over the size of the dictionary. {told}.")

# %% tags=["hide-input"]
frequent = slice(0, SIZES[0])
rows = [
    (
        size, f"{r.l0:.1f}", r.dead, f"{copies(by_size_runs[size]):.1f}",
        f"{(r.cosines[frequent] > GENUINE).double().mean():.0%}",
        f"{(r.cosines[-SIZES[0]:] > GENUINE).double().mean():.0%}",
    )
    for size, r in zip(SIZES, by_size, strict=True)
]  # fmt: skip
plots.table(["rows", "L0", "dead", "rows for a found feature", "16 most frequent found", "16 rarest found"], rows)

# %% tags=["remove-cell"]
few, many = by_size[0], by_size[-1]
base_found = by_size[SIZES.index(N_FEATURES)].found
chapter.number("few-genuine", few.genuine, ".0%")
chapter.number("few-frequent", (few.cosines[frequent] > GENUINE).double().mean().item(), ".0%")
chapter.number("many-l0", many.l0, ".1f")
chapter.number("many-found", many.found, ".0%")
chapter.number("many-copies", copies(by_size_runs[SIZES[-1]]), ".1f")
chapter.number("many-genuine", many.genuine, ".0%")
chapter.number("many-alive", SIZES[-1] - many.dead)
chapter.number(
    "many-verdict",
    "More rows than features do no harm to what is found. They harm"
    if many.found >= base_found
    else "So more rows than features cost some of what is found. They also harm",
)

# %% [markdown]
# **Too small.** {glue:text}`few-genuine` of the 16 rows are genuine, and {glue:text}`few-frequent` of the 16 most
# frequent features are found. What has no row of its own is not lost altogether: rows bend towards it, since every bit
# of variance counts.
#
# **Too large.** {glue:text}`many-found` of the features are found. Each has {glue:text}`many-copies` rows by now, and
# L0 is {glue:text}`many-l0`, though the world is as sparse as before. The copies share the work. For the L1 norm that
# costs nothing, as the sum of the codes is the same. So when a larger dictionary of a language model splits a feature,
# that alone does not prove that the feature had finer meanings.
#
# Not all of the other rows are copies. {glue:text}`many-alive` rows are alive, and {glue:text}`many-genuine` of these
# are genuine, copies included. The rest fire and point at no feature. {glue:text}`many-verdict` the share of rows that
# are genuine, the count of features, and L0 as a measure of the world.
#
# ## What does the encoder give up?
#
# Finding the few directions that make up $x$, in a dictionary that is *known*, is called **sparse coding**. The exact
# problem is NP-hard {cite}`natarajan1995sparse`. There are good approximations:
#
# - **Lasso**: minimise $\lVert x - f D \rVert^2 + \lambda \sum_i f_i$ with $f \ge 0$. The loss of the autoencoder, but
#   for each input by itself.
# - **Orthogonal matching pursuit** (OMP): take the direction that fits best, fit again, repeat {cite}`tropp2004greed`.
# - **ISTA** {cite}`beck2009fast` solves the lasso in steps: walk down the gradient of the squared error, then subtract
#   and cut off at zero.
#
# Look closely at one step of ISTA, from codes $f$ and with step length $\eta$:
#
# $$f \leftarrow \mathrm{ReLU}\left(f + 2\eta\,(x - f D)\,D^{\mathsf T} - \eta\lambda\right)$$
#
# From $f = 0$, the first step is $\mathrm{ReLU}(x\,(2\eta D^{\mathsf T}) - \eta\lambda)$. You know this formula: **it
# is the encoder of a sparse autoencoder**, with the transposed decoder as weights and a negative bias. What the
# autoencoder leaves out is the feedback. Later steps subtract what the codes explain already, and so neighbours stop
# shouting. The idea to train an encoder that saves steps is older than the autoencoders of interpretability
# {cite}`gregor2010learning`.
#
# ```{admonition} Predict
# :class: tip
# How many steps of ISTA does it take to be as good as the trained encoder, on the trained decoder?
# ```

# %%
@torch.no_grad()
def ista(x: Tensor, D: Tensor, lam: float, steps: int, momentum: bool) -> list[Tensor]:
    """Codes [n, rows of D] after each of `steps` steps for the lasso; with momentum this is FISTA."""
    eta = 1 / (2 * torch.linalg.matrix_norm(D, 2) ** 2)
    codes = ahead = x.new_zeros(len(x), len(D))
    t, every = 1.0, []
    for _ in range(steps):
        new = torch.relu(ahead + 2 * eta * (x - ahead @ D) @ D.T - eta * lam)
        t_new = (1 + math.sqrt(1 + 4 * t * t)) / 2
        ahead = new + (t - 1) / t_new * (new - codes) if momentum else new
        codes, t = new, t_new
        every.append(codes)
    return every


sae = base.result()
decoder, raw_lam = sae.W_dec.detach(), LAM / base.scale  # λ in the units of the raw activations
some = X[(TRUTH > 0).any(1)][:1000]
some_truth = TRUTH[(TRUTH > 0).any(1)][:1000]
centred = some - sae.b_dec.detach()


def loss_of(codes: Tensor) -> float:
    """The training loss with these codes on the trained decoder, per input."""
    return ((centred - codes @ decoder).square().sum(1) + raw_lam * codes.sum(1)).mean().item()


ITERATIONS = 100
losses = {
    name: [loss_of(codes) for codes in ista(centred, decoder, raw_lam, ITERATIONS, momentum)]
    for name, momentum in (("ISTA", False), ("FISTA", True))
}
encoder_loss = loss_per_example(sae, some, raw_lam).mean().item()


def lasso(x: Tensor, D: Tensor, lam: float) -> Tensor:
    """scikit-learn's solution; its objective is half of ours."""
    codes = sparse_encode(x.double().numpy(), D.double().numpy(), algorithm="lasso_cd", alpha=lam / 2, positive=True)
    return torch.from_numpy(codes).float()


lasso_codes = lasso(centred, decoder, raw_lam)
lasso_loss = loss_of(lasso_codes)

# %% tags=["hide-input"]
#| label: fig-recovering-ista
#| caption: The autoencoder's own loss, on its own decoder, when the codes come from its encoder, from steps of ISTA and
#|   FISTA, or from scikit-learn's lasso, which is the minimum.
steps_axis = list(range(1, ITERATIONS + 1))
figure = plots.curves(
    {
        **{name: (steps_axis, values) for name, values in losses.items()},
        "encoder of the autoencoder": ([1, ITERATIONS], [encoder_loss] * 2),
        "lasso (scikit-learn)": ([1, ITERATIONS], [lasso_loss] * 2),
    },
    "steps",
    "loss per input",
    f"Curves of the loss over {ITERATIONS} steps. ISTA starts at {losses['ISTA'][0]:.2f} and ends at "
    f"{losses['ISTA'][-1]:.3f}, FISTA at {losses['FISTA'][-1]:.3f}. The encoder has {encoder_loss:.3f}, the lasso "
    f"{lasso_loss:.3f}.",
)
figure.update_traces(line_dash="dot", selector=lambda trace: "ISTA" not in trace.name)
figure.update_xaxes(type="log", dtick=1)
figure

# %% tags=["remove-cell"]
worth = {
    name: next((step for step, value in enumerate(values, 1) if value <= encoder_loss), None)
    for name, values in losses.items()
}
chapter.number("encoder-loss", encoder_loss, ".3f")
chapter.number("lasso-loss", lasso_loss, ".3f")
chapter.number("fista-gap", losses["FISTA"][-1] / lasso_loss - 1, ".2%")
chapter.number("excess", encoder_loss / lasso_loss - 1, ".0%")
chapter.number("worth-ista", worth["ISTA"] or f"more than {ITERATIONS}")
chapter.number("worth-fista", worth["FISTA"] or f"more than {ITERATIONS}")

# %% [markdown]
# The encoder is worth {glue:text}`worth-ista` steps of ISTA, or {glue:text}`worth-fista` of FISTA. Its loss is
# {glue:text}`excess` above the minimum that scikit-learn finds. (FISTA comes to within {glue:text}`fista-gap` of that,
# so the two implementations agree.) Training made one product of matrices as good as several rounds, and it stops
# there.
#
# What does that cost in features? We call a feature *on* if its code is above 0.25, half of the weakest true strength,
# and compare with the truth. OMP stops when the error is below a twentieth of the mean squared norm.

# %%
ON = WEAKEST / 2


def omp(x: Tensor, D: Tensor) -> Tensor:
    """scikit-learn's orthogonal matching pursuit, up to six directions for each input, as few as explain it."""
    codes = torch.zeros(len(x), len(D))
    allowed = 0.05 * x.square().sum(1).mean()
    open_ = torch.ones(len(x), dtype=torch.bool)
    for k in range(1, 2 * MEAN_ON + 1):
        found = sparse_encode(x[open_].double().numpy(), D.double().numpy(), algorithm="omp", n_nonzero_coefs=k)
        codes[open_] = torch.from_numpy(found).float()
        open_ = (x - codes @ D).square().sum(1) > allowed
        if not open_.any():
            break
    return codes


def judged(codes: Tensor, D: Tensor) -> tuple[float, float, float]:
    """Precision, recall, and mean error of the strengths where both agree, for codes of the rows of D."""
    cosines = torch.nn.functional.normalize(DIRECTIONS, dim=1) @ torch.nn.functional.normalize(D, dim=1).T
    best, match = cosines.max(1)
    mine = codes[:, match] * (best > GENUINE)
    spurious = ((codes > ON).sum(1) - (mine > ON).sum(1)).clamp(min=0).sum()  # rows that are nobody's best
    hits = (mine > ON) & (some_truth > 0)
    precision = hits.sum() / ((mine > ON).sum() + spurious).clamp(min=1)
    return precision.item(), (hits.sum() / (some_truth > 0).sum()).item(), (mine - some_truth)[hits].mean().item()


with torch.no_grad():
    methods = {
        ("trained", "encoder"): (sae.encode(some), decoder),
        ("trained", "lasso"): (lasso_codes, decoder),
        ("trained", "OMP"): (omp(centred, decoder), decoder),
        ("true", "lasso"): (lasso(some, DIRECTIONS, raw_lam), DIRECTIONS),
        ("true", "OMP"): (omp(some, DIRECTIONS), DIRECTIONS),
    }
scores = {key: judged(*value) for key, value in methods.items()}
plots.table(
    ["directions", "codes from", "precision", "recall", "mean error of a code"],
    [(*key, f"{p:.0%}", f"{r:.0%}", f"{e:+.2f}") for key, (p, r, e) in scores.items()],
)

# %% tags=["remove-cell"]
encoder_scores, lasso_scores, omp_scores = (scores["trained", name] for name in ("encoder", "lasso", "OMP"))
chapter.number("encoder-precision", encoder_scores[0], ".0%")
chapter.number("encoder-recall", encoder_scores[1], ".0%")
chapter.number("lasso-precision", lasso_scores[0], ".0%")
chapter.number("lasso-recall", lasso_scores[1], ".0%")
chapter.number("omp-precision", omp_scores[0], ".0%")
chapter.number("omp-recall", omp_scores[1], ".0%")
chapter.number("true-omp-precision", scores["true", "OMP"][0], ".0%")
chapter.number("encoder-code", encoder_scores[2], "+.2f")
chapter.number("omp-code", omp_scores[2], "+.2f")

# %% [markdown]
# With the same trained directions, the encoder has a precision of {glue:text}`encoder-precision` and a recall of
# {glue:text}`encoder-recall`, the lasso {glue:text}`lasso-precision` and {glue:text}`lasso-recall`, OMP
# {glue:text}`omp-precision` and {glue:text}`omp-recall`. With the true directions, OMP has a precision of
# {glue:text}`true-omp-precision`. OMP fits strengths without a price, so its codes do not shrink: their mean error is
# {glue:text}`omp-code`, the encoder's {glue:text}`encoder-code`.
#
# So there are two gaps, and they have different causes. One is in the *directions*, the other in the *codes*.
# Interpretability mostly cares for the first.
#
# ## Where no method can succeed
#
# How many features may be on at once? This is the question of **compressed sensing**. Two answers for $n$ directions in
# $d$ dimensions, with $k$ of them on:
#
# - A guarantee. Let $\mu$ be the largest cosine between two directions. If $k < (1 + 1/\mu)/2$, OMP and the lasso find
#   the right features, always {cite}`tropp2004greed`.
# - A typical case. For random directions, positive codes and vanishing λ, the lasso succeeds up to a sharp border. It
#   lies where the **statistical dimension** of the problem reaches $d$ {cite}`amelunxen2014edge`:
#
# $$\delta(k) = \min_{\tau \ge 0}\; k\,(1 + \tau^2) + (n - k)\,\mathrm{E}\big[\max(0, g - \tau)^2\big], \qquad
# g \sim \mathcal N(0, 1).$$

# %%
def statistical_dimension(k: int, n: int) -> float:
    """Dimensions that n non-negative codes, k of them on, need to be found by the lasso without noise."""
    tau = np.linspace(0, 6, 2001)
    tail = (1 + tau**2) * norm.sf(tau) - tau * norm.pdf(tau)  # the mean of max(0, g - tau)²
    return float((k * (1 + tau**2) + (n - k) * tail).min())


coherence = (DIRECTIONS @ DIRECTIONS.T - torch.eye(N_FEATURES)).abs().max().item()
guaranteed = (1 + 1 / coherence) / 2
border = next(k for k in range(1, N_FEATURES) if statistical_dimension(k, N_FEATURES) > N_DIMENSIONS)

# %% [markdown]
# ```{admonition} Predict
# :class: tip
# For our 64 directions in 32 dimensions: up to how many features at once does the guarantee hold? Where is the border
# of the lasso? And the autoencoder, trained on three at a time: where does it fail?
# ```

# %%
ON_AT_ONCE = [1, 2, 3, 4, 6, 8, 11, 14, 17, 20, 24]
TRIES = chapter.size(quick=100, full=500)


def exactly(k: int, generator: torch.Generator) -> Tensor:
    """Strengths [TRIES, N_FEATURES] with exactly k features on."""
    chosen = torch.rand(TRIES, N_FEATURES, generator=generator).argsort(1)[:, :k]
    strength = WEAKEST + (STRONGEST - WEAKEST) * torch.rand(TRIES, k, generator=generator)
    return torch.zeros(TRIES, N_FEATURES).scatter_(1, chosen, strength)


generator = torch.Generator().manual_seed(1)
matched = (DIRECTIONS @ torch.nn.functional.normalize(decoder, dim=1).T).argmax(1)
LEARNED_LASSO = "lasso on the learned directions"  # all that the autoencoder has, and feedback
success: dict[str, list[float]] = {
    "OMP": [], "lasso": [], "largest products": [], LEARNED_LASSO: [], "autoencoder": []
}  # fmt: skip
for k in ON_AT_ONCE:
    truth = exactly(k, generator)
    x = truth @ DIRECTIONS
    arrays = x.double().numpy(), DIRECTIONS.double().numpy()
    products = x @ DIRECTIONS.T
    with torch.no_grad():
        codes = {
            "OMP": sparse_encode(*arrays, algorithm="omp", n_nonzero_coefs=k),
            "lasso": sparse_encode(*arrays, algorithm="lasso_lars", alpha=1e-4, positive=True, max_iter=500),
            "largest products": (products >= products.topk(k).values[:, -1:]).float(),
            LEARNED_LASSO: lasso(x - sae.b_dec, decoder, raw_lam)[:, matched],
            "autoencoder": sae.encode(x)[:, matched],
        }
    for name, found in codes.items():
        right = ((torch.as_tensor(found) > ON) == (truth > 0)).all(1)
        success[name].append(right.double().mean().item())

# %% tags=["hide-input"]
#| label: fig-recovering-limits
#| caption: Share of inputs on which exactly the right features are found, by how many are on. Dotted, the guarantee
#|   (left) and the border of the lasso (right).
figure = plots.curves(
    {name: (ON_AT_ONCE, values) for name, values in success.items()},
    "features on at once",
    "inputs with all features right",
    "Five falling curves. "
    + "; ".join(
        f"{name}: {values[ON_AT_ONCE.index(3)]:.0%} with 3 features on, {values[ON_AT_ONCE.index(11)]:.0%} with 11"
        for name, values in success.items()
    )
    + f". The guarantee ends at {guaranteed:.1f}, the border of the lasso lies at {border}.",
)
figure.update_traces(mode="lines+markers")
for place in (guaranteed, border):
    figure.add_vline(place, line={"dash": "dot", "color": gray})
figure.update_yaxes(tickformat=".0%", range=[-0.02, 1.03])
figure

# %% tags=["remove-cell"]
half = next((k for k, value in zip(ON_AT_ONCE, success["lasso"], strict=True) if value < 0.5), None)
chapter.number("coherence", coherence, ".2f")
chapter.number("guaranteed", guaranteed, ".1f")
chapter.number("border", border)
chapter.number("half", f"at {half}" if half else f"beyond {ON_AT_ONCE[-1]}")
chapter.number("sae-one", success["autoencoder"][0], ".0%")
chapter.number("sae-three", success["autoencoder"][ON_AT_ONCE.index(3)], ".0%")
chapter.number("omp-three", success["OMP"][ON_AT_ONCE.index(3)], ".0%")
chapter.number("lasso-three", success["lasso"][ON_AT_ONCE.index(3)], ".0%")
one, three = ({name: values[ON_AT_ONCE.index(k)] for name, values in success.items()} for k in (1, 3))
chapter.number("learned-one", one[LEARNED_LASSO], ".0%")
chapter.number("learned-three", three[LEARNED_LASSO], ".0%")
chapter.number("trained-lam", LAM, "g")
total_gap = three["lasso"] - three["autoencoder"]
of_feedback = three[LEARNED_LASSO] - three["autoencoder"]
chapter.number("feedback-gap", f"{100 * of_feedback:.0f} of {100 * total_gap:.0f} points")
chapter.number(
    "feedback-verdict",
    "So the missing feedback is most of it."
    if of_feedback > total_gap / 2
    else "So the missing feedback is a part of it, and not the larger one."
    if of_feedback > 0
    else "So feedback alone would not help here.",
)

# %% [markdown]
# Two of our directions have a cosine of {glue:text}`coherence`, so the guarantee holds for fewer than
# {glue:text}`guaranteed` features. It protects against the worst case, and the worst case is rare. The border of the
# lasso is predicted at {glue:text}`border`; measured, it succeeds less than half of the time {glue:text}`half`
# features. (We ask for the right features only, not for their strengths, and 32 dimensions are few. So the border is
# not sharp.)
#
# The cheapest method takes the directions with the largest products $x \cdot d_i$, and is told how many, as OMP is. One
# feature alone it cannot miss. But it ignores that directions overlap, and pays for that as soon as several are on.
#
# The autoencoder gets everything right on {glue:text}`sae-one` of the inputs with one feature, and on
# {glue:text}`sae-three` of those with three, where OMP has {glue:text}`omp-three` and the lasso
# {glue:text}`lasso-three`. *All features right* is a hard test. And it is not a fair one yet: the two get the true
# directions, OMP is told how many features are on, and the lasso has next to no λ. The autoencoder has directions that
# it learned, and codes that λ = {glue:text}`trained-lam` shrinks towards our threshold.
#
# So the fifth curve is a lasso with the autoencoder's directions, bias and λ. All that it adds is feedback. It gets
# {glue:text}`learned-one` right with one feature and {glue:text}`learned-three` with three. Of the gap between
# autoencoder and lasso with three features, feedback makes up {glue:text}`feedback-gap`. {glue:text}`feedback-verdict`
#
# And yet it found the directions. That is the good news of this chapter. To *learn* a direction it is enough to be
# right on average, over many inputs.
#
# ## What the sources say, what we found
#
# ```{list-table}
# :header-rows: 1
#
# * -
#   - the sources
#   - here
# * - all features of a toy model recovered
#   - with resampling, yes (exercises in ARENA's course); the toy model is that of {cite}`elhage2022superposition`
#   - {glue:text}`small-found` of 5; mean max cosine {glue:text}`small-after`
# * - shrinkage of a lone feature
#   - $\lambda/2$ for a summed squared error
#   - slope {glue:text}`tidy-slope`, offset {glue:text}`tidy-offset` for λ/2 = {glue:text}`half-lam`
# * - sparse coding and autoencoders
#   - exact search is NP-hard {cite}`natarajan1995sparse`; an autoencoder is weaker, and this may be closer to what a
#     model can use {cite}`bricken2023monosemanticity`
#   - on inputs with three features, all right: autoencoder {glue:text}`sae-three`, lasso on its directions
#     {glue:text}`learned-three`; OMP on the true ones, told how many, {glue:text}`omp-three`
# * - mean max cosine
#   - a score for dictionaries against each other {cite}`cunningham2023sparse`
#   - {glue:text}`mean-cosine` against the truth; chance {glue:text}`chance`
# ```
#
# **How our set-up differs.** Our features are independent, have linear directions, and add up without noise. Features
# of a language model are correlated, have families, and may not be directions at all. Success here is necessary and not
# sufficient. The last exercise breaks the first of these assumptions.
#
# ```{admonition} Takeaways
# :class: note
# - Ask two questions: was everything found, and is everything genuine. Know what chance gives.
# - A λ that is too low looks excellent in explained variance. One that is too high kills rows.
# - A dictionary that is too large still finds the features, several times over.
# - An encoder is one step of ISTA, trained. It is weaker than sparse coding, and the directions come out all the same.
# ```
#
# ## Exercises
#
# ```{exercise-start} Found, or genuine
# :label: ex-recovering-score
# ```
# *Difficulty 2/5 · importance 5/5 · 10 minutes.* Write `found_share(true, learned)`: the share of the rows of `true`
# that have a row of `learned` with a cosine above 0.9. Rows may have any length. Codes are never negative, so an
# opposite direction is no match.
#
# ````{admonition} Hint 1
# :class: dropdown
# Scale the rows of both matrices to length 1. Then a product of matrices holds all cosines.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# Which axis belongs to `learned`? Take the maximum over that one, and no absolute value.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def found_share(true, learned):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-recovering-score")
def check_found_share(found_share):
    axes = torch.eye(4)
    for true, learned in ((axes, axes[[2, 0, 3, 1]] * 7), (axes / 3, axes), (axes * 3, axes / 9)):
        assert float(found_share(true, learned)) == 1, "the order and the length of rows do not matter"
    assert float(found_share(axes, axes[:1].repeat(6, 1))) == 0.25, "one direction six times over finds one of four"
    assert float(found_share(axes, -axes)) == 0, "an opposite direction is no match"
    tilted = axes.clone()
    tilted[0, 1] = 1.0
    assert float(found_share(axes, tilted)) == 0.75, "a row half way between two features is neither of them"
    for cosine, share in ((0.88, 0.75), (0.92, 1.0)):
        tilted[0, 1] = math.sqrt(1 - cosine**2) / cosine
        assert float(found_share(axes, tilted)) == share, "two directions are the same from a cosine of 0.9 on"
    assert math.isclose(float(found_share(DIRECTIONS, decoder)), result.found), "on the chapter's dictionary it differs"


check_found_share(found_share)

# %% [markdown]
# ````{solution-start} ex-recovering-score
# :class: dropdown
# ````

# %%
def found_share(true, learned):
    true = true / true.norm(dim=1, keepdim=True)
    learned = learned / learned.norm(dim=1, keepdim=True)
    return ((true @ learned.T).amax(1) > 0.9).double().mean()


check_found_share(found_share)

# %% [markdown]
# `found_share(learned, true)` is the other question. Six copies of one direction are all genuine and find one feature
# of four. A single number cannot tell both.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
def unit(rows):
    return rows / rows.norm(dim=1, keepdim=True)


def other_axis(true, learned):
    return ((unit(true) @ unit(learned).T).amax(0) > 0.9).double().mean()


def either_sign(true, learned):
    return ((unit(true) @ unit(learned).T).abs().amax(1) > 0.9).double().mean()


check_found_share.refuses(other_axis, because="six times over")
check_found_share.refuses(either_sign, because="opposite")
check_found_share.refuses(lambda t, d: ((t @ d.T).amax(1) > 0.9).double().mean(), because="length of rows")
check_found_share.refuses(lambda t, d: ((t @ unit(d).T).amax(1) > 0.9).double().mean(), because="length of rows")
check_found_share.refuses(lambda t, d: ((unit(t) @ unit(d).T).amax(1) > 0.8).double().mean(), because="0.9 on")

# %% [markdown]
# ```{exercise-start} An encoder without training
# :label: ex-recovering-encoder
# ```
# *Difficulty 3/5 · importance 5/5 · 15 minutes.* Write `first_step(D, lam)`. It returns `W_enc` of shape `[d, n]` and
# `b_enc` of shape `[n]`, such that `relu(x @ W_enc + b_enc)` is the first step of ISTA from $f = 0$ for a dictionary
# `D` of shape `[n, d]`, with the step length $\eta = 1/(2 s^2)$, where $s$ is the largest singular value of `D`.
#
# ````{admonition} Hint 1
# :class: dropdown
# Put $f = 0$ into the formula of a step and multiply out.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# `torch.linalg.matrix_norm(D, 2)` is $s$. The bias is the same for all rows, and negative.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def first_step(D, lam):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-recovering-encoder")
def check_first_step(first_step):
    W_enc, b_enc = first_step(DIRECTIONS, 0.3)
    assert W_enc.shape == (N_DIMENSIONS, N_FEATURES), "W_enc has a row for each dimension and a column for each feature"
    assert b_enc.shape == (N_FEATURES,) and (b_enc < 0).all(), "b_enc is negative: it is the price of a code"
    codes = torch.relu(some @ W_enc + b_enc)
    (expected,) = ista(some, DIRECTIONS, 0.3, 1, momentum=False)
    assert (codes > 0).eq(expected > 0).double().mean() > 0.999, "other features are on than after a step of ISTA"
    assert torch.allclose(codes, expected, atol=1e-4), "the right features are on, but the codes have another size"


check_first_step(first_step)

# %% [markdown]
# ````{solution-start} ex-recovering-encoder
# :class: dropdown
# ````

# %%
def first_step(D, lam):
    eta = 1 / (2 * torch.linalg.matrix_norm(D, 2) ** 2)
    return 2 * eta * D.T, -eta * lam * torch.ones(len(D))


W_enc, b_enc = first_step(decoder, raw_lam)
trained = (torch.nn.functional.normalize(sae.W_enc, dim=0) * torch.nn.functional.normalize(W_enc, dim=0)).sum(0)
print(f"cosine of trained and computed encoder columns: median {trained.median():.2f}")
print(f"median bias: trained {sae.b_enc.median():.2f}, computed {b_enc.median():.3f}")
check_first_step(first_step)

# %% [markdown]
# The trained encoder looks the same way as the decoder, but not exactly: it turns away from neighbours. And its biases
# are much more negative. With them, it makes up for the feedback that it does not have.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
def without_two(D, lam):
    W, b = first_step(D, lam)
    return W / 2, b


def without_eta(D, lam):
    W, b = first_step(D, lam)
    return W, -lam * torch.ones(len(D))


check_first_step.refuses(without_two, because="other features are on")
check_first_step.refuses(without_eta, because="other features are on")
check_first_step.refuses(lambda D, lam: (D, first_step(D, lam)[1]), because="a row for each dimension")
check_first_step.refuses(lambda D, lam: tuple(2 * part for part in first_step(D, lam)), because="another size")

# %% [markdown]
# ```{exercise-start} Undo the shrinkage
# :label: ex-recovering-refit
# ```
# *Difficulty 3/5 · importance 4/5 · 20 minutes.* The lasso chooses features, and its price shrinks their codes. Keep
# the choice and pay no price: write `refit(x, codes, D)` for one input `x` of shape `[d]` and its `codes` of shape
# `[n]`. It returns codes `[n]` that are zero where `codes` are, and elsewhere make the squared error as small as
# possible.
#
# ````{admonition} Hint 1
# :class: dropdown
# `on = codes > 0` and `D[on]` are the directions in use. What is left is a least-squares problem with few unknowns.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# `torch.linalg.lstsq(D[on].T, x[:, None]).solution[:, 0]`. Mind inputs on which no code is on.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def refit(x, codes, D):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-recovering-refit")
def check_refit(refit):
    shrunk = torch.relu(some_truth - 0.3)
    for x, codes, truth in zip(some[:50], shrunk[:50], some_truth[:50], strict=True):
        new = refit(x, codes, DIRECTIONS)
        assert new.shape == codes.shape, "return one code for each row of D"
        assert (new[codes == 0] == 0).all(), "a feature that was off must stay off"
        assert torch.allclose(new, truth, atol=1e-3), "the right features were chosen, but the strengths are not exact"
    assert (refit(some[0], torch.zeros(N_FEATURES), DIRECTIONS) == 0).all(), "without any code on, all codes stay zero"


check_refit(refit)

# %% [markdown]
# ````{solution-start} ex-recovering-refit
# :class: dropdown
# ````

# %%
def refit(x, codes, D):
    on = codes > 0
    new = torch.zeros_like(codes)
    if on.any():
        new[on] = torch.linalg.lstsq(D[on].T, x[:, None]).solution[:, 0]
    return new


refitted = torch.stack([refit(x, codes, decoder) for x, codes in zip(centred[:200], lasso_codes[:200], strict=True)])
for name, codes in (("lasso", lasso_codes[:200]), ("refitted", refitted)):
    print(f"{name:8} squared error {(centred[:200] - codes @ decoder).square().sum(1).mean():.4f}")
check_refit(refit)

# %% [markdown]
# Choosing features and measuring their strength are two tasks, and the L1 norm mixes them. Gated autoencoders separate
# them in training, with one path for each.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
def projected(x, codes, D):
    return (D @ x) * (codes > 0)


def everything(x, codes, D):
    return torch.linalg.lstsq(D.T, x[:, None], driver="gelsd").solution[:, 0]


check_refit.refuses(projected, because="strengths are not exact")
check_refit.refuses(everything, because="must stay off")
check_refit.refuses(lambda x, codes, D: codes, because="strengths are not exact")

# %% [markdown]
# ```{exercise-start} How many dimensions?
# :label: ex-recovering-dimensions
# ```
# *Difficulty 3/5 · importance 3/5 · 15 minutes.* A residual stream has $d$ dimensions, and a model wants to store $n$
# features of which $k$ are on. Write `most_features(d, k)`: the largest $n$, up to a million, for which the lasso still
# finds codes, by the formula of the statistical dimension. Before you run it: is $n$ proportional to $d$?
#
# ````{admonition} Hint 1
# :class: dropdown
# `statistical_dimension(k, n)` grows with $n$. Look for the last $n$ at which it is not above $d$.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# Halve an interval, from $k$ to a million, again and again.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def most_features(d, k):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-recovering-dimensions")
def check_most_features(most_features):
    for d, k in ((32, 5), (32, 12), (128, 10), (512, 60)):
        n = most_features(d, k)
        assert n == int(n) and k <= n <= 10**6, "a whole number from k to a million"
        assert statistical_dimension(k, int(n)) <= d, f"n = {n} features with {k} on need more than {d} dimensions"
        assert n == 10**6 or statistical_dimension(k, int(n) + 1) > d, f"in {d} dimensions there is room for more"
    assert most_features(512, 5) == 10**6, "a million is the most that is asked for"


check_most_features(most_features)

# %% [markdown]
# ````{solution-start} ex-recovering-dimensions
# :class: dropdown
# ````

# %%
def most_features(d, k):
    low, high = k, 10**6
    while low < high:
        middle = (low + high + 1) // 2
        if statistical_dimension(k, middle) <= d:
            low = middle
        else:
            high = middle - 1
    return low


for d in (64, 128, 256, 512):
    most = [f"{'≥ ' if n == 10**6 else ''}{n:,}" for n in (most_features(d, 10), most_features(d, d // 4))]
    print(f"{d:4} dimensions: {most[0]:>11} features with 10 on, {most[1]:>11} with d/4 on")
check_most_features(most_features)

# %% [markdown]
# With a fixed number on, the number of features grows exponentially with the dimensions. If the number on grows in
# proportion to the dimensions, so does the number of features. Sparsity is what pays for superposition.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
check_most_features.refuses(lambda d, k: d, because="room for more")
check_most_features.refuses(lambda d, k: 10**6, because="need more than")
check_most_features.refuses(lambda d, k: most_features(d, k) + 1, because="need more than")

# %% [markdown]
# ```{exercise-start} A world that fools the dictionary
# :label: ex-recovering-fool
# ```
# *Difficulty 4/5 · importance 5/5 · 30 minutes.* Open-ended. The directions are at right angles, the dictionary has a
# row for each, and λ is right. Make it fail all the same, by *when* features are on. Write `world(generator)`:
# strengths of shape `[4096, 32]`, zero or positive, such that each feature is on in at least 1 % and at most 20 % of
# the rows, no two features are on in exactly the same rows, and the dictionary finds less than 80 % of them.
#
# ````{admonition} Hint 1
# :class: dropdown
# The chapter's features are independent of each other. Those of a text are not.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# What is the cheapest code, if "a letter" is on whenever "the letter z" is? What if two features are nearly always on
# together?
# ````
# ```{exercise-end}
# ```

# %%
def found_in(world: Callable[[torch.Generator], Tensor]) -> float:
    """Share of the 32 orthogonal directions that a dictionary finds, if `world` says when they are on."""
    run = learn(lambda generator: world(generator) @ ORTHOGONAL, N_DIMENSIONS, 0.5, steps=500, batch_size=512)
    return (toy.best_cosines(ORTHOGONAL, run.sae.W_dec.detach()) > GENUINE).double().mean().item()


# %% tags=["stub"]
def world(generator):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-recovering-fool")
def check_world(world):
    strength = world(torch.Generator().manual_seed(7))
    assert strength.shape == (4096, N_DIMENSIONS), "strengths of shape [4096, 32]"
    assert (strength >= 0).all(), "strengths are zero or positive"
    on = (strength > 0).double()
    density = on.mean(0)
    assert (density >= 0.01).all() and (density <= 0.2).all(), "each feature is on in 1 % to 20 % of the rows"
    different = (on[:, :, None] != on[:, None]).double().sum(0) + torch.eye(N_DIMENSIONS)
    assert (different > 0).all(), "two features are on in exactly the same rows: nobody could tell them apart"
    share = found_in(world)
    assert share < 0.8, f"the dictionary still finds {share:.0%} of the features"


check_world(world)

# %% [markdown]
# ````{solution-start} ex-recovering-fool
# :class: dropdown
# ````
#
# One of many answers: features come in pairs, and nine times out of ten both of a pair are on.

# %%
def world(generator):
    rows, n_pairs = 4096, N_DIMENSIONS // 2
    pair = torch.rand(rows, n_pairs, generator=generator) < 0.1
    lone = torch.rand(rows, n_pairs, generator=generator)
    on = torch.stack([pair & (lone > 0.05), pair & (lone < 0.95)], 2).flatten(1)
    return on * (0.5 + torch.rand(rows, N_DIMENSIONS, generator=generator))


print(f"{found_in(world):.0%} of the features are found")
check_world(world)

# %% [markdown]
# One row for both costs less L1 norm than two: for codes $a$ and $a$ the price is $\sqrt{2}\,a$ instead of $2a$. So the
# dictionary keeps one row for the pair, in a direction *between* them. It explains most of the variance, it fires
# sparsely, it would look fine on every curve of this chapter but one. And that one you cannot draw for a language
# model.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
def independent(generator):
    return planted_codes(EQUAL, 4096, generator)


def identical(generator):
    return planted_codes(EQUAL[:16], 4096, generator).repeat_interleave(2, 1)


check_world.refuses(independent, because="still finds")
check_world.refuses(identical, because="exactly the same rows")
check_world.refuses(lambda generator: planted_codes(EQUAL * 8, 4096, generator), because="1 % to 20 %")
