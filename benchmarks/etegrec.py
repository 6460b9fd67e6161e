"""ETEGRec at its published size, batch 64: both phases and the search, on Beauty's lengths and on 50 items each."""

from functools import partial

import torch
from torch import Tensor

from benchmarks.beauty import CODES, LEVELS, N_ITEMS, evaluation_batches, histories, spread
from benchmarks.harness import Case, Turn
from benchmarks.paper_size import train
from genrec.generation.item_generator import BEAM_ROWS
from genrec.models.etegrec.module import ETEGRec
from genrec.models.rqvae import RqVae
from genrec.pipeline.command import keep_freed_memory
from genrec.sequences.batches import window_loader

BATCH, BATCHES, MAX_HISTORY, DIM, N_BEAMS = 64, 6, 50, 256, 20
PHASES = ("tokenizer", "recommender")  # the epochs of a cycle
TOKENIZER = {
    "input_dim": DIM, "hidden_dim": [512, 256], "latent_dim": 128, "num_embeddings": CODES, "num_levels": LEVELS,
}  # fmt: skip


def full_batch() -> dict[str, Tensor]:
    items = torch.randint(1, N_ITEMS + 1, (BATCH, MAX_HISTORY + 1))
    return {"history": items[:, :-1], "target": items[:, -1]}


def our_batches(full: bool) -> list[dict[str, Tensor]]:
    """Of like length, as ours come."""
    return [full_batch()] if full else spread(window_loader(histories(), "train", MAX_HISTORY, BATCH, seed=0), BATCHES)


def reference_batch(full: bool) -> dict[str, Tensor]:
    """In any order and padded to the longest, as the authors' come."""
    return full_batch() if full else next(iter(window_loader(histories(), "train", MAX_HISTORY, BATCH, 1, BATCH)))


def our_model() -> ETEGRec:
    keep_freed_memory()
    model = ETEGRec(N_ITEMS, TOKENIZER, causal=False, warmup_epochs=0)
    embeddings = torch.randn(N_ITEMS + 1, DIM)
    tokenizer = RqVae(**TOKENIZER)
    tokenizer.initialize_codebooks(embeddings[1:4097], 2, seed=0)
    model.start_from(tokenizer, embeddings)
    return model


class Clock:
    """What a model asks its trainer: the epoch, which decides the phase."""

    def __init__(self, epoch: int) -> None:
        self.current_epoch = epoch


def our_phase(phase: str, full: bool) -> Turn:
    model, work = our_model(), our_batches(full)
    model.clock = model.trainer = Clock(PHASES.index(phase))  # Lightning itself keeps a weak reference only
    assert model.phase == phase
    model.on_train_epoch_start()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-3, fused=True)

    def turn() -> float:
        for batch in work:
            train(model, optimizer, model.losses(batch)["loss"])
        return len(work) * BATCH

    return turn


def reference_phase(phase: str, full: bool) -> Turn:
    from benchmarks.etegrec_reference import PSA_WEIGHT, SIA_WEIGHT, Recommender, Tokenizer, losses

    source, batch = our_model(), reference_batch(full)
    table, embeddings = source.generator.code_table.long(), source.item_embeddings
    recommender, tokenizer = Recommender(), Tokenizer()
    trained, frozen = (tokenizer, recommender) if phase == "tokenizer" else (recommender, tokenizer)
    frozen.requires_grad_(False).eval()
    optimizer = torch.optim.AdamW(trained.parameters(), 1e-3)
    own = "vq" if phase == "tokenizer" else "code"

    def turn() -> float:
        history, target = batch["history"], batch["target"]
        terms = losses(recommender, tokenizer, table[history], table[target], target, embeddings[target])
        train(trained, optimizer, terms[own] + SIA_WEIGHT * terms["sia"] + PSA_WEIGHT * terms["psa"])
        return BATCH

    return turn


def our_search(full: bool, constrained: bool) -> Turn:
    model = our_model().eval()
    users = BEAM_ROWS // N_BEAMS // 2
    work = [full_batch()["history"][:users]] if full else evaluation_batches(MAX_HISTORY, BATCHES, users)

    def turn() -> float:
        for history in work:
            model.generate(history, N_BEAMS, constrained)
        return sum(map(len, work))

    return turn


def reference_search(full: bool) -> Turn:
    from benchmarks.etegrec_reference import Recommender

    table, recommender = our_model().generator.code_table.long(), Recommender().eval()
    history = reference_batch(full)["history"][:2]  # as long as the longest of its batch

    def turn() -> float:
        recommender.search(table[history], N_BEAMS)
        return len(history)

    return turn


def phase_case(phase: str, full: bool) -> Case:
    lengths = "histories of 50 items" if full else "Beauty's lengths"
    return Case(
        f"ETEGRec, {phase} steps, {lengths}", "examples",
        {"genrec": partial(our_phase, phase, full),
         "plain reference": partial(reference_phase, phase, full)},
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
    *(phase_case(phase, full) for phase in PHASES for full in (False, True)),
    *(search_case(full) for full in (False, True)),
]
