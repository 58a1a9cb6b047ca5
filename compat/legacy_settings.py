"""Option words of one estimation or covariance step, read as settings of a method."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from ..engine.ir.span import Span
from ..engine.ir.task import CovarianceTask, EstimationTask, Method
from ..parsers.problem import Problem

if TYPE_CHECKING:
    from ..engine.methods.trend import TrendTest
    from ..engine.objective.importance_density import Points
    from ..engine.objective.nesting import NestingSettings
    from ..engine.run.planned_step import Settings
    from ..engine.uncertainty.covariance_step import CovarianceSettings, Repair
    from ..engine.uncertainty.sampling_importance_resampling import ResamplingSettings

GRADIENT: frozenset[Method] = frozenset({"fo", "foi", "foce", "focei", "laplace", "laplacei", "agq"})
SEED = 11456  # of the legacy engine's random numbers where a step names none

# Least and greatest value of words that mean nothing beyond them.
_RANGES = {
    **{name: (0.0, math.inf) for name in ("NBURN", "NITER", "DF", "ISCALE_MIN", "ISCALE_MAX", "CITER")},
    **{f"ISAMPLE_{kind}": (0.0, math.inf) for kind in ("M1", "M1B", "M2", "M3")},
    **{name: (0.0, 1.0) for name in ("CALPHA", "IACCEPT", "IACCEPTL")},
    "ISAMPLE": (1.0, math.inf),
}


class Words:
    """The option words of one step; problems found in reading them are collected.

    ``task`` is None where the step is not one of the control stream: then every word has its default.
    """

    def __init__(self, method: Method, task: EstimationTask | None) -> None:
        self.method, self.task = method, task
        self.span: Span | None = None if task is None else task.span
        self.options = {} if task is None else dict(task.options)
        self.evaluate_only = task is not None and task.evaluate_only
        self.problems: list[Problem] = []
        # a step that is not one of the stream takes the settings that the legacy engine holds for the best
        self.auto = task is None or self.is_on("AUTO")

    def __contains__(self, name: str) -> bool:
        return name in self.options

    def number(self, name: str, default: float) -> float:
        """Return the value of a word that takes a number."""
        text = self.options.get(name, "")
        if not text:
            return default
        least, most = _RANGES.get(name, (-math.inf, math.inf))
        kind = f"a number from {least:g} to {most:g}" if math.isfinite(most) else f"{least:g} or more"
        try:
            value = float(text.upper().replace("D", "E"))
        except ValueError:
            value, kind = math.nan, "a number"
        if least <= value <= most:
            return value
        self.problems.append(Problem(f"{name}={text}: {kind} is needed", self.span))
        return default

    def whole(self, name: str, default: int) -> int:
        """Return the value of a word that takes a whole number."""
        value = self.number(name, default)
        if value != int(value):
            text = self.options[name]
            self.problems.append(Problem(f"{name}={text}: a whole number is needed", self.span))
            return default
        return int(value)

    def is_on(self, name: str) -> bool:
        """Return whether a switch is there and not set to 0."""
        return name in self.options and self.options[name].upper() not in ("0", "OFF")

    def seed(self, chosen: int | None) -> int:
        """Return the seed: the caller's, that of the step, the legacy default."""
        return self.whole("SEED", SEED) if chosen is None else chosen


def step_settings(words: Words, evaluate_only: bool, seed: int, information: bool) -> Settings:
    """Return the settings of the method of ``words``.

    ``information``: whether the methods that sample make an information matrix for the covariance step.
    """
    if words.method in GRADIENT:
        return _gradient_settings(words, evaluate_only, seed)
    if words.method == "its":
        return _two_stage_settings(words, evaluate_only, seed)
    if words.method == "saem":
        return _saem_settings(words, evaluate_only, seed, information)
    return _importance_settings(words, evaluate_only, seed, information)


def _gradient_settings(words: Words, evaluate_only: bool, seed: int) -> Settings:
    from ..engine.methods.conditional import ConditionalSettings

    limit = words.whole("MAXEVALS", -1)
    limits = {"omega_limit": "NOOMEGABOUNDTEST", "sigma_limit": "NOSIGMABOUNDTEST"}
    return ConditionalSettings(
        significant_digits=words.number("SIGDIGITS", 3.0),
        max_evaluations=0 if evaluate_only else (None if limit < 0 else limit),
        posthoc=words.task is None or words.method not in ("fo", "foi") or "POSTHOC" in words,
        draws=_mode_starts(words),
        seed=seed,
        **{name: 0.0 for name, word in limits.items() if word in words},
        theta_bounds_tested="NOTHETABOUNDTEST" not in words,
    )


def _two_stage_settings(words: Words, evaluate_only: bool, seed: int) -> Settings:
    from ..engine.methods.its import TwoStageSettings

    return TwoStageSettings(
        iterations=0 if evaluate_only else _iterations(words),
        objective="laplacei" if "LAPLACIAN" in words else "focei",
        mode_starts=_mode_starts(words),
        seed=seed,
        not_mu=_not_mu(words),
        test=_trend_test(words),
        significant_digits=words.number("SIGDIGITS", 3.0),
    )


def _importance_settings(words: Words, evaluate_only: bool, seed: int, information: bool) -> Settings:
    from ..engine.methods.importance_sampling import ImportanceSettings
    from ..engine.methods.importance_step import ProposalSettings

    auto = words.auto
    iterations = _iterations(words)
    always = words.method == "impmap"
    return ImportanceSettings(
        iterations=iterations,
        draws=words.whole("ISAMPLE", 300),
        most_draws=words.whole("ISAMPEND", 10000),
        objective_sd=words.number("STDOBJ", 1.0 if auto else 0.0),
        evaluate_only=evaluate_only,
        mode_iterations=iterations + 1 if always else words.whole("MAPITER", 1),
        mode_interval=words.whole("MAPINTER", 0),
        mode_starts=_mode_starts(words),
        proposal=ProposalSettings(
            acceptance=words.number("IACCEPT", 0.0 if auto else 0.4),
            tail_acceptance=words.number("IACCEPTL", 0.0),
            scale_min=words.number("ISCALE_MIN", 0.1),
            scale_max=words.number("ISCALE_MAX", 10.0),
            df=words.whole("DF", 0),
            from_prior=words.options.get("METHOD") == "DIRECT",
            points=_points(words),
            seed=seed,
        ),
        not_mu=_not_mu(words),
        test=_trend_test(words),
        information=information,
    )


def _saem_settings(words: Words, evaluate_only: bool, seed: int, information: bool) -> Settings:
    from ..engine.inner.metropolis import Kernels
    from ..engine.methods.saem import Annealed, SaemSettings

    annealed: dict[int, Annealed] = {0: "none", 1: "omega", 2: "sigma", 3: "both"}
    iterations = 500 if words.task is None else 1000
    return SaemSettings(
        burn_in=words.whole("NBURN", 4000 if words.auto else 2000),
        iterations=words.whole("NITER", iterations),
        chains=words.whole("ISAMPLE", 2),
        kernels=Kernels(
            population=words.whole("ISAMPLE_M1", 2),
            learned=words.whole("ISAMPLE_M1B", 2),
            joint=words.whole("ISAMPLE_M2", 2),
            single=words.whole("ISAMPLE_M3", 2),
            acceptance=words.number("IACCEPT", 0.4),
            least_scale=words.number("ISCALE_MIN", 1e-6),
            largest_scale=words.number("ISCALE_MAX", 1e6),
        ),
        annealed=annealed[words.whole("CONSTRAIN", 1) % 4],
        test=_trend_test(words),
        evaluate_only=evaluate_only,
        information=information,
        not_mu=_not_mu(words),
        seed=seed,
    )


def nesting_settings(words: Words) -> NestingSettings:
    """Return how random effects that groups of subjects share are made and weighed.

    Without LEVCENTER as releases before 7.5 do, which do not know the word: centred, the highest level one
    degree of freedom less for every method.
    """
    from ..engine.objective.nesting import NestingSettings

    known = {"LEVCENTER": (0, 1), "LEVWT": (0, 1), "LEVOBJTYPE": (0, 1)}
    for name, values in known.items():
        if words.whole(name, 0) not in values:
            words.problems.append(Problem(f"{name}={words.options[name]}: 0 or 1 is needed", words.span))
    newer = "LEVCENTER" in words and words.method != "its"
    return NestingSettings(
        centred=words.whole("LEVCENTER", 1) == 1,
        top_loss=0 if newer else 1,
        by_subjects=words.whole("LEVWT", 0) == 1,
        averaged=words.whole("LEVOBJTYPE", 0) == 0,
    )


def _iterations(words: Words) -> int:
    return words.whole("NITER", 500 if words.auto else 50)


def _mode_starts(words: Words) -> int:
    return max(words.whole("MCETA", 0) - 1, 0)


def _points(words: Words) -> Points:
    """Return the kind of points that RANMETHOD names; even ones where it does not.

    The objective of 300 even draws of 4 etas has a third of the standard error of random ones.
    """
    named = words.options.get("RANMETHOD", "").upper()
    return "sobol" if "S" in named or not named else "random"


def _trend_test(words: Words) -> TrendTest:
    from ..engine.methods.trend import Tested, TrendTest

    kinds: dict[int, Tested] = {0: "none", 1: "thetas_sigmas", 2: "variances", 3: "all"}
    kind = words.whole("CTYPE", 3 if words.auto else 0)
    if kind not in kinds:
        words.problems.append(Problem(f"CTYPE={kind}: 0, 1, 2 or 3 is needed", words.span))
    interval = 0 if words.method == "saem" else 1
    if not words.auto:
        interval = words.whole("PRINT", 1)
    return TrendTest(
        kinds.get(kind, "none"),
        words.whole("CINTERVAL", interval),
        words.whole("CITER", 10),
        words.number("CALPHA", 0.05),
    )


def _not_mu(words: Words) -> frozenset[int]:
    """Return the thetas (from 0) that MUM says are not to be mu-referenced: ``DDNN``, ``N(3,5-8):M(6)``."""
    text = words.options.get("MUM", "").upper().replace(" ", "")
    if not text:
        return frozenset()
    if "(" not in text:
        return frozenset(k for k, letter in enumerate(text) if letter in "NX")
    found: set[int] = set()
    for part in text.split(":"):
        match = re.fullmatch(r"([MNDX])\(([\d,-]+)\)", part)
        if match is None:
            words.problems.append(Problem(f"MUM={text} is not understood", words.span, "MUM=N(3,5-8)"))
            return frozenset()
        for numbers in match[2].split(","):
            first, _, last = numbers.partition("-")
            if match[1] in "NX":
                found.update(range(int(first) - 1, int(last or first)))
    return frozenset(found)


def covariance_settings(task: CovarianceTask, words: Words, problems: list[Problem]) -> CovarianceSettings:
    """Return the settings of the covariance step that follows the estimation step of ``words``."""
    from ..engine.uncertainty.covariance_step import CovarianceSettings

    options = dict(task.options)
    matrix = options.get("MATRIX", "")
    if matrix not in ("", "R", "S"):
        problems.append(Problem(f"MATRIX={matrix}: R or S is needed", task.span))
    return CovarianceSettings(
        "r" if matrix == "R" else "s" if matrix == "S" else "sandwich",
        "UNCONDITIONAL" in options,
        _resampling(options, task, problems),
        _repair(options, task, problems),
        _digits(options, task, words, problems),
    )


def _digits(
    options: dict[str, str], task: CovarianceTask, words: Words, problems: list[Problem]
) -> float | None:
    """Return the digits of the objective: SIGL of the covariance step, or that of the estimation."""
    try:
        digits = float(options["SIGL"]) if "SIGL" in options else words.number("SIGL", 0.0)
    except ValueError:
        problems.append(Problem(f"SIGL={options['SIGL']}: a number is needed", task.span))
        return None
    return digits if digits > 0 else None


def _repair(options: dict[str, str], task: CovarianceTask, problems: list[Problem]) -> Repair | None:
    """Return how POSDEF, or FPOSDEF as earlier releases have it, makes R positive definite."""
    repairs: dict[str, Repair] = {"0": "none", "1": "shifted", "2": "floored", "3": "absolute"}
    asked = options.get("POSDEF", "1" if options.get("FPOSDEF") == "1" else "")
    if asked and asked not in repairs:
        problems.append(Problem(f"POSDEF={asked}: 0, 1, 2 or 3 is needed", task.span))
    return repairs.get(asked)


def _resampling(
    options: dict[str, str], task: CovarianceTask, problems: list[Problem]
) -> ResamplingSettings | None:
    """Return how SIRSAMPLE and its companions ask for samples of the estimates, or None."""
    from ..engine.uncertainty.sampling_importance_resampling import ResamplingSettings

    asked = options.get("SIRSAMPLE", "-1").strip("\"'")
    try:
        counts = [int(float(n)) for n in asked.split(",")]
        rounds = int(float(options.get("SIRNITER", "1")))
        df = int(float(options.get("SIRDF", "0")))
        seed = int(float(options.get("SIRSEED", options.get("SEED", "11456"))))
        least = float(options.get("SIRMINWT", "0.001"))
        most = float(options.get("SIRMAXWT", "1000"))
    except ValueError:
        problems.append(Problem("an option of SIRSAMPLE is no number", task.span, "e.g. SIRSAMPLE=1000"))
        return None
    if counts[0] <= 0:
        return None
    draws = tuple((*counts, *[counts[-1]] * rounds)[: max(rounds, 1)])
    if min(draws) < 2:
        problems.append(Problem(f"SIRSAMPLE={asked} is too few", task.span, "300 to 10000"))
        return None
    return ResamplingSettings(
        draws=draws,
        resamples=tuple(max(n // 2, 2) for n in draws),
        df=df,
        recentred=options.get("SIRCENTER", "0") == "1",
        least_weight=least,
        largest_weight=most,
        seed=seed,
    )
