"""Codes become items: the generating network, the prefix tree, the beam search."""
