"""Turn data/raw/ into numbered users, items and histories in order of time."""

from pathlib import Path

from genrec.data.manifest import Manifest
from genrec.data.preparation import describe, prepare
from genrec.data.readers import check_fits, read_interactions, read_items, read_users
from genrec.errors import UserError
from genrec.params.prepare_data import PrepareData
from genrec.params.reading import read_section
from genrec.pipeline.command import run_stage
from genrec.storage.output import replaced, write_metrics, write_parquet

RAW = Path("data/raw")
PREPARED = Path("data/prepared")
METRICS = Path("reports/prepare_data/metrics.json")


def main() -> None:
    config = read_section(PrepareData)
    manifest = Manifest.load(RAW)
    interactions = read_interactions(RAW, manifest)
    item_table = read_items(RAW, manifest, interactions["item_key"])
    user_table = read_users(RAW, manifest, interactions["user_key"])

    prepared = prepare(
        interactions,
        min_user_interactions=config.min_user_interactions,
        min_item_interactions=config.min_item_interactions,
        repeats=config.repeats,
        ties=config.ties,
    )
    if len(prepared.users) < 2:
        raise UserError(
            f"one user is left of the {prepared.statistics['users_read']:,} read, but a ranker learns from users and"
            " chooses its epoch by others; give data of more users, or lower prepare_data.min_user_interactions"
        )
    check_fits(RAW, manifest.items, prepared.items, item_table)
    check_fits(RAW, manifest.users, prepared.users, user_table)
    items, items_without_row = describe(prepared.items, item_table)
    users, users_without_row = describe(prepared.users, user_table)

    with replaced(PREPARED) as folder:
        prepared.histories.save(folder / "histories.npz")
        write_parquet(prepared.interactions, folder / "interactions.parquet")
        write_parquet(items, folder / "items.parquet")
        write_parquet(users, folder / "users.parquet")
    without_row = {"items_without_row": items_without_row, "users_without_row": users_without_row}
    write_metrics({**prepared.statistics, **without_row}, METRICS)


if __name__ == "__main__":
    run_stage(main, __doc__)
