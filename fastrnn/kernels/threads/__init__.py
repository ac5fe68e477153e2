"""Threads that share a piece of work: what leaders and workers do, and what they need of the processor and the system."""
