"""Puts the scripts of exercises and of "commit to an answer" boxes on the pages that have such, and nowhere else.

The front page shows how far the reader is in each chapter. A page that was opened from disk cannot look into another,
so the labels of all exercises are handed to it.
"""

from __future__ import annotations

import json
import re

import exercises
import jupytext
from reader import ROOT
from sphinx.application import Sphinx


def labels_of_chapters(app: Sphinx) -> dict[str, list[str]]:
    """{address of a chapter, as the front page links to it: labels of its exercises}, of those that have any."""
    front = app.config.root_doc
    found = {}
    for name, (source, _) in exercises.chapters(ROOT).items():
        labels = [exercise.label for exercise in exercises.read(jupytext.reads(source, fmt="py:percent"))[0]]
        if labels and f"book/{name}" in app.env.found_docs:
            found[app.builder.get_relative_uri(front, f"book/{name}")] = labels
    return found


def add_scripts(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    body = context.get("body", "")
    is_front = page == app.config.root_doc
    if is_front:
        labels = json.dumps(labels_of_chapters(app))
        context["body"] = f'{body}<script type="application/json" id="exercises-of-chapters">{labels}</script>'
    has_exercises, has_boxes = (
        re.search(rf'class="[^"]*\b{name}\b[^"]*\badmonition"', body) for name in ("exercise", "commit")
    )
    if is_front or has_exercises:
        app.add_js_file("exercises.js", loading_method="defer")
    if has_boxes:
        app.add_js_file("commit.js", loading_method="defer")
    if is_front or has_exercises or has_boxes:
        app.add_css_file("exercises.css")


def setup(app: Sphinx) -> dict:
    app.connect("html-page-context", add_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
