"""These models are so small that a second thread only costs time."""

import pytest
import torch


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
