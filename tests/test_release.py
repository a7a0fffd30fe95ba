"""The release: recipes, a whole set made from text with stops, then published, loaded and, where wrong, refused."""

import importlib.util
import inspect
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sae_core import bundle, cards, load_dictionary, load_model, pretraining, release, training
from sae_core.activations import ActivationBuffer, HarvestedChunks
from sae_core.autoencoder import SparseAutoencoder, save_dictionary
from sae_core.cli import main
from sae_core.errors import SaeCoreError
from sae_core.pretraining import PretrainConfig
from sae_core.recipe import TrainConfig, configuration, paper_scaled, read_recipe
from sae_core.release import artefacts, publish
from sae_core.runs import evaluate_dictionary
from sae_core.tokens import Contexts, load_contexts

MODEL = {
    "text": [["pocket", {"prose": 0.15, "dna": 0.2}]],
    "vocab_size": 300,
    "n_ctx": 64,
    "batch_tokens": 2048,
    "passes": 0.5,
    "lr": 0.01,
}
DICTIONARY = {
    "preset": "paper_scaled",
    "d_sae": 256,
    "steps": 100,
    "batch_size": 512,
    "lam": 2.0,
    "buffer_rows": 8192,
    "resample_inputs": 2048,
    "dead_after": 10,
}
TOY = {
    "A": MODEL,
    "B": {"like": "A", "seed": 1},
    "random": {"shuffled": "A", "seed": 0},
    "A-0": {"like": "A-1", "d_sae": 128},
    "A-1": DICTIONARY,
    "random-1": {"like": "A-1", "steps": 60},
}
NAMES = ["A", "B", "random", "A/0", "A/1", "random/1"]


def write_recipes(folder, recipes):
    folder.mkdir(exist_ok=True)
    for name, recipe in recipes.items():
        (folder / f"{name}.json").write_text(json.dumps(recipe))
    return folder


def stop_at(patch, owner, name, call):
    """Ctrl-C during that call of a function."""
    function, calls = getattr(owner, name), []

    def counted(*arguments, **options):
        calls.append(1)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGINT)
        return function(*arguments, **options)

    patch.setattr(owner, name, counted)


@pytest.fixture(scope="module")
def recipes(tmp_path_factory):
    return write_recipes(tmp_path_factory.mktemp("recipes"), TOY)


@pytest.fixture(scope="module")
def said(recipes, tmp_path_factory):
    """The toy set, stopped in model B and in A/1: status and output of each of the three runs, and the folder."""
    home = tmp_path_factory.mktemp("runs")
    runs = {"B": (pretraining, "_training_step", 10), "A/1": (ActivationBuffer, "next_batch", 40), "": None}
    said = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it (nohup)
    for name, stop in runs.items():
        output = StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(output), redirect_stderr(output):
            patch.setattr(release, "_estimate", lambda *_: ("some tokens", 7.0))  # it takes steps as well
            if stop:
                stop_at(patch, *stop)
            status = main(["release", *name.split(), "--recipes", str(recipes), "--home", str(home)])
        said.append((status, output.getvalue()))
    signal.signal(signal.SIGINT, before)
    return said, home


@pytest.fixture(scope="module")
def home(said):
    return said[1]


@pytest.fixture
def own(home, tmp_path):
    """A copy to damage."""
    return Path(shutil.copytree(home, tmp_path / "own"))


def test_a_stopped_release_says_how_to_continue_and_does(said):
    (first, in_b), (second, in_a1), (third, last) = said[0]
    assert (first, second, third) == (130, 130, 0)
    assert "stopped after step 10" in in_b and "run the same command again" in in_b
    assert "== A\n" in in_a1 and "== A/1" in in_a1 and "stopped after step 40" in in_a1
    states = {line.split()[0]: line for line in last.splitlines()[2:8]}
    assert list(states) == NAMES
    assert states["A"].endswith("finished") and states["B"].endswith("stopped at step 10")
    assert states["A/1"].endswith("stopped at step 40") and states["random/1"].endswith("to do")
    assert [line for line in last.splitlines() if line.startswith("== ")] == [f"== {n}" for n in NAMES if n != "A"]
    assert "together about 28 minutes" in last  # B, A/0, A/1, random/1


def test_a_stop_changes_no_weight(recipes, home, tmp_path):
    by_name = {artefact.name: artefact for artefact in artefacts(recipes=recipes)}
    shutil.copytree(home / "A", tmp_path / "A", ignore=shutil.ignore_patterns("0", "1"))
    release.make(by_name["B"], tmp_path)
    release.make(by_name["A/1"], tmp_path)
    for name in ("B/model.safetensors", "A/1/sae_weights.safetensors"):
        there, here = load_file(home / name), load_file(tmp_path / name)
        assert all(torch.equal(there[key], here[key]) for key in there)


def test_a_finished_set_has_nothing_left_to_do(recipes, home, capsys):
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    assert main(["release", "--recipes", str(recipes), "--home", str(home)]) == 0
    said = capsys.readouterr().out
    assert said.count("finished\n") == 6 and "==" not in said
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == before
    assert not list(home.rglob("checkpoint-*"))


def test_the_plan_estimates_from_real_steps_and_does_nothing(recipes, tmp_path, capsys):
    assert main(["release", "A/0", "--recipes", str(recipes), "--home", str(tmp_path / "new"), "--plan"]) == 0
    model, dictionary, together = capsys.readouterr().out.splitlines()[2:]
    assert model.split()[:2] == ["A", "text"] and model.endswith("to do")
    assert dictionary.split()[:4] == ["A/0", "A", "51,200", "activations"]
    assert "together about" in together and not (tmp_path / "new").exists()


def test_a_run_without_its_card_has_not_ended(recipes, own):
    (own / "A" / "1" / "README.md").unlink()
    model, dictionary = artefacts(["A/1"], recipes)
    assert release.finished(model, own) and not release.finished(dictionary, own)


def test_a_run_of_another_recipe_or_model_is_not_taken_for_finished(home, own, tmp_path):
    changed = write_recipes(tmp_path / "changed", TOY | {"A-1": DICTIONARY | {"lam": 5.0}})
    with pytest.raises(SaeCoreError, match=r"A/1: made with lam = 2.0, the recipe says 5.0; move that folder away"):
        release.finished(artefacts(["A/1"], changed)[-1], home)
    shutil.copy(own / "B" / "model.safetensors", own / "A" / "model.safetensors")
    same = write_recipes(tmp_path / "same", TOY)
    for name in ("A/1", "random"):
        with pytest.raises(SaeCoreError, match=f"{name}: made from another model A"):
            release.finished(artefacts([name], same)[-1], own)


def test_a_run_that_is_older_than_a_setting_had_its_default(own, tmp_path):
    path = own / "A" / "1" / "cfg.json"
    config = json.loads(path.read_text())
    assert config["metadata"]["recipe"].pop("encoder_start") == 0.1 and config["metadata"]["recipe"].pop("clip") == 1.0
    path.write_text(json.dumps(config))
    for name, changes in (("encoder_start = None, the recipe says 0.1", {"clip": None}),
                          ("clip = None, the recipe says 1.0", {"encoder_start": None})):  # fmt: skip
        folder = write_recipes(tmp_path / "changed", TOY | {"A-1": DICTIONARY | changes})
        with pytest.raises(SaeCoreError, match=f"A/1: made with {name}; move"):
            release.finished(artefacts(["A/1"], folder)[-1], own)
    folder = write_recipes(tmp_path / "changed", TOY | {"A-1": DICTIONARY | {"clip": None, "encoder_start": None}})
    assert release.finished(artefacts(["A/1"], folder)[-1], own)


def test_the_bundled_artefacts_are_those_of_the_bundled_recipes():
    assert all(release.finished(artefact, bundle.PACKAGED) for artefact in artefacts())


def test_a_folder_without_recipes_is_refused(tmp_path, capsys):
    (tmp_path / "log.jsonl").touch()
    for folder in (tmp_path / "nonexistent", tmp_path):
        for command in (["release"], ["release", "A/1"], ["release", "--plan"], ["publish"]):
            assert main([*command, "--recipes", str(folder), "--home", str(tmp_path / "home")]) == 2
            out, err = capsys.readouterr()
            assert out == "" and err.startswith(f"sae-core: {folder}: holds no recipe; give a folder of JSON files")


# --- recipes --------------------------------------------------------------------------------------------------------


def test_the_bundled_recipes_are_the_release():
    everything = artefacts()
    assert [artefact.name for artefact in everything] == "A B random A/0 A/1 A/2 B/1 random/1".split()
    kinds = [artefact.kind for artefact in everything]
    assert kinds == ["model", "model", "control"] + 5 * ["dictionary"]
    configs = {artefact.name: artefact.config() for artefact in everything}
    differing = [key for key, value in asdict(configs["A"]).items() if asdict(configs["B"])[key] != value]
    assert differing == ["seed"]
    dictionaries = [configs[name] for name in ("A/0", "A/1", "A/2", "B/1", "random/1")]
    assert [config.d_sae for config in dictionaries] == [512, 4096, 16384, 4096, 4096]
    assert all(config.normalize and config.tied_bias and config.unit_norm for config in dictionaries)
    assert [artefact.model for artefact in everything] == [None, None, "A", "A", "A", "A", "B", "random"]


def test_names_bring_along_what_they_are_made_from():
    assert [artefact.name for artefact in artefacts(["random/1"])] == ["A", "random", "random/1"]
    with pytest.raises(SaeCoreError, match="no recipe for 'A/9': choose among A, A/0,"):
        artefacts(["A/9"])


def test_a_recipe_starts_from_another_or_from_a_preset(tmp_path):
    write_recipes(tmp_path, {"mine": {"like": "A-1", "steps": 1000, "lam": 7}, "own": {"like": "mine", "seed": 3}})
    config = configuration(TrainConfig, read_recipe("own", tmp_path))
    bundled = read_recipe("A-1")
    expected = paper_scaled(
        1000, lam=7, seed=3, d_sae=4096, buffer_rows=bundled["buffer_rows"], text=bundled["text"], clip=None
    )
    assert config == expected and config.resample_at == (100, 200, 300, 400)
    assert configuration(TrainConfig, read_recipe(str(tmp_path / "mine.json"))).lam == 7


WRONG = {
    "unknown preset": ({"preset": "papper"}, "no preset 'papper': choose among paper, paper_scaled, april_2024"),
    "preset without its steps": ({"preset": "paper_scaled"}, "missing .*steps"),
    "unknown setting": ({"preset": "paper_scaled", "steps": 9, "lamb": 3}, "no setting 'lamb'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_recipe_that_cannot_be_used_is_refused_in_one_line(case):
    recipe, message = WRONG[case]
    with pytest.raises(SaeCoreError, match=message):
        configuration(TrainConfig, recipe)


@pytest.mark.parametrize("content", ["[]", "{"])
def test_a_file_that_is_no_recipe_is_named(content, tmp_path):
    (tmp_path / "mine.json").write_text(content)
    with pytest.raises(SaeCoreError, match="recipe mine: cannot be read"):
        read_recipe("mine", tmp_path)


def test_for_a_recipe_that_is_not_there_the_bundled_ones_are_named(tmp_path):
    (tmp_path / "mine.json").write_text('{"like": "nothing"}')
    with pytest.raises(SaeCoreError, match="recipe nothing: there is no such file, and the bundled .* are A, A-0, A-1"):
        read_recipe("mine", tmp_path)


# --- the control ----------------------------------------------------------------------------------------------------


def test_the_control_has_the_models_weights_in_another_order(home):
    model, control = (load_file(home / name / "model.safetensors") for name in ("A", "random"))
    assert model.keys() == control.keys()
    for name, weight in model.items():
        there = control[name]
        if weight.ndim == 2:
            assert torch.equal(weight.flatten().sort().values, there.flatten().sort().values)
            assert not torch.equal(weight, there)
        else:
            assert torch.equal(weight, there)
    losses = [json.loads((home / name / "training.json").read_text())["metrics"] for name in ("A", "random")]
    assert losses[1]["validation_loss"] > losses[0]["validation_loss"] + 1
    assert losses[1]["bigram_loss"] == pytest.approx(losses[0]["bigram_loss"])


# --- publishing -----------------------------------------------------------------------------------------------------


@pytest.fixture
def published(own, recipes, tmp_path, monkeypatch):
    """The toy set published into a folder of its own, which is the home of the weights from here on."""
    (own / "A" / "checkpoint-000000007.safetensors").write_bytes(b"not for others")
    size = publish(own, tmp_path / "set", recipes)
    monkeypatch.setenv("SAE_CORE_HOME", str(tmp_path / "set"))
    assert size == sum(path.stat().st_size for path in (tmp_path / "set").rglob("*.*"))  # SHA256SUMS has no suffix
    return tmp_path / "set"


def test_publishing_copies_what_is_meant_for_others_and_its_checksums(published):
    files = {path.relative_to(published).as_posix() for path in published.rglob("*") if path.is_file()}
    of_model = "config.json generation_config.json model.safetensors tokenizer.json tokenizer_config.json training.json"
    models = {f"{name}/{file}" for name in ("A", "B", "random") for file in [*of_model.split(), "README.md"]}
    of_dictionary = ("cfg.json", "sae_weights.safetensors", "log.jsonl", "README.md")
    dictionaries = {f"{name}/{file}" for name in ("A/0", "A/1", "random/1") for file in of_dictionary}
    assert files == models | dictionaries | {"A/log.jsonl", "B/log.jsonl", "SHA256SUMS"}
    listed = {line.split()[1] for line in (published / "SHA256SUMS").read_text().splitlines()}
    assert listed == {name for name in files if name.endswith((".json", ".safetensors"))}


def test_what_is_published_can_be_loaded_and_is_listed(published, home, capsys):
    assert load_model("random").name == "random" and load_dictionary("random/1").d_sae == 256
    assert torch.equal(load_dictionary("A/1").W_dec, load_dictionary(str(home / "A" / "1")).W_dec)
    with pytest.raises(SaeCoreError, match=r"no dictionary 'A/7': neither bundled \(there is A/0, A/1"):
        load_dictionary("A/7")
    assert main(["models"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert set(NAMES) <= lines.keys()
    metrics = json.loads((published / "A" / "1" / "cfg.json").read_text())["metadata"]["metrics"]
    assert f"256 features, mean L0 {metrics['l0_mean']:.1f}, {metrics['loss_recovered']:.1%}" in lines["A/1"]
    assert " 0.5 MB " in lines["A/1"]  # two matrices of 512 × 256 numbers of two bytes
    assert "validation loss" in lines["A"]


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


CHECKED = ["A/1/sae_weights.safetensors", "A/1/cfg.json", "A/model.safetensors", "B/tokenizer.json"]


@pytest.mark.parametrize("file", CHECKED)
def test_a_published_file_that_was_changed_is_refused(published, file):
    flip(published / file)
    load = load_dictionary if "/1/" in file else load_model
    with pytest.raises(SaeCoreError, match=f"{Path(file).name}: its SHA-256 is not the one in SHA256SUMS"):
        load(str(Path(file).parent))


def test_a_home_that_is_not_there_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("SAE_CORE_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(SaeCoreError, match="SAE_CORE_HOME = .*nowhere: no such folder"):
        load_model("A")


def edit_metrics(folder, **changes):
    path = folder / ("cfg.json" if (folder / "cfg.json").exists() else "training.json")
    config = json.loads(path.read_text())
    (config["metadata"] if path.name == "cfg.json" else config)["metrics"].update(changes)
    path.write_text(json.dumps(config))


WORSE = {
    "a higher loss": ("A", {"validation_loss": 99.0}, r"A: validation_loss is 99, worse than [\d.]+ as published; --"),
    "less recovered": ("A/1", {"loss_recovered": -9.0}, "A/1: loss_recovered is -9, worse than"),
    "more features per token": ("A/1", {"l0_mean": 999.0}, "A/1: l0_mean is 999, worse than"),
    "no number": ("A/1", {"loss_recovered": float("nan")}, "A/1: loss_recovered is missing or not a number; --force"),
    "no end": ("A", {"validation_loss": float("inf")}, "A: validation_loss is missing or not a number"),
    "none of a metric": ("A/1", {"loss_recovered": None}, "A/1: loss_recovered is missing or not a number"),
    "part of a metric": ("A/0", {"ultralow": None}, "A/0: dead or ultralow is missing or not a number"),
    "more dead features": ("A/0", {"dead": 999, "ultralow": 0}, "A/0: dead or ultralow is 999, worse than"),
}


@pytest.mark.parametrize("case", WORSE)
def test_worse_metrics_are_published_only_by_force(case, own, published, recipes):
    name, changes, message = WORSE[case]
    edit_metrics(own / name, **changes)
    before = (published / "SHA256SUMS").read_text()
    with pytest.raises(SaeCoreError, match=message):
        publish(own, published, recipes)
    assert (published / "SHA256SUMS").read_text() == before
    publish(own, published, recipes, force=True)
    assert (published / "SHA256SUMS").read_text() != before


def test_without_its_metrics_nothing_is_published_not_even_first(own, recipes, tmp_path):
    config = json.loads((own / "A" / "1" / "cfg.json").read_text())
    del config["metadata"]["metrics"]
    (own / "A" / "1" / "cfg.json").write_text(json.dumps(config))
    with pytest.raises(SaeCoreError, match="A/1: loss_recovered is missing .*, l0_mean is missing .*, dead or"):
        publish(own, tmp_path / "first", recipes)
    assert not (tmp_path / "first").exists()
    publish(own, tmp_path / "first", recipes, force=True)


def test_a_number_takes_the_place_of_what_was_none(own, published, recipes):
    edit_metrics(published / "A" / "1", loss_recovered=float("nan"), l0_mean=None)
    publish(own, published, recipes)


def test_equal_and_better_metrics_are_published(own, published, recipes):
    publish(own, published, recipes)
    edit_metrics(own / "A" / "1", loss_recovered=2.0, l0_mean=0.5, dead=0, ultralow=0)
    publish(own, published, recipes)
    assert json.loads((published / "A/1/cfg.json").read_text())["metadata"]["metrics"]["loss_recovered"] == 2.0
    load_dictionary("A/1")


def test_a_dictionary_is_not_published_beside_another_model(own, published, recipes):
    for part in ("0", "1"):
        shutil.rmtree(own / "A" / part)
    shutil.rmtree(own / "random")
    flip(own / "A" / "model.safetensors")  # a new A, without its dictionaries and its control
    with pytest.raises(SaeCoreError, match="random: made from another model A; publish them together"):
        publish(own, published, recipes)
    shutil.rmtree(published / "random")
    with pytest.raises(SaeCoreError, match="A/0: made from another model A; publish them together"):
        publish(own, published, recipes)


def test_a_set_that_is_too_large_or_empty_is_not_published(own, published, recipes, monkeypatch, tmp_path):
    monkeypatch.setattr(release, "LARGEST_RELEASE", 1e6)
    with pytest.raises(SaeCoreError, match=r"MB, more than 1 MB"):
        publish(own, tmp_path / "other", recipes)
    assert not (tmp_path / "other").exists()
    with pytest.raises(SaeCoreError, match="holds no finished artefact"):
        publish(tmp_path / "empty", published, recipes)


# --- cards ----------------------------------------------------------------------------------------------------------


def rows(card):
    """The cells of a card's tables by the name in front."""
    cells = [line.strip("|").split("|") for line in card.splitlines() if line.startswith("| ")]
    return {name.strip(): value.strip() for name, value, *_ in cells}


def test_a_dictionarys_card_says_what_is_stored(home):
    config = json.loads((home / "A" / "1" / "cfg.json").read_text())
    run, card = config["metadata"], (home / "A" / "1" / "README.md").read_text()
    table = rows(card)
    scale = run["input_scale"]
    x = train_chunks(home)[0]
    assert scale == pytest.approx((x.shape[1] / x.square().sum(1).mean().item()) ** 0.5, rel=0.1)
    assert table["λ"].startswith("2 on the squared error summed") and f"multiplied by {scale:.4g}" in table["λ"]
    assert table["λ, raw inputs"].startswith(f"{2 / scale:.3g} on the squared error summed")
    assert table["λ, as in the paper"].startswith(f"{2 / scale / 512:.2g} on the squared error averaged")
    assert table["activations"].startswith("51,200 in 100 steps of 512")
    assert "pocket (prose 0.15, dna 0.2)" in table["text"] and table["seed"] == "0"
    assert table["commit"] == run["provenance"]["commit"] == cards.commit()
    assert table["threads"] == "1" and "GiB" in table["memory"] and table["device"] == cards.processor()
    assert table["wall time"] == f"{run['seconds'] / 60:.0f} minutes"
    for name, value in run["metrics"].items():
        assert table[name] == (f"{value:,.4f}" if isinstance(value, float) else f"{value:,}")
    assert "256 features for the 512 MLP neurons of language model A" in card and "## Limits" in card
    assert "Weights: MIT" in card


def train_chunks(home):
    model = load_model(str(home / "A"))
    contexts = load_contexts(MODEL["text"], "train", model.tokenizer, model.n_ctx)
    return HarvestedChunks(model.network, contexts.ids)


def test_the_whole_configuration_is_stored_beside_the_weights(home, recipes):
    for name, kind in (("A", PretrainConfig), ("B", PretrainConfig), ("A/0", TrainConfig), ("random/1", TrainConfig)):
        path = home / name / ("cfg.json" if kind is TrainConfig else "training.json")
        stored = json.loads(path.read_text())
        recipe = (stored["metadata"] if kind is TrainConfig else stored)["recipe"]
        assert kind(**recipe) == configuration(kind, read_recipe(name.replace("/", "-"), recipes))


def test_a_models_card_says_what_is_stored(home):
    run, table = json.loads((home / "A" / "training.json").read_text()), rows((home / "A" / "README.md").read_text())
    assert table["tokens"].startswith(f"{run['tokens']:,} in {run['steps']:,} steps of 2,048")
    assert table["vocabulary, context"].startswith("300 tokens") and "64 positions" in table["vocabulary, context"]
    assert table["commit"] == run["provenance"]["commit"] and table["seed"] == "0"
    assert all(table[name] == f"{run['metrics'][name]:,.4f}" for name in ("validation_loss", "bigram_loss"))
    control = (home / "random" / "README.md").read_text()
    assert "control for model A" in control and rows(control)["seed"] == "0"


def card_of(tmp_path, name, change):
    """The card of a bundled dictionary or model after change(its record)."""
    folder = tmp_path / name
    shutil.copytree(bundle.PACKAGED / name, folder, ignore=shutil.ignore_patterns("*.safetensors", "README.md"))
    path, write = folder / "cfg.json", cards.write_dictionary_card
    if not path.exists():
        path, write = folder / "training.json", cards.write_model_card
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    write(folder)
    return (folder / "README.md").read_text(), cards.summary(folder)


@pytest.mark.parametrize("name", ["A", "A/1"])
def test_cards_explain_every_metric(tmp_path, name):
    card, _ = card_of(tmp_path, name, lambda record: None)
    table = card[card.index("| metric |") : card.index("## Limits")].splitlines()[2:]
    cells = [line.strip("|").split("|") for line in table if line]
    assert cells and all(len(row) == 3 and row[2].strip() for row in cells)


def test_a_dictionarys_card_says_on_which_text_it_was_measured(tmp_path):
    assert cards.LOSS_TOKENS == inspect.signature(evaluate_dictionary).parameters["loss_tokens"].default
    card, _ = card_of(tmp_path / "own", "A/1", lambda record: None)
    assert "tokens of the language model's text; losses on the first 500,000." in card

    def on_another_text(record):
        record["metadata"]["text"] = [["pocket", None]]
        record["metadata"]["metrics"]["tokens"] = 10_200

    card, _ = card_of(tmp_path / "other", "A/1", on_another_text)
    assert "On 10,200 validation tokens of the text above.\n" in card


def test_loss_recovered_is_left_out_where_there_is_none_to_recover(tmp_path):
    def useless(record):
        record["metadata"]["metrics"]["loss_zero_ablated"] = record["metadata"]["metrics"]["loss_original"]

    card, summary = card_of(tmp_path / "good", "A/1", lambda record: None)
    assert "recovered" in summary and "means nothing here" not in card
    card, summary = card_of(tmp_path / "useless", "A/1", useless)
    assert "recovered" not in summary and "loss_recovered means nothing here" in card


def test_cards_say_what_cannot_be_had_again(tmp_path):
    card, _ = card_of(tmp_path / "clean", "A", lambda record: record["provenance"].update(commit="abc"))
    assert "checked out" not in card and "save those of the slice `code`" in card
    assert "read from the installed packages" in card
    card, _ = card_of(tmp_path / "changed", "A", lambda record: record["provenance"].update(commit="abc+changes"))
    assert "cannot be checked out" in card
    card, _ = card_of(tmp_path / "no code", "A", lambda record: record["recipe"].update(text=[["mini-pile", None]]))
    assert "`code`" not in card and "lists every source with its licence." in card


@pytest.mark.parametrize("distinct, words", [(40_960_000, "each used once"), (20_480_000, "each used 2 times")])
def test_a_dictionarys_card_says_how_often_activations_were_used(tmp_path, distinct, words):
    card, _ = card_of(tmp_path, "A/1", lambda record: record["metadata"].update(distinct_activations=distinct))
    assert words in rows(card)["activations"]


def test_records_name_no_computer_and_no_folder(home):
    for path in [*home.rglob("*.json"), *home.rglob("README.md"), *home.rglob("log.jsonl")]:
        if path.name != "tokenizer.json":
            text = path.read_text()
            assert str(home) not in text and str(Path.home()) + "/" not in text and platform.node() not in text, path


def test_the_manifest_of_the_text_stays_with_the_weights(tmp_path, small_text, tiny):
    run = {"recipe": {"text": [[str(small_text), None]], "shuffled": "A", "seed": 0}, "provenance": {}, "seconds": 1}
    shutil.copytree(tiny.folder, tmp_path / "Z")
    metrics = {"validation_tokens": 5, "validation_loss": 1.0}
    pretraining.write_records(tmp_path / "Z", run | {"metrics": metrics})
    assert (tmp_path / "Z" / "MANIFEST.json").read_bytes() == (small_text / "MANIFEST.json").read_bytes()
    assert "[MANIFEST.json](MANIFEST.json) lists every source" in (tmp_path / "Z" / "README.md").read_text()


def test_the_commit_is_that_of_the_packages_code(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=x", "-c", "user.email=x@x"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    package = tmp_path / "package"
    (package / "recipes").mkdir(parents=True)
    (package / "cards.py").write_text("")
    assert cards.commit(package) == "unknown"  # no checkout
    git("init")
    (tmp_path / "other.py").write_text("")
    git("add", "other.py"), git("commit", "-m", "x")
    assert cards.commit(package) == "unknown"  # somebody else's
    git("add", "."), git("commit", "-m", "x")
    head = subprocess.check_output(["git", "-C", str(tmp_path), "rev-parse", "HEAD"], text=True)
    assert len(cards.commit(package)) == 12 and head.startswith(cards.commit(package))
    (package / "weights").write_text("new weights are no change of code")
    assert head.startswith(cards.commit(package))
    (package / "recipes" / "A.json").write_text("{}")
    assert cards.commit(package) == head[:12] + "+changes"


def test_the_bundled_cards_are_those_of_the_bundled_records(tmp_path):
    copies = Path(shutil.copytree(bundle.PACKAGED, tmp_path / "copies", ignore=shutil.ignore_patterns("*.safetensors")))
    for config_name, write in (("cfg.json", cards.write_dictionary_card), ("training.json", cards.write_model_card)):
        for path in bundle.PACKAGED.rglob(config_name):
            copy = copies / path.parent.relative_to(bundle.PACKAGED)
            write(copy)
            assert (copy / "README.md").read_text() == (path.parent / "README.md").read_text(), path


# --- storage --------------------------------------------------------------------------------------------------------


def test_storage_in_bf16_moves_no_metric_by_more_than_noise(home, tmp_path):
    """Noise is what other text of the same kind would change: the standard error over parts of the validation text."""
    model = load_model(str(home / "A"))
    config = configuration(TrainConfig, DICTIONARY)
    trainer = training.Trainer(config, ActivationBuffer(train_chunks(home), config.buffer_rows))
    list(trainer.run())
    exact = trainer.result()
    save_dictionary(exact, tmp_path)
    stored = load_dictionary(str(tmp_path))
    assert not torch.equal(stored.W_dec, exact.W_dec)
    contexts = load_contexts(MODEL["text"], "validation", model.tokenizer, model.n_ctx)
    before, after = (evaluate_dictionary(model, sae, contexts) for sae in (exact, stored))
    parts = [contexts._replace(ids=ids) for ids in np.array_split(contexts.ids, 8)]
    by_part = [evaluate_dictionary(model, exact, part) for part in parts]
    for name in ("explained_variance", "norm_ratio", "l0_mean", "loss_reconstructed", "loss_recovered"):
        noise = np.std([metrics[name] for metrics in by_part], ddof=1) / 8**0.5
        assert abs(after[name] - before[name]) < noise, name


# --- the book's experiments -----------------------------------------------------------------------------------------


@pytest.fixture
def quality(monkeypatch):
    """book/_experiments/quality.py with runs of a few steps on a tiny model."""
    path = Path(__file__).parents[1] / "book" / "_experiments" / "quality.py"
    spec = importlib.util.spec_from_file_location("quality", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "quality", module)  # dataclasses look for it there
    spec.loader.exec_module(module)
    toy = {"batch_size": 256, "buffer_rows": 8192, "resample_inputs": 1024, "resample_at": (10, 20)}
    toy |= {"dead_after": 1, "lr": 0.02, "lam": 100.0, "lam_warmup": 5}  # features die within these few steps
    config = module.config
    monkeypatch.setattr(module, "config", lambda steps=30, **changes: config(steps, **toy | changes))
    for arm in ("half as long", "higher rate, half as long"):
        changes, functions = module.ARMS[arm]
        monkeypatch.setitem(module.ARMS, arm, (changes | {"steps": 15}, functions))
    monkeypatch.setattr(module, "TOKENS", 4000)
    monkeypatch.setattr(module, "LOSS_TOKENS", 1000)
    monkeypatch.setattr(module, "SIZES", (32, 48, 64))
    monkeypatch.setattr(module, "COMPARED", 64)
    monkeypatch.setattr(module, "SEEDS", (0,))
    yield module
    torch.set_flush_denormal(False)


def test_each_experiment_is_run_once_and_recorded(quality, home, tmp_path, capsys):
    out = tmp_path / "quality.json"
    command = ["--model", str(home / "A"), "--out", str(out)]
    quality.main([*command, "--plan"])
    assert "together, 23 runs" in capsys.readouterr().out and not out.exists()
    quality.main(command)
    records = json.loads(out.read_text())["runs"]
    arms = [record["arm"] for record in records]
    assert arms == 12 * ["grid"] + list(quality.ARMS)
    of = dict(zip(arms, records, strict=True))
    assert len({record["final_loss"] for record in records[12:]}) == len(quality.ARMS)  # each arm trains otherwise
    assert of["resampling"]["resampled"] and of["Kaiming"]["resampled"] and not of["no resampling"]["resampled"]
    assert of["half as long"]["config"]["steps"] == 15 and of["half as long"]["activations"] == 15 * 256
    for record in records:
        assert sum(record["density"]["counts"]) == record["config"]["d_sae"] - record["metrics"]["dead"]
        assert len(record["density"]["counts"]) == len(record["density"]["log10_edges"]) - 1
        assert record["provenance"]["commit"] and record["seconds"] > 0
        assert 0 <= record["rare"]["share_on_one_token"] <= 1
    before = out.read_bytes()
    quality.main(command)
    assert out.read_bytes() == before
    # One of another model, one of another configuration, one missing: these three are run again, in their places.
    other = records[0] | {"config": records[0]["config"] | {"lam": 9.0}}
    out.write_text(json.dumps({"runs": [other, *records[1:-2], records[-1] | {"model_sha256": "another"}]}))
    capsys.readouterr()
    quality.main(command)
    assert "together, 3 runs" in capsys.readouterr().out
    again = json.loads(out.read_text())["runs"]
    assert [(r["arm"], r["final_loss"]) for r in again] == [(r["arm"], r["final_loss"]) for r in records]


def test_the_most_features_that_fire_on_one_token(quality, home):
    model = load_model(str(home / "A"))
    ids = np.random.default_rng(0).integers(1, 300, (20, model.n_ctx))
    sae = SparseAutoencoder(model.network.config.n_inner, 3)
    with torch.no_grad():
        sae.W_enc.zero_()
        sae.b_enc.copy_(torch.tensor([1.0, -1.0, 1.0]))  # the first and the last fire everywhere
    for chosen, most in (([1, 1, 1], 2), ([0, 1, 1], 1), ([0, 1, 0], 0), ([0, 0, 0], 0)):
        assert quality._most_at_once(model, sae, Contexts(ids, ids, []), torch.tensor(chosen).bool()) == most


def test_what_an_experiment_replaces_comes_back(quality, home):
    names = ("resample", "remove_parallel_gradient", "normalize_decoder")
    before = [getattr(training, name) for name in names]
    run = quality.Run("tied decoder", quality.config(d_sae=64))
    sae, _ = quality.train(run, train_chunks(home))
    torch.testing.assert_close(sae.W_enc, sae.W_dec.T)
    assert [getattr(training, name) for name in names] == before


@pytest.mark.parametrize("command", ["release", "publish"])
def test_the_commands_explain_themselves(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0 and "--home" in capsys.readouterr().out
