# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # A template for a chapter
#
# Say in two or three sentences what the chapter is about and why a reader should care. Copy this file, and replace
# everything in it. CONTRIBUTING.md has the steps.
#
# ```{admonition} Before you start
# **You will be able to**
# - name what a reader can do afterwards, in verbs that can be checked;
# - keep the list to three or four points.
#
# **You need** the chapter {doc}`/book/model/one_layer_model`.
#
# **Time**: 5 minutes to read, less than a minute to run.
# ```

# %% tags=["hide-input"]
import numpy as np

from sae_core import chapter, load_dictionary, load_model, plots
from sae_core.evidence import feature_evidence
from sae_core.exercises import check
from sae_core.runs import held_out

# %%
model = load_model("A")
dictionary = load_dictionary("A/1")
contexts, text = held_out(model)
contexts = contexts.head(chapter.size(quick=200, full=4000))
features = feature_evidence(model, dictionary, contexts)
fired = features.density[features.counts > 0]

# %% tags=["remove-cell"]
chapter.number("text", text)
chapter.number("tokens", features.n_tokens, ",")
chapter.number("fired", len(fired), ",")
chapter.number("features", dictionary.d_sae, ",")

# %% [markdown]
# On {glue:text}`tokens` tokens of the *{glue:text}`text`* text, {glue:text}`fired` of {glue:text}`features` features
# fire at least once. {numref}`fig-template` shows how often.
#
# ```{admonition} Predict
# :class: tip
# Ask for a guess before each result.
# ```

# %% tags=["hide-input"]
#| label: fig-template
#| caption: How often each feature fires, on {glue:text}`tokens` tokens. Features that never fire are left out.
plots.log_histogram(
    {"features": fired},
    "share of tokens",
    f"Histogram of the densities of {len(fired):,} features on a logarithmic axis. The median is "
    f"{np.median(fired):.1e}.",
)

# %% [markdown]
# A chapter that tests a claim records what it measured, with the page and the label of the figure that shows it:
# `chapter.claim("A10", where="dictionary/density#fig-density-groups", text=text, dead=...)`.
#
# ## What the paper found, what we found
#
# | | the paper | here, on *{glue:text}`text`* |
# |---|---|---|
# | features that fire | 3,928 of 4,096, on 100 million tokens | {glue:text}`fired` of {glue:text}`features` |
#
# **How our set-up differs.** Say what could explain a difference: {doc}`/book/differences` has the list.
#
# ```{admonition} Takeaways
# :class: note
# - One sentence for each thing to remember.
# ```
#
# ## Exercises
#
# ```{exercise-start} Half of the text
# :label: ex-template-half
# ```
# *Difficulty 1/5 · importance 3/5 · 5 minutes.* Write `fired_on(evidence, n_contexts)`, the number of features that
# fire at least once on the first `n_contexts` contexts. How many fire if you look at half of them? Predict first.
#
# ````{admonition} Hint 1
# :class: dropdown
# `evidence.between(first, last)` is the evidence of some contexts alone.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# Its `counts` say on how many tokens each feature fires.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def fired_on(evidence, n_contexts):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-template-half")
def check_fired_on(fired_on):
    n = len(contexts.ids)
    assert fired_on(features, 0) == 0, "no feature fires on no contexts"
    assert fired_on(features, n) == len(fired), "on all contexts, as many features fire as the chapter says"
    first = features.places < n // 3 * contexts.ids.shape[1]
    owner = np.repeat(np.arange(features.n_features), features.counts)
    found = fired_on(features, n // 3)
    assert found != first.sum(), "count each feature once, however often it fires"
    assert found == len(np.unique(owner[first])), "on a third of the contexts the number is another"


check_fired_on(fired_on)

# %% [markdown]
# ````{solution-start} ex-template-half
# :class: dropdown
# ````

# %%
def fired_on(evidence, n_contexts):
    return int((evidence.between(0, n_contexts).counts > 0).sum())


half = len(contexts.ids) // 2
print(f"{fired_on(features, half):,} of {dictionary.d_sae:,} on half of the text, {len(fired):,} on all of it")
check_fired_on(fired_on)

# %% [markdown]
# Fewer. A feature that has not fired yet may be rare and not dead.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
def firings(evidence, n_contexts):
    return evidence.between(0, n_contexts).counts.sum()


check_fired_on.refuses(lambda evidence, n_contexts: len(fired) * n_contexts // len(contexts.ids), because="a third")
check_fired_on.refuses(firings, because="as many features fire as the chapter says")
