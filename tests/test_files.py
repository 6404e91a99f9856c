"""Files appear whole or not at all, and a failure is one sentence with the path."""

import errno
import multiprocessing
import os
import pickle
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from ciba_bev.errors import CibaError
from ciba_bev.files import (
    atomic_write,
    explain_full_disk,
    remove_partials,
    require_not_read,
    require_writable,
    scratch_folder,
    write_file,
)

FULL = '/dev/full'


@pytest.fixture
def _small_files():
    """No file may grow beyond 64 KiB, as on a disk that is full from there on."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


def run_in_fork(function):
    """Run a function in a process of its own; its exit status."""
    process = multiprocessing.get_context('fork').Process(target=function)
    process.start()
    process.join()
    return process.exitcode


def fail_halfway(path):
    with atomic_write(path) as partial:
        partial.write_text('half of the n')
        assert path.read_text() == 'old'
        raise ZeroDivisionError


def save_checkpoint(path, zipped):
    with atomic_write(path) as partial:
        weights = {'weight': torch.zeros(2**15)}
        torch.save(weights, partial, _use_new_zipfile_serialization=zipped)


def test_a_file_is_the_old_one_or_the_new_one(tmp_path):
    path = tmp_path / 'folder' / 'report.json'
    write_file(path, 'old')
    with pytest.raises(ZeroDivisionError):
        fail_halfway(path)
    assert path.read_text() == 'old'
    write_file(path, 'new')
    assert path.read_text() == 'new'
    assert os.listdir(path.parent) == ['report.json']


@pytest.mark.usefixtures('_small_files')
@pytest.mark.parametrize(
    'write',
    [
        lambda path: write_file(path, bytes(2**17)),
        lambda path: save_checkpoint(path, zipped=True),
        lambda path: save_checkpoint(path, zipped=False),
    ],
)
def test_a_full_disk_leaves_the_old_file_and_names_it(tmp_path, write):
    path = tmp_path / 'file'
    path.write_text('old')
    with pytest.raises(CibaError, match=r'/file: cannot be written \(.*\)\. Free some space'):
        write(path)
    assert path.read_text() == 'old'
    assert os.listdir(tmp_path) == ['file']


def test_other_mistakes_keep_their_kind(tmp_path):
    with pytest.raises(RuntimeError, match='of the program') as caught, atomic_write(
        tmp_path / 'x'
    ):
        raise RuntimeError('of the program')
    assert not isinstance(caught.value, CibaError)
    with pytest.raises(FileNotFoundError), explain_full_disk(tmp_path):
        (tmp_path / 'gone').read_text()


def fill_disk(folder):
    with explain_full_disk(folder), open(FULL, 'w') as file:
        file.write('x' * 100_000)


def meet(error, folder):
    with explain_full_disk(folder):
        raise error


@pytest.mark.skipif(not os.path.exists(FULL), reason=f'needs {FULL}')
def test_a_full_disk_is_told_where_the_path_is_known_and_where_not(tmp_path):
    with pytest.raises(CibaError, match=r'/work .* cannot be written \(No space left on device\)'):
        fill_disk(tmp_path / 'work')
    read_only = OSError(errno.EROFS, os.strerror(errno.EROFS), '/read/only')
    with pytest.raises(CibaError, match=r'^/read/only: cannot be written \(Read-only'):
        meet(read_only, tmp_path)


def test_a_link_to_nothing_is_told_as_such(tmp_path):
    (tmp_path / 'work_dirs').symlink_to(tmp_path / 'unmounted')
    with pytest.raises(
        CibaError, match=r'work_dirs is a link to .*unmounted, which does not exist'
    ):
        write_file(tmp_path / 'work_dirs' / 'report.json', 'x')
    (tmp_path / 'unmounted').mkdir()
    write_file(tmp_path / 'work_dirs' / 'report.json', 'x')
    assert (tmp_path / 'unmounted' / 'report.json').read_text() == 'x'


def test_two_processes_do_not_share_a_partial_file(tmp_path):
    with atomic_write(tmp_path / 'x') as partial:
        partial.touch()

        def write():
            with atomic_write(tmp_path / 'x') as others:
                assert others != partial
                others.touch()

        assert run_in_fork(write) == 0


def write_text(path):
    write_file(path, 'new')


def save_new_checkpoint(path):
    save_checkpoint(path, zipped=True)


WRITERS = [write_text, save_new_checkpoint]


@pytest.mark.parametrize('write', WRITERS)
def test_a_file_in_the_place_of_the_folder(tmp_path, write):
    (tmp_path / 'folder').write_text('a file')
    path = tmp_path / 'folder' / 'inner' / 'file'
    with pytest.raises(CibaError, match=rf'{path}: cannot be written'):
        write(path)


@pytest.mark.parametrize('write', WRITERS)
def test_a_folder_in_the_place_of_the_file(tmp_path, write):
    path = tmp_path / 'file'
    path.mkdir()
    with pytest.raises(CibaError, match=rf'{path}: cannot be written \(Is a directory\)'):
        write(path)
    assert os.listdir(tmp_path) == ['file']


def test_what_can_be_written_is_known_before(tmp_path):
    (tmp_path / 'file').write_text('mine')
    for path in (tmp_path / 'file' / 'report.json', tmp_path):
        with pytest.raises(CibaError, match=rf'^{path}: cannot be written'):
            require_writable(path)
    require_writable(tmp_path / 'file')
    require_writable(tmp_path / 'folder' / 'report.json')
    assert (tmp_path / 'file').read_text() == 'mine'
    assert os.listdir(tmp_path) == ['file']


def test_a_file_that_cannot_be_read_is_not_called_unwritable(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / 'file') as at:
        at.write_bytes((tmp_path / 'missing').read_bytes())
    assert not os.listdir(tmp_path)


def test_an_input_is_told_under_every_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = tmp_path / 'weights.pth'
    source.write_text('weights')
    os.symlink(source, tmp_path / 'symbolic.pth')
    os.link(source, tmp_path / 'hard.pth')
    (tmp_path / 'folder').mkdir()
    for name in ('weights.pth', 'folder/../weights.pth', 'symbolic.pth', 'hard.pth', str(source)):
        with pytest.raises(CibaError, match=f'{name}: this file is read'):
            require_not_read(name, None, 'missing.pth', source)
    (tmp_path / 'other.pth').write_text('weights')
    for name in ('other.pth', 'new.pth'):
        require_not_read(name, None, 'missing.pth', source, 'https://example.org/weights.pth')


def write_info_file(folder):
    from ciba_bev.detection.nuscenes.info_files import save_info_file

    save_info_file({'metainfo': {}, 'data_list': [list(range(2**16))]}, folder / 'infos.pkl')


def write_picture(folder):
    from ciba_bev.visualization.sample_picture import write_picture

    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)
    write_picture(noise, folder / 'picture.png')


def write_figure(folder):
    from ciba_bev.analysis import save_figure

    figure = Figure()
    figure.gca().imshow(np.random.default_rng(0).random((300, 300)), interpolation='none')
    save_figure(figure, folder / 'figure')


def write_table(folder):
    from ciba_bev.reproduction.tables import write_cells

    write_cells('title', ['name', 'value'], [['name', '0' * 2**16]], folder / 'table')


def write_spectra(folder):
    from ciba_bev.analysis.bottleneck_metric import BottleneckMetric

    path = str(folder / 'bottlenecks.json')
    metric = BottleneckMetric(out_file=path)
    metric._features = {}
    metric._write(path, {'name': 'x' * 2**16}, {}, None)


def write_synthetic_results(folder):
    from ciba_bev.classification.synthetic import SyntheticMetric

    metric = SyntheticMetric(out_file=str(folder / 'synthetic.json'))
    metric.compute_metrics([{'accuracy': [0.5] * 2**16}])


def write_clip(folder):
    clips = pytest.importorskip('ciba_bev.classification.clips')
    noise = np.random.default_rng(0).integers(0, 255, (30, 96, 160, 3), np.uint8)
    clips.encode_clip(folder / 'clip.mp4', noise, np.zeros(22050, np.float32), 30, 22050)


def write_films(folder):
    pytest.importorskip('h5py')
    from ciba_bev.classification.mm_imdb.synthetic_data import write_synthetic_data

    write_synthetic_data(folder, rows=40)


def write_split_files(folder):
    synthetic_data = pytest.importorskip('ciba_bev.classification.vgg_sound.synthetic_data')
    synthetic_data._save_dictionary(folder / 'splits.npy', {'name': 'x' * 2**16})


@pytest.mark.parametrize(
    'write',
    [
        write_info_file,
        write_picture,
        write_figure,
        write_table,
        write_spectra,
        write_synthetic_results,
        write_clip,
        write_films,
        write_split_files,
    ],
)
@pytest.mark.usefixtures('_small_files')
def test_every_writer_says_which_file_and_leaves_nothing(tmp_path, write):
    with pytest.raises(CibaError, match=rf'^{tmp_path}/[\w.]+: cannot be written \(') as raised:
        write(tmp_path)
    assert '\n' not in str(raised.value)
    assert not os.listdir(tmp_path)


def test_partial_files_of_killed_processes_are_removed_and_no_others(tmp_path):
    def write():
        with atomic_write(tmp_path / 'file') as partial:
            partial.write_text('half')
            os.kill(os.getpid(), signal.SIGKILL)

    assert run_in_fork(write) == -signal.SIGKILL
    (tmp_path / '.hidden').write_text('mine')
    assert len(os.listdir(tmp_path)) == 2
    remove_partials(tmp_path)
    assert os.listdir(tmp_path) == ['.hidden']


def test_the_scratch_folder_of_a_killed_process_is_removed_by_the_next(tmp_path):
    def write():
        with scratch_folder(tmp_path, '.work_') as folder:
            (folder / 'file').write_text('half')
            os.kill(os.getpid(), signal.SIGKILL)

    assert run_in_fork(write) == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    with scratch_folder(tmp_path, '.work_') as first, scratch_folder(tmp_path, '.work_') as second:
        assert sorted(tmp_path.iterdir()) == sorted((first, second))
        assert left not in (first, second)
    assert not os.listdir(tmp_path)


@pytest.mark.usefixtures('_small_files')
def test_a_full_disk_under_a_scratch_folder(tmp_path):
    def run():
        with scratch_folder(tmp_path, '.work_') as folder, open(folder / 'a', 'wb') as stream:
            pickle.dump(list(range(2**16)), stream)

    with pytest.raises(CibaError, match=f'{tmp_path}: cannot be written'):
        run()
    assert not os.listdir(tmp_path)


def test_a_file_that_is_missing_elsewhere_is_not_the_scratch_folders(tmp_path):
    with pytest.raises(FileNotFoundError), scratch_folder(tmp_path, '.work_'):
        Path(tmp_path, 'missing').read_text()
    assert not os.listdir(tmp_path)
