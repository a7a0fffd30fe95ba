"""Activations: read at the right place, put back, and served so that each is used once and neighbours come apart."""

from collections import Counter

import numpy as np
import pytest
import torch

from sae_core import activations
from sae_core.activations import ActivationBuffer, HarvestedChunks, harvest, patched
from sae_core.errors import SaeCoreError
from sae_core.language_model import MLP_OUT, to_tensor


@pytest.fixture
def ids():
    ids = np.random.default_rng(0).integers(1, 320, (6, 32)).astype(np.uint16)
    ids[:, 0] = 0
    return ids


def hooked(network, ids, module=MLP_OUT):
    """The input of a module by a plain hook in a complete forward pass."""
    seen = []
    handle = network.get_submodule(module).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network(ids)
    handle.remove()
    return seen[0]


# --- reading and replacing ------------------------------------------------------------------------------------------


def test_harvest_gives_what_a_plain_hook_sees(tiny, ids):
    x = harvest(tiny.network, to_tensor(ids))
    assert x.shape == (6, 32, 64) and not x.requires_grad
    assert torch.equal(x, hooked(tiny.network, to_tensor(ids)))
    assert (x >= 0).all() and 0.2 < (x > 0).float().mean() < 0.8  # after the ReLU


def test_harvest_gives_what_transformer_lens_calls_the_mlps_post_activations(tiny, ids):
    pytest.importorskip("transformer_lens")
    bridge = tiny.bridge()
    with torch.no_grad():
        _, cache = bridge.run_with_cache(to_tensor(ids))
    torch.testing.assert_close(harvest(tiny.network, to_tensor(ids)), cache["blocks.0.mlp.hook_post"])


def test_harvest_reads_any_module(tiny, ids):
    x = harvest(tiny.network, to_tensor(ids), module="transformer.ln_f")
    assert torch.equal(x, hooked(tiny.network, to_tensor(ids), "transformer.ln_f"))


def test_harvest_stops_before_the_unembedding(tiny, ids, monkeypatch):
    monkeypatch.setattr(tiny.network.lm_head, "forward", lambda _: pytest.fail("the unembedding ran"))
    harvest(tiny.network, to_tensor(ids))


def test_harvest_in_bf16_gives_the_same_to_three_digits(tiny, ids):
    x = harvest(tiny.network, to_tensor(ids))
    rounded = harvest(tiny.network, to_tensor(ids), autocast=True)
    assert rounded.dtype == torch.bfloat16
    assert ((rounded.float() - x).norm() / x.norm()).item() < 0.02


def test_harvest_leaves_no_hook_behind(tiny, ids):
    with torch.no_grad():
        before = tiny.network(to_tensor(ids)).logits
        harvest(tiny.network, to_tensor(ids))
        with pytest.raises(IndexError):
            harvest(tiny.network, torch.full((1, 4), 10_000))
        assert torch.equal(tiny.network(to_tensor(ids)).logits, before)
    assert not tiny.network.get_submodule(MLP_OUT)._forward_pre_hooks


def test_an_unknown_module_is_answered_with_the_known_ones(tiny, ids):
    with pytest.raises(SaeCoreError, match=r"no module 'mlp'; it has .*transformer\.h\.0\.mlp\.c_proj"):
        harvest(tiny.network, to_tensor(ids), module="mlp")


def test_a_module_that_is_never_reached_is_named():
    class Idle(torch.nn.Linear):
        def forward(self, x):
            return x

    network = torch.nn.Sequential(Idle(2, 2))
    network[0].inner = torch.nn.ReLU()
    with pytest.raises(SaeCoreError, match=r"never reached '0\.inner'"):
        harvest(network, torch.zeros(1, 2), module="0.inner")


def test_patched_replaces_the_input_of_the_module(tiny, ids):
    x = to_tensor(ids)
    module = tiny.network.get_submodule(MLP_OUT)
    outputs = []
    handle = module.register_forward_hook(lambda _, inputs, output: outputs.append(output))
    with torch.no_grad(), patched(tiny.network, lambda activations: 0 * activations + 2.0):
        tiny.network(x)
    handle.remove()
    torch.testing.assert_close(outputs[0], module(torch.full((6, 32, 64), 2.0)))


def test_patched_restores_the_network_even_after_an_exception(tiny, ids):
    with torch.no_grad():
        before = tiny.network(to_tensor(ids)).logits
        with pytest.raises(RuntimeError, match="stop"), patched(tiny.network, torch.zeros_like):
            assert not torch.equal(tiny.network(to_tensor(ids)).logits, before)
            raise RuntimeError("stop")
        assert torch.equal(tiny.network(to_tensor(ids)).logits, before)


# --- chunks of a text -----------------------------------------------------------------------------------------------


@pytest.fixture
def many_ids():
    ids = np.random.default_rng(0).integers(1, 320, (50, 32)).astype(np.uint16)
    ids[:, 0] = 0
    return ids


def test_a_pass_over_the_chunks_holds_every_position_but_the_first_once(tiny, monkeypatch):
    # With the token's number in the text in place of its activations, which rows are there is plain to see.
    monkeypatch.setattr(activations, "harvest", lambda network, ids, *_, **__: ids[:, :, None])
    numbered = np.arange(50 * 32).reshape(50, 32)
    chunks = HarvestedChunks(tiny.network, numbered, chunk_contexts=10)
    assert len(chunks) == 5 and chunks.rows == 10 * 31 == len(chunks[0])
    rows = torch.cat([chunks[index] for index in range(5)])
    assert rows.shape == (50 * 31, 1) and sorted(rows.flatten().tolist()) == sorted(numbered[:, 1:].flatten())


def test_chunks_hold_the_activations_of_the_text(tiny, many_ids):
    chunks = HarvestedChunks(tiny.network, many_ids, chunk_contexts=50)
    expected = harvest(tiny.network, to_tensor(many_ids), autocast=True)[:, 1:].flatten(0, 1)
    torch.testing.assert_close(chunks[0], expected)


def test_a_chunk_is_the_same_whenever_it_is_asked_for(tiny, many_ids):
    chunks = HarvestedChunks(tiny.network, many_ids, seed=3, chunk_contexts=10)
    again = HarvestedChunks(tiny.network, many_ids, seed=3, chunk_contexts=10)
    fourth = chunks[3]
    assert torch.equal(chunks[3], fourth) and torch.equal(again[3], fourth)


def test_contexts_come_in_an_order_that_the_seed_decides(tiny, many_ids):
    one, other = (HarvestedChunks(tiny.network, many_ids, seed=s, chunk_contexts=10) for s in (3, 4))
    assert not torch.equal(one[0], other[0])
    assert sorted(one.order) == sorted(other.order) == list(range(50)) != list(one.order)


def test_too_little_text_for_a_chunk_is_refused(tiny, many_ids):
    with pytest.raises(SaeCoreError, match="5 contexts of text: at least 10"):
        HarvestedChunks(tiny.network, many_ids[:5], chunk_contexts=10)


# --- the buffer -----------------------------------------------------------------------------------------------------


class NumberedChunks:
    """Rows that carry their own number as three digits to base 256, which bf16 holds exactly."""

    def __init__(self, n_chunks, rows=310):
        self.n_chunks, self.rows = n_chunks, rows

    def __len__(self):
        return self.n_chunks

    def __getitem__(self, index):
        number = torch.arange(index * self.rows, (index + 1) * self.rows)
        return torch.stack([number // 65_536, number // 256 % 256, number % 256], 1).float()


def numbers(rows):
    return (rows.float() @ torch.tensor([65_536.0, 256.0, 1.0])).long().tolist()


def drain(buffer, batch_size=64):
    """All batches up to the end of the text."""
    batches = []
    with pytest.raises(SaeCoreError, match="used up"):
        for _ in range(1000):
            batches.append(numbers(buffer.next_batch(batch_size)))
    return batches


def test_no_row_is_served_twice_and_none_is_lost():
    buffer = ActivationBuffer(NumberedChunks(20), n_rows=1000)
    served = []
    for _ in range(50):
        served += numbers(buffer.next_batch(64))
        waiting = numbers(buffer.rows[buffer.order[buffer.served :]]) + numbers(buffer.leftover)
        assert Counter(served + waiting) == Counter(range(buffer.used))  # served, or still to be served: each once


def test_over_a_whole_text_no_row_is_served_twice():
    served = sum(drain(ActivationBuffer(NumberedChunks(20), n_rows=1000)), [])
    assert max(Counter(served).values()) == 1 and set(served) <= set(range(20 * 310))
    assert len(served) >= 20 * 310 - 1000  # what the buffer still holds when the text ends is not served


def test_the_end_of_the_text_is_an_error_that_says_what_to_do():
    buffer = ActivationBuffer(NumberedChunks(5), n_rows=1000)
    with pytest.raises(SaeCoreError, match="the text's 1,550 activations are used up: use more text"):
        for _ in range(100):
            buffer.next_batch(64)


def test_repeats_are_served_only_on_request():
    buffer = ActivationBuffer(NumberedChunks(5), n_rows=1000, repeat=True)
    served = Counter(number for _ in range(100) for number in numbers(buffer.next_batch(64)))
    assert set(served) == set(range(5 * 310)) and max(served.values()) > 1


def test_rows_are_served_in_fp32_and_kept_in_bf16():
    buffer = ActivationBuffer(NumberedChunks(5), n_rows=1000)
    assert buffer.next_batch(64).dtype == torch.float32 and buffer.rows.dtype == torch.bfloat16


def test_memory_is_allocated_once():
    buffer = ActivationBuffer(NumberedChunks(40), n_rows=1000)
    address, shape = buffer.rows.data_ptr(), buffer.rows.shape
    for _ in range(100):
        buffer.next_batch(64)
    assert buffer.rows.data_ptr() == address and buffer.rows.shape == shape


def test_the_seed_decides_the_order():
    batches = [ActivationBuffer(NumberedChunks(5), 1000, seed).next_batch(64) for seed in (1, 1, 2)]
    assert torch.equal(batches[0], batches[1]) and not torch.equal(batches[0], batches[2])


def test_a_batch_is_drawn_from_the_whole_buffer():
    buffer = ActivationBuffer(NumberedChunks(40), n_rows=4000)
    batch = np.array(numbers(buffer.next_batch(512)))
    assert np.histogram(batch, bins=8, range=(0, 4000))[0].min() > 512 / 8 / 2


@pytest.mark.parametrize(("rows_per_batch_row", "share"), [(64, 0.75), (128, 0.86)])
def test_a_batch_mixes_contexts(rows_per_batch_row, share):
    # The ratio that matters is buffer rows : (batch rows x activations of a context). At 1 : 1, as with 2^20 rows, 255
    # activations per context and batches of 4,096, a batch has about 75 % of the contexts that a draw from the whole
    # text would have; at 2 : 1 about 86 %.
    per_context, batch_size = 64, 128
    chunks = NumberedChunks(2048, rows=8 * per_context)
    buffer = ActivationBuffer(chunks, n_rows=rows_per_batch_row * batch_size)
    contexts = []
    for step in range(400):
        batch = numbers(buffer.next_batch(batch_size))
        if step >= 150:  # once the buffer is in its steady state
            contexts.append(len({number // per_context for number in batch}))
    n_contexts = len(chunks) * chunks.rows / per_context
    ideal = n_contexts * (1 - (1 - 1 / n_contexts) ** batch_size)
    assert np.mean(contexts) / ideal > share - 0.02


def test_a_restored_buffer_serves_the_same_batches():
    original = ActivationBuffer(NumberedChunks(40), n_rows=1000, seed=1)
    for _ in range(11):
        original.next_batch(64)
    state = {name: tensor.clone() for name, tensor in original.tensors().items()}
    expected = [original.next_batch(64) for _ in range(40)]
    restored = ActivationBuffer(NumberedChunks(40), n_rows=1000, seed=2)
    restored.next_batch(64)
    restored.restore(state)
    assert all(torch.equal(restored.next_batch(64), batch) for batch in expected)
    assert restored.used == original.used


def test_a_value_that_is_not_a_number_is_named_with_its_chunk():
    class Broken(NumberedChunks):
        def __getitem__(self, index):
            chunk = super().__getitem__(index)
            chunk[7, 1] = float("nan") if index == 4 else 0.0
            return chunk

    with pytest.raises(SaeCoreError, match="chunk 4 of the text holds a value that is not a number"):
        ActivationBuffer(Broken(20), n_rows=1550).next_batch(64)


def test_a_buffer_that_cannot_hold_two_chunks_is_refused():
    with pytest.raises(SaeCoreError, match="buffer of 600 rows: must hold two chunks of 310"):
        ActivationBuffer(NumberedChunks(5), n_rows=600)


def test_harvested_text_fills_the_buffer(tiny, many_ids):
    buffer = ActivationBuffer(HarvestedChunks(tiny.network, many_ids, chunk_contexts=5), n_rows=620)
    batch = buffer.next_batch(64)
    assert batch.shape == (64, 64) and (batch >= 0).all() and batch.any()
    assert activations.MLP_OUT == buffer.chunks.module
