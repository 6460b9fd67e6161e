"""Whether this processor computes as the one that wrote docs/fingerprints.json: `python -m benchmarks.fingerprint`.

Each primitive of the pipeline is computed in a process that is set up as a stage's, and the sum of its bytes compared
with the table. It ends with status 1 where one differs: docs/machines.md says what that means.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from genrec.processor import can_be_portable, portable_environment

TABLE = Path(__file__).parents[1] / "docs" / "fingerprints.json"
PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "pandas", "pyarrow")


def fingerprints(environment: Mapping[str, str], threads: int = 1) -> dict[str, str]:
    """Name of each primitive to its digest, computed by a new process with these variables."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.primitives", str(threads)]
    done = subprocess.run(
        command, env=dict(environment), cwd=TABLE.parents[1], stdout=subprocess.PIPE, text=True, check=True
    )
    made: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return made


def differences(ours: Mapping[str, str], table: Mapping[str, str]) -> list[str]:
    """The primitives that differ, or that one of both lacks.

    Example:
        >>> differences({"exp": "ab", "sum": "cd", "log": "ef"}, {"exp": "ab", "sum": "cc"})
        ['log', 'sum']
    """
    return sorted(name for name in {*ours, *table} if ours.get(name) != table.get(name))


def processor_name(cpuinfo: str) -> str:
    """What /proc/cpuinfo says of the first processor: model, family and number, widest instructions.

    Example:
        >>> processor_name("model name : AMD EPYC\\ncpu family : 25\\nmodel : 17\\nflags : fma avx2 avx512f")
        'AMD EPYC (family 25, model 17; avx2 avx512f)'
    """
    told = {key: value.strip() for key, value in re.findall(r"^([\w ]+?)\s*:(.*)$", cpuinfo.partition("\n\n")[0], re.M)}
    units = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_tile") if flag in told.get("flags", "").split()]
    name, family, model = (told.get(key, "unknown") for key in ("model name", "cpu family", "model"))
    return f"{name} (family {family}, model {model}; {' '.join(units) or 'no AVX2'})"


def this_machine() -> dict[str, Any]:
    cpuinfo = Path("/proc/cpuinfo")
    name = processor_name(cpuinfo.read_text(encoding="utf-8")) if cpuinfo.exists() else platform.processor()
    return {
        "processor": name,
        "system": f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver())}".strip(),
        "versions": {package: version(package) for package in PACKAGES},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--own", action="store_true", help="with all instructions that the processor has")
    parser.add_argument("--threads", type=int, default=1, help="trainer.num_threads")
    parser.add_argument("--write", action="store_true", help="make this machine the one that others are compared with")
    arguments = parser.parse_args()
    if not (arguments.own or can_be_portable()):
        sys.stderr.write("no x86-64 processor with AVX2: what follows is what it computes with its own instructions\n")
    is_portable = can_be_portable() and not arguments.own
    environment = portable_environment(arguments.threads) if is_portable else dict(os.environ)
    made, machine = fingerprints(environment, arguments.threads), this_machine()
    if arguments.write:
        TABLE.write_text(json.dumps({**machine, "primitives": made}, indent=1) + "\n", encoding="utf-8")
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    differing = differences(made, table["primitives"])
    for name, digest in made.items():
        print(f"{digest}  {name}" + ("  DIFFERS" if name in differing else ""))
    print(f"\nthis machine: {machine['processor']}; {machine['system']}")
    print(f"the table's:  {table['processor']}; {table['system']}")
    for package, ours in machine["versions"].items():
        if ours != table["versions"][package]:
            print(f"another version: {package} {ours}, the table's is {table['versions'][package]}")
    print(f"{len(made) - len(differing)} of {len(made)} primitives are equal")
    if differing:
        sys.exit(f"error: {len(differing)} differ: {', '.join(differing)}; see docs/machines.md")


if __name__ == "__main__":
    main()
