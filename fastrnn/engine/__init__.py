"""Run layers over data: pack their weights, cut a call into pieces of work, and make kernel calls, with worker threads if it pays."""
