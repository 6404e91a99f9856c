"""Reading the files of a prepared data set, with errors that name file, place and remedy.

A damaged file may make the libraries below raise anything; what they raise becomes one sentence.
Damage that leaves a file readable is found where the format has checksums (PNG) or the values
cannot be (NaN). JPEG has none: a damaged one may decode to a picture with grey parts.
"""

from __future__ import annotations

import csv
import io
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

import numpy as np
from PIL import Image

from ..errors import CibaError


def read_rows(path: Path, maker: str) -> list[tuple[int, list[str]]]:
    """Read a CSV file.

    Args:
        path: The file.
        maker: The tool that writes it, for the message.

    Returns:
        Number of the line, from 1, and stripped cells, of each row that is not empty.

    Raises:
        CibaError: There is no such file, or it is no text.
    """
    if not path.is_file():
        raise CibaError(
            f'{path}: there is no such file. Make it with {maker} from the clips (see '
            'data/README.md).'
        )
    try:
        with open(path, newline='', encoding='utf-8-sig') as file:
            reader = csv.reader(file)
            return [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CibaError(
            f'{path}: is no readable CSV file ({error}). Make it anew with {maker}.'
        ) from (error)


def require_file(path: Path, place: str) -> None:
    """Look whether a file is there and not empty.

    Args:
        path: The file.
        place: Where it is named.

    Raises:
        CibaError: It is not.
    """
    if not path.is_file():
        found = 'there is no such file'
    elif path.stat().st_size == 0:
        found = 'it has zero bytes'
    else:
        return
    raise CibaError(
        f'{place} names {path}, and {found}. Prepare the data again, or remove the row.'
    )


def read_array_shape(path: Path, place: str) -> tuple[int, ...]:
    """Read the shape of an array from the beginning of its file.

    Args:
        path: A file that ``numpy.save`` has written.
        place: Where it is named, for messages.

    Returns:
        The shape.

    Raises:
        CibaError: It is no such file, or the array is no table of numbers.
    """
    with _reading(path, place, 'whole array of numbers'), open(path, 'rb') as file:
        version = np.lib.format.read_magic(file)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, dtype = read_header(file)
    _require_table(shape, dtype, path, place)
    return shape


def read_array(path: Path, place: str) -> np.ndarray:
    """Read a table of numbers.

    Args:
        path: A file that ``numpy.save`` has written.
        place: Where it is named, for messages.

    Returns:
        (rows, columns), with the type it is stored in.

    Raises:
        CibaError: The file cannot be read, or holds no table of finite numbers.
    """
    with _reading(path, place, 'whole array of numbers'), open(path, 'rb') as file:
        values = np.lib.format.read_array(file, allow_pickle=False)
    _require_table(values.shape, values.dtype, path, place)
    if not np.isfinite(values).all():
        raise CibaError(f'{place}: {path} holds NaN or infinity. Prepare it again.')
    return values


def read_image_size(path: Path, place: str) -> tuple[int, int]:
    """Read the size of an image from the beginning of its file.

    Args:
        path: The image.
        place: Where it is named, for messages.

    Returns:
        Rows and columns.

    Raises:
        CibaError: It is no image.
    """
    with _reading(path, place, 'whole image'), Image.open(path) as file:
        return file.height, file.width


def read_image(path: Path, place: str) -> Image.Image:
    """Read an image.

    Args:
        path: The image.
        place: Where it is named, for messages.

    Returns:
        The image, RGB.

    Raises:
        CibaError: The file cannot be read.
    """
    with _reading(path, place, 'whole image'):
        content = path.read_bytes()
        # Compares checksums, which decoding does not; an image is of no use after that.
        Image.open(io.BytesIO(content)).verify()
        return Image.open(io.BytesIO(content)).convert('RGB')


@contextmanager
def _reading(path: Path, place: str, wanted: str) -> Iterator[None]:
    """Turn what reading a file raises into a :class:`CibaError`."""
    try:
        yield
    except Exception as error:
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise CibaError(
            f'{place}: {path} is no {wanted} ({reason}). Prepare it again, or remove the row.'
        ) from error


def _require_table(shape: tuple[int, ...], dtype: np.dtype, path: Path, place: str) -> None:
    if len(shape) != 2 or not np.issubdtype(dtype, np.number) or 0 in shape:
        raise CibaError(
            f'{place}: {path} holds {dtype} of shape {shape}; it must hold numbers, a row for each '
            'coefficient or bin and a column for each frame.'
        )
