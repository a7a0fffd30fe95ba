# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Why superposition?
#
# A model has a few hundred neurons, and text has far more properties than that. Can a model keep track of more things
# than it has dimensions? Before we open a language model, we look at one so small that you can see all of its weights.
# It shows when it pays to store five things in two dimensions, and what it costs.
#
# ```{admonition} Before you start
# **You will be able to**
# - say what superposition is, and measure it in a weight matrix;
# - explain with four terms of the loss why a ReLU model does it on sparse inputs, and a linear model never;
# - predict from the sparsity whether five features make two axes, two pairs or a pentagon;
# - read a picture of $\mathbf{W}\mathbf{W}^\top$ and the biases.
#
# **You need** linear algebra, and PyTorch to follow the code. No language model appears in this chapter.
#
# **Time**: 35 minutes to read, about a minute to run.
# ```
#
# This part of the book follows *Toy Models of Superposition* {cite}`elhage2022superposition`. All models are trained
# when the page is built.
#
# ## Five things, two numbers
#
# Our inputs are made up, so we know what is in them. An input is a vector of $n$ **features**. Feature $i$ is off
# ($x_i = 0$) with probability $S$, the **sparsity**. Otherwise its value is uniform between 0 and 1. In this part, a
# feature is such a property of the input. Later, when nobody tells us the properties, it is an element of a
# {term}`dictionary`, and whether the two are the same is what you will have to test.
#
# The model must squeeze the $n$ features into $m < n$ hidden numbers, and restore them:
#
# $$
# \mathbf{h} = \mathbf{x}\, \mathbf{W} \qquad
# \mathbf{x}' = \mathrm{ReLU}\left(\mathbf{h}\, \mathbf{W}^\top + \mathbf{b}\right)
# $$
#
# Row $i$ of $\mathbf{W}$, written $\mathbf{w}_i$, is the direction that feature $i$ has in the hidden space. (The
# source has the directions in columns.) Some features matter more than others: they have an **importance** $I_i$.
#
# $$
# L = \sum_i I_i \left(x_i - x'_i\right)^2, \quad \text{averaged over inputs}
# $$
#
# ```{admonition} Predict
# :class: tip
# Five features, two hidden dimensions, importances that fall slowly from 1 to 0.66. What does the model do if all
# features are on all the time? What if each is off 80 % of the time, or 90 %? Draw five arrows for each.
# ```
#
# The models differ in their sparsity, and each is trained several times, because training can end in a poor solution.
# We keep the one with the lowest loss. `ToyModel` holds them all as **instances** in one tensor, so that this is a
# single run.

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

# %%
N, M = 5, 2
SPARSITIES = torch.tensor([0, 0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99])
TRIES = chapter.size(quick=5, full=20)
importance = 0.9 ** torch.arange(N)
weighted = partial(toy.squared_error, importance=importance)
probability = (1 - SPARSITIES).repeat_interleave(TRIES)[:, None].expand(-1, N)

models = toy.ToyModel(len(probability), N, M)
history = toy.train(
    models,
    partial(toy.sparse_features, probability, 512),
    steps=chapter.size(quick=3000, full=10_000),
    loss=weighted,
    lr=0.01,
    schedule=toy.cosine,
)

# %% [markdown]
# To find the lowest loss we do not need luck in sampling. With five features there are only $2^5$ sets of features that
# can be on together. We compute the mean loss of each set on one fixed list of values, and weigh the sets by their
# probability.

# %%
SETS = torch.tensor(list(itertools.product([0.0, 1.0], repeat=N)))  # [32, 5], who is on
VALUES = torch.quasirandom.SobolEngine(N, scramble=True, seed=0).draw(1024)  # evenly spread over the cube


@torch.no_grad()
def loss_by_number(model: toy.ToyModel) -> Tensor:
    """Mean loss of inputs with exactly k features on [instances, N + 1], for k = 0, 1, ..., N."""
    x = (SETS[:, None] * VALUES).reshape(1, -1, N)
    errors = (importance * (model(x) - x) ** 2).sum(-1).view(-1, len(SETS), len(VALUES)).mean(-1)
    return torch.stack([errors[:, SETS.sum(1) == k].mean(1) for k in range(N + 1)], dim=1)


def share_of_number(sparsity: Tensor) -> Tensor:
    """Probability that exactly k features are on [..., N + 1]."""
    k = torch.arange(N + 1)
    ways = torch.tensor([float(len(list(itertools.combinations(range(N), i)))) for i in range(N + 1)])
    return ways * (1 - sparsity[..., None]) ** k * sparsity[..., None] ** (N - k)


loss = (loss_by_number(models).view(-1, TRIES, N + 1) * share_of_number(SPARSITIES)[:, None]).sum(-1)
best = torch.arange(len(SPARSITIES)) * TRIES + loss.argmin(1)
W, b = models.W.detach()[best], models.b.detach()[best]

# %% tags=["hide-input"]
#| label: fig-why-five
#| caption: >-
#|   Five features in two dimensions: drag the sparsity. Left: the direction of each feature. Right: the matrix of
#|   all products of directions, and the biases as its last column.
HALF = 0.5  # a feature counts as represented from this length on
COLORS = [[0, plots.PALETTE[0]], [0.5, "rgba(128,128,128,0.1)"], [1, plots.PALETTE[1]]]


def arrows(W: Tensor) -> list[go.Scatter]:
    """Lines from the origin to each direction, and the numbers of represented features a little further out."""
    lines = torch.stack([torch.zeros_like(W), W, torch.full_like(W, torch.nan)], dim=1).reshape(-1, 2).numpy().round(3)
    labels = (W * (1 + 0.2 / W.norm(dim=1, keepdim=True))).numpy().round(3)
    color = plots.PALETTE[0]
    return [
        go.Scatter(x=lines[:, 0], y=lines[:, 1], mode="lines+markers", line={"color": color, "width": 3}),
        go.Scatter(
            x=labels[:, 0],
            y=labels[:, 1],
            mode="text",
            text=[str(i + 1) if w.norm() > HALF else "" for i, w in enumerate(W)],
            hoverinfo="skip",
        ),
    ]


def products(W: Tensor, b: Tensor) -> go.Heatmap:
    """W Wᵀ with the biases as a further column, after a gap."""
    z = torch.cat([W @ W.T, torch.full((len(W), 1), torch.nan), b[:, None]], dim=1)
    return go.Heatmap(
        z=z.numpy().round(3),
        zmin=-1.2,
        zmax=1.2,
        colorscale=COLORS,
        hovertemplate="row %{y}, column %{x}: %{z:.2f}<extra></extra>",
        colorbar={"thickness": 10, "tickvals": [-1, 0, 1], "x": 1.0},
    )


def play(figure: go.Figure, prefix: str, active: int) -> dict:
    """A slider over the frames of a figure."""
    now = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    return {
        "active": active,
        "currentvalue": {"prefix": prefix},
        "pad": {"t": 40},
        "len": 0.94,
        "steps": [{"label": frame.name, "method": "animate", "args": [[frame.name], now]} for frame in figure.frames],
    }


def at(sparsity: float) -> int:
    """Where a sparsity stands in the list."""
    return int((SPARSITIES - sparsity).abs().argmin())


figure = make_subplots(cols=2, column_widths=[0.48, 0.52], subplot_titles=["directions", "products, and b"])
figure.add_traces([*arrows(W[0]), products(W[0], b[0])], rows=[1, 1, 1], cols=[1, 1, 2])
figure.frames = [
    go.Frame(name=f"{sparsity:.0%}", data=[*arrows(W[i]), products(W[i], b[i])], traces=[0, 1, 2])
    for i, sparsity in enumerate(SPARSITIES.tolist())
]
figure.update_xaxes(range=[-1.5, 1.5], showticklabels=False, constrain="domain", row=1, col=1)
figure.update_yaxes(range=[-1.5, 1.5], showticklabels=False, scaleanchor="x", row=1, col=1)
figure.update_xaxes(tickvals=[*range(N), N + 1], ticktext=[*map(str, range(1, N + 1)), "b"], row=1, col=2)
figure.update_yaxes(tickvals=list(range(N)), ticktext=list(map(str, range(1, N + 1))), autorange="reversed", col=2)
figure.update_xaxes(showgrid=False, col=2)
figure.update_yaxes(showgrid=False, col=2)
kept = (toy.feature_norms(W) > HALF).sum(1)
told = "; ".join(f"{sparsity:.0%}: {count}" for sparsity, count in zip(SPARSITIES.tolist(), kept.tolist(), strict=True))
plots.describe(
    figure,
    "Two panels and a slider for the sparsity. Left, arrows from the centre of a square, one for each feature that is "
    f"represented; right, a heatmap of their products. Number of represented features by sparsity: {told}.",
    height=440,
    showlegend=False,
    margin={"l": 20, "r": 20},
    sliders=[play(figure, "sparsity: ", 0)],
)


# %% tags=["remove-cell"]
def angles(W: Tensor) -> np.ndarray:
    """Angles in degrees between neighbours among the represented directions of one model, around the circle."""
    represented = W[toy.feature_norms(W) > HALF]
    place = torch.rad2deg(torch.atan2(represented[:, 1], represented[:, 0])).sort().values
    return torch.cat([place[1:] - place[:-1], place[:1] + 360 - place[-1:]]).numpy()


WORST = 180.0  # degrees, recorded where the arrangement is another one altogether
dense, pairs, pentagon = (angles(W[at(sparsity)]) for sparsity in (0, 0.8, 0.9))
errors = {
    "dense_angle_error": abs(dense.min() - 90) if len(dense) == 2 else WORST,
    # in a pair of opposites, two neighbouring angles make up the half circle
    "pairs_angle_error": np.abs(pairs + np.roll(pairs, 1) - 180).max() if len(pairs) == 4 else WORST,
    "pentagon_angle_error": np.abs(pentagon - 72).max() if len(pentagon) == 5 else WORST,
}
chapter.claim(
    "T1", where="superposition/why#fig-why-five", text="synthetic", **{k: float(v) for k, v in errors.items()}
)
NAMES = {2: "two axes", 3: "three directions", 4: "two pairs", 5: "a pentagon"}
for name, found in (("dense", dense), ("pairs", pairs), ("pentagon", pentagon)):
    chapter.number(f"{name}-found", NAMES.get(len(found), f"{len(found)} directions"))
for name, value in errors.items():
    chapter.number(name.replace("_", "-"), value, ".1f")
chapter.number("negative-bias", b[at(0.9)].mean().item(), ".2f")
represented = (toy.feature_norms(models.W.detach()) > HALF).sum(1).view(-1, TRIES)[at(0.9)]
chapter.number("stuck", int((represented < kept[at(0.9)]).sum()))
chapter.number("tries", TRIES)

# %% [markdown]
# At sparsity 0 the model has {glue:text}`dense-found`: features 1 and 2 at a right angle. The other three have no
# direction, and in the last column you see what they get instead. Their bias is about one half. It is their mean, the
# best guess if you know nothing. This is what **principal component analysis** would do.
#
# At 80 % there are {glue:text}`pairs-found`. Four features live in two dimensions: the members of a pair point in
# opposite directions. At 90 % we find {glue:text}`pentagon-found`, and all five features are there. Storing more
# features than there are dimensions, in directions that are not at right angles, is **superposition**.
#
# In the matrix on the right, a diagonal element $\mathbf{w}_i \cdot \mathbf{w}_i$ says how well feature $i$ is
# restored: 1 is perfect. An element off the diagonal, $\mathbf{w}_j \cdot \mathbf{w}_i$, says how much of feature $j$
# arrives in the output for feature $i$. That is **interference**. In the pentagon there is a lot of it, and the biases
# are negative ({glue:text}`negative-bias` on average).
#
# ## Why it pays
#
# So superposition costs something, or the model would do it at every sparsity. We write the costs down.
#
# **Without the ReLU**, and for inputs with mean zero, the loss has two parts, up to a factor:
#
# $$
# L \;\propto\; \sum_i I_i \left(1 - \lVert \mathbf{w}_i \rVert^2\right)^2
# \;+\; \sum_{i \neq j} I_j \left(\mathbf{w}_i \cdot \mathbf{w}_j\right)^2
# $$
#
# The first part is the **benefit** of a feature: it pays to have length 1. The second is **interference**: it pays to
# be orthogonal. In two dimensions, a third direction is never orthogonal to both others, and the sum is least if the
# third feature is left out. Sparsity scales both parts alike and changes nothing.
#
# **With the ReLU**, two things change, and a third decides.
#
# 1. *Negative interference is free.* Let 1 and 2 be an opposite pair, and let only feature 1 be on. The output for
#    feature 2 is $\mathrm{ReLU}(-x_1) = 0$, which is right.
# 2. *A little positive interference can be removed.* A negative bias cuts off what is small. The price: true values
#    come out too small by the bias.
# 3. *Both break if two features are on at once.* If 1 and 2 are both on, they cancel. How often does that happen?
#    Exactly $k$ of $n$ features are on with probability $\binom{n}{k} (1-S)^k S^{n-k}$. Sparser inputs make
#    collisions rare much faster than they make single features rare.
#
# So we can sort the loss by the number of features that are on:
#
# $$
# L = \sum_{k=0}^{n} \binom{n}{k} (1-S)^k S^{n-k}\, L_k
# $$
#
# ```{admonition} Predict
# :class: tip
# Compare two axes, two opposite pairs and a pentagon. Which has the smallest $L_1$, the loss when one feature is on?
# Which has the smallest $L_2$? Which loses least when all five are on?
# ```
#
# We build the three by hand, with directions of length 1, and train nothing but the biases, anew for each sparsity.


# %%
def directions(degrees: list[float | None]) -> Tensor:
    """Unit vectors at these angles [N, 2]; None is a feature without a direction."""
    rows = [(0.0, 0.0) if d is None else (np.cos(np.deg2rad(d)), np.sin(np.deg2rad(d))) for d in degrees]
    return torch.tensor(rows, dtype=torch.float32)


ARRANGEMENTS = {
    "two axes": directions([0, 90, None, None, None]),
    "two pairs": directions([0, 180, 90, 270, None]),
    "a pentagon": directions([0, 144, 288, 72, 216]),
}
fine = 1 - torch.logspace(0, -2, 25)
built = toy.ToyModel(len(ARRANGEMENTS) * len(fine), N, M)
built.W.data = torch.cat([W.expand(len(fine), -1, -1) for W in ARRANGEMENTS.values()])
built.W.requires_grad_(False)
built.b.data.fill_(0.1)  # at zero, the ReLU of a feature without a direction would pass no gradient
probability = (1 - fine).repeat(len(ARRANGEMENTS))[:, None].expand(-1, N)
toy.train(built, partial(toy.sparse_features, probability, 256), 1000, loss=weighted, lr=0.03, schedule=toy.cosine)
by_number = loss_by_number(built).view(len(ARRANGEMENTS), len(fine), N + 1)
totals = (by_number * share_of_number(fine)).sum(-1)

# %% tags=["hide-input"]
#| label: fig-why-losses
#| caption: >-
#|   Loss of three arrangements built by hand, divided by the loss of two axes. Below the dashed line, superposition
#|   pays.
density = (1 - fine).numpy()
relative = (totals / totals[0]).numpy()
figure = go.Figure()
for index, (name, line) in enumerate(zip(ARRANGEMENTS, relative, strict=True)):
    dash = "dash" if index == 0 else "solid"
    figure.add_scatter(x=density, y=line, name=name, mode="lines", line={"dash": dash, "color": plots.PALETTE[index]})


def crossing(first: np.ndarray, second: np.ndarray) -> float:
    """The sparsity from which on the second loss is below the first, between two points of the grid."""
    gap = first - second
    i = int(np.flatnonzero(gap <= 0).max())  # the last point where the first is at least as good
    share = gap[i] / (gap[i] - gap[i + 1])
    return float(fine[i] + share * (fine[i + 1] - fine[i]))


to_pairs = crossing(relative[0], relative[1])
to_pentagon = crossing(relative[1], relative[2])
chapter.number("to-pairs", to_pairs, ".0%")
chapter.number("to-pentagon", to_pentagon, ".0%")
joining, kept_share = importance[2:4].sum().item(), importance[:4].sum().item()
# with zero biases the loss of pairs is that of axes where joining (p/3 - p²/4) = kept_share p²/6
chapter.number("to-pairs-zero", 1 - joining / 3 / (kept_share / 6 + joining / 4), ".0%")
figure.update_xaxes(
    type="log", autorange="reversed", title="density 1 − S", tickvals=[1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01]
)
figure.update_yaxes(title="loss / loss of two axes", rangemode="tozero")
plots.describe(
    figure,
    "Three curves over the density, from dense on the left to sparse on the right. Two axes are the reference. Two "
    f"pairs lose more than two axes until a sparsity of {to_pairs:.0%} and less from there on; a pentagon is the best "
    f"of the three from {to_pentagon:.0%} on.",
    hovermode="x",
    legend={"orientation": "h", "y": 1.12},
)

# %% tags=["hide-input"]
shown = int((fine - 0.9).abs().argmin())
shares = share_of_number(fine[shown])
header = ["features on", "how often", *ARRANGEMENTS]
rows = [
    [k, f"{shares[k]:.2%}", *(f"{by_number[i, shown, k]:.3f}" for i in range(len(ARRANGEMENTS)))] for k in range(N + 1)
]
rows.append(["all together", "", *(f"{totals[i, shown]:.4f}" for i in range(len(ARRANGEMENTS)))])
chapter.number("shown", fine[shown].item(), ".0%")
chapter.number("one-on", shares[1].item(), ".0%")
chapter.number("two-on", shares[2].item(), ".0%")
plots.table(header, rows)

# %% [markdown]
# The table takes the loss apart at a sparsity of {glue:text}`shown`. Read it by rows. When one feature is on, which is
# the case for {glue:text}`one-on` of all inputs, two axes lose most: they do not know three of the five features. When
# two are on, in {glue:text}`two-on` of all inputs, the features in superposition begin to collide, and with all five on
# the axes win. The first rows count most, and more so the sparser the inputs are.
#
# In {numref}`fig-why-losses`, pairs become better than axes at a sparsity of {glue:text}`to-pairs`, and a pentagon
# better than pairs at {glue:text}`to-pentagon`. Compare with where the trained models of {numref}`fig-why-five`
# changed. They can also choose lengths, so their borders lie a little elsewhere.
#
# ```{admonition} A trap: the best solution is not always what training finds
# :class: warning
# Each sparsity in {numref}`fig-why-five` shows the best of {glue:text}`tries` runs. At 90 %, {glue:text}`stuck` of them
# ended with fewer features than the best. Once two features lie in opposite directions, a fifth one has to push through
# a wall of interference. If you train one model and see two pairs, you have not learned that two pairs are best.
# ```
#
# ## Twenty features, with and without the ReLU
#
# Now 20 features in 5 dimensions. Importance falls by a factor of 0.7 from each to the next. We compare the linear
# model with ReLU models at rising sparsity, and measure two things for each feature.
#
# - Its **length** $\lVert \mathbf{w}_i \rVert$: is it represented? We say yes from one half on.
# - How much the others write onto its direction, $\sum_{j \neq i} (\hat{\mathbf{w}}_i \cdot \mathbf{w}_j)^2$, where the
#   hat means length 1. This is 0 for a feature with a dimension of its own. At 1 or more, it shares.
#
# A feature is in superposition here if it is represented and this sum is above one half.
#
# ```{admonition} Predict
# :class: tip
# Which features does the linear model keep? As the inputs get sparser, which features are the first to go into
# superposition: the most important ones, the least important ones, or those in between? What do the biases do?
# ```


# %%
def fit(n: int, m: int, base: float, sparsities: list[float], relu: bool) -> toy.ToyModel:
    """Models of n features in m dimensions, whose importance falls by the factor `base`; one for each sparsity."""
    probability = (1 - torch.tensor(sparsities))[:, None].expand(-1, n)
    model = toy.ToyModel(len(sparsities), n, m, relu=relu)
    toy.train(
        model,
        partial(toy.sparse_features, probability, chapter.size(quick=512, full=1024)),
        steps=chapter.size(quick=4000, full=20_000),
        loss=partial(toy.squared_error, importance=base ** torch.arange(n)),
        lr=0.01,
        schedule=toy.cosine,
    )
    return model


def superposed(W: Tensor) -> Tensor:
    """Is each feature represented, and does it share its direction? [..., n_features], True or False."""
    return (toy.feature_norms(W) > HALF) & (toy.interference(W) > 0.5)


def top_kept(W: Tensor) -> int:
    """Of the first m features of one model [n, m], those of length near 1, provided that no other feature has any."""
    norms, m = toy.feature_norms(W), W.shape[1]
    return int(((norms[:m] - 1).abs() < 0.1).sum()) if norms[m:].max() < 0.1 else 0


def gather(n: int, m: int, base: float, sparsities: list[float]) -> tuple[list[str], Tensor, Tensor]:
    """The linear model and the ReLU models: names, directions [models, n, m] and biases [models, n]."""
    line, relu = fit(n, m, base, [0.0], relu=False), fit(n, m, base, sparsities, relu=True)
    names = ["linear", *(f"{sparsity:.10g}" for sparsity in sparsities)]
    return names, torch.cat([line.W, relu.W]).detach(), torch.cat([line.b, relu.b]).detach()


names_20, W_20, b_20 = gather(20, 5, 0.7, [0.0, 0.7, 0.9, 0.97, 0.99, 0.999])


# %% tags=["hide-input"]
#| label: fig-why-twenty
#| caption: >-
#|   20 features in 5 dimensions: the linear model, then ReLU models by sparsity. Left: products of directions and, as
#|   the last column, biases. Right: lengths, coloured by how much of the direction is shared, from blue (0) to red
#|   (1 or more).
def lengths(W: Tensor) -> go.Bar:
    return go.Bar(
        x=toy.feature_norms(W).numpy().round(3),
        y=list(range(len(W))),
        orientation="h",
        marker={
            "color": toy.interference(W).clamp(max=1).numpy().round(3),
            "colorscale": [[0, plots.PALETTE[0]], [1, plots.PALETTE[1]]],
            "cmin": 0,
            "cmax": 1,
            "line": {"width": 0},
        },
        customdata=toy.interference(W).numpy().round(2),
        hovertemplate="length %{x:.2f}, shared %{customdata}<extra></extra>",
    )


def gallery(names: list[str], W: Tensor, b: Tensor, height: int) -> go.Figure:
    """Products, biases and lengths of each model, with a slider over the models."""
    n = W.shape[1]
    figure = make_subplots(
        cols=2, shared_yaxes=True, column_widths=[0.68, 0.32], subplot_titles=["products, and b", "lengths"]
    )
    figure.add_trace(products(W[0], b[0]).update(showscale=False), row=1, col=1)
    figure.add_trace(lengths(W[0]), row=1, col=2)
    figure.frames = [
        go.Frame(name=name, data=[products(W[i], b[i]).update(showscale=False), lengths(W[i])], traces=[0, 1])
        for i, name in enumerate(names)
    ]
    step = n // 4
    figure.update_xaxes(tickvals=[*range(0, n, step), n + 1], ticktext=[*map(str, range(1, n + 1, step)), "b"], col=1)
    figure.update_yaxes(tickvals=[*range(0, n, step)], ticktext=[*map(str, range(1, n + 1, step))])
    figure.update_yaxes(autorange="reversed", col=1)
    figure.update_xaxes(showgrid=False, col=1)
    figure.update_yaxes(showgrid=False)
    figure.update_xaxes(range=[0, 1.3], tickvals=[0, 1], col=2)
    counts = zip(names, (toy.feature_norms(W) > HALF).sum(1).tolist(), superposed(W).sum(1).tolist(), strict=True)
    told = "; ".join(f"{name}: {kept} represented, {shared} in superposition" for name, kept, shared in counts)
    return plots.describe(
        figure,
        f"Heatmap of the products of {n} directions, with a column of biases, beside bars for the lengths, and a "
        f"slider from a linear model to ReLU models of rising sparsity. {told}.",
        height=height,
        bargap=0.1,
        showlegend=False,
        margin={"l": 30, "r": 10},
        sliders=[play(figure, "model: ", 0)],
    )


gallery(names_20, W_20, b_20, 520)


# %% tags=["hide-input"]
def summary(names: list[str], W: Tensor, b: Tensor):
    """One row for each model: who is represented, who shares, where sharing begins, what the biases do."""
    rows = []
    for i, name in enumerate(names):
        shared = superposed(W[i])
        first = str(int(shared.nonzero()[0]) + 1) if shared.any() else "none"
        represented = int((toy.feature_norms(W[i]) > HALF).sum())
        rows.append([name, represented, int(shared.sum()), first, f"{b[i].min():.2f} to {b[i].max():.2f}"])
    return plots.table(["model", "represented", "in superposition", "first of these", "biases"], rows)


summary(names_20, W_20, b_20)

# %% tags=["remove-cell"]
chapter.claim(
    "T2",
    where="superposition/why#fig-why-twenty",
    text="synthetic",
    linear_top_kept=top_kept(W_20[0]),
    dense_top_kept=top_kept(W_20[1]),
    sparse_superposed=int(superposed(W_20[-1]).sum()),
)
sharing = [superposed(each).nonzero().ravel() + 1 for each in W_20]
first_mix = next(i for i, each in enumerate(sharing) if len(each))
loners = sorted(set(range(1, 21)) - set(sharing[first_mix].tolist()))
chapter.number("linear-kept-20", top_kept(W_20[0]))
chapter.number("dense-kept-20", top_kept(W_20[1]))
chapter.number("superposed-20", len(sharing[-1]))
chapter.number("directed-20", int((toy.interference(W_20[-1]) > 0.5).sum()))
chapter.number("first-mix", names_20[first_mix])
chapter.number("first-sharing", int(sharing[first_mix].min()))
chapter.number("bias-dropped", b_20[0, 5:].mean().item(), ".2f")
chapter.number("bias-sparse", b_20[-1].min().item(), ".2f")
chapter.number(
    "least-first",
    "The more important ones keep a dimension each: superposition starts among the least important features that are "
    "represented."
    if set(loners) >= set(range(1, int(sharing[first_mix].min()))) and sharing[first_mix].min() > 1
    else "Here even the most important feature shares at once.",
)

# %% [markdown]
# **The linear model** keeps the {glue:text}`linear-kept-20` most important features and nothing else, at any sparsity:
# an identity block in the corner. Dropped features get their mean as bias, {glue:text}`bias-dropped`.
#
# **The dense ReLU model** does the same. It keeps {glue:text}`dense-kept-20`. When everything is on all the time, the
# ReLU has nothing to offer.
#
# **Sparser ReLU models** represent more. Superposition first appears at sparsity {glue:text}`first-mix`, and the most
# important feature that takes part is number {glue:text}`first-sharing`. {glue:text}`least-first` Opposite pairs come
# first, with biases near zero; later come denser packings, with positive interference and biases down to
# {glue:text}`bias-sparse`.
#
# At the highest sparsity, {glue:text}`superposed-20` of 20 features are in superposition by our measure. The source
# says that all are.
#
# ```{admonition} A trap: sharing a direction without being there
# :class: warning
# The measure of sharing uses $\hat{\mathbf{w}}_i$, the direction alone. A feature of length 0.01 has a direction, too,
# and the others surely write onto it. Without asking for the length, we would count {glue:text}`directed-20` of 20
# features at the highest sparsity, and 15 in the linear model, which has no superposition at all.
# ```
# <!-- numbers: 15 (20 features less the 5 that are kept) -->
#
# ## A larger twin
#
# Is this about small numbers? Four times as many features, 80, in four times as many dimensions, with importances that
# fall by a factor of 0.9.
#
# ```{admonition} Predict
# :class: tip
# Will the picture be the same, only larger? Or does more room allow something new?
# ```

# %% tags=["hide-input"]
#| label: fig-why-eighty
#| caption: 80 features in 20 dimensions, drawn as in {numref}`fig-why-twenty`.
names_80, W_80, b_80 = gather(80, 20, 0.9, [0.0, 0.9, 0.99, 0.999])
gallery(names_80, W_80, b_80, 560)

# %% tags=["hide-input"]
summary(names_80, W_80, b_80)

# %% tags=["remove-cell"]
chapter.claim(
    "T3",
    where="superposition/why#fig-why-eighty",
    text="synthetic",
    linear_top_kept=top_kept(W_80[0]),
    dense_top_kept=top_kept(W_80[1]),
    sparse_superposed=int(superposed(W_80[-1]).sum()),
)
chapter.number("linear-kept-80", top_kept(W_80[0]))
chapter.number("dense-kept-80", top_kept(W_80[1]))
chapter.number("superposed-80", int(superposed(W_80[-1]).sum()))

# %% [markdown]
# The same order of events, rescaled: the top of the list alone, then pairs at its lower end, then everything that is
# represented. At the highest sparsity, {glue:text}`superposed-80` of 80 features are in superposition.
#
# ## What the paper found, what we found
#
# | | the paper {cite}`elhage2022superposition` | here |
# |---|---|---|
# | 5 features in 2, sparsity 0 | two at 90° | {glue:text}`dense-found`, off by {glue:text}`dense-angle-error`° |
# | sparsity 80 % | two opposite pairs | {glue:text}`pairs-found`, off by {glue:text}`pairs-angle-error`° |
# | sparsity 90 % | a pentagon, 72° | {glue:text}`pentagon-found`, off by {glue:text}`pentagon-angle-error`° |
# | 20 in 5, linear | the top 5 | {glue:text}`linear-kept-20` |
# | 20 in 5, dense ReLU | the top 5 | {glue:text}`dense-kept-20` |
# | 20 in 5, sparsest | all 20 in superposition | {glue:text}`superposed-20` |
# | 80 in 20, linear | the top 20 | {glue:text}`linear-kept-80` |
# | 80 in 20, dense ReLU | the top 20 | {glue:text}`dense-kept-80` |
# | 80 in 20, sparsest | all 80 in superposition | {glue:text}`superposed-80` |
#
# **How our set-up differs.** Sizes, importances and data are the source's. Our runs are shorter, with a higher learning
# rate that decays to zero. In the sparsest model a feature is on in one input of a thousand, so a short run sees few
# examples of the least important ones. A feature counts as superposed here only if it is represented; the source shows
# lengths and sharing side by side and leaves the counting to the reader.
#
# ```{admonition} Takeaways
# :class: note
# - Superposition: more features than dimensions, in directions that are not orthogonal.
# - A linear model never does it. A ReLU makes negative interference free, a negative bias removes a little of the
#   positive kind, and sparsity makes collisions rare.
# - Features enter superposition from the least important end.
# - Look at length *and* sharing. Each alone misleads.
# ```
#
# ## Exercises
#
# ```{exercise-start} Who is in superposition?
# :label: ex-why-superposed
# ```
# *Difficulty 2/5 · importance 4/5 · 10 minutes.* Write `in_superposition(W)` without `sae_core.toy`. It takes
# directions `[n_features, n_hidden]` and returns one True or False for each feature: is its length above one half, and
# do the *others* write more than one half onto its direction,
# $\sum_{j \neq i} (\hat{\mathbf{w}}_i \cdot \mathbf{w}_j)^2 > \tfrac12$?
#
# ````{admonition} Hint 1
# :class: dropdown
# `W @ W.T` has all products. Which axis of it must you divide by the length of $\mathbf{w}_i$, to get
# $\hat{\mathbf{w}}_i \cdot \mathbf{w}_j$?
# ````
# ````{admonition} Hint 2
# :class: dropdown
# Square the projections, sum over $j$, and subtract the term $j = i$, which is $\lVert \mathbf{w}_i \rVert^2$. Guard
# the division against a length of zero.
# ````
# ```{exercise-end}
# ```


# %% tags=["stub"]
def in_superposition(W: Tensor) -> Tensor:
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-why-superposed")
def check_superposed(in_superposition):
    def told(*rows: list[float]) -> list[bool]:
        return torch.as_tensor(in_superposition(torch.tensor(rows))).tolist()

    assert told([1.0, 0.0], [0.0, 1.0]) == [False, False], "features at a right angle do not share: is j = i left out?"
    assert told([1.0, 0.0], [-1.0, 0.0]) == [True, True], "opposite features share one direction"
    assert told([1.0, 0.0], [0.0, 1.0], [0.01, 0.0])[2] is False, "a feature of length 0.01 is not represented"
    assert told([1.0, 0.0], [-1.0, 0.0], [0.0, 0.0])[2] is False, "a feature of length 0 is not represented"
    assert told([2.0, 0.0], [-0.6, 0.0]) == [False, True], (
        "the long feature writes much onto the short one's direction, and not the other way round"
    )
    assert told([2.0, 0.0], [-0.8, 0.0]) == [True, True], "a feature's own length does not change what others write"
    three = told([1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.6, 0.0, 0.8])
    assert three == [True, False, False], "two others write a little each onto the first: add up over all others"


check_superposed(in_superposition)

# %% [markdown]
# ````{solution-start} ex-why-superposed
# :class: dropdown
# ````


# %%
def in_superposition(W: Tensor) -> Tensor:
    length = W.norm(dim=1)
    onto = (W @ W.T) / length.clamp(min=1e-12)[:, None]  # row i: how much each j writes onto the direction of i
    others = (onto**2).sum(1) - length**2
    return (length > 0.5) & (others > 0.5)


check_superposed(in_superposition)

# %% [markdown]
# Only $\mathbf{w}_i$ is normalised. If you normalise both, a tiny feature disturbs as much as a large one, and the last
# test fails.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
def by_the_worst(W: Tensor) -> Tensor:
    onto = (W @ W.T / W.norm(dim=1, keepdim=True).clamp(min=1e-12)).square().fill_diagonal_(0)
    return (W.norm(dim=1) > 0.5) & (onto.amax(1) > 0.5)


def by_dimensionality(W: Tensor) -> Tensor:
    return (W.norm(dim=1) > 0.5) & (toy.feature_dimensionality(W) < 2 / 3)


check_superposed.refuses(by_the_worst, because="add up over all others")
check_superposed.refuses(by_dimensionality, because="own length")
check_superposed.refuses(lambda W: (W.norm(dim=1) > 0.5) & ((W @ W.T) ** 2).sum(1).gt(0.5), because="left out")
check_superposed.refuses(lambda W: toy.interference(W) > 0.5, because="not represented")
check_superposed.refuses(lambda W: superposed(W / W.norm(dim=1, keepdim=True).clamp(min=1e-9)), because="represented")
check_superposed.refuses(
    lambda W: (W.norm(dim=1) > 0.5) & ((W @ W.T) ** 2).sum(1).sub(W.norm(dim=1) ** 4).gt(0.5), because="long feature"
)

# %% [markdown]
# ```{exercise-start} The price of being left out
# :label: ex-why-dropped
# ```
# *Difficulty 2/5 · importance 4/5 · 10 minutes.* A feature without a direction is answered by its bias alone. Write
# `dropped_loss(S)`: the smallest mean of $(x - b)^2$ that any bias reaches, for a feature with sparsity $S$.
#
# ````{admonition} Hint 1
# :class: dropdown
# The best constant guess is the mean. What is left is the variance.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# $E[x] = (1-S)/2$. And $E[x^2] = (1-S)/3$, because $\int_0^1 x^2\,dx = 1/3$.
# ````
# ```{exercise-end}
# ```


# %% tags=["stub"]
def dropped_loss(S: float) -> float:
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-why-dropped")
def check_dropped(dropped_loss):
    x = torch.quasirandom.SobolEngine(2, seed=0).draw(2**14).double()
    for S in (0.0, 0.5, 0.9):
        variance = ((x[:, 0] >= S) * x[:, 1]).var().item()
        found = dropped_loss(S)
        assert found < 1.02 * variance, f"at S = {S} a better bias gets {variance:.4f}: is zero the best guess?"
        assert found > 0.98 * variance, f"at S = {S} no bias gets below {variance:.4f}"


check_dropped(dropped_loss)

# %% [markdown]
# ````{solution-start} ex-why-dropped
# :class: dropdown
# ````


# %%
def dropped_loss(S: float) -> float:
    return (1 - S) / 3 - ((1 - S) / 2) ** 2


check_dropped(dropped_loss)

# %% [markdown]
# The second term falls with the square of the density. For sparse features a bias hardly helps: being left out costs
# nearly all that there is.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
check_dropped.refuses(lambda S: (1 - S) / 3, because="a better bias")
check_dropped.refuses(lambda S: (1 - S) / 12, because="no bias gets below")

# %% [markdown]
# ```{exercise-start} When does a pair pay?
# :label: ex-why-break-even
# ```
# *Difficulty 3/5 · importance 5/5 · 20 minutes.* Two features of importance 1, one dimension. Either one feature gets
# the dimension and the other its mean, or they become an opposite pair with directions $1$ and $-1$ and zero bias. From
# which sparsity on is the pair better? Set `break_even`.
#
# ````{admonition} Hint 1
# :class: dropdown
# One gets the dimension: the loss is that of the other, `dropped_loss(S)`. A pair makes errors only if both are on.
# The outputs are then $\mathrm{ReLU}(x_1 - x_2)$ and $\mathrm{ReLU}(x_2 - x_1)$: what is the error of each?
# ````
# ````{admonition} Hint 2
# :class: dropdown
# Let $x_1 > x_2$. The first output misses by $x_2$ and the second, zero, misses by $x_2$, too. So the pair loses
# $2 (1-S)^2\, E[\min(x_1, x_2)^2]$, and for two uniform numbers $E[\min^2] = 1/6$.
# ````
# ````{admonition} Hint 3
# :class: dropdown
# With $p = 1 - S$, solve $p/3 - p^2/4 = p^2/3$.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
break_even = None


# %% tags=["check", "hide-input"]
@check("ex-why-break-even")
def check_break_even(break_even):
    u = torch.quasirandom.SobolEngine(2, seed=0).draw(2**14).double()
    single, both = u[:, 0].square().mean(), 2 * torch.minimum(u[:, 0], u[:, 1]).square().mean()

    def gain(S: float) -> float:
        """How much less the pair loses."""
        p = 1 - S
        return float(p * single - (p / 2) ** 2 - p**2 * both)

    assert 0 < break_even < 1, "a sparsity lies between 0 and 1"
    assert gain(break_even - 0.01) < 0, "a little below your sparsity the pair is better already: did you give 1 − S?"
    assert gain(break_even + 0.01) > 0, "a little above your sparsity the pair is still worse"


check_break_even(break_even)

# %% [markdown]
# ````{solution-start} ex-why-break-even
# :class: dropdown
# ````

# %%
break_even = 1 - 4 / 7
check_break_even(break_even)

# %% [markdown]
# $p/3 - p^2/4 = p^2/3$ gives $p = 4/7$. The features are on more than half of the time, and still sharing pays. With
# zero biases the two pairs of {numref}`fig-why-losses` would need a sparsity of {glue:text}`to-pairs-zero`, more than
# here, because two axes keep the two most important features. But in the figure the biases are trained. There the
# border lies at {glue:text}`to-pairs`.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
check_break_even.refuses(4 / 7, because="did you give 1 − S")
check_break_even.refuses(0.25, because="still worse")  # took E[min²] for 1/12
check_break_even.refuses(1.0, because="between 0 and 1")

# %% [markdown]
# ```{exercise-start} Eight features by hand
# :label: ex-why-eight
# ```
# *Difficulty 4/5 · importance 3/5 · 30 minutes.* Open-ended. Eight equally important features, three dimensions,
# sparsity 95 %. Three opposite pairs represent six of them. Build something better, without training: a function
# `eight()` that returns `W` `[8, 3]` and `b` `[8]` whose loss is lower. How far below can you get?
#
# ````{admonition} Hint 1
# :class: dropdown
# You want eight directions that stay out of each other's way: products of different directions should be negative or
# small. A cube is a natural idea. It is not the best one.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# Twist the upper face of the cube by 45°: a square antiprism. Now every corner has its neighbours as far away as
# possible.
# ````
# ````{admonition} Hint 3
# :class: dropdown
# A negative bias removes positive interference, and makes true values too small. A length a little above 1 makes up for
# that. Scan both on a coarse grid with the loss in the check.
# ````
# ```{exercise-end}
# ```


# %% tags=["stub"]
def eight() -> tuple[Tensor, Tensor]:
    raise NotImplementedError


# %% tags=["check", "hide-input"]
def loss_of_eight(W: Tensor, b: Tensor) -> float:
    """Loss of one model on a fixed sample of inputs with eight features and sparsity 95 %."""
    x = toy.sparse_features(torch.full((1, 8), 0.05), 50_000, torch.Generator().manual_seed(0))
    output = (x @ W @ W.T + b).relu()
    return toy.squared_error(output, x).item()


@check("ex-why-eight")
def check_eight(eight):
    W, b = (torch.as_tensor(part, dtype=torch.float32) for part in eight())
    assert W.shape == (8, 3) and b.shape == (8,), "W is [8, 3], and b is [8]"
    octahedron = torch.cat([torch.eye(3), -torch.eye(3), torch.zeros(2, 3)])
    reference = loss_of_eight(octahedron, torch.tensor([0.0] * 6 + [0.025] * 2))
    found = loss_of_eight(W, b)
    assert found < reference, f"your loss is {found:.4f}, that of three opposite pairs is {reference:.4f}"


check_eight(eight)

# %% [markdown]
# ````{solution-start} ex-why-eight
# :class: dropdown
# ````


# %%
def antiprism(height: float, length: float, bias: float) -> tuple[Tensor, Tensor]:
    turn = torch.arange(8) * torch.pi / 4  # even corners above, odd ones below, an eighth of a turn between them
    up = height * (1 - 2 * (torch.arange(8) % 2))
    W = torch.stack([turn.cos(), turn.sin(), up], dim=1)
    return length * W / W.norm(dim=1, keepdim=True), torch.full((8,), bias)


def eight() -> tuple[Tensor, Tensor]:
    grid = itertools.product([0.5, 0.6, 0.7], [1.0, 1.1, 1.2], [-0.3, -0.25, -0.2, -0.15])
    return min((antiprism(*choice) for choice in grid), key=lambda candidate: loss_of_eight(*candidate))


print(f"{loss_of_eight(*eight()):.4f}")
check_eight(eight)

# %% [markdown]
# A scan over three numbers is not training. It is enough, because symmetry does the rest. You will meet the square
# antiprism again in {doc}`phase_changes`, found by gradient descent.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
check_eight.refuses(lambda: (torch.eye(8)[:, :3], torch.zeros(8)), because="three opposite pairs")
check_eight.refuses(lambda: antiprism(0.6, 1.0, 0.0), because="three opposite pairs")
check_eight.refuses(lambda: (torch.zeros(3, 8), torch.zeros(8)), because="W is [8, 3]")
