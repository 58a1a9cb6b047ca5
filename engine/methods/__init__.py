"""Estimation methods: frozen settings, a state, and one driver."""
