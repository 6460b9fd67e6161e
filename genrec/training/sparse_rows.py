"""A table of which a batch touches a few rows: its gradient holds these alone, and so does its step.

A dense step over the vectors of a million items takes several times as long as all else that a batch costs.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class RowwiseAdamW(torch.optim.AdamW):
    """AdamW, which steps of a parameter with a sparse gradient only the rows that have one.

    As `torch.optim.SparseAdam`: a row's moments, its momentum and its weight decay stand still while no batch touches
    it, where AdamW would move it on; the bias is corrected by all steps.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    self._step_rows(parameter, group)
                    parameter.grad = None
        super().step()
        return loss

    def _step_rows(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state, (beta1, beta2), rate = self.state[parameter], group["betas"], group["lr"]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        assert parameter.grad is not None
        gradient = parameter.grad.coalesce()
        rows, values = gradient.indices()[0], gradient.values()
        mean = state["exp_avg"][rows].lerp_(values, 1 - beta1)
        square = state["exp_avg_sq"][rows].mul_(beta2).addcmul_(values, values, value=1 - beta2)
        state["exp_avg"][rows], state["exp_avg_sq"][rows] = mean, square
        n_steps = float(state["step"])
        scale = (square / (1 - beta2**n_steps)).sqrt_().add_(group["eps"])
        kept = parameter[rows] * (1 - rate * group["weight_decay"])
        parameter[rows] = kept - rate / (1 - beta1**n_steps) * mean / scale


def gradients_of(parameters: Iterable[Tensor]) -> list[Tensor]:
    """The gradients that there are, of sparse ones the rows that they hold, each once; in place of the parameters'."""
    found = []
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
            found.append(parameter.grad.values())
        elif parameter.grad is not None:
            found.append(parameter.grad)
    return found


def clip_gradients(parameters: Iterable[nn.Parameter], largest: float) -> None:
    """As `torch.nn.utils.clip_grad_norm_`, of dense and sparse gradients together."""
    gradients = gradients_of(parameters)
    norm = nn.utils.get_total_norm(gradients)
    for gradient in gradients:
        gradient.mul_((largest / (norm + 1e-6)).clamp(max=1))
