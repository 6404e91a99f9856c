"""One convention for all command lines: parse_args, main, `error: ...`, --traceback."""

import inspect
import runpy
import sys
from pathlib import Path

import pytest

from ciba_bev.errors import CibaError

PROJECT = Path(__file__).resolve().parents[2]
# Tools that end with an error of the user's, and what it says.
MISTAKES = {
    'benchmark': (['missing.py'], 'missing.py'),
    'benchmark_deformable_attention': (['--repeats', '0'], 'repeats is 0'),
    'compare_operators': (['--threads', '0'], 'threads is 0'),
    'convert_checkpoint': (['missing.pth', 'new.pth', '--model', 'bevformer'], 'missing.pth'),
    'create_data': (['--root-path', 'missing', '--version', 'v1.0-mini'], 'missing'),
    'draw_sample': (['--dataroot', 'missing', '--out', 'new.png'], 'missing has no nuScenes'),
    'export_student': (['missing.pth', 'new.pth'], 'missing.pth'),
    'make_synthetic_data': (['mm_imdb', '--out', 'new', '--shared', '2'], 'shared is 2'),
    'prepare_ravdess': (['--clips', 'missing', '--out', 'new'], 'missing: there is no such folder'),
    'prepare_vgg_sound': (['missing', '--splits', 'missing', '--out', 'new'], 'missing'),
    'simulate_nuscenes': (['--out', 'new', '--seed', '-1'], 'the seed is -1'),
}
NEEDED = {'make_synthetic_data': 'h5py', 'prepare_ravdess': 'av', 'prepare_vgg_sound': 'av'}


@pytest.fixture
def tool(request, tmp_path, monkeypatch):
    """The module of a tool, run in an empty folder."""
    pytest.importorskip(NEEDED.get(request.param, 'ciba_bev'))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('CIBA_TRACEBACK', raising=False)
    return request.param, runpy.run_path(str(PROJECT / 'tools' / f'{request.param}.py'))


@pytest.mark.parametrize('tool', MISTAKES, indirect=True)
def test_an_error_is_one_line_and_its_trace_can_be_had(tool, tmp_path, capsys):
    name, module = tool
    words, message = MISTAKES[name]
    with pytest.raises(SystemExit) as leaving:
        module['main'](words)
    assert leaving.value.code == 1
    # An error may name a command on a line of its own; what comes first is the error.
    assert capsys.readouterr().err.startswith(f'error: {message}')
    with pytest.raises(CibaError):
        module['main']([*words, '--traceback'])
    assert not list(tmp_path.rglob('new*'))


@pytest.mark.parametrize('tool', MISTAKES, indirect=True)
def test_arguments_are_those_given_or_those_of_the_process(tool, monkeypatch):
    name, module = tool
    words, _ = MISTAKES[name]
    parse_args = module.get('parse_args') or inspect.getmodule(module['main']).parse_args
    monkeypatch.setattr(sys, 'argv', [name, *words])
    assert parse_args() == parse_args(words)
    monkeypatch.setattr(sys, 'argv', [name, '--no-such-option'])
    parse_args(words)


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['mm_imdb', '--independent'], '--independent goes with ravdess and --prepared'),
        (['mm_imdb', '--prepared'], 'mm_imdb needs no preparation'),
        (['vgg_sound', '--samples', '8'], '--samples must be at least 4 and goes with --prepared'),
        (['mm_imdb', '--samples', '3'], '--samples must be at least 4'),
    ],
)
def test_options_that_do_not_fit_a_synthetic_data_set(words, message, capsys):
    main = runpy.run_path(str(PROJECT / 'tools' / 'make_synthetic_data.py'))['main']
    with pytest.raises(SystemExit) as leaving:
        main([*words, '--out', 'new'])
    assert leaving.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize('option', ['--score-thr', '--score-threshold'])
@pytest.mark.parametrize('tool', ['draw_sample', 'predict', 'test'])
def test_the_minimum_score_of_drawn_boxes_has_two_names(tool, option):
    module = runpy.run_path(str(PROJECT / 'tools' / f'{tool}.py'))
    parse_args = module.get('parse_args') or inspect.getmodule(module['main']).parse_args
    required = ['--dataroot', 'data', '--out', 'new.png']
    words = required if tool == 'draw_sample' else ['config.py', 'weights.pth']
    args = vars(parse_args([*words, option, '0.7']))
    assert args.get('score_thr', args.get('score_threshold')) == 0.7


def test_no_sample_is_drawn_over_what_is_read(simulated_nuscenes, tmp_path, capsys):
    main = runpy.run_path(str(PROJECT / 'tools' / 'draw_sample.py'))['main']
    results = tmp_path / 'results.json'
    results.write_text('{"results": {}}')
    words = ['--dataroot', str(simulated_nuscenes), '--sample', '0', '--results', str(results)]
    for out, message in (
        (results, f'{results}: this file is read'),
        (tmp_path / 'new.png', f'{results} has no detections for sample'),
    ):
        with pytest.raises(SystemExit):
            main([*words, '--out', str(out)])
        assert capsys.readouterr().err.startswith(f'error: {message}')
    assert results.read_text() == '{"results": {}}'
    with pytest.raises(SystemExit):
        main(['--dataroot', str(simulated_nuscenes), '--sample', '9999', '--out', 'new.png'])
    assert "there is no sample '9999'" in capsys.readouterr().err
