"""Workers of DVC's queue that need the same training at the same time."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from cloned_project import Project, clone

from faults.whole_pipeline import SMALL, wait_until

pytestmark = pytest.mark.faults


@pytest.mark.fault("two queue workers that need the same training at once")
def test_both_end_with_the_same_bytes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    # Both trained in one folder, and the first to end took the other's best weights away.
    request.node.user_properties.append(("tries", 2))
    sasrec = {"train_sasrec.max_epochs": 150, "train_sasrec.patience": 150, "track.enabled": False}
    project = clone(tmp_path_factory.mktemp("project") / "genrec", **(SMALL | sasrec))
    project.dvc("exp", "run", "--queue", "-S", "train_tiger.batch_size=32,64", "-n", "worker", "train_sasrec")
    # not to be waited for: the workers keep its output open
    start = [str(Path(sys.executable).with_name("dvc")), "queue", "start", "-j", "2"]
    nowhere = subprocess.DEVNULL
    started = subprocess.Popen(start, cwd=project.folder, env=project.environment, stdout=nowhere, stderr=nowhere)
    scratch = project.folder / ".genrec" / "scratch"
    wait_until(lambda: len(list(scratch.glob("train_sasrec-*"))) == 2, 0.1, seconds=120)
    wait_until(lambda: project.dvc("queue", "status").count("Success") == 2, 3, seconds=120)
    started.wait()
    locks = [project.run("git", "show", f"refs/exps/{ref}:dvc.lock") for ref in experiments(project)]
    sums = [re.findall(r"path: data/models/sasrec.ckpt\n\s+hash: md5\n\s+md5: (\w+)", lock) for lock in locks]
    assert len(sums) == 2
    assert sums[0] == sums[1] != []
    assert list(scratch.iterdir()) == []


def experiments(project: Project) -> list[str]:
    names = project.run("git", "for-each-ref", "--format=%(refname)", "refs/exps").split()
    return [name.removeprefix("refs/exps/") for name in names if "/worker-" in name]
