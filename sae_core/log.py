"""Where a run's numbers go: always to `log.jsonl`, and to TensorBoard and Weights & Biases when asked."""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import SaeCoreError
from .files import write_atomically, write_text_atomically


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Add a JSON line to a log. Raises SaeCoreError where the disk does not take it."""
    try:
        with path.open("a") as file:
            finite = {k: v if not isinstance(v, float) or math.isfinite(v) else None for k, v in record.items()}
            file.write(json.dumps(finite) + "\n")  # JSON knows no infinity
    except OSError as error:
        raise SaeCoreError(f"{path}: cannot be written ({error}); the checkpoints are untouched") from None


def forget_after(path: Path, step: int) -> None:
    """Drop the lines that a stopped run wrote after its last checkpoint; they are written again.

    So are those cut short, or filled with zeros by a power cut: whatever is no record with a step.
    """
    if not path.exists():
        return
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if line.endswith(b"\n") and _step(line) <= step]
    if kept != lines:
        write_atomically(path, lambda file: file.writelines(kept))


def _step(line: bytes) -> float:
    """The step of a line of the log; infinite where the line is no record."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return float("inf")


def _wandb_id(folder: Path, step: int) -> str:
    """The name by which W&B knows the run in this folder. One that begins at step 0 is another run, with a new name."""
    path = folder / "wandb-id"
    if step == 0 or not path.exists():
        write_text_atomically(path, secrets.token_hex(8) + "\n")
    return path.read_text().strip()


class Log:
    """The log of one run in its folder, continued after `step`."""

    def __init__(self, folder: Path, config: dict, step: int, tensorboard: bool, wandb: bool):
        self.path = folder / "log.jsonl"
        forget_after(self.path, step)
        self.tensorboard = self.wandb = None
        try:
            if tensorboard:
                from torch.utils.tensorboard import SummaryWriter

                self.tensorboard = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
            if wandb:
                import wandb as weights_and_biases

                # Steps after the last checkpoint are logged again; W&B keeps the first, which are the same.
                known = {"id": _wandb_id(folder, step), "resume": "allow"}
                self.wandb = weights_and_biases.init(project="sae_core", dir=str(folder), config=config, **known)
        except ImportError as error:
            raise SaeCoreError(f'logging: {error}; pip install "sae-core[log]"') from None
        except Exception as error:  # W&B's own, without a key, say
            raise SaeCoreError(f"logging: {str(error).splitlines()[0]}") from None

    def write(self, step: int, activations: int, seconds: float, numbers: dict[str, float]) -> None:
        append(self.path, {"step": step, "activations": activations, "seconds": round(seconds, 2), **numbers})
        if self.tensorboard:
            for name, value in numbers.items():
                self.tensorboard.add_scalar(name, value, step)
        if self.wandb:
            self.wandb.log(numbers, step=step)

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_) -> None:
        if self.tensorboard:
            self.tensorboard.close()
        if self.wandb:
            self.wandb.finish()
