"""Runs: how long one takes, estimated for every kind of dictionary, and whether one was of the same recipe."""

import json
import math
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest

from sae_core import runs
from sae_core.pretraining import PretrainConfig
from sae_core.recipe import TrainConfig, differing, paper_scaled

SMALL = {"steps": 40, "batch_size": 256, "buffer_rows": 4096, "resample_inputs": 1024}
KINDS = {
    "standard": {"d_sae": 64},
    "fewer features than are active": {"d_sae": 16},
    "ghost gradients": {"ghost_gradients": True},
    "topk": {"architecture": "topk", "k": 4},
    "batchtopk": {"architecture": "batchtopk", "k": 4},
    "gated": {"architecture": "gated"},
    "jumprelu": {"architecture": "jumprelu"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_time_of_every_kind_of_run_is_estimated(kind, tiny):
    config = paper_scaled(**SMALL | {"d_sae": 64, "lam": 1.0} | KINDS[kind])
    seconds = runs.seconds_to_train(config, tiny.network)
    assert 0 < seconds < 60 and math.isfinite(seconds)


@pytest.mark.parametrize(("kind", "expected"), [("standard", 40 * 3 + 20 / 2 * (9 - 3)), ("gated", 40 * 3)])
def test_half_of_the_warm_up_is_dense_only_where_steps_become_sparse(kind, expected, tiny, monkeypatch):
    """With a clock of one's own: two steps take 9 seconds, the others 3, and chunks no time."""
    clock = iter([0] * 9 + [9, 9, 18, 18, 21, 21, 24, 24, 27, 27])
    monkeypatch.setattr(runs, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    config = paper_scaled(**SMALL | {"d_sae": 64, "lam": 1.0, "lam_warmup": 20} | KINDS[kind])
    assert runs.seconds_to_train(config, tiny.network) == expected


def test_settings_from_numpy_can_be_written_down():
    config = TrainConfig(lr=np.float32(0.001), steps=np.int64(7), clip=np.float64(2))
    assert json.loads(json.dumps(asdict(config)))["steps"] == 7 and isinstance(config.lr, float)


def test_a_setting_that_is_younger_than_a_run_had_its_default_there():
    config = TrainConfig(d_sae=32, encoder_start=0.1, clip=1.0, resample_at=(), text=[("pocket", None)])
    recipe = {"d_sae": 32, "resample_at": [], "text": [["pocket", None]], "of a setting that is gone": 1}
    assert differing(recipe, config) == {"encoder_start": (None, 0.1), "clip": (None, 1.0)}
    assert differing(recipe | {"encoder_start": 0.1, "clip": 1.0}, config) == {}
    assert differing(recipe | {"clip": 2.0, "encoder_start": 0.1}, config) == {"clip": (2.0, 1.0)}
    assert differing({"passes": 2.0}, PretrainConfig(seed=1)) == {"passes": (2.0, 1.0), "seed": (0, 1)}
    assert differing({"shuffled": "A", "text": []}, {"shuffled": "A", "seed": 0}) == {"seed": (None, 0)}
