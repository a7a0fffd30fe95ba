"""Metrics: known answers, invariance to how the text is cut, and the four replacements behind loss recovered."""

import numpy as np
import pytest
import torch

from sae_core.activations import harvest
from sae_core.autoencoder import SparseAutoencoder
from sae_core.errors import SaeCoreError
from sae_core.language_model import to_tensor
from sae_core.metrics import ReconstructionStatistics, Sparsity, dictionary_metrics, loss_recovered


@pytest.fixture(scope="module")
def ids(tiny):
    generator = np.random.default_rng(0)
    ids = generator.integers(1, 320, (24, tiny.n_ctx)).astype(np.uint16)
    ids[:, 0] = 0
    return ids


@pytest.fixture(scope="module")
def identity():
    """A dictionary that reconstructs every activation exactly: one feature per neuron."""
    sae = SparseAutoencoder(64, 64)
    with torch.no_grad():
        sae.W_enc.copy_(torch.eye(64))
        sae.W_dec.copy_(torch.eye(64))
    return sae


def zero_dictionary():
    """A dictionary that reconstructs nothing: no feature ever fires and b_dec is zero."""
    sae = SparseAutoencoder(64, 128)
    torch.nn.init.constant_(sae.b_enc, -1e3)
    return sae


def test_explained_variance_of_known_cases():
    x = torch.randn(100, 8) + 3
    cases = {"itself": (x, 1.0), "the mean": (x.mean(0).expand_as(x), 0.0)}
    for name, (reconstruction, expected) in cases.items():
        statistics = ReconstructionStatistics()
        statistics.add(x, reconstruction)
        assert statistics.result()["explained_variance"] == pytest.approx(expected, abs=1e-6), name


def test_explained_variance_does_not_depend_on_the_batches():
    x, noise = torch.randn(1000, 8) + 100, torch.randn(1000, 8)
    whole, parts = ReconstructionStatistics(), ReconstructionStatistics()
    whole.add(x, x + noise)
    for part in torch.randperm(1000).split(37):
        parts.add(x[part], (x + noise)[part])
    for name, value in whole.result().items():
        assert parts.result()[name] == pytest.approx(value, abs=1e-9)


def test_rescaling_hides_shrinkage_and_the_norm_ratio_shows_it():
    x = torch.randn(100, 8)
    statistics = ReconstructionStatistics()
    statistics.add(x, 0.5 * x)
    result = statistics.result()
    assert result["norm_ratio"] == pytest.approx(0.5)
    assert result["explained_variance_rescaled"] == pytest.approx(1.0)
    assert result["explained_variance"] == pytest.approx(0.75, abs=0.02)  # 1 - 0.5², but for the mean


def test_no_activations_is_an_error():
    with pytest.raises(SaeCoreError, match="no activations"):
        ReconstructionStatistics().result()


def test_dead_ultralow_and_dense_features_are_counted():
    counts = torch.tensor([0, 0, 1, 3_999_999, 400_001, 399_999])
    result = Sparsity(4_000_000, counts, torch.tensor([1, 2, 6])).result()
    assert (result["dead"], result["ultralow"]) == (2, 1)
    assert (result["above_1_percent"], result["above_10_percent"]) == (3, 2)
    assert (result["l0_mean"], result["l0_median"]) == (3.0, 2.0)


def test_dictionary_metrics_equal_a_computation_in_one_piece(tiny, ids):
    torch.manual_seed(0)
    sae = SparseAutoencoder(64, 128)
    metrics, sparsity = dictionary_metrics(tiny, sae, ids, rows=5)
    x = harvest(tiny.network, to_tensor(ids))[:, 1:].flatten(0, 1)
    reconstruction, codes = sae(x)
    assert sparsity.tokens == len(x) == 24 * 31
    torch.testing.assert_close(sparsity.counts, (codes > 0).sum(0))
    torch.testing.assert_close(sparsity.l0, (codes > 0).sum(1))
    error = (x - reconstruction).square().sum() / (x - x.mean(0)).square().sum()
    assert metrics["explained_variance"] == pytest.approx(1 - error.item(), abs=1e-4)


def test_perfect_reconstruction_recovers_all_of_the_loss(tiny, ids, identity):
    result = loss_recovered(tiny, identity, ids)
    assert result["loss_recovered"] == pytest.approx(1.0, abs=1e-5)
    assert result["loss_recovered_from_mean"] == pytest.approx(1.0, abs=1e-5)


def test_zero_reconstruction_recovers_nothing(tiny, ids):
    result = loss_recovered(tiny, zero_dictionary(), ids)
    assert result["loss_recovered"] == pytest.approx(0.0, abs=1e-6)
    assert result["loss_reconstructed"] == pytest.approx(result["loss_zero_ablated"])


def test_reconstructing_the_mean_recovers_nothing_from_mean_ablation(tiny, ids):
    sae = zero_dictionary()
    with torch.no_grad():
        sae.b_dec.copy_(harvest(tiny.network, to_tensor(ids))[:, 1:].mean((0, 1)))
    result = loss_recovered(tiny, sae, ids)
    assert result["loss_recovered_from_mean"] == pytest.approx(0.0, abs=1e-4)


def test_the_untouched_loss_is_the_models_own(tiny, ids, identity):
    from sae_core.pretraining import mean_loss

    result = loss_recovered(tiny, identity, ids)
    assert result["loss_original"] == pytest.approx(mean_loss(tiny.network, to_tensor(ids)), abs=1e-6)
