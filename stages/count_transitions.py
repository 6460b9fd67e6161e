"""Count which items stood near which in the training part: the baseline of every model, and a memory beside it.

How a pair is weighed is chosen on validation.
"""

from dataclasses import asdict
from pathlib import Path

import torch

from genrec.params.reading import read_seed
from genrec.pipeline.command import run_stage
from genrec.retrieval.memory import DECIDING_USERS, choose_transitions
from genrec.sequences.histories import Histories
from genrec.storage.output import write_metrics

HISTORIES = Path("data/prepared/histories.npz")
TRANSITIONS = Path("data/transitions.npz")
METRICS = Path("reports/count_transitions/metrics.json")


@torch.inference_mode()
def main() -> None:
    torch.set_num_threads(1)
    transitions, chosen = choose_transitions(Histories.load(HISTORIES), DECIDING_USERS, read_seed())
    transitions.save(TRANSITIONS)
    write_metrics({**asdict(chosen), "n_pairs": len(transitions.weights)}, METRICS)


if __name__ == "__main__":
    run_stage(main, __doc__)
