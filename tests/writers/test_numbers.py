"""Number formats against Fortran: its rules, and the text of files that NONMEM wrote."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from elbomix.compat.nonmem.numbers import exponent, integer, objective, parse_format

SHARED = Path(__file__).parents[2] / ".." / "shared" / "corpus" / "nonmem"


@pytest.fixture
def corpus() -> Path:
    if not SHARED.is_dir():
        pytest.skip("no corpus of NONMEM runs beside the repository")
    return SHARED


@pytest.mark.parametrize(
    ("form", "value", "text"),
    [
        ("s1PE11.4", 110.0, " 1.1000E+02"),
        ("s1PE11.4", -2.83262, "-2.8326E+00"),
        ("s1PE12.5", 0.0, " 0.00000E+00"),
        ("s1PE12.5", -0.0, " 0.00000E+00"),
        ("s1PE17.9", 1234.56789012, "  1.234567890E+03"),
        ("s1PE12.5", 9.999996, " 1.00000E+01"),  # rounding carries into the exponent
        ("sE12.4", 110.0, "  0.1100E+03"),
        ("sES12.4", 110.0, "  1.1000E+02"),
        ("s2PE12.5", 110.0, " 11.0000E+01"),
        ("s1PE13.5E3", 110.0, " 1.10000E+002"),
        ("sF10.3", -0.0004, "    -0.000"),
        ("sF10.3", 12.3456, "    12.346"),
        ("sG15.9", 0.0, " 0.00000000    "),
        ("sG15.9", 123.456, " 123.456000    "),
        ("sG15.9", 0.1, "0.100000000    "),
        ("sG15.9", -0.01, "-.100000000E-01"),
        ("s1PG16.9", 0.01, " 1.000000000E-02"),
        ("s1PG16.9", 1.0e9, " 1.000000000E+09"),
        ("s1PG16.9", 999999999.96, " 1.000000000E+09"),  # rounds to ten digits: E form
    ],
)
def test_descriptors(form: str, value: float, text: str) -> None:
    assert parse_format(form).number(value) == text


@pytest.mark.parametrize("value", [1e-100, -1.5e-300, 1e300, math.inf, -math.inf, math.nan, 5e-324])
@pytest.mark.parametrize("form", ["s1PE11.4", "s1PE12.5", "sF10.3", "sG15.9"])
def test_extreme_values_stay_numbers_of_the_same_width(form: str, value: float) -> None:
    text = parse_format(form).number(value)
    assert len(text) == parse_format(form).width
    read = float(text)
    assert math.isfinite(read)
    if math.isfinite(value) and form != "sF10.3":
        assert read == pytest.approx(value, rel=1e-3)


def test_large_number_in_fixed_format_is_no_row_of_asterisks() -> None:
    assert float(parse_format("sF10.3").number(1.25e9)) == 1.25e9


def test_number_that_no_digit_of_fits_is_asterisks_as_of_fortran() -> None:
    assert [parse_format("sF5.1").number(x) for x in (100001.0, -100001.0, 999.9)] == [
        "1E+05",
        "*****",
        "999.9",
    ]


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ("s1PE11.4", "  1.0000E+00  2.0000E+00"),
        (",1PE11.4", "  1.0000E+00, 2.0000E+00"),
        ("t1PE11.4", "  1.0000E+00\t 2.0000E+00"),
    ],
)
def test_separators(form: str, line: str) -> None:
    parsed = parse_format(form)
    assert parsed.row([parsed.number(1.0), parsed.number(2.0)]) == line


@pytest.mark.parametrize("form", ["", "s1PE", "x1PE11.4", "sI5", "s1PF10.3", "sE9.5", "s1PE11.4junk"])
def test_wrong_format_is_refused(form: str) -> None:
    with pytest.raises(ValueError, match=r"format|scale|hold"):
        parse_format(form)


def test_exponent_without_scale_starts_with_zero() -> None:
    assert exponent(0.004693, 4, 0) == "0.4693E-02"
    assert exponent(1e6, 4, 0) == "0.1000E+07"
    assert exponent(-1e6, 4, 0) == "-0.1000E+07"


def test_objective_examples() -> None:
    assert objective(1113.0623215759215) == "    1113.0623215759215"
    assert objective(-13.357041641375959) == "   -13.357041641375959"
    assert objective(0.0) == "    0.0000000000000000"
    for value in (1.5e-7, -1.5e-7, 3e20, -1.23456789012345e-100, 5e-324, math.inf):
        assert len(objective(value)) == 22
        assert objective(value)[0] == " "  # apart from the column before
    assert float(objective(-1.5e-7)) == -1.5e-7


def test_ids() -> None:
    assert integer(12) == "           12"
    assert len(integer(1.5)) == 13
    assert float(integer(1.5)) == 1.5


def _reals(corpus: Path) -> Iterator[str]:
    for pattern in ("*/*.ext", "*/*.phi", "*/*.cov", "*/*.cor", "*/*.shk"):
        for path in sorted(corpus.glob(pattern)):
            lines = path.read_text(errors="replace").splitlines()
            for line in lines[:60]:
                yield from re.findall(r"(?<=.)[ -]\d\.\d{5}E[+-]\d\d(?= |-|$)", line)


def test_reals_of_nonmem_files_come_out_the_same(corpus: Path) -> None:
    form = parse_format("s1PE12.5")
    texts = set(_reals(corpus))
    assert len(texts) > 5000
    assert [t for t in texts if form.number(float(t)) != t and float(t) != 0] == []


def test_objectives_of_nonmem_files_come_out_the_same(corpus: Path) -> None:
    found = set()
    for path in sorted([*corpus.glob("*/*.ext"), *corpus.glob("*/*.phi")]):
        for line in path.read_text(errors="replace").splitlines():
            match = re.search(r"E[+-]\d\d( {2,}-?\d+\.\d+)$", line)
            # other compilers print 15 or 16 digits
            if match and len(re.sub(r"\D", "", match[1]).lstrip("0")) == 17 and abs(float(match[1])) >= 1:
                found.add(match[1])
    assert len(found) > 1000
    assert [t for t in found if objective(float(t)) != t.rjust(22)] == []


@pytest.mark.parametrize(
    ("file", "form"),
    [
        ("acop-run105-cov/sdtab105", "s1PE11.4"),
        ("bauer-402-2cmt-foce/402.tab", "s1PE12.5"),
        ("bauer-504-foce/504_foce.tab", ",1PE13.6"),
        ("expo-106-covmodel/106.tab", "s1PE11.4"),
    ],
)
def test_lines_of_nonmem_tables_come_out_the_same(corpus: Path, file: str, form: str) -> None:
    parsed = parse_format(form)
    lines = (corpus / file).read_text().splitlines()
    labels = lines[1].replace(",", " ").split()
    assert parsed.row([parsed.label(label) for label in labels]).rstrip() == lines[1].rstrip()
    for line in lines[2:200]:
        values = [float(text) for text in line.replace(",", " ").split()]
        assert parsed.row([parsed.number(v) for v in values]) == line.rstrip()
