"""Measure, and write results.md: `python -m benchmarks.run [MODULE ...]`, all workloads without a name."""

import importlib
import os
import platform
import subprocess
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median

from benchmarks.harness import Result, measure

WORKLOADS = (
    "constrained_generation", "tiger_training", "etegrec", "rqvae", "sasrec", "preparation", "pipeline",
)  # fmt: skip
PACKAGES = ("torch", "transformers", "cornac", "torch-rechub", "numpy", "pandas", "dvc")
FOLDER = Path(__file__).parent
HEAD = """\
# Speed

Written by `make bench`. CPU seconds on one thread; medians of interleaved turns, each contender in a process of its
own. "times ours" is a contender's seconds for what genrec does in one. "memory" is what the turns needed at their peak
beyond model, data and imports, without processes that they start.
GFLOP/s is a float32 product of two 2048 x 2048 matrices, timed between the turns.

"""


def main(names: list[str]) -> None:
    unknown = sorted(set(names) - set(WORKLOADS))
    if unknown:
        sys.exit(f"error: ONLY must name workloads of {', '.join(WORKLOADS)}, got {', '.join(unknown)}")
    for name in names or WORKLOADS:
        module = f"benchmarks.{name}"
        cases = importlib.import_module(module).CASES
        results = []
        part = FOLDER / "results" / f"{name}.md"
        part.parent.mkdir(exist_ok=True)
        for number, case in enumerate(cases):
            results.append(measure(module, number, case))
            sys.stderr.write(table(results[-1]))
            part.write_text(section(results), encoding="utf-8")
        collect()


def collect() -> None:
    """results.md from what was measured last of each workload."""
    parts = [FOLDER / "results" / f"{name}.md" for name in WORKLOADS]
    text = HEAD + "\n".join(part.read_text(encoding="utf-8") for part in parts if part.exists())
    (FOLDER / "results.md").write_text(text, encoding="utf-8")


def section(results: list[Result]) -> str:
    """The tables of one workload, with the machine that they were measured on."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    stamp = f"{date.today()}, {processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, {packages}"
    return "".join(table(result) for result in results) + f"*{stamp}*\n"


def table(result: Result) -> str:
    unit, ours = result.case.unit, next(iter(result.figures.values())).rate
    reached = any(figure.reached for figure in result.figures.values())
    lines = [
        f"## {result.case.title}\n",
        f"| contender | {unit} per CPU-second | lowest to highest | times ours | memory, MiB |{' reached |' * reached}",
        f"|---|---:|---:|---:|---:|{'---|' * reached}",
    ]
    for name, figure in result.figures.items():
        span = f"{rounded(min(figure.rates))} to {rounded(max(figure.rates))}"
        cells = [name, rounded(figure.rate), span, f"{ours / figure.rate:.2f}", f"{figure.mib:,.0f}"]
        lines.append(f"| {' | '.join(cells + [figure.reached] * reached)} |")
    repeats = len(result.gflops)
    lines.append(f"\n{repeats} turn{'s' * (repeats > 1)}; {median(result.gflops):.0f} GFLOP/s\n\n")
    return "\n".join(lines)


def rounded(rate: float) -> str:
    """Three digits.

    Example:
        >>> rounded(12345.6), rounded(0.123456)
        ('12,300', '0.123')
    """
    value = float(f"{rate:.3g}")
    return f"{value:,.0f}" if value >= 100 else f"{value:g}"


def processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        told = subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        return platform.processor() or platform.machine()
    return next((line.split(":")[1].strip() for line in told.splitlines() if line.startswith("Model name")), "?")


if __name__ == "__main__":
    main(sys.argv[1:])
