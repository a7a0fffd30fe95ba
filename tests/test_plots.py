"""Figures carry a text alternative, and text of a data set stays text."""

import numpy as np
import pytest

from sae_core import plots
from sae_core.evidence import Example

HOSTILE = [b"", b"<script>alert(1)</script>", b"' onmouseover='x", b"\xd8", b"\n"]


def test_shared_figures_carry_their_text_alternative():
    values = np.array([0.1, 0.2, 0.9])
    figures = [
        plots.log_histogram({"a": values}, "density", "alt"),
        plots.activation_spectrum(values, np.array([0, 1, 1]), ["out", "in"], "alt"),
        plots.curves({"loss": ([0, 1], [2.0, 1.0])}, "step", "loss", "alt"),
    ]
    assert [figure.layout.meta["alt"] for figure in figures] == ["alt"] * 3


def test_log_histogram_counts_every_positive_value_once():
    values = np.array([0.0, 1e-6, 3e-5, 1e-5, 0.5, 1.0])
    figure = plots.log_histogram({"a": values[:3], "b": values[3:]}, "density", "alt")
    assert [sum(bar.y) for bar in figure.data] == [2, 3]


def test_spectrum_splits_tokens_and_activation_mass_by_label():
    values, labels = np.array([1.0, 2.0, 4.0]), np.array([0, 1, 1])
    figure = plots.activation_spectrum(values, labels, ["out", "in"], "alt")
    assert [sum(bar.y) for bar in figure.data] == [1, 1.0, 2, 6.0]


def test_visible_shows_bytes_that_are_no_text():
    assert plots.visible(b"\xd8") == "\\xd8"
    assert plots.visible(b"a\tb\n") == "a⇥b⏎"
    assert plots.visible("\u202eevil".encode()) == "\\u202eevil"  # an override of the writing direction


def test_hostile_text_is_escaped():
    example = Example(np.array([1, 2, 3, 4]), np.array([1.0, 0.5, 0.0, 2.0]), center=0, context=0, position=1)
    page = plots.examples_html([example], HOSTILE, 2.0, ["<b>strongest</b>"]).data
    assert "<script" not in page and "<b>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "&#x27; onmouseover=&#x27;x" in page


def test_tables_escape_their_cells():
    page = plots.table(["<i>a"], [["<script>"], [3]]).data
    assert "<script" not in page and "<i>" not in page and "<bdi>3</bdi>" in page


@pytest.mark.parametrize("largest", [0.0, 2.0])
def test_a_unit_that_never_fired_can_be_shown(largest):
    example = Example(np.array([3]), np.array([0.0]), center=0, context=0, position=1)
    assert "\\xd8" in plots.examples_html([example], HOSTILE, largest).data
