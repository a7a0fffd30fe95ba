"""Evidence: activations kept sparsely say what the dense ones say, and examples are what they claim to be."""

import numpy as np
import pytest
import torch

from sae_core import evidence as module
from sae_core.activations import harvest
from sae_core.autoencoder import SparseAutoencoder
from sae_core.corpus import open_corpus
from sae_core.evidence import Evidence, feature_evidence, neuron_correlations, neuron_evidence
from sae_core.language_model import to_tensor
from sae_core.tokens import Contexts, pack
from sae_core.variants import TopK


@pytest.fixture(scope="module")
def contexts(small_text, tiny):
    return pack(open_corpus(small_text).documents(), tiny.tokenizer, n_ctx=32).head(40)


@pytest.fixture(scope="module")
def dictionary(tiny, contexts):
    """Features that fire on three tokens in ten."""
    torch.manual_seed(0)
    sae = SparseAutoencoder(64, 96)
    with torch.no_grad():
        x = harvest(tiny.network, to_tensor(contexts.ids))[:, 1:].flatten(0, 1)
        sae.W_enc *= 100
        sae.b_dec.copy_(x.mean(0))
        sae.b_enc.copy_(-((x - sae.b_dec) @ sae.W_enc).quantile(0.7, dim=0))
        sae.b_enc[5] = -1000.0  # never fires
    return sae


@pytest.fixture(scope="module")
def found(tiny, dictionary, contexts):
    return feature_evidence(tiny, dictionary, contexts)


@pytest.fixture(scope="module")
def dense(tiny, dictionary, contexts):
    """[n_contexts, n_ctx, d_sae] by the plain encoder."""
    with torch.no_grad():
        return dictionary.encode(harvest(tiny.network, to_tensor(contexts.ids))).numpy()


def by_hand(rows, n_features=None):
    """Evidence from dense activations [n_contexts, n_ctx, n_features]."""
    rows = np.asarray(rows, np.float32)
    n_contexts, n_ctx, n_features = rows.shape
    flat = rows.reshape(-1, n_features)
    feature, places = flat.T.nonzero()
    starts = np.append(0, np.bincount(feature, minlength=n_features).cumsum())
    ids = np.arange(n_contexts * n_ctx).reshape(n_contexts, n_ctx)
    contexts = Contexts(ids, np.zeros_like(ids), ["all"])
    return Evidence(contexts, starts, places.astype(np.int32), flat[places, feature])


# Two contexts of five tokens, three features: one on tokens 1, 2, 3; one on 4, 7; one that is silent.
SMALL = by_hand(
    [
        [[0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0], [0, 1, 0]],
        [[0, 0, 0], [0, 0, 0], [0, 2, 0], [0, 0, 0], [0, 0, 0]],
    ]
)


def test_features_have_the_activations_that_the_encoder_gives(found, dense):
    for feature in range(dense.shape[2]):
        sparse, plain = found.dense(feature)[:, 1:], dense[:, 1:, feature]
        np.testing.assert_allclose(sparse[sparse > 0], plain[sparse > 0], atol=1e-4)
        assert plain[sparse == 0].max() < 0.2  # bf16 may lose what barely fires; the strongest are at 10
    assert 0.28 < found.density.mean() < 0.31
    assert (found.values > 0).all() and (found.places % 32 > 0).all()


def test_neurons_have_the_activations_of_the_mlp(tiny, contexts):
    found = neuron_evidence(tiny, contexts)
    activations = harvest(tiny.network, to_tensor(contexts.ids)).numpy()
    assert found.n_features == 64
    for neuron in (0, 31, 63):
        np.testing.assert_allclose(found.dense(neuron)[:, 1:], activations[:, 1:, neuron], atol=1e-6)


def test_neurons_correlate_in_one_pass_as_by_their_evidence(tiny, contexts, found):
    target = found.dense(3)
    target[:, 0] = 100.0  # left out
    passed = neuron_correlations(tiny, contexts, target, rows=5)
    np.testing.assert_allclose(passed, neuron_evidence(tiny, contexts).correlations(target), atol=1e-5)
    x = harvest(tiny.network, to_tensor(contexts.ids))[:, 1:, 31].numpy().ravel()
    assert passed[31] == pytest.approx(np.corrcoef(x, target[:, 1:].ravel())[0, 1], abs=1e-5)


def test_places_of_a_feature_are_in_order(found):
    assert all((np.diff(found.of(feature)[0]) > 0).all() for feature in range(found.n_features))


def test_a_second_call_reads_the_cache_and_another_dictionary_does_not(tiny, dictionary, contexts, found, monkeypatch):
    calls = []
    collect = module._collect
    monkeypatch.setattr(module, "_collect", lambda *arguments: calls.append(1) or collect(*arguments))
    again = feature_evidence(tiny, dictionary, contexts)
    assert not calls
    np.testing.assert_array_equal(again.values, found.values)
    other = SparseAutoencoder(64, 96)
    other.load_state_dict({name: tensor + 0.01 for name, tensor in dictionary.state_dict().items()})
    feature_evidence(tiny, other, contexts)
    feature_evidence(tiny, dictionary, contexts.head(8))
    assert len(calls) == 2


def test_the_cache_knows_dictionaries_apart_that_share_their_weights(tiny, contexts, dictionary):
    """By their rule, the number of codes kept, and the tied bias."""
    weights, rule = dictionary.state_dict(), lambda sae: len(feature_evidence(tiny, sae, contexts).places)
    plain = SparseAutoencoder(64, 96, tied_bias=False)
    few, more = TopK(64, 96, k=3), TopK(64, 96, k=9)
    for sae in (plain, few, more):
        sae.load_state_dict(weights)
    counts = [rule(sae) for sae in (dictionary, plain, few, more)]
    tokens = contexts.ids[:, 1:].size
    assert counts[2] <= 3 * tokens < counts[3] <= 9 * tokens
    assert len(set(counts)) == 4


def test_counts_density_and_maxima():
    assert SMALL.counts.tolist() == [3, 2, 0]
    assert SMALL.density.tolist() == [3 / 8, 2 / 8, 0]  # column 0 is not counted
    assert SMALL.maxima().tolist() == [3, 2, 0]


def test_correlations_are_pearsons(found, dense):
    target = np.random.default_rng(0).normal(size=found.contexts.ids.shape) + dense[:, :, 7]
    correlations = found.correlations(target)
    for feature in (0, 7, 50):
        expected = np.corrcoef(dense[:, 1:, feature].ravel(), target[:, 1:].ravel())[0, 1]
        assert correlations[feature] == pytest.approx(expected, abs=1e-3)
    assert correlations[5] == 0


def test_correlations_by_hand_with_silent_features_at_the_end():
    target = np.array([[9, 1, 2, 3, 0], [9, 0, 0, 0, 0]])  # column 0 does not count
    assert SMALL.correlations(target)[0] == pytest.approx(1)
    assert SMALL.correlations(target)[2] == 0


def test_part_of_the_evidence(found):
    part = found.between(10, 30)
    assert part.contexts.ids.shape == (20, 32)
    for feature in (0, 5, 95):
        np.testing.assert_array_equal(part.dense(feature), found.dense(feature)[10:30])


def test_recall_is_of_the_union():
    target = np.zeros((2, 5), bool)
    target[0, 1:] = target[1, 3] = True
    assert SMALL.recall([0], target) == 3 / 5
    assert SMALL.recall([0, 1], target) == 4 / 5
    assert SMALL.recall([2], target) == 0


def test_complements_cover_what_is_missed_and_are_specific():
    # Feature 0 covers two of five target tokens; 1 covers two more; 2 the last one; 3 fires everywhere.
    rows = np.zeros((1, 11, 5))
    rows[0, [1, 2], 0] = rows[0, [2, 3, 4], 1] = rows[0, [5], 2] = rows[0, 1:, 3] = rows[0, [4, 6], 4] = 1
    target = np.arange(11)[None] <= 5
    target[0, 0] = False
    assert by_hand(rows).complements(0, target, precision=0.6) == [1, 2]
    assert by_hand(rows).complements(0, target, n=1, precision=0.6) == [1]
    assert by_hand(rows).complements(0, target, precision=0.5) == [3]
    assert by_hand(rows).complements(0, target, precision=0.6, gain=0.3) == [1]


def test_top_examples_are_the_strongest_of_each_context(found, dense):
    examples = found.top_examples(0, n=5, window=3)
    strongest = np.sort(dense[:, 1:, 0].max(1))[::-1][:5]
    np.testing.assert_allclose([example.activations[example.center] for example in examples], strongest, atol=1e-4)
    assert len({example.context for example in examples}) == 5


def test_an_example_shows_the_tokens_around_its_place(found):
    for place in (10 * 32 + 1, 10 * 32 + 16, 10 * 32 + 31):
        example = found.example(0, place, window=4)
        low, high = max(1, example.position - 4), min(32, example.position + 5)
        assert (example.context, low + example.center) == (10, place % 32)
        np.testing.assert_array_equal(example.tokens, found.contexts.ids[10, low:high])
        np.testing.assert_array_equal(example.activations, found.dense(0)[10, low:high])


def test_interval_examples_lie_in_their_intervals_and_repeat(found):
    largest = found.of(0)[1].max()
    sampled = found.interval_examples(0, intervals=4, per_interval=3)
    for index, examples in enumerate(sampled):
        values = [example.activations[example.center] / largest * 4 for example in examples]
        assert all(index - 1e-5 < value <= index + 1 + 1e-5 for value in values)
    again = found.interval_examples(0, intervals=4, per_interval=3)
    assert [e.position for part in sampled for e in part] == [e.position for part in again for e in part]


def test_a_silent_feature_has_no_examples(found):
    assert found.top_examples(5) == [] and not any(found.interval_examples(5))
