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
from .objective import loss_per_example

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
) -> int:
    """Re-initialise the dead features in place and return how many there were.

    dead: bool [d_sae]. inputs: activations [n, d_in] to draw from, in any float type, n of them in every process;
        the dictionary sees scale * inputs.
    """
    n_dead = int(dead.sum())
    if n_dead == 0:
        return 0
    # "Compute the loss on a random subset", then "probability proportional to the square of the loss".
    own = torch.cat([loss_per_example(sae, part.float() * scale, lam) for part in inputs.split(8192)])
    loss = parallel.gathered(own)
    picked = torch.multinomial(loss.double().square().cpu(), n_dead, replacement=True, generator=generator)
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
