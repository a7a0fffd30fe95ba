"""dictionary_learning's StandardTrainer: its `update`, which is what its `trainSAE` calls for every batch.

It can let the learning rate decay or resample dead features, not both; it decays here. On a CPU it has no bf16.
"""

import torch
from dictionary_learning.trainers.standard import StandardTrainer
from protocol import Recipe, serve_training
from safetensors.torch import load_file
from torch import Tensor


class DictionaryLearning:
    def __init__(self, recipe: Recipe, sample: Tensor):
        self.trainer = StandardTrainer(
            steps=recipe.steps,
            activation_dim=recipe.d_in,
            dict_size=recipe.d_sae,
            layer=0,
            lm_name="A",
            lr=recipe.lr,
            l1_penalty=recipe.lam,
            warmup_steps=0,
            sparsity_warmup_steps=recipe.lam_warmup,
            decay_start=recipe.steps - recipe.lr_decay if recipe.lr_decay else None,
            seed=recipe.seed,
            device="cpu",
        )
        self.n_steps = 0
        if recipe.dictionary:
            self._load(load_file(recipe.dictionary))

    @torch.no_grad()
    def _load(self, tensors: dict[str, Tensor]) -> None:
        sae = self.trainer.ae
        sae.encoder.weight.copy_(tensors["W_enc"].T)
        sae.encoder.bias.copy_(tensors["b_enc"])
        sae.decoder.weight.copy_(tensors["W_dec"].T)
        sae.bias.copy_(tensors["b_dec"])

    def step(self, x: Tensor) -> None:
        self.trainer.update(self.n_steps, x)
        self.n_steps += 1

    def dictionary(self) -> dict[str, Tensor]:
        sae = self.trainer.ae
        weights = {"W_enc": sae.encoder.weight.T, "b_enc": sae.encoder.bias}
        return weights | {"W_dec": sae.decoder.weight.T, "b_dec": sae.bias}

    def codes(self, x: Tensor) -> Tensor:
        return self.trainer.ae.encode(x)

    def reconstruction(self, x: Tensor) -> Tensor:
        return self.trainer.ae(x)


serve_training(DictionaryLearning)
