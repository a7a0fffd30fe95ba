"""Several processes that train one dictionary together, as `torchrun` starts them.

Every process holds all the weights, takes an equal share of each batch, and averages its gradients with the others'
before the optimiser sees them; so all make the same update. A mean over all processes is the same on each of them to
the last bit, and everything that the next step depends on follows from such means.

With a single process every function here returns what it was given.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from . import checkpoint
from .errors import SaeCoreError
from .step import Step

PATIENCE = timedelta(minutes=30)  # how long a process waits for the others: reading a large text takes a while


def world() -> int:
    """Processes in this run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0. Process 0 speaks for all: it writes the log and the results."""
    return dist.get_rank() if world() > 1 else 0


def share(n: int, name: str) -> int:
    """This process's part of n. Raises SaeCoreError where n does not divide among the processes."""
    if n % world():
        raise SaeCoreError(f"train: {name} = {n} does not divide among {world()} processes")
    return n // world()


@contextmanager
def processes(device: str = "cpu") -> Iterator[str]:
    """Within this context the processes that `torchrun` started belong together; without torchrun it does nothing.

    Yields this process's device: for "cuda", the GPU of its number on this machine.
    Where one process ends in an error, all do, and the first to fail is the only one that says why.
    """
    if not dist.is_available() or not dist.is_torchelastic_launched():
        yield device
        return
    store, number, count = next(dist.rendezvous("env://", timeout=PATIENCE))
    try:
        if device == "cuda":
            device = _own_gpu()
        backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"
        dist.init_process_group(backend, store=store, rank=number, world_size=count, timeout=PATIENCE)
        yield device
    except BaseException:
        if _first_to_fail(store):
            raise
        raise SystemExit(1) from None
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _own_gpu() -> str:
    number, wanted = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    if wanted > torch.cuda.device_count():
        raise SaeCoreError(f"{wanted} processes for {torch.cuda.device_count()} GPUs: start one per GPU")
    torch.cuda.set_device(number)
    return f"cuda:{number}"


def _first_to_fail(store: dist.Store) -> bool:
    try:
        return store.add(f"failed in attempt {os.environ['TORCHELASTIC_RESTART_COUNT']}", 1) == 1
    except RuntimeError:  # the process that keeps the store is gone
        return True


@contextmanager
def _in_contact() -> Iterator[None]:
    """Around every operation of all processes."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise SaeCoreError(
            f"another process of this run is gone ({reason}); run the same command again to continue"
        ) from None


def mean(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The mean of each tensor over all processes, in fp32 and in its memory order: one operation for all of them."""
    if world() == 1:
        return list(tensors)
    flat = torch.empty(sum(tensor.numel() for tensor in tensors), device=tensors[0].device)
    means = []
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        strides = torch.empty_like(tensor, device="meta").stride()
        means.append(part.as_strided(tensor.shape, strides).copy_(tensor))
    with _in_contact():
        dist.all_reduce(flat)
    flat /= world()
    return means


def averaged(step: Step, variance: Tensor, center: Tensor) -> tuple[Step, Tensor]:
    """The step of a batch and its variance, from those of its shares, one in each process.

    The loss and its gradients are means over the batch, so those of the shares average to them. Where a loss depends on
    the batch in another way, it is that of the shares: BatchTopK keeps the largest codes of each.
    variance: [], mean squared distance from the mean, center [d_in], of this share.
    """
    if world() == 1:
        return step, variance
    auxiliary = torch.as_tensor(step.auxiliary)
    moment = variance + center.square().sum()
    *gradients, squared_error, l1, auxiliary, moment, center, fired = mean(
        [*step.gradients.values(), step.squared_error, step.l1, auxiliary, moment, center, step.fired]
    )
    variance = moment - center.square().sum()
    by_name = dict(zip(step.gradients, gradients, strict=True))
    return Step(squared_error, l1, (fired * world()).round(), by_name, auxiliary), variance


def gathered(rows: Tensor) -> Tensor:
    """The rows [n, ...] of all processes, one after the other: [world × n, ...]. n is the same in each."""
    if world() == 1:
        return rows
    everyones = [torch.empty_like(rows) for _ in range(world())]
    with _in_contact():
        dist.all_gather(everyones, rows)
    return torch.cat(everyones)


def picked_rows(rows: Tensor, index: Tensor) -> Tensor:
    """`gathered(rows)[index]` in fp32, [len(index), d]; only the rows that are asked for travel."""
    if world() == 1:
        return rows[index].float()
    own = index - rank() * len(rows)
    here = (own >= 0) & (own < len(rows))
    chosen = torch.zeros(len(index), rows.shape[1], device=rows.device)
    chosen[here] = rows[own[here]].float()
    with _in_contact():
        dist.all_reduce(chosen)
    return chosen


def somewhere(flag: bool) -> bool:
    """Whether the flag is set in any process, so that all of them stop after the same step."""
    if world() == 1:
        return flag
    with _in_contact():
        dist.all_reduce(total := torch.tensor(float(flag)))
    return bool(total)


def wait_for_all() -> None:
    """Return once every process has arrived here."""
    if world() > 1:
        with _in_contact():
            dist.all_reduce(torch.zeros(1))


@contextmanager
def first_process_first() -> Iterator[None]:
    """Process 0 runs this block before the others do, which then find what it has put into a cache."""
    if rank() > 0:
        wait_for_all()
    yield
    if rank() == 0:
        wait_for_all()


class OwnChunks:
    """The chunks of this process, of a sequence of them: number r, r + world, r + 2 world, … in process r.

    Every process gets equally many; up to world - 1 at the end are left out. `chunks` has a length, an index and
    `rows`, the activations in a chunk: `activations.HarvestedChunks`, say.
    """

    def __init__(self, chunks):
        if len(chunks) < world():
            raise SaeCoreError(f"{len(chunks)} chunks of text for {world()} processes: use more text")
        self.chunks = chunks

    @property
    def rows(self) -> int:
        return self.chunks.rows

    @property
    def source(self) -> dict[str, str | int]:
        return getattr(self.chunks, "source", {})

    def __len__(self) -> int:
        return len(self.chunks) // world()

    def __getitem__(self, index: int) -> Tensor:
        return self.chunks[index * world() + rank()]


def save(folder: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """`checkpoint.save` for all processes: process 0 writes the whole state, the others that of their buffers.

    Process 0 is the last to write, so where its checkpoint is there, those of the others are there, too.
    """
    if rank() > 0:
        own = {name: tensor for name, tensor in tensors.items() if name.startswith("buffer.")}
        checkpoint.save(_own_folder(folder), step, own, state)
    wait_for_all()
    if rank() == 0:
        checkpoint.save(folder, step, tensors, {**state, "processes": world()})


def latest(
    folder: Path, config: Mapping[str, Any], identity: Mapping[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """`checkpoint.latest` for all processes. Raises SaeCoreError where they were another number of processes."""
    wait_for_all()  # one may still write the checkpoint of a run before
    found = checkpoint.latest(folder, config, identity)
    steps = gathered(torch.tensor([found[1]["step"] if found else -1]))
    if (steps != steps[0]).any():
        raise SaeCoreError(f"{folder}: not the same checkpoints for all processes; machines have to share the folder")
    if not found:
        return None
    tensors, state = found
    before = state.get("processes", 1)
    if before != world():
        raise SaeCoreError(f"{folder}: a run of {before} process(es), now {world()}; use {before}, or another folder")
    if rank() > 0:
        tensors |= checkpoint.load(_own_folder(folder) / checkpoint.checkpoints(folder)[-1].name)[0]
    return tensors, state


def _own_folder(folder: Path) -> Path:
    return folder / f"process-{rank()}"
