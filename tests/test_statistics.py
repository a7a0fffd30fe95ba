"""The statistics that chapters use on features, against values worked out by hand."""

import numpy as np
import pytest

from sae_core.errors import SaeCoreError
from sae_core.metrics import auc, clustered_mean, fisher_exact, linear_auc, rank_correlation


def test_auc_counts_pairs_and_halves_ties():
    labels = np.array([True, True, False, False])
    assert auc(np.array([3.0, 2.0, 1.0, 0.0]), labels) == 1
    assert auc(np.array([0.0, 1.0, 2.0, 3.0]), labels) == 0
    assert auc(np.array([1.0, 0.0, 0.0, 0.0]), labels) == 3 / 4  # two pairs won, two tied
    assert auc(np.zeros((2, 2)), labels.reshape(2, 2)) == 1 / 2


def test_auc_is_the_share_of_pairs_in_the_right_order():
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 10, 200), rng.random(200) < 0.3
    difference = scores[labels][:, None] - scores[~labels]
    assert auc(scores, labels) == pytest.approx((difference > 0).mean() + (difference == 0).mean() / 2)


@pytest.mark.parametrize("labels", [[False, False], [True, True]])
def test_auc_needs_both_kinds(labels):
    with pytest.raises(SaeCoreError, match="both kinds"):
        auc(np.arange(2.0), np.array(labels))


def test_linear_auc_finds_a_direction_that_neither_number_shows():
    rng = np.random.default_rng(0)
    labels = rng.random(4000) < 0.2
    along = rng.normal(0, 100, 4000)  # the two clouds lie side by side, along a diagonal
    x = np.stack([along + 4 * labels, along + rng.normal(0, 1, 4000)], 1)
    assert linear_auc(x, labels) == pytest.approx(0.9977, abs=0.002)  # of two normals, 4 deviations of √2 apart
    assert auc(x[:, 0], labels) < 0.6
    assert linear_auc(-1000 * x, labels) == pytest.approx(linear_auc(x, labels))
    gap = x[:, 0] - x[:, 1]
    assert linear_auc(gap[:, None], labels) == pytest.approx(auc(gap[1::2], labels[1::2]))


def test_linear_auc_is_scored_on_rows_it_has_not_seen():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(60, 20)), np.arange(60) % 4 < 2  # with 20 numbers for 30 rows, anything can be fitted
    assert abs(linear_auc(x, labels) - 0.5) < 0.25


def test_linear_auc_needs_enough_of_both_kinds():
    x = np.random.default_rng(0).normal(size=(100, 2))
    with pytest.raises(SaeCoreError, match="9 rows of a kind"):
        linear_auc(x, np.arange(100) < 18)


def test_rank_correlation_sees_order_only():
    x = np.arange(5.0)
    assert rank_correlation(x, np.exp(x)) == pytest.approx(1)
    assert rank_correlation(x, -(x**3)) == pytest.approx(-1)
    assert rank_correlation([1, 2, 3, 4], [0, 0, 1, 1]) == pytest.approx(2 / np.sqrt(5))  # ranks 1.5 1.5 3.5 3.5
    assert rank_correlation(x, np.ones(5)) == 0


def test_clustered_mean_is_wider_where_clusters_are_alike():
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(50), 20)
    alike, unlike = rng.normal(size=50)[clusters], rng.normal(size=1000)
    mean, low, high = clustered_mean(alike, clusters)
    assert mean == pytest.approx(alike.mean()) and low < mean < high
    assert high - low == pytest.approx(2 * 1.96 * alike[::20].std() / np.sqrt(50), rel=0.15)
    _, low, high = clustered_mean(unlike, clusters)
    assert high - low == pytest.approx(2 * 1.96 / np.sqrt(1000), rel=0.25)


def test_clustered_mean_of_one_value():
    assert clustered_mean(np.array([2.0]), np.array([7])) == (2.0, 2.0, 2.0)


def test_fisher_exact_of_a_lady_tasting_tea():
    assert fisher_exact(3, 4, 1, 4) == pytest.approx(34 / 70)
    assert fisher_exact(4, 4, 0, 4) == pytest.approx(2 / 70)
    assert fisher_exact(4, 4, 0, 4) == fisher_exact(0, 4, 4, 4)
    assert fisher_exact(5, 10, 50, 100) == pytest.approx(1)


def test_fisher_exact_of_many_draws_is_no_overflow():
    assert 0 < fisher_exact(900, 1000, 500, 1000) < 1e-80


def test_fisher_exact_is_how_often_chance_splits_so_unevenly():
    rng = np.random.default_rng(0)
    balls = np.array([1] * 9 + [0] * 21)
    drawn = np.array([rng.permutation(balls)[:12].sum() for _ in range(20_000)])  # hits in the first group of 12
    far = [hits for hits in range(10) if fisher_exact(hits, 12, 9 - hits, 18) <= fisher_exact(6, 12, 3, 18)]
    assert fisher_exact(6, 12, 3, 18) == pytest.approx(np.isin(drawn, far).mean(), abs=0.01)
