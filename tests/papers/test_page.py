import copy

from benchmarks.papers.page import tables, tables_as_text


def test_a_missed_criterion_is_shown_as_missed():
    table = copy.deepcopy(tables()[0])
    table["criteria"][0]["passed"] = False
    assert "**missed**" in tables_as_text([table])


def test_every_run_carries_its_seed_and_where_it_comes_from():
    for table in tables():
        for run in table["runs"]:
            assert {"seed", "configuration", "commit", "versions", "hardware", "cpu_seconds"} <= run.keys()
