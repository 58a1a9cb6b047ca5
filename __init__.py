"""The repository root mirrors the package: engine, parsers, compat."""
