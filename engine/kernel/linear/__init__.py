"""Linear compartment systems: closed forms, modes and the matrix exponential."""
