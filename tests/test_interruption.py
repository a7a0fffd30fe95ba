"""A run that is killed, stopped, starved of disk or started twice: its result is that of a run that nothing disturbed.

Every run here is the command line in a process of its own. To be quick, most are forks of one process that has imported
everything (see `SERVER`); a few are started as a user would. $SAE_CORE_TEST_SEED draws other moments to be killed at.
"""

import copy
import itertools
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sae_core import checkpoint
from sae_core.activations import patched
from sae_core.autoencoder import SparseAutoencoder, save_dictionary
from sae_core.cli import main
from sae_core.corpus import is_validation
from sae_core.effects import ablation_effect
from sae_core.errors import SaeCoreError
from sae_core.files import cache_folder
from sae_core.interruption import deferred
from sae_core.language_model import LanguageModel, save_model
from sae_core.metrics import dictionary_metrics, loss_recovered
from sae_core.variants import Gated

SEED = int(os.environ.get("SAE_CORE_TEST_SEED", "0"))
STEPS, EVERY = 40, 4  # of a dictionary's run, and between its checkpoints

# Reads jobs, runs the command line in a fork, and answers with its exit status. `moments` are calls of functions at
# which something happens to the process: [module, function, number of the call, what happens].
SERVER = """
import importlib, json, os, resource, signal, sys
import torch, tokenizers, transformers
from transformers import GPT2LMHeadModel
from sae_core import cli, pretraining, runs, training
torch.set_num_threads(1)

def happen(what, arguments):
    if what == "half":  # the operating system kills the process when a file grows beyond 1000 bytes
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        return resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    if what == "full":  # within the call no file grows beyond 10 bytes: the operating system refuses what is too much
        return resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
    for name in what.split():
        os.kill(os.getpid(), getattr(signal, name))

def arm(module, function, number, what):
    *path, function = function.split(".")
    owner = importlib.import_module(module)
    for part in path:
        owner = getattr(owner, part)
    original, calls = getattr(owner, function), []
    def counted(*arguments, **options):
        calls.append(1)
        if len(calls) == number:
            happen(what, arguments)
        try:
            return original(*arguments, **options)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    setattr(owner, function, counted)

print("ready", flush=True)
for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        output = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1), os.dup2(output, 2)
        try:
            for moment in job["moments"]:
                arm(*moment)
            status = cli.main(job["arguments"])
            sys.stdout.flush(), sys.stderr.flush()
        except BaseException:
            import traceback
            traceback.print_exc()
            status = 99
        os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """Run a command line: command(arguments, *moments) gives its exit status and what it printed."""
    output = tmp_path_factory.mktemp("command") / "output.txt"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": os.environ | ENVIRONMENT}
    with subprocess.Popen([sys.executable, "-c", SERVER], **pipes) as server:
        assert server.stdout.readline() == "ready\n"

        def run(arguments, *moments):
            job = {"arguments": [str(a) for a in arguments], "moments": moments, "output": str(output)}
            server.stdin.write(json.dumps(job) + "\n")
            server.stdin.flush()
            return int(server.stdout.readline()), output.read_text()

        yield run
        server.stdin.close()


@pytest.fixture(scope="module")
def model(tiny, tokenizer, small_text, tmp_path_factory):
    """The tiny model in a folder that names its text."""
    folder = tmp_path_factory.mktemp("interruption") / "model"
    save_model(LanguageModel("model", tiny.network, tokenizer), folder)
    (folder / "training.json").write_text(json.dumps({"recipe": {"text": [[str(small_text), None]]}}))
    return folder


TRAIN = f"""
    d_sae=48 steps={STEPS} batch_size=128 buffer_rows=4096 lr=0.03 lam=0.5 normalize=true
    resample_at=[13,26] dead_after=4 resample_inputs=512
""".split()


def train_arguments(model, out, *changes, every=EVERY):
    options = ["--model", model, "--out", out, "--repeat", "--checkpoint-every", every]
    return ["train", *options, "--set", *TRAIN, *changes]


def pretrain_arguments(text, out, *changes, every=5):
    settings = ["vocab_size=300", "n_ctx=16", "batch_tokens=2048", f"text={json.dumps([[str(text), None]])}"]
    return ["pretrain", "--out", out, "--checkpoint-every", every, "--set", *settings, *changes]


def without_repeat(arguments):
    return [argument for argument in arguments if argument != "--repeat"]


def log_of(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def last_state(folder):
    """All tensors of the last checkpoint: weights, moments, buffer, counters and random states."""
    return load_file(checkpoint.checkpoints(folder)[-1])


def assert_same_run(folder, undisturbed, weights):
    assert (folder / weights).read_bytes() == (undisturbed / weights).read_bytes()
    one, other = last_state(folder), last_state(undisturbed)
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    assert log_of(folder) == log_of(undisturbed)
    assert [path.name for path in folder.glob(".*")] == [".lock"]  # nothing half written


@pytest.fixture(scope="module")
def undisturbed(command, model, tmp_path_factory):
    """A dictionary's run that nothing happens to."""
    out = tmp_path_factory.mktemp("undisturbed") / "dictionary"
    assert command(train_arguments(model, out))[0] == 0
    return out


@pytest.fixture(scope="module")
def undisturbed_model(command, small_text, tmp_path_factory):
    """A language model's run that nothing happens to."""
    out = tmp_path_factory.mktemp("undisturbed") / "model"
    assert command(pretrain_arguments(small_text, out))[0] == 0
    return out


# --- kill -9 --------------------------------------------------------------------------------------------------------

KILLED = -signal.SIGKILL
KILLED_BY = {"half": -signal.SIGXFSZ}
TRAINING = {  # where a dictionary's run is killed, one after the other: [module, function, number of the call, what]
    "while the buffer is filled for the first time": ["sae_core.activations", "harvest", 3, "SIGKILL"],
    "before the first checkpoint": ["sae_core.training", "loss_step", 3, "SIGKILL"],
    "in the middle of a checkpoint": ["sae_core.checkpoint", "save_file", 2, "half"],
    "before a checkpoint gets its name": ["sae_core.files", "os.replace", 1, "SIGKILL"],
    "while an old checkpoint is deleted": ["sae_core.checkpoint", "checkpoints", 3, "SIGKILL"],
    "while the buffer is filled again": ["sae_core.activations", "ActivationBuffer._fresh_rows", 1, "SIGKILL"],
    "while features are resampled": ["sae_core.resampling", "example_losses", 1, "SIGKILL"],
    "after a step, before it is counted": ["sae_core.training", "normalize_decoder", 6, "SIGKILL"],
    "while the log is written": ["sae_core.log", "append", 1, "SIGKILL"],
    "while the result is written": ["sae_core.autoencoder", "save_file", 1, "SIGKILL"],
    "while the result is measured": ["sae_core.runs", "evaluate_dictionary", 1, "SIGKILL"],
    "while the card is written": ["sae_core.cards", "write_text_atomically", 1, "SIGKILL"],
}


def test_a_dictionary_that_is_killed_at_every_kind_of_moment_is_the_same(command, model, undisturbed, tmp_path):
    arguments = train_arguments(model, tmp_path / "out")
    for moment, what in TRAINING.items():
        status, output = command(arguments, what)
        assert status == KILLED_BY.get(what[3], KILLED), f"{moment}: {output}"
        if what[3] == "half":
            assert len([*(tmp_path / "out").glob(".tmp*")]) == 1  # safetensors' own half of a file
    status, output = command(arguments)
    assert status == 0, output
    assert_same_run(tmp_path / "out", undisturbed, "sae_weights.safetensors")


def test_a_dictionary_that_is_killed_at_random_steps_is_the_same(command, model, undisturbed, tmp_path):
    draw = random.Random(SEED)
    arguments, kills = train_arguments(model, tmp_path / "out"), []
    while not kills or sum(kills) < STEPS:
        kills.append(draw.randint(EVERY, 4 * EVERY))  # less would never reach the next checkpoint
        command(arguments, ["sae_core.training", draw.choice(["loss_step", "normalize_decoder"]), kills[-1], "SIGKILL"])
    status, output = command(arguments)
    assert status == 0, output
    print(f"seed {SEED}, killed at call {kills}")
    assert_same_run(tmp_path / "out", undisturbed, "sae_weights.safetensors")


PRETRAINING = {
    "while the tokeniser is written": ["sae_core.pretraining", "write_text_atomically", 1, "SIGKILL"],
    "while the text is packed": ["sae_core.tokens", "pack", 1, "SIGKILL"],
    "before the first checkpoint": ["sae_core.pretraining", "_training_step", 4, "SIGKILL"],
    "in the middle of a checkpoint": ["sae_core.checkpoint", "save_file", 2, "half"],
    "at a step": ["sae_core.pretraining", "_training_step", 9, "SIGKILL"],
    "while the log is written": ["sae_core.log", "append", 2, "SIGKILL"],
    "before a checkpoint gets its name": ["sae_core.files", "os.replace", 1, "SIGKILL"],
    "before the model's files get their names": ["sae_core.language_model", "os.replace", 3, "SIGKILL"],
    "while the model is measured": ["sae_core.pretraining", "evaluate", 1, "SIGKILL"],
}


def test_a_model_that_is_killed_at_every_kind_of_moment_is_the_same(command, small_text, undisturbed_model, tmp_path):
    arguments = pretrain_arguments(small_text, tmp_path / "model")
    for moment, what in PRETRAINING.items():
        if moment == "while the text is packed":
            for path in cache_folder().glob("contexts-*.json"):
                path.unlink()
        status, output = command(arguments, what)
        assert status == KILLED_BY.get(what[3], KILLED), f"{moment}: {output}"
    status, output = command(arguments)
    assert status == 0, output
    assert_same_run(tmp_path / "model", undisturbed_model, "model.safetensors")
    for file in ("config.json", "tokenizer.json"):
        assert (tmp_path / "model" / file).read_bytes() == (undisturbed_model / file).read_bytes()


def start(arguments):
    """The command as a user starts it, with the handling of signals that a terminal gives it."""
    return subprocess.Popen(
        [sys.executable, "-m", "sae_core.cli", *map(str, arguments)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=os.environ | ENVIRONMENT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def last_step(folder):
    paths = checkpoint.checkpoints(folder)
    return int(paths[-1].stem.split("-")[1]) if paths else 0


def test_the_command_is_killed_and_interrupted_at_random_times(command, model, tmp_path):
    draw, steps, out = random.Random(SEED), 600, tmp_path / "out"
    arguments = train_arguments(model, out, f"steps={steps}", every=10)
    for number in (signal.SIGKILL, signal.SIGINT):
        before, delay = last_step(out), draw.uniform(0, 0.3)
        process = start(arguments)
        while last_step(out) == before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(delay)
        process.send_signal(number)
        errors = process.communicate()[1]
        step = last_step(out)
        print(f"seed {SEED}: {number.name} {delay:.3f} s after checkpoint {before}, which left {step}")
        assert before < step < steps, errors
        if number == signal.SIGKILL:
            assert process.returncode == KILLED
        else:
            assert process.returncode == 130
            message = f"sae-core: stopped after step {step:,}, saved in {out}; run the same command again to continue"
            assert errors.splitlines()[-1] == message
    assert command(arguments)[0] == 0
    assert command(train_arguments(model, tmp_path / "undisturbed", f"steps={steps}", every=steps))[0] == 0
    assert_same_run(out, tmp_path / "undisturbed", "sae_weights.safetensors")


# --- Ctrl-C and SIGTERM ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_a_dictionarys_run_with_its_step_saved(name, command, model, undisturbed, tmp_path):
    arguments = train_arguments(model, tmp_path / "out", every=1000)
    status, output = command(arguments, ["sae_core.training", "loss_step", 7, name])
    assert status == 128 + getattr(signal, name)
    saved = f"sae-core: stopped after step 7, saved in {tmp_path / 'out'}"
    assert output.splitlines()[-1] == f"{saved}; run the same command again to continue"
    assert last_step(tmp_path / "out") == 7
    # Impatient: while the checkpoint of a first Ctrl-C is being written.
    moments = ["sae_core.training", "loss_step", 7, name], ["sae_core.checkpoint", "save_file", 1, f"SIGINT {name}"]
    status, output = command(arguments, *moments)
    assert status == 128 + getattr(signal, name) and "stopped after step 14, saved" in output
    # While a checkpoint is written that was due anyway, and as the last step ends.
    status, output = command(train_arguments(model, tmp_path / "out"), ["sae_core.checkpoint", "save_file", 1, name])
    assert status == 128 + getattr(signal, name) and "stopped after step 17, saved" in output
    status, output = command(arguments, ["sae_core.checkpoint", "save_file", 1, name])
    assert status == 128 + getattr(signal, name) and last_step(tmp_path / "out") == STEPS
    assert command(arguments)[0] == 0
    assert_same_run(tmp_path / "out", undisturbed, "sae_weights.safetensors")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_a_models_run_with_its_step_saved(name, command, small_text, undisturbed_model, tmp_path):
    arguments = pretrain_arguments(small_text, tmp_path / "model")
    moments = ["sae_core.pretraining", "_training_step", 7, name], ["sae_core.checkpoint", "save_file", 2, name]
    status, output = command(arguments, *moments)
    assert status == 128 + getattr(signal, name)
    assert "stopped after step 7, saved" in output.splitlines()[-1] and last_step(tmp_path / "model") == 7
    assert command(arguments)[0] == 0
    assert_same_run(tmp_path / "model", undisturbed_model, "model.safetensors")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_other_commands_end_with_one_line_too(name, command, small_text):
    status, output = command(["text", small_text], ["sae_core.corpus", "open_corpus", 1, name])
    assert (status, output.strip()) == (128 + getattr(signal, name), "sae-core: stopped")


def test_a_signal_that_the_process_was_started_to_ignore_stays_ignored():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with deferred() as signals:
            os.kill(os.getpid(), signal.SIGTERM)
        assert signals == [] and signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_signal_that_nobody_acted_upon_is_delivered_after_all():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), deferred() as signals:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            assert signals == [signal.SIGINT, signal.SIGINT]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


# --- a full disk ----------------------------------------------------------------------------------------------------

FULL = {  # the calls within which a dictionary's run finds the disk full, one run after the other, and what they write
    "checkpoint-000000004.safetensors": ["sae_core.checkpoint", "save_file", 1, "full"],
    "log.jsonl": ["sae_core.log", "append", 2, "full"],
    "sae_weights.safetensors": ["sae_core.autoencoder", "save_file", 1, "full"],
    "cfg.json": ["sae_core.autoencoder", "write_text_atomically", 2, "full"],
    "README.md": ["sae_core.cards", "write_text_atomically", 1, "full"],
}
FULL_OF_A_MODEL = {
    "tokenizer.json": ["sae_core.pretraining", "write_text_atomically", 1, "full"],
    "checkpoint-000000010.safetensors": ["sae_core.checkpoint", "save_file", 2, "full"],
    "log.jsonl": ["sae_core.log", "append", 2, "full"],
    "model.safetensors": ["transformers", "GPT2LMHeadModel.save_pretrained", 1, "full"],
    "MANIFEST.json": ["sae_core.pretraining", "write_text_atomically", 1, "full"],
    "training.json": ["sae_core.pretraining", "write_text_atomically", 2, "full"],
    "README.md": ["sae_core.cards", "write_text_atomically", 1, "full"],
}


def assert_untouched(folder):
    for path in folder.glob("checkpoint-*"):
        checkpoint.load(path)
    for path in folder.glob("*.json"):
        json.loads(path.read_text())
    assert [path.name for path in folder.glob(".*")] == [".lock"]


def assert_a_full_disk_loses_nothing(command, arguments, out, moments, undisturbed, weights):
    for file, moment in moments.items():
        status, output = command(arguments, moment)
        assert status == 2, (file, output)
        assert output.splitlines()[-1].startswith(f"sae-core: {out / file}: cannot be written (")
        assert_untouched(out)
    assert command(arguments)[0] == 0
    assert_same_run(out, undisturbed, weights)


def test_a_full_disk_is_named_whatever_file_it_stops_and_nothing_is_lost(command, model, undisturbed, tmp_path):
    out = tmp_path / "out"
    arguments = train_arguments(model, out)
    assert_a_full_disk_loses_nothing(command, arguments, out, FULL, undisturbed, "sae_weights.safetensors")


def test_a_full_disk_stops_a_models_run_in_the_same_way(command, small_text, undisturbed_model, tmp_path):
    out = tmp_path / "model"
    arguments = pretrain_arguments(small_text, out)
    assert_a_full_disk_loses_nothing(command, arguments, out, FULL_OF_A_MODEL, undisturbed_model, "model.safetensors")


def test_a_line_of_the_log_that_was_cut_short_is_written_again(command, model, undisturbed, tmp_path):
    arguments = train_arguments(model, tmp_path / "out")
    assert command(arguments, ["sae_core.training", "loss_step", 15, "SIGKILL"])[0] == KILLED
    with (tmp_path / "out" / "log.jsonl").open("a") as file:
        file.write('{"step": 14, "act')
    assert command(arguments)[0] == 0
    assert_same_run(tmp_path / "out", undisturbed, "sae_weights.safetensors")


# --- another run ----------------------------------------------------------------------------------------------------


@pytest.fixture
def finished(undisturbed, tmp_path):
    return shutil.copytree(undisturbed, tmp_path / "finished")


@pytest.fixture
def finished_model(undisturbed_model, tmp_path):
    return shutil.copytree(undisturbed_model, tmp_path / "model")


def refused(arguments, capsys):
    """What the command line says to input that it refuses: a single line."""
    assert main([str(argument) for argument in arguments]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("sae-core: ")]
    assert len(lines) == 1
    return lines[0].removeprefix("sae-core: ")


@pytest.fixture
def other_text(small_text, mini_pile, tmp_path):
    return mini_pile(tmp_path / "other", {"words": [f"never again the river number {n}" for n in range(2000)]})


def test_a_checkpoint_of_another_configuration_text_model_or_use_is_refused(
    finished, model, tiny, other_text, tmp_path, capsys
):
    newest = f"{finished}/checkpoint-000000040.safetensors: written "
    assert refused(train_arguments(model, finished, "lam=9"), capsys).startswith(newest + "with lam = 0.5, now 9; use")
    arguments = train_arguments(model, finished)
    assert refused([*arguments, "--text", other_text], capsys).startswith(newest + "for another text,")
    network = copy.deepcopy(tiny.network)
    with torch.no_grad():
        network.transformer.h[0].mlp.c_fc.bias[0] += 1  # a single weight
    save_model(LanguageModel("other", network, tiny.tokenizer), tmp_path / "other_model")
    shutil.copy(model / "training.json", tmp_path / "other_model")
    arguments = train_arguments(tmp_path / "other_model", finished)
    assert refused(arguments, capsys).startswith(newest + "for another model,")
    arguments = without_repeat(train_arguments(model, finished))
    assert refused(arguments, capsys).startswith(newest + "for another repeat, True, now False; use")


def test_a_finished_dictionary_without_its_checkpoints_is_not_overwritten(
    finished, model, other_text, tiny, tmp_path, capsys
):
    for path in checkpoint.checkpoints(finished):
        path.unlink()
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    arguments = train_arguments(model, finished)
    way_out = "choose another --out or delete it"
    other = f"{finished}: holds a finished dictionary of another "
    assert refused([*arguments, "lam=9", "d_sae=32"], capsys) == f"{other}recipe; {way_out}"
    assert refused([*arguments, "--text", other_text], capsys) == f"{other}text; {way_out}"
    network = copy.deepcopy(tiny.network)
    network.transformer.h[0].mlp.c_fc.bias.data[0] += 1  # a single weight
    save_model(LanguageModel("other", network, tiny.tokenizer), tmp_path / "other_model")
    shutil.copy(model / "training.json", tmp_path / "other_model")
    assert refused(train_arguments(tmp_path / "other_model", finished), capsys) == f"{other}model; {way_out}"
    # The same run again has nothing to do, and says its numbers.
    assert main([str(argument) for argument in arguments]) == 0
    metrics = json.loads((finished / "cfg.json").read_text())["metadata"]["metrics"]
    assert f"{metrics['loss_recovered']:,.4f}" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before
    # What a run writes last, and a setting that is younger than the run: clip was null.
    (finished / "README.md").unlink()
    config = json.loads((finished / "cfg.json").read_text())
    del config["metadata"]["recipe"]["clip"]
    (finished / "cfg.json").write_text(json.dumps(config))
    assert main([str(argument) for argument in arguments]) == 0 and (finished / "README.md").exists()
    assert refused([*arguments, "clip=1"], capsys) == f"{other}recipe; {way_out}"
    assert not checkpoint.checkpoints(finished)


def test_a_dictionary_without_a_recipe_is_no_finished_run(command, model, undisturbed, tmp_path):
    """As a run leaves it that is killed while its dictionary is measured."""
    save_dictionary(SparseAutoencoder(64, 48), tmp_path / "out")
    assert command(train_arguments(model, tmp_path / "out"))[0] == 0
    assert_same_run(tmp_path / "out", undisturbed, "sae_weights.safetensors")


def test_a_models_checkpoint_of_another_text_is_refused(finished_model, small_text, mini_pile, capsys):
    """The same name of a folder, with other documents in it."""
    arguments = pretrain_arguments(small_text, finished_model)
    before = {path.name: path.read_bytes() for path in small_text.iterdir()}
    try:
        for path in small_text.iterdir():
            path.unlink()
        mini_pile(small_text, {"words": [f"another river and the bird {n}" for n in range(900)]})
        assert "checkpoint-" in (message := refused(arguments, capsys)) and "written for another text" in message
    finally:
        for name, content in before.items():
            (small_text / name).write_bytes(content)


def test_what_a_run_left_before_its_first_checkpoint_does_not_reach_another_run(
    command, small_text, other_text, undisturbed_model, tmp_path
):
    arguments = pretrain_arguments(other_text, tmp_path / "model")
    assert command(arguments, ["sae_core.pretraining", "_training_step", 3, "SIGKILL"])[0] == KILLED
    assert (tmp_path / "model" / "tokenizer.json").exists()
    assert command(pretrain_arguments(small_text, tmp_path / "model"))[0] == 0
    assert_same_run(tmp_path / "model", undisturbed_model, "model.safetensors")


def test_a_damaged_checkpoint_names_the_command_that_goes_back_to_the_one_before(finished, model, capsys):
    older, newest = checkpoint.checkpoints(finished)
    good, tensors = newest.read_bytes(), load_file(newest).keys()
    newest.write_bytes(good[:-100])
    message = refused(train_arguments(model, finished), capsys)
    assert message.startswith(f"{newest}: damaged checkpoint (")
    assert message.endswith(f"; delete it to continue from {older.stem}: rm {newest}")
    subprocess.run(message.rpartition(": ")[2], shell=True, check=True)
    assert main([str(argument) for argument in train_arguments(model, finished)]) == 0
    assert newest.read_bytes() != good[:-100] and load_file(newest).keys() == tensors
    older.unlink()
    newest.write_bytes(good[:-100])
    assert refused(train_arguments(model, finished), capsys).endswith(f"; delete it to start again: rm {newest}")


@pytest.mark.parametrize("kind", ["dictionary", "model"])
def test_two_processes_do_not_train_into_one_folder(kind, model, small_text, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = train_arguments(model, out) if kind == "dictionary" else pretrain_arguments(small_text, out)
    with checkpoint.only_process(out):
        assert refused(arguments, capsys).startswith(f"{out}: another process is writing into it")
    assert [path.name for path in out.iterdir()] == [".lock"]
    with checkpoint.only_process(out):  # the one before is gone
        pass


# --- input that cannot be used --------------------------------------------------------------------------------------


def test_activations_that_are_not_numbers_are_named(model, tiny, tmp_path, capsys):
    network = copy.deepcopy(tiny.network)
    with torch.no_grad():
        network.transformer.h[0].mlp.c_fc.bias[3] = math.nan
    save_model(LanguageModel("broken", network, tiny.tokenizer), tmp_path / "broken")
    shutil.copy(model / "training.json", tmp_path / "broken")
    message = refused(train_arguments(tmp_path / "broken", tmp_path / "out"), capsys)
    assert message == "activations: chunk 0 of the text holds a value that is not a number"
    assert not checkpoint.checkpoints(tmp_path / "out")


def test_a_dictionary_of_another_width_does_not_fit(model, tiny, tmp_path, small_text, monkeypatch, capsys):
    monkeypatch.setenv("SAE_CORE_CORPUS", str(small_text))
    wide = SparseAutoencoder(80, 16)
    save_dictionary(wide, tmp_path / "wide")
    expected = "a dictionary for width 80 does not fit width 64: it is of another model or module"
    (model / "training.json").write_text(json.dumps({"recipe": {"text": [["mini-pile", None]]}}))
    try:
        assert refused(["evaluate", tmp_path / "wide", "--model", model], capsys) == expected
    finally:
        (model / "training.json").write_text(json.dumps({"recipe": {"text": [[str(small_text), None]]}}))
    ids = np.ones((4, 8), np.uint16)
    for measure in (
        lambda: dictionary_metrics(tiny, wide, ids),
        lambda: loss_recovered(tiny, wide, ids),
        lambda: ablation_effect(tiny, wide, 0, ids),
        lambda: dictionary_metrics(tiny, Gated(80, 16), ids),
    ):
        with pytest.raises(SaeCoreError, match=expected):
            measure()
    with pytest.raises(SaeCoreError, match=r"c_proj takes \[4, 8, 64\], and the function returned \[4, 8, 1\]"):
        with patched(tiny.network, lambda x: x[..., :1]):
            tiny.network(torch.ones(4, 8, dtype=torch.int64))


def test_an_empty_text_is_refused_before_anything_is_trained(model, mini_pile, tmp_path, capsys):
    (tmp_path / "nothing").mkdir()
    held_out = next(text for n in range(1000) if is_validation(text := f"the river {n} " * 50))
    only_held_out = mini_pile(tmp_path / "only_held_out", {"words": [held_out]})
    learned = [text for n in range(2000) if not is_validation(text := f"the river {n}")]
    for text, expected in (
        (tmp_path / "nothing", "nothing: holds neither a MANIFEST.json nor a *.txt file"),
        (only_held_out, "only_held_out (train split) has 0 tokens"),
        (mini_pile(tmp_path / "all_learned", {"words": learned}), "all_learned (validation split) has 0 tokens"),
    ):
        assert expected in refused([*train_arguments(model, tmp_path / "out"), "--text", text], capsys)
        assert expected in refused(pretrain_arguments(text, tmp_path / "model"), capsys)
    assert not (tmp_path / "out").exists() and not checkpoint.checkpoints(tmp_path / "model")


def test_a_model_whose_token_0_is_not_the_end_of_a_text_is_refused(model, tmp_path, capsys):
    other = shutil.copytree(model, tmp_path / "other")
    tokens = json.loads((other / "tokenizer.json").read_text())
    tokens["added_tokens"] = []
    tokens["model"]["vocab"] = {{"<|endoftext|>": "[PAD]"}.get(t, t): i for t, i in tokens["model"]["vocab"].items()}
    (other / "tokenizer.json").write_text(json.dumps(tokens))
    message = refused(train_arguments(other, tmp_path / "out"), capsys)
    assert message == f"{other}: token 0 is '[PAD]' and has to be '<|endoftext|>'"


@pytest.fixture
def endless(monkeypatch):
    """A data set that streams without an end; how many rows were read."""
    rows = []

    def stream(*_, **__):
        for n in itertools.count():
            assert n < 100_000, "read without an end"
            rows.append(n)
            yield {"text": f"the small river sings {n} " * 20}

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=stream))
    return rows


def test_a_stream_is_not_read_without_a_limit(endless, model, tmp_path, capsys):
    expected = "hf:owner/set: a stream that may have no end; say how much to read: train --max-tokens N, "
    arguments = [*train_arguments(model, tmp_path / "out"), "--text", "hf:owner/set"]
    assert refused(arguments, capsys).startswith(expected)
    assert refused(pretrain_arguments("hf:owner/set", tmp_path / "model"), capsys).startswith(expected)
    assert endless == []


def test_a_stream_is_read_as_far_as_the_limit_says(endless, model, tmp_path):
    arguments = [*train_arguments(model, tmp_path / "out"), "--text", "hf:owner/set", "--max-tokens", "20000"]
    assert main([str(argument) for argument in arguments]) == 0
    arguments = pretrain_arguments("hf:owner/set", tmp_path / "model", "max_tokens=20000")
    assert main([str(argument) for argument in arguments]) == 0
    assert 0 < len(endless) < 10_000
    tokens = json.loads((tmp_path / "model" / "training.json").read_text())["tokens"]
    assert 10_000 < tokens < 200_000


def test_a_run_longer_than_its_text_is_refused_before_it_starts(model, tmp_path, capsys):
    arguments = without_repeat(train_arguments(model, tmp_path / "out", "steps=100000"))
    assert "train: the text is used up after" in refused(arguments, capsys)
