"""Figures carry a text alternative, text of a data set stays text, and colours can be told apart."""

from itertools import combinations

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
    assert [sum(bar.y) for bar in figure.data] == [1, 2, 1.0, 6.0]


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


def test_a_quote_is_written_as_plotly_reads_it():
    assert plots.escape('"a" & <b>') == "&#34;a&#34; &amp; &lt;b&gt;"  # plotly.js shows the six characters of &quot;


def test_tables_escape_their_cells():
    page = plots.table(["<i>a"], [["<script>"], [3]]).data
    assert "<script" not in page and "<i>" not in page and "<bdi>3</bdi>" in page


@pytest.mark.parametrize("largest", [0.0, 2.0])
def test_a_unit_that_never_fired_can_be_shown(largest):
    example = Example(np.array([3]), np.array([0.0]), center=0, context=0, position=1)
    assert "\\xd8" in plots.examples_html([example], HOSTILE, largest).data


# What dichromats see of linear RGB: Machado, Oliveira and Fernandes, 2009, at severity 1.
VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
)
PAPERS = {"light": "#fcfbf8", "dark": "#15181c"}  # book/_static/custom.css


def linear(colour: str) -> np.ndarray:
    """Linear RGB of "#rrggbb", from 0 to 1."""
    channels = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB of linear RGB; a distance of about 2 can just be seen."""
    x, y, z = np.cbrt(TO_XYZ @ rgb.clip(0, 1) / TO_XYZ.sum(1))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize(("first", "apart"), [(4, 18), (8, 12)])
def test_colours_of_the_palette_differ_for_everyone(vision: str, first: int, apart: float) -> None:
    seen = [lab(VISION[vision] @ linear(colour)) for colour in plots.PALETTE[:first]]
    assert min(np.linalg.norm(one - other) for one, other in combinations(seen, 2)) > apart


@pytest.mark.parametrize("paper", PAPERS.values(), ids=PAPERS)
def test_colours_of_the_palette_stand_out_from_the_paper(paper: str) -> None:
    """WCAG 2.2 asks for a contrast of 3 to 1 in graphics."""
    behind = TO_XYZ[1] @ linear(paper) + 0.05
    for colour in plots.PALETTE:
        before = TO_XYZ[1] @ linear(colour) + 0.05
        assert max(before, behind) / min(before, behind) >= 3
