"""The sparse autoencoder of *Towards Monosemanticity*: the model alone, and its files."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from . import bundle
from .errors import SaeCoreError
from .language_model import MLP_OUT

NAMES = ("W_enc", "b_enc", "W_dec", "b_dec")

# torch warns once that compressed sparse row matrices are in beta; on a page of the book that is noise.
warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")


class Output(NamedTuple):
    """What a forward pass returns."""

    reconstruction: Tensor  # [..., d_in]
    codes: Tensor  # [..., d_sae], the feature activations, zero or positive


class SparseAutoencoder(nn.Module):
    """A dictionary of `d_sae` features for activations of width `d_in`.

        f = ReLU((x - b_dec) W_enc + b_enc)        the codes: how strongly each feature is present
        x̂ = f W_dec + b_dec                        a sum of feature directions, the rows of W_dec

    b_dec serves twice: it is subtracted before the encoder and added after the decoder (the paper's tied pre-encoder
    bias; with tied_bias=False, as in the April 2024 recipe, it is only added). Encoder and decoder are not tied to each
    other. Rows of W_dec have unit norm.
    Source: paper, "Sparse Autoencoder Setup" and appendix "Advice for Training Sparse Autoencoders".

    Parameters: W_enc [d_in, d_sae], b_enc [d_sae], W_dec [d_sae, d_in], b_dec [d_in].
    """

    def __init__(self, d_in: int, d_sae: int, tied_bias: bool = True, generator: torch.Generator | None = None):
        super().__init__()
        self.tied_bias = tied_bias
        # Both matrices keep a feature's weights together in memory, [d_sae, d_in]; W_enc is that matrix transposed.
        bound = 1 / math.sqrt(d_in)  # PyTorch's Kaiming-uniform default for a layer with d_in inputs
        encoder = torch.empty(d_sae, d_in).uniform_(-bound, bound, generator=generator)
        decoder = torch.empty(d_sae, d_in).uniform_(-bound, bound, generator=generator)
        self.W_enc = nn.Parameter(encoder.T)
        self.b_enc = nn.Parameter(torch.zeros(d_sae))
        self.W_dec = nn.Parameter(decoder / decoder.norm(dim=1, keepdim=True))
        self.b_dec = nn.Parameter(torch.zeros(d_in))

    @property
    def d_in(self) -> int:
        return len(self.b_dec)

    @property
    def d_sae(self) -> int:
        return len(self.b_enc)

    def folded_bias(self) -> Tensor:
        """b_enc - b_dec W_enc [d_sae]: (x - b_dec) W_enc + b_enc = x W_enc + folded_bias, with one product less."""
        return self.b_enc - self.b_dec @ self.W_enc if self.tied_bias else self.b_enc

    def encode(self, x: Tensor) -> Tensor:
        """Codes [..., d_sae] of activations x [..., d_in]."""
        return torch.relu(x @ self.W_enc + self.folded_bias())

    @torch.no_grad()
    def encode_sparse(self, x: Tensor) -> Tensor:
        """Codes of x [batch, d_in] as a compressed sparse row matrix [batch, d_sae]: `encode`, several times faster.

        A bf16 product decides which codes can be positive, and those are computed in fp32. The only codes that can be
        missed are smaller than the rounding of that product, less than 2^-6 ‖x‖ ‖w‖ in the worst case.
        """
        bias = self.folded_bias()
        _, active = self.preactivations(x, bias, bf16=True)
        return self.codes_at(x, active, bias)

    def preactivations(self, x: Tensor, bias: Tensor, bf16: bool) -> tuple[Tensor, Tensor]:
        """x W_enc [batch, d_sae], and which entries can be positive once the bias [d_sae] is added (bool, same shape).

        In bf16 the comparison leaves room for the typical rounding error of the product: a few times
        2^-8 ‖x‖ ‖w‖ / √d_in from rounding the factors, 2^-8 |bias| from rounding a result near the threshold. Room for
        the worst case, √d_in times as much, would let a good part of all codes through.
        """
        if not bf16:
            pre = x @ self.W_enc
            return pre, pre > -bias
        scale = x.norm(dim=1).max() / math.sqrt(self.d_in)
        room = 2**-8 * (4 * scale * self.W_enc.norm(dim=0) + bias.abs())
        pre = x.bfloat16() @ self.W_enc.bfloat16()
        return pre, pre > -(bias + room)

    def codes_at(self, x: Tensor, active: Tensor, bias: Tensor) -> Tensor:
        """The positive codes of x [batch, d_in] among the entries `active`, as a compressed sparse row matrix."""
        example, feature = active.nonzero(as_tuple=True)
        places = _csr(example, feature, x.new_zeros(len(feature)), active.shape)
        values = torch.sparse.sampled_addmm(places, x, self.W_enc).values().add_(bias[feature])
        positive = values > 0
        return _csr(example[positive], feature[positive], values[positive], active.shape)

    def decode(self, codes: Tensor) -> Tensor:
        """Reconstruction [..., d_in] from codes [..., d_sae]."""
        return codes @ self.W_dec + self.b_dec

    def forward(self, x: Tensor) -> Output:
        codes = self.encode(x)
        return Output(self.decode(codes), codes)

    @torch.no_grad()
    def fold_input_scale(self, scale: float) -> None:
        """Turn a dictionary of inputs `scale * x` into the same dictionary of x, in place.

        The model is homogeneous: dividing both biases by the scale divides codes and reconstructions by it, too.
        """
        self.b_enc /= scale
        self.b_dec /= scale

    @torch.no_grad()
    def fold_decoder_norm(self) -> None:
        """Rescale every feature so that its decoder row has unit norm, in place; reconstructions stay the same."""
        norm = self.W_dec.norm(dim=1).clamp_min(1e-12)
        self.W_dec /= norm[:, None]
        self.W_enc *= norm
        self.b_enc *= norm


def csr(dense: Tensor) -> Tensor:
    """The non-zero entries of a matrix [rows, columns] as a compressed sparse row matrix."""
    row, column = dense.nonzero(as_tuple=True)
    return _csr(row, column, dense[row, column], dense.shape)


def _csr(row: Tensor, column: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A compressed sparse row matrix from entries that are sorted by row."""
    starts = nn.functional.pad(torch.bincount(row, minlength=shape[0]).cumsum(0), (1, 0))
    return torch.sparse_csr_tensor(starts, column, values, shape, check_invariants=False)


def save_dictionary(sae: SparseAutoencoder, folder: Path, dtype: torch.dtype = torch.bfloat16, **metadata) -> None:
    """Write a dictionary in SAELens' layout: `cfg.json` and `sae_weights.safetensors`.

    metadata: further keys of cfg.json's `metadata`, such as the model and the module that the dictionary belongs to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: getattr(sae, name).detach().to(dtype).contiguous() for name in NAMES}
    save_file(tensors, folder / "sae_weights.safetensors")
    config = {
        "architecture": "standard",
        "d_in": sae.d_in,
        "d_sae": sae.d_sae,
        "dtype": str(dtype).removeprefix("torch."),
        "device": "cpu",
        "apply_b_dec_to_input": sae.tied_bias,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"hook_name": "blocks.0.mlp.hook_post", "module": MLP_OUT, **metadata},
    }
    (folder / "cfg.json").write_text(json.dumps(config, indent=1) + "\n")


def load_dictionary(name: str = "A/1", device: str | torch.device = "cpu") -> SparseAutoencoder:
    """Open a dictionary in fp32.

    name: a bundled dictionary (`A/1`), a folder, or `hf:owner/repository/folder` on the Hugging Face hub.
    Raises SaeCoreError for an unknown name (and lists the known ones), a damaged file, or a file whose tensors do not
    fit its cfg.json.
    """
    if name.startswith("hf:"):
        owner, _, path = name.removeprefix("hf:").partition("/")
        repository, _, folder_name = path.partition("/")
        folder = bundle.download(f"{owner}/{repository}") / folder_name
    else:
        folder = bundle.find(name, "cfg.json")
    try:
        config = json.loads((folder / "cfg.json").read_text())
        tensors = load_file(folder / "sae_weights.safetensors")
        d_in, d_sae = config["d_in"], config["d_sae"]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise SaeCoreError(f"{folder}: cannot be opened as a dictionary ({error})") from None
    if config.get("architecture", "standard") != "standard":
        raise SaeCoreError(f"{folder}: architecture {config['architecture']!r}; only `standard`, ReLU, can be read")
    shapes = dict(zip(NAMES, [(d_in, d_sae), (d_sae,), (d_sae, d_in), (d_in,)], strict=True))
    for tensor_name, shape in shapes.items():
        found = tuple(tensors[tensor_name].shape) if tensor_name in tensors else "missing"
        if found != shape:
            raise SaeCoreError(f"{folder}: {tensor_name} is {found}, cfg.json asks for {shape}")
    sae = SparseAutoencoder(d_in, d_sae, tied_bias=config.get("apply_b_dec_to_input", True))
    sae.load_state_dict({tensor_name: tensors[tensor_name].float() for tensor_name in NAMES})
    return sae.to(device).eval()


def dictionary_metadata(name: str) -> dict:
    """The `metadata` of a dictionary's cfg.json: its recipe, its text and its metrics."""
    return json.loads((bundle.find(name, "cfg.json") / "cfg.json").read_text()).get("metadata", {})
