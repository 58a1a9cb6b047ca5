"""What is known of the subjects after a step: random effects, shrinkage, subpopulations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Individuals:
    """What is known of each subject's random effects.

    ``ebe`` conditional modes (id eta), ``cond_mean`` (id eta), ``cond_cov`` (id eta eta) of the true
    posterior by importance samples, ``mu`` (id eta) the typical value of the mu-referenced phi
    (NaN where an eta has none), ``objective`` (id) contributions to the OFV (no constant).
    """

    ebe: Array
    cond_mean: Array
    cond_cov: Array
    mu: Array
    objective: Array


@dataclass(frozen=True)
class Shrinkage:
    """Shrinkage in per cent, on the SD and on the variance scale.

    ``eta_*`` from the EBEs, ``ebv_*`` from the conditional variances, ``eps_*`` from IWRES (one per eps).
    ``etabar``, ``etabar_se``, ``etabar_p``: mean of the EBEs, its standard error, the p-value of zero.
    ``count``: of how many subjects each of these means is (None: of all with observations), ``effective``:
    less the degrees of freedom that random effects which groups of subjects share have taken;
    ``relative_information`` in per cent (None: not computed).
    """

    eta_sd: Array
    eta_var: Array
    ebv_sd: Array
    ebv_var: Array
    eps_sd: Array
    eps_var: Array
    etabar: Array
    etabar_se: Array
    etabar_p: Array
    count: NDArray[np.int64] | None = None
    effective: NDArray[np.int64] | None = None
    relative_information: Array | None = None


@dataclass(frozen=True, eq=False)
class Subpopulations:
    """What is known of the subjects of a mixture under each subpopulation.

    ``probabilities`` [id, component] given the data, ``eta`` [component, id, eta] conditional modes,
    ``covariance`` [component, id, eta, eta] of them, ``objective`` [component, id] contributions to the OFV
    were the subject of that subpopulation for certain; ``shrinkage`` of each over the subjects that most
    probably belong to it.
    """

    probabilities: Array
    eta: Array
    covariance: Array
    objective: Array
    shrinkage: tuple[Shrinkage, ...]
