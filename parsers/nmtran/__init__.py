"""NM-TRAN: grammars, syntax, data rules and lowering."""
