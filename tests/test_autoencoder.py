"""The dictionary: what it computes, how it starts, and its files."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from sae_core import autoencoder, bundle
from sae_core.autoencoder import (
    NAMES,
    ROWS,
    SparseAutoencoder,
    dictionary_metadata,
    load_dictionary,
    save_dictionary,
)
from sae_core.errors import SaeCoreError


def random_sae(seed=0, d_in=12, d_sae=40, tied_bias=True):
    """Every parameter random, decoder rows of different norms."""
    generator = torch.Generator().manual_seed(seed)
    sae = SparseAutoencoder(d_in, d_sae, tied_bias, generator)
    with torch.no_grad():
        sae.b_enc.normal_(0, 0.1, generator=generator)
        sae.b_dec.normal_(0, 0.5, generator=generator)
        sae.W_dec *= torch.rand(d_sae, 1, generator=generator) + 0.5
    return sae


@pytest.fixture
def x():
    return torch.randn(50, 12, generator=torch.Generator().manual_seed(1))


# --- what it computes -----------------------------------------------------------------------------------------------


def test_the_encoder_sees_the_input_minus_the_decoder_bias(x):
    sae = random_sae()
    expected = torch.relu((x - sae.b_dec) @ sae.W_enc + sae.b_enc)
    torch.testing.assert_close(sae.encode(x), expected)


def test_an_untied_bias_is_not_subtracted(x):
    sae = random_sae(tied_bias=False)
    torch.testing.assert_close(sae.encode(x), torch.relu(x @ sae.W_enc + sae.b_enc))


@pytest.mark.parametrize("tied_bias", [True, False])
def test_the_decoder_adds_its_bias_to_the_sum_of_feature_directions(x, tied_bias):
    sae = random_sae(tied_bias=tied_bias)
    reconstruction, codes = sae(x)
    expected = sum(codes[:, [i]] * sae.W_dec[i] for i in range(sae.d_sae)) + sae.b_dec
    torch.testing.assert_close(reconstruction, expected)
    assert torch.equal(codes, sae.encode(x)) and (codes >= 0).all()


def test_leading_dimensions_are_kept(x):
    sae = random_sae()
    reconstruction, codes = sae(x.view(5, 10, 12))
    assert codes.shape == (5, 10, 40) and reconstruction.shape == (5, 10, 12)
    torch.testing.assert_close(codes.view(50, 40), sae.encode(x))


@pytest.fixture(params=[True, False], ids=["bf16", "fp32"])
def product(request, monkeypatch):
    """What decides which codes can be positive, whatever the processor of this machine."""
    monkeypatch.setattr(autoencoder, "bf16_is_fast", lambda: request.param)
    return "bf16" if request.param else "fp32"


@pytest.mark.parametrize("tied_bias", [True, False])
@pytest.mark.parametrize("shift", [-5.0, -0.5, 0.5], ids=["nothing active", "some active", "most active"])
def test_encode_sparse_gives_the_same_codes(x, shift, tied_bias, product):
    sae = random_sae(tied_bias=tied_bias)
    with torch.no_grad():
        sae.b_enc += shift
    sparse = sae.encode_sparse(x)
    torch.testing.assert_close(sparse.to_dense(), sae.encode(x), rtol=1e-5, atol=1e-6)
    assert (sparse.values() > 0).all()


@pytest.mark.parametrize("d_sae", [40, 41, 43])
def test_encode_sparse_takes_any_number_of_examples_and_features(d_sae, product):
    # It goes through the batch in parts, and looks for positive entries several at a time.
    sae = random_sae(d_sae=d_sae)
    x = torch.randn(2 * ROWS + 13, 12, generator=torch.Generator().manual_seed(2))
    sparse = sae.encode_sparse(x)
    torch.testing.assert_close(sparse.to_dense(), sae.encode(x), rtol=1e-5, atol=1e-6)
    for row in (0, ROWS, 2 * ROWS + 12):
        start, end = sparse.crow_indices()[row : row + 2].tolist()
        assert sparse.col_indices()[start:end].tolist() == (sae.encode(x[row]) > 0).nonzero().flatten().tolist()


@pytest.mark.parametrize("share", [0.0, 0.003, 0.05, 0.6])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.bool])
def test_entries_are_found_in_order_however_many_there_are(dtype, share):
    generator = torch.Generator().manual_seed(0)
    for shape in ((512, 96), (7, 5)):
        flags = (torch.rand(shape, generator=generator) < share).to(dtype)
        assert torch.equal(autoencoder._nonzero(flags), flags.flatten().nonzero().squeeze(1))


def test_encode_sparse_gives_the_same_codes_where_large_products_meet_large_biases(product):
    generator = torch.Generator().manual_seed(0)
    x = 1 + 0.3 * torch.randn(200, 256, generator=generator)
    sae = SparseAutoencoder(256, 30, tied_bias=False)
    with torch.no_grad():
        sae.W_enc.copy_(1 + 0.3 * torch.randn(256, 30, generator=generator))
        sae.b_enc.copy_(-(x @ sae.W_enc).median(dim=0).values)  # half of the codes are on; bf16 has steps of 2 here
    torch.testing.assert_close(sae.encode_sparse(x).to_dense(), sae.encode(x), rtol=1e-4, atol=1e-3)


def test_encode_sparse_misses_only_small_codes_even_where_every_rounding_goes_the_same_way(product):
    x = torch.full((1, 257), 1 + 2**-8)  # bf16 rounds each factor down to 1, and the sum of 257 of them to 256
    sae = SparseAutoencoder(257, 1, tied_bias=False)
    code = 2**-6 * x.norm().item() ** 2  # the docstring's limit, for a column that equals x
    with torch.no_grad():
        sae.W_enc.copy_(x.T)
        sae.b_enc.fill_(code - (x @ sae.W_enc).item())
    assert sae.encode_sparse(x).values().tolist() == pytest.approx([code], abs=1e-3)


@pytest.mark.parametrize(
    "processor, fast",
    [
        ({"cpu_name": "AMD EPYC", "avx512_bf16": True}, True),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": False}, False),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, False),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, True),
        ({}, False),
    ],
)
def test_bf16_is_used_where_the_processor_is_faster_with_it(processor, fast, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: processor, raising=False)
    assert autoencoder.bf16_is_fast.__wrapped__() is fast


@pytest.mark.parametrize("fast", [True, False])
def test_encode_sparse_multiplies_in_the_faster_type(x, fast, monkeypatch):
    monkeypatch.setattr(autoencoder, "bf16_is_fast", lambda: fast)
    products, mm = [], torch.mm
    monkeypatch.setattr(torch, "mm", lambda *factors, **out: products.append(factors[0].dtype) or mm(*factors, **out))
    random_sae().encode_sparse(x)
    assert set(products) == {torch.bfloat16 if fast else torch.float32}


# --- how it starts --------------------------------------------------------------------------------------------------


def test_weights_start_kaiming_uniform_and_biases_at_zero():
    sae = SparseAutoencoder(64, 2000)
    bound = 1 / math.sqrt(64)  # what torch.nn.Linear(64, ...) draws from
    assert sae.W_enc.abs().max() <= bound and sae.W_enc.abs().max() > 0.999 * bound
    assert sae.W_enc.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.01)
    assert abs(sae.W_enc.mean().item()) < 0.01 * bound
    assert not sae.b_enc.any() and not sae.b_dec.any()


def test_decoder_rows_start_at_unit_norm():
    torch.testing.assert_close(SparseAutoencoder(64, 500).W_dec.norm(dim=1), torch.ones(500))


def test_encoder_and_decoder_are_not_tied():
    sae = SparseAutoencoder(64, 500)
    cosine = torch.cosine_similarity(sae.W_enc.T, sae.W_dec, dim=1)
    assert abs(cosine.mean().item()) < 0.05
    with torch.no_grad():
        sae.W_dec.zero_()
    assert sae.W_enc.abs().sum() > 0


def test_the_generator_decides_the_initial_weights():
    one, same, other = (SparseAutoencoder(8, 16, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(one.W_enc, same.W_enc) and torch.equal(one.W_dec, same.W_dec)
    assert not torch.equal(one.W_enc, other.W_enc)


# --- the same function in other units -------------------------------------------------------------------------------


@pytest.mark.parametrize("tied_bias", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_folding_the_input_scale_gives_the_same_dictionary_of_unscaled_inputs(seed, tied_bias, x):
    sae = random_sae(seed, tied_bias=tied_bias)
    scale = 0.1 + 3 * seed
    reconstruction, codes = sae(scale * x)
    sae.fold_input_scale(scale)
    torch.testing.assert_close(sae(x).reconstruction, reconstruction / scale, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(sae(x).codes, codes / scale, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tied_bias", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_folding_the_decoder_norm_gives_unit_rows_and_the_same_reconstructions(seed, tied_bias, x):
    sae = random_sae(seed, tied_bias=tied_bias)
    reconstruction, codes = sae(x)
    norm = sae.W_dec.norm(dim=1)
    sae.fold_decoder_norm()
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(sae.d_sae))
    torch.testing.assert_close(sae(x).reconstruction, reconstruction, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(sae(x).codes, codes * norm, rtol=1e-4, atol=1e-5)


def test_folding_survives_a_feature_without_a_direction(x):
    sae = random_sae()
    with torch.no_grad():
        sae.W_dec[3] = 0
    reconstruction = sae(x).reconstruction
    sae.fold_decoder_norm()
    torch.testing.assert_close(sae(x).reconstruction, reconstruction, rtol=1e-4, atol=1e-5)


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied_bias", [True, False])
def test_a_dictionary_saved_in_fp32_comes_back_exactly(tmp_path, x, tied_bias):
    sae = random_sae(tied_bias=tied_bias)
    save_dictionary(sae, tmp_path / "A" / "7", torch.float32)
    loaded = load_dictionary(str(tmp_path / "A" / "7"))
    assert all(torch.equal(getattr(loaded, name), getattr(sae, name)) for name in NAMES)
    assert torch.equal(loaded(x).reconstruction, sae(x).reconstruction)


def test_a_dictionary_is_stored_in_bf16_and_opened_in_fp32(tmp_path):
    sae = random_sae()
    save_dictionary(sae, tmp_path)
    loaded = load_dictionary(str(tmp_path))
    for name in NAMES:
        assert torch.equal(getattr(loaded, name), getattr(sae, name).bfloat16().float())


def test_the_config_names_what_a_stranger_needs(tmp_path):
    save_dictionary(random_sae(tied_bias=False), tmp_path, model="A", module="transformer.h.2.mlp", steps=3)
    config = json.loads((tmp_path / "cfg.json").read_text())
    assert (config["architecture"], config["d_in"], config["d_sae"]) == ("standard", 12, 40)
    assert config["apply_b_dec_to_input"] is False and config["normalize_activations"] == "none"
    assert config["metadata"] == {"model": "A", "module": "transformer.h.2.mlp", "steps": 3}
    assert dictionary_metadata(str(tmp_path)) == config["metadata"]


def test_a_bundled_dictionary_is_found_by_its_name_and_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("SAE_CORE_HOME", str(tmp_path))
    save_dictionary(random_sae(), tmp_path / "Z" / "1")
    bundle.write_checksums(tmp_path)
    assert load_dictionary("Z/1").d_sae == 40
    with pytest.raises(SaeCoreError, match=r"'Z/2': neither bundled \(there is [^)]*Z/1[^)]*\) nor a folder"):
        load_dictionary("Z/2")
    save_dictionary(random_sae(seed=1), tmp_path / "Z" / "1")
    with pytest.raises(SaeCoreError, match=r"sae_weights\.safetensors: its SHA-256"):
        load_dictionary("Z/1")


def edit(folder, **changes):
    path = folder / "cfg.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def cut(path):
    path.write_bytes(path.read_bytes()[:-10])


def scale_rows(folder):
    path = folder / "sae_weights.safetensors"
    tensors = load_file(path)
    save_file(tensors | {"W_dec": 2 * tensors["W_dec"]}, path)


DAMAGES = {
    "weights cut short": (lambda f: cut(f / "sae_weights.safetensors"), "cannot be opened as a dictionary"),
    "weights missing": (lambda f: (f / "sae_weights.safetensors").unlink(), "cannot be opened as a dictionary"),
    "config not JSON": (lambda f: (f / "cfg.json").write_text("{"), "cannot be opened as a dictionary"),
    "config a list": (lambda f: (f / "cfg.json").write_text("[]"), "cannot be opened as a dictionary"),
    "config without sizes": (lambda f: (f / "cfg.json").write_text("{}"), "cannot be opened as a dictionary"),
    "other width": (lambda f: edit(f, d_in=13), r"W_enc is \(12, 40\), cfg.json asks for \(13, 40\)"),
    "other number of features": (lambda f: edit(f, d_sae=41), r"W_enc is \(12, 40\), cfg.json asks for \(12, 41\)"),
    "other architecture": (lambda f: edit(f, architecture="gated"), r"b_gate is missing, cfg.json asks for \(40,\)"),
    "unknown architecture": (
        lambda f: edit(f, architecture="matryoshka"),
        "architecture 'matryoshka' cannot be read; only standard, topk, gated, jumprelu",
    ),
    "inputs normalised": (lambda f: edit(f, normalize_activations="layer_norm"), "normalize_activations = layer_norm"),
    "inputs reshaped": (lambda f: edit(f, reshape_activations="hook_z"), "reshape_activations = hook_z"),
    "another activation": (lambda f: edit(f, activation_fn="topk"), "a standard dictionary's is relu"),
    "codes to be scaled": (
        lambda f: (scale_rows(f), edit(f, rescale_acts_by_decoder_norm=True)),
        "rescale_acts_by_decoder_norm needs decoder rows of norm 1",
    ),
    "architecture not a word": (lambda f: edit(f, architecture=[]), "architecture .* cannot be read"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_a_folder_that_is_not_an_intact_dictionary_is_refused(case, tmp_path):
    save_dictionary(random_sae(), tmp_path)
    damage, message = DAMAGES[case]
    damage(tmp_path)
    with pytest.raises(SaeCoreError, match=message) as error:
        load_dictionary(str(tmp_path))
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)
