"""Let every generator propose items to each user, with log-probabilities, for rankers to put into order."""

from contextlib import nullcontext
from pathlib import Path

import torch

from genrec.generators.entry import proposing_generators
from genrec.layers.device import device_of
from genrec.layers.processes import end_others, process_rank
from genrec.layers.shards import join_processes
from genrec.params.evaluate import Evaluate
from genrec.params.generate_candidates import GenerateCandidates
from genrec.params.reading import read_section
from genrec.params.trainer import Trainer
from genrec.pipeline.command import run_stage
from genrec.retrieval.proposals import retrieve, search_by_generation, search_by_scores
from genrec.sequences.histories import EVALUATED_SPLITS, Histories
from genrec.storage.checkpoint import load_model
from genrec.storage.output import replaced

HISTORIES = Path("data/prepared/histories.npz")
CANDIDATES = Path("data/candidates")


@torch.inference_mode()
def main() -> None:
    n, batch_size = read_section(GenerateCandidates).n_candidates, read_section(Evaluate).batch_size
    trainer = read_section(Trainer)
    join_processes(trainer.devices, trainer.gpus)
    torch.set_num_threads(trainer.num_threads)
    histories, device = Histories.load(HISTORIES), device_of(trainer.gpus)
    models = {  # all of them before the first search
        generator: load_model(generator.network_class(), generator.checkpoint, n_items=histories.n_items)
        for generator in proposing_generators()
    }
    # of several processes the first alone writes
    with replaced(CANDIDATES) if process_rank() == 0 else nullcontext() as folder:
        for generator, model in models.items():
            model.to(device)
            search = (
                search_by_generation(model.generator, n)
                if generator.ranks == "beams"
                else search_by_scores(model.scores, n)
            )
            for split in EVALUATED_SPLITS:
                found = retrieve(search, histories, split, model.max_history, batch_size, device)
                if folder is not None:
                    user_ids = histories.users_of(histories.examples(split))
                    found.save(folder / f"{generator.name}_{split}.parquet", user_ids)
    end_others()


if __name__ == "__main__":
    run_stage(main, __doc__)
