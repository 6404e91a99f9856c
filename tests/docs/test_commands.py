"""Commands, configs and links in the documentation exist and are accepted."""

from __future__ import annotations

import argparse
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PAGES = ['README.md', 'CONTRIBUTING.md', 'data/README.md', 'requirements/README.md']
PAGES += [path.relative_to(PROJECT).as_posix() for path in sorted(PROJECT.glob('docs/**/*.md'))]
# Launchers: the script they start, and the position of the word it does not get.
LAUNCHERS = {
    'tools/dist_train.sh': ('tools/train.py', 1),
    'tools/dist_test.sh': ('tools/test.py', 2),
}
BLOCK = re.compile(r'^ *```(\w*)\n(.*?)^ *```$', re.M | re.S)
LINK = re.compile(r'\]\(([^()\s]+)\)')
CONFIG = re.compile(r'\bconfigs/[\w/]+\.py\b')
# What tools/new_pair.py writes where a page calls it.
WRITTEN = re.compile(r'configs/(bottleneck|ciba|mse)_own(_h\d+)?\.py')


class Parsed(BaseException):
    """The script's own parser has accepted the words."""


def commands_of(text: str) -> list[list[str]]:
    """The words of every command that runs one of the tools in the bash blocks of a page."""
    blocks = ''.join(body for language, body in BLOCK.findall(text) if language == 'bash')
    lines = blocks.replace('\\\n', ' ').splitlines()
    commands = [shlex.split(line, comments=True) for line in lines]
    commands = [
        words[next(i for i, w in enumerate(words) if '=' not in w) :] for words in commands if words
    ]
    return [words for words in commands if len(words) > 1 and words[1].startswith('tools/')]


def parse(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    """Let a script's own parser read its words, and stop the script there."""
    script, *arguments = words[1:]
    assert (PROJECT / script).is_file(), f'there is no {script}'
    if script in LAUNCHERS:
        script, position = LAUNCHERS[script]
        assert arguments.pop(position).isdigit(), 'the number of processes'
    if script.endswith('.sh'):
        return
    original = argparse.ArgumentParser.parse_args

    def parse_and_stop(parser: argparse.ArgumentParser, *args: object, **kwargs: object) -> None:
        original(parser, *args, **kwargs)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', parse_and_stop)
    monkeypatch.setattr(sys, 'argv', [script, *arguments])
    with pytest.raises(Parsed):
        runpy.run_path(str(PROJECT / script), run_name='__main__')


@pytest.mark.parametrize('page', PAGES)
def test_commands_are_accepted(monkeypatch, page):
    for words in commands_of((PROJECT / page).read_text(encoding='utf-8')):
        try:
            parse(monkeypatch, words)
        except SystemExit:
            pytest.fail(f'{page}: the parser refuses {shlex.join(words)}')


@pytest.mark.parametrize('page', PAGES)
def test_configs_and_links_exist(page):
    text = (PROJECT / page).read_text(encoding='utf-8')
    names = {name for name in CONFIG.findall(text) if not WRITTEN.fullmatch(name)}
    targets = {
        link.partition('#')[0] for link in LINK.findall(BLOCK.sub('', text)) if '://' not in link
    }
    missing = [name for name in names if not (PROJECT / name).is_file()]
    missing += [link for link in targets if not ((PROJECT / page).parent / link).exists()]
    assert missing == []


def test_pages_that_messages_name_exist():
    sources = [*PROJECT.glob('projects/**/*.py'), *PROJECT.glob('tools/*')]
    sources += PROJECT.glob('configs/**/*.py')
    pages = {
        page
        for source in sources
        if source.is_file()
        for page in re.findall(r'\b(?:docs|data)/\w+\.md\b', source.read_text(encoding='utf-8'))
    }
    assert {'docs/data.md', 'docs/method.md'} <= pages
    # Every data set is described there; the file in the data folder is only a signpost.
    assert 'data/README.md' not in pages
    assert [page for page in pages if not (PROJECT / page).is_file()] == []


def test_pages_have_commands():
    assert len(commands_of((PROJECT / 'docs/nuscenes.md').read_text(encoding='utf-8'))) > 10


@pytest.mark.parametrize(
    'command',
    [
        'python tools/train.py configs/bevformer_r50.py --no-such-option 1',
        'python tools/create_data.py --version v1.0-mini',
        'bash tools/dist_train.sh configs/bevformer_r50.py 8 --no-such-option',
        'bash tools/dist_test.sh configs/bevformer_r50.py 8',
        'python tools/no_such_tool.py',
    ],
)
def test_wrong_commands_are_refused(monkeypatch, command):
    (words,) = commands_of(f'```bash\n{command}\n```\n')
    with pytest.raises((SystemExit, AssertionError, IndexError)):
        parse(monkeypatch, words)
