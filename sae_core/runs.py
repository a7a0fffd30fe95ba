"""Whole runs: from a language model and its text to a finished dictionary with its metrics, and how it is measured."""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import safe_open

from . import bundle, checkpoint, parallel
from .activation_cache import CachedChunks, write_activations
from .activations import ActivationBuffer, HarvestedChunks
from .autoencoder import SparseAutoencoder, load_dictionary, save_dictionary
from .cards import LOSS_TOKENS, provenance, write_dictionary_card
from .corpus import VALIDATION_SHARE, Corpus, full_name, open_corpus
from .errors import SaeCoreError
from .language_model import MLP_OUT, LanguageModel, load_model
from .metrics import dictionary_metrics, loss_recovered
from .recipe import TrainConfig, differing
from .tokens import Contexts, Mixture, load_contexts
from .training import Trainer, train

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

TYPICAL_L0 = 30  # active features per example, on average over a run, for estimates of its length


def training_text(model: LanguageModel) -> Mixture:
    """The mixture that a model was trained on, from the recipe beside its weights."""
    recipe = model.recipe.get("recipe")
    if not recipe:
        raise SaeCoreError(f"{model.name}: has no training.json that names its text")
    return recipe["text"]


def held_out(model: LanguageModel, trained_on: Mixture = ()) -> tuple[Contexts, str]:
    """Text that neither a model nor a dictionary was trained on, from the source in use, and the name of that source.

    Where the model's own training text is there, its validation split. Otherwise (the pocket, a folder of one's own)
    everything except slices of code, which may have been part of the training text under another name; of a text that
    a dictionary was trained on, or may have been, as its folder is not here, the validation split.
    trained_on: the text of a dictionary (`metadata["text"]` of its cfg.json).
    """
    mixture = training_text(model)
    corpus = open_corpus()
    if _is_among(mixture, corpus):
        return load_contexts(mixture, "validation", model.tokenizer, model.n_ctx), corpus.name
    slices = sorted({document.slice for document in corpus.documents()} - {"code", "markup"})
    weights = dict.fromkeys(slices, 1.0)
    source = "" if corpus.name in ("pocket", "mini-pile") else os.environ["SAE_CORE_CORPUS"]
    may_be_known = _is_among(trained_on, corpus) or not all(_is_here(name) for name, _ in trained_on)
    split = "validation" if may_be_known else "all"
    return load_contexts([(source or corpus.name, weights)], split, model.tokenizer, model.n_ctx), corpus.name


def held_out_description(model: LanguageModel) -> str:
    """What `held_out` reads, in words. The mixture of a model may hold more than the source in use."""
    mixture, corpus = training_text(model), open_corpus()
    others = [name for name, _ in mixture if name != corpus.name] if _is_among(mixture, corpus) else []
    return ", and one slice more, ".join([corpus.description, *(open_corpus(name).description for name in others)])


def _is_among(mixture: Mixture, corpus: Corpus) -> bool:
    """Whether the corpus is one of a mixture's, by its name or as the same folder under another."""
    return any(
        name == corpus.name or (Path(name).is_dir() and open_corpus(name).identity == corpus.identity)
        for name, _ in mixture
    )


def _is_here(name: str) -> bool:
    """Whether a source can be compared with another: by its name, or as a folder that is there."""
    return name in ("pocket", "installed-code", "mini-pile") or name.startswith("hf:") or Path(name).is_dir()


def head(contexts: Contexts, tokens: int) -> Contexts:
    """The first contexts that hold at least that many tokens to look at, column 0 not counted."""
    return contexts.head(-(-tokens // (contexts.ids.shape[1] - 1)))


def cache_activations(
    model_name: str,
    out: Path,
    device: str = "cpu",
    text: str = "",
    max_tokens: int | None = None,
    tokens: int | None = None,
    seed: int = 0,
    command: str = "cache_activations with the same arguments",
) -> CachedChunks:
    """Write the activations that `train_dictionary` trains on to the folder `out`; continues where it was stopped.

    tokens: at least so many activations, in whole chunks; by default all of the text. seed: of the order of the text,
        which for the same run as without the cache is that of the configuration. The others are `train_dictionary`'s.
    """
    model = load_model(model_name, device)
    mixture = [(full_name(text), None)] if text else training_text(model)
    contexts = load_contexts(mixture, "train", model.tokenizer, model.n_ctx, max_tokens)
    chunks = HarvestedChunks(model.network, contexts.ids, seed)
    n_chunks = None if tokens is None else -(-tokens // chunks.rows)
    about = {"model": model.name, "text": mixture, "max_tokens": max_tokens}
    write_activations(chunks, out, chunks.source, n_chunks, about, command)
    return CachedChunks(out)


def _cached(folder: str, model: LanguageModel, device: str) -> CachedChunks:
    chunks = CachedChunks(folder, device)
    weights = checkpoint.digest(model.network.state_dict().values())
    if (chunks.source.get("model"), chunks.source.get("module")) != (weights, MLP_OUT):
        raise SaeCoreError(f"{folder}: activations of another model than {model.name}; choose theirs, or harvest again")
    return chunks


def train_dictionary(
    model_name: str,
    config: TrainConfig,
    out: Path,
    device: str = "cpu",
    text: str = "",
    activations: str = "",
    max_tokens: int | None = None,
    repeat: bool = False,
    tokens: int = 1_000_000,
    **options,
) -> dict[str, float]:
    """Train a dictionary on a model's activations, save it to `out` in SAELens' layout, and return its metrics.

    text: name of a corpus; "" is `config.text`, or else the text that the model itself was trained on. The dictionary
        learns from its training split. It is measured on `tokens` tokens of a validation split: of the corpus that is
        named or cached, else of the model's own text, so that dictionaries of one model can be compared.
    activations: folder or URL of a cache to read in place of the text and the model (see `cache_activations`).
    max_tokens: read no more of the text; a stream, hf:owner/dataset, needs it. A cache was harvested with its own.
    options: those of `train` (logging, checkpoints).
    Of several processes (see `parallel`) the first saves and measures; the others return nothing.
    Where `out` holds the finished dictionary of this very run, its metrics are returned and nothing is trained.
    Raises SaeCoreError where it holds a finished one of another recipe, text or model.
    """
    model = load_model(model_name, device)
    cached = _cached(activations, model, device) if activations else None
    if cached and max_tokens:
        raise SaeCoreError("train: --max-tokens is for text, and --activations are given; harvest fewer of them")
    named = [(full_name(text), None)] if text else cached and cached.about.get("text")
    own = named or training_text(model)
    mixture = own if cached or text else config.text or own
    max_tokens = cached.about.get("max_tokens") if cached else max_tokens
    with parallel.first_process_first():
        if not cached:
            contexts = load_contexts(mixture, "train", model.tokenizer, model.n_ctx, max_tokens)
        # Read before training, so that text that cannot be used is found out now; as long a stretch as of a stream.
        limit = max_tokens and min(math.ceil(max_tokens * VALIDATION_SHARE), tokens)
        validation = load_contexts(own, "validation", model.tokenizer, model.n_ctx, limit)
    chunks = cached or HarvestedChunks(model.network, contexts.ids, config.seed)
    model_sha256 = bundle.sha256(model.folder / "model.safetensors")
    source = {**chunks.source, "chunks": len(chunks), "repeat": repeat}
    if not checkpoint.checkpoints(out) and (done := _finished(out, config, mixture, model_sha256, source)):
        if parallel.rank() == 0 and not (out / "README.md").exists():  # it is written last
            write_dictionary_card(out)
        return done["metrics"] if parallel.rank() == 0 else {}
    own_rows = config.buffer_rows // parallel.world()
    buffer = ActivationBuffer(parallel.OwnChunks(chunks), own_rows, config.seed, repeat)
    sae = train(config, buffer, out, **options)
    if parallel.rank() > 0:
        return {}
    place = {"hook_name": "blocks.0.mlp.hook_post", "module": MLP_OUT}
    save_dictionary(sae, out, **place)
    # Measured on what was saved: in bf16, as everybody will load it.
    metrics = evaluate_dictionary(model, load_dictionary(str(out), device), head(validation, tokens))
    save_dictionary(
        sae,
        out,
        model=model.name,
        text=mixture,
        model_sha256=model_sha256,
        **place,
        source=source,
        recipe=asdict(config),
        **_end_of_training(out),
        activations=config.steps * config.batch_size,
        distinct_activations=min(config.steps * config.batch_size, len(chunks) * chunks.rows),
        provenance=provenance(device),
        metrics=metrics,
    )
    write_dictionary_card(out)
    return metrics


def _finished(folder: Path, config: TrainConfig, text: Mixture, model_sha256: str, source: dict) -> dict | None:
    """What the finished dictionary in a folder says about its run; None where there is none.

    Raises SaeCoreError where that was another run: it must not be overwritten by mistake.
    """
    if not ((folder / "cfg.json").exists() and (folder / "sae_weights.safetensors").exists()):
        return None
    run = json.loads((folder / "cfg.json").read_text()).get("metadata") or {}
    if "recipe" not in run:  # what is written before the metrics are there, or by others
        return None
    before = run.get("source", source)  # which older dictionaries do not say
    differs = {
        "recipe": differing(run["recipe"], config),
        "text": run.get("text") != json.loads(json.dumps(text))
        or any(before[key] != source[key] for key in ("text", "chunks", "repeat")),
        "model": run.get("model_sha256") != model_sha256,
    }
    if other := " and ".join(name for name in differs if differs[name]):
        way_out = "choose another --out or delete it"
        raise SaeCoreError(f"{folder}: holds a finished dictionary of another {other}; {way_out}")
    return run


def _end_of_training(folder: Path) -> dict[str, float]:
    """The scale that inputs were multiplied by and the seconds that training took, from a run's last checkpoint."""
    with safe_open(checkpoint.checkpoints(folder)[-1], framework="pt") as file:
        state = json.loads(file.metadata()["state"])
        return {"input_scale": file.get_tensor("scale").item(), "seconds": round(state["seconds"])}


def seconds_to_train(config: TrainConfig, network: GPT2LMHeadModel) -> float:
    """About how long training takes here, by a few real steps: dense ones until λ has half risen, then sparse ones.

    The fastest of each kind counts, for others may be at work on the machine, too. Where autograd computes the
    gradients every step is dense.
    """
    ids = np.random.default_rng(0).integers(network.config.vocab_size, size=(64, network.config.n_positions))
    chunks = HarvestedChunks(network, ids)
    # The buffer serves all that is asked for below without a refill, so that steps and harvest are timed apart.
    short = replace(config, steps=5, resample_at=(), buffer_rows=4 * max(chunks.rows, 6 * config.batch_size))
    trainer = Trainer(short, ActivationBuffer(chunks, short.buffer_rows, repeat=True))
    harvests, seconds = [], []
    for _ in range(4):
        started = time.monotonic()
        chunks[0]
        harvests.append(time.monotonic() - started)
    started = time.monotonic()
    for now in trainer.run():
        seconds.append(time.monotonic() - started)
        if now.step == 2 and config.by_hand:  # from here on as many codes are active as on average
            x = trainer.buffer.next_batch(config.batch_size) * trainer.scale
            pre = (x @ trainer.sae.W_enc + trainer.sae.folded_bias()).flatten()
            trainer.sae.b_enc.data -= pre[:: 1 + len(pre) // 2**22].quantile(max(0, 1 - TYPICAL_L0 / config.d_sae))
        started = time.monotonic()
    harvest = min(harvests) * config.batch_size / chunks.rows
    dense, sparse = (min(seconds[:2]), min(seconds[2:])) if config.by_hand else 2 * [min(seconds)]
    return config.steps * (sparse + harvest) + config.lam_warmup / 2 * (dense - sparse)


def evaluate_dictionary(
    model: LanguageModel, sae: SparseAutoencoder, contexts: Contexts, loss_tokens: int = LOSS_TOKENS
) -> dict[str, float]:
    """Every metric of a dictionary on held-out contexts; the losses, which cost more, on the first `loss_tokens`."""
    metrics, _ = dictionary_metrics(model, sae, contexts.ids)
    return metrics | loss_recovered(model, sae, head(contexts, loss_tokens).ids)
