# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Training a sparse autoencoder
#
# The last chapter left you with neurons that respond to mixtures. This one builds the tool that takes the mixtures
# apart, a {term}`sparse autoencoder`: a small network that rewrites each {term}`activation vector` as a sum of a few
# directions. You will see every rule of its training, next to the line of code that follows it, and then a training run
# with all of them.
#
# ```{admonition} Before you start
# **You will be able to**
# - write down the autoencoder and its loss, and convert λ between the conventions that people use;
# - name each rule of the paper's recipe, say why it is there, and find the line that implements it;
# - read the curves of a training run: loss, sparsity, {term}`dead features <dead feature>`, and the spikes of
#   {term}`resampling`;
# - train a dictionary of your own, and say what a short run can and cannot show.
#
# **You need** the chapter {doc}`/book/model/one_layer_model`, and to know what gradient descent and Adam are.
#
# **Time**: 45 minutes to read, about a minute to run.
# ```

# %% tags=["hide-input"]
import dataclasses
import functools
import inspect
import json
import math
import statistics
import textwrap
import time
from unittest import mock

import numpy as np
import plotly.graph_objects as go
import torch
from IPython.display import HTML, Markdown, display
from plotly.subplots import make_subplots

from sae_core import activations, bundle, chapter, metrics, objective, plots, resampling, training
from sae_core.autoencoder import SparseAutoencoder, dictionary_metadata, load_dictionary
from sae_core.exercises import check
from sae_core.language_model import load_model, to_tensor
from sae_core.recipe import TrainConfig, paper_scaled
from sae_core.runs import held_out, held_out_description, training_text
from sae_core.step import loss_step
from sae_core.tokens import load_contexts


def quote(thing, first: str = "", last: str = "") -> Markdown:
    """Lines of the package as they are now: all, or from the line that contains `first` to the one with `last`."""
    lines = textwrap.dedent(inspect.getsource(thing)).splitlines()
    start = next(i for i, line in enumerate(lines) if first in line)
    stop = next(i for i, line in enumerate(lines) if i >= start and last in line) if first else len(lines) - 1
    code = textwrap.dedent("\n".join(lines[start : stop + 1]))
    return Markdown(f"`{thing.__module__}.{thing.__qualname__}`\n\n```python\n{code}\n```")


# %%
model = load_model("A")
held, text_name = held_out(model)

# %% [markdown]
# This page was run on the text *{glue:text}`text`*: {glue:text}`text-description`.
#
# ## The idea
#
# The MLP of our model has 512 neurons. At every token they give an **activation vector** $x$ of 512 numbers, which
# are zero or positive. The paper's guess is that $x$ is a sum of a few *directions*, picked from a long list, each
# with its own strength {cite}`bricken2023monosemanticity`:
#
# $$x \;\approx\; b + \sum_i f_i(x)\, d_i .$$
#
# Each $d_i$ is a direction in the space of the 512 neurons, and is meant to stand for one property of the text: "this
# is Arabic", "a closing bracket is due". The strength $f_i(x)$ says how much of it there is. We call the pair, a
# direction and its strength, a **feature**, and the list of all directions a **dictionary**.
#
# The list may be longer than 512, because few of its entries are used at a time. This is why neurons look mixed: there
# are more properties than neurons, and each neuron takes part in many. Nobody tells us the directions. We have to find
# them from examples of $x$ alone.
#
# ```{admonition} Predict
# :class: tip
# A list of 512 directions that are linearly independent can write *any* $x$ exactly. So what makes one list better
# than another? And what would be the best list of all, if $f$ had no other constraint than to be exact?
# ```
#
# ```{admonition} Answer
# :class: dropdown
# Being exact is cheap: the neurons themselves are such a list. A good list needs *few* entries for each $x$. Without a
# price on the number of entries in use, nothing prefers one list to another. The price is the whole idea.
# ```
#
# ## The equations
#
# A **sparse autoencoder** learns the list and the strengths together. It has two halves:
#
# $$f(x) = \mathrm{ReLU}\big((x - b_{dec})\, W_{enc} + b_{enc}\big) \qquad\text{(encoder)}$$
#
# $$\hat x = f(x)\, W_{dec} + b_{dec} \qquad\text{(decoder)}$$
#
# | symbol | shape | what it is |
# |---|---|---|
# | $x$ | 512 | an activation vector, a row of a batch |
# | $f(x)$ | $d_{sae}$ | the **codes**: how strongly each feature is active, zero or positive |
# | $\hat x$ | 512 | the **reconstruction** of $x$ |
# | $W_{enc}$ | 512 × $d_{sae}$ | one column for each feature: what it looks for |
# | $b_{enc}$ | $d_{sae}$ | one threshold for each feature |
# | $W_{dec}$ | $d_{sae}$ × 512 | one row for each feature: its direction $d_i$ |
# | $b_{dec}$ | 512 | where the sum starts; also subtracted from $x$ before the encoder |
#
# Vectors are rows here, as in the code. The paper writes columns. In the package the two halves are one line each:

# %% tags=["remove-input"]
display(quote(SparseAutoencoder.encode, "return", "return"), quote(SparseAutoencoder.decode, "return", "return"))

# %% [markdown]
# ## The loss, and what λ means
#
# Two wishes pull against each other. The reconstruction should be close to $x$, and few codes should be active. The
# loss of one example adds the two prices:
#
# $$L(x) = \lVert \hat x - x \rVert^2 + \lambda \sum_i f_i(x)$$
#
# The sum of the codes is their **L1 norm**, since they are never negative. We would rather count the active codes (the
# **L0**), but a count has no gradient. The L1 norm does, and it drives small codes to exactly zero. It also makes all
# the others a little too small, which is called **shrinkage** (the second exercise).

# %% tags=["remove-input"]
quote(objective.loss_per_example, "reconstruction, codes", "return")

# %% [markdown]
# The number λ sets the exchange rate between the two prices. It only means something together with three choices: how
# the squared error is added up, how the L1 norm is added up, and how large $x$ is.
#
# ```{admonition} λ in this book
# :class: important
# *λ belongs to the squared error **summed** over the 512 neurons and the L1 norm **summed** over the features, both
# averaged over the batch, on inputs that are **scaled so that the mean of* $\lVert x\rVert^2$ *is 512**.*
#
# The paper averages the squared error over the 512 neurons, so on the same inputs its λ is ours divided by 512
# (`objective.convert_lambda`). It does not say that inputs are scaled.
# ```
#
# Public code calls all of these "the L1 coefficient":
#
# ```{list-table}
# :header-rows: 1
#
# * - where
#   - written as
#   - squared error
#   - L1 norm
#   - inputs
#   - λ for a summed error
# * - the paper {cite}`bricken2023monosemanticity`
#   - 0.004
#   - mean over 512
#   - sum
#   - as they are
#   - 2.05
# * - [Neel Nanda](https://github.com/neelnanda-io/1L-Sparse-Autoencoder) {cite}`nanda2023replication`
#   - 3e-4
#   - sum
#   - sum over features *and* batch (4,096)
#   - as they are, 2,048 neurons
#   - 1.23
# * - [shehper](https://github.com/shehper/sparse-dictionary-learning), README
#   - 1e-3
#   - mean over 512
#   - sum
#   - as they are
#   - 0.51
# * - the same, default of the script
#   - 3e-3
#   - mean over 512
#   - sum
#   - as they are
#   - 1.54
# * - ARENA's toy exercise
#   - 0.2
#   - mean over 2
#   - sum
#   - toy data
#   - 0.4
# * - April 2024 update {cite}`anthropic2024april`
#   - 5
#   - sum
#   - weighted by the decoder norm
#   - mean $\lVert x\rVert^2$ = width
#   - 5
# ```
#
# The numbers of the second column differ by a factor of more than ten thousand, those of the last by about twelve. And
# even the last column only compares runs on the same inputs.
#
# The inputs matter because the two prices grow differently. Make $x$ twice as large: the best codes double, the L1
# norm doubles, but the squared error grows by four. So scaling the inputs by $s$ divides the effect of λ by $s$:
#
# $$\lVert s\hat x - s x \rVert^2 + \lambda \sum_i s f_i
#   = s^2 \Big( \lVert \hat x - x \rVert^2 + \frac{\lambda}{s} \sum_i f_i \Big).$$
#
# We will use this in a moment to put our λ next to the paper's.
#
# ## What it is trained on
#
# The training data are activation vectors, nothing else. The autoencoder never sees a token, and never hears how well
# the language model predicts.

# %%
if text_name in dict(training_text(model)):  # documents of the model's own training text; `held` has others
    part = chapter.size(quick=1 / 60, full=1 / 2)
    share = [(name, {s: part * w for s, w in weights.items()}) for name, weights in training_text(model)]
    train_ids = load_contexts(share, "train", model.tokenizer, model.n_ctx).ids
    test_ids = held.ids
else:  # another text: the first contexts for testing, all others for training
    n_test = min(2000, len(held.ids) // 5)
    train_ids, test_ids = held.ids[n_test:], held.ids[:n_test]


class KeptChunks(activations.HarvestedChunks):
    """Keeps what it has harvested, since several short runs on this page read the same activations."""

    __getitem__ = functools.lru_cache(maxsize=128)(activations.HarvestedChunks.__getitem__)


chunks = KeptChunks(model.network, train_ids)
available = len(chunks) * chunks.rows
batch_size, buffer_rows = 512, min(65_536, available // 2)
steps = min(chapter.size(quick=1000, full=20_000), (available - buffer_rows - 20_000) // batch_size)
test = activations.harvest(model.network, to_tensor(test_ids[:64]))[:, 1:].flatten(0, 1)

# %% tags=["remove-cell"]
chapter.number("text", text_name)
chapter.number("text-description", held_out_description(model))
chapter.number("available", available, ",")
chapter.number("steps", steps, ",")
chapter.number("batch-size", batch_size, ",")
chapter.number("needed", steps * batch_size, ",")
chapter.number("test-rows", len(test), ",")
chapter.number("split", "documents that the model was trained on, and tested on documents that it was not"
               if text_name in dict(training_text(model)) else
               "most contexts of the text, and tested on the others (pieces of one document may be on both sides)")
at_first = activations.harvest(model.network, to_tensor(test_ids[:32]))[:, 0]
chapter.number("first-spread", (at_first - at_first[0]).abs().max().item(), ".1g")
chapter.number("first-norm", at_first[0].norm().item(), ".1f")
chapter.number("other-norm", test.norm(dim=1).mean().item(), ".1f")

# %% [markdown]
# The dictionaries of this page are trained on {glue:text}`split`. There are {glue:text}`available` training vectors
# at hand, and the run below takes {glue:text}`needed`. Never judge a dictionary on vectors that it was trained on:
# it has had a chance to memorise them.
#
# Two rules are about the data.
#
# **No vector twice.** The paper collected ten billion vectors and used 8.2 billion, none of them twice. It names
# repeated data among the causes of dead features. The buffer refuses to start over:

# %% tags=["remove-input"]
quote(activations.ActivationBuffer.next_batch, "if self.served + batch_size > len(self.rows):", "raise")

# %% [markdown]
# **Position 0 is left out.** Every context starts with the same token, and nothing comes before it. So its activation
# vector is the same everywhere: over 32 contexts, no neuron differs by more than {glue:text}`first-spread`. Its
# norm is {glue:text}`first-norm`, against {glue:text}`other-norm` for the mean of the others. A dictionary would spend
# features on one vector that says nothing about the text. The paper does not mention this point; it is our choice.

# %% tags=["remove-input"]
quote(activations.HarvestedChunks.__getitem__, "rows =", "return")

# %% [markdown]
# The vectors of one context resemble each other, so they are shuffled. A buffer holds those of many contexts and serves
# them in random order. When a quarter of it is used up, that quarter is filled with fresh ones.
#
# ## The recipe, rule by rule
#
# Now the rules, each with its line. We make a trainer for the small run below and take it apart before it starts.

# %%
recipe = paper_scaled(
    steps,
    d_sae=2048,
    batch_size=batch_size,
    lr=2e-3,
    dead_after=max(1, steps // 20),
    buffer_rows=buffer_rows,
    resample_inputs=buffer_rows // 2,
)
trainer = training.Trainer(recipe, activations.ActivationBuffer(chunks, recipe.buffer_rows))
start = trainer.sae

# %% tags=["remove-cell"]
raw_lam = recipe.lam / trainer.scale
chapter.number("lam", recipe.lam, "g")
lam_paper = objective.convert_lambda(recipe.lam, "sae_core", "paper", model.network.config.n_inner)
chapter.number("lam-paper", lam_paper, ".4f")
chapter.number("scale", trainer.scale, ".2f")
chapter.number("lam-raw", raw_lam, ".2f")
raw_lam_paper = objective.convert_lambda(raw_lam, "sae_core", "paper", model.network.config.n_inner)
chapter.number("lam-raw-paper", raw_lam_paper, ".4f")

# %% [markdown]
# `paper_scaled` is the paper's recipe, adapted to runs that are too short for its absolute step counts. It adds five
# rules that the paper does not have:
#
# - the inputs are scaled;
# - the encoder starts as a tenth of the decoder transposed;
# - λ rises over the first twentieth of the run;
# - the learning rate falls over the last fifth;
# - a gradient with a norm above one is shortened to one.
#
# The last needs a word. The first gradients, and those after a resampling, are many times as long as the rest, and
# Adam's second moments remember them for about a thousand steps. A short run would spend all that time at a lower rate
# than you asked for. For a run of a minute we go further: a small batch, a higher learning rate, and a feature counts
# as dead after a twentieth of the run.
#
# The inputs were multiplied by {glue:text}`scale` to bring the mean of $\lVert x\rVert^2$ to 512. Our
# λ = {glue:text}`lam` on them is therefore {glue:text}`lam-raw` on the activations as they are, and
# {glue:text}`lam-raw-paper` if the squared error is averaged as in the paper. The paper used 0.004, with another model
# and another text.
#
# ### Subtract the decoder's bias first
#
# The same $b_{dec}$ is subtracted before the encoder and added after the decoder. The paper ties the two, and puts this
# first in its list of what mattered. Why? Activation vectors do not lie around the origin. With the bias, features
# describe how $x$ differs from a typical activation, and need not spend codes on what all have in common.
#
# Expand the encoder's product once, and the subtraction costs nothing: it becomes part of the encoder's bias (the first
# exercise). That is how the package computes it.

# %% tags=["remove-input"]
quote(SparseAutoencoder.folded_bias, "return", "return")

# %% [markdown]
# ### Start that bias at the geometric median
#
# The **geometric median** is the point with the least mean *distance* to the data. The mean has the least mean
# *squared* distance, so a few far-out vectors can pull it away. The median resists. It has no formula; Weiszfeld's
# iteration finds it by taking a weighted mean again and again, with less weight for what is far.

# %% tags=["remove-input"]
display(
    quote(training.geometric_median, "median = x.mean", "return"),
    quote(training.Trainer._fit_to, "if self.config.tied_bias", "copy_"),
)

# %%
x_test = test * trainer.scale  # in the units that the trainer works in
sample = trainer.buffer.peek(8192) * trainer.scale  # what the trainer took its median of
median = training.geometric_median(x_test)
bias_to_median = (start.b_dec - median).norm().item()
zero_to_median = median.norm().item()
points = {"origin": torch.zeros_like(median), "mean": sample.mean(0), "b-dec": start.b_dec, "median": median}
distances = {name: (x_test - point).norm(dim=1).mean().item() for name, point in points.items()}

# %% tags=["remove-cell"]
chapter.number("bias-to-median", bias_to_median, ".2f")
chapter.number("zero-to-median", zero_to_median, ".2f")
for name, value in distances.items():
    chapter.number(f"from {name}", value, ".2f")
by_median = 1 - distances["b-dec"] / distances["mean"]
chapter.number(
    "median-sentence",
    "So on these data the median gains next to nothing over the mean."
    if abs(by_median) < 0.005
    else f"So on these data the median brings vectors {by_median:.1%} closer than the mean does."
    if by_median > 0
    else "So on these data the mean of the sample does better than its median.",
)

# %% [markdown]
# The trainer took the median of 8,192 training vectors. We compare with the median of {glue:text}`test-rows` test
# vectors: the bias is {glue:text}`bias-to-median` away from it, the origin {glue:text}`zero-to-median`.
#
# A test vector is {glue:text}`from origin` from the origin, on average, {glue:text}`from b-dec` from the bias, and
# {glue:text}`from mean` from the mean of the same training vectors. No point is closer than the median of the test
# vectors themselves, at {glue:text}`from median`. {glue:text}`median-sentence`
#
# ### Do not tie the encoder to the decoder
#
# It would save half of the weights to let the encoder be the decoder's transpose: look for a feature along its own
# direction. But directions overlap. To tell a feature from its neighbours, the encoder should look *away* from them. So
# the two matrices are separate parameters. The paper starts both at random. Our short runs start the encoder as a tenth
# of the decoder transposed, and from there it goes its own way.

# %% tags=["remove-input"]
display(
    quote(SparseAutoencoder.__init__, "encoder = torch.empty", "self.b_dec"),
    quote(training.Trainer._initial, "if config.encoder_start", "copy_"),
)

# %% [markdown]
# ### Decoder rows have norm 1
#
# The L1 norm can be cheated. Halve all codes, double all decoder rows: the reconstruction is the same and the price is
# halved. Rows of a fixed length close this door, and they let you compare codes of different features.
#
# After each of Adam's steps the rows are brought back to norm 1:

# %% tags=["remove-input"]
quote(training.normalize_decoder, "sae.W_dec", "sae.W_dec")

# %% [markdown]
# ### Take the radial part out of the gradient first
#
# ```{admonition} Predict
# :class: tip
# The norm is reset after every step anyway. What harm can it do if a gradient also pushes along the row?
# ```
#
# ```{admonition} Answer
# :class: dropdown
# The push along the row is undone by the reset. But Adam has seen it. It enters the running means by which Adam sets
# the direction and the size of later steps. So the part that is undone every time still disturbs the part that counts.
# ```
#
# So the part along the row is removed from the gradient *before* Adam sees it. The paper found this better than the
# reset alone. Both are needed. A step at a right angle to a row still makes it a little longer, and Adam, which
# rescales each entry by itself, does not keep the angle.

# %% tags=["remove-input"]
quote(training.remove_parallel_gradient, "for gradient", "addcmul_")


# %%
def radial_part(sae: SparseAutoencoder) -> tuple[float, float]:
    """Largest |gradient · row| of the decoder, and the share of the gradient's norm that lies along the rows."""
    gradient, rows = sae.W_dec.grad.double(), sae.W_dec.detach().double()
    along = (gradient * rows).sum(1)
    return along.abs().max().item(), (along.norm() / gradient.norm()).item()


sae = trainer.sae
step = loss_step(sae, trainer.buffer.next_batch(batch_size) * trainer.scale, recipe.lam)
sae.W_dec.grad = step.gradients["W_dec"]
before, share_before = radial_part(sae)
training.remove_parallel_gradient(sae)
after, share_after = radial_part(sae)

# %% tags=["remove-cell"]
chapter.number("parallel-before", before, ".2g")
chapter.number("parallel-share", share_before, ".0%")
chapter.number("parallel-after", after, ".0e")

# %% [markdown]
# On the first batch {glue:text}`parallel-share` of the decoder gradient's norm lies along the rows. The largest
# |gradient · row| is {glue:text}`parallel-before`. After the projection it is {glue:text}`parallel-after`: what fp32
# rounding leaves.
#
# ```{admonition} A trap: the wrong axis
# :class: warning
# In this package a feature's direction is a *row* of $W_{dec}$. In the paper, and in PyTorch's `nn.Linear`, it is a
# *column*. Normalise along the wrong axis and nothing crashes. You have then fixed the norms of neurons instead of
# directions, and the L1 norm can be cheated again. Check a norm before you trust a run.
# ```
#
# ### Gradients by hand
#
# The package does not let PyTorch's autograd compute the gradients. Here is why. A feature that is off on an example
# adds nothing to the reconstruction, and its ReLU passes no gradient. Every entry of the gradient that belongs to it
# is *exactly* zero. When 20 of 4,096 features are on, 99.5 % of the arithmetic multiplies by zero. Autograd cannot
# know this. Written out, the four products after the encoder can skip it.
#
# Let us check both halves of that claim on the bundled dictionary `A/1`: the gradients agree, and the sparse way is
# faster.
#
# <!-- numbers: 4,096 (an example's width); 99.5 % (the rest of the example's products) -->

# %%
dictionary = load_dictionary("A/1")
x = activations.ActivationBuffer(chunks, buffer_rows, seed=1).next_batch(2048)


def gradients_and_time(dense_above: float, repeats: int = 3) -> tuple[dict, float]:
    """Gradients of one batch, and the median time of computing them. dense_above: 0 is all dense, 1 all sparse."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        result = loss_step(dictionary, x, raw_lam, dense_above=dense_above, bf16=dense_above == 1)
        times.append(time.perf_counter() - started)
    return result.gradients, statistics.median(times)


dense, dense_time = gradients_and_time(0)
sparse, sparse_time = gradients_and_time(1)
loss = objective.loss_per_example(dictionary, x, raw_lam).mean()
autograd = dict(zip(dense, torch.autograd.grad(loss, [getattr(dictionary, name) for name in dense]), strict=True))

# %% tags=["remove-cell"]
def difference(one: dict, other: dict) -> float:
    """Largest difference of two sets of gradients, relative to each parameter's largest entry."""
    return max(((one[name] - other[name]).abs().max() / other[name].abs().max()).item() for name in other)


chapter.number("dense-ms", 1000 * dense_time, ".0f")
chapter.number("sparse-ms", 1000 * sparse_time, ".0f")
chapter.number("speed-up", dense_time / sparse_time, ".1f")
n_threads = torch.get_num_threads()
chapter.number("threads", f"{n_threads} thread" + "s" * (n_threads != 1))
chapter.number("dense-autograd", difference(dense, autograd), ".1g")
chapter.number("sparse-autograd", difference(sparse, autograd), ".1g")
chapter.number("step-l0", (dictionary.encode(x) > 0).sum(1).float().mean().item(), ".0f")
del loss, autograd, dense, sparse

# %% [markdown]
# | gradients of 2,048 activations | time | largest difference from autograd's |
# |---|---|---|
# | by hand, dense products | {glue:text}`dense-ms` ms | {glue:text}`dense-autograd` |
# | by hand, sparse products | {glue:text}`sparse-ms` ms | {glue:text}`sparse-autograd` |
#
# The differences are relative to the largest entry of each gradient, so they are rounding. Sparse is
# {glue:text}`speed-up` times as fast, with {glue:text}`step-l0` active features on a token. The times are of the
# machine that built this page, with {glue:text}`threads` and perhaps other work beside it; only their ratio
# says anything about yours. Early in training most features are on. Then the dense products are faster, and the
# package takes them.
#
# ### Dead features, and how to bring them back
#
# Some features stop firing during training. Once a feature is off on every input, all its gradients are zero. Only a
# change of $b_{dec}$, which all features share, could wake it. A **dead** feature, during training, is one that has
# not fired on any of the last so many steps: 12,500 in the paper, {glue:text}`dead-after` in our small run.

# %% tags=["remove-input"]
quote(training.Trainer.run, "self.silent.add_", "dead =")

# %% [markdown]
# The paper revives dead features at four steps of a run (25,000, 50,000, 75,000 and 100,000) by **resampling**. The
# idea: put the feature where the dictionary is at its worst. Its six steps, all in one function:
#
# 1. List the dead features.
# 2. Compute the loss of a large random sample of inputs: 819,200 in the paper.
# 3. Give each input a probability proportional to the *square* of its loss.
# 4. For each dead feature draw an input. Its direction, at norm 1, becomes the feature's decoder row.
# 5. The same direction becomes its encoder column, at 0.2 times the mean norm of the alive ones; its encoder bias
#    becomes 0.
# 6. Reset Adam's running means for all that was changed.

# %% tags=["remove-input"]
quote(resampling.resample, "n_dead = int", "return n_dead")

# %% tags=["remove-cell"]
chapter.number("dead-after", recipe.dead_after)
chapter.number("dead-after-tokens", recipe.dead_after * batch_size, ",")
chapter.number("resample-at", ", ".join(map(str, recipe.resample_at)))
chapter.number("encoder-scale", resampling.ENCODER_SCALE, "g")

# %% [markdown]
# About step 6: the moments start from zero, but Adam's step counter runs on, so the usual correction for young moments
# no longer applies. The first step of a new weight is then up to
# $(1 - \beta_1) / \sqrt{1 - \beta_2} \approx 3.2$ times as large as that of an old one. The paper does not say what it
# does about the counter.
#
# ```{admonition} Predict
# :class: tip
# Right after resampling, does the loss go up or down? Think of an encoder bias of 0, and of activation vectors that
# have no negative entry.
# ```
#
# ```{admonition} Answer
# :class: dropdown
# Up. Two vectors without negative entries point in similar directions, and with a bias of 0 nothing holds a new feature
# back. It fires on a large share of all inputs, not only on its own. Many new features fire together and overshoot.
# ```
#
# ## A run of our own
#
# Time to train. We run the recipe twice, once with resampling and once without. Both runs start from the same random
# numbers and read the same activations in the same order.

# %%
def follow(config: TrainConfig) -> tuple[training.Trainer, dict[str, np.ndarray], dict, dict]:
    """Train; return the trainer, its curves, which features were resampled at which step, and snapshots."""
    trainer = training.Trainer(config, activations.ActivationBuffer(chunks, config.buffer_rows))
    curves, chosen, snapshots = [], {}, {}
    for now in trainer.run():
        loss = now.squared_error + config.lam * now.l1
        row = (now.step, loss, now.l0, now.explained_variance, now.dead.sum(), now.resampled)
        curves.append([float(value) for value in row])
        if now.resampled:
            chosen[now.step] = now.dead.clone()
        if now.resampled or now.step % max(1, config.steps // 20) == 0:
            snapshots[now.step] = look(trainer)
    names = ("step", "loss", "L0", "explained variance", "dead features", "resampled")
    return trainer, dict(zip(names, np.array(curves).T, strict=True)), chosen, snapshots


@torch.no_grad()
def look(trainer: training.Trainer) -> tuple[np.ndarray, np.ndarray]:
    """Of every feature: the density on the test vectors, and the cosine of encoder column and decoder row."""
    codes = trainer.sae.encode_sparse(test[:8192] * trainer.scale)
    density = torch.bincount(codes.col_indices(), minlength=trainer.sae.d_sae) / len(codes)
    cosine = torch.nn.functional.cosine_similarity(trainer.sae.W_enc.T, trainer.sae.W_dec, dim=1)
    return density.numpy(), cosine.numpy()


started = time.perf_counter()
resampled, curves, chosen, snapshots = follow(recipe)
plain, plain_curves, _, _ = follow(dataclasses.replace(recipe, resample_at=()))
seconds = time.perf_counter() - started
revived = torch.stack([torch.zeros(recipe.d_sae, dtype=torch.bool), *chosen.values()]).any(0)

# %% tags=["hide-input"]
#| label: fig-training-curves
#| caption: Four curves of the two runs. Dotted lines mark resampling. Loss and L0 are on logarithmic scales. Drag over
#|   a part of a panel to see it larger, double-click to go back.
panels = ["loss", "L0", "explained variance", "dead features"]
figure = make_subplots(rows=4, shared_xaxes=True, vertical_spacing=0.07, subplot_titles=panels)
at = curves["step"].astype(int)
shown = (at % 5 == 0) | np.isin(at, [s + d for s in recipe.resample_at for d in range(8)])
for index, panel in enumerate(panels):
    for name, series in (("with resampling", curves), ("without", plain_curves)):
        color = plots.PALETTE[1] if series is curves else plots.PALETTE[0]
        y = [float(f"{value:.4g}") for value in series[panel][shown]]
        figure.add_scatter(x=at[shown], y=y, name=name, legendgroup=name, showlegend=index == 0, line_color=color,
                           line_width=1.5, row=index + 1, col=1)
for s in recipe.resample_at:
    figure.add_vline(x=s, line_dash="dot", line_width=1, line_color="gray")
marks = [base * 10**power for power in range(7) for base in (1, 2, 5)]
figure.update_yaxes(type="log", tickvals=marks, ticktext=[f"{mark:,}" for mark in marks], row=1, col=1)
figure.update_yaxes(type="log", tickvals=marks[::3], ticktext=[f"{mark:,}" for mark in marks[::3]], row=2, col=1)
figure.update_yaxes(range=[0, 1], row=3, col=1)
figure.update_xaxes(range=[0, steps])
figure.update_xaxes(title="step", row=4, col=1)
events = [(int(s), int(n)) for s, n in zip(curves["step"], curves["resampled"], strict=True) if n]
spike = max([curves["loss"][s] for s, _ in events], default=0)
ends = {name: float(plain_curves[name][-50:].mean()) for name in panels}
alt = (
    f"Two runs of {steps} steps. Without resampling the loss ends at {ends['loss']:.0f}, {ends['L0']:.1f} features are "
    f"active on a token, {ends['explained variance']:.0%} of the variance is explained, and "
    f"{plain_curves['dead features'][-1]:.0f} of {recipe.d_sae} features are dead. With resampling, at {len(events)} "
    f"steps, the loss jumps to at most {spike:.0f} and ends at {curves['loss'][-50:].mean():.0f}; "
    f"{curves['dead features'][-1]:.0f} features are dead at the end."
)
plots.describe(figure, alt, height=760, margin={"r": 24})


# %% tags=["remove-cell"]
def steps_to_recover(s: int) -> int | None:
    """Steps until the loss, over ten steps, is back at what it was over the ten before step s; None if never."""
    before = curves["loss"][max(0, s - 10) : s].mean()
    end = min([later for later, _ in events if later > s], default=len(at))
    smooth = [curves["loss"][t : t + 10].mean() for t in range(s, end - 10)]
    return next((i for i, value in enumerate(smooth, start=1) if value <= before), None)


rows = [["step", "resampled", "loss before", "loss after", "back after"]]
for s, n in events:
    needed = steps_to_recover(s)
    back = f"{needed} step{'s' * (needed > 1)}" if needed else "not before the next resampling or the end"
    rows.append([str(s), str(n), f"{curves['loss'][s - 1]:.0f}", f"{curves['loss'][s]:,.0f}", back])
low = int(curves["explained variance"][20:200].argmin()) + 20
chapter.number("first-l0", curves["L0"][0], ",.0f")
chapter.number("last-l0", curves["L0"][-50:].mean(), ".0f")
chapter.number("low-step", int(curves["step"][low]))
chapter.number("low-ev", curves["explained variance"][low], ".0%")
chapter.number("last-ev", curves["explained variance"][-50:].mean(), ".0%")
chapter.number("seconds", seconds, ".0f")
chapter.number("n-resamplings", len(events))
chapter.number("n-resampled", int(revived.sum()))
chapter.number("d-sae", recipe.d_sae, ",")
chapter.number("dead-with", int(curves["dead features"][-1]))
chapter.number("dead-without", int(plain_curves["dead features"][-1]))

# %% [markdown]
# Together the two runs took {glue:text}`seconds` seconds. Read {numref}`fig-training-curves` from top to bottom. (λ
# rises over the first twentieth of a run; the loss shown here counts it in full from the start.)
#
# - At first a code is as likely on as off: L0 is {glue:text}`first-l0`. The price on L1 turns codes off, down to
#   {glue:text}`last-l0` at the end.
# - The explained variance suffers at first. Codes are taken away before the directions are any good, and at step
#   {glue:text}`low-step` only {glue:text}`low-ev` of the variance is explained. At the end it is {glue:text}`last-ev`,
#   with far fewer codes: better directions do the work of many.
# - Features die. Without resampling {glue:text}`dead-without` of {glue:text}`d-sae` are dead at the end, with it
#   {glue:text}`dead-with`.
# - Where many features are resampled at once, the loss shows a spike. Here are the resamplings one by one:

# %% tags=["remove-input"]
plots.table(rows[0], rows[1:]) if events else HTML("<p>No feature was dead at any of the resampling steps.</p>")

# %% [markdown]
# How hard the spike is depends on how many features are resampled at once. All of them copy inputs of high loss, often
# similar ones; their biases are 0; they fire together and overshoot. The paper saw spikes, too, and warns that
# resampling too often makes training diverge.
#
# {numref}`fig-resampled` follows single features. Stop the slider at a resampling step. A new feature starts at the
# top, for its encoder and its decoder have the same direction, and on the right, for it fires on much: the median
# feature of the last resampling on {glue:text}`fresh-density` of the test vectors. Then training moves it.

# %% tags=["hide-input"]
#| label: fig-resampled
#| caption: Some of the features during the run with resampling. Left to right, how often a feature fires on test
#|   vectors; bottom to top, the cosine between its encoder column and its decoder row. Move the slider, or press play.
floor = 0.5 / 8192
scatter = np.random.default_rng(0).uniform(-0.1, 0.1, recipe.d_sae)  # so that silent features do not hide each other
groups = {"never resampled": (~revived).nonzero()[:250, 0], "resampled at least once": revived.nonzero()[:150, 0]}


def traces(step: int) -> list[go.Scatter]:
    density, cosine = snapshots[step]
    place = np.where(density > 0, np.log10(np.maximum(density, floor)), math.log10(floor) + scatter)
    return [
        go.Scatter(x=place[group].round(2), y=cosine[group].round(2), name=name, mode="markers",
                   marker={"size": 6, "opacity": 0.75, "color": color, "symbol": symbol})
        for (name, group), color, symbol in zip(groups.items(), plots.PALETTE, ("circle", "diamond"), strict=False)
    ]


times = sorted(snapshots)
figure = go.Figure(traces(times[-1]), frames=[go.Frame(data=traces(s), name=str(s)) for s in times])
ticks = [math.log10(floor), *range(-3, 1)]
figure.update_xaxes(title="density", range=[ticks[0] - 0.2, 0.15], tickvals=ticks,
                    ticktext=["silent", *(f"10<sup>{t}</sup>" for t in ticks[1:])])
figure.update_yaxes(title="cosine of encoder and decoder", range=[-0.25, 1.05])
fast = {"frame": {"duration": 250, "redraw": False}, "transition": {"duration": 150}, "mode": "immediate"}
figure.update_layout(
    sliders=[{
        "active": len(times) - 1, "currentvalue": {"prefix": "step "}, "pad": {"t": 40}, "len": 0.8, "x": 0.2,
        "steps": [{"label": str(s), "method": "animate", "args": [[str(s)], fast]} for s in times],
    }],
    updatemenus=[{
        "type": "buttons", "x": 0, "xanchor": "left", "y": 0, "yanchor": "top", "pad": {"t": 60}, "showactive": False,
        "buttons": [{"label": "play", "method": "animate", "args": [None, {**fast, "fromcurrent": False}]}],
    }],
    legend={"orientation": "h", "x": 0, "y": 1.0, "yref": "paper", "yanchor": "bottom"},
)
end_density, end_cosine = snapshots[times[-1]]
medians = [float(np.median(end_cosine[group])) if group.any() else 0 for group in (revived.numpy(), ~revived.numpy())]
alt = (
    f"Of {recipe.d_sae} features {int(revived.sum())} were resampled at least once. At the end the median cosine "
    f"between encoder and decoder is {medians[0]:.2f} for those and {medians[1]:.2f} for the others; "
    f"{(end_density == 0).mean():.0%} of all features are silent on {min(8192, len(test)):,} test vectors."
)
plots.describe(figure, alt, height=520)

# %% tags=["remove-cell"]
newest = max(chosen, default=None)
fresh = np.median(snapshots[newest][0][chosen[newest].numpy()]) if chosen else 0
silent_again = (end_density[revived.numpy()] == 0).mean() if chosen else 0
chapter.number("fresh-density", fresh, ".0%")
chapter.number("silent-again", silent_again, ".0%")

# %% [markdown]
# Not every second life is a long one. Of the {glue:text}`n-resampled` features that were ever resampled,
# {glue:text}`silent-again` are silent again at the end, on these test vectors. Features that copy similar inputs
# compete, and few of them can win.

# %% [markdown]
# ### Did resampling help?
#
# Here are both dictionaries on test vectors that neither has seen.

# %%
test_contexts = test_ids[:128]
results = {}
for name, sae in {"with": resampled.result(), "without": plain.result(), "A/1": dictionary}.items():
    measured, _ = metrics.dictionary_metrics(model, sae, test_contexts)
    results[name] = measured | metrics.loss_recovered(model, sae, test_contexts[:48])

# %% tags=["remove-cell"]
ROWS = {
    "explained_variance": (".1%", "explained variance"),
    "norm_ratio": (".2f", "norm of the reconstruction / norm of x"),
    "l0_mean": (".1f", "active features on a token (mean L0)"),
    "loss_recovered": (".1%", "loss recovered, against zero-ablation"),
    "dead": ("d", "features silent on all of them"),
}
comparison = [[f"on {results['with']['tokens']:,} test tokens", "with resampling", "without"]]
for name, (form, title) in ROWS.items():
    comparison.append([title, f"{results['with'][name]:{form}}", f"{results['without'][name]:{form}}"])
final = {name: series["loss"][-50:].mean() for name, series in (("with", curves), ("without", plain_curves))}
comparison.append(["loss, mean of the last 50 training steps", f"{final['with']:.1f}", f"{final['without']:.1f}"])
loss_change = final["with"] / final["without"] - 1
close = abs(loss_change) < 0.01
chapter.number("verdict-dead", "fewer" if results["with"]["dead"] < results["without"]["dead"] else "no fewer")
chapter.number("verdict-loss", "about the same as" if close else "lower than" if loss_change < 0 else "higher than")
chapter.number("loss-change", loss_change, "+.1%")
chapter.number(
    "verdict",
    "So the spikes have been paid back, and hardly more than that."
    if close
    else "So here it paid for its spikes."
    if loss_change < 0
    else "So in a run as short as this one it has not paid for its spikes.",
)
chapter.number("after-last", steps - recipe.resample_at[-1])
alike = {name: len({f"{results[run][name]:{ROWS[name][0]}}" for run in ("with", "without")}) == 1 for name in ROWS}
if not alike["l0_mean"]:
    same_place = (
        "The two dictionaries differ in L0, so part of the difference in explained variance is only a different place "
        "on the same trade-off."
    )
elif not alike["explained_variance"]:
    same_place = "L0 agrees to the digits shown, so the explained variances can be compared as they are."
else:
    same_place = "L0 and explained variance agree to the digits shown, so they do not tell the two runs apart."
    if not alike["dead"]:
        same_place += (
            f" The silent features do: {results['with']['dead']} with resampling, {results['without']['dead']} without."
        )
chapter.number("same-place", same_place)

# %% tags=["remove-input"]
plots.table(comparison[0], comparison[1:])

# %% [markdown]
# With resampling, {glue:text}`verdict-dead` features are silent than without. The final loss is
# {glue:text}`verdict-loss` without it ({glue:text}`loss-change`). {glue:text}`verdict`
#
# Do not carry this over to long runs. After the last resampling ours has {glue:text}`after-last` steps left to make use
# of the new features; the paper has 900,000. The paper reports that resampling is better than nothing and better than
# fresh random weights. A run of a minute can neither confirm that nor refute it. Keep three more things in mind:
#
# - It is one seed. Another may change the order of close numbers.
# - {glue:text}`same-place`
# - "Silent" was counted on few tokens. A feature that fires on one token in a million counts as silent here.
#
# ```{admonition} A trap: dead or just rare?
# :class: warning
# Our run calls a feature dead after {glue:text}`dead-after-tokens` tokens without firing; the paper, after 102 million.
# A feature for a rare script may be silent that long for the best of reasons, and resampling destroys it. The shorter
# the run, the more of these mistakes. And the paper uses "dead" for a second thing: silent on *all* tokens of an
# analysis, apart from **ultralow density**, which is less than one token in a million. The chapter {doc}`density`
# counts both.
# ```

# %% tags=["remove-cell"]
norm_error = (resampled.sae.W_dec.norm(dim=1) - 1).abs().max().item()
left = after
for which in (resampled, plain):
    step = loss_step(which.sae, which.buffer.next_batch(batch_size) * which.scale, recipe.lam)
    which.sae.W_dec.grad = step.gradients["W_dec"]
    training.remove_parallel_gradient(which.sae)
    left = max(left, radial_part(which.sae)[0])
chapter.claim(
    "A2",
    where="dictionary/training#fig-resampled",
    text=text_name,
    decoder_norm_error=norm_error,
    parallel_gradient=left,
    bias_to_median=bias_to_median,
    zero_to_median=zero_to_median,
    encoder_decoder_cosine=float(np.median(end_cosine)),
)
chapter.number("norm-error", norm_error, ".0e")
chapter.number("parallel-left", left, ".0e")
chapter.number("cosine", float(np.median(end_cosine)), ".2f")

# %% [markdown]
# The rules, checked on the finished run: the largest distance of a decoder row's norm from 1 is
# {glue:text}`norm-error`. The largest |gradient · row| after the projection is {glue:text}`parallel-left`, over batches
# from the start and the end of training. The median cosine between encoder and decoder is {glue:text}`cosine`; a tied
# encoder would have 1.
#
# ## The bundled dictionary takes over
#
# From here on the book uses `A/1`, a dictionary that was trained on the same model with this command:
#
# ```sh
# sae-core train --recipe A-1 --out runs/A-1
# ```
#
# Stop it whenever you like. The same command continues from the last checkpoint.

# %% tags=["hide-input"]
metadata = dictionary_metadata("A/1")
theirs = metadata.get("recipe", {})
titles = {
    "d_sae": "features",
    "steps": "steps",
    "batch_size": "activations a step",
    "lam": "λ",
    "lam_warmup": "steps over which λ rises",
    "lr": "learning rate",
    "lr_decay": "steps over which it falls",
    "clip": "largest norm of the gradient",
    "resample_at": "resampling at steps",
    "dead_after": "dead after silent steps",
    "resample_inputs": "inputs for resampling",
    "seed": "seed",
}


def written(value) -> str:
    if value is None:
        return "any"
    if isinstance(value, list | tuple):
        return ", ".join(f"{entry:,}" for entry in value)
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


rows = [["", "the run above", "A/1"]]
for name, title in titles.items():
    rows.append([title, written(getattr(recipe, name)), written(theirs[name]) if name in theirs else "not recorded"])
plots.table(rows[0], rows[1:])

# %% [markdown]
# {numref}`fig-longer` puts its log beside our small run.

# %% tags=["hide-input"]
#| label: fig-longer
#| caption: Explained variance and L0 during training, by activations seen. The small run is ours, with resampling; the
#|   long one is the log of `A/1`, where it lies beside the weights.
small = {name: curves[name][shown] for name in ("explained variance", "L0")}
series = {"the run above": (at[shown] * batch_size, small["explained variance"], small["L0"])}
log_file = bundle.find("A/1", "cfg.json") / "log.jsonl"
if log_file.exists():
    log = [json.loads(line) for line in log_file.read_text().splitlines()]
    series["A/1"] = tuple(np.array([row[k] for row in log]) for k in ("activations", "explained_variance", "l0"))
figure = make_subplots(rows=2, shared_xaxes=True, vertical_spacing=0.1, subplot_titles=["explained variance", "L0"])
for (name, (seen, variance, l0)), color in zip(series.items(), (plots.PALETTE[1], plots.PALETTE[2]), strict=False):
    for row, y in enumerate((variance, l0), start=1):
        y = [float(f"{value:.4g}") for value in y]
        figure.add_scatter(x=seen, y=y, name=name, legendgroup=name, showlegend=row == 1, line_color=color,
                           line_width=1.5, row=row, col=1)
powers = range(3, 11)
figure.update_xaxes(type="log", tickvals=[10**k for k in powers], ticktext=[f"10<sup>{k}</sup>" for k in powers])
figure.update_xaxes(title="activations seen", row=2, col=1)
figure.update_yaxes(range=[0, 1], row=1, col=1)
figure.update_yaxes(type="log", dtick=1, row=2, col=1)
alt = "; ".join(
    f"{name}: explained variance {variance[-1]:.2f} and {l0[-1]:.1f} active features after "
    f"{seen[-1] / 1e6:.1f} million activations"
    for name, (seen, variance, l0) in series.items()
)
plots.describe(figure, f"Two panels over the number of activations seen. {alt}.", height=560)

# %% tags=["remove-cell"]
recorded = metadata.get("metrics", {})
rows = [["", "the run above, here", "A/1, here", "A/1, recorded after training"]]
for name, (form, title) in {"tokens": (",", "test tokens"), **ROWS}.items():
    last = f"{recorded[name]:{form}}" if name in recorded else "not recorded"
    rows.append([title, f"{results['with'][name]:{form}}", f"{results['A/1'][name]:{form}}", last])
chapter.number("bundled-activations", metadata.get("activations", 0) / 1e6, ".1f")
chapter.number("small-activations", steps * batch_size / 1e6, ".1f")
seen_by_bundled = metadata.get("activations")
chapter.number("factor-bundled", f"{8.192e9 / seen_by_bundled:,.0f}" if seen_by_bundled else "an unknown number of")
chapter.number("factor-small", 8.192e9 / (steps * batch_size), ",.0f")
chapter.number("lm-tokens", model.recipe["tokens"] / 1e6, ".0f")
chapter.number("bundled-l0", results["A/1"]["l0_mean"], ".1f")
chapter.number("bundled-ev", results["A/1"]["explained_variance"], ".1%")
chapter.number("bundled-features", dictionary.d_sae, ",")
chapter.number("small-l0", results["with"]["l0_mean"], ".1f")
chapter.number("bundled-norm-ratio", results["A/1"]["norm_ratio"], ".2f")
chapter.number("recovered-tokens", test_contexts[:48, 1:].size, ",")
chapter.number(
    "bundled-recovered",
    f"{recorded['loss_recovered']:.1%}, recorded after training"
    if "loss_recovered" in recorded
    else f"{results['A/1']['loss_recovered']:.0%}, on {test_contexts[:48, 1:].size:,} tokens only",
)

# %% tags=["remove-input"]
plots.table(rows[0], rows[1:])

# %% [markdown]
# The two middle columns were computed just now on the same tokens of *{glue:text}`text`* (the loss on
# {glue:text}`recovered-tokens` of them). The last column was written when `A/1` was trained, on held-out documents of
# the model's own training text. A loss on so few tokens is a rough one, so the comparison with the paper below has the
# recorded one. The silent features are counted on very different numbers of tokens, so do not compare them across
# columns; {doc}`density` does it properly.
#
# ## Traps
#
# ```{admonition} Four ways to fool yourself
# :class: warning
# - **Compare λ, and nothing else.** Check how errors are added up and how inputs are scaled, or compare L0 instead.
# - **Reset the norm and skip the projection.** It runs, and the curve looks like a curve. Test the rule itself.
# - **Judge at a spike.** A checkpoint shortly after resampling is a bad dictionary. Let it recover.
# - **Count the dead on a small sample.** Say on how many tokens you counted, always.
# ```
#
# ## What the paper found, what we found
#
# ```{list-table}
# :header-rows: 1
#
# * -
#   - the paper {cite}`bricken2023monosemanticity`
#   - here, on *{glue:text}`text`*
# * - decoder rows
#   - norm 1, by construction
#   - largest distance from 1: {glue:text}`norm-error`
# * - gradient along a row
#   - removed before Adam
#   - largest left over: {glue:text}`parallel-left`
# * - $b_{dec}$ before the first step
#   - at the geometric median
#   - {glue:text}`bias-to-median` from it; the origin is {glue:text}`zero-to-median` away
# * - encoder and decoder
#   - not tied
#   - median cosine {glue:text}`cosine`
# * - training
#   - 8.2 billion activations, none twice
#   - {glue:text}`small-activations` million on this page, {glue:text}`bundled-activations` million for `A/1`
# * - resampling
#   - better than none; sudden spikes of the loss
#   - spikes; a final loss {glue:text}`verdict-loss` without, and {glue:text}`verdict-dead` silent features
# * - loss recovered by `A/1`
#   - 79 %
#   - {glue:text}`bundled-recovered`
# ```
#
# **How our set-up differs.** The model has the paper's widths, but was trained on {glue:text}`lm-tokens` million
# tokens instead of 100 billion. The paper's dictionaries saw {glue:text}`factor-bundled` times as many activations
# as `A/1`, and {glue:text}`factor-small` times as many as the run on this page. Inputs are scaled. The learning rate
# is higher, for there is no time for a low one, and falls at the end; λ rises over the first twentieth of the run.
# The encoder starts as a tenth of the decoder transposed, not at random. Resampling comes at the same number of
# times, but at 10 to 40 % of the run, where the paper has 2.5 to 10 %. The paper does not print its learning rate or
# the L0 of its `A/1`, so nobody can claim to match those.
#
# ```{admonition} Takeaways
# :class: note
# - A dictionary is a list of directions, found by asking for close reconstructions *and* few active codes.
# - λ means nothing without three facts: how errors are added up, how codes are added up, how inputs are scaled.
# - Each rule of the recipe closes a door: the bias, the unit norm, the projection, the resampling. Each is a line.
# - Resampling revives features at the price of a spike. Whether it pays depends on the time that is left.
# ```
#
# ## Exercises
#
# ```{exercise-start} Fold the bias
# :label: ex-training-fold
# ```
# *Difficulty 1/5 · importance 3/5 · 10 minutes.* Show that the encoder can be written as
# $\mathrm{ReLU}(x W_{enc} + c)$, and write `folded(sae)`, which returns $c$ of a dictionary. What does it save? What
# happens to $c$ during training? Then check your formula on `A/1` with `dictionary.W_enc`, `dictionary.b_enc`,
# `dictionary.b_dec` and the activations in `test`.
#
# ````{admonition} Hint 1
# :class: dropdown
# Expand $(x - b_{dec})\,W_{enc}$. Which of the terms does not depend on $x$?
# ````
# ````{admonition} Hint 2
# :class: dropdown
# $c$ has one entry for each feature. `sae.b_dec @ sae.W_enc` has as many.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def folded(sae):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-training-fold")
def check_folded(folded):
    generator = torch.Generator().manual_seed(0)
    some = SparseAutoencoder(6, 9, generator=generator)
    with torch.no_grad():
        some.b_dec.copy_(torch.randn(6, generator=generator))
        some.b_enc.copy_(torch.randn(9, generator=generator))
        inputs = torch.randn(50, 6, generator=generator)
        right = torch.relu((inputs - some.b_dec) @ some.W_enc + some.b_enc)
        found = folded(some)
        assert found.shape == (9,), "c has one entry for each feature, and does not depend on x"
        codes = torch.relu(inputs @ some.W_enc + found)
        added = torch.relu((inputs + some.b_dec) @ some.W_enc + some.b_enc)
        assert not torch.allclose(codes, added, atol=1e-4), "mind the sign: b_dec is subtracted from the input"
        assert torch.allclose(codes, right, atol=1e-4), "with this c the codes are not those of the definition"
        right = torch.relu((test[:100] - dictionary.b_dec) @ dictionary.W_enc + dictionary.b_enc)
        codes = torch.relu(test[:100] @ dictionary.W_enc + folded(dictionary))
        assert torch.allclose(codes, right, atol=1e-3), "with this c the codes of A/1 are not those of the definition"


check_folded(folded)

# %% [markdown]
# ````{solution-start} ex-training-fold
# :class: dropdown
# ````
#
# $(x - b_{dec}) W_{enc} + b_{enc} = x W_{enc} + (b_{enc} - b_{dec} W_{enc})$, so $c = b_{enc} - b_{dec} W_{enc}$. It
# saves a pass over the batch, and in the backward pass a whole product. It has to be computed anew after each step,
# since all three parameters change.

# %%
def folded(sae):
    return sae.b_enc - sae.b_dec @ sae.W_enc


with torch.no_grad():
    as_defined = torch.relu((test[:1000] - dictionary.b_dec) @ dictionary.W_enc + dictionary.b_enc)
    as_folded = torch.relu(test[:1000] @ dictionary.W_enc + folded(dictionary))
print(f"largest difference {(as_defined - as_folded).abs().max():.0e}, largest code {as_defined.max():.1f}")
check_folded(folded)

# %% [markdown]
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
check_folded.refuses(lambda sae: sae.b_enc + sae.b_dec @ sae.W_enc, because="mind the sign")
check_folded.refuses(lambda sae: sae.b_enc, because="not those of the definition")
check_folded.refuses(lambda sae: sae.b_enc.sum() - sae.b_dec @ sae.W_enc @ torch.ones(9), because="for each feature")

# %% [markdown]
# ```{exercise-start} How much does L1 shrink a code?
# :label: ex-training-shrinkage
# ```
# *Difficulty 2/5 · importance 5/5 · 15 minutes.* One feature alone is active. The input is $x = a\,d$ with a unit
# vector $d$, the decoder row is $d$ itself, and the bias is 0. Which code $f$ minimises
# $\lVert f d - a d\rVert^2 + \lambda f$? Write `best_code(a, lam)`. What happens to inputs with $a \le \lambda/2$? What
# does this predict for the norm of the reconstructions of `A/1`, and do you find it in the table of its metrics?
#
# ````{admonition} Hint 1
# :class: dropdown
# With a unit vector the loss is $(f - a)^2 + \lambda f$. Set the derivative to zero.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# A code is never negative. Where the derivative is zero at a negative $f$, which allowed code is best?
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def best_code(a, lam):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-training-shrinkage")
def check_best_code(best_code):
    for a, lam in ((10.0, 4.0), (3.0, 4.0), (2.5, 1.0), (1.0, 4.0), (5.0, 0.0), (0.0, 2.0)):
        code = float(best_code(a, lam))
        assert code >= 0, f"at a = {a}, λ = {lam} you answer {code:.2f}, but a code is never negative"
        tried = np.linspace(0, 12, 12_001)
        costs = (tried - a) ** 2 + lam * tried
        cost, lower = (code - a) ** 2 + lam * code, tried[costs.argmin()]
        assert cost <= costs.min() + 1e-5, (
            f"at a = {a}, λ = {lam} your code {code:.2f} costs {cost:.2f}; the code {lower:.2f} costs {costs.min():.2f}"
        )


check_best_code(best_code)

# %% [markdown]
# ````{solution-start} ex-training-shrinkage
# :class: dropdown
# ````
#
# $2(f - a) + \lambda = 0$ gives $f = a - \lambda/2$: every code is too small by the same amount, however large it is.
# For $a \le \lambda/2$ the best code is 0, so weak occurrences of a feature are not represented at all. Reconstructions
# should be shorter than the inputs. For `A/1` the mean ratio of the norms is {glue:text}`bundled-norm-ratio`.

# %%
def best_code(a, lam):
    return max(a - lam / 2, 0.0)


for a in (1.0, 2.0, 3.0, 10.0):
    print(f"a = {a:4.1f}, λ = 4: best code {best_code(a, 4.0):.2f}")
check_best_code(best_code)

# %% [markdown]
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
check_best_code.refuses(lambda a, lam: max(a - lam, 0.0), because="costs")
check_best_code.refuses(lambda a, lam: a - lam / 2, because="never negative")
check_best_code.refuses(lambda a, lam: a / (1 + lam / 2), because="costs")  # that of a squared penalty
check_best_code.refuses(lambda a, lam: a if a > lam / 2 else 0.0, because="costs")

# %% [markdown]
# ```{exercise-start} Break a rule
# :label: ex-training-break
# ```
# *Difficulty 3/5 · importance 4/5 · 25 minutes.* Train 100 steps without the projection of the gradient, everything
# else unchanged. How far do decoder rows stray from norm 1 in one step of Adam, before they are reset, with the
# projection and without? How different are the losses? What does that say about finding such a mistake? Write
# `short_run(**patches)`. It trains by `short` while the functions of `training` that are named in `patches` are
# replaced. It returns the median distance of the rows' norms from 1 before the reset, over all steps, and the mean loss
# of the last ten.
#
# ````{admonition} Hint 1
# :class: dropdown
# `training.Trainer(short, activations.ActivationBuffer(chunks, short.buffer_rows))` is a run, and its method `run()`
# yields the state after each step. The loss is `now.squared_error + short.lam * now.l1`.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# `mock.patch.multiple(training, remove_parallel_gradient=lambda sae: None)` switches a function off for the length of a
# `with` block, and puts it back at its end.
# ````
# ````{admonition} Hint 3
# :class: dropdown
# `training.normalize_decoder(sae)` resets the rows. Patch it, too: with a function that first notes
# `(sae.W_dec.detach().norm(dim=1) - 1).abs().median().item()`, and then calls the original.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
short = paper_scaled(100, d_sae=256, batch_size=256, buffer_rows=buffer_rows // 2, resample_at=())


def short_run(**patches):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-training-break")
def check_short_run(short_run):
    names, run = ("remove_parallel_gradient", "normalize_decoder"), training.Trainer.run
    originals = {name: getattr(training, name) for name in names}
    calls, losses = [], []

    def stretch(sae: SparseAutoencoder) -> None:
        """In place of the projection: no gradient, and rows that are too long by 0.1 at first and by 0.5 later."""
        calls.append(1)
        for parameter in sae.parameters():
            parameter.grad.zero_()
        sae.W_dec.data *= 1.1 if len(calls) <= 60 else 1.5

    def watched(trainer: training.Trainer):
        for now in run(trainer):
            losses.append((now.squared_error + trainer.config.lam * now.l1).item())
            yield now

    try:
        with mock.patch.object(training.Trainer, "run", watched):
            stray, loss = short_run(remove_parallel_gradient=stretch)
        restored = all(getattr(training, name) is original for name, original in originals.items())
    finally:
        for name, original in originals.items():
            setattr(training, name, original)
    assert restored, "put the functions of `training` back at the end"
    assert calls, "the functions in `patches` must be in force while the run trains"
    assert len(calls) == short.steps, f"the run has {short.steps} steps; yours took {len(calls)}"
    assert stray > 1e-5, "look at the rows before they are reset; afterwards they all have norm 1"
    assert not np.isclose(stray, 0.26, rtol=1e-3), "take the median over the steps, not the mean"
    assert np.isclose(stray, 0.1, rtol=1e-3), f"rows of norm 1.1 stray by 0.1; you find {stray:.3g}"
    assert not np.isclose(loss, np.mean(losses), rtol=1e-6), "that is the mean loss of all steps; take the last ten"
    assert np.isclose(loss, np.mean(losses[-10:]), rtol=1e-5), "the loss is the squared error plus λ times L1"


check_short_run(short_run)

# %% [markdown]
# ````{solution-start} ex-training-break
# :class: dropdown
# ````

# %%
def short_run(**patches):
    strayed, reset = [], training.normalize_decoder

    def look_and_reset(sae: SparseAutoencoder) -> None:
        strayed.append((sae.W_dec.detach().norm(dim=1) - 1).abs().median().item())
        reset(sae)

    with mock.patch.multiple(training, normalize_decoder=look_and_reset, **patches):
        run = training.Trainer(short, activations.ActivationBuffer(chunks, short.buffer_rows))
        losses = [(now.squared_error + short.lam * now.l1).item() for now in run.run()]
    return float(np.median(strayed)), float(np.mean(losses[-10:]))


healthy = short_run()
broken = short_run(remove_parallel_gradient=lambda sae: None)
for name, (strayed, loss) in {"with": healthy, "without": broken}.items():
    print(f"{name:7} projection: norms stray by {strayed:.1e} before the reset, loss at the end {loss:.1f}")
check_short_run(short_run)

# %% tags=["remove-cell"]
chapter.number("strayed-with", healthy[0], ".1e")
chapter.number("strayed-without", broken[0], ".1e")
change = broken[1] / healthy[1] - 1
chapter.number("broken-loss", f"{abs(change):.1%} {'higher' if change > 0 else 'lower'}")
chapter.number(
    "strayed-sentence",
    "So they do tell the runs apart, if you have a healthy run to compare with. By itself, neither number looks wrong."
    if broken[0] > 1.5 * healthy[0]
    else "So they are a poor witness.",
)

# %% [markdown]
# Before the reset, the norms stray by {glue:text}`strayed-with` with the projection and by
# {glue:text}`strayed-without` without. {glue:text}`strayed-sentence` With the projection they stray, too: Adam divides
# each entry of the gradient by a running size of its own, so its step is not at a right angle to the row, even where
# the gradient was. The loss without the projection is {glue:text}`broken-loss` at the end. But would you have noticed,
# had you made only that run? Its curve looks like any other. A rule like this is best tested directly, and
# `tests/test_training.py` does so.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
def look_too_late(**patches):
    strayed, losses = [], []
    with mock.patch.multiple(training, **patches):
        trainer = training.Trainer(short, activations.ActivationBuffer(chunks, short.buffer_rows))
        for now in trainer.run():
            strayed.append((trainer.sae.W_dec.detach().norm(dim=1) - 1).abs().median().item())
            losses.append((now.squared_error + short.lam * now.l1).item())
    return float(np.median(strayed)), float(np.mean(losses[-10:]))


def never_put_back(**patches):
    for name, function in patches.items():
        setattr(training, name, function)
    return short_run()


check_short_run.refuses(look_too_late, because="before they are reset")
check_short_run.refuses(never_put_back, because="put the functions of `training` back")
check_short_run.refuses(lambda **patches: healthy, because="must be in force")

# %% [markdown]
# ```{exercise-start} Who gets resampled where?
# :label: ex-training-probability
# ```
# *Difficulty 2/5 · importance 3/5 · 15 minutes.* Resampling draws inputs with a probability proportional to the square
# of their loss. Write `share_of_draws(losses, power)`: the share of the draws that goes to the 1 % of inputs with the
# highest loss, if an input is drawn with a probability proportional to its loss to this power. Compute the loss of each
# vector in `x_test` under the dictionary of the run without resampling (`plain.sae`), and compare the powers 0, 1
# and 2. Why might one want the square, and what is the risk?
#
# ````{admonition} Hint 1
# :class: dropdown
# Sort the losses, take the largest hundredth, and compare two sums.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# `objective.loss_per_example(plain.sae, x_test, recipe.lam)` gives the losses, inside `torch.no_grad()`. A probability
# is `losses**power` divided by the sum of all of these.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def share_of_draws(losses, power):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-training-probability")
def check_share_of_draws(share_of_draws):
    losses = torch.ones(1000, dtype=torch.float64)
    losses[torch.arange(7, 1000, 100)] = 10.0  # ten of a thousand, not in front
    for power, right in ((1, 100 / 1090), (2, 1000 / 1990), (0, 0.01)):
        found = float(share_of_draws(losses.clone(), power))
        assert not np.isclose(found, 19 / 1090), "the 1 % with the highest loss need not come first; sort the losses"
        assert not (power == 1 and np.isclose(found, 1000 / 1990)), "use the power that is asked for, not the square"
        assert np.isclose(found, right), (
            f"of 1000 inputs, 10 have loss 10 and the others loss 1: by the power {power}, {right:.1%} of the draws go "
            f"to the 10; you say {found:.1%}"
        )
    small = torch.arange(1, 201, dtype=torch.float64)
    assert np.isclose(float(share_of_draws(small, 1)), 399 / 20_100), "the worst 1 % of 200 inputs are two inputs"


check_share_of_draws(share_of_draws)

# %% [markdown]
# ````{solution-start} ex-training-probability
# :class: dropdown
# ````

# %%
def share_of_draws(losses, power):
    weight = losses.sort(descending=True).values ** power
    return (weight[: len(losses) // 100].sum() / weight.sum()).item()


with torch.no_grad():
    losses = objective.loss_per_example(plain.sae, x_test, recipe.lam).double()
for power, name in enumerate(("equal", "the loss", "the squared loss")):
    share_of_worst = share_of_draws(losses, power)
    print(f"probability by {name:16}: {share_of_worst:6.1%} of the draws go to the worst 1 %")
check_share_of_draws(share_of_draws)

# %% [markdown]
# The square looks harder at what the dictionary cannot explain at all. The risk is that many dead features copy a few
# outliers. They then share a direction, fire together, and overshoot: you have seen the spikes.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
def the_first_hundredth(losses, power):
    weight = losses**power
    return (weight[: len(weight) // 100].sum() / weight.sum()).item()


def share_of_the_largest(losses, power):
    weight = losses**power
    return (weight.max() / weight.sum()).item()


check_share_of_draws.refuses(lambda losses, power: share_of_draws(losses, 2), because="not the square")
check_share_of_draws.refuses(the_first_hundredth, because="need not come first")
check_share_of_draws.refuses(share_of_the_largest, because="of the draws go to the 10")
