"""`dvc repro` of a small project: its size, the settings of other machines, and how to wait for it."""

import re
import time
from collections.abc import Callable

SMALL: dict[str, object] = {
    "fetch_data.name": "synthetic",
    "fetch_data.synthetic.n_users": 60,
    "fetch_data.synthetic.n_items": 40,
    "model.code_num": 16,
    "train_sasrec.max_epochs": 6,
    "train_rqvae.max_epochs": 10,
    "train_rqvae.gates.min_usage": 0.0,
    "train_rqvae.gates.min_entropy": 0.0,
    "train_rqvae.gates.max_collision_rate": 1.0,
    "train_tiger.max_epochs": 2,
    "train_etegrec.cycle": 2,
    "train_etegrec.max_epochs": 4,
    "train_etegrec.warmup_epochs": 1,
    "train_etegrec.final_stage.max_epochs": 2,
    "train_two_tower.max_epochs": 1,
    "build_digits.embedding_digits": 8,
    "build_digits.code_num": 16,
    "build_digits.gates.min_usage": 0.0,
    "build_digits.gates.min_entropy": 0.0,
    "build_digits.gates.max_collision_rate": 1.0,
    "train_parallel.max_epochs": 2,
    "generate_candidates.n_candidates": 10,
    "train_ranker.max_epochs": 4,
    "train_ranker.patience": 4,
    "evaluate.bootstrap_samples": 20,
}
ELSEWHERE = {
    "PYTHONHASHSEED": "4711",
    "TZ": "Asia/Kathmandu",
    "LC_ALL": "C",
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONUTF8": "0",
    "COLUMNS": "40",
}
ONCE_MORE = {"PYTHONHASHSEED": "0", "TZ": "America/St_Johns", "LC_ALL": "C.UTF-8"}


def stages_in(said: str) -> list[str]:
    return re.findall("Running stage '(.*?)'", said)


def wait_until(holds: Callable[[], object], pause: float, seconds: float = 900) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(pause)
