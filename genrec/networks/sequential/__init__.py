"""Networks that read a history item by item: SASRec and what it is built from."""
