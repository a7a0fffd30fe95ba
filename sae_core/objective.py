"""The loss of a sparse autoencoder and its gradients, written out so that they can be computed sparsely.

For a batch of B activations x [B, d_in] the loss is

    L = 1/B Σ_b ( ‖x̂_b - x_b‖² + λ Σ_i w_i f_bi )

with w_i = 1 (paper) or w_i = ‖W_dec,i‖ (April 2024 update). λ here multiplies the L1 norm per example and belongs to
the squared error *summed* over the d_in elements. The paper averages the squared error over the elements, so its λ is
ours divided by d_in; `paper_lambda` converts.

Why by hand: for a ReLU dictionary every gradient is exactly zero where a feature is off, so once the codes are sparse
only the encoder's forward product has to be dense. Autograd cannot know this; it would spend four more dense products.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .autoencoder import SparseAutoencoder

# Above this share of active codes, dense products are faster than sparse ones.
DENSE_ABOVE = 0.08


class Step(NamedTuple):
    """One batch's loss, by part, and its gradients."""

    squared_error: Tensor  # [], mean over the batch of the squared error summed over d_in
    l1: Tensor  # [], mean over the batch of Σ_i w_i f_i, without λ
    fired: Tensor  # [d_sae], on how many examples of the batch each feature was active
    gradients: dict[str, Tensor]  # of L, by parameter name


def paper_lambda(lam: float, d_in: int) -> float:
    """λ in the paper's convention (squared error averaged over elements) for the same inputs."""
    return lam / d_in


def loss_per_example(sae: SparseAutoencoder, x: Tensor, lam: float, by_decoder_norm: bool = False) -> Tensor:
    """L before the mean over the batch, [B], differentiable by autograd: the definition that `loss_step` computes."""
    reconstruction, codes = sae(x)
    weight = sae.W_dec.norm(dim=1) if by_decoder_norm else torch.ones_like(sae.b_enc)
    return (reconstruction - x).square().sum(-1) + lam * (codes * weight).sum(-1)


@torch.no_grad()
def loss_step(
    sae: SparseAutoencoder,
    x: Tensor,
    lam: float,
    by_decoder_norm: bool = False,
    bf16: bool = False,
    dense_above: float = DENSE_ABOVE,
) -> Step:
    """Loss and exact gradients for a batch x [B, d_in].

    bf16: compute dense products in bf16. On the sparse path there is one, and it only decides which codes are positive
        (see `SparseAutoencoder.encode_sparse`); on the dense path all are, and the gradients have three digits.
    dense_above: use dense products where a larger share of the codes is active (0 forces dense, 1 forces sparse).
        A GPU always does: there the products are cheap, and asking for the share would make it wait.
    """
    batch = len(x)
    bias = sae.folded_bias()
    pre, active = sae.preactivations(x, bias, bf16)
    l1_weight = sae.W_dec.norm(dim=1) if by_decoder_norm else torch.ones_like(bias)
    if x.is_cuda or active.sum() > dense_above * active.numel():
        codes = pre.to(x.dtype).add_(bias).relu_()
        error, mean_codes, fired, gradients = _dense(sae, x, codes, lam * l1_weight, bf16)
    else:
        error, mean_codes, fired, gradients = _sparse(sae, x, sae.codes_at(x, active, bias), lam * l1_weight)

    gradients["b_dec"] = error.sum(0) * (2 / batch)
    if sae.tied_bias:  # what reaches b_dec, and W_enc, through the folded bias b_enc - b_dec W_enc
        gradients["W_enc"] -= torch.outer(sae.b_dec, gradients["b_enc"])
        gradients["b_dec"] -= sae.W_enc @ gradients["b_enc"]
    if by_decoder_norm:
        gradients["W_dec"] += (lam * mean_codes / l1_weight.clamp_min(1e-12))[:, None] * sae.W_dec
    return Step(error.square().sum() / batch, mean_codes @ l1_weight, fired, gradients)


# Both paths return the error x̂ - x [B, d_in], the mean codes [d_sae], on how many examples each feature fired [d_sae],
# and the gradients of W_enc, b_enc (with respect to x W_enc + bias) and W_dec.
_Parts = tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]


def _dense(sae: SparseAutoencoder, x: Tensor, codes: Tensor, l1_weight: Tensor, bf16: bool) -> _Parts:
    batch = len(x)

    def product(a: Tensor, b: Tensor) -> Tensor:
        return (a.bfloat16() @ b.bfloat16()).to(a.dtype) if bf16 else a @ b

    error = product(codes, sae.W_dec).add_(sae.b_dec).sub_(x)
    active = codes > 0
    d_pre = product(error, sae.W_dec.T).mul_(2 / batch).add_(l1_weight / batch).mul_(active)
    gradients = {
        "W_enc": product(d_pre.T, x).T,  # in the memory order of W_enc
        "b_enc": d_pre.sum(0),
        "W_dec": product(codes.T, error).mul_(2 / batch),
    }
    return error, codes.mean(0), active.sum(0), gradients


def _sparse(sae: SparseAutoencoder, x: Tensor, codes: Tensor, l1_weight: Tensor) -> _Parts:
    batch, d_sae = codes.shape
    feature, values = codes.col_indices(), codes.values()
    error = torch.addmm(sae.b_dec.expand_as(x), codes, sae.W_dec) - x
    l1_gradient = torch.sparse_csr_tensor(
        codes.crow_indices(), feature, l1_weight[feature] / batch, codes.shape, check_invariants=False
    )
    d_pre = torch.sparse.sampled_addmm(l1_gradient, error, sae.W_dec.T, alpha=2 / batch).values()

    # The same entries sorted by feature: the transposed matrices that the weights' gradients need.
    order = torch.argsort(feature, stable=True)
    fired = torch.bincount(feature, minlength=d_sae)
    starts = torch.nn.functional.pad(fired.cumsum(0), (1, 0))
    example = torch.repeat_interleave(torch.arange(batch), codes.crow_indices().diff())[order]

    def by_feature(entries: Tensor) -> Tensor:
        return torch.sparse_csr_tensor(starts, example, entries[order], (d_sae, batch), check_invariants=False)

    gradients = {
        "W_enc": (by_feature(d_pre) @ x).T,
        "b_enc": torch.zeros_like(sae.b_enc).index_add_(0, feature, d_pre),
        "W_dec": (by_feature(values) @ error).mul_(2 / batch),
    }
    mean_codes = torch.zeros_like(sae.b_enc).index_add_(0, feature, values).div_(batch)
    return error, mean_codes, fired, gradients

