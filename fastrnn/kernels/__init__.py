"""Compiled code: nothing here imports from above, checks or allocates."""
