"""Controls: as sparse as what they stand beside, and knowing nothing."""

import numpy as np
import pytest
import torch

from sae_core.autoencoder import SparseAutoencoder
from sae_core.case_study import Feature
from sae_core.controls import shuffled, untrained_dictionary, watched
from sae_core.corpus import open_corpus
from sae_core.evidence import feature_evidence
from sae_core.tokens import pack


@pytest.fixture(scope="module")
def contexts(small_text, tiny):
    return pack(open_corpus(small_text).documents(), tiny.tokenizer, n_ctx=32).head(64)


@pytest.fixture(scope="module")
def trained(tiny, contexts):
    """Not trained, but with densities that differ: from never to half of the tokens."""
    torch.manual_seed(0)
    sae = SparseAutoencoder(64, 40)
    with torch.no_grad():
        sae.W_enc *= 100
        sae.b_enc -= torch.linspace(0, 10, 40)
    return feature_evidence(tiny, sae, contexts)


def test_each_untrained_feature_is_active_as_often_as_its_trained_one(tiny, contexts, trained):
    sae = untrained_dictionary(tiny, trained)
    density = feature_evidence(tiny, sae, contexts).density
    assert trained.density.max() > 0.3 and trained.density.min() < 0.01
    np.testing.assert_allclose(density, trained.density, atol=0.06)
    assert np.corrcoef(density, trained.density)[0, 1] > 0.99
    assert torch.allclose(sae.W_dec.norm(dim=1), torch.ones(40))


def test_an_untrained_dictionary_depends_on_its_seed_alone(tiny, trained):
    first, second, other = (untrained_dictionary(tiny, trained, seed) for seed in (0, 0, 1))
    assert torch.equal(first.W_dec, second.W_dec) and not torch.equal(first.W_dec, other.W_dec)


def test_shuffling_moves_whole_contexts():
    marks = np.arange(200).reshape(50, 4)
    moved = shuffled(marks)
    assert (moved != marks).any() and sorted(map(tuple, moved)) == sorted(map(tuple, marks))


def test_what_fits_the_text_does_not_fit_shuffled_text(tiny, contexts, trained):
    feature = Feature(tiny, SparseAutoencoder(64, 40), trained, int(np.abs(trained.density - 0.3).argmin()))
    score = np.where(trained.dense(feature.index) > 0, 5.0, -5.0)
    fits, moved = watched(feature, score), watched(feature, shuffled(score))
    assert fits.recall == 1 and fits.mass_in_context == pytest.approx(1) and fits.auc == 1
    assert abs(moved.correlation) < 0.5 < fits.correlation and abs(moved.auc - 0.5) < 0.25
    assert fits.logit_auc is None
