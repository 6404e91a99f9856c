"""Write the quickstart's results as one HTML page.

Charts and pictures are inside the file, so that it can be read offline, mailed and printed.
``report.html.jinja`` is the page; this module gathers what it shows.
"""

from __future__ import annotations

import base64
import io
import json
import math
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Mapping, NamedTuple, Sequence

import jinja2

from ..analysis import draw_decoded_spectra, draw_loss_curves, draw_spectra, read_decoded_spectra
from ..errors import CibaError
from ..files import write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NDS, RANK = 'NDS', 'effective rank'


# The largest differences between trainings of one model that differ only in seed or machine; the
# template names them. Smaller differences between two single runs are not evidence.
SPREADS = {NDS: 2.0, RANK: 1.4}
_NAMES = {
    'teacher': 'the teacher',
    'student': 'the undistilled student',
    'mse': 'the student distilled with MSE',
    'ciba': 'the student distilled with CIBA',
}
# Narrower than other figures: the labels stay readable on a phone.
_FIGURE_INCHES = (5.6, 4.7)
_PICTURE_PIXELS = 1400
_JPEG_QUALITY = 80


@dataclass(frozen=True)
class ReportRow:
    """The results of one detector.

    Attributes:
        key: ``'teacher'``, ``'student'``, ``'mse'`` or ``'ciba'``; its folder in the work folder.
        title: Its name in tables.
        config: Path of the config it was trained with.
        metrics: nuScenes' NDS and mAP as fractions and the five errors in their units, by short
            name; None or NaN for what was not measured.
        effective_rank: Effective rank of its BEV feature; None if not measured.
        training_minutes: Duration of its training.
        peak_memory_gb: Peak memory of its training, GiB.
        paper_nds: NDS of its row of the paper's Table 2, percent.
    """

    key: str
    title: str
    config: str
    metrics: Mapping[str, float | None]
    effective_rank: float | None
    training_minutes: float
    peak_memory_gb: float
    paper_nds: float

    def value(self, name: str) -> float | None:
        """Return NDS or mAP in points (percent), or the effective rank; None if not measured."""
        fraction = self.metrics.get(name)
        value = self.effective_rank if name == RANK else fraction and 100 * fraction
        return value if value is not None and math.isfinite(value) else None


class Image(NamedTuple):
    """A chart or a picture for the page: its data URI, or why it is missing."""

    source: str = ''
    problem: str = ''


def write_report(
    path: str | os.PathLike,
    work_dir: str | os.PathLike,
    rows: Sequence[ReportRow],
    total_minutes: float,
) -> None:
    """Write the quickstart's page, complete or not at all.

    The page says so where one of these files in ``work_dir`` is missing:
    ``bottleneck/bottlenecks.json`` (:class:`BottleneckMetric`), ``collapse/collapse.json``
    (tools/analyze_collapse.py), ``<key>/*/vis_data/scalars.json`` (mmengine) and
    ``pictures/<key>/*.png`` (tools/test.py).

    Args:
        path: The HTML file.
        work_dir: The quickstart's work folder.
        rows: One row for each detector, in the order they are shown.
        total_minutes: Duration of all steps together.
    """
    work_dir = Path(work_dir)
    bottlenecks = _read_bottlenecks(work_dir / 'bottleneck' / 'bottlenecks.json')
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, '.'),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters['number'] = _format
    page = environment.get_template('report.html.jinja').render(
        rows=rows,
        total_minutes=total_minutes,
        spreads=SPREADS,
        outcome=describe_outcome(rows),
        bottlenecks=bottlenecks,
        charts=_charts(work_dir, rows, bottlenecks),
        frames=_frames(work_dir / 'pictures', rows),
        folder=os.path.relpath(work_dir),
    )
    write_file(path, f'{page}\n')


def describe_outcome(rows: Sequence[ReportRow]) -> list[str]:
    """Compare the models in words; order two of them only if they differ by more than the spread.

    Args:
        rows: The detectors.

    Returns:
        Sentences, plain text.
    """
    found = {row.key: row for row in rows}
    students = [('mse', 'student'), ('ciba', 'student'), ('ciba', 'mse')]
    # The teacher's feature is of another kind: its rank is no benchmark for a student's.
    pairs = [(NDS, 'teacher', 'student')]
    pairs += [(name, *pair) for name in SPREADS for pair in students]
    return [
        _compare(name, found[one], found[other])
        for name, one, other in pairs
        if one in found and other in found
    ]


def _compare(name: str, one: ReportRow, other: ReportRow) -> str:
    value, reference = one.value(name), other.value(name)
    both = f'{_NAMES[one.key]} and {_NAMES[other.key]}'
    if value is None or reference is None:
        return f'The {name} of {both} cannot be compared: not both were measured.'
    # Rounded as it is shown, so that words and numbers agree.
    change = round(value - reference, 1)
    if abs(change) <= SPREADS[name]:
        return f'The {name} of {both} differs by {abs(change)}: this run does not tell them apart.'
    more, less = (one, other) if change > 0 else (other, one)
    by = f'{_NAMES[less.key]} by {abs(change)}'
    if name == RANK:
        return f'The effective rank of {_NAMES[more.key]} is higher than that of {by}.'
    return f'By NDS, {_NAMES[more.key]} is better than {by} points.'


def _format(value: float | None, digits: int = 1, scale: float = 1.0) -> str:
    """Return a number as text: a dash for None and NaN, a real minus sign, and no minus zero."""
    if value is None or not math.isfinite(value):
        return '\N{EN DASH}'
    return f'{round(value * scale, digits) + 0.0:.{digits}f}'.replace('-', '\N{MINUS SIGN}')


def _read_bottlenecks(file: Path) -> dict[str, Any]:
    """Return what Algorithm 1's validation measured, with the spectra by size; none without it."""
    content = {'metrics': {}, 'decoded_spectra': {}, 'feature_spectra': {}}
    if file.is_file():
        content = json.loads(file.read_text(encoding='utf-8'))
    spectra, proposed = read_decoded_spectra(content)
    return {
        **content,
        'file': file,
        'decoded_spectra': spectra,
        'sizes': sorted(spectra),
        'proposed': proposed,
    }


def _charts(
    work_dir: Path, rows: Sequence[ReportRow], bottlenecks: Mapping[str, Any]
) -> dict[str, Image]:
    titles = {row.key: row.title for row in rows}
    logs = {title: read_scalars(work_dir / key) for key, title in titles.items()}
    log = read_scalars(work_dir / 'bottleneck')
    losses = {
        'detection': {title: _curve(log, 'loss_detection') for title, log in logs.items()},
        'distillation': {title: _curve(log, 'loss_distillation') for title, log in logs.items()},
        'generation': {
            f'H = {h}': _curve(log, f'h{h}.loss_generation') for h in bottlenecks['sizes']
        },
    }
    return {
        'spectra': _image(_draw_spectra, work_dir, titles, bottlenecks['feature_spectra']),
        'decoded': _image(
            draw_decoded_spectra, bottlenecks['decoded_spectra'], bottlenecks['proposed']
        ),
        **{name: _image(_draw_losses, name, curves) for name, curves in losses.items()},
    }


def _draw_spectra(
    work_dir: Path, titles: Mapping[str, str], features: Mapping[str, list[float]]
) -> Figure:
    file = work_dir / 'collapse' / 'collapse.json'
    if not file.is_file():
        raise CibaError(f'there is no {file}.')
    models = json.loads(file.read_text(encoding='utf-8'))['models']
    spectra = {model['label']: model['singular_values'] for model in models}
    if 'teacher' in features:
        spectra = {'teacher': features['teacher'], **spectra}
    return draw_spectra({titles.get(key, key): values for key, values in spectra.items()})


def _draw_losses(name: str, curves: Mapping[str, tuple[list, list]]) -> Figure:
    logged = {title: curve for title, curve in curves.items() if curve[0]}
    if not logged:
        raise CibaError('no */vis_data/scalars.json has them.')
    return draw_loss_curves(logged, y_label=f'{name.capitalize()} loss')


def read_scalars(folder: Path) -> dict[int, dict[str, float]]:
    """Read what mmengine logged during training, from all runs in a work folder.

    Args:
        folder: The work folder, with one folder for each start of the training.

    Returns:
        For each step in ascending order, the values by name, and ``loss_detection``, the loss
        without that of distillation. Where runs overlap, the later counts.
    """
    merged = {}
    # The folders are named after the time.
    for file in sorted(folder.glob('*/vis_data/scalars.json')):
        for line in file.read_text(encoding='utf-8').splitlines():
            # A run that was stopped may leave half a line.
            with suppress(json.JSONDecodeError):
                values = json.loads(line)
                # Lines of a validation count epochs.
                if 'loss' in values:
                    values['loss_detection'] = values['loss'] - values.get('loss_distillation', 0)
                    merged[int(values.get('iter', values['step']))] = values
    return dict(sorted(merged.items()))


def _curve(log: Mapping[int, Mapping[str, float]], name: str) -> tuple[list[int], list[float]]:
    """Return the steps at which a value was logged, and the values."""
    found = {step: values[name] for step, values in log.items() if name in values}
    return list(found), list(found.values())


def _frames(folder: Path, rows: Sequence[ReportRow]) -> dict[str, list[tuple[str, Image]]]:
    """Return for each frame the title of every model and its picture of the frame."""
    names = sorted({file.name for row in rows for file in (folder / row.key).glob('*.png')})
    return {
        Path(name).stem: [
            (row.title, _image(_encode_picture, folder / row.key / name)) for row in rows
        ]
        for name in names
    }


def _image(make: Callable[..., Figure | bytes], *args: Any) -> Image:
    """Embed the figure or the JPEG that a function makes, or return the reason why it cannot."""
    try:
        made = make(*args)
    except (CibaError, OSError) as error:
        return Image(problem=str(error))
    media_type, content = ('image/jpeg', made) if isinstance(made, bytes) else _to_svg(made)
    return Image(f'data:{media_type};base64,{base64.b64encode(content).decode("ascii")}')


def _encode_picture(file: Path) -> bytes:
    import PIL.Image

    with PIL.Image.open(file) as opened:
        picture = opened.convert('RGB')
    picture.thumbnail((_PICTURE_PIXELS, _PICTURE_PIXELS))
    buffer = io.BytesIO()
    picture.save(buffer, 'JPEG', quality=_JPEG_QUALITY)
    return buffer.getvalue()


def _to_svg(figure: Figure) -> tuple[str, bytes]:
    import matplotlib

    figure.set_size_inches(_FIGURE_INCHES)
    buffer = io.BytesIO()
    # Without date and random names the same figure gives the same file.
    with matplotlib.rc_context({'svg.hashsalt': 'ciba_bev'}):
        figure.savefig(buffer, format='svg', transparent=True, metadata={'Date': None})
    return 'image/svg+xml', buffer.getvalue()
