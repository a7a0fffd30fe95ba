"""The claims table: every claim is there, every outcome follows from its numbers, and a run's numbers get in safely."""

import json
import math
import os
import re
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sae_core import chapter
from sae_core.errors import SaeCoreError

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_tools"))  # the book's tools are scripts beside it, not a package
claims, clauses = import_module("claims"), import_module("clauses")

TABLE = (ROOT / "claims.yml").read_text(encoding="utf-8")
HOW_MANY = {"A": 37, "T": 20, "O": 14, "R": 11, "M": 12}

SMALL = """\
# A comment at the top.
- id: A1
  claim: The model beats a bigram model.
  source: Somebody 2023
  source_value: not stated
  bar:
    - loss < bigram_loss
    - cost >= 0.1
  # {loss,bigram_loss}: cross-entropies of the two
  # cost: what zero-ablation
  #   costs
  measured: null
  text: null
  outcome: not attempted
  where: null

# Another comment.
- id: A2
  claim: Exact.
  source: Somebody 2023
  source_value: exact
  bar:
    - error < 1e-5
  # error: largest error
  measured:
    error: 1.0e-06
  text: mini-pile
  outcome: replicated
  where:
  - dictionary/training#fig-loss
"""


def record(id="A1", where="model/one_layer_model#fig-loss", text="mini-pile", mode="quick", time="1", **measured):
    return {"id": id, "where": where, "text": text, "mode": mode, "time": time, "measured": measured}


# --- the table itself ---------------------------------------------------------------------------------------


def test_every_claim_has_its_row():
    assert [claim.id for claim in claims.load()] == [
        f"{letter}{number}" for letter, many in HOW_MANY.items() for number in range(1, many + 1)
    ]


def test_every_outcome_follows_from_the_numbers_and_a_wrong_one_is_noticed(tmp_path):
    claims.load()  # the committed table
    table = tmp_path / "claims.yml"
    missed = SMALL.replace("error: 1.0e-06", "error: 0.5")
    table.write_text(missed)
    with pytest.raises(claims.ClaimsError, match="row A2: outcome is 'replicated', its numbers say 'contradicted'"):
        claims.load(table)
    table.write_text(missed.replace("outcome: replicated", "outcome: contradicted"))
    assert claims.load(table)[1].outcome == "contradicted"


def test_committed_numbers_come_from_a_text_that_may_be_committed():
    assert {claim.text for claim in claims.load() if claim.measured} <= set(claims.COMMITTED_TEXTS)


# For rows that decide the first chapters: numbers at the bar, and for each clause a number just short of it.
AT_THE_BAR = {
    "A1": ({"loss": 2.9, "bigram_loss": 3.0, "zero_ablation_cost": 0.1}, {"loss": 3.0, "zero_ablation_cost": 0.099}),
    "A2": (
        {
            "decoder_norm_error": 9e-6,
            "parallel_gradient": 9e-7,
            "bias_to_median": 0.1,
            "zero_to_median": 1.0,
            "encoder_decoder_cosine": 0.5,
        },
        {
            "decoder_norm_error": 1e-5,
            "parallel_gradient": 1e-6,
            "bias_to_median": 1.0,
            "encoder_decoder_cosine": 1,
        },
    ),
    "A7": ({"modes": 2, "log10_low_mode": -7.0, "log10_high_mode": -6.0}, {"modes": 1, "log10_high_mode": -6.1}),
    "A8": (
        {"separation_auc": 0.95, "rare_encoder_dot_decoder": -0.2, "high_encoder_dot_decoder": 0.8},
        {"separation_auc": 0.949, "rare_encoder_dot_decoder": 0.9, "high_encoder_dot_decoder": 0.1},
    ),
    "A10": ({"features": 4096, "dead": 1000, "ultralow": 23}, {"dead": 1001}),
    "A11": ({"l0": 20}, {"l0": 20.1}),
    "A12": (
        {"loss_recovered": 0.7, "smallest_step_with_size": 0.01, "largest_step_with_l1": -0.01},
        {"loss_recovered": 0.699, "smallest_step_with_size": 0, "largest_step_with_l1": 0},
    ),
}


@pytest.mark.parametrize("id", AT_THE_BAR)
def test_the_bar_is_where_it_was_set(id):
    bar = next(claim.bar for claim in claims.load() if claim.id == id)
    measured, short = AT_THE_BAR[id]
    assert clauses.decide(bar, measured) == "replicated"
    for name, value in short.items():
        assert clauses.decide(bar, {**measured, name: value}) != "replicated", name


@pytest.mark.parametrize(
    ("id", "clause", "short"),
    [
        ("A15", {"mass_in_context": 0.8}, 0.799),
        ("A15", {"lift": 50}, 49.9),
        ("A18", {"logit_auc": 0.9}, 0.899),
        ("A18", {"top20_in_context": 15}, 14),
        ("A20", {"samples": 100}, 99),
        ("A20", {"pinned_share": 0.5}, 0.49),
        ("A20", {"unpinned_share": 0.019}, 0.02),
        ("A21", {"best_neuron_correlation": 0.3}, 0.31),
        ("A22", {"twin_correlation": 0.8}, 0.79),
    ],
)
@pytest.mark.parametrize("feature", ["arabic", "dna", "base64", "hebrew"])
def test_every_feature_is_held_to_the_same_bar(id, clause, short, feature):
    bar = next(claim.bar for claim in claims.load() if claim.id == id)
    ((name, enough),) = clause.items()
    (about,) = [clause for clause in bar if clauses.names(clause) == [f"{feature}_{name}"]]
    assert clauses.holds(about, {f"{feature}_{name}": enough})
    assert not clauses.holds(about, {f"{feature}_{name}": short})


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("  source: Somebody 2023\n  source_value: exact", "  source_value: exact", "row A2: source is missing"),
        ("  text: mini-pile", "  text: mini-pile\n  note: x", "row A2: note is not a key"),
        ("  claim: Exact.\n  source: Somebody 2023", "  source: Somebody 2023\n  claim: Exact.", "row A2: keys"),
        ("claim: Exact.", "claim: 3", "row A2: claim is not a line of text"),
        ("- id: A2", "- id: A1", "row A1: id is there more than once"),
        ("- id: A2", "- id: two", "row number 2: id"),
        ("outcome: replicated", "outcome: good", "row A2: outcome is 'good'"),
        ("    - error < 1e-5", "    - err < 1e-5", "row A2: bar uses err, which no comment explains"),
        ("    - error < 1e-5", "    - error", "row A2: bar: 'error' is not a comparison"),
        ("    - error < 1e-5", "    - 5", "row A2: bar has 5"),
        ("error: 1.0e-06", "error: .nan", "row A2: measured has nan for error"),
        ("error: 1.0e-06", "error: small", "row A2: measured has 'small' for error"),
        ("error: 1.0e-06", "mistake: 1.0e-06", "row A2: measured has mistake, which no comment explains"),
        ("  - dictionary/training#fig-loss", "  - training", "row A2: where has 'training'"),
        ("  text: mini-pile", "  text: null", "row A2: text does not name"),
        ("  # error: largest error", "  # error: largest error\n  # error: again", "row A2: comments explain a name"),
        ("- id: A2", "- {id: A2", "the table is not YAML"),
    ],
)
def test_a_malformed_row_is_named(old, new, complaint):
    assert SMALL.count(old) == 1
    with pytest.raises(claims.ClaimsError) as error:
        claims.parse(SMALL.replace(old, new))
    assert str(error.value).startswith(complaint) and "\n" not in str(error.value)


def test_comments_explain_names():
    claim = claims.parse(SMALL)[0]
    assert claim.names == ["loss", "bigram_loss", "cost"]
    assert claim.meanings[-1] == ("cost", "what zero-ablation costs")


# --- clauses ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "hostile",
    [
        "__import__('os').system('true') == 0",
        "x.real > 0",
        "x[0] > 0",
        "print(x) < 1",
        "abs(x, key=y) < 1",
        "min(*x) < 1",
        "abs() < 1",
        "min < 1",
        "2 ** x < 1",
        "x // 2 < 1",
        "x is 1",
        "x in (1, 2)",
        "x != 1",
        "'a' < 'b'",
        "True == x",
        "1j == x",
        "(y := x) > 0",
        "(lambda: 1)() > 0",
        "[x for x in y] == 1",
        "x if y else z > 0",
        "x > 0 and y > 0",
        "not x > 0",
        "x",
        "x = 1",
        "x > ",
        "",
        "(" * 1000,
    ],
)
def test_a_clause_is_a_comparison_and_nothing_else(hostile):
    with pytest.raises(clauses.ClauseError):
        clauses.holds(hostile, {"x": 1, "y": 2, "z": 3})


@pytest.mark.parametrize(
    ("clause", "expected"),
    [
        ("x < y", True),
        ("x >= y", False),
        ("1 <= x < y <= 2", True),
        ("1 < x < y", False),
        ("(x + y) / 3 == 1", True),
        ("abs(-x - y) <= 3", True),
        ("min(x, y) * max(x, y, 5) == 5", True),
        ("x / (y - 2) < 1", False),
        ("x / (y - 2) > 1", False),
        ("unknown > 0", None),
        ("x > 0 * unknown", None),
    ],
)
def test_clauses_are_evaluated_as_written(clause, expected):
    assert clauses.holds(clause, {"x": 1, "y": 2}) is expected


def test_names_of_a_clause_come_in_order_and_without_functions():
    assert clauses.names("min(b, a) - abs(b) < c") == ["b", "a", "c"]


@pytest.mark.parametrize(
    ("measured", "outcome"),
    [
        ({"x": 1, "y": 1}, "replicated"),
        ({"x": 1, "y": -1}, "partly"),
        ({"x": 1}, "partly"),
        ({"x": -1, "y": -1}, "contradicted"),
        ({"x": -1}, "contradicted"),
        ({"tokens": 5}, "not attempted"),
        ({}, "not attempted"),
    ],
)
def test_the_outcome_rule(measured, outcome):
    assert clauses.decide(["x > 0", "y > 0"], measured) == outcome


@pytest.mark.parametrize(
    ("measured", "outcome"),
    [
        ({"seeds": 3, "x": 1, "y": 1}, "replicated"),
        ({"seeds": 2, "x": 1, "y": 1}, "partly"),
        ({"seeds": 3, "x": -1, "y": 1}, "partly"),
        ({"seeds": 3, "x": -1, "y": -1}, "contradicted"),
        ({"x": 1, "y": 1}, "partly"),
        ({"seeds": 3}, "contradicted"),
        ({}, "not attempted"),
    ],
)
def test_a_condition_of_measuring_well_shows_nothing_by_itself(measured, outcome):
    assert clauses.decide(["given seeds >= 3", "x > 0", "y > 0"], measured) == outcome


# --- collecting a run ---------------------------------------------------------------------------------------


def test_records_of_a_row_are_put_together():
    run = claims.combine(
        [
            record(where="a#one", time="3", cost=3, loss=1),
            record(where="a#zero", time="1", text="pocket", cost=9, bigram_loss=9),
            record(where="a#two", time="2", cost=2, bigram_loss=2),
        ]
    )
    assert run == claims.Run({"cost": 3, "bigram_loss": 2, "loss": 1}, "mini-pile", "quick", ["a#one", "a#two"])


@pytest.mark.parametrize(
    ("stray", "complaint"),
    [(record(id="A9", cost=1), "records A9, which is no row"), (record(price=1), "records price, which row A1")],
)
def test_records_that_the_table_does_not_know_are_named(stray, complaint):
    with pytest.raises(claims.ClaimsError, match=complaint):
        claims.group([stray], claims.parse(SMALL))


def recorded(folder, *records):
    folder.mkdir()
    for each in records:
        (folder / f"{each['id']}.json").write_text(json.dumps([each]))
    return folder


def test_collect_fills_a_row_and_leaves_all_else(tmp_path):
    table = tmp_path / "claims.yml"
    table.write_text(SMALL)
    folder = recorded(tmp_path / "claims", record(cost=1e-7, loss=2.5, bigram_loss=3))
    assert claims.collect(table, folder) == {"A1": "partly"}
    claim = claims.load(table)[0]
    assert claim.measured == {"loss": 2.5, "bigram_loss": 3, "cost": 1e-7}
    empty = "  measured: null\n  text: null\n  outcome: not attempted\n  where: null\n"
    full = (
        "  measured:\n    loss: 2.5\n    bigram_loss: 3\n    cost: 1.0e-07\n"
        "  text: mini-pile\n  outcome: partly\n  where:\n  - model/one_layer_model#fig-loss\n"
    )
    filled = SMALL.replace(empty, full)
    assert table.read_text() == filled
    assert claims.collect(table, folder) and table.read_text() == filled
    assert list(tmp_path.glob("*.part")) == []


def test_filling_the_committed_table_with_nothing_changes_nothing():
    assert claims.fill(TABLE, {}) == TABLE


@pytest.mark.parametrize(
    ("records", "complaint"),
    [
        ([], "no records in"),
        ([record(text="pocket", cost=1), record(id="A2", error=1)], "measured A1 on pocket"),
    ],
)
def test_collect_refuses_what_is_not_committed(tmp_path, records, complaint):
    table = tmp_path / "claims.yml"
    table.write_text(SMALL)
    with pytest.raises(claims.ClaimsError, match=complaint):
        claims.collect(table, recorded(tmp_path / "claims", *records))
    assert table.read_text() == SMALL


# --- what a chapter records ---------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SAE_CORE_CLAIMS", str(tmp_path / "records"))
    monkeypatch.delenv("SAE_CORE_MODE", raising=False)
    return tmp_path / "records"


PLACE = {"where": "dictionary/density#fig-l0", "text": "pocket"}


def test_claim_writes_a_record_that_the_table_can_read(folder, capsys):
    chapter.claim("A11", **PLACE, l0=np.float32(8.5), dense_features=np.int64(3))
    assert capsys.readouterr().out == "A11: l0 8.5, dense_features 3\n"
    (written,) = claims.read_records(folder)
    assert written["measured"] == {"l0": 8.5, "dense_features": 3}
    assert (written["mode"], written["text"], written["where"]) == ("quick", "pocket", PLACE["where"])
    assert {"time", "commit", "versions"} <= set(written) and written["versions"]["python"]
    assert claims.group([written], claims.load())["A11"].measured == {"l0": 8.5, "dense_features": 3}


def test_claims_of_one_row_add_up_and_the_last_value_counts(folder):
    chapter.claim("A11", **PLACE, l0=8, tokens=10)
    chapter.claim("A11", **PLACE, l0=9)
    chapter.claim("A11", where="dictionary/training#fig-l0", text="pocket", dense_features=1, tokens=20)
    assert [path.name for path in folder.iterdir()] == ["A11.json"]
    run = claims.combine(claims.read_records(folder))
    assert run.measured == {"l0": 9, "tokens": 20, "dense_features": 1}
    assert run.where == ["dictionary/density#fig-l0", "dictionary/training#fig-l0"]


def test_claims_on_different_texts_are_not_mixed(folder):
    chapter.claim("A11", **PLACE, l0=8, tokens=10)
    chapter.claim("A11", where=PLACE["where"], text="mini-pile", l0=9)
    assert claims.combine(claims.read_records(folder)).measured == {"l0": 9}


@pytest.mark.parametrize("value", [math.nan, math.inf, "8", None, True, np.ones(2), [8]])
def test_only_finite_numbers_are_recorded(folder, value):
    with pytest.raises(SaeCoreError, match="A11: l0") as error:
        chapter.claim("A11", **PLACE, tokens=5, l0=value)
    assert "\n" not in str(error.value) and not folder.exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": "a11"},
        {"id": "../A11"},
        {"where": "density"},
        {"where": "dictionary/density#"},
        {"where": "../density#fig l0"},
        {"text": ""},
    ],
)
def test_a_malformed_claim_is_refused(folder, wrong):
    with pytest.raises(SaeCoreError):
        chapter.claim(**{"id": "A11", **PLACE, "l0": 8, **wrong})
    with pytest.raises(SaeCoreError, match="nothing measured"):
        chapter.claim("A11", **PLACE)
    assert not folder.exists()


def test_an_interrupted_claim_leaves_the_earlier_record(folder, monkeypatch):
    chapter.claim("A11", **PLACE, l0=8)
    before = (folder / "A11.json").read_bytes()

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        chapter.claim("A11", **PLACE, l0=9)
    assert (folder / "A11.json").read_bytes() == before


def test_claims_go_to_the_checkout_or_else_to_the_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("SAE_CORE_CLAIMS", raising=False)
    monkeypatch.chdir(ROOT / "tests")
    assert chapter.claims_folder() == ROOT / "_build" / "claims"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(chapter, "__file__", str(tmp_path / "site-packages" / "sae_core" / "chapter.py"))
    monkeypatch.setenv("SAE_CORE_CACHE", str(tmp_path / "cache"))
    assert chapter.claims_folder() == tmp_path / "cache" / "claims"


def test_numbers_are_printed_where_no_book_is_built(capsys):
    chapter.number("recovered", 0.8371, ".1%")
    chapter.number("tokens", 1048576, ",")
    chapter.number("text", "pocket")
    assert capsys.readouterr().out == "recovered: 83.7%\ntokens: 1,048,576\ntext: pocket\n"


@pytest.mark.parametrize("arguments", [("x", math.nan), ("x", np.inf, ".1f"), ("x", 1.5, "d"), ("x", "a", ".1f")])
def test_a_number_that_cannot_be_written_is_refused(arguments):
    with pytest.raises(SaeCoreError, match="number 'x'"):
        chapter.number(*arguments)


def test_sizes_follow_the_mode(monkeypatch):
    monkeypatch.delenv("SAE_CORE_MODE", raising=False)
    assert chapter.quick() and chapter.size(quick=1, full=2) == 1
    monkeypatch.setenv("SAE_CORE_MODE", "full")
    assert not chapter.quick() and chapter.size(quick=1, full=2) == 2
    monkeypatch.setenv("SAE_CORE_MODE", "fast")
    with pytest.raises(SaeCoreError, match="SAE_CORE_MODE is 'fast'"):
        chapter.size(quick=1, full=2)


# --- the page -----------------------------------------------------------------------------------------------

CELL = """\
from sae_core import chapter
chapter.in_book = True
chapter.number("l0", 8.25, ".1f")
chapter.claim("A1", where="density#fig-l0", text="pocket", loss=2.5, bigram_loss=3, cost=0)
chapter.claim("A1", where="density#fig-l0", text="pocket", cost=0.5)
"""


@pytest.fixture(scope="module")
def glued(tmp_path_factory):
    """What myst-nb keeps of a page's glued outputs, from a notebook run in a real kernel as the book's."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    from myst_nb.ext.glue import extract_glue_data_cell

    records = tmp_path_factory.mktemp("kernel")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAE_CORE_CLAIMS", str(records))
        patch.delenv("SAE_CORE_MODE", raising=False)
        nbclient.NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": ROOT}}).execute()
    cell = notebook.cells[0]
    glued = dict(extract_glue_data_cell(cell))
    assert cell.outputs == []  # nothing is left on the page
    assert [each["measured"] for each in claims.read_records(records)] == [{"loss": 2.5, "bigram_loss": 3, "cost": 0.5}]
    return glued


@pytest.fixture
def build(tmp_path, monkeypatch, glued):
    """Builds a book of one chapter and the claims page with Sphinx; returns the page's HTML and the warnings."""
    application = pytest.importorskip("sphinx.application")
    monkeypatch.setenv("SAE_CORE_CLAIMS", str(tmp_path / "records"))

    def build(table):
        source = tmp_path / "source"
        (source / "book").mkdir(parents=True)
        (source / "index.rst").write_text("Book\n====\n\n.. toctree::\n\n   book/density\n   book/claims\n")
        (source / "book" / "density.rst").write_text("Density & <i>\n=============\n\n.. _fig-l0:\n\nFigure\n------\n")
        (source / "book" / "claims.rst").write_text(
            "Claims\n======\n\n.. claims-summary::\n\n.. claims-table:: A\n\n:ref:`row <claim-a2>`\n"
        )
        monkeypatch.setattr(claims, "TABLE", tmp_path / "claims.yml")
        monkeypatch.setattr(claims.load, "__defaults__", (tmp_path / "claims.yml",))
        claims.TABLE.write_text(table)
        output = tmp_path / "output"
        (output / "book").mkdir(parents=True)
        (output / "book" / "density.glue.json").write_text(json.dumps(glued))
        warnings = (tmp_path / "warnings").open("w+")

        def as_myst_nb_does(app, env):
            env.nb_metadata = {"book/density": {"glue": list(glued)}}
            env.mystnb_config = SimpleNamespace(output_folder=str(output))

        app = application.Sphinx(
            source, None, tmp_path / "html", tmp_path / "doctrees", "html",
            confoverrides={"extensions": ["claims_page"]}, status=None, warning=warnings,
        )  # fmt: skip
        app.connect("env-updated", as_myst_nb_does, priority=1)
        app.build()
        warnings.seek(0)
        return (tmp_path / "html" / "book" / "claims.html").read_text(), warnings.read()

    return build


def row(html, id):
    return re.search(rf'<tr id="claim-{id.lower()}".*?</tr>', html, re.DOTALL)[0]


def test_the_page_shows_committed_numbers_and_those_of_this_build(build, tmp_path):
    table = SMALL.replace("dictionary/training#fig-loss", "density#fig-l0")
    html, warnings = build(table.replace("Exact.", "<script>alert(1)</script>"))
    assert warnings == ""
    this_build = row(html, "A1")
    assert "This build, on pocket" in this_build and "not attempted" not in this_build
    assert re.search(r"replicated</span></span><small>in this build", this_build)
    assert 'href="density.html#fig-l0">Density &amp; &lt;i&gt;</a>' in this_build
    committed = row(html, "A2")
    assert "Measured on mini-pile" in committed and "This build" not in committed and "1e−06" in committed
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in committed and "<script>alert" not in html
    assert '<a class="reference internal" href="#claim-a2">' in html  # {ref}`row <claim-a2>`
    assert [each["id"] for each in claims.read_records(tmp_path / "records")] == ["A1", "A1"]


def test_the_page_warns_of_places_and_records_that_do_not_exist(build):
    html, warnings = build(SMALL.replace("- id: A1", "- id: A3"))
    assert "book has no page and label dictionary/training#fig-loss" in warnings
    assert "density#fig-l0 records A1, which is no row" in warnings


def test_the_page_warns_of_a_broken_table(build):
    html, warnings = build(SMALL.replace("outcome: replicated", "outcome: partly"))
    assert "row A2: outcome is 'partly', its numbers say 'replicated'" in warnings
