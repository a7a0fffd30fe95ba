"""The loss of a sparse autoencoder, ghost gradients, and the conventions of λ.

For a batch of B activations x [B, d_in] the loss is

    L = 1/B Σ_b ( ‖x̂_b - x_b‖² + λ Σ_i w_i f_bi )

with w_i = 1 (paper) or w_i = ‖W_dec,i‖ (April 2024 update). λ here multiplies the L1 norm per example and belongs to
the squared error *summed* over the d_in elements. Others write it otherwise; `convert_lambda` translates.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor

from .errors import SaeCoreError

if TYPE_CHECKING:  # `autoencoder` imports this file
    from .autoencoder import SparseAutoencoder


class Loss(NamedTuple):
    """The training loss of a batch of B examples, and its parts, each a mean over the batch."""

    total: Tensor  # [], squared_error + λ penalty + auxiliary: what training differentiates
    squared_error: Tensor  # [], of ‖x̂ - x‖², summed over d_in
    penalty: Tensor  # [], of what λ multiplies: an L1 norm, of JumpReLU the L0 norm; 0 for TopK
    auxiliary: Tensor  # [], what there is besides, weighted as in the total
    codes: Tensor  # [B, d_sae]


def loss_per_example(sae: SparseAutoencoder, x: Tensor, lam: float, by_decoder_norm: bool = False) -> Tensor:
    """L before the mean over the batch, [B], differentiable by autograd: what `step.loss_step` computes by hand."""
    reconstruction, codes = sae(x)
    weight = sae.W_dec.norm(dim=1) if by_decoder_norm else torch.ones_like(sae.b_enc)
    return (reconstruction - x).square().sum(-1) + lam * (codes * weight).sum(-1)


def mean_squared_norm(error: Tensor) -> Tensor:
    """Mean over the examples of ‖e‖², of e [B, d_in]."""
    return error.square().sum(-1).mean()


def ghost_loss(sae: SparseAutoencoder, x: Tensor, error: Tensor, dead: Tensor) -> Tensor:
    """The loss [] through which dead features of a ReLU dictionary learn ("ghost gradients"); 0 where none is dead.

    The dead features alone reconstruct the error, with an exponential in place of the ReLU: a feature that is off has a
    gradient again. On each example their output is scaled to half the norm of the error, and the squared error that
    they leave is scaled to the size of the dictionary's own; both factors count as constants.
    Source: Jermyn and Templeton, "Ghost Grads", in Anthropic's update of January 2024. (In that of March 2024 Anthropic
    reports no gain once its other improvements were in.)

    x: [B, d_in]. error: x - x̂ [B, d_in], taken as a constant. dead: bool [d_sae].
    """
    error = error.detach()
    pre = x @ sae.W_enc + sae.folded_bias()
    ghost = pre.masked_fill(~dead, -math.inf).exp() @ sae.W_dec
    half = error.norm(dim=-1, keepdim=True) / (2 * ghost.norm(dim=-1, keepdim=True)).clamp_min(1e-12)
    left = mean_squared_norm(error - ghost * half.detach())
    return left * (mean_squared_norm(error) / left.clamp_min(1e-12)).detach() * dead.any()


class Convention(NamedTuple):
    """How a public code or text writes its loss, as far as the meaning of its λ depends on it."""

    error: Literal["sum", "mean"]  # the squared error over the d_in elements; over the batch always a mean
    l1: Literal["mean", "sum"]  # the L1 norm over the batch; over the features always a sum
    weight: str  # what an active code counts in the L1 norm; at unit decoder norm both are the same
    inputs: str  # what it is usually trained on


CONVENTIONS = {
    "sae_core": Convention("sum", "mean", "1, or decoder norm without unit_norm", "mean ‖x‖² = d_in with normalize"),
    "paper": Convention("mean", "mean", "1", "as they are"),
    "april_2024": Convention("sum", "mean", "decoder norm", "mean ‖x‖² = d_in"),
    "neel": Convention("sum", "sum", "1", "as they are"),  # neelnanda-io/1L-Sparse-Autoencoder
    "shehper": Convention("mean", "mean", "1", "as they are"),  # shehper/sparse-dictionary-learning
    "arena": Convention("mean", "mean", "1", "as they are"),  # ARENA's exercises on toy models and SAEs
    "saelens": Convention("sum", "mean", "decoder norm", "as they are, or mean ‖x‖ = √d_in"),  # version 6
    # Version 0.1; before it, the error was a norm that is not squared, for which there is no conversion.
    "dictionary_learning": Convention("sum", "mean", "1, or decoder norm (April)", "as they are, or mean ‖x‖² = 1"),
}


def convert_lambda(
    lam: float, source: str, target: str, d_in: int, batch_size: int | None = None, scale: float = 1.0
) -> float:
    """The λ of convention `target` that trains the same dictionary as λ = lam of convention `source`.

    source, target: names in `CONVENTIONS`; ours is "sae_core". batch_size: where one of them sums over the batch.
    scale: the target's inputs as a multiple of the source's; codes and λ grow with it, the squared error with its
        square. From inputs that we normalised by `Trainer.scale` to raw ones it is 1 / Trainer.scale.
    Raises SaeCoreError for an unknown convention and for a batch size that is needed and missing.
    """

    def ours(name: str) -> float:
        """Our λ, where that of the convention is 1."""
        if name not in CONVENTIONS:
            raise SaeCoreError(f"λ: no convention {name!r}: choose among {', '.join(CONVENTIONS)}")
        convention = CONVENTIONS[name]
        if convention.l1 == "sum" and batch_size is None:
            raise SaeCoreError(f"λ: {name} sums the L1 norm over the batch: give batch_size")
        return (d_in if convention.error == "mean" else 1) * (batch_size if convention.l1 == "sum" else 1)

    return lam * scale * ours(source) / ours(target)
