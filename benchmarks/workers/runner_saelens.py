"""A whole run of SAELens: LanguageModelSAETrainingRunner on our model, which is rebuilt as a HookedTransformer."""

import time
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from protocol import serve
from sae_lens import (
    LanguageModelSAERunnerConfig,
    LanguageModelSAETrainingRunner,
    LoggingConfig,
    StandardTrainingSAEConfig,
)
from safetensors.torch import load_file
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights
from transformers import GPT2LMHeadModel

HOOK = "blocks.0.mlp.hook_post"


def hooked_transformer(folder: str) -> HookedTransformer:
    """Our GPT-2 checkpoint with one block, weights as they are: nothing folded, nothing centred."""
    network = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32)
    gpt2 = network.config
    config = HookedTransformerConfig(
        n_layers=1,
        d_model=gpt2.n_embd,
        d_head=gpt2.n_embd // gpt2.n_head,
        n_heads=gpt2.n_head,
        d_mlp=gpt2.n_inner,
        n_ctx=gpt2.n_positions,
        d_vocab=gpt2.vocab_size,
        act_fn="relu",
        normalization_type="LN",
        eps=gpt2.layer_norm_epsilon,
        device="cpu",
    )
    model = HookedTransformer(config)
    weights = convert_gpt2_weights(network, config)
    model.load_state_dict({**model.state_dict(), **weights})
    return model.eval()


@torch.no_grad()
def check(model: str, ids: str, activations: str) -> dict:
    """The largest difference between its activations and ours on the same contexts."""
    ours = load_file(activations)["x"]
    contexts = torch.from_numpy(np.load(ids)[: len(ours)].astype(np.int64))
    _, cache = hooked_transformer(model).run_with_cache(contexts, names_filter=HOOK)
    return {"difference": (cache[HOOK] - ours).abs().max().item()}


def run(
    model: str, ids: str, out: str, steps: int, batch_size: int, d_sae: int, lam: float, lr: float, bf16: bool
) -> dict:
    """Seconds of a run, and how many of them were the language model's. The tokens are a data set before it starts."""
    contexts = np.load(ids).astype(np.int64)
    dataset = Dataset.from_dict({"input_ids": list(contexts)})
    started = time.perf_counter()
    config = LanguageModelSAERunnerConfig(
        sae=StandardTrainingSAEConfig(
            d_in=512,
            d_sae=d_sae,
            l1_coefficient=lam,
            l1_warm_up_steps=steps // 20,
            normalize_activations="expected_average_only_in",
        ),
        hook_name=HOOK,
        dataset_path="given",
        is_dataset_tokenized=True,
        context_size=contexts.shape[1],
        seqpos_slice=(1, None),  # all but the first position, as ours
        n_batches_in_buffer=64,  # its documentation's; the unit is contexts, so these are about four batches
        n_batches_for_norm_estimate=2,
        training_tokens=steps * batch_size,
        train_batch_size_tokens=batch_size,
        lr=lr,
        lr_decay_steps=steps // 5,
        autocast=bf16,
        autocast_lm=bf16,
        logger=LoggingConfig(log_to_wandb=False),
        checkpoint_path=None,
        output_path=str(Path(out)),
        verbose=False,
    )
    runner = LanguageModelSAETrainingRunner(config, override_dataset=dataset, override_model=hooked_transformer(model))
    store, forward = runner.activations_store, 0.0
    get_activations = store.get_activations

    def timed(tokens: torch.Tensor) -> torch.Tensor:
        nonlocal forward
        begun = time.perf_counter()
        result = get_activations(tokens)
        forward += time.perf_counter() - begun
        return result

    store.get_activations = timed
    sae = runner.run()
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "forward_seconds": forward, "l0": sae.cfg.metadata.l0}


serve(check=check, run=run)
