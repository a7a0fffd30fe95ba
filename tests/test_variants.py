"""The variants: codes, losses and gradients as their papers define them, files, and what each finds in planted data."""

import copy
import json
import math

import pytest
import torch
from test_training import PlantedChunks, make_buffer, small

from sae_core import training
from sae_core.activations import ActivationBuffer
from sae_core.autoencoder import load_dictionary, save_dictionary
from sae_core.errors import SaeCoreError
from sae_core.objective import ghost_loss, loss_per_example
from sae_core.recipe import april_2024, paper_scaled
from sae_core.training import Trainer, train
from sae_core.variants import ARCHITECTURES, BatchTopK, Heaviside, JumpReLU, autograd_step

D_IN, D_SAE, BATCH, K, LAM = 6, 16, 12, 3, 0.7

every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)
every_bias = pytest.mark.parametrize("tied_bias", [True, False], ids=["tied", "untied"])


def make(name, tied_bias=True):
    """A dictionary with random parameters, decoder rows of different norms, and thresholds that leave codes on."""
    generator = torch.Generator().manual_seed(0)
    options = {"k": K} if "topk" in name else {}
    sae = ARCHITECTURES[name](D_IN, D_SAE, tied_bias, generator, **options).double()
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        if "threshold" in sae.names:
            sae.threshold.copy_(0.1 + 0.4 * torch.rand(D_SAE, generator=generator, dtype=torch.float64))
    return sae


@pytest.fixture
def x():
    return torch.randn(BATCH, D_IN, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture
def dead():
    """Ten of the 16 features: more than AuxK's d_in / 2."""
    return torch.arange(D_SAE) % 8 < 5


# --- codes ----------------------------------------------------------------------------------------------------------


def preactivations(sae, x):
    return (x - sae.b_dec if sae.tied_bias else x) @ sae.W_enc + sae.b_enc


def standard_codes(sae, x):
    return preactivations(sae, x).relu()


def topk_codes(sae, x):
    codes = preactivations(sae, x).relu()
    return codes * (codes >= codes.sort(dim=1, descending=True).values[:, [K - 1]])


def batchtopk_codes(sae, x):
    codes = preactivations(sae, x).relu()
    return codes * (codes >= codes.flatten().sort(descending=True).values[K * len(x) - 1])


def gated_codes(sae, x):
    centred = x - sae.b_dec if sae.tied_bias else x
    gate = centred @ sae.W_enc + sae.b_gate
    magnitude = (centred @ (sae.W_enc * sae.r_mag.exp()) + sae.b_mag).relu()
    return torch.where(gate > 0, magnitude, torch.zeros_like(magnitude))


def jumprelu_codes(sae, x):
    pre = preactivations(sae, x)
    return torch.where(pre > sae.threshold, pre, torch.zeros_like(pre))


CODES = {
    "standard": standard_codes,
    "topk": topk_codes,
    "batchtopk": batchtopk_codes,
    "gated": gated_codes,
    "jumprelu": jumprelu_codes,
}


@every_architecture
@every_bias
def test_codes_and_reconstruction_are_those_of_the_definition(name, tied_bias, x):
    sae = make(name, tied_bias)
    codes = CODES[name](sae, x)
    assert 0.05 < (codes > 0).double().mean() < 0.7
    torch.testing.assert_close(sae(x).codes, codes)
    torch.testing.assert_close(sae(x).reconstruction, codes @ sae.W_dec + sae.b_dec)


@every_architecture
def test_leading_dimensions_are_kept_and_sparse_codes_are_the_same(name, x):
    sae = make(name)
    torch.testing.assert_close(sae.encode(x.view(3, 4, D_IN)).view(BATCH, D_SAE), sae.encode(x))
    sparse = make(name).float().encode_sparse(x.float())
    assert sparse.layout == torch.sparse_csr and (sparse.values() > 0).all()
    torch.testing.assert_close(sparse.to_dense().double(), sae.encode(x), rtol=1e-4, atol=1e-5)


@every_architecture
def test_activations_of_another_width_are_refused(name, x):
    for encode in (make(name).encode, make(name).encode_sparse):
        with pytest.raises(SaeCoreError, match="a dictionary for width 6 does not fit width 5"):
            encode(x[:, 1:])


def test_batchtopk_keeps_k_codes_on_average_in_training_and_those_above_its_threshold_afterwards(x):
    sae = make("batchtopk")
    counts = (sae.encode(x) > 0).sum(1)
    assert counts.sum() == K * BATCH and counts.unique().numel() > 1
    sae.eval()
    torch.testing.assert_close(sae.encode(x), jumprelu_codes(sae, x))
    torch.testing.assert_close(sae.encode(x)[:1], sae.encode(x[:1]))


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "standard"])
def test_the_encoder_of_a_variant_starts_as_the_transpose_of_a_unit_decoder(name):
    sae = ARCHITECTURES[name](D_IN, D_SAE, **({"k": K} if "topk" in name else {}))
    assert torch.equal(sae.W_enc, sae.W_dec.T)
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(D_SAE))


# --- losses and their gradients -------------------------------------------------------------------------------------
#
# Each loss as its paper writes it. `frozen` is a copy of the dictionary whose parameters stay: what a loss counts as a
# constant is computed from it, so that finite differences of the formula are the gradients that training should use.


def squared(error):
    return (error**2).sum(1).mean()


def standard_loss(sae, frozen, x, dead):
    codes = standard_codes(sae, x)
    return squared(x - sae.decode(codes)) + LAM * (codes * sae.W_dec.norm(dim=1)).sum(1).mean()


def ghost_terms(sae, error, x, dead):
    """The dead features' output, and what it leaves of the error at a given scale per example."""
    output = preactivations(sae, x)[:, dead].exp() @ sae.W_dec[dead]
    return output, lambda scale: squared(error - output * scale)


def ghost_gradients(sae, frozen, x, dead):
    error = x - frozen(x).reconstruction
    output, left_of_frozen = ghost_terms(frozen, error, x, dead)
    scale = error.norm(dim=1, keepdim=True) / 2 / output.norm(dim=1, keepdim=True)
    _, left = ghost_terms(sae, error, x, dead)
    return standard_loss(sae, frozen, x, dead) + left(scale) * squared(error) / left_of_frozen(scale)


def topk_loss(codes):
    def loss(sae, frozen, x, dead):
        error = x - frozen(x).reconstruction
        of_dead = preactivations(sae, x).relu()[:, dead]
        of_dead = of_dead * (of_dead >= of_dead.sort(dim=1, descending=True).values[:, [D_IN // 2 - 1]])
        auxiliary = squared(error - of_dead @ sae.W_dec[dead])
        return squared(x - sae.decode(codes(sae, x))) + auxiliary / 32

    return loss


def gated_loss(sae, frozen, x, dead):
    gate = ((x - sae.b_dec if sae.tied_bias else x) @ sae.W_enc + sae.b_gate).relu()
    through_the_gate = squared(x - (gate @ frozen.W_dec + frozen.b_dec))
    return squared(x - sae.decode(gated_codes(sae, x))) + LAM * gate.sum(1).mean() + through_the_gate


def jumprelu_loss(sae, frozen, x, dead):
    codes = jumprelu_codes(sae, x)
    return squared(x - sae.decode(codes)) + LAM * (codes > 0).double().sum(1).mean()


LOSSES = {
    "standard": ("standard", standard_loss),
    "ghost gradients": ("standard", ghost_gradients),
    "topk": ("topk", topk_loss(topk_codes)),
    "batchtopk": ("batchtopk", topk_loss(batchtopk_codes)),
    "gated": ("gated", gated_loss),
    "jumprelu": ("jumprelu", jumprelu_loss),
}
every_loss = pytest.mark.parametrize("case", LOSSES)


def case_of(case, tied_bias, dead):
    name, formula = LOSSES[case]
    sae = make(name, tied_bias)
    if name == "jumprelu":
        sae.bandwidth = 1e-6  # no code lies in the window, so that what remains is differentiable
    return sae, formula, None if case == "standard" else dead


class Gradients(torch.autograd.Function):
    """A formula's value with the gradients of `sae.loss`, so that gradcheck compares these with finite differences."""

    @staticmethod
    def forward(context, formula, frozen, x, dead, *parameters):
        sae = copy.deepcopy(frozen)
        for own, given in zip(sae.parameters(), parameters, strict=True):
            own.data.copy_(given)
        with torch.enable_grad():
            total = sae.loss(x, LAM, dead).total
            context.save_for_backward(*torch.autograd.grad(total, list(sae.parameters())))
        return formula(sae, frozen, x, dead)

    @staticmethod
    def backward(context, gradient):
        return None, None, None, None, *(gradient * saved for saved in context.saved_tensors)


@every_loss
@every_bias
def test_the_gradients_of_the_loss_are_finite_differences_of_its_definition(case, tied_bias, x, dead):
    sae, formula, dead = case_of(case, tied_bias, dead)
    if case == "jumprelu":
        distance = (preactivations(sae, x) - sae.threshold).abs()
        assert distance.min() > 1e-5
    parameters = [parameter.detach().clone().contiguous().requires_grad_() for parameter in sae.parameters()]
    assert torch.autograd.gradcheck(lambda *p: Gradients.apply(formula, sae, x, dead, *p), parameters)


@every_loss
@every_bias
def test_the_loss_is_the_sum_of_its_parts_and_has_the_value_of_its_definition(case, tied_bias, x, dead):
    sae, formula, dead = case_of(case, tied_bias, dead)
    loss = sae.loss(x, LAM, dead)
    torch.testing.assert_close(loss.total, formula(sae, sae, x, dead))
    torch.testing.assert_close(loss.squared_error + LAM * loss.penalty + loss.auxiliary, loss.total)
    torch.testing.assert_close(loss.squared_error, squared(x - sae(x).reconstruction))
    torch.testing.assert_close(loss.codes, sae(x).codes)
    assert (loss.auxiliary > 0) == (case not in ("standard", "jumprelu"))


def test_the_standard_loss_is_the_definition_that_resampling_and_the_hand_written_step_use(x):
    sae = make("standard")
    torch.testing.assert_close(sae.loss(x, LAM).total, loss_per_example(sae, x, LAM, by_decoder_norm=True).mean())
    sae.fold_decoder_norm()
    torch.testing.assert_close(sae.loss(x, LAM).total, loss_per_example(sae, x, LAM).mean())


@pytest.mark.parametrize("case", ["topk", "batchtopk", "ghost gradients"])
def test_features_that_are_silent_learn_from_the_auxiliary_loss_if_they_are_dead(case, x):
    sae, _, _ = case_of(case, True, None)
    with torch.no_grad():
        sae.b_enc[:4] = -1.0  # silent, but with codes near zero
        sae.W_enc[:, :4] *= 0.01
        if case != "ghost gradients":  # AuxK wants positive ones, too small to be among the largest
            sae.b_enc[:4] = 0.01 + (sae.b_dec @ sae.W_enc)[:4]
    assert not sae.encode(x)[:, :4].any()
    for dead in (torch.zeros(D_SAE, dtype=torch.bool), torch.arange(D_SAE) < 2):
        sae.zero_grad()
        loss = sae.loss(x, LAM, dead)
        loss.total.backward()
        learns = torch.stack([sae.W_enc.grad.abs().sum(0), sae.b_enc.grad.abs(), sae.W_dec.grad.abs().sum(1)])[:, :4]
        assert torch.equal(learns > 0, dead[:4].expand(3, 4))
        assert (loss.auxiliary > 0) == dead.any()


def test_ghost_gradients_hold_where_the_dictionary_is_perfect_or_ghosts_are_silent(x, dead):
    sae = make("standard")
    assert ghost_loss(sae, x, torch.zeros_like(x), dead) == 0
    with torch.no_grad():
        sae.W_dec.zero_()
    assert ghost_loss(sae, x, x, dead).isfinite()


# --- JumpReLU's straight-through estimators -------------------------------------------------------------------------


def test_thresholds_get_the_papers_pseudo_derivatives_and_all_else_the_true_ones(x):
    sae = make("jumprelu")
    sae.bandwidth = 0.3
    pre = preactivations(sae, x)
    window = ((pre - sae.threshold).abs() < 0.15).double()
    assert 10 < window.sum() < window.numel() / 2
    error = sae(x).reconstruction - x
    expected = torch.zeros(D_SAE, dtype=torch.float64)
    for b in range(BATCH):
        for i in range(D_SAE):
            of_code = 2 / BATCH * error[b] @ sae.W_dec[i]
            theta, epsilon = sae.threshold[i], sae.bandwidth
            expected[i] += of_code * (-theta / epsilon) * window[b, i] + LAM / BATCH * (-1 / epsilon) * window[b, i]
    sae.loss(x, LAM).total.backward()
    torch.testing.assert_close(sae.threshold.grad, expected.detach())

    without_window = copy.deepcopy(sae)
    without_window.zero_grad()
    without_window.bandwidth = 1e-6
    without_window.loss(x, LAM).total.backward()
    assert not without_window.threshold.grad.any()
    for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
        torch.testing.assert_close(getattr(sae, name).grad, getattr(without_window, name).grad)


def test_the_penalty_counts_active_features_and_its_gradient_reaches_thresholds_alone(x):
    sae = make("jumprelu")
    sae.bandwidth = 0.3
    penalty = sae.loss(x, LAM).penalty
    assert penalty.item() == pytest.approx((sae.encode(x) > 0).sum().item() / BATCH)
    penalty.backward()
    assert [name for name, p in sae.named_parameters() if p.grad is not None and p.grad.any()] == ["threshold"]


def test_estimators_take_batches_of_any_shape_and_thresholds_stay_non_negative(x):
    sae = make("jumprelu")
    sae.bandwidth = 0.3
    pre = preactivations(sae, x).detach()
    for shape in ((BATCH, D_SAE), (3, 4, D_SAE)):
        threshold = sae.threshold.detach().clone().requires_grad_()
        Heaviside.apply(pre.view(shape), threshold, 0.3).sum().backward()
        torch.testing.assert_close(threshold.grad, -((pre - threshold).abs() < 0.15).double().sum(0) / 0.3)
    with torch.no_grad():
        sae.threshold[:2] = torch.tensor([-0.1, 0.2])
    sae.constrain()
    assert sae.threshold[:2].tolist() == pytest.approx([0.0, 0.2])


# --- BatchTopK's threshold ------------------------------------------------------------------------------------------


def test_the_threshold_starts_at_the_smallest_code_kept_and_follows_it_slowly():
    sae = BatchTopK(D_IN, D_SAE, k=K)
    for codes, expected in [
        ([0.0, 2.0, 3.0], 2.0),
        ([0.0, 1.0, 9.0], 2.0 + 0.01 * (1.0 - 2.0)),
        ([0.0, 0.0, 0.0], 1.99),  # nothing was kept
    ]:
        sae.track_threshold(torch.tensor(codes))
        torch.testing.assert_close(sae.threshold, torch.full((D_SAE,), expected))


def test_looking_at_a_loss_changes_nothing_and_a_step_moves_the_threshold(x, dead):
    sae = make("batchtopk")
    before = copy.deepcopy(sae.state_dict())
    loss = sae.loss(x, LAM, dead)
    assert all(torch.equal(before[name], value) for name, value in sae.state_dict().items())
    step = autograd_step(sae, x, LAM, dead)
    torch.testing.assert_close(sae.threshold, before["threshold"].lerp(loss.codes[loss.codes > 0].min(), 0.01))
    assert torch.equal(step.fired, (loss.codes > 0).sum(0))


# --- the same function in other units -------------------------------------------------------------------------------


def trained(name, tied_bias):
    """As a trainer hands it out: in evaluation mode; TopK with decoder rows of one norm, which it needs."""
    sae = make(name, tied_bias).eval()
    if name == "topk":
        with torch.no_grad():
            sae.W_dec *= 1.7 / sae.W_dec.norm(dim=1, keepdim=True)
    return sae


@every_architecture
@every_bias
def test_folding_gives_the_same_dictionary_of_raw_inputs_with_unit_rows(name, tied_bias, x):
    scale = 3.7
    sae = trained(name, tied_bias)
    reconstruction, codes = sae(scale * x)
    assert codes.any()
    norm = sae.W_dec.norm(dim=1)
    sae.fold_input_scale(scale)
    torch.testing.assert_close(sae(x).codes, codes / scale)
    torch.testing.assert_close(sae(x).reconstruction, reconstruction / scale)
    sae.fold_decoder_norm()
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(D_SAE, dtype=torch.float64))
    torch.testing.assert_close(sae(x).codes, codes / scale * norm)
    torch.testing.assert_close(sae(x).reconstruction, reconstruction / scale)


def test_topk_refuses_to_fold_norms_that_would_change_which_codes_are_largest():
    sae = make("topk")
    before = sae.W_dec.clone()
    with pytest.raises(SaeCoreError, match="norms that differ cannot be folded"):
        sae.fold_decoder_norm()
    assert torch.equal(sae.W_dec, before)


# --- files ----------------------------------------------------------------------------------------------------------

TENSORS = {"standard": "b_enc", "topk": "b_enc", "batchtopk": "b_enc threshold", "gated": "b_gate b_mag r_mag"}
TENSORS["jumprelu"] = TENSORS["batchtopk"]


@every_architecture
@every_bias
def test_a_variant_comes_back_from_its_file_exactly(name, tied_bias, x, tmp_path):
    from safetensors.torch import load_file

    sae, x = trained(name, tied_bias).float(), x.float()
    save_dictionary(sae, tmp_path, torch.float32)
    shapes = {key: tuple(value.shape) for key, value in load_file(tmp_path / "sae_weights.safetensors").items()}
    matrices = {"W_enc": (D_IN, D_SAE), "W_dec": (D_SAE, D_IN), "b_dec": (D_IN,)}
    assert shapes == matrices | dict.fromkeys(TENSORS[name].split(), (D_SAE,))
    config = json.loads((tmp_path / "cfg.json").read_text())
    assert config["architecture"] == {"batchtopk": "jumprelu"}.get(name, name)
    assert config.get("k") == (K if name == "topk" else None)
    loaded = load_dictionary(str(tmp_path))
    assert torch.equal(loaded(x).codes, sae(x).codes) and torch.equal(loaded(x).reconstruction, sae(x).reconstruction)


def test_a_threshold_below_zero_is_read_as_what_it_means_to_saelens(x, tmp_path):
    sae = make("jumprelu").float()
    with torch.no_grad():
        sae.threshold[:8] = -1.0
    save_dictionary(sae, tmp_path, torch.float32)
    pre = preactivations(sae, x.float())
    torch.testing.assert_close(load_dictionary(str(tmp_path)).encode(x.float()), pre.relu() * (pre > sae.threshold))


@pytest.mark.parametrize("k", [None, 0, 17, "many"])
def test_a_topk_file_without_a_usable_k_is_refused(k, tmp_path):
    save_dictionary(trained("topk", True), tmp_path)
    config = json.loads((tmp_path / "cfg.json").read_text())
    (tmp_path / "cfg.json").write_text(json.dumps(config | {"k": k}))
    with pytest.raises(SaeCoreError, match=f"k = {k}; topk keeps 1 to 16 codes"):
        load_dictionary(str(tmp_path))


# --- training -------------------------------------------------------------------------------------------------------

RECIPES = {
    "the paper's": {"lam": 1.5, "resample_inputs": 8192},
    "ghost gradients": {"lam": 1.5, "ghost_gradients": True},
    "topk": {"architecture": "topk", "k": 3},
    "batchtopk": {"architecture": "batchtopk", "k": 3},
    "gated": {"architecture": "gated", "lam": 1.5},
    "jumprelu": {"architecture": "jumprelu", "lam": 0.5},
}


def recipe(name, steps=1200, **changes):
    sizes = {"d_sae": 80, "batch_size": 256, "lr": 3e-3, "buffer_rows": 16_384, "bf16": False}
    if name == "april 2024":
        return april_2024(steps, **sizes | {"lam": 1.5} | changes)
    no_resampling = {} if name == "the paper's" else {"resample_at": ()}
    return paper_scaled(steps, **sizes | no_resampling | RECIPES[name] | changes)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", [*RECIPES, "april 2024"])
def test_every_recipe_finds_planted_directions(name, tmp_path):
    chunks = PlantedChunks(n_chunks=350)
    sae = train(recipe(name), ActivationBuffer(chunks, n_rows=16_384), tmp_path, progress=False)
    best = (chunks.directions @ sae.W_dec.T).max(1).values
    assert best.mean() > 0.9
    x = chunks[349]
    reconstruction, codes = sae(x)
    left = (reconstruction - x).square().sum() / (x - x.mean(0)).square().sum()
    assert left < 0.25 and 2 < (codes > 0).sum(1).float().mean() < 8  # three of 40 are there on average


def run(config, steps=None):
    trainer = Trainer(config, make_buffer())
    progress = []
    for now in trainer.run():
        progress.append(now)
        if now.step == steps:
            break
    return trainer, progress


def short(name, **changes):
    sizes = {"steps": 30, "buffer_rows": 4096, "resample_at": ()}
    return recipe(name, **sizes | changes)


@pytest.mark.parametrize("name", RECIPES)
def test_the_result_works_on_raw_activations_and_decoder_rows_keep_unit_norm(name):
    trainer, _ = run(short(name))
    torch.testing.assert_close(trainer.sae.W_dec.norm(dim=1), torch.ones(80), atol=1e-5, rtol=0)
    x = PlantedChunks()[50]
    inside = copy.deepcopy(trainer.sae).eval()(x * trainer.scale)
    result = trainer.result()
    assert trainer.scale != 1.0 and not result.training and trainer.sae.training
    torch.testing.assert_close(result(x).codes, inside.codes / trainer.scale, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(result(x).reconstruction, inside.reconstruction / trainer.scale, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", RECIPES)
def test_a_stopped_run_continues_to_the_same_dictionary(name, tmp_path):
    whole, _ = run(short(name))
    stopped, _ = run(short(name), steps=11)
    state = {key: tensor.clone() for key, tensor in stopped.tensors().items()}
    continued = Trainer(short(name), make_buffer(), state)
    assert continued.step == 11
    for _ in continued.run():
        pass
    expected, found = whole.result().state_dict(), continued.result().state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)


@pytest.mark.parametrize("name", RECIPES)
def test_a_step_is_adams_on_the_gradient_of_the_loss_with_the_features_that_are_dead(name, monkeypatch):
    seen = []

    def record(sae, x, lam, dead):
        seen.append((copy.deepcopy(sae), x, lam, dead.clone()))
        return autograd_step(sae, x, lam, dead)

    monkeypatch.setattr(training, "autograd_step", record)
    config = short(name, dead_after=3, lr=1e-3, lr_decay=0)
    trainer, progress, gradients = Trainer(config, make_buffer()), [], []
    with torch.no_grad():
        getattr(trainer.sae, trainer.sae.code_units[0])[:4] = -20.0  # so that there are dead ones
    trainer.optimizer.register_step_pre_hook(
        lambda *_: gradients.append({n: p.grad.clone() for n, p in trainer.sae.named_parameters()})
    )
    for now in trainer.run():
        progress.append(now)
    assert len(seen) == (0 if name == "the paper's" else 30)  # its step is written by hand
    for at, (sae, x, lam, dead) in enumerate(seen):
        assert torch.equal(dead, progress[at - 1].dead if at else torch.zeros(80, dtype=torch.bool))
        loss = sae.loss(x, lam, dead)
        loss.total.backward()
        sae.W_dec.grad -= (sae.W_dec.grad * sae.W_dec).sum(1, keepdim=True) * sae.W_dec
        torch.nn.utils.clip_grad_norm_(sae.parameters(), 1.0)
        for key, parameter in sae.named_parameters():
            torch.testing.assert_close(gradients[at][key], parameter.grad, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(progress[at].loss, loss.total)
        torch.testing.assert_close(progress[at].l0, (loss.codes > 0).sum() / len(x))
    assert progress[-1].dead[:4].all()


def test_gradients_of_autograd_have_the_memory_order_of_their_parameters(x, dead):
    for name in ARCHITECTURES:  # fused Adam pairs them by their place in memory
        sae = make(name)
        for key, gradient in autograd_step(sae, x, LAM, dead).gradients.items():
            assert gradient.stride() == getattr(sae, key).stride()


def test_jumprelu_thresholds_never_turn_negative():
    trainer = Trainer(short("jumprelu", lr=0.05, lam=0.0), make_buffer())
    lowest = [trainer.sae.threshold.min().item() for _ in trainer.run()]
    assert min(lowest) == 0.0


REFUSED = {
    "unknown": ({"architecture": "topkk"}, "no architecture 'topkk': choose among standard, topk, batchtopk"),
    "topk without k": ({"architecture": "topk"}, r"topk needs k, from 1 to d_sae = 64; it is None"),
    "k too large": ({"architecture": "batchtopk", "k": 65}, r"batchtopk needs k, from 1 to d_sae = 64; it is 65"),
    "k a word": ({"architecture": "topk", "k": "ten"}, "k = ten must be a whole number or null"),
    "k for gated": ({"architecture": "gated", "k": 3}, "k = 3 is for topk and batchtopk, not for gated"),
    "k for standard": ({"k": 3}, "k = 3 is for topk and batchtopk, not for standard"),
    "ghosts of topk": ({"architecture": "topk", "k": 3, "ghost_gradients": True}, "ghost_gradients are for standard"),
    "resampling": ({"architecture": "gated", "resample_at": (5,)}, "gated does not resample"),
    "free norms": ({"architecture": "gated", "unit_norm": False}, "gated needs unit_norm"),
    "raw inputs": ({"architecture": "jumprelu"}, "jumprelu needs normalize"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_combination_that_has_no_meaning_is_refused_in_one_line(case):
    changes, message = REFUSED[case]
    with pytest.raises(SaeCoreError, match=message) as error:
        small(**{"resample_at": None} | changes)
    assert "\n" not in str(error.value)


def test_resampling_is_left_out_where_something_else_revives_features():
    assert small(resample_at=None).resample_at == (25_000, 50_000, 75_000, 100_000)
    assert small(resample_at=None, ghost_gradients=True).resample_at == ()
    assert small(resample_at=None, architecture="topk", k=3).resample_at == ()
    assert small(ghost_gradients=True).resample_at == (10, 20)  # both, if asked for


def test_a_jumprelu_dictionary_starts_with_the_papers_threshold_in_our_units():
    sae = JumpReLU(400, 3)
    torch.testing.assert_close(sae.threshold, torch.full((3,), 0.001 * math.sqrt(400)))
    assert sae.bandwidth == pytest.approx(0.02)
