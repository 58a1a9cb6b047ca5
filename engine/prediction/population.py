"""Predictions for typical subjects (eta = 0): NONMEM's PRED, Monolix's popPred."""

from __future__ import annotations

import numpy as np

from ..data.kept import without_unused_memory
from ..data.switches import with_switch_times
from ..estimate import Array, Estimate
from ..failure import ModelFailure, NumericalFailure
from ..ir.dataset import DataSet
from ..ir.model import Model
from ..kernel.compile import compile_kernel
from ..kernel.kernel import Kernel
from ..kernel.subjects import Subjects
from ..tables.tabulation import known_values
from .cvode import CvodeKernel, CvodeSettings


def population_predictions(
    model: Model, data: DataSet, estimate: Estimate, cvode: CvodeSettings | None = None
) -> Array:
    """Return the response at eta = 0 and eps = 0 at every observation.

    With ``cvode`` CVODE solves the differential equations. Raises :class:`ModelFailure` for mixtures, whose
    subjects have no typical subpopulation, and :class:`NumericalFailure` naming the first subject that
    cannot be predicted.
    """
    if model.mixture is not None:
        raise ModelFailure("a mixture has no predictions without a subpopulation for each subject")
    prepared = without_unused_memory(model, data)
    if cvode is None:  # the other programs step across a switch of the equations, and so must CVODE
        prepared = with_switch_times(prepared, data)
    compiled = compile_kernel(prepared, recognise=cvode is None)
    subjects = Subjects.build(compiled.model, data)
    kernel = Kernel(compiled, subjects) if cvode is None else CvodeKernel(compiled, subjects, settings=cvode)
    eta = np.zeros((data.n_subjects, model.n_etas))
    found = kernel.evaluate(estimate.theta, eta, "none", known_values(estimate, None, comact=1))
    if found.failure is not None:
        subject = int(np.flatnonzero(found.status[0])[0])
        said = f"{found.failure.message} {found.failure.remedy}"
        raise NumericalFailure(f"subject {data.ids[subject]:g}: {said}")
    return np.asarray(found.of(model.observation.response)[0][data.is_observation])
