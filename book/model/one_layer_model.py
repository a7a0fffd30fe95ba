# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # A one-layer language model
#
# Every feature in this book is a feature of one small network. This chapter introduces it: what it computes, how well
# it predicts text, how much it needs its MLP, and why its neurons are hard to read.
#
# ```{admonition} Before you start
# **You will be able to**
# - write down everything the model computes, and name the one step between a {term}`neuron` and the output that is not
#   linear;
# - say how good the model is, against baselines that you can count yourself;
# - measure how much of its work the MLP does, and say what such a number leaves out;
# - measure how mixed ({term}`polysemantic`) a neuron's examples are, and say why that is only a proxy.
#
# **You need** to know what a transformer is. A vague memory of attention and of an MLP is enough.
#
# **Time**: 30 minutes to read, about a minute to run.
# ```

# %% tags=["hide-input"]
import html

import numpy as np
import plotly.graph_objects as go
import torch
from IPython.display import HTML

from sae_core import chapter, effects, evidence, plots
from sae_core.activations import harvest, patched
from sae_core.exercises import check
from sae_core.language_model import load_model, to_tensor, token_losses
from sae_core.ngrams import ngram_losses
from sae_core.runs import held_out, held_out_description, training_text
from sae_core.tokens import token_bytes

# %%
model = load_model("A")
contexts, text_name = held_out(model)

# %% tags=["remove-cell"]
config, recipe = model.network.config, model.recipe
trained_on = [name for name, _ in training_text(model)]
at_home = text_name in trained_on
text_tokens = contexts.ids[:, 1:].size
chapter.number("text", text_name)
chapter.number("text-description", held_out_description(model))
chapter.number("text-tokens", text_tokens, ",")
chapter.number("text-slices", len(contexts.slice_names))
chapter.number("trained-on", " and ".join(trained_on))
chapter.number("trained-tokens", recipe["tokens"] / 1e6, ".0f")
origin = "held-out documents of the model's own training text" if at_home else "a text that it was not trained on"
chapter.number("text-again", origin)

# %% [markdown]
# This page was run on the text *{glue:text}`text`*: {glue:text}`text-description`.
#
# ## Why one layer?
#
# You could ask what the parts of a large model stand for. The paper that this book follows
# {cite}`bricken2023monosemanticity` asked it of the smallest transformer that still has an MLP, for two reasons.
#
# - **Few things to find.** A small model can only represent so many properties of its input. We will look for parts
#   of its activations that stand for such properties, and call what we find **features**. There is hope to find a
#   good share of them, and to look at each.
# - **A short path to the output.** Nothing comes after the MLP but the unembedding. What a neuron does to the
#   prediction can be read off the weights.
#
# ```{admonition} Predict
# :class: tip
# One step on the path from a neuron to the output is *not* linear. Which one? Answer before you read on.
# ```
#
# ## What it computes
#
# The model reads tokens $t_1, \dots, t_n$ and predicts at every place the next one. At place $i$ it computes
#
# $$
# \mathbf{r} = \mathbf{E}_{t_i} + \mathbf{P}_i
# $$
#
# $$
# \mathbf{r}' = \mathbf{r} + \mathrm{Attention}\left(\mathrm{LN}_1(\mathbf{r}), \dots\right)
# $$
#
# $$
# \mathbf{x} = \mathrm{ReLU}\left(
#     \mathrm{LN}_2(\mathbf{r}')\, \mathbf{W}_{\mathrm{in}} + \mathbf{b}_{\mathrm{in}}
# \right)
# $$
#
# $$
# \mathbf{r}'' = \mathbf{r}' + \mathbf{x}\, \mathbf{W}_{\mathrm{out}} + \mathbf{b}_{\mathrm{out}}
# $$
#
# $$
# \mathbf{logits} = \mathrm{LN}_{\mathrm{f}}(\mathbf{r}'')\, \mathbf{U}
# $$
#
# $\mathbf{E}$ embeds the token and $\mathbf{P}$ its place. The vector $\mathbf{r}$ is the **residual stream**:
# attention and the MLP read from it and add to it. Attention alone looks at earlier places. The entries of
# $\mathbf{x}$ are the MLP's **neurons**, and their values are its **activations**. They are never negative, because
# ReLU cuts at zero. These are the vectors that the book takes apart.
#
# The answer to the question above is $\mathrm{LN}_{\mathrm{f}}$, the final LayerNorm. It subtracts the mean, which is
# linear, and divides by the standard deviation, which is not. That divisor is one positive number for each place. So
# it stretches the effect of all neurons at a place alike, and their directions stay.
#
# The parts have these sizes:

# %%
parts = {
    "embedding E": "wte", "places P": "wpe", "attention": "attn", "MLP": "mlp", "unembedding U": "lm_head",
}
weights = list(model.network.named_parameters())
parameters = {
    part: sum(w.numel() for name, w in weights if f"{key}." in name)
    for part, key in parts.items()
}
total = sum(w.numel() for _, w in weights)
for part, count in parameters.items():
    print(f"{part:<14}{count:>10,}{count / total:>8.1%}")

# %% tags=["remove-cell"]
chapter.number("parameters", total / 1e6, ".2f")
chapter.number("mlp-share", parameters["MLP"] / total, ".0%")
chapter.number("d-model", config.n_embd)
chapter.number("d-mlp", config.n_inner)
chapter.number("heads", config.n_head)
chapter.number("context", config.n_positions)
chapter.number("vocabulary", config.vocab_size, ",")

# %% [markdown]
# Of {glue:text}`parameters` million parameters, the MLP holds {glue:text}`mlp-share`. Most of the others are the two
# tables that turn tokens into vectors and back.
#
# | | the paper | this model |
# |---|---|---|
# | residual stream | 128 | {glue:text}`d-model` |
# | neurons | 512, ReLU | {glue:text}`d-mlp`, ReLU |
# | layers | 1 | 1 |
# | attention heads | not stated | {glue:text}`heads` |
# | context | not stated | {glue:text}`context` tokens |
# | vocabulary | not stated | {glue:text}`vocabulary` tokens |
# | training text | the Pile, 100 billion tokens | {glue:text}`trained-on`, {glue:text}`trained-tokens` million tokens |
#
# ## Tokens
#
# The model does not see letters. A **tokeniser** cuts text into pieces from a fixed list, and the model sees their
# numbers. Ours was made by **byte-pair encoding**: start with the 256 bytes, then merge the pair of neighbours that
# is most frequent in the training text, again and again, until the list is full.
#
# <!-- numbers: 256 (values of a byte) -->
#
# ```{admonition} Predict
# :class: tip
# The English sentence and the Arabic one below are about equally long. Which one takes more tokens, and why?
# ```

# %%
pieces = token_bytes(model.tokenizer)
ids = model.to_ids("The cat is on the roof.")[0].tolist()
print([plots.visible(pieces[i]) for i in ids])

# %% tags=["hide-input"]
def tokens_html(text: str) -> str:
    ids = model.to_ids(text)[0].tolist()
    shown = [plots.visible(pieces[i]) or model.tokenizer.id_to_token(i) for i in ids]
    style = "unicode-bidi: isolate; white-space: pre; margin: 1px"
    cells = " ".join(f"<code style='{style}'>{html.escape(piece)}</code>" for piece in shown)
    return f"<tr><td>{len(text)} characters, {len(ids) - 1} tokens</td><td dir='ltr'>{cells}</td></tr>"


sentences = [
    "The cat is on the roof.",
    "القط على السطح الآن.",
    "החתול על הגג.",
    "max_value = 0x3F;",
    "ACGTTGCA",
]
HTML("<table>" + "".join(map(tokens_html, sentences)) + "</table>")

# %% [markdown]
# `\xd9` and its like are bytes that are not whole letters. Arabic and Hebrew letters take two bytes each in UTF-8.
# The list has room only for what is frequent in the training text. So a rare script is spelled in small pieces, and a
# piece may be half a letter. Keep this in mind: a feature for Arabic script will often see the first half of a letter
# and have to expect the second.
#
# Every row begins with `<|endoftext|>` (it stands for no text, hence the empty piece), the token with the number 0.
# It stands between documents, and in front of every text as the **beginning-of-sequence token**.
#
# ```{admonition} A trap: the first place
# :class: warning
# At the first place there is always the same token and nothing before it. So the activations there are the same in
# every context, and they say nothing about the text. A statistic that includes the first place counts one odd vector
# over and over. Everything in this book leaves it out, from training as well as from every count.
# ```

# %%
two = harvest(model.network, to_tensor(contexts.head(2).ids))
print("equal at place 0:", torch.allclose(two[0, 0], two[1, 0], atol=1e-5))
print("equal at place 9:", torch.allclose(two[0, 9], two[1, 9], atol=1e-5))

# %% [markdown]
# ## An ordinary checkpoint
#
# On disk the model is a Hugging Face folder of the GPT-2 kind, with one block. Nothing about it needs our code. In
# particular it opens in TransformerLens, where you can read and change every intermediate value by name:

# %%
bridge = model.bridge()
ids = model.to_ids("The cat is on the roof.")
with torch.no_grad():
    _, cache = bridge.run_with_cache(ids)
theirs = cache["blocks.0.mlp.hook_post"]
ours = harvest(model.network, ids)
print("shape:", tuple(theirs.shape))
print(f"largest difference: {(theirs - ours).abs().max():.0e}")

# %% [markdown]
# `hook_post` holds one vector of {glue:text}`d-mlp` activations for each token. `sae_core.activations.harvest` reads
# the same numbers with a plain PyTorch hook. It stops before the unembedding, which makes it much faster. The book
# uses it wherever it needs activations by the million.

# %% tags=["remove-cell"]
difference = (theirs - ours).abs().max().item()
assert difference < 1e-4, difference

# %% [markdown]
# ## Which text
#
# The model was trained on *{glue:text}`trained-on`*. The numbers on this page come from {glue:text}`text-again`:
# {glue:text}`text-tokens` tokens in {glue:text}`text-slices` **slices**. A slice is a part of the text of one kind: a
# language, a format, a genre. {numref}`fig-slices` shows their shares. The variety matters. A feature for base64 can
# only be found in a model that has met base64.

# %% tags=["hide-input"]
#| label: fig-slices
#| caption: Shares of the slices in the text of this page, *{glue:text}`text`*.
names = np.array(contexts.slice_names)
counts = np.bincount(np.ravel(contexts.slices[:, 1:]), minlength=len(names))
shares = counts / counts.sum()
by_share = np.argsort(shares)


def tall(rows: int) -> dict:
    """The layout of a figure with one row per slice."""
    return {"height": 110 + 22 * rows, "bargap": 0.25}


figure = go.Figure(go.Bar(x=shares[by_share], y=names[by_share], orientation="h", hovertemplate="%{y}: %{x:.2%}"))
figure.update_xaxes(title="share of the tokens", tickformat=".0%")
figure.update_yaxes(dtick=1)
listed = ", ".join(f"{names[s]} {shares[s]:.1%}" for s in by_share[::-1][:5])
smallest = by_share[0]
alt = f"Bars: {len(names)} slices. The largest are {listed}; the smallest is {names[smallest]} {shares[smallest]:.2%}."
plots.describe(figure, alt, **tall(len(names)))

# %% [markdown]
# ## How well does it predict?
#
# At each place the model gives a probability to every token. Its **loss** is the mean of $-\ln p$ over the tokens
# that really came, in nats. A model that knows nothing gives each token the same probability.
#
# Three baselines say what a loss is worth. The **uniform** model knows nothing. The **unigram** model knows how
# frequent each token is. The **bigram** model knows how often each token follows each other one. A transformer that
# does no better than a bigram has learned nothing that you could not count.
#
# ```{admonition} Predict
# :class: tip
# The model has one layer and a few hundred neurons. By how many nats does it beat the bigram: 0.1, 1, or 3?
# ```

# %%
n_scored = min(chapter.size(quick=400, full=4000), len(contexts.ids) // 2)
scored = contexts.head(n_scored)
counted = contexts.ids[len(contexts.ids) // 2 :]  # by the n-grams


@torch.no_grad()
def losses(ids: np.ndarray) -> np.ndarray:
    """The loss of every token that is predicted, [context, place]."""
    parts = to_tensor(ids).split(16)
    found = [token_losses(model.network, part) for part in parts]
    return torch.cat(found).numpy()


whole = losses(scored.ids)
baseline = ngram_losses(counted, scored.ids, config.vocab_size)

# %% tags=["remove-cell"]
loss = float(whole.mean())
error = float(whole.mean(1).std() / np.sqrt(len(whole)))
recorded = recipe["metrics"]
uniform = float(np.log(config.vocab_size))
unigram = recorded["unigram_loss"] if at_home else baseline["unigram"]
bigram = recorded["bigram_loss"] if at_home else baseline["bigram"]
chapter.number("scored-tokens", whole.size, ",")
chapter.number("counted-tokens", counted[:, 1:].size / 1e6, ".1f")
chapter.number("recorded-tokens", recorded["validation_tokens"], ",")
chapter.number("loss", loss, ".2f")
chapter.number("loss-error", error, ".2f")
chapter.number("loss-recorded", recorded["validation_loss"], ".2f")
chapter.number("uniform", uniform, ".2f")
chapter.number("unigram", baseline["unigram"], ".2f")
chapter.number("unigram-recorded", recorded["unigram_loss"], ".2f")
chapter.number("bigram", baseline["bigram"], ".2f")
chapter.number("bigram-recorded", recorded["bigram_loss"], ".2f")
chapter.number("bigram-used", bigram, ".2f")
beside = recorded["validation_loss"] if at_home else loss  # the model's, on the same tokens as the bigram's
chapter.number("beside-bigram", beside, ".2f")
chapter.number("bigram-gap", abs(bigram - beside), ".2f")
chapter.number("bigram-verdict", "better" if beside < bigram else "worse")
if at_home:
    source = "counted on all of the training text, and recorded when the model was trained"
    fairness = (
        f"Both were made from the same training text and measured on the same {recorded['validation_tokens']:,} "
        "validation tokens, so the comparison is fair."
    )
else:
    source = "counted on the other half of this very text"
    fairness = (
        "That bigram has seen this text and the model has not. It knows the scripts and formats of this page; the "
        "model brings what it learned elsewhere. In the last column both learned from one text: that one is fair."
    )
chapter.number("bigram-source", source)
chapter.number("fairness", fairness)

# %% [markdown]
# | model | predicts from | *{glue:text}`text`*, this page | {glue:text}`trained-on`, recorded after training |
# |---|---|---|---|
# | uniform | nothing | {glue:text}`uniform` | {glue:text}`uniform` |
# | unigram | how frequent tokens are | {glue:text}`unigram` | {glue:text}`unigram-recorded` |
# | bigram | the token before | {glue:text}`bigram` | {glue:text}`bigram-recorded` |
# | the transformer | all tokens before, in its context | {glue:text}`loss` | {glue:text}`loss-recorded` |
#
# The last column was measured on {glue:text}`recorded-tokens` validation tokens when the model was trained, against
# n-grams that were counted on all of its training text. The column before it was computed just now, on
# {glue:text}`scored-tokens` tokens (standard error of the model's loss: {glue:text}`loss-error`). Its n-grams were
# counted on half of the held-out text, {glue:text}`counted-tokens` million tokens, and score tokens of the other
# half. Pieces of one document fall into both halves, which favours them.
#
# So compare the model with the bigram that was {glue:text}`bigram-source`: its loss is {glue:text}`bigram-used`. On
# the same tokens the model has {glue:text}`beside-bigram` and is {glue:text}`bigram-verdict` by
# {glue:text}`bigram-gap` nats. {glue:text}`fairness`
#
# A mean over a mixed text hides a lot. {numref}`fig-loss-by-slice` splits it by slice, next to the bigram of this
# page.

# %% tags=["hide-input"]
#| label: fig-loss-by-slice
#| caption: Loss of the model and of a bigram by slice. The bigram is the one counted on half of this page's text.
#|   A context belongs to the slice that most of its tokens are from.
home = np.array([np.bincount(row).argmax() for row in contexts.slices[: len(contexts.ids) // 2, 1:]])
# Rare slices have few contexts among those already scored; add some, up to ten for each.
more = np.array([row for s in range(len(names)) for row in np.flatnonzero(home == s)[:10] if row >= n_scored], int)
rows = np.concatenate([np.arange(n_scored), more])
row_losses = np.concatenate([whole, losses(contexts.ids[more])]) if len(more) else whole
kept = [s for s in range(len(names)) if (home[rows] == s).sum() >= 3]
model_by_slice = np.array([row_losses[home[rows] == s].mean() for s in kept])
bigram_by_slice = np.array(
    [ngram_losses(counted, contexts.ids[rows[home[rows] == s]], config.vocab_size)["bigram"] for s in kept]
)
order = np.argsort(-model_by_slice)
labels = names[kept][order]
figure = go.Figure()
for label, model_loss, bigram_loss in zip(labels, model_by_slice[order], bigram_by_slice[order], strict=True):
    figure.add_scatter(
        x=[model_loss, bigram_loss], y=[label, label], mode="lines", line_color="gray", showlegend=False,
        hoverinfo="skip",
    )
for title, values, symbol in (("model", model_by_slice, "circle"), ("bigram", bigram_by_slice, "diamond-open")):
    figure.add_scatter(
        x=values[order], y=labels, mode="markers", name=title, marker={"size": 9, "symbol": symbol},
        marker_color=plots.PALETTE[0 if title == "model" else 1], hovertemplate="%{y}: %{x:.2f}",
    )
figure.update_xaxes(title="loss (nats per token)")
figure.update_yaxes(dtick=1)
n_better = int((model_by_slice < bigram_by_slice).sum())
alt = (
    f"Two marks for each of {len(kept)} slices. The model's loss goes from {model_by_slice.min():.1f} ({labels[-1]}) "
    f"to {model_by_slice.max():.1f} ({labels[0]}); the bigram's from {bigram_by_slice.min():.1f} to "
    f"{bigram_by_slice.max():.1f}. The model is better on {n_better} slices."
)
plots.describe(figure, alt, **tall(len(kept) + 1))

# %% tags=["remove-cell"]
chapter.number("slices-compared", len(kept))
chapter.number("slices-better", n_better)
chapter.number("hardest", labels[0])
chapter.number("hardest-loss", model_by_slice.max(), ".1f")
chapter.number("easiest", labels[-1])
chapter.number("easiest-loss", model_by_slice.min(), ".1f")

# %% [markdown]
# The model is better than this bigram on {glue:text}`slices-better` of {glue:text}`slices-compared` slices. Its loss
# is highest on *{glue:text}`hardest`* ({glue:text}`hardest-loss`) and lowest on *{glue:text}`easiest`*
# ({glue:text}`easiest-loss`). Wherever a loss is above {glue:text}`uniform`, the model does worse than knowing
# nothing: it is sure of itself, and wrong.
#
# ```{admonition} A trap: losses of different slices
# :class: warning
# It is tempting to read the figure from top to bottom as hard and easy. But a loss *per token* depends on how long a
# token is. In a script that is spelled in bytes, many tokens are half a letter, which is easy to guess. Compare the
# two marks of one row. To compare rows, divide by the text's bytes: that is the third exercise.
# ```
#
# Numbers aside, here is what the model writes. It was given the first words of each paragraph, in bold.

# %%
prompts = ["The court held that", "In the morning she", "The function returns"]
written_html = ""
for seed, prompt in enumerate(prompts):
    sampled = effects.sample(model, prompt, 1, 45, temperature=0.8, seed=seed)
    written = plots.visible(b"".join(pieces[token] for token in sampled[0]))
    written_html += f"<p><strong>{prompt}</strong>{html.escape(written)}</p>"
HTML(written_html)

# %% [markdown]
# Read one aloud, and count how many words in a row make sense. This is what one layer can do.
#
# ## Does it need its MLP?
#
# The book will take the MLP's activations apart. That is worth the trouble only if the model uses them. It need not:
# attention and the embeddings can predict a good deal without it. So take the MLP away and measure the loss again.
# Taking a part away like this is called **ablation**.
#
# There are two common ways. **Zero-ablation** puts a zero where the MLP's output was. **Mean-ablation** puts the mean
# activation over many tokens in place of each activation. The MLP then still adds something to the residual stream,
# but it is always the same.
#
# ```{admonition} Predict
# :class: tip
# Which ablation costs more? And does the model without its MLP still beat the bigram?
# ```
#
# `patched` replaces the input of a module while the model runs; if you name none, the activations. What goes into
# `mlp.dropout` is the MLP's output: the module itself does nothing after training.

# %%
mean = harvest(model.network, to_tensor(counted[:200]))[:, 1:].mean((0, 1))

mlp_output = "transformer.h.0.mlp.dropout"
with patched(model.network, torch.zeros_like, mlp_output):
    without = losses(scored.ids)
with patched(model.network, lambda x: mean.expand_as(x)):
    with_mean = losses(scored.ids)

# %% tags=["hide-input"]
#| label: fig-loss
#| caption: Loss of the model with its MLP, without it, and of the bigram ({glue:text}`bigram-source`).
zero_cost = float((without - whole).mean())
mean_cost = float((with_mean - whole).mean())
bars = {
    "unigram": unigram,
    "MLP output zero": loss + zero_cost,
    "MLP at its mean": loss + mean_cost,
    "bigram": bigram,
    "model": loss,
}
figure = go.Figure(
    go.Bar(
        x=list(bars.values()), y=list(bars), orientation="h", text=[f"{value:.2f}" for value in bars.values()],
        marker_color=[plots.PALETTE[1 if "gram" in name else 0] for name in bars], hoverinfo="skip",
    )
)
figure.update_xaxes(title="loss (nats per token)")
alt = "Bars: " + ", ".join(f"{name} {value:.2f}" for name, value in bars.items()) + " nats."
plots.describe(figure, alt, height=300)

# %% tags=["remove-cell"]
chapter.number("zero-cost", zero_cost, ".2f")
chapter.number("zero-cost-error", float((without - whole).mean(1).std() / np.sqrt(len(whole))), ".2f")
chapter.number("zero-cost-recorded", recorded["loss_without_mlp"] - recorded["validation_loss"], ".2f")
chapter.number("mean-cost", mean_cost, ".2f")
chapter.number("zero-or-mean", "more" if zero_cost > mean_cost else "less")
chapter.number("without-verdict", "better" if loss + zero_cost < bigram else "worse")
chapter.claim(
    "A1",
    where="model/one_layer_model#fig-loss",
    text=text_name,
    loss=loss,
    unigram_loss=unigram,
    bigram_loss=bigram,
    zero_ablation_cost=zero_cost,
    tokens=whole.size,
)

# %% [markdown]
# Without its MLP the model loses {glue:text}`zero-cost` ± {glue:text}`zero-cost-error` nats per token, and is then
# {glue:text}`without-verdict` than the bigram ({numref}`fig-loss`). On its own validation text the training run
# recorded a cost of {glue:text}`zero-cost-recorded`. Putting the mean in place of the activations costs
# {glue:text}`mean-cost` nats. Here, zero costs {glue:text}`zero-or-mean` than the mean.
#
# Remember the cost. The next chapters replace the activations by a dictionary's reconstruction, and judge it by how
# much of this cost it takes back.
#
# ```{admonition} A trap: a damaged model
# :class: warning
# The cost of an ablation is not "what the MLP contributes". The rest of the model was trained with the MLP in place.
# It has never met a residual stream without one, and part of the loss is its confusion. Zero is a place where the
# activations never are; the mean is closer to where they live, and is still one vector for every token. A model that
# was trained *without* an MLP would probably do better than either.
# ```

# %% [markdown]
# ## Its neurons
#
# So the MLP matters. What does it represent? The obvious guess is that each of its {glue:text}`d-mlp` neurons stands
# for one property of the text. If that were so, we could read the model by reading its neurons, and this book would
# end here.
#
# We look at all neurons on {glue:text}`neuron-tokens` tokens. First: how often is a neuron active, that is, above
# zero?
#
# ```{admonition} Predict
# :class: tip
# A detector for one language or one format should be silent almost everywhere. On what share of the tokens do you
# expect a typical neuron to be active: 1 in 1,000, 1 in 100, 1 in 10, or 1 in 2?
# ```

# %%
neurons = evidence.neuron_evidence(model, contexts.head(400))

# %% tags=["hide-input"]
#| label: fig-neuron-density
#| caption: How often the neurons are active, as a share of {glue:text}`neuron-tokens` tokens.
density = neurons.density
figure = go.Figure(go.Histogram(x=density, xbins={"start": 0, "end": 1, "size": 0.02}, hovertemplate="%{x}: %{y}"))
figure.update_xaxes(title="share of tokens with the neuron active", range=[0, 1], tickformat=".0%")
figure.update_yaxes(title="neurons")
low, median, high = np.quantile(density, [0.1, 0.5, 0.9])
alt = (
    f"Histogram of {len(density)} neurons. The median neuron is active on {median:.0%} of the tokens; eight in ten "
    f"lie between {low:.0%} and {high:.0%}, all between {density.min():.2%} and {density.max():.0%}."
)
plots.describe(figure, alt, bargap=0.05, height=320)

# %% tags=["remove-cell"]
chapter.number("neuron-tokens", neurons.n_tokens, ",")
chapter.number("density-median", median, ".0%")
chapter.number("density-min", density.min(), ".2%")
chapter.number("active-at-once", density.sum(), ".0f")

# %% [markdown]
# The median neuron is active on {glue:text}`density-median` of the tokens, the quietest on {glue:text}`density-min`
# ({numref}`fig-neuron-density`). On an average token, {glue:text}`active-at-once` neurons are active at once. Compare
# that with the paper's dictionary, most of whose features are active on fewer than one token in 1,000.
#
# ### A number for "mixed"
#
# Now what do they respond to? Our text comes in slices, so we can count. Take a neuron's activation on all tokens and
# add it up slice by slice. This gives a distribution over slices: $p_s$ is the share of the neuron's total activation
# that falls on slice $s$. If $k$ slices have equal shares, we want to say "$k$ slices". The exponential of the
# entropy does that, and gives something in between when the shares are unequal:
#
# $$
# k_{\mathrm{eff}} = \exp\left(-\sum_s p_s \ln p_s\right)
# $$
#
# This is the **effective number of slices**. A neuron that is active on a single slice has 1. A neuron that does not
# care about slices has that of the text itself, {glue:text}`text-effective`.
#
# Weak activations are most of a neuron's activations, and perhaps they are noise. So we also look only at the 20
# contexts in which the neuron is strongest, and compute the same number from the slices of these 20 tokens. For
# comparison: 20 random tokens of this text have {glue:text}`random-effective` on average.
#
# ```{admonition} Predict
# :class: tip
# Among its 20 strongest contexts, how many effective slices will the median neuron have? Close to 1? Close to random?
# ```

# %%
def effective_number(weights: np.ndarray) -> np.ndarray:
    """exp(entropy) of the distributions along the last axis."""
    p = weights / np.maximum(weights.sum(-1, keepdims=True), 1e-9)
    return np.exp(-(p * np.log(np.where(p > 0, p, 1))).sum(-1))


n_slices, text = len(names), neurons.contexts
slice_of = np.ravel(text.slices)
owner = np.repeat(np.arange(neurons.n_features), neurons.counts)
cell = owner * n_slices + slice_of[neurons.places]
mass = np.bincount(cell, neurons.values, neurons.n_features * n_slices)
mass = mass.reshape(-1, n_slices)

top = [neurons.top_examples(i, 20) for i in range(neurons.n_features)]
top_slices = np.zeros((neurons.n_features, n_slices))
for i, examples in enumerate(top):
    for example in examples:
        top_slices[i, text.slices[example.context, example.position]] += 1

mixed, top_mixed = effective_number(mass), effective_number(top_slices)

# %% tags=["hide-input"]
#| label: fig-mixed
#| caption: Effective number of slices of every neuron. The dashed lines show the text itself and 20 random tokens.
rng = np.random.default_rng(0)
random_top = rng.choice(slice_of, (2000, 20))
random_top = effective_number(np.array([np.bincount(row, minlength=n_slices) for row in random_top]))
by_chance = float(random_top.mean())
of_text = float(effective_number(np.bincount(slice_of, minlength=n_slices).astype(float)))
figure = go.Figure()
widest = max(mixed.max(), top_mixed.max(), of_text)
bins = {"start": 1, "end": float(np.ceil(widest)), "size": float(np.ceil(widest) - 1) / 40}
groups = (("20 strongest contexts", top_mixed, by_chance), ("all activations", mixed, of_text))
for index, (title, values, reference) in enumerate(groups):
    colour = plots.PALETTE[1 - index]
    figure.add_histogram(x=values, name=title, xbins=bins, marker_color=colour, opacity=0.75)
    figure.add_vline(x=reference, line_dash="dash", line_color=colour)
figure.update_xaxes(title="effective number of slices", range=[1, np.ceil(widest)])
figure.update_yaxes(title="neurons")
alt = (
    f"Two histograms of {len(mixed)} neurons. All activations: median {np.median(mixed):.1f}, from {mixed.min():.1f} "
    f"to {mixed.max():.1f}; the text itself has {of_text:.1f}. The 20 strongest contexts: median "
    f"{np.median(top_mixed):.1f}, from {top_mixed.min():.1f} to {top_mixed.max():.1f}; random tokens {by_chance:.1f}."
)
plots.describe(figure, alt, barmode="overlay", height=380)

# %% tags=["remove-cell"]
different = (top_slices > 0).sum(1)
top_tokens = np.array([len({int(e.tokens[e.center]) for e in examples}) for examples in top])
chapter.number("text-effective", of_text, ".1f")
chapter.number("random-effective", by_chance, ".1f")
chapter.number("mixed-median", np.median(mixed), ".1f")
chapter.number("mixed-ratio", np.median(mixed) / of_text, ".0%")
chapter.number("top-median", np.median(top_mixed), ".1f")
chapter.number("top-ratio", np.median(top_mixed) / by_chance, ".0%")
chapter.number("different-median", np.median(different), ".0f")
chapter.number("one-slice", int((different == 1).sum()))
chapter.number("one-slice-share", (different == 1).mean(), ".0%")
chapter.number("four-slices-share", (different >= 4).mean(), ".0%")
chapter.number("different-tokens", np.median(top_tokens), ".0f")
chapter.number("varied", int((top_tokens >= np.median(top_tokens)).sum()))

# %% [markdown]
# Taken over all its activations, the median neuron has {glue:text}`mixed-median` effective slices. That is
# {glue:text}`mixed-ratio` of what the text itself has ({numref}`fig-mixed`). Among the 20 strongest contexts the
# median is {glue:text}`top-median`, or {glue:text}`top-ratio` of random.
#
# Counted plainly: the 20 strongest contexts of the median neuron come from {glue:text}`different-median` different
# slices. {glue:text}`four-slices-share` of the neurons reach into four or more. {glue:text}`one-slice` of
# {glue:text}`d-mlp` neurons ({glue:text}`one-slice-share`) stay within one.
#
# One caution before we look at single neurons. A neuron for one word can find it in every slice, and it is not mixed
# at all. So we also count the different tokens at which a neuron's 20 strongest activations lie. The median is
# {glue:text}`different-tokens`. From here on we look only at the {glue:text}`varied` neurons with at least that many.
#
# In {numref}`fig-neuron-slices` they are chosen by rank, from the least mixed to the most mixed among the 20
# strongest contexts. Choose one from the list, and compare its bars with the text's.

# %% tags=["hide-input"]
#| label: fig-neuron-slices
#| caption: Where a neuron's activation falls, and where the text is. Choose a neuron from the list above the figure.
rank = np.lexsort((mixed, top_mixed))  # by the strongest contexts; where these are equal, by all activations
rank = rank[top_tokens[rank] >= np.median(top_tokens)]
steps = np.linspace(0, len(rank) - 1, 9).round().astype(int)
least, middle, most = (int(rank[step]) for step in steps[[0, 4, 8]])
neuron_shares = mass / mass.sum(1, keepdims=True)
ours_text = np.bincount(slice_of, minlength=n_slices) / slice_of.size
present = by_share[ours_text[by_share] > 0]
first = most
figure = go.Figure()
figure.add_bar(x=ours_text[present], y=names[present], name="the text", orientation="h", marker_color=plots.PALETTE[7])
figure.add_bar(
    x=neuron_shares[first][present], y=names[present], name="the neuron's activation", orientation="h",
    marker_color=plots.PALETTE[0],
)
words = {0: "least mixed", 4: "median", 8: "most mixed"}
buttons = [
    {
        "label": f"neuron {rank[step]}, {words.get(place, f'rank {step + 1}')}",
        "method": "restyle",
        "args": [{"x": [neuron_shares[rank[step]][present].tolist()]}, [1]],
    }
    for place, step in enumerate(steps)
]
menu = {"buttons": buttons, "active": 8, "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "pad": {"b": 8}}
figure.update_xaxes(title="share", tickformat=".0%", range=[0, 1.02 * neuron_shares[rank[steps]].max()])
figure.update_yaxes(dtick=1)


def strongest_slices(neuron: int) -> str:
    best = np.argsort(-neuron_shares[neuron])[:3]
    return f"neuron {neuron}: " + ", ".join(f"{names[s]} {neuron_shares[neuron][s]:.0%}" for s in best)


alt = (
    f"Two bars for each of {len(present)} slices: the share of a chosen neuron's activation and the share of the text. "
    f"Largest shares, most mixed {strongest_slices(most)}; median {strongest_slices(middle)}; "
    f"least mixed {strongest_slices(least)}."
)
plots.describe(figure, alt, updatemenus=[menu], **tall(2 * len(present)) | {"height": 200 + 24 * len(present)})

# %% tags=["remove-cell"]
for word, neuron in (("least", least), ("middle", middle), ("most", most)):
    chapter.number(f"{word}-neuron", neuron)
    chapter.number(f"{word}-slices", int(different[neuron]))
    chapter.number(f"{word}-tokens", int(top_tokens[neuron]))
    chapter.number(f"{word}-density", density[neuron], ".0%")

# %% [markdown]
# ### The most mixed neuron
#
# Numbers are one thing, examples another. Below are snippets of text around tokens on which neuron
# {glue:text}`most-neuron` is active. The underlined token is the one that the snippet was chosen for. The deeper the
# colour, the stronger the activation; point at a token to see it as a number. First come the strongest examples, then
# random ones from each quarter of its range.

# %%
plots.feature_examples(neurons, most, pieces)

# %% [markdown]
# Its 20 strongest contexts come from {glue:text}`most-slices` slices, and lie at {glue:text}`most-tokens` different
# tokens. Try to find one description that covers the rows above.
#
# ### A median neuron
#
# Neuron {glue:text}`middle-neuron`, active on {glue:text}`middle-density` of the tokens; {glue:text}`middle-slices`
# slices among the 20 strongest contexts:

# %%
plots.feature_examples(neurons, middle, pieces)

# %% [markdown]
# ### The least mixed neuron
#
# Neuron {glue:text}`least-neuron`, active on {glue:text}`least-density` of the tokens; {glue:text}`least-slices`
# among the 20 strongest:

# %%
plots.feature_examples(neurons, least, pieces)

# %% [markdown]
# Compare its strongest examples with those from the lower quarters. Do they show the same thing? It was chosen for
# its strongest 20, so a fair judgement needs the others.
#
# ```{admonition} A trap: what the slices cannot see
# :class: warning
# A neuron that responds to several unrelated things is **polysemantic**. Mixing of slices is only a proxy for it, and
# errs both ways. A neuron for commas is as pure as can be, and finds commas in every slice. A neuron for three
# unrelated words of English prose looks pure to us. So read the number as "how little this neuron cares about our
# slices", and read the examples before you believe it. The paper had people score examples without knowing where they
# came from. That is better, and slower.
# ```
#
# ## Why would a model do this?
#
# Why not one property, one neuron? One answer is that there are too few neurons. Text has more properties worth
# knowing than the {glue:text}`d-mlp` neurons of this model: scripts, formats, topics, words, what is about to come.
# Most of them are absent from most tokens.
#
# The **superposition hypothesis** {cite}`elhage2022superposition` says that the model makes use of this. It gives
# each property a *direction* in the space of activations, not a neuron of its own. A space of $n$ dimensions has only
# $n$ directions at right angles, but far more that are *almost* at right angles. Properties then disturb each other a
# little, and as long as few are present at a time, ReLU can clean up most of the disturbance. Seen from one neuron,
# many directions pass by, and the neuron answers to all of them. It looks mixed because it is the wrong thing to look
# at.
#
# This is a hypothesis. Mixed neurons fit it, but do not prove it: properties could be mixed for other reasons too. It
# makes a prediction, though. If activations are sums of a few directions out of many, then a method that looks for
# exactly that should find directions that are easier to read than neurons. The {doc}`next chapter
# </book/dictionary/training>` builds it.
#
# ## What the paper found, what we found
#
# | | the paper | here, on *{glue:text}`text`* |
# |---|---|---|
# | loss of the model | not stated | {glue:text}`loss` nats per token |
# | loss of a bigram | not stated | {glue:text}`bigram-used` ({glue:text}`bigram-source`) |
# | cost of zero-ablating the MLP | not stated | {glue:text}`zero-cost` nats |
# | tokens on which the median neuron is active | not stated | {glue:text}`density-median` |
# | slices in a neuron's 20 strongest contexts | not counted, "mixed" by eye | {glue:text}`different-median` (median) |
#
# **How our set-up differs.** The paper trained on 100 billion tokens of the Pile; we trained on
# {glue:text}`trained-tokens` million of a much smaller mixture of open texts. Their model was trained long past the
# point where a model of its size is usually stopped, because they expected more features to be learned that way. They
# judged neurons by eye, blind, on a scale; we only count slices. Their example of a mixed neuron responds to
# citations, English dialogue, HTTP requests and Korean text.
#
# ```{admonition} Takeaways
# :class: note
# - The model is an embedding, one attention layer, one MLP and an unembedding. From a neuron to the logits all is
#   linear, but for one positive factor.
# - A loss means little by itself. Put a bigram next to it, and ask which text each of them has seen.
# - Without the MLP the loss rises by {glue:text}`zero-cost` nats, so there is something in its activations to
#   explain.
# - {glue:text}`four-slices-share` of the neurons reach into four or more slices with their 20 strongest contexts. If
#   the model represents single properties, single neurons are a poor place to look for them. But
#   {glue:text}`features-words`
# ```
#
# ## Exercises
#
# Each states its difficulty, how important it is for the rest of the book, and a time. The cell below an exercise is
# where your answer goes. The folded cell after it checks the answer.
#
# ```{exercise-start} How far back does it look?
# :label: ex-model-position
# ```
# *Difficulty 1/5 · importance 3/5 · 10 minutes.* Early in a context the model has little to go by. Write
# `loss_between(losses, edges)` for losses with one row per context and one column per place. It returns the mean loss
# in each bin of places: the first bin begins at `edges[0]` and ends just before `edges[1]`, and so on. Use bins that
# double in width. After how many tokens does more context stop helping?
#
# ````{admonition} Hint 1
# :class: dropdown
# `whole` has the losses of this page. `whole[:, 4:8]` holds those at the places 4 to 7, of all contexts.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# `zip(edges[:-1], edges[1:])` gives the two ends of each bin. Take the mean over rows and places at once.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def loss_between(losses, edges):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-model-position")
def check_loss_between(loss_between):
    made_up = np.array([[8.0, 4.0, 2.0, 2.0, 1.0], [6.0, 2.0, 2.0, 4.0, 3.0]])
    found = np.asarray(loss_between(made_up.copy(), [0, 1, 2, 5]))
    assert found.shape == (3,), "return one number for each bin; four edges make three bins"
    assert not np.allclose(found, [8, 4, 5 / 3]), "that is the first context alone; take the mean over all rows"
    assert not np.isclose(found[0], 5), "an end is just before the next edge, so no place is in two bins"
    assert np.allclose(found, [7, 3, 7 / 3]), "a bin is the mean over its places and over all contexts"
    assert np.allclose(loss_between(made_up.copy(), [1, 3]), [2.5]), "the bins need not begin at place 0"
    width = whole.shape[1]
    on_the_text = np.asarray(loss_between(whole.copy(), [0, width // 3, width]))
    together = np.average(on_the_text, weights=[width // 3, width - width // 3])
    assert np.isclose(together, whole.mean(), rtol=1e-4), "the bins of this page's losses do not add up to its loss"


check_loss_between(loss_between)

# %% [markdown]
# ````{solution-start} ex-model-position
# :class: dropdown
# ````

# %%
def loss_between(losses, edges):
    return [losses[:, start:end].mean() for start, end in zip(edges[:-1], edges[1:], strict=True)]


edges = [0, 1, 2, 4, 8, 16, 32, 64, 128, whole.shape[1]]
for start, end, mean_loss in zip(edges[:-1], edges[1:], loss_between(whole, edges), strict=True):
    print(f"predicting places {start + 1:>3} to {end:>3}: {mean_loss:.2f}")
check_loss_between(loss_between)

# %% [markdown]
# The first tokens are the hardest: there is nothing before them. A bigram would show no change after the second.
# Whatever the loss gains after that is the work of attention.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
def both_ends(losses, edges):
    return [losses[:, start : end + 1].mean() for start, end in zip(edges[:-1], edges[1:], strict=True)]


def everything_so_far(losses, edges):
    return [losses[:, :end].mean() for end in edges[1:]]


check_loss_between.refuses(both_ends, because="no place is in two bins")
check_loss_between.refuses(lambda losses, edges: loss_between(losses[:1], edges), because="over all rows")
check_loss_between.refuses(everything_so_far, because="over its places")

# %% [markdown]
# ```{exercise-start} Activations or output?
# :label: ex-model-zero
# ```
# *Difficulty 2/5 · importance 4/5 · 10 minutes.* We set the MLP's *output* to zero. Later chapters set its
# *activations* to zero. Is that the same? Write `loss_without_activations(ids)`, the loss of every predicted token when
# the activations are zero. Measure the difference on 50 contexts. Then set `remains` to what the MLP still adds to the
# residual stream, a vector.
#
# ````{admonition} Hint 1
# :class: dropdown
# Look at the equation for $\mathbf{r}''$. What is left if $\mathbf{x} = 0$?
# ````
# ````{admonition} Hint 2
# :class: dropdown
# The section above has nearly the same: `with patched(model.network, torch.zeros_like, mlp_output)`. Name no module,
# and the activations are replaced. `losses(ids)` measures.
# ````
# ````{admonition} Hint 3
# :class: dropdown
# The biases of the MLP are `model.network.transformer.h[0].mlp.c_fc.bias` and the same with `c_proj`. Which one is
# added after the activations?
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
remains = None


def loss_without_activations(ids):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-model-zero")
def check_zero(remains, loss_without_activations):
    some = scored.ids[:10]
    found = np.asarray(loss_without_activations(some))
    assert found.shape == (10, some.shape[1] - 1), "return a loss for each token that is predicted"
    assert not np.allclose(found, whole[:10], atol=1e-3), "that is the loss of the model as it is"
    assert not np.allclose(found, without[:10], atol=1e-3), "that is the loss with the output at zero"
    rest = model.network.transformer.h[0].mlp.c_proj.bias
    with patched(model.network, lambda output: rest.expand_as(output), mlp_output):
        right = losses(some)
    assert np.allclose(found, right, atol=1e-3), "the activations must be zero, on every token"
    assert np.allclose(whole[:10], losses(some), atol=1e-3), "the model must be left as it was"
    vector = torch.as_tensor(remains).detach()
    assert vector.shape == rest.shape, f"what remains is one vector, the same everywhere, of width {len(rest)}"
    assert torch.allclose(vector, rest, atol=1e-5), "that vector is not what the MLP adds when its activations are zero"


check_zero(remains, loss_without_activations)

# %% [markdown]
# ````{solution-start} ex-model-zero
# :class: dropdown
# ````

# %%
remains = model.network.transformer.h[0].mlp.c_proj.bias


def loss_without_activations(ids):
    with patched(model.network, torch.zeros_like):
        return losses(ids)


print(f"as it is {whole[:50].mean():.2f}")
print(f"activations zero {loss_without_activations(scored.ids[:50]).mean():.2f}")
print(f"output zero {without[:50].mean():.2f}")
print(f"norm of the bias that stays: {remains.norm():.2f}")
check_zero(remains, loss_without_activations)

# %% [markdown]
# With the activations at zero, $\mathbf{b}_{\mathrm{out}}$ still goes into the residual stream, the same vector
# everywhere. The model was trained with it, so keeping it makes a difference.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
def output_at_zero(ids):
    with patched(model.network, torch.zeros_like, mlp_output):
        return losses(ids)


def activations_at_their_mean(ids):
    with patched(model.network, lambda x: mean.expand_as(x)):
        return losses(ids)


check_zero.refuses(remains, output_at_zero, because="output at zero")
check_zero.refuses(remains, activations_at_their_mean, because="must be zero")
check_zero.refuses(torch.zeros_like(remains), loss_without_activations, because="not what the MLP adds")
check_zero.refuses(model.network.transformer.h[0].mlp.c_fc.bias, loss_without_activations, because="of width")

# %% [markdown]
# ```{exercise-start} Bits per byte
# :label: ex-model-bytes
# ```
# *Difficulty 2/5 · importance 3/5 · 15 minutes.* Tokens differ in length, so losses per token of two slices cannot be
# compared. Write `bits_per_byte(nats, ids)` for contexts `ids`, whose first column is the beginning-of-sequence token,
# and the losses `nats` of all other tokens. Apply it to the slices of {numref}`fig-loss-by-slice`. Which of them change
# places?
#
# ````{admonition} Hint 1
# :class: dropdown
# A nat is $1 / \ln 2$ bits. `pieces` holds the bytes of every token of the vocabulary. Divide the sum of the losses by
# the sum of the bytes.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# The losses in column 0 of `nats` are those of the tokens in column 1 of `ids`. So count the bytes of `ids[:, 1:]`.
# ````
# ````{admonition} Hint 3
# :class: dropdown
# `row_losses` has the losses of the contexts `rows`, and `home` the slice of a context. The losses of slice `s` are
# `row_losses[home[rows] == s]`, and their tokens `contexts.ids[rows[home[rows] == s]]`.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def bits_per_byte(nats, ids):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-model-bytes")
def check_bits_per_byte(bits_per_byte):
    sizes = np.array([len(piece) for piece in pieces])
    one, three = (int(np.flatnonzero(sizes == size)[0]) for size in (1, 3))
    made_up = np.array([[0, one, one, three], [0, three, one, one]])
    by_length = sizes[made_up[:, 1:]] * 8 * np.log(2)  # each byte costs eight bits
    found = bits_per_byte(by_length.copy(), made_up)
    assert np.ndim(found) == 0, "return one number"
    assert not np.isclose(found, 8 * np.log(2)), "that is in nats; a nat is 1 / ln 2 bits"
    assert not np.isclose(found, 8 * np.log(2) ** 2), "a nat is more than a bit: divide by ln 2"
    assert np.isclose(found, 8), "if each byte costs eight bits, the answer is 8"
    uneven = np.log(2) * np.array([[6.0, 1.0, 3.0], [3.0, 6.0, 1.0]])
    found = bits_per_byte(uneven, made_up)
    per_token = uneven / np.log(2) / sizes[made_up[:, 1:]]
    assert not np.isclose(found, per_token.mean()), "divide sums; the mean of the tokens' ratios counts short ones more"
    assert np.isclose(found, 20 / 10), "divide the sum of the losses by the bytes of the tokens that they belong to"


check_bits_per_byte(bits_per_byte)

# %% [markdown]
# ````{solution-start} ex-model-bytes
# :class: dropdown
# ````

# %%
def bits_per_byte(nats, ids):
    length = np.array([len(piece) for piece in pieces])
    return nats.sum() / np.log(2) / length[ids[:, 1:]].sum()


table = []
for s in kept:
    inside = home[rows] == s
    bits = bits_per_byte(row_losses[inside], contexts.ids[rows[inside]])
    table.append((bits, row_losses[inside].mean(), names[s]))
for bits, nats, name in sorted(table):
    print(f"{name:<14}{bits:6.2f} bits per byte,{nats:6.2f} nats per token")
check_bits_per_byte(bits_per_byte)

# %% [markdown]
# `<|endoftext|>` has no bytes; the cost of predicting it is part of the sum. Bits per byte are what a compressor
# built on this model would need: plain text takes 8.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
lengths = np.array([len(piece) for piece in pieces])


def one_place_off(nats, ids):
    return nats.sum() / np.log(2) / lengths[ids[:, :-1]].sum()


def mean_of_ratios(nats, ids):
    return (nats / np.log(2) / lengths[ids[:, 1:]]).mean()


check_bits_per_byte.refuses(lambda nats, ids: bits_per_byte(nats, ids) * np.log(2), because="in nats")
check_bits_per_byte.refuses(lambda nats, ids: bits_per_byte(nats, ids) * np.log(2) ** 2, because="divide by ln 2")
check_bits_per_byte.refuses(one_place_off, because="the answer is 8")
check_bits_per_byte.refuses(mean_of_ratios, because="divide sums")

# %% [markdown]
# ```{exercise-start} A fair fight for the proxy
# :label: ex-model-features
# ```
# *Difficulty 3/5 · importance 5/5 · 20 minutes.* The book claims that dictionary features are easier to read than
# neurons. Write `top_slices_of(units, index)`: the effective number of slices among the 20 strongest contexts of one
# neuron or feature, whatever `units` is evidence of, and `None` for one that is active in fewer than 20 contexts. Use
# it on the features of the bundled dictionary A/1, on the same text. Before you do: which features will look mixed
# although they respond to one thing?
#
# ````{admonition} Hint 1
# :class: dropdown
# `evidence.feature_evidence(model, load_dictionary("A/1"), neurons.contexts)` has the same form as `neurons`, and
# `load_dictionary` is in `sae_core.autoencoder`.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# `units.top_examples(index, 20)` gives the examples, one per context. The slice of an example `e` is
# `units.contexts.slices[e.context, e.position]`.
# ````
# ````{admonition} Hint 3
# :class: dropdown
# `effective_number(np.bincount(slices))` turns the slices of the examples into their effective number.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def top_slices_of(units, index):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
import dataclasses


@check("ex-model-features")
def check_top_slices(top_slices_of):
    draw = np.random.default_rng(0)
    shuffled = text._replace(slices=draw.integers(0, 9, text.slices.shape), slice_names=[*"abcdefghi"])
    units = dataclasses.replace(neurons, contexts=shuffled)  # the same neurons, in a text of nine made-up slices
    for index in np.argsort(-neurons.counts)[:40:10].tolist():
        places, values = units.of(index)
        slices_there = shuffled.slices.ravel()[places]
        of_contexts = [shuffled.slices[e.context, e.position] for e in units.top_examples(index, 20)]
        of_tokens = slices_there[np.argsort(-values)[:20]]
        right = effective_number(np.bincount(of_contexts))
        found = top_slices_of(units, index)
        assert found is not None, f"unit {index} is active in enough contexts, but you return None"
        assert np.ndim(found) == 0, "return one number for one unit"
        if not np.isclose(found, right):
            assert found != len(set(of_contexts)), "take the effective number; you count the slices"
            everywhere = effective_number(np.bincount(slices_there, weights=values))
            assert not np.isclose(found, everywhere), "only the 20 strongest contexts count"
            assert not np.isclose(found, effective_number(np.bincount(of_tokens))), "take one token of each context"
            raise AssertionError("wrong slices: take those of `units.contexts`, at the strongest token of each context")
    scarce = units.between(0, 15)
    assert top_slices_of(scarce, int(neurons.counts.argmax())) is None, "with fewer than 20 contexts, return None"


check_top_slices(top_slices_of)

# %% [markdown]
# ````{solution-start} ex-model-features
# :class: dropdown
# ````

# %%
from sae_core.autoencoder import load_dictionary


def top_slices_of(units, index):
    examples = units.top_examples(index, 20)
    if len(examples) < 20:
        return None
    return effective_number(np.bincount([units.contexts.slices[e.context, e.position] for e in examples]))


features = evidence.feature_evidence(model, load_dictionary("A/1"), neurons.contexts)
found = [top_slices_of(features, feature) for feature in np.flatnonzero(features.counts >= 20)]
found = [number for number in found if number is not None]
quarters = [0.25, 0.5, 0.75]
print("neurons, quartiles: ", np.quantile(top_mixed, quarters).round(1))
print("features, quartiles:", np.quantile(found, quarters).round(1), f"({len(found)} of {features.n_features})")
check_top_slices(top_slices_of)

# %% tags=["remove-cell"]
of_neurons, of_features = float(np.median(top_mixed)), float(np.median(found))
medians = f"the medians are {of_neurons:.1f} for neurons and {of_features:.1f} for features"
if abs(of_features / of_neurons - 1) < 0.1:
    sentence = f"By this measure features are no purer than neurons: {medians}. So it is no evidence for features."
    words = "features score the same by this proxy (the last exercise), so it cannot decide which of the two is purer."
elif of_features < of_neurons:
    sentence = f"By this measure features are purer than neurons: {medians}."
    words = "this is a proxy. By it, features are purer (the last exercise)."
else:
    sentence = f"By this measure features are more mixed than neurons: {medians}."
    words = "features score worse by this proxy (the last exercise), so it cannot say where to look instead."
chapter.number("features-sentence", sentence)
chapter.number("features-words", words)

# %% [markdown]
# {glue:text}`features-sentence`
#
# A feature for one word, such as " the", finds it in every slice with English in it, and looks mixed. So this
# comparison is harder on features than it should be. It also leaves out the rarest features, which have fewer than 20
# contexts to show. A proxy that you have seen fail is one you can use.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
def all_activations(units, index):
    places, values = units.of(index)
    return effective_number(np.bincount(units.contexts.slices.ravel()[places], weights=values))


def of_the_page(units, index):
    return top_mixed[index]


def without_a_bar(units, index):
    return effective_number(
        np.bincount([units.contexts.slices[e.context, e.position] for e in units.top_examples(index, 20)])
    )


def strongest_tokens(units, index):
    places, values = units.of(index)
    return effective_number(np.bincount(units.contexts.slices.ravel()[places[np.argsort(-values)[:20]]]))


def number_of_slices(units, index):
    return len({units.contexts.slices[e.context, e.position] for e in units.top_examples(index, 20)})


check_top_slices.refuses(all_activations, because="20 strongest contexts")
check_top_slices.refuses(of_the_page, because="units.contexts")
check_top_slices.refuses(without_a_bar, because="return None")
check_top_slices.refuses(strongest_tokens, because="one token of each context")
check_top_slices.refuses(number_of_slices, because="you count the slices")
