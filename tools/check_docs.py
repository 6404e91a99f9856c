"""Check every command, link and file name in the documentation.

Statically: scripts, config files and links exist, and every command's words are taken by the
script's own parser, which is run, but nothing after it. With --run, commands are also executed in a
scratch copy, as far as that is possible without a data set, a GPU or a change of the environment.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Collection, Iterator, NamedTuple, Sequence

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = ('README.md', 'docs/*.md', 'data/*.md')

_FENCE = re.compile(r'^\s*(```+|~~~+)\s*(\w*)')
_LINK = re.compile(r'!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)')
_HEADING = re.compile(r'^#{1,6}\s+(.*?)\s*#*$')
_CODE_SPAN = re.compile(r'(`+)(.+?)\1')
# A code span that is a path of the repository, or the bare name of a config or module.
_FILE_NAME = re.compile(
    r'^(?:(?:configs|data|docs|projects|requirements|tests|tools)/[\w./-]+|\w+\.(?:py|sh|toml))$'
)
_MAIN_MODULE = re.compile(r"(?:from |')(ciba_bev[./][\w./]+?)(?: import main\b|\.py')")
# Not kept in the repository: data and results, and what lies outside.
_DATA_PATH = re.compile(r'(?<![\w/])(?:data|downloads|work_dirs|\.\.)/[\w./-]+')
_CHECKPOINT = re.compile(r'^work_dirs/(\w+)/epoch_(\d+)\.pth$')
_SHELLS = ('bash', 'sh', 'shell')
_SEPARATORS = ('&&', '||', ';', '|', '&')
# Of the shell and of other projects: looked at no further.
_FOREIGN = ('cat', 'cd', 'conda', 'cp', 'du', 'echo', 'export', 'git', 'ln', 'ls', 'mim', 'mkdir')
_FOREIGN += ('mv', 'nvidia-smi', 'pip', 'rm', 'source', 'tar', 'tensorboard', 'unset', 'unzip')
_FOREIGN += ('wget', 'xargs')
# Those of them that change the environment or fetch something.
_NOT_RUN = ('conda', 'git', 'mim', 'pip', 'source', 'tensorboard', 'unzip', 'tar', 'wget')
_SET_UP = ('tools/setup.sh', 'tools/quickstart.sh', 'tools/test.sh')
# How each launcher's words become those of the script it starts: the script, the number of its own
# words, and which of these the script gets.
_LAUNCHERS = {
    'tools/dist_train.sh': ('tools/train.py', 2, (0,)),
    'tools/dist_test.sh': ('tools/test.py', 3, (0, 1)),
    'tools/slurm_train.sh': ('tools/train.py', 4, (2,)),
    'tools/slurm_test.sh': ('tools/test.py', 4, (2, 3)),
}


class Problem(NamedTuple):
    """Something wrong in the documentation."""

    page: str
    line: int
    message: str

    def __str__(self) -> str:
        return f'{self.page}:{self.line}: {self.message}'


class Command(NamedTuple):
    """One command of a shell block.

    Attributes:
        page: The page, relative to the repository.
        line: Its first line there, from 1.
        variables: ``NAME=VALUE`` words before it.
        words: The rest.
        text: All of the line it stands on, continuation lines joined.
    """

    page: str
    line: int
    variables: tuple[str, ...]
    words: tuple[str, ...]
    text: str


class _Parsed(BaseException):
    """Raised in place of a script's work, once its parser has taken the words."""


def find_pages(root: Path) -> list[Path]:
    """The documentation of a checkout."""
    return sorted(page for pattern in PAGES for page in root.glob(pattern))


def split_page(text: str) -> Iterator[tuple[int, str, str]]:
    """Tell prose from code.

    Args:
        text: A page.

    Yields:
        Line number from 1, the language of the block the line is in (``''`` for prose, ``'text'``
        for a block without one), and the line.
    """
    fence = language = ''
    for number, line in enumerate(text.splitlines(), 1):
        match = _FENCE.match(line)
        if match and not fence:
            fence, language = match.group(1), match.group(2) or 'text'
        elif match and match.group(1).startswith(fence) and not match.group(2):
            fence = language = ''
        else:
            yield number, language, line


def find_commands(page: str, text: str) -> tuple[list[Command], list[Problem]]:
    """The commands in a page's shell blocks.

    Args:
        page: Its name.
        text: What it holds.

    Returns:
        The commands, and lines that are no shell commands.
    """
    commands, problems = [], []
    pending, start = '', 0
    for number, language, line in split_page(text):
        if language not in _SHELLS:
            continue
        start = start if pending else number
        pending += line.strip()
        if pending.endswith('\\'):
            pending = pending[:-1]
            continue
        try:
            commands += _split_line(page, start, pending)
        except ValueError as error:
            problems.append(Problem(page, start, f'no shell command ({error}): {pending}'))
        pending = ''
    if pending:
        problems.append(Problem(page, start, f'a line goes on, but the block ends: {pending}'))
    return commands, problems


def _split_line(page: str, line: int, text: str) -> Iterator[Command]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ';']:
        if word not in _SEPARATORS:
            words.append(word)
            continue
        count = next((i for i, word in enumerate(words) if not re.match(r'\w+=', word)), len(words))
        if words[count:]:
            yield Command(page, line, tuple(words[:count]), tuple(words[count:]), text)
        words = []


def find_written_configs(commands: Sequence[Command]) -> set[str]:
    """The configs that commands of a page write themselves.

    Args:
        commands: Those of the page.

    Returns:
        Paths relative to the repository: the three that ``tools/new_pair.py --name NAME`` writes.
    """
    written = set()
    for command in commands:
        words = command.words
        if 'tools/new_pair.py' in words and '--name' in words[:-1]:
            name = words[words.index('--name') + 1]
            written |= {
                f'configs/{file}.py'
                for file in (f'bottleneck_{name}', f'ciba_{name}_h4', f'mse_{name}')
            }
    return written


def check_command(root: Path, command: Command, written: Collection[str] = ()) -> Iterator[str]:
    """Check a command without executing it.

    Args:
        root: The checkout.
        command: The command.
        written: Configs that are not there yet, but will be.

    Yields:
        What is wrong with it.
    """
    program, *words = command.words
    for word in words:
        yield from _check_word(root, word, written)
    if program in ('bash', 'sh') and words:
        yield from _check_shell_script(root, words)
    elif re.match(r'python[\d.]*$', program) and words:
        yield from _check_python(root, words)
    elif program not in _FOREIGN:
        yield f'{program}: not a command that tools/check_docs.py knows'


def _check_word(root: Path, word: str, written: Collection[str]) -> Iterator[str]:
    """Config files are there, and so will be the checkpoints that training with them makes."""
    is_kept = re.match(r'(configs|projects|tests|requirements)/', word)
    is_expected = is_kept and not _is_placeholder(word) and word not in written
    if is_expected and not (root / word.split('::')[0]).exists():
        yield f'there is no {word}'
    match = _CHECKPOINT.match(word)
    if match and f'configs/{match.group(1)}.py' not in written:
        config = root / 'configs' / f'{match.group(1)}.py'
        if not config.is_file():
            yield f'{word}: there is no {config.relative_to(root)} that would make it'
        else:
            from mmengine.config import Config

            epochs = (Config.fromfile(str(config)).get('train_cfg') or {}).get('max_epochs')
            if epochs is not None and int(match.group(2)) > epochs:
                yield f'{word}: {config.relative_to(root)} trains {epochs} epochs'


def _check_shell_script(root: Path, words: Sequence[str]) -> Iterator[str]:
    script, *arguments = words
    if not (root / script).is_file():
        yield f'there is no script {script}'
        return
    if script not in _LAUNCHERS:
        return
    target, count, passed_on = _LAUNCHERS[script]
    if len(arguments) < count:
        yield f'{script} takes at least {count} words'
        return
    own = [arguments[index] for index in passed_on]
    if script.startswith('tools/dist_') and not _is_number(arguments[count - 1]):
        yield f'{script}: the number of processes is {arguments[count - 1]!r}'
    yield from _check_arguments(root / target, [*own, *arguments[count:]])


def _check_python(root: Path, words: Sequence[str]) -> Iterator[str]:
    first, *arguments = words
    if first == '-m':
        if arguments[:1] not in (['pytest'], ['pip']):
            yield f'python -m {" ".join(arguments[:1])}: not a module that is known here'
    elif first == '-c':
        try:
            compile(arguments[0], 'command', 'exec')
        except (SyntaxError, IndexError) as error:
            yield f'python -c: {error}'
    elif _is_placeholder(first):
        return
    elif not (root / first).is_file():
        yield f'there is no script {first}'
    else:
        yield from _check_arguments(root / first, arguments)


def _check_arguments(script: Path, arguments: Sequence[str]) -> Iterator[str]:
    """Let a script's own parser read the words, and stop the script there."""
    if not _has_parser(script):
        yield f'{script.name} has no argparse parser, so its words cannot be checked'
        return
    complaints = io.StringIO()
    before = sys.argv
    sys.argv = [str(script), *arguments]
    try:
        with _stop_after_parsing(), contextlib.redirect_stderr(complaints):
            runpy.run_path(str(script), run_name='__main__')
    except _Parsed:
        return
    except SystemExit as end:
        if not end.code:
            return
        lines = complaints.getvalue().strip().splitlines()
        yield lines[-1] if lines else f'{script.name} ended before it had read its words'
    finally:
        sys.argv = before


def _has_parser(script: Path) -> bool:
    """Whether a script, or the module that it takes its main from, makes a parser.

    A script without one would do its work when it is run.
    """
    text = script.read_text(encoding='utf-8')
    for module in _MAIN_MODULE.findall(text):
        file = script.parents[1] / 'projects' / f'{module.replace(".", "/")}.py'
        text += file.read_text(encoding='utf-8') if file.is_file() else ''
    return 'ArgumentParser(' in text or 'make_parser(' in text


@contextlib.contextmanager
def _stop_after_parsing() -> Iterator[None]:
    original = argparse.ArgumentParser.parse_args

    def parse_and_stop(parser: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> None:
        original(parser, *args, **kwargs)
        raise _Parsed

    argparse.ArgumentParser.parse_args = parse_and_stop
    try:
        yield
    finally:
        argparse.ArgumentParser.parse_args = original


def _is_placeholder(word: str) -> bool:
    """Whether a word stands for something the reader fills in: CONFIG, <name>, *.pth, $HOME."""
    return bool(re.search(r'[<>*?$]|(^|/)[A-Z_]{2,}(\.\w+)?$', word))


def _is_number(word: str) -> bool:
    return word.isdigit() or word.isupper()


def check_prose(root: Path, page: Path, written: Collection[str] = ()) -> Iterator[Problem]:
    """Check a page's links and the file names in its code spans.

    Args:
        root: The checkout.
        page: The page.
        written: Configs that are not there yet, but will be.

    Yields:
        What is wrong.
    """
    name = page.relative_to(root).as_posix()
    known = _names_of_files(root) | {Path(path).name for path in written}
    for number, language, line in split_page(page.read_text(encoding='utf-8')):
        if language:
            continue
        for _, span in _CODE_SPAN.findall(line):
            words = span.split()
            if len(words) > 1 and words[0] in ('python', 'bash') and words[1].startswith('tools/'):
                span = words[1]
            if not _FILE_NAME.match(span) or _is_placeholder(span):
                continue
            # Data and results are not kept in the repository.
            if span.startswith('data/') and span != 'data/README.md':
                continue
            is_known = span in known if '/' not in span else span in written
            if not ((root / span).exists() or is_known):
                yield Problem(name, number, f'there is no {span} in the repository')
        for target in _LINK.findall(_CODE_SPAN.sub('', line)):
            message = _check_link(root, page, target)
            if message:
                yield Problem(name, number, message)


def _names_of_files(root: Path) -> set[str]:
    folders = ('configs', 'projects', 'requirements', 'tests', 'tools')
    names = {path.name for folder in folders for path in (root / folder).rglob('*.*')}
    return names | {path.name for path in root.iterdir()}


def _check_link(root: Path, page: Path, target: str) -> str | None:
    if re.match(r'[a-z]+:', target):
        return None
    path, _, anchor = target.partition('#')
    file = (page.parent / path).resolve() if path else page
    if root not in file.parents:
        return f'the link {target} leads out of the repository'
    if not file.exists():
        return f'the link {target} leads nowhere: there is no {file.relative_to(root)}'
    if anchor and anchor not in find_anchors(file.read_text(encoding='utf-8')):
        return f'the link {target}: {file.relative_to(root)} has no heading for #{anchor}'
    return None


def find_anchors(text: str) -> set[str]:
    """The anchors that GitHub makes of a page's headings.

    Args:
        text: The page.

    Returns:
        What may follow the ``#`` of a link.
    """
    anchors: set[str] = set()
    for _, language, line in split_page(text):
        heading = None if language else _HEADING.match(line)
        if heading is None:
            continue
        # Of a link only its text is part of the heading.
        words = re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', heading.group(1)).lower()
        anchor = re.sub(r'[^\w\- ]', '', words).replace(' ', '-')
        number = 0
        while (unique := f'{anchor}-{number}' if number else anchor) in anchors:
            number += 1
        anchors.add(unique)
    return anchors


def check_pages(root: Path = REPOSITORY) -> tuple[list[Command], list[Problem]]:
    """Check all pages without executing anything they say.

    Args:
        root: The checkout.

    Returns:
        All commands, and all problems in the order of the pages.
    """
    all_commands, problems = [], []
    for page in find_pages(root):
        name = page.relative_to(root).as_posix()
        commands, found = find_commands(name, page.read_text(encoding='utf-8'))
        written = find_written_configs(commands)
        for command in commands:
            found += [
                Problem(name, command.line, message)
                for message in check_command(root, command, written)
            ]
        found += check_prose(root, page, written)
        all_commands += commands
        problems += sorted(found, key=lambda problem: problem.line)
    return all_commands, problems


def run_lines(
    root: Path, commands: Sequence[Command], seconds: float
) -> Iterator[tuple[Command, str, str]]:
    """Execute lines of the documentation in a scratch copy, each once, in the order of the pages.

    Args:
        root: The checkout.
        commands: All commands.
        seconds: How long a line may take.

    Yields:
        First command of the line, verdict (``'ran'``, ``'failed'``, ``'not finished'`` or
        ``'not run'``), and the reason or the end of its output.
    """
    lines: dict[str, list[Command]] = {}
    for command in commands:
        lines.setdefault(command.text, []).append(command)
    with tempfile.TemporaryDirectory(prefix='ciba_docs_') as folder:
        scratch = Path(folder) / 'checkout'
        _copy_checkout(root, scratch)
        for text, parts in lines.items():
            reasons = [_reason_not_to_run(scratch, command) for command in parts]
            reason = next(filter(None, reasons), None)
            verdict = ('not run', reason) if reason else _run(scratch, text, seconds)
            yield (parts[0], *verdict)


def _copy_checkout(root: Path, scratch: Path) -> None:
    listing = subprocess.run(
        ['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listing.stdout.split('\0')):
        # A file that is deleted but not committed is still listed.
        if (root / name).is_file():
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, scratch / name)


def _reason_not_to_run(scratch: Path, command: Command) -> str | None:
    program, *words = command.words
    if program in _NOT_RUN or (program, *words[:2]) == ('python', '-m', 'pip'):
        return 'changes the environment or fetches something'
    if any(word in _SET_UP for word in words):
        return 'makes an environment and runs for long'
    if any(word in _LAUNCHERS for word in words):
        return 'wants several GPUs'
    # What stands between blanks is code.
    if any(_is_placeholder(word) for word in words if not re.search(r'\s', word)):
        return 'the reader fills something in'
    outputs = {words[i + 1] for i, word in enumerate(words[:-1]) if word.startswith('--out')}
    inputs = [path for word in words if word not in outputs for path in _DATA_PATH.findall(word)]
    # Nor does a folder help that is only made to be filled.
    missing = [path for path in inputs if not any((scratch / path).glob('*'))]
    missing = [path for path in missing if not (scratch / path).is_file()]
    if missing and program != 'mkdir':
        return f'there is no {missing[0]} here'
    return None


def _run(scratch: Path, text: str, seconds: float) -> tuple[str, str]:
    environment = {**os.environ, 'PYTHONPATH': str(scratch / 'projects')}
    environment['PATH'] = f'{Path(sys.executable).parent}{os.pathsep}{environment.get("PATH", "")}'
    process = subprocess.Popen(
        ['bash', '-c', text],
        cwd=scratch,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return 'not finished', f'stopped after {seconds:g} s'
    lines = output.strip().splitlines()
    return ('failed' if process.returncode else 'ran'), (lines[-1] if lines else '')


def main() -> int:
    """Check the documentation of this checkout.

    Returns:
        The exit status: 1 if anything is wrong.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--run', action='store_true', help='also execute what can be run here')
    parser.add_argument(
        '--time-limit',
        type=float,
        default=60.0,
        metavar='SECONDS',
        help='longest time for one line with --run; one that takes longer is stopped and counts '
        'as neither right nor wrong (%(default)g)',
    )
    arguments = parser.parse_args()
    # Configs are named relative to the checkout.
    os.chdir(REPOSITORY)
    commands, problems = check_pages()
    if arguments.run:
        for command, verdict, text in run_lines(REPOSITORY, commands, arguments.time_limit):
            print(f'{verdict}: {command.page}:{command.line}: {command.text}: {text}')
            if verdict == 'failed':
                problems.append(Problem(command.page, command.line, f'failed: {text}'))
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f'{len(commands)} commands checked, {len(problems)} problems')
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
