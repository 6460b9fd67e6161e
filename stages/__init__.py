"""One thin file per stage of dvc.yaml: read params, read files, call genrec, write files.

`python -m stages.x` imports this package before the stage's file, so before any library of numbers.
"""

import sys

from genrec.pipeline.stage_environment import begin_stage

# Their outputs do not depend on `trainer`, so nothing that it says may change how they compute.
WITHOUT_TRAINER = ("fetch_data", "prepare_data", "count_transitions", "build_code_table", "package", "track")

if sys.argv[0] == "-m":  # while `python -m` looks for what to run; never in a program that imports a stage
    begin_stage(WITHOUT_TRAINER)
