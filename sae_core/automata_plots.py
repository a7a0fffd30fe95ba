"""The figure of an automaton: its states and edges, and a text that the model wrote, replayed token by token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import plots
from .automata import Automaton

if TYPE_CHECKING:
    import plotly.graph_objects as go

STATE, EDGE, QUIET = plots.PALETTE[0], plots.PALETTE[1], plots.PALETTE[7]
FILL = [[0, "rgba(34,104,202,0.04)"], [1, "rgba(34,104,202,0.5)"]]  # of STATE, so that a label on it can be read
# Lengths in the unit of the graph, in which states lie on a circle of radius 1. It is as many pixels wide as high.
PIXELS, RADIUS, GAP = 92, 0.36, 0.06  # of the unit; of a state; between a state and an arrow
CHARACTERS = 30  # of the text below the graph: as many as a narrow screen has room for


def _positions(n: int) -> np.ndarray:
    """Places of n states, [n, 2]: clockwise on a circle from the top left; two are beside each other."""
    if n == 1:
        return np.zeros((1, 2))
    angle = np.pi * (1 if n == 2 else 0.5 + 1 / n) - 2 * np.pi * np.arange(n) / n
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _line(start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The line of an edge, [points, 2], and where its label goes.

    Bent to the left of its way, so that two opposite edges do not meet; above or below a state for an edge to itself.
    """
    if np.array_equal(start, end):
        up = np.array([0.0, 1.0 if start[1] > -0.1 else -1.0])
        angle = np.arctan2(*up[::-1]) + np.linspace(np.pi * 0.77, -np.pi * 0.77, 24)
        return start + 0.6 * up + 0.27 * np.stack([np.cos(angle), np.sin(angle)], axis=1), start + 1.05 * up
    along = end - start
    length = np.linalg.norm(along)
    across = np.array([-along[1], along[0]]) / length
    t = np.linspace(0, 1, 24)[:, None]
    t = (RADIUS + GAP) / length + t * (1 - 2 * (RADIUS + GAP) / length)
    return start + t * along + 0.5 * t * (1 - t) * across, start + along / 2 + np.array([0.42, 0.27]) * across


def _short(token: int, pieces: list[bytes]) -> str:
    """A token in at most thirteen characters; a space is visible."""
    text = plots.visible(pieces[token]).replace(" ", "␣")
    return text if len(text) <= 13 else text[:12] + "…"


def _shown(token: int, pieces: list[bytes]) -> str:
    """A token as text in a figure, to stand from left to right, whatever its script."""
    return f"\u2066{plots.escape(_short(token, pieces))}\u2069"


def _trail(tokens: np.ndarray, last: int, pieces: list[bytes]) -> str:
    """As many tokens up to one of them as there is room for; that one is set in bold."""
    shown, room = [f"<b>{_shown(tokens[last], pieces)}</b>"], CHARACTERS - len(_short(tokens[last], pieces))
    for token in tokens[:last][::-1]:
        room -= 2 + len(_short(token, pieces))
        if room < 0:
            break
        shown.append(_shown(token, pieces))
    return "  ".join(shown[::-1])


def _read(tokens: np.ndarray, pieces: list[bytes]) -> str:
    """The end of a text as one reads it, where tokens join to words and bytes to letters."""
    text = plots.visible(b"".join(pieces[token] for token in tokens)).replace(" ", "␣")
    return f"\u2066{plots.escape(text if len(text) <= CHARACTERS else '…' + text[1 - CHARACTERS :])}\u2069"


def replay(automaton: Automaton, ids: np.ndarray, activations: np.ndarray, pieces: list[bytes]) -> go.Figure:
    """An automaton, and one text walking through it: a slider and a button step from token to token.

    ids: [length] of a text. activations: [steps + 1, states] on its last tokens, as of `automata.walks`.
    pieces: the bytes of each token, from `tokens.token_bytes`.

    A state is filled by how strongly it fires, relative to its largest activation in this text, and has a bold rim
    where it fires at all. Beside each edge stands its probability; where the token follows the edge, the token.
    """
    import plotly.graph_objects as go

    places, last = _positions(len(automaton.states)), len(activations) - 1
    edges = [(int(i), int(j)) for i, j in zip(*np.nonzero(automaton.transitions), strict=True)]
    lines = {(i, j): _line(places[i], places[j]) for i, j in edges}
    labels = np.array([label for _, label in lines.values()]).reshape(-1, 2)
    low, high = ([*places[:, 1], *labels[:, 1]] for _ in range(2))
    low, high = min(low) - 0.5, max(high) + 0.3
    fires, largest, begin = activations > 0, np.maximum(activations.max(0), 1e-9), len(ids) - len(activations)
    follows = automaton.follows(activations[None])[0]

    def arrows(shown: list[tuple[int, int]], colour: str, width: float, name: str) -> go.Scatter:
        points, sizes = [(None, None)], [0]
        for edge in shown:
            line = lines[edge][0]
            points += [*line, (None, None)]
            sizes += [0] * (len(line) - 1) + [13, 0]
        x, y = zip(*points, strict=True)
        return go.Scatter(
            x=x, y=y, mode="lines+markers", line={"color": colour, "width": width}, name=name, hoverinfo="skip",
            marker={"symbol": "arrow", "angleref": "previous", "size": sizes, "color": colour, "opacity": 1,
                    "line": {"width": 0}},
        )  # fmt: skip

    def moving(step: int) -> list[go.Scatter]:
        """What differs from token to token: the edges that are followed, their labels, the states, the text."""
        used = [(i, j) for i, j in edges if step and fires[step - 1, i] and fires[step, j]]
        token = _shown(ids[begin + step], pieces)
        if step == 0:
            said = "the prompt ends here"
        elif used:
            said = "follows"
        else:
            said = "no edge leads here" if fires[step].any() else "no state fires"
        beside = go.Scatter(
            x=labels[:, 0], y=labels[:, 1], mode="text", hoverinfo="skip", name="probability", textfont={"size": 12},
            text=[f"<b>{token}</b>" if edge in used else f"{automaton.edges[edge]:.2f}" for edge in edges],
        )  # fmt: skip
        states = go.Scatter(
            x=places[:, 0], y=places[:, 1], mode="markers+text", hoverinfo="text", name="state",
            text=[plots.escape(label) for label in automaton.labels], textfont={"size": 12},
            hovertext=[
                f"{plots.escape(label)}, feature {feature}: {value:.2f}"
                for label, feature, value in zip(automaton.labels, automaton.states, activations[step], strict=True)
            ],
            marker={"size": 2 * RADIUS * PIXELS, "opacity": 1, "cmin": 0, "cmax": 1, "colorscale": FILL,
                    "color": activations[step] / largest,
                    "line": {"color": [EDGE if on else QUIET for on in fires[step]],
                             "width": [4 if on else 1.5 for on in fires[step]]}},
        )  # fmt: skip
        text = go.Scatter(
            x=[0, 0, 0], y=[low - 0.2, low - 0.48, low - 0.76], mode="text", hoverinfo="skip", name="text",
            text=[
                _read(ids[: begin + step + 1], pieces),
                _trail(ids, begin + step, pieces),
                f"token {step} of {last}: {said}",
            ],
        )  # fmt: skip
        return [arrows(used, EDGE, 3.5, "followed"), beside, states, text]

    figure = go.Figure([arrows(edges, QUIET, 1.5, "edge"), *moving(0)])
    figure.frames = [go.Frame(name=str(step), data=moving(step), traces=[1, 2, 3, 4]) for step in range(last + 1)]
    at_once = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    play = {"fromcurrent": True, "frame": {"duration": 900, "redraw": True}, "transition": {"duration": 0}}
    hidden = {"visible": False, "fixedrange": True}
    n = len(automaton.states)
    said = ", ".join(f"{automaton.labels[i]} to {automaton.labels[j]} {automaton.edges[i, j]:.2f}" for i, j in edges)
    return plots.describe(
        figure,
        f"A graph of {n} {'state' if n == 1 else 'states'} with the edges {said or 'none'}. A slider replays {last} "
        f"tokens that the model wrote; {follows.sum()} of them follow an edge.",
        showlegend=False,
        dragmode=False,
        modebar={"remove": ["select", "lasso"]},
        height=round(PIXELS * (high - low + 1)) + 150,  # the controls above and below take 150
        xaxis={**hidden, "range": [-1.5, 1.5]},
        yaxis={**hidden, "range": [low - 1, high], "scaleanchor": "x"},
        sliders=[{
            "currentvalue": {"prefix": "token "}, "pad": {"t": 8}, "x": 0.0, "len": 1.0,
            "steps": [{"label": f.name, "method": "animate", "args": [[f.name], at_once]} for f in figure.frames],
        }],
        updatemenus=[{
            "type": "buttons", "direction": "left", "x": 0, "y": 1, "xanchor": "left", "yanchor": "bottom",
            "pad": {"b": 8},
            "buttons": [
                {"label": "play", "method": "animate", "args": [None, play]},
                {"label": "pause", "method": "animate", "args": [[None], at_once]},
            ],
        }],
    )  # fmt: skip
