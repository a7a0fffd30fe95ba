"""The command line: `sae-core pretrain`, `harvest`, `train`, `evaluate`, `explain`, `text`, `models`, `release`, ..."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import bundle
from .errors import SaeCoreError
from .interruption import Stopped

if TYPE_CHECKING:
    from .language_model import LanguageModel


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 2 for bad input, 130 after Ctrl-C, 143 after SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="sae-core", description="Train a one-layer language model, take it apart with sparse dictionaries."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for function in (pretrain, harvest, train, evaluate, explain, text, models, release, publish):
        summary = function.__doc__.splitlines()[0]
        command = commands.add_parser(function.__name__, help=summary, description=function.__doc__)
        _ARGUMENTS[function.__name__](command)
        command.set_defaults(function=function)
    options = parser.parse_args(arguments)
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        options.function(options)
        sys.stdout.flush()
        return 0
    except BrokenPipeError:  # of `sae-core models | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SaeCoreError as error:
        print(f"sae-core: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"sae-core: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        if isinstance(stop.__context__, SaeCoreError):  # torchrun's SIGTERM, which came while the reason was on its way
            print(f"sae-core: {stop.__context__}", file=sys.stderr)
            return 2
        if not (message := str(stop)):
            goes_on = options.function in (pretrain, harvest, train, release, explain)
            message = "stopped" + "; run the same command again to go on from there" * goes_on
        print(f"\nsae-core: {message}", file=sys.stderr)
        return 128 + getattr(stop, "number", signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, _) -> None:
    raise Stopped(number, "")


def pretrain(options: argparse.Namespace) -> None:
    """Train a one-layer language model on text.

    Run the same command again to continue a stopped run.
    """
    from .pretraining import PretrainConfig
    from .pretraining import pretrain as run

    config = _config(PretrainConfig, options.recipe, options.set)
    model = run(config, options.out, options.device, options.checkpoint_every)
    _print_numbers(model.recipe["metrics"])


def harvest(options: argparse.Namespace) -> None:
    """Write a model's activations to disk, for `train --activations`.

    Run the same command again to continue a stopped run, and to check all shards: a damaged one is written again.
    """
    from .runs import cache_activations

    arguments = {name: getattr(options, name) for name in ("model", "out", "text", "max_tokens", "tokens", "seed")}
    given = [f"--{name.replace('_', '-')}={value}" for name, value in arguments.items() if value]
    command = shlex.join(["sae-core", "harvest", *given])
    cache = cache_activations(model_name=arguments.pop("model"), device=options.device, command=command, **arguments)
    _print_numbers({"activations": len(cache) * cache.rows, "shards": len(cache.manifest["shards"])})


def train(options: argparse.Namespace) -> None:
    """Train a dictionary on a model's activations.

    Run the same command again to continue a stopped run. For several processes: torchrun -m sae_core.cli train ...
    """
    from .parallel import processes
    from .recipe import TrainConfig
    from .runs import train_dictionary

    with processes(options.device) as device:
        config = _config(TrainConfig, options.recipe, options.set)
        metrics = train_dictionary(
            options.model,
            config,
            options.out,
            device=device,
            text=options.text,
            activations=options.activations,
            max_tokens=options.max_tokens,
            repeat=options.repeat,
            checkpoint_every=options.checkpoint_every,
            tensorboard=options.tensorboard,
            wandb=options.wandb,
        )
        _print_numbers(metrics)


def evaluate(options: argparse.Namespace) -> None:
    """Measure a dictionary on held-out text."""
    from .autoencoder import dictionary_metadata, load_dictionary
    from .runs import evaluate_dictionary, head, held_out

    sae, metadata = load_dictionary(options.dictionary, options.device), dictionary_metadata(options.dictionary)
    model = _model_of(options, metadata)
    contexts, _ = held_out(model, metadata.get("text", ()))
    _print_numbers(evaluate_dictionary(model, sae, head(contexts, options.tokens)))


def explain(options: argparse.Namespace) -> None:
    """Let a language model explain features, and score the explanations.

    Asks a server that speaks OpenAI's chat completions; the key is in OPENAI_API_KEY. Says first what there is to ask
    and, with --prices, what it costs. Run the same command again to continue a stopped run: nothing is asked twice.
    """
    from . import language_explainer as explainer
    from .autoencoder import dictionary_metadata, load_dictionary
    from .effects import logit_weights
    from .evidence import feature_evidence
    from .interpretability import protocol, usable
    from .runs import head, held_out
    from .tokens import token_bytes

    if not (options.out or options.estimate):
        raise SaeCoreError("explain: give --out FILE, where the answers are kept, or --estimate")
    answers = None
    if not options.estimate:
        explainer.key()  # is it there? It is asked for again after a minute's work
    if options.out:
        server = explainer.endpoint(options.url, options.explainer, settings=options.settings)
        answers = explainer.Answers(server, options.out)
    sae, metadata = load_dictionary(options.dictionary), dictionary_metadata(options.dictionary)
    model = _model_of(options, metadata)
    contexts, _ = held_out(model, metadata.get("text", ()))
    evidence = feature_evidence(model, sae, head(contexts, options.tokens))
    drawn = np.random.default_rng(options.seed).permutation(usable(evidence))[: max(0, options.features)]
    if not len(drawn):
        raise SaeCoreError("explain: no features; give --features 1 or more, and --tokens enough for them to fire")
    logits = logit_weights(model, sae.W_dec[drawn.tolist()].detach()).numpy()
    units = [
        explainer.Unit(f"{options.dictionary}/{feature}", protocol(evidence, feature), row)
        for feature, row in zip(drawn, logits, strict=True)
    ]
    pieces = token_bytes(model.tokenizer)
    expected = explainer.estimate(units, pieces, answers)
    cost = f": {expected.dollars(*options.prices):,.2f}" if options.prices else ""
    print(
        f"{len(units)} features, {expected.requests} requests to come, "
        f"about {expected.tokens_in:,} tokens to read and {expected.tokens_out:,} to write{cost}",
        flush=True,
    )
    if options.estimate:
        return
    scores = []
    for result in explainer.explain(answers, units, pieces):
        if result.problem:
            print(f"sae-core: {result.problem}", file=sys.stderr)
        else:
            scores.append(result.score)
            print(f"{result.name:12} {result.score:6.3f}  {result.explanation}", flush=True)
    median = f", median score {np.median(scores):.3f}" if scores else ""
    print(f"{len(scores)} features scored{median}; {len(units) - len(scores)} with a malformed answer")


def _model_of(options: argparse.Namespace, metadata: dict) -> LanguageModel:
    """The model that was asked for, else the one in whose folder the dictionary is, else the one that it names."""
    from .language_model import load_model

    device = getattr(options, "device", "cpu")
    if options.model:
        return load_model(options.model, device)
    folder = str(Path(options.dictionary).parent)
    beside = folder in bundle.available("config.json") or (Path(folder) / "config.json").is_file()
    if not (name := folder if beside else metadata.get("model", "")):
        raise SaeCoreError(f"{options.dictionary} does not name its language model; give --model")
    model = load_model(name, device)
    if metadata.get("model_sha256", "") not in ("", bundle.sha256(model.folder / "model.safetensors")):
        raise SaeCoreError(f"{options.dictionary} was trained on another model than the {name} here; give --model")
    return model


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
    """List the bundled models and dictionaries, their sizes and how good they are."""
    from .cards import summary

    for config_name in ("config.json", "cfg.json"):
        for name, folder in bundle.available(config_name).items():
            size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
            own = "" if folder.is_relative_to(bundle.PACKAGED) else f"  ({folder})"
            print(f"{name:10} {size / 1e6:6.1f} MB  {summary(folder)}{own}")


def release(options: argparse.Namespace) -> None:
    """Make the bundled models and dictionaries again, from their recipes.

    Prints what there is to do and how long it takes on this machine, then does it. Run the same command again to
    continue a stopped run; what is finished is skipped. With SAE_CORE_HOME=runs everything then uses the result.
    """
    from .cards import summary
    from .release import artefacts, finished, make, plan

    wanted = artefacts(options.names, options.recipes)
    for line in plan(wanted, options.home, options.device):
        print(line, flush=True)
    for artefact in wanted:
        if not options.plan and not finished(artefact, options.home):
            print(f"== {artefact.name}", flush=True)
            make(artefact, options.home, options.device)
            print(summary(options.home / artefact.name), flush=True)


def publish(options: argparse.Namespace) -> None:
    """Copy what `release` has finished into the package.

    Refused where a metric gets worse, where a dictionary does not belong to its model, and above 80 MB.
    """
    from .release import publish as run

    size = run(options.home, options.to, options.recipes, options.force)
    print(f"{options.to}: {size / 1e6:.1f} MB")


def _pretrain_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--recipe", metavar="FILE", help="JSON file, or the name of a bundled one: A")
    _run_arguments(command)


def _harvest_arguments(command: argparse.ArgumentParser) -> None:
    _source_arguments(command)
    command.add_argument("--tokens", type=_count, metavar="N", help="activations to write (default: all of the text)")
    command.add_argument("--seed", type=_seed, default=0, help="of their order, and of the runs to come (default: 0)")
    command.add_argument("--out", type=Path, required=True, help="folder for the shards")
    command.add_argument("--device", type=_device, default="cpu", help="torch device (default: cpu)")


def _source_arguments(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
    command.add_argument("--model", default="A", help="bundled model, folder, or hf:owner/name (default: A)")
    command.add_argument("--max-tokens", type=_count, metavar="N", help="read no more of the text; hf: needs it")
    source = command.add_mutually_exclusive_group()
    source.add_argument("--text", default="", help="corpus in place of the model's own training text, say pocket")
    return source


def _train_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--recipe", metavar="FILE", help="JSON file, or the name of a bundled one: A-1")
    source = _source_arguments(command)
    source.add_argument("--activations", default="", metavar="FOLDER", help="folder or URL that harvest has written")
    command.add_argument("--repeat", action="store_true", help="start over at the end of the text instead of failing")
    command.add_argument("--tensorboard", action="store_true", help="log to TensorBoard as well")
    command.add_argument("--wandb", action="store_true", help="log to Weights & Biases as well")
    _run_arguments(command)


def _run_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", type=Path, required=True, help="folder for the result, the log and the checkpoints")
    changes = {"nargs": "+", "action": "extend", "default": [], "metavar": "KEY=VALUE"}
    command.add_argument("--set", **changes, help="change values of the configuration")
    command.add_argument("--device", type=_device, default="cpu", help="torch device (default: cpu)")
    command.add_argument("--checkpoint-every", type=_count, default=1000, metavar="STEPS", help="(default: 1000)")


def _evaluate_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("dictionary", help="bundled dictionary (A/1) or folder")
    command.add_argument("--model", default="", help="its language model (default: the one that it names)")
    command.add_argument("--tokens", type=_count, default=1_000_000, help="held-out tokens (default: 1,000,000)")
    command.add_argument("--device", type=_device, default="cpu", help="torch device (default: cpu)")


def _explain_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("dictionary", help="bundled dictionary (A/1) or folder")
    command.add_argument("--model", default="", help="its language model (default: the one that it names)")
    command.add_argument("--features", type=int, default=10, metavar="N", help="drawn at random (default: 10)")
    command.add_argument("--seed", type=_seed, default=0, help="of that draw (default: 0)")
    command.add_argument("--tokens", type=_count, default=500_000, help="of held-out text (default: 500,000)")
    command.add_argument("--estimate", action="store_true", help="say what there is to ask, and ask nothing")
    command.add_argument("--prices", type=float, nargs=2, metavar=("IN", "OUT"), help="per million tokens")
    command.add_argument("--url", default="", help="of the server, up to /v1 (default: SAE_CORE_EXPLAINER_URL)")
    command.add_argument("--explainer", default="", metavar="NAME", help="model there (SAE_CORE_EXPLAINER_MODEL)")
    settings = {"type": _json, "default": {"temperature": 0}, "metavar": "JSON"}
    command.add_argument("--settings", **settings, help='more fields of each request (default: {"temperature": 0})')
    command.add_argument("--out", type=Path, metavar="FILE", help="where the answers are kept, as JSON lines")


def _count(text: str) -> int:
    if not (text.replace("_", "").isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 0 on")
    return int(text)


def _device(name: str) -> str:
    if name.partition(":")[0] not in ("cpu", "cuda", "mps", "xpu"):
        raise argparse.ArgumentTypeError(f"no device {name}: choose cpu, cuda, cuda:1, mps or xpu")
    if name != "cpu":
        import torch

        try:
            torch.empty(0, device=name)
        except Exception as error:  # of many kinds
            reason = str(error).partition("\n")[0].partition(". ")[0]
            raise argparse.ArgumentTypeError(f"PyTorch cannot use {name} here ({reason})") from None
    return name


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not JSON, such as '{{\"temperature\": 0}}'") from None


def _text_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("source", nargs="?", default="", help="pocket, mini-pile, a folder, or hf:owner/dataset")
    command.add_argument("--split", default="all", choices=("all", "train", "validation"))


def _release_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("names", nargs="*", metavar="NAME", help="A, A/1, ... and what they need (default: all)")
    command.add_argument("--plan", action="store_true", help="print what there is to do, and do nothing")
    command.add_argument("--device", type=_device, default="cpu", help="torch device (default: cpu)")
    _set_arguments(command)


def _publish_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--to", type=Path, default=bundle.PACKAGED, help="(default: the package's own folder)")
    command.add_argument("--force", action="store_true", help="publish even where a metric gets worse")
    _set_arguments(command)


def _set_arguments(command: argparse.ArgumentParser) -> None:
    from .recipe import BUNDLED

    command.add_argument("--home", type=Path, default=Path("runs"), help="folder that work goes on in (default: runs)")
    command.add_argument("--recipes", type=Path, default=BUNDLED, help="folder of recipes (default: the bundled ones)")


_ARGUMENTS = {
    "pretrain": _pretrain_arguments,
    "harvest": _harvest_arguments,
    "train": _train_arguments,
    "evaluate": _evaluate_arguments,
    "explain": _explain_arguments,
    "text": _text_arguments,
    "models": lambda command: None,
    "release": _release_arguments,
    "publish": _publish_arguments,
}


def _config(kind: type, recipe: str | None, changes: Sequence[str]):
    """A configuration from a recipe file (or a bundled recipe's name) and KEY=VALUE changes, JSON or plain words."""
    from .recipe import configuration, read_recipe

    values = read_recipe(recipe) if recipe else {}
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise SaeCoreError(f"--set {change}: write KEY=VALUE")
        try:
            values[key] = json.loads(value)
        except ValueError:
            values[key] = value
    return configuration(kind, values)


def _print_numbers(numbers: dict[str, float]) -> None:
    for name, value in numbers.items():
        print(f"{name:32} {value:,.4f}" if isinstance(value, float) else f"{name:32} {value:,}")


if __name__ == "__main__":
    sys.exit(main())
