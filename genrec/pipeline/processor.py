"""Which of a processor's instructions a stage computes with: those that all x86-64 have had since AVX2, or its own.

Libraries of numbers look at the processor when they are loaded, and take other code for each, which adds in another
order or has another exponential. `begin_stage` tells them, before any of them is loaded, to act as on a processor with
AVX2, where `trainer.portable` asks for it. docs/machines.md holds what was measured.
"""

import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

from genrec.errors import UserError

# Each concerns a primitive of benchmarks/primitives.py, or closes the same door of a library that stands beside.
PORTABLE: Mapping[str, str] = {
    "ATEN_CPU_CAPABILITY": "avx2",  # torch's own loops
    # MKL, which multiplies torch's matrices: its other branches give Intel's processors other sums than AMD's
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",  # numpy's and scipy's products and decompositions
    # numpy's own loops, of which all its processors have the simplest; the first names are those of numpy before 2.4
    "NPY_DISABLE_CPU_FEATURES": "AVX F16C FMA3 AVX2 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL X86_V3 X86_V4 "
    "AVX512_ICL AVX512_SPR",
    "ARROW_USER_SIMD_LEVEL": "AVX2",
}
# They would set aside what stands above, or the number of threads.
FOREIGN = (
    "ATEN_AVX512_256",
    "DNNL_MAX_CPU_ISA",
    "DNNL_DEFAULT_FPMATH_MODE",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_DEBUG_CPU_TYPE",
    "MKL_NUM_THREADS",
    "MKL_DOMAIN_NUM_THREADS",
    "NPY_ENABLE_CPU_FEATURES",
    "OMP_THREAD_LIMIT",
)


def begin_stage(without_trainer: tuple[str, ...]) -> None:
    """Set the environment of this process, which runs a stage and has loaded none of the libraries.

    A mistake in params.yaml is left to the stage, which reads it too and says what is wrong.

    Args:
        without_trainer: the stages that do not depend on `trainer`; one thread and portable is what they compute with.
    """
    portable, threads = True, 1
    if _module() not in {f"stages.{name}" for name in without_trainer}:
        # half a second of imports, which the stage that publishes must not wait for
        from genrec.params.reading import read_section
        from genrec.params.trainer import Trainer

        try:
            trainer = read_section(Trainer)
        except UserError:
            return
        portable, threads = trainer.portable, trainer.num_threads
    instructions = PORTABLE if portable and can_be_portable() else {}
    _set(instructions, threads)


def can_be_portable() -> bool:
    """Whether this is an x86-64 processor with AVX2; one of which the system tells nothing counts as one."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    told = Path("/proc/cpuinfo")
    return not told.exists() or " avx2 " in f"{told.read_text(encoding='utf-8', errors='replace')} ".replace("\n", " ")


def portable_environment(threads: int) -> dict[str, str]:
    """This process's variables as a portable stage has them, for a process to be started."""
    kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    return {**kept, **_threads(threads), **PORTABLE}


def _set(instructions: Mapping[str, str], threads: int) -> None:
    if instructions:
        for name in FOREIGN:
            os.environ.pop(name, None)
    os.environ.update({**_threads(threads), **instructions})


def _threads(number: int) -> dict[str, str]:
    """For a library that torch does not tell; numpy's products by one thread, since two would add in another order."""
    return {"OMP_NUM_THREADS": str(number), "OPENBLAS_NUM_THREADS": "1"}


def _module() -> str:
    """What `python -m` was told to run, which it does not yet hand to the package that it imports first."""
    return sys.orig_argv[sys.orig_argv.index("-m") + 1] if "-m" in sys.orig_argv[:-1] else ""
