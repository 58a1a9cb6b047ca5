"""What holds the engine to its array shapes while tests run; integers count as floats."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
