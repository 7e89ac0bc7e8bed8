"""Stand-in networks, and rows of features, that end the worker processes that use them."""

import os
from dataclasses import dataclass

from fakes import CountingBackbone
from featstore.errors import StoreNotFoundError
from featstore.store import Space
from featstore.store.segments.sealed_rows import SealedRows


class Sent(CountingBackbone):
    """One that goes to other processes."""

    def __getstate__(self):
        return {**self.__dict__, "_before_batch": None}

    def __setstate__(self, state):
        self.__dict__.update(state, _before_batch=lambda number: None)


class Dying(Sent):
    """Ends its process where ``when`` says, as often as there are files in ``folder`` to remove.

    ``when`` is ``"computing"``, before anything of a shard is sealed, or ``"sealed"``, before anybody is told;
    or the bytes of a picture that ends every process.
    """

    def __init__(self, folder, when, *, deaths):
        super().__init__(batch_size=4)
        self.folder, self.when = str(folder), when
        make_deaths(folder, deaths)

    def run(self, batches):
        for rows in super().run(map(self._check, batches)):
            if self.when == "computing":
                self.die()
            yield rows

    def __setstate__(self, state):
        super().__setstate__(state)
        if self.when == "sealed":
            real = Space.append_once

            def append(*given, **options):
                real(*given, **options)
                self.die()

            Space.append_once = append

    def _check(self, batch):
        if isinstance(self.when, int) and (batch.mean(axis=(1, 2, 3)) == self.when).any():
            os._exit(1)
        return batch

    def die(self):
        die(self.folder)


def make_deaths(folder, deaths):
    """Make so many files, of which each ends a process."""
    os.makedirs(folder)
    for number in range(deaths):
        with open(os.path.join(folder, str(number)), "w"):
            pass


def die(folder):
    """End this process, if there is a file left to remove."""
    for name in os.listdir(folder):
        try:
            os.unlink(os.path.join(folder, name))
        except FileNotFoundError:
            continue
        os._exit(1)


@dataclass
class DyingRows:
    """Features in files, whose reading ends the process."""

    rows: SealedRows
    folder: str

    @property
    def dtype(self):
        return self.rows.dtype

    @property
    def feature_dims(self):
        return self.rows.feature_dims

    @property
    def feature_dim(self):
        return self.rows.feature_dim

    @property
    def files(self):
        return self.rows.files

    def select(self, index):
        die(self.folder)
        return self.rows.select(index)


class UnseenRows(DyingRows):
    """Features in files that only the process that has the table sees."""

    def select(self, index):
        raise StoreNotFoundError("it has been removed")
