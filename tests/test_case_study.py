"""Case studies on planted features: every number can be worked out by hand, or was put there."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from sae_core import case_study, effects, universality
from sae_core.autoencoder import SparseAutoencoder
from sae_core.case_study import Feature
from sae_core.errors import SaeCoreError
from sae_core.evidence import Evidence
from sae_core.tokens import Contexts, token_bytes

N, N_CTX, VOCAB = 40, 32, 320


def planted(*grids):
    """Evidence of features with these activations, each [N, N_CTX]; column 0 is left out, as everywhere."""
    ids = np.random.default_rng(0).integers(1, VOCAB, (N, N_CTX)).astype(np.uint16)
    ids[:, 0] = 0
    flat = [np.where(np.arange(N_CTX) > 0, grid, 0).ravel() for grid in grids]
    places = [np.flatnonzero(grid) for grid in flat]
    values = np.concatenate([grid[at] for grid, at in zip(flat, places, strict=True)]).astype(np.float32)
    starts = np.cumsum([0, *map(len, places)])
    contexts = Contexts(ids, np.zeros_like(ids), ["all"])
    return Evidence(contexts, starts, np.concatenate(places).astype(np.int32), values)


@pytest.fixture(scope="module")
def inside():
    """A tenth of the tokens, in the first half of the contexts only."""
    marks = np.random.default_rng(1).random((N, N_CTX)) < 0.2
    marks[N // 2 :], marks[:, 0] = False, False
    return marks


@pytest.fixture(scope="module")
def activation(inside):
    """Between 1 and 5 on four in five tokens that are inside; 0.5 on a few outside."""
    draw = np.random.default_rng(2)
    hit = inside & (draw.random(inside.shape) < 0.8)
    strong = np.where(hit, draw.uniform(1, 5, inside.shape), 0)
    return np.where(~inside & (draw.random(inside.shape) < 0.05), 0.5, strong)


@pytest.fixture(scope="module")
def studied(tiny, activation):
    torch.manual_seed(0)
    return Feature(tiny, SparseAutoencoder(64, 3), planted(activation, activation > 2, activation * 0), 0)


def test_the_best_feature_is_the_one_that_follows_the_positive_part(tiny, inside):
    score = np.where(inside, np.random.default_rng(3).uniform(1, 9, inside.shape), -30.0)
    evidence = planted(inside * 1.0, np.maximum(score, 0), (~inside) * 1.0)
    found = case_study.best_feature(tiny, SparseAutoencoder(64, 3), evidence, score, "B/7")
    assert (found.index, found.name) == (1, "B/7/1")
    assert found.largest == pytest.approx(score[:, 1:].max())


def test_classes_are_both_characters_score_neither():
    inside, exact = np.array([True, False, True, False]), np.array([True, True, False, False])
    assert case_study.classes(inside, exact).tolist() == [0, 1, 2, 3]


def test_specificity_by_hand(tiny):
    grid, inside = np.zeros((N, N_CTX)), np.zeros((N, N_CTX), bool)
    grid[0, 1:21] = np.arange(1, 21)  # twenty active tokens, of which the stronger ten are inside
    inside[0, 11:21] = inside[1, 1:11] = True
    found = case_study.specificity(Feature(tiny, SparseAutoencoder(64, 1), planted(grid), 0), inside)
    assert found.tokens == N * (N_CTX - 1)
    assert found.base_rate == pytest.approx(20 / found.tokens)
    assert (found.active_in_context, found.mass_in_context) == (0.5, pytest.approx(155 / 210))
    assert found.by_strength == [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]
    assert (found.weakest_in_context, found.strongest_in_context) == (0, 1)
    assert found.lift == pytest.approx(0.5 / found.base_rate)


def test_specificity_of_next_to_nothing_is_refused_in_one_line(studied, inside):
    with pytest.raises(SaeCoreError, match="A/1/2: active on 0 tokens"):
        case_study.specificity(replace(studied, index=2), inside)


def test_sensitivity_is_pearson_with_both_thresholdings_and_recall(studied, inside, activation):
    score = np.where(inside, np.random.default_rng(4).uniform(1, 9, inside.shape), -20.0)
    found = case_study.sensitivity(studied, score)
    fired, positive = activation[:, 1:], np.maximum(score[:, 1:], 0)
    assert found.correlation == pytest.approx(np.corrcoef(fired.ravel(), positive.ravel())[0, 1], abs=1e-5)
    assert found.correlation_sign == pytest.approx(np.corrcoef(fired.ravel(), positive.ravel() > 0)[0, 1], abs=1e-5)
    assert found.recall == pytest.approx((fired[inside[:, 1:]] > 0).mean())


def test_complements_are_chosen_on_one_half_and_counted_on_the_other(tiny):
    inside = np.zeros((N, N_CTX), bool)
    inside[:, 1:21] = True
    columns = np.broadcast_to(np.arange(N_CTX), inside.shape)
    first_half = np.arange(N)[:, None] < N // 2
    own, other = inside & (columns <= 10), inside & (columns > 10) & first_half
    late = inside & (columns > 10) & ~first_half  # covers as much, but only where nobody looks before choosing
    found = case_study.cover(Feature(tiny, SparseAutoencoder(64, 3), planted(own, late, other), 0), inside)
    assert found.features == [0, 2] and found.complements == 1
    assert (found.recall, found.union_recall) == (0.5, 0.5)


def test_a_direction_that_promotes_the_tokens_of_a_context_has_them_on_top(tiny, studied):
    of_context = np.arange(VOCAB) % 160 == 3
    paths = effects.logit_weights(tiny, torch.eye(64))  # what each neuron promotes
    best = torch.linalg.lstsq(paths.T, torch.from_numpy(of_context - of_context.mean()).float()).solution
    sae = SparseAutoencoder(64, 3)
    with torch.no_grad():
        sae.W_dec[0] = best / best.norm()
    text = studied.evidence.contexts.ids % 200  # the others are rare: they never occur
    text[:, 1:6] = [3, 43, 83, 123, 163]
    rare = np.bincount(text[:, 1:].ravel(), minlength=VOCAB) < effects.RARE
    evidence = studied.evidence
    found = case_study.logit_reading(
        replace(studied, sae=sae, evidence=replace(evidence, contexts=Contexts(text, text, ["all"]))), of_context
    )
    assert rare[203] and (found.kept == ~rare).all() and not rare[found.top].any()
    assert found.logit_auc > 0.85 and found.top20_in_context >= 1
    weights = found.weights[found.kept]
    assert found.logit_auc == pytest.approx(
        np.mean(
            (weights[of_context[~rare]][:, None] > weights[~of_context[~rare]])
            + 0.5 * (weights[of_context[~rare]][:, None] == weights[~of_context[~rare]])
        )
    )
    assert (np.diff(found.weights[found.top]) <= 0).all() and found.weights[found.top[0]] == weights.max()


@pytest.fixture
def planted_effect(monkeypatch, studied, inside):
    """Removing the feature costs the next token 0.1 nats per unit of activation if it is inside, else helps by 0.3."""
    strength = studied.evidence.dense(0)
    change = np.zeros((N, N_CTX), np.float32)
    change[:, 1:] = np.where(inside[:, 1:], -0.1 * strength[:, :-1], 0.3 * (strength[:, :-1] > 0))
    ids = studied.evidence.contexts.ids
    row_of = {row.tobytes(): index for index, row in enumerate(ids)}

    def effect(model, sae, feature, rows):
        return change[[row_of[row.tobytes()] for row in rows]]

    monkeypatch.setattr(case_study.effects, "ablation_effect", effect)
    return change


def test_ablation_splits_by_the_next_token_and_by_strength(studied, inside, planted_effect):
    found = case_study.ablation(studied, inside, n_contexts=2 * N)  # all contexts in which it is active
    strength = studied.evidence.dense(0)[:, :-1]
    on = strength > 0
    assert found.effect == pytest.approx(-0.1 * strength[on & inside[:, 1:]].mean(), rel=1e-5)
    assert found.effect_elsewhere == pytest.approx(0.3)
    assert found.inside.lower < found.effect < found.effect_upper < 0
    assert found.growing_bins == case_study.BINS
    assert (np.diff(found.strength) > 0).all()
    for mean, interval in zip(found.strength, found.inside_by_strength, strict=True):
        assert interval.mean == pytest.approx(-0.1 * mean, abs=0.03)


def test_half_of_the_contexts_hold_the_context(studied, inside, planted_effect):
    found = case_study.ablation(studied, inside, n_contexts=20)
    assert len(found.contexts) == 20 and inside.any(1)[found.contexts].sum() == 10


def test_an_effect_grows_up_to_the_first_step_back(studied, inside, planted_effect):
    found = case_study.ablation(studied, inside, n_contexts=2 * N)

    def growing(*means):
        return replace(found, inside_by_strength=[case_study.Interval(mean, 0, 0) for mean in means]).growing_bins

    assert growing(-0.1, -0.2, -0.3, -0.4, -0.5) == 5
    assert growing(-0.1, -0.2, -0.2, -0.4, -0.5) == 2
    assert growing(-0.1, -0.3, -0.2, -0.4, 0.0) == 0
    assert growing(-0.1, np.nan, -0.3, -0.4, -0.5) == 1


def test_what_was_never_before_the_context_has_no_effect_there(studied, planted_effect):
    found = case_study.ablation(studied, np.zeros((N, N_CTX), bool), n_contexts=20)
    assert np.isnan(found.effect) and found.growing_bins == 0 and found.effect_elsewhere == pytest.approx(0.3, abs=0.3)


def test_the_dose_curve_counts_the_characters_of_the_context(studied, tiny, monkeypatch):
    pieces = token_bytes(tiny.tokenizer)
    digit, letter = pieces.index(b"7"), pieces.index(b"q")

    def sample(model, prompt, n_samples, n_tokens, pin=0.0, **_):
        assert prompt == "1,2,3,4,5,6,7,8,9,10"  # the paper's
        n_digits = round(10 * pin / studied.largest) % 20
        return torch.tensor([[digit] * n_digits + [letter] * (10 - n_digits)] * n_samples)

    monkeypatch.setattr(case_study.effects, "sample", sample)
    found = case_study.pinned(studied, re.compile(r"\d+"), n_samples=100, n_tokens=10, doses=(0, 0.5, 0.8, 1, 2))
    np.testing.assert_allclose(found.levels, studied.largest * np.array([0, 0.5, 0.8, 1, 2]), rtol=1e-6)
    assert found.shares == [0, 0.5, 0.8, 1, 0] and found.unpinned_share == 0
    assert found.pinned_share == 1 and found.texts[found.at(1)][0] == b"7" * 10
    assert found.dose_correlation == pytest.approx(1)  # up to its maximum; beyond, the model never sees it
    assert found.samples == 100 and found.unpinned_texts == [b"q" * 10] * 100


def test_the_neuron_that_does_the_same_is_found(studied, inside, monkeypatch):
    noise = np.random.default_rng(5).random((N, N_CTX))
    same = studied.evidence.dense(0)
    neurons = planted(noise, same, np.where(inside, 3.0, 1.0))
    monkeypatch.setattr(case_study, "neuron_evidence", lambda model, contexts: neurons.between(0, len(contexts.ids)))
    monkeypatch.setattr(case_study, "neuron_correlations", lambda model, contexts, target: neurons.correlations(target))
    found = case_study.neuron_match(studied, inside, inside, n_contexts=N, top=5, window=0)
    assert found.neuron == 1 and found.best_neuron_correlation == pytest.approx(1)
    assert found.auc == found.aucs[1] < found.best_neuron_auc == found.aucs[2] == 1
    assert found.precision == found.precisions[1] < found.precisions[2] == 1
    assert found.examples[1:].tolist() == [5, 5] and found.examples[0] < 5
    assert found.neuron_examples == found.examples.sum()
    assert found.by_chance == pytest.approx(inside[:, 1:].mean())


def test_rare_contexts_are_fetched_from_further_down():
    inside = np.zeros((50, 101), bool)
    inside[:, 0] = True  # the first column is no text
    assert case_study._with_enough(inside, 10).tolist() == [*range(10)]  # there are none at all
    inside[[4, 20, 21, 30, 31, 40, 41], 1:] = True
    assert case_study._with_enough(inside, 10).tolist() == [*range(6), 20, 21, 30, 31]  # 500 tokens: four more rows
    assert case_study._with_enough(inside, 3).tolist() == [4, 20, 21]  # no more than asked for
    inside[:5, 1:] = True
    assert case_study._with_enough(inside, 10).tolist() == [*range(10)]


def test_coefficients_of_a_feature_in_the_neurons(studied, inside, monkeypatch):
    monkeypatch.setattr(case_study, "neuron_evidence", lambda model, contexts: studied.evidence)
    monkeypatch.setattr(case_study, "neuron_correlations", lambda model, contexts, target: np.zeros(3))
    sae = SparseAutoencoder(64, 3)
    with torch.no_grad():
        sae.W_dec[0] = 0.01
        sae.W_dec[0, :5] = torch.tensor([-0.7, 0.5, -0.3, 0.1, 0.09])
    found = case_study.neuron_match(replace(studied, sae=sae), inside, inside, n_contexts=N)
    assert (found.large_coefficients, found.negative_top3) == (4, 2)


def test_a_snippet_shows_what_lies_within_its_window():
    marks = np.random.default_rng(6).random((5, 20)) < 0.1
    for window in (0, 1, 7, 30):
        near = case_study._near(marks, window)
        for row, column in np.ndindex(marks.shape):
            assert near[row, column] == marks[row, max(0, column - window) : column + window + 1].any()


def test_the_twin_is_active_on_the_same_tokens_and_its_weights_are_compared(studied, tiny, activation, monkeypatch):
    other = SparseAutoencoder(64, 3)
    with torch.no_grad():
        other.W_dec[1] = studied.sae.W_dec[0]
    blurred = activation + 0.5 * (np.random.default_rng(7).random(activation.shape) < 0.02)
    monkeypatch.setattr(case_study, "feature_evidence", lambda *_: planted(activation > 3, 7 * blurred, activation * 0))
    monkeypatch.setattr(case_study, "load_model", {"B": tiny}.get)
    monkeypatch.setattr(case_study, "load_dictionary", {"B/1": other}.get)
    found = case_study.twin(studied, "B/1")
    assert found.feature.name == "B/1/1"
    expected = np.corrcoef(activation[:, 1:].ravel(), blurred[:, 1:].ravel())[0, 1]
    assert found.twin_correlation == pytest.approx(expected, abs=1e-4)
    assert found.twin_logit_correlation == pytest.approx(1, abs=1e-5)
    with torch.no_grad():
        other.W_dec[1] *= -1
    assert case_study.twin(studied).twin_logit_correlation == pytest.approx(-1, abs=1e-5)


def test_twins_need_the_same_tokens(studied, tiny, monkeypatch):
    pieces = {"tiny": [b"a"], "other": [b"b"]}
    monkeypatch.setattr(universality, "token_bytes", lambda tokenizer: pieces[tokenizer])
    model, other = (replace(tiny, name=name, tokenizer=name) for name in ("tiny", "other"))
    monkeypatch.setattr(case_study, "load_model", lambda name: other)
    monkeypatch.setattr(case_study, "load_dictionary", lambda name: studied.sae)
    with pytest.raises(SaeCoreError, match="different tokens"):
        case_study.twin(replace(studied, model=model), "B/1")


def test_text_without_the_context_gives_way_to_the_pocket(tiny, monkeypatch):
    pieces = token_bytes(tiny.tokenizer)

    def text_of(character):
        ids = np.full((20, 32), pieces.index(character), np.uint16)
        ids[:, 0] = 0
        return Contexts(ids, np.zeros_like(ids), ["all"])

    monkeypatch.setattr(case_study, "held_out", lambda model: (text_of(b"x"), "a folder"))
    monkeypatch.setattr(case_study, "load_contexts", lambda *_: text_of(b"7"))
    found = case_study.text_with(tiny, re.compile("x"), "the letter x", 20)
    assert found.name == "a folder" and (found.exact == (np.arange(32) > 0)).all()
    found = case_study.text_with(tiny, re.compile("7"), "the digit 7", 20)
    assert found.name == "pocket" and "only 0 tokens of the digit 7 in a folder" in found.description
    with pytest.raises(SaeCoreError, match="0 tokens of the digit 8 in a folder and 0 in pocket"):
        case_study.text_with(tiny, re.compile("8"), "the digit 8", 20)
