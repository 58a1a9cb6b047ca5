"""One run of the variational autoencoder from model and data to a :class:`~.fit.Fit`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from ..estimate import Estimate, initial
from ..failure import ModelFailure, NumericalFailure
from ..fit import Fit
from ..ir.dataset import DataSet
from ..ir.effects import Effect, add_effects
from ..ir.model import Model
from ..iteration import Iteration, Observer, Status
from ..methods.importance import Finished, maximise, propose, settle
from ..methods.mstep import EffectPenalty
from ..methods.pooled import pooled_start
from ..methods.vae import Trained, VaeSettings, VariationalAutoencoder, train
from ..objective.joint import Joint
from ..objective.observations import ObservationLikelihood
from ..objective.sampling import MarginalLikelihood
from ..objective.start_check import check_predictions
from ..parameterisation.tensor import TensorParameterisation
from ..selection.choice import check, choose, report
from ..selection.neighbourhood import Support
from ..selection.outcome import Certificate, Selection
from ..tables.items import check_tables
from .autoencoder_fit import assemble
from .refusal import refuse
from .stopwatch import Stopwatch

MAX_CHECKS = 4  # times a refined covariate model may give way to a neighbour
CONVERGED = Status("converged", "fresh draws see no likelihood left to gain")


def estimate(
    model: Model,
    data: DataSet,
    settings: VaeSettings,
    *,
    candidates: tuple[Effect, ...] = (),
    forced: frozenset[int] = frozenset(),
    forbidden: frozenset[int] = frozenset(),
    start: Estimate | None = None,
    evaluate: bool = False,
    observer: Observer | None = None,
) -> Fit:
    """Fit ``model`` to ``data`` with the variational autoencoder.

    ``candidates`` are covariate effects to select from, those numbered in ``forced`` (``forbidden``) always
    in (out). ``start`` replaces the model's initial estimates; with ``evaluate`` the likelihood and all
    diagnostics are computed there. Raises :class:`ModelFailure` before any fitting where the engine lacks
    something the model or the data ask for, :class:`NumericalFailure` where a matrix of the fit breaks down.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # parallel over chunks of subjects, whose sums do not depend on threads
    try:
        run = _Run(model, data, settings, candidates, observer)
        begin = start or initial(model)
        return run.evaluate(begin) if evaluate else run.fit(begin, forced, forbidden)
    except (np.linalg.LinAlgError, torch.linalg.LinAlgError) as error:  # type: ignore[attr-defined]
        raise NumericalFailure(
            f"the run broke down numerically ({str(error).splitlines()[0]}); try initial estimates nearer to "
            "the data, or a model with fewer random effects"
        ) from error
    finally:
        torch.set_num_threads(threads)


class _Run:
    """What the phases of one run share: the run model (all candidates in), history, warnings."""

    def __init__(
        self,
        model: Model,
        data: DataSet,
        settings: VaeSettings,
        candidates: tuple[Effect, ...],
        observer: Observer | None,
    ) -> None:
        self.watch = Stopwatch()
        self.base, self.data, self.settings = model, data, settings
        self.candidates, self.observer = candidates, observer
        self.warnings: list[str] = []
        self.history: list[Iteration] = []
        refuse(model)
        check_tables(model)
        self.model = add_effects(model, candidates) if candidates else model
        self.joint = Joint(self.model, data, settings.threads, settings.solver)
        if self.joint.n_active == 0:
            raise ModelFailure("the model has no random effects with non-zero variance", hint="add $OMEGA")
        for effect in candidates:
            if effect.eta - 1 not in self.joint.mu.references:
                message = f"{effect.parameter} is not mu-referenced, so {effect} cannot be a candidate"
                raise ModelFailure(message)
        self.watch.lap("compile")

    def fit(self, start: Estimate, forced: frozenset[int], forbidden: frozenset[int]) -> Fit:
        """Train, select, refine."""
        if not TensorParameterisation(self.base).size:
            raise ModelFailure("every parameter is fixed, so there is nothing to fit", hint="use --evaluate")
        penalty = self._penalty(forced, forbidden) if self.candidates else None
        start = replace(start, theta=np.append(start.theta, np.zeros(len(self.candidates))))
        check_predictions(ObservationLikelihood(self.joint.model, self.data), start)
        method = VariationalAutoencoder(self.joint, self.settings, penalty)
        held = list(range(len(self.base.thetas), len(start.theta)))
        start = pooled_start(self.joint, method.decoder, start, held, self.settings.seed)
        self.watch.lap("start")
        trained = train(method, start, self._book, self.watch.began)
        if not trained.settled:
            self.warnings.append(
                "training ended before the estimates settled; the refinement went on from there"
            )
        self.watch.lap("training")
        centre = trained.q_mean - self.joint.active_mu(torch.from_numpy(trained.estimate.theta))
        support = penalty.forced if penalty is not None and trained.support is None else trained.support
        out = np.array([], dtype=int) if support is None else np.flatnonzero(~support) + len(self.base.thetas)
        settled, centre = settle(
            self.joint, trained.estimate, centre, self.settings, frozenset(int(j) for j in out)
        )
        self.watch.lap("refinement")
        joint, selection = self.joint, None
        if penalty is None or support is None:
            finished = self._refine(joint, settled, centre)
        else:
            joint, finished, selection = self._select(settled, centre, support, penalty)
        status = CONVERGED
        if not finished.converged:
            status = Status(
                "not_converged",
                f"fresh draws still gained likelihood after {self.settings.max_rounds} rounds",
                "try other initial estimates, or a model with fewer parameters",
            )
        return self._assemble(joint, finished, status, selection, trained)

    def evaluate(self, at: Estimate) -> Fit:
        """Return likelihood, individuals and diagnostics at ``at``."""
        joint, settings = self.joint, self.settings
        check_predictions(ObservationLikelihood(joint.model, self.data), at)
        start = torch.zeros(joint.n_subjects, joint.n_active, dtype=torch.float64)
        keep = not joint.mu.structural_thetas
        mode, draws = propose(
            joint,
            at,
            start,
            settings.draws_of_round(2, 1, joint, keep=keep),
            seed=settings.seed,
            name="evaluation",
            keep=keep,
        )
        parameterisation = TensorParameterisation(self.model)
        likelihood = MarginalLikelihood(joint, parameterisation, draws)
        finished = Finished(at, parameterisation.pack(at), mode, likelihood, True)
        status = Status("evaluated", "the likelihood was evaluated at the given estimates")
        return self._assemble(joint, finished, status, None, None)

    def _select(
        self, start: Estimate, centre: torch.Tensor, support: Support, penalty: EffectPenalty
    ) -> tuple[Joint, Finished, Selection]:
        """Choose the effects, refine the model that has just these, report."""
        n = len(self.base.thetas)
        best = choose(self.joint, start, centre, support, penalty, self.candidates, self.settings)
        self.watch.lap("selection")
        for _ in range(MAX_CHECKS):
            support, full = best.support, best.estimate
            chosen = np.flatnonzero(support)
            kept = np.append(np.arange(n), n + chosen)
            model = add_effects(self.base, [self.candidates[j] for j in chosen])
            joint = Joint(model, self.data, self.settings.threads, self.settings.solver)
            finished = self._refine(joint, replace(full, theta=full.theta[kept]), centre, kept)
            checked = check(
                self.joint,
                joint,
                finished.likelihood.draws,
                self._in_run_model(finished.estimate, kept),
                support,
                penalty,
                self.candidates,
                self.settings,
            )
            self.watch.lap("selection")
            best = checked.scored
            if (best.support == support).all():
                break
        else:
            self.warnings.append("a neighbour of the last covariate model may have a lower BICc still")
        selection = report(checked, support, self.candidates, penalty, finished.estimate, n, self.history)
        if selection.certificate is not None and not selection.certificate.agrees:
            self.warnings.append(_doubt(selection.certificate))
        self.watch.lap("selection")
        return joint, finished, selection

    def _in_run_model(self, estimate: Estimate, kept: NDArray[np.int64]) -> Estimate:
        """Return an estimate of the final model in the run model's thetas, zero where an effect is out."""
        theta = np.zeros(len(self.model.thetas))
        theta[kept] = estimate.theta
        return replace(estimate, theta=theta)

    def _refine(
        self,
        joint: Joint,
        start: Estimate,
        centre: torch.Tensor,
        kept: NDArray[np.int64] | None = None,
    ) -> Finished:
        """Maximise the marginal likelihood; book rows in the run model's thetas (``kept`` of them)."""

        def book(row: Iteration) -> None:
            if kept is not None:
                row = replace(row, estimate=self._in_run_model(row.estimate, kept))
            self._book(row)

        finished = maximise(joint, start, centre, self.settings, book, self.watch.began)
        self.watch.lap("refinement")
        return finished

    def _book(self, row: Iteration) -> None:
        self.history.append(row)
        if self.observer is not None:
            self.observer(row)

    def _penalty(self, forced: frozenset[int], forbidden: frozenset[int]) -> EffectPenalty:
        n, count = len(self.base.thetas), len(self.candidates)
        both = sorted(forced & forbidden)
        if both:
            raise ModelFailure(f"{self.candidates[both[0]]} is both forced and forbidden")
        return EffectPenalty(
            tuple(range(n, n + count)),
            np.full(count, np.log(self.data.n_subjects)),
            np.isin(np.arange(count), list(forced)),
            np.isin(np.arange(count), list(forbidden)),
        )

    def _assemble(
        self,
        joint: Joint,
        finished: Finished,
        status: Status,
        selection: Selection | None,
        trained: Trained | None,
    ) -> Fit:
        return assemble(
            joint,
            self.base,
            finished,
            status,
            self.settings,
            self.watch,
            history=self.history,
            warnings=self.warnings,
            selection=selection,
            trained=trained,
        )


def _doubt(certificate: Certificate) -> str:
    if certificate.bound < certificate.objective:
        return "the independent solver ran out of time before it could confirm the last selection step"
    return "the independent solver disagrees with the last selection step"
