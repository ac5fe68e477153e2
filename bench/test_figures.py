"""The figures: drawn the same from the same results, in colours of which each has another for dark pages."""

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
    """No date and no random identifier: a file changes where its results do."""
    assert draw() == draw()


def test_every_colour_has_a_dark_one(draw):
    """Inline colours are those that the style sheet replaces."""
    inline = re.findall(r"(?:fill|stroke): (#\w+)", re.sub(r"<style>.*?</style>", "", draw(), flags=re.DOTALL))
    assert set(inline) == set(figures.DARK)


def test_every_library_is_named(draw):
    """A legend entry each."""
    for name in results.LIBRARIES:
        assert f">{name}</text>" in draw()
