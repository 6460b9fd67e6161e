"""Fixtures of more than one test file."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from browser import browser as browser
from cloned_project import SMALL, Project, clone
from fake_pipeline import PROJECT, Pipeline
from hypothesis import settings
from p5_files import FakeEncoder, install_fake_encoder, write_p5

from genrec.params.reading import read_params

# Tensors of tests are small: a second thread would only wait for the first. Read once, when torch is loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine is no mistake of the code's.
settings.register_profile("project", deadline=None)
settings.load_profile("project")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Trainings first: a long file that starts last is waited for by all other processes."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True)
def _params_are_read_anew() -> Iterator[None]:
    """A process reads params.yaml once; each test has its own."""
    read_params.cache_clear()
    yield
    read_params.cache_clear()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database without runs: making one takes seconds, copying it none."""
    from mlflow import MlflowClient

    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{file}")
    return file


@pytest.fixture
def bare_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """A pipeline whose store does not exist yet."""
    for name in [name for name in os.environ if name.startswith(("DVC_", "MLFLOW_", "GENREC_"))]:
        monkeypatch.delenv(name)
    for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        monkeypatch.setenv(name, "true")
    # no retries: these servers never come up
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    folder = tmp_path / "a project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    shutil.copy(PROJECT / "params.yaml", folder)
    pipeline = Pipeline(folder)
    pipeline.write()
    return pipeline


@pytest.fixture
def pipeline(bare_pipeline: Pipeline, empty_database: Path) -> Pipeline:
    shutil.copy(empty_database, bare_pipeline.folder)
    return bare_pipeline


@pytest.fixture
def p5_root(tmp_path: Path) -> Path:
    """The folder `dataset/amazon` of the documents, with the category beauty."""
    return write_p5(tmp_path / "dataset" / "amazon")


@pytest.fixture
def fake_encoder(monkeypatch: pytest.MonkeyPatch) -> type[FakeEncoder]:
    """What texts are embedded with in place of a language model; it notes what it is asked."""
    return install_fake_encoder(monkeypatch)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone of the project after one `dvc repro` on small data."""
    project = clone(tmp_path_factory.mktemp("clone") / "genrec", **SMALL)
    project.dvc("repro")
    project.commit()
    return project


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class KilledError(Exception):
    """What ends a fit in the middle of an epoch."""


@pytest.fixture
def fit_killed_in_epoch_2(monkeypatch):
    """Fit a trainer on its loaders until the model is to be measured after epoch 2 (counted from 0)."""

    def fit(trainer, *loaders):
        measure = trainer.model.scores

        def dies():
            if trainer.model.current_epoch == 2:
                raise KilledError
            return measure()

        monkeypatch.setattr(trainer.model, "scores", dies)
        with pytest.raises(KilledError):
            trainer.fit(*loaders)

    return fit
