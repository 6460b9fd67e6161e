"""ETEGRec's schedule: the joint stage until validation stops improving, then the final stage from its best state.

The better of both stages' best states is kept.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from genrec.layers.processes import of_the_first, process_rank, wait_for_all
from genrec.models.etegrec.module import ETEGRec
from genrec.storage.checkpoint import read_own_checkpoint, refuse_another_network, write_checkpoint
from genrec.training.base import BaseTrainer
from genrec.training.config import RankingConfig, TrainingConfig
from genrec.training.curves import CurveLogger
from genrec.training.lightning import Logger
from genrec.training.processes import start_processes


@dataclass
class ETEGRecTrainingConfig(RankingConfig):
    """The joint stage as in `RankingConfig`; it validates once a cycle. The final stage validates every epoch.

    Attributes:
        final_max_epochs: 0 leaves the final stage out.
        final_starts_anew: the final stage trains a new recommender, not the joint stage's (the ablation "without
            end-to-end learning" of the paper's table 4); its state is kept whatever the joint stage reached.
    """

    final_starts_anew: bool = False
    final_max_epochs: int = 100
    final_early_stopping_patience: int = 10


class ETEGRecTrainer(BaseTrainer):
    """Both stages, each with checkpoints of its own, so that neither overwrites the other's.

    Attributes:
        score: the monitored metric of the state that the model has after a stage; None without validation.
    """

    model: ETEGRec
    config: ETEGRecTrainingConfig

    def __init__(self, model: ETEGRec, config: ETEGRecTrainingConfig, logger: Logger | None = None) -> None:
        super().__init__(model, config, logger)
        self.score: float | None = None

    def train(self, train_dataloader: DataLoader[Any], val_dataloader: DataLoader[Any] | None = None) -> None:
        """Train both stages; an interrupted run goes on in the stage and epoch where it was.

        The model ends with the better of both stages' best states, the joint one where they are equal.
        """
        start_processes(self.config.devices, self.config.num_nodes, self.config.gpus)
        if not self.config.resume:
            # another run's, which a later resumption must not take for this one's
            for old in (self._joint_file, self._directory / "final" / "last.ckpt"):
                old.unlink(missing_ok=True)
        self.train_joint_stage(train_dataloader, val_dataloader)
        if self.config.final_max_epochs > 0:
            joint_score = self.score
            self.train_final_stage(train_dataloader, val_dataloader)
            if not self.config.final_starts_anew and not self._is_better(self.score, joint_score):
                self._load_joint_state()
        wait_for_all()  # whoever comes first may remove the files

    def summary(self) -> dict[str, float]:
        """`CurveLogger.summary` of the state that `train` kept."""
        assert isinstance(self.logger, CurveLogger)
        first_epoch = self.logger.first_epoch if self.config.final_starts_anew else 0
        return self.logger.summary(self.config.monitor, self.config.monitor_mode, first_epoch)

    def train_joint_stage(self, train_dataloader: DataLoader[Any], val_dataloader: DataLoader[Any] | None) -> None:
        """Tokenizer and recommender in turns; ends with the best validation's weights and code table."""
        if self.config.resume and self._load_joint_stage():
            if process_rank() == 0 and not (self._directory / "final" / "last.ckpt").exists():
                sys.stderr.write(f"resuming {self.config.experiment_name} after the joint stage\n")
            return
        config = replace(
            self.config, checkpoint_dir=str(self._directory / "joint"), val_check_interval=float(self.model.cycle)
        )
        self._train_stage(config, train_dataloader, val_dataloader)
        self._save_joint_stage()

    def train_final_stage(self, train_dataloader: DataLoader[Any], val_dataloader: DataLoader[Any] | None) -> None:
        """The recommender alone, by its own optimizer, on the code table of the best joint state."""
        self.model.is_final = True
        if self.config.final_starts_anew:
            self.model.forget_recommender(self.config.random_seed)
        if isinstance(self.logger, CurveLogger):
            self.logger.first_epoch = max(self.logger.rows, default=-1) + 1
        config = replace(
            self.config,
            checkpoint_dir=str(self._directory / "final"),
            max_epochs=self.config.final_max_epochs,
            early_stopping_patience=self.config.final_early_stopping_patience,
        )
        self._train_stage(config, train_dataloader, val_dataloader)

    def _train_stage(
        self, config: TrainingConfig, train_dataloader: DataLoader[Any], val_dataloader: DataLoader[Any] | None
    ) -> None:
        self.model.requires_grad_()  # DDP averages what is trainable now, whatever the last epoch froze
        stage = BaseTrainer(self.model, config, self.logger)
        stage.train(train_dataloader, val_dataloader)
        self.trainer = stage.trainer
        self.score = stage._best_score()

    def _is_better(self, final: float | None, joint: float | None) -> bool:
        """Whether the final stage's best state is to be kept; always where a stage was not validated."""
        if final is None or joint is None:
            return True
        return final > joint if self.config.monitor_mode == "max" else final < joint

    @property
    def _directory(self) -> Path:
        return Path(self.config.checkpoint_dir)

    @property
    def _joint_file(self) -> Path:
        return self._directory / "joint.pt"

    def _save_joint_stage(self) -> None:
        rows = self.logger.rows if isinstance(self.logger, CurveLogger) else {}
        content = {"state_dict": self.model.state_dict(), "curves": rows, "score": self.score}
        if process_rank() == 0:
            write_checkpoint(content, self._joint_file)
        wait_for_all()

    def _load_joint_stage(self) -> bool:
        """Whether the joint stage has ended; if so, its result."""
        content = self._load_joint_state()
        if content is None:
            return False
        self.score = content["score"]
        if isinstance(self.logger, CurveLogger):
            self.logger.rows = content["curves"]
        return True

    def _load_joint_state(self) -> dict[str, Any] | None:
        """Give the model the joint stage's best state; what its file holds, None where there is none."""
        # of several processes one decides, since it removes what is damaged
        is_there = of_the_first(lambda: read_own_checkpoint(self._joint_file) is not None)
        content = read_own_checkpoint(self._joint_file) if is_there else None
        if content is not None:
            refuse_another_network(self.model, content["state_dict"], self._joint_file)
            self.model.load_state_dict(content["state_dict"], strict=True)
        return content
