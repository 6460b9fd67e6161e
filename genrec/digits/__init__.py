"""Embeddings become many codes of equal standing: product quantization, and the table of digits."""
