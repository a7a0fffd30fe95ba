"""The figure of an automaton: its states and edges, and a text that the model wrote, replayed token by token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import plots
from .automata import Automaton

if TYPE_CHECKING:
    import plotly.graph_objects as go

SHOWN = 6  # tokens of the text that stand below the graph
EDGE, STATE, QUIET = plots.PALETTE[1], plots.PALETTE[0], plots.PALETTE[7]


def _positions(n: int) -> np.ndarray:
    """Places of n states, [n, 2]: clockwise on a circle from the top left; two are beside each other."""
    if n == 1:
        return np.zeros((1, 2))
    angle = np.pi * (1 if n == 2 else 0.75) - 2 * np.pi * np.arange(n) / n
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _arrow(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The line of an edge, [points, 2]: bent to its right, so that two opposite edges do not meet; a loop to itself."""
    if np.array_equal(start, end):
        out = start / np.linalg.norm(start) if start.any() else np.array([0.0, 1.0])
        angle = np.arctan2(*out[::-1]) + np.linspace(np.pi * 0.8, -np.pi * 0.8, 24)
        return start + 0.36 * out + 0.24 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    along = end - start
    across = np.array([along[1], -along[0]]) / np.linalg.norm(along)
    t = np.linspace(0, 1, 24)[:, None]
    gap = 0.24 / np.linalg.norm(along)  # between an arrow and the circle of a state
    t = gap + t * (1 - 2 * gap)
    return start + t * along + 0.5 * t * (1 - t) * across


def _trail(tokens: np.ndarray, last: int, pieces: list[bytes]) -> str:
    """The tokens up to one of them, which is set in bold; a space is visible, and all stand from left to right."""

    def shown(token: int) -> str:
        return "\u2066" + plots.escape(plots.visible(pieces[token]).replace(" ", "␣"))[:24] + "\u2069"

    before = [shown(token) for token in tokens[max(0, last - SHOWN) : last]]
    return "  ".join([*before, f"<b>{shown(tokens[last])}</b>"])


def replay(automaton: Automaton, ids: np.ndarray, activations: np.ndarray, pieces: list[bytes]) -> go.Figure:
    """An automaton, and one text walking through it: a slider and a button step from token to token.

    ids: [length] of a text. activations: [steps + 1, states] on its last tokens, as of `automata.walks`.
    A state is filled by how strongly it fires, relative to its largest activation in this text. An edge stands out
    where the token follows it.
    """
    import plotly.graph_objects as go

    places, transitions = _positions(len(automaton.states)), automaton.transitions
    lines = {(i, j): _arrow(places[i], places[j]) for i, j in zip(*np.nonzero(transitions), strict=True)}
    followed = automaton.follows(activations[None])[0]
    largest = np.maximum(activations.max(0), 1e-9)
    begin = len(ids) - len(activations)

    def edge_trace(edges: list[tuple[int, int]], colour: str, width: float, name: str) -> go.Scatter:
        points, sizes = [], []
        for edge in edges:
            points += [*lines[edge], (None, None)]
            sizes += [0] * (len(lines[edge]) - 1) + [13, 0]
        x, y = zip(*points, strict=True) if points else ((None,), (None,))
        marker = {"symbol": "arrow", "angleref": "previous", "size": sizes or [0], "color": colour, "opacity": 1}
        return go.Scatter(
            x=x, y=y, mode="lines+markers", line={"color": colour, "width": width}, marker=marker, name=name,
            hoverinfo="skip",
        )  # fmt: skip

    def moving(step: int) -> list[go.Scatter]:
        fires, before = activations[step] > 0, activations[max(step - 1, 0)] > 0
        used = [edge for edge in lines if step and before[edge[0]] and fires[edge[1]]]
        said = "follows" if used else "starts here" if step == 0 else "no edge leads here"
        share = activations[step] / largest
        states = go.Scatter(
            x=places[:, 0], y=places[:, 1], mode="markers", hoverinfo="text", name="state",
            hovertext=[
                f"{plots.escape(label)}: {value:.2f}"
                for label, value in zip(automaton.labels, activations[step], strict=True)
            ],
            marker={"size": 44, "color": share, "cmin": 0, "cmax": 1, "colorscale": [[0, "rgba(34,104,202,0.06)"],
                    [1, STATE]], "line": {"color": np.where(fires, EDGE, QUIET).tolist(),
                    "width": np.where(fires, 4, 1.5).tolist()}},
        )  # fmt: skip
        text = go.Scatter(
            x=[0, 0], y=[-1.62, -1.95], mode="text", hoverinfo="skip", name="text",
            text=[_trail(ids, begin + step, pieces), f"token {step} of {len(activations) - 1}: {said}"],
        )  # fmt: skip
        return [edge_trace(used, EDGE, 3.5, "followed"), states, text]

    labels = go.Scatter(
        x=places[:, 0], y=places[:, 1] + np.where(places[:, 1] < -0.1, -0.42, 0.0), mode="text", hoverinfo="skip",
        text=[plots.escape(label) for label in automaton.labels], name="label",
        textposition="middle center" if len(places) > 0 else None,
    )  # fmt: skip
    figure = go.Figure([edge_trace([*lines], QUIET, 1.5, "edge"), *moving(0), labels])
    figure.frames = [
        go.Frame(name=str(step), data=moving(step), traces=[1, 2, 3]) for step in range(len(activations))
    ]
    at_once = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    play = {"fromcurrent": True, "frame": {"duration": 900, "redraw": True}, "transition": {"duration": 0}}
    hidden = {"visible": False, "fixedrange": True}
    edges = [
        f"from {automaton.labels[i]} to {automaton.labels[j]} {automaton.edges[i, j]:.2f}" for i, j in lines
    ]
    return plots.describe(
        figure,
        f"A graph of {len(automaton.states)} states with edges {', '.join(edges)}. A slider replays "
        f"{len(activations) - 1} tokens that the model wrote; {followed.sum()} of them follow an edge.",
        showlegend=False,
        height=480,
        xaxis={**hidden, "range": [-1.75, 1.75]},
        yaxis={**hidden, "range": [-2.15, 1.75]},
        sliders=[{
            "currentvalue": {"prefix": "token "}, "pad": {"t": 8}, "x": 0.0, "len": 1.0,
            "steps": [{"label": f.name, "method": "animate", "args": [[f.name], at_once]} for f in figure.frames],
        }],
        updatemenus=[{
            "type": "buttons", "direction": "left", "x": 0, "y": 1.12, "xanchor": "left", "yanchor": "top",
            "buttons": [
                {"label": "play", "method": "animate", "args": [None, play]},
                {"label": "pause", "method": "animate", "args": [[None], at_once]},
            ],
        }],
    )  # fmt: skip
