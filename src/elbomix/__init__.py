"""elbomix: drop-in estimation for NONMEM and Monolix models.

``read(path)`` returns a model, ``fit(model, ...)`` a :class:`~elbomix.engine.fit.Fit` with pandas tables,
``plot(fit, folder)`` writes its plots; ``predict(model, ...)`` returns predictions at given estimates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .compat.predict import predict
    from .compat.run import fit, plot, read

__version__ = "0.1.0"
__all__ = ["__version__", "fit", "plot", "predict", "read"]


def __getattr__(name: str) -> Any:
    if name in ("fit", "plot", "read"):
        from .compat import run

        return getattr(run, name)
    if name == "predict":
        from .compat.predict import predict

        return predict
    raise AttributeError(f"module 'elbomix' has no attribute {name!r}")
