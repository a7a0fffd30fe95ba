"""Controls for a case study: what the same search finds where there is nothing to be found.

The best of thousands of features always looks like something. Three searches say how much of that is chance: in the
dictionary of a model whose weights were shuffled (the paper's `random`), in a dictionary that was never trained, and
among activations that have been moved to other text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from re import Pattern

import numpy as np
import torch

from .activations import harvest
from .autoencoder import SparseAutoencoder, load_dictionary
from .case_study import Feature, ablation, best_feature, logit_reading, pinned, sensitivity, specificity
from .evidence import Evidence, feature_evidence
from .language_model import LanguageModel, load_model, to_tensor
from .metrics import auc
from .training import geometric_median


@torch.no_grad()
def untrained_dictionary(model: LanguageModel, trained: Evidence, seed: int = 0) -> SparseAutoencoder:
    """A dictionary as training starts with it, but as sparse as the trained one that this is the evidence of.

    Directions are random. Feature i gets the bias with which it is active as often as the trained feature i; without
    that, each would be active on about half of the tokens.
    """
    x = harvest(model.network, to_tensor(trained.contexts.ids[:32]))[:, 1:].flatten(0, 1)
    sae = SparseAutoencoder(x.shape[1], trained.n_features, generator=torch.Generator().manual_seed(seed))
    sae.b_dec.copy_(geometric_median(x))
    rank = torch.from_numpy(trained.density * len(x)).long().clamp(max=len(x) - 1)
    before = (sae.W_enc.T @ (x - sae.b_dec).T).topk(int(rank.max()) + 1).values
    sae.b_enc.copy_(-before[torch.arange(sae.d_sae), rank])
    return sae.eval()


def shuffled(marks: np.ndarray, seed: int = 0) -> np.ndarray:
    """The rows of an array [n_contexts, n_ctx] in another order: marks that know nothing of the text beside them."""
    return marks[np.random.default_rng(seed).permutation(len(marks))]


@dataclass(frozen=True)
class Summary:
    """The numbers of a case study in one row."""

    feature: Feature
    correlation: float
    recall: float
    mass_in_context: float
    lift: float
    auc: float
    logit_auc: float | None = None
    effect: float | None = None
    pinned_share: float | None = None


def watched(feature: Feature, score: np.ndarray) -> Summary:
    """What looking alone says: specificity and sensitivity. score: [n_contexts, n_ctx], positive in context."""
    specific, sensitive = specificity(feature, score > 0), sensitivity(feature, score)
    told = auc(feature.evidence.dense(feature.index)[:, 1:], score[:, 1:] > 0)
    return Summary(feature, sensitive.correlation, sensitive.recall, specific.mass_in_context, specific.lift, told)


def by_chance(
    feature: Feature,
    score: np.ndarray,
    exact: np.ndarray,
    of_context: np.ndarray,
    pattern: Pattern[str],
    n_contexts: int,
    n_samples: int,
    n_tokens: int = 20,
    dictionaries: Sequence[str] = ("random/1",),
) -> dict[str, Summary]:
    """A feature beside the best that the same search finds in other dictionaries and on shuffled text, by name.

    dictionaries: by name, of models that cannot know the context. The untrained dictionary comes in any case.
    The other arguments are those of `tested`.
    """
    model, contexts = feature.model, feature.evidence.contexts
    searched = {name: (load_model(name.rpartition("/")[0]), load_dictionary(name)) for name in dictionaries}
    searched["untrained"] = model, untrained_dictionary(model, feature.evidence)
    best = {feature.dictionary: feature}
    for name, (its_model, sae) in searched.items():
        best[name] = best_feature(its_model, sae, feature_evidence(its_model, sae, contexts), score, name)
    found = {
        name: tested(one, score, exact, of_context, pattern, n_contexts, n_samples, n_tokens)
        for name, one in best.items()
    }
    moved = shuffled(score)
    found["shuffled text"] = watched(best_feature(model, feature.sae, feature.evidence, moved), moved)
    return found


def tested(
    feature: Feature,
    score: np.ndarray,
    exact: np.ndarray,
    of_context: np.ndarray,
    pattern: Pattern[str],
    n_contexts: int,
    n_samples: int,
    n_tokens: int = 20,
) -> Summary:
    """`watched`, and what the feature does: its logit weights, its ablation, and its being pinned to its maximum.

    exact, of_context, pattern: the context's tokens on the text, in the vocabulary, and its characters.
    n_contexts, n_samples, n_tokens: how much to ablate in, and to write while the feature is pinned.
    """
    return replace(
        watched(feature, score),
        logit_auc=logit_reading(feature, of_context).logit_auc,
        effect=ablation(feature, exact, n_contexts).effect,
        pinned_share=pinned(feature, pattern, n_samples, n_tokens, doses=[1]).pinned_share,
    )
