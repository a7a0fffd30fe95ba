# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # A feature for Arabic script
#
# A dictionary element that lights up on Arabic text is easy to find and easy to believe in. This chapter asks for
# more. It tests one feature against the five claims that *Towards Monosemanticity* makes about its four example
# features {cite}`bricken2023monosemanticity`. It is the worked example: the chapters that follow put other features to
# the same test, with the same few lines, and explain only what is new.
#
# ```{admonition} Before you start
# **You will be able to**
# - turn "this text is Arabic" into a score for every token, and say where the score is wrong;
# - measure how specific and how sensitive a feature is, and why one without the other proves nothing;
# - show what a feature does to the model's output, by reading weights, by removing it and by holding it fixed;
# - check that no single neuron does the same, and that chance does not do it either.
#
# **You need** the chapters on {doc}`the language model </book/model/one_layer_model>` and on {doc}`training a
# dictionary </book/dictionary/training>`.
#
# **Time**: 50 minutes to read, about a minute to run.
# ```
#
# The **five claims** about a feature and its context:
#
# 1. **Specificity**: where the feature is active, the text is of that context.
# 2. **Sensitivity**: where the text is of that context, the feature is active.
# 3. **Downstream effect**: the feature makes the model predict that context.
# 4. **Not a neuron**: no single neuron does what the feature does.
# 5. **Universality**: a model trained from another seed has the feature, too.
#
# Two steps stand around them. Before: a **proxy**, a score that says where the context is. After: **controls**, the
# same search where there is nothing to be found. Each of the seven steps is a function of
# {doc}`sae_core.case_study </book/api>`, and the code below shows what goes in and what comes out.

# %%
from sae_core import proxies

NAME, TITLE = "arabic", "Arabic"
SCRIPT = proxies.ARABIC
PATTERN = proxies.script_pattern(SCRIPT)

# %% tags=["hide-input"]
from collections import Counter

import numpy as np

from sae_core import case_plots, case_study, chapter, controls, plots
from sae_core.autoencoder import dictionary_metadata, load_dictionary
from sae_core.case_study import Feature
from sae_core.evidence import Evidence, feature_evidence
from sae_core.exercises import check
from sae_core.language_model import load_model
from sae_core.metrics import auc
from sae_core.runs import training_text
from sae_core.tokens import Contexts, token_bytes
from sae_core.verdicts import Verdicts

# %%
model = load_model("A")
sae = load_dictionary("A/1")
pieces = token_bytes(model.tokenizer)
contexts, touches, text, why_text = case_study.text_with(model, PATTERN, TITLE, chapter.size(quick=4000, full=40_000))
ids = contexts.ids
verdicts = Verdicts(NAME, text, page=f"features/{NAME}")  # puts what follows into the table of claims

# %% tags=["remove-cell"]
chapter.number("text", text)
chapter.number("why-text", why_text)
chapter.number("tokens", ids[:, 1:].size, ",")
chapter.number("contexts", len(ids), ",")
chapter.number("contexts-with", int(touches.any(1).sum()))

# %% [markdown]
# This page was run on {glue:text}`why-text`: {glue:text}`tokens` tokens that the model was not trained on. Arabic
# stands in {glue:text}`contexts-with` of {glue:text}`contexts` contexts. Tokens of one context resemble each other, so
# the numbers below are worth as much as that many draws, and not as many as there are tokens.
#
# ## A score for "this is Arabic"
#
# To say how well a feature follows a context, you need to know where the context is. For Arabic script you could look
# at the characters. For "base64" or "DNA" nobody has labelled the text. So the paper scores every token in a way that
# works for all of them. Such a score is called a **proxy**: it stands in for labels that do not exist.
#
# The proxy is a **log-likelihood ratio**. Take a string $s$ that ends at the token, and ask how much more likely it
# is in the context $A$ than in text at large:
#
# $$
# \text{score} = \max_s \, \log \frac{P(s \mid A)}{P(s)}
# $$
#
# Why a ratio? Because a frequent string is frequent everywhere. The ratio asks what the string *says about* the
# context. Why a logarithm? Evidence then adds up, and zero is the border: above it, the string speaks for the
# context. Why a maximum? One does not know in advance how far back to look.
#
# For a script, Bayes' rule turns this around into something that can be read off the characters:
#
# $$
# \log \frac{P(s \mid A)}{P(s)} = \log \frac{P(A \mid s)}{P(A)}
# $$
#
# $P(A \mid s)$ is 1 if all characters of $s$ are in the script's Unicode blocks. It is $10^{-10}$ if any is not, and
# spaces, digits and punctuation are not. Some tokens end within a character. For such a token $P(A \mid s)$ is the
# share of its occurrences that belong to a character of the script. $P(A)$ is the share of the text that is in the
# script.
#
# One rule is ours and not in the paper's definition: a string begins where a character begins. The box below asks what
# it is good for.

# %%
score = proxies.script_proxy(ids, pieces, SCRIPT)
in_context = score > 0

# %% [markdown]
# There is a second way, which only scripts allow. Decode the bytes around the token and look which character it is
# part of. `touches`, which came with the text, says that for every token. It is exact, so we can check the proxy
# against it.
#
# ```{admonition} Predict
# :class: tip
# In UTF-8 an Arabic letter takes two bytes, and so do Hebrew, Armenian and Cyrillic ones. The second bytes come from
# one common set. A token that is such a second byte and nothing else stands after the first byte of a *Hebrew*
# letter. What would the proxy say without our rule, and what does it say with it?
# ```

# %% tags=["hide-input"]
CLASSES = [TITLE, f"{TITLE} behind a space", "byte of another script", "other text"]
kind = case_study.classes(in_context, touches)
row, line = case_plots.mixed_stretch(kind)
case_plots.coloured(ids[row, line], kind[row, line], score[row, line], CLASSES, pieces)

# %% tags=["hide-input"]
case_plots.class_table(ids, kind, score, CLASSES, pieces)

# %% tags=["remove-cell"]
sizes = np.bincount(kind[:, 1:].ravel(), minlength=4)
base_rate, base_rate_exact = float(in_context[:, 1:].mean()), float(touches[:, 1:].mean())
chapter.number("base-rate", base_rate, ".2%")
chapter.number("base-rate-exact", base_rate_exact, ".2%")
chapter.number("shared", sizes[2] / max(sizes[0] + sizes[2], 1), ".0%")
chapter.number("spaced", sizes[1] / max(sizes[0] + sizes[1], 1), ".0%")

# %% [markdown]
# The line above was picked by the code because it mixes the classes. Hover over a token to see its score.
#
# Without the rule, the lone second byte would be a string of its own. It would score by how often that byte is Arabic,
# and the maximum would keep this score even where the byte before it says Hebrew. With the rule, the shortest string
# that ends there is the whole letter, and the letter is Hebrew.
#
# The proxy and the characters still disagree in two ways.
#
# - **First bytes of other scripts can score above zero.** Nobody can know what follows a first byte. If it is more
#   often Arabic than the average token, its score is positive. Of all tokens with a score above zero,
#   {glue:text}`shared` belong to another script.
# - **Arabic tokens that begin with a space score below zero**, because a space counts as outside. Of the tokens that
#   hold Arabic, {glue:text}`spaced` are of this kind.
#
# We therefore count both ways. **In context** means a score above zero, the paper's rule, and the table of claims
# goes by it. **In the script** means that the token holds an Arabic character or part of one.
#
# ```{admonition} A trap: the base rate
# :class: warning
# {glue:text}`base-rate` of the tokens are in context, {glue:text}`base-rate-exact` are in the script. A base rate
# limits what you can find. If one token in ten were in context, a perfect feature would be only ten times better than
# chance.
# ```
#
# ## Finding the feature
#
# We do not type the feature's number. It is the one whose activation correlates best with the positive part of the
# proxy.

# %%
evidence = feature_evidence(model, sae, contexts)
correlation = evidence.correlations(np.maximum(score, 0))
feature = int(correlation.argmax())
studied = Feature(model, sae, evidence, feature)  # what every step below is given

# %% tags=["hide-input"]
best = np.argsort(-correlation)[:5]
correlation_sign, correlation_exact = evidence.correlations(in_context), evidence.correlations(touches)
plots.table(
    ["feature", "with the proxy", "with its sign", "with the characters", "active on", "mostly"],
    [
        (
            f"A/1/{i}", f"{correlation[i]:.2f}", f"{correlation_sign[i]:.2f}", f"{correlation_exact[i]:.2f}",
            f"{evidence.density[i]:.2%}", case_plots.most_frequent(ids.ravel()[evidence.of(i)[0]], pieces, 4),
        )
        for i in best
    ],
)  # fmt: skip

# %% tags=["remove-cell"]
values, largest, hits_exact = studied.values, studied.largest, studied.at_places(touches)
chapter.number("feature", studied.name)
chapter.number("correlation", correlation[feature], ".2f")
chapter.number("correlation-sign", correlation_sign[feature], ".2f")
chapter.number("correlation-exact", correlation_exact[feature], ".2f")
chapter.number("correlation-second", correlation[best[1]], ".2f")
by_characters = int(correlation_exact.argmax())
if by_characters == feature:
    agree = "The characters choose the same feature"
else:
    agree = f"The characters would choose another, A/1/{by_characters}, with {correlation_exact[by_characters]:.2f}"
chapter.number("agree", agree)

# %% [markdown]
# The best feature is {glue:text}`feature`, with a correlation of {glue:text}`correlation`. The next best has
# {glue:text}`correlation-second`. {glue:text}`agree`; there {glue:text}`feature` has {glue:text}`correlation-exact`.
# From here on, *the feature* is {glue:text}`feature`. Here is what it fires on:

# %%
plots.feature_examples(evidence, feature, pieces, top=4, intervals=6, per_interval=2)

# %% [markdown]
# The underlined token is the one that was drawn; the shade is the feature's activation. Tokens stand from left to
# right, also in a script that runs the other way. The first rows are its strongest examples, the others were drawn at
# random from six equal intervals of its range. Read the bottom rows with as much care as the top. Anyone can make a
# feature look good with its ten best examples.
#
# ## Claim 1: specificity
#
# ```{admonition} Predict
# :class: tip
# Take all tokens on which the feature is active. Which share of them is Arabic: 20 %, 50 %, or 90 %? And if each
# token counts in proportion to the activation?
# ```

# %%
#| label: fig-spectrum
#| caption: >-
#|   Activations of {glue:text}`feature`, coloured by the class of the token. Left, every active token counts once.
#|   Right, it counts as much as it is active.
case_plots.spectrum(studied, kind, CLASSES, TITLE)

# %% [markdown]
# A weak activation moves the model's output little. So look at both panels. The left one says how often you would be
# wrong if you took any activation as a sign of Arabic. The right one says how much of what the feature adds to the
# model is added in the right place.

# %%
specific = case_study.specificity(studied, in_context)
specific_exact = case_study.specificity(studied, touches)
verdicts.record("A15", specific, "fig-specificity")

# %% tags=["hide-input"]
#| label: fig-specificity
#| caption: >-
#|   Share of the active tokens that are in context (score above zero) and in the script (by the characters), by
#|   strength of the activation.
case_plots.by_strength({"in context": specific, "in the script": specific_exact})

# %% tags=["hide-input"]
# numbers: 25 % (the paper's)
WORDS = {
    "base_rate": ("base rate", "0.13 %", ".2%"),
    "active_in_context": ("share of the active tokens", "81 %", ".0%"),
    "weakest_in_context": ("… of the weakest tenth", "25 % when barely on", ".0%"),
    "strongest_in_context": ("… of the strongest tenth", "98 % above 5", ".0%"),
    "mass_in_context": ("share of the summed activation", "a figure", ".0%"),
    "lift": ("lift", "–", ".0f"),
}
plots.table(
    ["", "the paper", "in context", "in the script"],
    [
        (name, paper, *(f"{getattr(found, key):{f}}" for found in (specific, specific_exact)))
        for key, (name, paper, f) in WORDS.items()
    ],
)

# %% tags=["remove-cell"]
chapter.number("lift-limit", 1 / base_rate, ".0f")
chapter.number("lift-limit-exact", 1 / base_rate_exact, ".0f")

# %% [markdown]
# The **lift** divides the share among active tokens by the base rate: how many times more often than by chance the
# feature is right. With these base rates a perfect feature would reach {glue:text}`lift-limit` in context and
# {glue:text}`lift-limit-exact` in the script. The paper's base rate leaves room for 769.
#
# ```{admonition} A trap: specificity alone
# :class: warning
# A feature that fires on one Arabic word and nothing else is perfectly specific. It would not be a feature for
# Arabic. Specificity asks what an activation tells you. It says nothing about where the feature keeps silent.
# ```
#
# ## Claim 2: sensitivity
#
# **Recall** is the share of the tokens in context on which the feature is active. The paper reports a correlation
# "thresholded at 0" without saying how. It may mean the positive part of the score, or just its sign, so we report
# both.

# %%
sensitive = case_study.sensitivity(studied, score)
recall_exact = evidence.recall([feature], touches)
verdicts.record("A16", sensitive, "fig-missed")

# %% tags=["remove-cell"]
chapter.number("recall", sensitive.recall, ".0%")
chapter.number("recall-exact", recall_exact, ".0%")

# %% [markdown]
# | | the paper | in context | in the script |
# |---|---|---|---|
# | correlation with the positive part of the score | 0.74 | {glue:text}`correlation` | – |
# | correlation with yes or no | | {glue:text}`correlation-sign` | {glue:text}`correlation-exact` |
# | recall | not stated | {glue:text}`recall` | {glue:text}`recall-exact` |
#
# ```{admonition} Predict
# :class: tip
# Which tokens does it miss? Think of what the proxy gets wrong, and of what the paper found: its feature was silent
# on the first byte of a letter and on the article "al-".
# ```

# %% tags=["hide-input"]
#| label: fig-missed
#| caption: The tokens that {glue:text}`feature` misses most often, each split by class.
case_plots.missed(studied, kind, CLASSES, pieces)

# %% tags=["hide-input"]
missed = (kind < 3) & (evidence.dense(feature) == 0)
rows = []
for token, count in Counter(ids[missed & touches].tolist()).most_common(8):
    there = touches & (ids == token)
    of_script = there.sum() / touches.sum()
    rows.append((case_plots.shown([token], pieces), count, f"{count / there.sum():.0%}", f"{of_script:.1%}"))
plots.table(["token in the script", "missed", "share of its occurrences", "share of the script's tokens"], rows)

# %% tags=["remove-cell"]
chapter.number("missed", int(missed.sum()), ",")
chapter.number("missed-exact", (missed & touches).sum() / max(missed.sum(), 1), ".0%")

# %% [markdown]
# Of {glue:text}`missed` missed tokens, {glue:text}`missed-exact` are in the script at all. The others are misses of
# the proxy, not of the feature. The table lists the true ones.
#
# ### Other features in the gaps
#
# A dictionary has many features, and one context may be split among several. So ask whether others fire where this
# one is silent. The search is greedy: take the feature that covers most of what is still missed, then the next.
#
# Three rules keep the search honest. A feature that fires on everything covers everything, so a candidate must be in
# context on at least half of the tokens on which it fires. It must cover at least one percent more. And a search
# among thousands finds something by luck, so the features are chosen on one half of the text and counted on the
# other.

# %%
covers = {"the context": case_study.cover(studied, in_context), "the script": case_study.cover(studied, touches)}
verdicts.record("A17", covers["the context"], "fig-union")

# %% tags=["hide-input"]
#| label: fig-union
#| caption: >-
#|   Recall on the second half of the text, as features that were chosen on the first half are added one after the
#|   other, once for the tokens in context and once for those in the script.
case_plots.union(covers)

# %% tags=["hide-input"]
case_plots.cover_table(covers, studied, in_context, touches, pieces)

# %% tags=["remove-cell"]
for name, found in covers.items():
    if found.complements:
        told = f"{found.complements} more take the recall from {found.recall:.0%} to {found.union_recall:.0%}"
    else:
        told = f"no other feature meets the three rules, and the recall stays at {found.recall:.0%}"
    chapter.number(f"union-{name.split()[1]}", told)

# %% [markdown]
# For the tokens in context, {glue:text}`union-context`. For those in the script, {glue:text}`union-script`. The
# paper describes such complements for Arabic: one on the first byte of a letter, one on the article "al-".
#
# ## Claim 3: what the feature does to the output
#
# So far we only watched. A pattern that goes along with Arabic need not *do* anything. Three experiments ask what the
# model does with the feature.
#
# ### Reading the weights
#
# The feature's direction goes through the MLP's output matrix into the residual stream, and from there through the
# final LayerNorm and the unembedding to the logits. All of this is linear, except for one positive factor. The result
# is one **logit weight** for each token of the vocabulary: how much the feature raises or lowers that token. A
# constant added to all logits changes no probability, so the median is subtracted.
#
# A token of the vocabulary counts as one of the context if more than half of its occurrences are in the script.
# Tokens that are rarer than five occurrences on this page's text are left out, as the paper leaves out extremely rare
# ones.

# %%
share = proxies.occurrence_share(ids, touches, len(pieces))
reading = case_study.logit_reading(studied, of_context=share > 0.5)
verdicts.record("A18", reading, "fig-logits")

# %% tags=["hide-input"]
#| label: fig-logits
#| caption: >-
#|   Logit weights of {glue:text}`feature`, as shares of each class of tokens in the vocabulary. The median over all
#|   tokens is at zero.
groups = {TITLE: share > 0.5, "sometimes part of it": (share > 0) & (share <= 0.5), "other tokens": share == 0}
case_plots.logits(reading, groups)

# %% tags=["hide-input"]
case_plots.top_logits(reading, pieces)

# %% tags=["remove-cell"]
chapter.number("logit-auc", reading.logit_auc, ".3f")
chapter.number("top20", reading.top20_in_context)
chapter.number("context-tokens", int((reading.kept & reading.of_context).sum()))

# %% [markdown]
# The **AUC** says how often a token of the context, drawn at random, has a larger weight than another token. One half
# is chance and 1 is perfect. Here it is {glue:text}`logit-auc`. Of the twenty tokens with the largest weight,
# {glue:text}`top20` are among the {glue:text}`context-tokens` tokens of the context.
#
# Note what is compared. Claims 1 and 2 were about the tokens that the feature *reads*. The logit weights are about
# the token that comes *next*. If both are Arabic, that is a finding, not a matter of course: in a language of "if
# this, then that" the two could be different.
#
# ### Removing the feature
#
# Weights say what the feature would do. To see what it does on real text, take its contribution out: on every token
# $\mathbf{x} \leftarrow \mathbf{x} - f\,\mathbf{d}$, with $f$ the feature's activation and $\mathbf{d}$ its
# direction. Everything else stays, even what the dictionary fails to reconstruct. Then see how the log-likelihood of
# the true next token changes.
#
# ```{admonition} Predict
# :class: tip
# Where the feature is active, the next token may be in the script or not, say a full stop. What does the removal do
# to each of the two? How does it depend on the activation?
# ```

# %%
removed = case_study.ablation(studied, touches, n_contexts=chapter.size(quick=200, full=2000))
verdicts.record("A19", removed, "fig-ablation")

# %% [markdown]
# Up to half of these contexts hold Arabic and the others do not, drawn at random from those in which the feature is
# active. In a model of one layer, nothing comes after the MLP but the unembedding. So the removal at one token
# changes the prediction of the next token only.

# %% tags=["hide-input"]
#| label: fig-ablation
#| caption: >-
#|   What removing the feature does to the log-likelihood of the true next token, by strength of the activation. Bars
#|   are 95 % confidence intervals that draw whole contexts. A bin without such tokens has no dot.
# numbers: 95 % (the level of the intervals)
case_plots.ablation(removed, TITLE)

# %% tags=["remove-cell"]
chapter.number("effect", removed.effect, "+.3f")
chapter.number("effect-interval", f"{removed.inside.lower:+.3f} to {removed.inside.upper:+.3f}")
chapter.number("effect-elsewhere", removed.effect_elsewhere, "+.3f")
chapter.number("elsewhere-interval", f"{removed.elsewhere.lower:+.3f} to {removed.elsewhere.upper:+.3f}")
chapter.number("effect-weakest", removed.inside_by_strength[0].mean, "+.3f")
chapter.number("effect-strongest", removed.inside_by_strength[-1].mean, "+.3f")
chapter.number("growth", case_plots.growth(removed))
chapter.number("ablated-contexts", len(removed.contexts))
chapter.number("ablated-with", int(touches.any(1)[removed.contexts].sum()))

# %% [markdown]
# <!-- numbers: 95 % (the level of the intervals) -->
#
# | next token | mean change in nats | 95 % interval |
# |---|---|---|
# | in the script | {glue:text}`effect` | {glue:text}`effect-interval` |
# | not in the script | {glue:text}`effect-elsewhere` | {glue:text}`elsewhere-interval` |
#
# The bins are fifths of the active tokens before an Arabic one. From the weakest to the strongest the mean goes from
# {glue:text}`effect-weakest` to {glue:text}`effect-strongest`. {glue:text}`growth`. The paper shows that the removal
# hurts all Arabic tokens in its examples, that it helps the full stop, and that the effect grows with the activation;
# it gives no numbers.
#
# ```{admonition} A trap: tokens are not independent
# :class: warning
# Two tokens of one Arabic page resemble each other. Treated as independent draws they make an interval too narrow.
# The intervals here come from a bootstrap that draws whole contexts ({glue:text}`ablated-contexts` of them,
# {glue:text}`ablated-with` with Arabic).
# ```
#
# ### Holding the feature fixed
#
# The strongest test is to make the feature active where nothing calls for it. **Pinned sampling** holds it at one
# value on every token while the model writes. The paper starts from a prefix that has nothing to do with Arabic, the
# numbers from 1 to 10.

# %%
pinned = case_study.pinned(studied, PATTERN, n_samples=chapter.size(quick=128, full=1024), n_tokens=20)
verdicts.record("A20", pinned, "fig-dose")

# %% tags=["hide-input"]
case_plots.samples(pinned)

# %% tags=["hide-input"]
#| label: fig-dose
#| caption: >-
#|   Share of characters in the script in what the model writes, by the value at which {glue:text}`feature` is held.
case_plots.dose(pinned, TITLE)

# %% tags=["remove-cell"]
chapter.number("samples", pinned.samples)
chapter.number("pinned-share", pinned.pinned_share, ".0%")
chapter.number("double-share", pinned.shares[pinned.at(2)], ".0%")
chapter.number("unpinned-share", pinned.unpinned_share, ".1%")

# %% [markdown]
# Pinned to its maximum, the feature makes the model write {glue:text}`pinned-share` Arabic characters, against
# {glue:text}`unpinned-share` without ({glue:text}`samples` continuations of twenty tokens each). At twice the maximum
# it is {glue:text}`double-share`. Spaces, punctuation and broken characters count as not Arabic.
#
# The claim goes by the maximum, as the paper does. Why look beyond? The L1 penalty shrinks activations, so that what
# the dictionary calls the maximum falls short of what the model itself had there. Mind also that the model never sees
# the maximum on every token. Pinning asks what the feature *can* do. Removing it asks what it *does*. You need both.
#
# ## Claim 4: not a neuron
#
# If one neuron did the same, the dictionary would have told us nothing new. We compare in three ways: the best neuron
# by correlation, on all of the text; how well each neuron tells what is in context; and whether the script shows up in
# any neuron's twenty strongest examples. The last two take longer, so they get fewer contexts, with enough Arabic among
# them. A snippet is long and may hold Arabic by chance, so that number stands beside one of snippets drawn at random.

# %%
match = case_study.neuron_match(studied, in_context, touches, n_contexts=chapter.size(quick=400, full=2000))
verdicts.record("A21", match, "fig-neuron")

# %% tags=["hide-input"]
#| label: fig-neuron
#| caption: >-
#|   {glue:text}`feature` and the neuron that correlates best with it, weighted by activation, as on the right of
#|   {numref}`fig-spectrum`.
case_plots.beside_neuron(studied, match, kind, CLASSES, TITLE)

# %% tags=["hide-input"]
# numbers: 10,240 (the paper's)
of_neurons = {
    "best_neuron_correlation": "0.18 base64, 0.1 Hebrew", "neuron_examples": "1 of 10,240", "most": "1",
    "large_coefficients": "27", "negative_top3": "3",
}  # fmt: skip
case_plots.neuron_table(match, of_neurons)

# %% tags=["remove-cell"]
chapter.number("neurons-ahead", case_plots.neurons_ahead(match))

# %% [markdown]
# {glue:text}`neurons-ahead`
#
# Last, the other way round: how many neurons does the feature consist of? Its decoder row has unit length and one
# coefficient for each neuron. If the feature were one neuron, its largest coefficient would be 1.

# %% tags=["hide-input"]
#| label: fig-coefficients
#| caption: The coefficients of {glue:text}`feature` in the basis of neurons, the largest first.
case_plots.coefficients(match)

# %% [markdown]
# ```{admonition} A trap: AUC and rare things
# :class: warning
# AUC gives the same weight to every pair of a token inside and one outside. Where the context is rare, a detector can
# rank it high and still be drowned in false alarms: a neuron that is active on everything foreign may have a fine
# AUC. A sparse feature, on the other hand, pays for every token that it misses with a tie at zero. So the table also
# asks, of the strongest tokens of each, as many as are in context, how many are right.
# ```
#
# ## Claim 5: universality
#
# A feature might be an accident of one training run. So look for it in another: model B has the recipe of model A
# and another seed. Its dictionary B/1 was trained in the same way. The **twin** is the feature of B/1 whose activation
# correlates best with ours on the same tokens. It was searched for without the proxy.

# %%
twin = case_study.twin(studied, "B/1")
verdicts.record("A22", twin, "fig-twin")

# %% tags=["hide-input"]
#| label: fig-twin
#| caption: >-
#|   {glue:text}`feature` and its twin, weighted by activation.
case_plots.beside_twin(studied, twin.feature, kind, CLASSES, TITLE)

# %% tags=["remove-cell"]
chapter.number("twin", twin.feature.name)
chapter.number("twin-correlation", twin.twin_correlation, ".2f")
chapter.number("twin-logits", twin.twin_logit_correlation, ".2f")

# %% [markdown]
# The twin is {glue:text}`twin`. Its activations correlate with ours to {glue:text}`twin-correlation`, its logit weights
# to {glue:text}`twin-logits`. The paper reports 0.91 for the activations and only 0.23 for the logit weights. A low
# correlation of the weights need not mean that the two do different things. Most of the vocabulary lies in the middle
# of the histogram, where weights are small and say little.
#
# ## Controls: what chance gives
#
# The feature was chosen out of thousands because it fits. The best of thousands fits something by luck. How much?
# Search in the same way where there is nothing to be found:
#
# - **random/1**: a dictionary trained on model A with the entries of every weight matrix shuffled. Such a model knows
#   no Arabic, but its neurons still see which token is there. The paper uses it, too.
# - **an untrained dictionary** for model A: random directions, each active as often as a feature of A/1.
# - **shuffled text**: the features of A/1, while each context gets the scores of another one.

# %%
chance = controls.by_chance(
    studied, score, touches, share > 0.5, PATTERN,
    n_contexts=chapter.size(quick=100, full=1000), n_samples=chapter.size(quick=64, full=512),
)  # fmt: skip

# %% tags=["hide-input"]
case_plots.chance(chance)

# %% tags=["remove-cell"]
worst = max(found.correlation for name, found in chance.items() if name != "A/1")
chapter.number("chance-correlation", worst, ".2f")
chapter.number("chance-mass", max(found.mass_in_context for name, found in chance.items() if name != "A/1"), ".0%")
chapter.number("ahead", case_plots.ahead(chance))
chapter.number("hardest", case_plots.hardest(chance, pinned.unpinned_share))
aucs = [found.logit_auc for name, found in chance.items() if name != "A/1" and found.logit_auc is not None]
if max(aucs) < 0.75:
    told = "So what the weights say is harder to get by chance than what the activations say"
else:
    told = "So weights can look good by chance, too: of thousands of directions, some point at a script"
chapter.number("weights-told", told)

# %% [markdown]
# The best control reaches a correlation of {glue:text}`chance-correlation`, the feature {glue:text}`correlation`.
# {glue:text}`ahead` Read the rows, not only the columns. A token itself says much about its script, and neurons see the
# token whatever the weights are. So watching alone, with its share of the activation of up to
# {glue:text}`chance-mass`, can look like something for a control.
#
# What does a control *do*? {glue:text}`hardest` {glue:text}`weights-told`. The chapter
# {doc}`/book/structure/pareidolia` sets the AUC against one half and the pinned share against that without pinning.
# Where a control does better than that, it is the harder one to beat.
#
# ## Verdict
#
# The bars were set before anything was measured and are listed in the {doc}`table of claims </book/claims>`. Claims
# 1, 2 and 4 go by what is in context, the paper's rule; the effects of claim 3 go by what is in the script. An
# outcome is *partly* if some of a claim's bars hold, *contradicted* if none does.

# %% tags=["hide-input"]
# numbers: 81 % (the paper's); 0.74 (the paper's); 10,240 (the paper's); 0.91 (the paper's); 0.23 (the paper's)
paper = {
    "A15": "81 % of active tokens, 98 % of strong ones",
    "A16": "correlation 0.74",
    "A17": "described",
    "A18": "a separate right mode",
    "A19": "hurts, the more the stronger",
    "A20": "writes Arabic",
    "A21": "1 of 10,240 examples",
    "A22": "0.91; logit weights 0.23",
}
plots.table(["claim", "the paper found", "we found", "outcome"], verdicts.rows(paper))

# %% tags=["remove-cell"]
trained = dictionary_metadata("A/1")
chapter.number("rarer", trained["text"][0][1]["arabic"] / training_text(model)[0][1]["arabic"], ".2g")
chapter.number("activations", trained["activations"] / 1e6, ".0f")

# %% [markdown]
# **How our set-up differs.** The paper counted on 40,960,000 tokens, we on {glue:text}`tokens`. In the paper's text,
# 0.13 % of the tokens are Arabic. In ours it is {glue:text}`base-rate-exact`. A lift is not comparable, then, and the
# base rate limits it. The paper does not state its vocabulary. Ours is small, and many of its tokens are lone bytes
# that several scripts share. The paper's dictionary was trained on eight billion activations, ours on
# {glue:text}`activations` million. In the text for the dictionary, the Arabic part has {glue:text}`rarer` × the share
# that it has in the model's; {doc}`/book/differences` says why.
#
# ```{admonition} Takeaways
# :class: note
# - A proxy turns a context into a score for every token. Check it before you blame the feature: some misses may be
#   its own.
# - Specificity and sensitivity only mean something together, and by strength of the activation, not only at the top.
# - Logit weights, ablation and pinning ask three different questions: what a feature would do, what it does, and what
#   it can do.
# - Compare with what you had without the dictionary, the neurons, and with what chance gives.
# ```
#
# ## Exercises
#
# ```{exercise-start} Hebrew
# :label: ex-arabic-hebrew
# ```
# *Difficulty 1/5 · importance 4/5 · 10 minutes.* Write `best_feature(evidence, script)`. It returns the number of the
# feature that follows the proxy of a script best, on the contexts of the evidence, in the way in which this chapter
# found its own. Then find the feature for Hebrew script. How well does it correlate with its proxy, and with its
# characters? Is it a different feature?
#
# ````{admonition} Hint 1
# :class: dropdown
# Two lines of the section "Finding the feature" do it for Arabic. The evidence is there already; only the proxy has to
# be computed again, and `evidence.contexts.ids` are the tokens to compute it on.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# `proxies.script_proxy(evidence.contexts.ids, pieces, script)` is the score. Take its positive part, correlate, and
# return the place of the largest correlation. For Hebrew there is `proxies.HEBREW`, and a quarter of the text is
# enough: `evidence.between(0, 1000)`.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def best_feature(evidence, script):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
def made_up(contexts: Contexts, *activations: np.ndarray) -> Evidence:
    """Evidence of features whose activations we choose, each [n_contexts, n_ctx]."""
    grids = [np.where(np.arange(grid.shape[1]) > 0, grid, 0).ravel() for grid in activations]
    places = [np.flatnonzero(grid > 0).astype(np.int32) for grid in grids]
    values = [grid[at].astype(np.float32) for grid, at in zip(grids, places, strict=True)]
    starts = np.cumsum([0, *map(len, places)])
    return Evidence(contexts, starts, np.concatenate(places), np.concatenate(values))


# A made-up page, one byte per token: two Hebrew letters with points, three Armenian letters that begin with the byte of
# the points, English, an Arabic word, and a Syriac and an Arabic letter that begin with the same byte.
LINE = "\u05e9\u05b8\u05dd\u05b9 \u0580\u0581\u0583, and 12 \u0633\u0644\u0627\u0645 \u074d \u0750"
of_byte = {piece: token for token, piece in enumerate(pieces) if len(piece) == 1}
line_ids = [0, *(of_byte[bytes([byte])] for byte in LINE.encode())]
trial = Contexts(np.array([line_ids] * 50), np.zeros((50, len(line_ids)), np.uint8), ["made up"])


@check("ex-arabic-hebrew")
def check_best_feature(best_feature):
    activations = [np.ones(trial.ids.shape)]
    for script in (proxies.ARABIC, proxies.HEBREW):
        its_score = proxies.script_proxy(trial.ids, pieces, script)
        activations += [np.maximum(its_score, 0), its_score > 0, proxies.touches_script(trial.ids, pieces, script)]
    trial_evidence = made_up(trial, *activations)
    for place, script in ((1, proxies.ARABIC), (4, proxies.HEBREW)):
        found = best_feature(trial_evidence, script)
        assert np.ndim(found) == 0 and int(found) == found, "return one whole number, the place of the feature"
        assert found != place + 1, "that feature follows the sign of the proxy; correlate with its positive part"
        assert found != place + 2, "that feature follows the characters; correlate with the proxy"
        assert found == place, "that feature does not follow the script that was asked for"


check_best_feature(best_feature)

# %% [markdown]
# ````{solution-start} ex-arabic-hebrew
# :class: dropdown
# ````

# %%
def best_feature(evidence, script):
    its_score = proxies.script_proxy(evidence.contexts.ids, pieces, script)
    return int(evidence.correlations(np.maximum(its_score, 0)).argmax())


part = evidence.between(0, 1000)
hebrew = best_feature(part, proxies.HEBREW)
its_score = proxies.script_proxy(part.contexts.ids, pieces, proxies.HEBREW)
its_characters = proxies.touches_script(part.contexts.ids, pieces, proxies.HEBREW)
print(f"the chapter's feature is A/1/{feature}, the one for Hebrew A/1/{hebrew}")
print(f"correlation with its proxy {part.correlations(np.maximum(its_score, 0))[hebrew]:.2f}")
print(f"with its {its_characters.sum():,} tokens by the characters {part.correlations(its_characters)[hebrew]:.2f}")
check_best_feature(best_feature)

# %% [markdown]
# Look at the number of tokens before you believe a correlation: where a script is missing, some feature still comes
# first. The chapter {doc}`hebrew` puts that feature to the whole test.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
def by_sign(evidence, script):
    return evidence.correlations(proxies.script_proxy(evidence.contexts.ids, pieces, script) > 0).argmax()


def by_characters_instead(evidence, script):
    return evidence.correlations(proxies.touches_script(evidence.contexts.ids, pieces, script)).argmax()


check_best_feature.refuses(lambda evidence, script: best_feature(evidence, SCRIPT), because="that was asked for")
check_best_feature.refuses(by_sign, because="positive part")
check_best_feature.refuses(by_characters_instead, because="correlate with the proxy")

# %% [markdown]
# ```{exercise-start} A script of your own
# :label: ex-arabic-range
# ```
# *Difficulty 2/5 · importance 3/5 · 15 minutes.* Choose another range of Unicode, say Cyrillic or Devanagari, and set
# `my_script` to it. Predict first: will there be a feature for it, and will it be for this script alone? Then write
# `follows(evidence, feature, script)`. It returns two shares, both counted by the characters: of the tokens on which
# the feature is active, how many are in the script; and of the tokens in the script, on how many it is active. What do
# they say about the best feature for your script?
#
# ````{admonition} Hint 1
# :class: dropdown
# A script is a list of ranges: Cyrillic is `[(0x0400, 0x04FF)]`, Greek `[(0x0370, 0x03FF)]`, Devanagari `[(0x0900,
# 0x097F)]`.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# `proxies.touches_script(evidence.contexts.ids, pieces, script)` says of each token whether it is in the script. The
# places of `evidence.of(feature)` are indices into that, once it is flattened with `.ravel()`.
# ````
# ````{admonition} Hint 3
# :class: dropdown
# The second share is a recall, and `evidence.recall([feature], inside)` computes it.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
my_script = None


def follows(evidence, feature, script):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-arabic-range")
def check_range(my_script, follows):
    inside = proxies.touches_script(trial.ids, pieces, proxies.HEBREW)
    draw = np.random.default_rng(0)
    active = np.where(inside, draw.random(inside.shape) < 0.6, draw.random(inside.shape) < 0.1)
    active[:, 0] = False
    strength = active * np.where(inside, 9.0, 1.0)  # strong where it is right
    answer = follows(made_up(trial, active, strength), 1, proxies.HEBREW)
    assert np.shape(answer) == (2,), "return two shares"
    precise, recalled = (active & inside).sum() / active.sum(), (active & inside).sum() / inside.sum()
    assert not np.allclose(answer, (recalled, precise)), "the two shares are in the wrong order"
    weighed = strength[inside].sum() / strength.sum()
    assert not np.isclose(answer[0], weighed), "count tokens; do not weigh them by the activation"
    share_of_active = "the first share is of the tokens on which the feature is active, counted by the characters"
    assert np.isclose(answer[0], precise), share_of_active
    assert np.isclose(answer[1], recalled), "the second share is of all tokens in the script, active or not"

    assert np.ndim(my_script) == 2 and np.shape(my_script)[1] == 2, "a script is a list of pairs (first, last)"
    assert all(first <= last for first, last in my_script), "in a range the smaller code point comes first"
    apart = all(last < low or first > high for first, last in my_script for low, high in SCRIPT)
    assert apart, f"your ranges overlap with those of {TITLE}; choose another script"
    chosen = proxies.touches_script(contexts.head(1000).ids, pieces, my_script)
    assert chosen.sum() >= 200, f"only {chosen.sum()} tokens are in your script, too few to tell; try another"
    assert chosen.mean() < 0.2, f"{chosen.mean():.0%} of the tokens are in your script; choose a rarer one"


check_range(my_script, follows)

# %% [markdown]
# ````{solution-start} ex-arabic-range
# :class: dropdown
# ````

# %%
my_script = [(0x0400, 0x04FF)]


def follows(evidence, feature, script):
    inside = proxies.touches_script(evidence.contexts.ids, pieces, script)
    return inside.ravel()[evidence.of(feature)[0]].mean(), evidence.recall([feature], inside)


for name, script in {"Cyrillic": my_script, "Devanagari": [(0x0900, 0x097F)]}.items():
    best_for_it = best_feature(part, script)
    precise, recalled = follows(part, best_for_it, script)
    print(f"{name}: A/1/{best_for_it}, {precise:.0%} of its active tokens in the script, recall {recalled:.0%}", end="")
    print(", split off" if precise > 0.5 > recalled else ", merged" if recalled > 0.5 > precise else "")
check_range(my_script, follows)

# %% [markdown]
# The two shares tell two things apart. A feature can be split off: it is specific and its recall is low, and the rest
# of the script is left to other features or to none. Or it can be merged: the recall is high and the specificity low,
# because scripts that are spelled in similar bytes share it. The lines above say which it is here.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
def weighed_by_activation(evidence, feature, script):
    places, values = evidence.of(feature)
    inside = proxies.touches_script(evidence.contexts.ids, pieces, script)
    return np.average(inside.ravel()[places], weights=values), evidence.recall([feature], inside)


def by_the_proxy(evidence, feature, script):
    inside = proxies.script_proxy(evidence.contexts.ids, pieces, script) > 0
    return inside.ravel()[evidence.of(feature)[0]].mean(), evidence.recall([feature], inside)


check_range.refuses(my_script, lambda *given: follows(*given)[::-1], because="wrong order")
check_range.refuses(my_script, lambda *given: (follows(*given)[0], 1.0), because="active or not")
check_range.refuses(my_script, weighed_by_activation, because="do not weigh")
check_range.refuses(my_script, by_the_proxy, because="by the characters")
check_range.refuses(SCRIPT, follows, because="overlap")
check_range.refuses([(0xE000, 0xE001)], follows, because="too few")

# %% [markdown]
# ```{exercise-start} Weigh by activation
# :label: ex-arabic-threshold
# ```
# *Difficulty 2/5 · importance 4/5 · 15 minutes.* A feature that is barely on hardly moves the output. Call it active
# only above some threshold. Write `above(values, hits, n_true, threshold)` for a feature that fires with `values`, on
# tokens of which `hits` says whether they are in the script, in a text that has `n_true` tokens of the script. It
# returns specificity and recall. How do they change as the threshold rises? At which one would you quote them?
#
# ````{admonition} Hint 1
# :class: dropdown
# `values` and `hits_exact` hold one entry per active token. What is missing in them are the tokens of the script on
# which the feature is silent.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# Choose `hits[values > threshold]`. Its mean is the specificity. For the recall, divide its sum by all there is to
# find, in this chapter `touches.sum()`.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def above(values, hits, n_true, threshold):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-arabic-threshold")
def check_above(above):
    some_values, some_hits = np.array([1.0, 2.0, 3.0, 4.0]), np.array([False, True, False, True])
    for threshold, right in ((0, (1 / 2, 2 / 5)), (1.5, (2 / 3, 2 / 5)), (3.5, (1, 1 / 5))):
        answer = above(some_values.copy(), some_hits.copy(), 5, threshold)
        assert np.shape(answer) == (2,), "return two numbers, specificity and recall"
        assert not np.allclose(answer, right[::-1]), "specificity comes first, recall second"
        specificity_there, recall_there = answer
        assert np.isclose(specificity_there, right[0]), "specificity is a share of the tokens above the threshold"
        assert np.isclose(recall_there, right[1]), "recall is a share of all n_true tokens, also of those never active"
    assert np.allclose(above(some_values, some_hits, 5, 3.0), (1, 1 / 5)), "a value at the threshold is not above it"
    strong = evidence.dense(feature) > largest / 2
    there = (strong & touches).sum()
    on_the_text = above(values.copy(), hits_exact.copy(), touches.sum(), largest / 2)
    assert np.allclose(on_the_text, (there / strong.sum(), there / touches.sum())), "wrong on this chapter's feature"


check_above(above)

# %% [markdown]
# ````{solution-start} ex-arabic-threshold
# :class: dropdown
# ````

# %%
def above(values, hits, n_true, threshold):
    strong_hits = hits[values > threshold]
    return strong_hits.mean(), strong_hits.sum() / n_true


for fraction in (0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8):
    precise, recalled = above(values, hits_exact, touches.sum(), fraction * largest)
    print(f"above {fraction:4.0%} of the maximum: {precise:6.1%} in the script, recall {recalled:6.1%}")
check_above(above)

# %% [markdown]
# There is no right threshold. One buys specificity with recall. Quote the whole curve, or a number that needs no
# threshold, such as the share of the summed activation.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
def of_the_hits_alone(values, hits, n_true, threshold):
    return hits[values > threshold].mean(), hits[values > threshold].sum() / hits.sum()


def of_all_active_tokens(values, hits, n_true, threshold):
    return (hits & (values > threshold)).mean(), (hits & (values > threshold)).sum() / n_true


def at_or_above(values, hits, n_true, threshold):
    return hits[values >= threshold].mean(), hits[values >= threshold].sum() / n_true


check_above.refuses(of_the_hits_alone, because="also of those never active")
check_above.refuses(of_all_active_tokens, because="tokens above the threshold")
check_above.refuses(at_or_above, because="at the threshold")

# %% [markdown]
# ```{exercise-start} A context, or a list of tokens?
# :label: ex-arabic-tokens
# ```
# *Difficulty 3/5 · importance 5/5 · 25 minutes.* A sceptic says: your feature just looks up the token. Test it, with
# two functions of arrays that have one entry per token of a text. `explained_by_token(activation, tokens)` returns the
# share of the variance of the activation that the token alone explains. `advantage(activation, tokens, truth)` returns
# by how much the AUC of the feature as a detector of the script, `truth`, exceeds that of the best detector that sees
# the token alone. Is the sceptic right?
#
# ````{admonition} Hint 1
# :class: dropdown
# The best guess that a token allows is the mean over all its occurrences: the mean activation in the first function,
# the share of its occurrences that are in the script in the second.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# Replace every activation by the mean of its token, and compare the variances before and after.
# `np.bincount(tokens.ravel(), weights=...)` sums over the occurrences of each token.
# ````
# ````{admonition} Hint 3
# :class: dropdown
# For the detector, score every token by `proxies.occurrence_share(tokens, truth, len(pieces))[tokens]`. Then do it once
# more on single bytes that are in the script neither always nor never: there the token cannot tell.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def explained_by_token(activation, tokens):
    raise NotImplementedError


def advantage(activation, tokens, truth):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-arabic-tokens")
def check_tokens(explained_by_token, advantage):
    draw = np.random.default_rng(0)
    some_tokens = np.minimum(draw.geometric(0.1, (60, 40)), 50)  # some are frequent, some rare
    of_token, noise = draw.gamma(1.0, size=51)[some_tokens], draw.gamma(1.0, size=some_tokens.shape)
    looked_up = explained_by_token(of_token.copy(), some_tokens)
    assert np.isclose(looked_up, 1), "an activation that the token decides is explained altogether: 1"
    mixed = of_token + noise
    within = sum(mixed[some_tokens == token].var() * (some_tokens == token).sum() for token in np.unique(some_tokens))
    answer, right = explained_by_token(mixed.copy(), some_tokens), 1 - within / mixed.size / mixed.var()
    assert not np.isclose(answer, np.sqrt(right)), "that is a correlation; its square is the share of the variance"
    assert np.isclose(answer, right), "take the variance over all places, so that a frequent token counts more"
    assert np.isclose(explained_by_token(5 * mixed, some_tokens), right), "the unit of the activation must not matter"
    assert explained_by_token(noise.copy(), some_tokens) < 0.1, "noise is not explained by the token"

    some_truth = noise > 1.5
    same_token = np.full_like(some_tokens, 7)
    assert np.isclose(advantage(noise.copy(), same_token, some_truth), 0.5), (
        "with one token only, the token is as good as chance and this feature is perfect: 1/2"
    )
    by_token = some_tokens > 12
    assert np.isclose(advantage(np.zeros(by_token.shape), some_tokens, by_token), -0.5), (
        "where the token decides, its detector is perfect, and a feature that is never on is as good as chance: -1/2"
    )
    occurrences_in = [some_truth[some_tokens == token].mean() for token in range(1, 51) if (some_tokens == token).any()]
    seen = np.searchsorted(np.unique(some_tokens), some_tokens)
    gap = auc(mixed, some_truth) - auc(np.array(occurrences_in)[seen], some_truth)
    assert np.isclose(advantage(mixed.copy(), some_tokens, some_truth), gap), (
        "score a token by the share of its occurrences that are in the script, on the very tokens that are given"
    )


check_tokens(explained_by_token, advantage)

# %% [markdown]
# ````{solution-start} ex-arabic-tokens
# :class: dropdown
# ````

# %%
def explained_by_token(activation, tokens):
    sums = np.bincount(tokens.ravel(), weights=activation.ravel())
    means = sums / np.maximum(np.bincount(tokens.ravel()), 1)
    return means[tokens].var() / activation.var()


def advantage(activation, tokens, truth):
    shares = proxies.occurrence_share(tokens, truth, len(pieces))
    return auc(activation, truth) - auc(shares[tokens], truth)


dense, tokens_there, truth = evidence.dense(feature)[:, 1:].astype(float), ids[:, 1:], touches[:, 1:]
print(f"variance explained by the token alone: {explained_by_token(dense, tokens_there):.0%}")
print(f"AUC of the feature {auc(dense, truth):.3f}, advantage {advantage(dense, tokens_there, truth):+.3f}")
ambiguous = ((share > 0.02) & (share < 0.98))[tokens_there]
if 0 < truth[ambiguous].sum() < ambiguous.sum():
    on_these = dense[ambiguous], tokens_there[ambiguous], truth[ambiguous]
    print(f"on {ambiguous.sum():,} ambiguous tokens {auc(dense[ambiguous], truth[ambiguous]):.3f}, ", end="")
    print(f"advantage {advantage(*on_these):+.3f}")
check_tokens(explained_by_token, advantage)

# %% [markdown]
# The token's share was counted on the very text it is tested on, which favours the sceptic. Look at the ambiguous
# tokens: there the token cannot tell, and only what came before it can. If the feature is better there, it reads the
# context.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
def each_token_once(activation, tokens):
    return np.var([activation[tokens == token].mean() for token in np.unique(tokens)]) / activation.var()


def share_of_the_page(activation, tokens, truth):
    return auc(activation, truth) - auc(share[tokens], truth)


check_tokens.refuses(lambda *given: np.sqrt(explained_by_token(*given)), advantage, because="its square")
check_tokens.refuses(each_token_once, advantage, because="decides is explained altogether")
check_tokens.refuses(explained_by_token, lambda *given: -advantage(*given), because="this feature is perfect")
check_tokens.refuses(explained_by_token, share_of_the_page, because="the token decides")
