"""How good a dictionary is: sparsity, density, explained variance and loss recovered, each with one definition.

All are measured on held-out contexts and leave out position 0 (the beginning-of-sequence token). At the end stand the
few statistics that chapters use on features: ranks, a mean whose interval knows that tokens come in contexts, a test.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from .activations import harvest, patched
from .autoencoder import SparseAutoencoder
from .errors import SaeCoreError
from .language_model import MLP_OUT, LanguageModel, to_tensor, token_losses

ULTRALOW_DENSITY = 1e-6  # below one token in a million (paper, "Feature Density")


@dataclass
class ReconstructionStatistics:
    """Streaming sums over batches, pooled in float64, so that the result does not depend on how the text is cut."""

    n: int = 0
    squared_error: float = 0.0
    rescaled_squared_error: float = 0.0
    norm_ratio: float = 0.0
    n_norms: int = 0
    squared_norm: float = 0.0
    total: Tensor | None = field(default=None, repr=False)

    def add(self, x: Tensor, reconstruction: Tensor) -> None:
        """Count a batch of activations and their reconstructions, both [n, d_in]."""
        x, reconstruction = x.double(), reconstruction.double()
        norm, norm_hat = x.norm(dim=1), reconstruction.norm(dim=1)
        rescaled = reconstruction * (norm / norm_hat.clamp_min(1e-12))[:, None]
        self.n += len(x)
        self.squared_error += (x - reconstruction).square().sum().item()
        self.rescaled_squared_error += (x - rescaled).square().sum().item()
        silent = norm == 0  # tokens on which no neuron is active have no ratio
        self.norm_ratio += (norm_hat[~silent] / norm[~silent]).sum().item()
        self.n_norms += int((~silent).sum())
        self.squared_norm += x.square().sum().item()
        self.total = x.sum(0) if self.total is None else self.total + x.sum(0)

    @property
    def variance(self) -> float:
        """Sum over examples of the squared distance to their mean."""
        return self.squared_norm - self.total.square().sum().item() / self.n

    def result(self) -> dict[str, float]:
        """explained_variance: 1 - Σ‖x - x̂‖² / Σ‖x - x̄‖². explained_variance_rescaled: the same after x̂ is given the
        norm of x, which hides shrinkage (a convention of other reports). norm_ratio: mean of ‖x̂‖ / ‖x‖, below 1 where
        the L1 penalty shrinks the codes."""
        if self.n == 0:
            raise SaeCoreError("metrics: no activations were counted")
        return {
            "explained_variance": 1 - self.squared_error / self.variance,
            "explained_variance_rescaled": 1 - self.rescaled_squared_error / self.variance,
            "norm_ratio": self.norm_ratio / max(1, self.n_norms),
        }


@dataclass(frozen=True)
class Sparsity:
    """How often features fire, on `tokens` tokens."""

    tokens: int
    counts: Tensor  # [d_sae], tokens on which each feature is active
    l0: Tensor  # [tokens], active features on each token

    @property
    def density(self) -> Tensor:
        """Share of the tokens on which each feature is active, [d_sae] (the paper's feature density)."""
        return self.counts.double() / self.tokens

    def result(self) -> dict[str, float]:
        """dead: silent on all these tokens. ultralow: fires, but below one token in a million; it needs well over a
        million tokens to be told from dead. above_1_percent and above_10_percent: features denser than that."""
        density = self.density
        return {
            "tokens": self.tokens,
            "l0_mean": self.l0.double().mean().item(),
            "l0_median": self.l0.double().median().item(),
            "dead": int((self.counts == 0).sum()),
            "ultralow": int(((self.counts > 0) & (density < ULTRALOW_DENSITY)).sum()),
            "above_1_percent": int((density > 0.01).sum()),
            "above_10_percent": int((density > 0.1).sum()),
        }


@torch.no_grad()
def dictionary_metrics(
    model: LanguageModel, sae: SparseAutoencoder, ids: np.ndarray, rows: int = 16
) -> tuple[dict[str, float], Sparsity]:
    """Reconstruction and sparsity of a dictionary on contexts [n, n_ctx], in one pass."""
    statistics, counts, l0 = ReconstructionStatistics(), torch.zeros(sae.d_sae, dtype=torch.int64), []
    for part in np.array_split(ids, max(1, len(ids) // rows)):
        x = harvest(model.network, to_tensor(part, sae.b_dec.device))[:, 1:].flatten(0, 1)
        codes = sae.encode_sparse(x)
        statistics.add(x, torch.addmm(sae.b_dec.expand_as(x), codes, sae.W_dec))
        counts += torch.bincount(codes.col_indices(), minlength=sae.d_sae).cpu()
        l0.append(codes.crow_indices().diff().long().cpu())
    l0 = torch.cat(l0)
    sparsity = Sparsity(len(l0), counts, l0)
    return {**statistics.result(), **sparsity.result()}, sparsity


@torch.no_grad()
def loss_recovered(model: LanguageModel, sae: SparseAutoencoder, ids: np.ndarray, rows: int = 16) -> dict[str, float]:
    """What the language model's loss says about the reconstruction (paper, "loss recovered").

    Losses in nats per token on contexts [n, n_ctx] with the MLP's activations untouched, reconstructed, set to zero,
    and set to their mean over the first 256 contexts; and the share of the loss that the reconstruction wins back:

        (ablated - reconstructed) / (ablated - original)

    against zero-ablation (`loss_recovered`, the paper's) and against mean-ablation (`loss_recovered_from_mean`).
    Position 0 keeps its own activations in all four.
    """
    mean = harvest(model.network, to_tensor(ids[:256], sae.b_dec.device))[:, 1:].mean((0, 1))

    def reconstruct(x: Tensor) -> Tensor:
        flat = x.flatten(0, 1)
        codes = sae.encode_sparse(flat)
        return torch.addmm(sae.b_dec.expand_as(flat), codes, sae.W_dec).view_as(x)

    replacements = {
        "original": lambda x: x,
        "reconstructed": reconstruct,
        "zero_ablated": torch.zeros_like,
        "mean_ablated": lambda x: mean.expand_as(x),
    }
    losses = dict.fromkeys(replacements, 0.0)
    for part in np.array_split(ids, max(1, len(ids) // rows)):
        tensor = to_tensor(part, sae.b_dec.device)
        for name, function in replacements.items():
            with patched(model.network, _after_first_position(function), MLP_OUT):
                losses[name] += token_losses(model.network, tensor).double().sum().item()
    losses = {f"loss_{name}": total / ids[:, 1:].size for name, total in losses.items()}
    return {
        **losses,
        "loss_recovered": _recovered(losses, "loss_zero_ablated"),
        "loss_recovered_from_mean": _recovered(losses, "loss_mean_ablated"),
    }


def _recovered(losses: dict[str, float], ablated: str) -> float:
    return (losses[ablated] - losses["loss_reconstructed"]) / (losses[ablated] - losses["loss_original"])


def _after_first_position(function):
    return lambda x: torch.cat([x[:, :1], function(x[:, 1:])], dim=1)


def _mean_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks 1 to n of values [n]; equal values share the mean of their ranks."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[place]


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Area under the ROC curve: how often a labelled element scores above one that is not; a tie counts half.

    scores: any shape. labels: bool, same shape. Raises SaeCoreError unless there are elements of both kinds.
    """
    scores, labels = scores.ravel(), labels.ravel()
    positives = int(labels.sum())
    if not 0 < positives < len(labels):
        raise SaeCoreError(f"auc: {positives} of {len(labels)} elements are labelled; both kinds are needed")
    # A rank is half way between the first and the last place that a score could take among all of them.
    ordered, own = np.sort(scores), scores[labels]
    ranks = (np.searchsorted(ordered, own, "left") + np.searchsorted(ordered, own, "right") + 1).sum() / 2
    return float((ranks - positives * (positives + 1) / 2) / (positives * (len(labels) - positives)))


def linear_auc(x: np.ndarray, labels: np.ndarray, least: int = 10) -> float:
    """How well a linear classifier tells labelled rows of numbers from the others: its `auc` on rows it has not seen.

    x: [n, k]. labels: bool [n]. The classifier is Fisher's: the direction from the mean of the others to that of the
    labelled, measured by the spread within the two groups. It is fitted on rows 0, 2, 4, … and scored on the rest.
    Raises SaeCoreError unless both halves have `least` rows of both kinds.
    """
    halves = [(x[start::2], labels[start::2]) for start in (0, 1)]
    fewest = min(int(kind.sum()) for _, half in halves for kind in (half, ~half))
    if fewest < least:
        raise SaeCoreError(f"linear_auc: {fewest} rows of a kind in one half; {least} are needed")
    (fit, fit_labels), (unseen, unseen_labels) = halves
    spread = sum(np.cov(fit[kind].T).reshape(x.shape[1], -1) * kind.mean() for kind in (fit_labels, ~fit_labels))
    direction = np.linalg.solve(spread, fit[fit_labels].mean(0) - fit[~fit_labels].mean(0))
    return auc(unseen @ direction, unseen_labels)


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's correlation of two series [n]; 0 where one of them is constant."""
    x, y = _mean_ranks(np.asarray(x)), _mean_ranks(np.asarray(y))
    x, y = x - x.mean(), y - y.mean()
    spread = np.sqrt(np.square(x).sum() * np.square(y).sum())
    return float(x @ y / spread) if spread else 0.0


def clustered_mean(
    values: np.ndarray, clusters: np.ndarray, draws: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """Mean of values [n] with its 95 % confidence interval: (mean, lower end, upper end).

    The interval comes from a bootstrap that draws whole clusters [n] (say, the context that each token is from): tokens
    of one context resemble each other, and drawing them one by one would make the interval too narrow.
    """
    _, index = np.unique(clusters, return_inverse=True)
    sums, counts = np.bincount(index, weights=values), np.bincount(index)
    n = len(counts)
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws)
    low, high = np.quantile((drawn @ sums) / (drawn @ counts), [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def fisher_exact(hits: int, n: int, other_hits: int, other_n: int) -> float:
    """Two-sided p-value of Fisher's exact test: are `hits` of n and `other_hits` of other_n draws from one share?

    The probability, given how many hits there are together, of a split that is no likelier than this one.
    """
    together = hits + other_hits
    ways = [math.comb(n, k) * math.comb(other_n, together - k) for k in range(together + 1)]
    return sum(way for way in ways if way <= ways[hits]) / sum(ways)
