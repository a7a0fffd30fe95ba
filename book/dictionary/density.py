# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Feature density
#
# You have a dictionary. Before you read a single feature, look at one number for each: how often it fires. That
# number alone finds most of what is wrong with a dictionary. It also misleads in ways that you should see once.
#
# ```{admonition} Before you start
# **You will be able to**
# - draw and read the histogram of feature densities, and say what it cannot show at your number of tokens;
# - name the dead, ultralow, ordinary and dense features of a dictionary, and say where each border comes from;
# - tell a rare feature from a broken one by its weights;
# - measure {term}`L0`, {term}`explained variance` and {term}`loss recovered`, and say what each hides.
#
# **You need** the chapter {doc}`training`.
#
# **Time**: 35 minutes to read, about a minute to run.
# ```

# %% tags=["hide-input"]
import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots

from sae_core import bundle, chapter, evidence, metrics, plots
from sae_core.activations import harvest, patched
from sae_core.autoencoder import load_dictionary
from sae_core.exercises import check
from sae_core.language_model import load_model, to_tensor, token_losses
from sae_core.runs import held_out, held_out_description
from sae_core.tokens import token_bytes

# %%
model = load_model("A")
dictionary = load_dictionary("A/1")
contexts, text_name = held_out(model)
contexts = contexts.head(chapter.size(quick=4000, full=20_000))
features = evidence.feature_evidence(model, dictionary, contexts)

# %% tags=["hide-input"]
n_tokens, n_features = features.n_tokens, features.n_features
counts, density = features.counts, features.density
floor = 1 / n_tokens


def one_in(density: float) -> str:
    """A density in words, with two digits."""
    every = 1 / density
    digits = max(0, int(np.floor(np.log10(every))) - 1)
    return f"one token in {round(every, -digits):,.0f}" if every >= 10 else f"one token in {every:.1f}"


def power(density: float) -> str:
    return f"10^{np.log10(density):.1f}"


def decade(start: int) -> str:
    """From one power of ten to the next."""
    raised = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    return " to ".join("10" + str(exponent).translate(raised) for exponent in (start, start + 1))


chapter.number("text", text_name)
chapter.number("text-description", held_out_description(model))
chapter.number("tokens", n_tokens, ",")
chapter.number("features", n_features, ",")
chapter.number("d-in", dictionary.d_in)
chapter.number("floor", one_in(floor))

# %% [markdown]
# Everything here is measured on {glue:text}`tokens` tokens of *{glue:text}`text`*: {glue:text}`text-description`. The
# model did not train on them. `features` holds, for each of the {glue:text}`features` features of A/1, the tokens on
# which it is active and how strongly.
#
# ## How often should a feature fire?
#
# A feature **fires** on a token if its activation there is not zero. Its **density** is the share of tokens on which
# it fires. The number of features that fire on one token is that token's **L0**.
#
# ```{admonition} Predict
# :class: tip
# Suppose that the mean L0 is 10, and that all 4,096 features fire equally often. How often does each fire? And do you
# expect that they really fire equally often: within a factor of 2, of 100, of 10,000?
# ```
#
# The first answer needs no data. Count the firings in two ways: token by token they make L0, feature by feature they
# make densities. So the densities always add up to the mean L0. Ten shared by 4,096 is about one token in 400.
#
# <!-- numbers: 4,096 (the width that the box above names) -->

# %%
shape = contexts.ids.shape
l0 = np.bincount(features.places, minlength=contexts.ids.size).reshape(shape)[:, 1:]
print(f"mean L0              {l0.mean():.4f}")
print(f"sum of all densities {density.sum():.4f}")
print(f"equal shares         {density.sum() / n_features:.2g}")
print(f"largest density      {density.max():.2g}")
print(f"median density       {np.median(density):.2g}")

# %% tags=["remove-cell"]
equal = density.sum() / n_features
fired = density[counts > 0]
low, high = np.quantile(fired, [0.05, 0.95])
chapter.number("equal", one_in(equal))
chapter.number("low", one_in(low))
chapter.number("high", one_in(high))
chapter.number("spread", high / low, ",.0f")
chapter.number("median", one_in(np.median(fired)))
chapter.number("fired", len(fired), ",")

# %% [markdown]
# In A/1, equal shares would be {glue:text}`equal`. In truth, nine tenths of the features that fired at all lie
# between {glue:text}`low` and {glue:text}`high`. The ends differ by a factor of {glue:text}`spread`. We use a
# logarithmic axis, on which factors become distances.
#
# Why so uneven? Words and topics are. A feature for a comma and a feature for one kind of legal citation cannot have
# the same density, if both are right. So there is no one density that a feature should have. Still, some densities
# are suspicious, and the rest of this chapter is about them.
#
# ## What a million tokens can show
#
# A feature that fires on one token in ten million will most likely stay silent on one million. The smallest density
# that you can see is $1 / N$, one firing on all your $N$ tokens. We call it the **floor**. Below it, rare and dead
# look alike.
#
# ```{admonition} Predict
# :class: tip
# You count on 10,000 tokens, then on ten times as many, then on a hundred times as many. What happens to the left end
# of the histogram? What happens to the right end?
# ```
#
# Move the slider in {numref}`fig-density-tokens`. The leftmost bar counts the features that have not fired yet. It
# stands apart because zero has no logarithm.

# %% tags=["hide-input"]
#| label: fig-density-tokens
#| caption: >-
#|   The same features, counted on more and more tokens. The dotted line is the floor, one firing; the bar left of
#|   the gap counts the features that are still silent.
owner = np.repeat(np.arange(n_features), counts)  # the feature of each entry
steps = [max(1, len(contexts.ids) // part) for part in (100, 30, 10, 3, 1)]
step_tokens = [step * (contexts.ids.shape[1] - 1) for step in steps]
step_counts = [
    np.bincount(owner[features.places < step * contexts.ids.shape[1]], minlength=n_features) for step in steps
]
lowest = np.floor(np.log10(floor) * 4) / 4  # bars are a quarter of a decade wide
edges = np.arange(lowest, 0.01, 0.25)
centers = (edges[:-1] + edges[1:]) / 2


def bars(counted: np.ndarray, tokens: int) -> np.ndarray:
    seen, _ = np.histogram(np.log10(counted[counted > 0] / tokens), edges)
    return np.array([(counted == 0).sum(), 0, *seen])


heights = [bars(counted, tokens) for counted, tokens in zip(step_counts, step_tokens, strict=True)]
silent = [int(height[0]) for height in heights]
x = np.array([lowest - 0.5, lowest - 0.25, *centers])
top = 1.05 * max(height.max() for height in heights)


def floor_line(tokens: int) -> dict:
    at = float(np.log10(1 / tokens))
    return {"type": "line", "x0": at, "x1": at, "y0": 0, "y1": top, "line": {"dash": "dot", "color": plots.PALETTE[7]}}


def thousands(tokens: int) -> str:
    return f"{tokens / 1e6:.2g} M" if tokens >= 1e6 else f"{tokens / 1e3:.0f} k"


color = [plots.PALETTE[1]] + [plots.PALETTE[0]] * (len(x) - 1)
figure = go.Figure(go.Bar(x=x, y=heights[-1], width=0.25, marker_color=color, hovertemplate="%{y} features"))
figure.frames = [
    go.Frame(name=thousands(tokens), data=[go.Bar(y=height)], layout={"shapes": [floor_line(tokens)]}, traces=[0])
    for height, tokens in zip(heights, step_tokens, strict=True)
]
now = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
slider = {
    "active": len(steps) - 1,
    "currentvalue": {"prefix": "tokens counted: "},
    "pad": {"t": 70},
    "len": 0.94,
    "steps": [{"label": frame.name, "method": "animate", "args": [[frame.name], now]} for frame in figure.frames],
}
decades = list(range(int(np.ceil(lowest)), 1))
figure.update_xaxes(
    title="feature density",
    tickvals=[lowest - 0.5, *decades],
    ticktext=["0", *(f"10<sup>{decade}</sup>" for decade in decades)],
    tickangle=0,
    range=[lowest - 0.75, 0],
)
figure.update_yaxes(title="features", range=[0, top])
told = "; ".join(
    f"on {tokens:,} tokens {quiet:,} are silent" for tokens, quiet in zip(step_tokens, silent, strict=True)
)
plots.describe(
    figure,
    f"Histogram of the densities of {n_features:,} features, with a slider for the number of tokens counted. {told}. "
    "The right part hardly moves; the left part fills in as the floor moves left.",
    height=480,
    bargap=0,
    sliders=[slider],
    shapes=[floor_line(n_tokens)],
)

# %% tags=["remove-cell"]
chapter.number("few-tokens", step_tokens[0], ",")
chapter.number("silent-few", silent[0], ",")
chapter.number("silent-all", silent[-1], ",")
chapter.number(
    "silent-verdict",
    "None of them was dead."
    if silent[-1] == 0
    else f"At least {silent[0] - silent[-1]:,} of them were not dead at all. What would the rest do on more text?",
)

# %% [markdown]
# On {glue:text}`few-tokens` tokens, {glue:text}`silent-few` features are silent; on {glue:text}`tokens`,
# {glue:text}`silent-all`. {glue:text}`silent-verdict`
#
# ```{admonition} A trap: "dead" without a number of tokens
# :class: warning
# "5 % of the features are dead" means nothing until you know on how many tokens. Two dictionaries can only be
# compared at the same number, on the same text. The paper counted on 100 million tokens
# {cite}`bricken2023monosemanticity`, so its floor lies a hundred times lower than that of one million. Our count on
# {glue:text}`tokens` tokens cannot confirm or deny theirs.
# ```
#
# The floor is not sharp, either. A feature that was seen $k$ times has an uncertain density: the standard error of
# $k$ is about $\sqrt{k}$ if firings are independent, and more if they come in clusters, as words of one document do.
# Once seen can be three times in truth, or a third of a time.
#
# ## Four groups
#
# The paper sorts features by density, and we follow it as far as the floor allows.
#
# - **Dead**: silent on all the tokens counted.
# - **Ultralow**: fires, but on fewer than one token in a million. The paper adds that these features form a cluster
#   of their own, with odd weights.
# - **Dense**: fires on more than 1 % of the tokens. The paper counts these as a warning: many of them mean that
#   $\lambda$ is too small.
# - **Ordinary**: the rest.
#
# The border at one in a million was drawn for 100 million tokens and for a dictionary trained on 8 billion
# activations. With {glue:text}`tokens` tokens the floor is at {glue:text}`floor`, next to that border. So we ask the
# data first whether there is a cluster.
#
# ### Counting modes
#
# A **mode** is a peak of the histogram. Bars are a poor place to count peaks, because shifting the bars changes the
# count. We smooth instead: each feature becomes a small bell curve on the logarithmic axis, and the curves are added.
# A peak counts as a mode if two things hold.
#
# - It rises by at least 5 % of the highest peak above the dip that separates it from a higher one. Otherwise it may
#   be noise.
# - It is further from the floor than one bandwidth. A cluster that is cut off by the floor looks like a peak there,
#   whatever it does below.

# %%
BANDWIDTH = 0.2  # decades; log10(2) = 0.3 lies between features seen once and twice
grid = np.linspace(np.log10(floor) - 0.5, 0, 400)
logs = np.log10(fired)


def smooth(bandwidth: float) -> np.ndarray:
    """Features per decade at each point of the grid."""
    bells = np.exp(-0.5 * ((grid[:, None] - logs) / bandwidth) ** 2)
    return bells.sum(1) / (bandwidth * np.sqrt(2 * np.pi))


def modes(curve: np.ndarray, bandwidth: float) -> list[int]:
    """Places on the grid of the peaks that count, from left to right."""
    chosen = []
    rises, falls = curve[1:-1] > curve[:-2], curve[1:-1] >= curve[2:]
    for peak in np.flatnonzero(rises & falls) + 1:
        higher = np.flatnonzero(curve > curve[peak])
        nearest = (*higher[higher < peak][-1:], *higher[higher > peak][:1])
        dips = [curve[min(peak, at) : max(peak, at)].min() for at in nearest]
        is_high = curve[peak] - max(dips, default=0.0) >= 0.05 * curve.max()
        if is_high and grid[peak] > np.log10(floor) + bandwidth:
            chosen.append(int(peak))
    return chosen


curve = smooth(BANDWIDTH)
peaks = modes(curve, BANDWIDTH)

# %% tags=["hide-input"]
#| label: fig-density-modes
#| caption: >-
#|   Densities of the features that fired, smoothed on the logarithmic axis with three bandwidths. Circles mark the
#|   modes of the middle one.
figure = plots.curves(
    {f"bandwidth {width} decades": (grid, smooth(width)) for width in (0.1, BANDWIDTH, 0.4)},
    "feature density",
    "features per decade",
    f"Three smooth curves of the density of {len(fired):,} features on a logarithmic axis. With bandwidth {BANDWIDTH} "
    f"the modes lie at {', '.join(power(10 ** grid[peak]) for peak in peaks) or 'no place that counts'}.",
    hovermode="x",
)
figure.add_scatter(
    x=grid[peaks],
    y=curve[peaks],
    name="modes",
    mode="markers",
    marker={"size": 11, "symbol": "circle-open", "line": {"width": 3}, "color": plots.PALETTE[3]},
)
figure.update_xaxes(tickvals=decades, ticktext=[f"10<sup>{decade}</sup>" for decade in decades])
figure.add_vline(np.log10(floor), line={"dash": "dot", "color": plots.PALETTE[7]}, annotation_text="floor")

# %% tags=["remove-cell"]
if peaks:
    chapter.claim(
        "A7",
        where="dictionary/density#fig-density-modes",
        text=text_name,
        modes=len(peaks),
        log10_low_mode=grid[peaks[0]],
        log10_high_mode=grid[peaks[-1]],
        features=len(fired),
        tokens=n_tokens,
    )
cosine = (torch.nn.functional.normalize(dictionary.W_enc.T, dim=1) * dictionary.W_dec).sum(1).detach().numpy()
at_random = 3 / np.sqrt(dictionary.d_in)

# %% [markdown]
# ### When is a left mode a cluster of broken features?
#
# A second mode alone does not say that anything is broken. Good features can come in two kinds, common and rare. The
# paper's other half of the definition helps: odd weights. An ordinary feature reads from the direction that it writes
# to, more or less, so its encoder and its decoder point the same way. Two random directions in $n$ dimensions have a
# cosine of about $\pm 1 / \sqrt n$.
#
# So our rule is this. If there is a first mode, a dip, and a second mode, and if half of the features left of the dip
# have a cosine below $3 / \sqrt n$, they are an ultralow *cluster* and the dip is its border. Otherwise we keep the
# paper's border, one in a million.

# %%
border = metrics.ULTRALOW_DENSITY
if len(peaks) >= 2:
    dip = 10 ** grid[peaks[0] + curve[peaks[0] : peaks[1]].argmin()]
    left = (counts > 0) & (density < dip)
    if np.median(cosine[left]) < at_random:
        border = dip

names = ["dead", "ultralow", "dense"]
group = np.select([counts == 0, density < border, density > 0.01], names, "ordinary")
sizes = {name: int((group == name).sum()) for name in ("dead", "ultralow", "ordinary", "dense")}
sizes

# %% tags=["remove-cell"]
has_cluster = border != metrics.ULTRALOW_DENSITY
for name, count in sizes.items():
    chapter.number(f"{name}", count, ",")
    chapter.number(f"{name}-share", count / n_features, ".1%")
ill = sizes["dead"] + sizes["ultralow"]
chapter.number("ill-share", ill / n_features, ".1%")
chapter.number("border", one_in(border))
chapter.number("once", int((counts == 1).sum()), ",")
mode_list = " and ".join(one_in(10 ** grid[peak]) for peak in peaks)
chapter.number("modes", len(peaks))
chapter.number("mode-list", mode_list or "none that counts")
left_mode = "ultralow, by our rule" if has_cluster else "not ultralow, by our rule"
chapter.number("left-mode", left_mode if len(peaks) > 1 else "there is none")
chapter.number(
    "modes-sentence",
    f"We count {len(peaks)} modes, at {mode_list}."
    if len(peaks) > 1
    else f"We count one mode, at {mode_list}."
    if peaks
    else "No peak counts as a mode by our rule.",
)
if has_cluster:
    verdict = (
        f"Left of the dip at {one_in(border)} the median cosine is {np.median(cosine[left]):.2f}, and two random "
        f"directions have at most about {at_random:.2f}. By our rule this is a cluster of ultralow features."
    )
elif len(peaks) >= 2:
    verdict = (
        f"Left of the dip at {one_in(dip)} the median cosine is {np.median(cosine[left]):.2f}, more than the "
        f"{at_random:.2f} that two random directions reach. So the left mode is not made of features that never "
        "found a direction, and we do not call it ultralow. The border stays at one in a million."
    )
else:
    verdict = (
        "There is no dip to draw a border at. Either there is no ultralow cluster in this dictionary, or it lies below "
        "our floor, or it overlaps with the ordinary features. We keep the border at one in a million."
    )
chapter.number("cluster-verdict", verdict)
chapter.claim(
    "A10",
    where="dictionary/density#fig-density-groups",
    text=text_name,
    features=n_features,
    dead=sizes["dead"],
    ultralow=sizes["ultralow"],
    tokens=n_tokens,
)

# %% [markdown]
# {glue:text}`modes-sentence` {glue:text}`cluster-verdict` {numref}`fig-density-groups` shows the result.

# %% tags=["hide-input"]
#| label: fig-density-groups
#| caption: >-
#|   Feature densities of A/1 on {glue:text}`tokens` tokens. Dead features have no place on a logarithmic axis; the
#|   legend gives their number. Dotted line: the floor. Dashed line: the border of the ultralow group.
figure = plots.log_histogram(
    {f"{name}: {count:,}": density[group == name] for name, count in sizes.items()},
    "feature density",
    f"Stacked histogram of feature densities from {power(floor)} to {power(fired.max())}. "
    + ", ".join(f"{count:,} {name}" for name, count in sizes.items())
    + f". The floor is at {power(floor)}, the border of the ultralow group at {power(border)}.",
    bins_per_decade=4,
)
for at, dash in ((floor, "dot"), (border, "dash")):
    figure.add_vline(np.log10(at), line={"dash": dash, "color": plots.PALETTE[7]})
figure.update_xaxes(range=[lowest - 0.1, 0])
figure.update_layout(legend_traceorder="normal")

# %% [markdown]
# Of {glue:text}`features` features, {glue:text}`dead` are dead, {glue:text}`ultralow` ultralow, {glue:text}`ordinary`
# ordinary and {glue:text}`dense` dense. The paper reports 168 dead and 292 ultralow features for its A/1, on 100
# million tokens; together 11 % of 4,096. Ours are {glue:text}`ill-share`.
#
# ```{admonition} A trap: density belongs to a feature *and a text*
# :class: warning
# A feature for Arabic script is dense on an Arabic page and dead on an English one. Our text is not the Pile. So a
# density says how often a feature fires *here*. Run this chapter on another text and features change groups, though
# not one weight has changed.
# ```
#
# ## What the groups look like
#
# Numbers become tangible with examples. Here are three features: the densest, the one in the middle, and the rarest
# that fired at least 20 times. The middle is taken among those that fired 20 times, too. Snippets show strong
# examples first, then random ones from the intervals of the activation's range. The underlined token is the one that
# the snippet was chosen for.

# %% tags=["hide-input"]
pieces = token_bytes(model.tokenizer)
shown = np.flatnonzero(counts >= 20)
shown = shown[np.argsort(density[shown], kind="stable")]
densest, median, rarest = int(shown[-1]), int(shown[len(shown) // 2]), int(shown[0])
for name, feature in (("densest", densest), ("middle", median), ("rarest", rarest)):
    chapter.number(f"{name}-feature", feature)
    chapter.number(f"{name}-density", one_in(density[feature]))
    chapter.number(f"{name}-count", int(counts[feature]), ",")
    chapter.number(f"{name}-contexts", len(np.unique(features.of(feature)[0] // contexts.ids.shape[1])), ",")
    chapter.number(f"{name}-group", group[feature])

# %% [markdown]
# ### The densest
#
# Feature {glue:text}`densest-feature` fires on {glue:text}`densest-density`.

# %%
plots.feature_examples(features, densest, pieces, top=3, per_interval=1)

# %% [markdown]
# A feature that fires this often can hardly be about one rare thing. Compare the strongest rows with the weakest. If
# a few tokens make it fire strongly and the rest weakly, then the feature may mean something at the top and be noise
# at the bottom.
#
# ### The middle
#
# Feature {glue:text}`middle-feature` fires on {glue:text}`middle-density`, {glue:text}`middle-count` times in
# {glue:text}`middle-contexts` contexts. It is in the group "{glue:text}`middle-group`".

# %%
plots.feature_examples(features, median, pieces, top=3, per_interval=1)

# %% [markdown]
# ### The rarest with 20 firings
#
# Feature {glue:text}`rarest-feature` fires on {glue:text}`rarest-density`, {glue:text}`rarest-count` times in
# {glue:text}`rarest-contexts` contexts, in the group "{glue:text}`rarest-group`".

# %%
plots.feature_examples(features, rarest, pieces, top=3, per_interval=1)

# %% [markdown]
# Look at the number of contexts as well as at the number of firings. Twenty firings in one document are one
# observation, not twenty.
#
# ### Which text the rare features serve
#
# The text comes in slices: a language, a format, a genre. Take all firings of the features of one decade of density.
# How are they spread over the slices, compared to all tokens?
#
# ```{admonition} Predict
# :class: tip
# Are rare features spread over the slices like the text itself, or do they belong to some slices more than to others?
# Which?
# ```

# %% tags=["hide-input"]
#| label: fig-density-slices
#| caption: >-
#|   How strongly features of each density prefer each slice. A feature's share of firings in a slice is averaged
#|   over the features of a decade, and divided by the slice's share of all tokens. Below each decade stands how many
#|   features it has, of those with at least 20 firings.
n_slices = len(contexts.slice_names)
slice_of = np.ravel(contexts.slices)[features.places]
table = np.bincount(owner * n_slices + slice_of, minlength=n_features * n_slices).reshape(n_features, n_slices)
text_share = np.bincount(np.ravel(contexts.slices[:, 1:]), minlength=n_slices) / n_tokens
large = [s for s in np.argsort(-text_share) if text_share[s] >= 0.003][:20]
starts = [d for d in decades[:-1] if ((counts >= 20) & (density >= 10.0**d) & (density < 10.0 ** (d + 1))).sum() >= 5]
columns, labels = [], []
for start in starts:
    inside = (counts >= 20) & (density >= 10.0**start) & (density < 10.0 ** (start + 1))
    shares = (table[inside] / counts[inside][:, None]).mean(0)
    columns.append(shares[large] / text_share[large])
    labels.append(f"10<sup>{start}</sup><br>{inside.sum():,}")
lift = np.array(columns).T
names = [contexts.slice_names[s] for s in large]
figure = go.Figure(
    go.Heatmap(
        z=np.log2(np.maximum(lift, 2.0**-5)),
        x=labels,
        y=names,
        customdata=lift,
        zmin=-3,
        zmax=3,
        colorscale="RdBu_r",
        hovertemplate="%{y}, %{x}: %{customdata:.2f} times<extra></extra>",
        colorbar={"tickvals": [-3, -1.585, 0, 1.585, 3], "ticktext": ["1/8", "1/3", "1", "3", "8"], "thickness": 12},
    )
)
figure.update_yaxes(autorange="reversed", dtick=1)
figure.update_xaxes(title="density from …", tickangle=0, tickfont_size=12)
best = np.unravel_index(lift.argmax(), lift.shape)
plots.describe(
    figure,
    f"Heat map of {len(names)} slices by {len(starts)} decades of density. The largest preference is {lift[best]:.1f} "
    f"times the slice's share, for {names[best[0]]} from {decade(starts[best[1]])}. In the "
    f"rarest decade shown the slice preferred most is {names[lift[:, 0].argmax()]} ({lift[:, 0].max():.1f} times).",
    height=150 + 24 * len(names),
)

# %% tags=["remove-cell"]
top_rare, top_dense = int(lift[:, 0].argmax()), int(lift[:, -1].argmax())
chapter.number("rare-decade", decade(starts[0]))
chapter.number("rare-slice", names[top_rare])
chapter.number("rare-lift", lift[top_rare, 0], ".1f")
chapter.number("dense-slice", names[top_dense])
chapter.number("dense-lift", lift[top_dense, -1], ".1f")

# %% [markdown]
# Among the rarest features shown ({glue:text}`rare-decade`), the slice preferred most is *{glue:text}`rare-slice`*,
# at {glue:text}`rare-lift` times its share of the text. Among the densest it is *{glue:text}`dense-slice`*, at
# {glue:text}`dense-lift` times.
#
# A word of care: a slice that is 1 % of the text bounds the density of any feature for it at 1 %, so small slices
# *must* show up to the left. Whether more than that is going on is a question for single features.
#
# ## A rare feature or a broken one?
#
# Density alone cannot answer that. The paper found that three numbers together can: the logarithm of the density, the
# encoder's bias, and the dot product of a feature's encoder and decoder. In its figure the ultralow features form a
# cloud of their own, even where the histogram shows no gap.
#
# What would each number say?
#
# - **Encoder bias.** A feature that hardly ever fires can be held down by a very negative bias.
# - **Encoder · decoder.** Suppose that the input is exactly one unit of a feature's direction. The dot product is how
#   much the encoder reads of it, before the bias. Near 1 it reads what it writes. Near 0 it reads something else.
#
# ```{admonition} In which units?
# :class: note
# Our dictionaries were trained on activations scaled so that their mean squared norm is $n$. Afterwards the scale was
# folded into their biases, so that they take raw activations. Dot products do not depend on the scale, because decoder
# rows have norm 1 and codes are in the units of the input. Biases do: ours are in raw activation units and cannot be
# compared with the paper's.
# ```
#
# It takes a dictionary that has rare features. {glue:text}`why-wide` It is large, so we count on fewer tokens,
# {glue:text}`wide-tokens`. We call a feature **rare** if it fires on less than one token in 100,000, silent ones
# included, and the others **high**.
#
# <!-- numbers: 100,000 (the inverse of RARE below) -->

# %%
wide_name = "A/2" if "A/2" in bundle.available("cfg.json") else "A/1"
wide = load_dictionary(wide_name)
on_fewer = evidence.feature_evidence(model, wide, contexts.head(1000))
RARE = 1e-5
rare, never = on_fewer.density < RARE, on_fewer.counts == 0
bias = wide.b_enc.detach().numpy()
dot = (wide.W_enc.T * wide.W_dec).sum(1).detach().numpy()
print(f"{wide_name}: {rare.sum():,} rare, of which {never.sum():,} are silent, and {(~rare).sum():,} high")

# %% tags=["remove-cell"]
chapter.number("wide", wide_name)
chapter.number("wide-tokens", on_fewer.n_tokens, ",")
chapter.number(
    "why-wide",
    f"A/1 has {ill:,} dead or ultralow ones here, and A/2 has many."
    if wide_name == "A/2"
    else "A larger one would have more of them than A/1, but none is there.",
)

# %% [markdown]
# ```{admonition} Predict
# :class: tip
# Where will the silent features lie: with the rare ones that fired, with the high ones, or somewhere else?
# ```

# %% tags=["hide-input"]
#| label: fig-density-3d
#| caption: >-
#|   Features of {glue:text}`wide`, a point for each; drag to turn. Silent ones are drawn half a step below the floor.
#|   At most 500 features of a group are shown.
rng = np.random.default_rng(0)
wide_floor = 1 / on_fewer.n_tokens
log_density = np.log10(np.maximum(on_fewer.density, wide_floor / 2))
three = {"silent": never, "rare": rare & ~never, "high": ~rare}
marks = dict(zip(three, (plots.PALETTE[7], plots.PALETTE[1], plots.PALETTE[0]), strict=True))
drawn = {
    name: np.sort(rng.choice(np.flatnonzero(of), min(500, of.sum()), replace=False))
    for name, of in three.items()
    if of.any()
}


def points(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    return values[chosen].astype(np.float32)


figure = go.Figure()
for name, chosen in drawn.items():
    figure.add_scatter3d(
        x=points(log_density, chosen),
        y=points(bias, chosen),
        z=points(dot, chosen),
        name=name,
        mode="markers",
        marker={"size": 2.5, "color": marks[name]},
        text=chosen.astype(np.int32),
        hovertemplate="feature %{text}<br>log density %{x:.2f}<br>bias %{y:.3f}<br>dot %{z:.2f}",
    )
medians = "; ".join(
    f"{name}: bias {np.median(bias[three[name]]):.3f}, dot product {np.median(dot[three[name]]):.2f}" for name in drawn
)
plots.describe(
    figure,
    f"Three-dimensional scatter plot of log density, encoder bias and encoder · decoder. Medians by group: {medians}.",
    height=440,
    margin={"t": 0, "b": 0},
    scene={
        "xaxis": {"title": {"text": "log density"}, "tickvals": list(range(int(np.ceil(log_density.min())), 1))},
        "yaxis": {"title": {"text": "bias"}, "nticks": 4},
        "zaxis": {"title": {"text": "enc · dec"}},
        "camera": {"eye": {"x": 1.85, "y": -1.85, "z": 0.9}, "center": {"x": 0, "y": 0, "z": -0.15}},
    },
    legend={"itemsizing": "constant"},
)

# %% [markdown]
# {numref}`fig-density-2d` shows the same cloud from the front and from the side. {glue:text}`silent-sentence`

# %% tags=["hide-input"]
#| label: fig-density-2d
#| caption: >-
#|   Two views of the same features of {glue:text}`wide`. Dotted line: the floor.
figure = make_subplots(rows=2, cols=1, vertical_spacing=0.16)
for row, across in ((1, log_density), (2, bias)):
    for name, chosen in drawn.items():
        figure.add_scatter(
            x=points(across, chosen),
            y=points(dot, chosen),
            name=name,
            legendgroup=name,
            showlegend=row == 1,
            mode="markers",
            marker={"size": 4, "opacity": 0.6, "color": marks[name]},
            text=chosen.astype(np.int32),
            hovertemplate="feature %{text}: %{x:.3f}, %{y:.2f}",
            row=row,
            col=1,
        )
figure.add_vline(np.log10(wide_floor), line={"dash": "dot", "color": plots.PALETTE[7]}, row=1, col=1)
figure.update_xaxes(
    title="feature density", tickvals=decades, ticktext=[f"10<sup>{decade}</sup>" for decade in decades], row=1, col=1
)
figure.update_xaxes(title="encoder bias", row=2, col=1)
figure.update_yaxes(title="encoder · decoder")
plots.describe(
    figure,
    f"Two scatter plots of the same features. Medians by group: {medians}.",
    height=720,
    legend={"itemsizing": "constant"},
)

# %% [markdown]
# "Cleanly separable" can be put to a test. The density made the labels *rare* and *high*, so it may not help. Let a
# linear classifier guess the label from the two numbers that are left, the bias and the dot product. We fit it on one
# half of the features and score it on the other. Its score is the **AUC**: how often it ranks a random high feature
# above a random rare one. A coin gets 0.5, a clean separation 1.

# %%
x = np.stack([bias, dot], 1)
enough = min(kind[start::2].sum() for kind in (rare, ~rare) for start in (0, 1)) >= 10
if enough:
    print(f"both          {metrics.linear_auc(x, ~rare):.3f}")
    print(f"bias alone    {metrics.linear_auc(x[:, :1], ~rare):.3f}")
    print(f"product alone {metrics.linear_auc(x[:, 1:], ~rare):.3f}")
else:
    print("too few to fit a classifier and score it")

# %% tags=["remove-cell"]
high_dot = float(np.median(dot[~rare]))
unit_encoders = torch.nn.functional.normalize(wide.W_enc.T, dim=1)
wide_cosine = (unit_encoders * wide.W_dec).sum(1).detach().numpy()
chapter.number("rare-features", int(rare.sum()), ",")
chapter.number("high-features", int((~rare).sum()), ",")
chapter.number("high-cosine", float(np.median(wide_cosine[~rare])), ".2f")
chapter.number("at-random", at_random, ".2f")
medians_of = {name: f"{np.median(dot[of]):.2f} and {np.median(bias[of]):.4f}" for name, of in three.items() if of.any()}
chapter.number(
    "silent-sentence",
    f"The median dot product and bias of the silent features are {medians_of['silent']}; "
    + (f"of the rare ones that fired, {medians_of['rare']}; " if "rare" in medians_of else "")
    + f"of the high ones, {medians_of['high']}. Compare that with your guess."
    if "silent" in medians_of
    else "No feature is silent, so your guess about these stays untested here.",
)
if enough:
    separation, rare_dot = metrics.linear_auc(x, ~rare), float(np.median(dot[rare]))
    chapter.claim(
        "A8",
        where="dictionary/density#fig-density-2d",
        text=text_name,
        separation_auc=separation,
        rare_encoder_dot_decoder=rare_dot,
        high_encoder_dot_decoder=high_dot,
        rare=int(rare.sum()),
        high=int((~rare).sum()),
        tokens=on_fewer.n_tokens,
    )
    clean = "clean" if separation >= 0.95 else "not clean"
    chapter.number("auc-words", f"{clean} by our bar of 0.95: {separation:.3f} ({wide_name})")
    chapter.number("auc-sentence", f"On the half that it was not fitted on, the AUC is {separation:.3f}.")
    chapter.number("inherited", f"Here it is {rare_dot:.2f}.")
else:
    chapter.number("auc-words", "undecided: too few rare features")
    chapter.number("auc-sentence", "That is too few of a kind to fit and score a classifier, so we give no AUC.")
    chapter.number("inherited", "")
alive_norm = wide.W_enc.norm(dim=0)[torch.from_numpy(~rare)].mean().item()
chapter.number("resampled-dot", 0.2 * alive_norm, ".2f")

# %% [markdown]
# There are {glue:text}`rare-features` rare and {glue:text}`high-features` high features. {glue:text}`auc-sentence` The
# labels are noisy, as a feature seen twice and one seen four times may have the same true density. That alone pulls an
# AUC towards one half.
#
# Others looked at the same three numbers. In the comments on Neel Nanda's replication {cite}`nanda2023replication`,
# nostalgebraist notes that the rare cluster of the paper's figure has very negative biases and dot products around 0,
# while the high features lie near 1. In Nanda's own dictionary the dot product told the clusters apart and the bias
# did not. More than half of Nanda's features were rare, and most of them had nearly the same encoder direction.
# Anthropic later offered an explanation {cite}`anthropic2024february`: these features never found a direction to
# write. The penalty pushes their encoders towards zero, except on neurons that are weakly active almost everywhere,
# where a weight of the right sign acts as one more negative bias.
#
# Does the dot product have to be near 1? No. The encoder has to win the feature's amount back from the sum of all
# features that overlap with it, and it may read little from its own direction if that direction is noisy. What
# matters is that it differs from chance. The median *cosine* of our high features is {glue:text}`high-cosine`, where
# random directions stay below about {glue:text}`at-random`. Nanda measured 0.5.
#
# ```{admonition} A trap: an inherited cosine
# :class: warning
# A high cosine need not be *learned*. Resampling writes the same direction into a dead feature's decoder and encoder,
# the encoder at a fifth of the mean length of the living ones. So a feature starts its second life with a cosine of 1
# and a dot product of about {glue:text}`resampled-dot`, by the lengths in this dictionary, and drifts from there. If
# the median dot product of a dictionary's rare features is close to that, many of them may be resampled ones that
# have not moved far, rather than ones that never found a direction. {glue:text}`inherited`
# ```
#
# ## L0: how many at once?
#
# Now count the other way, token by token.
#
# ```{admonition} Predict
# :class: tip
# The mean L0 is the sum of the densities. Which features contribute most of it: the many ordinary ones, or the few
# dense ones?
# ```

# %% tags=["hide-input"]
#| label: fig-density-l0
#| caption: >-
#|   Features that fire on a token, and for how many tokens. Dashed line: the mean.
histogram = np.bincount(np.minimum(l0.ravel(), 60))
figure = go.Figure(go.Bar(x=np.arange(len(histogram)), y=histogram / l0.size, hovertemplate="L0 %{x}: %{y:.2%}"))
figure.add_vline(l0.mean(), line={"dash": "dash", "color": plots.PALETTE[1]})
figure.update_xaxes(title="L0 of the token (60: or more)")
figure.update_yaxes(title="share of tokens", tickformat=".0%")
l0_5, l0_50, l0_95 = np.quantile(l0, [0.05, 0.5, 0.95])
plots.describe(
    figure,
    f"Histogram of L0. Mean {l0.mean():.1f}, median {l0_50:.0f}; nine tenths of the tokens lie between {l0_5:.0f} and "
    f"{l0_95:.0f}.",
    bargap=0.05,
)

# %% tags=["remove-cell"]
sorted_density = np.sort(density)[::-1]
half = int(np.searchsorted(sorted_density.cumsum(), density.sum() / 2)) + 1
dense_part = density[group == "dense"].sum() / density.sum()
chapter.number("l0", l0.mean(), ".1f")
chapter.number("l0-median", l0_50, ".0f")
chapter.number("l0-low", l0_5, ".0f")
chapter.number("l0-high", l0_95, ".0f")
chapter.number("l0-half", half, ",")
chapter.number("l0-rest", n_features - half, ",")
chapter.number("l0-dense-part", dense_part, ".0%")
chapter.number("l0-verdict", "within" if l0.mean() <= 20 else "above")
few = sizes["dense"] <= n_features / 50  # a bar of our own
chapter.number(
    "dense-sentence",
    f"The paper wants few of them, and gives no number. {sizes['dense']:,} of {n_features:,} are "
    + (
        "few."
        if few
        else "not few. By its rule λ of A/1 may be too small. Or a run as short as ours leaves common features "
        "unsplit. One dictionary cannot tell which."
    ),
)
dense_share = f"{sizes['dense']:,}, or {sizes['dense'] / n_features:.1%}"
chapter.number("dense-result", f"{dense_share}: {'few' if few else 'not few'}")
chapter.claim(
    "A11",
    where="dictionary/density#fig-density-l0",
    text=text_name,
    l0=float(l0.mean()),
    l0_median=float(l0_50),
    dense_features=int((density > 0.01).sum()),
    tokens=n_tokens,
)

# %% [markdown]
# The mean L0 is {glue:text}`l0` and the median {glue:text}`l0-median`. Nine tenths of the tokens lie between
# {glue:text}`l0-low` and {glue:text}`l0-high`. The paper aims below 10 to 20 and distrusts an L0 that is a sizeable
# fraction of the {glue:text}`d-in` neurons. Ours is {glue:text}`l0-verdict` that target. Its own A/1's L0 is not
# stated.
#
# The dense features are {glue:text}`dense-share` of the dictionary and make {glue:text}`l0-dense-part` of L0.
# {glue:text}`dense-sentence`
#
# The {glue:text}`l0-half` densest features make half of L0, and the other {glue:text}`l0-rest` share the rest. So L0
# says little about most of the features: you could lose many of the rare ones and not see it there.
#
# ## Neurons, for comparison
#
# ```{admonition} Predict
# :class: tip
# On what share of the tokens is a typical neuron active? The dictionary re-writes the very same activations.
# ```

# %%
some = contexts.head(400)
neurons = evidence.neuron_evidence(model, some)
on_some = np.bincount(owner[features.places < some.ids.size], minlength=n_features) / neurons.n_tokens

# %% tags=["hide-input"]
#| label: fig-density-neurons
#| caption: >-
#|   Densities of neurons and of features on the same tokens. Features that are silent on them are left out.
figure = plots.log_histogram(
    {"features": on_some, "neurons": neurons.density},
    "density",
    f"Histogram of the densities of {neurons.n_features} neurons and {(on_some > 0).sum():,} features on "
    f"{neurons.n_tokens:,} tokens. The median neuron is active on {np.median(neurons.density):.1%}, the median feature "
    f"on {np.median(on_some[on_some > 0]):.3%}.",
    bins_per_decade=4,
)
figure.update_yaxes(title="features or neurons")

# %% tags=["remove-cell"]
chapter.number("some-tokens", neurons.n_tokens, ",")
chapter.number("neuron-median", np.median(neurons.density), ".0%")
chapter.number("neuron-l0", neurons.density.sum(), ".0f")
chapter.number("neurons", neurons.n_features)
chapter.number("neuron-share", neurons.density.mean(), ".1%")
chapter.number("l0-some", on_some.sum(), ".0f")
chapter.number("feature-share", on_some.mean(), ".1%")
chapter.number("feature-median", one_in(np.median(on_some[on_some > 0])))

# %% [markdown]
# On {glue:text}`some-tokens` tokens, the median neuron is active on {glue:text}`neuron-median` of them, and the
# median feature that fires at all on {glue:text}`feature-median`. On a token, {glue:text}`neuron-l0` of
# {glue:text}`neurons` neurons are active ({glue:text}`neuron-share`) and {glue:text}`l0-some` of
# {glue:text}`features` features ({glue:text}`feature-share`). The L1 penalty asked for few active features, so by
# itself their sparsity is no evidence that they mean anything.
#
# ## What is lost
#
# Sparsity is easy: a dictionary of zeros has L0 = 0. So L0 is only worth something beside a measure of what the
# reconstruction keeps. There are two kinds: how close it is to the activations, and how well the model works with it.
#
# **Explained variance** is $1 - \sum \lVert\mathbf{x} - \hat{\mathbf{x}}\rVert^2 / \sum \lVert\mathbf{x} -
# \bar{\mathbf{x}}\rVert^2$: 1 is perfect, 0 is no better than always giving the mean $\bar{\mathbf{x}}$. The **norm
# ratio** is the mean of $\lVert\hat{\mathbf{x}}\rVert / \lVert\mathbf{x}\rVert$. The L1 penalty pulls every
# activation towards zero, so reconstructions come out too short. This is **shrinkage**. Some reports rescale
# $\hat{\mathbf{x}}$ to the norm of $\mathbf{x}$ before they compute the variance. That hides shrinkage, so we give
# both numbers.
#
# **Loss recovered** puts the reconstruction in the place of the activations and lets the model predict. The loss then
# lies between that of the model as it is and that of a model whose MLP is useless:
#
# $$
# \mathrm{recovered} =
# \frac{L_{\mathrm{ablated}} - L_{\mathrm{reconstructed}}}{L_{\mathrm{ablated}} - L_{\mathrm{original}}}
# $$
#
# What "useless" means is a choice. **Zero-ablation**, the paper's, sets the activations to zero. **Mean-ablation**
# sets them to their mean.
#
# ```{admonition} Predict
# :class: tip
# Which of the two ablations costs more? Which of the two gives the larger percentage to the same dictionary?
# ```

# %%
judged = contexts.head(chapter.size(quick=500, full=4000))
quality, _ = metrics.dictionary_metrics(model, dictionary, judged.ids)
losses = metrics.loss_recovered(model, dictionary, judged.ids)

# %% tags=["hide-input"]
#| label: fig-density-losses
#| caption: >-
#|   Loss of the model with its own MLP activations, with their reconstruction, with their mean and with zeros, in
#|   nats per token.
kinds = {
    "as they are": losses["loss_original"],
    "reconstructed": losses["loss_reconstructed"],
    "mean": losses["loss_mean_ablated"],
    "zero": losses["loss_zero_ablated"],
}
figure = go.Figure(
    go.Bar(
        x=list(kinds.values()),
        y=list(kinds),
        orientation="h",
        marker_color=plots.PALETTE[:4],
        text=[f"{value:.2f}" for value in kinds.values()],
        textposition="auto",
        hovertemplate="%{y}: %{x:.3f}<extra></extra>",
    )
)
figure.update_yaxes(autorange="reversed")
figure.update_xaxes(title="loss in nats per token")
plots.describe(
    figure,
    "Bars of the loss with the activations " + ", ".join(f"{k}: {v:.3f}" for k, v in kinds.items()) + ".",
    height=300,
)

# %% tags=["remove-cell"]
chapter.number("judged-tokens", judged.ids[:, 1:].size, ",")
chapter.number("ev", quality["explained_variance"], ".1%")
chapter.number("ev-rescaled", quality["explained_variance_rescaled"], ".1%")
chapter.number("norm-ratio", quality["norm_ratio"], ".2f")
chapter.number("recovered", losses["loss_recovered"], ".1%")
chapter.number("recovered-mean", losses["loss_recovered_from_mean"], ".1%")
chapter.number("extra", losses["loss_reconstructed"] - losses["loss_original"], ".3f")
chapter.number("harder", "Zero" if losses["loss_zero_ablated"] > losses["loss_mean_ablated"] else "The mean")
chapter.claim(
    "A12",
    where="dictionary/density#fig-density-losses",
    text=text_name,
    loss_recovered=losses["loss_recovered"],
    loss_recovered_mean_ablation=losses["loss_recovered_from_mean"],
    tokens=judged.ids[:, 1:].size,
)

# %% [markdown]
# | on {glue:text}`judged-tokens` tokens | |
# |---|---|
# | explained variance | {glue:text}`ev` |
# | explained variance, norm-rescaled | {glue:text}`ev-rescaled` |
# | norm ratio | {glue:text}`norm-ratio` |
# | loss recovered, zero-ablation | {glue:text}`recovered` |
# | loss recovered, mean-ablation | {glue:text}`recovered-mean` |
# | loss added by the reconstruction | {glue:text}`extra` nats per token |
#
# {glue:text}`harder` costs the model more, at least on this text. That is not obvious either way. With zeros,
# something that was there on every token in training is missing. With the mean, every token gets a little of what all
# kinds of text need, and most of it is wrong for this one. Both are constants, and so is everything between them. Try
# a few, on fewer contexts:

# %%
few_ids = to_tensor(judged.head(60).ids)
mean = harvest(model.network, few_ids)[:, 1:].mean((0, 1))


@torch.no_grad()
def loss_with(change) -> float:
    """Mean loss with the activations at all places but the first changed."""
    with patched(model.network, lambda x: torch.cat([x[:, :1], change(x[:, 1:])], 1)):
        parts = [token_losses(model.network, part) for part in few_ids.split(16)]
    return torch.cat(parts).mean().item()


untouched = loss_with(lambda x: x)
shares = [0.0, 0.25, 0.5, 0.75, 1.0]
constants = [loss_with(lambda x, share=share: (share * mean).expand_as(x)) for share in shares]

# %% tags=["hide-input"]
#| label: fig-density-constants
#| caption: >-
#|   Loss with all activations replaced by the same vector, from zeros (left) to the mean (right).
figure = plots.curves(
    {"constant": (shares, constants)},
    "share of the mean",
    "loss in nats per token",
    "Curve of the loss against the share of the mean: "
    + ", ".join(f"{share:g}: {value:.3f}" for share, value in zip(shares, constants, strict=True))
    + f". With the activations as they are it is {untouched:.3f}.",
    height=320,
)
figure.update_traces(mode="lines+markers")

# %% tags=["remove-cell"]
best = int(np.argmin(constants))
best_constant = (constants[0] - constants[best]) / (constants[0] - untouched)
if best == 0:
    constant_sentence = "The best of these constants is zero itself, so none of them beats the paper's baseline here."
else:
    constant_sentence = (
        f"The best of these constants is {shares[best]:.0%} of the mean. It knows nothing about the text, and on the "
        f'paper\'s scale it "recovers" {best_constant:.1%}.'
    )
chapter.number("constant-sentence", constant_sentence)

# %% [markdown]
# ```{admonition} A trap: a percentage of what?
# :class: warning
# {glue:text}`constant-sentence` Any replacement that does not look at the text is a weak baseline, and a weak baseline
# flatters: it makes the denominator large. The same reconstruction gets {glue:text}`recovered` against zeros and
# {glue:text}`recovered-mean` against the mean. The paper warns that even a tiny MLP trained
# from scratch would reach a high percentage. So loss recovered ranks dictionaries of one model on one text. It does
# not say how much of the model is understood. The loss added by the reconstruction, {glue:text}`extra` nats, needs no
# baseline.
# ```
#
# ## What the paper found, what we found
#
# | | the paper, A/1 | here, on *{glue:text}`text`* |
# |---|---|---|
# | tokens counted | 100 million | {glue:text}`tokens` |
# | dead | 168 of 4,096 | {glue:text}`dead` of {glue:text}`features` |
# | ultralow | 292 of 4,096 (below one in a million) | {glue:text}`ultralow` (below {glue:text}`border`) |
# | modes of the histogram | 2, near 1e-7 and 1e-5 (run A/16) | {glue:text}`modes`: {glue:text}`mode-list` |
# | the left mode | ultralow features | {glue:text}`left-mode` |
# | separation in three dimensions | clean, by eye | {glue:text}`auc-words` |
# | L0 | target below 10 to 20; A/1's not stated | {glue:text}`l0` |
# | features above 1 % | "few" is the target | {glue:text}`dense-result` |
# | loss recovered, zero-ablation | 79 % | {glue:text}`recovered` |
# | loss recovered, mean-ablation | not stated | {glue:text}`recovered-mean` |
#
# **How our set-up differs.** The paper trained on 8 billion activations and counted on 100 million tokens. We trained
# on a small fraction of that and count on {glue:text}`tokens` tokens, so our floor lies higher and our ultralow group
# is not quite theirs. Our text is different, and our tokeniser cuts it into different tokens. The paper also says
# that loss recovered grows with the size of the dictionary and falls with $\lambda$. One dictionary cannot show that;
# the chapter {doc}`quality` compares many.
#
# ```{admonition} Takeaways
# :class: note
# - Densities spread over orders of magnitude. Look at them on a logarithmic axis, and always say on how many tokens
#   they were counted.
# - Below one over that number, rare and dead are the same. "Dead" is short for "silent on N tokens of this text".
# - Rare is not broken. Whether the encoder reads what the decoder writes tells more than density does.
# - L0 is the sum of the densities, and {glue:text}`l0-half` of {glue:text}`features` features make half of it. Read
#   it next to what the reconstruction keeps.
# - A percentage of loss recovered is as meaningful as its baseline: {glue:text}`recovered` or
#   {glue:text}`recovered-mean`, for the same dictionary.
# ```
#
# ## Exercises
#
# Each states its difficulty, how important it is for the rest of the book, and a time. The cell below an exercise is
# where your answer goes. The folded cell after it checks the answer.
#
# ```{exercise-start} How many tokens for one in a million?
# :label: ex-density-tokens
# ```
# *Difficulty 1/5 · importance 5/5 · 10 minutes.* Write `looks_dead(p, tokens)`, the probability that a feature of
# density `p` stays silent on that many tokens, and `tokens_needed(p, risk)`, the number of tokens on which it stays
# silent with a probability of `risk` only. How likely is it that a feature with one firing in a million looks dead on
# our number of tokens? On how many is it 5 %? Assume that its firings are independent. Are they?
#
# ````{admonition} Hint 1
# :class: dropdown
# With density $p$, a token is silent with probability $1 - p$, and $N$ tokens with $(1 - p)^N \approx e^{-pN}$.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# For the second function solve $e^{-pN} = \text{risk}$ for $N$. The logarithm is the natural one, `np.log`.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def looks_dead(p, tokens):
    raise NotImplementedError


def tokens_needed(p, risk):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-density-tokens")
def check_looks_dead(looks_dead, tokens_needed):
    for p, tokens in ((1e-4, 15_000), (1e-4, 3000), (1e-6, 500_000)):
        firings = np.random.default_rng(0).binomial(tokens, p, 200_000)  # features of this density, on this many tokens
        silent_share, found = (firings == 0).mean(), looks_dead(p, tokens)
        assert not np.isclose(found, 1 - silent_share, atol=0.005), "that is the probability that it fires"
        assert 0 <= found <= 1, f"{found:.2g} is no probability: each token multiplies, it does not subtract"
        assert np.isclose(found, silent_share, atol=0.005), (
            f"of features of density {p}, {silent_share:.1%} were silent on {tokens:,} tokens; you say {found:.1%}"
        )
    for p, risk in ((1e-6, 0.05), (1e-3, 0.5), (1e-5, 0.001)):
        found = tokens_needed(p, risk)
        assert np.ndim(found) == 0 and found > 0, "the number of tokens is one positive number"
        silent_there = (1 - p) ** found
        assert np.isclose(silent_there, risk, rtol=0.02), (
            f"on {found:,.0f} tokens a feature of density {p} is silent with probability {silent_there:.2g}, not {risk}"
        )


check_looks_dead(looks_dead, tokens_needed)

# %% [markdown]
# ````{solution-start} ex-density-tokens
# :class: dropdown
# ````

# %%
def looks_dead(p, tokens):
    return np.exp(-p * tokens)


def tokens_needed(p, risk):
    return -np.log(risk) / p


print(f"looks dead on {n_tokens:,} tokens with probability {looks_dead(1e-6, n_tokens):.2f}")
print(f"with probability 0.05 on {tokens_needed(1e-6, 0.05):,.0f} tokens")
check_looks_dead(looks_dead, tokens_needed)

# %% [markdown]
# About three million: the "rule of three". Firings are not independent. A feature for one language fires on hundreds
# of tokens in a row and then not for a thousand documents. So the number of documents matters too, and you need more
# tokens than the formula says.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
check_looks_dead.refuses(lambda p, tokens: 1 - p * tokens, tokens_needed, because="each token multiplies")
check_looks_dead.refuses(lambda p, tokens: 1 - np.exp(-p * tokens), tokens_needed, because="that it fires")
check_looks_dead.refuses(lambda p, tokens: 10 ** (-p * tokens), tokens_needed, because="were silent on")
check_looks_dead.refuses(looks_dead, lambda p, risk: 1 / (p * risk), because="is silent with probability")
check_looks_dead.refuses(looks_dead, lambda p, risk: -np.log10(risk) / p, because="is silent with probability")

# %% [markdown]
# ```{exercise-start} How many modes do you want?
# :label: ex-density-modes
# ```
# *Difficulty 2/5 · importance 4/5 · 15 minutes.* Our number of modes depends on the bandwidth. Set `n_modes` to the
# number of modes at each of the `bandwidths` below. Then write `longest_stretch(bandwidths, n_modes)`. It finds the
# stretch of neighbouring bandwidths with the same number of modes whose last bandwidth is the largest multiple of its
# first, and returns that number of modes, the first bandwidth and the last. What would you report?
#
# ````{admonition} Hint 1
# :class: dropdown
# `modes(smooth(bandwidth), bandwidth)` gives the places of the modes on `grid`. How many are there?
# ````
# ````{admonition} Hint 2
# :class: dropdown
# A stretch ends where the number changes. Walk through the bandwidths, remember where the present stretch began, and
# keep the best one so far. Two stretches with the same number but another one in between are two stretches.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
bandwidths = [0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6]  # decades
n_modes = None


def longest_stretch(bandwidths, n_modes):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-density-modes")
def check_modes(n_modes, longest_stretch):
    for widths, numbers, right in (
        ([1, 2, 3, 4, 5, 6], [9, 9, 3, 3, 3, 3], (9, 1, 2)),
        ([1, 2, 4, 8, 16], [4, 2, 2, 2, 1], (2, 2, 8)),
        ([1, 2, 3, 9, 10], [2, 1, 1, 2, 2], (1, 2, 3)),
        ([0.1, 0.2, 0.8], [5, 5, 5], (5, 0.1, 0.8)),
    ):
        found = longest_stretch(list(widths), list(numbers))
        assert np.shape(found) == (3,), "return three things: the number of modes, the first bandwidth, the last"
        whose = f"with {numbers} modes at the bandwidths {widths}: "
        assert found[0] in numbers, whose + f"{found[0]} is not one of the numbers of modes"
        ends = [widths.index(end) for end in found[1:] if end in widths]
        assert len(ends) == 2, whose + "a stretch begins and ends at one of the bandwidths"
        same = all(number == found[0] for number in numbers[ends[0] : ends[1] + 1])
        assert same, whose + f"from {found[1]} to {found[2]} the number of modes is not the same throughout"
        assert np.allclose(found, right), whose + f"from {right[1]} to {right[2]} is a larger factor"
    again = [len(modes(smooth(width), width)) for width in (0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6)]
    assert np.shape(n_modes) == (len(again),), f"n_modes has one number for each of the {len(again)} bandwidths"
    wrong = [width for width, mine, yours in zip(bandwidths, again, n_modes, strict=True) if mine != yours]
    assert not wrong, f"the number of modes is another at the bandwidths {wrong}; give `modes` the bandwidth, too"


check_modes(n_modes, longest_stretch)

# %% [markdown]
# ````{solution-start} ex-density-modes
# :class: dropdown
# ````

# %%
n_modes = [len(modes(smooth(bandwidth), bandwidth)) for bandwidth in bandwidths]


def longest_stretch(bandwidths, n_modes):
    best, first = (0, n_modes[0], bandwidths[0], bandwidths[0]), bandwidths[0]
    for i, (bandwidth, number) in enumerate(zip(bandwidths, n_modes, strict=True)):
        if number != n_modes[max(i - 1, 0)]:
            first = bandwidth
        best = max(best, (bandwidth / first, number, first, bandwidth))
    return best[1:]


for bandwidth, number in zip(bandwidths, n_modes, strict=True):
    found = modes(smooth(bandwidth), bandwidth)
    print(f"{bandwidth:4.2f} decades: {number} at", ", ".join(power(10 ** grid[peak]) for peak in found))
print("longest stretch: number of modes {}, from {} to {} decades".format(*longest_stretch(bandwidths, n_modes)))
check_modes(n_modes, longest_stretch)

# %% [markdown]
# Small bandwidths find noise: at the rare end, even the gaps between features that were seen once, twice and three
# times. Those are not modes of anything. Large ones melt neighbours into one. Report the number that holds over a wide
# range in between, and report the range.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
def most_points(bandwidths, n_modes):
    number = max(set(n_modes), key=n_modes.count)
    at = n_modes.index(number)
    return number, bandwidths[at], bandwidths[at + n_modes.count(number) - 1]


def first_to_last(bandwidths, n_modes):
    spans = {n: (bandwidths[n_modes.index(n)], bandwidths[-1 - n_modes[::-1].index(n)]) for n in n_modes}
    number = max(spans, key=lambda n: spans[n][1] / spans[n][0])
    return number, *spans[number]


check_modes.refuses(n_modes, most_points, because="is a larger factor")
check_modes.refuses(n_modes, first_to_last, because="not the same throughout")
check_modes.refuses([number + 1 for number in n_modes], longest_stretch, because="is another at the bandwidths")

# %% [markdown]
# ```{exercise-start} Do rare features share an encoder?
# :label: ex-density-encoders
# ```
# *Difficulty 3/5 · importance 3/5 · 20 minutes.* Nanda's rare features had nearly the same encoder direction, while
# their decoders looked random. Check ours. Write `cosine_with_mean(rows)`: bring the rows to length 1, take their mean,
# and return the median of the cosines of the rows with this mean. Use it on the `rare` features of `wide` and on as
# many random ones of the others, for encoders and for decoders. What do as many random directions give?
#
# ````{admonition} Hint 1
# :class: dropdown
# The encoders are the *columns* of `wide.W_enc`, the decoders the rows of `wide.W_dec`.
# `torch.nn.functional` has `normalize` and `cosine_similarity`.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# The mean of 100 random unit vectors has length about 0.1, and each has a cosine of about 0.1 with it, because it is
# part of the mean.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def cosine_with_mean(rows):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-density-encoders")
def check_cosine(cosine_with_mean):
    generator = torch.Generator().manual_seed(0)
    direction, lengths = torch.randn(40, generator=generator), torch.rand(25, 1, generator=generator) + 0.1
    same = float(cosine_with_mean(direction * lengths))
    assert abs(same - 1) < 1e-4, "rows with one direction have a cosine of 1 with their mean, whatever their lengths"
    right_angles = float(cosine_with_mean(torch.eye(25)))
    assert abs(right_angles) > 1e-4, "the mean is over all rows, the row itself included"
    assert abs(right_angles - 0.2) < 1e-4, "25 rows at right angles have a cosine of 1/5 with their mean"
    rows = torch.randn(25, 40, generator=generator) + 0.3
    rows[0] *= 1000
    unit = rows / rows.norm(dim=1, keepdim=True)
    center = unit.sum(0)
    cosines = (unit @ center) / center.norm()
    found = float(cosine_with_mean(rows.clone()))
    assert abs(found - cosines.mean()) > 1e-6, "return the median, not the mean, of the cosines"
    assert abs(found - cosines.median()) < 1e-4, "bring each row to length 1 first, or one long row makes up the mean"
    assert abs(float(cosine_with_mean(-rows)) - cosines.median()) < 1e-4, "turned around, the rows are as similar"


check_cosine(cosine_with_mean)

# %% [markdown]
# ````{solution-start} ex-density-encoders
# :class: dropdown
# ````

# %%
def cosine_with_mean(rows):
    unit = torch.nn.functional.normalize(rows.detach(), dim=1)
    return torch.nn.functional.cosine_similarity(unit, unit.mean(0, keepdim=True)).median().item()


order = np.argsort(on_fewer.counts, kind="stable")
n = max(100, rare.sum())
for name, chosen in {f"{n:,} rarest": order[:n], f"{n:,} others": rng.choice(order[n:], n, replace=False)}.items():
    encoders, decoders = wide.W_enc.T[chosen], wide.W_dec[chosen]
    print(f"{name}: encoders {cosine_with_mean(encoders):.2f}, decoders {cosine_with_mean(decoders):.2f}")
random_rows = torch.randn(n, wide.d_in, generator=torch.Generator().manual_seed(0))
print(f"{n:,} random directions: {cosine_with_mean(random_rows):.2f}")
check_cosine(cosine_with_mean)

# %% [markdown]
# Compare the rarest with the others before you compare with chance. Activations are never negative, so encoders and
# decoders of good features lean towards a common direction as well. Only the excess of the rarest speaks of a shared
# encoder. Nanda used the cosine above 0.95 as a test for the rare cluster.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
def mean_of_raw_rows(rows):
    return torch.nn.functional.cosine_similarity(rows, rows.mean(0, keepdim=True)).median().item()


def mean_cosine(rows):
    unit = torch.nn.functional.normalize(rows, dim=1)
    return torch.nn.functional.cosine_similarity(unit, unit.mean(0, keepdim=True)).mean().item()


def between_pairs(rows):
    unit = torch.nn.functional.normalize(rows, dim=1)
    return (unit @ unit.T)[~torch.eye(len(rows), dtype=bool)].median().item()


check_cosine.refuses(mean_of_raw_rows, because="length 1 first")
check_cosine.refuses(mean_cosine, because="the median, not the mean")
check_cosine.refuses(between_pairs, because="the row itself included")

# %% [markdown]
# ```{exercise-start} Sparse by throwing away
# :label: ex-density-drop
# ```
# *Difficulty 3/5 · importance 4/5 · 15 minutes.* Half of L0 comes from the densest features. Write
# `without(dictionary, dropped)`: a dictionary in which the features with these numbers never fire, all else being
# equal. Then remove the `half` densest: L0 halves. What happens to the explained variance and to the loss recovered?
# Predict first.
#
# ````{admonition} Hint 1
# :class: dropdown
# A feature never fires if its entry of `b_enc` is a very negative number.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# Change a copy (`copy.deepcopy`), and inside `torch.no_grad()`. The densest come first in `np.argsort(-density)`.
# `metrics.dictionary_metrics` and `metrics.loss_recovered` take the model, a dictionary and tokens; 40 contexts are
# enough.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
import copy


def without(dictionary, dropped):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-density-drop")
def check_without(without):
    given, dropped = copy.deepcopy(dictionary), np.argsort(-density)[:5]
    activations = harvest(model.network, few_ids[:4])[:, 1:].flatten(0, 1)
    thinned = without(given, dropped.copy())
    assert thinned is not None, "return the new dictionary"
    both = zip(given.parameters(), dictionary.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in both), "the given dictionary has changed; work on a copy"
    with torch.no_grad():
        before, after = dictionary.encode(activations), thinned.encode(activations)
        kept = np.setdiff1d(np.arange(before.shape[1]), dropped)
        assert after.shape == before.shape, "the other features must keep their numbers; do not cut rows out"
        assert (after[:, dropped] == 0).all(), "a dropped feature still fires"
        assert torch.allclose(after[:, kept], before[:, kept], atol=1e-4), "the codes of the other features must stay"
        made = thinned.decode(after)
        assert torch.allclose(made, dictionary.decode(after), atol=1e-3), "what a code stands for must stay, too"


check_without(without)

# %% [markdown]
# ````{solution-start} ex-density-drop
# :class: dropdown
# ````

# %%
def without(dictionary, dropped):
    thinned = copy.deepcopy(dictionary)
    with torch.no_grad():
        thinned.b_enc[torch.from_numpy(dropped)] = -1e6
    return thinned


few = judged.head(40).ids
thinned = without(dictionary, np.argsort(-density)[:half].copy())
for name, candidate in (("whole", dictionary), ("without the densest", thinned)):
    found, _ = metrics.dictionary_metrics(model, candidate, few)
    recovered = metrics.loss_recovered(model, candidate, few)
    print(
        f"{name:<20} L0 {found['l0_mean']:5.1f}, explained variance {found['explained_variance']:7.1%}, "
        f"loss recovered {recovered['loss_recovered']:7.1%} (zero), {recovered['loss_recovered_from_mean']:7.1%} (mean)"
    )
check_without(without)

# %% [markdown]
# The second line is what sparsity by throwing away costs. A dictionary trained with a larger $\lambda$ reaches a
# lower L0 in another way: it learns without these features, and the others can make up for them. Whether the dense
# features *mean* something is another question: they may carry the mean, the norm, or other things that are not about
# any one property of the text.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
def in_place(dictionary, dropped):
    with torch.no_grad():
        dictionary.b_enc[torch.from_numpy(dropped)] = -1e6
    return dictionary


def no_decoder(dictionary, dropped):
    thinned = copy.deepcopy(dictionary)
    with torch.no_grad():
        thinned.W_dec[torch.from_numpy(dropped)] = 0
    return thinned


def no_bias(dictionary, dropped):
    thinned = copy.deepcopy(dictionary)
    with torch.no_grad():
        thinned.b_enc[:] = -1e6
    return thinned


check_without.refuses(in_place, because="work on a copy")
check_without.refuses(no_decoder, because="still fires")
check_without.refuses(no_bias, because="codes of the other features")
