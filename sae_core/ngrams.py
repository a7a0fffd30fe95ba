"""Unigram and bigram language models: the baselines that say what a transformer's loss is worth."""

from __future__ import annotations

import numpy as np


def ngram_losses(train: np.ndarray, held_out: np.ndarray, vocab_size: int) -> dict[str, float]:
    """Held-out cross-entropy in nats per token of a unigram and of a bigram model counted on `train`.

    train, held_out: token ids [n_contexts, n_ctx]. Both score the tokens that `token_losses` scores, columns 1 onwards.
    The bigram backs off to the unigram with the weight that suits the held-out text best, which favours the baseline.
    """
    unigram = np.bincount(train[:, 1:].ravel(), minlength=vocab_size) + 1.0
    unigram /= unigram.sum()
    pairs = np.zeros(vocab_size * vocab_size, np.int32)
    for rows in np.array_split(train, max(1, len(train) // 20_000)):  # in parts: a bincount needs int64 copies
        pairs += np.bincount(_pair_index(rows, vocab_size), minlength=len(pairs)).astype(np.int32)
    pairs = pairs.reshape(vocab_size, vocab_size)
    first, second = held_out[:, :-1].ravel(), held_out[:, 1:].ravel()
    seen, total, backoff = pairs[first, second], pairs.sum(1)[first], unigram[second]
    bigram = min(
        float(-np.log((seen + strength * backoff) / (total + strength)).mean()) for strength in (1, 3, 10, 30, 100, 300)
    )
    return {"unigram": float(-np.log(backoff).mean()), "bigram": bigram}


def _pair_index(ids: np.ndarray, vocab_size: int) -> np.ndarray:
    return (ids[:, :-1].astype(np.int64) * vocab_size + ids[:, 1:]).ravel()
