"""Train DeepFM, DIN, DSSM and MMoE on the same synthetic rows with torch-rechub and with genrec: AUC and seconds.

    python benchmarks/rankers.py --peer .venv-peer/bin/python

Each library trains a network in a process of its own, one thread, on the same rows in the same order, with the same
batch size, optimizer, sizes of layers, validation rows and patience; what remains are the networks and trainers
themselves. Seconds are the CPU's, of `fit` divided by its epochs. A full run writes rankers.md beside this file;
`--only genrec` leaves the peer out.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# torch-rechub restores the best epoch only after an early stop: a short patience lets it
N_ROWS, MAX_EPOCHS, PATIENCE, BATCH, RATE = 30_000, 10, 2, 256, 0.005
DIM, HIDDEN = 8, (32,)
CASES = ("DeepFM", "DIN", "DSSM", "MMOE")
HEAD = f"""\
# Rankers

Written by `benchmarks/rankers.py`: both libraries train the same networks on the same synthetic rows in the same order
({N_ROWS:,} rows, at most {MAX_EPOCHS} epochs, patience {PATIENCE}, batches of {BATCH}, Adam of rate {RATE}). AUC is
that of test rows. Seconds are CPU seconds an epoch on one thread, validation included. "ours above" is the mean
difference of the seeds' AUC, with its standard error.

| network | library | AUC, mean ± deviation | lowest to highest | epochs | seconds | ours above |
|---|---|---|---|---:|---:|---:|
"""


def draw(case, seed):
    """Features by name and labels, rows in random order; the labels follow from crosses, histories or clusters."""
    rng = np.random.default_rng(seed)
    if case == "DIN":
        history = np.stack([rng.permutation(40)[:10] + 1 for _ in range(N_ROWS)])
        target = np.where(rng.random(N_ROWS) < 0.5, history[:, 3], rng.integers(1, 41, N_ROWS))
        inside = (history == target[:, None]).any(1)
        return {"history": history, "target": target}, np.where(rng.random(N_ROWS) < 0.9, inside, ~inside)
    x = {name: rng.integers(0, 40, N_ROWS) for name in ("a", "b", "c", "d")}
    if case == "DSSM":
        same = x["a"] % 8 == x["b"] % 8
        x["b"] = np.where(rng.random(N_ROWS) < 0.4, x["a"] % 8 + 8 * (x["b"] // 8), x["b"])
        same = x["a"] % 8 == x["b"] % 8
        return {name: x[name] for name in ("a", "b")}, np.where(rng.random(N_ROWS) < 0.9, same, ~same)
    table, small = rng.choice([-2.0, 2.0], (40, 40)), rng.normal(0, 0.7, 40)
    click = rng.random(N_ROWS) < 1 / (1 + np.exp(-table[x["a"], x["b"]] - small[x["c"]]))
    if case == "DeepFM":
        return x, click
    second = rng.random(N_ROWS) < 1 / (1 + np.exp(-table[x["a"], x["b"]] - small[x["d"]]))
    return x, np.stack([click, second], axis=1)


def parts(x, y):
    """Train, validation and test: four, one and one sixth."""
    ends = (0, N_ROWS * 4 // 6, N_ROWS * 5 // 6, N_ROWS)
    return [
        ({name: value[start:end] for name, value in x.items()}, y[start:end].astype(np.float32))
        for start, end in zip(ends, ends[1:], strict=False)
    ]


class RowOrder:
    """The rows of each epoch, the same for both libraries.

    Attributes:
        epochs: how many were drawn.
    """

    def __init__(self, n_rows: int, seed: int) -> None:
        self.n_rows, self.seed, self.epochs = n_rows, seed, 0

    def __len__(self) -> int:
        return self.n_rows

    def __iter__(self) -> Iterator[int]:
        return iter(self.draw().tolist())

    def draw(self) -> NDArray[np.int64]:
        self.epochs += 1
        return np.random.default_rng([self.seed, self.epochs]).permutation(self.n_rows)


class BatchOrder(RowOrder):
    """The same, a batch of rows at a time."""

    def __len__(self) -> int:
        return -(-self.n_rows // BATCH)

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        rows = self.draw()
        return iter([rows[start : start + BATCH] for start in range(0, self.n_rows, BATCH)])


def train_genrec(case, seed, folder):
    import torch
    from torch.utils.data import DataLoader

    from genrec.networks.generating.two_tower import DSSM
    from genrec.ranking.ctr import DIN, DeepFM
    from genrec.ranking.ctr_trainer import CTRTrainer
    from genrec.ranking.feature_batches import FeatureRows, feature_loader
    from genrec.ranking.mtl_trainer import MTLTrainer
    from genrec.ranking.multi_task import MMOE
    from genrec.tasks.features import SequenceFeature, SparseFeature
    from genrec.towers.match_trainer import MatchTrainer
    from genrec.training.curves import CurveLogger

    torch.manual_seed(seed)
    x, y = draw(case, seed)
    sparse = [SparseFeature(name, 41, DIM) for name in x if name != "history"]
    options = {"optimizer_params": {"lr": RATE}, "n_epoch": MAX_EPOCHS, "model_path": folder,
               "earlystop_patience": PATIENCE, "model_logger": CurveLogger(), "progress_bar": False}  # fmt: skip
    if case == "DeepFM":
        trainer = CTRTrainer(DeepFM(sparse, sparse, HIDDEN), **options)
    elif case == "DIN":
        history = SequenceFeature("history", 41, DIM, shared_with="target")
        trainer = CTRTrainer(DIN([], [history], sparse, HIDDEN, (16,)), **options)
    elif case == "DSSM":
        trainer = MatchTrainer(DSSM(sparse[:1], sparse[1:], HIDDEN, 16, 0.1), 0, **options)
        trainer.config.monitor = "val/auc"  # ours would choose by recall, torch-rechub's does by what is compared here
    else:
        tasks = ["classification"] * 2
        trainer = MTLTrainer(MMOE(sparse, tasks, 4, HIDDEN, (16,)), tasks, **options)
    train, val, test = [
        ({name: torch.tensor(value) for name, value in x.items()}, torch.tensor(y)) for x, y in parts(x, y)
    ]
    order = BatchOrder(len(train[1]), seed)
    train_loader = DataLoader(FeatureRows(*train), sampler=order, batch_size=None)
    start = time.process_time()
    trainer.fit(train_loader, feature_loader(*val, BATCH))
    seconds = time.process_time() - start
    found = trainer.evaluate(trainer.model, feature_loader(*test, BATCH))
    return (found["auc"] if case == "DSSM" else float(np.mean(found))), seconds / order.epochs, order.epochs


def train_rechub(case, seed, folder):
    import torch
    from torch.utils.data import DataLoader
    from torch_rechub.basic.features import SequenceFeature, SparseFeature
    from torch_rechub.models.matching import DSSM
    from torch_rechub.models.multi_task import MMOE
    from torch_rechub.models.ranking import DIN, DeepFM
    from torch_rechub.trainers import CTRTrainer, MatchTrainer, MTLTrainer
    from torch_rechub.utils.data import TorchDataset

    torch.manual_seed(seed)
    Path(folder).mkdir()
    x, y = draw(case, seed)
    sparse = [SparseFeature(name, 41, DIM) for name in x if name != "history"]
    options = {"optimizer_params": {"lr": RATE}, "n_epoch": MAX_EPOCHS, "model_path": folder,
               "earlystop_patience": PATIENCE, "device": "cpu"}  # fmt: skip
    hidden = {"dims": list(HIDDEN)}
    if case == "DeepFM":
        trainer = CTRTrainer(DeepFM(sparse, sparse, hidden), **options)
    elif case == "DIN":
        history = SequenceFeature("history", 41, DIM, pooling="concat", shared_with="target")
        # without one further feature its DIN crashes
        trainer = CTRTrainer(DIN(sparse, [history], sparse, hidden, {"dims": [16]}), **options)
    elif case == "DSSM":
        tower = {"dims": [*HIDDEN, 16], "activation": "prelu"}
        trainer = MatchTrainer(DSSM(sparse[:1], sparse[1:], tower, tower, 0.1), 0, **options)
    else:
        tasks = ["classification"] * 2
        trainer = MTLTrainer(MMOE(sparse, tasks, 4, hidden, [{"dims": [16]}] * 2), tasks, **options)
    train, val, test = (TorchDataset(*rows) for rows in parts(x, y))
    order = RowOrder(len(train), seed)
    start = time.process_time()
    trainer.fit(DataLoader(train, BATCH, sampler=order), DataLoader(val, BATCH))
    seconds = time.process_time() - start
    auc = float(np.mean(trainer.evaluate(trainer.model, DataLoader(test, BATCH))))
    return auc, seconds / order.epochs, order.epochs


def measure(python, library, case, n_seeds):
    """(AUC, seconds an epoch, epochs) of a training for each seed, in a process of their own."""
    command = [python, __file__, "--train", library, case, "--seeds", str(n_seeds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{library} {case}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="the python of the environment that has torch-rechub")
    parser.add_argument("--seeds", type=int, default=5, help="two or more")
    parser.add_argument("--cases", nargs="+", default=CASES, choices=CASES)
    parser.add_argument("--only", choices=["genrec"])
    parser.add_argument("--train", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        import torch

        torch.set_num_threads(1)
        library, case = arguments.train
        train = {"genrec": train_genrec, "torch-rechub": train_rechub}[library]
        with tempfile.TemporaryDirectory() as folder:
            results = [train(case, seed, f"{folder}/{seed}") for seed in range(arguments.seeds)]
        print(json.dumps(results))
        return
    pythons = {"genrec": sys.executable}
    if arguments.only is None:
        if not arguments.peer or not Path(arguments.peer).exists():
            parser.error("--peer must be the python of an environment with benchmarks/requirements-rankers.txt")
        pythons["torch-rechub"] = arguments.peer
    lines = []
    for case in arguments.cases:
        results = {name: measure(python, name, case, arguments.seeds) for name, python in pythons.items()}
        lines += rows_of(case, results)
        print("\n".join(lines[-len(pythons) :]), flush=True)
    if set(arguments.cases) == set(CASES) and len(pythons) == 2:
        write(lines, arguments.seeds)


def rows_of(case, results):
    """The table's rows of a case, from what `measure` gives of each library."""
    lines = []
    for name, figures in results.items():
        aucs, seconds, epochs = np.array(figures).T
        gains = np.array(results["genrec"])[:, 0] - aucs
        gain = "" if name == "genrec" else f"{gains.mean():+.4f} ± {gains.std(ddof=1) / len(gains) ** 0.5:.4f}"
        lines.append(
            f"| {case} | {name} | {aucs.mean():.4f} ± {aucs.std(ddof=1):.4f} | {aucs.min():.4f} to {aucs.max():.4f} "
            f"| {epochs.mean():.1f} | {np.median(seconds):.2f} | {gain} |"
        )
    return lines


def write(lines, n_seeds):
    packages = f"torch-rechub 0.9.0, torch {version('torch')}, Python {platform.python_version()}"
    text = HEAD + "\n".join(lines) + f"\n\n*{n_seeds} seeds, {date.today()}, {packages}*\n"
    (Path(__file__).parent / "rankers.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
