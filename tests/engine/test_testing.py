import json

import numpy as np
import pytest
import toy_training

from ciba_bev.engine.testing import main, write_metrics
from ciba_bev.errors import CibaError


def test_metrics_are_strict_json(tmp_path):
    path = tmp_path / 'new_folder' / 'metrics.json'
    write_metrics({'mAP': np.float64(0.5), 'cone_orient_err': float('nan')}, path)

    def refuse(constant):
        raise AssertionError(f'{constant} is no JSON')

    read = json.loads(path.read_text(), parse_constant=refuse)
    assert read == {'mAP': 0.5, 'cone_orient_err': None}
    assert [file.name for file in path.parent.iterdir()] == ['metrics.json']


@pytest.mark.parametrize(
    ('addition', 'message'),
    [('test_dataloader = None\n', 'no test_dataloader'), ('', r'no checkpoint nowhere\.pth')],
)
def test_says_what_is_missing_before_building_anything(tmp_path, monkeypatch, addition, message):
    monkeypatch.setenv('CIBA_TRACEBACK', '1')
    config = toy_training.write_config(tmp_path / 'toy.py')
    config.write_text(config.read_text() + addition)
    with pytest.raises(CibaError, match=message):
        main([str(config), 'nowhere.pth', '--work-dir', str(tmp_path / 'work')])
    assert not (tmp_path / 'work').exists()
