"""ETEGRec at its published size, batch 64: both phases and the search, on Beauty's lengths and on 50 items each."""

from functools import partial

import torch
from torch import Tensor

from benchmarks.beauty import CODES, LEVELS, N_ITEMS, histories
from benchmarks.harness import Case, Turn
from benchmarks.paper_size import train
from genrec.command import keep_freed_memory
from genrec.data.batches import window_loader
from genrec.models.etegrec import ETEGRec
from genrec.models.rqvae import RqVae

BATCH, MAX_HISTORY, DIM, N_BEAMS = 64, 50, 256, 20
TOKENIZER = {
    "input_dim": DIM, "hidden_dim": [512, 256], "latent_dim": 128, "num_embeddings": CODES, "num_levels": LEVELS,
}  # fmt: skip


def batches(full: bool, n: int, grouped: bool = True) -> list[dict[str, Tensor]]:
    """Of like length as ours come, or in any order, padded to the longest, as the authors' do."""
    if full:
        items = torch.randint(1, N_ITEMS + 1, (n * BATCH, MAX_HISTORY + 1))
        parts = items.split(BATCH)
        return [{"history": part[:, :-1], "target": part[:, -1]} for part in parts]
    size = BATCH if grouped else n * BATCH
    loader = window_loader(histories(), "train", MAX_HISTORY, size, seed=0, n_drawn=n * BATCH)
    drawn = list(loader)
    if grouped:
        return drawn
    return [{name: value[i : i + BATCH] for name, value in drawn[0].items()} for i in range(0, n * BATCH, BATCH)]


def our_model() -> ETEGRec:
    keep_freed_memory()
    model = ETEGRec(N_ITEMS, TOKENIZER, causal=False, warmup_epochs=0)
    embeddings = torch.randn(N_ITEMS + 1, DIM)
    tokenizer = RqVae(**TOKENIZER)
    tokenizer.initialize_codebooks(embeddings[1:4097], 2, seed=0)
    model.start_from(tokenizer, embeddings)
    return model


def our_phase(phase: str, full: bool, n: int) -> Turn:
    model, work = our_model(), batches(full, n)
    trains_tokenizer = phase == "tokenizer"
    model.tokenizer.requires_grad_(trains_tokenizer).train(trains_tokenizer)
    for module in model.recommender_modules():
        module.requires_grad_(not trains_tokenizer).train(not trains_tokenizer)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-3, fused=True)
    losses = model.tokenizer_losses if trains_tokenizer else model.recommender_losses

    def turn() -> float:
        for batch in work:
            train(model, optimizer, losses(batch)["loss"])
        return len(work) * BATCH

    return turn


def reference_phase(phase: str, full: bool, n: int) -> Turn:
    from benchmarks.etegrec_reference import PSA_WEIGHT, SIA_WEIGHT, Recommender, Tokenizer, losses

    source, work = our_model(), batches(full, n, grouped=False)
    table, embeddings = source.generator.code_table.long(), source.item_embeddings
    recommender, tokenizer = Recommender(), Tokenizer()
    trained, frozen = (tokenizer, recommender) if phase == "tokenizer" else (recommender, tokenizer)
    frozen.requires_grad_(False).eval()
    optimizer = torch.optim.AdamW(trained.parameters(), 1e-3)
    own = "vq" if phase == "tokenizer" else "code"

    def turn() -> float:
        for batch in work:
            history, target = batch["history"], batch["target"]
            terms = losses(recommender, tokenizer, table[history], table[target], target, embeddings[target])
            train(trained, optimizer, terms[own] + SIA_WEIGHT * terms["sia"] + PSA_WEIGHT * terms["psa"])
        return len(work) * BATCH

    return turn


def our_search(full: bool, constrained: bool) -> Turn:
    model = our_model().eval()
    history = batches(full, 1)[0]["history"]

    def turn() -> float:
        model.generate(history, N_BEAMS, constrained)
        return len(history)

    return turn


def reference_search(full: bool) -> Turn:
    from benchmarks.etegrec_reference import Recommender

    table, recommender = our_model().generator.code_table.long(), Recommender().eval()
    history = batches(full, 1)[0]["history"][: 4 if full else 8]

    def turn() -> float:
        recommender.search(table[history], N_BEAMS)
        return len(history)

    return turn


def phase_case(phase: str, full: bool) -> Case:
    lengths = "histories of 50 items" if full else "Beauty's lengths"
    return Case(
        f"ETEGRec, {phase} steps, {lengths}", "examples",
        {"genrec": partial(our_phase, phase, full, 1 if full else 4),
         "plain reference": partial(reference_phase, phase, full, 1)},
    )  # fmt: skip


def search_case(full: bool) -> Case:
    lengths = "histories of 50 items" if full else "Beauty's lengths"
    return Case(
        f"ETEGRec, search with {N_BEAMS} beams, {lengths}", "users",
        {"genrec, unconstrained": partial(our_search, full, False),
         "genrec, constrained": partial(our_search, full, True),
         "plain reference, unconstrained": partial(reference_search, full)},
    )  # fmt: skip


CASES = [
    *(phase_case(phase, full) for phase in ("recommender", "tokenizer") for full in (False, True)),
    *(search_case(full) for full in (False, True)),
]
