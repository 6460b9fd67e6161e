"""Publish this state of the pipeline as one complete MLflow run: parameters, figures, curves, reports."""

from genrec.command import run_stage
from genrec.tracking import publish


def main() -> None:
    publication = publish()
    if publication is None:
        print("tracking is off: no run published")
        return
    print(f"run {publication.run_name} ({publication.run_id}) {publication.outcome} in {publication.uri}")


if __name__ == "__main__":
    run_stage(main, __doc__)
