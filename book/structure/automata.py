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
# **Time**: 30 minutes to read, about a minute to run.
# ```

# %% tags=["hide-input"]
import re

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots

from sae_core import automata, automata_plots, case_plots, case_study, chapter, plots, proxies
from sae_core.autoencoder import load_dictionary
from sae_core.corpus import open_corpus
from sae_core.effects import ablation_effect
from sae_core.errors import SaeCoreError
from sae_core.evidence import feature_evidence
from sae_core.exercises import check
from sae_core.language_model import load_model
from sae_core.runs import held_out
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
chapter.number("text-description", open_corpus().description)
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
# 1. **What does $i$ ask for?** Its logit weights say so. Take the twenty tokens with the largest.
# 2. **What does the model then write?** That depends on everything else that is active. So each of the twenty counts by
#    the mean probability that the model gives it where $i$ fires.
# 3. **What fires there?** For each of the twenty, count how often $j$ fires on it when it comes right after $i$.
#
# The **edge** from $i$ to $j$ is the weighted mean of the third over the second. It is the probability that $j$ fires
# next, if $i$ gets one of the tokens that it asks for. A token that never comes after $i$ in our text counts as zero.
# So an edge is rather too small than too large.
#
# ```{admonition} Predict
# :class: tip
# Draw two features at random. How large is the edge between them: about 0.5, 0.05, or 0.005? And do you expect many
# edges above one half, or hardly any?
# ```

# %%
promoted = automata.promoted(model, sae, first.between(0, chapter.size(quick=512, full=4000)))
graph = automata.edges(first, promoted)  # to choose by
tested = automata.edges(second, promoted)  # to report
alive = np.flatnonzero((first.counts >= 20) & (second.counts >= 20))
null = automata.random_pairs(tested, alive)
null_probability = float(null.mean())

# %% tags=["remove-cell"]
strong = np.argwhere(graph >= 0.5)
chapter.number("features", len(alive), ",")
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
# The twenty tokens that a feature asks for get {glue:text}`mass` of the probability, by the median over features. The
# rest goes elsewhere. An edge of 0.9 does not say that $j$ fires after 90 % of $i$'s firings. It says so for the tokens
# that $i$ gets its way with.
# ```
# <!-- numbers: 0.9 (an example); 90 % (the same) -->
#
# ## One large system, or many small ones?
#
# In a directed graph, a **strongly connected component** is a set of nodes each of which leads to every other one. That
# is what an automaton looks like from above: however you leave a state, there is a way back. Which components are
# there? It depends on how large an edge has to be to count.
#
# ```{admonition} Predict
# :class: tip
# Count only edges above 0.2. Is the largest component a handful of features, or most of the dictionary? What if each
# feature had as many edges as it has, but to random features?
# ```

# %% tags=["hide-input"]
#| label: fig-automata-components
#| caption: >-
#|   Size of the largest strongly connected component by the smallest edge that counts, with our edges and after the
#|   edges of each feature were dealt out to random features; and the number of components with two to 25 features.
thresholds = np.round(np.arange(0.2, 0.91, 0.05), 2)
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
at_half = int(np.flatnonzero(thresholds == 0.5)[0])
chapter.number("largest-half", largest["our edges"][at_half], ",")
chapter.number("dealt-half", largest["dealt out"][at_half], ",")
chapter.number("small-half", small[at_half])

# %% [markdown]
# Count everything above 0.2, and {glue:text}`largest-low` features are one system: all of the model's text hangs
# together. That says little, because with as many edges dealt out at random it is {glue:text}`dealt-low` features. The
# other end says more. At one half, the random graph's largest component has {glue:text}`dealt-half` features. Ours has
# {glue:text}`largest-half`, and there are {glue:text}`small-half` components of two features or more. Here are some:

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


found_blind = [states for states in automata.components(graph, 0.5) if 2 <= len(states) <= 25]
few = [(n, state) for n, states in enumerate(found_blind[:10], 1) for state in states[:4]]
states_table([str(n) for n, _ in few], [state for _, state in few])

# %% [markdown]
# The number in the first column is that of the component; of large ones four states are shown. Read the last two
# columns across the rows of one component: what one state promotes is what another fires on. No label was given. Most
# components are a kind of text: a script, a notation, a kind of data. That makes sense. Where the text has a strict
# form, the next token says a lot about the one after.
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
# **How to read the figures.** A state is filled by how strongly it fires on the token in bold, and its rim lights up
# when it fires at all. An edge lights up when the token follows it. Press *play*, or move the slider. The text was
# written by the model, from a prompt of the second half that ends where a state fires. Of all the samples, the code
# shows the one that follows the automaton longest. How the others do comes below.

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

# %%
PATTERNS = {
    "snake case": rb"(?P<part>(?<![A-Za-z0-9])[A-Z][A-Z0-9]*(?=_[A-Z])|(?<=[A-Z]_)[A-Z][A-Z0-9]+\b)"
    rb"|(?P<underscore>(?<=[A-Z0-9])_(?=[A-Z]))",
    "HTML": rb"(?P<open></?)(?P<name>[A-Za-z][\w-]*)[^<>\0]{0,200}?(?P<close>/?>)(?P<space>\s*)",
    "JSON": rb'[,{](?P<quote>\s*")(?P<key>[^"\n\0]{1,40})(?P<colon>"\s*:\s*)'
    rb'(?P<value>"[^"\n\0]{0,60}"|[\d.]+|true|false|null)(?=\s*[,}\]])',
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
found, missing, fits = {}, {}, {}
for title, pattern in (PATTERNS | SCRIPTS).items():
    marks = automata.roles(first.contexts.ids, pieces, re.compile(pattern))
    if min(mark.sum() for mark in marks.values()) < ENOUGH:
        missing[title] = f"{text} has too little of it"
        continue
    correlations = [first.correlations(mark) for mark in marks.values()]
    candidates = [{int(i): float(c[i]) for i in np.argsort(-c)[:16]} for c in correlations]
    try:
        states = automata.best_cycle(graph, candidates)
    except SaeCoreError:
        missing[title] = "no cycle with all its edges"
        continue
    fits[title] = [candidate[state] for candidate, state in zip(candidates, states, strict=True)]
    found[title] = automata.Automaton(title, states, [*marks], graph[np.ix_(states, states)])

# %% tags=["hide-input"]
def around(edges: np.ndarray) -> np.ndarray:
    """The edges of a cycle, from each state to the next."""
    states = np.arange(len(edges))
    return edges[states, (states + 1) % len(edges)]


def tested_edges(automaton) -> np.ndarray:
    return tested[np.ix_(automaton.states, automaton.states)]


rows = [
    (title, " → ".join(f"{label} ({state})" for label, state in zip(one.labels, one.states, strict=True)),
     ", ".join(f"{fit:.2f}" for fit in fits[title]), ", ".join(f"{edge:.2f}" for edge in around(tested_edges(one))))
    for title, one in found.items()
]  # fmt: skip
rows += [(title, why, "–", "–") for title, why in missing.items()]
plots.table(["", "states (features of A/1) → back to the first", "correlation with the role", "edges, second half"], rows)

# %% tags=["remove-cell"]
cycle_edges = np.concatenate([around(tested_edges(one)) for title, one in found.items()]) if found else np.zeros(0)
scripts = {title: found[title] for title in SCRIPTS if title in found}
chosen_script = max(
    scripts,
    key=lambda title: float(np.prod([*fits[title], *around(scripts[title].edges)])),
    default=None,
)
chapter.number("missing", ", ".join(f"{title} ({why})" for title, why in missing.items()) or "none")
chapter.number("scripts-found", len(scripts))
chapter.number("scripts-all", len(SCRIPTS))
chapter.number("cycle-mean", float(cycle_edges.mean()), ".2f")
chapter.number("cycle-smallest", float(cycle_edges.min()), ".2f")

# %% [markdown]
# Not found: {glue:text}`missing`. Of the {glue:text}`scripts-all` scripts, {glue:text}`scripts-found` have a pair. Over
# all the cycles in the table the mean edge is {glue:text}`cycle-mean`, the smallest {glue:text}`cycle-smallest`.
#
# Look at the correlations, too. A feature with an edge in the right place need not be *about* the role. A small
# correlation means that the state does its part in the automaton and much else besides, or that it serves a few of its
# words only.
#
# ### Two states: `ALL_CAPS_SNAKE_CASE`
#
# Names of constants are written in capitals and joined by underscores. The paper found two features that hand the text
# to one another: on a part in capitals one promotes the underscore, or more capitals. On the underscore the other
# promotes the next part. {glue:text}`snake-told`

# %% tags=["hide-input"]
#| label: fig-automata-snake
#| caption: The pair for names in capitals, {glue:text}`snake-states`, and a text that the model wrote.
def absent(title: str) -> go.Figure:
    """In place of a replay where there is no such automaton."""
    why = missing[title]
    figure = go.Figure()
    figure.add_annotation(text=f"{title}: {why}", showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper")
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return plots.describe(figure, f"No automaton for {title}: {why}.", height=160)


walked = {title: automata.walks(model, sae, second, one.states, n_walks) for title, one in found.items()}
replayed(found["snake case"], walked["snake case"]) if "snake case" in found else absent("snake case")

# %% tags=["hide-input"]
named = found.get("snake case")
states_table(named.labels, named.states) if named else None

# %% tags=["remove-cell"]
def named_states(title: str | None) -> str:
    return ", ".join(f"A/1/{state}" for state in found[title].states) if title in found else "not found here"


def pair_told(title: str) -> str:
    if title not in found:
        return f"Here it was not found: {missing[title]}."
    there, back = around(tested_edges(found[title]))
    weak = min(fits[title])
    told = f"Ours has edges of {there:.2f} there and {back:.2f} back."
    if weak < 0.2:
        told += (
            f" But one of the two states has a correlation of only {weak:.2f} with its role. It is hardly a feature "
            "for names in capitals; A/1 has many features that share this role, and none of them closes the loop alone."
        )
    return told


chapter.number("snake-told", pair_told("snake case"))
chapter.number("snake-states", named_states("snake case"))
chapter.number("script", chosen_script or "none")
chapter.number("script-states", named_states(chosen_script))
chapter.number("html-states", named_states("HTML"))
chapter.number("json-states", named_states("JSON"))

# %% [markdown]
# ### Two states: the bytes of a script
#
# Our tokens are made of bytes. A letter of most scripts takes two or three of them, and the tokeniser has not joined
# them all. So the model has to spell: first the byte that is common to the script, then the one that says which letter.
# The paper shows this for Tamil and Chinese. The pair with the largest product here is {glue:text}`script`.

# %% tags=["hide-input"]
#| label: fig-automata-script
#| caption: >-
#|   The pair that spells {glue:text}`script`, {glue:text}`script-states`, and a text that the model wrote. Bytes that
#|   are no whole character stand as \x and two digits.
missing.setdefault("script", f"{text} has too little of any script")
replayed(found[chosen_script], walked[chosen_script]) if chosen_script else absent("script")

# %% tags=["hide-input"]
named = found.get(chosen_script)
states_table(named.labels, named.states) if named else None

# %% [markdown]
# ### Four states: mark-up
#
# The paper's largest example is HTML: a tag opens, it gets a name, it closes, white space follows, and the next tag
# opens. {glue:text}`html-told`

# %% tags=["hide-input"]
#| label: fig-automata-markup
#| caption: The automaton of HTML, {glue:text}`html-states`, and a text that the model wrote.
replayed(found["HTML"], walked["HTML"]) if "HTML" in found else absent("HTML")

# %% tags=["hide-input"]
named = found.get("HTML")
states_table(named.labels, named.states) if named else None

# %% [markdown]
# JSON is not mark-up, but it has as strict a form: a quote opens a key, the key is spelled, a colon, a value, and a
# comma with the next quote. {glue:text}`json-told`

# %% tags=["hide-input"]
#| label: fig-automata-json
#| caption: The automaton of JSON, {glue:text}`json-states`, and a text that the model wrote.
replayed(found["JSON"], walked["JSON"]) if "JSON" in found else absent("JSON")

# %% tags=["hide-input"]
named = found.get("JSON")
states_table(named.labels, named.states) if named else None

# %% tags=["remove-cell"]
def cycle_told(title: str) -> str:
    if title not in found:
        return f"Here no such automaton was found: {missing[title]}."
    found_edges = around(tested_edges(found[title]))
    holds = "all" if (found_edges >= 5 * null_probability).all() else f"{(found_edges >= 5 * null_probability).sum()}"
    return (
        f"This model holds one with {len(found_edges)} states. On the second half of the text its edges are "
        f"{', '.join(f'{edge:.2f}' for edge in found_edges)}, and {holds} of them are above five times the mean of "
        "random pairs."
    )


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
# ```{admonition} Predict
# :class: tip
# In which of the automata does the model stay longest: in a script, in HTML, or in names in capitals?
# ```

# %%
drawn = [title for title in (*PATTERNS, chosen_script) if title in found]
parsed, within = {}, {}
for title in drawn:
    one, acted = found[title], walked[title].activations
    follows = one.follows(acted)
    parsed[title] = float(follows.mean())
    within[title] = float(follows[(acted[:, :-1] > 0).any(2)].mean())
parsed_elsewhere = {
    title: float(found[title].follows(automata.activations(model, sae, found[title].states, torch.from_numpy(free.ids))
                                      [:, automata.PROMPT - 1 :]).mean())
    for title in drawn
}  # fmt: skip

# %% tags=["hide-input"]
#| label: fig-automata-parsed
#| caption: >-
#|   Share of the tokens written that follow the automaton: of all tokens after a prompt that ends in a state, of those
#|   right after a token on which a state fired, and in text written from random prompts.
figure = go.Figure()
series = {"from a state": parsed, "while in a state": within, "from random prompts": parsed_elsewhere}
for (name, shares), colour in zip(series.items(), (plots.PALETTE[0], plots.PALETTE[2], plots.PALETTE[7]), strict=True):
    figure.add_bar(x=drawn, y=[shares[title] for title in drawn], name=name, marker_color=colour)
figure.update_yaxes(tickformat=".0%", title="tokens that follow")
said = "; ".join(
    f"{title}: {parsed[title]:.0%} from a state, {within[title]:.0%} while in a state, {parsed_elsewhere[title]:.1%} "
    "from random prompts" for title in drawn
)  # fmt: skip
plots.describe(figure, f"Grouped bars. {said}.", barmode="group")

# %% tags=["remove-cell"]
drawn_edges = np.concatenate([around(tested_edges(found[title])) for title in drawn]) if drawn else np.zeros(0)
edge_probability = float(drawn_edges.mean()) if drawn else 0.0
parsed_share = float(np.mean([*parsed.values()])) if drawn else 0.0
if drawn:
    chapter.claim(
        "A33", where="structure/automata#fig-automata-parsed", text=text, edge_probability=edge_probability,
        null_probability=null_probability, parsed_share=parsed_share,
    )  # fmt: skip
chapter.number("edge-probability", edge_probability, ".2f")
chapter.number("edge-times", edge_probability / max(null_probability, 1e-9), ".0f")
chapter.number("parsed", parsed_share, ".0%")
chapter.number("within", float(np.mean([*within.values()])) if drawn else 0.0, ".0%")
chapter.number("parsed-elsewhere", max(parsed_elsewhere.values(), default=0.0), ".1%")
best_parsed, worst_parsed = max(parsed, key=parsed.get, default="none"), min(parsed, key=parsed.get, default="none")
chapter.number("best-parsed", f"{best_parsed} ({parsed.get(best_parsed, 0):.0%})")
chapter.number("worst-parsed", f"{worst_parsed} ({parsed.get(worst_parsed, 0):.0%})")
chapter.number(
    "parsed-told",
    "This meets the bar of one half that was set before anything was measured."
    if parsed_share >= 0.5
    else "The bar of one half, which was set before anything was measured, is missed.",
)
token_only = []
for title in drawn:
    states = found[title].states
    for i, j in zip(states, states[1:] + states[:1], strict=True):
        share = proxies.occurrence_share(second.contexts.ids, second.dense(j) > 0, len(pieces))
        token_only.append(float(share[promoted.tokens[i]].mean()))
rng = np.random.default_rng(0)
random_only = []
for j in rng.choice(alive, 50, replace=False):
    share = proxies.occurrence_share(second.contexts.ids, second.dense(j) > 0, len(pieces))
    random_only.append(share[promoted.tokens[rng.choice(alive, 50)]].mean())
chapter.number("token-only", float(np.mean(token_only)) if token_only else 0.0, ".3f")
chapter.number("token-only-null", float(np.mean(random_only)), ".4f")

# %% [markdown]
# Averaged over the automata drawn above, {glue:text}`parsed` of the tokens follow. {glue:text}`parsed-told` The best is
# {glue:text}`best-parsed`, the worst {glue:text}`worst-parsed`. In text from random prompts it is never more than
# {glue:text}`parsed-elsewhere`. While a state is active, {glue:text}`within` of the next tokens follow.
#
# The edges themselves are strong: {glue:text}`edge-probability` on average, {glue:text}`edge-times` times as much as
# between random features. How can both be true? Three reasons.
#
# - **The text leaves.** A tag is followed by what it marks up, a constant by an equals sign. The automaton has no state
#   for that. The paper says the same of its own: it does not model `href`.
# - **One feature is not one role.** This dictionary has 4,096 features, and many of them share a role. The sample goes
#   on in good form while another feature has taken over.
# - **Edges ask for less.** An edge only counts the tokens that the feature promotes.
#
# ```{admonition} A trap: the token is not the state
# :class: warning
# Forget the context, and ask only how often $j$ fires on the twenty tokens *wherever they stand*. Then the mean over
# these edges falls to {glue:text}`token-only` ({glue:text}`token-only-null` for random pairs). The letter `a` is in
# every text. It is in the state "tag name" only behind a bracket. The state is in the feature and not in the token, and
# the feature knows because attention looked back.
# ```
#
# ## Is it the feature that does it?
#
# So far we watched. Both states might follow from a third thing, the kind of text. Two experiments ask whether a state
# *brings about* the next one.
#
# **Ablation.** Take prompts that end where state $i$ fires. Let the model write one token, once as it is and once with
# $i$ held at 0. On how many of these tokens does $j$ fire? It is read without the intervention, so $i$ can act through
# the choice of the token alone.
#
# **Pinning.** Take random prompts. Hold $i$ at its largest activation, or at twice that. Does $j$ fire on the token
# that is written?
#
# ```{admonition} Predict
# :class: tip
# A tag's name is active. Without it, will the tag still be closed? And can you make the model close a tag in the middle
# of a novel?
# ```

# %%
n_prompts = chapter.size(quick=192, full=1024)
random_prompts = automata.prompts(model, sae, second, None, n_prompts)
steered = []  # (automaton, from, to, intact, ablated, unpinned, pinned, pinned twice)
for title in ("base64", *drawn):
    one = loop if title == "base64" else found[title]
    given = (model, sae, one.states)
    unpinned = automata.next_states(*given, random_prompts)
    for here, feature in enumerate(one.states):
        there, top = (here + 1) % len(one.states), float(evidence.of(feature)[1].max())
        own = automata.prompts(model, sae, second, feature, n_prompts)
        own_values = [automata.next_states(*given, own, *held)[there] for held in ((), (feature, 0.0))]
        pinned = [automata.next_states(*given, random_prompts, feature, dose * top)[there] for dose in (1, 2)]
        steered.append((title, one.labels[here], one.labels[there], *own_values, unpinned[there], *pinned))

# %% tags=["hide-input"]
#| label: fig-automata-causal
#| caption: >-
#|   On how many of the next tokens the next state fires. Above, where the state fires: as it is, and with the state
#|   ablated. Below, on random prompts: as it is, and with the state pinned to its largest activation and to twice that.
names = [f"{title}: {here} → {there}" for title, here, there, *_ in steered][::-1]
values = np.array([row[3:] for row in steered], float)[::-1]
figure = make_subplots(2, 1, shared_xaxes=False, vertical_spacing=0.08, row_heights=[0.45, 0.55])
for row, column, name, colour in (
    (1, 0, "as it is", plots.PALETTE[7]),
    (1, 1, "ablated", plots.PALETTE[1]),
    (2, 2, "as it is, random prompts", plots.PALETTE[4]),
    (2, 3, "pinned", plots.PALETTE[0]),
    (2, 4, "pinned twice as high", plots.PALETTE[2]),
):
    figure.add_bar(y=names, x=values[:, column], name=name, orientation="h", marker_color=colour, row=row, col=1)
figure.update_xaxes(tickformat=".0%")
figure.update_xaxes(title="next tokens with the next state", row=2, col=1)
said = "; ".join(
    f"{name}: {one[0]:.0%}, ablated {one[1]:.0%}; random prompts {one[2]:.0%}, pinned {one[3]:.0%}, twice {one[4]:.0%}"
    for name, one in zip(names[::-1], values[::-1], strict=True)
)
plots.describe(figure, f"Two panels of bars by edge. {said}.", barmode="group", height=300 + 60 * len(names))

# %% tags=["remove-cell"]
intact, ablated, unpinned, pinned, twice = values.T
chapter.number("prompts", n_prompts)
chapter.number("edges-tested", len(values))
chapter.number("ablated-less", int((ablated < intact).sum()))
chapter.number("intact", float(intact.mean()), ".0%")
chapter.number("ablated", float(ablated.mean()), ".0%")
chapter.number("pinned-more", int((twice > unpinned).sum()))
chapter.number("unpinned", float(unpinned.mean()), ".1%")
chapter.number("pinned", float(pinned.mean()), ".1%")
chapter.number("pinned-twice", float(twice.mean()), ".1%")
change = intact - ablated
most = int(change.argmax())
chapter.number("most-ablated", f"{names[most]} ({intact[most]:.0%} to {ablated[most]:.0%})")
chapter.number(
    "causal-told",
    "So the states do push"
    if ablated.mean() < intact.mean() and twice.mean() > unpinned.mean()
    else "So we cannot say that the states push",
)

# %% [markdown]
# Ablating a state makes the next one rarer in {glue:text}`ablated-less` of {glue:text}`edges-tested` edges. On average
# it falls from {glue:text}`intact` to {glue:text}`ablated`; the largest drop is {glue:text}`most-ablated`. On random
# prompts the next state fires on {glue:text}`unpinned`. With the state pinned it is {glue:text}`pinned`, at twice the
# height {glue:text}`pinned-twice`; {glue:text}`pinned-more` of {glue:text}`edges-tested` edges go up. Each share is
# over at most {glue:text}`prompts` prompts, so differences of a few percent are noise.
#
# {glue:text}`causal-told`, and they do not push alone. About fifteen features are active on a token, and several of
# them ask for the same thing. Take one away, and the others still ask. And one that is pinned in a strange place asks
# for a token that nothing else there supports, and on which the next state, which looks at the context, may not fire.
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
    paraphrase_share=shares["a paraphrase"],
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
# The chain has {glue:text}`links` features. Ablating one costs the next token {glue:text}`link-mean` nats on average;
# the least harmful ablation changes it by {glue:text}`link-largest`. On the phrase {glue:text}`share-phrase` of the
# features fire, on the paraphrase {glue:text}`share-paraphrase`.
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
# | edges against random pairs | not measured | {glue:text}`edge-probability` against {glue:text}`null` |
# | written tokens that follow | not measured | {glue:text}`parsed` |
# | next state, if ablated | not measured | {glue:text}`intact` to {glue:text}`ablated` |
# | next state, if pinned | not measured | {glue:text}`unpinned` to {glue:text}`pinned` |
# | a phrase by heart | a chain in A/4 | {glue:text}`links` features, {glue:text}`share-phrase` fire on it |
# | … its words shuffled | not measured | {glue:text}`share-shuffled` fire |
#
# **How our set-up differs.** The paper's automata are mostly from its smallest dictionary, with 512 features, and were
# picked by hand. Ours are from one with 4,096, in which a role is shared by several features, and were picked by code.
# Our vocabulary is smaller, so more characters are spelled in bytes. {doc}`/book/differences` has the rest.
#
# ```{admonition} Takeaways
# :class: note
# - Features can drive one another without any connection in the model: through the text.
# - An edge is a statement about two features *and* the text that stands between them. Measure it where it was not
#   chosen.
# - The state is in the feature, not in the token: forget the context, and most of the edge is gone.
# - A parse that fails need not mean a wrong automaton. The text may have left it, or another feature may have taken
#   over.
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
    texts = {"0101": 3, "0011": 1, "01-0101": 3, "0-1-": 0, "1111": 0}
    for path, right in texts.items():
        active = np.array([[[state == "0", state == "1"] for state in path]])
        answer = np.ravel(longest_run(active, around_two))
        assert answer.shape == (1,), "return one number for each text"
        assert answer[0] != right + 1 or right == 0, f"{path}: count the tokens that follow; the first follows nothing"
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
check_run.refuses(lambda active, edges: longest_run(active, edges) + 1, because="the first follows nothing")
check_run.refuses(lambda active, edges: longest_run(active, edges | edges.T), because="does not lead from 1 to 0")
check_run.refuses(
    lambda active, edges: (((active[:, :-1] @ edges) > 0) & active[:, 1:]).any(2).sum(1), because="the longest run has"
)

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
check_own(my_states)
states_table([str(n) for n in range(1, 1 + len(my_states))], my_states)

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
