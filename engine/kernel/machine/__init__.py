"""How kernel functions become machine code, and how they hand on arrays."""
