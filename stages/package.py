"""Put the chosen models into one folder with all that recommending takes."""

from pathlib import Path

from genrec.errors import UserError
from genrec.generators.entry import generators
from genrec.params.evaluate import Evaluate
from genrec.params.package import Package
from genrec.params.reading import read_section
from genrec.pipeline.command import run_stage
from genrec.serving.packaging import PackagedModel, Sources, write_package
from genrec.storage.output import read_metrics, write_metrics

HISTORIES = Path("data/prepared/histories.npz")
ITEMS = Path("data/prepared/items.parquet")
USERS = Path("data/prepared/users.parquet")
CODE_TABLE = Path("data/code_table.npy")
ITEM_EMBEDDINGS = Path("data/item_embeddings.npy")
PACKAGE = Path("data/package")
METRICS = Path("reports/package/metrics.json")


def main() -> None:
    chosen, n_beams = read_section(Package).models, read_section(Evaluate).n_beams
    models, checkpoints, ranks = {}, {}, {}
    for generator in generators():
        name = generator.name
        figures = read_metrics(generator.metrics)[name]
        splits = {split: figures[split]["excluded"] for split in ("validation", "test")}
        models[name] = PackagedModel(name, generator.title, generator.network, generator.ranks, splits)
        checkpoints[name], ranks[name] = generator.checkpoint, generator.ranks_file
    unknown = next((name for name in chosen if name not in models), None)
    if unknown is not None:
        raise UserError(f"package.models: no generator named {unknown!r}; known: {', '.join(models)}")
    sources = Sources(HISTORIES, ITEMS, USERS, CODE_TABLE, ITEM_EMBEDDINGS, checkpoints, ranks)
    write_metrics(write_package(PACKAGE, [models[name] for name in chosen], n_beams, sources), METRICS)


if __name__ == "__main__":
    run_stage(main, __doc__)
