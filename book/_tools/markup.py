"""Mends what the theme and Sphinx write into every page.

- Font Awesome's script, 1.5 MB, is left out: the theme's icons are drawn by the font that its stylesheet names. So are
  the early loads of that font, which browsers refuse for a page opened from disk.
- An entry of the bibliography is an item of its list; its old role is one that screen readers no longer know.
"""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

ICONS = re.compile(r'<(?:script|link rel="preload")[^>]*fontawesome[^>]*>(?:</script>)?')


def mended(page: str) -> str:
    return ICONS.sub("", page).replace('role="doc-biblioentry"', 'role="listitem"')


def mend_pages(app: Sphinx, exception: Exception | None) -> None:
    if exception or app.builder.format != "html":
        return
    for path in Path(app.outdir).rglob("*.html"):
        page = path.read_text(encoding="utf-8")
        if page != mended(page):
            path.write_text(mended(page), encoding="utf-8")


def setup(app: Sphinx) -> dict:
    app.connect("build-finished", mend_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
