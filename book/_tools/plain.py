"""A chapter's prose, which is MyST, as the plain Markdown that Colab and JupyterLab show.

A box becomes a quotation, a folded box <details>, a role the text or the link that it stands for. What this file does
not know is an ExportError: an exported notebook never shows markup that its reader's program cannot.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field

import yaml
from labels import Book, ExportError, Label

FENCE = re.compile(r"(?P<indent>[ ]*)(?P<fence>`{3,}|~{3,}|:{3,})(?P<info>.*)")
DIRECTIVE = re.compile(r"\{(?P<name>[\w:-]+)\}[ ]*(?P<argument>.*)")
# In this order: what is found first is not searched for what comes later. Nothing reaches over an empty line.
INLINE = re.compile(
    r"""
    (?P<display>\$\$.+?\$\$)(?:[ ]*\((?P<equation>[\w.:-]+)\))?
    | (?<![\\$])(?P<math>\$(?:(?!\n[ ]*\n)[^$])+\$)
    | \{(?P<role>[\w:-]+)\}(?P<ticks>`+)(?P<content>(?:(?!\n[ ]*\n).)+?)(?P=ticks)(?!`)
    | (?<!`)(?P<code>(?P<quotes>`+)(?!`)(?:(?!\n[ ]*\n).)+?(?<!`)(?P=quotes)(?!`))
    | ^\((?P<target>[\w.:-]+)\)=[ ]*$
    | (?P<comment>^%[ ][^\n]*\n?|<!--.*?-->\n?)
    | \]\((?P<link>[^)\s]+)\)
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
TITLED = re.compile(r"(?P<text>.+?)\s*<(?P<target>[^<>]+)>", re.DOTALL)
BOXES = {"note", "tip", "hint", "warning", "caution", "attention", "danger", "error", "important", "seealso"}


@dataclass
class Page:
    """A page on its way to plain Markdown. values: its glued numbers; a missing one is shown by its ⟨name⟩."""

    name: str
    book: Book
    values: Mapping[str, str]
    cited: list[str] = field(default_factory=list)

    def convert(self, text: str) -> str:
        """Plain Markdown of some of the page's MyST. Raises ExportError for what it does not know."""
        lines, prose, made = text.split("\n"), [], []
        while lines:
            if fence := FENCE.fullmatch(lines[0]):
                made += [self._inline("\n".join(prose)), self._block(fence, lines)]
                prose = []
            else:
                prose.append(lines.pop(0))
        made = [part.strip("\n") for part in (*made, self._inline("\n".join(prose)))]
        return "\n\n".join(filter(None, made))

    # --- blocks -----------------------------------------------------------------------------------------------

    def _block(self, fence: re.Match, lines: list[str]) -> str:
        """Take a fenced block off the lines, and convert it if it is a directive."""
        mark, first = fence["fence"], lines.pop(0)
        inside: list[str] = []
        while True:
            if not lines:
                raise ExportError(f"{self.name}: the block {first.strip()!r} has no end")
            line = lines.pop(0)
            if re.fullmatch(rf"[ ]*{re.escape(mark[0])}{{{len(mark)},}}[ ]*", line):
                break
            inside.append(line)
        directive = DIRECTIVE.fullmatch(fence["info"].strip())
        if not directive:
            return "\n".join([first, *inside, line])
        options, body = _options(textwrap.dedent("\n".join(inside)))
        name, argument = directive["name"], directive["argument"].strip()
        if name not in DIRECTIVES:
            raise ExportError(f"{self.name}: the directive {{{name}}} has no form in a notebook yet")
        argument = argument or (name.title() if name in BOXES else "")
        return textwrap.indent(DIRECTIVES[name](self, argument, options, body), fence["indent"])

    def _box(self, title: str, options: dict, body: str) -> str:
        if "dropdown" in options.get("class", "").split():
            return details(self.convert(title), self.convert(body))
        body = choice(body) if "commit" in options.get("class", "").split() else body
        lines = [f"**{self.convert(title)}**", "", *self.convert(body).split("\n")]
        return "\n".join(f"> {line}".rstrip() for line in lines)

    def _folded(self, title: str, options: dict, body: str) -> str:
        return details(self.convert(title), self.convert(body))

    def _exercise(self, title: str, options: dict, body: str) -> str:
        number = self.book.label(options["label"], self.name).text
        parts = [anchor(options["label"]), f"### {number}. {self.convert(title)}", self.convert(body)]
        return "\n\n".join(parts)

    def _nothing(self, argument: str, options: dict, body: str) -> str:
        return ""

    def _math(self, argument: str, options: dict, body: str) -> str:
        return self._equation("\n".join(filter(None, [argument, body.strip()])), options.get("label", ""))

    def _equation(self, tex: str, label: str) -> str:
        tag = f"\\tag{{{self.book.label(label, self.name).number}}}\n" if label else ""
        return f"$$\n{tex.strip()}\n{tag}$$"

    def _code(self, language: str, options: dict, body: str) -> str:
        return f"```{language}\n{body}\n```"

    def _table(self, title: str, options: dict, body: str) -> str:
        return f"**{self.convert(title)}**\n\n{self.convert(body)}" if title else self.convert(body)

    def _list_table(self, title: str, options: dict, body: str) -> str:
        def parts(of: str, mark: str) -> list[str]:
            return re.split(rf"^{mark}- ?", of, flags=re.MULTILINE)

        cells = [
            [" ".join(self.convert(cell).split()) for cell in parts(row, "  ")] for row in parts(body, r"\* ")[1:]
        ]
        rule = ["---"] * len(cells[0])
        if not int(options.get("header-rows", 0)):
            cells.insert(0, [""] * len(rule))
        return self._table(title, {}, "\n".join(f"| {' | '.join(row)} |" for row in [cells[0], rule, *cells[1:]]))

    def _tabs(self, argument: str, options: dict, body: str) -> str:
        return self.convert(body)

    def _tab(self, title: str, options: dict, body: str) -> str:
        return f"**{self.convert(title)}**\n\n{self.convert(body)}"

    def _bibliography(self, argument: str, options: dict, body: str) -> str:
        return "\n".join(f"- {self._source(key)}" for key in dict.fromkeys(self.cited))

    # --- within a line ----------------------------------------------------------------------------------------

    def _inline(self, text: str) -> str:
        return INLINE.sub(self._replace, text)

    def _replace(self, found: re.Match) -> str:
        if found["display"]:
            return self._equation(found["display"][2:-2], found["equation"]) if found["equation"] else found["display"]
        if found["role"]:
            return self._role(found["role"], " ".join(found["content"].split()))
        if found["target"]:
            return anchor(found["target"])
        if found["comment"]:
            return ""
        if found["link"]:
            return f"]({self._link(found['link'])})"
        return found[0]  # code and mathematics

    def _link(self, target: str) -> str:
        if re.match(r"https?://|mailto:", target):
            return target
        raise ExportError(f"{self.name}: a link to {target!r} leads nowhere in a notebook; write {{doc}} or {{ref}}")

    def _role(self, role: str, content: str) -> str:
        titled = TITLED.fullmatch(content)
        text, target = (titled["text"], titled["target"]) if titled else ("", content)
        match role:
            case "glue:text":
                return self.values.get(content, f"⟨{content}⟩")
            case "doc":
                page = self.book.doc(target, self.name)
                return link(text or self.book.titles[page], self.book.address(page))
            case "ref" | "numref" | "eq" | "prf:ref":
                label = self.book.label(target, self.name)
                words = re.sub(r"%s|\{number\}", str(label.number), text)
                return self._place(words or label.text, label, target)
            case "term":
                return link(text or content, self.book.term(target))
            case "cite" | "cite:p":
                return f"({'; '.join(self._cite(key.strip(), '{}, {}') for key in content.split(','))})"
            case "cite:t":
                return ", ".join(self._cite(key.strip(), "{} ({})") for key in content.split(","))
            case "math":
                return f"${content}$"
            case "sub" | "sup":
                return f"<{role}>{content}</{role}>"
        raise ExportError(f"{self.name}: the role {{{role}}} has no form in a notebook yet")

    def _place(self, words: str, label: Label, target: str) -> str:
        if label.page == self.name:
            return link(words, f"#{target}")
        return link(words, self.book.address(label.page, target))

    def _cite(self, key: str, form: str) -> str:
        if key not in self.book.citations:
            raise ExportError(f"{self.name}: {{cite}}`{key}` is not in the bibliography")
        self.cited.append(key)
        entry = self.book.citations[key]
        return link(form.format(authors(entry), entry.fields["year"]), entry.fields.get("url", ""))

    def _source(self, key: str) -> str:
        entry = self.book.citations[key]
        title = link(_plain(entry.fields["title"]), entry.fields.get("url", ""))
        return f"{authors(entry)} ({entry.fields['year']}). {title}."


DIRECTIVES = {
    **dict.fromkeys([*BOXES, "admonition", "margin", "sidebar"], Page._box),
    "dropdown": Page._folded,
    "exercise": Page._exercise,
    "exercise-start": Page._exercise,
    "exercise-end": Page._nothing,
    "math": Page._math,
    "code-block": Page._code,
    "table": Page._table,
    "list-table": Page._list_table,
    "tab-set": Page._tabs,
    "tab-item": Page._tab,
    "bibliography": Page._bibliography,
}


def _options(body: str) -> tuple[dict, str]:
    """A directive's options, given as `:name: value` lines or as YAML between two lines of dashes, and the rest."""
    if found := re.match(r"---\n(.*?)\n---\n?", body, re.DOTALL):
        return yaml.safe_load(found[1]), body[found.end() :]
    options = {}
    while found := re.match(r":(?P<name>[\w-]+):[ ]*(?P<value>.*)(?:\n|\Z)", body):
        options[found["name"]] = found["value"].strip()
        body = body[found.end() :]
    return options, body.strip("\n")


def choice(body: str) -> str:
    """A question with options, of which the right one is ticked, as a list; what is right, and why, is folded."""
    question, *options = re.split(r"^- (?=\[[ x]\] )", body, flags=re.MULTILINE)
    last, _, explanation = options[-1].partition("\n\n")
    options[-1] = last
    right = [f"**{option[4:].strip()}**" for option in options if option.startswith("[x]")]
    answer = "\n\n".join(filter(None, [*right, explanation.strip()]))
    shown = question + "\n".join(f"- {option[4:].strip()}" for option in options)
    return f"{shown}\n\n{details('The answer', answer)}" if answer else shown


def authors(entry) -> str:
    """The authors of a source, as a citation names them."""
    names = [_plain(" ".join(person.prelast_names + person.last_names)) for person in entry.persons["author"]]
    return f"{names[0]} et al." if len(names) > 2 else " and ".join(names)


def _plain(tex: str) -> str:
    return tex.replace("{", "").replace("}", "").replace("\\", "")


def anchor(label: str) -> str:
    return f'<a id="{label}"></a>'


def link(text: str, address: str) -> str:
    return f"[{text}]({address})" if address else text


def details(title: str, body: str) -> str:
    """Text that is folded; the empty lines let it hold Markdown, which a summary cannot."""
    title = re.sub("`([^`]+)`", r"<code>\1</code>", title)
    return f"<details>\n<summary><b>{title}</b></summary>\n\n{body.strip()}\n\n</details>"
