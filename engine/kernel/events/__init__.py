"""Doses, records and the event loop that takes a subject through them."""
