"""Dead features and how the paper brings them back (appendix, "Neuron Resampling").

A feature is dead when it has not fired on any of the last `dead_after` steps. At a few chosen steps each dead one is
given the direction of an input that the dictionary reconstructs badly. Several processes draw from the inputs of all,
with the same random numbers, so that each gives the same features the same directions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import parallel
from .autoencoder import SparseAutoencoder
from .errors import SaeCoreError
from .step import example_losses

ENCODER_SCALE = 0.2  # norm of a new encoder column, relative to the mean norm of the alive ones


@torch.no_grad()
def resample(
    sae: SparseAutoencoder,
    optimizer: torch.optim.Optimizer,
    dead: Tensor,
    inputs: Tensor,
    lam: float,
    generator: torch.Generator,
    scale: float = 1.0,
    by_decoder_norm: bool = False,
) -> int:
    """Re-initialise the dead features in place and return how many there were.

    dead: bool [d_sae]. inputs: activations [n, d_in] to draw from, in any float type, n of them in every process;
        the dictionary sees scale * inputs. by_decoder_norm: as in the loss that is trained.
    Raises SaeCoreError where the loss of an input is not a number.
    """
    n_dead = int(dead.sum())
    if n_dead == 0:
        return 0
    # "Compute the loss on a random subset", then "probability proportional to the square of the loss".
    parts = inputs.split(4096)
    own = torch.cat([example_losses(sae, part.float() * scale, lam, by_decoder_norm) for part in parts])
    picked = _draw(parallel.gathered(own).double().square().cpu(), n_dead, generator)
    direction = torch.nn.functional.normalize(parallel.picked_rows(inputs, picked.to(inputs.device)), dim=1)
    # The dictionary vector is the input at unit norm.
    sae.W_dec[dead] = direction
    # The encoder vector is the same at 0.2 of the mean norm of the alive encoder vectors, its bias is zero.
    alive = sae.W_enc[:, ~dead] if n_dead < len(dead) else sae.W_enc
    sae.W_enc[:, dead] = direction.T * (ENCODER_SCALE * alive.norm(dim=0).mean())
    sae.b_enc[dead] = 0.0
    # Adam's moments start from zero for every weight and bias that was changed.
    reset = {sae.W_dec: (dead,), sae.W_enc: (slice(None), dead), sae.b_enc: (dead,)}
    for parameter, where in reset.items():
        for name in ("exp_avg", "exp_avg_sq"):
            if name in optimizer.state[parameter]:
                optimizer.state[parameter][name][where] = 0.0
    return n_dead


def _draw(weights: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Indices [n] with probabilities in proportion to weights, distinct as far as there are weights above zero.

    Two features that start from one input are equal and stay so, with equal gradients, for the rest of the run.
    """
    if not weights.isfinite().all():
        raise SaeCoreError("train: the loss of an input is not a number when features are resampled; use a smaller lr")
    if not weights.any():
        weights = torch.ones_like(weights)  # all inputs are reconstructed: any of them will do
    distinct = min(n, int(weights.count_nonzero()))
    picked = torch.multinomial(weights, distinct, replacement=False, generator=generator)
    if distinct == n:
        return picked
    return torch.cat([picked, torch.multinomial(weights, n - distinct, replacement=True, generator=generator)])
