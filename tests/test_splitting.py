"""Feature splitting on planted families: who is a child of whom, and how much of a parent is covered, is known."""

import numpy as np
import pytest

from sae_core.errors import SaeCoreError
from sae_core.evidence import Evidence
from sae_core.splitting import family, masked_cosine_graph, top_tokens
from sae_core.tokens import Contexts
from sae_core.universality import shuffled

N, N_CTX, VOCAB = 60, 41, 90


def planted(*grids, seed=0):
    """Evidence of features with these activations, each [N, N_CTX]; column 0 is left out, as everywhere."""
    ids = np.random.default_rng(seed).integers(1, VOCAB, (N, N_CTX)).astype(np.uint16)
    ids[:, 0] = 0
    flat = [np.where(np.arange(N_CTX) > 0, grid, 0).ravel() for grid in grids]
    places = [np.flatnonzero(grid) for grid in flat]
    values = np.concatenate([grid[at] for grid, at in zip(flat, places, strict=True)]).astype(np.float32)
    return Evidence(
        Contexts(ids, np.zeros_like(ids), ["all"]),
        np.cumsum([0, *map(len, places)]),
        np.concatenate(places).astype(np.int32),
        values,
    )


@pytest.fixture(scope="module")
def split():
    """A parent (feature 1 of 3) on a fifth of the tokens. Of the larger dictionary, features 4, 0 and 2 share it out.

    4 has half of its tokens, 0 three in ten, 2 a tenth, and a tenth is left to nobody. 1 is active elsewhere, 3 silent.
    Parent feature 2 and child feature 5 are another pair: the parent lies within the child.
    """
    draw = np.random.default_rng(1)
    part = draw.choice(7, (N, N_CTX), p=[0.1, 0.06, 0.02, 0.02, 0.05, 0.25, 0.5])
    strength = draw.uniform(1, 3, (N, N_CTX))
    parent = strength * (part < 4)
    inner, outer = strength * (part == 4), strength * np.isin(part, (4, 5))
    small = planted(strength * 0, parent, inner)
    large = planted(
        2 * strength * (part == 1), strength * (part == 6), strength * (part == 2), strength * 0,
        0.5 * strength * (part == 0), outer,
    )  # fmt: skip
    return small, large, part


def cosine(one, other, where):
    one, other = one[where], other[where]
    return float(one @ other / np.sqrt((one @ one) * (other @ other)))


def test_edges_join_a_parent_to_those_who_share_it_out_and_to_nobody_else(split):
    small, large, _ = split
    graph = masked_cosine_graph(small, large, rows=2)
    assert sorted(zip(graph.parents.tolist(), graph.children.tolist(), strict=True)) == [(1, 0), (1, 2), (1, 4), (2, 5)]
    assert graph.children_of(1).tolist() == [0, 2, 4] and graph.parents_of(5).tolist() == [2]
    assert graph.children_of(0).tolist() == [] and graph.parents_of(3).tolist() == []


def test_a_child_counts_on_its_own_tokens_whichever_dictionary_it_is_in(split):
    small, large, _ = split
    graph = masked_cosine_graph(small, large)
    on_child = dict(zip(graph.children.tolist(), graph.on_child.tolist(), strict=True))
    on_parent = dict(zip(graph.children.tolist(), graph.on_parent.tolist(), strict=True))
    assert [on_child[child] for child in (0, 2, 4)] == pytest.approx([1, 1, 1], abs=1e-5)  # in proportion there
    assert on_parent[5] == pytest.approx(1, abs=1e-5)
    assert on_child[5] < 0.6 and on_parent[2] < 0.5
    assert graph.masked == pytest.approx(np.ones(4), abs=1e-5)


def test_every_number_is_the_cosine_over_the_tokens_of_one_of_the_two():
    draw = np.random.default_rng(2)
    grids = [np.where(draw.random((N, N_CTX)) < p, draw.exponential(1, (N, N_CTX)), 0) for p in (0.5, 0.3, 0.4, 0.6)]
    small, large = planted(*grids[:2]), planted(*grids[2:])
    graph = masked_cosine_graph(small, large, threshold=0.01, least=1)
    assert len(graph.parents) == 4
    for parent, child, on_child, on_parent in zip(
        graph.parents, graph.children, graph.on_child, graph.on_parent, strict=True
    ):
        one, other = small.dense(parent).ravel(), large.dense(child).ravel()
        assert on_child == pytest.approx(cosine(one, other, other > 0), abs=1e-5)
        assert on_parent == pytest.approx(cosine(one, other, one > 0), abs=1e-5)


def test_one_can_ask_about_some_parents_alone(split):
    small, large, _ = split
    whole, some = masked_cosine_graph(small, large), masked_cosine_graph(small, large, parents=[2, 0], rows=1)
    assert (some.parents.tolist(), some.children.tolist()) == ([2], [5])
    assert some.masked == pytest.approx(whole.masked[whole.parents == 2])
    assert len(masked_cosine_graph(small, large, parents=[]).parents) == 0


def test_pairs_that_share_too_few_tokens_have_no_edge(split):
    small, large, part = split
    shared = int((part[:, 1:] == 2).sum())  # of the parent and its smallest child
    graph = masked_cosine_graph(small, large, least=shared)
    assert graph.shared[graph.children == 2].tolist() == [shared]
    assert 2 not in masked_cosine_graph(small, large, least=shared + 1).children


def test_the_threshold_is_the_papers_and_can_be_another():
    grid = np.zeros((N, N_CTX))
    grid[:, 1:26] = 1
    child = np.zeros((2, N, N_CTX))
    child[0, :, 24:34] = 1  # two of its ten columns are the parent's: a cosine of √0.2, above 0.4
    child[1, :, 25:41] = 1  # one of sixteen: a cosine of 1/4
    small, large = planted(grid), planted(*child)
    assert masked_cosine_graph(small, large).children.tolist() == [0]
    assert masked_cosine_graph(small, large).masked == pytest.approx([np.sqrt(0.2)], abs=1e-5)
    assert masked_cosine_graph(small, large, threshold=0.2).children.tolist() == [0, 1]


def test_children_cover_what_they_were_given(split):
    small, large, part = split
    found = family(small, large, 1, [0, 2, 4])
    strength = small.dense(1)
    given = [float(strength[part == p].sum() / strength.sum()) for p in (1, 2, 0)]
    assert found.shares == pytest.approx(given, abs=1e-5)
    assert found.inside == pytest.approx([1, 1, 1])
    assert found.cover == pytest.approx(sum(given), abs=1e-5)
    assert 0.8 < found.cover < 0.95
    assert found.children[found.order].tolist() == [4, 0, 2]
    assert found.union == pytest.approx(np.cumsum([given[2], given[0], given[1]]), abs=1e-5)
    assert found.needed(given[2] + given[0] / 2) == 2 and found.needed(0.99) is None
    alone = found.among(found.children == 4)
    assert alone.children.tolist() == [4] and alone.cover == pytest.approx(given[2], abs=1e-5)


def test_what_a_child_does_elsewhere_counts_against_it_and_overlaps_count_once(split):
    small, large, _ = split
    outer = family(small, large, 2, [5])
    assert outer.cover == pytest.approx(1)  # the parent lies within the child …
    inner, whole = small.dense(2).sum(), large.dense(5).sum()
    assert outer.inside == pytest.approx([inner / whole], abs=1e-5)  # … and not the other way around
    twice = family(small, large, 1, [4, 4])
    assert twice.cover == pytest.approx(twice.shares[0])
    assert twice.union == pytest.approx([twice.cover] * 2)


def test_the_order_is_greedy_by_what_is_left_and_not_by_size():
    grid, first, second, third = np.zeros((4, N, N_CTX))
    grid[:, 1:11] = 1
    first[:, 1:7], second[:, 2:7], third[:, 7:10] = 1, 1, 1  # the second is larger than the third, and adds nothing
    found = family(planted(grid), planted(second, first, third), 0, [0, 1, 2])
    assert found.children[found.order].tolist() == [1, 2, 0]
    assert found.union == pytest.approx([0.6, 0.9, 0.9])
    assert found.needed(0.9) == 2


def test_a_family_without_children_covers_nothing(split):
    small, large, _ = split
    found = family(small, large, 1, [])
    assert (found.cover, found.union.tolist(), found.needed()) == (0, [], None)


def test_shuffled_activations_have_no_edges(split):
    small, large, _ = split
    assert len(masked_cosine_graph(small, shuffled(large), threshold=0.75).parents) == 0


def test_what_cannot_be_compared_is_refused(split):
    small, large, _ = split
    with pytest.raises(SaeCoreError, match="different texts"):
        masked_cosine_graph(small, planted(np.ones((N, N_CTX)), seed=5))
    with pytest.raises(SaeCoreError, match="different texts"):
        family(small, large.between(0, 5), 1, [0])
    with pytest.raises(SaeCoreError, match="have to be positive"):
        masked_cosine_graph(small, large, least=0)
    with pytest.raises(SaeCoreError, match="never fires"):
        family(small, large, 0, [1])


def test_top_tokens_go_by_activation_and_not_by_count():
    grid = np.zeros((N, N_CTX))
    evidence = planted(grid, grid)  # for its tokens
    rare, common = evidence.contexts.ids == 7, evidence.contexts.ids == 8
    grid = 9.0 * rare + 1.0 * (common | (evidence.contexts.ids == 9))
    evidence = planted(grid, 0 * grid, 1.0 * common)
    tokens, shares = top_tokens(evidence, VOCAB, n=4)
    mass = {token: float(grid[:, 1:][evidence.contexts.ids[:, 1:] == token].sum()) for token in (7, 8, 9)}
    expected = sorted(mass, key=lambda token: (-mass[token], token))
    assert tokens[0, :3].tolist() == expected and expected[0] == 7
    assert shares[0] == pytest.approx([*(mass[token] / sum(mass.values()) for token in expected), 0], abs=1e-5)
    assert shares[1].tolist() == [0, 0, 0, 0]
    assert (tokens[2, 0], shares[2].tolist()) == (8, [1, 0, 0, 0])
