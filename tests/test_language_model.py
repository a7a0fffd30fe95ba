"""The language model: its shape, its files, its baselines, and a training run that can be stopped anywhere."""

import json
import math
import shutil
import sys
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sae_core import bundle, pretraining
from sae_core.errors import SaeCoreError
from sae_core.language_model import LanguageModel, build, load_model, shuffled_control, to_tensor, token_losses
from sae_core.ngrams import ngram_losses
from sae_core.pretraining import PretrainConfig, pretrain

# --- the model and its files ----------------------------------------------------------------------------------------


def test_the_model_has_the_papers_sizes():
    network = build(vocab_size=300)
    block = network.transformer.h[0]
    assert len(network.transformer.h) == 1
    assert block.mlp.c_fc.weight.shape == (128, 512) and block.mlp.c_proj.weight.shape == (512, 128)
    assert torch.equal(block.mlp.act(torch.tensor([-1.0, 2.0])), torch.tensor([0.0, 2.0]))
    assert network.lm_head.weight is not network.transformer.wte.weight
    assert not torch.equal(network.lm_head.weight, network.transformer.wte.weight)
    assert network.transformer.wpe.weight.shape == (256, 128)


def test_the_seed_decides_the_initial_weights():
    def first_weights(seed):
        torch.manual_seed(seed)
        return build(300, 16).lm_head.weight

    assert torch.equal(first_weights(1), first_weights(1)) and not torch.equal(first_weights(1), first_weights(2))


def test_texts_begin_with_the_beginning_of_sequence_token(tiny):
    ids = tiny.to_ids("the river")
    assert ids[0, 0] == 0 and tiny.tokenizer.decode(ids[0, 1:].tolist()) == "the river"


def test_other_libraries_open_the_folder_without_our_code(tiny):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    text = "the small river sings"
    tokenizer = AutoTokenizer.from_pretrained(tiny.folder)
    network = AutoModelForCausalLM.from_pretrained(tiny.folder, dtype=torch.float32).eval()
    ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer(text).input_ids]])
    assert torch.equal(ids, tiny.to_ids(text))
    with torch.no_grad():
        assert torch.equal(network(ids).logits, tiny.logits(ids))


def test_the_bridge_gives_the_same_logits(tiny):
    ids = tiny.to_ids("the small river sings")
    with torch.no_grad():
        torch.testing.assert_close(tiny.bridge()(ids, prepend_bos=False), tiny.logits(ids), rtol=1e-4, atol=1e-5)


def test_the_bridge_of_an_unsaved_model_asks_for_a_folder(tiny):
    with pytest.raises(SaeCoreError, match="save the model to a folder"):
        LanguageModel("new", tiny.network, tiny.tokenizer).bridge()


def test_token_losses_are_the_surprise_at_each_next_token(tiny):
    ids = tiny.to_ids("the small river sings")
    log_probabilities = tiny.logits(ids)[0].log_softmax(-1)
    expected = [-log_probabilities[position, ids[0, position + 1]] for position in range(ids.shape[1] - 1)]
    with torch.no_grad():
        torch.testing.assert_close(token_losses(tiny.network, ids)[0], torch.stack(expected))


def test_the_shuffled_control_keeps_each_matrix_s_entries_and_changes_their_order(tiny):
    before = {name: parameter.clone() for name, parameter in tiny.network.named_parameters()}
    control = shuffled_control(tiny)
    for name, shuffled in control.network.named_parameters():
        original = before[name]
        assert torch.equal(tiny.network.get_parameter(name), original)
        if original.ndim == 2:
            assert torch.equal(shuffled.flatten().sort().values, original.flatten().sort().values)
            assert (shuffled != original).float().mean() > 0.5
            rows, shuffled_rows = original.sort(1).values, shuffled.sort(1).values
            assert not torch.equal(rows, shuffled_rows)  # entries leave their rows, too
        else:
            assert torch.equal(shuffled, original)
    again, other = shuffled_control(tiny), shuffled_control(tiny, seed=1)
    assert torch.equal(again.network.lm_head.weight, control.network.lm_head.weight)
    assert not torch.equal(other.network.lm_head.weight, control.network.lm_head.weight)


@pytest.fixture
def copied(tiny, tmp_path):
    return shutil.copytree(tiny.folder, tmp_path / "copy")


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


DAMAGES = {
    "weights cut short": (lambda f: cut(f / "model.safetensors"), "cannot be opened as a model"),
    "weights missing": (lambda f: (f / "model.safetensors").unlink(), "cannot be opened as a model"),
    "tokenizer missing": (lambda f: (f / "tokenizer.json").unlink(), "cannot be opened as a model"),
    "config not JSON": (lambda f: (f / "config.json").write_text("{"), "cannot be opened as a model"),
    "two blocks": (lambda f: edit_config(f, n_layer=2), "not a one-layer GPT-2"),
    "another family": (lambda f: edit_config(f, model_type="llama"), "not a one-layer GPT-2"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_a_folder_that_is_not_an_intact_model_is_refused_in_one_line(case, copied):
    damage, message = DAMAGES[case]
    damage(copied)
    with pytest.raises(SaeCoreError, match=message) as error:
        load_model(str(copied))
    assert str(copied) in str(error.value) and "\n" not in str(error.value)


# --- the bundle -----------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tiny, tmp_path, monkeypatch):
    """A set of weights of one's own that holds model Z."""
    shutil.copytree(tiny.folder, tmp_path / "home" / "Z")
    bundle.write_checksums(tmp_path / "home")
    monkeypatch.setenv("SAE_CORE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_model_is_found_by_its_name(home, tiny):
    model = load_model("Z")
    assert model.name == "Z" and model.folder == home / "Z" and "Z" in bundle.available("config.json")
    assert torch.equal(model.network.lm_head.weight, tiny.network.lm_head.weight)


def test_an_unknown_name_is_answered_with_the_known_ones(home):
    with pytest.raises(SaeCoreError, match=r"no model 'Y': neither bundled \(there is .*Z.*\) nor a folder"):
        load_model("Y")


@pytest.mark.parametrize("name", ["Z", "Z/", "./Z"])
@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_a_bundled_file_that_was_changed_is_named(home, name, file):
    path = home / "Z" / file
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(SaeCoreError, match=f"{file}: its SHA-256 is not the one in SHA256SUMS"):
        load_model(name)


def test_a_bundled_file_that_is_missing_is_named(home):
    (home / "Z" / "model.safetensors").unlink()
    with pytest.raises(SaeCoreError, match=r"model\.safetensors: missing, though SHA256SUMS lists it"):
        load_model("Z")


def test_a_download_takes_weights_and_json_and_nothing_that_could_run(monkeypatch, tmp_path):
    asked = []
    hub = SimpleNamespace(snapshot_download=lambda *args, **options: asked.append((args, options)) or str(tmp_path))
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert bundle.download("owner/name") == tmp_path
    assert asked == [(("owner/name",), {"allow_patterns": ["*.json", "*.safetensors"]})]


def test_a_download_that_fails_says_so_in_one_line(monkeypatch):
    def fail(*_, **__):
        raise OSError("no such repository\nand a long story")

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=fail))
    with pytest.raises(SaeCoreError, match=r"^hf:owner/name: cannot be fetched \(no such repository\)$"):
        bundle.download("owner/name")


# --- the baselines --------------------------------------------------------------------------------------------------


def test_ngram_losses_reach_the_entropies_of_a_planted_markov_chain():
    generator = np.random.default_rng(0)
    transitions = generator.dirichlet(np.full(12, 0.3), size=12)
    cumulative = transitions.cumsum(1)
    ids = np.zeros((4000, 64), np.uint16)
    for position in range(1, 64):
        draws = generator.random(len(ids))
        ids[:, position] = (draws[:, None] > cumulative[ids[:, position - 1]]).sum(1).clip(max=11)
    stationary = np.linalg.matrix_power(transitions, 500)[0]
    entropy = -(stationary * np.log(stationary)).sum()
    rate = -(stationary[:, None] * transitions * np.log(transitions.clip(1e-300))).sum()
    losses = ngram_losses(ids[:3500], ids[3500:], 12)
    assert losses["unigram"] == pytest.approx(entropy, abs=0.03)
    assert losses["bigram"] == pytest.approx(rate, abs=0.03)


def test_ngram_losses_are_finite_for_tokens_that_were_never_seen():
    losses = ngram_losses(np.zeros((2, 8), np.uint16), np.full((2, 8), 3, np.uint16), 5)
    assert all(math.isfinite(loss) for loss in losses.values())


# --- training -------------------------------------------------------------------------------------------------------


@pytest.fixture
def config(small_text):
    return PretrainConfig([(str(small_text), None)], vocab_size=300, n_ctx=16, batch_tokens=1024, passes=1.5, seed=5)


@pytest.fixture(scope="module")
def finished(small_text, tmp_path_factory):
    """A run without interruption."""
    config = PretrainConfig([(str(small_text), None)], vocab_size=300, n_ctx=16, batch_tokens=1024, passes=1.5, seed=5)
    out = tmp_path_factory.mktemp("run") / "model"
    return pretrain(config, out, checkpoint_every=8, progress=False)


def test_pretraining_learns_and_records_what_it_did(finished, config):
    log = [json.loads(line) for line in (finished.folder / "log.jsonl").read_text().splitlines()]
    assert log[-1]["validation_loss"] < log[0]["validation_loss"] - 0.5
    recipe, metrics = finished.recipe, finished.recipe["metrics"]
    assert PretrainConfig(**recipe["recipe"]).seed == config.seed
    assert recipe["tokens"] == recipe["steps"] * 1024 == log[-1]["tokens"]
    assert metrics["bigram_loss"] < metrics["unigram_loss"] < math.log(300)
    assert metrics["validation_loss"] < metrics["unigram_loss"]
    assert metrics["loss_without_mlp"] != metrics["validation_loss"]


def test_the_saved_model_opens_and_predicts_as_well(finished):
    loaded = load_model(str(finished.folder))
    ids = loaded.to_ids("the small river sings and then")
    torch.testing.assert_close(loaded.logits(ids), finished.logits(ids), rtol=0.05, atol=0.1)  # bf16 on the disk


@pytest.mark.parametrize("stop_at", [3, 13, 16])
def test_a_stopped_run_continues_to_the_same_weights(stop_at, finished, config, tmp_path, monkeypatch):
    rows_of_step = pretraining._rows_of_step

    def stop(step, *rest):
        if step == stop_at:
            raise KeyboardInterrupt
        return rows_of_step(step, *rest)

    monkeypatch.setattr(pretraining, "_rows_of_step", stop)
    with pytest.raises(KeyboardInterrupt):
        pretrain(config, tmp_path / "model", checkpoint_every=8, progress=False)
    monkeypatch.setattr(pretraining, "_rows_of_step", rows_of_step)
    continued = pretrain(config, tmp_path / "model", checkpoint_every=8, progress=False)
    for name, parameter in finished.network.named_parameters():
        assert torch.equal(continued.network.get_parameter(name), parameter), name


def test_a_continued_run_starts_from_its_last_checkpoint(config, tmp_path, monkeypatch):
    rows_of_step, steps = pretraining._rows_of_step, []

    def record(step, *rest):
        steps.append(step)
        if len(steps) == 13:
            raise KeyboardInterrupt
        return rows_of_step(step, *rest)

    monkeypatch.setattr(pretraining, "_rows_of_step", record)
    with pytest.raises(KeyboardInterrupt):
        pretrain(config, tmp_path / "model", checkpoint_every=8, progress=False)
    pretrain(config, tmp_path / "model", checkpoint_every=8, progress=False)
    assert steps[:13] == list(range(13)) and steps[13:] == list(range(8, len(steps) - 13 + 8))


def test_observation_does_not_change_the_model(finished, config, tmp_path):
    observed = pretrain(config, tmp_path / "model", checkpoint_every=1, progress=True)
    assert torch.equal(observed.network.lm_head.weight, finished.network.lm_head.weight)


def test_another_seed_gives_another_model(finished, config, tmp_path):
    config.seed = 6
    other = pretrain(config, tmp_path / "model", checkpoint_every=100, progress=False)
    assert not torch.equal(other.network.lm_head.weight, finished.network.lm_head.weight)


def test_a_checkpoint_of_another_configuration_is_refused(finished, config, tmp_path):
    folder = shutil.copytree(finished.folder, tmp_path / "model")
    config.lr = 1e-5
    with pytest.raises(SaeCoreError, match=r"checkpoint-.*: written with lr = 0\.003, now 1e-05"):
        pretrain(config, folder, progress=False)


def test_a_finished_model_without_checkpoints_is_kept(finished, config, tmp_path):
    """Such as one that was downloaded or published: the same recipe returns it, another one is refused."""
    folder = shutil.copytree(finished.folder, tmp_path / "model", ignore=shutil.ignore_patterns("checkpoint-*"))
    (folder / "README.md").unlink()
    weights = (folder / "model.safetensors").read_bytes()
    assert pretrain(config, folder, progress=False).recipe == finished.recipe
    assert (folder / "README.md").exists()
    config.seed = 6
    with pytest.raises(SaeCoreError, match=r"model: holds a finished model with seed = 5, asked is 6; choose another"):
        pretrain(config, folder, progress=False)
    assert (folder / "model.safetensors").read_bytes() == weights and not list(folder.glob("checkpoint-*"))


def test_a_damaged_checkpoint_is_named(finished, config, tmp_path):
    folder = shutil.copytree(finished.folder, tmp_path / "model")
    newest = max(folder.glob("checkpoint-*"))
    cut(newest)
    with pytest.raises(SaeCoreError, match=f"{newest.name}: damaged checkpoint"):
        pretrain(config, folder, progress=False)
    newest.unlink()
    continued = pretrain(config, folder, checkpoint_every=8, progress=False)
    assert torch.equal(continued.network.lm_head.weight, finished.network.lm_head.weight)


def test_a_loss_that_is_not_a_number_ends_the_run_before_it_is_saved(config, tmp_path):
    config.lr = 1e30
    with pytest.raises(SaeCoreError, match="not a number at step 4"):
        pretrain(config, tmp_path / "model", checkpoint_every=4, progress=False)
    assert not list((tmp_path / "model").glob("checkpoint-*"))


def test_a_loss_that_is_not_a_number_is_noticed_within_twenty_steps(config, tmp_path):
    config.lr = 1e30
    with pytest.raises(SaeCoreError, match="not a number at step 20"):
        pretrain(config, tmp_path / "model", checkpoint_every=1000, progress=False)
    assert not list((tmp_path / "model").glob("checkpoint-*"))


@pytest.mark.parametrize("change", [{"batch_tokens": 1 << 20}, {"batch_tokens": 1 << 17, "passes": 50}])
def test_too_little_text_for_a_batch_is_refused(change, config, tmp_path):
    config = replace(config, **change)
    with pytest.raises(SaeCoreError, match="do not fill one batch"):
        pretrain(config, tmp_path / "model", progress=False)


@pytest.mark.parametrize("change", [{"batch_tokens": 100}, {"passes": 0}, {"lr": -1.0}])
def test_a_configuration_that_cannot_train_is_refused(change):
    with pytest.raises(SaeCoreError, match="pretrain:"):
        PretrainConfig(**change)


def test_each_pass_reads_every_context_once_in_an_order_of_its_own():
    passes = [
        np.concatenate([pretraining._rows_of_step(step, 8, 80, seed=0) for step in range(first, first + 10)])
        for first in (0, 10)
    ]
    assert all(sorted(rows) == list(range(80)) for rows in passes)
    assert Counter(map(tuple, passes)).most_common(1)[0][1] == 1
    assert (pretraining._rows_of_step(3, 8, 80, seed=0) != pretraining._rows_of_step(3, 8, 80, seed=1)).any()


def test_the_learning_rate_rises_and_then_falls_to_zero():
    schedule = [pretraining._schedule(step, 1000, 0.02) for step in range(1000)]
    assert schedule[0] == pytest.approx(1 / 20) and max(schedule) == 1.0
    assert schedule.index(1.0) <= 20 and schedule[-1] < 1e-5
    assert schedule[20:] == sorted(schedule[20:], reverse=True)
    assert schedule[510] == pytest.approx(0.5, abs=0.01)


def test_weight_decay_falls_on_matrices_only(tiny):
    groups = pretraining._optimizer(tiny.network, PretrainConfig()).param_groups
    decay = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    for parameter in tiny.network.parameters():
        assert decay[id(parameter)] == (0.01 if parameter.ndim == 2 else 0.0)


def test_mean_loss_is_the_mean_over_all_tokens_whatever_the_parts(tiny):
    ids = to_tensor(np.random.default_rng(0).integers(0, 320, (7, 32)))
    with torch.no_grad():
        expected = token_losses(tiny.network, ids).mean().item()
    assert pretraining.mean_loss(tiny.network, ids, rows=3) == pytest.approx(expected, rel=1e-5)
