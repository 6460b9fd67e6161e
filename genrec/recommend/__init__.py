"""The command and the service that answer people and programs from a package.

`python -m genrec.recommend` imports this package before any library of numbers, and with the instructions with which
the package was evaluated.
"""

import sys

from genrec.recommend.instructions import package_of
from genrec.serving.folder import compute_as

if sys.argv[0] == "-m":  # while `python -m` looks for what to run; never in a program that imports it
    compute_as(package_of(sys.argv[1:]))
