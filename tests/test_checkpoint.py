"""Checkpoints: what a process that was killed has left in their folder. The rest is in test_training.py."""

import pytest
import torch

from sae_core import checkpoint
from sae_core.errors import SaeCoreError


def test_what_a_killed_process_was_writing_is_deleted_under_the_lock(tmp_path):
    stale = [".tmp3mZ6Oj", ".log.jsonl.17.partial", "process-1/.tmpAbCd12", "process-1/.x.18.partial"]
    others = [".tmp", ".tmp-mine", "tmp3mZ6Oj", "process-1/log.jsonl", "1/.tmp3mZ6Oj"]  # 1: a dictionary of this model
    for name in [*stale, *others]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / ".folder.partial").mkdir()
    with checkpoint.only_process(tmp_path):
        left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
        assert left == {*others, ".lock"} and not (tmp_path / ".folder.partial").exists()
        (tmp_path / ".tmp3mZ6Oj").touch()  # being written
        with pytest.raises(SaeCoreError, match="another process"), checkpoint.only_process(tmp_path):
            pass
        assert (tmp_path / ".tmp3mZ6Oj").exists()


def test_a_checkpoint_that_cannot_be_written_says_that_the_others_are_untouched(tmp_path):
    path = checkpoint.path_of(tmp_path, 2)
    path.mkdir()
    with pytest.raises(SaeCoreError) as refused:
        checkpoint.save(tmp_path, 2, {"a": torch.zeros(1)}, {"config": {}})
    assert str(refused.value).startswith(f"{path}: cannot be written (")
    assert str(refused.value).endswith("; the checkpoints before it are untouched")
    assert [*tmp_path.iterdir()] == [path]
