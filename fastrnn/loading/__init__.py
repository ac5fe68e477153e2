"""Weights from where people have them, and back: one module for each source."""
