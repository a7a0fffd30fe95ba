"""Finite-state automata: features that drive one another through the text that the model writes.

A feature raises the logits of some tokens. The model writes one of them, and on this token other features fire, which
raise the logits of the next. Read features as states and tokens as transitions, and the model runs a finite-state
automaton (paper, section "Finite State Automata"). Nothing passes from token to token but the text itself.

The edge from feature i to feature j is the probability that j fires on the next token, given that i fires on this one
and that the next one is among those that i promotes. Automata are found in the graph of these edges, and tested on text
that the model writes: whether it can be parsed, and whether holding a state fixed brings about the next one.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .activations import harvest
from .autoencoder import SparseAutoencoder
from .effects import ablation_effect, code_of, logit_weights, not_rare, sample
from .errors import SaeCoreError
from .evidence import Evidence
from .language_model import LanguageModel, to_tensor

PROMPT = 64  # tokens that the model is given before it writes, the beginning-of-sequence token included
LEAST = 0.1  # the smallest edge that counts


# --- edges ----------------------------------------------------------------------------------------------------------


class Promoted(NamedTuple):
    """The tokens that each feature promotes, and how likely the model finds them where the feature fires."""

    tokens: np.ndarray  # [n_features, n], those with the largest logit weights, largest first
    chances: np.ndarray  # [n_features, n], the model's mean probability of each where the feature fires

    @property
    def mass(self) -> np.ndarray:
        """The probability of all of them together, [n_features]."""
        return self.chances.sum(1)

    @property
    def weights(self) -> np.ndarray:
        """How much each token counts, [n_features, n]: its share of `mass`. All 0 for a feature that never fires."""
        return self.chances / np.maximum(self.mass, 1e-12)[:, None]

    def first(self, n: int) -> Promoted:
        """Only the first n tokens of each feature."""
        return Promoted(self.tokens[:, :n], self.chances[:, :n])


@torch.no_grad()
def promoted(
    model: LanguageModel, sae: SparseAutoencoder, evidence: Evidence, n: int = 100, rows: int = 16
) -> Promoted:
    """What each feature of a dictionary promotes: `n` tokens by logit weight, weighted by the model's own distribution.

    The logit weights say what a feature asks for; what is written depends on everything else that is active there. So
    each token counts by its mean probability over the tokens of the evidence on which the feature fires. Tokens that
    are rare in the evidence's text are left out.
    """
    ids = evidence.contexts.ids
    weights = logit_weights(model, sae.W_dec)
    weights[:, ~torch.from_numpy(not_rare(ids, weights.shape[1]))] = -torch.inf
    tokens = weights.topk(n).indices
    probability = torch.zeros_like(weights)
    for first in range(0, len(ids), rows):
        part = evidence.between(first, first + rows)
        shape = (evidence.n_features, part.contexts.ids.size)
        fires = torch.sparse_csr_tensor(
            torch.from_numpy(part.starts),
            torch.from_numpy(part.places).long(),
            torch.ones(len(part.places)),
            shape,
            check_invariants=False,
        )
        written = torch.softmax(model.logits(to_tensor(part.contexts.ids)), -1).flatten(0, 1)
        probability += fires @ written
    chances = probability.gather(1, tokens).numpy() / np.maximum(evidence.counts, 1)[:, None]
    return Promoted(tokens.numpy(), chances)


def edges(evidence: Evidence, found: Promoted) -> np.ndarray:
    """Entry (i, j): the probability that j fires on a token that i promotes, right after i has fired. [n, n], float32.

    The mean over the tokens that i promotes, weighted as in `promoted`, of how often j fires on the token where it
    comes right after one on which i fires. A promoted token that never comes there counts as if nothing fired on it,
    so that an edge is rather too small than too large.
    """
    ids = evidence.contexts.ids.astype(np.int64)
    n_ctx, vocab_size = ids.shape[1], int(max(ids.max(), found.tokens.max())) + 1
    tokens, owner = ids.ravel(), np.repeat(np.arange(evidence.n_features), evidence.counts)
    # Which features fire on each token: the evidence once more, but sorted by place.
    order = np.argsort(evidence.places, kind="stable")
    firing, starts = owner[order], np.append(0, np.bincount(evidence.places, minlength=tokens.size).cumsum())
    graph, weights = np.zeros((evidence.n_features, evidence.n_features), np.float32), found.weights
    for i in range(evidence.n_features):
        places = evidence.of(i)[0]
        after = places[places % n_ctx < n_ctx - 1] + 1
        weight = np.zeros(vocab_size)
        weight[found.tokens[i]] = weights[i]
        after = after[weight[tokens[after]] > 0]
        share = weight / np.maximum(np.bincount(tokens[after], minlength=vocab_size), 1)
        lengths = starts[after + 1] - starts[after]
        entries = np.repeat(starts[after] - (lengths.cumsum() - lengths), lengths) + np.arange(lengths.sum())
        graph[i] = np.bincount(
            firing[entries], weights=np.repeat(share[tokens[after]], lengths), minlength=evidence.n_features
        )
    return graph


# --- automata -------------------------------------------------------------------------------------------------------


def components(graph: np.ndarray, threshold: float) -> list[list[int]]:
    """The strongly connected components of the edges of at least `threshold`, the largest first.

    Within a component every feature leads to every other one, and back. A feature on its own is a component if it has
    an edge to itself.
    """
    import networkx

    network = networkx.DiGraph(zip(*np.nonzero(graph >= threshold), strict=True))
    found = (sorted(map(int, states)) for states in networkx.strongly_connected_components(network))
    kept = (states for states in found if len(states) > 1 or graph[states[0], states[0]] >= threshold)
    return sorted(kept, key=lambda states: (-len(states), states))


def random_pairs(graph: np.ndarray, features: np.ndarray, n: int = 10_000, seed: int = 0) -> np.ndarray:
    """The edges between n pairs of different features drawn at random: what two features have to do with one another.

    features: to draw from, say those that fire often enough.
    """
    rng = np.random.default_rng(seed)
    sources = rng.choice(features, n)
    targets = rng.choice(features, n)
    return graph[sources, targets][sources != targets]


def best_cycle(graph: np.ndarray, candidates: Sequence[dict[int, float]], least: float = LEAST) -> list[int]:
    """One feature for each role, so that roles follow one another: the cycle with the largest product.

    candidates: for each role, in the order of the cycle, features with how well each fits the role (say, a
        correlation). The product is over the fits and over the edges from each role to the next, the last to the first.
    least: the smallest edge that counts.
    Raises SaeCoreError where no choice of different features has all these edges.
    """
    steps_of = np.where(graph >= least, graph, 0.0)

    def product(states: tuple[int, ...]) -> float:
        if len(set(states)) < len(states):
            return 0.0
        value = 1.0
        for fit, i, j in zip(candidates, states, states[1:] + states[:1], strict=True):
            value *= max(fit[i], 0.0) * steps_of[i, j]
        return value

    best = max(itertools.product(*candidates), key=product)
    if not product(best) > 0:
        raise SaeCoreError(f"best_cycle: no candidates have edges of {least} or more from every role to the next")
    return [*best]


def roles(ids: np.ndarray, token_bytes: list[bytes], pattern: re.Pattern[bytes]) -> dict[str, np.ndarray]:
    """The tokens whose last byte is matched by each named group of a regular expression: bool [n_contexts, n_ctx] each.

    The last byte decides, as it is the last one that the model has seen when it predicts what comes next. Documents
    are kept apart by a zero byte.
    """
    found = {name: np.zeros(ids.shape, bool) for name in pattern.groupindex}
    for row, tokens in enumerate(ids):
        parts = [token_bytes[token] or b"\0" for token in tokens.tolist()]
        ends = np.cumsum([len(part) for part in parts])  # the last byte of token t is ends[t] - 1
        for match in pattern.finditer(b"".join(parts)):
            for name, marks in found.items():
                first, last = np.searchsorted(ends - 1, match.span(name))
                marks[row, first:last] = True
    return found


@dataclass(frozen=True)
class Automaton:
    """Features as states, and the edges among them."""

    title: str
    states: list[int]  # features
    labels: list[str]  # what each state stands for
    edges: np.ndarray  # [states, states]
    least: float = LEAST  # the smallest edge that counts

    @property
    def transitions(self) -> np.ndarray:
        """Which edges count: bool [states, states]."""
        return self.edges >= self.least

    def follows(self, activations: np.ndarray) -> np.ndarray:
        """Which tokens follow the automaton: a state fires there to which an edge leads from one on the token before.

        activations: [n, length, states]. Returns bool [n, length - 1].
        """
        fires = activations > 0
        steps = fires[:, :-1, :, None] & fires[:, 1:, None, :] & self.transitions
        return steps.any((2, 3))


# --- text that the model writes -------------------------------------------------------------------------------------


@torch.no_grad()
def activations(model: LanguageModel, sae: SparseAutoencoder, features: Sequence[int], ids: Tensor) -> np.ndarray:
    """Activations [n, length, features] of some features on token ids [n, length]; those of column 0 are 0."""
    found = code_of(sae, list(features), harvest(model.network, ids))
    found[:, 0] = 0.0
    return found.numpy()


def prompts(
    model: LanguageModel, sae: SparseAutoencoder, evidence: Evidence, feature: int | None, n: int, seed: int = 0
) -> Tensor:
    """Up to n prompts [n, 64] from the text: the tokens up to one on which a feature fires, or up to any if it is None.

    With less in front of it a feature may be silent on a token, so the prompts are those where it fires in any case.
    """
    ids, n_ctx = evidence.contexts.ids, evidence.contexts.ids.shape[1]
    rng = np.random.default_rng([seed, 0 if feature is None else feature + 1])
    places = np.arange(ids.size) if feature is None else evidence.of(feature)[0]
    places = rng.permutation(places[places % n_ctx >= PROMPT - 1])[: 2 * n]
    windows = ids.ravel()[places[:, None] + np.arange(1 - PROMPT, 1)].astype(np.int64)
    windows[:, 0] = 0  # the beginning-of-sequence token
    windows = torch.from_numpy(windows)
    if feature is not None and len(windows):
        windows = windows[torch.from_numpy(activations(model, sae, [feature], windows)[:, -1, 0] > 0)]
    return windows[:n]


class Walks(NamedTuple):
    """What the model wrote behind prompts, and the states that fired there."""

    ids: np.ndarray  # [n, 64 + n_tokens]
    activations: np.ndarray  # [n, n_tokens + 1, states], from the prompt's last token on


def walks(
    model: LanguageModel,
    sae: SparseAutoencoder,
    evidence: Evidence,
    states: Sequence[int],
    n_samples: int,
    n_tokens: int = 20,
    seed: int = 0,
    anywhere: bool = False,
) -> Walks:
    """Let the model write `n_tokens` from up to `n_samples` prompts for each state. Nothing is pinned.

    anywhere: from `n_samples` random prompts of the text instead.
    """
    starts = [prompts(model, sae, evidence, state, n_samples, seed) for state in ([None] if anywhere else states)]
    given = torch.cat(starts)
    ids = torch.cat([given, sample(model, given, len(given), n_tokens, seed=seed)], dim=1)
    return Walks(ids.numpy(), activations(model, sae, states, ids)[:, PROMPT - 1 :])


def next_states(
    model: LanguageModel,
    sae: SparseAutoencoder,
    states: Sequence[int],
    given: Tensor,
    feature: int | None = None,
    pin: float | None = None,
    seed: int = 0,
) -> np.ndarray:
    """On which share of the next tokens each state fires, [states], when a feature is pinned on the prompts `given`.

    One token is sampled for each prompt. What fires on it is then read without the pin, so that the feature can act
    through the choice of the token alone. pin: 0 ablates the feature.
    """
    token = sample(model, given, len(given), 1, sae, feature, pin, seed=seed)
    return (activations(model, sae, states, torch.cat([given, token], dim=1))[:, -1] > 0).mean(0)


# --- a phrase that the model knows by heart -------------------------------------------------------------------------


class Link(NamedTuple):
    """One link of a chain: a feature that fires on a token of a phrase and helps to predict the next."""

    position: int  # of that token
    feature: int
    effect: float  # of its ablation on the log-probability of the next token, in nats


@torch.no_grad()
def chain(model: LanguageModel, sae: SparseAutoencoder, ids: Tensor, start: int) -> list[Link]:
    """The feature that each token of a phrase but the last leans on most: the one whose ablation harms the next most.

    ids: [1, length], what comes before the phrase, which begins at `start`, included. A feature that several tokens
    lean on stands once, at the token where its ablation harms most. Tokens that no ablation harms have no link.
    """
    codes = sae.encode(harvest(model.network, ids))[0, start:-1]
    features = np.flatnonzero((codes > 0).any(0).numpy())
    effects = np.array([ablation_effect(model, sae, feature, ids.numpy())[0, start + 1 :] for feature in features])
    best = effects.argmin(0)
    links = [Link(start + t, int(features[i]), float(effects[i, t])) for t, i in enumerate(best) if effects[i, t] < 0]
    worst: dict[int, Link] = {}
    for link in links:
        worst[link.feature] = min(worst.get(link.feature, link), link, key=lambda one: one.effect)
    return sorted(worst.values())
