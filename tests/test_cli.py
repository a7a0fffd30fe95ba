"""The command line: a whole run from text to a measured dictionary, and one line for every kind of wrong input."""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from sae_core import bundle, runs
from sae_core.autoencoder import dictionary_metadata, load_dictionary
from sae_core.cli import main
from sae_core.errors import SaeCoreError
from sae_core.language_model import load_model
from sae_core.recipe import TrainConfig
from sae_core.runs import held_out, held_out_description

PRETRAIN = ["n_ctx=32", "vocab_size=300", "batch_tokens=256", "passes=2"]
TRAIN = "d_sae=64 steps=30 batch_size=128 buffer_rows=4096 resample_at=[10] resample_inputs=512 lr=0.001".split()


@pytest.fixture(scope="module")
def model(tmp_path_factory, small_text):
    folder = tmp_path_factory.mktemp("runs") / "A"
    text = json.dumps([[str(small_text), None]])
    assert main(["pretrain", "--out", str(folder), "--set", *PRETRAIN, f"text={text}"]) == 0
    return folder


@pytest.fixture(scope="module")
def dictionary(model):
    arguments = ["train", "--model", str(model), "--out", str(model / "1"), "--repeat"]
    assert main([*arguments, "--set", *TRAIN]) == 0
    return model / "1"


def test_pretrain_leaves_a_model_with_its_recipe_and_its_losses(model):
    run = json.loads((model / "training.json").read_text())
    assert run["recipe"]["n_ctx"] == 32
    assert set(run["metrics"]) >= {"validation_loss", "unigram_loss", "bigram_loss", "loss_without_mlp"}


def test_train_leaves_a_dictionary_with_its_recipe_and_its_metrics(dictionary):
    metadata = json.loads((dictionary / "cfg.json").read_text())["metadata"]
    assert metadata["recipe"]["d_sae"] == 64 and metadata["activations"] == 30 * 128
    assert 0 <= metadata["metrics"]["l0_mean"] <= 64
    assert {"loss_recovered", "explained_variance", "dead"} <= set(metadata["metrics"])


def test_train_builds_the_architecture_that_is_asked_for(model):
    settings = [setting for setting in TRAIN if not setting.startswith("resample")]
    arguments = ["train", "--model", str(model), "--out", str(model / "2"), "--repeat"]
    assert main([*arguments, "--set", *settings, "architecture=topk", "k=4"]) == 0
    config = json.loads((model / "2" / "cfg.json").read_text())
    assert (config["architecture"], config["k"]) == ("topk", 4)
    assert 0 < config["metadata"]["metrics"]["l0_mean"] <= 4
    assert "topk" in (model / "2" / "README.md").read_text()


@pytest.fixture(scope="module")
def text(mini_pile, tmp_path_factory):
    """Another text than the model's, of about 30,000 tokens."""
    texts = [" ".join(f"{number * 37 % 1000:b}" for number in range(start, start + 20)) for start in range(300)]
    return mini_pile(tmp_path_factory.mktemp("text"), {"numbers": texts})


@pytest.fixture(scope="module")
def activations(model, text):
    arguments = ["--model", str(model), "--out", str(model / "activations"), "--text", str(text), "--tokens", "20000"]
    assert main(["harvest", *arguments]) == 0
    return model / "activations"


def test_training_from_harvested_activations_gives_the_same_weights(model, text, activations):
    common = ["train", "--model", str(model), "--repeat", "--set", *TRAIN, "steps=100"]  # 12,800 activations
    assert main([*common, "--out", str(model / "from-model"), "--text", str(text)]) == 0
    assert main([*common, "--out", str(model / "from-disk"), "--activations", str(activations)]) == 0
    weights = [(model / name / "sae_weights.safetensors").read_bytes() for name in ("from-model", "from-disk")]
    assert weights[0] == weights[1]
    metadata = [json.loads((model / name / "cfg.json").read_text())["metadata"] for name in ("from-model", "from-disk")]
    assert metadata[0]["text"] == metadata[1]["text"] and metadata[0]["metrics"] == metadata[1]["metrics"]


def test_a_finished_dictionary_of_fewer_activations_is_no_run_on_all_of_them(model, text, activations, capsys):
    """The same text by its name and by its content, of which a cache holds a part."""
    shutil.copytree(model / "from-disk", folder := model / "part")
    for path in folder.glob("checkpoint-*"):
        path.unlink()
    common = ["train", "--model", str(model), "--repeat", "--out", str(folder)]
    assert main([*common, "--activations", str(activations), "--set", *TRAIN, "steps=100"]) == 0
    assert main([*common, "--text", str(text), "--set", *TRAIN, "steps=100"]) == 2
    assert "holds a finished dictionary of another text; choose another --out" in capsys.readouterr().err


def test_activations_that_cannot_be_used_are_one_line(model, text, activations, tmp_path, capsys):
    arguments = ["train", "--activations", str(activations), "--out", str(tmp_path), "--set", *TRAIN]
    assert main([*arguments, "--max-tokens", "10", "--model", str(model)]) == 2
    assert "--max-tokens is for text, and --activations are given" in capsys.readouterr().err
    assert main([*arguments, "--model", "A"]) == 2
    message = capsys.readouterr().err
    assert "activations of another model than A" in message and message.count("\n") == 1
    shard = activations / "activations-00000.safetensors"
    shard.rename(tmp_path / shard.name)
    assert main([*arguments, "--model", str(model)]) == 2
    message = capsys.readouterr().err
    command = f"sae-core harvest --model={model} --out={activations} --text={text} --tokens=20000"
    assert f"{shard.name} is missing; what writes it again: {command}" in message and message.count("\n") == 1
    assert main(["harvest", *command.split()[2:]]) == 0 and shard.exists()


def test_evaluate_prints_what_training_recorded(dictionary, small_text, monkeypatch, capsys):
    monkeypatch.setenv("SAE_CORE_CORPUS", str(small_text))
    assert main(["evaluate", str(dictionary)]) == 0  # on the same held-out text, by its path or by its name
    recorded = json.loads((dictionary / "cfg.json").read_text())["metadata"]["metrics"]
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert printed["loss_recovered"] == f"{recorded['loss_recovered']:,.4f}"
    assert printed["tokens"] == f"{recorded['tokens']:,}"


def test_evaluate_never_takes_another_model(model, dictionary, small_text, tmp_path, monkeypatch, capsys):
    """The model here is named A, as a bundled one is."""
    monkeypatch.setenv("SAE_CORE_CORPUS", str(small_text))
    shutil.copytree(dictionary, tmp_path / "elsewhere")
    arguments = ["evaluate", str(tmp_path / "elsewhere"), "--tokens", "500"]
    assert main(arguments) == 2
    assert "was trained on another model than the A here; give --model" in capsys.readouterr().err
    assert main([*arguments, "--model", str(model)]) == 0
    config = json.loads((tmp_path / "elsewhere" / "cfg.json").read_text())
    del config["metadata"]["model"]
    (tmp_path / "elsewhere" / "cfg.json").write_text(json.dumps(config))
    assert main(arguments) == 2
    assert "does not name its language model; give --model" in capsys.readouterr().err


def test_evaluate_finds_a_bundled_model_by_its_name(tmp_path):
    shutil.copytree(bundle.find("A/0", "cfg.json"), tmp_path / "copy")
    assert main(["evaluate", str(tmp_path / "copy"), "--tokens", "500"]) == 0


def test_evaluate_keeps_away_from_what_the_dictionary_was_trained_on(model, text, tmp_path, monkeypatch, capsys):
    arguments = ["train", "--model", str(model), "--out", str(tmp_path / "1"), "--text", str(text), "--repeat"]
    assert main([*arguments, "--set", *TRAIN]) == 0
    monkeypatch.setenv("SAE_CORE_CORPUS", str(text))
    seen = load_dictionary(str(tmp_path / "1"))  # the text is not the model's, so only the dictionary has seen it
    metadata = dictionary_metadata(str(tmp_path / "1"))
    language_model = load_model(str(model))
    assert held_out_description(language_model).startswith("mini-pile, ")
    everything, _ = held_out(language_model)
    validation, _ = held_out(language_model, metadata["text"])
    assert seen.d_sae == 64 and 0 < len(validation.ids) < 0.2 * len(everything.ids)
    elsewhere = [("/of/another/machine", None)]  # it may have been this text
    assert np.array_equal(held_out(language_model, elsewhere)[0].ids, validation.ids)
    assert len(held_out(language_model, [("pocket", None)])[0].ids) == len(everything.ids)
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "1"), "--model", str(model)]) == 0
    assert f"{len(validation.ids) * 31:,}" in capsys.readouterr().out


def test_a_folder_of_text_means_the_same_from_everywhere(model, text, tmp_path, monkeypatch):
    monkeypatch.chdir(text.parent)
    arguments = ["train", "--model", str(model), "--out", str(tmp_path / "1"), "--text", text.name, "--repeat"]
    assert main([*arguments, "--set", *TRAIN]) == 0
    assert dictionary_metadata(str(tmp_path / "1"))["text"] == [[str(text.resolve()), None]]
    mixture = [(text.name, None), ("pocket", None)]
    assert TrainConfig(text=mixture).text == [(str(text.resolve()), None), ("pocket", None)]


def test_settings_may_be_given_in_several_places(model, tmp_path):
    arguments = ["train", "--model", str(model), "--out", str(tmp_path / "1"), "--repeat", "--set", *TRAIN]
    assert main([*arguments, "--set", "lam=3", "steps=12"]) == 0
    recipe = dictionary_metadata(str(tmp_path / "1"))["recipe"]
    assert (recipe["d_sae"], recipe["lam"], recipe["steps"]) == (64, 3, 12)


def test_text_lists_documents_by_slice(small_text, capsys):
    assert main(["text", str(small_text)]) == 0
    assert "digits" in capsys.readouterr().out


def test_a_recipe_file_is_read_and_changed(tmp_path, model, capsys):
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps({"steps": -1}))
    arguments = ["train", "--model", str(model), "--out", str(tmp_path / "out"), "--recipe", str(recipe)]
    assert main(arguments) == 2
    assert "steps = -1 must be positive" in capsys.readouterr().err


WRONG = {
    "unknown model": (["train", "--model", "Z", "--out", "x"], "no model 'Z'"),
    "unknown dictionary": (["evaluate", "A/99"], "A/99"),
    "unknown setting": (["train", "--out", "x", "--set", "stesp=3"], "no setting 'stesp'"),
    "setting without a value": (["train", "--out", "x", "--set", "steps"], "KEY=VALUE"),
    "setting of the wrong type": (["train", "--out", "x", "--set", "steps=many"], "steps"),
    "word for a flag": (["train", "--out", "x", "--set", "normalize=False"], "normalize = False must be true or false"),
    "flag for a number": (["train", "--out", "x", "--set", "lr=true"], "lr = True must be a number"),
    "no number": (["train", "--out", "x", "--set", "lr=NaN"], "lr = nan must be a number"),
    "part of a whole": (["train", "--out", "x", "--set", "seed=1.5"], "seed = 1.5 must be a whole number"),
    "negative seed": (["train", "--out", "x", "--set", "seed=-1"], "seed = -1 must not be negative"),
    "word for steps": (["train", "--out", "x", "--set", "resample_at=never"], "resample_at = never must be a list"),
    "words for steps": (["train", "--out", "x", "--set", 'resample_at=["5"]'], "must be a list of steps"),
    "word for a text": (["train", "--out", "x", "--set", "text=pocket"], "text = pocket must be a list of pairs"),
    "word for a share": (["pretrain", "--out", "x", "--set", 'text=[["pocket", {"code": "1"}]]'], "the share of each"),
    "word for a rate": (["pretrain", "--out", "x", "--set", "lr=high"], "pretrain: lr = high must be a number"),
    "seed above all": (["train", "--out", "x", "--set", f"seed={10**20}"], "must not be negative, nor above 2^63"),
    "steps of a preset": (["train", "--out", "x", "--set", "preset=paper_scaled", "steps=5k"], "steps = 5k must be a"),
    "no steps of a preset": (["train", "--out", "x", "--set", "preset=april_2024", "steps=0"], "steps = 0 must be a"),
    "preset in a list": (["train", "--out", "x", "--set", 'preset=["a"]'], "no preset ['a']"),
    "negative warm-up": (["train", "--out", "x", "--set", "lam_warmup=-1"], "lam_warmup = -1 must not be negative"),
    "more than can be drawn": (
        ["train", "--out", "x", "--set", "resample_inputs=20000000", "buffer_rows=30000000"],
        "resample_inputs = 20000000 must not exceed 16777216",
    ),
    "contexts of one token": (["pretrain", "--out", "x", "--set", "n_ctx=1"], "n_ctx = 1 leaves no token to predict"),
    "less than no text": (["pretrain", "--out", "x", "--set", "max_tokens=-5"], "max_tokens = -5 must be positive"),
    "growth for decay": (["pretrain", "--out", "x", "--set", "weight_decay=-1"], "weight_decay = -1 must not be"),
    "missing recipe": (["train", "--out", "x", "--recipe", "nothing.json"], "nothing.json"),
    "unknown text": (["text", "no-such-corpus"], "no-such-corpus"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line_and_status_2(case, capsys):
    arguments, expected = WRONG[case]
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert expected in message and message.count("\n") == 1 and message.startswith("sae-core: ")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--checkpoint-every", "0"], "0 is not a whole number above 0"),
        (["--max-tokens", "1e6"], "1e6 is not a whole number above 0"),
        (["--device", "foo"], "no device foo: choose cpu, cuda, cuda:1, mps or xpu"),
        (["--device", "meta"], "no device meta"),
        (["--device", "xpu"], "PyTorch cannot use xpu here"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused_with_the_usage(arguments, expected, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "--out", "x", *arguments])
    assert stop.value.code == 2 and expected in capsys.readouterr().err


def test_an_error_is_said_although_a_signal_comes_while_it_is_on_its_way(monkeypatch, tmp_path, capsys):
    def fails(*_, **__):
        try:
            raise SaeCoreError("another process is gone")
        finally:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(runs, "train_dictionary", fails)
    assert main(["train", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "sae-core: another process is gone\n"


def test_nobody_has_to_read_to_the_end():
    """As in `sae-core models | head -1`, where the pipe is closed before all is written."""
    read, write = os.pipe()
    os.close(read)
    run = subprocess.run([sys.executable, "-m", "sae_core.cli", "models"], stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (run.returncode, run.stderr) == (0, b"")


def test_the_installed_command_explains_itself():
    help_text = subprocess.run([sys.executable, "-m", "sae_core.cli", "--help"], capture_output=True, text=True)
    assert help_text.returncode == 0
    commands = ("pretrain", "harvest", "train", "evaluate", "text", "models")
    assert all(command in help_text.stdout for command in commands)
