"""What the tests share: a cache folder of their own, a small text, and a small untrained language model."""

import json
import lzma
import os
import random

import pytest
import torch

from sae_core.corpus import open_corpus
from sae_core.language_model import LanguageModel, build, load_model, save_model
from sae_core.tokens import train_tokenizer

WORDS = "the a small large river stone bird of under over sings falls and then never again quickly bright cold".split()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """No test reads or fills the cache of the user, or finds weights of theirs; each uses one thread.

    The workers share a cache: chapters that run as notebooks, and again for the book, count the same text.
    """
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "cache"
    torch.set_num_threads(1)  # the models here are too small for more, and several tests run at a time
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAE_CORE_CACHE", str(folder))
        patch.delenv("SAE_CORE_HOME", raising=False)
        yield


def write_folder(folder, slices):
    """Write {slice: texts} as a folder in the form of mini-pile."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = [{"slice": name, "file": f"{name}.jsonl.xz"} for name in slices]
    (folder / "MANIFEST.json").write_text(json.dumps({"slices": entries}))
    for name, texts in slices.items():
        with lzma.open(folder / f"{name}.jsonl.xz", "wt", encoding="utf-8", preset=0) as file:
            file.writelines(json.dumps({"text": text}) + "\n" for text in texts)
    return folder


@pytest.fixture(scope="session")
def mini_pile():
    """The function that writes {slice: texts} as a folder in the form of mini-pile."""
    return write_folder


@pytest.fixture(scope="session")
def small_text(tmp_path_factory):
    """A folder of 400 generated documents in two slices, `words` and `digits`."""
    draw = random.Random(0)
    words = [" ".join(draw.choices(WORDS, k=40)) for _ in range(300)]
    digits = [" ".join(str(draw.randrange(1000)) for _ in range(30)) for _ in range(100)]
    return write_folder(tmp_path_factory.mktemp("small_text"), {"words": words, "digits": digits})


@pytest.fixture(scope="session")
def tokenizer(small_text):
    return train_tokenizer(open_corpus(small_text).documents(), 320)


@pytest.fixture(scope="session")
def tiny(tokenizer, tmp_path_factory):
    """An untrained model (32 positions, width 16, 64 neurons), saved to a folder and loaded from there."""
    torch.manual_seed(0)
    network = build(320, n_ctx=32, d_model=16, d_mlp=64, n_heads=2)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):  # GPT-2 starts them at zero, which would hide a bias that is left out
            torch.nn.init.normal_(parameter, std=0.1)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model(LanguageModel("tiny", network, tokenizer), folder)
    return load_model(str(folder))
