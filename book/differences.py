# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # How this differs from the paper
#
# The book follows *Towards Monosemanticity* {cite}`bricken2023monosemanticity` rule by rule, on a tiny part of its
# budget. This page lists where the two part, so that you can judge what a comparison is worth. It holds set-ups only.
# What came out is in the chapters, and all of it in {doc}`claims`.
#
# The values in the right-hand columns are read from the records that lie beside the weights. "Not stated" means that
# the paper gives no value, so nobody can match it or differ from it; a dash, that we know of none.

# %% tags=["hide-input"]
import json

from sae_core import bundle, chapter
from sae_core.autoencoder import dictionary_metadata, load_dictionary
from sae_core.corpus import VALIDATION_SHARE, open_corpus
from sae_core.objective import convert_lambda
from sae_core.proxies import LONGEST
from sae_core.resampling import ENCODER_SCALE

folder = bundle.find("A", "config.json")
network = json.loads((folder / "config.json").read_text())
lm = json.loads((folder / "training.json").read_text())
dictionary = dictionary_metadata("A/1")
cfg = json.loads((bundle.find("A/1", "cfg.json") / "cfg.json").read_text())
recipe, d_in = dictionary["recipe"], cfg["d_in"]
positions = network["n_positions"]


def steps(of: list[int]) -> str:
    return ", ".join(f"{step:,}" for step in of) or "none"


def share(of: list[int]) -> str:
    """Steps as a part of the run."""
    return f"{of[0] / recipe['steps']:.0%} to {of[-1] / recipe['steps']:.0%}" if of else "never"


warmup, decay, start = recipe["lam_warmup"], recipe["lr_decay"], recipe.get("encoder_start")
lam_raw = convert_lambda(recipe["lam"], "sae_core", "sae_core", d_in, scale=1 / dictionary["input_scale"])
widths = [
    f"{name} ({json.loads((path / 'cfg.json').read_text())['d_sae']:,})"
    for name, path in bundle.available("cfg.json").items()
]
large = max(bundle.available("cfg.json"), key=lambda name: dictionary_metadata(name)["recipe"]["d_sae"])
rows = load_dictionary(large).W_dec
texts = [name for name, _ in lm["recipe"]["text"]]
own = {name: share for _, weights in lm["recipe"]["text"] for name, share in (weights or {}).items()}
rarer = {
    name: share / own[name]
    for _, weights in dictionary["text"]
    for name, share in (weights or {}).items()
    if share != own.get(name, share)
}
slices = {name: list(weights) for name, weights in lm["recipe"]["text"] if weights}

for name, value, written in [
    ("text", open_corpus().name, ""),
    ("lm-text", " and ".join(texts), ""),
    ("lm-slices", sum(len(names) for names in slices.values()), ""),
    ("lm-tokens", lm["tokens"] / 1e6, ".0f"),
    ("lm-factor", 100e9 / lm["tokens"], ",.0f"),
    ("lm-passes", lm["recipe"]["passes"], "g"),
    ("lm-steps", lm["steps"], ","),
    ("lm-batch", lm["recipe"]["batch_tokens"], ","),
    ("lm-lr", lm["recipe"]["lr"], "g"),
    ("lm-warmup", lm["recipe"]["warmup"], ".0%"),
    ("lm-decay", lm["recipe"]["weight_decay"], "g"),
    ("vocabulary", network["vocab_size"], ","),
    ("context", positions, ""),
    ("heads", network["n_head"], ""),
    ("residual", network["n_embd"], ""),
    ("neurons", d_in, ""),
    ("models", ", ".join(bundle.available("config.json")), ""),
    ("dictionaries", ", ".join(widths), ""),
    ("d-sae", cfg["d_sae"], ","),
    ("activations", dictionary["activations"] / 1e6, ",.0f"),
    ("rare-examples", dictionary["activations"] / 1e6, ".0f"),
    ("distinct", dictionary["distinct_activations"] / 1e6, ",.0f"),
    ("factor", 8.192e9 / dictionary["activations"], ",.0f"),
    ("per-context", positions - 1, ""),
    ("buffer", recipe["buffer_rows"] / 1e6, ".1f"),
    ("steps", recipe["steps"], ","),
    ("batch", recipe["batch_size"], ","),
    ("lr", recipe["lr"], "g"),
    ("lr-decay", f"linear to zero over the last {decay:,} steps" if decay else "none", ""),
    ("scaled", "scaled to a mean ‖x‖² of d_in; undone afterwards" if recipe["normalize"] else "as they are", ""),
    ("lam", recipe["lam"], "g"),
    ("lam-raw", lam_raw, ".3g"),
    ("lam-paper", convert_lambda(lam_raw, "sae_core", "paper", d_in), ".2g"),
    ("paper-lam", convert_lambda(0.004, "paper", "sae_core", 512), ".3g"),
    ("encoder-start", f"{start:g} × the decoder, transposed" if start else "the same", ""),
    ("rarer", ", ".join(f"{name} {factor:.2g} ×" for name, factor in rarer.items()) or "the same shares", ""),
    ("lam-warmup", f"linear over the first {warmup:,} steps" if warmup else "none", ""),
    ("resample-at", steps(recipe["resample_at"]), ""),
    ("resample-share", share(recipe["resample_at"]), ""),
    ("resample-inputs", recipe["resample_inputs"], ","),
    ("encoder-scale", ENCODER_SCALE, "g"),
    ("dead-after", recipe["dead_after"], ","),
    ("dead-inputs", recipe["dead_after"] * recipe["batch_size"], ","),
    ("dead-share", recipe["dead_after"] / recipe["steps"], ".1%"),
    ("precision", "its product in bf16, all else in fp32" if recipe["bf16"] else "fp32", ""),
    ("stored", cfg["dtype"], ""),
    ("seed", recipe["seed"], ""),
    ("counted", dictionary["metrics"]["tokens"] / 1e6, ".1f"),
    ("quick-tokens", 4000 * (positions - 1) / 1e6, ".0f"),
    ("validation", VALIDATION_SHARE, ".0%"),
    ("longest", LONGEST, ""),
    ("large", large, ""),
    ("twins", len(rows) - len(rows.unique(dim=0)), ""),
]:
    chapter.number(name, value, written)

# %% [markdown]
# ## The text
#
# | | the paper | here |
# |---|---|---|
# | source | the Pile | {glue:text}`lm-text`, {glue:text}`lm-slices` slices |
# | tokeniser | byte level, judging by its tokens; not stated otherwise | byte-level BPE, made on our training text |
# | vocabulary | not stated | {glue:text}`vocabulary` tokens |
# | held-out part | – | {glue:text}`validation` of the documents, by a hash of their text |
#
# Our mixture is our own, so languages and formats have other shares than in the Pile. That matters wherever a number
# depends on how common a context is: its base rate, the lift that a feature can reach, the density of its feature. A
# small vocabulary spells rare scripts in bytes, so a token is a smaller piece of text here than there.
#
# Code is taken from what is installed on the machine that trains, so a second training on other versions reads a
# slightly different text. Documents are split by a hash, and two documents of one book can fall on both sides.
#
# ## The language model
#
# | | the paper | here |
# |---|---|---|
# | residual stream, neurons | 128, 512 ReLU | {glue:text}`residual`, {glue:text}`neurons` ReLU |
# | layers | 1 | 1 |
# | attention heads | not stated | {glue:text}`heads` |
# | context | not stated; at least 250 tokens | {glue:text}`context` tokens |
# | tokens seen | 100 billion | {glue:text}`lm-tokens` million, {glue:text}`lm-passes` × the text |
# | optimiser | Adam | AdamW, betas 0.9 and 0.98, weight decay {glue:text}`lm-decay` |
# | learning rate | not stated | {glue:text}`lm-lr` at its peak, warm-up {glue:text}`lm-warmup`, cosine to zero |
# | batch, steps | – | {glue:text}`lm-batch` tokens, {glue:text}`lm-steps` |
# | precision, clipping | – | bf16 autocast, gradient norm at most 1 |
# | control | every weight matrix shuffled | the same; biases and LayerNorms stay |
#
# The paper's model saw about {glue:text}`lm-factor` times as many tokens, far more than is usual for its size, and on
# purpose. Ours is not trained to the end. A property of the text that it has not learned cannot become a feature.
# Bundled at the time of this build: {glue:text}`models`.
#
# <!-- numbers: 0.9 (betas in sae_core/pretraining.py and training.py); 0.98 (the first); 0.999 (the second) -->
#
# ## The activations
#
# | | the paper | here, `A/1` |
# |---|---|---|
# | activation vectors used | 8,192 million | {glue:text}`activations` million |
# | distinct ones among them | all, out of 10 billion | {glue:text}`distinct` million |
# | slices of the text that are rarer than in the model's | none | {glue:text}`rarer` |
# | from each context | 250 positions, drawn at random | all {glue:text}`per-context` positions but the first |
# | shuffled | all of them together | in a buffer of {glue:text}`buffer` million vectors, refilled as it empties |
# | inputs | as they are | {glue:text}`scaled` |
#
# The paper's dictionaries saw {glue:text}`factor` times as many vectors as ours. A feature that fires on one token in a
# million had 8,192 examples in the paper, and has {glue:text}`rare-examples` here. So rare features are the ones to
# miss, and a rare feature that we do find has learned from little.
#
# ## The dictionary
#
# | | the paper | here, `A/1` |
# |---|---|---|
# | architecture, biases, unit norm, projection of the gradient | chapter {doc}`dictionary/training` | the same |
# | features | 4,096 | {glue:text}`d-sae` |
# | steps × batch | 1,000,000 × 8,192 | {glue:text}`steps` × {glue:text}`batch` |
# | optimiser | Adam, betas not stated | Adam, betas 0.9 and 0.999 |
# | learning rate | swept, not stated | {glue:text}`lr` |
# | its decay | tried, did not help | {glue:text}`lr-decay` |
# | λ, as written | 0.004, error averaged (printed for `A/5`) | {glue:text}`lam`, error summed, inputs as above |
# | λ, error summed, raw inputs | {glue:text}`paper-lam` | {glue:text}`lam-raw` |
# | λ, error averaged, raw inputs | 0.004 | {glue:text}`lam-paper` |
# | start of the encoder | Kaiming uniform | {glue:text}`encoder-start` |
# | λ warm-up | none described | {glue:text}`lam-warmup` |
# | resampling at steps | 25,000, 50,000, 75,000, 100,000 | {glue:text}`resample-at` |
# | as a part of the run | 2.5 % to 10 % | {glue:text}`resample-share` |
# | dead after | 12,500 silent steps, 1.25 % of the run | {glue:text}`dead-after` steps, {glue:text}`dead-share` |
# | that is, inputs | 102,400,000 | {glue:text}`dead-inputs` |
# | loss judged on | 819,200 random inputs | {glue:text}`resample-inputs`, from the buffer |
# | new encoder column | 0.2 × the mean norm of the alive | {glue:text}`encoder-scale` × the same |
# | Adam's step counter after it | not stated | runs on |
# | precision of the encoder | – | {glue:text}`precision` |
# | stored as | – | {glue:text}`stored` |
#
# λ of two models cannot be compared even in one convention, because their activations differ in size; compare L0. The
# reasons for the changes:
#
# - **A higher learning rate.** The paper prefers a low one and many steps. A short run has no time for it.
# - **λ rises.** With that learning rate and the full λ from the start, most features fall silent early.
# - **The encoder starts as a small copy of the decoder.** In a short run, Kaiming's start loses features before they
#   have found a direction. {doc}`dictionary/quality` compares the two starts.
# - **Some slices are rarer.** A dictionary of this size splits a context that is common into many features. In the
#   Pile Arabic is 0.13 % of the tokens {cite}`bricken2023monosemanticity`. So Arabic, Hebrew and DNA are rarer in the
#   text of `A/1` than in that of its model. The paper gives a share for Arabic alone, so those of Hebrew and DNA are
#   our choice; base64 is left as it is.
# - **The learning rate falls.** The paper saw no gain from that at the end of a million steps. A short run at a high
#   rate ends in noise without it. Anthropic's later recipe has it, too {cite}`anthropic2024april`.
# - **Resampling is scaled.** The four steps keep their order and their rule, and move to where a short run is.
#   Being dead is decided on far fewer inputs, so more rare features are taken for dead.
# - **Inputs for resampling are distinct**, where the paper draws each by itself. Two features that start from one input
#   get equal gradients and stay equal for the rest of the run. The bundled dictionaries were made before we saw that:
#   {glue:text}`twins` features of {glue:text}`large` are exact copies of another.
# - **Inputs are scaled**, so that a value of λ and a learning rate mean about the same for every model.
#
# The unscaled recipe is in the package as well, `sae_core.recipe.paper()`, for whoever has the data for it.
#
# ## How many of them
#
# | | the paper | here |
# |---|---|---|
# | dictionaries | 90, over two models and several λ | bundled: {glue:text}`dictionaries` |
# | sizes | 512 to 131,072 | in brackets |
# | seeds per recipe | – | one; {glue:text}`seed` for `A/1` |
#
# With one seed, a difference between two runs may be chance. Chapters say so where they compare single runs. Questions
# that take several dictionaries or a second model are open until those are there.
#
# ## How we measure
#
# ```{list-table}
# :header-rows: 1
#
# * -
#   - the paper
#   - here
# * - dead and ultralow features counted on
#   - 100 million tokens
#   - {glue:text}`counted` million for the card of `A/1`, about {glue:text}`quick-tokens` million in quick mode
# * - ultralow
#   - below one in a million, odd weights
#   - the same border, or a dip of our own histogram: {doc}`dictionary/density`
# * - loss recovered
#   - against zero-ablation
#   - the same, and against mean-ablation; the first position is left alone
# * - a proxy's strings
#   - any that end at the token
#   - at most {glue:text}`longest` tokens, beginning where a character begins
# * - correlation with the proxy on
#   - 40,960,000 tokens
#   - the tokens that the chapter names
# * - logit weights
#   - extremely rare tokens dropped
#   - tokens with fewer than five occurrences dropped
# * - effect of an ablation
#   - shown on examples
#   - mean over tokens, with an interval from whole contexts
# * - pinned sampling
#   - at the largest activation
#   - the same, and other shares of it up to its double; on all tokens but the first
# * - snippets to read
#   - four tokens on each side
#   - up to twelve
# * - interpretability, judged by people
#   - one blind annotator
#   - not done; {doc}`structure/interpretability` has the page to do it with
# * - interpretability, scored automatically
#   - explained and predicted by a language model, Claude 2
#   - by rules that a program learns; the code for a language model is there and was not run
# ```
#
# Two borders in this table do not transfer. On a million tokens "less than one in a million" can hardly be told from
# "never", so our counts of dead and ultralow features neither confirm nor deny the paper's. And loss recovered is a
# share of what zero-ablation costs, which is another number for another model.
#
# Features are found by what they do: a chapter takes the one that follows its context best. Numbers such as
# `A/1/3450` in the paper and here name different things.
#
# ## On which text a claim was measured
#
# The committed numbers of the {doc}`table of claims <claims>` come from one build on mini-pile, from documents that
# model A did not see. This page belongs to a build on *{glue:text}`text`*. On another text the model's loss and the
# features' densities are others, and a context may be common or missing. Then chapters measure something else than the
# committed numbers, and the table shows both.
#
# Text enters a second time: bars that ask how specific a feature is depend on how rare its context is. The paper's
# Arabic is 0.13 % of its tokens. Where ours is more common, a lift as high as the paper's is out of reach for a perfect
# feature, too. We left such bars as they were.
#
# ## What follows
#
# - A claim about *how* something works, such as a rule of the recipe or an equation, can be checked here in full.
# - A claim that something *exists*, such as a feature for a script, is replicated when we find one. If we find none,
#   our budget may be the reason.
# - A claim about *numbers* (shares, medians, counts) is compared by its bar, which we set before measuring. Agreement
#   to the digit would be luck.
# - A claim that no chapter measures yet stands in the table as not attempted.
