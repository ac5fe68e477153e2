"""Machine code: found on disk or compiled in child processes, checked, and put into memory."""
