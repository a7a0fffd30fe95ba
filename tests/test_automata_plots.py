"""The replayed figure draws the edges that count, steps through every token, and keeps hostile text as text."""

import html
import json
import re

import numpy as np
import plotly.graph_objects as go
import pytest

from sae_core import automata_plots
from sae_core.automata import Automaton

PIECES = [b"", b"<b>", b" x", b"\xd7", b"\n", b'"', b"a" * 40]
EDGES = np.array([[0.0, 0.8, 0.0], [0.05, 0.0, 0.6], [0.7, 0.0, 0.3]])
AUTOMATON = Automaton("", [11, 12, 13], ["open", "name", "<i>close"], EDGES)
# Two tokens of a prompt, and what was written behind: open, name, close, close, nothing, close.
IDS = np.array([0, 2, 1, 2, 3, 4, 5, 6])
PATH = [0, 1, 2, 2, None, 2]
ACTIVATIONS = np.array([[2.0 * (state == at) for state in range(3)] for at in PATH])


@pytest.fixture(scope="module")
def figure():
    return automata_plots.replay(AUTOMATON, IDS, ACTIVATIONS, PIECES)


def part(figure, step, name):
    return next(trace for trace in figure.frames[step].data if trace.name == name)


def lines(trace):
    """How many lines a trace of arrows draws."""
    missing = [x is None for x in trace.x]
    return sum(before and not now for before, now in zip(missing, missing[1:], strict=False))


def test_only_edges_that_count_are_drawn_and_numbered(figure):
    every = next(trace for trace in figure.data if trace.name == "edge")
    assert lines(every) == 4
    assert list(part(figure, 0, "probability").text) == ["0.80", "0.60", "0.70", "0.30"]


def test_there_is_a_frame_and_a_step_of_the_slider_for_each_token(figure):
    names = [frame.name for frame in figure.frames]
    assert names == ["0", "1", "2", "3", "4", "5"]
    assert [step.args[0] for step in figure.layout.sliders[0].steps] == [(name,) for name in names]
    # Each frame replaces the same traces, and the figure as it is drawn first is frame 0.
    moving = {figure.frames[0].traces} | {frame.traces for frame in figure.frames}
    assert moving == {(1, 2, 3, 4)}
    at_first = go.Figure(figure.data[1:5]).to_json()
    assert at_first == go.Figure(figure.frames[0].data).to_json() != go.Figure(figure.frames[1].data).to_json()


def test_an_edge_lights_up_where_the_token_follows_it(figure):
    assert [lines(part(figure, step, "followed")) for step in range(6)] == [0, 1, 1, 1, 0, 0]
    beside = [list(part(figure, step, "probability").text) for step in range(6)]
    carried = [[text for text in texts if "<b>" in text] for texts in beside]
    assert [len(texts) for texts in carried] == [0, 1, 1, 1, 0, 0]
    assert "␣x" in beside[1][0] and "\\xd7" in beside[2][1] and "⏎" in beside[3][3]


def test_what_happened_to_a_token_is_said(figure):
    said = [part(figure, step, "text").text[2].partition(": ")[2] for step in range(6)]
    assert said == [
        "the prompt ends here",
        "follows",
        "follows",
        "follows",
        "no state fires",
        "no edge leads here",
    ]


def test_states_are_filled_and_rimmed_where_they_fire(figure):
    states = part(figure, 1, "state")
    assert list(states.marker.color) == [0, 1, 0]
    assert list(states.marker.line.width) == [1.5, 4, 1.5]
    assert "name, feature 12: 2.00" in states.hovertext


def test_the_words_say_what_the_figure_shows(figure):
    alt = figure.layout.meta["alt"]
    assert alt.startswith("A graph of 3 states with the edges open to name 0.80, name to <i>close 0.60, ")
    assert alt.endswith("A slider replays 5 tokens that the model wrote; 3 of them follow an edge.")


def test_text_of_a_data_set_stays_text(figure):
    shown = [text for frame in figure.frames for trace in frame.data for text in (trace.text or ())]
    assert any("&lt;b&gt;" in text for text in shown) and any("&lt;i&gt;close" in text for text in shown)
    for text in shown:
        assert "<i>" not in text and "<b>" not in text.replace("<b>\u2066", ""), text
        assert "&quot;" not in text, "plotly.js would show these six characters"
    assert any("&#34;" in text for text in shown)


def test_the_text_fits_a_narrow_screen(figure):
    for step in range(6):
        read, trail = part(figure, step, "text").text[:2]
        assert len(html.unescape(read)) <= automata_plots.CHARACTERS + 2  # and two marks that nobody sees
        trail = html.unescape(re.sub("</?b>|[\u2066\u2069]", "", trail))
        assert len(trail) <= automata_plots.CHARACTERS
    assert "aaaaaaaaaaaa…" in trail and "a" * 13 not in trail
    assert "\\xd7" in part(figure, 2, "text").text[1] and "␣x" in part(figure, 2, "text").text[1]


def test_the_text_can_be_read_where_tokens_are_parts_of_letters():
    pieces = [b"", b"\xd7", b"\x90", b" a"]
    ids = np.array([0, 3, 3, 1, 2, 1, 2])
    figure = automata_plots.replay(AUTOMATON, ids, ACTIVATIONS[:4], pieces)
    read = [part(figure, step, "text").text[0].strip("\u2066\u2069") for step in range(4)]
    assert read == ["␣a␣a\\xd7", "␣a␣aא", "␣a␣aא\\xd7", "␣a␣aאא"]


@pytest.mark.parametrize("n", range(1, 7))
def test_states_and_labels_lie_within_the_picture(n):
    edges = np.eye(n) + np.roll(np.eye(n), 1, axis=1)
    automaton = Automaton("", [*range(n)], ["x"] * n, edges)
    figure = automata_plots.replay(automaton, IDS, np.ones((6, n)), PIECES)
    low, high = figure.layout.yaxis.range
    left, right = figure.layout.xaxis.range
    for trace in figure.data:
        x, y = (np.array([v for v in axis if v is not None], float) for axis in (trace.x, trace.y))
        assert (left < x).all() and (x < right).all() and (low < y).all() and (y < high).all(), trace.name
    states = next(trace for trace in figure.data if trace.name == "state")
    places = np.stack([states.x, states.y], axis=1)
    apart = np.linalg.norm(places[:, None] - places, axis=2)[~np.eye(n, dtype=bool)]
    assert (apart > 2 * automata_plots.RADIUS).all()


def test_an_automaton_without_edges_can_be_shown():
    automaton = Automaton("", [3], ["alone"], np.array([[0.01]]))
    figure = automata_plots.replay(automaton, IDS, ACTIVATIONS[:, :1], PIECES)
    assert "A graph of 1 state with the edges none" in figure.layout.meta["alt"]
    assert json.loads(figure.to_json())["frames"]
