"""Bars that keep what they have shown."""

import tqdm.auto


class Recorded(tqdm.auto.tqdm):
    """A bar that keeps what it has shown, in a list of all of them."""

    made: list

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.seen = [0]
        self.made.append(self)

    def update(self, n=1):
        super().update(n)
        self.seen.append(self.n)
