# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Feature splitting: one feature becomes many
#
# How many features does a layer have? You choose that number yourself, when you choose the size of the dictionary. So
# what happens to the features when you choose a larger one? The paper found that they split. Its dictionary of 512
# features had one for base64, that of 4,096 had three, and larger ones had many {cite}`bricken2023monosemanticity`.
# This chapter follows features from size to size.
#
# ```{admonition} Before you start
# **You will be able to**
# - say when a feature of a large dictionary is a child of one in a small dictionary, and compute it;
# - show how much of a parent its children cover, and tell a split from a coincidence;
# - follow a family over several sizes, and say why it is not a tree;
# - read a map of features, and say what it cannot show.
#
# **You need** the chapters on {doc}`feature density </book/dictionary/density>` and on {doc}`base64
# </book/features/base64_roles>`.
#
# **Time**: 40 minutes to read, about a minute to run.
# ```

# %% tags=["hide-input"]
import re
import warnings

import numpy as np
import plotly.graph_objects as go
import torch

from sae_core import bundle, case_study, chapter, effects, load_dictionary, load_model, plots, proxies, splitting
from sae_core.autoencoder import dictionary_metadata
from sae_core.evidence import feature_evidence, neuron_evidence
from sae_core.exercises import check
from sae_core.kinds import KINDS, kinds, token_profile
from sae_core.runs import held_out
from sae_core.tokens import token_bytes
from sae_core.universality import shuffled

# %%
model = load_model("A")
there = [name for name in bundle.available("cfg.json") if re.fullmatch(r"A/\d+", name)]
saes = {name: load_dictionary(name) for name in there}
names = sorted(saes, key=lambda name: saes[name].d_sae)
small, large, largest = names[0], names[1], names[-1]

contexts, text = held_out(model)
contexts = contexts.head(chapter.size(quick=1000, full=8000))
evidence = {name: feature_evidence(model, saes[name], contexts) for name in names}

# %% tags=["hide-input"]
ids, pieces = contexts.ids, token_bytes(model.tokenizer)
common = effects.not_rare(ids, len(pieces))
half = len(ids) // 2
tops = {name: splitting.top_tokens(evidence[name], len(pieces)) for name in names}
per_kind = np.maximum(np.bincount(contexts.slices[:, 1:].ravel(), minlength=len(contexts.slice_names)), 1)


def kept_to(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Of each feature, the largest share of its activation on one kind of text, and which kind it is, [n_features].

    By activation per token of a kind, so that long kinds do not count for more.
    """
    found, n = evidence[name], len(per_kind)
    owner = np.repeat(np.arange(found.n_features), found.counts)
    cells = owner * n + contexts.slices.ravel()[found.places]
    mass = np.bincount(cells, found.values, found.n_features * n).reshape(-1, n) / per_kind
    return mass.max(1) / np.maximum(mass.sum(1), 1e-12), np.array(contexts.slice_names)[mass.argmax(1)]


def quoted(tokens) -> str:
    """Tokens in quotation marks, so that spaces can be seen; not escaped yet."""
    return " ".join(f"“{plots.visible(pieces[token])}”" for token in tokens)


def fires_on(name: str, feature: int, n: int = 4) -> str:
    tokens, shares = tops[name]
    return quoted(tokens[feature, :n][shares[feature, :n] > 0])


def promoted(name: str, features, n: int = 4) -> list[str]:
    """The tokens with the largest logit weights of each feature, rare tokens aside."""
    found = []
    for part in torch.as_tensor(np.asarray(features, int)).split(512):
        weights = effects.logit_weights(model, saes[name].W_dec[part].detach())
        weights[:, torch.from_numpy(~common)] = -torch.inf
        found += [quoted(best) for best in weights.topk(n).indices.tolist()]
    return found


# %% tags=["remove-cell"]
chapter.number("text", text)
chapter.number("tokens", evidence[small].n_tokens, ",")
chapter.number("small", small)
chapter.number("large", large)
chapter.number("largest", largest)
chapter.number("small-size", saes[small].d_sae, ",")


def listed(items) -> str:
    *most, last = items
    return ", ".join(most) + " and " + last


cards = {name: dictionary_metadata(name) for name in names}
chapter.number("sizes", listed(f"{name} with {saes[name].d_sae:,} features" for name in names))
chapter.number("missing", "" if len(names) > 2 else "The third size, A/2, is not there, so we make do with two.")
chapter.number("lambdas", listed(f"{cards[name]['recipe']['lam']:g}" for name in names))
chapter.number("trained", listed(f"{cards[name]['activations'] / 1e6:.0f}" for name in names))

# %% [markdown]
# We compare dictionaries of one model: {glue:text}`sizes`. {glue:text}`missing` One recipe made them. They differ in
# size, in the random numbers that they started from, and a little in λ ({glue:text}`lambdas`). They were not trained
# equally long: on {glue:text}`trained` million activations. All run on the same {glue:text}`tokens` tokens of the
# *{glue:text}`text`* text.
#
# ## base64, by size
#
# We begin where the paper began. In each dictionary the proxy of the {doc}`chapter on base64
# </book/features/base64_roles>` finds the feature that follows base64 best. Then we count: how many features have more
# than half of their activation inside runs of base64?
#
# ```{admonition} Predict
# :class: tip
# {glue:text}`large` has eight times as many features as {glue:text}`small`. Will it have fewer than eight times as many
# features for base64, eight times as many, or more?
# ```

# %%
exact = proxies.touches(ids, pieces, proxies.BASE64_RUN)
score = proxies.alphabet_proxy(ids, pieces, proxies.BASE64)
base64 = {name: case_study.best_feature(model, saes[name], evidence[name], score, name) for name in names}


def inside_share(name: str, marks: np.ndarray) -> np.ndarray:
    """Share of each feature's activation on marked tokens, [n_features]."""
    found = evidence[name]
    owner = np.repeat(np.arange(found.n_features), found.counts)
    total = np.bincount(owner, weights=found.values, minlength=found.n_features)
    marked = np.bincount(owner, weights=found.values * marks.ravel()[found.places], minlength=found.n_features)
    return marked / np.maximum(total, 1e-12)


of_base64 = {name: int((inside_share(name, exact) > 0.5).sum()) for name in names}

# %% tags=["hide-input"]
plots.table(
    ["dictionary", "features", "for base64", "their share", "found by the proxy", "which fires on", "inside runs"],
    [
        (
            name, f"{saes[name].d_sae:,}", of_base64[name], f"{of_base64[name] / saes[name].d_sae:.1%}",
            base64[name].name, fires_on(name, base64[name].index),
            f"{inside_share(name, exact)[base64[name].index]:.0%}",
        )
        for name in names
    ],
)  # fmt: skip

# %% tags=["remove-cell"]
n_base64 = int(exact.sum())
base64_counts = listed(f"{of_base64[name]:,} in {name}" for name in names)
chapter.number("base64-tokens", n_base64, ",")
chapter.number("base64-share", n_base64 / evidence[small].n_tokens, ".1%")
chapter.number("base64-counts", base64_counts)
their_share = {name: of_base64[name] / saes[name].d_sae for name in names}


def change(before: str, after: str) -> str:
    """In words, how the share of base64 features changes to the next dictionary, and whether that may be chance."""
    step = their_share[after] - their_share[before]
    noise = np.hypot(*(max(of_base64[name], 1) ** 0.5 / saes[name].d_sae for name in (before, after)))
    told = f"{'rises' if step > 0 else 'falls'} from {before} to {after} ({their_share[before]:.1%} to "
    told += f"{their_share[after]:.1%})"
    return told if abs(step) > 2 * noise else f"{told}, by no more than chance could do"


if n_base64 < case_study.ENOUGH:
    told = "That is too little base64 to say more; the families below show what this text has."
else:
    told = f"Their share of the dictionary {change(small, large)}."
    if largest != large:
        trained = {name: f"{cards[name]['activations'] / 1e6:.0f} million" for name in (large, largest)}
        told += (
            f" It {change(large, largest)}. But {largest} was trained on {trained[largest]} activations, "
            f"and {large} on {trained[large]}."
        )
chapter.number("base64-told", told)
positive = np.maximum(score, 0)
fit = evidence[large].correlations(positive)
best_fit, runner_up = np.argsort(-fit)[:2]
halves = [
    int(evidence[large].between(*part).correlations(positive[slice(*part)]).argmax())
    for part in ((0, half), (half, len(ids)))
]
chapter.number("base64-large", base64[large].name)
chapter.number("base64-fit", fit[best_fit], ".2f")
chapter.number("base64-second", f"{large}/{runner_up}")
chapter.number("base64-second-fit", fit[runner_up], ".2f")
chapter.number(
    "base64-halves",
    f"On the first half of ours alone, the rule chooses {large}/{halves[0]}, on the second {large}/{halves[1]}."
    if halves[0] != halves[1]
    else f"On either half of ours alone, the rule chooses {large}/{halves[0]}.",
)

# %% [markdown]
# The text has {glue:text}`base64-tokens` tokens of base64, {glue:text}`base64-share` of all. The features for them are
# {glue:text}`base64-counts`. {glue:text}`base64-told`
#
# The proxy's feature of {glue:text}`large` is {glue:text}`base64-large` here, with a correlation of
# {glue:text}`base64-fit`. The next is {glue:text}`base64-second` with {glue:text}`base64-second-fit`. Other chapters
# search other amounts of text by the same rule, and may find another feature. {glue:text}`base64-halves`
#
# But counting is not following. Which feature became which? We need a way to say that one feature is the child of
# another.
#
# ## When is one feature the child of another?
#
# The plain answer would be the cosine of their activations over the text. It fails exactly where it is needed. Take a
# parent that fires on 100 tokens, and ten children with ten of them each. Every child agrees with the parent wherever
# it fires. Yet over all tokens the cosine is only $\sqrt{1/10}$, or 0.32, because the parent fires on 90 tokens that
# this child has no part in.
#
# <!-- numbers: 0.32 (an example); 90 (an example) -->
#
# So the paper **masks**. It takes the cosine twice: over the tokens where one of the two fires, and over the tokens
# where the other fires. The larger value is the **masked cosine**:
#
# $$
# \max_{S \in \{f > 0,\; g > 0\}} \frac{\sum_{t \in S} f_t \, g_t}
# {\sqrt{\sum_{t \in S} f_t^2} \sqrt{\sum_{t \in S} g_t^2}}
# $$
#
# For the child above it is 1. An **edge** joins two features whose masked cosine is above 0.4. That is three products
# of sparse matrices, and takes seconds:

# %%
first = {name: evidence[name].between(0, half) for name in names}  # to find edges
second = {name: evidence[name].between(half, len(ids)) for name in names}  # to measure families
graphs = {
    name: splitting.masked_cosine_graph(first[name], first[larger])
    for name, larger in zip(names, names[1:], strict=False)
}
graph = graphs[small]

# %% [markdown]
# We find edges on the first half of the text and measure everything else on the second. The best of thousands of
# pairs look better where they were chosen.
#
# ```{admonition} Predict
# :class: tip
# Now shuffle the tokens under the larger dictionary. Each of its features fires as often and as strongly as before,
# but on tokens drawn at random. How many edges are left: none, a few, or as many as before?
# ```

# %% tags=["hide-input"]
#| label: fig-splitting-null
#| caption: >-
#|   Edges from {glue:text}`asked` features of {glue:text}`null-small` to {glue:text}`null-large`, by the threshold,
#|   with the real text and with shuffled tokens. Solid, pairs that share at least ten tokens. Dotted, all pairs.
below, above = names[-2:]
asked = np.random.default_rng(0).choice(saes[below].d_sae, min(512, saes[below].d_sae), replace=False)
found_edges = {}
for kind, other in (("real", first[above]), ("shuffled", shuffled(first[above]))):
    found = splitting.masked_cosine_graph(first[below], other, threshold=0.2, least=1, parents=asked)
    for least in (splitting.LEAST, 1):
        found_edges[kind, least] = found.masked[found.shared >= least]
thresholds = np.linspace(0.2, 0.95, 31)
figure = go.Figure()
for (kind, least), masked in found_edges.items():
    counted = (masked[None] > thresholds[:, None]).sum(1)
    figure.add_scatter(
        x=thresholds, y=np.where(counted > 0, counted, np.nan), mode="lines",
        name=kind if least > 1 else f"{kind}, all pairs",
        line={"color": plots.PALETTE[kind == "shuffled"], "dash": "solid" if least > 1 else "dot"},
    )  # fmt: skip
at_edge = {key: int((masked > splitting.EDGE).sum()) for key, masked in found_edges.items()}
real, null, real_all, null_all = (
    at_edge[kind, least] for least in (splitting.LEAST, 1) for kind in ("real", "shuffled")
)
figure.update_xaxes(title="threshold")
figure.update_yaxes(title="edges", type="log", exponentformat="power", dtick=1)
figure.add_vline(splitting.EDGE, line={"dash": "dash", "color": plots.PALETTE[7]}, annotation_text="the paper's")
plots.describe(
    figure,
    f"Falling curves on a logarithmic axis. At the threshold {splitting.EDGE} there are {real:,} edges, and {null:,} "
    f"with shuffled tokens. If all pairs count, there are {real_all:,}, and {null_all:,} with shuffled tokens.",
)

# %% tags=["remove-cell"]
chapter.number("asked", len(asked))
chapter.number("null-small", below)
chapter.number("null-large", above)
chapter.number("edges", real, ",")
chapter.number("edges-null", null, ",")
chapter.number("edges-all", real_all, ",")
chapter.number("edges-all-null", null_all, ",")
if null_all > 0.3 * real_all:
    told = "A graph like this would be chance to a large part"
elif null_all > 0.03 * real_all:
    told = "A good part of such a graph would be chance"
else:
    told = "Here that does little harm, as hardly any feature is so rare"
chapter.number("null-told", told)

# %% [markdown]
# ```{admonition} A trap: rare features are everybody's children
# :class: warning
# Suppose that a feature fires once, and that a second one happens to fire there, too. Over that one token their
# cosine is 1. With all pairs allowed, the real text has {glue:text}`edges-all` edges, and shuffled tokens have
# {glue:text}`edges-all-null`. {glue:text}`null-told`.
# ```
#
# The paper leaves ultralow features out, and its text is far longer than ours. We ask that a pair **shares at least
# ten tokens**. Then {glue:text}`edges` edges remain, and {glue:text}`edges-null` if tokens are shuffled. You do not
# need to know such a rule in advance. You do need the shuffled line in the figure.
#
# ## Do the children make up the parent?
#
# An edge says that two features meet. A split says more: the children *share out* what the parent did. Two shares
# tell that.
#
# - **Cover**: the share of the parent's activation on tokens where at least one child fires. This asks whether the
#   parent is all there.
# - **Inside**: the share of a child's activation on the parent's tokens. This asks whether the child belongs there.
#
# The second is ours. Without it, a child that fires everywhere would cover every parent. From here on, children are
# those with an edge and with at least half of their activation inside.
#
# ```{admonition} Predict
# :class: tip
# Of {glue:text}`small-size` parents, how many have two or more children that cover nine tenths of them: a handful, a
# third, or nearly all? And how often does one child do it alone?
# ```

# %%
INSIDE, COVER = 0.5, 0.9
larger_than = dict(zip(names, names[1:], strict=False))


def family(parent: int, name: str = small) -> splitting.Family:
    """A feature's family in the next larger dictionary, measured on the second half of the text."""
    found = splitting.family(second[name], second[larger_than[name]], parent, graphs[name].children_of(parent))
    return found.among(found.inside >= INSIDE)


families = [family(parent) for parent in np.flatnonzero(second[small].counts)]
covers = np.array([found.cover for found in families])
alone = np.array([found.shares.max(initial=0) for found in families])
several = np.array([len(found.children) >= 2 for found in families])
shared_out = several & (covers >= COVER)

moved = shuffled(second[large])  # the same children on random tokens
by_chance = np.array([
    splitting.family(second[small], moved, found.parent, found.children).cover for found in families
])  # fmt: skip

# %% tags=["hide-input"]
#| label: fig-splitting-cover
#| caption: >-
#|   Cover of each feature of {glue:text}`small` by its children in {glue:text}`large`: by all of them together, by the
#|   best child alone, and by the same children when their tokens are shuffled. Measured on text that was not used to
#|   find the children. The dashed line is a cover of nine tenths.
bins = np.linspace(0, 1, 26)
figure = go.Figure()
series = {"all children": covers, "the best child alone": alone, "children shuffled": by_chance}
for colour, (name, values) in enumerate(series.items()):
    heights, _ = np.histogram(values, bins)
    figure.add_scatter(
        x=(bins[:-1] + bins[1:]) / 2, y=heights, name=name, mode="lines", fill="tozeroy",
        line={"color": plots.PALETTE[colour], "shape": "hvh"},
    )  # fmt: skip
figure.add_vline(COVER, line={"dash": "dash", "color": plots.PALETTE[7]})
figure.update_xaxes(title="cover of the parent", tickformat=".0%", range=[0, 1])
figure.update_yaxes(title="features")
plots.describe(
    figure,
    f"Three histograms. All children together cover a median of {np.median(covers):.0%} of their parent, the best "
    f"child alone {np.median(alone):.0%}, and all children shuffled {np.median(by_chance):.0%}. "
    f"{int(shared_out.sum())} of {len(families)} parents have two or more children and a cover of {COVER:.0%}.",
)

# %% tags=["remove-cell"]
token_share = tops[small][1][:, 0]
clean = [found for found, ok, top in zip(families, shared_out, alone, strict=True) if ok and top < COVER]
nameable = [found for found in clean if token_share[found.parent] > 0.5] or clean
nameable.sort(key=lambda found: (found.needed(COVER), -found.cover))
clearest = nameable[0] if nameable else families[int((covers * several).argmax())]
chapter.claim(
    "A30", where="structure/splitting#fig-splitting-cover", text=text, families=int(shared_out.sum()),
    children=len(clearest.children), cover=clearest.cover,
)  # fmt: skip
chapter.number("families", int(shared_out.sum()))
chapter.number("families-share", shared_out.mean(), ".0%")
chapter.number("parents", len(families))
chapter.number("one-child", int((alone >= COVER).sum()))
chapter.number("cover-median", np.median(covers), ".0%")
chapter.number("alone-median", np.median(alone), ".0%")
chapter.number("chance-families", int((several & (by_chance >= COVER)).sum()))
in_one = np.array([found.values[found.fires.sum(0) == 1].sum() / found.values.sum() for found in families])
chapter.number("in-one", np.median(in_one), ".0%")
chapter.number("in-several", np.median(covers - in_one), ".0%")
chapter.number("children-median", np.median([len(found.children) for found in families]), ".0f")
rarely = (alone >= COVER).mean() < 0.25
chapter.number("carried", "is not carried over as it is" if rarely else "may well be carried over as it is")
chapter.number(
    "overlap-told",
    "Children overlap: one may stand for the word, one for the topic, and one for what comes next, and all are right. "
    "The larger dictionary does not cut, it describes again, in more detail."
    if np.median(covers - in_one) > np.median(in_one)
    else "So most of what the children cover is cut into pieces indeed.",
)

# %% [markdown]
# {glue:text}`families` of {glue:text}`parents` features of {glue:text}`small` ({glue:text}`families-share`) have two or
# more children and a cover of at least nine tenths. With shuffled children it is {glue:text}`chance-families`. And
# {glue:text}`one-child` have a single child that would do. So the typical parent {glue:text}`carried`. It has
# {glue:text}`children-median` children. Together they cover {glue:text}`cover-median` of it, and the best one alone
# covers {glue:text}`alone-median`.
#
# But look closely at the word *split*. If the children cut the parent into pieces, each of its tokens would have one
# child. In the median family, {glue:text}`in-one` of the parent's activation is on tokens with exactly one child, and
# {glue:text}`in-several` on tokens with several. {glue:text}`overlap-told`
#
# The same numbers for every step that we have, medians over the parents:

# %% tags=["hide-input"]
rows = []
for name, larger in larger_than.items():
    fire = np.flatnonzero(second[name].counts)
    most = chapter.size(quick=512, full=4096)
    some = np.sort(np.random.default_rng(1).choice(fire, most, replace=False)) if len(fire) > most else fire
    found = families if name == small else [family(parent, name) for parent in some]
    children = np.array([len(each.children) for each in found])
    cover = np.array([each.cover for each in found])
    rows.append((
        f"{name} → {larger}", f"{len(found):,} of {saes[name].d_sae:,}", f"{np.median(children):.0f}",
        f"{np.median(cover):.0%}", f"{((children >= 2) & (cover >= COVER)).mean():.0%}",
        f"{np.mean([each.shares.max(initial=0) >= COVER for each in found]):.0%}",
    ))  # fmt: skip
plots.table(["step", "parents measured", "children", "cover", "two or more cover 90 %", "one child does"], rows)

# %% [markdown]
# How many children does it take? Add them one by one, each time the one that covers most of what is left.

# %% tags=["hide-input"]
#| label: fig-splitting-union
#| caption: >-
#|   Cover of a parent as its children in {glue:text}`large` are added, best first. For the clearest families that the
#|   code found, and for base64. The dashed line is a cover of nine tenths.
chosen = [clearest]
for found in nameable[1:]:
    mains = {tops[small][0][other.parent, 0] for other in chosen}
    if tops[small][0][found.parent, 0] not in mains and len(chosen) < 5:
        chosen.append(found)
of_runs = family(base64[small].index)
if n_base64 >= case_study.ENOUGH and len(of_runs.children) and of_runs.parent not in [f.parent for f in chosen]:
    chosen.insert(0, of_runs)


def title(found: splitting.Family) -> str:
    about = "base64" if found.parent == of_runs.parent else fires_on(small, found.parent, 2)
    return f"{small}/{found.parent} {about}"


figure = go.Figure()
for colour, found in enumerate(chosen):
    union = found.union[:20]
    figure.add_scatter(
        x=np.arange(1, len(union) + 1), y=union, name=plots.escape(title(found)), mode="lines+markers",
        line={"color": plots.PALETTE[colour]}, hovertemplate="%{x} children: %{y:.0%}",
    )  # fmt: skip
figure.add_hline(COVER, line={"dash": "dash", "color": plots.PALETTE[7]})
figure.update_xaxes(title="children")
figure.update_yaxes(title="cover", tickformat=".0%", range=[0, 1.02])
said = "; ".join(
    f"{title(found)} by {found.union[0]:.0%} with one child and {found.cover:.0%} with {len(found.children)}"
    for found in chosen
)
plots.describe(figure, f"Rising curves, one for each family. Covered are {said}.", height=480)

# %% tags=["remove-cell"]
chapter.number("clearest", f"{small}/{clearest.parent}")
chapter.number("clearest-tokens", fires_on(small, clearest.parent, 3))
chapter.number("clearest-children", len(clearest.children))
chapter.number("clearest-cover", clearest.cover, ".0%")


def reach(found: splitting.Family) -> str:
    needed = found.needed(COVER)
    return f"{needed} of them reach nine tenths" if needed else "all of them together do not reach nine tenths"


chapter.number("clearest-needed", reach(clearest))
chapter.number("runs", base64[small].name)
chapter.number("runs-children", len(of_runs.children))
chapter.number("runs-cover", of_runs.cover, ".0%")
chapter.number("runs-needed", reach(of_runs))

# %% [markdown]
# The clearest family is that of {glue:text}`clearest`, which fires on {glue:text}`clearest-tokens`:
# {glue:text}`clearest-children` children with a cover of {glue:text}`clearest-cover`, and {glue:text}`clearest-needed`.
# The base64 feature {glue:text}`runs` has {glue:text}`runs-children` children with a cover of {glue:text}`runs-cover`,
# and {glue:text}`runs-needed`.
#
# ## Follow a family
#
# Choose a family in {numref}`fig-splitting-families`. Its parent is on the left. In the middle are the children that
# cover most of it, and further right their own children, if there is a third dictionary. Point at a feature to see
# what it fires on and which tokens it promotes. What do siblings share, and what tells them apart?

# %% tags=["hide-input"]
#| label: fig-splitting-families
#| caption: >-
#|   Families from size to size, chosen by the code. A line is an edge; a dot is larger the more of its parent's
#|   activation it covers. Beside a dot stand the token that it fires on most and, after the arrow, the one that it
#|   promotes most.
SHOWN = (8, 2)  # children of the parent, and of each child


def tree(found: splitting.Family):
    """Features by column, [(name, feature, share of its parent)], and edges between (column, row) pairs."""
    columns, lines = [[(small, found.parent, 1.0)]], []
    best = found.order[: SHOWN[0]]
    columns.append([(large, int(found.children[row]), float(found.shares[row])) for row in best])
    lines += [((0, 0), (1, row)) for row in range(len(best))]
    if len(names) > 2:
        column, at = [], {}
        for _, child, _ in columns[1]:
            if not second[large].counts[child]:
                continue
            below = family(child, large)
            for index in below.order[: SHOWN[1]]:
                grandchild = int(below.children[index])
                if grandchild not in at:
                    at[grandchild] = len(column)
                    column.append((names[2], grandchild, float(below.shares[index])))
        for row, (_, child, _) in enumerate(columns[1]):
            known = set(graphs[large].children_of(child).tolist())
            lines += [((1, row), (2, place)) for grandchild, place in at.items() if grandchild in known]
        columns.append(column)
    return columns, lines


def height_of(row: int, n: int) -> float:
    return 0.5 - (row + 0.5) / n


figure = go.Figure()
for index, found in enumerate(chosen):
    columns, lines = tree(found)
    x, y, labels, hovers, sizes = [], [], [], [], []
    for column, members in enumerate(columns):
        features = [feature for _, feature, _ in members]
        promotes, bests = (promoted(members[0][0], features, n) if members else [] for n in (4, 1))
        for row, ((name, feature, share), promote, best) in enumerate(zip(members, promotes, bests, strict=True)):
            x.append(column)
            y.append(height_of(row, len(members)))
            labels.append(plots.escape(f"{fires_on(name, feature, 1)} → {best}"))
            sizes.append(8 + 14 * share)
            hovers.append(
                f"{name}/{feature}<br>fires on {plots.escape(fires_on(name, feature))}<br>promotes "
                f"{plots.escape(promote)}" + (f"<br>covers {share:.0%} of its parent" if column else "")
            )
    line_x, line_y = [], []
    for (from_column, from_row), (to_column, to_row) in lines:
        line_x += [from_column, to_column, None]
        line_y += [height_of(from_row, len(columns[from_column])), height_of(to_row, len(columns[to_column])), None]
    figure.add_scatter(
        x=line_x, y=line_y, mode="lines", hoverinfo="skip", visible=index == 0,
        line={"color": plots.PALETTE[7], "width": 1}, opacity=0.5,
    )  # fmt: skip
    figure.add_scatter(
        x=x, y=y, mode="markers+text", text=labels, textposition="top center", visible=index == 0, hovertext=hovers,
        hovertemplate="%{hovertext}<extra></extra>", cliponaxis=False,
        marker={"size": sizes, "color": [plots.PALETTE[column] for column in x]},
    )  # fmt: skip
buttons = [
    {
        "label": plots.escape(title(found)),
        "method": "restyle",
        "args": [{"visible": [number // 2 == index for number in range(2 * len(chosen))]}],
    }
    for index, found in enumerate(chosen)
]
figure.update_xaxes(
    tickvals=list(range(len(names[:3]))), ticktext=names[:3], range=[-0.35, len(names[:3]) - 0.65], showgrid=False,
    fixedrange=True,
)  # fmt: skip
figure.update_yaxes(visible=False, fixedrange=True)
said = "; ".join(
    f"{title(found)} has children on "
    + ", ".join(fires_on(large, child, 2) for child in found.children[found.order[:4]])
    for found in chosen
)
plots.describe(
    figure,
    f"Families of features in columns, one for each dictionary, with a menu to choose one. {said}.",
    height=620,
    showlegend=False,
    updatemenus=[{"buttons": buttons, "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom"}],
)

# %% tags=["remove-cell"]
parents_per_child = np.bincount(np.concatenate([found.children for found in families]), minlength=saes[large].d_sae)
has_parent = parents_per_child > 0
fires_enough = first[large].counts >= 2 * splitting.LEAST
orphans = int((fires_enough & ~np.isin(np.arange(saes[large].d_sae), graph.children)).sum())
chapter.number("shown-families", len(chosen))
chapter.number("parents-median", np.median(parents_per_child[has_parent]), ".0f")
chapter.number("with-parent", int(has_parent.sum()), ",")
chapter.number("many-parents", (parents_per_child > 1).sum() / max(has_parent.sum(), 1), ".0%")
chapter.number("orphans", orphans)

# %% [markdown]
# ### Not a tree
#
# It is tempting to call this a family tree. It is none. Of the {glue:text}`with-parent` features of
# {glue:text}`large` that are somebody's child, {glue:text}`many-parents` have more than one parent. That is no accident
# of the threshold: at least half of a child's activation lies inside each of its parents. A small dictionary must
# describe a token by the few features that it has, so several of them meet on it. A larger one can afford a feature for
# just this meeting. In the paper, too, features split *and* merge.
#
# And {glue:text}`orphans` features of {glue:text}`large` fire often enough and have no edge to any feature of
# {glue:text}`small`. No feature there follows what they stand for: it was spread over others, or left in the error.
#
# ```{admonition} A trap: "the" true number of features
# :class: warning
# One size shows a few features for base64, another one dozens. Which is right? Both describe the same activations, at
# two resolutions. The count says how large a dictionary you chose. What can be right or wrong is a statement such as
# "where the parent fires, one of these children fires", and you have just tested it.
# ```
#
# ## The family of "the"
#
# One of the paper's large dictionaries has more than a hundred features mainly for the word *the*. A small one has
# *the* in mathematics; a larger one has *the* in machine learning, in algebra, and in the theory of gravitation. We
# count, by size, the features that have more of their activation on the token "` the`" than on any other.
#
# ```{admonition} Predict
# :class: tip
# All these features fire on the same word. What could tell them apart, and what could each be good for?
# ```

# %%
THE = model.to_ids(" the")[0, 1].item()
family_of_the = {name: np.flatnonzero((tops[name][0][:, 0] == THE) & (tops[name][1][:, 0] > 0)) for name in names}
counts = [len(family_of_the[name]) for name in names]
steps = np.diff(counts)
chapter.claim(
    "A31", where="structure/splitting#fig-splitting-the", text=text, smallest_count_step=int(steps.min()),
    largest_count=counts[-1], sizes=len(names),
)  # fmt: skip

# %% tags=["hide-input"]
#| label: fig-splitting-the
#| caption: >-
#|   Features whose top token is "the" with a space before it, by the size of the dictionary, and whether it has more
#|   than half of their activation.
most = [int((tops[name][1][family_of_the[name], 0] > 0.5).sum()) for name in names]
bars = {"more than half on it": most, "half or less": [n - m for n, m in zip(counts, most, strict=True)]}
figure = go.Figure()
for colour, (label, heights) in enumerate(bars.items()):
    figure.add_bar(
        x=[f"{name}<br>{saes[name].d_sae:,}" for name in names], y=heights, name=label, width=0.5,
        marker={"color": plots.PALETTE[colour]},
    )  # fmt: skip
figure.update_yaxes(title="features")
said = ", ".join(
    f"{name} has {n}, {m} of them in the lower part" for name, n, m in zip(names, counts, most, strict=True)
)
plots.describe(figure, f"Bars by dictionary. Features whose top token is “ the”: {said}.", barmode="stack")

# %% tags=["hide-input"]
PROMOTED = 20
of_the = family_of_the[largest]
the_places = np.flatnonzero((ids == THE)[:, :-1].ravel())  # with a token after them; places of ids[:, :-1]
next_tokens = ids[:, 1:].ravel()[the_places]
shares, favourite = kept_to(largest)
rows, rates = [], []
for feature in of_the:
    weights = effects.logit_weights(model, saes[largest].W_dec[[feature]].detach())[0].numpy()
    best = np.argsort(-np.where(common, weights, -np.inf))[:PROMOTED]
    announced = np.isin(next_tokens, best)  # is the token after this “ the” one that the feature promotes?
    here = evidence[largest].dense(int(feature))[:, :-1].ravel()[the_places] > 0
    rates.append((announced[here].mean(), announced[~here].mean()))
    rows.append((
        shares[feature], f"{largest}/{feature}", favourite[feature], f"{shares[feature]:.0%}",
        f"{rates[-1][0]:.0%}", f"{rates[-1][1]:.0%}", quoted(best[:6]),
    ))  # fmt: skip
rows = [row[1:] for row in sorted(rows, reverse=True)[:12]]
plots.table(["feature", "kind of text", "its share", "comes next", "elsewhere", "promotes"], rows)

# %% tags=["remove-cell"]
here, elsewhere = np.median(rates, axis=0)
better = sum(one > other for one, other in rates)
chapter.number("the-counts", listed(f"{n} in {name}" for name, n in zip(names, counts, strict=True)))
chapter.number("the-told", "It grows from size to size" if steps.min() > 0 else "It does not grow at each step")
chapter.number("the-listed", len(rows))
chapter.number("the-largest", counts[-1])
chapter.number("the-here", here, ".0%")
chapter.number("the-elsewhere", elsewhere, ".0%")
chapter.number("the-better", better)
chapter.number(
    "the-verdict",
    "So most of these features do more than mark a word: they announce what follows it where they are active."
    if here > 1.5 * elsewhere and better > 0.75 * len(rates)
    else "So by this measure they hardly differ in what they announce.",
)

# %% [markdown]
# Members of the family: {glue:text}`the-counts`. {glue:text}`the-told`. The table has the {glue:text}`the-listed`
# members of {glue:text}`largest` that keep most to one kind of text. The share is by activation per token, so that long
# kinds do not count for more.
#
# What is each good for? Take the twenty tokens that a feature promotes most, and look at what comes after "` the`".
# Where the feature is active, one of its twenty comes next in {glue:text}`the-here` of the cases, in the median
# over the family. At the other places with "` the`", the same twenty come in {glue:text}`the-elsewhere`. The first
# number is the larger one for {glue:text}`the-better` of {glue:text}`the-largest` features. {glue:text}`the-verdict`
#
# That may be why so common a word keeps splitting. The model is paid for what it predicts after *the*, and a proof and
# a contract go on differently. So it computes different activations there. A dictionary is paid for describing
# activations, and these are many.
#
# ## A map
#
# So far we compared what features *fire on*. A map compares what they *write*: features lie close if their decoder rows
# have a high cosine. UMAP lays such neighbourhoods out in the plane. A second UMAP, in ten dimensions, is for HDBSCAN,
# which finds clusters there. The settings are the paper's. Neither is told which dictionary a feature is from, nor on
# what it fires.
#
# ```{admonition} Predict
# :class: tip
# Will each dictionary be a continent of its own, or will parents lie among their children?
# ```

# %%
import umap
from sklearn.cluster import HDBSCAN
from sklearn.neighbors import NearestNeighbors

NEIGHBOURS = 15
on_map = names[: chapter.size(quick=2, full=3)]  # the paper has both maps
rows_of = torch.cat([saes[name].W_dec.detach() for name in on_map]).numpy()
distances, nearest = NearestNeighbors(n_neighbors=NEIGHBOURS, metric="cosine").fit(rows_of).kneighbors(rows_of)


def layout(n_components: int, min_dist: float) -> np.ndarray:
    """UMAP of the decoder rows, [features, n_components]; the neighbours are found once for both maps."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="precomputed_knn")  # given neighbours cannot place new points
        return umap.UMAP(
            n_neighbors=NEIGHBOURS, n_components=n_components, min_dist=min_dist, metric="cosine", random_state=0,
            n_jobs=1, precomputed_knn=(nearest.astype(np.int32), distances.astype(np.float32)),
        ).fit_transform(rows_of)  # fmt: skip


plane = layout(2, 0.05 if len(on_map) == 2 else 0.01)
cluster = HDBSCAN(min_cluster_size=3, copy=True).fit_predict(layout(10, 0.1))

# %% [markdown]
# A map needs labels. Nobody has read all these features, so code writes them: the {doc}`kind <glance>` of the feature,
# and the kind of text that has at least half of its activation, if there is one.

# %% tags=["hide-input"]
#| label: fig-splitting-map
#| caption: >-
#|   Decoder rows of several dictionaries on one map. Diamonds are features of {glue:text}`small`. Colours tell
#|   neighbouring clusters apart and repeat; features in no cluster are pale. Type a token, a label, a number or a
#|   cluster into the box, say `“ the”` or `single token`, to find features.
starts = np.cumsum([0, *(saes[name].d_sae for name in on_map)])


def described(name: str) -> list[tuple[str, str, str, str]]:
    """Of each feature of a dictionary on the map: name and cluster, label, tokens it fires on, tokens it promotes."""
    own = cluster[starts[on_map.index(name)] :]
    kind = kinds(token_profile(evidence[name], len(pieces)))
    shares, favourite = kept_to(name)
    return [
        (
            f"{name}/{feature} · " + (f"cluster {own[feature]}" if own[feature] >= 0 else "no cluster"),
            (KINDS[kind[feature]] if kind[feature] >= 0 else "seldom active")
            + (f", mostly {favourite[feature]}" if shares[feature] >= 0.5 else ", several kinds of text"),
            f"fires on {fires_on(name, feature, 3)}",
            f"promotes {promote}",
        )
        for feature, promote in enumerate(promoted(name, range(saes[name].d_sae), 3))
    ]


descriptions = {name: described(name) for name in on_map}
figure = go.Figure()
for order, name in reversed(list(enumerate(on_map))):
    span = slice(starts[order], starts[order + 1])
    own = cluster[span]
    hovers = ["<br>".join(map(plots.escape, each)) for each in descriptions[name]]
    figure.add_scatter(
        x=plane[span, 0].round(2), y=plane[span, 1].round(2), mode="markers", name=name, text=hovers,
        hovertemplate="%{text}<extra></extra>",
        marker={
            "size": 8 if order == 0 else 5,
            "symbol": "diamond" if order == 0 else "circle",
            "color": [plots.PALETTE[number % 7] if number >= 0 else plots.PALETTE[7] for number in own],
            "opacity": np.where(own >= 0, 0.8, 0.35),
        },
        selected={"marker": {"opacity": 1, "size": 12}},
        unselected={"marker": {"opacity": 0.07}},
    )  # fmt: skip
figure.update_xaxes(showticklabels=False, ticks="", showgrid=False)
figure.update_yaxes(showticklabels=False, ticks="", showgrid=False)

n_clusters = int(cluster.max() + 1)
origin = np.repeat(np.arange(len(on_map)), np.diff(starts))
of_both = sum(len(set(origin[cluster == number].tolist())) > 1 for number in range(n_clusters))
plots.describe(
    figure,
    f"Scatter plot of {len(rows_of):,} features, with a box to search for tokens and labels. The points form many "
    f"small clumps. There are {n_clusters} clusters, {of_both} of them with features of more than one dictionary.",
    height=640,
    legend={"itemsizing": "constant"},
)
figure.update_layout(meta={**figure.layout.meta, "search": "Find features by token, label, number or cluster"})

# %% [markdown]
# In a notebook, where the box is missing, a function does the same:


# %%
def find(wanted: str, n: int = 8):
    """A table of the first features on the map whose description holds a text."""
    every = [each for name in on_map for each in descriptions[name]]
    found = [each for each in every if wanted.lower() in " · ".join(each).lower()]
    print(f"{len(found):,} of {len(every):,} features")
    return plots.table(["feature", "label", "", ""], found[:n])


find("“ the”")

# %% tags=["remove-cell"]
decoder = saes[small].W_dec.detach() @ saes[large].W_dec.detach().T
inside_edges = np.array([(found.parent, child) for found in families for child in found.children])
child_cosine = decoder[inside_edges[:, 0], inside_edges[:, 1]].numpy()
same = (cluster[inside_edges[:, 0]] == cluster[starts[1] + inside_edges[:, 1]]) & (cluster[inside_edges[:, 0]] >= 0)
placed = cluster[: starts[1]] >= 0
sizes_of = np.bincount(cluster[starts[1] : starts[2]][cluster[starts[1] : starts[2]] >= 0], minlength=n_clusters)
pair_chance = float(np.mean(np.where(placed, sizes_of[cluster[: starts[1]]], 0)) / saes[large].d_sae)
best_child = [(found.parent, int(found.children[found.order[0]])) for found in families if len(found.children)]
with_best = np.mean([
    cluster[parent] == cluster[starts[1] + child] and cluster[parent] >= 0 for parent, child in best_child
])  # fmt: skip
chapter.number("clusters", n_clusters)
chapter.number("no-cluster", (cluster < 0).mean(), ".0%")
chapter.number("both", of_both)
chapter.number("placed", placed.mean(), ".0%")
chapter.number("child-cosine", np.median(child_cosine), ".2f")
chapter.number("pair-cosine", round(decoder.median().item(), 2) + 0.0, ".2f")  # no negative zero
chapter.number("same-cluster", same.mean(), ".1%")
chapter.number("best-same-cluster", with_best, ".0%")
chapter.number("same-chance", pair_chance, ".2%")
chapter.number("map-text", listed(on_map))
chapter.number("map-more", f"In the full mode, {names[2]} joins them." if len(on_map) < len(names) else "")
chapter.number(
    "map-told",
    "So the graph and the map tell one story, and they tell it in different words. A child may fire where its parent "
    "fires and write something else."
    if same.mean() > 3 * pair_chance and np.median(child_cosine) > 0.1
    else "So here the map does not say what the graph says.",
)

# %% [markdown]
# The map holds {glue:text}`map-text`. {glue:text}`map-more` HDBSCAN finds {glue:text}`clusters` clusters, and leaves
# {glue:text}`no-cluster` of the features out. {glue:text}`both` clusters have features of more than one dictionary.
#
# Do weights and activations agree? The median cosine of the decoder rows of a parent and its child is
# {glue:text}`child-cosine`, and of any two features {glue:text}`pair-cosine`. A parent is in one cluster with the child
# that covers most of it in {glue:text}`best-same-cluster` of the cases; for any child it is {glue:text}`same-cluster`,
# and for a random feature {glue:text}`same-chance`. {glue:text}`map-told`
#
# ```{admonition} A trap: reading distances off a map
# :class: warning
# UMAP keeps near neighbours near. It promises nothing about distances between islands, their sizes, or the empty
# space. Run it with another seed, and the islands are elsewhere. Use a map to find candidates, and test them in the
# original space. An exercise below measures how much of the neighbourhoods survives.
# ```
#
# ## What the paper found, what we found

# %% tags=["hide-input"]
plots.table(
    ["", "the paper", f"here, on {text}"],
    [
        ("features for base64, by size", "1, 3, and many", base64_counts),
        (
            "one feature becomes several", "shown on examples",
            f"{int(shared_out.sum())} of {len(families)} features with a cover of {COVER:.0%}",
        ),
        (
            "the graph", "splits and merges, no tree",
            f"{(parents_per_child > 1).sum() / max(has_parent.sum(), 1):.0%} of the children have several parents",
        ),
        (
            "features for “ the”, by size", "more than 100 in A/4",
            listed(f"{n} in {name}" for name, n in zip(names, counts, strict=True)),
        ),
        ("the map", "clusters on a map of two dictionaries", f"{of_both} of {n_clusters} clusters hold both"),
    ],
)  # fmt: skip

# %% [markdown]
# **How our set-up differs.** The paper's dictionaries go up to 131,072 features {cite}`bricken2023monosemanticity`,
# and its graph comes from far more text. On {glue:text}`tokens` tokens the rarest features fire too seldom to be
# anybody's child, so we ask for ten shared tokens where the paper leaves out ultralow features. Of our text,
# {glue:text}`base64-share` is base64, which may be more than in the paper's. See {doc}`/book/differences`.
#
# ```{admonition} Takeaways
# :class: note
# - The number of features is a choice. Describe how features of different sizes relate, and not how many there are.
# - A masked cosine finds children that a plain cosine misses. It also finds chance, until pairs have to share tokens.
# - A split is more than an edge: together the children must cover the parent, and each must lie inside it.
# - Features split and merge. The result is a graph.
# - A map is for finding. Test in the original space.
# ```
#
# ## Exercises
#
# ```{exercise-start} The masked cosine by hand
# :label: ex-splitting-cosine
# ```
# *Difficulty 2/5 · importance 5/5 · 15 minutes.* Write `masked_cosine(f, g)` for two arrays of activations `[tokens]`,
# as it is defined above. It is 0 where the two never fire together.
#
# ````{admonition} Hint 1
# :class: dropdown
# Write a function for the cosine over some tokens first. `f[where]` keeps the tokens where `where` is true.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# Call it with `where = f > 0` and with `where = g > 0`, and return the larger value.
# ````
# ```{exercise-end}
# ```


# %% tags=["stub"]
def masked_cosine(f, g):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-splitting-cosine")
def check_masked_cosine(masked_cosine):
    parent, child = np.zeros(300), np.zeros(300)
    parent[:100], child[:10] = 2.0, 1.0
    found = masked_cosine(parent.copy(), child.copy())
    assert not np.isclose(found, np.sqrt(0.1)), "that is the cosine over all tokens; mask the tokens first"
    assert np.isclose(found, 1), "a child that is a tenth of its parent has a masked cosine of 1"
    assert np.isclose(masked_cosine(child.copy(), parent.copy()), 1), "the order of the two must not matter"
    other = np.zeros(300)
    other[95:115] = 3.0  # five of its twenty tokens are the parent's
    found = masked_cosine(parent.copy(), other.copy())
    assert not np.isclose(found, 1), "the tokens where one of the two fires count, not only those where both do"
    assert not np.isclose(found, np.sqrt(0.05)), "of the two cosines, the larger one counts"
    assert np.isclose(found, 0.5), "five tokens of twenty shared: the larger cosine is 1/2"
    other = np.zeros(300)
    other[200:210] = 1.0
    nothing = masked_cosine(parent.copy(), other)
    assert np.isclose(np.nan_to_num(nothing, nan=-1), 0), "two features that never fire together have 0"
    draw = np.random.default_rng(0)
    f, g = np.maximum(draw.normal(size=(2, 400)), 0)
    right = max((f @ g) / np.sqrt((f[on] @ f[on]) * (g[on] @ g[on])) for on in (f > 0, g > 0))
    assert np.isclose(masked_cosine(f, g), right), "that is not the cosine over these tokens"


check_masked_cosine(masked_cosine)

# %% [markdown]
# ````{solution-start} ex-splitting-cosine
# :class: dropdown
# ````


# %%
def masked_cosine(f, g):
    def over(where):
        product = f[where] @ g[where]
        return product / np.sqrt((f[where] @ f[where]) * (g[where] @ g[where])) if product else 0.0

    return max(over(f > 0), over(g > 0))


best = clearest.children[clearest.order[0]]
f, g = (first[name].dense(index).ravel() for name, index in ((small, clearest.parent), (large, best)))
print(f"{small}/{clearest.parent} and {large}/{best}: {masked_cosine(f, g):.2f}, over all tokens ", end="")
print(f"{f @ g / np.sqrt((f @ f) * (g @ g)):.2f}")
check_masked_cosine(masked_cosine)

# %% [markdown]
# The product on top is the same in both masks, and over all tokens, too. Only the lengths below it change. So a masked
# cosine is never smaller than the plain one.
#
# ````{solution-end}
# ````


# %% tags=["remove-cell", "wrong-answers"]
def plain(f, g):
    return f @ g / np.sqrt((f @ f) * (g @ g))


def over_both(f, g):
    on = (f > 0) & (g > 0)
    return plain(f[on], g[on]) if on.any() else 0.0


check_masked_cosine.refuses(plain, because="mask the tokens first")
check_masked_cosine.refuses(over_both, because="not only those where both do")
check_masked_cosine.refuses(lambda f, g: plain(f[g > 0], g[g > 0]), because="order of the two")
check_masked_cosine.refuses(
    lambda f, g: (plain(f[g > 0], g[g > 0]) + plain(f[f > 0], g[f > 0])) / 2, because="masked cosine of 1"
)

# %% [markdown]
# ```{exercise-start} An edge by chance
# :label: ex-splitting-chance
# ```
# *Difficulty 3/5 · importance 4/5 · 15 minutes.* Two features have nothing to do with each other. One fires on the
# share `p` of the tokens, the other on the share `q`, each with an activation of 1 where it fires. Write
# `expected(p, q)`: their masked cosine on a very long text. How often does a feature have to fire before chance alone
# draws an edge?
#
# ````{admonition} Hint 1
# :class: dropdown
# Of $N$ tokens, $N p q$ have both. What are the lengths of the two over the tokens where the first one fires?
# ````
# ````{admonition} Hint 2
# :class: dropdown
# Over these $N p$ tokens, the first has the length $\sqrt{N p}$ and the second $\sqrt{N p q}$. Then exchange the two.
# ````
# ```{exercise-end}
# ```


# %% tags=["stub"]
def expected(p, q):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-splitting-chance")
def check_expected(expected):
    draw = np.random.default_rng(0)
    for p, q in ((0.3, 0.05), (0.05, 0.3), (0.2, 0.2), (0.6, 0.1)):
        f, g = draw.random((2, 400_000)) < np.array([[p], [q]])
        shared = (f & g).sum()
        right = max(shared / np.sqrt(f.sum() * shared), shared / np.sqrt(g.sum() * shared))
        answer = expected(p, q)
        assert not np.isclose(answer, np.sqrt(p * q), rtol=0.02), "that is the cosine over all tokens"
        assert p == q or not np.isclose(answer, np.sqrt(min(p, q)), rtol=0.02), "the larger of the two cosines counts"
        assert np.isclose(answer, right, rtol=0.02), f"simulated with p = {p} and q = {q}: {right:.3f}"


check_expected(expected)

# %% [markdown]
# ````{solution-start} ex-splitting-chance
# :class: dropdown
# ````


# %%
def expected(p, q):
    return np.sqrt(max(p, q))


neurons = neuron_evidence(model, contexts.head(100))
for name, density in (*((name, evidence[name].density) for name in names), ("neurons", neurons.density)):
    print(f"{name}: the most frequent fires on {density.max():.1%} of the tokens, ", end="")
    print(f"so chance gives up to {expected(density.max(), 0):.2f}")
check_expected(expected)

# %% tags=["remove-cell"]
dense = int((neurons.density > splitting.EDGE**2).sum())
chapter.number("dense-features", sum(int((evidence[name].density > splitting.EDGE**2).sum()) for name in names))
chapter.number("dense-neurons", f"{dense} of {neurons.n_features}")

# %% [markdown]
# The threshold 0.4 is reached at a density of 0.16. Of all our features {glue:text}`dense-features` fire that often, so
# on a long text chance draws hardly an edge. Of the neurons it is {glue:text}`dense-neurons`: to join these by a masked
# cosine, you would need another threshold.
#
# <!-- numbers: 0.16 (the square of the threshold) -->
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
check_expected.refuses(lambda p, q: np.sqrt(p * q), because="over all tokens")
check_expected.refuses(lambda p, q: np.sqrt(min(p, q)), because="the larger of the two")
check_expected.refuses(lambda p, q: max(p, q), because="simulated")

# %% [markdown]
# ```{exercise-start} A share of one's own
# :label: ex-splitting-own
# ```
# *Difficulty 2/5 · importance 4/5 · 15 minutes.* Children overlap. Write `own_shares(fires, values)`: for each child
# the share of the parent's activation on tokens where *only* this child fires. `fires` is true or false
# `[children, tokens]`, and `values` are the parent's activations `[tokens]`. What would the shares add up to if the
# children split the parent cleanly?
#
# ````{admonition} Hint 1
# :class: dropdown
# On how many children does each token call? `fires.sum(0)` says it.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# `fires & (fires.sum(0) == 1)` marks the tokens that each child has for itself. Weigh them by `values`.
# ````
# ```{exercise-end}
# ```


# %% tags=["stub"]
def own_shares(fires, values):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-splitting-own")
def check_own_shares(own_shares):
    fires = np.array([[1, 1, 0, 0, 0], [0, 1, 1, 1, 0], [0, 0, 0, 1, 0]], bool)
    values = np.array([4.0, 1.0, 2.0, 1.0, 2.0])
    found = np.asarray(own_shares(fires.copy(), values.copy()))
    assert found.shape == (3,), "return one share for each child"
    assert not np.allclose(found, [0.5, 0.4, 0.1]), "leave out tokens on which another child fires, too"
    assert not np.allclose(found, [0.2, 0.2, 0]), "weigh tokens by the parent's activation"
    assert not np.allclose(found, [4, 2, 0]), "divide by all of the parent's activation"
    assert np.allclose(found, [0.4, 0.2, 0]), "with activations 4, 1, 2, 1, 2 the shares are 0.4, 0.2 and 0"


check_own_shares(own_shares)

# %% [markdown]
# ````{solution-start} ex-splitting-own
# :class: dropdown
# ````


# %%
def own_shares(fires, values):
    return (fires & (fires.sum(0) == 1)) @ values / values.sum()


for found in chosen:
    own = own_shares(found.fires, found.values)
    print(f"{title(found)}: cover {found.cover:.0%}, by one child alone {own.sum():.0%}")
check_own_shares(own_shares)

# %% [markdown]
# A clean split would have its whole cover here. What is missing is shared by two children or more. That a sparse code
# can afford two features on one token is part of what makes it useful: the word and the topic need not be one feature.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
check_own_shares.refuses(lambda fires, values: fires @ values / values.sum(), because="another child")
check_own_shares.refuses(lambda fires, values: (fires & (fires.sum(0) == 1)).mean(1), because="weigh tokens")

# %% [markdown]
# ```{exercise-start} What a map keeps
# :label: ex-splitting-map
# ```
# *Difficulty 3/5 · importance 4/5 · 20 minutes.* Write `kept(rows, plane, k)`: of the `k` nearest neighbours of each
# row by cosine, the share that are also among its `k` nearest on the map, by ordinary distance; the mean over all
# rows. `rows` is `[n, d]`, `plane` is `[n, 2]`, and nobody is a neighbour of itself. How much does our map keep?
# Predict first.
#
# ````{admonition} Hint 1
# :class: dropdown
# Compute all similarities at once, put $-\infty$ on the diagonal, and use `np.argpartition` or `np.argsort`.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# `NearestNeighbors(n_neighbors=k, metric="cosine").fit(rows).kneighbors(return_distance=False)` leaves each row itself
# out. With the two tables of neighbours, count how many entries of a row are in both.
# ````
# ```{exercise-end}
# ```


# %% tags=["stub"]
def kept(rows, plane, k):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-splitting-map")
def check_kept(kept):
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False) ** 1.01
    circle = np.stack([np.cos(angle), np.sin(angle)], 1)
    same = kept(circle.copy(), 5 * circle, 4)
    assert np.isclose(same, 1), "a map that is only larger keeps all neighbours"
    lengths = np.random.default_rng(0).uniform(0.1, 9, (60, 1))
    assert np.isclose(kept(circle * lengths, circle.copy(), 4), 1), "by cosine, the lengths of the rows do not matter"
    draw = np.random.default_rng(1)
    rows, places = draw.normal(size=(200, 30)), draw.normal(size=(200, 2))
    chance = kept(rows.copy(), places.copy(), 10)
    assert not np.isclose(chance, (1 + 9 * 9 / 199) / 10, atol=0.02), "nobody is a neighbour of itself"
    assert np.isclose(chance, 10 / 199, atol=0.02), "on a random map a share of k / (n - 1) is kept, by chance"


check_kept(kept)

# %% [markdown]
# ````{solution-start} ex-splitting-map
# :class: dropdown
# ````


# %%
def kept(rows, plane, k):
    before, after = (
        NearestNeighbors(n_neighbors=k, metric=metric).fit(points).kneighbors(return_distance=False)
        for points, metric in ((rows, "cosine"), (plane, "euclidean"))
    )
    return np.mean([len(np.intersect1d(one, other)) / k for one, other in zip(before, after, strict=True)])


share = kept(rows_of, plane, 10)
print(f"ten neighbours: {share:.0%} kept, and {10 / (len(rows_of) - 1):.2%} on a random map")
check_kept(kept)

# %% [markdown]
# Far more than chance, and far from all. So if two features are neighbours on the map, look up their cosine before you
# build on it.
#
# ````{solution-end}
# ````


# %% tags=["remove-cell", "wrong-answers"]
def with_oneself(rows, plane, k):
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    before = np.argsort(-unit @ unit.T, axis=1)[:, :k]
    after = np.argsort(((plane[:, None] - plane) ** 2).sum(2), axis=1)[:, :k]
    return np.mean([len(np.intersect1d(one, other)) / k for one, other in zip(before, after, strict=True)])


def by_distance(rows, plane, k):
    before, after = (
        NearestNeighbors(n_neighbors=k).fit(points).kneighbors(return_distance=False) for points in (rows, plane)
    )
    return np.mean([len(np.intersect1d(one, other)) / k for one, other in zip(before, after, strict=True)])


check_kept.refuses(with_oneself, because="neighbour of itself")
check_kept.refuses(by_distance, because="lengths of the rows")

# %% [markdown]
# ```{exercise-start} Tell siblings apart
# :label: ex-splitting-siblings
# ```
# *Difficulty 4/5 · importance 5/5 · 30 minutes.* Open-ended. Find two siblings, children of one feature of the smallest
# dictionary, and say what tells them apart. Put `(parent, one, other, chosen)` into `siblings`: the numbers of the
# three features, and true or false for each token of the vocabulary. Both children must have at least 80 % of their
# activation on the parent's tokens, and fire on at least 20 tokens. At most a tenth of the tokens of either may be the
# other's, too. At least 80 % of the activation of `one` must be on chosen tokens, and at most 20 % of that of `other`.
# The check uses the second half of the text, so choose on the first.
#
# ````{admonition} Hint 1
# :class: dropdown
# `splitting.family(first[small], first[large], parent, graph.children_of(parent))` has `inside` for each child, and
# `fires`, which says on which of the parent's tokens it is active.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# Sum the activations of both by token, with `np.bincount(ids[:half].ravel()[places], values, len(pieces))`. Choose the
# tokens that have more of `one` than of `other`.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
siblings = None


# %% tags=["check", "hide-input"]
@check("ex-splitting-siblings")
def check_siblings(siblings):
    parent, one, other, chosen = siblings
    chosen = np.asarray(chosen)
    assert chosen.shape == (len(pieces),) and chosen.dtype == bool, "true or false for each token of the vocabulary"
    assert one != other, "name two children"
    fewest = second[large].counts[[int(one), int(other)]].min()
    assert fewest >= 20, f"one of them fires on {fewest} tokens, too few to say anything"
    inside = splitting.family(second[small], second[large], int(parent), [int(one), int(other)]).inside.min()
    assert inside >= 0.8, f"only {inside:.0%} of a child's activation is on the parent's tokens"
    (one_places, one_values), (other_places, other_values) = (second[large].of(int(child)) for child in (one, other))
    both = len(np.intersect1d(one_places, other_places)) / min(len(one_places), len(other_places))
    assert both <= 0.1, f"{both:.0%} of the tokens of one of them are the other's, too"
    tokens = ids[half:].ravel()
    shares = [
        values[chosen[tokens[places]]].sum() / values.sum()
        for places, values in ((one_places, one_values), (other_places, other_values))
    ]
    assert shares[0] >= 0.8, f"only {shares[0]:.0%} of the first child's activation is on chosen tokens"
    assert shares[1] <= 0.2, f"{shares[1]:.0%} of the second child's activation is on chosen tokens, too"


check_siblings(siblings)

# %% [markdown]
# ````{solution-start} ex-splitting-siblings
# :class: dropdown
# ````


# %%
def by_token(child: int) -> np.ndarray:
    places, values = first[large].of(child)
    return np.bincount(ids[:half].ravel()[places], weights=values, minlength=len(pieces)) / values.sum()


best = (0.0, None)
for found in families:
    here = splitting.family(first[small], first[large], found.parent, found.children)
    here = here.among((here.inside > 0.9) & (here.fires.sum(1) > 200))
    shared = here.fires.astype(float) @ here.fires.T.astype(float)
    apart_enough = shared < 0.05 * np.minimum.outer(here.fires.sum(1), here.fires.sum(1))
    for row, column in zip(*np.triu(apart_enough, 1).nonzero(), strict=True):
        one, other = int(here.children[row]), int(here.children[column])
        difference = by_token(one) - by_token(other)
        apart = np.abs(difference).sum() / 2  # 1 where no token has both
        best = max(best, (apart, (here.parent, one, other, difference > 0)), key=lambda entry: entry[0])
apart, siblings = best
print(f"{small}/{siblings[0]} on {fires_on(small, siblings[0])}")
for child in siblings[1:3]:
    print(f"  {large}/{child} on {fires_on(large, child)}")
check_siblings(siblings)

# %% [markdown]
# Siblings on different tokens are the easy case. Look for a pair that fires on the *same* token, as the family of "the"
# does. What you would have to choose then is not a set of tokens but a kind of text.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
check_siblings.refuses((siblings[0], siblings[1], siblings[1], siblings[3]), because="name two children")
check_siblings.refuses((*siblings[:3], ~siblings[3]), because="the first child")
check_siblings.refuses((*siblings[:3], siblings[3] | True), because="the second child")
for seldom in np.flatnonzero((second[large].counts > 0) & (second[large].counts < 20))[:1]:
    check_siblings.refuses((siblings[0], seldom, *siblings[2:]), because="too few")
outside = int(np.setdiff1d(np.flatnonzero(second[large].counts), graph.children_of(siblings[0]))[0])
check_siblings.refuses((siblings[0], siblings[1], outside, siblings[3]), because="parent's tokens")
