"""Recipes for training a dictionary: the paper's, the same scaled to short runs, and the one of April 2024.

At the end: recipes as JSON files, which say of a model or a dictionary what differs from a preset or from another file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar

from .corpus import full_name
from .errors import SaeCoreError
from .tokens import Mixture

T = TypeVar("T")
KINDS = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "a word"}


def check_types(config: Any, command: str) -> None:
    """Bring a configuration's values to the types of its fields: JSON writes 1e5 for a whole number, and lists.

    Raises SaeCoreError that begins with the command for a value of another kind, such as "False" for a bool.
    """
    for field in fields(config):
        value, (kind, *others) = getattr(config, field.name), field.type.split(" | ")
        if value is None and others:
            continue
        good = {
            "bool": isinstance(value, bool),
            "int": _whole(value),
            "float": isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value),
            "str": isinstance(value, str),
        }
        if not good.get(kind, True):
            raise SaeCoreError(f"{command}: {field.name} = {value} must be {KINDS[kind]}" + " or null" * bool(others))
        if kind == "int" or (kind == "float" and not isinstance(value, int | float)):  # NumPy's, which JSON has not
            setattr(config, field.name, int(value) if kind == "int" else float(value))
    if config.text is not None:
        check_mixture(config.text, command)
        config.text = [(full_name(name), shares) for name, shares in config.text]
    if not 0 <= config.seed < 2**63:
        raise SaeCoreError(f"{command}: seed = {config.seed} must not be negative, nor above 2^63")


def _whole(value: Any) -> bool:
    number = isinstance(value, Real) and not isinstance(value, bool)
    return number and (isinstance(value, int) or float(value).is_integer())


def check_mixture(text: Any, command: str) -> None:
    """Raise SaeCoreError unless this is a list of pairs: a corpus, and the share of each slice or None."""
    pairs = text if isinstance(text, list | tuple) and text else [None]
    for pair in pairs:
        if not (isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str)):
            raise SaeCoreError(f'{command}: text = {text} must be a list of pairs, such as [["pocket", null]]')
        shares = pair[1] or {}
        if not (isinstance(shares, Mapping) and all(isinstance(share, Real) for share in shares.values())):
            raise SaeCoreError(f"{command}: text = {text}: the second of a pair is null or the share of each slice")


def differing(recipe: dict, config: Any) -> dict[str, tuple]:
    """Where the recipe that a run has recorded differs from a configuration: (its value, the configuration's) by name.

    config: the configuration, a dataclass or a dict. A setting that is younger than the run had its default there.
    """
    defaults = {} if isinstance(config, dict) else asdict(type(config)())
    there = json.loads(json.dumps(defaults)) | recipe  # a record knows no tuples
    here = json.loads(json.dumps(config if isinstance(config, dict) else asdict(config)))
    return {key: (there.get(key), value) for key, value in here.items() if there.get(key) != value}


@dataclass
class TrainConfig:
    """A recipe. The defaults are the paper's, where it states a value (appendix "Advice for Training…").

    λ multiplies the L1 norm of one example's codes against its squared error *summed* over d_in (see `objective`); of
    jumprelu the L0 norm; topk and batchtopk have no use for it.
    """

    architecture: str = "standard"  # or topk, batchtopk, gated, jumprelu (see `variants`)
    k: int | None = None  # codes per example, of topk; on average, of batchtopk
    ghost_gradients: bool = False  # dead features learn from what the others leave over; of standard
    d_sae: int = 4096  # features
    steps: int = 1_000_000
    batch_size: int = 8192  # activations per step
    lam: float = 0.004 * 512  # the paper's 0.004 against an error averaged over 512 neurons
    lam_warmup: int = 0  # steps over which λ rises linearly from zero
    lr: float = 1e-4  # Adam's; the paper swept it and does not print the value
    lr_decay: int = 0  # last steps, over which the learning rate falls linearly to zero
    normalize: bool = False  # scale inputs so that the mean of ‖x‖² is d_in; undone in the result
    encoder_start: float | None = None  # W_enc starts as this times W_dec transposed; None is Kaiming's, the paper's
    tied_bias: bool = True  # subtract b_dec before the encoder
    unit_norm: bool = True  # keep decoder rows at norm 1; otherwise weigh the L1 norm by the decoder norm
    clip: float | None = None  # largest norm of the gradient
    resample_at: tuple[int, ...] | None = None  # steps; None is the paper's four, where nothing else revives features
    resample_inputs: int = 819_200
    dead_after: int = 12_500  # steps without firing
    buffer_rows: int = 1 << 21  # activations in the shuffling buffer: 2 GiB at 512 neurons
    bf16: bool = True  # encoder product in bf16 where that is faster; of standard without ghost gradients
    text: Mixture | None = None  # (corpus, share of each slice or null) pairs; None is the text of the model
    seed: int = 0

    @property
    def by_hand(self) -> bool:
        """Whether the gradients of this loss are written out, in `step`; of the others, autograd computes them."""
        return self.architecture == "standard" and not self.ghost_gradients

    def __post_init__(self):
        check_types(self, "train")
        if self.resample_at is None:
            self.resample_at = (25_000, 50_000, 75_000, 100_000) if self.by_hand else ()
        steps = self.resample_at  # JSON brings a list
        if not (isinstance(steps, list | tuple) and all(_whole(step) and step > 0 for step in steps)):
            raise SaeCoreError(f"train: resample_at = {steps} must be a list of steps, such as [1000, 2000]")
        self.resample_at = tuple(map(int, steps))
        for name in ("d_sae", "steps", "batch_size", "lr", "dead_after", "resample_inputs", "buffer_rows"):
            if getattr(self, name) <= 0:
                raise SaeCoreError(f"train: {name} = {getattr(self, name)} must be positive")
        for name in ("lam", "lam_warmup", "lr_decay"):
            if getattr(self, name) < 0:
                raise SaeCoreError(f"train: {name} = {getattr(self, name)} must not be negative")
        if self.resample_at and self.resample_inputs > 2**24:  # torch.multinomial takes no more
            raise SaeCoreError(f"train: resample_inputs = {self.resample_inputs} must not exceed {2**24}")
        if self.resample_at and self.resample_inputs > self.buffer_rows:
            limit = f"buffer_rows = {self.buffer_rows}"
            raise SaeCoreError(f"train: resample_inputs = {self.resample_inputs} must not exceed {limit}")
        if self.encoder_start is not None and not self.encoder_start > 0:
            raise SaeCoreError(f"train: encoder_start = {self.encoder_start} must be positive, or null for Kaiming's")
        if self.clip is not None and not self.clip > 0:
            raise SaeCoreError(f"train: clip = {self.clip} must be positive, or null for gradients as they are")
        if 2 * self.batch_size > self.buffer_rows:
            raise SaeCoreError(f"train: buffer_rows = {self.buffer_rows} must hold two batches of {self.batch_size}")
        self._check_architecture()

    def _check_architecture(self) -> None:
        """Refuse what the architecture cannot be trained with."""
        name, known = self.architecture, ("standard", "topk", "batchtopk", "gated", "jumprelu")
        if name not in known:
            raise SaeCoreError(f"train: no architecture {name!r}: choose among {', '.join(known)}")
        if "topk" in name and not (isinstance(self.k, int) and 0 < self.k <= self.d_sae):
            raise SaeCoreError(f"train: {name} needs k, from 1 to d_sae = {self.d_sae}; it is {self.k}")
        if "topk" not in name and self.k is not None:
            raise SaeCoreError(f"train: k = {self.k} is for topk and batchtopk, not for {name}")
        if name != "standard":
            if self.ghost_gradients:
                raise SaeCoreError(f"train: ghost_gradients are for standard dictionaries, not for {name}")
            if self.resample_at:
                raise SaeCoreError(f"train: {name} does not resample: leave resample_at out, or empty")
            if not self.unit_norm:
                raise SaeCoreError(f"train: {name} needs unit_norm")
        if name == "jumprelu" and not self.normalize:
            raise SaeCoreError("train: jumprelu needs normalize: its thresholds start in units of normalised inputs")


def paper(**changes) -> TrainConfig:
    """The recipe of *Towards Monosemanticity* (October 2023) at its full length: 8 billion activations."""
    return TrainConfig(**changes)


def paper_scaled(steps: int, **changes) -> TrainConfig:
    """The paper's recipe for a run that is too short for its absolute step counts.

    Resampling keeps its rules but moves to 10, 20, 30 and 40 % of the run, and a feature is dead after 1 % of the run
    in silence (the paper: 2.5 % to 10 %, and 1.25 %). It looks at one in a hundred of the run's inputs, between 16,384
    and 131,072 of them (the paper: 819,200). Inputs are normalised, so that λ means the same for every model. The
    learning rate is higher, as a short run needs, and falls over the last fifth; λ rises over the first twentieth,
    without which that learning rate silences nine features out of ten within the first hundreds of steps. Gradients are
    clipped: the first ones, and those after a resampling, are many times as long as the rest. Adam's second moments
    remember them for a thousand steps, and would hold the rate down for most of a short run.
    Variants and ghost gradients revive features in their own way and do not resample.
    """
    _check_steps(steps)
    steps = int(steps)
    plain = changes.get("architecture", "standard") == "standard" and not changes.get("ghost_gradients")
    recipe = {
        "steps": steps,
        "batch_size": 4096,
        "lam": 4.0,
        "lam_warmup": steps // 20,
        "lr": 1e-3,
        "lr_decay": steps // 5,
        "normalize": True,
        "encoder_start": 0.1 if plain else None,
        "clip": 1.0,
        "resample_at": tuple(max(1, steps * tenth // 10) for tenth in (1, 2, 3, 4)) if plain else (),
        "dead_after": max(1, steps // 100),
        "resample_inputs": min(131_072, max(16_384, 40 * steps)),
    }
    return TrainConfig(**recipe | changes)


def _check_steps(steps: Any) -> None:
    """Raise SaeCoreError unless other settings can be computed from this number of steps."""
    if not (_whole(steps) and steps > 0):
        raise SaeCoreError(f"train: steps = {steps} must be a whole number above 0")


def april_2024(steps: int = 200_000, **changes) -> TrainConfig:
    """The corrected recipe of Anthropic's April 2024 update: L1 weighted by the decoder norm, no resampling.

    Linear warm-up of λ over the first 5 % of the steps and linear decay of the learning rate over the last 20 %,
    gradients clipped to norm 1, inputs normalised to mean ‖x‖² = d_in, no pre-encoder bias.
    """
    _check_steps(steps)
    steps = int(steps)
    recipe = {
        "steps": steps,
        "batch_size": 4096,
        "lam": 5.0,
        "lam_warmup": steps // 20,
        "lr": 5e-5,
        "lr_decay": steps // 5,
        "normalize": True,
        "encoder_start": 1.0,
        "tied_bias": False,
        "unit_norm": False,
        "clip": 1.0,
        "resample_at": (),
    }
    return TrainConfig(**recipe | changes)


PRESETS = {"paper": paper, "paper_scaled": paper_scaled, "april_2024": april_2024}
BUNDLED = Path(__file__).parent / "recipes"


def read_recipe(name: str, folder: Path = BUNDLED, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    """The values of a recipe: the name of one in `folder` or of a bundled one ("A-1"), or a JSON file.

    Where a recipe holds `"like": "A-1"`, the values of that one, in the same folder or bundled, stand for all that it
    leaves out. seen: the recipes that lead here.
    """
    if name in seen:
        raise SaeCoreError(f"recipe {name}: is like itself ({' → '.join((*seen, name))})")
    named = [path for path in (folder / f"{name}.json", BUNDLED / f"{name}.json") if path.is_file()]
    path = named[0] if named else Path(name)
    if not path.exists():
        bundled = ", ".join(sorted(file.stem for file in BUNDLED.glob("*.json")))
        raise SaeCoreError(f"recipe {name}: there is no such file, and the bundled recipes are {bundled}")
    try:
        values = json.loads(path.read_text())
        other = values.pop("like", None)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise SaeCoreError(f"recipe {name}: cannot be read ({error})") from None
    return read_recipe(str(other), path.parent, (*seen, name)) | values if other else values


def configuration(kind: type[T], values: Mapping[str, Any]) -> T:
    """The configuration, a TrainConfig or a PretrainConfig, with these values.

    For a dictionary `"preset": "paper_scaled"` names the function above that fills in what is left out.
    Raises SaeCoreError for an unknown name or a value that cannot be used.
    """
    values, make = dict(values), kind
    if kind is TrainConfig and "preset" in values:
        preset = values.pop("preset")
        if not isinstance(preset, str) or preset not in PRESETS:
            raise SaeCoreError(f"no preset {preset!r}: choose among {', '.join(PRESETS)}")
        make = PRESETS[preset]
    known = [field.name for field in fields(kind)]
    for key in values:
        if key not in known:
            raise SaeCoreError(f"no setting {key!r}: choose among {', '.join(known)}")
    try:
        return make(**values)
    except TypeError as error:
        raise SaeCoreError(f"a value of the configuration is missing or has the wrong type ({error})") from None
