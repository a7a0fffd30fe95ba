"""The figures and tables of a case study: each draws one result of `case_study` and says in words what it shows.

Classes are those of `case_study.classes`, in the order of their names: marked by both, by the characters alone, by the
score alone, by neither. They have the same colours in every figure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from . import plots
from .case_study import PREFIX, Ablation, Cover, Feature, LogitReading, NeuronMatch, Pinned, Specificity
from .controls import Summary

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from IPython.display import HTML

GREY = plots.PALETTE[7]


def shown(tokens: Iterable[int], pieces: list[bytes]) -> str:
    """Tokens in a row, from left to right whatever their script; a space is visible."""
    return "  ".join(f"\u2066{plots.visible(pieces[token]).replace(' ', '␣')}\u2069" for token in tokens)


def most_frequent(tokens: np.ndarray, pieces: list[bytes], n: int = 5) -> str:
    """The n tokens that come most often among token ids of any shape."""
    return shown((token for token, _ in Counter(tokens.ravel().tolist()).most_common(n)), pieces)


def coloured(
    tokens: np.ndarray, kinds: np.ndarray, scores: np.ndarray, names: Sequence[str], pieces: list[bytes]
) -> HTML:
    """A stretch of text, each token underlined in the colour of its class; its score is there for the mouse."""
    from IPython.display import HTML

    underline = [f"border-bottom:3px solid {colour}" for colour in (*plots.PALETTE[:3], "transparent")]
    line = "".join(
        f"<span title='{score:+.1f}' style='{underline[k]};unicode-bidi:isolate;white-space:pre-wrap;margin-right:2px'>"
        f"{plots.escape(plots.visible(pieces[token]))}</span>"
        for token, k, score in zip(tokens, kinds, scores, strict=True)
    )
    legend = " · ".join(f"<span style='{underline[k]}'>{plots.escape(names[k])}</span>" for k in range(4))
    return HTML(f"<p dir='ltr' style='line-height:2'>{line}</p><p><small>{legend}</small></p>")


def mixed_stretch(kinds: np.ndarray, length: int = 40) -> tuple[int, slice]:
    """Row and columns of a stretch of tokens in which all classes are well represented. kinds: [n_contexts, n_ctx]."""
    n_blocks = (kinds.shape[1] - 16) // length  # not from the very beginning of a context
    blocks = kinds[:, 16 : 16 + length * n_blocks].reshape(len(kinds), n_blocks, length)
    counts = (blocks[..., None] == np.arange(4)).sum(2)
    row, block = np.unravel_index(np.log1p(counts).sum(-1).argmax(), counts.shape[:2])
    return int(row), slice(16 + length * int(block), 16 + length * (int(block) + 1))


def class_table(
    ids: np.ndarray, kinds: np.ndarray, scores: np.ndarray, names: Sequence[str], pieces: list[bytes]
) -> HTML:
    """How many tokens are of each class, how they score, and which they are. Arrays: [n_contexts, n_ctx]."""
    rows = []
    for k, name in enumerate(names):
        members = kinds[:, 1:] == k
        values = scores[:, 1:][members]
        span = f"{values.min():+.1f} to {values.max():+.1f}" if len(values) else "–"
        rows.append((name, f"{members.mean():.2%}", span, most_frequent(ids[:, 1:][members], pieces)))
    return plots.table(["", "share of tokens", "score", "most frequent"], rows)


# --- specificity and sensitivity ------------------------------------------------------------------------------------


def spectrum(feature: Feature, kinds: np.ndarray, names: Sequence[str], title: str) -> go.Figure:
    """A feature's activations by class: tokens on the left, summed activation on the right. title: the context's."""
    labels, values = feature.at_places(kinds), feature.values
    right, strong = labels < 2, values > feature.largest / 2
    alt = (
        f"Two stacked histograms of {len(values):,} activations from 0 to {feature.largest:.1f}. {title} makes up "
        f"{right.mean():.0%} of the tokens on the left and {values[right].sum() / values.sum():.0%} of the activation "
        f"on the right. Above half of the maximum, {right[strong].mean():.0%} of {strong.sum():,} tokens are {title}."
    )
    return plots.activation_spectrum(values, labels, names, alt)


def beside_neuron(
    feature: Feature, match: NeuronMatch, kinds: np.ndarray, names: Sequence[str], title: str
) -> go.Figure:
    """A feature and the neuron that correlates best with it, by class and weighted by activation.

    kinds: [n_contexts, n_ctx]; the neuron was looked at on some of these contexts. title: the context's.
    """
    own = (*feature.evidence.of(feature.index), kinds)
    neurons = (*match.neurons.of(match.neuron), kinds[match.rows])
    return _side_by_side({feature.name: own, f"neuron {match.neuron}": neurons}, names, title)


def beside_twin(feature: Feature, twin: Feature, kinds: np.ndarray, names: Sequence[str], title: str) -> go.Figure:
    """A feature and its twin on the same text, by class and weighted by activation; as `beside_neuron`."""
    units = {one.name: (*one.evidence.of(one.index), kinds) for one in (feature, twin)}
    return _side_by_side(units, names, title)


def _side_by_side(
    units: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]], names: Sequence[str], title: str
) -> go.Figure:
    """units: by name the places and values of activations, and the classes [n_contexts, n_ctx] of the text."""
    from plotly.subplots import make_subplots

    figure = make_subplots(cols=len(units), subplot_titles=[*units], horizontal_spacing=0.12)
    said = []
    for column, (unit, (places, values, kinds)) in enumerate(units.items(), 1):
        labels = kinds.ravel()[places]
        plots.add_spectrum(figure, column, values, labels, names, weighted=True)
        said.append(f"{unit}: {values[labels < 2].sum() / max(values.sum(), 1e-9):.0%} on {title}")
    alt = f"Stacked histograms of activation, weighted by it, side by side. {'; '.join(said)}."
    return plots.describe(figure, alt, barmode="stack", bargap=0)


def by_strength(series: Mapping[str, Specificity]) -> go.Figure:
    """Share of the active tokens that are in context, from the weakest tenth to the strongest, in one line or more."""
    lines = {name: (np.arange(1, 1 + len(found.by_strength)), found.by_strength) for name, found in series.items()}
    said = ". ".join(f"{name}: from {y[0]:.0%} to {y[-1]:.0%}" for name, (_, y) in lines.items())
    figure = plots.curves(
        lines, "tenth, weakest first", "share of active tokens", f"Lines over tenths of the active tokens. {said}."
    )
    figure.update_traces(mode="lines+markers")
    figure.update_yaxes(range=[0, 1.03], tickformat=".0%")
    return figure.update_xaxes(dtick=1)


def missed(feature: Feature, kinds: np.ndarray, names: Sequence[str], pieces: list[bytes], n: int = 14) -> go.Figure:
    """The tokens that a feature misses most often, by class. kinds: [n_contexts, n_ctx]."""
    import plotly.graph_objects as go

    ids = feature.evidence.contexts.ids
    silent = (kinds < 3) & (feature.evidence.dense(feature.index) == 0)
    often = [token for token, _ in Counter(ids[silent].tolist()).most_common(n)][::-1]
    figure = go.Figure()
    for k in range(3):
        counts = [int((silent & (kinds == k) & (ids == token)).sum()) for token in often]
        figure.add_bar(
            x=counts,
            y=[plots.escape(shown([token], pieces)) for token in often],
            orientation="h",
            name=names[k],
            marker_color=plots.PALETTE[k],
        )
    shares = [f"{(kinds[silent] == k).mean():.0%} {names[k]}" for k in range(3)] if silent.any() else []
    figure.update_xaxes(title="tokens missed")
    figure.update_yaxes(type="category")
    alt = f"Stacked bars of the {len(often)} most-missed tokens. Of all {silent.sum():,} misses: {', '.join(shares)}."
    return plots.describe(figure, alt, barmode="stack", height=480)


def union(series: Mapping[str, Cover]) -> go.Figure:
    """Recall as complementary features are added one after the other, in one line or more."""
    lines = {name: (np.arange(len(found.recalls)), found.recalls) for name, found in series.items()}
    said = ". ".join(f"{name}: from {y[0]:.0%} to {y[-1]:.0%} with {len(y) - 1} more" for name, (_, y) in lines.items())
    figure = plots.curves(lines, "features added", "recall of the union", f"Recall of a union. {said}.")
    figure.update_traces(mode="lines+markers")
    figure.update_xaxes(dtick=1, range=[-0.2, max(len(y) for _, y in lines.values()) - 0.8])
    return figure.update_yaxes(range=[0, 1.03], tickformat=".0%")


def cover_table(
    covers: Mapping[str, Cover], feature: Feature, inside: np.ndarray, exact: np.ndarray, pieces: list[bytes]
) -> HTML:
    """Who the complementary features are. covers: by what they were chosen to cover.

    How often each is in context stands there by both yardsticks, and once where they are one.
    """
    evidence, rows = feature.evidence, []
    yardsticks = {"score above 0": inside, "by characters": exact}
    if np.array_equal(inside, exact):
        yardsticks = {"in context": exact}
    for purpose, found in covers.items():
        if not found.complements:
            rows.append((purpose, "none", "–", *["–"] * len(yardsticks), "–"))
        for i in found.features[1:]:
            places = evidence.of(i)[0]
            shares = [f"{marks.ravel()[places].mean():.0%}" for marks in yardsticks.values()]
            mostly = most_frequent(evidence.contexts.ids.ravel()[places], pieces)
            rows.append((purpose, f"{feature.dictionary}/{i}", f"{len(places):,} tokens", *shares, mostly))
    return plots.table(["chosen to cover", "feature", "active on", *yardsticks, "mostly"], rows)


# --- downstream -----------------------------------------------------------------------------------------------------


def logits(found: LogitReading, groups: Mapping[str, np.ndarray]) -> go.Figure:
    """Histograms of logit weights as shares of two or three groups of tokens. groups: bool [vocab] by name."""
    import plotly.graph_objects as go

    edges = np.linspace(found.weights[found.kept].min(), found.weights[found.kept].max(), 60)
    figure, medians = go.Figure(), []
    colours = [*(plots.PALETTE[0], plots.PALETTE[2])[: len(groups) - 1], GREY]
    for colour, (name, members) in zip(colours, groups.items(), strict=True):
        weights = found.weights[members & found.kept]
        figure.add_bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=np.histogram(weights, edges)[0] / max(len(weights), 1),
            name=f"{name} ({len(weights):,})",
            width=edges[1] - edges[0],
            marker_color=colour,
            opacity=0.65,
            hovertemplate="%{x:.2f}: %{y:.1%}",
        )
        if len(weights):
            medians.append(f"{name} {np.median(weights):+.2f}")
    figure.update_xaxes(title="logit weight")
    figure.update_yaxes(title="share of the class", tickformat=".0%")
    alt = f"Overlaid histograms of logit weights. Medians: {', '.join(medians)}."
    return plots.describe(figure, alt, barmode="overlay", bargap=0)


def top_logits(found: LogitReading, pieces: list[bytes]) -> HTML:
    """The twenty tokens that a feature promotes most, and which of them are of the context."""
    rows = []
    for first in (0, 10):
        tokens = found.top[first : first + 10]
        rows.append((f"{first + 1} – {first + 10}", shown(tokens, pieces), f"{found.of_context[tokens].sum()} of 10"))
    return plots.table(["", "the twenty tokens with the largest logit weight", "of the context"], rows)


def ablation(found: Ablation, title: str) -> go.Figure:
    """What removing a feature does to the next token, by strength. title: the context's.

    A bin without a next token of a kind has no dot.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    for name, intervals, colour in (
        (f"next token is {title}", found.inside_by_strength, plots.PALETTE[0]),
        ("it is not", found.elsewhere_by_strength, GREY),
    ):
        mean, lower, upper = np.array(intervals).T
        error = {"type": "data", "symmetric": False, "array": upper - mean, "arrayminus": mean - lower}
        figure.add_scatter(x=found.strength, y=mean, error_y=error, mode="lines+markers", name=name, line_color=colour)
    figure.add_hline(y=0, line_dash="dot", line_color=GREY)
    figure.update_xaxes(title="mean activation in the bin")
    figure.update_yaxes(title="change (nats)")
    weakest, strongest = found.inside_by_strength[0].mean, found.inside_by_strength[-1].mean
    bins = len(found.elsewhere_by_strength)
    filled = int(np.isfinite([interval.mean for interval in found.elsewhere_by_strength]).sum())
    alt = (
        f"Changes over {bins} bins of activation. Where the next token is {title}, the change goes from {weakest:+.2f} "
        f"nats in the weakest bin to {strongest:+.2f} in the strongest. "
    )
    if filled:
        alt += f"Other next tokens come in {filled} of the bins, and their mean is {found.effect_elsewhere:+.3f}."
    else:
        alt += "No other next token comes."
    return plots.describe(figure, alt)


def growth(found: Ablation) -> str:
    """A sentence without its full stop: over how many bins the effect before the context grows, and what comes then."""
    means = [interval.mean for interval in found.inside_by_strength]
    backs, growing = sum(not later < mean for mean, later in pairwise(means)), found.growing_bins
    if not growing:
        return "The effect is no larger in the strongest bin than in the weakest"
    if growing == len(means):
        return f"The effect grows over all {len(means)} bins"
    times = "once" if backs == 1 else f"{backs} times"
    if growing == 1:
        return f"On the way through {len(means)} bins the effect falls back {times}, the first time behind the weakest"
    return f"The effect grows over the first {growing} of {len(means)} bins, then falls back {times}"


def samples(found: Pinned, levels: Sequence[float] = (1 / 2, 1, 2), n: int = 3) -> HTML:
    """What was written without pinning, and pinned at some of the doses."""
    groups = {"–": found.unpinned_texts}
    groups |= {f"{dose:.0%}": found.texts[found.at(dose)] for dose in levels}
    rows = [
        (level if row == 0 else "", plots.visible(text))
        for level, texts in groups.items()
        for row, text in enumerate(texts[:n])
    ]
    return plots.table(["of its maximum", f"{PREFIX} …"], rows)


def dose(found: Pinned, title: str) -> go.Figure:
    """Share of the context's characters in what is written, by the value that the feature is held at."""
    said = ", ".join(f"{share:.1%} at {dose:.0%} of it" for dose, share in zip(found.doses, found.shares, strict=True))
    alt = (
        f"A line over values from 0 to {found.levels[-1]:.1f}; by shares of its maximum: {said}. Without pinning it is "
        f"{found.unpinned_share:.1%}."
    )
    figure = plots.curves({"pinned": (found.levels, found.shares)}, "pinned to", f"{title} characters", alt)
    figure.update_traces(mode="lines+markers")
    figure.add_hline(y=found.unpinned_share, line_dash="dot", line_color=GREY, annotation_text="not pinned")
    figure.add_vline(x=found.largest, line_dash="dot", line_color=GREY, annotation_text="its maximum")
    return figure.update_yaxes(range=[-0.02, 1.02], tickformat=".0%")


# --- neurons, twins, chance -----------------------------------------------------------------------------------------


def coefficients(found: NeuronMatch) -> go.Figure:
    """The coefficients of a feature's direction, one for each neuron, largest first."""
    import plotly.graph_objects as go

    order = np.argsort(-np.abs(found.coefficients))
    values = found.coefficients[order]
    figure = go.Figure()
    figure.add_bar(
        x=np.arange(1, len(values) + 1),
        y=values,
        marker_color=plots.PALETTE[0],
        marker_line_width=0,
        customdata=order,
        hovertemplate="neuron %{customdata}: %{y:.2f}<extra></extra>",
    )
    figure.update_xaxes(title="neurons, largest coefficient first")
    figure.update_yaxes(title="coefficient")
    largest = ", ".join(f"{value:+.2f}" for value in values[:3])
    alt = f"Bars. The three largest coefficients are {largest}; {found.large_coefficients} reach 0.1 in size."
    return plots.describe(figure, alt, bargap=0, showlegend=False)


def neuron_table(found: NeuronMatch, paper: Mapping[str, str]) -> HTML:
    """What the neurons do of what the feature does. paper: its findings by row, some of the fields' names."""
    looked_at = found.examples_each * len(found.examples)
    rows = {
        "best_neuron_correlation": (
            "best neuron's correlation with the feature",
            f"{found.best_neuron_correlation:.2f} (neuron {found.neuron})",
        ),
        "auc": (
            "AUC in telling what is in context",
            f"feature {found.auc:.3f}, best neuron {found.best_neuron_auc:.3f} (neuron {found.aucs.argmax()})",
        ),
        "precision": (
            "of as many strongest tokens as are in context, share in context",
            f"feature {found.precision:.0%}, best neuron {found.precisions.max():.0%}",
        ),
        "neuron_examples": (
            "strongest examples of neurons that show the context",
            f"{found.neuron_examples:,} of {looked_at:,}, {found.neuron_examples / looked_at:.1%}",
        ),
        "by_chance": ("… of snippets drawn at random", f"{found.by_chance:.1%}"),
        "most": (f"… most of any one neuron's {found.examples_each}", f"{found.examples.max()}"),
        "large_coefficients": ("neurons with a coefficient of at least 0.1", f"{found.large_coefficients}"),
        "negative_top3": ("negative among its three largest", f"{found.negative_top3}"),
    }
    lines = [(title, paper.get(key, "–"), ours) for key, (title, ours) in rows.items()]
    return plots.table(["", "the paper", "here"], lines)


_ROWS = {
    "correlation": ("correlation with the proxy", ".2f"),
    "recall": ("recall", ".0%"),
    "mass_in_context": ("share of its activation in context", ".0%"),
    "lift": ("lift", ".0f"),
    "auc": ("AUC", ".3f"),
    "logit_auc": ("AUC of the logit weights", ".3f"),
    "effect": ("removing it, nats before the context", "+.3f"),
    "pinned_share": ("pinned to its maximum, characters in context", ".1%"),
}
_WATCHED = ("correlation", "recall", "mass_in_context", "lift", "auc")


def neurons_ahead(found: NeuronMatch) -> str:
    """A sentence that says in which of two measures the best neuron is ahead of the feature."""
    measures = {
        "AUC": (found.best_neuron_auc, found.auc, ".3f"),
        "the share of the strongest tokens that are in context": (found.precisions.max(), found.precision, ".0%"),
    }
    better, rest = [], []
    for measure, (neuron, feature, format) in measures.items():
        words = f"{measure} ({_written(neuron, format)} against the feature's {_written(feature, format)})"
        (better if neuron > feature else rest).append(words)
    if not better:
        return f"The best neuron is not ahead in {' or in '.join(rest)}."
    told = f"The best neuron is ahead in {' and in '.join(better)}"
    return f"{told}, not in {rest[0]}." if rest else f"{told}."


def ahead(summaries: Mapping[str, Summary]) -> str:
    """Sentences that say where a control finds the context better than the feature, the first of the summaries."""
    (_, own), *controls = summaries.items()
    told = []
    for name, found in controls:
        better = []
        for key in _WATCHED:
            title, format = _ROWS[key]
            theirs, ours = (_written(getattr(one, key), format) for one in (found, own))
            if getattr(found, key) > getattr(own, key) and theirs != ours:
                better.append(f"{title} ({theirs} against {ours})")
        if better:
            told.append(f"{name} is ahead of the feature in {', '.join(better)}.")
    return " ".join(told) or "No control finds the context better than the feature, in any of the first five rows."


def hardest(summaries: Mapping[str, Summary], unpinned_share: float) -> str:
    """Sentences that set what the feature does, the first of the summaries, against what the controls do.

    unpinned_share: of the characters written without pinning, the share in context.
    """
    (_, own), *controls = summaries.items()

    def known(key: str) -> dict[str, float]:
        values = {name: getattr(found, key) for name, found in controls}
        return {name: value for name, value in values.items() if value is not None and np.isfinite(value)}

    told = []
    if aucs := known("logit_auc"):
        best = max(aucs, key=aucs.__getitem__)
        place = "above" if aucs[best] > 1 / 2 else "not above"
        told.append(
            f"By the logit weights the best control is {best}, with an AUC of {aucs[best]:.3f}. That is {place} one "
            f"half, which is chance. The feature has {_written(own.logit_auc, '.3f')}."
        )
    if effects := known("effect"):
        each = " and ".join(f"{effect:+.2f} ({name})" for name, effect in effects.items())
        told.append(
            f"Removing a control changes a next token in context by {each} nats, removing the feature by "
            f"{_written(own.effect, '+.2f')}."
        )
    if shares := known("pinned_share"):
        theirs, ours = (_written(share, ".1%") for share in (max(shares.values()), own.pinned_share))
        if theirs == ours == _written(0.0, ".1%"):
            told.append(f"Pinned, neither a control nor the feature writes the context here ({theirs} and {ours}).")
        else:
            told.append(
                f"Pinned, a control puts at most {theirs} of its characters into context, the feature {ours}; without "
                f"pinning it is {unpinned_share:.1%}."
            )
    return " ".join(told)


def chance(summaries: Mapping[str, Summary]) -> HTML:
    """A feature beside what the same search found where there was nothing to find. summaries: by name."""
    rows = [
        (title, *(_written(getattr(found, key), format) for found in summaries.values()))
        for key, (title, format) in _ROWS.items()
    ]
    return plots.table(["", *(f"{name}: {found.feature.name}" for name, found in summaries.items())], rows)


def _written(value: float | None, format: str) -> str:
    return "–" if value is None or np.isnan(value) else f"{value:{format}}"
