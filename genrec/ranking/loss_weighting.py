"""How the losses of several tasks become one step: fixed, weighted, or balanced by their gradients.

A strategy is called from Lightning's `backward` hook with the tasks' losses, and writes the gradients. Of several
processes each has its part of the losses: DDP takes the mean of what a `backward` writes, and what looks at gradients
or losses itself takes it first, so that all decide alike. What a strategy keeps between steps are buffers and
parameters of its own, so that a checkpoint holds them and a network's weights do not.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from genrec.layers.processes import mean_of_all

Losses = Sequence[Tensor]
Gradients = list[Tensor | None]


class EqualWeights(nn.Module):
    """The mean of the losses."""

    def combine(self, losses: Losses) -> Tensor:
        """The loss that is shown, ()."""
        return torch.stack(list(losses)).mean()

    def backward(self, losses: Losses, penalty: Tensor, network: nn.Module) -> None:
        """Add the gradients of one step.

        Args:
            losses: () each; a task without any label in the batch has a loss that requires no gradient.
            penalty: the network's regularization, ().
        """
        (self.combine(losses) + penalty).backward()

    def after_step(self) -> None:
        """Bring back within their bounds what the optimizer moved."""

    def weights(self) -> Tensor | None:
        """(n_tasks,), what is logged; None where no weight changes."""
        return None


class UncertaintyWeights(EqualWeights):
    """UWL: the sum of 2 L exp(-w) + w, w at least 0 (after Kendall et al. 2018).

    For a constant loss w becomes ln 2 L, or 0 where L is below one half. The bound is kept by projection after each
    step: a weight that is clamped within the formula has no gradient and never comes back.
    """

    def __init__(self, n_tasks: int) -> None:
        super().__init__()
        self.log_variances = nn.Parameter(torch.zeros(n_tasks))

    def combine(self, losses: Losses) -> Tensor:
        return (2 * torch.stack(list(losses)) * (-self.log_variances).exp() + self.log_variances).sum()

    @torch.no_grad()
    def after_step(self) -> None:
        self.log_variances.clamp_(min=0)

    def weights(self) -> Tensor:
        return 2 * (-self.log_variances.detach()).exp()


class MetaBalance(EqualWeights):
    """MetaBalance (He et al. 2022): in each shared tensor auxiliary gradients are brought to the main one's size.

    With m_t the moving average of task t's gradient norm in a tensor, an auxiliary gradient is scaled by
    r m_0 / m_t + (1 - r). Task 0 is the main one; what only one task uses is left alone.

    Args:
        relax_factor: r; 0 changes nothing, 1 balances fully.
        beta: of the moving average.
    """

    def __init__(self, n_tasks: int, n_tensors: int, relax_factor: float = 0.7, beta: float = 0.9) -> None:
        super().__init__()
        if not 0 <= relax_factor <= 1 or not 0 <= beta < 1:
            raise ValueError(
                f"metabalance needs 0 <= relax_factor <= 1 and 0 <= beta < 1, got {relax_factor} and {beta}"
            )
        self.relax_factor = relax_factor
        self.beta = beta
        self.norms: Tensor
        self.register_buffer("norms", torch.zeros(n_tensors, n_tasks))

    def backward(self, losses: Losses, penalty: Tensor, network: nn.Module) -> None:
        parameters = list(network.parameters())
        gradients = task_gradients(losses, parameters)
        for row, parameter in enumerate(parameters):
            own = [each[row] for each in gradients]
            add_gradient(parameter, sum_gradients(self._balanced(row, own)))
        add_penalty(penalty)

    def _balanced(self, row: int, gradients: Gradients) -> Gradients:
        """The gradients of one tensor, a task each; None where a task does not use it."""
        if sum(gradient is not None for gradient in gradients) < 2:
            return gradients
        norms = self.norms[row]
        for task, gradient in enumerate(gradients):
            if gradient is not None:
                norms[task] = self.beta * norms[task] + (1 - self.beta) * gradient.norm()
        main = gradients[0]
        if main is None:  # without the main task there is no size to bring the others to
            return gradients
        scales = self.relax_factor * norms[0] / norms.clamp_min(1e-12) + (1 - self.relax_factor)
        return [main, *(None if g is None else g * scales[task] for task, g in enumerate(gradients[1:], 1))]


class GradNorm(EqualWeights):
    """GradNorm (Chen et al. 2018): weights under which all tasks pull equally, slower ones a little harder.

    G_i is the norm of the gradient of w_i L_i in the last shared layer. The weights follow the gradient of
    sum |G_i - mean(G) r_i^alpha|, with r_i the inverse training rate of task i, and always sum to the number of tasks.

    Args:
        alpha: 0 makes all gradients equally large.
    """

    def __init__(self, n_tasks: int, alpha: float = 0.16) -> None:
        super().__init__()
        self.alpha = alpha
        self.task_weights = nn.Parameter(torch.ones(n_tasks))
        self.first_losses: Tensor
        self.register_buffer("first_losses", torch.full((n_tasks,), float("nan")))
        # in a list, so that it is no part of this module's state
        self.probed: list[nn.Parameter] = []

    def combine(self, losses: Losses) -> Tensor:
        return (torch.stack(list(losses)) * self.task_weights.detach()).sum()

    def backward(self, losses: Losses, penalty: Tensor, network: nn.Module) -> None:
        if not self.probed:
            self.probed.append(last_shared_layer(losses, network))
        tasks = [task for task, loss in enumerate(losses) if loss.requires_grad]
        norms = torch.stack([gradient_norm(losses[task], self.probed[0]) for task in tasks])
        (values,) = mean_of_all([torch.stack([losses[task].detach() for task in tasks])])
        self._move_weights(tasks, norms, values)
        (self.combine(losses) + penalty).backward()

    def _move_weights(self, tasks: list[int], norms: Tensor, losses: Tensor) -> None:
        """The weights' gradient in closed form: G_i = w_i |grad L_i|, and the targets are constants."""
        first = self.first_losses[tasks]
        self.first_losses[tasks] = torch.where(first.isnan(), losses, first)
        rates = losses / self.first_losses[tasks].clamp_min(1e-12)
        pulls = self.task_weights.detach()[tasks] * norms
        targets = pulls.mean() * (rates / rates.mean().clamp_min(1e-12)) ** self.alpha
        gradient = torch.zeros_like(self.task_weights)
        gradient[tasks] = (pulls - targets).sign() * norms
        add_gradient(self.task_weights, gradient)

    @torch.no_grad()
    def after_step(self) -> None:
        self.task_weights.clamp_(min=1e-3)
        self.task_weights.mul_(len(self.task_weights) / self.task_weights.sum())

    def weights(self) -> Tensor:
        return self.task_weights.detach()


class JacobianDescent(EqualWeights):
    """One of torchjd's aggregators of the tasks' gradients that take no settings (`pip install genrec[torchjd]`).

    Such as AlignedMTL; UPGrad needs `pip install "torchjd[quadprog-projector]"`, whose license is the GPL.
    """

    def __init__(self, aggregator: str) -> None:
        super().__init__()
        try:
            module = importlib.import_module("torchjd.aggregation")
        except ImportError as missing:
            raise ValueError("method 'jd' needs the package torchjd; install genrec[torchjd]") from missing
        if not hasattr(module, aggregator):
            raise ValueError(f"torchjd.aggregation has no {aggregator!r}; it has {', '.join(module.__all__)}")
        try:
            self.aggregate: Callable[[Tensor], Tensor] = getattr(module, aggregator)()
        except (ImportError, TypeError) as trouble:  # packages that it needs beside torchjd, settings that it lacks
            raise ValueError(f"torchjd's {aggregator} cannot be used: {trouble}") from trouble

    def backward(self, losses: Losses, penalty: Tensor, network: nn.Module) -> None:
        parameters = list(network.parameters())
        by_tensor = list(zip(*task_gradients(losses, parameters), strict=True))
        shared = [row for row, own in enumerate(by_tensor) if sum(each is not None for each in own) > 1]
        for row in set(range(len(parameters))) - set(shared):
            add_gradient(parameters[row], sum_gradients(list(by_tensor[row])))
        if shared:
            jacobian = torch.stack([_flat([own[task] for own in (by_tensor[row] for row in shared)],
                                          [parameters[row] for row in shared])
                                    for task in range(len(losses))])  # fmt: skip
            pieces = self.aggregate(jacobian).split([parameters[row].numel() for row in shared])
            for row, piece in zip(shared, pieces, strict=True):
                add_gradient(parameters[row], piece.view_as(parameters[row]))
        add_penalty(penalty)


def _flat(gradients: Gradients, parameters: Sequence[nn.Parameter]) -> Tensor:
    return torch.cat(
        [
            torch.zeros_like(parameter).flatten() if gradient is None else gradient.flatten()
            for gradient, parameter in zip(gradients, parameters, strict=True)
        ]
    )


METHODS: dict[str, tuple[type[EqualWeights], tuple[str, ...]]] = {
    "uwl": (UncertaintyWeights, ()),
    "metabalance": (MetaBalance, ("relax_factor", "beta")),
    "gradnorm": (GradNorm, ("alpha",)),
    "jd": (JacobianDescent, ("aggregator",)),
}


def build_weighting(adaptive_params: Mapping[str, Any] | None, n_tasks: int, network: nn.Module) -> EqualWeights:
    """The strategy that page 001's `adaptive_params` names, such as `{"method": "gradnorm", "alpha": 0.16}`.

    Raises:
        ValueError: no such method, or one without such a setting.
    """
    if adaptive_params is None:
        return EqualWeights()
    settings = dict(adaptive_params)
    method = settings.pop("method", None)
    if method not in METHODS:
        raise ValueError(f"adaptive_params['method'] must be one of {', '.join(METHODS)}, got {method!r}")
    kind, known = METHODS[method]
    if set(settings) - set(known):
        raise ValueError(f"method {method!r} takes {', '.join(known) or 'no setting'}, got {', '.join(settings)}")
    if kind is JacobianDescent:
        return JacobianDescent(settings.get("aggregator", "AlignedMTL"))
    if kind is MetaBalance:
        return MetaBalance(n_tasks, len(list(network.parameters())), **settings)
    return kind(n_tasks, **settings)


def task_gradients(losses: Losses, parameters: Sequence[nn.Parameter]) -> list[Gradients]:
    """Each task's gradient of each parameter, the mean of all processes', None where the task does not reach it.

    A network gives its tasks as columns of one tensor, through which autograd reaches everything: what a task has no
    part in then has a gradient of zeros.
    """
    return [_gradients(loss, parameters) if loss.requires_grad else [None] * len(parameters) for loss in losses]


def _gradients(loss: Tensor, parameters: Sequence[nn.Parameter]) -> Gradients:
    places = [place for place, parameter in enumerate(parameters) if parameter.requires_grad]
    if not places:
        return [None] * len(parameters)
    found = torch.autograd.grad(loss, [parameters[place] for place in places], retain_graph=True, allow_unused=True)
    reached = [place for place, gradient in zip(places, found, strict=True) if gradient is not None]
    means = mean_of_all([gradient for gradient in found if gradient is not None])
    # asked together, since each question would make a GPU wait
    is_any = torch.stack([gradient.any() for gradient in means]).tolist() if reached else []
    gradients: Gradients = [None] * len(parameters)
    for place, gradient, any_ in zip(reached, means, is_any, strict=True):
        gradients[place] = gradient if any_ else None
    return gradients


def last_shared_layer(losses: Losses, network: nn.Module) -> nn.Parameter:
    """The network's own `last_shared_layer()`, else the last matrix that all tasks reach and that is no table.

    Raises:
        ValueError: there is none.
    """
    losses = [loss for loss in losses if loss.requires_grad]
    if hasattr(network, "last_shared_layer"):
        return network.last_shared_layer()  # type: ignore[operator]
    tables = {id(p) for m in network.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag) for p in m.parameters()}
    dense = [p for p in network.parameters() if p.dim() > 1 and p.requires_grad and id(p) not in tables]
    shared = [
        parameter
        for parameter, own in zip(dense, zip(*task_gradients(losses, dense), strict=True), strict=True)
        if all(gradient is not None for gradient in own)
    ]
    if not shared:
        raise ValueError(f"gradnorm needs a dense layer that all tasks share, got none in {type(network).__name__}")
    return shared[-1]


def gradient_norm(loss: Tensor, parameter: nn.Parameter) -> Tensor:
    """The size of the gradient, the mean of all processes', ()."""
    (gradient,) = mean_of_all(torch.autograd.grad(loss, parameter, retain_graph=True))
    return gradient.norm()


def sum_gradients(gradients: Gradients) -> Tensor | None:
    known = [gradient for gradient in gradients if gradient is not None]
    return torch.stack(known).sum(0) if len(known) > 1 else next(iter(known), None)


def add_gradient(parameter: nn.Parameter, gradient: Tensor | None) -> None:
    """What accumulates over batches adds up."""
    if gradient is not None:
        parameter.grad = gradient.clone() if parameter.grad is None else parameter.grad + gradient


def add_penalty(penalty: Tensor) -> None:
    if penalty.requires_grad:
        penalty.backward()
