"""The book's own tools: the reader of chapters, the renderer of figures, the equations."""

import json
import os
import shutil
from pathlib import Path

import equations
import figures
import plotly.graph_objects as go
import pytest
import reader
from docutils import nodes

from sae_core import chapter

CHAPTER = """\
# %% [markdown]
# # A chapter

# %%
#| label: fig-one
#| caption: How often {glue:text}`name`
#|   fires.
figure
"""


def test_reader_makes_a_figure_of_a_labelled_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "state", lambda: "a state")
    first, _, cell, last = reader.reads(CHAPTER).cells
    assert "show_in_book" in first.source and first.metadata.tags == ["remove-cell", "book-only"]
    assert "chapter.provenance()" in last.source and last.metadata.tags == ["remove-cell", "book-only"]
    assert cell.source == "figure"
    caption = "How often {glue:text}`name` fires.\n\n{glue:text}`provenance`"
    assert cell.metadata.mystnb == {"figure": {"name": "fig-one", "caption": caption}}


def test_reader_refuses_an_unknown_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "state", lambda: "a state")
    with pytest.raises(ValueError, match="labl"):
        reader.reads(CHAPTER.replace("label", "labl"))


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch):
    """What a chapter says at its end about where its figures come from, given the numbers that it gave before."""

    def said(capsys: pytest.CaptureFixture, **numbers: str) -> str:
        monkeypatch.setattr(chapter, "_numbers", {})
        monkeypatch.setattr(chapter, "_commit", lambda: "0123456789ab")
        monkeypatch.setattr(chapter, "processor", lambda: "A Processor")
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
        for name, value in numbers.items():
            chapter.number(name, value)
        capsys.readouterr()
        chapter.provenance()
        return capsys.readouterr().out

    return said


def test_captions_end_with_text_mode_commit_and_hardware(said, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    where = "commit 0123456789ab · 2 × A Processor"
    monkeypatch.delenv("SAE_CORE_MODE", raising=False)
    assert said(capsys, text="mini-pile") == f"provenance: mini-pile text · quick mode · {where}\n"
    monkeypatch.setenv("SAE_CORE_MODE", "full")
    assert said(capsys) == f"provenance: no text · full mode · {where}\n"
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "A GPU")
    assert said(capsys).endswith("2 × A Processor, A GPU\n")


def test_a_chapter_may_say_itself_where_its_figures_come_from(said, capsys) -> None:
    assert said(capsys, text="mini-pile", provenance="read from a file") == ""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what the state of a chapter is computed from, with a text of its own."""
    text = tmp_path / "text"
    text.mkdir()
    (text / "one.txt").write_text("One line.\n")
    (tmp_path / "sae_core" / "pretrained").mkdir(parents=True)
    (tmp_path / "sae_core" / "metrics.py").write_text("x = 1\n")
    (tmp_path / "sae_core" / "pretrained" / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "constraints.txt").write_text("numpy==2.0\n")
    shutil.copytree(reader.ROOT / "book" / "_tools", tmp_path / "book" / "_tools")
    monkeypatch.setattr(reader, "ROOT", tmp_path)
    monkeypatch.setenv("SAE_CORE_CORPUS", str(text))
    monkeypatch.setenv("SAE_CORE_MODE", "quick")
    (tmp_path / "own" / "A").mkdir(parents=True)
    (tmp_path / "own" / "A" / "model.safetensors").write_bytes(b"own weights")
    return tmp_path


@pytest.mark.parametrize(
    "change",
    [
        lambda tree, env: (tree / "sae_core" / "metrics.py").write_text("x = 2\n"),
        lambda tree, env: (tree / "sae_core" / "pretrained" / "model.safetensors").write_bytes(b"others!"),
        lambda tree, env: (tree / "constraints.txt").write_text("numpy==2.1\n"),
        lambda tree, env: (tree / "text" / "one.txt").write_text("Another line.\n"),
        lambda tree, env: env.setenv("SAE_CORE_MODE", "full"),
        lambda tree, env: env.setenv("SAE_CORE_HOME", str(tree / "own")),
    ],
    ids=["package", "weights", "versions", "text", "mode", "own weights"],
)
def test_chapters_are_stale_when_what_they_use_changes(tree: Path, monkeypatch, change) -> None:
    compute = reader.state.__wrapped__
    before = compute()
    assert compute() == before
    change(tree, monkeypatch)
    assert compute() != before


def test_only_chapters_that_read_the_claims_are_stale_with_them(tree: Path, monkeypatch) -> None:
    monkeypatch.setattr(reader, "state", lambda: "a state")
    reads_them = CHAPTER + 'open("claims.yml")\n'

    def states() -> list[str]:
        return [reader.reads(text).metadata.kernelspec["state"] for text in (CHAPTER, reads_them)]

    (tree / "claims.yml").write_text("[]\n")
    other, before = states()
    (tree / "claims.yml").write_text("- id: A1\n")
    assert states()[0] == other and states()[1] != before


def test_figure_without_words_is_refused() -> None:
    with pytest.raises(ValueError, match="text alternative"):
        figures.BookRenderer().to_mimebundle(go.Figure().to_dict())


def test_text_in_a_figure_stays_text() -> None:
    hostile = '</script><script>alert("1")</script>'
    figure = go.Figure(go.Bar(x=[hostile], y=[1]), layout={"meta": {"alt": f"Bar of {hostile}"}})
    html = figures.BookRenderer().to_mimebundle(figure.to_dict())["text/html"]
    assert html.count("<script") == 1 and html.count("</script>") == 1
    data = html.split('<script type="application/json">')[1].split("</script>")[0]
    assert json.loads(data)["data"][0]["x"] == [hostile]


def test_equation_becomes_mathml() -> None:
    made = equations.mathml(nodes.math_block("", r"\lVert \mathbf{x} \rVert_2^2"), block=True)
    assert made.startswith('<math display="block">') and "<msubsup>" in made


def test_equation_that_is_not_understood_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(equations.logger, "warning", lambda message, *args, **_: warnings.append(message % args))
    equations.mathml(nodes.math("", r"\nosuchcommand x"), block=False)
    assert len(warnings) == 1 and "nosuchcommand" in warnings[0]
