"""Recipes for training a dictionary: the paper's, the same scaled to short runs, and the one of April 2024."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import SaeCoreError


@dataclass
class TrainConfig:
    """A recipe. The defaults are the paper's, where it states a value (facts: appendix "Advice for Training…").

    λ multiplies the L1 norm of one example's codes against its squared error *summed* over d_in (see `objective`).
    """

    d_sae: int = 4096  # features
    steps: int = 1_000_000
    batch_size: int = 8192  # activations per step
    lam: float = 0.004 * 512  # the paper's 0.004 against an error averaged over 512 neurons
    lam_warmup: int = 0  # steps over which λ rises linearly from zero
    lr: float = 1e-4  # Adam's; the paper swept it and does not print the value
    lr_decay: int = 0  # last steps, over which the learning rate falls linearly to zero
    normalize: bool = False  # scale inputs so that the mean of ‖x‖² is d_in; undone in the result
    tied_bias: bool = True  # subtract b_dec before the encoder
    unit_norm: bool = True  # keep decoder rows at norm 1; otherwise weigh the L1 norm by the decoder norm
    clip: float | None = None  # largest norm of the gradient
    resample_at: tuple[int, ...] = (25_000, 50_000, 75_000, 100_000)  # steps
    resample_inputs: int = 819_200
    dead_after: int = 12_500  # steps without firing
    buffer_rows: int = 1 << 20  # activations in the shuffling buffer
    bf16: bool = True  # encoder product in bf16
    seed: int = 0

    def __post_init__(self):
        self.resample_at = tuple(self.resample_at)  # JSON brings a list
        positive = ("d_sae", "steps", "batch_size", "lr", "dead_after", "resample_inputs", "buffer_rows")
        for name in positive:
            value = getattr(self, name)
            if not isinstance(value, int | float) or value <= 0:
                raise SaeCoreError(f"train: {name} = {value} must be positive")
        if not isinstance(self.lam, int | float) or self.lam < 0:
            raise SaeCoreError(f"train: lam = {self.lam} must not be negative")
        if self.resample_at and self.resample_inputs > self.buffer_rows:
            limit = f"buffer_rows = {self.buffer_rows}"
            raise SaeCoreError(f"train: resample_inputs = {self.resample_inputs} must not exceed {limit}")
        if 2 * self.batch_size > self.buffer_rows:
            raise SaeCoreError(f"train: buffer_rows = {self.buffer_rows} must hold two batches of {self.batch_size}")


def paper(**changes) -> TrainConfig:
    """The recipe of *Towards Monosemanticity* (October 2023) at its full length: 8 billion activations."""
    return TrainConfig(**changes)


def paper_scaled(steps: int, **changes) -> TrainConfig:
    """The paper's recipe for a run that is too short for its absolute step counts.

    Resampling keeps its rules but moves to 10, 20, 30 and 40 % of the run, and a feature is dead after 1 % of the run
    in silence (the paper: 2.5 % to 10 %, and 1.25 %). Inputs are normalised, so that λ means the same for every model.
    The learning rate is higher, as a short run needs, and falls over the last fifth; λ rises over the first twentieth,
    without which that learning rate silences nine features out of ten within the first hundreds of steps.
    """
    recipe = {
        "steps": steps,
        "batch_size": 4096,
        "lam": 4.0,
        "lam_warmup": steps // 20,
        "lr": 1e-3,
        "lr_decay": steps // 5,
        "normalize": True,
        "resample_at": tuple(steps * tenth // 10 for tenth in (1, 2, 3, 4)),
        "dead_after": max(1, steps // 100),
        "resample_inputs": 131_072,
    }
    return TrainConfig(**recipe | changes)


def april_2024(steps: int = 200_000, **changes) -> TrainConfig:
    """The corrected recipe of Anthropic's April 2024 update: L1 weighted by the decoder norm, no resampling.

    Linear warm-up of λ over the first 5 % of the steps and linear decay of the learning rate over the last 20 %,
    gradients clipped to norm 1, inputs normalised to mean ‖x‖² = d_in, no pre-encoder bias.
    """
    recipe = {
        "steps": steps,
        "batch_size": 4096,
        "lam": 5.0,
        "lam_warmup": steps // 20,
        "lr": 5e-5,
        "lr_decay": steps // 5,
        "normalize": True,
        "tied_bias": False,
        "unit_norm": False,
        "clip": 1.0,
        "resample_at": (),
    }
    return TrainConfig(**recipe | changes)
