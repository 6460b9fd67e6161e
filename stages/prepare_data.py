"""Turn data/raw/ into numbered users, items and histories in order of time."""

from pathlib import Path

import pandas as pd

from genrec.data.manifest import Manifest, RawFile
from genrec.data.preparation import PreparedTables, TimeSplit, describe, prepare
from genrec.data.readers import check_fits, interaction_batches, read_interactions, read_items, read_users
from genrec.data.streaming import InteractionStore
from genrec.errors import UserError
from genrec.params.prepare_data import PrepareData
from genrec.params.reading import read_section
from genrec.params.runtime import Runtime
from genrec.pipeline.command import run_stage
from genrec.storage.output import replaced, write_metrics, write_parquet

RAW = Path("data/raw")
PREPARED = Path("data/prepared")
METRICS = Path("reports/prepare_data/metrics.json")


def main() -> None:
    config, manifest = read_section(PrepareData), Manifest.load(RAW)
    with replaced(PREPARED) as folder:
        prepare_here = in_stream if config.engine == "stream" else in_memory
        prepared, item_table, user_table = prepare_here(config, manifest, folder / "interactions.parquet")
        if len(prepared.users) < 2:
            raise UserError(
                f"one user is left of the {prepared.statistics['users_read']:,} read, but a ranker learns from users"
                " and chooses its epoch by others; give data of more users, or lower"
                " prepare_data.min_user_interactions"
            )
        items, items_without_row = described(manifest.items, prepared.items, item_table)
        users, users_without_row = described(manifest.users, prepared.users, user_table)
        histories, figures = prepared.histories, prepared.statistics
        if config.held_out_users:
            n_held_out = min(config.held_out_users, histories.n_users)
            histories, figures = histories.held_out_of(n_held_out), {**figures, "held_out_users": n_held_out}
        histories.save(folder / "histories.npz")
        write_parquet(items, folder / "items.parquet")
        write_parquet(users, folder / "users.parquet")
    without_row = {"items_without_row": items_without_row, "users_without_row": users_without_row}
    write_metrics({**figures, **without_row}, METRICS)


def in_memory(config: PrepareData, manifest: Manifest, file: Path) -> tuple[PreparedTables, pd.DataFrame, pd.DataFrame]:
    """Prepare over whole arrays; the interactions into a file, and the tables of items and users as they were read."""
    interactions = read_interactions(RAW, manifest)
    item_table = read_items(RAW, manifest, interactions["item_key"])
    user_table = read_users(RAW, manifest, interactions["user_key"])
    prepared = prepare(
        interactions,
        min_user_interactions=config.min_user_interactions,
        min_item_interactions=config.min_item_interactions,
        repeats=config.repeats,
        ties=config.ties,
        split=split_of(config),
    )
    write_parquet(prepared.interactions, file)
    return prepared, item_table, user_table


def in_stream(config: PrepareData, manifest: Manifest, file: Path) -> tuple[PreparedTables, pd.DataFrame, pd.DataFrame]:
    """As `in_memory`, in a database on disk."""
    runtime = read_section(Runtime)
    with InteractionStore.opened(file.parent, runtime.memory_gb, runtime.progress_bar) as store:
        store.load(interaction_batches(RAW, manifest))
        item_table = read_items(RAW, manifest, store.keys("item"))
        user_table = read_users(RAW, manifest, store.keys("user"))
        store.filter(config.min_user_interactions, config.min_item_interactions, config.repeats)
        return store.write(config.ties, file, split_of(config)), item_table, user_table


def split_of(config: PrepareData) -> TimeSplit | None:
    """The moments of a split in time; None for leave-one-out."""
    if config.split == "leave_one_out":
        return None
    return TimeSplit(config.time.train_until, config.time.validate_until, config.time.targets == "all")


def described(raw: RawFile | None, numbered: pd.DataFrame, table: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The source's own columns beside ids and keys, and how many have no row there."""
    check_fits(RAW, raw, numbered, table)
    return describe(numbered, table)


if __name__ == "__main__":
    run_stage(main, __doc__)
