import os
from pathlib import Path

import pytest
import torch

from ciba_bev.errors import CibaError


def test_a_resumed_training_equals_an_uninterrupted_one(make_runner):
    whole = make_runner('whole')
    whole.train()
    first = make_runner('first', **{'train_cfg.max_epochs': 1})
    first.train()
    checkpoint = str(Path(first.work_dir, 'epoch_1.pth'))
    second = make_runner('second', load_from=checkpoint, resume=True)
    second.train()
    assert second.epoch == 2
    for name, value in whole.bare_model.state_dict().items():
        assert torch.equal(value, second.bare_model.state_dict()[name]), name
    losses = [runner.message_hub.get_scalar('train/loss').data[0] for runner in (whole, second)]
    assert losses[0].tolist() == losses[1].tolist()
    assert len(losses[0]) == 8


def test_only_whole_checkpoints_carry_their_name(make_runner, monkeypatch):
    runner = make_runner()
    seen = []
    replace = os.replace

    def watch(source, target):
        seen.append((Path(source).name, torch.load(source)['meta']['epoch'], Path(target).exists()))
        replace(source, target)

    monkeypatch.setattr(os, 'replace', watch)
    with monkeypatch.context() as context:
        # torch 2.6 and later would refuse mmengine's checkpoint here; this test made the file.
        load = torch.load
        context.setattr(torch, 'load', lambda path: load(path, weights_only=False))
        runner.train()
    unfinished = [f'.epoch_{epoch}.pth.{os.getpid()}.partial' for epoch in (1, 2)]
    assert seen == [(unfinished[0], 1, False), (unfinished[1], 2, False)]
    kept = sorted(path.name for path in Path(runner.work_dir).glob('*epoch*'))
    assert kept == ['epoch_1.pth', 'epoch_2.pth']


@pytest.mark.parametrize('use', ['test', 'resume'])
def test_another_models_checkpoint_is_refused(make_runner, use):
    trained = make_runner('trained', **{'train_cfg.max_epochs': 1})
    trained.train()
    checkpoint = str(Path(trained.work_dir, 'epoch_1.pth'))
    options = {'load_from': checkpoint, 'resume': use == 'resume', 'model.width': 5}
    wider = make_runner('wider', **options)
    with pytest.raises(CibaError, match=r'epoch_1\.pth(.|\n)*wider\.py(.|\n)*3 of another shape'):
        wider.test() if use == 'test' else wider.train()


def test_a_start_from_other_weights_may_be_partial(make_runner, tmp_path):
    path = tmp_path / 'hidden.pth'
    weights = {'hidden.weight': torch.ones(4, 3), 'hidden.bias': torch.ones(4)}
    torch.save(weights, path)
    runner = make_runner('partial', load_from=str(path))
    runner.load_or_resume()
    assert torch.equal(runner.bare_model.hidden.weight, weights['hidden.weight'])
    torch.save({'other': torch.zeros(1)}, path)
    runner = make_runner('foreign', load_from=str(path))
    with pytest.raises(CibaError, match='0 entries match'):
        runner.load_or_resume()
