"""Raw files to interactions, id maps, histories and batches."""
