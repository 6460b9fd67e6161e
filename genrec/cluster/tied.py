"""Start python as a process that ends with the one that started it, however that ends: `tied PARENT -m stages.x`.

What Ray kills cannot end its own processes any more, and those would train on, unseen.
"""

import ctypes
import os
import signal
import sys

DEATH_SIGNAL = 1  # as linux/prctl.h numbers it


def main() -> None:
    parent, *arguments = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != int(parent):  # it ended before it could be asked
        sys.exit(1)
    os.execv(sys.executable, [sys.executable, *arguments])  # nosec B606: no shell, as the project's starts all


if __name__ == "__main__":
    main()
