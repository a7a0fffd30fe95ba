"""The release: every bundled model and dictionary made from its recipe, in order, and published into the package.

An artefact is a recipe file: `recipes/A-1.json` makes the dictionary A/1 of model A, `recipes/A.json` the model,
`recipes/random.json`, which names the model that it shuffles, a control. Work goes on in a folder of one's own in the
form of `pretrained/` (`runs/`, say), where every artefact can be stopped and continued.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from . import bundle, cards, checkpoint
from .corpus import open_corpus
from .errors import SaeCoreError
from .recipe import BUNDLED, TrainConfig, configuration, differing, read_recipe
from .tokens import load_contexts

MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "training.json",
    "MANIFEST.json",
    "log.jsonl",
    "README.md",
)
DICTIONARY_FILES = ("cfg.json", "sae_weights.safetensors", "log.jsonl", "README.md")
LARGEST_RELEASE = 80e6  # bytes; a git repository keeps every version for ever
# What has to be known and must not get worse from one release to the next: 1 where more is better, -1 where less is.
QUALITY = {
    "model": {"validation_loss": -1},
    "control": {"validation_loss": -1},
    "dictionary": {"loss_recovered": 1, "l0_mean": -1, "dead or ultralow": -1},
}
BYTES_PER_TOKEN = 2.7  # of mini-pile's mixtures with a few thousand tokens, for estimates


@dataclass(frozen=True)
class Artefact:
    """A model ("A"), a control ("random") or a dictionary ("A/1"), and the values of its recipe."""

    name: str
    recipe: dict

    @property
    def kind(self) -> str:
        return "dictionary" if "/" in self.name else "control" if "shuffled" in self.recipe else "model"

    @property
    def model(self) -> str | None:
        """The model that it is made from."""
        return {"model": None, "control": self.recipe.get("shuffled")}.get(self.kind, self.name.partition("/")[0])

    def config(self):
        """Its whole configuration: a PretrainConfig, a TrainConfig, or for a control its recipe."""
        from .pretraining import PretrainConfig

        kinds = {"model": PretrainConfig, "dictionary": TrainConfig}
        return configuration(kinds[self.kind], self.recipe) if self.kind in kinds else self.recipe


def artefacts(names: Sequence[str] = (), recipes: Path = BUNDLED) -> list[Artefact]:
    """The artefacts of these names (none: all of them) and what they are made from, in an order to make them in.

    Raises SaeCoreError that lists what there is for an unknown name, and for a folder without recipes.
    """
    found = {}
    for path in recipes.glob("*.json"):
        name = path.stem.replace("-", "/", 1)
        found[name] = Artefact(name, read_recipe(path.stem, recipes))
    if not found:
        raise SaeCoreError(f"{recipes}: holds no recipe; give a folder of JSON files such as A.json and A-1.json")
    wanted: set[str] = set()
    for name in names or found:
        while name is not None and name not in wanted:
            if name not in found:
                raise SaeCoreError(f"{recipes} has no recipe for {name!r}: choose among {', '.join(sorted(found))}")
            wanted.add(name)
            name = found[name].model
    kinds = ["model", "control", "dictionary"]
    return sorted((found[name] for name in wanted), key=lambda artefact: (kinds.index(artefact.kind), artefact.name))


def records(artefact: Artefact, home: Path) -> dict | None:
    """What a finished run says about itself; None where it has not ended. The card is what a run writes last."""
    folder = home / artefact.name
    if not (folder / "README.md").exists():
        return None
    if artefact.kind == "dictionary":
        return json.loads((folder / "cfg.json").read_text())["metadata"]
    return json.loads((folder / "training.json").read_text())


def finished(artefact: Artefact, home: Path) -> bool:
    """Whether it is in `home`. Raises SaeCoreError where it was made from another recipe or on another model."""
    run = records(artefact, home)
    if run is None:
        return False
    folder = home / artefact.name
    for key, (there, here) in differing(run["recipe"], artefact.config()).items():
        raise SaeCoreError(f"{folder}: made with {key} = {there}, the recipe says {here}; move that folder away")
    weights = home / str(artefact.model) / "model.safetensors"
    if artefact.model and weights.exists() and run.get("model_sha256") != bundle.sha256(weights):
        raise SaeCoreError(f"{folder}: made from another model {artefact.model}; move that folder away")
    return True


def make(artefact: Artefact, home: Path, device: str = "cpu") -> None:
    """Make one artefact in `home`, or continue where a stopped run has left it; what it is made from must be there."""
    from .pretraining import pretrain
    from .runs import train_dictionary

    folder, config = home / artefact.name, artefact.config()
    options = {"device": device, "checkpoint_every": 500, "progress": sys.stderr.isatty()}
    if artefact.kind == "model":
        pretrain(config, folder, **options)
    elif artefact.kind == "control":
        _shuffle(home / artefact.model, config["seed"], folder)
    else:
        train_dictionary(str(home / artefact.model), config, folder, **options)
    for path in checkpoint.checkpoints(folder):  # they hold the buffer, gigabytes
        path.unlink()


def _shuffle(source: Path, seed: int, folder: Path) -> None:
    """Write the random control of the model in `source`, measured on that model's text."""
    from .language_model import load_model, save_model, shuffled_control
    from .pretraining import evaluate, write_records
    from .runs import training_text

    started = time.monotonic()
    model = load_model(str(source))
    text = training_text(model)
    control = shuffled_control(model, seed)
    save_model(control, folder)
    train, validation = (load_contexts(text, split, model.tokenizer, model.n_ctx) for split in ("train", "validation"))
    run = {
        "recipe": {"shuffled": model.name, "seed": seed, "text": text},
        "model_sha256": bundle.sha256(source / "model.safetensors"),
        "provenance": cards.provenance(),
        "metrics": evaluate(control, train, validation),
        "seconds": round(time.monotonic() - started),
    }
    write_records(folder, run)


def plan(wanted: Sequence[Artefact], home: Path, device: str = "cpu") -> Iterator[str]:
    """The lines of a table: what each artefact is made from, how large the run is, how long it takes here, its state.

    Minutes are estimated from a few real steps of each kind on this machine, and are of training alone.
    """
    machine, together = cards.provenance(device), 0.0
    yield f"on {machine['device']}, {machine['threads']} threads, {machine['memory']}:"
    yield f"{'':10}{'made from':11}{'size of the run':>26}{'minutes':>9}  state"
    for artefact in wanted:
        done = finished(artefact, home)
        size, minutes = ("", 0.0) if done or artefact.kind == "control" else _estimate(artefact, wanted, device)
        stopped = checkpoint.checkpoints(home / artefact.name)
        left = f"stopped at step {int(stopped[-1].stem.partition('-')[2]):,}" if stopped else "to do"
        row = f"{artefact.name:10}{artefact.model or 'text':11}{size:>26}{f'{minutes:.0f}' if minutes else '':>9}"
        yield f"{row}  {'finished' if done else left}"
        together += minutes
    yield f"together about {together:.0f} minutes; what was stopped continues, what is finished is skipped"


def _estimate(artefact: Artefact, wanted: Sequence[Artefact], device: str) -> tuple[str, float]:
    """The size of a model's or a dictionary's run in words, and the minutes that it takes."""
    from .language_model import build
    from .pretraining import seconds_per_step
    from .runs import seconds_to_train

    config = artefact.config()
    if artefact.kind == "model":
        text = config.max_tokens or round(_text_bytes(json.dumps(config.text)) / BYTES_PER_TOKEN, -5)
        steps = text * config.passes / config.batch_tokens
        return f"about {text * config.passes:,.0f} tokens", steps * seconds_per_step(config, device) / 60
    by_name = {other.name: other for other in wanted}
    model = by_name[artefact.model]
    model = by_name[model.model].config() if model.kind == "control" else model.config()
    network = build(model.vocab_size, model.n_ctx).to(device).eval()
    return f"{config.steps * config.batch_size:,} activations", seconds_to_train(config, network) / 60


@cache
def _text_bytes(mixture: str) -> int:
    """The bytes of the training split of a mixture in JSON."""
    parts = (open_corpus(name).documents("train", weights) for name, weights in json.loads(mixture))
    return sum(len(document.text.encode()) for part in parts for document in part)


def publish(home: Path, target: Path = bundle.PACKAGED, recipes: Path = BUNDLED, force: bool = False) -> int:
    """Copy what is finished in `home` into `target`, with checksums; returns the size of `target` in bytes.

    Only files that are meant for others are copied. Raises SaeCoreError, before anything is copied, where a metric
    would get worse or is no number (unless `force`), where a dictionary would stand beside another model than its own,
    and where the whole would be larger than 80 MB.
    """
    everything = artefacts(recipes=recipes)
    new = [artefact for artefact in everything if finished(artefact, home)]
    if not new:
        raise SaeCoreError(f"{home}: holds no finished artefact; make some with `sae-core release`")
    copies = {}
    for artefact in new:
        worse = _worse(artefact.kind, records(artefact, home), records(artefact, target))
        if worse and not force:
            raise SaeCoreError(f"{artefact.name}: {worse}; --force publishes it all the same")
        for name in DICTIONARY_FILES if artefact.kind == "dictionary" else MODEL_FILES:
            if (home / artefact.name / name).exists():
                copies[target / artefact.name / name] = home / artefact.name / name
    for artefact in everything:
        run = records(artefact, home if artefact in new else target)
        weights = target / str(artefact.model) / "model.safetensors"
        weights = copies.get(weights, weights)
        if run and artefact.model and (not weights.exists() or run.get("model_sha256") != bundle.sha256(weights)):
            raise SaeCoreError(f"{artefact.name}: made from another model {artefact.model}; publish them together")
    stay = {path for path in target.rglob("*") if path.is_file()} - copies.keys()
    size = sum(path.stat().st_size for path in [*stay, *copies.values()])
    if size > LARGEST_RELEASE:
        raise SaeCoreError(f"{target}: {size / 1e6:.1f} MB, more than {LARGEST_RELEASE / 1e6:.0f} MB; publish less")
    for to, path in copies.items():
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, to)
    bundle.write_checksums(target)
    return size


def _worse(kind: str, new: dict, old: dict | None) -> str:
    """Which metrics of QUALITY got worse or are no numbers, in words; "" where none did."""
    worse = []
    for name, sign in QUALITY[kind].items():
        before, after = _quality(old, name), _quality(new, name)
        if not math.isfinite(after):
            worse.append(f"{name} is missing or not a number")
        elif sign * after < sign * before:  # never where nothing was published
            worse.append(f"{name} is {after:.4g}, worse than {before:.4g} as published")
    return ", ".join(worse)


def _quality(run: dict | None, name: str) -> float:
    """A metric of a run; NaN where it is missing."""
    metrics = (run or {}).get("metrics") or {}
    parts = ("dead", "ultralow") if name == "dead or ultralow" else (name,)
    return sum(math.nan if metrics.get(part) is None else metrics[part] for part in parts)
