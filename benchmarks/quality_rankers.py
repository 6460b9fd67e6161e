"""Put what the models of `benchmarks.quality` propose into a ranker's order:

    python -m benchmarks.quality_rankers DATA/prepared --set scientific --out data/quality/scientific

Every model and seed whose training has ended proposes `N` items to each user. As in the pipeline, a ranker learns from
validation's targets, which the model has not seen, by what the model says, the SASRec of that seed (trained where
it is not there), the memory, the item's popularity and its codes; one user in five chooses the epoch. A run's folder
gets `ranked.npz`, as `ranks.npz` but of the test alone, and `ranked.json`; one that is there is not made again.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.quality import SETS, VARIANTS, Experiment, Variant, ranks_of, write_json
from benchmarks.quality_codes import CODE_NUM, tokenized
from genrec.codes.code_table import build_code_table
from genrec.models.etegrec.module import ETEGRec
from genrec.models.sasrec import SASRec
from genrec.models.tiger import Tiger
from genrec.pipeline.command import keep_freed_memory
from genrec.ranking.feature_batches import feature_loader
from genrec.ranking.fit_ranker import RankerSettings, RatingScale, fit_ranker
from genrec.ranking.item_attributes import stack_attributes
from genrec.ranking.ranker import Ranker
from genrec.ranking.rows import SIGNALS, RankingRows, RowBuilder, draw_users
from genrec.retrieval.proposals import reorder, retrieve, search_by_generation, search_by_scores
from genrec.retrieval.ranking import rank_found
from genrec.sequences.histories import EVALUATED_SPLITS
from genrec.storage.checkpoint import load_model
from genrec.storage.files import save_arrays
from genrec.training.curves import CurveLogger

N = 50  # candidates a user
# those of params.yaml
SHAPE = {"kind": "wide_deep", "embedding_dim": 8, "hidden_dims": (32,), "dropout": 0.2}
MAX_HISTORY, HOLDOUT = 20, 0.2
USERS_AT_ONCE, ROWS_AT_ONCE = 256, 8192


def settings_of(seed: int) -> RankerSettings:
    """Those of params.yaml."""
    return RankerSettings(
        batch_size=2048, learning_rate=0.01, weight_decay=1e-4, max_epochs=10, patience=2, loss_weighting="equal",
        gpus=0, precision="32-true", seed=seed, progress_bar=False, devices=1, num_nodes=1,
    )  # fmt: skip


@torch.inference_mode()
def described(model: Any, experiment: Experiment, sasrec: SASRec) -> tuple[list[Any], list[RankingRows]]:
    """The candidates of validation and test, and a row for each."""
    histories = experiment.histories
    searches = isinstance(model, Tiger | ETEGRec)
    search = search_by_generation(model.generator, N) if searches else search_by_scores(model.scores, N)
    max_history = min(MAX_HISTORY, experiment.max_history)
    builder = RowBuilder.fit(histories, sasrec.scores, experiment.memory(), max_history, torch.device("cpu"))
    found = [retrieve(search, histories, split, experiment.max_history, USERS_AT_ONCE) for split in EVALUATED_SPLITS]
    return found, [builder.rows(each, split) for each, split in zip(found, EVALUATED_SPLITS, strict=True)]


def rank(experiment: Experiment, variant: Variant, seed: int, folder: Path) -> dict[str, Any]:
    """Train the ranker of a run's candidates, and write the test's ranks in its order."""
    started = time.process_time()
    histories = experiment.histories
    model = load_model(variant.kind, folder / "model.ckpt").eval()
    base = experiment.run("sasrec", seed)
    found, rows = described(model, experiment, load_model(SASRec, base / "model.ckpt").eval())
    tokenizer, embeddings = tokenized("rqkmeans", experiment.vectors(base), seed, folder)
    codes = build_code_table(tokenizer.semantic_codes(embeddings[1:]), CODE_NUM)
    attributes = stack_attributes(codes, experiment.items, ())
    torch.manual_seed(seed)
    ranker = Ranker(
        SHAPE["kind"], histories.n_items, [int(size) for size in attributes.max(0).values + 1], len(SIGNALS),
        SHAPE["embedding_dim"], SHAPE["hidden_dims"], SHAPE["dropout"],
    )  # fmt: skip
    ranker.set_attributes(attributes)
    holdout = draw_users(histories.users_of(histories.examples("validation")), HOLDOUT, seed)
    curves = CurveLogger()
    fit_ranker(
        ranker, rows[0], holdout, settings_of(seed), RatingScale.of(None), str(folder / "ranker"), curves,
        f"ranker of {folder.name}",
    )  # fmt: skip
    with torch.inference_mode():
        batches = feature_loader(rows[1].features, None, ROWS_AT_ONCE)
        scores = torch.cat([ranker.eval().scores(x, 0.0) for x in batches])
    lists = reorder(found[1], rows[1].users, rows[1].places, scores)
    ranks = ranks_of("test", "+ranker", rank_found(lists, histories, "test", 10, 512))
    save_arrays(ranks, folder / "ranked.npz")
    return {"cpu_minutes": (time.process_time() - started) / 60, **curves.summary(ranker.monitor, "max")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path, help="the folder that prepare_data writes")
    parser.add_argument("--set", choices=SETS, required=True, dest="name", help="whose settings to take")
    parser.add_argument("--out", type=Path, required=True, help="where benchmarks.quality wrote")
    parser.add_argument("--models", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    experiment = Experiment.of(arguments.prepared, SETS[arguments.name], arguments.out)
    runs = [(file.parent, json.loads(file.read_text())) for file in sorted(arguments.out.glob("*/run.json"))]
    for folder, run in runs:
        if run["model"] in arguments.models and not (folder / "ranked.json").exists():
            summary = rank(experiment, VARIANTS[run["model"]], run["seed"], folder)
            write_json(summary, folder / "ranked.json")
            print(json.dumps({"model": run["model"], "seed": run["seed"], **summary}), flush=True)


if __name__ == "__main__":
    main()
