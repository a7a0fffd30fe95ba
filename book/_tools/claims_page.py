"""The page that shows the claims table: two directives that are filled in after every chapter has been read.

    ```{claims-summary}
    ```
    ```{claims-table} A
    ```

The first counts outcomes, the second shows the rows of one source, by the letter of their ids. Next to the committed
numbers of claims.yml stand those of this build, where they come from another text or say something else. They travel
with the chapters' outputs (`sae_core.chapter.claim`), so they are those of the pages on display even if a page came
from the cache; they are also written back to the folder from which `claims.py collect` takes them.
"""

from __future__ import annotations

import ast
import json
from collections import Counter
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

import claims
import clauses
from claims import Claim, Run
from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

PAGE = "book/claims"
SOURCES = {
    "A": "Towards Monosemanticity",
    "T": "Toy Models of Superposition",
    "O": "OpenMOSS",
    "R": "Gurnee and Riggs",
    "M": "Mendel",
}
MARKS = {"replicated": "●", "partly": "◐", "contradicted": "✕", "not attempted": "○"}
CLAUSE_MARKS = {True: ("✓", "holds"), False: ("✗", "does not hold"), None: ("·", "not measured")}

logger = logging.getLogger(__name__)


class ClaimsNode(nodes.General, nodes.Element):
    """Stands for the summary, or for the rows whose ids begin with `source`, until everything has been read."""


class ClaimsSummary(Directive):
    def run(self) -> list[nodes.Node]:
        return [ClaimsNode(source="")]


class ClaimsTable(Directive):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        env: BuildEnvironment = self.state.document.settings.env
        env.note_dependency(str(claims.TABLE))
        for claim in _rows(env.app.claims, self.arguments[0]):  # {ref}`A12 <claim-a12>` works from any page
            env.get_domain("std").note_hyperlink_target(_anchor(claim), env.docname, _anchor(claim), claim.id)
        return [ClaimsNode(source=self.arguments[0])]


# --- collecting -----------------------------------------------------------------------------------------------


def _load_table(app: Sphinx) -> None:
    app.claims, app.claim_runs = [], {}
    try:
        app.claims = claims.load()
    except claims.ClaimsError as error:
        logger.warning("claims.yml: %s", error, type="claims")


def _collect_runs(app: Sphinx, env: BuildEnvironment) -> list[str]:
    records = [record for docname in sorted(env.all_docs) for record in _glued_records(env, docname)]
    try:
        app.claim_runs = claims.group(records, app.claims)
    except claims.ClaimsError as error:
        logger.warning("%s", error, type="claims")
    _write_records(app.claims, records)
    return [PAGE] if PAGE in env.all_docs else []  # written again in every build; nothing in it is executed


def _glued_records(env: BuildEnvironment, docname: str) -> list[dict[str, Any]]:
    keys = getattr(env, "nb_metadata", {}).get(docname, {}).get("glue", [])
    claimed = [key for key in keys if key.startswith("claim:")]
    if not claimed:
        return []
    glued = json.loads(Path(env.mystnb_config.output_folder, f"{docname}.glue.json").read_bytes())
    return [json.loads(ast.literal_eval(glued[key]["data"]["text/plain"])) for key in claimed]


def _write_records(rows: list[Claim], records: list[dict[str, Any]]) -> None:
    from sae_core.chapter import claims_folder

    folder = claims_folder()
    folder.mkdir(parents=True, exist_ok=True)
    for claim in rows:
        (folder / f"{claim.id}.json").unlink(missing_ok=True)
    for id, several in groupby(sorted(records, key=lambda record: record["id"]), lambda record: record["id"]):
        (folder / f"{id}.json").write_text(json.dumps(list(several), indent=1) + "\n", encoding="utf-8")


# --- drawing --------------------------------------------------------------------------------------------------


def _fill_in(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    for node in list(doctree.findall(ClaimsNode)):
        source = node["source"]
        html = _table(app, docname, _rows(app.claims, source)) if source else _summary(app)
        node.replace_self(nodes.raw("", html, format="html"))


def _rows(rows: list[Claim], source: str) -> list[Claim]:
    return [claim for claim in rows if claim.id.startswith(source)]


def _anchor(claim: Claim) -> str:
    return f"claim-{claim.id.lower()}"


def _shown_run(claim: Claim, runs: dict[str, Run]) -> Run | None:
    """This build's run of a row, where it says something that the committed one does not."""
    run = runs.get(claim.id)
    if run and claim.text == run.text and claim.outcome == clauses.decide(claim.bar, run.measured):
        return None
    return run


def _summary(app: Sphinx) -> str:
    head = "".join(f'<th scope="col">{_outcome(outcome)}</th>' for outcome in claims.OUTCOMES)
    body = ""
    for letter, title in (*SOURCES.items(), ("", "All")):
        count = Counter(claim.outcome for claim in _rows(app.claims, letter))
        cells = "".join(f"<td>{count[outcome]}</td>" for outcome in claims.OUTCOMES)
        body += f'<tr><th scope="row">{title}</th>{cells}</tr>'
    runs = app.claim_runs.values()
    of = sorted({f"{escape(run.text)} ({run.mode} mode)" for run in runs})
    build = f"This build recorded numbers for {len(runs)} rows, on {', '.join(of)}." if runs else ""
    return (
        f'<table class="claims-summary"><caption>Rows by outcome, as committed. {build}</caption>'
        f'<thead><tr><th scope="col">Source</th>{head}</tr></thead><tbody>{body}</tbody></table>'
        '<fieldset class="claims-show"><legend>Show</legend>'
        '<label><input type="radio" name="claims" checked> all rows</label>'
        '<label><input type="radio" name="claims" id="claims-measured"> measured rows only</label></fieldset>'
    )


def _table(app: Sphinx, docname: str, rows: list[Claim]) -> str:
    head = "".join(f'<th scope="col">{title}</th>' for title in ("Row", "Claim and source", "Bar", "Outcome"))
    body = "".join(_row(app, docname, claim) for claim in rows)
    return f'<table class="claims"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _row(app: Sphinx, docname: str, claim: Claim) -> str:
    run = _shown_run(claim, app.claim_runs)
    bar = outcome = ""
    if claim.measured or not run:
        bar += _measured(claim, claim.measured or {}, f"Measured on {claim.text}" if claim.text else "")
        outcome += _outcome(claim.outcome) + _places(app, docname, claim, claim.where or [])
    if run:
        bar += _measured(claim, run.measured, f"This build, on {run.text}")
        outcome += f'<div class="claims-build">{_outcome(clauses.decide(claim.bar, run.measured))}'
        outcome += f"<small>in this build</small>{_places(app, docname, claim, run.where)}</div>"
    meanings = "".join(
        f"<dt><code>{_breakable(written.replace(',', ', '))}</code></dt><dd>{escape(meaning)}</dd>"
        for written, meaning in claim.meanings
    )
    return (
        f'<tr id="{_anchor(claim)}" data-measured="{"yes" if claim.measured or run else "no"}">'
        f'<th scope="row"><a href="#{_anchor(claim)}">{claim.id}</a></th>'
        f"<td>{escape(claim.claim)}"
        f'<div class="claims-source"><small>{escape(claim.source)}</small>{escape(claim.source_value)}</div>'
        f"<details><summary>What is measured</summary><dl>{meanings}</dl></details></td>"
        f"<td>{bar}</td><td>{outcome}</td></tr>"
    )


def _measured(claim: Claim, measured: dict[str, float], title: str) -> str:
    """A bar's clauses with marks, and below them the numbers."""
    items = ""
    for clause in claim.bar:
        mark, meaning = CLAUSE_MARKS[clauses.holds(clause, measured)]
        items += f'<li><span role="img" aria-label="{meaning}">{mark}</span> <code>{_clause(clause)}</code></li>'
    if not measured:
        return f'<ul class="claims-bar">{items}</ul>'
    numbers = "".join(f"<li><code>{_breakable(name)}</code> {_number(measured[name])}</li>" for name in measured)
    return (
        f'<div class="claims-run"><small>{escape(title)}</small>'
        f'<ul class="claims-bar">{items}</ul><ul class="claims-numbers">{numbers}</ul></div>'
    )


def _outcome(outcome: str) -> str:
    kind = outcome.replace(" ", "-")
    mark = f'<span aria-hidden="true">{MARKS[outcome]}</span>'
    return f'<span class="claims-outcome {kind}">{mark} <span>{outcome}</span></span>'


def _places(app: Sphinx, docname: str, claim: Claim, places: list[str]) -> str:
    """Links to the pages and figures, by title and number; a warning for one that the book does not have."""
    links = []
    for place in places:
        page, label = place.split("#")
        target = f"book/{page}"
        at, anchor = app.env.get_domain("std").anonlabels.get(label.lower(), ("", ""))
        if at != target:
            logger.warning("row %s: the book has no page and label %s", claim.id, place, type="claims")
            continue
        title = app.env.titles[target].astext()
        figure = app.env.toc_fignumbers.get(target, {}).get("figure", {}).get(anchor)
        text = f"{title}, figure {'.'.join(map(str, figure))}" if figure else title
        uri = app.builder.get_relative_uri(docname, target)
        links.append(f'<li><a href="{escape(uri)}#{escape(anchor)}">{escape(text)}</a></li>')
    return f'<ul class="claims-places">{"".join(links)}</ul>' if links else ""


def _clause(clause: str) -> str:
    for written, sign in ((">=", "≥"), ("<=", "≤"), ("==", "="), (" - ", " − "), (" * ", " × ")):
        clause = clause.replace(written, sign)
    return _breakable(clause)


def _breakable(names: str) -> str:
    """Escaped, and free to break after an underscore."""
    return escape(names).replace("_", "_<wbr>")


def _number(value: float) -> str:
    written = f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
    return written.replace("-", "−")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_node(ClaimsNode)
    app.add_directive("claims-summary", ClaimsSummary)
    app.add_directive("claims-table", ClaimsTable)
    app.add_css_file("claims.css")
    app.connect("builder-inited", _load_table)
    app.connect("env-updated", _collect_runs)
    app.connect("doctree-resolved", _fill_in)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
