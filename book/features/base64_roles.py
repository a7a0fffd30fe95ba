# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # base64: one context, several features, and what they decode to
#
# base64 writes any bytes in 64 harmless characters: attachments, keys, pictures inside of web pages. To a model of text
# it is noise, almost. The paper found three base64 features in a dictionary like ours, one of which fires where the
# encoded bytes are text {cite}`bricken2023monosemanticity`. The seven steps are those of {doc}`Arabic <arabic>`, the
# proxy is that of {doc}`DNA <dna>`. New is what happens when both the proxy and the feature turn out to be too coarse.
#
# ```{admonition} Before you start
# **You will be able to**
# - see when a proxy is too weak to carry a claim, and say so with a number;
# - take apart a context that a dictionary has split;
# - test a claim about hidden content, here by decoding, with examples that were not used to find the feature.
#
# **You need** the chapters on {doc}`Arabic <arabic>` and {doc}`DNA <dna>`.
#
# **Time**: 30 minutes to read, about a minute to run.
# ```

# %% tags=["hide-input"]
import base64
import re

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from sae_core import case_plots, case_study, chapter, controls, effects, load_dictionary, load_model, plots, proxies
from sae_core.case_study import Feature
from sae_core.evidence import feature_evidence
from sae_core.exercises import check
from sae_core.metrics import fisher_exact
from sae_core.tokens import token_bytes
from sae_core.verdicts import Verdicts

# %%
PATTERN = proxies.BASE64_RUN
model, sae = load_model("A"), load_dictionary("A/1")
pieces = token_bytes(model.tokenizer)
contexts, exact, text, why_text = case_study.text_with(model, PATTERN, "base64", chapter.size(quick=4000, full=40_000))
ids = contexts.ids
score = proxies.alphabet_proxy(ids, pieces, proxies.BASE64)
inside = score > 0

# %% [markdown]
# ## A yardstick that trips
#
# The proxy gives each of the 64 characters the same probability. A token scores above zero if it is short and rare:
# `Qg` is likelier in base64 than in text at large, `the` is not.
#
# ```{admonition} Predict
# :class: tip
# Which other text is made of short, rare tokens of letters and digits? Name two kinds.
# ```

# %% tags=["hide-input"]
#| label: fig-base64-slices
#| caption: >-
#|   Share of the tokens that the proxy and the characters put into base64, by the part of the text that they are from.
parts = [i for i in range(len(contexts.slice_names)) if (contexts.slices == i).sum() >= 2000]
by_score = {contexts.slice_names[i]: float(inside[contexts.slices == i].mean()) for i in parts}
order = sorted(by_score, key=by_score.get)
by_run = {contexts.slice_names[i]: float(exact[contexts.slices == i].mean()) for i in parts}
figure = go.Figure()
for colour, (name, shares) in enumerate({"score above zero": by_score, "by the characters": by_run}.items()):
    figure.add_bar(
        y=order, x=[shares[part] for part in order], name=name, orientation="h", marker_color=plots.PALETTE[colour]
    )
figure.update_xaxes(tickformat=".0%", title="share of tokens")
said = ", ".join(f"{part} {by_score[part]:.0%}" for part in reversed(order))
plots.describe(figure, f"Bars by part of the text. Score above zero: {said}.", barmode="group", height=520)

# %% tags=["remove-cell"]
base_rate, base_rate_exact = float(inside[:, 1:].mean()), float(exact[:, 1:].mean())
chapter.number("text", text)
chapter.number("why-text", why_text)
chapter.number("tokens", ids[:, 1:].size, ",")
chapter.number("contexts", len(ids), ",")
chapter.number("contexts-with", int(exact.any(1).sum()))
chapter.number("base-rate", base_rate, ".1%")
chapter.number("base-rate-exact", base_rate_exact, ".1%")
chapter.number("lift-limit", 1 / base_rate, ".0f")
chapter.number("confirmed", (inside & exact).sum() / inside.sum(), ".0%")
elsewhere = [part for part in reversed(order) if by_run[part] < 0.5]
chapter.number("trips", " and ".join(elsewhere[:2]))

# %% [markdown]
# This page was run on {glue:text}`why-text`: {glue:text}`tokens` tokens. {glue:text}`base-rate` of them score above
# zero, and of those the characters confirm {glue:text}`confirmed`: base64 stands in {glue:text}`contexts-with` of
# {glue:text}`contexts` contexts. Apart from base64 itself the proxy trips most over {glue:text}`trips`. The paper names
# hexadecimal.
#
# <!-- numbers: 50 (the bar in the claims table) -->
#
# What follows? With this base rate no feature can have a lift above {glue:text}`lift-limit`. Our bar for the lift was
# set at 50 before anything was measured. So this part of the first claim cannot hold here, whatever the feature does,
# and the table will say so. We do not change the bar. We add a second yardstick: runs of at least 24 of these
# characters that have capitals, small letters and digits. By these {glue:text}`base-rate-exact` of the tokens are
# base64.
#
# ```{admonition} A trap: a proxy on one vocabulary
# :class: warning
# The paper's definition was made for the paper's vocabulary. Ours is small: words are cut into many short pieces, and
# short pieces are what this proxy takes for base64. A definition can be copied exactly and still measure something
# else.
# ```

# %%
evidence = feature_evidence(model, sae, contexts)
studied = case_study.best_feature(model, sae, evidence, score)
by_characters = evidence.correlations(exact)
rival = Feature(model, sae, evidence, int(by_characters.argmax()))
verdicts = Verdicts("base64", text, page="features/base64_roles")

# %%
plots.feature_examples(evidence, studied.index, pieces, top=3, intervals=6, per_interval=2)

# %% [markdown]
# ## Specific and sensitive?

# %%
specific, specific_exact = case_study.specificity(studied, inside), case_study.specificity(studied, exact)
sensitive = case_study.sensitivity(studied, score)
covers = {"the context": case_study.cover(studied, inside), "runs of base64": case_study.cover(studied, exact)}
verdicts.record("A15", specific, "fig-base64-spectrum")
verdicts.record("A16", sensitive, "fig-base64-spectrum")
verdicts.record("A17", covers["the context"], "fig-base64-union")

# %% tags=["hide-input"]
#| label: fig-base64-spectrum
#| caption: Activations of {glue:text}`feature` by class of token; on the right weighted by the activation.
CLASSES = ["base64", "base64, score below zero", "score above zero, no run", "other text"]
kinds = case_study.classes(inside, exact)
case_plots.spectrum(studied, kinds, CLASSES, "base64")

# %% tags=["hide-input"]
#| label: fig-base64-strength
#| caption: Share of the active tokens that are base64, by strength of the activation.
case_plots.by_strength({"score above zero": specific, "by the characters": specific_exact})

# %% tags=["hide-input"]
#| label: fig-base64-union
#| caption: Recall on the second half of the text, as complements chosen on the first half are added.
case_plots.union(covers)

# %% tags=["hide-input"]
case_plots.cover_table(covers, studied, inside, exact, pieces)

# %% tags=["remove-cell"]
recall_exact = evidence.recall([studied.index], exact)
chapter.number("feature", studied.name)
same = rival.index == studied.index
chapter.number("rival", "the same one" if same else f"{rival.name}, with {by_characters[rival.index]:.2f}")
chapter.number("correlation", sensitive.correlation, ".2f")
chapter.number("correlation-sign", sensitive.correlation_sign, ".2f")
chapter.number("correlation-exact", by_characters[studied.index], ".2f")
chapter.number("recall", sensitive.recall, ".0%")
chapter.number("recall-exact", recall_exact, ".0%")
chapter.number("mass", specific.mass_in_context, ".0%")
chapter.number("mass-exact", specific_exact.mass_in_context, ".0%")
chapter.number("lift", specific.lift, ".1f")
chapter.number("lift-exact", specific_exact.lift, ".0f")
chapter.number("union-first", covers["runs of base64"].recall, ".0%")
chapter.number("union-recall", covers["runs of base64"].union_recall, ".0%")
chapter.number("union-n", covers["runs of base64"].complements)

# %% [markdown]
# The proxy chooses {glue:text}`feature`; the characters would choose {glue:text}`rival`.
#
# | {glue:text}`feature` | by the score | by the characters |
# |---|---|---|
# | share of the activation in context | {glue:text}`mass` | {glue:text}`mass-exact` |
# | lift | {glue:text}`lift` | {glue:text}`lift-exact` |
# | correlation with the score's positive part | {glue:text}`correlation` | – |
# | correlation with yes or no | {glue:text}`correlation-sign` | {glue:text}`correlation-exact` |
# | recall | {glue:text}`recall` | {glue:text}`recall-exact` |
#
# The score has a correlation that the yes or no lacks. Its size does the work: in a long run the evidence adds up, and
# only base64 has long runs. With {glue:text}`union-n` complements the recall of runs goes from {glue:text}`union-first`
# to {glue:text}`union-recall`. So base64 is the business of several features. What does each of them do?
#
# ## What the roles are
#
# The paper's three are told apart by what they fire on: digits, letters, and encoded ASCII. We look for each by
# search. For digits and letters the targets are simple: tokens of digits within base64, and the tokens without any.

# %%
is_digit = np.array([piece.isdigit() for piece in pieces])
digits = Feature(model, sae, evidence, int(evidence.correlations(exact & is_digit[ids]).argmax()))
letters = Feature(model, sae, evidence, int(evidence.correlations(exact & ~is_digit[ids]).argmax()))
hits = digits.at_places(is_digit[ids])
digit_rate, digit_share = float(hits.mean()), float(digits.values[hits].sum() / digits.values.sum())
readings = {found.index: case_study.logit_reading(found, is_digit) for found in (digits, letters)}
digit_logits = {i: float(reading.weights[reading.kept & is_digit].mean()) for i, reading in readings.items()}
chapter.claim(
    "A32", where="features/base64_roles#fig-base64-roles", text=text, digit_share=digit_share, digit_rate=digit_rate,
    digit_feature_digit_logit=digit_logits[digits.index], letter_feature_digit_logit=digit_logits[letters.index],
)  # fmt: skip

# %% tags=["hide-input"]
#| label: fig-base64-roles
#| caption: >-
#|   The features that follow digits and the rest within base64. Left, which share of their activation falls there.
#|   Right, their mean logit weights on tokens of digits and on other tokens of base64.
others = (proxies.occurrence_share(ids, exact, len(pieces)) > 0.5) & ~is_digit
figure = make_subplots(cols=2, horizontal_spacing=0.16, subplot_titles=("activation", "logit weight"))
said = []
for colour, found in enumerate({digits.index: digits, letters.index: letters}.values()):
    reading = readings[found.index]
    on_digits = float(found.values[found.at_places(is_digit[ids])].sum() / found.values.sum())
    in_base64 = float(found.values[found.at_places(exact)].sum() / found.values.sum())
    shares = {"in base64": in_base64, "on digits": on_digits}
    weights = {
        "digits": digit_logits[found.index], "other base64": float(reading.weights[reading.kept & others].mean())
    }  # fmt: skip
    for column, bars in enumerate((shares, weights), 1):
        figure.add_bar(
            x=[*bars], y=[*bars.values()], name=found.name, legendgroup=found.name, showlegend=column == 1,
            marker_color=plots.PALETTE[colour], col=column, row=1,
        )  # fmt: skip
    parts = [f"{share:.0%} of its activation {where}" for where, share in shares.items()]
    parts += [f"mean logit weight {weight:+.2f} on {where}" for where, weight in weights.items()]
    said.append(f"{found.name}: {', '.join(parts)}")
figure.update_yaxes(tickformat=".0%", range=[0, 1.03], col=1)
plots.describe(figure, f"Grouped bars in two panels. {'; '.join(said)}.", barmode="group")

# %% tags=["remove-cell"]
chapter.number("digits", digits.name)
chapter.number("letters", letters.name)
chapter.number("digit-share", digit_share, ".0%")
chapter.number("digit-rate", digit_rate, ".0%")
chapter.number("digit-logit", digit_logits[digits.index], "+.2f")
chapter.number("letter-logit", digit_logits[letters.index], "+.2f")
if digits.index == letters.index:
    told = "Here both searches end at the same feature, so this dictionary has not split digits off"
elif digit_logits[digits.index] < digit_logits[letters.index]:
    told = "So after a digit, the model expects fewer digits"
else:
    told = "So after a digit, the model does not expect fewer digits, unlike the paper's"
chapter.number("digit-told", told)

# %% [markdown]
# The digit feature is {glue:text}`digits`. {glue:text}`digit-rate` of the tokens on which it is active are digits, and
# {glue:text}`digit-share` of its activation falls on these. The feature for the rest is {glue:text}`letters`. On tokens
# of digits the first has a mean logit weight of {glue:text}`digit-logit`, the second {glue:text}`letter-logit`.
# {glue:text}`digit-told`. Why should that be? A tokeniser joins frequent pairs. If two digits come in a row, they are
# often one token already, so one token of digits is seldom followed by another.
#
# ### Does it decode?
#
# The third role is the strangest: a feature that fires on base64 *of text*. Bytes of English letters begin with the
# same bits, and this leaves traces in every group of four characters. If a feature is about that, then what it fires
# on must decode to something that can be read. This can be checked.
#
# Groups of four characters carry three bytes. We do not know where the groups begin, so we decode from all four
# beginnings and keep the best.

# %%
def readable(run: str) -> float:
    """The largest share of printable ASCII in what a run decodes to, over the four places where groups can begin."""
    shares = []
    for first in range(4):
        groups = run[first : first + (len(run) - first) // 4 * 4]
        decoded = base64.b64decode(groups)
        shares.append(sum(32 <= byte < 127 or byte in b"\t\n\r" for byte in decoded) / max(len(decoded), 1))
    return max(shares)


def decodes(example) -> bool | None:
    """Whether the longest run in a snippet is encoded text; None where no run is long enough to tell."""
    line = b"".join(pieces[token] for token in example.tokens).decode("ascii", errors="replace").replace("\n", "")
    run = max(re.findall(r"[A-Za-z0-9+/]+", line), key=len, default="")
    return readable(run) >= 0.9 if len(run) >= 16 else None


# %% [markdown]
# Which feature could it be? Among the sixteen that follow base64 best, take the one whose strongest examples decode
# most often, on the first half of the text. Then count on the second half. The order matters. The best of sixteen is
# above the rest in any case, and only new examples can say whether there is more to it.

# %%
half = len(ids) // 2
first_half, second_half = evidence.between(0, half), evidence.between(half, len(ids))
candidates = np.argsort(-first_half.correlations(exact[:half]))[:16].tolist()


def answers(part, index: int, n: int = 40) -> dict[int, bool]:
    """By context, whether a feature's strongest example in it decodes: of its n strongest, those that can be told."""
    found = {example.context: decodes(example) for example in part.top_examples(index, n)}
    return {context: answer for context, answer in found.items() if answer is not None}


def decoded(part, index: int) -> tuple[int, int]:
    """How many of a feature's strongest examples decode, and how many could be told."""
    return sum(answers(part, index).values()), len(answers(part, index))


def share(hits: int, n: int) -> float:
    return hits / n if n else 0.0


ascii_index = max(candidates, key=lambda index: share(*decoded(first_half, index)))
ascii_hits, ascii_n = decoded(second_half, ascii_index)
rest = {index: decoded(second_half, index) for index in candidates if index != ascii_index}
other_hits, other_n = (sum(column) for column in zip(*rest.values(), strict=True))
p = fisher_exact(ascii_hits, ascii_n, other_hits, other_n)
chapter.claim(
    "A32", where="features/base64_roles#fig-base64-decode", text=text, ascii_share=share(ascii_hits, ascii_n),
    other_ascii_share=share(other_hits, other_n), fisher_p=p,
)  # fmt: skip

# %% tags=["hide-input"]
#| label: fig-base64-decode
#| caption: >-
#|   Share of strongest examples, on the second half of the text, whose base64 decodes to printable ASCII. The feature
#|   that was chosen on the first half stands first.
shares = {f"A/1/{ascii_index}": share(ascii_hits, ascii_n)} | {f"A/1/{i}": share(*counts) for i, counts in rest.items()}
figure = go.Figure()
colours = [plots.PALETTE[1], *[plots.PALETTE[0]] * len(rest)]
figure.add_bar(x=[*shares], y=[*shares.values()], marker_color=colours)
figure.update_yaxes(tickformat=".0%", range=[0, 1.03], title="decode to text")
figure.update_xaxes(type="category")
said = ", ".join(f"{name} {value:.0%}" for name, value in shares.items())
plots.describe(figure, f"Bars. {said}.", showlegend=False)

# %% tags=["hide-input"]
rows = []
for example in second_half.top_examples(ascii_index, 8):
    line = b"".join(pieces[token] for token in example.tokens).decode("ascii", errors="replace").replace("\n", "")
    run = max(re.findall(r"[A-Za-z0-9+/]+", line), key=len, default="")
    tries = [base64.b64decode(run[first : first + (len(run) - first) // 4 * 4]) for first in range(4)]
    best = max(tries, key=lambda bytes_: sum(32 <= byte < 127 for byte in bytes_), default=b"")
    rows.append((run, plots.visible(best)))
plots.table(["what the feature fires on", "what it decodes to"], rows)

# %% tags=["remove-cell"]
chapter.number("ascii", f"A/1/{ascii_index}")
chapter.number("ascii-share", share(ascii_hits, ascii_n), ".0%")
chapter.number("other-ascii-share", share(other_hits, other_n), ".0%")
chapter.number("fisher", p, ".1e" if p < 0.001 else ".3f")
# Within each context, the answers are dealt out at random among the features that have one there.
of_each = {index: answers(second_half, index) for index in candidates}
chances = [np.mean([a[c] for a in of_each.values() if c in a]) for c in of_each[ascii_index]]
hits_by_chance = np.ones(1)  # probabilities of 0, 1, ... hits
for one in chances:
    hits_by_chance = np.convolve(hits_by_chance, [1 - one, one])
within = float(hits_by_chance[ascii_hits:].sum())
chapter.number("within", within, ".1e" if within < 0.001 else ".3f")
chapter.number("within-share", float(np.mean(chances)) if chances else 0.0, ".0%")
next_best = max(rest, key=lambda index: share(*rest[index]))
chapter.number("next-best", f"A/1/{next_best}")
chapter.number("next-share", share(*rest[next_best]), ".0%")
chapter.number("ascii-contexts", len(set().union(*of_each.values())))
if share(ascii_hits, ascii_n) <= share(other_hits, other_n):
    told = "So on new examples the chosen feature is not ahead at all"
elif within < 0.05:
    told = "So the difference is more than a matter of which contexts the examples come from"
else:
    told = (
        "So within a context the chosen feature is not clearly ahead. What else sets it apart is which contexts its "
        "examples come from, and by these numbers that may be chance"
    )
chapter.number("within-told", told)
SPACES = base64.b64encode(b"   ")  # ICAg
if SPACES in pieces and (ids == pieces.index(SPACES)).sum() >= 20:
    where = ids == pieces.index(SPACES)
    told = (
        f"Three spaces are {SPACES.decode()} if a group begins with them, and this is one token of our vocabulary. The "
        f"feature is active on {evidence.recall([ascii_index], where):.0%} of its occurrences"
    )
else:
    told = f"Our text has too little of {SPACES.decode()}, three spaces, to look at it alone"
chapter.number("clue-told", told)

# %% [markdown]
# The feature chosen is {glue:text}`ascii`. On the half that it was not chosen on, {glue:text}`ascii-share` of its
# strongest examples decode to text; of the others' examples {glue:text}`other-ascii-share` do. The best of the
# others, {glue:text}`next-best`, has {glue:text}`next-share`.
#
# Is that chance? The table of claims asks Fisher's exact test, which says {glue:text}`fisher`. It takes every example
# for a draw of its own, and they are not: all sixteen features draw theirs from a pool of
# {glue:text}`ascii-contexts` contexts. So compare within contexts. Deal the answers of each context out at random among
# the features that have one there. Then {glue:text}`within-share` of the chosen feature's examples would decode on
# average. As many as do, or more, would with probability {glue:text}`within`. {glue:text}`within-told`.
#
# The model has never decoded anything. It can only have learned which characters come together where bytes are letters
# and spaces. {glue:text}`clue-told`. The paper's clue was `ICAgICAg`, six spaces.
#
# ## What it does

# %%
of_context = proxies.alphabet_ratio(ids, pieces, proxies.BASE64) > 0  # tokens that score above zero by themselves
reading = case_study.logit_reading(studied, of_context)
removed = case_study.ablation(studied, exact, n_contexts=chapter.size(quick=200, full=2000))
pinned = case_study.pinned(studied, PATTERN, n_samples=chapter.size(quick=128, full=1024), n_tokens=40)
verdicts.record("A18", reading, "fig-base64-logits")
verdicts.record("A19", removed, "fig-base64-ablation")
verdicts.record("A20", pinned, "fig-base64-dose")

# %% tags=["hide-input"]
#| label: fig-base64-logits
#| caption: Logit weights of {glue:text}`feature`, by whether a token scores above zero by itself.
case_plots.logits(reading, {"base64 tokens": of_context, "other tokens": ~of_context})

# %% tags=["hide-input"]
case_plots.top_logits(reading, pieces)

# %% tags=["hide-input"]
#| label: fig-base64-ablation
#| caption: >-
#|   What removing {glue:text}`feature` does to the true next token, with 95 % intervals over contexts. A bin without
#|   such tokens has no dot.
# numbers: 95 % (the level of the intervals)
case_plots.ablation(removed, "base64")

# %% tags=["hide-input"]
#| label: fig-base64-dose
#| caption: Share of characters in runs of base64 in what the model writes with {glue:text}`feature` held at one value.
case_plots.dose(pinned, "base64")

# %% tags=["hide-input"]
case_plots.samples(pinned)

# %% tags=["hide-input"]
team = covers["runs of base64"].features  # the feature and its complements
rows = removed.contexts[exact[removed.contexts].any(1)]  # of the contexts above, those with base64
# what removing all of them together does to every next token of these contexts, in nats
change = effects.ablation_effect(model, sae, team, ids[rows])[:, 1:]

# %% tags=["remove-cell"]
rival_told = ""
if not same:
    rival_removed = case_study.ablation(rival, exact, n_contexts=chapter.size(quick=200, full=2000))
    rival_told = f"For the characters' choice, {rival.name}, it is {rival_removed.effect:+.2f}. "
if len(team) == 1:
    team_told = "The search found no complements, so there is nothing to remove with it"
else:
    active = np.stack([evidence.dense(index)[rows, :-1] > 0 for index in team])
    next_inside = exact[rows, 1:]
    together, anywhere = (float(change[on & next_inside].mean()) for on in (active[0], active.any(0)))
    team_told = (
        f"Do its {len(team) - 1} complements step in where it is gone? Removed together with it, they change the same "
        f"tokens by {together:+.2f} nats, and all base64 that follows upon one of the {len(team)} by {anywhere:+.2f}. "
    )
    if min(together, anywhere) < removed.effect - 0.1:
        team_told += "So they do some of its work"
    else:
        team_told += "So this is not why removing it shows little"
by_runs = case_study.logit_reading(studied, proxies.occurrence_share(ids, exact, len(pieces)) > 0.5)
chapter.number("logit-auc", reading.logit_auc, ".3f")
chapter.number("top20", reading.top20_in_context)
chapter.number("runs-auc", by_runs.logit_auc, ".3f")
chapter.number("runs-top20", by_runs.top20_in_context)
chapter.number("effect", removed.effect, "+.2f")
chapter.number("effect-elsewhere", removed.effect_elsewhere, "+.2f")
chapter.number("team-told", rival_told + team_told)
chapter.number("pinned-share", pinned.pinned_share, ".0%")
chapter.number("double-share", pinned.shares[pinned.at(2)], ".0%")
chapter.number("unpinned-share", pinned.unpinned_share, ".1%")

# %% [markdown]
# By the proxy's own verdict on each token, the weights have an AUC of {glue:text}`logit-auc` and {glue:text}`top20` of
# the top twenty. By the tokens that mostly occur in runs they have {glue:text}`runs-auc` and {glue:text}`runs-top20`.
# The paper saw a gradual transition rather than two modes: a token such as `fr` may be base64 or French.
#
# Removing the feature changes a next token in base64 by {glue:text}`effect` nats, elsewhere by
# {glue:text}`effect-elsewhere`. {glue:text}`team-told`.
#
# With the feature pinned to its maximum, {glue:text}`pinned-share` of the characters that the model writes are in runs
# of base64. At twice the maximum it is {glue:text}`double-share`, without pinning {glue:text}`unpinned-share`.
#
# ## Neurons, the twin and chance

# %%
match = case_study.neuron_match(studied, inside, exact, n_contexts=chapter.size(quick=400, full=2000))
verdicts.record("A21", match, "fig-base64-neuron")
twin = case_study.twin(studied, "B/1")
verdicts.record("A22", twin, "fig-base64-twin")

# %% tags=["hide-input"]
#| label: fig-base64-neuron
#| caption: >-
#|   {glue:text}`feature` beside the neuron that correlates best with it, weighted by activation.
case_plots.beside_neuron(studied, match, kinds, CLASSES, "base64")

# %% tags=["hide-input"]
case_plots.neuron_table(match, {"best_neuron_correlation": "0.18"})

# %% tags=["hide-input"]
#| label: fig-base64-twin
#| caption: >-
#|   {glue:text}`feature` and its twin in the dictionary of model B, weighted by activation.
case_plots.beside_twin(studied, twin.feature, kinds, CLASSES, "base64")

# %%
chance = controls.by_chance(
    studied, score, exact, of_context, PATTERN,
    n_contexts=chapter.size(quick=100, full=1000), n_samples=chapter.size(quick=64, full=512), n_tokens=40,
)  # fmt: skip

# %% tags=["hide-input"]
case_plots.chance(chance)

# %% tags=["remove-cell"]
chance_correlation = max(found.correlation for name, found in chance.items() if name != "A/1")
chapter.number("chance", chance_correlation, ".2f")
chapter.number("chance-mass", max(found.mass_in_context for name, found in chance.items() if name != "A/1"), ".0%")
if chance_correlation < sensitive.correlation - 0.1:
    told = "So the correlation says something here"
else:
    told = "So here the correlation, which passes its bar, proves nothing: chance passes it, too"
chapter.number("chance-told", told)
chapter.number("neurons-ahead", case_plots.neurons_ahead(match))
chapter.number("ahead", case_plots.ahead(chance))
chapter.number("hardest", case_plots.hardest(chance, pinned.unpinned_share))
aucs = [found.logit_auc for name, found in chance.items() if name != "A/1" and found.logit_auc is not None]
clear = max(aucs) < min(0.75, reading.logit_auc - 0.1)
chapter.number("weights-told", "What the weights promote is another matter" if clear else "The weights say no more")

# %% [markdown]
# {glue:text}`neurons-ahead`
#
# Look at the share of the activation in context: controls reach up to {glue:text}`chance-mass`, where the base rate is
# {glue:text}`base-rate`. A weak proxy makes weak controls look strong, too. The best control has a correlation of
# {glue:text}`chance`, the feature {glue:text}`correlation`. {glue:text}`chance-told`. {glue:text}`ahead`
#
# That was watching. {glue:text}`weights-told`. {glue:text}`hardest` The chapter {doc}`/book/structure/pareidolia` sets
# the AUC against one half and the pinned share against that without pinning. Where a control does better than that, it
# is the harder one to beat.
#
# ## What the paper found, what we found

# %% tags=["hide-input"]
# numbers: 0.38 (the paper's); 0.18 (the paper's)
paper = {
    "A15": "quite specific (a figure)",
    "A16": "correlation 0.38",
    "A17": "single digits and encoded ASCII have features of their own",
    "A18": "a gradual transition",
    "A20": "writes base64",
    "A21": "best neuron's correlation 0.18",
    "A22": "0.85",
}
plots.table(["claim", "the paper found", "we found", "outcome"], verdicts.rows(paper))

# %% tags=["hide-input"]
plots.table(
    ["split roles", "the paper found", "we found"],
    [
        (
            "digits", "a feature on single digits",
            f"{digits.name}, digits are {digit_rate:.0%} of its tokens and {digit_share:.0%} of its activation",
        ),
        (
            "their logit weights on digits", "lower than those of the feature for letters",
            f"{digit_logits[digits.index]:+.2f} against {digit_logits[letters.index]:+.2f}",
        ),
        (
            "encoded ASCII", "only one feature's top examples decode",
            f"A/1/{ascii_index} {share(ascii_hits, ascii_n):.0%}, the others {share(other_hits, other_n):.0%}",
        ),
    ],
)  # fmt: skip

# %% [markdown]
# **How our set-up differs.** The paper does not say how frequent base64 is in its text. Where it is frequent, a
# dictionary has reason to split it into more features. Our vocabulary is small, and base64 is cut into short tokens.
# See {doc}`/book/differences`.
#
# ```{admonition} Takeaways
# :class: note
# - Compute what a perfect feature could score before you judge a real one. A bar may be out of reach.
# - A context that is frequent gets several features. Describe the team, not only its best-known member.
# - A claim about hidden content needs a test of its own. Choose on one half, count on the other.
# - Where removing one feature shows little, others may have stepped in. Remove them together before you say so.
# ```
#
# ## Exercises
#
# ```{exercise-start} Out of reach
# :label: ex-base64-lift
# ```
# *Difficulty 1/5 · importance 4/5 · 10 minutes.* Write `largest_lift(inside, n_active)`: the largest lift that a
# feature could have if it is active on `n_active` tokens. `inside` is true or false `[n_contexts, n_ctx]`; column 0
# does not count, and no feature is active there.
#
# ````{admonition} Hint 1
# :class: dropdown
# The lift is a share divided by the base rate. How large can the share be?
# ````
# ````{admonition} Hint 2
# :class: dropdown
# It is 1 as long as there are enough tokens inside. A feature that is active on more tokens must be active outside,
# too.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def largest_lift(inside, n_active):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-base64-lift")
def check_largest_lift(largest_lift):
    some = np.zeros((4, 6), bool)
    some[:, 0] = some[0, 1:] = True  # five of twenty tokens, and column 0
    found = largest_lift(some.copy(), 5)
    assert not np.isclose(found, 24 / 9), "column 0 does not count"
    assert np.isclose(found, 4), "with 5 active tokens and 5 of 20 inside, all can be inside: a lift of 4"
    assert not np.isclose(largest_lift(some.copy(), 10), 4), "active on 10 tokens, at most 5 of them can be inside"
    assert np.isclose(largest_lift(some.copy(), 10), 2), "active on 10 tokens: half of them inside, twice the base rate"
    assert np.isclose(largest_lift(some.copy(), 2), 4), "a feature on few tokens has the same limit"


check_largest_lift(largest_lift)

# %% [markdown]
# ````{solution-start} ex-base64-lift
# :class: dropdown
# ````

# %%
def largest_lift(inside, n_active):
    n_inside, n = inside[:, 1:].sum(), inside[:, 1:].size
    return min(1.0, n_inside / n_active) / (n_inside / n)


print(f"{studied.name}: {largest_lift(inside, len(studied.values)):.1f} by the score, ", end="")
print(f"{largest_lift(exact, len(studied.values)):.0f} by the characters")
check_largest_lift(largest_lift)

# %% [markdown]
# Compute it for a neuron that is active on half of all tokens.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
check_largest_lift.refuses(lambda inside, n_active: 1 / inside.mean(), because="column 0")
check_largest_lift.refuses(lambda inside, n_active: 1 / inside[:, 1:].mean(), because="at most 5 of them")

# %% [markdown]
# ```{exercise-start} Decode from the middle
# :label: ex-base64-decode
# ```
# *Difficulty 2/5 · importance 3/5 · 15 minutes.* Write `beginning(run)`: where in a run of base64 the groups of four
# begin, 0 to 3, for bytes that are text. The run is cut from the middle of a longer one, so it may begin within a
# group.
#
# ````{admonition} Hint 1
# :class: dropdown
# Decode from each of the four places and see which result reads best. `base64.b64decode` wants whole groups.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# Score a place by the share of printable ASCII among the bytes, and return the place with the best score.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def beginning(run):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-base64-decode")
def check_beginning(beginning):
    line = "A sparse code is a sum of few directions, and each of them should stand for one thing. (1996; 2023)"
    encoded = base64.b64encode(line.encode()).decode()
    wrong = 0
    for cut in range(24):
        run = encoded[cut : cut + 48 + cut % 5]
        found = beginning(run)
        assert found in range(4), "return a place from 0 to 3"
        wrong += found != (-cut) % 4
    assert wrong < 18, "that is no better than a guess"
    assert wrong == 0, f"{wrong} of 24 pieces of a text are cut wrongly"


check_beginning(beginning)

# %% [markdown]
# ````{solution-start} ex-base64-decode
# :class: dropdown
# ````

# %%
def beginning(run):
    def printable(first):
        decoded = base64.b64decode(run[first : first + (len(run) - first) // 4 * 4])
        return sum(32 <= byte < 127 for byte in decoded) / len(decoded)

    return max(range(4), key=printable)


check_beginning(beginning)

# %% [markdown]
# Only one of the four reads as text. A feature that fires on encoded text has, in effect, to know the beginning.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
check_beginning.refuses(lambda run: 0, because="no better than a guess")
check_beginning.refuses(lambda run: 4 - beginning(run), because="from 0 to 3")

# %% [markdown]
# ```{exercise-start} After a digit
# :label: ex-base64-digits
# ```
# *Difficulty 3/5 · importance 4/5 · 20 minutes.* The text says that a token of digits is seldom followed by another.
# Write `after(ids, exact, is_digit)`, two shares: of the base64 tokens of digits, how many are followed by a token of
# digits; and the same of the other base64 tokens. Both the token and the next one have to be marked in `exact`, and in
# the same context. `is_digit` is indexed by token.
#
# ````{admonition} Hint 1
# :class: dropdown
# `pairs = exact[:, :-1] & exact[:, 1:]` marks the first token of each pair that counts.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# `is_digit[ids[:, 1:]][pairs & is_digit[ids[:, :-1]]].mean()` is the first of the two.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def after(ids, exact, is_digit):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-base64-digits")
def check_after(after):
    draw = np.random.default_rng(0)
    some_ids, marks = draw.integers(0, 6, (40, 12)), draw.random((40, 12)) < 0.7
    digit = np.array([False, True, False, True, False, False])
    both = [(r, c) for r, c in np.ndindex(40, 11) if marks[r, c] and marks[r, c + 1]]
    pairs = [(digit[some_ids[r, c]], digit[some_ids[r, c + 1]]) for r, c in both]
    right = [np.mean([second for first, second in pairs if first == kind]) for kind in (True, False)]
    answer = after(some_ids.copy(), marks.copy(), digit.copy())
    assert np.shape(answer) == (2,), "return two shares"
    assert not np.allclose(answer, right[::-1]), "first those of digits, then the others"
    assert np.allclose(answer, right), "count pairs of neighbours that are both marked, by what the first one is"


check_after(after)

# %% [markdown]
# ````{solution-start} ex-base64-digits
# :class: dropdown
# ````

# %%
def after(ids, exact, is_digit):
    pairs = exact[:, :-1] & exact[:, 1:]
    first, second = is_digit[ids[:, :-1]][pairs], is_digit[ids[:, 1:]][pairs]
    return second[first].mean(), second[~first].mean()


behind_digits, behind_others = after(ids, exact, is_digit)
print(f"digits follow {behind_digits:.1%} of the tokens of digits and {behind_others:.1%} of the others")
check_after(after)

# %% [markdown]
# Compare with the two logit weights above. A feature's weights show what it has learned about the next token, and the
# next token depends on how text was cut.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
check_after.refuses(lambda *given: after(*given)[::-1], because="first those of digits")
check_after.refuses(lambda ids, exact, is_digit: after(ids, exact | True, is_digit), because="both marked")

# %% [markdown]
# ```{exercise-start} A role of your own
# :label: ex-base64-role
# ```
# *Difficulty 4/5 · importance 4/5 · 30 minutes.* Open-ended. Digits, letters, encoded text: are there further roles?
# Put into `role` a feature and a set of tokens, `(index, chosen)` with `chosen` true or false for each token of the
# vocabulary. At least 3 % of the base64 tokens have to be chosen, at most half of them, and no tokens of digits. The
# feature has to have 80 % of its activation in base64, and to fall on chosen tokens at least 1.5 times as much as
# base64 itself does.
#
# ````{admonition} Hint 1
# :class: dropdown
# Look at what the complements of {numref}`fig-base64-union` mostly fire on. Capitals? Small letters? Pairs? One letter?
# ````
# ````{admonition} Hint 2
# :class: dropdown
# For a set `chosen`, `evidence.correlations(exact & chosen[ids]).argmax()` proposes a feature. Try several sets.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
role = None


# %% tags=["check", "hide-input"]
@check("ex-base64-role")
def check_role(role):
    index, chosen = role
    chosen = np.asarray(chosen)
    assert chosen.shape == (len(pieces),) and chosen.dtype == bool, "true or false for each token of the vocabulary"
    assert not (chosen & is_digit).any(), "leave tokens of digits out"
    of_base64 = chosen[ids[exact]].mean()
    assert 0.03 <= of_base64 <= 0.5, f"{of_base64:.1%} of the base64 tokens are chosen; 3 % to 50 % is asked for"
    found = Feature(model, sae, evidence, int(index))
    at_home = found.values[found.at_places(exact)].sum() / max(found.values.sum(), 1e-9)
    assert at_home >= 0.8, f"only {at_home:.0%} of the feature's activation is in base64"
    on_chosen = found.values[found.at_places(chosen[ids])].sum() / found.values.sum()
    assert on_chosen >= 1.5 * of_base64, f"{on_chosen:.0%} of it is on chosen tokens, as {of_base64:.0%} of base64 is"


check_role(role)

# %% [markdown]
# ````{solution-start} ex-base64-role
# :class: dropdown
# ````

# %%
CAPITAL, SMALL = r"[A-Z]+", r"[a-z]+"
sets = {"capitals": CAPITAL, "small letters": SMALL, "two characters": r"[A-Za-z+/]{2}", "one letter": r"[A-Za-z]"}
sets |= {f"the letter {letter}": letter for letter in "AIgZ"}
best = (0.0, "", None)
for name, expression in sets.items():
    chosen = np.array([bool(re.fullmatch(expression.encode(), piece)) for piece in pieces])
    of_base64 = chosen[ids[exact]].mean()
    if not 0.03 <= of_base64 <= 0.5:
        continue
    for index in np.argsort(-evidence.correlations(exact & chosen[ids]))[:30]:
        found = Feature(model, sae, evidence, int(index))
        if found.values[found.at_places(exact)].sum() >= 0.8 * found.values.sum():
            ratio = found.values[found.at_places(chosen[ids])].sum() / found.values.sum() / of_base64
            best = max(best, (ratio, name, (int(index), chosen)), key=lambda entry: entry[0])
ratio, name, role = best
print(f"{name}: A/1/{role[0]}, {ratio:.1f} times as much on them as base64 itself")
check_role(role)

# %% [markdown]
# A role that you can name is a hypothesis. The decode test above is the standard to hold it to.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
check_role.refuses((role[0], is_digit), because="leave tokens of digits out")
check_role.refuses((role[0], np.zeros(len(pieces), bool)), because="3 % to 50 %")
no_base64 = int(np.argmin(evidence.correlations(exact)))
check_role.refuses((no_base64, role[1]), because="is in base64")
