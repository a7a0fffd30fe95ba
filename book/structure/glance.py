# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # All the features at a glance
#
# The last part looked at single features for a long time. This chapter looks at all of them for a short time. What
# kinds are there, how many of each, and is that different from what neurons do? To answer for thousands of features,
# the kinds must be rules that a computer can apply, the same for features, for neurons and for controls.
#
# ```{admonition} Before you start
# **You will be able to**
# - sort features into four kinds by two numbers, and say what such a rule cannot see;
# - put an interval around a share of features, and say what it is an interval for;
# - tell what makes a feature fire from what it makes the model say, and measure how far the two belong together;
# - say which features a training run finds first, and what more data change.
#
# **You need** the chapters {doc}`/book/dictionary/density` and {doc}`/book/features/arabic`.
#
# **Time**: 35 minutes to read, about a minute to run.
# ```

# %% tags=["hide-input"]
import re

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch.nn.functional import normalize

from sae_core import chapter, load_dictionary, load_model, plots, training
from sae_core.activations import ActivationBuffer, HarvestedChunks, harvest
from sae_core.autoencoder import Output, SparseAutoencoder
from sae_core.effects import logit_weights
from sae_core.evidence import Evidence, feature_evidence, neuron_evidence
from sae_core.exercises import check
from sae_core.interpretability import is_single_token
from sae_core.kinds import (
    CONTEXT,
    KINDS,
    LEAST,
    RARE,
    SINGLE_TOKEN,
    TOKEN_GROUP,
    TOKEN_IN_CONTEXT,
    TokenProfile,
    kinds,
    logit_percentiles,
    token_profile,
    wilson_interval,
)
from sae_core.language_model import to_tensor
from sae_core.metrics import rank_correlation
from sae_core.recipe import paper_scaled
from sae_core.runs import held_out
from sae_core.tokens import token_bytes

# %%
model = load_model("A")
pieces = token_bytes(model.tokenizer)
all_contexts, text = held_out(model)
contexts = all_contexts.head(chapter.size(quick=1000, full=4000))
few_contexts = all_contexts.head(400)  # neurons fire so often that this is plenty

evidence = {"neurons": neuron_evidence(model, few_contexts)}
for name in ("A/1", "B/1", "A/0", "random/1"):
    evidence[name] = feature_evidence(load_model(name[:-2]), load_dictionary(name), contexts)
features, neurons = evidence["A/1"], evidence["neurons"]

# %% tags=["remove-cell"]
chapter.number("text", text)
chapter.number("least", LEAST)
chapter.number("tokens", features.n_tokens, ",")
chapter.number("features", features.n_features, ",")
chapter.number("neuron-tokens", neurons.n_tokens, ",")

# %% [markdown]
# We look at five sets of units on the *{glue:text}`text`* text, {glue:text}`tokens` tokens that no model was trained
# on: the {glue:text}`features` features of A/1, those of B/1 (a model from another seed), those of the smaller A/0,
# those of random/1 (a dictionary for a model whose weights were shuffled), and A's neurons, on
# {glue:text}`neuron-tokens` tokens.
#
# ## Two questions about a feature
#
# The paper finds motifs in its features {cite}`bricken2023monosemanticity`. A **single-token** feature fires on one
# token, wherever it stands. A **context** feature fires on very different tokens within one kind of text: base64, legal
# prose, Korean. A **token-in-context** feature needs both: "the", but only in mathematics. The paper has a rule for the
# first kind alone, and it looks at the strongest examples alone. We need a rule for all kinds and all activations. So
# we turn the examples into two questions.
#
# 1. **Is it one token?** Of all the unit's activation, which share falls on its favourite token? If it is one half or
#    more, we say *mostly one token*.
# 2. **Is the token enough?** Draw one of its activations, strong ones more often. Look at all *other* places in the
#    text where this same token stands. On which share of them is the unit active, too? We call this **coverage**. At
#    one half or more the token is enough. Below, something else decides: the context.
#
# Two answers to two questions make four kinds.
#
# | | coverage ½ or more: the token is enough | below ½: the context decides |
# |---|---|---|
# | **½ or more on one token** | single token | token in context |
# | **less** | group of tokens | context |
#
# ```{admonition} Predict
# :class: tip
# Guess before you go on. Which of the four is the largest among features? Which among neurons? And in the model whose
# weights were shuffled: could it have features for tokens, for contexts, for tokens in contexts?
# ```

# %%
profiles: dict[str, TokenProfile] = {name: token_profile(found, len(pieces)) for name, found in evidence.items()}
kind_of = {name: kinds(profile) for name, profile in profiles.items()}

# %% tags=["hide-input"]
#| label: fig-glance-map
#| caption: >-
#|   Every unit by the two questions. The lines are the borders between the kinds. Switch between sets of units; point
#|   at a dot for its tokens. At most a thousand dots of a set are drawn, chosen at random.


def favourites(found: Evidence, unit: int, n: int = 4, offset: int = 0) -> str:
    """The tokens with most of a unit's activation, or those that come after it."""
    places, values = found.of(unit)
    inside = places % found.contexts.ids.shape[1] + offset < found.contexts.ids.shape[1]
    after = found.contexts.ids.ravel()[places[inside] + offset]
    mass = np.bincount(after, weights=values[inside], minlength=len(pieces))
    return " · ".join(plots.visible(pieces[token]) for token in np.argsort(-mass)[:n] if mass[token] > 0)


rng = np.random.default_rng(0)
shown_sets = ["A/1", "neurons", "random/1"]
figure = go.Figure()
for name in shown_sets:
    for kind, label in enumerate(KINDS):
        chosen = np.flatnonzero(kind_of[name] == kind)
        part = round(min(1, 1000 / max((kind_of[name] != RARE).sum(), 1)) * len(chosen))
        chosen = rng.choice(chosen, part, replace=False)
        figure.add_scatter(
            x=profiles[name].top_share[chosen].round(3),
            y=profiles[name].coverage[chosen].round(3),
            mode="markers",
            name=label,
            visible=name == "A/1",
            marker={"size": 5, "color": plots.PALETTE[kind], "opacity": 0.7},
            text=[f"{name} {unit}: {plots.escape(favourites(evidence[name], unit))}" for unit in chosen],
            hovertemplate="%{text}<br>%{x:.0%} on one token, coverage %{y:.0%}<extra></extra>",
        )
buttons = [
    {
        "label": name,
        "method": "restyle",
        "args": [{"visible": [other == name for other in shown_sets for _ in KINDS]}],
    }
    for name in shown_sets
]
line = {"dash": "dot", "color": plots.PALETTE[7], "width": 1}
figure.add_vline(0.5, line=line)
figure.add_hline(0.5, line=line)
figure.update_xaxes(title="share on its favourite token", tickformat=".0%", range=[-0.02, 1.02])
figure.update_yaxes(title="coverage", tickformat=".0%", range=[-0.02, 1.02])


def share(name: str, kind: int) -> float:
    """Of the units of a set that fired often enough to tell, the share of a kind."""
    return (kind_of[name] == kind).sum() / max((kind_of[name] != RARE).sum(), 1)


def in_words(name: str) -> str:
    return f"{name} " + ", ".join(f"{share(name, kind):.0%} {label}" for kind, label in enumerate(KINDS))


plots.describe(
    figure,
    "Scatter plot with a switch between sets of units, divided into four fields. "
    + "; ".join(in_words(name) for name in shown_sets)
    + ".",
    height=560,
    legend={"itemsizing": "constant"},
    updatemenus=[{"type": "buttons", "direction": "right", "buttons": buttons, "x": 0, "y": 1.13, "xanchor": "left"}],
)

# %% [markdown]
# Do the rules find what they were made for? Here are three features of each kind, drawn at random. No feature was
# chosen because it looks good.

# %% tags=["hide-input"]
profile, kind = profiles["A/1"], kind_of["A/1"]
rows = [
    (
        label if place == 0 else "", f"A/1/{unit}", favourites(features, unit, 5), f"{profile.top_share[unit]:.0%}",
        f"{2 ** profile.entropy[unit]:,.0f}", f"{profile.coverage[unit]:.0%}",
    )
    for index, label in enumerate(KINDS)
    for place, unit in enumerate(rng.choice(np.flatnonzero(kind == index), min(3, (kind == index).sum()), False))
]  # fmt: skip
plots.table(["kind", "feature", "most of it on", "share of the first", "tokens", "coverage"], rows)

# %% [markdown]
# The column *tokens* counts tokens by entropy: it is the number of tokens that would have the same entropy if all had
# equal shares of the activation. A feature with nine tenths on one token counts as about two, even if the rest is
# spread over dozens of others.
#
# ```{admonition} A trap: what the kinds do not see
# :class: warning
# The rules know nothing of meaning. A unit that fires on every form of one verb and a unit that fires on fifty tokens
# that have nothing to do with each other are both a *group of tokens*. A kind says **how** a unit depends on tokens and
# context. Whether the tokens belong together is another question.
# ```
#
# ## How many of each

# %% tags=["hide-input"]
#| label: fig-glance-shares
#| caption: >-
#|   Share of each kind among the units that fired on at least {glue:text}`least` tokens, with Wilson's intervals.
order = ["A/1", "B/1", "A/0", "random/1", "neurons"]
sizes = {name: int((kind_of[name] != RARE).sum()) for name in order}
figure = go.Figure()
for index, label in enumerate(KINDS):
    heights = [share(name, index) for name in order]
    ends = [wilson_interval(int((kind_of[name] == index).sum()), sizes[name]) for name in order]
    figure.add_bar(
        x=order,
        y=heights,
        name=label,
        marker_color=plots.PALETTE[index],
        error_y={
            "array": [high - height for height, (_, high) in zip(heights, ends, strict=True)],
            "arrayminus": [height - low for height, (low, _) in zip(heights, ends, strict=True)],
            "thickness": 1.5,
            "width": 2,
            "color": plots.PALETTE[7],
        },
        hovertemplate="%{y:.1%}",
    )
figure.update_yaxes(title="share of the units", tickformat=".0%", rangemode="tozero")
plots.describe(
    figure,
    "Grouped bars. " + "; ".join(in_words(name) for name in order) + ".",
    barmode="group",
    height=440,
)

# %% tags=["remove-cell"]
for index, label in enumerate(KINDS):
    low, high = wilson_interval(int((kind == index).sum()), sizes["A/1"])
    written = f"{share('A/1', index):.1%} (95 % interval {low:.1%} to {high:.1%})"
    chapter.number(label.replace(" ", "-"), written)
largest = int(np.argmax([share("A/1", index) for index in range(4)]))
chapter.number("largest-kind", KINDS[largest])
neuron_kind = int(np.argmax([share("neurons", index) for index in range(4)]))
chapter.number("neuron-kind", KINDS[neuron_kind])
chapter.number("neuron-kind-share", share("neurons", neuron_kind), ".0%")
chapter.number("neuron-one", share("neurons", SINGLE_TOKEN) + share("neurons", TOKEN_IN_CONTEXT), ".1%")
chapter.number("random-single", share("random/1", SINGLE_TOKEN), ".0%")
chapter.number("single", share("A/1", SINGLE_TOKEN), ".0%")
chapter.number("tic", share("A/1", TOKEN_IN_CONTEXT), ".1%")
chapter.number("random-tic", share("random/1", TOKEN_IN_CONTEXT), ".1%")
chapter.number("context-share", share("A/1", CONTEXT), ".0%")
chapter.number("group-share", share("A/1", TOKEN_GROUP), ".0%")
chapter.number(
    "random-verdict",
    "So a clean single-token feature is no sign that a model has learned anything: tokens differ in any model that "
    "reads them"
    if share("random/1", SINGLE_TOKEN) > 0.5 * share("A/1", SINGLE_TOKEN)
    else "So most single-token features of A/1 are more than tokens that differ in any model",
)
ratio = share("A/1", TOKEN_IN_CONTEXT) / max(share("random/1", TOKEN_IN_CONTEXT), 1 / sizes["random/1"])
chapter.number(
    "tic-verdict",
    "This kind is the one that needs a model which combines the token with what came before. It is the better witness"
    if ratio > 2
    else "On this text the kind does not tell the two models apart",
)


def mixture(found: Evidence, unit: int) -> float:
    """From how many kinds of text a unit's twenty strongest examples come, at most one of a context; by entropy."""
    slices = [found.contexts.slices[example.context, example.position] for example in found.top_examples(unit, 20)]
    shares = np.unique(slices, return_counts=True)[1] / max(len(slices), 1)
    return float(2 ** -(shares * np.log2(shares)).sum())


def median_mixture(name: str, chosen: np.ndarray) -> float:
    """The median of the mixture over at most 300 of some units of a set, drawn at random."""
    units = rng.permutation(np.flatnonzero(chosen))[:300]
    return float(np.median([mixture(evidence[name], unit) for unit in units])) if len(units) else 1.0


context_mixed = {name: median_mixture(name, kind_of[name] == CONTEXT) for name in ("A/1", "random/1")}
chapter.number("context-mixed", context_mixed["A/1"], ".1f")
chapter.number("context-mixed-random", context_mixed["random/1"], ".1f")
chapter.number(
    "context-verdict",
    "So “context” does not mean the same thing in the two"
    if context_mixed["A/1"] < 0.8 * context_mixed["random/1"]
    else "By this measure, too, the two are alike",
)
inside = [
    wilson_interval(int((kind == index).sum()), sizes["A/1"])[0]
    <= share("B/1", index)
    <= wilson_interval(int((kind == index).sum()), sizes["A/1"])[1]
    for index in range(4)
]
chapter.number("B-inside", sum(inside))

# %% [markdown]
# In A/1 the most frequent kind is *{glue:text}`largest-kind`*, with both borders at one half. The shares:
#
# - single token: {glue:text}`single-token`
# - token in context: {glue:text}`token-in-context`
# - group of tokens: {glue:text}`group-of-tokens`
# - context: {glue:text}`context`
#
# **The shuffled model** has single-token features, too: {glue:text}`random-single` of random/1 against
# {glue:text}`single` of A/1. {glue:text}`random-verdict`. Tokens in context are {glue:text}`random-tic` there and
# {glue:text}`tic` here. {glue:text}`tic-verdict`.
#
# **Neurons** are mostly *{glue:text}`neuron-kind`* ({glue:text}`neuron-kind-share`), and {glue:text}`neuron-one` of
# them are about one token in either sense.
#
# ```{admonition} A trap: "context" is what is left
# :class: warning
# A unit that fires on many tokens for no reason at all is a *context* by our rule, as its tokens are never enough. So
# look again. From how many kinds of text (counted by entropy, like tokens) do the twenty strongest examples of such a
# unit come? For the median one of A/1 it is {glue:text}`context-mixed`, for random/1 {glue:text}`context-mixed-random`.
# {glue:text}`context-verdict`.
# ```
#
# ```{admonition} A trap: an interval for what?
# :class: warning
# The intervals treat features as independent draws (Wilson's formula). They say what chance alone would do to the share
# in *another set of as many features of the same sort*. B/1 is such a set, from another seed: {glue:text}`B-inside` of
# its four shares lie within the intervals of A/1. Where they do not, seeds differ by more than draws. An interval from
# one dictionary cannot know that.
# ```
#
# **The paper's rule** for a single token asks whether twenty examples from the top of a unit's range are all on one
# token. How do the units that pass it divide among our kinds?

# %% tags=["hide-input"]
passes = {
    name: np.array([is_single_token(evidence[name], unit) for unit in range(evidence[name].n_features)])
    for name in ("A/1", "random/1", "neurons")
}
rows = []
for name, passed in passes.items():
    passed &= kind_of[name] != RARE
    parts = [(passed & (kind_of[name] == index)).sum() / max(passed.sum(), 1) for index in range(4)]
    rows.append((name, f"{passed.sum() / sizes[name]:.1%}", *(f"{part:.0%}" for part in parts)))
plots.table(["units", "pass the paper's rule", *(f"of these, {label}" for label in KINDS)], rows)

# %% tags=["remove-cell"]
passed = passes["A/1"]
chapter.number("paper-single", passed.sum() / sizes["A/1"], ".0%")
chapter.number("paper-single-random", passes["random/1"].sum() / sizes["random/1"], ".0%")
chapter.number("paper-ours", (kind[passed] == SINGLE_TOKEN).mean() if passed.any() else 0.0, ".0%")
needs_context = np.isin(kind[passed], [TOKEN_IN_CONTEXT, CONTEXT])
chapter.number("paper-context", needs_context.mean() if passed.any() else 0.0, ".0%")


def passing(name: str, n_contexts: int) -> float:
    """Of the units that fired often enough on all of the text, the share that pass if only a part is searched."""
    units, part = np.flatnonzero(kind_of[name] != RARE), evidence[name].between(0, n_contexts)
    return float(np.mean([is_single_token(part, unit) for unit in units]))


n_contexts = len(features.contexts.ids)
on_less = {name: [passing(name, n_contexts // 4), passing(name, n_contexts // 2)] for name in ("A/1", "random/1")}
on_all = {name: passes[name].sum() / sizes[name] for name in on_less}
for name, shares in on_less.items():
    chapter.number(f"paper-less-{name.replace('/', '')}", f"{shares[0]:.0%} and {shares[1]:.0%}")
ahead = [a > b for a, b in zip(*([*on_less[name], on_all[name]] for name in on_less), strict=True)]
chapter.number(
    "paper-order",
    "That the larger share is that of A/1 is true of these amounts, and need not be true of more"
    if all(ahead)
    else "That the larger share is that of random/1 is true of these amounts, and need not be true of more"
    if not any(ahead)
    else "Even within these amounts, the order of the two is not always the same",
)

# %% [markdown]
# {glue:text}`paper-single` of A/1 pass it, and {glue:text}`paper-single-random` of random/1. Of those in A/1,
# {glue:text}`paper-ours` are single tokens by our rule as well. For {glue:text}`paper-context` the token is not enough:
# at its strongest such a feature is on one token, and yet most occurrences of its tokens leave it silent. Top examples
# cannot show where a feature does *not* fire.
#
# The examples are the twenty strongest *of the text that was searched*. On a quarter and on a half of our text,
# {glue:text}`paper-less-A1` of A/1 pass, and {glue:text}`paper-less-random1` of random/1. So the share is one of an
# amount of text. {glue:text}`paper-order`. {doc}`interpretability` searches more.
#
# And the borders at one half? They are ours. Move both between 0.3 and 0.7:

# %% tags=["hide-input"]
borders = [0.3, 0.4, 0.5, 0.6, 0.7]
moved = {
    name: [
        np.bincount(found[found != RARE], minlength=4) / max((found != RARE).sum(), 1)
        for one in borders
        for covered in borders
        for found in [kinds(profiles[name], one, covered)]
    ]
    for name in ("A/1", "random/1", "neurons")
}
plots.table(
    ["share of", *moved],
    [
        (label, *(f"{np.min(found, 0)[index]:.0%} to {np.max(found, 0)[index]:.0%}" for found in moved.values()))
        for index, label in enumerate(KINDS)
    ],
)

# %% tags=["remove-cell"]
first_kinds = [int(np.argmax(shares)) for shares in moved["A/1"]]
others = sorted({KINDS[index] for index in first_kinds if index != largest})
chapter.number("n-borders", len(first_kinds))
chapter.number("largest-kept", first_kinds.count(largest))
chapter.number(
    "largest-told",
    f"With the others it is {' or '.join(others)}, so what is most frequent was decided by us, too"
    if others
    else "So that does not hang on the borders",
)

# %% [markdown]
# Read a share with its range. What survives every border is safe to say. What does not was decided by us. With
# {glue:text}`largest-kept` of the {glue:text}`n-borders` pairs of borders, *{glue:text}`largest-kind`* is the most
# frequent kind of A/1. {glue:text}`largest-told`.
#
# ### One token, many features
#
# How pervasive are tokens in contexts? Take the tokens that are the favourite of several features. Are these features
# all the same, or does each fire in other places? The last column tells: of the occurrences on which any of them fires,
# the share on which the median one of them does.

# %% tags=["hide-input"]
one_token = np.isin(kind, [SINGLE_TOKEN, TOKEN_IN_CONTEXT])
per_token = np.bincount(profile.top_token[one_token], minlength=len(pieces))
context_of_token = np.bincount(profile.top_token[kind == TOKEN_IN_CONTEXT], minlength=len(pieces))
occurrences = np.bincount(contexts.ids[:, 1:].ravel(), minlength=len(pieces))


def shared_out(token: int) -> float:
    """Of the occurrences of a token on which any of its features fires: the share that the median one of them has."""
    family = np.flatnonzero(one_token & (profile.top_token == token))
    on_token = [places[contexts.ids.ravel()[places] == token] for places in (features.of(unit)[0] for unit in family)]
    return float(np.median([len(places) for places in on_token]) / len(np.unique(np.concatenate(on_token))))


plots.table(
    ["token", "features mostly on it", "of them in context", "share of the text", "the median one's part"],
    [
        (
            plots.visible(pieces[token]), int(per_token[token]), int(context_of_token[token]),
            f"{occurrences[token] / features.n_tokens:.2%}", f"{shared_out(token):.0%}",
        )
        for token in np.argsort(-per_token, kind="stable")[:8]
    ],
)  # fmt: skip

# %% tags=["remove-cell"]
shared = per_token > 1
chapter.number("own-tokens", int((per_token > 0).sum()), ",")
chapter.number("shared-tokens", int(shared.sum()), ",")
chapter.number("one-token-features", int(one_token.sum()), ",")
frequency = rank_correlation(occurrences[per_token > 0], per_token[per_token > 0])
chapter.number("frequency-correlation", frequency, ".2f")
chapter.number(
    "frequency-verdict",
    "Frequent tokens get more of them" if frequency > 0.1 else "Frequent tokens do not get more of them",
)

# %% [markdown]
# The {glue:text}`one-token-features` features that are mostly on one token have {glue:text}`own-tokens` different
# tokens between them, and {glue:text}`shared-tokens` tokens have more than one feature. {glue:text}`frequency-verdict`
# (rank correlation {glue:text}`frequency-correlation`). What happens to such a family when the dictionary grows is the
# subject of {doc}`splitting`.
#
# ## The most polysemantic neuron
#
# A neuron as a *group of tokens*: what group? This is the neuron whose strongest examples mix the most kinds of text,
# the worst of its layer. The word on the left is the kind of text.

# %% tags=["hide-input"]
mixed = np.array([mixture(neurons, unit) for unit in range(neurons.n_features)])
worst = int(mixed.argmax())
examples = neurons.top_examples(worst, 10, window=8)
examples.sort(key=lambda example: neurons.contexts.slices[example.context, example.position])
plots.examples_html(
    examples,
    pieces,
    float(neurons.of(worst)[1].max()),
    [contexts.slice_names[neurons.contexts.slices[example.context, example.position]] for example in examples],
)

# %% tags=["remove-cell"]
chapter.number("worst", worst)
chapter.number("worst-mixed", mixed[worst], ".1f")
chapter.number("neuron-mixed", np.median(mixed), ".1f")
chapter.number("feature-mixed", median_mixture("A/1", kind != RARE), ".1f")
chapter.number("neuron-tokens-each", 2 ** np.median(profiles["neurons"].entropy), ",.0f")
chapter.number("feature-tokens-each", 2 ** np.median(profile.entropy[kind != RARE]), ",.0f")
chapter.number("neuron-density", np.median(neurons.density), ".0%")
chapter.number("neuron-coverage", np.median(profiles["neurons"].coverage), ".0%")
chapter.number(
    "neuron-verdict",
    "So neurons are not noise: what a neuron reads decides much of whether it is active. But what it reads are many "
    "groups of tokens at once, as superposition would have it"
    if np.median(profiles["neurons"].coverage) > np.median(neurons.density) + 0.2
    else "So the token that a neuron reads says little about whether it is active",
)

# %% [markdown]
# Neuron {glue:text}`worst` mixes {glue:text}`worst-mixed` kinds of text. The median neuron mixes
# {glue:text}`neuron-mixed`, the median feature {glue:text}`feature-mixed`. In tokens, the median neuron spreads over
# {glue:text}`neuron-tokens-each` and the median feature over {glue:text}`feature-tokens-each`.
#
# ```{admonition} A trap: who fires everywhere covers everything
# :class: warning
# A unit that fires at random has a coverage that equals its density. For features, which fire on few tokens, that is
# close to zero. For neurons it is not. The median neuron is active on {glue:text}`neuron-density` of the tokens, and
# its coverage is {glue:text}`neuron-coverage`. {glue:text}`neuron-verdict`.
# ```
#
# ## What it reads, what it says
#
# So far we asked what makes a feature fire. The other end of a feature is its **logit weights**: the tokens that it
# makes more likely to come next. The paper notes that features can be named from either end, and that some are better
# named by what they do than by what they see. It calls these **action features**.
#
# The two ends have different sources. What a feature reads comes from text. What it says comes from weights, by matrix
# products, and no text is involved. So we can test one against the other. Take the tokens that really come after a
# feature's activations, and look up how high the feature's logit weights rank them: 100 % for the token that it
# promotes most, 50 % on average if weights and text have nothing to do with each other.
#
# ```{admonition} Predict
# :class: tip
# A feature fires on "However". Which token should rank high? Where will the median feature lie, where the median
# neuron, where a feature of the shuffled model? And where does a feature rank the token *on which it fires*?
# ```

# %%
weights = {
    "A/1": logit_weights(model, load_dictionary("A/1").W_dec).numpy(),
    "neurons": logit_weights(model, torch.eye(neurons.n_features)).numpy(),
    "random/1": logit_weights(load_model("random"), load_dictionary("random/1").W_dec).numpy(),
}
after = {name: logit_percentiles(evidence[name], weights[name]) for name in weights}
after["A/1, weights of another feature"] = logit_percentiles(features, np.roll(weights["A/1"], 1, axis=0))
itself = logit_percentiles(features, weights["A/1"], offset=0)

# %% tags=["hide-input"]
#| label: fig-glance-roles
#| caption: >-
#|   How high units rank the tokens that come after their activations, in their logit weights. A half is chance. The
#|   line in a box is the median.
figure = go.Figure()
medians = {}
for place, (name, found) in enumerate(after.items()):
    enough = kind_of["A/1" if "," in name else name] != RARE
    medians[name] = float(np.median(found[enough]))
    figure.add_box(
        x=found[enough].round(3), name=name.replace(", ", ",<br>").replace("of another", "of<br>another"),
        boxpoints=False, marker_color=plots.PALETTE[place],
    )  # fmt: skip
figure.add_vline(0.5, line=line)
figure.update_xaxes(title="rank of the next token", tickformat=".0%")
plots.describe(
    figure,
    "Box plots of the mean rank of the next token in a unit's logit weights. Medians: "
    + "; ".join(f"{name} {median:.0%}" for name, median in medians.items())
    + ".",
    height=380,
    showlegend=False,
)

# %% tags=["remove-cell"]
chapter.number("after", medians["A/1"], ".0%")
chapter.number("after-neurons", medians["neurons"], ".0%")
chapter.number("after-random", medians["random/1"], ".0%")
chapter.number("after-other", medians["A/1, weights of another feature"], ".0%")


def promotes(table: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Whether a token of each unit [n_units] is among the twenty with the largest of its weights [n_units, vocab]."""
    return table[np.arange(len(table)), tokens] >= np.sort(table, axis=1)[:, -20]


def acts(name: str, following: TokenProfile) -> np.ndarray:
    """Which units are action features, by what follows their activations."""
    certain = (following.top_share >= 0.5) & (profiles[name].top_share < 0.5) & (kind_of[name] != RARE)
    return certain & promotes(weights[name], following.top_token)


told = kind != RARE
next_profile = token_profile(features, len(pieces), offset=1)
of_another = np.roll(weights["A/1"], 1, axis=0)
chapter.number("commonest-next", promotes(weights["A/1"], next_profile.top_token)[told].mean(), ".0%")
chapter.number("commonest-next-chance", promotes(of_another, next_profile.top_token)[told].mean(), ".0%")
chapter.number("itself", np.median(itself[told]), ".0%")
chapter.number("repeats", promotes(weights["A/1"], profile.top_token)[told].mean(), ".0%")
chapter.number(
    "roles-verdict",
    "The two ends of a feature belong together: what its weights promote is what the text goes on with"
    if medians["A/1"] > max(medians["random/1"], medians["A/1, weights of another feature"]) + 0.1
    else "On this text the two ends of a feature do not clearly belong together",
)
action = acts("A/1", next_profile)
chapter.number("action", int(action.sum()))
chapter.number("action-share", action.sum() / sizes["A/1"], ".1%")
chapter.number("sharper-share", (next_profile.entropy < profile.entropy)[told].mean(), ".0%")
random_next = token_profile(evidence["random/1"], len(pieces), offset=1)
chapter.number("random-action", int(acts("random/1", random_next).sum()))

# %% [markdown]
# The median feature ranks the next token at {glue:text}`after`. With another feature's weights that would be
# {glue:text}`after-other`, more than a half if common tokens are promoted by many. In the shuffled model it is
# {glue:text}`after-random`, and for neurons {glue:text}`after-neurons`. {glue:text}`roles-verdict`. For
# {glue:text}`commonest-next` of the features, the token that most often comes next is among the twenty that they
# promote most. With another feature's weights it would be {glue:text}`commonest-next-chance`.
#
# What a feature reads and what it says are still two things. The median feature ranks its *own* tokens at
# {glue:text}`itself`, and {glue:text}`repeats` have the token that they fire on most among the twenty that they promote
# most.
#
# Now turn it into a rule for action features. **Less than half of what a feature fires on is one token; at least half
# of what comes next is; and that token is among the twenty that it promotes most.** Such a feature is easier to name by
# what it says.

# %% tags=["hide-input"]
rows = []
for unit in np.flatnonzero(action)[np.argsort(-next_profile.top_share[action])][:8]:
    promoted = " · ".join(plots.visible(pieces[token]) for token in np.argsort(-weights["A/1"][unit])[:4])
    follows = f"{plots.visible(pieces[next_profile.top_token[unit]])} ({next_profile.top_share[unit]:.0%})"
    rows.append((f"A/1/{unit}", favourites(features, unit, 4), follows, promoted))
plots.table(["feature", "fires on", "what follows most", "promotes"], rows)

# %% [markdown]
# {glue:text}`action` features ({glue:text}`action-share`) pass this strict rule; in random/1 it is
# {glue:text}`random-action`. By a softer one, that the next tokens have less entropy than the ones that it fires on,
# {glue:text}`sharper-share` do.
#
# ```{admonition} A trap: text that repeats itself
# :class: warning
# "What follows" is a property of the text and not of the feature. A feature on one boilerplate sentence has a very
# certain next token, whatever its weights say. That is why the rule asks the weights, too. Only where text and weights
# agree does the feature act.
# ```
#
# ## Density, by kind
#
# ```{admonition} Predict
# :class: tip
# Order the kinds by how often their features fire.
# ```

# %% tags=["hide-input"]
#| label: fig-glance-density
#| caption: How often the features of A/1 fire, by kind.
by_kind = {label: features.density[kind == index] for index, label in enumerate(KINDS) if (kind == index).any()}
median_density = {label: float(np.median(found)) for label, found in by_kind.items()}
figure = plots.log_histogram(
    by_kind,
    "share of tokens",
    "Stacked histogram on a logarithmic axis. Median densities: "
    + "; ".join(f"{label} {density:.2%}" for label, density in median_density.items())
    + ".",
)
figure

# %% tags=["remove-cell"]
ordered = sorted(median_density, key=median_density.get)
chapter.number("rarest-kind", ordered[0])
chapter.number("rarest-density", median_density[ordered[0]], ".3%")
chapter.number("densest-kind", ordered[-1])
chapter.number("densest-density", median_density[ordered[-1]], ".3%")
dense = features.density > 0.01
chapter.number("dense", int(dense.sum()))
dense_context, all_context = (kind[dense] == CONTEXT).mean() if dense.any() else 0.0, share("A/1", CONTEXT)
chapter.number("dense-context", dense_context, ".0%")
chapter.number(
    "dense-verdict",
    "A context has no such limit, and it shows at the dense end"
    if dense_context > all_context + 0.1
    else "A context has no such limit, but here contexts are not what is dense",
)

# %% [markdown]
# The rarest kind is *{glue:text}`rarest-kind`* with a median of {glue:text}`rarest-density`, the most frequent
# *{glue:text}`densest-kind`* with {glue:text}`densest-density`. Of the {glue:text}`dense` features above 1 %,
# {glue:text}`dense-context` are contexts; of all features, {glue:text}`context-share`. A feature on one token is about
# as frequent as its token. {glue:text}`dense-verdict`.
#
# ## Which features come first
#
# Logan Riggs, who trained dictionaries on other models, noted that the most frequent features are found first. We can
# watch. A/0 has 512 features from a long run. The run below is short and starts from another seed, and we keep its
# dictionary at some steps. At each of them we ask for every feature of A/0: is it there yet? We call it **found** from
# the step on at which some direction of the young dictionary has a cosine of at least 0.7 with its own, and keeps it.
#
# ```{admonition} Predict
# :class: tip
# Three properties could decide who comes early: how *often* a feature fires, how *strongly*, and both at once, which is
# how much of the activations it explains. What does the loss care about?
# ```

# %%
reference, seen = load_dictionary("A/0"), evidence["A/0"]
D_SAE, BATCH, BUFFER = 512, 1024, 16_384
judged, rest = all_contexts.head(50), all_contexts.ids[50:]
steps = min(chapter.size(quick=400, full=3000), (rest[:, 1:].size - BUFFER) // BATCH)
rest = rest[: -(-(steps * BATCH + BUFFER) // rest[:, 1:].shape[1])]
looked_at = [round(steps * part) for part in (0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1)]


def watched_run(ids: np.ndarray, repeat: bool = False) -> dict[int, SparseAutoencoder]:
    """A training run on the activations of a text; its dictionary at each of the steps that we look at."""
    config = paper_scaled(steps, d_sae=D_SAE, batch_size=BATCH, lr=2e-3, resample_at=(), buffer_rows=BUFFER, seed=1)
    chunks = HarvestedChunks(model.network, ids, chunk_contexts=16)
    trainer = training.Trainer(config, ActivationBuffer(chunks, BUFFER, repeat=repeat))
    kept = {0: trainer.result()}
    return kept | {now.step: trainer.result() for now in trainer.run() if now.step in looked_at}


def closest(sae: SparseAutoencoder) -> np.ndarray:
    """For each feature of A/0 the largest cosine of its direction with one of another dictionary."""
    return (reference.W_dec @ normalize(sae.W_dec, dim=1).T).max(1).values.detach().numpy()


def found_at(run: dict[int, SparseAutoencoder]) -> np.ndarray:
    """The step from which on a run has each feature of A/0; infinite where it does not have it in the end."""
    found, kept = np.full(reference.d_sae, np.inf), np.ones(reference.d_sae, bool)
    for step in reversed(looked_at):
        kept &= closest(run[step]) >= 0.7
        found[kept] = step
    return found


run = watched_run(rest)
found = found_at(run)

# %%
owner = np.repeat(np.arange(seen.n_features), seen.counts)
explained = np.bincount(owner, weights=seen.values.astype(float) ** 2, minlength=seen.n_features)
properties = {
    "density": seen.density,
    "strength when active": explained / np.maximum(seen.counts, 1),
    "both: squared activation, summed": explained,
    "share on one token": profiles["A/0"].top_share,
    "coverage": profiles["A/0"].coverage,
}
told = kind_of["A/0"] != RARE
groups = {"all": told, "those found in the end": told & np.isfinite(found)}
first_by = {
    name: [rank_correlation(values[group], found[group]) for group in groups.values()]
    for name, values in properties.items()
}
plots.table(
    ["rank correlation with the step at which a feature was found", *groups],
    [(name, *(f"{value:+.2f}" for value in pair)) for name, pair in first_by.items()],
)

# %% tags=["hide-input"]
#| label: fig-glance-first
#| caption: >-
#|   When a run finds the features of A/0, by how often they fire (top) and by how much they explain (bottom), in
#|   quarters. Each curve says which share of a quarter has been found by a step.
figure = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.12, subplot_titles=["by density", "by explained"])
QUARTERS = ("most", "second", "third", "least")
in_the_end = {}
for row, (name, values) in enumerate((("density", seen.density), ("explained", explained)), start=1):
    quarters = np.array_split(np.flatnonzero(told)[np.argsort(-values[told], kind="stable")], 4)
    for place, (label, members) in enumerate(zip(QUARTERS, quarters, strict=True)):
        shares = [(found[members] <= step).mean() for step in looked_at]
        in_the_end[name, label] = shares[-1]
        figure.add_scatter(
            x=looked_at, y=np.round(shares, 3), name=label, legendgroup=label, showlegend=row == 1,
            mode="lines+markers", line={"color": plots.PALETTE[place]}, row=row, col=1,
        )  # fmt: skip
figure.update_yaxes(title="found", tickformat=".0%", range=[-0.03, 1.03])
figure.update_xaxes(title="step", row=2, col=1)
plots.describe(
    figure,
    f"Two panels of rising curves. Share found after {steps} steps: by density "
    + ", ".join(f"{label} {in_the_end['density', label]:.0%}" for label in QUARTERS)
    + "; by what they explain "
    + ", ".join(f"{label} {in_the_end['explained', label]:.0%}" for label in QUARTERS)
    + ".",
    height=560,
)

# %% tags=["remove-cell"]
chapter.number("steps", steps)
chapter.number("batch", BATCH, ",")
chapter.number("at-start", np.median(closest(run[0])), ".2f")
by_density, by_explained = (first_by[name][1] for name in ("density", "both: squared activation, summed"))
chapter.number("first-density", by_density, "+.2f")
chapter.number("first-explained", by_explained, "+.2f")


def strength(correlation: float) -> str:
    size = abs(correlation)
    return "weakly" if size < 0.3 else "clearly" if size < 0.6 else "strongly"


chapter.number(
    "first-verdict",
    f"Among these, frequent features come earlier, {strength(by_density)} so"
    if by_density < -0.15
    else f"Among these, frequent features come later here, {strength(by_density)} so"
    if by_density > 0.15
    else "Among these, how often a feature fires hardly matters",
)
chapter.number("first-density-all", first_by["density"][0], "+.2f")
for label, place in (("most", "densest"), ("least", "rarest")):
    chapter.number(f"found-{place}", in_the_end["density", label], ".0%")
counts_more = by_explained < min(by_density, 0) - 0.1
chapter.number(
    "explained-verdict",
    f"What counts among them is how much a feature explains, and {strength(by_explained)} so"
    if counts_more
    else "How much a feature explains does not count for more",
)
chapter.number(
    "first-takeaway",
    "Of the features that it finds, a run first finds those that explain most, which need not be those that fire most"
    if counts_more
    else "In a short run we could not tell features that come first by what they explain",
)
by_kind = [
    f"{label} {np.isfinite(found[kind_of['A/0'] == index]).mean():.0%}"
    for index, label in enumerate(KINDS)
    if (kind_of["A/0"] == index).sum() >= 20
]
chapter.number("first-kinds", ", ".join(by_kind))
chapter.number("found", np.isfinite(found).mean(), ".0%")

# %% [markdown]
# Before the first step, the median feature of A/0 has a closest cosine of {glue:text}`at-start`, by chance. After
# {glue:text}`steps` steps of {glue:text}`batch` activations, {glue:text}`found` are found (by kind:
# {glue:text}`first-kinds`). A/0 learned from the text that the model was trained on; on another text, a run finds fewer
# of its features.
#
# In the table, a negative correlation means "the more, the earlier". Read the second column. Some features of A/0 may
# be its own, and no other run has them, early or late; {doc}`universality` asks which. Among those that were found, the
# correlation with density is {glue:text}`first-density`. {glue:text}`first-verdict`. With what a feature explains it is
# {glue:text}`first-explained`. {glue:text}`explained-verdict`. The gradient of the loss is what moves a direction. It
# is large where many examples are *and* where each has much to gain.
#
# The first column is another matter. There, features that were never found count as the last of all. The correlation
# with density is {glue:text}`first-density-all`. Of the densest quarter of A/0, {glue:text}`found-densest` are found in
# the end, and of the rarest {glue:text}`found-rarest`.
#
# ```{admonition} A trap: found is not the same as unmoved
# :class: warning
# Why not compare each feature with its own end? Then a direction that hardly moves is close to its end from the start,
# and counts as found early. A dead feature would be the first of all. Another run's features cannot play this trick.
# ```
#
# ## More data, or more steps?
#
# The authors used eight billion activations and report that more data made features sharper. In a run that never
# repeats, data and steps grow together, so a single run cannot tell which of them did it. A second run can: the same
# start and as many steps, but all from the first tenth of the data, again and again.
#
# ```{admonition} Predict
# :class: tip
# Will the second run find as many features of A/0? And will its features be on as few tokens?
# ```

# %%
tenth = rest[: max(len(rest) // 10, -(-BUFFER // rest[:, 1:].shape[1]))]
repeated = watched_run(tenth, repeat=True)
judged_x = harvest(model.network, to_tensor(judged.ids))[:, 1:].flatten(0, 1)


@torch.no_grad()
def tokens_each(sae: SparseAutoencoder) -> float:
    """On how many tokens, by entropy, the median feature of a dictionary fires; of those active on enough."""
    codes = sae.encode(judged_x).numpy()
    unit, row = codes.T.nonzero()
    n_ctx = judged.ids.shape[1]
    places = row // (n_ctx - 1) * n_ctx + row % (n_ctx - 1) + 1
    starts = np.searchsorted(unit, np.arange(D_SAE + 1))
    found = token_profile(Evidence(judged, starts, places.astype(np.int32), codes[row, unit]), len(pieces))
    return float(2 ** np.median(found.entropy[found.counts >= LEAST]))


outcome = {
    name: {
        "found": [float((closest(dictionaries[step]) >= 0.7).mean()) for step in looked_at],
        "tokens": [tokens_each(dictionaries[step]) for step in looked_at[1:]],
    }
    for name, dictionaries in (("all data, once", run), ("a tenth, repeated", repeated))
}

# %% tags=["hide-input"]
#| label: fig-glance-sharper
#| caption: >-
#|   Two runs with as many steps, one on fresh data, one on a tenth of them again and again: the share of A/0's features
#|   that are there (top), and on how many tokens the median feature fires (bottom, logarithmic).
figure = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.08)
for place, (name, measured) in enumerate(outcome.items()):
    for row, values in enumerate(measured.values(), start=1):
        figure.add_scatter(
            x=looked_at[-len(values) :], y=np.round(values, 3), name=name, legendgroup=name, showlegend=row == 1,
            mode="lines+markers",
            line={"color": plots.PALETTE[place], "dash": "dot" if place else "solid"}, row=row, col=1,
        )  # fmt: skip
figure.update_yaxes(title="found", tickformat=".0%", row=1, col=1)
figure.update_yaxes(title="tokens", type="log", tickvals=[10, 20, 50, 100, 200, 500, 1000], row=2, col=1)
figure.update_xaxes(title="step", row=2, col=1)
written = [
    f"{name}: found {measured['found'][-1]:.0%} in the end, tokens from {measured['tokens'][0]:.0f} to "
    f"{measured['tokens'][-1]:.0f}"
    for name, measured in outcome.items()
]
plots.describe(figure, "Two panels with two curves each. " + "; ".join(written) + ".", height=480)

# %% tags=["remove-cell"]
(once, again) = outcome.values()
gain = (closest(run[steps]) >= 0.7).astype(float) - (closest(repeated[steps]) >= 0.7)
half = 1.96 * gain.std() / len(gain) ** 0.5
chapter.number("passes", steps * BATCH / tenth[:, 1:].size, ".0f")
chapter.number("found-once", once["found"][-1], ".0%")
chapter.number("found-again", again["found"][-1], ".0%")
chapter.number("found-gain", f"{100 * gain.mean():+.1f} points (95 % interval {100 * (gain.mean() - half):+.1f} to "
                             f"{100 * (gain.mean() + half):+.1f})")  # fmt: skip
chapter.number("early", looked_at[1])
chapter.number("tokens-early", once["tokens"][0], ",.0f")
chapter.number("tokens-once", once["tokens"][-1], ".0f")
chapter.number("tokens-again", again["tokens"][-1], ".0f")
chapter.number(
    "found-verdict",
    "So fresh data find more in this pair of runs"
    if gain.mean() > half
    else "So repeated data find more in this pair of runs"
    if gain.mean() < -half
    else "That may be chance",
)
sharper = again["tokens"][-1] / once["tokens"][-1]
chapter.number(
    "data-verdict",
    "Here, fresh data make them sharper, too"
    if sharper > 1.1
    else "Here, repeated data make them sharper, which is no good sign: they fit the tenth that they see"
    if sharper < 0.9
    else "Sharpness comes with the steps; whether the data repeat makes a difference of less than a tenth",
)

# %% [markdown]
# Fresh data find {glue:text}`found-once` of A/0's features, a tenth read {glue:text}`passes` times finds
# {glue:text}`found-again`: {glue:text}`found-gain`, features taken as independent draws. {glue:text}`found-verdict`.
# The interval cannot say how far another pair of runs would differ, and we have this one.
#
# Along the run features become sharper, from {glue:text}`tokens-early` tokens after {glue:text}`early` steps to
# {glue:text}`tokens-once` in the end; with a tenth of the data it is {glue:text}`tokens-again`.
# {glue:text}`data-verdict`.
#
# ```{admonition} A trap: sharper is not better
# :class: warning
# A larger $\lambda$ makes features sharper, too, at the price of the reconstruction. "Sharper" is an improvement only
# between dictionaries that explain equally much. Both runs have the same $\lambda$, and it is an exercise to compare
# what they explain.
# ```
#
# ## What the paper found, what we found
#
# ```{list-table}
# :header-rows: 1
#
# * -
#   - the paper
#   - here, on *{glue:text}`text`*
# * - kinds of features
#   - single token, token in context and context, by example; no shares
#   - {glue:text}`single` single token, {glue:text}`tic` token in context,
#     {glue:text}`group-share` group of tokens, {glue:text}`context-share` context
# * - the shuffled model
#   - many single-token features
#   - {glue:text}`random-single` single token, {glue:text}`random-tic` token in context
# * - neurons
#   - polysemantic; one is shown that mixes citations, dialogue, requests and Korean
#   - median neuron on {glue:text}`neuron-tokens-each` tokens, median feature on
#     {glue:text}`feature-tokens-each`
# * - action features
#   - named, not counted
#   - {glue:text}`action` by the strict rule
# * - the two ends of a feature
#   - can be read separately
#   - next tokens ranked at {glue:text}`after`, by chance {glue:text}`after-other`
# * - what is found first
#   - the most frequent (Riggs)
#   - among those found, rank correlation {glue:text}`first-density` with density,
#     {glue:text}`first-explained` with what is explained
# * - more data
#   - sharper features
#   - {glue:text}`tokens-once` tokens, with a tenth of the data {glue:text}`tokens-again`;
#     {glue:text}`found-once` and {glue:text}`found-again` of A/0's features
# ```
#
# **How our set-up differs.** Kinds are rules of ours. Our vocabulary is small, so words come in several pieces, and a
# feature for a word's ending counts as a single token. The runs of the last two sections are small and short; they show
# directions and not sizes. {doc}`/book/differences` has the rest.
#
# ```{admonition} Takeaways
# :class: note
# - Two computable questions, *one token?* and *is the token enough?*, sort every unit, and sort neurons by the same
#   rule.
# - Single-token features prove little: a shuffled model has them. Features that need the context are the evidence.
# - What a feature reads comes from text, what it says from weights. That they agree is a test, and chance fails it.
# - {glue:text}`first-takeaway`.
# ```
#
# ## Exercises
#
# ```{exercise-start} How many tokens?
# :label: ex-glance-tokens
# ```
# *Difficulty 1/5 · importance 3/5 · 10 minutes.* Write `effective_tokens(masses)`: for the activation `masses` that a
# feature has on each token of the vocabulary (many are zero), the number of tokens with equal shares that would have
# the same entropy. Then find, by hand, a feature's spread over ten tokens that counts as fewer than two.
#
# ````{admonition} Hint 1
# :class: dropdown
# Divide by the sum to have shares $p$. The entropy is $-\sum p \log p$ over those that are not zero.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# For $n$ equal shares the entropy is $\log n$. So undo the logarithm, with the base that you took.
# ````
# ```{exercise-end}
# ```


# %% tags=["stub"]
def effective_tokens(masses):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-glance-tokens")
def check_tokens(effective_tokens):
    assert np.isclose(effective_tokens(np.array([3.0, 0, 3, 3, 0])), 3), "three equal masses are three tokens"
    assert np.isclose(effective_tokens(np.array([0, 7.0])), 1), "all on one token is one token"
    masses = np.array([9.0, 1, 0, 2])
    shares = np.array([0.75, 1 / 12, 1 / 6])
    by_hand = float(np.prod(shares**-shares))
    assert np.isclose(effective_tokens(masses), by_hand), f"masses 9, 1, 0 and 2 count as {by_hand:.3f}"
    assert np.isclose(effective_tokens(masses * 5), by_hand), "the strength of a feature must not matter"
    unit = int(np.flatnonzero(kind == largest)[0])
    places, values = features.of(unit)
    spread = np.bincount(contexts.ids.ravel()[places], weights=values, minlength=len(pieces))
    assert np.isclose(effective_tokens(spread), 2 ** profile.entropy[unit]), "a real feature counts otherwise"


check_tokens(effective_tokens)

# %% [markdown]
# ````{solution-start} ex-glance-tokens
# :class: dropdown
# ````


# %%
def effective_tokens(masses):
    shares = masses[masses > 0] / masses.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


print(f"{effective_tokens(np.array([91.0] + [1.0] * 9)):.2f} tokens")
check_tokens(effective_tokens)

# %% [markdown]
# With 91 % on one token and 1 % on each of nine others, it counts as fewer than two. The number is also called
# perplexity. It forgives a thin tail, which the plain count of tokens would not.
#
# ````{solution-end}
# ````


# %% tags=["remove-cell", "wrong-answers"]
def plain_entropy(masses):
    shares = masses[masses > 0] / masses.sum()
    return float(-(shares * np.log2(shares)).sum())


def mixed_bases(masses):
    return float(np.exp(plain_entropy(masses)))


def inverse_simpson(masses):
    return float(1 / np.square(masses / masses.sum()).sum())


check_tokens.refuses(plain_entropy, because="three equal masses")
check_tokens.refuses(mixed_bases, because="three equal masses")
check_tokens.refuses(inverse_simpson, because="masses 9, 1, 0 and 2")

# %% [markdown]
# ```{exercise-start} Without leaving one out
# :label: ex-glance-coverage
# ```
# *Difficulty 2/5 · importance 4/5 · 20 minutes.* Coverage looks at the *other* occurrences of a token. How much would
# it matter to count the occurrence itself? Write `coverages(tokens, active)` for a short text `tokens` [n] and
# `active`, a bool [n] that says where a unit fires. Return two numbers, both means over the places where it fires: the
# share of **all** occurrences of that token on which it fires, and the share of the **other** occurrences, leaving out
# places whose token has no other. Then let a unit fire at random on 30 of 3,000 tokens drawn from a vocabulary of
# 2,000.
#
# ````{admonition} Hint 1
# :class: dropdown
# `np.bincount(tokens)` is how often each token occurs, `np.bincount(tokens[active])` on how many of these occurrences
# the unit fires. Index both with `tokens[active]`.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# The first is `hits / occurrences`, the second `(hits - 1) / (occurrences - 1)` where there are at least two
# occurrences.
# ````
# ```{exercise-end}
# ```


# %% tags=["stub"]
def coverages(tokens, active):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-glance-coverage")
def check_coverages(coverages):
    tokens = np.array([4, 4, 4, 4, 7, 7, 2])
    active = np.array([1, 1, 0, 0, 1, 0, 1], bool)
    found = coverages(tokens, active)
    assert np.shape(found) == (2,), "return two numbers"
    assert np.isclose(found[0], (0.5 + 0.5 + 0.5 + 1) / 4), "of all occurrences: 2 of 4, 2 of 4, 1 of 2 and 1 of 1"
    assert not np.isclose(found[1], (1 / 3 + 1 / 3) / 4), "token 2 has no other occurrence and must be left out"
    assert np.isclose(found[1], (1 / 3 + 1 / 3 + 0) / 3), "of the other occurrences: 1 of 3, 1 of 3 and 0 of 1"
    everywhere = coverages(tokens, np.ones(7, bool))
    assert np.allclose(everywhere, 1), "a unit that always fires covers everything, both ways"


check_coverages(coverages)

# %% [markdown]
# ````{solution-start} ex-glance-coverage
# :class: dropdown
# ````


# %%
def coverages(tokens, active):
    hits, occurrences = np.bincount(tokens[active])[tokens[active]], np.bincount(tokens)[tokens[active]]
    repeated = occurrences > 1
    return (hits / occurrences).mean(), ((hits - 1)[repeated] / (occurrences - 1)[repeated]).mean()


generator = np.random.default_rng(0)
made_up = generator.integers(0, 2000, 3000)
by_chance = np.zeros(3000, bool)
by_chance[generator.choice(3000, 30, replace=False)] = True
print(
    "counting itself {:.2f}, leaving it out {:.2f}; fires on {:.2f}".format(
        *coverages(made_up, by_chance), by_chance.mean()
    )
)
check_coverages(coverages)

# %% [markdown]
# A unit that knows nothing covers only its density. Counting the occurrence itself makes it look like a token feature,
# and the rarer its tokens, the more so. It is the same mistake as testing on the training data.
#
# ````{solution-end}
# ````


# %% tags=["remove-cell", "wrong-answers"]
def ones_with_zero(tokens, active):
    hits, occurrences = np.bincount(tokens[active])[tokens[active]], np.bincount(tokens)[tokens[active]]
    return (hits / occurrences).mean(), ((hits - 1) / np.maximum(occurrences - 1, 1)).mean()


def over_tokens(tokens, active):
    kept = np.unique(tokens[active])
    hits, occurrences = np.bincount(tokens[active], minlength=9)[kept], np.bincount(tokens, minlength=9)[kept]
    return (hits / occurrences).mean(), ((hits - 1)[occurrences > 1] / (occurrences - 1)[occurrences > 1]).mean()


check_coverages.refuses(ones_with_zero, because="must be left out")
check_coverages.refuses(over_tokens, because="of all occurrences")
check_coverages.refuses(lambda tokens, active: (active.mean(), active.mean()), because="of all occurrences")

# %% [markdown]
# ```{exercise-start} An interval by resampling
# :label: ex-glance-bootstrap
# ```
# *Difficulty 2/5 · importance 4/5 · 15 minutes.* Wilson's formula is one way. Write `bootstrap_interval(hits, n, draws,
# seed)`: draw `n` features with replacement from `n` features of which `hits` are of a kind, `draws` times, and return
# the 2.5th and the 97.5th percentile of the share. Compare both intervals for tokens in context, in A/1 and in
# random/1.
#
# ````{admonition} Hint 1
# :class: dropdown
# The number of hits among `n` draws with replacement has a binomial distribution. `numpy`'s generators draw from it.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# `np.random.default_rng(seed).binomial(n, hits / n, draws) / n`, and then `np.percentile`.
# ````
# ```{exercise-end}
# ```


# %% tags=["stub"]
def bootstrap_interval(hits, n, draws, seed):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-glance-bootstrap")
def check_bootstrap(bootstrap_interval):
    low, high = bootstrap_interval(300, 1000, 4000, 0)
    assert 0 <= low < high <= 1, "return the lower and the upper end, as shares"
    half = 1.96 * np.sqrt(0.3 * 0.7 / 1000)
    assert high - low < 2.6 * half, "this interval is too wide: draw as many features as there are"
    assert abs((high - low) / 2 - half) < 0.1 * half, (
        "the interval is not as wide as it would be with 2.5 % on either side"
    )
    assert abs((high + low) / 2 - 0.3) < 0.005, "the interval should lie around the share"
    assert tuple(bootstrap_interval(0, 50, 200, 1)) == (0, 0), "with no hit there is nothing else to draw"
    low, high = bootstrap_interval(1, 20, 4000, 2)
    assert low == 0 and abs(high - 0.15) < 0.001, "of 1 hit in 20, draws have from 0 to 3 hits: draw, do not compute"


check_bootstrap(bootstrap_interval)

# %% [markdown]
# ````{solution-start} ex-glance-bootstrap
# :class: dropdown
# ````


# %%
def bootstrap_interval(hits, n, draws, seed):
    shares = np.random.default_rng(seed).binomial(n, hits / n, draws) / n
    return tuple(np.percentile(shares, [2.5, 97.5]))


for name in ("A/1", "random/1"):
    hits = int((kind_of[name] == TOKEN_IN_CONTEXT).sum())
    resampled = bootstrap_interval(hits, sizes[name], 4000, 0)
    written = [f"{low:.2%} to {high:.2%}" for low, high in (resampled, wilson_interval(hits, sizes[name]))]
    print(f"{name:<8} resampled {written[0]}, Wilson {written[1]}")
check_bootstrap(bootstrap_interval)

# %% [markdown]
# They agree where the share is not small. At zero hits the bootstrap has no width at all: it cannot draw what it has
# not seen. Wilson's formula says how many there could still be.
#
# ````{solution-end}
# ````


# %% tags=["remove-cell", "wrong-answers"]
def too_few(hits, n, draws, seed):
    shares = np.random.default_rng(seed).binomial(n // 10, hits / n, draws) / (n // 10)
    return tuple(np.percentile(shares, [2.5, 97.5]))


def two_thirds(hits, n, draws, seed):
    shares = np.random.default_rng(seed).binomial(n, hits / n, draws) / n
    return tuple(np.percentile(shares, [16, 84]))


def by_formula(hits, n, draws, seed):
    half = 1.96 * np.sqrt(hits / n * (1 - hits / n) / n)
    return hits / n - half, hits / n + half


def counts_not_shares(hits, n, draws, seed):
    return tuple(np.percentile(np.random.default_rng(seed).binomial(n, hits / n, draws), [2.5, 97.5]))


check_bootstrap.refuses(too_few, because="too wide")
check_bootstrap.refuses(two_thirds, because="not as wide")
check_bootstrap.refuses(by_formula, because="do not compute")
check_bootstrap.refuses(lambda hits, n, draws, seed: wilson_interval(hits, n), because="nothing else")
check_bootstrap.refuses(counts_not_shares, because="as shares")

# %% [markdown]
# ```{exercise-start} Sharper at what price?
# :label: ex-glance-price
# ```
# *Difficulty 2/5 · importance 4/5 · 15 minutes.* Write `unexplained(sae, x)`: the squared distance between the
# activations `x` [n, 512] and their reconstruction, summed, divided by that between `x` and its mean. Compare the two
# runs of the last section, `run[steps]` and `repeated[steps]`, on `judged_x`, which neither has seen. Is the sharper
# one also the better one?
#
# ````{admonition} Hint 1
# :class: dropdown
# `sae(x).reconstruction` is the reconstruction.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# The mean is one vector of 512 numbers, `x.mean(0)`, and not a single number.
# ````
# ```{exercise-end}
# ```


# %% tags=["stub"]
def unexplained(sae, x):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
class Constant(torch.nn.Module):
    """Gives back what it is told to."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x):
        return Output(self.answer(x), None)


@check("ex-glance-price")
def check_unexplained(unexplained):
    x = torch.randn(200, 512, generator=torch.Generator().manual_seed(0)) + torch.arange(512.0) / 100

    def of(answer):
        return float(unexplained(Constant(answer), x))

    assert abs(of(lambda x: x)) < 1e-6, "a perfect reconstruction leaves nothing unexplained"
    mean = of(lambda x: x.mean(0).expand_as(x))
    assert mean < 1.2, "give the mean as a vector, one number for each neuron"
    assert abs(mean - 1) < 1e-4, "the mean as the reconstruction leaves exactly 1"
    halfway = of(lambda x: (x + x.mean(0)) / 2)
    assert abs(halfway - 0.25) < 1e-4, "half of the distance is a quarter of the squared distance"
    x = x * torch.linspace(1, 3, 200)[:, None]
    late = torch.arange(200)[:, None] >= 100
    missed = (x - x.mean(0)).square()[100:].sum() / (x - x.mean(0)).square().sum()
    some = of(lambda x: torch.where(late, x.mean(0), x))
    assert abs(some - missed) < 1e-4, "sum over all examples first, then divide"


check_unexplained(unexplained)

# %% [markdown]
# ````{solution-start} ex-glance-price
# :class: dropdown
# ````


# %%
def unexplained(sae, x):
    with torch.no_grad():
        return ((sae(x).reconstruction - x).square().sum() / (x - x.mean(0)).square().sum()).item()


for name, found in (("all data, once", run), ("a tenth, repeated", repeated)):
    print(f"{name:<18} {unexplained(found[steps], judged_x):.1%} unexplained")
check_unexplained(unexplained)

# %% [markdown]
# If the run on fresh data leaves less unexplained *and* has sharper features, more data helped without a price. If it
# were sharper and explained less, the two runs would only stand at different points of one trade-off.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
check_unexplained.refuses(
    lambda sae, x: ((sae(x).reconstruction - x).square().sum() / x.square().sum()).item(), because="leaves exactly 1"
)
check_unexplained.refuses(
    lambda sae, x: ((sae(x).reconstruction - x).norm() / (x - x.mean(0)).norm()).item(), because="a quarter"
)
check_unexplained.refuses(
    lambda sae, x: ((sae(x).reconstruction - x).square().sum(1) / (x - x.mean(0)).square().sum(1)).mean().item(),
    because="then divide",
)
check_unexplained.refuses(
    lambda sae, x: 1 - ((sae(x).reconstruction - x).square().sum() / (x - x.mean(0)).square().sum()).item(),
    because="nothing unexplained",
)

# %% [markdown]
# ```{exercise-start} An action feature of your own
# :label: ex-glance-action
# ```
# *Difficulty 3/5 · importance 4/5 · 30 minutes.* Open-ended. Our rule for action features knows single next tokens
# only. Find a feature of A/1 whose next tokens are of a *class* that you can write as a regular expression:
# punctuation, digits, capital letters, line ends. Set `feature` and `pattern`. It should hold for at least half of its
# activation that the next token matches, at least three times as often as in the text at large. At least five different
# tokens of the text must match. Less than half of the feature's activation may be on one token, and it must fire on at
# least 50 tokens. Then read its examples. Is the class what it is about?
#
# ````{admonition} Hint 1
# :class: dropdown
# `matches = np.array([bool(re.search(pattern, piece)) for piece in pieces])` with a pattern of bytes, `rb"^ ?[0-9]"`,
# marks tokens. `matches[contexts.ids]` marks the text. Shift it by one column to have what comes next.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# For all features at once: `np.bincount(owner, weights=features.values * next_matches[features.places])`, divided by
# the same without the marks, where `owner` is `np.repeat(np.arange(features.n_features), features.counts)`. Leave out
# the features that are mostly on one token, and take the largest.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
feature = None
pattern = None


# %% tags=["check", "hide-input"]
@check("ex-glance-action")
def check_action(feature, pattern):
    assert isinstance(pattern, bytes), "the pattern is one of bytes, such as rb'[0-9]'"
    assert 0 <= feature < features.n_features, "the feature is the number of one of A/1"
    matches = np.array([bool(re.search(pattern, piece)) for piece in pieces])
    common = matches[contexts.ids[:, 1:]].mean()
    n_matching = len(np.unique(contexts.ids[:, 1:][matches[contexts.ids[:, 1:]]]))
    assert n_matching >= 5, f"a class has at least five tokens, and {n_matching} of the text match"
    places, values = features.of(feature)
    n_ctx = contexts.ids.shape[1]
    inside = places % n_ctx + 1 < n_ctx
    follows = matches[contexts.ids.ravel()[places[inside] + 1]]
    assert inside.sum() >= 50, f"it fires on {inside.sum()} tokens, and at least 50 are asked for"
    assert profile.top_share[feature] < 0.5, "half of its activation or more is on one token: name it by that token"
    found = np.average(follows, weights=values[inside])
    assert found >= 0.5, f"the next token matches for {found:.0%} of its activation, and that is less than half"
    assert found >= 3 * common, (
        f"the next token matches for {found:.0%}, but in the text at large for {common:.0%}, too"
    )


check_action(feature, pattern)

# %% [markdown]
# ````{solution-start} ex-glance-action
# :class: dropdown
# ````

# %%
n_ctx = contexts.ids.shape[1]
owners = np.repeat(np.arange(features.n_features), features.counts)
inside = features.places % n_ctx + 1 < n_ctx
mass = np.bincount(owners[inside], weights=features.values[inside], minlength=features.n_features)
allowed = (profile.top_share < 0.5) & (np.bincount(owners[inside], minlength=features.n_features) >= 50)
best = []
for tried in (rb"^ ?[0-9]", rb"^ ?[A-Z]", rb"^[ \n]*\n", rb"^ ?[.,;:!?]", rb"^ ?[()\[\]{}<>]", rb"^[^\x00-\x7f]"):
    matches = np.array([bool(re.search(tried, piece)) for piece in pieces])
    common = matches[contexts.ids[:, 1:]].mean()
    follows = matches[contexts.ids.ravel()[features.places[inside] + 1]]
    hit = np.bincount(owners[inside], weights=features.values[inside] * follows, minlength=features.n_features)
    shares = np.where(allowed, hit / np.maximum(mass, 1e-9), 0)
    leader = int(shares.argmax())
    best.append((shares[leader] if shares[leader] >= 3 * common else 0, leader, tried))
    print(f"{tried.decode():<18} A/1/{leader}: {shares[leader]:.0%} of its activation, {common:.0%} of the text")
_, feature, pattern = max(best)
print("fires on", favourites(features, feature), "| before", favourites(features, feature, offset=1))
check_action(feature, pattern)

# %% [markdown]
# The best of thousands of features always looks like something. A fair test would find the feature on one half of the
# text and measure it on the other (`evidence.between`), and look at what its logit weights promote.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
check_action.refuses(feature, rb"", because="in the text at large")
check_action.refuses(
    int(np.argmax(profile.top_share * (features.counts >= 60))), pattern, because="name it by that token"
)
check_action.refuses(feature, rb"^ the$", because="a class has")
check_action.refuses(feature, r"[0-9]", because="one of bytes")
