"""T1 as a test: the paper's verdict on each method, and its eigenvalues."""

import pytest

from benchmarks.papers.dirac_gan import CONVERGE, METHODS, contraction_error, criteria, radii, run


@pytest.mark.parametrize("name", METHODS)
def test_a_method_converges_where_the_paper_says_so(name):
    loss, options = METHODS[name]
    path = radii(loss, **options)
    if name in CONVERGE:
        assert path[-1] < 1e-3
    else:
        assert max(path[-100:]) > 0.5


@pytest.mark.parametrize("gamma", [0.3, 1.0, 2.0])
def test_r1_contracts_as_its_eigenvalues_say(gamma):
    assert contraction_error(gamma) < 1e-4


def test_the_tables_criteria_hold():
    rows = [{"configuration": name, "seed": 0, **run(name, 0)} for name in METHODS]
    assert all(criterion.passed for criterion in criteria(rows))
    rows[0]["radius"] = 0.1
    assert [c.passed for c in criteria(rows)].count(False) == 1
