"""The timestep loops: a file for each kind of cell."""
