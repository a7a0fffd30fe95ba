# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Do two models find the same features?
#
# A feature may tell you something about the text, or only about one run of a training script. To tell these apart,
# train again with another seed and look whether it comes back. Claim five of the case studies did this for one feature
# at a time. This chapter does it for all of them, and asks what "the same feature" should mean
# {cite}`bricken2023monosemanticity`.
#
# ```{admonition} Before you start
# **You will be able to**
# - correlate thousands of features of two models in seconds, and say why that takes no more;
# - judge a best match by what chance gives, and by what neurons give;
# - explain how two features can read the same and seem to write something else, and the reverse;
# - say which features are *not* universal.
#
# **You need** the chapters on {doc}`density </book/dictionary/density>` and {doc}`Arabic script
# </book/features/arabic>`.
#
# **Time**: 30 minutes to read, about a minute to run.
# ```
#
# Model B has the recipe, the text and the tokens of model A, and another seed. Its dictionary B/1 was trained in the
# way of A/1, on B's activations. Neuron 7 of A and neuron 7 of B have nothing to do with each other, and neither have
# feature 7 and feature 7. What can be compared is what they do on the same text.

# %% tags=["hide-input"]
import time

import numpy as np
import plotly.graph_objects as go
from IPython.display import HTML

from sae_core import case_study, chapter, effects, load_dictionary, load_model, plots, proxies, universality
from sae_core.case_plots import shown
from sae_core.evidence import Evidence, feature_evidence, neuron_evidence
from sae_core.exercises import check
from sae_core.kinds import KINDS, RARE, kinds, token_profile
from sae_core.metrics import rank_correlation
from sae_core.runs import held_out
from sae_core.tokens import Contexts, token_bytes

# %%
model, other_model = load_model("A"), load_model("B")
sae, other_sae = load_dictionary("A/1"), load_dictionary("B/1")
universality.need_same_tokens(model, other_model)
contexts, text = held_out(model)
contexts = contexts.head(chapter.size(quick=4000, full=40_000))
evidence = feature_evidence(model, sae, contexts)
other_evidence = feature_evidence(other_model, other_sae, contexts)

# %% tags=["remove-cell"]
ids, pieces = contexts.ids, token_bytes(model.tokenizer)
chapter.number("text", text)
chapter.number("tokens", evidence.n_tokens, ",")
chapter.number("active", len(evidence.values) / evidence.n_tokens, ".0f")
chapter.number("pairs-of-features", sae.d_sae * other_sae.d_sae / 1e6, ".0f")

# %% [markdown]
# ## All against all
#
# The text has {glue:text}`tokens` tokens that neither model was trained on. For feature $f$ of A/1 and feature $g$ of
# B/1, take **Pearson's correlation** of their activations over all of them, also those where both are silent:
#
# $$
# r = \frac{\sum f g - \frac{1}{N} \sum f \sum g}{\sqrt{\sum f^2 - \frac{1}{N} (\sum f)^2}\,
# \sqrt{\sum g^2 - \frac{1}{N} (\sum g)^2}}
# $$
#
# There are {glue:text}`pairs-of-features` million pairs. Written with matrices of activations, the first sum is one
# product $F^\top G$ for all of them. With dense matrices that is a job for a GPU. But only about {glue:text}`active`
# features are active on a token, and all other products are zero. A product of *sparse* matrices visits only what is
# active together.

# %%
began = time.perf_counter()
same_activation = universality.correlations(evidence, other_evidence)  # [features of A/1, features of B/1]
seconds = time.perf_counter() - began

# %% tags=["remove-cell"]
chapter.number("seconds", seconds, ".0f")

# %% [markdown]
# That took {glue:text}`seconds` seconds. For each feature of A/1 we now look for the **best partner**: the feature of
# B/1 with the highest correlation. We called it the *twin*. Dead and ultralow features are left out on both sides:
# where nothing is measured, nothing can be correlated.

# %%
alive, other_alive = universality.alive(evidence), universality.alive(other_evidence)
twins = universality.best_partners(same_activation, alive, other_alive)
back = universality.best_partners(same_activation.T, other_alive, alive)

# %% tags=["remove-cell"]
of_feature = dict(zip(twins.features.tolist(), twins.partners.tolist(), strict=True))
chapter.number("features", len(twins.features), ",")
chapter.number("others", len(back.features), ",")

# %% [markdown]
# That leaves {glue:text}`features` features of A/1 and {glue:text}`others` of B/1.
#
# ```{admonition} Predict
# :class: tip
# What is the median correlation of a feature with its best partner? And what is it for neurons: the best neuron of B
# for each neuron of A?
# ```
#
# Two comparisons say what the number is worth.
#
# - **Neurons.** The same search among the neurons of the two models. Neurons are active far more often, so we take
#   fewer tokens, and look at the features on these tokens, too.
# - **Shuffled tokens.** Move the activations of B/1 to other tokens, all features together, in a random order. Every
#   feature stays as frequent and as strong as it was. What is left is luck.

# %%
n_few = chapter.size(quick=200, full=2000)
few = contexts.head(n_few)
neurons, other_neurons = neuron_evidence(model, few), neuron_evidence(other_model, few)
neuron_twins = universality.best_partners(
    universality.correlations(neurons, other_neurons), universality.alive(neurons), universality.alive(other_neurons)
)
early, other_early = evidence.between(0, n_few), other_evidence.between(0, n_few)
early_twins = universality.best_partners(
    universality.correlations(early, other_early), universality.alive(early), universality.alive(other_early)
)
moved = universality.correlations(evidence, universality.shuffled(other_evidence))
by_luck = universality.best_partners(moved, alive, other_alive)
del moved

# %% tags=["hide-input"]
#| label: fig-universality-partners
#| caption: >-
#|   Correlation of the activations with those of the best partner in the other model, for {glue:text}`features`
#|   features of A/1 and for the neurons of A. The strip at the left is what shuffled tokens give.
edges = np.linspace(0, 1, 41)
figure = go.Figure()
for name, found, colour in (("features", twins, plots.PALETTE[0]), ("neurons", neuron_twins, plots.PALETTE[1])):
    heights, _ = np.histogram(np.clip(found.values, 0, 1), edges)
    figure.add_bar(
        x=(edges[:-1] + edges[1:]) / 2,
        y=heights / len(found.values),
        width=np.diff(edges),
        name=f"{name}, median {found.median:.2f}",
        marker_color=colour,
        marker_line_width=0,
        opacity=0.65,
        hovertemplate="%{x:.2f}: %{y:.1%}",
    )
    figure.add_vline(found.median, line={"dash": "dot", "color": colour, "width": 2})
luck_end = float(np.quantile(by_luck.values, 0.99))
figure.add_vrect(x0=0, x1=luck_end, fillcolor=plots.PALETTE[7], opacity=0.4, line_width=0)
figure.update_xaxes(title="correlation with best partner", range=[0, 1])
figure.update_yaxes(title="share of units", tickformat=".0%")
plots.describe(
    figure,
    f"Two histograms on one axis. For features the median is {twins.median:.2f}, and "
    f"{(twins.values > 0.8).mean():.0%} lie above 0.8. For neurons the median is {neuron_twins.median:.2f}. With "
    f"shuffled tokens 99 % of the features stay below {luck_end:.2f}.",
    barmode="overlay",
    bargap=0,
)

# %% tags=["remove-cell"]
chapter.number("feature-median", twins.median, ".2f")
chapter.number("back-median", back.median, ".2f")
chapter.number("neuron-median", neuron_twins.median, ".2f")
chapter.number("early-median", early_twins.median, ".2f")
chapter.number("shuffled-median", by_luck.median, ".3f")
chapter.number("luck-max", by_luck.values.max(), ".2f")
chapter.number("few-tokens", neurons.n_tokens, ",")
chapter.number("n-neurons", len(neuron_twins.features))
chapter.number("above", (twins.values > 0.8).mean(), ".0%")
chapter.number("below", (twins.values < 0.5).mean(), ".0%")
chapter.number("above-neurons", (neuron_twins.values > 0.8).mean(), ".1%")
gap = twins.median - neuron_twins.median
chapter.number(
    "sample-verdict",
    "so the smaller sample is not the reason"
    if early_twins.median - neuron_twins.median > 0.7 * gap
    else "so the smaller sample is part of the reason",
)
chapter.number(
    "verdict",
    "Features come back far better than neurons do"
    if gap >= 0.15
    else "Features come back a little better than neurons do"
    if gap > 0
    else "Features do not come back any better than neurons do",
)
chapter.claim(
    "A23",
    where="structure/universality#fig-universality-partners",
    text=text,
    feature_median=twins.median,
    neuron_median=neuron_twins.median,
    shuffled_median=by_luck.median,
    features=len(twins.features),
)

# %% [markdown]
# {glue:text}`verdict`. The median is {glue:text}`feature-median` for features and {glue:text}`neuron-median` for
# neurons. From B/1 to A/1 it is {glue:text}`back-median`. The paper has 0.72 and 0.46. On the {glue:text}`few-tokens`
# tokens that the neurons were compared on, the features have {glue:text}`early-median`, {glue:text}`sample-verdict`.
#
# The median hides two groups. {glue:text}`above` of the features have a partner above 0.8 (of the neurons:
# {glue:text}`above-neurons`). {glue:text}`below` have none above 0.5. We come back to these.
#
# ```{admonition} A trap: the best of thousands is never zero
# :class: warning
# Among thousands of candidates one always fits best. With shuffled tokens, where nothing can be found, the median of
# the best is {glue:text}`shuffled-median` and the largest {glue:text}`luck-max`. That is small because we have many
# tokens. On few tokens, and for features that fire a handful of times, luck grows. Always ask for this number before
# you believe a best match.
# ```
#
# ## The four features of the case studies
#
# Each of the case studies looked for the twin of its own feature. Here they are side by side, found again by their
# proxies on this chapter's text.

# %% tags=["hide-input"]
def by_token(of: Evidence, tokens: np.ndarray) -> np.ndarray:
    """How each feature's activation is spread over the vocabulary, [n_features, vocab]; a row sums to 1.

    tokens: [n_contexts, n_ctx], which token to count at each place; below 0 for none.
    """
    at, vocab = tokens.ravel()[of.places], len(pieces)
    kept = at >= 0
    owner = np.repeat(np.arange(of.n_features), of.counts)[kept]
    mass = np.bincount(owner * vocab + at[kept], weights=of.values[kept], minlength=of.n_features * vocab)
    mass = mass.reshape(of.n_features, vocab).astype(np.float32)
    return mass / np.maximum(mass.sum(1, keepdims=True), 1e-9)


reads, other_reads = (by_token(of, ids.astype(int)) for of in (evidence, other_evidence))


def mostly(shares: np.ndarray, n: int = 3) -> str:
    """The n tokens with the largest shares."""
    return shown(np.argsort(-shares, kind="stable")[:n].tolist(), pieces)


# %% tags=["hide-input"]
CASES = {
    "arabic": (proxies.script_pattern(proxies.ARABIC), lambda: proxies.script_proxy(ids, pieces, proxies.ARABIC)),
    "hebrew": (proxies.script_pattern(proxies.HEBREW), lambda: proxies.script_proxy(ids, pieces, proxies.HEBREW)),
    "dna": (proxies.DNA_RUN, lambda: np.sign(proxies.alphabet_proxy(ids, pieces, proxies.DNA, at_least=2))),
    "base64": (proxies.BASE64_RUN, lambda: proxies.alphabet_proxy(ids, pieces, proxies.BASE64)),
}
weights = effects.logit_weights(model, sae.W_dec.detach()).numpy()
other_weights = effects.logit_weights(other_model, other_sae.W_dec.detach()).numpy()
kept = effects.not_rare(ids, len(pieces))
same_weights = universality.logit_correlations(weights[:, kept], other_weights[:, kept])

rows, studied = [], {}
for name, (pattern, proxy) in CASES.items():
    marked = int(proxies.touches(ids, pieces, pattern).sum())
    if marked < case_study.ENOUGH:
        rows.append((name, f"only {marked:,} tokens of it in this text", "", "", "", ""))
        continue
    feature = case_study.best_feature(model, sae, evidence, proxy()).index
    if not alive[feature]:
        rows.append((name, f"A/1/{feature} is ultralow on this text", "", "", "", ""))
        continue
    partner = studied[name] = of_feature[feature]
    runner_up = np.sort(same_activation[feature, other_alive])[-2]
    rows.append(
        (
            name,
            f"A/1/{feature}: {mostly(reads[feature])}",
            f"B/1/{partner}: {mostly(other_reads[partner])}",
            f"{same_activation[feature, partner]:.2f}",
            f"{runner_up:.2f}",
            f"{same_weights[feature, partner]:.2f}",
        )
    )
plots.table(["", "feature", "twin", "activations", "the next best", "logit weights"], rows)

# %% [markdown]
# A twin that is alone at the top is a better find than one among several: look at the correlation of the next best. The
# last column compares **logit weights**, what a feature would do to each token of the vocabulary. The paper reports
# 0.91 and 0.23 for Arabic. Why the last number can be low is the question of a later section.
#
# ## Search by twin
#
# Here are features from each part of the range, three for each. Open a line to read what the two sides fire on. In a
# notebook, `search` lists what you ask for.

# %%
def search(low: float, high: float, token: bytes = b"", n: int = 8, seed: int = 0):
    """Some pairs whose twin correlation lies in a range; with a token, only those that fire on it most of all."""
    chosen = (twins.values >= low) & (twins.values <= high)
    if token:
        chosen &= reads[twins.features].argmax(1) == pieces.index(token)
    picked = np.random.default_rng(seed).permutation(np.flatnonzero(chosen))[:n]
    lines = [
        (
            f"A/1/{i}: {mostly(reads[i])}",
            f"B/1/{j}: {mostly(other_reads[j])}",
            f"{value:.2f}",
            f"{same_weights[i, j]:.2f}",
            f"{evidence.density[i]:.2%}",
        )
        for i, j, value in sorted(zip(*(part[picked] for part in twins), strict=True), key=lambda pair: -pair[2])
    ]
    return plots.table(["feature", "twin", "activations", "logit weights", "active on"], lines)


# %% tags=["hide-input"]
parts = []
for low in (0.95, 0.9, 0.8, 0.6, 0.4, 0.2, 0.0):
    high = next((value for value in (0.2, 0.4, 0.6, 0.8, 0.9, 0.95) if value > low), 1.0)
    inside = int(((twins.values >= low) & (twins.values <= high)).sum())
    if inside:
        summary = f"{low:.2f} to {high:.2f}: {inside:,} features"
        parts.append(f"<details><summary>{summary}</summary>{search(low, high, n=3).data}</details>")
HTML("".join(parts))

# %% tags=["remove-cell"]
mutual = back.partners[np.searchsorted(back.features, twins.partners)] == twins.features
taken, times = np.unique(twins.partners, return_counts=True)
chapter.number("mutual", mutual.mean(), ".0%")
chapter.number("mutual-median", np.median(twins.values[mutual]), ".2f")
chapter.number("one-sided-median", np.median(twins.values[~mutual]) if (~mutual).any() else 1.0, ".2f")
chapter.number("taken", len(taken), ",")
chapter.number("most-taken", int(times.max()))
popular = taken[times.argmax()]
chapter.number("most-taken-feature", f"B/1/{popular}")
chapter.number("most-taken-median", np.median(twins.values[twins.partners == popular]), ".2f")

# %% [markdown]
# A best partner need not be a partnership. For {glue:text}`mutual` of the features the choice is mutual: the twin's own
# best partner is the feature itself. Their median correlation is {glue:text}`mutual-median`; that of the others is
# {glue:text}`one-sided-median`. Together the features chose only {glue:text}`taken` different partners.
# {glue:text}`most-taken-feature` was chosen most often, {glue:text}`most-taken` times, by features whose median
# correlation with it is {glue:text}`most-taken-median`.
#
# ## Three ways to be the same
#
# Activations say what a feature *reads*. Logit weights say what it *writes*. A third measure asks for both on real
# text. The **attribution** of feature $i$ on token $t_j$ is what it did there for the token that really came next: its
# activation times its logit weight for that token.
#
# $$
# a_i(j) = f_i(t_j) \cdot v_{i,\, t_{j+1}}
# $$
#
# Attributions are as sparse as activations, so the same product correlates them. Here and from now on, the first
# {glue:text}`part-tokens` tokens are enough.
#
# ```{admonition} Predict
# :class: tip
# Take all pairs of twins. Some read almost the same, some do not. Do those that read the same also write the same? And
# will attributions side with what they read, or with what they write?
# ```

# %%
part, other_part = (of.between(0, chapter.size(quick=1000, full=10_000)) for of in (evidence, other_evidence))
across = universality.correlations(part, other_part)
effect = universality.attributions(part, weights)
same_attribution = universality.correlations(effect, universality.attributions(other_part, other_weights))

i, j = twins.features, twins.partners
read_alike, write_alike, act_alike = (similar[i, j] for similar in (across, same_weights, same_attribution))

# %% tags=["remove-cell"]
chapter.number("part-tokens", part.n_tokens, ",")
chapter.number("drawn", min(len(i), 1500), ",")
attribution_rank = rank_correlation(act_alike, read_alike)
logit_rank = rank_correlation(write_alike, read_alike)
by_activation, by_weights, by_attribution = (
    universality.best_partners(similar, alive, other_alive) for similar in (across, same_weights, same_attribution)
)
chapter.number("attribution-rank", attribution_rank, ".2f")
chapter.number("logit-rank", logit_rank, ".2f")
chapter.number("best-activation", by_activation.median, ".2f")
chapter.number("best-logit", by_weights.median, ".2f")
chapter.number("best-attribution", by_attribution.median, ".2f")
chapter.number(
    "tracks",
    "Here, too, attributions track activations, and logit weights often do not"
    if attribution_rank >= 0.8 and logit_rank < attribution_rank - 0.2
    else "Here the difference is not as clear",
)
chapter.number("agree-logit", (by_weights.partners == by_activation.partners).mean(), ".0%")
chapter.number("agree-attribution", (by_attribution.partners == by_activation.partners).mean(), ".0%")
chapter.claim(
    "A24",
    where="structure/universality#fig-universality-attribution",
    text=text,
    attribution_rank_correlation=attribution_rank,
    logit_rank_correlation=logit_rank,
    pairs=len(i),
)

# %% tags=["hide-input"]
drawn = np.sort(np.random.default_rng(0).permutation(len(i))[:1500])  # a page can show so many dots with their words
words = [f"A/1/{i[k]}, B/1/{j[k]}: {plots.escape(mostly(reads[i[k]], 2))}" for k in drawn]


def against_activation(values: np.ndarray, what: str, rank: float, colour: str) -> go.Figure:
    """The pairs of twins by the similarity of their activations and of something else."""
    figure = go.Figure()
    figure.add_scatter(
        x=np.round(read_alike[drawn], 3),
        y=np.round(values[drawn], 3),
        mode="markers",
        marker={"size": 4, "color": colour, "opacity": 0.6},
        text=words,
        hovertemplate="%{text}<br>%{x:.2f}, %{y:.2f}<extra></extra>",
    )
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line={"dash": "dot", "color": plots.PALETTE[7]}, hoverinfo="skip"
    )
    figure.update_xaxes(title="correlation of the activations", range=[0, 1.02])
    figure.update_yaxes(title=f"… of the {what}", range=[min(-0.05, float(values.min()) - 0.05), 1.02])
    alt = (
        f"Scatter plot of pairs of twins. Across is the correlation of their activations, up that of their {what}. "
        f"Over all {len(values):,} pairs, Spearman's correlation of the two is {rank:.2f}; the medians are "
        f"{np.median(read_alike):.2f} and {np.median(values):.2f}."
    )
    return plots.describe(figure, alt, showlegend=False, height=440)


# %% tags=["hide-input"]
#| label: fig-universality-attribution
#| caption: >-
#|   Pairs of twins: similarity of attributions against similarity of activations. On the dotted line both are equal.
#|   {glue:text}`drawn` pairs are drawn, chosen at random.
against_activation(act_alike, "attributions", attribution_rank, plots.PALETTE[2])

# %% tags=["hide-input"]
#| label: fig-universality-logits
#| caption: >-
#|   The same pairs: similarity of logit weights against similarity of activations.
against_activation(write_alike, "logit weights", logit_rank, plots.PALETTE[3])

# %% [markdown]
# Over the pairs, the similarity of attributions follows that of activations with a Spearman correlation of
# {glue:text}`attribution-rank`, that of logit weights with {glue:text}`logit-rank`. In the paper, attributions track
# activations closely and logit weights often disagree. {glue:text}`tracks`.
#
# You can also choose the partner by each measure. How many features get the one that they had by activation?
#
# | best partner by | median correlation | same partner as by activation |
# |---|---|---|
# | activation | {glue:text}`best-activation` | |
# | attribution | {glue:text}`best-attribution` | {glue:text}`agree-attribution` |
# | logit weights | {glue:text}`best-logit` | {glue:text}`agree-logit` |
#
# ### Reading alike, writing differently
#
# How can two features fire on the same tokens, and their logit weights not agree? Here are the pairs with the least
# similar logit weights, of all twins with a correlation of activations above {glue:text}`high`.

# %% tags=["hide-input"]
def compared(pairs: list[tuple[int, int]]) -> HTML:
    """What two features fire on, and what they promote among tokens that are not rare."""
    lines = []
    for a, b in pairs:
        promoted = (np.where(kept, w, -np.inf) for w in (weights[a], other_weights[b]))
        similar = (same_activation[a, b], same_weights[a, b], same_attribution[a, b])
        lines.append(
            (
                f"A/1/{a}, B/1/{b}",
                f"{mostly(reads[a], 2)} / {mostly(other_reads[b], 2)}",
                " / ".join(mostly(w, 3) for w in promoted),
                *(f"{value:.2f}" for value in similar),
            )
        )
    header = ["A, B", "fire on (A / B)", "promote (A / B)", "activations", "logit weights", "attributions"]
    return plots.table(header, lines)


HIGH = min(0.9, float(np.quantile(twins.values, 0.8)))  # where the text or the weights leave few twins above 0.9
high = np.flatnonzero(twins.values >= HIGH)
strange = high[np.argsort(write_alike[high], kind="stable")[:20]]
compared([(int(i[k]), int(j[k])) for k in strange[:5]])

# %% tags=["hide-input"]
followed = by_token(evidence, np.pad(ids[:, 1:].astype(int), ((0, 0), (0, 1)), constant_values=-1))


def weighted_correlation(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Pearson correlation along the last axis, where each entry counts as much as its weight; weights sum to 1."""
    x = x - (weight * x).sum(-1, keepdims=True)
    y = y - (weight * y).sum(-1, keepdims=True)
    spread = np.sqrt((weight * x**2).sum(-1) * (weight * y**2).sum(-1))
    return (weight * x * y).sum(-1) / np.maximum(spread, 1e-12)


at_stake = weighted_correlation(weights[i], other_weights[j], followed[i])
of_another = weighted_correlation(weights[i], other_weights[np.roll(j, 1)], followed[i])  # the twin of the one before

# %% tags=["hide-input"]
#| label: fig-universality-weights
#| caption: >-
#|   The logit weights of {glue:text}`strange-a` and {glue:text}`strange-b`, one dot per token of the vocabulary. Large
#|   dots are the tokens that come next most often when the feature is active.
clear = strange[at_stake[strange].argmax()]
a, b = int(i[clear]), int(j[clear])
order = np.argsort(-followed[a], kind="stable")
usual = order[: int(np.searchsorted(followed[a][order].cumsum(), 0.8)) + 1]
is_usual = np.isin(np.arange(len(pieces)), usual)
figure = go.Figure()
for name, chosen, size, colour in (
    ("other tokens", kept & ~is_usual, 4, plots.PALETTE[7]),
    ("what comes next", is_usual, 10, plots.PALETTE[1]),
):
    figure.add_scatter(
        x=weights[a][chosen],
        y=other_weights[b][chosen],
        mode="markers",
        name=name,
        marker={"size": size, "color": colour, "opacity": 0.6},
        text=[plots.escape(shown([token], pieces)) for token in np.flatnonzero(chosen).tolist()],
        customdata=followed[a][chosen],
        hovertemplate="%{text}: %{x:.2f}, %{y:.2f}; next in %{customdata:.1%}<extra></extra>",
    )
figure.update_xaxes(title=f"logit weight in A/1/{a}")
figure.update_yaxes(title=f"logit weight in B/1/{b}")
next_token = int(order[0])
ranks = [int((w[kept] > w[next_token]).sum()) + 1 for w in (weights[a], other_weights[b])]
plots.describe(
    figure,
    f"Scatter plot of {int((kept | is_usual).sum()):,} tokens: a few large dots of what comes next, and a cloud of the "
    f"others. Over all tokens the correlation is {same_weights[a, b]:.2f}. Counted by how often a token comes next it "
    f"is {at_stake[clear]:.2f}.",
    height=480,
)

# %% tags=["remove-cell"]
chapter.number("high", HIGH, ".2f")
chapter.number("strange-a", f"A/1/{a}")
chapter.number("strange-b", f"B/1/{b}")
chapter.number("strange-logit", same_weights[a, b], ".2f")
chapter.number("strange-at-stake", at_stake[clear], ".2f")
chapter.number("strange-next", f"“{shown([next_token], pieces)}”")
chapter.number("strange-next-share", followed[a, next_token], ".0%")
chapter.number("strange-ranks", f"place {ranks[0]:,} in A and place {ranks[1]:,} in B")
chapter.number("vocab-kept", int(kept.sum()), ",")
chapter.number("stake-rank", rank_correlation(at_stake, read_alike), ".2f")
chapter.number("high-logit-median", np.median(write_alike[high]), ".2f")
chapter.number("high-stake-median", np.median(at_stake[high]), ".2f")
chapter.number("high-another-median", np.median(of_another[high]), ".2f")
better = rank_correlation(at_stake, read_alike) - logit_rank
chapter.number(
    "stake-verdict",
    "Counted by what is at stake, reading alike and writing alike go together much better"
    if better > 0.1
    else "Counted by what is at stake, the two go together no better than before, so this is not the whole explanation",
)

# %% [markdown]
# {numref}`fig-universality-weights` shows one of the twenty most different pairs: the one in which the reason is
# easiest to see. After the tokens that {glue:text}`strange-a` fires on, {glue:text}`strange-next` comes next
# {glue:text}`strange-next-share` of the time. Its logit weight has {glue:text}`strange-ranks`, of
# {glue:text}`vocab-kept` tokens. The rest of the vocabulary makes up the cloud in the middle, and the plain correlation
# counts every token of the cloud like those that matter.
#
# Little in training cares about the cloud. Those tokens are hardly ever at stake when the feature is active, so their
# weights should mostly be what {term}`superposition` leaves there: interference. Two models can have the same signal
# and different interference.
#
# If that is the reason, then counting each token by how often it comes next when the feature is active should mend it.
# For this pair the correlation goes from {glue:text}`strange-logit` to {glue:text}`strange-at-stake`. One pair that was
# picked proves nothing. For all twins with activations above {glue:text}`high`, the median goes from
# {glue:text}`high-logit-median` to {glue:text}`high-stake-median`; with the weights of some other feature's twin it
# would be {glue:text}`high-another-median`. And over all pairs, Spearman's correlation with the similarity of
# activations goes from {glue:text}`logit-rank` to {glue:text}`stake-rank`. {glue:text}`stake-verdict`.
#
# The paper's extreme pair is A/1/3949 and B/1/3321: it fires on `pone`, expects a full stop, and has a correlation of
# activations of 0.98 and a negative one of logit weights. Ours is in the first row of the table.
#
# ### Writing alike, reading differently
#
# The reverse: any two features with a correlation of activations below 0.1 and the most similar logit weights.

# %% tags=["hide-input"]
candidates = np.where((same_activation < 0.1) & alive[:, None] & other_alive, same_weights, -1)
likeliest = np.argpartition(candidates, -200, axis=None)[-200:]
reverse, seen = [], set()
for flat in likeliest[np.argsort(-candidates.ravel()[likeliest], kind="stable")].tolist():
    one, other = divmod(flat, candidates.shape[1])
    if not seen & {("A", one), ("B", other)}:
        reverse.append((one, other))
        seen |= {("A", one), ("B", other)}
reverse = reverse[:5]
compared(reverse)

# %% tags=["remove-cell"]
del candidates
have = sum(same_activation[one, of_feature[one]] >= 0.5 for one, _ in reverse)
chapter.number(
    "reverse-verdict",
    f"Of these {len(reverse)} features of A/1, {have} have a twin of their own above 0.5, which reads what they read. "
    "So these pairs are not twins that were missed"
    if have
    else "None of these features of A/1 has a twin above 0.5",
)

# %% [markdown]
# {glue:text}`reverse-verdict`. Different tokens can call for the same kind of continuation, as several prepositions are
# followed by the same articles. There are fewer kinds of continuation than reasons to expect one. In a one-layer model,
# where features go straight to the logits, such features write the same and read different things.
#
# So neither measure alone says "the same feature". Attributions need both to agree: they are high only where the two
# fire together *and* push the tokens that come next in the same way.

# %%
anything = np.random.default_rng(0).permutation(len(pieces))  # each token gets the weight of another one
in_place_of_b = {
    "the same weight for all tokens": np.ones_like(other_weights),
    "B's logit weights, of other tokens": other_weights[:, anything],
}
control_values = {"B's own logit weights": act_alike} | {
    name: universality.correlations(effect, universality.attributions(other_part, used))[i, j]
    for name, used in in_place_of_b.items()
}

# %% tags=["hide-input"]
plots.table(
    ["attributions of B made from", "median of the twins", "Spearman with activations"],
    [
        (name, f"{np.median(values):.2f}", f"{rank_correlation(values, read_alike):.2f}")
        for name, values in control_values.items()
    ],
)

# %% tags=["remove-cell"]
own, constant, wrong = (rank_correlation(values, read_alike) for values in control_values.values())
chapter.number("control-constant", constant, ".2f")
chapter.number("control-wrong", wrong, ".2f")
chapter.number(
    "control-verdict",
    "So B's weights could have spoiled the close relation, and they add little to it"
    if constant > own - 0.1 and wrong < 0.5
    else "So B's weights could have spoiled the close relation, and they are part of it"
    if wrong < 0.5
    else "So the close relation is there whatever B's weights are",
)

# %% [markdown]
# ```{admonition} A trap: a measure that contains what it is compared with
# :class: warning
# An attribution is an activation times something. No wonder that it resembles the activation. How much of the claim is
# that? The table replaces B's logit weights. With its own, Spearman's correlation is {glue:text}`attribution-rank`.
# With one weight for all tokens, so that B's attribution *is* its activation, it is {glue:text}`control-constant`. With
# the weights of other tokens it is {glue:text}`control-wrong`. {glue:text}`control-verdict`.
# ```
#
# ## How much of it is the tokens?
#
# Both models read the same tokens. Any dictionary has features for tokens, and features for the same token correlate.
# So here is a third comparison: best partners in random/1, the dictionary of a model whose weights were shuffled.
# Whatever that has in common with A/1, no model had to learn it.
#
# ```{admonition} Predict
# :class: tip
# {doc}`glance` sorts features into four kinds: single tokens, tokens in context, groups of tokens, contexts. For which
# of them will random/1 have partners as good as those in B/1?
# ```

# %%
control = feature_evidence(load_model("random"), load_dictionary("random/1"), part.contexts)
in_control = universality.correlations(part, control)[np.ix_(i, universality.alive(control))].max(1)
in_other = by_activation.values
kind = kinds(token_profile(part, len(pieces)))[i]

# %% tags=["hide-input"]
of_kind = {label: kind == index for index, label in enumerate(KINDS)} | {"all of these": kind != RARE}
come_back = {  # median of the best partner in B/1 and in random/1
    name: [float(np.median(values[chosen])) for values in (in_other, in_control)]
    for name, chosen in of_kind.items()
    if chosen.any()
}
plots.table(
    ["kind of feature", "features", "median of the best partner in B/1", "… in random/1"],
    [(name, f"{of_kind[name].sum():,}", *(f"{value:.2f}" for value in pair)) for name, pair in come_back.items()],
)

# %% tags=["remove-cell"]
chapter.number("control-median", come_back["all of these"][1], ".2f")
chapter.number("single-share", of_kind["single token"].sum() / of_kind["all of these"].sum(), ".0%")
one_other, one_control = come_back.get("single token", (0.0, 0.0))
tic_other, tic_control = come_back.get("token in context", (0.0, 0.0))
least = min(come_back, key=lambda name: come_back[name][0])
chapter.number("single-other", one_other, ".2f")
chapter.number("single-control", one_control, ".2f")
chapter.number("tic-other", tic_other, ".2f")
chapter.number("tic-control", tic_control, ".2f")
chapter.number("least-kind", least)
chapter.number("least-median", come_back[least][0], ".2f")
chapter.number(
    "single-verdict",
    "That they come back says little about what the models learned"
    if one_control > 0.8 * one_other
    else "So they are more than features of any model that reads tokens",
)
chapter.number(
    "tic-verdict",
    "This difference is what two models learned alike, beyond their tokens"
    if tic_other > tic_control + 0.1
    else "So here, too, tokens alone would do",
)

# %% [markdown]
# On these contexts, random/1 has partners with a median correlation of {glue:text}`control-median`. Single tokens are
# {glue:text}`single-share` of A/1. Their median is {glue:text}`single-other` in B/1 and {glue:text}`single-control` in
# random/1. {glue:text}`single-verdict`. A token in context needs more than the token. There it is
# {glue:text}`tic-other` in B/1 and {glue:text}`tic-control` in random/1. {glue:text}`tic-verdict`. The kind that comes
# back least is *{glue:text}`least-kind`*, with {glue:text}`least-median`.
#
# ## What is not universal
#
# ```{admonition} Predict
# :class: tip
# Which features have no twin: the rare ones, which both dictionaries may have missed, or the dense ones?
# ```

# %% tags=["hide-input"]
#| label: fig-universality-density
#| caption: >-
#|   Correlation with the twin by density, for the same features of A/1. The line is the median of all features of
#|   similar density. Point at a dot to see what it fires on.
density = evidence.density[i]
bounds = np.arange(np.floor(np.log10(density.min()) * 4) / 4, 0.01, 0.25)
place = np.digitize(np.log10(density), bounds)
enough = [k for k in range(1, len(bounds)) if (place == k).sum() >= 10]
figure = go.Figure()
figure.add_scatter(
    x=np.round(np.log10(density[drawn]), 3),
    y=np.round(twins.values[drawn], 3),
    mode="markers",
    marker={"size": 4, "color": plots.PALETTE[0], "opacity": 0.6},
    text=words,
    hovertemplate="%{text}<br>%{y:.2f}<extra></extra>",
)
medians = [float(np.median(twins.values[place == k])) for k in enough]
figure.add_scatter(
    x=[bounds[k - 1] + 0.125 for k in enough],
    y=medians,
    mode="lines+markers",
    line={"color": plots.PALETTE[1], "width": 3},
    hovertemplate="median %{y:.2f}<extra></extra>",
)
ticks = np.arange(np.floor(np.log10(density.min())), 1)
figure.update_xaxes(
    title="feature density", tickvals=ticks, ticktext=[f"10<sup>{int(tick)}</sup>" for tick in ticks],
    range=[np.log10(density.min()) - 0.1, np.log10(density.max()) + 0.1],
)  # fmt: skip
figure.update_yaxes(title="correlation with the twin", range=[0, 1.02])
plots.describe(
    figure,
    "Scatter plot of features with a line of medians. From the rarest to the densest features the median "
    f"goes from {medians[0]:.2f} to {medians[-1]:.2f}; the highest on the way is {max(medians):.2f}.",
    showlegend=False,
    height=460,
)

# %%
within = universality.correlations(other_part, other_part)  # of the features of B/1 with each other
n_part = len(part.contexts.ids)
later, other_later = (of.between(n_part, 2 * n_part) for of in (evidence, other_evidence))
across_later = universality.correlations(later, other_later)
within_later = universality.correlations(other_later, other_later)


def in_pieces(feature: int, n: int = 10) -> tuple[float, float]:
    """How well a feature correlates with its best partner, and with the best weighted sum of its n best partners.

    Partners and weights are those of the first part of the contexts; the correlations are those on another part.
    """
    best = np.argsort(-across[feature], kind="stable")[:n]
    among = within[np.ix_(best, best)] + 1e-3 * np.eye(n)  # two of them may be nearly the same
    mix = np.linalg.solve(among, across[feature, best])
    spread = max(mix @ within_later[np.ix_(best, best)] @ mix, 1e-9)
    return across_later[feature, best[0]], mix @ across_later[feature, best] / spread**0.5


single, combined = np.array([in_pieces(feature) for feature in i.tolist()]).T

# %% tags=["hide-input"]
groups = {
    "dense: more than 1 % of the tokens": density > 0.01,
    "0.1 % to 1 %": (density <= 0.01) & (density > 0.001),
    "less than 0.1 %": density <= 0.001,
}
plots.table(
    ["active on", "features", "without a twin", "median of the best partner", "… of the best ten together"],
    [
        (
            name,
            f"{group.sum():,}",
            f"{(twins.values[group] < 0.5).mean():.0%}",
            f"{np.median(single[group]):.2f}",
            f"{np.median(combined[group]):.2f}",
        )
        for name, group in groups.items()
        if group.any()
    ],
)

# %% tags=["remove-cell"]
alone = twins.values < 0.5
dense, rare = groups["dense: more than 1 % of the tokens"], groups["less than 0.1 %"]
shares = [float(alone[group].mean()) if group.any() else 0.0 for group in (dense, rare)]
chapter.number("alone", int(alone.sum()), ",")
chapter.number("alone-dense", shares[0], ".0%")
chapter.number("alone-rare", shares[1], ".0%")
chapter.number("density-rank", rank_correlation(density, twins.values), "+.2f")
lost = "dense" if shares[0] > shares[1] + 0.1 else "rare" if shares[1] > shares[0] + 0.1 else ""
verdicts = {  # who does not come back, whether that can be a matter of measuring, and one reading
    "dense": (
        "The dense features are the ones that do not come back",
        "It is the other way round",
        "One reading is that dense features share out among them what the sparse ones leave over, and that there are "
        "many ways to do so, of which each run finds another. A sparse feature that reads one token leaves no such "
        "freedom.",
    ),
    "rare": (
        "The rare features are the ones that do not come back",
        "So that may be the reason",
        "One reading is that there are more rare properties of the text than features, and that each run finds a part "
        "of them.",
    ),
    "": ("Neither end of the range stands out", "It is not so", "So density is not what decides."),
}
for name, verdict in zip(("density-verdict", "measuring-verdict", "reading"), verdicts[lost], strict=True):
    chapter.number(name, verdict)
alone_single, alone_together = (np.median(values[alone]) if alone.any() else 0.0 for values in (single, combined))
chapter.number("alone-single", alone_single, ".2f")
chapter.number("alone-together", alone_together, ".2f")
chapter.number("alone-variance", alone_together**2, ".0%")
chapter.number(
    "pieces-verdict",
    "So pieces are the larger part of the answer"
    if alone_together**2 > 0.5
    else "So pieces are a part of the answer, and not the larger one"
    if alone_together > alone_single + 0.05
    else "So pieces are not the answer",
)
chapter.number("rest-together", np.median(combined[~alone]) ** 2 if (~alone).any() else 0.0, ".0%")
chapter.number("one-token", (reads[i[high]].max(1) > 0.5).mean(), ".0%")

# %% [markdown]
# Call a feature *without a twin* if its best partner stays below 0.5: {glue:text}`alone` of them.
# {glue:text}`density-verdict`. Without a twin are {glue:text}`alone-dense` of the features that are active on more than
# one token in a hundred, and {glue:text}`alone-rare` of those below one in a thousand. Spearman's correlation between
# density and the correlation with the twin is {glue:text}`density-rank`.
#
# Is it a matter of measuring? Of a dense feature we have seen the most, of a rare one the least. So if measuring were
# the reason, the rare ones would be without a twin. {glue:text}`measuring-verdict`.
#
# Has B/1 the feature in pieces? That can be tested, on other contexts than those that chose the pieces. For the
# features without a twin, the median goes from {glue:text}`alone-single` for the best partner to
# {glue:text}`alone-together` for the best weighted sum of ten. Squared, that is {glue:text}`alone-variance` of the
# variance; for the others, it is {glue:text}`rest-together`. {glue:text}`pieces-verdict`.
#
# {glue:text}`reading` Here are the densest features without a twin:

# %% tags=["hide-input"]
lonely = np.flatnonzero(alone)
shown_alone = lonely[np.argsort(-density[lonely], kind="stable")[:5]]
plots.table(
    ["feature", "active on", "fires on", "twin", "ten together"],
    [
        (
            f"A/1/{i[k]}",
            f"{density[k]:.1%}",
            f"{mostly(reads[i[k]], 6)} ({reads[i[k]].max():.0%} on the first)",
            f"{single[k]:.2f}",
            f"{combined[k]:.2f}",
        )
        for k in shown_alone
    ],
)

# %% [markdown]
# ```{admonition} A trap: universal is not the same as true
# :class: warning
# Two runs on the same text, with the same tokens and the same recipe, also share their faults. A feature that both find
# may be a property of the tokeniser, or of what L1 rewards. Of the twins above {glue:text}`high`,
# {glue:text}`one-token` have more than half of their activation on one single token. And a feature that only one run
# finds may be real and simply not have made it into the other dictionary. Universality rules out one bad explanation,
# the seed. It does not rule out the others.
# ```
#
# ## What the paper found, what we found
#
# | | the paper | here, on *{glue:text}`text`* |
# |---|---|---|
# | median best correlation, features | 0.72 | {glue:text}`feature-median` ({glue:text}`features` features) |
# | median best correlation, neurons | 0.46 | {glue:text}`neuron-median` ({glue:text}`n-neurons` neurons) |
# | features, shuffled tokens | – | {glue:text}`shuffled-median` |
# | features, partners in random/1 | – | {glue:text}`control-median` |
# | tokens in context, partners in B/1 and in random/1 | – | {glue:text}`tic-other`, {glue:text}`tic-control` |
# | attributions follow activations | closely | Spearman {glue:text}`attribution-rank` |
# | logit weights follow activations | often not | Spearman {glue:text}`logit-rank` |
# | … counted by what comes next | – | Spearman {glue:text}`stake-rank` |
#
# **How our set-up differs.** The paper's text is the Pile, and its dictionaries learned from eight billion activations
# each. Our text has few kinds. We count on {glue:text}`tokens` tokens, and leave out what is ultralow there.
# {doc}`/book/differences` has the full list.
#
# ```{admonition} Takeaways
# :class: note
# - To compare all features of two models takes one sparse matrix product: seconds, not hours.
# - A best match means nothing without its null, and a median hides those without a match.
# - Logit weights may differ where nothing is at stake. Count tokens by how often they come next, or use attributions.
# - An attribution contains the activation. That they agree says less than it seems.
# - A feature for a token may come back in any model that reads tokens. Ask what is left without these.
# - Universality speaks against an accident of the seed, and against nothing else.
# ```
#
# ## Exercises
#
# ```{exercise-start} What a correlation of 0.8 means
# :label: ex-universality-overlap
# ```
# *Difficulty 2/5 · importance 4/5 · 10 minutes.* Let two features be only on or off: one on `a` of `n` tokens, the
# other on `b`, both on `both`. Write `overlap_correlation(n, a, b, both)`, the Pearson correlation of the two. Then: of
# two features that are each on one token in a thousand and have a correlation of 0.8, how often is one on where the
# other is? And of two that are each on half of the tokens?
#
# ````{admonition} Hint 1
# :class: dropdown
# In the formula of the chapter, $\sum f$ and $\sum f^2$ are the same for a feature of zeros and ones.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# $\sum f = \sum f^2 = a$, $\sum g = \sum g^2 = b$, and $\sum f g$ is `both`.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def overlap_correlation(n, a, b, both):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-universality-overlap")
def check_overlap(overlap_correlation):
    rng = np.random.default_rng(0)
    for share, other_share in ((0.5, 0.5), (0.02, 0.3), (0.01, 0.01)):
        f, g = rng.random(5000) < share, rng.random(5000) < other_share
        g[:1000] = f[:1000]
        right = np.corrcoef(f, g)[0, 1]
        found = overlap_correlation(len(f), int(f.sum()), int(g.sum()), int((f & g).sum()))
        assert np.ndim(found) == 0, "return one number"
        assert abs(found - right) < 1e-6, f"with shares of {share} and {other_share} it is {right:.3f}, not {found:.3f}"
    assert abs(overlap_correlation(100, 10, 10, 1)) < 1e-9, "two that meet as often as chance has it have 0"


check_overlap(overlap_correlation)

# %% [markdown]
# ````{solution-start} ex-universality-overlap
# :class: dropdown
# ````

# %%
def overlap_correlation(n, a, b, both):
    return (both - a * b / n) / np.sqrt((a - a**2 / n) * (b - b**2 / n))


for on in (1000, 500_000):
    shares = np.linspace(0, 1, 10_001)
    values = np.array([overlap_correlation(1_000_000, on, on, share * on) for share in shares])
    meet = shares[(values >= 0.8).argmax()]
    print(f"each on {on / 1e6:.1%} of the tokens: a correlation of 0.8 when {meet:.0%} meet")
check_overlap(overlap_correlation)

# %% [markdown]
# For rare features chance plays no part: the correlation is the share that meets, or the geometric mean of the two
# shares if they differ. For features that are on half of the time, half of them meet by chance, and 0.8 asks for more
# than that. So a low correlation of two dense features still leaves a large overlap.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
check_overlap.refuses(lambda n, a, b, both: both / np.sqrt(a * b), because="it is")
check_overlap.refuses(lambda n, a, b, both: both / (a + b - both), because="it is")
check_overlap.refuses(lambda n, a, b, both: both / n - a * b / n**2, because="it is")

# %% [markdown]
# ```{exercise-start} Is it fair to the neurons?
# :label: ex-universality-candidates
# ```
# *Difficulty 3/5 · importance 4/5 · 15 minutes.* A feature may choose among thousands of candidates, a neuron only
# among hundreds. Write `best_among(correlation, k, rng)`: draw `k` of the columns at random, without repetition and the
# same for all rows, and return the best correlation of each row among them. How fast does the features' median fall as
# `k` shrinks to the number of neurons? Is that the fair comparison? Predict first.
#
# ````{admonition} Hint 1
# :class: dropdown
# `rng.permutation(n)` is all columns in random order. Take the first `k`.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# Index the columns, then take the maximum over axis 1.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def best_among(correlation, k, rng):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-universality-candidates")
def check_best_among(best_among):
    made_up = np.random.default_rng(1).random((300, 200))
    found = best_among(made_up, 200, np.random.default_rng(0))
    assert np.shape(found) == (300,), "one number for each row"
    assert np.allclose(found, made_up.max(1)), "among all columns it is the maximum; draw without repetition"
    one_each = np.eye(200)
    drawn = [best_among(one_each, 50, np.random.default_rng(seed)) for seed in range(3)]
    assert all(row.sum() == 50 for row in drawn), "with one 1 in each column, 50 columns hold 50 of them"
    assert not all((row == drawn[0]).all() for row in drawn), "draw the columns at random, with the given generator"


check_best_among(best_among)

# %% [markdown]
# ````{solution-start} ex-universality-candidates
# :class: dropdown
# ````

# %%
def best_among(correlation, k, rng):
    return correlation[:, rng.permutation(correlation.shape[1])[:k]].max(1)


rng = np.random.default_rng(0)
for k in (other_sae.d_sae, other_sae.d_sae // 2, sae.d_in):
    print(f"{k:,} candidates: median {np.median(best_among(same_activation[alive], k, rng)):.2f}")
check_best_among(best_among)

# %% [markdown]
# The median falls at once, because a twin that was not drawn is gone. That shows how few *good* partners there are:
# mostly one. But it is not the fair comparison. Each neuron did get all the neurons that there are, and so it would
# have found its twin, if it had one. Luck among thousands explains little, as the shuffled tokens say.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
check_best_among.refuses(lambda c, k, rng: c[:, rng.integers(0, c.shape[1], k)].max(1), because="without repetition")
check_best_among.refuses(lambda c, k, rng: c[:, :k].max(1), because="at random")
check_best_among.refuses(lambda c, k, rng: c[:, rng.permutation(c.shape[1])[:k]].max(0), because="for each row")

# %% [markdown]
# ```{exercise-start} Mutual choice
# :label: ex-universality-mutual
# ```
# *Difficulty 2/5 · importance 3/5 · 10 minutes.* Write `mutual_choice(correlation)`: for each row, whether its best
# column has this row as *its* best. How does the share of mutual choices depend on the correlation?
#
# ````{admonition} Hint 1
# :class: dropdown
# `correlation.argmax(1)` are the choices of the rows, `correlation.argmax(0)` those of the columns.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# The choice of my choice: index the second array with the first. Compare with `np.arange`.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def mutual_choice(correlation):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-universality-mutual")
def check_mutual(mutual_choice):
    small = np.array([[0.9, 0.1, 0.2], [0.8, 0.3, 0.2], [0.1, 0.2, 0.4], [0.0, 0.7, 0.6]])
    found = np.asarray(mutual_choice(small))
    assert found.shape == (4,), "one answer for each row, also where there are more rows than columns"
    assert found[0], "row 0 and column 0 choose each other"
    assert not found[1], "row 1 chooses column 0, which prefers row 0"
    assert found.tolist() == [True, False, False, True], "row 2 chooses column 2, which prefers row 3; row 3 is mutual"
    turned = np.asarray(mutual_choice(small.T))
    assert turned.tolist() == [True, True, False], "mutual choice looks the same from the other side"


check_mutual(mutual_choice)

# %% [markdown]
# ````{solution-start} ex-universality-mutual
# :class: dropdown
# ````

# %%
def mutual_choice(correlation):
    return correlation.argmax(0)[correlation.argmax(1)] == np.arange(len(correlation))


is_mutual, strongest = mutual_choice(same_activation), same_activation.max(1)
for low, high_end in ((0, 0.3), (0.3, 0.6), (0.6, 0.9), (0.9, 1)):
    chosen = (strongest >= low) & (strongest < high_end)
    if chosen.any():
        print(f"correlation {low} to {high_end}: {is_mutual[chosen].mean():.0%} mutual, of {chosen.sum():,}")
check_mutual(mutual_choice)

# %% [markdown]
# The stronger the choice, the more often it is mutual. "Best partner" without a look at its strength calls things twins
# that are none.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
check_mutual.refuses(lambda c: c.max(1) == c.max(1), because="prefers row 0")
check_mutual.refuses(lambda c: c.argmax(1) == c.argmax(0)[: len(c)] if len(c) <= c.shape[1] else [True] * 3,
                     because="one answer for each row")  # fmt: skip
check_mutual.refuses(lambda c: c.argmax(0)[c.argmax(1)] != np.arange(len(c)), because="choose each other")

# %% [markdown]
# ```{exercise-start} A stricter null
# :label: ex-universality-null
# ```
# *Difficulty 3/5 · importance 3/5 · 20 minutes.* Features come in bursts: one for Arabic is on for hundreds of tokens
# and then off for thousands. Shuffled tokens destroy that, and two bursts meet by luck more often than scattered tokens
# do. Write `contexts_shuffled(of, seed)`: evidence in which whole contexts change places and every activation stays in
# its column. Is its null larger than that of shuffled tokens? Does the conclusion hold?
#
# ````{admonition} Hint 1
# :class: dropdown
# Of a place, `divmod(place, n_ctx)` gives the row and the column. Draw a permutation of the rows.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# Evidence wants the places of each feature in rising order. `np.lexsort((places, owner))` sorts by owner and then by
# place, where `owner` says to which feature each entry belongs: `np.repeat(np.arange(of.n_features), of.counts)`.
# ````
# ````{admonition} Hint 3
# :class: dropdown
# `Evidence(of.contexts, of.starts, places[order], of.values[order])` is the result.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def contexts_shuffled(of, seed):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-universality-null")
def check_null(contexts_shuffled):
    rng, shape = np.random.default_rng(0), (60, 9)
    made_up = Contexts(np.zeros(shape, np.uint16), np.zeros(shape, np.uint8), ["made up"])
    grids = np.where(np.arange(9) > 0, rng.random((4, *shape)) * (rng.random((4, *shape)) < 0.3), 0).astype(np.float32)
    flat = grids.reshape(4, -1)
    feature, place = flat.nonzero()
    starts = np.append(0, np.bincount(feature, minlength=4).cumsum())
    before = Evidence(made_up, starts, place.astype(np.int32), flat[feature, place])
    after = contexts_shuffled(before, 0)
    assert isinstance(after, Evidence), "return evidence"
    assert (after.counts == before.counts).all(), "each feature keeps its number of activations"
    dense = np.stack([after.dense(f) for f in range(4)])
    assert not np.array_equal(dense, grids), "nothing has moved"
    assert np.allclose(np.sort(dense, axis=1), np.sort(grids, axis=1)), "every activation stays in its column"
    rows = {row.tobytes(): k for k, row in enumerate(grids.transpose(1, 0, 2).copy())}
    found = [rows.get(row.tobytes()) for row in dense.transpose(1, 0, 2).copy()]
    assert None not in found, "all features of a context move together"
    assert len(set(found)) == len(rows), "each context is there once"
    steps = [np.diff(after.of(f)[0]) for f in range(4)]
    assert all((step > 0).all() for step in steps), "the places of a feature must rise"
    again = np.stack([contexts_shuffled(before, 1).dense(f) for f in range(4)])
    assert not np.array_equal(again, dense), "another seed gives another order"


check_null(contexts_shuffled)

# %% [markdown]
# ````{solution-start} ex-universality-null
# :class: dropdown
# ````

# %%
def contexts_shuffled(of, seed):
    n_contexts, n_ctx = of.contexts.ids.shape
    row, column = np.divmod(of.places, n_ctx)
    places = np.random.default_rng(seed).permutation(n_contexts)[row] * n_ctx + column
    order = np.lexsort((places, np.repeat(np.arange(of.n_features), of.counts)))
    return Evidence(of.contexts, of.starts, places[order].astype(np.int32), of.values[order])


for name, chance in (("tokens", universality.shuffled(other_part)), ("contexts", contexts_shuffled(other_part, 0))):
    best = universality.correlations(part, chance)[alive].max(1)
    top = np.quantile(best, 0.99)
    print(f"shuffled {name}: median {np.median(best):.3f}, 99 % below {top:.2f}, most {best.max():.2f}")
check_null(contexts_shuffled)

# %% [markdown]
# If bursts mattered, the second line would be the larger one, above all at the top. Compare both with the null of the
# chapter, too, which had more tokens. A null answers one question at a time: shuffled tokens ask what counts alone
# would give, shuffled contexts what counts, bursts and places in the context would give.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
def each_on_its_own(of, seed):
    n_contexts, n_ctx = of.contexts.ids.shape
    row, column = np.divmod(of.places, n_ctx)
    owner = np.repeat(np.arange(of.n_features), of.counts)
    orders = np.stack([np.random.default_rng([seed, f]).permutation(n_contexts) for f in range(of.n_features)])
    places = orders[owner, row] * n_ctx + column
    order = np.lexsort((places, owner))
    return Evidence(of.contexts, of.starts, places[order].astype(np.int32), of.values[order])


def unsorted(of, seed):
    n_contexts, n_ctx = of.contexts.ids.shape
    row, column = np.divmod(of.places, n_ctx)
    places = np.random.default_rng(seed).permutation(n_contexts)[row] * n_ctx + column
    return Evidence(of.contexts, of.starts, places.astype(np.int32), of.values)


check_null.refuses(lambda of, seed: of, because="nothing has moved")
check_null.refuses(universality.shuffled, because="stays in its column")
check_null.refuses(each_on_its_own, because="move together")
check_null.refuses(unsorted, because="must rise")

# %% [markdown]
# ```{exercise-start} One feature here, two there
# :label: ex-universality-pieces
# ```
# *Difficulty 4/5 · importance 4/5 · 25 minutes.* An open question: which features of A/1 does B/1 have in two pieces?
# Find one, and set `answer = (feature, piece, other_piece)`, the numbers of a feature of A/1 and of two features of
# B/1. The two together should do clearly better than the best single partner: their multiple correlation with the
# feature, on `part`, the first contexts, should be higher than the best single correlation by at least 0.1. Then look
# at the three, with `plots.feature_examples`. What divides the pieces: the token, the kind of text, the strength?
#
# ````{admonition} Hint 1
# :class: dropdown
# `across` holds the correlations of A/1 with B/1 on these contexts, `within` those inside B/1. The evidence itself is
# in `part` and `other_part`.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# The multiple correlation with two others is $\sqrt{(r_1^2 + r_2^2 - 2 r_1 r_2 c) / (1 - c^2)}$, where $c$ is the
# correlation of the two with each other. Pieces that are never active together have a $c$ of about zero, and then it is
# just Pythagoras.
# ````
# ````{admonition} Hint 3
# :class: dropdown
# Search features whose best partner is somewhere in the middle. For each, try all pairs of its eight best partners.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
answer = None


# %% tags=["check", "hide-input"]
@check("ex-universality-pieces")
def check_pieces(answer):
    assert np.shape(answer) == (3,), "three numbers: a feature of A/1 and two of B/1"
    feature, piece, other_piece = (int(number) for number in answer)
    assert 0 <= feature < sae.d_sae, f"A/1 has no feature {feature}"
    assert all(0 <= number < other_sae.d_sae for number in (piece, other_piece)), "B/1 has no such feature"
    assert piece != other_piece, "take two different pieces"
    values = np.stack([part.dense(feature), other_part.dense(piece), other_part.dense(other_piece)])[:, :, 1:]
    values = values.reshape(3, -1).astype(np.float64)
    assert (values.max(1) > 0).all(), "one of them is silent on these contexts"
    r = np.corrcoef(values)
    squared = (r[0, 1] ** 2 + r[0, 2] ** 2 - 2 * r[0, 1] * r[0, 2] * r[1, 2]) / max(1 - r[1, 2] ** 2, 1e-9)
    gain = np.sqrt(max(squared, 0)) - part_best(feature)
    assert gain >= 0.1, f"together they beat the best single partner by {gain:+.3f}; look for at least 0.1"


def part_best(feature: int) -> float:
    """The best single correlation of a feature of A/1 on these contexts."""
    return float(across[feature].max())


check_pieces(answer)

# %% [markdown]
# ````{solution-start} ex-universality-pieces
# :class: dropdown
# ````

# %%
best = (0.0, 0, 0, 0)
for feature in i.tolist():
    partners = np.argsort(-across[feature], kind="stable")[:8]
    r = across[feature, partners].astype(np.float64)
    c = np.clip(within[np.ix_(partners, partners)].astype(np.float64), -0.999, 0.999)
    both = np.sqrt(np.maximum((r[:, None] ** 2 + r**2 - 2 * np.outer(r, r) * c) / (1 - c**2), 0))
    np.fill_diagonal(both, 0)
    one, other = divmod(int(both.argmax()), 8)
    best = max(best, (both[one, other] - r[0], feature, int(partners[one]), int(partners[other])))
answer = best[1:]
print(f"A/1/{answer[0]} is B/1/{answer[1]} and B/1/{answer[2]}: {part_best(answer[0]) + best[0]:.2f} together, "
      f"{part_best(answer[0]):.2f} at best alone")  # fmt: skip
print("on", mostly(reads[answer[0]]), "| and", *(f"{mostly(other_reads[piece])} |" for piece in answer[1:]))

# %%
plots.feature_examples(other_part, answer[1], pieces, top=3, intervals=2, per_interval=1)

# %%
plots.feature_examples(other_part, answer[2], pieces, top=3, intervals=2, per_interval=1)

# %%
check_pieces(answer)

# %% [markdown]
# What one run keeps together, another divides. If you can name each of the pieces, the other run did not cut anywhere,
# but at a joint. {doc}`splitting` follows such cuts through dictionaries of growing size. Here the sizes are the same,
# and still the two runs cut at different places.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
well_matched = int(i[read_alike.argmax()])
closest = np.argsort(-across[well_matched])[:2].tolist()
check_pieces.refuses((well_matched, *closest), because="together they beat")
check_pieces.refuses((answer[0], answer[1], answer[1]), because="two different")
check_pieces.refuses((answer[0], answer[1]), because="three numbers")
