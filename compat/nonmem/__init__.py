"""NONMEM output files."""
