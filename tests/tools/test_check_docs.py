"""tools/check_docs.py: on documentation with known mistakes, and on the project's own."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]

CONFIG = "model = dict(type='Nothing')\ntrain_cfg = dict(by_epoch=True, max_epochs=24)\n"
SCRIPT = """
import argparse
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument('config')
parser.add_argument('checkpoint', nargs='?')
parser.add_argument('--steps', type=int)
parser.parse_args()
(Path(__file__).parent / 'it_ran').touch()
"""


@pytest.fixture(scope='module')
def check_docs():
    specification = importlib.util.spec_from_file_location(
        'check_docs', PROJECT / 'tools' / 'check_docs.py'
    )
    module = importlib.util.module_from_spec(specification)
    sys.modules['check_docs'] = module
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path):
    """A small project with two tools, a launcher and a config."""
    for folder in ('configs', 'docs', 'tools'):
        (tmp_path / folder).mkdir()
    (tmp_path / 'configs' / 'student.py').write_text(CONFIG)
    for name in ('train.py', 'test.py'):
        (tmp_path / 'tools' / name).write_text(SCRIPT)
    shutil.copy(PROJECT / 'tools' / 'dist_train.sh', tmp_path / 'tools')
    shutil.copy(PROJECT / 'tools' / 'dist_test.sh', tmp_path / 'tools')
    (tmp_path / 'docs' / 'other.md').write_text('# One Heading: `a.b`, twice\n\n# Two\n\n# Two\n')
    return tmp_path


def problems_of(check_docs, checkout, text):
    (checkout / 'README.md').write_text(text)
    return [str(problem) for problem in check_docs.check_pages(checkout)[1]]


def in_block(command):
    return f'# Title\n\n```bash\n{command}\n```\n'


def test_the_projects_own_documentation(check_docs, monkeypatch):
    monkeypatch.chdir(PROJECT)
    commands, problems = check_docs.check_pages(PROJECT)
    assert [str(problem) for problem in problems] == []
    # It did look: the README alone has these.
    assert len(commands) > 15


def test_the_model_index():
    """Configs and numbers against the disk and the table of the method's page."""
    yaml = pytest.importorskip('yaml')
    (metafile,) = yaml.safe_load((PROJECT / 'model-index.yml').read_text())['Import']
    content = yaml.safe_load((PROJECT / metafile).read_text())
    collections = {collection['Name']: collection for collection in content['Collections']}
    for collection in collections.values():
        assert (PROJECT / collection['Code']['URL']).is_file()
        assert (PROJECT / collection['README']).is_file()
    numbers = {}
    for model in content['Models']:
        assert model['In Collection'] in collections
        assert Path(model['Config']).stem == model['Name']
        assert (PROJECT / model['Config']).is_file()
        for result in model.get('Results', []):
            numbers[model['Name']] = result['Metrics']['NDS (in the paper)']
    table = (PROJECT / 'docs' / 'method.md').read_text()
    rows = re.findall(r'^\| .* \| `(\w+)\.py` \| (\d+\.\d) \|$', table, re.M)
    assert numbers == {name: float(value) for name, value in rows}
    assert len(numbers) == 11


def test_the_citation():
    yaml = pytest.importorskip('yaml')
    citation = yaml.safe_load((PROJECT / 'CITATION.cff').read_text())
    assert f"version='{citation['version']}'" in (PROJECT / 'setup.py').read_text()
    assert citation['license'] in (PROJECT / 'setup.py').read_text()
    assert {'cff-version', 'message', 'title', 'authors'} <= set(citation)


@pytest.mark.parametrize(
    'command',
    [
        'python tools/train.py configs/student.py --steps 3',
        'python tools/train.py configs/student.py \\\n    --steps 3  # a remark',
        'CUDA_VISIBLE_DEVICES= python tools/train.py configs/student.py && ls work_dirs',
        'bash tools/dist_train.sh configs/student.py 8 --steps 3',
        'bash tools/dist_test.sh configs/student.py work_dirs/student/epoch_24.pth 8',
        'pip install -e . --no-deps',
        'python -c "print(1)"',
    ],
)
def test_right_commands(check_docs, checkout, command):
    assert problems_of(check_docs, checkout, in_block(command)) == []
    assert not (checkout / 'tools' / 'it_ran').exists()


@pytest.mark.parametrize(
    ('command', 'message'),
    [
        ('python tools/trian.py configs/student.py', 'there is no script tools/trian.py'),
        ('bash tools/missing.sh', 'there is no script tools/missing.sh'),
        ('python tools/train.py configs/teacher.py', 'there is no configs/teacher.py'),
        ('python tools/train.py configs/student.py --step-count 3', 'unrecognized arguments'),
        ('python tools/train.py configs/student.py --steps three', 'invalid int value'),
        ('python tools/train.py', 'the following arguments are required: config'),
        ('bash tools/dist_train.sh configs/student.py', 'takes at least 2 words'),
        ('bash tools/dist_train.sh configs/student.py --steps 8', 'number of processes'),
        ('bash tools/dist_train.sh configs/student.py 8 --step-count 3', 'unrecognized arguments'),
        (
            'bash tools/dist_test.sh configs/student.py work_dirs/student/epoch_25.pth 8',
            'trains 24 epochs',
        ),
        ('pyhton tools/train.py configs/student.py', 'not a command'),
        ('python -c "print("', 'python -c'),
        ("echo 'open", 'no shell command'),
        ('python tools/train.py \\', 'the block ends'),
    ],
)
def test_wrong_commands(check_docs, checkout, command, message):
    (problem,) = problems_of(check_docs, checkout, in_block(command))
    assert problem.startswith('README.md:4: ')
    assert message in problem


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('[right](docs/other.md#one-heading-ab-twice) [again](docs/other.md#two-1)', None),
        ('[elsewhere](https://example.org/page#part)', None),
        ('[![a picture](docs/other.md)](docs/other.md)', None),
        ('`configs/student.py`, `student.py`, `python tools/train.py CONFIG`', None),
        ('[wrong](docs/none.md)', 'leads nowhere'),
        ('![wrong](docs/none.png)', 'leads nowhere'),
        ('[wrong](../elsewhere.md)', 'out of the repository'),
        ('[wrong](docs/other.md#three)', 'no heading for #three'),
        ('[wrong](#missing)', 'no heading for #missing'),
        ('`configs/teacher.py`', 'there is no configs/teacher.py'),
        ('`teacher.py`', 'there is no teacher.py'),
        ('`python tools/score.py CONFIG`', 'there is no tools/score.py'),
    ],
)
def test_prose(check_docs, checkout, text, message):
    problems = problems_of(check_docs, checkout, f'# Title\n\n{text}\n')
    if message is None:
        assert problems == []
    else:
        assert len(problems) == 1
        assert problems[0].startswith('README.md:3: ')
        assert message in problems[0]


def test_configs_that_a_page_has_written_itself(check_docs, checkout):
    (checkout / 'tools' / 'new_pair.py').write_text(
        SCRIPT.replace("'--steps', type=int", "'--name'")
    )
    commands = (
        'python tools/train.py configs/ciba_own_h4.py',
        'python tools/test.py configs/student.py work_dirs/ciba_own_h4/epoch_12.pth',
    )
    page = '`mse_own.py`\n' + in_block('\n'.join(commands))
    assert len(problems_of(check_docs, checkout, page)) == 3
    for name, missing in (('own', 0), ('other', 3)):
        page_with = page + in_block(f'python tools/new_pair.py configs/student.py --name {name}')
        assert len(problems_of(check_docs, checkout, page_with)) == missing


def test_a_script_without_a_parser_is_not_run(check_docs, checkout):
    (checkout / 'tools' / 'bare.py').write_text(
        "from pathlib import Path\n(Path(__file__).parent / 'it_ran').touch()\n"
    )
    (problem,) = problems_of(check_docs, checkout, in_block('python tools/bare.py'))
    assert 'has no argparse parser' in problem
    assert not (checkout / 'tools' / 'it_ran').exists()


def test_running(check_docs, checkout):
    subprocess.run(['git', 'init', '-q'], cwd=checkout, check=True)
    expected = {
        'python -c "print(42)" | cat && echo done': 'ran',
        'python -c "raise SystemExit(3)"': 'failed',
        'python -c "import time; time.sleep(60)"': 'not finished',
        'bash tools/dist_train.sh configs/student.py 8': 'not run',
        'python tools/test.py configs/student.py work_dirs/student/epoch_24.pth': 'not run',
        'python -c "open(\'data/a.json\')"': 'not run',
        'python tools/train.py CONFIG': 'not run',
        'pip install -e . --no-deps': 'not run',
        'python tools/train.py configs/student.py': 'ran',
        'ls tools/it_ran': 'ran',
    }
    (checkout / 'README.md').write_text(in_block('\n'.join(expected)))
    commands, problems = check_docs.check_pages(checkout)
    assert problems == []
    results = list(check_docs.run_lines(checkout, commands, seconds=2.0))
    assert {command.text: verdict for command, verdict, _ in results} == expected
    reasons = [reason for _, _, reason in results]
    assert reasons[0] == 'done'
    assert 'work_dirs/student/epoch_24.pth' in reasons[4]
    assert 'data/a.json' in reasons[5]
    # In the scratch copy, not here.
    assert not (checkout / 'tools' / 'it_ran').exists()
