"""Proxies: scores of lines whose every probability can be worked out by hand."""

import numpy as np
import pytest

from sae_core.proxies import ARABIC, HEBREW, OUTSIDE, character_share, occurrence_share, script_proxy, touches_script

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


def test_character_share_counts_characters_not_bytes():
    assert character_share(["مم a".encode(), "م".encode()], ARABIC) == 3 / 5
    assert character_share(["م".encode() + b"\xd8"], ARABIC) == 1 / 2  # the lone byte is a character outside
    assert character_share([], ARABIC) == 0
