"""The command line: a whole run from text to a measured dictionary, and one line for every kind of wrong input."""

import json
import subprocess
import sys

import pytest

from sae_core.cli import main

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


def test_activations_that_cannot_be_used_are_one_line(model, text, activations, tmp_path, capsys):
    arguments = ["train", "--activations", str(activations), "--out", str(tmp_path), "--set", *TRAIN]
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
    assert main(["evaluate", str(dictionary), "--tokens", "2000"]) == 0
    assert "loss_recovered" in capsys.readouterr().out


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
    "missing recipe": (["train", "--out", "x", "--recipe", "nothing.json"], "nothing.json"),
    "unknown text": (["text", "no-such-corpus"], "no-such-corpus"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line_and_status_2(case, capsys):
    arguments, expected = WRONG[case]
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert expected in message and message.count("\n") == 1 and message.startswith("sae-core: ")


def test_the_installed_command_explains_itself():
    help_text = subprocess.run([sys.executable, "-m", "sae_core.cli", "--help"], capture_output=True, text=True)
    assert help_text.returncode == 0
    commands = ("pretrain", "harvest", "train", "evaluate", "text", "models")
    assert all(command in help_text.stdout for command in commands)
