"""The blind scoring page: what is drawn, what the page does in a real browser, and what the scores come to."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pdf
import pytest

from sae_core import rubric
from sae_core.errors import SaeCoreError
from sae_core.evidence import Evidence
from sae_core.tokens import Contexts

HOSTILE = "</script><img src=x onerror=alert(1)>"
PIECES = [f"<b>{i}</b>".encode() for i in range(8)] + [HOSTILE.encode(), b" &amp;\n", "עברית".encode(), b"\xd8"]
FULL = {"confidence": 3, "consistency": 5, "logits": 3, "specificity": 3}  # 14
IMPERFECT = {**FULL, "consistency": 4, "separation": 1}  # 14, too


def evidence(n_units=6, seed=0):
    """Units that fire on about 60 of 310 tokens, with activations between 0 and 1."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, len(PIECES), (10, 32)).astype(np.uint16)
    inner = (np.arange(10)[:, None] * 32 + np.arange(1, 32)).ravel()
    places = [np.sort(rng.choice(inner, 60, replace=False)) for _ in range(n_units)]
    values = rng.uniform(0.01, 1, 60 * n_units).astype(np.float32)
    contexts = Contexts(ids, np.zeros_like(ids), ["text"])
    return Evidence(contexts, np.arange(n_units + 1) * 60, np.concatenate(places).astype(np.int32), values)


def units(n=6):
    found, rng = evidence(n), np.random.default_rng(1)
    return [
        rubric.Unit(f"A/1/{i}" if i % 2 else f"A/neurons/{i}", "feature" if i % 2 else "neuron", found, i,
                    rng.normal(size=len(PIECES)))
        for i in range(n)
    ]  # fmt: skip


ITEMS = rubric.draw(units(), PIECES)


# --- what is drawn --------------------------------------------------------------------------------------------------


def test_every_unit_is_there_once_and_mixed():
    names = [item["name"] for item in rubric.draw(units(40), PIECES)]
    assert sorted(names) == sorted(unit.name for unit in units(40))
    kinds = [item["kind"] for item in rubric.draw(units(40), PIECES)]
    assert 12 < sum(a != b for a, b in zip(kinds, kinds[1:], strict=False)) < 28  # neither in turn nor in two blocks


def test_the_same_seed_draws_the_same():
    assert rubric.draw(units(), PIECES) == ITEMS
    assert rubric.draw(units(), PIECES, seed=1) != ITEMS
    assert rubric.digest(rubric.draw(units(), PIECES, seed=1)) != rubric.digest(ITEMS)


def test_examples_are_from_the_interval_that_the_item_names():
    found = {unit.name: unit for unit in units()}
    for item in ITEMS:
        unit = found[item["name"]]
        largest = unit.evidence.of(unit.index)[1].max()
        sampled = unit.evidence.interval_examples(unit.index, 11, 5, 8)[item["interval"]]
        assert len(item["examples"]) == len(sampled) > 0
        for shown, example in zip(item["examples"], sampled, strict=True):
            share = example.activations[example.center] / largest
            assert item["interval"] / 11 < share + 1e-6 and share <= (item["interval"] + 1) / 11 + 1e-6
            assert len(shown["tokens"]) == len(shown["levels"]) == len(example.tokens) <= 17
            assert shown["center"] == example.center
            assert int(shown["levels"][example.center]) == min(9, int(10 * share))


def test_a_character_that_tokens_share_is_shown_whole():
    """A rater can read 水, but not its bytes. It is as active as its most active token."""
    pieces = [b"", b"a\xe6", b"\xb0", b"\xb4b", b"\xe6", b"\xf0\x9f", b"\x98\x80", b"c"]
    ids = np.array([[0, 2, 7, 1, 2, 3, 5, 6, 7, 4]], np.uint16)  # ends and begins within characters
    contexts = Contexts(ids, np.zeros_like(ids), ["text"])
    found = Evidence(contexts, np.array([0, 3]), np.array([4, 5, 7], np.int32), np.array([1.0, 0.55, 0.95], np.float32))
    (item,) = rubric.draw([rubric.Unit("A/1/0", "feature", found, 0, np.zeros(8))], pieces, intervals=1, examples=9)
    shown = {(*example["tokens"], example["levels"], example["center"]) for example in item["examples"]}
    text = ("\\xb0", "c", "a水b", "😀", "c", "\\xe6", "009900")
    assert shown == {(*text, 2), (*text, 3)}  # of tokens 4 and 5, which share one part, and of token 7


def test_intervals_are_drawn_from_all_of_the_range():
    seen = {item["interval"] for seed in range(20) for item in rubric.draw(units(), PIECES, seed=seed)}
    assert seen == set(range(11))


def test_tokens_are_in_the_order_of_their_logits():
    found = {unit.name: unit for unit in units()}
    for item in ITEMS:
        order = np.argsort(found[item["name"]].logits)
        assert item["promoted"][0] == rubric.visible(PIECES[order[-1]])
        assert item["suppressed"][0] == rubric.visible(PIECES[order[0]])


def test_nothing_to_score_is_one_line():
    silent = Evidence(evidence().contexts, np.array([0, 0]), np.zeros(0, np.int32), np.zeros(0, np.float32))
    with pytest.raises(SaeCoreError, match="A/1/0 never fires"):
        rubric.draw([rubric.Unit("A/1/0", "feature", silent, 0, np.zeros(12))], PIECES)
    with pytest.raises(SaeCoreError, match="no units"):
        rubric.draw([], PIECES)


# --- what the scores come to ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rating", "total"),
    [
        (FULL, 14),
        (IMPERFECT, 14),
        ({**IMPERFECT, "separation": 0}, 13),
        ({**FULL, "separation": 1}, 14),  # asked before, and no longer
        ({"confidence": 0}, 0),
        ({**FULL, "confidence": 0}, 0),
        ({"confidence": 1, "consistency": 0, "logits": 0, "separation": 0, "specificity": 0}, 1),
        ({}, None),
        ({**FULL, "consistency": 4}, None),  # separation is missing
        ({**FULL, "logits": None}, None),
    ],
)
def test_points(rating, total):
    assert rubric.points(rating) == total


def test_the_most_that_one_can_score_is_the_papers_14():
    scales = [[{c.name: v} for v in range(c.largest + 1)] for c in rubric.CRITERIA]
    every = [{}]
    for scale in scales:
        every = [{**one, **more} for one in every for more in scale]
    assert max(rubric.points(rating) for rating in every) == rubric.MOST == 14
    assert [c.largest for c in rubric.CRITERIA] == [3, 5, 3, 1, 3]


def saved(ratings, finished=True):
    named = [{**rating, "name": f"u{i}", "kind": kind, "interval": 0} for i, (kind, rating) in enumerate(ratings)]
    return {"items": "0", "finished": finished, "ratings": named}


def test_summary_has_the_medians_by_kind():
    one = saved([("feature", FULL), ("neuron", {"confidence": 0}), ("feature", {**FULL, "logits": 0}), ("neuron", {})])
    expected = {
        "feature": {"median": 12.5, "ratings": 2, "units": 2},
        "neuron": {"median": 0.0, "ratings": 1, "units": 1},
    }
    assert rubric.summary(one) == rubric.summary(json.dumps(one)) == expected
    both = rubric.summary(one, saved([("feature", {"confidence": 0})]))
    assert both["feature"] == {"median": 11.0, "ratings": 3, "units": 2}


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("{", "no scores"),
        ("[]", "no scores"),
        ({"finished": True}, "no scores"),
        ({"finished": True, "ratings": [FULL]}, "no scores"),
        (3, "no scores"),
        (saved([("feature", FULL)], finished=False), "not final"),
        (saved([("feature", {**FULL, "logits": 4})]), "logits is 4; the rubric has 0 to 3"),
        (saved([("feature", {**FULL, "logits": -1})]), "logits is -1"),
        (saved([("feature", {**FULL, "logits": True})]), "logits is True"),
        (saved([("feature", {**FULL, "logits": "3"})]), "logits is '3'"),
    ],
)
def test_something_else_is_one_line(what, words):
    with pytest.raises(SaeCoreError, match=re.escape(words)):
        rubric.summary(what)


# --- in a notebook --------------------------------------------------------------------------------------------------


def test_the_notebooks_page_scores_the_same(monkeypatch):
    ipywidgets = pytest.importorskip("ipywidgets")
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    state = rubric.rate(ITEMS)
    status, unit, words, *boxes, buttons, medians = shown[0].children
    toggles = {c.name: box.children[1] for c, box in zip(rubric.CRITERIA, boxes, strict=True)}
    back, forth, finish = buttons.children
    assert all(isinstance(toggle, ipywidgets.ToggleButtons) for toggle in toggles.values())

    def separation():
        return boxes[3].layout.display != "none"

    for index, item in enumerate(ITEMS):
        assert "<img" not in unit.value and item["name"] not in unit.value
        assert f"Unit {index + 1} of 6" in status.value
        assert all(toggle.value is None for toggle in toggles.values())
        rating = FULL if item["kind"] == "feature" else {"confidence": 0}
        for name, value in rating.items():
            toggles[name].value = value
        assert separation() is False
        words.value = f"words {index}"
        assert forth.disabled == (item is ITEMS[-1])
        if not forth.disabled:
            forth.click()
    assert "6 scored" in status.value
    with pytest.raises(SaeCoreError, match="not final"):
        rubric.summary(state)
    back.click()
    assert words.value == "words 4"
    toggles["confidence"].value, toggles["consistency"].value = 1, 3
    assert separation()
    toggles["logits"].value = toggles["separation"].value = toggles["specificity"].value = 1
    assert state["ratings"][4]["logits"] == 1
    finish.click()
    assert rubric.summary(state)["feature"]["ratings"] == 3
    assert all(toggle.disabled for toggle in toggles.values())
    assert "neuron: median 0" in medians.value


# --- in a browser ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    program = pdf.find_browser()
    if program is None:
        missing = f"no browser to check the page with: install one of {', '.join(pdf.BROWSERS)}"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, tmp_path):
    """The function that opens the page: it fails the test where a script does, or where anything is fetched."""
    contexts, errors = [], []

    def visit(items=ITEMS, dark=False, width=1000, script="", file="page.html"):
        path = tmp_path / file
        if not path.exists():
            path.write_text(rubric.document(items), encoding="utf-8")
        context = contexts[0] if contexts else browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme="dark" if dark else "light"
        )  # fmt: skip
        contexts.append(context)
        context.set_default_timeout(10_000)
        if script:
            context.add_init_script(script)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: errors.append(dialog.message))
        context.route(re.compile("^(?!file:|blob:)"), lambda route: errors.append(route.request.url))
        page.goto(path.as_uri())
        return page

    yield visit
    contexts[0].close()
    assert errors == []


def score(page, rating):
    for name, value in rating.items():
        page.locator(f".rubric-{name} input[value='{value}']").check()


def test_the_page_tells_nothing_before_the_end_and_shows_text_as_text(visit):
    page = visit()
    assert page.get_by_text("at the end press Finish, save, and send the file").count() == 1  # who has it, has it alone
    for item in ITEMS:
        shown = page.locator("main").inner_text()
        assert not re.search(r"A/1/|A/neurons/|median", shown)
        assert page.locator(".rubric-example").all_text_contents() == ["".join(e["tokens"]) for e in item["examples"]]
        assert page.locator(".rubric-token").all_text_contents() == item["promoted"] + item["suppressed"]
        centers = page.locator(".rubric-center").evaluate_all("all => all.map(e => e.title)")
        assert centers == [f"activation {level} of 9" if (level := int(e["levels"][e["center"]])) else ""
                           for e in item["examples"]]  # fmt: skip
        if item is not ITEMS[-1]:
            page.get_by_role("button", name="Next").click()
    assert page.get_by_role("button", name="Next").is_disabled()
    assert page.locator("img, b").count() == 0


def test_the_keyboard_scores_and_finishes(visit):
    page = visit()
    for index in range(len(ITEMS)):
        page.keyboard.press("Tab") if index else page.locator(".rubric-words input").focus()
        page.keyboard.type(f"word {index}")
        page.keyboard.press("Enter")  # which must not send the form away
        page.keyboard.press("Tab")
        page.keyboard.press("Space")  # no confidence
        assert page.locator(".rubric-confidence input").first.is_checked()
        assert page.locator("fieldset:visible").count() == 1
        if index % 2:
            for _ in range(3):
                page.keyboard.press("ArrowRight")
            for name, n in (("consistency", 5), ("logits", 3), ("specificity", 3)):
                page.keyboard.press("Tab")
                page.keyboard.press("Space")
                assert page.locator(f".rubric-{name} input").first.is_checked()
                assert page.locator(".rubric-separation").is_visible() == (name == "consistency")  # at 0, not at 5
                for _ in range(n):
                    page.keyboard.press("ArrowRight")
            assert page.locator(".rubric-sum").inner_text() == "14 of 14 points"
        assert page.locator(".rubric-progress").inner_text() == f"{index + 1} of 6 scored"
        if index < len(ITEMS) - 1:
            page.get_by_role("button", name="Next").focus()
            page.keyboard.press("Enter")
            assert page.evaluate("document.activeElement.textContent") == f"Unit {index + 2} of 6"
    page.get_by_role("button", name="Finish").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.textContent") == "What you scored"


def test_medians_of_the_page_are_those_of_the_summary(visit, tmp_path):
    page = visit()
    none = {"confidence": 0}
    ratings = [none, FULL, {**IMPERFECT, "separation": 0}, {**FULL, "specificity": 0}, FULL, none]
    for index, rating in enumerate(ratings):
        score(page, rating)
        if index < 5:
            page.get_by_role("button", name="Next").click()
    page.get_by_role("button", name="Finish").click()  # all are scored: it asks nothing
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as JSON").click()
    download.value.save_as(tmp_path / "saved.json")
    found = rubric.summary((tmp_path / "saved.json").read_text())
    rows = page.locator("table").first.locator("tbody tr").all_inner_texts()
    assert [row.split() for row in rows] == [
        [kind, str(of["ratings"]), f"{of['median']:g}"] for kind, of in found.items()
    ]
    for kind in ("feature", "neuron"):
        own = [rubric.points(r) for r, item in zip(ratings, ITEMS, strict=True) if item["kind"] == kind]
        assert found[kind] == {"median": float(np.median(own)), "ratings": 3, "units": 3}
    units = page.locator("table").nth(1).locator("tbody tr td:first-child").all_inner_texts()
    assert units == [item["name"] for item in ITEMS]


def test_scores_are_kept_and_not_mixed_with_those_of_other_units(visit):
    page = visit()
    score(page, FULL)
    page.locator(".rubric-words input").fill(HOSTILE)
    page.reload()
    assert page.locator(".rubric-progress").inner_text() == "1 of 6 scored"
    assert page.locator(".rubric-title").inner_text() == "Unit 2 of 6"  # the first that is not scored
    page.get_by_role("button", name="Back").click()
    assert page.locator(".rubric-words input").input_value() == HOSTILE
    assert page.locator("input[type=radio]:checked").evaluate_all("all => all.map(e => e.name)") == list(FULL)
    other = visit(rubric.draw(units(), PIECES, seed=1), file="other.html")
    assert other.locator(".rubric-progress").inner_text() == "0 of 6 scored"


def test_finishing_early_asks_first_is_final_and_can_be_started_again(visit, tmp_path):
    page = visit()
    score(page, FULL)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as JSON").click()
    download.value.save_as(tmp_path / "early.json")
    early = (tmp_path / "early.json").read_text()
    assert "neuron" not in early  # blind, in the file, too
    with pytest.raises(SaeCoreError, match="not final"):
        rubric.summary(early)
    finish = page.locator(".rubric-end button").first
    finish.click()
    assert finish.inner_text() == "5 not scored, and the scores are final: reveal all the same?"
    finish.click()
    assert page.locator("table").count() == 2 and page.locator("input").count() == 0
    page.reload()
    assert page.locator("table").count() == 2  # it stays so
    page.get_by_role("button", name="Start again").click()
    page.get_by_role("button", name="forget them?").click()
    assert page.locator(".rubric-progress").inner_text() == "0 of 6 scored"
    page.reload()
    assert page.locator("input[type=radio]:checked").count() == 0


@pytest.mark.parametrize(
    "script",
    [
        "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('no', 'SecurityError'); }})",
        "for (const of of ['null', '3', '{', '{\"ratings\": [1]}', '{\"ratings\": [null, 1, 2, 3, 4, 5]}']) "
        f"localStorage.setItem('one-layer-many-features:rubric:{rubric.digest(ITEMS)}', of)",
    ],
    ids=["blocked", "not ours"],
)
def test_storage_that_cannot_be_used_does_no_harm(visit, script):
    page = visit(script=script)
    score(page, FULL)
    told = page.locator(".rubric-progress").inner_text()
    assert told == "1 of 6 scored" + " (your browser does not let pages keep this: save it)" * ("throw" in script)


def test_two_pages_in_one_are_two(visit, tmp_path):
    second = rubric.draw(units(), PIECES, seed=1)
    (tmp_path / "both.html").write_text(rubric.document(ITEMS) + rubric.widget(second))
    page = visit(file="both.html")
    page.locator(".rubric").nth(1).locator(".rubric-confidence input").first.check()
    assert page.locator(".rubric-progress").all_inner_texts() == ["0 of 6 scored", "1 of 6 scored"]


@pytest.mark.parametrize("view", ["light", "dark", "narrow"])
def test_everyone_can_use_it(visit, view):
    from axe_playwright_python.base import AXE_SCRIPT

    page = visit(dark=view == "dark", width=360 if view == "narrow" else 1000)

    def look():
        page.evaluate(AXE_SCRIPT)
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        assert [f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in found] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]

    score(page, IMPERFECT)
    page.get_by_label("Show the activations as digits").check()
    assert page.locator(".rubric-separation").is_visible()
    look()
    finish = page.locator(".rubric-end button").first
    finish.click()
    finish.click()
    look()


def test_24_units_are_less_than_150_kB():
    assert len(rubric.widget(rubric.draw(units(24), PIECES))) < 150_000


def test_without_scripts_it_says_so(browser, tmp_path):
    (tmp_path / "page.html").write_text(rubric.document(ITEMS))
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(Path(tmp_path / "page.html").as_uri())
    assert "needs scripts" in page.locator("main").inner_text()
    context.close()
