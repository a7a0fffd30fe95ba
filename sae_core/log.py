"""Where a run's numbers go: always to `log.jsonl`, and to TensorBoard and Weights & Biases when asked."""

from __future__ import annotations

import json
from pathlib import Path

from .errors import SaeCoreError


class Log:
    """The log of one run, in its folder."""

    def __init__(self, folder: Path, config: dict, tensorboard: bool, wandb: bool):
        self.path = folder / "log.jsonl"
        self.tensorboard = self.wandb = None
        try:
            if tensorboard:
                from torch.utils.tensorboard import SummaryWriter

                self.tensorboard = SummaryWriter(str(folder / "tensorboard"))
            if wandb:
                import wandb as weights_and_biases

                self.wandb = weights_and_biases.init(project="sae_core", dir=str(folder), config=config)
        except ImportError as error:
            raise SaeCoreError(f'logging: {error}; pip install "sae-core[log]"') from None

    def write(self, step: int, activations: int, seconds: float, numbers: dict[str, float]) -> None:
        record = {"step": step, "activations": activations, "seconds": round(seconds, 2), **numbers}
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        if self.tensorboard:
            for name, value in numbers.items():
                self.tensorboard.add_scalar(name, value, step)
        if self.wandb:
            self.wandb.log(numbers, step=step)

    def close(self) -> None:
        if self.tensorboard:
            self.tensorboard.close()
        if self.wandb:
            self.wandb.finish()
