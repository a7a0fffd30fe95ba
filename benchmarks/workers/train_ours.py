"""sae_core's trainer, with stored batches in the place of its buffer."""

from protocol import Recipe, serve_training
from safetensors.torch import load_file
from torch import Tensor

from sae_core.autoencoder import NAMES
from sae_core.recipe import PRESETS
from sae_core.training import Trainer


class StoredBatches:
    """Serves the batch that it was handed last."""

    def __init__(self, rows: Tensor):
        self.rows = rows  # what the trainer starts b_dec from and resamples dead features from
        self.batch = rows[:0]

    def peek(self, n_rows: int) -> Tensor:
        return self.rows[:n_rows]

    def next_batch(self, batch_size: int, needed: float) -> Tensor:
        return self.batch


class Ours:
    def __init__(self, recipe: Recipe, sample: Tensor):
        config = PRESETS[recipe.preset](
            recipe.steps,
            d_sae=recipe.d_sae,
            batch_size=recipe.batch_size,
            lam=recipe.lam,
            lam_warmup=recipe.lam_warmup,
            lr=recipe.lr,
            lr_decay=recipe.lr_decay,
            normalize=False,  # the stored activations are
            bf16=recipe.bf16,
            seed=recipe.seed,
        )
        self.batches = StoredBatches(sample)
        self.trainer = Trainer(config, self.batches)
        if recipe.dictionary:
            self.trainer.sae.load_state_dict(load_file(recipe.dictionary))
        self.steps = self.trainer.run()

    def step(self, x: Tensor) -> None:
        self.batches.batch = x
        next(self.steps)

    def dictionary(self) -> dict[str, Tensor]:
        sae = self.trainer.sae
        tensors = {name: getattr(sae, name) for name in NAMES}
        if not sae.tied_bias:  # the file's encoder subtracts b_dec first
            tensors["b_enc"] = sae.b_enc + sae.b_dec @ sae.W_enc
        return tensors

    def codes(self, x: Tensor) -> Tensor:
        return self.trainer.sae.encode(x)

    def reconstruction(self, x: Tensor) -> Tensor:
        return self.trainer.sae(x).reconstruction


serve_training(Ours)
