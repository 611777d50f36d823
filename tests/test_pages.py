import pytest

from benchmarks import pages


@pytest.mark.parametrize("template, page", list(pages.pages()), ids=lambda path: path.name)
def test_a_page_is_what_its_template_and_the_committed_results_say(template, page):
    assert page.read_text() == pages.render(template)


def test_a_number_that_no_result_has_is_an_error(tmp_path):
    template = tmp_path / "page.md"
    template.write_text('{{ mean("pacgan_grid", "GAN", "no such number") }}')
    with pytest.raises(KeyError):
        pages.render(template)
    template.write_text("{{ no_such_function() }}")
    with pytest.raises(Exception, match="no_such_function"):
        pages.render(template)
