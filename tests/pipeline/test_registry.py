"""A package becomes a version of the registered model once, and the champion where it is better."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from packages import N_USERS, make_world

from genrec.pipeline.registry import paired_interval, register_package
from genrec.serving.recommender import Recommender, Request
from genrec.storage.files import save_arrays


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # MLflow's own use of SQLAlchemy and of pandas
def test_packages_are_registered_once_and_the_better_one_is_the_champion(tmp_path, empty_database, monkeypatch):
    import mlflow
    from mlflow import MlflowClient

    shutil.copy(empty_database, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("genrec", artifact_location=(tmp_path / "mlartifacts").as_uri())
    (tmp_path / "data").mkdir()
    world = make_world(tmp_path / "data")
    models = ("sasrec", "tiger", "parallel_with_memory")

    def publish(rank: int) -> str:
        """Register a package whose users' held-out items all stand at a rank; the champion after it."""
        save_arrays({"sasrec/validation/excluded": np.full(N_USERS, rank)}, world.folder / "sasrec.npz")
        world.repackage(*models)
        run = client.create_run(experiment)
        register_package(client, run.info.run_id, tmp_path, "genrec")
        return str(client.get_model_version_by_alias("genrec", "champion").version)

    assert [publish(rank) for rank in (5, 5, 7, 2)] == ["1", "1", "1", "3"]
    versions = {each.version: each.tags["genrec.verdict"] for each in client.search_model_versions("name='genrec'")}
    assert sorted(map(int, versions)) == [1, 2, 3]

    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    model = mlflow.pyfunc.load_model("models:/genrec@champion")
    frame = pd.DataFrame({"user": ["u1", None], "items": [None, "i1,i2"]})
    given = model.predict(frame, params={"k": 4})
    answers = Recommender.load(world.package).recommend([Request(user="u1", k=4), Request(items=["i1", "i2"], k=4)])
    assert given["item"].tolist() == [each.item for answer in answers for each in answer.recommendations]
    everybody = [f"u{user}" for user in range(1, N_USERS + 1)]
    for name in ("tiger", "parallel_with_memory"):
        given = model.predict(pd.DataFrame({"user": everybody}), params={"k": 10, "model": name, "without_last": 1})
        answers = Recommender.load(world.package).recommend(
            [Request(user=user, model=name, without_last=1) for user in everybody]
        )
        assert given["item"].tolist() == [each.item for answer in answers for each in answer.recommendations]
    assert not list(Path(tmp_path / "mlartifacts").rglob("*.pkl"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("step", ["create_model_version", "set_registered_model_alias", "set_model_version_tag"])
def test_what_a_failure_left_undone_is_done_by_the_next_call(tmp_path, empty_database, monkeypatch, step):
    from mlflow import MlflowClient

    shutil.copy(empty_database, tmp_path / "mlflow.db")
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.create_experiment("genrec", artifact_location=(tmp_path / "mlartifacts").as_uri())
    (tmp_path / "data").mkdir()
    make_world(tmp_path / "data")
    run = client.create_run(experiment).info.run_id

    def fails(*_, **__):
        raise OSError("the server is gone")

    with monkeypatch.context() as trouble:
        trouble.setattr(client, step, fails)
        with pytest.raises(OSError, match="the server is gone"):
            register_package(client, run, tmp_path, "genrec")
    register_package(client, run, tmp_path, "genrec")
    (version,) = client.search_model_versions("name='genrec'")
    assert version.tags["genrec.verdict"]
    assert client.get_model_version_by_alias("genrec", "champion").version == version.version


def test_nothing_is_registered_without_a_package(tmp_path):
    register_package(None, "run", tmp_path, "genrec")  # type: ignore[arg-type]


def test_an_interval_that_holds_zero_is_no_improvement():
    random = np.random.default_rng(0)
    ours, theirs = random.integers(1, 30, 200), random.integers(1, 30, 200)
    difference, low, high = paired_interval(ours, theirs, np.arange(200))
    assert low < difference < high
    assert low < 0 < high


def test_targets_of_one_user_are_drawn_together():
    random = np.random.default_rng(0)
    ours, theirs, users = random.integers(1, 30, 200), random.integers(1, 30, 200), np.arange(200)
    once = paired_interval(ours, theirs, users)
    # what a user took four times says no more than once
    assert paired_interval(ours.repeat(4), theirs.repeat(4), users.repeat(4)) == pytest.approx(once)
    _, low, high = paired_interval(ours.repeat(4), theirs.repeat(4), np.arange(800))
    assert high - low < 0.7 * (once[2] - once[1])
