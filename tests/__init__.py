"""A package, so that spawned processes find these tests, not those that a distribution installs under this name."""
