"""File and folder name rules: which files are images, and which folders to skip."""

import os
import re
import stat

__all__ = [
    "IMAGE_SUFFIXES",
    "LOOKED_AT_BYTES",
    "begins_as_image",
    "holds_image",
    "is_image_name",
    "is_of_another_program",
    "may_hold_image",
]

IMAGE_SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".dib"),
        *(".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".pnm"),
        *(".avif", ".heic", ".heif", ".hif", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".tga", ".dds"),
    )
)
"""The endings, in lower case, by which a file in a folder is taken for an image."""

_ENDINGS = frozenset(suffix[1:] for suffix in IMAGE_SUFFIXES)

_OTHER_ENDINGS = """
    txt text md rst csv tsv json jsonl ndjson xml yaml yml toml ini cfg conf log htm html css js ts py pyc
    ipynb c cc cpp h hpp java sh bat cmd ps1 r rmd m tex bib sql pdf ps eps doc docx xls xlsx ppt pptx odt ods
    odp rtf pbtxt prototxt names data npy npz mat h5 hdf5 pkl pickle joblib pt pth onnx tflite pb ckpt keras
    head parquet feather arrow mdb db sqlite sqlite3 tfrecord tfrecords rec lst
    zip tar gz tgz bz2 xz zst 7z rar iso dmg
    mp4 m4v mov avi mkv webm mpg mpeg wmv flv 3gp mts mp3 wav flac ogg m4a aac thm
    svg svgz ico cur icns psd psb xcf ai jxl exr hdr dcm nii svs ndpi scn xmp aae
    cr2 cr3 crw nef nrw arw srf sr2 dng orf rw2 raf pef srw 3fr erf kdc dcr mos mrw x3f raw
    bak old orig tmp temp part partial crdownload download swp swo lock lnk url webloc exe dll so
"""
_KNOWN_OTHERS = frozenset(_OTHER_ENDINGS.split())
"""Never opened: no images, or such as are not read, of which raw files of cameras begin as TIFF files do."""

# As NAS systems, Windows, Mac, Android, editors of web pages and photo programs call theirs.
_OTHER_PROGRAMS = frozenset(
    (
        *(
            "@eadir",
            "#recycle",
            "#snapshot",
            "@tmp",
            "@recycle",
            "@recently-snapshot",
            "@sharebin",
            "~snapshot",
        ),
        *("$recycle.bin", "recycler", "system volume information", "lost+found", "lost.dir"),
        *("__macosx", "network trash folder", "temporary items", "thevolumesettingsfolder", "resource.frk"),
        *("thumbs", "thumbnails", "_thumbs", "_thumbnails", "_vti_cnf", "_vti_pvt", "__pycache__"),
    )
)
_FOUND = re.compile(r"found\.\d{3}", re.IGNORECASE)

LOOKED_AT_BYTES = 512
"""How much of a file shows what it is."""

# Two letters are not enough where a file's name does not speak for an image.
_PLAUSIBLE = {
    "BMP": re.compile(rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL),
    "PPM": re.compile(rb"P[1-6]\s+(#[^\n]*\n\s*)*\d+\s"),
}


def is_image_name(name: str) -> bool:
    """Return whether a file's extension is that of an image, in any case."""
    stem, _, ending = name.rpartition(".")
    return bool(stem) and ending.lower() in _ENDINGS


def may_hold_image(name: str) -> bool:
    """Return whether a file of unknown or no extension may be an image."""
    stem, _, ending = name.rpartition(".")
    return name[-1:] != "~" and not (stem and ending.lower() in _KNOWN_OTHERS)


def holds_image(path: str) -> bool:
    """Return whether a file begins with an image's signature; False if it cannot be read."""
    try:
        file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                return False
            data = os.read(file, LOOKED_AT_BYTES)
        finally:
            os.close(file)
    except OSError:
        return False
    return begins_as_image(data)


def begins_as_image(data: bytes) -> bool:
    """Return whether the first bytes of a file have an image's signature."""
    from featstore.images.formats import format_name

    name = format_name(data)
    # A TGA has no signature, only a header in which nothing is wrong.
    return name not in (None, "TGA") and (name not in _PLAUSIBLE or _PLAUSIBLE[name].match(data) is not None)


def is_of_another_program(folder: str) -> bool:
    """Return whether a folder's name is that of another program's private folder."""
    return folder.lower() in _OTHER_PROGRAMS or _FOUND.fullmatch(folder) is not None
