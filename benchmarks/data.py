"""What all contenders get alike: tokens, activations of model A, and dictionaries to start from.

Activations are stored once, in the order in which our buffer serves them, divided so that their mean squared norm is
d_in. Every library then trains on the same batches, and needs no normalisation of its own.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from sae_core import bundle
from sae_core.activations import ActivationBuffer, HarvestedChunks, harvest
from sae_core.autoencoder import NAMES, SparseAutoencoder, dictionary_metadata, load_dictionary
from sae_core.corpus import open_corpus
from sae_core.language_model import LanguageModel, load_model, to_tensor
from sae_core.recipe import paper_scaled
from sae_core.runs import training_text
from sae_core.tokens import Contexts, load_contexts
from sae_core.training import Trainer

LAMBDA = 3.3  # A/1's; A/2 was trained at hardly more
BATCH = 4096


@cache
def model() -> LanguageModel:
    return load_model("A")


def text_argument() -> str:
    """The text in use, as `train_dictionary` takes it: "" for model A's own, otherwise the name of a corpus."""
    corpus = open_corpus()
    if corpus.name in [name for name, _ in training_text(model())]:
        return ""
    return corpus.name if corpus.name in ("pocket", "mini-pile") else os.environ["SAE_CORE_CORPUS"]


@cache
def contexts(split: str = "train") -> Contexts:
    """A split of the text in use."""
    text = text_argument()
    mixture = [(text, None)] if text else training_text(model())
    return load_contexts(mixture, split, model().tokenizer, model().n_ctx)


def stored_ids(work: Path, n_contexts: int) -> Path:
    """A file of the first contexts' token ids [n, n_ctx]; shorter texts are repeated."""
    path = work / f"ids-{_identity()}-{n_contexts}.npy"
    if not path.exists():
        ids = contexts().ids
        np.save(_ready(path), np.resize(ids[:n_contexts], (n_contexts, ids.shape[1])))
    return path


@dataclass(frozen=True)
class Activations:
    """Stored activations [n, d_in] in half precision."""

    path: Path
    scale: float  # what the language model's activations were multiplied by
    rows: int
    distinct: int  # fewer than rows where the text is short and was read again


def activations(work: Path, n_rows: int) -> Activations:
    """Harvest n_rows activations, unless they are there."""
    path = work / f"activations-{_identity()}-{n_rows}.npy"
    about = path.with_suffix(".json")
    if not about.exists():  # written last
        print(f"   harvesting {n_rows:,} activations", flush=True)
        chunks = HarvestedChunks(model().network, contexts().ids)
        buffer = ActivationBuffer(chunks, max(2 * chunks.rows, min(1 << 18, 4 * n_rows)), repeat=True)
        sample = torch.cat([buffer.next_batch(1024) for _ in range(8)])
        scale = math.sqrt(sample.shape[1] / sample.square().sum(1).mean().item())
        store = np.lib.format.open_memmap(_ready(path), mode="w+", dtype=np.float16, shape=(n_rows, sample.shape[1]))
        for start in range(0, n_rows, 1024):
            rows = min(1024, n_rows - start)
            store[start : start + rows] = (buffer.next_batch(rows) * scale).half().numpy()
        store.flush()
        distinct = min(n_rows, len(chunks) * chunks.rows)
        about.write_text(json.dumps({"scale": scale, "rows": n_rows, "distinct": distinct}))
    return Activations(path, **json.loads(about.read_text()))


def dictionary(work: Path, d_sae: int, steps: int, source: Activations) -> tuple[Path, str]:
    """A trained dictionary of that size for the stored activations, as a file, and where it comes from.

    A bundled one for model A where there is one; otherwise one that our trainer makes in that many steps.
    """
    path = work / f"dictionary-{_identity()}-{d_sae}-{steps}.safetensors"
    bundled = [name for name in bundle.available("cfg.json") if _fits(name, d_sae)]
    if bundled:
        sae = load_dictionary(bundled[0])
        sae.fold_input_scale(1 / source.scale)
    elif not path.exists():
        print(f"   training a dictionary of {d_sae:,} features to start from", flush=True)
        sae = _train(d_sae, steps, source)
    if bundled or not path.exists():
        save_file({name: getattr(sae, name).detach().contiguous() for name in NAMES}, _ready(path))
    return path, bundled[0] if bundled else f"{steps:,} steps of sae_core"


def _fits(name: str, d_sae: int) -> bool:
    """Whether a bundled dictionary is model A's, has that size, and was trained at about the λ used here."""
    recipe = dictionary_metadata(name).get("recipe", {})
    same = recipe.get("d_sae") == d_sae and abs(recipe.get("lam", 0.0) / LAMBDA - 1) < 0.05
    return Path(name).parent == Path("A") and same


def _train(d_sae: int, steps: int, source: Activations) -> SparseAutoencoder:
    store = np.load(source.path, mmap_mode="r")

    class Chunks:
        rows = 1024

        def __len__(self) -> int:
            return len(store) // self.rows

        def __getitem__(self, index: int) -> torch.Tensor:
            return torch.from_numpy(store[index * self.rows : (index + 1) * self.rows].astype(np.float32))

    rows = min(1 << 17, len(store))
    config = paper_scaled(
        steps,
        d_sae=d_sae,
        lam=LAMBDA,
        batch_size=min(BATCH, rows // 4),
        normalize=False,
        resample_inputs=rows,
        buffer_rows=rows,
    )
    trainer = Trainer(config, ActivationBuffer(Chunks(), rows, repeat=True))
    for _ in trainer.run():
        pass
    return trainer.sae


@torch.no_grad()
def reference_activations(work: Path, ids: Path, n_contexts: int) -> Path:
    """Our activations [n, n_ctx, d_in] of the first contexts, in fp32, for a peer to compare its own with."""
    path = work / f"reference-{_identity()}-{n_contexts}.safetensors"
    if not path.exists():
        save_file({"x": harvest(model().network, to_tensor(np.load(ids)[:n_contexts])).contiguous()}, _ready(path))
    return path


@cache
def _identity() -> str:
    """Eight digits that change with the text in use or with the model."""
    weights = bundle.sha256(model().folder / "model.safetensors")
    return hashlib.sha256(f"{open_corpus().identity} {weights}".encode()).hexdigest()[:8]


def _ready(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
