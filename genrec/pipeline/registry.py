"""MLflow's registry of models: each published package becomes a version, and the best one the champion.

A package is logged as a pyfunc model to the run that shows its state. The alias `champion` moves only to a package
that is better on validation than the present champion by the interval of their difference over the same users.
"""

import importlib
import json
import os
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from numpy.typing import NDArray

PACKAGE = Path("data/package")
CODE = Path("serving/mlflow_model.py")
LOGGED = "package"
ALIAS = "champion"
VERSION, DATA, MODEL, VERDICT = "genrec.package", "genrec.data", "genrec.model", "genrec.verdict"
K, RESAMPLES, SEED = 10, 1000, 2020
REQUIREMENTS = ("mlflow", "numpy", "pandas", "pyarrow", "safetensors", "scipy", "torch", "tqdm")


def register_package(client: "MlflowClient", run_id: str, folder: Path, name: str) -> None:
    """Log the package of a folder to a run and register it, unless its version is there; nothing without a package.

    What a stop or a failure left undone is done by the next call: the verdict is written last.

    Args:
        name: of the registered model; "" for no registration.
    """
    package = folder / PACKAGE
    if not name or not (package / "package.json").is_file():
        return
    manifest = json.loads((package / "package.json").read_text(encoding="utf-8"))
    _create_if_missing(client, name)
    known = client.search_model_versions(f"name = '{name}' and tags.`{VERSION}` = '{manifest['version']}'")
    if known and VERDICT in known[0].tags:
        return
    created = known[0].version if known else _log_version(client, run_id, package, name, manifest)
    is_better, verdict = _compare(client, name, str(created), package, manifest)
    if is_better:
        client.set_registered_model_alias(name, ALIAS, created)
    client.set_model_version_tag(name, created, VERDICT, verdict)


def _log_version(client: "MlflowClient", run_id: str, package: Path, name: str, manifest: Any) -> Any:
    """The number of a new version, whose files are the run's."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with tempfile.TemporaryDirectory() as saved:
        save_package(package, Path(saved) / LOGGED)
        client.log_artifacts(run_id, str(Path(saved) / LOGGED), LOGGED)
    source = f"{client.get_run(run_id).info.artifact_uri}/{LOGGED}"
    tags = {VERSION: manifest["version"], DATA: manifest["data"], MODEL: manifest["models"][0]["name"]}
    return client.create_model_version(name, source, run_id=run_id, tags=tags).version


def _create_if_missing(client: "MlflowClient", name: str) -> None:
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name, description="Packages of the pipeline; @champion is the best of them.")


def save_package(package: Path, target: Path) -> None:
    """The package with its code, its signature, an example and the versions that it was made with."""
    from mlflow.models import ModelSignature
    from mlflow.pyfunc import save_model
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    inputs = Schema([ColSpec("string", "user", required=False), ColSpec("string", "items", required=False)])
    kinds = {"request": "long", "rank": "long", "score": "double"}
    names = ("request", "rank", "item", "title", "score", "source")
    outputs = Schema([ColSpec(kinds.get(name, "string"), name) for name in names])
    params = ParamSchema(
        [
            ParamSpec("k", "long", 10), ParamSpec("model", "string", ""), ParamSpec("exclude_history", "boolean", True),
            ParamSpec("temperature", "double", 0.0), ParamSpec("seed", "long", 0), ParamSpec("without_last", "long", 0),
            ParamSpec("boost", "double", 0.0),
        ]
    )  # fmt: skip
    code = Path(importlib.import_module("genrec").__file__ or "").parent
    save_model(
        path=str(target), python_model=str(code / CODE), artifacts={"package": str(package)}, code_paths=[str(code)],
        signature=ModelSignature(inputs, outputs, params), input_example=_example(package),
        pip_requirements=[f"{each}=={version(each).partition('+')[0]}" for each in REQUIREMENTS],
    )  # fmt: skip


def _example(package: Path) -> Any:
    """The first user, and somebody unknown with two items."""
    import pandas as pd

    user = pd.read_parquet(package / "users.parquet")["user_key"].iloc[0]
    items = pd.read_parquet(package / "items.parquet")["item_key"].head(2)
    return pd.DataFrame({"user": [str(user), None], "items": [None, ",".join(map(str, items))]}, dtype=object)


def _compare(client: "MlflowClient", name: str, created: str, package: Path, manifest: Any) -> tuple[bool, str]:
    """Whether a package, the version `created`, is to be the champion, and why."""
    champion = client.get_registered_model(name).aliases.get(ALIAS)
    if champion is None:
        return True, "the first"
    if str(champion) == created:
        return True, "the champion since before a stop"
    present = client.get_model_version(name, champion)
    if present.run_id is None or present.tags.get(DATA) != manifest["data"]:
        return False, f"of other data than version {champion}: set the alias by hand to change over"
    with tempfile.TemporaryDirectory() as folder:
        file = client.download_artifacts(
            present.run_id, f"{LOGGED}/artifacts/{PACKAGE.name}/validation_ranks.npz", folder
        )
        theirs = np.load(file, allow_pickle=False)[present.tags[MODEL]]
    ranks = np.load(package / "validation_ranks.npz", allow_pickle=False)
    difference, low, high = paired_interval(ranks[manifest["models"][0]["name"]], theirs, ranks["user_ids"])
    said = f"NDCG@{K} of validation is {difference:+.4f} [{low:+.4f}, {high:+.4f}] beside version {champion}"
    return low > 0, said


def paired_interval(
    ours: "NDArray[np.integer]", theirs: "NDArray[np.integer]", user_ids: "NDArray[np.integer]"
) -> tuple[float, float, float]:
    """How far one model's NDCG@10 is above another's over the same targets, and the ends of its 95 % interval.

    Whoever has several targets is drawn with all of them: they are not independent of each other.

    Args:
        ours, theirs: (n_targets,), the ranks of the same held-out items, from 1.
        user_ids: (n_targets,), whose each target is.

    Example:
        >>> paired_interval(np.array([1, 1]), np.array([11, 11]), np.array([0, 1]))
        (1.0, 1.0, 1.0)
    """
    gains = [np.where(ranks <= K, 1 / np.log2(1.0 + ranks), 0.0) for ranks in (ours, theirs)]
    difference = gains[0] - gains[1]
    _, places, n_targets = np.unique(user_ids, return_inverse=True, return_counts=True)
    sums = np.bincount(places, difference)
    random = np.random.default_rng(SEED)
    n_users = len(sums)
    drawn = (random.integers(0, n_users, n_users) for _ in range(RESAMPLES))
    low, high = np.percentile([sums[users].sum() / n_targets[users].sum() for users in drawn], [2.5, 97.5])
    return float(difference.mean()), float(low), float(high)
