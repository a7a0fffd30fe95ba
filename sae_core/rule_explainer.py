"""An explainer that asks nobody: rules over tokens, what stands in front of them, and kinds of characters.

It reads the windows that `interpretability` draws, and writes a list such as

    8 if the token is ‘ the’ and the token in front is ‘ of’
    3 if the token is digits
    0 otherwise

A rule list knows nothing of the world: it can name a script or a suffix, but no topic. Its merit is that anybody can
check it, and that it costs milliseconds.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .interpretability import LEVELS, LogitTask, Windows
from .plots import visible

RULES = 8  # of an explanation, at most
WORTH = 2.0  # squared error that a condition has to take away; what takes less fits by accident
WHERE = ("here", "before", "earlier", "mostly")  # the token, the one in front, one in front, over half of those
SCRIPTS = ("Cyrillic", "Greek", "Arabic", "Hebrew", "CJK", "Hiragana", "Katakana", "Hangul", "Devanagari", "Thai")
PATTERNS = {  # of a token's text without the spaces around it
    "a word in small letters": "[a-z]{2,}",
    "a word with a capital": "[A-Z][a-z]+",
    "capitals": "[A-Z]{2,}",
    "one capital letter": "[A-Z]",
    "one small letter": "[a-z]",
    "four or more letters": "[A-Za-z]{4,}",
    "camelCase": "[A-Za-z]*[a-z][A-Z][A-Za-z]*",
    "a word in -s": "[A-Za-z]+s",
    "a word in -ed": "[A-Za-z]+ed",
    "a word in -ing": "[A-Za-z]+ing",
    "a word in -ly": "[A-Za-z]+ly",
    "digits": "[0-9]+",
    "letters and digits": "(?=.*[A-Za-z])(?=.*[0-9])[A-Za-z0-9]+",
    "hexadecimal digits": "[0-9a-f]+",
    "letters of DNA": "[ACGT]+",
    "the end of a sentence": "[.!?]",
    "a comma, colon or semicolon": "[,;:]",
    "an opening bracket": r".*[(\[{<]",
    "a closing bracket": r"[)\]}>].*",
    "a quotation mark": "[\"'`“”‘’«»]+",
}


def token_classes(token_bytes: Sequence[bytes]) -> dict[str, np.ndarray]:
    """Kinds of tokens that a rule can name, such as "digits", each as bool [vocab]. A token may be of several."""
    texts = [token.decode("utf-8", errors="replace") for token in token_bytes]

    def of(belongs: Callable[[str], object]) -> np.ndarray:
        return np.array([bool(belongs(text)) for text in texts])

    classes = {
        "a space in front": of(lambda text: text.startswith(" ")),
        "blank": of(lambda text: text and not text.strip()),
        "a line break": of(lambda text: "\n" in text),
        "an underscore": of(lambda text: "_" in text),
        "a backslash": of(lambda text: "\\" in text),
        "punctuation": of(lambda text: text.strip() and all(unicodedata.category(c)[0] in "PS" for c in text.strip())),
        "a part of a character": of(lambda text: "\ufffd" in text),
        "the end of a document": of(lambda text: not text),
        "an accented letter": of(lambda text: any(not c.isascii() and _script(c, "Latin") for c in text)),
    }
    classes |= {name: of(lambda text, form=form: re.fullmatch(form, text.strip())) for name, form in PATTERNS.items()}
    classes |= {name: of(lambda text, name=name: any(_script(c, name) for c in text)) for name in SCRIPTS}
    return {name: members for name, members in classes.items() if members.any()}


def _script(character: str, name: str) -> bool:
    return name.upper() in unicodedata.name(character, "")


class Condition(NamedTuple):
    """Something that holds for a token of a window or does not."""

    what: int | str  # a token's id, or the name of a class of tokens
    where: str  # one of WHERE
    negated: bool = False

    def holds(self, tokens: np.ndarray, classes: Mapping[str, np.ndarray]) -> np.ndarray:
        """Where it holds, bool [n, length], in windows of tokens [n, length]; it looks at no later token."""
        marks = classes[self.what][tokens] if isinstance(self.what, str) else tokens == self.what
        if self.where == "before":
            shifted = np.zeros_like(marks)  # np.pad takes five times as long
            shifted[:, 1:] = marks[:, :-1]
            marks = shifted
        elif self.where != "here":
            in_front = marks.cumsum(1) - marks
            least = 0 if self.where == "earlier" else np.arange(tokens.shape[1]) / 2
            marks = in_front > least
        return marks != self.negated

    def text(self, token_bytes: Sequence[bytes]) -> str:
        what = self.what if isinstance(self.what, str) else f"‘{visible(token_bytes[self.what])}’"
        form = {
            "here": "the token is {}",
            "before": "the token in front is {}",
            "earlier": "{} came earlier",
            "mostly": "most tokens in front are {}",
        }[self.where]
        return form.format(f"not {what}" if self.negated else what)


class Rule(NamedTuple):
    """Where all of its conditions hold, expect a level."""

    conditions: tuple[Condition, ...]
    level: int


@dataclass(frozen=True)
class Explanation:
    """A list of rules. The first one that fits a token says what to expect."""

    rules: tuple[Rule, ...]
    otherwise: int  # the level where none fits
    classes: Mapping[str, np.ndarray]  # that the rules may name, each bool [vocab]

    def simulate(self, tokens: np.ndarray) -> np.ndarray:
        """The levels 0 ... 9 that the rules expect on windows of tokens [n, length]: same shape, int."""
        expected = np.full(tokens.shape, self.otherwise)
        for rule in reversed(self.rules):
            fits = np.logical_and.reduce([condition.holds(tokens, self.classes) for condition in rule.conditions])
            expected[fits] = rule.level
        return expected

    def text(self, token_bytes: Sequence[bytes]) -> list[str]:
        """One line for each rule, and one for the rest."""
        lines = [
            f"{rule.level} if {' and '.join(condition.text(token_bytes) for condition in rule.conditions)}"
            for rule in self.rules
        ]
        return [*lines, f"{self.otherwise} otherwise"]


def explain(windows: Windows, classes: Mapping[str, np.ndarray]) -> Explanation:
    """Write rules that predict the levels of some windows.

    classes: of `token_classes`, or others. A rule has one or two conditions: on the token, on the one in front, on the
    earlier ones of the window. Each is chosen so that it takes away most of the squared error that is left.
    """
    conditions = [Condition(token, where) for token in np.unique(windows.tokens).tolist() for where in WHERE[:3]]
    conditions += [Condition(name, where) for name in classes for where in WHERE]
    conditions += [Condition(name, "here", negated=True) for name in classes]
    return _learn(windows.tokens, windows.levels, conditions, classes)


def _learn(
    tokens: np.ndarray, levels: np.ndarray, conditions: Sequence[Condition], classes: Mapping[str, np.ndarray]
) -> Explanation:
    """Rules for the levels [n, length] of windows of tokens [n, length], chosen one after the other.

    The gain of a rule that fits k of the tokens left, and on which the levels exceed their mean by s in sum, is
    s² / (k + 1): what it takes away from the squared error if it expects s / (k + 1) more than the mean. The 1 in it
    pulls rules that rest on few tokens towards the mean. Rules only ever expect more than the mean.
    """
    held = np.array([condition.holds(tokens, classes).ravel() for condition in conditions], np.float32)
    true, left, rules = levels.ravel().astype(np.float32), np.ones(levels.size, np.float32), []
    mean = float(true.mean())
    while len(rules) < RULES and left.any():
        mean = float(true @ left / left.sum())
        fits, chosen, best = left, [], 0.0
        for _ in range(2):
            number, excess = held @ fits, held @ ((true - mean) * fits)
            gains = np.where((number >= 2) & (excess > 0), excess**2 / (number + 1), 0)
            if gains.max() <= best + WORTH:
                break
            chosen.append(int(gains.argmax()))
            best, fits = gains.max(), fits * held[chosen[-1]]
        if not chosen:
            break
        level = round(float((true @ fits + mean) / (fits.sum() + 1)))
        rules.append(Rule(tuple(conditions[index] for index in chosen), level))
        left = left * (1 - fits)
        mean = float(true @ left / max(left.sum(), 1))
    return Explanation(tuple(rules), round(mean), classes)


def explain_logits(task: LogitTask, classes: Mapping[str, np.ndarray], windows: Windows | None = None) -> Explanation:
    """Rules for the tokens that a unit promotes, learned from those that are shown.

    windows: with them, the tokens that follow where the unit is at level 5 or above count as promoted, too, so that the
    explainer has seen what the paper's has: windows and top logits. As many random tokens serve as counterexamples.
    """
    follow = windows.tokens[:, 1:][windows.levels[:, :-1] >= LEVELS // 2] if windows is not None else task.shown[:0]
    positive = np.concatenate([task.shown, follow])
    negative = np.resize(task.others, len(positive))
    tokens = np.concatenate([positive, negative])[:, None]
    levels = (LEVELS - 1) * (np.arange(len(tokens)) < len(positive))[:, None]
    conditions = [Condition(name, "here", negated) for name in classes for negated in (False, True)]
    return _learn(tokens, levels, conditions, classes)


def logit_accuracy(explanation: Explanation, task: LogitTask) -> float:
    """Share of right answers; a token is called promoted at an expected level of 5 or above. Chance is one half."""
    answers = explanation.simulate(task.asked[:, None])[:, 0] >= LEVELS // 2
    return float((answers == task.promoted).mean())
