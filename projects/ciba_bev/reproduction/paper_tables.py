"""The rows of the paper's tables: which config makes each, and what the paper reports for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence, Tuple

# Mean and sample deviation over five seeds, as printed.
Reported = Tuple[float, float]


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        method: As the paper names it.
        modality: Teacher and student, or the only modality.
        config: Name of the config that makes it.
        paper: For each column, mean and deviation, in percent.
        size: Bottleneck size H, for rows of CIBA.
        compared_with: Method and modality of the row whose difference has a p-value.
    """

    method: str
    modality: str
    config: str
    paper: Sequence[Reported]
    size: int | None = None
    compared_with: tuple[str, str] | None = None


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper over seeds.

    Attributes:
        title: What it shows.
        dataset: Prefix of the configs of its data set.
        columns: Heading, which scores (``validation`` or ``test``), and the metric's full name.
        rows: Its rows.
    """

    title: str
    dataset: str
    columns: Sequence[tuple[str, str, str]]
    rows: Sequence[Row]


_ACCURACY = (('Val.', 'validation', 'accuracy/top1'), ('Test', 'test', 'accuracy/top1'))
_F1 = (('F1-micro', 'test', 'f1/micro'), ('F1-macro', 'test', 'f1/macro'))

_AUDIO = Row('Audio-baseline', 'A', 'ravdess_audio', ((73.26, 1.51), (72.22, 2.26)))
_IMAGE = Row('Image-baseline', 'I', 'ravdess_image', ((81.64, 0.79), (78.08, 1.30)))
_MSE = Row('MSE', 'A -> I', 'ravdess_mse_audio_to_image', ((80.91, 0.68), (78.42, 0.69)))
_CIBA = Row(
    'MSE + CIBA (8)',
    'A -> I',
    'ravdess_ciba_mse_audio_to_image',
    ((83.74, 0.98), (81.64, 1.38)),
    8,
    ('MSE', 'A -> I'),
)


def _imdb(bottleneck: str, teacher: str, size: int, micro: Reported, macro: Reported) -> Row:
    names = {'dvib': 'DVIB', 'self_attention': 'SA', 'vq_vae': 'VQ-VAE'}
    modality = {'image': 'I -> T', 'fusion': 'F -> T'}[teacher]
    return Row(
        f'+CIBA w/ {names[bottleneck]} ({size})',
        modality,
        f'mm_imdb_ciba_{bottleneck}_{teacher}_to_text',
        (micro, macro),
        size,
        ('MSE', modality),
    )


def _vgg_pair(
    modality: str, config: str, mse: Sequence[Reported], ciba: Sequence[Reported]
) -> tuple[Row, Row]:
    return (
        Row('MSE', modality, f'vgg_sound_mse_{config}', mse),
        Row('MSE + CIBA (16)', modality, f'vgg_sound_ciba_{config}', ciba, 16, ('MSE', modality)),
    )


TABLES = {
    'table1a': PaperTable(
        'Tables 1(a) and 4(a): RAVDESS, accuracy (%)',
        'ravdess',
        _ACCURACY,
        (
            _AUDIO,
            _IMAGE,
            _MSE,
            _CIBA,
            Row('CE', 'A -> I', 'ravdess_ce_audio_to_image', ((82.17, 0.70), (78.83, 0.93))),
            Row(
                'CE + CIBA (8)',
                'A -> I',
                'ravdess_ciba_ce_audio_to_image',
                ((83.22, 0.51), (81.19, 1.58)),
                8,
                ('CE', 'A -> I'),
            ),
            Row('CLIP', 'A -> I', 'ravdess_clip_audio_to_image', ((81.33, 1.23), (78.79, 1.53))),
            Row(
                'CLIP + CIBA (64)',
                'A -> I',
                'ravdess_ciba_clip_audio_to_image',
                ((83.80, 0.39), (80.77, 1.04)),
                64,
                ('CLIP', 'A -> I'),
            ),
            Row(
                'Margin', 'A -> I', 'ravdess_margin_audio_to_image', ((81.82, 0.81), (78.62, 1.24))
            ),
            Row(
                'Margin + CIBA (128)',
                'A -> I',
                'ravdess_ciba_margin_audio_to_image',
                ((83.46, 0.94), (80.42, 1.14)),
                128,
                ('Margin', 'A -> I'),
            ),
        ),
    ),
    'table1b': PaperTable(
        'Tables 1(b) and 4(b): MM-IMDB, F1 (%)',
        'mm_imdb',
        _F1,
        (
            Row('Image-baseline', 'I', 'mm_imdb_image', ((40.00, 0.50), (25.82, 0.63))),
            Row('Text-baseline', 'T', 'mm_imdb_text', ((57.87, 0.27), (45.95, 0.38))),
            Row('Fusion-baseline', 'F (I+T)', 'mm_imdb_fusion', ((57.09, 0.41), (46.10, 0.41))),
            Row('MSE', 'I -> T', 'mm_imdb_mse_image_to_text', ((56.74, 0.22), (42.18, 0.48))),
            _imdb('dvib', 'image', 16, (59.29, 0.16), (47.71, 0.22)),
            _imdb('self_attention', 'image', 16, (58.86, 0.54), (46.51, 0.66)),
            _imdb('vq_vae', 'image', 16, (58.67, 0.45), (46.71, 0.37)),
            Row('MSE', 'F -> T', 'mm_imdb_mse_fusion_to_text', ((58.32, 0.28), (45.77, 0.16))),
            _imdb('dvib', 'fusion', 32, (58.73, 0.38), (47.11, 0.46)),
            _imdb('self_attention', 'fusion', 32, (58.46, 0.16), (46.19, 0.34)),
            _imdb('vq_vae', 'fusion', 32, (58.48, 0.18), (46.44, 0.33)),
        ),
    ),
    'table3': PaperTable(
        'Tables 3 and 5: VGG-Sound, accuracy (%)',
        'vgg_sound',
        _ACCURACY,
        (
            Row('Video-baseline', 'V50', 'vgg_sound_video_r50', ((50.42, 0.37), (49.43, 0.66))),
            Row('Audio-baseline', 'A50', 'vgg_sound_audio_r50', ((69.55, 0.36), (68.76, 0.33))),
            Row('Video-baseline', 'V18', 'vgg_sound_video_r18', ((42.11, 0.53), (41.53, 0.41))),
            # Table 5 prints 0.22 for the first deviation.
            Row('Audio-baseline', 'A18', 'vgg_sound_audio_r18', ((68.86, 0.33), (69.08, 0.52))),
            *_vgg_pair(
                'V18 -> A18',
                'video_r18_to_audio_r18',
                ((67.54, 0.76), (68.32, 0.49)),
                ((70.11, 0.40), (70.39, 0.48)),
            ),
            *_vgg_pair(
                'V50 -> A18',
                'video_r50_to_audio_r18',
                ((68.53, 0.36), (68.54, 0.34)),
                ((70.21, 0.28), (70.71, 0.52)),
            ),
            *_vgg_pair(
                'A18 -> V18',
                'audio_r18_to_video_r18',
                ((42.61, 0.33), (41.28, 0.57)),
                ((43.59, 0.57), (42.55, 0.62)),
            ),
            *_vgg_pair(
                'A50 -> V18',
                'audio_r50_to_video_r18',
                ((41.40, 0.71), (40.33, 0.39)),
                ((43.44, 0.33), (42.95, 0.19)),
            ),
        ),
    ),
    'table7': PaperTable(
        'Table 7: RAVDESS, other teachers and students, accuracy (%)',
        'ravdess',
        _ACCURACY,
        (
            _AUDIO,
            _IMAGE,
            Row('Fusion-baseline', 'F (I+A)', 'ravdess_fusion', ((87.17, 0.94), (87.31, 1.46))),
            _MSE,
            _CIBA,
            Row('MSE', 'F -> I', 'ravdess_mse_fusion_to_image', ((81.12, 0.23), (78.60, 0.83))),
            Row(
                'MSE + CIBA (8)',
                'F -> I',
                'ravdess_ciba_mse_fusion_to_image',
                ((82.88, 0.56), (80.23, 0.95)),
                8,
                ('MSE', 'F -> I'),
            ),
            Row('MSE', 'I -> A', 'ravdess_mse_image_to_audio', ((71.92, 1.35), (67.61, 1.82))),
            Row(
                'MSE + CIBA (2)',
                'I -> A',
                'ravdess_ciba_mse_image_to_audio',
                ((77.00, 1.48), (76.19, 3.03)),
                2,
                ('MSE', 'I -> A'),
            ),
        ),
    ),
}

# Table 2 has one run a row and nuScenes' NDS in percent.
TABLE_2 = (
    ('Teacher (LiDAR)', 'objectdgcnn_voxel01', 'objectdgcnn_voxel01', 66.7),
    ('Student (camera)', 'bevformer_r50', 'bevformer_r50', 43.4),
    ('MSE', 'mse_bevformer_r50', 'bevformer_r50', 43.8),
    ('MSE w/ GT', 'mse_gt_bevformer_r50', 'bevformer_r50', 44.0),
    *(
        (f'MSE + CIBA ({size})', f'ciba_bevformer_r50_h{size}', 'bevformer_r50', score)
        for size, score in (
            (2, 44.4),
            (4, 44.8),
            (8, 44.4),
            (16, 44.0),
            (32, 43.7),
            (64, 42.1),
            (128, 39.8),
        )
    ),
)
