"""The activation cache: exact, continued where it was stopped, and never wrong without saying so."""

import hashlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sae_core import activation_cache
from sae_core.activation_cache import CachedChunks, write_activations
from sae_core.activations import ActivationBuffer, HarvestedChunks
from sae_core.autoencoder import NAMES
from sae_core.errors import SaeCoreError
from sae_core.recipe import paper_scaled
from sae_core.training import Trainer


class CountedChunks:
    """Nine chunks whose values tell them apart; `read` lists those that were asked for, after the first."""

    rows = 100

    def __init__(self, d_in=8):
        self.d_in, self.read = d_in, []

    def __len__(self):
        return 9

    def __getitem__(self, index):
        self.read.append(index)
        return torch.randn(self.rows, self.d_in, generator=torch.Generator().manual_seed(index))


SOURCE = {"model": "m", "text": "t"}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(activation_cache, "SHARD_BYTES", 2 * 2 * 100 * 8)  # two chunks of CountedChunks


def write(folder, n_chunks=None, source=SOURCE, d_in=8):
    """The numbers of the chunks that were read for it."""
    chunks = CountedChunks(d_in)
    write_activations(chunks, folder, source, n_chunks, command="harvest it again")
    return chunks.read[1:]


@pytest.fixture
def cache(tmp_path):
    write(tmp_path / "cache")
    return tmp_path / "cache"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def assert_complete(folder):
    chunks, cached = CountedChunks(), CachedChunks(folder)
    assert len(cached) == 9 and all(torch.equal(cached[i], chunks[i].bfloat16()) for i in range(9))
    assert not list(folder.glob(".*.partial"))


# --- what is kept ---------------------------------------------------------------------------------------------------


def test_a_cache_is_plain_safetensors_with_a_manifest(cache):
    manifest = json.loads((cache / "manifest.json").read_text())
    assert manifest["source"] == SOURCE and manifest["d_in"] == 8 and manifest["dtype"] == "bfloat16"
    shards = sorted(cache.glob("*.safetensors"))
    assert list(manifest["shards"]) == [path.name for path in shards] and len(shards) == 5
    for path in shards:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == manifest["shards"][path.name]["sha256"]
    rows = torch.cat([load_file(path)["activations"] for path in shards])
    assert torch.equal(rows, torch.cat([CountedChunks()[i] for i in range(9)]).bfloat16())


def test_chunks_come_back_bit_for_bit_in_any_order(cache):
    chunks, cached = CountedChunks(), CachedChunks(cache)
    assert len(cached) == 9 and cached.rows == 100
    for index in (0, 8, 3, 2, 3, 7, 1):
        assert cached[index].dtype == torch.bfloat16 and torch.equal(cached[index], chunks[index].bfloat16())


def test_training_from_a_cache_gives_the_same_weights_as_training_from_the_model(tiny, tmp_path):
    ids = np.random.default_rng(0).integers(1, 320, (90, 32)).astype(np.uint16)
    harvested = HarvestedChunks(tiny.network, ids, seed=1, chunk_contexts=10)
    write_activations(harvested, tmp_path, harvested.source)
    cached = CachedChunks(tmp_path)
    assert cached.source == harvested.source

    def weights(chunks):
        sizes = {"d_sae": 96, "batch_size": 64, "buffer_rows": 1240, "resample_inputs": 620}
        trainer = Trainer(paper_scaled(40, **sizes), ActivationBuffer(chunks, 1240))
        assert list(trainer.run())[-1].step == 40
        return [getattr(trainer.sae, name) for name in NAMES]

    assert all(torch.equal(one, other) for one, other in zip(weights(harvested), weights(cached), strict=True))


def test_activations_of_any_network_are_kept(tmp_path):
    network = torch.nn.Sequential(torch.nn.Embedding(50, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    chunks = HarvestedChunks(network, np.arange(48).reshape(12, 4), chunk_contexts=3, module="2")
    write_activations(chunks, tmp_path, chunks.source)
    everything = torch.cat([CachedChunks(tmp_path)[index] for index in range(4)])
    expected = network[0].weight.detach()[torch.from_numpy(chunks.ids[:, 1:]).flatten()].tanh().bfloat16()
    assert torch.equal(everything.sort(0).values, expected.sort(0).values)


def test_a_shard_is_opened_once_for_all_its_chunks(cache):
    cached = CachedChunks(cache)
    mapped = [(cached[index], cached.mapped)[1] for index in (0, 1, 2)]
    assert mapped[0] is mapped[1] is not mapped[2]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="maps are listed by Linux")
def test_one_shard_is_mapped_at_a_time(cache):
    cached = CachedChunks(cache)
    for index in range(9):
        chunk = cached[index]
        maps = set(re.findall(r"activations-\d+\.safetensors", Path("/proc/self/maps").read_text()))
        assert maps == {f"activations-{index // 2:05d}.safetensors"} and chunk.shape == (100, 8)


# --- writing --------------------------------------------------------------------------------------------------------


def test_what_is_there_is_not_written_again(cache):
    assert write(cache) == []


def test_a_cache_can_be_made_longer_and_shorter(tmp_path):
    assert write(tmp_path, 3) == [0, 1, 2] and len(CachedChunks(tmp_path)) == 3
    assert write(tmp_path) == [2, 3, 4, 5, 6, 7, 8]  # the second shard was half full
    assert_complete(tmp_path)
    assert write(tmp_path, 3) == [] and len(CachedChunks(tmp_path)) == 3
    assert write(tmp_path) == []


def test_who_reads_a_cache_that_grows_goes_on_with_its_chunks(tmp_path):
    write(tmp_path, 3)
    chunks = CachedChunks(tmp_path)
    write(tmp_path)  # writes the second shard anew
    assert len(list(chunks)) == len(chunks) == 3
    assert torch.equal(chunks[2], CountedChunks()[2].bfloat16())
    for index in (-1, 3):
        with pytest.raises(IndexError, match=f"chunk {index} of 3"):
            chunks[index]


def test_a_run_continues_on_a_cache_that_has_grown(tmp_path):
    """Its buffer, which was as large as the text, keeps its size."""
    write(tmp_path, 3)
    buffer = ActivationBuffer(CachedChunks(tmp_path), 900)
    buffer.next_batch(20)
    write(tmp_path)
    grown = ActivationBuffer(CachedChunks(tmp_path), 900)
    grown.restore({name: tensor.clone() for name, tensor in buffer.tensors().items()})
    assert len(buffer.rows) == len(grown.rows) == 300
    assert torch.equal(grown.next_batch(20), buffer.next_batch(20))


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_activation_cache as tests

tests.activation_cache.SHARD_BYTES = 2 * 2 * 100 * 8
rename, left = os.replace, 0

def killed_at_a_rename(*paths):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    rename(*paths)

os.replace = killed_at_a_rename
for moment in range(1, 12):  # five shards, the manifest after each, and the manifest at the end
    folder = Path(sys.argv[1]) / str(moment)
    folder.mkdir()
    if os.fork() == 0:
        left = moment
        tests.write(folder)
        os._exit(0)
    assert os.wait()[1] == signal.SIGKILL, moment
"""


def test_after_kill_9_the_same_command_finishes_the_cache(cache, tmp_path):
    runs = tmp_path / "runs"
    runs.mkdir()
    command = [sys.executable, "-c", KILLED, str(runs), str(Path(__file__).parent)]
    subprocess.run(command, check=True, stderr=subprocess.PIPE)
    for folder in runs.iterdir():
        moment = int(folder.name)
        finished = (moment - 1) // 2  # shards that the manifest lists
        assert list(folder.glob(".*.partial"))
        assert write(folder) == list(range(2 * finished, 9))
        assert contents(folder) == contents(cache)


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path):
    write(tmp_path, 4)
    before = contents(tmp_path)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limit[1]))  # bytes in a file; a shard has 3,300
    try:
        with pytest.raises(SaeCoreError, match="activations-00002.safetensors: cannot be written") as error:
            write(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert "\n" not in str(error.value)
    assert contents(tmp_path) == before and len(CachedChunks(tmp_path)) == 4
    assert write(tmp_path) == [4, 5, 6, 7, 8]
    assert_complete(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": {"model": "other", "text": "t"}}, "of another model, 'm', now 'other'; use another folder"),
        ({"source": {"model": "m", "text": "other"}}, "of another text, 't', now 'other'; use another folder"),
        ({"d_in": 16}, "of another d_in, 8, now 16; use another folder"),
    ],
)
def test_a_folder_with_other_activations_is_left_alone(cache, changes, message):
    before = contents(cache)
    with pytest.raises(SaeCoreError, match=message):
        write(cache, **changes)
    assert contents(cache) == before


def test_a_value_that_is_not_a_number_is_not_written(tmp_path):
    class Broken(CountedChunks):
        def __getitem__(self, index):
            return super().__getitem__(index) / (index != 5)

    with pytest.raises(SaeCoreError, match="chunk 5 of the text holds a value that is not a number"):
        write_activations(Broken(), tmp_path, SOURCE)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_more_than_the_text_holds_cannot_be_written(tmp_path):
    with pytest.raises(SaeCoreError, match="1,000 activations were asked for, the text has 900 activations"):
        write(tmp_path / "cache", 10)
    assert not (tmp_path / "cache").exists()


# --- damage ---------------------------------------------------------------------------------------------------------


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


DAMAGE = {"a flipped bit": flip_a_bit, "a truncated file": truncate, "a missing file": Path.unlink}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_bad_shard_is_named_and_written_again(cache, damage):
    before, shard = contents(cache), cache / "activations-00003.safetensors"
    DAMAGE[damage](shard)
    how = "missing" if damage == "a missing file" else "damaged"
    with pytest.raises(SaeCoreError, match=f"{shard.name} is {how}.*; what writes it again: harvest it again"):
        list(map(CachedChunks(cache).__getitem__, range(9)))
    assert write(cache) == [6, 7]
    assert contents(cache) == before


def test_a_missing_shard_is_found_before_training_starts(cache):
    (cache / "activations-00004.safetensors").unlink()
    with pytest.raises(SaeCoreError, match="activations-00004.safetensors is missing"):
        CachedChunks(cache)


def test_an_unfinished_cache_is_not_read(tmp_path):
    write(tmp_path, 3)
    manifest = tmp_path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"chunks": 3', '"chunks": 4'))
    with pytest.raises(SaeCoreError, match="activations-00001.safetensors is missing"):
        CachedChunks(tmp_path)


def test_what_is_no_cache_is_said_to_be_none(tmp_path):
    with pytest.raises(SaeCoreError, match="no activation cache, for it has no manifest.json"):
        CachedChunks(tmp_path)
    for text, reason in (("{", "not the manifest"), ("[]", "not the manifest"), ('{"format": "x"}', "in the form 'x'")):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(SaeCoreError, match=reason):
            CachedChunks(tmp_path)


# --- object storage -------------------------------------------------------------------------------------------------


@pytest.fixture
def storage(cache, tmp_path, monkeypatch):
    """A cache in fsspec's memory, its URL, and the folder that its copies go to."""
    monkeypatch.setenv("SAE_CORE_CACHE", str(tmp_path / "local"))
    memory = fsspec.filesystem("memory")
    for name, data in contents(cache).items():
        memory.pipe_file(f"/bucket/cache/{name}", data)
    yield memory, "memory://bucket/cache", tmp_path / "local"
    memory.rm("/bucket", recursive=True)


def test_a_cache_is_read_from_object_storage(storage):
    _, url, _ = storage
    chunks, cached = CountedChunks(), CachedChunks(url)
    assert len(cached) == 9 and cached.source == SOURCE
    assert all(torch.equal(cached[i], chunks[i].bfloat16()) for i in range(9))


def test_a_shard_is_fetched_when_it_is_needed_and_once(storage):
    memory, url, local = storage
    cached = CachedChunks(url)
    assert not list(local.rglob("*.safetensors"))
    chunk = cached[4]
    assert [path.name for path in local.rglob("*.safetensors")] == ["activations-00002.safetensors"]
    memory.pipe_file("/bucket/cache/activations-00002.safetensors", b"another")
    assert torch.equal(CachedChunks(url)[4], chunk)  # the next run reads the copy


def test_a_damaged_copy_is_fetched_again(storage):
    _, url, local = storage
    chunk = CachedChunks(url)[4].clone()
    flip_a_bit(next(local.rglob("*.safetensors")))
    assert torch.equal(CachedChunks(url)[4], chunk)


def test_a_bad_shard_in_object_storage_is_named(storage, cache):
    memory, url, _ = storage
    name = "activations-00002.safetensors"
    memory.pipe_file(f"/bucket/cache/{name}", (cache / name).read_bytes()[:-1] + b"x")
    with pytest.raises(SaeCoreError, match=f"{url}: shard {name} is damaged"):
        CachedChunks(url)[4]
    memory.rm_file(f"/bucket/cache/{name}")
    shutil.rmtree(os.environ["SAE_CORE_CACHE"])
    with pytest.raises(SaeCoreError, match=f"{url}: shard {name} is missing"):
        CachedChunks(url)[5]


def test_a_url_that_cannot_be_read_is_one_line(storage, monkeypatch):
    with pytest.raises(SaeCoreError, match="memory://nowhere: no activation cache"):
        CachedChunks("memory://nowhere")
    with pytest.raises(SaeCoreError, match="odd://bucket/manifest.json: cannot be fetched"):
        CachedChunks("odd://bucket")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(SaeCoreError, match="memory://nowhere: .*pip install fsspec"):
        CachedChunks("memory://nowhere")
