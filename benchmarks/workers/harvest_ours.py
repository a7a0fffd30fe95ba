"""Activations of the language model: ours, the bare network's with a hook, and those of TransformerLens' bridge."""

import time

import numpy as np
import torch
from protocol import serve
from torch import Tensor

from sae_core.activations import harvest, module_of
from sae_core.language_model import MLP_OUT, load_model, to_tensor

HOOK = "blocks.0.mlp.hook_post"
model = load_model("A")
bridge = None


@torch.no_grad()
def hooked(network: torch.nn.Module, ids: Tensor) -> Tensor:
    """A forward pass of the network to its end, with a hook that keeps the input of MLP_OUT."""
    captured = []
    handle = module_of(model.network, MLP_OUT).register_forward_pre_hook(lambda _, inputs: captured.append(inputs[0]))
    try:
        network(ids)
    finally:
        handle.remove()
    return captured[0]


@torch.no_grad()
def with_cache(ids: Tensor, **options) -> Tensor:
    _, cache = bridge.run_with_cache(ids, **options)
    return cache[HOOK]


class Stop(Exception):
    pass


@torch.no_grad()
def stopped(ids: Tensor) -> Tensor:
    """The bridge's, with a hook that ends the forward pass, as ours does."""
    captured = []

    def stop(activations: Tensor, hook) -> None:
        captured.append(activations)
        raise Stop

    try:
        bridge.run_with_hooks(ids, fwd_hooks=[(HOOK, stop)])
    except Stop:
        return captured[0]


WAYS = {
    "ours": lambda ids: harvest(model.network, ids),
    "ours, bf16": lambda ids: harvest(model.network, ids, autocast=True),
    "network": lambda ids: hooked(model.network, ids),
    "body": lambda ids: hooked(model.network.transformer, ids),
    "bridge": lambda ids: with_cache(ids),
    "bridge, one hook": lambda ids: with_cache(ids, names_filter=HOOK),  # stop_at_layer=1 leaves nothing out here
    "bridge, stopped": stopped,
}


def measure(way: str, ids: str, first: int, chunks: int, contexts: int) -> dict:
    """Seconds for `chunks` chunks of contexts, the activations in them, and the largest difference from ours."""
    global bridge
    if way.startswith("bridge") and bridge is None:
        bridge = model.bridge()
    stored = np.load(ids, mmap_mode="r")
    starts = [(first + chunk) * contexts % (len(stored) - contexts + 1) for chunk in range(chunks)]
    parts = [to_tensor(stored[start : start + contexts]) for start in starts]
    started = time.perf_counter()
    for part in parts:
        activations = WAYS[way](part)
    seconds = time.perf_counter() - started
    difference = (activations - WAYS["ours"](parts[-1])).abs().max().item()
    return {"seconds": seconds, "activations": sum(part.numel() for part in parts), "difference": difference}


serve(measure=measure)
