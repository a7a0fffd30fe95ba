"""Effects: the direct path is the model's own, ablation removes one feature and nothing else, pinned means pinned."""

import numpy as np
import pytest
import torch

from sae_core.activations import harvest, patched
from sae_core.autoencoder import SparseAutoencoder
from sae_core.effects import ablation_effect, logit_weights, sample
from sae_core.language_model import MLP_OUT, to_tensor, token_losses
from sae_core.variants import JumpReLU


@pytest.fixture(scope="module")
def ids():
    rows = np.random.default_rng(0).integers(1, 320, (3, 32)).astype(np.uint16)
    rows[:, 0] = 0
    return rows


@pytest.fixture(params=[True, False], ids=["tied bias", "untied bias"])
def dictionary(request, tiny, ids):
    """Features that fire on half of the tokens; 7 never does."""
    torch.manual_seed(1)
    sae = SparseAutoencoder(64, 8, tied_bias=request.param)
    with torch.no_grad():
        sae.b_dec.normal_(std=0.1)
        x = harvest(tiny.network, to_tensor(ids))[:, 1:].flatten(0, 1)
        sae.b_enc -= (x @ sae.W_enc + sae.folded_bias()).median(0).values
        sae.W_enc *= 100  # effects that stand out of fp32 rounding
        sae.b_enc *= 100
        sae.b_enc[7] = -1000.0
    return sae


def test_logit_weights_are_the_models_own_path(tiny, dictionary, ids):
    """Adding a direction to the MLP's activations moves the logits by these weights, over the residual's deviation."""
    directions = dictionary.W_dec[:2].detach()
    weights = logit_weights(tiny, directions)
    assert weights.shape == (2, 320)
    assert weights.median(1).values.abs().max() < 1e-6
    # The derivative of LayerNorm(r) along a direction, without the part through the standard deviation, comes out of
    # the full network once the final LayerNorm's division is held fixed.
    transformer = tiny.network.transformer
    captured = []
    handle = transformer.ln_f.register_forward_pre_hook(lambda _, inputs: captured.append(inputs[0]))
    with torch.no_grad():
        tiny.network(to_tensor(ids))
        with patched(tiny.network, lambda x: x + directions[1], MLP_OUT):
            tiny.network(to_tensor(ids))
    handle.remove()
    change = captured[1] - captured[0]
    scale = transformer.ln_f.weight
    logits = ((change - change.mean(-1, keepdim=True)) * scale) @ tiny.network.lm_head.weight.T
    logits = logits - logits.median(-1, keepdim=True).values
    torch.testing.assert_close(logits, weights[1].expand_as(logits), atol=1e-5, rtol=1e-4)


def test_ablation_is_the_change_in_log_likelihood_without_the_feature(tiny, dictionary, ids):
    effect = ablation_effect(tiny, dictionary, 0, ids, rows=2)
    tensor = to_tensor(ids)
    with torch.no_grad():
        x = harvest(tiny.network, tensor)
        codes = dictionary.encode(x)[..., :1]
        codes[:, 0] = 0
        replaced = x - codes * dictionary.W_dec[0]
        before = token_losses(tiny.network, tensor)
        with patched(tiny.network, lambda _: replaced, MLP_OUT):
            after = token_losses(tiny.network, tensor)
    np.testing.assert_allclose(effect[:, 1:], (before - after).numpy(), atol=1e-6)
    assert np.abs(effect).max() > 1e-3 and not effect[:, 0].any()


def test_ablation_reaches_only_the_token_after_the_one_it_changes(tiny, dictionary, ids):
    """Nothing comes after the MLP but the unembedding: where the feature is silent, the next prediction stays."""
    effect = ablation_effect(tiny, dictionary, 0, ids)
    with torch.no_grad():
        codes = dictionary.encode(harvest(tiny.network, to_tensor(ids)))[..., 0].numpy()
    silent = codes[:, 1:-1] == 0
    assert silent.any() and (codes[:, 1:-1] > 0).any()
    assert not effect[:, 2:][silent].any() and (effect[:, 2:][~silent] != 0).mean() > 0.9
    assert not effect[:, 1].any()  # predicted from column 0, which is left alone


def test_ablating_a_silent_feature_changes_nothing(tiny, dictionary, ids):
    assert not ablation_effect(tiny, dictionary, 7, ids).any()


def test_features_removed_together_are_removed_at_once(tiny, dictionary, ids):
    together = ablation_effect(tiny, dictionary, [0, 3], ids)

    def remove(x):
        codes = dictionary.encode(x)[..., [0, 3]]
        codes[:, 0] = 0.0
        return x - codes @ dictionary.W_dec[[0, 3]]

    with torch.no_grad():
        before = token_losses(tiny.network, to_tensor(ids))
        with patched(tiny.network, remove, MLP_OUT):
            after = token_losses(tiny.network, to_tensor(ids))
    np.testing.assert_allclose(together[:, 1:], (before - after).numpy(), atol=1e-5)
    alone = ablation_effect(tiny, dictionary, 0, ids)
    assert np.abs(together - alone).max() > 1e-4
    np.testing.assert_array_equal(ablation_effect(tiny, dictionary, [0], ids), alone)


def test_samples_are_reproducible_and_the_seed_matters(tiny):
    first = sample(tiny, "the river", 4, 6)
    assert first.shape == (4, 6)
    torch.testing.assert_close(first, sample(tiny, "the river", 4, 6))
    assert not torch.equal(first, sample(tiny, "the river", 4, 6, seed=1))


def test_ablation_removes_what_a_variant_calls_active(tiny, ids):
    """A JumpReLU feature below its threshold is off, though its preactivation is positive."""
    torch.manual_seed(1)
    sae = JumpReLU(64, 8)
    with torch.no_grad():
        sae.b_enc.fill_(100.0)
        sae.threshold.fill_(50.0)
    assert ablation_effect(tiny, sae, 0, ids).any()
    with torch.no_grad():
        sae.threshold.fill_(200.0)
    assert not ablation_effect(tiny, sae, 0, ids).any()


def test_cold_samples_are_the_likeliest_tokens(tiny):
    out = sample(tiny, "the river", 2, 3, temperature=1e-4)
    ids = tiny.to_ids("the river")
    for _ in range(3):
        ids = torch.cat([ids, tiny.logits(ids)[:, -1:].argmax(-1)], dim=1)
    assert out[0].tolist() == out[1].tolist() == ids[0, -3:].tolist()


def test_a_pinned_feature_has_the_value_it_was_pinned_to(tiny, dictionary, monkeypatch):
    """The dictionary reads back what was pinned, if encoder and decoder of the feature are aligned."""
    with torch.no_grad():
        sae = SparseAutoencoder(64, 8, tied_bias=dictionary.tied_bias)
        sae.load_state_dict(dictionary.state_dict())
        sae.W_dec[0] = sae.W_enc[:, 0] / sae.W_enc[:, 0].square().sum()  # adding (pin - f) d adds pin - f to f
        sae.b_enc[0] = 50.0  # active everywhere, so that ReLU hides nothing
    seen = []
    reader = tiny.network.get_submodule(MLP_OUT).register_forward_hook(
        lambda module, inputs, _: seen.append(sae.encode(inputs[0])[..., 0].detach())
    )
    sample(tiny, "the river", 2, 3, sae, 0, pin=60.0)
    reader.remove()
    assert [codes.shape[1] for codes in seen] == [len(tiny.to_ids("the river")[0]), 1, 1]  # then one token at a time
    codes = torch.cat(seen, dim=1)
    torch.testing.assert_close(codes[:, 1:], torch.full_like(codes[:, 1:], 60.0))
    assert (codes[:, 0] < 55).all()  # the beginning-of-sequence token is left alone


@pytest.mark.parametrize("pin", [None, 3.0])
def test_what_is_kept_between_steps_changes_nothing(tiny, dictionary, pin):
    """Each token is as likely as in one pass over the whole text, also where the text outgrows what the model reads."""
    pinning = {} if pin is None else {"sae": dictionary, "feature": 0, "pin": pin}
    prompt = "the river sings " * 4
    out = sample(tiny, prompt, 2, 24, temperature=1e-4, **pinning)
    ids = tiny.to_ids(prompt).expand(2, -1)
    assert len(ids[0]) < tiny.n_ctx < len(ids[0]) + 24

    def hold(x):
        change = (pin - dictionary.encode(x)[..., :1]) * dictionary.W_dec[0]
        change[:, 0] = 0
        return x + change

    for n in range(24):
        with torch.no_grad(), patched(tiny.network, hold if pinning else lambda x: x, MLP_OUT):
            likeliest = tiny.logits(ids[:, -tiny.n_ctx :])[:, -1].argmax(-1)
        assert torch.equal(likeliest, out[:, n])
        ids = torch.cat([ids, likeliest[:, None]], dim=1)


def test_pinning_follows_the_direction_of_the_feature(tiny, dictionary):
    """Held far above its range, a feature makes the model write the tokens with its largest logit weights."""
    best = logit_weights(tiny, dictionary.W_dec[:1])[0].topk(10).indices.tolist()
    pinned = sample(tiny, "the river", 2, 4, dictionary, 0, pin=1e5, temperature=1e-4).flatten().tolist()
    free = sample(tiny, "the river", 2, 4, temperature=1e-4).flatten().tolist()
    assert set(pinned) <= set(best) and not set(free) & set(best)


def test_longer_than_the_model_reads(tiny):
    assert sample(tiny, "the river sings " * 20, 1, 3).shape == (1, 3)
