"""Evidence: on which tokens of a text each feature fires, how strongly, and examples to read.

The activations of all features on a text are kept as one sparse matrix, sorted by feature. A million tokens with a
dozen active features each take about 100 MB. Neurons can be put into the same form, so that whatever is asked of a
feature can be asked of a neuron.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from .activations import harvest
from .autoencoder import SparseAutoencoder, csr
from .files import cache_folder, write_atomically
from .language_model import LanguageModel, to_tensor
from .tokens import Contexts


class Example(NamedTuple):
    """A snippet around one token."""

    tokens: np.ndarray  # ids of the window
    activations: np.ndarray  # of the feature, on each token of the window
    center: int  # index in the window of the token the snippet was chosen for
    context: int  # row of the text
    position: int  # column of that token


@dataclass(frozen=True)
class Evidence:
    """The activations of every feature (or neuron) on a text, sorted by feature and then by place.

    A place is an index into the flattened contexts: row × n_ctx + column. Column 0 never appears.
    """

    contexts: Contexts
    starts: np.ndarray  # [n_features + 1]: feature i owns entries starts[i]:starts[i + 1]
    places: np.ndarray  # [entries], int32
    values: np.ndarray  # [entries], float32, positive

    @property
    def n_features(self) -> int:
        return len(self.starts) - 1

    @property
    def n_tokens(self) -> int:
        """Tokens that were looked at: all but column 0."""
        n_contexts, n_ctx = self.contexts.ids.shape
        return n_contexts * (n_ctx - 1)

    @property
    def counts(self) -> np.ndarray:
        """On how many tokens each feature is active, [n_features]."""
        return np.diff(self.starts)

    @property
    def density(self) -> np.ndarray:
        """Share of the tokens on which each feature is active, [n_features]."""
        return self.counts / self.n_tokens

    def of(self, feature: int) -> tuple[np.ndarray, np.ndarray]:
        """Places and activations of one feature."""
        entries = slice(self.starts[feature], self.starts[feature + 1])
        return self.places[entries], self.values[entries]

    def dense(self, feature: int) -> np.ndarray:
        """Activations of one feature on the whole text, [n_contexts, n_ctx]."""
        grid = np.zeros(self.contexts.ids.size, np.float32)
        places, values = self.of(feature)
        grid[places] = values
        return grid.reshape(self.contexts.ids.shape)

    def maxima(self) -> np.ndarray:
        """The largest activation of each feature, [n_features]; 0 where it never fired."""
        return np.array([self.of(feature)[1].max(initial=0.0) for feature in range(self.n_features)], np.float32)

    @cached_property
    def _sums(self) -> np.ndarray:
        """Sum and sum of squares of each feature's activations, [2, n_features]."""
        values, first = self.values.astype(np.float64), np.minimum(self.starts[:-1], len(self.values))
        sums = [np.add.reduceat(np.append(v, 0.0), first) for v in (values, values**2)]
        return np.array(sums) * (self.counts > 0)

    def correlations(self, target: np.ndarray) -> np.ndarray:
        """Pearson correlation of every feature with a quantity per token [n_contexts, n_ctx], as [n_features].

        0 where a feature never fires. Column 0 of the target is ignored.
        """
        values = target.ravel()[self.places]
        there = np.flatnonzero(values)  # few entries, as what a target marks is mostly rare
        owner = np.searchsorted(self.starts, there, side="right") - 1
        products = self.values[there].astype(np.float64) * values[there]
        return _correlations(*self._sums, np.bincount(owner, weights=products, minlength=self.n_features), target)

    def between(self, first: int, last: int) -> Evidence:
        """The evidence of contexts first to last - 1 alone, say to choose on one half and to test on the other."""
        n_ctx = self.contexts.ids.shape[1]
        kept = (self.places >= first * n_ctx) & (self.places < last * n_ctx)
        starts = np.append(0, kept.cumsum())[self.starts]
        contexts = Contexts(self.contexts.ids[first:last], self.contexts.slices[first:last], self.contexts.slice_names)
        return Evidence(contexts, starts, self.places[kept] - np.int32(first * n_ctx), self.values[kept])

    def recall(self, features: Sequence[int], target: np.ndarray) -> float:
        """Share of the target tokens, bool [n_contexts, n_ctx], on which at least one of some features is active."""
        fired = np.zeros(target.size, bool)
        for feature in features:
            fired[self.of(feature)[0]] = True
        return float((fired & target.ravel()).sum() / max(target[:, 1:].sum(), 1))

    def complements(
        self, feature: int, target: np.ndarray, n: int = 4, precision: float = 0.5, gain: float = 0.01
    ) -> list[int]:
        """Up to `n` further features that together with one cover most of a target, bool [n_contexts, n_ctx].

        Greedy: each is the one that fires on most of what those before it missed, and on at least the share `gain` of
        the whole target. A feature that fires everywhere covers everything and says nothing, so only those count that
        are in the target on at least the share `precision` of the tokens that they fire on.
        """
        missed, chosen = target.ravel().copy(), [feature]
        owner = np.repeat(np.arange(self.n_features), self.counts)
        hits = np.bincount(owner, weights=missed[self.places], minlength=self.n_features)
        specific = hits >= precision * np.maximum(self.counts, 1)
        while len(chosen) <= n:
            missed[self.of(chosen[-1])[0]] = False
            gains = np.bincount(owner, weights=missed[self.places], minlength=self.n_features) * specific
            if gains.max() < max(1, gain * target.sum()):
                break
            chosen.append(int(gains.argmax()))
        return chosen[1:]

    def top_examples(self, feature: int, n: int = 10, window: int = 12) -> list[Example]:
        """The strongest activations, at most one per context."""
        places, values = self.of(feature)
        best = places[np.argsort(-values, kind="stable")]
        _, first = np.unique(best // self.contexts.ids.shape[1], return_index=True)
        return [self.example(feature, place, window) for place in best[np.sort(first)[:n]]]

    def interval_examples(
        self, feature: int, intervals: int = 11, per_interval: int = 5, window: int = 12, seed: int = 0
    ) -> list[list[Example]]:
        """Random examples from equal intervals between 0 and the maximum, lowest first (paper: 11 intervals).

        A look at the top alone flatters a feature; samples over its whole range show what it does most of the time.
        """
        places, values = self.of(feature)
        rng = np.random.default_rng([seed, feature])
        bounds = np.linspace(0, values.max(initial=0.0), intervals + 1)
        chosen = []
        for low, high in zip(bounds[:-1], bounds[1:], strict=True):
            inside = places[(values > low) & (values <= high)]
            picked = rng.choice(inside, min(per_interval, len(inside)), replace=False) if len(inside) else []
            chosen.append([self.example(feature, place, window) for place in picked])
        return chosen

    def example(self, feature: int, place: int, window: int = 12) -> Example:
        """The snippet of up to `window` tokens on both sides of a place, within its context and without column 0."""
        context, position = divmod(int(place), self.contexts.ids.shape[1])
        low, high = max(1, position - window), min(self.contexts.ids.shape[1], position + window + 1)
        places, values = self.of(feature)
        first_place = context * self.contexts.ids.shape[1] + low
        entries = slice(*np.searchsorted(places, [first_place, first_place + high - low]))
        activations = np.zeros(high - low, np.float32)
        activations[places[entries] - first_place] = values[entries]
        return Example(self.contexts.ids[context, low:high], activations, position - low, context, position)


def feature_evidence(model: LanguageModel, sae: SparseAutoencoder, contexts: Contexts) -> Evidence:
    """Evidence of a dictionary's features, kept in the cache folder: 1 M tokens take about 20 s the first time."""
    tensors = [*model.network.state_dict().values(), *sae.state_dict().values()]
    rule = f"{type(sae).__name__} {sae.tied_bias} {getattr(sae, 'k', '')}"  # what else the codes depend on
    return _cached(tensors, contexts, lambda x: sae.encode_sparse(x), model, sae.d_sae, rule)


def neuron_evidence(model: LanguageModel, contexts: Contexts) -> Evidence:
    """Evidence of the MLP's neurons. They fire often: expect a hundred times the entries of a dictionary's features."""
    return _cached([*model.network.state_dict().values()], contexts, csr, model, model.network.config.n_inner)


@torch.no_grad()
def neuron_correlations(model: LanguageModel, contexts: Contexts, target: np.ndarray, rows: int = 64) -> np.ndarray:
    """Pearson correlation of every neuron with a quantity per token [n_contexts, n_ctx], as [n_neurons].

    In one pass that keeps no activations, so it can take a long text. Column 0 is left out, as in `Evidence`.
    """
    sums = torch.zeros(3, model.network.config.n_inner, dtype=torch.float64)
    for first in range(0, len(contexts.ids), rows):
        ids = to_tensor(contexts.ids[first : first + rows], next(model.network.parameters()).device)
        x = harvest(model.network, ids)[:, 1:].flatten(0, 1).cpu()
        y = torch.from_numpy(target[first : first + rows, 1:].astype(np.float32)).flatten()
        sums += torch.stack([x.sum(0), x.square().sum(0), y @ x])
    return _correlations(*sums.numpy(), target)


def _correlations(sum_x: np.ndarray, sum_xx: np.ndarray, sum_xy: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Pearson correlations from sums over the tokens y of a target [n_contexts, n_ctx]; 0 where x never changes."""
    y = target[:, 1:].astype(np.float64)
    n, total, squares = y.size, y.sum(), np.square(y).sum()
    spread = np.sqrt(np.maximum(sum_xx - sum_x**2 / n, 0) * max(squares - total**2 / n, 0))
    return np.divide(sum_xy - sum_x * total / n, spread, out=np.zeros_like(spread), where=spread > 0)


def _cached(
    tensors: list[Tensor],
    contexts: Contexts,
    encode: Callable[[Tensor], Tensor],
    model: LanguageModel,
    n_features: int,
    rule: str = "",
) -> Evidence:
    digest = hashlib.sha256(np.ascontiguousarray(contexts.ids))
    digest.update(f"{contexts.ids.shape} {rule}".encode())
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().numpy())
    path = cache_folder() / f"evidence-{digest.hexdigest()[:16]}.safetensors"
    if not path.exists():
        arrays = _collect(model, contexts.ids, encode, n_features)
        write_atomically(path, lambda file: save_file(arrays, file.name))
    arrays = {name: tensor.numpy() for name, tensor in load_file(path).items()}
    return Evidence(contexts, **arrays)


def _collect(
    model: LanguageModel, ids: np.ndarray, encode: Callable[[Tensor], Tensor], n_features: int, rows: int = 16
) -> dict[str, Tensor]:
    """All codes of a text, sorted by feature: a counting sort in parts, which takes little memory beside the result."""
    n_ctx = ids.shape[1]
    parts = []
    for first in range(0, len(ids), rows):
        tensor = to_tensor(ids[first : first + rows], next(model.network.parameters()).device)
        codes = encode(harvest(model.network, tensor)[:, 1:].flatten(0, 1)).cpu()
        row = torch.repeat_interleave(torch.arange(codes.shape[0]), codes.crow_indices().diff())
        place = (row // (n_ctx - 1) + first) * n_ctx + row % (n_ctx - 1) + 1
        # By feature; within one the places are in order already, and a stable sort leaves them so.
        feature, order = codes.col_indices().to(torch.int16 if n_features < 2**15 else torch.int32).sort(stable=True)
        parts.append((feature, place.int()[order], codes.values()[order]))
    counts = sum(torch.bincount(feature.long(), minlength=n_features) for feature, _, _ in parts)
    starts = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    places, values = torch.empty(int(starts[-1]), dtype=torch.int32), torch.empty(int(starts[-1]))
    room = starts[:-1].clone()  # where the next entry of each feature goes
    while parts:
        feature, place, value = parts.pop(0)
        feature, n_entries = feature.long(), torch.bincount(feature.long(), minlength=n_features)
        first_entry = n_entries.cumsum(0) - n_entries
        slot = room[feature] + torch.arange(len(feature)) - first_entry[feature]
        places[slot], values[slot] = place, value
        room += n_entries
    return {"starts": starts, "places": places, "values": values}
