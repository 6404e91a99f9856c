"""Two gloo processes with half the batch each do what one process does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import toy_pair

PROJECT = Path(__file__).resolve().parents[2]
# Both divide the same sums in another order.
TOLERANCE = 1e-4


def run(arguments, folder):
    """Run a tool from another folder, as its user would, on the CPU."""
    environment = {**os.environ, 'CUDA_VISIBLE_DEVICES': '', 'OMP_NUM_THREADS': '1'}
    environment['PATH'] = f'{Path(sys.executable).parent}{os.pathsep}{environment["PATH"]}'
    environment['VIRTUAL_ENV'] = str(Path(sys.executable).parents[1])
    environment['PYTHONPATH'] = str(Path(toy_pair.__file__).parent)
    result = subprocess.run(
        arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr


def losses(work_dir, name):
    [log] = Path(work_dir).glob('*/vis_data/scalars.json')
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    return [entry[name] for entry in entries if name in entry]


@pytest.mark.slow
@pytest.mark.parametrize('normalize_target', [False, True])
def test_two_processes_distil_like_one(tmp_path, distiller_model, normalize_target):
    model = distiller_model(4, normalize_target=normalize_target)
    toy_pair.write_config(tmp_path / 'toy.py', model)
    run([sys.executable, PROJECT / 'tools/train.py', 'toy.py', '--work-dir', 'alone'], tmp_path)
    halved = ['--cfg-options', 'train_dataloader.batch_size=1']
    run(
        ['bash', PROJECT / 'tools/dist_train.sh', 'toy.py', '2', '--work-dir', 'together', *halved],
        tmp_path,
    )
    for name in ('loss', 'loss_distillation'):
        alone = losses(tmp_path / 'alone', name)
        assert len(alone) == 8
        assert losses(tmp_path / 'together', name) == pytest.approx(alone, rel=TOLERANCE)
    weights = [
        torch.load(tmp_path / folder / 'epoch_2.pth', weights_only=False)['state_dict']
        for folder in ('alone', 'together')
    ]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, atol=1e-4, rtol=1e-3)
