"""Two gloo processes with half the batch each do what one process does."""

import json
from pathlib import Path

import pytest
import torch
import toy_pair
from tool_processes import run_tool

# Both divide the same sums in another order.
TOLERANCE = 1e-4


def train(folder, *words, processes=1):
    toys = Path(toy_pair.__file__).parent
    ended = run_tool(folder, 'train.py', 'toy.py', *words, processes=processes, python_path=[toys])
    assert ended.returncode == 0, ended.stdout


def losses(work_dir, name):
    [log] = Path(work_dir).glob('*/vis_data/scalars.json')
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    return [entry[name] for entry in entries if name in entry]


@pytest.mark.slow
@pytest.mark.parametrize('normalize_target', [False, True])
def test_two_processes_distil_like_one(tmp_path, distiller_model, normalize_target):
    model = distiller_model(4, normalize_target=normalize_target)
    toy_pair.write_config(tmp_path / 'toy.py', model)
    train(tmp_path, '--work-dir', 'alone')
    halved = ['--cfg-options', 'train_dataloader.batch_size=1']
    train(tmp_path, '--work-dir', 'together', *halved, processes=2)
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
