"""Standard errors from the observed information of the marginal likelihood."""

from __future__ import annotations

import numpy as np

from ..estimate import Array, is_fixed, is_repeated, names
from ..objective.sampling import MarginalLikelihood
from ..parameterisation.unconstrained import Parameterisation
from .standard_errors import Uncertainty

SOURCE = "inverse observed information of the marginal likelihood (Louis' identity on importance samples)"


def observed_information(
    likelihood: MarginalLikelihood, parameterisation: Parameterisation, free: Array
) -> tuple[Uncertainty | None, str]:
    """Return the uncertainty at the estimate ``free``, or None and which parameters are to blame.

    The Hessian is taken in the unconstrained parameters and carried over by the delta method.
    """
    hessian = 0.5 * likelihood.hessian(free)
    jacobian = parameterisation.jacobian(free)
    fixed = is_fixed(parameterisation.model)
    labels = names(parameterisation.model)
    if not np.isfinite(hessian).all():
        return None, "the information matrix is not finite"
    scale = np.sqrt(np.abs(np.diag(hessian)).clip(min=1e-300))
    values, vectors = np.linalg.eigh(hessian / np.outer(scale, scale))
    if len(values) and values[0] <= 1e-10:
        direction = np.abs(jacobian @ (vectors[:, 0] / scale))
        size = np.where(fixed, 0.0, direction / (np.abs(parameterisation.natural(free).flatten()) + 1e-12))
        guilty = [labels[i] for i in np.argsort(-size)[:3] if size[i] > 0.1 * size.max()]
        return None, f"the information matrix is not positive definite; look at {', '.join(guilty)}"
    covariance = jacobian @ np.linalg.inv(hessian) @ jacobian.T
    covariance[fixed] = 0.0
    covariance[:, fixed] = 0.0
    se = np.sqrt(np.diag(covariance))
    kept = np.flatnonzero(~fixed & ~is_repeated(parameterisation.model) & (se > 0))
    correlation = covariance[np.ix_(kept, kept)] / np.outer(se[kept], se[kept])
    eigenvalues = np.linalg.eigvalsh(correlation) if len(kept) else np.array([])
    return Uncertainty(covariance, np.where(fixed, np.nan, se), eigenvalues, SOURCE), ""
