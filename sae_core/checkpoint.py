"""Checkpoints of a run: one safetensors file each, written atomically, the last two kept.

A file holds every tensor of the run's state and, as JSON in its header, everything else. Nothing is pickled, and a file
that is there is complete: it is written under another name, flushed to the disk and renamed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .errors import SaeCoreError

KEEP = 2


def save(folder: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> Path:
    """Write checkpoint `step` and delete all but the last two. A failure leaves the earlier ones untouched.

    Raises SaeCoreError where the disk does not take the file.
    """
    path = folder / f"checkpoint-{step:09d}.safetensors"
    temporary = folder / f".{path.name}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        save_file(contiguous, temporary, metadata={"state": json.dumps({"step": step, **state})})
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            temporary.unlink()
        raise SaeCoreError(f"{path}: cannot be written ({error}); the checkpoints before it are untouched") from None
    for old in checkpoints(folder)[:-KEEP]:
        old.unlink(missing_ok=True)
    return path


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
        raise SaeCoreError(f"{path}: damaged checkpoint ({error}); delete it to continue from the one before") from None


def latest(folder: Path, config: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The newest checkpoint of a run, or None where there is none.

    Raises SaeCoreError where it is damaged or was written under another configuration: continuing a run with other
    settings would be neither the old run nor the new one.
    """
    paths = checkpoints(folder)
    if not paths:
        return None
    tensors, state = load(paths[-1])
    config = json.loads(json.dumps(config))
    differing = [key for key in config if state["config"].get(key) != config[key]]
    if differing:
        there, here = state["config"].get(differing[0]), config[differing[0]]
        raise SaeCoreError(
            f"{paths[-1]}: written with {differing[0]} = {there!r}, now {here!r}; use the old value or another folder"
        )
    return tensors, state


def forget_log_after(log: Path, step: int) -> None:
    """Drop the JSON lines that a stopped run wrote after its last checkpoint; they will be written again."""
    if log.exists():
        lines = [line for line in log.read_text().splitlines() if json.loads(line)["step"] <= step]
        log.write_text("".join(line + "\n" for line in lines))


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
