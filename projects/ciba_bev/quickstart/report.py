"""The quickstart's story as one HTML page.

Everything is inside the file, pictures included, so it can be read offline, mailed and printed.
What it says about the outcome is derived from the numbers, whichever way they came out.
"""

from __future__ import annotations

import base64
import io
import json
import math
import os
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, Callable, Mapping, Sequence

import cv2
import numpy as np

from ..analysis import draw_decoded_spectra, draw_loss_curves, draw_spectra
from ..errors import CibaError
from ..files import write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A rule of thumb, not a measured deviation: one seed, a few dozen frames, and an mAP that is a mean
# over ten classes of which some have a handful of objects.
NOISE_POINTS = 2.0

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
    """What came out of one detector.

    Attributes:
        key: ``'teacher'``, ``'student'``, ``'mse'`` or ``'ciba'``; its folder in the work folder.
        title: Its name in tables.
        config: Path of the config it was trained with.
        metrics: nuScenes' NDS and mAP as fractions and the five errors in their units, by short
            name; None or NaN for what was not measured.
        effective_rank: How many directions its BEV map uses; None if not measured.
        energy_in_code: Share of the BEV map's variance in the channels that were distilled, 0 to
            1; None if there are none.
        training_minutes: How long its training took.
        peak_memory_gb: The most memory its training held, GiB.
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
        """NDS or mAP in points (percent); None if it was not measured."""
        value = self.metrics.get(name)
        return None if value is None or not math.isfinite(value) else 100 * value


def write_report(
    path: str | os.PathLike,
    work_dir: str | os.PathLike,
    rows: Sequence[ReportRow],
    total_minutes: float,
) -> None:
    """Write the quickstart's page, complete or not at all.

    Of the files in ``work_dir`` each may be missing; then a sentence says so in its place:
    ``bottleneck/bottlenecks.json`` (:class:`BottleneckMetric`), ``collapse/collapse.json``
    (tools/analyze_collapse.py), ``<key>/*/vis_data/scalars.json`` (mmengine),
    ``pictures/<key>/*.png`` (tools/test.py) and ``*.done.json`` (:class:`StepRunner`).

    Args:
        path: The HTML file.
        work_dir: The quickstart's work folder.
        rows: One row for each detector, in the order they are shown.
        total_minutes: How long all steps took together.
    """
    path, work_dir = Path(path), Path(work_dir)
    page = _PAGE.substitute(
        style=_STYLE,
        total_minutes=f'{total_minutes:.0f}',
        cards=_cards(rows, total_minutes),
        results=_results_table(rows),
        reading=_items(describe_outcome(rows)),
        details=_details_table(rows),
        bottlenecks=_bottlenecks(work_dir / 'bottleneck'),
        collapse=_collapse(work_dir, rows),
        losses=_losses(work_dir, rows),
        pictures=_pictures(work_dir / 'pictures', rows),
        steps=_steps(work_dir),
        commands=_commands(work_dir, rows),
        files=_files(work_dir),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, f'{page}\n')


def describe_outcome(rows: Sequence[ReportRow]) -> list[str]:
    """Say in words what the numbers say, and what they do not.

    Args:
        rows: The detectors; those that are missing are not spoken of.

    Returns:
        Sentences, plain text.
    """
    found = {row.key: row for row in rows}
    student = found.get('student')
    if student is None or student.points('NDS') is None:
        return ['The undistilled student has no NDS, so there is nothing to compare with.']
    sentences = []
    if 'teacher' in found:
        sentences.append(_describe_gap(_difference(found['teacher'], student)))
    changes = {}
    for key, name in (('mse', 'MSE'), ('ciba', 'CIBA')):
        if key not in found:
            continue
        change = _difference(found[key], student)
        if change is None:
            sentences.append(f'{name} has no NDS.')
            continue
        changes[name] = change
        precision = _difference(found[key], student, 'mAP')
        aside = '' if precision is None else f' (mAP: {_signed(precision)})'
        sentences.append(f'{name} is {_compare(change, "the undistilled student")}{aside}.')
    if len(changes) == 2:
        sentences.append(_describe_order(changes))
    if changes:
        sentences.append(_describe_certainty(changes))
    return sentences + _describe_ranks(found)


def _difference(row: ReportRow, other: ReportRow, name: str = 'NDS') -> float | None:
    value, base = row.points(name), other.points(name)
    return None if value is None or base is None else value - base


def _describe_gap(gap: float | None) -> str:
    if gap is None:
        return 'The teacher has no NDS.'
    sentence = f'The LiDAR teacher is {_compare(gap, "the undistilled student")}'
    if round(gap, 1) > 0:
        return f'{sentence}: there is something to learn from it.'
    return f'{sentence}, so this run cannot show what a better teacher is good for.'


def _describe_order(changes: Mapping[str, float]) -> str:
    between = changes['CIBA'] - changes['MSE']
    order = sorted(
        [('the undistilled student', 0.0), *changes.items()], key=lambda item: item[1], reverse=True
    )
    names = [name for name, _ in order]
    sentence = f'CIBA is {_compare(between, "MSE")}.'
    if len({round(change, 1) + 0.0 for _, change in order}) < len(order):
        return sentence
    sentence += f' From best to worst: {", ".join(names)}; '
    if names == ['CIBA', 'MSE', 'the undistilled student']:
        return f"{sentence}this is the paper's order, too."
    return f"{sentence}the paper's order is CIBA, MSE, the undistilled student."


def _describe_certainty(changes: Mapping[str, float]) -> str:
    sentence = (
        'With one seed and a few dozen validation frames, differences below about '
        f'{NOISE_POINTS:g} points say nothing. '
    )
    larger = {name: change for name, change in changes.items() if abs(change) >= NOISE_POINTS}
    if not larger:
        those = 'Neither' if len(changes) == 2 else 'It'
        verb = 'is' if len(changes) == 2 else 'is not'
        return f'{sentence}{those} {verb} shown to help or to harm here.'
    parts = [f'the {"gain" if change > 0 else "loss"} of {name}' for name, change in larger.items()]
    subject = ' and '.join(parts)
    subject = subject[0].upper() + subject[1:]
    verb = 'are' if len(parts) > 1 else 'is'
    sentence += f'{subject} {verb} larger than that: a hint, until other seeds agree.'
    rest = [name for name in changes if name not in larger]
    return sentence + (f' {rest[0]} is not shown to help or to harm.' if rest else '')


def _describe_ranks(found: Mapping[str, ReportRow]) -> list[str]:
    """What distillation did to the number of directions that the student's map uses."""
    plain = found['student'].effective_rank
    if plain is None:
        return []
    sentences = []
    for key, name in (('mse', 'MSE'), ('ciba', 'CIBA')):
        rank = found[key].effective_rank if key in found else None
        if rank is None:
            continue
        change = round(rank - plain, 1)
        sentence = f"With {name} the student's BEV map has an effective rank of {rank:.1f}, "
        if change == 0:
            sentence += 'as it has without distillation'
        else:
            way = 'less' if change < 0 else 'more'
            sentence += f'{abs(change):.1f} {way} than without distillation ({plain:.1f})'
        expected = change < 0 if key == 'mse' else change > 0
        if change and expected:
            sentence += ', the direction the paper reports'
        elif change:
            sentence += ', not the direction the paper reports'
        sentences.append(f'{sentence}.')
    return sentences


def _compare(points: float, other: str) -> str:
    if round(points, 1) == 0:
        return f'level with {other} in NDS'
    return f'{abs(points):.1f} NDS points {"above" if points > 0 else "below"} {other}'


def _signed(value: float | None) -> str:
    """With a sign always, a real minus sign, and no minus before zero; a dash for None."""
    if value is None:
        return _DASH
    rounded = round(value, 1) + 0.0
    return f'{rounded:+.1f}'.replace('-', '\N{MINUS SIGN}') if rounded else '0.0'


def _number(value: float | None, digits: int = 1) -> str:
    return _DASH if value is None or not math.isfinite(value) else f'{value:.{digits}f}'


def _cards(rows: Sequence[ReportRow], total_minutes: float) -> str:
    found = {row.key: row for row in rows}
    student = found.get('student')
    cards = []
    for key, label in (
        ('teacher', 'the teacher against the student'),
        ('mse', 'MSE against the student'),
        ('ciba', 'CIBA against the student'),
    ):
        if student is not None and key in found:
            change = _difference(found[key], student)
            cards.append((f'{_signed(change)}', f'NDS points, {label}'))
    cards.append((f'{total_minutes:.0f} min', 'for all steps together'))
    return ''.join(
        f'<div class="card"><strong>{escape(value)}</strong> <span>{escape(label)}</span></div>'
        for value, label in cards
    )


def _table(header: Sequence[str], body: Sequence[Sequence[str]], marked: int | None = None) -> str:
    """A table of plain text; the first column names the row.

    Args:
        header: Names of the columns; what follows a line break is set small.
        body: The cells of each row.
        marked: Index of a row to emphasise; none by default.
    """
    head = ''
    for text in header:
        name, _, unit = text.partition('\n')
        small = f' <small>{escape(unit)}</small>' if unit else ''
        head += f'<th scope="col">{escape(name)}{small}</th>'
    lines = []
    for index, (name, *cells) in enumerate(body):
        emphasis = ' class="marked"' if index == marked else ''
        lines.append(
            f'<tr{emphasis}><th scope="row">{escape(name)}</th>'
            + ''.join(f'<td>{escape(cell)}</td>' for cell in cells)
            + '</tr>'
        )
    return (
        '<div class="scroll" tabindex="0"><table>\n'
        f'<thead><tr>{head}</tr></thead>\n<tbody>\n' + '\n'.join(lines) + '\n</tbody></table></div>'
    )


def _results_table(rows: Sequence[ReportRow]) -> str:
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
    return _table(
        ['model', 'NDS\nhere', 'difference\nhere', 'NDS\npaper', 'difference\npaper'], body
    )


def _details_table(rows: Sequence[ReportRow]) -> str:
    header = ['model', 'mAP', *(f'{name}\n{unit}' for name, unit in _ERRORS.items())]
    header += ['effective rank\nof the BEV map', 'variance\nin distilled channels']
    body = []
    for row in rows:
        share = row.energy_in_code
        body.append(
            [row.title, _number(row.points('mAP'))]
            + [_number(row.metrics.get(name), 3) for name in _ERRORS]
            + [_number(row.effective_rank), _DASH if share is None else f'{share:.0%}']
        )
    return _table(header, body)


def _bottlenecks(folder: Path) -> str:
    file = folder / 'bottlenecks.json'
    content = _read_json(file)
    if content is None:
        return _missing('The measurements of the bottlenecks', file)
    metrics = content['metrics']
    spectra = {int(name[1:]): values for name, values in content['decoded_spectra'].items()}
    if not spectra:
        return _note(f'{file} holds no bottleneck.')
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
    decoded = _figure(
        lambda: draw_decoded_spectra(spectra, proposed),
        'Spectra of decoded features for each bottleneck size',
        'Spectra of the decoded features (Fig. 5(b) of the paper). Where lines coincide, a larger '
        'code adds nothing.',
    )
    return (
        _table(header, body, None if proposed is None else sizes.index(proposed))
        + _paragraph(_explain_dynamic(metrics['student/dynamic']))
        + _paragraph(_explain_proposal(sizes, proposed, content['threshold']))
        + _charts([decoded, _bottleneck_losses(folder)])
    )


def _explain_dynamic(share: float) -> str:
    return (
        f"{1 - share:.0%} of the variance of the student's map over its cells is the same in all "
        'frames: it tells where a cell is, and a bottleneck can guess that from what the LiDAR '
        f'sees at near and far cells. The objects are in the other {share:.0%}.'
    )


def _explain_proposal(sizes: Sequence[int], proposed: int | None, threshold: float | None) -> str:
    if proposed is None:
        return 'One size alone cannot show whether it is enough.'
    if proposed == sizes[-1]:
        return (
            f'The decoded spectra have not saturated: that of H = {proposed} still lies more than '
            f'{threshold:g} decades above that of the size below it. H = {proposed} is proposed '
            'only because no larger one was trained.'
        )
    return (
        f'H = {proposed} is proposed: it is the smallest size from which on no larger one lifts '
        f'the decoded spectrum by more than {threshold:g} decades, averaged over the directions '
        "that count (the paper's rule, Sec. 5.1.3, made precise by suggest_bottleneck_size). The "
        "size that CIBA was run with stands in its model's name; the paper's best on nuScenes is 4."
    )


def _bottleneck_losses(folder: Path) -> str:
    ending = '.loss_generation'
    scalars = read_scalars(folder)
    names = {name for values in scalars.values() for name in values if name.endswith(ending)}
    curves = {
        f'H = {size}': _curve(scalars, f'h{size}{ending}')
        for size in sorted(int(name[1 : -len(ending)]) for name in names)
    }
    if not curves:
        return _missing('The losses of the bottlenecks', folder / _SCALARS)
    return _figure(
        lambda: draw_loss_curves(curves, y_label='Generation loss'),
        'Generation losses of the bottlenecks over training',
        'Generation losses of the bottlenecks, all trained in one run.',
    )


def _collapse(work_dir: Path, rows: Sequence[ReportRow]) -> str:
    collapse_file = work_dir / 'collapse' / 'collapse.json'
    bottleneck_file = work_dir / 'bottleneck' / 'bottlenecks.json'
    collapse, bottleneck = _read_json(collapse_file), _read_json(bottleneck_file)
    titles = {row.key: row.title for row in rows}
    charts = []
    if collapse is None:
        charts.append(_missing("The spectra of the students' BEV maps", collapse_file))
    else:
        students = {
            titles.get(model['label'], model['label']): model['singular_values']
            for model in collapse['models']
        }
        charts.append(
            _figure(
                lambda: draw_spectra(students),
                "Spectra of the students' BEV maps",
                'Variance of the BEV map along its principal directions (Figs. 5(a) and 6 of the '
                'paper). A line that drops earlier is a map that uses fewer directions.',
            )
        )
    if bottleneck is not None and bottleneck['feature_spectra']:
        features = {
            titles.get(name, name): values for name, values in bottleneck['feature_spectra'].items()
        }
        charts.append(
            _figure(
                lambda: draw_spectra(features),
                "Spectra of the teacher's and the undistilled student's BEV maps",
                'What there is to imitate: the map of the teacher and that of the undistilled '
                'student, as the bottlenecks were given them.',
            )
        )
    return _charts(charts)


def _losses(work_dir: Path, rows: Sequence[ReportRow]) -> str:
    detection, distillation = {}, {}
    lacking = []
    for row in rows:
        scalars = read_scalars(work_dir / row.key)
        if not scalars:
            lacking.append(row.title)
        for values in scalars.values():
            values['detection'] = values['loss'] - values.get('loss_distillation', 0.0)
        detection[row.title] = _curve(scalars, 'detection')
        distillation[row.title] = _curve(scalars, 'loss_distillation')
    notes = ''
    if lacking:
        notes = _missing(f'The losses of {", ".join(lacking)}', work_dir / '<model>' / _SCALARS)
    charts = [
        _figure(
            lambda: draw_loss_curves(_without_empty(detection), y_label='Detection loss'),
            'Detection losses over training',
            'Detection losses, without the distillation loss.',
        ),
        _figure(
            lambda: draw_loss_curves(_without_empty(distillation), y_label='Distillation loss'),
            'Distillation losses over training',
            'Distillation losses. MSE compares all channels, CIBA the code only: the heights '
            'cannot be compared, the slopes can.',
        ),
    ]
    return notes + _charts(charts)


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


def _pictures(folder: Path, rows: Sequence[ReportRow]) -> str:
    """The same frame by every model, one below the other."""
    files = {
        row.key: {file.name: file for file in (folder / row.key).glob('*.png')} for row in rows
    }
    lacking = [row.title for row in rows if not files[row.key]]
    parts = []
    if lacking:
        parts.append(
            _note(f'There are no pictures of {", ".join(lacking)} in {folder / "<model>"}.')
        )
    names = sorted({name for found in files.values() for name in found})
    shown = sum(len(found) for found in files.values())
    for number, name in enumerate(names, start=1):
        parts.append(f'<h3>Frame {number} of {len(names)}</h3>')
        parts.append(_paragraph(f'Sample {Path(name).stem}'))
        for row in rows:
            if name in files[row.key]:
                parts.append(_picture(files[row.key][name], row.title, _PICTURES_BYTES // shown))
    return '\n'.join(parts)


def _picture(file: Path, title: str, limit: int) -> str:
    picture = cv2.imread(str(file), cv2.IMREAD_COLOR)
    if picture is None:
        return _note(f'{file} cannot be read as a picture.')
    source = _data_uri('image/jpeg', _encode_within(picture, limit))
    alternative = escape(f'Detections of {title} on six cameras and in bird-eye view', quote=True)
    return (
        f'<figure class="picture"><figcaption>{escape(title)}</figcaption>'
        f'<img src="{source}" alt="{alternative}"></figure>'
    )


def _encode_within(picture: np.ndarray, limit: int) -> bytes:
    """A JPEG of at most so many bytes, as wide as that allows; the narrowest may be larger."""
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


def _steps(work_dir: Path) -> str:
    files = sorted(work_dir.glob('*.done.json'), key=lambda file: file.stat().st_mtime)
    if not files:
        return _missing('The records of the single steps', work_dir / '*.done.json')
    body = []
    for file in files:
        name, record = file.name[: -len('.done.json')], _read_json(file)
        minutes, memory = _number(record['minutes']), _number(record['peak_memory_gb'])
        body.append([name, minutes, memory, f'{name}.log'])
    return _table(['step', 'minutes', 'peak memory\nGiB', 'log'], body)


def _commands(work_dir: Path, rows: Sequence[ReportRow]) -> str:
    folder = _from_here(work_dir)
    lines = ['bash tools/quickstart.sh   # all of this page', '']
    for row in rows:
        lines.append(
            f'python tools/train.py {row.config} --work-dir {folder}/{row.key}   '
            f'# {row.title}: {row.training_minutes:.1f} min, {row.peak_memory_gb:.1f} GiB'
        )
    text = escape('\n'.join(lines))
    return f'<pre class="scroll" tabindex="0">{text}</pre>'


def _files(work_dir: Path) -> str:
    names = {
        '<model>/epoch_<n>.pth': 'checkpoints; those of a distilled student are plain students',
        '<model>/metrics.json': 'all metrics of nuScenes, by class and distance',
        'bottleneck/bottlenecks.json': 'measurements and spectra of the bottlenecks',
        'collapse/': "spectra of the students' BEV maps, and figures of them",
        'pictures/<model>/': 'detections on cameras and in BEV, full size',
        '<step>.log': 'what each step printed',
        'results.md': 'the results as a Markdown table',
    }
    entries = ''.join(
        f'<dt><code>{escape(name)}</code></dt><dd>{escape(text)}</dd>'
        for name, text in names.items()
    )
    return f'{_paragraph(f"In {_from_here(work_dir)}:")}<dl>{entries}</dl>'


def _from_here(folder: Path) -> str:
    """A folder as a command run in the current folder would name it."""
    resolved, here = folder.resolve(), Path.cwd().resolve()
    return str(resolved.relative_to(here)) if here in resolved.parents else str(resolved)


def _figure(draw: Callable[[], Figure], title: str, caption: str) -> str:
    try:
        figure = draw()
    except CibaError as error:
        return _note(f'{title}: {error}')
    source = _data_uri('image/svg+xml', _to_svg(figure))
    return (
        f'<figure class="chart"><img src="{source}" alt="{escape(title, quote=True)}">'
        f'<figcaption>{escape(caption)}</figcaption></figure>'
    )


def _to_svg(figure: Figure) -> bytes:
    import matplotlib

    figure.set_size_inches(_FIGURE_INCHES)
    buffer = io.BytesIO()
    # Without date and random names the same figure gives the same file.
    with matplotlib.rc_context({'svg.hashsalt': 'ciba_bev'}):
        figure.savefig(buffer, format='svg', transparent=True, metadata={'Date': None})
    return buffer.getvalue()


def _charts(charts: Sequence[str]) -> str:
    return f'<div class="charts">{"".join(charts)}</div>'


def _data_uri(media_type: str, content: bytes) -> str:
    return f'data:{media_type};base64,{base64.b64encode(content).decode("ascii")}'


def _items(sentences: Sequence[str]) -> str:
    return '<ul>' + ''.join(f'<li>{escape(sentence)}</li>' for sentence in sentences) + '</ul>'


def _paragraph(text: str) -> str:
    return f'<p>{escape(text)}</p>'


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def _missing(what: str, file: Path) -> str:
    return _note(f'{what} are missing: there is no {file}.')


def _read_json(file: Path) -> dict[str, Any] | None:
    return json.loads(file.read_text(encoding='utf-8')) if file.is_file() else None


_STYLE = """
:root {
  color-scheme: light dark;
  --ground: #ffffff; --raised: #f4f6f8; --line: #d5dbe1; --text: #1b2229; --faint: #56616c;
  --accent: #0b63a5; --marked: #fff3d6;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --ground: #12171c; --raised: #1b2229; --line: #36414c; --text: #e4e9ee; --faint: #9fabb7;
    --accent: #6cb8f0; --marked: #3b3115;
  }
  .chart img { filter: invert(1) hue-rotate(180deg); }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 72rem; padding: 1.5rem 1rem 4rem; background: var(--ground);
  color: var(--text); font: 1rem/1.55 system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif;
  overflow-wrap: break-word;
}
h1 { font-size: clamp(1.6rem, 5vw, 2.3rem); line-height: 1.15; margin: 0.5rem 0; }
h2 { margin: 3rem 0 0.75rem; padding-top: 1rem; border-top: 1px solid var(--line); }
h3 { margin: 2rem 0 0; }
p, ul, dl { max-width: 46rem; }
li + li { margin-top: 0.4rem; }
.lead, figcaption, small, h3 + p { color: var(--faint); }
.lead { font-size: 1.1rem; }
.cards { display: grid; gap: 0.75rem; margin: 1.5rem 0;
  grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); }
.card, .flow li { background: var(--raised); border-radius: 0.6rem; padding: 0.8rem 1rem; }
.card strong { display: block; font-size: 1.6rem; line-height: 1.2; color: var(--accent);
  font-variant-numeric: tabular-nums; }
.card span { font-size: 0.9rem; color: var(--faint); }
.flow { display: grid; gap: 0.75rem; max-width: none; margin: 1.5rem 0; padding: 0;
  list-style: none; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr));
  counter-reset: part; }
.flow li { margin: 0; border-left: 0.25rem solid var(--accent); font-size: 0.95rem; }
.flow strong { display: block; }
.flow strong::before { counter-increment: part; content: counter(part) '. '; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.4rem 0.7rem; text-align: right; border-bottom: 1px solid var(--line); }
thead th { vertical-align: bottom; line-height: 1.25; }
th small { display: block; font-weight: normal; }
th:first-child { text-align: left; padding-left: 0.4rem; }
tbody th { font-weight: 600; }
.marked { background: var(--marked); }
.note { padding: 0.6rem 0.9rem; border-left: 0.25rem solid #d98c00; background: var(--raised); }
.charts { display: grid; gap: 1.5rem; margin: 1.5rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 28rem), 1fr)); }
figure { margin: 0; }
.chart { max-width: 38rem; }
.picture { margin: 1rem 0 1.5rem; }
.picture figcaption { color: var(--text); font-weight: 600; margin-bottom: 0.3rem; }
img { display: block; width: 100%; height: auto; }
.picture img { border-radius: 0.4rem; }
figcaption { font-size: 0.9rem; }
pre { padding: 0.8rem 1rem; background: var(--raised); border-radius: 0.6rem; font-size: 0.85rem; }
dt { margin-top: 0.5rem; }
dd { margin-left: 1.5rem; color: var(--faint); }
@media (max-width: 30rem) {
  th, td { padding: 0.35rem 0.4rem; font-size: 0.88rem; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  h2 { break-after: avoid; }
  figure, tr, .card, .flow li { break-inside: avoid; }
  .scroll { overflow: visible; }
  pre { white-space: pre-wrap; }
}
"""

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>ciba-bev quickstart</title>
<style>$style</style>
</head>
<body>
<header>
<h1>A camera learns from a LiDAR</h1>
<p class="lead">The quickstart of ciba-bev: a whole cross-modal distillation in a small simulated
world, in $total_minutes minutes.</p>
<div class="cards">$cards</div>
</header>
<main>
<section>
<h2>The story</h2>
<p>A LiDAR measures depth; a camera has to guess it, but sees colour and texture. Making all of the
camera's features imitate the LiDAR's asks for what a camera cannot know, and leaves no room for
what only it knows: its features, the paper shows, collapse into few dimensions. CIBA finds
the part that the camera can predict at all, and distils only that.</p>
<ol class="flow">
<li><strong>A teacher and a student</strong> are trained, each for itself: Object-DGCNN on LiDAR
points, BEVFormer on six cameras. Both see the road as a map from the bird's eye (BEV).</li>
<li><strong>Bottlenecks</strong> of several sizes learn to predict the student's map from the
teacher's through a code of H channels (Algorithm 1).</li>
<li><strong>A student distilled with MSE</strong> imitates all channels of the teacher's map, for
comparison.</li>
<li><strong>A student distilled with CIBA</strong> imitates the code, in its first H channels only
(Algorithm 2). The others stay its own.</li>
</ol>
</section>
<section>
<h2>What came out</h2>
$results
<p class="note">The two pairs of columns belong to different worlds: here a simulated road, small
models and minutes of training; in the paper (Table 2) nuScenes and full-size models. Do not compare
the scores as such. The differences to the undistilled student are the story, and even they may
differ in size. NDS in points (percent), higher is better.</p>
<h3>How to read it</h3>
$reading
<h3>In detail</h3>
$details
<p>mAP in points, higher is better; of the errors lower is better. The effective rank says how many
directions a BEV map uses in effect, of as many as it has channels.</p>
</section>
<section>
<h2>How much can a camera predict?</h2>
$bottlenecks
</section>
<section>
<h2>Does the student collapse?</h2>
$collapse
</section>
<section>
<h2>Training</h2>
$losses
</section>
<section>
<h2>What they see</h2>
<p>The same validation frames by every model: detections in colour, ground truth dashed in the views
from above.</p>
$pictures
</section>
<section>
<h2>What was run</h2>
$commands
<p>The quickstart adds a fixed seed. Two steps run at once, so the steps' minutes add up to more
than the total.</p>
$steps
<h3>Where the files are</h3>
$files
</section>
</main>
</body>
</html>""")
