"""Names with a fixed meaning in abbreviated code: functions and reserved variables."""

from __future__ import annotations

# Fortran's and NM-TRAN's names of the functions of the IR.
FUNCTION_NAMES: dict[str, str] = {
    "EXP": "exp",
    "DEXP": "exp",
    "LOG": "log",
    "ALOG": "log",
    "DLOG": "log",
    "LOG10": "log10",
    "ALOG10": "log10",
    "DLOG10": "log10",
    "SQRT": "sqrt",
    "DSQRT": "sqrt",
    "ABS": "abs",
    "DABS": "abs",
    "IABS": "abs",
    "SIN": "sin",
    "DSIN": "sin",
    "COS": "cos",
    "DCOS": "cos",
    "TAN": "tan",
    "DTAN": "tan",
    "ASIN": "asin",
    "DASIN": "asin",
    "ACOS": "acos",
    "DACOS": "acos",
    "ATAN": "atan",
    "DATAN": "atan",
    "ATAN2": "atan2",
    "DATAN2": "atan2",
    "SINH": "sinh",
    "DSINH": "sinh",
    "COSH": "cosh",
    "DCOSH": "cosh",
    "TANH": "tanh",
    "DTANH": "tanh",
    "INT": "int",
    "IDINT": "int",
    "IFIX": "int",
    "AINT": "int",
    "DINT": "int",
    "FLOOR": "floor",
    "CEILING": "ceil",
    "MOD": "mod",
    "AMOD": "mod",
    "DMOD": "mod",
    "MIN": "min",
    "MIN0": "min",
    "AMIN1": "min",
    "DMIN1": "min",
    "MAX": "max",
    "MAX0": "max",
    "AMAX1": "max",
    "DMAX1": "max",
    "GAMLN": "gamln",
    "LFAC": "lfac",
    "PHI": "phi",
}

# Protected functions, which a legacy engine guards against overflow, and the plain function of each
# (None: the argument itself).
PROTECTED: dict[str, str | None] = {
    "PEXP": "exp",
    "PDEXP": "exp",
    "PLOG": "log",
    "PDLOG": "log",
    "PLOG10": "log10",
    "PSQRT": "sqrt",
    "PDSQRT": "sqrt",
    "PSIN": "sin",
    "PCOS": "cos",
    "PTAN": "tan",
    "PASIN": "asin",
    "PACOS": "acos",
    "PATAN": "atan",
    "PINT": "int",
    "PGAMLN": "gamln",
    "PPHI": "phi",
    "PDZ": None,
    "PZR": None,
    "PNP": None,
    "PHE": None,
    "PNG": None,
}

# Names with a meaning to a legacy engine that code can neither use here nor assign.
RESERVED = frozenset(
    """
    NEWIND NEWL2 ICALL NIREC NDREC LIREC NPROB NREP IREP IPROB NIND NINDR INDR1 INDR2 LNTWOPI MIXNUM MIXEST
    MIXP NSPOP COMACT A_0FLG CORRL2 DOSTIM DOSREC TSTATE TSCALE XSCALE PRDERR OBJI ISFINL ISSMOD MSEC
    PRED_ RES_ WRES_ IIDX CNTID DDELTA IERPRD I_SS FIRSTEM BAYES_EXTRA ITER_REPORT NPDE_MODE ETEXT ISSNEW
    """.split()
)

# Reserved names with an index.
RESERVED_ARRAYS = frozenset(
    """
    COM MTIME MNEXT MPAST MNOW MIXP MIXPT DA DP DT E P G H HH OMEGA SIGMA DAE DE SSA THSIMP THETAFR
    FUNCA FUNCB FUNCC FUNCD FUNCE FUNCF FUNCG FUNCH FUNCI VECTRA VECTRB VECTRC A_UG PR_Y A_0 DADT A DOSREC
    CORRL2 OBJI IIDX
    """.split()
)
