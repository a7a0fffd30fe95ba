"""One training step's loss and gradients, written out so that they can be computed sparsely.

For a ReLU dictionary every gradient is exactly zero where a feature is off, so once the codes are sparse only the
encoder's forward product has to be dense. Autograd cannot know this; it would spend four more dense products.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .autoencoder import ROWS, SparseAutoencoder
from .objective import loss_per_example

# Above this share of active codes, dense products are faster than sparse ones: in fp32, and in bf16. The former depends
# on the processor: 0.075 where vectors have 16 numbers; 0.15, with a slower sparse step, where they have fewer.
DENSE_ABOVE, DENSE_ABOVE_BF16 = 0.08, 0.05
LOOK = 32  # examples that the share is measured on


class Step(NamedTuple):
    """One batch's loss, by part, and its gradients."""

    squared_error: Tensor  # [], mean over the batch of the squared error summed over d_in
    l1: Tensor  # [], mean over the batch of Σ_i w_i f_i, without λ
    fired: Tensor  # [d_sae], on how many examples of the batch each feature was active
    gradients: dict[str, Tensor]  # of L, by parameter name
    auxiliary: Tensor | float = 0.0  # [], the rest of the loss: of the variants and of ghost gradients


@torch.no_grad()
def loss_step(
    sae: SparseAutoencoder,
    x: Tensor,
    lam: float | Tensor,
    by_decoder_norm: bool = False,
    bf16: bool = False,
    dense_above: float | None = None,
) -> Step:
    """Loss and exact gradients for a batch x [B, d_in].

    bf16: compute dense products in bf16. On the sparse path there is one, and it only decides which codes are positive
        (see `SparseAutoencoder.sparse_codes`); on the dense path all are, and the gradients have three digits.
    dense_above: use dense products where a larger share of the first `LOOK` examples' codes is active (0 forces dense,
        1 forces sparse); by default what is faster.
    """
    if x.is_cuda:  # dense products are cheap there, and asking for the share would make the host wait
        return dense_step(sae, x, lam, by_decoder_norm, bf16)
    if dense_above is None:
        dense_above = DENSE_ABOVE_BF16 if bf16 else DENSE_ABOVE
    bias = sae.folded_bias()
    l1_weight = _l1_weight(sae, by_decoder_norm)
    if _share_active(sae, x, bias) > dense_above:
        found = _dense(sae, x, bias, lam * l1_weight, bf16, ROWS)
    else:
        found = _sparse(sae, x, sae.sparse_codes(x, bias, bf16), lam * l1_weight)
    return _finish(sae, lam, by_decoder_norm, *found)


@torch.no_grad()
def dense_step(
    sae: SparseAutoencoder, x: Tensor, lam: float | Tensor, by_decoder_norm: bool = False, bf16: bool = False
) -> Step:
    """`loss_step` by dense products of the whole batch: the same operations whatever the values are."""
    found = _dense(sae, x, sae.folded_bias(), lam * _l1_weight(sae, by_decoder_norm), bf16, len(x))
    return _finish(sae, lam, by_decoder_norm, *found)


@torch.no_grad()
def example_losses(sae: SparseAutoencoder, x: Tensor, lam: float, by_decoder_norm: bool = False) -> Tensor:
    """`objective.loss_per_example`, [B], of a batch x [B, d_in]: sparse codes cost one dense product instead of two."""
    if x.is_cuda or _share_active(sae, x, sae.folded_bias()) > DENSE_ABOVE:
        return loss_per_example(sae, x, lam, by_decoder_norm)
    codes = sae.encode_sparse(x)
    starts, feature, values = codes.crow_indices(), codes.col_indices(), codes.values()
    error = weighted_sums(sae.W_dec, feature, starts, values).add_(sae.b_dec).sub_(x)
    l1 = weighted_sums(_l1_weight(sae, by_decoder_norm)[:, None], feature, starts, values).squeeze(1)
    return error.square().sum(1) + lam * l1


def _share_active(sae: SparseAutoencoder, x: Tensor, bias: Tensor) -> Tensor:
    """The share of codes that are active on the first examples of a batch, []."""
    return (torch.addmm(bias, x[:LOOK], sae.W_enc) > 0).float().mean()


def _l1_weight(sae: SparseAutoencoder, by_decoder_norm: bool) -> Tensor:
    return sae.W_dec.norm(dim=1) if by_decoder_norm else torch.ones_like(sae.b_enc)


def _finish(
    sae: SparseAutoencoder, lam: float | Tensor, by_decoder_norm: bool,
    error: Tensor, mean_codes: Tensor, fired: Tensor, gradients: dict[str, Tensor],
) -> Step:  # fmt: skip
    batch, l1_weight = len(error), _l1_weight(sae, by_decoder_norm)
    gradients["b_dec"] = error.sum(0) * (2 / batch)
    if sae.tied_bias:  # what reaches b_dec, and W_enc, through the folded bias b_enc - b_dec W_enc
        gradients["W_enc"].addr_(sae.b_dec, gradients["b_enc"], alpha=-1)
        gradients["b_dec"] -= sae.W_enc @ gradients["b_enc"]
    if by_decoder_norm:
        gradients["W_dec"] += (lam * mean_codes / l1_weight.clamp_min(1e-12))[:, None] * sae.W_dec
    return Step(torch.linalg.vector_norm(error).square() / batch, mean_codes @ l1_weight, fired, gradients)


# Both paths return the error x̂ - x [B, d_in], the mean codes [d_sae], on how many examples each feature fired [d_sae],
# and the gradients of W_enc, b_enc (with respect to x W_enc + bias) and W_dec.
_Parts = tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]


def _dense(sae: SparseAutoencoder, x: Tensor, bias: Tensor, l1_weight: Tensor, bf16: bool, rows: int) -> _Parts:
    batch, narrow = len(x), torch.bfloat16 if bf16 else x.dtype
    W_enc, W_dec = sae.W_enc.to(narrow), sae.W_dec.to(narrow)
    errors, mean_codes, fired = [], torch.zeros_like(bias), torch.zeros_like(bias)
    gradients = {name: torch.zeros_like(getattr(sae, name)) for name in ("W_enc", "b_enc", "W_dec")}
    # The same memory for every part: large fresh one costs the system a good part of a product's time.
    room = [x.new_empty(min(rows, batch), sae.d_sae, dtype=dtype) for dtype in (narrow, x.dtype, narrow)]
    for part in x.split(rows):
        for_codes, for_active, for_d_pre = (memory[: len(part)] for memory in room)
        codes = torch.mm(part.to(narrow), W_enc, out=for_codes).to(x.dtype).add_(bias).relu_()
        # 1 or 0: sums and products of floats are several times as fast as those of bools
        active = torch.sign(codes, out=for_active)
        mean_codes += codes.sum(0)
        fired += active.sum(0)
        codes = codes.to(narrow)
        error = (codes @ W_dec).to(x.dtype).add_(sae.b_dec).sub_(part)
        errors.append(error)
        d_pre = torch.mm((error * (2 / batch)).to(narrow), W_dec.T, out=for_d_pre).to(x.dtype)
        d_pre.add_(l1_weight / batch).mul_(active)
        gradients["b_enc"] += d_pre.sum(0)
        if bf16:
            gradients["W_enc"].T.add_(d_pre.to(narrow).T @ part.to(narrow))
            gradients["W_dec"].add_(codes.T @ error.to(narrow))
        else:  # the product adds itself to the sum, without a matrix in between
            for sums, left, right in ((gradients["W_enc"].T, d_pre.T, part), (gradients["W_dec"], codes.T, error)):
                torch.addmm(sums, left, right, out=sums)
    gradients["W_dec"].mul_(2 / batch)  # not as alpha of add_, which torch.compile loses (PyTorch 2.13)
    return torch.cat(errors), mean_codes / batch, fired.long(), gradients


def _sparse(sae: SparseAutoencoder, x: Tensor, codes: Tensor, l1_weight: Tensor) -> _Parts:
    batch, d_sae = codes.shape
    starts, feature, values = codes.crow_indices(), codes.col_indices(), codes.values()
    error = weighted_sums(sae.W_dec, feature, starts, values).add_(sae.b_dec).sub_(x)
    l1_gradient = torch.sparse_csr_tensor(
        starts, feature, (l1_weight / batch)[feature], codes.shape, check_invariants=False
    )
    d_pre = torch.sparse.sampled_addmm(l1_gradient, error, sae.W_dec.T, alpha=2 / batch).values()

    # The same entries sorted by feature: for each the examples that it is active on, and its code there.
    order = torch.argsort(feature, stable=True)
    fired = torch.bincount(feature, minlength=d_sae)
    feature_starts = torch.nn.functional.pad(fired.cumsum(0), (1, 0)).int()
    example = torch.repeat_interleave(torch.arange(batch, dtype=torch.int32, device=x.device), starts.diff())[order]
    gradients = {
        "W_enc": weighted_sums(x, example, feature_starts, d_pre[order]).T,  # in the memory order of W_enc
        "b_enc": torch.zeros_like(sae.b_enc).index_add_(0, feature, d_pre),
        "W_dec": weighted_sums(error, example, feature_starts, values[order] * (2 / batch)),
    }
    mean_codes = torch.zeros_like(sae.b_enc).index_add_(0, feature, values).div_(batch)
    return error, mean_codes, fired, gradients


def weighted_sums(rows: Tensor, index: Tensor, starts: Tensor, weights: Tensor) -> Tensor:
    """The product of a compressed sparse row matrix with rows [n, d]: sums [len(starts) - 1, d] of a few rows each.

    Five times as fast as PyTorch's product of the two, which goes through a library made for denser matrices.
    """
    return torch.nn.functional.embedding_bag(
        index, rows, starts, mode="sum", per_sample_weights=weights, include_last_offset=True
    )
