"""Gather, decide, act: one batch, one transaction."""
