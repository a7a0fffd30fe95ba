"""The sparse autoencoder of *Towards Monosemanticity*: the model alone, and its files."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from . import bundle
from .errors import SaeCoreError
from .files import write_atomically, write_text_atomically
from .objective import Loss, ghost_loss, mean_squared_norm

ROWS = 512  # examples whose codes are computed at a time on a CPU

NAMES = ("W_enc", "b_enc", "W_dec", "b_dec")

# torch warns once that compressed sparse row matrices are in beta; on a page of the book that is noise.
warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")


@cache
def bf16_is_fast() -> bool:
    """Whether this CPU multiplies bf16 faster than fp32. Its kind decides, so that a run is the same every time.

    AMX doubles the rate, and so does AVX-512 BF16 on AMD's processors. Intel's without AMX have that instruction at the
    rate of fp32 (measured: the product of a step took 1.8 times as long as in fp32); others emulate it.
    """
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(known.get("amx_bf16") or (known.get("avx512_bf16") and "Intel" not in known.get("cpu_name", "")))


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
    `variants` holds dictionaries with other codes and losses.
    """

    architecture = "standard"  # its name in SAELens' cfg.json
    names = NAMES  # its tensors
    code_units = ("b_enc",)  # those of them, all [d_sae], that are measured in the units of their feature's code

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
        return len(self.W_dec)

    def folded_bias(self) -> Tensor:
        """b_enc - b_dec W_enc [d_sae]: (x - b_dec) W_enc + b_enc = x W_enc + folded_bias, with one product less."""
        return self.b_enc - self.b_dec @ self.W_enc if self.tied_bias else self.b_enc

    def check_width(self, x: Tensor) -> None:
        """Raise SaeCoreError where x is not [..., d_in]."""
        if x.shape[-1] != self.d_in:
            raise SaeCoreError(
                f"a dictionary for width {self.d_in} does not fit width {x.shape[-1]}: it is of another model or module"
            )

    def encode(self, x: Tensor) -> Tensor:
        """Codes [..., d_sae] of activations x [..., d_in]."""
        self.check_width(x)
        return torch.relu(x @ self.W_enc + self.folded_bias())

    @torch.no_grad()
    def encode_sparse(self, x: Tensor) -> Tensor:
        """Codes of x [batch, d_in] as a compressed sparse row matrix [batch, d_sae]: `encode`, several times faster.

        Where bf16 is faster, a product in it decides which codes can be positive, and those are computed in fp32. The
        only codes that can be missed are smaller than the rounding of that product, less than 2^-6 ‖x‖ ‖w‖ in the
        worst case.
        """
        self.check_width(x)
        return self.sparse_codes(x, self.folded_bias(), bf16=x.is_cuda or bf16_is_fast())

    def sparse_codes(self, x: Tensor, bias: Tensor, bf16: bool) -> Tensor:
        """ReLU(x W_enc + bias) of x [batch, d_in] as a compressed sparse row matrix [batch, d_sae].

        bf16: find the positive ones by a product in bf16. The threshold leaves room for its typical error, a few times
            2^-8 ‖x‖ ‖w‖ / √d_in. Room for the worst case, √d_in times as much, would let a good part of all codes
            through. Rounding the product and the threshold loses nothing: it never reverses an order.
        """
        places, values = (self._positive_codes_by_bf16 if bf16 else self._positive_codes)(x, bias)
        positive = _nonzero(values > 0)
        places, values = places.index_select(0, positive), values.index_select(0, positive)
        return _csr(places // self.d_sae, places % self.d_sae, values, (len(x), self.d_sae))

    def _positive_codes(self, x: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Flat places [n] in [batch, d_sae], in order, of all positive codes, and these codes [n]."""
        places, values = [], []
        for first, products in self._products(x, self.W_enc):
            codes = products.add_(bias).relu_().view(-1)
            found = _nonzero(codes)
            places.append(found + first)
            values.append(codes.index_select(0, found))
        return torch.cat(places), torch.cat(values)

    def _positive_codes_by_bf16(self, x: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """`_positive_codes` by a product in bf16. Each is computed again in fp32, where some are not positive."""
        scale = x.norm(dim=1).max() / math.sqrt(self.d_in)
        threshold = (-bias - 4 * 2**-8 * scale * self.W_enc.norm(dim=0)).bfloat16()
        parts = self._products(x.bfloat16(), self.W_enc.bfloat16())
        places = torch.cat([_nonzero(products.ge_(threshold)) + first for first, products in parts])
        feature = places % self.d_sae
        entries = _csr(places // self.d_sae, feature, x.new_zeros(len(places)), (len(x), self.d_sae))
        return places, torch.sparse.sampled_addmm(entries, x, self.W_enc).values().add_(bias[feature])

    def _products(self, x: Tensor, W_enc: Tensor) -> Iterator[tuple[int, Tensor]]:
        """x W_enc for one part of the batch at a time, [rows, d_sae], and the flat position where the part begins.

        Parts are small (`ROWS`) and take the same memory again and again, much of it in the processor's cache. Fresh
        memory for the whole batch costs half as much time as the product itself.
        """
        rows = max(1, len(x)) if x.is_cuda else ROWS
        room = W_enc.new_empty(min(rows, len(x)), self.d_sae)
        for start, part in zip(range(0, len(x), rows), x.split(rows), strict=True):
            yield start * self.d_sae, torch.mm(part, W_enc, out=room[: len(part)])

    def decode(self, codes: Tensor) -> Tensor:
        """Reconstruction [..., d_in] from codes [..., d_sae]."""
        return codes @ self.W_dec + self.b_dec

    def forward(self, x: Tensor) -> Output:
        codes = self.encode(x)
        return Output(self.decode(codes), codes)

    def loss(self, x: Tensor, lam: float, dead: Tensor | None = None) -> Loss:
        """The training loss of x [batch, d_in], differentiable; with ghost gradients where dead features are given.

        Codes are weighted by decoder norms (April 2024). At unit norm this is the paper's loss; their gradients differ
        along the decoder rows alone, and that part is removed before a step. dead: bool [d_sae].
        """
        reconstruction, codes = self(x)
        error = x - reconstruction
        squared_error = mean_squared_norm(error)
        penalty = (codes * self.W_dec.norm(dim=1)).sum(-1).mean()
        auxiliary = x.new_zeros(()) if dead is None else ghost_loss(self, x, error, dead)
        return Loss(squared_error + lam * penalty + auxiliary, squared_error, penalty, auxiliary, codes)

    def constrain(self) -> None:
        """Restore what the definition asks of the parameters and an optimiser's step can break: here, nothing."""

    @torch.no_grad()
    def fold_input_scale(self, scale: float) -> None:
        """Turn a dictionary of inputs `scale * x` into the same dictionary of x, in place.

        The model is homogeneous: dividing its biases by the scale divides codes and reconstructions by it, too.
        """
        for name in (*self.code_units, "b_dec"):
            getattr(self, name).div_(scale)

    @torch.no_grad()
    def fold_decoder_norm(self) -> None:
        """Rescale every feature so that its decoder row has unit norm, in place; reconstructions stay the same."""
        norm = self.W_dec.norm(dim=1).clamp_min(1e-12)
        self.W_dec /= norm[:, None]
        self.W_enc *= norm
        for name in self.code_units:
            getattr(self, name).mul_(norm)


def csr(dense: Tensor) -> Tensor:
    """The non-zero entries of a matrix [rows, columns] as a compressed sparse row matrix."""
    row, column = dense.nonzero(as_tuple=True)
    return _csr(row, column, dense[row, column], dense.shape)


def _csr(row: Tensor, column: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A compressed sparse row matrix from entries that are sorted by row. Its indices are int32, the faster kind."""
    starts = nn.functional.pad(torch.bincount(row, minlength=shape[0]).cumsum(0), (1, 0))
    return torch.sparse_csr_tensor(starts.int(), column.int(), values, shape, check_invariants=False)


def _nonzero(flags: Tensor) -> Tensor:
    """Flat positions of the entries that are not zero, in order: `nonzero`, much faster where they are few.

    It looks at groups first: of sixteen floats by their sum where hardly any are positive, else of eight bytes.
    flags: contiguous, of any type in which zero is all bits zero (so no -0.0); floats are not negative.
    """
    flat = flags.view(-1)
    size = 16 if flat.dtype == torch.float32 and _are_few(flat) else 8 // flat.element_size()
    if flat.numel() % size:
        return flat.nonzero().squeeze(1)
    groups = flat.view(-1, size)
    used = groups.mv(groups.new_ones(size)) if size == 16 else flat.view(torch.int64)
    used = used.nonzero().squeeze(1)
    group, place = groups.index_select(0, used).nonzero(as_tuple=True)
    return used.index_select(0, group).mul_(size).add_(place)


def _are_few(flat: Tensor) -> bool:
    """Whether fewer than one in a hundred entries are not zero, to judge by a tenth of them."""
    some = flat[: len(flat) // 10]
    return int(some.count_nonzero()) * 100 < len(some)


def save_dictionary(sae: SparseAutoencoder, folder: Path, dtype: torch.dtype = torch.bfloat16, **metadata) -> None:
    """Write a dictionary in SAELens' layout: `cfg.json` and `sae_weights.safetensors`.

    metadata: further keys of cfg.json's `metadata`, such as the model and the module that the dictionary belongs to.
    """
    tensors = {name: getattr(sae, name).detach().to(dtype).contiguous() for name in sae.names}
    write_atomically(folder / "sae_weights.safetensors", lambda file: save_file(tensors, file.name))
    config = {
        "architecture": sae.architecture,
        "d_in": sae.d_in,
        "d_sae": sae.d_sae,
        **({"k": sae.k} if sae.architecture == "topk" else {}),
        "dtype": str(dtype).removeprefix("torch."),
        "device": "cpu",
        "apply_b_dec_to_input": sae.tied_bias,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": metadata,
    }
    write_text_atomically(folder / "cfg.json", json.dumps(config, indent=1) + "\n")


def load_dictionary(name: str = "A/1", device: str | torch.device = "cpu") -> SparseAutoencoder:
    """Open a dictionary in fp32.

    name: a bundled dictionary (`A/1`), a folder, or `hf:owner/repository/folder` on the Hugging Face hub.
    Raises SaeCoreError for an unknown name (and lists the known ones), a damaged file, an architecture other than
    standard, topk, gated and jumprelu, a file whose tensors do not fit its cfg.json, or a cfg.json that asks for what
    we do not compute: inputs normalised or reshaped by the dictionary, codes scaled by decoder norms.
    """
    from .variants import Gated, JumpReLU, TopK  # they build on SparseAutoencoder

    folder = _folder(name)
    try:
        config = json.loads((folder / "cfg.json").read_text())
        tensors = load_file(folder / "sae_weights.safetensors")
        d_in, d_sae = config["d_in"], config["d_sae"]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise SaeCoreError(f"{folder}: cannot be opened as a dictionary ({error})") from None
    for key in ("normalize_activations", "reshape_activations"):  # what others do to the input, we do not
        if config.get(key) not in (None, "none"):
            raise SaeCoreError(f"{folder}: cfg.json has {key} = {config[key]}, which cannot be read; fold it in first")
    architecture = str(config.get("architecture", "standard"))
    kinds = {kind.architecture: kind for kind in (SparseAutoencoder, TopK, Gated, JumpReLU)}
    if architecture not in kinds:
        raise SaeCoreError(f"{folder}: architecture {architecture!r} cannot be read; only {', '.join(kinds)}")
    kind = kinds[architecture]
    matrices = {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_in), "b_dec": (d_in,)}
    for tensor_name in kind.names:
        shape = matrices.get(tensor_name, (d_sae,))
        found = tuple(tensors[tensor_name].shape) if tensor_name in tensors else "missing"
        if found != shape:
            raise SaeCoreError(f"{folder}: {tensor_name} is {found}, cfg.json asks for {shape}")
    activation = config.get("activation_fn") or config.get("activation_fn_str") or "relu"
    if architecture == "standard" and activation != "relu":
        raise SaeCoreError(f"{folder}: cfg.json has activation_fn = {activation}; a standard dictionary's is relu")
    norms = tensors["W_dec"].float().norm(dim=1)
    if config.get("rescale_acts_by_decoder_norm") and (norms - 1).abs().max() > 0.01:
        raise SaeCoreError(f"{folder}: rescale_acts_by_decoder_norm needs decoder rows of norm 1; fold the norms first")
    options = {}
    if architecture == "topk":
        options["k"] = k = config.get("k")
        if not isinstance(k, int) or not 0 < k <= d_sae:
            raise SaeCoreError(f"{folder}: cfg.json has k = {k}; topk keeps 1 to {d_sae} codes")
    with torch.device("meta"):  # without weights: drawing random ones takes longer than all the rest
        sae = kind(d_in, d_sae, config.get("apply_b_dec_to_input", True), **options)
    sae.to_empty(device="cpu")
    sae.load_state_dict({tensor_name: tensors[tensor_name].float() for tensor_name in kind.names})
    sae.constrain()
    return sae.to(device).eval()


def _folder(name: str) -> Path:
    """Where a dictionary is, by a name as `load_dictionary` takes it."""
    if not name.startswith("hf:"):
        return bundle.find(name, "cfg.json")
    owner, _, path = name.removeprefix("hf:").partition("/")
    repository, _, folder = path.partition("/")
    return bundle.download(f"{owner}/{repository}") / folder


def dictionary_metadata(name: str) -> dict:
    """The `metadata` of a dictionary's cfg.json: its model, its recipe, its text and its metrics."""
    return json.loads((_folder(name) / "cfg.json").read_text()).get("metadata") or {}
