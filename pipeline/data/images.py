"""One image file to pixels; what is damaged, hostile or of another kind is refused by name."""

import io
import warnings
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import BITSPERSAMPLE, TiffImageFile

from pipeline.config.datasets import Filter
from pipeline.data.listing import naming
from pipeline.errors import UserError

Pixels = NDArray[np.uint8]


def decode(data: bytes, where: str, size: int, resize: Filter | None = None) -> Pixels:
    """The pixels of an image file, (size, size, 3).

    Without ``resize`` nothing is converted: the image must be RGB of that size. With it,
    photographs in greyscale and in CMYK become RGB, as all who train on ILSVRC do with the few
    it has, and then an image of another size is squeezed into the square. Transparency,
    palettes and depths over 8 bits, for which there is no one reading, are refused always.

    Raises
    ------
    UserError
        If the file is damaged, larger than a decoder should be trusted with, or refused.
    """
    with naming(where), warnings.catch_warnings():
        # Pillow only warns of headers that promise more than 89 million pixels.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(data), formats=_formats()) as image:
            _check(image, data, where, size, resize)
            if resize is None:
                return np.asarray(image)
            whole: Image.Image = image.convert("RGB")
            if whole.size != (size, size):
                whole = whole.resize((size, size), Image.Resampling[resize.upper()])
            return np.asarray(whole)


@cache
def _formats() -> list[str]:
    """All that Pillow reads, except EPS: to read one would run Ghostscript."""
    Image.init()
    # They are tried in turn, and some of the rare ones take long to say no.
    return ["PNG", "JPEG", *sorted(Image.OPEN.keys() - {"EPS", "PNG", "JPEG"})]


def _check(image: Image.Image, data: bytes, where: str, size: int, resize: str | None) -> None:
    """Refuse by the header, before a pixel is decoded."""
    # Pillow cuts 16 bits to 8 without a word; these files' own headers tell.
    bits = 8
    if image.format == "PNG":
        bits = max(8, data[24])
    elif isinstance(image, TiffImageFile):
        bits = max(image.tag_v2.get(BITSPERSAMPLE, (8,)))
    if resize is None:
        found = f"{image.width}x{image.height} {image.mode} of {bits} bits"
        expected = f"{size}x{size} RGB of 8 bits"
        fits = found == expected
    else:
        found = f"{image.mode} of {bits} bits, {image.format}"
        expected = "RGB or greyscale of 8 bits, or CMYK in a JPEG"
        modes = {"RGB", "L", "CMYK"} if image.format == "JPEG" else {"RGB", "L"}
        fits = image.mode in modes and bits == 8 and "transparency" not in image.info
    if not fits:
        raise UserError(f"{where} is {found}, must be {expected}. Get the data set again.")
