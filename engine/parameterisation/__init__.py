"""Population parameters as vectors: unconstrained, natural, and scaled as a search is reported."""
