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
    assert "by characters" in page and "by characters" not in alone  # one yardstick, one column
    assert len({len(re.findall("<t[hd]>", row)) for row in alone.split("<tr>")[1:]}) == 1
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
    assert "from -0.10 nats in the weakest bin to -0.50 in the strongest" in alt(figure)
    assert "Other next tokens come in 5 of the bins, and their mean is +0.200" in alt(figure)
    np.testing.assert_allclose(figure.data[0].error_y.array, 0.02)
    np.testing.assert_allclose(figure.data[0].error_y.arrayminus, 0.05)
    empty = Interval(np.nan, np.nan, np.nan)
    once = case_plots.ablation(replace(found, elsewhere_by_strength=[up] + [empty] * 4), "DNA")
    never = case_plots.ablation(replace(found, elsewhere=empty, elsewhere_by_strength=[empty] * 5), "DNA")
    assert "come in 1 of the bins" in alt(once) and "No other next token" in alt(never) and "nan" not in alt(never)


@pytest.mark.parametrize(
    ("means", "words"),
    [
        ([-1, -2, -3, -4, -5], "grows over all 5 bins"),
        ([-1, -2, -1.5, -3, -4], "grows over the first 2 of 5 bins, then falls back once"),
        ([-1, -2, -1.5, -1.2, -4], "grows over the first 2 of 5 bins, then falls back 2 times"),
        ([-1, -0.5, -2, -3, -4], "falls back once, the first time behind the weakest"),
        ([-1, -2, -3, -4, -0.5], "no larger in the strongest bin"),
    ],
)
def test_growth_says_where_the_effect_falls_back(means, words):
    inside = [Interval(mean, mean, mean) for mean in means]
    found = Ablation(inside[0], inside[0], [1.0, 2, 3, 4, 5], inside, inside, IDS[:, 0])
    assert words in case_plots.growth(found)


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


def test_words_say_where_a_neuron_or_a_control_is_ahead(feature):
    match = neuron_match(feature.evidence, np.arange(2))
    assert case_plots.neurons_ahead(match).startswith("The best neuron is not ahead in AUC (0.700 against the")
    better = replace(match, aucs=np.array([0.95, 0.6]))
    assert case_plots.neurons_ahead(better) == (
        "The best neuron is ahead in AUC (0.950 against the feature's 0.900), not in the share of the strongest tokens "
        "that are in context (20% against the feature's 50%)."
    )
    both = case_plots.neurons_ahead(replace(better, precision=0.15))
    assert " and in the share" in both and both.endswith("(20% against the feature's 15%).")

    own = Summary(feature, 0.8, 0.5, 0.9, 100.0, 0.95, 0.99, -0.5, 0.3)
    random = Summary(feature, 0.7, 0.6, 0.9001, 90.0, 0.96, 0.4, 0.1, 0.0)
    moved = Summary(feature, 0.1, 0.1, 0.1, 1.0, 0.5)
    assert case_plots.ahead({"A/1": own, "random/1": random, "shuffled text": moved}) == (
        "random/1 is ahead of the feature in recall (60% against 50%), AUC (0.960 against 0.950)."
    )  # not in the share of the activation, which is the same as it is written
    assert "No control" in case_plots.ahead({"A/1": own, "shuffled text": moved})

    untrained = replace(random, logit_auc=0.89, effect=float("nan"))
    told = case_plots.hardest({"A/1": own, "random/1": random, "untrained": untrained, "shuffled text": moved}, 0.001)
    assert "is untrained, with an AUC of 0.890. That is above one half" in told and "has 0.990" in told
    assert "by +0.10 (random/1) nats, removing the feature by -0.50" in told
    assert "at most 0.0% of its characters into context, the feature 30.0%; without pinning it is 0.1%" in told
    nothing = case_plots.hardest({"A/1": replace(own, pinned_share=0.0), "random/1": random}, 0.0)
    assert "not above one half" in nothing and "neither a control nor the feature writes the context" in nothing
    assert case_plots.hardest({"A/1": own, "shuffled text": moved}, 0.0) == ""


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
