"""The command line: `sae-core pretrain`, `train`, `evaluate`, `text`, `models`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from . import bundle
from .errors import SaeCoreError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 2 for bad input, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="sae-core", description="Train a one-layer language model, take it apart with sparse dictionaries."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for function in (pretrain, train, evaluate, text, models):
        summary = function.__doc__.splitlines()[0]
        command = commands.add_parser(function.__name__, help=summary, description=function.__doc__)
        _ARGUMENTS[function.__name__](command)
        command.set_defaults(function=function)
    options = parser.parse_args(arguments)
    try:
        options.function(options)
        return 0
    except SaeCoreError as error:
        print(f"sae-core: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"sae-core: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nsae-core: stopped; run the same command again to continue from the last checkpoint", file=sys.stderr)
        return 130


def pretrain(options: argparse.Namespace) -> None:
    """Train a one-layer language model on text.

    Run the same command again to continue a stopped run.
    """
    from .pretraining import PretrainConfig
    from .pretraining import pretrain as run

    config = _config(PretrainConfig, options.recipe, options.set)
    model = run(config, options.out, options.device, options.checkpoint_every)
    _print_numbers(model.recipe["metrics"])


def train(options: argparse.Namespace) -> None:
    """Train a dictionary on a model's activations.

    Run the same command again to continue a stopped run.
    """
    from .recipe import TrainConfig
    from .runs import train_dictionary

    config = _config(TrainConfig, options.recipe, options.set)
    metrics = train_dictionary(
        options.model,
        config,
        options.out,
        device=options.device,
        text=options.text,
        repeat=options.repeat,
        checkpoint_every=options.checkpoint_every,
        tensorboard=options.tensorboard,
        wandb=options.wandb,
    )
    _print_numbers(metrics)


def evaluate(options: argparse.Namespace) -> None:
    """Measure a dictionary on held-out text."""
    from .autoencoder import load_dictionary
    from .language_model import load_model
    from .runs import evaluate_dictionary, head, held_out

    sae = load_dictionary(options.dictionary, options.device)
    model = load_model(options.model or str(Path(options.dictionary).parent), options.device)
    contexts, _ = held_out(model)
    _print_numbers(evaluate_dictionary(model, sae, head(contexts, options.tokens)))


def text(options: argparse.Namespace) -> None:
    """Show what a source of text holds: documents and bytes by slice."""
    from .corpus import open_corpus

    corpus = open_corpus(options.source)
    documents, size = {}, {}
    for document in corpus.documents(options.split):
        documents[document.slice] = documents.get(document.slice, 0) + 1
        size[document.slice] = size.get(document.slice, 0) + len(document.text.encode())
    print(f"{corpus.name}: {corpus.description}")
    for name in sorted(size, key=size.get, reverse=True):
        print(f"{size[name] / 1e6:9.2f} MB {documents[name]:7,} documents  {name}")
    print(f"{sum(size.values()) / 1e6:9.2f} MB {sum(documents.values()):7,} documents  together ({options.split})")


def models(options: argparse.Namespace) -> None:
    """List the bundled models and dictionaries."""
    for kind, config_name in (("model", "config.json"), ("dictionary", "cfg.json")):
        for name in bundle.available(config_name):
            print(f"{name:12} {kind}")


def _pretrain_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--recipe", metavar="FILE", help="JSON file, or the name of a bundled one: A")
    _run_arguments(command)


def _train_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--model", default="A", help="bundled model, folder, or hf:owner/name (default: A)")
    command.add_argument("--recipe", metavar="FILE", help="JSON file, or the name of a bundled one: A-1")
    command.add_argument("--text", default="", help="corpus in place of the model's own training text, say pocket")
    command.add_argument("--repeat", action="store_true", help="start over at the end of the text instead of failing")
    command.add_argument("--tensorboard", action="store_true", help="log to TensorBoard as well")
    command.add_argument("--wandb", action="store_true", help="log to Weights & Biases as well")
    _run_arguments(command)


def _run_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", type=Path, required=True, help="folder for the result, the log and the checkpoints")
    command.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="change values of the configuration")
    command.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    command.add_argument("--checkpoint-every", type=int, default=1000, metavar="STEPS", help="(default: 1000)")


def _evaluate_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("dictionary", help="bundled dictionary (A/1) or folder")
    command.add_argument("--model", default="", help="its language model (default: the name's first part)")
    command.add_argument("--tokens", type=int, default=1_000_000, help="held-out tokens (default: 1,000,000)")
    command.add_argument("--device", default="cpu", help="torch device (default: cpu)")


def _text_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("source", nargs="?", default="", help="pocket, mini-pile, a folder, or hf:owner/dataset")
    command.add_argument("--split", default="all", choices=("all", "train", "validation"))


_ARGUMENTS = {
    "pretrain": _pretrain_arguments,
    "train": _train_arguments,
    "evaluate": _evaluate_arguments,
    "text": _text_arguments,
    "models": lambda command: None,
}


def _config(kind: type, recipe: str | None, changes: Sequence[str]):
    """A configuration from a recipe file (or a bundled recipe's name) and KEY=VALUE changes, JSON or plain words."""
    values = {}
    if recipe:
        bundled = Path(__file__).parent / "recipes" / f"{recipe}.json"
        path = bundled if bundled.exists() else Path(recipe)
        try:
            values = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise SaeCoreError(f"recipe {recipe}: cannot be read ({error})") from None
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise SaeCoreError(f"--set {change}: write KEY=VALUE")
        try:
            values[key] = json.loads(value)
        except ValueError:
            values[key] = value
    known = {field.name: field.default for field in dataclasses.fields(kind)}
    for key in values:
        if key not in known:
            raise SaeCoreError(f"no setting {key!r}: choose among {', '.join(known)}")
    try:
        return kind(**values)
    except TypeError as error:
        raise SaeCoreError(f"a value of the configuration has the wrong type ({error})") from None


def _print_numbers(numbers: dict[str, float]) -> None:
    for name, value in numbers.items():
        print(f"{name:32} {value:,.4f}" if isinstance(value, float) else f"{name:32} {value:,}")


if __name__ == "__main__":
    sys.exit(main())
