# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Phase changes
#
# In the last chapter, more sparsity meant more superposition. You may picture a smooth slide. It is not smooth. Water
# does not turn into ice by becoming slowly thicker, and a feature does not slowly move into superposition. This chapter
# looks at the borders, at what lies between them, and at the jumps.
#
# ```{admonition} Before you start
# **You will be able to**
# - compute where the border between two solutions lies, and check it against a thousand trained models;
# - measure the share of a dimension that a feature has, and recognise polytopes by it;
# - explain why the best arrangement jumps although the loss changes smoothly;
# - see such jumps in a training run, and tell what they do to the loss.
#
# **You need** the chapter {doc}`why`.
#
# **Time**: 35 minutes to read, one to two minutes to run.
# ```
#
# ## Two features, one dimension
#
# We follow *Toy Models of Superposition* {cite}`elhage2022superposition` again. The smallest question is this: two
# features, one hidden dimension. Feature 1 has importance 1, feature 2 has importance $I$, and both are on with
# probability $p = 1 - S$. Three simple solutions come to mind.
#
# | $\mathbf{W}$ | what happens | loss |
# |---|---|---|
# | $[1, 0]$ | feature 2 is **not learned**; its bias is its mean | $I\,v(p)$ |
# | $[0, 1]$ | feature 2 has the dimension to itself: **dedicated** | $v(p)$ |
# | $[1, -1]$ | both share it: **superposed** | $(1 + I)\, p^2 / 6$ |
#
# Here $v(p) = p/3 - p^2/4$ is the variance of a feature, which is what a bias cannot remove. A pair errs only if both
# are on, with probability $p^2$, and then misses by the smaller of the two values, whose mean square is $1/6$. The
# exercises of the last chapter ask you to derive both.
#
# ```{admonition} Predict
# :class: tip
# Draw a map with the importance $I$ on the horizontal and the density $p$ on the vertical axis, both logarithmic. Where
# are the three regions? Do they all meet? Will trained models change smoothly from one region to the next?
# ```

# %% tags=["hide-input"]
import itertools
from functools import partial

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import Tensor

from sae_core import chapter, plots, toy
from sae_core.exercises import check

# %% [markdown]
# The map has a point for each pair of density and importance, and several models for each point, which differ only in
# their random start. All of them train at once. We keep the best one of each point. To find it, we need losses without
# sampling noise: we weigh every set of features that can be on by its probability, as in the last chapter.

# %%
GRID = chapter.size(quick=15, full=30)
TRIES = chapter.size(quick=6, full=10)
DENSITIES, IMPORTANCES = torch.logspace(0, -2, GRID), torch.logspace(-1, 1, GRID)
HALF = 0.5  # represented from this length on, superposed from this much sharing on


def exact_loss(model: toy.ToyModel, probability: Tensor, importance: Tensor) -> Tensor:
    """Loss of each instance [instances], without sampling of who is on.

    probability, importance: [instances, n_features]. For few features only: it looks at all 2^n sets.
    """
    n = probability.shape[1]
    sets = torch.tensor(list(itertools.product([0.0, 1.0], repeat=n)))
    values = torch.quasirandom.SobolEngine(n, scramble=True, seed=0).draw(256)
    chance = torch.where(sets > 0, probability[:, None], 1 - probability[:, None]).prod(-1)
    total = torch.zeros(len(probability))
    with torch.no_grad():
        for i, on in enumerate(sets):
            x = (on * values)[None]
            total += chance[:, i] * toy.squared_error(model(x), x, importance[:, None])
    return total


def best_models(n: int, m: int) -> Tensor:
    """The best directions [GRID, GRID, n, m] for each density (first axis) and importance of the last feature."""
    density = DENSITIES.repeat_interleave(GRID * TRIES)[:, None].expand(-1, n)
    importance = torch.ones(GRID * GRID * TRIES, n)
    importance[:, -1] = IMPORTANCES.repeat_interleave(TRIES).repeat(GRID)

    def draw(generator: torch.Generator) -> Tensor:
        """One batch for each density, which all models of that density see."""
        return toy.sparse_features(DENSITIES[:, None].expand(-1, n), 256, generator).repeat_interleave(GRID * TRIES, 0)

    model = toy.ToyModel(len(importance), n, m)
    loss = partial(toy.squared_error, importance=importance[:, None])
    toy.train(model, draw, chapter.size(quick=1000, full=3000), loss=loss, lr=0.03, schedule=toy.cosine)
    best = exact_loss(model, density, importance).view(-1, TRIES).argmin(1)
    W = model.W.detach().view(GRID * GRID, TRIES, n, m)
    return W[torch.arange(GRID * GRID), best].view(GRID, GRID, n, m)


PHASES = ["not learned", "dedicated", "superposed"]


def phase(W: Tensor) -> Tensor:
    """Phase of the last feature [...] for directions [..., n, m], as an index into PHASES."""
    represented = toy.feature_norms(W)[..., -1] > HALF
    shares = toy.interference(W)[..., -1] > HALF
    return torch.where(represented, 1 + shares.long(), 0)


def variance(p: Tensor) -> Tensor:
    return p / 3 - p**2 / 4


def least_of_two(p: Tensor, importance: Tensor) -> Tensor:
    """Phase of least closed-form loss for two features in one dimension."""
    losses = [importance * variance(p), variance(p) + 0 * importance, (1 + importance) * p**2 / 6]
    return torch.stack(torch.broadcast_tensors(*losses)).argmin(0)


trained_two = phase(best_models(2, 1))
theory_two = least_of_two(DENSITIES[:, None], IMPORTANCES)


# %%
def away_from_borders(theory: Tensor) -> Tensor:
    """Points of the map whose neighbours above, below, left and right are in the same phase, by the closed forms."""
    away = torch.ones_like(theory, dtype=torch.bool)
    differs = theory[1:] != theory[:-1]
    away[1:] &= ~differs
    away[:-1] &= ~differs
    differs = theory[:, 1:] != theory[:, :-1]
    away[:, 1:] &= ~differs
    away[:, :-1] &= ~differs
    return away


def agreement(trained: Tensor, theory: Tensor) -> float:
    """Share of points away from borders where training found the phase of least loss."""
    return (trained == theory)[away_from_borders(theory)].float().mean().item()


# %% tags=["hide-input"]
#| label: fig-phase-two
#| caption: >-
#|   What happens to feature 2. Each cell is the best of several trained models; lines are the borders where closed-form
#|   losses cross.
PHASE_COLORS = [plots.PALETTE[7], plots.PALETTE[0], plots.PALETTE[1]]
TICKS = [0.01, 0.03, 0.1, 0.3, 1, 3, 10]


def log(x: Tensor | np.ndarray | list[float]) -> np.ndarray:
    return np.log10(np.asarray(x))


def phase_map(trained: Tensor, borders: list[tuple[np.ndarray, np.ndarray]], alt: str) -> go.Figure:
    """The phase of each point as a colour, and borders as lines of (importance, density)."""
    figure = go.Figure(
        go.Heatmap(
            x=log(IMPORTANCES).round(4),
            y=log(DENSITIES).round(4),
            z=trained.numpy(),
            text=np.array(PHASES)[trained.numpy()],
            zmin=-0.5,
            zmax=2.5,
            colorscale=[[(i + end) / 3, color] for i, color in enumerate(PHASE_COLORS) for end in (0, 1)],
            opacity=0.85,
            xgap=1,
            ygap=1,
            hovertemplate="%{text}<extra></extra>",
            showscale=False,
        )
    )
    for color, name in zip(PHASE_COLORS, PHASES, strict=True):  # a legend for the colours
        figure.add_scatter(
            x=[None], y=[None], name=name, mode="markers", marker={"symbol": "square", "size": 12, "color": color}
        )
    for i, (importance, density) in enumerate(borders):
        figure.add_scatter(
            x=log(importance),
            y=log(density),
            mode="lines",
            name="closed-form border",
            showlegend=i == 0,
            line={"color": plots.PALETTE[4], "width": 4},
            hoverinfo="skip",
        )
    edge = 1 / (GRID - 1)
    figure.update_xaxes(title="importance I", tickvals=log(TICKS), ticktext=TICKS, range=[-1 - edge, 1 + edge])
    figure.update_yaxes(title="density 1 − S", tickvals=log(TICKS), ticktext=TICKS, range=[-2 - edge, edge])
    return plots.describe(figure, alt, height=520, legend={"orientation": "h", "y": 1.15})


def told(trained: Tensor, theory: Tensor) -> str:
    shares = ", ".join(f"{name} {(trained == i).float().mean():.0%}" for i, name in enumerate(PHASES))
    return (
        "Map of phases over importance (horizontal) and density (vertical), both logarithmic, with the borders of the "
        f"closed forms. Shares of the map: {shares}. Away from borders, training agrees with the closed forms at "
        f"{agreement(trained, theory):.0%} of the points."
    )


low, high = np.logspace(-1, 0, 50), np.logspace(0, 1, 50)
middle = 4 / 7  # the density where all three losses are equal, at I = 1
phase_map(
    trained_two,
    [
        (low, 4 * low / (2 + 5 * low)),
        (high, 4 / (5 + 2 * high)),
        (np.array([1, 1]), np.array([middle, 1])),
    ],
    told(trained_two, theory_two),
)

# %% tags=["remove-cell"]
chapter.claim(
    "T4",
    where="superposition/phase_changes#fig-phase-two",
    text="synthetic",
    agreement=agreement(trained_two, theory_two),
    phases=len(trained_two.unique()),
)
chapter.number("agreement-two", agreement(trained_two, theory_two), ".0%")
chapter.number("phases-two", len(trained_two.unique()))
chapter.number("away-two", int(away_from_borders(theory_two).sum()))
chapter.number("trained", GRID * GRID * TRIES, ",")

# %% [markdown]
# {numref}`fig-phase-two` holds {glue:text}`trained` trained models, of which the best at each point is shown. There are
# {glue:text}`phases-two` phases. Of the {glue:text}`away-two` points that are not next to a border,
# {glue:text}`agreement-two` are in the phase of least closed-form loss.
#
# The border between *not learned* and *superposed* is where $I\,v(p) = (1+I)\,p^2/6$, so at $p = 4I/(2+5I)$. All three
# regions meet at $I = 1$, $p = 4/7$. Above this density, superposition never pays: one feature wins, the other is
# dropped.
#
# Why is there a border at all, and no slow change? Each solution is a valley of the loss. As $p$ falls, all valleys
# change their depth smoothly, but which one is the *deepest* changes at once. Physicists call this a **first-order**
# phase change.
#
# ```{admonition} A trap: the map of the best, and the map of what you get
# :class: warning
# This map is for the best of several runs. One single run may stay in the valley where it began, far beyond the border.
# So do not read a phase off one model near a border. Training has a memory, just as water can be colder than ice.
# ```
#
# ## Three features, two dimensions
#
# Add a feature of importance 1 and a dimension. Now four solutions compete. Each leaves out one direction of the space
# of features, so we name it by the direction that $\mathbf{W}$ is orthogonal to.
#
# | orthogonal to | what happens | loss |
# |---|---|---|
# | $[0,0,1]$ | feature 3 is not learned | $I\,v(p)$ |
# | $[1,0,0]$ | feature 3 is dedicated, feature 1 is not learned | $v(p)$ |
# | $[0,1,1]$ | features 2 and 3 are an opposite pair, feature 1 is alone | $(1+I)\,p^2/6$ |
# | $[1,1,0]$ | features 1 and 2 are the pair, feature 3 is alone | $p^2/3$ |
#
# The source leaves out $[1,1,1]$, where all three form a triangle, and so do we.
#
# ```{admonition} Predict
# :class: tip
# Where does the map change? Think of a feature 3 that is more important than the others: who will have to share?
# ```


# %%
def least_of_three(p: Tensor, importance: Tensor) -> Tensor:
    """Phase of the third feature in the solution of least closed-form loss, for three features in two dimensions."""
    flat = 0 * importance
    losses = [importance * variance(p), variance(p) + flat, (1 + importance) * p**2 / 6, p**2 / 3 + flat]
    phase_of = torch.tensor([0, 1, 2, 1])
    return phase_of[torch.stack(torch.broadcast_tensors(*losses)).argmin(0)]


trained_three = phase(best_models(3, 2))
theory_three = least_of_three(DENSITIES[:, None], IMPORTANCES)

# %% tags=["hide-input"]
#| label: fig-phase-three
#| caption: What happens to feature 3 of three in two dimensions, drawn as in {numref}`fig-phase-two`.
phase_map(
    trained_three,
    [(low, 4 * low / (2 + 5 * low)), (np.array([1, 1]), np.array([0.01, 1]))],
    told(trained_three, theory_three),
)

# %% tags=["remove-cell"]
chapter.claim(
    "T5",
    where="superposition/phase_changes#fig-phase-three",
    text="synthetic",
    agreement=agreement(trained_three, theory_three),
    phases=len(trained_three.unique()),
)
sparse_rows = (DENSITIES < 0.03)[:, None] & away_from_borders(theory_three)
sparse_agreement = (trained_three == theory_three)[sparse_rows].float().mean().item()
chapter.number("agreement-three", agreement(trained_three, theory_three), ".0%")
chapter.number("agreement-sparse", sparse_agreement, ".0%")
chapter.number("phases-three", len(trained_three.unique()))

# %% [markdown]
# Again there are {glue:text}`phases-three` phases, and {glue:text}`agreement-three` of the points away
# from borders agree. Left of $I = 1$ feature 3 shares with one of the others. Right of it, it has a dimension of its
# own, and the *other two* have to share.
#
# Look at the lowest rows, where the density is below 3 %. There {glue:text}`agreement-sparse` agree. The solutions
# $[0,1,1]$ and $[1,1,0]$ differ there only by collisions, which hardly ever happen. A batch of 256 inputs has next to
# none, so training cannot feel the difference and stays with the pair that it began with.
#
# ## Sticky fractions
#
# Now many features, all equally important, and few dimensions. How many dimensions does each represented feature use? A
# simple measure is $m / \lVert \mathbf{W} \rVert_F^2$: since a represented feature has length 1 or so, the squared norm
# of $\mathbf{W}$ counts the represented features.
#
# ```{admonition} Predict
# :class: tip
# Sparsity rises from 0. The dimensions per feature begin at 1, and they must fall. Is the way down a straight line, a
# curve, or stairs? If stairs, at which heights are the steps?
# ```

# %%
N, M = chapter.size(quick=(200, 15), full=(400, 30))
INVERSE = torch.logspace(0, 1.3, chapter.size(quick=16, full=32))  # 1 / (1 - S), from dense to sparse
probability = (1 / INVERSE)[:, None].expand(-1, N)
many = toy.ToyModel(len(INVERSE), N, M)
toy.train(
    many,
    partial(toy.sparse_features, probability, 256),
    steps=chapter.size(quick=2500, full=20_000),
    lr=chapter.size(quick=0.01, full=0.003),
    schedule=toy.cosine,
)
W = many.W.detach()
norms, D = toy.feature_norms(W), toy.feature_dimensionality(W)
dimensions = (M / norms.square().sum(1)).numpy()

# %% tags=["hide-input"]
#| label: fig-phase-sticky
#| caption: Dimensions per feature, for {glue:text}`n-many` features in {glue:text}`m-many` dimensions, by sparsity.
ODD_TICKS = [1, 2, 3, 5, 10, 20]


def plateau(level: float, within: float = 0.03) -> float:
    """Longest span, in decades of 1 / (1 - S), over which the curve stays near a level; linear between points."""
    x = np.linspace(0, log(INVERSE).max(), 2001)
    near = np.abs(np.interp(x, log(INVERSE), dimensions) - level) <= within
    longest = max((len(list(run)) for inside, run in itertools.groupby(near) if inside), default=0)
    return max(longest - 1, 0) * (x[1] - x[0])


half_plateau = plateau(0.5)
chapter.number("n-many", N)
chapter.number("m-many", M)
chapter.number("dense-dimensions", dimensions[0], ".3f")
chapter.number("half-plateau", half_plateau, ".2f")
chapter.number("half-factor", 10**half_plateau, ".1f")
figure = go.Figure()
for level in (1, 0.5):
    figure.add_hline(level, line={"dash": "dot", "color": plots.PALETTE[7]})
figure.add_scatter(
    x=INVERSE.numpy(), y=dimensions.round(4), mode="lines+markers", line={"color": plots.PALETTE[0]}, name="trained"
)
figure.update_xaxes(type="log", title="1 / (1 − S)", tickvals=ODD_TICKS)
figure.update_yaxes(title="dimensions per feature", rangemode="tozero")
plots.describe(
    figure,
    f"A curve that falls from {dimensions[0]:.2f} when dense to {dimensions[-1]:.2f} when sparse. It stays within 0.03 "
    f"of one half for {half_plateau:.2f} decades of 1 / (1 − S).",
    showlegend=False,
)

# %% tags=["remove-cell"]
chapter.claim(
    "T6",
    where="superposition/phase_changes#fig-phase-sticky",
    text="synthetic",
    dense_dimensions=float(dimensions[0]),
    half_plateau=float(half_plateau),
)
chapter.number(
    "plateau-verdict",
    "That is the step the source describes."
    if half_plateau >= 0.5
    else "There is a step, and it is shorter than the half decade that we had set as our bar.",
)
at_half = np.flatnonzero(np.abs(dimensions - 0.5) <= 0.03)
rested = half_plateau > 0 and len(at_half) > 0
falls_on = rested and bool((np.diff(dimensions[at_half[-1] :]) < 0).all())
after_half = (
    "Beyond that they fall at every sparsity that we tried."
    if falls_on
    else "Beyond that they do not fall at every sparsity that we tried."
)
chapter.number(
    "steps-takeaway",
    f"Dimensions per feature start near {dimensions[0]:.1f} and do not rest at ½ here."
    if not rested
    else f"Dimensions per feature start near {dimensions[0]:.1f} and rest at ½"
    + (". " if half_plateau >= 0.5 else " for a short while. ")
    + after_half,
)

# %% [markdown]
# In the dense model, the dimensions per feature are {glue:text}`dense-dimensions`. Then the curve drops,
# and it rests at one half: opposite pairs. It stays within 0.03 of one half for {glue:text}`half-plateau` decades, that
# is while $1/(1-S)$ grows by a factor of {glue:text}`half-factor`. {glue:text}`plateau-verdict` Then it falls on, to
# packings that have no simple name.
#
# The step is **sticky** for the reason that you know: a pair is a valley. A third feature that wants to join a pair
# meets interference from one of the two, whichever side it comes from.
#
# ## A share of a dimension
#
# The average hides what single features do. The **feature dimensionality** gives each feature its share:
#
# $$
# D_i = \frac{\lVert \mathbf{w}_i \rVert^2}{\sum_j \left(\hat{\mathbf{w}}_i \cdot \mathbf{w}_j\right)^2}
# $$
#
# The numerator says how much of the feature there is, the denominator how many features there are along its direction,
# itself included. A lone feature has $D = 1$. In an opposite pair both write onto one direction: $D = 1/2$.
#
# ```{admonition} Predict
# :class: tip
# What is $D$ in a triangle, three features in two dimensions? In a pentagon? In an octahedron, six features in three
# dimensions? Guess a rule.
# ```
#
# If $n$ features share $m$ dimensions evenly, each gets $m / n$. A **tegum product** puts two such figures into
# orthogonal spaces: a triangle in two dimensions and a pair in a third make a triangular bipyramid, whose features have
# $2/3$, $2/3$, $2/3$, $1/2$ and $1/2$. By the fractions you recognise the figures.

# %%
FRACTIONS = {
    "alone": (1, 1),
    "tetrahedron": (3, 4),
    "triangle": (2, 3),
    "opposite pair": (1, 2),
    "pentagon": (2, 5),
    "square antiprism": (3, 8),
}
levels = torch.tensor([top / bottom for top, bottom in FRACTIONS.values()])
live = norms > HALF
near = (D[..., None] - levels).abs().amin(-1) <= 0.03
share_at_fractions = near[live].float().mean().item()

# %% tags=["hide-input"]
#| label: fig-phase-dimensionality
#| caption: >-
#|   The dimensionality of each represented feature, by sparsity. Dotted lines are the fractions of named polytopes.
#|   Features that are not represented have none and are left out.
jitter = np.random.default_rng(0).uniform(-0.012, 0.012, size=live.shape)
x = (log(INVERSE)[:, None] + jitter)[live.numpy()]
figure = go.Figure()
for name, (top, bottom) in FRACTIONS.items():
    figure.add_hline(
        top / bottom,
        line={"dash": "dot", "color": plots.PALETTE[7], "width": 1},
        annotation_text=f"{top}/{bottom} {name}" if bottom > 1 else f"1 {name}",
        annotation_position="bottom right" if name == "square antiprism" else "top right",
        annotation_font_size=11,
    )
figure.add_scatter(
    x=x.round(4),
    y=D[live].numpy().round(4),
    mode="markers",
    marker={"size": 5, "opacity": 0.5, "color": plots.PALETTE[0]},
    hovertemplate="D = %{y:.3f}<extra></extra>",
)
figure.update_xaxes(title="1 / (1 − S)", tickvals=log(ODD_TICKS), ticktext=ODD_TICKS)
figure.update_yaxes(title="feature dimensionality", range=[0, 1.08])
plots.describe(
    figure,
    f"Scatter plot of {int(live.sum()):,} represented features. {share_at_fractions:.0%} of them lie within 0.03 of "
    "one of the fractions 1, 3/4, 2/3, 1/2, 2/5 and 3/8. In the sparsest model the median is "
    f"{D[-1][live[-1]].median():.2f}.",
    height=520,
    showlegend=False,
)

# %% tags=["remove-cell"]
totals = D.sum(1)
worst = int((totals - M).abs().argmax())
chapter.claim(
    "T7",
    where="superposition/phase_changes#fig-phase-dimensionality",
    text="synthetic",
    share_at_fractions=share_at_fractions,
    total_dimensionality=totals[worst].item(),
    dimensions=M,
)
by_sparsity = [near[i][live[i]].float().mean().item() if live[i].any() else 0.0 for i in range(len(INVERSE))]
sharp = [float(INVERSE[i]) for i, share in enumerate(by_sparsity) if share >= 0.9]
chapter.number("share-at-fractions", share_at_fractions, ".0%")
chapter.number("total", totals[worst].item(), ".2f")
chapter.number("live", int(live.sum()), ",")
no_live = int((~live.any(1)).sum())
chapter.number("no-live", "the densest model" if no_live == 1 else f"the {no_live} densest models")
chapter.number(
    "sharp",
    f"from 1 / (1 − S) = {min(sharp):.1f} to {max(sharp):.1f}, at least nine in ten features lie at a fraction"
    if sharp
    else "at no sparsity do nine in ten features lie at a fraction",
)

# %% [markdown]
# Over all sparsities, {glue:text}`share-at-fractions` of the {glue:text}`live` represented features lie
# within 0.03 of a named fraction. The average is not the whole story: {glue:text}`sharp`. Beyond that, all features of
# a model still have nearly the same dimensionality, but it is no longer the fraction of a small figure. With many
# dimensions, there is room for packings that do not fall apart into small ones.
#
# The dimensionalities of all features add up to the number of dimensions, or nearly: the largest deviation from
# {glue:text}`m-many` is at {glue:text}`total`. The space is used up, whatever the arrangement.
#
# In {glue:text}`no-live`, no feature is represented on its own: equally important features that are always on have no
# reason to prefer one basis to another.
#
# ### The named figures, one by one
#
# Smaller models show the figures in pure form. Each row of {numref}`fig-phase-polytopes` is the best of several runs of
# one small model.


# %%
def best_of(n: int, m: int, density: float, tries: int = 6) -> Tensor:
    """Directions [n, m] of the best of several small models with equally important features."""
    model = toy.ToyModel(tries, n, m)
    probability = torch.full((1, n), density)
    toy.train(model, partial(toy.sparse_features, probability, 256), 1500, lr=0.02, schedule=toy.cosine)
    loss = toy.mean_loss(model, partial(toy.sparse_features, probability, 4096), 20)
    return model.W.detach()[loss.argmin()]


SMALL = {
    "5 in 2, density 0.75": (5, 2, 0.75),
    "5 in 2, density 0.3": (5, 2, 0.3),
    "5 in 2, density 0.1": (5, 2, 0.1),
    "5 in 3, density 0.1": (5, 3, 0.1),
    "6 in 3, density 0.1": (6, 3, 0.1),
    "8 in 3, density 0.05": (8, 3, 0.05),
}
found = {name: best_of(*sizes) for name, sizes in SMALL.items()}

# %% tags=["hide-input"]
#| label: fig-phase-polytopes
#| caption: Dimensionalities of the features of small models. A large dot stands for several features.
figure = go.Figure()
for top, bottom in FRACTIONS.values():
    figure.add_vline(top / bottom, line={"dash": "dot", "color": plots.PALETTE[7], "width": 1})
lines = []
for row, (name, directions) in enumerate(found.items()):
    shown = toy.feature_norms(directions) > HALF
    values, counts = np.unique(toy.feature_dimensionality(directions)[shown].numpy().round(2), return_counts=True)
    lines.append(
        f"{name}: " + ", ".join(f"{count} at {value:.2f}" for value, count in zip(values, counts, strict=True))
    )
    figure.add_scatter(
        x=values,
        y=[row] * len(values),
        mode="markers",
        marker={"size": 8 + 2 * counts, "color": plots.PALETTE[row]},
        text=counts,
        hovertemplate="%{text} features with D = %{x}<extra></extra>",
    )
figure.update_xaxes(
    title="D",
    range=[0.3, 1.05],
    tickvals=levels.tolist(),
    # 3/8 and 2/5 are neighbours, so every other label stands lower
    ticktext=[f"{'<br>' * (i % 2)}{top}/{bottom}" for i, (top, bottom) in enumerate(FRACTIONS.values())],
    tickangle=0,
)
figure.update_yaxes(tickvals=list(range(len(SMALL))), ticktext=list(SMALL), autorange="reversed")
plots.describe(
    figure,
    "Dots on a horizontal axis from 0.3 to 1, one row for each small model. " + "; ".join(lines) + ".",
    height=420,
    showlegend=False,
    margin={"l": 130},
)

# %% [markdown]
# Look each dot up in the list above: which figure is it, and does a row mix two figures?
#
# ## Pushing one feature
#
# So far all features were equally dense. Take the pentagon: five features in two dimensions, each on with probability
# 0.05. Now make a single one sparser and sparser, and leave the others alone.
#
# ```{admonition} Predict
# :class: tip
# A feature that is on less often is worth less. Does the pentagon shrink smoothly at one corner until nothing is left
# of it? Or does something else happen? At which ratio of densities?
# ```

# %%
BASE = 0.05
RATIOS = torch.logspace(0, 0.8, chapter.size(quick=13, full=33))  # the others' density over that of feature 1
FITS = chapter.size(quick=10, full=50)
density = torch.full((len(RATIOS), 5), BASE)
density[:, 0] = BASE / RATIOS
pushed = toy.ToyModel(len(RATIOS) * FITS, 5, 2)
toy.train(
    pushed,
    lambda generator: toy.sparse_features(density, 512, generator).repeat_interleave(FITS, 0),
    steps=chapter.size(quick=2000, full=10_000),
    lr=0.01,
    schedule=toy.cosine,
)
losses = exact_loss(pushed, density.repeat_interleave(FITS, 0), torch.ones(1, 5)).view(len(RATIOS), FITS)
norms_pushed = toy.feature_norms(pushed.W.detach()).view(len(RATIOS), FITS, 5)

# %% tags=["hide-input"]
#| label: fig-phase-push
#| caption: >-
#|   Lowest loss of each kind of solution as feature 1 becomes sparser; the ratio is the others' density over its own.
#|   All five features are represented in a pentagon; the two pairs leave feature 1 out.
others = (norms_pushed[..., 1:] > HALF).all(-1)
kinds = {
    "pentagon": others & (norms_pushed[..., 0] > HALF),
    "two pairs": others & (norms_pushed[..., 0] < HALF),
}
lowest = {name: losses.masked_fill(~kind, torch.inf).amin(1).numpy() for name, kind in kinds.items()}
pairs_win = lowest["two pairs"] < lowest["pentagon"]


def crossing_ratio() -> float | None:
    """Ratio where the pairs' loss falls below the pentagon's: linear between points where both were found."""
    gap = lowest["two pairs"] - lowest["pentagon"]
    for i in range(len(RATIOS) - 1):
        if gap[i] > 0 >= gap[i + 1]:
            share = gap[i] / (gap[i] - gap[i + 1]) if np.isfinite(gap[i : i + 2]).all() else 0.5
            return float(RATIOS[i] * (RATIOS[i + 1] / RATIOS[i]) ** share)
    return None


jump = crossing_ratio()
figure = go.Figure()
for index, (name, values) in enumerate(lowest.items()):
    seen = np.isfinite(values)
    figure.add_scatter(
        x=RATIOS.numpy()[seen],
        y=values[seen],
        name=name,
        mode="lines+markers",
        line={"color": plots.PALETTE[index]},
    )
if jump:
    figure.add_vline(jump, line={"dash": "dot", "color": plots.PALETTE[7]})
figure.update_xaxes(type="log", title="ratio of densities", tickvals=[1, 1.5, 2, 3, 4, 5, 6])
figure.update_yaxes(title="loss", rangemode="tozero", tickformat=".3f")
plots.describe(
    figure,
    "Two falling curves of the loss. The pentagon's is lower at first; "
    + (f"the two pairs' is lower from a ratio of {jump:.2f} on." if jump else "the curves do not cross here."),
    legend={"orientation": "h", "y": 1.12},
    hovermode="x",
)

# %% tags=["remove-cell"]
if jump:
    chapter.claim("T8", where="superposition/phase_changes#fig-phase-push", text="synthetic", jump_ratio=jump)
kept_at = int(np.flatnonzero(~pairs_win).max())  # the last ratio where the pentagon is best
best_pentagon = losses[kept_at].masked_fill(~kinds["pentagon"][kept_at], torch.inf).argmin()
corner = norms_pushed[kept_at, best_pentagon, 0].item()
chapter.number("jump", f"{jump:.1f}" if jump else "none of our ratios")
chapter.number("corner", corner, ".2f")
chapter.number("corner-ratio", RATIOS[kept_at].item(), ".1f")
chapter.number(
    "jump-verdict",
    "That is close to the source's figure."
    if jump and 2 <= jump <= 3
    else "The source has about 2.5, so we find the jump in another place. Our losses at the crossing are computed over "
    "all sets of features and not sampled, so sampling noise is not the reason.",
)

# %% [markdown]
# The pentagon gives way at a ratio of {glue:text}`jump`. {glue:text}`jump-verdict` Just before, at
# {glue:text}`corner-ratio`, feature 1 still has a length of {glue:text}`corner`. It does not fade away. The whole
# arrangement flips into two pairs, and feature 1 is gone at once.
#
# Each curve by itself is smooth. Again it is the minimum of two smooth curves that has a corner.
#
# ## Jumps in time
#
# The same valleys shape a training run. We watch small models that end in opposite pairs, with a constant learning
# rate, and keep a copy of their weights every few steps. A copy is an instance like any other, so `mean_loss` measures
# the whole run at once, on the same inputs for every step.
#
# ```{admonition} Predict
# :class: tip
# Will the dimensionalities of the features change slowly and together, or one by one in jumps? What will the loss do at
# a jump?
# ```

# %%
RUNS, N_RUN, M_RUN = 3, 60, 8
probability = torch.full((1, N_RUN), 1 / 3.5)
runs = toy.ToyModel(RUNS, N_RUN, M_RUN)
history = toy.train(
    runs,
    partial(toy.sparse_features, probability, chapter.size(quick=512, full=2048)),
    steps=4000,
    lr=0.003,
    records=100,
    snapshots=True,
)
steps = np.array(history.steps)
copies = toy.ToyModel(RUNS * len(steps), N_RUN, M_RUN)
copies.W.data, copies.b.data = (history.snapshots[name].flatten(0, 1) for name in ("W", "b"))
run_losses = toy.mean_loss(copies, partial(toy.sparse_features, probability, 4096), 4).view(-1, RUNS).numpy()
run_dimensionalities = toy.feature_dimensionality(history.snapshots["W"]).numpy()  # [records, RUNS, N_RUN]

# %% [markdown]
# When is a change a jump? We compare the weights a little before and a little after each step. A feature **jumps**
# where its dimensionality changes by 0.1 or more within this window, and fastest there. The loss **drops** where it
# falls fastest for some time around, and at least three times as fast as it typically does. A drop is **joint** if a
# feature jumps within the same window. The first steps do not count, as everything moves there.

# %%
WINDOW, FIRST = 3, 10  # records before and after; records that do not count


def change(values: np.ndarray) -> np.ndarray:
    """Difference between WINDOW records after and WINDOW records before each record; 0 at the ends."""
    out = np.zeros_like(values)
    out[WINDOW:-WINDOW] = values[2 * WINDOW :] - values[: -2 * WINDOW]
    return out


def peaks(values: np.ndarray, at_least: float) -> np.ndarray:
    """Places where a series is at least this high, and highest within a window around."""
    places = range(WINDOW, len(values) - WINDOW)
    return np.array(
        [i for i in places if values[i] >= at_least and values[i] == values[i - WINDOW : i + WINDOW + 1].max()],
        dtype=int,
    )


def close_to(these: np.ndarray, those: np.ndarray) -> np.ndarray:
    """These records of which another of those lies within the window."""
    return np.array([i for i in these if (np.abs(np.asarray(those) - i) <= WINDOW).any()], dtype=int)


def drops_and_jumps(loss: np.ndarray, dimensionality: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Records of one run at which the loss drops, and those at which a feature jumps, one for each jump."""
    fall, moves = -change(loss), np.abs(change(dimensionality))
    drops = peaks(fall, 3 * float(np.median(np.abs(fall))))
    jumps = np.concatenate([peaks(moves[:, feature], 0.1) for feature in range(N_RUN)])
    return drops[drops >= FIRST], jumps


found_in = [drops_and_jumps(run_losses[:, i], run_dimensionalities[:, i]) for i in range(RUNS)]
joint_in = [close_to(drops, jumps) for drops, jumps in found_in]
shown = int(np.argmax([len(joint) for joint in joint_in]))
(drops, jumps), joint = found_in[shown], joint_in[shown]
run_loss, run_D = run_losses[:, shown], run_dimensionalities[:, shown]

# %% tags=["hide-input"]
#| label: fig-phase-time
#| caption: >-
#|   A training run, the one of {glue:text}`runs` with most joint drops. Above: the dimensionality of each feature.
#|   Below: the loss. Dotted lines mark drops of the loss at which a feature jumps.
figure = make_subplots(rows=2, shared_xaxes=True, row_heights=[0.6, 0.4], vertical_spacing=0.06)
for feature in range(N_RUN):
    figure.add_scatter(
        x=steps,
        y=run_D[:, feature].round(3),
        mode="lines",
        line={"width": 1.5, "color": plots.PALETTE[feature % len(plots.PALETTE)]},
        name=f"feature {feature + 1}",
        row=1,
        col=1,
    )
figure.add_scatter(x=steps, y=run_loss.round(4), mode="lines", line={"color": plots.PALETTE[0]}, row=2, col=1)
for drop in joint:
    figure.add_vline(int(steps[drop]), line={"dash": "dot", "color": plots.PALETTE[7], "width": 1})
figure.update_xaxes(title="step", row=2, col=1)
figure.update_yaxes(title="dimensionality", row=1, col=1)
# the first steps lose so much that the rest would look flat
figure.update_yaxes(title="loss", range=[run_loss.min() * 0.999, run_loss[FIRST // 2]], row=2, col=1)
plots.describe(
    figure,
    f"Two panels over {steps[-1]:,} steps. Above, the dimensionalities of {N_RUN} features; "
    f"{int((run_D[-1] > 0.4).sum())} end above 0.4 and the others near zero. Below, the loss falls in stages. "
    f"{len(joint)} of {len(drops)} drops of the loss coincide with a jump of a feature, at steps "
    f"{', '.join(str(steps[drop]) for drop in joint) or 'none'}.",
    height=560,
    showlegend=False,
)

# %% tags=["remove-cell"]
chapter.claim("T14", where="superposition/phase_changes#fig-phase-time", text="synthetic", joint_jumps=len(joint))
chapter.number("runs", RUNS)
all_drops, all_joint = sum(len(drops) for drops, _ in found_in), sum(len(joint) for joint in joint_in)
late = jumps[jumps >= FIRST]
with_drop = close_to(late, drops)
counted = np.arange(FIRST, len(steps) - WINDOW)  # records at which a drop could be
chance = len(close_to(counted, jumps)) / len(counted)
chapter.number("all-drops", all_drops)
chapter.number("all-joint", all_joint)
chapter.number("joint-told", f"at {all_joint} of {all_drops} drops in {RUNS} runs")
chapter.number("late-jumps", len(late))
chapter.number("jumps-with-drop", len(with_drop))
chapter.number("chance", chance, ".0%")
most_alone = len(with_drop) < len(late) / 2
chapter.number(
    "jumps-verdict",
    "Most jumps leave no drop that we can see." if most_alone else "Most jumps come with a drop.",
)
chapter.number(
    "drops-verdict",
    "We have few drops, so this is weak evidence."
    if all_drops < 5
    else "So drops and jumps go together more often than by chance."
    if all_joint > 2 * chance * all_drops
    else "So we cannot say that drops and jumps go together.",
)
chapter.number("in-pairs", int((np.abs(run_D[-1] - 0.5) < 0.03).sum()))
chapter.number("n-run", N_RUN)

# %% [markdown]
# At the end, {glue:text}`in-pairs` of the {glue:text}`n-run` features have $D$ within 0.03 of one half. On the way, in
# all {glue:text}`runs` runs, {glue:text}`all-joint` of {glue:text}`all-drops` drops of the loss come together with the
# jump of a feature. In the run shown, {glue:text}`chance` of the records that count lie that near to some jump, so a
# drop could meet one by chance. {glue:text}`drops-verdict`
#
# Now turn it around. In the run shown, features jump {glue:text}`late-jumps` times after the first steps, and
# {glue:text}`jumps-with-drop` of these jumps are near a drop. {glue:text}`jumps-verdict`
#
# The source compares the jumps to electrons that jump between energy levels. Between jumps, the model sits near a
# saddle: the loss is flat, and a feature that is about to enter, or to leave, moves slowly at first. Then it goes all
# the way.
#
# A loss curve with a sudden drop, which you will meet in larger models, too, can be one feature that found its place.
#
# ## What the paper found, what we found
#
# | | the paper {cite}`elhage2022superposition` | here |
# |---|---|---|
# | 2 features in 1 dimension | three phases | {glue:text}`phases-two`, as predicted at {glue:text}`agreement-two` |
# | 3 in 2 | the same | {glue:text}`phases-three`, as predicted at {glue:text}`agreement-three` |
# | dimensions per feature, dense | 1 | {glue:text}`dense-dimensions` |
# | length of the step at one half | a visible step | {glue:text}`half-plateau` decades of $1/(1-S)$ |
# | features at named fractions | most, a figure | {glue:text}`share-at-fractions` |
# | one feature made sparser | jump at about 2.5 times | {glue:text}`jump` times |
# | jumps in training | together with drops of the loss | {glue:text}`joint-told` |
#
# **How our set-up differs.** The source averages the models of a point of the map, without the worst; we take the best,
# which is what the closed forms are about. It trains 400 features in 30 dimensions; in quick mode we have
# {glue:text}`n-many` in {glue:text}`m-many`, for far fewer steps, at a higher learning rate, which lets features move
# out of a step that a slower run would stay in. The range of sparsities over which dimensionalities are counted changes
# the share at named fractions, too, and the source does not give a number.
#
# ```{admonition} Takeaways
# :class: note
# - Which solution is best changes at sharp borders, although the loss of each solution changes smoothly.
# - Closed forms of the loss, one line each, predict where the borders are.
# - {glue:text}`steps-takeaway`
# - $D = m/n$ names the figure that features form.
# - {glue:text}`all-joint` of {glue:text}`all-drops` drops of the loss came with a jump of a feature.
#   {glue:text}`jumps-verdict`
# ```
#
# ## Exercises
#
# ```{exercise-start} Compute a border
# :label: ex-phase-border
# ```
# *Difficulty 3/5 · importance 4/5 · 15 minutes.* For two features in one dimension, write `border(importance)`: the
# density $p$ at which *not learned* and *superposed* have the same closed-form loss, for an importance $I \le 1$ of
# feature 2.
#
# ````{admonition} Hint 1
# :class: dropdown
# Set $I\,(p/3 - p^2/4)$ equal to $(1 + I)\,p^2/6$. One solution is $p = 0$.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# Divide by $p$ and solve the linear equation. Check it at $I = 1$, where all three phases meet.
# ````
# ```{exercise-end}
# ```


# %% tags=["stub"]
def border(importance: float) -> float:
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-phase-border")
def check_border(border):
    for importance in (0.1, 0.5, 1.0):
        p = border(importance)
        assert 0 < p <= 1, f"border({importance}) is {p}, and a density lies between 0 and 1; p = 0 is no border"
        not_learned, superposed = importance * (p / 3 - p**2 / 4), (1 + importance) * p**2 / 6
        assert abs(not_learned - superposed) < 1e-6, (
            f"at I = {importance} and your p, not learned loses {not_learned:.4f} and superposed {superposed:.4f}"
        )


check_border(border)

# %% [markdown]
# ````{solution-start} ex-phase-border
# :class: dropdown
# ````


# %%
def border(importance: float) -> float:
    return 4 * importance / (2 + 5 * importance)


check_border(border)

# %% [markdown]
# An unimportant feature needs sparse inputs to get in: for small $I$ the border is at $p \approx 2I$.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
check_border.refuses(lambda importance: 0.0, because="no border")
check_border.refuses(lambda importance: 4 / (5 + 2 * importance), because="not learned loses")  # the other border
check_border.refuses(lambda importance: 2 * importance / (1 + importance) / 2, because="not learned loses")  # b = 0

# %% [markdown]
# ```{exercise-start} Feature dimensionality
# :label: ex-phase-dimensionality
# ```
# *Difficulty 2/5 · importance 5/5 · 10 minutes.* Write `dimensionality(W)` without `sae_core.toy`: $D_i$ for directions
# `[n_features, n_hidden]`. A feature without a direction has 0.
#
# ````{admonition} Hint 1
# :class: dropdown
# `W @ W.T` has all products. $\hat{\mathbf{w}}_i$ is $\mathbf{w}_i$ divided by its length, so the denominator is a sum
# of squared products divided by $\lVert \mathbf{w}_i \rVert^2$.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# Altogether $D_i = \lVert \mathbf{w}_i \rVert^4 / \sum_j (\mathbf{w}_i \cdot \mathbf{w}_j)^2$. `torch.where` deals with
# zeros.
# ````
# ```{exercise-end}
# ```


# %% tags=["stub"]
def dimensionality(W: Tensor) -> Tensor:
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-phase-dimensionality")
def check_dimensionality(dimensionality):
    def told(W: Tensor) -> list[float]:
        return [round(value, 3) for value in torch.as_tensor(dimensionality(W)).tolist()]

    angles = torch.arange(5) * 2 * torch.pi / 5
    assert len(told(torch.ones(4, 2))) == 4, "one number for each feature"
    assert told(torch.eye(2)) == [1, 1], "features at a right angle have a dimension each"
    assert told(torch.stack([angles.cos(), angles.sin()], 1)) == [0.4] * 5, (
        "in a pentagon, D is 2/5: is j = i included?"
    )
    assert told(3 * torch.tensor([[1.0], [-1.0]])) == [0.5, 0.5], "D does not change if all directions are made longer"
    uneven = told(torch.tensor([[1.0, 0.0], [-0.5, 0.0]]))
    assert uneven == [0.8, 0.2], "the longer of two opposite features has the larger share: which one is normalised?"
    assert told(torch.tensor([[1.0, 0.0], [0.0, 0.0]])) == [1, 0], "a feature without a direction has D = 0"


check_dimensionality(dimensionality)

# %% [markdown]
# ````{solution-start} ex-phase-dimensionality
# :class: dropdown
# ````


# %%
def dimensionality(W: Tensor) -> Tensor:
    squared = (W**2).sum(1)
    return torch.where(squared > 0, squared**2 / ((W @ W.T) ** 2).sum(1).clamp(min=1e-30), 0.0)


check_dimensionality(dimensionality)

# %% [markdown]
# $D$ is a ratio, so it does not know whether a feature is represented. A feature of length 0.01 that
# nobody disturbs has $D = 1$. That is why the figures of this chapter leave out short features.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
check_dimensionality.refuses(lambda W: (W**2).sum(1) / ((W @ W.T) ** 2).sum(1), because="longer")
check_dimensionality.refuses(lambda W: 1 / (toy.cosines(W) ** 2).sum(1), because="share")
check_dimensionality.refuses(lambda W: (W**2).sum(0), because="one number for each feature")
check_dimensionality.refuses(lambda W: 1 / (1 + toy.interference(W)), because="made longer")

# %% [markdown]
# ```{exercise-start} The loss of two pairs
# :label: ex-phase-pairs
# ```
# *Difficulty 3/5 · importance 3/5 · 15 minutes.* Write `pairs_loss(p, p1)`: the loss of two opposite pairs that leave
# feature 1 out, if feature 1 is on with probability $p_1$ and the four others with $p$. This is the second curve of
# {numref}`fig-phase-push`.
#
# ````{admonition} Hint 1
# :class: dropdown
# The loss is a sum of what feature 1 costs and what the pairs cost. Feature 1 costs its variance, $v(p_1)$.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# One pair of equally important features costs $(1 + 1)\,p^2/6$, and there are two pairs.
# ````
# ```{exercise-end}
# ```


# %% tags=["stub"]
def pairs_loss(p: float, p1: float) -> float:
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-phase-pairs")
def check_pairs(pairs_loss):
    hand = toy.ToyModel(1, 5, 2)
    hand.W.data = torch.tensor([[[0.0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]]])
    for p, p1 in ((0.1, 0.1), (0.3, 0.1), (0.3, 0.9)):
        hand.b.data = torch.tensor([[p1 / 2, 0, 0, 0, 0]])
        true = exact_loss(hand, torch.tensor([[p1, p, p, p, p]]), torch.ones(1, 5)).item()
        told = pairs_loss(p, p1)
        assert abs(told / true - 1) < 0.02, f"for p = {p} and p1 = {p1} the loss is {true:.4f}, and yours {told:.4f}"


check_pairs(pairs_loss)

# %% [markdown]
# ````{solution-start} ex-phase-pairs
# :class: dropdown
# ````


# %%
def pairs_loss(p: float, p1: float) -> float:
    return p1 / 3 - p1**2 / 4 + 2 * p**2 / 3


seen = np.isfinite(lowest["two pairs"])
formula = [pairs_loss(BASE, BASE / float(ratio)) for ratio in RATIOS[torch.from_numpy(seen)]]
print(f"trained / formula: {np.mean(lowest['two pairs'][seen] / formula):.3f} on average")
check_pairs(pairs_loss)

# %% [markdown]
# Training finds what the formula says. For the pentagon there is no such simple line: its biases and lengths adapt. But
# with one curve in closed form you can see on paper why the crossing moves if you change `BASE`. Collisions cost $p^2$,
# being left out costs $p_1$.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
check_pairs.refuses(lambda p, p1: p1 / 3 - p1**2 / 4 + p**2 / 3, because="and yours")  # one pair
check_pairs.refuses(lambda p, p1: p1 / 3 + 2 * p**2 / 3, because="and yours")  # no bias
check_pairs.refuses(lambda p, p1: p / 3 - p**2 / 4 + 2 * p1**2 / 3, because="and yours")  # exchanged

# %% [markdown]
# ```{exercise-start} Find a triangle
# :label: ex-phase-triangle
# ```
# *Difficulty 3/5 · importance 3/5 · 20 minutes.* Open-ended. Five equally important features in two dimensions form
# pairs or a pentagon over most densities. Find a density at which the best model is a triangle, three represented
# features with $D = 2/3$, and set `triangle_density` to it. Then explain to yourself why it lies where it does, and how
# wide its range is.
#
# ````{admonition} Hint 1
# :class: dropdown
# `toy.feature_dimensionality(best_of(5, 2, density))` tells what you get. Scan densities from 1 downwards.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# In a triangle, every feature disturbs both others, all the time, and three of five features are known. At which end is
# this better than two pairs: where collisions are frequent, or where they are rare?
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
triangle_density = None


# %% tags=["check", "hide-input"]
@check("ex-phase-triangle")
def check_triangle(triangle_density):
    assert 0 < triangle_density <= 1, "a density lies between 0 and 1"
    best = best_of(5, 2, float(triangle_density))
    there = toy.feature_norms(best) > HALF
    count = int(there.sum())
    assert count == 3, f"at this density the best of several models represents {count} features"
    told = toy.feature_dimensionality(best)[there]
    assert ((told - 2 / 3).abs() < 0.05).all(), (
        f"three features, with D = {[round(value, 2) for value in told.tolist()]}"
    )


check_triangle(triangle_density)

# %% [markdown]
# ````{solution-start} ex-phase-triangle
# :class: dropdown
# ````

# %%
triangle_density = 0.75
check_triangle(triangle_density)

# %% [markdown]
# Between the dense models, which know two directions and nothing else, and the pairs there is a small range for a
# triangle. It is the simplest figure in which interference is spread evenly: with three features in two dimensions,
# none is favoured. As collisions get rarer, pairs win, because they represent four.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
check_triangle.refuses(0.3, because="represents 4 features")
check_triangle.refuses(0.05, because="represents 5 features")
check_triangle.refuses(0.0, because="between 0 and 1")
