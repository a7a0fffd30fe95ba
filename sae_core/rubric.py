"""A blind score by people: a page on which features and neurons stand mixed, and the paper's rubric to score them by.

The rater sees, for each unit, random examples from one interval of its activation and the tokens that it promotes, but
not what it is. `widget` and `document` make the page, which needs no kernel and no network; `rate` shows the same in a
notebook. What they save goes into `summary` (paper, "Manual Interpretability").
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .errors import SaeCoreError
from .evidence import Evidence
from .interpretability import quantise
from .plots import escape, visible

if TYPE_CHECKING:
    from ipywidgets import Widget


class Criterion(NamedTuple):
    """A question of the rubric; the answer is 0 ... largest points."""

    name: str
    largest: int
    question: str
    low: str  # what no points stand for
    high: str  # what the largest number stands for


# The paper's five, in words of our own.
CRITERIA = (
    Criterion("confidence", 3, "How sure are you that you can say what it responds to?", "no idea", "certain"),
    Criterion("consistency", 5, "How well do the activations fit that?", "not at all", "all of them"),
    Criterion("logits", 3, "How well do the tokens that it makes likely fit that?", "not at all", "all of them"),
    Criterion("separation", 1, "What does not fit: is it clearly something else of its own?", "no", "yes"),
    Criterion("specificity", 3, "How narrow is what you say?", "almost anything", "one thing"),
)
MOST = 14  # points: separation counts only where consistency is not perfect
SHOWN = 8  # tokens that are promoted, and suppressed, most
# For somebody who gets the page alone.
INSTRUCTIONS = (
    "Each unit is a part of a small language model, which reads text token by token. You see pieces of text, coloured "
    "where the unit is active, and the tokens that it makes likely next. Say what it responds to, and score how well "
    "that fits. If you have no idea, the first answer is 0, and you go on. ⏎ is a line break, and \\xd8 a piece of a "
    "character. Your scores stay in this browser until you save them: at the end press Finish, save, and send the file."
)


class Unit(NamedTuple):
    """A feature or a neuron to be scored."""

    name: str  # "A/1/3450" or "A/neurons/83": hidden until the end
    kind: str  # "feature" or "neuron": hidden, too
    evidence: Evidence
    index: int  # in the evidence
    logits: np.ndarray  # [vocab], its direct effect on the logits


def draw(
    units: Sequence[Unit],
    pieces: Sequence[bytes],
    intervals: int = 11,
    examples: int = 5,
    window: int = 8,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """What to score, in random order: for each unit one of the intervals of its activation that is not empty.

    pieces: the bytes of each token of the vocabulary. intervals: of equal width between 0 and the maximum (paper: 11).
    window: tokens on either side of an example's. The items are plain JSON.
    Raises SaeCoreError where there is no unit, or one that never fired.
    """
    if not units:
        raise SaeCoreError("no units to score; give some features and some neurons")
    rng = np.random.default_rng(seed)
    items = []
    for unit in (units[i] for i in rng.permutation(len(units))):
        sampled = unit.evidence.interval_examples(unit.index, intervals, examples, window, seed)
        filled = [interval for interval in range(intervals) if sampled[interval]]
        if not filled:
            raise SaeCoreError(f"{unit.name} never fires on this text: there is nothing to score")
        interval = int(rng.choice(filled))
        largest = float(unit.evidence.of(unit.index)[1].max())
        order = np.argsort(unit.logits, kind="stable")
        shown = [(example, *_whole([pieces[t] for t in example.tokens])) for example in sampled[interval]]
        items.append(
            {
                "name": unit.name,
                "kind": unit.kind,
                "interval": interval,
                "heading": f"Activation of the underlined token: {interval / intervals:.0%} to "
                f"{(interval + 1) / intervals:.0%} of the maximum. The stronger the colour, the more active.",
                "examples": [
                    {
                        "tokens": [visible(part) for part in parts],
                        "levels": "".join(map(str, quantise(np.maximum.reduceat(example.activations, first), largest))),
                        "center": int(np.searchsorted(first, example.center, "right")) - 1,
                    }
                    for example, parts, first in shown
                ],
                "promoted": [visible(pieces[token]) for token in order[::-1][:SHOWN]],
                "suppressed": [visible(pieces[token]) for token in order[:SHOWN]],
            }
        )
    return items


def _whole(tokens: list[bytes]) -> tuple[list[bytes], list[int]]:
    """Tokens, joined where a boundary cuts a character in two, and the index of the first token of each."""
    joined = b"".join(tokens)
    inside = set()  # of a character: the places that are not its beginning
    place = 0
    while place < len(joined):
        lead = joined[place]
        length = 1 + (lead >= 0xC0) + (lead >= 0xE0) + (lead >= 0xF0)
        try:
            joined[place : place + length].decode()
        except UnicodeDecodeError:
            length = 1  # the rest of it is not in the window
        inside.update(range(place + 1, place + length))
        place += length
    ends = np.cumsum([len(token) for token in tokens])
    first = [0, *(index for index, end in enumerate(ends[:-1].tolist(), 1) if end not in inside)]
    return [b"".join(tokens[a:b]) for a, b in zip(first, [*first[1:], None], strict=True)], first


def widget(items: Sequence[Mapping[str, Any]]) -> str:
    """The scoring page as a block of HTML, for a cell's output: `IPython.display.HTML(widget(items))`.

    It carries its own script and style, in the book's colours where it stands in the book. The browser keeps the scores
    by the items' digest, so that other items begin anew.
    """
    data = {"id": digest(items), "criteria": [criterion._asdict() for criterion in CRITERIA], "items": list(items)}
    # "<" only ever stands in JSON's strings; escaped, no text of a data set can end the script element
    encoded = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return (
        f'<div class="rubric" data-most="{MOST}"><noscript>This scoring page needs scripts.</noscript>'
        f'<script type="application/json">{encoded}</script></div>'
        f"<style>{_resource('rubric.css')}</style><script>{_resource('rubric.js')}</script>"
    )


def document(items: Sequence[Mapping[str, Any]], title: str = "Which of these can you explain?") -> str:
    """The scoring page as a whole HTML file with instructions, to send to somebody.

    Path("score.html").write_text(document(items), encoding="utf-8") makes it.
    """
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>:root {{ color-scheme: light dark }} body {{ margin: 1rem auto; "
        "max-width: 44rem; padding: 0 0.8rem; background: Canvas; color: CanvasText; font: 0.95rem/1.5 system-ui }"
        "</style></head>"
        f'<body><main><h1 style="font-size: 1.3rem">{escape(title)}</h1><p>{escape(INSTRUCTIONS)}</p>{widget(items)}'
        "</main></body></html>\n"
    )


def rate(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Show the scoring page in a notebook, with ipywidgets, and return the dictionary that fills with the scores.

    Once it is finished, which the last button does, it is what `summary` takes and what the page in HTML saves.
    """
    from IPython.display import display

    state = {"items": digest(items), "finished": False, "ratings": [{} for _ in items]}
    display(_notebook(items, state))
    return state


def points(rating: Mapping[str, Any]) -> int | None:
    """The points of one rating, 0 ... 14; None where a score is missing.

    Without any confidence in an explanation there is nothing that could fit it: the other questions are not asked and
    count 0. Separation is asked only where consistency is not perfect.
    Raises SaeCoreError for a score that the rubric does not have.
    """
    total = 0
    for name in _asked(rating):
        value = rating.get(name)
        if value is None:
            return None
        if type(value) is not int or not 0 <= value <= _LARGEST[name]:
            raise SaeCoreError(f"{name} is {value!r}; the rubric has 0 to {_LARGEST[name]}")
        total += value
    return total


def summary(*saved: str | bytes | Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Median points by kind, {"feature": {"median", "ratings", "units"}, ...}, of what one or more raters saved.

    saved: the JSON that the page saves, or the dictionary of `rate`. Units that were not scored are left out; a unit
    that several raters scored counts once in `units` and several times in `ratings` and in the median.
    Raises SaeCoreError for something else, and before the scores are final: until then nobody knows what is what.
    """
    found: dict[str, list[tuple[str, int]]] = {}
    for one in saved:
        try:
            state = json.loads(one) if isinstance(one, (str, bytes)) else one
            finished = state["finished"] is True
            ratings = [(rating, rating["kind"], rating["name"]) for rating in state["ratings"]] if finished else []
        except (ValueError, KeyError, TypeError, AttributeError):
            raise SaeCoreError("these are no scores; give what the scoring page has saved") from None
        if not finished:
            raise SaeCoreError("the scores are not final; press Finish on the scoring page, and save again")
        for rating, kind, name in ratings:
            own = found.setdefault(str(kind), [])
            if (total := points(rating)) is not None:
                own.append((str(name), total))
    return {
        kind: {
            "median": float(np.median([total for _, total in own])) if own else float("nan"),
            "ratings": len(own),
            "units": len({name for name, _ in own}),
        }
        for kind, own in sorted(found.items())
    }


def digest(items: Sequence[Mapping[str, Any]]) -> str:
    """Hex digits that change with anything in the items: scores belong to them."""
    return hashlib.sha256(json.dumps(list(items), sort_keys=True).encode()).hexdigest()[:12]


_LARGEST = {criterion.name: criterion.largest for criterion in CRITERIA}


def _asked(rating: Mapping[str, Any]) -> list[str]:
    if rating.get("confidence") == 0:
        return ["confidence"]
    perfect = rating.get("consistency") == _LARGEST["consistency"]
    return [name for name in _LARGEST if name != "separation" or not perfect]


def _resource(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _notebook(items: Sequence[Mapping[str, Any]], state: dict[str, Any]) -> Widget:
    """The page as ipywidgets. It writes into `state`."""
    import ipywidgets as widgets

    wide = widgets.Layout(width="auto")
    status, unit, medians = widgets.HTML(), widgets.HTML(), widgets.HTML()
    words = widgets.Text(placeholder="In your words, what does it respond to?", layout=wide)
    questions = {
        criterion.name: widgets.ToggleButtons(
            options=[(str(score), score) for score in range(criterion.largest + 1)],
            value=None,
            style={"button_width": "2.5rem"},
        )
        for criterion in CRITERIA
    }
    boxes = {
        criterion.name: widgets.VBox(
            [widgets.HTML(f"<b>{criterion.question}</b> 0: {criterion.low}. {criterion.largest}: {criterion.high}."),
             questions[criterion.name]]
        )
        for criterion in CRITERIA
    }  # fmt: skip
    back, forth, finish = (widgets.Button(description=label) for label in ("Back", "Next", "Finish and reveal"))
    at = 0
    filling = False  # while a unit's scores are put into the buttons, they are not the rater's

    def tell() -> None:
        rating = state["ratings"][at]
        scored = sum(points(rating) is not None for rating in state["ratings"])
        for name, box in boxes.items():
            box.layout.display = "" if name in _asked(rating) else "none"
        total = points(rating)
        here = "" if total is None else f", this one with {total} of {MOST} points"
        status.value = f"Unit {at + 1} of {len(items)}; {scored} scored{here}"

    def show(index: int) -> None:
        nonlocal at, filling
        at, filling = index, True
        rating = state["ratings"][at]
        unit.value = _item_html(items[at])
        words.value = rating.get("words", "")
        for name, question in questions.items():
            question.value = rating.get(name)
        filling = False
        back.disabled, forth.disabled = at == 0, at == len(items) - 1
        tell()

    def scored(name: str, value: Any) -> None:
        if not filling:
            state["ratings"][at][name] = value
            tell()

    def reveal(_) -> None:
        state["finished"] = True
        for rating, item in zip(state["ratings"], items, strict=True):
            rating.update({key: item[key] for key in ("name", "kind", "interval")})
        for control in (*questions.values(), words, finish):
            control.disabled = True
        found = summary(state).items()
        medians.value = "<br>".join(f"{escape(kind)}: median {of['median']:g} of {of['ratings']}" for kind, of in found)

    words.observe(lambda change: scored("words", change["new"]), "value")
    for name, question in questions.items():
        question.observe(lambda change, name=name: scored(name, change["new"]), "value")
    back.on_click(lambda _: show(at - 1))
    forth.on_click(lambda _: show(at + 1))
    finish.on_click(reveal)
    show(0)
    return widgets.VBox([status, unit, words, *boxes.values(), widgets.HBox([back, forth, finish]), medians])


def _item_html(item: Mapping[str, Any]) -> str:
    """What is shown of a unit, for the notebook; the page builds the same in its script."""

    def token(text: str, level: str, center: bool) -> str:
        line = "border-bottom:2px solid currentColor;" if center else ""
        shade = f"background:rgba(230,126,34,{int(level) / 9 * 0.5:.2f});" if level != "0" else ""
        return f"<span style='unicode-bidi:isolate;white-space:pre-wrap;{line}{shade}'>{escape(text)}</span>"

    lines = [
        "".join(
            token(text, level, index == example["center"])
            for index, (text, level) in enumerate(zip(example["tokens"], example["levels"], strict=True))
        )
        for example in item["examples"]
    ]
    for heading, name in (("Makes likely as the next token", "promoted"), ("Makes unlikely", "suppressed")):
        lines.append(f"{heading}: " + " ".join(f"<code><bdi>{escape(text)}</bdi></code>" for text in item[name]))
    return f"<p>{escape(item['heading'])}</p>" + "".join(f"<p dir='ltr'>{line}</p>" for line in lines)
