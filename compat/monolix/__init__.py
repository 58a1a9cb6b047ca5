"""Monolix output files."""
