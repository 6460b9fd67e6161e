"""Let every generator propose items to each user, with log-probabilities, for rankers to put into order."""

from pathlib import Path

import torch

from genrec.evaluation.evaluator import EVALUATED_SPLITS
from genrec.evaluation.reranking import retrieve, search_by_generation, search_by_scores
from genrec.models.etegrec.module import ETEGRec
from genrec.models.tiger import Tiger
from genrec.networks.generating.history_towers import HistoryTowers
from genrec.params import Evaluate, GenerateCandidates, Trainer, read_section
from genrec.pipeline.command import run_stage
from genrec.sequences.histories import Histories
from genrec.storage.checkpoint import load_model
from genrec.storage.output import replaced

HISTORIES = Path("data/prepared/histories.npz")
TIGER = Path("data/models/tiger.ckpt")
ETEGREC = Path("data/models/etegrec.ckpt")
TWO_TOWER = Path("data/models/two_tower.ckpt")
CANDIDATES = Path("data/candidates")


@torch.inference_mode()
def main() -> None:
    n, trainer = read_section(GenerateCandidates).n_candidates, read_section(Trainer)
    batch_size = read_section(Evaluate).batch_size
    torch.set_num_threads(trainer.num_threads)
    histories = Histories.load(HISTORIES)
    n_items = histories.n_items
    tiger, etegrec = load_model(Tiger, TIGER, n_items=n_items), load_model(ETEGRec, ETEGREC, n_items=n_items)
    two_tower = load_model(HistoryTowers, TWO_TOWER, n_items=n_items)
    searches = {
        "tiger": (search_by_generation(tiger.generator, n), tiger.max_history),
        "etegrec": (search_by_generation(etegrec.generator, n), etegrec.max_history),
        "two_tower": (search_by_scores(two_tower.scores, n), two_tower.max_history),
    }
    with replaced(CANDIDATES) as folder:
        for name, (search, max_history) in searches.items():
            for split in EVALUATED_SPLITS:
                found = retrieve(search, histories, split, max_history, batch_size)
                found.save(folder / f"{name}_{split}.parquet")


if __name__ == "__main__":
    run_stage(main, __doc__)
