"""SAELens' standard trainer: its public step, which is what its `fit` calls for every batch."""

from protocol import Recipe, serve_training
from sae_lens import StandardTrainingSAE, StandardTrainingSAEConfig
from sae_lens.config import SAETrainerConfig
from sae_lens.training.sae_trainer import SAETrainer
from safetensors.torch import load_file
from torch import Tensor


class SAELens:
    def __init__(self, recipe: Recipe, sample: Tensor):
        self.sae = StandardTrainingSAE(
            StandardTrainingSAEConfig(
                d_in=recipe.d_in,
                d_sae=recipe.d_sae,
                l1_coefficient=recipe.lam,
                l1_warm_up_steps=recipe.lam_warmup,
                apply_b_dec_to_input=True,
                normalize_activations="none",  # the stored activations are normalised
            )
        )
        if recipe.dictionary:
            self.sae.load_state_dict(load_file(recipe.dictionary))
        config = SAETrainerConfig(
            total_training_samples=recipe.steps * recipe.batch_size,
            train_batch_size_samples=recipe.batch_size,
            lr=recipe.lr,
            lr_end=recipe.lr / 10,  # what its runner fills in; the constant schedule ignores it
            lr_decay_steps=recipe.lr_decay,
            autocast=recipe.bf16,
        )
        self.trainer = SAETrainer(config, self.sae, data_provider=iter(()))

    def step(self, x: Tensor) -> None:
        self.trainer.step(x)
        self.trainer.n_training_steps += 1

    def dictionary(self) -> dict[str, Tensor]:
        return {name: getattr(self.sae, name) for name in ("W_enc", "b_enc", "W_dec", "b_dec")}

    def codes(self, x: Tensor) -> Tensor:
        return self.sae.encode(x)

    def reconstruction(self, x: Tensor) -> Tensor:
        return self.sae.decode(self.sae.encode(x))


serve_training(SAELens)
