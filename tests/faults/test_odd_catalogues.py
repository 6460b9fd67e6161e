"""Catalogues and histories of odd shapes go through the whole pipeline, or are refused by name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faults.stages_in_processes import STAGES, Answer, run_stage_process, write_params
from genrec.codes.code_table import check_capacity
from genrec.errors import UserError

ALL = ["fetch_data", "prepare_data", *STAGES[2:]]


def walk(folder: Path, rows: list[str], stages: list[str] = ALL, **changes: Any) -> Answer:
    """Run stages on interactions of `user,item,time`, up to the first that fails."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.csv").write_text("user_id,item_id,timestamp\n" + "".join(f"{row}\n" for row in rows))
    given = {"fetch_data": {"name": "interactions", "path": "rows.csv", "columns": {"rating": ""}}}
    write_params(folder, given, {"prepare_data": {"min_user_interactions": 3}}, changes)
    for stage in stages:
        answer = run_stage_process(folder, stage)
        if answer.status:
            break
    return answer


@pytest.mark.faults
@pytest.mark.fault("users with 10,000 items")
def test_users_with_ten_thousand_items(tmp_path: Path) -> None:
    rows = [f"u{user},i{(step * (user + 1)) % 61},{step}" for user in range(3) for step in range(10_000)]
    short = {"max_epochs": 1, "batch_size": 512}
    joint = {**short, "max_epochs": 2, "final_stage": {"max_epochs": 1}}
    answer = walk(tmp_path, rows, train_sasrec=short, train_tiger=short, train_etegrec=joint)
    assert answer.status == 0, answer.said


@pytest.mark.faults
@pytest.mark.fault("3 items in all")
def test_three_items_in_all(tmp_path: Path) -> None:
    rows = [f"u{user},i{(user + step) % 3},{step}" for user in range(6) for step in range(6)]
    answer = walk(tmp_path, rows)
    assert answer.status == 0, answer.said


@pytest.mark.faults
@pytest.mark.fault("one item, or two users")
@pytest.mark.parametrize(("n_users", "n_items"), [(6, 1), (2, 9)])
def test_one_item_or_two_users_in_all(tmp_path: Path, n_users: int, n_items: int) -> None:
    rows = [f"u{user},i{(user + step) % n_items},{step}" for user in range(n_users) for step in range(8)]
    answer = walk(tmp_path, rows)
    assert answer.status == 0, answer.said


@pytest.mark.faults
@pytest.mark.fault("all items popular once")
def test_all_items_popular_once(tmp_path: Path) -> None:
    rows = [f"u{user},i{user}_{step},{step}" for user in range(6) for step in range(5)]
    answer = walk(tmp_path, rows)
    assert answer.status == 0, answer.said


@pytest.mark.faults
@pytest.mark.fault("users with the fewest items, so that nothing trains")
def test_users_who_have_three_items_each(tmp_path: Path) -> None:
    rows = [f"u{user},i{(user + step) % 7},{step}" for user in range(20) for step in range(3)]
    answer = walk(tmp_path, rows)
    assert answer.status == 1
    assert "Traceback" not in answer.said
    assert "nothing to train on: none of the 20 users has 4 interactions" in answer.said


@pytest.mark.faults
@pytest.mark.fault("identical embeddings of all items")
def test_identical_embeddings(tmp_path: Path) -> None:
    rows = [f"u{user},i{(user + step) % 20},{step}" for user in range(20) for step in range(6)]
    assert walk(tmp_path, rows, ["fetch_data", "prepare_data"]).status == 0
    np.save(tmp_path / "data/item_embeddings.npy", np.ones((21, 4), np.float32))
    answer = run_stage_process(tmp_path, "train_rqvae")
    assert answer.status == 1
    assert "the codebooks have collapsed, all 20 items have the codes" in answer.said
    assert "Traceback" not in answer.said


@pytest.mark.fault("more items than semantic IDs")
@pytest.mark.parametrize(
    ("n_items", "max_collision_rate", "message"),
    [
        (28, 1.0, "28 items are more than the 27 semantic IDs of model.code_num=3 and model.num_levels=2 with a"),
        (
            27,
            0.5,
            "27 items are more than the 9 rows of codes .* at least 0.667 of them collide, and train_rqvae",
        ),
    ],
)
def test_a_catalogue_larger_than_its_semantic_ids_is_refused(n_items, max_collision_rate, message):
    with pytest.raises(UserError, match=message):
        check_capacity(n_items, 3, 2, max_collision_rate)


@pytest.mark.fault("more items than semantic IDs")
@pytest.mark.parametrize(("n_items", "max_collision_rate"), [(27, 1.0), (9, 0.0), (10, 0.1), (1, 0.0)])
def test_a_catalogue_that_fits_is_not_refused(n_items, max_collision_rate):
    check_capacity(n_items, 3, 2, max_collision_rate)
