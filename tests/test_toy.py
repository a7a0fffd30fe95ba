"""Toy models of superposition: the arithmetic on hand-computed cases, and runs whose end is known."""

import itertools
import math
from functools import partial

import pytest
import torch

from sae_core import toy
from sae_core.errors import SaeCoreError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def polygon(n, dimensions=2):
    """n unit vectors, evenly around a circle in the first two dimensions."""
    angles = torch.arange(n) * 2 * math.pi / n
    W = torch.zeros(n, dimensions)
    W[:, 0], W[:, 1] = angles.cos(), angles.sin()
    return W


def test_forward_is_the_formula_for_each_instance():
    model = toy.ToyModel(3, 4, 2, generator=generator())
    with torch.no_grad():
        model.b.normal_(generator=generator(1))
    x = torch.rand(3, 7, 4, generator=generator(2))
    for i in range(3):
        expected = (x[i] @ model.W[i] @ model.W[i].T + model.b[i]).relu()
        torch.testing.assert_close(model(x)[i], expected)
        torch.testing.assert_close(model(x[:1])[i], (x[0] @ model.W[i] @ model.W[i].T + model.b[i]).relu())
    model.relu = False
    assert (model(x) < 0).any()


def test_start_has_xaviers_scale_and_is_reproducible():
    model = toy.ToyModel(10, 90, 30)
    assert model.W.std().item() == pytest.approx(math.sqrt(2 / 120), rel=0.02)
    assert not model.b.any()
    assert torch.equal(model.W, toy.ToyModel(10, 90, 30).W)
    assert not torch.equal(model.W, toy.ToyModel(10, 90, 30, generator=generator(1)).W)


def test_sparse_features_have_their_probability_and_are_uniform():
    probability = torch.tensor([[1.0, 0.3, 0.0], [0.02, 1.0, 0.3]])
    x = toy.sparse_features(probability, 100_000, generator())
    assert x.shape == (2, 100_000, 3)
    torch.testing.assert_close((x > 0).float().mean(1), probability, atol=0.005, rtol=0)
    on = x[0, :, 1][x[0, :, 1] > 0]
    assert on.max() <= 1
    for share in (0.1, 0.5, 0.9):
        assert on.quantile(share).item() == pytest.approx(share, abs=0.01)


def test_correlated_features_come_together_with_values_of_their_own():
    x = toy.correlated_features(torch.tensor([[0.3, 0.1], [0.5, 1.0]]), 3, 50_000, generator())
    assert x.shape == (2, 50_000, 6)
    on = x > 0
    assert (on[..., :3].any(-1) == on[..., :3].all(-1)).all()
    together = on.float().mean(1)
    torch.testing.assert_close(together[0], torch.tensor([0.3] * 3 + [0.1] * 3), atol=0.01, rtol=0)
    both = x[0][on[0, :, 0]][:, :3]
    assert both.T.corrcoef()[0, 1].abs() < 0.03  # given that the group is on
    assert (on[0, :, 0] & on[0, :, 3]).float().mean().item() == pytest.approx(0.03, abs=0.005)  # groups: independent


def test_of_anticorrelated_features_one_at_most_is_on():
    x = toy.anticorrelated_features(torch.tensor([[0.6, 0.2]]), 2, 50_000, generator())
    on = x[0] > 0
    assert on[:, :2].sum(1).max() == 1
    torch.testing.assert_close(on.float().mean(0), torch.tensor([0.3, 0.3, 0.1, 0.1]), atol=0.01, rtol=0)
    assert (on[:, 0] & on[:, 2]).float().mean().item() == pytest.approx(0.03, abs=0.005)


def test_squared_error_sums_features_and_averages_the_batch():
    target = torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 3.0], [0.0, 1.0]]])
    output = torch.zeros_like(target)
    assert toy.squared_error(output, target).tolist() == [0.5, 5.0]
    assert toy.squared_error(output, target, torch.tensor([2.0, 0.1])).tolist() == pytest.approx([1.0, 0.5])
    per_instance = torch.tensor([[[1.0, 1.0]], [[0.0, 2.0]]])
    assert toy.squared_error(output, target, per_instance).tolist() == [0.5, 10.0]


@pytest.mark.parametrize(
    ("W", "dimensionality"),
    [
        (torch.eye(3), 1),
        (torch.tensor([[1.0], [-1.0]]), 1 / 2),  # antipodal pair
        (polygon(3), 2 / 3),
        (polygon(5), 2 / 5),
        (torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]), 3 / 4),  # tetrahedron, of any size
    ],
)
def test_dimensionality_of_polytopes(W, dimensionality):
    found = toy.feature_dimensionality(W)
    assert found.tolist() == pytest.approx([dimensionality] * len(W))
    assert found.sum().item() == pytest.approx(W.shape[1])


def test_measures_of_a_feature_that_is_not_represented():
    W = torch.tensor([[[2.0, 0.0], [0.0, 0.0], [-2.0, 0.0], [0.0, 1.0]]])
    assert toy.feature_norms(W).tolist() == [[2, 0, 2, 1]]
    assert toy.interference(W).tolist() == [[4, 0, 4, 0]]
    assert toy.feature_dimensionality(W).tolist() == [[0.5, 0, 0.5, 1]]
    assert toy.cosines(W)[0].tolist() == [[1, 0, -1, 0], [0, 0, 0, 0], [-1, 0, 1, 0], [0, 0, 0, 1]]


def run(model, steps=300, **options):
    draw = partial(toy.sparse_features, torch.ones(len(model.W), model.W.shape[1]), 64)
    return toy.train(model, draw, steps, **{"lr": 0.01, **options})


def test_a_linear_model_keeps_the_more_important_feature_and_the_others_mean():
    """Its best solution is known: W = (1, 0) and b = (0, E[x]); what is lost is the variance of the second."""
    model = toy.ToyModel(4, 2, 1, relu=False)
    importance = torch.tensor([1.0, 0.2])
    history = run(model, 1000, lr=0.03, loss=partial(toy.squared_error, importance=importance), schedule=toy.cosine)
    torch.testing.assert_close(model.W[..., 0].abs(), torch.tensor([1.0, 0]).expand(4, 2), atol=0.02, rtol=0)
    torch.testing.assert_close(model.b, torch.tensor([0.0, 0.5]).expand(4, 2), atol=0.03, rtol=0)
    assert history.losses[-1].mean().item() == pytest.approx(0.2 / 12, rel=0.1)
    draw = partial(toy.sparse_features, torch.ones(4, 2), 1000)
    weighted = toy.mean_loss(model, draw, 20, loss=partial(toy.squared_error, importance=importance))
    assert weighted.tolist() == pytest.approx([0.2 / 12] * 4, rel=0.05)


def test_instances_do_not_influence_each_other():
    together, alone = toy.ToyModel(2, 4, 2), toy.ToyModel(1, 4, 2)
    with torch.no_grad():
        alone.W.copy_(together.W[1:])
    draw = partial(toy.sparse_features, torch.full((1, 4), 0.3), 64)  # one batch for all instances
    toy.train(together, draw, 50, loss=partial(toy.squared_error, importance=torch.tensor([[[100.0]], [[1.0]]])))
    toy.train(alone, draw, 50)
    torch.testing.assert_close(together.W[1:], alone.W)


def test_history_holds_the_run():
    model = toy.ToyModel(2, 3, 2)
    start = model.W.detach().clone()
    history = run(model, 35, records=3, snapshots=True)
    assert history.steps == [0, 11, 22, 33, 35]
    assert history.losses.shape == (5, 2) and history.losses[-1].sum() < history.losses[0].sum()
    assert history.snapshots["W"].shape == (5, 2, 3, 2)
    assert torch.equal(history.snapshots["W"][0], start)
    assert torch.equal(history.snapshots["b"][-1], model.b.detach())
    assert run(model, 5).snapshots == {}


def test_recorded_losses_are_means_since_the_record_before():
    numbers = itertools.count()
    history = run(toy.ToyModel(1, 3, 2), 10, records=3, loss=lambda output, _: 0 * output.sum((1, 2)) + next(numbers))
    assert history.steps == [0, 3, 6, 9, 10]
    assert history.losses[:, 0].tolist() == [0, 2, 5, 8, 10]


def test_a_run_is_reproducible_and_its_seed_matters():
    models = [toy.ToyModel(2, 3, 2) for _ in range(3)]
    for model, seed in zip(models, (0, 0, 1), strict=True):
        run(model, 20, seed=seed)
    assert torch.equal(models[0].W, models[1].W)
    assert not torch.equal(models[0].W, models[2].W)


def test_target_frozen_parameters_and_schedule():
    model = toy.ToyModel(1, 2, 2, relu=False)
    model.W.requires_grad_(False)
    start = model.W.clone()
    run(model, 500, target=lambda x: 2 + x @ model.W @ model.W.mT, schedule=toy.cosine, lr=0.03)
    assert torch.equal(model.W, start)
    torch.testing.assert_close(model.b, torch.full((1, 2), 2.0), atol=0.01, rtol=0)
    run(model, 20, schedule=lambda progress: 0.0)
    torch.testing.assert_close(model.b, torch.full((1, 2), 2.0), atol=0.01, rtol=0)
    assert [schedule(0.5) for schedule in (toy.constant, toy.linear, toy.cosine)] == pytest.approx([1, 0.5, 0.5])
    assert [schedule(1.0) for schedule in (toy.constant, toy.linear, toy.cosine)] == pytest.approx([1, 0, 0])


def test_a_run_that_diverges_says_so():
    with pytest.raises(SaeCoreError, match="lower the learning rate"):
        run(toy.ToyModel(1, 3, 2), lr=1e18)
