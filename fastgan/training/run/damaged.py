class Damaged(ValueError):
    """A file of a run that cannot be read, or that does not hold what was written."""
