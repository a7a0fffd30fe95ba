"""The hand-written gradients of the ReLU loss, on the dense and on the sparse path."""

import pytest
import torch
from test_objective import BATCH, D_IN, D_SAE, LAM, autograd, every_loss, make
from torch.utils.flop_counter import FlopCounterMode

from sae_core import step as step_module
from sae_core.autoencoder import NAMES, ROWS, SparseAutoencoder
from sae_core.objective import loss_per_example
from sae_core.step import loss_step

DENSE, SPARSE = 0.0, 1.0  # dense_above

every_path = pytest.mark.parametrize("dense_above", [DENSE, SPARSE], ids=["dense", "sparse"])


# --- what is reported -----------------------------------------------------------------------------------------------


@every_loss
@every_path
def test_the_step_reports_the_parts_of_the_mean_loss(dense_above, tied_bias, by_decoder_norm):
    sae, x = make(tied_bias)
    step = loss_step(sae, x, LAM, by_decoder_norm, dense_above=dense_above)
    mean = loss_per_example(sae, x, LAM, by_decoder_norm).mean()
    torch.testing.assert_close(step.squared_error, ((sae(x).reconstruction - x) ** 2).sum(1).mean())
    torch.testing.assert_close(step.squared_error + LAM * step.l1, mean)


@every_path
def test_the_step_counts_on_how_many_examples_each_feature_fired(dense_above):
    sae, x = make()
    step = loss_step(sae, x, LAM, dense_above=dense_above)
    assert torch.equal(step.fired, (sae.encode(x) > 0).sum(0))


# --- the gradients --------------------------------------------------------------------------------------------------


@every_loss
@every_path
def test_gradients_equal_autograds(dense_above, tied_bias, by_decoder_norm):
    sae, x = make(tied_bias)
    expected = autograd(sae, loss_per_example(sae, x, LAM, by_decoder_norm).mean())
    gradients = loss_step(sae, x, LAM, by_decoder_norm, dense_above=dense_above).gradients
    assert set(gradients) == set(NAMES)
    for name in NAMES:
        torch.testing.assert_close(gradients[name], expected[name], rtol=1e-10, atol=1e-12)


class Stepped(torch.autograd.Function):
    """The loss of loss_step with its own gradients, so that gradcheck can compare them with finite differences."""

    @staticmethod
    def forward(context, tied_bias, by_decoder_norm, dense_above, x, *parameters):
        sae = SparseAutoencoder(D_IN, D_SAE, tied_bias).double()
        sae.load_state_dict(dict(zip(NAMES, parameters, strict=True)))
        step = loss_step(sae, x, LAM, by_decoder_norm, dense_above=dense_above)
        context.save_for_backward(*(step.gradients[name] for name in NAMES))
        return step.squared_error + LAM * step.l1

    @staticmethod
    def backward(context, d_loss):
        return None, None, None, None, *(d_loss * gradient for gradient in context.saved_tensors)


@every_loss
@every_path
def test_gradients_equal_finite_differences(dense_above, tied_bias, by_decoder_norm):
    sae, x = make(tied_bias)
    pre = x @ sae.W_enc + sae.folded_bias()
    x = x[pre.abs().min(1).values > 1e-3]  # away from the kinks, where there is no derivative
    assert len(x) > BATCH / 2
    parameters = [getattr(sae, name).detach().clone().contiguous().requires_grad_() for name in NAMES]
    assert torch.autograd.gradcheck(
        lambda *p: Stepped.apply(tied_bias, by_decoder_norm, dense_above, x, *p), parameters, fast_mode=False
    )


@every_loss
@pytest.mark.parametrize("bias", [-4.0, -0.3, 3.0], ids=["few active", "some active", "most active"])
def test_the_dense_and_the_sparse_path_agree_in_fp32(bias, tied_bias, by_decoder_norm):
    sae, x = make(tied_bias, torch.float32, d_in=64, d_sae=256, batch=200)
    with torch.no_grad():
        sae.b_enc += bias
    dense, sparse = (loss_step(sae, 3 * x, LAM, by_decoder_norm, dense_above=d) for d in (DENSE, SPARSE))
    assert torch.equal(dense.fired, sparse.fired)
    for name in NAMES:
        difference = (dense.gradients[name] - sparse.gradients[name]).norm() / dense.gradients[name].norm()
        assert difference < 1e-5, name


def test_a_batch_may_have_any_number_of_parts():
    sae, x = make(batch=2 * ROWS + 7)  # both paths go through it ROWS examples at a time
    expected = autograd(sae, loss_per_example(sae, x, LAM).mean())
    for dense_above in (DENSE, SPARSE):
        step = loss_step(sae, x, LAM, dense_above=dense_above)
        assert torch.equal(step.fired, (sae.encode(x) > 0).sum(0))
        for name in NAMES:
            torch.testing.assert_close(step.gradients[name], expected[name], rtol=1e-10, atol=1e-12)


@every_path
def test_gradients_have_the_memory_order_of_their_parameters(dense_above):
    # Fused Adam pairs weights, gradients and moments by their place in memory, whatever their strides say.
    sae, x = make()
    gradients = loss_step(sae, x, LAM, dense_above=dense_above).gradients
    for name in NAMES:
        assert gradients[name].stride() == getattr(sae, name).stride()


@every_path
def test_a_batch_on_which_nothing_fires_moves_only_the_decoder_bias(dense_above):
    sae, x = make()
    with torch.no_grad():
        sae.b_enc.fill_(-100.0)
    step = loss_step(sae, x, LAM, dense_above=dense_above)
    assert not step.fired.any() and not any(step.gradients[name].any() for name in ("W_enc", "b_enc", "W_dec"))
    torch.testing.assert_close(step.gradients["b_dec"], 2 * (sae.b_dec - x).mean(0))


# --- the encoder product in bf16 ------------------------------------------------------------------------------------


@every_loss
def test_bf16_changes_nothing_when_the_step_is_sparse(tied_bias, by_decoder_norm):
    sae, x = make(tied_bias, batch=2000)
    naive = (x.bfloat16() @ sae.W_enc.bfloat16()).double() + sae.folded_bias() > 0
    assert (naive != (sae.encode(x) > 0)).any()  # otherwise this batch shows nothing
    exact, rounded = (loss_step(sae, x, LAM, by_decoder_norm, bf16, dense_above=SPARSE) for bf16 in (False, True))
    assert torch.equal(exact.fired, rounded.fired)
    torch.testing.assert_close(rounded.squared_error, exact.squared_error, rtol=1e-12, atol=0)
    for name in NAMES:
        torch.testing.assert_close(rounded.gradients[name], exact.gradients[name], rtol=1e-10, atol=1e-12)


def test_bf16_gradients_stay_close_when_the_step_is_dense():
    sae, x = make(dtype=torch.float32, d_in=64, d_sae=256, batch=200)
    exact, rounded = (loss_step(sae, x, LAM, bf16=bf16, dense_above=DENSE) for bf16 in (False, True))
    for name in NAMES:
        difference = (exact.gradients[name] - rounded.gradients[name]).norm() / exact.gradients[name].norm()
        assert 0 < difference < 0.02, name


# --- the loss of each example ---------------------------------------------------------------------------------------


@every_loss
@pytest.mark.parametrize("dense_above", [DENSE, SPARSE], ids=["dense", "sparse"])
def test_the_loss_of_each_example_is_the_same_on_both_paths(dense_above, tied_bias, by_decoder_norm, monkeypatch):
    monkeypatch.setattr(step_module, "DENSE_ABOVE", dense_above)
    sae, x = make(tied_bias)
    expected = loss_per_example(sae, x, LAM, by_decoder_norm)
    losses = step_module.example_losses(sae, x, LAM, by_decoder_norm)
    torch.testing.assert_close(losses, expected, rtol=1e-10, atol=1e-12)


def test_sparse_losses_take_one_matrix_product():
    sae, x = make(dtype=torch.float32, d_in=32, d_sae=128, batch=4 * ROWS)
    with torch.no_grad():
        sae.b_enc -= 100.0
    with FlopCounterMode(display=False) as counter:
        step_module.example_losses(sae, x, LAM)
    assert counter.get_total_flops() / (2 * len(x) * sae.d_in * sae.d_sae) <= 1.02


# --- the work -------------------------------------------------------------------------------------------------------


def matrix_products(sae, x, dense_above, bf16=False):
    """Floating-point operations of a step, in units of one product [batch, d_in] x [d_in, d_sae]."""
    with FlopCounterMode(display=False) as counter:
        loss_step(sae, x, LAM, bf16=bf16, dense_above=dense_above)
    return counter.get_total_flops() / (2 * len(x) * sae.d_in * sae.d_sae)


def test_a_dense_step_takes_five_matrix_products():
    sae, x = make(dtype=torch.float32, d_in=32, d_sae=128, batch=4 * ROWS)  # a first look takes LOOK examples more
    assert 4.95 <= matrix_products(sae, x, DENSE) <= 5.05


@pytest.mark.parametrize("bf16", [False, True])
def test_a_sparse_step_takes_one_matrix_product(bf16):
    sae, x = make(dtype=torch.float32, d_in=32, d_sae=128, batch=4 * ROWS)
    assert 0.99 <= matrix_products(sae, x, SPARSE, bf16) <= 1.02


@pytest.mark.parametrize(("limit", "path"), [(0.9, "_sparse"), (0.1, "_dense")])
def test_the_measured_share_of_active_codes_decides_the_path(limit, path, monkeypatch):
    sae, x = make()  # a third of the codes are active
    for name in ("_dense", "_sparse"):
        if name != path:
            monkeypatch.setattr(step_module, name, lambda *_: pytest.fail("the wrong path"))
    loss_step(sae, x, LAM, dense_above=limit)
