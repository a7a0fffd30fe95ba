"""What the chapter on recovering features takes from `toy`: chunks that are drawn, and cosines of the best match."""

import torch

from sae_core import toy
from sae_core.activations import ActivationBuffer
from sae_core.recipe import paper_scaled
from sae_core.training import Trainer


def draw(generator):
    return torch.randn(100, 8, generator=generator)


def test_a_drawn_chunk_is_always_the_same_and_no_two_are_equal():
    chunks = toy.DrawnChunks(draw, n_chunks=5)
    assert (len(chunks), chunks.rows) == (5, 100)
    assert torch.equal(chunks[3], toy.DrawnChunks(draw, n_chunks=5)[3])
    other_seed = toy.DrawnChunks(draw, n_chunks=5, seed=1)
    every = [*(chunks[i] for i in range(5)), *(other_seed[i] for i in range(5))]
    assert not any(torch.equal(a, b) for i, a in enumerate(every) for b in every[:i])


def test_a_dictionary_trained_on_drawn_chunks_finds_their_directions():
    directions = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(0))).Q

    def planted(generator):
        return toy.sparse_features(torch.full((1, 8), 0.1), 1024, generator)[0] @ directions

    config = paper_scaled(
        300, d_sae=16, batch_size=512, lam=0.5, lr=1e-2, buffer_rows=4096, resample_inputs=2048, bf16=False
    )
    trainer = Trainer(config, ActivationBuffer(toy.DrawnChunks(planted, 1000), config.buffer_rows))
    before = toy.best_cosines(directions, trainer.sae.W_dec.detach()).mean()
    for _ in trainer.run():
        pass
    assert before < 0.85 < 0.95 < toy.best_cosines(directions, trainer.sae.W_dec.detach()).mean()


def test_the_best_cosine_is_that_of_the_nearest_direction():
    W = torch.tensor([[3.0, 0.0], [0.0, -2.0], [1.0, 1.0], [0.0, 0.0]])
    others = torch.tensor([[0.0, 5.0], [0.5, 0.0], [0.1, 0.0]])
    expected = torch.tensor([1.0, 0.0, 0.5**0.5, 0.0])  # an opposite direction is no match
    torch.testing.assert_close(toy.best_cosines(W, others), expected)
    torch.testing.assert_close(toy.best_cosines(others, W), torch.tensor([0.5**0.5, 1.0, 1.0]))


def test_best_cosines_keep_the_axis_of_instances():
    W, others = torch.randn(3, 4, 5), torch.randn(3, 7, 5)
    together = toy.best_cosines(W, others)
    assert together.shape == (3, 4)
    torch.testing.assert_close(together, torch.stack([toy.best_cosines(a, b) for a, b in zip(W, others, strict=True)]))
