"""Runs layers over data: packs their weights, cuts a call into pieces, and makes kernel calls, on worker threads too."""
