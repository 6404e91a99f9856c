import sys
from pathlib import Path

import pytest
import toy_training
from mmengine.config import Config

from ciba_bev.engine import training
from ciba_bev.engine.training import (
    apply_training_arguments,
    farewell,
    main,
    parse_arguments,
    resume_command,
)
from ciba_bev.errors import CibaError


@pytest.fixture
def toy_config(tmp_path):
    return toy_training.write_config(tmp_path / 'toy.py')


def apply(config, *arguments):
    cfg = Config.fromfile(str(config))
    cfg.work_dir = str(config.parent / 'work')
    apply_training_arguments(cfg, parse_arguments([str(config), *arguments]))
    return cfg


def test_mixed_precision_needs_a_gpu(toy_config, monkeypatch):
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    with pytest.raises(CibaError, match='--amp needs a GPU'):
        apply(toy_config, '--amp')
    monkeypatch.setattr('torch.cuda.is_available', lambda: True)
    cfg = apply(toy_config, '--amp')
    assert (cfg.optim_wrapper.type, cfg.optim_wrapper.loss_scale) == ('AmpOptimWrapper', 'dynamic')


def test_scaling_the_rate_needs_the_batch_size_it_is_for(toy_config):
    with pytest.raises(CibaError, match=r'auto_scale_lr\.base_batch_size'):
        apply(toy_config, '--auto-scale-lr')
    toy_config.write_text(toy_config.read_text() + 'auto_scale_lr = dict(base_batch_size=8)\n')
    assert apply(toy_config, '--auto-scale-lr').auto_scale_lr.enable


def test_resuming_without_a_checkpoint_starts_from_the_beginning(toy_config):
    toy_config.write_text(toy_config.read_text() + "load_from = 'pretrained.pth'\n")
    cfg = apply(toy_config, '--resume')
    assert (cfg.get('resume'), cfg.load_from) == (None, 'pretrained.pth')


def test_resuming_finds_the_latest_checkpoint_in_a_folder_that_moved(toy_config):
    folder = toy_config.parent / 'work'
    folder.mkdir()
    (folder / 'last_checkpoint').write_text('/gone/epoch_7.pth')
    (folder / 'epoch_7.pth').touch()
    cfg = apply(toy_config, '--resume')
    assert (cfg.resume, cfg.load_from) == (True, str(folder / 'epoch_7.pth'))
    assert apply(toy_config, '--resume', 'mine.pth').load_from == 'mine.pth'


def test_an_interrupted_training_says_how_to_go_on(toy_config, monkeypatch, capsys):
    def interrupted(cfg):
        Path(cfg.work_dir).mkdir()
        Path(cfg.work_dir, 'last_checkpoint').write_text('work/epoch_2.pth')
        raise KeyboardInterrupt

    arguments = [str(toy_config), '--work-dir', str(toy_config.parent / 'work')]
    monkeypatch.setattr(training, 'train', interrupted)
    monkeypatch.setattr(sys, 'argv', ['tools/train.py', *arguments])
    monkeypatch.delenv('CIBA_COMMAND', raising=False)
    with pytest.raises(SystemExit):
        main(arguments)
    message = capsys.readouterr().err
    assert 'work/epoch_2.pth' in message
    assert f'python tools/train.py {" ".join(arguments)} --resume' in message
    assert 'No epoch was finished yet' in farewell(str(toy_config.parent / 'none'), 'command')


@pytest.mark.parametrize(
    ('typed', 'expected'),
    [
        (['train.py', 'c.py', '--resume'], 'python train.py c.py --resume'),
        (['train.py', 'c.py', '--resume', 'x.pth', '--amp'], 'python train.py c.py --amp --resume'),
        (
            ['train.py', '--resume=x.pth', 'c.py', '--cfg-options', 'a=[1,2]'],
            "python train.py c.py --cfg-options 'a=[1,2]' --resume",
        ),
    ],
)
def test_resume_command_replaces_an_earlier_resume(typed, expected, monkeypatch):
    monkeypatch.delenv('CIBA_COMMAND', raising=False)
    assert resume_command(typed) == expected
    monkeypatch.setenv('CIBA_COMMAND', 'bash tools/dist_train.sh c.py 8')
    assert resume_command(typed) == 'bash tools/dist_train.sh c.py 8 --resume'
