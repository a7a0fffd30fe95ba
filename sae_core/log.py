"""Where a run's numbers go: always to `log.jsonl`, and to TensorBoard and Weights & Biases when asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import SaeCoreError
from .files import write_atomically


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Add a JSON line to a log. Raises SaeCoreError where the disk does not take it."""
    try:
        with path.open("a") as file:
            file.write(json.dumps(record) + "\n")
    except OSError as error:
        raise SaeCoreError(f"{path}: cannot be written ({error}); the checkpoints are untouched") from None


def forget_after(path: Path, step: int) -> None:
    """Drop the lines that a stopped run wrote after its last checkpoint, and one cut short; they are written again."""
    if not path.exists():
        return
    lines = path.read_text().splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
    if kept != lines:
        write_atomically(path, lambda file: file.writelines(line.encode() for line in kept))


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

                self.wandb = weights_and_biases.init(project="sae_core", dir=str(folder), config=config)
        except ImportError as error:
            raise SaeCoreError(f'logging: {error}; pip install "sae-core[log]"') from None

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
