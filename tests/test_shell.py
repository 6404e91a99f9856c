import shlex
from pathlib import Path

import pytest

from ciba_bev.shell import shell_command


@pytest.mark.parametrize('name', ['my data', "it's", 'a;b', '$HOME', 'a&b', 'x*', '(1)', ''])
def test_a_shell_reads_the_words_that_were_meant(name):
    words = ['python', 'tools/train.py', name, '--work-dir', str(Path('work_dirs') / name)]
    assert shlex.split(shell_command(*words)) == words


def test_plain_words_stay_as_they_are():
    command = shell_command('bash', 'tools/dist_train.sh', Path('configs/a.py'), 8)
    assert command == 'bash tools/dist_train.sh configs/a.py 8'
