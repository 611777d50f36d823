from benchmarks.papers.page import PAGE, page, tables


def test_the_page_is_what_the_committed_results_say():
    assert PAGE.read_text() == page(tables())


def test_a_missed_criterion_is_shown_as_missed():
    table = tables()[0]
    table["criteria"][0]["passed"] = False
    assert "**missed**" in page([table])


def test_every_run_carries_its_seed_and_where_it_comes_from():
    for table in tables():
        for run in table["runs"]:
            assert {"seed", "configuration", "commit", "versions", "hardware", "cpu_seconds"} <= run.keys()
