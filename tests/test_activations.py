"""Activations: read at the right place, put back, and served so that each is used once and neighbours come apart."""

import copy
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from sae_core import activations
from sae_core.activations import ActivationBuffer, HarvestedChunks, harvest, patched
from sae_core.errors import SaeCoreError
from sae_core.language_model import MLP_OUT, to_tensor
from sae_core.recipe import TrainConfig


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


class ByName(torch.nn.Module):
    """A network that calls its modules with inputs by name, or with none."""

    def __init__(self):
        super().__init__()
        self.linear, self.scaled = torch.nn.Linear(3, 2), torch.nn.Bilinear(3, 3, 2)
        self.constant, self.number = Constant(), Constant()

    def forward(self, x):
        return self.linear(input=2 * x) + self.scaled(x, input2=3 * x) + self.constant() + self.number(scale=2.0)


class Constant(torch.nn.Module):
    def forward(self, scale=1.0):
        return torch.tensor(scale)


def test_harvest_reads_an_input_that_is_given_by_name():
    network, x = ByName(), torch.rand(4, 5, 3)
    assert torch.equal(harvest(network, x, "linear"), 2 * x)
    assert torch.equal(harvest(network, x, "scaled"), x)  # those by name come after the others


@torch.no_grad()
def test_patched_replaces_an_input_that_is_given_by_name():
    network, x = ByName(), torch.rand(4, 5, 3)
    constants = network.constant() + network.number(2.0)
    expected = {
        "linear": network.linear(-2 * x) + network.scaled(x, 3 * x) + constants,
        "scaled": network.linear(2 * x) + network.scaled(-x, 3 * x) + constants,
    }
    for module, result in expected.items():
        with patched(network, torch.neg, module):
            torch.testing.assert_close(network(x), result)


def test_harvest_refuses_a_module_without_an_input_tensor():
    network, x = ByName(), torch.rand(4, 5, 3)
    for module in ("constant", "number"):
        with pytest.raises(SaeCoreError, match=f"the first input of '{module}' is no tensor; choose another module"):
            harvest(network, x, module)
    assert network(x).shape == (4, 5, 2)  # no hook is left behind


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


@pytest.mark.parametrize("fast", [False, True])
def test_chunks_hold_the_activations_of_the_text_in_bf16_where_that_is_fast(fast, tiny, many_ids, monkeypatch):
    monkeypatch.setattr(activations, "bf16_is_fast", lambda: fast)
    chunks = HarvestedChunks(tiny.network, many_ids, chunk_contexts=50)
    both = [harvest(tiny.network, to_tensor(many_ids), autocast=autocast) for autocast in (fast, not fast)]
    expected, other = (x[:, 1:].flatten(0, 1) for x in both)
    torch.testing.assert_close(chunks[0], expected)
    assert not torch.equal(chunks[0].float(), other.float())


def test_a_chunk_is_the_same_whenever_it_is_asked_for(tiny, many_ids):
    chunks = HarvestedChunks(tiny.network, many_ids, seed=3, chunk_contexts=10)
    again = HarvestedChunks(tiny.network, many_ids, seed=3, chunk_contexts=10)
    fourth = chunks[3]
    assert torch.equal(chunks[3], fourth) and torch.equal(again[3], fourth)


def test_contexts_come_in_an_order_that_the_seed_decides(tiny, many_ids):
    one, other = (HarvestedChunks(tiny.network, many_ids, seed=s, chunk_contexts=10) for s in (3, 4))
    assert not torch.equal(one[0], other[0])
    assert sorted(one.order) == sorted(other.order) == list(range(50)) != list(one.order)


def test_the_source_names_everything_that_the_activations_depend_on(tiny, many_ids):
    def source(**changes):
        arguments = {"network": tiny.network, "ids": many_ids, "seed": 3, "chunk_contexts": 10} | changes
        return HarvestedChunks(**arguments).source

    other_network, other_ids = copy.deepcopy(tiny.network), many_ids.copy()
    other_network.transformer.h[0].mlp.c_fc.bias.data[7] += 1e-3
    other_ids[49, 31] += 1
    changes = {
        "model": {"network": other_network}, "text": {"ids": other_ids}, "seed": {"seed": 4},
        "chunk_contexts": {"chunk_contexts": 5}, "module": {"module": "transformer.ln_f"},
    }  # fmt: skip
    assert source() == source() and source().keys() == changes.keys()
    for name, change in changes.items():
        assert [key for key, value in source(**change).items() if value != source()[key]] == [name]


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
    for _ in range(6200 // 64):  # from the first batch to the last
        served += numbers(buffer.next_batch(64))
        waiting = numbers(buffer.rows[buffer.order[buffer.served :]]) + numbers(buffer.leftover)
        read = buffer.next_chunk * 310
        assert Counter(served + waiting) == Counter(range(read))  # served, or still to be served: each once
        assert buffer.used == len(served)


@pytest.mark.parametrize(("n_rows", "batch_size"), [(1000, 62), (1000, 400), (100_000, 62)])
def test_every_activation_of_the_text_is_served_exactly_once(n_rows, batch_size):
    batches = drain(ActivationBuffer(NumberedChunks(20), n_rows), batch_size)
    served = sum(batches, [])
    assert len(served) == 20 * 310 // batch_size * batch_size  # all but an incomplete last batch
    assert max(Counter(served).values()) == 1 and set(served) <= set(range(20 * 310))


def test_rows_are_mixed_to_the_last_batch():
    last = drain(ActivationBuffer(NumberedChunks(20), n_rows=1000), 62)[-1]
    assert max(last) - min(last) > 500 and last != sorted(last)


def test_a_quarter_of_the_buffer_is_refilled_at_a_time():
    buffer, chunks_read = ActivationBuffer(NumberedChunks(20), n_rows=4 * 310), []
    for _ in range(12):
        buffer.next_batch(62)
        chunks_read.append(buffer.next_chunk)
    assert chunks_read == [4] * 5 + [5] * 5 + [6] * 2


def test_a_buffer_is_not_larger_than_the_text():
    assert len(ActivationBuffer(NumberedChunks(5), n_rows=100_000).rows) == 5 * 310
    assert len(ActivationBuffer(NumberedChunks(5), n_rows=100_000, repeat=True).rows) == 100_000


def test_peeking_uses_nothing_up():
    buffer, twin = (ActivationBuffer(NumberedChunks(5), n_rows=1000) for _ in range(2))
    peeked = buffer.peek(128)
    assert buffer.used == 0 and torch.equal(buffer.peek(128), peeked) and len(buffer.peek(5000)) == 1000
    batches = [twin.next_batch(64) for _ in range(24)]
    assert torch.equal(torch.cat(batches[:2]), peeked)
    assert all(torch.equal(buffer.next_batch(64), batch) for batch in batches)


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


class ContextNumbers:
    """Chunks of the real shape for one neuron, whose activation is the number of the context, as bits of a bf16."""

    rows = 32 * 255

    def __len__(self):
        return 1 << 20

    def __getitem__(self, index):
        number = torch.arange(32 * index, 32 * (index + 1)) % 30_000  # few of the first are left when they come again
        return number.to(torch.int16).view(torch.bfloat16).repeat_interleave(255)[:, None]


def test_a_batch_of_4096_has_85_percent_of_the_ideal_contexts_at_the_default_size():
    buffer, batch_size = ActivationBuffer(ContextNumbers(), TrainConfig().buffer_rows), 4096
    shares = []
    for _ in range(1800):
        context = buffer.next_batch(batch_size).bfloat16().view(torch.int16)
        shares.append(len(np.unique(context)) / batch_size)  # ideal: an endless text, and every row from another one
    assert np.mean(shares[:100]) == pytest.approx(0.79, abs=0.01)  # all contexts are whole yet: documented
    assert np.mean(shares[-200:]) > 0.85
    assert np.mean(shares[-200:]) == pytest.approx(0.87, abs=0.01)  # documented


MEMORY = """
from pathlib import Path
import torch
from sae_core.activations import ActivationBuffer
from sae_core.recipe import TrainConfig
from sae_core.training import Trainer

torch.set_num_threads(1)

class Rows:
    rows = 2 * 255
    def __init__(self, d_in):
        self.chunk = torch.randn(self.rows, d_in)
    def __len__(self):
        return 1 << 20
    def __getitem__(self, index):
        return self.chunk.clone()

def kilobytes(field):  # VmRSS: now, VmHWM: at most
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0])
"""
needs_linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read as Linux counts it")


def memory_script(script):
    """The numbers that a process of its own prints."""
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "1000000"}  # what is freed goes back at once
    command = [sys.executable, "-c", MEMORY + script]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return [int(word) for word in done.stdout.split()]


@needs_linux
def test_the_buffer_takes_what_is_stated_and_no_more():
    before, peak = memory_script("""
chunks = Rows(512)
ActivationBuffer(chunks, 4 * chunks.rows).next_batch(1024)  # what torch itself takes at the first use
before = kilobytes("VmRSS")
buffer = ActivationBuffer(chunks, 1 << 19)
for _ in range(400):  # three refills
    buffer.next_batch(1024)
print(before, kilobytes("VmHWM"))
""")
    stated = (1 << 19) * (2 * 512 + 8) / 1024  # so much that batches and chunks, 4 to 6 MB, do not count
    assert stated * 0.9 < peak - before < stated * 1.05


@needs_linux
def test_memory_does_not_grow_with_the_number_of_activations_trained_on():
    before, early, late = memory_script("""
buffer = ActivationBuffer(Rows(64), 1 << 16)
before = kilobytes("VmRSS")
config = TrainConfig(d_sae=64, steps=220, batch_size=1024, buffer_rows=1 << 16, resample_at=(), bf16=False)
for now in Trainer(config, buffer).run():
    if now.step in (20, 220):
        early, late = (kilobytes("VmHWM"), 0) if now.step == 20 else (early, kilobytes("VmHWM"))
print(before, early, late)
""")
    # Without what Python takes. Were they kept, the 200 batches between would be 51 MB more.
    assert late - before < 1.05 * (early - before)


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


def test_large_activations_are_numbers():
    chunk = torch.full((310, 3), 3e38, dtype=torch.bfloat16)  # their sum overflows
    activations.check_finite(chunk, 0)
    chunk[200, 2] = float("inf")
    with pytest.raises(SaeCoreError, match="chunk 5"):
        activations.check_finite(chunk, 5)


def test_a_buffer_that_cannot_hold_two_chunks_is_refused():
    with pytest.raises(SaeCoreError, match="buffer of 600 rows: must hold two chunks of 310"):
        ActivationBuffer(NumberedChunks(5), n_rows=600)


def test_harvested_text_fills_the_buffer(tiny, many_ids):
    buffer = ActivationBuffer(HarvestedChunks(tiny.network, many_ids, chunk_contexts=5), n_rows=620)
    batch = buffer.next_batch(64)
    assert batch.shape == (64, 64) and (batch >= 0).all() and batch.any()
    assert activations.MLP_OUT == buffer.chunks.module
