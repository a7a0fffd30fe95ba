"""Kinds of features: planted units get their kinds; shares and intervals are those counted by hand."""

import numpy as np
import pytest

from sae_core.errors import SaeCoreError
from sae_core.evidence import Evidence
from sae_core.kinds import (
    CONTEXT,
    KINDS,
    RARE,
    SINGLE_TOKEN,
    TOKEN_GROUP,
    TOKEN_IN_CONTEXT,
    kinds,
    logit_percentiles,
    token_profile,
    wilson_interval,
)
from sae_core.tokens import Contexts

VOCAB = 50


def evidence_of(ids, units):
    """Evidence from dense activations [n_contexts, n_ctx] of each unit; column 0 is looked at by nobody."""
    flat = np.array([unit.ravel() for unit in units], np.float32)
    unit, places = flat.nonzero()
    starts = np.append(0, np.bincount(unit, minlength=len(units)).cumsum())
    contexts = Contexts(ids, np.zeros_like(ids), ["all"])
    return Evidence(contexts, starts, places.astype(np.int32), flat[unit, places])


def planted(seed, n_contexts=200, n_ctx=41):
    """Text, a quarter of whose contexts is of a topic; a unit of each kind, in the order of KINDS, and a rare one."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, VOCAB, (n_contexts, n_ctx))
    topic = np.arange(n_contexts)[:, None] % 4 == 0
    strength = rng.uniform(0.5, 2, ids.shape)
    strength[:, 0] = 0
    group = np.isin(ids, rng.choice(VOCAB, 8, replace=False))
    rare = np.zeros(ids.shape)
    rare[3, 5:12] = 1
    units = [ids == 7, (ids == 9) & topic, group, topic & (rng.random(ids.shape) < 0.6), rare]
    return evidence_of(ids, [unit * strength if unit.dtype == bool else unit for unit in units])


@pytest.mark.parametrize("seed", range(3))
def test_planted_units_have_their_kinds(seed):
    found = kinds(token_profile(planted(seed), VOCAB))
    assert found.tolist() == [SINGLE_TOKEN, TOKEN_IN_CONTEXT, TOKEN_GROUP, CONTEXT, RARE]
    assert [KINDS[kind] for kind in found[:4]] == list(KINDS)


def test_kinds_survive_the_order_of_units_and_noise_on_other_tokens():
    evidence = planted(0)
    dense = np.array([evidence.dense(unit) for unit in range(5)])
    noise = np.zeros_like(dense)
    noise[:, 5, 1:30] = 0.05  # every unit fires weakly on what is there
    noisy = evidence_of(evidence.contexts.ids, list((dense + noise)[[3, 1, 0, 2]]))
    assert kinds(token_profile(noisy, VOCAB)).tolist() == [CONTEXT, TOKEN_IN_CONTEXT, SINGLE_TOKEN, TOKEN_GROUP]


def test_borders_are_those_that_are_asked_for():
    profile = token_profile(planted(1), VOCAB)
    single, share = SINGLE_TOKEN, profile.coverage[TOKEN_IN_CONTEXT]
    assert kinds(profile, covered=share)[TOKEN_IN_CONTEXT] == single
    assert kinds(profile, covered=share + 1e-9)[TOKEN_IN_CONTEXT] == TOKEN_IN_CONTEXT
    assert kinds(profile, concentrated=profile.top_share[TOKEN_GROUP])[TOKEN_GROUP] == single
    assert kinds(profile, least=7)[4] != RARE and kinds(profile, least=8)[4] == RARE


# One context of eight tokens behind the first. The unit is active on 5, 5, 6 and 8 with 3, 1, 2 and 2.
IDS = np.array([[8, 5, 5, 6, 8, 5, 6, 6, 2]])
SMALL = evidence_of(IDS, [np.array([[0, 3, 1, 2, 2, 0, 0, 0, 0]]), np.zeros((1, 9)), np.array([[0] * 8 + [4]])])


def test_shares_entropy_and_coverage_are_those_counted_by_hand():
    profile = token_profile(SMALL, VOCAB)
    assert profile.counts.tolist() == [4, 0, 1]
    assert profile.top_token[[0, 2]].tolist() == [5, 2]
    np.testing.assert_allclose(profile.top_share, [0.5, 0, 1])
    np.testing.assert_allclose(profile.entropy, [1.5, 0, 0], atol=1e-12)
    # On 5, it is active on one of the two other occurrences, on 6 on none; 8 has no other, as nobody looks at column 0.
    np.testing.assert_allclose(profile.coverage, [4 / 6 * 1 / 2, 0, 0])


def test_an_offset_looks_at_what_comes_next_within_the_context():
    profile = token_profile(SMALL, VOCAB, offset=1)
    assert profile.counts.tolist() == [4, 0, 0]  # nothing comes after the last token
    assert profile.top_token[0] == 5  # 3 before 5, 1 before 6, 2 before 8, 2 before 5
    np.testing.assert_allclose(profile.top_share[0], 5 / 8)


def test_the_next_context_does_not_come_after_the_last_token():
    two = np.array([[1, 5, 5], [9, 9, 9]])
    profile = token_profile(evidence_of(two, [np.array([[0, 1, 1], [0, 0, 0]])]), VOCAB, offset=1)
    assert profile.counts[0] == 1 and profile.top_token[0] == 5


def test_logit_percentiles_rank_the_next_tokens_by_strength():
    weights = np.zeros((3, VOCAB))
    weights[0] = np.arange(VOCAB)  # the rank of a token is its number
    found = logit_percentiles(SMALL, weights)
    np.testing.assert_allclose(found[0], (3 * 5 + 1 * 6 + 2 * 8 + 2 * 5) / 8 / (VOCAB - 1))
    assert np.isnan(found[1]) and np.isnan(found[2])
    own = logit_percentiles(SMALL, weights, offset=0)
    np.testing.assert_allclose(own[0], (3 * 5 + 1 * 5 + 2 * 6 + 2 * 8) / 8 / (VOCAB - 1))


def test_logit_percentiles_are_one_half_where_the_weights_know_nothing():
    evidence = planted(2)
    found = logit_percentiles(evidence, np.random.default_rng(0).normal(size=(5, VOCAB)))
    assert abs(found[CONTEXT] - 0.5) < 0.05


def test_intervals_are_wilsons():
    np.testing.assert_allclose(wilson_interval(8, 10), (0.4902, 0.9433), atol=1e-4)
    assert wilson_interval(0, 20)[0] == 0 and 0.1 < wilson_interval(0, 20)[1] < 0.2
    low, high = wilson_interval(500, 1000)
    assert low < 0.5 < high and np.isclose(high - low, 2 * 1.96 * 0.5 / 1000**0.5, rtol=0.01)


@pytest.mark.parametrize("hits, n", [(0, 0), (3, 2), (-1, 5)])
def test_no_interval_without_a_share(hits, n):
    with pytest.raises(SaeCoreError, match="no share"):
        wilson_interval(hits, n)


def test_bad_input_is_named():
    with pytest.raises(SaeCoreError, match="offset = 8"):
        token_profile(SMALL, VOCAB, offset=8)
    with pytest.raises(SaeCoreError, match="2 units"):
        logit_percentiles(SMALL, np.zeros((2, VOCAB)))
