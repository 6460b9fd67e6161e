"""Put the chosen models into one folder with all that recommending takes."""

from pathlib import Path

from genrec.errors import UserError
from genrec.generators.entry import GeneratorEntry, generators
from genrec.params.build_digits import BuildDigits
from genrec.params.evaluate import Evaluate
from genrec.params.evaluate_ranker import EvaluateRanker
from genrec.params.extract_embeddings import ExtractEmbeddings
from genrec.params.generate_candidates import GenerateCandidates
from genrec.params.package import Package
from genrec.params.reading import read_section, read_seed
from genrec.params.train_ranker import TrainRanker
from genrec.params.trainer import Trainer
from genrec.pipeline.command import run_stage
from genrec.serving.packaging import TOKENIZER, Origin, PackagedModel, RankedBy, Sources, Weights, write_package
from genrec.storage.output import read_metrics, write_metrics

HISTORIES = Path("data/prepared/histories.npz")
ITEMS = Path("data/prepared/items.parquet")
USERS = Path("data/prepared/users.parquet")
CODE_TABLE = Path("data/code_table.npy")
ITEM_EMBEDDINGS = Path("data/item_embeddings.npy")
TRANSITIONS = Path("data/transitions.npz")
RQVAE = Path("data/models/rqvae.ckpt")
RANKERS = Path("data/models/rankers")
RANKER_METRICS = Path("reports/evaluate_ranker/metrics.json")
RANKER = "genrec.ranking.ranker.Ranker"
TOKENIZER_NETWORK = "genrec.codes.tokenizer.rqvae.RqVaeNetwork"
PACKAGE = Path("data/package")
METRICS = Path("reports/package/metrics.json")


def main() -> None:
    chosen, n_beams = read_section(Package).models, read_section(Evaluate).n_beams
    models = {model.name: model for generator in generators() for model in variants(generator)}
    unknown = next((name for name in chosen if name not in models), None)
    if unknown is not None:
        raise UserError(f"package.models: no model named {unknown!r}; known: {', '.join(models)}")
    weights, ranks = {TOKENIZER: Weights(TOKENIZER_NETWORK, RQVAE)}, {}
    for generator in generators():
        weights[generator.name] = Weights(generator.network, generator.checkpoint)
        weights[generator.ranked_name] = Weights(RANKER, RANKERS / generator.checkpoint.name)
        ranks[generator.name] = ranks[generator.with_memory_name] = generator.ranks_file
    sources = Sources(HISTORIES, ITEMS, USERS, CODE_TABLE, ITEM_EMBEDDINGS, TRANSITIONS, weights, ranks)
    portable, origin = read_section(Trainer).portable, origin_of_codes()
    figures = write_package(PACKAGE, [models[name] for name in chosen], n_beams, sources, origin, portable)
    write_metrics(figures, METRICS)


def origin_of_codes() -> Origin:
    words, digits = read_section(ExtractEmbeddings).words, read_section(BuildDigits)
    return Origin(
        words.columns, words.dim, digits.embedding_digits, digits.word_digits, digits.code_num, digits.iterations,
        read_seed(),
    )  # fmt: skip


def variants(generator: GeneratorEntry) -> list[PackagedModel]:
    """A model alone, with the memory of transitions in its validated share, and with its ranker if it has one."""
    figures, name, title = read_metrics(generator.metrics), generator.name, generator.title
    alone, both = (
        {split: figures[row][split]["excluded"] for split in ("validation", "test")}
        for row in (name, generator.with_memory_name)
    )
    share = figures[generator.with_memory_name]["memory_share"]
    models = [
        PackagedModel(name, title, generator.ranks, alone, name),
        PackagedModel(generator.with_memory_name, f"{title} with memory", generator.ranks, both, name, share),
    ]
    if generator.code_table is not None:
        ranked = {"test": read_metrics(RANKER_METRICS)[generator.ranked_name]["test"]["excluded"]}
        candidates, evaluation = read_section(GenerateCandidates), read_section(EvaluateRanker)
        ranker = RankedBy(
            candidates.n_candidates,
            read_section(TrainRanker).max_history,
            evaluation.rating_weight,
        )
        models.append(
            PackagedModel(generator.ranked_name, f"{title}, ranked", generator.ranks, ranked, name, ranker=ranker)
        )
    return models


if __name__ == "__main__":
    run_stage(main, __doc__)
