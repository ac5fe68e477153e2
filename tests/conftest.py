"""Hypothesis draws the same examples in every run, and is not timed."""

import hypothesis

hypothesis.settings.register_profile("fastrnn", deadline=None, derandomize=True, max_examples=40, database=None)
hypothesis.settings.load_profile("fastrnn")
