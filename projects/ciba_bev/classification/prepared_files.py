"""Read and write the files of a prepared data set, with errors that name file, row and remedy.

Libraries raise all kinds of exceptions for damaged files; here they become one
:class:`~ciba_bev.errors.CibaError`. Damage that leaves a file readable is found by checksums (PNG)
and by impossible values (NaN). JPEG has no checksums: a damaged file may decode to a picture with
grey parts.
"""

from __future__ import annotations

import csv
import io
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Iterable, Iterator, Sequence

import numpy as np
from PIL import Image

from ..errors import CibaError
from ..files import make_folder, remove_partials, write_file


def read_rows(path: Path, maker: str) -> list[tuple[int, list[str]]]:
    """Read a CSV file.

    Args:
        path: The file.
        maker: The tool that writes it, for the message.

    Returns:
        Line number, from 1, and stripped cells of each row that is not empty.

    Raises:
        CibaError: The file does not exist, or it is not a CSV file.
    """
    if not path.is_file():
        raise CibaError(
            f'{path}: there is no such file. Make it with {maker} from the clips (see '
            'docs/data.md).'
        )
    try:
        with open(path, newline='', encoding='utf-8-sig') as file:
            reader = csv.reader(file)
            return [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CibaError(
            f'{path}: not a readable CSV file ({error}). Make it again with {maker}.'
        ) from error


def require_file(path: Path, row: str) -> None:
    """Check that a file exists and is not empty.

    Args:
        path: The file.
        row: The row that names it, for the message.

    Raises:
        CibaError: It does not exist or is empty.
    """
    if not path.is_file():
        found = 'the file does not exist'
    elif path.stat().st_size == 0:
        found = 'the file is empty'
    else:
        return
    raise CibaError(f'{row} names {path}, and {found}. Prepare the data again, or remove the row.')


def read_array_shape(path: Path, row: str) -> tuple[int, ...]:
    """Read the shape of an array from the header of its file.

    Args:
        path: A file written by ``numpy.save``.
        row: The row that names it, for messages.

    Returns:
        The shape.

    Raises:
        CibaError: It is not such a file, or the array is not a matrix of numbers.
    """
    with _reading(path, row, 'complete array of numbers'), open(path, 'rb') as file:
        shape, dtype = read_array_header(file)
    _require_matrix(shape, dtype, path, row)
    return shape


def read_array_header(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype]:
    """Read the header of an array, up to its content.

    Args:
        file: A file written by ``numpy.save``, opened for reading bytes.

    Returns:
        Shape and dtype.

    Raises:
        ValueError: It is not such a file.
        KeyError: Its format is newer than version 2.
    """
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[np.lib.format.read_magic(file)]
    shape, _, dtype = read_header(file)
    return shape, dtype


def read_array(path: Path, row: str) -> np.ndarray:
    """Read a matrix of numbers.

    Args:
        path: A file written by ``numpy.save``.
        row: The row that names it, for messages.

    Returns:
        (rows, columns), of the stored dtype.

    Raises:
        CibaError: The file cannot be read, or is not a matrix of finite numbers.
    """
    with _reading(path, row, 'complete array of numbers'), open(path, 'rb') as file:
        values = np.lib.format.read_array(file, allow_pickle=False)
    _require_matrix(values.shape, values.dtype, path, row)
    if not np.isfinite(values).all():
        raise CibaError(f'{row}: {path} contains NaN or infinity. Prepare it again.')
    return values


def read_image_size(path: Path, row: str) -> tuple[int, int]:
    """Read the size of an image from the header of its file.

    Args:
        path: The image.
        row: The row that names it, for messages.

    Returns:
        Rows and columns.

    Raises:
        CibaError: It is not an image.
    """
    with _reading(path, row, 'complete image'), Image.open(path) as file:
        return file.height, file.width


def read_image(path: Path, row: str) -> Image.Image:
    """Read an image.

    Args:
        path: The image.
        row: The row that names it, for messages.

    Returns:
        The image, RGB.

    Raises:
        CibaError: The file cannot be read.
    """
    with _reading(path, row, 'complete image'):
        content = path.read_bytes()
        # Decoding does not compare checksums; after verify() an image cannot be decoded.
        Image.open(io.BytesIO(content)).verify()
        return Image.open(io.BytesIO(content)).convert('RGB')


@contextmanager
def _reading(path: Path, row: str, wanted: str) -> Iterator[None]:
    """Turn every exception into a :class:`CibaError`."""
    try:
        yield
    except Exception as error:
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise CibaError(
            f'{row}: {path} is not a {wanted} ({reason}). Prepare it again, or remove the row.'
        ) from error


def _require_matrix(shape: tuple[int, ...], dtype: np.dtype, path: Path, row: str) -> None:
    if len(shape) != 2 or not np.issubdtype(dtype, np.number) or 0 in shape:
        raise CibaError(
            f'{row}: {path} contains {dtype} of shape {shape}; it must contain numbers, a row for '
            'each coefficient or bin and a column for each frame.'
        )


def make_folders(folder: Path, names: Iterable[str]) -> None:
    """Create the subfolders of a prepared data set, and remove partial files of a killed process.

    Args:
        folder: Folder of the data set.
        names: Names of the subfolders.
    """
    for name in names:
        make_folder(folder / name)
        remove_partials(folder / name)


def write_rows(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file atomically.

    Args:
        path: The file.
        rows: The cells of each row; the heading first.

    Raises:
        CibaError: The file cannot be written.
    """
    content = io.StringIO()
    csv.writer(content, lineterminator='\n').writerows(rows)
    write_file(path, content.getvalue())


def write_array(path: Path, values: np.ndarray) -> None:
    """Write an array atomically, with ``numpy.save``.

    Args:
        path: The file.
        values: The array.

    Raises:
        CibaError: The file cannot be written.
    """
    content = io.BytesIO()
    np.save(content, values)
    write_file(path, content.getvalue())


def write_image(path: Path, image: Image.Image, image_format: str, **options: Any) -> None:
    """Write an image atomically.

    Args:
        path: The file.
        image: The image.
        image_format: Pillow's name of the format, such as ``'PNG'``.
        **options: Options of the format.

    Raises:
        CibaError: The file cannot be written.
    """
    content = io.BytesIO()
    image.save(content, image_format, **options)
    write_file(path, content.getvalue())
