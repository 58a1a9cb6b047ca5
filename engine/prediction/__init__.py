"""Predictions at given estimates, without estimation."""
