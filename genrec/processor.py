"""Which of a processor's instructions a process computes with: those that all x86-64 have had since AVX2, or its own.

Libraries of numbers look at the processor when they are loaded, and take other code for each, which adds in another
order or has another exponential. A stage (`genrec/pipeline/stage_environment.py`) and who answers from a package tell
them, before any of them is loaded, to act as on a processor with AVX2. docs/machines.md holds what was measured.
"""

import os
import platform
from collections.abc import Mapping
from pathlib import Path

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


def can_be_portable() -> bool:
    """Whether this is an x86-64 processor with AVX2; one of which the system tells nothing counts as one."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    told = Path("/proc/cpuinfo")
    return not told.exists() or " avx2 " in f"{told.read_text(encoding='utf-8', errors='replace')} ".replace("\n", " ")


def portable_environment(threads: int) -> dict[str, str]:
    """This process's variables as a portable stage has them, for a process to be started."""
    kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    return {**kept, **variables_of_threads(threads), **PORTABLE}


def use_portable_instructions() -> None:
    """Set the environment of this process, which has loaded none of the libraries, where its processor can."""
    if can_be_portable():
        for name in FOREIGN:
            os.environ.pop(name, None)
        os.environ.update(PORTABLE)


def variables_of_threads(number: int) -> dict[str, str]:
    """For a library that torch does not tell; numpy's products by one thread, since two would add in another order."""
    return {"OMP_NUM_THREADS": str(number), "OPENBLAS_NUM_THREADS": "1"}
