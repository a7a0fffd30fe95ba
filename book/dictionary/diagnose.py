# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Diagnose the run
#
# A training run that is broken does not crash. It draws curves, and the curves look like curves. In this chapter we
# break ten runs on purpose, one line each. You see the curves first and say what is wrong. Then you see the line.
# At the end we ask the harder question: which of these mistakes can be seen in the curves at all?
#
# ```{admonition} Before you start
# **You will be able to**
# - read four curves of a run and name the likely cause where something is wrong;
# - tell a sign from the noise between seeds, and say how often chance alone would show it;
# - name the mistakes that leave no trace in the curves, and the direct test that finds each;
# - confirm a diagnosis by making the same mistake yourself.
#
# **You need** the chapter {doc}`training`: its rules are what we break.
#
# **Time**: 40 minutes to read, about two minutes to run.
# ```

# %% tags=["hide-input"]
import itertools
import math
from collections import defaultdict
from types import SimpleNamespace
from typing import NamedTuple
from unittest import mock

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots

from sae_core import activations, chapter, load_dictionary, load_model, objective, plots, training
from sae_core.autoencoder import SparseAutoencoder, dictionary_metadata
from sae_core.exercises import check
from sae_core.language_model import to_tensor, token_losses
from sae_core.recipe import paper_scaled
from sae_core.runs import held_out

# %% [markdown]
# ## What health looks like
#
# You cannot see that a curve is ill before you know how healthy ones differ among each other. So we start with several
# healthy runs, which differ in their seed alone: other random weights, and the same activations in another order.
#
# The runs are small. They train on activations of model A's 512 neurons, from text that the model has not seen, on
# the text *{glue:text}`text`*. The last chapter's recipe is only made shorter, and its learning rate higher.

# %%
LAM, LR = 4.0, chapter.size(quick=4e-3, full=2e-3)
D_SAE = chapter.size(quick=768, full=2048)
BATCH = chapter.size(quick=128, full=512)
N_HEALTHY, N_SEEDS = chapter.size(quick=5, full=8), 3
CONTEXTS = 8  # in a chunk: small ones, so that a small buffer holds many

model = load_model("A")
contexts, text = held_out(model)
test_ids, train_ids = np.split(contexts.ids, [64])


class Harvest(list):
    """The activations of some contexts, harvested once and kept, as the chunks that `ActivationBuffer` reads."""

    def __init__(self, ids: np.ndarray):
        source = activations.HarvestedChunks(model.network, ids, chunk_contexts=CONTEXTS)
        super().__init__(source[index].bfloat16() for index in range(len(source)))
        self.rows = source.rows


rows_of_context = train_ids.shape[1] - 1
buffer_rows = min(chapter.size(quick=16_384, full=131_072), len(train_ids) // 3 * rows_of_context)
spare = buffer_rows // 2  # some rows must be left to shuffle with at the end
STEPS = min(chapter.size(quick=300, full=2000), (len(train_ids) * rows_of_context - spare) // BATCH)
RESAMPLE_AT = (STEPS // 4, STEPS // 2)
train_ids = train_ids[: CONTEXTS * math.ceil((STEPS * BATCH + spare) / (CONTEXTS * rows_of_context))]
right_text = Harvest(train_ids)
test = activations.harvest(model.network, to_tensor(test_ids))[:, 1:].flatten(0, 1)


class Run(NamedTuple):
    trainer: training.Trainer
    curves: dict[str, np.ndarray]  # [STEPS] by name
    leftover: float  # largest second moment of Adam that a resampled feature was left with


def train(
    seed: int, settings: dict | None = None, broken: dict | None = None,
    buffer: type[activations.ActivationBuffer] = activations.ActivationBuffer, chunks: Harvest = right_text,
) -> Run:  # fmt: skip
    """A run. settings: of the recipe. broken: functions that replace those of `sae_core.training` meanwhile."""
    recipe = {"d_sae": D_SAE, "batch_size": BATCH, "lam": LAM, "lr": LR, "resample_at": RESAMPLE_AT, "seed": seed}
    recipe |= {"dead_after": max(1, STEPS // 20), "buffer_rows": buffer_rows, "resample_inputs": buffer_rows // 2}
    config = paper_scaled(STEPS, **recipe | (settings or {}))
    curves, leftover = [], 0.0
    with mock.patch.multiple(training, **broken or {"resample": training.resample}):
        trainer = training.Trainer(config, buffer(chunks, buffer_rows, seed))
        for now in trainer.run():
            curves.append([float(value) for value in (now.loss, now.l0, now.explained_variance, now.dead.sum())])
            if now.resampled:
                moments = trainer.optimizer.state[trainer.sae.W_dec]["exp_avg_sq"][now.dead]
                leftover = max(leftover, moments.max().item())
    names = ("loss", "L0", "explained variance", "dead")
    curves = dict(zip(names, np.array(curves).T, strict=True))
    curves["dead"] /= D_SAE
    return Run(trainer, curves, leftover)


healthy = [train(seed) for seed in range(N_HEALTHY)]

# %% tags=["remove-cell"]
chapter.number("text", text)
chapter.number("n-healthy", N_HEALTHY)
chapter.number("n-seeds", N_SEEDS)
chapter.number("steps", STEPS)
chapter.number("batch", BATCH)
chapter.number("d-sae", D_SAE)
chapter.number("seen", STEPS * BATCH, ",")
dead_after = healthy[0].trainer.config.dead_after
chapter.number("dead-after", dead_after)
chapter.number("first-left", 0.9**dead_after, ".2g")
chapter.number("second-left", 0.999**dead_after, ".2g")
chapter.number("resample-1", RESAMPLE_AT[0])
chapter.number("resample-2", RESAMPLE_AT[1])

# %% tags=["hide-input"]
#| label: fig-diagnose-healthy
#| caption: Healthy runs that differ in their seed alone. Dotted lines mark resampling. Loss and L0 are on logarithmic
#|   scales.
PANELS = ("loss", "L0", "explained variance", "dead")
at = np.arange(1, STEPS + 1)
shown = (at % math.ceil(STEPS / 200) == 0) | np.isin(at, [s + d for s in RESAMPLE_AT for d in range(1, 5)])


def panels(curves: list[dict[str, np.ndarray]], alt: str) -> go.Figure:
    """The four panels for these curves, still empty."""
    titles = ["loss", "L0", "explained variance", "dead"]
    figure = make_subplots(rows=2, cols=2, shared_xaxes=True, vertical_spacing=0.14, horizontal_spacing=0.15,
                           subplot_titles=titles)  # fmt: skip
    figure.update_annotations(font_size=13)
    for s in RESAMPLE_AT:
        figure.add_vline(x=s, line_dash="dot", line_width=1, line_color="gray", exclude_empty_subplots=False)
    figure.update_xaxes(range=[0, STEPS], nticks=5)
    for col, name in enumerate(PANELS[:2], start=1):  # few marks where the curves span many powers of ten
        every = np.concatenate([each[name] for each in curves])
        bases = (1, 2, 3, 5) if every.max() < 50 * every.min() else (1,)
        marks = [base * 10.0**power for power in range(-2, 7) for base in bases]
        figure.update_yaxes(type="log", tickvals=marks, ticktext=[f"{mark:,g}" for mark in marks], row=1, col=col)
    figure.update_yaxes(range=[-0.3, 1], row=2, col=1)
    figure.update_yaxes(range=[0, 1], tickformat=".0%", row=2, col=2)
    return plots.describe(figure, alt, height=440, margin={"r": 16, "t": 40}, hovermode="x")


def add_curve(figure: go.Figure, y: np.ndarray, panel: int, name: str, **style) -> None:
    """A curve in one of the four panels."""
    place = {"row": 1 + panel // 2, "col": 1 + panel % 2}
    y = [float(f"{value:.4g}") for value in np.maximum(y, 0.01 if panel == 1 else -np.inf)[shown]]
    figure.add_scatter(x=at[shown], y=y, name=name, legendgroup=name, showlegend=panel == 0, **style, **place)


def ends(curves: dict[str, np.ndarray]) -> dict[str, float]:
    """Each curve's mean over the last tenth of the steps."""
    return {name: float(values[-max(1, STEPS // 10) :].mean()) for name, values in curves.items()}


healthy_ends = {name: [ends(run.curves)[name] for run in healthy] for name in PANELS}
lowest, highest = ({name: pick(values) for name, values in healthy_ends.items()} for pick in (min, max))
figure = panels(
    [run.curves for run in healthy],
    f"{N_HEALTHY} healthy runs. At the end the loss is between {lowest['loss']:.0f} and {highest['loss']:.0f}, between "
    f"{lowest['L0']:.1f} and {highest['L0']:.1f} features are active on a token, between "
    f"{lowest['explained variance']:.0%} and {highest['explained variance']:.0%} of the variance is explained, and "
    f"between {lowest['dead']:.0%} and {highest['dead']:.0%} of the features are dead.",
)
for seed, run in enumerate(healthy):
    for panel, name in enumerate(PANELS):
        color = plots.PALETTE[seed % len(plots.PALETTE)]
        add_curve(figure, run.curves[name], panel, f"seed {seed}", line_color=color, line_width=1)
figure

# %% tags=["remove-cell"]
jump = [run.curves["loss"][RESAMPLE_AT[-1]] / run.curves["loss"][RESAMPLE_AT[-1] - 1] for run in healthy]
for name, key, form in (("loss", "loss", ".0f"), ("L0", "l0", ".3g"), ("explained variance", "ev", ".0%"),
                        ("dead", "dead", ".0%")):  # fmt: skip
    low, high = f"{lowest[name]:{form}}", f"{highest[name]:{form}}"
    chapter.number(f"healthy-{key}", low if low == high else f"{low} to {high}")
chapter.number("healthy-jump", f"{min(jump):.2f} to {max(jump):.2f}")

# %% [markdown]
# {numref}`fig-diagnose-healthy` shows {glue:text}`n-healthy` of them, each with {glue:text}`d-sae` features,
# {glue:text}`steps` steps and {glue:text}`seen` activations. Three things to remember:
#
# - **L0 falls fast, then slowly.** In the beginning half of all codes are on. The price of activity turns them off. At
#   the end {glue:text}`healthy-l0` features are active on a token.
# - **The explained variance dips, then climbs**, to {glue:text}`healthy-ev`. Codes are taken away before the directions
#   are any good.
# - **Features die and are brought back** at steps {glue:text}`resample-1` and {glue:text}`resample-2`. In the step
#   after the second resampling the loss is {glue:text}`healthy-jump` times what it was in the step before.
#
# The curves are shown as they are, without smoothing. Their roughness is information, as you will see.
#
# ## Ten ways to break it
#
# Here are the suspects. Each differs from the healthy recipe in one line. Where a comment says *wrong*, it is the whole
# mistake.

# %%
normalize_decoder, remove_parallel_gradient = training.normalize_decoder, training.remove_parallel_gradient
resample = training.resample


@torch.no_grad()
def normalize_columns(sae: SparseAutoencoder) -> None:
    sae.W_dec /= sae.W_dec.norm(dim=0, keepdim=True)  # wrong: a feature is a row, so dim=1


def reset_then_project(sae: SparseAutoencoder) -> None:
    normalize_decoder(sae)  # wrong: here it comes before Adam's step, and nothing resets the norm after it
    remove_parallel_gradient(sae)


def nothing(sae: SparseAutoencoder) -> None:
    pass  # wrong, wherever this stands for a rule of the recipe


def resample_and_forget(sae: SparseAutoencoder, optimizer: torch.optim.Optimizer, *rest) -> int:
    no_moments = SimpleNamespace(state=defaultdict(dict))  # wrong: an optimiser with nothing to reset
    return resample(sae, no_moments, *rest)


class InOrder(activations.ActivationBuffer):
    def _refill(self) -> None:
        super()._refill()
        self.order[self.served :] = self.order[self.served :].sort().values  # wrong: the text's own order


# A tokeniser with the same number of tokens, and another number for each.
other_tokens = np.random.default_rng(0).permutation(model.network.config.vocab_size)
wrong_ids = np.concatenate([train_ids[:, :1], other_tokens[train_ids[:, 1:]]], axis=1)

SUSPECTS = {
    "nothing is broken": {},
    "λ × 10": {"settings": {"lam": 10 * LAM}},
    "λ ÷ 10": {"settings": {"lam": LAM / 10}},
    "learning rate × 10": {"settings": {"lr": 10 * LR}},
    "learning rate ÷ 10": {"settings": {"lr": LR / 10}},
    "decoder normalised along the wrong axis": {"broken": {"normalize_decoder": normalize_columns}},
    "norm reset before the step": {
        "broken": {"remove_parallel_gradient": reset_then_project, "normalize_decoder": nothing}
    },
    "no projection of the gradient": {"broken": {"remove_parallel_gradient": nothing}},
    "no reset of Adam at resampling": {"broken": {"resample": resample_and_forget}},
    "activations not shuffled": {"buffer": InOrder},
    "text of another tokeniser": {"chunks": Harvest(wrong_ids)},  # wrong: not the model's own numbers for the tokens
}

# %% [markdown]
# Two of them need a word.
#
# - *No reset of Adam* hands the resampling an optimiser without any moments. So it finds nothing to reset, and the
#   new features inherit what Adam remembers of the dead ones.
# - *Text of another tokeniser* reads the right text with the wrong numbers: every token of the model's vocabulary is
#   swapped for another one. It happens when text was tokenised for one model and is then fed to another.
#
# Each suspect runs {glue:text}`n-seeds` times, with seeds that no healthy run above has used. One of the suspects is
# innocent: in it, nothing is broken. Such a run is called a {term}`sham`. You will need it.

# %%
SEEDS = range(N_HEALTHY, N_HEALTHY + N_SEEDS)
cases = {name: [train(seed, **fault) for seed in SEEDS] for name, fault in SUSPECTS.items()}

# %% [markdown]
# ## The gallery
#
# Eleven patients, one for each suspect, in an order drawn by a random number. Each figure shows one run in colour. The
# grey band is the **healthy range**: from the lowest to the highest of the healthy runs, step by step.
#
# ```{admonition} How to play
# :class: important
# Look at the four curves. Then choose: the explanation opens behind your choice. Say aloud how sure you are before you
# do. Keep a list of the suspects, and strike off those that are found.
# ```

# %% tags=["remove-cell"]
# The order is drawn, so that nobody reads it here by accident.
patients = [list(SUSPECTS)[index] for index in np.random.default_rng(2828).permutation(len(SUSPECTS))]


def signs(curves: dict[str, np.ndarray]) -> dict[str, float]:
    """What one can read off the curves of a run, as six numbers."""
    loss, first, last = curves["loss"], *RESAMPLE_AT
    calm = np.log(loss[last + STEPS // 20 :])
    spikes = [loss[s : s + 3].max() / loss[s - 10 : s].mean() for s in (first, last)]
    return ends(curves) | {"spike": max(spikes), "roughness": float(np.diff(calm).std() / math.sqrt(2))}


FORMS = {"loss": ",.0f", "L0": ".3g", "explained variance": ",.0%", "dead": ".0%", "spike": ".3g", "roughness": ".1%"}
of_healthy = [signs(run.curves) for run in healthy]
of_cases = {name: [signs(run.curves) for run in runs] for name, runs in cases.items()}


def outside(name: str, sign: str) -> int:
    """In how many seeds a sign is above the healthy range, or minus that below it; 0 if on both sides or on none."""
    values, inside = [each[sign] for each in of_cases[name]], [each[sign] for each in of_healthy]
    above, below = sum(v > max(inside) for v in values), sum(v < min(inside) for v in values)
    return 0 if above and below else above - below


def verdict(name: str) -> str:
    """Which signs leave the healthy range in every seed, in words."""
    found = [f"{sign} {'above' if outside(name, sign) > 0 else 'below'}" for sign in FORMS
             if abs(outside(name, sign)) == N_SEEDS]  # fmt: skip
    if not found:
        return f"No sign leaves the healthy range in all {N_SEEDS} seeds"
    return f"Outside of the healthy range in all {N_SEEDS} seeds: {', '.join(found)}"


@torch.no_grad()
def held_out_loss(run: Run) -> float:
    """The loss on test vectors of the right text, with the healthy λ whatever the run's."""
    return objective.loss_per_example(run.trainer.sae, test.float() * run.trainer.scale, LAM).mean().item()


normal_loss = float(np.mean([held_out_loss(run) for run in healthy]))
costs = {name: [held_out_loss(run) / normal_loss - 1 for run in runs] for name, runs in cases.items()}
for number, name in enumerate(patients, start=1):
    chapter.number(f"cause-{number}", name)
    chapter.number(f"verdict-{number}", verdict(name))
    chapter.number(f"cost-{number}", float(np.mean(costs[name])), "+.1%")
    for sign, form in FORMS.items():
        value = of_cases[name][0][sign]
        chapter.number(f"{sign.replace(' ', '-')}-{number}", value, form)
for sign, form in FORMS.items():
    inside = [f"{pick(each[sign] for each in of_healthy):{form}}" for pick in (min, max)]
    chapter.number(f"range-{sign.replace(' ', '-')}", inside[0] if inside[0] == inside[1] else " to ".join(inside))


def chart(number: int) -> go.Figure:
    """The curves of a patient over the healthy range."""
    curves = cases[patients[number - 1]][0].curves
    found, gray = signs(curves), "rgba(128,128,128,0.5)"
    words = [f"{sign} {found[sign]:{form}} (healthy {min(each[sign] for each in of_healthy):{form}} to "
             f"{max(each[sign] for each in of_healthy):{form}})" for sign, form in FORMS.items()]  # fmt: skip
    figure = panels([curves, *(run.curves for run in healthy)], f"Patient {number}. {'; '.join(words)}.")
    for panel, name in enumerate(PANELS):
        band = np.array([run.curves[name] for run in healthy])
        add_curve(figure, band.min(0), panel, "lowest", line_color=gray, line_width=0.5, hoverinfo="skip")
        add_curve(figure, band.max(0), panel, "healthy range", line_color=gray, line_width=0.5, hoverinfo="skip",
                  fill="tonexty", fillcolor=gray)  # fmt: skip
        add_curve(figure, curves[name], panel, f"patient {number}", line_color=plots.PALETTE[1], line_width=1.5)
    return figure.update_traces(showlegend=False, selector={"name": "lowest"})

# %% [markdown]
# ### Patient 1

# %% tags=["remove-input"]
#| label: fig-diagnose-1
#| caption: Patient 1 over the healthy range.
chart(1)

# %% [markdown]
# ```{admonition} Commit to an answer
# :class: tip commit
# The loss is far below the healthy range. Is that good news?
#
# - [ ] activations not shuffled
# - [x] λ ÷ 10
# - [ ] λ × 10
# - [ ] learning rate × 10
#
# **{glue:text}`cause-1`.** The price of activity is a tenth of the healthy one, so the codes stay on: L0 is
# {glue:text}`L0-1`, against {glue:text}`range-L0`. No feature has a reason to die. The loss looks better than any other
# on this page, and means nothing: it is computed with the run's own λ. The explained variance looks best of all, for
# the same reason that a list of 512 neurons would be perfect.
#
# *Tell-tale*: L0 first. The paper aims at fewer than 10 to 20 active features, and distrusts a number that is a
# sizeable fraction of the 512 neurons {cite}`bricken2023monosemanticity`. *Test*: read λ off the finished dictionary
# (the third exercise). *Cure*: write down the convention of your λ, and compare runs at equal L0, never by loss.
# ```

# %% [markdown]
# ### Patient 2

# %% tags=["remove-input"]
#| label: fig-diagnose-2
#| caption: Patient 2 over the healthy range.
chart(2)

# %% [markdown]
# ```{admonition} Commit to an answer
# :class: tip commit
# The curves run close to the healthy range. Would you have stopped this run?
#
# - [ ] nothing is broken
# - [ ] λ × 10
# - [x] text of another tokeniser
# - [ ] learning rate ÷ 10
#
# **{glue:text}`cause-2`.** The model reads nonsense, and its neurons answer it. These answers can be compressed, too.
# So the dictionary learns, features live and die, and the loss ends at {glue:text}`loss-2` (healthy:
# {glue:text}`range-loss`). But it has learnt what the model does with nonsense. On test vectors of the right text its
# loss is {glue:text}`cost-2` against healthy runs.
#
# *Tell-tale*: {glue:text}`verdict-2`. None of this points at the text. *Test*: let the language model predict what you
# harvest from. Its loss on this text is {glue:text}`wrong-text-loss` nats a token, on the right one
# {glue:text}`right-text-loss`. *Cure*: look at the text, decoded by the model's own tokeniser, before every run. And
# measure on held-out text that took another way into your program.
# ```

# %% [markdown]
# ### Patient 3

# %% tags=["remove-input"]
#| label: fig-diagnose-3
#| caption: Patient 3 over the healthy range.
chart(3)

# %% [markdown]
# ```{admonition} Commit to an answer
# :class: tip commit
# Smooth, calm, no spikes. What is missing?
#
# - [x] learning rate ÷ 10
# - [ ] λ × 10
# - [ ] no reset of Adam at resampling
# - [ ] no projection of the gradient
#
# **{glue:text}`cause-3`.** Nothing is wrong with this run but its pace. L0 is {glue:text}`L0-3` and still falls. Hardly
# a feature dies, so resampling finds nothing to do and leaves no spike ({glue:text}`dead-3` dead at the end). A calm
# run is easily taken for a good one.
#
# *Tell-tale*: curves that are still on their way when the run ends. A low λ keeps L0 high, too, but there the curves
# have settled and the explained variance is high; here it is {glue:text}`explained-variance-3`, below the healthy
# {glue:text}`range-explained-variance`. *Test*: ten times the rate for a tenth of the steps. *Cure*: raise the rate, or
# train longer. The paper prefers longer: a lower rate and more steps gave a lower loss and more real features
# {cite}`bricken2023monosemanticity`.
# ```

# %% [markdown]
# ### Patient 4

# %% tags=["remove-input"]
#| label: fig-diagnose-4
#| caption: Patient 4 over the healthy range.
chart(4)

# %% [markdown]
# ```{admonition} Commit to an answer
# :class: tip commit
# Look at the end of the loss, and at the spikes. Is this the noise of seeds?
#
# - [ ] learning rate × 10
# - [ ] activations not shuffled
# - [ ] nothing is broken
# - [x] no projection of the gradient
#
# **{glue:text}`cause-4`.** The push along each row is undone by the reset of the norm, and it has gone through Adam
# before. The curves have the healthy shape. {glue:text}`verdict-4`. On test vectors the loss is {glue:text}`cost-4`
# against healthy runs.
#
# *Tell-tale*: none that you could name after a single run, unless you know the healthy numbers well. *Test*:
# after the projection, the product of each row with its gradient must be zero (the chapter {doc}`training` does it).
# *Cure*: the projection. The paper reports that resetting alone is worse, by a small margin
# {cite}`bricken2023monosemanticity`.
# ```

# %% [markdown]
# ### Patient 5

# %% tags=["remove-input"]
#| label: fig-diagnose-5
#| caption: Patient 5 over the healthy range.
chart(5)

# %% [markdown]
# ```{admonition} Commit to an answer
# :class: tip commit
# Most features are gone, and those that were resampled die again.
#
# - [ ] learning rate × 10
# - [x] λ × 10
# - [ ] activations not shuffled
# - [ ] nothing is broken
#
# **{glue:text}`cause-5`.** Being active costs more than it pays. L0 is {glue:text}`L0-5`: on most tokens nothing is
# said at all. The explained variance is {glue:text}`explained-variance-5`, no better than the mean of the data.
# Resampled features fire, pay, and die again: hence the saw-tooth in the panel of the dead.
#
# *Tell-tale*: L0 near zero *and* an explained variance near zero, with a loss that comes to rest after each spike.
# *Test*: a tenth of λ, for a hundred steps. *Cure*: divide λ. Too high a learning rate kills, too, so keep these curves
# in mind.
# ```

# %% [markdown]
# ### Patient 6

# %% tags=["remove-input"]
#| label: fig-diagnose-6
#| caption: Patient 6 over the healthy range.
chart(6)

# %% [markdown]
# ```{admonition} Commit to an answer
# :class: tip commit
# Look at the roughness of the curves.
#
# - [ ] norm reset before the step
# - [ ] learning rate × 10
# - [ ] decoder normalised along the wrong axis
# - [x] activations not shuffled
#
# **{glue:text}`cause-6`.** A batch is now a piece of one document. Each step pulls all features towards that document,
# and the next step towards another. Neighbouring steps differ by {glue:text}`roughness-6` in loss, in healthy runs by
# {glue:text}`range-roughness`.
#
# *Tell-tale*: {glue:text}`verdict-6`. Roughness is the sign to look for, and **smoothing the curves hides it**: many
# logs average over steps before they draw. *Test*: the cosine between neighbours in a batch. *Cure*: a buffer that
# holds many more contexts than a batch. The paper shuffled all its activations at once
# {cite}`bricken2023monosemanticity`. With batches of {glue:text}`batch` this mistake hits hard. A larger batch
# holds pieces of more documents, and should hide it better; we have not measured that.
# ```

# %% [markdown]
# ### Patient 7

# %% tags=["remove-input"]
#| label: fig-diagnose-7
#| caption: Patient 7 over the healthy range.
chart(7)

# %% [markdown]
# ```{admonition} Commit to an answer
# :class: tip commit
# Compare the height of the spikes with that of the patient before last.
#
# - [ ] no reset of Adam at resampling
# - [ ] decoder normalised along the wrong axis
# - [x] learning rate × 10
# - [ ] norm reset before the step
#
# **{glue:text}`cause-7`.** The first steps throw the weights far beyond anything useful, and most features off on every
# input. Each resampling brings them back for an instant, and the next steps throw them out again: after it the loss is
# {glue:text}`spike-7` times what it was before (healthy: {glue:text}`range-spike`).
#
# *Tell-tale*: features die within the first steps, and spikes of the loss are out of all proportion. With λ too high,
# L0 is near zero, too, but the loss stays orders of magnitude calmer. *Test*: a tenth of the rate for a hundred steps.
# *Cure*: lower it, and let λ rise from zero at the start. The paper names too high a learning rate first among the
# causes of dead features {cite}`bricken2023monosemanticity`.
# ```

# %% [markdown]
# ### Patient 8

# %% tags=["remove-input"]
#| label: fig-diagnose-8
#| caption: Patient 8 over the healthy range.
chart(8)

# %% [markdown]
# ```{admonition} Commit to an answer
# :class: tip commit
# Take your time with this one.
#
# - [ ] no reset of Adam at resampling
# - [x] nothing is broken
# - [ ] decoder normalised along the wrong axis
# - [ ] norm reset before the step
#
# **{glue:text}`cause-8`.** This is the sham. {glue:text}`verdict-8`. Its loss on test vectors is {glue:text}`cost-8`
# against the other healthy runs.
#
# Did you find something? Then you have met the most common mistake in reading curves. There are four panels, two
# resamplings, and hundreds of steps to look at. Somewhere a healthy run leaves the range of a few others. A sign that
# you choose *after* you have seen the curves is not evidence. Choose it before, and ask how often a sham shows it.
# ```

# %% [markdown]
# ### Patient 9

# %% tags=["remove-input"]
#| label: fig-diagnose-9
#| caption: Patient 9 over the healthy range.
chart(9)

# %% [markdown]
# ```{admonition} Commit to an answer
# :class: tip commit
# Look closely at the steps after the dotted lines.
#
# - [ ] nothing is broken
# - [ ] norm reset before the step
# - [ ] decoder normalised along the wrong axis
# - [x] no reset of Adam at resampling
#
# **{glue:text}`cause-9`.** The new features start with Adam's memory of the dead ones. You may expect a disaster. But a
# dead feature has a gradient of zero, and Adam forgets. Dead means {glue:text}`dead-after` silent steps here, after
# which at most {glue:text}`first-left` of the first moment is left. Of the second moment, which shrinks a thousandth at
# a time, up to {glue:text}`second-left` is left. It only makes the first steps *smaller*. The highest spike is
# {glue:text}`spike-9` here (healthy: {glue:text}`range-spike`).
#
# *Tell-tale*: {glue:text}`verdict-9`. *Test*: look at the moments of a feature right after it was resampled. We
# measured the second one alone: its largest entry is {glue:text}`leftover-broken` here; in healthy runs it is
# {glue:text}`leftover-healthy`. *Cure*: reset both, as the paper says. The sooner after its death a feature is
# resampled, the more of the first moment is still there. It pushes a new feature the way that killed the old one.
# ```

# %% [markdown]
# ### Patient 10

# %% tags=["remove-input"]
#| label: fig-diagnose-10
#| caption: Patient 10 over the healthy range.
chart(10)

# %% [markdown]
# ```{admonition} Commit to an answer
# :class: tip commit
# Which of the curves would you trust as evidence here?
#
# - [x] decoder normalised along the wrong axis
# - [ ] nothing is broken
# - [ ] norm reset before the step
#
# **{glue:text}`cause-10`.** The norms of the *neurons* are fixed now, those of the features are free. A feature with a
# long row pays less for the same contribution, one with a short row pays more. Nothing crashes, and the numbers stay
# plausible: L0 is {glue:text}`L0-10` (healthy: {glue:text}`range-L0`), the explained variance
# {glue:text}`explained-variance-10` (healthy: {glue:text}`range-explained-variance`). Codes of different features
# cannot be compared any more, and the projection of the gradient, which relies on unit norms, is wrong as well.
#
# *Tell-tale*: {glue:text}`verdict-10`. *Test*: print the norms. Here they are between {glue:text}`norm-low` and
# {glue:text}`norm-high`. Beware of their mean square alone: where there are as many features as neurons, it is 1 on
# either axis. *Cure*: one line, and a test of it that uses a dictionary which is not square.
# ```

# %% [markdown]
# ### Patient 11

# %% tags=["remove-input"]
#| label: fig-diagnose-11
#| caption: Patient 11 over the healthy range.
chart(11)

# %% [markdown]
# ```{admonition} Commit to an answer
# :class: tip commit
# The last patient. If you kept a list, you know. Would you have known from the curves?
#
# - [ ] nothing is broken
# - [x] norm reset before the step
#
# **{glue:text}`cause-11`.** Adam's step makes every row a little longer or shorter, and the reset comes before the next
# one. So each forward pass runs with norms that are off by one step. They end up to {glue:text}`norm-error` from 1.
# {glue:text}`verdict-11`. The loss on test vectors is {glue:text}`cost-11` against healthy runs: where the learning
# rate falls at the end, this mistake costs next to nothing in training.
#
# *Tell-tale*: see above. *Test*: check the norms after a step, to the last digit. *Cure*: swap two lines. It matters to
# whoever takes a checkpoint out of the middle of a run and relies on unit norms, to compare codes or to pin a feature.
# ```

# %% [markdown]
# ## Do the signs hold?
#
# A sign that one run shows may be chance. So we reduce the curves of a run to six numbers: the four values at the end
# (means over the last tenth of the steps), the **spike** (the highest loss within three steps of a resampling, relative
# to the ten steps before it), and the **roughness** (the typical difference of the loss between neighbouring steps in
# the second half, as a share of the loss). Then we ask of every suspect and every number: in how many of
# {glue:text}`n-seeds` seeds is it outside of what {glue:text}`n-healthy` healthy runs show, on the same side each time?
#
# ```{admonition} Predict
# :class: tip
# Which rows will be empty? And will the row of the sham be?
# ```

# %% tags=["hide-input"]
#| label: fig-diagnose-signs
#| caption: In how many of {glue:text}`n-seeds` seeds each number lies outside of the healthy range. ▲ above, ▼ below. A
#|   dot where it is inside, or outside on both sides.
counts = np.array([[outside(name, sign) for sign in FORMS] for name in SUSPECTS])
arrows = np.array([[f"{'▲' if n > 0 else '▼'}{abs(n)}" if n else "·" for n in row] for row in counts])
scale = [[0, plots.PALETTE[0]], [0.5, "rgba(128,128,128,0)"], [1, plots.PALETTE[1]]]
breaks = {"explained variance": "explained<br>variance", "roughness": "rough-<br>ness"}
short = {"decoder normalised along the wrong axis": "wrong axis", "no reset of Adam at resampling": "no reset of Adam",
         "no projection of the gradient": "no projection", "text of another tokeniser": "other tokeniser",
         "norm reset before the step": "norm reset too early", "activations not shuffled": "not shuffled"}  # fmt: skip
columns = np.array([breaks.get(sign, sign) for sign in FORMS])
lines = np.array([short.get(name, name) for name in SUSPECTS])
figure = go.Figure(
    go.Heatmap(z=counts, x=columns, y=lines, text=arrows, zmin=-N_SEEDS, zmax=N_SEEDS, colorscale=scale,
               showscale=False, xgap=2, ygap=2, hovertemplate="%{y}, %{x}: %{text}<extra></extra>")
)  # fmt: skip
# The entries stand in traces of their own. There they have the page's colour, in the light and in the dark, but for
# those on the full colours.
full = np.abs(counts) == N_SEEDS
for chosen, style in ((~full, {}), (full, {"textfont_color": "white"})):
    line, column = chosen.nonzero()
    figure.add_scatter(x=columns[column], y=lines[line], text=arrows[chosen], mode="text", hoverinfo="skip",
                       showlegend=False, **style)  # fmt: skip
figure.update_yaxes(autorange="reversed", automargin=True, showgrid=False)
figure.update_xaxes(side="top", autotickangles=[0, -90], showgrid=False)
in_all = {name: [sign for sign in FORMS if abs(outside(name, sign)) == N_SEEDS] for name in SUSPECTS}
alt = "; ".join(f"{name}: {', '.join(found) or 'none'}" for name, found in in_all.items())
plots.describe(figure, f"A table of signs that leave the healthy range in every seed. {alt}.", height=480)

# %% tags=["remove-cell"]
sham = "nothing is broken"
broken = [name for name in SUSPECTS if name != sham]
silent = [name for name in broken if not in_all[name]]
chance = 2 / math.comb(N_HEALTHY + N_SEEDS, N_SEEDS)
chapter.number("n-broken", len(broken))
chapter.number("n-visible", len(broken) - len(silent))
chapter.number("silent", f"The six numbers show nothing of: {', '.join(silent)}." if silent
               else "Each of them shows in at least one of the six numbers.")
chapter.number("sham-signs", len(in_all[sham]))
chapter.number("chance", chance, ".1%")
chapter.number("cells", counts.size)
chapter.number("by-chance", counts.size * chance, ".1f")


def as_vector(found: dict[str, float]) -> np.ndarray:
    """The six numbers on scales on which differences can be compared: logarithms, save of the shares."""
    shares = ("explained variance", "dead")
    return np.array([value if name in shares else math.log(value + 0.01) for name, value in found.items()])


vectors = np.array([[as_vector(found) for found in of_cases[name]] for name in SUSPECTS])  # [suspects, seeds, signs]
noise = np.median(vectors.std(1, ddof=1), axis=0).clip(1e-6)  # of each sign between seeds, for the typical suspect


def nearest(vector: np.ndarray, known: np.ndarray) -> int:
    """The suspect whose mean over the known runs [suspects, runs, signs] is nearest."""
    return int(np.square((known.mean(1) - vector) / noise).sum(1).argmin())


named = [[list(SUSPECTS)[nearest(runs[seed], np.delete(vectors, seed, axis=1))] for seed in range(N_SEEDS)]
         for runs in vectors]  # fmt: skip
right = sum(guess == name for name, guesses in zip(SUSPECTS, named, strict=True) for guess in guesses)
chapter.number("doctor-right", right)
chapter.number("doctor-all", vectors.shape[0] * N_SEEDS)
chapter.number("doctor-guess", N_SEEDS)

# %% [markdown]
# Of the {glue:text}`n-broken` mistakes {glue:text}`n-visible` have at least one sign that is there in every seed.
# {glue:text}`silent` The sham has {glue:text}`sham-signs` such signs.
#
# How much is chance? If a mistake changed nothing, all its runs would be outside on the same side with a probability of
# {glue:text}`chance` (the second exercise). The table has {glue:text}`cells` fields, so {glue:text}`by-chance` of them
# would be full even if all rows were shams. **One full field in a row proves little. Several, or one that you
# predicted, prove more.**
#
# To see a sign is one thing, to name the cause another. Let a simple doctor try. It knows the six numbers of all
# suspects from all seeds but one, and gets a run with the seed left out. It names the suspect whose mean is nearest.

# %% tags=["remove-input"]
plots.table(
    ["the truth", f"what the doctor says, for {N_SEEDS} seeds", "loss on test vectors, against healthy runs"],
    [
        [name, "; ".join(f"{guess}{' ✓' if guess == name else ''}" for guess in guesses),
         f"{min(costs[name]):+.1%} to {max(costs[name]):+.1%}"]
        for name, guesses in zip(SUSPECTS, named, strict=True)
    ],
)  # fmt: skip

# %% [markdown]
# The doctor is right {glue:text}`doctor-right` times out of {glue:text}`doctor-all`; guessing blindly would give
# {glue:text}`doctor-guess`. The last column is what the mistake costs: the loss on test vectors of the right text, with
# the healthy λ for all. (For the two wrong values of λ this is only the distance from another goal.) Compare the
# columns. A mistake can be invisible because it is harmless. It can also cost far more than its curves admit: look at
# the row of the text.
#
# ```{admonition} A trap: the cost that is no cost
# :class: warning
# A small cost here does not make a rule superfluous. Ours are runs of {glue:text}`steps` steps, with two resamplings
# and few features. The paper's have a million steps. A rule that saves one percent in a short run may save more in a
# long one, or nothing: this page cannot know.
# ```
#
# ## What the curves cannot show
#
# Curves are sums over everything. A rule is best tested directly, at the place where it can be broken. Each of these
# tests is a line or two, costs seconds, and needs no trained eye:

# %%
@torch.no_grad()
def norm_error(run: Run) -> float:
    """The largest distance of a decoder row's norm from 1."""
    return (run.trainer.sae.W_dec.norm(dim=1) - 1).abs().max().item()


def neighbours(run: Run) -> float:
    """The mean cosine of neighbours in a batch, as differences from the mean of the batch. Shuffled: near 0."""
    x = run.trainer.buffer.peek(BATCH)
    x = x - x.mean(0)
    return torch.nn.functional.cosine_similarity(x[:-1], x[1:], dim=1).mean().item()


@torch.no_grad()
def model_loss(ids: np.ndarray) -> float:
    """The language model's loss on the text that is harvested from, in nats a token."""
    return token_losses(model.network, to_tensor(ids[:24])).mean().item()


# %% tags=["remove-cell"]
def span(values: list[float], form: str) -> str:
    low, high = f"{min(values):{form}}", f"{max(values):{form}}"
    return low if low == high else f"{low} to {high}"


examined = {"healthy": healthy, **{name: cases[name] for name in SUSPECTS if name != sham}}
right_text_loss, wrong_text_loss = model_loss(train_ids), model_loss(wrong_ids)
tests = [
    [name, span([norm_error(run) for run in runs], ".0g"), span([neighbours(run) for run in runs], ".2f"),
     span([run.leftover for run in runs], ".0g"),
     f"{wrong_text_loss if name == 'text of another tokeniser' else right_text_loss:.1f}"]
    for name, runs in examined.items()
]  # fmt: skip
norms = cases["decoder normalised along the wrong axis"][0].trainer.sae.W_dec.detach().norm(dim=1)
chapter.number("norm-low", norms.min().item(), ".2f")
chapter.number("norm-high", norms.max().item(), ".2f")
chapter.number("norm-error", max(norm_error(run) for run in cases["norm reset before the step"]), ".0e")
chapter.number("wrong-text-loss", wrong_text_loss, ".1f")
chapter.number("right-text-loss", right_text_loss, ".1f")
chapter.number("uniform-loss", math.log(model.network.config.vocab_size), ".1f")
forgetful = cases["no reset of Adam at resampling"]
chapter.number("leftover-broken", max(run.leftover for run in forgetful), ".0e")
chapter.number("leftover-healthy", max(run.leftover for run in healthy), ".0g")

# %% tags=["remove-input"]
plots.table(["", "norms: error", "cosine of neighbours", "moments left", "loss of the model on the text"], tests)

# %% [markdown]
# Read the table by columns: where a row stands out from the healthy one, the test has found its suspect. A model that
# knew nothing would have a loss of {glue:text}`uniform-loss` nats; worse than that is a sure sign that the tokens are
# not the model's own.
#
# ### From the symptom to the cause
#
# | symptom | likely causes | test that decides |
# |---|---|---|
# | L0 high, few dead, good explained variance | λ too low | read λ off the dictionary |
# | L0 high, few dead, poor explained variance, still moving | learning rate too low | ten times the rate, briefly |
# | L0 and explained variance near zero, many dead | λ or learning rate too high | a tenth of each, one at a time |
# | loss jumps by orders of magnitude | learning rate too high | a tenth of it |
# | rough curves, many dead | no shuffling; batch too small | cosine of neighbours in a batch |
# | loss a little worse than last week's | seeds; a rule of the decoder | norms after a step; row times gradient |
# | odd spikes at resampling | moments; too many at once; seeds | moments of a feature just resampled |
# | good curves, bad on held-out text | wrong text; repeated text | the language model's loss; the text, decoded |
# | nothing at all | any rule whose breach is cheap | all tests above, after every change |
#
# ```{admonition} A procedure
# :class: note
# 1. Write down what you expect before you look.
# 2. Run the direct tests. They are cheaper than a look at the curves, and they do not get tired.
# 3. Look at L0 and the dead first, at the loss last.
# 4. Compare with several healthy runs, never with one.
# 5. **Make the mistake yourself.** If you can produce the same curves on purpose, the diagnosis stands.
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
# * - learning rate too high
#   - named first among the causes of dead features
#   - {glue:text}`dead-lr-up` dead at the end, healthy {glue:text}`range-dead`
# * - λ too low
#   - shows in many features denser than 1 %
#   - {glue:text}`dense-low` of {glue:text}`d-sae` features with λ ÷ 10, healthy {glue:text}`dense-healthy`
# * - norm reset without the projection
#   - worse than with it, by a small margin
#   - loss on test vectors {glue:text}`cost-projection`
# * - activations
#   - all ten billion shuffled at once
#   - without any shuffling, loss on test vectors {glue:text}`cost-shuffle`
# * - moments at resampling
#   - reset
#   - without the reset, loss on test vectors {glue:text}`cost-moments`
# ```

# %% tags=["remove-cell"]
@torch.no_grad()
def dense_features(run: Run) -> int:
    """Features that fire on more than one test vector in a hundred."""
    codes = run.trainer.sae.encode_sparse(test.float() * run.trainer.scale)
    return int((torch.bincount(codes.col_indices(), minlength=D_SAE) > len(test) / 100).sum())


def cost(name: str) -> str:
    low, high = f"{min(costs[name]):+.1%}", f"{max(costs[name]):+.1%}"
    return low if low == high else f"{low} to {high}"


chapter.number("dead-lr-up", span([found["dead"] for found in of_cases["learning rate × 10"]], ".0%"))
chapter.number("dense-low", span([dense_features(run) for run in cases["λ ÷ 10"]], "d"))
chapter.number("dense-healthy", span([dense_features(run) for run in healthy], "d"))
chapter.number("cost-projection", cost("no projection of the gradient"))
chapter.number("cost-shuffle", cost("activations not shuffled"))
chapter.number("cost-moments", cost("no reset of Adam at resampling"))

# %% [markdown]
# **How our set-up differs.** The paper's runs are a million steps of 8,192 activations; ours are {glue:text}`steps`
# steps of {glue:text}`batch`. Our learning rate is high and falls at the end, λ rises at the beginning, and there are
# two resamplings in the first half. All our runs read the same activations, in another order for each seed, so the
# healthy range is narrower than it would be on fresh text. Each mistake was tried in one strength. And
# {glue:text}`n-seeds` seeds find only signs that are large compared with the noise.
#
# ```{admonition} Takeaways
# :class: note
# - Mistakes of λ, of the learning rate and of the order of the data are written in L0, in the dead and in the
#   roughness. The loss alone tells the least: it changes its meaning with λ and with the text.
# - Before you search the curves for a sign, ask whether there is one. {glue:text}`silent` A direct test is quicker.
# - A dictionary learns whatever it is fed. Good curves say nothing about the text.
# - Without a sham you do not know how often you see a sign where there is none.
# ```
#
# ## Exercises
#
# ```{exercise-start} A test for the wrong axis
# :label: ex-diagnose-norms
# ```
# *Difficulty 1/5 · importance 4/5 · 10 minutes.* Write `has_unit_rows(W_dec)`, which says whether every row of a
# decoder [d_sae, d_in] has norm 1, to within 1e-5. It should find all the ways in which this can fail.
#
# ````{admonition} Hint 1
# :class: dropdown
# `W_dec.norm(dim=...)`: the dimension that you name is the one that disappears. One norm for each feature must be left.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# A mean can be right where nothing else is. Ask for the largest deviation.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def has_unit_rows(W_dec):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-diagnose-norms")
def check_norms(has_unit_rows):
    drawn = torch.randn(96, 32, generator=torch.Generator().manual_seed(0))
    rows = torch.nn.functional.normalize(drawn, dim=1)
    assert has_unit_rows(rows), "rows of norm 1 are refused: sum over the neurons, and keep the features"
    square = torch.nn.functional.normalize(drawn[:32], dim=0)
    assert not has_unit_rows(square), "a square decoder with unit columns passes; its rows have other norms"
    one_long = rows.clone()
    one_long[7] *= 1.01
    assert not has_unit_rows(one_long), "a single row that is one percent too long passes"
    one_short = rows.clone()
    one_short[7] *= 0.99
    assert not has_unit_rows(one_short), "a single row that is one percent too short passes"
    nearly = rows.clone()
    nearly[7] *= 1 + 1e-4
    assert not has_unit_rows(nearly), "a single row that is off by 1e-4 passes: the tolerance is 1e-5"
    assert has_unit_rows(rows * (1 + 1e-6)), "what fp32 rounds away should pass"


check_norms(has_unit_rows)

# %% [markdown]
# ````{solution-start} ex-diagnose-norms
# :class: dropdown
# ````

# %%
def has_unit_rows(W_dec):
    return bool((W_dec.norm(dim=1) - 1).abs().max() < 1e-5)


for name in ("nothing is broken", "norm reset before the step", "decoder normalised along the wrong axis"):
    print(f"{name}: {[has_unit_rows(run.trainer.sae.W_dec.detach()) for run in cases[name]]}")
check_norms(has_unit_rows)

# %% [markdown]
# One line for two of the suspects. Put it where it runs after every change of your code. The mean of the squared norms
# would not do: for a square decoder it is 1 on either axis. And a loose tolerance would not do, either. These runs end
# with a small learning rate, so a row that is reset too early is off by little more than what rounding leaves.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
check_norms.refuses(lambda W: (W.norm(dim=0) - 1).abs().max() < 1e-5, because="keep the features")
check_norms.refuses(lambda W: abs(W.square().sum(1).mean() - 1) < 1e-5, because="a square decoder")
check_norms.refuses(lambda W: W.norm(dim=1).max() < 1 + 1e-5, because="too short")
check_norms.refuses(lambda W: abs(W.norm(dim=1).median() - 1) < 1e-5, because="too long")
check_norms.refuses(lambda W: (W.norm(dim=1) - 1).abs().max() < 1e-3, because="off by 1e-4")

# %% [markdown]
# ```{exercise-start} How often does chance look like a sign?
# :label: ex-diagnose-chance
# ```
# *Difficulty 3/5 · importance 4/5 · 15 minutes.* Suppose that a mistake changes nothing, so that broken and healthy
# runs are drawn from one distribution, without ties. Write `false_alarm(n_healthy, n_broken)`, the probability that
# *all* broken runs lie above the highest healthy run, or all below the lowest. How many seeds of each would you want
# before you trust a table with sixty fields?
#
# ````{admonition} Hint 1
# :class: dropdown
# Only the order of the runs matters. All orders of the n_healthy + n_broken values are equally likely.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# In how many ways can you choose the places of the broken runs in that order? How many of these choices are alarms?
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def false_alarm(n_healthy, n_broken):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-diagnose-chance")
def check_chance(false_alarm):
    for n_healthy, n_broken in ((1, 1), (3, 1), (2, 2), (3, 3), (5, 2)):
        alarms, places = 0, list(itertools.permutations(range(n_healthy + n_broken), n_broken))
        for taken in places:  # the ranks of the broken runs; every choice of them is equally likely
            others = set(range(n_healthy + n_broken)) - set(taken)
            alarms += min(taken) > max(others) or max(taken) < min(others)
        found, wanted = false_alarm(n_healthy, n_broken), alarms / len(places)
        runs = f"{n_healthy} healthy and {n_broken} broken runs"
        assert not math.isclose(found, wanted / 2), f"{runs}: you count one side; below is an alarm as well as above"
        assert math.isclose(found, wanted, rel_tol=1e-6), f"{runs}: trying all orders gives another probability"


check_chance(false_alarm)

# %% [markdown]
# ````{solution-start} ex-diagnose-chance
# :class: dropdown
# ````

# %%
def false_alarm(n_healthy, n_broken):
    return 2 / math.comb(n_healthy + n_broken, n_broken)


for n_healthy, n_broken in ((1, 1), (3, 1), (3, 3), (5, 3), (8, 5)):
    alarm = false_alarm(n_healthy, n_broken)
    print(f"{n_healthy} healthy, {n_broken} broken: {alarm:7.2%}; of sixty fields {60 * alarm:5.2f} full by chance")
check_chance(false_alarm)

# %% [markdown]
# Of all choices of places two are alarms: all at the top, all at the bottom. With one run of each kind the alarm is
# certain, for one of the two is always higher. That is the usual comparison of *my run* with *last week's run*.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
check_chance.refuses(lambda h, b: 1 / math.comb(h + b, b), because="one side")
check_chance.refuses(lambda h, b: 2 / (h + 1) ** b, because="another probability")
check_chance.refuses(lambda h, b: 0.5 ** (b - 1), because="another probability")

# %% [markdown]
# ```{exercise-start} Read λ off a finished dictionary
# :label: ex-diagnose-lambda
# ```
# *Difficulty 4/5 · importance 4/5 · 25 minutes.* Somebody hands you a dictionary and does not remember λ. If it was
# trained to the end, the loss cannot be lowered any more by making all codes a little larger or smaller. From this
# condition find λ. Write `read_lambda(sae, x)` for activations x [n, d_in], in the units that the dictionary was
# trained in. Try it on runs of this page: which λ does it find, and where does it fail?
#
# ````{admonition} Hint 1
# :class: dropdown
# Multiply all codes by $1 + \epsilon$. The loss becomes
# $\lVert x - b_{dec} - (1 + \epsilon) f W_{dec} \rVert^2 + \lambda (1 + \epsilon) \sum_i f_i$. What is its derivative
# at $\epsilon = 0$?
# ````
# ````{admonition} Hint 2
# :class: dropdown
# On average over the data the derivative is zero:
# $\lambda \, \mathbb{E} \sum_i f_i = 2 \, \mathbb{E} \langle x - \hat x, \hat x - b_{dec} \rangle$.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def read_lambda(sae, x):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-diagnose-lambda")
def check_lambda(read_lambda):
    generator = torch.Generator().manual_seed(0)
    for lam in (0.5, 2.0, 4.0):
        # The best dictionary for orthogonal features is known: each code is the feature's strength less λ/2.
        sae = SparseAutoencoder(24, 24)
        rotation = torch.linalg.qr(torch.randn(24, 24, generator=generator)).Q
        sae.W_dec.data, sae.W_enc.data = rotation, rotation.T.contiguous()
        sae.b_enc.data.fill_(-lam / 2)
        sae.b_enc.data[:13] = -100  # dead ones
        sae.b_dec.data = 3 * torch.randn(24, generator=generator)
        strengths = 5 * torch.rand(4000, 24, generator=generator) * (torch.rand(4000, 24, generator=generator) < 0.2)
        found = read_lambda(sae, strengths @ rotation + sae.b_dec.data)
        found = float(torch.as_tensor(found).detach())
        assert not math.isclose(found, lam / 2, rel_tol=1e-2), "you find half of λ: the error is squared"
        assert not math.isclose(found, -lam, rel_tol=1e-2), "the sign: the codes are too small, not too large"
        assert math.isclose(found, lam, rel_tol=1e-2), f"a dictionary that is optimal for λ = {lam} gives {found:.3g}"


check_lambda(read_lambda)

# %% [markdown]
# ````{solution-start} ex-diagnose-lambda
# :class: dropdown
# ````

# %%
@torch.no_grad()
def read_lambda(sae, x):
    reconstruction, codes = sae(x)
    return (2 * ((x - reconstruction) * (reconstruction - sae.b_dec)).sum() / codes.sum().clamp_min(1e-12)).item()


for name in ("nothing is broken", "λ × 10", "λ ÷ 10", "learning rate ÷ 10"):
    run = cases[name][0]
    true, found = run.trainer.config.lam, read_lambda(run.trainer.sae, test.float() * run.trainer.scale)
    print(f"{name:20} λ = {true:5.2f}, read off {found:5.2f}")
metadata = dictionary_metadata("A/1")
bundled = read_lambda(load_dictionary("A/1"), test.float()) * metadata["input_scale"]
print(f"{'A/1':20} λ = {metadata['recipe']['lam']:5.2f}, read off {bundled:5.2f}")
check_lambda(read_lambda)

# %% [markdown]
# The forgotten number is written in the shrinkage of the codes. `A/1` takes activations as they are, so what we read
# off belongs to those, and the scale of its training inputs turns it into the λ of its recipe. The method fails where
# its assumption does: a run that stopped too early has not reached the point at which the derivative is zero, and a
# dictionary that hardly fires has next to nothing to read.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
def half(sae, x):
    x_hat, codes = sae(x)
    return ((x - x_hat) * (x_hat - sae.b_dec)).sum() / codes.sum()


def with_the_bias(sae, x):
    x_hat, codes = sae(x)
    return 2 * ((x - x_hat) * x_hat).sum() / codes.sum()


def by_count(sae, x):
    x_hat, codes = sae(x)
    return 2 * ((x - x_hat) * (x_hat - sae.b_dec)).sum() / (codes > 0).sum()


check_lambda.refuses(half, because="half of λ")
check_lambda.refuses(with_the_bias, because="is optimal for")
check_lambda.refuses(by_count, because="is optimal for")

# %% [markdown]
# The next exercise has a patient of its own. What is broken in this run, a random number decides, and nobody tells you.

# %%
PATIENT = 9  # any number
MYSTERY_SEED = 1000 + PATIENT
mystery = train(MYSTERY_SEED, **SUSPECTS[np.random.default_rng(MYSTERY_SEED).choice(list(SUSPECTS))])

# %% [markdown]
# ```{exercise-start} A mystery patient
# :label: ex-diagnose-mystery
# ```
# *Difficulty 3/5 · importance 5/5 · 30 minutes.* What is wrong with `mystery`, the run of the cell above? Look at it
# in any way you like: its curves, its dictionary, its buffer. Then set `diagnosis` to one of the names in `SUSPECTS`.
# The check does not know the answer either. It breaks a run in the way that you name, with the same seed, and compares.
# Change `PATIENT` for as many other patients as you like.
#
# ````{admonition} Hint 1
# :class: dropdown
# `signs(mystery.curves)` gives the six numbers. Hold them against `of_healthy`, and against `of_cases` of each
# suspect.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# `nearest(as_vector(signs(mystery.curves)), vectors)` is what the doctor of this chapter says. Where the curves cannot
# decide, use the direct tests: `norm_error`, `neighbours`, `mystery.leftover`, and `mystery.trainer.config`, if you
# want to cheat a little.
# ````
# ````{admonition} Hint 3
# :class: dropdown
# Do what the check does. `train(MYSTERY_SEED, **SUSPECTS[name])` repeats a run to the last bit if `name` is right.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
diagnosis = None


# %% tags=["check", "hide-input"]
def first_difference(one: Run, other: Run) -> int | None:
    """The first step at which two runs differ in any of their curves; None if they never do."""
    differ = np.any([one.curves[name] != other.curves[name] for name in PANELS], axis=0)
    return int(differ.argmax()) + 1 if differ.any() else None


@check("ex-diagnose-mystery")
def check_mystery(diagnosis):
    assert diagnosis in SUSPECTS, f"name one of the suspects: {', '.join(SUSPECTS)}"
    step = first_difference(train(MYSTERY_SEED, **SUSPECTS[diagnosis]), mystery)
    assert step is None, f"a run with this fault and the same seed parts from the mystery run at step {step}"


check_mystery(diagnosis)

# %% [markdown]
# ````{solution-start} ex-diagnose-mystery
# :class: dropdown
# ````

# %%
distance = np.square((vectors.mean(1) - as_vector(signs(mystery.curves))) / noise).sum(1)
for index in distance.argsort():
    diagnosis = list(SUSPECTS)[index]
    step = first_difference(train(MYSTERY_SEED, **SUSPECTS[diagnosis]), mystery)
    print(f"{diagnosis}: {'the same run' if step is None else f'another run from step {step} on'}")
    if step is None:
        break
check_mystery(diagnosis)

# %% [markdown]
# The solution is a method and no name: order the suspects by how well the six numbers fit, then make each mistake on
# purpose until a run is repeated exactly. Training on a CPU is reproducible to the last bit, so even a mistake that no
# curve shows is found: two runs that differ in a line soon differ in a digit. At which step they part says something,
# too. A fault of resampling cannot show before the first resampling.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
check_mystery.refuses("a ghost in the machine", because="name one of the suspects")
check_mystery.refuses(next(name for name in SUSPECTS if name != diagnosis), because="parts from the mystery run")

# %% [markdown]
# ```{exercise-start} A fault of your own
# :label: ex-diagnose-own
# ```
# *Difficulty 4/5 · importance 4/5 · 40 minutes.* Open-ended. Break the recipe in a way that is not among the suspects,
# and find it again. Put into `my_fault` what `train` takes for it, in the form of `SUSPECTS`, and write `finds(run)`: a
# test of a finished run that says whether it has your fault, and is silent on every healthy run of this page. Before
# you run it, predict which of the six numbers will move, and what the fault costs on test vectors.
#
# ````{admonition} Hint 1
# :class: dropdown
# `TrainConfig` lists the settings, and `sae_core.training` has a function for each rule. Which rule has no suspect yet?
# ````
# ````{admonition} Hint 2
# :class: dropdown
# With `{"settings": {"resample_at": ()}}` nothing is ever resampled. What does the share of the dead do in a healthy
# run, from the step before a resampling to the step after it?
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
my_fault = None


def finds(run):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-diagnose-own")
def check_own(my_fault, finds):
    innocent = [*healthy, *cases["nothing is broken"]]
    alarms = sum(bool(finds(run)) for run in innocent)
    assert not alarms, f"your test raises an alarm at {alarms} of {len(innocent)} healthy runs"
    sick = train(SEEDS[0], **my_fault)
    twins = [name for name in SUSPECTS if first_difference(sick, cases[name][0]) is None]
    assert not twins, f"to the last digit, that is a run of one of the suspects: {twins[0]}"
    assert finds(sick), "your test does not find your fault"


check_own(my_fault, finds)

# %% [markdown]
# ````{solution-start} ex-diagnose-own
# :class: dropdown
# ````
#
# One of many answers: features are never resampled.

# %%
my_fault = {"settings": {"resample_at": ()}}


def finds(run):
    dead = run.curves["dead"]
    return all(dead[s] > dead[s - 1] / 2 for s in RESAMPLE_AT)  # a resampling leaves next to none


sick = train(SEEDS[0], **my_fault)
moved = [sign for sign, value in signs(sick.curves).items()
         if not min(each[sign] for each in of_healthy) <= value <= max(each[sign] for each in of_healthy)]  # fmt: skip
print(f"outside of the healthy range: {', '.join(moved) or 'none'}")
print(f"loss on test vectors, against healthy runs: {held_out_loss(sick) / normal_loss - 1:+.1%}")
check_own(my_fault, finds)

# %% [markdown]
# A test that was written for one fault finds this one, and says nothing about the next. Where would you put it, so that
# it runs without you?
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
check_own.refuses(my_fault, lambda run: True, because="raises an alarm")
check_own.refuses({}, lambda run: False, because="one of the suspects: nothing is broken")
check_own.refuses(SUSPECTS["λ × 10"], lambda run: False, because="one of the suspects: λ × 10")
check_own.refuses(my_fault, lambda run: False, because="does not find your fault")
