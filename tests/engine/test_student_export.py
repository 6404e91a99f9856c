"""The deployable file holds the student and nothing else."""

import pytest
import torch

from ciba_bev.checkpoints.student_export import export_student, main
from ciba_bev.errors import CibaError


@pytest.fixture
def trained(make_runner):
    """The work folder of a trained toy."""
    runner = make_runner()
    runner.train()
    return runner.work_dir


def test_weights_are_kept_and_training_state_is_not(trained, tmp_path):
    checkpoint, out = f'{trained}/epoch_2.pth', tmp_path / 'new' / 'student.pth'
    export_student(checkpoint, str(out))
    content = torch.load(out, weights_only=True)
    original = torch.load(checkpoint, weights_only=False)
    assert set(content) == {'meta', 'state_dict'}
    assert content['meta']['epoch'] == 2
    for name, value in original['state_dict'].items():
        assert torch.equal(content['state_dict'][name], value)
    assert out.stat().st_size < 0.8 * (tmp_path / checkpoint).stat().st_size


def test_a_distilled_student_keeps_its_record(trained, tmp_path, capsys):
    checkpoint = torch.load(f'{trained}/epoch_2.pth', weights_only=False)
    checkpoint['distillation'] = {'kind': 'distilled student', 'method': 'MSELoss on a code of 4'}
    torch.save(checkpoint, tmp_path / 'distilled.pth')
    main([str(tmp_path / 'distilled.pth'), str(tmp_path / 'out.pth')])
    assert 'distillation: MSELoss on a code of 4' in capsys.readouterr().out
    record = torch.load(tmp_path / 'out.pth', weights_only=True)['distillation']
    assert record['kind'] == 'distilled student'


def test_nothing_that_is_read_is_replaced(trained, tmp_path):
    checkpoint, config = f'{trained}/epoch_2.pth', tmp_path / 'toy.py'
    before = torch.load(checkpoint, weights_only=False).keys()
    for out in (checkpoint, str(config)):
        with pytest.raises(CibaError, match=f'{out}: this file is read'):
            export_student(checkpoint, out, str(config))
    assert torch.load(checkpoint, weights_only=False).keys() == before


def test_bottlenecks_are_no_student(trained, tmp_path):
    checkpoint = torch.load(f'{trained}/epoch_2.pth', weights_only=False)
    checkpoint['distillation'] = {'kind': 'bottlenecks'}
    torch.save(checkpoint, tmp_path / 'bottlenecks.pth')
    with pytest.raises(CibaError, match='contains bottlenecks'):
        export_student(str(tmp_path / 'bottlenecks.pth'), str(tmp_path / 'out.pth'))
    assert not (tmp_path / 'out.pth').exists()


def test_weights_of_another_config_are_refused(trained, tmp_path):
    config = tmp_path / 'other.py'
    config.write_text("default_scope = 'ciba_bev'\nmodel = dict(type='ToyModel', width=9)\n")
    with pytest.raises(CibaError, match='not one of the model'):
        export_student(f'{trained}/epoch_2.pth', str(tmp_path / 'out.pth'), str(config))
