"""Shows plotly figures in the book: no kernel, no other host, light and dark, and never without a text alternative.

In a chapter's kernel, `show_in_book` makes a figure's output a block of HTML: the figure as JSON, and its text
alternative. In the page, book/_static/figures.js draws it with plotly.js, which is copied once per site from the
installed package. A chapter gives the alternative as

    figure.update_layout(meta={"alt": "Histogram of ..."})

and a figure without one fails the build.
"""

from __future__ import annotations

import html
from pathlib import Path

import plotly
import plotly.graph_objects as go
import plotly.io as pio
from plotly.basedatatypes import BaseFigure

COLORSCALE = "Viridis"
HEIGHT = 420


def _template() -> go.layout.Template:
    from sae_core.plots import PALETTE

    axis = {"zeroline": False, "ticks": "outside", "ticklen": 4, "automargin": True, "title": {"standoff": 8}}
    colorbar = {"thickness": 12, "outlinewidth": 0, "title": {"side": "right"}}
    return go.layout.Template(
        layout={
            "colorway": PALETTE,
            "coloraxis": {"colorscale": COLORSCALE, "colorbar": colorbar},
            "font": {"family": "system-ui, sans-serif", "size": 14},
            "title": {
                "x": 0, "xref": "paper", "xanchor": "left", "y": 1, "yref": "container", "yanchor": "top",
                "pad": {"t": 8, "b": 12}, "automargin": True, "font": {"size": 16},
            },
            "margin": {"l": 8, "r": 20, "t": 28, "b": 8},  # right: half of an axis' last label
            "xaxis": axis,
            "yaxis": axis,
            "legend": {"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom"},
        },
        data={name: [{"colorscale": COLORSCALE, "colorbar": colorbar}] for name in ("heatmap", "histogram2d")},
    )


class BookRenderer(pio.base_renderers.MimetypeRenderer):
    """A figure as HTML that book/_static/figures.js draws. Raises ValueError where there is no text alternative."""

    def to_mimebundle(self, figure: dict) -> dict[str, str]:
        alt = (figure.get("layout", {}).get("meta") or {}).get("alt", "").strip()
        if not alt:
            raise ValueError('a figure needs a text alternative: figure.update_layout(meta={"alt": "..."})')
        height = figure["layout"].get("height", HEIGHT)
        # "<" only ever stands in JSON's strings; escaped, no text in a figure can end the script element
        data = pio.to_json(figure, validate=False).replace("<", "\\u003c")
        text = html.escape(alt)
        return {
            "text/html": f'<div class="book-figure" role="group" aria-label="{text}">'
            f'<div class="book-figure-plot" style="height: {height}px"></div>'
            f'<script type="application/json">{data}</script>'
            f"<details><summary>Figure in words</summary><p>{text}</p></details></div>",
            "text/plain": alt,
        }


def show_in_book() -> None:
    """Show figures this way in the running kernel, and put numbers into the prose instead of printing them."""
    from sae_core import chapter

    chapter.in_book = True
    pio.templates["book"] = _template()
    pio.templates.default = "book"
    pio.renderers["book"] = BookRenderer()
    pio.renderers.default = "book"
    # Without this method IPython asks for the MIME bundle itself, so that a figure can also be glued.
    del BaseFigure._ipython_display_


def setup(app) -> dict:
    def add_static_files(app, config) -> None:
        config.html_static_path.append(str(Path(plotly.__file__).parent / "package_data" / "plotly.min.js"))

    def add_scripts(app, pagename, templatename, context, doctree) -> None:
        if 'class="book-figure"' in context.get("body", ""):
            app.add_js_file("plotly.min.js", loading_method="defer")
            app.add_js_file("figures.js", loading_method="defer")

    app.connect("config-inited", add_static_files)
    app.connect("html-page-context", add_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
