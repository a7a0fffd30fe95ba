"""Resampling, rule by rule (paper, appendix "Neuron Resampling")."""

import pytest
import torch

from sae_core.autoencoder import NAMES, SparseAutoencoder
from sae_core.errors import SaeCoreError
from sae_core.objective import loss_per_example
from sae_core.resampling import resample
from sae_core.step import loss_step

D_IN, D_SAE = 6, 20
DEAD = torch.arange(D_SAE) % 3 == 0


@pytest.fixture
def inputs():
    return 3 * torch.randn(500, D_IN, generator=torch.Generator().manual_seed(0)).abs()


@pytest.fixture
def sae(inputs):
    """A dictionary that is not at its start: every number differs from what resampling would write."""
    sae = SparseAutoencoder(D_IN, D_SAE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        sae.b_enc.uniform_(0.1, 0.2)
        sae.b_dec.copy_(inputs.mean(0))
        sae.W_enc[:, DEAD] *= 7.0  # so that the mean over all norms is not the mean over the alive ones
    return sae


@pytest.fixture
def optimizer(sae, inputs):
    """Adam after a few steps, with moments everywhere."""
    optimizer = torch.optim.Adam(sae.parameters(), lr=1e-3, fused=True)
    for batch in inputs.split(100):
        for name, gradient in loss_step(sae, batch, 0.1).gradients.items():
            getattr(sae, name).grad = gradient
        optimizer.step()
    for parameter in sae.parameters():
        for name in ("exp_avg", "exp_avg_sq"):
            optimizer.state[parameter][name].clamp_(min=0.001)
    return optimizer


def run(sae, optimizer, inputs, dead=DEAD, lam=0.1, seed=0, scale=1.0):
    return resample(sae, optimizer, dead, inputs, lam, torch.Generator().manual_seed(seed), scale)


def test_the_decoder_rows_of_dead_features_become_inputs_at_unit_norm(sae, optimizer, inputs):
    assert run(sae, optimizer, inputs) == DEAD.sum()
    units = torch.nn.functional.normalize(inputs, dim=1)
    assert all((units == row).all(1).any() for row in sae.W_dec[DEAD].detach())
    torch.testing.assert_close(sae.W_dec[DEAD].norm(dim=1), torch.ones(int(DEAD.sum())))


def test_the_encoder_columns_are_the_same_directions_at_a_fifth_of_the_alive_mean_norm(sae, optimizer, inputs):
    mean_norm = sae.W_enc[:, ~DEAD].norm(dim=0).mean()
    run(sae, optimizer, inputs)
    torch.testing.assert_close(sae.W_enc[:, DEAD].T, 0.2 * mean_norm * sae.W_dec[DEAD])


def test_the_encoder_biases_of_dead_features_become_zero(sae, optimizer, inputs):
    run(sae, optimizer, inputs)
    assert (sae.b_enc[DEAD] == 0).all()


def test_alive_features_and_the_decoder_bias_stay_untouched(sae, optimizer, inputs):
    before = {name: getattr(sae, name).clone() for name in NAMES}
    run(sae, optimizer, inputs)
    assert torch.equal(sae.W_dec[~DEAD], before["W_dec"][~DEAD])
    assert torch.equal(sae.W_enc[:, ~DEAD], before["W_enc"][:, ~DEAD])
    assert torch.equal(sae.b_enc[~DEAD], before["b_enc"][~DEAD])
    assert torch.equal(sae.b_dec, before["b_dec"])


@pytest.mark.parametrize("moment", ["exp_avg", "exp_avg_sq"])
@pytest.mark.parametrize("name", ["W_dec", "W_enc", "b_enc"])
def test_adams_moments_are_reset_for_the_changed_entries_only(sae, optimizer, inputs, name, moment):
    state = optimizer.state[getattr(sae, name)]
    before = state[moment].clone()
    run(sae, optimizer, inputs)
    features = (lambda tensor: tensor.T) if name == "W_enc" else (lambda tensor: tensor)
    assert (features(before) != 0).all()
    assert (features(state[moment])[DEAD] == 0).all()
    assert torch.equal(features(state[moment])[~DEAD], features(before)[~DEAD])


def test_the_decoder_biass_moments_and_the_step_counts_stay(sae, optimizer, inputs):
    before = {name: value.clone() for name, value in optimizer.state[sae.b_dec].items()}
    steps = [optimizer.state[parameter]["step"].item() for parameter in sae.parameters()]
    run(sae, optimizer, inputs)
    assert all(torch.equal(optimizer.state[sae.b_dec][name], value) for name, value in before.items())
    assert [optimizer.state[parameter]["step"].item() for parameter in sae.parameters()] == steps


def shares(sae, inputs, lam=0.0, scale=1.0, seed=0):
    """How often each of a few inputs is drawn when every feature is dead."""
    optimizer = torch.optim.Adam(sae.parameters())
    run(sae, optimizer, inputs, torch.ones(sae.d_sae, dtype=torch.bool), lam, seed, scale)
    nearest = (sae.W_dec @ torch.nn.functional.normalize(inputs, dim=1).T).argmax(1)
    return torch.bincount(nearest, minlength=len(inputs)) / sae.d_sae


def silent(d_in, d_sae):
    """A dictionary on which nothing fires, so that the loss of x is ‖x - b_dec‖²."""
    sae = SparseAutoencoder(d_in, d_sae)
    with torch.no_grad():
        sae.b_enc.fill_(-1e6)
    return sae


def test_an_input_is_drawn_in_proportion_to_the_square_of_its_loss():
    inputs = torch.diag(torch.tensor([1.0, 1.2, 1.5, 2.0]))
    loss = inputs.square().sum(1)
    drawn = shares(silent(4, 40_000), inputs)
    torch.testing.assert_close(drawn, loss**2 / (loss**2).sum(), atol=0.01, rtol=0)


def test_the_l1_norm_counts_as_loss():
    sae = silent(2, 20_000)
    with torch.no_grad():  # feature 0 reconstructs the first input perfectly, at the price of λ times its code
        sae.W_enc[:, 0] = torch.tensor([1.0, 0.0])
        sae.W_dec[0] = torch.tensor([1.0, 0.0])
        sae.b_enc[0] = 0.0
    drawn = shares(sae, torch.eye(2), lam=0.5)  # losses 0.5 and 1
    torch.testing.assert_close(drawn, torch.tensor([0.2, 0.8]), atol=0.015, rtol=0)


def test_the_loss_is_that_of_the_scaled_inputs():
    sae = silent(2, 20_000)
    with torch.no_grad():
        sae.b_dec.copy_(torch.tensor([1.0, 0.0]))
    drawn = shares(sae, torch.tensor([[0.5, 0.0], [0.0, 0.5]]), scale=2.0)
    assert drawn.tolist() == [0.0, 1.0]  # the first is b_dec once it is scaled, so it has no loss


def test_different_dead_features_get_different_inputs(sae, optimizer, inputs):
    for seed in range(20):
        run(sae, optimizer, inputs, seed=seed)
        assert len(sae.W_dec[DEAD].unique(dim=0)) == DEAD.sum()


def test_where_inputs_run_out_some_are_drawn_twice():
    inputs = torch.diag(torch.tensor([1.0, 2.0, 3.0]))
    assert shares(silent(3, 30), inputs).min() > 0
    zero = torch.zeros(4, 3)
    sae = silent(3, 5)
    assert run(sae, torch.optim.Adam(sae.parameters()), zero, torch.ones(5, dtype=torch.bool)) == 5  # no loss at all


def test_a_loss_that_is_not_a_number_is_refused():
    sae = silent(2, 5)
    with pytest.raises(SaeCoreError, match="not a number when features are resampled; use a smaller lr"):
        run(sae, torch.optim.Adam(sae.parameters()), torch.full((4, 2), torch.nan), torch.ones(5, dtype=torch.bool))


def test_the_l1_norm_is_weighted_as_in_training():
    inputs = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    sae = silent(2, 20_000)
    with torch.no_grad():  # feature 0 reconstructs the second input: its code is 10, its decoder row a tenth
        sae.W_enc[:, 0] = torch.tensor([10.0, 0.0])
        sae.W_dec[0] = torch.tensor([0.1, 0.0])
        sae.b_enc[0] = 0.0
    loss = [loss_per_example(sae, inputs, 0.5, by_decoder_norm=by_norm) for by_norm in (False, True)]
    assert [each.tolist() for each in loss] == [[1.0, 5.0], [1.0, 0.5]]
    optimizer = torch.optim.Adam(sae.parameters())
    generator = torch.Generator().manual_seed(0)
    everything = torch.ones(sae.d_sae, dtype=torch.bool)
    resample(sae, optimizer, everything, inputs, 0.5, generator, by_decoder_norm=True)
    assert sae.W_dec[:, 1].mean().item() == pytest.approx(0.8, abs=0.015)


def test_inputs_beyond_the_first_part_are_drawn_too():
    inputs = torch.cat([torch.zeros(9000, 2), torch.tensor([[0.0, 3.0]])])
    sae = silent(2, 5)
    optimizer = torch.optim.Adam(sae.parameters())
    run(sae, optimizer, inputs, torch.ones(5, dtype=torch.bool))
    torch.testing.assert_close(sae.W_dec, torch.tensor([[0.0, 1.0]]).expand(5, 2))


def test_without_dead_features_nothing_changes(sae, optimizer, inputs):
    before = {name: getattr(sae, name).clone() for name in NAMES}
    assert run(sae, optimizer, inputs, torch.zeros(D_SAE, dtype=torch.bool)) == 0
    assert all(torch.equal(getattr(sae, name), before[name]) for name in NAMES)


def test_where_all_are_dead_the_encoders_scale_comes_from_all(sae, optimizer, inputs):
    mean_norm = sae.W_enc.norm(dim=0).mean()
    assert run(sae, optimizer, inputs, torch.ones(D_SAE, dtype=torch.bool)) == D_SAE
    torch.testing.assert_close(sae.W_enc.norm(dim=0), (0.2 * mean_norm).expand(D_SAE))


def test_an_optimizer_that_has_not_stepped_yet_is_fine(sae, inputs):
    assert run(sae, torch.optim.Adam(sae.parameters()), inputs) == DEAD.sum()


def test_the_generator_decides_the_draw(sae, optimizer, inputs):
    rows = []
    for seed in (1, 1, 2):
        copy = SparseAutoencoder(D_IN, D_SAE)
        copy.load_state_dict(sae.state_dict())
        run(copy, torch.optim.Adam(copy.parameters()), inputs, seed=seed)
        rows.append(copy.W_dec[DEAD].clone())
    assert torch.equal(rows[0], rows[1]) and not torch.equal(rows[0], rows[2])
