"""Learning-rate schedules as factors of the peak rate, a pure function of the step each."""

import math
from collections.abc import Callable
from typing import Any

import torch

from genrec.choices import Schedule, check_choice
from genrec.training.lightning import pl


def learning_rate_factor(schedule: str, warmup_steps: int, total_steps: int) -> Callable[[int], float]:
    """Linear warm-up from 0, then `constant`, `inverse_sqrt` of the step, or a half `cosine` down to 0 at total_steps.

    Example:
        >>> [learning_rate_factor("inverse_sqrt", 4, 100)(step) for step in (0, 2, 4, 16)]
        [0.0, 0.5, 1.0, 0.5]
        >>> round(learning_rate_factor("cosine", 0, 10)(5), 6)
        0.5
    """

    def factor(step: int) -> float:
        if step < warmup_steps:
            return step / warmup_steps
        if schedule == "constant":
            return 1.0
        if schedule == "inverse_sqrt":
            return math.sqrt(max(warmup_steps, 1) / max(step, 1))
        progress = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
        return 0.5 * (1 + math.cos(math.pi * min(progress, 1)))

    check_choice("schedule", schedule, Schedule)
    return factor


def scheduled(
    optimizer: torch.optim.Optimizer, schedule: str, warmup_steps: int, module: pl.LightningModule
) -> dict[str, Any]:
    """What `configure_optimizers` returns: the optimizer, with its rate by `learning_rate_factor` at each step."""
    # only the cosine ends: the others need no trainer that knows how long it trains
    total_steps = int(module.trainer.estimated_stepping_batches) if schedule == "cosine" else 0
    factor = learning_rate_factor(schedule, warmup_steps, total_steps)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
