"""Equations as MathML, made from their TeX while the book is built.

The browser draws them without a script, in the colour of the text, and a screen reader reads them. TeX that is not
understood is a warning, which fails the build. The font comes from an installed package (ziamath), is cut down to what
mathematics needs, and is used by browsers whose system has no font for it.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from docutils import nodes
from fontTools import subset
from math_core import LatexError, LatexToMathML
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

FONT = "STIXTwoMath.woff2"
# Latin, Greek, punctuation, super- and subscripts, letterlike, arrows, operators, technical and geometric signs,
# brackets, mathematical alphabets.
CHARACTERS = "20-17F,2B0-36F,370-3FF,2000-20FF,2100-23FF,25A0-25FF,27C0-27FF,2900-2AFF,1D400-1D7FF"

logger = logging.getLogger(__name__)
converter = LatexToMathML(fancy_error=False)


def mathml(node: nodes.Node, *, block: bool) -> str:
    """The equation of a docutils node as a <math> element."""
    try:
        return converter.convert_with_local_state(node.astext(), displaystyle=block)
    except LatexError as error:
        logger.warning("equation: %s in %s", error, node.astext(), location=node)
        return ""


def visit_inline(self, node: nodes.math) -> None:
    self.body.append(f'<span class="math notranslate nohighlight">{mathml(node, block=False)}</span>')
    raise nodes.SkipNode


def visit_block(self, node: nodes.math_block) -> None:
    # tabindex: an equation wider than the page scrolls, and the keyboard must be able to scroll it
    self.body.append(self.starttag(node, "div", CLASS="math notranslate nohighlight"))
    self.body.append(f'<div class="equation" tabindex="0">{mathml(node, block=True)}</div>')
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append("</div>\n")
    raise nodes.SkipNode


def make_font(app: Sphinx) -> None:
    """Put the font beside the stylesheet that names it."""
    target = Path(app.outdir) / "_static" / FONT
    if app.builder.format != "html" or target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    source = files("ziamath") / "fonts" / "STIXTwoMath-Regular.ttf"
    subset.main([str(source), f"--unicodes={CHARACTERS}", "--flavor=woff2", f"--output-file={target}",
                 "--layout-features=ssty,dtls,flac", "--no-hinting"])


def setup(app: Sphinx) -> dict:
    app.add_html_math_renderer("mathml", inline_renderers=(visit_inline, None), block_renderers=(visit_block, None))
    app.connect("builder-inited", make_font)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
