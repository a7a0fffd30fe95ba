"""Files: whole, on the disk, and for whom the umask says, before they get their names."""

import os
import stat

import pytest
import torch
from safetensors.torch import load_file, save_file

from sae_core import checkpoint
from sae_core.autoencoder import SparseAutoencoder, save_dictionary
from sae_core.errors import SaeCoreError
from sae_core.files import write_atomically, write_text_atomically

TENSORS = {"a": torch.arange(3.0)}
WRITE = {  # each writes a file into a folder and returns its path
    "text": lambda folder: (path := folder / "x.json", write_text_atomically(path, "{}"))[0],
    "safetensors": lambda folder: (
        path := folder / "x.safetensors",
        write_atomically(path, lambda file: save_file(TENSORS, file.name)),
    )[0],
    "dictionary": lambda folder: (
        save_dictionary(SparseAutoencoder(4, 8), folder),
        folder / "sae_weights.safetensors",
    )[1],
    "checkpoint": lambda folder: checkpoint.save(folder, 1, TENSORS, {"config": {}}),
}


@pytest.mark.parametrize("kind", WRITE)
def test_a_file_is_flushed_to_the_disk_before_it_gets_its_name(kind, tmp_path, monkeypatch):
    flushed, named = {}, {}
    fsync, replace = os.fsync, os.replace

    def watched_fsync(descriptor):
        found = os.fstat(descriptor)
        flushed[found.st_ino] = found.st_size
        fsync(descriptor)

    def watched_replace(source, target):
        named[target] = os.stat(source).st_ino in flushed
        replace(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    path = WRITE[kind](tmp_path)
    assert named[path] and flushed[path.stat().st_ino] == path.stat().st_size > 0


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
@pytest.mark.parametrize("kind", WRITE)
def test_a_file_has_the_mode_that_the_umask_allows(kind, umask, tmp_path):
    before = os.umask(umask)
    try:
        path = WRITE[kind](tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(tmp_path):
    path = WRITE["safetensors"](tmp_path)

    def fail(file):
        save_file({"b": torch.zeros(9)}, file.name)
        raise OSError("no space")

    with pytest.raises(SaeCoreError, match=r"x\.safetensors: cannot be written \(no space\)"):
        write_atomically(path, fail)
    assert [*tmp_path.iterdir()] == [path] and torch.equal(load_file(path)["a"], TENSORS["a"])
