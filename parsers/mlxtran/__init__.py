"""Mlxtran: from project and model files to the IR, and from data files to records."""
