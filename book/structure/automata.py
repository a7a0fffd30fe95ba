# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Features that drive one another
#
# A feature raises the logits of some tokens. The model writes one of them. On that token other features fire, and they
# raise the logits of the next. Nothing inside the model links the two features. What links them is the text. Read
# features as states and tokens as transitions, and you see the model run a **finite-state automaton**. The paper drew a
# few of them by hand {cite}`bricken2023monosemanticity`. Here code finds them, and you watch them run.
#
# ```{admonition} Before you start
# **You will be able to**
# - say what an edge from one feature to another means, and compute it from logit weights, probabilities and text;
# - find automata in the graph of all edges, and say what chance would give;
# - replay a text that the model wrote, state by state, and say which tokens the automaton does not explain;
# - test whether a state *causes* the next one, by ablation and by pinning.
#
# **You need** the chapters on {doc}`Arabic </book/features/arabic>` and {doc}`base64 </book/features/base64_roles>`.
#
# **Time**: 35 minutes to read, about a minute to run.
# ```

# %% tags=["hide-input"]
import re
import textwrap

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots

from sae_core import automata, automata_plots, case_plots, case_study, chapter, plots, proxies
from sae_core.autoencoder import load_dictionary
from sae_core.effects import ablation_effect, sample
from sae_core.errors import SaeCoreError
from sae_core.evidence import feature_evidence
from sae_core.exercises import check
from sae_core.language_model import load_model
from sae_core.runs import held_out, held_out_description
from sae_core.tokens import token_bytes

# %%
model, sae = load_model("A"), load_dictionary("A/1")
pieces = token_bytes(model.tokenizer)
contexts, text = held_out(model)
contexts = contexts.head(chapter.size(quick=4000, full=12_000))
evidence = feature_evidence(model, sae, contexts)
half = len(contexts.ids) // 2
first, second = evidence.between(0, half), evidence.between(half, len(contexts.ids))

# %% tags=["remove-cell"]
chapter.number("text", text)
chapter.number("text-description", held_out_description(model))
chapter.number("tokens", evidence.n_tokens, ",")

# %% [markdown]
# The text is *{glue:text}`text`*: {glue:text}`text-description`. There are {glue:text}`tokens` tokens of it that the
# model was not trained on. We will search among millions of pairs of features. So everything is chosen on the first
# half of the text and measured on the second.
#
# ## What is an edge?
#
# Take two features, $i$ and $j$. Feature $i$ fires on the token that was just written. Does it bring about $j$?
#
# 1. **What does $i$ ask for?** Its logit weights say so. Take the hundred tokens with the largest.
# 2. **What does the model then write?** That depends on everything else that is active. So each of the hundred counts
#    by the mean probability that the model gives it where $i$ fires.
# 3. **What fires there?** For each of the hundred, count how often $j$ fires on it when it comes right after $i$.
#
# The **edge** from $i$ to $j$ is the mean of the third, weighted by the second. It is the probability that $j$ fires
# next, if $i$ gets one of the tokens that it asks for. A token that never comes after $i$ in our text counts as zero.
# So an edge is rather too small than too large.
#
# ```{admonition} Predict
# :class: tip
# Draw two features at random. How large is the edge between them: about 0.3, 0.03, or 0.003? And do you expect many
# edges above one half, or hardly any?
# ```

# %%
promoted = automata.promoted(model, sae, first.between(0, chapter.size(quick=400, full=4000)), n=100)
graph = automata.edges(first, promoted)  # to choose by
tested = automata.edges(second, promoted)  # to report
alive = np.flatnonzero((first.counts >= 20) & (second.counts >= 20))
null = automata.random_pairs(tested, alive)
null_probability = float(null.mean())

# %% tags=["remove-cell"]
strong = np.argwhere(graph >= 0.5)
chapter.number("all-features", sae.d_sae, ",")
chapter.number("null", null_probability, ".4f")
chapter.number("strong", len(strong), ",")
chapter.number("pairs", len(alive) ** 2 / 1e6, ".0f")
chapter.number("strong-again", float((tested[tuple(strong.T)] >= 0.5).mean()), ".0%")
chapter.number("strong-mean", float(tested[tuple(strong.T)].mean()), ".2f")
chapter.number("mass", float(np.median(promoted.mass[alive])), ".0%")

# %% [markdown]
# Between two random features the edge is {glue:text}`null` on average. Of {glue:text}`pairs` million pairs,
# {glue:text}`strong` have an edge of one half or more on the first half of the text. On the second half,
# {glue:text}`strong-again` of these are above one half again, and their mean is {glue:text}`strong-mean`. So the strong
# edges are no accident of the text.
#
# ```{admonition} A trap: a feature does not decide alone
# :class: warning
# The hundred tokens that a feature asks for get {glue:text}`mass` of the probability, by the median over features. The
# rest goes elsewhere. An edge of 0.9 does not say that $j$ fires after 90 % of $i$'s firings. It says so for the tokens
# that $i$ gets its way with.
# ```
#
# ## One large system, or many small ones?
#
# In a directed graph, a **strongly connected component** is a set of nodes each of which leads to every other one. That
# is what an automaton looks like from above: however you leave a state, there is a way back. Which components are
# there? It depends on how large an edge has to be to count.
#
# ```{admonition} Predict
# :class: tip
# Count only edges above 0.1. Is the largest component a handful of features, or most of the dictionary? What if each
# feature had as many edges as it has, but to random features?
# ```

# %% tags=["hide-input"]
#| label: fig-automata-components
#| caption: >-
#|   Size of the largest strongly connected component by the smallest edge that counts, with our edges and after the
#|   edges of each feature were dealt out to random features; and the number of components with two to 25 features.
thresholds = np.round(np.arange(0.1, 0.81, 0.05), 2)
dealt = np.random.default_rng(0).permuted(graph, axis=1)
sizes = {
    name: [[len(states) for states in automata.components(edges, threshold)] for threshold in thresholds]
    for name, edges in {"our edges": graph, "dealt out": dealt}.items()
}
largest = {name: np.array([max(found, default=1) for found in all_of]) for name, all_of in sizes.items()}
small = np.array([sum(2 <= size <= 25 for size in found) for found in sizes["our edges"]])
figure = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.08, row_heights=[0.6, 0.4])
for name, colour in (("our edges", plots.PALETTE[0]), ("dealt out", plots.PALETTE[7])):
    figure.add_scatter(x=thresholds, y=largest[name], name=name, mode="lines+markers", line_color=colour, row=1, col=1)
figure.add_bar(x=thresholds, y=small, name="small components", marker_color=plots.PALETTE[2], row=2, col=1)
figure.update_yaxes(type="log", title="largest component", row=1, col=1)
figure.update_yaxes(title="components", row=2, col=1)
figure.update_xaxes(title="smallest edge that counts", row=2, col=1)
said = ", ".join(
    f"{ours:,} features at {threshold:.1f} (dealt out {other:,})"
    for threshold, ours, other in [*zip(thresholds, *largest.values(), strict=True)][::2]
)
plots.describe(figure, f"Two panels over thresholds. Largest component: {said}. Below, bars: at most {small.max()} "
               "components of two to 25 features.", height=480)  # fmt: skip

# %% tags=["remove-cell"]
chapter.number("largest-low", largest["our edges"][0], ",")
chapter.number("dealt-low", largest["dealt out"][0], ",")
blind = 0.4  # the smallest edge that counts from here on, as long as there are no names
at_blind = int(np.flatnonzero(thresholds == blind)[0])
chapter.number("largest-blind", largest["our edges"][at_blind], ",")
chapter.number("dealt-blind", largest["dealt out"][at_blind], ",")
chapter.number("small-blind", small[at_blind])

# %% [markdown]
# Count everything above 0.1, and {glue:text}`largest-low` features are one system: all of the model's text hangs
# together. That says little. With as many edges, dealt out at random, it is {glue:text}`dealt-low` features. The other
# end says more. At 0.4 the largest component of the random graph has {glue:text}`dealt-blind`. Ours has
# {glue:text}`largest-blind`, and there are {glue:text}`small-blind` components of two to 25 features. Here are the
# largest of these:

# %% tags=["hide-input"]
def states_table(labels: list[str], states: list[int]):
    """What each state fires on, and what it promotes."""
    ids = contexts.ids.ravel()
    rows = []
    for label, state in zip(labels, states, strict=True):
        wanted = promoted.tokens[state][np.argsort(-promoted.weights[state], kind="stable")]
        mostly = case_plots.most_frequent(ids[evidence.of(state)[0]], pieces, 6)
        rows.append((label, f"A/1/{state}", mostly, case_plots.shown(wanted[:6], pieces)))
    return plots.table(["", "feature", "fires mostly on", "and promotes"], rows)


found_blind = [states for states in automata.components(graph, blind) if 2 <= len(states) <= 25]
few = [(n, state) for n, states in enumerate(found_blind[:8], 1) for state in states[:3]]
states_table([str(n) for n, _ in few], [state for _, state in few])

# %% [markdown]
# The number in the first column is that of the component; of large ones three states are shown. Read the last two
# columns across the rows of one component: what one state promotes is what another fires on. No label was given. Most
# components are a kind of text: a script, a language, a notation, a kind of data. That makes sense. Where the text has
# a strict form, the next token says a lot about the one after.
#
# ## One state: base64
#
# The smallest automaton is one state with an edge to itself. The paper's example is base64: its feature promotes tokens
# on which it fires again. We find the feature as in {doc}`the chapter on base64 </book/features/base64_roles>`, by the
# log-likelihood proxy.

# %%
score = proxies.alphabet_proxy(first.contexts.ids, pieces, proxies.BASE64)
base64 = case_study.best_feature(model, sae, first, score)
loop = automata.Automaton("base64", [base64.index], ["base64"], graph[[base64.index]][:, [base64.index]])
n_walks = chapter.size(quick=48, full=256)
loop_walks = automata.walks(model, sae, second, loop.states, n_walks)

# %% [markdown]
# **How to read the figures.** Circles are states, and beside each arrow stands the edge on the first half of the text.
# Press *play*, or move the slider. Below the graph stands what the model wrote, as text and token by token; the token
# in bold is the last. A state that fires on it has a bold rim, and is filled by how strongly it fires. An arrow lights
# up when the token follows it, and carries the token.
#
# The model wrote from a prompt of the second half that ends where a state fires. Of all the samples, the code shows the
# one in which most tokens follow. How the others do comes below.

# %% tags=["hide-input"]
#| label: fig-automata-loop
#| caption: >-
#|   The base64 feature, {glue:text}`base64`, as an automaton of one state, and a text that the model wrote.
def best_walk(automaton, walked) -> int:
    return int(automaton.follows(walked.activations).sum(1).argmax())


def replayed(automaton, walked) -> go.Figure:
    chosen = best_walk(automaton, walked)
    return automata_plots.replay(automaton, walked.ids[chosen], walked.activations[chosen], pieces)


replayed(loop, loop_walks)

# %% [markdown]
# One sample proves nothing. So let the model write from {glue:text}`free-samples` random prompts of all kinds of text,
# twenty tokens each. How often does the feature fire on a token, and how often if it fired on the one before?

# %%
free = automata.walks(model, sae, second, loop.states, chapter.size(quick=1024, full=8192), anywhere=True)
fires = free.activations[..., 0] > 0
base_rate = float(fires[:, 1:].mean())
repeat_probability = float((fires[:, 1:] & fires[:, :-1]).sum() / max(fires[:, :-1].sum(), 1))
chapter.claim(
    "A34", where="structure/automata#fig-automata-loop", text=text, repeat_probability=repeat_probability,
    base_rate=base_rate,
)  # fmt: skip

# %% tags=["remove-cell"]
chapter.number("base64", base64.name)
chapter.number("free-samples", len(free.ids), ",")
chapter.number("base-rate", base_rate, ".2%")
chapter.number("repeat", repeat_probability, ".0%")
chapter.number("repeat-times", repeat_probability / max(base_rate, 1e-9), ".0f")
chapter.number("repeat-n", int(fires[:, :-1].sum()))
chapter.number("loop-edge", float(tested[base64.index, base64.index]), ".2f")

# %% [markdown]
# It fires on {glue:text}`base-rate` of the tokens. After a token on which it fired ({glue:text}`repeat-n` of them), it
# fires on {glue:text}`repeat`, that is {glue:text}`repeat-times` times as often. Its edge to itself is
# {glue:text}`loop-edge`.
#
# ## Looking for an automaton by name
#
# The components came without names. Now the other way round: take an automaton from the paper, say what its states
# should be about, and see whether this dictionary has features for them. Three steps.
#
# 1. A regular expression names the **roles**. For HTML they are the bracket that opens a tag, the tag's name, the
#    bracket that closes it, and the space behind. A token has the role of its last byte.
# 2. For each role, take the sixteen features that correlate best with it: the candidates.
# 3. Of all choices of one candidate per role, take the **cycle** with the largest product of its edges and of the
#    correlations. Every edge has to reach 0.1.
#
# If no choice has all its edges, there is no such automaton here, and the code says so.
#
# A search among so many choices may find a cycle where there is nothing to find. So we also ask it for cycles of roles
# that do not belong together: the prefix of one script and the suffix of another.

# %%
PATTERNS = {
    "snake case": rb"(?P<part>(?<![A-Za-z0-9])[A-Z][A-Z0-9]*(?=_[A-Z])|(?<=[A-Z]_)[A-Z][A-Z0-9]+\b)"
    rb"|(?P<underscore>(?<=[A-Z0-9])_(?=[A-Z]))",
    "HTML": rb"(?P<open></?)(?P<name>[A-Za-z][\w-]*)[^<>\0]{0,200}?(?P<close>/?>)(?P<space>\s*)",
    "JSON": rb'[,{](?P<quote>\s*")(?P<key>[^"\n\0]{1,40})(?P<colon>"\s*:\s*)'
    rb'(?P<value>"[^"\n\0]{0,60}"|[\d.]+|true|false|null)?',
}
# The bytes of a script's characters: all but the last are the prefix, the last completes the character.
SCRIPTS = {
    "Greek": rb"(?P<prefix>[\xce\xcf])(?P<suffix>[\x80-\xbf])",
    "Cyrillic": rb"(?P<prefix>[\xd0-\xd3])(?P<suffix>[\x80-\xbf])",
    "Hebrew": rb"(?P<prefix>[\xd6\xd7])(?P<suffix>[\x80-\xbf])",
    "Arabic": rb"(?P<prefix>[\xd8-\xdb])(?P<suffix>[\x80-\xbf])",
    "Devanagari": rb"(?P<prefix>\xe0[\xa4\xa5]?)(?P<suffix>(?<=\xe0[\xa4\xa5])[\x80-\xbf])",
    "kana": rb"(?P<prefix>\xe3[\x81-\x83]?)(?P<suffix>(?<=\xe3[\x81-\x83])[\x80-\xbf])",
    "Chinese": rb"(?P<prefix>[\xe4-\xe9][\x80-\xbf]?)(?P<suffix>(?<=[\xe4-\xe9][\x80-\xbf])[\x80-\xbf])",
    "Hangul": rb"(?P<prefix>[\xea-\xed][\x80-\xbf]?)(?P<suffix>(?<=[\xea-\xed][\x80-\xbf])[\x80-\xbf])",
}
ENOUGH = 100  # tokens of each role in the first half
found, missing, candidates = {}, {}, {}
for title, pattern in (PATTERNS | SCRIPTS).items():
    marks = automata.roles(first.contexts.ids, pieces, re.compile(pattern))
    rarest = min(marks, key=lambda name: marks[name].sum())
    if marks[rarest].sum() < ENOUGH:
        missing[title] = f"half of {text} has only {marks[rarest].sum()} tokens of the role “{rarest}”"
        continue
    correlations = [first.correlations(mark) for mark in marks.values()]
    candidates[title] = [{int(i): float(c[i]) for i in np.argsort(-c)[:16]} for c in correlations]
    try:
        states = automata.best_cycle(graph, candidates[title])
    except SaeCoreError:
        missing[title] = "no choice has all its edges"
        continue
    found[title] = automata.Automaton(title, states, [*marks], graph[np.ix_(states, states)])
if not found:
    raise SaeCoreError(f"none of these automata is in {text}; choose another text, or write patterns for what it has")

ABOUT = 0.2  # a state that correlates less with its role is hardly about it


def weakest_fit(roles: list[dict[int, float]]) -> float | None:
    """The lower correlation of the two states that the search finds for two roles; None where it finds none."""
    try:
        states = automata.best_cycle(graph, roles)
    except SaeCoreError:
        return None
    return min(fit[state] for fit, state in zip(roles, states, strict=True))


in_text = [title for title in SCRIPTS if title in candidates]
mismatched = [
    weakest_fit([candidates[one][0], candidates[other][1]]) for one in in_text for other in in_text if one != other
]

# %% tags=["hide-input"]
def around(edges: np.ndarray) -> np.ndarray:
    """The edges of a cycle, from each state to the next."""
    states = np.arange(len(edges))
    return edges[states, (states + 1) % len(edges)]


def tested_edges(automaton) -> np.ndarray:
    return tested[np.ix_(automaton.states, automaton.states)]


def fits(automaton) -> list[float]:
    """How well each state correlates with its role."""
    return [fit[state] for fit, state in zip(candidates[automaton.title], automaton.states, strict=True)]


rows = [
    (title, " → ".join(f"{label} ({state})" for label, state in zip(one.labels, one.states, strict=True)),
     ", ".join(f"{fit:.2f}" for fit in fits(one)), ", ".join(f"{edge:.2f}" for edge in around(tested_edges(one))))
    for title, one in found.items()
]  # fmt: skip
rows += [(title, why, "–", "–") for title, why in missing.items()]
plots.table(["", "features of A/1, back to the first", "correlation with the role", "edges, second half"], rows)

# %% tags=["remove-cell"]
cycle_edges = np.concatenate([around(tested_edges(one)) for one in found.values()])
scripts = {title: one for title, one in found.items() if title in SCRIPTS}
chosen_script = max(
    scripts, key=lambda title: float(np.prod([*fits(scripts[title]), *around(scripts[title].edges)])), default=None
)
not_found = ", ".join(f"{title} ({why})" for title, why in missing.items())
chapter.number("missing", f"Not found: {not_found}." if missing else "The search finds a cycle for all of them.")
chapter.number("scripts-found", len(scripts))
chapter.number("scripts-all", len(SCRIPTS))
about = [title for title, one in scripts.items() if min(fits(one)) >= ABOUT]
chance_cycles = [fit for fit in mismatched if fit is not None]
chapter.number("scripts-about", len(about))
chapter.number("mismatched", len(mismatched))
chapter.number("mismatched-found", len(chance_cycles))
chapter.number("mismatched-about", sum(fit >= ABOUT for fit in chance_cycles))
vague = [title for title in scripts if title not in about]
chapter.number(
    "vague",
    "Each of the scripts has a pair in this sense."
    if len(about) == len(SCRIPTS)
    else f"We do not count the pairs of these scripts as found: {', '.join(vague)}."
    if vague
    else "The other scripts have no cycle at all.",
)
often_found = len(chance_cycles) / max(len(mismatched), 1)
chapter.number(
    "search-told",
    "there is not enough text of two scripts to try that"
    if not mismatched
    else "so a cycle alone says little"
    if often_found > 0.1
    else "so even a cycle alone says something",
)
chapter.number("cycle-mean", float(cycle_edges.mean()), ".2f")
chapter.number("cycle-smallest", float(cycle_edges.min()), ".2f")

# %% [markdown]
# {glue:text}`missing` Over all the cycles in the table the mean edge is {glue:text}`cycle-mean`, the smallest
# {glue:text}`cycle-smallest`.
#
# ```{admonition} A trap: a search that always finds
# :class: warning
# Of the {glue:text}`scripts-all` scripts, {glue:text}`scripts-found` have a cycle. How often does the search find one
# for a prefix and a suffix of two different scripts? For {glue:text}`mismatched-found` of {glue:text}`mismatched` such
# pairs, {glue:text}`search-told`. Look at the correlations. A feature with an edge in the right place need not be
# *about* the role. A small correlation means that the state does its part in the automaton and much else besides, or
# that it serves a few of its words only. Ask that both states correlate with their roles to at least 0.2. Then
# {glue:text}`scripts-about` scripts are left, and {glue:text}`mismatched-about` of the pairs that do not belong
# together. {glue:text}`vague`
# ```
#
# ### Two states: `ALL_CAPS_SNAKE_CASE`
#
# Names of constants are written in capitals and joined by underscores. The paper found two features that hand the text
# to one another. On a part in capitals one promotes more capitals, or the underscore. On the underscore the other
# promotes the next part. {glue:text}`snake-told`

# %% tags=["hide-input"]
#| label: fig-automata-snake
#| caption: >-
#|   The pair for names in capitals: {glue:text}`snake-shown`.
drawn = [title for title in (*PATTERNS, chosen_script) if title in found]
walked = {title: automata.walks(model, sae, second, found[title].states, n_walks) for title in drawn}


def drawing(title: str | None) -> go.Figure:
    """The replay of an automaton, or why there is none."""
    if title in found:
        return replayed(found[title], walked[title])
    why = missing.get(title, "no script has a pair")
    figure = go.Figure()
    lines = "<br>".join(plots.escape(line) for line in textwrap.wrap(f"Not here: {why}", 36))
    figure.add_annotation(text=lines, showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper")
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return plots.describe(figure, f"No automaton: {why}.", height=160)


drawing("snake case")

# %% tags=["hide-input"]
def states_of(title: str | None):
    return states_table(found[title].labels, found[title].states) if title in found else None


states_of("snake case")

# %% tags=["remove-cell"]
def named_states(title: str | None) -> str:
    return ", ".join(f"A/1/{state}" for state in found[title].states) if title in found else "not found here"


def snake_told() -> str:
    if "snake case" not in found:
        return f"Here the pair was not found: {missing['snake case']}."
    (again, there), (back, _) = tested_edges(found["snake case"])
    part, underscore = fits(found["snake case"])
    told = (
        f"Here, too: from a part the edge to the next token of a part is {again:.2f}, to the underscore {there:.2f}. "
        f"From the underscore to a part it is {back:.2f}. The features correlate with their roles to {part:.2f} and "
        f"{underscore:.2f}."
    )
    if min(part, underscore) < ABOUT:
        told += " A correlation below 0.2 means that the feature is hardly about such names."
    first_state = found["snake case"].states[0]
    wanted = [pieces[token] for token in promoted.tokens[first_state]]
    if b"_" in wanted:
        told += (
            f" Among the tokens that the first asks for, the underscore is number {wanted.index(b'_') + 1}, for a part "
            "has many letters and one end."
        )
    return told


chapter.number("snake-told", snake_told())
chapter.number("script", chosen_script or "a script")
for name, title in {"snake": "snake case", "script": chosen_script, "html": "HTML", "json": "JSON"}.items():
    states = named_states(title)
    chapter.number(f"{name}-states", states)
    chapter.number(f"{name}-shown", f"{states}, and a text that the model wrote" if title in found else states)

# %% [markdown]
# ### Two states: the bytes of a script
#
# Our tokens are made of bytes. A letter of most scripts takes two or three of them, and the tokeniser has not joined
# them all. So the model has to spell: first the byte that is common to the script, then the one that says which letter.
# The paper shows this for Tamil and Chinese. The pair with the largest product here is {glue:text}`script`.

# %% tags=["hide-input"]
#| label: fig-automata-script
#| caption: >-
#|   The pair that spells {glue:text}`script`: {glue:text}`script-shown`. Bytes that are no whole character stand as \x
#|   and two digits.
drawing(chosen_script)

# %% tags=["hide-input"]
states_of(chosen_script)

# %% [markdown]
# ### Four states: mark-up
#
# The paper's example is HTML: a tag opens, it gets a name, it closes, white space follows, and the next tag opens.
# {glue:text}`html-told`

# %% tags=["hide-input"]
#| label: fig-automata-markup
#| caption: >-
#|   The automaton of HTML: {glue:text}`html-shown`.
drawing("HTML")

# %% tags=["hide-input"]
states_of("HTML")

# %% [markdown]
# JSON is not mark-up, but it has as strict a form: a quote opens a key, the key is spelled, a colon, a value, and a
# comma with the next quote. {glue:text}`json-told`

# %% tags=["hide-input"]
#| label: fig-automata-json
#| caption: >-
#|   The automaton of JSON: {glue:text}`json-shown`.
drawing("JSON")

# %% tags=["hide-input"]
states_of("JSON")

# %% tags=["remove-cell"]
def cycle_told(title: str) -> str:
    if title not in found:
        return f"Here no such automaton was found: {missing[title]}."
    found_edges = around(tested_edges(found[title]))
    holds = "all" if (found_edges >= 5 * null_probability).all() else f"{(found_edges >= 5 * null_probability).sum()}"
    told = (
        f"The search finds one with {len(found_edges)} states. On the second half of the text its edges are "
        f"{', '.join(f'{edge:.2f}' for edge in found_edges)}, and {holds} of them are above five times the mean of "
        "random pairs."
    )
    correlations = zip(found[title].labels, fits(found[title]), strict=True)
    low = [f"{name} ({fit:.2f})" for name, fit in correlations if fit < ABOUT]
    return told + f" Hardly about their roles, by their correlations, are the states for {', '.join(low)}." * bool(low)


chapter.number("html-told", cycle_told("HTML"))
chapter.number("json-told", cycle_told("JSON"))

# %% [markdown]
# ## Does the text follow?
#
# The figures showed the best of many samples. Now all of them. The model writes twenty tokens from every prompt, and a
# token **follows the automaton** if a state fires on it to which an edge leads from a state that fired on the token
# before. The prompts end anywhere in the text where one of the states fires, however weakly. And nothing keeps the
# model in the automaton: it may write what it likes.
#
# So a token may fail to follow for four reasons. Perhaps the text was never in the form: a state fires in other text,
# too, and a prompt may end there. Perhaps it has left: a tag is followed by what it marks up. Perhaps it stays in a
# role, as a name of several tokens does, and there is no edge for that. Or it goes on in good form, and other features
# fire. To tell them apart we need somebody else who can parse. The regular expressions can: they name the role of each
# token that was written, and of the prompt's last one.
#
# ```{admonition} Predict
# :class: tip
# In which of the automata does the model stay longest: in a script, in HTML, or in names in capitals? And which of the
# four reasons counts most?
# ```

# %%
def acting(features: list[int], ids: np.ndarray) -> np.ndarray:
    """Activations of some features on what was written behind the prompts, the prompt's last token included."""
    return automata.activations(model, sae, features, torch.from_numpy(ids))[:, automata.PROMPT - 1 :]


def by_form(title: str, ids: np.ndarray) -> np.ndarray:
    """The role of each token written, by the regular expression alone: bool [n, tokens, roles]."""
    marks = automata.roles(ids, pieces, re.compile((PATTERNS | SCRIPTS)[title]))
    return np.stack([*marks.values()], axis=2)[:, automata.PROMPT - 1 :]


def widened(title: str, ids: np.ndarray, n: int = 8) -> np.ndarray:
    """Activations of states to each of which the n features were added that correlate best with its role."""
    states = [[state, *[*fit][:n]] for state, fit in zip(found[title].states, candidates[title], strict=True)]
    acted = acting([feature for state in states for feature in state], ids)
    return acted.reshape(*acted.shape[:2], len(states), n + 1).max(3)


from_anywhere = free.ids[: chapter.size(quick=256, full=8192)]
REASONS = [
    "follows", "a step, but other features fire", "in a role, without an edge", "the text has left",
    "it was never in the form",
]  # fmt: skip
outcomes, outside, wide, elsewhere, wide_elsewhere = {}, {}, {}, {}, {}
for title in drawn:
    one, written = found[title], walked[title]
    form, follows = by_form(title, written.ids), one.follows(written.activations)
    is_step, in_role = one.follows(form), form.any(2)
    entered = np.logical_or.accumulate(in_role, axis=1)  # at the prompt's last token, or since
    kinds = np.select([follows, is_step, in_role[:, 1:], entered[:, 1:]], [0, 1, 2, 3], 4)
    outcomes[title] = np.bincount(kinds.ravel(), minlength=5) / kinds.size
    outside[title] = 1 - in_role[:, 0].mean()  # of the prompts
    wide[title] = one.follows(widened(title, written.ids)).mean()
    elsewhere[title] = one.follows(acting(one.states, from_anywhere)).mean()
    wide_elsewhere[title] = one.follows(widened(title, from_anywhere)).mean()

# %% tags=["hide-input"]
#| label: fig-automata-parsed
#| caption: >-
#|   What the model wrote from prompts that end in a state: the tokens that follow the automaton, and why the others do
#|   not. The roles are those that the regular expressions see.
figure = go.Figure()
for kind, (name, place) in enumerate(zip(REASONS, (0, 1, 4, 7, 2), strict=True)):
    figure.add_bar(
        x=drawn, y=[outcomes[title][kind] for title in drawn], name=name, marker_color=plots.PALETTE[place],
        hovertemplate="%{x}: %{y:.0%}",
    )  # fmt: skip
figure.update_yaxes(tickformat=".0%", range=[0, 1], title="tokens written")
said = "; ".join(
    f"{title}: " + ", ".join(f"{name} {share:.0%}" for name, share in zip(REASONS, outcomes[title], strict=True))
    for title in drawn
)
plots.describe(figure, f"Stacked bars by automaton. {said}.", barmode="stack", height=460)

# %% tags=["remove-cell"]
def mean_edge(edges: np.ndarray) -> float:
    """Over the cycles that are drawn."""
    cycles = [found[title].states for title in drawn]
    return float(np.concatenate([around(edges[np.ix_(states, states)]) for states in cycles]).mean())


shares = np.mean([*outcomes.values()], axis=0)
parsed_share = float(shares[0])
edge_probability = mean_edge(tested)
tested_twenty = automata.edges(second, promoted.first(20))  # the claim is about twenty tokens
edge_twenty, null_twenty = mean_edge(tested_twenty), float(automata.random_pairs(tested_twenty, alive).mean())
chapter.claim(
    "A33", where="structure/automata#fig-automata-parsed", text=text, edge_probability=edge_twenty,
    null_probability=null_twenty, parsed_share=parsed_share,
)  # fmt: skip
chapter.number("edge-probability", edge_probability, ".2f")
chapter.number("edge-times", edge_probability / null_probability, ".0f")
chapter.number("edge-twenty", edge_twenty, ".2f")
chapter.number("null-twenty", null_twenty, ".4f")
for name, share in zip(["parsed", "missed", "inside", "left", "never"], shares, strict=True):
    chapter.number(name, share, ".0%")
chapter.number("outside", np.mean([*outside.values()]), ".0%")
chapter.number("outside-each", ", ".join(f"{title} {share:.0%}" for title, share in outside.items()))
chapter.number("parsed-elsewhere", max(elsewhere.values()), ".1%")
chapter.number("wide", np.mean([*wide.values()]), ".0%")
chapter.number("wide-elsewhere", max(wide_elsewhere.values()), ".0%")
best, worst = (choose(drawn, key=lambda title: outcomes[title][0]) for choose in (max, min))
chapter.number("best-parsed", f"{best} ({outcomes[best][0]:.0%})")
chapter.number("worst-parsed", f"{worst} ({outcomes[worst][0]:.0%})")
chapter.number(
    "parsed-told",
    "This meets the bar of one half that was set before anything was measured."
    if parsed_share >= 0.5
    else "The bar of one half, which was set before anything was measured, is missed.",
)
reason = [
    "The first reason counts most, and it is a fault of the automaton: its states are too unspecific",
    "The second reason counts most: the automaton would need states for what comes between its roles",
    "The third reason counts most: the automaton would need an edge from the role to itself",
    "The fourth reason counts most: one feature is only a part of a state",
][int(np.argmax(shares[[4, 3, 2, 1]]))]
chapter.number("reason-told", reason)
token_only = []
for title in drawn:
    states = found[title].states
    for i, j in zip(states, states[1:] + states[:1], strict=True):
        share = proxies.occurrence_share(second.contexts.ids, second.dense(j) > 0, len(pieces))
        token_only.append(float(share[promoted.tokens[i]] @ promoted.weights[i]))
chapter.number("token-only", float(np.mean(token_only)), ".2f")
chapter.number("token-share", min(1.0, float(np.mean(token_only)) / edge_probability), ".0%")

# %% [markdown]
# Averaged over the automata drawn above, {glue:text}`parsed` of the tokens follow. {glue:text}`parsed-told` The best is
# {glue:text}`best-parsed`, the worst {glue:text}`worst-parsed`. In text from random prompts it is never more than
# {glue:text}`parsed-elsewhere`.
#
# The edges themselves are strong: {glue:text}`edge-probability` on average, {glue:text}`edge-times` times as much as
# between random features. (With the twenty most promoted tokens in place of a hundred, as our table of claims has it:
# {glue:text}`edge-twenty` against {glue:text}`null-twenty`.) How can both be true?
#
# - **The text was never in the form** on {glue:text}`never` of the tokens: the prompt's last token has no role, and no
#   token since then had one. A state is meant for its role, and it fires on other tokens, too. By the mean over the
#   automata, {glue:text}`outside` of the prompts end outside of every role ({glue:text}`outside-each`).
# - **It has left** on {glue:text}`left`. The automaton has no state for what is there. The paper says the same of its
#   own: it does not model `href`.
# - **It stays in a role** on {glue:text}`inside`, and no edge leads from that state to itself.
# - **Other features fire** on {glue:text}`missed`, where the text takes a step of the automaton. Many features share a
#   role. Add to each state the eight that correlate best with its role, and {glue:text}`wide` of all tokens follow; in
#   text from random prompts never more than {glue:text}`wide-elsewhere`.
#
# {glue:text}`reason-told`.
#
# ```{admonition} A trap: is the state in the token?
# :class: warning
# Forget the context, and ask only how often $j$ fires on the hundred tokens *wherever they stand*. Then the mean over
# these edges is {glue:text}`token-only` instead of {glue:text}`edge-probability`. So {glue:text}`token-share` of an
# edge needs no automaton: the first byte of a Hebrew letter is in Hebrew text wherever it stands. The rest does. The
# letter `a` is in every text, and in the state "tag name" only behind a bracket. The feature knows because attention
# looked back.
# ```
#
# ## Is it the feature that does it?
#
# So far we watched. Both states might follow from a third thing, the kind of text. Three experiments ask whether a
# state *brings about* the next one. In each the model writes one token, and we count how often the next state fires on
# it. That is read without the intervention, so the state can act through the choice of the token alone.
#
# - **Ablation.** Prompts that end where state $i$ fires, as they are and with $i$ held at 0.
# - **Pinning in its own kind of text.** Prompts that end where another state of the automaton fires and $i$ is silent,
#   as they are and with $i$ held at its largest activation.
# - **Pinning anywhere.** The same with random prompts.
#
# ```{admonition} Predict
# :class: tip
# A tag's name is active. Without it, will the tag still be closed? And can you make the model close a tag in the middle
# of a novel?
# ```

# %%
n_prompts = chapter.size(quick=128, full=1024)
random_prompts = automata.prompts(model, sae, second, None, n_prompts)


def share_next(given: torch.Tensor, there: int, *held) -> float:
    return float(automata.next_states(model, sae, [there], given, *held)[0])


tried = {}  # by edge: as it is and ablated; beside it and pinned there; anywhere and pinned there
for title in drawn:
    one = found[title]
    own = [automata.prompts(model, sae, second, state, n_prompts) for state in one.states]
    for here, feature in enumerate(one.states):
        there, top = (here + 1) % len(one.states), float(evidence.of(feature)[1].max())
        beside = torch.cat([given for other, given in enumerate(own) if other != here])
        beside = beside[torch.randperm(len(beside), generator=torch.Generator().manual_seed(0))]
        silent = automata.activations(model, sae, [feature], beside)[:, -1, 0] == 0
        beside = beside[torch.from_numpy(silent)][:n_prompts]
        tried[f"{title}: {one.labels[here]} → {one.labels[there]}"] = [
            share_next(given, one.states[there], *held)
            for given, pin in ((own[here], 0.0), (beside, top), (random_prompts, top))
            for held in ((), (feature, pin))
        ]

# %% tags=["hide-input"]
#| label: fig-automata-causal
#| caption: >-
#|   On how many of the next tokens the next state fires: as it is, and with the state held at 0 (top) or at its largest
#|   activation (middle and bottom).
names, values = [*tried][::-1], np.array([*tried.values()]).reshape(-1, 6)[::-1]
where = ["where the state fires", "where another fires", "on random prompts"]
edges_shown = [name.replace(": ", "<br>") for name in names]  # on two lines: narrow screens have little room
figure = make_subplots(3, 1, vertical_spacing=0.07, subplot_titles=where)
figure.update_annotations(x=0, xanchor="left")
for row, held, colour in ((1, "ablated", plots.PALETTE[1]), (2, "pinned", plots.PALETTE[0]),
                          (3, "pinned", plots.PALETTE[0])):  # fmt: skip
    for column, name, shade in ((2 * row - 2, "as it is", plots.PALETTE[7]), (2 * row - 1, held, colour)):
        figure.add_bar(
            y=edges_shown, x=values[:, column], name=name, orientation="h", marker_color=shade, legendgroup=name,
            showlegend=row == 1 or (row == 2 and name == held), hovertemplate="%{y}: %{x:.0%}", row=row, col=1,
        )  # fmt: skip
figure.update_xaxes(tickformat=".0%", rangemode="tozero", nticks=5, tickangle=0)
figure.update_xaxes(title="next tokens", row=3, col=1)
said = "; ".join(
    f"{name}: {one[0]:.0%}, ablated {one[1]:.0%}; where another state fires {one[2]:.0%}, pinned {one[3]:.0%}; random "
    f"prompts {one[4]:.1%}, pinned {one[5]:.1%}"
    for name, one in zip(names[::-1], values[::-1], strict=True)
)
plots.describe(figure, f"Three panels of bars by edge. {said}.", barmode="group", height=260 + 105 * len(names))

# %% tags=["remove-cell"]
intact, ablated, beside_intact, beside_pinned, unpinned, pinned = values.T
chapter.number("active", len(evidence.values) / evidence.n_tokens, ".0f")
chapter.number("prompts", n_prompts)
chapter.number("edges-tested", len(values))
chapter.number("ablated-less", int((ablated < intact).sum()))
chapter.number("beside-more", int((beside_pinned > beside_intact).sum()))
for column, name in enumerate(["intact", "ablated", "beside-intact", "beside-pinned", "unpinned", "pinned"]):
    chapter.number(name, float(values[:, column].mean()), ".1%" if "unpinned" in name else ".0%")
most_less, most_more = int((intact - ablated).argmax()), int((beside_pinned - beside_intact).argmax())
chapter.number("most-ablated", f"{names[most_less]} ({intact[most_less]:.0%} to {ablated[most_less]:.0%})")
chapter.number("most-pinned", f"{names[most_more]} ({beside_intact[most_more]:.0%} to {beside_pinned[most_more]:.0%})")
pushes = [ablated.mean() < intact.mean(), beside_pinned.mean() > beside_intact.mean(), pinned.mean() > unpinned.mean()]
chapter.number(
    "causal-told",
    "So the states do push"
    if all(pushes)
    else "So we cannot say that the states push"
    if not any(pushes)
    else "So the experiments disagree on whether the states push",
)

# %% [markdown]
# **Ablation** makes the next state rarer on {glue:text}`ablated-less` of {glue:text}`edges-tested` edges. The mean goes
# from {glue:text}`intact` to {glue:text}`ablated`; the largest drop is {glue:text}`most-ablated`.
#
# **Pinning in its own kind of text** makes the next state more frequent on {glue:text}`beside-more` of them. The mean
# goes from {glue:text}`beside-intact` to {glue:text}`beside-pinned`; the largest rise is {glue:text}`most-pinned`. **On
# random prompts** it goes from {glue:text}`unpinned` to {glue:text}`pinned`. Each share is over at most
# {glue:text}`prompts` prompts, so differences of a few percent on one edge are noise.
#
# {glue:text}`causal-told`. None of them acts alone. About {glue:text}`active` features are active on a token, and
# several of them ask for the same thing. Take one away, and the others still ask. And one that is pinned in a strange
# place asks for a token that nothing else there supports, and on which the next state, which looks at the context, may
# not fire.
#
# ### Starting a loop by hand
#
# The loop has no other state to bring about. But we can try to start it. Take random prompts, and hold the base64
# feature at its largest activation while the model writes some tokens. Then let go. Does it go on by itself?

# %%
HELD = (0, 10, 20, 40, 80)  # tokens written before we let go
held = sample(model, random_prompts, n_prompts, max(HELD), sae, base64.index, base64.largest)
goes_on = []
for n_held in HELD:
    given = torch.cat([random_prompts, held[:, :n_held]], dim=1)
    written = torch.cat([given, sample(model, given, n_prompts, 10, seed=1)], dim=1)
    goes_on.append(float((automata.activations(model, sae, loop.states, written)[:, -10:] > 0).mean()))
plots.table(
    ["tokens held", "the feature fires on the next ten"],
    [(n_held, f"{share:.1%}") for n_held, share in zip(HELD, goes_on, strict=True)],
)

# %% tags=["remove-cell"]
chapter.number(
    "started-told",
    "So a loop can be started, though not in a moment. The feature fires on base64 that has gone on for a while, and "
    "the model has to write that stretch first"
    if goes_on[-1] > max(3 * goes_on[0], 0.05)
    else "So this loop cannot be started so",
)
chapter.number("held-longest", f"{goes_on[-1]:.0%} instead of {goes_on[0]:.1%}")

# %% [markdown]
# After the longest time it is {glue:text}`held-longest`. {glue:text}`started-told`.
#
# ## A phrase known by heart
#
# An automaton goes round. A phrase that the model knows by heart goes straight on: each token leads to the next. The
# paper shows one, the words on fitness for a purpose in warranty disclaimers, as a chain of features in a dictionary of
# 131,072. Source code comes with licences, and so the model has read some of their sentences many times. Of three such
# sentences we take the one that the model finds likeliest. At each of its tokens, the **link** is the feature whose
# ablation harms the next token most.

# %%
PHRASES = {  # each with a paraphrase of ours
    " you may not use this file except in compliance with the License.": (
        " nobody is allowed to work with these pages unless they respect its terms."
    ),
    " Redistribution and use in source and binary forms, with or without modification, are permitted": (
        " Anyone can copy and run this program, changed or as it came, if they agree"
    ),
    " The above copyright notice and this permission notice shall be included in all copies": (
        " Whoever passes it on has to leave these two paragraphs where they are"
    ),
}


def log_probability(phrase: str) -> float:
    """Mean log-probability of a phrase's tokens but the first, in nats."""
    ids = model.to_ids(phrase)
    each = torch.log_softmax(model.logits(ids), -1)[0, :-1].gather(1, ids[0, 1:, None])
    return float(each[1:].mean())


phrase = max(PHRASES, key=log_probability)
links = automata.chain(model, sae, model.to_ids(phrase), start=1)

# %% [markdown]
# The links were chosen because they matter here. So they must be tested elsewhere. We put the phrase behind
# {glue:text}`behind` random prompts from the text, and do the same with a paraphrase, and with the phrase's own words
# in another order.

# %%
before = automata.prompts(model, sae, second, None, chapter.size(quick=24, full=128), seed=1)
words = phrase.split(" ")[1:]
shuffled = "".join(f" {word}" for word in np.random.default_rng(0).permutation(words))
features = [link.feature for link in links]


def behind_prompts(string: str) -> torch.Tensor:
    return torch.cat([before, model.to_ids(string)[:, 1:].expand(len(before), -1)], dim=1)


def share_firing(string: str) -> float:
    """Share of the chain's features that fire somewhere on a string, mean over the prompts."""
    acted = automata.activations(model, sae, features, behind_prompts(string))[:, automata.PROMPT :]
    return float((acted > 0).any(1).mean())


shares = {
    "the phrase": share_firing(phrase),
    "its words shuffled": share_firing(shuffled),
    "a paraphrase": share_firing(PHRASES[phrase]),
}
in_place = behind_prompts(phrase).numpy()
offset = automata.PROMPT - 1  # the phrase began at column 1, and now begins behind the prompt
link_effects = np.array(
    [ablation_effect(model, sae, link.feature, in_place)[:, link.position + offset + 1].mean() for link in links]
)
chapter.claim(
    "A35", where="structure/automata#fig-automata-chain", text=text, features=len(set(features)),
    largest_ablation_effect=float(link_effects.max()), phrase_share=shares["the phrase"],
    paraphrase_share=shares["a paraphrase"], shuffled_share=shares["its words shuffled"],
)  # fmt: skip

# %% tags=["hide-input"]
#| label: fig-automata-chain
#| caption: >-
#|   The chain of features of "{glue:text}`phrase`", in order: what ablating each does to the next token, mean over
#|   {glue:text}`behind` places. Beside each bar: the token that it fires on and the one that it helps to predict.
tokens = model.to_ids(phrase)[0].tolist()
steps = [
    f"{plots.escape(case_plots.shown([tokens[link.position]], pieces))} → "
    f"{plots.escape(case_plots.shown([tokens[link.position + 1]], pieces))}"
    for link in links
]
figure = go.Figure()
figure.add_bar(
    x=link_effects, y=[f"{n}. {step}" for n, step in enumerate(steps, 1)], orientation="h",
    marker_color=plots.PALETTE[0], customdata=features, hovertemplate="A/1/%{customdata}: %{x:.2f} nats<extra></extra>",
)  # fmt: skip
figure.update_xaxes(title="change of log-probability (nats)")
figure.update_yaxes(autorange="reversed", type="category")
plots.describe(
    figure,
    f"Bars for {len(links)} features in order. Ablating one changes the log-probability of the next token by "
    f"{link_effects.mean():.2f} nats on average, from {link_effects.min():.2f} to {link_effects.max():.3f}.",
    height=160 + 26 * len(links),
)

# %% tags=["remove-cell"]
chapter.number("phrase", phrase.strip())
chapter.number("phrase-log", float(np.exp(log_probability(phrase))), ".0%")
chapter.number("behind", len(before))
chapter.number("links", len(set(features)))
chapter.number("link-mean", float(link_effects.mean()), ".2f")
chapter.number("link-largest", float(link_effects.max()), ".3f")
for name, share in shares.items():
    chapter.number(f"share-{name.split()[-1]}", share, ".0%")
chapter.number(
    "chain-told",
    "So most of the chain is made of features for single words, which fire in any order. It is a chain because the "
    "words come in this order"
    if shares["its words shuffled"] > (shares["the phrase"] + shares["a paraphrase"]) / 2
    else "So much of the chain needs the order, too, and not the words alone",
)

# %% [markdown]
# The chain has {glue:text}`links` features. Ablating one changes the log-probability of the next token by
# {glue:text}`link-mean` nats on average, and the least harmful ablation by {glue:text}`link-largest`. On the phrase
# {glue:text}`share-phrase` of the features fire, on the paraphrase {glue:text}`share-paraphrase`.
#
# That sounds like a memory of the sentence. The third text is the one to look at: the same words, shuffled. There
# {glue:text}`share-shuffled` of the features fire. {glue:text}`chain-told`.
#
# How well does this model know the phrase? It gives its tokens a probability of {glue:text}`phrase-log` (geometric
# mean). A model of one layer cannot keep much by heart. The paper's chain is from a dictionary 32 times as large.
#
# ## What the paper found, what we found
#
# | | the paper | here, on *{glue:text}`text`* |
# |---|---|---|
# | one state: base64 | an example | fires again on {glue:text}`repeat`, {glue:text}`repeat-times` × the base rate |
# | two states: `ALL_CAPS_SNAKE_CASE` | A/0/207 and A/0/358 | {glue:text}`snake-states` |
# | two states: bytes of a script | Tamil, Chinese | {glue:text}`script`: {glue:text}`script-states` |
# | four states: HTML | A/0/20, 0, 30, 494 | {glue:text}`html-states` |
# | four states: JSON | not shown | {glue:text}`json-states` |
# | edges against random pairs | not measured | {glue:text}`edge-probability` against {glue:text}`null` |
# | written tokens that follow | not measured | {glue:text}`parsed` |
# | next state, if ablated | not measured | {glue:text}`intact` to {glue:text}`ablated` |
# | … if pinned in its kind of text | not measured | {glue:text}`beside-intact` to {glue:text}`beside-pinned` |
# | a phrase by heart | a chain in A/4 | {glue:text}`links` features, {glue:text}`share-phrase` fire on it |
# | … its words shuffled | not measured | {glue:text}`share-shuffled` fire |
#
# **How our set-up differs.** The paper's automata are mostly from its smallest dictionary, with 512 features, and were
# picked by hand. Ours were picked by code, from a dictionary of {glue:text}`all-features`, in which several features
# share a role. Our vocabulary is smaller, so more characters are spelled in bytes. {doc}`/book/differences` has the
# rest.
#
# ```{admonition} Takeaways
# :class: note
# - Features can drive one another without any connection in the model: through the text.
# - An edge is a statement about two features *and* the text that stands between them. Measure it where it was not
#   chosen.
# - Part of a state is in the token, and the rest is in what came before it. Forget the context to see how much.
# - A parse can fail because the text has left, because another feature has taken over, or because a state fires on more
#   than its role and the text was never there. Tell these apart before you blame the text or the automaton.
# - A search finds something for roles that do not belong together, too. Count how often.
# - Words shuffled, pairs drawn at random, text from anywhere: each control takes away one explanation.
# ```
#
# ## Exercises
#
# ```{exercise-start} An edge by hand
# :label: ex-automata-edge
# ```
# *Difficulty 3/5 · importance 4/5 · 20 minutes.* Write `edge(tokens, fires_i, fires_j, wanted, weights)` for one long
# text. `tokens` holds its token ids, `fires_i` and `fires_j` say where the two features fire, `wanted` are the tokens
# that $i$ promotes, and `weights` how much each of them counts; they sum to 1. Return the edge from $i$ to $j$. A
# wanted token that never comes right after $i$ counts as zero.
#
# ````{admonition} Hint 1
# :class: dropdown
# The places to look at are those whose *predecessor* has $i$ firing: `fires_i[:-1]` lines up with `tokens[1:]`.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# For each wanted token: among these places, those with this token. Take the mean of `fires_j` there, or 0 if there are
# none. Then take the weighted sum.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def edge(tokens, fires_i, fires_j, wanted, weights):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-automata-edge")
def check_edge(edge):
    some = np.array([5, 1, 5, 1, 5, 2, 9, 1])
    i, j = some == 5, np.array([0, 1, 0, 0, 0, 1, 0, 1], bool)
    # After 5 come 1 (twice, j on one of them) and 2 (once, with j). The last 1 comes after 9.
    given = (some, i, j)
    both = edge(*given, np.array([1, 2]), np.array([0.5, 0.5]))
    assert not np.isclose(both, 0.5 * 2 / 3 + 0.5), "count a wanted token only right after a token on which i fires"
    assert not np.isclose(both, 2 / 3), "average over the wanted tokens with their weights, not over the places"
    assert np.isclose(both, 0.75), "half of 1/2 and half of 1 make 0.75"
    assert np.isclose(edge(*given, np.array([1, 2]), np.array([0.9, 0.1])), 0.55), "each token counts by its weight"
    unseen = edge(*given, np.array([2, 7]), np.array([0.5, 0.5]))
    assert np.isclose(unseen, 0.5), "a wanted token that never comes after i counts as zero, and keeps its weight"
    draw = np.random.default_rng(0)
    some, i, j = draw.integers(0, 6, 500), draw.random(500) < 0.4, draw.random(500) < 0.5
    right = np.mean([j[1:][i[:-1] & (some[1:] == token)].mean() for token in range(4)])
    assert np.isclose(edge(some, i, j, np.arange(4), np.full(4, 0.25)), right), "wrong on a longer text"


check_edge(edge)

# %% [markdown]
# ````{solution-start} ex-automata-edge
# :class: dropdown
# ````

# %%
def edge(tokens, fires_i, fires_j, wanted, weights):
    total = 0.0
    for token, weight in zip(wanted, weights, strict=True):
        there = fires_i[:-1] & (tokens[1:] == token)
        total += weight * fires_j[1:][there].mean() if there.any() else 0.0
    return total


a, b = base64.index, base64.index
by_hand = edge(
    first.contexts.ids.ravel(), first.dense(a).ravel() > 0, first.dense(b).ravel() > 0,
    promoted.tokens[a], promoted.weights[a],
)  # fmt: skip
print(f"by hand {by_hand:.4f}, by sae_core {graph[a, b]:.4f}")
check_edge(edge)

# %% [markdown]
# The two agree: at the end of a context nothing fires on the first token of the next one, which is never a token that a
# feature promotes.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
def wherever(tokens, fires_i, fires_j, wanted, weights):
    return sum(weight * fires_j[tokens == token].mean() for token, weight in zip(wanted, weights, strict=True))


def by_places(tokens, fires_i, fires_j, wanted, weights):
    return fires_j[1:][fires_i[:-1] & np.isin(tokens[1:], wanted)].mean()


def leaving_out(tokens, fires_i, fires_j, wanted, weights):
    seen = [token in tokens[1:][fires_i[:-1]] for token in wanted]
    weights = np.array(weights)[seen] / np.array(weights)[seen].sum()
    return edge(tokens, fires_i, fires_j, np.array(wanted)[seen], weights)


check_edge.refuses(wherever, because="only right after")
check_edge.refuses(by_places, because="not over the places")
check_edge.refuses(leaving_out, because="counts as zero")

# %% [markdown]
# ```{exercise-start} A fairer null
# :label: ex-automata-null
# ```
# *Difficulty 3/5 · importance 5/5 · 20 minutes.* Random pairs are an easy opponent: most features are rare, and a rare
# feature seldom fires next. Write `matched_null(graph, density, i, j)`: the mean edge from `i` to the features whose
# density lies within a factor of 2 of that of `j` (half to twice, both included), without `i` and `j` themselves. Are
# the automata of this chapter still far above it?
#
# ````{admonition} Hint 1
# :class: dropdown
# Make a mask over features: `(density >= density[j] / 2) & (density <= 2 * density[j])`.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# Set the mask to False at `i` and `j`, and take the mean of `graph[i, mask]`.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def matched_null(graph, density, i, j):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-automata-null")
def check_null(matched_null):
    density = np.array([0.01, 0.02, 0.04, 0.041, 0.5, 0.015])
    edges = np.arange(36.0).reshape(6, 6) / 36
    # From 4 to 1: 0.01, 0.02, 0.04 and 0.015 are within a factor of two of 0.02; 1 itself is left out.
    answer = matched_null(edges.copy(), density.copy(), 4, 1)
    assert np.ndim(answer) == 0, "return one number"
    assert not np.isclose(answer, edges[[0, 2, 5], 4].mean()), "edges lead from the row to the column"
    assert not np.isclose(answer, edges[4, [0, 1, 2, 5]].mean()), "leave out j itself, or the null holds what it is for"
    assert not np.isclose(answer, edges[4, [5]].mean()), "half and twice the density are included"
    assert np.isclose(answer, edges[4, [0, 2, 5]].mean()), "the mean over targets with half to twice j's density"
    own = matched_null(edges.copy(), density.copy(), 0, 5)
    assert np.isclose(own, edges[0, [1]].mean()), "leave out i itself, too: an edge to itself is another matter"


check_null(matched_null)

# %% [markdown]
# ````{solution-start} ex-automata-null
# :class: dropdown
# ````

# %%
def matched_null(graph, density, i, j):
    like_j = (density >= density[j] / 2) & (density <= 2 * density[j])
    like_j[[i, j]] = False
    return graph[i, like_j].mean()


for title in drawn:
    states = found[title].states
    pairs = [*zip(states, states[1:] + states[:1], strict=True)]
    nulls = [matched_null(tested, second.density, i, j) for i, j in pairs]
    print(f"{title:<12} edges {np.mean([tested[i, j] for i, j in pairs]):.2f}, matched null {np.mean(nulls):.4f}")
check_null(matched_null)

# %% [markdown]
# Density explains little of it. Another null would be harder: a partner that fires in the same kind of text. Inside
# HTML everything follows HTML. What then remains is the *order* of the states.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
def with_itself(graph, density, i, j):
    return graph[i, (density >= density[j] / 2) & (density <= 2 * density[j])].mean()


def strictly_within(graph, density, i, j):
    like_j = (density > density[j] / 2) & (density < 2 * density[j])
    like_j[[i, j]] = False
    return graph[i, like_j].mean()


check_null.refuses(with_itself, because="leave out j itself")
check_null.refuses(strictly_within, because="are included")
check_null.refuses(lambda edges, *rest: matched_null(edges.T, *rest), because="from the row to the column")

# %% [markdown]
# ```{exercise-start} The longest run
# :label: ex-automata-run
# ```
# *Difficulty 2/5 · importance 3/5 · 15 minutes.* The share of tokens that follow mixes two things: how often the text
# leaves and how soon it comes back. Write `longest_run(active, transitions)`. `active` says on which tokens which
# states fire, `[n, length, states]`, and `transitions[i, j]` whether there is an edge from `i` to `j`. Return, for each
# of the $n$ texts, how many tokens in a row follow the automaton at most. Write the parse yourself.
#
# ````{admonition} Hint 1
# :class: dropdown
# Token $t$ follows if for some $i$ and $j$ with an edge, `active[n, t - 1, i]` and `active[n, t, j]`. The first token
# has none before it.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# `(active[:, :-1] @ transitions)` counts the edges that lead to each state; the product needs integers. Then walk
# through the tokens: `run = (run + 1) * follows[:, t]`, and keep the maximum.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def longest_run(active, transitions):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-automata-run")
def check_run(longest_run):
    around_two = np.array([[False, True], [True, False]])
    texts = {"abab": 3, "aabb": 1, "ab--abab": 3, "a-b-": 0, "bbbb": 0}
    for path, right in texts.items():
        active = np.array([[[state == "a", state == "b"] for state in path]])
        answer = np.ravel(longest_run(active, around_two))
        assert answer.shape == (1,), "return one number for each text"
        assert path != "abab" or answer[0] != 4, "abab: count the tokens that follow; the first follows nothing"
        assert answer[0] == right, f"{path}: the longest run has {right} tokens, not {answer[0]}"
    one_way = np.array([[False, True], [False, False]])
    back = np.array([[[False, True], [True, False]]])
    assert np.ravel(longest_run(back, one_way))[0] == 0, "an edge from 0 to 1 does not lead from 1 to 0"
    draw = np.random.default_rng(0)
    active, some = draw.random((20, 30, 4)) < 0.4, draw.random((4, 4)) < 0.3
    follows = automata.Automaton("", [0, 1, 2, 3], ["", "", "", ""], some.astype(float)).follows(active.astype(float))
    right = [max(map(len, "".join(" x"[int(step)] for step in row).split()), default=0) for row in follows]
    assert np.array_equal(np.ravel(longest_run(active, some)), right), "wrong on made-up texts with four states"


check_run(longest_run)

# %% [markdown]
# ````{solution-start} ex-automata-run
# :class: dropdown
# ````

# %%
def longest_run(active, transitions):
    reached = (active[:, :-1].astype(int) @ transitions.astype(int)) > 0
    follows = (reached & active[:, 1:]).any(2)
    run = best = np.zeros(len(active), int)
    for step in range(follows.shape[1]):
        run = (run + 1) * follows[:, step]
        best = np.maximum(best, run)
    return best


for title in drawn:
    runs = longest_run(walked[title].activations > 0, found[title].transitions)
    print(f"{title:<12} mean {runs.mean():.1f}, longest {runs.max()} of 20 tokens")
check_run(longest_run)

# %% [markdown]
# A long run with a low share means that few of the texts ever enter the automaton. A short run with a middling share
# means that it is left and entered again and again.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
def how_many(active, transitions):
    return (((active[:, :-1] @ transitions) > 0) & active[:, 1:]).any(2).sum(1)


def any_state_again(active, transitions):
    return longest_run(active, np.ones_like(transitions))


check_run.refuses(lambda active, edges: longest_run(active, edges) + 1, because="the first follows nothing")
check_run.refuses(lambda active, edges: longest_run(active, edges | edges.T), because="does not lead from 1 to 0")
check_run.refuses(how_many, because="the longest run has")
check_run.refuses(any_state_again, because="the longest run has")

# %% [markdown]
# ```{exercise-start} How long in each state?
# :label: ex-automata-stationary
# ```
# *Difficulty 3/5 · importance 3/5 · 20 minutes.* Read the edges of an automaton as a Markov chain: from each state, go
# to the next in proportion to its edges. Write `shares(edges)`: the share of the time that the chain spends in each
# state in the long run. Predict for an automaton of this chapter, then compare with how often each state fires in what
# the model wrote.
#
# ````{admonition} Hint 1
# :class: dropdown
# Divide each row by its sum, which gives a matrix $P$. The shares $\pi$ sum to 1 and do not change in a step:
# $\pi = \pi P$.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# A chain that goes round in a strict cycle never settles, so do not just multiply. Solve $\pi (P - I) = 0$ together
# with $\sum \pi = 1$, by `np.linalg.lstsq`.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def shares_of_time(edges):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-automata-stationary")
def check_shares(shares_of_time):
    cycle = np.roll(np.eye(4), 1, axis=1)
    found_shares = shares_of_time(cycle * np.array([[0.9], [0.2], [0.5], [1.0]]))
    assert np.shape(found_shares) == (4,), "one share for each state"
    assert np.allclose(found_shares, 0.25, atol=1e-6), "a strict cycle spends a quarter of its time in each state"
    stays = np.array([[0.6, 0.2], [0.3, 0.3]])  # rows of 0.75, 0.25 and 0.5, 0.5
    answer = shares_of_time(stays.copy())
    assert not np.allclose(answer, [0.6, 0.4], atol=1e-3), "bring the rows to sum 1, not the columns"
    assert np.allclose(answer, [2 / 3, 1 / 3], atol=1e-6), "from 0 it stays three times in four, from 1 it leaves half"
    draw = np.random.default_rng(0).random((5, 5))
    answer, step = np.asarray(shares_of_time(draw)), draw / draw.sum(1, keepdims=True)
    assert np.isclose(answer.sum(), 1) and (answer >= -1e-9).all(), "shares are not negative and sum to 1"
    assert np.allclose(answer @ step, answer, atol=1e-6), "one more step must not change the shares"


check_shares(shares_of_time)

# %% [markdown]
# ````{solution-start} ex-automata-stationary
# :class: dropdown
# ````

# %%
def shares_of_time(edges):
    steps = edges / edges.sum(1, keepdims=True)
    n = len(steps)
    equations = np.vstack([steps.T - np.eye(n), np.ones(n)])
    return np.linalg.lstsq(equations, np.append(np.zeros(n), 1), rcond=None)[0]


for title in drawn:
    predicted = shares_of_time(found[title].edges)
    counted = (walked[title].activations[:, 1:] > 0).mean((0, 1))
    line = ", ".join(
        f"{label} {p:.0%} / {c:.0%}"
        for label, p, c in zip(found[title].labels, predicted, counted / counted.sum(), strict=True)
    )
    print(f"{title}: {line}   (predicted / counted)")
check_shares(shares_of_time)

# %% [markdown]
# Where they disagree, look at what the chain leaves out. It knows only the last state. The model looks at all of the
# text, and it may leave the automaton from one state more often than from another.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
def by_columns(edges):
    return shares_of_time((edges / edges.sum(0, keepdims=True)).T)


def many_steps(edges):
    steps = edges / edges.sum(1, keepdims=True)
    return np.linalg.matrix_power(steps, 1000)[0]


check_shares.refuses(many_steps, because="a strict cycle")
check_shares.refuses(by_columns, because="from 0 it stays")
check_shares.refuses(lambda edges: shares_of_time(edges) * len(edges), because="a strict cycle")

# %% [markdown]
# ```{exercise-start} An automaton of your own
# :label: ex-automata-own
# ```
# *Difficulty 4/5 · importance 5/5 · 45 minutes.* Find an automaton that this chapter has not named: dates, Greek, a
# table's columns, quotations, the articles of French. Set `my_states` to its features in the order of the cycle, two or
# more, and none of them among those above. Replay it, and say in a sentence what each state stands for. Then try to
# break your story: which token would *not* fit, and does the automaton refuse it?
#
# ````{admonition} Hint 1
# :class: dropdown
# Start from `automata.components(graph, 0.5)` and `states_table`, or write a regular expression with named groups and
# let `automata.best_cycle` choose.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# To order a component of three or more states, try all orders (`itertools.permutations`) and take the one whose
# smallest edge is largest.
# ````
# ````{admonition} Hint 3
# :class: dropdown
# `replayed(automaton, automata.walks(model, sae, second, my_states, 48))` shows it, with
# `automaton = automata.Automaton("mine", my_states, labels, graph[np.ix_(my_states, my_states)])`.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
my_states = None


# %% tags=["check", "hide-input"]
@check("ex-automata-own")
def check_own(my_states):
    states = [int(state) for state in my_states]
    assert len(states) >= 2, "take two states or more; with one it is a loop"
    assert len(set(states)) == len(states), "each state is another feature"
    assert all(0 <= state < len(graph) for state in states), f"features of A/1 have numbers from 0 to {len(graph) - 1}"
    used = {state for one in (loop, *found.values()) for state in one.states}
    assert not used & set(states), f"A/1/{min(used & set(states), default=0)} is a state of one of this chapter"
    steps = [(i, j, tested[i, j]) for i, j in zip(states, states[1:] + states[:1], strict=True)]
    i, j, weakest = min(steps, key=lambda step: step[2])
    enough = max(automata.LEAST, 5 * null_probability)
    assert weakest >= enough, f"the second half's edge from {i} to {j} is {weakest:.2f}; it has to reach {enough:.2f}"


check_own(my_states)

# %% [markdown]
# ````{solution-start} ex-automata-own
# :class: dropdown
# ````

# %%
from itertools import permutations

taken = {state for one in (loop, *found.values()) for state in one.states}


def smallest_edge(order):
    return min(graph[i, j] for i, j in zip(order, order[1:] + order[:1], strict=True))


free_ones = [states for states in automata.components(graph, 0.4) if 2 <= len(states) <= 4 and not taken & set(states)]
orders = [max(permutations(states), key=smallest_edge) for states in free_ones]
my_states = [*max(orders, key=lambda order: (len(order) > 2, smallest_edge(order)))]
print(f"{my_states}, the smallest edge on the first half {smallest_edge(my_states):.2f}")
check_own(my_states)

# %% [markdown]
# The code takes the component whose weakest edge is strongest, one of three states if there is one. What its states
# stand for is for you to say. A story is easy to find, which is why the last question of the task matters most: name a
# token that your story forbids, put it into a prompt, and see whether the next state still fires.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
check_own.refuses([my_states[0]], because="two states or more")
check_own.refuses([my_states[0], my_states[0]], because="another feature")
check_own.refuses([base64.index, my_states[0]], because="of one of this chapter")
check_own.refuses([int(state) for state in alive[~np.isin(alive, [*taken])][[0, -1]]], because="it has to reach")
