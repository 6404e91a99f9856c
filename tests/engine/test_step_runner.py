import json
import multiprocessing
import os
import signal
import sys
import time

import pytest
from rich.console import Console

from ciba_bev.engine.step_runner import Step, StepRunner, format_minutes
from ciba_bev.errors import CibaError

SCRIPT = """
import pathlib, sys, time
with open('calls.txt', 'a') as calls:
    calls.write(sys.argv[1] + '\\n')
print('progress of ' + sys.argv[1])
{body}
pathlib.Path(sys.argv[1] + '.out').touch()
"""


@pytest.fixture
def make_runner(tmp_path):
    """A function that makes a runner of steps that write a file of their name."""
    for name, body in (('good', ''), ('bad', "sys.exit('the disk is full')")):
        (tmp_path / f'{name}.py').write_text(SCRIPT.format(body=body))
    (tmp_path / 'slow.py').write_text(SCRIPT.format(body='time.sleep(60)'))
    # Ends only if the other of its kind is there at the same time.
    (tmp_path / 'pair.py').write_text(
        SCRIPT.format(
            body="pathlib.Path(sys.argv[1] + '.here').touch()\n"
            "while not pathlib.Path(sys.argv[2] + '.here').exists(): time.sleep(0.05)"
        )
    )

    def make(*steps, summarise=lambda line: None):
        made = [
            Step(
                name,
                f'Step {name}',
                [f'{script}.py', name, *arguments],
                [tmp_path / f'{name}.out'],
                after=after,
            )
            for name, script, after, *arguments in steps
        ]
        console = Console(file=sys.stdout, width=200)
        return StepRunner(made, tmp_path, tmp_path / 'work', console, {}, summarise)

    return make


def calls(tmp_path):
    return (tmp_path / 'calls.txt').read_text().split()


def test_order_follows_what_steps_need(make_runner, tmp_path):
    make_runner(
        ('a', 'good', []), ('b', 'good', ['a']), ('c', 'good', ['b']), ('d', 'good', ['c'])
    ).run()
    assert calls(tmp_path) == ['a', 'b', 'c', 'd']


def test_two_steps_run_at_once(make_runner, tmp_path):
    make_runner(('a', 'pair', [], 'b'), ('b', 'pair', [], 'a')).run()
    assert sorted(calls(tmp_path)) == ['a', 'b']


def test_a_complete_step_is_not_repeated_and_its_time_is_kept(make_runner, tmp_path, capsys):
    steps = ('a', 'good', []), ('b', 'good', ['a'])
    first = make_runner(*steps)
    first.run()
    again = make_runner(*steps)
    again.run()
    assert calls(tmp_path) == ['a', 'b']
    assert 'Step b: before' in capsys.readouterr().out
    assert set(again.record('b')) == {'fingerprint', 'minutes', 'peak_memory_gb'}
    assert again.total_minutes() >= first.record('a')['minutes'] > 0


def test_a_lost_output_or_a_changed_command_repeats_the_step_and_what_follows(
    make_runner, tmp_path
):
    make_runner(('a', 'good', []), ('b', 'good', ['a'])).run()
    (tmp_path / 'b.out').unlink()
    make_runner(('a', 'good', []), ('b', 'good', ['a'])).run()
    assert calls(tmp_path) == ['a', 'b', 'b']
    make_runner(('a', 'good', [], 'changed'), ('b', 'good', ['a'])).run()
    assert calls(tmp_path) == ['a', 'b', 'b', 'a', 'b']


def test_a_failure_names_the_step_and_ends_the_others(make_runner, tmp_path):
    runner = make_runner(('a', 'slow', []), ('b', 'bad', []), ('c', 'good', ['b']))
    with pytest.raises(CibaError, match=r'Step b(.|\n)*status 1(.|\n)*the disk is full'):
        runner.run()
    assert sorted(calls(tmp_path)) == ['a', 'b']
    assert not (tmp_path / 'a.out').exists()


def test_a_missing_output_is_a_failure(make_runner, tmp_path):
    runner = make_runner(('a', 'good', []))
    runner.steps[0].outputs.append(tmp_path / 'never.out')
    with pytest.raises(CibaError, match=r'did not write .*never\.out'):
        runner.run()


def test_progress_is_summarised_for_steps_with_a_config(make_runner, tmp_path, capsys):
    (tmp_path / 'config.py').write_text('lr = 1')
    runner = make_runner(('a', 'good', []), summarise=lambda line: line.upper())
    runner.steps[0].config = 'config.py'
    runner.run()
    assert 'Step a: PROGRESS OF A' in capsys.readouterr().out
    (tmp_path / 'config.py').write_text('lr = 2')
    assert not runner.is_complete(runner.steps[0])


TRAINING = """
import pathlib, sys
folder = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1])
folder.mkdir(exist_ok=True)
with open('calls.txt', 'a') as calls:
    calls.write(' '.join(sys.argv[sys.argv.index('--resume'):]) + '\\n')
(folder / 'kept.txt').touch()
(folder / 'last_checkpoint').touch()
if not pathlib.Path('allowed').exists():
    sys.exit(1)
(folder / 'last.pth').touch()
"""


def test_a_training_goes_on_from_its_own_checkpoint(tmp_path):
    (tmp_path / 'train.py').write_text(TRAINING)
    folder = tmp_path / 'training'
    step = Step(
        'train',
        'Train',
        ['train.py', '--work-dir', str(folder)],
        [folder / 'last.pth'],
        folder=folder,
        resumes=True,
    )
    runner = StepRunner([step], tmp_path, tmp_path / 'work', Console(), {}, str)
    with pytest.raises(CibaError, match='status 1'):
        runner.run()
    (tmp_path / 'allowed').touch()
    runner.run()
    lines = (tmp_path / 'calls.txt').read_text().splitlines()
    assert lines == ['--resume', '--resume']
    assert json.loads((tmp_path / 'work' / 'train.done.json').read_text())['minutes'] > 0


def test_forgetting_removes_only_what_it_made(tmp_path):
    (tmp_path / 'train.py').write_text(TRAINING)
    (tmp_path / 'allowed').touch()
    mine = tmp_path / 'mine'
    mine.mkdir()
    steps = [
        Step(
            name,
            name,
            ['train.py', '--work-dir', str(tmp_path / name)],
            [tmp_path / name / 'last.pth'],
            folder=tmp_path / name,
            resumes=True,
        )
        for name in ('made', 'mine')
    ]
    StepRunner(steps[:1], tmp_path, tmp_path / 'work', Console(), {}, str).run()
    StepRunner(steps, tmp_path, tmp_path / 'work', Console(), {}, str).forget()
    assert not (tmp_path / 'made').exists()
    assert mine.is_dir()


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_job_that_is_ended_ends_its_steps(tmp_path, number):
    (tmp_path / 'step.py').write_text('import os, time; print(os.getpid()); time.sleep(60)')
    step = Step('a', 'Step', ['-u', 'step.py'], [tmp_path / 'a.out'])
    runner = StepRunner([step], tmp_path, tmp_path / 'work', Console(), {}, lambda line: None)
    log = tmp_path / 'work' / 'a.log'

    def run():
        # As a shell starts a job in the background.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with pytest.raises(KeyboardInterrupt):
            runner.run()

    job = multiprocessing.get_context('fork').Process(target=run)
    job.start()
    deadline = time.monotonic() + 60
    while not (log.is_file() and log.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(job.pid, number)
    job.join(15)
    assert job.exitcode == 0
    with pytest.raises(ProcessLookupError):
        os.kill(int(log.read_text().split()[0]), 0)


def record(runner, name, minutes):
    runner.work_dir.mkdir(exist_ok=True)
    content = {'fingerprint': '', 'minutes': minutes, 'peak_memory_gb': 0}
    (runner.work_dir / f'{name}.done.json').write_text(json.dumps(content))


def test_time_left_begins_with_usual_minutes_and_follows_the_pace(make_runner):
    runner = make_runner(*((name, 'good', []) for name in 'abcd'))
    a, b, c, d = runner.steps
    assert runner.estimate_minutes_left([a, b]) == (0.0, 2)
    a.usual_minutes, b.usual_minutes, c.usual_minutes = 2.0, 4.0, 6.0
    # Two at once.
    assert runner.estimate_minutes_left([a, b, c, d]) == (6.0, 1)
    # Here everything takes three times as long.
    record(runner, 'a', 6.0)
    assert runner.expected_minutes(b) == 12.0
    assert runner.estimate_minutes_left([b, c, d]) == (18.0, 1)


def test_steps_with_the_same_tool_and_config_take_as_long(make_runner):
    runner = make_runner(('a', 'good', []), ('b', 'good', []), ('c', 'slow', []))
    for step in runner.steps:
        step.config = 'config.py'
    record(runner, 'a', 5.0)
    assert runner.expected_minutes(runner.steps[1]) == 5.0
    # Another tool: scoring is not training.
    assert runner.expected_minutes(runner.steps[2]) is None


@pytest.mark.parametrize(
    ('minutes', 'text'), [(0.4, '0 min'), (59.6, '1 h 0 min'), (130, '2 h 10 min')]
)
def test_times_are_told_in_hours_and_minutes(minutes, text):
    assert format_minutes(minutes) == text
