"""Toy models of superposition: small autoencoders on data whose features are known, many of them trained at once.

Every tensor begins with an axis of instances. The instances are models of equal shape that share nothing but the loop:
their data may differ (in sparsity, say), or only their random start. So a phase diagram is one run, not a thousand.

    probability = torch.tensor([1.0, 0.2, 0.1])[:, None].expand(3, 5)     # three instances, five features
    model = ToyModel(instances=3, n_features=5, n_hidden=2)
    history = train(model, lambda generator: sparse_features(probability, 1024, generator), steps=5000)
    feature_dimensionality(model.W)                                      # [3, 5]

Source: Elhage et al. 2022, "Toy Models of Superposition".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .errors import SaeCoreError


class ToyModel(nn.Module):
    """Squeezes features through fewer dimensions and reads them out through the same matrix, one model per instance.

        h = x W          x' = ReLU(h Wᵀ + b)          or, without the ReLU, the linear model

    W: [instances, n_features, n_hidden], row i is the direction of feature i; drawn with Xavier's normal scale.
    b: [instances, n_features], zero at first.
    generator: draws W; without one, a generator of its own with seed 0, so that equal shapes start equal.

    A model with another hidden layer overrides `encode`.
    """

    def __init__(
        self,
        instances: int,
        n_features: int,
        n_hidden: int,
        *,
        relu: bool = True,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        generator = generator or torch.Generator().manual_seed(0)
        scale = math.sqrt(2 / (n_features + n_hidden))
        self.W = nn.Parameter(scale * torch.randn(instances, n_features, n_hidden, generator=generator))
        self.b = nn.Parameter(torch.zeros(instances, n_features))
        self.relu = relu

    def encode(self, x: Tensor) -> Tensor:
        """Hidden activations [instances, batch, n_hidden] of x [instances or 1, batch, n_features]."""
        return x @ self.W

    def decode(self, h: Tensor) -> Tensor:
        """Outputs [instances, batch, n_features] of hidden activations [instances, batch, n_hidden]."""
        out = torch.baddbmm(self.b[:, None], h, self.W.mT)
        return out.relu() if self.relu else out

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


class ReluHiddenModel(ToyModel):
    """A toy model whose hidden units are neurons, which gives the hidden layer a privileged basis.

        h = ReLU(x W)          x' = ReLU(h Wᵀ + b)
    """

    def encode(self, x: Tensor) -> Tensor:
        return super().encode(x).relu()


class TwoLayerModel(nn.Module):
    """Computes with neurons: two matrices that need not be alike, one model per instance.

        h = ReLU(x W_in)          y' = ReLU(h W_out + b)

    W_in: [instances, n_features, n_hidden]. W_out: [instances, n_hidden, n_features]. Xavier's normal scale for both.
    b: [instances, n_features], zero at first. generator: as for `ToyModel`.
    """

    def __init__(self, instances: int, n_features: int, n_hidden: int, *, generator: torch.Generator | None = None):
        super().__init__()
        generator = generator or torch.Generator().manual_seed(0)
        scale = math.sqrt(2 / (n_features + n_hidden))
        self.W_in = nn.Parameter(scale * torch.randn(instances, n_features, n_hidden, generator=generator))
        self.W_out = nn.Parameter(scale * torch.randn(instances, n_hidden, n_features, generator=generator))
        self.b = nn.Parameter(torch.zeros(instances, n_features))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.b[:, None], (x @ self.W_in).relu(), self.W_out).relu()


# --- Data: each draws x [instances, batch, n_features]; a feature that is on is uniform on [0, 1] ---------------------


def sparse_features(probability: Tensor, batch: int, generator: torch.Generator) -> Tensor:
    """Independent features. probability: [instances, n_features] (of being on); the sparsity is one minus it.

    With one instance (probability [1, n_features]), all instances of a model see the same batch.
    """
    instances, n_features = probability.shape
    u = torch.rand(instances, batch, n_features, generator=generator)
    # One draw does for both: u < p has probability p, and given that, 1 - u / p is uniform on (0, 1].
    return (1 - u / probability.clamp(min=1e-12)[:, None]).clamp_(min=0)


def signed_features(probability: Tensor, batch: int, generator: torch.Generator) -> Tensor:
    """Independent features that are uniform on [-1, 1] where they are on. probability: [instances, n_features]."""
    x = sparse_features(probability, batch, generator)
    return torch.where(x > 0, 2 * x - 1, 0.0)


def correlated_features(probability: Tensor, size: int, batch: int, generator: torch.Generator) -> Tensor:
    """Groups of `size` neighbouring features that are on together or off together, with independent values.

    probability: [instances, n_groups] of a group being on. Returns n_groups * size features.
    """
    instances, n_groups = probability.shape
    on = torch.rand(instances, batch, n_groups, 1, generator=generator) < probability[:, None, :, None]
    values = torch.rand(instances, batch, n_groups, size, generator=generator)
    return (on * values).flatten(2)


def anticorrelated_features(probability: Tensor, size: int, batch: int, generator: torch.Generator) -> Tensor:
    """Groups of `size` neighbouring features of which one at most is on, each of them equally often.

    probability: [instances, n_groups] of a group having a feature on. Returns n_groups * size features.
    """
    instances, n_groups = probability.shape
    on = torch.rand(instances, batch, n_groups, 1, generator=generator) < probability[:, None, :, None]
    chosen = torch.randint(size, (instances, batch, n_groups, 1), generator=generator)
    values = torch.rand(instances, batch, n_groups, 1, generator=generator)
    return ((chosen == torch.arange(size)) * on * values).flatten(2)


class DrawnChunks:
    """Activations drawn from a formula, as chunks [rows, d_in] for `activations.ActivationBuffer`: a dictionary can be
    trained on features that are known.

    draw: gives a chunk [rows, d_in], always of the same number of rows, for a generator. The generator is seeded with
        `seed` and the chunk's index, so chunk i is always the same.
    n_chunks: how many there are. Nothing is drawn before it is asked for, so there may be any number.
    """

    def __init__(self, draw: Callable[[torch.Generator], Tensor], n_chunks: int, seed: int = 0):
        self.draw, self.n_chunks, self.seed = draw, n_chunks, seed
        self.rows = len(self[0])

    def __len__(self) -> int:
        return self.n_chunks

    def __getitem__(self, index: int) -> Tensor:
        return self.draw(torch.Generator().manual_seed(self.seed * self.n_chunks + index))


# --- Training ---------------------------------------------------------------------------------------------------------


def squared_error(output: Tensor, target: Tensor, importance: Tensor | float = 1.0) -> Tensor:
    """Loss of each instance [instances]: squared errors weighted by importance, summed over features, mean over batch.

    output, target: [instances, batch, n_features]. importance: a number, [n_features] or [instances, 1, n_features].
    """
    return (importance * (output - target) ** 2).sum(-1).mean(-1)


def constant(progress: float) -> float:
    """1 throughout."""
    return 1.0


def linear(progress: float) -> float:
    """From 1 at the beginning to 0 at the end."""
    return 1 - progress


def cosine(progress: float) -> float:
    """From 1 at the beginning to 0 at the end, flat at both."""
    return (1 + math.cos(math.pi * progress)) / 2


@dataclass(frozen=True)
class History:
    """What a run recorded."""

    steps: list[int]  # steps done at each record; the first is 0, the last the number of steps of the run
    losses: Tensor  # [records, instances], mean over the batches since the record before
    snapshots: dict[str, Tensor]  # each parameter by name [records, instances, ...]; empty unless asked for


def train(
    model: nn.Module,
    draw: Callable[[torch.Generator], Tensor],
    steps: int,
    *,
    target: Callable[[Tensor], Tensor] = lambda x: x,
    loss: Callable[[Tensor, Tensor], Tensor] = squared_error,
    lr: float = 1e-3,
    schedule: Callable[[float], float] = constant,
    seed: int = 0,
    records: int = 100,
    snapshots: bool = False,
) -> History:
    """Train all instances with Adam, in place, on a fresh batch at every step.

    model: turns x into outputs; parameters that do not require gradients stay as they are.
    draw: gives a batch x [instances or 1, batch, n_features] for a generator, which is seeded with `seed`.
    target: what the outputs should be for x; x itself if not given.
    loss: of outputs and targets, [instances]. `functools.partial(squared_error, importance=...)` weighs features.
    schedule: factor of the learning rate for the progress from 0 to 1.
    records: how many times to record losses, evenly over the run, and with `snapshots` all parameters.

    Instances do not influence each other: Adam treats every weight on its own, and the losses are only added up.

    Raises SaeCoreError if an instance's loss is no longer finite.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    every = max(1, steps // records)
    recorded, losses, kept, since = [], [], [], []
    for step in range(steps + 1):
        x = draw(generator)
        each = loss(model(x), target(x))
        since.append(each.detach())
        if step % every == 0 or step == steps:
            recorded.append(step)
            losses.append(torch.stack(since).mean(0))
            since.clear()
            if snapshots:
                kept.append({name: value.detach().clone() for name, value in model.named_parameters()})
            if not losses[-1].isfinite().all():
                raise SaeCoreError(f"the loss is no longer finite at step {step}; lower the learning rate, now {lr}")
        if step < steps:
            optimizer.param_groups[0]["lr"] = lr * schedule(step / steps)
            optimizer.zero_grad()
            each.sum().backward()
            optimizer.step()
    snapshots_by_name = {name: torch.stack([each[name] for each in kept]) for name in (kept[0] if kept else ())}
    return History(recorded, torch.stack(losses), snapshots_by_name)


@torch.no_grad()
def mean_loss(
    model: nn.Module,
    draw: Callable[[torch.Generator], Tensor],
    batches: int,
    *,
    target: Callable[[Tensor], Tensor] = lambda x: x,
    loss: Callable[[Tensor, Tensor], Tensor] = squared_error,
    seed: int = 1,
) -> Tensor:
    """Loss of each instance [instances], mean over fresh batches: what to compare when the best of several is kept."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(())
    for _ in range(batches):
        x = draw(generator)
        total = total + loss(model(x), target(x))
    return total / batches


# --- Measures of W [..., n_features, n_hidden] ------------------------------------------------------------------------


def feature_norms(W: Tensor) -> Tensor:
    """Lengths ‖W_i‖ [..., n_features]: near 1 for a feature that is represented, near 0 for one that is not."""
    return W.norm(dim=-1)


def cosines(W: Tensor) -> Tensor:
    """Cosines between the directions of features [..., n_features, n_features]; 0 for a feature without a direction."""
    unit = _directions(W)
    return unit @ unit.mT


def best_cosines(W: Tensor, others: Tensor) -> Tensor:
    """Largest cosine of each row of W [..., n, n_hidden] with a row of others [..., m, n_hidden]: [..., n].

    Of true directions and those of a dictionary, the mean is the share that was found ("mean max cosine"); the other
    way round, the share of the dictionary that is genuine. Opposite directions do not match. Rows of zeros give 0.
    """
    return (_directions(W) @ _directions(others).mT).amax(-1)


def interference(W: Tensor) -> Tensor:
    """Σ_{j≠i} (Ŵ_i · W_j)² [..., n_features]: how much the others write onto the direction of feature i.

    0 for a feature that is orthogonal to all others, 1 or more for one that shares its direction.
    """
    return _projections(W) - feature_norms(W) ** 2


def feature_dimensionality(W: Tensor) -> Tensor:
    """D_i = ‖W_i‖² / Σ_j (Ŵ_i · W_j)² [..., n_features]: the share of a dimension that feature i has; j = i included.

    1 for a dimension of its own, 1/2 for one of a pair of opposites, 0 for a feature that is not represented.
    """
    squared = feature_norms(W) ** 2
    return torch.where(squared > 0, squared / _projections(W).clamp(min=1e-30), 0.0)


def _directions(W: Tensor) -> Tensor:
    return W / feature_norms(W).clamp(min=1e-12)[..., None]


def _projections(W: Tensor) -> Tensor:
    """Σ_j (Ŵ_i · W_j)², j = i included."""
    return (_directions(W) @ W.mT).square().sum(-1)
