"""The figures are reproducible, readable on dark pages, and complete."""

import re

import matplotlib as mpl
import pytest

from bench import figures, results


@pytest.fixture(params=[figures.draw_speed_up, figures.draw_scaling], ids=["speedup", "scaling"])
def draw(request):
    def drawn():
        with mpl.rc_context(figures.OPTIONS):
            return figures.finish(request.param(results.load()))

    return drawn


def test_drawn_the_same(draw):
    """The same results give the same file: it holds no date and no random identifier."""
    assert draw() == draw()


def test_every_colour_has_a_dark_one(draw):
    """The style sheet for dark pages replaces every inline colour."""
    inline = re.findall(r"(?:fill|stroke): (#\w+)", re.sub(r"<style>.*?</style>", "", draw(), flags=re.DOTALL))
    assert set(inline) == set(figures.DARK)


def test_every_library_is_named(draw):
    """Every library has a legend entry."""
    for name in results.LIBRARIES:
        assert f">{name}</text>" in draw()
