"""Activations: read them, replace them, and serve them in shuffled batches.

Everything here works on the input of one module of a torch network, by default the MLP's output projection of the
one-layer model, whose input is the 512 post-ReLU neurons that the paper's dictionaries decompose.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from .autoencoder import bf16_is_fast
from .checkpoint import digest
from .errors import SaeCoreError
from .language_model import MLP_OUT, to_tensor


class _Stop(Exception):
    """Ends a forward pass once the activations are there; the unembedding is most of the model's work."""


def module_of(network: nn.Module, name: str) -> nn.Module:
    """The module of that dotted name. Raises SaeCoreError that lists the modules where there is none."""
    try:
        return network.get_submodule(name)
    except AttributeError:
        known = ", ".join(n for n, m in network.named_modules() if n and not list(m.children()))
        raise SaeCoreError(f"the network has no module {name!r}; it has {known}") from None


@torch.no_grad()
def harvest(network: nn.Module, ids: Tensor, module: str = MLP_OUT, autocast: bool = False) -> Tensor:
    """The input of `module` for token ids [batch, n_ctx]: activations [batch, n_ctx, d_in].

    Of several inputs it is the first; those given by name come after the others.
    autocast: run the forward pass in bf16, with three digits instead of seven and, where it is fast, in half the time.
    Raises SaeCoreError where there is no such module, no pass through it, or a first input that is no tensor.
    """
    captured = []

    def stop(_, positional, named):
        captured.extend([*positional, *named.values()][:1])
        raise _Stop

    handle = module_of(network, module).register_forward_pre_hook(stop, with_kwargs=True)
    try:
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=autocast):
            network(ids)
    except _Stop:
        if not captured or not isinstance(captured[0], Tensor):
            raise SaeCoreError(f"harvest: the first input of {module!r} is no tensor; choose another module") from None
        return captured[0]
    finally:
        handle.remove()
    raise SaeCoreError(f"harvest: the forward pass never reached {module!r}")


@contextmanager
def patched(network: nn.Module, function: Callable[[Tensor], Tensor], module: str = MLP_OUT) -> Iterator[None]:
    """Within this context the input x of `module`, [batch, n_ctx, d_in], is replaced by function(x), as large.

    Which of several inputs that is: see `harvest`.
    """

    def replace(_, positional, named):
        x, *others = (*positional, *named.values())
        new = function(x)
        if new.shape != x.shape:
            raise SaeCoreError(f"patched: {module} takes {[*x.shape]}, and the function returned {[*new.shape]}")
        inputs = (new, *others)
        return inputs[: len(positional)], dict(zip(named, inputs[len(positional) :], strict=True))

    handle = module_of(network, module).register_forward_pre_hook(replace, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


class Chunks(Protocol):
    """Activations as a sequence of chunks [rows, d_in], whose length, index and `rows` are all that is asked of it."""

    rows: int  # activations in a chunk

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Tensor: ...


def check_finite(chunk: Tensor, index: int) -> None:
    """Raise SaeCoreError where a chunk holds a value that is not a number."""
    # The sum finds out eight times as fast; only where it overflows is every value looked at.
    if not chunk.sum(dtype=torch.float32).isfinite() and not chunk.isfinite().all():
        raise SaeCoreError(f"activations: chunk {index} of the text holds a value that is not a number")


class HarvestedChunks:
    """The activations of a text as a sequence of chunks [rows, d_in], each harvested when it is asked for.

    A chunk holds every position but the first (the beginning-of-sequence token, which is the same in every context) of
    `chunk_contexts` contexts. The order of the contexts is a permutation drawn from `seed`, so chunk i is always the
    same. One pass over the chunks uses every activation of the text once, save those of the contexts, fewer than
    `chunk_contexts`, that fill no chunk.
    """

    def __init__(
        self, network: nn.Module, ids: np.ndarray, seed: int = 0, chunk_contexts: int = 32, module: str = MLP_OUT
    ):
        if len(ids) < chunk_contexts:
            raise SaeCoreError(f"{len(ids)} contexts of text: at least {chunk_contexts} are needed")
        self.network, self.ids, self.module, self.seed = network, ids, module, seed
        self.chunk_contexts = chunk_contexts
        self.order = np.random.default_rng(seed).permutation(len(ids))
        self.device = next(network.parameters()).device

    @property
    def rows(self) -> int:
        """Activations in a chunk."""
        return self.chunk_contexts * (self.ids.shape[1] - 1)

    @property
    def source(self) -> dict[str, str | int]:
        """All that the activations depend on, by name; the text and the model's weights as digests."""
        return {
            "model": digest(self.network.state_dict().values()),
            "module": self.module,
            "text": digest([self.ids]),
            "seed": self.seed,
            "chunk_contexts": self.chunk_contexts,
        }

    def __len__(self) -> int:
        return len(self.ids) // self.chunk_contexts

    def __getitem__(self, index: int) -> Tensor:
        rows = self.order[index * self.chunk_contexts : (index + 1) * self.chunk_contexts]
        ids = to_tensor(self.ids[np.sort(rows)], self.device)
        in_bf16 = self.device.type != "cpu" or bf16_is_fast()  # kept in bf16 it will be in any case
        return harvest(self.network, ids, self.module, in_bf16)[:, 1:].flatten(0, 1)


class ActivationBuffer:
    """A preallocated buffer [n_rows, d_in] in bf16 that serves shuffled batches and is refilled in place.

    Rows are served in a random order by a pointer into a permutation. Once a quarter of them are served, those rows are
    overwritten by fresh chunks and a new permutation is drawn, so every row stays for a geometric number of rounds.
    At the end of the text the buffer runs dry: every activation of the text is served once, save those of a last
    incomplete batch. It runs dry, too, towards the end of a run that says how many rows it still needs.

    Shuffle quality: in its steady state, with the default 2^21 rows and contexts of 256 tokens, a batch of 4,096 holds
    87 % of the contexts that 4,096 rows drawn from the whole text would. What counts is the ratio of n_rows to
    batch_size × activations per context, 2 here; at 1 it is 77 %, at 3 it is 91 %. The first batches, drawn while all
    contexts are still whole, hold less (79 %), and so do all batches of a run that needs no more than n_rows.

    Memory: n_rows × (2 × d_in + 8) bytes, which is 2.0 GiB for 2^21 rows of 512, and 16 bytes per row during a refill.
    """

    def __init__(self, chunks: Chunks, n_rows: int, seed: int = 0, repeat: bool = False):
        """repeat: start over at the end of the text. The paper never repeats data, so the default is an error.

        A buffer for a text that has fewer rows is as large as the text.
        """
        if n_rows < 2 * chunks.rows:
            raise SaeCoreError(f"buffer of {n_rows} rows: must hold two chunks of {chunks.rows}")
        self.chunks, self.repeat = chunks, repeat
        if not repeat:
            n_rows = min(n_rows, len(chunks) * chunks.rows)
        first = chunks[0]
        self.rows = torch.empty(n_rows, first.shape[1], dtype=torch.bfloat16, device=first.device)
        self.generator = torch.Generator(first.device).manual_seed(seed)
        self.order = torch.arange(n_rows, device=first.device)  # of rows; those from `served` on wait to be served
        self.served = n_rows  # nothing waits yet
        self.next_chunk = 0
        self.leftover = first[:0].bfloat16()  # rows of the last chunk that found no room

    @property
    def used(self) -> int:
        """Activations served so far: those that were read and do not wait any more."""
        return self.next_chunk * self.chunks.rows - len(self.leftover) - (len(self.order) - self.served)

    def next_batch(self, batch_size: int, needed: float = math.inf) -> Tensor:
        """A batch [batch_size, d_in] in fp32. Raises SaeCoreError at the end of the text (see `repeat`).

        needed: rows that will be asked for from this batch on; once as many wait, no text is read any more.
        """
        if self.served + batch_size > len(self.rows) // 4 and needed > len(self.rows) - self.served:
            self._refill()
        if self.served + batch_size > len(self.rows):
            total = len(self.chunks) * self.chunks.rows
            raise SaeCoreError(f"the text's {total:,} activations are used up: use more text or fewer steps, or repeat")
        batch = self.peek(batch_size)
        self.served += batch_size
        return batch

    def peek(self, n_rows: int) -> Tensor:
        """The rows that will be served next, in fp32, without using them up; fewer where fewer wait."""
        return self.waiting(n_rows).float()

    def waiting(self, n_rows: int) -> Tensor:
        """`peek` in bf16: a random sample of the rows in the buffer."""
        if self.served == len(self.rows):
            self._refill()
        picked = self.order[self.served : self.served + n_rows]
        return self.rows.index_select(0, picked)  # ten times as fast as rows[picked]

    def _refill(self) -> None:
        """Overwrite the rows that were served, as far as the text goes, and shuffle all that wait."""
        before = self.served
        while self.served and len(fresh := self._fresh_rows(self.served)):
            self.rows[self.order[self.served - len(fresh) : self.served]] = fresh
            self.served -= len(fresh)
        if self.served < before:
            waiting = self.order[self.served :]
            shuffle = torch.randperm(len(waiting), generator=self.generator, device=waiting.device)
            self.order[self.served :] = waiting[shuffle]

    def _fresh_rows(self, n_rows: int) -> Tensor:
        """The next rows of the text, at most n_rows; none at its end."""
        if len(self.leftover) == 0 and (self.repeat or self.next_chunk < len(self.chunks)):
            chunk = self.chunks[self.next_chunk % len(self.chunks)]
            check_finite(chunk, self.next_chunk)
            self.next_chunk += 1
            self.leftover = chunk.bfloat16()
        rows, self.leftover = self.leftover[:n_rows], self.leftover[n_rows:]
        return rows

    def tensors(self) -> dict[str, Tensor]:
        """The whole state as tensors, for a checkpoint."""
        counters = torch.tensor([self.served, self.next_chunk])
        return {
            "buffer.rows": self.rows,
            "buffer.order": self.order,
            "buffer.leftover": self.leftover,
            "buffer.generator": self.generator.get_state(),
            "buffer.counters": counters,
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Undo `tensors`."""
        for name in ("rows", "order"):
            saved, here = tensors[f"buffer.{name}"], getattr(self, name)
            if saved.shape != here.shape:  # of a text that was smaller than the buffer, and is a cache that has grown
                setattr(self, name, here.new_empty(saved.shape))
            getattr(self, name).copy_(saved)
        self.leftover = tensors["buffer.leftover"].to(self.rows.device)
        self.generator.set_state(tensors["buffer.generator"])
        self.served, self.next_chunk = tensors["buffer.counters"].tolist()
