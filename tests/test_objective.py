"""The definition of the losses, and the conventions of λ."""

import itertools

import pytest
import torch
from torch.nn import functional

from sae_core.autoencoder import NAMES, SparseAutoencoder
from sae_core.errors import SaeCoreError
from sae_core.objective import CONVENTIONS, convert_lambda, loss_per_example

D_IN, D_SAE, BATCH, LAM = 8, 24, 40, 0.7

every_loss = pytest.mark.parametrize(
    ("tied_bias", "by_decoder_norm"),
    list(itertools.product([True, False], [True, False])),
    ids=["tied by norm", "tied", "untied by norm", "untied"],
)


def make(tied_bias=True, dtype=torch.float64, seed=0, d_in=D_IN, d_sae=D_SAE, batch=BATCH):
    """A dictionary with random parameters and a batch on which about a third of the codes are active."""
    generator = torch.Generator().manual_seed(seed)
    sae = SparseAutoencoder(d_in, d_sae, tied_bias, generator).to(dtype)
    with torch.no_grad():
        sae.b_enc.normal_(-0.3, 0.2, generator=generator)
        sae.b_dec.normal_(0, 0.5, generator=generator)
        sae.W_dec *= torch.rand(d_sae, 1, generator=generator, dtype=dtype) + 0.5
    x = torch.randn(batch, d_in, generator=generator, dtype=dtype)
    assert 0.1 < (sae.encode(x) > 0).double().mean() < 0.6
    return sae, x


def autograd(sae, loss):
    return dict(zip(NAMES, torch.autograd.grad(loss, [getattr(sae, name) for name in NAMES]), strict=True))


def test_the_loss_is_the_summed_squared_error_plus_lambda_times_the_sum_of_codes():
    sae, x = make()
    reconstruction, codes = sae(x)
    expected = ((reconstruction - x) ** 2).sum(1) + LAM * codes.abs().sum(1)
    torch.testing.assert_close(loss_per_example(sae, x, LAM), expected)


def test_by_decoder_norm_weighs_each_code_by_the_norm_of_its_decoder_row():
    sae, x = make()
    reconstruction, codes = sae(x)
    expected = ((reconstruction - x) ** 2).sum(1) + LAM * (codes * sae.W_dec.norm(dim=1)).sum(1)
    torch.testing.assert_close(loss_per_example(sae, x, LAM, by_decoder_norm=True), expected)


@every_loss
def test_the_definition_of_the_loss_passes_gradcheck(tied_bias, by_decoder_norm):
    sae, x = make(tied_bias)
    x = x[(x @ sae.W_enc + sae.folded_bias()).abs().min(1).values > 1e-3][:10]

    def loss(*parameters):
        values = dict(zip(NAMES, parameters, strict=True))
        return torch.func.functional_call(Wrapped(sae, by_decoder_norm), {f"sae.{k}": v for k, v in values.items()}, x)

    assert torch.autograd.gradcheck(loss, [getattr(sae, n).detach().clone().requires_grad_() for n in NAMES])


class Wrapped(torch.nn.Module):
    """loss_per_example as a module, whose parameters torch.func can replace."""

    def __init__(self, sae, by_decoder_norm, lam=LAM):
        super().__init__()
        self.sae, self.by_decoder_norm, self.lam = sae, by_decoder_norm, lam

    def forward(self, x):
        return loss_per_example(self.sae, x, self.lam, self.by_decoder_norm)


# --- the conventions of λ -------------------------------------------------------------------------------------------
#
# The losses as their codes and texts write them: x the inputs, f the codes, r the reconstructions, w the decoder.

WRITTEN = {
    "paper": lambda x, f, r, w, lam: ((x - r) ** 2).mean(1).mean() + lam * f.sum(1).mean(),
    "april_2024": lambda x, f, r, w, lam: ((x - r) ** 2).sum(1).mean() + lam * (f @ w.norm(dim=1)).mean(),
    "neel": lambda x, f, r, w, lam: (r - x).pow(2).sum(-1).mean(0) + lam * f.abs().sum(),
    "shehper": lambda x, f, r, w, lam: (
        functional.mse_loss(r, x) + lam * functional.l1_loss(f, torch.zeros_like(f), reduction="sum") / f.shape[0]
    ),
    "arena": lambda x, f, r, w, lam: ((r - x).pow(2).mean(-1) + lam * f.abs().sum(-1)).mean(0),
    "saelens": lambda x, f, r, w, lam: (
        functional.mse_loss(r, x, reduction="none").sum(-1).mean()
        + (lam * (f * w.norm(dim=1)).norm(p=1, dim=-1)).mean()
    ),
    "dictionary_learning": lambda x, f, r, w, lam: (x - r).pow(2).sum(-1).mean() + lam * f.norm(p=1, dim=-1).mean(),
}


def test_every_convention_is_tested():
    assert WRITTEN.keys() | {"sae_core"} == CONVENTIONS.keys()


@pytest.mark.parametrize("scale", [1.0, 3.0], ids=["same inputs", "scaled inputs"])
@pytest.mark.parametrize("name", WRITTEN)
def test_the_converted_lambda_gives_the_same_gradient_up_to_one_factor(name, scale):
    theirs, x = make()
    codes = theirs.encode(x)
    written = WRITTEN[name](x, codes, theirs.decode(codes), theirs.W_dec, LAM)
    expected = autograd(theirs, written)

    # The same dictionary of scaled inputs, as a function of their parameters.
    values = {key: getattr(theirs, key) * (scale if key in ("b_enc", "b_dec") else 1.0) for key in NAMES}
    by_decoder_norm = CONVENTIONS[name].weight == "decoder norm"
    lam = convert_lambda(LAM, name, "sae_core", D_IN, BATCH, scale)
    ours = Wrapped(SparseAutoencoder(D_IN, D_SAE).double(), by_decoder_norm, lam)
    loss = torch.func.functional_call(ours, {f"sae.{key}": value for key, value in values.items()}, scale * x).mean()
    gradients = autograd(theirs, loss)

    factor = (gradients["b_enc"] @ expected["b_enc"]) / expected["b_enc"].square().sum()
    torch.testing.assert_close(loss, factor * written)
    for key in NAMES:
        torch.testing.assert_close(gradients[key], factor * expected[key])


@pytest.mark.parametrize("source", CONVENTIONS)
@pytest.mark.parametrize("target", CONVENTIONS)
def test_a_conversion_there_and_back_changes_nothing(source, target):
    there = convert_lambda(LAM, source, target, D_IN, BATCH, scale=3.0)
    assert convert_lambda(there, target, source, D_IN, BATCH, scale=1 / 3.0) == pytest.approx(LAM)


@pytest.mark.parametrize(
    ("lam", "source", "d_in", "batch_size", "ours"),
    [(0.004, "paper", 512, None, 2.048), (3e-4, "neel", 2048, 4096, 1.2288), (1e-3, "shehper", 512, None, 0.512)],
)
def test_the_values_that_the_sources_used_become_comparable(lam, source, d_in, batch_size, ours):
    assert convert_lambda(lam, source, "sae_core", d_in, batch_size) == pytest.approx(ours)


def test_a_conversion_that_cannot_be_made_is_refused():
    with pytest.raises(SaeCoreError, match="no convention 'sparsify': choose among sae_core, paper"):
        convert_lambda(1.0, "sae_core", "sparsify", 512)
    with pytest.raises(SaeCoreError, match="neel sums the L1 norm over the batch: give batch_size"):
        convert_lambda(1.0, "neel", "paper", 512)
