"""Damaged files end with one sentence that has their path; whole ones are read as they are."""

from __future__ import annotations

import os
import re
import signal

import h5py
import numpy as np
import pytest
from PIL import Image

from ciba_bev.classification import MMIMDBDataset
from ciba_bev.classification.clips import (
    DECODING_ERRORS,
    encode_clip,
    prepare_all,
    read_middle_frame,
    read_sound,
)
from ciba_bev.classification.prepared_files import (
    read_array,
    read_array_shape,
    read_image,
    read_image_size,
    read_rows,
    require_file,
)
from ciba_bev.errors import CibaError

PICTURE = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
TABLE = np.random.default_rng(1).normal(size=(8, 30)).astype(np.float32)


def damaged_copies(content):
    """What a file may look like after an accident, damaged at every part of it."""
    generator = np.random.default_rng(2)
    yield b''
    for length in (1, 8, 50, len(content) // 2, len(content) - 1):
        yield content[:length]
    step = max(1, len(content) // 60)
    for start in range(0, len(content), step):
        for patch in (bytes(step), b'\xff' * step, generator.bytes(step)):
            changed = content[:start] + patch[: len(content) - start] + content[start + step :]
            if changed != content:
                yield changed


def outcomes(path, content, read):
    """Results of reading damaged copies: None where an error with the path ended it."""
    results = []
    for damaged in damaged_copies(content):
        path.write_bytes(damaged)
        message = None
        try:
            results.append(read())
        except CibaError as error:
            message = str(error)
            results.append(None)
        assert message is None or (str(path) in message and '\n' not in message)
    return results


@pytest.mark.parametrize('ending', ['png', 'jpg'])
def test_damaged_images(tmp_path, ending):
    path = tmp_path / f'picture.{ending}'
    Image.fromarray(PICTURE).save(path)
    whole = read_image(path, 'row 1')
    assert (whole.mode, whole.size) == ('RGB', (40, 24))
    assert read_image_size(path, 'row 1') == (24, 40)
    results = outcomes(path, path.read_bytes(), lambda: read_image(path, 'row 1'))
    assert results[0] is None
    if ending == 'png':
        # Checksums tell whatever it is; what is read may only lack the end that says nothing.
        assert all(image is None or np.array_equal(image, PICTURE) for image in results)
        assert results.count(None) > 0.98 * len(results)
        assert np.array_equal(whole, PICTURE)
    outcomes(path, path.read_bytes(), lambda: read_image_size(path, 'row 1'))


def test_damaged_arrays(tmp_path):
    path = tmp_path / 'table.npy'
    np.save(path, TABLE)
    content = path.read_bytes()
    assert np.array_equal(read_array(path, 'row 1'), TABLE)
    assert read_array_shape(path, 'row 1') == TABLE.shape
    results = outcomes(path, content, lambda: read_array(path, 'row 1'))
    # An array has no checksum: the damage must lie in the numbers, and they must be finite.
    for result in results:
        assert result is None or np.isfinite(result).all()
    assert results[:6] == [None] * 6
    outcomes(path, content, lambda: read_array_shape(path, 'row 1'))


def test_arrays_of_objects_are_not_run(tmp_path):
    path = tmp_path / 'table.npy'
    np.save(path, np.array([[print]], dtype=object), allow_pickle=True)
    for read in (read_array, read_array_shape):
        with pytest.raises(CibaError, match=r'row 1: .*table\.npy'):
            read(path, 'row 1')


def test_damaged_tables(tmp_path):
    path = tmp_path / 'train.csv'
    path.write_bytes(b'\xef\xbb\xbfclip,label\r\n\r\n a , 1 \r\n')
    # Line numbers are the file's, blank lines and a byte-order mark of Excel's do not count.
    assert read_rows(path, 'tool') == [(1, ['clip', 'label']), (3, ['a', '1'])]
    path.write_bytes(b'clip,label\na\xff,1\n')
    with pytest.raises(CibaError, match=r'train\.csv: not a readable CSV file.*again with tool'):
        read_rows(path, 'tool')
    with pytest.raises(CibaError, match=r'other\.csv: there is no such file. Make it with tool'):
        read_rows(tmp_path / 'other.csv', 'tool')


def test_files_of_zero_bytes_are_found_without_reading(tmp_path):
    path = tmp_path / 'frame.jpg'
    with pytest.raises(CibaError, match=rf'row 1 names {re.escape(str(path))}, and .* not exist'):
        require_file(path, 'row 1')
    path.touch()
    with pytest.raises(CibaError, match=rf'row 1 names {re.escape(str(path))}, and .* empty'):
        require_file(path, 'row 1')


def test_damaged_hdf5(tmp_path):
    path = tmp_path / 'multimodal_imdb.hdf5'
    generator = np.random.default_rng(0)
    with h5py.File(path, 'w') as content:
        content.create_dataset('features', data=generator.normal(size=(40, 6)), compression='gzip')
        content.create_dataset('genres', data=generator.integers(0, 2, (40, 3)))
        content.attrs['train'] = [0, 40]

    def read():
        data = MMIMDBDataset(str(path), 'train', ['text'])
        return data.inputs['text'].isfinite().all() and data.classes > 0

    assert read()
    results = outcomes(path, path.read_bytes(), read)
    assert results[:6] == [None] * 6
    assert set(results) <= {None, True}


def test_damaged_clips_are_left_out_and_the_others_done(tmp_path):
    """Also where the decoder takes its process down with it."""
    paths = [tmp_path / f'{number}.mp4' for number in range(8)]
    sound = np.sin(np.arange(4000, dtype=np.float32))
    for path in paths:
        encode_clip(path, [PICTURE] * 2, sound, 5, 8000)
    paths[1].write_bytes(paths[1].read_bytes()[:300])
    paths[4].write_text('crash')
    paths[6].write_bytes(b'')
    for workers in (1, 3):
        reasons = prepare_all(decode_or_crash, paths, workers)
        assert [bool(reason) for reason in reasons] == [n in (1, 4, 6) for n in range(8)]
        assert 'the process that decoded it died' in reasons[4]


def decode_or_crash(path):
    if path.read_bytes() == b'crash':
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        read_sound(path, 8000)
        read_middle_frame(path)
    except DECODING_ERRORS as error:
        return str(error) or type(error).__name__
    return ''
