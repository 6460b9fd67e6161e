"""The training loops: one BaseTrainer and its family."""
