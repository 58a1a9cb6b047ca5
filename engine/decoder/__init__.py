"""Model IR compiled to predictions: individual parameters, dynamics, observation model."""
