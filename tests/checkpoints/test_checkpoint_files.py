import os
import pickle
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from mmengine.utils import digit_version

from ciba_bev.checkpoints import files as checkpoint_files
from ciba_bev.checkpoints.files import load_from_file
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
