"""Covariate selection: the L0-penalised regression step and its search."""
