"""Small archives of what a dict says, dated back: what was just written is read again by the next run."""

import io
import os
import tarfile
import zipfile

from pictures import DATE_NS

MODES = {".gz": "gz", ".tgz": "gz", ".bz2": "bz2", ".xz": "xz"}


def write_tar(path, files):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, f"w:{MODES.get(path.suffix, '')}") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return dated(path)


def write_zip(path, files, method=zipfile.ZIP_DEFLATED):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return dated(path)


def dated(path):
    os.utime(path, ns=(DATE_NS, DATE_NS))
    return path


WRITERS = {"tar": write_tar, "tar.gz": write_tar, "zip": write_zip}
