"""Per-subject problems: posterior modes and Gaussian posteriors."""
