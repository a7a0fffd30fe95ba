"""The language model: a one-layer ReLU transformer with the sizes of *Towards Monosemanticity*.

It is an ordinary Hugging Face GPT-2 with one block (paper, section "Transformer Training"): residual width 128, 512
ReLU neurons, learned positions, an untied unembedding. The paper does not state the number of heads, the context length
or the vocabulary; ours are 4, 256 and a byte-level BPE. On disk it is a Hugging Face folder (`config.json`,
`model.safetensors`, `tokenizer.json`), so anything that opens GPT-2 opens it, TransformerLens among them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from . import bundle
from .errors import SaeCoreError
from .tokens import END_OF_TEXT, load_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import GPT2LMHeadModel

# The module whose input is the MLP's 512 post-ReLU activations; TransformerLens calls them blocks.0.mlp.hook_post.
MLP_OUT = "transformer.h.0.mlp.c_proj"


@dataclass(frozen=True)
class LanguageModel:
    """A language model with its tokeniser. `name` is that of its folder, for the bundled ones a letter."""

    name: str
    network: GPT2LMHeadModel
    tokenizer: Tokenizer
    folder: Path | None = None

    @property
    def n_ctx(self) -> int:
        return self.network.config.n_positions

    @property
    def recipe(self) -> dict:
        """What the model was trained on and how (`training.json` beside its weights), {} where that is unknown."""
        path = self.folder / "training.json" if self.folder else None
        return json.loads(path.read_text()) if path and path.exists() else {}

    def to_ids(self, text: str) -> Tensor:
        """Token ids [1, n] of a text, with the beginning-of-sequence token in front."""
        return torch.tensor([[0, *self.tokenizer.encode(text).ids]])

    @torch.no_grad()
    def logits(self, ids: Tensor) -> Tensor:
        """Next-token logits [batch, position, vocab] in fp32."""
        return self.network(ids.to(self.network.device)).logits.float()

    def bridge(self):
        """The same weights behind TransformerLens' hooks (a TransformerBridge), for chapters that patch and read."""
        if self.folder is None:
            raise SaeCoreError("bridge: save the model to a folder first; TransformerLens opens it from there")
        from transformer_lens.model_bridge import TransformerBridge

        with _no_progress_bar():
            return TransformerBridge.boot_transformers(str(self.folder), device="cpu", dtype=torch.float32)


def build(vocab_size: int, n_ctx: int = 256, d_model: int = 128, d_mlp: int = 512, n_heads: int = 4) -> GPT2LMHeadModel:
    """A freshly initialised one-layer model; seed torch first to choose which."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=vocab_size,
        n_positions=n_ctx,
        n_embd=d_model,
        n_inner=d_mlp,
        n_layer=1,
        n_head=n_heads,
        activation_function="relu",
        tie_word_embeddings=False,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
        use_cache=False,
    )
    return GPT2LMHeadModel(config)


def save_model(model: LanguageModel, folder: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write a Hugging Face folder that transformers' Auto classes and TransformerLens open without our code."""
    from transformers import PreTrainedTokenizerFast

    copy = type(model.network)(model.network.config).to(dtype)
    copy.load_state_dict(model.network.state_dict())
    wrapper = PreTrainedTokenizerFast(
        tokenizer_object=model.tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT, unk_token=END_OF_TEXT
    )
    try:  # each file is whole before it gets its name; config.json, by which a model is found, comes last
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".", suffix=".partial", dir=folder) as whole:
            copy.save_pretrained(whole)
            wrapper.save_pretrained(whole)
            for path in sorted(Path(whole).iterdir(), key=lambda path: path.name == "config.json"):
                os.replace(path, folder / path.name)
    except (OSError, SafetensorError) as error:
        raise SaeCoreError(f"{folder / 'model.safetensors'}: cannot be written ({error})") from None


def load_model(name: str = "A", device: str | torch.device = "cpu") -> LanguageModel:
    """Open a language model in fp32, ready for evaluation.

    name: a bundled model (`A`), a folder, or `hf:owner/name` on the Hugging Face hub.
    Raises SaeCoreError for an unknown name (and lists the known ones), a damaged file, an architecture other than
    GPT-2's with one block, or a tokeniser whose token 0 is not <|endoftext|>, with which every context begins.
    """
    from transformers import GPT2LMHeadModel

    if name.startswith("hf:"):
        folder = bundle.download(name.removeprefix("hf:"))
    else:
        folder = bundle.find(name, "config.json")
    try:
        config = json.loads((folder / "config.json").read_text())
        if config.get("model_type") != "gpt2" or config.get("n_layer") != 1:
            raise SaeCoreError(f"{folder}: not a one-layer GPT-2 checkpoint, which is what load_model opens")
        with _no_progress_bar():
            network = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32)
        tokenizer = load_tokenizer(folder / "tokenizer.json")
        if tokenizer.id_to_token(0) != END_OF_TEXT:
            raise SaeCoreError(f"{folder}: token 0 is {tokenizer.id_to_token(0)!r} and has to be {END_OF_TEXT!r}")
    except SaeCoreError:
        raise
    except Exception as error:  # transformers, safetensors and tokenizers each raise their own
        raise SaeCoreError(f"{folder}: cannot be opened as a model ({str(error).strip().splitlines()[0]})") from None
    return LanguageModel(folder.name, network.to(device).eval(), tokenizer, folder)


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Within this context transformers shows none: for a file of 2 MB, and a widget on every page of the book."""
    from transformers.utils import logging

    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()


def shuffled_control(model: LanguageModel, seed: int = 0) -> LanguageModel:
    """The paper's random control: a copy whose weight matrices have their entries shuffled (paper, footnote 28).

    Each matrix keeps the distribution of its weights and loses all structure; vectors (biases, LayerNorms) stay.
    """
    import copy

    network = copy.deepcopy(model.network)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 2:
                order = torch.randperm(parameter.numel(), generator=generator)
                parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return LanguageModel("random", network, model.tokenizer)


def token_losses(network: nn.Module, ids: Tensor) -> Tensor:
    """Cross-entropy [batch, position - 1] in nats of each token given those before it in its context."""
    logits = network(ids).logits[:, :-1].float()
    return nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none").view(len(ids), -1)


def to_tensor(ids: np.ndarray, device: str | torch.device = "cpu") -> Tensor:
    """Rows of `Contexts.ids` as the int64 tensor that torch's embeddings take."""
    return torch.from_numpy(np.asarray(ids).astype(np.int64)).to(device)
