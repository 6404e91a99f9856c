import re
import shlex
from pathlib import Path

import pytest

import ciba_bev
from ciba_bev.shell import shell_command, training_command


@pytest.mark.parametrize('name', ['my data', "it's", 'a;b', '$HOME', 'a&b', 'x*', '(1)', ''])
def test_a_shell_reads_the_words_that_were_meant(name):
    words = ['python', 'tools/train.py', name, '--work-dir', str(Path('work_dirs') / name)]
    assert shlex.split(shell_command(*words)) == words


def test_plain_words_stay_as_they_are():
    command = training_command(Path('configs/a.py'))
    assert command == 'bash tools/dist_train.sh configs/a.py 8'


PACKAGE = Path(ciba_bev.__file__).parent
# A command of this project's with a value in it.
UNQUOTED = re.compile(r"f(['\"])(?:(?!\1).)*\b(?:python|bash) tools/\S+(?:(?!\1).)*\{")


def test_no_message_puts_a_command_together_by_itself():
    assert UNQUOTED.search("f'run bash tools/dist_train.sh {config} 8'")
    found = [
        f'{path.relative_to(PACKAGE)}:{number}: {line.strip()}'
        for path in sorted(PACKAGE.rglob('*.py'))
        for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), 1)
        if UNQUOTED.search(line)
    ]
    assert found == []
