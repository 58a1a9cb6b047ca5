"""Option words of a legacy engine that ask for nothing here, and those that ask for what is not done."""

from __future__ import annotations

from collections.abc import Mapping

from ..engine.ir.task import Method

_EXACT = "derivatives are exact"
_LAYOUT = "files have the names and the layout of the run"
_SUMS = "sums need no ordering"
_PARALLEL = "parallel runs are asked for by --threads"
_MODES = "the search for conditional modes has its own safeguards"
_HESSIAN = "matrices of second derivatives are kept positive definite where they must be"
_BOUNDS = "estimates are tested for bounds in any case"
_TOLERANCE = "tolerances of the solver are those of $SUBROUTINES"

# Words of every method that change nothing here: why.
NEEDLESS: Mapping[str, str] = {
    "SIGL": "derivatives of the search are exact; the covariance step takes 7 digits and less at their word",
    "SIGLO": _EXACT,
    "SLOW": _EXACT,
    "FAST": _EXACT,
    "NUMERICAL": _EXACT,
    "NUMDER": _EXACT,
    "DERCONT": _EXACT,
    "NONINFETA": _EXACT,
    "ETADER": _EXACT,
    "OPTMAP": _MODES,
    "ABORT": _MODES,
    "NOABORT": _MODES,
    "NOHABORT": _HESSIAN,
    "SADDLE_HESS": _HESSIAN,
    "SADDLE_RESET": _HESSIAN,
    "SORT": _SUMS,
    "KNUTHSUMOFF": _SUMS,
    "PARAFILE": _PARALLEL,
    "FPARAFILE": _PARALLEL,
    "PARAFPRINT": _PARALLEL,
    "FILE": _LAYOUT,
    "NOSUB": "parameters have no labels there",
    "ATOL": _TOLERANCE,
    "TOL": _TOLERANCE,
    "MSFO": "no model specification file is written",
    "REPEAT": "the search ends where its gradient does",
    "OMEGABOUNDTEST": _BOUNDS,
    "SIGMABOUNDTEST": _BOUNDS,
    "THETABOUNDTEST": _BOUNDS,
    "CLOCKSEED": "the seed is that of SEED, or --seed",
    "ETABARCHECK": "the mean of the random effects is tested against zero",
    "GRDQ": "gradients are taken over all samples",
}

# Words of the methods that sample that change nothing here: why.
NEEDLESS_SAMPLING: Mapping[str, str] = {
    "GRD": "every parameter is estimated in the way that suits it",
    "MAPITERS": "chains begin at $ETAS, the step before or the typical values",
    "ISAMPLE_M1A": "chains of a subject do not look at other subjects",
    "IKAPPA": "learned densities weigh all draws",
    "MASSRESET": "learned densities weigh all draws",
    "ETASAMPLES": "samples of the random effects are not written",
}

# Words that ask for another objective or another search: what they ask for.
REFUSED: Mapping[str, str] = {
    "CENTERING": "centred random effects (CENTERING)",
    "FO": "the first-order model with centring (FO)",
    "HYBRID": "the hybrid method (HYBRID)",
    "ZERO": "the hybrid method (ZERO)",
    "STIELTJES": "the Stieltjes method",
    "GRID": "the Stieltjes method",
    "REPEAT1": "the Stieltjes method",
    "REPEAT2": "the Stieltjes method",
    "LNTWOPI": "an objective with its constant (LNTWOPI)",
    "OLNTWOPI": "an objective with the constant of the random effects (OLNTWOPI)",
    "PRIORC": "an objective with the constant of the prior (PRIORC)",
    "BOOTDATA": "the subjects that a bootstrap left out (BOOTDATA)",
    "BIONLY": "individual parameters alone (BIONLY)",
    "TPU": "priors by a routine of one's own (TPU)",
}
# Values of words in REFUSED that ask for nothing.
OFF = frozenset({"0", "OFF"})

# Words of $COVARIANCE that change nothing here.
NEEDLESS_COVARIANCE: Mapping[str, str] = {
    "SPECIAL": _EXACT,
    "SLOW": _EXACT,
    "NOSLOW": _EXACT,
    "FAST": _EXACT,
    "NOFAST": _EXACT,
    "SIGLO": _EXACT,
    "PRECOND": _EXACT,
    "PRECONDS": _EXACT,
    "PFCOND": _EXACT,
    "PRETYPE": _EXACT,
    "CHOLROFF": _EXACT,
    "TOL": _TOLERANCE,
    "ATOL": _TOLERANCE,
    "KNUTHSUMOFF": _SUMS,
    "THBND": "derivatives are those to the parameters themselves",
    "RESUME": "there is no earlier run to resume",
    "FILE": _LAYOUT,
    "COMPRESS": _LAYOUT,
    "PARAFILE": _PARALLEL,
    "PARAFPRINT": _PARALLEL,
}

# Steps that sample the posterior of the population parameters, or choose initial values.
WITHOUT_STEP: Mapping[Method, str] = {
    "bayes": "METHOD=BAYES (sampling from the posterior of the population parameters)",
    "nuts": "METHOD=NUTS (sampling from the posterior of the population parameters)",
    "chain": "METHOD=CHAIN (random initial values)",
}

# The variance that, fixed on the whole diagonal of OMEGA, takes the distribution of the random effects away.
UNCONSTRAINED = 1.0e6
