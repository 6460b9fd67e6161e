"""Settings that rank validation best: optuna asks, DVC's queue answers, each trial an experiment and a run."""
