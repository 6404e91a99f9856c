"""The command line of tools/reproduce.py."""

import pytest

from ciba_bev.reproduction.command import parse_args


def test_at_least_one_seed(capsys):
    with pytest.raises(SystemExit):
        parse_args(['table7', '--seeds', '0'])
    assert '--seeds must be at least 1' in capsys.readouterr().err
