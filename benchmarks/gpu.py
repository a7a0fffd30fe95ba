"""What a GPU makes of a training step and of harvesting. Run it on a machine that has one: python benchmarks/gpu.py

Our trainer is timed beside the same recipe in plain PyTorch, with autograd and torch.optim.Adam, one kernel after
another; and beside dictionary_learning's trainer where that can be imported, as in its environment below `.venvs`,
which has what this script needs. Activations and tokens are random: nothing on a GPU depends on how many features are
active.
With `--device cpu --small` it runs in seconds, which shows that it runs.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import results
import torch
from results import Ratio, Series, ratios
from session import WORK
from torch import Tensor

from sae_core.activations import HarvestedChunks
from sae_core.cards import commit
from sae_core.language_model import load_model
from sae_core.recipe import paper_scaled
from sae_core.training import Trainer

D_IN = 512


class Batches:
    """One batch, in place of a buffer."""

    def __init__(self, rows: Tensor):
        self.rows = rows

    def peek(self, n_rows: int) -> Tensor:
        return self.rows[:n_rows]

    def next_batch(self, batch_size: int, needed: float) -> Tensor:
        return self.rows


def ours(x: Tensor, d_sae: int, bf16: bool) -> Callable[[], None]:
    config = paper_scaled(10**6, d_sae=d_sae, batch_size=len(x), normalize=False, resample_at=(), bf16=bf16)
    steps = Trainer(config, Batches(x)).run()
    return lambda: next(steps)


def eager(x: Tensor, d_sae: int, bf16: bool) -> Callable[[], None]:
    """The paper's step as one would write it in plain PyTorch; in bf16 under autocast."""
    device = x.device
    W_dec = torch.nn.functional.normalize(torch.randn(d_sae, D_IN, device=device), dim=1).requires_grad_()
    W_enc = W_dec.detach().T.clone().requires_grad_()
    b_enc, b_dec = (torch.zeros(size, device=device, requires_grad=True) for size in (d_sae, D_IN))
    optimizer = torch.optim.Adam([W_enc, b_enc, W_dec, b_dec], lr=1e-3)
    silent = torch.zeros(d_sae, dtype=torch.int64, device=device)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext():
            codes = torch.relu((x - b_dec) @ W_enc + b_enc)
            reconstruction = codes @ W_dec + b_dec
        loss = (reconstruction - x).square().sum(1).mean() + 4.0 * codes.sum(1).mean()
        loss.backward()
        with torch.no_grad():
            W_dec.grad -= (W_dec.grad * W_dec).sum(1, keepdim=True) * W_dec
            optimizer.step()
            W_dec.div_(W_dec.norm(dim=1, keepdim=True))
            silent.add_(1).masked_fill_((codes > 0).any(0), 0)

    return step


def dictionary_learning(x: Tensor, d_sae: int) -> Callable[[], None] | None:
    """A step of dictionary_learning's standard trainer; None where the library is not installed."""
    try:
        from dictionary_learning.trainers.standard import StandardTrainer
    except ImportError:
        return None
    sizes = {"steps": 10**6, "activation_dim": D_IN, "dict_size": d_sae, "layer": 0, "lm_name": "A"}
    trainer = StandardTrainer(**sizes, lr=1e-3, l1_penalty=4.0, seed=0, device=str(x.device))
    number = itertools.count()
    return lambda: trainer.update(next(number), x)


def harvesting(device: str, n_contexts: int, chunk_contexts: int) -> tuple[Callable[[], None], int]:
    """A function that harvests one chunk of random tokens, and the activations in it."""
    model = load_model("A", device)
    shape, high = (n_contexts, model.n_ctx), model.network.config.vocab_size
    ids = torch.randint(high, shape, generator=torch.Generator().manual_seed(0)).numpy()
    chunks = HarvestedChunks(model.network, ids, chunk_contexts=chunk_contexts)
    return lambda: chunks[0], chunks.rows


def seconds(function: Callable[[], None], repeats: int, device: str) -> float:
    """Mean time of a call, until the device is done with all of them."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    started = time.perf_counter()
    for _ in range(repeats):
        function()
    wait()
    return (time.perf_counter() - started) / repeats


def take_turns(functions: Mapping[str, Callable[[], None]], rounds: int, repeats: int, device: str) -> dict:
    """Mean times of a call by name, once a round; a first round, in which kernels are compiled, does not count."""
    times = {name: [] for name in functions}
    for round_ in range(rounds + 1):
        for name, function in functions.items():
            found = seconds(function, repeats, device)
            if round_:
                times[name].append(found)
    return times


def measure(device: str, small: bool, rounds: int) -> tuple[dict, list[Series], list[Ratio]]:
    sizes = {"batch_size": 64 if small else 8192, "repeats": 2 if small else 100}
    batch, repeats = sizes["batch_size"], sizes["repeats"]
    x = torch.randn(batch, D_IN, device=device).relu_()
    series, wanted = [], []

    for d_sae in (128, 256) if small else (4096, 65_536):
        functions = {
            "sae_core bf16": ours(x, d_sae, bf16=True),
            "sae_core TF32": ours(x, d_sae, bf16=False),
            "eager PyTorch fp32": eager(x, d_sae, bf16=False),
            "eager PyTorch bf16": eager(x, d_sae, bf16=True),
        }
        if peer := dictionary_learning(x, d_sae):
            functions["dictionary_learning fp32"] = peer
        group = f"step, {d_sae:,}"
        times = take_turns(functions, rounds, repeats, device)
        series += [
            Series.of(group, name, "activations/s", [batch / one for one in found]) for name, found in times.items()
        ]
        wanted += [
            (group, "sae_core bf16", "eager PyTorch fp32", 5.0 if d_sae == 4096 else None),
            (group, "sae_core TF32", "eager PyTorch fp32", None),
            (group, "sae_core bf16", "eager PyTorch bf16", None),
        ]
        if peer:
            wanted.append((group, "sae_core bf16", "dictionary_learning fp32", 5.0 if d_sae == 4096 else None))
        del functions, peer  # and the memory they hold

    # The last size, the large one: the step's five products against what large bf16 products run at on this device.
    side = 256 if small else 8192
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    rates = [2 * side**3 / one for one in take_turns({"": lambda: a @ a}, rounds, repeats, device)[""]]
    step = [5 * 2 * batch * D_IN * d_sae / one for one in times["sae_core bf16"]]
    group = f"arithmetic, {d_sae:,}"
    series += [
        Series.of(group, "sae_core bf16", "TFLOP/s", [rate / 1e12 for rate in step]),
        Series.of(group, "bf16 product", "TFLOP/s", [rate / 1e12 for rate in rates]),
    ]
    wanted.append((group, "sae_core bf16", "bf16 product", 0.5))

    function, rows = harvesting(device, *((64, 32) if small else (4096, 1024)))
    times = take_turns({"harvest": function}, rounds, 2 if small else 20, device)["harvest"]
    series.append(Series.of("harvest", "sae_core bf16", "activations/s", [rows / one for one in times]))
    return sizes, series, ratios(series, wanted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--small", action="store_true", help="toy sizes, to see that everything runs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="folder of gpu.json (default: benchmarks/results, not if small)")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch finds no GPU; --device cpu --small shows that the script runs")
    settings, series, found = measure(options.device, options.small, options.rounds)
    versions = {"python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda or ""}
    if find_spec("dictionary_learning"):
        versions["dictionary-learning"] = metadata.version("dictionary-learning")
    card = torch.cuda.get_device_name() if options.device == "cuda" else ""
    result = results.Result(
        measurement="gpu",
        quick=options.small,
        date=results.now(),
        commit=commit(),
        machine={**results.machine(torch.get_num_threads()), "gpu": card},
        versions=versions,
        text="random activations and tokens",
        settings={"rounds": options.rounds, "device": options.device, **settings},
        series=series,
        ratios=found,
    )
    for one in series:
        print(f"{one.group:22} {one.name:22} {one.median:14,.4g} {one.unit}")
    for ratio in found:
        target = f" (target {ratio.target:g})" if ratio.target is not None else ""
        print(f"{ratio.group:22} {ratio.name:42} {ratio.median:8.3g}{target}")
    print(results.write(result, options.out or (WORK / "quick" / "results" if options.small else results.FOLDER)))


if __name__ == "__main__":
    main()
