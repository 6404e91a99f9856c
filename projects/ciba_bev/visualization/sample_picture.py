"""Compose a picture of a frame: its cameras above two bird's-eye views."""

from __future__ import annotations

import os

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ..files import write_file
from .bird_eye_view import BACKGROUND, GROUND_TRUTH_COLOUR, DrawnBoxes, draw_bird_eye_view
from .class_colours import CLASS_COLOURS, class_colour
from .image_drawing import draw_boxes_on_image, draw_points_on_image

CAMERA_LAYOUT = (
    ('CAM_FRONT_LEFT', 'CAM_FRONT', 'CAM_FRONT_RIGHT'),
    ('CAM_BACK_LEFT', 'CAM_BACK', 'CAM_BACK_RIGHT'),
)
OVERVIEW_RANGE = 51.2
CLOSE_UP_RANGE = 22.0
_COLUMNS = 3
_TILE_WIDTH = 800
_DOTS_PER_INCH = 100
_FIGURE_WIDTH = 18.0


def compose_sample_picture(
    images: dict[str, np.ndarray],
    lidar2img: dict[str, np.ndarray],
    points: np.ndarray,
    ground_truth: DrawnBoxes | None,
    predictions: DrawnBoxes | None = None,
    *,
    title: str = '',
    points_on_images: bool = False,
) -> np.ndarray:
    """Draw a frame.

    Cameras show the predictions, or the ground truth if there are none; the bird's-eye views show
    both. The six cameras of nuScenes are arranged by direction, others three in a row. Without
    cameras the picture has only the bird's-eye views.

    Args:
        images: (H, W, 3) uint8 RGB image of each camera channel.
        lidar2img: (4, 4) LiDAR frame to homogeneous pixels, for each channel.
        points: (N, 3 or more) LiDAR points, metres, in a LiDAR frame with x right, y forward.
        ground_truth: Annotated boxes in that frame; None if there are no annotations.
        predictions: Detected boxes in that frame; may be None if there is ground truth.
        title: Title of the picture.
        points_on_images: Whether to draw the LiDAR points into the images, too.

    Returns:
        (H, W, 3) uint8 RGB picture.
    """
    rows = _camera_rows(list(images))
    tallest = max((image.shape[0] / image.shape[1] for image in images.values()), default=0.0)
    gap, header, footer = 0.06, 0.42, 0.5
    tile_width_inches = (_FIGURE_WIDTH - 4 * gap) / 3
    tile_height_inches = tile_width_inches * tallest
    view = (_FIGURE_WIDTH - 3 * gap) / 2
    figure_height = header + len(rows) * (tile_height_inches + gap) + view + gap + footer
    figure = Figure((_FIGURE_WIDTH, figure_height), dpi=_DOTS_PER_INCH, facecolor=BACKGROUND)

    def add_axes(left: float, top: float, width: float, height: float):  # noqa: ANN202
        return figure.add_axes(
            (
                left / _FIGURE_WIDTH,
                1 - (top + height) / figure_height,
                width / _FIGURE_WIDTH,
                height / figure_height,
            )
        )

    on_images = ground_truth if predictions is None else predictions
    for row, channels in enumerate(rows):
        for column, channel in enumerate(channels):
            tile = _draw_camera_tile(
                images[channel], lidar2img[channel], points, on_images, points_on_images
            )
            axes = add_axes(
                gap + column * (tile_width_inches + gap),
                header + row * (tile_height_inches + gap),
                tile_width_inches,
                tile_height_inches,
            )
            axes.imshow(tile, interpolation='lanczos')
            axes.set_axis_off()
            axes.text(
                0.012,
                0.972,
                channel,
                transform=axes.transAxes,
                color='white',
                fontsize=10,
                va='top',
                bbox={'fc': BACKGROUND, 'ec': 'none', 'alpha': 0.6, 'pad': 2.5},
            )
    top = header + len(rows) * (tile_height_inches + gap)
    for column, view_range in enumerate((OVERVIEW_RANGE, CLOSE_UP_RANGE)):
        axes = add_axes(gap + column * (view + gap), top, view, view)
        draw_bird_eye_view(
            axes, points, ground_truth, predictions, view_range, show_scores=column == 1
        )
        for spine in axes.spines.values():
            spine.set_color('#3a4250')
    figure.text(
        gap / _FIGURE_WIDTH * 2,
        1 - 0.5 * header / figure_height,
        title,
        color='white',
        fontsize=12,
        va='center',
    )
    figure.legend(
        handles=_legend_handles(ground_truth, predictions),
        loc='lower center',
        ncol=12,
        frameon=False,
        labelcolor='white',
        fontsize=10,
        handlelength=1.2,
        columnspacing=1.2,
        bbox_to_anchor=(0.5, 0.0),
    )
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _camera_rows(channels: list[str]) -> list[tuple[str, ...]]:
    if set(channels) == {channel for row in CAMERA_LAYOUT for channel in row}:
        return list(CAMERA_LAYOUT)
    return [tuple(channels[i : i + _COLUMNS]) for i in range(0, len(channels), _COLUMNS)]


def _draw_camera_tile(
    image: np.ndarray,
    lidar2img: np.ndarray,
    points: np.ndarray,
    boxes: DrawnBoxes,
    with_points: bool,
) -> np.ndarray:
    """Draw on an image that is resized first, so that lines have the same width on all images."""
    scale = _TILE_WIDTH / image.shape[1]
    size = (_TILE_WIDTH, round(image.shape[0] * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    tile = cv2.resize(image, size, interpolation=interpolation)
    scaled = np.diag([scale, scale, 1.0, 1.0]) @ lidar2img
    if with_points:
        tile = draw_points_on_image(tile, points, scaled)
    return draw_boxes_on_image(tile, boxes.boxes, scaled, boxes.colours(), boxes.scores)


def _legend_handles(ground_truth: DrawnBoxes | None, predictions: DrawnBoxes | None) -> list:
    counted = ground_truth if predictions is None else predictions
    handles: list = []
    for name in dict.fromkeys([*CLASS_COLOURS, *counted.class_names]):
        count = counted.class_names.count(name)
        face = tuple(value / 255 for value in class_colour(name))
        label = f'{name.replace("_", " ")} ({count})'
        handles.append(Patch(facecolor=(*face, 0.35), edgecolor=face, label=label))
    if ground_truth is not None and predictions is not None:
        handles.append(
            Line2D([], [], color=GROUND_TRUTH_COLOUR, linestyle=(0, (3, 2)), label='ground truth')
        )
    return handles


def write_picture(picture: np.ndarray, out_file: str | os.PathLike) -> None:
    """Write an RGB picture as PNG, atomically.

    Args:
        picture: (H, W, 3) uint8 RGB.
        out_file: The PNG file; missing folders are created.

    Raises:
        CibaError: The file cannot be written.
    """
    _, encoded = cv2.imencode('.png', np.ascontiguousarray(picture[..., ::-1]))
    write_file(out_file, encoded.tobytes())
