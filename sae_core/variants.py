"""Variants of the sparse autoencoder: TopK, BatchTopK, Gated and JumpReLU.

Each is a `SparseAutoencoder` with codes and a training loss of its own; decoding, folding and files are shared. Nothing
here is written out by hand: gradients come from autograd, one dense step after another.

Every loss is a mean over the batch and sums the squared error over d_in, so that its λ compares with the one of
`objective`. Decoder rows have unit norm in all four papers, and the trainer keeps them there.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from . import parallel
from .autoencoder import SparseAutoencoder, csr
from .errors import SaeCoreError
from .objective import Loss, mean_squared_norm
from .step import Step


class Variant(SparseAutoencoder):
    """What the variants have in common: the encoder starts as the decoder's transpose, and codes are found densely."""

    def __init__(self, d_in: int, d_sae: int, tied_bias: bool = True, generator: torch.Generator | None = None):
        super().__init__(d_in, d_sae, tied_bias, generator)
        with torch.no_grad():
            self.W_enc.copy_(self.W_dec.T)

    def encode_sparse(self, x: Tensor) -> Tensor:
        """Codes of x [batch, d_in] as a compressed sparse row matrix [batch, d_sae]."""
        with torch.no_grad():
            return csr(self.encode(x))


class TopK(Variant):
    """Only the k largest codes of an example are kept, which sets L0 without a penalty.

        f = TopK(ReLU((x - b_dec) W_enc + b_enc))                x̂ = f W_dec + b_dec
        L = ‖x - x̂‖² + 1/32 ‖e - ê‖²                             e = x - x̂ as a constant,  ê = z W_dec

    The second part, AuxK, revives dead features: z holds, for each example, the d_in / 2 largest codes among them.
    λ has no part in this loss.
    Source: Gao et al. 2024, "Scaling and evaluating sparse autoencoders" (arXiv 2406.04093), sections 2.3, 2.4, A.2.

    Parameters: those of `SparseAutoencoder`. k: codes per example.
    """

    architecture = "topk"

    def __init__(
        self, d_in: int, d_sae: int, tied_bias: bool = True, generator: torch.Generator | None = None, *, k: int
    ):
        super().__init__(d_in, d_sae, tied_bias, generator)
        self.k = k

    def select(self, codes: Tensor) -> Tensor:
        """Codes [..., d_sae] with all but the k largest of each example set to zero."""
        return keep_largest(codes, self.k)

    def encode(self, x: Tensor) -> Tensor:
        return self.select(super().encode(x))

    def loss(self, x: Tensor, lam: float, dead: Tensor | None = None) -> Loss:
        pre = x @ self.W_enc + self.folded_bias()
        codes = self.select(pre.relu())
        error = x - self.decode(codes)
        squared_error, nothing = mean_squared_norm(error), x.new_zeros(())
        auxiliary = nothing if dead is None else self.auxk_loss(pre, error.detach(), dead) / 32
        return Loss(squared_error + auxiliary, squared_error, nothing, auxiliary, codes)

    def auxk_loss(self, pre: Tensor, error: Tensor, dead: Tensor) -> Tensor:
        """What the dead features [d_sae] leave of the error [B, d_in]; 0 where none is dead. pre: [B, d_sae]."""
        of_dead = pre.masked_fill(~dead, -math.inf).relu()  # zero for all others
        codes = keep_largest(of_dead, min(self.d_in // 2, self.d_sae))
        return mean_squared_norm(error - codes @ self.W_dec) * dead.any()

    def fold_decoder_norm(self) -> None:
        """Nothing is left to fold at unit norm.

        Raises SaeCoreError where norms differ: rescaled codes would rank differently and others would be kept.
        """
        norm = self.W_dec.norm(dim=1)
        if norm.max() - norm.min() > 1e-3 * norm.max():
            raise SaeCoreError("topk: decoder norms that differ cannot be folded: features are ranked by their codes")
        super().fold_decoder_norm()


class BatchTopK(TopK):
    """TopK over a batch: of B examples the B·k largest codes are kept, so that L0 is k on average and may vary.

        f = BatchTopK(ReLU((x - b_dec) W_enc + b_enc))           in training mode
        f = z · H(z - θ)     with z = (x - b_dec) W_enc + b_enc  in evaluation mode, for any number of examples

    θ is the mean over batches of the smallest code that was kept, here over about the last hundred. The loss is TopK's.
    With θ the dictionary is a JumpReLU one, and is saved as that.
    Source: Bussmann et al. 2024, "BatchTopK Sparse Autoencoders" (arXiv 2412.06410).

    Parameters: those of `SparseAutoencoder`. Buffer: threshold θ [d_sae], all equal until decoder norms are folded.
    """

    architecture = "jumprelu"
    names = (*SparseAutoencoder.names, "threshold")
    code_units = ("b_enc", "threshold")

    def __init__(
        self, d_in: int, d_sae: int, tied_bias: bool = True, generator: torch.Generator | None = None, *, k: int
    ):
        super().__init__(d_in, d_sae, tied_bias, generator, k=k)
        self.register_buffer("threshold", torch.zeros(d_sae))

    def select(self, codes: Tensor) -> Tensor:
        """Codes [..., d_sae] with all but the largest of all examples (training), or those above θ, set to zero."""
        if not self.training:
            return codes * (codes > self.threshold)
        examples = codes.numel() // self.d_sae
        return keep_largest(codes.flatten(), self.k * examples).view_as(codes)

    @torch.no_grad()
    def track_threshold(self, codes: Tensor) -> None:
        """Let θ follow the smallest code that one training batch kept; codes: [B, d_sae]."""
        smallest = codes.masked_fill(codes == 0, math.inf).min()
        (smallest,) = parallel.mean([smallest])
        moved = torch.where(self.threshold > 0, self.threshold.lerp(smallest, 0.01), smallest)
        self.threshold.copy_(torch.where(smallest.isfinite(), moved, self.threshold))

    fold_decoder_norm = SparseAutoencoder.fold_decoder_norm  # a threshold can be folded, a rank could not


class Gated(Variant):
    """Whether a feature is on and how strong it is are decided apart, so that the L1 penalty shrinks no code.

        π = (x - b_dec) W_enc + b_gate                           the gate's pre-activation
        m = ReLU(exp(r_mag) · (x - b_dec) W_enc + b_mag)         the magnitude
        f = 1[π > 0] · m                                         x̂ = f W_dec + b_dec
        L = ‖x - x̂‖² + λ ‖ReLU(π)‖₁ + ‖x - x̂_frozen(ReLU(π))‖²

    The step 1[π > 0] lets no gradient through; the gate learns from the last two terms. x̂_frozen decodes with a frozen
    copy of W_dec and b_dec, so that the decoder does not learn to serve the gate's own, shrunk, codes.
    Source: Rajamanoharan et al. 2024, "Improving Dictionary Learning with Gated Sparse Autoencoders"
    (arXiv 2404.16014), section 3.

    Parameters: W_enc [d_in, d_sae], W_dec [d_sae, d_in], b_dec [d_in], b_gate, b_mag, r_mag [d_sae].
    """

    architecture = "gated"
    names = ("W_enc", "W_dec", "b_dec", "b_gate", "b_mag", "r_mag")
    code_units = ("b_gate", "b_mag")

    def __init__(self, d_in: int, d_sae: int, tied_bias: bool = True, generator: torch.Generator | None = None):
        super().__init__(d_in, d_sae, tied_bias, generator)
        del self.b_enc  # two biases and a scale take its place
        self.b_gate, self.b_mag, self.r_mag = (nn.Parameter(torch.zeros(d_sae)) for _ in range(3))

    def paths(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The gate's pre-activations π and the magnitudes m of x [..., d_in], both [..., d_sae]."""
        self.check_width(x)
        product = x @ self.W_enc
        if self.tied_bias:
            product = product - self.b_dec @ self.W_enc
        return product + self.b_gate, torch.relu(self.r_mag.exp() * product + self.b_mag)

    def encode(self, x: Tensor) -> Tensor:
        gate, magnitude = self.paths(x)
        return (gate > 0) * magnitude

    def loss(self, x: Tensor, lam: float, dead: Tensor | None = None) -> Loss:
        gate, magnitude = self.paths(x)
        codes, gate_codes = (gate > 0) * magnitude, gate.relu()
        squared_error = mean_squared_norm(x - self.decode(codes))
        penalty = gate_codes.sum(-1).mean()
        auxiliary = mean_squared_norm(x - gate_codes @ self.W_dec.detach() - self.b_dec.detach())
        return Loss(squared_error + lam * penalty + auxiliary, squared_error, penalty, auxiliary, codes)


class JumpReLU(Variant):
    """A code below its feature's threshold is zero, one above it keeps its strength; the penalty counts features.

        z = (x - b_dec) W_enc + b_enc
        f = z · H(z - θ)                                         x̂ = f W_dec + b_dec,   H(u) = 1 for u > 0, else 0
        L = ‖x - x̂‖² + λ Σ_i H(z_i - θ_i)                        the L0 norm

    Neither term has a useful derivative with respect to θ. Straight-through estimators stand in for it, which look at
    the codes in a window of width ε around the threshold, K(u) = 1 for |u| < 1/2, else 0:

        ∂f/∂θ := -θ/ε K((z - θ)/ε)          ∂H(z - θ)/∂θ := -1/ε K((z - θ)/ε)          ∂H(z - θ)/∂z := 0

    θ and ε start at the paper's 0.001 in its units, mean ‖x‖² = 1; here inputs have mean ‖x‖² = d_in. The paper trains
    log θ; like SAELens and dictionary_learning we train θ itself and keep it from turning negative, as Adam moves
    log θ too slowly.
    Source: Rajamanoharan et al. 2024, "Jumping Ahead: Improving Reconstruction Fidelity with JumpReLU Sparse
    Autoencoders" (arXiv 2407.14435), sections 3 and 4.

    Parameters: those of `SparseAutoencoder`, and threshold θ [d_sae].
    """

    architecture = "jumprelu"
    names = (*SparseAutoencoder.names, "threshold")
    code_units = ("b_enc", "threshold")

    def __init__(self, d_in: int, d_sae: int, tied_bias: bool = True, generator: torch.Generator | None = None):
        super().__init__(d_in, d_sae, tied_bias, generator)
        self.bandwidth = 0.001 * math.sqrt(d_in)  # ε, for inputs with mean ‖x‖² = d_in
        self.threshold = nn.Parameter(torch.full((d_sae,), self.bandwidth))

    def encode(self, x: Tensor) -> Tensor:
        self.check_width(x)
        return Jump.apply(x @ self.W_enc + self.folded_bias(), self.threshold, self.bandwidth)

    def loss(self, x: Tensor, lam: float, dead: Tensor | None = None) -> Loss:
        pre = x @ self.W_enc + self.folded_bias()
        codes = Jump.apply(pre, self.threshold, self.bandwidth)
        squared_error = mean_squared_norm(x - self.decode(codes))
        penalty = Heaviside.apply(pre, self.threshold, self.bandwidth).sum(-1).mean()
        return Loss(squared_error + lam * penalty, squared_error, penalty, x.new_zeros(()), codes)

    @torch.no_grad()
    def constrain(self) -> None:
        """Bring thresholds back to zero where an optimiser's step has taken them below."""
        self.threshold.clamp_(min=0)


class Jump(torch.autograd.Function):
    """z · H(z - θ) for z [..., d_sae] and θ [d_sae], with a straight-through estimator for θ."""

    @staticmethod
    def forward(context, pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        context.save_for_backward(pre, threshold)
        context.bandwidth = bandwidth
        return pre * (pre > threshold)

    @staticmethod
    def backward(context, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        pre, threshold = context.saved_tensors
        of_threshold = -threshold / context.bandwidth * _window(pre, threshold, context.bandwidth) * gradient
        return gradient * (pre > threshold), of_threshold.sum_to_size(threshold.shape), None


class Heaviside(torch.autograd.Function):
    """H(z - θ) for z [..., d_sae] and θ [d_sae], with a straight-through estimator for θ."""

    @staticmethod
    def forward(context, pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        context.save_for_backward(pre, threshold)
        context.bandwidth = bandwidth
        return (pre > threshold).to(pre.dtype)

    @staticmethod
    def backward(context, gradient: Tensor) -> tuple[None, Tensor, None]:
        pre, threshold = context.saved_tensors
        of_threshold = -1 / context.bandwidth * _window(pre, threshold, context.bandwidth) * gradient
        return None, of_threshold.sum_to_size(threshold.shape), None


def _window(pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    """K((z - θ)/ε): bool, the shape of z."""
    return (pre - threshold).abs() < bandwidth / 2


def keep_largest(codes: Tensor, k: int) -> Tensor:
    """Codes [..., n] with all but the k largest along the last dimension set to zero."""
    values, places = codes.topk(k, dim=-1, sorted=False)
    return torch.zeros_like(codes).scatter(-1, places, values)


ARCHITECTURES = {
    "standard": SparseAutoencoder,
    "topk": TopK,
    "batchtopk": BatchTopK,
    "gated": Gated,
    "jumprelu": JumpReLU,
}


def autograd_step(sae: SparseAutoencoder, x: Tensor, lam: float, dead: Tensor) -> Step:
    """Loss and gradients of any dictionary for a batch x [B, d_in], by autograd; dead: bool [d_sae]."""
    sae.zero_grad()
    loss = sae.loss(x, lam, dead)
    loss.total.backward()  # into .grad, which keeps the memory order of its parameter, as fused Adam needs it
    if isinstance(sae, BatchTopK):
        sae.track_threshold(loss.codes)
    gradients = {name: parameter.grad for name, parameter in sae.named_parameters()}
    parts = (part.detach() for part in (loss.squared_error, loss.penalty))
    return Step(*parts, (loss.codes > 0).sum(0), gradients, loss.auxiliary.detach())
