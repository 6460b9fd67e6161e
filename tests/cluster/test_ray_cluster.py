"""What is handed to Ray and told of what it says, without Ray: the tests with it are in test_two_nodes.py."""

import pytest

from genrec.cluster.plan import Plan
from genrec.cluster.ray_cluster import Followed, environments_of, refuse_blind
from genrec.errors import UserError

PLAN = Plan("train_sasrec", ("stages.train_sasrec",), places=2, per_place=2, cpus=2, gpus=0, apart=True)


def test_processes_are_told_what_torchrun_tells(monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth1")
    monkeypatch.setenv("SECRET_OF_THE_COMMAND", "1")
    told = environments_of(PLAN, 1, {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "2000"})
    assert list(told) == [2, 3]
    assert {name: told[3][name] for name in ("RANK", "LOCAL_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")} == {
        "RANK": "3",
        "LOCAL_RANK": "1",
        "GROUP_RANK": "1",
        "WORLD_SIZE": "4",
        "LOCAL_WORLD_SIZE": "2",
    }
    assert told[2]["MASTER_ADDR"] == "10.0.0.1"
    assert told[2]["GLOO_SOCKET_IFNAME"] == "eth1"
    assert "SECRET_OF_THE_COMMAND" not in told[2]


def test_lightning_knows_the_processes_by_these_variables(monkeypatch):
    from genrec.training.lightning import Fabric, rank_zero_only

    monkeypatch.setattr(rank_zero_only, "rank", 0)  # Fabric sets it, and tests after this one are no fourth process
    for name, value in environments_of(PLAN, 1, {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "2000"})[3].items():
        monkeypatch.setenv(name, value)
    fabric = Fabric(accelerator="cpu", devices=2, num_nodes=2, strategy="ddp")
    environment = fabric.strategy.cluster_environment
    assert type(environment).__name__ == "TorchElasticEnvironment"
    assert (environment.global_rank(), environment.local_rank(), environment.node_rank()) == (3, 1, 1)


def test_whole_new_lines_are_told_once_and_not_the_mistake(tmp_path):
    said = []
    followed = Followed(tmp_path / "0.log", said.append)
    followed.tell_new()
    with (tmp_path / "0.log").open("w") as log:
        for text in ("epoch 1\nepo", "ch 2\n", "", "error: no column\n"):
            log.write(text)
            log.flush()
            followed.tell_new()
    assert said == ["epoch 1", "epoch 2"]


def test_all_machines_that_do_not_see_the_folder_are_named():
    refuse_blind([])
    with pytest.raises(UserError) as error:
        refuse_blind(["a does not see /p", "b sees another folder as /p"])
    assert str(error.value) == (
        "all machines must share the project's folder, at the same path, but a does not see /p; b sees another folder "
        "as /p; mount it there"
    )
