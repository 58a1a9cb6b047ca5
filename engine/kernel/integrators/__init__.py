"""Integrators of differential equations with forward sensitivities."""
