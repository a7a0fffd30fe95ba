"""sparsify's TopK step. It refuses L1, so its step does less: it keeps the k largest codes and has no penalty.

Its loop lives inside a hook on a language model. This is that loop's body for one batch of activations, with its
default optimiser (signed gradients, schedule-free), and without AuxK, which is off by default.
"""

import torch
from protocol import Recipe, serve_training
from safetensors.torch import load_file
from schedulefree import ScheduleFreeWrapper
from sparsify.config import SparseCoderConfig
from sparsify.sign_sgd import SignSGD
from sparsify.sparse_coder import SparseCoder
from torch import Tensor


class Sparsify:
    def __init__(self, recipe: Recipe, sample: Tensor):
        self.sae = SparseCoder(recipe.d_in, SparseCoderConfig(num_latents=recipe.d_sae, k=32), dtype=torch.float32)
        if recipe.dictionary:
            tensors = load_file(recipe.dictionary)
            state = {"encoder.weight": tensors["W_enc"].T, "encoder.bias": tensors["b_enc"]}
            self.sae.load_state_dict(state | {"W_dec": tensors["W_dec"], "b_dec": tensors["b_dec"]})
        self.optimizer = ScheduleFreeWrapper(SignSGD(self.sae.parameters(), lr=recipe.lr), momentum=0.95)
        self.optimizer.train()
        self.since_fired = torch.zeros(recipe.d_sae, dtype=torch.long)
        self.fvu = 0.0

    def step(self, x: Tensor) -> None:
        sae = self.sae
        sae.set_decoder_norm_to_unit_norm()
        result = sae(x)
        fired = torch.zeros(sae.num_latents, dtype=torch.bool)
        fired[result.latent_indices.flatten()] = True
        self.fvu = float(result.fvu.detach())
        result.fvu.backward()
        sae.remove_gradient_parallel_to_decoder_directions()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.since_fired += len(x)
        self.since_fired[fired] = 0

    def dictionary(self) -> dict[str, Tensor]:
        encoder = self.sae.encoder
        return {"W_enc": encoder.weight.T, "b_enc": encoder.bias, "W_dec": self.sae.W_dec, "b_dec": self.sae.b_dec}

    def codes(self, x: Tensor) -> Tensor:
        values, features, _ = self.sae.encode(x)
        return torch.zeros(len(x), self.sae.num_latents).scatter_(1, features, values)

    def reconstruction(self, x: Tensor) -> Tensor:
        return self.sae(x).sae_out


serve_training(Sparsify)
