"""The networks as LightningModules; they are given tensors and a code table, never a data set."""
