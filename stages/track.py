"""Publish this state of the pipeline as one complete MLflow run: parameters, figures, curves, reports."""

from pathlib import Path

from genrec.pipeline.command import run_stage
from genrec.pipeline.execution import Execution
from genrec.pipeline.run_store import found_publication


def main() -> None:
    publication = found_publication(Path.cwd(), Execution.current())
    if publication is None:
        from genrec.pipeline.tracking import (
            publish,  # a second of imports, needed only when there is something to publish
        )

        publication = publish()
    if publication is None:
        print("tracking is off: no run published")
        return
    print(f"run {publication.run_name} ({publication.run_id}) {publication.outcome} in {publication.uri}")


if __name__ == "__main__":
    run_stage(main, __doc__)
