"""The figures and tables that chapters share: plotly figures with a text alternative, and text coloured by activation.

Text of a data set is hostile: whatever comes from one is escaped here before it becomes HTML.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .evidence import Evidence, Example

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from IPython.display import HTML


def describe(figure: go.Figure, alt: str, **layout) -> go.Figure:
    """Give a figure its text alternative (what it shows, in words, with the numbers that matter) and its layout."""
    return figure.update_layout(meta={"alt": alt}, **layout)


def log_histogram(groups: Mapping[str, np.ndarray], x_title: str, alt: str, bins_per_decade: int = 6) -> go.Figure:
    """Stacked histogram of positive numbers on a logarithmic axis, one colour per group."""
    import plotly.graph_objects as go

    logs = {name: np.log10(values[values > 0]) for name, values in groups.items()}
    every = np.concatenate(list(logs.values()))
    low, high = np.floor(every.min()), np.ceil(every.max())
    edges = np.linspace(low, high, int((high - low) * bins_per_decade) + 1)
    figure = go.Figure()
    for name, values in logs.items():
        counts, _ = np.histogram(values, edges)
        centers = (edges[:-1] + edges[1:]) / 2
        figure.add_bar(x=centers, y=counts, name=name, width=np.diff(edges), hovertemplate="10^%{x:.1f}: %{y}")
    decades = np.arange(low, high + 1)
    figure.update_xaxes(title=x_title, tickvals=decades, ticktext=[f"10<sup>{int(d)}</sup>" for d in decades])
    figure.update_yaxes(title="features")
    return describe(figure, alt, barmode="stack", bargap=0, showlegend=len(groups) > 1)


def activation_spectrum(
    values: np.ndarray, labels: np.ndarray, names: Sequence[str], alt: str, bins: int = 40
) -> go.Figure:
    """Histogram of a feature's non-zero activations, each bar split by label, beside the same weighted by activation.

    values: activations [entries]. labels: index into `names` for each (by a proxy's score, say). The left panel shows
    where the feature fires, the right one where its activation mass lies (paper, "expected value" plot).
    """
    from plotly.subplots import make_subplots

    figure = make_subplots(cols=2, subplot_titles=["tokens", "× activation"], horizontal_spacing=0.12)
    for column, weighted in ((1, False), (2, True)):
        add_spectrum(figure, column, values, labels, names, weighted, bins)
    return describe(figure, alt, barmode="stack", bargap=0)


def add_spectrum(
    figure: go.Figure,
    column: int,
    values: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    weighted: bool,
    bins: int = 40,
) -> None:
    """Draw one panel of `activation_spectrum` into a column of a figure; the legend is that of the first column.

    weighted: each token counts as much as it is active, and not once. A label with the name "" is left out.
    """
    edges = np.linspace(0, values.max(initial=1e-6), bins + 1)
    for index, name in enumerate(names):
        if not name:
            continue
        chosen = values[labels == index]
        heights, _ = np.histogram(chosen, edges, weights=chosen if weighted else None)
        figure.add_bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=heights,
            name=name,
            legendgroup=name,
            showlegend=column == 1,
            width=edges[1],
            marker_color=PALETTE[index],
            col=column,
            row=1,
        )
    figure.update_xaxes(title="activation", col=column, row=1)


# The book's palette, for figures that must name a colour: found by a search for colours that stay apart for every kind
# of colour vision, the first four most, and that stand out from light and from dark paper (tests/test_plots.py).
PALETTE = ("#2268ca", "#b04226", "#31a36c", "#b75890", "#a68d0b", "#8d83c0", "#3e8547", "#786569")


def curves(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]], x_title: str, y_title: str, alt: str, **layout
) -> go.Figure:
    """Lines of (x, y) pairs by name."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for name, (x, y) in series.items():
        figure.add_scatter(x=x, y=y, name=name, mode="lines")
    figure.update_xaxes(title=x_title)
    figure.update_yaxes(title=y_title)
    return describe(figure, alt, **layout)


def escape(text: str) -> str:
    """Text as HTML that cannot be anything but text, for tables and for plotly, which does not know `&quot;`."""
    return html.escape(text).replace("&quot;", "&#34;")


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> HTML:
    """A table of text. Cells may come from a data set and be written in any direction."""
    from IPython.display import HTML

    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    lines = ("".join(f"<td><bdi>{escape(str(cell))}</bdi></td>" for cell in row) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return HTML(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")


def visible(token: bytes) -> str:
    """A token's bytes as text that shows everything: newlines and tabs as signs, parts of characters as \\xd8."""
    signs = {"\n": "⏎", "\t": "⇥", "\r": "␍"}
    text = token.decode("utf-8", errors="backslashreplace")
    return "".join(signs.get(c, c if c.isprintable() else f"\\u{ord(c):04x}") for c in text)


def examples_html(
    examples: Sequence[Example], token_bytes: list[bytes], largest: float, headings: Sequence[str] | None = None
) -> HTML:
    """Snippets, one a row, each token shaded by its activation relative to `largest`; hover for the number.

    headings: one per example, shown in front of the row where it changes.
    """
    from IPython.display import HTML

    rows, before = [], None
    for index, example in enumerate(examples):
        heading = headings[index] if headings else ""
        shown = escape(heading) if heading != before else ""
        before = heading
        cells = "".join(
            _token_html(token_bytes[token], activation, largest, place == example.center)
            for place, (token, activation) in enumerate(zip(example.tokens, example.activations, strict=True))
        )
        first = f"<th scope='row'>{shown}</th>" if headings else ""
        rows.append(f"<tr>{first}<td dir='ltr' style='overflow-wrap:anywhere'>{cells}</td></tr>")
    return HTML(f"<div class='examples'><table>{''.join(rows)}</table></div>")


def _token_html(token: bytes, activation: float, largest: float, is_center: bool) -> str:
    share = min(1.0, activation / largest) if largest else 0.0
    # Text reads on this colour on a light and on a dark page, as its opacity ends at one half.
    style = f"background:rgba(230,126,34,{share * 0.5:.2f});unicode-bidi:isolate;white-space:pre-wrap;"
    if is_center:
        style += "border-bottom:2px solid currentColor;"
    title = f" title='{activation:.2f}'" if activation > 0 else ""
    return f"<span style='{style}'{title}>{escape(visible(token))}</span>"


def feature_examples(
    evidence: Evidence, feature: int, token_bytes: list[bytes], top: int = 5, intervals: int = 4, per_interval: int = 2
) -> HTML:
    """What a feature (or neuron) fires on: its strongest examples, then random ones from intervals of its range."""
    largest = float(evidence.of(feature)[1].max(initial=0.0))
    rows = [("strongest", example) for example in evidence.top_examples(feature, top)]
    sampled = evidence.interval_examples(feature, intervals, per_interval)
    for index in reversed(range(intervals)):
        low, high = largest * index / intervals, largest * (index + 1) / intervals
        rows += [(f"{low:.1f} – {high:.1f}", example) for example in sampled[index]]
    return examples_html([example for _, example in rows], token_bytes, largest, [heading for heading, _ in rows])
