import builtins
import io
import itertools
import logging
import os
import re
import sys
from pathlib import Path

import pytest
import torch
import toy_training
from mmengine.config import Config
from mmengine.logging import MMLogger

from ciba_bev.engine import training
from ciba_bev.engine.training import (
    apply_training_arguments,
    interruption_message,
    main,
    parse_args,
    resume_command,
)
from ciba_bev.errors import CibaError


@pytest.fixture
def toy_config(tmp_path):
    return toy_training.write_config(tmp_path / 'toy.py')


@pytest.fixture
def _new_names(monkeypatch):
    """A name of its own for every training of this process, as mmengine wants it."""
    numbers = itertools.count()
    read = training.read_config

    def read_config(args):
        cfg = read(args)
        cfg.experiment_name = f'{os.path.dirname(args.config)}_{next(numbers)}'
        return cfg

    monkeypatch.setattr(training, 'read_config', read_config)


def apply(config, *arguments):
    cfg = Config.fromfile(str(config))
    cfg.work_dir = str(config.parent / 'work')
    apply_training_arguments(cfg, parse_args([str(config), *arguments]))
    return cfg


def test_mixed_precision_needs_a_gpu(toy_config, monkeypatch):
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    with pytest.raises(CibaError, match='--amp needs a GPU'):
        apply(toy_config, '--amp')
    monkeypatch.setattr('torch.cuda.is_available', lambda: True)
    # torch says that GPUs before Ampere have bfloat16; they emulate it.
    monkeypatch.setattr('torch.cuda.is_bf16_supported', lambda *_, **__: True)
    for capability, dtype, scale in (
        ((8, 0), 'bfloat16', dict(enabled=False)),
        ((7, 5), 'float16', 'dynamic'),
    ):
        monkeypatch.setattr('torch.cuda.get_device_capability', lambda _, own=capability: own)
        wrapper = apply(toy_config, '--amp').optim_wrapper
        assert wrapper.type == 'AmpOptimWrapper'
        assert (wrapper.dtype, wrapper.loss_scale) == (dtype, scale)


def test_a_gpu_multiplies_in_tf32_and_is_fed_from_pinned_memory(toy_config, monkeypatch):
    before = torch.get_float32_matmul_precision()
    cfg = Config.fromfile(str(toy_config))
    try:
        monkeypatch.setattr('torch.cuda.is_available', lambda: False)
        training._use_gpu_settings(cfg)
        assert 'pin_memory' not in cfg.train_dataloader
        assert torch.get_float32_matmul_precision() == before
        monkeypatch.setattr('torch.cuda.is_available', lambda: True)
        training._use_gpu_settings(cfg)
        assert cfg.train_dataloader.pin_memory
        assert torch.get_float32_matmul_precision() == 'high'
    finally:
        torch.set_float32_matmul_precision(before)


def test_scaling_the_rate_needs_the_batch_size_it_is_for(toy_config):
    with pytest.raises(CibaError, match=r'auto_scale_lr\.base_batch_size'):
        apply(toy_config, '--auto-scale-lr')
    toy_config.write_text(toy_config.read_text() + 'auto_scale_lr = dict(base_batch_size=8)\n')
    assert apply(toy_config, '--auto-scale-lr').auto_scale_lr.enable


def test_resuming_without_a_checkpoint_starts_from_the_beginning(toy_config):
    toy_config.write_text(toy_config.read_text() + "load_from = 'pretrained.pth'\n")
    cfg = apply(toy_config, '--resume')
    assert (cfg.resume, cfg.load_from) == (False, 'pretrained.pth')


def test_resuming_takes_the_checkpoint_it_is_given_or_the_newest(toy_config):
    folder = toy_config.parent / 'work'
    folder.mkdir()
    torch.save({}, folder / 'epoch_7.pth')
    cfg = apply(toy_config, '--resume')
    assert (cfg.resume, cfg.load_from) == (True, str(folder / 'epoch_7.pth'))
    assert apply(toy_config, '--resume', 'mine.pth').load_from == 'mine.pth'
    toy_config.write_text(toy_config.read_text() + 'resume = True\n')
    assert apply(toy_config).load_from == str(folder / 'epoch_7.pth')
    with pytest.raises(CibaError, match='contradict'):
        apply(toy_config, '--resume', '--start-over')


def run_main(config, *arguments):
    main([str(config), '--work-dir', str(config.parent / 'work'), *arguments])


@pytest.mark.usefixtures('_new_names')
def test_a_training_does_not_begin_anew_over_checkpoints_unless_told_to(toy_config, capsys):
    folder = toy_config.parent / 'work'
    run_main(toy_config)
    first = (folder / 'epoch_2.pth').read_bytes()
    with pytest.raises(SystemExit):
        run_main(toy_config)
    message = capsys.readouterr().err
    assert re.search(r'error: .*work holds checkpoints .*\(epoch_2\.pth, epoch_1\.pth\)', message)
    assert all(way in message for way in ('--resume', '--work-dir', '--start-over'))
    assert (folder / 'epoch_2.pth').read_bytes() == first
    run_main(toy_config, '--start-over')
    [aside] = folder.glob('replaced_*')
    kept = sorted(path.name for path in aside.iterdir())
    assert kept == ['epoch_1.pth', 'epoch_2.pth', 'last_checkpoint']
    assert (aside / 'epoch_2.pth').read_bytes() == first
    assert (folder / 'epoch_2.pth').is_file()


@pytest.mark.usefixtures('_new_names')
def test_resuming_does_not_begin_anew_where_all_checkpoints_are_damaged(toy_config, capsys):
    folder = toy_config.parent / 'work'
    folder.mkdir()
    (folder / 'epoch_1.pth').touch()
    with pytest.raises(SystemExit):
        run_main(toy_config, '--resume')
    assert 'all 1 checkpoints are damaged' in capsys.readouterr().err
    (folder / 'epoch_1.pth').rename(folder / 'best_error_epoch_1.pth')
    with pytest.raises(SystemExit):
        run_main(toy_config, '--resume')
    assert 'holds checkpoints of an earlier training (best_error_epoch_1.pth)' in (
        capsys.readouterr().err
    )


@pytest.mark.usefixtures('_new_names')
@pytest.mark.skipif(not Path('/dev/full').exists(), reason='needs /dev/full')
@pytest.mark.parametrize('file', ['toy.py', 'epoch_1.pth', 'scalars.json', 'log'])
def test_a_full_disk_is_one_sentence(toy_config, capsys, monkeypatch, file):
    """Every file of this name becomes one on a disk that is full."""
    opened = io.open

    def full(path, mode='r', *args, **options):
        name = os.path.basename(str(path)) if isinstance(path, (str, Path)) else ''
        writes = set(mode) & set('wax')
        return opened('/dev/full' if writes and file in name else path, mode, *args, **options)

    with monkeypatch.context() as context:
        for module in (builtins, io):
            context.setattr(module, 'open', full)
        with pytest.raises(SystemExit):
            run_main(toy_config)
    # Later tests log to what mmengine has as its current logger.
    for handler in MMLogger.get_current_instance().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.stream = opened(os.devnull, 'w')
    message = capsys.readouterr().err
    assert re.search(r'error: .*work.*cannot be written \(No space left on device\)', message)
    assert 'Traceback' not in message
    work = toy_config.parent / 'work'
    assert not [path for path in work.rglob('*') if 'partial' in path.name]
    assert not (work / 'epoch_1.pth').exists()


def test_an_interrupted_training_says_how_to_go_on(toy_config, monkeypatch, capsys):
    def interrupted(cfg, start_over):
        Path(cfg.work_dir).mkdir()
        Path(cfg.work_dir, 'epoch_2.pth').touch()
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
    cfg = Config({'work_dir': str(toy_config.parent / 'none')})
    assert 'There is no checkpoint yet' in interruption_message(cfg, 'command')


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
