"""The embedded text: its slices and sizes, that it is the same everywhere, and that it is what it says it is."""

import importlib.metadata
import os
import re
import socket
import subprocess
import sys
import sysconfig
import time
import unicodedata
from collections import defaultdict
from pathlib import Path

import pytest

from sae_core import pocket
from sae_core.errors import SaeCoreError

# A word of the script's Unicode names for each language that is not written in Latin letters.
SCRIPTS = {
    "arabic": "ARABIC", "persian": "ARABIC", "hebrew": "HEBREW", "russian": "CYRILLIC", "ukrainian": "CYRILLIC",
    "greek": "GREEK", "georgian": "GEORGIAN", "armenian": "ARMENIAN", "amharic": "ETHIOPIC", "hindi": "DEVANAGARI",
    "bengali": "BENGALI", "tamil": "TAMIL", "thai": "THAI", "chinese": "CJK", "japanese": "(CJK|HIRAGANA|KATAKANA)",
    "korean": "HANGUL",
}  # fmt: skip


# Prints the identity, then slice and digest of each document.
DIGESTS = """
import hashlib
from sae_core import pocket
print(pocket.identity())
for document in pocket.documents():
    print(document.slice, hashlib.sha256(document.text.encode()).hexdigest())
"""


@pytest.fixture(scope="module")
def documents():
    """Every document of the text, and the processor seconds that assembling it took."""
    start = time.process_time()
    listed = list(pocket.documents())
    return listed, time.process_time() - start


@pytest.fixture(scope="module")
def slices(documents):
    texts = defaultdict(list)
    for document in documents[0]:
        texts[document.slice].append(document.text)
    return {name: "\n\n".join(parts) for name, parts in texts.items()}


def test_holds_every_slice_in_sufficient_size(slices):
    sizes = {name: len(text.encode()) for name, text in slices.items()}
    named = {"prose", "code", "markup", "latex", "legal", "json", "base64", "hex", "dna", "arabic", "hebrew"}
    assert named < set(sizes) and len(set(sizes) - named) >= 10
    assert sum(sizes.values()) >= 12_000_000
    assert min(sizes.values()) >= 100_000, sizes
    assert sizes["code"] <= 0.35 * sum(sizes.values())


def test_is_assembled_in_time(documents):
    assert documents[1] < 20


def test_documents_are_short_clean_and_distinct(documents):
    texts = [document.text for document in documents[0]]
    assert max(map(len, texts)) <= 20_000
    assert all(text.strip() for text in texts)
    assert len({" ".join(text.split()) for text in texts}) == len(texts)
    assert not any(re.search(r"[\x00-\x08\x0b-\x1f\x7f\ufffe\ud800-\udfff]", text) for text in texts)


def test_same_text_in_every_process(tmp_path):
    """Another hash seed, another folder, another time: nothing of the machine's state may leak into the text."""
    places = [
        {"PYTHONHASHSEED": "12345", "LC_ALL": "C", "TZ": "Asia/Tokyo"},
        {"PYTHONHASHSEED": "54321", "LC_ALL": "C.UTF-8", "TZ": "America/Lima"},
    ]
    printed = []
    for number, place in enumerate(places):
        (tmp_path / str(number)).mkdir()
        environment = os.environ | {"PYTHONPATH": str(Path(pocket.__file__).parents[1])} | place
        run = {"cwd": tmp_path / str(number), "env": environment, "capture_output": True, "text": True, "check": True}
        printed.append(subprocess.run([sys.executable, "-c", DIGESTS], **run).stdout.splitlines())
    (identity, *there), (other_identity, *elsewhere) = printed
    assert identity == other_identity == pocket.identity()
    differing = sorted({line.split()[0] for line in set(there) ^ set(elsewhere)})  # slices
    assert differing == [] and there == elsewhere


@pytest.mark.parametrize("name", SCRIPTS)
def test_language_is_in_its_script(slices, name):
    letters = [character for character in slices[name] if character.isalpha()]
    native = [c for c in letters if re.search(rf"\b{SCRIPTS[name]}\b", unicodedata.name(c, ""))]
    assert len(native) >= 0.7 * len(letters)


@pytest.mark.parametrize("name", ["arabic", "hebrew"])
def test_written_paragraphs_are_in_the_text(slices, name):
    written = (pocket.PARAGRAPHS / f"{name}.txt").read_text(encoding="utf-8")
    assert len(written.encode()) >= 12_000
    assert all(piece.strip() in slices[name] for piece in written.split("\n\n\n"))


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("code", r"(?m)^(\s*(def|class|import|from|return|if|for)|#include|namespace)\b"),
        ("markup", r"(?m)</\w+>|\{[{%]|[{;]$|^(#|==|--)"),
        ("latex", r"\\\w+\{"),
        ("legal", r"(?i)licen[cs]e|copyright|warrant|permi"),
        ("json", r'[{\[][\s"]'),
        ("base64", r"[A-Za-z0-9+/_-]{60}"),
        ("hex", r"[0-9A-Fa-f]{32}|([0-9a-f]{4}[ :]){6}|(0x[0-9a-f]{2}, ){6}|[0-9a-f]{4}-[0-9a-f]{12}"),
        ("dna", r"[ACGT]{22}|([acgt]{10} ){3}"),
    ],
)
def test_slice_is_what_its_name_says(documents, name, pattern):
    """Nine documents of ten show the slice's pattern (a piece of a long file may not), and no Arabic one does."""
    texts = [document.text for document in documents[0] if document.slice == name]
    assert sum(bool(re.search(pattern, text)) for text in texts) >= 0.9 * len(texts)
    written = (pocket.PARAGRAPHS / "arabic.txt").read_text(encoding="utf-8")
    assert not re.search(pattern, written)


def test_generated_base64_decodes_and_dna_reads_as_codons(slices):
    import base64
    import textwrap

    certificate = re.search(r"-----BEGIN CERTIFICATE-----\n(.+?)\n-----END", slices["base64"], re.S)
    assert len(base64.b64decode(certificate[1])) > 100
    sequence = re.search(r"^>\S+ .*mRNA\n((?:[ACGT]+\n)+)", slices["dna"], re.M)[1].replace("\n", "")
    codons = textwrap.wrap(sequence, 3)
    assert codons[0] == "ATG" and codons[-1] in ("TAA", "TAG", "TGA") and not {"TAA", "TAG", "TGA"} & set(codons[:-1])


def test_nothing_of_this_machine_is_in_the_text(slices):
    private = {sysconfig.get_path("purelib"), sysconfig.get_path("scripts"), str(Path(pocket.__file__).parent)}
    private |= {str(Path.home() / folder) for folder in (".cache", ".local/lib", "venv")}
    if len(socket.gethostname()) >= 8:
        private.add(socket.gethostname())
    text = "\n".join(slices.values())
    assert not [name for name in sorted(private) if name in text]


def test_tests_and_records_of_installation_are_not_read(monkeypatch):
    listed = ["pkg/a.py", "pkg/tests/b.py", "pkg/test_c.py", "pkg-1.dist-info/direct_url.json"]
    listed += ["pkg-1.dist-info/sboms/a.json", "../../bin/run.py"]
    monkeypatch.setattr(importlib.metadata, "files", lambda name: map(importlib.metadata.PackagePath, listed))
    assert [str(file) for file in pocket._files.__wrapped__("pkg")] == ["pkg/a.py"]


def test_sizes_do_not_rest_on_optional_distributions(monkeypatch):
    monkeypatch.setattr(pocket, "OPTIONAL", ())
    pocket._versions.cache_clear()
    sizes = defaultdict(int)
    try:
        for document in pocket.documents():
            sizes[document.slice] += len(document.text.encode())
    finally:
        pocket._versions.cache_clear()
    assert sum(sizes.values()) >= 12_000_000 and min(sizes.values()) >= 100_000


@pytest.mark.parametrize("missing", pocket.REQUIRED)
def test_missing_distribution_is_one_clear_line(monkeypatch, missing):
    version = importlib.metadata.version

    def absent(name: str) -> str:
        if name == missing:
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    pocket._versions.cache_clear()
    try:
        for attempt in (pocket.identity, lambda: next(pocket.documents())):
            with pytest.raises(SaeCoreError, match=rf'{missing}.*pip install "sae-core\[text\]"') as error:
                attempt()
            assert "\n" not in str(error.value)
    finally:
        pocket._versions.cache_clear()


def test_identity_follows_versions_and_paragraphs(monkeypatch, tmp_path):
    before = pocket.identity()
    assert re.fullmatch(r"[0-9a-f]{64}", before) and before == pocket.identity()
    (tmp_path / "arabic.txt").write_text("سلام", encoding="utf-8")
    monkeypatch.setattr(pocket, "PARAGRAPHS", tmp_path)
    changed = pocket.identity()
    monkeypatch.setattr(pocket, "_versions", lambda: {"babel": "0"})
    assert len({before, changed, pocket.identity()}) == 3


def test_long_text_is_cut_at_lines_and_nothing_is_lost():
    text = "short\n" + "x" * 50_001 + "\n" + "a line of text\n" * 3000
    pieces = list(pocket._pieces(text))
    assert "".join(pieces) == text and max(map(len, pieces)) <= pocket.MAX_CHARACTERS
    assert sum(not piece.endswith("\n") for piece in pieces) <= 3  # only the long line is cut inside
