# ---
# jupytext:
#   formats: py:percent
# ---

# %% [markdown]
# # One layer, many features
#
# A language model computes with neurons, and most of its neurons make no sense on their own. One fires on Korean text,
# on citations and on web requests; the next on four other things. In 2023, *Towards Monosemanticity*
# {cite}`bricken2023monosemanticity` took a small model apart with a **sparse autoencoder** and found thousands of
# directions, most of which a person could make sense of.
#
# This book repeats that work from the beginning, on real text, with code that you can run and change. Every number
# below was computed when this page was built. Where our result differs from the paper's, the book says so, and
# {doc}`one table <claims>` collects every claim with its outcome.
#
# ## The idea in one figure
#
# {numref}`fig-map` shows a one-layer model twice: through its neurons, and through the features of a dictionary that
# was trained on these same neurons. Each dot asks: *if all kinds of text were equally common, what share of this unit's
# activation would fall on one of them?* High dots live on one kind. Low dots respond to a mixture.

# %% tags=["hide-input"]
#| label: fig-map
#| caption: >-
#|   Every unit of one layer by how often it fires and by how much of its activation, counted per token of each kind,
#|   falls on one kind of text. Dotted line: a unit that ignores kinds. Switch between neurons and features; point at a
#|   dot for the tokens it fires on.
import numpy as np
import plotly.graph_objects as go

from sae_core import chapter, load_dictionary, load_model, plots
from sae_core.evidence import Evidence, feature_evidence, neuron_evidence
from sae_core.runs import held_out
from sae_core.tokens import token_bytes

model = load_model("A")
dictionary = load_dictionary("A/1")
contexts, text = held_out(model)
features = feature_evidence(model, dictionary, contexts.head(chapter.size(quick=4000, full=len(contexts.ids))))
neurons = neuron_evidence(model, contexts.head(400))
tokens = token_bytes(model.tokenizer)


def main_slice(evidence: Evidence) -> tuple[np.ndarray, np.ndarray]:
    """For each unit: the slice with most of its activation per token of the slice, and that slice's share of the sum.

    Slices differ in size. Counted per token, a unit that ignores the kind of text has the same share everywhere.
    """
    slice_of_place = evidence.contexts.slices.ravel()
    n_slices = len(evidence.contexts.slice_names)
    unit = np.repeat(np.arange(evidence.n_features), evidence.counts)
    cell = unit * n_slices + slice_of_place[evidence.places]
    mass = np.bincount(cell, weights=evidence.values, minlength=evidence.n_features * n_slices)
    mass = mass.reshape(-1, n_slices) / np.maximum(np.bincount(slice_of_place, minlength=n_slices), 1)
    share = mass / np.maximum(mass.sum(1, keepdims=True), 1e-12)
    return share.argmax(1), share.max(1)


def favourite_tokens(evidence: Evidence, unit: int) -> str:
    """The tokens with most of a unit's activation, to show beside the mouse."""
    places, values = evidence.of(unit)
    mass = np.bincount(evidence.contexts.ids.ravel()[places], weights=values, minlength=len(tokens))
    best = [plots.visible(tokens[token]) for token in np.argsort(-mass)[:5] if mass[token] > 0]
    return plots.escape(" · ".join(best))


def dots(evidence: Evidence, kind: str, least_tokens: int, size: float) -> list[go.Scatter]:
    slices, share = main_slice(evidence)
    seen = evidence.counts >= least_tokens
    traces = []
    for rank, index in enumerate(shown):
        chosen = np.flatnonzero(seen & (slices == index if index >= 0 else ~np.isin(slices, shown)))
        traces.append(
            go.Scatter(
                x=np.log10(evidence.density[chosen]).round(3),
                y=share[chosen].round(3),
                mode="markers",
                name=evidence.contexts.slice_names[index] if index >= 0 else "other",
                marker={"size": size, "color": plots.PALETTE[rank], "opacity": 0.75},
                text=[f"{kind} {unit}: {favourite_tokens(evidence, unit)}" for unit in chosen],
                hovertemplate="%{text}<br>%{y:.0%} on one kind of text<extra></extra>",
            )
        )
    return traces


# The seven slices that most features belong to get a colour each; the others share one.
popular = np.bincount(main_slice(features)[0], minlength=len(contexts.slice_names))
shown = [*np.argsort(-popular)[:7].tolist(), -1]

least = 20  # a unit that fired on fewer tokens has no measurable share
neuron_dots, feature_dots = dots(neurons, "neuron", least, 7), dots(features, "feature", least, 4)
figure = go.Figure([*feature_dots, *neuron_dots])
figure.update_traces(visible=False, selector=lambda trace: trace in figure.data[len(feature_dots) :])
buttons = [
    {
        "label": label,
        "method": "restyle",
        "args": [{"visible": [show_features] * len(feature_dots) + [show_neurons] * len(neuron_dots)}],
    }
    for label, show_features, show_neurons in (
        ("features", True, False),
        ("neurons", False, True),
    )
]
decades = list(range(-6, 1))
rarest = float(np.log10(least / features.n_tokens))
figure.update_xaxes(
    title="share of tokens it fires on",
    range=[rarest - 0.1, 0.05],
    tickvals=decades,
    ticktext=[f"10<sup>{d}</sup>" for d in decades],
)
figure.update_yaxes(title="on one kind of text", tickformat=".0%", range=[0, 1.03])
n_kinds = len(np.unique(neurons.contexts.slices[:, 1:]))
figure.add_hline(1 / n_kinds, line={"dash": "dot", "width": 1, "color": plots.PALETTE[7]})

_, feature_share = main_slice(features)
_, neuron_share = main_slice(neurons)
feature_median = float(np.median(feature_share[features.counts >= least]))
neuron_median = float(np.median(neuron_share[neurons.counts >= least]))
chapter.number("features", dictionary.d_sae, ",")
chapter.number("neurons", dictionary.d_in)
chapter.number("feature-median", feature_median, ".0%")
chapter.number("neuron-median", neuron_median, ".0%")
chapter.number("tokens", features.n_tokens, ",")
chapter.number("neuron-tokens", neurons.n_tokens, ",")
chapter.number("kinds", n_kinds)
chapter.number("even-share", 1 / n_kinds, ".0%")
chapter.number("text", text)
plots.describe(
    figure,
    f"Scatter plot with a switch. By activation per token of a kind, the median of {dictionary.d_sae:,} features has "
    f"{feature_median:.0%} on a single kind of text, the median of {dictionary.d_in} neurons {neuron_median:.0%}, and "
    f"a unit that ignores kinds {1 / n_kinds:.0%}.",
    height=560,
    legend={"itemsizing": "constant"},
    updatemenus=[{"type": "buttons", "direction": "right", "buttons": buttons, "x": 0, "y": 1.1, "xanchor": "left"}],
)

# %% [markdown]
# Kinds of text differ in size, so we count activation per token of a kind. A unit that ignores kinds has one part in
# {glue:text}`kinds` on each, or {glue:text}`even-share`. By this measure the median neuron has
# {glue:text}`neuron-median` on its favourite kind, the median feature {glue:text}`feature-median`.
#
# Kinds are our yardstick here because the text comes labelled with them. It is the {glue:text}`text` text, and the
# model was trained on none of it: {glue:text}`tokens` tokens for the features, and the first
# {glue:text}`neuron-tokens` of these for the neurons. A feature can be about something finer than a kind of text, and
# this figure cannot see that. The chapters look closer.
#
# ## What you will do
#
# | Chapter | Question |
# |---|---|
# | {doc}`superposition/why` | When does it pay to store five things in two dimensions? |
# | {doc}`superposition/phase_changes` | Does superposition come gradually or in jumps, and can you compute where? |
# | {doc}`superposition/correlated` | Which features lie at right angles, which opposite, when are two stored as one? |
# | {doc}`superposition/privileged_bases` | When does a neuron stand for one thing, and can shared neurons compute? |
# | {doc}`superposition/computing` | Can a layer compute more functions than it has neurons, even with random weights? |
# | {doc}`superposition/recovering` | If the true features are known, does a sparse autoencoder find them? |
# | {doc}`model/one_layer_model` | What does a one-layer transformer know, and why do its neurons mix meanings? |
# | {doc}`dictionary/training` | How do you train a sparse autoencoder that follows the paper's recipe rule by rule? |
# | {doc}`dictionary/diagnose` | Ten runs broken on purpose: what do the curves show, and what do they hide? |
# | {doc}`dictionary/density` | How often should a feature fire, and what is wrong with those that almost never do? |
# | {doc}`dictionary/quality` | What do the usual numbers say about a dictionary, and what is each rule worth? |
# | {doc}`features/arabic` | How do you show that a feature means one thing? Five claims about a single feature. |
# | {doc}`features/hebrew` | Why does a feature miss half of its script, and who has the other half? |
# | {doc}`features/dna` | Where does a context end? A feature on text that lies just outside. |
# | {doc}`features/base64_roles` | What if one context has many features? Roles that can be decoded. |
# | {doc}`features/any_context` | Which features does the context of your choice have, and would chance do as well? |
# | {doc}`structure/glance` | What kinds of features are there, how many of each, and which does training find first? |
# | {doc}`structure/universality` | Does a model trained from another seed have the same features? |
# | {doc}`structure/splitting` | What becomes of a feature when the dictionary grows? |
# | {doc}`structure/automata` | How do features drive one another through the text that the model writes? |
# | {doc}`structure/interpretability` | Are features easier to predict than neurons, and what does a score measure? |
# | {doc}`structure/pareidolia` | What would all of this look like if nothing were there? |
# | {doc}`claims` | What replicated, what did not, and what has nobody tried? |
#
# ## How to read it
#
# - **Predict before you look.** Boxes ask for a guess. Make one. You remember what surprised you.
# - **Point at the figures.** They are drawn in your browser and need no server. Each also says in words what it shows.
# - **Trust the numbers, then check them.** No result is typed. {doc}`how_to_run` tells how to run a chapter on your
#   own machine, with your own text if you like. {doc}`differences` lists where our set-up and the paper's part.
# - **Do the exercises.** Each says how hard and how important it is. Solutions are folded.
#
# You need linear algebra and some PyTorch. You need no knowledge of interpretability: the {doc}`glossary` has every
# word, and {doc}`notation` every symbol.
#
# :::{admonition} Words
# :class: note
# A {term}`neuron` is one of the model's own units. A {term}`feature` is one element of a {term}`dictionary`: a
# direction in the space of neurons, with a number that says how strongly it is present. Many people now say
# {term}`latent` for this and keep *feature* for a property of the data. We follow the paper. `A/1/3450` is feature
# number `3450` of dictionary 1 of model A.
# :::
#
# ## Built on
#
# The work that is repeated here is Anthropic's {cite}`bricken2023monosemanticity`. The models open in Hugging Face
# transformers and TransformerLens, the dictionaries in SAELens. The pages are made by Jupyter Book and plotly. Code and
# weights are under the MIT licence, text and figures under
# [CC BY 4.0](https://creativecommons.org/licenses/by/4.0/): use them, change them, and name the source.
