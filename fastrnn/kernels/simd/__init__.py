"""Vectors in registers: tiles of a product, and functions of each element."""
