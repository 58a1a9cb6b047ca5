"""The language-neutral model: frozen values, no torch, no text of any control language."""
