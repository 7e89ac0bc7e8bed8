"""A source's image on its way through the pipeline."""

import time
from dataclasses import dataclass

from featstore.images.reading import read_image
from featstore.images.sources.records import ImageRecord
from featstore.io.remote.opening import read_object
from featstore.io.stamps import MEMBER_MARK, FileStamp
from featstore.io.urls import is_url, joined

__all__ = ["RecordItem"]


@dataclass(slots=True, eq=False)
class RecordItem:
    """One record, and what reading it has shown."""

    number: int  # of the record, in its source
    record: ImageRecord
    root: str
    is_racy: bool = False  # the file may have changed while it was read: the next run has to read it again

    @property
    def path(self) -> str:
        """Where the image is."""
        return joined(self.root, self.record.path)

    @property
    def size(self) -> int:
        """Its expected size in bytes; negative where it is not known."""
        return self.record.stamp.size

    def read(self) -> bytes:
        """Return the file's bytes."""
        if is_url(path := self.path):
            return self._read_object(path)
        self.is_racy = self.record.stamp.is_racy(time.time_ns())
        content = read_image(path)
        # The stamp of an image within a larger file is that file's.
        self.is_racy |= MEMBER_MARK not in self.record.path and len(content) != self.record.stamp.size
        return content

    def _read_object(self, url: str) -> bytes:
        content, tag = read_object(url)
        stamp = self.record.stamp
        listed = FileStamp.of_object(stamp.size, tag)
        self.is_racy = tag is None or listed != stamp or stamp.size not in (-1, len(content))
        return content
