"""Draw boxes and points on camera images and in bird's-eye view, with NumPy arrays."""

from .bird_eye_view import DrawnBoxes, draw_bird_eye_view
from .box_projection import box_corners, project_points, project_segments
from .class_colours import CLASS_COLOURS, class_colour
from .image_drawing import draw_boxes_on_image, draw_points_on_image
from .nuscenes_sample import draw_nuscenes_sample
from .sample_picture import compose_sample_picture, write_picture

__all__ = [
    'CLASS_COLOURS',
    'DrawnBoxes',
    'box_corners',
    'class_colour',
    'compose_sample_picture',
    'draw_bird_eye_view',
    'draw_boxes_on_image',
    'draw_nuscenes_sample',
    'draw_points_on_image',
    'project_points',
    'project_segments',
    'write_picture',
]
