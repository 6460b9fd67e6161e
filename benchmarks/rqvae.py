"""RQ-VAE steps, 768 -> 32, three levels of 256 codes, batch 1,024; and k-means' distances at a million rows."""

from typing import Any

import torch

from benchmarks.harness import Case, Turn
from genrec.command import keep_freed_memory
from genrec.models.rqvae import RqVae
from genrec.modules.kmeans import nearest

INPUT, HIDDEN, LATENT, LEVELS, CODES = 768, (512, 256, 128), 32, 3, 256
BATCH, BATCHES = 1024, 16
MILLION = 1_000_000


def steps(model: Any, loss: Any, fused: bool = False) -> Turn:
    features = torch.randn(BATCHES, BATCH, INPUT)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=fused)

    def turn() -> float:
        for batch in features:
            optimizer.zero_grad()
            loss(batch).backward()
            optimizer.step()
        return BATCH * BATCHES

    return turn


def ours() -> Turn:
    keep_freed_memory()
    model = RqVae(INPUT, HIDDEN, LATENT, CODES, num_levels=LEVELS)
    return steps(model, lambda batch: model.losses(batch, model.encode(batch))["loss"])


def cornac() -> Turn:
    from cornac.models.tiger.tiger import RQVAE

    model = RQVAE(INPUT, HIDDEN, LATENT, LEVELS, CODES)

    def loss(batch: torch.Tensor) -> torch.Tensor:
        _, _, reconstruction, quantization = model(batch)
        return reconstruction + quantization

    return steps(model, loss)


def torch_rechub() -> Turn:
    from torch_rechub.models.generative.rqvae import RQVAEModel

    model = RQVAEModel(INPUT, [CODES] * LEVELS, LATENT, list(HIDDEN), kmeans_init=False, sk_epsilons=[0.0] * LEVELS)

    def loss(batch: torch.Tensor) -> torch.Tensor:
        reconstructed, quantization, _ = model(batch, use_sk=False)
        return torch.nn.functional.mse_loss(reconstructed, batch) + quantization

    return steps(model, loss)


def assign_a_million() -> Turn:
    points, centres = torch.randn(MILLION, LATENT), torch.randn(CODES, LATENT)

    def turn() -> float:
        nearest(points, centres)
        return MILLION

    return turn


CASES = [
    Case("RQ-VAE training", "rows", {"genrec": ours, "cornac": cornac, "torch-rechub": torch_rechub}),
    Case("nearest of 256 codes, a million latents", "rows", {"genrec": assign_a_million}),
]
