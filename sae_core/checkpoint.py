"""Checkpoints of a run: one safetensors file each, written atomically, the last two kept.

A file holds every tensor of the run's state and, as JSON in its header, everything else. Nothing is pickled, and a file
that is there is complete: it is written under another name, flushed to the disk and renamed. It knows which run it
belongs to, by the configuration and by digests of the text and the model, and continues no other.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .errors import SaeCoreError
from .files import write_atomically

KEEP = 2


@contextmanager
def only_process(folder: Path) -> Iterator[None]:
    """Within this context no other process trains into the folder. A process that is killed leaves nothing locked.

    Raises SaeCoreError where another process is at work there, or where the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise SaeCoreError(f"{folder}: cannot be written ({error})") from None
    with file:
        _lock(file, folder)
        for place in (folder, *folder.glob("process-*")):  # the latter are of a run of several processes
            _remove_partial(place)
        yield


def _remove_partial(folder: Path) -> None:
    """Delete the files and folders that a process was writing when it was killed."""
    for partial in (*folder.glob(".*.partial"), *folder.glob(".tmp??????")):  # safetensors' own name is .tmpXXXXXX
        if partial.is_dir():
            shutil.rmtree(partial)
        else:
            partial.unlink()


def _lock(file: Any, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SaeCoreError(f"{folder}: another process is writing into it; let it end or use another folder") from None
    except OSError:  # a file system that knows no locks
        pass


def digest(arrays: Iterable[np.ndarray | Tensor]) -> str:
    """Hex digits that change with any value of the arrays; about a second per gigabyte."""
    value = hashlib.blake2b(digest_size=8)
    for array in arrays:
        if isinstance(array, Tensor):
            array = array.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        value.update(np.ascontiguousarray(array))
    return value.hexdigest()


def save(folder: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> Path:
    """Write checkpoint `step` and delete all but the last two. A failure leaves the earlier ones untouched.

    state: `config` and `identity`, which `latest` compares, and what else the run has to know, as JSON has it.
    Raises SaeCoreError where a tensor holds a value that is not a number, and where the disk does not take the file.
    """
    path = path_of(folder, step)
    for name, tensor in tensors.items():
        if not _finite(tensor):
            raise SaeCoreError(f"step {step}: {name} holds a value that is not a number; not saved; use a smaller lr")
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    metadata = {"state": json.dumps({"step": step, **state})}
    try:
        write_atomically(path, lambda file: save_file(contiguous, file.name, metadata=metadata))
    except SaeCoreError as error:
        raise SaeCoreError(f"{error}; the checkpoints before it are untouched") from None
    for old in checkpoints(folder)[:-KEEP]:
        old.unlink(missing_ok=True)
    return path


def _finite(tensor: Tensor) -> bool:
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return True
    low, high = torch.aminmax(tensor.detach())  # unlike isfinite().all() it needs no memory; the buffer may be large
    return bool(low.isfinite() & high.isfinite())


def path_of(folder: Path, step: int) -> Path:
    """Where the checkpoint after that step is."""
    return folder / f"checkpoint-{step:09d}.safetensors"


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    return sorted(folder.glob("checkpoint-*.safetensors"))


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the state of one checkpoint. Raises SaeCoreError for a damaged file."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            return tensors, json.loads((file.metadata() or {})["state"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        before = [other.stem for other in checkpoints(path.parent) if other < path]
        way_out = f"continue from {before[-1]}" if before else "start again"
        raise SaeCoreError(
            f"{path}: damaged checkpoint ({error}); delete it to {way_out}: rm {shlex.quote(str(path))}"
        ) from None


def latest(
    folder: Path, config: Mapping[str, Any], identity: Mapping[str, Any] | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The newest checkpoint of a run, or None where there is none.

    identity: what the run depends on besides its configuration, by name: digests of the text and the model.
    Raises SaeCoreError where the checkpoint is damaged or was written under another configuration or identity:
    continuing a run with other settings would be neither the old run nor the new one.
    """
    paths = checkpoints(folder)
    if not paths:
        return None
    tensors, state = load(paths[-1])
    for kind, here in (("config", config), ("identity", identity or {})):
        there = state.get(kind, here)
        for key, value in json.loads(json.dumps(here)).items():
            if there.get(key) != value:
                what = f"with {key} =" if kind == "config" else f"for another {key},"
                raise SaeCoreError(
                    f"{paths[-1]}: written {what} {there.get(key)!r}, now {value!r}; use the old one or another folder"
                )
    return tensors, state


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The moments of an optimiser as named tensors: `optimizer.<parameter index>.<moment>`."""
    state = optimizer.state_dict()["state"]
    return {f"optimizer.{index}.{name}": value for index, entry in state.items() for name, value in entry.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Undo `optimizer_tensors`. Learning rates stay as the caller built them; the schedule recomputes them.

    Moments get the memory order of their parameter: fused Adam pairs them by place in memory, and a file has lost it.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            parameter = parameters[int(index)]
            if value.shape == parameter.shape:
                value = torch.empty_like(parameter).copy_(value)
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
