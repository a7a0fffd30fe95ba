"""The steps of a case study: is one feature about one context, and about nothing else?

They are those of the paper's four examples (sections "Arabic Script Feature" and following):

1.  proxy          a score for every token says what is in context (`proxies`)
2.  specificity    where the feature is active, the text is in context
3.  sensitivity    where the text is in context, the feature is active, or a complementary one is
4.  downstream     logit weights, ablation and pinned sampling say what the feature does
5.  not a neuron   no single neuron does the same
6.  universal      a model trained from another seed has a twin of it

Each is a function that returns a named result. Two arrays [n_contexts, n_ctx] tell it what is in context: the score of
a proxy, above 0 in context, and `exact`, which marks characters (a script's, or those that a regular expression
matches) and serves as a second opinion. `controls` has what chance gives; `verdicts` compares with the claims' bars.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from re import Pattern
from typing import Any, NamedTuple

import numpy as np

from . import effects, proxies
from .autoencoder import SparseAutoencoder, load_dictionary
from .corpus import open_corpus
from .errors import SaeCoreError
from .evidence import Evidence, feature_evidence, neuron_correlations, neuron_evidence
from .language_model import LanguageModel, load_model
from .metrics import auc, clustered_mean, rank_correlation
from .runs import held_out
from .tokens import Contexts, load_contexts, token_bytes
from .universality import need_same_tokens

ENOUGH = 500  # tokens of a context: fewer prove nothing
PREFIX = "1,2,3,4,5,6,7,8,9,10"  # of pinned samples; it has nothing to do with any of the contexts (paper)
DOSES = (0, 1 / 4, 1 / 2, 3 / 4, 1, 3 / 2, 2)  # of pinning, as shares of the largest activation
BINS = 5  # of activation, for ablation


@dataclass(frozen=True)
class Feature:
    """A feature of a dictionary, with all that it takes to ask about it."""

    model: LanguageModel
    sae: SparseAutoencoder
    evidence: Evidence  # of the whole dictionary
    index: int
    dictionary: str = "A/1"

    @property
    def name(self) -> str:
        """Such as A/1/3450."""
        return f"{self.dictionary}/{self.index}"

    @property
    def places(self) -> np.ndarray:
        """Where it is active: indices into the flattened contexts."""
        return self.evidence.of(self.index)[0]

    @property
    def values(self) -> np.ndarray:
        """How active, at each of its places."""
        return self.evidence.of(self.index)[1]

    @property
    def largest(self) -> float:
        """Its largest activation on the text; 0 if it never fires."""
        return float(self.values.max(initial=0.0))

    def at_places(self, marks: np.ndarray) -> np.ndarray:
        """Of an array [n_contexts, n_ctx], the entries where the feature is active, in the order of `values`."""
        return marks.ravel()[self.places]


# --- text, and which feature to look at -----------------------------------------------------------------------------


class Text(NamedTuple):
    """Held-out text that has enough of a context."""

    contexts: Contexts
    exact: np.ndarray  # bool [n_contexts, n_ctx], the marked tokens
    name: str
    description: str  # a phrase that says which text it is, and why if it is not the one in use


def text_with(model: LanguageModel, pattern: Pattern[str], title: str, n_contexts: int) -> Text:
    """Held-out text in which a regular expression marks enough tokens: of the source in use, or else of the pocket.

    title: of the context, for messages.
    Raises SaeCoreError where neither has enough.
    """
    pieces = token_bytes(model.tokenizer)
    contexts, name = held_out(model)
    contexts = contexts.head(n_contexts)
    exact = proxies.touches(contexts.ids, pieces, pattern)
    if exact.sum() >= ENOUGH:
        return Text(contexts, exact, name, open_corpus().description)
    counted = f"{exact.sum():,} tokens of {title} in {name}"
    if name != "pocket":
        contexts = load_contexts([("pocket", None)], "all", model.tokenizer, model.n_ctx).head(n_contexts)
        exact = proxies.touches(contexts.ids, pieces, pattern)
        if exact.sum() >= ENOUGH:
            why = f"the embedded text, pocket, because there are only {counted}"
            return Text(contexts, exact, "pocket", why)
        counted += f" and {exact.sum():,} in pocket"
    raise SaeCoreError(f"only {counted}: too few to tell ({ENOUGH} are needed); choose another text or context")


def best_feature(
    model: LanguageModel, sae: SparseAutoencoder, evidence: Evidence, score: np.ndarray, dictionary: str = "A/1"
) -> Feature:
    """The feature whose activation correlates best with the positive part of a score [n_contexts, n_ctx]."""
    return Feature(model, sae, evidence, int(evidence.correlations(np.maximum(score, 0)).argmax()), dictionary)


def classes(inside: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """0 where both say in context, 1 where only the characters do, 2 where only the score does, 3 elsewhere."""
    return np.select([exact & inside, exact, inside], [0, 1, 2], 3)


# --- 2. specificity -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Specificity:
    """Shares of a feature's active tokens that are in context."""

    tokens: int  # looked at
    base_rate: float  # share of all tokens that are in context
    active_in_context: float
    mass_in_context: float  # share of the summed activation
    by_strength: list[float]  # active_in_context of ten equal parts of the active tokens (or fewer), weakest first

    @property
    def weakest_in_context(self) -> float:
        return self.by_strength[0]

    @property
    def strongest_in_context(self) -> float:
        return self.by_strength[-1]

    @property
    def lift(self) -> float:
        """How many times more often than by chance an active token is in context."""
        return self.active_in_context / self.base_rate


def specificity(feature: Feature, inside: np.ndarray, parts: int = 10) -> Specificity:
    """What an activation says about the token. inside: bool [n_contexts, n_ctx].

    Raises SaeCoreError where the feature is never active, or nothing is in context.
    """
    values, hits = feature.values, feature.at_places(inside)
    base_rate = float(inside[:, 1:].mean())
    if not len(values) or not base_rate:
        raise SaeCoreError(f"{feature.name}: active on {len(values)} tokens, {inside.sum()} in context; use more text")
    ordered = np.array_split(hits[np.argsort(values, kind="stable")], min(parts, len(values)))
    return Specificity(
        tokens=inside[:, 1:].size,
        base_rate=base_rate,
        active_in_context=float(hits.mean()),
        mass_in_context=float(values[hits].sum() / values.sum()),
        by_strength=[float(part.mean()) for part in ordered],
    )


# --- 3. sensitivity -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sensitivity:
    """How well a feature follows a proxy."""

    tokens: int
    correlation: float  # with the positive part of the score
    correlation_sign: float  # with whether it is positive; "thresholded at 0" (paper) may mean either
    recall: float  # share of the tokens in context on which the feature is active


def sensitivity(feature: Feature, score: np.ndarray) -> Sensitivity:
    """Pearson correlations and recall. score: [n_contexts, n_ctx], positive in context."""
    evidence, i = feature.evidence, feature.index
    one = Evidence(evidence.contexts, np.array([0, len(feature.places)]), *evidence.of(i))
    return Sensitivity(
        tokens=score[:, 1:].size,
        correlation=float(one.correlations(np.maximum(score, 0))[0]),
        correlation_sign=float(one.correlations(score > 0)[0]),
        recall=evidence.recall([i], score > 0),
    )


@dataclass(frozen=True)
class Cover:
    """A feature, its complements, and the recall of their union as they are added one after the other."""

    features: list[int]  # the feature itself first
    recalls: list[float]

    @property
    def recall(self) -> float:
        return self.recalls[0]

    @property
    def union_recall(self) -> float:
        return self.recalls[-1]

    @property
    def complements(self) -> int:
        return len(self.features) - 1


def cover(feature: Feature, inside: np.ndarray, n: int = 4) -> Cover:
    """Up to n further features that fire where one is silent, chosen on one half of the text, counted on the other.

    See `Evidence.complements` for what is asked of them.
    """
    half, whole = len(inside) // 2, len(inside)
    first, second = feature.evidence.between(0, half), feature.evidence.between(half, whole)
    features = [feature.index, *first.complements(feature.index, inside[:half], n)]
    return Cover(features, [second.recall(features[: k + 1], inside[half:]) for k in range(len(features))])


# --- 4. downstream --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LogitReading:
    """A feature's logit weights, and how well they tell the tokens of a context from the rest of the vocabulary."""

    weights: np.ndarray  # [vocab], median 0
    of_context: np.ndarray  # bool [vocab]
    kept: np.ndarray  # bool [vocab], tokens that are not rare
    top: np.ndarray  # the twenty kept tokens with the largest weight
    logit_auc: float

    @property
    def top20_in_context(self) -> int:
        return int(self.of_context[self.top].sum())


def logit_reading(feature: Feature, of_context: np.ndarray) -> LogitReading:
    """What the weights say that a feature promotes. of_context: bool [vocab], the tokens that belong to the context."""
    weights = _logit_weights(feature)
    kept = effects.not_rare(feature.evidence.contexts.ids, len(weights))
    top = np.flatnonzero(kept)[np.argsort(-weights[kept], kind="stable")[:20]]
    return LogitReading(weights, of_context, kept, top, _auc(weights[kept], of_context[kept]))


def _auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """`auc`, or NaN where one of the two kinds is missing."""
    return auc(scores, labels) if 0 < labels.sum() < labels.size else np.nan


def _logit_weights(feature: Feature) -> np.ndarray:
    return effects.logit_weights(feature.model, feature.sae.W_dec[[feature.index]].detach())[0].numpy()


class Interval(NamedTuple):
    """A mean with its 95 % confidence interval by bootstrap over whole contexts; NaN where nothing was averaged."""

    mean: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Ablation:
    """Change of the log-likelihood of the true next token, in nats, where a feature is active and is removed."""

    inside: Interval  # over next tokens in context
    elsewhere: Interval  # over the other next tokens
    strength: list[float]  # mean activation in each bin
    inside_by_strength: list[Interval]
    elsewhere_by_strength: list[Interval]
    contexts: np.ndarray  # rows that were looked at

    @property
    def effect(self) -> float:
        return self.inside.mean

    @property
    def effect_upper(self) -> float:
        return self.inside.upper

    @property
    def effect_elsewhere(self) -> float:
        return self.elsewhere.mean

    @property
    def growing_bins(self) -> int:
        """Bins, weakest first, over which the effect in context grows in size without a step back; 0 if not overall."""
        means = [interval.mean for interval in self.inside_by_strength]
        if not means[-1] < means[0]:
            return 0
        return next((b for b in range(1, len(means)) if not means[b] < means[b - 1]), len(means))


def ablation(feature: Feature, exact: np.ndarray, n_contexts: int, seed: int = 0) -> Ablation:
    """Remove a feature and see what becomes of the next token, in context and elsewhere, by strength of activation.

    exact: bool [n_contexts, n_ctx]. Up to half of the `n_contexts` hold the context, the others do not, drawn from
    those in which the feature is active. Bins hold a fifth each of the active tokens before one in context.
    """
    ids, rng = feature.evidence.contexts.ids, np.random.default_rng(seed)
    activation = feature.evidence.dense(feature.index)
    active, holds = (activation > 0).any(1), exact.any(1)
    groups = [np.flatnonzero(active & holds), np.flatnonzero(active & ~holds)]
    rows = np.sort(np.concatenate([rng.permutation(group)[: n_contexts // 2] for group in groups]))
    change = effects.ablation_effect(feature.model, feature.sae, feature.index, ids[rows])[:, 1:]
    strength, next_inside = activation[rows, :-1], exact[rows, 1:]  # what a token does, it does to the next one
    on, context_of = strength > 0, np.broadcast_to(rows[:, None], strength.shape)
    before_context = strength[on & next_inside]
    bounds = np.quantile(before_context, np.linspace(0, 1, BINS + 1)[1:-1]) if len(before_context) else [np.inf] * 4
    bin_of = np.digitize(strength, bounds)

    def mean(where: np.ndarray) -> Interval:
        if not where.any():
            return Interval(np.nan, np.nan, np.nan)
        return Interval(*clustered_mean(change[where], context_of[where]))

    bins = [on & (bin_of == b) for b in range(BINS)]
    return Ablation(
        inside=mean(on & next_inside),
        elsewhere=mean(on & ~next_inside),
        strength=[float(strength[where].mean()) if where.any() else np.nan for where in bins],
        inside_by_strength=[mean(where & next_inside) for where in bins],
        elsewhere_by_strength=[mean(where & ~next_inside) for where in bins],
        contexts=rows,
    )


@dataclass(frozen=True)
class Pinned:
    """What the model writes while a feature is held at one value, and what it writes by itself."""

    samples: int
    largest: float  # activation of the feature on the text
    doses: Sequence[float]  # what it was held at, as shares of the largest; rising
    shares: list[float]  # of the characters written that are in context
    unpinned_share: float
    texts: list[list[bytes]]  # for each dose
    unpinned_texts: list[bytes]

    def at(self, dose: float) -> int:
        """Index of a dose."""
        return list(self.doses).index(dose)

    @property
    def levels(self) -> list[float]:
        """The activations that the feature was held at."""
        return [dose * self.largest for dose in self.doses]

    @property
    def pinned_share(self) -> float:
        """At the largest activation, which is what the paper pins to."""
        return self.shares[self.at(1)]

    @property
    def dose_correlation(self) -> float:
        """Rank correlation of dose and share, up to the largest activation."""
        within = self.at(1) + 1
        return rank_correlation(self.doses[:within], self.shares[:within])


def pinned(
    feature: Feature, pattern: Pattern[str], n_samples: int, n_tokens: int = 20, doses: Sequence[float] = DOSES
) -> Pinned:
    """Sample from the paper's prefix with a feature held at shares of its largest activation.

    pattern: a regular expression of the context's characters. doses: they include 1.
    """
    model, sae = feature.model, feature.sae
    pieces = token_bytes(model.tokenizer)

    def written(**pin: Any) -> list[bytes]:
        tokens = effects.sample(model, PREFIX, n_samples, n_tokens, **pin)
        return [b"".join(pieces[token] for token in row) for row in tokens.tolist()]

    texts = [written(sae=sae, feature=feature.index, pin=dose * feature.largest) for dose in doses]
    shares = [proxies.matched_share(samples, pattern) for samples in texts]
    unpinned = written()
    return Pinned(n_samples, feature.largest, doses, shares, proxies.matched_share(unpinned, pattern), texts, unpinned)


# --- 5. not a neuron ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NeuronMatch:
    """What single neurons do of what a feature does."""

    neurons: Evidence
    rows: np.ndarray  # the contexts of that evidence, as rows of the feature's
    neuron: int  # whose activation correlates best with the feature's
    best_neuron_correlation: float
    auc: float  # of the feature, in telling what is in context
    aucs: np.ndarray  # of every neuron
    precision: float  # of as many strongest tokens as there are in context: the share in context
    precisions: np.ndarray  # of every neuron
    examples: np.ndarray  # of each neuron's strongest examples, how many show the context
    examples_each: int
    by_chance: float  # share of snippets around random tokens that show it
    coefficients: np.ndarray  # of the feature's direction, [neurons]

    @property
    def best_neuron_auc(self) -> float:
        return float(self.aucs.max())

    @property
    def neuron_examples(self) -> int:
        return int(self.examples.sum())

    @property
    def large_coefficients(self) -> int:
        """Neurons with a magnitude of at least 0.1 (paper's threshold) in the direction, which has length 1."""
        return int((np.abs(self.coefficients) >= 0.1).sum())

    @property
    def negative_top3(self) -> int:
        return int((self.coefficients[np.argsort(-np.abs(self.coefficients))[:3]] < 0).sum())


def neuron_match(
    feature: Feature, inside: np.ndarray, exact: np.ndarray, n_contexts: int, top: int = 20, window: int = 12
) -> NeuronMatch:
    """Look for the feature among the neurons: by correlation on all of its text, by the rest on `n_contexts` contexts.

    They are the first ones, which are a fair sample. Where fewer than `ENOUGH` tokens there are in context, later ones
    that hold some take the place of the last. AUC does not mind; by chance, more examples show the context then.
    An example shows the context if one of its tokens, `window` to each side, is marked in `exact`. AUC and precision
    go by `inside`; they are NaN if it has no token there. Both are bool [n_contexts, n_ctx].
    """
    rows = _with_enough(inside, n_contexts)
    neurons = neuron_evidence(feature.model, feature.evidence.contexts.take(rows))
    activation = feature.evidence.dense(feature.index)
    correlations = neuron_correlations(feature.model, feature.evidence.contexts, activation)
    activation = activation[rows]
    truth, shown = inside[rows, 1:], _near(exact[rows], window)
    tested = [_told_apart(neurons.dense(i)[:, 1:], truth) for i in range(neurons.n_features)]
    own = _told_apart(activation[:, 1:], truth)
    examples = [
        sum(bool(shown[example.context, example.position]) for example in neurons.top_examples(i, top))
        for i in range(neurons.n_features)
    ]
    aucs, precisions = np.array(tested).T
    return NeuronMatch(
        neurons=neurons,
        rows=rows,
        neuron=int(correlations.argmax()),
        best_neuron_correlation=float(correlations.max()),
        auc=own[0],
        aucs=aucs,
        precision=own[1],
        precisions=precisions,
        examples=np.array(examples),
        examples_each=top,
        by_chance=float(shown[:, 1:].mean()),
        coefficients=feature.sae.W_dec[feature.index].detach().numpy(),
    )


def _with_enough(inside: np.ndarray, n_contexts: int) -> np.ndarray:
    """The first rows, up to n_contexts, and in place of the last of them as many as it takes to have enough inside."""
    rows = np.arange(min(n_contexts, len(inside)))
    lacking, counts = ENOUGH - inside[rows, 1:].sum(), inside[:, 1:].sum(1)
    if lacking <= 0:
        return rows
    later = np.flatnonzero(counts[len(rows) :]) + len(rows)
    later = later[: np.searchsorted(counts[later].cumsum(), lacking) + 1][: len(rows)]
    return np.concatenate([rows[: len(rows) - len(later)], later])


def _told_apart(activation: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """AUC, and the precision among as many strongest tokens as there are true ones; NaN where there are none."""
    k = int(truth.sum())
    if not k:
        return np.nan, np.nan
    strongest = np.argpartition(activation.ravel(), -k)[-k:]
    return _auc(activation, truth), float(truth.ravel()[strongest].mean())


def _near(marks: np.ndarray, window: int) -> np.ndarray:
    """Places with a mark at most `window` to either side within their context: bool, same shape."""
    counts = np.pad(marks, ((0, 0), (window + 1, window))).cumsum(1)
    return counts[:, 2 * window + 1 :] > counts[:, : -2 * window - 1]


# --- 6. universal ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Twin:
    """The feature of another model's dictionary that is active where a feature is."""

    feature: Feature
    twin_correlation: float  # of the activations, on the same tokens
    twin_logit_correlation: float  # of the logit weights, over tokens that are not rare


def twin(feature: Feature, dictionary: str = "B/1") -> Twin:
    """Look for a feature in the dictionary of another model, given by name, that reads the same tokens.

    Raises SaeCoreError where there is no such dictionary, or the two models' tokens differ.
    """
    model, sae = load_model(dictionary.rpartition("/")[0]), load_dictionary(dictionary)
    need_same_tokens(feature.model, model)
    contexts = feature.evidence.contexts
    evidence = feature_evidence(model, sae, contexts)
    correlations = evidence.correlations(feature.evidence.dense(feature.index))
    other = Feature(model, sae, evidence, int(correlations.argmax()), dictionary)
    weights = [_logit_weights(one) for one in (feature, other)]
    kept = effects.not_rare(contexts.ids, len(weights[0]))
    return Twin(other, float(correlations.max()), float(np.corrcoef(weights[0][kept], weights[1][kept])[0, 1]))
