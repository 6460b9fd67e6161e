"""The whole pipeline as a user runs it, on small synthetic data: results, MLflow's runs, one parameter changed."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.pipeline

GENERATORS = ["etegrec", "parallel", "tiger", "two_tower"]
MODELS = sorted(
    ["item_knn", "popularity", "sasrec", "sasrec_with_memory", *GENERATORS]
    + [f"{name}_{kind}" for name in GENERATORS for kind in ("best_signal", "ranked", "with_memory")]
)


def test_all_models_stand_in_the_table_of_results(project):
    results = json.loads((project.folder / "reports/results.json").read_text())
    page = (project.folder / "reports/results.md").read_text()
    assert sorted(results) == MODELS
    assert page.count("| TIGER |") == 4  # test and validation, history kept and excluded
    assert page.count("| TIGER, ranked |") == 2  # rankers learned from validation
    values = results["tiger_ranked"]["values"]["test"]["kept"]
    assert values["recall_at_20"] == values["candidate_recall"]  # of twenty candidates, in any order
    low, high = results["tiger"]["intervals"]["test"]["kept"]["recall_at_10"]
    assert low <= results["tiger"]["values"]["test"]["kept"]["recall_at_10"] <= high


def test_the_package_answers_and_is_the_champion(project):
    user = pq.read_table(project.folder / "data/package/users.parquet")["user_key"][0].as_py()
    answer = json.loads(project.run("python", "-m", "genrec.recommend", "--user", user, "--k", "5", "--json"))
    assert len(answer["recommendations"]) == 5
    script = (
        "import mlflow, pandas; mlflow.set_tracking_uri('sqlite:///mlflow.db');"
        "model = mlflow.pyfunc.load_model('models:/genrec@champion');"
        f"found = model.predict(pandas.DataFrame({{'user': ['{user}']}}), params={{'k': 5}});"
        "print('items:' + ','.join(found['item']))"
    )
    # MLflow warns behind it, whatever is ignored
    (line,) = [line for line in project.run("python", "-c", script).splitlines() if line.startswith("items:")]
    assert line.removeprefix("items:").split(",") == [each["item"] for each in answer["recommendations"]]


def test_every_user_is_recommended_what_the_evaluation_lists_by_every_packaged_model(project):
    folder = project.folder / "data"
    keys = ["", *pq.read_table(folder / "prepared/items.parquet")["item_key"].to_pylist()]
    for model in json.loads((folder / "package/package.json").read_text())["models"]:
        name, file = model["name"], f"{model['name']}.parquet"
        project.run("python", "-m", "genrec.recommend", "--all", "-o", file, "--model", name, "--without-last", "1")
        given: dict[str, list[str]] = {}
        for row in pq.read_table(project.folder / file).to_pylist():
            given.setdefault(row["user"], []).append(row["item"])
        (project.folder / file).unlink()
        lists = np.load(folder / f"ranks/{model['base']}.npz")[f"{name}/items"]
        listed = [[keys[item] for item in row if item] for row in lists]
        assert [of_user[: len(row)] for of_user, row in zip(given.values(), listed, strict=True)] == listed


def test_a_second_run_executes_nothing_and_publishes_nothing(project):
    before = project.runs()
    output = project.dvc("repro")
    assert output.count("didn't change, skipping") == 24
    assert output.count("already published") == 1
    assert project.runs() == before
    assert project.run("git", "status", "--short") == ""


def test_the_run_in_mlflow_is_complete(project):
    run = project.runs()[0]
    assert run["status"] == "FINISHED"
    assert run["params"]["model.code_num"] == "16"
    of_each_kind = {"ndcg_tiger", "train_tiger/val_ndcg_at_10", "stages/evaluate_tiger/tiger/test/kept/recall_at_10"}
    assert of_each_kind <= set(run["metrics"])


def test_a_deleted_store_is_filled_again_without_any_training(project):
    (project.folder / "mlflow.db").unlink()
    output = project.dvc("repro")
    assert output.count("didn't change, skipping") == 24
    assert "train_tiger/val_ndcg_at_10" in project.runs()[0]["metrics"]


def test_what_was_not_published_and_what_another_store_lacks_is_published_by_the_next_repro(project, monkeypatch):
    (project.folder / "mlflow.db").unlink()
    with monkeypatch.context() as off:
        off.setitem(project.environment, "GENREC_TRACKING", "off")
        assert "tracking is off: no run published" in project.dvc("repro")
    assert not (project.folder / "mlflow.db").exists()
    with monkeypatch.context() as elsewhere:
        elsewhere.setitem(project.environment, "MLFLOW_TRACKING_URI", "sqlite:///../other/mlflow.db")
        assert project.dvc("repro").count(" created in ") == 1
    assert project.dvc("repro").count(" created in ") == 1
    assert [run["status"] for run in project.runs()] == ["FINISHED"]
    assert project.run("git", "status", "--short") == ""


def test_one_parameter_reaches_tables_vocabularies_and_heads(project):
    project.dvc("exp", "run", "-n", "more-codes", "-S", "model.code_num=32")
    changed = project.run("git", "diff", "--stat", "params.yaml")
    table = np.load(project.folder / "data/code_table.npy")
    assert "1 insertion(+), 1 deletion(-)" in changed
    assert 16 <= table.max() < 32
    assert {run["params"]["model.code_num"] for run in project.runs()} == {"16", "32"}
    assert {run["status"] for run in project.runs()} == {"FINISHED"}
    project.run("git", "checkout", "-q", ".")
    assert "Data and pipelines are up to date." in project.dvc("checkout") + project.dvc("status", "report")


def test_fewer_levels_make_shorter_semantic_ids(project):
    fewer, tolerant = "model.num_levels=2", "train_rqvae.gates.max_collision_rate=1.0"
    project.dvc("exp", "run", "-n", "two-levels", "-S", fewer, "-S", tolerant)
    assert np.load(project.folder / "data/code_table.npy").shape[1] == 3
    project.run("git", "checkout", "-q", ".")
    project.dvc("checkout")
