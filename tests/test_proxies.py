"""Proxies: scores of lines whose every probability can be worked out by hand."""

import re
from base64 import b64encode

import numpy as np
import pytest

from sae_core.errors import SaeCoreError
from sae_core.proxies import (
    ARABIC,
    BASE64,
    BASE64_RUN,
    DNA,
    DNA_RUN,
    HEBREW,
    OUTSIDE,
    alphabet_proxy,
    alphabet_ratio,
    any_of,
    matched_share,
    occurrence_share,
    script_pattern,
    script_proxy,
    touches,
    touches_script,
)

# A vocabulary of bytes: two Arabic letters whole, the pieces of Arabic and of Armenian ones, and other characters.
TOKENS = {
    "end": b"",
    "a": b"a",
    "space": b" ",
    "meem": "م".encode(),
    "meem meem": "مم".encode(),
    " meem": " م".encode(),
    "D8": b"\xd8",  # lead byte of Arabic letters
    "D5": b"\xd5",  # lead byte of Armenian letters
    "A7": b"\xa7",  # second byte: after D8 it is alef, after D5 an Armenian letter
    "alef": "ا".encode(),
    "he": "ה".encode(),
    "E0": b"\xe0",  # first byte of a three-byte character, here DEVANAGARI LETTER A, E0 A4 85
    "A4": b"\xa4",
    "85": b"\x85",
    "A7 D8": b"\xa7\xd8",  # the end of a letter and the beginning of the next
}
NAMES, BYTES = list(TOKENS), list(TOKENS.values())


def contexts(*rows):
    """Rows of token names as ids, behind the beginning-of-sequence token."""
    return np.array([[0, *(NAMES.index(name) for name in row)] for row in rows], np.uint16)


def proxy(*rows, script=ARABIC):
    return script_proxy(contexts(*rows), BYTES, script)


def test_whole_characters_score_1_or_1e_minus_10_against_the_share_of_the_script():
    scores = proxy(["meem", "a", "space", "meem meem"], ["a", "he", "a", " meem"])
    inside, outside = -np.log(3 / 8), np.log(OUTSIDE) - np.log(3 / 8)  # meem, meem meem and " meem" touch the script
    np.testing.assert_allclose(scores[0, 1:], [inside, outside, outside, inside])
    np.testing.assert_allclose(scores[1, 1:], [outside] * 4)  # " meem" holds a space, which is outside


def test_another_script_is_another_context():
    assert (proxy(["meem", "a", "he"], script=HEBREW)[0, 1:] > 0).tolist() == [False, False, True]


def test_part_of_a_character_scores_by_its_share_unless_a_longer_string_completes_it():
    scores = proxy(["D8", "A7", "D5", "A7"], ["D5", "A7", "a", "a"])
    prior = np.log(2 / 8)  # D8 A7 is alef: two tokens of eight touch the script
    assert scores[0, 1] == pytest.approx(np.log(1) - prior)  # every D8 is part of an Arabic letter
    assert scores[0, 2] == pytest.approx(np.log(1) - prior)  # a third of all A7, but with D8 before it alef
    assert scores[0, 3] == pytest.approx(np.log(OUTSIDE) - prior)
    assert scores[0, 4] == pytest.approx(np.log(OUTSIDE) - prior)  # the same byte completes a Hebrew letter


def test_a_string_begins_where_a_character_begins_and_never_before_column_1():
    scores = proxy(["A7", "a", "meem", "D8", "A7"])
    prior = np.log(3 / 5)
    assert scores[0, 1] == pytest.approx(np.log(OUTSIDE) - prior)  # what it continues was cut off with the context
    assert scores[0, 5] == pytest.approx(-prior)


def test_a_first_byte_scores_by_the_share_of_its_characters_that_are_in_the_script():
    scores = proxy(["D8", "A7", "D8", "a", "D5", "A7"])
    assert scores[0, 1] == scores[0, 3] == pytest.approx(np.log(1 / 2) - np.log(2 / 6))
    assert scores[0, 5] == pytest.approx(np.log(OUTSIDE) - np.log(2 / 6))


def test_a_token_that_ends_one_letter_and_begins_the_next_counts_if_the_letter_is_in_the_script():
    scores = proxy(["D8", "A7 D8", "A7", "a", "D5", "A7 D8", "a", "A7 D8", "A7"])
    prior = np.log(5 / 9)  # D8, A7 D8, A7, and behind the broken letters A7 D8 once more with the A7 that completes it
    assert scores[0, 2] == pytest.approx(np.log(2 / 3) - prior)  # two of three A7 D8 are in an Arabic letter
    assert scores[0, 6] == pytest.approx(np.log(OUTSIDE) - prior)  # behind D5 it ended an Armenian letter
    assert scores[0, 8] == pytest.approx(np.log(OUTSIDE) - prior)  # what it ended is not known


def test_column_0_scores_lowest():
    scores = proxy(["meem"] * 3)
    assert scores[0, 0] == pytest.approx(np.log(OUTSIDE)) and scores[0, 0] < scores[0, 1:].min()


def test_text_without_the_script_never_scores_above_0():
    assert proxy(["a", "D5", "A7", "he"]).max() < 0


def test_a_token_touches_the_script_if_any_of_its_bytes_belongs_to_a_character_of_it():
    touched = touches_script(contexts(["a", " meem", "D8", "A7", "D5", "A7"]), BYTES, ARABIC)
    assert touched.tolist() == [[False, False, True, True, True, False, False]]


def test_bytes_that_complete_no_character_touch_nothing():
    rows = contexts(["D8", "a", "A7", "D8"], ["E0", "A4", "85", "a"])
    assert not touches_script(rows, BYTES, ARABIC).any()
    assert touches_script(rows, BYTES, [(0x905, 0x905)])[1].tolist() == [False, True, True, True, False]


def test_blocks_are_inclusive_ranges():
    for code_point, inside in [(0x05FF, False), (0x0600, True), (0x06FF, True), (0x0700, False), (0x0750, True)]:
        ids = np.array([[0, 1]])
        assert touches_script(ids, [b"", chr(code_point).encode()], ARABIC)[0, 1] == inside


def test_occurrence_share():
    ids, inside = np.array([[1, 1, 2], [1, 1, 3]]), np.array([[1, 0, 0], [0, 0, 1]], bool)
    assert occurrence_share(ids, inside, 5).tolist() == [0, 0.25, 0, 1, 0]


def test_a_share_of_text_counts_characters_not_bytes():
    arabic = script_pattern(ARABIC)
    assert matched_share(["مم a".encode(), "م".encode()], arabic) == 3 / 5
    assert matched_share(["م".encode() + b"\xd8"], arabic) == 1 / 2  # the lone byte is a character outside
    assert matched_share([], arabic) == 0
    assert matched_share([b"ab", b"ab"], re.compile("ba")) == 0  # no match from one text into the next


# --- alphabets and regular expressions ------------------------------------------------------------------------------

AB = [b"", b"A", b"CG", b"x", b"ACx", b" "]  # under the alphabet ACGT


def ab(*rows):
    return np.array([[0, *row] for row in rows], np.uint16)


def ratio(n_inside, n_outside, share):
    return -n_inside * np.log(4) + n_outside * np.log(OUTSIDE) - np.log(share)


def test_a_token_scores_by_its_characters_against_its_share_of_the_text():
    text = ab([1, 2, 3, 4], [1, 1, 5, 0])
    expected = [ratio(0, 1, 1 / 8), ratio(1, 0, 3 / 8), ratio(2, 0, 1 / 8), ratio(0, 1, 1 / 8), ratio(2, 1, 1 / 8)]
    np.testing.assert_allclose(alphabet_ratio(text, AB, DNA)[:5], expected)
    assert alphabet_ratio(ab([1, 1, 1, 1]), AB, DNA)[2] == pytest.approx(ratio(2, 0, 1 / 4))  # never seen: as if once


def best_string(ratios, row, column, at_least):
    """The maximum over all strings, one by one."""
    strings = [ratios[row, first : column + 1].sum() for first in range(column + 2 - at_least)]
    return max(strings)


@pytest.mark.parametrize("at_least", [1, 2, 3])
def test_the_score_is_the_maximum_over_all_strings_that_end_at_the_token(at_least):
    ids = np.random.default_rng(0).integers(1, 6, (20, 12))
    ids[:, 0] = 0
    score = alphabet_proxy(ids, AB, DNA, at_least)
    ratios = alphabet_ratio(ids, AB, DNA)[ids]
    ratios[:, 0] = np.log(OUTSIDE)
    for row, column in np.ndindex(20, 11):
        if column + 2 >= at_least:
            assert score[row, column + 1] == pytest.approx(best_string(ratios, row, column + 1, at_least))
    assert (score[:, 0] == np.log(OUTSIDE)).all()


def test_evidence_adds_up_along_a_sequence_and_ends_with_it():
    rare = ab([2, 2, 2, 3, 2], *[[5, 5, 5, 5, 5]] * 50)
    one = ratio(2, 0, 4 / 255)
    np.testing.assert_allclose(alphabet_proxy(rare, AB, DNA)[0, 1:4], [one, 2 * one, 3 * one])
    assert alphabet_proxy(rare, AB, DNA)[0, 5] == pytest.approx(one)  # anew, behind the x
    assert alphabet_proxy(rare, AB, DNA, 2)[0, 5] < 0  # at least two tokens: the x is one of them
    assert alphabet_proxy(rare, AB, DNA, 2)[0, 1] < 0 < alphabet_proxy(rare, AB, DNA, 2)[0, 2]


def test_base64_has_64_characters():
    assert len(set(BASE64)) == 64 and set(b64encode(bytes(range(256)) * 9)) == {*BASE64}


def test_tokens_touch_a_match_if_one_of_their_characters_is_in_it():
    pieces = [b"", b"ab", b"c1", b"2", "é".encode()[:1], "é".encode()[1:], b"3"]
    ids = ab([1, 2, 3, 1, 0, 6], [4, 5, 1, 4, 1, 3])
    assert touches(ids, pieces, re.compile(r"\d+"))[0].tolist() == [0, 0, 1, 1, 0, 0, 1]
    assert touches(ids, pieces, re.compile("éa"))[1].tolist() == [0, 1, 1, 1, 0, 0, 0]
    assert touches(ids, pieces, re.compile(r"(?m)^3"))[0].tolist() == [0] * 6 + [1]  # a document ends its line
    assert not touches(ids, pieces, re.compile(r"b\s*3")).sum(), "a match must not tie two documents together"


def test_runs_tell_base64_from_hexadecimal_words_and_paths():
    noise = b64encode(bytes(range(1, 250, 7)))
    for text, matched in {
        b"data:" + noise: True,
        b"0123456789abcdef" * 4: False,
        b"0123456789ABCDEF" * 4: False,
        b"/usr/local/share/dictionaries/words": False,
        b"supercalifragilisticexpialidocious": False,
        b"CABAFE12345678900uuid4uuid4uuid4": False,  # no capital behind F
        noise[:20]: False,
    }.items():
        assert (matched_share([text], BASE64_RUN) > 0.8) == matched, text


def test_dna_is_told_from_words_by_its_length():
    assert matched_share([b"ACGTACGTAC", b"acgtACGTNN"], DNA_RUN) == 18 / 20
    assert matched_share([b"ACT, CAT and TAG attacca"], DNA_RUN) == 0


def test_a_list_of_strings_as_a_regular_expression():
    assert any_of(["a.b", "a.bc"]).findall("a.bc axb a.b") == ["a.bc", "a.b"]
    for none in ([], ["a", ""]):
        with pytest.raises(SaeCoreError, match="at least one string"):
            any_of(none)
