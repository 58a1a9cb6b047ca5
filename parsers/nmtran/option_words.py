"""The option words of $ESTIMATION, $COVARIANCE and $TABLE."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from .syntax import Option, Word
from .words import resolve

ESTIMATION_OPTIONS: tuple[str, ...] = tuple(
    """
    METHOD INTERACTION LAPLACIAN MAXEVALS PRINT POSTHOC SIGDIGITS SIGL SIGLO NOABORT ABORT NOHABORT MSFO
    FILE FORMAT DELIM NUMERICAL SLOW FAST LIKELIHOOD PREDICTION CENTERING ETABARCHECK HYBRID REPEAT
    REPEAT1 REPEAT2 SORT STIELTJES GRID ZERO OMITTED NITER NBURN ISAMPLE ISAMPEND ISAMPLE_M1 ISAMPLE_M1A
    ISAMPLE_M1B ISAMPLE_M2 ISAMPLE_M3 IACCEPT IACCEPTL ISCALE_MIN ISCALE_MAX IKAPPA KAPPA PKAPPA OKAPPA
    SEED CLOCKSEED CTYPE CITER CINTERVAL CALPHA EONLY AUTO DF DFS DERCONT ETADER ETASTYPE ETASAMPLES
    FNLETA FPARAFILE GRD GRDQ KNUTHSUMOFF LEVCENTER LEVOBJTYPE LEVWT LNTWOPI MADAPT MAPCOV MAPINTER MAPITER
    MASSRESET MCETA MUM NOCOV NOLABEL NONINFETA NOPRIOR NOSUB NOTITLE NUMDER NUTS_BASE NUTS_DELTA
    NUTS_EPARAM NUTS_GAMMA NUTS_INIT NUTS_MASS NUTS_MAXDEPTH NUTS_OPARAM NUTS_REG NUTS_SPARAM
    NUTS_STEPINTER NUTS_STEPITER NUTS_TERM NUTS_TEST NUTS_TRANSFORM OACCEPT OLKJDF OLNTWOPI OPTMAP ORDER
    OSAMPLE_M1 OSAMPLE_M2 OSAMPLE_M3 OVARF OMEGABOUNDTEST SIGMABOUNDTEST THETABOUNDTEST OTHER PACCEPT
    PARAFILE PARAFPRINT PHITYPE PREDTYPE PRIORC PSAMPLE_M1 PSAMPLE_M2 PSAMPLE_M3 PSCALE_MIN PSCALE_MAX
    RANMETHOD SADDLE_HESS SADDLE_RESET SLKJDF STDOBJ SVARF THIN TBLN TTDF ATOL TOL BAYES_PHI_STORE
    BIONLY BOOTDATA CONSTRAIN CONDITIONAL COVARIANCE FO MAPITERS SELECT TPU
    """.split()
)

ESTIMATION_ALIASES: dict[str, str] = {
    "-2LLIKELIHOOD": "-2LOGLIKELIHOOD",
    "-2LOGLIKELIHOOD": "-2LOGLIKELIHOOD",
    "-2LL": "-2LOGLIKELIHOOD",
    "NSIGDIGITS": "SIGDIGITS",
    "SIGD": "SIGDIGITS",
    "MAX": "MAXEVALS",
    "NSAMPLE": "NITER",
    "CNSAMP": "CITER",
    "LAPLACE": "LAPLACIAN",
    "LIKE": "LIKELIHOOD",
}

# Words without a value.
ESTIMATION_FLAGS = frozenset(
    """
    INTERACTION LAPLACIAN POSTHOC NOABORT ABORT NOHABORT NUMERICAL SLOW FAST LIKELIHOOD -2LOGLIKELIHOOD
    PREDICTION CENTERING ETABARCHECK HYBRID REPEAT REPEAT1 REPEAT2 SORT STIELTJES ZERO OMITTED
    CLOCKSEED NOSUB NOTITLE NOLABEL ORDER OMEGABOUNDTEST SIGMABOUNDTEST THETABOUNDTEST NOCOV KNUTHSUMOFF
    CONDITIONAL FO
    """.split()
)

# Words that switch another one off.
ESTIMATION_OFF: dict[str, str] = {
    "NOINTERACTION": "INTERACTION",
    "NOLAPLACIAN": "LAPLACIAN",
    "NOLAPLACE": "LAPLACIAN",
    "NOPOSTHOC": "POSTHOC",
    "NONUMERICAL": "NUMERICAL",
    "NOSLOW": "SLOW",
    "NOFAST": "FAST",
    "NOCENTERING": "CENTERING",
    "NOETABARCHECK": "ETABARCHECK",
    "NOREPEAT": "REPEAT",
    "NOREPEAT1": "REPEAT1",
    "NOREPEAT2": "REPEAT2",
    "NOSORT": "SORT",
    "NOORDER": "ORDER",
    "NOOMEGABOUNDTEST": "OMEGABOUNDTEST",
    "NOSIGMABOUNDTEST": "SIGMABOUNDTEST",
    "NOTHETABOUNDTEST": "THETABOUNDTEST",
    "NOOBT": "OMEGABOUNDTEST",
    "NOSBT": "SIGMABOUNDTEST",
    "NOTBT": "THETABOUNDTEST",
    "NOFO": "FO",
}

# Switches that are on where nothing is said: to turn them off is recorded, as a value of 0.
ESTIMATION_ON = frozenset({"OMEGABOUNDTEST", "SIGMABOUNDTEST", "THETABOUNDTEST"})

# Words of which the last one given holds.
ESTIMATION_RIVALS: tuple[frozenset[str], ...] = (
    frozenset({"LIKELIHOOD", "-2LOGLIKELIHOOD", "PREDICTION"}),
    frozenset({"ABORT", "NOABORT", "NOHABORT"}),
    frozenset({"SLOW", "FAST"}),
)

METHODS: tuple[str, ...] = tuple(
    """
    ZERO CONDITIONAL HYBRID ITS IMP IMPMAP SAEM BAYES NUTS DIRECT CHAIN VAE
    """.split()
)
METHOD_ALIASES: dict[str, str] = {"0": "ZERO", "1": "CONDITIONAL", "FO": "ZERO", "FOCE": "CONDITIONAL"}

COVARIANCE_OPTIONS: tuple[str, ...] = tuple(
    """
    UNCONDITIONAL CONDITIONAL MATRIX PRINT COMPRESS OMITTED SPECIAL SIGL SIGLO TOL ATOL SLOW NOSLOW FAST
    NOFAST POSDEF RESUME PRECOND PRECONDS PFCOND PRETYPE FORCED FPOSDEF CHOLROFF KNUTHSUMOFF THBND
    SIRSAMPLE SIRNITER SIRCENTER SIRDF SIRPRINT SIRTHBND IACCEPT IACCEPTL IKAPPA RANMETHOD SEED
    CLOCKSEED FILE FORMAT PARAFILE NOFCOV NOSTRUCTURE OLNTWOPI STRUCTURE PARAFPRINT SIRMINWT SIRMAXWT
    SIR_CAPCORR SIRSEED SIRCLOCKSEED SIRPARAFILE SIRPARAFPRINT
    """.split()
)

COVARIANCE_FLAGS = frozenset(
    """
    UNCONDITIONAL CONDITIONAL COMPRESS OMITTED SPECIAL SLOW NOSLOW FAST NOFAST RESUME CHOLROFF KNUTHSUMOFF
    CLOCKSEED NOFCOV OLNTWOPI
    """.split()
)

TABLE_OPTIONS: tuple[str, ...] = tuple(
    """
    FILE FORMAT PRINT NOPRINT ONEHEADER ONEHEADERALL ONEHEADERPERFILE NOHEADER NOTITLE NOLABEL NOAPPEND
    APPEND FIRSTONLY LASTONLY FIRSTLASTONLY FORWARD NOFORWARD ESAMPLE SEED CLOCKSEED RANMETHOD LFORMAT
    RFORMAT IDFORMAT OMITTED CONDITIONAL UNCONDITIONAL PARAFILE NOSUB NPDTYPE VARCALC FIXEDETAS
    EXCLUDE_BY WRESCHOL BY FIRSTRECORDONLY FIRSTRECONLY LASTRECORDONLY LASTRECONLY HEADER
    """.split()
)

# Words without a value.
TABLE_FLAGS = frozenset(
    """
    PRINT NOPRINT ONEHEADER ONEHEADERALL ONEHEADERPERFILE NOHEADER HEADER NOTITLE NOLABEL NOAPPEND APPEND
    FIRSTONLY LASTONLY FIRSTLASTONLY FIRSTRECORDONLY FIRSTRECONLY LASTRECORDONLY LASTRECONLY FORWARD
    NOFORWARD OMITTED CONDITIONAL UNCONDITIONAL WRESCHOL BY EXCLUDE_BY
    """.split()
)

# What the engine puts into a table by its own name.
TABLE_WORDS = frozenset(
    """
    PRED RES WRES CPRED CRES CWRES CPREDI CRESI CWRESI PREDI RESI WRESI NPRED NRES NWRES
    IPRD IRS IWRS CIPRED CIRES CIWRES CIPREDI CIRESI CIWRESI EPRED ERES EWRES ECWRES
    NIPRED NIRES NIWRES IPREDI IRESI IWRESI EIPRED EIRES EIWRES NPDE NPD OBJI MDVRES
    """.split()
)


def with_values(
    record: Sequence[Option],
    flags: Collection[str],
    words: Collection[str],
    aliases: dict[str, str] | None = None,
) -> list[Option]:
    """Return the options with the values that stand after their word without ``=``.

    ``flags`` are the words that take none.
    """
    found: list[Option] = []
    waiting = False
    for option in record:
        plain = option.value is None and option.items is None
        if waiting and plain:
            found[-1] = Option(found[-1].name, option.name)
            waiting = False
            continue
        found.append(option)
        name = resolve(option.name.text, words, aliases)
        waiting = plain and name is not None and name not in flags
    return found


def is_group(option: Option) -> bool:
    """Tell whether ``option`` is a list in parentheses without a word before it."""
    return option.name.text == "(" and option.items is not None


def separate_groups(record: Sequence[Option]) -> list[Option]:
    """Return the options of a record in which no word takes a list: ``WORD (list)`` is two."""
    found: list[Option] = []
    for option in record:
        if option.items is None or is_group(option):
            found.append(option)
        else:
            found += [Option(option.name), Option(Word("(", option.name.span), None, option.items)]
    return found


def option_value(option: Option) -> str:
    """Return the value of an option as text; a list in parentheses, its items separated by commas."""
    if option.items is not None:
        return "(" + ",".join(word.text for word in option.items) + ")"
    return option.value.text if option.value is not None else ""
