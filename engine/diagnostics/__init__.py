"""Residuals of every kind, and shrinkage."""
