"""Source text of a model's kernel, generated from the checked IR."""
