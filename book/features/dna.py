# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # DNA: a yes-or-no context, and what lies outside of it
#
# Nucleotide sequences are a strange language: four letters, no words, long lines. The paper's DNA feature is its
# cleanest example {cite}`bricken2023monosemanticity`. The seven steps are those of the chapter on {doc}`Arabic
# <arabic>`. New are a proxy that can be computed without labels or scripts, and a test of where the context ends: what
# does the feature make of lower case, of RNA, of proteins, of four other letters?
#
# ```{admonition} Before you start
# **You will be able to**
# - compute a log-likelihood proxy from an alphabet, with a running sum;
# - say when to make a proxy binary, and why the paper does it here;
# - test a feature on text that was made to lie just outside of its context.
#
# **You need** the chapter on {doc}`Arabic <arabic>`.
#
# **Time**: 25 minutes to read, about a minute to run.
# ```

# %% tags=["hide-input"]

import numpy as np
import plotly.graph_objects as go

from sae_core import case_plots, case_study, chapter, controls, load_dictionary, load_model, plots, proxies
from sae_core.activations import harvest
from sae_core.autoencoder import dictionary_metadata
from sae_core.evidence import feature_evidence
from sae_core.exercises import check
from sae_core.runs import training_text
from sae_core.tokens import token_bytes
from sae_core.verdicts import Verdicts

# %% [markdown]
# ## A score from an alphabet
#
# Nobody has marked the DNA in the text. But we can say what DNA looks like to somebody who knows nothing else: each
# character is A, C, G or T, all equally likely. Any other character has probability $10^{-10}$. In text at large, a
# token has the probability with which it occurs. Both are products over the tokens $t$ of a string $s$, so the
# log-likelihood ratio is a sum:
#
# $$
# \log \frac{P(s \mid \text{DNA})}{P(s)} = \sum_{t \in s} \Big( \log P(t \mid \text{DNA}) - \log P(t) \Big)
# $$
#
# The score of a token is the largest such sum over the strings that end at it. There is no need to try them all. The
# best string that ends here is this token alone, or this token behind the best string that ends at the token before.
# One walk along the text is enough.
#
# The paper asks for **at least two tokens** in a string, and it then keeps only the sign of the score.
#
# ```{admonition} Predict
# :class: tip
# What would go wrong with strings of one token? Think of the word "ACT", or of the middle initial "T."
# ```

# %%
PATTERN = proxies.DNA_RUN  # eight or more of ACGT in a row, in either case
model, sae = load_model("A"), load_dictionary("A/1")
pieces = token_bytes(model.tokenizer)
contexts, exact, text, why_text = case_study.text_with(model, PATTERN, "DNA", chapter.size(quick=4000, full=40_000))
ids = contexts.ids
score = proxies.alphabet_proxy(ids, pieces, proxies.DNA, at_least=2)
inside = score > 0

# %% tags=["hide-input"]
CLASSES = ["DNA", "DNA, score below zero", "score above zero, not DNA", "other text"]
kinds = case_study.classes(inside, exact)
case_plots.class_table(ids, kinds, score, CLASSES, pieces)

# %% tags=["hide-input"]
#| label: fig-dna-scores
#| caption: Scores above zero, by whether the characters agree that the token is part of DNA.
positive = score[:, 1:][inside[:, 1:]]
agrees = exact[:, 1:][inside[:, 1:]]
edges = np.linspace(0, positive.max(initial=1.0), 40)
figure = go.Figure()
for index, (name, values) in enumerate({"DNA": positive[agrees], "not DNA": positive[~agrees]}.items()):
    heights = np.histogram(values, edges)[0]
    figure.add_bar(x=(edges[:-1] + edges[1:]) / 2, y=heights, name=name, marker_color=plots.PALETTE[2 * index])
figure.update_xaxes(title="score (nats)")
figure.update_yaxes(title="tokens")
median = np.median(positive) if len(positive) else 0.0
plots.describe(
    figure, f"Stacked histogram of {len(positive):,} positive scores, with a median of {median:.0f}.", barmode="stack",
    bargap=0,
)  # fmt: skip

# %% tags=["remove-cell"]
one_token = proxies.alphabet_proxy(ids, pieces, proxies.DNA) > 0
upper_only = np.array([token == token.upper() for token in pieces])[ids]
chapter.number("text", text)
chapter.number("why-text", why_text)
chapter.number("tokens", ids[:, 1:].size, ",")
chapter.number("contexts", len(ids), ",")
chapter.number("contexts-with", int(inside[:, 1:].any(1).sum()))
chapter.number("base-rate", inside[:, 1:].mean(), ".2%")
chapter.number("base-rate-exact", exact[:, 1:].mean(), ".2%")
chapter.number("one-wrong", (one_token & ~exact).sum() / max(one_token.sum(), 1), ".0%")
chapter.number("two-wrong", (inside & ~exact).sum() / max(inside.sum(), 1), ".0%")
chapter.number("largest-score", score.max(), ".0f")
chapter.number("lower", (exact & ~upper_only).sum() / exact.sum(), ".0%")
chapter.number("missed-by-score", (kinds == 1).sum() / exact.sum(), ".0%")
chapter.number("missed-lower", (~upper_only[kinds == 1]).mean() if (kinds == 1).any() else 0.0, ".0%")

# %% [markdown]
# This page was run on {glue:text}`why-text`: {glue:text}`tokens` tokens. {glue:text}`base-rate` of them score above
# zero, in {glue:text}`contexts-with` of {glue:text}`contexts` contexts.
#
# With strings of one token, {glue:text}`one-wrong` of the tokens above zero would not be DNA: a rare token of two or
# three such letters is enough. With two or more it is {glue:text}`two-wrong`, line breaks within a sequence included:
# what stands before them outweighs them.
#
# Why only the sign? Evidence adds up along a line, so the score says mostly how far from its beginning a token stands.
# It reaches {glue:text}`largest-score` nats. A feature that says "this is DNA" from the third token on has nothing to
# gain from growing, and a correlation with such a score would punish it for that.
#
# Our second yardstick are the characters: runs of at least eight of these letters, in either case. By them
# {glue:text}`base-rate-exact` of the tokens are DNA, and {glue:text}`missed-by-score` of those score below zero. Of
# these misses {glue:text}`missed-lower` contain lower-case letters. The paper's alphabet has capitals only, and GenBank
# writes its sequences in small letters.

# %%
evidence = feature_evidence(model, sae, contexts)
studied = case_study.best_feature(model, sae, evidence, np.sign(score))
verdicts = Verdicts("dna", text, page="features/dna")

# %% tags=["remove-cell"]
by_characters = evidence.correlations(exact)
chapter.number("feature", studied.name)
agree = by_characters.argmax() == studied.index
chapter.number("agree", "the same feature" if agree else f"another feature, A/1/{by_characters.argmax()}")

# %% [markdown]
# The feature that follows the sign best is {glue:text}`feature`. The characters, which know both cases, choose
# {glue:text}`agree`.

# %%
plots.feature_examples(evidence, studied.index, pieces, top=3, intervals=6, per_interval=2)

# %% [markdown]
# ## Specific and sensitive?

# %%
specific, specific_exact = case_study.specificity(studied, inside), case_study.specificity(studied, exact)
sensitive = case_study.sensitivity(studied, score)
covers = {"the context": case_study.cover(studied, inside), "DNA in both cases": case_study.cover(studied, exact)}
verdicts.record("A15", specific, "fig-dna-spectrum")
verdicts.record("A16", sensitive, "fig-dna-start")

# %% tags=["hide-input"]
#| label: fig-dna-spectrum
#| caption: Activations of {glue:text}`feature` by class of token; on the right weighted by the activation.
case_plots.spectrum(studied, kinds, CLASSES, "DNA")

# %% tags=["hide-input"]
#| label: fig-dna-strength
#| caption: Share of the active tokens that are DNA, by strength of the activation.
case_plots.by_strength({"score above zero": specific, "by the characters": specific_exact})

# %% [markdown]
# The paper says where its feature is silent: on the first few tokens of a sequence. How many tokens of evidence does
# ours want? Count the tokens from the beginning of each run.

# %%
def tokens_before(marks):
    """Of each marked token, how many marked tokens stand directly before it; -1 elsewhere."""
    before = np.full(marks.shape, -1)
    for column in range(1, marks.shape[1]):
        before[:, column] = np.where(marks[:, column], before[:, column - 1] + 1, -1)
    return before


# %% tags=["hide-input"]
#| label: fig-dna-start
#| caption: >-
#|   Share of tokens on which {glue:text}`feature` is active, by how many tokens of the same run stand before, in
#|   capitals and in lower case.
fired = evidence.dense(studied.index) > 0
before = tokens_before(exact)
lines = {}
for name, part in {"capitals": exact & upper_only, "lower case": exact & ~upper_only}.items():
    at = [part & (before == n) for n in range(13)]
    there = [n for n in range(13) if at[n].sum() >= 20]
    lines[name] = (there, [float(fired[at[n]].mean()) for n in there])
said = "; ".join(f"{name}: {y[0]:.0%} on the first, {y[-1]:.0%} later on" for name, (x, y) in lines.items() if x)
figure = plots.curves(lines, "tokens of the run before", "share active", f"Lines. {said}.")
figure.update_traces(mode="lines+markers")
figure.update_yaxes(range=[-0.02, 1.03], tickformat=".0%")

# %% tags=["remove-cell"]
there, active = lines["capitals"]
if not there or there[0] > 0:
    told = "There are too few beginnings of runs in capitals to tell"
else:
    amount = "Hardly any" if active[0] > 0.5 else "One token is not enough"
    told = f"{amount}: in capitals it is active on {active[0]:.0%} of the first tokens of a run"
chapter.number("evidence-told", told)

# %% [markdown]
# {glue:text}`evidence-told`. There the paper's feature is silent.

# %% tags=["hide-input"]
case_plots.cover_table(covers, studied, inside, exact, pieces)

# %% tags=["hide-input"]
#| label: fig-dna-union
#| caption: Recall on the second half of the text, as complements chosen on the first half are added.
case_plots.union(covers)

# %% tags=["remove-cell"]
recall_upper = evidence.recall([studied.index], exact & upper_only)
recall_lower = evidence.recall([studied.index], exact & ~upper_only)
chapter.number("correlation-sign", sensitive.correlation_sign, ".2f")
chapter.number("correlation", sensitive.correlation, ".2f")
chapter.number("recall", sensitive.recall, ".0%")
chapter.number("mass", specific.mass_in_context, ".0%")
chapter.number("lift", specific.lift, ".0f")
chapter.number("recall-upper", recall_upper, ".0%")
chapter.number("recall-lower", recall_lower, ".0%")
chapter.number("union-first", covers["DNA in both cases"].recall, ".0%")
chapter.number("union-recall", covers["DNA in both cases"].union_recall, ".0%")
if recall_lower < recall_upper - 0.2:
    told = "So it is a feature for DNA in capitals, and lower-case DNA is for another feature to know"
else:
    told = "So the feature does not mind the case, unlike the proxy by which it was found"
chapter.number("case-told", told)

# %% [markdown]
# {glue:text}`mass` of the activation falls on tokens with a score above zero, a lift of {glue:text}`lift`. The
# correlation with the sign is {glue:text}`correlation-sign`, with the positive part of the score
# {glue:text}`correlation`, and the recall {glue:text}`recall`.
#
# By the characters, the recall is {glue:text}`recall-upper` on capitals and {glue:text}`recall-lower` on lower case.
# {glue:text}`case-told`. Complements take the recall on both cases from {glue:text}`union-first` to
# {glue:text}`union-recall`. The claims table asks for complements in the other three contexts only, as the paper
# describes none for DNA.
#
# ## Just outside of the context
#
# Text at large leaves open *what* a feature has learned. The letters? A lack of words? Capitals in long lines? So write
# text that shares some of these properties and lacks others. Random sequences over other alphabets do it, and no corpus
# has to contain them.

# %%
def activations_on(line: str) -> np.ndarray:
    """Activations of the feature on the tokens of a text of its own."""
    tokens = model.to_ids(line)[:, : model.n_ctx]
    return sae.encode(harvest(model.network, tokens)[0, 1:])[:, studied.index].detach().numpy()


ALPHABETS = {
    "DNA": "ACGT", "dna": "acgt", "RNA": "ACGU", "proteins": "ACDEFGHIKLMNPQRSTVWY", "EFIL": "EFIL",
    "all capitals": "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "digits": "0123456789",
}  # fmt: skip
rng = np.random.default_rng(0)
made_up = {name: ["".join(rng.choice([*letters], 120)) for _ in range(20)] for name, letters in ALPHABETS.items()}
responses = {name: np.concatenate([activations_on(line)[4:] for line in lines]) for name, lines in made_up.items()}

# %% tags=["hide-input"]
#| label: fig-dna-outside
#| caption: >-
#|   Share of tokens on which {glue:text}`feature` is active, and mean activation as a share of its maximum on the
#|   text, on random sequences of seven alphabets. The first four tokens are left out.
shares = {name: float((values > 0).mean()) for name, values in responses.items()}
means = {name: float(values.mean() / studied.largest) for name, values in responses.items()}
figure = go.Figure()
figure.add_bar(x=[*shares], y=[*shares.values()], name="share active", marker_color=plots.PALETTE[0])
figure.add_bar(x=[*means], y=[*means.values()], name="mean, as share of its maximum", marker_color=plots.PALETTE[1])
figure.update_yaxes(tickformat=".0%")
said = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
plots.describe(figure, f"Grouped bars over seven alphabets. Share of tokens active: {said}.", barmode="group")

# %% tags=["remove-cell"]
for name in ALPHABETS:
    chapter.number(f"on-{name.replace(' ', '-')}", shares[name], ".0%")
near = max((name for name in ALPHABETS if name != "DNA"), key=means.get)
chapter.number("near", near)
chapter.number("near-ratio", means[near] / max(means["DNA"], 1e-9), ".0%")

# %% [markdown]
# The sequences are random: no gene, no organism, nothing of biology. On random DNA the feature is active on
# {glue:text}`on-DNA` of the tokens, on small letters on {glue:text}`on-dna`, on RNA, which has U in place of T, on
# {glue:text}`on-RNA`, on proteins on {glue:text}`on-proteins`, and on four other capitals on {glue:text}`on-EFIL`. The
# nearest neighbour is *{glue:text}`near`*, with {glue:text}`near-ratio` of the mean activation.
#
# ```{admonition} A trap: a name is a hypothesis
# :class: warning
# We call it a DNA feature because DNA is what the proxy was made for. Specificity was measured on text in which few
# other things look like DNA. A name says what a feature is about among the alternatives that were tried.
# ```
#
# ## What it does

# %%
of_context = proxies.alphabet_ratio(ids, pieces, proxies.DNA) > 0  # tokens that score above zero by themselves
reading = case_study.logit_reading(studied, of_context)
removed = case_study.ablation(studied, exact, n_contexts=chapter.size(quick=200, full=2000))
pinned = case_study.pinned(studied, PATTERN, n_samples=chapter.size(quick=128, full=1024), n_tokens=20)
verdicts.record("A18", reading, "fig-dna-logits")
verdicts.record("A19", removed, "fig-dna-ablation")
verdicts.record("A20", pinned, "fig-dna-dose")

# %% tags=["hide-input"]
#| label: fig-dna-logits
#| caption: Logit weights of {glue:text}`feature`, by whether a token scores above zero by itself.
case_plots.logits(reading, {"DNA tokens": of_context, "other tokens": ~of_context})

# %% tags=["hide-input"]
case_plots.top_logits(reading, pieces)

# %% tags=["hide-input"]
#| label: fig-dna-ablation
#| caption: >-
#|   What removing {glue:text}`feature` does to the true next token, with 95 % intervals over contexts. A bin without
#|   such tokens has no dot.
# numbers: 95 % (the level of the intervals)
case_plots.ablation(removed, "DNA")

# %% tags=["hide-input"]
#| label: fig-dna-dose
#| caption: Share of characters in runs of DNA in what the model writes with {glue:text}`feature` held at one value.
case_plots.dose(pinned, "DNA")

# %% tags=["hide-input"]
case_plots.samples(pinned)

# %% tags=["remove-cell"]
by_runs = proxies.occurrence_share(ids, exact, len(pieces)) > 0.5
other_reading = case_study.logit_reading(studied, by_runs)
chapter.number("logit-auc", reading.logit_auc, ".3f")
chapter.number("top20", reading.top20_in_context)
chapter.number("other-auc", other_reading.logit_auc, ".3f")
chapter.number("other-top20", other_reading.top20_in_context)
chapter.number("effect", removed.effect, "+.2f")
chapter.number("effect-elsewhere", removed.effect_elsewhere, "+.2f")
chapter.number("growth", case_plots.growth(removed))
chapter.number("pinned-share", pinned.pinned_share, ".0%")
chapter.number("double-share", pinned.shares[pinned.at(2)], ".0%")
chapter.number("unpinned-share", pinned.unpinned_share, ".1%")

# %% [markdown]
# A token of the vocabulary counts as DNA here if it scores above zero by itself, as the paper colours its histograms.
# The weights tell these from the rest with an AUC of {glue:text}`logit-auc`, and {glue:text}`top20` of the top twenty
# are among them. If one asks instead for tokens with more than half of their occurrences in a run of DNA, of either
# case, it is {glue:text}`other-auc` and {glue:text}`other-top20`. A definition is part of the number.
#
# Removing the feature changes the log-likelihood of a next token in DNA by {glue:text}`effect` nats, elsewhere by
# {glue:text}`effect-elsewhere`. {glue:text}`growth`. Pinned to its maximum it writes {glue:text}`pinned-share` DNA, at
# twice the maximum {glue:text}`double-share`, without pinning {glue:text}`unpinned-share`.
#
# ## Neurons, the twin and chance

# %%
match = case_study.neuron_match(studied, inside, exact, n_contexts=chapter.size(quick=400, full=2000))
verdicts.record("A21", match, "fig-dna-neuron")
twin = case_study.twin(studied, "B/1")
verdicts.record("A22", twin, "fig-dna-twin")

# %% tags=["hide-input"]
#| label: fig-dna-neuron
#| caption: >-
#|   {glue:text}`feature` beside the neuron that correlates best with it, weighted by activation.
case_plots.beside_neuron(studied, match, kinds, CLASSES, "DNA")

# %% tags=["hide-input"]
case_plots.neuron_table(match, {})

# %% tags=["hide-input"]
#| label: fig-dna-twin
#| caption: >-
#|   {glue:text}`feature` and its twin in the dictionary of model B, weighted by activation.
case_plots.beside_twin(studied, twin.feature, kinds, CLASSES, "DNA")

# %%
chance = controls.by_chance(
    studied, np.sign(score), exact, of_context, PATTERN,
    n_contexts=chapter.size(quick=100, full=1000), n_samples=chapter.size(quick=64, full=512),
)  # fmt: skip

# %% tags=["hide-input"]
case_plots.chance(chance)

# %% tags=["remove-cell"]
chapter.number("chance", max(found.correlation for name, found in chance.items() if name != "A/1"), ".2f")
chapter.number("neurons-ahead", case_plots.neurons_ahead(match))
chapter.number("ahead", case_plots.ahead(chance))
chapter.number("hardest", case_plots.hardest(chance, pinned.unpinned_share))

# %% [markdown]
# {glue:text}`neurons-ahead` With the binary score, the best that chance gives is a correlation of {glue:text}`chance`,
# against {glue:text}`correlation-sign`. {glue:text}`ahead`
#
# That was watching. What do the controls *do*? {glue:text}`hardest` The chapter {doc}`/book/structure/pareidolia` sets
# the AUC against one half and the pinned share against that without pinning. Where a control does better than that, it
# is the harder one to beat.
#
# ## What the paper found, what we found

# %% tags=["hide-input"]
# numbers: 0.80 (the paper's)
paper = {
    "A15": "all of 10 examples above 6.0 are DNA",
    "A16": "0.80, with the binary proxy",
    "A18": "the top tokens are nucleotides (AGT, GCC)",
    "A19": "hurts tokens after 5'-",
    "A21": "best neuron: DNA is a sliver of it",
    "A22": "0.92",
}
plots.table(["claim", "the paper found", "we found", "outcome"], verdicts.rows(paper))

# %% tags=["remove-cell"]
trained = dictionary_metadata("A/1")
chapter.number("rarer", trained["text"][0][1]["dna"] / training_text(model)[0][1]["dna"], ".2g")

# %% [markdown]
# **How our set-up differs.** The mini-pile, on which the models were trained, takes its DNA from FASTA, GenBank and
# sequencing reads in a few repositories; the embedded text makes it up. On this page {glue:text}`lower` of the DNA is
# in lower case. Our vocabulary is small, so that a token of DNA has few letters. In the text for the dictionary, the
# part of DNA has {glue:text}`rarer` × the share that it has in the model's; {doc}`/book/differences` says why.
#
# ```{admonition} Takeaways
# :class: note
# - A context that is an alphabet needs no labels: two probabilities for each token, and a running sum.
# - Make a score binary where its size says something else than "more of the context".
# - To learn what a feature is about, write text that lies just outside of its context.
# - How tokens are assigned to a context is part of every number about them. Say which way was used.
# ```
#
# ## Exercises
#
# ```{exercise-start} The running sum
# :label: ex-dna-sum
# ```
# *Difficulty 2/5 · importance 4/5 · 15 minutes.* Write `best_strings(ratio)`. For the log-likelihood ratios of tokens,
# `[n_contexts, n]`, it returns at each place the largest sum over strings of consecutive tokens that end there, with at
# least one token. Use one walk along the columns.
#
# ````{admonition} Hint 1
# :class: dropdown
# A string that ends here is this token alone, or it is this token behind a string that ends at the place before.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# `best[:, c] = ratio[:, c] + np.maximum(best[:, c - 1], 0)`.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def best_strings(ratio):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-dna-sum")
def check_best_strings(best_strings):
    ratio = np.random.default_rng(0).normal(-0.3, 1, (8, 15))
    given = ratio.copy()
    answer = np.asarray(best_strings(given))
    assert np.array_equal(given, ratio), "leave the array that you are given as it is"
    assert answer.shape == ratio.shape, "one sum for each place"
    right = [[max(row[first : last + 1].sum() for first in range(last + 1)) for last in range(15)] for row in ratio]
    assert not np.allclose(answer, np.maximum(right, 0)), "a string has at least one token: a sum may be below zero"
    assert not np.allclose(answer, ratio.cumsum(1)), "strings may begin anywhere, not only at the first token"
    assert np.allclose(answer, right), "not the largest sum over the strings that end at each place"


check_best_strings(best_strings)

# %% [markdown]
# ````{solution-start} ex-dna-sum
# :class: dropdown
# ````

# %%
def best_strings(ratio):
    best = ratio.copy()
    for column in range(1, ratio.shape[1]):
        best[:, column] += np.maximum(best[:, column - 1], 0)
    return best


ratio = proxies.alphabet_ratio(ids, pieces, proxies.DNA)[ids[:, 1:]]
print(f"above zero: {(best_strings(ratio) > 0).mean():.2%} of the tokens, with strings of one token allowed")
check_best_strings(best_strings)

# %% [markdown]
# It is the classical algorithm for the segment with the largest sum, stopped at every place.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
check_best_strings.refuses(lambda ratio: np.maximum(best_strings(ratio), 0), because="at least one token")
check_best_strings.refuses(lambda ratio: ratio.cumsum(1), because="begin anywhere")
check_best_strings.refuses(lambda ratio: ratio, because="not the largest sum")

# %% [markdown]
# ```{exercise-start} Why two tokens?
# :label: ex-dna-two
# ```
# *Difficulty 2/5 · importance 3/5 · 15 minutes.* Write `wrong_share(score, exact)`: of the tokens with a score above
# zero, the share that the characters do not confirm, leaving out column 0; 0 if there are none. Then compare scores
# with `at_least` 1, 2, 3 and 5 in `proxies.alphabet_proxy`. What do you pay for fewer false alarms?
#
# ````{admonition} Hint 1
# :class: dropdown
# `claimed = score[:, 1:] > 0` are the tokens that count.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# What you pay is recall: of the tokens of `exact` that are in capitals, how many still score above zero?
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def wrong_share(score, exact):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-dna-two")
def check_wrong_share(wrong_share):
    some_score = np.array([[9.0, 1, 2, -1, 3], [9.0, -1, -2, 4, 0]])
    truth = np.array([[0, 1, 0, 0, 0], [0, 0, 1, 1, 0]], bool)
    found = wrong_share(some_score.copy(), truth.copy())
    assert np.ndim(found) == 0, "return one number"
    assert not np.isclose(found, 4 / 6), "leave out column 0"
    assert not np.isclose(found, 2 / 8), "a share of the tokens with a score above zero, not of all"
    assert not np.isclose(found, 2 / 5), "a share of the tokens with a score above zero, not of the unmarked ones"
    assert np.isclose(found, 2 / 4), "of the tokens above zero, those that are not marked"
    assert wrong_share(-np.ones((2, 3)), np.zeros((2, 3), bool)) == 0, "0 where no token scores above zero"


check_wrong_share(wrong_share)

# %% [markdown]
# ````{solution-start} ex-dna-two
# :class: dropdown
# ````

# %%
def wrong_share(score, exact):
    claimed = score[:, 1:] > 0
    return (claimed & ~exact[:, 1:]).sum() / max(claimed.sum(), 1)


for at_least in (1, 2, 3, 5):
    its_score = proxies.alphabet_proxy(ids, pieces, proxies.DNA, at_least)
    kept = (its_score > 0)[exact & upper_only].mean()
    print(f"at least {at_least}: {wrong_share(its_score, exact):4.0%} wrong, {kept:4.0%} of DNA in capitals above zero")
check_wrong_share(wrong_share)

# %% [markdown]
# Longer strings are surer and later: the first tokens of every run are lost. The paper's choice of two is a compromise.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
def with_column_0(score, exact):
    return ((score > 0) & ~exact).sum() / max((score > 0).sum(), 1)


check_wrong_share.refuses(with_column_0, because="column 0")
check_wrong_share.refuses(lambda score, exact: ((score > 0) & ~exact)[:, 1:].mean(), because="not of all")
check_wrong_share.refuses(lambda score, exact: (score > 0)[:, 1:][~exact[:, 1:]].mean(), because="not of the unmarked")

# %% [markdown]
# ```{exercise-start} Memory of one token
# :label: ex-dna-memory
# ```
# *Difficulty 3/5 · importance 5/5 · 25 minutes.* The feature is active deep within a sequence. Does it know from the
# sequence, or from the last tokens alone? Write `after_cut(line, keep)`: the activation on the last token of a text
# when the model sees only the last `keep` tokens of it. Use `model.to_ids`, which puts the beginning-of-sequence token
# in front, and the feature's own encoder through `harvest`.
#
# ````{admonition} Hint 1
# :class: dropdown
# `activations_on`, above, does it for a whole text. Cut the ids, not the characters: `ids = model.to_ids(line)[0, 1:]`.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# Put the first token of `model.to_ids(line)` back in front of the last `keep` ids, harvest, and take the last place.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def after_cut(line, keep):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-dna-memory")
def check_after_cut(after_cut):
    line = made_up["DNA"][0]
    whole = activations_on(line)
    n = len(whole)
    found = float(after_cut(line, n))
    assert np.isclose(found, whole[-1], atol=1e-4), "with all tokens kept, the activation is that on the whole text"
    tokens = model.to_ids(line)[0, 1:].tolist()
    for keep in (1, 3, 10):
        cut = b"".join(pieces[token] for token in tokens[-keep:]).decode()
        if model.to_ids(cut)[0, 1:].tolist() == tokens[-keep:]:  # the characters are cut into the same tokens
            right = activations_on(cut)[-1]
            found = float(after_cut(line, keep))
            first = activations_on(cut)[0]
            assert not np.isclose(found, first, atol=1e-4) or np.isclose(first, right, atol=1e-4), "take the last token"
            assert np.isclose(found, right, atol=1e-4), f"where {keep} tokens are kept: the last ones, behind token 0"


check_after_cut(after_cut)

# %% [markdown]
# ````{solution-start} ex-dna-memory
# :class: dropdown
# ````

# %%
def after_cut(line, keep):
    tokens = model.to_ids(line)
    kept = tokens[:, [0, *range(tokens.shape[1] - keep, tokens.shape[1])]]
    return sae.encode(harvest(model.network, kept)[0, -1:])[0, studied.index].item()


for keep in (1, 2, 4, 8, 16, 32):
    strengths = [after_cut(line, keep) for line in made_up["DNA"]]
    print(f"{keep:2} tokens: mean {np.mean(strengths):.2f}, active on {np.mean(np.array(strengths) > 0):.0%}")
check_after_cut(after_cut)

# %% [markdown]
# Where the activation grows with what is kept, attention has brought evidence from before. A feature of a one-layer
# model reads the token and a summary of its past.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
def first_ones(line, keep):
    tokens = model.to_ids(line)[:, : 1 + keep]
    return sae.encode(harvest(model.network, tokens)[0, -1:])[0, studied.index].item()


check_after_cut.refuses(lambda line, keep: after_cut(line, 1), because="with all tokens kept")
check_after_cut.refuses(lambda line, keep: float(activations_on(line)[-1]), because="the last ones")
check_after_cut.refuses(lambda line, keep: activations_on(line).max() + 1, because="with all tokens kept")

# %% [markdown]
# ```{exercise-start} Fool it
# :label: ex-dna-fool
# ```
# *Difficulty 4/5 · importance 4/5 · 30 minutes.* Open-ended. Find a text that is not DNA and yet makes the feature
# active: at least 60 characters and 20 tokens, no run of DNA in it by `proxies.DNA_RUN`, and the feature active on at
# least one token in five. Put it into `fool`. What do your best attempts have in common?
#
# ````{admonition} Hint 1
# :class: dropdown
# `activations_on(fool)` tells at once. Begin with what {numref}`fig-dna-outside` calls near, or cut runs short.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# Or let the text tell you: the weak activations in {numref}`fig-dna-spectrum` that are not DNA. Which lines are they
# in?
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
fool = None


# %% tags=["check", "hide-input"]
@check("ex-dna-fool")
def check_fool(fool):
    assert isinstance(fool, str) and len(fool) >= 60, "give a text of at least 60 characters"
    assert not PATTERN.search(fool), f"{PATTERN.search(fool)[0]!r} is a run of DNA"
    values = activations_on(fool)
    assert len(values) >= 20, f"only {len(values)} tokens; write more"
    share = float((values > 0).mean())
    assert share >= 0.2, f"the feature is active on {share:.0%} of the tokens"


check_fool(fool)

# %% [markdown]
# ````{solution-start} ex-dna-fool
# :class: dropdown
# ````

# %%
candidates = ["ACGTAC " * 12, "CAT TAG GAT ACT TAC " * 5, "ACGTACG\n" * 12, *made_up["RNA"][:3], *made_up["EFIL"][:3]]
elsewhere = np.where(exact, 0, evidence.dense(studied.index))
for row in np.argsort(-(elsewhere > 0).sum(1))[:60]:  # contexts with most of its activity outside of DNA
    at = int((elsewhere[row] > 0).cumsum()[32:].argmax())  # somewhere in the thick of it
    for first in {max(1, at - 40), at, np.flatnonzero(elsewhere[row] > 0)[0]}:
        candidates.append(b"".join(pieces[token] for token in ids[row, first : first + 40]).decode(errors="ignore"))
candidates = [c for c in candidates if len(c) >= 60 and not PATTERN.search(c) and len(activations_on(c)) >= 20]
fool = max(candidates, key=lambda candidate: (activations_on(candidate) > 0).mean())
print(repr(fool))
print(f"active on {(activations_on(fool) > 0).mean():.0%} of the tokens, up to {activations_on(fool).max():.2f}")
check_fool(fool)

# %% [markdown]
# Texts that fool a feature are its definition, read from the other side.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
check_fool.refuses("ACGT" * 20, because="is a run of DNA")
plain = "The feature should stay silent here, for this is plain English and nothing but that, from first to last."
check_fool.refuses(plain, because="is active on")
check_fool.refuses("ACGTAC", because="at least 60")
