"""Log-likelihood proxies: a score per token that says how much a text looks like one context, say Arabic script.

The paper judges a feature against a proxy rather than against labels (appendix "Feature Proxies"): the score of a token
is the largest log-likelihood ratio log P(s | context) - log P(s) over strings s that end at the token. For a script,
Bayes turns it into log P(context | s) - log P(context), and P(context | s) can be read off the characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

CodePoints = Sequence[tuple[int, int]]  # inclusive ranges

ARABIC: CodePoints = ((0x0600, 0x06FF), (0x0750, 0x077F))  # the blocks that the paper names
HEBREW: CodePoints = ((0x0590, 0x05FF),)

OUTSIDE = 1e-10  # P(context | s) where s holds a character of another script (paper)
LONGEST = 4  # tokens in a string s; a UTF-8 character has at most four bytes


def script_proxy(ids: np.ndarray, token_bytes: list[bytes], script: CodePoints) -> np.ndarray:
    """log P(script | s) - log P(script), maximised over the strings s that end at each token: [n_contexts, n_ctx].

    P(script | s) is 1 if every character of s is in the script and 1e-10 if any is not; spaces, digits and punctuation
    are not. For a token that ends within a character it is the share of the token's occurrences that belong to a
    character of the script. P(script) is the share of the tokens that touch the script. Column 0 scores lowest.

    A string begins where a character begins. The paper does not say so; without it the last byte of a Chinese character
    would score as possibly Arabic, because the byte alone occurs in both.
    """
    inside = touches_script(ids, token_bytes, script)
    prior = max(inside[:, 1:].mean(), 1 / inside.size)
    whole = np.array([_in_script(token, script) for token in token_bytes])  # 1 inside, 0 outside, nan incomplete
    probability = whole[ids]
    shares = occurrence_share(ids, inside, len(token_bytes))
    begins = np.array([not 0x80 <= (token or b" ")[0] < 0xC0 for token in token_bytes])  # not within a character
    for row, column in np.argwhere(np.isnan(probability)):
        token = ids[row, column]
        best = shares[token] if begins[token] else 0.0
        for length in range(2, min(LONGEST, column) + 1):  # longer strings, which may complete the character
            string = ids[row, column - length + 1 : column + 1]
            if begins[string[0]]:
                best = np.fmax(best, _in_script(b"".join(token_bytes[t] for t in string), script))
        probability[row, column] = best
    probability[:, 0] = 0.0
    return np.log(np.maximum(probability, OUTSIDE)) - np.log(prior)


def touches_script(ids: np.ndarray, token_bytes: list[bytes], script: CodePoints) -> np.ndarray:
    """Which tokens hold a character of the script, or part of one: bool [n_contexts, n_ctx].

    The bytes of each context are decoded as UTF-8; a byte belongs to the script if its character does.
    """
    touched = np.zeros(ids.shape, bool)
    holds_non_ascii = np.array([any(byte >= 0x80 for byte in token) for token in token_bytes])
    for row in np.flatnonzero(holds_non_ascii[ids].any(1)):
        tokens = [token_bytes[token] for token in ids[row]]
        owner = np.repeat(np.arange(len(tokens)), [len(token) for token in tokens])
        offset = 0
        for character in b"".join(tokens).decode("utf-8", errors="surrogateescape"):
            width = len(character.encode("utf-8", errors="surrogateescape"))
            if _is_in(ord(character), script):
                touched[row, owner[offset : offset + width]] = True
            offset += width
    return touched


def occurrence_share(ids: np.ndarray, inside: np.ndarray, vocab_size: int) -> np.ndarray:
    """For each token of the vocabulary, the share of its occurrences that lie inside: [vocab_size]; 0 if it has none.

    inside: bool, same shape as ids.
    """
    occurrences = np.bincount(ids.ravel(), minlength=vocab_size)
    return np.bincount(ids.ravel(), weights=inside.ravel(), minlength=vocab_size) / np.maximum(occurrences, 1)


def character_share(texts: Iterable[bytes], script: CodePoints) -> float:
    """Share of the characters of some texts that are in the script. Bytes that are no character count as outside it."""
    characters = "".join(text.decode("utf-8", errors="replace") for text in texts)
    return sum(_is_in(ord(character), script) for character in characters) / max(len(characters), 1)


def _in_script(string: bytes, script: CodePoints) -> float:
    """1.0 if all characters are in the script, 0.0 if any is not, nan if the bytes are not whole characters."""
    try:
        text = string.decode()
    except UnicodeDecodeError:
        return float("nan")
    return float(bool(text) and all(_is_in(ord(character), script) for character in text))


def _is_in(code_point: int, script: CodePoints) -> bool:
    return any(low <= code_point <= high for low, high in script)
