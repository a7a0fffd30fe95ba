"""What a feature does: its direct effect on the logits, and what changes when it is removed or held fixed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from numbers import Integral

import numpy as np
import torch
from torch import Tensor

from .activations import patched
from .autoencoder import SparseAutoencoder
from .language_model import MLP_OUT, LanguageModel, to_tensor, token_losses

RARE = 5  # tokens with fewer occurrences have no place among logit weights (paper: extremely rare ones are dropped)


@torch.no_grad()
def logit_weights(model: LanguageModel, directions: Tensor) -> Tensor:
    """Direct effect of directions [k, d_mlp] in the MLP's activations on the logits: [k, vocab], each with median 0.

    The path direction → W_down → residual stream → final LayerNorm → unembedding is linear but for the LayerNorm's
    division by the residual's standard deviation, which is a positive factor that differs from token to token and is
    left out; removing the mean and the LayerNorm's gain are kept (paper, section "Feature Downstream Effects"). A
    constant added to all logits changes nothing, so the median is removed.
    """
    transformer = model.network.transformer
    residual = directions @ transformer.h[0].mlp.c_proj.weight
    centred = residual - residual.mean(1, keepdim=True)
    weights = (centred * transformer.ln_f.weight) @ model.network.lm_head.weight.T
    return weights - weights.median(1, keepdim=True).values


def not_rare(ids: np.ndarray, vocab_size: int) -> np.ndarray:
    """Tokens that a text [n_contexts, n_ctx] has often enough for their logit weights to mean something, bool [vocab].

    The model never learned what to do with the others. Column 0 does not count.
    """
    return np.bincount(ids[:, 1:].ravel(), minlength=vocab_size) >= RARE


def code_of(sae: SparseAutoencoder, feature: int | Sequence[int], x: Tensor) -> Tensor:
    """Activations of one feature [...], or of several [..., k], on x [..., d_in].

    For a ReLU dictionary without computing the others.
    """
    if sae.architecture != "standard":
        return sae.encode(x)[..., feature]
    sae.check_width(x)
    bias = sae.b_enc[feature] - (sae.b_dec @ sae.W_enc[:, feature] if sae.tied_bias else 0.0)
    return torch.relu(x @ sae.W_enc[:, feature] + bias)


@torch.no_grad()
def ablation_effect(
    model: LanguageModel, sae: SparseAutoencoder, feature: int | Sequence[int], ids: np.ndarray, rows: int = 16
) -> np.ndarray:
    """Change in the log-likelihood of every token when a feature, or several together, are removed, in nats.

    On every token the feature's contribution is subtracted, x ← x - f(x) d, and the rest of the activations, the
    dictionary's error included, stays (paper, section "Feature Downstream Effects"). Entry (c, t) of the result
    [n_contexts, n_ctx] belongs to token t, predicted from those before it; negative where the ablation makes the token
    less likely. Column 0 is 0.
    """
    features = [feature] if isinstance(feature, Integral) else list(feature)

    def remove(x: Tensor) -> Tensor:
        codes = code_of(sae, features, x)
        codes[:, 0] = 0.0
        return x - codes @ sae.W_dec[features]

    effect = np.zeros(ids.shape, np.float32)
    for first in range(0, len(ids), rows):
        tensor = to_tensor(ids[first : first + rows], sae.b_dec.device)
        before = token_losses(model.network, tensor)
        with patched(model.network, remove, MLP_OUT):
            after = token_losses(model.network, tensor)
        effect[first : first + rows, 1:] = (before - after).cpu()
    return effect


@torch.no_grad()
def sample(
    model: LanguageModel,
    prompt: str | Tensor,
    n_samples: int,
    n_tokens: int,
    sae: SparseAutoencoder | None = None,
    feature: int | None = None,
    pin: float | None = None,
    temperature: float = 1.0,
    seed: int = 0,
) -> Tensor:
    """Continuations [n_samples, n_tokens] of a prompt, sampled with a feature held at the activation `pin`.

    While sampling, x ← x + (pin - f(x)) d on every token but the first, so that only this feature changes (paper,
    "pinned sampling"). Without a feature the model is left alone; held at 0, a feature is ablated.

    prompt: a text, or token ids [n_samples, length] with the beginning-of-sequence token in front, a row per sample.
    """
    generator = torch.Generator().manual_seed(seed)
    past = None  # keys and values of the tokens so far, so that each step computes one token

    def hold(x: Tensor) -> Tensor:
        change = pin - code_of(sae, feature, x)
        if past is None:
            change[:, 0] = 0.0
        return x + change[..., None] * sae.W_dec[feature]

    ids = model.to_ids(prompt).expand(n_samples, -1) if isinstance(prompt, str) else prompt
    for _ in range(n_tokens):
        fits = ids.shape[1] <= model.n_ctx
        past = past if fits else None  # positions shift from here on, and nothing can be kept
        window = (ids[:, -model.n_ctx :] if past is None else ids[:, -1:]).to(model.network.device)
        with nullcontext() if feature is None else patched(model.network, hold, MLP_OUT):
            output = model.network(window, past_key_values=past, use_cache=fits, logits_to_keep=1)
        past = output.past_key_values if fits else None
        probabilities = torch.softmax(output.logits[:, -1].float().cpu() / temperature, dim=-1)
        ids = torch.cat([ids, torch.multinomial(probabilities, 1, generator=generator)], dim=1)
    return ids[:, -n_tokens:]
