"""What a stage needs of a cluster, who is refused, and the one line of an end; no cluster runs here."""

from dataclasses import replace
from pathlib import Path

import pytest

from genrec.cluster.plan import Ended, Plan, check_room, plan_of, shareable, told
from genrec.errors import UserError
from genrec.params.reading import read_section, read_yaml
from genrec.params.trainer import Trainer

PIPELINE = {
    "prepare_data": {"cmd": "python -m stages.prepare_data"},
    "train_sasrec": {"cmd": "python -m stages.train_sasrec"},
    "evaluate_tiger": {"cmd": "python -m stages.evaluate tiger"},
    "generate_candidates": {"cmd": "python -m stages.generate_candidates"},
}
TRAINER = replace(read_section(Trainer), devices=1, num_nodes=1, gpus=0, num_threads=1)
TRAINING = Plan("train_sasrec", ("stages.train_sasrec",), places=2, per_place=1, cpus=1, gpus=0, apart=True)
EVALUATION = Plan("evaluate_tiger", ("stages.evaluate", "tiger"), places=3, per_place=1, cpus=2, gpus=1, apart=False)


def test_a_training_has_the_processes_of_the_params_on_machines_of_their_own():
    trainer = replace(TRAINER, devices=2, num_nodes=3, gpus=2, num_threads=4)
    assert plan_of("train_sasrec", PIPELINE, trainer, None) == Plan(
        "train_sasrec", ("stages.train_sasrec",), places=3, per_place=2, cpus=8, gpus=2, apart=True
    )
    assert not plan_of("train_sasrec", PIPELINE, TRAINER, None).apart
    assert plan_of("train_sasrec", PIPELINE, trainer, None).n_processes == 6


def test_an_evaluation_has_the_processes_that_the_command_names_wherever_there_is_room():
    trainer = replace(TRAINER, devices=2, num_nodes=3, gpus=2, num_threads=2)
    assert plan_of("evaluate_tiger", PIPELINE, trainer, 3) == EVALUATION


@pytest.mark.parametrize(
    ("stage", "processes", "line"),
    [
        (
            "train_gru",
            None,
            "no stage named 'train_gru'; known: train_sasrec, evaluate_tiger, generate_candidates",
        ),
        (
            "prepare_data",
            None,
            "prepare_data is done by one process, so a cluster is no use to it; run `dvc repro prepare_data`. Several "
            "share train_sasrec, evaluate_tiger, generate_candidates",
        ),
        (
            "evaluate_tiger",
            None,
            "say how many processes share the users of evaluate_tiger, such as --processes 4",
        ),
        (
            "train_sasrec",
            2,
            "--processes is for evaluations; train_sasrec is trained by trainer.devices x trainer.num_nodes processes "
            "of params.yaml, now 1 x 1: set them there",
        ),
    ],
)
def test_what_cannot_be_shared_as_asked_is_refused(stage, processes, line):
    with pytest.raises(UserError) as error:
        plan_of(stage, PIPELINE, TRAINER, processes)
    assert str(error.value) == line


def test_trainings_and_passes_over_users_of_the_pipeline_can_be_shared():
    pipeline = read_yaml(Path("dvc.yaml"))["stages"]
    alone = {
        "fetch_data",
        "prepare_data",
        "count_transitions",
        "extract_embeddings",
        "build_code_table",
        "build_digits",
    }
    alone |= {"evaluate_ranker", "package", "report", "track"}
    assert set(pipeline) - set(shareable(pipeline)) == alone


MACHINE = {"CPU": 4.0, "memory": 1e9}


def test_a_plan_that_has_room_is_let_through():
    check_room(TRAINING, [{"CPU": 1.0}, {"CPU": 1.0}])
    check_room(replace(TRAINING, apart=False), [{"CPU": 2.0}])
    check_room(EVALUATION, [{"CPU": 4.0, "GPU": 2.0}, {"CPU": 2.0, "GPU": 1.0}])


@pytest.mark.parametrize(
    ("plan", "machines", "line"),
    [
        (
            TRAINING,
            [MACHINE],
            "train_sasrec needs 2 machines with 1 CPU each, and the cluster has 1 (1 machines: 4 CPU, 0 GPU)",
        ),
        (
            EVALUATION,
            [MACHINE, {"CPU": 4.0, "GPU": 1.0}],
            "evaluate_tiger needs 3 places with 2 CPU and 1 GPU each, and the cluster has 1 (2 machines: 4 CPU, 0 GPU; "
            "4 CPU, 1 GPU)",
        ),
    ],
)
def test_a_plan_that_will_never_have_room_is_refused(plan, machines, line):
    with pytest.raises(UserError) as error:
        check_room(plan, machines)
    assert str(error.value) == f"{line}; add machines, or ask for less"


MISTAKE = Ended(0, "a", 1, "error: trainer.gpus is 1, but there is none", "0.log")
NOTICED = Ended(0, "a", 1, "error: another of the 2 processes that train together has ended; run again, which", "0.log")
KILLED = Ended(1, "b", -9, "epoch 3/40", "1.log")
LOST = Ended(1, "b", None, "", "")
SILENT = Ended(0, "a", 1, "", "0.log")
BUG = Ended(1, "b", 1, "ValueError: 3", "1.log")
WELL = Ended(0, "a", 0, "", "0.log")


@pytest.mark.parametrize(
    ("ended", "line"),
    [
        ([SILENT, replace(MISTAKE, rank=1)], "trainer.gpus is 1, but there is none"),
        (
            [NOTICED, KILLED],
            "process 1 of train_sasrec, on b, was ended by SIGKILL; run again: it goes on after its last whole epoch",
        ),
        (
            [NOTICED, LOST],
            "process 1 of train_sasrec, on b, was lost with its machine; run again: it goes on after its last whole "
            "epoch",
        ),
        ([NOTICED, BUG], "process 1 of train_sasrec, on b, failed: ValueError: 3 (all of it: 1.log)"),
        ([WELL, BUG], "process 1 of train_sasrec, on b, failed: ValueError: 3 (all of it: 1.log)"),
    ],
)
def test_the_cause_is_told_and_not_who_noticed_it(ended, line):
    assert told(TRAINING, ended) == line


def test_of_an_evaluation_nothing_was_written():
    assert told(EVALUATION, [KILLED]).endswith("run again: nothing was written")
