# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Computing in superposition
#
# So far, a model *stored* more features than it has dimensions. Can it also *compute* more than it has neurons? This
# chapter asks a small MLP for the AND of every pair of its inputs at once, with fewer neurons than there are pairs.
# The problem is called **universal AND**, in short U-AND {cite}`hanni2024mathematical`.
#
# ```{admonition} Before you start
# **You will be able to**
# - prove how well a readout without a nonlinearity can do, for any function of two bits;
# - train a layer that computes all pairs at once, and say which loss makes it work and which one fails;
# - write down a readout for random weights by hand, and predict how its error falls with the width;
# - say why a random projection is enough for an attention head to find a token again.
#
# **You need** the chapter {doc}`why`, and a little probability: means, variances, Gaussians.
#
# **Time**: 40 minutes to read, one to two minutes to run.
# ```

# %% tags=["hide-input"]
import json
import math

import numpy as np
import plotly.graph_objects as go
import torch
from scipy.stats import chi, norm
from torch import Tensor, nn

from sae_core import bundle, chapter, plots, toy
from sae_core.exercises import check

# %% [markdown]
# ## Every pair at once
#
# The inputs are 20 bits. Few are on at a time, as with features of a text; here at most two. The outputs are the AND of
# each pair. We can list every input, so the data are exact and nothing is sampled.

# %%
N_BITS = 20
FIRST, SECOND = torch.triu_indices(N_BITS, N_BITS, offset=1)  # the two bits of each pair


def all_inputs(n_bits: int, most: int) -> Tensor:
    """Every input [n, n_bits] with at most `most` bits on."""
    rows = [torch.zeros(1, n_bits)]
    for on in range(1, most + 1):
        places = torch.combinations(torch.arange(n_bits), on)
        rows.append(torch.zeros(len(places), n_bits).scatter_(1, places, 1.0))
    return torch.cat(rows)


def both(x: Tensor) -> Tensor:
    """The AND of each pair, [..., n_pairs]."""
    return x[..., FIRST] * x[..., SECOND]


def either(x: Tensor) -> Tensor:
    """The XOR of each pair, [..., n_pairs]: one of the two, but not both."""
    return (x[..., FIRST] - x[..., SECOND]).abs()


INPUTS = all_inputs(N_BITS, most=2)
N_INPUTS, N_PAIRS = len(INPUTS), len(FIRST)

# %% tags=["remove-cell"]
chapter.number("inputs", N_INPUTS)
chapter.number("pairs", N_PAIRS)
chapter.number("ones", both(INPUTS).mean().item(), ".1%")

# %% [markdown]
# That makes {glue:text}`inputs` inputs and {glue:text}`pairs` outputs. Only {glue:text}`ones` of all targets are 1.
# Remember this number: it decides later whether training works.
#
# We judge by the **largest error** over all pairs and all inputs. An error below ½ is enough to decide each bit by
# rounding.
#
# ## Without a nonlinearity
#
# ```{admonition} Predict
# :class: tip
# You may only use an affine function, $a\,x_i + b\,x_j + c$. How close can it come to $x_i \wedge x_j$ on all four
# inputs: to within 0, ¼, or ½? And to XOR?
# ```
#
# Take the alternating sum over the four inputs, $y(0,0) - y(1,0) - y(0,1) + y(1,1)$. Of every affine function it is 0.
# Of AND it is 1, since only the last term counts. Four errors have to make up for a difference of 1, so one of them is
# at least ¼. For XOR the sum is $-2$, and one error is at least ½.
#
# Both bounds are reached, by $x_i/2 + x_j/2 - 1/4$ and by the constant ½. They hold for any readout of any *linear*
# layer, however wide, because what comes out is affine.

# %%
affine_and = (INPUTS[:, FIRST] + INPUTS[:, SECOND]) / 2 - 1 / 4
affine_xor = torch.full((N_INPUTS, N_PAIRS), 1 / 2)
affine_error = (affine_and - both(INPUTS)).abs().max().item()
affine_xor_error = (affine_xor - either(INPUTS)).abs().max().item()
print(f"AND {affine_error}, XOR {affine_xor_error}")

# %% [markdown]
# So ¼ is the number to beat. Whoever stays below it has used the nonlinearity.
#
# ## A narrow layer
#
# The network is one layer of ReLU neurons and an affine readout. Its weights have an axis of **instances** in front, as
# in `sae_core.toy`: many networks are trained at once, each on its own. We give it 80 neurons.

# %%
WIDTH = 80


class PairNet(nn.Module):
    """Outputs for all pairs from one ReLU layer: ReLU(x W + b) R + c. Every tensor begins with the instances.

    widths: neurons of each instance; the others of its layer are switched off.
    frozen: leave W and b as they were drawn, and train R and c alone.
    """

    def __init__(self, widths: list[int], frozen: bool, seed: int = 0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        n, most = len(widths), max(widths)
        W = torch.randn(N_BITS, most, generator=generator)  # all instances start alike
        b = torch.randn(1, most, generator=generator) / 2
        self.W = nn.Parameter(W.repeat(n, 1, 1), requires_grad=not frozen)
        self.b = nn.Parameter(b.repeat(n, 1, 1), requires_grad=not frozen)
        self.R = nn.Parameter(torch.zeros(n, most, N_PAIRS))
        self.c = nn.Parameter(torch.zeros(n, 1, N_PAIRS))
        self.switch = (torch.arange(most) < torch.tensor(widths)[:, None]).float()[:, None]  # [instances, 1, most]

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x @ self.W + self.b) * self.switch @ self.R + self.c


# %% [markdown]
# The loss of one output is $|y - \text{target}|^p$. With $p = 2$ it cares about the average, with a large $p$ about the
# worst case. An entry where both bits are on can be given more weight than the others.

# %%
RARE = both(INPUTS)  # 1 where both bits of the pair are on


def power_loss(powers: list[int], weights: list[float]):
    """A loss [instances] for `toy.train`: |error|^p, where both bits are on `weight` times."""
    factor = torch.stack([1 + (weight - 1) * RARE for weight in weights])

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        errors = (outputs - targets).square()
        raised = torch.stack([error ** (p // 2) for error, p in zip(errors, powers, strict=True)])
        return (factor * raised).sum(2).mean(1)

    return loss


STEPS = chapter.size(quick=1500, full=10_000)


def fit(widths: list[int], frozen: bool, powers: list[int], weights: list[float], target=both) -> Tensor:
    """Train one network for each width, power and weight. Returns absolute errors [instances, inputs, pairs]."""
    net = PairNet(widths, frozen)
    toy.train(
        net,
        lambda generator: INPUTS[None],
        STEPS,
        target=target,
        loss=power_loss(powers, weights),
        lr=1e-2 if frozen else 3e-3,  # a readout alone is a convex problem and takes larger steps
        schedule=toy.linear,
    )
    with torch.no_grad():
        return (net(INPUTS[None]) - target(INPUTS)).abs()


# %% [markdown]
# ## The loss decides
#
# ```{admonition} Predict
# :class: tip
# You train with the squared error, and every entry counts the same. What will the network put out where the target is
# 1: about 1, about ½, or less?
# ```

# %%
POWERS, WEIGHTS = [2, 4, 8], [1.0, 10.0]
settings = [(p, weight) for p in POWERS for weight in WEIGHTS]
by_loss = fit([WIDTH] * len(settings), False, [p for p, _ in settings], [weight for _, weight in settings])
ones_error = {s: by_loss[k][RARE > 0].mean().item() for k, s in enumerate(settings)}
largest_error = {s: by_loss[k].max().item() for k, s in enumerate(settings)}

# %% tags=["hide-input"]
#| label: fig-computing-losses
#| caption: Errors of trained networks by loss. Where the target is 1, the mean error; over all targets, the largest.
#|   The dotted line is what an affine function can do.
names = [f"p = {p}{', weighted' if weight > 1 else ''}" for p, weight in settings]
figure = go.Figure()
figure.add_bar(x=names, y=list(ones_error.values()), name="mean error where the target is 1")
figure.add_bar(x=names, y=list(largest_error.values()), name="largest error of all")
figure.add_hline(affine_error, line={"dash": "dot", "color": plots.PALETTE[7]})
figure.update_yaxes(title="error", rangemode="tozero")
told = "; ".join(
    f"{name}: {ones_error[s]:.2f} on ones, largest {largest_error[s]:.2f}"
    for name, s in zip(names, settings, strict=True)
)
plots.describe(figure, f"Bars of two errors for {len(settings)} losses. {told}.", barmode="group")

# %% tags=["remove-cell"]
unweighted, weighted = ones_error[2, 1.0], ones_error[2, 10.0]
chapter.claim(
    "M9",
    where="superposition/computing#fig-computing-losses",
    text="synthetic",
    losses=len(POWERS),
    unweighted_one_error=unweighted,
    weighted_one_error=weighted,
)
share = (WIDTH + 1) / N_PAIRS
chapter.number("unweighted", unweighted, ".2f")
chapter.number("weighted", weighted, ".2f")
chapter.number("share", share, ".2f")
chapter.number("share-error", 1 - share, ".2f")
best = min(largest_error, key=largest_error.get)
chapter.number("best-loss", f"p = {best[0]}, {'with' if best[1] > 1 else 'without'} the weight")
chapter.number("one-output", 1 - unweighted, ".2f")

# %% [markdown]
# With the plain squared error the mean error on the ones is {glue:text}`unweighted`. The network puts out
# {glue:text}`one-output` where it should put out 1. Why?
#
# Look at the targets as a matrix, with a row for each input and a column for each pair. Each pair is on in exactly one
# row, so the matrix is an identity, with rows of zeros added. What the network puts out is a matrix as well. It is a
# product with the neurons and a constant between, so its rank is at most their number plus one. A matrix of rank $r$
# that comes as close as possible to the identity of size $n$, in squared error, is a projection. Its diagonal sums to
# $r$. So the mean output on a one is at most
#
# $$\frac{r}{n} = \frac{\text{neurons} + 1}{\text{pairs}},$$
#
# here {glue:text}`share`, and the error is at least {glue:text}`share-error`. Even at the lowest loss that so many
# neurons can reach, a one comes out as {glue:text}`share` or less. With fewer neurons the least error rises towards 1,
# that of the zero network. The squared error prefers to be a little wrong about a one, since there are so few of them,
# to being a little wrong about many zeros.
#
# Two changes help. **A weight** makes a one as important as several zeros; at $p = 2$ its error falls to
# {glue:text}`weighted`. **A larger power** cares less about many small errors and more about the few large ones. The
# smallest largest error comes from {glue:text}`best-loss`. But an extreme power is hard to train: its gradient almost
# vanishes for all errors but the largest.
#
# ```{admonition} A trap: the loss went down
# :class: warning
# The unweighted loss falls all through training, and the curve looks healthy. Look at the errors on the rare targets
# by themselves. The same trap waits in a sparse autoencoder: a feature that is seldom on costs little if it is missed.
# ```
#
# ## Does the first layer have to learn?
#
# ```{admonition} Predict
# :class: tip
# Draw the first layer at random and never train it. Only the readout learns, a linear problem. How much wider must the
# layer be to stay below ¼?
# ```
#
# From here on the loss has $p = 4$ and a weight of 10 where both bits are on. {numref}`fig-computing-width` trains
# several widths, with a learned and with a frozen first layer, on AND and on XOR.

# %%
WIDTHS = [40, 60, WIDTH, 100]
errors = {
    (task, first): fit(WIDTHS, first == "frozen", [4] * len(WIDTHS), [10.0] * len(WIDTHS), target)
    for task, target in (("AND", both), ("XOR", either))
    for first in ("trained", "frozen")
}
largest = {key: error.amax((1, 2)).tolist() for key, error in errors.items()}

# %% tags=["hide-input"]
#| label: fig-computing-width
#| caption: Largest error over all pairs and inputs, by number of neurons. Dotted, what affine readouts can do at best,
#|   for AND (lower) and for XOR (upper).
figure = plots.curves(
    {f"{task}, first layer {first}": (WIDTHS, values) for (task, first), values in largest.items()},
    "neurons",
    "largest error",
    f"Four curves of the largest error over {WIDTHS[0]} to {WIDTHS[-1]} neurons. "
    + "; ".join(
        f"{task} {first} from {values[0]:.2f} to {values[-1]:.2f}" for (task, first), values in largest.items()
    )
    + ".",
)
figure.update_traces(mode="lines+markers")
for level in (affine_error, affine_xor_error):
    figure.add_hline(level, line={"dash": "dot", "color": plots.PALETTE[7]})
figure.update_yaxes(rangemode="tozero")
figure

# %% tags=["remove-cell"]
widest = {key: values[-1] for key, values in largest.items()}
mean_widest = {key: error[-1].mean().item() for key, error in errors.items()}
where = "superposition/computing#fig-computing-width"
chapter.claim(
    "M7",
    where=where,
    text="synthetic",
    trained_error=widest["AND", "trained"],
    frozen_error=widest["AND", "frozen"],
    affine_error=affine_error,
    trained_mean_error=mean_widest["AND", "trained"],
    frozen_mean_error=mean_widest["AND", "frozen"],
)
chapter.claim(
    "M8",
    where=where,
    text="synthetic",
    trained_error=widest["XOR", "trained"],
    frozen_error=widest["XOR", "frozen"],
)
for (task, first), values in largest.items():
    chapter.number(f"{task.lower()}-{first}", values[-1], ".3f")
    chapter.number(f"{task.lower()}-{first}-narrow", values[WIDTHS.index(WIDTH)], ".3f")
for first in ("trained", "frozen"):
    chapter.number(f"and-{first}-mean", mean_widest["AND", first], ".3f")
chapter.number("widest", WIDTHS[-1])


def verdict(bound: float, task: str, place: int) -> str:
    below = sum(largest[task, first][place] < bound for first in ("trained", "frozen"))
    return {0: "Neither is", 1: "One of the two is", 2: "Both are"}[below]


chapter.number("and-verdict", verdict(affine_error, "AND", -1))
chapter.number("and-verdict-narrow", verdict(affine_error, "AND", WIDTHS.index(WIDTH)))
chapter.number("xor-verdict", verdict(affine_xor_error, "XOR", -1))


def first_below(first: str) -> str:
    """Fewest neurons among those tried with which AND stays below the affine error."""
    found = [width for width, error in zip(WIDTHS, largest["AND", first], strict=True) if error < affine_error]
    return str(found[0]) if found else f"more than {WIDTHS[-1]}"


chapter.number("needs-trained", first_below("trained"))
chapter.number("needs-frozen", first_below("frozen"))

# %% [markdown]
# With {glue:text}`widest` neurons the largest error on AND is {glue:text}`and-trained` with a trained first layer and
# {glue:text}`and-frozen` with a frozen one. {glue:text}`and-verdict` below ¼, with little more than half as many
# neurons as pairs. The mean errors, {glue:text}`and-trained-mean` and {glue:text}`and-frozen-mean`, are much smaller
# than the largest. With 80 neurons the largest errors are {glue:text}`and-trained-narrow` and
# {glue:text}`and-frozen-narrow`: {glue:text}`and-verdict-narrow` below ¼. Of the widths in the figure, a trained layer
# needs {glue:text}`needs-trained` and a frozen one {glue:text}`needs-frozen` to get there. Training the first layer
# saves neurons. It is not what makes the task possible.
#
# For XOR the errors with {glue:text}`widest` neurons are {glue:text}`xor-trained` and {glue:text}`xor-frozen`.
# {glue:text}`xor-verdict` below ½. The two tasks are one: $x_i \oplus x_j = x_i + x_j - 2\,(x_i \wedge x_j)$, and the
# linear part costs little. So expect twice the error of AND, against a bound that is twice as high.
#
# Why should random neurons know anything about pairs? No neuron does. But the neurons respond to *every* pair, each a
# little and in its own way. The readout adds up many faint opinions. What belongs to other pairs comes with random
# signs and largely cancels. That is superposition again: the ANDs are almost orthogonal directions in the space of
# neurons.
#
# ## A readout written by hand
#
# For Gaussian weights without biases you can see how. Look at neuron $k$ with weights $w_{ki}$ and $w_{kj}$ to the two
# bits. Their signs put it into one of four **quadrants**: $++$, $+-$, $-+$, $--$. Let the readout depend on the
# quadrant alone. Then there are four unknown coefficients, and four conditions: the mean output has to be 0, 0, 0, 1 on
# the four inputs.
#
# Write $z = w_{ki} x_i + w_{kj} x_j + \xi$, where $\xi$ is what other bits contribute.
#
# - On $(0,0)$ a neuron says the same in every quadrant, on average. So the four coefficients sum to 0.
# - On $(1,0)$ the output depends on the sign of $w_{ki}$ alone. So the two coefficients of each such half sum to 0.
# - On $(0,1)$ likewise.
#
# What is left is $\alpha$ for $++$ and $--$, and $-\alpha$ for the other two. In other words, the readout is
#
# $$R_{k,ij} = \frac{\alpha}{d}\; \mathrm{sign}(w_{ki})\,\mathrm{sign}(w_{kj}).$$
#
# The fourth condition gives $\alpha$. With both bits on and no others, $++$ neurons say $|w_{ki}| + |w_{kj}|$, mean
# $2\sqrt{2/\pi}$. Mixed ones say the positive part of a difference, mean $(2/\sqrt{\pi} - \sqrt{2/\pi})$. The last kind
# is silent. Together
#
# $$\frac{\alpha}{4}\left(2\sqrt{\tfrac{2}{\pi}} - 2\left(\tfrac{2}{\sqrt{\pi}} - \sqrt{\tfrac{2}{\pi}}\right)\right)
# = 1 \quad\Longrightarrow\quad \alpha = \sqrt{\pi}\,(\sqrt{2} + 1).$$

# %%
ALPHA = math.sqrt(math.pi) * (math.sqrt(2) + 1)


def by_hand(W: Tensor, x: Tensor) -> Tensor:
    """Outputs [inputs, pairs] for a random first layer W [n_bits, d] and x [inputs, n_bits]; nothing is trained."""
    signs = W.sign()
    readout = ALPHA / W.shape[1] * signs[FIRST] * signs[SECOND]  # [pairs, d]
    return torch.relu(x @ W) @ readout.T


# %% [markdown]
# ```{admonition} Predict
# :class: tip
# The mean over all possible neurons is exact. You have only $d$ of them, drawn independently. You make the layer four
# times as wide. By what factor does the error fall?
# ```

# %%
HAND_WIDTHS = [2**k for k in range(6, chapter.size(quick=14, full=17))]
generator = torch.Generator().manual_seed(0)
hand_mean, hand_largest = [], []
for width in HAND_WIDTHS:
    error = (by_hand(torch.randn(N_BITS, width, generator=generator), INPUTS) - both(INPUTS)).abs()
    hand_mean.append(error.mean().item())
    hand_largest.append(error.max().item())
slope = float(np.polyfit(np.log(HAND_WIDTHS), np.log(hand_mean), 1)[0])

# %% tags=["hide-input"]
#| label: fig-computing-hand
#| caption: Errors of the readout written by hand, on random weights, by number of neurons. Both axes are logarithmic.
learned = (WIDTHS, errors["AND", "frozen"].mean((1, 2)).tolist())
figure = plots.curves(
    {
        "by hand, mean error": (HAND_WIDTHS, hand_mean),
        "by hand, largest error": (HAND_WIDTHS, hand_largest),
        "learned readout, mean error": learned,
    },
    "neurons",
    "error",
    f"Errors of the readout written by hand over {HAND_WIDTHS[0]} to {HAND_WIDTHS[-1]:,} neurons, on logarithmic "
    f"axes. The mean error falls from {hand_mean[0]:.2f} to {hand_mean[-1]:.3f} along a line of slope {slope:.2f}, the "
    f"largest from {hand_largest[0]:.2f} to {hand_largest[-1]:.2f}. A learned readout has a mean error of "
    f"{learned[1][0]:.3f} with {WIDTHS[0]} neurons and {learned[1][-1]:.3f} with {WIDTHS[-1]}.",
)
figure.update_traces(mode="lines+markers")
figure.update_xaxes(type="log", dtick=1)
figure.update_yaxes(type="log", dtick=1)
figure

# %% tags=["remove-cell"]
chapter.claim("M10", where="superposition/computing#fig-computing-hand", text="synthetic", slope=slope)
chapter.number("slope", slope, ".2f")
chapter.number("hand-few", hand_mean[0], ".2f")
chapter.number("hand-many", hand_mean[-1], ".3f")
chapter.number("hand-many-largest", hand_largest[-1], ".2f")
chapter.number("hand-widest", HAND_WIDTHS[-1], ",")
enough = next((width for width, error in zip(HAND_WIDTHS, hand_largest, strict=True) if error < affine_error), None)
chapter.number("hand-enough", f"{enough:,} neurons" if enough else f"more than {HAND_WIDTHS[-1]:,} neurons")

# %% [markdown]
# A mean over $d$ independent neurons has a standard error that goes like $1/\sqrt{d}$. The measured slope is
# {glue:text}`slope`. It is not a property of networks. It is the law of large numbers.
#
# The price is high: the largest error gets below ¼ with {glue:text}`hand-enough`, where a learned one needs
# {glue:text}`needs-frozen`. The difference is that the readout written by hand looks at the two weights of its pair and
# ignores all the others. A learned one knows which other pairs disturb it, and cancels them.
#
# ## The same trick in attention
#
# Tokens exclude each other: only one stands at a place. Let each of $n$ tokens have a random vector with only $d$
# entries, much fewer than $n$. An attention head scores a query token against all keys by inner products. Does each
# token still match itself best?
#
# ```{admonition} Predict
# :class: tip
# There are 16,384 tokens. How many dimensions does the head need so that 99 % of them find themselves: 16,384, about
# 1,000, or about 35?
# ```
#
# The score of token $i$ with itself is $\lVert v_i \rVert^2$. Its scores with the others are independent Gaussians with
# standard deviation $\lVert v_i \rVert$, in units where each entry has variance 1. So another token wins with the
# probability that a Gaussian exceeds $r = \lVert v_i \rVert$, and token $i$ finds itself with probability
# $\Phi(r)^{n-1}$. Averaged over the lengths $r$ of Gaussian vectors, that is an exact prediction. Two more dimensions
# roughly halve the chance of one mistake. So **twice as many tokens cost about two dimensions**, and $d$ grows with the
# logarithm of $n$.

# %%
VOCABULARIES = [64, 1024, 16_384]
DIMENSIONS = [4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 48, 64]
QUERIES = 2048  # at a time


def self_matches(n_tokens: int, d_head: int, generator: torch.Generator, queries: int = QUERIES) -> float:
    """Share of queries whose largest score among n_tokens random vectors [d_head] is their own, over several draws."""
    hits = asked = 0
    while asked < queries:
        keys = torch.randn(n_tokens, d_head, generator=generator)
        scores = keys[:QUERIES] @ keys.T
        hits += int((scores.argmax(1) == torch.arange(len(scores))).sum())
        asked += len(scores)
    return hits / asked


generator = torch.Generator().manual_seed(0)
matches = {n: [self_matches(n, d, generator) for d in DIMENSIONS] for n in VOCABULARIES}
quantiles = (np.arange(1000) + 0.5) / 1000


def self_match_predicted(n_tokens: int, d_head: int) -> float:
    lengths = chi.ppf(quantiles, d_head)  # of Gaussian vectors with d_head entries
    return float((norm.cdf(lengths) ** (n_tokens - 1)).mean())


every_d = list(range(DIMENSIONS[0], DIMENSIONS[-1] + 1))
predicted = {n: [self_match_predicted(n, d) for d in every_d] for n in VOCABULARIES}


def dimensions_for(n_tokens: int, share: float = 0.99) -> int:
    """Fewest dimensions in which this share of the tokens is predicted to match themselves."""
    return next(d for d in every_d if self_match_predicted(n_tokens, d) >= share)

# %% tags=["hide-input"]
#| label: fig-computing-attention
#| caption: Share of tokens that match themselves best after a random projection, by dimension of the head. Points are
#|   measured, lines predicted.
figure = go.Figure()
for n, color in zip(VOCABULARIES, plots.PALETTE, strict=False):
    figure.add_scatter(x=every_d, y=predicted[n], mode="lines", line_color=color, showlegend=False, hoverinfo="skip")
    figure.add_scatter(x=DIMENSIONS, y=matches[n], mode="markers", marker_color=color, name=f"{n:,} tokens")
needed = {n: dimensions_for(n) for n in VOCABULARIES}
figure.update_xaxes(title="dimensions of the head")
figure.update_yaxes(title="tokens that match themselves", tickformat=".0%", range=[0, 1.03])
told = "; ".join(f"{n:,} tokens need {d} dimensions" for n, d in needed.items())
plots.describe(figure, f"Three rising curves. By the prediction, for 99 % of the tokens to match themselves, {told}.")

# %% tags=["remove-cell"]
few, most = VOCABULARIES[0], VOCABULARIES[-1]
checked = {n: self_matches(n, needed[n], generator, 8 * QUERIES) for n in (few, most)}
chapter.claim(
    "M11",
    where="superposition/computing#fig-computing-attention",
    text="synthetic",
    accuracy=checked[most],
    dimensions=needed[most],
)
chapter.number("tokens-most", most, ",")
chapter.number("tokens-few", few, ",")
chapter.number("dimensions", needed[most])
chapter.number("dimensions-few", needed[few])
chapter.number("accuracy", checked[most], ".1%")
chapter.number("accuracy-few", checked[few], ".1%")
chapter.number("checked", 8 * QUERIES, ",")
chapter.number("doublings", round(math.log2(most / few)))
chapter.number("more-dimensions", needed[most] - needed[few])
config = json.loads((bundle.find("A", "config.json") / "config.json").read_text())
d_head = config["n_embd"] // config["n_head"]
own_need = dimensions_for(config["vocab_size"])
chapter.number("d-head", d_head)
chapter.number("own-vocabulary", config["vocab_size"], ",")
chapter.number("own-need", own_need)
chapter.number(
    "head-verdict",
    "A head that looks up tokens by name has not enough of them."
    if d_head < own_need
    else "A head that looks up tokens by name has hardly room for more."
    if d_head < 1.5 * own_need
    else "A head can look up tokens by name, and has room for other things.",
)

# %% [markdown]
# For {glue:text}`tokens-most` tokens the prediction first reaches 99 % with {glue:text}`dimensions` dimensions, for
# {glue:text}`tokens-few` with {glue:text}`dimensions-few`. That is {glue:text}`more-dimensions` more for
# {glue:text}`doublings` doublings. Measured on {glue:text}`checked` queries each, {glue:text}`accuracy` and
# {glue:text}`accuracy-few` find themselves there.
#
# A head of our language model has {glue:text}`d-head` dimensions. For its vocabulary of {glue:text}`own-vocabulary`
# tokens the prediction asks for {glue:text}`own-need`. {glue:text}`head-verdict`
#
# ```{admonition} A trap: with high probability
# :class: warning
# All of this holds on average over random weights and for the inputs that we tried: at most two bits on. It is no
# guarantee about every input. With three bits on, nothing is promised. The last exercise but one looks at
# how a network could clean up after itself.
# ```
#
# ## What the sources say, what we found
#
# ```{list-table}
# :header-rows: 1
#
# * -
#   - the sources {cite}`hanni2024mathematical`, and Jake Mendel's comments
#   - here
# * - affine readout of AND
#   - errs by ¼
#   - exactly ¼; XOR exactly ½
# * - trained and frozen first layer, largest error
#   - similarly small
#   - AND {glue:text}`and-trained` and {glue:text}`and-frozen`; XOR {glue:text}`xor-trained` and {glue:text}`xor-frozen`
# * - squared error without weights
#   - ends in the zero network
#   - error on ones {glue:text}`unweighted`, with weights {glue:text}`weighted`
# * - readout by hand
#   - its error goes to 0
#   - from {glue:text}`hand-few` to {glue:text}`hand-many` with {glue:text}`hand-widest` neurons; slope
#     {glue:text}`slope`
# * - tokens match themselves after a random projection
#   - with high probability
#   - {glue:text}`accuracy` of {glue:text}`tokens-most` tokens in {glue:text}`dimensions` dimensions
# ```
#
# **How our set-up differs.** The sources ask for many more inputs than we have, and for the growth of the width with
# their number: about $m^{2/3}$ neurons for $m$ inputs, up to logarithms {cite}`hanni2024mathematical`. Our sizes are
# too small to see an exponent, and at most two bits are on. The source says that the readout by hand depends on the
# signs of two weights. The formula, and the rate at which its error falls, we worked out ourselves.
#
# ```{admonition} Takeaways
# :class: note
# - An affine readout misses an AND by ¼. This follows from one alternating sum, for any width.
# - A layer with fewer neurons than pairs computes all pairs, even with random weights. The ANDs are in superposition.
# - A squared error over rare targets is a vote for zero. Weight the rare ones, or raise the power.
# - Random signs cancel like $1/\sqrt{d}$. Much of what superposition can do follows from that alone.
# ```
#
# ## Exercises
#
# ```{exercise-start} Any gate
# :label: ex-computing-gate
# ```
# *Difficulty 2/5 · importance 4/5 · 10 minutes.* A gate has outputs $y(0,0)$, $y(1,0)$, $y(0,1)$, $y(1,1)$, any four
# numbers. Write `affine_gap(y00, y10, y01, y11)`: the smallest possible largest error of an affine function.
#
# ````{admonition} Hint 1
# :class: dropdown
# Which combination of the four numbers is 0 for every affine function?
# ````
# ````{admonition} Hint 2
# :class: dropdown
# The four errors, with alternating signs, add up to that combination. What is the least that the largest of them can
# be?
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def affine_gap(y00, y10, y01, y11):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-computing-gate")
def check_affine_gap(affine_gap):
    assert math.isclose(affine_gap(0, 0, 0, 1), affine_error), "AND is missed by a quarter"
    assert math.isclose(affine_gap(0, 1, 1, 0), affine_xor_error), "XOR is missed by a half, and no error is negative"
    assert math.isclose(affine_gap(1, 3, 4, 6), 0, abs_tol=1e-9), "1 + 2 x_i + 3 x_j is affine: nothing is missed"
    assert math.isclose(affine_gap(0, 0, 0, 3), 3 / 4), "three times a gate is missed by three times as much"
    assert math.isclose(affine_gap(1, 1, 1, 2), 1 / 4), "a constant can be added for nothing"
    assert math.isclose(affine_gap(5, 1, 1, -2), 1 / 4), "y = 5 - 4 x_i - 4 x_j + (x_i and x_j) is missed by a quarter"


check_affine_gap(affine_gap)

# %% [markdown]
# ````{solution-start} ex-computing-gate
# :class: dropdown
# ````

# %%
def affine_gap(y00, y10, y01, y11):
    return abs(y00 - y10 - y01 + y11) / 4


check_affine_gap(affine_gap)

# %% [markdown]
# The largest of four errors is smallest if all have the same size. An affine function can do that, as it can remove
# everything but the alternating part. That part is all that a nonlinearity is needed for.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
check_affine_gap.refuses(lambda y00, y10, y01, y11: (y00 - y10 - y01 + y11) / 4, because="no error is negative")
check_affine_gap.refuses(lambda *y: (max(y) - min(y)) / 4, because="XOR is missed by a half")
check_affine_gap.refuses(lambda *y: abs(y[3] - y[0]) / 4 if y[1] == y[2] == 0 else 1 / 2, because="is affine")

# %% [markdown]
# ```{exercise-start} How much of a one is left
# :label: ex-computing-rank
# ```
# *Difficulty 3/5 · importance 5/5 · 15 minutes.* Write `mean_one(hidden)`. It takes any hidden layer, a matrix with a
# row for each of our inputs and a column for each neuron, and returns the mean output on the ones of AND, after the
# best readout in *unweighted* squared error with a constant. Then compare a random layer with 80 neurons to the bound
# in the text.
#
# ````{admonition} Hint 1
# :class: dropdown
# The outputs of a least-squares fit are a projection of the targets: $H\,(H^{\mathsf T} H)^{-1} H^{\mathsf T} Y$. A
# constant is one more column of ones. `torch.linalg.lstsq(H, Y).solution` gives the readout.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# Compute in float64. Then take the mean over the entries where `both(INPUTS)` is 1.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def mean_one(hidden):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-computing-rank")
def check_mean_one(mean_one):
    nothing = torch.zeros(N_INPUTS, 1)
    assert abs(float(mean_one(nothing)) - 1 / N_INPUTS) < 1e-3, "with a constant alone, a one is as small as the mean"
    assert abs(float(mean_one(both(INPUTS))) - 1) < 1e-3, "a neuron for each pair loses nothing"
    neurons = both(INPUTS)[:, : N_PAIRS // 2]
    alone = float(mean_one(neurons))
    assert 0.5 < alone < 0.52, "with neurons for half of the pairs, half of the ones are right, the others near zero"


check_mean_one(mean_one)

# %% [markdown]
# ````{solution-start} ex-computing-rank
# :class: dropdown
# ````

# %%
def mean_one(hidden):
    H = torch.cat([hidden, torch.ones(len(hidden), 1)], 1).double()
    targets = both(INPUTS).double()
    outputs = H @ torch.linalg.lstsq(H, targets, driver="gelsd").solution
    return outputs[targets > 0].mean()


random_layer = torch.relu(INPUTS @ torch.randn(N_BITS, WIDTH, generator=torch.Generator().manual_seed(1)))
print(f"random layer {mean_one(random_layer):.3f}, bound {(WIDTH + 1) / N_PAIRS:.3f}")
check_mean_one(mean_one)

# %% [markdown]
# A random layer comes close to the bound, and no training of the first layer can pass it. So the failure is not one of
# optimisation. The loss asks for it.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
def without_constant(hidden):
    H, targets = hidden.double(), both(INPUTS).double()
    return (H @ torch.linalg.lstsq(H, targets, driver="gelsd").solution)[targets > 0].mean()


def mean_of_everything(hidden):
    H = torch.cat([hidden, torch.ones(len(hidden), 1)], 1).double()
    return (H @ torch.linalg.lstsq(H, both(INPUTS).double(), driver="gelsd").solution).mean()


check_mean_one.refuses(without_constant, because="with a constant alone")
check_mean_one.refuses(mean_of_everything, because="a neuron for each pair loses nothing")
check_mean_one.refuses(lambda hidden: min(1, (hidden.shape[1] + 1) / N_PAIRS), because="a constant alone")

# %% [markdown]
# ```{exercise-start} XOR by hand
# :label: ex-computing-xor
# ```
# *Difficulty 4/5 · importance 3/5 · 20 minutes.* Write `xor_readout(W, i, j)` for a Gaussian first layer $W$ of shape
# `[n_bits, d]` without biases: coefficients `[d]` that depend on the signs of $w_{ki}$ and $w_{kj}$ alone, so that
# `relu(x @ W) @ xor_readout(W, i, j)` is on average the XOR of bits $i$ and $j$.
#
# ````{admonition} Hint 1
# :class: dropdown
# $x_i \oplus x_j = x_i + x_j - 2\,(x_i \wedge x_j)$. You have a readout of the last part. You need one for $x_i$ alone.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# Try $\beta\,\mathrm{sign}(w_{ki})/d$. With bit $i$ alone, half of the neurons say $|w_{ki}|$, with a mean of
# $\sqrt{2/\pi}$. Show that bit $j$ does not matter: replace $w$ by $-w$ and use
# $\mathrm{ReLU}(z) - \mathrm{ReLU}(-z) = z$.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def xor_readout(W, i, j):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-computing-xor")
def check_xor_readout(xor_readout):
    W = torch.randn(6, 200_000, generator=torch.Generator().manual_seed(5))
    x = torch.zeros(5, 6)
    x[1, 2] = x[2, 4] = x[3, 2] = x[3, 4] = x[4, 0] = 1
    readout = xor_readout(W, 2, 4)
    assert readout.shape == (W.shape[1],), "one coefficient for each neuron"
    nothing, first, second, two, other = (torch.relu(x @ W) @ readout).tolist()
    assert abs(nothing) < 1e-6, "without any bit, nothing comes out"
    assert abs(first - 1) < 0.05 and abs(second - 1) < 0.05, "one bit of the two: the output should be 1"
    assert abs(two) < 0.1, "both bits: the output should be 0"
    assert abs(other) < 0.05, "a bit that is not of the pair should not matter"
    signs = W[2].sign() + 3 * W[4].sign()
    assert all(readout[signs == s].std() < 1e-6 for s in signs.unique()), "let it depend on the two signs alone"


check_xor_readout(xor_readout)

# %% [markdown]
# ````{solution-start} ex-computing-xor
# :class: dropdown
# ````

# %%
def xor_readout(W, i, j):
    first, second = W[i].sign(), W[j].sign()
    return (math.sqrt(2 * math.pi) * (first + second) - 2 * ALPHA * first * second) / W.shape[1]


check_xor_readout(xor_readout)

# %% [markdown]
# By symmetry the mean of $\mathrm{sign}(w_{ki})\,\mathrm{ReLU}(z)$ is half the mean of $\mathrm{sign}(w_{ki})\,z$, and
# that is $x_i \sqrt{2/\pi}\,/\,2$, whatever bit $j$ does. So $\beta = \sqrt{2\pi}$. A ReLU layer is half linear, and
# its other half is the absolute value, which knows about pairs.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
def only_and(W, i, j):
    return ALPHA * W[i].sign() * W[j].sign() / W.shape[1]


def forgot_half(W, i, j):
    first, second = W[i].sign(), W[j].sign()
    return (math.sqrt(math.pi / 2) * (first + second) - 2 * ALPHA * first * second) / W.shape[1]


def one_and(W, i, j):
    first, second = W[i].sign(), W[j].sign()
    return (math.sqrt(2 * math.pi) * (first + second) - ALPHA * first * second) / W.shape[1]


check_xor_readout.refuses(only_and, because="one bit of the two")
check_xor_readout.refuses(forgot_half, because="one bit of the two")
check_xor_readout.refuses(one_and, because="both bits")

# %% [markdown]
# ```{exercise-start} Clean up
# :label: ex-computing-clean
# ```
# *Difficulty 2/5 · importance 4/5 · 10 minutes.* The next layer receives bits with errors of up to ¼. Errors would add
# up over many layers. Write `clean(y)` with additions, factors and `torch.relu` alone: it maps everything from
# $-1/4$ to $1/4$ to exactly 0, and everything from $3/4$ to $5/4$ to exactly 1.
#
# ````{admonition} Hint 1
# :class: dropdown
# You need a function that is flat, rises, and is flat again. Each bend costs a ReLU.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# It rises from $y = 1/4$ to $y = 3/4$, so its slope there is 2. A second ReLU takes the slope away again.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def clean(y):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-computing-clean")
def check_clean(clean):
    zeros, ones = torch.linspace(-1 / 4, 1 / 4, 101), torch.linspace(3 / 4, 5 / 4, 101)
    assert clean(zeros).abs().max() < 1e-5, "an error of up to a quarter around 0 is still there"
    assert (clean(ones) - 1).abs().max() < 1e-5, "an error of up to a quarter around 1 is still there"
    between = clean(torch.linspace(1 / 4, 3 / 4, 201))
    assert between.diff().abs().max() < 0.05, "ReLUs make no jumps: between the two flat parts it has to rise steadily"


check_clean(clean)

# %% [markdown]
# ````{solution-start} ex-computing-clean
# :class: dropdown
# ````

# %%
def clean(y):
    return torch.relu(2 * y - 1 / 2) - torch.relu(2 * y - 3 / 2)


check_clean(clean)

# %% [markdown]
# So any error below ½ can be removed, if the slope is steep enough. But look at the price: two neurons for each bit, so
# the ANDs are no longer in superposition while they are cleaned. Hänni and others construct layers that correct errors
# of bits which *stay* in superposition, within limits {cite}`hanni2024mathematical`.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
check_clean.refuses(lambda y: torch.relu(2 * y - 1 / 2), because="around 1 is still there")
check_clean.refuses(lambda y: torch.relu(y - 1 / 4) - torch.relu(y - 3 / 4), because="around 1 is still there")
check_clean.refuses(torch.round, because="no jumps")

# %% [markdown]
# ```{exercise-start} A better first layer
# :label: ex-computing-design
# ```
# *Difficulty 4/5 · importance 3/5 · 30 minutes.* Open-ended. Design a first layer with 80 neurons, without training it
# on errors by gradient descent, that beats Gaussian weights. Write `first_layer()`, which returns `W` of shape
# `[20, 80]` and `b` of shape `[80]`. The check fits the best weighted readout in closed form, `readout_errors(W, b)`,
# and compares the largest error with the median over Gaussian layers.
#
# ````{admonition} Hint 1
# :class: dropdown
# What would a neuron look like that is silent unless *two* of its inputs are on? How many such neurons see a given
# pair?
# ````
# ````{admonition} Hint 2
# :class: dropdown
# Connect each neuron to a random half of the inputs, with weight 1 and bias $-1$. Do all inputs get their share? You
# may also draw many layers and keep the best.
# ````
# ```{exercise-end}
# ```

# %%
def readout_errors(W: Tensor, b: Tensor, weight: float = 10.0) -> Tensor:
    """Absolute errors [inputs, pairs] of AND after the best readout in squared error, with its ones weighted."""
    H = torch.cat([torch.relu(INPUTS @ W + b), torch.ones(N_INPUTS, 1)], 1).double()
    gram = H.T @ H + 1e-6 * torch.eye(H.shape[1])
    own = H[both(INPUTS).argmax(0)]  # the hidden layer at the input where each pair is on
    raw = own @ torch.linalg.inv(gram)
    # A weight changes one row of the problem: the formula of Sherman and Morrison updates the inverse.
    readout = weight * raw / (1 + (weight - 1) * (raw * own).sum(1, keepdim=True))
    return (H @ readout.T - both(INPUTS)).abs()


def gaussian_layer(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(N_BITS, WIDTH, generator=generator), torch.randn(WIDTH, generator=generator) / 2


gaussian_error = float(np.median([readout_errors(*gaussian_layer(seed)).max() for seed in range(20)]))
print(f"Gaussian layers, median of the largest error: {gaussian_error:.3f}")

# %% tags=["stub"]
def first_layer():
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-computing-design")
def check_first_layer(first_layer):
    W, b = first_layer()
    assert W.shape == (N_BITS, WIDTH) and b.shape == (WIDTH,), "W is [20, 80] and b is [80]"
    largest = readout_errors(W.float(), b.float()).max().item()
    bound = 0.9 * gaussian_error
    assert largest < bound, f"the largest error is {largest:.3f}; get it below {bound:.3f}"


check_first_layer(first_layer)

# %% [markdown]
# ````{solution-start} ex-computing-design
# :class: dropdown
# ````
#
# One of many answers: every neuron looks at a random 12 of the 20 inputs, and fires if two of them are on. Of 40 such
# layers we keep the best.

# %%
def subsets(seed: int, size: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.rand(N_BITS, WIDTH, generator=generator).argsort(0)[:size]
    return torch.zeros(N_BITS, WIDTH).scatter_(0, chosen, 1.0), -torch.ones(WIDTH)


def first_layer():
    return min((subsets(seed) for seed in range(40)), key=lambda layer: readout_errors(*layer).max())


print(f"largest error {readout_errors(*first_layer()).max():.3f}")
check_first_layer(first_layer)

# %% [markdown]
# Constructions with proofs use random connections and a threshold in this way, too {cite}`hanni2024mathematical`. A
# pair is read from the neurons that see both of its inputs. The other pairs that these neurons see differ from neuron
# to neuron, so that they average out.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
check_first_layer.refuses(lambda: gaussian_layer(3), because="get it below")
check_first_layer.refuses(lambda: (torch.eye(N_BITS).repeat(1, 4), torch.zeros(WIDTH)), because="get it below")
check_first_layer.refuses(lambda: (torch.randn(WIDTH, N_BITS), torch.zeros(WIDTH)), because="W is [20, 80]")
