"""Log-likelihood proxies: a score per token that says how much a text looks like one context, say Arabic script.

The paper judges a feature against a proxy rather than against labels (appendix "Feature Proxies"): the score of a token
is the largest log-likelihood ratio log P(s | context) - log P(s) over strings s that end at the token.

Where a context is an alphabet (DNA, base64) both probabilities are products and the maximum is a running sum. For a
script, Bayes turns the ratio into log P(context | s) - log P(context), and P(context | s) can be read off the
characters. Beside the scores stand exact marks: which tokens a regular expression matches.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Sequence

import numpy as np

from .errors import SaeCoreError

CodePoints = Sequence[tuple[int, int]]  # inclusive ranges

ARABIC: CodePoints = ((0x0600, 0x06FF), (0x0750, 0x077F))  # the blocks that the paper names
HEBREW: CodePoints = ((0x0590, 0x05FF),)
BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
DNA = b"ACGT"

# Runs of characters that hardly stand for anything else. base64 is told from words by digits and letters of both cases,
# and from hexadecimal by letters behind F. DNA is written in both cases, which the paper's alphabet does not know.
BASE64_RUN = re.compile(
    r"(?<![A-Za-z0-9+/])(?=[A-Za-z0-9+/]*[0-9])(?=[A-Za-z0-9+/]*[G-Z])(?=[A-Za-z0-9+/]*[g-z])[A-Za-z0-9+/]{24,}"
)
DNA_RUN = re.compile(r"[ACGTacgt]{8,}")

OUTSIDE = 1e-10  # of a character that does not belong (paper): its probability, or P(context | s) for a string with it
LONGEST = 4  # tokens in a string s of a script; a UTF-8 character has at most four bytes


def alphabet_ratio(ids: np.ndarray, token_bytes: list[bytes], alphabet: bytes) -> np.ndarray:
    """log P(token | alphabet) - log P(token) of each token by itself: [vocab].

    P(token | alphabet): each character of the alphabet has the same probability and any other byte 1e-10, the end of a
    document included. P(token) is its share of the text, ids [n_contexts, n_ctx]; one that never occurs counts as once.
    """
    counts = np.bincount(ids[:, 1:].ravel(), minlength=len(token_bytes))
    members = np.array([sum(byte in alphabet for byte in token) for token in token_bytes])
    others = np.array([len(token) or 1 for token in token_bytes]) - members
    inside = others * np.log(OUTSIDE) - members * np.log(len(alphabet))
    return inside - np.log(np.maximum(counts, 1) / counts.sum())


def alphabet_proxy(ids: np.ndarray, token_bytes: list[bytes], alphabet: bytes, at_least: int = 1) -> np.ndarray:
    """log P(s | alphabet) - log P(s), maximised over the strings s that end at each token: [n_contexts, n_ctx].

    Both are products over the tokens of s, so that their ratio is the sum of `alphabet_ratio`.

    at_least: the fewest tokens in a string (the paper asks for two where the context is DNA). A string that would have
        to begin before column 1 counts the beginning-of-sequence token as one character that does not belong.

    The best string that ends at a token is the token alone or behind the best one that ends before it, whichever is
    more: a running sum that starts anew whenever it falls below zero.
    """
    ratio = alphabet_ratio(ids, token_bytes, alphabet)[ids]
    ratio[:, 0] = np.log(OUTSIDE)
    best = ratio.copy()
    for column in range(1, ids.shape[1]):
        best[:, column] += np.maximum(best[:, column - 1], 0)
    for _ in range(at_least - 1):  # one more token at the end of strings that are long enough without it
        best[:, 1:] = ratio[:, 1:] + best[:, :-1]
    best[:, 0] = np.log(OUTSIDE)
    return best


def script_proxy(ids: np.ndarray, token_bytes: list[bytes], script: CodePoints) -> np.ndarray:
    """log P(script | s) - log P(script), maximised over the strings s that end at each token: [n_contexts, n_ctx].

    P(script | s) is 1 if every character of s is in the script and 1e-10 if any is not; spaces, digits and punctuation
    are not. Where s ends within a character, it is the share of its last token's occurrences that belong to a character
    of the script, if s is this token alone or begins with characters of the script. P(script) is the share of the
    tokens that touch the script. Column 0 scores lowest.

    A string begins where a character begins. The paper does not say so; without it the last byte of a Chinese character
    would score as possibly Arabic, because the byte alone occurs in both.
    """
    touched = touches_script(ids, token_bytes, script)
    prior = max(touched[:, 1:].mean(), 1 / touched.size)
    whole = np.array([_in_script(token, script) for token in token_bytes])  # 1 inside, 0 outside, nan incomplete
    probability = whole[ids]
    shares = occurrence_share(ids, touched, len(token_bytes))
    begins = np.array([not 0x80 <= (token or b" ")[0] < 0xC0 for token in token_bytes])  # not within a character
    row, column = np.nonzero(np.isnan(probability))
    # Each string of up to four tokens once: there are far fewer than places. In front of column 0 stands column 0.
    windows = ids[row[:, None], np.maximum(column[:, None] + np.arange(1 - LONGEST, 1), 0)]
    windows, place = np.unique(windows, axis=0, return_inverse=True)
    best = np.where(begins, shares, 0.0)[windows[:, -1]]
    for index, window in enumerate(windows):
        for first in np.flatnonzero(begins[window[:-1]]):  # longer strings, which may complete the character
            string = b"".join(token_bytes[token] for token in window[first:])
            value = _in_script(string, script)
            if np.isnan(value):
                value = shares[window[-1]] * (_in_script(_whole_characters(string), script) == 1)
            best[index] = max(best[index], value)
    probability[row, column] = best[place.reshape(-1)]
    probability[:, 0] = 0.0
    return np.log(np.maximum(probability, OUTSIDE)) - np.log(prior)


def touches_script(ids: np.ndarray, token_bytes: list[bytes], script: CodePoints) -> np.ndarray:
    """Which tokens hold a character of the script, or part of one: bool [n_contexts, n_ctx]."""
    return touches(ids, token_bytes, script_pattern(script))


def script_pattern(script: CodePoints) -> re.Pattern[str]:
    """The regular expression of a script's characters, in a row."""
    return re.compile("[" + "".join(f"{chr(low)}-{chr(high)}" for low, high in script) + "]+")


def any_of(strings: Iterable[str]) -> re.Pattern[str]:
    """The regular expression of a list of strings, the longer ones first.

    Raises SaeCoreError for an empty list, or an empty string, which is everywhere.
    """
    longest_first = sorted(strings, key=len, reverse=True)
    if not all(longest_first) or not longest_first:
        raise SaeCoreError("any_of: give at least one string, and none that is empty")
    return re.compile("|".join(map(re.escape, longest_first)))


def touches(ids: np.ndarray, token_bytes: list[bytes], pattern: re.Pattern[str]) -> np.ndarray:
    """Which tokens hold part of a match of a regular expression: bool [n_contexts, n_ctx].

    The bytes of each document, as far as a context holds it, are decoded as UTF-8; a byte belongs to a match if its
    character does. Column 0 and the ends of documents, token 0, belong to none.
    """
    lengths = np.array([len(token) for token in token_bytes])
    touched = np.zeros(ids.shape, bool)
    for row, tokens in enumerate(ids):
        bounds = [*np.flatnonzero(tokens == 0), len(tokens)]
        for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
            document = tokens[start + 1 : stop]
            text = b"".join([token_bytes[token] for token in document.tolist()])
            text = text.decode("utf-8", errors="surrogateescape")
            spans = [match.span() for match in pattern.finditer(text) if match.group()]
            if not spans:
                continue
            spans = _byte_offsets(text)[np.array(spans)]
            ends = lengths[document].cumsum()
            for first, last in np.searchsorted(ends, spans - [0, 1], side="right"):
                touched[row, start + 1 + first : start + 2 + last] = True
    return touched


def _byte_offsets(text: str) -> np.ndarray:
    """Where each character of a decoded text begins among its bytes, and where the last one ends: [characters + 1]."""
    if text.isascii():
        return np.arange(len(text) + 1)
    points = np.array([ord(character) for character in text])
    widths = 1 + (points > 0x7F).astype(int) + (points > 0x7FF) + (points > 0xFFFF)
    widths[(points >= 0xDC80) & (points <= 0xDCFF)] = 1  # a byte that is no character, as surrogateescape writes it
    return np.append(0, widths.cumsum())


def occurrence_share(ids: np.ndarray, inside: np.ndarray, vocab_size: int) -> np.ndarray:
    """For each token of the vocabulary, the share of its occurrences that lie inside: [vocab_size]; 0 if it has none.

    inside: bool, same shape as ids.
    """
    occurrences = np.bincount(ids.ravel(), minlength=vocab_size)
    return np.bincount(ids.ravel(), weights=inside.ravel(), minlength=vocab_size) / np.maximum(occurrences, 1)


def matched_share(texts: Iterable[bytes], pattern: re.Pattern[str]) -> float:
    """Share of the characters of some texts that a regular expression matches. Bytes that are no character count, too.

    Each text is searched on its own, so that no match reaches from one into the next.
    """
    strings = [text.decode("utf-8", errors="replace") for text in texts]
    matched = sum(end - start for text in strings for start, end in (m.span() for m in pattern.finditer(text)))
    return matched / max(sum(map(len, strings)), 1)


def _in_script(string: bytes, script: CodePoints) -> float:
    """1.0 if all characters are in the script, 0.0 if any is not, nan if the bytes are not whole characters."""
    try:
        text = string.decode()
    except UnicodeDecodeError:
        return float("nan")
    return float(bool(text) and all(_is_in(ord(character), script) for character in text))


def _whole_characters(string: bytes) -> bytes:
    """The string without the character that it ends within; empty where it is not UTF-8 up to there."""
    try:
        text, _ = codecs.utf_8_decode(string, "strict", False)
    except UnicodeDecodeError:
        return b""
    return text.encode()


def _is_in(code_point: int, script: CodePoints) -> bool:
    return any(low <= code_point <= high for low, high in script)
