"""An epoch of SASRec on Beauty: 64-d, 2 blocks, 2,048 sampled negatives, batch 128 (a fifth of it a turn)."""

from itertools import islice

import torch

from benchmarks.beauty import histories
from benchmarks.harness import Case, Turn
from benchmarks.paper_size import train
from genrec.models.sasrec import SASRec
from genrec.pipeline.command import keep_freed_memory
from genrec.sequences.batches import segment_loader


def ours() -> Turn:
    keep_freed_memory()
    data = histories()
    model = SASRec(data.n_items, dropout=0.5, loss="sampled_softmax", num_negatives=2048)
    model.log = lambda *_, **__: None  # type: ignore[method-assign]
    loader = segment_loader(data, 50, 128, seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)
    batches = len(loader) // 5

    def turn() -> float:
        for batch in islice(iter(loader), batches):
            train(model, optimizer, model.training_step(batch, 0))
        return batches / len(loader)

    return turn


CASES = [Case("SASRec training on Beauty", "epochs", {"genrec": ours})]
