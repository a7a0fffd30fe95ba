"""Training in two processes: the dictionary that one process would make, stopped and continued, and ended together.

The two processes are this file, run by torchrun: what they do is at the end of it.
"""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_training import PlantedChunks, make_buffer, read_log, silence

from sae_core import checkpoint, cli, parallel, runs
from sae_core.activations import ActivationBuffer
from sae_core.errors import SaeCoreError
from sae_core.recipe import TrainConfig, april_2024, paper_scaled
from sae_core.training import Trainer, train

ROWS = 2048  # of the buffer of each process
SIZES = {"d_sae": 64, "batch_size": 256, "buffer_rows": 2 * ROWS, "lr": 1e-3, "bf16": False}
# With λ's warm-up and the learning rate's decay; the paper's with dead features, two resamplings and Kaiming's start:
# from a transposed one some gradients are zero but for rounding, of which Adam makes a whole step.
RECIPES = {
    "paper_scaled": paper_scaled(
        40, **SIZES, lam=2.0, lam_warmup=8, resample_at=(12, 24), resample_inputs=ROWS, dead_after=6, encoder_start=None
    ),
    "april_2024": april_2024(40, **SIZES),
}
NUMBERS = ("squared_error", "l1", "loss", "l0", "explained_variance", "dead", "resampled")
DEAD = [3, 17, 40]


def own_buffer(chunks):
    return ActivationBuffer(parallel.OwnChunks(chunks), ROWS)


def trained(config, buffer):
    """The state at the end of a run, without the buffer's, and the numbers of each step. Some features start dead."""
    trainer = Trainer(config, buffer)
    silence(trainer, DEAD)
    numbers = [[now.numbers()[name] for name in NUMBERS] for now in trainer.run()]
    tensors = {name: tensor.clone() for name, tensor in trainer.tensors().items() if not name.startswith("buffer.")}
    return tensors, numbers


class BothBuffers:
    """What both processes read, in one."""

    def __init__(self):
        self.halves = [ActivationBuffer(EverySecondChunk(first), ROWS) for first in (0, 1)]
        self.rows = self.halves[0].rows

    def peek(self, n_rows):
        return self.waiting(n_rows).float()

    def waiting(self, n_rows):
        return torch.cat([half.waiting(n_rows // 2) for half in self.halves])

    def next_batch(self, batch_size, needed):
        return torch.cat([half.next_batch(batch_size // 2, needed / 2) for half in self.halves])

    def tensors(self):
        return {}


class EverySecondChunk(PlantedChunks):
    def __init__(self, first):
        super().__init__()
        self.first = first

    def __len__(self):
        return self.n_chunks // 2

    def __getitem__(self, index):
        return super().__getitem__(self.first + 2 * index)


def torchrun(*arguments):
    """Start two processes of `python *arguments`."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(parallel.__file__).parents[1])}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def printed(processes, seconds=60):
    """All that they print until the last one has ended."""
    try:
        return processes.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        processes.terminate()
        pytest.fail(f"still at work after {seconds} s: {processes.communicate()[0][-3000:]}")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder with what both processes have written (`everything`, below)."""
    folder = tmp_path_factory.mktemp("parallel")
    processes = torchrun(__file__, "everything", str(folder))
    text = printed(processes)
    assert processes.returncode == 0, text[-3000:]
    return folder


def state(folder, name, rank):
    return load_file(folder / f"{name}-{rank}.safetensors")


def report(folder, rank):
    return json.loads((folder / f"report-{rank}.json").read_text())


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# --- the same dictionary --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
def test_two_processes_make_the_dictionary_that_one_makes_from_the_same_batches(recipe, done):
    expected, numbers = trained(RECIPES[recipe], BothBuffers())
    found = state(done, recipe, 0)
    assert found["scale"].item() == pytest.approx(expected["scale"].item(), rel=1e-6)
    for name in ("sae.W_enc", "sae.b_enc", "sae.W_dec", "sae.b_dec"):
        torch.testing.assert_close(found[name], expected[name], atol=1e-5, rtol=0)
    assert torch.equal(found["silent"], expected["silent"]) and torch.equal(found["generator"], expected["generator"])
    for now, then in zip(report(done, 0)[recipe], numbers, strict=True):
        assert now == pytest.approx(then, rel=1e-4, abs=1e-6)  # the explained variance starts near zero


@pytest.mark.parametrize("recipe", RECIPES)
def test_both_processes_hold_the_same_state_to_the_last_bit(recipe, done):
    assert equal(state(done, recipe, 0), state(done, recipe, 1))
    assert report(done, 0)[recipe] == report(done, 1)[recipe]


def test_features_were_dead_and_resampled(done):
    resampled = [numbers[-1] for numbers in report(done, 0)["paper_scaled"]]
    assert resampled[11] >= len(DEAD) and sum(resampled) == resampled[11] + resampled[23]


@pytest.mark.parametrize("architecture", ["batchtopk", "jumprelu"])
def test_variants_stay_the_same_in_both_processes(architecture, done):
    one, other = (state(done, architecture, rank) for rank in (0, 1))
    assert equal(one, other) and (one["sae.threshold"] > 0).any()
    assert report(done, 0)[architecture] == report(done, 1)[architecture]


# --- stopped and continued ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [0, 1])
def test_a_run_that_one_process_stopped_continues_to_the_same_dictionary(rank, done):
    assert "stopped after step 9" in report(done, rank)["stopped"]  # and not at a multiple of checkpoint_every
    assert equal(state(done, "continued", rank), state(done, "undisturbed", rank))
    assert equal(state(done, "continued", 0), state(done, "continued", 1))


def test_only_the_first_process_writes_the_log_and_the_weights(done):
    assert sorted(path.name for path in (done / "stopped").iterdir() if not path.name.startswith(".")) == [
        "checkpoint-000000016.safetensors", "checkpoint-000000024.safetensors", "log.jsonl", "process-1",
    ]  # fmt: skip
    assert [record["step"] for record in read_log(done / "stopped")] == list(range(1, 25))
    others = sorted((done / "stopped" / "process-1").iterdir())
    assert [path.name for path in others] == ["checkpoint-000000016.safetensors", "checkpoint-000000024.safetensors"]
    whole, buffer = (checkpoint.load(path)[0] for path in (done / "stopped" / others[0].name, others[0]))
    assert set(buffer) == {name for name in whole if name.startswith("buffer.")}
    assert not torch.equal(buffer["buffer.rows"], whole["buffer.rows"])


def test_the_first_process_writes_last(done):
    assert report(done, 0)["others have written"] == [True, True, True]


def test_another_number_of_processes_is_refused(done):
    with pytest.raises(SaeCoreError, match="a run of 2 process.* now 1; use 2"):
        train(short(), make_buffer(), done / "stopped", progress=False)


def test_a_checkpoint_of_one_process_is_refused_by_two(done):
    assert "a run of 1 process" in report(done, 0)["of one"] and "now 2" in report(done, 1)["of one"]


def test_processes_that_do_not_share_the_folder_are_told_so(done):
    assert all("machines have to share the folder" in report(done, rank)["not shared"] for rank in (0, 1))


# --- shares ---------------------------------------------------------------------------------------------------------


def test_a_batch_that_does_not_divide_is_refused(done):
    assert report(done, 0)["batch"] == "train: batch_size = 255 does not divide among 2 processes"


def test_a_text_that_is_too_short_for_all_is_refused(done):
    assert "1 chunks of text for 2 processes" in report(done, 1)["text"]


@pytest.mark.parametrize("rank", [0, 1])
def test_each_process_reads_chunks_of_its_own(rank, done):
    assert report(done, rank)["chunks"] == [[0, 2, 4], [1, 3, 5]][rank]  # of seven


@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_process_fills_a_cache_before_the_second_looks(rank, done):
    assert report(done, rank)["found"] == [False, True][rank]


def test_means_keep_the_memory_order_of_their_tensors(done):
    assert report(done, 0)["strides"] == report(done, 1)["strides"] == [[1, 3], [], [1], [2, 1]]


def test_a_single_process_has_nothing_to_exchange():
    a = torch.arange(6.0).view(3, 2)
    assert parallel.mean([a])[0] is a and parallel.gathered(a) is a and parallel.world() == 1 and parallel.rank() == 0
    assert torch.equal(parallel.picked_rows(a, torch.tensor([2, 0])), a[[2, 0]])
    with parallel.processes("cpu") as device, parallel.first_process_first():
        assert device == "cpu" and not torch.distributed.is_initialized()


# --- ending together ------------------------------------------------------------------------------------------------


def messages(text):
    return [line for line in text.splitlines() if line.startswith("sae-core:")]


def test_an_error_in_one_process_ends_both_with_one_message(tmp_path):
    processes = torchrun(__file__, "bad chunk", str(tmp_path))
    text = printed(processes)
    assert processes.returncode != 0
    assert messages(text) == ["sae-core: activations: chunk 3 of the text holds a value that is not a number"]


def wait_for(path, processes):
    for _ in range(600):
        if path.exists():
            return path.read_text()
        assert processes.poll() is None, processes.communicate()[0]
        time.sleep(0.1)
    pytest.fail(f"{path} never appeared")


def test_a_process_that_is_killed_ends_the_other_one(tmp_path):
    processes = torchrun(__file__, "slow", str(tmp_path))
    os.kill(int(wait_for(tmp_path / "pid-1", processes)), signal.SIGKILL)
    text = printed(processes)
    (message,) = messages(text)
    assert processes.returncode != 0 and "another process of this run is gone" in message


def test_ctrl_c_saves_the_step_and_ends_both_with_one_message(tmp_path):
    processes = torchrun(__file__, "slow", str(tmp_path))
    wait_for(tmp_path / "pid-1", processes)
    processes.send_signal(signal.SIGINT)
    text = printed(processes)
    (message,) = messages(text)
    found, progress = checkpoint.latest(tmp_path / "run", {})
    assert f"stopped after step {progress['step']}" in message and "run the same command again" in message
    assert checkpoint.checkpoints(tmp_path / "run" / "process-1")[-1].name.endswith(f"{progress['step']}.safetensors")


# --- what the processes do ------------------------------------------------------------------------------------------


def short(steps=24):
    return TrainConfig(
        **SIZES, steps=steps, lam=2.0, resample_at=(6, 11), dead_after=3, resample_inputs=2 * ROWS, normalize=True
    )


def everything(folder):
    rank, notes = parallel.rank(), {}
    for name, config in RECIPES.items():
        tensors, notes[name] = trained(config, own_buffer(PlantedChunks()))
        save_file(contiguous(tensors), folder / f"{name}-{rank}.safetensors")
    for name, options in (("batchtopk", {"k": 4}), ("jumprelu", {"lam": 0.1})):
        own = {"architecture": name, "steps": 8, "resample_at": (), "dead_after": 3, "normalize": True}
        config = TrainConfig(**SIZES | own | options)
        tensors, notes[name] = trained(config, own_buffer(PlantedChunks()))
        save_file(contiguous(tensors), folder / f"{name}-{rank}.safetensors")

    how = {"log_every": 1, "checkpoint_every": 8, "progress": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "save", noting_order(checkpoint.save, notes.setdefault("others have written", [])))
        undisturbed = train(short(), own_buffer(PlantedChunks()), folder / "undisturbed", **how)
    try:
        train(short(), own_buffer(Signalling()), folder / "stopped", **how)
    except KeyboardInterrupt as message:
        notes["stopped"] = str(message)
    continued = train(short(), own_buffer(PlantedChunks()), folder / "stopped", **how)
    for name, sae in (("undisturbed", undisturbed), ("continued", continued)):
        save_file(contiguous(sae.state_dict()), folder / f"{name}-{rank}.safetensors")

    def refused(function, *arguments):
        try:
            function(*arguments)
        except SaeCoreError as error:
            return str(error)

    checkpoint.save(folder / f"of one {rank}", 3, {}, {"config": {}})
    notes["of one"] = refused(parallel.latest, folder / f"of one {rank}", {}, {})
    notes["not shared"] = refused(parallel.latest, folder / "of one 0" if rank == 0 else folder / "other", {}, {})
    notes["batch"] = refused(Trainer, replace(short(), batch_size=255), own_buffer(PlantedChunks()))
    notes["text"] = refused(parallel.OwnChunks, PlantedChunks(n_chunks=1))

    numbered = parallel.OwnChunks(list(range(7)))
    notes["chunks"] = [numbered[index] for index in range(len(numbered))]
    with parallel.first_process_first():
        notes["found"] = (folder / "cache").exists()
        time.sleep(0.2)
        (folder / "cache").touch()
    tensors = [torch.ones(2, 3).T, torch.tensor(1.0), torch.ones(1).expand(4), torch.ones(3, 2, dtype=torch.int64)]
    notes["strides"] = [mean.stride() for mean in parallel.mean(tensors)]
    (folder / f"report-{rank}.json").write_text(json.dumps(notes))


def noting_order(save, others_have_written):
    """`checkpoint.save` that takes its time in the second process, and in the first looks for what that one wrote."""

    def slow(folder, step, *rest):
        if parallel.rank() == 0:
            others_have_written.append((folder / "process-1" / f"checkpoint-{step:09d}.safetensors").exists())
        else:
            time.sleep(0.1)
        save(folder, step, *rest)

    return slow


def contiguous(tensors):
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}


class Signalling(PlantedChunks):
    """The second process gets a Ctrl-C while it reads a chunk."""

    def __getitem__(self, index):
        if index == 7:
            signal.raise_signal(signal.SIGINT)
        return super().__getitem__(index)


class BadChunk(PlantedChunks):
    """The second process reads a value that is not a number."""

    def __getitem__(self, index):
        return super().__getitem__(index) * (float("nan") if index == 7 else 1.0)


class Slow(PlantedChunks):
    """Each process says who it is once it is training, and then takes its time."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def __getitem__(self, index):
        if index > 7:
            (self.folder / f"pid-{parallel.rank()}").write_text(str(os.getpid()))
            time.sleep(0.3)
        return super().__getitem__(index)


def command(what, folder):
    """`sae-core train` on planted features."""
    config, chunks = (short(steps=200), Slow(folder)) if what == "slow" else (short(), BadChunk())
    runs.train_dictionary = lambda *_, **__: train(config, own_buffer(chunks), folder / "run", progress=False) and {}
    return cli.main(["train", "--out", str(folder / "run")])


if __name__ == "__main__":
    torch.set_num_threads(1)
    what, where = sys.argv[1], Path(sys.argv[2])
    if what == "everything":
        with parallel.processes():
            everything(where)
    else:
        sys.exit(command(what, where))
