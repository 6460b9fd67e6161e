"""Tensors in, tensors out: layers, quantizers, losses, metrics, prefix tree, beam search."""
