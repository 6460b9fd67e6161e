"""Curves: rows by epoch, the csv and back, what listeners hear."""

import csv

import pytest

from genrec.training.curves import CurveLogger, write_curves


def read(file):
    """The rows of a csv as {epoch: {name: value}}, blanks left out."""
    with file.open(encoding="utf-8") as stream:
        return {
            int(row.pop("epoch")): {name: float(value) for name, value in row.items() if value}
            for row in csv.DictReader(stream)
        }


ROWS = {0: {"train_loss": 2.5}, 2: {"train_loss": 1.25, "val_loss": 3.0}, 1: {"val_loss": 1e-7, "lr": 0.0}}


def test_what_is_written_is_read_back(tmp_path):
    write_curves(ROWS, tmp_path / "reports" / "history.csv")
    assert read(tmp_path / "reports" / "history.csv") == ROWS


def test_the_file_has_blanks_where_an_epoch_did_not_measure(tmp_path):
    write_curves(ROWS, tmp_path / "history.csv")
    assert (tmp_path / "history.csv").read_text() == "epoch,lr,train_loss,val_loss\n0,,2.5,\n1,0,,1e-07\n2,,1.25,3\n"


def test_numbers_keep_six_significant_digits(tmp_path):
    write_curves({0: {"a": 1 / 3, "b": 123456789.0}}, tmp_path / "history.csv")
    assert (tmp_path / "history.csv").read_text() == "epoch,a,b\n0,0.333333,1.23457e+08\n"


def test_the_same_rows_in_another_order_write_the_same_bytes(tmp_path):
    write_curves(ROWS, tmp_path / "a.csv")
    write_curves({epoch: dict(reversed(ROWS[epoch].items())) for epoch in (1, 2, 0)}, tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_no_epochs_write_a_head_alone(tmp_path):
    write_curves({}, tmp_path / "history.csv")
    assert (tmp_path / "history.csv").read_text() == "epoch\n"


def test_what_one_epoch_logs_in_parts_is_one_row():
    logger = CurveLogger()
    logger.log_metrics({"val_loss": 2.0, "epoch": 3}, step=40)
    logger.log_metrics({"train_loss": 1.0, "epoch": 3}, step=41)
    assert logger.rows == {3: {"val_loss": 2.0, "train_loss": 1.0}}


def test_a_second_stage_goes_on_counting():
    logger = CurveLogger(first_epoch=4)
    logger.log_metrics({"train_loss": 1.0, "epoch": 0}, step=0)
    assert logger.rows == {4: {"train_loss": 1.0}}


def test_a_listener_hears_each_measurement_under_the_whole_runs_epoch():
    heard = []
    logger = CurveLogger(lambda epoch, values: heard.append((epoch, dict(values))), first_epoch=4)
    logger.log_metrics({"val_loss": 2.0, "epoch": 1}, step=9)
    assert heard == [(5, {"val_loss": 2.0})]


def test_what_is_kept_is_restored():
    logger, other = CurveLogger(), CurveLogger()
    logger.rows = {0: {"a": 1.0}, 10: {"a": 2.0, "b": 3.0}}
    other.restore(logger.state())
    assert other.rows == logger.rows


def test_a_restored_logger_shares_nothing_with_the_kept_state():
    logger, other = CurveLogger(), CurveLogger()
    logger.rows = {0: {"a": 1.0}}
    state = logger.state()
    other.restore(state)
    other.log_metrics({"b": 2.0, "epoch": 0})
    assert (logger.rows, state) == ({0: {"a": 1.0}}, {"0": {"a": 1.0}})


@pytest.mark.parametrize(("mode", "value", "epoch"), [("max", 0.5, 2), ("min", 0.1, 4)])
def test_the_summary_names_the_best_value_and_its_epoch(mode, value, epoch):
    logger = CurveLogger()
    logger.rows = {0: {"val": 0.2}, 1: {"train": 9.0}, 2: {"val": 0.5}, 3: {"val": 0.5}, 4: {"val": 0.1}}
    assert logger.summary("val", mode) == {"best_val": value, "best_epoch": epoch, "n_epochs": 5}
