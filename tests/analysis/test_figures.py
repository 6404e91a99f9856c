import ast
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from ciba_bev import analysis
from ciba_bev.analysis import (
    draw_decoded_spectra,
    draw_loss_curves,
    draw_spectra,
    figure_to_image,
    save_figure,
)
from ciba_bev.errors import CibaError, ConfigError


def legend_of(figure):
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_importing_the_package_does_not_import_matplotlib_or_scipy():
    # Not by sys.modules: mmengine imports matplotlib itself.
    for file in Path(analysis.__file__).parent.glob('*.py'):
        for statement in ast.parse(file.read_text(encoding='utf-8')).body:
            if isinstance(statement, (ast.Import, ast.ImportFrom)):
                assert not re.search('matplotlib|scipy', ast.dump(statement)), file


def test_spectra_are_drawn_as_given():
    spectra = {'without distillation': [4.0, 2.0, 2.0], 'MSE': [1.0, 0.0, 0.0]}
    axes = draw_spectra(spectra, title='Features').axes[0]
    assert axes.get_yscale() == 'log'
    assert 'covariance' in axes.get_ylabel()
    assert list(axes.lines[0].get_ydata()) == [4.0, 2.0, 2.0]
    assert list(axes.lines[0].get_xdata()) == [1, 2, 3]
    # Zero has no logarithm.
    assert np.isnan(axes.lines[1].get_ydata()[1:]).all()
    assert legend_of(axes.figure) == [
        'without distillation (effective rank 2.8)',
        'MSE (effective rank 1.0)',
    ]


def test_decoded_spectra_mark_the_proposed_size():
    figure = draw_decoded_spectra({8: [1.0, 0.5], 2: [1.0, 0.1], 4: [1.0, 0.5]}, proposed=4)
    assert legend_of(figure) == ['H = 2', 'H = 4 (proposed)', 'H = 8']
    widths = [line.get_linewidth() for line in figure.axes[0].lines]
    assert widths[1] > widths[0] == widths[2]
    assert len({str(line.get_color()) for line in figure.axes[0].lines}) == 3
    assert len(draw_decoded_spectra({2: [1.0, 0.5]}).axes[0].lines) == 1


def test_loss_curves():
    figure = draw_loss_curves({'task': ([1, 2, 3], [3.0, float('nan'), 2.0]), 'one': ([1], [2.5])})
    assert legend_of(figure) == ['task', 'one']
    assert figure.axes[0].get_yscale() == 'linear'
    steep = draw_loss_curves({'task': ([1, 2], [100.0, 1.0])}).axes[0]
    assert steep.get_yscale() == 'log'
    assert steep.get_ylabel() == 'Loss (log scale)'


def test_a_figure_is_written_in_both_formats(tmp_path):
    figure = draw_spectra({'MSE': np.geomspace(1, 1e-6, 64)})
    png, svg = save_figure(figure, tmp_path / 'new' / 'lambda_0.5')
    assert (png.name, svg.name) == ('lambda_0.5.png', 'lambda_0.5.svg')
    picture = np.asarray(Image.open(png).convert('L'))
    assert picture.shape[1] > 800
    assert picture.min() < 100
    assert ElementTree.parse(svg).getroot().tag.endswith('svg')
    assert sorted(path.name for path in png.parent.iterdir()) == [png.name, svg.name]


def test_a_figure_that_cannot_be_written_leaves_the_old_one(tmp_path):
    figure = draw_spectra({'MSE': [1.0, 0.5]})
    png, _ = save_figure(figure, tmp_path / 'spectra')
    before = png.read_bytes()

    def fail(*args, **kwargs):
        raise OSError('disk full')

    figure.savefig = fail
    with pytest.raises(CibaError, match=r'spectra\.png: cannot be written \(disk full\)'):
        save_figure(figure, tmp_path / 'spectra')
    assert png.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


def test_a_figure_as_an_image():
    image = figure_to_image(draw_spectra({'MSE': [1.0, 0.5]}))
    assert image.dtype == np.uint8
    assert image.shape[2] == 3
    assert image.min() < 100 < image.max()


def test_nothing_to_draw_is_refused():
    with pytest.raises(ConfigError, match='not one singular value above 0'):
        draw_spectra({'MSE': [0.0, 0.0]})
    with pytest.raises(ConfigError, match='not one singular value above 0'):
        draw_decoded_spectra({})
    with pytest.raises(ConfigError, match=r'cannot mark H = 3: there are only H = \[2\]'):
        draw_decoded_spectra({2: [1.0]}, proposed=3)
    with pytest.raises(ConfigError, match='not one finite value'):
        draw_loss_curves({})
    with pytest.raises(ConfigError, match='2 steps but 1 values'):
        draw_loss_curves({'task': ([1, 2], [1.0])})
