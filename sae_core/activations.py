"""Activations: read them, replace them, and serve them in shuffled batches.

Everything here works on the input of one module of a torch network, by default the MLP's output projection of the
one-layer model, whose input is the 512 post-ReLU neurons that the paper's dictionaries decompose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

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

    autocast: run the forward pass in bf16, twice as fast and with three digits instead of seven.
    """
    captured = []

    def stop(_, inputs):
        captured.append(inputs[0])
        raise _Stop

    handle = module_of(network, module).register_forward_pre_hook(stop)
    try:
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=autocast):
            network(ids)
    except _Stop:
        return captured[0]
    finally:
        handle.remove()
    raise SaeCoreError(f"harvest: the forward pass never reached {module!r}")


@contextmanager
def patched(network: nn.Module, function: Callable[[Tensor], Tensor], module: str = MLP_OUT) -> Iterator[None]:
    """Within this context the input x of `module`, [batch, n_ctx, d_in], is replaced by function(x)."""
    handle = module_of(network, module).register_forward_pre_hook(lambda _, inputs: (function(inputs[0]), *inputs[1:]))
    try:
        yield
    finally:
        handle.remove()


class HarvestedChunks:
    """The activations of a text as a sequence of chunks [rows, d_in], each harvested when it is asked for.

    A chunk holds every position but the first (the beginning-of-sequence token, which is the same in every context) of
    `chunk_contexts` contexts. The order of the contexts is a permutation drawn from `seed`, so chunk i is always the
    same. One pass over the chunks uses every activation of the text once.
    """

    def __init__(
        self, network: nn.Module, ids: np.ndarray, seed: int = 0, chunk_contexts: int = 32, module: str = MLP_OUT
    ):
        if len(ids) < chunk_contexts:
            raise SaeCoreError(f"{len(ids)} contexts of text: at least {chunk_contexts} are needed")
        self.network, self.ids, self.module = network, ids, module
        self.chunk_contexts = chunk_contexts
        self.order = np.random.default_rng(seed).permutation(len(ids))
        self.device = next(network.parameters()).device

    @property
    def rows(self) -> int:
        """Activations in a chunk."""
        return self.chunk_contexts * (self.ids.shape[1] - 1)

    def __len__(self) -> int:
        return len(self.ids) // self.chunk_contexts

    def __getitem__(self, index: int) -> Tensor:
        rows = self.order[index * self.chunk_contexts : (index + 1) * self.chunk_contexts]
        activations = harvest(self.network, to_tensor(self.ids[np.sort(rows)], self.device), self.module, autocast=True)
        return activations[:, 1:].flatten(0, 1)


class ActivationBuffer:
    """A preallocated buffer that serves shuffled batches: [n_rows, d_in] in bf16, refilled in place when half is used.

    Rows are served in a random order by a pointer into a permutation. Once half of them are served, those rows are
    overwritten by fresh chunks and a new permutation is drawn, so every row stays for a geometric number of rounds and
    a batch mixes activations from about `n_rows / (n_ctx - 1)` contexts.

    Memory: n_rows × d_in × 2 bytes, and 8 bytes per row for the permutation.
    """

    def __init__(self, chunks: HarvestedChunks, n_rows: int, seed: int = 0, repeat: bool = False):
        """repeat: start over at the end of the text. The paper never repeats data, so the default is an error."""
        if n_rows < 2 * chunks.rows:
            raise SaeCoreError(f"buffer of {n_rows} rows: must hold two chunks of {chunks.rows}")
        self.chunks, self.repeat = chunks, repeat
        first = chunks[0]
        self.rows = torch.empty(n_rows, first.shape[1], dtype=torch.bfloat16, device=first.device)
        self.generator = torch.Generator().manual_seed(seed)
        self.order = torch.arange(n_rows)
        self.served = n_rows  # every row is free
        self.next_chunk = 0
        self.leftover = first[:0].bfloat16()  # rows of the last chunk that found no room

    @property
    def used(self) -> int:
        """Activations read from the text so far."""
        return self.next_chunk * self.chunks.rows

    def next_batch(self, batch_size: int) -> Tensor:
        """A batch [batch_size, d_in] in fp32. Raises SaeCoreError at the end of the text (see `repeat`)."""
        if self.served + batch_size > len(self.rows) // 2:
            self._refill()
        picked = self.order[self.served : self.served + batch_size].to(self.rows.device)
        self.served += batch_size
        return self.rows[picked].float()

    def _refill(self) -> None:
        free, filled = self.order[: self.served].to(self.rows.device), 0
        while filled < len(free):
            if len(self.leftover) == 0:
                self.leftover = self._fresh_chunk()
            rows, self.leftover = self.leftover[: len(free) - filled], self.leftover[len(free) - filled :]
            self.rows[free[filled : filled + len(rows)]] = rows
            filled += len(rows)
        self.order = torch.randperm(len(self.rows), generator=self.generator)
        self.served = 0

    def _fresh_chunk(self) -> Tensor:
        if self.next_chunk >= len(self.chunks) and not self.repeat:
            total = len(self.chunks) * self.chunks.rows
            raise SaeCoreError(f"the text's {total:,} activations are used up: use more text or fewer steps, or repeat")
        chunk = self.chunks[self.next_chunk % len(self.chunks)]
        if not torch.isfinite(chunk).all():
            raise SaeCoreError(f"activations: chunk {self.next_chunk} of the text holds a value that is not a number")
        self.next_chunk += 1
        return chunk.bfloat16()

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
        self.rows.copy_(tensors["buffer.rows"])
        self.order = tensors["buffer.order"]
        self.leftover = tensors["buffer.leftover"].to(self.rows.device)
        self.generator.set_state(tensors["buffer.generator"])
        self.served, self.next_chunk = tensors["buffer.counters"].tolist()
