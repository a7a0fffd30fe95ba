"""The step for a GPU, run on a CPU: the same function, uncompiled, compiled, and behind stand-ins for CUDA's graphs."""

import shutil
from contextlib import nullcontext

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sae_core import gpu
from sae_core.activations import ActivationBuffer
from sae_core.autoencoder import NAMES
from sae_core.recipe import april_2024, paper_scaled
from sae_core.step import Step, loss_step
from sae_core.training import Trainer

D_IN, D_SAE, BATCH, STEPS = 24, 64, 256, 20


class PlantedChunks:
    """About three of 40 known directions in 24 dimensions, on top of a constant."""

    rows = 1000

    def __len__(self):
        return 60

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        directions = torch.nn.functional.normalize(torch.randn(40, D_IN, generator=torch.Generator().manual_seed(0)))
        present = torch.rand(self.rows, 40, generator=generator) < 3 / 40
        return (present * (torch.rand(self.rows, 40, generator=generator) + 0.5)) @ directions + 0.3


def config(recipe, **changes):
    sizes = {"d_sae": D_SAE, "batch_size": BATCH, "lam": 0.5, "lr": 2e-3, "buffer_rows": 4096, "bf16": False}
    return recipe(STEPS, **sizes | {"lam_warmup": 6, "lr_decay": 8} | changes)


def paper(**changes):
    return config(paper_scaled, **{"resample_at": (10,), "dead_after": 3, "resample_inputs": 2048} | changes)


def april(**changes):
    return config(april_2024, **{"clip": 0.05} | changes)


def trainer(recipe, device="cpu"):
    made = Trainer(recipe, ActivationBuffer(PlantedChunks(), n_rows=4096))
    with torch.no_grad():
        made.sae.b_enc[:9] = -100.0  # dead, so that there is something to resample
    return made


def as_on_a_gpu(trainer, function=gpu.update):
    """Let a trainer on a CPU make its steps by the GPU's function."""
    moments = gpu.adam_moments(trainer.sae, trainer.optimizer)

    def update(x, lam, lr):
        rates = torch.tensor(lam), torch.tensor(lr, dtype=torch.float64)
        *parts, variance = function(trainer.sae, moments, x, *rates, trainer.config)
        return Step(*parts, {}), variance

    trainer._update = update
    return trainer


def state(trainer):
    parameters = {name: getattr(trainer.sae, name).detach() for name in NAMES}
    moments = trainer.optimizer.state
    return parameters | {
        f"{name}.{key}": moments[getattr(trainer.sae, name)][key] for name in NAMES for key in ("exp_avg", "exp_avg_sq")
    }


def assert_same(one, other, tolerance=1e-5):
    for name, value in state(other).items():
        assert (state(one)[name] - value).norm() <= tolerance * value.norm(), name


recipes = pytest.mark.parametrize("recipe", [paper, april])


@recipes
def test_the_step_equals_the_one_of_the_cpu(recipe):
    here, there = trainer(recipe()), as_on_a_gpu(trainer(recipe()))
    start = here.sae.W_enc.detach().clone()
    resampled = 0
    for one, other in zip(here.run(), there.run(), strict=True):
        for name in ("squared_error", "l1", "loss", "l0", "explained_variance"):
            torch.testing.assert_close(getattr(other, name), getattr(one, name), rtol=1e-5, atol=1e-6, msg=name)
        assert torch.equal(one.fired, other.fired) and torch.equal(one.dead, other.dead)
        assert one.resampled == other.resampled
        resampled += one.resampled
        assert_same(there, here)
    assert (resampled > 0) == (recipe is paper)
    assert (here.sae.W_enc - start).norm() > 0.05 * start.norm()  # the steps led somewhere


def test_it_goes_on_from_where_the_optimiser_is_and_leaves_small_gradients_alone():
    here, there = trainer(april(clip=1e3)), trainer(april(clip=1e3))
    pairs = zip(here.run(), there.run(), strict=True)
    for _ in range(5):
        next(pairs)
    as_on_a_gpu(there)
    for _ in zip(here.run(), there.run(), strict=True):  # as after a resume
        assert_same(there, here)


def test_bf16_products_stay_close():
    exact, rounded = as_on_a_gpu(trainer(april())), as_on_a_gpu(trainer(april(bf16=True)))
    for _ in zip(exact.run(), rounded.run(), strict=True):
        pass
    with pytest.raises(AssertionError):
        assert_same(rounded, exact, 1e-6)
    for name in NAMES:
        one, other = state(rounded)[name], state(exact)[name]
        assert (one - other).norm() < 0.02 * other.norm(), name


@recipes
def test_moments_are_the_optimisers_own(recipe):
    # Checkpoints and resampling go through the optimiser.
    one = as_on_a_gpu(trainer(recipe(resample_at=())))
    for _ in one.run():
        pass
    moments = one.optimizer.state_dict()["state"]
    assert [float(moments[index]["step"]) for index in range(4)] == [STEPS] * 4
    assert all(moments[index]["exp_avg_sq"].sum() > 0 for index in range(4))
    assert moments[0]["exp_avg"].stride() == one.sae.W_enc.stride()


class NothingWaits(TorchDispatchMode):
    """Fails at an operation whose result, or its size, the host has to read: on a GPU it would wait for it."""

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        waits = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
        if waits & set(function.tags) and not self.by_places(function, arguments):
            raise AssertionError(f"{function} makes the host wait")
        return function(*arguments, **(options or {}))

    @staticmethod
    def by_places(function, arguments):
        """Indexing with integers, unlike indexing with booleans, gives a result of a known size."""
        indices = arguments[1] if function is torch.ops.aten.index.Tensor else [None]
        return all(index is not None and index.dtype == torch.int64 for index in indices)


@recipes
def test_nothing_in_a_step_of_the_loop_waits_for_the_gpu(recipe):
    one = as_on_a_gpu(trainer(recipe(resample_at=())))
    steps = one.run()
    next(steps)  # fills the buffer
    with NothingWaits():
        for _ in range(2):
            next(steps)
    with NothingWaits(), pytest.raises(AssertionError, match="makes the host wait"):
        loss_step(one.sae, torch.randn(BATCH, D_IN), 0.5)  # the CPU's step looks at the density


@recipes
def test_the_step_needs_no_values_at_all(recipe):
    one = trainer(recipe())
    one.sae.to("meta")
    one.optimizer = torch.optim.Adam(one.sae.parameters())
    x, rates = torch.empty(BATCH, D_IN, device="meta"), torch.empty(2, device="meta")
    outputs = gpu.update(one.sae, gpu.adam_moments(one.sae, one.optimizer), x, rates[0], rates[1], one.config)
    assert [tuple(output.shape) for output in outputs] == [(), (), (D_SAE,), ()]


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler on a CPU")
def test_compiled_it_is_the_same_step():
    # Without fusion: the C++ backend of PyTorch 2.13, which no GPU uses, fails on what it fuses here.
    compiled = torch.compile(gpu.update, fullgraph=True, dynamic=False, options={"max_fusion_size": 1})
    here, there = as_on_a_gpu(trainer(paper())), as_on_a_gpu(trainer(paper()), compiled)
    for _ in zip(here.run(), there.run(), strict=True):
        assert_same(there, here)


# --- the graph, with stand-ins for CUDA -----------------------------------------------------------------------------


@pytest.fixture
def graphed(monkeypatch):
    """GraphedStep on a CPU: a replay runs the step once more and leaves the result where the capture had left it."""

    class Graph:
        def replay(self):
            for output, value in zip(step.outputs, step._run(gpu.update), strict=True):
                output.copy_(value)

    class Stream:
        def wait_stream(self, other):
            pass

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    for name in ("device", "stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, lambda *_, **__: nullcontext())
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    one = trainer(paper())
    step = gpu.GraphedStep(one.sae, one.optimizer, one.config)
    one._update = step
    return one, step


def test_a_run_by_graph_equals_one_step_by_step_and_keeps_what_it_yielded(graphed):
    # Above all: compiling and capturing, which make steps of their own, leave no trace.
    one, step = graphed
    here = trainer(paper())
    pairs = list(zip(here.run(), one.run(), strict=True))
    assert step.graph is not None
    assert_same(one, here)
    for expected, found in pairs:
        torch.testing.assert_close(found.squared_error, expected.squared_error, rtol=1e-5, atol=1e-6)
        assert torch.equal(found.fired, expected.fired)


def test_fp32_products_may_use_tf32_within_a_step_only(graphed, monkeypatch):
    one, step = graphed
    seen, update = [], gpu.update
    monkeypatch.setattr(gpu, "update", lambda *rest: seen.append(torch.get_float32_matmul_precision()) or update(*rest))
    before = torch.get_float32_matmul_precision()
    next(one.run())
    assert set(seen) == {"high"} and torch.get_float32_matmul_precision() == before == "highest"


def test_a_compiler_that_changes_the_step_is_not_used(graphed, monkeypatch):
    one, step = graphed

    def with_another_gradient(sae, moments, *rest):
        outputs = gpu.update(sae, moments, *rest)
        moments["W_dec"]["exp_avg"].mul_(1.1)
        return outputs

    monkeypatch.setattr(torch, "compile", lambda *_, **__: with_another_gradient)
    with pytest.warns(UserWarning, match="runs slower: torch.compile changes its result"):
        next(one.run())
    assert step.graph is None


def test_without_a_compiler_one_line_says_so_and_the_steps_are_the_same(graphed, monkeypatch):
    one, step = graphed

    def half_a_step_then_fail(sae, *_):
        sae.W_dec.data.zero_()
        raise RuntimeError("no Triton here\nand a long story")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: half_a_step_then_fail)
    here = trainer(paper())
    with pytest.warns(UserWarning, match="runs slower: no Triton here$") as warned:
        for _ in zip(here.run(), one.run(), strict=True):
            pass
    assert len(warned) == 1 and step.graph is None
    assert_same(one, here)


# --- on a GPU -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@recipes
def test_on_a_gpu_the_run_is_the_same_up_to_tf32_and_nothing_waits(recipe):
    class OnGpu(PlantedChunks):
        def __getitem__(self, index):
            return super().__getitem__(index).cuda()

    here = Trainer(recipe(), ActivationBuffer(PlantedChunks(), n_rows=16_384))
    there = Trainer(recipe(), ActivationBuffer(OnGpu(), n_rows=16_384))
    there.buffer.order.copy_(here.buffer.order)
    there.buffer.rows.copy_(here.buffer.rows)
    steps = there.run()
    for expected in here.run():
        torch.cuda.set_sync_debug_mode("error" if 1 < expected.step < 10 else "default")
        found = next(steps)
        torch.cuda.set_sync_debug_mode("default")
        torch.testing.assert_close(found.squared_error.cpu(), expected.squared_error, rtol=0.02, atol=0)
    assert list(steps) == []
