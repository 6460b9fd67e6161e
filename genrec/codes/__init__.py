"""Items become codes: quantizers of item embeddings."""
