"""Figures of a case study say in words what they show, draw what was planted, and keep hostile text as text."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from sae_core import case_plots
from sae_core.autoencoder import SparseAutoencoder
from sae_core.case_study import Ablation, Cover, Feature, Interval, LogitReading, NeuronMatch, Pinned, specificity
from sae_core.controls import Summary
from sae_core.evidence import Evidence
from sae_core.tokens import Contexts

NAMES = ["both", "characters", "score", "other"]
PIECES = [b"", b"<script>alert(1)</script>", b" a", b"\xd7", b"b"]
IDS = np.array([[0, 1, 2, 3, 4, 1], [0, 1, 1, 2, 3, 4]])
KINDS = np.array([[3, 0, 0, 1, 2, 3], [3, 0, 1, 1, 3, 3]])
ACTIVATION = np.array([[0, 4.0, 0, 0, 0, 1], [0, 3, 0, 2, 0, 0]])


@pytest.fixture(scope="module")
def feature():
    places = np.flatnonzero(ACTIVATION).astype(np.int32)
    values = ACTIVATION.ravel()[places].astype(np.float32)
    contexts = Contexts(IDS, np.zeros_like(IDS), ["all"])
    torch.manual_seed(0)
    return Feature(None, SparseAutoencoder(8, 1), Evidence(contexts, np.array([0, len(places)]), places, values), 0)


def alt(figure) -> str:
    return figure.layout.meta["alt"]


def test_spectrum_counts_what_both_and_the_characters_mark(feature):
    figure = case_plots.spectrum(feature, KINDS, NAMES, "Hebrew")
    assert "4 activations from 0 to 4.0. Hebrew makes up 75% of the tokens" in alt(figure)
    assert "90% of the activation on the right. Above half of the maximum, 100% of 2 tokens" in alt(figure)


def neuron_match(evidence, rows):
    return NeuronMatch(
        evidence, rows, 0, 0.1, 0.9, np.array([0.7, 0.6]), 0.5, np.array([0.1, 0.2]), np.array([1, 2]), 20, 0.01,
        np.array([0.05, -0.8, 0.3]),
    )  # fmt: skip


def test_units_stand_side_by_side_weighted(feature):
    figure = case_plots.beside_twin(feature, replace(feature, dictionary="B/1"), KINDS, NAMES, "it")
    assert sum(sum(bar.y) for bar in figure.data) == pytest.approx(20)
    assert "A/1/0: 90% on it; B/1/0: 90% on it" in alt(figure)


def test_a_neuron_is_judged_by_the_classes_of_its_own_contexts(feature):
    """The neuron does what the feature does on the second row; the feature's classes stand in another order."""
    second = feature.evidence.between(1, 2)
    figure = case_plots.beside_neuron(feature, neuron_match(second, np.array([1])), KINDS, NAMES, "it")
    assert "A/1/0: 90% on it; neuron 0: 100% on it" in alt(figure)
    kinds = np.where([[True], [False]], 3, KINDS)
    figure = case_plots.beside_neuron(feature, neuron_match(second, np.array([0])), kinds, NAMES, "it")
    assert "neuron 0: 0% on it" in alt(figure)


def test_a_class_without_a_name_is_not_drawn(feature):
    figure = case_plots.spectrum(feature, KINDS, ["marked", "", "", "other"], "it")
    assert {bar.name for bar in figure.data} == {"marked", "other"}


def test_missed_tokens_are_those_of_a_class_on_which_the_feature_is_silent(feature):
    figure = case_plots.missed(feature, KINDS, NAMES, PIECES)
    assert [sum(bar.x) for bar in figure.data] == [1, 2, 1]
    assert "Of all 4 misses: 25% both, 50% characters, 25% score" in alt(figure)
    assert not any("<script" in name for bar in figure.data for name in bar.y)


def test_lines_over_strength_begin_and_end_where_their_results_do(feature):
    found = specificity(feature, KINDS == 0, parts=2)
    figure = case_plots.by_strength({"in context": found})
    assert list(figure.data[0].y) == [0, 1] and "in context: from 0% to 100%" in alt(figure)


def test_the_union_grows_by_complements():
    figure = case_plots.union({"it": Cover([5, 6, 7], [0.5, 0.6, 0.9])})
    assert "it: from 50% to 90% with 2 more" in alt(figure) and list(figure.data[0].x) == [0, 1, 2]


def test_complements_are_listed_with_what_they_fire_on(feature):
    page = case_plots.cover_table({"it": Cover([9, 0], [0.1, 0.2])}, feature, KINDS == 0, KINDS < 2, PIECES).data
    alone = case_plots.cover_table({"it": Cover([9], [0.1])}, feature, KINDS, KINDS, []).data
    assert "none" not in page and "none" in alone
    assert "A/1/0" in page and "4 tokens" in page and "50%" in page and "<script" not in page


def test_logit_histograms_are_shares_of_their_groups():
    weights = np.array([0.0, 0.1, 0.2, 3.0, 3.1])
    reading = LogitReading(weights, weights > 1, np.array([1, 1, 1, 1, 0], bool), np.array([3, 2, 1, 0]), 1.0)
    figure = case_plots.logits(reading, {"context": weights > 1, "other": weights <= 1})
    assert [sum(bar.y) for bar in figure.data] == pytest.approx([1, 1])
    assert "context (1)" in figure.data[0].name and "Medians: context +3.00, other +0.10" in alt(figure)
    assert "1 of 10" in case_plots.top_logits(reading, PIECES).data


def test_ablation_shows_both_lines_with_their_intervals():
    down = [Interval(-0.1 * n, -0.1 * n - 0.05, -0.1 * n + 0.02) for n in range(1, 6)]
    up = Interval(0.2, 0.1, 0.3)
    found = Ablation(down[2], up, [1.0, 2, 3, 4, 5], down, [up] * 5, IDS[:, 0])
    figure = case_plots.ablation(found, "DNA")
    assert "from -0.10 nats in the weakest bin to -0.50 in the strongest. Elsewhere the mean is +0.200" in alt(figure)
    np.testing.assert_allclose(figure.data[0].error_y.array, 0.02)
    np.testing.assert_allclose(figure.data[0].error_y.arrayminus, 0.05)


def test_doses_and_samples():
    texts = [[b"a"], [b"<script>"], [b"b"], [b"c"]]
    found = Pinned(1, 2.0, (0, 0.5, 1, 2), [0.0, 0.1, 0.5, 0.9], 0.01, texts, [b"free"])
    figure = case_plots.dose(found, "DNA")
    assert list(figure.data[0].x) == [0, 1, 2, 4]
    assert "0.0% at 0% of it, 10.0% at 50% of it, 50.0% at 100% of it" in alt(figure) and "1.0%" in alt(figure)
    page = case_plots.samples(found).data
    assert "free" in page and "200%" in page and "<script" not in page


def test_coefficients_come_largest_first_with_their_signs(feature):
    match = neuron_match(feature.evidence, np.arange(2))
    figure = case_plots.coefficients(match)
    assert list(figure.data[0].y) == [-0.8, 0.3, 0.05]
    assert "are -0.80, +0.30, +0.05; 2 reach 0.1" in alt(figure)
    page = case_plots.neuron_table(match, {"negative_top3": "3 in the paper"}).data
    assert "3 of 40, 7.5%" in page and "best neuron 0.700 (neuron 0)" in page and "3 in the paper" in page


def test_the_table_of_chance_leaves_open_what_was_not_measured(feature):
    full = Summary(feature, 0.8, 0.5, 0.9, 100.0, 0.95, 0.99, -0.5, 0.3)
    page = case_plots.chance({"A/1": full, "shuffled": replace(full, logit_auc=None, effect=float("nan"))}).data
    assert "A/1: A/1/0" in page and re.search("0.990.*?–", page) and re.search(r"-0.500.*?–", page)


def test_a_stretch_with_all_classes_is_found_and_coloured():
    kinds = np.full((3, 96), 3)
    kinds[1, 60], kinds[1, 70], kinds[1, 80] = 0, 1, 2
    row, columns = case_plots.mixed_stretch(kinds)
    assert row == 1 and columns == slice(56, 96)
    page = case_plots.coloured(IDS[0], KINDS[0], np.zeros(6), NAMES, PIECES).data
    assert "<script" not in page and page.count("title=") == 6


def test_the_table_of_classes_has_a_row_for_each(feature):
    page = case_plots.class_table(IDS, KINDS, np.where(KINDS == 0, 5.0, -3.0), NAMES, PIECES).data
    assert page.count("<tr>") == 5 and "30.00%" in page and "+5.0 to +5.0" in page and "<script" not in page
