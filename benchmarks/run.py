"""Measure, and write results.md: `python -m benchmarks.run [MODULE ...]`, all workloads without a name."""

import importlib
import os
import platform
import re
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
RESULTS = Path(__file__).with_name("results.md")
HEAD = """\
# Speed

Written by `make bench`. CPU seconds on one thread; medians of interleaved turns, each contender in a process of its
own. "times ours" is a contender's seconds for what genrec does in one. "memory" is what the turns needed at their peak
beyond model, data and imports, without processes that they start. GFLOP/s is a float32 product of two 2048 x 2048
matrices, timed between the turns.

"""


def main(names: list[str]) -> None:
    unknown = sorted(set(names) - set(WORKLOADS))
    if unknown:
        sys.exit(f"error: ONLY must name workloads of {', '.join(WORKLOADS)}, got {', '.join(unknown)}")
    for name in names or WORKLOADS:
        module = f"benchmarks.{name}"
        cases = importlib.import_module(module).CASES
        results = []
        for number, case in enumerate(cases):
            results.append(measure(module, number, case))
            sys.stderr.write(table(results[-1]))
            before = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else ""
            RESULTS.write_text(with_section(before, name, section(results)), encoding="utf-8")


def with_section(before: str, name: str, text: str) -> str:
    """results.md with the new tables of one workload; what was measured last of the others stays.

    Example:
        >>> with_section(with_section("", "sasrec", "1.2\\n"), "rqvae", "3.4\\n").removeprefix(HEAD)
        '## rqvae\\n\\n3.4\\n\\n## sasrec\\n\\n1.2\\n'
    """
    parts = re.split(r"^## (.*)\n\n", before, flags=re.MULTILINE)
    sections = {title: part.rstrip("\n") + "\n" for title, part in zip(parts[1::2], parts[2::2], strict=True)}
    sections[name] = text
    return HEAD + "\n".join(f"## {title}\n\n{sections[title]}" for title in WORKLOADS if title in sections)


def section(results: list[Result]) -> str:
    """The tables of one workload, with the machine that they were measured on."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    machine = f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    stamp = f"{date.today()}, commit {commit()}, {machine}, {packages}"
    return "".join(table(result) for result in results) + f"*{stamp}*\n"


def table(result: Result) -> str:
    unit, ours = result.case.unit, next(iter(result.figures.values())).rate
    reached = any(figure.reached for figure in result.figures.values())
    lines = [
        f"### {result.case.title}\n",
        f"| contender | {unit} per CPU-second | lowest to highest | times ours | memory, MiB |{' reached |' * reached}",
        f"|---|---:|---:|---:|---:|{'---|' * reached}",
    ]
    for name, figure in result.figures.items():
        span = f"{rounded(min(figure.rates))} to {rounded(max(figure.rates))}"
        cells = [name, rounded(figure.rate), span, f"{ours / figure.rate:.2f}", f"{figure.mib:,.0f}"]
        lines.append(f"| {' | '.join(cells + [figure.reached] * reached)} |")
    lines.append(f"\n{len(result.gflops)} turns; {median(result.gflops):.0f} GFLOP/s\n\n")
    return "\n".join(lines)


def rounded(rate: float) -> str:
    """Three digits.

    Example:
        >>> rounded(12345.6), rounded(0.123456)
        ('12,300', '0.123')
    """
    value = float(f"{rate:.3g}")
    return f"{value:,.0f}" if value >= 100 else f"{value:g}"


def commit() -> str:
    """What was measured."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        told = subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout  # nosec B607
    except (FileNotFoundError, subprocess.CalledProcessError):
        return platform.processor() or platform.machine()
    return next((line.split(":")[1].strip() for line in told.splitlines() if line.startswith("Model name")), "?")


if __name__ == "__main__":
    main(sys.argv[1:])
