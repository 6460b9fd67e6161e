"""Serve MLflow's pages on this machine, and say at which address the runs are.

Its front page opens on conversations with language models; the address printed here opens the experiment's runs with
their headline figures as columns.
"""

import argparse
import os
import sys
from urllib.parse import urlsplit

from genrec.pipeline.command import run_command
from genrec.pipeline.runs_view import runs_address
from genrec.pipeline.tracking import opened_experiment


def serve(port: int) -> None:
    """Print the address of the runs, and become MLflow's server unless the store is one already.

    Raises:
        UserError: the store does not answer or cannot be used.
    """
    store, experiment_id = opened_experiment()
    if urlsplit(store.uri).scheme in ("http", "https"):
        print(f"the runs are at {runs_address(store.shown, experiment_id)}")
        return
    print(f"the runs will be at {runs_address(f'http://127.0.0.1:{port}', experiment_id)}", flush=True)
    # one worker and no job runners: two processes instead of fifteen, and a start of 5 instead of 20 seconds
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    command = ["mlflow", "ui", "--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
    os.execv(sys.executable, [sys.executable, "-m", *command, "--backend-store-uri", store.uri])  # nosec B606: no shell


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=5000)
    port = parser.parse_args().port
    run_command(lambda: serve(port))


if __name__ == "__main__":
    main()
