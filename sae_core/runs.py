"""Whole runs: from a language model and its text to a finished dictionary with its metrics, and how it is measured."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

from .activations import ActivationBuffer, HarvestedChunks
from .autoencoder import SparseAutoencoder, load_dictionary, save_dictionary
from .cards import provenance, write_dictionary_card
from .corpus import open_corpus
from .errors import SaeCoreError
from .language_model import LanguageModel, load_model
from .metrics import dictionary_metrics, loss_recovered
from .recipe import TrainConfig
from .tokens import Contexts, Mixture, load_contexts
from .training import train


def training_text(model: LanguageModel) -> Mixture:
    """The mixture that a model was trained on, from the recipe beside its weights."""
    recipe = model.recipe.get("recipe")
    if not recipe:
        raise SaeCoreError(f"{model.name}: has no training.json that names its text")
    return recipe["text"]


def held_out(model: LanguageModel) -> tuple[Contexts, str]:
    """Text that a model was not trained on, from the source in use, and the name of that source.

    Where the model's own training text is there, its validation split. Otherwise (the pocket, a folder of one's own)
    everything except slices of code, which may have been part of the training text under another name.
    """
    mixture = training_text(model)
    corpus = open_corpus()
    if corpus.name in [name for name, _ in mixture]:
        return load_contexts(mixture, "validation", model.tokenizer, model.n_ctx), corpus.name
    slices = sorted({document.slice for document in corpus.documents()} - {"code", "markup"})
    weights = dict.fromkeys(slices, 1.0)
    source = "" if corpus.name in ("pocket", "mini-pile") else os.environ["SAE_CORE_CORPUS"]
    return load_contexts([(source or corpus.name, weights)], "all", model.tokenizer, model.n_ctx), corpus.name


def head(contexts: Contexts, tokens: int) -> Contexts:
    """The first contexts that hold at least that many tokens to look at, column 0 not counted."""
    return contexts.head(-(-tokens // (contexts.ids.shape[1] - 1)))


def train_dictionary(
    model_name: str,
    config: TrainConfig,
    out: Path,
    device: str = "cpu",
    text: str = "",
    repeat: bool = False,
    tokens: int = 1_000_000,
    **options,
) -> dict[str, float]:
    """Train a dictionary on a model's activations, save it to `out` in SAELens' layout, and return its metrics.

    text: name of a corpus; "" is the text that the model itself was trained on. The dictionary learns from its training
        split and is measured on `tokens` tokens of its validation split. options: those of `train` (logging,
        checkpoints).
    """
    model = load_model(model_name, device)
    mixture = [(text, None)] if text else training_text(model)
    contexts = load_contexts(mixture, "train", model.tokenizer, model.n_ctx)
    chunks = HarvestedChunks(model.network, contexts.ids, config.seed)
    buffer = ActivationBuffer(chunks, config.buffer_rows, config.seed, repeat)
    sae = train(config, buffer, out, **options)
    save_dictionary(sae, out)
    validation = load_contexts(mixture, "validation", model.tokenizer, model.n_ctx)
    # Measured on what was saved: in bf16, as everybody will load it.
    metrics = evaluate_dictionary(model, load_dictionary(str(out), device), head(validation, tokens))
    save_dictionary(
        sae,
        out,
        model=model.name,
        text=mixture,
        recipe=asdict(config),
        activations=config.steps * config.batch_size,
        distinct_activations=min(config.steps * config.batch_size, len(chunks) * chunks.rows),
        provenance=provenance(device),
        metrics=metrics,
    )
    write_dictionary_card(out)
    return metrics


def evaluate_dictionary(
    model: LanguageModel, sae: SparseAutoencoder, contexts: Contexts, loss_tokens: int = 500_000
) -> dict[str, float]:
    """Every metric of a dictionary on held-out contexts; the losses, which cost more, on the first `loss_tokens`."""
    metrics, _ = dictionary_metrics(model, sae, contexts.ids)
    return metrics | loss_recovered(model, sae, head(contexts, loss_tokens).ids)
