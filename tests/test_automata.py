"""Automata: edges as counted by hand, and a planted model whose cycles, causes and chains are known.

Each token of the planted model excites one neuron, which writes the next token: 1 → 2 → 1, 3 → 4 → 5 or 6 → 3,
7 → 7, 8 → 9, and anything after 9. Feature t fires on token t; feature 10 fires on tokens 5 and 6.
"""

import re

import numpy as np
import pytest
import torch

from sae_core import automata
from sae_core.autoencoder import SparseAutoencoder
from sae_core.automata import Automaton, Promoted, components
from sae_core.errors import SaeCoreError
from sae_core.evidence import Evidence, feature_evidence
from sae_core.language_model import LanguageModel, build, to_tensor
from sae_core.tokens import Contexts

TOKENS, N_CTX = 10, 96
NEXT = {1: [2], 2: [1], 3: [4], 4: [5, 6], 5: [3], 6: [3], 7: [7], 8: [9]}
EITHER = 10  # the feature of tokens 5 and 6


def by_hand(ids, rows):
    """Evidence from dense activations [n_contexts, n_ctx, n_features]."""
    ids, rows = np.asarray(ids), np.asarray(rows, np.float32)
    flat = rows.reshape(-1, rows.shape[2])
    feature, places = flat.T.nonzero()
    starts = np.append(0, np.bincount(feature, minlength=flat.shape[1]).cumsum())
    contexts = Contexts(ids, np.zeros_like(ids), ["all"])
    return Evidence(contexts, starts, places.astype(np.int32), flat[places, feature])


@pytest.fixture(scope="module")
def model():
    """No attention. A token excites its neuron alone, which writes to the outputs of the tokens that follow it."""
    network = build(TOKENS, n_ctx=N_CTX, d_model=2 * TOKENS, d_mlp=TOKENS, n_heads=1).eval()
    block = network.transformer.h[0]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for norm in (block.ln_1, block.ln_2, network.transformer.ln_f):
            norm.weight.fill_(1.0)
        network.transformer.wte.weight[:, :TOKENS] = torch.eye(TOKENS)
        block.mlp.c_fc.weight[:TOKENS] = torch.eye(TOKENS)
        for token, followers in NEXT.items():
            block.mlp.c_proj.weight[token, [TOKENS + follower for follower in followers]] = 3.0
        network.lm_head.weight[:, TOKENS:] = 3 * torch.eye(TOKENS)
    return LanguageModel("planted", network, None)


@pytest.fixture(scope="module")
def sae():
    dictionary = SparseAutoencoder(TOKENS, TOKENS + 1)
    directions = torch.cat([torch.eye(TOKENS), torch.eye(TOKENS)[[5, 6]].sum(0, keepdim=True)])
    with torch.no_grad():
        dictionary.W_enc.copy_(directions.T)
        dictionary.W_dec.copy_(directions / directions.norm(dim=1, keepdim=True))
    return dictionary


@pytest.fixture(scope="module")
def evidence(model, sae):
    """On forty contexts that the model might have written, ten that go round in each of four ways."""
    draw = np.random.default_rng(0)
    rows = []
    for start in [1, 3, 7, 8] * 10:
        row = [0, start]
        while len(row) < N_CTX:
            row.append(int(draw.choice(NEXT.get(row[-1], [8]))))
        rows.append(row)
    ids = np.array(rows, np.uint16)
    return feature_evidence(model, sae, Contexts(ids, np.zeros_like(ids), ["all"]))


@pytest.fixture(scope="module")
def found(model, sae, evidence):
    return automata.promoted(model, sae, evidence, n=2, rows=16)


@pytest.fixture(scope="module")
def graph(evidence, found):
    return automata.edges(evidence, found)


# --- edges ----------------------------------------------------------------------------------------------------------


def test_the_tokens_that_a_feature_promotes_are_those_that_follow(found):
    for feature in range(1, 9):
        assert set(NEXT[feature]) <= set(found.tokens[feature].tolist()), feature
    assert found.tokens[EITHER][0] == 3


def test_promoted_tokens_count_by_the_models_mean_probability_where_the_feature_fires(model, sae, evidence, found):
    probabilities = torch.softmax(model.logits(to_tensor(evidence.contexts.ids)), -1).numpy()
    for feature in (1, 4, 7, EITHER):
        mean = probabilities[evidence.dense(feature) > 0].mean(0)
        np.testing.assert_allclose(found.chances[feature], mean[found.tokens[feature]], rtol=1e-4)
    np.testing.assert_allclose(found.chances[4], [0.5, 0.5], atol=0.01)
    np.testing.assert_allclose(found.weights[1:EITHER].sum(1), 1.0)
    assert found.weights[0].sum() == found.mass[0] == 0  # feature 0 never fires


def test_parts_of_the_text_add_up(model, sae, evidence, found):
    again = automata.promoted(model, sae, evidence, n=2, rows=7)
    np.testing.assert_array_equal(again.tokens, found.tokens)
    np.testing.assert_allclose(again.chances, found.chances, rtol=1e-5)


def test_rare_tokens_are_not_promoted(model, sae, evidence):
    few = evidence.between(0, 4)
    few.contexts.ids[few.contexts.ids == 2] = 1  # token 2 never comes
    assert 2 not in automata.promoted(model, sae, few, n=1).tokens[1]


def test_the_first_tokens_keep_their_order_and_share_the_weight():
    found = Promoted(np.array([[5, 6, 7]]), np.array([[0.3, 0.1, 0.4]])).first(2)
    assert found.tokens.tolist() == [[5, 6]] and found.mass.tolist() == [0.4]
    np.testing.assert_allclose(found.weights, [[0.75, 0.25]])


def test_an_edge_is_the_weighted_mean_over_promoted_tokens_right_after_the_feature():
    """Feature 0 fires on token 5, feature 1 on some others; after 5 come 1 (twice), 2 (once) and 4 (never)."""
    ids = [[0, 5, 1, 5, 1, 5], [1, 5, 2, 9, 1, 5]]
    first = [[0, 1, 0, 1, 0, 1], [0, 1, 0, 0, 0, 1]]
    second = [[0, 0, 1, 0, 0, 0], [0, 0, 1, 0, 1, 0]]
    rows = np.stack([first, second], axis=2)
    tokens = np.array([[1, 2, 4], [9, 5, 8]])
    chances = np.array([[0.25, 0.15, 0.1], [0.1, 0.3, 0.0]])
    graph = automata.edges(by_hand(ids, rows), Promoted(tokens, chances))
    # From 0 to 1: on token 1 half of the times, on token 2 always, on 4 nothing. The 1 that begins the second context
    # does not come after the 5 that ends the first.
    assert graph[0, 1] == pytest.approx(0.5 * 0.5 + 0.3 * 1.0)
    # From 1: to 9 (once, nothing fires) and to 5 (twice, feature 0 fires).
    assert graph[1, 0] == pytest.approx(0.75)
    assert graph[0, 0] == graph[1, 1] == 0


def test_edges_agree_with_a_plain_count_on_made_up_text():
    draw = np.random.default_rng(0)
    ids = draw.integers(0, 6, (5, 20))
    fires = draw.random((5, 20, 4)) < [0.1, 0.3, 0.5, 0.0]
    fires[:, 0] = False
    tokens, chances = np.array([draw.permutation(6)[:3] for _ in range(4)]), draw.random((4, 3))
    graph = automata.edges(by_hand(ids, fires), Promoted(tokens, chances))
    for i in range(4):
        for j in range(4):
            right = 0.0
            for token, weight in zip(tokens[i], chances[i] / chances[i].sum(), strict=True):
                there = fires[:, :-1, i] & (ids[:, 1:] == token)
                right += weight * fires[:, 1:, j][there].mean() if there.any() else 0.0
            assert graph[i, j] == pytest.approx(right, abs=1e-6)


def test_planted_edges_are_found(graph):
    for feature, followers in NEXT.items():
        for follower in followers:
            assert graph[feature, follower] == pytest.approx(1 / len(followers), abs=0.01)
    assert graph[4, EITHER] == pytest.approx(1, abs=0.01)
    assert graph[EITHER, 3] == pytest.approx(1, abs=0.01)
    planted = [(i, j) for i, followers in NEXT.items() for j in followers] + [(4, EITHER), (EITHER, 3)]
    graph = graph.copy()
    graph[tuple(np.transpose(planted))] = 0
    graph[9] = 0  # anything may follow the text's 9; it does not matter here
    assert graph.max() < 0.01


# --- automata -------------------------------------------------------------------------------------------------------


def test_components_are_the_planted_cycles(graph):
    graph = graph.copy()
    graph[9] = 0
    assert components(graph, 0.3) == [[3, 4, 5, 6, EITHER], [1, 2], [7]]
    assert components(graph, 0.6) == [[3, 4, EITHER], [1, 2], [7]]  # the branch 4 → 5 or 6 has fallen apart


def test_an_edge_of_exactly_the_threshold_counts():
    graph = np.array([[0, 0.5], [0.25, 0]])
    assert components(graph, 0.25) == [[0, 1]] and components(graph, 0.26) == []


def test_random_pairs_are_of_different_features_that_were_given():
    graph = np.full((6, 6), 9.0)
    graph[np.ix_([1, 2, 4], [1, 2, 4])] = np.arange(9).reshape(3, 3)
    drawn = automata.random_pairs(graph, np.array([1, 2, 4]), n=600)
    assert set(drawn.tolist()) == {1, 2, 3, 5, 6, 7}  # not the diagonal, 0, 4 and 8
    assert 320 < len(drawn) < 480 and drawn.mean() == pytest.approx(4, abs=0.4)


def test_the_null_is_far_below_the_planted_edges(graph):
    assert automata.random_pairs(graph, np.arange(1, 9)).mean() < 0.2


def test_the_best_cycle_has_the_largest_product():
    graph = np.zeros((4, 4))
    graph[0, 2], graph[2, 0] = 0.9, 0.2  # with the fits 0.9 × 0.2 × 0.5 × 0.5
    graph[1, 2], graph[2, 1] = 0.4, 0.6  # 0.4 × 0.6 × 0.8 × 0.5
    graph[0, 3], graph[3, 0] = 1.0, 0.09  # with an edge that is too small
    assert automata.best_cycle(graph, [{0: 0.5, 1: 0.8}, {2: 0.5, 3: 9.0}]) == [1, 2]
    assert automata.best_cycle(graph, [{0: 0.5, 1: 0.3}, {2: 0.5, 3: 9.0}]) == [0, 2]
    assert automata.best_cycle(graph, [{0: 0.5, 1: 0.8}, {2: 0.5, 3: 9.0}], least=0.05) == [0, 3]


def test_planted_cycles_are_found_by_name(graph):
    every = dict.fromkeys(range(1, TOKENS), 0.5)
    assert automata.best_cycle(graph, [{7: 0.1}]) == [7]
    assert automata.best_cycle(graph, [{3: 1.0}, every, every])[:2] == [3, 4]
    assert automata.best_cycle(graph, [{3: 1.0}, every, every | {EITHER: 0.5}]) == [3, 4, EITHER]


@pytest.mark.parametrize(
    "candidates",
    [
        [{1: 1.0}, {3: 1.0}],  # no edges
        [{8: 1.0}, {9: 1.0}],  # no way back
        [{7: 1.0}, {7: 1.0}],  # the same feature twice
        [{1: 1.0}, {2: -0.5}],  # a feature that does not fit its role
    ],
)
def test_without_a_cycle_there_is_none(graph, candidates):
    graph = graph.copy()
    graph[9] = 0
    with pytest.raises(SaeCoreError, match="no candidates have edges of 0.1 or more"):
        automata.best_cycle(graph, candidates)


def test_a_token_has_the_role_of_its_last_byte():
    pieces = [b"", b"<", b"di", b"v>", b"\n", b" <p", b">x", b"\xd7", b"\x90"]
    pattern = re.compile(rb"(?P<open><)(?P<name>[a-z]+)(?P<close>>)")
    marks = automata.roles(np.array([[0, 1, 2, 3, 4, 5, 6], [0, 2, 3, 1, 0, 2, 3]]), pieces, pattern)
    names = {name: np.flatnonzero(mark).tolist() for name, mark in marks.items()}
    # "<", "di" and "v>" end in an open bracket, a name, a closing one; " <p" ends in a name; ">x" ends outside. In the
    # second row a document ends between the bracket and the name.
    assert names == {"open": [1], "name": [2, 5], "close": [3]}


def test_a_token_follows_if_an_edge_leads_to_one_of_its_states():
    automaton = Automaton("", [4, 5], ["a", "b"], np.array([[0.05, 0.8], [0.1, 0.0]]))
    assert automaton.transitions.tolist() == [[False, True], [True, False]]
    texts = {
        "abab": [True, True, True],
        "aabb": [False, True, False],
        "a-ba": [False, False, True],
        "aaca": [False, True, True],  # c: both states at once
        "----": [False, False, False],
    }
    for text, follows in texts.items():
        active = np.array([[[letter in "ac", letter in "bc"] for letter in text]], float)
        assert automaton.follows(active)[0].tolist() == follows, text


def test_an_edge_does_not_lead_back():
    one_way = Automaton("", [4, 5], ["a", "b"], np.array([[0.0, 0.8], [0.0, 0.0]]))
    active = np.array([[[True, False], [False, True], [True, False]]])
    assert one_way.follows(active).tolist() == [[True, False]]


# --- text that the model writes -------------------------------------------------------------------------------------


def test_activations_are_those_of_the_dictionary_but_on_the_first_token(model, sae):
    ids = torch.tensor([[1, 5, 6, 2]])
    found = automata.activations(model, sae, [1, EITHER], ids)
    assert (found > 0).tolist() == [[[False, False], [False, True], [False, True], [False, False]]]
    assert found[0, 1, 1] == pytest.approx(found[0, 2, 1])


def test_prompts_end_where_the_feature_fires(model, sae, evidence):
    prompts = automata.prompts(model, sae, evidence, 5, 12)
    assert prompts.shape == (12, automata.PROMPT) and (prompts[:, -1] == 5).all()
    assert (prompts[:, 0] == 0).all() and (prompts[:, 1:] > 0).all()
    anywhere = automata.prompts(model, sae, evidence, None, 60)
    assert anywhere.shape == (60, automata.PROMPT) and len(anywhere[:, -1].unique()) > 5
    assert not torch.equal(anywhere, automata.prompts(model, sae, evidence, None, 60, seed=1))
    assert len(automata.prompts(model, sae, evidence, 0, 12)) == 0  # never fires


def test_prompts_on_which_the_feature_falls_silent_are_left_out(model, sae, evidence):
    claimed = Evidence(evidence.contexts, evidence.starts.copy(), evidence.places.copy(), evidence.values)
    claimed.places[claimed.starts[5] : claimed.starts[5] + 9] += 1  # says that 5 fires on the token behind it
    claimed.places[claimed.starts[5] : claimed.starts[6]].sort()
    assert (automata.prompts(model, sae, claimed, 5, 10_000)[:, -1] == 5).all()


def test_written_text_walks_through_the_cycle(model, sae, evidence):
    walked = automata.walks(model, sae, evidence, [1, 2], 5, n_tokens=20)
    assert walked.ids.shape == (10, automata.PROMPT + 20) and walked.activations.shape == (10, 21, 2)
    assert walked.ids[:, automata.PROMPT - 1].tolist() == [1] * 5 + [2] * 5
    expected = np.where(walked.ids[:, automata.PROMPT - 1 :, None] == [1, 2], 1, 0)
    np.testing.assert_array_equal(walked.activations > 0, expected)
    there_and_back = Automaton("", [1, 2], ["", ""], np.array([[0, 1], [1, 0]]))
    assert there_and_back.follows(walked.activations).all()
    assert not Automaton("", [1, 2], ["", ""], np.eye(2)).follows(walked.activations).any()


def test_text_written_from_anywhere_mostly_does_not_follow(model, sae, evidence):
    walked = automata.walks(model, sae, evidence, [1, 2], 80, n_tokens=8, anywhere=True)
    follows = Automaton("", [1, 2], ["", ""], np.array([[0, 1], [1, 0]])).follows(walked.activations)
    assert walked.ids.shape[0] == 80 and 0.1 < follows.mean() < 0.5  # one context in four goes 1 → 2 → 1


def test_ablating_a_state_takes_the_next_one_away(model, sae, evidence):
    prompts = automata.prompts(model, sae, evidence, 1, 60)
    given = (model, sae, [2, 7], prompts)
    np.testing.assert_allclose(automata.next_states(*given), [1, 0], atol=0.02)
    without = automata.next_states(*given, feature=1, pin=0.0)
    assert (without < 0.3).all()  # any of ten tokens
    np.testing.assert_allclose(automata.next_states(*given, feature=3, pin=0.0), [1, 0], atol=0.02)  # another one


def test_pinning_a_state_brings_about_the_next_one(model, sae, evidence):
    prompts = automata.prompts(model, sae, evidence, 7, 60)
    top = float(evidence.of(1)[1].max())
    assert automata.next_states(model, sae, [2], prompts)[0] < 0.02
    pinned = automata.next_states(model, sae, [2, 1], prompts, feature=1, pin=3 * top)
    np.testing.assert_allclose(pinned, [1, 0], atol=0.02)  # read without the pin, under which 1 would fire, too


# --- a phrase that the model knows by heart -------------------------------------------------------------------------


def test_the_chain_of_a_planted_phrase_is_its_features_in_order(model, sae):
    phrase = torch.tensor([[0, 7, 3, 4, 5, 3]])
    links = automata.chain(model, sae, phrase, start=2)
    assert [link.position for link in links] == [2, 3, 4]
    assert [link.feature for link in links][:2] == [3, 4] and links[2].feature in (5, EITHER)
    assert all(link.effect < -0.5 for link in links)


def test_a_feature_of_several_tokens_is_one_link(model, sae):
    links = automata.chain(model, sae, torch.tensor([[0, 1, 2, 1, 2, 1]]), start=1)
    assert sorted(link.feature for link in links) == [1, 2]


def test_a_feature_stands_where_its_ablation_harms_most(model, sae, monkeypatch):
    harm = {1: [0, 0, -1.0, -0.1, -3.0, -0.1], 2: [0, 0, 0.0, -0.5, 0.0, -0.2]}  # by the token that is predicted
    monkeypatch.setattr(automata, "ablation_effect", lambda model, sae, feature, ids: np.array([harm[int(feature)]]))
    links = automata.chain(model, sae, torch.tensor([[0, 1, 2, 1, 2, 1]]), start=1)
    assert links == [(2, 2, -0.5), (3, 1, -3.0)]


def test_tokens_that_no_feature_helps_to_predict_have_no_link(model, sae):
    assert automata.chain(model, sae, torch.tensor([[0, 9, 2, 9]]), start=1) == []
