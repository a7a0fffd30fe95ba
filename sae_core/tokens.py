"""Tokens: a byte-level BPE tokeniser, and text packed into contexts of equal length.

Documents are joined by the token ``<|endoftext|>`` (id 0) and the stream is cut into contexts. Each context begins with
one more ``<|endoftext|>``, which serves as the beginning-of-sequence token that TransformerLens prepends by default.
There is no padding. Position 0 therefore holds the same token with the same activations in every context, which is why
the rest of the package leaves it out of training and of every statistic.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .corpus import Document, open_corpus
from .errors import SaeCoreError
from .files import cache_folder, write_atomically

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END_OF_TEXT = "<|endoftext|>"  # id 0 in every tokeniser made here


class Contexts(NamedTuple):
    """Tokenised text. Column 0 of every row is the beginning-of-sequence token."""

    ids: np.ndarray  # [n_contexts, n_ctx], uint16
    slices: np.ndarray  # [n_contexts, n_ctx], uint8: index into slice_names of the document that each token is from
    slice_names: list[str]

    def head(self, n_contexts: int) -> Contexts:
        """The first contexts; they are a fair sample, for the rows are stored in a shuffled order."""
        return self.take(slice(n_contexts))

    def take(self, rows: np.ndarray | slice) -> Contexts:
        """Some of the contexts."""
        return Contexts(self.ids[rows], self.slices[rows], self.slice_names)


def train_tokenizer(documents: Iterable[Document], vocab_size: int) -> Tokenizer:
    """A byte-level BPE with GPT-2's way of splitting text into words; any text can be encoded and decoded exactly."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    if not 257 <= vocab_size <= 65_536:
        raise SaeCoreError(f"vocab_size {vocab_size}: must lie between 257 (the bytes and {END_OF_TEXT}) and 65,536")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((document.text for document in documents), trainer)
    # A document that happens to contain the text "<|endoftext|>" must not produce the token.
    tokenizer.encode_special_tokens = True
    return tokenizer


def load_tokenizer(path) -> Tokenizer:
    """Open a tokenizer.json."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.encode_special_tokens = True
    return tokenizer


def token_bytes(tokenizer: Tokenizer) -> list[bytes]:
    """The bytes that each token stands for. Tokens may hold part of a character, so bytes, not text, are exact."""
    from tokenizers.pre_tokenizers import ByteLevel

    # GPT-2's printable stand-ins for bytes: printable Latin-1 stands for itself, the others are shifted to 256 and up.
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    byte_of = {chr(byte): byte for byte in printable}
    byte_of |= {chr(256 + n): byte for n, byte in enumerate(sorted(set(range(256)) - set(printable)))}
    assert set(ByteLevel.alphabet()) == set(byte_of)
    tokens = [tokenizer.id_to_token(index) for index in range(tokenizer.get_vocab_size())]
    return [b"" if token == END_OF_TEXT else bytes(byte_of[character] for character in token) for token in tokens]


def pack(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    n_ctx: int = 256,
    max_tokens: int | None = None,
    seed: int = 0,
    name: str = "the text",
) -> Contexts:
    """Encode documents and pack them into contexts, in an order shuffled by `seed`; an incomplete last one is dropped.

    name: of the text, for errors.
    max_tokens: stop reading once there are that many, for endless streams. It takes what comes first; for a fair sample
        of a corpus in slices use the mixture's weights or `Contexts.head`.
    Raises SaeCoreError where the text does not fill a single context.
    """
    body = n_ctx - 1
    slice_names: dict[str, int] = {}
    ids, slices, n_tokens = [], [], 0
    documents = iter(documents)
    while batch := list(itertools.islice(documents, 512)):
        for document, encoding in zip(batch, tokenizer.encode_batch_fast([d.text for d in batch]), strict=True):
            tokens = np.array([*encoding.ids, 0], dtype=np.uint16)
            ids.append(tokens)
            index = slice_names.setdefault(document.slice, len(slice_names))
            slices.append(np.full(len(tokens), index % 256, np.uint8))
            n_tokens += len(tokens)
        if max_tokens and n_tokens >= max_tokens:
            break
    if len(slice_names) > 256:
        raise SaeCoreError(f"the text has {len(slice_names)} slices, and at most 256 can be told apart: join some")
    n_contexts = min(n_tokens, max_tokens or n_tokens) // body
    if n_contexts == 0:
        raise SaeCoreError(f"{name} has {n_tokens} tokens, too few for one context of {n_ctx}: use more text")
    order = np.random.default_rng(seed).permutation(n_contexts)
    packed_ids = np.zeros((n_contexts, n_ctx), np.uint16)
    packed_ids[:, 1:] = np.concatenate(ids)[: n_contexts * body].reshape(n_contexts, body)[order]
    packed_slices = np.empty((n_contexts, n_ctx), np.uint8)
    packed_slices[:, 1:] = np.concatenate(slices)[: n_contexts * body].reshape(n_contexts, body)[order]
    packed_slices[:, 0] = packed_slices[:, 1]
    return Contexts(packed_ids, packed_slices, list(slice_names))


Mixture = Sequence[tuple[str, Mapping[str, float] | None]]  # (name of a corpus, share of each slice) pairs


def mixture_documents(mixture: Mixture, split: str, max_tokens: int | None = None) -> Iterator[Document]:
    """The documents of several corpora, one after the other.

    max_tokens: end once they are enough for so many tokens of up to 8 characters.

    Raises SaeCoreError where a stream would be read without such a limit.
    """
    for name, _ in mixture:
        if str(name).startswith("hf:") and not max_tokens:
            how = "train --max-tokens N, pretrain --set max_tokens=N"
            raise SaeCoreError(f"{name}: a stream that may have no end; say how much to read: {how}")
    n_characters = 0
    for document in itertools.chain.from_iterable(open_corpus(name).documents(split, w) for name, w in mixture):
        yield document
        n_characters += len(document.text)
        if max_tokens and n_characters >= 8 * max_tokens:
            return


def load_contexts(
    mixture: Mixture, split: str, tokenizer: Tokenizer, n_ctx: int = 256, max_tokens: int | None = None, seed: int = 0
) -> Contexts:
    """`pack` for a mixture of corpora, kept in the cache folder and memory-mapped from there."""
    identity = [(open_corpus(name).identity, dict(weights) if weights else None) for name, weights in mixture]
    key_parts = [identity, split, tokenizer.to_str(), n_ctx, max_tokens, seed]
    key = hashlib.sha256(json.dumps(key_parts, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache_folder()
    paths = {part: folder / f"contexts-{key}-{part}.npy" for part in ("ids", "slices")}
    names = folder / f"contexts-{key}.json"
    if not names.exists():  # written last, so its presence says that all three are complete
        name = " and ".join(str(name) for name, _ in mixture) + ("" if split == "all" else f" ({split} split)")
        contexts = pack(mixture_documents(mixture, split, max_tokens), tokenizer, n_ctx, max_tokens, seed, name)
        write_atomically(paths["ids"], lambda file: np.save(file, contexts.ids))
        write_atomically(paths["slices"], lambda file: np.save(file, contexts.slices))
        write_atomically(names, lambda file: file.write(json.dumps(contexts.slice_names).encode()))
    arrays = {part: np.load(path, mmap_mode="r") for part, path in paths.items()}
    return Contexts(arrays["ids"], arrays["slices"], json.loads(names.read_text()))
