from benchmarks.page import PAGE, page


def test_the_page_is_what_the_committed_measurements_say():
    assert PAGE.read_text() == page()
