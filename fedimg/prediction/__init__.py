"""A released bundle at work on original studies of a hospital: which series, what it says, where, and the objects for it."""
