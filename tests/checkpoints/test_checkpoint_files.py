import os
import pickle
import re
import subprocess
import sys
from collections import Counter, OrderedDict

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from mmengine.utils import digit_version

from ciba_bev.checkpoints import files as checkpoint_files
from ciba_bev.checkpoints.files import load_from_file, load_from_url
from ciba_bev.errors import CibaError


@pytest.fixture(params=['torch knows named globals', 'older torch'])
def _torch_version(request, monkeypatch):
    if request.param == 'older torch':
        monkeypatch.setattr(checkpoint_files, '_TORCH_TAKES_NAMED_GLOBALS', False)
    elif not checkpoint_files._TORCH_TAKES_NAMED_GLOBALS:
        pytest.skip('this torch is older')


class RunsCommand:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class Unknown:
    pass


class ReachesIntoHistory:
    """What an allow-listed ``getattr`` would open the door to."""

    def __reduce__(self):
        return getattr, (HistoryBuffer, '__init__')


@pytest.mark.usefixtures('_torch_version')
@pytest.mark.parametrize('new_format', [True, False])
def test_reads_what_mmengine_writes(tmp_path, new_format):
    history = HistoryBuffer()
    history.update(1.5)
    history.update(2.5, 3)
    checkpoint = {
        'state_dict': OrderedDict(weight=torch.arange(6.0).reshape(2, 3)),
        'half': torch.ones(2, dtype=torch.float16),
        'parameter': torch.nn.Parameter(torch.zeros(1)),
        'message_hub': {'loss': history, 'best': np.float64(0.25), 'epoch': np.int64(3)},
        'meta': {'classes': ('car', 'bus'), 'shape': torch.Size([2])},
        'param_schedulers': [{'milestones': Counter([2, 3])}],
    }
    path = tmp_path / 'epoch_1.pth'
    torch.save(checkpoint, path, _use_new_zipfile_serialization=new_format)
    read = load_from_file(path)
    assert torch.equal(read['state_dict']['weight'], checkpoint['state_dict']['weight'])
    assert read['half'].dtype == torch.float16
    assert read['message_hub']['loss'].mean() == pytest.approx((1.5 + 2.5) / (1 + 3))
    assert read['message_hub']['loss'].data[1].tolist() == [1, 3]
    assert (read['message_hub']['best'], read['message_hub']['epoch']) == (0.25, 3)
    assert read['meta'] == checkpoint['meta']
    assert read['param_schedulers'] == checkpoint['param_schedulers']


@pytest.mark.usefixtures('_torch_version')
@pytest.mark.parametrize('new_format', [True, False])
def test_refuses_to_run_code(tmp_path, new_format):
    made = tmp_path / 'made_by_the_checkpoint'
    path = tmp_path / 'malicious.pth'
    torch.save(
        {'state_dict': {}, 'meta': RunsCommand(made)},
        path,
        _use_new_zipfile_serialization=new_format,
    )
    with pytest.raises(CibaError, match=r'malicious\.pth: refused'):
        load_from_file(path)
    assert not made.exists()
    pickle.loads(pickle.dumps(RunsCommand(made)))
    assert made.exists(), 'the attack this test makes does not work at all'


@pytest.mark.usefixtures('_torch_version')
def test_refuses_attributes_that_are_no_statistics(tmp_path):
    path = tmp_path / 'curious.pth'
    torch.save({'meta': ReachesIntoHistory()}, path)
    with pytest.raises(CibaError, match='__init__'):
        load_from_file(path)


@pytest.mark.usefixtures('_torch_version')
@pytest.mark.parametrize('new_format', [True, False])
@pytest.mark.parametrize('kind', ['command', 'unknown class', 'whole model', 'no pickle of torch'])
def test_a_refusal_gives_the_reason_and_no_advice_to_load_it_anyway(tmp_path, kind, new_format):
    path = tmp_path / 'foreign.pth'
    content = {
        'command': {'meta': RunsCommand(tmp_path / 'made')},
        'unknown class': {'meta': Unknown()},
        'whole model': torch.nn.Linear(2, 2),
    }
    if kind in content:
        torch.save(content[kind], path, _use_new_zipfile_serialization=new_format)
    else:
        path.write_bytes(pickle.dumps({'a': {1, 2}}, protocol=4))
    with pytest.raises(CibaError) as caught:
        load_from_file(path)
    message = str(caught.value)
    for advice in ('weights_only', 'Re-running', 'add_safe_globals', 'trust', 'Please', 'http'):
        assert advice not in message
    if kind in content:
        culprit = {'command': '.mkdir', 'unknown class': '.Unknown', 'whole model': '.Linear'}
        assert re.search(rf'\nReason: .*{re.escape(culprit[kind])}\b', message)
    assert '\x1b' not in message


def test_a_torchscript_archive_is_named_without_advice(tmp_path):
    path = tmp_path / 'traced.pth'
    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(str(path))
    with pytest.raises(CibaError, match='TorchScript') as caught:
        load_from_file(path)
    assert 'set to' not in str(caught.value)


@pytest.mark.usefixtures('_torch_version')
@pytest.mark.parametrize('new_format', [True, False])
def test_no_single_wrong_byte_changes_what_is_read(tmp_path, new_format):
    """Anywhere in the file: it is refused, or the byte means nothing. torch itself reads on."""
    path = tmp_path / 'epoch_1.pth'
    weights = torch.arange(64.0)
    torch.save(
        {'state_dict': {'weight': weights}, 'meta': {'epoch': 3}},
        path,
        _use_new_zipfile_serialization=new_format,
    )
    content = path.read_bytes()
    refused = 0
    for position in range(0, len(content), 7):
        changed = bytearray(content)
        changed[position] ^= 0b10010010
        path.write_bytes(changed)
        try:
            read = load_from_file(path)
        except CibaError:
            refused += 1
            continue
        if new_format:
            assert torch.equal(read['state_dict']['weight'], weights), position
            assert read['meta'] == {'epoch': 3}, position
    assert refused > 10


def test_a_wrong_weight_is_seen_and_a_file_without_checksums_is_read(tmp_path):
    path = tmp_path / 'epoch_1.pth'
    weights = torch.arange(1000.0)
    torch.save({'weight': weights}, path)
    content = bytearray(path.read_bytes())
    content[content.find(weights[500:510].numpy().tobytes())] ^= 1
    path.write_bytes(content)
    assert not torch.equal(torch.load(path, weights_only=True)['weight'], weights)
    with pytest.raises(CibaError, match=r'damaged \(its entry epoch_1/data/0 is damaged\)'):
        load_from_file(path)
    if not hasattr(torch.serialization, 'set_crc32_options'):
        pytest.skip('this torch always writes checksums')
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({'weight': weights}, path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(load_from_file(path)['weight'], weights)


def test_an_empty_file_a_folder_and_a_link_to_nothing_are_named(tmp_path):
    (tmp_path / 'empty.pth').touch()
    with pytest.raises(CibaError, match=r'empty\.pth: .*\(it is empty\)'):
        load_from_file(tmp_path / 'empty.pth')
    with pytest.raises(CibaError, match=r': a folder, not a checkpoint file'):
        load_from_file(tmp_path)
    (tmp_path / 'last.pth').symlink_to(tmp_path / 'gone.pth')
    with pytest.raises(CibaError, match=r'last\.pth: a link to .*gone\.pth, where there is no'):
        load_from_file(tmp_path / 'last.pth')


def test_a_link_to_a_file_or_a_folder_is_followed(tmp_path):
    (tmp_path / 'disk').mkdir()
    torch.save({'weight': torch.ones(1)}, tmp_path / 'disk' / 'epoch_1.pth')
    (tmp_path / 'work').symlink_to(tmp_path / 'disk')
    (tmp_path / 'work' / 'last.pth').symlink_to('epoch_1.pth')
    assert load_from_file(tmp_path / 'work' / 'last.pth')['weight'] == 1


def test_a_folder_for_downloads_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    (tmp_path / 'hub').symlink_to(tmp_path / 'gone' / 'far')
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    with pytest.raises(CibaError, match=r'cannot be downloaded .*\n.*hub/checkpoints/a\.pth'):
        load_from_url('https://localhost:1/a.pth')


def test_names_a_damaged_file_and_a_missing_one(tmp_path):
    path = tmp_path / 'epoch_2.pth'
    torch.save({'state_dict': {'weight': torch.zeros(1000)}}, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(CibaError, match=r'epoch_2\.pth: the checkpoint cannot be read'):
        load_from_file(path)
    with pytest.raises(CibaError, match=r'epoch_3\.pth: there is no such checkpoint'):
        load_from_file(tmp_path / 'epoch_3.pth')


def test_mmengine_loads_files_through_it(tmp_path):
    path = tmp_path / 'malicious.pth'
    torch.save({'meta': RunsCommand(tmp_path / 'made')}, path)
    with pytest.raises(CibaError, match='refused'):
        CheckpointLoader.load_checkpoint(str(path), 'cpu')


def test_names_unknown_published_weights():
    with pytest.raises(CibaError, match='no_such_network'):
        CheckpointLoader.load_checkpoint('open-mmlab://no_such_network', 'cpu')


LOAD = """
import sys, torch
import ciba_bev.engine
print(torch.load(sys.argv[1])['meta'])
"""


@pytest.mark.skipif(
    digit_version(torch.__version__) < digit_version('2.7.0'),
    reason='earlier versions of torch cannot be told under which name a thing is stored',
)
@pytest.mark.parametrize('harmful', [False, True])
def test_torch_reads_training_logs_and_still_no_code(tmp_path, harmful):
    """What mmengine writes beside weights is allowed to plain ``torch.load``, and no more."""
    log = HistoryBuffer([1.0], [1])
    path = tmp_path / 'epoch_1.pth'
    harm = {'harm': ReachesIntoHistory()} if harmful else {}
    torch.save({'state_dict': {}, 'log': log, 'meta': 'read', **harm}, path)
    ended = subprocess.run([sys.executable, '-c', LOAD, str(path)], capture_output=True, text=True)
    assert (ended.returncode != 0) == harmful, ended.stderr
    assert harmful or ended.stdout.strip() == 'read'
