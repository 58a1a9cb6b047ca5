"""Runs: what is planned and refused, one step after the other, and the fit of each."""
