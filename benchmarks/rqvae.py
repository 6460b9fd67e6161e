"""RQ-VAE steps, 768 -> 32, three levels of 256 codes, batch 1,024; equal tokenizers; and a million items at once."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import Case, Outcome, Turn
from genrec.codes.code_table import collision_rate
from genrec.codes.tokenizer.kmeans import kmeans
from genrec.models.rqvae import RqVae
from genrec.pipeline.command import keep_freed_memory

INPUT, HIDDEN, LATENT, LEVELS, CODES = 768, (512, 256, 128), 32, 3, 256
BATCH, BATCHES = 1024, 8
CATALOGUE, OUR_EPOCHS, CORNACS_EPOCHS, KMEANS_ITERATIONS = 4096, 8, 100, 10
MILLION, MILLION_DIM = 1_000_000, 64


def adamw(model: Any) -> torch.optim.Optimizer:
    """As cornac makes it."""
    return torch.optim.AdamW(model.parameters(), 1e-3)


def our_adamw(model: RqVae) -> torch.optim.Optimizer:
    """As `RqVae.configure_optimizers` makes it, without a trainer."""
    return torch.optim.AdamW(model.parameters(), 1e-3, fused=True)


def steps(model: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Turn:
    features = torch.randn(BATCHES, BATCH, INPUT)

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
    return steps(model, our_adamw(model), lambda batch: model.losses(batch, model.encode(batch))["loss"])


def cornac() -> Turn:
    model = cornac_model()
    return steps(model, adamw(model), partial(cornac_loss, model))


def cornac_model() -> Any:
    from cornac.models.tiger.tiger import RQVAE

    return RQVAE(INPUT, HIDDEN, LATENT, LEVELS, CODES)


def cornac_loss(model: Any, batch: Tensor) -> Tensor:
    _, _, reconstruction, quantization = model(batch)
    return reconstruction + quantization


def torch_rechub() -> Turn:
    from torch_rechub.models.generative.rqvae import RQVAEModel

    model = RQVAEModel(INPUT, [CODES] * LEVELS, LATENT, list(HIDDEN), kmeans_init=False, sk_epsilons=[0.0] * LEVELS)

    def loss(batch: torch.Tensor) -> torch.Tensor:
        reconstructed, quantization, _ = model(batch, use_sk=False)
        return torch.nn.functional.mse_loss(reconstructed, batch) + quantization

    # Adam is what its RQVAETrainer takes without being told
    return steps(model, torch.optim.Adam(model.parameters(), 1e-3), loss)


def catalogue() -> Tensor:
    """Items in 200 groups that differ from their group in 32 directions, with a little noise; mean square 1."""
    draw = partial(torch.randn, generator=torch.Generator().manual_seed(0))
    group = torch.randint(200, (CATALOGUE,), generator=torch.Generator().manual_seed(1))
    features = draw(200, INPUT)[group] + 0.1 * draw(CATALOGUE, 32) @ draw(32, INPUT) + 0.2 * draw(CATALOGUE, INPUT)
    return features / features.square().mean().sqrt()


def tokenizer(reconstructed: Tensor, features: Tensor, codes: Tensor) -> Outcome:
    error = float(torch.nn.functional.mse_loss(reconstructed, features))
    return Outcome(1, f"reconstruction {error:.3f}, collisions {collision_rate(codes):.1%}")


def our_tokenizer(hidden: tuple[int, ...] | None, epochs: int) -> Turn:
    keep_freed_memory()
    features = catalogue()

    def turn() -> Outcome:
        model = RqVae(INPUT, hidden, LATENT, CODES, num_levels=LEVELS)
        model.initialize_codebooks(features, KMEANS_ITERATIONS, seed=0)
        optimizer = our_adamw(model)
        for _ in range(epochs):
            latents = []  # fmt: skip
            for batch in features[torch.randperm(CATALOGUE)].split(BATCH // 4):
                latents.append(model.encode(batch))
                optimizer.zero_grad()
                model.losses(batch, latents[-1])["loss"].backward()
                optimizer.step()
            model.quantizer.restart_dead_codes(torch.cat(latents).detach())
        with torch.no_grad():
            return tokenizer(model(features)[0], features, model.semantic_codes(features))

    return turn


def cornacs_tokenizer() -> Turn:
    features = catalogue()

    def turn() -> Outcome:
        model = cornac_model()
        model.kmeans_init_codebooks(features)
        optimizer = adamw(model)
        for _ in range(CORNACS_EPOCHS):
            for batch in features[torch.randperm(CATALOGUE)].split(BATCH):
                optimizer.zero_grad()
                cornac_loss(model, batch).backward()
                optimizer.step()
        with torch.no_grad():
            codes, reconstructed, _, _ = model(features)
        return tokenizer(reconstructed, features, codes)

    return turn


def kmeans_of_a_million() -> Turn:
    points = torch.randn(MILLION, MILLION_DIM)

    def turn() -> float:
        kmeans(points, CODES, 1, torch.Generator().manual_seed(0))
        return 1

    return turn


def code_a_million() -> Turn:
    model, features = RqVae(MILLION_DIM, HIDDEN, LATENT, CODES, num_levels=LEVELS), torch.randn(MILLION, MILLION_DIM)

    def turn() -> float:
        model.semantic_codes(features)
        return MILLION

    return turn


CASES = [
    Case("RQ-VAE training", "rows", {"genrec": ours, "cornac": cornac, "torch-rechub": torch_rechub}),
    Case(
        "a tokenizer of 4,096 items", "tokenizers",
        {
            f"genrec, RQ-VAE, {OUR_EPOCHS} epochs": partial(our_tokenizer, HIDDEN, OUR_EPOCHS),
            "genrec, residual k-means": partial(our_tokenizer, None, 0),
            f"cornac, {CORNACS_EPOCHS} epochs": cornacs_tokenizer,
        },
    ),
    Case("k-means seeds and one step, 1 M rows of 64", "runs", {"genrec": kmeans_of_a_million}),
    Case("semantic IDs of 1 M items of 64", "items", {"genrec": code_a_million}),
]  # fmt: skip
