"""Interpretability scores: the protocol draws what it says, and explanations of planted units find the planted rule."""

import numpy as np
import pytest
import torch

from sae_core import interpretability as module
from sae_core.errors import SaeCoreError
from sae_core.evidence import Evidence
from sae_core.interpretability import (
    KINDS,
    Windows,
    bootstrap_medians,
    interval_scores,
    is_single_token,
    logit_task,
    neurons_as_features,
    protocol,
    quantise,
    score,
    usable,
)
from sae_core.rule_explainer import (
    Condition,
    Explanation,
    Rule,
    explain,
    explain_logits,
    logit_accuracy,
    token_classes,
)
from sae_core.tokens import Contexts

WORDS = [f" {a}{b}{c}" for a in "bdfgklm" for b in "aeiou" for c in "nrt"]  # 105
NUMBERS = [str(n) for n in range(100, 160)]
GREEK = [a + b for a in "αβγδεζ" for b in "λμνξο"]
PIECES = [b""] + [token.encode() for token in [*WORDS, *NUMBERS, *GREEK]]
CLASSES = token_classes(PIECES)
FIRST_NUMBER, FIRST_GREEK = 1 + len(WORDS), 1 + len(WORDS) + len(NUMBERS)
N_CTX = 40


@pytest.fixture(scope="module")
def ids():
    """Words mostly, numbers and Greek here and there; 300 contexts."""
    draw = np.random.default_rng(0)
    chances = np.r_[0, np.full(len(WORDS), 6.0), np.full(len(NUMBERS), 1.0), np.full(len(GREEK), 1.0)]
    ids = draw.choice(len(PIECES), (300, N_CTX), p=chances / chances.sum()).astype(np.uint16)
    ids[:, 0] = 0
    return ids


def planted(ids, *activations) -> Evidence:
    """Evidence of units with given activations [n_contexts, n_ctx]."""
    grids = [np.where(np.arange(N_CTX) > 0, activation, 0).ravel() for activation in activations]
    places = [np.flatnonzero(grid) for grid in grids]
    contexts = Contexts(ids, np.zeros(ids.shape, np.uint8), ["made up"])
    values = np.concatenate([grid[place] for grid, place in zip(grids, places, strict=True)]).astype(np.float32)
    starts = np.cumsum([0, *map(len, places)])
    return Evidence(contexts, starts, np.concatenate(places).astype(np.int32), values)


def varied(marks, seed=1):
    """Activations between 0.05 and 5 where marks hold."""
    return marks * np.random.default_rng(seed).uniform(0.05, 5, marks.shape)


def after(marks):
    return np.pad(marks, ((0, 0), (1, 0)))[:, :-1]


# --- the protocol ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evidence(ids):
    return planted(ids, varied(ids >= FIRST_NUMBER), varied(ids == 7))


def test_windows_are_the_text_with_its_activations(evidence, ids):
    examples = protocol(evidence, 0)
    dense = evidence.dense(0)
    for windows in (examples.explain, examples.score):
        for tokens, activations, place in zip(windows.tokens, windows.activations, windows.places, strict=True):
            row, column = divmod(place, N_CTX)
            assert 5 <= column <= N_CTX - 5
            assert (tokens == ids[row, column - 4 : column + 5]).all()
            assert np.allclose(activations, dense[row, column - 4 : column + 5])
        assert (windows.levels == quantise(windows.activations, examples.largest)).all()


def test_numbers_of_windows_are_the_papers(ids):
    examples = protocol(planted(ids, varied((ids > 0) & (ids < 20))), 0)
    for windows, numbers in ((examples.explain, [10, 24, 5, 10]), (examples.score, [6, 24, 10, 20])):
        assert np.bincount(windows.kinds, minlength=4).tolist() == numbers
        assert len(set(windows.places.tolist())) == len(windows)


def test_halves_of_the_text_keep_explaining_and_scoring_apart(evidence):
    examples = protocol(evidence, 0)
    assert examples.explain.places.max() < 150 * N_CTX <= examples.score.places.min()


def test_each_kind_is_what_it_is_called(evidence, ids):
    examples = protocol(evidence, 0)
    places, values = evidence.of(0)
    there = values[(places < 150 * N_CTX) & (places % N_CTX > 4) & (places % N_CTX < N_CTX - 4)]
    top = examples.explain.of_kind("top")
    assert len(set((top.places // N_CTX).tolist())) == 10  # one of a context
    assert np.isclose(top.activations[:, 4].max(), there.max()) and top.activations[:, 4].min() > np.quantile(
        there, 0.98
    )
    tenths = np.ceil(12 * examples.explain.of_kind("interval").activations[:, 4] / examples.largest)
    assert np.bincount(tenths.astype(int)).tolist() == [0] + [2] * 12
    same = examples.explain.of_kind("same token").tokens[:, 4]
    assert set(same.tolist()) == set(top.tokens[:, 4].tolist())
    silent = examples.score.of_kind("random").activations == 0
    assert 0.5 < silent.mean() < 1  # the unit is active on an eighth of the text


def test_draws_depend_on_the_seed_alone(evidence):
    one, again, other = (protocol(evidence, 0, seed=seed) for seed in (1, 1, 2))
    assert (one.score.places == again.score.places).all()
    assert set(one.score.places.tolist()) != set(other.score.places.tolist())


def test_more_windows_for_the_intervals_leave_the_explanation_alone(evidence):
    one, more = protocol(evidence, 0), protocol(evidence, 0, score=(0, 10, 10, 5))
    assert (one.explain.places == more.explain.places).all()
    assert np.bincount(more.score.kinds, minlength=4).tolist() == [0, 120, 10, 5]


def test_units_that_fire_rarely_are_left_out(ids):
    everywhere, first_half, rare = ids > 0, ids > 0, np.zeros(ids.shape, bool)
    first_half = first_half & (np.arange(300) < 150)[:, None]
    rare[::10, 7] = True
    evidence = planted(ids, varied(everywhere), varied(first_half), varied(rare), 0.0 * ids)
    assert usable(evidence).tolist() == [0]
    with pytest.raises(SaeCoreError, match="unit 1 fires on 0 tokens of one half"):
        protocol(evidence, 1)
    with pytest.raises(SaeCoreError, match="fires on 15 tokens"):
        protocol(evidence, 2)


def test_quantise_in_tenths_of_the_maximum():
    assert quantise(np.array([0, 0.09, 0.1, 0.55, 0.99, 1.0]) * 3, 3.0).tolist() == [0, 0, 1, 5, 9, 9]


def test_score_is_a_rank_correlation_and_a_constant_scores_0():
    true = np.array([[0, 0, 3], [9, 1, 0]])
    assert score(true**2, true) == pytest.approx(1)
    assert score(-true, true) == pytest.approx(-1)
    assert score(np.ones_like(true), true) == 0


def test_single_token(ids):
    activation = varied(ids == 7) + varied(ids == 8, 2) * 0.01  # another token, far weaker
    mixed = varied((ids == 7) | (ids == 8))
    evidence = planted(ids, activation, mixed, 0.0 * ids)
    assert is_single_token(evidence, 0)
    assert not is_single_token(evidence, 1)
    assert not is_single_token(evidence, 2)  # silent


def test_neurons_as_features_read_and_write_neurons():
    sae = neurons_as_features(6, [4, 1])
    x = torch.tensor([[0.5, 2.0, 0.0, 1.0, 3.0, 0.0], [1.0, 0.0, 0.0, 1.0, 0.25, 0.0]])
    assert sae.encode(x).tolist() == [[3.0, 2.0], [0.25, 0.0]]
    assert sae.encode_sparse(x).to_dense().tolist() == [[3.0, 2.0], [0.25, 0.0]]
    assert sae.decode(torch.tensor([1.0, 2.0])).tolist() == [0.0, 2.0, 0.0, 0.0, 1.0, 0.0]


# --- rules ----------------------------------------------------------------------------------------------------------


def test_classes_name_what_they_hold():
    texts = [" The", "words", "ABC", "42", "x1", "\n", "  ", " (", "é", "привет", "_name", "ACGT", ".", ""]
    classes = token_classes([text.encode() for text in texts] + [b"\xd8"])

    def members(name):
        return {texts[i] if i < len(texts) else "byte" for i in np.flatnonzero(classes[name])}

    assert members("digits") == {"42"}
    assert members("Cyrillic") == {"привет"}
    assert members("a part of a character") == {"byte"}
    assert members("a space in front") == {" The", "  ", " ("}
    assert members("capitals") == {"ABC", "ACGT"}
    assert members("letters of DNA") == {"ACGT"}
    assert members("an opening bracket") == {" ("}
    assert members("an accented letter") == {"é"}
    assert members("the end of a document") == {""}
    assert "Thai" not in classes  # no token has it


def test_conditions_look_at_the_token_and_in_front_of_it():
    tokens = np.array([[5, 6, 5, 7, 7]])
    classes = {"five": np.arange(10) == 5}

    def holds(*condition):
        return Condition(*condition).holds(tokens, classes)[0].astype(int).tolist()

    assert holds(5, "here") == holds("five", "here") == [1, 0, 1, 0, 0]
    assert holds("five", "here", True) == [0, 1, 0, 1, 1]
    assert holds(5, "before") == [0, 1, 0, 1, 0]
    assert holds(5, "earlier") == [0, 1, 1, 1, 1]
    assert holds("five", "mostly") == [0, 1, 0, 1, 0]  # 1 of 1, 1 of 2, 2 of 3, 2 of 4


def test_the_first_rule_that_fits_decides():
    rules = (Rule((Condition(5, "here"), Condition(6, "before")), 8), Rule((Condition(5, "here"),), 3))
    explanation = Explanation(rules, 1, {})
    assert explanation.simulate(np.array([[5, 6, 5, 7]])).tolist() == [[3, 1, 8, 1]]
    pieces = [b"?"] * 5 + [b" five", b"six\n"]
    assert explanation.text(pieces) == [
        "8 if the token is ‘ five’ and the token in front is ‘six⏎’",
        "3 if the token is ‘ five’",
        "1 otherwise",
    ]


PLANTED = {
    "one token": lambda ids: ids == 7,
    "two tokens": lambda ids: (ids == 7) | (ids == 30),
    "a class of tokens": lambda ids: ids >= FIRST_GREEK,
    "a token after a class": lambda ids: (ids < FIRST_NUMBER) & after(ids >= FIRST_GREEK),
    "after a token": lambda ids: after(ids == 9),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_rules_are_found(name, ids):
    marks = PLANTED[name](ids)
    evidence = planted(ids, 5.0 * marks)
    examples = protocol(evidence, 0)
    explanation = explain(examples.explain, CLASSES)
    expected = explanation.simulate(examples.score.tokens)
    seen = np.pad(np.ones((len(expected), 8)), ((0, 0), (1, 0))).astype(bool)  # what is before a window, nobody knows
    assert score(expected[seen], examples.score.levels[seen]) > 0.85
    on_the_text = explanation.simulate(ids[:, 1:].astype(int)) >= 5
    assert (on_the_text == marks[:, 1:]).mean() > 0.99


def test_a_class_rule_holds_for_tokens_that_were_not_among_the_examples(ids):
    evidence = planted(ids, 5.0 * (ids >= FIRST_GREEK))
    examples = protocol(evidence, 0, explain=(2, 1, 5, 0))
    unseen = sorted(set(range(FIRST_GREEK, len(PIECES))) - set(examples.explain.tokens.ravel().tolist()))
    assert len(unseen) > 10
    assert (explain(examples.explain, CLASSES).simulate(np.array([unseen])) >= 5).all()


def test_levels_follow_strength(ids):
    """One token drives the unit twice as hard as the other."""
    evidence = planted(ids, 10.0 * (ids == 7) + 5.0 * (ids == 30))
    explanation = explain(protocol(evidence, 0).explain, CLASSES)
    strong, weak, off = explanation.simulate(np.array([[7, 30, 11]]))[0]
    assert strong >= 8 and 4 <= weak <= 6 and off == 0


def test_noise_is_not_explained(ids):
    noise = np.random.default_rng(3).uniform(size=ids.shape) < 0.1
    evidence = planted(ids, *[varied(np.roll(noise, shift, 0)) for shift in range(12)])
    scores = []
    for unit in range(12):
        examples = protocol(evidence, unit)
        scores.append(score(explain(examples.explain, CLASSES).simulate(examples.score.tokens), examples.score.levels))
    assert abs(np.mean(scores)) < 0.1


def test_every_condition_of_a_rule_matters(ids):
    """A condition that holds wherever the other one does is noise in an explanation: "digits and not Greek"."""
    marks = [PLANTED["two tokens"](ids), PLANTED["a class of tokens"](ids), PLANTED["a token after a class"](ids)]
    evidence = planted(ids, *[varied(mark, seed) for mark in marks for seed in range(5)])
    for unit in range(evidence.n_features):
        windows = protocol(evidence, unit).explain
        explanation = explain(windows, CLASSES)
        assert explanation.rules
        for rule in explanation.rules:
            fits = [condition.holds(windows.tokens, CLASSES) for condition in rule.conditions]
            assert all(fits[0].sum() > (fits[0] & other).sum() for other in fits[1:])


def test_a_constant_unit_needs_no_rule():
    windows = Windows(*(np.zeros((4, 9), int) for _ in range(3)), np.zeros(4, int), np.arange(4))
    assert explain(windows, CLASSES).rules == ()


def test_scores_by_interval_rise_where_only_the_top_is_consistent(ids):
    """Strong activations belong to one token; the weak ones fall anywhere."""
    draw = np.random.default_rng(4)
    anywhere = (draw.uniform(size=ids.shape) < 0.1) * draw.uniform(0.1, 2.5, ids.shape)
    activation = np.where(ids == 7, draw.uniform(2.5, 5, ids.shape), anywhere)
    examples = protocol(planted(ids, activation), 0, score=(0, 10, 20, 20))
    expected = explain(examples.explain, CLASSES).simulate(examples.score.tokens)
    scores = interval_scores(expected, examples.score, examples.largest)
    assert (scores[7:] > 0.95).all() and np.abs(scores[:5] - 0.5).max() < 0.25
    few = interval_scores(expected, examples.score, examples.largest, at_least=11)
    assert np.isnan(few).all()


# --- logits ---------------------------------------------------------------------------------------------------------


def test_logit_task_asks_half_from_ranks_10_to_59():
    weights, counts = np.random.default_rng(0).normal(size=400), np.full(400, 9)
    counts[weights.argmax()] = 4  # rare: not asked about, and no rank
    task = logit_task(weights, counts, seed=1)
    order = [token for token in np.argsort(-weights) if counts[token] >= 5]
    assert task.shown.tolist() == order[:10]
    assert set(task.asked[task.promoted].tolist()) == set(order[10:60])
    rest = task.asked[~task.promoted].tolist()
    assert len(set(rest)) == 50 and not set(rest) & set(order[:60])
    assert not set(task.others.tolist()) & set(task.asked.tolist())
    with pytest.raises(SaeCoreError, match="209 tokens occur"):
        logit_task(weights, np.where(np.arange(400) < 209, 9, 0))


def test_a_unit_that_promotes_a_class_is_guessed_and_noise_is_not():
    draw = np.random.default_rng(0)
    pieces = [b""] + [f" {a}{b}".encode() for a in "abcdefghij" for b in "abcdefghijklmnopqrst"]
    pieces += [str(n).encode() for n in range(100)]
    classes, counts = token_classes(pieces), np.full(len(pieces), 9)

    def accuracy(weights, seed):
        task = logit_task(weights, counts, seed)
        return logit_accuracy(explain_logits(task, classes), task)

    numbers = classes["digits"]
    assert (
        accuracy(5.0 * numbers + draw.uniform(size=len(pieces)), 0) > 0.85
    )  # some of the random ones are numbers, too
    by_chance = [accuracy(draw.normal(size=len(pieces)), seed) for seed in range(40)]
    assert 0.45 < np.mean(by_chance) < 0.55


def test_what_follows_in_the_windows_informs_the_logit_task():
    """The ten top tokens are of no common kind; what follows an activation is a number."""
    pieces = [b""] + [f" {a}{b}".encode() for a in "abcdefghij" for b in "abcdefghijklmnopqrst"]
    pieces += [str(n).encode() for n in range(100)]
    classes, counts = token_classes(pieces), np.full(len(pieces), 9)
    numbers = np.flatnonzero(classes["digits"])
    weights = np.zeros(len(pieces))
    weights[numbers[:50]] = 1 + np.random.default_rng(0).uniform(size=50)
    weights[1:11] = 3
    task = logit_task(weights, counts)
    tokens, levels = np.full((30, 9), 20), np.zeros((30, 9), int)
    levels[:, 4], tokens[:, 5] = 9, numbers[50:80]
    windows = Windows(tokens, levels.astype(float), levels, np.zeros(30, int), np.arange(30))
    without, with_windows = explain_logits(task, classes), explain_logits(task, classes, windows)
    assert logit_accuracy(without, task) < 0.6 < 0.7 < logit_accuracy(with_windows, task)


def test_bootstrap_medians_are_centred_and_shrink_with_n():
    draw = np.random.default_rng(0)
    few, many = draw.normal(2, 1, 25), draw.normal(2, 1, 2500)
    assert abs(bootstrap_medians(many).mean() - 2) < 0.1
    assert bootstrap_medians(few).std() > 5 * bootstrap_medians(many).std()
    assert (bootstrap_medians(few) == bootstrap_medians(few)).all()


def test_kinds_are_in_the_order_of_the_numbers():
    assert KINDS == ("top", "interval", "random", "same token")
    assert len(module.EXPLAIN) == len(module.SCORE) == len(KINDS)
