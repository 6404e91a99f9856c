"""The quickstart's results as one HTML page.

Everything is inside the file, pictures included, so that it can be read offline, mailed and
printed. ``report.html.jinja`` holds the page; this module gathers what it shows.
"""

from __future__ import annotations

import base64
import io
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Mapping, NamedTuple, Sequence

import cv2
import jinja2
import numpy as np

from ..analysis import draw_decoded_spectra, draw_loss_curves, draw_spectra
from ..errors import CibaError
from ..files import write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Twice the largest standard deviation over four seeds of the quickstart's students. Smaller
# differences between two single runs are not evidence.
SPREAD_POINTS = 2.0

_ERRORS = {
    'mATE': 'translation, m',
    'mASE': 'scale, 1 \N{MINUS SIGN} IoU',
    'mAOE': 'orientation, rad',
    'mAVE': 'velocity, m/s',
    'mAAE': 'attribute, 1 \N{MINUS SIGN} accuracy',
}
# Narrower than a figure of its own: on a phone the labels stay readable.
_FIGURE_INCHES = (5.6, 4.7)
# Base64 makes four bytes of three; with figures and text the page stays below 6 MB.
_PICTURES_BYTES = 3_900_000
_PICTURE_WIDTHS = (1600, 1400, 1200, 1000, 800, 600)
_JPEG_QUALITY = 82
# Where mmengine logs scalars, in a work folder.
_SCALARS = '*/vis_data/scalars.json'
# In cells for what was not measured.
_DASH = '\N{EN DASH}'


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
        energy_in_code: Share of the BEV feature's variance in the distilled channels, 0 to 1;
            None if there are none.
        training_minutes: How long its training took.
        peak_memory_gb: Peak memory of its training, GiB.
        paper_nds: NDS of its row of the paper's Table 2, percent.
    """

    key: str
    title: str
    config: str
    metrics: Mapping[str, float | None]
    effective_rank: float | None
    energy_in_code: float | None
    training_minutes: float
    peak_memory_gb: float
    paper_nds: float

    def points(self, name: str) -> float | None:
        """Return NDS or mAP in points (percent); None if it was not measured."""
        value = self.metrics.get(name)
        return None if value is None or not math.isfinite(value) else 100 * value


class Table(NamedTuple):
    """A table of text.

    Attributes:
        header: Names of the columns; what follows a line break is set small.
        rows: The cells of each row; the first names the row.
        marked: Index of a row to emphasise; None for none.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    marked: int | None = None


class Chart(NamedTuple):
    """A figure for the page.

    Attributes:
        source: Data URI of the picture; empty if there is nothing to draw.
        title: What the picture shows, for readers who do not see it.
        caption: How to read it; why it is missing if it is.
    """

    source: str
    title: str
    caption: str


def write_report(
    path: str | os.PathLike,
    work_dir: str | os.PathLike,
    rows: Sequence[ReportRow],
    total_minutes: float,
) -> None:
    """Write the quickstart's page, complete or not at all.

    Each of these files in ``work_dir`` may be missing; the page then says so in its place:
    ``bottleneck/bottlenecks.json`` (:class:`BottleneckMetric`), ``collapse/collapse.json``
    (tools/analyze_collapse.py), ``<key>/*/vis_data/scalars.json`` (mmengine),
    ``pictures/<key>/*.png`` (tools/test.py) and ``*.done.json`` (:class:`StepRunner`).

    Args:
        path: The HTML file.
        work_dir: The quickstart's work folder.
        rows: One row for each detector, in the order they are shown.
        total_minutes: How long all steps took together.
    """
    work_dir = Path(work_dir)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, '.'),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template('report.html.jinja').render(
        rows=rows,
        total_minutes=round(total_minutes),
        results=_results_table(rows),
        outcome=describe_outcome(rows),
        details=_details_table(rows),
        bottlenecks=_bottlenecks(work_dir / 'bottleneck'),
        spectra=_spectra(work_dir, rows),
        losses=_losses(work_dir, rows),
        frames=_frames(work_dir / 'pictures', rows),
        steps=_steps_table(work_dir),
        folder=_from_here(work_dir),
    )
    write_file(path, f'{page}\n')


def describe_outcome(rows: Sequence[ReportRow]) -> list[str]:
    """Say in words how the models compare, and which differences are no evidence.

    Args:
        rows: The detectors.

    Returns:
        Sentences, plain text.
    """
    found = {row.key: row for row in rows}
    student = found.get('student')
    if student is None or student.points('NDS') is None:
        return ['The undistilled student has no NDS, so there is nothing to compare with.']
    pairs = [(found[key], student) for key in ('teacher', 'mse', 'ciba') if key in found]
    if 'mse' in found and 'ciba' in found:
        pairs.append((found['ciba'], found['mse']))
    sentences = [_compare(row, other) for row, other in pairs]
    for row, _ in pairs[:3]:
        if row.key != 'teacher' and None not in (row.effective_rank, student.effective_rank):
            sentences.append(
                f'The BEV feature of {row.title} has an effective rank of '
                f'{row.effective_rank:.1f}; without distillation it has '
                f'{student.effective_rank:.1f}.'
            )
    return sentences


def _compare(row: ReportRow, other: ReportRow) -> str:
    change = _difference(row, other)
    if change is None:
        return f'{row.title} or {other.title} has no NDS.'
    sentence = f'{row.title} against {other.title}: {_signed(change)} NDS points'
    if abs(round(change, 1)) < SPREAD_POINTS:
        return (
            f'{sentence}. Seeds alone differ by up to {SPREAD_POINTS:g} points, so this run does '
            'not show which of the two is better.'
        )
    return f'{sentence}, more than the {SPREAD_POINTS:g} points by which seeds alone differ.'


def _difference(row: ReportRow, other: ReportRow) -> float | None:
    value, base = row.points('NDS'), other.points('NDS')
    return None if value is None or base is None else value - base


def _signed(value: float | None) -> str:
    """Format with a sign always, a real minus sign, and no minus before zero."""
    if value is None:
        return _DASH
    rounded = round(value, 1) + 0.0
    return f'{rounded:+.1f}'.replace('-', '\N{MINUS SIGN}') if rounded else '0.0'


def _number(value: float | None, digits: int = 1) -> str:
    return _DASH if value is None or not math.isfinite(value) else f'{value:.{digits}f}'


def _results_table(rows: Sequence[ReportRow]) -> Table:
    student = next((row for row in rows if row.key == 'student'), None)
    body = []
    for row in rows:
        change, in_paper = _DASH, _DASH
        if student is not None and row.key != 'student':
            change = _signed(_difference(row, student))
            in_paper = _signed(row.paper_nds - student.paper_nds)
        body.append(
            [row.title, _number(row.points('NDS')), change, f'{row.paper_nds:.1f}', in_paper]
        )
    return Table(
        ['model', 'NDS\nhere', 'difference\nhere', 'NDS\npaper', 'difference\npaper'], body
    )


def _details_table(rows: Sequence[ReportRow]) -> Table:
    header = ['model', 'mAP', *(f'{name}\n{unit}' for name, unit in _ERRORS.items())]
    header += ['effective rank\nof the BEV feature', 'variance\nin distilled channels']
    body = []
    for row in rows:
        share = row.energy_in_code
        body.append(
            [row.title, _number(row.points('mAP'))]
            + [_number(row.metrics.get(name), 3) for name in _ERRORS]
            + [_number(row.effective_rank), _DASH if share is None else f'{share:.0%}']
        )
    return Table(header, body)


def _bottlenecks(folder: Path) -> dict[str, Any]:
    """Gather what validation measured of each bottleneck."""
    file = folder / 'bottlenecks.json'
    content = _read_json(file)
    if content is None or not content['decoded_spectra']:
        return {'file': file, 'table': None}
    metrics = content['metrics']
    spectra = {int(name[1:]): values for name, values in content['decoded_spectra'].items()}
    sizes = sorted(spectra)
    proposed = int(metrics['suggested_size']) if 'suggested_size' in metrics else None
    gains = content['largest_gains'] or {}
    body = [
        [
            f'H = {size} (proposed)' if size == proposed else f'H = {size}',
            _number(metrics[f'h{size}/generation'], 2),
            f'{metrics[f"h{size}/explained"]:.1%}',
            f'{metrics[f"h{size}/explained_dynamic"]:.1%}',
            _number(metrics[f'h{size}/regularization'], 2),
            _number(metrics[f'h{size}/effective_rank'], 2),
            _number(gains.get(str(size)), 3),
        ]
        for size in sizes
    ]
    header = [
        'bottleneck',
        'generation loss',
        "explained\nof the student's variance",
        'explained\nof what differs between frames',
        'KL',
        'effective rank\ndecoded',
        'gain of a larger H\ndecades',
    ]
    decoded = _chart(
        lambda: draw_decoded_spectra(spectra, proposed),
        'Spectra of decoded features for each bottleneck size',
        'Spectra of the decoded features (Fig. 5(b) of the paper). Where lines coincide, a larger '
        'code adds nothing.',
    )
    return {
        'file': file,
        'table': Table(header, body, None if proposed is None else sizes.index(proposed)),
        'dynamic': metrics['student/dynamic'],
        'sizes': sizes,
        'proposed': proposed,
        'threshold': content['threshold'],
        'charts': [decoded, _bottleneck_losses(folder)],
    }


def _bottleneck_losses(folder: Path) -> Chart:
    ending = '.loss_generation'
    scalars = read_scalars(folder)
    names = {name for values in scalars.values() for name in values if name.endswith(ending)}
    curves = {
        f'H = {size}': _curve(scalars, f'h{size}{ending}')
        for size in sorted(int(name[1 : -len(ending)]) for name in names)
    }
    return _chart(
        lambda: draw_loss_curves(curves, y_label='Generation loss'),
        'Generation losses of the bottlenecks over training',
        'Generation losses of the bottlenecks, all trained in one run.',
    )


def _spectra(work_dir: Path, rows: Sequence[ReportRow]) -> dict[str, Any]:
    """Draw the spectra of the BEV features: of the students, and of what there is to imitate."""
    file = work_dir / 'collapse' / 'collapse.json'
    collapse = _read_json(file)
    bottleneck = _read_json(work_dir / 'bottleneck' / 'bottlenecks.json')
    titles = {row.key: row.title for row in rows}
    charts = []
    if collapse is not None:
        students = {
            titles.get(model['label'], model['label']): model['singular_values']
            for model in collapse['models']
        }
        charts.append(
            _chart(
                lambda: draw_spectra(students),
                "Spectra of the students' BEV features",
                'Variance of the BEV feature along its principal directions (Figs. 5(a) and 6 of '
                'the paper). A line that drops earlier uses fewer directions.',
            )
        )
    if bottleneck is not None and bottleneck['feature_spectra']:
        features = {
            titles.get(name, name): values for name, values in bottleneck['feature_spectra'].items()
        }
        charts.append(
            _chart(
                lambda: draw_spectra(features),
                "Spectra of the teacher's and the undistilled student's BEV features",
                'What there is to imitate: the BEV features of the teacher and of the undistilled '
                'student, as the bottlenecks were given them.',
            )
        )
    return {'file': None if collapse is not None else file, 'charts': charts}


def _losses(work_dir: Path, rows: Sequence[ReportRow]) -> dict[str, Any]:
    detection, distillation, lacking = {}, {}, []
    for row in rows:
        scalars = read_scalars(work_dir / row.key)
        if not scalars:
            lacking.append(row.title)
        for values in scalars.values():
            values['detection'] = values['loss'] - values.get('loss_distillation', 0.0)
        detection[row.title] = _curve(scalars, 'detection')
        distillation[row.title] = _curve(scalars, 'loss_distillation')
    charts = [
        _chart(
            lambda: draw_loss_curves(_without_empty(detection), y_label='Detection loss'),
            'Detection losses over training',
            'Detection losses, without the distillation loss.',
        ),
        _chart(
            lambda: draw_loss_curves(_without_empty(distillation), y_label='Distillation loss'),
            'Distillation losses over training',
            'Distillation losses. MSE compares all channels, CIBA the code only: compare the '
            'slopes, not the heights.',
        ),
    ]
    return {'lacking': lacking, 'file': work_dir / '<model>' / _SCALARS, 'charts': charts}


def read_scalars(folder: Path) -> dict[int, dict[str, float]]:
    """Read what mmengine logged in training, of all runs in a work folder together.

    Args:
        folder: The work folder, with one folder for each time the training was begun or resumed.

    Returns:
        For each step in ascending order, the values by name. Where runs overlap, the later counts.
    """
    merged = {}
    # The folders are named after the time.
    for file in sorted(folder.glob(_SCALARS)):
        for line in file.read_text(encoding='utf-8').splitlines():
            try:
                values = json.loads(line)
            except json.JSONDecodeError:
                # The last line of a run that was stopped while it wrote.
                continue
            # Lines of a validation count epochs.
            if 'loss' in values:
                merged[int(values.get('iter', values['step']))] = values
    return dict(sorted(merged.items()))


def _curve(
    scalars: Mapping[int, Mapping[str, float]], name: str
) -> tuple[list[float], list[float]]:
    """The steps at which a value was logged, and the values."""
    found = {step: values[name] for step, values in scalars.items() if name in values}
    return list(found), list(found.values())


def _without_empty(curves: Mapping[str, tuple[list, list]]) -> dict[str, tuple[list, list]]:
    return {name: curve for name, curve in curves.items() if curve[0]}


def _frames(folder: Path, rows: Sequence[ReportRow]) -> dict[str, Any]:
    """Gather the pictures of each frame by every model."""
    files = {
        row.key: {file.name: file for file in (folder / row.key).glob('*.png')} for row in rows
    }
    names = sorted({name for found in files.values() for name in found})
    limit = _PICTURES_BYTES // max(1, sum(len(found) for found in files.values()))
    frames = [
        (
            Path(name).stem,
            [
                _picture(files[row.key][name], row.title, limit)
                for row in rows
                if name in files[row.key]
            ],
        )
        for name in names
    ]
    lacking = [row.title for row in rows if not files[row.key]]
    return {'lacking': lacking, 'folder': folder / '<model>', 'frames': frames}


def _picture(file: Path, title: str, limit: int) -> Chart:
    description = f'Detections of {title} on six cameras and in bird-eye view'
    picture = cv2.imread(str(file), cv2.IMREAD_COLOR)
    if picture is None:
        return Chart('', description, f'{file} cannot be read as a picture.')
    return Chart(_data_uri('image/jpeg', _encode_within(picture, limit)), description, title)


def _encode_within(picture: np.ndarray, limit: int) -> bytes:
    """Encode a JPEG of at most so many bytes, as wide as that allows."""
    height, width = picture.shape[:2]
    for wanted in _PICTURE_WIDTHS:
        scaled = picture
        if wanted < width:
            size = (wanted, max(1, round(height * wanted / width)))
            scaled = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        _, encoded = cv2.imencode('.jpg', scaled, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        if encoded.size <= limit:
            break
    return encoded.tobytes()


def _steps_table(work_dir: Path) -> Table | None:
    files = sorted(work_dir.glob('*.done.json'), key=lambda file: file.stat().st_mtime)
    body = []
    for file in files:
        name, record = file.name[: -len('.done.json')], _read_json(file)
        minutes, memory = _number(record['minutes']), _number(record['peak_memory_gb'])
        body.append([name, minutes, memory, f'{name}.log'])
    return Table(['step', 'minutes', 'peak memory\nGiB', 'log'], body) if body else None


def _from_here(folder: Path) -> str:
    """A folder as a command run in the current folder would name it."""
    resolved, here = folder.resolve(), Path.cwd().resolve()
    return str(resolved.relative_to(here)) if here in resolved.parents else str(resolved)


def _chart(draw: Callable[[], Figure], title: str, caption: str) -> Chart:
    try:
        figure = draw()
    except CibaError as error:
        return Chart('', title, f'{title}: {error}')
    return Chart(_data_uri('image/svg+xml', _to_svg(figure)), title, caption)


def _to_svg(figure: Figure) -> bytes:
    import matplotlib

    figure.set_size_inches(_FIGURE_INCHES)
    buffer = io.BytesIO()
    # Without date and random names the same figure gives the same file.
    with matplotlib.rc_context({'svg.hashsalt': 'ciba_bev'}):
        figure.savefig(buffer, format='svg', transparent=True, metadata={'Date': None})
    return buffer.getvalue()


def _data_uri(media_type: str, content: bytes) -> str:
    return f'data:{media_type};base64,{base64.b64encode(content).decode("ascii")}'


def _read_json(file: Path) -> dict[str, Any] | None:
    return json.loads(file.read_text(encoding='utf-8')) if file.is_file() else None
