"""The training step of a standard dictionary on a GPU: a few fused kernels, started together as one CUDA graph.

At the sizes of the one-layer model the passes over [batch, d_sae] and the starting of kernels limit a GPU, not
arithmetic. So `update` is a plain function of fixed work, in which the host never asks for a value; torch.compile fuses
what lies between its five products, the update of the weights included; and a graph starts all of it at once.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from .autoencoder import SparseAutoencoder
from .recipe import TrainConfig
from .step import Step, dense_step

Moments = dict[str, dict[str, Tensor]]  # by parameter, torch.optim.Adam's state: step, exp_avg, exp_avg_sq


def adam_moments(sae: SparseAutoencoder, optimizer: torch.optim.Adam) -> Moments:
    """The optimiser's own state tensors by parameter name, zeros where it has not made a step yet."""
    for parameter in optimizer.param_groups[0]["params"]:
        if not optimizer.state[parameter]:
            optimizer.state[parameter] = {
                "step": torch.zeros((), device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
    return {name: optimizer.state[parameter] for name, parameter in sae.named_parameters()}


@torch.no_grad()
def update(
    sae: SparseAutoencoder, moments: Moments, x: Tensor, lam: Tensor, lr: Tensor, config: TrainConfig
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Train on a batch x [B, d_in] in place, as the rules of `training` say; lam and lr: [], on the device of x.

    Returns the squared error [], the L1 norm [], on how many examples each feature was active [d_sae], and the
    variance of the batch [].
    """
    result = dense_step(sae, x, lam, by_decoder_norm=not config.unit_norm, bf16=config.bf16)
    gradients = result.gradients
    if config.unit_norm:
        along = (gradients["W_dec"] * sae.W_dec).sum(1, keepdim=True)
        gradients["W_dec"] = gradients["W_dec"] - along * sae.W_dec
    if config.clip:
        norm = torch.stack([gradient.square().sum() for gradient in gradients.values()]).sum().sqrt()
        factor = (config.clip / (norm + 1e-6)).clamp_max(1.0)
        gradients = {name: gradient * factor for name, gradient in gradients.items()}
    for name, parameter in sae.named_parameters():
        value = parameter - adam(gradients[name], moments[name], lr)
        if name == "W_dec" and config.unit_norm:
            value = value / value.norm(dim=1, keepdim=True).clamp_min(1e-12)
        parameter.copy_(value)
    variance = (x - x.mean(0)).square().sum(1).mean()
    return result.squared_error, result.l1, result.fired, variance


def adam(gradient: Tensor, state: dict[str, Tensor], lr: Tensor) -> Tensor:
    """What torch.optim.Adam takes from a parameter; its counter and bias corrections are on the device, too."""
    (first, second), epsilon = (0.9, 0.999), 1e-8
    count = state["step"] + 1
    mean = state["exp_avg"].lerp(gradient, 1 - first)
    square = state["exp_avg_sq"] * second + gradient.square() * (1 - second)
    for name, value in (("step", count), ("exp_avg", mean), ("exp_avg_sq", square)):
        state[name].copy_(value)
    exact = count.double()  # 1 - 0.999 has four digits in fp32
    rate, correction = (lr / (1 - first**exact)).float(), (1 - second**exact).sqrt().float()
    return rate * mean / (square.sqrt() / correction + epsilon)


class GraphedStep:
    """`update` on one GPU, captured at the first call.

    It works in place on the tensors of `sae` and `optimizer`: resampling and checkpoints see them as ever, and whoever
    puts others in their place (loading an optimiser's state does) needs a new GraphedStep.
    """

    def __init__(self, sae: SparseAutoencoder, optimizer: torch.optim.Adam, config: TrainConfig):
        device = sae.W_dec.device
        self.sae, self.config, self.moments = sae, config, adam_moments(sae, optimizer)
        self.x = torch.zeros(config.batch_size, sae.d_in, device=device)
        self.lam = torch.zeros((), device=device)
        self.lr = torch.zeros((), device=device, dtype=torch.float64)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.tried = False

    def __call__(self, x: Tensor, lam: float, lr: float) -> tuple[Step, Tensor]:
        """One step on x [batch_size, d_in]. Returns its loss by parts, without gradients, and the batch's variance."""
        self.x.copy_(x)
        self.lam.fill_(lam)
        self.lr.fill_(lr)
        with torch.cuda.device(x.device), _tf32():
            if not self.tried:
                self._capture()
            if self.graph:
                self.graph.replay()
                outputs = [output.clone() for output in self.outputs]  # the next replay overwrites them
            else:
                outputs = self._run(update)
        squared_error, l1, fired, variance = outputs
        return Step(squared_error, l1, fired, {}), variance

    def _run(self, function) -> tuple[Tensor, ...]:
        return function(self.sae, self.moments, self.x, self.lam, self.lr, self.config)

    @torch.no_grad()
    def _capture(self) -> None:
        self.tried = True
        state = [*self.sae.parameters(), *(tensor for moments in self.moments.values() for tensor in moments.values())]
        before = [tensor.clone() for tensor in state]

        def moved_by(function) -> list[Tensor]:
            """The first moments after one step from the state of before."""
            for tensor, value in zip(state, before, strict=True):
                tensor.copy_(value)
            self._run(function)
            return [moments["exp_avg"].clone() for moments in self.moments.values()]

        torch.compiler.reset()  # compiled once for each configuration, of which a sweep has more than its cache holds
        compiled = torch.compile(update, fullgraph=True, dynamic=False)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        try:
            with torch.cuda.stream(stream):
                expected, found = moved_by(update), moved_by(compiled)
                for one, other in zip(found, expected, strict=True):
                    if (one - other).norm() > 0.05 * other.norm():  # a compiler that errs does not err by a little
                        raise RuntimeError("torch.compile changes its result")
                moved_by(compiled)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=stream):
                self.outputs = self._run(compiled)
            self.graph = graph
        except Exception as error:  # whatever is missing (Triton, a C compiler), the step works without it
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            warnings.warn(f"the step cannot be compiled and runs slower: {reason}", stacklevel=3)
        torch.cuda.current_stream().wait_stream(stream)
        for tensor, value in zip(state, before, strict=True):
            tensor.copy_(value)


@contextmanager
def _tf32() -> Iterator[None]:
    """Within this context fp32 products use the TF32 units."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
