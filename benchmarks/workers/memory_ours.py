"""Peak memory of this process, as the kernel counts it (Linux)."""

from pathlib import Path

import numpy as np
import torch
from protocol import serve

from sae_core.activations import ActivationBuffer, HarvestedChunks
from sae_core.language_model import load_model
from sae_core.recipe import paper_scaled
from sae_core.training import train


def kilobytes(field: str) -> int:
    """VmRSS (resident now) or VmHWM (the most that was ever resident)."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0])


class Rows:
    """Chunks of the same random rows, which cost no memory of their own."""

    rows = 8192

    def __init__(self, d_in: int):
        self.chunk = torch.randn(self.rows, d_in).bfloat16()

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.chunk


def buffer(n_rows: int, d_in: int, batch_size: int) -> dict:
    """Bytes at the peak of filling and refilling a buffer, and its stated size."""
    chunks = Rows(d_in)
    before = kilobytes("VmRSS")
    buffer = ActivationBuffer(chunks, n_rows, repeat=True)
    for _ in range(2 * n_rows // batch_size):  # several refills
        buffer.next_batch(batch_size)
    return {"bytes": 1024 * (kilobytes("VmHWM") - before), "stated": n_rows * (2 * d_in + 8)}


def training(out: str, ids: str | None, steps: int, batch_size: int, d_sae: int, buffer_rows: int) -> dict:
    """Bytes at the peak of a whole run: buffer, training, log and checkpoints; the language model too, given ids."""
    chunks = HarvestedChunks(load_model("A").network, np.load(ids)) if ids else Rows(512)
    config = paper_scaled(
        steps, d_sae=d_sae, batch_size=batch_size, buffer_rows=buffer_rows, resample_inputs=buffer_rows
    )
    train(config, ActivationBuffer(chunks, buffer_rows, repeat=True), Path(out), progress=False)
    return {"bytes": 1024 * kilobytes("VmHWM")}


serve(buffer=buffer, training=training)
