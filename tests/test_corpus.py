"""Text: its sources, the held-out split, the mixture's weights, and what is said about text that cannot be used."""

import itertools
import json
import lzma
import sys
from types import SimpleNamespace

import pytest

from sae_core import pocket
from sae_core.corpus import Document, is_validation, open_corpus
from sae_core.errors import SaeCoreError
from sae_core.files import write_atomically


@pytest.fixture
def folder(tmp_path, mini_pile):
    return mini_pile(tmp_path / "text", {"prose": ["One.", "Two, é."], "code": ["x = 1\n"]})


def read(folder, **options):
    return list(open_corpus(folder).documents(**options))


# --- sources --------------------------------------------------------------------------------------------------------


def test_a_manifest_folder_gives_its_documents_in_order_with_their_slices(folder):
    assert read(folder) == [Document("One.", "prose"), Document("Two, é.", "prose"), Document("x = 1\n", "code")]


def test_a_folder_of_text_files_takes_slices_from_its_subfolders(tmp_path):
    (tmp_path / "poems").mkdir()
    (tmp_path / "poems" / "one.txt").write_text("Rose\r\nred", newline="")
    (tmp_path / "top.txt").write_text("top")
    assert set(read(tmp_path)) == {Document("Rose\nred", "poems"), Document("top", tmp_path.name)}


def test_no_name_means_the_corpus_of_the_environment_or_else_the_pocket(folder, monkeypatch):
    monkeypatch.setenv("SAE_CORE_CORPUS", str(folder))
    assert open_corpus().name == "mini-pile"
    assert list(open_corpus("mini-pile").documents()) == read(folder)
    monkeypatch.delenv("SAE_CORE_CORPUS")
    assert open_corpus().name == "pocket"


def test_the_pocket_is_assembled_once_and_then_read_from_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SAE_CORE_CACHE", str(tmp_path))
    expected = [Document("a\u2028b\n", "prose"), Document("c", "code")]
    monkeypatch.setattr(pocket, "documents", lambda: iter(expected))
    assert list(open_corpus("pocket").documents()) == expected
    monkeypatch.setattr(pocket, "documents", lambda: pytest.fail("assembled again"))
    assert list(open_corpus("pocket").documents()) == expected


def test_an_assembly_that_fails_leaves_nothing_in_the_cache(monkeypatch, tmp_path):
    def broken():
        yield Document("a", "prose")
        raise KeyboardInterrupt

    monkeypatch.setenv("SAE_CORE_CACHE", str(tmp_path))
    monkeypatch.setattr(pocket, "documents", broken)
    with pytest.raises(KeyboardInterrupt):
        list(open_corpus("pocket").documents())
    assert list(tmp_path.iterdir()) == []


def test_installed_code_gives_the_same_source_files_every_time():
    corpus = open_corpus("installed-code")
    first = list(itertools.islice(corpus.documents(), 20))
    assert len(first) == 20 and {document.slice for document in first} == {"code"}
    assert list(itertools.islice(open_corpus("installed-code").documents(), 20)) == first
    assert all(200 <= len(document.text) <= 20_000 for document in first)


def test_a_hugging_face_dataset_is_streamed_with_its_slices(monkeypatch):
    asked = []
    rows = [{"text": "a", "meta": {"pile_set_name": "Github"}}, {"text": "b"}, {"text": ""}]
    library = SimpleNamespace(load_dataset=lambda *args, **options: asked.append((args, options)) or rows)
    monkeypatch.setitem(sys.modules, "datasets", library)
    assert list(open_corpus("hf:owner/set#part").documents()) == [Document("a", "Github"), Document("b", "owner/set")]
    assert asked == [(("owner/set", "part"), {"split": "train", "streaming": True})]


def test_identity_changes_with_the_text(tmp_path, mini_pile):
    one = open_corpus(mini_pile(tmp_path / "text", {"prose": ["One."]})).identity
    assert open_corpus(tmp_path / "text").identity == one
    mini_pile(tmp_path / "text", {"prose": ["One, and a good deal more of the same."]})
    assert open_corpus(tmp_path / "text").identity != one


def test_write_atomically_keeps_the_old_file_when_writing_fails(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, lambda file: file.write(b"old"))

    def fail(file):
        file.write(b"half of the n")
        raise OSError("disk full")

    with pytest.raises(SaeCoreError, match=r"file: cannot be written \(disk full\)"):
        write_atomically(path, fail)
    assert [p.name for p in tmp_path.iterdir()] == ["file"] and path.read_bytes() == b"old"


# --- the split and the weights --------------------------------------------------------------------------------------


def test_five_per_cent_of_all_texts_are_held_out():
    texts = [f"document {number}" for number in range(20_000)]
    assert sum(map(is_validation, texts)) / len(texts) == pytest.approx(0.05, abs=0.005)


def test_which_texts_are_held_out_never_changes():
    # Weights are bundled with the promise that these texts were not trained on, so the hash must stay what it is.
    assert [n for n in range(100) if is_validation(f"document {n}")] == [57, 58, 80, 90, 96]


def test_train_and_validation_share_the_documents_between_them(small_text):
    train, validation = read(small_text, split="train"), read(small_text, split="validation")
    assert len(train) + len(validation) == len(read(small_text)) and validation
    assert not set(train) & set(validation)
    assert all(is_validation(document.text) for document in validation)


def test_an_unknown_split_is_refused(folder):
    with pytest.raises(SaeCoreError, match="'test'.*all, train, validation"):
        read(folder, split="test")


def test_weights_keep_that_share_of_each_slice_and_drop_unnamed_slices(small_text):
    kept = read(small_text, weights={"words": 0.5})
    assert {document.slice for document in kept} == {"words"}
    assert len(kept) == pytest.approx(150, abs=30)
    assert [d for d in read(small_text, weights={"words": 1.0, "digits": 1.0})] == read(small_text)


def test_a_larger_share_contains_the_smaller_one(small_text):
    shares = [set(read(small_text, weights={"words": share})) for share in (0.1, 0.3, 0.9)]
    assert shares[0] < shares[1] < shares[2]


def test_weights_do_not_disturb_the_split(small_text):
    validation = read(small_text, split="validation", weights={"words": 0.9})
    assert validation and set(validation) < set(read(small_text, split="validation"))


def test_a_weight_for_an_unknown_slice_is_refused(small_text):
    with pytest.raises(SaeCoreError, match="no slice music"):
        read(small_text, weights={"words": 1.0, "music": 1.0})


# --- text that cannot be used ---------------------------------------------------------------------------------------


def line_of_prose(folder, line: bytes):
    with lzma.open(folder / "prose.jsonl.xz", "wb") as file:
        file.write(b'{"text": "first"}\n' + line + b"\n")


def truncate(folder):
    path = folder / "prose.jsonl.xz"
    text = "".join(json.dumps({"text": str(n) * 50}) + "\n" for n in range(5000))
    path.write_bytes(lzma.compress(text.encode())[:-40])


def empty(folder):
    (folder / "prose.jsonl.xz").write_bytes(lzma.compress(b""))


def not_xz(folder):
    (folder / "prose.jsonl.xz").write_bytes(b"plain text")


def list_missing_file(folder):
    (folder / "code.jsonl.xz").unlink()


def manifest(content: str):
    return lambda folder: (folder / "MANIFEST.json").write_text(content)


DAMAGES = {
    "truncated xz": (truncate, r"prose\.jsonl\.xz, after line \d+: damaged or truncated xz"),
    "not xz at all": (not_xz, r"prose\.jsonl\.xz, after line 0: damaged or truncated xz"),
    "invalid JSON": (lambda f: line_of_prose(f, b'{"text": "sec'), r"prose\.jsonl\.xz, line 2: not a JSON object"),
    "no text": (lambda f: line_of_prose(f, b'{"words": 1}'), r"prose\.jsonl\.xz, line 2: .*with a `text`"),
    "text is a number": (lambda f: line_of_prose(f, b'{"text": 1}'), r"prose\.jsonl\.xz, line 2: .*not a string"),
    "a list": (lambda f: line_of_prose(f, b"[1]"), r"prose\.jsonl\.xz, line 2: not a JSON object"),
    "not UTF-8": (lambda f: line_of_prose(f, b'{"text": "\xff"}'), r"prose\.jsonl\.xz, line 2: not UTF-8"),
    "half a character": (lambda f: line_of_prose(f, b'{"text": "\\ud83d"}'), r"prose\.jsonl\.xz, line 2: not UTF-8"),
    "empty slice": (empty, r"prose\.jsonl\.xz: holds no document"),
    "manifest lists a missing file": (list_missing_file, r"code\.jsonl\.xz: missing, though MANIFEST\.json lists it"),
    "missing manifest": (lambda f: (f / "MANIFEST.json").unlink(), r"MANIFEST\.json: missing"),
    "manifest is not JSON": (manifest("{"), r"MANIFEST\.json: not a manifest"),
    "manifest without slices": (manifest("{}"), r"MANIFEST\.json: not a manifest"),
    "manifest of nothing": (manifest('{"slices": []}'), r"MANIFEST\.json: lists no slices"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_damaged_text_is_named_with_its_file_and_line(case, folder):
    damage, message = DAMAGES[case]
    damage(folder)
    with pytest.raises(SaeCoreError, match=message) as error:
        read(folder)
    assert "\n" not in str(error.value) and str(folder) in str(error.value)


def test_a_text_file_that_is_not_utf_8_is_named_with_its_line(tmp_path):
    (tmp_path / "latin.txt").write_bytes("one\ntwo\nthr\xe9e".encode("latin-1"))
    with pytest.raises(SaeCoreError, match=r"latin\.txt, line 3: not UTF-8"):
        read(tmp_path)


def test_an_empty_text_file_is_named(tmp_path):
    (tmp_path / "blank.txt").write_text(" \n")
    with pytest.raises(SaeCoreError, match=r"blank\.txt: empty"):
        read(tmp_path)


def test_a_folder_without_text_is_refused(tmp_path):
    with pytest.raises(SaeCoreError, match=r"neither a MANIFEST\.json nor a \*\.txt file"):
        open_corpus(tmp_path)


def test_an_unknown_name_is_answered_with_the_possible_ones():
    with pytest.raises(SaeCoreError, match="no corpus 'pile'.*pocket.*mini-pile.*hf:owner/dataset"):
        open_corpus("pile")


def test_mini_pile_without_its_folder_says_which_variable_to_set(monkeypatch, tmp_path):
    monkeypatch.delenv("SAE_CORE_CORPUS", raising=False)
    with pytest.raises(SaeCoreError, match="set SAE_CORE_CORPUS"):
        open_corpus("mini-pile")
    monkeypatch.setenv("SAE_CORE_CORPUS", str(tmp_path / "nowhere"))
    with pytest.raises(SaeCoreError, match="nowhere: no such folder"):
        open_corpus("mini-pile")


def unreachable(*_, **__):
    raise ConnectionError("no route to the hub\nand a long story")


@pytest.mark.parametrize(
    ("library", "message"),
    [
        (None, "needs the datasets library"),
        (SimpleNamespace(load_dataset=unreachable), r"hf:owner/set: cannot be opened \(no route to the hub\)"),
        (SimpleNamespace(load_dataset=lambda *_, **__: [{"content": "a"}]), "rows have no `text`, only content"),
    ],
)
def test_a_hugging_face_dataset_that_cannot_be_used_is_named(library, message, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", library)
    with pytest.raises(SaeCoreError, match=message) as error:
        list(open_corpus("hf:owner/set").documents())
    assert "\n" not in str(error.value)
