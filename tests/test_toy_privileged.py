"""Toy models with neurons: the formulas, the signed data, and two runs whose end is known."""

from functools import partial

import pytest
import torch

from sae_core import toy


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def with_biases(model):
    with torch.no_grad():
        model.b.normal_(generator=generator(1))
    return model


def test_relu_hidden_model_is_the_formula():
    model = with_biases(toy.ReluHiddenModel(3, 4, 2, generator=generator()))
    x = torch.rand(3, 50, 4, generator=generator(2))
    for i in range(3):
        expected = ((x[i] @ model.W[i]).relu() @ model.W[i].T + model.b[i]).relu()
        torch.testing.assert_close(model(x)[i], expected)
    assert (model.encode(x) == 0).any()


def test_two_layer_model_is_the_formula():
    model = with_biases(toy.TwoLayerModel(3, 4, 2, generator=generator()))
    x = torch.randn(3, 50, 4, generator=generator(2))
    for i in range(3):
        expected = ((x[i] @ model.W_in[i]).relu() @ model.W_out[i] + model.b[i]).relu()
        torch.testing.assert_close(model(x)[i], expected)
    torch.testing.assert_close(model(x[1:2])[1], model(x)[1])
    assert torch.equal(toy.TwoLayerModel(2, 4, 3).W_out, toy.TwoLayerModel(2, 4, 3).W_out)


def test_signed_features_have_their_probability_and_are_uniform_on_both_sides():
    probability = torch.tensor([[1.0, 0.3, 0.0], [0.02, 1.0, 0.3]])
    x = toy.signed_features(probability, 100_000, generator())
    torch.testing.assert_close((x != 0).float().mean(1), probability, atol=0.005, rtol=0)
    on = x[0, :, 1][x[0, :, 1] != 0]
    for share in (0.1, 0.5, 0.9):
        assert on.quantile(share).item() == pytest.approx(2 * share - 1, abs=0.02)


def test_hidden_neurons_are_dedicated_to_the_most_important_features_of_dense_data():
    model = toy.ReluHiddenModel(4, 4, 2)
    draw = partial(toy.sparse_features, torch.ones(4, 4), 64)
    loss = partial(toy.squared_error, importance=torch.tensor([1.0, 0.9, 0.01, 0.01]))
    toy.train(model, draw, 800, loss=loss, lr=2e-2, schedule=toy.cosine)
    best = model.W[toy.mean_loss(model, draw, 5, loss=loss).argmin()].detach()
    assert sorted(best.abs().argmax(0).tolist()) == [0, 1]
    assert (best.abs() > 0.25 * best.abs().amax(0)).sum(0).tolist() == [1, 1]


def test_two_layers_learn_absolute_values():
    model = toy.TwoLayerModel(6, 2, 4)
    draw = partial(toy.signed_features, torch.ones(6, 2), 64)
    toy.train(model, draw, 800, target=torch.abs, lr=2e-2, schedule=toy.cosine)
    assert toy.mean_loss(model, draw, 5, target=torch.abs).min() < 1e-4
