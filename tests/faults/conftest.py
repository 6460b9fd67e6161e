"""The table of faults: a row for each that a test names by the marker `fault`, printed and written into the docs."""

import os
import re
from collections import defaultdict
from pathlib import Path

import pytest

from faults.stages_in_processes import STAGES, Answer, outputs, run_stage_process, write_params

BEGIN, END = "<!-- faults -->\n", "<!-- end of faults -->\n"
results: dict[str, list[bool]] = defaultdict(list)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> object:
    report: pytest.TestReport = yield
    marker = item.get_closest_marker("fault")
    if marker is not None:
        report.user_properties.append(("fault", marker.args[0]))
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    # in the process that prints the table, whichever ran the test
    noted = dict(report.user_properties)
    if "fault" in noted and (report.when == "call" or report.failed):
        results[str(noted["fault"])] += [report.passed] * int(str(noted.get("tries", 1)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not results:
        return
    lines = ["| fault | tries | survived | lost |", "|---|---:|---:|---:|"]
    lines += [
        f"| {fault} | {len(survived)} | {sum(survived)} | {len(survived) - sum(survived)} |"
        for fault, survived in sorted(results.items())
    ]
    bad = sum(len(survived) for fault, survived in results.items() if fault.startswith("bad input: "))
    n_tries = sum(map(len, results.values()))
    lines += ["", f"{n_tries:,} tries in all; {bad} of them are bad inputs that were made by hand."]
    terminalreporter.section("faults")
    terminalreporter.write_line("\n".join(lines))
    page = os.environ.get("GENREC_FAULT_TABLE")
    if page:
        file = Path(page)
        text = re.sub(
            f"{BEGIN}.*{END}", lambda _: BEGIN + "\n".join(lines) + "\n" + END, file.read_text("utf-8"), flags=re.S
        )
        file.write_text(text, encoding="utf-8")


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Answer]]:
    """The tiny project after an uninterrupted run, and how each stage ended."""
    folder = tmp_path_factory.mktemp("reference") / "project"
    write_params(folder)
    # all folders are there, as in the copies of this one, so that a stage has as many moments here as there
    for path in [".genrec/scratch/-", *(output for stage in STAGES for output in outputs(stage))]:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
    answers = {stage: run_stage_process(folder, stage) for stage in STAGES}
    for stage, answer in answers.items():
        assert answer.status == 0, f"{stage}: {answer.said}"
    return folder, answers
