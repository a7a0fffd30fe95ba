"""Training: the recipes, each rule of the loop, and runs that can be stopped, watched and repeated."""

import json
import math
import os
import random
import resource
import sys
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sae_core import checkpoint, training
from sae_core.activations import ActivationBuffer
from sae_core.autoencoder import NAMES, SparseAutoencoder
from sae_core.errors import SaeCoreError
from sae_core.metrics import ReconstructionStatistics
from sae_core.recipe import TrainConfig, april_2024, paper, paper_scaled
from sae_core.step import loss_step
from sae_core.training import Trainer, geometric_median, normalize_decoder, remove_parallel_gradient, train

D_IN, N_FEATURES = 24, 40


class PlantedChunks:
    """Sparse sums of known directions on top of a constant: about three of 40 in 24 dimensions."""

    def __init__(self, n_chunks=60, rows=1000):
        self.n_chunks, self.rows = n_chunks, rows
        directions = torch.randn(N_FEATURES, D_IN, generator=torch.Generator().manual_seed(0))
        self.directions = torch.nn.functional.normalize(directions, dim=1)

    def __len__(self):
        return self.n_chunks

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        present = torch.rand(self.rows, N_FEATURES, generator=generator) < 3 / N_FEATURES
        strength = torch.rand(self.rows, N_FEATURES, generator=generator) + 0.5
        return (present * strength) @ self.directions + 0.3


def make_buffer(**options):
    return ActivationBuffer(PlantedChunks(**options), n_rows=4096)


def small(**changes):
    """The paper's recipe at a size for tests."""
    sizes = {
        "d_sae": 64, "steps": 30, "batch_size": 256, "lam": 0.5, "lr": 1e-3, "resample_at": (10, 20), "dead_after": 5,
        "resample_inputs": 2048, "buffer_rows": 4096,
    }  # fmt: skip
    return TrainConfig(**sizes | changes)


def weights(sae):
    return {name: getattr(sae, name).detach().clone() for name in NAMES}


def same(one, other):
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in NAMES)


@pytest.fixture
def calls(monkeypatch):
    """What the loop passes to loss_step and what comes back, step by step."""
    recorded = []

    def record(sae, x, lam, **options):
        result = loss_step(sae, x, lam, **options)
        recorded.append({"x": x, "lam": lam, "fired": result.fired, **options})
        return result

    monkeypatch.setattr(training, "loss_step", record)
    return recorded


# --- the recipes ----------------------------------------------------------------------------------------------------


def test_the_paper_preset_has_the_papers_numbers():
    config = paper()
    assert config.batch_size * config.steps == 8_192_000_000
    assert config.lam == pytest.approx(0.004 * 512)
    assert config.resample_at == (25_000, 50_000, 75_000, 100_000)
    assert config.dead_after == 12_500 and config.resample_inputs == 819_200
    assert config.tied_bias and config.unit_norm
    assert config.lam_warmup == 0 and config.lr_decay == 0 and config.clip is None and not config.normalize


def test_the_scaled_preset_keeps_the_rules_and_scales_the_steps():
    config = paper_scaled(1000)
    assert config.resample_at == (100, 200, 300, 400) and config.dead_after == 10
    assert config.lam_warmup == 50 and config.lr_decay == 200
    assert config.tied_bias and config.unit_norm and config.clip == 1.0 and config.normalize
    assert [paper_scaled(steps).resample_inputs for steps in (100, 1000, 10_000)] == [16_384, 40_000, 131_072]
    assert paper_scaled(1000, lam=7.0, dead_after=3).lam == 7.0


@pytest.mark.parametrize("variant", [{"architecture": "topk", "k": 8}, {"ghost_gradients": True}])
def test_the_scaled_preset_resamples_only_where_nothing_else_revives_features(variant):
    assert paper_scaled(1000).resample_at == (100, 200, 300, 400)
    assert paper_scaled(1000, **variant).resample_at == ()
    assert paper_scaled(1000, ghost_gradients=True, resample_at=(5,)).resample_at == (5,)


def test_the_april_preset_has_the_updates_numbers():
    config = april_2024(steps=1000)
    assert april_2024().steps == 200_000 and config.lr == 5e-5 and config.lam == 5.0
    assert config.lam_warmup == 50 and config.lr_decay == 200 and config.clip == 1.0 and config.normalize
    assert not config.tied_bias and not config.unit_norm and config.resample_at == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d_sae": 0}, "d_sae = 0 must be positive"),
        ({"lr": -1.0}, "lr = -1.0 must be positive"),
        ({"clip": 0}, "clip = 0 must be positive, or null"),
        ({"lam": -0.1}, "lam = -0.1 must not be negative"),
        ({"resample_inputs": 5000}, "resample_inputs = 5000"),
        ({"batch_size": 4096}, "buffer_rows = 4096"),
    ],
)
def test_a_configuration_that_cannot_train_is_refused(change, message):
    with pytest.raises(SaeCoreError, match=message):
        small(**change)


# --- the start ------------------------------------------------------------------------------------------------------


def test_the_geometric_median_has_the_least_mean_distance():
    x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)).exp()
    median = geometric_median(x)
    pull = torch.nn.functional.normalize(x - median, dim=1).mean(0)  # the gradient of the mean distance
    assert pull.norm() < 1e-4
    assert torch.nn.functional.normalize(x - x.mean(0), dim=1).mean(0).norm() > 0.05


def test_the_geometric_median_withstands_outliers_and_points_that_it_meets():
    x = torch.zeros(11, 2)
    x[-1] = 1e6
    torch.testing.assert_close(geometric_median(x), torch.zeros(2), atol=1e-2, rtol=0)


class SkewedChunks(PlantedChunks):
    """A tenth of the rows far away on one side."""

    def __getitem__(self, index):
        chunk = super().__getitem__(index)
        chunk[::10] += 20.0
        return chunk


@pytest.mark.parametrize("normalize", [False, True])
def test_the_decoder_bias_starts_at_the_geometric_median_of_the_inputs(normalize):
    trainer = Trainer(small(normalize=normalize), ActivationBuffer(SkewedChunks(), n_rows=4096))
    x = torch.cat([SkewedChunks()[index] for index in range(10)]) * trainer.scale
    pull = torch.nn.functional.normalize(x - trainer.sae.b_dec, dim=1).mean(0).norm()
    assert pull < 0.02 < 0.1 < torch.nn.functional.normalize(x - x.mean(0), dim=1).mean(0).norm()


def test_without_a_tied_bias_the_decoder_bias_starts_at_zero():
    assert not Trainer(small(tied_bias=False), make_buffer()).sae.b_dec.any()


def test_the_rest_starts_as_a_fresh_dictionary_of_the_seed():
    config = small(seed=3)
    fresh = SparseAutoencoder(D_IN, config.d_sae, generator=torch.Generator().manual_seed(3))
    sae = Trainer(config, make_buffer()).sae
    assert all(torch.equal(getattr(sae, name), getattr(fresh, name)) for name in ("W_enc", "b_enc", "W_dec"))


def test_normalized_inputs_have_a_mean_squared_norm_of_d_in(calls):
    config = small(normalize=True, steps=5)
    for _ in Trainer(config, make_buffer()).run():
        pass
    mean = torch.cat([call["x"] for call in calls]).square().sum(1).mean().item()
    assert mean == pytest.approx(D_IN, rel=0.05)


def test_inputs_stay_as_they_are_unless_normalized():
    trainer = Trainer(small(), make_buffer())
    assert trainer.scale == 1.0


# --- each step ------------------------------------------------------------------------------------------------------


def test_decoder_rows_have_unit_norm_after_every_step():
    trainer = Trainer(small(lr=0.03), make_buffer())
    for now in trainer.run():
        torch.testing.assert_close(trainer.sae.W_dec.norm(dim=1), torch.ones(64), atol=1e-5, rtol=0, msg=f"{now.step}")


def test_adam_sees_the_decoders_gradient_without_its_component_along_each_row(monkeypatch):
    trainer, seen, raw = Trainer(small(), make_buffer()), [], []

    def record(sae, x, lam, **options):
        result = loss_step(sae, x, lam, **options)
        raw.append(result.gradients["W_dec"].clone())
        return result

    def before_adam(*_):
        seen.append((trainer.sae.W_dec.detach().clone(), trainer.sae.W_dec.grad.clone()))

    monkeypatch.setattr(training, "loss_step", record)
    trainer.optimizer.register_step_pre_hook(before_adam)
    for _ in trainer.run():
        pass
    for (rows, gradient), unprojected in zip(seen, raw, strict=True):
        along = (gradient * rows).sum(1).abs()
        assert along.max() < 1e-5 * max(1.0, gradient.norm().item())
        assert (unprojected * rows).sum(1).abs().max() > 1e-2  # there was something to remove
        torch.testing.assert_close(gradient, unprojected - (unprojected * rows).sum(1, keepdim=True) * rows)


def test_removing_the_parallel_gradient_keeps_the_perpendicular_part():
    sae = SparseAutoencoder(3, 2)
    with torch.no_grad():
        sae.W_dec.copy_(torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.6, 0.8]]))
    sae.W_dec.grad = torch.tensor([[5.0, 2.0, -1.0], [0.0, 3.0, 4.0]])
    remove_parallel_gradient(sae)
    torch.testing.assert_close(sae.W_dec.grad, torch.tensor([[0.0, 2.0, -1.0], [0.0, 0.0, 0.0]]))


def test_a_row_of_zeros_does_not_become_not_a_number():
    sae = SparseAutoencoder(3, 2)
    with torch.no_grad():
        sae.W_dec[0] = 0.0
    normalize_decoder(sae)
    assert not sae.W_dec[0].any() and sae.W_dec[1].norm().item() == pytest.approx(1.0)


@pytest.mark.parametrize("asked, fast, bf16", [(True, True, True), (True, False, False), (False, True, False)])
def test_products_are_in_bf16_where_asked_for_and_faster(asked, fast, bf16, calls, monkeypatch):
    monkeypatch.setattr(training, "bf16_is_fast", lambda: fast)
    next(Trainer(small(steps=1, bf16=asked), make_buffer()).run())
    assert [call["bf16"] for call in calls] == [bf16]


def test_steps_are_adams_on_the_gradients_of_the_loss():
    trainer = Trainer(small(steps=4, bf16=False), make_buffer())
    reference = SparseAutoencoder(D_IN, 64)
    reference.load_state_dict(trainer.sae.state_dict())
    optimizer = torch.optim.Adam(reference.parameters(), lr=1e-3, betas=(0.9, 0.999))
    twin = make_buffer()
    for _ in trainer.run():
        x = twin.next_batch(256)
        reconstruction, codes = reference(x)
        optimizer.zero_grad()
        ((reconstruction - x).square().sum(1).mean() + 0.5 * codes.sum(1).mean()).backward()
        with torch.no_grad():
            reference.W_dec.grad -= (reference.W_dec.grad * reference.W_dec).sum(1, keepdim=True) * reference.W_dec
            optimizer.step()
            reference.W_dec /= reference.W_dec.norm(dim=1, keepdim=True)
    for name in NAMES:
        torch.testing.assert_close(getattr(trainer.sae, name), getattr(reference, name), atol=1e-5, rtol=1e-4)


def test_moments_of_a_silent_feature_end_at_zero_and_never_stay_denormal():
    trainer = Trainer(small(steps=1100, resample_at=()), make_buffer(n_chunks=1200))
    with torch.no_grad():
        trainer.sae.b_enc[3] = -1e3  # never fires
    smallest_normal = torch.finfo(torch.float32).tiny
    moments = {}
    for now in trainer.run():
        moments = {name: trainer.optimizer.state[getattr(trainer.sae, name)]["exp_avg"] for name in NAMES}
        if now.step == 1:
            moments["W_dec"][3] = 1e-3  # as if it had fired until now
        if now.step == 50:
            assert moments["W_dec"][3].all()  # what is small, not what is denormal yet, stays
    assert not moments["W_dec"][3].any()
    assert all((m.abs() >= smallest_normal)[m != 0].all() for m in moments.values())


def test_every_activation_is_used_once(calls):
    class DifferentRows(PlantedChunks):
        def __getitem__(self, index):
            return torch.randn(self.rows, D_IN, generator=torch.Generator().manual_seed(index))

    for _ in Trainer(small(steps=100), ActivationBuffer(DifferentRows(), n_rows=4096)).run():
        pass
    rows = torch.cat([call["x"] for call in calls])
    assert len(rows.unique(dim=0)) == len(rows) == 100 * 256


def test_a_run_that_is_longer_than_the_text_ends_in_an_error(tmp_path):
    with pytest.raises(SaeCoreError, match="used up"):
        train(small(steps=1000), make_buffer(n_chunks=20), tmp_path, progress=False)


def test_lambda_rises_over_the_warm_up_and_then_stays(calls):
    for _ in Trainer(small(steps=20, lam=2.0, lam_warmup=8), make_buffer()).run():
        pass
    assert [call["lam"] for call in calls] == pytest.approx([2.0 * min(1.0, n / 8) for n in range(1, 21)])


def test_without_warm_up_lambda_is_constant(calls):
    for _ in Trainer(small(steps=5, lam=2.0), make_buffer()).run():
        pass
    assert [call["lam"] for call in calls] == [2.0] * 5


def learning_rates(config):
    trainer, rates = Trainer(config, make_buffer()), []
    trainer.optimizer.register_step_pre_hook(lambda *_: rates.append(trainer.optimizer.param_groups[0]["lr"]))
    for _ in trainer.run():
        pass
    return rates


def test_the_learning_rate_falls_linearly_over_the_last_steps():
    rates = learning_rates(small(steps=20, lr=0.01, lr_decay=5))
    assert rates == pytest.approx([0.01] * 15 + [0.01, 0.008, 0.006, 0.004, 0.002])


def test_a_gradient_in_another_memory_order_is_the_same_gradient(monkeypatch):
    """PyTorch's fused Adam would take it for another one, without a word."""
    plain, other = Trainer(small(steps=3), make_buffer()), Trainer(small(steps=3), make_buffer())
    for _ in plain.run():
        pass

    def turned(*arguments, **options):
        step = loss_step(*arguments, **options)
        return step._replace(gradients=step.gradients | {"W_enc": step.gradients["W_enc"].contiguous()})

    monkeypatch.setattr(training, "loss_step", turned)
    for _ in other.run():
        pass
    assert same(plain.result(), other.result())


def test_without_decay_the_learning_rate_is_constant():
    assert learning_rates(small(steps=5, lr=0.01)) == [0.01] * 5


# --- dead features and resampling in the loop -----------------------------------------------------------------------


def test_dead_means_silent_on_every_example_of_the_last_dead_after_steps(monkeypatch):
    # A made-up history: a third of the features fire in a step, each on a single example, and a few never do.
    fired = (torch.rand(30, 64, generator=torch.Generator().manual_seed(0)) < 0.3).long()
    fired[:, :3] = 0
    monkeypatch.setattr(training, "loss_step", lambda *a, **o: loss_step(*a, **o)._replace(fired=fired[trainer.step]))
    trainer = Trainer(small(resample_at=(), dead_after=4), make_buffer())
    for now in trainer.run():
        silent = (fired[max(0, now.step - 4) : now.step] == 0).all(0) & (now.step >= 4)
        assert torch.equal(now.dead, silent)
    assert 3 < now.dead.sum() < 60


def silence(trainer, features):
    with torch.no_grad():
        trainer.sae.b_enc[features] = -100.0


def test_dead_features_are_resampled_at_the_given_steps_and_at_no_other():
    """Nor at the last one, after which nothing would train them."""
    trainer = Trainer(small(steps=24, resample_at=(8, 16, 24), dead_after=4), make_buffer())
    resampled = {}
    silence(trainer, [0, 1, 2])
    for now in trainer.run():
        resampled[now.step] = now.resampled
        if now.step > 8:
            silence(trainer, [0, 1, 2])
    assert [step for step, count in resampled.items() if count] == [8, 16]
    assert resampled[8] == resampled[16] == 3


def test_a_feature_that_was_silent_for_less_long_is_left_alone():
    trainer = Trainer(small(steps=9, resample_at=(8,), dead_after=4), make_buffer())
    silence(trainer, [0])
    for now in trainer.run():
        if now.step == 5:
            silence(trainer, [1])
        if now.step == 8:
            break
    assert now.resampled == 1 and now.dead[0] and not now.dead[1]
    assert trainer.sae.b_enc[0] == 0.0 and trainer.sae.b_enc[1] < -90.0


def test_a_resampled_feature_has_to_fall_silent_anew():
    trainer = Trainer(small(steps=20, resample_at=(8,), dead_after=6), make_buffer())
    silence(trainer, [0])
    dead = {}
    for now in trainer.run():
        dead[now.step] = bool(now.dead[0])
        if now.step == 8:
            silence(trainer, [0])
    assert [step for step, value in dead.items() if value] == [6, 7, 8, 14, 15, 16, 17, 18, 19, 20]


def test_resampling_looks_at_resample_inputs_inputs_of_the_buffer(monkeypatch):
    seen = []

    def record(sae, optimizer, dead, inputs, lam, generator, scale, by_decoder_norm):
        assert not by_decoder_norm
        seen.append((len(inputs), torch.isin(inputs, trainer.buffer.rows).all().item(), lam, scale))
        return 0

    monkeypatch.setattr(training, "resample", record)
    trainer = Trainer(small(resample_inputs=3000, normalize=True, lam=0.7), make_buffer())
    for _ in trainer.run():
        pass
    assert seen == [(3000, True, 0.7, trainer.scale)] * 2 and trainer.scale != 1.0


def test_resampling_looks_at_inputs_from_everywhere_in_the_buffer(monkeypatch):
    """Not at a stretch of the text: the rows of a chunk stand together in the buffer's memory."""

    class Numbered(PlantedChunks):
        def __getitem__(self, index):
            return super().__getitem__(index).index_fill_(1, torch.tensor(0), float(index))

    met = []
    monkeypatch.setattr(training, "resample", lambda *a: met.append(len(a[3][:, 0].unique())) or 0)
    buffer = ActivationBuffer(Numbered(n_chunks=240, rows=64), n_rows=4096)
    for _ in Trainer(small(resample_inputs=512, resample_at=(2, 4)), buffer).run():
        pass
    assert min(met) > 55  # of the 64 chunks in the buffer; 512 neighbouring rows are of 8


def test_a_run_that_continues_reads_no_text_again(tmp_path):
    """Its buffer is in the checkpoint; besides, the next chunk shows the width."""
    chunks = PlantedChunks()
    train(small(), ActivationBuffer(chunks, 4096), tmp_path, progress=False)
    read, get = [], PlantedChunks.__getitem__
    chunks.__class__ = type("Read", (PlantedChunks,), {"__getitem__": lambda self, i: read.append(i) or get(self, i)})
    train(small(), ActivationBuffer(chunks, 4096), tmp_path, progress=False)
    assert read == [0]


def test_weights_that_are_no_numbers_end_the_run_although_no_code_is_active(tmp_path, monkeypatch):
    def breaks(sae, *_):
        sae.W_enc.data.fill_(math.nan)
        return normalize(sae)

    normalize = training.normalize_decoder
    monkeypatch.setattr(training, "normalize_decoder", breaks)
    with pytest.raises(SaeCoreError, match="at step 5; use a smaller lr"):
        train(small(tied_bias=False), make_buffer(), tmp_path, log_every=5, progress=False)
    assert not list(tmp_path.glob("checkpoint-*"))


# --- the recipe of April 2024 ---------------------------------------------------------------------------------------


def april(**changes):
    sizes = {"steps": 40, "d_sae": 64, "batch_size": 256, "buffer_rows": 4096, "lr": 1e-3}
    return april_2024(**sizes | changes)


def test_april_starts_with_a_transposed_encoder_small_rows_and_no_biases():
    sae = Trainer(april(), make_buffer()).sae
    assert torch.equal(sae.W_enc, sae.W_dec.T)
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.full((64,), 0.1))
    assert not sae.b_enc.any() and not sae.b_dec.any() and not sae.tied_bias


def test_the_scaled_recipe_starts_from_a_small_transposed_decoder_and_the_paper_from_kaimings_encoder():
    sae = Trainer(small(encoder_start=0.25), make_buffer()).sae
    torch.testing.assert_close(sae.W_enc, 0.25 * sae.W_dec.T)
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(sae.d_sae))
    plain = Trainer(small(), make_buffer()).sae
    assert not torch.allclose(plain.W_enc, 0.25 * plain.W_dec.T, atol=0.05)
    assert paper().encoder_start is None and paper_scaled(100).encoder_start == 0.1
    with pytest.raises(SaeCoreError, match="encoder_start = 0 must be positive"):
        small(encoder_start=0)


def test_april_weighs_the_l1_norm_by_the_decoder_norm_and_the_paper_does_not(calls):
    for config in (april(steps=1), small(steps=1)):
        for _ in Trainer(config, make_buffer()).run():
            pass
    assert [call["by_decoder_norm"] for call in calls] == [True, False]


def test_april_warms_lambda_up_over_five_per_cent_and_decays_over_the_last_fifth(calls):
    rates = learning_rates(april())
    assert [call["lam"] for call in calls] == [2.5] + [5.0] * 39
    assert rates == pytest.approx([1e-3] * 33 + [1e-3 * n / 8 for n in range(7, 0, -1)])


def test_april_clips_the_gradient_to_norm_one(monkeypatch):
    trainer, raw, clipped = Trainer(april(lam_warmup=0, steps=10), make_buffer()), [], []

    def record(*args, **options):
        result = loss_step(*args, **options)
        raw.append({name: gradient.clone() for name, gradient in result.gradients.items()})
        return result

    monkeypatch.setattr(training, "loss_step", record)
    sae = trainer.sae
    trainer.optimizer.register_step_pre_hook(lambda *_: clipped.append({n: getattr(sae, n).grad for n in NAMES}))
    for _ in trainer.run():
        pass
    for before, after in zip(raw, clipped, strict=True):
        norm = math.sqrt(sum(gradient.square().sum().item() for gradient in before.values()))
        assert norm > 1.0
        for name in NAMES:
            torch.testing.assert_close(after[name], before[name] / norm, rtol=1e-4, atol=1e-6)


def test_april_lets_decoder_norms_go_and_the_result_has_unit_rows():
    trainer = Trainer(april(), make_buffer())
    for _ in trainer.run():
        pass
    assert (trainer.sae.W_dec.norm(dim=1) - 0.1).abs().max() > 1e-3
    torch.testing.assert_close(trainer.result().W_dec.norm(dim=1), torch.ones(64))


# --- the result -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [small(normalize=True), april()], ids=["paper", "april"])
def test_the_result_works_on_raw_activations(config):
    trainer = Trainer(config, make_buffer())
    for _ in trainer.run():
        pass
    x = PlantedChunks()[50]
    inside = trainer.sae(x * trainer.scale).reconstruction / trainer.scale
    torch.testing.assert_close(trainer.result()(x).reconstruction, inside, rtol=1e-4, atol=1e-5)
    before = weights(trainer.sae)
    trainer.result()
    assert all(torch.equal(getattr(trainer.sae, name), before[name]) for name in NAMES)


# --- runs: the log, checkpoints, stopping, watching -----------------------------------------------------------------


@pytest.fixture(scope="module")
def finished():
    """The dictionary of an undisturbed run, without a log or a checkpoint."""
    trainer = Trainer(small(), make_buffer())
    for _ in trainer.run():
        pass
    return trainer.result()


def read_log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_the_same_seed_gives_the_same_dictionary_and_another_seed_another(finished, tmp_path):
    assert same(train(small(), make_buffer(), tmp_path / "same", progress=False), finished)
    assert not same(train(small(seed=1), make_buffer(), tmp_path / "other", progress=False), finished)


class Board:
    """What TensorBoard's writer is to the log; it draws random numbers, too, as a careless one would."""

    written = []

    def __init__(self, folder, purge_step):
        self.written.append((folder, purge_step))

    def add_scalar(self, name, value, step):
        torch.rand(3), random.random(), np.random.rand()
        self.written.append((name, value, step))

    def close(self):
        self.written.append("closed")


def test_observation_does_not_change_the_dictionary(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Board))
    monkeypatch.setattr(Board, "written", [])
    config = small(steps=200, lam=20.0, lr=0.05, resample_at=(60, 120), dead_after=6)
    everything = {"log_every": 1, "checkpoint_every": 1, "progress": True, "tensorboard": True}
    nothing = {"log_every": 1000, "checkpoint_every": 1000, "progress": False}
    observed = train(config, make_buffer(), tmp_path / "observed", **everything)
    assert same(observed, train(config, make_buffer(), tmp_path / "left alone", **nothing))
    assert Board.written[0] == (str(tmp_path / "observed" / "tensorboard"), 1) and Board.written[-1] == "closed"
    assert len(Board.written) == 2 + 200 * 9
    assert sum(record["resampled"] > 0 for record in read_log(tmp_path / "observed")) == 2

    evaluated = Trainer(config, make_buffer())
    held_out = PlantedChunks()[59]
    for now in evaluated.run():
        statistics = ReconstructionStatistics()
        statistics.add(held_out, evaluated.result()(held_out).reconstruction)
        assert math.isfinite(sum(now.numbers().values()) + statistics.result()["explained_variance"])
    assert same(evaluated.result(), observed)


def test_progress_tells_on_how_many_examples_each_feature_fired(calls):
    trainer = Trainer(small(), make_buffer())
    for now, call in zip(trainer.run(), calls, strict=True):
        assert torch.equal(now.fired, call["fired"]) and now.l0.item() == pytest.approx(now.fired.sum().item() / 256)


def test_the_log_records_each_number_of_the_run(tmp_path, calls):
    train(small(), make_buffer(), tmp_path, log_every=7, progress=False)
    log = read_log(tmp_path)
    resampling = {10, 11, 20, 21}  # and the step after it, which shows what it did to the loss
    assert [record["step"] for record in log] == sorted({7, 14, 21, 28, 30} | resampling)
    for record in log:
        assert record["activations"] == record["step"] * 256
        assert record["loss"] == pytest.approx(record["squared_error"] + 0.5 * record["l1"], rel=1e-5)
        assert record["l0"] == pytest.approx(calls[record["step"] - 1]["fired"].sum().item() / 256)
        assert record["explained_variance"] < 1
    assert log[-1]["loss"] < log[0]["loss"]


def test_the_last_two_checkpoints_are_kept(tmp_path):
    train(small(), make_buffer(), tmp_path, checkpoint_every=8, progress=False)
    names = [path.name for path in checkpoint.checkpoints(tmp_path)]
    assert names == ["checkpoint-000000024.safetensors", "checkpoint-000000030.safetensors"]


# Strong enough for features to die, so that the second resampling depends on all that a checkpoint has to hold.
DYING = small(lam=20.0, lr=0.05, resample_at=(13, 27), dead_after=6)


@pytest.mark.parametrize("stop_after", [8, 13, 14, 24])
@pytest.mark.parametrize("config", [DYING, april(steps=30)], ids=["paper", "april"])
def test_a_stopped_run_continues_to_the_same_dictionary(stop_after, config, tmp_path, monkeypatch):
    how = {"checkpoint_every": 3, "log_every": 2, "progress": False}
    undisturbed = train(config, make_buffer(), tmp_path / "undisturbed", **how)
    buffer = make_buffer()
    batches = [buffer.next_batch] * stop_after
    with monkeypatch.context() as patch, pytest.raises(IndexError):
        patch.setattr(buffer, "next_batch", lambda *sizes: batches.pop()(*sizes))
        train(config, buffer, tmp_path / "stopped", **how)
    assert checkpoint.latest(tmp_path / "stopped", asdict(config))[1]["step"] == stop_after // 3 * 3
    continued = train(config, make_buffer(), tmp_path / "stopped", **how)
    assert same(continued, undisturbed)
    logs = [read_log(tmp_path / name) for name in ("undisturbed", "stopped")]
    assert [{**r, "seconds": 0} for r in logs[0]] == [{**r, "seconds": 0} for r in logs[1]]
    assert [r["step"] for r in logs[0] if r["resampled"]] == list(config.resample_at)


def test_the_log_says_which_rate_and_which_weight_each_step_had(tmp_path):
    config = small(steps=20, lam=2.0, lam_warmup=8, lr=0.01, lr_decay=5)
    train(config, make_buffer(), tmp_path, log_every=1, progress=False)
    log = read_log(tmp_path)
    assert [record["lam"] for record in log] == pytest.approx([2.0 * min(1, step / 8) for step in range(1, 21)])
    assert [record["lr"] for record in log] == pytest.approx([0.01 * min(1, (20 - step) / 5) for step in range(20)])


def test_a_finished_run_is_not_trained_again(finished, tmp_path):
    train(small(), make_buffer(), tmp_path, progress=False)
    buffer = make_buffer()
    again = train(small(), buffer, tmp_path, progress=False)
    assert same(again, finished) and len(read_log(tmp_path)) == len({record["step"] for record in read_log(tmp_path)})
    assert buffer.next_chunk == 0  # nor is its text read


def test_only_the_last_checkpoint_is_without_the_buffer(tmp_path):
    train(small(), make_buffer(), tmp_path, checkpoint_every=8, progress=False)
    state = {"buffer.rows", "buffer.order", "buffer.leftover", "buffer.generator", "buffer.counters"}
    (before, _), (last, _) = [checkpoint.load(path) for path in checkpoint.checkpoints(tmp_path)]
    assert before.keys() - last.keys() == state and before.keys() > last.keys()


def test_a_run_reads_no_more_text_than_it_needs():
    class Counted(PlantedChunks):
        read = 0

        def __getitem__(self, index):
            self.read = max(self.read, index + 1)
            return super().__getitem__(index)

    # 7,680 activations, of which the last refill of a quarter holds the end; 2,560, and the buffer's 4,096 are read.
    for steps, chunks in ((30, 9), (10, 5)):
        buffer = ActivationBuffer(Counted(), n_rows=4096)
        for _ in Trainer(small(steps=steps, resample_at=()), buffer).run():
            pass
        assert buffer.chunks.read == chunks
        buffer.next_batch(4096)  # whoever goes on is served


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path):
    train(small(), make_buffer(), tmp_path, progress=False)
    with pytest.raises(SaeCoreError, match=r"checkpoint-000000030.*written with lam = 0\.5, now 0\.6"):
        train(small(lam=0.6), make_buffer(), tmp_path, progress=False)


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_still_works(finished, tmp_path):
    train(small(), make_buffer(), tmp_path, checkpoint_every=8, progress=False)
    newest = checkpoint.checkpoints(tmp_path)[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    with pytest.raises(SaeCoreError, match=f"{newest.name}: damaged checkpoint .*delete it"):
        train(small(), make_buffer(), tmp_path, progress=False)
    newest.unlink()
    assert same(train(small(), make_buffer(), tmp_path, progress=False), finished)


def test_a_loss_that_is_not_a_number_ends_the_run_and_leaves_no_bad_checkpoint(tmp_path):
    class Exploding(PlantedChunks):
        def __getitem__(self, index):
            return super().__getitem__(index) * (1e25 if index >= 6 else 1.0)

    with pytest.raises(SaeCoreError, match="use a smaller lr"):
        train(small(), ActivationBuffer(Exploding(), 4096), tmp_path, log_every=30, checkpoint_every=1, progress=False)
    saved = [checkpoint.load(path)[0] for path in checkpoint.checkpoints(tmp_path)]
    assert saved and all(tensors[f"sae.{name}"].isfinite().all() for tensors in saved for name in NAMES)


@pytest.mark.parametrize(("poisoned_at", "noticed_at"), [(8, 14), (15, 21), (22, 28), (29, 30)])
def test_a_loss_that_is_not_a_number_is_noticed_within_log_every_steps(poisoned_at, noticed_at, tmp_path, monkeypatch):
    buffer, served = make_buffer(), []
    batch_of = buffer.next_batch

    def poisoned(*sizes):
        served.append(1)
        return batch_of(*sizes) * (math.nan if len(served) == poisoned_at else 1.0)

    monkeypatch.setattr(buffer, "next_batch", poisoned)
    with pytest.raises(SaeCoreError, match=f"the loss is nan at step {noticed_at}; use a smaller lr"):
        train(small(resample_at=()), buffer, tmp_path, log_every=7, checkpoint_every=7, progress=False)
    assert [int(path.stem[-9:]) < poisoned_at for path in checkpoint.checkpoints(tmp_path)] in ([True], [True, True])
    assert all(math.isfinite(record["loss"]) for record in read_log(tmp_path))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_checkpoint_that_holds_what_is_not_a_number_is_not_written(bad, dtype, tmp_path):
    checkpoint.save(tmp_path, 1, {"a": torch.zeros(3, dtype=dtype), "none": torch.zeros(0)}, {"config": {}})
    with pytest.raises(SaeCoreError, match="step 2: a holds a value that is not a number; not saved"):
        checkpoint.save(tmp_path, 2, {"a": torch.tensor([[1.0, bad], [0.0, 2.0]], dtype=dtype)}, {"config": {}})
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-000000001.safetensors"]


# --- checkpoints by themselves --------------------------------------------------------------------------------------


def test_a_checkpoint_brings_back_tensors_and_state(tmp_path):
    tensors = {"a": torch.arange(6.0).view(2, 3).T, "b": torch.tensor([1, 2])}
    checkpoint.save(tmp_path, 7, tensors, {"config": {"steps": (1, 2)}, "seconds": 1.5})
    loaded, state = checkpoint.latest(tmp_path, {"steps": (1, 2)})
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    assert state == {"step": 7, "config": {"steps": [1, 2]}, "seconds": 1.5}


def test_a_checkpoint_continues_only_the_run_that_it_is_of(tmp_path):
    identity = {"text": "ab", "d_in": 3}
    checkpoint.save(tmp_path, 1, {"a": torch.zeros(1)}, {"config": {"lr": 1.0}, "identity": identity})
    assert checkpoint.latest(tmp_path, {"lr": 1.0}, identity)[1]["step"] == 1
    for changed in ({"text": "cd"}, {"d_in": 4}, {"model": "ef"}):
        with pytest.raises(SaeCoreError, match=f"written for another {[*changed][0]}, .*use the old one or another"):
            checkpoint.latest(tmp_path, {"lr": 1.0}, identity | changed)


def test_a_digest_changes_with_every_value_and_not_with_the_memory_order():
    one = checkpoint.digest([torch.arange(6.0).view(2, 3)])
    assert one == checkpoint.digest([np.arange(6, dtype=np.float32)])
    assert one == checkpoint.digest([torch.arange(6.0).view(2, 3).T.contiguous().T])
    for changed in (torch.arange(6.0) + 1e-6, torch.arange(6.0).flip(0), torch.arange(5.0)):
        assert checkpoint.digest([changed]) != one
    assert checkpoint.digest([torch.zeros(2, dtype=torch.bfloat16), torch.tensor(3)])


def test_a_folder_is_one_processs_until_it_ends(tmp_path):
    with checkpoint.only_process(tmp_path / "run"):
        (tmp_path / "run" / ".checkpoint-000000001.safetensors.partial").touch()
        with pytest.raises(SaeCoreError, match="run: another process is writing into it"):
            with checkpoint.only_process(tmp_path / "run"):
                pass
        with checkpoint.only_process(tmp_path / "other"):
            pass
    with checkpoint.only_process(tmp_path / "run"):
        assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]  # the rest was of a killed process
    (tmp_path / "file").touch()
    with pytest.raises(SaeCoreError, match="file: cannot be written"):
        with checkpoint.only_process(tmp_path / "file"):
            pass


def test_there_is_no_checkpoint_in_a_new_folder(tmp_path):
    assert checkpoint.latest(tmp_path / "new", {}) is None


def test_a_disk_that_is_full_leaves_the_earlier_checkpoints_alone(tmp_path):
    checkpoint.save(tmp_path, 1, {"a": torch.zeros(10)}, {"config": {}})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))  # a real refusal by the operating system
    try:
        with pytest.raises(SaeCoreError, match=r"checkpoint-000000002\.safetensors: cannot be written"):
            checkpoint.save(tmp_path, 2, {"a": torch.zeros(100_000)}, {"config": {}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-000000001.safetensors"]
    assert checkpoint.latest(tmp_path, {})[1]["step"] == 1


def test_a_checkpoint_that_cannot_take_its_name_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(SaeCoreError, match="cannot be written"):
        checkpoint.save(tmp_path, 1, {"a": torch.zeros(1)}, {"config": {}})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(SaeCoreError, match=r"file/run/checkpoint-000000001\.safetensors: cannot be written"):
        checkpoint.save(tmp_path / "file" / "run", 1, {"a": torch.zeros(1)}, {"config": {}})


def test_a_checkpoint_appears_under_its_name_only_when_it_is_complete(tmp_path, monkeypatch):
    present = []

    def observe(tensors, path, metadata):
        save_file(tensors, path, metadata)
        present.append(checkpoint.checkpoints(tmp_path))

    save_file = checkpoint.save_file
    monkeypatch.setattr(checkpoint, "save_file", observe)
    checkpoint.save(tmp_path, 1, {"a": torch.zeros(1)}, {"config": {}})
    assert present == [[]] and len(checkpoint.checkpoints(tmp_path)) == 1


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b'{"not": "safetensors"}'])
def test_a_file_that_is_no_checkpoint_is_named(content, tmp_path):
    (tmp_path / "checkpoint-000000003.safetensors").write_bytes(content)
    with pytest.raises(SaeCoreError, match=r"checkpoint-000000003\.safetensors: damaged checkpoint"):
        checkpoint.latest(tmp_path, {})


def test_an_optimizer_continues_from_its_tensors_whatever_the_memory_order_of_its_parameters(tmp_path):
    def make():
        parameter = torch.nn.Parameter(torch.arange(12.0).view(4, 3).T)  # as W_enc: stored by columns
        return parameter, torch.optim.Adam([parameter], lr=0.1, fused=True)

    def step(parameter, optimizer, number):
        gradient = torch.randn(4, 3, generator=torch.Generator().manual_seed(number)).T
        parameter.grad = gradient
        optimizer.step()

    (one, optimizer), (other, restored) = make(), make()
    for number in range(5):
        step(one, optimizer, number)
    checkpoint.save(tmp_path, 5, checkpoint.optimizer_tensors(optimizer), {"config": {}})
    checkpoint.restore_optimizer(restored, checkpoint.latest(tmp_path, {})[0])
    with torch.no_grad():
        other.copy_(one)
    for number in range(5, 10):
        step(one, optimizer, number)
        step(other, restored, number)
    assert torch.equal(one, other)
