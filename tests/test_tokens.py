"""Tokens: text survives the tokeniser byte for byte, and contexts are the text and nothing but the text."""

import itertools
from collections import Counter

import numpy as np
import pytest

from sae_core import tokens
from sae_core.corpus import Document, open_corpus
from sae_core.errors import SaeCoreError
from sae_core.tokens import END_OF_TEXT, load_contexts, load_tokenizer, pack, token_bytes, train_tokenizer

TEXTS = [
    "the river sings",
    "  two  spaces,\ttabs\r\nand\n\nlines ",
    "naïve café — “quotes” €",
    "שלום עולם مرحبا بالعالم नमस्ते 你好 🙂👩‍👩‍👧",
    "NUL\x00 and other control characters \x1b\x7f\x85\u2028\ufeff",
    "e\u0301 is not \u00e9",
    f"a text that says {END_OF_TEXT} in the middle",
    END_OF_TEXT,
]


@pytest.fixture
def documents(small_text):
    return list(open_corpus(small_text).documents())


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_comes_back_byte_for_byte(text, tokenizer):
    ids = tokenizer.encode(text).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert b"".join(token_bytes(tokenizer)[i] for i in ids) == text.encode()


def test_text_that_spells_the_special_token_does_not_become_it(tokenizer, tmp_path):
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    for each in (tokenizer, load_tokenizer(tmp_path / "tokenizer.json")):
        assert 0 not in each.encode(f"before{END_OF_TEXT}after").ids
        assert [e.ids.count(0) for e in each.encode_batch_fast([END_OF_TEXT])] == [0]


def test_the_end_of_text_token_has_id_0_and_every_byte_has_a_token(tokenizer):
    assert tokenizer.token_to_id(END_OF_TEXT) == 0
    assert {bytes([byte]) for byte in range(256)} <= set(token_bytes(tokenizer))


def test_the_vocabulary_has_the_size_that_was_asked_for(tokenizer):
    assert tokenizer.get_vocab_size() == 320 == len(set(token_bytes(tokenizer)))


@pytest.mark.parametrize("size", [256, 65_537])
def test_a_vocabulary_that_cannot_be_is_refused(size):
    with pytest.raises(SaeCoreError, match=f"vocab_size {size}"):
        train_tokenizer([], size)


def test_contexts_are_the_joined_documents_cut_into_rows_behind_one_more_token(documents, tokenizer):
    contexts = pack(documents, tokenizer, n_ctx=32)
    stream = np.concatenate([[*tokenizer.encode(document.text).ids, 0] for document in documents])
    n_contexts = len(stream) // 31
    expected = stream[: n_contexts * 31].reshape(n_contexts, 31)
    assert contexts.ids.dtype == np.uint16 and contexts.ids.shape == (n_contexts, 32)
    assert (contexts.ids[:, 0] == 0).all()
    assert Counter(map(tuple, contexts.ids[:, 1:])) == Counter(map(tuple, expected))


def test_contexts_are_in_an_order_that_the_seed_decides(documents, tokenizer):
    one, same, other = (pack(documents, tokenizer, n_ctx=32, seed=seed) for seed in (1, 1, 2))
    assert (one.ids == same.ids).all() and (one.slices == same.slices).all()
    assert (one.ids != other.ids).any()
    words_first = one.slice_names.index("words") == 0 and (np.diff(one.slices[:, 1].astype(int)) >= 0).all()
    assert not words_first  # the slices, which come one after the other, are mixed


def test_every_token_carries_the_slice_of_its_document(documents, tokenizer):
    contexts = pack(documents, tokenizer, n_ctx=32)
    assert set(contexts.slice_names) == {"words", "digits"}
    is_letter = np.array([token.strip().isalpha() for token in token_bytes(tokenizer)])
    is_digit = np.array([token.strip().isdigit() for token in token_bytes(tokenizer)])
    ids, slices = contexts.ids[:, 1:], contexts.slices[:, 1:]
    assert (slices[is_letter[ids]] == contexts.slice_names.index("words")).all()
    assert (slices[is_digit[ids]] == contexts.slice_names.index("digits")).all()
    assert (contexts.slices[:, 0] == contexts.slices[:, 1]).all()


def test_max_tokens_ends_an_endless_stream(tokenizer):
    endless = itertools.repeat(Document("the river sings again and again", "words"))
    assert len(pack(endless, tokenizer, n_ctx=32, max_tokens=200).ids) == 200 // 31


def test_too_little_text_for_one_context_is_refused(tokenizer):
    with pytest.raises(SaeCoreError, match="too few for one context of 32"):
        pack([Document("the river", "words")], tokenizer, n_ctx=32)


def test_head_takes_the_first_contexts(documents, tokenizer):
    contexts = pack(documents, tokenizer, n_ctx=32)
    assert (contexts.head(5).ids == contexts.ids[:5]).all() and len(contexts.head(5).slices) == 5


def test_load_contexts_equals_pack_and_the_second_time_comes_from_the_cache(small_text, tokenizer, monkeypatch):
    mixture = [(small_text, None), (small_text, {"digits": 0.5})]
    text = [*open_corpus(small_text).documents("train"), *open_corpus(small_text).documents("train", {"digits": 0.5})]
    expected = pack(text, tokenizer, n_ctx=16, seed=3)
    for _ in range(2):
        loaded = load_contexts(mixture, "train", tokenizer, n_ctx=16, seed=3)
        assert isinstance(loaded.ids, np.memmap)
        assert (loaded.ids == expected.ids).all() and (loaded.slices == expected.slices).all()
        assert loaded.slice_names == expected.slice_names
        monkeypatch.setattr(tokens, "pack", lambda *_: pytest.fail("packed again"))


def test_the_cache_tells_splits_lengths_weights_and_seeds_apart(small_text, tokenizer):
    everything = [(small_text, None)]
    loaded = [
        load_contexts(everything, "train", tokenizer, 16),
        load_contexts(everything, "validation", tokenizer, 16),
        load_contexts(everything, "train", tokenizer, 24),
        load_contexts([(small_text, {"words": 1.0})], "train", tokenizer, 16),
        load_contexts(everything, "train", tokenizer, 16, seed=1),
    ]
    assert len({contexts.ids.tobytes() for contexts in loaded}) == len(loaded)
