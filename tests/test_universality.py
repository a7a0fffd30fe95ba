"""Universality on planted twins: who the partner is, and how well it correlates, is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sae_core import effects, universality
from sae_core.activations import harvest
from sae_core.autoencoder import SparseAutoencoder
from sae_core.errors import SaeCoreError
from sae_core.evidence import Evidence, feature_evidence
from sae_core.language_model import to_tensor
from sae_core.tokens import Contexts

N, N_CTX, VOCAB, FEATURES = 50, 21, 30, 12


def evidence_of(grids: np.ndarray, ids: np.ndarray | None = None) -> Evidence:
    """Evidence of features with these activations, [n_features, n_contexts, n_ctx]; column 0 is left out."""
    n_features, *shape = grids.shape
    ids = np.zeros(shape, np.uint16) if ids is None else ids
    flat = np.where(np.arange(shape[1]) > 0, grids, 0).reshape(n_features, -1).astype(np.float32)
    feature, place = flat.nonzero()
    starts = np.append(0, np.bincount(feature, minlength=n_features).cumsum())
    contexts = Contexts(ids, np.zeros(shape, np.uint8), ["all"])
    return Evidence(contexts, starts, place.astype(np.int32), flat[feature, place])


@pytest.fixture(scope="module")
def ids():
    return np.random.default_rng(0).integers(0, VOCAB, (N, N_CTX)).astype(np.uint16)


@pytest.fixture(scope="module")
def grids():
    """Sparse activations; the last feature is silent, the one before it is constant."""
    rng = np.random.default_rng(1)
    found = rng.exponential(size=(FEATURES, N, N_CTX)) * (rng.random((FEATURES, N, N_CTX)) < 0.15)
    found[-1], found[-2] = 0, 0.3
    return found


@pytest.fixture(scope="module")
def planted(grids):
    """Twins of the first ten features in another order: rescaled, and blurred more and more; and who they are."""
    rng = np.random.default_rng(2)
    order = rng.permutation(10)
    blur = rng.exponential(size=(10, N, N_CTX)) * (rng.random((10, N, N_CTX)) < 0.15)
    return 5 * (grids[:10] + blur * np.linspace(0, 1, 10)[:, None, None])[order], np.argsort(order)


@pytest.fixture
def pair(grids, planted, ids):
    return evidence_of(grids, ids), evidence_of(planted[0], ids)


@pytest.mark.parametrize("rows", [512, 5, 1])
def test_correlations_are_pearsons_over_all_tokens_but_column_0(pair, rows):
    first, second = pair
    found = universality.correlations(first, second, rows)
    assert found.shape == (FEATURES, 10) and found.dtype == np.float32
    dense = [np.stack([e.dense(f)[:, 1:].ravel() for f in range(e.n_features)]) for e in pair]
    right = np.corrcoef(*[d.astype(np.float64) for d in (dense[0][:-2], dense[1])])[: FEATURES - 2, FEATURES - 2 :]
    np.testing.assert_allclose(found[:-2], right, atol=1e-6)
    assert (found[-2:] == 0).all()  # constant and silent


def test_the_correlation_with_one_feature_is_that_of_the_evidence(pair):
    first, second = pair
    found = universality.correlations(first, second)
    np.testing.assert_allclose(found[:, 3], first.correlations(second.dense(3)), atol=1e-6)


def test_large_means_do_not_spoil_small_differences(ids):
    bumps = 1 + 1e-3 * np.random.default_rng(3).random((2, N, N_CTX))
    found = universality.correlations(*(evidence_of(one[None], ids) for one in bumps))[0, 0]
    right = np.corrcoef(*(one[:, 1:].astype(np.float32).ravel().astype(np.float64) for one in bumps))[0, 1]
    assert found == pytest.approx(right, abs=1e-5)


def test_evidence_from_another_text_is_refused(pair):
    first, second = pair
    other = second.contexts._replace(ids=second.contexts.ids + np.uint16(1))
    with pytest.raises(SaeCoreError, match="the same contexts"):
        universality.correlations(first, replace(second, contexts=other))


def test_planted_twins_are_found_and_are_the_less_alike_the_more_they_were_blurred(pair, planted):
    first, second = pair
    partners = universality.best_partners(
        universality.correlations(first, second), universality.alive(first), universality.alive(second)
    )
    assert partners.features.tolist() == list(range(FEATURES - 1))  # the silent one does not take part
    assert partners.partners[:10].tolist() == planted[1].tolist()
    assert partners.values[0] == pytest.approx(1, abs=1e-6)
    assert (np.diff(partners.values[:10]) < 0.05).all() and partners.values[9] < 0.9
    assert partners.median == pytest.approx(np.median(partners.values))


def test_only_features_that_take_part_are_asked_and_chosen():
    correlation = np.array([[0.9, 0.5, -0.8], [0.8, 0.2, 0.3], [0.1, 0.7, 0.6]])
    found = universality.best_partners(correlation, np.array([True, False, True]), np.array([False, True, True]))
    assert [part.tolist() for part in found] == [[0, 2], [1, 1], [0.5, 0.7]]
    with pytest.raises(SaeCoreError, match="more text"):
        universality.best_partners(correlation, np.ones(3, bool), np.zeros(3, bool))


def test_dead_and_ultralow_features_are_not_alive():
    size = 2_000_004  # tokens
    contexts = Contexts(np.zeros((2, size // 2 + 1), np.uint16), np.zeros((2, size // 2 + 1), np.uint8), ["all"])
    places = np.array([1, 1, 2, 1, 2, 3], np.int32)
    found = Evidence(contexts, np.array([0, 0, 1, 3, 6]), places, np.ones(6, np.float32))
    assert universality.alive(found).tolist() == [False, False, False, True]  # 0, 1, 2 and 3 of two million


def test_shuffled_activations_are_the_same_on_other_tokens(pair):
    first, second = pair
    moved = universality.shuffled(second, seed=4)
    before, after = (np.stack([e.dense(f).ravel() for f in range(10)], 1) for e in (second, moved))
    assert (moved.counts == second.counts).all() and moved.values.dtype == np.float32
    assert all((np.diff(moved.of(f)[0]) > 0).all() for f in range(10))
    assert (after.reshape(N, N_CTX, 10)[:, 0] == 0).all() and not np.array_equal(before, after)
    # All features of a token move together: the rows are the same, in another order.
    np.testing.assert_array_equal(*(rows[np.lexsort(rows.T)] for rows in (before, after)))
    np.testing.assert_array_equal(moved.places, universality.shuffled(second, seed=4).places)
    assert not np.array_equal(moved.places, universality.shuffled(second, seed=5).places)
    assert np.abs(universality.correlations(first, moved)).max() < 0.2  # 1,000 tokens
    assert universality.correlations(first, second).max() > 0.99


def test_attributions_are_activations_times_the_weight_of_the_next_token(pair, ids):
    first, _ = pair
    weights = np.random.default_rng(6).normal(size=(FEATURES, VOCAB)).astype(np.float32)
    found = universality.attributions(first, weights)
    assert found.contexts.ids.shape == (N, N_CTX - 1) and found.n_tokens == N * (N_CTX - 2)
    for feature in range(FEATURES):
        right = first.dense(feature)[:, :-1] * weights[feature][ids[:, 1:]]
        np.testing.assert_allclose(found.dense(feature)[:, 1:], right[:, 1:], rtol=1e-6)


def test_attributions_see_what_features_write_where_activations_do_not(pair, ids):
    first, _ = pair
    weights = np.random.default_rng(7).normal(size=(FEATURES, VOCAB)).astype(np.float32)
    active = slice(0, FEATURES - 1)
    same, opposite = (
        universality.correlations(universality.attributions(first, weights), universality.attributions(first, other))
        for other in (2 * weights, -weights)
    )
    np.testing.assert_allclose(same.diagonal()[active], 1, atol=1e-5)
    np.testing.assert_allclose(opposite.diagonal()[active], -1, atol=1e-5)


def test_logit_correlations_are_pearsons_over_the_vocabulary():
    rng = np.random.default_rng(8)
    first, second = (rng.normal(size=(k, VOCAB)).astype(np.float32) + 3 for k in (4, 5))
    second[2] = 1.0
    found = universality.logit_correlations(first, second)
    for i, j in np.ndindex(4, 5):
        right = 0.0 if j == 2 else np.corrcoef(first[i], second[j])[0, 1]
        assert found[i, j] == pytest.approx(right, abs=1e-5)


def test_rare_tokens_are_those_that_come_fewer_than_five_times_after_column_0():
    ids = np.array([[0, 1, 1, 1, 2, 2], [0, 1, 1, 2, 2, 3], [3, 3, 3, 4, 4, 4]])
    assert effects.not_rare(ids, 6).tolist() == [False, True, False, False, False, False]


def test_a_permuted_dictionary_of_the_same_model_is_all_twins(tiny, ids):
    """From the models on: activations, logit weights and attributions all find the permutation."""
    torch.manual_seed(0)
    sae, other = SparseAutoencoder(64, 16), SparseAutoencoder(64, 16)
    order = torch.randperm(16)
    with torch.no_grad():
        x = harvest(tiny.network, to_tensor(ids))[:, 1:].flatten(0, 1)
        sae.b_dec.copy_(x.mean(0))
        sae.b_enc.copy_(-((x - sae.b_dec) @ sae.W_enc).quantile(0.7, dim=0))  # each is active on three tokens in ten
        for name in ("W_dec", "b_enc"):
            getattr(other, name).copy_(getattr(sae, name)[order])
        other.W_enc.copy_(sae.W_enc[:, order])
        other.b_dec.copy_(sae.b_dec)
    contexts = Contexts(ids, np.zeros(ids.shape, np.uint8), ["all"])
    pair = [feature_evidence(tiny, one, contexts) for one in (sae, other)]
    weights = [effects.logit_weights(tiny, one.W_dec.detach()).numpy() for one in (sae, other)]
    everything = np.ones(16, bool)
    for found in (
        universality.correlations(*pair),
        universality.logit_correlations(*weights),
        universality.correlations(*(universality.attributions(*of) for of in zip(pair, weights, strict=True))),
    ):
        partners = universality.best_partners(found, everything, everything)
        assert partners.partners.tolist() == torch.argsort(order).tolist()
        np.testing.assert_allclose(partners.values, 1, atol=1e-4)


def test_models_with_other_tokens_are_refused(tiny, monkeypatch):
    universality.need_same_tokens(tiny, tiny)
    pieces = {"tiny": [b"a"], "other": [b"b"]}
    monkeypatch.setattr(universality, "token_bytes", lambda tokenizer: pieces[tokenizer])
    model, other = (replace(tiny, name=name, tokenizer=name) for name in pieces)
    with pytest.raises(SaeCoreError, match="other and tiny have different tokens"):
        universality.need_same_tokens(model, other)
