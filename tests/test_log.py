"""The log of a run: what a stop or a power cut leaves of it, and one run on Weights & Biases from stop to stop."""

import json
import sys
from types import SimpleNamespace

import pytest

from sae_core.errors import SaeCoreError
from sae_core.log import Log, append, forget_after


def steps(path):
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    "damage",
    [
        b"\0" * 300,
        b"\0" * 300 + b"\n",
        b'{"step": 3, "lo',
        b'{"step": 3, "lo\n',
        b"12\n",
        b"\xff\xfe\n",
        b"{}\n",
        b"\n",
    ],
)
def test_a_line_that_is_no_record_is_forgotten(damage, tmp_path):
    path = tmp_path / "log.jsonl"
    append(path, {"step": 1, "loss": float("nan")})
    append(path, {"step": 2})
    path.write_bytes(path.read_bytes() + damage)
    forget_after(path, 9)
    assert steps(path) == [1, 2]
    append(path, {"step": 3})
    assert steps(path) == [1, 2, 3]


def test_a_number_that_json_does_not_know_is_null(tmp_path):
    append(tmp_path / "log.jsonl", {"step": 1, "loss": float("nan"), "explained_variance": float("-inf"), "lr": 0.1})
    expected = '{"step": 1, "loss": null, "explained_variance": null, "lr": 0.1}\n'
    assert (tmp_path / "log.jsonl").read_text() == expected


def test_a_service_that_refuses_is_one_line(monkeypatch, tmp_path):
    def init(**options):
        raise RuntimeError("no API key configured\nlog in first")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    with pytest.raises(SaeCoreError, match="^logging: no API key configured$"):
        Log(tmp_path, {}, 0, tensorboard=False, wandb=True)


def test_what_comes_after_the_last_checkpoint_is_forgotten(tmp_path):
    path = tmp_path / "log.jsonl"
    forget_after(path, 2)
    assert not path.exists()
    for step in (1, 2, 3):
        append(path, {"step": step})
    before = path.stat().st_ino
    forget_after(path, 3)
    assert steps(path) == [1, 2, 3] and path.stat().st_ino == before  # not even written again
    forget_after(path, 2)
    assert steps(path) == [1, 2]


@pytest.fixture
def inits(monkeypatch):
    """A stand-in for wandb: what `init` was called with, and the steps that the run of each id then received."""
    calls = []

    def init(**options):
        calls.append(options | {"steps": []})
        return SimpleNamespace(log=lambda _, step: calls[-1]["steps"].append(step), finish=lambda: None)

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    return calls


def write(folder, step, wandb=True):
    """A part of a run: one step after `step`."""
    with Log(folder, {"lam": 2.0}, step, tensorboard=False, wandb=wandb) as log:
        log.write(step + 1, 10, 1.0, {"loss": 3.0})


def test_a_run_that_continues_is_the_same_run_on_wandb(inits, tmp_path):
    for step in (0, 1, 2):
        write(tmp_path, step)
    first, *later = inits
    assert first["project"] == "sae_core" and first["dir"] == str(tmp_path) and first["config"] == {"lam": 2.0}
    assert first["id"] == (tmp_path / "wandb-id").read_text().strip()
    assert all((call["id"], call["resume"]) == (first["id"], "allow") for call in inits)
    assert [call["steps"] for call in inits] == [[1], [2], [3]] and len(later) == 2


def test_a_run_from_the_start_or_in_another_folder_is_another_run_on_wandb(inits, tmp_path):
    for name, step in (("one", 0), ("one", 0), ("other", 0)):
        (tmp_path / name).mkdir(exist_ok=True)
        write(tmp_path / name, step)
    assert len({call["id"] for call in inits}) == 3


def test_a_run_that_is_logged_to_wandb_only_from_some_step_on_has_a_name_from_there(inits, tmp_path):
    write(tmp_path, 0, wandb=False)
    assert not (tmp_path / "wandb-id").exists()
    write(tmp_path, 1)
    write(tmp_path, 2)
    assert inits[0]["id"] == inits[1]["id"] and inits[0]["steps"] == [2]
