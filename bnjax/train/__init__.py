"""Training the chapter's networks: a config, the step, a run's directory, and grids of runs."""
