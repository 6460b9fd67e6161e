"""Settings that rank validation best: optuna proposes, DVC measures, each trial an experiment and a run."""
