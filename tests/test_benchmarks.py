"""The benchmarks run for ours alone, and their results are refused where a field is missing. No time is tested."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sae_core.corpus import open_corpus
from sae_core.errors import SaeCoreError

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "benchmarks"))

import results  # noqa: E402


@pytest.fixture(scope="module")
def quick_run(small_text, tmp_path_factory):
    """The folder that `make bench ONLY=step QUICK=1` leaves behind, without peers."""
    out, text = tmp_path_factory.mktemp("results"), tmp_path_factory.mktemp("text")
    for index, document in enumerate(open_corpus(small_text).documents()):
        (text / f"{index}.txt").write_text(document.text)
    environment = {**os.environ, "SAE_CORE_CORPUS": str(text), "PYTHONPATH": str(ROOT)}
    options = ["--quick", "--ours-only", "--rounds", "2", "--threads", "1", "--out", str(out), "--only", "step"]
    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), *options]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return out


def test_a_quick_run_writes_every_field(quick_run):
    result = results.load("step", quick_run)
    assert result.quick and result.machine["threads"] == 1
    assert {"python", "torch"} <= set(result.versions)
    rates = {one.name: one for one in result.series if one.group == "steady, 256" and one.unit == "activations/s"}
    assert set(rates) == {"sae_core fp32", "sae_core bf16", "floor fp32", "floor bf16"}
    assert all(len(one.values) == 2 and min(one.values) > 0 for one in rates.values())
    ratio = result.ratio("steady, 256", "sae_core fp32 / floor fp32")
    ours, floor = rates["sae_core fp32"].values, rates["floor fp32"].values
    quotients = [one / other for one, other in zip(ours, floor, strict=True)]
    assert ratio.values == pytest.approx(quotients) and ratio.target == 0.5


def test_the_steady_state_is_steady(quick_run):
    """A trained dictionary is sparser than a fresh one, and stays so while it is timed.

    Its rounds go on with new batches; at the start every round is the same one, a new run on the first batches.
    """
    series = {(one.group, one.name): one.values for one in results.load("step", quick_run).series}
    steady = series["steady, 256, L0", "sae_core fp32"]
    assert max(steady) < 1.05 * min(steady)
    start = series["start, 256, L0", "sae_core fp32"]
    assert max(steady) < min(start)
    assert steady[0] != steady[1] and start[0] == start[1]


def test_a_stopped_measurement_repeats_only_what_is_missing(tmp_path):
    import session

    bench, calls = session.Session(quick=True, ours_only=True, rounds=2, threads=1, work=tmp_path), []

    def part(name, **settings):
        return bench.part(f"one/{name}", settings, lambda: calls.append(name) or len(calls))

    assert [part("a", size=1), part("a", size=1), part("a", size=2), part("b", size=1)] == [1, 1, 2, 3]
    bench.forget_parts("one")
    assert part("a", size=1) == 4


@pytest.mark.parametrize("part", ["", "machine", "series", "ratios"])
def test_a_missing_field_is_refused(quick_run, tmp_path, part):
    record = json.loads((quick_run / "step.json").read_text())
    whole = record if part == "" else record["machine"] if part == "machine" else record[part][0]
    for name in list(whole):
        value = whole.pop(name)
        (tmp_path / "step.json").write_text(json.dumps(record))
        with pytest.raises(SaeCoreError, match=name):
            results.load("step", tmp_path)
        whole[name] = value
    (tmp_path / "step.json").write_text(json.dumps(record))
    assert results.load("step", tmp_path) == results.load("step", quick_run)


def test_a_file_that_is_missing_or_cut_short_is_refused(quick_run, tmp_path):
    with pytest.raises(SaeCoreError, match="make bench ONLY=step"):
        results.load("step", tmp_path)
    (tmp_path / "step.json").write_text((quick_run / "step.json").read_text()[:500])
    with pytest.raises(SaeCoreError, match="make bench ONLY=step"):
        results.load("step", tmp_path)


@pytest.mark.parametrize("values, at_least, met", [([2, 3, 10], True, True), ([1, 2, 10], True, False)])
def test_the_median_decides_a_lower_target(values, at_least, met):
    assert results.Ratio.of("", "", values, 3.0, at_least).met is met


def test_an_upper_target_and_none():
    assert results.Ratio.of("", "", [1.04], 1.05, at_least=False).met
    assert not results.Ratio.of("", "", [1.06], 1.05, at_least=False).met
    assert results.Ratio.of("", "", [1.0]).met is None


def test_ratios_are_taken_round_by_round():
    """The median of the ratios, not the ratio of the medians."""
    fast = results.Series.of("g", "fast", "1/s", [10.0, 20.0, 90.0])
    slow = results.Series.of("g", "slow", "1/s", [5.0, 2.0, 30.0])
    (ratio,) = results.ratios([fast, slow], [("g", "fast", "slow", 3.0), ("g", "fast", "absent", 1.0)])
    assert ratio.values == [2.0, 10.0, 3.0] and ratio.median == 3.0 and ratio.quartiles == (2.5, 6.5)


def test_the_committed_results_can_be_read():
    for path in results.FOLDER.glob("*.json"):
        assert results.load(path.stem).measurement == path.stem


def chapters_result(*pages, text="pocket"):
    series = [
        results.Series.of(page, name, unit, [1.0])
        for page in pages
        for name, unit in (("time", "min"), ("memory", "b"))
    ]
    machine = results.machine(1)
    return results.Result("chapters-quick-cpu", False, "today", "abc", machine, {}, text, {}, series)


def test_some_chapters_measured_again_leave_the_rows_of_the_others(tmp_path):
    import chapters

    results.write(chapters_result("gone", "two", "one"), tmp_path)
    old = chapters.to_keep(chapters_result(), tmp_path, ["three"])
    new = [results.Series.of("one", name, unit, [2.0]) for name, unit in (("time", "min"), ("memory", "b"))]
    found = chapters.merged(old, new, ["one", "two", "three"])
    assert [(one.group, one.name, one.median) for one in found] == [
        ("one", "time", 2.0), ("one", "memory", 2.0), ("two", "time", 1.0), ("two", "memory", 1.0),
    ]  # fmt: skip


def test_rows_of_different_texts_are_not_put_into_one_file(tmp_path):
    import chapters

    assert chapters.to_keep(chapters_result(), tmp_path, ["one"]) == []  # no file yet
    results.write(chapters_result("one", text="mini-pile"), tmp_path)
    with pytest.raises(SaeCoreError, match="of other text; measure all chapters"):
        chapters.to_keep(chapters_result(), tmp_path, ["one"])
    assert chapters.to_keep(chapters_result(), tmp_path, None) == []  # all chapters: the file begins anew


def curve(*points):
    return [{"l0_mean": l0, "loss_recovered": loss} for l0, loss in points]


def test_a_curve_is_read_between_its_points_and_never_beyond_its_ends():
    import quality

    points = curve((10.0, 0.8), (1000.0, 0.9))
    assert quality.at_l0(points, 100.0) == pytest.approx(0.85)
    assert quality.at_l0(points, 9.0) is None and quality.at_l0(points, 1001.0) is None
    assert quality.at_l0(points, 0.0) is None  # a dictionary that never fires


def test_of_a_library_the_best_try_counts_and_a_worse_one_takes_nothing_from_it():
    import quality

    good, worse = curve((10.0, 0.8), (1000.0, 0.9)), curve((90.0, 0.7), (2000.0, 0.85))
    for tries in ([good], [good, worse], [worse, good]):
        assert quality.best_at_l0(tries, 100.0) == pytest.approx(0.85)
        assert quality.best_at_l0(tries, 5000.0) == 0.9  # that of a sparser dictionary
        assert quality.best_at_l0(tries, 9.0) is None


def test_libraries_are_compared_at_the_points_of_the_peer_that_it_does_not_beat_itself():
    import quality

    ours = [curve((10.0, 0.8), (1000.0, 0.9))]
    found = quality.gains(ours, [curve((100.0, 0.8), (10_000.0, 0.95)), curve((200.0, 0.7), (300.0, 0.8))])
    assert [l0 for l0, _ in found] == [100.0, 10_000.0]
    assert [gain for _, gain in found] == pytest.approx([0.05, -0.05])
    # At 1 and at 2 we have nothing: what they recover at our 10 counts, once.
    assert quality.gains(ours, [curve((1.0, 0.1), (2.0, 0.2))]) == [(10.0, pytest.approx(0.6))]


def test_a_peers_dictionary_must_give_the_peers_numbers(tmp_path):
    import quality
    import torch
    from safetensors.torch import save_file

    from sae_core.autoencoder import NAMES, SparseAutoencoder

    torch.manual_seed(0)
    sae, x = SparseAutoencoder(8, 16), torch.randn(20, 8)
    reconstruction, codes = sae(x)
    tensors = {name: getattr(sae, name).detach().contiguous() for name in NAMES}
    check = {"check.x": x, "check.codes": codes.detach(), "check.reconstruction": reconstruction.detach()}
    save_file(tensors | check, tmp_path / "same.safetensors")
    assert torch.equal(quality.converted(tmp_path / "same.safetensors").W_enc, sae.W_enc)
    save_file(tensors | check | {"b_enc": tensors["b_enc"] + 0.1}, tmp_path / "other.safetensors")
    with pytest.raises(SaeCoreError, match="codes that differ"):
        quality.converted(tmp_path / "other.safetensors")
