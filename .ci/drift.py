"""Prints, as Markdown, what the installed versions change: those that constraints.txt does not name, and what fails.

    .venv/bin/python .ci/drift.py tests.xml

tests.xml is pytest's --junitxml; without it, nothing ran.
"""

import sys
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree

from packaging.requirements import Requirement

CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"


def changes(constraints: str) -> list[tuple[str, str, str]]:
    """Name, pinned and installed version of every package that is installed in another version than the pinned one."""
    changed = []
    for line in constraints.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        pinned = Requirement(line)
        if pinned.marker and not pinned.marker.evaluate():
            continue
        try:
            installed = metadata.version(pinned.name)
        except metadata.PackageNotFoundError:
            installed = "not installed"
        if not pinned.specifier.contains(installed.split("+")[0], prereleases=True):
            changed.append((pinned.name, str(pinned.specifier).removeprefix("=="), installed))
    return changed


def failures(report: Path) -> list[str]:
    """The tests that failed, with the first line of why."""
    if not report.is_file():
        return ["No test ran: the installation failed, or the linter did. The log says which."]
    cases = ElementTree.parse(report).iter("testcase")
    return [
        ": ".join([f"`{case.get('classname')}::{case.get('name')}`", *problem.get("message", "").splitlines()[:1]])
        for case in cases
        for problem in (*case.findall("failure"), *case.findall("error"))
    ]


def main(report: Path) -> None:
    failed = failures(report)
    print("## Failures\n")
    print("\n".join(f"- {line}" for line in failed) or "None.")
    print("\n## Versions that differ from constraints.txt\n\n| package | pinned | newest |\n|---|---|---|")
    for row in changes(CONSTRAINTS.read_text(encoding="utf-8")):
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
