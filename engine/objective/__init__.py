"""Likelihoods: joint density, importance sampling, linearisation, evidence lower bound."""
